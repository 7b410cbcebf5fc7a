//! `teem sim` and `teem suite`: whole swarms on virtual time.
//!
//! What runs is `teem-sim`'s; what is here chooses seeds, measures time and memory, and tells
//! people and programs.

pub(crate) mod args;
mod capture;
mod compare;
mod diff;
mod huge;
mod junit;
mod list;
mod one;
mod out;
mod page;
mod replay;
mod run;
mod shrink;
mod suite;
mod trace;
mod truth;

use std::path::Path;

use teem_sim::scenario::{BUNDLED, Scenario, bundled};

use self::args::{How, Sim, SimCommand, Suite};
use crate::Outcome;
use crate::failure::Failure;

pub(crate) fn run(sim: &Sim) -> Outcome {
    huge::begin_anew();
    match &sim.command {
        SimCommand::Run(run) => run::run(run),
        SimCommand::Replay(replay) => replay::run(replay),
        SimCommand::Shrink(shrink) => shrink::run(shrink),
        SimCommand::Diff(diff) => diff::run(diff),
        SimCommand::Compare(compare) => compare::run(compare),
        SimCommand::List(list) => list::run(list),
    }
}

pub(crate) fn suite(suite: &Suite) -> Outcome {
    huge::begin_anew();
    suite::run(suite)
}

/// The scenario of that name or in that file, changed as wanted.
fn load(name: &str, how: How) -> Result<Scenario, Failure> {
    let mut scenario = match bundled(name) {
        Some(scenario) => scenario,
        None => read(name)?,
    };
    if let Some(fidelity) = how.fidelity {
        scenario.fidelity = fidelity.into();
    }
    Ok(scenario)
}

fn read(name: &str) -> Result<Scenario, Failure> {
    let path = Path::new(name);
    let text = std::fs::read_to_string(path).map_err(|error| {
        let Failure::Input(text) = Failure::file(path, &error) else {
            return Failure::file(path, &error);
        };
        let is_name = path.extension().is_none() && path.components().count() == 1;
        if error.kind() != std::io::ErrorKind::NotFound || !is_name {
            return Failure::Input(text);
        }
        let names: Vec<_> = BUNDLED.iter().map(|bundled| bundled.name).collect();
        Failure::Input(format!(
            "{text}, and no bundled scenario either; there are: {}",
            names.join(", ")
        ))
    })?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    Scenario::parse(&stem, &text).map_err(|error| Failure::Input(format!("{name}: {error}")))
}
