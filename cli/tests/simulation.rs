//! The simulator with the real program: results, parts, traces, exit codes.

#![expect(unreachable_pub, dead_code, reason = "shared between tests")]

mod common;

use std::fs;
use std::path::Path;

use common::{code, stderr, teem};
use serde_json::Value;

/// Small, with something random in everything.
const SMALL: &str = r#"
about = "three leechers"
content = "256..512 KiB"
piece = "32 KiB"
[[peers]]
role = "seeder"
up = "1..2 MB/s"
[[peers]]
role = "leecher"
count = 3
up = "500..1000 kB/s"
latency = "1..20 ms"
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        fs::write(folder.0.path().join("small.toml"), SMALL).expect("written");
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn scenario(&self) -> String {
        self.path("small.toml")
    }
}

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn read(path: &str) -> Vec<Value> {
    lines(&fs::read_to_string(Path::new(path)).expect("written"))
}

/// What stays the same from run to run.
fn results(values: &[Value]) -> Vec<(u64, String)> {
    let runs = values.iter().filter(|value| value["event"] == "run");
    runs.map(|run| {
        let digest = run["digest"].as_str().expect("text").to_owned();
        (run["seed"].as_u64().expect("a number"), digest)
    })
    .collect()
}

#[test]
fn a_run_ends_with_a_summary_that_has_all_that_was_promised() {
    let folder = Folder::new();
    let run = teem(&["sim", "run", &folder.scenario(), "--seed", "7", "--json", "-"]);
    assert_eq!(code(&run), 0, "{}", stderr(&run));
    let values = lines(&stdout(&run));
    assert_eq!(values.len(), 2);
    let summary = &values[1];
    assert_eq!(summary["event"], "summary");
    for key in [
        "scenario",
        "seed",
        "digest",
        "hosts",
        "complete",
        "events",
        "blocks",
        "virtual_s",
        "wall_s",
        "peak_rss_bytes",
    ] {
        assert!(!summary[key].is_null(), "{key}: {summary}");
    }
    assert_eq!(summary["scenario"], "small");
    assert_eq!(summary["seed"], 7);
    assert_eq!(summary["hosts"], 4);
    assert_eq!(summary["failed"], 0);
    assert!(summary["peak_rss_bytes"].as_u64() > Some(1_000_000), "{summary}");
    assert_eq!(values[0]["digest"], summary["digest"]);
    // For people, the same in words.
    let told = teem(&["sim", "run", &folder.scenario(), "--seed", "7"]);
    assert!(stdout(&told).contains(summary["digest"].as_str().expect("text")));
    assert!(stderr(&told).contains("small seed 7: ok"), "{}", stderr(&told));
}

#[test]
fn parts_and_threads_make_the_same_results_as_one_run_after_the_other() {
    let folder = Folder::new();
    let run = |name: &str, extra: &[&str]| {
        let (scenario, out) = (folder.scenario(), folder.path(name));
        let args = ["sim", "run", &scenario, "--seeds", "0..6", "--json", &out];
        let run = teem(&[&args, extra].concat());
        assert_eq!(code(&run), 0, "{}", stderr(&run));
        read(&out)
    };
    let all = run("all", &[]);
    assert_eq!(all.len(), 7);
    assert_eq!(all[6]["seeds"], 6);
    assert_eq!(results(&all).iter().map(|(seed, _)| *seed).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(results(&run("threads", &["--jobs", "3"])), results(&all));
    let mut parts = results(&run("one", &["--shard", "1/2"]));
    assert_eq!(parts.iter().map(|(seed, _)| *seed).collect::<Vec<_>>(), [1, 3, 5]);
    parts.extend(results(&run("two", &["--shard", "2/2"])));
    parts.sort_unstable();
    assert_eq!(parts, results(&all));
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(clippy::disallowed_methods, reason = "it waits for another process")]
#[test]
fn runs_have_huge_pages_unless_their_allocator_was_told_something_and_are_the_same() {
    let folder = Folder::new();
    let run = |tunables: Option<&str>| {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_teem"));
        program.args(["sim", "run", &folder.scenario(), "--seed", "3", "--json", "-"]);
        program.env_remove("GLIBC_TUNABLES");
        if let Some(tunables) = tunables {
            program.env("GLIBC_TUNABLES", tunables);
        }
        results(&lines(&stdout(&program.output().expect("the program runs"))))
    };
    assert_eq!(run(None), run(Some("")));
    // A long one shows what it was begun anew with.
    let mut long = std::process::Command::new(env!("CARGO_BIN_EXE_teem"))
        .args(["sim", "run", "flash-crowd-1k"])
        .env_remove("GLIBC_TUNABLES")
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the program runs");
    let told = format!("/proc/{}/environ", long.id());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let is_told = || {
        let told = fs::read(&told).unwrap_or_default();
        told.split(|byte| *byte == 0).any(|it| it == b"GLIBC_TUNABLES=glibc.malloc.hugetlb=1")
    };
    while !is_told() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let was_told = is_told();
    long.kill().expect("it runs, as the same process");
    long.wait().expect("it ends");
    assert!(was_told);
}

#[test]
fn two_processes_and_two_builds_make_the_same_digests() {
    let digest = |program: &std::ffi::OsStr, name: &str| {
        let args = ["sim", "run", name, "--seed", "5", "--swarm", "--json", "-"];
        let run = std::process::Command::new(program).args(args).output().expect("it starts");
        let told = lines(&stdout(&run));
        told.last().expect("a summary")["digest"].as_str().expect("a digest").to_owned()
    };
    let this = env!("CARGO_BIN_EXE_teem").as_ref();
    for name in ["faults", "faults-message", "tracker"] {
        let first = digest(this, name);
        assert_eq!(digest(this, name), first, "{name}");
        // Built with other settings, if somebody says where it is.
        match std::env::var_os("TEEM_RELEASE_BIN") {
            Some(release) => assert_eq!(digest(&release, name), first, "{name}"),
            None => println!("left out: TEEM_RELEASE_BIN names no program of a release build"),
        }
    }
}

#[test]
fn the_canary_fails_alone_and_is_as_it_must_be_in_a_sweep() {
    let alone = teem(&["sim", "run", "canary"]);
    assert_eq!(code(&alone), 1, "{}", stderr(&alone));
    assert!(stderr(&alone).ends_with("\n    teem sim run canary --seed 0\n"), "{}", stderr(&alone));
    let sweep = teem(&["sim", "run", "canary", "--seeds", "0..2", "--json", "-"]);
    assert_eq!(code(&sweep), 0, "{}", stderr(&sweep));
    let values = lines(&stdout(&sweep));
    assert_eq!(values[0]["failed"], true);
    assert_eq!((&values[2]["failed"], &values[2]["wrong"]), (&2.into(), &0.into()));
    // One that must fail and does not.
    let folder = Folder::new();
    let never = folder.path("never.toml");
    fs::write(&never, format!("{SMALL}[gate]\nmust_fail = true\n")).expect("written");
    let sweep = teem(&["sim", "run", &never, "--seeds", "0..2", "--swarm"]);
    assert_eq!(code(&sweep), 1);
    assert!(stderr(&sweep).contains("never.toml --seed 0 --swarm"), "{}", stderr(&sweep));
}

#[test]
fn traces_of_the_same_run_are_the_same_and_others_differ_somewhere() {
    let folder = Folder::new();
    let trace = |name: &str, seed: &str| {
        let (scenario, out) = (folder.scenario(), folder.path(name));
        let run = teem(&["sim", "run", &scenario, "--seed", seed, "--trace", &out]);
        assert_eq!(code(&run), 0, "{}", stderr(&run));
        out
    };
    let (a, b, c) = (trace("a", "1"), trace("b", "1"), trace("c", "2"));
    let same = teem(&["sim", "diff", &a, &b]);
    assert_eq!(code(&same), 0, "{}", stderr(&same));
    assert!(stdout(&same).starts_with("the same: "));
    let differ = teem(&["sim", "diff", &a, &c]);
    assert_eq!(code(&differ), 1);
    let said = stdout(&differ);
    assert!(said.contains("\n  A ") && said.contains("\n  B "), "{said}");
    assert!(stderr(&differ).contains("seed=2"), "{}", stderr(&differ));
    // A change in the middle is found where it is.
    let text = fs::read_to_string(&a).expect("there");
    let middle = text.lines().nth(20).expect("long enough");
    fs::write(&b, text.replace(middle, &middle.replacen(' ', " 1", 1))).expect("written");
    let differ = teem(&["sim", "diff", &a, &b, "--before", "2"]);
    assert!(stdout(&differ).starts_with("the first 19 events are the same"), "{}", stdout(&differ));
    assert!(stdout(&differ).contains("what differs: the time"), "{}", stdout(&differ));
    assert_eq!(code(&teem(&["sim", "diff", &a, &folder.scenario()])), 2);
}

#[test]
fn a_replay_tells_of_whom_and_how_long_it_is_asked() {
    let folder = Folder::new();
    let scenario = folder.scenario();
    let args = ["sim", "replay", &scenario, "--seed", "1", "--host", "2", "--until", "0.2"];
    let replay = teem(&args);
    assert_eq!(code(&replay), 0, "{}", stderr(&replay));
    let said = stdout(&replay);
    assert!(said.lines().count() > 3);
    assert!(said.lines().all(|line| line.contains("host 2 ")), "{said}");
    assert!(said.lines().all(|line| line.trim() < "0.2"), "{said}");
    let nobody = teem(&["sim", "replay", &scenario, "--seed", "1", "--host", "9"]);
    assert_eq!(code(&nobody), 2);
}

#[test]
fn scenarios_are_listed_and_can_be_started_from() {
    let listed = teem(&["sim", "list", "--json"]);
    assert_eq!(code(&listed), 0);
    let names: Vec<_> =
        lines(&stdout(&listed)).iter().map(|value| value["name"].to_string()).collect();
    for name in ["flash-crowd-100", "flash-crowd-1k", "flash-crowd-10k", "faults", "canary"] {
        assert!(names.contains(&format!("\"{name}\"")), "{name}: {names:?}");
    }
    let folder = Folder::new();
    let printed = teem(&["sim", "list", "canary"]);
    let copy = folder.path("copy.toml");
    fs::write(&copy, &printed.stdout).expect("written");
    let digest = |scenario: &str| {
        lines(&stdout(&teem(&["sim", "run", scenario, "--json", "-"])))[1]["digest"].to_string()
    };
    assert_eq!(digest(&copy), digest("canary"));
}

#[test]
fn what_cannot_be_used_is_said_and_ends_with_two() {
    let folder = Folder::new();
    let wrong = folder.path("wrong.toml");
    fs::write(&wrong, format!("{SMALL}upp = \"1 MB/s\"\n")).expect("written");
    for (args, hint) in [
        (vec!["sim", "run", &wrong], "`upp`"),
        (vec!["sim", "run", "flash-crowd"], "flash-crowd-100"),
        (vec!["sim", "run", "canary", "--seeds", "5..5"], "0..100"),
        (vec!["sim", "run", "canary", "--shard", "3/2"], "1/4"),
        (vec!["sim", "run", "canary", "--seeds", "0..2", "--trace", "t"], "--trace"),
        (vec!["sim", "run", "canary", "--json", "/nowhere/out"], "/nowhere/out"),
        (vec!["sim", "list", "nothing"], "teem sim list"),
        (vec!["suite", "long", "--only", "nothing"], "flash-crowd-100"),
    ] {
        let refused = teem(&args);
        assert_eq!(code(&refused), 2, "{args:?}");
        assert!(stderr(&refused).contains(hint), "{args:?}: {}", stderr(&refused));
    }
}

#[test]
fn the_suite_goes_on_where_it_was_interrupted() {
    let folder = Folder::new();
    let results = folder.path("long.jsonl");
    let args = ["suite", "long", "--only", "canary", "--resume", &results];
    let first = teem(&[&args[..], &["--shard", "1/4"]].concat());
    assert_eq!(code(&first), 0, "{}", stderr(&first));
    let cases = |values: &[Value]| values.iter().filter(|value| value["event"] == "case").count();
    let done = cases(&read(&results));
    assert!((1..10).contains(&done), "{done}");
    let second = teem(&args);
    assert_eq!(code(&second), 0, "{}", stderr(&second));
    let values = read(&results);
    assert_eq!(cases(&values), 10);
    let summary = values.last().expect("a summary");
    assert_eq!(summary["resumed"], done);
    assert_eq!(summary["run"], 10 - done);
    // A case that failed stays failed.
    let text = fs::read_to_string(&results).expect("there").replace("\"ok\":true", "\"ok\":false");
    fs::write(&results, text).expect("written");
    let third = teem(&args);
    assert_eq!(code(&third), 1);
    assert!(stderr(&third).contains("teem sim run canary --seed"), "{}", stderr(&third));
}

#[test]
fn shards_and_shares_of_the_suite_are_chosen_by_name_alone() {
    let list = |extra: &[&str]| -> Vec<String> {
        let listed = teem(&[&["suite", "long", "--list"], extra].concat());
        assert_eq!(code(&listed), 0, "{}", stderr(&listed));
        stdout(&listed).lines().map(str::to_owned).collect()
    };
    let mut all = list(&[]);
    let mut parts: Vec<_> =
        (0..3).flat_map(|part| list(&["--shard", &format!("{part}/3")])).collect();
    all.sort_unstable();
    parts.sort_unstable();
    assert_eq!(parts, all);
    let share = list(&["--share", "1/10", "--salt", "0123abcd"]);
    assert!(share.len() > all.len() / 20 && share.len() < all.len() / 5, "{}", share.len());
}
