//! Three mistakes that were put into the core on purpose: ordinary seeds find them, they shrink to
//! a few lines, and what the run says names the culprit.
//!
//! They are behind a feature: `cargo test -p teem-sim --features planted-bugs --test planted`.

use std::ops::ControlFlow;

use teem_core::session::PlantedBug;
use teem_sim::net::Logged;
use teem_sim::report::{Group, Report, Reported, page};
use teem_sim::run::{Failure, Observer, Plan, Role, record, run};
use teem_sim::scenario::Scenario;
use teem_sim::shrink::{Limits, Shrunk, shrink};

/// Lines that a shrunk file may have, comments left out.
const LINES_MAX: usize = 20;

/// A scenario in which the bug is found.
struct Hunt {
    text: &'static str,
    bug: PlantedBug,
}

const CHOKER: Hunt =
    Hunt { text: include_str!("planted/choker.toml"), bug: PlantedBug::ChokerForgets };
const TIMER: Hunt =
    Hunt { text: include_str!("planted/timer.toml"), bug: PlantedBug::TimerInThePast };
const RESUME: Hunt =
    Hunt { text: include_str!("planted/resume.toml"), bug: PlantedBug::ResumeClaimsTooMuch };

/// Everybody makes the mistake, or nobody.
fn with(mut plan: Plan, bug: Option<PlantedBug>) -> Plan {
    for host in &mut plan.hosts {
        if host.role == Role::Peer {
            host.config.planted = bug;
        }
    }
    plan
}

impl Hunt {
    fn plan(&self, seed: u64, bug: Option<PlantedBug>) -> Plan {
        let scenario = Scenario::parse("planted", self.text).expect("a scenario");
        with(scenario.draw(seed, false), bug)
    }

    /// Finds the bug with the first of twenty seeds that does, and shrinks it.
    fn catch(&self) -> Caught {
        let found = (0..20).find_map(|seed| {
            let plan = self.plan(seed, Some(self.bug));
            let failure = run(plan.clone(), None).failures.into_iter().next()?;
            Some((plan, failure))
        });
        let (plan, failure) = found.expect("one of twenty seeds finds it");
        let count =
            |plan: &Plan| plan.hosts.iter().filter(|host| host.role != Role::Nobody).count();
        let before = count(&plan);
        let limits = Limits { jobs: 2, ..Limits::default() };
        let shrunk = shrink(plan, limits, &mut |_| ControlFlow::Continue(())).expect("it fails");
        assert_eq!(shrunk.kind, failure.kind());
        let file = shrunk.file().expect("a file can say it");
        println!("{file}\n{} runs", shrunk.runs);
        let lines = file.lines().filter(|line| !line.trim_start().starts_with('#'));
        assert!(lines.count() <= LINES_MAX, "{file}");
        assert!(count(&shrunk.plan) < before, "{file}");

        // The file alone, read by somebody else, fails in the same way.
        let read =
            Scenario::parse("shrunk", &file).unwrap_or_else(|error| panic!("{error}\n{file}"));
        assert_eq!(read.plan(), shrunk.plan);
        let outcome = run(read.plan(), None);
        assert_eq!(outcome.failures[0].to_string(), shrunk.failure);
        // Without the bug it does not.
        let sound = run(with(read.plan(), None), None);
        assert_eq!(sound.failures, [], "{file}");
        let failure = outcome.failures.into_iter().next().expect("it fails");
        explained(&file, read.plan(), &failure);
        Caught { shrunk, file, failure }
    }
}

/// The report of a run says what failed, and what that means.
fn explained(file: &str, plan: Plan, failure: &Failure) {
    let (outcome, recording, _) = record(plan, None, None);
    let mut group = Group::default();
    group.add(Reported {
        summary: outcome.summary,
        recording: Some(recording),
        must_fail: false,
        again: "teem sim run shrunk.toml".into(),
    });
    let files = vec![("shrunk".into(), file.into())];
    let report = Report { title: "shrunk".into(), files, groups: vec![group], ..Report::default() };
    let page = page(&report);
    let escaped = failure.to_string().replace('"', "&quot;");
    for part in [&escaped[..], failure.meaning(), "planted ="] {
        assert!(page.contains(part), "{part} is not on the page");
    }
}

struct Caught {
    shrunk: Shrunk,
    file: String,
    failure: Failure,
}

impl Caught {
    /// What the host that failed was told last, the latest last.
    fn trace(&self) -> Vec<String> {
        struct Tail {
            host: usize,
            lines: Vec<String>,
        }
        impl Observer for Tail {
            fn on_logged(&mut self, logged: &Logged) -> ControlFlow<()> {
                if logged.host == self.host {
                    self.lines.push(format!("{:?} {}", logged.at, logged.what));
                }
                ControlFlow::Continue(())
            }
        }
        let host = self.failure.host().expect("it is somebody's");
        let mut tail = Tail { host, lines: Vec::new() };
        run(self.shrunk.plan.clone(), Some(&mut tail));
        tail.lines
    }
}

#[test]
fn a_choker_that_forgets_who_holds_a_slot_is_found() {
    let caught = CHOKER.catch();
    assert!(matches!(caught.failure, Failure::Flaps { .. }), "{}", caught.file);
    assert!(caught.shrunk.failure.contains("the choker of host"), "{}", caught.shrunk.failure);
    assert!(caught.file.contains("planted = \"choker-forgets\""), "{}", caught.file);
    // Nobody needs a fault for that.
    assert!(caught.shrunk.plan.faults.is_empty(), "{}", caught.file);
}

#[test]
fn a_timer_that_re_arms_in_the_past_is_found() {
    let caught = TIMER.catch();
    assert!(matches!(caught.failure, Failure::Stuck(_)), "{}", caught.file);
    assert!(caught.shrunk.failure.contains("for the timer"), "{}", caught.shrunk.failure);
    // It takes a process that was stopped, and no more than its going on.
    assert!(caught.file.contains("pause = "), "{}", caught.file);
    assert!(caught.shrunk.plan.faults.len() <= 2, "{}", caught.file);
    // It is woken again and again.
    let trace = caught.trace();
    assert!(
        trace.iter().rev().take(100).all(|line| line.contains("Timeout")),
        "{:?}",
        &trace[trace.len() - 100..]
    );
}

#[test]
fn resume_data_that_claims_what_is_not_durable_is_found() {
    let caught = RESUME.catch();
    let failure = &caught.failure;
    assert!(matches!(failure, Failure::ClaimsTooMuch { .. }), "{}", caught.file);
    assert!(caught.shrunk.failure.contains("resume data claims too much"), "{failure}");
    assert!(caught.file.contains("power = "), "{}", caught.file);
    assert!(caught.shrunk.plan.faults.len() <= 2, "{}", caught.file);
}

#[test]
fn without_the_bugs_nothing_is_found() {
    for hunt in [CHOKER, TIMER, RESUME] {
        for seed in 0..20 {
            let outcome = run(hunt.plan(seed, None), None);
            assert_eq!(outcome.failures, [], "{:?} seed {seed}", hunt.bug);
        }
    }
}
