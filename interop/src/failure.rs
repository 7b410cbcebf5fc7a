//! Why a cell did not pass.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What went wrong in a cell, or in setting one up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A program that the cell needs is not on this machine, or cannot run on this network.
    #[error("no {program}: {remedy}")]
    Missing {
        /// What is missing.
        program: &'static str,
        /// What to do about it, in words.
        remedy: String,
    },
    /// A file, a process or a socket of the harness itself.
    #[error("{doing}: {source}")]
    Io {
        /// What the harness was doing.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended before it had done its work.
    #[error("{program} ended early ({status})")]
    Ended {
        /// Its role and name.
        program: String,
        /// Its exit status.
        status: std::process::ExitStatus,
    },
    /// Something did not happen in time.
    #[error("{waiting_for}: not within {limit:?}")]
    TimedOut {
        /// What the harness waited for.
        waiting_for: String,
        /// How long it waited.
        limit: Duration,
    },
    /// The tracker's answer to the harness makes no sense.
    #[error("the tracker answered the harness's scrape with {answer:?}")]
    Scrape {
        /// The start of the answer.
        answer: String,
    },
    /// A downloaded file is not what the torrent holds.
    #[error("{}: {fault}", path.display())]
    Content {
        /// The file, relative to the download folder.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
}

impl Failure {
    /// Says what the harness was doing when the system refused.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
