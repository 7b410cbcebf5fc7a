//! Downloads by the real program over loopback: to the end, on after a crash, over what is there.

#![expect(unreachable_pub, dead_code, reason = "shared between tests")]

mod common;

use std::time::Duration;

use common::{Running, Yard, code, event, run, stderr, strs};
use rustix::process::Signal;
use teem_io::clock::Clock;

const MIB: u64 = 1 << 20;

#[test]
fn a_torrent_is_downloaded_and_a_second_run_finds_it_complete() {
    let yard = Yard::new(5 * MIB as usize + 17);
    let (_seeder, peer) = yard.seeder(&[]);
    let got = run(&yard.get("got", &["--peer", &peer]));
    assert_eq!(code(&got), 0, "{}", stderr(&got));
    assert!(yard.is_complete("got"));
    let summary = event(&got, "summary");
    assert_eq!(summary["complete"], true);
    assert_eq!(summary["downloaded_bytes"], 5 * MIB + 17);
    let again = run(&yard.get("got", &[]));
    assert_eq!(code(&again), 0, "{}", stderr(&again));
    assert_eq!(event(&again, "summary")["downloaded_bytes"], 0);
    assert_eq!(event(&again, "summary")["checked_bytes"], 0, "resume data speaks for it");
}

#[test]
fn connections_are_encrypted_as_the_command_line_says() {
    let yard = Yard::new(MIB as usize);
    let (_strict, strict) = yard.seeder(&["--encryption", "require"]);
    let (_open, open) = yard.seeder(&["--encryption", "off"]);
    for (to, peer, how, wanted) in [
        ("a", &strict, "allow", "rc4"),
        ("b", &strict, "require", "rc4"),
        ("c", &open, "allow", "none"),
        ("d", &open, "prefer", "none"),
    ] {
        let got = run(&yard.get(to, &["--peer", peer, "--encryption", how]));
        assert_eq!(code(&got), 0, "{}", stderr(&got));
        assert_eq!(event(&got, "peer_connected")["encryption"], wanted, "{how}");
        assert!(yard.is_complete(to));
    }
    let never = yard.get("e", &["--peer", &strict, "--encryption", "off"]);
    let mut never = Running::start(&strs(&never));
    let closed = never.await_event("peer_closed");
    assert!(!yard.is_complete("e"), "{closed}");
}

#[test]
fn peers_find_each_other_through_our_tracker() {
    let yard = Yard::new(MIB as usize);
    let mut tracker = Running::start(&["track", "--http", "127.0.0.1:0", "--json"]);
    let url = tracker.await_event("listening")["url"].as_str().expect("a URL").to_owned();
    let (mut seeder, _) = yard.seeder(&["--tracker", &url]);
    seeder.await_event("tracker");
    let got = run(&yard.get("got", &["--tracker", &url]));
    assert_eq!(code(&got), 0, "{}", stderr(&got));
    assert!(yard.is_complete("got"));
    seeder.signal(Signal::INT);
    assert_eq!(seeder.end().0, Some(0));
    tracker.signal(Signal::TERM);
    let (code, _, rest) = tracker.end();
    assert_eq!(code, Some(0));
    // Two times started and stopped, and completed once.
    assert!(rest.contains("\"announces\":5"), "{rest}");
}

#[test]
fn a_download_goes_on_after_kill_9_and_fetches_little_twice() {
    let yard = Yard::new(1024 * MIB as usize);
    let (_seeder, peer) = yard.seeder(&[]);
    let mut first = Running::start(&strs(&yard.get("got", &["--peer", &peer, "--down", "250M"])));
    first.await_that("progress", |event| event["have_bytes"].as_u64() > Some(400 * MIB));
    first.signal(Signal::KILL);
    let (status, _, told) = first.end();
    assert_eq!(status, None);
    let progress =
        told.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let had = progress.filter_map(|event| event["have_bytes"].as_u64()).max().unwrap_or(400 * MIB);
    assert!(!yard.is_complete("got"));
    let got = run(&yard.get("got", &["--peer", &peer]));
    assert_eq!(code(&got), 0, "{}", stderr(&got));
    assert!(yard.is_complete("got"));
    let fetched = event(&got, "summary")["downloaded_bytes"].as_u64().expect("a number");
    let missing = 1024 * MIB - had;
    assert!(fetched <= missing + 64 * MIB, "fetched {fetched}, {missing} were missing");
}

#[test]
fn ctrl_c_saves_says_how_to_go_on_and_is_quick() {
    let yard = Yard::new(32 * MIB as usize);
    let (_seeder, peer) = yard.seeder(&[]);
    let mut first = Running::start(&strs(&yard.get("got", &["--peer", &peer, "--down", "8M"])));
    first.await_that("progress", |event| event["have_bytes"].as_u64() > Some(6 * MIB));
    let clock = Clock::new();
    let start = clock.now();
    first.signal(Signal::INT);
    let (code_, errors, rest) = first.end();
    assert!(clock.now().saturating_since(start) < Duration::from_secs(3));
    assert_eq!(code_, Some(130), "{errors}");
    assert!(rest.contains("run the same command again"), "{rest}");
    let got = run(&yard.get("got", &["--peer", &peer]));
    assert_eq!(code(&got), 0, "{}", stderr(&got));
    assert!(yard.is_complete("got"));
    let summary = event(&got, "summary");
    assert_eq!(summary["checked_bytes"], 0, "what was saved is believed");
    let fetched = summary["downloaded_bytes"].as_u64().expect("a number");
    assert!(fetched < 28 * MIB, "fetched {fetched}");
}

#[test]
fn two_instances_on_one_folder_refuse_and_the_first_goes_on() {
    let yard = Yard::new(MIB as usize);
    let mut first = Running::start(&strs(&yard.get("got", &["--no-trackers"])));
    first.await_event("ready");
    let second = run(&yard.get("got", &[]));
    assert_eq!(code(&second), 3, "{}", stderr(&second));
    assert!(
        event(&second, "torrent_failed")["message"]
            .as_str()
            .is_some_and(|message| message.contains("another instance"))
    );
    first.signal(Signal::INT);
    assert_eq!(first.end().0, Some(130));
}

#[test]
fn content_that_was_changed_since_is_named_and_repaired() {
    let yard = Yard::new(4 * MIB as usize);
    let (_seeder, peer) = yard.seeder(&[]);
    assert_eq!(code(&run(&yard.get("got", &["--peer", &peer]))), 0);
    let path = yard.path("got/data.bin");
    let mut bytes = std::fs::read(&path).expect("there");
    bytes[3 * MIB as usize] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let got = run(&yard.get("got", &["--peer", &peer]));
    assert_eq!(code(&got), 0, "{}", stderr(&got));
    assert!(yard.is_complete("got"));
    assert_eq!(event(&got, "changed")["files"][0], "data.bin");
    assert_eq!(event(&got, "summary")["downloaded_bytes"], 256 << 10);
}

#[test]
fn partial_content_without_resume_data_is_checked_and_a_longer_file_is_not_cut() {
    let yard = Yard::new(2 * MIB as usize);
    let (_seeder, peer) = yard.seeder(&[]);
    let mut there = yard.content.clone();
    there[..256 << 10].fill(0);
    there.extend_from_slice(b"my own notes");
    std::fs::create_dir(yard.path("got")).expect("made");
    std::fs::write(yard.path("got/data.bin"), &there).expect("written");
    let got = run(&yard.get("got", &["--peer", &peer]));
    assert_eq!(code(&got), 0, "{}", stderr(&got));
    assert_eq!(event(&got, "summary")["downloaded_bytes"], 256 << 10);
    let is = std::fs::read(yard.path("got/data.bin")).expect("there");
    assert_eq!(is[..2 * MIB as usize], yard.content);
    assert_eq!(&is[2 * MIB as usize..], b"my own notes");
}

#[test]
fn an_incomplete_seeder_says_so_and_serves_what_is_there() {
    let yard = Yard::new(2 * MIB as usize);
    let mut bytes = yard.content.clone();
    bytes[0] ^= 1;
    std::fs::write(yard.path("seed/data.bin"), &bytes).expect("written");
    let (torrent, data) = (yard.text("data.torrent"), yard.text("seed/data.bin"));
    let mut seeder =
        Running::start(&["seed", &torrent, &data, "--bind", "127.0.0.1", "--port", "0", "--json"]);
    let port = seeder.await_event("listening")["port"].as_u64().expect("a port");
    let warning = seeder.await_event("warning")["message"].to_string();
    assert!(warning.contains("1 of 8 pieces"), "{warning}");
    let peer = format!("127.0.0.1:{port}");
    let mut got = Running::start(&strs(&yard.get("got", &["--peer", &peer])));
    got.await_that("progress", |event| event["have_pieces"] == 7);
    assert_eq!(std::fs::read(yard.path("seed/data.bin")).expect("there"), bytes, "untouched");
}

#[test]
fn a_port_in_use_is_named_and_another_is_taken() {
    let yard = Yard::new(MIB as usize);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let mut get = yard.get("got", &[]);
    let at = get.iter().position(|arg| arg == "0").expect("a port");
    get[at].clone_from(&port);
    let mut get = Running::start(&strs(&get));
    let warning = get.await_event("warning")["message"].to_string();
    assert!(warning.contains(&format!("port {port} is in use")), "{warning}");
    assert_ne!(get.await_event("listening")["port"].to_string(), port);
}

#[test]
fn the_demo_ends_well_and_leaves_nothing() {
    let temp = tempfile::tempdir().expect("a folder");
    let demo = std::process::Command::new(env!("CARGO_BIN_EXE_teem"))
        .args(["demo", "--size", "8M", "--leechers", "2"])
        .env("TMPDIR", temp.path())
        .output()
        .expect("it runs");
    assert_eq!(code(&demo), 0, "{}", stderr(&demo));
    let said = String::from_utf8_lossy(&demo.stdout);
    assert!(said.contains("2 copies of 8.0 MiB, all right"), "{said}");
    assert_eq!(std::fs::read_dir(temp.path()).expect("there").count(), 0);
}

#[test]
fn only_the_files_that_were_selected_are_made() {
    let yard = Yard::folder(&[("a", MIB as usize), ("b", 3 * MIB as usize), ("c", MIB as usize)]);
    let (_seeder, peer) = yard.seeder(&[]);
    let got = run(&yard.get("got", &["--peer", &peer, "--select", "1,3"]));
    assert_eq!(code(&got), 0, "{}", stderr(&got));
    let summary = event(&got, "summary");
    assert_eq!(summary["complete"], true);
    assert_eq!(summary["torrents"][0]["left_pieces"], 0);
    assert_eq!(summary["downloaded_bytes"], 2 * MIB, "pieces end where files do");
    assert!(yard.is_file_complete("got", "a") && yard.is_file_complete("got", "c"));
    assert!(!yard.file("got", "b").exists());

    let rest = run(&yard.get("got", &["--peer", &peer]));
    assert_eq!(code(&rest), 0, "{}", stderr(&rest));
    assert_eq!(event(&rest, "summary")["downloaded_bytes"], 3 * MIB);
    assert!(yard.is_file_complete("got", "b"));
}

#[test]
fn a_selection_that_cannot_be_says_what_there_is() {
    let yard = Yard::folder(&[("a", 100), ("b", 100)]);
    for (select, says) in [
        ("3", "there is no file 3"),
        ("2-9", "there is no file 9"),
        ("0", "numbered from 1"),
        ("x", "teem show"),
    ] {
        let got = run(&yard.get("got", &["--select", select]));
        assert_eq!(code(&got), 2);
        let told = format!("{}{}", String::from_utf8_lossy(&got.stdout), stderr(&got));
        assert!(told.contains(says), "{select}: {told}");
    }
    let got = run(&yard.get("got", &["--priority", "1-2=skip"]));
    assert_eq!(code(&got), 2, "{}", stderr(&got));
}

#[test]
fn a_seeder_ends_when_its_ratio_is_reached() {
    let yard = Yard::new(2 * MIB as usize);
    let (mut seeder, peer) = yard.seeder(&["--seed-ratio", "1", "--up", "20M"]);
    let got = run(&yard.get("got", &["--peer", &peer]));
    assert_eq!(code(&got), 0, "{}", stderr(&got));
    let (code, _, told) = seeder.end();
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("the ratio is reached"), "{told}");
    let mut later = Running::start(&strs(&yard.get("got", &["--seed-time", "2s"])));
    later.await_that("note", |event| {
        event["message"].as_str().is_some_and(|text| text.contains("time of seeding is over"))
    });
    assert_eq!(later.end().0, Some(0));
}
