//! `teem suite long`: every scenario and every experiment at full size, with all its seeds.
//!
//! A case is one of [`cases`] and a seed, and goes by a key such as `faults-swarm#17`. Which
//! part of a sweep and which sample a case is in follows from its key alone, so that results of
//! parts, of several machines or of an interrupted run, are put together by concatenation.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::{Value, json};
use teem_core::hash::sha1;
use teem_io::clock::Clock;
use teem_sim::scenario::bundled;
use teem_sim::truth::experiments::{EXPERIMENTS, Experiment, Size};

use super::args::{How, Long, Shard, Suite, SuiteCommand};
use super::out::{self, JsonOut};
use super::{one, truth};
use crate::failure::Failure;
use crate::{Outcome, report};

/// Something to be run with some seeds, from zero on.
#[derive(Clone, Copy, Debug)]
enum Case {
    /// A bundled scenario.
    Scenario { name: &'static str, scenario: &'static str, swarm: bool, seeds: u64 },
    /// Ground truth, held to its gates.
    Truth { experiment: &'static Experiment, size: Size },
}

const fn sweep(name: &'static str, seeds: u64) -> Case {
    Case::Scenario { name, scenario: name, swarm: false, seeds }
}

const fn swarm(name: &'static str, scenario: &'static str, seeds: u64) -> Case {
    Case::Scenario { name, scenario, swarm: true, seeds }
}

/// The scenarios of the long suite.
const SCENARIOS: &[Case] = &[
    sweep("canary", 10),
    sweep("flash-crowd-100", 30),
    sweep("flash-crowd-1k", 5),
    sweep("flash-crowd-10k", 1),
    sweep("idle-1k", 2),
    sweep("packet-200", 4),
    sweep("two-regions", 100),
    sweep("tracker", 100),
    sweep("churn", 100),
    sweep("attackers", 100),
    sweep("faults", 200),
    swarm("faults-swarm", "faults", 200),
    sweep("faults-message", 200),
    swarm("faults-message-swarm", "faults-message", 200),
];

/// The long suite: the scenarios, and each experiment at both sizes.
fn cases() -> impl Iterator<Item = Case> {
    let sizes = |experiment| [Size::Full, Size::Small].map(|size| Case::Truth { experiment, size });
    SCENARIOS.iter().copied().chain(EXPERIMENTS.iter().flat_map(sizes))
}

impl Case {
    fn name(&self) -> Cow<'static, str> {
        match self {
            Self::Scenario { name, .. } => (*name).into(),
            Self::Truth { experiment, size: Size::Full } => experiment.name.into(),
            Self::Truth { experiment, size: Size::Small } => {
                format!("{}-small", experiment.name).into()
            }
        }
    }

    const fn seeds(&self) -> u64 {
        match self {
            Self::Scenario { seeds, .. } => *seeds,
            Self::Truth { experiment, .. } => experiment.seeds,
        }
    }

    /// Whether a sample may hold it: the largest takes longer than all else together, and of an
    /// experiment the small size is sampled in place of the full one.
    fn is_sampled(&self) -> bool {
        match self {
            Self::Scenario { name, .. } => *name != "flash-crowd-10k",
            Self::Truth { size, .. } => *size == Size::Small,
        }
    }

    fn run(&self, seed: u64, key: &str) -> Done {
        match self {
            Self::Scenario { scenario, swarm, .. } => {
                let how = How { swarm: *swarm, ..How::default() };
                let loaded = bundled(scenario).expect("cases are of bundled scenarios");
                Done::Scenario(one::run(&loaded, scenario, seed, how, None).into())
            }
            Self::Truth { experiment, size } => {
                Done::Truth(truth::run(experiment, *size, seed, key))
            }
        }
    }
}

/// A case that is over.
#[derive(Debug)]
enum Done {
    Scenario(Box<one::Done>),
    Truth(truth::Done),
}

impl Done {
    fn is_right(&self) -> bool {
        match self {
            Self::Scenario(done) => done.is_right(),
            Self::Truth(done) => done.is_right(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Scenario(done) => done.json(),
            Self::Truth(done) => done.json(),
        }
    }

    fn tell(&self, what: &str) {
        match self {
            Self::Scenario(done) => out::tell(what, done, false),
            Self::Truth(done) => done.tell(what),
        }
    }

    /// The multiple of the bound, where there is one, and the time that it took.
    fn over_and_wall(&self) -> (f64, f64) {
        match self {
            Self::Scenario(done) => (done.summary.over_bound, done.summary.wall_s),
            Self::Truth(done) => (0.0, done.wall_s),
        }
    }

    fn again(self) -> String {
        match self {
            Self::Scenario(done) => done.again,
            Self::Truth(done) => done.again,
        }
    }
}

/// A case and a seed.
#[derive(Clone, Debug)]
struct Unit {
    case: Case,
    seed: u64,
    key: String,
}

impl Unit {
    /// Whether this is its key, or its name begins so.
    fn is_called(&self, wanted: &str) -> bool {
        self.key == wanted || self.case.name().starts_with(wanted)
    }
}

/// All of them, in order.
fn units() -> impl Iterator<Item = Unit> {
    cases().flat_map(|case| {
        (0..case.seeds()).map(move |seed| {
            let key = format!("{}#{seed}", case.name());
            Unit { case, seed, key }
        })
    })
}

/// A number that depends on these texts alone.
fn number(salt: &str, key: &str) -> u64 {
    let hash = sha1(format!("{salt}\n{key}").as_bytes());
    u64::from_be_bytes(hash[..8].try_into().expect("eight of twenty bytes"))
}

/// Whether a key is in a sample of so many of so many.
fn is_in_share(share: Shard, salt: &str, key: &str) -> bool {
    number(salt, key) % share.of < share.part
}

pub(crate) fn run(suite: &Suite) -> Outcome {
    match &suite.command {
        SuiteCommand::Long(long) => run_long(long),
    }
}

fn run_long(long: &Long) -> Outcome {
    for name in &long.only {
        if !units().any(|unit| unit.is_called(name)) {
            let names: Vec<_> = cases().map(|case| case.name()).collect();
            let names = names.join(", ");
            return Err(Failure::Input(format!("--only {name}: there are {names}")));
        }
    }
    let chosen = units().filter(|unit| {
        (long.only.is_empty() || long.only.iter().any(|only| unit.is_called(only)))
            && long.shard.is_none_or(|shard| shard.has(number("shard", &unit.key)))
            && long.share.is_none_or(|share| {
                unit.case.is_sampled() && is_in_share(share, &long.salt, &unit.key)
            })
    });
    let chosen: Vec<Unit> = chosen.collect();
    if long.list {
        for unit in &chosen {
            report::line(&unit.key);
        }
        return Ok(());
    }
    let held = match &long.resume {
        Some(path) => held(path)?,
        None => BTreeMap::new(),
    };
    let left: Vec<Unit> =
        chosen.iter().filter(|unit| !held.contains_key(&unit.key)).cloned().collect();
    let mut out = match (&long.json, &long.resume) {
        (None, Some(path)) => JsonOut::append(path)?,
        (json, _) => JsonOut::open(json.as_deref())?,
    };
    let skipped = chosen.len() - left.len();
    report::hint(&format!("{} cases to run, {skipped} already there", left.len()));

    let clock = Clock::new();
    let start = clock.now();
    let mut tally: BTreeMap<Cow<'static, str>, Tally> = BTreeMap::new();
    let mut wrong: Vec<String> = Vec::new();
    for unit in &chosen {
        let Some(Held { is_right, again }) = held.get(&unit.key) else { continue };
        tally.entry(unit.case.name()).or_default().count(*is_right, 0.0, 0.0);
        if !is_right {
            wrong.push(again.clone());
        }
    }
    let mut told = 0;
    one::in_order(
        &left,
        long.jobs,
        |unit| unit.case.run(unit.seed, &unit.key),
        |unit, done| {
            told += 1;
            done.tell(&format!("{told}/{} {}", left.len(), unit.key));
            let mut value = json!({ "case": unit.key, "ok": done.is_right() });
            if let (Value::Object(all), Value::Object(members)) = (&mut value, done.json()) {
                all.extend(members);
            }
            out.write("case", value)?;
            let (over, wall) = done.over_and_wall();
            tally.entry(unit.case.name()).or_default().count(done.is_right(), over, wall);
            if !done.is_right() {
                wrong.push(done.again());
            }
            Ok(())
        },
    )?;
    let wall_s = clock.now().saturating_since(start).as_secs_f64();
    out.write(
        "summary",
        json!({
            "suite": "long", "cases": chosen.len(), "run": left.len(), "resumed": skipped,
            "failed": wrong.len(), "again": wrong, "wall_s": wall_s,
        }),
    )?;
    if !out.is_stdout() {
        tell(&tally, wall_s);
    }
    let Some(first) = wrong.first() else { return Ok(()) };
    Err(Failure::Incomplete(format!(
        "{} of {} cases failed; to see the first again:\n    {first}",
        wrong.len(),
        chosen.len()
    )))
}

/// What came of the runs of a case.
#[derive(Debug, Default)]
struct Tally {
    runs: u64,
    wrong: u64,
    over_bound: f64,
    wall_s: f64,
}

impl Tally {
    fn count(&mut self, is_right: bool, over_bound: f64, wall_s: f64) {
        self.runs += 1;
        self.wrong += u64::from(!is_right);
        self.over_bound = self.over_bound.max(over_bound);
        self.wall_s += wall_s;
    }
}

fn tell(tally: &BTreeMap<Cow<'static, str>, Tally>, wall_s: f64) {
    report::line(&format!(
        "{:<22} {:>5} {:>6}  {:>10}  {:>13}",
        "case", "runs", "failed", "wall time", "over bound"
    ));
    for (name, Tally { runs, wrong, over_bound, wall_s }) in tally {
        let wall = out::seconds(*wall_s);
        report::line(&format!("{name:<22} {runs:>5} {wrong:>6}  {wall:>10}  {over_bound:>13.2}"));
    }
    report::line(&format!("{:<22} {:>5} {:>6}  {:>10}", "all", "", "", out::seconds(wall_s)));
}

/// A result that is there already.
#[derive(Debug)]
struct Held {
    is_right: bool,
    again: String,
}

/// The cases that a file holds, by key. A line that was cut short is not there.
fn held(path: &Path) -> Result<BTreeMap<String, Held>, Failure> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Failure::file(path, &error)),
    };
    let mut held = BTreeMap::new();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|error| Failure::file(path, &error))?;
        let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
        if let (Some(key), Some(is_right)) = (value["case"].as_str(), value["ok"].as_bool()) {
            let again = value["again"].as_str().unwrap_or(key).to_owned();
            held.insert(key.to_owned(), Held { is_right, again });
        }
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_of_a_bundled_scenario_and_has_a_key_of_its_own() {
        let mut keys: Vec<String> = units().map(|unit| unit.key).collect();
        let all = keys.len();
        assert!(all > 1_000);
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all);
        for case in SCENARIOS {
            let Case::Scenario { scenario, .. } = case else { panic!("{case:?}") };
            assert!(bundled(scenario).is_some(), "{scenario}");
        }
    }

    #[test]
    fn of_an_experiment_the_full_size_is_never_sampled_and_the_small_one_is() {
        let truths: Vec<Case> = cases().filter(|case| matches!(case, Case::Truth { .. })).collect();
        assert_eq!(truths.len(), 2 * EXPERIMENTS.len());
        let (sampled, others): (Vec<Case>, Vec<Case>) =
            truths.iter().partition(|case| case.is_sampled());
        assert_eq!(sampled.len(), others.len());
        assert!(sampled.iter().all(|case| case.name().ends_with("-small")));
    }

    #[test]
    fn a_key_stands_for_one_case_and_a_name_for_all_that_begin_so() {
        let called = |wanted: &str| units().filter(|unit| unit.is_called(wanted)).count();
        assert_eq!(called("faults#1"), 1);
        assert_eq!(called("crowd-turns-small#0"), 1);
        assert_eq!(called("crowd-turns"), 6);
        assert_eq!(called("none"), 0);
    }

    #[test]
    fn a_tenth_is_about_a_tenth_and_another_one_for_another_salt() {
        let share = Shard { part: 1, of: 10 };
        let chosen = |salt: &str| -> Vec<String> {
            units().map(|unit| unit.key).filter(|key| is_in_share(share, salt, key)).collect()
        };
        let (one, other) = (chosen("0123abcd"), chosen("4567"));
        let all = units().count();
        assert!((all / 14..all / 7).contains(&one.len()), "{} of {all}", one.len());
        assert_ne!(one, other);
        assert_eq!(one, chosen("0123abcd"));
    }

    #[test]
    fn a_line_that_was_cut_short_is_not_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("results");
        let text = "{\"event\":\"case\",\"case\":\"a#1\",\"ok\":true}\n{\"event\":\"case\",\"case\":\"a#2\",\"o";
        std::fs::write(&path, text).expect("written");
        let held = held(&path).expect("readable");
        assert_eq!(held.keys().collect::<Vec<_>>(), ["a#1"]);
        assert!(super::held(&folder.path().join("none")).expect("nothing").is_empty());
    }
}
