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
//! A torrent whose `info` is not known runs without files, until peers have sent it: then it starts
//! anew ([`metadata`]) while its peers stay ([`kept`]).
//!
//! [`picker`] and [`choker`] are pure policies; [`resume`] is the saved state. `connections` is whom it
//! talks to, `transfer` is what messages mean, `content` is where a received block goes, `check` is what
//! becomes of files that were there, `serve` is how blocks leave, `stopping` is how it ends. All of them
//! are handed the streams and the context ([`Cx`]) by the session, and push what the driver is to do
//! into it.

mod blame;
mod check;
pub mod choker;
mod connections;
mod content;
mod end_game;
mod hashes;
mod kept;
pub(crate) mod known;
mod limits;
pub(crate) mod metadata;
pub mod picker;
mod pieces;
pub mod resume;
mod room;
mod saving;
mod selection;
mod serve;
pub mod share;
mod slots;
mod snapshot;
mod stopping;
mod suggest;
mod transfer;
mod trees;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use smallvec::SmallVec;

use self::blame::Blame;
use self::check::Check;
use self::choker::{ROUND, RoundRobin, TitForTat};
use self::content::Content;
pub(crate) use self::content::Hashed;
use self::known::Known;
pub(crate) use self::known::Origin;
use self::metadata::Fetch;
use self::picker::Picker;
use self::resume::Resume;
use self::room::Room;
use self::saving::Saving;
use self::selection::Wishes;
pub(crate) use self::share::ShareLimit;
use self::share::ShareLimits;
use self::slots::Chokers;
pub(crate) use self::stopping::{AfterStop, Stopping};
use self::suggest::Suggestions;
use self::trees::Trees;
use crate::bitfield::Bitfield;
use crate::ids::{InfoHash, StreamId, TimerId, TorrentId};
use crate::machine::{Allocation, FileOp, Job, JobError, Location, OpenFiles};
use crate::metainfo::{Info, Metainfo};
use crate::rate::Rate;
use crate::rng::Rng;
use crate::session::cx::{Cx, JobOwner, TimerKey};
use crate::session::gate::Gate;
use crate::session::streams::Streams;
use crate::session::{AddTorrent, Event};
use crate::time::{Duration, Instant};
use crate::tracker::tiers::Policy as AnnouncePolicy;
use crate::tracker::url::TrackerUrl;
use crate::tracker::ways::{Family, Way, Ways};
use crate::wire::BLOCK_LEN;

/// Resume data is saved when this much was verified since the last time ...
pub const SAVE_EVERY_BYTES: u64 = 128 * 1024 * 1024;

/// ... or anything was, this long ago.
pub const SAVE_EVERY: Duration = Duration::from_secs(30);

/// How soon blocks that became free are offered to other peers.
const REFILL_AFTER: Duration = Duration::from_millis(20);

/// How often peers that may fetch more are asked again at the latest.
const REFILL_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Torrent {
    pub(crate) id: TorrentId,
    pub(crate) hash: InfoHash,
    pub(crate) metainfo: Arc<Metainfo>,
    pub(crate) trackers: Ways,
    /// Those that are [active](crate::peer::Peer::is_active) come first: others cost nothing until they do
    /// something.
    pub(crate) peers: Vec<StreamId>,
    /// How many of them are active.
    active: usize,
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
    /// Of a torrent whose `info` is not known yet.
    fetch: Option<Box<Fetch>>,
    /// Of a torrent that has a v2 half.
    trees: Option<Box<Trees>>,
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
    /// Which files are to be there; empty: all.
    wanted_files: Box<[bool]>,
    /// Bytes in wanted pieces, here or not.
    wanted_bytes: u64,
    share: ShareLimits,
    /// Since when it has all that is wanted and serves.
    seeding_since: Option<Instant>,
    /// How long it did so before.
    seeded_before: Duration,
    /// Limits of its own, if it has any.
    gate: Option<Box<Gate>>,
    downloaded: u64,
    uploaded: u64,
    downloaded_before: u64,
    uploaded_before: u64,
    down: Rate,
    up: Rate,
    room: Room,
    /// Pieces that could not be read for somebody since it was started; none: all could.
    unreadable: Option<Box<Bitfield>>,
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

/// What the session must do about a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Upward {
    Nothing,
    /// It has stopped: told, saved, closed.
    Stopped,
    /// It served others as much as it was to: it is to be paused.
    SharedEnough(ShareLimit),
}

impl Torrent {
    pub(crate) fn new(id: TorrentId, add: AddTorrent, cx: &mut Cx) -> Self {
        let now = cx.now();
        let metainfo = add.metainfo.0;
        let info = metainfo.info();
        let parse = |url: &str| TrackerUrl::parse(url).ok();
        let mut tiers: Vec<Vec<TrackerUrl>> =
            add.trackers.iter().map(|url| parse(url).into_iter().collect()).collect();
        if add.own_trackers {
            let own = metainfo.trackers.iter();
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
        let gate = (!add.limits.is_none()).then(|| Box::new(Gate::new(now, add.limits)));
        let wishes = Wishes { first: add.priorities, others: add.other_files };
        let unknown =
            (!info.is_known()).then(|| Box::new(Fetch::new(add.resume.clone(), wishes.clone())));
        let mut torrent = Self {
            trackers: Ways::new(now, policy, tiers, ways_of(info, cx)[0], stream("announce")),
            peers: Vec::new(),
            active: 0,
            known,
            picker: Picker::new(placeholder(), stream("picker")),
            phase: Phase::Paused,
            after_stop: AfterStop::Pause,
            again: false,
            folder: add.folder,
            state: add.state,
            allocation: add.allocation,
            seed_only: add.seed_only,
            filtered: add.filtered,
            content: Content::default(),
            fetch: unknown,
            trees: None,
            blame: Blame::default(),
            chokers: Chokers {
                leeching: Box::new(TitForTat::new(stream("choker"))),
                seeding: Box::new(turns(1, stream("seeding choker"))),
            },
            suggestions: Suggestions::new(0),
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
            wanted_files: Box::default(),
            wanted_bytes: 0,
            share: add.share,
            seeding_since: None,
            seeded_before: Duration::ZERO,
            gate,
            downloaded_before: 0,
            uploaded_before: 0,
            downloaded: 0,
            uploaded: 0,
            down: Rate::new(now),
            up: Rate::new(now),
            room: Room::default(),
            unreadable: None,
            starved: false,
            picked: Vec::new(),
            hash: info.swarm_hash(),
            metainfo,
            id,
            resume: None,
        };
        #[cfg(feature = "planted-bugs")]
        if cx.config.has_planted(crate::session::PlantedBug::ChokerForgets) {
            let choker = TitForTat::new(cx.seed.stream("choker", u64::from(id_number(id))));
            torrent.chokers.leeching = Box::new(choker.that_forgets());
        }
        torrent.set_sequential(add.sequential);
        torrent.set_ways(cx);
        if torrent.fetch.is_none() {
            torrent.describe(&wishes, add.resume.as_ref(), false, cx);
        }
        torrent
    }

    /// Takes everything over that follows from its `info`, which is known now.
    fn describe(&mut self, wishes: &Wishes, resume: Option<&Bytes>, own_chokers: bool, cx: &Cx) {
        let info = self.metainfo.info();
        let layout = info.layout();
        let pieces =
            picker::Layout::new(layout.piece_count(), layout.piece_len(), layout.space_len())
                .and_then(|pieces| pieces.with_short_pieces(layout.short_pieces()))
                .expect("a judged torrent has a sound layout");
        self.hash = info.swarm_hash();
        // Resume data that is of no use is as good as none: everything is checked.
        let resume = resume.and_then(|bytes| {
            Resume::from_bytes(bytes, self.hash, layout.piece_count(), layout.file_count()).ok()
        });
        let stream = |label| cx.seed.stream(label, u64::from(id_number(self.id)));
        let order = self.picker.take_order();
        self.picker = Picker::new(pieces, stream("picker"));
        self.picker.set_order(order);
        self.wanted_bytes = selection::apply(layout, wishes, &mut self.picker);
        self.wanted_files = selection::wanted_files(layout, wishes);
        self.trees = Trees::new(&self.metainfo, resume.as_ref().map_or(&[], |r| &r.layers));
        if !own_chokers {
            let piece_len = u64::from(layout.piece_len());
            self.chokers.seeding = Box::new(turns(piece_len, stream("seeding choker")));
        }
        self.suggestions = Suggestions::new(stream("suggest").below(layout.piece_count().max(1)));
        if let Some(resume) = &resume {
            self.seeded_before = resume.seeded;
            self.downloaded_before = resume.downloaded;
            self.uploaded_before = resume.uploaded;
            self.downloaded = resume.downloaded;
            self.uploaded = resume.uploaded;
        }
        self.resume = resume;
    }

    // Life.

    /// Starts a torrent that is paused or failed.
    pub(crate) fn start(&mut self, cx: &mut Cx) {
        if !matches!(self.phase, Phase::Paused | Phase::Failed(_)) {
            return;
        }
        self.after_stop = AfterStop::Pause;
        self.again = false;
        self.checked = false;
        self.room = Room::default();
        self.unreadable = None;
        if self.fetch.is_some() {
            // There are no files yet.
            self.phase = Phase::Running;
            self.rounds.connect = cx.now();
            self.trackers.start(cx.now());
            self.arm(cx);
            return;
        }
        self.phase = Phase::Opening;
        self.open(cx);
    }

    fn open(&self, cx: &mut Cx) {
        let open = OpenFiles {
            layout: self.metainfo.info().layout().clone(),
            folder: self.folder.clone(),
            key: format!("{}", self.hash).into(),
            allocation: self.allocation,
            writable: !self.seed_only,
            wanted: self.wanted_files.clone(),
        };
        self.files(FileOp::Open(open.into()), JobOwner::Open { torrent: self.id }, cx);
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
        self.note_seeding(now);
        self.trackers.start(now);
        cx.event(Event::TorrentReady(self.id));
        if self.finished {
            self.tell_finished(cx);
        }
        self.unsaved += 1;
        self.save(cx);
        self.note_shared(cx);
        self.arm(cx);
    }

    /// Its timer and whatever hangs on it.
    pub(crate) fn on_timer(&mut self, streams: &mut Streams, cx: &mut Cx) -> Upward {
        let now = cx.now();
        if matches!(self.phase, Phase::Running) {
            if let Some(limit) = self.share_limit_reached(streams, now) {
                return Upward::SharedEnough(limit);
            }
            if self.gate.as_ref().is_some_and(|gate| gate.is_due(now)) {
                self.grant_rates(streams, cx);
            }
            if now >= self.rounds.choke {
                self.rounds.choke = now + ROUND;
                if self.fetch.is_none() {
                    self.choke_round(streams, cx);
                }
                self.end_rate_window(streams, now);
            }
            if now >= self.rounds.refill {
                self.refill(streams, cx);
            }
            if now >= self.rounds.connect {
                self.connect(streams, cx);
            }
            if self.fetch.is_some() {
                self.ask_metadata(streams, cx);
            }
            if self.room.look_at().is_some_and(|at| at <= now) {
                self.look_for_room(cx);
            }
            if now >= self.rounds.save && self.unsaved > 0 {
                self.save(cx);
            }
        }
        self.arm(cx);
        Upward::Nothing
    }

    /// Sets the timer to the next thing due.
    pub(crate) fn arm(&self, cx: &mut Cx) {
        let now = cx.now();
        let announce = self.trackers.next_deadline();
        let mut due = announce;
        let mut at = |instant: Instant| due = Some(due.map_or(instant, |due| due.min(instant)));
        if matches!(self.phase, Phase::Running) {
            if self.has_shared() {
                at(self.rounds.choke);
            }
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
            if let Some(answer) = self.fetch.as_ref().and_then(|fetch| fetch.next_deadline(now)) {
                at(answer);
            }
            if let Some(look) = self.room.look_at() {
                at(look);
            }
            if let Some(until) = self.share_until() {
                at(until);
            }
            if let Some(grant) = self.gate.as_ref().and_then(|gate| gate.grant_at()) {
                at(grant);
            }
        }
        cx.timers.set(self.timer, now, due);
    }

    /// Has trackers asked for each of its hashes, over each family of addresses that we listen on.
    pub(crate) fn set_ways(&mut self, cx: &Cx) {
        let ways = ways_of(self.metainfo.info(), cx);
        let torrent = u64::from(id_number(self.id));
        let rng = |way: Way| {
            let label = match (way.v2, way.family) {
                (false, None | Some(Family::V4)) => "announce",
                (false, Some(Family::V6)) => "announce v6",
                (true, None | Some(Family::V4)) => "announce v2",
                (true, Some(Family::V6)) => "announce v2 v6",
            };
            cx.seed.stream(label, torrent)
        };
        self.trackers.set(cx.now(), &ways, rng);
    }

    /// Asks these trackers from now on.
    pub(crate) fn replace_trackers(&mut self, tiers: &[Vec<String>], cx: &mut Cx) {
        let parse = |url: &String| TrackerUrl::parse(url).ok();
        let tiers: Vec<Vec<TrackerUrl>> =
            tiers.iter().map(|tier| tier.iter().filter_map(parse).collect()).collect();
        self.trackers.replace(cx.now(), &tiers);
        self.arm(cx);
    }

    /// Files, as its layout counts them.
    pub(crate) fn file_count(&self) -> usize {
        self.metainfo.info().layout().file_count()
    }

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
}

/// In which ways trackers are asked: at least one, whatever we can reach.
fn ways_of(info: &Info, cx: &Cx) -> SmallVec<[Way; 4]> {
    let halves = [(false, info.info_hash()), (true, info.swarm_hash_v2())];
    let halves = halves.into_iter().filter(|(_, hash)| hash.is_some());
    let families: &[_] =
        if cx.is_dual_stack() { &[Some(Family::V4), Some(Family::V6)] } else { &[None] };
    halves
        .flat_map(|(v2, _)| families.iter().map(move |family| Way { v2, family: *family }))
        .collect()
}

/// Stands for content of which nothing is known: something is left to fetch, which is what trackers
/// are told.
fn placeholder() -> picker::Layout {
    picker::Layout::new(1, BLOCK_LEN, u64::from(BLOCK_LEN)).expect("one block is sound")
}

/// The upload slots of a seed, for pieces of so many bytes.
fn turns(piece_len: u64, rng: Rng) -> RoundRobin {
    RoundRobin::growing(piece_len, RoundRobin::QUOTA_PIECES * piece_len, rng)
}

fn id_number(id: TorrentId) -> u32 {
    use crate::ids::Key;
    id.slot()
}
