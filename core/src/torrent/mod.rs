//! One torrent: what is here, what to fetch, whom to serve.
//!
//! ```text
//!            start            files found          checked             finished
//!   paused --------> opening -------------> checking ------> running ----------> running
//!      ^                |                       |               |  (downloading)   (seeding)
//!      |                v                       v               v
//!      +---- stopping <-+-----------------------+---------------+
//!      |                v
//!      +----------- failed   (storage; resumable)
//! ```
//!
//! [`picker`] and [`choker`] are pure policies; [`resume`] is the saved state. `transfer` is what
//! messages mean, `content` is where a received block goes, `check` is what becomes of files that
//! were there, `serve` is how blocks leave. All of them are handed the streams and the context
//! ([`Cx`]) by the session, and push what the driver is to do into it.

mod blame;
mod check;
pub mod choker;
mod content;
pub(crate) mod known;
pub mod picker;
pub mod resume;
mod serve;
mod slots;
mod snapshot;
mod suggest;
mod transfer;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use self::blame::{Blame, Finding};
use self::check::Check;
use self::choker::{ROUND, RoundRobin, TitForTat};
pub(crate) use self::content::Hashed;
use self::content::{Content, Settled};
use self::known::Known;
pub(crate) use self::known::Origin;
use self::picker::Picker;
use self::resume::{Resume, resume_name};
use self::slots::Chokers;
use self::suggest::Suggestions;
use crate::bitfield::Bitfield;
use crate::hash::Digest;
use crate::ids::{InfoHash, PieceIndex, StreamId, TimerId, TorrentId};
use crate::machine::{Allocation, FileOp, FileStat, Job, JobError, Location, OpenFiles, Shutdown};
use crate::metainfo::Metainfo;
use crate::peer::{CloseReason, LocalReason, Peer, Refusal};
use crate::rate::Rate;
use crate::session::cx::{Cx, JobOwner, TimerKey};
use crate::session::streams::Streams;
use crate::session::{AddTorrent, Event, RemoveFiles};
use crate::time::{Duration, Instant};
use crate::tracker::tiers::{AnnounceList, Policy as AnnouncePolicy};
use crate::tracker::url::TrackerUrl;

/// Resume data is saved when this much was verified since the last time ...
pub const SAVE_EVERY_BYTES: u64 = 128 * 1024 * 1024;

/// ... or anything was, this long ago.
pub const SAVE_EVERY: Duration = Duration::from_secs(30);

/// How soon blocks that became free are offered to other peers.
const REFILL_AFTER: Duration = Duration::from_millis(20);

/// How often peers that may fetch more are asked again at the latest.
const REFILL_EVERY: Duration = Duration::from_secs(1);

/// How long between two looks for peers to connect to while some are wanted.
const CONNECT_EVERY: Duration = Duration::from_millis(100);

/// Connections opened at one look.
const CONNECTS_PER_LOOK: usize = 5;

#[derive(Debug)]
pub(crate) struct Torrent {
    pub(crate) id: TorrentId,
    pub(crate) hash: InfoHash,
    pub(crate) metainfo: Arc<Metainfo>,
    pub(crate) trackers: AnnounceList,
    pub(crate) peers: Vec<StreamId>,
    pub(crate) known: Known,
    pub(crate) picker: Picker,
    pub(crate) phase: Phase,
    /// What happens once it has stopped.
    pub(crate) after_stop: AfterStop,
    /// It is to start as soon as it may: it has stopped, and the session is not paused.
    pub(crate) again: bool,
    folder: Location,
    state: Option<Location>,
    allocation: Allocation,
    seed_only: bool,
    /// The session's filter of addresses counts for its peers.
    pub(crate) filtered: bool,
    resume: Option<Resume>,
    content: Content,
    blame: Blame,
    chokers: Chokers,
    suggestions: Suggestions,
    timer: TimerId,
    rounds: Rounds,
    /// Verified since resume data was last saved, in bytes.
    unsaved: u64,
    saving: Saving,
    /// What is on disk was checked in this run: only then is there anything to claim.
    checked: bool,
    /// Its files were deleted, or could not be.
    deleted: bool,
    finished: bool,
    told_finished: bool,
    downloaded: u64,
    uploaded: u64,
    downloaded_before: u64,
    uploaded_before: u64,
    down: Rate,
    up: Rate,
    /// A peer could have been asked for more if there had been memory.
    starved: bool,
    /// Reused between picks.
    picked: Vec<picker::BlockId>,
}

/// What it is doing; see the diagram above.
#[derive(Debug)]
pub(crate) enum Phase {
    Paused,
    Opening,
    Checking(Check),
    Running,
    Stopping(Stopping),
    Failed(JobError),
}

/// What a stop waits for, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopping {
    /// Writes and hashes under way.
    Content,
    /// Resume data.
    Save,
    /// Files that are to be deleted.
    Delete,
    /// Files.
    Close,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AfterStop {
    Pause,
    Remove(RemoveFiles),
    Fail(JobError),
}

/// When what is due.
#[derive(Clone, Copy, Debug)]
struct Rounds {
    choke: Instant,
    /// When the peers' rates for the choker began anew.
    judged: Instant,
    connect: Instant,
    refill: Instant,
    save: Instant,
}

/// How far the saving of resume data is.
#[derive(Debug)]
enum Saving {
    Idle,
    /// Being made durable: what will be claimed then.
    Flushing(Bitfield, Vec<picker::BlockId>),
    Writing,
}

/// What the session must do about a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Upward {
    Nothing,
    /// It has stopped: told, saved, closed.
    Stopped,
}

impl Torrent {
    pub(crate) fn new(id: TorrentId, add: AddTorrent, resume: Option<Resume>, cx: &mut Cx) -> Self {
        let now = cx.now();
        let info = add.metainfo.0.info();
        let layout = info.layout();
        let pieces =
            picker::Layout::new(layout.piece_count(), layout.piece_len(), layout.space_len())
                .expect("a judged torrent has a sound layout");
        let parse = |url: &str| TrackerUrl::parse(url).ok();
        let mut tiers: Vec<Vec<TrackerUrl>> =
            add.trackers.iter().map(|url| parse(url).into_iter().collect()).collect();
        if add.own_trackers {
            let own = add.metainfo.0.trackers.iter();
            tiers.extend(own.map(|tier| tier.iter().filter_map(|url| parse(url)).collect()));
        }
        let policy = AnnouncePolicy {
            all_trackers: cx.config.announce_to_all_trackers,
            all_tiers: cx.config.announce_to_all_tiers,
            private: info.is_private(),
        };
        let stream = |label| cx.seed.stream(label, u64::from(id_number(id)));
        let mut known = Known::default();
        for peer in &add.peers {
            known.add(*peer, Origin::Embedder);
        }
        let hash = info.swarm_hash();
        let piece = u64::from(info.layout().piece_len());
        let turns = |rng| RoundRobin::growing(piece, RoundRobin::QUOTA_PIECES * piece, rng);
        Self {
            trackers: AnnounceList::new(now, policy, tiers, stream("announce")),
            peers: Vec::new(),
            known,
            picker: Picker::new(pieces, stream("picker")),
            phase: Phase::Paused,
            after_stop: AfterStop::Pause,
            again: false,
            folder: add.folder,
            state: add.state,
            allocation: add.allocation,
            seed_only: add.seed_only,
            filtered: add.filtered,
            content: Content::default(),
            blame: Blame::default(),
            chokers: Chokers {
                leeching: Box::new(TitForTat::new(stream("choker"))),
                seeding: Box::new(turns(stream("seeding choker"))),
            },
            suggestions: Suggestions::new(stream("suggest").below(layout.piece_count().max(1))),
            timer: cx.timers.insert(TimerKey::Torrent(id)),
            rounds: Rounds {
                choke: now + ROUND,
                judged: now,
                connect: now,
                refill: now + REFILL_EVERY,
                save: now + SAVE_EVERY,
            },
            unsaved: 0,
            saving: Saving::Idle,
            checked: false,
            deleted: false,
            finished: false,
            told_finished: false,
            downloaded_before: resume.as_ref().map_or(0, |resume| resume.downloaded),
            uploaded_before: resume.as_ref().map_or(0, |resume| resume.uploaded),
            downloaded: resume.as_ref().map_or(0, |resume| resume.downloaded),
            uploaded: resume.as_ref().map_or(0, |resume| resume.uploaded),
            down: Rate::new(now),
            up: Rate::new(now),
            starved: false,
            picked: Vec::new(),
            metainfo: add.metainfo.0,
            hash,
            id,
            resume,
        }
    }

    // Life.

    /// Starts a torrent that is paused or failed.
    pub(crate) fn start(&mut self, cx: &mut Cx) {
        if !matches!(self.phase, Phase::Paused | Phase::Failed(_)) {
            return;
        }
        self.phase = Phase::Opening;
        self.after_stop = AfterStop::Pause;
        self.again = false;
        self.checked = false;
        self.open(cx);
    }

    fn open(&self, cx: &mut Cx) {
        let open = OpenFiles {
            layout: self.metainfo.info().layout().clone(),
            folder: self.folder.clone(),
            key: format!("{}", self.hash).into(),
            allocation: self.allocation,
            writable: !self.seed_only,
            wanted: Box::default(),
        };
        self.files(FileOp::Open(open.into()), JobOwner::Open { torrent: self.id }, cx);
    }

    /// Stops, whatever it is doing; afterwards does what `then` says.
    pub(crate) fn stop(&mut self, then: AfterStop, streams: &mut Streams, cx: &mut Cx) -> Upward {
        // Whoever asks for a pause is told of a failure, and nothing undoes a removal.
        let keep = matches!(
            (&self.after_stop, &then),
            (AfterStop::Remove(RemoveFiles::Delete), _)
                | (AfterStop::Remove(_), AfterStop::Pause | AfterStop::Fail(_))
                | (AfterStop::Fail(_), AfterStop::Pause)
        );
        if !keep {
            self.after_stop = then;
        }
        match self.phase {
            Phase::Stopping(_) => return Upward::Nothing,
            Phase::Paused | Phase::Failed(_) => {
                if self.after_stop != AfterStop::Remove(RemoveFiles::Delete) {
                    return Upward::Stopped;
                }
                // Only open files can be deleted.
                self.phase = Phase::Stopping(Stopping::Content);
                self.open(cx);
                return Upward::Nothing;
            }
            // The files are open, or will be: the answer to that goes on from here.
            Phase::Opening => {
                self.phase = Phase::Stopping(Stopping::Content);
                return Upward::Nothing;
            }
            Phase::Checking(_) | Phase::Running => {}
        }
        self.phase = Phase::Stopping(Stopping::Content);
        self.trackers.stop(cx.now());
        while let Some(&peer) = self.peers.last() {
            self.close_peer(peer, LocalReason::TorrentStopped.into(), streams, cx);
            // A connection that is gone already leaves its place here.
            if self.peers.last() == Some(&peer) {
                self.peers.pop();
            }
        }
        self.content.release(self.id, self.picker.layout(), cx);
        self.arm(cx);
        self.advance_stop(cx)
    }

    fn advance_stop(&mut self, cx: &mut Cx) -> Upward {
        let Phase::Stopping(stopping) = &mut self.phase else { return Upward::Nothing };
        match stopping {
            Stopping::Content => {
                if self.content.is_busy() || self.blame.is_busy() {
                    return Upward::Nothing;
                }
                *stopping = Stopping::Save;
                // A save under way claims less than there is now; the next one follows it.
                if matches!(self.saving, Saving::Idle) {
                    self.save(cx);
                }
                self.after_save(cx);
            }
            Stopping::Save => self.after_save(cx),
            Stopping::Close | Stopping::Delete => {}
        }
        Upward::Nothing
    }

    fn after_save(&mut self, cx: &mut Cx) {
        if !matches!(self.saving, Saving::Idle) {
            return;
        }
        let unsaved = self.checked && self.unsaved > 0 && self.state.is_some();
        if unsaved && self.after_stop == AfterStop::Pause {
            self.save(cx);
        } else if self.after_stop == AfterStop::Remove(RemoveFiles::Delete) && !self.deleted {
            self.phase = Phase::Stopping(Stopping::Delete);
            self.files(FileOp::Delete, JobOwner::Delete { torrent: self.id }, cx);
        } else {
            self.phase = Phase::Stopping(Stopping::Close);
            self.files(FileOp::Close, JobOwner::Close { torrent: self.id }, cx);
        }
    }

    /// The files are deleted, or could not be.
    pub(crate) fn on_deleted(&mut self, cx: &mut Cx) -> Upward {
        self.deleted = true;
        self.phase = Phase::Stopping(Stopping::Close);
        self.files(FileOp::Close, JobOwner::Close { torrent: self.id }, cx);
        Upward::Nothing
    }

    /// The files are closed.
    pub(crate) fn on_closed(&mut self, cx: &mut Cx) -> Upward {
        self.content.clear(cx);
        if self.after_stop == AfterStop::Remove(RemoveFiles::Delete) && !self.deleted {
            // That was asked for while the files were being closed: only open ones can be deleted.
            self.phase = Phase::Stopping(Stopping::Content);
            self.open(cx);
            return Upward::Nothing;
        }
        match core::mem::replace(&mut self.after_stop, AfterStop::Pause) {
            AfterStop::Fail(error) => {
                // Somebody has to see to it first.
                self.again = false;
                cx.event(Event::TorrentFailed(self.id, error.clone()));
                self.phase = Phase::Failed(error);
            }
            AfterStop::Pause => {
                cx.event(Event::TorrentPaused(self.id));
                self.phase = Phase::Paused;
            }
            after @ AfterStop::Remove(_) => {
                self.phase = Phase::Paused;
                self.after_stop = after;
            }
        }
        Upward::Stopped
    }

    /// Storage failed: nothing more is fetched or served until somebody asks for it.
    pub(crate) fn fail(&mut self, error: JobError, streams: &mut Streams, cx: &mut Cx) -> Upward {
        if matches!(self.phase, Phase::Stopping(_)) {
            if self.after_stop == AfterStop::Pause {
                self.after_stop = AfterStop::Fail(error);
            }
            return self.advance_stop(cx);
        }
        self.stop(AfterStop::Fail(error), streams, cx)
    }

    /// Every check is done.
    pub(crate) fn run(&mut self, cx: &mut Cx) {
        self.phase = Phase::Running;
        let now = cx.now();
        self.rounds.choke = now + ROUND;
        self.rounds.refill = now + REFILL_EVERY;
        self.rounds.connect = now;
        self.rounds.save = now + SAVE_EVERY;
        self.checked = true;
        self.finished = self.picker.is_finished();
        self.trackers.start(now);
        cx.event(Event::TorrentReady(self.id));
        if self.finished {
            self.tell_finished(cx);
        }
        self.unsaved += 1;
        self.save(cx);
        self.arm(cx);
    }

    /// Its timer and whatever hangs on it.
    pub(crate) fn on_timer(&mut self, streams: &mut Streams, cx: &mut Cx) {
        let now = cx.now();
        if matches!(self.phase, Phase::Running) {
            if now >= self.rounds.choke {
                self.rounds.choke = now + ROUND;
                self.choke_round(streams, cx);
                self.end_rate_window(streams, now);
            }
            if now >= self.rounds.refill {
                self.refill(streams, cx);
            }
            if now >= self.rounds.connect {
                self.connect(streams, cx);
            }
            if now >= self.rounds.save && self.unsaved > 0 {
                self.save(cx);
            }
        }
        self.arm(cx);
    }

    /// Sets the timer to the next thing due.
    pub(crate) fn arm(&self, cx: &mut Cx) {
        let now = cx.now();
        let announce = self.trackers.next_deadline();
        let mut due = announce;
        let mut at = |instant: Instant| due = Some(due.map_or(instant, |due| due.min(instant)));
        if matches!(self.phase, Phase::Running) {
            if !self.peers.is_empty() {
                at(self.rounds.choke);
                at(self.rounds.refill);
            }
            if self.wants_peers(cx)
                && let Some(next) = self.known.next_at(now)
            {
                at(self.rounds.connect.max(next));
            }
            if self.unsaved > 0 {
                at(self.rounds.save);
            }
        }
        cx.timers.set(self.timer, now, due);
    }

    // Connections.

    fn wants_peers(&self, cx: &Cx) -> bool {
        matches!(self.phase, Phase::Running) && self.peers.len() < cx.config.torrent_peers_max
    }

    /// Whether more addresses are of use: what a tracker is asked for.
    pub(crate) fn wants_addresses(&self, cx: &Cx) -> bool {
        self.wants_peers(cx) && !self.known.has_candidates()
    }

    fn connect(&mut self, streams: &mut Streams, cx: &mut Cx) {
        let now = cx.now();
        self.rounds.connect = now + CONNECT_EVERY;
        for _ in 0..CONNECTS_PER_LOOK {
            let room = streams.peer_count() < cx.config.peers_max
                && streams.connecting_count() < cx.config.half_open_max;
            if !room || !self.wants_peers(cx) {
                return;
            }
            let Some(address) = self.known.next(now) else { return };
            let useless = cx.own_addresses.contains(&address)
                || !cx.config.reaches(address.ip())
                || self.is_blocked(address.ip(), cx);
            if useless {
                self.known.forget(address);
                continue;
            }
            let stream = streams.open_peer(Peer::new(now, address, Some(self.id)), cx);
            self.attach(stream, streams);
            let from = cx.config.bind_for(address.ip());
            let connect = crate::machine::Connect { stream, to: address, from, tls: None };
            cx.out.push(crate::machine::Output::Connect(connect.into()));
        }
    }

    /// Whether the session's filter keeps peers there away from this torrent.
    pub(crate) fn is_blocked(&self, address: IpAddr, cx: &Cx) -> bool {
        self.filtered && cx.filter.blocks(address)
    }

    /// New addresses are there to be tried.
    pub(crate) fn add_addresses(
        &mut self,
        addresses: impl IntoIterator<Item = core::net::SocketAddr>,
        from: Origin,
        cx: &mut Cx,
    ) -> usize {
        let new = addresses.into_iter().filter(|address| self.known.add(*address, from)).count();
        self.arm(cx);
        new
    }

    /// Asks these trackers from now on.
    pub(crate) fn replace_trackers(&mut self, tiers: &[Vec<String>], cx: &mut Cx) {
        let parse = |url: &String| TrackerUrl::parse(url).ok();
        let tiers = tiers.iter().map(|tier| tier.iter().filter_map(parse).collect::<Vec<_>>());
        self.trackers.replace(cx.now(), tiers);
        self.arm(cx);
    }

    /// Counts a connection as this torrent's.
    pub(crate) fn attach(&mut self, stream: StreamId, streams: &mut Streams) {
        if let Some(peer) = streams.peer_mut(stream) {
            peer.torrent = Some(self.id);
            peer.place = self.peers.len() as u32;
            self.peers.push(stream);
        }
    }

    /// Closes a connection of this torrent's.
    pub(crate) fn close_peer(
        &mut self,
        id: StreamId,
        reason: CloseReason,
        streams: &mut Streams,
        cx: &mut Cx,
    ) {
        let how = match reason {
            CloseReason::Misbehaved(_) | CloseReason::Io(_) => Shutdown::Abort,
            _ => Shutdown::Graceful,
        };
        self.detach(id, reason, streams, cx);
        streams.close(id, how, cx);
    }

    /// A connection of this torrent's is gone, or about to be: takes back what it was asked for.
    pub(crate) fn detach(
        &mut self,
        id: StreamId,
        reason: CloseReason,
        streams: &mut Streams,
        cx: &mut Cx,
    ) {
        let Some(peer) = streams.peer_mut(id) else { return };
        let (address, place, outgoing, open) =
            (peer.address, peer.place as usize, peer.outgoing, peer.is_open());
        if peer.told_have {
            self.picker.remove_peer(peer.have.pieces());
            peer.told_have = false;
        }
        if let Some(pipeline) = &mut peer.pipeline {
            for block in pipeline.drain() {
                cx.memory.unrequest(self.picker.layout().block_len(block));
            }
            self.picker.forget_peer(id);
            self.rounds.refill = self.rounds.refill.min(cx.now() + REFILL_AFTER);
        }
        let freed_slot = !peer.we_choke;
        self.suggestions.forget(id);
        if self.peers.get(place) == Some(&id) {
            self.peers.swap_remove(place);
            if let Some(moved) = self.peers.get(place).and_then(|id| streams.peer_mut(*id)) {
                moved.place = place as u32;
            }
        }
        if reason.is_misbehaviour() {
            cx.stats.peers_misbehaved += 1;
        }
        if outgoing {
            match reason {
                CloseReason::Misbehaved(_)
                | CloseReason::Refused(
                    Refusal::SelfConnection | Refusal::UnknownTorrent | Refusal::BothComplete,
                ) => {
                    self.known.forget(address);
                }
                // That was us: whoever starts the torrent again wants its peers at once.
                CloseReason::Local(LocalReason::TorrentStopped) => self.known.put_back(address),
                _ if open => self.known.ended(address, cx.now()),
                _ => self.known.failed(address, cx.now()),
            }
        }
        if freed_slot && matches!(self.phase, Phase::Running) {
            self.rounds.choke = self.rounds.choke.min(cx.now() + REFILL_AFTER);
        }
        cx.event(Event::PeerClosed { torrent: Some(self.id), address, reason });
        self.arm(cx);
    }

    fn ban(&mut self, ip: IpAddr, streams: &mut Streams, cx: &mut Cx) {
        if self.known.ban(ip) {
            cx.stats.peers_banned += 1;
            cx.event(Event::PeerBanned(self.id, ip));
        }
        let theirs: Vec<StreamId> = self
            .peers
            .iter()
            .copied()
            .filter(|id| streams.peer(*id).is_some_and(|peer| peer.address.ip() == ip))
            .collect();
        for id in theirs {
            let reason = CloseReason::Misbehaved(crate::peer::Misbehaviour::CorruptData);
            self.close_peer(id, reason, streams, cx);
        }
    }

    // Pieces.

    /// Something became of a piece that was on its way to the disk.
    fn on_settled(&mut self, settled: Settled, streams: &mut Streams, cx: &mut Cx) {
        match settled {
            Settled::Lost(piece) => {
                self.content.forget(piece, cx);
                self.picker.set_missing(piece);
            }
            Settled::Hashed(piece, digest) if self.is_right(piece, &digest) => {
                self.on_verified(piece, streams, cx);
            }
            Settled::Hashed(piece, _) => self.on_wrong(piece, streams, cx),
        }
    }

    fn is_right(&self, piece: PieceIndex, digest: &Digest) -> bool {
        let wanted = self.metainfo.info().piece_hash(piece);
        wanted.is_some_and(|wanted| wanted[..] == *digest.as_bytes())
    }

    fn on_verified(&mut self, piece: PieceIndex, streams: &mut Streams, cx: &mut Cx) {
        if !self.picker.piece_verified(piece) {
            return;
        }
        self.content.forget(piece, cx);
        let len = self.picker.layout().piece_len(piece);
        self.unsaved += u64::from(len);
        cx.event(Event::PieceVerified(self.id, piece));
        let files = self.files_finished_with(piece);
        if !files.is_empty() {
            cx.event(Event::FilesFinished(self.id, files));
        }
        let blocks = self.picker.layout().blocks(piece);
        let finding = self.blame.right(piece, blocks);
        self.on_finding(piece, finding, streams, cx);
        if matches!(self.phase, Phase::Running) {
            self.announce_have(piece, streams, cx);
            if !self.finished && self.picker.is_finished() {
                self.on_finished(streams, cx);
            }
            if self.unsaved >= SAVE_EVERY_BYTES {
                self.save(cx);
            }
            self.arm(cx);
        }
    }

    /// The files that this piece was the last one of.
    fn files_finished_with(&self, piece: PieceIndex) -> Vec<usize> {
        let layout = self.metainfo.info().layout();
        let finished = layout.map_piece(piece).filter(|slice| {
            let file = layout.file(slice.file).expect("a mapped file exists");
            // From this piece on and round: the next one that is missing is mostly near.
            let pieces = file.pieces();
            let mut others = (piece.0 + 1..pieces.end).chain(pieces.start..piece.0);
            slice.len > 0
                && !file.is_pad()
                && others.all(|other| self.picker.has(PieceIndex(other)))
        });
        finished.map(|slice| slice.file).collect()
    }

    fn on_finished(&mut self, streams: &mut Streams, cx: &mut Cx) {
        self.finished = true;
        self.trackers.complete(cx.now());
        self.tell_finished(cx);
        self.save(cx);
        let seeds: Vec<StreamId> = self
            .peers
            .iter()
            .copied()
            .filter(|id| streams.peer(*id).is_some_and(|peer| peer.have.is_seed()))
            .collect();
        for id in seeds {
            self.close_peer(id, Refusal::BothComplete.into(), streams, cx);
        }
        self.arm(cx);
    }

    fn tell_finished(&mut self, cx: &mut Cx) {
        if !self.told_finished {
            self.told_finished = true;
            cx.event(Event::TorrentFinished(self.id));
        }
    }

    fn on_wrong(&mut self, piece: PieceIndex, streams: &mut Streams, cx: &mut Cx) {
        cx.stats.corrupt_bytes += u64::from(self.picker.layout().piece_len(piece));
        cx.event(Event::PieceFailed(self.id, piece));
        let senders = self.content.senders(piece);
        let finding = self.blame.wrong(piece, &senders);
        let again = !matches!(finding, Finding::HashBlocks(_));
        self.on_finding(piece, finding, streams, cx);
        if again {
            self.fetch_again(piece, cx);
        }
    }

    fn fetch_again(&mut self, piece: PieceIndex, cx: &mut Cx) {
        self.content.forget(piece, cx);
        self.picker.piece_failed(piece);
        self.rounds.refill = self.rounds.refill.min(cx.now() + REFILL_AFTER);
        self.arm(cx);
    }

    /// A block's hash, taken to find who sent wrong bytes, came in.
    pub(crate) fn on_blame_hash(
        &mut self,
        piece: PieceIndex,
        block: u32,
        digest: Option<Digest>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Upward {
        let was_right = self.blame.was_right(piece);
        let finding = self.blame.hashed(piece, block, digest);
        let done = finding != Finding::Nothing;
        self.on_finding(piece, finding, streams, cx);
        if done && !was_right {
            self.fetch_again(piece, cx);
        }
        self.advance_stop(cx)
    }

    fn on_finding(
        &mut self,
        piece: PieceIndex,
        finding: Finding,
        streams: &mut Streams,
        cx: &mut Cx,
    ) {
        match finding {
            Finding::Nothing | Finding::FetchAgain => {}
            Finding::Convicted(culprits) => {
                for ip in culprits {
                    self.ban(ip, streams, cx);
                }
            }
            Finding::HashBlocks(blocks) => {
                for block in 0..blocks {
                    self.hash_block(piece, block, cx);
                }
            }
        }
    }

    /// Tells everybody that we have a piece, and those who had nothing else that we are not
    /// interested any more.
    fn announce_have(&self, piece: PieceIndex, streams: &mut Streams, cx: &mut Cx) {
        let message = crate::wire::Message::Have(piece);
        for at in 0..self.peers.len() {
            let id = self.peers[at];
            let Some(peer) = streams.peer(id) else { continue };
            if !peer.is_open() {
                continue;
            }
            let theirs = peer.have.pieces().contains(piece.0);
            let relied = peer.wanted_piece == Some(piece.0);
            // Whoever has everything serves by what others have: see `suggest`.
            if !theirs || peer.have.is_seed() {
                streams.send_message(id, &message, cx);
            }
            if relied {
                self.update_interest(id, streams, cx);
            }
        }
    }

    // Saving.

    /// Saves resume data, once what it claims is durable.
    pub(crate) fn save(&mut self, cx: &mut Cx) {
        self.rounds.save = cx.now() + SAVE_EVERY;
        // What is kept nowhere is still of use when a pause ends.
        let of_use = self.state.is_some() || matches!(self.phase, Phase::Stopping(_));
        if !self.checked || !of_use || !matches!(self.saving, Saving::Idle) {
            return;
        }
        self.unsaved = 0;
        let have = self.pieces_here();
        let partial = self
            .content
            .partial()
            .flat_map(|(piece, blocks)| {
                blocks.into_iter().map(move |block| picker::BlockId { piece, block })
            })
            .collect();
        self.saving = Saving::Flushing(have, partial);
        if self.seed_only {
            self.files(FileOp::Check, JobOwner::Flush { torrent: self.id }, cx);
        } else {
            self.files(FileOp::Flush, JobOwner::Flush { torrent: self.id }, cx);
        }
    }

    /// Files, as its layout counts them.
    pub(crate) fn file_count(&self) -> usize {
        self.metainfo.info().layout().file_count()
    }

    /// What is to be claimed is durable, in files of this size and age.
    pub(crate) fn on_flushed(
        &mut self,
        files: Result<Box<[Option<FileStat>]>, JobError>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Upward {
        let Saving::Flushing(have, partial) = core::mem::replace(&mut self.saving, Saving::Idle)
        else {
            return Upward::Nothing;
        };
        match files {
            Ok(files) => {
                let resume = Resume {
                    info_hash: self.hash,
                    have,
                    files: files.iter().map(|file| file.map(|f| (f.len, f.modified))).collect(),
                    partial,
                    downloaded: self.downloaded,
                    uploaded: self.uploaded,
                    completed: self.finished,
                };
                let data = resume.to_bytes().into();
                self.resume = Some(resume);
                let Some(location) = self.state.clone() else { return self.advance_stop(cx) };
                let name = resume_name(self.hash);
                self.saving = Saving::Writing;
                let job = Job::Save { location, name, data };
                cx.jobs.submit(JobOwner::Save { torrent: self.id }, job, &mut cx.out);
                Upward::Nothing
            }
            Err(error) => {
                // What the system failed to write once it does not try again: nothing that is not
                // checked anew may be claimed.
                self.checked = false;
                self.resume = None;
                if matches!(self.phase, Phase::Running) && !self.seed_only {
                    return self.fail(error, streams, cx);
                }
                cx.event(Event::SaveFailed(self.id, error));
                self.advance_stop(cx)
            }
        }
    }

    /// Resume data is saved, or not.
    pub(crate) fn on_saved(&mut self, result: Result<(), JobError>, cx: &mut Cx) -> Upward {
        self.saving = Saving::Idle;
        if let Err(error) = result {
            cx.event(Event::SaveFailed(self.id, error));
            self.unsaved += u64::from(self.is_running());
        }
        self.arm(cx);
        self.advance_stop(cx)
    }

    // Bits.

    pub(crate) fn forget(&self, cx: &mut Cx) {
        cx.timers.remove(self.timer);
    }

    fn files(&self, op: FileOp, owner: JobOwner, cx: &mut Cx) {
        cx.jobs.submit(owner, Job::Files { torrent: self.id, op }, &mut cx.out);
    }

    /// What we have, for a peer.
    pub(crate) fn is_complete(&self) -> bool {
        self.picker.have_count() == self.picker.layout().pieces()
    }

    /// Whether connections are welcome.
    pub(crate) const fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Bytes of blocks received since the session took it on: what trackers are told.
    pub(crate) const fn downloaded_in_run(&self) -> u64 {
        self.downloaded - self.downloaded_before
    }

    /// Bytes of blocks sent since the session took it on: what trackers are told.
    pub(crate) const fn uploaded_in_run(&self) -> u64 {
        self.uploaded - self.uploaded_before
    }

    /// A write is done, or failed.
    pub(crate) fn on_written(
        &mut self,
        first: picker::BlockId,
        blocks: u32,
        error: Option<JobError>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Upward {
        let layout = self.picker.layout();
        let done = error.is_none();
        let settled = self.content.on_written(self.id, layout, first, blocks, done, cx);
        self.after_content(settled, streams, cx);
        match error {
            Some(error) => self.fail(error, streams, cx),
            None => self.advance_stop(cx),
        }
    }

    /// A hash step of a piece on its way to the disk is done, or failed.
    pub(crate) fn on_hashed(
        &mut self,
        piece: PieceIndex,
        hashed: Result<Hashed, JobError>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Upward {
        let layout = self.picker.layout();
        let (hashed, error) = match hashed {
            Ok(hashed) => (Some(hashed), None),
            Err(error) => (None, Some(error)),
        };
        let settled = self.content.on_hashed(self.id, layout, piece, hashed, cx);
        self.after_content(settled, streams, cx);
        match error {
            Some(error) => self.fail(error, streams, cx),
            None => self.advance_stop(cx),
        }
    }

    fn after_content(&mut self, settled: Option<Settled>, streams: &mut Streams, cx: &mut Cx) {
        if let Some(settled) = settled {
            self.on_settled(settled, streams, cx);
        }
        // Memory may have become free: whoever waited for it asks again soon.
        if self.starved {
            self.starved = false;
            self.rounds.refill = self.rounds.refill.min(cx.now() + crate::timers::GRANULE);
            self.arm(cx);
        }
    }

    fn pieces_here(&self) -> Bitfield {
        let mut have = Bitfield::new(self.picker.layout().pieces());
        for piece in 0..have.len() {
            if self.picker.has(PieceIndex(piece)) {
                have.set(piece);
            }
        }
        have
    }
}

fn id_number(id: TorrentId) -> u32 {
    use crate::ids::Key;
    id.slot()
}
