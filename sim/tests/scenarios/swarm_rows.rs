//! Whole swarms of sessions: the properties of libtorrent's `test_swarm`, in our terms.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use teem_core::hash::sha1;
use teem_core::ids::PieceIndex;
use teem_core::machine::Machine;
use teem_core::metainfo::create::{Content, Draft, Options};
use teem_core::peer::{CloseReason, LimitReached, Refusal};
use teem_core::rate::RATE_MIN;
use teem_core::session::{Command, Config, Event, RateLimits, RemoveFiles, TorrentState, WaitsFor};
use teem_core::time::Duration;
use teem_core::torrent::resume::resume_name;
use teem_core::wire::{BlockRequest, Message};
use teem_sim::actors::{Conn, Puppet, PuppetConfig, Received};
use teem_sim::net::{HostId, Net};
use teem_sim::swarm::{Swarm, address, state};

use crate::stage::{PIECE_LEN, Stage, closings};

const LEN: usize = 1_000_000;

fn swarm(number: u64) -> Swarm {
    Swarm::new(LEN, 4 * PIECE_LEN, number)
}

/// A seeder and a leecher that fetches everything in the time that the scenarios allow.
fn is_done_in_time(seeding: Config, leeching: Config) {
    let mut swarm = swarm(100);
    let seeder = swarm.seeder(seeding);
    let leecher = swarm.leecher(leeching);
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(89, |swarm| swarm.is_complete(leecher)), "{:?}", swarm.snapshot(leecher));
    assert!(swarm.disk(leecher) == swarm.content());
    assert_eq!(swarm.session(leecher).stats().corrupt_bytes, 0);
}

/// Both extremes at once, and at either end alone.
fn either_end_may_have(change: impl Fn(&mut Config)) {
    for (seeding, leeching) in [(true, false), (false, true), (true, true)] {
        let config = |changed: bool| {
            let mut config = Config::default();
            if changed {
                change(&mut config);
            }
            config
        };
        is_done_in_time(config(seeding), config(leeching));
    }
}

#[test]
fn seeders_that_trust_what_was_saved_check_nothing_and_serve_two() {
    let mut swarm = swarm(101);
    let first = swarm.seeder(Config::default());
    assert!(swarm.run(10, |swarm| swarm.is_complete(first)));
    swarm.command(first, Command::ShutDown);
    assert!(swarm.run(10, |swarm| swarm.heard(first, |event| matches!(event, Event::ShutDown))));
    let name = resume_name(swarm.snapshot(first).info_hash);
    let resume = swarm.net.disk(first).saved(&state(), &name).expect("it was saved").clone();
    let seeder = swarm.add(None, Config::default(), |add| {
        add.resume = Some(resume);
        add.seed_only = true;
    });
    swarm.net.swap_disks(first, seeder);
    let leechers = [0; 2].map(|_| swarm.leecher(Config::default()));
    for leecher in leechers {
        swarm.introduce(leecher, &[seeder]);
    }
    assert!(swarm.run(80, |swarm| leechers.iter().all(|leecher| swarm.is_complete(*leecher))));
    let stats = swarm.session(seeder).stats();
    assert_eq!((stats.checked_bytes, stats.hashed_bytes, stats.written_bytes), (0, 0, 0));
    assert_eq!(stats.uploaded_bytes, 2 * LEN as u64);
}

#[test]
fn one_download_is_counted_once_and_so_is_the_hello_of_its_peer() {
    let mut swarm = swarm(102);
    let seeder = swarm.seeder(Config::default());
    let slow = Config { down_bytes_per_s: Some(100_000), ..Config::default() };
    let leecher = swarm.leecher(slow);
    swarm.introduce(leecher, &[seeder]);
    let mut looks = 0;
    loop {
        swarm.run(1, |_| false);
        if swarm.is_complete(leecher) {
            break;
        }
        looks += 1;
        let downloading =
            swarm.session(leecher).torrents().filter(|t| t.state == TorrentState::Downloading);
        assert_eq!(downloading.count(), 1);
        let peers = swarm.session(leecher).peers(swarm.torrent(leecher));
        let told = peers.iter().filter(|peer| peer.client.is_some()).count();
        assert_eq!((peers.len(), told), (1, 1));
        let (ours, theirs) = (swarm.session(leecher).stats(), swarm.session(seeder).stats());
        assert_eq!((ours.peers_connected, ours.peers_accepted), (1, 0));
        assert_eq!((theirs.peers_connected, theirs.peers_accepted), (1, 1));
        assert!(looks < 80, "it never ends");
    }
    assert!(looks > 5, "{looks}");
}

/// How often a client told that a torrent paused, and that it went on.
fn pauses(swarm: &Swarm, host: HostId) -> (usize, usize) {
    let paused = swarm.count(host, |event| matches!(event, Event::TorrentPaused(_)));
    let ready = swarm.count(host, |event| matches!(event, Event::TorrentReady(_)));
    (paused, ready - 1)
}

/// Pauses a client's torrent and, as soon as that is told, lets it go on.
fn pause_and_resume(swarm: &mut Swarm, host: HostId) {
    let id = swarm.torrent(host);
    swarm.command(host, Command::Pause(id));
    assert!(swarm.run(10, |swarm| pauses(swarm, host).0 == 1));
    swarm.command(host, Command::Resume(id));
}

#[test]
fn a_download_that_is_paused_half_way_and_resumed_goes_on_at_once() {
    let mut swarm = swarm(103);
    let seeders = [0; 2].map(|_| swarm.seeder(Config::default()));
    let slow = Config { down_bytes_per_s: Some(100_000), ..Config::default() };
    let leecher = swarm.leecher(slow);
    swarm.introduce(leecher, &seeders);
    let start = swarm.now();
    let half = |swarm: &Swarm| swarm.snapshot(leecher).left_bytes < LEN as u64 / 2;
    assert!(swarm.run(20, half));
    pause_and_resume(&mut swarm, leecher);
    assert!(swarm.run(22, |swarm| swarm.is_complete(leecher)), "{:?}", swarm.snapshot(leecher));
    // Ten seconds is what the limit takes.
    let took = swarm.now().saturating_since(start);
    assert!(took < Duration::from_secs(22), "{took:?}");
    assert_eq!(pauses(&swarm, leecher), (1, 1));
    assert!(swarm.disk(leecher) == swarm.content());
}

#[test]
fn a_torrent_without_peers_tells_that_it_paused() {
    let mut swarm = swarm(104);
    let alone = swarm.leecher(Config::default());
    swarm.run(6, |_| false);
    pause_and_resume(&mut swarm, alone);
    swarm.run(60, |_| false);
    assert_eq!(pauses(&swarm, alone), (1, 1));
    assert_eq!(swarm.snapshot(alone).state, TorrentState::Downloading);
}

#[test]
fn a_seed_that_is_paused_after_three_blocks_and_resumed_serves_to_the_end() {
    let mut swarm = swarm(105);
    let slow = Config { up_bytes_per_s: Some(100_000), ..Config::default() };
    let seeder = swarm.seeder(slow);
    let leechers = [0; 2].map(|_| swarm.leecher(Config::default()));
    for leecher in leechers {
        swarm.introduce(leecher, &[seeder]);
    }
    let three = |swarm: &Swarm| swarm.snapshot(seeder).uploaded_bytes >= 3 * u64::from(PIECE_LEN);
    assert!(swarm.run(20, three));
    pause_and_resume(&mut swarm, seeder);
    let done = |swarm: &Swarm| leechers.iter().all(|leecher| swarm.is_complete(*leecher));
    assert!(swarm.run(100, done), "{:?}", swarm.snapshot(leechers[0]));
    assert_eq!(pauses(&swarm, seeder), (1, 1));
}

#[test]
fn a_shutdown_in_the_middle_leaves_nothing_behind() {
    let mut swarm = swarm(106);
    let seeders = [0; 3].map(|_| swarm.seeder(Config::default()));
    let slow = Config { down_bytes_per_s: Some(200_000), ..Config::default() };
    let leecher = swarm.leecher(slow);
    swarm.introduce(leecher, &seeders);
    assert!(swarm.run(20, |swarm| swarm.snapshot(leecher).have_pieces > 0));
    assert_eq!(swarm.snapshot(leecher).peers, 3);
    assert!(!swarm.is_complete(leecher));
    swarm.command(leecher, Command::ShutDown);
    assert!(swarm.run(10, |swarm| swarm.heard(leecher, |event| matches!(event, Event::ShutDown))));
    assert!(!swarm.is_complete(leecher));
    swarm.run(1, |_| false);
    let stats = swarm.session(leecher).stats();
    assert_eq!((stats.peers, stats.peers_half_open, stats.buffered_bytes), (0, 0, 0));
    assert_eq!(stats.stale_jobs, 0);
    assert_eq!(swarm.session(leecher).poll_timeout(), None, "no timer is left");
    let reasons = closings(&swarm, leecher);
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    for seeder in seeders {
        assert_eq!(closings(&swarm, seeder), [CloseReason::Ended]);
        assert_eq!(swarm.snapshot(seeder).peers, 0);
    }
}

#[test]
fn addresses_that_swallow_everything_time_out_once_each() {
    let mut swarm = swarm(107);
    // What is sent arrives after the last of them was given up.
    swarm.net = Net::new(Duration::from_mins(1));
    let leecher = swarm.leecher(Config::default());
    let dead: Vec<HostId> = (0..3).map(|_| swarm.bare(Config::default())).collect();
    swarm.introduce(leecher, &dead);
    assert_eq!(swarm.net.run_until(Duration::from_secs(45), |_| false), Ok(false));
    swarm.run(0, |_| true);
    let timeout = CloseReason::Limit(LimitReached::HandshakeTimeout);
    assert_eq!(closings(&swarm, leecher), [timeout; 3]);
    let stats = swarm.session(leecher).stats();
    assert_eq!((stats.peers, stats.peers_half_open, stats.peers_connected), (0, 0, 0));
}

#[test]
fn a_session_that_is_led_to_itself_through_a_nat_says_so_once_and_learns_it() {
    let mut stage = Stage::leeching(9);
    let session = stage.session;
    // It stands for a router that gives the session's connections another address.
    let nat = stage.puppet(|config, host| {
        config.listen = Some(address(host));
        config.auto_handshake = false;
    });
    stage.wait(Duration::from_millis(1));
    stage.swarm.introduce(session, &[nat]);
    let swarm = &mut stage.swarm;
    let shaken = |swarm: &Swarm, conn| Puppet::on(swarm, nat).handshake(conn).is_some();
    assert!(swarm.run(5, |swarm| shaken(swarm, Conn(0))));
    let there = Puppet::on_mut(swarm, nat).dial(address(session));
    let pass_on = |swarm: &mut Swarm, from, to| {
        let handshake = Puppet::on(swarm, nat).handshake(from).expect("it is here");
        Puppet::on_mut(swarm, nat).send_raw(to, handshake.encode().to_vec());
    };
    pass_on(swarm, Conn(0), there);
    assert!(swarm.run(5, |swarm| shaken(swarm, there)));
    pass_on(swarm, there, Conn(0));
    swarm.run(600, |_| false);
    let told: Vec<_> = swarm
        .events(session)
        .iter()
        .filter_map(|event| match event {
            Event::PeerClosed { address, reason, .. } => Some((*address, *reason)),
            _ => None,
        })
        .collect();
    // Once, where it was dialled, and never again.
    assert_eq!(told[0], (address(nat), CloseReason::Refused(Refusal::SelfConnection)), "{told:?}");
    // The puppet does not pass on that it closed: the other end has to wait.
    let timeout = CloseReason::Limit(LimitReached::HandshakeTimeout);
    assert_eq!(told[1..].iter().map(|(_, reason)| *reason).collect::<Vec<_>>(), [timeout]);
    assert_eq!(Puppet::on(swarm, nat).accepted().count(), 1);
    assert_eq!(swarm.session(session).stats().peers, 0);
}

#[test]
fn a_download_that_is_removed_half_way_with_its_files_leaves_nothing_on_disk() {
    let mut swarm = swarm(108);
    let seeder = swarm.seeder(Config::default());
    let slow = Config { down_bytes_per_s: Some(200_000), ..Config::default() };
    let leecher = swarm.leecher(slow);
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(20, |swarm| swarm.snapshot(leecher).have_pieces > 0));
    assert!(!swarm.disk(leecher).is_empty());
    swarm.command(leecher, Command::Remove(swarm.torrent(leecher), RemoveFiles::Delete));
    let removed = |event: &Event| matches!(event, Event::TorrentRemoved(_));
    assert!(swarm.run(10, |swarm| swarm.heard(leecher, removed)));
    swarm.run(60, |_| false);
    assert!(swarm.disk(leecher).is_empty());
    assert_eq!(swarm.session(leecher).stats().buffered_bytes, 0);
}

#[test]
fn every_file_is_told_once_when_its_last_piece_is_here() {
    let lens = [100_000, 5, 0, 300_000, 1, 70_000];
    let files = lens.iter().enumerate().map(|(at, len)| (vec![format!("file {at}")], *len as u64));
    let total: usize = lens.iter().sum();
    let content: Vec<u8> = (0..total).map(|at| (at * 7 + at / 251) as u8).collect();
    let options = Options { piece_len: Some(PIECE_LEN), ..Options::default() };
    let draft = Draft::new("folder", Content::Folder(files.collect()), options);
    let hashes: Vec<_> = content.chunks(PIECE_LEN as usize).map(sha1).collect();
    let metainfo = draft.expect("a sound draft").finish(&hashes).expect("a sound torrent");
    let mut swarm = Swarm::of(Arc::new(metainfo), content.into());
    let seeder = swarm.seeder(Config::default());
    let leecher = swarm.leecher(Config::default());
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(80, |swarm| swarm.is_complete(leecher)));
    let told = |host| -> Vec<usize> {
        let files = swarm.events(host).iter().filter_map(|event| match event {
            Event::FilesFinished(_, files) => Some(files.clone()),
            _ => None,
        });
        files.flatten().collect()
    };
    let mut finished = told(leecher);
    finished.sort_unstable();
    assert_eq!(finished, [0, 1, 3, 4, 5], "all but the empty one, each once");
    assert_eq!(told(seeder), [], "what was there is no news");
    let at = |wanted: fn(&Event) -> bool| swarm.events(leecher).iter().rposition(wanted);
    let last = at(|event| matches!(event, Event::FilesFinished(..)));
    assert!(last < at(|event| matches!(event, Event::TorrentFinished(_))));
}

#[test]
fn every_block_leaves_a_seed_exactly_once() {
    let pieces = 20;
    let mut stage = Stage::seeding(pieces);
    let guest = stage.guest();
    stage.send(guest, &Message::Interested);
    for piece in 0..pieces {
        let block = BlockRequest { piece: PieceIndex(piece), begin: 0, length: PIECE_LEN };
        stage.send(guest, &Message::Request(block));
    }
    stage.wait(Duration::from_secs(10));
    let came: Vec<u32> = stage
        .got(guest)
        .filter_map(|message| match message {
            Message::Piece { piece, .. } => Some(piece.0),
            _ => None,
        })
        .collect();
    assert_eq!(came.len(), pieces as usize);
    assert_eq!(came.iter().copied().collect::<BTreeSet<_>>(), (0..pieces).collect());
    let total = u64::from(pieces * PIECE_LEN);
    assert_eq!(stage.swarm.session(stage.session).stats().uploaded_bytes, total);
    assert_eq!(stage.swarm.snapshot(stage.session).uploaded_bytes, total);
}

// Extreme settings. Ours are counts: none is below zero, and no value means another.

#[test]
fn as_many_connections_as_can_be_counted() {
    either_end_may_have(|config| {
        config.peers_max = usize::MAX;
        config.torrent_peers_max = usize::MAX;
        config.half_open_max = usize::MAX;
    });
}

#[test]
fn a_single_connection_is_enough_and_none_means_none() {
    either_end_may_have(|config| {
        config.peers_max = 1;
        config.torrent_peers_max = 1;
        config.half_open_max = 1;
    });
    for change in [
        (|config| config.peers_max = 0) as fn(&mut Config),
        |config| config.torrent_peers_max = 0,
        |config| config.half_open_max = 0,
    ] {
        let mut config = Config::default();
        change(&mut config);
        let mut swarm = swarm(109);
        let seeder = swarm.seeder(Config::default());
        let leecher = swarm.leecher(config);
        swarm.introduce(leecher, &[seeder]);
        swarm.run(89, |_| false);
        assert_eq!(swarm.snapshot(leecher).waits_for, WaitsFor::Connections);
        let stats = swarm.session(leecher).stats();
        assert_eq!((stats.peers_connected, stats.downloaded_bytes), (0, 0));
        assert_eq!(closings(&swarm, leecher), []);
    }
}

#[test]
fn as_many_upload_slots_as_can_be_counted() {
    either_end_may_have(|config| config.upload_slots = usize::MAX);
}

#[test]
fn who_serves_nobody_is_served_by_a_seed_and_a_seed_that_serves_nobody_is_quiet() {
    let nobody = Config { upload_slots: 0, ..Config::default() };
    is_done_in_time(Config::default(), nobody.clone());
    let mut swarm = swarm(110);
    let seeder = swarm.seeder(nobody);
    let leecher = swarm.leecher(Config::default());
    swarm.introduce(leecher, &[seeder]);
    swarm.run(89, |_| false);
    assert_eq!(swarm.snapshot(leecher).waits_for, WaitsFor::Unchoke);
    assert_eq!(swarm.session(seeder).stats().uploaded_bytes, 0);
    assert_eq!(swarm.snapshot(leecher).peers, 1);
}

#[test]
fn the_highest_upload_limit_limits_nothing() {
    either_end_may_have(|config| config.up_bytes_per_s = Some(u64::MAX));
}

#[test]
fn the_highest_download_limit_limits_nothing() {
    either_end_may_have(|config| config.down_bytes_per_s = Some(u64::MAX));
}

/// A limit of nothing at one end, which counts as the least that there is, and what becomes of it
/// once there is none.
fn nothing_and_then_no_limit(seeding: Config, leeching: Config) {
    let mut swarm = swarm(111);
    let seeder = swarm.seeder(seeding);
    let leecher = swarm.leecher(leeching);
    swarm.introduce(leecher, &[seeder]);
    swarm.run(89, |_| false);
    let least = 89 * RATE_MIN;
    let moved = swarm.session(leecher).stats().received_bytes;
    assert!((least / 2..least + 64 * 1024).contains(&moved), "{moved}");
    for host in [seeder, leecher] {
        let none = Command::SetLimits(RateLimits::default());
        swarm.command(host, none);
    }
    assert!(swarm.run(120, |swarm| swarm.is_complete(leecher)), "{:?}", swarm.snapshot(leecher));
}

#[test]
fn without_an_upload_limit_all_is_done_also_after_one_of_nothing() {
    is_done_in_time(Config { up_bytes_per_s: None, ..Config::default() }, Config::default());
    let nothing = Config { up_bytes_per_s: Some(0), ..Config::default() };
    nothing_and_then_no_limit(nothing, Config::default());
}

#[test]
fn without_a_download_limit_all_is_done_also_after_one_of_nothing() {
    is_done_in_time(Config::default(), Config { down_bytes_per_s: None, ..Config::default() });
    let nothing = Config { down_bytes_per_s: Some(0), ..Config::default() };
    nothing_and_then_no_limit(Config::default(), nothing);
}

#[test]
fn nobody_but_a_seed_is_told_of_pieces_that_it_has() {
    let pieces = 20;
    let mut stage = Stage::leeching(pieces);
    let (knows, has_none, seed) = (stage.guest(), stage.guest(), stage.guest());
    // All but the last four.
    stage.send(knows, &Message::Bitfield(Bytes::from_static(&[0xff, 0xff, 0x00])));
    stage.send(has_none, &Message::HaveNone);
    stage.send(seed, &Message::HaveAll);
    stage.wait(Duration::from_secs(1));
    let seeder = stage.swarm.seeder(Config::default());
    let session = stage.session;
    stage.swarm.introduce(session, &[seeder]);
    assert!(stage.swarm.run(89, |swarm| swarm.is_complete(session)));
    stage.wait(Duration::from_secs(1));
    let haves = |guest: (HostId, Conn)| -> BTreeSet<u32> {
        let told = stage.got(guest).filter_map(|message| match message {
            Message::Have(piece) => Some(piece.0),
            _ => None,
        });
        told.collect()
    };
    assert_eq!(haves(knows), (pieces - 4..pieces).collect());
    assert_eq!(haves(has_none), (0..pieces).collect());
    // A seed serves by what others have; it is let go when both are complete.
    assert!(!haves(seed).is_empty());
}

#[test]
fn a_piece_that_was_begun_is_finished_with_the_next_peer_first() {
    let mut swarm = Swarm::new(40 * 4 * PIECE_LEN as usize, 4 * PIECE_LEN, 112);
    let content = swarm.content().clone();
    let session = swarm.leecher(Config::default());
    let ready = |event: &Event| matches!(event, Event::TorrentReady(_));
    assert!(swarm.run(10, |swarm| swarm.heard(session, ready)));
    let mut stage = Stage { swarm, session };
    let asked = |stage: &Stage, guest| -> Vec<BlockRequest> {
        let requests = stage.got(guest).filter_map(|message| match message {
            Message::Request(request) => Some(*request),
            _ => None,
        });
        requests.collect()
    };
    // The first answers one request and then chokes.
    let first = stage.guest();
    stage.send(first, &Message::HaveAll);
    stage.send(first, &Message::Unchoke);
    stage.wait(Duration::from_millis(100));
    let wanted = asked(&stage, first);
    let begun = wanted[0];
    let at = (begun.piece.0 * 4 * PIECE_LEN + begun.begin) as usize;
    let data = content.slice(at..at + PIECE_LEN as usize);
    let block = data.into();
    stage.send(first, &Message::Piece { piece: begun.piece, begin: begun.begin, block });
    stage.send(first, &Message::Choke);
    for request in asked(&stage, first).into_iter().skip(1) {
        stage.send(first, &Message::Reject(request));
    }
    stage.wait(Duration::from_millis(100));
    for request in asked(&stage, first).into_iter().skip(wanted.len()) {
        stage.send(first, &Message::Reject(request));
    }
    stage.wait(Duration::from_millis(500));
    // The second is asked for the rest of that piece before anything else.
    let second = stage.guest();
    stage.send(second, &Message::HaveAll);
    stage.send(second, &Message::Unchoke);
    stage.wait(Duration::from_millis(100));
    let then = asked(&stage, second);
    assert!(then.len() >= 3, "{then:?}");
    assert!(then[..3].iter().all(|next| next.piece == begun.piece), "{begun:?}, then {then:?}");
    assert!(then.iter().all(|next| *next != begun));
}

#[test]
fn limits_that_change_each_second_in_every_order_harm_nothing() {
    const VALUES: [Option<u64>; 4] = [None, Some(0), Some(1), Some(u64::MAX)];
    // Downloader and seed, upload and download: every ordered pair of two of these four.
    let settings = [(0, false), (0, true), (1, false), (1, true)];
    for one in settings {
        for other in settings {
            if one == other {
                continue;
            }
            let mut swarm = swarm(113);
            let hosts = [swarm.seeder(Config::default()), swarm.leecher(Config::default())];
            swarm.introduce(hosts[1], &[hosts[0]]);
            let mut limits = [[None; 2]; 2];
            for tick in 0..4 * 4 * 2 {
                let (host, up) = if tick % 2 == 0 { one } else { other };
                limits[host][usize::from(up)] = VALUES[tick / 2 % VALUES.len()];
                let [down_bytes_per_s, up_bytes_per_s] = limits[host];
                let command = Command::SetLimits(RateLimits { down_bytes_per_s, up_bytes_per_s });
                swarm.command(hosts[host], command);
                swarm.run(1, |_| false);
            }
            for host in hosts {
                let none = Command::SetLimits(RateLimits::default());
                swarm.command(host, none);
            }
            let done = |swarm: &Swarm| swarm.is_complete(hosts[1]);
            assert!(swarm.run(200, done), "{one:?} and {other:?}: {:?}", swarm.snapshot(hosts[1]));
            assert!(swarm.disk(hosts[1]) == swarm.content());
        }
    }
}

#[test]
fn settings_at_their_extremes_in_every_pair_harm_nothing() {
    let changes: [fn(&mut Config, usize); 7] = [
        |config, value| config.peers_max = value,
        |config, value| config.torrent_peers_max = value,
        |config, value| config.half_open_max = value,
        |config, value| config.upload_slots = value,
        |config, value| config.buffer_bytes_max = value,
        |config, value| config.check_bytes_max = value.max(1),
        |config, value| {
            config.no_interest_timeout_s = u32::try_from(value).unwrap_or(u32::MAX);
            config.allowed_fast_pieces = u32::try_from(value).unwrap_or(u32::MAX);
        },
    ];
    let values = [0, 1, usize::MAX];
    let mut runs = 0;
    for (at, one) in changes.iter().enumerate() {
        for other in &changes[at + 1..] {
            for (first, second) in
                values.iter().flat_map(|first| values.iter().map(move |second| (*first, *second)))
            {
                let mut config = Config::default();
                one(&mut config, first);
                other(&mut config, second);
                let mut swarm = Swarm::new(200_000, PIECE_LEN, 114);
                let hosts = [swarm.seeder(config.clone()), swarm.leecher(config)];
                swarm.introduce(hosts[1], &[hosts[0]]);
                swarm.run(60, |swarm| swarm.is_complete(hosts[1]));
                let got = swarm.snapshot(hosts[1]);
                let impossible = first == 0 || second == 0;
                assert!(
                    impossible || got.state == TorrentState::Seeding,
                    "{first} {second} {got:?}"
                );
                assert_eq!(swarm.session(hosts[1]).stats().corrupt_bytes, 0);
                runs += 1;
            }
        }
    }
    assert_eq!(runs, 21 * 9);
}

#[test]
fn a_nat_is_told_apart_from_a_peer_that_merely_has_our_prefix() {
    let mut stage = Stage::leeching(9);
    let puppet = stage.puppet(|config: &mut PuppetConfig, _| {
        config.peer_id.0[..8].copy_from_slice(&Config::default().peer_id_prefix);
    });
    let guest = (puppet, stage.dial(puppet));
    stage.wait(Duration::from_secs(5));
    assert_eq!(stage.closings(), []);
    assert!(!stage.puppet_at(guest).iter().any(|(_, what)| *what == Received::ReadClosed));
}
