//! One instance at a time: a lock per torrent and folder, given back by the system if we crash.
//!
//! The lock is the `flock` of `<folder>/.teem/<key>.lock`. Whoever writes holds it alone; readers
//! share it. A writer removes the file as it goes, so whoever got a lock looks again whether the
//! file is still there. File systems without locks, and folders that a reader cannot write to, go
//! without.

use std::io;

use rustix::fd::OwnedFd;
use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::root::{OWN_FOLDER, Root};

/// Times that the lock is tried again when another instance removes its file meanwhile.
const RETRIES_MAX: usize = 64;

/// Longest key, in bytes.
const KEY_LEN_MAX: usize = 64;

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    folder: OwnedFd,
    /// The download folder, which holds ours.
    above: OwnedFd,
    file: OwnedFd,
    name: String,
    alone: bool,
}

impl Lock {
    /// Takes the lock of `key`; `WouldBlock` says that somebody else has it. None where there can
    /// be no lock.
    pub(super) fn take(root: &Root, key: &str, alone: bool) -> io::Result<Option<Self>> {
        let letters = key.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        if !letters || !(1..=KEY_LEN_MAX).contains(&key.len()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a key for a lock"));
        }
        for _ in 0..RETRIES_MAX {
            match Self::attempt(root, key, alone) {
                Ok(Some(lock)) => return Ok(Some(lock)),
                // Removed while we were there.
                Ok(None) | Err(Errno::NOENT | Errno::INTR) => {}
                Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => return Ok(None),
                Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) if !alone => return Ok(None),
                Err(failed) => return Err(failed.into()),
            }
        }
        Err(Errno::WOULDBLOCK.into())
    }

    fn attempt(root: &Root, key: &str, alone: bool) -> rustix::io::Result<Option<Self>> {
        match fs::mkdirat(root.as_fd(), OWN_FOLDER, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(failed) => return Err(failed),
        }
        let plain = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let folder =
            fs::openat(root.as_fd(), OWN_FOLDER, plain | OFlags::DIRECTORY, Mode::empty())?;
        let above = fs::openat(root.as_fd(), ".", plain | OFlags::DIRECTORY, Mode::empty())?;
        let name = format!("{key}.lock");
        let flags = plain | OFlags::CREATE | OFlags::RDWR;
        let file = fs::openat(&folder, &name, flags, Mode::from_raw_mode(0o666))?;
        let operation = if alone {
            FlockOperation::NonBlockingLockExclusive
        } else {
            FlockOperation::NonBlockingLockShared
        };
        fs::flock(&file, operation)?;
        let (held, there) =
            (fs::fstat(&file)?, fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW)?);
        let ours = (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino);
        Ok(ours.then_some(Self { folder, above, file, name, alone }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Only who holds it alone may remove the file, and what fails here does no harm.
        let upgraded = || fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if self.alone || upgraded() {
            let _ = fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
            let _ = fs::unlinkat(&self.above, OWN_FOLDER, AtFlags::REMOVEDIR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(root: &Root, alone: bool) -> bool {
        match Lock::take(root, "abc", alone) {
            Ok(lock) => {
                assert!(lock.is_some());
                false
            }
            Err(failed) => {
                assert_eq!(failed.kind(), io::ErrorKind::WouldBlock);
                true
            }
        }
    }

    #[test]
    fn writers_exclude_everybody_and_readers_share() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::open(folder.path(), false).expect("opened");
        let writer = Lock::take(&root, "abc", true).expect("free");
        assert!(busy(&root, true) && busy(&root, false));
        Lock::take(&root, "def", true).expect("another torrent");
        drop(writer);
        let reader = Lock::take(&root, "abc", false).expect("free");
        assert!(busy(&root, true) && !busy(&root, false));
        drop(reader);
        assert!(!busy(&root, true));
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0);
    }

    #[test]
    fn a_file_left_by_a_crash_locks_nobody_out() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join(".teem")).expect("created");
        std::fs::write(folder.path().join(".teem/abc.lock"), b"").expect("written");
        let root = Root::open(folder.path(), false).expect("opened");
        assert!(!busy(&root, true));
    }

    #[test]
    fn another_process_keeps_us_out_until_it_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join(".teem")).expect("created");
        let file = folder.path().join(".teem/abc.lock");
        let script = "exec 9>\"$1\"; flock -n 9 && echo held && read _";
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&file);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let Ok(mut other) = command.spawn() else {
            eprintln!("left out: there is no sh");
            return;
        };
        let mut said = [0; 5];
        let stdout = other.stdout.as_mut().expect("piped");
        if io::Read::read_exact(stdout, &mut said).is_err() {
            eprintln!("left out: there is no flock(1)");
            return;
        }
        let root = Root::open(folder.path(), false).expect("opened");
        assert!(busy(&root, true));
        drop(other.stdin.take());
        other.wait().expect("ended");
        assert!(!busy(&root, true));
    }

    #[test]
    fn racing_for_the_lock_never_lets_two_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = std::sync::atomic::AtomicUsize::new(0);
        let taken = std::sync::atomic::AtomicUsize::new(0);
        let order = std::sync::atomic::Ordering::SeqCst;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let root = Root::open(folder.path(), false).expect("opened");
                    for _ in 0..200 {
                        if let Ok(Some(lock)) = Lock::take(&root, "abc", true) {
                            assert_eq!(inside.fetch_add(1, order), 0);
                            taken.fetch_add(1, order);
                            inside.fetch_sub(1, order);
                            drop(lock);
                        }
                    }
                });
            }
        });
        assert!(taken.into_inner() > 0);
    }
}
