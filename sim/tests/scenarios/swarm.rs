//! Whole sessions on a virtual network: what a client promises, seen from outside.

use std::sync::Arc;

use teem_core::machine::JobErrorKind;
use teem_core::session::{AddTorrent, Command, Config, Event, RemoveFiles, TorrentState, WaitsFor};
use teem_core::torrent::resume::resume_name;
use teem_sim::swarm::{Swarm, folder, ip, state};

use crate::stage::banned;

const PIECE_LEN: u32 = 64 * 1024;

#[test]
fn a_leecher_fetches_everything_from_a_seeder() {
    let mut swarm = Swarm::new(1_000_000, PIECE_LEN, 1);
    let bytes = swarm.content().clone();
    let seeder = swarm.seeder(Config::default());
    let leecher = swarm.leecher(Config::default());
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(60, |swarm| swarm.is_complete(leecher)), "{:?}", swarm.snapshot(leecher));
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
    let mut swarm = Swarm::new(2_000_000, PIECE_LEN, 2);
    let bytes = swarm.content().clone();
    let seeder = swarm.seeder(Config { up_bytes_per_s: Some(400_000), ..Config::default() });
    let leechers: Vec<_> = (0..8).map(|_| swarm.leecher(Config::default())).collect();
    for leecher in &leechers {
        let mut others = leechers.clone();
        others.push(seeder);
        swarm.introduce(*leecher, &others);
    }
    let everybody = |swarm: &Swarm| leechers.iter().all(|leecher| swarm.is_complete(*leecher));
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
        let mut swarm = Swarm::new(1_500_000, PIECE_LEN, 3);
        let bytes = swarm.content().clone();
        let honest = swarm.seeder(Config::default());
        let also_honest = swarm.seeder(Config::default());
        let poisoner = swarm.seeder(Config::default());
        assert!(swarm.run(10, |swarm| (0..3).all(|host| swarm.is_complete(host))));
        // It was complete when it was checked; what it sends from now on is not.
        swarm.damage(poisoner, |bytes| {
            for byte in bytes.iter_mut().skip(number).step_by(5_000) {
                *byte ^= 0xff;
            }
        });
        let leecher = swarm.leecher(Config::default());
        swarm.introduce(leecher, &[poisoner, honest, also_honest]);
        assert!(
            swarm.run(300, |swarm| swarm.is_complete(leecher)),
            "{:?}",
            swarm.snapshot(leecher)
        );
        assert!(swarm.disk(leecher) == bytes);
        assert_eq!(banned(&swarm, leecher), [ip(poisoner)]);
        assert!(swarm.heard(leecher, |event| matches!(event, Event::PieceFailed(..))));
    }
}

#[test]
fn what_was_saved_is_not_fetched_or_checked_again() {
    let mut swarm = Swarm::new(1_000_000, PIECE_LEN, 4);
    let bytes = swarm.content().clone();
    let seeder = swarm.seeder(Config::default());
    let slow = Config { down_bytes_per_s: Some(200_000), ..Config::default() };
    let leecher = swarm.leecher(slow);
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(60, |swarm| swarm.snapshot(leecher).have_pieces >= 6));
    swarm.command(leecher, Command::ShutDown);
    assert!(swarm.run(10, |swarm| swarm.heard(leecher, |event| matches!(event, Event::ShutDown))));
    let had = swarm.snapshot(leecher).have_pieces;
    assert!((6..15).contains(&had), "{had}");

    let disk = swarm.net.disk(leecher);
    let name = resume_name(swarm.snapshot(leecher).info_hash);
    let resume = disk.saved(&state(), &name).expect("it was saved").clone();
    let again = swarm.add(None, Config::default(), |add| add.resume = Some(resume));
    swarm.net.swap_disks(leecher, again);
    swarm.introduce(again, &[seeder]);
    assert!(swarm.run(60, |swarm| swarm.is_complete(again)));
    let stats = swarm.session(again).stats();
    assert!(swarm.disk(again) == bytes);
    assert_eq!(stats.checked_bytes, 0);
    let missing = bytes.len() as u64 - u64::from(had) * u64::from(PIECE_LEN);
    assert!(stats.downloaded_bytes <= missing, "{} of {missing}", stats.downloaded_bytes);
}

#[test]
fn content_without_resume_data_is_checked_and_only_the_rest_fetched() {
    let mut swarm = Swarm::new(1_000_000, PIECE_LEN, 5);
    let bytes = swarm.content().clone();
    let mut damaged = bytes.to_vec();
    damaged[200_000] ^= 1;
    damaged.truncate(700_000);
    let seeder = swarm.seeder(Config::default());
    let leecher = swarm.add(Some(&damaged), Config::default(), |_| {});
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(60, |swarm| swarm.is_complete(leecher)));
    assert!(swarm.disk(leecher) == bytes);
    let stats = swarm.session(leecher).stats();
    let pieces_lacking = 16 - (700_000 / u64::from(PIECE_LEN) - 1);
    assert!(stats.downloaded_bytes <= pieces_lacking * u64::from(PIECE_LEN));
}

#[test]
fn a_full_disk_stops_fetching_and_not_serving_and_it_goes_on_when_there_is_room() {
    let mut swarm = Swarm::new(1_000_000, PIECE_LEN, 6);
    let bytes = swarm.content().clone();
    let seeder = swarm.seeder(Config::default());
    let slow = Config { down_bytes_per_s: Some(100_000), ..Config::default() };
    let leecher = swarm.leecher(slow);
    let id = leecher;
    swarm.net.disk_mut(id).set_room(Some(400_000));
    swarm.introduce(leecher, &[seeder]);
    let full = |event: &Event| matches!(event, Event::DiskFull(_, error) if error.kind == JobErrorKind::Full);
    let is_full = |swarm: &Swarm| swarm.snapshot(leecher).waits_for == WaitsFor::Room;
    assert!(swarm.run(60, is_full), "{:?}", swarm.snapshot(leecher));
    swarm.run(600, |_| false);
    let had = swarm.snapshot(leecher);
    assert!(had.have_pieces > 0);
    assert_eq!((had.state, had.waits_for), (TorrentState::Downloading, WaitsFor::Room));
    assert_eq!(swarm.count(leecher, full), 1, "told once");
    let received = swarm.session(leecher).stats().downloaded_bytes;
    assert!(received < 1_000_000, "{received}: nothing is fetched in vain");

    let other = swarm.leecher(Config::default());
    swarm.introduce(other, &[leecher]);
    let served = |swarm: &Swarm| swarm.snapshot(other).have_pieces == had.have_pieces;
    assert!(swarm.run(60, served), "{:?}", swarm.snapshot(other));

    swarm.net.disk_mut(id).set_room(None);
    assert!(swarm.run(150, |swarm| swarm.is_complete(leecher)), "{:?}", swarm.snapshot(leecher));
    assert!(swarm.heard(leecher, |event| matches!(event, Event::DiskHasRoom(_))));
    assert!(swarm.disk(leecher) == bytes);
}

#[test]
fn rate_limits_hold_each_way() {
    for limit_seeder in [false, true] {
        let mut swarm = Swarm::new(1_000_000, PIECE_LEN, 7);
        let limited = |yes: bool, down: bool| Config {
            down_bytes_per_s: (yes && down).then_some(100_000),
            up_bytes_per_s: (yes && !down).then_some(100_000),
            ..Config::default()
        };
        let seeder = swarm.seeder(limited(limit_seeder, false));
        let leecher = swarm.leecher(limited(!limit_seeder, true));
        swarm.introduce(leecher, &[seeder]);
        let start = swarm.now();
        assert!(swarm.run(60, |swarm| swarm.is_complete(leecher)), "{:?}", swarm.snapshot(leecher));
        let took = swarm.now().saturating_since(start).as_secs_f64();
        assert!((9.0..12.0).contains(&took), "{took} s");
    }
}

#[test]
fn a_session_that_meets_itself_lets_go() {
    let mut swarm = Swarm::new(200_000, PIECE_LEN, 8);
    let alone = swarm.leecher(Config::default());
    swarm.introduce(alone, &[alone]);
    swarm.run(30, |_| false);
    let selves =
        swarm.events(alone).iter().filter(|event| matches!(event, Event::PeerClosed { .. }));
    assert!(selves.count() <= 2);
    assert_eq!(swarm.snapshot(alone).peers, 0);
    assert_eq!(swarm.session(alone).stats().peers, 0);
}

#[test]
fn two_that_connect_to_each_other_at_once_keep_one_connection() {
    let mut swarm = Swarm::new(3_000_000, PIECE_LEN, 9);
    let bytes = swarm.content().clone();
    let slow = Config { up_bytes_per_s: Some(50_000), ..Config::default() };
    let (half, rest) = bytes.split_at(25 * PIECE_LEN as usize);
    let mut tail = vec![0; half.len()];
    tail.extend_from_slice(rest);
    let one = swarm.add(Some(half), slow.clone(), |_| {});
    let other = swarm.add(Some(&tail), slow, |_| {});
    assert!(swarm.run(10, |swarm| swarm.snapshot(other).state == TorrentState::Downloading));
    swarm.introduce(one, &[other]);
    swarm.introduce(other, &[one]);
    swarm.run(5, |_| false);
    assert_eq!((swarm.snapshot(one).peers, swarm.snapshot(other).peers), (1, 1));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut swarm = Swarm::new(1_000_000, PIECE_LEN, 10);
        let seeder = swarm.seeder(Config::default());
        let leechers: Vec<_> = (0..4).map(|_| swarm.leecher(Config::default())).collect();
        for leecher in &leechers {
            swarm.introduce(*leecher, &[seeder, leechers[0]]);
        }
        assert!(swarm.run(60, |swarm| leechers.iter().all(|leecher| swarm.is_complete(*leecher))));
        let told: Vec<String> = (0..5).map(|host| format!("{:?}", swarm.events(host))).collect();
        (swarm.now(), told)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_paused_torrent_lets_go_of_everything_and_goes_on_where_it_stopped() {
    let mut swarm = Swarm::new(1_000_000, PIECE_LEN, 11);
    let bytes = swarm.content().clone();
    let seeder = swarm.seeder(Config::default());
    let slow = Config { down_bytes_per_s: Some(200_000), ..Config::default() };
    let leecher = swarm.leecher(slow);
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(60, |swarm| swarm.snapshot(leecher).have_pieces >= 4));
    let id = swarm.torrent(leecher);
    swarm.command(leecher, Command::Pause(id));
    let paused = |swarm: &Swarm| swarm.snapshot(leecher).state == TorrentState::Paused;
    assert!(swarm.run(10, paused));
    let had = swarm.snapshot(leecher).have_pieces;
    assert_eq!(swarm.session(leecher).stats().peers, 0);
    assert_eq!(swarm.session(leecher).stats().buffered_bytes, 0);
    swarm.run(30, |_| false);
    assert_eq!(swarm.snapshot(leecher).have_pieces, had);
    swarm.command(leecher, Command::Resume(id));
    assert!(swarm.run(120, |swarm| swarm.is_complete(leecher)), "{:?}", swarm.snapshot(leecher));
    assert!(swarm.disk(leecher) == bytes);
    let refetched = swarm.session(leecher).stats().downloaded_bytes - bytes.len() as u64;
    assert!(refetched <= 20 * 16 * 1024, "{refetched} bytes came twice");
}

#[test]
fn a_removed_torrent_takes_its_files_along_only_if_asked_to() {
    for files in [RemoveFiles::Keep, RemoveFiles::Delete] {
        let mut swarm = Swarm::new(300_000, PIECE_LEN, 12);
        let host = swarm.seeder(Config::default());
        assert!(swarm.run(10, |swarm| swarm.is_complete(host)));
        swarm.command(host, Command::Remove(swarm.torrent(host), files));
        let removed = |event: &Event| matches!(event, Event::TorrentRemoved(_));
        assert!(swarm.run(10, |swarm| swarm.heard(host, removed)));
        assert!(swarm.session(host).torrents().next().is_none());
        assert_eq!(swarm.disk(host).is_empty(), files == RemoveFiles::Delete);
        // It can be taken on again.
        let add = AddTorrent::new(Arc::clone(swarm.metainfo()), folder());
        let (id, now) = (host, swarm.now());
        swarm
            .net
            .machine_mut(id)
            .session_mut()
            .expect("a client")
            .add_torrent(now, add)
            .expect("it is gone");
    }
}

#[test]
fn a_seeder_connects_to_leechers_that_it_hears_of() {
    let mut swarm = Swarm::new(300_000, PIECE_LEN, 13);
    let leecher = swarm.leecher(Config::default());
    let seeder = swarm.seeder(Config::default());
    swarm.introduce(seeder, &[leecher]);
    assert!(swarm.run(30, |swarm| swarm.is_complete(leecher)), "{:?}", swarm.snapshot(leecher));
    // Two that are complete have nothing to say to each other, and do not try again.
    swarm.run(600, |_| false);
    let tries = swarm.events(seeder).iter();
    assert!(tries.filter(|event| matches!(event, Event::PeerConnected(..))).count() <= 2);
}

#[test]
fn a_stop_before_everything_was_checked_claims_nothing_and_loses_nothing() {
    let mut swarm = Swarm::new(1_000_000, PIECE_LEN, 14);
    let first = swarm.seeder(Config::default());
    assert!(swarm.run(10, |swarm| swarm.is_complete(first)));
    let down = |event: &Event| matches!(event, Event::ShutDown);
    swarm.command(first, Command::ShutDown);
    assert!(swarm.run(10, |swarm| swarm.heard(first, down)));
    let name = resume_name(swarm.snapshot(first).info_hash);
    let saved = |swarm: &Swarm, host: usize| {
        swarm.net.disk(host).saved(&state(), &name).expect("it was saved").clone()
    };
    let before = saved(&swarm, first);
    let resume = before.clone();
    let second = swarm.add(None, Config::default(), |add| add.resume = Some(resume));
    swarm.net.swap_disks(first, second);
    swarm.command(second, Command::ShutDown);
    assert!(swarm.run(10, |swarm| swarm.heard(second, down)));
    assert_eq!(saved(&swarm, second), before);
}

#[test]
fn a_pause_leaves_no_place_taken() {
    let mut swarm = Swarm::new(600_000, PIECE_LEN, 15);
    let seeders: Vec<_> = (0..3).map(|_| swarm.seeder(Config::default())).collect();
    let few = Config { torrent_peers_max: 3, down_bytes_per_s: Some(30_000), ..Config::default() };
    let leecher = swarm.leecher(few);
    let id = swarm.torrent(leecher);
    swarm.introduce(leecher, &seeders);
    for _ in 0..3 {
        assert!(swarm.run(120, |swarm| swarm.snapshot(leecher).peers == 3));
        swarm.command(leecher, Command::Pause(id));
        let paused = |swarm: &Swarm| swarm.snapshot(leecher).state == TorrentState::Paused;
        assert!(swarm.run(10, paused));
        swarm.command(leecher, Command::Resume(id));
    }
    assert!(swarm.run(300, |swarm| swarm.is_complete(leecher)), "{:?}", swarm.snapshot(leecher));
}
