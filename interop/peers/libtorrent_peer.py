#!/usr/bin/env python3
"""A libtorrent session on one address: seeds or downloads one torrent, then says what it did.

Used by the interoperation tests and by bench/transfer.py. It discovers nothing by itself: peers come
from --peer and from the trackers in the torrent. Downloading, it exits 0 when complete (unless
--stay) and 3 when --timeout passes first; seeding, it runs until it is killed. Progress goes to
standard error, one line a second and one for each alert of interest.
"""

import argparse
import signal
import sys
import time

import libtorrent as lt

ENCRYPTION = {
    "any": {},
    "plain": {
        "out_enc_policy": int(lt.enc_policy.disabled),
        "in_enc_policy": int(lt.enc_policy.enabled),
        "allowed_enc_level": int(lt.enc_level.plaintext),
    },
    "rc4": {
        "out_enc_policy": int(lt.enc_policy.forced),
        "in_enc_policy": int(lt.enc_policy.forced),
        "allowed_enc_level": int(lt.enc_level.rc4),
    },
}

TRANSPORT = {
    "any": {},
    "tcp": {"enable_outgoing_utp": False, "enable_incoming_utp": False},
    "utp": {"enable_outgoing_tcp": False, "enable_incoming_tcp": False},
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["seed", "leech"])
    parser.add_argument("--torrent", required=True, help="file or magnet link")
    parser.add_argument("--dir", required=True, help="the folder that holds the content")
    parser.add_argument("--bind", required=True, help="address to listen on and to connect from")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--peer", action="append", default=[], help="ADDRESS:PORT, repeatable")
    parser.add_argument("--tracker", action="append", default=[])
    parser.add_argument("--transport", choices=sorted(TRANSPORT), default="any")
    parser.add_argument("--encryption", choices=sorted(ENCRYPTION), default="any")
    parser.add_argument("--stay", action="store_true", help="seed on when complete")
    parser.add_argument("--trust", action="store_true", help="seed without checking the content")
    parser.add_argument("--timeout", type=float, default=600.0)
    parser.add_argument("--quiet", action="store_true")
    return parser.parse_args()


def endpoint(text):
    address, port = text.rsplit(":", 1)
    return address.strip("[]"), int(port)


def listen_interface(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def main():
    args = arguments()
    note = (lambda *_: None) if args.quiet else (lambda *what: print(*what, file=sys.stderr, flush=True))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = {
        "listen_interfaces": listen_interface(args.bind, args.port),
        "outgoing_interfaces": args.bind,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "allow_multiple_connections_per_ip": True,
        "announce_to_all_trackers": True,
        "min_reconnect_time": 2,
        "alert_mask": lt.alert.category_t.error_notification
        | lt.alert.category_t.status_notification
        | lt.alert.category_t.tracker_notification
        | lt.alert.category_t.connect_notification,
    }
    settings.update(TRANSPORT[args.transport])
    settings.update(ENCRYPTION[args.encryption])
    session = lt.session(settings)
    if args.torrent.startswith("magnet:"):
        params = lt.parse_magnet_uri(args.torrent)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(args.torrent)
    params.save_path = args.dir
    params.flags &= ~lt.torrent_flags.auto_managed
    params.flags &= ~lt.torrent_flags.paused
    if args.mode == "seed" and args.trust:
        params.flags |= lt.torrent_flags.seed_mode
    for url in args.tracker:
        params.trackers = list(params.trackers) + [url]
    handle = session.add_torrent(params)
    for peer in args.peer:
        handle.connect_peer(endpoint(peer))

    begin = time.monotonic()
    said = begin
    ready = False
    while True:
        session.wait_for_alert(50)
        for alert in session.pop_alerts():
            note(f"{time.monotonic() - begin:7.2f} {type(alert).__name__}: {alert.message()}")
        status = handle.status()
        now = time.monotonic()
        if now - said >= 1.0:
            said = now
            note(
                f"{now - begin:7.2f} {status.state} {status.progress * 100:5.1f}% peers {status.num_peers}"
                f" down {status.total_payload_download} up {status.total_payload_upload}"
            )
        if status.errc.value() != 0:
            print("error:", status.errc.message(), file=sys.stderr)
            return 2
        if args.mode == "seed" and status.is_seeding and not ready:
            ready = True
            print("ready", file=sys.stderr, flush=True)
        if args.mode == "leech" and not args.stay and status.is_seeding:
            note(f"{now - begin:7.2f} complete")
            return 0
        if args.mode == "leech" and not args.stay and now - begin > args.timeout:
            print("error: not complete in time", file=sys.stderr)
            return 3


if __name__ == "__main__":
    sys.exit(main())
