//! Events for programs: one JSON object a line on standard output, with a member `event`.
//!
//! | event | members |
//! |---|---|
//! | `listening` | `port`; of a tracker: `address`, `url` |
//! | `added` | `torrent`, `name`, `folder`, `total_bytes`, `pieces`, `files` (the last three null while only a magnet link is known) |
//! | `metadata` | `torrent`, `name`, `metadata_bytes`, `total_bytes`, `pieces`, `files`: peers have sent what a magnet link does not tell; `torrent` may be another half of a hybrid torrent than before |
//! | `ready` | `torrent`, `have_bytes`, `have_pieces`, `pieces`: what was there is checked |
//! | `progress` | as `torrents` below, once a second |
//! | `changed` | `torrent`, `files`: paths that changed since the last run |
//! | `piece_failed` | `torrent`, `piece`: it was corrupt and is fetched again |
//! | `peer_connected` | `torrent`, `address`, `encryption`: `none`, `handshake` (only that) or `rc4` |
//! | `peer_closed` | `torrent` or null, `address`, `reason` |
//! | `peer_banned` | `torrent`, `address` |
//! | `tracker` | `torrent`, `url` (secrets masked), `peers` or `error` |
//! | `finished` | `torrent`: all of it is here |
//! | `torrent_failed` | `torrent`, `message`: its storage failed, or its metadata are of no use |
//! | `disk_full`, `disk_has_room` | `torrent`, with `disk_full` also `message` |
//! | `note`, `warning` | `message` |
//! | `summary` | `complete`, `seconds`, `downloaded_bytes`, `uploaded_bytes`, `wasted_bytes`, `corrupt_bytes`, `checked_bytes` (of this run), `torrents`; `complete` says whether all that was wanted is here |
//! | `torrent`, `magnet` | what `show` shows |
//! | `created` | `torrent`, `name`, `output`, `total_bytes`, `piece_bytes`, `pieces`, `files` |
//! | `verified` | `torrent`, `name`, `complete`, `right_pieces`, `pieces`, `files` (`number`, `path`, `bytes`, `state`, `pieces`, `wrong_pieces`) |
//! | `error` | `message`, `exit_code`: the last line of a run without success |
//!
//! A torrent goes by its info hash in hex. In `progress` and in the list `torrents` of `summary`
//! it has: `torrent`, `name`, `state`, `waits_for`, `has_metadata`, `total_bytes`, `have_bytes`, `wanted_bytes` (of
//! pieces that are wanted), `left_bytes` (of these), `pieces`, `have_pieces`, `left_pieces`
//! (wanted ones), `downloaded_bytes` and `uploaded_bytes` (over all runs), `down_bytes_per_s`,
//! `up_bytes_per_s`, `peers`, `seeds`, `known_peers`, `eta_s` (or null); while it is being checked
//! also `checked_bytes` and `to_check_bytes`, while its metadata are fetched also `metadata_bytes` and
//! `metadata_total_bytes` (or null).
//! Members may be added; programs ignore events and members that they do not know.

use std::time::Duration;

use serde_json::{Value, json};
use teem_core::ids::TorrentId;
use teem_core::metainfo::{Layout, Metainfo};
use teem_core::session::{Event, Session, Stats, TorrentSnapshot, TorrentState, WaitsFor};

use super::{Report, line, mask_url, text};

/// Writes an event; `members` is an object.
pub(crate) fn write(event: &str, members: Value) {
    let mut all = serde_json::Map::new();
    all.insert("event".into(), event.into());
    if let Value::Object(members) = members {
        all.extend(members);
    }
    line(&Value::Object(all).to_string());
}

pub(super) fn progress(torrent: &TorrentSnapshot) {
    write("progress", snapshot(torrent));
}

pub(super) fn event(report: &Report, session: &Session, event: &Event) {
    match event {
        Event::TorrentReady(id) => {
            let Some(torrent) = session.torrent(*id) else { return };
            write(
                "ready",
                json!({
                    "torrent": report.hash(*id), "have_bytes": torrent.have_bytes,
                    "have_pieces": torrent.have_pieces, "pieces": torrent.pieces,
                }),
            );
        }
        Event::ContentChanged(id, files) => {
            let files = report.file_names(*id, files);
            write("changed", json!({ "torrent": report.hash(*id), "files": files }));
        }
        Event::TorrentFinished(id) => write("finished", json!({ "torrent": report.hash(*id) })),
        Event::TorrentFailed(id, error) => failed(report, *id, error),
        Event::MetadataFailed(id, error) => failed(report, *id, error),
        Event::MetadataReceived(id) => {
            let Some(metainfo) = session.metainfo(*id) else { return };
            let mut members = described(metainfo);
            members["metadata_bytes"] = metainfo.info().bytes().len().into();
            write("metadata", members);
        }
        Event::DiskFull(id, error) => {
            let members = json!({ "torrent": report.hash(*id), "message": error.to_string() });
            write("disk_full", members);
        }
        Event::DiskHasRoom(id) => write("disk_has_room", json!({ "torrent": report.hash(*id) })),
        Event::PieceUnreadable(id, piece, error) => {
            let message = error.to_string();
            let members =
                json!({ "torrent": report.hash(*id), "piece": piece.0, "message": message });
            write("piece_unreadable", members);
        }
        Event::PieceFailed(id, piece) => {
            write("piece_failed", json!({ "torrent": report.hash(*id), "piece": piece.0 }));
        }
        Event::PeerConnected(id, address, encryption) => {
            write(
                "peer_connected",
                json!({
                    "torrent": report.hash(*id), "address": address.to_string(),
                    "encryption": text::encryption(*encryption),
                }),
            );
        }
        Event::PeerClosed { torrent, address, reason } => write(
            "peer_closed",
            json!({
                "torrent": torrent.map(|id| report.hash(id)),
                "address": address.to_string(),
                "reason": reason.to_string(),
            }),
        ),
        Event::PeerBanned(id, address) => {
            write(
                "peer_banned",
                json!({ "torrent": report.hash(*id), "address": address.to_string() }),
            );
        }
        Event::TrackerReplied { torrent, url, peers, .. } => write(
            "tracker",
            json!({
                "torrent": report.hash(*torrent), "url": mask_url(url), "peers": peers,
            }),
        ),
        Event::TrackerFailed { torrent, url, error } => write(
            "tracker",
            json!({
                "torrent": report.hash(*torrent), "url": mask_url(url), "error": error,
            }),
        ),
        _ => {}
    }
}

fn failed(report: &Report, id: TorrentId, error: &dyn std::fmt::Display) {
    let torrent = report.hash(id);
    write("torrent_failed", json!({ "torrent": torrent, "message": error.to_string() }));
}

/// What a torrent is, as far as that is known.
pub(super) fn described(metainfo: &Metainfo) -> Value {
    let info = metainfo.info();
    let layout: Option<&Layout> = info.is_known().then(|| &**info.layout());
    json!({
        "torrent": info.swarm_hash().to_string(),
        "name": info.name(),
        "total_bytes": layout.map(Layout::content_len),
        "pieces": layout.map(Layout::piece_count),
        "files": layout.map(|layout| layout.files().filter(|file| !file.is_pad()).count()),
    })
}

pub(super) fn summary(torrents: &[TorrentSnapshot], stats: &Stats, took: Duration) {
    write(
        "summary",
        json!({
            "complete": torrents.iter().all(|torrent| torrent.has_metadata && torrent.left_pieces == 0),
            "seconds": took.as_secs_f64(),
            "downloaded_bytes": stats.downloaded_bytes,
            "uploaded_bytes": stats.uploaded_bytes,
            "wasted_bytes": stats.wasted_bytes,
            "corrupt_bytes": stats.corrupt_bytes,
            "checked_bytes": stats.checked_bytes,
            "torrents": torrents.iter().map(snapshot).collect::<Vec<_>>(),
        }),
    );
}

fn snapshot(torrent: &TorrentSnapshot) -> Value {
    let mut value = json!({
        "torrent": torrent.info_hash.to_string(),
        "name": torrent.name,
        "state": state(&torrent.state),
        "waits_for": waits_for(torrent.waits_for),
        "has_metadata": torrent.has_metadata,
        "total_bytes": torrent.total_bytes,
        "have_bytes": torrent.have_bytes,
        "wanted_bytes": torrent.wanted_bytes,
        "left_bytes": torrent.left_bytes,
        "pieces": torrent.pieces,
        "have_pieces": torrent.have_pieces,
        "left_pieces": torrent.left_pieces,
        "downloaded_bytes": torrent.downloaded_bytes,
        "uploaded_bytes": torrent.uploaded_bytes,
        "down_bytes_per_s": torrent.down_bytes_per_s,
        "up_bytes_per_s": torrent.up_bytes_per_s,
        "peers": torrent.peers,
        "seeds": torrent.seeds,
        "known_peers": torrent.known_peers,
        "eta_s": text::eta(torrent).map(|eta| eta.as_secs()),
    });
    match torrent.state {
        TorrentState::Checking { done, total } => {
            value["checked_bytes"] = done.into();
            value["to_check_bytes"] = total.into();
        }
        TorrentState::FetchingMetadata { done, total } => {
            value["metadata_bytes"] = done.into();
            value["metadata_total_bytes"] = total.into();
        }
        _ => {}
    }
    value
}

const fn state(state: &TorrentState) -> &'static str {
    match state {
        TorrentState::FetchingMetadata { .. } => "fetching_metadata",
        TorrentState::Opening => "opening",
        TorrentState::Checking { .. } => "checking",
        TorrentState::Downloading => "downloading",
        TorrentState::Seeding => "seeding",
        TorrentState::Stopping => "stopping",
        TorrentState::Paused => "paused",
        TorrentState::Failed(_) => "failed",
        _ => "other",
    }
}

const fn waits_for(waits: WaitsFor) -> Option<&'static str> {
    match waits {
        WaitsFor::Nothing => None,
        WaitsFor::Peers => Some("peers"),
        WaitsFor::Connections => Some("connections"),
        WaitsFor::Metadata => Some("metadata"),
        WaitsFor::Pieces => Some("pieces"),
        WaitsFor::Unchoke => Some("unchoke"),
        WaitsFor::Disk => Some("disk"),
        WaitsFor::RateLimit => Some("rate_limit"),
        WaitsFor::Room => Some("room"),
        _ => Some("other"),
    }
}
