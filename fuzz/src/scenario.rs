//! Bytes to a swarm: the one mapping that libFuzzer, the corpus and the seeds of runs share.
//!
//! [`Scenario::from_bytes`] draws two to five peers, a torrent, who knows whom, what each peer is
//! set to, how slow its disk is, and what goes wrong when; [`Scenario::from_seed`] does the same
//! with bytes that a number expands to. [`Scenario::run`] lives thirty virtual seconds of it with
//! the sessions and the network that everybody uses, and holds at the end:
//!
//! - nobody received a block that nobody sent: bytes of blocks sent are at least those received;
//! - every piece that a session calls its own, on a disk that nobody damaged, is right;
//! - who is complete has the content, byte for byte;
//! - what a session holds in memory stays within its limit and a block per peer, and no host
//!   spins.
//!
//! Every choice reads its own byte, in order: a mutated byte changes one thing.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use teem_core::metainfo::Metainfo;
use teem_core::rng::Seed;
use teem_core::session::{Command, Config, RateLimits, RemoveFiles, TorrentState};
use teem_core::time::{Duration, Instant};
use teem_core::wire::BLOCK_LEN;
use teem_sim::storage::{Cost, JobKind, Profile};
use teem_sim::swarm::{Swarm, folder, torrent};

use crate::script::Script;

/// Virtual seconds that a scenario runs for.
pub const SECONDS: u64 = 30;

/// Peers at most.
pub const PEERS_MAX: usize = 5;

/// Faults and commands at most.
pub const EVENTS_MAX: usize = 12;

/// Bytes that a seed expands to.
const SEED_BYTES: usize = 64;

/// Content and torrents: their lengths and piece lengths, the last pieces short or whole.
static TORRENTS: LazyLock<Vec<(Arc<Metainfo>, Bytes)>> = LazyLock::new(|| {
    [(200_000, 32 * 1024), (65_536, 16 * 1024), (400_001, 64 * 1024), (10_000, 16 * 1024)]
        .into_iter()
        .map(|(len, piece_len)| {
            let mut content = vec![0; len];
            Seed::from_number(len as u64).stream("content", 0).fill(&mut content);
            (torrent(&content, piece_len), Bytes::from(content))
        })
        .collect()
});

/// A swarm to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Which of the torrents.
    pub torrent: usize,
    /// Who takes part.
    pub peers: Vec<Peer>,
    /// What happens meanwhile, in the order of time.
    pub events: Vec<(Duration, usize, Event)>,
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What is on its disk at the start.
    pub has: Has,
    /// Whom it is told of, one bit each.
    pub knows: u8,
    /// Bytes per second that it takes, if limited.
    pub down_bytes_per_s: Option<u64>,
    /// Bytes per second that it sends, if limited.
    pub up_bytes_per_s: Option<u64>,
    /// Peers that it serves at a time.
    pub upload_slots: usize,
    /// Bytes that it holds in memory.
    pub buffer_bytes_max: usize,
    /// How its disk behaves.
    pub disk: Speed,
}

/// What is on a disk at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Has {
    /// Nothing.
    Nothing,
    /// Everything.
    Everything,
    /// The first half, the rest zeros.
    Half,
    /// Everything, some of it wrong.
    Damaged,
}

/// How long jobs take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// A millisecond.
    Even,
    /// A second for each write, so that they wait.
    SlowWrites,
    /// Hashes long after what came later.
    SlowHashes,
    /// A tenth of a second for each read.
    SlowReads,
}

/// Something that happens to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its disk has room for this many more bytes.
    DiskFull(u64),
    /// Its disk has room again, and it goes on.
    DiskHasRoom,
    /// Bits on its disk flip behind its back, one in this many bytes.
    Damage(u16),
    /// It pauses.
    Pause,
    /// It goes on.
    Resume,
    /// Its limits change, in bytes per second both ways.
    Limit(Option<u64>),
    /// It is told of everybody.
    Introduce,
    /// It removes the torrent and its files.
    Remove,
    /// It shuts down.
    ShutDown,
}

/// What came of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Peers that have everything.
    pub complete: usize,
    /// Bytes of blocks sent by all.
    pub uploaded_bytes: u64,
    /// Bytes of blocks received by all, used or not.
    pub received_bytes: u64,
    /// Steps of the network.
    pub steps: u64,
}

impl Scenario {
    /// What these bytes say. Any bytes say something; after their end all choices are zero.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut script = Script::new(bytes);
        let torrent = script.below(TORRENTS.len());
        let count = 2 + script.below(PEERS_MAX - 1);
        let mut peers = Vec::new();
        for at in 0..count {
            peers.push(Peer {
                // Somebody has to have it, most of the time.
                has: match (at, script.byte()) {
                    (0, 0..240) | (_, 0..40) => Has::Everything,
                    (_, 40..60) => Has::Half,
                    (_, 60..70) => Has::Damaged,
                    _ => Has::Nothing,
                },
                knows: !script.byte(),
                down_bytes_per_s: rate(script.byte()),
                up_bytes_per_s: rate(script.byte()),
                upload_slots: 1 + script.below(8),
                buffer_bytes_max: [1 << 20, 1 << 17, 1 << 24, 1 << 18][script.below(4)],
                disk: [Speed::Even, Speed::SlowWrites, Speed::SlowHashes, Speed::SlowReads]
                    [script.below(4)],
            });
        }
        let mut events = Vec::new();
        while !script.is_over() && events.len() < EVENTS_MAX {
            let at = Duration::from_millis(u64::from(script.byte()) * 100);
            let who = script.below(count);
            let (what, how) = (script.byte(), script.byte());
            let what = match what % 10 {
                0 => Event::DiskFull(u64::from(how) * 1_000),
                1 => Event::DiskHasRoom,
                2 => Event::Damage(u16::from(how) * 16 + 1),
                3 => Event::Pause,
                6 => Event::Limit(rate(how)),
                7 => Event::Introduce,
                8 if how > 128 => Event::Remove,
                9 if how > 200 => Event::ShutDown,
                _ => Event::Resume,
            };
            events.push((at, who, what));
        }
        events.sort_by_key(|(at, ..)| *at);
        Self { torrent, peers, events }
    }

    /// What a number says: its bytes come from [`Seed`].
    pub fn from_seed(seed: u64) -> Self {
        let mut bytes = [0; SEED_BYTES];
        Seed::from_number(seed).stream("scenario", 0).fill(&mut bytes);
        Self::from_bytes(&bytes)
    }

    /// Lives it, and holds what the [module](self) says; panics if that does not hold.
    pub fn run(&self) -> Report {
        let (metainfo, content) = &TORRENTS[self.torrent];
        let mut swarm = Swarm::of(metainfo.clone(), content.clone());
        let mut touched = vec![false; self.peers.len()];
        for (at, peer) in self.peers.iter().enumerate() {
            let host = peer.join(&mut swarm, content);
            assert_eq!(host, at, "hosts are numbered in order");
            touched[at] = peer.has == Has::Damaged;
        }
        for (at, peer) in self.peers.iter().enumerate() {
            let others: Vec<_> =
                (0..self.peers.len()).filter(|o| *o != at && peer.knows >> o & 1 == 1).collect();
            swarm.introduce(at, &others);
        }
        let mut report = Report::default();
        let mut events = self.events.iter();
        let mut next = events.next();
        let end = Instant::ORIGIN + Duration::from_secs(SECONDS);
        loop {
            let due = next.map_or(end, |(at, ..)| (Instant::ORIGIN + *at).min(end));
            let left = due.saturating_since(swarm.now());
            let looked = swarm.net.run_until(left, |net| {
                report.steps += 1;
                for (host, peer) in self.peers.iter().enumerate() {
                    while net.poll_event(host).is_some() {}
                    let held =
                        net.machine(host).session().expect("a client").stats().buffered_bytes;
                    // One block of each peer may always be on its way.
                    let blocks = PEERS_MAX as u64 * u64::from(BLOCK_LEN);
                    let max = peer.buffer_bytes_max as u64 + blocks;
                    assert!(held <= max, "{host} holds {held} bytes, {max} at most");
                }
                false
            });
            assert_eq!(looked, Ok(false), "no host spins");
            let Some((_, who, what)) = next else { break };
            touched[*who] |= matches!(what, Event::Damage(_) | Event::Remove);
            what.happen(*who, self.peers.len(), &mut swarm);
            next = events.next();
        }
        judge(&swarm, &touched, report)
    }
}

/// What holds at the end.
fn judge(swarm: &Swarm, touched: &[bool], mut report: Report) -> Report {
    let piece_len = swarm.metainfo().info().layout().piece_len() as usize;
    for (host, touched) in touched.iter().enumerate() {
        let session = swarm.session(host);
        let stats = session.stats();
        report.uploaded_bytes += stats.uploaded_bytes;
        report.received_bytes += stats.downloaded_bytes + stats.wasted_bytes;
        let id = swarm.torrent(host);
        let Some(torrent) = session.torrent(id) else { continue };
        if *touched {
            continue;
        }
        let disk = swarm.disk(host);
        let bits = session.pieces(id).expect("it is there");
        for (piece, expected) in swarm.content().chunks(piece_len).enumerate() {
            if bits[piece / 8] >> (7 - piece % 8) & 1 == 1 {
                let start = piece * piece_len;
                let found = disk.get(start..start + expected.len());
                assert!(found == Some(expected), "{host} has piece {piece} wrong");
            }
        }
        if torrent.state == TorrentState::Seeding {
            report.complete += 1;
            assert!(disk == swarm.content(), "{host} is complete");
        }
    }
    let (up, down) = (report.uploaded_bytes, report.received_bytes);
    assert!(up >= down, "{down} bytes of blocks came, {up} were sent");
    report
}

impl Peer {
    fn join(&self, swarm: &mut Swarm, content: &Bytes) -> usize {
        let config = Config {
            down_bytes_per_s: self.down_bytes_per_s,
            up_bytes_per_s: self.up_bytes_per_s,
            upload_slots: self.upload_slots,
            buffer_bytes_max: self.buffer_bytes_max,
            ..Config::default()
        };
        let mut disk = content.to_vec();
        match self.has {
            Has::Half => {
                let half = disk.len() / 2;
                disk[half..].fill(0);
            }
            Has::Damaged => disk.iter_mut().step_by(30_000).for_each(|byte| *byte ^= 1),
            Has::Nothing | Has::Everything => {}
        }
        let preload = (self.has != Has::Nothing).then_some(&disk[..]);
        let host = swarm.add(preload, config, |_| {});
        let slow = |kind, micros| {
            let even = Cost::micros(1_000, 1_000, 0);
            let profile = Profile::new(u16::MAX, true)
                .with(JobKind::Read, even)
                .with(JobKind::Write, even)
                .with(JobKind::Hash, even);
            profile.with(kind, Cost::micros(micros, micros, 0))
        };
        swarm.net.disk_mut(host).set_profile(match self.disk {
            Speed::Even => slow(JobKind::Hash, 1_000),
            Speed::SlowWrites => slow(JobKind::Write, 1_000_000),
            Speed::SlowHashes => slow(JobKind::Hash, 300_000),
            Speed::SlowReads => slow(JobKind::Read, 100_000),
        });
        host
    }
}

impl Event {
    fn happen(self, host: usize, peers: usize, swarm: &mut Swarm) {
        let id = swarm.torrent(host);
        match self {
            Self::DiskFull(room) => swarm.net.disk_mut(host).set_room(Some(room)),
            Self::DiskHasRoom => {
                swarm.net.disk_mut(host).set_room(None);
                swarm.command(host, Command::Resume(id));
            }
            Self::Damage(every) => {
                let (key, (disk, library)) = (swarm.key(), swarm.net.disk_and_library(host));
                disk.damage(&folder(), &key, library, |bytes| {
                    let some = bytes.iter_mut().skip(7).step_by(usize::from(every));
                    some.for_each(|byte| *byte ^= 0x40);
                });
            }
            Self::Pause => swarm.command(host, Command::Pause(id)),
            Self::Resume => swarm.command(host, Command::Resume(id)),
            Self::Limit(rate) => {
                let limits =
                    Command::SetLimits(RateLimits { down_bytes_per_s: rate, up_bytes_per_s: rate });
                swarm.command(host, limits);
            }
            Self::Introduce => {
                let others: Vec<_> = (0..peers).filter(|other| *other != host).collect();
                swarm.introduce(host, &others);
            }
            Self::Remove => swarm.command(host, Command::Remove(id, RemoveFiles::Delete)),
            Self::ShutDown => swarm.command(host, Command::ShutDown),
        }
    }
}

/// Mostly none; else 10 to 640 kB/s.
fn rate(byte: u8) -> Option<u64> {
    (byte >= 192).then(|| u64::from(byte - 191) * 10_000)
}

/// A small swarm of the bytes' making.
pub fn swarm_scenario(bytes: &[u8]) {
    Scenario::from_bytes(bytes).run();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_bytes_are_a_seeder_and_leechers_that_finish() {
        let leecher = [200, 0, 0, 0, 0, 0, 0];
        let bytes = [&[0, 3, 0, 0, 0, 0, 0, 0, 0][..], &leecher.repeat(4)].concat();
        let scenario = Scenario::from_bytes(&bytes);
        assert_eq!(scenario.peers.len(), PEERS_MAX);
        assert_eq!(scenario.peers[0].has, Has::Everything);
        let report = scenario.run();
        assert_eq!(report.complete, PEERS_MAX, "{report:?}");
        assert!(report.uploaded_bytes > 0);
    }

    #[test]
    fn a_seed_is_the_same_scenario_and_the_same_run_every_time() {
        for seed in 0..8 {
            let scenario = Scenario::from_seed(seed);
            assert_eq!(scenario, Scenario::from_seed(seed));
            assert_eq!(scenario.run(), scenario.run());
        }
    }

    #[test]
    fn seeds_cover_what_there_is() {
        let all: Vec<_> = (0..300).map(Scenario::from_seed).collect();
        let peers = || all.iter().flat_map(|scenario| &scenario.peers);
        for has in [Has::Nothing, Has::Everything, Has::Half, Has::Damaged] {
            assert!(peers().any(|peer| peer.has == has), "{has:?}");
        }
        let events = || all.iter().flat_map(|scenario| &scenario.events);
        assert!(events().any(|(.., what)| *what == Event::Remove));
        assert!(events().any(|(.., what)| *what == Event::ShutDown));
        assert!(events().any(|(.., what)| matches!(what, Event::Damage(_))));
    }
}
