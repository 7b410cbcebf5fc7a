//! The program: torrents, trackers and simulated swarms from the command line.
//!
//! Every protocol is in `teem-core`, every socket in `teem-io-smol`, every file in `teem-io`. What
//! is here reads arguments, starts them, and tells people and programs what happens.

mod args;
mod choose;
mod create;
mod demo;
mod engine;
mod failure;
mod get;
mod hashing;
mod paths;
mod progress;
mod report;
mod seed;
mod show;
mod signals;
mod sim;
mod size;
mod source;
mod track;
mod verify;

use std::process::ExitCode;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::level_filters::LevelFilter;

use crate::args::{Cli, Command};
use crate::failure::Failure;

/// Files and connections that are never too few.
const DESCRIPTORS_MAX: u64 = 1 << 16;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli);
    raise_descriptor_limit();
    let outcome = match &cli.command {
        Command::Get(get) => get::run(get),
        Command::Seed(seed) => seed::run(seed),
        Command::Create(create) => create::run(create),
        Command::Show(show) => show::run(show),
        Command::Verify(verify) => verify::run(verify),
        Command::Track(track) => track::run(track),
        Command::Demo(demo) => demo::run(demo),
        Command::Sim(sim) => sim::run(sim),
        Command::Suite(suite) => sim::suite(suite),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report::failure(&failure, cli.command.json());
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Has the system let us have more files and connections open at a time: the usual limit is one for
/// programs that use `select`, and each may raise its own.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(DESCRIPTORS_MAX, |most| most.min(DESCRIPTORS_MAX));
    if limit.current.is_some_and(|current| current < most) {
        // If it may not be, it stays as it was.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limit });
    }
}

fn start_log(cli: &Cli) {
    let level = cli.log.unwrap_or(match cli.verbose {
        0 => LevelFilter::OFF,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    });
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(progress::Above::default)
        .init();
}

/// The outcome of a command.
type Outcome = Result<(), Failure>;
