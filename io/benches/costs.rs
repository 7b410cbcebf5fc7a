//! What the hot parts cost: `cargo bench --bench costs` times them; `bench/instructions.py` counts
//! their instructions and holds them against the committed baseline.
//!
//! - `costs [WORD]`: time per operation of the cases whose name contains the word.
//! - `costs --list`: their names.
//! - `costs --once NAME`: makes one case ready and runs it once, for a tool that counts inside
//!   [`measured`].

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![allow(unreachable_pub, reason = "modules of a program of its own")]

#[path = "costs/crowd.rs"]
mod crowd;
#[path = "../tests/host/mod.rs"]
mod host;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use teem_core::bencode::{Encoder, Limits as BencodeLimits, Mode, Tape, Value};
use teem_core::hash::{HashAlgorithm, Stream};
use teem_core::ids::{Key, PieceIndex, StreamId};
use teem_core::metainfo::merkle;
use teem_core::rng::Seed;
use teem_core::torrent::picker::{
    BLOCK_LEN, Layout, PickOptions, Picker, Pieces, Priority, RANDOM_FIRST_PIECES,
};
use teem_core::wire::{BlockRequest, Decoder, Limits, Message};
use teem_io::lanes::{Lanes, Step};

/// Pieces in the picker's cases.
const PIECES: u32 = 100_000;

/// How long one case is timed.
const TIMED: Duration = Duration::from_millis(200);

/// A case: makes itself ready, and returns what is measured.
type Case = (&'static str, fn() -> Box<dyn FnMut()>);

const CASES: &[Case] = &[
    ("wire: 64 blocks out of 256 KiB chunks", wire_blocks),
    ("wire: 1,000 requests", wire_requests),
    ("bencode: parse a torrent of 1,000 files", bencode_parse),
    ("bencode: write an answer of a tracker", bencode_write),
    ("picker: a peer with every thousandth piece comes and goes", picker_few),
    ("picker: a peer with all but every thousandth comes and goes", picker_most),
    ("picker: one piece that a poor peer has", picker_poor),
    ("picker: one of many common pieces", picker_common),
    ("picker: a nearly finished torrent", picker_end),
    ("picker: a have, then a pick", picker_have),
    ("picker: a piece in and out of fifty groups", picker_groups),
    ("hash: SHA-1 of 16 pieces of 64 KiB, alone", || hash(HashAlgorithm::Sha1, Lanes::Off)),
    ("hash: SHA-1 of 16 pieces of 64 KiB, in lanes", || hash(HashAlgorithm::Sha1, Lanes::Auto)),
    ("hash: SHA-256 of 16 pieces of 64 KiB, alone", || hash(HashAlgorithm::Sha256, Lanes::Off)),
    ("hash: SHA-256 of 16 pieces of 64 KiB, in lanes", || hash(HashAlgorithm::Sha256, Lanes::Auto)),
    ("merkle: the root of 1,024 leaves", merkle_root),
    ("session: a peer fetches 32 MiB", || crowd::serve(0)),
    ("session: a peer fetches 32 MiB beside 10,000 idle ones", || crowd::serve(crowd::CROWD)),
    ("session: 32 MiB from a peer", || crowd::fetch(0)),
    ("session: 32 MiB from a peer beside 10,000 idle ones", || crowd::fetch(crowd::CROWD)),
];

/// Where a tool that counts instructions looks.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["--list"] => CASES.iter().for_each(|(name, _)| println!("{name}")),
        ["--once", wanted] => {
            let found = CASES.iter().find(|(name, _)| *name == wanted);
            let (_, case) = found.unwrap_or_else(|| panic!("no case {wanted:?}"));
            measured(&mut *case());
        }
        [] => time(""),
        [word] => time(word),
        _ => panic!("usage: costs [WORD] | --list | --once NAME"),
    }
}

fn time(word: &str) {
    for (name, case) in CASES.iter().filter(|(name, _)| name.contains(word)) {
        let mut times = Vec::new();
        let begin = Instant::now();
        while times.len() < 5 || (begin.elapsed() < TIMED && times.len() < 10_000) {
            // Anew each time: some use up what they were made with.
            let mut work = case();
            let begin = Instant::now();
            measured(&mut *work);
            times.push(begin.elapsed());
        }
        times.sort_unstable();
        println!("{name}: {:?} (best {:?})", times[times.len() / 2], times[0]);
    }
}

fn wire_blocks() -> Box<dyn FnMut()> {
    let mut stream = Vec::new();
    for block in 0..64_u32 {
        stream.extend_from_slice(&(9 + BLOCK_LEN).to_be_bytes());
        stream.push(7);
        stream.extend_from_slice(&0_u32.to_be_bytes());
        stream.extend_from_slice(&(block * BLOCK_LEN).to_be_bytes());
        stream.resize(stream.len() + BLOCK_LEN as usize, 0);
    }
    decode(&stream, 64)
}

fn wire_requests() -> Box<dyn FnMut()> {
    let mut stream = Vec::new();
    let mut buffer = bytes::BytesMut::new();
    for block in 0..1000_u32 {
        let begin = block % 64 * BLOCK_LEN;
        let request = BlockRequest { piece: PieceIndex(block / 64), begin, length: BLOCK_LEN };
        Message::Request(request).encode(&mut buffer);
        stream.extend_from_slice(&buffer.split());
    }
    decode(&stream, 1000)
}

fn decode(stream: &[u8], messages: usize) -> Box<dyn FnMut()> {
    let chunks: Vec<Bytes> = stream.chunks(256 * 1024).map(Bytes::copy_from_slice).collect();
    let limits = Limits::default();
    Box::new(move || {
        let mut decoder = Decoder::new();
        let mut count = 0;
        for chunk in &chunks {
            decoder.push(chunk.clone());
            while let Some(message) = decoder.next(&limits).expect("legal") {
                black_box(&message);
                count += 1;
            }
        }
        assert_eq!(count, messages);
    })
}

fn bencode_parse() -> Box<dyn FnMut()> {
    let mut torrent = Vec::new();
    let mut encoder = Encoder::new(&mut torrent);
    encoder.begin_dict().key("info").begin_dict().key("files").begin_list();
    for file in 0..1000_u64 {
        encoder.begin_dict().key("length").uint(file * 12_345).key("path").begin_list();
        encoder.bytes("folder").bytes(format!("file {file}")).end().end();
    }
    encoder.end().key("name").bytes("content").key("piece length").uint(1 << 20);
    encoder.key("pieces").bytes([7; 20 * 12]).end().end();
    let mut tape = Tape::new();
    Box::new(move || {
        let document = tape.parse(&torrent, &BencodeLimits::FILE, Mode::Lenient).expect("legal");
        let files = document.root().get("info").and_then(|info| info.get("files"));
        let files = files.and_then(Value::as_list).expect("a list");
        let len: u64 =
            files.iter().filter_map(|file| file.get("length").and_then(Value::as_uint)).sum();
        assert_eq!(len, 12_345 * 999 * 500);
    })
}

fn bencode_write() -> Box<dyn FnMut()> {
    let mut out = Vec::with_capacity(4096);
    Box::new(move || {
        out.clear();
        let mut encoder = Encoder::new(&mut out);
        encoder.begin_dict().key("complete").uint(12).key("incomplete").uint(345);
        encoder.key("interval").uint(1800).key("peers").bytes(black_box([1; 6 * 50])).end();
        assert!(black_box(&out).len() > 300);
    })
}

fn peer() -> StreamId {
    StreamId::from_parts(0, 1)
}

fn words_of(has: impl Fn(u32) -> bool) -> Vec<u64> {
    let mut words = vec![0; PIECES.div_ceil(64) as usize];
    for piece in (0..PIECES).filter(|piece| has(*piece)) {
        words[piece as usize / 64] |= 1 << (63 - piece % 64);
    }
    words
}

/// A picker past the random first pieces.
fn begun() -> Picker {
    let layout = Layout::new(PIECES, BLOCK_LEN, u64::from(PIECES) * u64::from(BLOCK_LEN));
    let rng = Seed::from_number(1).stream("picker", 0);
    let mut picker = Picker::new(layout.expect("legal"), rng);
    for piece in 0..RANDOM_FIRST_PIECES {
        picker.set_have(PieceIndex(piece));
    }
    picker
}

/// Picks one block and gives it back.
fn pick(picker: &mut Picker, pieces: Pieces<'_>) {
    let mut out = Vec::with_capacity(1);
    assert_eq!(picker.pick(peer(), pieces, 1, &PickOptions::default(), &mut out), 1);
    picker.forget_peer(peer());
}

fn comes_and_goes(words: Vec<u64>) -> Box<dyn FnMut()> {
    let mut picker = begun();
    Box::new(move || {
        picker.add_peer(Pieces::Words(&words));
        picker.remove_peer(Pieces::Words(&words));
    })
}

fn picker_few() -> Box<dyn FnMut()> {
    comes_and_goes(words_of(|piece| piece % 1000 == 0))
}

fn picker_most() -> Box<dyn FnMut()> {
    comes_and_goes(words_of(|piece| piece % 1000 != 0))
}

fn picker_poor() -> Box<dyn FnMut()> {
    let mut picker = begun();
    let poor = words_of(|piece| piece == 77_777);
    picker.add_peer(Pieces::Words(&words_of(|piece| piece % 2 == 1)));
    picker.add_peer(Pieces::Words(&poor));
    Box::new(move || pick(&mut picker, Pieces::Words(&poor)))
}

fn picker_common() -> Box<dyn FnMut()> {
    let mut picker = begun();
    let common = words_of(|piece| piece % 2 == 1);
    picker.add_peer(Pieces::Words(&common));
    Box::new(move || pick(&mut picker, Pieces::Words(&common)))
}

fn picker_end() -> Box<dyn FnMut()> {
    let mut picker = begun();
    for piece in (0..PIECES).filter(|piece| piece % 20_000 != 7) {
        picker.set_have(PieceIndex(piece));
    }
    let last = words_of(|piece| piece == 80_007);
    picker.add_peer(Pieces::Words(&last));
    Box::new(move || pick(&mut picker, Pieces::Words(&last)))
}

fn picker_have() -> Box<dyn FnMut()> {
    let mut picker = begun();
    picker.add_peer(Pieces::All);
    picker.add_peer(Pieces::Words(&[]));
    Box::new(move || {
        picker.have(PieceIndex(9_700));
        pick(&mut picker, Pieces::All);
        picker.lost(PieceIndex(9_700));
    })
}

fn picker_groups() -> Box<dyn FnMut()> {
    let mut picker = begun();
    for level in 0..50 {
        picker.add_peer(Pieces::Words(&words_of(|piece| piece % 50 > level && piece != 500)));
    }
    Box::new(move || {
        picker.set_priority(PieceIndex(500), Priority::SKIP);
        picker.set_priority(PieceIndex(500), Priority::NORMAL);
    })
}

fn hash(algorithm: HashAlgorithm, lanes: Lanes) -> Box<dyn FnMut()> {
    let pieces: Vec<Bytes> = (0..16).map(|n| Bytes::from(vec![n; 64 * 1024])).collect();
    Box::new(move || {
        let mut states = vec![Stream::new(algorithm); pieces.len()];
        let mut steps: Vec<_> = states
            .iter_mut()
            .zip(pieces.chunks(1))
            .map(|(state, parts)| Step { state, parts })
            .collect();
        black_box(lanes.update(&mut steps));
    })
}

fn merkle_root() -> Box<dyn FnMut()> {
    let leaves: Vec<_> = (0..1024_u32).map(|n| [n as u8; 32]).collect();
    Box::new(move || {
        black_box(merkle::root(black_box(&leaves), 0));
    })
}
