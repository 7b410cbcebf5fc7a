//! What people choose: files, orders, limits, and when enough was shared.

use std::sync::Arc;

use bytes::Bytes;
use teem_core::ids::PieceIndex;
use teem_core::metainfo::create::{Content, Draft, Options};
use teem_core::rng::Seed;
use teem_core::session::{Command, Config, Event, RateLimits, TorrentState};
use teem_core::time::Duration;
use teem_core::torrent::picker::Priority;
use teem_core::torrent::share::{ShareLimit, ShareLimits};
use teem_sim::net::HostId;
use teem_sim::swarm::Swarm;

const PIECE_LEN: u32 = 32 * 1024;

/// Four files that share pieces: 0 to 2.6, 2.6 to 2.7, 2.7 to 6.2, 6.2 to 12.2 pieces.
const FILES: [u64; 4] = [85_000, 5_000, 115_000, 195_000];

fn swarm(number: u64) -> Swarm {
    let mut content = vec![0; FILES.iter().sum::<u64>() as usize];
    Seed::from_number(number).stream("content", 0).fill(&mut content);
    let names = ["a", "b", "c", "d"];
    let files = names.iter().zip(FILES).map(|(name, len)| (vec![(*name).into()], len)).collect();
    let options = Options { piece_len: Some(PIECE_LEN), ..Options::default() };
    let draft = Draft::new("folder", Content::Folder(files), options).expect("a sound torrent");
    let hashes = content.chunks(PIECE_LEN as usize).map(teem_core::hash::sha1).collect::<Vec<_>>();
    let metainfo = draft.finish(&hashes).expect("a sound torrent");
    Swarm::of(Arc::new(metainfo), Bytes::from(content))
}

fn only(files: &[usize]) -> Vec<Priority> {
    let wanted = |file| if files.contains(&file) { Priority::NORMAL } else { Priority::SKIP };
    (0..FILES.len()).map(wanted).collect()
}

/// The pieces that a client got, in the order in which it got them.
fn pieces(swarm: &Swarm, host: HostId) -> Vec<u32> {
    let got = swarm.events(host).iter().filter_map(|event| match event {
        Event::PieceVerified(_, PieceIndex(piece)) => Some(*piece),
        _ => None,
    });
    got.collect()
}

#[test]
fn only_the_pieces_of_wanted_files_are_fetched_and_nobody_is_told_of_completion() {
    let mut swarm = swarm(1);
    let seeder = swarm.seeder(Config::default());
    let leecher = swarm.add(None, Config::default(), |add| add.priorities = only(&[1, 2]));
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(60, |swarm| swarm.is_complete(leecher)));
    let mut got = pieces(&swarm, leecher);
    got.sort_unstable();
    assert_eq!(got, [2, 3, 4, 5, 6], "pieces at the ends of the files too");
    let torrent = swarm.snapshot(leecher);
    assert_eq!(torrent.left_bytes, 0);
    assert_eq!(torrent.have_bytes, 5 * u64::from(PIECE_LEN));
    assert!(!torrent.owes_completed);
    assert_eq!(swarm.session(leecher).stats().downloaded_bytes, 5 * u64::from(PIECE_LEN));
    assert_eq!(swarm.count(leecher, |event| matches!(event, Event::TorrentFinished(_))), 1);
}

#[test]
fn files_may_be_chosen_and_left_out_while_it_runs() {
    let mut swarm = swarm(2);
    let seeder = swarm.seeder(Config::default());
    let slow = Config { down_bytes_per_s: Some(30_000), ..Config::default() };
    let leecher = swarm.add(None, slow, |add| add.priorities = only(&[0, 3]));
    swarm.introduce(leecher, &[seeder]);
    assert!(!swarm.run(2, |swarm| swarm.is_complete(leecher)), "it takes some time");
    let id = swarm.torrent(leecher);
    swarm.command(leecher, Command::SetPriorities(id, only(&[0])));
    assert!(swarm.run(60, |swarm| swarm.is_complete(leecher)));
    assert!([0, 1, 2].iter().all(|piece| pieces(&swarm, leecher).contains(piece)));
    assert!(swarm.snapshot(leecher).have_pieces < 13);
    assert_eq!(swarm.count(leecher, |event| matches!(event, Event::TorrentFinished(_))), 1);

    swarm.command(leecher, Command::SetPriorities(id, Vec::new()));
    assert_eq!(swarm.snapshot(leecher).state, TorrentState::Downloading);
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(60, |swarm| swarm.is_complete(leecher)));
    assert!(swarm.disk(leecher) == swarm.content());
    assert_eq!(swarm.count(leecher, |event| matches!(event, Event::TorrentFinished(_))), 2);
}

#[test]
fn what_is_wanted_most_comes_first() {
    let mut swarm = swarm(3);
    let seeder = swarm.seeder(Config::default());
    let slow = Config { down_bytes_per_s: Some(60_000), ..Config::default() };
    let leecher = swarm.add(None, slow, |add| {
        add.priorities = vec![Priority::new(1), Priority::new(1), Priority::TOP, Priority::NORMAL];
    });
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(60, |swarm| swarm.is_complete(leecher)));
    let got = pieces(&swarm, leecher);
    let rank = |piece: &u32| match piece {
        2..=6 => 0,
        7.. => 1,
        _ => 2,
    };
    let ranks: Vec<i32> = got.iter().map(rank).collect();
    assert_eq!(ranks.len(), 13);
    // Neighbours in time may change places: requests run ahead of what arrives.
    assert!(ranks[..4].iter().all(|rank| *rank == 0), "{got:?}");
    assert!(ranks[11..].iter().all(|rank| *rank == 2), "{got:?}");
}

#[test]
fn a_sequential_download_begins_pieces_by_index() {
    for sequential in [true, false] {
        let mut swarm = swarm(4);
        let seeder = swarm.seeder(Config::default());
        let slow = Config { down_bytes_per_s: Some(60_000), ..Config::default() };
        let leecher = swarm.add(None, slow, |add| add.sequential = sequential);
        swarm.introduce(leecher, &[seeder]);
        assert!(swarm.run(60, |swarm| swarm.is_complete(leecher)));
        let got = pieces(&swarm, leecher);
        let ordered = got.windows(2).all(|pair| pair[0] < pair[1]);
        assert_eq!(ordered, sequential, "{got:?}");
    }
}

/// Bytes on the wire in each second of a run, by what a client counts.
fn by_second(swarm: &mut Swarm, seconds: usize, count: impl Fn(&Swarm) -> u64) -> Vec<u64> {
    let mut before = count(swarm);
    let mut second = || {
        swarm.run(1, |_| false);
        let now = count(swarm);
        std::mem::replace(&mut before, now).abs_diff(now)
    };
    (0..seconds).map(|_| second()).collect()
}

#[test]
fn limits_of_a_torrent_and_of_the_session_hold_over_every_second() {
    const RATE: u64 = 100_000;
    let limits = |down, up| RateLimits { down_bytes_per_s: down, up_bytes_per_s: up };
    // Who is limited and how: the torrent's own limit, the session's, and both at once.
    let cases = [
        (limits(Some(RATE), None), limits(None, None)),
        (limits(None, None), limits(Some(RATE), None)),
        (limits(Some(RATE), None), limits(Some(2 * RATE), None)),
        (limits(Some(2 * RATE), None), limits(Some(RATE), None)),
    ];
    for (own, session) in cases {
        for up in [false, true] {
            let mut swarm = Swarm::new(4_000_000, PIECE_LEN, 5);
            let turned =
                |from: RateLimits| if up { limits(None, from.down_bytes_per_s) } else { from };
            let config = Config {
                down_bytes_per_s: turned(session).down_bytes_per_s,
                up_bytes_per_s: turned(session).up_bytes_per_s,
                ..Config::default()
            };
            let content = swarm.content().clone();
            let preload = up.then_some(&content[..]);
            let limited = swarm.add(preload, config, |add| add.limits = turned(own));
            let others: Vec<HostId> = (0..3)
                .map(|_| {
                    if up {
                        swarm.leecher(Config::default())
                    } else {
                        swarm.seeder(Config::default())
                    }
                })
                .collect();
            swarm.introduce(limited, &others);
            swarm.run(3, |_| false);
            let seconds = by_second(&mut swarm, 15, |swarm| {
                let stats = swarm.session(limited).stats();
                if up { stats.sent_bytes } else { stats.received_bytes }
            });
            for (second, bytes) in seconds.iter().enumerate() {
                let near = RATE * 85 / 100..=RATE * 115 / 100;
                assert!(near.contains(bytes), "{own:?} {session:?} {up} {second}: {seconds:?}");
            }
            let sum: u64 = seconds.iter().sum();
            let near = RATE * 15 * 97 / 100..=RATE * 15 * 101 / 100;
            assert!(near.contains(&sum), "{own:?} {session:?} {up}: {sum} in {seconds:?}");
        }
    }
}

#[test]
fn a_limit_of_one_torrent_leaves_others_alone_and_may_be_lifted() {
    let mut swarm = Swarm::new(4_000_000, PIECE_LEN, 6);
    let seeder = swarm.seeder(Config::default());
    let limits = RateLimits { down_bytes_per_s: Some(50_000), up_bytes_per_s: None };
    let slow = swarm.add(None, Config::default(), |add| add.limits = limits);
    let fast = swarm.leecher(Config::default());
    swarm.introduce(slow, &[seeder]);
    swarm.introduce(fast, &[seeder]);
    assert!(swarm.run(30, |swarm| swarm.is_complete(fast)));
    assert!(!swarm.run(20, |swarm| swarm.is_complete(slow)));
    let id = swarm.torrent(slow);
    swarm.command(slow, Command::SetTorrentLimits(id, RateLimits::default()));
    assert!(swarm.run(20, |swarm| swarm.is_complete(slow)), "{:?}", swarm.snapshot(slow));
}

#[test]
fn a_torrent_that_shared_its_ratio_is_paused_and_says_so() {
    let mut swarm = Swarm::new(400_000, PIECE_LEN, 7);
    let share = ShareLimits { ratio_permille: Some(1500), seed_time_s: None };
    let content = swarm.content().clone();
    let slow = Config { up_bytes_per_s: Some(100_000), ..Config::default() };
    let seeder = swarm.add(Some(&content), slow, |add| add.share = share);
    let leechers = [0; 2].map(|_| swarm.leecher(Config::default()));
    for leecher in leechers {
        swarm.introduce(leecher, &[seeder]);
    }
    let reached = |event: &Event| matches!(event, Event::ShareLimitReached(_, ShareLimit::Ratio));
    assert!(swarm.run(60, |swarm| swarm.heard(seeder, reached)));
    assert!(swarm.run(10, |swarm| swarm.snapshot(seeder).state == TorrentState::Paused));
    let sent = swarm.snapshot(seeder).uploaded_bytes;
    assert!((600_000..700_000).contains(&sent), "{sent}");
    // Whoever starts it again means to go on: what is reached stays so until the limit is moved.
    let id = swarm.torrent(seeder);
    swarm.command(seeder, Command::SetShareLimits(id, ShareLimits::default()));
    swarm.command(seeder, Command::Resume(id));
    assert!(swarm.run(600, |swarm| leechers.iter().all(|leecher| swarm.is_complete(*leecher))));
}

#[test]
fn a_torrent_serves_for_its_time_over_all_runs() {
    let mut swarm = Swarm::new(100_000, PIECE_LEN, 8);
    let share = ShareLimits { ratio_permille: None, seed_time_s: Some(100) };
    let content = swarm.content().clone();
    let seeder = swarm.add(Some(&content), Config::default(), |add| add.share = share);
    let id = swarm.torrent(seeder);
    assert!(swarm.run(10, |swarm| swarm.is_complete(seeder)));
    assert!(!swarm.run(60, |swarm| swarm.snapshot(seeder).state == TorrentState::Paused));
    swarm.command(seeder, Command::Pause(id));
    let start = swarm.now();
    swarm.run(500, |_| false);
    assert!(!swarm.heard(seeder, |event| matches!(event, Event::ShareLimitReached(..))));
    swarm.command(seeder, Command::Resume(id));
    let reached = |event: &Event| matches!(event, Event::ShareLimitReached(_, ShareLimit::Time));
    assert!(swarm.run(60, |swarm| swarm.heard(seeder, reached)));
    let took = swarm.now().saturating_since(start);
    assert!(took >= Duration::from_secs(530) && took <= Duration::from_secs(545), "{took:?}");
}
