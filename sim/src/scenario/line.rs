//! What befalls packets on the lines of a group, as scenario files say it.

use serde::Deserialize;
use teem_core::rng::Rng;
use teem_core::time::Duration;

use super::units::{Bytes, Count, Range, Share, Time};
use crate::packet::MTU;
use crate::packet::line;
use crate::packet::queue::{CoDel, Discipline, Queue};

/// How lines treat packets, in `packet` fidelity; see [`line::Line`]. Each range is drawn from once
/// for the whole group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// What may wait to be sent; without it, what the link carries in 200 ms.
    pub up_queue: Option<Range<Bytes>>,
    /// What may wait to be received.
    pub down_queue: Option<Range<Bytes>>,
    /// Who is dropped before both links.
    #[serde(default)]
    pub discipline: Waiting,
    /// The largest packet, headers included, in bytes.
    pub mtu: Option<Range<Count>>,
    /// Whether larger ones vanish without a word.
    #[serde(default)]
    pub black_hole: bool,
    /// Losses in bursts; in the other fidelities their mean counts.
    pub bursts: Option<Bursts>,
    /// Packets that come twice.
    pub duplicate: Option<Range<Share>>,
    /// Packets that are overtaken.
    pub reorder: Option<Reorder>,
    /// Packets in which a bit is turned over.
    pub corrupt: Option<Range<Share>>,
}

/// Who is dropped before a link; see [`Discipline`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Waiting {
    /// Whoever finds it full.
    #[default]
    TailDrop,
    /// Whoever has waited too long, as well: RFC 8289.
    Codel,
}

/// Losses in bursts; see [`line::Bursts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bursts {
    /// How likely one begins with a packet.
    pub begin: Range<Share>,
    /// How likely it ends with a packet.
    pub end: Range<Share>,
}

/// Packets that are overtaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reorder {
    /// How many.
    pub share: Range<Share>,
    /// How much longer they take.
    pub by: Range<Time>,
}

/// The smallest MTU that IPv4 knows (RFC 791), in bytes.
const MTU_MIN: u64 = 68;

impl Line {
    /// The field that makes no sense, and what would do.
    pub(super) fn wrong(&self) -> Option<(&'static str, &'static str)> {
        let queues = [self.up_queue, self.down_queue];
        if queues.iter().flatten().any(|queue| queue.least() < MTU.into()) {
            return Some(("up_queue or down_queue", "at least one packet: \"1500 B\""));
        }
        if self.mtu.is_some_and(|mtu| mtu.least() < MTU_MIN || mtu.most() > MTU.into()) {
            return Some(("mtu", "from 68 to 1500"));
        }
        let sound = |share: &Range<Share>| share.most() <= 1_000_000;
        if let Some(bursts) = self.bursts
            && !(sound(&bursts.begin) && sound(&bursts.end) && bursts.end.least() > 0)
        {
            return Some(("bursts", "shares of at most 100 %, and an end above 0 %"));
        }
        if ![self.duplicate, self.corrupt].iter().flatten().all(sound) {
            return Some(("duplicate or corrupt", "at most 100 %"));
        }
        if self.reorder.is_some_and(|reorder| !sound(&reorder.share)) {
            return Some(("reorder.share", "at most 100 %"));
        }
        None
    }

    /// One draw for everything.
    pub(super) fn draw(&self, rng: &mut Rng) -> line::Line {
        let discipline = match self.discipline {
            Waiting::TailDrop => Discipline::TailDrop,
            Waiting::Codel => Discipline::CoDel(CoDel::DEFAULT),
        };
        let queue = |limit: Option<Range<Bytes>>, rng: &mut Rng| Queue {
            limit_bytes: limit.map(|limit| limit.draw(rng)),
            discipline,
        };
        let share = |range: Option<Range<Share>>, rng: &mut Rng| {
            range.map_or(0, |range| range.draw(rng) as u32)
        };
        line::Line {
            up: queue(self.up_queue, rng),
            down: queue(self.down_queue, rng),
            mtu: self.mtu.map_or(MTU, |mtu| mtu.draw(rng) as u16),
            black_hole: self.black_hole,
            bursts: self.bursts.map(|bursts| line::Bursts {
                begin_ppm: bursts.begin.draw(rng) as u32,
                end_ppm: bursts.end.draw(rng) as u32,
            }),
            duplicate_ppm: share(self.duplicate, rng),
            reorder_ppm: share(self.reorder.map(|reorder| reorder.share), rng),
            reorder_by: Duration::from_nanos(
                self.reorder.map_or(0, |reorder| reorder.by.draw(rng)),
            ),
            corrupt_ppm: share(self.corrupt, rng),
        }
    }
}
