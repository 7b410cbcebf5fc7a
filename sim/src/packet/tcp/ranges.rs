//! Ranges of a stream, in order and apart from each other.

use smallvec::SmallVec;

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    pub(super) fn as_slice(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Takes a range in, and tells each part of it that was not in any before. Returns the range
    /// that it belongs to now.
    pub(super) fn insert(
        &mut self,
        from: u64,
        to: u64,
        mut fresh: impl FnMut(u64, u64),
    ) -> (u64, u64) {
        let first = self.0.partition_point(|range| range.1 < from);
        let last = self.0.partition_point(|range| range.0 <= to);
        let mut at = from;
        for (low, high) in &self.0[first..last] {
            if at < *low {
                fresh(at, *low);
            }
            at = at.max(*high);
        }
        if at < to {
            fresh(at, to);
        }
        if first == last {
            self.0.insert(first, (from, to));
            return (from, to);
        }
        let merged = (from.min(self.0[first].0), to.max(self.0[last - 1].1));
        self.0[first] = merged;
        self.0.drain(first + 1..last);
        merged
    }

    /// Everything before a position is done with, and so is the range that reaches it. Returns where
    /// that ends; the position, if there is none.
    pub(super) fn forget(&mut self, upto: u64) -> u64 {
        let gone = self.0.partition_point(|range| range.0 <= upto);
        let reaches = self.0.drain(..gone).next_back().map_or(upto, |range| range.1);
        reaches.max(upto)
    }

    /// The first ranges to tell of: `latest`, if it is still one, then from the top.
    pub(super) fn newest(&self, latest: (u64, u64)) -> Box<[(u64, u64)]> {
        if self.0.is_empty() {
            return Box::default();
        }
        let mut told = SmallVec::<[_; 3]>::new();
        if self.0.binary_search(&latest).is_ok() {
            told.push(latest);
        }
        for range in self.0.iter().rev() {
            if told.len() == 3 {
                break;
            }
            if *range != latest {
                told.push(*range);
            }
        }
        told.as_slice().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_what_a_set_of_positions_is(
            steps in prop::collection::vec((0_u64..60, 1_u64..12), 0..40),
            upto in 0_u64..70,
        ) {
            let mut ranges = Ranges::default();
            let mut model = std::collections::BTreeSet::new();
            for (from, len) in steps {
                let mut fresh = Vec::new();
                let merged = ranges.insert(from, from + len, |low, high| fresh.extend(low..high));
                let expected: Vec<u64> =
                    (from..from + len).filter(|at| !model.contains(at)).collect();
                prop_assert_eq!(fresh, expected);
                model.extend(from..from + len);
                prop_assert!(merged.0 <= from && from + len <= merged.1);
                prop_assert!((merged.0..merged.1).all(|at| model.contains(&at)));
            }
            let reaches = ranges.forget(upto);
            let first_gap = (upto..200).find(|at| !model.contains(at));
            prop_assert_eq!(Some(reaches), first_gap);
            let all: Vec<u64> =
                ranges.as_slice().iter().flat_map(|range| range.0..range.1).collect();
            let expected: Vec<u64> = model.into_iter().filter(|at| *at > reaches).collect();
            prop_assert_eq!(all, expected);
            let apart = ranges.as_slice().windows(2).all(|pair| pair[0].1 < pair[1].0);
            prop_assert!(apart, "{:?}", ranges);
        }
    }
}
