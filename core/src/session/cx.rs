//! What a session lends to its parts: time, timers, outputs, jobs, randomness, budgets, counters.
//!
//! Parts push sideways effects in here; what their parent must act on they return.

use alloc::collections::VecDeque;
use core::net::SocketAddr;

use bytes::BytesMut;
use smallvec::SmallVec;

use super::config::Config;
use super::event::Event;
use super::filter::IpFilter;
use super::gate::{Gate, RateLimits};
use super::stats::Stats;
use crate::ids::{PeerId, PieceIndex, StreamId, TorrentId};
use crate::machine::{Clock, Jobs, Outbox};
use crate::peer::Run;
use crate::rng::Seed;
use crate::time::{Instant, UnixTime};
use crate::timers::Timers;
use crate::torrent::picker::BlockId;
use crate::tracker::ways::Family;

/// Events that wait for the embedder; when there are more, the oldest are dropped and counted.
pub(crate) const EVENTS_MAX: usize = 4096;

#[derive(Debug)]
pub(crate) struct Cx {
    pub(crate) clock: Clock,
    pub(crate) wall: UnixTime,
    pub(crate) config: Config,
    pub(crate) peer_id: PeerId,
    /// By which trackers know us again after our address changed.
    pub(crate) announce_key: u32,
    /// What we tell trackers; zero while we do not listen.
    pub(crate) listen_port: u16,
    pub(crate) own_addresses: SmallVec<[SocketAddr; 2]>,
    /// The families of addresses that we listen on, IPv4 first.
    pub(crate) heard: [bool; 2],
    /// Who is not talked to.
    pub(crate) filter: IpFilter,
    pub(crate) out: Outbox,
    pub(crate) jobs: Jobs<JobOwner>,
    pub(crate) timers: Timers<TimerKey>,
    pub(crate) seed: Seed,
    pub(crate) stats: Stats,
    pub(crate) memory: Memory,
    /// The limits of the session.
    pub(crate) gate: Gate,
    /// Headers and small messages are cut from this; see [`Cx::make_room`].
    pub(crate) scratch: BytesMut,
    events: VecDeque<Event>,
}

/// Small messages of so many bytes share one buffer, which lives until the last of them was sent.
const SCRATCH_LEN: usize = 1024;

/// Whose timer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerKey {
    /// A peer connection: handshake, silence, keep-alive, slow answers.
    Stream(StreamId),
    /// A torrent: choke round, connecting, announcing, saving.
    Torrent(TorrentId),
    /// Exchanges with trackers.
    Trackers,
    /// A rate limit grants again.
    Rates,
}

impl TimerKey {
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Stream(_) => "peer connection",
            Self::Torrent(_) => "torrent round",
            Self::Trackers => "tracker exchange",
            Self::Rates => "rate limit",
        }
    }
}

/// What a job was for.
#[derive(Debug)]
pub(crate) enum JobOwner {
    /// A torrent's files are made ready.
    Open { torrent: TorrentId },
    /// A piece is checked against what is on disk.
    Check { torrent: TorrentId, piece: PieceIndex, len: u32 },
    /// Blocks from `first` on go to the disk.
    Write { torrent: TorrentId, first: BlockId, blocks: u32, len: usize },
    /// A piece on its way to us is hashed.
    Hash { torrent: TorrentId, piece: PieceIndex, len: usize },
    /// A block of a wrong piece is hashed, to find who sent it.
    Blame { torrent: TorrentId, piece: PieceIndex, block: u32 },
    /// A leaf of a tree is hashed for an answer.
    Leaf { torrent: TorrentId, number: u32, leaf: u32 },
    /// Blocks for a peer.
    Read { torrent: TorrentId, stream: StreamId, run: Run },
    /// What resume data claims is made durable.
    Flush { torrent: TorrentId },
    /// Resume data.
    Save { torrent: TorrentId },
    /// The disk says whether it has room again.
    Room { torrent: TorrentId },
    /// The files are closed.
    Close { torrent: TorrentId },
    /// The files are deleted.
    Delete { torrent: TorrentId },
    /// A tracker's name is looked up.
    Resolve,
}

/// Bytes of content between the wire and the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Bytes that are to be written.
    unwritten: u64,
    /// Bytes that are to be hashed.
    unhashed: u64,
    /// Bytes that we asked peers for and that are not here.
    requested: u64,
    limit: u64,
}

impl Memory {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { unwritten: 0, unhashed: 0, requested: 0, limit: limit as u64 }
    }

    /// Bytes came that are to be written and hashed.
    pub(crate) fn hold(&mut self, len: usize) {
        self.unwritten += len as u64;
        self.unhashed += len as u64;
    }

    /// Nobody holds these bytes for writing any more.
    pub(crate) fn written(&mut self, len: usize) {
        self.unwritten = self.unwritten.checked_sub(len as u64).expect("held before");
    }

    /// Nobody holds these bytes for hashing any more.
    pub(crate) fn hashed(&mut self, len: usize) {
        self.unhashed = self.unhashed.checked_sub(len as u64).expect("held before");
    }

    pub(crate) fn request(&mut self, len: u32) {
        self.requested += u64::from(len);
    }

    pub(crate) fn unrequest(&mut self, len: u32) {
        self.requested = self.requested.saturating_sub(u64::from(len));
    }

    /// Bytes held: what is to be written and what is to be hashed are mostly the same bytes, or
    /// the more of one is what the other is done with.
    pub(crate) const fn held(&self) -> u64 {
        if self.unwritten > self.unhashed { self.unwritten } else { self.unhashed }
    }

    /// Whether blocks that could wait should rather go to the disk, and be read again to be
    /// hashed.
    pub(crate) const fn is_short(&self) -> bool {
        self.held() > self.limit / 4 * 3
    }

    /// Whether what is held is all that may be.
    pub(crate) const fn is_full(&self) -> bool {
        self.held() >= self.limit
    }

    /// How many more blocks may be asked for.
    pub(crate) const fn room(&self, block_len: u32) -> usize {
        let used = self.held() + self.requested;
        (self.limit.saturating_sub(used) / block_len as u64) as usize
    }
}

impl Cx {
    /// Whether peers reach us over IPv4 and IPv6: then trackers are asked over each, or else once,
    /// over any.
    pub(crate) fn is_dual_stack(&self) -> bool {
        self.heard == [true; 2] && Family::ALL.iter().all(|family| self.config.has(*family))
    }

    pub(crate) fn new(config: Config, seed: Seed, now: Instant, wall: UnixTime) -> Self {
        let mut rng = seed.stream("session", 0);
        Self {
            clock: Clock::new(now),
            wall,
            peer_id: config.peer_id(&mut rng),
            announce_key: rng.next_u32(),
            listen_port: 0,
            own_addresses: SmallVec::new(),
            heard: [false; 2],
            filter: IpFilter::new(),
            out: Outbox::default(),
            jobs: Jobs::new(),
            #[cfg(not(feature = "planted-bugs"))]
            timers: Timers::new(),
            #[cfg(feature = "planted-bugs")]
            timers: Timers::new()
                .that_puts_back_late(config.has_planted(super::PlantedBug::TimerInThePast)),
            seed,
            stats: Stats::default(),
            memory: Memory::new(config.buffer_bytes_max),
            gate: Gate::new(
                now,
                RateLimits {
                    down_bytes_per_s: config.down_bytes_per_s,
                    up_bytes_per_s: config.up_bytes_per_s,
                },
            ),
            scratch: BytesMut::new(),
            events: VecDeque::new(),
            config,
        }
    }

    pub(crate) const fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Sees to it that `len` bytes more find room in the scratch buffer.
    pub(crate) fn make_room(&mut self, len: usize) {
        if self.scratch.is_empty() && self.scratch.capacity() < len {
            self.scratch = BytesMut::with_capacity(len.max(SCRATCH_LEN));
        } else {
            self.scratch.reserve(len);
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
            self.stats.events_dropped += 1;
        }
        self.events.push_back(event);
    }

    /// The next event. Gives memory back when it was the last.
    pub(crate) fn pop_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_held_until_they_are_written_and_hashed() {
        let mut memory = Memory::new(100);
        memory.hold(80);
        assert!(memory.is_short() && !memory.is_full());
        memory.written(60);
        assert_eq!(memory.held(), 80, "not one of them was hashed");
        memory.hashed(70);
        assert_eq!((memory.held(), memory.room(10)), (20, 8));
        memory.request(50);
        assert_eq!(memory.room(10), 3);
        memory.written(20);
        memory.hashed(10);
        assert_eq!(memory.held(), 0);
    }
}
