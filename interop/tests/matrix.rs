//! `teem` against Transmission, libtorrent, aria2, rtorrent and opentracker, each in both roles.

use std::time::Instant;

use teem_interop::Meeting::{
    Direct, OpentrackerHttp, OpentrackerHttps, OpentrackerUdp, TeemTrack, TeemTrackHttps,
    TeemTrackUdp,
};
use teem_interop::Program::{Aria2, Libtorrent, Rtorrent, Teem, Transmission};
use teem_interop::{Cell, Content, Format, Network, Outcome};

/// Every cell, leecher first.
const CELLS: [Cell; 53] = [
    // teem downloads from each.
    Cell::new(Teem, Libtorrent, Direct),
    Cell::new(Teem, Transmission, Direct),
    Cell::new(Teem, Aria2, Direct),
    Cell::new(Teem, Rtorrent, Direct),
    // Each downloads from teem.
    Cell::new(Libtorrent, Teem, OpentrackerHttp),
    Cell::new(Transmission, Teem, OpentrackerHttp),
    Cell::new(Aria2, Teem, OpentrackerHttp).from_content(),
    Cell::new(Rtorrent, Teem, OpentrackerHttp),
    // teem finds and is found through opentracker.
    Cell::new(Teem, Libtorrent, OpentrackerHttp),
    Cell::new(Teem, Libtorrent, OpentrackerUdp),
    Cell::new(Libtorrent, Teem, OpentrackerUdp),
    // teem's tracker brings the others together, each of them as seeder and as leecher.
    Cell::new(Aria2, Libtorrent, TeemTrack),
    Cell::new(Rtorrent, Aria2, TeemTrack),
    Cell::new(Transmission, Rtorrent, TeemTrack),
    Cell::new(Libtorrent, Transmission, TeemTrack),
    Cell::new(Teem, Libtorrent, TeemTrack),
    Cell::new(Teem, Teem, TeemTrack),
    // Encrypted (MSE): each insists on RC4, and teem, which begins without, does as they like ...
    Cell::new(Teem, Libtorrent, Direct).forced_by(Libtorrent),
    Cell::new(Libtorrent, Teem, Direct).forced_by(Libtorrent),
    Cell::new(Teem, Transmission, Direct).forced_by(Transmission),
    Cell::new(Transmission, Teem, OpentrackerHttp).forced_by(Transmission),
    Cell::new(Teem, Aria2, Direct).forced_by(Aria2),
    Cell::new(Aria2, Teem, OpentrackerHttp).forced_by(Aria2),
    Cell::new(Teem, Rtorrent, Direct).forced_by(Rtorrent),
    Cell::new(Rtorrent, Teem, OpentrackerHttp).forced_by(Rtorrent),
    // ... and teem insists on it.
    Cell::new(Teem, Libtorrent, Direct).forced_by(Teem),
    Cell::new(Teem, Transmission, Direct).forced_by(Teem),
    Cell::new(Aria2, Teem, OpentrackerHttp).forced_by(Teem),
    Cell::new(Rtorrent, Teem, OpentrackerHttp).forced_by(Teem),
    // So it does over UDP.
    Cell::new(Libtorrent, Rtorrent, TeemTrackUdp),
    Cell::new(Rtorrent, Libtorrent, TeemTrackUdp),
    Cell::new(Transmission, Aria2, TeemTrackUdp),
    Cell::new(Aria2, Transmission, TeemTrackUdp),
    // Over HTTPS: teem with the TLS of others, and others with teem's.
    Cell::new(Teem, Teem, OpentrackerHttps),
    Cell::new(Teem, Aria2, TeemTrackHttps),
    Cell::new(Rtorrent, Teem, TeemTrackHttps),
    // IPv6.
    Cell::new(Teem, Libtorrent, Direct).over_v6(),
    Cell::new(Libtorrent, Teem, Direct).over_v6(),
    // v2 and hybrid torrents, each way.
    Cell::new(Teem, Libtorrent, Direct).of(Format::V2),
    Cell::new(Libtorrent, Teem, Direct).of(Format::V2),
    Cell::new(Teem, Libtorrent, Direct).of(Format::Hybrid),
    Cell::new(Libtorrent, Teem, Direct).of(Format::Hybrid),
    Cell::new(Teem, Libtorrent, Direct).of(Format::V2).bare(),
    // Magnet links: metadata from each, and to those that can be told by one.
    Cell::new(Teem, Libtorrent, Direct).by_magnet(),
    Cell::new(Teem, Transmission, Direct).by_magnet(),
    Cell::new(Teem, Aria2, OpentrackerHttp).by_magnet(),
    Cell::new(Teem, Rtorrent, Direct).by_magnet(),
    Cell::new(Teem, Libtorrent, Direct).of(Format::V2).by_magnet(),
    Cell::new(Teem, Libtorrent, Direct).of(Format::Hybrid).by_magnet(),
    Cell::new(Libtorrent, Teem, Direct).by_magnet(),
    Cell::new(Aria2, Teem, OpentrackerHttp).by_magnet(),
    Cell::new(Libtorrent, Teem, Direct).of(Format::V2).by_magnet(),
    Cell::new(Libtorrent, Teem, Direct).of(Format::Hybrid).by_magnet(),
];

#[test]
#[allow(clippy::disallowed_methods, reason = "real programs run on the real clock")]
fn every_program_and_teem_serve_each_other() {
    let network = match Network::enter("every_program_and_teem_serve_each_other") {
        Ok(network) => network,
        Err(inner) => {
            assert!(inner.success(), "the run inside the namespace failed: {inner}");
            return;
        }
    };
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| value != "0");
    let only = std::env::var("TEEM_INTEROP_ONLY").unwrap_or_default();
    let base = std::path::Path::new("/dev/shm");
    let base = if base.is_dir() { base.to_owned() } else { std::env::temp_dir() };
    let mut scratch =
        tempfile::Builder::new().prefix("teem-interop-").tempdir_in(base).expect("a folder");
    scratch.disable_cleanup(set("TEEM_INTEROP_KEEP"));
    let content = Content::make(&scratch.path().join("content")).expect("content");
    if set("TEEM_INTEROP_KEEP") {
        println!("everything stays in {}", scratch.path().display());
    }

    let begin = Instant::now();
    let (mut passed, mut left_out, mut failed, mut skipped) = (0, 0, Vec::new(), 0);
    for (index, cell) in (1..).zip(&CELLS) {
        let name = cell.name();
        if !name.contains(&only) {
            skipped += 1;
            continue;
        }
        let folder = scratch.path().join(format!("cell-{index}"));
        match cell.run(network, index, &content, &folder) {
            Outcome::Passed(took) => {
                passed += 1;
                println!("passed   {:6.1} s  {name}", took.as_secs_f64());
            }
            Outcome::LeftOut(why) => {
                left_out += 1;
                println!("left out           {name}: {why}");
            }
            Outcome::Failed(why) => {
                println!("FAILED             {name}: {why}");
                failed.push(name);
            }
        }
        if !set("TEEM_INTEROP_KEEP") {
            let _nothing_written = std::fs::remove_dir_all(&folder);
        }
    }
    println!(
        "{passed} of {} cells passed, {left_out} left out, {} failed, {skipped} not asked for, in {:.0} s",
        CELLS.len(),
        failed.len(),
        begin.elapsed().as_secs_f64()
    );
    assert!(failed.is_empty(), "failed: {failed:#?}");
    assert_eq!(passed + left_out + skipped, CELLS.len());
    if set("TEEM_INTEROP") {
        assert_eq!(
            left_out, 0,
            "TEEM_INTEROP=1: every program must be here; run interop/install.sh"
        );
        assert!(!only.is_empty() || passed == CELLS.len());
    }
}
