//! Connections: two ends, and what is on its way between them.
//!
//! ```text
//!   machine --poll_send--> waiting --leaves--> travelling --arrives--> inbox --credit--> machine
//!                          (flow only: shares links)  (takes the delay)  (unread)
//! ```
//!
//! A connection on which nothing moves is two [`End`]s and nothing else: a [`Pipe`] is borrowed
//! from a pool while there is something in it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::{Index, IndexMut};

use bytes::Bytes;
use smallvec::SmallVec;
use teem_core::ids::{ListenerId, StreamId};
use teem_core::machine::StreamError;

use crate::flow::FlowId;
use crate::flow::progress::Progress;
use crate::time::Nanos;

/// Two ends: the one that dialled first.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ends: [End; 2],
    /// Time from one end to the other, in nanoseconds.
    pub(super) delay: [u64; 2],
    /// While it is being made.
    pub(super) dial: Option<Box<Dial>>,
}

/// A connection in the making.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) tries: u32,
    /// What the other end said, once the call was heard there.
    pub(super) answer: Option<Result<ListenerId, StreamError>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) host: u32,
    /// None before it was accepted, and once it is dead.
    pub(super) stream: Option<StreamId>,
    /// What this end sends; [`NO_PIPE`] while nothing is in it.
    pub(super) pipe: u32,
    pub(super) up: bool,
    pub(super) wants_write: bool,
    /// The other side has finished, and everything before that was read.
    pub(super) told_finished: bool,
    /// Its host crashed or moved away: whatever comes is not even refused.
    pub(super) gone: bool,
}

/// See [`End::pipe`].
pub(super) const NO_PIPE: u32 = u32::MAX;

impl End {
    pub(super) const fn new(host: u32, stream: Option<StreamId>) -> Self {
        Self {
            host,
            stream,
            pipe: NO_PIPE,
            up: false,
            wants_write: false,
            told_finished: false,
            gone: false,
        }
    }

    pub(super) const fn is_dead(&self) -> bool {
        self.stream.is_none()
    }
}

/// What travels together.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) parts: SmallVec<[Bytes; 2]>,
    pub(super) len: u32,
    /// When it arrives, once it travels; [`Nanos::NEVER`] while a partition holds it.
    pub(super) at: Nanos,
    pub(super) mark: Mark,
}

/// What a parcel means beyond its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Nothing,
    /// The sender will send no more.
    Finish,
    /// The connection is dead.
    Reset,
}

/// One direction of a connection, while something is in it.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// Handed over by the sender, not on its way yet.
    pub(super) waiting: VecDeque<Parcel>,
    pub(super) waiting_bytes: usize,
    pub(super) travelling: VecDeque<Parcel>,
    pub(super) inbox: VecDeque<Bytes>,
    pub(super) inbox_bytes: usize,
    /// The sender has finished, after what is in the inbox.
    pub(super) finished: bool,
    /// Bytes that the sender does not know to be read.
    pub(super) unacknowledged: usize,
    /// When it will know, and of how many.
    pub(super) acknowledged: VecDeque<(Nanos, u32)>,
    /// The time of the entry for [`What::Room`](super::agenda::What::Room) that counts.
    pub(super) room_at: Option<Nanos>,
    /// Its share of the links.
    pub(super) flow: Option<Flow>,
}

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) id: FlowId,
    pub(super) progress: Progress,
    /// Bytes that have left when the first that waits has.
    pub(super) goal: u64,
    /// The time of the entry for [`What::Left`](super::agenda::What::Left) that counts.
    pub(super) left_at: Nanos,
}

impl Pipe {
    /// Bytes in it, wherever.
    pub(super) fn bytes(&self) -> u64 {
        let travelling: u64 = self.travelling.iter().map(|parcel| u64::from(parcel.len)).sum();
        (self.waiting_bytes + self.inbox_bytes) as u64 + travelling
    }

    /// Whether it can go back to the pool.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
            && self.travelling.is_empty()
            && self.inbox.is_empty()
            && !self.finished
            && self.flow.is_none()
            && self.room_at.is_none()
    }

    /// Forgets what is in it, which keeps its memory for others. Returns how many bytes that were.
    pub(super) fn clear(&mut self) -> u64 {
        let bytes = self.bytes();
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.travelling.clear();
        self.inbox.clear();
        self.inbox_bytes = 0;
        self.finished = false;
        self.unacknowledged = 0;
        self.acknowledged.clear();
        self.room_at = None;
        self.flow = None;
        bytes
    }

    /// Reads what is needed when something happens to it.
    pub(super) fn fetch(&self) -> u64 {
        let queues = self.travelling.len() ^ self.waiting.len() ^ self.acknowledged.len();
        (queues ^ self.inbox_bytes) as u64 ^ u64::from(self.flow.is_some())
    }

    /// Reads where that leads.
    pub(super) fn fetch_on(&self) -> u64 {
        let travelling = self.travelling.front().map_or(0, |first| {
            let part = first.parts.first().and_then(|part| part.first());
            first.at.0 ^ u64::from(part.copied().unwrap_or_default())
        });
        let waiting = self.waiting.front().map_or(0, |first| u64::from(first.len));
        let acknowledged = self.acknowledged.front().map_or(0, |first| first.0.0);
        travelling ^ waiting ^ acknowledged ^ self.inbox.capacity() as u64
    }

    /// Takes in what the sender has heard of by now.
    pub(super) fn acknowledge(&mut self, now: Nanos) {
        while let Some((at, count)) = self.acknowledged.front()
            && *at <= now
        {
            self.unacknowledged -= *count as usize;
            self.acknowledged.pop_front();
        }
    }
}

/// All pipes, by the numbers that ends know them by.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    slots: Vec<Option<Box<Pipe>>>,
    free: Vec<u32>,
    /// Empty ones that keep their memory for the next.
    #[expect(clippy::vec_box, reason = "they move between here and the slots")]
    spare: Vec<Box<Pipe>>,
}

/// Empty pipes that are kept: enough that a busy network allocates none, and nothing beside the
/// peak of thousands of hosts that all call one another.
const SPARE_MAX: usize = 64;

impl Pipes {
    /// An empty pipe.
    pub(super) fn take(&mut self) -> u32 {
        let pipe = self.spare.pop().unwrap_or_default();
        if let Some(number) = self.free.pop() {
            self.slots[number as usize] = Some(pipe);
            return number;
        }
        self.slots.push(Some(pipe));
        self.slots.len() as u32 - 1
    }

    /// A pipe in which nothing moves is not needed any more.
    pub(super) fn give_back(&mut self, number: u32) {
        let Some(mut pipe) = self.slots[number as usize].take() else { return };
        self.free.push(number);
        if self.spare.len() < SPARE_MAX {
            pipe.clear();
            self.spare.push(pipe);
        }
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Pipe> {
        self.slots.get_mut(number as usize)?.as_deref_mut()
    }

    /// Bytes in all of them.
    pub(super) fn bytes(&self) -> u64 {
        self.slots.iter().flatten().map(|pipe| pipe.bytes()).sum()
    }

    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl Index<u32> for Pipes {
    type Output = Pipe;

    fn index(&self, number: u32) -> &Pipe {
        self.slots[number as usize].as_ref().expect("an end's pipe is in use")
    }
}

impl IndexMut<u32> for Pipes {
    fn index_mut(&mut self, number: u32) -> &mut Pipe {
        self.slots[number as usize].as_mut().expect("an end's pipe is in use")
    }
}

impl Parcel {
    pub(super) fn mark(mark: Mark) -> Self {
        Self { parts: SmallVec::new(), len: 0, at: Nanos::NEVER, mark }
    }
}

/// Bytes of a part that travel together at most, so that a large one arrives bit by bit.
const PART_MAX: usize = 16 * 1024;

/// Cuts what a machine sent into parcels of at least `least` bytes, but for the last.
pub(super) fn parcels(
    parts: impl Iterator<Item = Bytes>,
    least: u32,
    mut each: impl FnMut(Parcel),
) {
    let mut parcel = Parcel::mark(Mark::Nothing);
    for mut part in parts {
        while !part.is_empty() {
            let some = part.split_to(part.len().min(PART_MAX));
            parcel.len += some.len() as u32;
            parcel.parts.push(some);
            if parcel.len >= least {
                each(std::mem::replace(&mut parcel, Parcel::mark(Mark::Nothing)));
            }
        }
    }
    if parcel.len > 0 {
        each(parcel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Connection>() <= 72, "{}", size_of::<Connection>());
    }

    #[test]
    fn a_header_travels_with_its_block() {
        let parts = [13, 16_384, 13, 16_384, 17].map(|len| Bytes::from(vec![0; len]));
        let mut lens = Vec::new();
        parcels(parts.into_iter(), 1_024, |parcel| lens.push(parcel.len));
        assert_eq!(lens, [16_397, 16_397, 17]);
    }
}
