//! Torrents that must be refused.

use alloc::string::String;
use alloc::vec::Vec;
use std::{format, vec};

use super::*;

/// What must be refused: name, torrent, field that is to blame.
pub(super) fn refused() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let len = LAYERED_LEN;
    let good_root = root(len);
    let good_layer = layer(len, PIECE as usize);
    let mut deep = leaf(1);
    for _ in 0..400 {
        deep = d([("x", deep)]);
    }
    let many_large = (0..40).map(|n| {
        let length = ("length", i(30_000_000_000));
        (format!("{n:02}"), leaf_of([length, ("pieces root", s([1; 32]))]))
    });
    let gigabyte = 1_000_000_000;
    let gigabytes = |name| {
        let leaf = leaf_of([("length", i(gigabyte)), ("pieces root", s([1; 32]))]);
        (name, leaf)
    };
    vec![
        ("missing_piece_len", torrent(unset(single(9), "piece length")), "info.piece length"),
        (
            "invalid_piece_len",
            torrent(set(single(9), "piece length", s("16384"))),
            "info.piece length",
        ),
        (
            "negative_piece_len",
            torrent(set(single(9), "piece length", i(-16_384))),
            "info.piece length",
        ),
        (
            "v2_no_power2_piece",
            torrent(set(v2(d([("t", leaf(9))])), "piece length", i(32_767))),
            "info.piece length",
        ),
        (
            "v2_piece_size",
            torrent(set(v2(d([("t", leaf(9))])), "piece length", i((1 << 31) - 1))),
            "info.piece length",
        ),
        ("no_name", torrent(unset(single(9), "name")), "info.name"),
        (
            "bad_name",
            torrent(set(multi(9, [raw("d6:lengthi\u{ff}e4:pathl1:aee")]), "name", s([0; 4]))),
            "bencoding",
        ),
        ("bad_name, the name alone", torrent(set(single(9), "name", s([0; 4]))), "info.name"),
        ("invalid_name", torrent(set(single(9), "name", i(7))), "info.name"),
        (
            "invalid_path_list",
            torrent(multi(9, [d([("length", i(9)), ("path", l([s("a"), i(1)]))])])),
            "info.files.path",
        ),
        ("missing_path_list", torrent(multi(9, [d([("length", i(9))])])), "info.files.path"),
        (
            "invalid_symlink",
            torrent(multi(
                9,
                [
                    file_of(9, ["a"]),
                    d([
                        ("attr", s("l")),
                        ("length", i(0)),
                        ("path", l([s("b"), l([s("symlink path"), s("a")])])),
                    ]),
                ],
            )),
            "info.files.path",
        ),
        ("invalid_info", d([("info", s("not a dictionary"))]).encoded(), "info"),
        ("string", s("a string").encoded(), "top level"),
        ("negative_size", torrent(set(single(9), "length", i(-9))), "info.length"),
        (
            "negative_file_size",
            torrent(multi(9, [file_of(18, ["a"]), file_of(-9, ["b"])])),
            "info.files.length",
        ),
        (
            "invalid_file_size",
            torrent(multi(9, [d([("length", l([i(9)])), ("path", strings(["a"]))])])),
            "info.files.length",
        ),
        ("zero", torrent(single(0)), "info.length"),
        (
            "zero2",
            torrent(multi(0, [file_of(0, ["a"]), file_of(0, ["b"]), pad(0)])),
            "info.files.length",
        ),
        ("no_files", torrent(multi(0, [])), "info.files"),
        ("invalid_pieces", torrent(set(single(9), "pieces", i(20))), "info.pieces"),
        ("unaligned_pieces", torrent(set(single(9), "pieces", s([7; 24]))), "info.pieces"),
        ("many_pieces", torrent(set(single(9), "length", i(1_760_000_000_000))), "info.pieces"),
        ("duplicate_files2", folder(&[&["same"] as &[_]; 118]), "info.files.path"),
        (
            "v2_mismatching_metadata",
            torrent(hybrid(
                d([("a", leaf(9)), ("b", leaf(3))]),
                PIECE + 3,
                [file_of(9, ["a"]), pad(PIECE - 9), file_of(3, ["c"])],
            )),
            "info.files",
        ),
        (
            "v2_bad_file_alignment",
            torrent(hybrid(
                d([gigabytes("a"), gigabytes("b"), gigabytes("c")]),
                3 * gigabyte,
                ["a", "b", "c"].map(|name| file_of(gigabyte, [name])),
            )),
            "info.files",
        ),
        (
            "v2_invalid_file",
            torrent(v2(d([("t", d([("length", i(9)), ("pieces root", s(root(9)))]))]))),
            "info.file tree",
        ),
        (
            "v2_empty_filename",
            torrent(v2(d([("dir", d([("", leaf(9))])), ("t", leaf(9))]))),
            "info.file tree.length",
        ),
        ("v2_empty_filename, at the top", torrent(v2(d([("", leaf(9))]))), "info.file tree"),
        ("v2_deep_recursion", torrent(v2(deep)), "nesting"),
        ("v2_non_multiple_piece_layer", layered(d([(good_root, s(vec![1; 513]))])), "piece layers"),
        (
            "v2_piece_layer_invalid_file_hash",
            layered(d([(vec![1; 33], s(&good_layer))])),
            "piece layers",
        ),
        ("v2_invalid_piece_layer", layered(d([(good_root, i(1))])), "piece layers"),
        (
            "v2_invalid_piece_layer_root",
            layered(d([(good_root, s(vec![1; good_layer.len()]))])),
            "piece layers",
        ),
        (
            "v2_unknown_piece_layer_entry",
            layered(d([(good_root, s(&good_layer)), ([9; 32], s(&good_layer))])),
            "piece layers",
        ),
        (
            "v2_invalid_piece_layer_size",
            layered(d([(good_root, s([&good_layer[..], &good_layer[..]].concat()))])),
            "piece layers",
        ),
        (
            "v2_invalid_root_hash",
            with([("piece layers", d([(good_root, s(&good_layer))]))], {
                let length = ("length", i(int(len)));
                v2(d([("t", leaf_of([length, ("pieces root", s([5; 32]))]))]))
            }),
            "piece layers",
        ),
        (
            "v2_unordered_files",
            {
                let leaf = String::from_utf8_lossy(&leaf(0).encoded()).into_owned();
                torrent(v2(raw(&format!("d1:b{leaf}1:a{leaf}e"))))
            },
            "bencoding",
        ),
        (
            "v2_overlong_integer",
            torrent(set(v2(d([("t", leaf(9))])), "meta version", raw("i02e"))),
            "bencoding",
        ),
        (
            "v2_missing_file_root_invalid_symlink",
            torrent(v2(d([("t", leaf_of([("attr", s("l")), ("length", i(99_999))]))]))),
            "info.file tree.pieces root",
        ),
        (
            "v2_zero_root",
            torrent(v2(d([("t", leaf_of([("length", i(99_999)), ("pieces root", s([0; 32]))]))]))),
            "info.file tree.pieces root",
        ),
        (
            "v2_zero_root_small",
            torrent(v2(d([("t", leaf_of([("length", i(1)), ("pieces root", s([0; 32]))]))]))),
            "info.file tree.pieces root",
        ),
        (
            "v2_large_file",
            torrent(v2(d([(
                "t",
                leaf_of([("length", i(17_600_000_000_000)), ("pieces root", s([1; 32]))]),
            )]))),
            "info.file tree.length",
        ),
        ("v2_large_offset", torrent(v2(d(many_large))), "info.file tree"),
        (
            "v2_invalid_pad_file",
            with([("piece layers", d([(good_root, s(&good_layer))]))], {
                let length = ("length", i(int(len)));
                let root = ("pieces root", s(good_root));
                v2(d([("t", leaf_of([("attr", s("p")), length, root]))]))
            }),
            "info.file tree.attr",
        ),
        (
            "fresh_hybrid_without_v1_pieces",
            torrent(unset(hybrid(d([("a", leaf(9))]), 9, [file_of(9, ["a"])]), "pieces")),
            "info.pieces",
        ),
        (
            "fresh_hybrid_with_extra_padding",
            torrent(hybrid(
                d([("a", leaf(9)), ("b", leaf(3))]),
                3 * PIECE,
                [file_of(9, ["a"]), pad(PIECE - 9), file_of(3, ["b"]), pad(2 * PIECE - 3)],
            )),
            "info.files",
        ),
        (
            "fresh_hybrid_padded_past_a_piece",
            torrent(hybrid(
                d([("a", leaf(9)), ("b", leaf(3))]),
                2 * PIECE + 3,
                [file_of(9, ["a"]), pad(2 * PIECE - 9), file_of(3, ["b"])],
            )),
            "info.files",
        ),
        (
            "fresh_overflowing_length",
            torrent(set(single(9), "length", raw("i9223372036854775808e"))),
            "info.length",
        ),
        (
            "fresh_overflowing_sum",
            torrent(multi(
                9,
                [file_of((1 << 48) - 1, ["a"]), file_of((1 << 48) - 1, ["b"]), file_of(18, ["c"])],
            )),
            "info.files.length",
        ),
        ("fresh_truncated_integer", b"d4:infod6:lengthi12".to_vec(), "bencoding"),
        ("fresh_negative_string_length", b"d4:info-1:ae".to_vec(), "bencoding"),
        ("fresh_deep_v1_path", folder(&[&["x"; 101]]), "info.files.path"),
        (
            "fresh_unknown_version",
            torrent(set(v2(d([("t", leaf(9))])), "meta version", i(3))),
            "info.meta version",
        ),
        ("fresh_no_tree", torrent(unset(v2(d([("t", leaf(9))])), "file tree")), "info.file tree"),
    ]
}
