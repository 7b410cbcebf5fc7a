//! One that has everything and one that has nothing: torrents of every shape, full disks, files
//! that nobody wants.

use teem_core::metainfo::create::Format;
use teem_core::session::{Command, Config, Event, IpFilter, TorrentState, WaitsFor};
use teem_core::torrent::picker::Priority;
use teem_sim::swarm::{Swarm, ip, ipv6, torrent_of};

const PIECE_LEN: u32 = 64 * 1024;

/// Seconds that a torrent may take to arrive, and to be checked.
pub(crate) const TRANSFER_SECONDS: u64 = 10;

/// Fetches a torrent of these files in these formats, and checks what came of it from the disk.
fn arrives(files: &[(&str, u64)], piece_len: u32, formats: &[Format]) {
    for format in formats {
        let (metainfo, content) = torrent_of(files, piece_len, *format, 21);
        let lacking = metainfo.files_without_layer().count();
        assert_eq!(lacking, 0, "{format:?}: every layer is there and true");
        let mut swarm = Swarm::of(metainfo, content);
        let seeder = swarm.seeder(Config::default());
        let leecher = swarm.leecher(Config::default());
        swarm.introduce(leecher, &[seeder]);
        let done = swarm.run(TRANSFER_SECONDS, |swarm| swarm.is_complete(leecher));
        assert!(done, "{format:?}: {:?}", swarm.snapshot(leecher));
        assert!(swarm.disk(leecher) == swarm.content(), "{format:?}");
        let pieces = swarm.snapshot(leecher).pieces;
        let written = swarm.disk(leecher);
        let again = swarm.add(Some(&written), Config::default(), |_| {});
        assert!(swarm.run(TRANSFER_SECONDS, |swarm| swarm.is_complete(again)), "{format:?}");
        assert_eq!(swarm.snapshot(again).have_pieces, pieces, "{format:?}");
        assert_eq!(swarm.session(again).stats().downloaded_bytes, 0);
    }
}

const ALL: &[Format] = &[Format::V1, Format::V2, Format::Hybrid];

#[test]
fn simple_torrent() {
    arrives(&[("a", 500_000), ("b", 300_001)], PIECE_LEN, ALL);
}

#[test]
fn small_piece_size() {
    arrives(&[("a", 500_000), ("b", 16_384)], 16 * 1024, ALL);
}

#[test]
fn small_file_large_piece() {
    arrives(&[("a", 1_000)], 4 * 1024 * 1024, ALL);
}

#[test]
fn empty_file() {
    arrives(&[("a", 0), ("b", 100_000), ("c", 0)], PIECE_LEN, ALL);
}

#[test]
fn padding_of_all_but_a_byte_of_a_piece() {
    // One byte of a piece is content, and all but one of the other.
    let piece_len = u64::from(PIECE_LEN);
    arrives(&[("a", 1), ("b", piece_len - 1), ("c", 70_000)], PIECE_LEN, &[Format::Hybrid]);
}

#[test]
fn block_size_pad_file() {
    let piece_len = u64::from(PIECE_LEN);
    arrives(&[("a", piece_len - 16 * 1024), ("b", 70_000)], PIECE_LEN, &[Format::Hybrid]);
}

#[test]
fn no_proxy_tcp_banned() {
    let mut swarm = Swarm::new(200_000, PIECE_LEN, 22);
    let seeder = swarm.seeder(Config::default());
    let leecher = swarm.leecher(Config::default());
    let filter = IpFilter::blocking([ip(seeder)..=ip(seeder)]);
    swarm.command(leecher, Command::SetIpFilter(filter));
    swarm.introduce(leecher, &[seeder]);
    assert!(!swarm.run(60, |swarm| swarm.snapshot(leecher).have_pieces > 0));
    assert_eq!(swarm.session(seeder).stats().peers_accepted, 0);
}

#[test]
fn no_proxy_tcp_ipv6() {
    let mut swarm = Swarm::new(200_000, PIECE_LEN, 27).over_ipv6();
    let seeder = swarm.seeder(Config::default());
    let leecher = swarm.leecher(Config::default());
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(60, |swarm| swarm.is_complete(leecher)), "{:?}", swarm.snapshot(leecher));
    assert!(swarm.disk(leecher) == swarm.content());
    for (one, other) in [(leecher, seeder), (seeder, leecher)] {
        let met = |event: &Event| matches!(event, Event::PeerConnected(_, address, _) if address.ip() == ipv6(other));
        assert!(swarm.heard(one, met));
    }
}

#[test]
fn is_finished() {
    let mut swarm = Swarm::new(1_000_000, PIECE_LEN, 23);
    let seeder = swarm.seeder(Config::default());
    let slow = Config { down_bytes_per_s: Some(100_000), ..Config::default() };
    let leecher = swarm.leecher(slow);
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(60, |swarm| swarm.snapshot(leecher).have_pieces > 0));
    assert!(swarm.snapshot(leecher).left_pieces > 0);
    let nothing = vec![Priority::SKIP];
    swarm.command(leecher, Command::SetPriorities(swarm.torrent(leecher), nothing));
    swarm.run(5, |_| false);
    let shown = swarm.snapshot(leecher);
    assert_eq!((shown.left_pieces, shown.left_bytes), (0, 0), "{shown:?}");
    assert!(shown.have_pieces < shown.pieces, "{shown:?}");
}

#[test]
fn disk_full() {
    let mut swarm = Swarm::new(500_000, PIECE_LEN, 24);
    let seeder = swarm.seeder(Config::default());
    let leecher = swarm.leecher(Config::default());
    swarm.net.disk_mut(leecher).set_room(Some(5 * 16 * 1024));
    swarm.introduce(leecher, &[seeder]);
    assert!(!swarm.run(65, |swarm| swarm.is_complete(leecher)));
    let shown = swarm.snapshot(leecher);
    assert_eq!((shown.state, shown.waits_for), (TorrentState::Downloading, WaitsFor::Room));
}

/// A disk that is full after five blocks, and has room again once that was told.
fn recovers(piece_len: u32, seconds: u64) {
    let mut swarm = Swarm::new(1_000_000, piece_len, 25);
    let seeder = swarm.seeder(Config::default());
    let leecher = swarm.leecher(Config::default());
    swarm.net.disk_mut(leecher).set_room(Some(5 * 16 * 1024));
    swarm.introduce(leecher, &[seeder]);
    let full = |event: &Event| matches!(event, Event::DiskFull(..));
    assert!(swarm.run(10, |swarm| swarm.heard(leecher, full)));
    swarm.net.disk_mut(leecher).set_room(None);
    let done = swarm.run(seconds, |swarm| swarm.is_complete(leecher));
    assert!(done, "{:?}", swarm.snapshot(leecher));
    assert!(swarm.disk(leecher) == swarm.content());
}

#[test]
fn disk_full_recover() {
    recovers(16 * 1024, 65);
}

#[test]
fn disk_full_recover_large_pieces() {
    recovers(512 * 1024, 70);
}

/// Two files that share no piece, the second unwanted; `kept` says how much of it is there.
fn unwanted_second_file(kept: u64) {
    let first = u64::from(PIECE_LEN);
    let files = [("a", first), ("b", 2 * first)];
    let (metainfo, content) = torrent_of(&files, PIECE_LEN, Format::V1, 26);
    let there = content.slice(..(first + kept) as usize);
    let mut swarm = Swarm::of(metainfo, content);
    let client = swarm.add(Some(&there), Config::default(), |add| {
        add.priorities = vec![Priority::NORMAL, Priority::SKIP];
    });
    let ready = |event: &Event| matches!(event, Event::TorrentReady(_));
    assert!(swarm.run(10, |swarm| swarm.heard(client, ready)));
    let shown = swarm.snapshot(client);
    assert_eq!((shown.left_pieces, shown.downloaded_bytes), (0, 0), "{shown:?}");
    assert!(shown.have_pieces >= 1, "{shown:?}");
}

#[test]
fn aligned_zero_priority() {
    unwanted_second_file(2 * u64::from(PIECE_LEN));
}

#[test]
fn aligned_zero_priority_no_file() {
    unwanted_second_file(0);
}
