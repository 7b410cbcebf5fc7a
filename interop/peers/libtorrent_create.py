#!/usr/bin/env python3
"""Makes a torrent of a folder with libtorrent, or says whether another torrent is the same.

Used by the interoperation tests. With --compare, exits 0 if that torrent has the same `info`, byte
for byte, and the same piece layers, and 1 with both on standard error if not. Since 2.1, libtorrent
pads the last file of a hybrid torrent too, which BEP 52 does not ask for and teem does not do: that
pad and the v1 hash of the piece that it lies in are left out of the comparison.
"""

import argparse
import sys
import warnings
from pathlib import Path

import libtorrent as lt

FORMATS = {
    "v1": lt.create_torrent.v1_only,
    "v2": lt.create_torrent.v2_only,
    "hybrid": 0,
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("content", type=Path, help="file or folder")
    parser.add_argument("--format", choices=sorted(FORMATS), required=True)
    parser.add_argument("--piece-size", type=int, required=True)
    parser.add_argument("--tracker")
    parser.add_argument("--strip", action="store_true", help="leave piece layers out")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--compare", type=Path)
    return parser.parse_args()


def alike(made, other):
    made, other = dict(made), dict(other)
    files = made.get(b"files", [])
    if files and files[-1].get(b"attr") == b"p" and other.get(b"files") == files[:-1]:
        made[b"files"] = files[:-1]
        made[b"pieces"], other[b"pieces"] = made[b"pieces"][:-20], other[b"pieces"][:-20]
    return lt.bencode(made) == lt.bencode(other)


def main():
    args = arguments()
    warnings.simplefilter("ignore")
    files = lt.file_storage()
    lt.add_files(files, str(args.content))
    maker = lt.create_torrent(files, args.piece_size, FORMATS[args.format])
    lt.set_piece_hashes(maker, str(args.content.parent))
    made = maker.generate()
    if args.tracker:
        made[b"announce"] = args.tracker.encode()
    if args.strip:
        made.pop(b"piece layers", None)
    if args.output:
        args.output.write_bytes(lt.bencode(made))
    if args.compare:
        other = lt.bdecode(args.compare.read_bytes())
        same = alike(made[b"info"], other[b"info"])
        same = same and made.get(b"piece layers", {}) == other.get(b"piece layers", {})
        if not same:
            print("libtorrent:", made[b"info"], "\nother:", other[b"info"], file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
