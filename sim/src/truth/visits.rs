//! Peers who arrive by a Poisson process, fetch, stay as seeds for a while, and leave.
//!
//! What [`fluid`](super::fluid), [`homogeneous`](super::homogeneous) and
//! [`rarest`](super::rarest) have in common. Time goes in seconds here: arrivals come at the
//! beginning of one, and what happens is noted at its end.

use teem_core::rng::{Rng, Seed};
use teem_core::session::{Command, Config, Event, RemoveFiles};
use teem_core::time::{Duration, Instant};

use crate::net::{Access, Fidelity, HostId, Net, NetConfig};
use crate::swarm::{Swarm, torrent};

/// What all visitors have in common.
#[derive(Clone, Debug)]
pub struct Habits {
    /// Pieces of the torrent.
    pub pieces: u32,
    /// Bytes of each.
    pub piece_len: u32,
    /// Everybody's link.
    pub access: Access,
    /// The link of the seed that never leaves.
    pub seed_access: Access,
    /// Of how many others a newcomer is told, besides the seed that never leaves.
    pub degree: usize,
    /// Upload slots, the optimistic ones included.
    pub slots: usize,
    /// How long a peer stays as a seed, on average, in seconds: in each second it leaves with a
    /// chance of one in so many. Zero: it leaves within the second in which it is done.
    pub dwell_s: u32,
    /// All randomness.
    pub seed: u64,
}

/// One visitor; times are in seconds from the beginning.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    /// When it came.
    pub arrived_s: u64,
    /// When it had everything; none: not yet.
    pub done_s: Option<u64>,
    /// When it left; none: it is still there.
    pub left_s: Option<u64>,
    /// When it had each of its pieces, in their order in time; those that it came with are not
    /// there.
    pub pieces_s: Vec<u64>,
}

/// What changed in a second.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Who got which pieces.
    pub got: Vec<(HostId, u32)>,
    /// Who left.
    pub left: Vec<HostId>,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Visits {
    /// The swarm; host zero is the seed that never leaves.
    pub swarm: Swarm,
    habits: Habits,
    rng: Rng,
    present: Vec<HostId>,
    all: Vec<Visit>,
    second: u64,
}

/// From anybody to anybody, one way.
const ONE_WAY: Duration = Duration::from_millis(10);

/// What a sender's system holds of each stream: a block and its header. With more, slow uplinks are
/// busy for long with what was asked for before the last choke.
pub(super) const SEND_BUFFER: usize = 16 * 1024 + 16;

/// Connections that a session takes, in times of those that it is told of.
const ROOM: usize = 4;

impl Visits {
    /// A seed that never leaves, and nobody else.
    pub fn new(habits: Habits) -> Self {
        let seed = Seed::from_number(habits.seed);
        let mut content = vec![0; habits.pieces as usize * habits.piece_len as usize];
        seed.stream("content", 0).fill(&mut content);
        let metainfo = torrent(&content, habits.piece_len);
        let net = Net::with(NetConfig { fidelity: Fidelity::Flow, between: ONE_WAY, seed });
        let mut swarm = Swarm::on(net, metainfo, content.into());
        swarm.net.set_send_buffer(SEND_BUFFER);
        let config = Config {
            upload_slots: habits.slots,
            peers_max: usize::from(u16::MAX),
            torrent_peers_max: usize::from(u16::MAX),
            ..Config::default()
        };
        let first = swarm.seeder(config);
        swarm.net.set_access(first, habits.seed_access);
        let rng = seed.stream("visits", 0);
        let all = vec![Visit::default()];
        Self { swarm, habits, rng, present: Vec::new(), all, second: 0 }
    }

    /// Seconds that have passed.
    pub const fn now_s(&self) -> u64 {
        self.second
    }

    /// Who is there, the seed that never leaves excepted.
    pub fn present(&self) -> &[HostId] {
        &self.present
    }

    /// Leechers that are there.
    pub fn leechers(&self) -> usize {
        self.present.iter().filter(|host| self.all[**host].done_s.is_none()).count()
    }

    /// Seeds that are there, the one that never leaves excepted.
    pub fn seeds(&self) -> usize {
        self.present.len() - self.leechers()
    }

    /// Everybody who came so far, by host; the first is the seed that never leaves.
    pub fn visits(&self) -> &[Visit] {
        &self.all
    }

    /// Somebody comes who has nothing, and is told of the seed and of others by lot.
    pub fn arrive(&mut self) -> HostId {
        self.come(false)
    }

    /// Somebody comes who has everything, and is told of others by lot.
    pub fn arrive_done(&mut self) -> HostId {
        self.come(true)
    }

    fn come(&mut self, is_done: bool) -> HostId {
        let Habits { access, degree, slots, .. } = self.habits;
        let content = is_done.then(|| self.swarm.content().clone());
        let room = (ROOM * degree).max(50);
        let config = Config {
            upload_slots: slots,
            peers_max: room,
            torrent_peers_max: room,
            ..Config::default()
        };
        let host = self.swarm.add(content.as_deref(), config, |_| {});
        self.swarm.net.set_access(host, access);
        let mut others = self.present.clone();
        self.rng.shuffle(&mut others);
        others.truncate(degree);
        if !is_done {
            others.push(0);
        }
        self.swarm.introduce(host, &others);
        self.present.push(host);
        let done_s = is_done.then_some(self.second);
        self.all.push(Visit { arrived_s: self.second, done_s, ..Visit::default() });
        host
    }

    /// A second passes, of those in 1,000 of which `arrivals_per_1000_s` come, on average.
    pub fn second(&mut self, arrivals_per_1000_s: u32) -> Change {
        // A Bernoulli trial each millisecond.
        for _ in 0..1_000 {
            if self.rng.below(1_000_000) < arrivals_per_1000_s {
                self.arrive();
            }
        }
        self.second += 1;
        let end = Instant::ORIGIN + Duration::from_secs(self.second);
        let rest = end.saturating_since(self.swarm.now());
        if rest > Duration::ZERO {
            self.swarm.run(1, |swarm| swarm.now() >= end);
        }
        let mut change = Change::default();
        for host in self.present.clone() {
            for event in self.swarm.take_events(host) {
                let visit = &mut self.all[host];
                match event {
                    Event::PieceVerified(_, piece) if visit.done_s.is_none() => {
                        visit.pieces_s.push(self.second);
                        change.got.push((host, piece.0));
                    }
                    Event::TorrentFinished(_) if visit.done_s.is_none() => {
                        visit.done_s = Some(self.second);
                    }
                    _ => {}
                }
            }
            let dwell = self.habits.dwell_s;
            let is_done = self.all[host].done_s.is_some();
            if is_done && (dwell == 0 || self.rng.below(dwell) == 0) {
                let torrent = self.swarm.torrent(host);
                self.swarm.command(host, Command::Remove(torrent, RemoveFiles::Keep));
                self.all[host].left_s = Some(self.second);
                change.left.push(host);
            }
        }
        self.present.retain(|host| self.all[*host].left_s.is_none());
        change
    }
}
