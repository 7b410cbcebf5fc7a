//! A folder that nothing leaves: every path is resolved below it, by the system if it can.
//!
//! `openat2` with `RESOLVE_BENEATH` lets links be followed as long as they stay below the folder.
//! Where the kernel lacks it, paths are walked component by component and no link is followed at
//! all. Paths are relative, joined by `/`; what they may contain was judged when the torrent was
//! loaded, and is judged again here.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use teem_core::machine::FileStat;

use super::system;

/// Times that a resolution is tried again when somebody renames folders meanwhile.
const RETRIES_MAX: usize = 16;

/// The folder of our own in a download folder; no torrent's file may be in it.
pub(super) const OWN_FOLDER: &str = ".teem";

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Opening must neither wait for the other end of a pipe nor give us a terminal.
const FILE: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

const FOLDER_MODE: Mode = Mode::from_raw_mode(0o777);

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    /// Create it; it must not exist.
    New {
        executable: bool,
    },
}

/// An open folder.
#[derive(Debug)]
pub(super) struct Root {
    folder: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens the folder, which is trusted: links on the way to it are the user's own.
    pub(super) fn open(path: &Path, create: bool) -> io::Result<Self> {
        if create {
            system::create_folder(path)?;
        }
        let folder = fs::open(path, FOLDER, Mode::empty())?;
        Ok(Self { folder, path: path.to_path_buf() })
    }

    /// Where the folder is, for people to read.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether both are the same folder.
    pub(super) fn is_same(&self, other: &Self) -> io::Result<bool> {
        let (one, other) = (fs::fstat(&self.folder)?, fs::fstat(&other.folder)?);
        Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Opens a file; it is a plain one, or this fails.
    pub(super) fn open_file(&self, path: &str, access: Access) -> io::Result<(File, Stat)> {
        check(path)?;
        let (flags, mode) = match access {
            Access::Read => (FILE | OFlags::RDONLY, 0),
            Access::Write => (FILE | OFlags::RDWR, 0),
            Access::New { executable } => {
                let mode = if executable { 0o777 } else { 0o666 };
                (FILE | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, mode)
            }
        };
        let file = self.resolve(path, flags, Mode::from_raw_mode(mode))?;
        let stat = fs::fstat(&file)?;
        plain(&stat)?;
        Ok((File::from(file), stat))
    }

    /// Opens a folder; the empty path is the root.
    pub(super) fn open_folder(&self, path: &str) -> io::Result<OwnedFd> {
        if path.is_empty() {
            return self.folder.try_clone();
        }
        check(path)?;
        Ok(self.resolve(path, FOLDER, Mode::empty())?)
    }

    /// Opens a folder, creating what is missing; `made` gets the paths of new folders.
    pub(super) fn create_folder(&self, path: &str, made: &mut Vec<String>) -> io::Result<OwnedFd> {
        match self.open_folder(path) {
            Err(failed) if failed.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let (above, name) = split(path);
        let parent = self.create_folder(above, made)?;
        match fs::mkdirat(&parent, name, FOLDER_MODE) {
            Ok(()) => made.push(path.to_owned()),
            Err(Errno::EXIST) => {}
            Err(failed) => return Err(failed.into()),
        }
        self.open_folder(path)
    }

    /// How a file is; none if it is not there.
    pub(super) fn stat(&self, path: &str) -> io::Result<Option<Stat>> {
        let (above, name) = split(path);
        check(path)?;
        let found = self.open_folder(above).and_then(|folder| {
            let stat = fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                return self.open_file(path, Access::Read).map(|(_, stat)| stat);
            }
            plain(&stat)?;
            Ok(stat)
        });
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(failed) if failed.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// Whether a link is in a file's place.
    pub(super) fn is_link(&self, path: &str) -> io::Result<bool> {
        let (above, name) = split(path);
        let stat = fs::statat(self.open_folder(above)?, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
    }

    /// Renames a file into another root, over nothing.
    pub(super) fn rename(&self, path: &str, to: &Self) -> io::Result<()> {
        check(path)?;
        let (above, name) = split(path);
        let (from, to) = (self.open_folder(above)?, to.open_folder(above)?);
        #[cfg(target_os = "linux")]
        match fs::renameat_with(&from, name, &to, name, fs::RenameFlags::NOREPLACE) {
            // The file system cannot promise that; the caller looked before.
            Err(Errno::INVAL | Errno::NOSYS) => {}
            renamed => return Ok(renamed?),
        }
        Ok(fs::renameat(&from, name, &to, name)?)
    }

    /// Removes a file, or a link in its place; whether it was there.
    pub(super) fn remove_file(&self, path: &str) -> io::Result<bool> {
        self.unlink(path, AtFlags::empty())
    }

    /// Removes a folder if it is empty; whether it is gone.
    pub(super) fn remove_folder(&self, path: &str) -> io::Result<bool> {
        match self.unlink(path, AtFlags::REMOVEDIR) {
            Err(failed)
                if matches!(
                    Errno::from_io_error(&failed),
                    Some(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::BUSY)
                ) =>
            {
                Ok(false)
            }
            removed => removed,
        }
    }

    fn unlink(&self, path: &str, flags: AtFlags) -> io::Result<bool> {
        check(path)?;
        let (above, name) = split(path);
        let removed =
            self.open_folder(above).and_then(|folder| Ok(fs::unlinkat(&folder, name, flags)?));
        match removed {
            Ok(()) => Ok(true),
            Err(failed) if failed.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(failed) => Err(failed),
        }
    }

    fn resolve(&self, path: &str, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        #[cfg(target_os = "linux")]
        if !LACKS_OPENAT2.load(Ordering::Relaxed) {
            use rustix::fs::ResolveFlags;
            let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            for _ in 0..RETRIES_MAX {
                match fs::openat2(&self.folder, path, flags, mode, how) {
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(Errno::NOSYS) => {
                        LACKS_OPENAT2.store(true, Ordering::Relaxed);
                        break;
                    }
                    // Said also by sandboxes that do not know the call.
                    Err(Errno::PERM) => break,
                    opened => return opened,
                }
            }
        }
        self.walk(path, flags, mode)
    }

    /// Resolves component by component and follows no link.
    fn walk(&self, path: &str, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let (above, name) = split(path);
        let mut folder: Option<OwnedFd> = None;
        for component in above.split('/').filter(|component| !component.is_empty()) {
            let at = folder.as_ref().map_or_else(|| self.folder.as_fd(), AsFd::as_fd);
            folder = Some(fs::openat(at, component, FOLDER | OFlags::NOFOLLOW, Mode::empty())?);
        }
        let at = folder.as_ref().map_or_else(|| self.folder.as_fd(), AsFd::as_fd);
        fs::openat(at, name, flags | OFlags::NOFOLLOW, mode)
    }
}

/// Set when the kernel refused once.
static LACKS_OPENAT2: AtomicBool = AtomicBool::new(!cfg!(target_os = "linux"));

/// The folder and the name in it.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Refuses paths that were never safe, whatever the system would make of them.
fn check(path: &str) -> io::Result<()> {
    let own = path.split('/').next().is_some_and(|first| first.eq_ignore_ascii_case(OWN_FOLDER));
    let wrong = |part: &str| matches!(part, "" | "." | "..") || part.contains('\0');
    if own || path.split('/').any(wrong) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a path for content"));
    }
    Ok(())
}

fn plain(stat: &Stat) -> io::Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file")),
    }
}

/// What a machine is told of a file.
#[expect(
    clippy::unnecessary_cast,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "the fields have other types on other platforms; lengths are not negative"
)]
pub(super) fn file_stat(stat: &Stat) -> FileStat {
    FileStat {
        len: stat.st_size as u64,
        modified: (stat.st_mtime as i64)
            .saturating_mul(1_000_000_000)
            .saturating_add(stat.st_mtime_nsec as i64),
        allocated: (stat.st_blocks as u64).saturating_mul(512),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    /// Opens a file in both ways; they must agree but for links that stay below.
    fn opened(root: &Root, path: &str) -> [rustix::io::Result<OwnedFd>; 2] {
        let flags = FILE | OFlags::RDONLY;
        [root.resolve(path, flags, Mode::empty()), root.walk(path, flags, Mode::empty())]
    }

    #[test]
    fn no_link_leads_out_of_the_folder() {
        let outer = tempfile::tempdir().expect("a folder");
        let inner = outer.path().join("inner");
        std::fs::create_dir_all(inner.join("t/real")).expect("created");
        std::fs::write(outer.path().join("secret"), b"s").expect("written");
        std::fs::write(inner.join("t/real/file"), b"f").expect("written");
        symlink(outer.path().join("secret"), inner.join("t/absolute")).expect("linked");
        symlink("../../secret", inner.join("t/relative")).expect("linked");
        symlink(outer.path(), inner.join("t/folder")).expect("linked");
        symlink("real", inner.join("t/below")).expect("linked");
        let root = Root::open(&inner, false).expect("opened");
        for path in ["t/absolute", "t/relative", "t/folder/secret"] {
            for opened in opened(&root, path) {
                opened.expect_err(path);
            }
            let failed = root.open_file(path, Access::Write).expect_err(path);
            assert_eq!(system::kind(&failed), teem_core::machine::JobErrorKind::Obstructed);
            root.stat(path).expect_err(path);
        }
        root.create_folder("t/folder/new", &mut Vec::new()).expect_err("outside");
        assert!(!outer.path().join("new").exists());
        assert!(opened(&root, "t/real/file").into_iter().all(|opened| opened.is_ok()));
        assert!(opened(&root, "t/below/file")[1].is_err());
    }

    #[test]
    fn paths_that_are_none_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::open(folder.path(), false).expect("opened");
        for path in ["", "..", "a/../b", "/etc/passwd", "a//b", ".", "a\0", ".teem/x", ".TEEM/x"] {
            root.open_file(path, Access::New { executable: false }).expect_err(path);
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0);
    }

    #[test]
    fn things_that_are_no_plain_files_are_in_the_way() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("folder")).expect("created");
        let fd = File::open(folder.path()).expect("opened");
        fs::mkfifoat(&fd, "pipe", Mode::from_raw_mode(0o600)).expect("created");
        let root = Root::open(folder.path(), false).expect("opened");
        for path in ["folder", "pipe"] {
            for access in [Access::Read, Access::Write] {
                let failed = root.open_file(path, access).expect_err(path);
                assert_eq!(system::kind(&failed), teem_core::machine::JobErrorKind::Obstructed);
            }
            root.stat(path).expect_err(path);
        }
    }

    #[test]
    fn folders_are_made_as_needed_and_reported_from_the_top() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::open(&folder.path().join("new"), true).expect("opened");
        let mut made = Vec::new();
        root.create_folder("a/b/c", &mut made).expect("created");
        assert_eq!(made, ["a", "a/b", "a/b/c"]);
        let (mut file, _) =
            root.open_file("a/b/c/f", Access::New { executable: false }).expect("created");
        file.write_all(b"abc").expect("written");
        let stat = root.stat("a/b/c/f").expect("readable").expect("there");
        assert_eq!(file_stat(&stat).len, 3);
        assert!(!root.remove_folder("a/b/c").expect("tried"));
        assert!(root.remove_file("a/b/c/f").expect("removed"));
        assert!(!root.remove_file("a/b/c/f").expect("not there"));
        assert!(root.remove_folder("a/b/c").expect("removed"));
    }
}
