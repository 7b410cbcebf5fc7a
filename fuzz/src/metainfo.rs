//! Bencode, and what is made of it: torrents, links, saved state, traces.

use std::fmt::Write as _;

use bytes::Bytes;
use teem_core::bencode::{Anomalies, Encoder, Kind, Limits, Mode, Tape, Value};
use teem_core::hash;
use teem_core::ids::{InfoHash, PieceIndex};
use teem_core::machine::echo::Echo;
use teem_core::machine::trace::{MAGIC, replay};
use teem_core::metainfo::{Magnet, Metainfo};
use teem_core::time::Instant;
use teem_core::torrent::resume::Resume;

use crate::script::Script;

/// The bencode reader: strict takes what `bendy` takes, lenient takes more and says so, and what
/// was read is written back the same.
pub fn bencode(bytes: &[u8]) {
    let mut tape = Tape::new();
    let strict = tape.parse(bytes, &Limits::FILE, Mode::Strict).map(|document| {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out);
        let whole = copy(document.root(), &mut encoder);
        if whole {
            encoder.finish();
            assert_eq!(out, bytes, "what was read is written the same");
        }
        assert_eq!(document.root().raw(), bytes);
    });
    assert_eq!(strict.is_ok(), bendy_accepts(bytes), "strict is what bendy is: {strict:?}");
    let lenient = tape.parse(bytes, &Limits::FILE, Mode::Lenient).map(|document| {
        walk(document.root());
        let _ = write!(String::new(), "{:?}", document.root());
        document.anomalies() == Anomalies::default() && document.trailing().is_empty()
    });
    assert_eq!(lenient == Ok(true), strict.is_ok(), "strict is lenient without anomalies");
}

/// Whether bendy takes `input` as exactly one value, within the depth that we allow.
fn bendy_accepts(input: &[u8]) -> bool {
    use bendy::state_tracker::Token::{Dict, End, List, Num, String};
    let depth = Limits::FILE.depth as usize;
    let (mut open, mut values) = (0_usize, 0_usize);
    for token in bendy::decoding::Decoder::new(input).with_max_depth(depth).tokens() {
        match token {
            Ok(List | Dict) => open += 1,
            Ok(End) => open -= 1,
            Ok(String(_) | Num(_)) => {}
            Err(_) => return false,
        }
        values += usize::from(open == 0);
    }
    values == 1
}

/// Writes a value again; false if it has an integer that no 64 bits hold.
fn copy(value: Value<'_>, to: &mut Encoder<'_>) -> bool {
    match value.kind() {
        Kind::Int => match (value.as_int(), value.as_uint()) {
            (Some(number), _) => _ = to.int(number),
            (None, Some(number)) => _ = to.uint(number),
            (None, None) => return false,
        },
        Kind::Bytes => _ = to.bytes(value.as_bytes().expect("a string")),
        Kind::List => {
            to.begin_list();
            if !value.as_list().expect("a list").iter().all(|item| copy(item, to)) {
                return false;
            }
            to.end();
        }
        Kind::Dict => {
            to.begin_dict();
            for (key, value) in value.as_dict().expect("a dictionary") {
                if !copy(value, to.key(key)) {
                    return false;
                }
            }
            to.end();
        }
    }
    true
}

/// Looks at everything that a value has.
fn walk(value: Value<'_>) {
    assert_eq!(value.raw().len(), value.span().len());
    let _ = (value.as_str(), value.as_int(), value.as_uint());
    if let Some(list) = value.as_list() {
        list.iter().for_each(walk);
    }
    if let Some(dict) = value.as_dict() {
        for (key, value) in dict {
            assert!(dict.get(key).is_some(), "what is there is found");
            walk(value);
        }
    }
}

/// Torrent files: what is taken is legal, and is the same after writing and reading it again.
pub fn metainfo(bytes: &[u8]) {
    let Ok(torrent) = Metainfo::from_bytes(bytes) else { return };
    check_torrent(&torrent);
    let again = Metainfo::from_bytes(&torrent.to_bytes()).expect("what we write we read");
    assert_eq!(again.info().info_hash(), torrent.info().info_hash());
    assert_eq!(again.info().info_hash_v2(), torrent.info().info_hash_v2());
    assert_eq!(again.info().bytes(), torrent.info().bytes());
    assert_eq!(again.to_bytes(), torrent.to_bytes(), "writing is stable");
}

fn check_torrent(torrent: &Metainfo) {
    let info = torrent.info();
    if let Some(InfoHash(v1)) = info.info_hash() {
        assert_eq!(v1, hash::sha1(info.bytes()));
    }
    let layout = info.layout();
    let mut at = 0;
    for file in layout.files() {
        assert!(file.offset() >= at, "files do not overlap");
        at = file.offset() + file.len();
        for component in file.components() {
            assert!(!matches!(component, "" | "." | ".."), "{component:?} in {:?}", file.path());
            assert!(!component.contains(['/', '\\', '\0']), "{component:?}");
        }
    }
    assert!(at <= layout.space_len());
    let pieces: u64 = (0..layout.piece_count().min(1000))
        .map(|piece| {
            let len = layout.piece_size(PieceIndex(piece));
            let parts: u64 = layout.map_piece(PieceIndex(piece)).map(|part| part.len).sum();
            assert_eq!(parts, u64::from(len), "a piece lies in files");
            u64::from(len)
        })
        .sum();
    if layout.piece_count() <= 1000 {
        assert_eq!(pieces, layout.space_len());
    }
}

/// Magnet links: what is taken is printed, and read back the same.
pub fn magnet(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(link) = text.parse::<Magnet>() else { return };
    assert!(link.info_hash.is_some() || link.info_hash_v2.is_some());
    assert_eq!(link.to_string().parse::<Magnet>(), Ok(link));
}

/// Resume data with a checksum that is right, so that what is behind it is reached.
pub fn resume(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let (pieces, files) = (u32::from(script.byte()), script.below(4));
    let body = script.rest();
    let hash = InfoHash([7; 20]);
    let _ = Resume::from_bytes(body, hash, pieces, files);
    let sealed = [body, &hash::sha1(body)].concat();
    let Ok(saved) = Resume::from_bytes(&sealed, hash, pieces, files) else { return };
    assert_eq!((saved.have.len(), saved.files.len()), (pieces, files));
    let again = Resume::from_bytes(&saved.to_bytes(), hash, pieces, files);
    assert_eq!(again.as_ref(), Ok(&saved));
}

/// Traces: damaged ones are refused or replayed up to the damage, and replayed the same twice.
pub fn trace(bytes: &[u8]) {
    let _ = replayed(bytes);
    let behind_magic = Bytes::from([&MAGIC[..], bytes].concat());
    assert_eq!(replayed(&behind_magic), replayed(&behind_magic));
}

fn replayed(bytes: &[u8]) -> String {
    let mut seen = String::new();
    let calls = replay(&mut Echo::new(Instant::ORIGIN), bytes, |at, what| {
        writeln!(seen, "{at:?} {what:?}").expect("a string takes it");
    });
    format!("{calls:?}\n{seen}")
}
