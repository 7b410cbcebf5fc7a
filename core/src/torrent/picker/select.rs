//! Choosing blocks for a peer.

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::bits::Pieces;
use super::{BlockId, Candidate, Order, Picker, PieceState, Priority};
use crate::ids::{PieceIndex, StreamId};

/// A newcomer's first pieces are random rather than rare: rare ones are slow to get, and it has
/// nothing to trade (BEP 3 practice).
pub const RANDOM_FIRST_PIECES: u32 = 4;

/// How many places to try for a random piece.
const RANDOM_TRIES: u32 = 16;

/// How many of the rarest pieces of a priority to look at before the peer's words are searched
/// instead.
pub const SCAN_MAX: u32 = 512;

/// How many pieces of the peer's to compare then. A peer with more, none of which is among the
/// [`SCAN_MAX`] rarest, gets the rarest of a sample.
pub const SAMPLE_MAX: u32 = 4096;

/// The most pieces that one fast peer has under way side by side.
pub const LANES_MAX: usize = 16;

/// The most peers of a [`Standing`] or better that are asked for the same block.
pub const END_GAME_REQUESTS_MAX: usize = 3;

/// How a peer is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PickOptions {
    /// Zero for a slow peer: it helps with pieces that others began, all in order. For a fast one,
    /// how many whole pieces it fetches side by side (8 to 16 keep a parallel hasher busy), at
    /// most [`LANES_MAX`].
    pub lanes: usize,
    /// How many blocks of a piece in a row, for a fast peer, before the next of its pieces; best
    /// what the disk writes at once. Zero counts as one.
    pub run: u32,
    /// The peer is under suspicion: it fetches whole pieces that nobody else takes part in, so
    /// that a wrong hash is its own.
    pub exclusive: bool,
    /// Begin with the most common piece: for peers that should not sit on a rare one.
    pub common_first: bool,
    /// How far the peer is to be relied on. What it was when it was asked counts as long as the
    /// request.
    pub standing: Standing,
}

/// How far a peer is to be relied on for the blocks that it is asked for.
///
/// In the end game a peer is asked for a block only while fewer than [`END_GAME_REQUESTS_MAX`] of
/// its standing or better are: nobody takes a place from somebody who is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// What it was last asked for it did not deliver.
    Doubtful,
    /// It was not asked for anything yet, or not long enough ago.
    New,
    /// It delivers.
    Proven,
}

impl Default for PickOptions {
    /// A slow peer of good repute.
    fn default() -> Self {
        Self {
            lanes: 0,
            run: 16,
            exclusive: false,
            common_first: false,
            standing: Standing::Proven,
        }
    }
}

impl PickOptions {
    /// A fast peer that fetches `lanes` whole pieces side by side.
    pub fn fast(lanes: usize) -> Self {
        Self { lanes: lanes.min(LANES_MAX), ..Self::default() }
    }
}

/// What an open piece with free blocks is to the peer that picks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Its own; or, of a slow peer, one that nobody else was asked for since.
    Own,
    /// Nobody's at all.
    Orphan,
    /// Everybody's.
    Shared,
    /// Another fast peer's.
    Foreign,
}

/// An open piece with free blocks that the peer has, in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Partial {
    /// Seven minus the priority.
    below_top: u8,
    class: Class,
    key: u64,
    piece: u32,
}

/// The search for new pieces of one priority, which goes on where it stopped.
struct Search<'a> {
    peer_has: Pieces<'a>,
    priority: u8,
    common_first: bool,
    /// What the peer would rather send, where rarity does not decide.
    suggested: &'a [PieceIndex],
    /// How many pieces of the band were looked at and left there.
    passed: usize,
    tries_left: u32,
    /// The best of a sample, best last.
    found: SmallVec<[u32; LANES_MAX]>,
    done: bool,
}

impl Search<'_> {
    /// Whether rarity does not matter yet.
    const fn is_random(&self) -> bool {
        self.tries_left > 0
    }
}

impl Picker {
    /// In which order new pieces are begun, from now on.
    pub fn set_order(&mut self, order: Order) {
        self.order = order;
    }

    /// The order in which pieces are begun, for another picker; here it is rarest first again.
    pub(crate) fn take_order(&mut self) -> Order {
        core::mem::take(&mut self.order)
    }

    /// Chooses up to `count` blocks for `peer`, which has `pieces`, puts them into `out` and marks
    /// them as requested. Returns how many. Blocks of the same piece are in order.
    ///
    /// The caller sends the requests, and calls [`abort`](Self::abort) for those that come to
    /// nothing.
    pub fn pick(
        &mut self,
        peer: StreamId,
        pieces: Pieces<'_>,
        count: usize,
        how: &PickOptions,
        out: &mut Vec<BlockId>,
    ) -> usize {
        self.pick_suggested(peer, pieces, &[], count, how, out)
    }

    /// As [`pick`](Self::pick), where the peer suggested these pieces (BEP 6). Rarest first, a
    /// suggestion decides between pieces that are equally rare; while first pieces are random, one that
    /// is rarer than what was begun comes before it.
    pub fn pick_suggested(
        &mut self,
        peer: StreamId,
        pieces: Pieces<'_>,
        suggested: &[PieceIndex],
        count: usize,
        how: &PickOptions,
        out: &mut Vec<BlockId>,
    ) -> usize {
        if count == 0 {
            return 0;
        }
        let before = out.len();
        let goal = before + count;
        let lanes = if how.exclusive { how.lanes.clamp(1, LANES_MAX) } else { how.lanes };
        self.turn = self.turn.wrapping_add(1);
        let mut partials = core::mem::take(&mut self.scratch);
        self.gather(peer, pieces, how, &mut partials);
        let mut rest = partials.as_slice();
        for priority in (1..=Priority::TOP.value()).rev() {
            let here = rest.partition_point(|p| p.below_top <= Priority::TOP.value() - priority);
            let (here, later) = rest.split_at(here);
            rest = later;
            if out.len() >= goal || (here.is_empty() && self.band_is_empty(priority)) {
                continue;
            }
            let mut search = self.search(pieces, priority, suggested, how);
            let shared = here.partition_point(|partial| partial.class < Class::Shared);
            let foreign = here.partition_point(|partial| partial.class < Class::Foreign);
            let joins = if lanes > 0 {
                self.fill_lanes(
                    peer,
                    &here[..shared],
                    lanes.min(LANES_MAX),
                    how,
                    &mut search,
                    goal,
                    out,
                );
                shared
            } else {
                for partial in &here[..foreign] {
                    if partial.class != Class::Own {
                        self.take_rarer(partial.piece, peer, &mut search, goal, how.standing, out);
                    }
                    self.take(partial.piece, peer, goal - out.len(), how.standing, out);
                }
                while out.len() < goal && self.has_room() {
                    let Some(piece) = self.next_new(&mut search) else { break };
                    self.take(piece, peer, goal - out.len(), how.standing, out);
                }
                foreign
            };
            if !how.exclusive {
                for partial in &here[joins..] {
                    self.take(partial.piece, peer, goal - out.len(), how.standing, out);
                }
            }
            if out.len() == before
                && let Some(piece) = self.next_new(&mut search)
            {
                self.open_for(piece, peer, lanes > 0, how.exclusive);
                self.take(piece, peer, goal - out.len(), how.standing, out);
            }
        }
        partials.clear();
        self.scratch = partials;
        out.len() - before
    }

    /// As [`pick`](Self::pick), from the pieces of `list` only, in that order: pieces that the
    /// peer suggested or allows us while it chokes us (BEP 6), or that are needed by a deadline.
    /// The peer has all of them.
    pub fn pick_from(
        &mut self,
        peer: StreamId,
        list: &[PieceIndex],
        count: usize,
        out: &mut Vec<BlockId>,
    ) -> usize {
        let before = out.len();
        for piece in list {
            let left = before + count - out.len();
            if left == 0 {
                break;
            }
            self.places.steps += 1;
            if !self.may_fetch(BlockId { piece: *piece, block: 0 }) {
                continue;
            }
            self.ensure_open(piece.0);
            let open = self.open_piece(piece.0);
            if !open.exclusive || open.owner == Some(peer) {
                self.take(piece.0, peer, left, Standing::Proven, out);
            }
        }
        out.len() - before
    }

    fn has_room(&self) -> bool {
        self.open.len() < self.open_limit()
    }

    fn band_is_empty(&self, priority: u8) -> bool {
        self.bands[usize::from(priority) - 1].order.is_empty()
    }

    /// Sorts the open pieces with free blocks that the peer may help with.
    fn gather(
        &mut self,
        peer: StreamId,
        pieces: Pieces<'_>,
        how: &PickOptions,
        partials: &mut Vec<Partial>,
    ) {
        self.places.steps += self.loose.len() as u64;
        let is_slow = how.lanes == 0 && !how.exclusive;
        let keeps_on = is_slow && matches!(self.order, Order::RarestFirst);
        for &piece in &self.loose {
            let priority = self.priority(PieceIndex(piece));
            if priority == Priority::SKIP || !pieces.contains(piece) {
                continue;
            }
            let open = self.open_piece(piece);
            let class = match open.owner {
                Some(owner) if owner == peer => Class::Own,
                Some(_) if open.exclusive => continue,
                Some(_) => Class::Foreign,
                // A slow peer goes on with what it is sending, then with what was begun.
                None if keeps_on && open.last_asked == Some(peer) => Class::Own,
                None if open.requested > 0 || is_slow => Class::Shared,
                None if how.exclusive && open.received > 0 => continue,
                None => Class::Orphan,
            };
            let key = match self.order {
                Order::Sequential => u64::from(piece),
                Order::RarestFirst => {
                    u64::from(self.availability_of(piece)) << 48 | open.born & ((1 << 48) - 1)
                }
                Order::Custom(_) => open.born,
            };
            let below_top = Priority::TOP.value() - priority.value();
            partials.push(Partial { below_top, class, key, piece });
        }
        partials.sort_unstable();
    }

    /// A fast peer: opens pieces of its own until it has `lanes` of them, and goes on with the one
    /// that is least far, a run at a time.
    #[expect(clippy::too_many_arguments, reason = "one step of `pick`, apart for its length")]
    fn fill_lanes(
        &mut self,
        peer: StreamId,
        partials: &[Partial],
        lanes: usize,
        how: &PickOptions,
        search: &mut Search<'_>,
        goal: usize,
        out: &mut Vec<BlockId>,
    ) {
        let own = partials.partition_point(|partial| partial.class == Class::Own);
        let mut orphans = partials[own..].iter().map(|partial| partial.piece);
        let mut own: SmallVec<[u32; LANES_MAX]> =
            partials[..own].iter().map(|partial| partial.piece).collect();
        let run = how.run.max(1);
        while out.len() < goal {
            let mut new = None;
            if own.len() < lanes {
                new = orphans.next();
                if new.is_none() && self.has_room() {
                    new = self.next_new(search);
                }
            }
            let at = if let Some(piece) = new {
                self.open_for(piece, peer, true, how.exclusive);
                own.push(piece);
                own.len() - 1
            } else {
                self.places.steps += own.len() as u64;
                let least = (0..own.len()).min_by_key(|at| {
                    let open = self.open_piece(own[*at]);
                    (open.taken() / run, open.born)
                });
                let Some(least) = least else { break };
                least
            };
            let piece = own[at];
            let in_run = run - self.open_piece(piece).taken() % run;
            self.take(piece, peer, (in_run as usize).min(goal - out.len()), how.standing, out);
            if self.open_piece(piece).free == 0 {
                own.remove(at);
            }
        }
    }

    fn open_for(&mut self, piece: u32, peer: StreamId, own: bool, exclusive: bool) {
        self.ensure_open(piece);
        if own {
            let open = self.open_piece_mut(piece);
            open.owner = Some(peer);
            open.exclusive = exclusive;
        }
    }

    /// Asks `peer` for up to `count` free blocks of a piece, which is opened if it must be.
    fn take(
        &mut self,
        piece: u32,
        peer: StreamId,
        count: usize,
        standing: Standing,
        out: &mut Vec<BlockId>,
    ) {
        if count == 0 {
            return;
        }
        self.ensure_open(piece);
        let open = &mut self.open[self.places.of[piece as usize] as usize];
        for _ in 0..count {
            let Some(block) = open.take_next(peer, standing, &mut self.places.steps) else { break };
            out.push(BlockId { piece: PieceIndex(piece), block });
        }
        self.sync_loose(piece);
    }

    /// Before a slow peer helps with a piece that others began, it is asked for new ones that are
    /// rarer: others can finish the one that was begun, and perhaps nobody else has the rare one.
    fn take_rarer(
        &mut self,
        begun: u32,
        peer: StreamId,
        search: &mut Search<'_>,
        goal: usize,
        standing: Standing,
        out: &mut Vec<BlockId>,
    ) {
        if !matches!(self.order, Order::RarestFirst) || search.common_first {
            return;
        }
        let rarity = self.availability_of(begun);
        while out.len() < goal && self.has_room() {
            // A newcomer needs whole pieces first, and one that the peer would rather send is as soon
            // whole as another.
            let new = if search.is_random() {
                self.next_suggested(search, rarity.saturating_sub(1))
            } else {
                self.next_new(search)
            };
            let Some(piece) = new else { return };
            if self.availability_of(piece) >= self.availability_of(begun) {
                search.found.push(piece);
                return;
            }
            self.take(piece, peer, goal - out.len(), standing, out);
        }
    }

    fn search<'a>(
        &self,
        peer_has: Pieces<'a>,
        priority: u8,
        suggested: &'a [PieceIndex],
        how: &PickOptions,
    ) -> Search<'a> {
        let random = matches!(self.order, Order::RarestFirst)
            && !how.common_first
            && self.have_count < RANDOM_FIRST_PIECES;
        Search {
            peer_has,
            priority,
            common_first: how.common_first,
            suggested: if how.common_first { &[] } else { suggested },
            passed: 0,
            tries_left: if random { RANDOM_TRIES } else { 0 },
            found: SmallVec::new(),
            done: false,
        }
    }

    /// The next new piece for the peer. The caller opens it before it asks again.
    fn next_new(&mut self, search: &mut Search<'_>) -> Option<u32> {
        let piece = self.next_by_order(search)?;
        if search.suggested.is_empty() || !matches!(self.order, Order::RarestFirst) {
            return Some(piece);
        }
        let better = self.next_suggested(search, self.availability_of(piece));
        let Some(better) = better.filter(|better| *better != piece) else { return Some(piece) };
        search.found.retain(|found| *found != better);
        search.found.push(piece);
        Some(better)
    }

    /// The first new piece that the peer suggested, of those that at most so many have.
    fn next_suggested(&mut self, search: &Search<'_>, availability_max: u16) -> Option<u32> {
        self.places.steps += search.suggested.len() as u64;
        search.suggested.iter().map(|suggested| suggested.0).find(|suggested| {
            self.state(PieceIndex(*suggested)) == PieceState::Missing
                && self.priority(PieceIndex(*suggested)).value() == search.priority
                && search.peer_has.contains(*suggested)
                && self.availability(PieceIndex(*suggested)) <= u32::from(availability_max)
        })
    }

    fn next_by_order(&mut self, search: &mut Search<'_>) -> Option<u32> {
        if let Some(piece) = search.found.pop() {
            return Some(piece);
        }
        let band = &self.bands[usize::from(search.priority) - 1];
        if search.done || band.order.is_empty() {
            return None;
        }
        match self.order {
            Order::RarestFirst => {
                while search.tries_left > 0 {
                    search.tries_left -= 1;
                    self.places.steps += 1;
                    let piece = *self.rng.choose(&band.order)?;
                    if search.peer_has.contains(piece) {
                        return Some(piece);
                    }
                }
                while search.passed < (SCAN_MAX as usize).min(band.order.len()) {
                    self.places.steps += 1;
                    let at = if search.common_first {
                        band.order.len() - 1 - search.passed
                    } else {
                        search.passed
                    };
                    let piece = band.order[at];
                    if search.peer_has.contains(piece) {
                        return Some(piece);
                    }
                    search.passed += 1;
                }
                if search.passed >= band.order.len() {
                    search.done = true;
                    return None;
                }
                self.sample(search)
            }
            Order::Sequential => {
                let from = search.passed as u32;
                let piece = band.bits.next_common(search.peer_has, from, &mut self.places.steps);
                search.passed = piece.unwrap_or(u32::MAX) as usize;
                search.done = piece.is_none();
                piece
            }
            Order::Custom(_) => self.sample(search),
        }
    }

    /// Looks at the pieces that the peer has, by index, and keeps the best.
    fn sample(&mut self, search: &mut Search<'_>) -> Option<u32> {
        let pieces = self.layout.pieces();
        let start = match &self.order {
            Order::Custom(order) => order.start().0 % pieces,
            // Somewhere else each time, where not all can be looked at.
            Order::RarestFirst | Order::Sequential => self.turn.wrapping_mul(0x9e37_79b1) % pieces,
        };
        let band = &self.bands[usize::from(search.priority) - 1];
        let mut best: SmallVec<[(u64, u32); LANES_MAX]> = SmallVec::new();
        let mut seen = 0;
        let mut more = false;
        for (mut from, end) in [(start, pieces), (0, start)] {
            while seen < SAMPLE_MAX
                && let Some(piece) =
                    band.bits.next_common(search.peer_has, from, &mut self.places.steps)
                && piece < end
            {
                from = piece + 1;
                seen += 1;
                let availability = u32::from(self.availability_of(piece));
                let rank = match &self.order {
                    Order::Custom(order) => order.rank(Candidate {
                        piece: PieceIndex(piece),
                        availability,
                        priority: Priority::new(search.priority),
                    }),
                    Order::RarestFirst | Order::Sequential => {
                        // The place in the band is the rank, shuffle included.
                        let at = u64::from(self.places.of[piece as usize]);
                        if search.common_first { u64::from(u32::MAX) - at } else { at }
                    }
                };
                let entry = (rank, piece);
                if best.len() == LANES_MAX {
                    more = true;
                    if best.last().is_some_and(|worst| *worst <= entry) {
                        continue;
                    }
                    best.pop();
                }
                let at = best.partition_point(|better| *better < entry);
                best.insert(at, entry);
            }
        }
        more |= seen >= SAMPLE_MAX;
        search.done = !more;
        search.found = best.iter().rev().map(|(_, piece)| *piece).collect();
        search.found.pop()
    }
}
