//! Captures: packets of some hosts of a run, in a file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use teem_sim::capture::Captured;
use teem_sim::run::Capturing;
use teem_sim::scenario::Scenario;

use super::args::{Capture, How};
use super::out;
use crate::failure::Failure;
use crate::{Outcome, report, size};

/// A capture that is wanted: where, and of whom.
#[derive(Debug)]
pub(super) struct CaptureOut {
    path: PathBuf,
    hosts: usize,
}

impl CaptureOut {
    /// None if there is to be none. The file is made.
    pub(super) fn create(
        capture: &Capture,
        scenario: &Scenario,
        seed: u64,
        how: How,
    ) -> Result<Option<(Self, Capturing)>, Failure> {
        let (Some(path), Some(hosts)) = (&capture.capture, &capture.capture_hosts) else {
            return Ok(None);
        };
        let there = scenario.draw(seed, how.swarm).hosts.len();
        let hosts = hosts.of(there).map_err(|host| {
            let last = there - 1;
            Failure::Input(format!("--capture-hosts: {host}: there are hosts 0 to {last}"))
        })?;
        let file = File::create(path).map_err(|error| Failure::file(path, &error))?;
        let this = Self { path: path.clone(), hosts: hosts.len() };
        let hosts = hosts.into_iter().collect();
        Ok(Some((this, Capturing { hosts, to: Box::new(file) })))
    }

    /// Tells what is in the file, or why not all is; nothing was measured if the run panicked.
    pub(super) fn tell(&self, captured: Option<io::Result<Captured>>) -> Outcome {
        let path: &Path = &self.path;
        match captured {
            Some(Ok(Captured { packets, bytes })) => {
                let (packets, bytes) = (out::count(packets), size::show(bytes));
                let hosts = match self.hosts {
                    1 => "one host".to_owned(),
                    hosts => format!("{hosts} hosts"),
                };
                report::hint(&format!(
                    "captured {packets} packets of {hosts}, {bytes}: {}",
                    path.display()
                ));
                Ok(())
            }
            Some(Err(error)) => Err(Failure::file(path, &error)),
            None => Ok(()),
        }
    }
}
