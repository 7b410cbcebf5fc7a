//! `teem sim shrink` with the real program.

#![expect(unreachable_pub, dead_code, reason = "shared between tests")]

mod common;

use std::fs;

use common::{code, stderr, teem};

/// Ten leechers, each kind of trouble, and a gate that nobody can meet.
const FAILS: &str = r#"
content = "4 MiB"
piece = "64 KiB"
mix = "20 % silent"
[[peers]]
role = "seeder"
up = "100..200 kB/s"
[[peers]]
role = "leecher"
count = 10
up = "50..100 kB/s"
latency = "1..20 ms"
[faults.crash]
at = "1..3 s"
lasts = "1..2 s"
[faults.loss]
at = "1..3 s"
[gate]
bound = 0.5
slack = "0 s"
"#;

#[test]
fn a_run_that_fails_is_shrunk_to_a_file_that_fails_so_and_a_test() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (scenario, small, test) = (path("fails.toml"), path("small.toml"), path("test.rs"));
    fs::write(&scenario, FAILS).expect("written");

    let failed = teem(&["sim", "run", &scenario, "--seed", "3"]);
    assert_eq!(code(&failed), 1);
    let said = stderr(&failed);
    let advice = format!("teem sim shrink {scenario} --seed 3");
    assert!(said.contains(&advice), "{said}");

    let mut shrink = vec!["sim", "shrink", &scenario, "--seed", "3", "--jobs", "2"];
    shrink.extend(["--out", &small, "--test", &test]);
    let shrunk = teem(&shrink);
    assert_eq!(code(&shrunk), 0, "{}", stderr(&shrunk));
    let progress = stderr(&shrunk);
    assert!(progress.contains("runs") && progress.contains("fewer peers"), "{progress}");
    assert!(progress.contains("nothing smaller fails"), "{progress}");
    assert!(shrunk.stdout.is_empty());

    let file = fs::read_to_string(&small).expect("written");
    assert!(file.starts_with("# fails: host "), "{file}");
    let lines = file.lines().filter(|line| !line.starts_with('#')).count();
    assert!(lines <= 20, "{file}");
    let test = fs::read_to_string(&test).expect("written");
    assert!(test.contains("fn fails_seed_3_does_not_fail()") && test.contains(&file), "{test}");

    // The seed is in the file, and it fails in the same way; a replay needs no seed, either.
    let again = teem(&["sim", "run", &small]);
    assert_eq!(code(&again), 1);
    let failure = file.lines().next().and_then(|line| line.strip_prefix("# fails: "));
    assert!(stderr(&again).contains(failure.expect("a comment")), "{}", stderr(&again));
    assert!(stderr(&again).contains("--seed 3"));
    let replay = teem(&["sim", "replay", &small, "--until", "0.05"]);
    assert_eq!(code(&replay), 0, "{}", stderr(&replay));
    assert!(replay.stdout.starts_with(b"   0.0000"), "a line for each event");
}

#[test]
fn a_run_that_does_not_fail_is_not_shrunk() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sound.toml");
    fs::write(&path, FAILS.split("[gate]").next().expect("the rest")).expect("written");
    let path = path.to_str().expect("UTF-8");
    let shrunk = teem(&["sim", "shrink", path]);
    assert_eq!(code(&shrunk), 2);
    assert!(stderr(&shrunk).contains("does not fail"), "{}", stderr(&shrunk));
}

#[test]
fn what_is_smallest_so_far_is_the_result_when_runs_are_spent() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fails.toml");
    fs::write(&path, FAILS).expect("written");
    let path = path.to_str().expect("UTF-8");
    let shrunk = teem(&["sim", "shrink", path, "--runs", "3"]);
    assert_eq!(code(&shrunk), 0);
    assert!(stderr(&shrunk).contains("the smallest so far after 3 runs"), "{}", stderr(&shrunk));
    // The file, and then the test.
    let said = String::from_utf8_lossy(&shrunk.stdout);
    let (file, test) = said.split_once("#[test]").expect("both");
    assert!(file.starts_with("# fails: ") && test.contains("assert_eq!"), "{said}");
}

#[test]
fn a_run_that_fails_behind_nats_is_shrunk_to_a_file_with_those_that_it_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (scenario, small) = (path("nats.toml"), path("small.toml"));
    // Nobody can be called, but for the leecher that is seen at an address of its own; it leaves.
    let text = "content = \"256 KiB\"\npiece = \"64 KiB\"\n\
        [[peers]]\nrole = \"seeder\"\nup = \"500 kB/s\"\nnat = \"symmetric\"\n\
        [[peers]]\nrole = \"leecher\"\ncount = 4\nup = \"500 kB/s\"\n\
        nat = { kind = \"port-restricted\", per = 2, carrier_grade = true, udp_timeout = \"30..60 s\" }\n\
        [[peers]]\nrole = \"leecher\"\nup = \"500 kB/s\"\nleave = { at = \"0.1 s\" }\n\
        [gate]\nslack = \"30 s\"\n";
    fs::write(&scenario, text).expect("written");
    let shrunk = teem(&["sim", "shrink", &scenario, "--seed", "5", "--out", &small]);
    assert_eq!(code(&shrunk), 0, "{}", stderr(&shrunk));
    assert!(stderr(&shrunk).contains("fewer NATs"), "{}", stderr(&shrunk));
    let file = fs::read_to_string(&small).expect("written");
    let peers: Vec<_> = file.lines().filter(|line| line.contains("role = ")).collect();
    assert_eq!(peers.len(), 2, "{file}");
    assert!(peers.iter().all(|line| line.contains("nat = \"full-cone\"")), "{file}");
    let again = teem(&["sim", "run", &small]);
    assert_eq!(code(&again), 1);
    let failure = file.lines().next().and_then(|line| line.strip_prefix("# fails: "));
    assert!(stderr(&again).contains(failure.expect("a comment")), "{}", stderr(&again));
}
