//! `teem verify`: whether content on disk is that of a torrent.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use teem_core::bitfield::Bitfield;
use teem_core::hash::Digest;
use teem_core::ids::PieceIndex;
use teem_core::metainfo::{Metainfo, merkle};
use teem_core::torrent::resume::{Resume, resume_name};
use teem_io::storage;

use crate::args::{Choice, Get, Sharing, Verify};
use crate::failure::Failure;
use crate::{Outcome, engine, get, hashing, paths, report, size, source};

pub(crate) fn run(verify: &Verify) -> Outcome {
    let metainfo = source::load(&verify.torrent, &engine::tls(&verify.network)?)?;
    let info = metainfo.info();
    let folder = paths::find_folder(&verify.path, info.name())?;
    let layout = info.layout();
    let path_of = |index: usize| {
        folder.join(layout.file(index).map_or_else(String::new, |file| file.path().into()))
    };
    let mut right = vec![false; layout.piece_count() as usize];
    let state_of = |piece| info.hash_state(piece);
    let mut found = vec![None; right.len()];
    hashing::hash_pieces(layout, path_of, state_of, verify.json, |piece, hashed| {
        if let Ok(digest) = hashed {
            right[piece.0 as usize] = is_right(&metainfo, piece, &digest).unwrap_or_default();
            found[piece.0 as usize] = digest.sha256().copied();
        }
        true
    });
    // A file whose layer the torrent lacks is right if all of it adds up.
    let level = merkle::piece_level(layout.piece_len().max(merkle::BLOCK_LEN));
    for file in metainfo.files_without_layer() {
        let pieces = file.pieces().start as usize..file.pieces().end as usize;
        let layer: Option<Vec<_>> = found[pieces.clone()].iter().copied().collect();
        let whole =
            layer.is_some_and(|layer| Some(&merkle::root(&layer, level)) == file.pieces_root());
        // Of a hybrid torrent, what its v1 half says is said already.
        let v1 = info.info_hash().is_some();
        right[pieces].iter_mut().for_each(|right| *right = whole && (*right || !v1));
    }
    let files: Vec<FileState> = layout
        .files()
        .filter(|file| !file.is_pad() && file.link_target().is_none())
        .map(|file| {
            let found = fs::metadata(folder.join(file.path()));
            let wrong = file.pieces().filter(|piece| !right[*piece as usize]).count();
            FileState {
                index: file.index(),
                path: file.path().to_owned(),
                len: file.len(),
                pieces: file.pieces().len(),
                wrong,
                state: match found {
                    Err(_) => "missing",
                    Ok(found) if !found.is_file() => "not a file",
                    Ok(found) if found.len() < file.len() => "too short",
                    Ok(_) if wrong > 0 => "wrong",
                    // Its own bytes are right; a program that must have it byte for byte may care.
                    Ok(found) if found.len() > file.len() => "longer",
                    Ok(_) => "complete",
                },
            }
        })
        .collect();
    let pieces = right.iter().filter(|right| **right).count();
    let missing = right.len() - pieces;
    let complete =
        missing == 0 && files.iter().all(|file| matches!(file.state, "complete" | "longer"));
    if verify.json {
        tell_json(&metainfo, &files, pieces, complete);
    } else {
        tell(&metainfo, &files, pieces);
    }
    if complete {
        return Ok(());
    }
    if verify.repair {
        note(&metainfo, &folder, &right)?;
        return get::run(&Get {
            torrents: vec![verify.torrent.clone()],
            output: folder,
            network: verify.network.clone(),
            peers: verify.peers.clone(),
            choice: Choice::default(),
            down: None,
            torrent_down: None,
            torrent_up: None,
            seed: false,
            sharing: Sharing::default(),
            json: verify.json,
        });
    }
    Err(Failure::Incomplete(format!(
        "not complete: {missing} of {} pieces are missing or wrong\n--repair fetches them",
        right.len()
    )))
}

/// Puts what was found in the place of what an earlier run believed.
fn note(metainfo: &Metainfo, folder: &Path, right: &[bool]) -> Outcome {
    let info = metainfo.info();
    let layout = info.layout();
    let (hash, count) = (info.swarm_hash(), layout.piece_count());
    let state = paths::location(&paths::state_folder(folder));
    let before = storage::load(&state, &resume_name(hash)).ok().flatten();
    let before =
        before.and_then(|saved| Resume::from_bytes(&saved, hash, count, layout.file_count()).ok());
    let mut have = Bitfield::new(count);
    for piece in (0..count).filter(|piece| right[*piece as usize]) {
        have.set(piece);
    }
    let files = layout.files().map(|file| {
        let stored = !file.is_pad() && file.link_target().is_none();
        let found = fs::metadata(folder.join(file.path())).ok().filter(|_| stored)?;
        Some((found.len(), found.mtime() * 1_000_000_000 + found.mtime_nsec()))
    });
    let files = files.collect();
    let resume = match before {
        Some(before) => Resume { have, files, partial: Vec::new(), completed: false, ..before },
        None => Resume {
            info_hash: hash,
            have,
            files,
            partial: Vec::new(),
            downloaded: 0,
            uploaded: 0,
            completed: false,
            seeded: teem_core::time::Duration::ZERO,
            layers: Vec::new(),
        },
    };
    storage::save(&state, &resume_name(hash), &resume.to_bytes())
        .map_err(|error| Failure::Input(format!("what was found cannot be kept: {error}")))
}

/// Whether a piece has every hash that the torrent has of it; none: it has none.
fn is_right(metainfo: &Metainfo, piece: PieceIndex, digest: &Digest) -> Option<bool> {
    let sha1 = metainfo.info().piece_hash(piece).map(|wanted| digest.sha1() == Some(wanted));
    let root = metainfo.piece_root(piece).map(|wanted| digest.sha256() == Some(wanted));
    match (sha1, root) {
        (Some(sha1), Some(root)) => Some(sha1 && root),
        (only, None) | (None, only) => only,
    }
}

struct FileState {
    index: usize,
    path: String,
    len: u64,
    pieces: usize,
    wrong: usize,
    state: &'static str,
}

fn tell(metainfo: &Metainfo, files: &[FileState], pieces: usize) {
    for file in files {
        let detail = if file.wrong > 0 {
            format!(", {} of {} pieces missing or wrong", file.wrong, file.pieces)
        } else if file.state == "longer" {
            ": more behind its end, the rest is complete".into()
        } else {
            String::new()
        };
        report::line(&format!("{:<10} {}{detail}", file.state, file.path));
    }
    let layout = metainfo.info().layout();
    report::line(&format!(
        "{}: {pieces} of {} pieces are right, {} in all",
        metainfo.info().name(),
        layout.piece_count(),
        size::show(layout.content_len()),
    ));
}

fn tell_json(metainfo: &Metainfo, files: &[FileState], pieces: usize, complete: bool) {
    let info = metainfo.info();
    let files: Vec<_> = files
        .iter()
        .map(|file| {
            serde_json::json!({
                "number": file.index + 1, "path": file.path, "bytes": file.len,
                "state": file.state, "pieces": file.pieces, "wrong_pieces": file.wrong,
            })
        })
        .collect();
    report::json::write(
        "verified",
        serde_json::json!({
            "torrent": info.swarm_hash().to_string(), "name": info.name(), "complete": complete,
            "right_pieces": pieces, "pieces": info.layout().piece_count(), "files": files,
        }),
    );
}
