//! Whole sessions on a virtual network: what a client promises, seen from outside.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use teem_core::hash;
use teem_core::ids::{CommandToken, TorrentId};
use teem_core::machine::{JobErrorKind, Location};
use teem_core::metainfo::Metainfo;
use teem_core::metainfo::create::{Content, Draft, Options};
use teem_core::rng::Seed;
use teem_core::session::{
    AddTorrent, Command, Config, Event, RemoveFiles, Session, TorrentSnapshot, TorrentState,
};
use teem_core::time::{Duration, Instant, UnixTime};
use teem_core::torrent::resume::resume_name;
use teem_sim::net::{HostId, Net};

const PORT: u16 = 6881;
const PIECE_LEN: u32 = 64 * 1024;

/// Bytes that differ everywhere, from a number.
fn content(len: usize, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Seed::from_number(number).stream("content", 0).fill(&mut bytes);
    bytes
}

fn torrent(content: &[u8]) -> Arc<Metainfo> {
    let options = Options { piece_len: Some(PIECE_LEN), ..Options::default() };
    let draft = Draft::new("content", Content::File(content.len() as u64), options);
    let hashes: Vec<_> = content.chunks(PIECE_LEN as usize).map(hash::sha1).collect();
    Arc::new(draft.expect("a sound draft").finish(&hashes).expect("a sound torrent"))
}

fn folder() -> Location {
    Location(Bytes::from_static(b"/downloads"))
}

fn state() -> Location {
    Location(Bytes::from_static(b"/state"))
}

fn ip(host: usize) -> IpAddr {
    IpAddr::from([10, 0, (host / 250) as u8, (host % 250 + 1) as u8])
}

fn address(host: usize) -> SocketAddr {
    SocketAddr::new(ip(host), PORT)
}

/// A swarm of sessions, and what each of them told.
struct Swarm {
    net: Net<Session>,
    metainfo: Arc<Metainfo>,
    hosts: Vec<Host>,
}

struct Host {
    id: HostId,
    torrent: TorrentId,
    events: Vec<Event>,
}

impl Swarm {
    fn new(metainfo: Arc<Metainfo>) -> Self {
        Self { net: Net::new(Duration::from_millis(20)), metainfo, hosts: Vec::new() }
    }

    /// A host that listens, with this on its disk.
    fn add(&mut self, preload: Option<&[u8]>, config: Config) -> usize {
        self.add_with(preload, config, |_| {})
    }

    fn add_with(
        &mut self,
        preload: Option<&[u8]>,
        config: Config,
        change: impl FnOnce(&mut AddTorrent),
    ) -> usize {
        let number = self.hosts.len();
        let now = self.net.now();
        let seed = Seed::from_number(number as u64 + 1);
        let session = Session::new(config, seed, now, UnixTime(1_800_000_000));
        let id = self.net.add(ip(number), session);
        if let Some(content) = preload {
            let key = self.key();
            self.net.disk_mut(id).preload(&folder(), &key, content);
        }
        self.net.handle_command(id, Command::Listen(CommandToken(0), address(number)));
        let mut add = AddTorrent::new(Arc::clone(&self.metainfo), folder());
        add.state = Some(state());
        change(&mut add);
        let torrent = self.net.machine_mut(id).add_torrent(now, add).expect("a sound torrent");
        self.hosts.push(Host { id, torrent, events: Vec::new() });
        number
    }

    /// What the torrent's files are locked by.
    fn key(&self) -> String {
        self.metainfo.info().swarm_hash().to_string()
    }

    fn introduce(&mut self, to: usize, whom: &[usize]) {
        let peers = whom.iter().map(|host| address(*host)).collect();
        let (id, torrent) = (self.hosts[to].id, self.hosts[to].torrent);
        self.net.handle_command(id, Command::AddPeers(torrent, peers));
    }

    fn command(&mut self, host: usize, command: Command) {
        self.net.handle_command(self.hosts[host].id, command);
    }

    fn snapshot(&self, host: usize) -> TorrentSnapshot {
        let host = &self.hosts[host];
        self.net.machine(host.id).torrent(host.torrent).expect("it is there")
    }

    fn session(&self, host: usize) -> &Session {
        self.net.machine(self.hosts[host].id)
    }

    fn disk(&self, host: usize) -> &[u8] {
        let disk = self.net.disk(self.hosts[host].id);
        disk.content(&folder(), &self.key()).unwrap_or_default()
    }

    /// Runs until `done`, at most `seconds`; tells whether it is done.
    fn run(&mut self, seconds: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.net.now() + Duration::from_secs(seconds);
        loop {
            for host in &mut self.hosts {
                while let Some(event) = self.net.poll_event(host.id) {
                    host.events.push(event);
                }
            }
            if done(self) {
                return true;
            }
            if self.net.now() > end || !self.net.step().expect("no host spins") {
                return false;
            }
        }
    }

    fn complete(&self, host: usize) -> bool {
        self.snapshot(host).state == TorrentState::Seeding
    }

    fn heard(&self, host: usize, wanted: impl Fn(&Event) -> bool) -> bool {
        self.hosts[host].events.iter().any(wanted)
    }

    fn now(&self) -> Instant {
        self.net.now()
    }
}

#[test]
fn a_leecher_fetches_everything_from_a_seeder() {
    let bytes = content(1_000_000, 1);
    let mut swarm = Swarm::new(torrent(&bytes));
    let seeder = swarm.add(Some(&bytes), Config::default());
    let leecher = swarm.add(None, Config::default());
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(60, |swarm| swarm.complete(leecher)), "{:?}", swarm.snapshot(leecher));
    assert!(swarm.disk(leecher) == bytes);
    let (stats, served) = (swarm.session(leecher).stats(), swarm.session(seeder).stats());
    assert_eq!(stats.downloaded_bytes, bytes.len() as u64);
    assert_eq!(stats.hashed_bytes, bytes.len() as u64);
    assert_eq!(stats.written_bytes, bytes.len() as u64);
    assert_eq!(stats.wasted_bytes, 0);
    assert_eq!(stats.buffered_bytes, 0);
    assert_eq!(served.uploaded_bytes, bytes.len() as u64);
    assert!(swarm.heard(leecher, |event| matches!(event, Event::TorrentFinished(_))));
}

#[test]
fn leechers_that_know_one_another_share_the_load_of_the_seeder() {
    let bytes = content(2_000_000, 2);
    let mut swarm = Swarm::new(torrent(&bytes));
    let seeder =
        swarm.add(Some(&bytes), Config { up_bytes_per_s: Some(400_000), ..Config::default() });
    let leechers: Vec<_> = (0..8).map(|_| swarm.add(None, Config::default())).collect();
    for leecher in &leechers {
        let mut others = leechers.clone();
        others.push(seeder);
        swarm.introduce(*leecher, &others);
    }
    let everybody = |swarm: &Swarm| leechers.iter().all(|leecher| swarm.complete(*leecher));
    assert!(swarm.run(120, everybody));
    for leecher in &leechers {
        assert!(swarm.disk(*leecher) == bytes);
    }
    let uploaded = swarm.session(seeder).stats().uploaded_bytes;
    assert!(uploaded < 4 * bytes.len() as u64, "the seeder sent {uploaded} bytes");
}

#[test]
fn a_peer_that_sends_corrupt_blocks_is_banned_and_an_honest_one_never() {
    for number in 0..5 {
        let bytes = content(1_500_000, 3);
        let mut swarm = Swarm::new(torrent(&bytes));
        let honest = swarm.add(Some(&bytes), Config::default());
        let also_honest = swarm.add(Some(&bytes), Config::default());
        let poisoner = swarm.add(Some(&bytes), Config::default());
        assert!(swarm.run(10, |swarm| (0..3).all(|host| swarm.complete(host))));
        // It was complete when it was checked; what it sends from now on is not.
        let id = swarm.hosts[poisoner].id;
        let key = swarm.key();
        let damaged = swarm.net.disk_mut(id).content_mut(&folder(), &key).expect("preloaded");
        for byte in damaged.iter_mut().skip(number).step_by(5_000) {
            *byte ^= 0xff;
        }
        let leecher = swarm.add(None, Config::default());
        swarm.introduce(leecher, &[poisoner, honest, also_honest]);
        assert!(swarm.run(300, |swarm| swarm.complete(leecher)), "{:?}", swarm.snapshot(leecher));
        assert!(swarm.disk(leecher) == bytes);
        let banned: Vec<IpAddr> = swarm.hosts[leecher]
            .events
            .iter()
            .filter_map(|event| match event {
                Event::PeerBanned(_, ip) => Some(*ip),
                _ => None,
            })
            .collect();
        assert_eq!(banned, [ip(poisoner)]);
        assert!(swarm.heard(leecher, |event| matches!(event, Event::PieceFailed(..))));
    }
}

#[test]
fn what_was_saved_is_not_fetched_or_checked_again() {
    let bytes = content(1_000_000, 4);
    let mut swarm = Swarm::new(torrent(&bytes));
    let seeder = swarm.add(Some(&bytes), Config::default());
    let slow = Config { down_bytes_per_s: Some(200_000), ..Config::default() };
    let leecher = swarm.add(None, slow);
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(60, |swarm| swarm.snapshot(leecher).have_pieces >= 6));
    swarm.command(leecher, Command::ShutDown);
    assert!(swarm.run(10, |swarm| swarm.heard(leecher, |event| matches!(event, Event::ShutDown))));
    let had = swarm.snapshot(leecher).have_pieces;
    assert!((6..15).contains(&had), "{had}");

    let disk = swarm.net.disk(swarm.hosts[leecher].id);
    let name = resume_name(swarm.snapshot(leecher).info_hash);
    let resume = disk.saved(&state(), &name).expect("it was saved").clone();
    let disk = std::mem::take(swarm.net.disk_mut(swarm.hosts[leecher].id));
    let again = swarm.add_with(None, Config::default(), |add| add.resume = Some(resume));
    *swarm.net.disk_mut(swarm.hosts[again].id) = disk;
    swarm.introduce(again, &[seeder]);
    assert!(swarm.run(60, |swarm| swarm.complete(again)));
    let stats = swarm.session(again).stats();
    assert!(swarm.disk(again) == bytes);
    assert_eq!(stats.checked_bytes, 0);
    let missing = bytes.len() as u64 - u64::from(had) * u64::from(PIECE_LEN);
    assert!(stats.downloaded_bytes <= missing, "{} of {missing}", stats.downloaded_bytes);
}

#[test]
fn content_without_resume_data_is_checked_and_only_the_rest_fetched() {
    let bytes = content(1_000_000, 5);
    let mut damaged = bytes.clone();
    damaged[200_000] ^= 1;
    damaged.truncate(700_000);
    let mut swarm = Swarm::new(torrent(&bytes));
    let seeder = swarm.add(Some(&bytes), Config::default());
    let leecher = swarm.add(Some(&damaged), Config::default());
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(60, |swarm| swarm.complete(leecher)));
    assert!(swarm.disk(leecher) == bytes);
    let stats = swarm.session(leecher).stats();
    let pieces_lacking = 16 - (700_000 / u64::from(PIECE_LEN) - 1);
    assert!(stats.downloaded_bytes <= pieces_lacking * u64::from(PIECE_LEN));
}

#[test]
fn a_full_disk_stops_the_torrent_and_it_goes_on_when_there_is_room() {
    let bytes = content(1_000_000, 6);
    let mut swarm = Swarm::new(torrent(&bytes));
    let seeder = swarm.add(Some(&bytes), Config::default());
    let leecher = swarm.add(None, Config::default());
    let id = swarm.hosts[leecher].id;
    swarm.net.disk_mut(id).set_room(Some(400_000));
    swarm.introduce(leecher, &[seeder]);
    let failed = |swarm: &Swarm| {
        swarm.heard(leecher, |event| {
            matches!(event, Event::TorrentFailed(_, error) if error.kind == JobErrorKind::Full)
        })
    };
    assert!(swarm.run(60, failed), "{:?}", swarm.snapshot(leecher));
    assert!(matches!(swarm.snapshot(leecher).state, TorrentState::Failed(_)));
    let had = swarm.snapshot(leecher).have_pieces;
    assert!(had > 0);
    swarm.net.disk_mut(id).set_room(None);
    swarm.command(leecher, Command::Resume(swarm.hosts[leecher].torrent));
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(120, |swarm| swarm.complete(leecher)), "{:?}", swarm.snapshot(leecher));
    assert!(swarm.disk(leecher) == bytes);
}

#[test]
fn rate_limits_hold_each_way() {
    for limit_seeder in [false, true] {
        let bytes = content(1_000_000, 7);
        let mut swarm = Swarm::new(torrent(&bytes));
        let limited = |yes: bool, down: bool| Config {
            down_bytes_per_s: (yes && down).then_some(100_000),
            up_bytes_per_s: (yes && !down).then_some(100_000),
            ..Config::default()
        };
        let seeder = swarm.add(Some(&bytes), limited(limit_seeder, false));
        let leecher = swarm.add(None, limited(!limit_seeder, true));
        swarm.introduce(leecher, &[seeder]);
        let start = swarm.now();
        assert!(swarm.run(60, |swarm| swarm.complete(leecher)), "{:?}", swarm.snapshot(leecher));
        let took = swarm.now().saturating_since(start).as_secs_f64();
        assert!((9.0..12.0).contains(&took), "{took} s");
    }
}

#[test]
fn a_session_that_meets_itself_lets_go() {
    let bytes = content(200_000, 8);
    let mut swarm = Swarm::new(torrent(&bytes));
    let alone = swarm.add(None, Config::default());
    swarm.introduce(alone, &[alone]);
    swarm.run(30, |_| false);
    let selves =
        swarm.hosts[alone].events.iter().filter(|event| matches!(event, Event::PeerClosed { .. }));
    assert!(selves.count() <= 2);
    assert_eq!(swarm.snapshot(alone).peers, 0);
    assert_eq!(swarm.session(alone).stats().peers, 0);
}

#[test]
fn two_that_connect_to_each_other_at_once_keep_one_connection() {
    let bytes = content(3_000_000, 9);
    let mut swarm = Swarm::new(torrent(&bytes));
    let slow = Config { up_bytes_per_s: Some(50_000), ..Config::default() };
    let (half, rest) = bytes.split_at(25 * PIECE_LEN as usize);
    let mut tail = vec![0; half.len()];
    tail.extend_from_slice(rest);
    let one = swarm.add(Some(half), slow.clone());
    let other = swarm.add(Some(&tail), slow);
    assert!(swarm.run(10, |swarm| swarm.snapshot(other).state == TorrentState::Downloading));
    swarm.introduce(one, &[other]);
    swarm.introduce(other, &[one]);
    swarm.run(5, |_| false);
    assert_eq!((swarm.snapshot(one).peers, swarm.snapshot(other).peers), (1, 1));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let bytes = content(1_000_000, 10);
        let mut swarm = Swarm::new(torrent(&bytes));
        let seeder = swarm.add(Some(&bytes), Config::default());
        let leechers: Vec<_> = (0..4).map(|_| swarm.add(None, Config::default())).collect();
        for leecher in &leechers {
            swarm.introduce(*leecher, &[seeder, leechers[0]]);
        }
        assert!(swarm.run(60, |swarm| leechers.iter().all(|leecher| swarm.complete(*leecher))));
        let told: Vec<String> =
            swarm.hosts.iter().map(|host| format!("{:?}", host.events)).collect();
        (swarm.now(), told)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_paused_torrent_lets_go_of_everything_and_goes_on_where_it_stopped() {
    let bytes = content(1_000_000, 11);
    let mut swarm = Swarm::new(torrent(&bytes));
    let seeder = swarm.add(Some(&bytes), Config::default());
    let slow = Config { down_bytes_per_s: Some(200_000), ..Config::default() };
    let leecher = swarm.add(None, slow);
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(60, |swarm| swarm.snapshot(leecher).have_pieces >= 4));
    let id = swarm.hosts[leecher].torrent;
    swarm.command(leecher, Command::Pause(id));
    let paused = |swarm: &Swarm| swarm.snapshot(leecher).state == TorrentState::Paused;
    assert!(swarm.run(10, paused));
    let had = swarm.snapshot(leecher).have_pieces;
    assert_eq!(swarm.session(leecher).stats().peers, 0);
    assert_eq!(swarm.session(leecher).stats().buffered_bytes, 0);
    swarm.run(30, |_| false);
    assert_eq!(swarm.snapshot(leecher).have_pieces, had);
    swarm.command(leecher, Command::Resume(id));
    assert!(swarm.run(120, |swarm| swarm.complete(leecher)), "{:?}", swarm.snapshot(leecher));
    assert!(swarm.disk(leecher) == bytes);
    let refetched = swarm.session(leecher).stats().downloaded_bytes - bytes.len() as u64;
    assert!(refetched <= 20 * 16 * 1024, "{refetched} bytes came twice");
}

#[test]
fn a_removed_torrent_takes_its_files_along_only_if_asked_to() {
    for files in [RemoveFiles::Keep, RemoveFiles::Delete] {
        let bytes = content(300_000, 12);
        let mut swarm = Swarm::new(torrent(&bytes));
        let host = swarm.add(Some(&bytes), Config::default());
        assert!(swarm.run(10, |swarm| swarm.complete(host)));
        swarm.command(host, Command::Remove(swarm.hosts[host].torrent, files));
        let removed = |event: &Event| matches!(event, Event::TorrentRemoved(_));
        assert!(swarm.run(10, |swarm| swarm.heard(host, removed)));
        assert!(swarm.session(host).torrents().next().is_none());
        assert_eq!(swarm.disk(host).is_empty(), files == RemoveFiles::Delete);
        // It can be taken on again.
        let add = AddTorrent::new(Arc::clone(&swarm.metainfo), folder());
        let (id, now) = (swarm.hosts[host].id, swarm.now());
        swarm.net.machine_mut(id).add_torrent(now, add).expect("it is gone");
    }
}

#[test]
fn a_seeder_connects_to_leechers_that_it_hears_of() {
    let bytes = content(300_000, 13);
    let mut swarm = Swarm::new(torrent(&bytes));
    let leecher = swarm.add(None, Config::default());
    let seeder = swarm.add(Some(&bytes), Config::default());
    swarm.introduce(seeder, &[leecher]);
    assert!(swarm.run(30, |swarm| swarm.complete(leecher)), "{:?}", swarm.snapshot(leecher));
    // Two that are complete have nothing to say to each other, and do not try again.
    swarm.run(600, |_| false);
    let tries = swarm.hosts[seeder].events.iter();
    assert!(tries.filter(|event| matches!(event, Event::PeerConnected(..))).count() <= 2);
}

#[test]
fn a_stop_before_everything_was_checked_claims_nothing_and_loses_nothing() {
    let bytes = content(1_000_000, 14);
    let mut swarm = Swarm::new(torrent(&bytes));
    let first = swarm.add(Some(&bytes), Config::default());
    assert!(swarm.run(10, |swarm| swarm.complete(first)));
    let down = |event: &Event| matches!(event, Event::ShutDown);
    swarm.command(first, Command::ShutDown);
    assert!(swarm.run(10, |swarm| swarm.heard(first, down)));
    let name = resume_name(swarm.snapshot(first).info_hash);
    let saved = |swarm: &Swarm, host: usize| {
        swarm.net.disk(swarm.hosts[host].id).saved(&state(), &name).expect("it was saved").clone()
    };
    let before = saved(&swarm, first);
    let disk = std::mem::take(swarm.net.disk_mut(swarm.hosts[first].id));
    let resume = before.clone();
    let second = swarm.add_with(None, Config::default(), |add| add.resume = Some(resume));
    *swarm.net.disk_mut(swarm.hosts[second].id) = disk;
    swarm.command(second, Command::ShutDown);
    assert!(swarm.run(10, |swarm| swarm.heard(second, down)));
    assert_eq!(saved(&swarm, second), before);
}

#[test]
fn a_pause_leaves_no_place_taken() {
    let bytes = content(600_000, 15);
    let mut swarm = Swarm::new(torrent(&bytes));
    let seeders: Vec<_> = (0..3).map(|_| swarm.add(Some(&bytes), Config::default())).collect();
    let few = Config { torrent_peers_max: 3, down_bytes_per_s: Some(30_000), ..Config::default() };
    let leecher = swarm.add(None, few);
    let id = swarm.hosts[leecher].torrent;
    swarm.introduce(leecher, &seeders);
    for _ in 0..3 {
        assert!(swarm.run(120, |swarm| swarm.snapshot(leecher).peers == 3));
        swarm.command(leecher, Command::Pause(id));
        let paused = |swarm: &Swarm| swarm.snapshot(leecher).state == TorrentState::Paused;
        assert!(swarm.run(10, paused));
        swarm.command(leecher, Command::Resume(id));
    }
    assert!(swarm.run(300, |swarm| swarm.complete(leecher)), "{:?}", swarm.snapshot(leecher));
}
