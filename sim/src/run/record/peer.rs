//! What is noted of one honest client while a run goes on.

use std::collections::{BTreeMap, VecDeque};

use teem_core::ids::PieceIndex;
use teem_core::session::{Event, PeerSnapshot, TorrentSnapshot};
use teem_core::time::Duration;

use super::fetches;
use crate::net::{HostId, Net};
use crate::run::plan::HostPlan;
use crate::swarm::Node;
use crate::time::Nanos;

/// Without a new piece for so long, a client that fetches stands still.
pub(super) const STALL: Duration = Duration::from_secs(5);

/// Events of each client that are kept: its last ones.
const TAIL_MAX: usize = 16;

/// Stalls, troubles and restarts of each client that are kept, each.
const NOTES_MAX: usize = 32;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) host: HostId,
    pub(super) fetches: bool,
    pub(super) up: Option<u64>,
    pub(super) down: Option<u64>,
    pub(super) arrives: Nanos,
    pub(super) complete: Option<Nanos>,
    pub(super) left: Option<Nanos>,
    /// When it came up and went down.
    pub(super) ups: Vec<(Nanos, bool)>,
    pub(super) first_peer: Option<Nanos>,
    /// When it had each piece that it fetched, in the order in which they came.
    pub(super) pieces: Vec<(Nanos, u32)>,
    pub(super) stalls: Vec<Stall>,
    /// Pieces that failed, bans, troubles with the disk.
    pub(super) troubles: Vec<(Nanos, Event)>,
    /// What it told last.
    pub(super) tail: VecDeque<(Nanos, Event)>,
    /// What it has, a bit per piece, while it runs.
    have: Vec<u64>,
    have_pieces: u32,
    /// When it last had a new piece, or came.
    moved: Nanos,
}

/// A time in which a client stood still.
#[derive(Debug)]
pub(super) struct Stall {
    pub(super) from: Nanos,
    /// None: it goes on.
    pub(super) to: Option<Nanos>,
    /// What it waited for, and how often it was seen to.
    pub(super) waits: BTreeMap<String, u32>,
    pub(super) peers: (usize, usize),
    /// Peers that would have answered: the fewest and the most.
    pub(super) open: (usize, usize),
    /// Bytes that came meanwhile: those at its beginning and those seen last.
    pub(super) bytes: (u64, u64),
}

impl Watch {
    pub(super) fn new(host: HostId, planned: &HostPlan) -> Self {
        let least = |link: Option<u64>, own: Option<u64>| link.into_iter().chain(own).min();
        Self {
            host,
            fetches: fetches(planned),
            up: least(planned.access.up_bytes_per_s, planned.config.up_bytes_per_s),
            down: least(planned.access.down_bytes_per_s, planned.config.down_bytes_per_s),
            arrives: planned.arrives,
            complete: None,
            left: None,
            ups: Vec::new(),
            first_peer: None,
            pieces: Vec::new(),
            stalls: Vec::new(),
            troubles: Vec::new(),
            tail: VecDeque::new(),
            have: Vec::new(),
            have_pieces: 0,
            moved: planned.arrives,
        }
    }

    pub(super) const fn have_pieces(&self) -> u32 {
        self.have_pieces
    }

    /// It came, and is not complete; it may be down.
    pub(super) fn is_fetching(&self) -> bool {
        self.fetches && self.complete.is_none() && self.left.is_none() && !self.ups.is_empty()
    }

    pub(super) fn on_up(&mut self, now: Nanos) {
        self.moved = now;
        if self.ups.len() < NOTES_MAX {
            self.ups.push((now, true));
        }
    }

    pub(super) fn on_down(&mut self, now: Nanos, copies: &mut [u32]) {
        self.forget(copies);
        self.end_stall(now);
        if self.ups.len() < NOTES_MAX {
            self.ups.push((now, false));
        }
    }

    fn forget(&mut self, copies: &mut [u32]) {
        for (piece, copies) in copies.iter_mut().enumerate() {
            *copies -= u32::from(has(&self.have, piece));
        }
        self.have.clear();
    }

    fn add(&mut self, piece: usize, copies: &mut [u32]) -> bool {
        if has(&self.have, piece) || piece >= copies.len() {
            return false;
        }
        if self.have.len() <= piece / 64 {
            self.have.resize(piece / 64 + 1, 0);
        }
        self.have[piece / 64] |= 1 << (piece % 64);
        self.have_pieces += 1;
        copies[piece] += 1;
        true
    }

    pub(super) fn on_event(
        &mut self,
        now: Nanos,
        event: &Event,
        net: &Net<Node>,
        copies: &mut [u32],
    ) {
        match event {
            Event::TorrentReady(id) => {
                let session = net.machine(self.host).session();
                let pieces = session.and_then(|session| session.pieces(*id)).unwrap_or_default();
                self.forget(copies);
                self.have_pieces = 0;
                for piece in 0..copies.len() {
                    // The first piece is the highest bit (BEP 3).
                    let byte = pieces.get(piece / 8).copied().unwrap_or(0);
                    if byte >> (7 - piece % 8) & 1 == 1 {
                        self.add(piece, copies);
                    }
                }
            }
            Event::PieceVerified(_, PieceIndex(piece)) => {
                if self.add(*piece as usize, copies) {
                    self.pieces.push((now, *piece));
                }
                self.moved = now;
                self.end_stall(now);
            }
            Event::PeerConnected(..) => {
                self.first_peer.get_or_insert(now);
            }
            Event::PieceFailed(..)
            | Event::PeerBanned(..)
            | Event::TorrentFailed(..)
            | Event::DiskFull(..)
            | Event::SaveFailed(..)
            | Event::PieceUnreadable(..)
                if self.troubles.len() < NOTES_MAX =>
            {
                self.troubles.push((now, event.clone()));
            }
            _ => {}
        }
        if self.tail.len() >= TAIL_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back((now, event.clone()));
    }

    fn end_stall(&mut self, now: Nanos) {
        if let Some(stall) = self.stalls.last_mut()
            && stall.to.is_none()
        {
            stall.to = Some(now);
        }
    }

    /// It runs, is fetching, and this is how it is.
    pub(super) fn look(
        &mut self,
        at: Nanos,
        torrent: &TorrentSnapshot,
        peers: &[PeerSnapshot],
        received: u64,
    ) {
        if at.since(self.moved) < STALL {
            return;
        }
        let open = peers.iter().filter(|peer| !peer.choking_us && peer.interesting).count();
        let is_open = self.stalls.last().is_some_and(|stall| stall.to.is_none());
        if !is_open {
            if self.stalls.len() >= NOTES_MAX {
                return;
            }
            self.stalls.push(Stall {
                from: self.moved,
                to: None,
                waits: BTreeMap::new(),
                peers: (peers.len(), peers.len()),
                open: (open, open),
                bytes: (received, received),
            });
        }
        let Some(stall) = self.stalls.last_mut() else { return };
        let state = format!("{:?}", torrent.state);
        let wait = if state == "Downloading" { format!("{:?}", torrent.waits_for) } else { state };
        *stall.waits.entry(wait).or_default() += 1;
        stall.peers = (stall.peers.0.min(peers.len()), stall.peers.1.max(peers.len()));
        stall.open = (stall.open.0.min(open), stall.open.1.max(open));
        stall.bytes.1 = received;
    }
}

fn has(bits: &[u64], piece: usize) -> bool {
    bits.get(piece / 64).is_some_and(|word| word >> (piece % 64) & 1 == 1)
}
