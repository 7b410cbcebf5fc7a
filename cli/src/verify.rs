//! `teem verify`: whether content on disk is that of a torrent.

use std::fs;

use teem_core::metainfo::Metainfo;
use teem_io::tls::TlsConfig;

use crate::args::Verify;
use crate::failure::Failure;
use crate::{Outcome, hashing, paths, report, size, source};

pub(crate) fn run(verify: &Verify) -> Outcome {
    let metainfo = source::load(&verify.torrent, &TlsConfig::new())?;
    let info = metainfo.info();
    if info.info_hash().is_none() {
        let text = "this torrent is v2 only, which is not supported yet";
        return Err(Failure::Input(text.into()));
    }
    let folder = paths::find_folder(&verify.path, info.name())?;
    let layout = info.layout();
    let path_of = |index: usize| {
        folder.join(layout.file(index).map_or_else(String::new, |file| file.path().into()))
    };
    let mut right = vec![false; layout.piece_count() as usize];
    hashing::hash_pieces(layout, path_of, verify.json, |piece, hashed| {
        right[piece.0 as usize] =
            matches!((hashed, info.piece_hash(piece)), (Ok(is), Some(should)) if is == *should);
        true
    });
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
    Err(Failure::Incomplete(format!(
        "not complete: {missing} of {} pieces are missing or wrong\n`teem get` fetches them",
        right.len()
    )))
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
