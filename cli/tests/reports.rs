//! `teem sim run --report` and `--junit`, and `teem sim compare`, with the real program.

#![expect(unreachable_pub, dead_code, reason = "shared between tests")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use common::{code, stderr, teem};
use serde_json::Value;

/// Twelve leechers whose seeds differ little.
const BASE: &str = r#"
about = "twelve leechers"
content = "2 MiB"
piece = "32 KiB"
[[peers]]
role = "seeder"
up = "800 kB/s"
[[peers]]
role = "leecher"
count = 12
up = "380..420 kB/s"
latency = "1..20 ms"
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("written");
        path
    }
}

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn verdict(output: &std::process::Output) -> Value {
    let said = stdout(output);
    let last = said.lines().last().unwrap_or_else(|| panic!("{}", stderr(output)));
    serde_json::from_str(last).expect("JSON")
}

#[test]
fn a_report_is_a_page_of_its_own_in_a_new_folder() {
    let folder = Folder::new();
    let (base, to) = (folder.file("base.toml", BASE), folder.path("new/folder"));
    let args = ["sim", "run", &base, "--seeds", "0..3", "--json", "-"];
    let run = teem(&[&args[..], &["--report", &to]].concat());
    assert_eq!(code(&run), 0, "{}", stderr(&run));
    assert!(stderr(&run).contains("new/folder/index.html"), "{}", stderr(&run));
    let page = fs::read_to_string(format!("{to}/index.html")).expect("written");
    assert!(page.contains("All 3 runs are as they must be"));
    assert!(page.contains("--seeds 0..3 --report "), "the command that makes it");
    assert!(page.contains("about = &quot;twelve leechers&quot;"), "the scenario");
    // With a report, runs are the same.
    let plain = teem(&args);
    let digests = |output| -> Vec<String> {
        let lines = stdout(output);
        let values = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        values.map(|value| value["digest"].to_string()).collect()
    };
    assert_eq!(digests(&run), digests(&plain));
    for digest in &digests(&run)[..3] {
        assert!(page.contains(digest.trim_matches('"')), "{digest}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_anything_runs() {
    let folder = Folder::new();
    let file = folder.file("file", "");
    for to in [&file, &format!("{file}/below")] {
        let run = teem(&["sim", "run", "canary", "--report", to]);
        assert_eq!(code(&run), 2, "{}", stderr(&run));
        assert!(stderr(&run).contains(&file), "{}", stderr(&run));
        assert!(!stderr(&run).contains("complete"), "nothing ran: {}", stderr(&run));
    }
}

#[test]
fn junit_has_a_case_for_each_seed_and_the_command_for_each_failure() {
    let folder = Folder::new();
    let xml = |args: &[&str], expected: i32| {
        let to = folder.path("results.xml");
        let run = teem(&[args, &["--junit", &to]].concat());
        assert_eq!(code(&run), expected, "{}", stderr(&run));
        fs::read_to_string(to).expect("written")
    };
    let sound = xml(&["sim", "run", "canary", "--seeds", "0..3"], 0);
    assert!(sound.contains("tests=\"3\" failures=\"0\""), "{sound}");
    for seed in 0..3 {
        assert!(sound.contains(&format!("name=\"seed {seed}\" time=\"0.")), "{sound}");
    }
    let failed = xml(&["sim", "run", "canary"], 1);
    assert!(failed.contains("tests=\"1\" failures=\"1\""), "{failed}");
    assert!(failed.contains("<failure message=\"host 1 has "), "{failed}");
    assert!(failed.contains("\n    teem sim run canary --seed 0\n"), "{failed}");
    // Every element is closed, and text is escaped.
    let tags: Vec<&str> = failed.split('<').skip(1).collect();
    let closing = tags.iter().filter(|tag| tag.starts_with('/')).count();
    let alone = tags.iter().filter(|tag| tag.contains("/>") || tag.starts_with('?')).count();
    assert_eq!(tags.len(), 2 * closing + alone, "{failed}");
    let base = folder.file("a<b>&c.toml", &format!("name = \"a<b>&\\\"c\"{BASE}"));
    let escaped = xml(&["sim", "run", &base], 0);
    assert!(escaped.contains("<testsuite name=\"a&lt;b&gt;&amp;&quot;c\""), "{escaped}");
}

#[test]
fn a_scenario_with_slower_uplinks_is_told_to_be_slower() {
    let folder = Folder::new();
    let base = folder.file("base.toml", BASE);
    // A fifth slower, so it takes a quarter longer.
    let slow = BASE.replace("800 kB/s", "640 kB/s").replace("380..420", "304..336");
    let slow = folder.file("slow.toml", &slow);
    let to = folder.path("report");
    let args = ["sim", "compare", &base, &slow, "--seeds", "0..6", "--json"];
    let compared = teem(&[&args[..], &["--report", &to]].concat());
    assert_eq!(code(&compared), 0, "{}", stderr(&compared));
    let said = verdict(&compared);
    assert_eq!((&said["event"], &said["verdict"]), (&"verdict".into(), &"more".into()), "{said}");
    assert!(said["says"].as_str().expect("text").ends_with("% slower"), "{said}");
    assert_eq!(said["pairs"], 6);
    let text = stdout(&compared);
    let took: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert_eq!(took["figure"], "took_s");
    let percent = took["percent"].as_f64().expect("a number");
    assert!((15.0..35.0).contains(&percent), "{took}");
    assert!(took["pairs_for_one_percent"].as_u64() > Some(1), "{took}");
    let page = fs::read_to_string(format!("{to}/index.html")).expect("written");
    assert!(page.contains("% slower</strong>") && page.contains("B against A"));
    // Only who asks for it is told by the exit code.
    let allowed = |percent: &str| teem(&[&args[..], &["--fail-if-slower", percent]].concat());
    assert_eq!(code(&allowed("60")), 0);
    let refused = allowed("3");
    assert_eq!(code(&refused), 1);
    assert!(stderr(&refused).contains("% slower"), "{}", stderr(&refused));
    // The other way round it is faster.
    let faster = teem(&["sim", "compare", &slow, &base, "--seeds", "0..6"]);
    let last = stdout(&faster).lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("verdict: B is ") && last.ends_with("% faster"), "{last}");
}

#[test]
fn scenarios_that_are_about_the_same_are_not_told_apart() {
    let folder = Folder::new();
    let base = folder.file("base.toml", BASE);
    // Other draws of the same: what seeds do to a run, and no more.
    let other = folder.file("other.toml", &BASE.replace("1..20 ms", "1..21 ms"));
    let compared = teem(&["sim", "compare", &base, &other, "--seeds", "0..6", "--json"]);
    let said = verdict(&compared);
    assert_eq!(said["verdict"], "unclear", "{said}");
    let says = said["says"].as_str().expect("text");
    assert!(says.starts_with("no difference can be told (-"), "{says}");
    let same = teem(&["sim", "compare", &base, &base, "--seeds", "0..3", "--json"]);
    assert_eq!(verdict(&same)["verdict"], "same", "{}", stdout(&same));
}

#[test]
fn results_of_two_builds_are_compared_by_seed() {
    let folder = Folder::new();
    let base = folder.file("base.toml", BASE);
    let results = |name: &str, seeds: &str| {
        let to = folder.path(name);
        let run = teem(&["sim", "run", &base, "--seeds", seeds, "--json", &to]);
        assert_eq!(code(&run), 0, "{}", stderr(&run));
        to
    };
    let (a, b) = (results("a.jsonl", "0..3"), results("b.jsonl", "1..5"));
    let compared = teem(&["sim", "compare", &a, &b]);
    assert_eq!(code(&compared), 0, "{}", stderr(&compared));
    let said = stdout(&compared);
    assert!(said.contains("2 pairs of runs"), "{said}");
    assert!(said.contains("3 runs have no partner"), "{said}");
    assert!(said.ends_with("verdict: the same in every pair\n"), "{said}");
    // This program as another one.
    let program = env!("CARGO_BIN_EXE_teem");
    let args = ["sim", "compare", &base, "--with", program, "--seeds", "0..2", "--json"];
    let with = teem(&args);
    assert_eq!(verdict(&with)["verdict"], "same", "{}", stderr(&with));
    // What B did not get done counts against it.
    let text = fs::read_to_string(&b).expect("there");
    let first = text.lines().next().expect("a line");
    let mut broken: Value = serde_json::from_str(first).expect("JSON");
    broken["took_s"] = 0.0.into();
    let broken = folder.file("broken.jsonl", &text.replace(first, &broken.to_string()));
    let judged = teem(&["sim", "compare", &a, &broken, "--fail-if-slower", "5"]);
    assert_eq!(code(&judged), 1, "{}", stdout(&judged));
    assert!(stderr(&judged).contains("not complete with seeds 1"), "{}", stderr(&judged));
    assert_eq!(code(&teem(&["sim", "compare", &a, &broken])), 0);
}

#[test]
fn what_cannot_be_compared_is_said() {
    let folder = Folder::new();
    let base = folder.file("base.toml", BASE);
    let line = "{\"event\":\"run\",\"seed\":1}\n";
    let one = folder.file("one.jsonl", line);
    let other = folder.file("other.jsonl", "{\"event\":\"run\",\"seed\":2}\n");
    let twice = folder.file("twice.jsonl", &line.repeat(2));
    let empty = folder.file("empty.jsonl", "{\"event\":\"summary\"}\n");
    let to = folder.path("report");
    for (args, hint) in [
        (vec![&*base], "<B>"),
        (vec![&*base, "nothing"], "flash-crowd-100"),
        (vec![&*one, &*other], "no seed in common"),
        (vec![&*one, &*twice], "seed 1 is there twice"),
        (vec![&*one, &*empty], "has no runs"),
        (vec![&*one, &*one, "--with", "teem"], "--with"),
        (vec![&*one, &*one, "--report", &*to], "--report"),
        (vec![&*base, "--with", "/nowhere/teem"], "/nowhere/teem"),
        (vec![&*base, &*base, "--fail-if-slower", "much"], "such as 5"),
    ] {
        let refused = teem(&[&["sim", "compare", "--seeds", "0..1"], &args[..]].concat());
        assert_eq!(code(&refused), 2, "{args:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(hint), "{args:?}: {}", stderr(&refused));
    }
}

/// A browser, if there is one.
fn browser() -> Option<PathBuf> {
    let named = std::env::var_os("TEEM_BROWSER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file());
    named.or(found)
}

#[test]
fn a_real_browser_shows_the_page_without_errors_and_without_a_network() {
    let Some(browser) = browser() else {
        println!("left out: there is no Chromium, and TEEM_BROWSER names none");
        return;
    };
    let folder = Folder::new();
    let (base, to) = (folder.file("base.toml", BASE), folder.path("report"));
    let run = teem(&["sim", "run", &base, "--seeds", "0..2", "--report", &to]);
    assert_eq!(code(&run), 0, "{}", stderr(&run));
    // The script notes on the page what went wrong and what was loaded; it is our own page with one
    // script more, which the browser runs before the others.
    let page = fs::read_to_string(format!("{to}/index.html")).expect("written");
    let probe = "<script>window.wrong = [];\
        addEventListener('error', event => wrong.push(event.message));\
        addEventListener('securitypolicyviolation', event => wrong.push(event.blockedURI));\
        console.error = text => wrong.push(text);\
        addEventListener('load', () => { for (const plot of document.querySelectorAll('svg.plot')) \
        plot.dispatchEvent(new PointerEvent('pointermove', { clientX: 200, clientY: 50 }));\
        const loaded = performance.getEntriesByType('resource').map(entry => entry.name);\
        document.title = 'done, wrong: ' + wrong.join() + ', loaded: ' + loaded.join() + \
        ', tips: ' + document.querySelectorAll('.tip b').length; });</script>";
    let probed =
        folder.file("probed.html", &page.replacen("<style>", &format!("{probe}<style>"), 1));
    let profile = folder.path("profile");
    let output = Command::new(&browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        .args(["--no-first-run", &format!("--user-data-dir={profile}"), "--dump-dom"])
        .arg(format!("file://{probed}"))
        .output()
        .expect("it starts");
    let dom = stdout(&output);
    let title = dom.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next());
    let Some(title) = title else {
        println!("left out: {} does not run here: {}", browser.display(), stderr(&output));
        return;
    };
    let rest = title.strip_prefix("done, wrong: , loaded: , tips: ");
    let tips: u64 = rest.and_then(|tips| tips.parse().ok()).unwrap_or_else(|| panic!("{title}"));
    assert!(tips > 10, "whoever points at a plot sees its figures: {title}");
}
