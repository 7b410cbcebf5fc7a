//! What all attackers have in common: they dial whom they are told to, again and again, take in
//! who dials them, and count what they do.
//!
//! What makes one of them what it is, is its [`Behaviour`]: a small file for each. An attacker is
//! woken for two things only: a target that is to be dialled again, and the ticks of a behaviour
//! that asks for them.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use teem_core::bitfield::Bitfield;
use teem_core::ids::{PeerId, PieceIndex, StreamId};
use teem_core::machine::{Deadline, Incoming, Input, Machine, Output};
use teem_core::metainfo::Metainfo;
use teem_core::rng::{Rng, Seed};
use teem_core::time::{Duration, Instant};
use teem_core::wire::{BLOCK_LEN, BlockRequest, Handshake, Message, Reserved};

use super::kind::Kind;
use super::links::{Happened, Links};

/// Connections of an attacker at a time, both ways; more are refused.
pub const CONNECTIONS_MAX: usize = 1_024;

/// A target that was lost is dialled again after this time; a [`Kind::Reconnector`] does not wait.
pub const REDIAL_AFTER: Duration = Duration::from_secs(5);

/// An attacker that sends as much as it may keeps so many bytes ready for each connection.
pub(super) const BACKLOG: usize = 64 * 1024;

/// Bytes that wait for a stream at most: who asks without taking the answers, as other attackers do,
/// gets no more of them.
const UNSENT_MAX: usize = 4 * 1024 * 1024;

/// What an attacker is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// All that is random about it.
    pub seed: Seed,
    /// The torrent that it takes part in.
    pub metainfo: Arc<Metainfo>,
    /// The content: one that serves wrong blocks must know the right ones. May be empty for those
    /// that serve nothing.
    pub content: Bytes,
    /// Where it listens, if it does.
    pub listen: Option<SocketAddr>,
    /// Whom it dials.
    pub targets: Vec<SocketAddr>,
}

/// What an attacker did. Counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections asked for.
    pub dialled: u64,
    /// Connections that came up, either way.
    pub connected: u64,
    /// Handshakes that came back.
    pub shaken: u64,
    /// Connections that the others did not let come up, closed, or cut.
    pub dropped: u64,
    /// Messages received.
    pub received: u64,
    /// Bytes of blocks received.
    pub taken_bytes: u64,
    /// What it is there to do; see [`Kind`] for what counts.
    pub fired: u64,
}

/// A peer that means no good, of one [`Kind`]: dials its targets again and again, takes in who dials
/// it, and counts what it does.
#[derive(Debug)]
pub struct Attacker {
    kind: Kind,
    behaviour: Box<dyn Behaviour>,
    manners: Manners,
    links: Links<Side>,
    targets: Vec<Target>,
    /// When the next target is to be dialled.
    redial: Option<Instant>,
    tick: Option<Instant>,
    stage: Stage,
}

/// What an attacker keeps of each connection.
#[derive(Clone, Debug)]
pub(super) struct Side {
    target: Option<usize>,
    /// The other side's handshake came.
    pub(super) shaken: bool,
    /// The other side speaks the fast extension.
    pub(super) fast: bool,
    /// The other side serves us.
    pub(super) unchoked: bool,
    /// What the other side has.
    pub(super) have: Option<Bitfield>,
    /// Requests that were not answered yet.
    pub(super) outstanding: u32,
    /// How far a behaviour is, in units of its own.
    pub(super) step: u64,
    /// A draw that tells connections of the same attacker apart.
    pub(super) lot: u32,
}

#[derive(Debug)]
struct Target {
    address: SocketAddr,
    /// When to dial; none: it is being dialled or connected.
    due: Option<Instant>,
}

/// What a behaviour acts upon: everything but its connections.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) handshake: Handshake,
    metainfo: Arc<Metainfo>,
    content: Bytes,
    pub(super) rng: Rng,
    pub(super) counters: Counters,
}

/// How an attacker is, before it does anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manners {
    /// It shakes hands like anybody.
    pub(super) shakes: bool,
    /// How often it acts of its own accord while it is connected.
    pub(super) tick: Option<Duration>,
    /// How soon it dials again.
    pub(super) redial: Duration,
}

impl Manners {
    /// Shakes hands, acts only when spoken to, dials again after [`REDIAL_AFTER`].
    pub(super) const PLAIN: Self = Self { shakes: true, tick: None, redial: REDIAL_AFTER };
}

/// What makes an attacker what it is.
pub(super) trait Behaviour: Send + std::fmt::Debug {
    fn manners(&self) -> Manners {
        Manners::PLAIN
    }

    /// A connection is up; nobody has said anything.
    fn on_up(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        let _ = (id, cx);
    }

    /// The other side's handshake is here, and ours is on its way.
    fn on_shaken(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        let _ = (id, cx);
    }

    /// What is in [`Side`] is up to date already.
    fn on_message(&mut self, id: StreamId, message: &Message, cx: &mut Cx<'_>) {
        let _ = (id, message, cx);
    }

    /// There is room to send more.
    fn on_room(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        let _ = (id, cx);
    }

    /// Time to act, for each connection that is up.
    fn on_tick(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        let _ = (id, cx);
    }
}

/// What a behaviour may use.
pub(super) struct Cx<'a> {
    pub(super) links: &'a mut Links<Side>,
    pub(super) stage: &'a mut Stage,
}

impl Cx<'_> {
    pub(super) fn side(&mut self, id: StreamId) -> Option<&mut Side> {
        self.links.get_mut(id).map(|link| &mut link.state)
    }

    /// Sends a message, unless the other side does not take what was sent before.
    pub(super) fn send(&mut self, id: StreamId, message: &Message) {
        if self.links.unsent(id) < UNSENT_MAX {
            self.links.send(id, message);
        }
    }

    /// Says that we have everything, in the words that the other side knows.
    pub(super) fn claim_everything(&mut self, id: StreamId) {
        let fast = self.side(id).is_some_and(|side| side.fast);
        let full = || Message::Bitfield(Bitfield::full(self.stage.pieces()).to_wire().into());
        let claim = if fast { Message::HaveAll } else { full() };
        self.send(id, &claim);
    }

    /// Counts what the attacker is there to do.
    pub(super) fn fired(&mut self, times: u64) {
        self.stage.counters.fired += times;
    }
}

impl Stage {
    pub(super) fn pieces(&self) -> u32 {
        self.metainfo.info().layout().piece_count()
    }

    /// The right bytes of a block; none if there is no such block, or the content is not known.
    pub(super) fn block(&self, request: &BlockRequest) -> Option<Bytes> {
        let layout = self.metainfo.info().layout();
        let piece_len = u64::from(layout.piece_len());
        let from = u64::from(request.piece.0) * piece_len + u64::from(request.begin);
        let to = from + u64::from(request.length);
        let fits = request.piece.0 < layout.piece_count()
            && u64::from(request.begin) + u64::from(request.length) <= piece_len
            && to <= self.content.len() as u64;
        fits.then(|| self.content.slice(from as usize..to as usize))
    }

    /// Some block of a piece.
    pub(super) fn any_block_of(&mut self, piece: PieceIndex) -> BlockRequest {
        let size = self.metainfo.info().layout().piece_size(piece);
        let begin = self.rng.below(size.div_ceil(BLOCK_LEN)) * BLOCK_LEN;
        BlockRequest { piece, begin, length: BLOCK_LEN.min(size - begin) }
    }

    /// Some block.
    pub(super) fn any_block(&mut self) -> BlockRequest {
        let piece = PieceIndex(self.rng.below(self.pieces()));
        self.any_block_of(piece)
    }
}

impl Attacker {
    /// One that does its worst from the moment it has a host.
    pub(super) fn new(kind: Kind, behaviour: Box<dyn Behaviour>, setup: &Setup) -> Self {
        let manners = behaviour.manners();
        let mut rng = setup.seed.stream("attacker", 0);
        let mut peer_id = PeerId(*b"-XX6666-............");
        rng.fill(&mut peer_id.0[8..]);
        let handshake = Handshake {
            reserved: Reserved::NONE.with_fast().with_extension_protocol(),
            info_hash: setup.metainfo.info().swarm_hash(),
            peer_id,
        };
        let stage = Stage {
            handshake,
            metainfo: Arc::clone(&setup.metainfo),
            content: setup.content.clone(),
            rng,
            counters: Counters::default(),
        };
        let links = Links::new(setup.listen, manners.shakes.then_some(handshake), CONNECTIONS_MAX);
        let target =
            |address: &SocketAddr| Target { address: *address, due: Some(Instant::ORIGIN) };
        let targets: Vec<_> = setup.targets.iter().map(target).collect();
        let redial = (!targets.is_empty()).then_some(Instant::ORIGIN);
        Self { kind, behaviour, manners, links, targets, redial, tick: None, stage }
    }

    /// What it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// What it did.
    pub const fn counters(&self) -> Counters {
        self.stage.counters
    }

    /// Its connections now, those that are being dialled too.
    pub fn connections(&self) -> usize {
        self.links.ids().count()
    }

    fn side(&mut self, target: Option<usize>) -> Side {
        Side {
            target,
            shaken: false,
            fast: false,
            unchoked: false,
            have: None,
            outstanding: 0,
            step: 0,
            lot: self.stage.rng.next_u32(),
        }
    }

    /// Dials whom it is time to dial.
    fn dial(&mut self, now: Instant) {
        if self.redial.is_none_or(|at| at > now) {
            return;
        }
        for at in 0..self.targets.len() {
            if self.targets[at].due.is_none_or(|due| due > now) {
                continue;
            }
            let side = self.side(Some(at));
            let dialled = self.links.dial(self.targets[at].address, true, side).is_some();
            self.stage.counters.dialled += u64::from(dialled);
            self.targets[at].due = (!dialled).then(|| now + self.manners.redial.max(REDIAL_AFTER));
        }
        self.redial = self.targets.iter().filter_map(|target| target.due).min();
    }

    fn lost(&mut self, side: &Side, now: Instant) {
        let Some(target) = side.target else { return };
        let due = now + self.manners.redial;
        self.targets[target].due = Some(due);
        self.redial = Some(self.redial.map_or(due, |redial| redial.min(due)));
    }

    fn on_tick(&mut self, now: Instant) {
        let (Some(tick), Some(every)) = (self.tick, self.manners.tick) else { return };
        if tick > now {
            return;
        }
        let ids: Vec<_> = self.links.ids().collect();
        for id in ids {
            if self.links.get(id).is_some_and(|link| link.up) {
                let mut cx = Cx { links: &mut self.links, stage: &mut self.stage };
                self.behaviour.on_tick(id, &mut cx);
            }
        }
        self.tick = (!self.links.is_empty()).then(|| now + every);
    }

    /// Acts on what happened.
    fn act(&mut self) {
        let now = self.links.now();
        while let Some((id, happened)) = self.links.next() {
            match happened {
                Happened::Refused(side, _) | Happened::Down(side, Some(_)) => {
                    self.stage.counters.dropped += 1;
                    self.lost(&side, now);
                }
                Happened::Down(side, None) => {
                    self.lost(&side, now);
                }
                Happened::ReadClosed => {
                    self.stage.counters.dropped += 1;
                    if let Some(side) = self.links.abort(id) {
                        self.lost(&side, now);
                    }
                }
                Happened::Broken(_) | Happened::Raw(_) => {}
                Happened::Up { .. } => {
                    self.stage.counters.connected += 1;
                    if let (None, Some(every)) = (self.tick, self.manners.tick) {
                        self.tick = Some(now + every);
                    }
                    let mut cx = Cx { links: &mut self.links, stage: &mut self.stage };
                    self.behaviour.on_up(id, &mut cx);
                }
                Happened::Handshake(handshake) => {
                    self.stage.counters.shaken += 1;
                    let mut cx = Cx { links: &mut self.links, stage: &mut self.stage };
                    if let Some(side) = cx.side(id) {
                        side.shaken = true;
                        side.fast = handshake.reserved.fast();
                    }
                    self.behaviour.on_shaken(id, &mut cx);
                }
                Happened::Message(message) => {
                    self.note(id, &message);
                    let mut cx = Cx { links: &mut self.links, stage: &mut self.stage };
                    self.behaviour.on_message(id, &message, &mut cx);
                }
                Happened::Sent => {
                    let mut cx = Cx { links: &mut self.links, stage: &mut self.stage };
                    self.behaviour.on_room(id, &mut cx);
                }
            }
        }
    }

    /// Keeps what a message says of the other side.
    fn note(&mut self, id: StreamId, message: &Message) {
        let pieces = self.stage.pieces();
        let counters = &mut self.stage.counters;
        counters.received += 1;
        let Some(link) = self.links.get_mut(id) else { return };
        let side = &mut link.state;
        match message {
            Message::Choke => {
                side.unchoked = false;
                side.outstanding = 0;
            }
            Message::Unchoke => side.unchoked = true,
            Message::Have(piece) if piece.0 < pieces => {
                side.have.get_or_insert_with(|| Bitfield::new(pieces)).set(piece.0);
            }
            Message::Bitfield(bits) => side.have = Bitfield::from_wire(bits, pieces).ok(),
            Message::HaveAll => side.have = Some(Bitfield::full(pieces)),
            Message::Piece { block, .. } => {
                counters.taken_bytes += block.len() as u64;
                side.outstanding = side.outstanding.saturating_sub(1);
            }
            Message::Reject(_) => side.outstanding = side.outstanding.saturating_sub(1),
            _ => {}
        }
    }
}

impl Machine for Attacker {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.links.handle_input(now, input);
        let now = self.links.now();
        self.act();
        self.on_tick(now);
        self.act();
        self.dial(now);
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) -> Option<StreamId> {
        self.links.advance(now);
        let side = self.side(None);
        let id = self.links.accept(incoming, true, side)?;
        self.act();
        Some(id)
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.links.poll_output()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let redial = self.redial.map(|at| Deadline { at, reason: "redial" });
        let tick = self.tick.map(|at| Deadline { at, reason: "tick" });
        redial.into_iter().chain(tick).min_by_key(|deadline| deadline.at)
    }

    fn poll_send(&mut self, now: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        self.links.advance(now);
        self.links.poll_send(id, max, out)
    }

    fn recv_credit(&self, stream: StreamId) -> usize {
        self.links.recv_credit(stream)
    }
}
