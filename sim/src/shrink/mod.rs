//! Shrinking: from a plan that fails to the fewest peers, faults and seconds that fail in the same
//! way.
//!
//! ```text
//!   Plan --shrink--> fewer troubles, fewer hosts, plainer values, again and again
//!                        until nothing smaller fails      --> Shrunk: a plan, a file, a test
//! ```
//!
//! What is tried is a plan too, and it is kept if its run fails with the same [kind](Failure::kind)
//! of failure, on the same sort of host. That works because whatever is random is drawn by host and
//! purpose: a host that is taken out leaves an empty place ([`Role::Nobody`]), and the others draw
//! what they drew. Troubles and hosts go by delta debugging (Zeller and Hildebrandt, 2002: halves,
//! quarters, and so on), times by bisection, values to what is plainest.
//!
//! All is deterministic: the same plan and limits give the same result, whatever
//! [`Limits::jobs`] is. A run that takes longer than the first one did is ended and does not count
//! as failing.

mod hosts;
mod nats;
mod passes;
mod times;
mod troubles;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crate::run::{Failure, Plan, Preload, Role, run, run_at_most};
use crate::scenario::{Unwritable, write};

/// How far shrinking goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Runs at most, the first one included.
    pub runs_max: usize,
    /// Calls of `handle_input` at most, over all runs: what bounds the work for swarms of any size.
    pub events_max: u64,
    /// Runs at a time; the result does not depend on it.
    pub jobs: usize,
}

impl Default for Limits {
    /// A thousand runs, one at a time.
    fn default() -> Self {
        Self { runs_max: 1_000, events_max: u64::MAX, jobs: 1 }
    }
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What was tried last.
    pub what: &'static str,
    /// Whether it helped.
    pub helped: bool,
    /// Runs so far.
    pub runs: usize,
    /// Hosts that are left.
    pub hosts: usize,
    /// Faults that are left.
    pub faults: usize,
    /// How long the run takes until it fails, in milliseconds of virtual time.
    pub millis: u64,
}

/// A step that helped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was made smaller or plainer.
    pub what: &'static str,
    /// How many hosts, faults and milliseconds it left.
    pub left: (usize, usize, u64),
}

/// A plan that fails and that cannot be made smaller, as far as limits allowed to look.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The plan.
    pub plan: Plan,
    /// How it fails, in words.
    pub failure: String,
    /// Which kind of failure that is.
    pub kind: String,
    /// Runs that it took.
    pub runs: usize,
    /// What helped, in order.
    pub steps: Vec<Step>,
    /// Nothing smaller fails in the same way, of all that is tried; else a limit ended it.
    pub is_smallest: bool,
}

/// The plan does not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not fail, so there is nothing to shrink")]
pub struct NoFailure;

impl Shrunk {
    /// The scenario file: a line of comment on how it fails, and the plan.
    ///
    /// # Errors
    /// If no file can say what is in the plan: only of one that was made by hand.
    pub fn file(&self) -> Result<String, Unwritable> {
        let failure = self.failure.replace('\n', " ");
        Ok(format!("# fails: {failure}\n{}", write(&self.plan)?))
    }

    /// A test that fails as long as this does, to be pasted.
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub fn test(&self) -> Result<String, Unwritable> {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let name: String = self.plan.scenario.chars().map(plain).collect();
        let (seed, file) = (self.plan.seed, self.file()?);
        Ok(format!(
            "#[test]\n\
             fn {name}_seed_{seed}_does_not_fail() {{\n    \
                 let text = r##\"\n{file}\"##;\n    \
                 let scenario = teem_sim::scenario::Scenario::parse(\"shrunk\", text).expect(\"a scenario\");\n    \
                 let outcome = teem_sim::run::run(scenario.plan(), None);\n    \
                 assert_eq!(outcome.failures, []);\n\
             }}\n"
        ))
    }
}

/// Makes a plan that fails as small as it can. `tell` is told after each run, and ends it early with
/// [`ControlFlow::Break`]: what is smallest so far is the result then.
///
/// # Errors
/// [`NoFailure`] if its run is as it must be.
pub fn shrink(
    plan: Plan,
    limits: Limits,
    tell: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Shrunk, NoFailure> {
    let first = judge(plan.clone(), u64::MAX).failing.ok_or(NoFailure)?;
    let mut shrinker = Shrinker {
        has_seeder: has_seeder(&plan),
        plan,
        target: (first.kind.clone(), first.role),
        // To the end of what happens at the same time.
        run_events_max: first.events + first.events / 8 + 1_000,
        events: first.events,
        now: first,
        limits,
        tell,
        runs: 1,
        steps: Vec::new(),
        was_each_plainer: false,
        is_over: false,
    };
    shrinker.plan.must_fail = false;
    shrinker.told("the first run", true);
    shrinker.all_passes();
    Ok(Shrunk {
        kind: shrinker.target.0,
        failure: shrinker.now.text,
        plan: shrinker.plan,
        runs: shrinker.runs,
        steps: shrinker.steps,
        is_smallest: !shrinker.is_over,
    })
}

/// How a run failed.
#[derive(Clone, Debug)]
struct Failing {
    kind: String,
    role: Option<&'static str>,
    text: String,
    events: u64,
    millis: u64,
}

#[derive(Clone, Debug)]
struct Verdict {
    /// None: it did not fail.
    failing: Option<Failing>,
    events: u64,
}

/// Runs a plan, at most so long.
fn judge(plan: Plan, events_max: u64) -> Verdict {
    let roles: Vec<_> = plan.hosts.iter().map(role).collect();
    let run_it = || {
        if events_max == u64::MAX { run(plan, None) } else { run_at_most(plan, events_max) }
    };
    // A panic in a machine is a failure like others.
    let outcome = match catch_unwind(AssertUnwindSafe(run_it)) {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let text = format!("panicked: {}", text.unwrap_or("without a message"));
            let failing = Failing { kind: "panic".into(), role: None, text, events: 0, millis: 0 };
            return Verdict { failing: Some(failing), events: 0 };
        }
    };
    let events = outcome.summary.events;
    let failing = outcome.failures.first().map(|failure: &Failure| Failing {
        kind: failure.kind(),
        role: failure.host().and_then(|host| roles.get(host).copied()),
        text: failure.to_string(),
        events,
        millis: millis(outcome.summary.virtual_s),
    });
    Verdict { failing, events }
}

#[expect(clippy::cast_sign_loss, reason = "times are not negative")]
const fn millis(seconds: f64) -> u64 {
    (seconds * 1_000.0) as u64
}

/// Which sort of host it is.
fn role(host: &crate::run::HostPlan) -> &'static str {
    match host.role {
        Role::Peer if host.preload == Preload::Everything => "seeder",
        Role::Peer => "leecher",
        Role::Tracker => "tracker",
        Role::LyingTracker(_) => "lying tracker",
        Role::Attacker(_) => "attacker",
        Role::Nobody => "nobody",
    }
}

/// Somebody has all of the content and stays: else that leechers stay incomplete is no news.
fn has_seeder(plan: &Plan) -> bool {
    plan.hosts.iter().any(|host| {
        let stays = host.leaves == crate::run::Leaves::Never;
        host.role == Role::Peer && host.preload == Preload::Everything && stays
    })
}

/// Shrinking under way.
struct Shrinker<'a> {
    /// What is smallest so far; it fails.
    plan: Plan,
    /// How.
    now: Failing,
    /// What a smaller one must do: fail so, on such a host.
    target: (String, Option<&'static str>),
    /// The first plan had a seeder that stays.
    has_seeder: bool,
    run_events_max: u64,
    limits: Limits,
    tell: &'a mut dyn FnMut(&Progress) -> ControlFlow<()>,
    runs: usize,
    events: u64,
    steps: Vec<Step>,
    /// Each host for itself was made plainer.
    was_each_plainer: bool,
    is_over: bool,
}

impl Shrinker<'_> {
    /// Tries plans in order, and keeps the first that fails as it must. Yields which that was.
    fn try_plans(&mut self, what: &'static str, plans: Vec<Plan>) -> Option<usize> {
        let mut plans: Vec<(usize, Plan)> = plans
            .into_iter()
            .enumerate()
            .filter(|(_, plan)| *plan != self.plan && self.is_fair(plan))
            .collect();
        while !plans.is_empty() && !self.is_over {
            let some: Vec<_> = plans.drain(..self.limits.jobs.clamp(1, plans.len())).collect();
            let verdicts = self.judge_all(&some);
            for ((at, plan), verdict) in some.into_iter().zip(verdicts) {
                // What came after the one that helps is as if it had not been tried.
                self.runs += 1;
                self.events = self.events.saturating_add(verdict.events);
                let helps = verdict.failing.filter(|failing| self.is_same(failing));
                let helped = helps.is_some();
                if let Some(failing) = helps {
                    self.plan = plan;
                    self.now = failing;
                }
                self.told(what, helped);
                if helped {
                    let left = self.left();
                    self.steps.push(Step { what, left });
                    return Some(at);
                }
                if self.is_over {
                    return None;
                }
            }
        }
        None
    }

    /// Tries one plan; whether it was kept.
    fn try_plan(&mut self, what: &'static str, plan: Plan) -> bool {
        self.try_plans(what, vec![plan]).is_some()
    }

    /// Changes the plan, if it fails all the same.
    fn try_change(&mut self, what: &'static str, change: impl FnOnce(&mut Plan)) -> bool {
        let mut plan = self.plan.clone();
        change(&mut plan);
        self.try_plan(what, plan)
    }

    fn judge_all(&self, plans: &[(usize, Plan)]) -> Vec<Verdict> {
        let events_max = self.run_events_max;
        if let [(_, plan)] = plans {
            return vec![judge(plan.clone(), events_max)];
        }
        thread::scope(|scope| {
            let judges: Vec<_> = plans
                .iter()
                .map(|(_, plan)| scope.spawn(move || judge(plan.clone(), events_max)))
                .collect();
            judges.into_iter().map(|judge| judge.join().expect("panics are caught")).collect()
        })
    }

    fn is_same(&self, failing: &Failing) -> bool {
        failing.kind == self.target.0 && failing.role == self.target.1
    }

    /// Whether a failure of it says anything, and a file can say it.
    fn is_fair(&self, plan: &Plan) -> bool {
        let finds = plan.degree > 0 || plan.hosts.iter().any(|host| host.role == Role::Tracker);
        let is_there = plan.hosts.iter().any(|host| host.preload != Preload::Nothing);
        finds && is_there && (has_seeder(plan) || !self.has_seeder)
    }

    fn left(&self) -> (usize, usize, u64) {
        let hosts = self.plan.hosts.iter().filter(|host| host.role != Role::Nobody).count();
        (hosts, self.plan.faults.len(), self.now.millis)
    }

    fn told(&mut self, what: &'static str, helped: bool) {
        let (hosts, faults, millis) = self.left();
        let progress = Progress { what, helped, runs: self.runs, hosts, faults, millis };
        let stop = (self.tell)(&progress).is_break();
        let spent = self.runs >= self.limits.runs_max || self.events >= self.limits.events_max;
        self.is_over |= stop || spent;
    }

    /// Takes away as many of `units` as it can: all, halves, quarters, and so on to each.
    fn take_away<U: Copy>(
        &mut self,
        what: &'static str,
        units: Vec<U>,
        without: impl Fn(&Plan, &[U]) -> Plan,
    ) {
        let mut kept = units;
        let mut parts = 1;
        while !kept.is_empty() && !self.is_over {
            let size = kept.len().div_ceil(parts);
            let plans = kept.chunks(size).map(|part| without(&self.plan, part)).collect();
            match self.try_plans(what, plans) {
                Some(part) => {
                    kept.drain(part * size..((part + 1) * size).min(kept.len()));
                    parts = parts.saturating_sub(1).max(1).min(kept.len().max(1));
                    if parts == 1 && kept.len() > 1 {
                        parts = 2;
                    }
                }
                None if size == 1 => return,
                None => parts = (parts * 2).min(kept.len()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, bundled};

    fn shrunk(plan: Plan, limits: Limits) -> Shrunk {
        shrink(plan, limits, &mut |_| ControlFlow::Continue(())).expect("it fails")
    }

    /// What cannot be: everybody in half the time.
    fn canary() -> Plan {
        bundled("canary").expect("there").draw(3, false)
    }

    #[test]
    fn a_swarm_that_fails_whatever_happens_shrinks_to_two_peers_and_one_piece() {
        let result = shrunk(canary(), Limits::default());
        assert_eq!((result.kind.as_str(), result.is_smallest), ("incomplete", true));
        let hosts = result.plan.hosts.iter().filter(|host| host.role != Role::Nobody);
        assert_eq!(hosts.count(), 2, "{:?}", result.plan);
        let text = result.file().expect("it can be said");
        assert!(text.starts_with("# fails: host 1 has "), "{text}");
        assert!(text.lines().count() < 12, "{text}");
        // Whoever reads the file sees the same failure.
        let read = Scenario::parse("read", &text).expect(&text);
        assert_eq!(read.plan(), result.plan);
        let outcome = run(read.plan(), None);
        assert_eq!(outcome.summary.failures[0], result.failure);
        assert!(result.test().expect("it can be said").contains("fn canary_seed_3_does_not_fail"));
    }

    #[test]
    fn the_result_does_not_hang_on_how_many_runs_go_at_a_time() {
        let one = shrunk(canary(), Limits { runs_max: 7, ..Limits::default() });
        let two = shrunk(canary(), Limits { runs_max: 7, jobs: 3, ..Limits::default() });
        assert_eq!((one.plan, one.steps, one.runs), (two.plan, two.steps, two.runs));
        assert_eq!(one.runs, 7);
        assert!(!one.is_smallest);
    }

    #[test]
    fn who_looks_on_may_end_it_and_has_what_is_smallest_so_far() {
        let mut told = 0;
        let mut tell = |progress: &Progress| {
            told = progress.runs;
            if progress.runs == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let result = shrink(canary(), Limits::default(), &mut tell).expect("it fails");
        assert_eq!((told, result.runs), (5, 5));
        assert_eq!(judge(result.plan, u64::MAX).failing.expect("it fails").kind, "incomplete");
    }

    #[test]
    fn what_does_not_fail_is_not_shrunk() {
        let mut plan = canary();
        plan.bound_permille = 4_000;
        plan.slack = teem_core::time::Duration::from_mins(2);
        let result = shrink(plan, Limits::default(), &mut |_| ControlFlow::Continue(()));
        assert_eq!(result.map(|_| ()), Err(NoFailure));
    }
}
