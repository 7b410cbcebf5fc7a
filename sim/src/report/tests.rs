//! The page as a whole: it is well-formed, loads nothing, has all its parts, and escapes.

use super::*;
use crate::run::record;
use crate::run::record::{StreamSample, StreamSeries};
use crate::scenario::{Scenario, bundled};

const SMALL: &str = r#"
content = "512 KiB"
piece = "32 KiB"
[[peers]]
role = "seeder"
up = "1 MB/s"
[[peers]]
role = "leecher"
count = 5
up = "200..800 kB/s"
latency = "1..20 ms"
"#;

fn reported(scenario: &Scenario, seed: u64) -> Reported {
    let (outcome, recording, _) = record(scenario.draw(seed, false), None, None);
    Reported {
        summary: outcome.summary,
        recording: Some(recording),
        must_fail: scenario.gate.must_fail,
        again: format!("teem sim run {} --seed {seed}", scenario.name),
    }
}

fn report(scenario: &Scenario, seeds: std::ops::Range<u64>) -> Report {
    let mut group = Group { name: scenario.name.clone(), runs: Vec::new() };
    seeds.for_each(|seed| group.add(reported(scenario, seed)));
    Report {
        title: scenario.name.clone(),
        about: scenario.about.clone(),
        command: format!("teem sim run {} --report DIR", scenario.name),
        files: vec![(scenario.name.clone(), SMALL.to_owned())],
        groups: vec![group],
    }
}

fn small() -> Scenario {
    Scenario::parse("small", SMALL).expect("a sound scenario")
}

/// Elements that have no end tag in HTML.
const VOID: [&str; 3] = ["meta", "link", "br"];

/// Reads all tags, and sees to it that each is closed where it must be, that attributes are quoted,
/// that ids are there once, and that nothing outside of style and script could be a tag that was
/// not meant.
fn check(html: &str) -> Vec<String> {
    let html = html.strip_prefix("<!doctype html>\n").expect("a document type");
    let mut open: Vec<&str> = Vec::new();
    let mut seen = Vec::new();
    let mut ids = std::collections::BTreeSet::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        assert!(!rest[..at].contains('>'), "a bracket that is not escaped: {:.80}", &rest[..at]);
        rest = &rest[at + 1..];
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed in order");
            continue;
        }
        let name = tag.split([' ', '/']).next().expect("a name");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{tag}");
        // Attributes: name="value", with no quote or bracket within.
        let mut attributes = tag[name.len()..].trim_end_matches('/').trim();
        while !attributes.is_empty() {
            let (key, more) = attributes.split_once("=\"").unwrap_or_else(|| panic!("{tag}"));
            let (value, more) = more.split_once('"').unwrap_or_else(|| panic!("{tag}"));
            assert!(
                key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'),
                "{tag}"
            );
            if key.eq_ignore_ascii_case("id") {
                assert!(ids.insert(value.to_owned()), "the id {value} is there twice");
            }
            seen.push(format!("{key}={value}"));
            attributes = more.trim_start();
        }
        seen.push(name.to_owned());
        if name == "style" || name == "script" {
            let close = format!("</{name}>");
            let end = rest.find(&close).expect("it is closed");
            rest = &rest[end + close.len()..];
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    seen
}

/// Whatever could be loaded is not there.
fn loads_nothing(html: &str, seen: &[String]) {
    for one in seen {
        let is_source = ["src=", "srcset=", "xlink:href=", "data=", "poster=", "action="]
            .iter()
            .any(|key| one.starts_with(key));
        assert!(!is_source, "{one}");
        assert!(!one.starts_with("href=") || one == "href=data:,", "{one}");
        assert!(!one.starts_with("on"), "a handler in an attribute: {one}");
    }
    for element in ["img", "iframe", "object", "embed", "video", "audio", "base", "form"] {
        assert!(!seen.iter().any(|name| name == element), "{element}");
    }
    for load in ["url(", "@import", "fetch(", "XMLHttpRequest", "WebSocket", "import(", "eval("] {
        assert!(!html.contains(load), "{load}");
    }
    let addresses: Vec<_> =
        html.match_indices("://").map(|(at, _)| &html[at - 5..at + 25]).collect();
    let is_namespace = |text: &&str| text.contains("http://www.w3.org/2000/svg");
    let others: Vec<_> = addresses.iter().filter(|text| !is_namespace(text)).collect();
    // Addresses of trackers may be in what a host told.
    assert!(others.iter().all(|text| text.contains("http://10.")), "{others:?}");
}

#[test]
fn a_page_of_peers_behind_nats_says_that_the_bound_does_not_know() {
    let says = |text: &str| {
        let scenario = Scenario::parse("small", text).expect("a sound scenario");
        let html = page(&report(&scenario, 0..1));
        check(&html);
        html.contains("5 of 6 clients are behind NATs")
    };
    assert!(says(&format!("{SMALL}nat = \"symmetric\"\n")));
    assert!(!says(&format!("{SMALL}nat = {{ kind = \"symmetric\", forward = true }}\n")));
    assert!(!says(SMALL));
}

#[test]
fn a_page_of_one_run_is_well_formed_and_has_all_its_parts() {
    let html = page(&report(&small(), 1..2));
    let seen = check(&html);
    loads_nothing(&html, &seen);
    for id in [
        "completion",
        "rates",
        "fairness",
        "utilisation",
        "clusters",
        "heat",
        "copies",
        "connections",
        "story",
        "progress",
        "runs",
        "again",
    ] {
        assert!(seen.contains(&format!("id={id}")), "{id}");
    }
    // Where nothing was measured, failed or went wrong, there is no empty section.
    for id in ["streams", "failures", "spells", "troubles", "over-bound", "difference"] {
        assert!(!seen.contains(&format!("id={id}")), "{id}");
    }
    assert!(html.contains("The run is as it must be") && html.contains("Everybody was complete"));
    assert!(html.contains("bound: "), "the bound is in the plot");
    assert!(html.contains("teem sim run small --report DIR"));
    // Each plot has its figures, and says what it is to those who do not see it.
    let plots = seen.iter().filter(|one| *one == "class=plot").count();
    assert_eq!(seen.iter().filter(|one| *one == "role=img").count(), plots);
    assert_eq!(seen.iter().filter(|one| one.starts_with("aria-label=")).count(), plots + 1);
}

#[test]
fn a_page_of_many_runs_shows_them_together_and_one_closely() {
    let report = report(&small(), 0..4);
    let closely = report.groups[0]
        .runs
        .iter()
        .filter(|run| run.recording.as_ref().is_some_and(|recording| recording.story.is_some()));
    let closely: Vec<_> = closely.collect();
    assert_eq!(closely.len(), 1, "others have forgotten their details");
    let worst = report.groups[0].runs.iter().map(|run| run.summary.over_bound).fold(0.0, f64::max);
    assert!((closely[0].summary.over_bound - worst).abs() < 1e-12);
    let html = page(&report);
    let seen = check(&html);
    loads_nothing(&html, &seen);
    assert!(seen.contains(&"id=over-bound".to_owned()));
    assert!(html.contains("All 4 runs are as they must be"));
    assert!(html.contains("10 to 90 % of the seeds"));
    assert!(html.contains(&format!("Seed {} at close range", closely[0].summary.seed)));
    for run in &report.groups[0].runs {
        assert!(html.contains(&run.summary.digest), "each run is in the table");
    }
}

#[test]
fn a_run_that_failed_says_why_and_what_was_heard_last() {
    let mut scenario = bundled("canary").expect("it is there");
    scenario.gate.must_fail = false;
    let html = page(&report(&scenario, 0..1));
    let seen = check(&html);
    assert!(html.contains("verdict bad") && html.contains("The run failed"));
    assert!(seen.contains(&"id=failures".to_owned()));
    assert!(html.contains("all the time that the gate"), "what it means");
    assert!(html.contains("The last that was heard of host 1"));
    assert!(html.contains("the run ended, and failed"), "it is marked in the plot");
    assert!(html.contains("teem sim run canary --seed 0"));
    assert!(html.contains("The story of host 1"));
}

#[test]
fn faults_are_shown_where_they_happened() {
    let html = page(&report(&bundled("faults").expect("it is there"), 1..2));
    let seen = check(&html);
    loads_nothing(&html, &seen);
    for id in ["spells", "troubles", "story"] {
        assert!(seen.contains(&format!("id={id}")), "{id}");
    }
    for kind in ["misdirected-writes", "partition", "clock-skew", "slow-links"] {
        assert!(html.matches(kind).count() >= 2, "{kind} is in the table and in the plot");
    }
}

#[test]
fn a_hostile_name_stays_text() {
    let hostile = "</title><script>alert(1)</script><img src=x onerror=\"alert('2')\">&\u{1}";
    let mut report = report(&small(), 0..2);
    report.title = hostile.into();
    report.about = hostile.into();
    report.command = hostile.into();
    report.files = vec![(hostile.into(), hostile.into())];
    report.groups[0].name = hostile.into();
    for run in &mut report.groups[0].runs {
        run.summary.scenario = hostile.into();
        run.summary.failed = true;
        run.summary.failures = vec![hostile.into()];
        run.again = hostile.into();
        run.summary.digest = hostile.into();
    }
    let html = page(&report);
    let seen = check(&html);
    loads_nothing(&html, &seen);
    assert!(!html.contains("<script>alert") && !html.contains("<img"));
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert_eq!(seen.iter().filter(|one| *one == "script").count(), 1, "our own alone");
}

#[test]
fn a_run_that_panicked_is_on_the_page_all_the_same() {
    let mut report = report(&small(), 0..1);
    let failures = vec!["panicked: at the <disco>".into()];
    let summary = Summary { seed: 9, failed: true, failures, ..Summary::default() };
    let run = Reported { summary, recording: None, must_fail: false, again: "again".into() };
    report.groups[0].add(run);
    let html = page(&report);
    check(&html);
    assert!(html.contains("1 of 2 runs failed") && html.contains("at the &lt;disco&gt;"));
    // With that one alone, too.
    report.groups[0].runs.remove(0);
    check(&page(&report));
    report.groups[0].runs.clear();
    assert!(page(&report).contains("No seed was run"));
}

#[test]
fn two_groups_are_compared_by_seed() {
    let slow = SMALL.replace("200..800 kB/s", "100..400 kB/s").replace("1 MB/s", "500 kB/s");
    let slow = Scenario::parse("slow", &slow).expect("a sound scenario");
    let (mut a, b) = (report(&small(), 0..4), report(&slow, 0..4));
    a.groups.extend(b.groups);
    let html = page(&a);
    let seen = check(&html);
    loads_nothing(&html, &seen);
    assert!(seen.contains(&"id=difference".to_owned()));
    assert!(html.contains("% slower</strong>"), "the verdict is at the head");
    assert!(html.contains("A is small, B is slow."));
    assert!(html.contains("median bound of A") && html.contains("median bound of B"));
}

#[test]
fn streams_are_shown_if_they_were_measured() {
    let mut report = report(&small(), 0..1);
    let recording = report.groups[0].runs[0].recording.as_mut().expect("it was recorded");
    let mut stream = StreamSeries::new("host 1 to <host> 2");
    for step in 0..40_u32 {
        stream.push(StreamSample {
            at_s: f64::from(step) / 10.0,
            window_bytes: u64::from(step % 20 + 4) * 1448,
            round_trip_s: 0.05 + f64::from(step % 20) / 1_000.0,
            queueing_s: f64::from(step % 20) / 1_000.0,
            in_flight_bytes: u64::from(step % 20 + 2) * 1448,
            losses: u64::from(step / 20),
        });
    }
    recording.streams.push(stream);
    let html = page(&report);
    let seen = check(&html);
    for id in ["streams", "stream-0", "stream-0-delay"] {
        assert!(seen.contains(&format!("id={id}")), "{id}");
    }
    assert!(html.contains("host 1 to &lt;host&gt; 2"));
    assert!(html.contains("at 2.00 s: 1 sent again"), "the loss is marked");
}

/// As large as a page may become: figures of 1,000 peers over as many samples as are kept, and the
/// same failure in each of 20 runs.
#[test]
fn a_page_of_a_thousand_peers_and_twenty_seeds_is_bounded() {
    use crate::run::record::{
        FailureNote, HEAT_COLUMNS_MAX, HEAT_ROWS_MAX, Heat, Note, PeerRecord, RATES_MAX,
        SAMPLES_MAX, Spell, Spread, Tone,
    };
    let mut group = report(&small(), 0..1).groups.remove(0);
    let run = group.runs.remove(0);
    let full = run.recording.expect("it was recorded");
    // Every number is another one, so that nothing is drawn with few points.
    let wild = |at: usize, step: usize| ((at * 7_919 + step * 104_729) % 10_007) as f64 / 10_007.0;
    let spreads = |step: usize| -> Vec<Spread> {
        (0..SAMPLES_MAX)
            .map(|at| Spread {
                low: wild(at, step),
                mid: wild(at, step + 1),
                high: wild(at, step + 2),
            })
            .collect()
    };
    for seed in 0..20 {
        let mut recording = full.clone();
        recording.pieces = 256;
        recording.fetching = 999;
        recording.complete_s = (0..999).map(|at| 30.0 + f64::from(at) / 7.0).collect();
        recording.peers = (0..1_000)
            .map(|host| PeerRecord {
                host,
                fetches: true,
                up_bytes_per_s: Some(500_000 + host as u64 * 997),
                mean_rate: 1e6 * (1.0 + wild(host, 3)),
                complete_s: Some(30.0 + host as f64),
                ..PeerRecord::default()
            })
            .collect();
        let series = &mut recording.series;
        series.at_s = (0..SAMPLES_MAX).map(|at| at as f64 * 0.37).collect();
        for (step, list) in [
            &mut series.down,
            &mut series.up,
            &mut series.progress,
            &mut series.connections,
            &mut series.copies,
        ]
        .into_iter()
        .enumerate()
        {
            *list = spreads(step);
        }
        for (step, list) in
            [&mut series.live, &mut series.utilisation, &mut series.jain, &mut series.slowest]
                .into_iter()
                .enumerate()
        {
            *list = (0..SAMPLES_MAX).map(|at| wild(at, step)).collect();
        }
        series.rates = (0..RATES_MAX)
            .map(|host| (host, (0..SAMPLES_MAX).map(|at| 1e6 * wild(at, host)).collect()))
            .collect();
        recording.heat = Heat {
            at_s: (0..HEAT_COLUMNS_MAX).map(|at| at as f64).collect(),
            pieces: (0..HEAT_ROWS_MAX as u32).map(|row| row * 4).collect(),
            copies: (0..HEAT_COLUMNS_MAX)
                .map(|column| {
                    (0..HEAT_ROWS_MAX)
                        .map(|row| (column * 7_919 + row * 104_729) as u32 % 1_000)
                        .collect()
                })
                .collect(),
        };
        recording.spells = (0..2_000)
            .map(|at| Spell {
                kind: format!("kind-{}", at % 20),
                host: Some(at),
                from_s: wild(at, 1) * 100.0,
                to_s: Some(100.0 + wild(at, 2)),
                what: "its link was 12.5 times slower".into(),
            })
            .collect();
        let note = |at: usize| Note {
            at_s: at as f64,
            to_s: None,
            tone: Tone::Bad,
            what: "is no longer connected to host 123: closed by the peer".into(),
        };
        recording.failures = (0..20)
            .map(|host| FailureNote {
                text: format!("host {host} has 61 of 64 pieces after 396.2s: Downloading"),
                meaning: "A client had all the time that the gate of the scenario allows.".into(),
                at_s: None,
                host: Some(host),
                tail: (0..16).map(note).collect(),
            })
            .collect();
        let mut summary = run.summary.clone();
        summary.seed = seed;
        summary.failed = true;
        group.add(Reported { summary, recording: Some(recording), ..Reported::default() });
    }
    let report = Report { groups: vec![group], ..Report::default() };
    let html = page(&report);
    check(&html);
    assert!(html.len() > 200_000, "{} bytes: not much of it is there", html.len());
    assert!(html.len() < PAGE_BYTES_MAX, "{} bytes", html.len());
}
