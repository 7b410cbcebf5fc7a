//! `teem sim shrink`: from a run that fails to the smallest that does.

use std::ops::ControlFlow;
use std::panic;
use std::path::Path;

use teem_io::clock::Clock;
use teem_sim::scenario::Unwritable;
use teem_sim::shrink::{Limits, NoFailure, Progress, Shrunk, shrink};

use super::args::Shrink;
use super::out;
use crate::failure::Failure;
use crate::{Outcome, report};

pub(crate) fn run(args: &Shrink) -> Outcome {
    let scenario = super::load(&args.scenario, args.how)?;
    let seed = args.seed.or(scenario.seed).unwrap_or(0);
    let plan = scenario.draw(seed, args.how.swarm);
    let limits = Limits { runs_max: args.runs.get(), jobs: args.jobs.get(), ..Limits::default() };
    let clock = Clock::new();
    let start = clock.now();
    let mut tell = |progress: &Progress| {
        if progress.helped || progress.runs.is_multiple_of(100) {
            report::hint(&line(progress));
        }
        let passed = clock.now().saturating_since(start).as_nanos();
        match args.within {
            Some(within) if passed >= u128::from(within) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    // A run that panics is one that fails; hundreds of them need not be told.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let shrunk = shrink(plan, limits, &mut tell);
    panic::set_hook(hook);
    let shrunk = shrunk.map_err(|NoFailure| {
        let what = format!("{} seed {seed}", scenario.name);
        Failure::Input(format!("{what} does not fail: there is nothing to shrink"))
    })?;
    settle(args, &shrunk)
}

fn settle(args: &Shrink, shrunk: &Shrunk) -> Outcome {
    report::hint(&format!(
        "{} after {} runs: {}",
        if shrunk.is_smallest { "nothing smaller fails" } else { "the smallest so far" },
        shrunk.runs,
        shrunk.failure
    ));
    let unwritable = |error: Unwritable| Failure::Input(error.to_string());
    put(args.out.as_deref(), &shrunk.file().map_err(unwritable)?)?;
    put(args.test.as_deref(), &shrunk.test().map_err(unwritable)?)
}

fn put(path: Option<&Path>, text: &str) -> Outcome {
    if let Some(path) = path {
        return std::fs::write(path, text).map_err(|error| Failure::file(path, &error));
    }
    report::line(text);
    Ok(())
}

fn line(progress: &Progress) -> String {
    let Progress { what, helped, runs, hosts, faults, millis } = progress;
    let what = if *helped { what } else { "..." };
    let seconds = out::seconds(*millis as f64 / 1_000.0);
    format!("{runs:>5} runs  {hosts:>4} peers  {faults:>3} faults  {seconds:>8}  {what}")
}
