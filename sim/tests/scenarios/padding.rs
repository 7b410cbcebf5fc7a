//! Padding of every shape (BEP 47), as the torrents of others have it: between files, behind the
//! last one, several in a row, of whole blocks and pieces, of four gigabytes. It is zeros that
//! nobody asks for, sends or stores.

use std::sync::Arc;

use bytes::Bytes;
use teem_core::bencode::Encoder;
use teem_core::hash::sha1;
use teem_core::ids::PieceIndex;
use teem_core::metainfo::merkle::{self, Hash};
use teem_core::metainfo::{Info, Metainfo, MetainfoError};
use teem_core::rng::Seed;
use teem_core::session::{Command, Config, Event};
use teem_core::time::Duration;
use teem_core::wire::Message;
use teem_sim::net::HostId;
use teem_sim::storage::{Cost, JobKind, Profile};
use teem_sim::swarm::Swarm;

use crate::checking::saved;
use crate::stage::{Stage, banned};
use crate::transfers::TRANSFER_SECONDS;

/// A file of so many bytes, or padding.
#[derive(Clone, Copy, Debug)]
enum Part {
    File(u64),
    Pad(u64),
}

use Part::{File, Pad};

impl Part {
    const fn len(self) -> u64 {
        let (File(len) | Pad(len)) = self;
        len
    }
}

/// The root and the piece layer of a file.
fn tree(bytes: &[u8], piece_len: u32) -> (Hash, Vec<Hash>) {
    let leaves: Vec<Hash> = bytes.chunks(merkle::BLOCK_LEN as usize).map(merkle::leaf).collect();
    let level = merkle::piece_level(piece_len);
    let pieces = bytes.len().div_ceil(piece_len as usize) as u64;
    let layer = (0..pieces).map(|piece| merkle::node(&leaves, 0, level, piece)).collect();
    (merkle::root(&leaves, 0), layer)
}

/// A v1 torrent of these parts, or a hybrid one, and its content.
fn torrent(
    parts: &[Part],
    piece_len: u32,
    hybrid: bool,
) -> Result<(Arc<Metainfo>, Bytes), MetainfoError> {
    torrent_with(parts, piece_len, hybrid, &[])
}

/// The same, with hashes of these pieces that no bytes have.
fn torrent_with(
    parts: &[Part],
    piece_len: u32,
    hybrid: bool,
    wrong: &[usize],
) -> Result<(Arc<Metainfo>, Bytes), MetainfoError> {
    let total: u64 = parts.iter().map(|part| part.len()).sum();
    // What is never written takes no memory.
    let mut content = vec![0; total as usize];
    let mut random = Seed::from_number(41).stream("content", 0);
    let (mut files, mut at) = (Vec::new(), 0);
    for part in parts {
        let range = at..at + part.len() as usize;
        at = range.end;
        if let File(_) = part {
            random.fill(&mut content[range.clone()]);
            files.push(range);
        }
    }
    let trees: Vec<_> = files.iter().map(|file| tree(&content[file.clone()], piece_len)).collect();
    let end = files.last().map_or(0, |file| file.end);
    let zeros = sha1(&vec![0; piece_len as usize]);
    let mut pieces = Vec::new();
    for (number, piece) in content.chunks(piece_len as usize).enumerate() {
        let padding = number * piece_len as usize >= end && piece.len() == piece_len as usize;
        pieces.extend_from_slice(&if padding { zeros } else { sha1(piece) });
    }
    for number in wrong {
        pieces[number * 20] ^= 1;
    }

    let names = ["a", "b", "c"];
    let mut info = Vec::new();
    let mut encoder = Encoder::new(&mut info);
    encoder.begin_dict();
    if hybrid {
        encoder.key("file tree").begin_dict();
        for ((name, file), (root, _)) in names.iter().zip(&files).zip(&trees) {
            encoder.key(name).begin_dict().key("").begin_dict();
            encoder.key("length").uint(file.len() as u64);
            encoder.key("pieces root").bytes(root).end().end();
        }
        encoder.end();
    }
    encoder.key("files").begin_list();
    let mut names = names.iter();
    for part in parts {
        encoder.begin_dict();
        if let Pad(len) = part {
            encoder.key("attr").bytes("p");
            encoder.key("length").uint(*len);
            encoder.key("path").begin_list().bytes(".pad").bytes(len.to_string());
        } else {
            encoder.key("length").uint(part.len());
            encoder.key("path").begin_list().bytes(names.next().expect("few files"));
        }
        encoder.end().end();
    }
    encoder.end();
    if hybrid {
        encoder.key("meta version").uint(2);
    }
    encoder.key("name").bytes("padded");
    encoder.key("piece length").uint(piece_len.into());
    encoder.key("pieces").bytes(pieces).end();
    encoder.finish();

    let info = Info::from_bytes(info.into())?;
    let mut metainfo = Metainfo::from_info(info);
    if hybrid {
        for (root, layer) in trees.into_iter().filter(|(_, layer)| layer.len() > 1) {
            metainfo.add_piece_layer(root, layer.concat().into())?;
        }
    }
    Ok((Arc::new(metainfo), content.into()))
}

/// Fetches a torrent of these parts, and checks what came of it.
fn arrives(parts: &[Part], piece_len: u32, hybrid: bool) {
    let (metainfo, content) = torrent(parts, piece_len, hybrid).expect("sound");
    assert_eq!(metainfo.files_without_layer().count(), 0);
    let len = metainfo.info().layout().content_len();
    let mut swarm = Swarm::of(Arc::clone(&metainfo), content.clone());
    let seeder = swarm.seeder(Config::default());
    let leecher = swarm.leecher(Config::default());
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(TRANSFER_SECONDS, |swarm| swarm.is_complete(leecher)), "{parts:?}");
    let zeros = swarm.session(leecher).stats().checked_bytes;
    assert!(zeros <= 2 * u64::from(piece_len), "{zeros} bytes of padding hashed: {parts:?}");
    let shown = swarm.snapshot(leecher);
    assert_eq!(shown.have_pieces, shown.pieces, "{parts:?}");
    // Padding is neither sent nor written.
    assert_eq!(swarm.session(seeder).stats().uploaded_bytes, len, "{parts:?}");
    assert_eq!(swarm.session(leecher).stats().written_bytes, len, "{parts:?}");

    // Another finds on that disk all that there is.
    swarm.command(leecher, Command::ShutDown);
    let down = |event: &Event| matches!(event, Event::ShutDown);
    assert!(swarm.run(TRANSFER_SECONDS, |swarm| swarm.heard(leecher, down)));
    let again = swarm.leecher(Config::default());
    swarm.net.swap_disks(leecher, again);
    assert!(swarm.run(TRANSFER_SECONDS, |swarm| swarm.is_complete(again)), "{parts:?}");
    assert_eq!(swarm.snapshot(again).have_pieces, shown.pieces, "{parts:?}");
    assert_eq!(swarm.session(again).stats().downloaded_bytes, 0);
}

/// The same as v1 and as hybrid.
fn arrives_both(parts: &[Part], piece_len: u32) {
    arrives(parts, piece_len, false);
    arrives(parts, piece_len, true);
}

/// The same as v1; as hybrid it is refused, for its v1 half has a piece that the v2 half has not.
fn arrives_v1(parts: &[Part], piece_len: u32) {
    arrives(parts, piece_len, false);
    let refused = torrent(parts, piece_len, true);
    assert!(matches!(refused, Err(MetainfoError::Invalid { field: "info.files", .. })));
}

#[test]
fn padding_that_fills_the_last_piece() {
    arrives_both(&[File(0x3ff0), Pad(0x10)], 0x4000);
}

#[test]
fn odd_last_pad_file() {
    arrives_both(&[File(0x4100), Pad(0x10)], 0x4000);
}

#[test]
fn small_piece_size() {
    arrives(&[File(0x3ff0), Pad(0x10)], 0x2000, false);
}

#[test]
fn odd_piece_size() {
    arrives(&[File(0x1ffe), Pad(1)], 0x1fff, false);
    // The block behind the last one of a piece has an odd length.
    arrives(&[File(0x9001), Pad(0x1001), File(0x5003)], 0x5001, false);
}

#[test]
fn unaligned_pad_file() {
    arrives_v1(&[File(0x3fff), Pad(0x10)], 0x4000);
}

#[test]
fn piece_size_pad_file() {
    arrives_v1(&[File(0x8000), Pad(0x8000)], 0x8000);
}

#[test]
fn block_size_pad_file() {
    arrives_v1(&[File(0x4000), Pad(0x4000)], 0x4000);
    arrives_both(&[File(0x4000), Pad(0x4000), File(0x4000)], 0x8000);
}

#[test]
fn back_to_back_pad_file() {
    arrives_both(&[File(0x3000), Pad(0x800), Pad(0x800)], 0x4000);
    arrives_both(&[File(0x3000), Pad(0x800), Pad(0x800), File(0x5000)], 0x4000);
}

#[test]
fn small_file_large_piece() {
    let parts = [File(0x833ed), Pad(0x7cc13), File(0x3d), Pad(0x7ffc3), File(0x14000)];
    arrives_both(&parts, 0x80000);
}

#[test]
fn large_pad_file() {
    arrives_v1(&[File(0x5000), Pad(0x1_0000_0000 - 0x5000)], 0x10_0000);
}

/// Jobs of hashing that a host's disk took and did.
fn hash_jobs(swarm: &Swarm, host: HostId) -> (u32, u32) {
    let count = swarm.net.disk(host).counts().of(JobKind::Hash);
    (count.taken, count.done)
}

fn is_ready(swarm: &Swarm, host: HostId) -> bool {
    swarm.heard(host, |event| matches!(event, Event::TorrentReady(_)))
}

fn have(swarm: &Swarm, host: HostId) -> Vec<bool> {
    let pieces = swarm.session(host).pieces(swarm.torrent(host)).expect("it is there");
    let count = swarm.snapshot(host).pieces as usize;
    (0..count).map(|at| pieces[at / 8] >> (7 - at % 8) & 1 == 1).collect()
}

#[test]
fn a_thousand_pieces_of_padding_cost_the_hash_of_one_and_of_the_last() {
    let (piece_len, last_len) = (0x10_0000, 0x8_1234);
    let parts = [File(0x5000), Pad(1_001 * piece_len - 0x5000 + last_len)];
    let (metainfo, content) = torrent(&parts, piece_len as u32, false).expect("sound");
    let mut swarm = Swarm::of(metainfo, content);
    let leecher = swarm.leecher(Config::default());
    assert!(swarm.run(TRANSFER_SECONDS, |swarm| is_ready(swarm, leecher)));
    assert_eq!(hash_jobs(&swarm, leecher), (2, 2));
    assert_eq!(swarm.session(leecher).stats().checked_bytes, piece_len + last_len);
    assert_eq!(swarm.net.disk(leecher).counts().read_bytes, piece_len + last_len);
    let mut expected = [true; 1_002];
    expected[0] = false;
    assert_eq!(have(&swarm, leecher), expected);

    // Where the content is there too, it is hashed besides.
    let seeder = swarm.seeder(Config::default());
    assert!(swarm.run(TRANSFER_SECONDS, |swarm| swarm.is_complete(seeder)));
    assert_eq!(hash_jobs(&swarm, seeder), (3, 3));
    assert_eq!(swarm.session(seeder).stats().checked_bytes, 0x5000 + piece_len + last_len);
    assert_eq!(have(&swarm, seeder), [true; 1_002]);

    // Resume data vouches for padding as for anything.
    swarm.command(seeder, Command::ShutDown);
    let down = |event: &Event| matches!(event, Event::ShutDown);
    assert!(swarm.run(TRANSFER_SECONDS, |swarm| swarm.heard(seeder, down)));
    let saved = saved(&swarm, seeder).expect("it was saved");
    let again = swarm.add(None, Config::default(), |add| add.resume = Some(saved));
    swarm.net.swap_disks(seeder, again);
    assert!(swarm.run(TRANSFER_SECONDS, |swarm| swarm.is_complete(again)));
    assert_eq!(have(&swarm, again), [true; 1_002]);
    assert_eq!(swarm.session(again).stats().checked_bytes, 0);
}

#[test]
fn padding_whose_hash_is_not_that_of_zeros_is_never_had_and_never_asked_for() {
    let piece_len = 0x8000;
    // One by one: the first, which is hashed for all, one in the middle, and the last one.
    for wrong in [1, 3, 6] {
        let parts = [File(0x5000), Pad(6 * piece_len - 0x5000 + 0x1234)];
        let (metainfo, content) =
            torrent_with(&parts, piece_len as u32, false, &[wrong]).expect("sound");
        let mut swarm = Swarm::of(metainfo, content);
        let seeder = swarm.seeder(Config::default());
        let session = swarm.leecher(Config::default());
        let ready = |swarm: &Swarm| is_ready(swarm, seeder) && is_ready(swarm, session);
        assert!(swarm.run(TRANSFER_SECONDS, ready));
        let mut expected = [true; 7];
        expected[wrong] = false;
        assert_eq!(have(&swarm, seeder), expected);
        expected[0] = false;
        assert_eq!(have(&swarm, session), expected);

        // A peer claims to have it.
        let mut stage = Stage { swarm, session };
        let guest = stage.guest();
        for piece in 0..7 {
            stage.send(guest, &Message::Have(PieceIndex(piece)));
        }
        stage.send(guest, &Message::Unchoke);
        stage.wait(Duration::from_secs(5));
        let asked: Vec<_> = stage
            .got(guest)
            .filter_map(|got| if let Message::Request(block) = got { Some(block) } else { None })
            .collect();
        assert!(!asked.is_empty() && asked.iter().all(|block| block.piece == PieceIndex(0)));
        assert_eq!(hash_jobs(&stage.swarm, session), (2, 2), "nothing is hashed again");

        // What is wanted arrives, and nobody is to blame.
        let Stage { mut swarm, .. } = stage;
        swarm.introduce(session, &[seeder]);
        let finished = |event: &Event| matches!(event, Event::TorrentFinished(_));
        assert!(swarm.run(60, |swarm| swarm.heard(session, finished)));
        expected[0] = true;
        assert_eq!(have(&swarm, session), expected);
        assert!(banned(&swarm, session).is_empty());
    }
}

#[test]
fn padding_behind_content_is_hashed_with_it_and_not_without() {
    let piece_len = 0x10_0000;
    let parts = [File(1), Pad(piece_len - 1)].repeat(3);
    let (metainfo, content) = torrent(&parts, piece_len as u32, false).expect("sound");
    let mut swarm = Swarm::of(metainfo, content);
    let leecher = swarm.leecher(Config::default());
    assert!(swarm.run(TRANSFER_SECONDS, |swarm| is_ready(swarm, leecher)));
    assert_eq!(hash_jobs(&swarm, leecher), (0, 0));
    assert_eq!(have(&swarm, leecher), [false; 3]);

    // It counts as what is hashed at a time: one after the other.
    let little = Config { check_bytes_max: piece_len as usize, ..Config::default() };
    let seeder = swarm.seeder(little);
    let slow = Profile::INSTANT.with(JobKind::Hash, Cost::micros(100, 100, 0));
    swarm.net.disk_mut(seeder).set_profile(slow);
    let mut most = 0;
    let done = swarm.run(TRANSFER_SECONDS, |swarm| {
        let (taken, done) = hash_jobs(swarm, seeder);
        most = most.max(taken - done);
        swarm.is_complete(seeder)
    });
    assert!(done, "{:?}", swarm.snapshot(seeder));
    assert_eq!((hash_jobs(&swarm, seeder), most), ((3, 3), 1));
}
