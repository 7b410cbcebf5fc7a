//! A heap of entries, the first to happen on top.

use super::Entry;
use crate::time::Nanos;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Heap {
    /// Each entry has [`CHILDREN`] below it, and none of them comes before it.
    entries: Vec<Entry>,
}

/// Four lie in two lines of the cache, and the heap is half as deep as with two.
const CHILDREN: usize = 4;

impl Heap {
    pub(super) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn first(&self) -> Option<&Entry> {
        self.entries.first()
    }

    pub(super) fn push(&mut self, entry: Entry) {
        let mut place = self.entries.len();
        self.entries.push(entry);
        while place > 0 {
            let parent = (place - 1) / CHILDREN;
            let above = self.entries[parent];
            if above.is_before(&entry) {
                break;
            }
            self.entries[place] = above;
            place = parent;
        }
        self.entries[place] = entry;
    }

    /// The first entry, if it is due.
    pub(super) fn pop(&mut self, now: Nanos) -> Option<Entry> {
        let first = *self.entries.first().filter(|first| first.at <= now)?;
        let last = self.entries.pop()?;
        if !self.entries.is_empty() {
            self.sift_down(0, last);
        }
        Some(first)
    }

    /// Puts an entry in a place below which all is in order.
    fn sift_down(&mut self, mut place: usize, entry: Entry) {
        loop {
            let first = CHILDREN * place + 1;
            let Some(children) = self.entries.get(first..) else { break };
            // In pairs, which need not wait for each other.
            let least = if let [a, b, c, d, ..] = children {
                let (ab, cd) = (usize::from(b.is_before(a)), 2 + usize::from(d.is_before(c)));
                if children[cd].is_before(&children[ab]) { cd } else { ab }
            } else {
                let earlier =
                    |a: usize, b: usize| if children[b].is_before(&children[a]) { b } else { a };
                let Some(least) = (0..children.len()).reduce(earlier) else { break };
                least
            };
            let child = children[least];
            if !child.is_before(&entry) {
                break;
            }
            self.entries[place] = child;
            place = first + least;
        }
        self.entries[place] = entry;
    }
}
