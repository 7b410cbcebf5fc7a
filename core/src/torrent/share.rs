//! When a torrent has served others enough.
//!
//! [`ShareLimits`] say when; this says whether it is so. The session pauses such a torrent. Both
//! are counted over all runs that keep resume data.

use serde::{Deserialize, Serialize};

use super::{Phase, Torrent};
use crate::ids::StreamId;
use crate::session::cx::Cx;
use crate::session::streams::Streams;
use crate::time::{Duration, Instant};

/// When a torrent that is complete has served others enough: at whichever comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareLimits {
    /// Once this many thousandths of what was fetched were sent to others, of the wanted content
    /// where that is more; none: never.
    pub ratio_permille: Option<u32>,
    /// Once it served for so many seconds since it was complete; none: never.
    pub seed_time_s: Option<u32>,
}

/// Which of the [`ShareLimits`] was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareLimit {
    /// What was sent, against what was fetched.
    Ratio,
    /// How long it served.
    Time,
}

impl Torrent {
    pub(crate) fn set_share_limits(&mut self, limits: ShareLimits, cx: &mut Cx) {
        self.share = limits;
        self.note_shared(cx);
        self.arm(cx);
    }

    /// The limit that is reached, if one is.
    pub(super) fn share_limit_reached(
        &self,
        streams: &Streams,
        now: Instant,
    ) -> Option<ShareLimit> {
        if !self.serves_only() {
            return None;
        }
        if let Some(goal) = self.bytes_to_share()
            && self.uploaded >= goal
        {
            // What waits to be sent is counted already, and would be lost.
            let unsent = |id: &StreamId| streams.get(*id).map_or(0, |stream| stream.send.len());
            let unsent: usize = self.peers.iter().map(unsent).sum();
            if self.uploaded - goal >= unsent as u64 {
                return Some(ShareLimit::Ratio);
            }
        }
        self.share_until().filter(|until| now >= *until).map(|_| ShareLimit::Time)
    }

    /// When it has served long enough, if nothing else ends it before.
    pub(super) fn share_until(&self) -> Option<Instant> {
        let limit = Duration::from_secs(self.share.seed_time_s?.into());
        Some(self.seeding_since? + limit.saturating_sub(self.seeded_before))
    }

    /// How long it has served since it was complete, over all runs.
    pub(super) fn seeded(&self, now: Instant) -> Duration {
        let in_run = self.seeding_since.map(|since| now.saturating_since(since));
        self.seeded_before + in_run.unwrap_or_default()
    }

    /// Its time of serving begins, or ends.
    pub(super) fn note_seeding(&mut self, now: Instant) {
        if self.serves_only() {
            self.seeding_since.get_or_insert(now);
        } else {
            self.seeded_before = self.seeded(now);
            self.seeding_since = None;
        }
    }

    /// Blocks went to a peer, or none are to go to it any more: if that is enough, the torrent's
    /// timer says so at once.
    pub(super) fn note_shared(&mut self, cx: &mut Cx) {
        if self.has_shared() {
            self.rounds.choke = cx.now();
            self.arm(cx);
        }
    }

    /// Whether as much was handed to peers as the ratio asks for; some may wait to be sent.
    pub(super) fn has_shared(&self) -> bool {
        self.serves_only() && self.bytes_to_share().is_some_and(|goal| self.uploaded >= goal)
    }

    const fn serves_only(&self) -> bool {
        matches!(self.phase, Phase::Running) && self.finished
    }

    fn bytes_to_share(&self) -> Option<u64> {
        let permille = u64::from(self.share.ratio_permille?);
        let here = self.picker.layout().total_len() - self.picker.left();
        let of = if self.is_complete() { here } else { here.min(self.wanted_bytes) };
        Some((u128::from(self.downloaded.max(of)) * u128::from(permille) / 1000) as u64)
    }
}
