//! Words for people.

use std::time::Duration;

use teem_core::metainfo::Metainfo;
use teem_core::mse::Method;
use teem_core::session::{Stats, TorrentSnapshot, TorrentState, WaitsFor};

use crate::size;

/// What a torrent does, and what it waits for.
pub(super) fn state(torrent: &TorrentSnapshot, serve_only: bool) -> String {
    match &torrent.state {
        TorrentState::FetchingMetadata { done, total } => match (torrent.waits_for, total) {
            (WaitsFor::Peers, _) => no_peers(torrent),
            (WaitsFor::Connections, _) => {
                format!("connecting to {} known peers", torrent.known_peers)
            }
            (_, Some(total)) => format!(
                "metadata: {} of {}",
                size::show((*done).into()),
                size::show((*total).into())
            ),
            (_, None) => "metadata: waiting for a peer that has them".into(),
        },
        TorrentState::Opening => "opening files".into(),
        TorrentState::Checking { done, total } => {
            format!("checking {} of {}", size::show(*done), size::show(*total))
        }
        TorrentState::Downloading if serve_only => {
            format!("serving {} of {} pieces", torrent.have_pieces, torrent.pieces)
        }
        TorrentState::Downloading => match torrent.waits_for {
            WaitsFor::Nothing | WaitsFor::RateLimit => "downloading".into(),
            WaitsFor::Peers => no_peers(torrent),
            WaitsFor::Connections => {
                format!("connecting to {} known peers", torrent.known_peers)
            }
            WaitsFor::Pieces => "waiting for peers that have what is missing".into(),
            WaitsFor::Unchoke => "waiting for peers to let us download".into(),
            WaitsFor::Disk => "waiting for the disk".into(),
            WaitsFor::Room => "the disk is full: waiting for room".into(),
            _ => "waiting".into(),
        },
        TorrentState::Seeding => "seeding".into(),
        TorrentState::Stopping => "stopping".into(),
        TorrentState::Paused => "stopped".into(),
        TorrentState::Failed(error) => format!("failed: {error}"),
        _ => String::new(),
    }
}

fn no_peers(torrent: &TorrentSnapshot) -> String {
    match torrent.trackers.iter().find_map(|tracker| tracker.error.as_ref()) {
        _ if torrent.trackers.is_empty() => {
            "no peers: no tracker; name one with --tracker or a --peer".into()
        }
        Some(error) => format!("no peers known; tracker: {error}"),
        None => "asking for peers".into(),
    }
}

/// How a connection is encrypted.
pub(super) const fn encryption(method: Option<Method>) -> &'static str {
    match method {
        None => "none",
        Some(Method::Plaintext) => "handshake",
        Some(Method::Rc4) => "rc4",
    }
}

/// Time until a download is complete, at its present rate.
pub(super) fn eta(torrent: &TorrentSnapshot) -> Option<Duration> {
    let running = torrent.state == TorrentState::Downloading && torrent.left_bytes > 0;
    (running && torrent.down_bytes_per_s > 0)
        .then(|| Duration::from_secs(torrent.left_bytes.div_ceil(torrent.down_bytes_per_s)))
}

/// What stands behind a bar: what people look for first comes first, since a narrow terminal cuts
/// the rest.
pub(super) fn behind_bar(torrent: &TorrentSnapshot, serve_only: bool) -> String {
    let mut parts = Vec::new();
    let plain = torrent.state == TorrentState::Downloading
        && matches!(torrent.waits_for, WaitsFor::Nothing | WaitsFor::RateLimit)
        && !serve_only;
    if plain {
        parts.push(format!(
            "{} of {}",
            size::show(torrent.wanted_bytes - torrent.left_bytes),
            size::show(torrent.wanted_bytes)
        ));
    } else {
        parts.push(state(torrent, serve_only));
    }
    if matches!(torrent.state, TorrentState::FetchingMetadata { .. }) {
        parts.push(peers(torrent));
    }
    if matches!(torrent.state, TorrentState::Downloading | TorrentState::Seeding) {
        if plain {
            parts.push(format!("down {}", size::show_rate(torrent.down_bytes_per_s)));
        }
        if torrent.up_bytes_per_s > 0 || !plain {
            parts.push(format!("up {}", size::show_rate(torrent.up_bytes_per_s)));
        }
        parts.push(peers(torrent));
        if let Some(eta) = eta(torrent).filter(|_| plain) {
            parts.push(format!("eta {}", size::show_time(eta)));
        }
    }
    parts.join("  ")
}

fn peers(torrent: &TorrentSnapshot) -> String {
    format!("{} peer{}", torrent.peers, if torrent.peers == 1 { "" } else { "s" })
}

/// What a torrent turned out to be that was a magnet link.
pub(super) fn described(metainfo: &Metainfo) -> String {
    let info = metainfo.info();
    let files = info.layout().files().filter(|file| !file.is_pad()).count();
    let s = if files == 1 { "" } else { "s" };
    let len = size::show(info.layout().content_len());
    format!("{}: {len} in {files} file{s}", printable(info.name()))
}

/// A line of progress.
pub(super) fn line(torrent: &TorrentSnapshot, serve_only: bool) -> String {
    format!(
        "{}: {}%  {}",
        printable(&torrent.name),
        if torrent.has_metadata {
            percent(torrent.wanted_bytes - torrent.left_bytes, torrent.wanted_bytes)
        } else {
            0
        },
        behind_bar(torrent, serve_only),
    )
}

/// Whole percent, 100 only when nothing is missing.
fn percent(have: u64, total: u64) -> u64 {
    if total == 0 { 100 } else { (u128::from(have) * 100 / u128::from(total)) as u64 }
}

/// What became of a torrent.
pub(super) fn summary(torrent: &TorrentSnapshot) -> String {
    let total = size::show(torrent.total_bytes);
    if !torrent.has_metadata {
        format!("{}: nothing is here; no peer has sent its metadata", printable(&torrent.name))
    } else if torrent.have_pieces == torrent.pieces {
        format!("{}: complete and verified, {total}", printable(&torrent.name))
    } else if torrent.left_pieces == 0 {
        format!(
            "{}: what was selected is complete and verified, {} of {total}",
            printable(&torrent.name),
            size::show(torrent.wanted_bytes),
        )
    } else {
        let missing = torrent.pieces - torrent.have_pieces;
        format!(
            "{}: {}% of {total}, {missing} of {} pieces missing",
            printable(&printable(&torrent.name)),
            percent(torrent.have_bytes, torrent.total_bytes),
            torrent.pieces,
        )
    }
}

/// What went over the wire in this run.
pub(super) fn totals(stats: &Stats, took: Duration) -> String {
    let rate = stats.downloaded_bytes as f64 / took.as_secs_f64().max(0.001);
    let mut text = format!(
        "received {}, sent {} in {}",
        size::show(stats.downloaded_bytes),
        size::show(stats.uploaded_bytes),
        seconds(took),
    );
    if stats.downloaded_bytes > 0 {
        #[expect(clippy::cast_sign_loss, reason = "a rate is not negative")]
        let rate = size::show_rate(rate as u64);
        text = format!("{text}, {rate} on average");
    }
    text
}

fn seconds(time: Duration) -> String {
    if time < Duration::from_mins(1) {
        format!("{:.1}s", time.as_secs_f64())
    } else {
        size::show_time(time)
    }
}

/// Text of strangers without what would move a terminal's cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A tracker's URL without what may be a secret: user names, long path segments (passkeys) and
/// queries.
pub(crate) fn mask_url(url: &str) -> String {
    const SECRET_LEN_MIN: usize = 16;
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let (rest, query) = rest.split_once(['?', '#']).map_or((rest, false), |(rest, _)| (rest, true));
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(a, p)| (a, Some(p)));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let mut out = format!("{scheme}://");
    if host.len() < authority.len() {
        out.push_str("***@");
    }
    out.push_str(host);
    for segment in path.into_iter().flat_map(|path| path.split('/')) {
        out.push('/');
        out.push_str(if segment.len() >= SECRET_LEN_MIN { "***" } else { segment });
    }
    if query {
        out.push_str("?***");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_tracker_urls_are_masked() {
        let masked = |url: &str| mask_url(url);
        assert_eq!(masked("http://t.example:6969/announce"), "http://t.example:6969/announce");
        assert_eq!(
            masked("https://t.example/0123456789abcdef0123/announce"),
            "https://t.example/***/announce"
        );
        assert_eq!(masked("http://me:pw@t.example/a?passkey=1"), "http://***@t.example/a?***");
        assert_eq!(masked("udp://t.example:80"), "udp://t.example:80");
    }

    #[test]
    fn names_cannot_move_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn a_percentage_is_100_only_when_nothing_is_missing() {
        assert_eq!(percent(0, 0), 100);
        assert_eq!(percent(999, 1000), 99);
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
    }
}
