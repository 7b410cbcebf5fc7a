//! `teem show`: what a torrent or a magnet link says.

use serde_json::json;
use teem_core::metainfo::{Magnet, Metainfo};
use teem_core::time::UnixTime;
use teem_io::tls::TlsConfig;

use crate::args::Show;
use crate::report::json::write;
use crate::report::printable;
use crate::{Outcome, report, size, source};

pub(crate) fn run(show: &Show) -> Outcome {
    if let Some(magnet) = source::magnet(&show.torrent)? {
        if show.json {
            magnet_json(&magnet);
        } else {
            magnet_text(&magnet);
        }
        return Ok(());
    }
    let metainfo = source::load(&show.torrent, &TlsConfig::new())?;
    if show.json {
        torrent_json(&metainfo);
    } else {
        torrent_text(&metainfo);
    }
    Ok(())
}

fn field(name: &str, value: &str) {
    report::line(&format!("{name:<14} {}", printable(value)));
}

fn maybe(name: &str, value: Option<impl AsRef<str>>) {
    if let Some(value) = value {
        field(name, value.as_ref());
    }
}

fn torrent_text(metainfo: &Metainfo) {
    let info = metainfo.info();
    let layout = info.layout();
    field("name", info.name());
    maybe("info hash", info.info_hash().map(|hash| hash.to_string()));
    maybe("info hash v2", info.info_hash_v2().map(|hash| hash.to_string()));
    let (total, piece) = (layout.content_len(), layout.piece_len());
    field("size", &format!("{} ({total} bytes)", size::show(total)));
    field("pieces", &format!("{} of {}", layout.piece_count(), size::show(piece.into())));
    field("private", if info.is_private() { "yes" } else { "no" });
    maybe("source", info.source());
    maybe("created", metainfo.creation_date.map(date));
    maybe("created by", metainfo.created_by.as_ref());
    maybe("comment", metainfo.comment.as_ref());
    for (tier, urls) in metainfo.trackers.iter().enumerate() {
        for url in urls {
            field(&format!("tracker {}", tier + 1), url);
        }
    }
    metainfo.web_seeds.iter().for_each(|url| field("web seed", url));
    metainfo.nodes.iter().for_each(|node| field("DHT node", &node.to_string()));
    let width = layout.file_count().to_string().len();
    report::line("files");
    for file in layout.files().filter(|file| !file.is_pad()) {
        let link = file.link_target().map_or_else(String::new, |to| format!(" -> {to}"));
        report::line(&format!(
            "{:>width$}  {:>10}  {}",
            file.index() + 1,
            size::show(file.len()),
            printable(&format!("{}{link}", file.path())),
        ));
    }
}

fn torrent_json(metainfo: &Metainfo) {
    let info = metainfo.info();
    let layout = info.layout();
    let files: Vec<_> = layout
        .files()
        .filter(|file| !file.is_pad())
        .map(|file| {
            json!({ "number": file.index() + 1, "path": file.path(), "bytes": file.len(),
                    "link": file.link_target() })
        })
        .collect();
    write(
        "torrent",
        json!({
            "torrent": info.swarm_hash().to_string(),
            "info_hash": info.info_hash().map(|hash| hash.to_string()),
            "info_hash_v2": info.info_hash_v2().map(|hash| hash.to_string()),
            "name": info.name(),
            "total_bytes": layout.content_len(),
            "piece_bytes": layout.piece_len(),
            "pieces": layout.piece_count(),
            "private": info.is_private(),
            "source": info.source(),
            "created": metainfo.creation_date.map(|date| date.0),
            "created_by": metainfo.created_by,
            "comment": metainfo.comment,
            "trackers": metainfo.trackers,
            "web_seeds": metainfo.web_seeds,
            "nodes": metainfo.nodes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "files": files,
        }),
    );
}

fn magnet_text(magnet: &Magnet) {
    maybe("name", magnet.name.as_ref());
    maybe("info hash", magnet.info_hash.map(|hash| hash.to_string()));
    maybe("info hash v2", magnet.info_hash_v2.map(|hash| hash.to_string()));
    magnet.trackers.iter().for_each(|url| field("tracker", url));
    magnet.web_seeds.iter().for_each(|url| field("web seed", url));
    magnet.peers.iter().for_each(|peer| field("peer", &peer.to_string()));
    for range in &magnet.select_only {
        let (first, last) = (u64::from(*range.start()) + 1, u64::from(*range.end()) + 1);
        let text = if first == last { first.to_string() } else { format!("{first} to {last}") };
        field("wanted files", &text);
    }
}

fn magnet_json(magnet: &Magnet) {
    let ranges = magnet.select_only.iter();
    let ranges: Vec<_> =
        ranges.map(|r| [u64::from(*r.start()) + 1, u64::from(*r.end()) + 1]).collect();
    write(
        "magnet",
        json!({
            "info_hash": magnet.info_hash.map(|hash| hash.to_string()),
            "info_hash_v2": magnet.info_hash_v2.map(|hash| hash.to_string()),
            "name": magnet.name,
            "trackers": magnet.trackers,
            "web_seeds": magnet.web_seeds,
            "peers": magnet.peers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "wanted_files": ranges,
        }),
    );
}

/// A time as `2024-02-29 12:00:00 UTC`.
fn date(UnixTime(seconds): UnixTime) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years (Howard Hinnant, "chrono-compatible low-level
    // date algorithms").
    let days = days.saturating_add(719_468);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest % 3600 / 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(UnixTime(0)), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(UnixTime(951_782_400)), "2000-02-29 00:00:00 UTC");
        assert_eq!(date(UnixTime(1_709_208_000)), "2024-02-29 12:00:00 UTC");
        assert_eq!(date(UnixTime(1_735_689_599)), "2024-12-31 23:59:59 UTC");
        assert!(date(UnixTime(u64::MAX)).ends_with(" UTC"));
    }
}
