//! Saving resume data: flush first, and then only what was durable at that flush.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use super::resume::{Resume, resume_name};
use super::{Phase, SAVE_EVERY, Torrent, Upward, picker};
use crate::bitfield::Bitfield;
use crate::machine::{FileOp, FileStat, Job, JobError, JobErrorKind};
use crate::session::Event;
use crate::session::cx::{Cx, JobOwner};
use crate::session::streams::Streams;

/// How far the saving of resume data is.
#[derive(Debug)]
pub(super) enum Saving {
    Idle,
    /// Being made durable: what will be claimed then.
    Flushing(Bitfield, Vec<picker::BlockId>),
    Writing,
}

impl Torrent {
    /// Saves resume data, once what it claims is durable.
    pub(crate) fn save(&mut self, cx: &mut Cx) {
        self.rounds.save = cx.now() + SAVE_EVERY;
        // What is kept nowhere is still of use when a pause ends.
        let of_use = self.state.is_some() || matches!(self.phase, Phase::Stopping(_));
        if !self.checked || !of_use || !matches!(self.saving, Saving::Idle) {
            return;
        }
        self.unsaved = 0;
        let have = self.pieces_here();
        let partial = self
            .content
            .partial()
            .flat_map(|(piece, blocks)| {
                blocks.into_iter().map(move |block| picker::BlockId { piece, block })
            })
            .collect();
        self.saving = Saving::Flushing(have, partial);
        #[cfg(feature = "planted-bugs")]
        let flushes = !cx.config.has_planted(crate::session::PlantedBug::ResumeClaimsTooMuch);
        #[cfg(not(feature = "planted-bugs"))]
        let flushes = true;
        if self.seed_only || !flushes {
            self.files(FileOp::Check, JobOwner::Flush { torrent: self.id }, cx);
        } else {
            self.files(FileOp::Flush, JobOwner::Flush { torrent: self.id }, cx);
        }
    }

    /// What is to be claimed is durable, in files of this size and age.
    pub(crate) fn on_flushed(
        &mut self,
        files: Result<Box<[Option<FileStat>]>, JobError>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Upward {
        let Saving::Flushing(have, partial) = core::mem::replace(&mut self.saving, Saving::Idle)
        else {
            return Upward::Nothing;
        };
        let files = files.and_then(|files| match self.vanished(&have, &files) {
            None => Ok(files),
            Some(path) => {
                let detail = format!("{path} is gone, with content that was written to it").into();
                Err(JobError { kind: JobErrorKind::NotFound, detail })
            }
        });
        match files {
            Ok(files) => {
                let resume = Resume {
                    info_hash: self.hash,
                    have,
                    files: files.iter().map(|file| file.map(|f| (f.len, f.modified))).collect(),
                    partial,
                    downloaded: self.downloaded,
                    uploaded: self.uploaded,
                    completed: self.is_complete(),
                    seeded: self.seeded(cx.now()),
                    layers: self.trees.iter().flat_map(|trees| trees.fetched()).collect(),
                };
                let data = resume.to_bytes().into();
                self.resume = Some(resume);
                let Some(location) = self.state.clone() else { return self.advance_stop(cx) };
                let name = resume_name(self.hash);
                self.saving = Saving::Writing;
                let job = Job::Save { location, name, data };
                cx.jobs.submit(JobOwner::Save { torrent: self.id }, job, &mut cx.out);
                Upward::Nothing
            }
            Err(error) => {
                // What the system failed to write once it does not try again: nothing that is not
                // checked anew may be claimed.
                self.checked = false;
                self.resume = None;
                let gone = error.kind == JobErrorKind::NotFound;
                if matches!(self.phase, Phase::Running) && (gone || !self.seed_only) {
                    return self.fail(error, streams, cx);
                }
                cx.event(Event::SaveFailed(self.id, error));
                self.advance_stop(cx)
            }
        }
    }

    /// A file that is not there although pieces in it are claimed: somebody removed it.
    fn vanished(&self, have: &Bitfield, files: &[Option<FileStat>]) -> Option<&str> {
        let layout = self.metainfo.info().layout();
        let gone = layout.files().zip(files).find(|(file, stat)| {
            stat.is_none()
                && file.len() > 0
                && !file.is_pad()
                && file.link_target().is_none()
                && file.pieces().any(|piece| have.get(piece))
        });
        gone.map(|(file, _)| file.path())
    }

    /// Resume data is saved, or not.
    pub(crate) fn on_saved(&mut self, result: Result<(), JobError>, cx: &mut Cx) -> Upward {
        self.saving = Saving::Idle;
        if let Err(error) = result {
            cx.event(Event::SaveFailed(self.id, error));
            self.unsaved += u64::from(self.is_running());
        }
        self.arm(cx);
        self.advance_stop(cx)
    }
}
