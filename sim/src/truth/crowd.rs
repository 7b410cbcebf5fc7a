//! A flash crowd: everybody arrives at once, one has everything, all have the same uplink.
//!
//! No swarm of `N` peers finishes before `T* = M + floor(log2 N)` piece times, `M` pieces and the
//! time that one takes on one uplink: the last piece that the seed sends has to double its way
//! through the swarm (Mundinger, Weber and Weiss, "Optimal scheduling of peer-to-peer file
//! dissemination", 2008). Downlinks have no limit, as in that bound.

use teem_core::rng::{Seed, mac};
use teem_core::session::{Config, Event};
use teem_core::time::{Duration, Instant};
use teem_core::torrent::choker::RoundRobin;
use teem_core::torrent::picker::{Candidate, Order, PieceOrder};

use super::circles;
use crate::net::{Access, Fidelity, HostId, Net, NetConfig};
use crate::swarm::{Swarm, torrent};

/// How upload slots are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// One slot, which goes round piece by piece: choking is off, and an uplink is not shared out.
    PieceByPiece,
    /// What ships, with this many slots, the optimistic ones included.
    Choker(usize),
    /// Everybody who wants something has a slot.
    Unlimited,
}

/// Which piece is begun next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// What ships.
    RarestFirst,
    /// Any, by a shuffle of each peer's own.
    Random,
}

/// The experiment. See the [module](self).
#[derive(Clone, Debug)]
pub struct Crowd {
    /// Peers that have nothing; the seed comes on top.
    pub peers: usize,
    /// Connections of each, the seed included.
    pub degree: usize,
    /// Pieces of the torrent.
    pub pieces: u32,
    /// Bytes of each.
    pub piece_len: u32,
    /// Everybody's uplink.
    pub up_bytes_per_s: u64,
    /// From anybody to anybody, one way.
    pub one_way: Duration,
    /// Bytes of each stream that a sender's system holds; see [`Net::set_send_buffer`].
    pub send_buffer: usize,
    /// How uplinks are shared out.
    pub slots: Slots,
    /// What is fetched first.
    pub pick: Pick,
    /// All randomness.
    pub seed: u64,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How long one piece takes on one uplink.
    pub piece_time: Duration,
    /// `T*`.
    pub bound: Duration,
    /// When the last peer had everything; none if that took more than [`GIVE_UP`] times the bound.
    pub last: Option<Duration>,
    /// When half of the peers had everything.
    pub median: Option<Duration>,
    /// What all moved until the last was done, against what their uplinks could have.
    pub utilisation: f64,
    /// The same for each tenth of that time.
    pub tenths: [f64; 10],
    /// Bytes of blocks that the seed sent, against the content.
    pub seed_copies: f64,
    /// Bytes of blocks that came twice, against all.
    pub wasted: f64,
    /// Blocks delivered.
    pub blocks: u64,
    /// Calls of `handle_input`.
    pub events: u64,
    /// The network's digest.
    pub digest: u64,
}

/// After how many times the bound a crowd that is not done is given up.
pub const GIVE_UP: u32 = 4;

impl Outcome {
    /// The last peer's time in units of the bound; infinite if it was never done.
    pub fn ratio(&self) -> f64 {
        self.last.map_or(f64::INFINITY, |last| last.as_secs_f64() / self.bound.as_secs_f64())
    }

    /// The last peer's time in piece times; infinite if it was never done.
    pub fn piece_times(&self) -> f64 {
        self.last.map_or(f64::INFINITY, |last| last.as_secs_f64() / self.piece_time.as_secs_f64())
    }
}

impl Crowd {
    /// 1,024 peers with 30 connections each and 256 pieces, one of which takes a second; 25 ms there
    /// and back with the choker that ships, next to nothing without it. Half a million blocks.
    pub fn full(slots: Slots, seed: u64) -> Self {
        let one_way = if slots == Slots::PieceByPiece { 50 } else { 12_500 };
        Self {
            peers: 1_024,
            degree: 30,
            pieces: 256,
            piece_len: 32 * 1024,
            up_bytes_per_s: 32 * 1024,
            one_way: Duration::from_micros(one_way),
            send_buffer: 16 * 1024 + 16,
            slots,
            pick: Pick::RarestFirst,
            seed,
        }
    }

    /// The swarm, wired up at time zero; the first host is the seed.
    pub fn swarm(&self) -> Swarm {
        let seed = Seed::from_number(self.seed);
        let mut content = vec![0; self.pieces as usize * self.piece_len as usize];
        seed.stream("content", 0).fill(&mut content);
        let metainfo = torrent(&content, self.piece_len);
        let mut net =
            Net::with(NetConfig { fidelity: Fidelity::Flow, between: self.one_way, seed });
        net.set_send_buffer(self.send_buffer);
        let mut swarm = Swarm::on(net, metainfo, content.into());
        let upload_slots = match self.slots {
            Slots::PieceByPiece => 1,
            Slots::Choker(slots) => slots,
            Slots::Unlimited => self.degree + 1,
        };
        let config =
            Config { upload_slots, torrent_peers_max: self.degree + 2, ..Config::default() };
        let access = Access { up_bytes_per_s: Some(self.up_bytes_per_s), ..Access::PERFECT };
        for host in 0..=self.peers {
            // A session draws from its number alone: other runs want other draws.
            if host == 0 {
                swarm.seeder(config.clone())
            } else {
                swarm.leecher(config.clone())
            };
            swarm.net.set_access(host, access);
            self.set_policies(&mut swarm, host, seed);
        }
        let mut calls: Vec<Vec<HostId>> = vec![Vec::new(); self.peers + 1];
        for (one, other) in circles(self.peers + 1, self.degree, &mut seed.stream("graph", 0)) {
            calls[one].push(other);
        }
        for (host, whom) in calls.iter().enumerate() {
            swarm.introduce(host, whom);
        }
        swarm
    }

    fn set_policies(&self, swarm: &mut Swarm, host: HostId, seed: Seed) {
        let torrent = swarm.torrent(host);
        let session = swarm.net.machine_mut(host).session_mut().expect("a client");
        if self.slots == Slots::PieceByPiece {
            let quota = u64::from(self.piece_len);
            let turns = |label| Box::new(RoundRobin::new(quota, seed.stream(label, host as u64)));
            session.set_chokers(torrent, turns("leeching"), turns("seeding"));
        }
        if self.pick == Pick::Random {
            let order = Shuffle(seed.key("order", host as u64));
            session.set_order(torrent, Order::Custom(Box::new(order)));
        }
    }

    /// How long one piece takes on one uplink.
    pub fn piece_time(&self) -> Duration {
        let micros = u64::from(self.piece_len) * 1_000_000 / self.up_bytes_per_s;
        Duration::from_micros(micros)
    }

    /// `T*`.
    pub fn bound(&self) -> Duration {
        self.piece_time() * (self.pieces + self.peers.max(1).ilog2())
    }

    /// Runs until everybody is done.
    pub fn run(&self) -> Outcome {
        self.run_with(|_, _| {})
    }

    /// Runs until everybody is done, and lets `look` look every piece time.
    pub fn run_with(&self, mut look: impl FnMut(&Swarm, &[Option<Instant>])) -> Outcome {
        let mut swarm = self.swarm();
        let (piece_time, bound) = (self.piece_time(), self.bound());
        let tick = piece_time / 4;
        let mut done: Vec<Option<Instant>> = vec![None; self.peers + 1];
        let mut read = vec![0; self.peers + 1];
        let mut delivered = vec![0];
        let mut next = swarm.now();
        let mut ticks = 0;
        let seconds = (bound * GIVE_UP).as_secs().max(1);
        swarm.run(seconds, |swarm| {
            if swarm.now() < next {
                return false;
            }
            while next <= swarm.now() {
                next += tick;
                ticks += 1;
            }
            for host in 1..=self.peers {
                let events = swarm.events(host);
                let finished = |event: &Event| matches!(event, Event::TorrentFinished(_));
                if done[host].is_none() && events[read[host]..].iter().any(finished) {
                    done[host] = Some(swarm.now());
                }
                read[host] = events.len();
            }
            if ticks / 4 >= delivered.len() {
                delivered.resize(ticks / 4 + 1, swarm.net.counters().delivered_bytes);
                look(swarm, &done);
            }
            done[1..].iter().all(Option::is_some)
        });
        let since = |at: Instant| at.saturating_since(Instant::ORIGIN);
        let mut times: Vec<_> = done[1..].iter().flatten().map(|at| since(*at)).collect();
        times.sort_unstable();
        let last = times.last().copied().filter(|_| times.len() == self.peers);
        let capacity = self.up_bytes_per_s as f64 * (self.peers + 1) as f64;
        let steps = delivered.len() - 1;
        let tenths = std::array::from_fn(|tenth| {
            let (from, to) = (steps * tenth / 10, steps * (tenth + 1) / 10);
            let bytes = (delivered[to] - delivered[from]) as f64;
            bytes / (capacity * piece_time.as_secs_f64() * (to - from).max(1) as f64)
        });
        let total = f64::from(self.pieces) * f64::from(self.piece_len);
        let wasted: u64 =
            (1..=self.peers).map(|host| swarm.session(host).stats().wasted_bytes).sum();
        let got: u64 = (1..=self.peers).map(|host| swarm.snapshot(host).downloaded_bytes).sum();
        let took = since(swarm.now()).as_secs_f64();
        Outcome {
            piece_time,
            bound,
            last,
            median: times.get(self.peers / 2).copied(),
            utilisation: got as f64 / (capacity * took),
            tenths,
            seed_copies: swarm.snapshot(0).uploaded_bytes as f64 / total,
            wasted: wasted as f64 / got.max(1) as f64,
            blocks: got / u64::from(self.piece_len.min(16 * 1024)),
            events: swarm.net.counters().events,
            digest: swarm.net.digest(),
        }
    }
}

/// Pieces in an order that has nothing to do with how many have them.
#[derive(Debug)]
struct Shuffle([u64; 2]);

impl PieceOrder for Shuffle {
    fn rank(&self, candidate: Candidate) -> u64 {
        mac(self.0, &candidate.piece.0.to_le_bytes())
    }
}
