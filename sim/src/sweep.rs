//! A scenario with many seeds, as a test.

use std::fmt;
use std::ops::{ControlFlow, Range};

use crate::run::{Failure, Summary, run};
use crate::scenario::{Scenario, ScenarioError};
use crate::shrink::{Limits, Shrunk, shrink};

/// Runs that a sweep spends to make a failing run smaller.
pub const SHRINK_RUNS: usize = 300;

/// How many times the work of the failing run it spends for that at most.
const SHRINK_WORK: u64 = 60;

/// What came of a sweep in which nothing failed.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Each run in numbers, in the order of the seeds.
    pub summaries: Vec<Summary>,
}

/// Why a sweep failed. It displays, and debugs, as all that is needed next: the seed, what was
/// wrong, the smallest scenario found that fails in the same way, and the commands and the code that
/// show it again.
#[non_exhaustive]
pub enum SweepError {
    /// The text is not a scenario.
    Scenario(ScenarioError),
    /// A run failed.
    Failed(Box<FailedSeed>),
}

/// A run that failed.
#[non_exhaustive]
pub struct FailedSeed {
    /// What the scenario is called.
    pub name: String,
    /// The seed.
    pub seed: u64,
    /// What must not have been.
    pub failures: Vec<Failure>,
    /// The smallest run that fails in the same way.
    pub shrunk: Shrunk,
}

/// Runs a scenario with each of these seeds, and ends at the first that fails. That one is
/// [shrunk](crate::shrink) then, in [`SHRINK_RUNS`] runs at most.
///
/// ```
/// let done = teem_sim::sweep(
///     "small",
///     r#"
///     content = "256 KiB"
///     piece = "32 KiB"
///     peers = [{ role = "seeder", up = "1..2 MB/s" }, { role = "leecher", count = "2..4" }]
///     "#,
///     0..3,
/// )?;
/// assert_eq!(done.summaries.len(), 3);
/// assert!(done.summaries.iter().all(|run| run.complete == run.honest));
/// # Ok::<(), teem_sim::SweepError>(())
/// ```
///
/// # Errors
/// If the text is not a scenario, or if a run fails. `must_fail` changes nothing: it
/// is for sweeps of the program.
pub fn sweep(name: &str, text: &str, seeds: Range<u64>) -> Result<Sweep, SweepError> {
    let scenario = Scenario::parse(name, text).map_err(SweepError::Scenario)?;
    let mut summaries = Vec::new();
    for seed in seeds {
        let plan = scenario.draw(seed, false);
        let outcome = run(plan.clone(), None);
        if !outcome.failures.is_empty() {
            let events_max = outcome.summary.events.saturating_mul(SHRINK_WORK);
            let limits = Limits { runs_max: SHRINK_RUNS, events_max, ..Limits::default() };
            let shrunk = shrink(plan, limits, &mut |_| ControlFlow::Continue(()))
                .expect("the same plan fails each time");
            return Err(SweepError::Failed(Box::new(FailedSeed {
                name: scenario.name,
                seed,
                failures: outcome.failures,
                shrunk,
            })));
        }
        summaries.push(outcome.summary);
    }
    Ok(Sweep { summaries })
}

impl fmt::Display for SweepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scenario(error) => error.fmt(f),
            Self::Failed(failed) => failed.fmt(f),
        }
    }
}

/// As a test that returns it, or unwraps it, shows it.
impl fmt::Debug for SweepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for SweepError {}

impl fmt::Debug for FailedSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for FailedSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, seed, failures, shrunk } = self;
        writeln!(f, "{name} seed {seed} failed:")?;
        for failure in failures {
            writeln!(f, "    {failure}")?;
        }
        let so_far = if shrunk.is_smallest { "" } else { " so far" };
        writeln!(f, "\nThe smallest run{so_far} that fails so, after {} runs:\n", shrunk.runs)?;
        match shrunk.file() {
            Ok(file) => writeln!(f, "{}", file.trim_end())?,
            Err(error) => writeln!(f, "{error}: {:?}", shrunk.plan)?,
        }
        write!(
            f,
            "\nSaved as a file, it can be looked at, event by event:\n    \
             teem sim replay {name}-{seed}.toml\n\
             Smaller still if that can be, and with a test to be pasted, it is printed by:\n    \
             teem sim shrink {name}-{seed}.toml"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        content = "256 KiB"
        piece = "32 KiB"
        peers = [
          { role = "seeder", up = "100 kB/s" },
          { role = "leecher", count = 4, up = "50..100 kB/s" },
        ]
    "#;

    #[test]
    fn a_sweep_that_fails_says_all_that_is_needed_next() {
        let impossible = format!("{SMALL}gate = {{ bound = 0.5, slack = \"0 s\" }}\n");
        let error = sweep("mine", &impossible, 3..9).expect_err("nobody can");
        let said = format!("{error:?}");
        for part in [
            "mine seed 3 failed:",
            "host 1 has ",
            "# fails: host 1 has ",
            "seed = 3",
            "teem sim shrink mine-3.toml",
            "teem sim replay mine-3.toml",
        ] {
            assert!(said.contains(part), "{part} is not in:\n{said}");
        }
        let SweepError::Failed(failed) = error else { panic!("{said}") };
        assert_eq!(failed.seed, 3);
        // What is printed is a scenario, and fails.
        let text = failed.shrunk.file().expect("it can be said");
        let again = Scenario::parse("again", &text).expect(&text);
        assert!(!run(again.plan(), None).failures.is_empty());
    }

    #[test]
    fn what_is_no_scenario_is_told_in_words() {
        let error = sweep("mine", "content = 5", 0..1).expect_err("a number without a unit");
        assert!(format!("{error:?}").contains("16 MiB"), "{error:?}");
    }
}
