//! `teem create` against libtorrent: the same files are the same torrent.

use std::process::Command;

use teem_interop::{Content, Format, Program};

#[test]
fn v2_and_hybrid_torrents_are_those_that_libtorrent_makes() {
    for program in [Program::Teem, Program::Libtorrent] {
        if let Err(missing) = program.look() {
            let must = std::env::var_os("TEEM_INTEROP").is_some_and(|value| value != "0");
            assert!(!must, "{missing}");
            println!("left out: {missing}");
            return;
        }
    }
    let scratch = tempfile::tempdir().expect("a folder");
    let content = Content::make(&scratch.path().join("content")).expect("content");
    let torrent = scratch.path().join("it.torrent");
    for (format, flag) in [(Format::V2, "--v2"), (Format::Hybrid, "--hybrid")] {
        let output = Command::new(teem_interop::teem().expect("built"))
            .args(["create", flag, "--piece-size", "256K", "-o"])
            .arg(&torrent)
            .arg(content.path())
            .output()
            .expect("teem runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        content.compare(&torrent, format).expect("the same torrent");
    }
}
