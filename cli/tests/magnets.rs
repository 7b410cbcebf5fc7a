//! Magnet links, with the real program.

#![expect(unreachable_pub, dead_code, reason = "shared between tests")]

mod common;

use rustix::process::Signal;

use common::{Running, Yard, code, event, run, stderr, strs, teem};

const MIB: usize = 1 << 20;

/// The magnet link of a yard's torrent, by one of its hashes, with `rest` behind it.
fn link(yard: &Yard, hash: &str, rest: &str) -> String {
    let shown = teem(&["show", &yard.text("data.torrent"), "--json"]);
    let shown = event(&shown, "torrent");
    let hash = shown[hash].as_str().unwrap_or_else(|| panic!("{hash} in {shown}"));
    let topic = match hash.len() {
        40 => format!("urn:btih:{hash}"),
        _ => format!("urn:btmh:1220{hash}"),
    };
    format!("magnet:?xt={topic}{rest}")
}

/// The arguments of a download of that link into `to`.
fn get(yard: &Yard, link: &str, to: &str, extra: &[&str]) -> Vec<String> {
    let to = yard.text(to);
    let own = ["get", link, "-o", &to, "--bind", "127.0.0.1", "--port", "0", "--json"];
    own.into_iter().chain(extra.iter().copied()).map(str::to_owned).collect()
}

#[test]
fn a_magnet_link_is_downloaded_and_its_torrent_kept() {
    let yard = Yard::new(3 * MIB);
    let (mut seeder, peer) = yard.seeder(&[]);
    let named = link(&yard, "info_hash", &format!("&x.pe={peer}&dn=A+name"));
    let got = run(&get(&yard, &named, "got", &[]));
    assert_eq!(code(&got), 0, "{}", stderr(&got));
    assert!(yard.is_complete("got"));
    let added = event(&got, "added");
    assert_eq!((&added["name"], added["total_bytes"].as_u64()), (&"A name".into(), None));
    let learnt = event(&got, "metadata");
    assert_eq!(
        (&learnt["name"], learnt["total_bytes"].as_u64()),
        (&"data.bin".into(), Some(3 * MIB as u64))
    );
    assert_eq!(event(&got, "summary")["complete"], true);

    // Nobody is needed any more.
    seeder.signal(Signal::INT);
    seeder.end();
    let again = run(&get(&yard, &link(&yard, "info_hash", ""), "got", &[]));
    assert_eq!(code(&again), 0, "{}", stderr(&again));
    let summary = event(&again, "summary");
    assert_eq!((&summary["complete"], &summary["checked_bytes"]), (&true.into(), &0.into()));
    // What was kept is a torrent like any other.
    let hash = learnt["torrent"].as_str().expect("a hash");
    let kept = yard.text(&format!("got/.teem/{hash}.torrent"));
    let verified = teem(&["verify", &kept, &yard.text("got")]);
    assert_eq!(code(&verified), 0, "{}", stderr(&verified));
    // If it is broken, it is as if there were none.
    std::fs::write(&kept, "d4:infode").expect("written");
    let mut lost = Running::start(&strs(&get(&yard, &named, "got", &[])));
    let state = lost.await_event("progress");
    assert_eq!(
        (&state["state"], &state["has_metadata"]),
        (&"fetching_metadata".into(), &false.into())
    );
    lost.signal(Signal::INT);
    assert_eq!(lost.end().0, Some(130));
}

#[test]
fn either_half_of_a_hybrid_torrent_is_enough() {
    let yard = Yard::folder(&[("a", MIB), ("b", 12_345), ("c", 3 * MIB)]);
    yard.remake(&["--hybrid"]);
    let (_seeder, peer) = yard.seeder(&[]);
    for hash in ["info_hash", "info_hash_v2"] {
        let got = run(&get(&yard, &link(&yard, hash, ""), hash, &["--peer", &peer]));
        assert_eq!(code(&got), 0, "{}", stderr(&got));
        assert!(["a", "b", "c"].iter().all(|file| yard.is_file_complete(hash, file)));
        let again = run(&get(&yard, &link(&yard, hash, ""), hash, &[]));
        assert_eq!(code(&again), 0, "{}", stderr(&again));
        assert_eq!(event(&again, "summary")["checked_bytes"], 0);
    }
}

#[test]
fn peers_of_a_magnet_link_are_found_through_its_tracker() {
    let yard = Yard::new(MIB);
    let mut tracker = Running::start(&["track", "--http", "127.0.0.1:0", "--json"]);
    let url = tracker.await_event("listening")["url"].as_str().expect("a URL").to_owned();
    let (mut seeder, _) = yard.seeder(&["--tracker", &url]);
    seeder.await_event("tracker");
    let got = run(&get(&yard, &link(&yard, "info_hash", &format!("&tr={url}")), "got", &[]));
    assert_eq!(code(&got), 0, "{}", stderr(&got));
    assert!(yard.is_complete("got"));
    seeder.signal(Signal::INT);
    assert_eq!(seeder.end().0, Some(0));
    tracker.signal(Signal::TERM);
    let (_, _, rest) = tracker.end();
    // Two times started and stopped, and completed once: it is one run, before and after.
    assert!(rest.contains("\"announces\":5"), "{rest}");
}

#[test]
fn only_the_files_that_a_link_or_the_command_line_wants_are_made() {
    let yard = Yard::folder(&[("a", MIB), ("b", 3 * MIB), ("c", MIB), ("d", MIB)]);
    let (_seeder, peer) = yard.seeder(&[]);
    let by_peer = ["--peer", &peer];
    for (to, so, select) in [
        ("linked", "&so=0,2", &[][..]),
        ("said", "", &["--select", "1,3"]),
        ("outdone", "&so=1", &["--select", "1,3"]),
        ("ranked", "", &["--priority", "2=skip", "--priority", "4-=skip"]),
    ] {
        let link = link(&yard, "info_hash", so);
        let got = run(&get(&yard, &link, to, &[&by_peer, select].concat()));
        assert_eq!(code(&got), 0, "{to}: {}", stderr(&got));
        assert_eq!(event(&got, "summary")["downloaded_bytes"], 2 * MIB, "{to}");
        assert!(yard.is_file_complete(to, "a") && yard.is_file_complete(to, "c"), "{to}");
        assert!(!yard.file(to, "b").exists() && !yard.file(to, "d").exists(), "{to}");
    }
    // There is no such file, which nobody knew.
    let link = link(&yard, "info_hash", "");
    let wrong = run(&get(&yard, &link, "wrong", &[&by_peer[..], &["--select", "1,5"]].concat()));
    assert_eq!(code(&wrong), 2);
    let told = event(&wrong, "error")["message"].to_string();
    assert!(told.contains("there is no file 5") && told.contains("from 1 to 4"), "{told}");
}

#[test]
fn a_link_that_nobody_can_tell_more_of_says_what_it_waits_for_and_leaves_nothing() {
    let yard = Yard::new(MIB);
    let link = link(&yard, "info_hash", "");
    let mut lone = Running::start(&strs(&get(&yard, &link, "got", &[])));
    let state = lone.await_event("progress");
    assert_eq!(
        (&state["state"], &state["waits_for"]),
        (&"fetching_metadata".into(), &"peers".into())
    );
    lone.signal(Signal::INT);
    let (code_, _, rest) = lone.end();
    assert_eq!(code_, Some(130));
    assert!(rest.contains("\"complete\":false"), "{rest}");
    assert!(!yard.path("got").exists());

    for (args, says) in [
        (&["get", "magnet:?xt=urn:btih:zz"][..], "in quotes"),
        (&["get", "magnet:?dn=a"], "in quotes"),
        (&["seed", &link, "."], "this needs a torrent file"),
        (&["verify", &link, "."], "this needs a torrent file"),
    ] {
        let refused = teem(args);
        assert_eq!(code(&refused), 2);
        assert!(stderr(&refused).contains(says), "{args:?}: {}", stderr(&refused));
    }
}
