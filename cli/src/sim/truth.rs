//! An experiment of `teem_sim::truth`, run once as a case of the suite.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};
use teem_io::clock::Clock;
use teem_sim::truth::experiments::{Experiment, Gate, Measured, Size};

use super::{one, out};
use crate::report;

/// An experiment that is over.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) wall_s: f64,
    experiment: &'static str,
    size: Size,
    seed: u64,
    peak_rss_bytes: u64,
    /// What it panicked with, if it did.
    measured: Result<Measured, String>,
    /// The command that does it once more.
    pub(super) again: String,
}

/// Runs an experiment as the case that goes by `key`.
pub(super) fn run(experiment: &Experiment, size: Size, seed: u64, key: &str) -> Done {
    let clock = Clock::new();
    let start = clock.now();
    let measured = catch_unwind(AssertUnwindSafe(|| experiment.run(size, seed)));
    Done {
        wall_s: clock.now().saturating_since(start).as_secs_f64(),
        experiment: experiment.name,
        size,
        seed,
        peak_rss_bytes: one::peak_rss_bytes(),
        measured: measured.map_err(|panic| one::message(&*panic).to_owned()),
        again: format!("teem suite long --only '{key}'"),
    }
}

impl Done {
    /// Whether every gate is met.
    pub(super) fn is_right(&self) -> bool {
        self.measured.as_ref().is_ok_and(Measured::is_met)
    }

    fn failures(&self) -> Vec<String> {
        match &self.measured {
            Ok(measured) => {
                let missed = measured.gates.iter().filter(|gate| !gate.met);
                missed.map(|gate| show(gate, measured)).collect()
            }
            Err(panic) => vec![format!("panicked: {panic}")],
        }
    }

    /// Its members for programs.
    pub(super) fn json(&self) -> Value {
        let empty = Measured::default();
        let measured = self.measured.as_ref().unwrap_or(&empty);
        json!({
            "experiment": self.experiment,
            "size": match self.size { Size::Full => "full", Size::Small => "small" },
            "seed": self.seed,
            "figures": measured.figures,
            "gates": measured.gates,
            "failed": !self.is_right(),
            "failures": self.failures(),
            "wall_s": self.wall_s,
            "peak_rss_bytes": self.peak_rss_bytes,
            "again": self.again,
        })
    }

    /// How it ended, in a line; and below it which gates were missed.
    pub(super) fn tell(&self, what: &str) {
        let verdict = if self.is_right() { "ok    " } else { "FAILED" };
        let gates = match &self.measured {
            Ok(measured) => {
                let gates = measured.gates.iter().map(|gate| show(gate, measured));
                gates.collect::<Vec<_>>().join(", ")
            }
            Err(_) => "panicked".to_owned(),
        };
        report::hint(&format!("{what}: {verdict}  {gates}  in {}", out::seconds(self.wall_s)));
        for failure in if self.is_right() { Vec::new() } else { self.failures() } {
            report::hint(&format!("    {failure}"));
        }
    }
}

fn show(gate: &Gate, measured: &Measured) -> String {
    let value = measured.figures.get(gate.figure).copied().unwrap_or(f64::NAN);
    // Some gates are computed: no more digits than the figure has.
    let brief = |bound: f64| (bound * 1_000.0).round() / 1_000.0;
    let least = gate.at_least.map(|least| format!(" (at least {})", brief(least)));
    let most = gate.at_most.map(|most| format!(" (at most {})", brief(most)));
    format!("{} {value:.3}{}{}", gate.figure, least.unwrap_or_default(), most.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_gate_that_is_missed_is_a_failure_and_told_with_its_figure() {
        let gate = Gate { figure: "over_bound", at_least: None, at_most: Some(1.15), met: false };
        let figures = BTreeMap::from([("over_bound", 1.25)]);
        let mut done = Done {
            wall_s: 1.0,
            experiment: "crowd-turns",
            size: Size::Small,
            seed: 3,
            peak_rss_bytes: 0,
            measured: Ok(Measured { figures, gates: vec![gate] }),
            again: String::new(),
        };
        assert!(!done.is_right());
        assert_eq!(done.failures(), ["over_bound 1.250 (at most 1.15)"]);
        assert_eq!(done.json()["gates"][0]["at_most"], 1.15);
        done.measured = Ok(Measured::default());
        assert!(done.is_right());
        done.measured = Err("no".into());
        assert!(!done.is_right());
        assert_eq!(done.failures(), ["panicked: no"]);
    }
}
