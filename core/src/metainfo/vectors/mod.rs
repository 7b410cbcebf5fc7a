//! Torrents that are known to trouble clients, one row each: some must be refused with the field
//! that is to blame, the others must load in a certain form.
//!
//! The names of the rows are those of the files in libtorrent's test suite, whose cases these are;
//! the torrents are our own and made here. Rows that begin with `fresh_` come from bugs that were
//! reported in 2026.

mod normalised;
mod refused;

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::{format, println, vec};

use bytes::Bytes;
use proptest::prelude::*;

use normalised::normalised;
use refused::refused;

use super::merkle::{self, BLOCK_LEN, Hash};
use super::path::sanitise;
use super::*;
use crate::bencode::Encoder;
use crate::ids::PieceIndex;

/// Something to encode.
#[derive(Clone, Debug)]
enum Node {
    Int(i64),
    Str(Vec<u8>),
    List(Vec<Self>),
    Dict(Dict),
    Raw(Vec<u8>),
}

type Dict = BTreeMap<Vec<u8>, Node>;

impl Node {
    fn write(&self, to: &mut Encoder<'_>) {
        match self {
            Self::Int(number) => to.int(*number),
            Self::Str(bytes) => to.bytes(bytes),
            Self::Raw(bytes) => to.raw(bytes),
            Self::List(items) => {
                to.begin_list();
                for item in items {
                    item.write(to);
                }
                to.end()
            }
            Self::Dict(pairs) => {
                to.begin_dict();
                for (key, value) in pairs {
                    value.write(to.key(key));
                }
                to.end()
            }
        };
    }

    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out);
        self.write(&mut encoder);
        encoder.finish();
        out
    }
}

const fn i(number: i64) -> Node {
    Node::Int(number)
}

fn s(bytes: impl AsRef<[u8]>) -> Node {
    Node::Str(bytes.as_ref().to_vec())
}

fn raw(bytes: &str) -> Node {
    Node::Raw(bytes.as_bytes().to_vec())
}

fn l(items: impl IntoIterator<Item = Node>) -> Node {
    Node::List(items.into_iter().collect())
}

fn pairs<K: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (K, Node)>) -> Dict {
    pairs.into_iter().map(|(key, value)| (key.as_ref().to_vec(), value)).collect()
}

fn d<K: AsRef<[u8]>>(of: impl IntoIterator<Item = (K, Node)>) -> Node {
    Node::Dict(pairs(of))
}

fn strings<T: AsRef<[u8]>>(items: impl IntoIterator<Item = T>) -> Node {
    l(items.into_iter().map(s))
}

fn set(mut dict: Dict, key: &str, value: Node) -> Dict {
    dict.insert(key.into(), value);
    dict
}

fn unset(mut dict: Dict, key: &str) -> Dict {
    dict.remove(key.as_bytes());
    dict
}

fn with(top: impl IntoIterator<Item = (&'static str, Node)>, info: Dict) -> Vec<u8> {
    Node::Dict(set(pairs(top), "info", Node::Dict(info))).encoded()
}

fn torrent(info: Dict) -> Vec<u8> {
    with([], info)
}

const PIECE: i64 = 16 * 1024;
const PIECE_LEN: u64 = 16 * 1024;

fn int(len: usize) -> i64 {
    i64::try_from(len).expect("small")
}

fn hashes(total: i64) -> Node {
    s(vec![7; 20 * usize::try_from(total).expect("positive").div_ceil(PIECE as usize)])
}

fn single(len: i64) -> Dict {
    pairs([
        ("length", i(len)),
        ("name", s("t")),
        ("piece length", i(PIECE)),
        ("pieces", hashes(len)),
    ])
}

fn file_of<T: AsRef<[u8]>>(len: i64, path: impl IntoIterator<Item = T>) -> Node {
    d([("length", i(len)), ("path", strings(path))])
}

fn tagged(file: Node, key: &str, value: Node) -> Node {
    let Node::Dict(file) = file else { panic!("a file is a dictionary") };
    Node::Dict(set(file, key, value))
}

fn link<T: AsRef<[u8]>, U: AsRef<[u8]>>(
    path: impl IntoIterator<Item = T>,
    to: impl IntoIterator<Item = U>,
) -> Node {
    tagged(tagged(file_of(0, path), "attr", s("l")), "symlink path", strings(to))
}

/// A torrent in a folder `t` of this many bytes in total.
fn multi(total: i64, files: impl IntoIterator<Item = Node>) -> Dict {
    set(set(unset(single(1), "length"), "files", l(files)), "pieces", hashes(total))
}

/// A folder of files of ten bytes each with these paths.
fn folder(paths: &[&[&str]]) -> Vec<u8> {
    torrent(multi(10 * int(paths.len()), paths.iter().map(|path| file_of(10, *path))))
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7) as u8 ^ len as u8).collect()
}

fn leaves(len: usize) -> Vec<Hash> {
    content(len).chunks(BLOCK_LEN as usize).map(merkle::leaf).collect()
}

fn root(len: usize) -> Hash {
    merkle::root(&leaves(len), 0)
}

fn layer(len: usize, piece_len: usize) -> Vec<u8> {
    let blocks = piece_len / BLOCK_LEN as usize;
    let pieces = leaves(len);
    let pieces = pieces.chunks(blocks).map(|piece| {
        let mut piece = piece.to_vec();
        piece.resize(blocks, [0; 32]);
        merkle::root(&piece, 0)
    });
    pieces.collect::<Vec<_>>().concat()
}

fn leaf(len: usize) -> Node {
    let length = ("length", i(int(len)));
    match len {
        0 => d([("", d([length]))]),
        _ => d([("", d([length, ("pieces root", s(root(len)))]))]),
    }
}

fn leaf_of<K: AsRef<[u8]>>(of: impl IntoIterator<Item = (K, Node)>) -> Node {
    d([("", d(of))])
}

fn v2(tree: Node) -> Dict {
    pairs([
        ("file tree", tree),
        ("meta version", i(2)),
        ("name", s("t")),
        ("piece length", i(PIECE)),
    ])
}

/// A v2 torrent of one file of four pieces, and what is under `piece layers`.
fn layered(layers: Node) -> Vec<u8> {
    with([("piece layers", layers)], v2(d([("t", leaf(LAYERED_LEN))])))
}

const LAYERED_LEN: usize = 4 * PIECE as usize - 9;

fn hybrid(tree: Node, total: i64, files: impl IntoIterator<Item = Node>) -> Dict {
    let mut info = multi(total, files);
    info.append(&mut v2(tree));
    info
}

fn pad(len: i64) -> Node {
    tagged(file_of(len, [".pad", &len.to_string()]), "attr", s("p"))
}

#[test]
fn every_torrent_that_must_be_refused_is_refused_for_its_reason() {
    let rows = refused();
    for (name, bytes, field) in &rows {
        println!("{name}");
        let error = Metainfo::from_bytes(bytes).expect_err("must be refused");
        println!("    {error}");
        assert_eq!(error.field(), *field);
        assert!(error.to_string().starts_with(field));
    }
    let fresh = rows.iter().filter(|(name, ..)| name.starts_with("fresh_")).count();
    let halves = rows.iter().filter(|(name, ..)| name.contains(", ")).count();
    assert_eq!((rows.len() - fresh - halves, halves, fresh), (43, 2, 10));
}

#[test]
fn every_torrent_that_must_load_takes_its_form() {
    let rows = normalised();
    for (name, bytes, check) in &rows {
        println!("{name}");
        let torrent = Metainfo::from_bytes(bytes).expect("must load");
        check(&torrent);
        is_safe(&torrent);
        let again = torrent.to_bytes();
        assert_eq!(Metainfo::from_bytes(&again).as_ref(), Ok(&torrent));
    }
    let fresh = rows.iter().filter(|(name, ..)| name.starts_with("fresh_")).count();
    assert_eq!((rows.len() - fresh, fresh), (64, 4));
}

#[test]
fn layers_are_no_concern_of_the_info_dictionary() {
    let mut seen = 0;
    for (name, bytes, field) in refused() {
        if field == "piece layers" {
            println!("{name}");
            let mut tape = crate::bencode::Tape::new();
            let limits = &crate::bencode::Limits::FILE;
            let document =
                tape.parse(&bytes, limits, crate::bencode::Mode::Strict).expect("bencode");
            let info = document.root().get("info").expect("there").raw();
            Info::from_bytes(Bytes::copy_from_slice(info)).expect("must load");
            seen += 1;
        }
    }
    assert_eq!(seen, 7);
}

/// What holds for the paths of every torrent.
fn is_safe(torrent: &Metainfo) {
    let layout = torrent.info().layout();
    let mut seen = std::collections::BTreeSet::new();
    for file in layout.files() {
        assert!(file.components().next() == Some(torrent.info().name()));
        for component in file.components() {
            assert_eq!(sanitise(component.as_bytes()).as_deref(), Some(component));
        }
        if !file.is_pad() {
            assert!(seen.insert(file.path().to_lowercase()), "{}", file.path());
        }
        if let Some(target) = file.link_target() {
            assert!(target.starts_with(&format!("{}/", torrent.info().name())));
        }
    }
    let sizes: u64 =
        (0..layout.piece_count()).map(|n| u64::from(layout.piece_size(PieceIndex(n)))).sum();
    assert!(sizes == layout.space_len() || sizes == layout.content_len());
}

#[test]
fn trackers_come_in_tiers_and_once() {
    let list = l([
        strings([" http://a/ ", "udp://b:1"]),
        l([]),
        i(1),
        l([s("http://a/"), i(2), s("")]),
        s("http://c/"),
    ]);
    let bytes = with([("announce", s("http://z/")), ("announce-list", list)], single(9));
    let torrent = Metainfo::from_bytes(&bytes).expect("legal");
    assert_eq!(torrent.trackers, [vec!["http://a/", "udp://b:1"], vec!["http://c/"]]);
    let bytes = with([("announce", s("http://z/")), ("announce-list", l([l([])]))], single(9));
    assert_eq!(Metainfo::from_bytes(&bytes).expect("legal").trackers, [["http://z/"]]);
}

#[test]
fn optional_texts_and_flags_are_read() {
    let info = set(set(single(9), "private", i(1)), "source", s("TRACKER"));
    let bytes =
        with([("comment", s(b"caf\xe9")), ("created by", s("me")), ("encoding", i(1))], info);
    let torrent = Metainfo::from_bytes(&bytes).expect("legal");
    assert!(torrent.info().is_private());
    assert_eq!(torrent.info().source(), Some("TRACKER"));
    assert_eq!(torrent.comment.as_deref(), Some("caf\u{fffd}"));
    assert_eq!(torrent.created_by.as_deref(), Some("me"));
}

#[test]
fn hashes_are_over_the_bytes_as_they_came() {
    // Both hashes and the root inside come from another program.
    let v1 = Metainfo::from_bytes(&torrent(single(9))).expect("legal");
    assert_eq!(
        v1.info().info_hash().expect("v1").to_string(),
        "699fc0ce4238c80773be787a22210e5e32133365"
    );
    assert_eq!(v1.info().info_hash_v2(), None);
    let v2 = Metainfo::from_bytes(&layered(d::<&str>([]))).expect("legal");
    assert_eq!(
        v2.info().info_hash_v2().expect("v2").to_string(),
        "7c92ea94f32bc6f7c902216799fcd04ead452c76a5abbcc6e6b6f46b1ce14a4f"
    );
}

#[test]
fn an_info_dictionary_stands_alone() {
    let torrent = Metainfo::from_bytes(&torrent(single(9))).expect("legal");
    let info = Info::from_bytes(torrent.info().bytes().clone()).expect("legal");
    assert_eq!(&info, torrent.info());
    let trailing = Bytes::from([&info.bytes()[..], b"x"].concat());
    assert_eq!(Info::from_bytes(trailing).expect_err("longer").field(), "bencoding");
}

fn nodes() -> impl Strategy<Value = Node> {
    let keys = prop_oneof![
        Just("length"),
        Just("path"),
        Just("attr"),
        Just("symlink path"),
        Just("pieces root"),
        Just(""),
        Just("name"),
        Just("piece length"),
        Just("pieces"),
        Just("files"),
        Just("file tree"),
        Just("meta version"),
        Just("info"),
        Just("piece layers"),
    ];
    let leaf = prop_oneof![
        prop_oneof![Just(0), Just(1), Just(2), Just(PIECE), any::<i64>()].prop_map(i),
        prop_oneof![Just(""), Just(".."), Just("a"), Just("A"), Just("l"), Just("p"), Just("b/c")]
            .prop_map(s),
        prop_oneof![Just(20_usize), Just(32), Just(40)].prop_map(|len| s(vec![3; len])),
    ];
    leaf.prop_recursive(6, 60, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(l),
            prop::collection::vec((keys.clone(), inner), 0..5).prop_map(d),
        ]
    })
}

fn raw_paths() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    let component = prop_oneof![
        "[aA.b/\\\\ ]{0,3}".prop_map(String::into_bytes),
        prop_oneof![Just("a"), Just("A"), Just("con"), Just("a.1"), Just(".pad")]
            .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(prop::collection::vec(component, 0..4), 1..12)
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Metainfo::from_bytes(&bytes);
        let _ = Info::from_bytes(bytes.into());
    }

    #[test]
    fn arbitrary_fields_never_panic(
        key in prop_oneof![
            Just("files"), Just("file tree"), Just("name"), Just("length"), Just("meta version"),
        ],
        node in nodes(),
        base in 0..3,
        top in nodes(),
    ) {
        let info = match base {
            0 => single(9),
            1 => v2(d([("t", leaf(LAYERED_LEN))])),
            _ => hybrid(d([("a", leaf(9))]), 9, [file_of(9, ["a"])]),
        };
        let bytes = with(
            [("piece layers", top.clone()), ("url-list", top.clone()), ("nodes", top)],
            set(info, key, node.clone()),
        );
        if let Ok(torrent) = Metainfo::from_bytes(&bytes) {
            is_safe(&torrent);
        }
        let _ = Info::from_bytes(node.encoded().into());
    }

    #[test]
    fn a_changed_byte_never_panics(row in 0..64_usize, at in any::<prop::sample::Index>(), to: u8) {
        let (_, mut bytes, _) = normalised().swap_remove(row);
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(torrent) = Metainfo::from_bytes(&bytes) {
            is_safe(&torrent);
        }
    }

    #[test]
    fn whatever_the_paths_they_are_safe_and_apart(paths in raw_paths(), linked: u16) {
        let files = paths.iter().enumerate().map(|(n, path)| {
            if linked >> n & 1 == 1 && n > 0 {
                link(path, &paths[n / 2])
            } else {
                file_of(10, path)
            }
        });
        let count = (0..paths.len()).filter(|n| linked >> n & 1 == 0 || *n == 0).count();
        let bytes = torrent(multi(10 * int(count), files));
        is_safe(&Metainfo::from_bytes(&bytes).expect("loads"));
    }
}
