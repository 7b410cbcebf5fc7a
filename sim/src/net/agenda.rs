//! What happens when: a heap keyed by time, and by order of scheduling within one nanosecond.
//!
//! Entries are small and are never taken back. Whoever schedules remembers the time it counts on,
//! and ignores entries of other times (they were moved) when they come up.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;

use teem_core::ids::Key;

use crate::time::Nanos;

/// One connection, and which of its uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionId {
    slot: u32,
    generation: NonZeroU32,
}

impl Key for ConnectionId {
    fn from_parts(slot: u32, generation: u32) -> Self {
        Self { slot, generation: NonZeroU32::new(generation).unwrap_or(NonZeroU32::MIN) }
    }

    fn slot(self) -> u32 {
        self.slot
    }

    fn generation(self) -> u32 {
        self.generation.get()
    }
}

/// Which end of a connection: 0 dialled.
pub(super) type Side = u8;

/// Something to do at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A host's machine may be due.
    Timer(u32),
    /// A job of a host may be done.
    Job(u32),
    /// A call arrives at the other end, or would have.
    Dial(ConnectionId),
    /// The answer to it arrives.
    Answer(ConnectionId),
    /// What this side sent arrives.
    Arrive(ConnectionId, Side),
    /// Bytes of this side have left for the network.
    Left(ConnectionId, Side),
    /// This side hears that there is room again.
    Room(ConnectionId, Side),
    /// A datagram arrives, by its number.
    Datagram(u32),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Nanos,
    number: u64,
    what: What,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The earliest is the greatest, as the heap wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Entry>,
    scheduled: u64,
}

impl Agenda {
    pub(super) fn push(&mut self, at: Nanos, what: What) {
        self.scheduled += 1;
        self.heap.push(Entry { at, number: self.scheduled, what });
    }

    /// When something happens next.
    pub(super) fn next(&self) -> Option<Nanos> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// The next thing that is due, and when it was.
    pub(super) fn pop(&mut self, now: Nanos) -> Option<(Nanos, What)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_happen_by_time_and_then_in_the_order_they_were_scheduled() {
        let mut agenda = Agenda::default();
        for (at, host) in [(5, 0), (3, 1), (5, 2), (3, 3), (4, 4)] {
            agenda.push(Nanos(at), What::Timer(host));
        }
        let mut hosts = Vec::new();
        while let Some((_, What::Timer(host))) = agenda.pop(Nanos(5)) {
            hosts.push(host);
        }
        assert_eq!(hosts, [1, 3, 4, 0, 2]);
    }

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 32, "{}", size_of::<Entry>());
    }
}
