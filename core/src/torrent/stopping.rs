//! How a torrent stops: what is under way comes to its end, what was verified is saved, files are
//! deleted if that was asked for, and closed.

use super::saving::Saving;
use super::{Phase, Torrent, Upward};
use crate::machine::{FileOp, JobError};
use crate::peer::LocalReason;
use crate::session::cx::{Cx, JobOwner};
use crate::session::streams::Streams;
use crate::session::{Event, RemoveFiles};

/// What a stop waits for, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopping {
    /// Writes and hashes under way.
    Content,
    /// Resume data.
    Save,
    /// Files that are to be deleted.
    Delete,
    /// Files.
    Close,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AfterStop {
    Pause,
    Remove(RemoveFiles),
    Fail(JobError),
}

impl Torrent {
    /// Stops, whatever it is doing; afterwards does what `then` says.
    pub(crate) fn stop(&mut self, then: AfterStop, streams: &mut Streams, cx: &mut Cx) -> Upward {
        // Whoever asks for a pause is told of a failure, and nothing undoes a removal.
        let keep = matches!(
            (&self.after_stop, &then),
            (AfterStop::Remove(RemoveFiles::Delete), _)
                | (AfterStop::Remove(_), AfterStop::Pause | AfterStop::Fail(_))
                | (AfterStop::Fail(_), AfterStop::Pause)
        );
        if !keep {
            self.after_stop = then;
        }
        match self.phase {
            Phase::Stopping(_) => return Upward::Nothing,
            Phase::Paused | Phase::Failed(_) => {
                let keeps = self.after_stop != AfterStop::Remove(RemoveFiles::Delete);
                if keeps || self.fetch.is_some() {
                    return Upward::Stopped;
                }
                // Only open files can be deleted.
                self.phase = Phase::Stopping(Stopping::Content);
                self.open(cx);
                return Upward::Nothing;
            }
            // The files are open, or will be: the answer to that goes on from here.
            Phase::Opening => {
                self.phase = Phase::Stopping(Stopping::Content);
                self.close_peers(LocalReason::TorrentStopped, streams, cx);
                return Upward::Nothing;
            }
            Phase::Checking(_) | Phase::Running => {}
        }
        self.phase = Phase::Stopping(Stopping::Content);
        self.note_seeding(cx.now());
        self.trackers.stop(cx.now());
        self.close_peers(LocalReason::TorrentStopped, streams, cx);
        if self.fetch.is_some() {
            self.arm(cx);
            return self.on_closed(cx);
        }
        if let Some(trees) = &mut self.trees {
            trees.exchange.stop();
        }
        self.content.release(self.id, self.picker.layout(), cx);
        self.arm(cx);
        self.advance_stop(cx)
    }

    pub(super) fn advance_stop(&mut self, cx: &mut Cx) -> Upward {
        let Phase::Stopping(stopping) = &mut self.phase else { return Upward::Nothing };
        match stopping {
            Stopping::Content => {
                if self.content.is_busy() || self.blame.is_busy() {
                    return Upward::Nothing;
                }
                *stopping = Stopping::Save;
                // A save under way claims less than there is now; the next one follows it.
                if matches!(self.saving, Saving::Idle) {
                    self.save(cx);
                }
                self.after_save(cx);
            }
            Stopping::Save => self.after_save(cx),
            Stopping::Close | Stopping::Delete => {}
        }
        Upward::Nothing
    }

    fn after_save(&mut self, cx: &mut Cx) {
        if !matches!(self.saving, Saving::Idle) {
            return;
        }
        let unsaved = self.checked && self.unsaved > 0 && self.state.is_some();
        if unsaved && self.after_stop == AfterStop::Pause {
            self.save(cx);
        } else if self.after_stop == AfterStop::Remove(RemoveFiles::Delete) && !self.deleted {
            self.phase = Phase::Stopping(Stopping::Delete);
            self.files(FileOp::Delete, JobOwner::Delete { torrent: self.id }, cx);
        } else {
            self.phase = Phase::Stopping(Stopping::Close);
            self.files(FileOp::Close, JobOwner::Close { torrent: self.id }, cx);
        }
    }

    /// The files are deleted, or could not be.
    pub(crate) fn on_deleted(&mut self, cx: &mut Cx) -> Upward {
        self.deleted = true;
        self.phase = Phase::Stopping(Stopping::Close);
        self.files(FileOp::Close, JobOwner::Close { torrent: self.id }, cx);
        Upward::Nothing
    }

    /// The files are closed.
    pub(crate) fn on_closed(&mut self, cx: &mut Cx) -> Upward {
        self.content.clear(cx);
        let delete = self.after_stop == AfterStop::Remove(RemoveFiles::Delete) && !self.deleted;
        if delete && self.fetch.is_none() {
            // That was asked for while the files were being closed: only open ones can be deleted.
            self.phase = Phase::Stopping(Stopping::Content);
            self.open(cx);
            return Upward::Nothing;
        }
        match core::mem::replace(&mut self.after_stop, AfterStop::Pause) {
            AfterStop::Fail(error) => {
                // Somebody has to see to it first.
                self.again = false;
                cx.event(Event::TorrentFailed(self.id, error.clone()));
                self.phase = Phase::Failed(error);
            }
            AfterStop::Pause => {
                cx.event(Event::TorrentPaused(self.id));
                self.phase = Phase::Paused;
            }
            after @ AfterStop::Remove(_) => {
                self.phase = Phase::Paused;
                self.after_stop = after;
            }
        }
        Upward::Stopped
    }

    /// Storage failed: nothing more is fetched or served until somebody asks for it.
    pub(crate) fn fail(&mut self, error: JobError, streams: &mut Streams, cx: &mut Cx) -> Upward {
        if matches!(self.phase, Phase::Stopping(_)) {
            if self.after_stop == AfterStop::Pause {
                self.after_stop = AfterStop::Fail(error);
            }
            return self.advance_stop(cx);
        }
        self.stop(AfterStop::Fail(error), streams, cx)
    }
}
