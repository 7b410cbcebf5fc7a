//! A disk without room: what is here goes on being served, and nothing is fetched until there is
//! room again.
//!
//! The disk is asked now and then whether there is. What it says is not taken for granted (a quota
//! may say otherwise): only a write that succeeds ends it, and while none does, it is asked less
//! and less often.

use super::{Phase, REFILL_AFTER, Torrent, Upward};
use crate::machine::{FileOp, JobError, JobErrorKind};
use crate::session::Event;
use crate::session::cx::{Cx, JobOwner};
use crate::session::streams::Streams;
use crate::time::{Duration, Instant};

/// How long after a write found no room the disk is asked again.
const LOOK_AFTER: Duration = Duration::from_secs(5);

/// How long at most, however often there was none.
const LOOK_AFTER_MAX: Duration = Duration::from_mins(2);

/// How much room is worth going on for, in bytes, unless less is missing.
const WORTHWHILE: u64 = 32 * 1024 * 1024;

/// Whether the disk takes more.
#[derive(Debug, Default)]
pub(super) enum Room {
    #[default]
    Enough,
    /// It does not; it is asked again at this time.
    Full { look: Instant, wait: Duration },
    /// It is being asked.
    Looking { wait: Duration },
    /// It says that it does, and nothing was written yet.
    Trying { wait: Duration },
}

impl Room {
    /// Whether anything is to be fetched.
    pub(super) const fn is_there(&self) -> bool {
        matches!(self, Self::Enough | Self::Trying { .. })
    }

    /// When to ask the disk.
    pub(super) const fn look_at(&self) -> Option<Instant> {
        match self {
            Self::Full { look, .. } => Some(*look),
            Self::Enough | Self::Looking { .. } | Self::Trying { .. } => None,
        }
    }
}

impl Torrent {
    /// A write found no room. What was to be written is lost and will be fetched again.
    pub(super) fn on_full(&mut self, error: JobError, cx: &mut Cx) {
        let wait = match self.room {
            Room::Full { .. } | Room::Looking { .. } => return,
            Room::Trying { wait } => (wait * 2).min(LOOK_AFTER_MAX),
            Room::Enough => {
                if matches!(self.phase, Phase::Running) {
                    cx.event(Event::DiskFull(self.id, error));
                }
                LOOK_AFTER
            }
        };
        self.room = Room::Full { look: cx.now() + wait, wait };
        self.arm(cx);
    }

    /// A write found room.
    pub(super) fn on_room_used(&mut self, cx: &mut Cx) {
        if matches!(self.room, Room::Trying { .. }) {
            self.room = Room::Enough;
            cx.event(Event::DiskHasRoom(self.id));
        }
    }

    /// Asks the disk whether it has room again.
    pub(super) fn look_for_room(&mut self, cx: &mut Cx) {
        let Room::Full { wait, .. } = self.room else { return };
        self.room = Room::Looking { wait };
        let bytes = self.picker.wanted_left().min(WORTHWHILE);
        self.files(FileOp::Room { bytes }, JobOwner::Room { torrent: self.id }, cx);
    }

    /// The disk has room again, or has not.
    pub(crate) fn on_room(
        &mut self,
        result: Result<(), JobError>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Upward {
        let Room::Looking { wait } = self.room else { return Upward::Nothing };
        match result {
            Ok(()) => {
                self.room = Room::Trying { wait };
                self.rounds.refill = self.rounds.refill.min(cx.now() + REFILL_AFTER);
            }
            Err(error)
                if matches!(error.kind, JobErrorKind::Full | JobErrorKind::Cancelled)
                    || !self.is_running() =>
            {
                self.room = Room::Full { look: cx.now() + wait, wait };
            }
            Err(error) => return self.fail(error, streams, cx),
        }
        self.arm(cx);
        Upward::Nothing
    }
}
