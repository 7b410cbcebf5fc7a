//! Why a command ends without success, what to do about it, and its exit code.

use std::path::Path;

use teem_core::machine::{JobError, JobErrorKind};

/// Why a command did not succeed. Each text says what to do next where there is something to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command ran, and its answer is no: a download failed, content is not complete.
    #[error("{0}")]
    Incomplete(String),
    /// What was asked for does not make sense, or what it names cannot be read.
    #[error("{0}")]
    Input(String),
    /// Another instance works on the same content.
    #[error("{0}")]
    Busy(String),
    /// A signal ended it.
    #[error("{0}")]
    Interrupted(String, Signal),
}

/// A signal that asks us to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// `SIGTERM`.
    Terminate,
}

impl Signal {
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

impl Failure {
    /// What the program returns; the table is in the long help.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Incomplete(_) => 1,
            Self::Input(_) => 2,
            Self::Busy(_) => 3,
            Self::Interrupted(_, signal) => signal.exit_code(),
        }
    }

    /// A file or folder that was named cannot be used.
    pub(crate) fn file(path: &Path, error: &std::io::Error) -> Self {
        Self::Input(format!("{}: {}", path.display(), plain(error)))
    }

    /// Storage failed.
    pub(crate) fn storage(name: &str, error: &JobError) -> Self {
        let text = storage_text(name, error);
        match error.kind {
            JobErrorKind::Busy => Self::Busy(text),
            _ => Self::Incomplete(text),
        }
    }
}

/// What went wrong with a torrent's storage, and what to do.
pub(crate) fn storage_text(name: &str, error: &JobError) -> String {
    let hint = match error.kind {
        JobErrorKind::Busy => {
            "another teem works on this torrent in this folder; wait for it or stop it, or choose another folder"
        }
        JobErrorKind::Full => "make room on the disk, then run the same command again to go on",
        JobErrorKind::PermissionDenied => {
            "choose a folder that you may write to, or change its permissions"
        }
        JobErrorKind::Obstructed => "move what is in the way, then run the same command again",
        JobErrorKind::NotFound => {
            "look whether the folder is there; then run the same command again to go on"
        }
        _ => "run the same command again to go on",
    };
    format!("{}\n{hint}", storage_fault(name, error))
}

/// What is wrong with the storage of a torrent, for those who need not do anything yet.
pub(crate) fn storage_fault(name: &str, error: &JobError) -> String {
    let detail = error.detail.split(" (os error").next().unwrap_or(&error.detail);
    format!("{name}: {}: {detail}", error.kind)
}

/// An error of the system without its number.
pub(crate) fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or folder".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::IsADirectory => "is a folder".into(),
        std::io::ErrorKind::NotADirectory => "is not a folder".into(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_owned()
        }
    }
}
