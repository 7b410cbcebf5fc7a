//! Pausing and starting, of torrents and of the whole session; and storage that fails.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use teem_core::ids::{CommandToken, TorrentId};
use teem_core::machine::JobError;
use teem_core::rng::Seed;
use teem_core::session::{AddTorrent, Command, Config, Event, IpFilter, Session, TorrentState};
use teem_core::time::Duration;
use teem_sim::net::{HostId, WALL};
use teem_sim::swarm::{PORT, Swarm, address, folder, state};

use crate::scripted::{Answer, ScriptedTracker, asked, scripted};
use crate::tampered::{DETAIL, Tampered};
use crate::trackers::{at, ip, pass, swarm, torrent, url};

/// A client that has nothing, and three others that it was told of.
fn with_peers(config: Config) -> (Swarm, HostId, [HostId; 3]) {
    let mut swarm = swarm(&[]);
    let client = swarm.leecher(config);
    let peers = [(); 3].map(|()| swarm.leecher(Config::default()));
    swarm.introduce(client, &peers);
    (swarm, client, peers)
}

fn accepted(swarm: &Swarm, peers: [HostId; 3]) -> [u64; 3] {
    peers.map(|peer| swarm.session(peer).stats().peers_accepted)
}

fn connected(swarm: &Swarm, peers: [HostId; 3]) -> [usize; 3] {
    peers.map(|peer| swarm.snapshot(peer).peers)
}

fn pauses(swarm: &Swarm, client: HostId) -> usize {
    swarm.count(client, |event| matches!(event, Event::TorrentPaused(_)))
}

fn starts(swarm: &Swarm, client: HostId) -> usize {
    swarm.count(client, |event| matches!(event, Event::TorrentReady(_)))
}

fn pause(swarm: &mut Swarm, client: HostId) {
    swarm.command(client, Command::Pause(swarm.torrent(client)));
}

/// A pause disconnects everybody, and is told once.
fn disconnects(whole_session: bool) {
    let (mut swarm, client, peers) = with_peers(Config::default());
    pass(&mut swarm, 5);
    assert_eq!(connected(&swarm, peers), [1; 3]);
    if whole_session {
        swarm.command(client, Command::PauseSession);
    } else {
        pause(&mut swarm, client);
    }
    pass(&mut swarm, 5);
    assert_eq!(connected(&swarm, peers), [0; 3]);
    let shown = swarm.snapshot(client);
    assert_eq!((shown.state, shown.held), (TorrentState::Paused, whole_session));
    assert_eq!(swarm.session(client).is_paused(), whole_session);
    assert_eq!(swarm.session(client).stats().peers, 0);
}

#[test]
fn torrent_paused_disconnect() {
    disconnects(false);
}

#[test]
fn session_paused_disconnect() {
    disconnects(true);
}

#[test]
fn paused_session_add_torrent() {
    let (mut swarm, client, peers) = with_peers(Config { paused: true, ..Config::default() });
    pass(&mut swarm, 5);
    assert_eq!(accepted(&swarm, peers), [0; 3]);
    let shown = swarm.snapshot(client);
    assert_eq!((shown.state, shown.held, shown.known_peers), (TorrentState::Paused, true, 3));
}

#[test]
fn paused_torrent_add_peers() {
    let (mut swarm, client, peers) = with_peers(Config::default());
    pause(&mut swarm, client);
    swarm.introduce(client, &peers);
    pass(&mut swarm, 5);
    assert_eq!(accepted(&swarm, peers), [0; 3]);
    let shown = swarm.snapshot(client);
    assert_eq!((shown.state, shown.held), (TorrentState::Paused, false));
}

#[test]
fn torrent_paused_alert() {
    let (mut swarm, client, _) = with_peers(Config::default());
    pass(&mut swarm, 5);
    pause(&mut swarm, client);
    pause(&mut swarm, client);
    pass(&mut swarm, 5);
    pause(&mut swarm, client);
    pass(&mut swarm, 5);
    assert_eq!((pauses(&swarm, client), starts(&swarm, client)), (1, 1));
}

#[test]
fn session_paused_alert() {
    let (mut swarm, client, _) = with_peers(Config::default());
    pass(&mut swarm, 5);
    swarm.command(client, Command::PauseSession);
    swarm.command(client, Command::PauseSession);
    pass(&mut swarm, 5);
    assert_eq!((pauses(&swarm, client), starts(&swarm, client)), (1, 1));
}

#[test]
fn session_pause_resume() {
    let (mut swarm, client, peers) = with_peers(Config::default());
    pass(&mut swarm, 5);
    swarm.command(client, Command::PauseSession);
    pass(&mut swarm, 5);
    swarm.command(client, Command::ResumeSession);
    pass(&mut swarm, 120);
    assert_eq!((pauses(&swarm, client), starts(&swarm, client)), (1, 2));
    assert_eq!(connected(&swarm, peers), [1; 3]);
    assert!(!swarm.snapshot(client).held);
}

#[test]
fn session_pause_resume_connect() {
    let (mut swarm, client, peers) = with_peers(Config { paused: true, ..Config::default() });
    pass(&mut swarm, 5);
    assert_eq!(accepted(&swarm, peers), [0; 3]);
    swarm.command(client, Command::ResumeSession);
    pass(&mut swarm, 5);
    assert_eq!(accepted(&swarm, peers), [1; 3]);
}

#[test]
fn construct_paused_session() {
    let new = |paused| {
        let config = Config { paused, ..Config::default() };
        Session::new(config, Seed::from_number(1), teem_core::time::Instant::ORIGIN, WALL)
    };
    assert!(new(true).is_paused() && !new(false).is_paused());
}

#[test]
fn a_resume_during_a_pause_is_kept_and_a_pause_after_it_counts() {
    let (mut swarm, client, peers) = with_peers(Config::default());
    let id = swarm.torrent(client);
    pass(&mut swarm, 5);
    pause(&mut swarm, client);
    swarm.command(client, Command::Resume(id));
    pass(&mut swarm, 120);
    assert_eq!((pauses(&swarm, client), starts(&swarm, client)), (1, 2));
    assert_eq!(connected(&swarm, peers), [1; 3]);
    pause(&mut swarm, client);
    swarm.command(client, Command::Resume(id));
    pause(&mut swarm, client);
    pass(&mut swarm, 120);
    assert_eq!(swarm.snapshot(client).state, TorrentState::Paused);
    assert_eq!((pauses(&swarm, client), starts(&swarm, client)), (2, 2));
}

#[test]
fn what_was_paused_by_itself_stays_so_when_the_session_goes_on() {
    let (mut swarm, client, _) = with_peers(Config::default());
    let id = swarm.torrent(client);
    pass(&mut swarm, 5);
    swarm.command(client, Command::PauseSession);
    pass(&mut swarm, 5);
    pause(&mut swarm, client);
    swarm.command(client, Command::ResumeSession);
    pass(&mut swarm, 5);
    assert_eq!((pauses(&swarm, client), starts(&swarm, client)), (1, 1));
    // And the other way round: who is to run waits for the session.
    swarm.command(client, Command::PauseSession);
    swarm.command(client, Command::Resume(id));
    pass(&mut swarm, 5);
    assert_eq!((swarm.snapshot(client).state, starts(&swarm, client)), (TorrentState::Paused, 1));
    swarm.command(client, Command::ResumeSession);
    pass(&mut swarm, 5);
    assert_eq!(
        (swarm.snapshot(client).state, starts(&swarm, client)),
        (TorrentState::Downloading, 2)
    );
}

/// A client with ten torrents more, and a tracker that they all have.
fn ten_torrents(paused: bool) -> (Swarm, HostId, Vec<TorrentId>, HostId) {
    let mut swarm = swarm(&[]);
    let client = swarm.bare(Config::default());
    let tracker = ScriptedTracker::http(at(1)).on("/announce", [Answer::interval(1_800)]);
    let tracker = tracker.join(&mut swarm, ip(1));
    let torrents = (0..10).map(|number| {
        let metainfo = torrent(number, false, vec![vec![url(1)]]);
        let key = metainfo.info().swarm_hash().to_string();
        let mut add = AddTorrent::new(metainfo, folder());
        add.paused = paused;
        let (disk, library) = swarm.net.disk_and_library(client);
        disk.preload(&folder(), &key, &crate::trackers::content(number), library);
        let now = swarm.now();
        let session = swarm.net.machine_mut(client).session_mut().expect("a client");
        session.add_torrent(now, add).expect("a sound torrent")
    });
    let torrents = torrents.collect();
    (swarm, client, torrents, tracker)
}

fn states(swarm: &Swarm, client: HostId) -> Vec<TorrentState> {
    swarm.session(client).torrents().map(|torrent| torrent.state).collect()
}

#[test]
fn force_stopped_download() {
    let (mut swarm, client, torrents, tracker) = ten_torrents(true);
    pass(&mut swarm, 3_600);
    assert_eq!(states(&swarm, client), vec![TorrentState::Paused; 10]);
    assert!(asked(&swarm, tracker).is_empty());
    swarm.command(client, Command::Resume(torrents[3]));
    pass(&mut swarm, 3_600);
    let seeding = states(&swarm, client).iter().position(|state| *state == TorrentState::Seeding);
    assert_eq!(seeding, Some(3));
    assert_eq!(states(&swarm, client).iter().filter(|s| **s == TorrentState::Paused).count(), 9);
}

#[test]
fn force_started() {
    let (mut swarm, client, torrents, tracker) = ten_torrents(false);
    pass(&mut swarm, 10);
    assert_eq!(states(&swarm, client), vec![TorrentState::Seeding; 10]);
    pass(&mut swarm, 1_000);
    assert_eq!(states(&swarm, client), vec![TorrentState::Seeding; 10]);
    assert_eq!(asked(&swarm, tracker).len(), torrents.len());
}

#[test]
fn paused_checking() {
    let (mut swarm, client, _, _) = ten_torrents(true);
    pass(&mut swarm, 600);
    assert_eq!(states(&swarm, client), vec![TorrentState::Paused; 10]);
    assert_eq!(swarm.session(client).stats().checked_bytes, 0);
    assert!(swarm.session(client).torrents().all(|torrent| torrent.have_pieces == 0));
}

/// Blocks all but the last two of five hosts.
fn block_three(swarm: &mut Swarm, client: HostId, peers: &[HostId]) {
    let range = teem_sim::swarm::ip(peers[0])..=teem_sim::swarm::ip(peers[2]);
    swarm.command(client, Command::SetIpFilter(IpFilter::blocking([range])));
}

/// A client that hears of five peers; whom of them it called.
fn called(filtered: bool, filter_first: bool) -> Vec<bool> {
    let mut swarm = swarm(&[]);
    let peers = [(); 5].map(|()| swarm.leecher(Config::default()));
    let client = swarm.add(None, Config::default(), |add| add.filtered = filtered);
    if filter_first {
        block_three(&mut swarm, client, &peers);
        pass(&mut swarm, 5);
    } else {
        pass(&mut swarm, 5);
        block_three(&mut swarm, client, &peers);
    }
    swarm.introduce(client, &peers);
    pass(&mut swarm, 60);
    peers.map(|peer| swarm.session(peer).stats().peers_accepted == 1).to_vec()
}

#[test]
fn apply_ip_filter() {
    assert_eq!(called(true, true), [false, false, false, true, true]);
}

#[test]
fn update_ip_filter() {
    assert_eq!(called(true, false), [false, false, false, true, true]);
    // Those who are there already are let go, and do not come back until the filter is lifted.
    let mut swarm = swarm(&[]);
    let peers = [(); 5].map(|()| swarm.leecher(Config::default()));
    let client = swarm.leecher(Config::default());
    swarm.introduce(client, &peers[..4]);
    pass(&mut swarm, 5);
    let connected = |swarm: &Swarm| peers.map(|peer| swarm.snapshot(peer).peers);
    assert_eq!(connected(&swarm), [1, 1, 1, 1, 0]);
    block_three(&mut swarm, client, &peers);
    pass(&mut swarm, 300);
    assert_eq!(connected(&swarm), [0, 0, 0, 1, 0]);
    for peer in peers {
        swarm.introduce(peer, &[client]);
    }
    pass(&mut swarm, 300);
    assert_eq!(connected(&swarm), [0, 0, 0, 1, 1]);
    swarm.command(client, Command::SetIpFilter(IpFilter::new()));
    swarm.introduce(client, &peers);
    pass(&mut swarm, 300);
    assert_eq!(connected(&swarm), [1; 5]);
}

#[test]
fn apply_ip_filter_to_torrent() {
    assert_eq!(called(false, true), [true; 5]);
}

#[test]
fn ip_filter_trackers() {
    let urls: Vec<String> = (0..5).map(url).collect();
    let tiers: Vec<[&str; 1]> = urls.iter().map(|url| [url.as_str()]).collect();
    let tiers: Vec<&[&str]> = tiers.iter().map(|tier| &tier[..]).collect();
    let mut swarm = swarm(&tiers);
    let config = Config { announce_to_all_tiers: true, ..Config::default() };
    let client = swarm.seeder(config);
    let trackers = [0, 1, 2, 3, 4].map(|number| {
        let tracker = ScriptedTracker::http(at(number)).on("/announce", [Answer::interval(1_800)]);
        tracker.join(&mut swarm, ip(number))
    });
    let filter = IpFilter::blocking([ip(0)..=ip(2)]);
    swarm.command(client, Command::SetIpFilter(filter));
    pass(&mut swarm, 60);
    let counts = trackers.map(|tracker| scripted(&swarm, tracker).accepted);
    assert_eq!(counts, [0, 0, 0, 1, 1]);
}

/// What a failed job may lead to, and nothing else.
fn is_expected(event: &Event) -> bool {
    let ours = |error: &JobError| &*error.detail == DETAIL;
    match event {
        Event::TorrentFailed(_, error) | Event::SaveFailed(_, error) => ours(error),
        Event::AddFailed(..)
        | Event::ListenFailed(..)
        | Event::PieceFailed(..)
        | Event::PeerBanned(..) => false,
        _ => true,
    }
}

/// A short life of a client, from nothing (or from everything) to shut down, in which the job of
/// that number fails. What that job was; none if there were not so many.
fn life_with_a_failure(complete: bool, number: u64) -> Option<&'static str> {
    let mut swarm = swarm(&[]);
    let seeder = swarm.seeder(Config::default());
    let leecher = swarm.leecher(Config::default());
    let own = SocketAddr::new(IpAddr::from([203, 0, 113, 50]), PORT);
    let client = Tampered::join(&mut swarm, own, Config::default());
    let tracker = ScriptedTracker::http(at(1)).on("/announce", [Answer::interval(1_800)]);
    tracker.join(&mut swarm, ip(1));
    let (content, now) = (swarm.content().clone(), swarm.now());
    swarm.net.names_mut().add("tracker.example", [ip(1)]);
    if complete {
        swarm.preload(client, &content);
    }
    let mut add = AddTorrent::new(Arc::clone(swarm.metainfo()), folder());
    add.state = Some(state());
    add.trackers = vec!["http://tracker.example:8080/announce".into()];
    add.peers = vec![address(seeder)];
    Tampered::of_mut(&mut swarm, client).fail = Some(number);
    Tampered::command(&mut swarm, client, Command::Listen(CommandToken(0), own));
    let tampered = Tampered::of_mut(&mut swarm, client);
    let id = tampered.session.add_torrent(now, add).expect("a sound torrent");
    let told = [own, address(seeder)].to_vec();
    swarm.command(leecher, Command::AddPeers(swarm.torrent(leecher), told));
    let of = |swarm: &Swarm| Tampered::of(swarm, client).session.torrent(id).expect("it is there");
    for _ in 0..2 {
        let limit = Duration::from_secs(200);
        swarm.net.run_until(limit, |_| false).expect("no host spins");
        if matches!(of(&swarm).state, TorrentState::Failed(_)) {
            Tampered::command(&mut swarm, client, Command::Resume(id));
        }
    }
    assert_eq!(of(&swarm).state, TorrentState::Seeding, "after job {number}");
    assert!(swarm.is_complete(leecher), "after job {number}");
    assert!(swarm.disk(client) == content);
    Tampered::command(&mut swarm, client, Command::ShutDown);
    swarm.net.run_until(Duration::from_mins(1), |_| false).expect("no host spins");
    let tampered = Tampered::of(&swarm, client);
    let down = |event: &Event| matches!(event, Event::ShutDown);
    assert_eq!(tampered.events.iter().filter(|event| down(event)).count(), 1, "job {number}");
    let unexpected = tampered.events.iter().find(|event| !is_expected(event));
    assert!(unexpected.is_none(), "{unexpected:?} after job {number}");
    assert_eq!(tampered.session.stats().buffered_bytes, 0);
    assert_eq!(tampered.failed.is_some(), number < tampered.jobs);
    tampered.failed
}

#[test]
fn error_handling() {
    let mut kinds = BTreeSet::new();
    for complete in [false, true] {
        let mut number = 0;
        while let Some(kind) = life_with_a_failure(complete, number) {
            kinds.insert(kind);
            number += 1;
            assert!(number < 200, "a short life");
        }
        assert!(number > 10, "{number} jobs");
    }
    let all = ["close", "flush", "hash", "open", "read", "resolve", "save", "write"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
}
