//! Every deadline of a machine in one heap.
//!
//! One entry per entity, at the earlier of two times: when it is due, and when it was queued for.
//! A deadline that moves later, which is what nearly all of them do, only changes a field; the
//! entry comes up early, sees the real deadline and goes back. So re-arming costs no heap work,
//! and an idle entity costs nothing at all.

use alloc::vec::Vec;

use crate::ids::{Key, Slab, TimerId};
use crate::time::{Duration, Instant};

/// A deadline is due within this: one set at or before `now` moves to `now + GRANULE`, so that no
/// timer fires twice without time moving.
pub const GRANULE: Duration = Duration::from_millis(1);

/// The deadlines of a machine; `K` says whose they are.
#[derive(Debug, Default)]
pub struct Timers<K> {
    entries: Slab<TimerId, Entry<K>>,
    /// A binary heap of timers by (queued, slot): deterministic among equals.
    heap: Vec<(Instant, TimerId)>,
    clamped: u64,
    #[cfg(feature = "planted-bugs")]
    puts_back_late: bool,
}

#[derive(Debug)]
struct Entry<K> {
    key: K,
    due: Option<Instant>,
    /// Place in the heap; `NOWHERE` if it is not in it.
    place: u32,
}

const NOWHERE: u32 = u32::MAX;

impl<K: Copy> Timers<K> {
    /// No timers; allocates nothing.
    pub const fn new() -> Self {
        Self {
            entries: Slab::new(),
            heap: Vec::new(),
            clamped: 0,
            #[cfg(feature = "planted-bugs")]
            puts_back_late: false,
        }
    }

    /// The same with [`PlantedBug::TimerInThePast`](crate::session::PlantedBug::TimerInThePast).
    #[cfg(feature = "planted-bugs")]
    pub(crate) const fn that_puts_back_late(mut self, puts_back_late: bool) -> Self {
        self.puts_back_late = puts_back_late;
        self
    }

    /// A timer for the entity called `key`, not armed.
    pub fn insert(&mut self, key: K) -> TimerId {
        self.entries.insert(Entry { key, due: None, place: NOWHERE })
    }

    /// Forgets a timer; a stale id does nothing.
    pub fn remove(&mut self, id: TimerId) {
        if let Some(entry) = self.entries.remove(id) {
            self.take_from_heap(entry.place);
        }
    }

    /// Sets the one deadline of a timer, or none. At or before `now` it moves to
    /// `now +` [`GRANULE`] and is counted. A stale id does nothing.
    pub fn set(&mut self, id: TimerId, now: Instant, due: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let due = due.map(|due| {
            if due > now {
                due
            } else {
                self.clamped += 1;
                now + GRANULE
            }
        });
        entry.due = due;
        let Some(due) = due else { return };
        let place = entry.place;
        if place == NOWHERE {
            self.heap.push((due, id));
            self.sift_up(self.heap.len() - 1);
        } else if due < self.heap[place as usize].0 {
            self.heap[place as usize].0 = due;
            self.sift_up(place as usize);
        }
    }

    /// When a timer is due.
    pub fn due(&self, id: TimerId) -> Option<Instant> {
        self.entries.get(id)?.due
    }

    /// The entity whose timer is due at `now`, earliest first, once; its timer is then not armed.
    /// Returns none when no more are due. Timers set meanwhile are later than `now`, so a loop
    /// over this ends.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        while let Some(&(queued, id)) = self.heap.first() {
            if queued > now {
                return None;
            }
            let entry = self.entries.get_mut(id).expect("a heap entry has a timer");
            match entry.due {
                // Where it was is in the past: the next wakeup is at once, and finds nothing due.
                #[cfg(feature = "planted-bugs")]
                Some(due) if self.puts_back_late && due > now && now > queued + GRANULE => {
                    return None;
                }
                Some(due) if due > queued => {
                    self.heap[0].0 = due;
                    self.sift_down(0);
                }
                due => {
                    entry.due = None;
                    let (key, place) = (entry.key, entry.place);
                    self.take_from_heap(place);
                    if due.is_some() {
                        return Some(key);
                    }
                }
            }
        }
        None
    }

    /// When to call [`pop`](Self::pop) next, and for whom: never later than the earliest deadline,
    /// at times earlier. O(1).
    pub fn next(&self) -> Option<(Instant, K)> {
        let &(queued, id) = self.heap.first()?;
        let entry = self.entries.get(id).expect("a heap entry has a timer");
        Some((queued, entry.key))
    }

    /// How many deadlines were set at or before their `now`.
    pub const fn clamped(&self) -> u64 {
        self.clamped
    }

    fn take_from_heap(&mut self, place: u32) {
        if place == NOWHERE {
            return;
        }
        let place = place as usize;
        let (_, gone) = self.heap.swap_remove(place);
        if let Some(entry) = self.entries.get_mut(gone) {
            entry.place = NOWHERE;
        }
        if place < self.heap.len() {
            self.sift_down(place);
            self.sift_up(place);
        }
    }

    fn before(&self, a: usize, b: usize) -> bool {
        let rank = |place: usize| (self.heap[place].0, self.heap[place].1.slot());
        rank(a) < rank(b)
    }

    fn sift_up(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if !self.before(place, parent) {
                break;
            }
            self.heap.swap(place, parent);
            self.note_place(place);
            place = parent;
        }
        self.note_place(place);
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let mut least = place;
            for child in [2 * place + 1, 2 * place + 2] {
                if child < self.heap.len() && self.before(child, least) {
                    least = child;
                }
            }
            if least == place {
                break;
            }
            self.heap.swap(place, least);
            self.note_place(place);
            place = least;
        }
        self.note_place(place);
    }

    fn note_place(&mut self, place: usize) {
        let (_, id) = self.heap[place];
        if let Some(entry) = self.entries.get_mut(id) {
            entry.place = place as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    fn at(millis: u64) -> Instant {
        Instant::ORIGIN + Duration::from_millis(millis)
    }

    #[test]
    fn a_deadline_in_the_past_moves_by_one_granule_and_is_counted() {
        let mut timers = Timers::new();
        let id = timers.insert('a');
        timers.set(id, at(10), Some(at(5)));
        assert_eq!(timers.next(), Some((at(11), 'a')));
        assert_eq!(timers.pop(at(10)), None);
        assert_eq!(timers.pop(at(11)), Some('a'));
        assert_eq!(timers.pop(at(11)), None);
        assert_eq!(timers.clamped(), 1);
    }

    #[test]
    fn a_postponed_timer_keeps_its_one_heap_entry() {
        let mut timers = Timers::new();
        let id = timers.insert('a');
        for step in 0..1_000 {
            timers.set(id, at(step), Some(at(step + 100)));
            assert_eq!(timers.pop(at(step)), None);
            assert!(timers.heap.len() <= 1);
        }
    }

    #[test]
    fn a_removed_timer_never_fires() {
        let mut timers = Timers::new();
        let id = timers.insert('a');
        timers.set(id, at(0), Some(at(5)));
        timers.remove(id);
        timers.set(id, at(0), Some(at(6)));
        assert_eq!(timers.next(), None);
        assert_eq!(timers.pop(at(100)), None);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Set(usize, u64),
        Clear(usize),
        Remove(usize),
        Pass(u64),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            4 => (0_usize..8, 0_u64..50).prop_map(|(who, after)| Op::Set(who, after)),
            1 => (0_usize..8).prop_map(Op::Clear),
            1 => (0_usize..8).prop_map(Op::Remove),
            3 => (1_u64..40).prop_map(Op::Pass),
        ];
        prop::collection::vec(op, 0..200)
    }

    proptest! {
        /// Against a map from entity to deadline, searched from end to end.
        #[test]
        fn timers_agree_with_an_obvious_model(ops in ops()) {
            let mut timers = Timers::new();
            let mut ids: Vec<_> = (0..8_usize).map(|who| timers.insert(who)).collect();
            let mut model = BTreeMap::<usize, Instant>::new();
            let mut now = at(0);
            for op in ops {
                match op {
                    Op::Set(who, after) => {
                        let due = now + Duration::from_millis(after);
                        timers.set(ids[who], now, Some(due));
                        model.insert(who, due.max(now + GRANULE));
                    }
                    Op::Clear(who) => {
                        timers.set(ids[who], now, None);
                        model.remove(&who);
                    }
                    Op::Remove(who) => {
                        timers.remove(ids[who]);
                        model.remove(&who);
                        ids[who] = timers.insert(who);
                    }
                    Op::Pass(by) => {
                        now += Duration::from_millis(by);
                        let mut fired = Vec::new();
                        while let Some(who) = timers.pop(now) {
                            fired.push(who);
                        }
                        fired.sort_unstable();
                        let due: Vec<_> = model.iter().filter(|(_, due)| **due <= now)
                            .map(|(who, _)| *who).collect();
                        model.retain(|_, due| *due > now);
                        prop_assert_eq!(fired, due);
                    }
                }
                prop_assert!(timers.heap.len() <= 8);
                let earliest = model.values().min().copied();
                match (timers.next(), earliest) {
                    (Some((queued, _)), Some(earliest)) => prop_assert!(queued <= earliest),
                    (None, Some(_)) => prop_assert!(false, "a deadline without a wakeup"),
                    (_, None) => {}
                }
            }
        }
    }
}
