//! One run, measured; and many of them on some threads.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use serde_json::{Value, json};
use teem_io::clock::Clock;
use teem_sim::capture::Captured;
use teem_sim::run::{Capturing, Observer, Summary};
use teem_sim::scenario::{self, Scenario};

use super::args::How;
use crate::failure::Failure;

/// A run that is over.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) summary: Summary,
    pub(super) must_fail: bool,
    pub(super) swarm: bool,
    /// The command that does it once more.
    pub(super) again: String,
}

impl Done {
    /// Whether it ended as it must.
    pub(super) const fn is_right(&self) -> bool {
        self.summary.failed == self.must_fail
    }

    /// Its members for programs.
    pub(super) fn json(&self) -> Value {
        let mut value = serde_json::to_value(&self.summary).unwrap_or_default();
        if let Value::Object(members) = &mut value {
            members.insert("swarm".into(), json!(self.swarm));
            members.insert("must_fail".into(), json!(self.must_fail));
            members.insert("again".into(), json!(self.again));
        }
        value
    }
}

/// Runs a scenario, which was given as `name`, once.
pub(super) fn run(
    scenario: &Scenario,
    name: &str,
    seed: u64,
    how: How,
    observer: Option<&mut dyn Observer>,
) -> Done {
    run_captured(scenario, name, seed, how, observer, None).0
}

/// The same, with a capture if one is wanted; nothing is known of that if the run panicked.
pub(super) fn run_captured(
    scenario: &Scenario,
    name: &str,
    seed: u64,
    how: How,
    observer: Option<&mut dyn Observer>,
    capturing: Option<Capturing>,
) -> (Done, Option<io::Result<Captured>>) {
    let clock = Clock::new();
    let start = clock.now();
    let mut captured = None;
    // A panic in a machine is a failure like others, and must not end a sweep.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let plan = scenario.draw(seed, how.swarm);
        let Some(capturing) = capturing else { return teem_sim::run::run(plan, observer) };
        let (outcome, of) = teem_sim::run::run_captured(plan, observer, capturing);
        captured = Some(of);
        outcome
    }));
    let mut summary = outcome.map_or_else(
        |panic| {
            let mut summary = Summary::default();
            summary.scenario.clone_from(&scenario.name);
            summary.seed = seed;
            summary.failed = true;
            summary.failures = vec![format!("panicked: {}", message(&*panic))];
            summary
        },
        |outcome| outcome.summary,
    );
    summary.wall_s = clock.now().saturating_since(start).as_secs_f64();
    summary.peak_rss_bytes = peak_rss_bytes();
    let must_fail = scenario.gate.must_fail;
    let done = Done { summary, must_fail, swarm: how.swarm, again: again(name, seed, how) };
    (done, captured)
}

pub(super) fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// The command that shows a run again.
fn again(name: &str, seed: u64, how: How) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./+:@%,".contains(c);
    let name = if name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', "'\\''"))
    };
    let fidelity = how.fidelity.map_or_else(String::new, |fidelity| {
        format!(" --fidelity {}", scenario::Fidelity::from(fidelity).name())
    });
    let swarm = if how.swarm { " --swarm" } else { "" };
    format!("teem sim run {name} --seed {seed}{fidelity}{swarm}")
}

/// The most memory that this process had at a time since [`forget_peak`], as far as the system
/// tells; else zero.
pub(super) fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Begins to measure memory anew, where the system allows it.
fn forget_peak() {
    // Where it does not, the peak is that of all runs so far.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Does all of `items`, some at a time, and hands over what came of them in their order.
///
/// Memory is measured for each if they are done one by one, else for all together.
pub(super) fn in_order<I: Sync, T: Send>(
    items: &[I],
    jobs: NonZeroUsize,
    work: impl Fn(&I) -> T + Sync,
    mut each: impl FnMut(&I, T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let jobs = jobs.get().min(items.len());
    if jobs <= 1 {
        for item in items {
            forget_peak();
            each(item, work(item))?;
        }
        return Ok(());
    }
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for number in 0..jobs {
            let (sender, next, work) = (sender.clone(), &next, &work);
            thread::Builder::new()
                .name(format!("sim {number}"))
                .spawn_scoped(scope, move || {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(item) = items.get(at) else { return };
                        if sender.send((at, work(item))).is_err() {
                            return;
                        }
                    }
                })
                .map_err(|error| Failure::Incomplete(format!("no thread: {error}")))?;
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut due = 0;
        for (at, done) in receiver {
            early.insert(at, done);
            while let Some(done) = early.remove(&due) {
                each(&items[due], done)?;
                due += 1;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_whatever_is_done_first() {
        let items: Vec<u64> = (0..50).collect();
        for jobs in [1, 4] {
            let mut seen = Vec::new();
            let work = |item: &u64| item * 2;
            let each = |item: &u64, twice: u64| {
                seen.push((*item, twice));
                Ok(())
            };
            in_order(&items, NonZeroUsize::new(jobs).expect("some"), work, each).expect("done");
            assert!(seen.iter().copied().eq((0..50).map(|item| (item, 2 * item))));
        }
    }

    #[test]
    fn a_run_can_be_had_again_by_its_command() {
        let how = How { fidelity: Some(super::super::args::Fidelity::Message), swarm: true };
        assert_eq!(again("faults", 17, How::default()), "teem sim run faults --seed 17");
        assert_eq!(
            again("my file.toml", 1, how),
            "teem sim run 'my file.toml' --seed 1 --fidelity message --swarm"
        );
    }
}
