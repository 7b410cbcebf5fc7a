//! Named blobs, such as resume data: saved wholly or not at all.
//!
//! A blob is written beside its place, made durable, and renamed over the one before, so that a
//! crash at any time leaves the old one or the new one. One session owns a location; two that save
//! the same name at once are not kept apart here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use teem_core::machine::{JobError, JobErrorKind, Location};

use super::error;
use super::system::{self, fail};

/// Largest blob that is loaded, in bytes.
const BLOB_LEN_MAX: u64 = 256 << 20;

/// Longest name, in bytes.
const NAME_LEN_MAX: usize = 128;

/// Saves a blob; creates the location. See
/// [`Job::Save`](teem_core::machine::Job::Save).
pub fn save(location: &Location, name: &str, data: &[u8]) -> Result<(), JobError> {
    let folder = system::path(location);
    let place = place(&folder, name)?;
    let beside = folder.join(format!(".{name}.new"));
    system::create_folder(&folder).map_err(|failed| fail(&folder, &failed))?;
    let written = write(&beside, data).and_then(|()| fs::rename(&beside, &place));
    if let Err(failed) = written {
        drop(fs::remove_file(&beside));
        return Err(fail(&place, &failed));
    }
    let durable = File::open(&folder).and_then(|folder| folder.sync_all());
    durable.map_err(|failed| fail(&folder, &failed))
}

/// Loads a blob that was saved; none if there is none of that name.
pub fn load(location: &Location, name: &str) -> Result<Option<Vec<u8>>, JobError> {
    let place = place(&system::path(location), name)?;
    match read(&place) {
        Ok(data) => Ok(Some(data)),
        Err(failed) if failed.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(failed) => Err(fail(&place, &failed)),
    }
}

/// The file of that name, if it is a name: `[0-9a-z._-]`, no dot first.
fn place(folder: &Path, name: &str) -> Result<PathBuf, JobError> {
    let letter = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase() || b"._-".contains(&b);
    let fits = (1..=NAME_LEN_MAX).contains(&name.len()) && !name.starts_with('.');
    if fits && name.bytes().all(letter) {
        Ok(folder.join(name))
    } else {
        Err(error(JobErrorKind::Obstructed, format!("{name:?}: not a name for a blob")))
    }
}

fn write(path: &Path, data: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(data)?;
    file.sync_all()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    let len = File::open(path)?.take(BLOB_LEN_MAX + 1).read_to_end(&mut data)?;
    if len as u64 > BLOB_LEN_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too large for a blob"));
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(folder: &Path) -> Location {
        Location(folder.as_os_str().as_encoded_bytes().to_vec().into())
    }

    #[test]
    fn a_blob_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = location(&folder.path().join("new/folders"));
        assert_eq!(load(&place, "a.resume").expect("readable"), None);
        save(&place, "a.resume", b"one").expect("saved");
        save(&place, "a.resume", b"other").expect("saved");
        assert_eq!(load(&place, "a.resume").expect("readable"), Some(b"other".to_vec()));
        assert_eq!(fs::read_dir(folder.path().join("new/folders")).expect("there").count(), 1);
    }

    #[test]
    fn a_save_that_fails_leaves_the_blob_before_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = location(folder.path());
        save(&place, "a", b"one").expect("saved");
        fs::create_dir(folder.path().join(".a.new")).expect("something in the way");
        let failed = save(&place, "a", b"other").expect_err("in the way");
        assert_eq!(failed.kind, JobErrorKind::Obstructed);
        assert_eq!(load(&place, "a").expect("readable"), Some(b"one".to_vec()));
    }

    #[test]
    fn a_blob_that_was_cut_off_by_a_crash_is_never_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = location(folder.path());
        fs::write(folder.path().join(".a.new"), b"hal").expect("written");
        assert_eq!(load(&place, "a").expect("readable"), None);
        save(&place, "a", b"whole").expect("saved");
        assert_eq!(load(&place, "a").expect("readable"), Some(b"whole".to_vec()));
    }

    #[test]
    fn a_name_cannot_leave_the_location() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["", ".", "..", "../a", "a/b", "A", ".a.new", "a\0"] {
            let failed = save(&location(folder.path()), name, b"").expect_err("not a name");
            assert_eq!(failed.kind, JobErrorKind::Obstructed, "{name:?}");
        }
    }
}
