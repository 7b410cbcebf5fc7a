//! Things that go wrong on a disk, as people meet them: each says what it is, and nothing that was
//! verified is lost.

#![expect(unreachable_pub, dead_code, reason = "shared between tests")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::{Running, Yard, code, event, run, stderr, strs};

const MIB: u64 = 1 << 20;

/// Whether this machine lets us make a mount of our own; a test that needs one is else left out,
/// and fails where nothing may be left out.
fn may_mount() -> bool {
    let probe = Command::new("unshare").args(["-rm", "true"]).status();
    let may = probe.is_ok_and(|status| status.success());
    assert!(may || std::env::var_os("TEEM_INTEROP").is_none(), "`unshare -rm` has to work here");
    if !may {
        eprintln!("left out: this machine does not let us make mounts (`unshare -rm true`)");
    }
    may
}

#[test]
fn a_full_disk_is_named_and_the_download_goes_on_when_there_is_room() {
    if !may_mount() {
        return;
    }
    let yard = Yard::new(24 * MIB as usize);
    let (_seeder, peer) = yard.seeder(&[]);
    let script = r#"
        set -e
        mkdir -p "$ROOM"
        mount -t tmpfs -o size=10m tmpfs "$ROOM"
        "$TEEM" get "$TORRENT" -o "$ROOM" --bind 127.0.0.1 --port 0 --json --peer "$PEER" \
            > "$OUT" 2> "$ERR" &
        teem=$!
        for _ in $(seq 300); do grep -q disk_full "$OUT" && break; sleep 0.1; done
        grep -q disk_full "$OUT"
        kill -0 $teem
        mount -o remount,size=64m "$ROOM"
        wait $teem
        cmp "$ROOM/data.bin" "$CONTENT"
    "#;
    let out = yard.path("out");
    let status = Command::new("unshare")
        .args(["-rm", "timeout", "120", "bash", "-c", script])
        .env("TEEM", env!("CARGO_BIN_EXE_teem"))
        .env("ROOM", yard.path("room"))
        .env("TORRENT", yard.path("data.torrent"))
        .env("CONTENT", yard.path("seed/data.bin"))
        .env("PEER", &peer)
        .env("OUT", &out)
        .env("ERR", yard.path("err"))
        .status()
        .expect("it runs");
    let told = std::fs::read_to_string(&out).expect("it told something");
    assert!(status.success(), "{status} {told}");
    assert!(told.contains("no space left") || told.contains("No space left"), "{told}");
    assert!(told.contains("disk_has_room"), "{told}");
    let last: serde_json::Value =
        serde_json::from_str(told.lines().last().expect("a summary")).expect("JSON");
    assert_eq!(last["complete"], true);
}

#[test]
fn a_folder_that_disappears_is_named_and_what_is_elsewhere_is_found_again() {
    let yard = Yard::folder(&[("a", 6 * MIB as usize), ("b", 26 * MIB as usize)]);
    let (_seeder, peer) = yard.seeder(&[]);
    let mut first = Running::start(&strs(
        &yard.get("got", &["--peer", &peer, "--down", "700K", "--sequential"]),
    ));
    first.await_that("progress", |event| event["have_bytes"].as_u64() > Some(7 * MIB));
    std::fs::remove_file(yard.file("got", "b")).expect("it is there");
    let failed = first.await_event("torrent_failed");
    let message = failed["message"].as_str().expect("a text");
    assert!(message.contains("not found") && message.contains('b'), "{message}");
    assert_eq!(first.end().0, Some(1));
    let again = run(&yard.get("got", &["--peer", &peer]));
    assert_eq!(code(&again), 0, "{}", stderr(&again));
    assert!(yard.is_file_complete("got", "a") && yard.is_file_complete("got", "b"));
    let fetched = event(&again, "summary")["downloaded_bytes"].as_u64().expect("a number");
    assert!(fetched <= 27 * MIB, "{fetched}: `a` was there still");
}

#[test]
fn a_folder_that_may_not_be_written_to_is_named() {
    let yard = Yard::new(MIB as usize);
    let folder = yard.path("closed");
    std::fs::create_dir(&folder).expect("made");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o555)).expect("set");
    if std::fs::write(folder.join("probe"), "").is_ok() {
        // Whoever may write everywhere meets a folder that nobody may write to instead.
        return whoever_is_root_meets_a_read_only_folder(&yard);
    }
    let got = run(&yard.get("closed", &[]));
    assert_eq!(code(&got), 1, "{}", stderr(&got));
    let message = event(&got, "torrent_failed")["message"].to_string();
    assert!(message.contains("permission denied"), "{message}");
}

fn whoever_is_root_meets_a_read_only_folder(yard: &Yard) {
    if !may_mount() {
        return;
    }
    let script = r#"
        mount -t tmpfs -o ro tmpfs "$ROOM" || exit 99
        exec "$TEEM" get "$TORRENT" -o "$ROOM" --bind 127.0.0.1 --port 0
    "#;
    let got = Command::new("unshare")
        .args(["-rm", "timeout", "60", "bash", "-c", script])
        .env("TEEM", env!("CARGO_BIN_EXE_teem"))
        .env("ROOM", yard.path("closed"))
        .env("TORRENT", yard.path("data.torrent"))
        .output()
        .expect("it runs");
    assert_eq!(got.status.code(), Some(1), "{}", stderr(&got));
    assert!(stderr(&got).to_lowercase().contains("read-only"), "{}", stderr(&got));
}

#[test]
fn silent_damage_is_repaired_by_fetching_just_that() {
    let yard = Yard::new(8 * MIB as usize);
    let (_seeder, peer) = yard.seeder(&[]);
    let got = run(&yard.get("got", &["--peer", &peer]));
    assert_eq!(code(&got), 0, "{}", stderr(&got));
    let path = yard.path("got/data.bin");
    let before = std::fs::metadata(&path).and_then(|found| found.modified()).expect("it is there");
    let mut content = yard.content.clone();
    content[3 * MIB as usize] ^= 1;
    std::fs::write(&path, &content).expect("written");
    let file = std::fs::File::options().write(true).open(&path).expect("opened");
    file.set_modified(before).expect("as if nothing had been");
    drop(file);

    let believed = run(&yard.get("got", &["--peer", &peer]));
    assert_eq!(event(&believed, "summary")["downloaded_bytes"], 0, "nothing shows");
    let (torrent, folder) = (yard.text("data.torrent"), yard.text("got"));
    let verify = ["verify", &torrent, &folder, "--json", "--bind", "127.0.0.1", "--port", "0"];
    let told = common::teem(&verify);
    assert_eq!(code(&told), 1);
    assert_eq!(event(&told, "verified")["right_pieces"], 31);
    let repaired = common::teem(&[&verify[..], &["--repair", "--peer", &peer]].concat());
    assert_eq!(code(&repaired), 0, "{}", stderr(&repaired));
    assert_eq!(event(&repaired, "summary")["downloaded_bytes"], 256 * 1024);
    assert!(yard.is_complete("got"));
}

#[test]
fn a_seeder_whose_file_is_cut_short_names_it() {
    let yard = Yard::folder(&[("a", 4 * MIB as usize), ("b", 4 * MIB as usize)]);
    let (mut seeder, peer) = yard.seeder(&[]);
    let path = yard.file("seed", "a");
    let whole = std::fs::read(&path).expect("it is there");
    std::fs::write(&path, &whole[..MIB as usize]).expect("cut");
    let _leecher = Running::start(&strs(&yard.get("got", &["--peer", &peer])));
    let told = seeder.await_event("piece_unreadable");
    let message = told["message"].as_str().expect("a text");
    assert!(message.contains("not found") && message.contains('a'), "{message}");
    assert!(told["piece"].as_u64().is_some_and(|piece| piece < 16), "{told}");
}
