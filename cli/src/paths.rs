//! Folders: as the core passes them on, and where a torrent's state lies.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use teem_core::machine::Location;

use crate::failure::Failure;

/// Our folder in a folder of downloads: resume data and locks.
pub(crate) const OWN_FOLDER: &str = ".teem";

/// A path as the core passes it on.
pub(crate) fn location(path: &Path) -> Location {
    Location(bytes::Bytes::copy_from_slice(path.as_os_str().as_bytes()))
}

/// Where the state of the torrents in `folder` lies.
pub(crate) fn state_folder(folder: &Path) -> PathBuf {
    folder.join(OWN_FOLDER)
}

/// The folder that holds the content called `name`: `path`, or the one above it.
pub(crate) fn find_folder(path: &Path, name: &str) -> Result<PathBuf, Failure> {
    let found = path.canonicalize().map_err(|error| Failure::file(path, &error))?;
    if found.is_dir() && found.join(name).symlink_metadata().is_ok() {
        return Ok(found);
    }
    // The content itself; `path` may be a link to where it is.
    let named = [found.as_path(), path]
        .into_iter()
        .find(|path| path.file_name().is_some_and(|last| last == name));
    if let Some(content) = named {
        let above = content.parent().filter(|above| !above.as_os_str().is_empty());
        return Ok(above.unwrap_or_else(|| Path::new(".")).to_owned());
    }
    let path = path.display();
    Err(Failure::Input(if found.is_dir() {
        format!(
            "{path}: there is no {name:?} in it\nname the folder that holds {name:?}; if the \
             content has another name here, rename it"
        )
    } else {
        format!("{path}: the torrent calls its content {name:?}\nrename it to that")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_folder_is_found_from_itself_and_from_the_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let above = folder.path().canonicalize().expect("it exists");
        fs::create_dir(above.join("album")).expect("made");
        fs::write(above.join("album/album"), "a").expect("written");
        fs::write(above.join("song"), "a").expect("written");
        assert_eq!(find_folder(&above, "album").expect("found"), above);
        assert_eq!(find_folder(&above.join("song"), "song").expect("found"), above);
        assert!(find_folder(&above, "other").is_err());
        assert!(find_folder(&above.join("song"), "other").is_err());
        assert!(find_folder(&above.join("none"), "none").is_err());
    }
}
