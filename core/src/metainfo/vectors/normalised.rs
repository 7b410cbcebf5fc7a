//! Torrents that must load, and the form that they take.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::{format, vec};

use super::*;
use crate::time::UnixTime;

pub(super) type Check = fn(&Metainfo);

fn paths(torrent: &Metainfo) -> Vec<&str> {
    torrent.info().layout().files().map(File::path).collect()
}

fn links(torrent: &Metainfo) -> Vec<Option<&str>> {
    torrent.info().layout().files().map(File::link_target).collect()
}

macro_rules! paths_are {
    ($($path:expr),* $(,)?) => { |torrent| assert_eq!(paths(torrent), [$($path),*]) };
}

macro_rules! seeds_are {
    ($($seed:expr),* $(,)?) => {
        |torrent| assert_eq!(torrent.web_seeds, Vec::<String>::from([$($seed.to_string()),*]))
    };
}

fn with_seeds(seeds: Node, info: Dict) -> Vec<u8> {
    with([("url-list", seeds)], info)
}

/// A hybrid of files of these lengths, called `0`, `1`, ..., padded between.
fn hybrid_of(lens: &[usize]) -> Vec<u8> {
    let tree = d(lens.iter().enumerate().map(|(n, len)| (n.to_string(), leaf(*len))));
    let (mut files, mut end, last) = (Vec::new(), 0_i64, lens.iter().rposition(|len| *len > 0));
    for (n, len) in lens.iter().enumerate() {
        files.push(file_of(int(*len), [n.to_string()]));
        end += int(*len);
        let missing = end.rem_euclid(PIECE);
        if *len > 0 && missing > 0 && Some(n) != last {
            files.push(pad(PIECE - missing));
            end += PIECE - missing;
        }
    }
    torrent(hybrid(tree, end, files))
}

fn empty_files(torrent: &Metainfo) {
    let layout = torrent.info().layout();
    let stored: Vec<_> = layout.files().filter(|file| !file.is_pad()).collect();
    assert_eq!(stored.len(), 4);
    assert!(stored.iter().any(|file| file.len() == 0));
    for file in stored {
        assert_eq!(file.pieces_root().is_none(), file.len() == 0);
        assert!(file.len() == 0 || file.offset().is_multiple_of(PIECE_LEN));
    }
    assert_eq!(u64::from(layout.piece_count()), layout.space_len().div_ceil(PIECE_LEN));
}

/// What must load: name, torrent, the form that it takes.
pub(super) fn normalised() -> Vec<(&'static str, Vec<u8>, Check)> {
    let named = |name: &[u8]| torrent(set(single(9), "name", s(name)));
    let ten = |path: &[&[u8]]| file_of(10, path.iter().copied());
    let two = |a: &[&[u8]], b: &[&[u8]]| torrent(multi(20, [ten(a), ten(b)]));
    let tree_of = |a: &[u8], b: &[u8]| torrent(v2(d([(a, leaf(9)), (b, leaf(3))])));
    let folder_of_one = || multi(10, [file_of(10, ["foo bar"])]);
    let long = LAYERED_LEN;
    let base = || multi(20, [file_of(10, ["a"]), file_of(10, ["b", "c"])]);
    let layers =
        |of: &[usize]| d(of.iter().map(|len| (root(*len), s(layer(*len, PIECE as usize)))));
    vec![
        ("empty_path", folder(&[&[""]]), paths_are!["t/_"]),
        ("empty_path_multi", folder(&[&["", "a", ""], &[]]), paths_are!["t/a", "t/_"]),
        ("parent_path", folder(&[&["..", "..", "x"], &[".."]]), paths_are!["t/x", "t/_"]),
        ("hidden_parent_path", folder(&[&["/../", "/", "a"]]), paths_are!["t/_/_/a"]),
        ("backslash_path", folder(&[&["..\\..\\a", "b"]]), paths_are!["t/....a/b"]),
        ("slash_path", folder(&[&["/", "a"]]), paths_are!["t/_/a"]),
        ("slash_path2", folder(&[&["temp/../../abc"]]), paths_are!["t/temp....abc"]),
        ("slash_path3", folder(&[&["a", "\\/"]]), paths_are!["t/a/_"]),
        ("absolute_filename", folder(&[&["/abcde"], &["/f", "g"]]), paths_are!["t/abcde", "t/f/g"]),
        (
            "invalid_directory_name",
            folder(&[&["/", "foo"], &["\\", "foo"]]),
            paths_are!["t/_/foo", "t/_/foo.1"],
        ),
        ("invalid_filename", two(&[b"\xff\xfea"], &[b"b"]), paths_are!["t/__a", "t/b"]),
        (
            "invalid_filename2",
            torrent(multi(30, [ten(&[b"\xc0\xaf"]), ten(&[b"\0"]), ten(&[b"\xed\xa0\x80x"])])),
            paths_are!["t/__", "t/_", "t/___x"],
        ),
        ("invalid_name2", named(b".."), |torrent| {
            let hash = torrent.info().info_hash().expect("v1").to_string();
            assert_eq!((torrent.info().name(), paths(torrent)), (&hash[..], vec![&hash[..]]));
        }),
        ("invalid_name3", named(b"trailing "), paths_are!["trailing"]),
        ("long_name", named(&[b'n'; 300]), |torrent| {
            assert_eq!(torrent.info().name(), "n".repeat(255));
        }),
        (
            "duplicate_files",
            folder(&[&["foo", "bar.txt"], &["foo", "bar.txt"], &["foo", "Bar.txt"]]),
            paths_are!["t/foo/bar.txt", "t/foo/bar.1.txt", "t/foo/Bar.2.txt"],
        ),
        ("v2_invalid_filename", tree_of(b"\x08estMB", b"b"), paths_are!["t/_estMB", "t/b"]),
        ("v2_invalid_filename2", tree_of(b"/", b"\\"), paths_are!["t/_", "t/_.1"]),
        (
            "pad_file",
            torrent(multi(
                30,
                [
                    file_of(10, ["a"]),
                    file_of(10, ["_____padding_file_0_if you see this, update____"]),
                    file_of(10, ["b"]),
                ],
            )),
            |torrent| {
                assert_eq!(paths(torrent), ["t/a", "t/.pad/10", "t/b"]);
                assert!(torrent.info().layout().file(1).expect("there").is_pad());
                assert_eq!(torrent.info().layout().content_len(), 20);
            },
        ),
        (
            "pad_file_no_path",
            torrent(multi(
                2144,
                [
                    file_of(10, ["a"]),
                    d([("attr", s("p")), ("length", i(2124))]),
                    file_of(10, ["b"]),
                ],
            )),
            paths_are!["t/a", "t/.pad/2124", "t/b"],
        ),
        (
            "symlink1",
            torrent(multi(10, [file_of(10, ["dir", "a"]), link(["b"], ["dir", "a"])])),
            |torrent| assert_eq!(links(torrent), [None, Some("t/dir/a")]),
        ),
        (
            "symlink2",
            torrent(multi(
                10,
                [
                    file_of(10, ["dir", "a"]),
                    link(["to dir"], ["dir"]),
                    link(["through"], ["to dir", "a"]),
                    link(["outside"], ["..", "..", "etc", "passwd"]),
                    link(["nothing"], ["missing"]),
                    link(["loop1"], ["loop2"]),
                    link(["loop2"], ["loop1"]),
                    link(["dir", "up"], ["dir"]),
                    link(["through a file"], ["dir", "a", "b"]),
                ],
            )),
            |torrent| {
                let mut expected = [None; 9];
                expected[1] = Some("t/dir");
                expected[2] = Some("t/dir/a");
                assert_eq!(links(torrent), expected);
            },
        ),
        (
            "symlink_zero_size",
            torrent(multi(
                20,
                [
                    file_of(10, ["a"]),
                    tagged(link(["b"], ["a"]), "length", i(5)),
                    file_of(10, ["c"]),
                ],
            )),
            |torrent| {
                assert_eq!(links(torrent), [None, Some("t/a"), None]);
                let layout = torrent.info().layout();
                assert_eq!((layout.file(1).expect("there").len(), layout.space_len()), (0, 20));
            },
        ),
        (
            "symlink_filtered_path",
            torrent(multi(
                10,
                [file_of(10, ["..", "b\0d", "/f"]), link(["x"], ["", "b\0d", "f\\"])],
            )),
            |torrent| assert_eq!(links(torrent), [None, Some("t/b_d/f")]),
        ),
        (
            "overlapping_symlinks",
            torrent(multi(
                10,
                [
                    file_of(10, ["real", "a"]),
                    link(["one"], ["real"]),
                    link(["two"], ["one"]),
                    link(["three"], ["two", "a"]),
                    link(["one", "inner"], ["real", "a"]),
                ],
            )),
            |torrent| {
                // A file below it makes a folder of `one`, so the link gives way.
                assert_eq!(paths(torrent)[1], "t/one.1");
                assert_eq!(links(torrent)[4], Some("t/real/a"));
                assert!(links(torrent).iter().flatten().all(|target| !target.contains("..")));
            },
        ),
        (
            "v2_symlinks",
            torrent(v2(d([
                ("a", leaf(9)),
                (
                    "l",
                    leaf_of([("attr", s("l")), ("length", i(0)), ("symlink path", strings(["a"]))]),
                ),
            ]))),
            |torrent| assert_eq!(links(torrent), [None, Some("t/a")]),
        ),
        (
            "unordered",
            format!(
                "d4:infod4:name1:t6:lengthi9e6:pieces20:{}12:piece lengthi16384eee",
                "h".repeat(20)
            )
            .into_bytes(),
            |torrent| {
                assert!(torrent.info().bytes().starts_with(b"d4:name1:t6:length"));
                assert_eq!(torrent.info().piece_hash(PieceIndex(0)), Some(&[b'h'; 20]));
            },
        ),
        ("url_list", with_seeds(s(""), single(9)), seeds_are![]),
        ("url_list2", with_seeds(l([l([s("http://a/")]), s("")]), single(9)), seeds_are![]),
        ("url_list3", with_seeds(l([i(1), d([("a", i(1))])]), single(9)), seeds_are![]),
        (
            "url_seed",
            with_seeds(s("http://a.example/f"), single(9)),
            seeds_are!["http://a.example/f"],
        ),
        (
            "url_seed_multi",
            with_seeds(strings(["http://a.example/f", "http://b.example/"]), base()),
            seeds_are!["http://a.example/f/", "http://b.example/"],
        ),
        (
            "url_seed_multi_single_file",
            with_seeds(strings(["http://a.example/f"]), folder_of_one()),
            seeds_are!["http://a.example/f/"],
        ),
        (
            "url_seed_multi_space",
            with_seeds(strings(["http://a.example/a b%20c/\u{e9}"]), folder_of_one()),
            seeds_are!["http://a.example/a%20b%20c/%C3%A9/"],
        ),
        (
            "url_seed_multi_space_nolist",
            with_seeds(s("http://a.example/a b"), folder_of_one()),
            seeds_are!["http://a.example/a%20b/"],
        ),
        (
            "duplicate_web_seeds",
            with_seeds(
                strings([
                    "http://a/",
                    "http://b/",
                    "http://a/",
                    "http://a",
                    "http://c/",
                    " http://c/",
                    "http://b/ ",
                    "http://b",
                ]),
                base(),
            ),
            seeds_are!["http://a/", "http://b/", "http://c/"],
        ),
        (
            "httpseed",
            with([("httpseeds", strings(["http://a.example/seed.php"]))], single(9)),
            seeds_are![],
        ),
        ("empty_httpseed", with([("httpseeds", l([]))], single(9)), seeds_are![]),
        (
            "whitespace_url",
            with([("announce", s(" udp://t.example:80 \n"))], single(9)),
            |torrent| assert_eq!(torrent.trackers, [["udp://t.example:80"]]),
        ),
        ("creation_date", with([("creation date", i(1_234_567))], single(9)), |torrent| {
            assert_eq!(torrent.creation_date, Some(UnixTime(1_234_567)));
        }),
        ("no_creation_date", torrent(single(9)), |torrent| {
            assert_eq!(torrent.creation_date, None);
        }),
        (
            "dht_nodes",
            with(
                [(
                    "nodes",
                    l([
                        l([s("127.0.0.1"), i(6881)]),
                        l([s("::1"), i(1)]),
                        l([s("a.example"), i(0)]),
                        l([s("b c"), i(1)]),
                        i(3),
                    ]),
                )],
                single(9),
            ),
            |torrent| {
                let nodes: Vec<_> = torrent.nodes.iter().map(ToString::to_string).collect();
                assert_eq!(nodes, ["127.0.0.1:6881", "[::1]:1"]);
            },
        ),
        ("similar", torrent(set(single(9), "similar", strings([[1; 20]]))), paths_are!["t"]),
        ("similar2", with([("similar", strings([[1; 20]]))], single(9)), paths_are!["t"]),
        ("collection", torrent(set(single(9), "collections", strings(["c"]))), paths_are!["t"]),
        ("collection2", with([("collections", strings(["c"]))], single(9)), paths_are!["t"]),
        ("base", torrent(base()), paths_are!["t/a", "t/b/c"]),
        ("single_multi_file", torrent(folder_of_one()), |torrent| {
            assert_eq!(paths(torrent), ["t/foo bar"]);
            assert!(!torrent.info().layout().is_single_file());
        }),
        (
            "large",
            torrent(set(
                set(set(single(1), "length", i(5_242_880_000)), "piece length", i(1 << 20)),
                "pieces",
                s(vec![1; 20 * 5000]),
            )),
            |torrent| assert_eq!(torrent.info().layout().piece_count(), 5000),
        ),
        ("large_piece_size", torrent(set(single(9), "piece length", i(536_854_528))), |torrent| {
            assert_eq!(torrent.info().layout().piece_len(), 536_854_528);
        }),
        ("v2", torrent(v2(d([("dir", d([("f", leaf(9))]))]))), |torrent| {
            assert_eq!(paths(torrent), ["t/dir/f"]);
            assert_eq!(torrent.info().info_hash(), None);
            let hash = torrent.info().info_hash_v2().expect("v2");
            assert_eq!(torrent.info().swarm_hash().0, hash.0[..20]);
        }),
        ("v2_only", torrent(v2(d([("t", leaf(9))]))), |torrent| {
            assert_eq!(paths(torrent), ["t"]);
            assert!(torrent.info().layout().is_single_file());
            let file = torrent.info().layout().file(0).expect("there");
            assert_eq!(file.pieces_root(), Some(&root(9)));
        }),
        (
            "v2_multipiece_file",
            with([("piece layers", layers(&[long]))], v2(d([("t", leaf(long))]))),
            |torrent| {
                let layout = torrent.info().layout();
                assert_eq!(layout.piece_count(), 4);
                assert_eq!(layout.piece_size(PieceIndex(3)), PIECE as u32 - 9);
                assert_eq!(torrent.piece_layer(&root(LAYERED_LEN)).expect("there").len(), 128);
                assert_eq!(torrent.files_without_layer().count(), 0);
            },
        ),
        (
            "v2_multiple_files",
            with(
                [("piece layers", layers(&[long, long + 9]))],
                v2(d([
                    ("a", leaf(long)),
                    ("b", d([("c", leaf(5)), ("d", leaf(0))])),
                    ("e", leaf(long + 9)),
                ])),
            ),
            |torrent| {
                assert_eq!(paths(torrent), ["t/a", "t/b/c", "t/b/d", "t/e"]);
                assert_eq!(torrent.info().layout().piece_count(), 4 + 1 + 4);
                assert_eq!(torrent.files_without_layer().count(), 0);
            },
        ),
        ("v2_hybrid", hybrid_of(&[9, 3, LAYERED_LEN, 1]), |torrent| {
            assert!(
                torrent.info().info_hash().is_some() && torrent.info().info_hash_v2().is_some()
            );
            let file = torrent.info().layout().file(4).expect("there");
            assert_eq!((file.path(), file.pieces_root()), ("t/2", Some(&root(LAYERED_LEN))));
            assert_eq!(torrent.info().layout().piece_count(), 7);
        }),
        ("empty-files-1", hybrid_of(&[0, 9, 3, 8]), empty_files),
        ("empty-files-2", hybrid_of(&[9, 0, 3, 8]), empty_files),
        ("empty-files-3", hybrid_of(&[9, 3, 8, 0]), empty_files),
        ("empty-files-4", hybrid_of(&[0, 9, 8, 0]), empty_files),
        ("empty-files-5", hybrid_of(&[0, 0, 9, 0]), empty_files),
        ("v2_no_piece_layers", torrent(v2(d([("t", leaf(long))]))), |torrent| {
            assert_eq!(torrent.files_without_layer().count(), 1);
        }),
        (
            "v2_incomplete_piece_layer",
            with(
                [("piece layers", layers(&[long]))],
                v2(d([("a", leaf(long)), ("b", leaf(long + 9))])),
            ),
            |torrent| {
                let missing: Vec<_> = torrent.files_without_layer().map(File::path).collect();
                assert_eq!(missing, ["t/b"]);
            },
        ),
        ("v2_empty_file", torrent(v2(d([("a", leaf(0)), ("b", leaf(9))]))), |torrent| {
            assert_eq!(torrent.info().layout().file(0).expect("there").pieces_root(), None);
        }),
        ("v2_hybrid-missing-tailpad", hybrid_of(&[9, 3]), |torrent| {
            assert_eq!(torrent.info().layout().space_len(), PIECE_LEN + 3);
        }),
        (
            "fresh_hybrid_with_tailpad",
            torrent(hybrid(
                d([("a", leaf(9)), ("b", leaf(3))]),
                2 * PIECE,
                [file_of(9, ["a"]), pad(PIECE - 9), file_of(3, ["b"]), pad(PIECE - 3)],
            )),
            |torrent| assert_eq!(torrent.info().layout().content_len(), 12),
        ),
        (
            "fresh_nested_paths",
            folder(&[&["a"], &["a", "b"], &["A", "B", "c"]]),
            paths_are!["t/a.1", "t/a/b.1", "t/A/B/c"],
        ),
        (
            "fresh_utf8_variants",
            torrent(multi(
                10,
                [tagged(file_of(10, [b"caf\xe9"]), "path.utf-8", strings(["caf\u{e9}"]))],
            )),
            paths_are!["t/caf\u{e9}"],
        ),
        ("fresh_dots_inside", folder(&[&["foo... bar"]]), paths_are!["t/foo... bar"]),
    ]
}
