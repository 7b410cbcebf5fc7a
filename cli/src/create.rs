//! `teem create`: make a torrent of a file or folder.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use teem_core::hash::Digest;
use teem_core::metainfo::create::{Content, Draft, Options};
use teem_core::tracker::url::TrackerUrl;

use crate::args::Create;
use crate::failure::Failure;
use crate::{Outcome, hashing, report, size};

/// Folders in folders at most: deeper ones are links that lead back.
const DEPTH_MAX: usize = 64;

/// A file as it was before it was hashed.
struct Found {
    path: PathBuf,
    /// Folders below the root, and the name.
    components: Vec<String>,
    len: u64,
    modified: Option<SystemTime>,
}

pub(crate) fn run(create: &Create) -> Outcome {
    for url in &create.trackers {
        TrackerUrl::parse(url)
            .map_err(|error| Failure::Input(format!("--tracker {url}: {error}")))?;
    }
    let root = create.path.canonicalize().map_err(|error| Failure::file(&create.path, &error))?;
    // The name as it was given, even if it is a link; "." and ".." have none of their own.
    let name = create.path.file_name().or_else(|| root.file_name());
    let name = name.ok_or_else(|| Failure::Input("the root folder has no name".into()))?;
    let name = text(name, &create.path)?;
    let place = Output::open(create)?;
    let mut found = Vec::new();
    let whole = fs::metadata(&root).map_err(|error| Failure::file(&root, &error))?;
    let content = if whole.is_dir() {
        walk(&root, &mut Vec::new(), &mut found)?;
        found.retain(|file| !place.is(&file.path));
        found.sort_by(|a, b| a.components.cmp(&b.components));
        if found.is_empty() {
            return Err(Failure::Input(format!("{}: there is no file in it", root.display())));
        }
        Content::Folder(found.iter().map(|file| (file.components.clone(), file.len)).collect())
    } else {
        found.push(file(root.clone(), vec![name.clone()], &whole)?);
        Content::File(whole.len())
    };
    let options = Options {
        piece_len: create.piece_size,
        format: create.format(),
        private: create.private,
        trackers: create.trackers.iter().map(|url| vec![url.clone()]).collect(),
        comment: create.comment.clone(),
        created_by: Some(concat!("teem ", env!("CARGO_PKG_VERSION")).into()),
        creation_date: Some(teem_io::clock::wall()),
        ..Options::default()
    };
    let refused = |error| Failure::Input(format!("{}: {error}", create.path.display()));
    let draft = Draft::new(name, content, options).map_err(refused)?;
    let hashes = hash(&draft, &found, create.json)?;
    let made = draft.finish(&hashes).map_err(refused)?;
    place.write(&made.to_bytes())?;
    let info = made.info();
    let (hash, layout) = (info.swarm_hash(), info.layout());
    if create.json {
        report::json::write(
            "created",
            serde_json::json!({
                "torrent": hash.to_string(), "name": info.name(),
                "info_hash_v1": info.info_hash().map(|hash| hash.to_string()),
                "info_hash_v2": info.info_hash_v2().map(|hash| hash.to_string()),
                "output": create.output.display().to_string(),
                "total_bytes": layout.content_len(), "piece_bytes": layout.piece_len(),
                "pieces": layout.piece_count(), "files": found.len(),
            }),
        );
    } else {
        let v1 = info.info_hash().map(|hash| hash.to_string());
        let v2 = info.info_hash_v2().map(|hash| hash.to_string());
        let hashes = v1.into_iter().chain(v2).collect::<Vec<_>>().join(" and ");
        report::line(&format!(
            "{}: {}, {} files, {} pieces of {}, info hash {hashes}",
            create.output.display(),
            size::show(layout.content_len()),
            found.len(),
            layout.piece_count(),
            size::show(layout.piece_len().into()),
        ));
    }
    Ok(())
}

/// Collects the files below `folder`. Links are followed; anything else than files, folders and
/// links is an error, so that nothing is left out without a word.
fn walk(folder: &Path, above: &mut Vec<String>, found: &mut Vec<Found>) -> Result<(), Failure> {
    if above.len() >= DEPTH_MAX {
        return Err(Failure::Input(format!(
            "{}: too many folders in each other; a link may lead back to a folder above it",
            folder.display()
        )));
    }
    let failed = |error: io::Error| Failure::file(folder, &error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().expect("an entry has a name");
        let name = text(name, &path)?;
        // What is known of downloads into this folder is not content.
        if above.is_empty() && name == crate::paths::OWN_FOLDER {
            continue;
        }
        let metadata = fs::metadata(&path).map_err(|error| Failure::file(&path, &error))?;
        above.push(name);
        if metadata.is_dir() {
            walk(&path, above, found)?;
        } else {
            found.push(file(path, above.clone(), &metadata)?);
        }
        above.pop();
    }
    Ok(())
}

fn file(path: PathBuf, components: Vec<String>, metadata: &Metadata) -> Result<Found, Failure> {
    if !metadata.is_file() {
        return Err(Failure::Input(format!("{}: is neither file nor folder", path.display())));
    }
    Ok(Found { path, components, len: metadata.len(), modified: metadata.modified().ok() })
}

fn text(name: &std::ffi::OsStr, path: &Path) -> Result<String, Failure> {
    let name = name.to_str().ok_or_else(|| {
        Failure::Input(format!("{}: the name is not UTF-8; rename it", path.display()))
    })?;
    Ok(name.to_owned())
}

fn hash(draft: &Draft, found: &[Found], quiet: bool) -> Result<Vec<Digest>, Failure> {
    let layout = draft.layout();
    let mut hashes = vec![Digest::Sha1([0; 20]); layout.piece_count() as usize];
    let mut failure = None;
    // Padding is nobody's file.
    let mut files = found.iter();
    let stored: Vec<Option<&Found>> =
        layout.files().map(|file| if file.is_pad() { None } else { files.next() }).collect();
    let path_of = |index: usize| stored[index].map(|file| file.path.clone()).unwrap_or_default();
    hashing::hash_pieces(
        layout,
        path_of,
        |piece| draft.hash_state(piece),
        quiet,
        |piece, hashed| match hashed {
            Ok(hash) => {
                hashes[piece.0 as usize] = hash;
                true
            }
            Err((file, error)) => {
                let path = &path_of(file);
                failure = Some(match error.kind() {
                    io::ErrorKind::UnexpectedEof => changed(path),
                    _ => Failure::file(path, &error),
                });
                false
            }
        },
    );
    if let Some(failure) = failure {
        return Err(failure);
    }
    for file in found {
        let now = fs::metadata(&file.path).map_err(|error| Failure::file(&file.path, &error))?;
        if now.len() != file.len || now.modified().ok() != file.modified {
            return Err(changed(&file.path));
        }
    }
    Ok(hashes)
}

fn changed(path: &Path) -> Failure {
    Failure::Input(format!("{}: changed while it was read; try again", path.display()))
}

/// Where the torrent goes: written beside its place first, so that there is a whole one or none.
struct Output {
    path: PathBuf,
    file: tempfile::NamedTempFile,
}

impl Output {
    /// Fails early: nobody wants to wait for hashes that cannot be written.
    fn open(create: &Create) -> Result<Self, Failure> {
        let path = create.output.clone();
        if path.is_dir() {
            return Err(Failure::Input(format!(
                "{}: is a folder; -o takes the name of the torrent file",
                path.display()
            )));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".teem-").permissions(permissions());
        let file = builder.tempfile_in(folder).map_err(|error| Failure::file(folder, &error))?;
        Ok(Self { path, file })
    }

    /// Whether `path` is the torrent itself, of now or of before.
    fn is(&self, path: &Path) -> bool {
        let same = |other: &Path| {
            other.canonicalize().is_ok_and(|other| path.canonicalize().is_ok_and(|p| p == other))
        };
        same(self.file.path()) || same(&self.path)
    }

    fn write(mut self, bytes: &[u8]) -> Outcome {
        let failed = |error: io::Error| Failure::file(&self.path, &error);
        io::Write::write_all(&mut self.file, bytes).map_err(failed)?;
        self.file.as_file().sync_all().map_err(failed)?;
        self.file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// As of any new file: the user's mask takes from it.
fn permissions() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}
