//! Peers arrive at random and leave as soon as they are done: is there an end to it?
//!
//! Hajek and Zhu, "The missing piece syndrome in peer-to-peer communication" (ISIT 2010): whatever
//! useful piece is sent, the swarm is stable if the seed sends more pieces per second than peers
//! arrive, and otherwise a *one club* grows without end, of peers that have everything but the same
//! one piece, and whoever gets that leaves at once.

use teem_core::rng::Seed;
use teem_core::session::{Command, Config, Event, RemoveFiles};
use teem_core::time::{Duration, Instant};
use teem_core::torrent::choker::RoundRobin;

use crate::net::{Access, Fidelity, HostId, Net, NetConfig};
use crate::swarm::{Swarm, torrent};

/// The experiment. See the [module](self).
#[derive(Clone, Debug)]
pub struct Stability {
    /// Arrivals per 1,000 seconds, on average.
    pub arrivals_per_1000_s: u32,
    /// Pieces that the seed can send in 1,000 seconds.
    pub seed_pieces_per_1000_s: u32,
    /// Pieces that everybody else can send in 1,000 seconds.
    pub peer_pieces_per_1000_s: u32,
    /// Pieces of the torrent, of four blocks each.
    pub pieces: u32,
    /// Peers that are there at the beginning and have all but the first piece.
    pub club: usize,
    /// Peers that a newcomer is told of.
    pub degree: usize,
    /// For how long.
    pub duration: Duration,
    /// All randomness.
    pub seed: u64,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Peers present, by tenths of the time: means.
    pub present: [f64; 10],
    /// Peers that arrived, the club at the beginning included.
    pub arrived: usize,
    /// Peers that left.
    pub left: usize,
    /// Of those present at the end, the share that lacks the same single piece.
    pub club_share: f64,
    /// How many peers more per second there were in the second half, by the first and the last of
    /// its tenths.
    pub slope_per_s: f64,
}

/// Four blocks: what a sender's system holds of a stream is then a part of a piece, and a turn that
/// ends with what was handed to it leaves two or three streams to share an uplink, not all of them.
const PIECE_LEN: u32 = 64 * 1024;

impl Stability {
    /// One peer arrives every five seconds, for a day; the seed sends `percent` of a piece for each
    /// that arrives.
    pub fn published(percent: u32, seed: u64) -> Self {
        Self {
            arrivals_per_1000_s: 200,
            seed_pieces_per_1000_s: 2 * percent,
            peer_pieces_per_1000_s: 1_000,
            pieces: 16,
            club: 60,
            degree: 20,
            duration: Duration::from_hours(24),
            seed,
        }
    }

    /// Runs it.
    pub fn run(&self) -> Outcome {
        let seed = Seed::from_number(self.seed);
        let mut content = vec![0; self.pieces as usize * PIECE_LEN as usize];
        seed.stream("content", 0).fill(&mut content);
        let metainfo = torrent(&content, PIECE_LEN);
        let between = Duration::from_millis(5);
        let net = Net::with(NetConfig { fidelity: Fidelity::Flow, between, seed });
        let mut swarm = Swarm::on(net, metainfo, content.clone().into());
        swarm.net.set_send_buffer(0);
        let mut known = content;
        known[..PIECE_LEN as usize].fill(0);
        let config =
            Config { upload_slots: 1, torrent_peers_max: 4 * self.degree, ..Config::default() };
        let up = |pieces: u32| Access {
            up_bytes_per_s: Some(u64::from(pieces) * u64::from(PIECE_LEN) / 1000),
            ..Access::PERFECT
        };
        let mut rng = seed.stream("arrivals", 0);
        let first =
            swarm.seeder(Config { torrent_peers_max: 400, peers_max: 400, ..config.clone() });
        swarm.net.set_access(first, up(self.seed_pieces_per_1000_s));
        take_turns(&mut swarm, first, seed);
        let mut present: Vec<HostId> = Vec::new();
        let (mut arrived, mut left) = (0, 0);
        let mut means = [0.0; 10];
        let seconds = self.duration.as_secs();
        for second in 0..seconds {
            // Arrivals in this second: a Bernoulli trial each millisecond.
            let mut come = if second == 0 { self.club } else { 0 };
            let member = come > 0;
            for _ in 0..1000 {
                come += usize::from(rng.below(1_000_000) < self.arrivals_per_1000_s);
            }
            for number in 0..come {
                let preload = (member && number < self.club).then_some(known.as_slice());
                let host = swarm.add(preload, config.clone(), |_| {});
                swarm.net.set_access(host, up(self.peer_pieces_per_1000_s));
                take_turns(&mut swarm, host, seed);
                let mut whom = vec![first];
                for _ in 0..self.degree.min(present.len()) {
                    let other = present[rng.below(present.len() as u32) as usize];
                    if !whom.contains(&other) {
                        whom.push(other);
                    }
                }
                swarm.introduce(host, &whom);
                present.push(host);
                arrived += 1;
            }
            let end = Instant::ORIGIN + Duration::from_secs(second + 1);
            // Whoever is done leaves at that very moment: one more piece from each would do to keep
            // any swarm stable (Zhu and Hajek, "Stability of a peer-to-peer communication system",
            // 2012).
            while swarm.now() < end {
                let done = |swarm: &Swarm, host: HostId| {
                    swarm.events(host).iter().rev().any(|e| matches!(e, Event::TorrentFinished(_)))
                };
                swarm.run(1, |swarm| {
                    swarm.now() >= end || present.iter().any(|host| done(swarm, *host))
                });
                present.retain(|host| {
                    let done = done(&swarm, *host);
                    if done {
                        let torrent = swarm.torrent(*host);
                        swarm.command(*host, Command::Remove(torrent, RemoveFiles::Keep));
                        left += 1;
                    }
                    !done
                });
            }
            means[(second * 10 / seconds) as usize] += present.len() as f64;
        }
        let tenth = seconds as f64 / 10.0;
        let means = means.map(|sum| sum / tenth);
        let mut lacks = vec![0_usize; self.pieces as usize];
        for host in &present {
            let torrent = swarm.torrent(*host);
            let have = swarm.session(*host).pieces(torrent).unwrap_or_default();
            let has =
                |piece: usize| have.get(piece / 8).is_some_and(|b| b >> (7 - piece % 8) & 1 == 1);
            let missing: Vec<usize> = (0..self.pieces as usize).filter(|at| !has(*at)).collect();
            if let [only] = missing[..] {
                lacks[only] += 1;
            }
        }
        Outcome {
            present: means,
            arrived,
            left,
            club_share: lacks.iter().max().copied().unwrap_or(0) as f64
                / present.len().max(1) as f64,
            slope_per_s: (means[9] - means[5]) / (4.0 * tenth),
        }
    }
}

/// Everybody sends one piece at a time, to one peer after the other.
fn take_turns(swarm: &mut Swarm, host: HostId, seed: Seed) {
    let torrent = swarm.torrent(host);
    let session = swarm.net.machine_mut(host).session_mut().expect("a client");
    let quota = u64::from(PIECE_LEN);
    let turns = |label| Box::new(RoundRobin::new(quota, seed.stream(label, host as u64)));
    session.set_chokers(torrent, turns("leeching"), turns("seeding"));
}
