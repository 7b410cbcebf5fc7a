//! Taking files to another folder: all of them, or none.
//!
//! Files are renamed; where that is another device, they are copied with their holes, times and
//! modes, made durable, and removed only when all have arrived.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{self, Mode, SeekFrom, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::root::{Access, Root, split};

/// Copied at a time, in bytes.
const COPY_STEP: usize = 1 << 20;

/// How a file got to the new place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Renamed,
    Copied,
}

/// Takes those of `paths` that exist from one root to another. On failure, everything is where it
/// was, and the path that failed is named.
pub(super) fn relocate<'a>(
    from: &Root,
    to: &Root,
    paths: impl Iterator<Item = &'a str>,
) -> Result<(), (&'a str, io::Error)> {
    let (mut moved, mut made) = (Vec::new(), Vec::new());
    for path in paths {
        match relocate_one(from, to, path, &mut made) {
            Ok(Some(how)) => moved.push((path, how)),
            Ok(None) => {}
            Err(failed) => {
                undo(from, to, &moved, &made);
                return Err((path, failed));
            }
        }
    }
    for (path, how) in moved {
        if how == How::Copied {
            // The content has arrived; what cannot be removed here is only in excess.
            let _ = from.remove_file(path);
        }
    }
    Ok(())
}

fn undo(from: &Root, to: &Root, moved: &[(&str, How)], made: &[String]) {
    for (path, how) in moved.iter().rev() {
        // The first failure is the one that is told.
        let _ = match how {
            How::Renamed => to.rename(path, from),
            How::Copied => to.remove_file(path).map(drop),
        };
    }
    for path in made.iter().rev() {
        let _ = to.remove_folder(path);
    }
}

fn relocate_one(
    from: &Root,
    to: &Root,
    path: &str,
    made: &mut Vec<String>,
) -> io::Result<Option<How>> {
    let Some(stat) = from.stat(path)? else { return Ok(None) };
    if to.stat(path)?.is_some() {
        return Err(Errno::EXIST.into());
    }
    to.create_folder(split(path).0, made)?;
    if !from.is_link(path)? {
        match from.rename(path, to) {
            Err(failed) if Errno::from_io_error(&failed) == Some(Errno::XDEV) => {}
            renamed => return renamed.map(|()| Some(How::Renamed)),
        }
    }
    let (source, _) = from.open_file(path, Access::Read)?;
    let (target, _) = to.open_file(path, Access::New { executable: false })?;
    if let Err(failed) = copy(&source, &target, &stat) {
        let _ = to.remove_file(path);
        return Err(failed);
    }
    Ok(Some(How::Copied))
}

/// Copies content, mode and times, and makes them durable.
#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the fields have other types on other platforms; lengths are not negative"
)]
fn copy(from: &File, to: &File, stat: &Stat) -> io::Result<()> {
    let len = stat.st_size as u64;
    to.set_len(len)?;
    let (mut at, mut buf) = (0, vec![0; COPY_STEP]);
    while at < len {
        let (start, end) = match fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => (start, fs::seek(from, SeekFrom::Hole(start))?),
            Err(Errno::NXIO) => break,
            // The file system does not know where its holes are.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => (at, len),
            Err(failed) => return Err(failed.into()),
        };
        at = start;
        let end = end.min(len);
        while at < end {
            let now = (end - at).min(COPY_STEP as u64) as usize;
            from.read_exact_at(&mut buf[..now], at)?;
            to.write_all_at(&buf[..now], at)?;
            at += now as u64;
        }
    }
    fs::fchmod(to, Mode::from_raw_mode(stat.st_mode as _))?;
    let time = |sec, nsec| Timespec { tv_sec: sec, tv_nsec: nsec };
    fs::futimens(
        to,
        &Timestamps {
            last_access: time(stat.st_atime as _, stat.st_atime_nsec as _),
            last_modification: time(stat.st_mtime as _, stat.st_mtime_nsec as _),
        },
    )?;
    to.sync_all()
}
