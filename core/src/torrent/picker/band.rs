//! The pieces of one priority that nobody fetches yet, rarest first.
//!
//! ```text
//! order  [ 7 3 9 | 1 | 4 8 2 5 ]      pieces, grouped by how many peers have them
//! ends     ^0     ^3  ^4       ^8     ends[a]: where the group of availability a ends
//! ```
//!
//! A piece whose availability moves by one is swapped to the edge of its group, and the edge moves
//! over it: O(1). Within its new group it goes to a place drawn from a keyed hash, so that a swarm
//! that hears the same `have` messages does not run after the same piece. To put a piece in or
//! take it out moves one piece of each more common group.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::bits::Bits;

/// What the bands of a picker share: where each piece is, and the key of the shuffle.
#[derive(Debug)]
pub(super) struct Places {
    /// Of a piece in a band: its position there. Of an open piece: its position among those.
    pub(super) of: Vec<u32>,
    pub(super) salt: u64,
    pub(super) steps: u64,
}

impl Places {
    /// A number below `bound`, the same for the same piece, bound and salt.
    fn spot(&self, piece: u32, bound: u32) -> u32 {
        let mixed = (u64::from(piece) ^ self.salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
        ((mixed * u64::from(bound)) >> 32) as u32
    }
}

#[derive(Debug, Default)]
pub(super) struct Band {
    pub(super) order: Vec<u32>,
    pub(super) ends: VecDeque<u32>,
    pub(super) bits: Bits,
}

impl Band {
    pub(super) fn insert(&mut self, piece: u32, availability: u16, places: &mut Places) {
        if self.bits.is_unallocated() {
            self.bits = Bits::new(places.of.len() as u32);
        }
        self.bits.insert(piece);
        let a = usize::from(availability);
        let mut hole = self.order.len() as u32;
        while self.ends.len() <= a {
            self.ends.push_back(hole);
        }
        self.order.push(piece);
        for group in (a + 1..self.ends.len()).rev() {
            places.steps += 1;
            self.ends[group] += 1;
            let start = self.ends[group - 1];
            if start != hole {
                self.put(self.order[start as usize], hole, places);
                hole = start;
            }
        }
        self.ends[a] += 1;
        self.put(piece, hole, places);
        self.settle(a, hole, places);
    }

    pub(super) fn remove(&mut self, piece: u32, availability: u16, places: &mut Places) {
        self.bits.remove(piece);
        let mut hole = places.of[piece as usize];
        for group in usize::from(availability)..self.ends.len() {
            places.steps += 1;
            self.ends[group] -= 1;
            let last = self.ends[group];
            if last != hole {
                self.put(self.order[last as usize], hole, places);
                hole = last;
            }
        }
        self.order.pop();
        self.trim();
    }

    /// One more peer has `piece`, which `availability` had.
    pub(super) fn raise(&mut self, piece: u32, availability: u16, places: &mut Places) {
        let a = usize::from(availability);
        if self.ends.len() == a + 1 {
            self.ends.push_back(self.order.len() as u32);
        }
        self.ends[a] -= 1;
        let edge = self.ends[a];
        self.swap(places.of[piece as usize], edge, places);
        self.settle(a + 1, edge, places);
    }

    /// One peer fewer has `piece`, which `availability` had.
    pub(super) fn lower(&mut self, piece: u32, availability: u16, places: &mut Places) {
        let a = usize::from(availability);
        let edge = self.ends[a - 1];
        self.ends[a - 1] += 1;
        self.swap(places.of[piece as usize], edge, places);
        self.settle(a - 1, edge, places);
        self.trim();
    }

    /// One more peer has everything.
    pub(super) fn raise_all(&mut self) {
        if !self.order.is_empty() {
            self.ends.push_front(0);
        }
    }

    /// One peer that had everything is gone.
    pub(super) fn lower_all(&mut self) {
        let unavailable = self.ends.pop_front().unwrap_or(0);
        assert_eq!(unavailable, 0, "a peer that had everything had every piece");
    }

    /// Moves what is at `at` to its own place in its group.
    fn settle(&mut self, group: usize, at: u32, places: &mut Places) {
        places.steps += 1;
        let start = if group == 0 { 0 } else { self.ends[group - 1] };
        let piece = self.order[at as usize];
        let spot = start + places.spot(piece, self.ends[group] - start);
        self.swap(at, spot, places);
    }

    fn swap(&mut self, a: u32, b: u32, places: &mut Places) {
        self.order.swap(a as usize, b as usize);
        places.of[self.order[a as usize] as usize] = a;
        places.of[self.order[b as usize] as usize] = b;
    }

    fn put(&mut self, piece: u32, at: u32, places: &mut Places) {
        self.order[at as usize] = piece;
        places.of[piece as usize] = at;
    }

    /// Drops the empty groups at the common end.
    fn trim(&mut self) {
        loop {
            let len = self.ends.len();
            let before = if len < 2 { 0 } else { self.ends[len - 2] };
            if self.ends.back().is_none_or(|end| *end != before) {
                return;
            }
            self.ends.pop_back();
        }
    }
}
