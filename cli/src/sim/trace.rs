//! Traces: what every machine of a run was told, a line each.
//!
//! The first line is a header, `teem-trace 1 SCENARIO seed=N ...`. Each other line has the event's
//! number, the time in nanoseconds, the host, the host's digest with it, and what it was told.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use teem_sim::net::Logged;
use teem_sim::run::Observer;
use teem_sim::scenario::Scenario;

use super::args::How;
use crate::Outcome;
use crate::failure::Failure;

/// What a trace begins with.
pub(super) const MAGIC: &str = "teem-trace 1";

/// A trace that is being written.
#[derive(Debug)]
pub(super) struct TraceOut {
    path: PathBuf,
    file: BufWriter<File>,
    error: Option<io::Error>,
}

impl TraceOut {
    pub(super) fn create(
        path: &Path,
        scenario: &Scenario,
        seed: u64,
        how: How,
    ) -> Result<Self, Failure> {
        let failed = |error| Failure::file(path, &error);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
        writeln!(
            file,
            "{MAGIC} {} seed={seed} fidelity={} swarm={}",
            scenario.name,
            scenario.fidelity.name(),
            how.swarm
        )
        .map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, error: None })
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> Outcome {
        let flushed = self.file.flush();
        match self.error.take().map_or(flushed, Err) {
            Ok(()) => Ok(()),
            Err(error) => Err(Failure::file(&self.path, &error)),
        }
    }
}

impl Observer for TraceOut {
    fn on_logged(&mut self, logged: &Logged) -> ControlFlow<()> {
        let Logged { number, at, host, what, digest } = logged;
        let written = writeln!(self.file, "{number} {} {host} {digest:016x} {what}", at.0);
        self.error = written.err();
        match self.error {
            None => ControlFlow::Continue(()),
            Some(_) => ControlFlow::Break(()),
        }
    }
}

/// A line of a trace, in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) at: u64,
    pub(super) host: &'a str,
    pub(super) digest: &'a str,
    pub(super) what: &'a str,
}

impl<'a> Line<'a> {
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let mut parts = line.splitn(5, ' ');
        parts.next()?.parse::<u64>().ok()?;
        let at = parts.next()?.parse().ok()?;
        Some(Self { at, host: parts.next()?, digest: parts.next()?, what: parts.next()? })
    }
}

/// A time in seconds.
pub(super) fn time(nanos: u64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}
