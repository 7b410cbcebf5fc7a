//! The system's paths and errors in the machine's terms.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use teem_core::machine::{JobError, JobErrorKind, Location};

use super::error;

/// A location as the system writes it.
pub(super) fn path(location: &Location) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&location.0))
}

/// Creates a folder and those above it, and makes the new names durable as far as the system
/// lets us.
pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<_> = folder.ancestors().take_while(|path| !path.exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    for parent in missing.into_iter().filter_map(Path::parent) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        drop(std::fs::File::open(parent).and_then(|parent| parent.sync_all()));
    }
    Ok(())
}

/// What a failure means, and where it happened.
pub(super) fn fail(path: &Path, failed: &io::Error) -> JobError {
    error(kind(failed), format!("{}: {failed}", path.display()))
}

/// What a failure means for a machine.
pub(super) fn kind(failed: &io::Error) -> JobErrorKind {
    let Some(errno) = Errno::from_io_error(failed) else {
        return match failed.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound => JobErrorKind::NotFound,
            // Said of names and of things that are no files.
            io::ErrorKind::InvalidInput => JobErrorKind::Obstructed,
            _ => JobErrorKind::Io,
        };
    };
    match errno {
        Errno::NOSPC | Errno::DQUOT => JobErrorKind::Full,
        Errno::NOENT => JobErrorKind::NotFound,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => JobErrorKind::PermissionDenied,
        Errno::LOOP
        | Errno::ISDIR
        | Errno::NOTDIR
        | Errno::XDEV
        | Errno::EXIST
        | Errno::NOTEMPTY
        | Errno::NAMETOOLONG => JobErrorKind::Obstructed,
        Errno::WOULDBLOCK => JobErrorKind::Busy,
        _ => JobErrorKind::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_they_mean_for_a_machine_and_where_they_happened() {
        for (errno, kind) in [
            (Errno::NOSPC, JobErrorKind::Full),
            (Errno::DQUOT, JobErrorKind::Full),
            (Errno::NOENT, JobErrorKind::NotFound),
            (Errno::ACCESS, JobErrorKind::PermissionDenied),
            (Errno::PERM, JobErrorKind::PermissionDenied),
            (Errno::ROFS, JobErrorKind::PermissionDenied),
            (Errno::LOOP, JobErrorKind::Obstructed),
            (Errno::ISDIR, JobErrorKind::Obstructed),
            (Errno::NOTDIR, JobErrorKind::Obstructed),
            (Errno::XDEV, JobErrorKind::Obstructed),
            (Errno::WOULDBLOCK, JobErrorKind::Busy),
            (Errno::IO, JobErrorKind::Io),
        ] {
            let failed = fail(Path::new("some/file"), &errno.into());
            assert_eq!(failed.kind, kind, "{errno:?}");
            assert!(failed.detail.starts_with("some/file: "), "{}", failed.detail);
        }
    }
}
