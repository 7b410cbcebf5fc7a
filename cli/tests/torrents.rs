//! Making, showing and verifying torrents with the real program, and what it refuses.

#![expect(unreachable_pub, dead_code, reason = "shared between tests")]

mod common;

use std::fs;
use std::io::{Read, Write};

use common::{Yard, code, event, stderr, teem, torrent_of};

#[test]
fn what_was_created_is_shown_and_verified() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    fs::create_dir_all(folder.path().join("album/b")).expect("made");
    fs::write(folder.path().join("album/z.txt"), vec![1; 40_000]).expect("written");
    fs::write(folder.path().join("album/b/a.txt"), vec![2; 20_000]).expect("written");
    fs::write(folder.path().join("album/empty"), "").expect("written");
    let (album, torrent) = (text("album"), text("album.torrent"));
    let made = teem(&[
        "create",
        &album,
        "-o",
        &torrent,
        "-t",
        "http://t.example/announce",
        "-t",
        "udp://u.example:1",
        "--private",
        "--comment",
        "hi",
        "--piece-size",
        "32K",
        "--json",
    ]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    assert_eq!(event(&made, "created")["pieces"], 2);

    let shown = event(&teem(&["show", &torrent, "--json"]), "torrent");
    assert_eq!(shown["name"], "album");
    assert_eq!(shown["private"], true);
    assert_eq!(shown["comment"], "hi");
    assert_eq!(shown["trackers"][1][0], "udp://u.example:1");
    let files = shown["files"].as_array().expect("a list");
    let paths: Vec<_> = files.iter().map(|file| file["path"].as_str().expect("text")).collect();
    assert_eq!(paths, ["album/b/a.txt", "album/empty", "album/z.txt"]);
    assert_eq!(files[0]["number"], 1);
    let said = teem(&["show", &torrent]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("1    19.5 KiB  album/b/a.txt"));

    for path in [&album, &text(".")] {
        let good = teem(&["verify", &torrent, path, "--json"]);
        assert_eq!(code(&good), 0, "{}", stderr(&good));
        assert_eq!(event(&good, "verified")["complete"], true);
    }
    fs::write(folder.path().join("album/z.txt"), vec![3; 40_000]).expect("written");
    fs::remove_file(folder.path().join("album/empty")).expect("there");
    let bad = teem(&["verify", &torrent, &album, "--json"]);
    assert_eq!(code(&bad), 1);
    let states = &event(&bad, "verified")["files"];
    assert_eq!(states[1]["state"], "missing");
    assert_eq!(states[2]["state"], "wrong");
    assert_eq!(code(&teem(&["verify", &torrent, &text("nowhere")])), 2);
}

#[test]
fn v2_and_hybrid_torrents_are_made_shown_and_verified() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    for flag in ["--v2", "--hybrid"] {
        fs::create_dir_all(folder.path().join("album/b")).expect("made");
        fs::write(folder.path().join("album/b/a.txt"), vec![2; 70_000]).expect("written");
        fs::write(folder.path().join("album/z.txt"), vec![1; 5]).expect("written");
        let (album, torrent) = (text("album"), text("album.torrent"));
        let made = teem(&["create", &album, "-o", &torrent, flag, "--piece-size", "32K", "--json"]);
        assert_eq!(code(&made), 0, "{}", stderr(&made));
        let made = event(&made, "created");
        assert_eq!((&made["pieces"], &made["total_bytes"]), (&4.into(), &70_005.into()));
        assert_eq!(made["info_hash_v1"].is_string(), flag == "--hybrid");
        assert!(made["info_hash_v2"].is_string());
        let shown = event(&teem(&["show", &torrent, "--json"]), "torrent");
        assert_eq!(shown["info_hash_v2"], made["info_hash_v2"]);
        let good = teem(&["verify", &torrent, &album]);
        assert_eq!(code(&good), 0, "{}", stderr(&good));
        fs::write(folder.path().join("album/z.txt"), vec![9; 5]).expect("written");
        let bad = event(&teem(&["verify", &torrent, &album, "--json"]), "verified");
        assert_eq!((&bad["complete"], &bad["right_pieces"]), (&false.into(), &3.into()));
    }
    let both = teem(&["create", "x", "-o", "y", "--v2", "--hybrid"]);
    assert_eq!(code(&both), 2, "one or the other");
}

#[test]
fn a_magnet_link_is_shown() {
    let link = "magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a&dn=name&so=0,4-6";
    let shown = event(&teem(&["show", link, "--json"]), "magnet");
    assert_eq!(shown["info_hash"], "c12fe1c06bba254a9dc9f519b335aa7c1367a88a");
    assert_eq!(shown["wanted_files"][1][0], 5);
    assert_eq!(code(&teem(&["show", "magnet:?dn=x"])), 2);
}

#[test]
fn a_broken_torrent_is_refused_by_the_name_of_its_field() {
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().to_str().expect("UTF-8");
    for (bytes, field) in [
        (&b"d4:infod4:name1:a6:pieces0:ee"[..], "info.piece length"),
        (b"d4:infod6:lengthi1e4:name1:a12:piece lengthi16384e6:pieces3:abcee", "info.pieces"),
        (b"d3:foo3:bare", "info"),
        (b"<html>", "web page"),
        (b"", "bencoding"),
    ] {
        let path = torrent_of(bytes, folder.path());
        for command in [vec!["get", &path, "-o", to], vec!["show", &path], vec!["seed", &path, to]]
        {
            let refused = teem(&command);
            assert_eq!(code(&refused), 2, "{command:?}");
            assert!(stderr(&refused).contains(field), "{field}: {}", stderr(&refused));
        }
    }
}

#[test]
fn a_torrent_is_fetched_by_its_address() {
    let yard = Yard::new(100_000);
    let torrent = fs::read(yard.path("data.torrent")).expect("there");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    let server = std::thread::Builder::new().spawn(move || {
        for answer in [
            b"HTTP/1.1 302 Found\r\nLocation: /data.torrent\r\n\r\n".to_vec(),
            [b"HTTP/1.1 200 OK\r\n\r\n", &torrent[..]].concat(),
        ] {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).expect("a request") > 0);
            stream.write_all(&answer).expect("it is taken");
        }
    });
    let shown = teem(&["show", &format!("http://{at}/moved"), "--json"]);
    assert_eq!(event(&shown, "torrent")["name"], "data.bin");
    server.expect("a thread").join().expect("no panic");
    let secure = teem(&["get", &format!("https://{at}/a.torrent")]);
    assert_eq!(code(&secure), 2);
    assert!(stderr(&secure).contains("connection refused"), "{}", stderr(&secure));
    let closed = teem(&["show", &format!("http://{at}/moved")]);
    assert!(stderr(&closed).contains("connection refused"), "{}", stderr(&closed));
}

#[test]
fn usage_and_input_errors_end_with_2_and_say_what_to_do() {
    let yard = Yard::new(1000);
    let torrent = yard.text("data.torrent");
    for (args, said) in [
        (vec!["get"], "TORRENT"),
        (vec!["get", "nowhere.torrent"], "no such file"),
        (vec!["get", &torrent, "--down", "fast"], "number of bytes"),
        (vec!["get", &torrent, "--tracker", "nonsense"], "http://host:port/announce"),
        (vec!["get", &torrent, "--bind", "192.0.2.1"], "no such address"),
        (vec!["get", "magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88"], "in quotes"),
        (vec!["create", "nowhere", "-o", "x.torrent"], "no such file"),
        (vec!["create", &torrent, "-o", "x.torrent", "--piece-size", "17K"], "power of two"),
        (vec!["track", "--http", "192.0.2.1:0"], "not one of this machine"),
    ] {
        let refused = teem(&args);
        assert_eq!(code(&refused), 2, "{args:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(said), "{args:?}: {}", stderr(&refused));
    }
    let other = yard.path("seed/other.bin");
    fs::rename(yard.path("seed/data.bin"), &other).expect("renamed");
    let refused = teem(&["seed", &torrent, other.to_str().expect("UTF-8")]);
    assert_eq!(code(&refused), 2);
    assert!(stderr(&refused).contains("rename"), "{}", stderr(&refused));
}
