//! Addresses that are not talked to: ranges, as block lists have them.

use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Ranges that are kept of one list; the rest is left out.
pub const RANGES_MAX: usize = 1_000_000;

/// A set of addresses that are not called, not let in, and not asked for peers.
///
/// An IPv4 address inside an IPv6 one counts as what it is. Memory is 8 bytes for each range of
/// IPv4 addresses and 32 for each of IPv6; looking one up is a binary search.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpFilter {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl IpFilter {
    /// Blocks nobody; allocates nothing.
    pub const fn new() -> Self {
        Self { v4: Vec::new(), v6: Vec::new() }
    }

    /// Blocks the addresses in these ranges, both ends included. They may overlap, and come in any
    /// order. A range that is empty, or from one family to the other, blocks nobody; of more than
    /// [`RANGES_MAX`] only so many count.
    pub fn blocking(ranges: impl IntoIterator<Item = RangeInclusive<IpAddr>>) -> Self {
        let mut this = Self::new();
        for range in ranges.into_iter().take(RANGES_MAX) {
            match (range.start().to_canonical(), range.end().to_canonical()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => this.v4.push((from.into(), to.into())),
                (IpAddr::V6(from), IpAddr::V6(to)) => this.v6.push((from.into(), to.into())),
                _ => {}
            }
        }
        join(&mut this.v4);
        join(&mut this.v6);
        this
    }

    /// Whether nobody is blocked.
    pub const fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether this address is blocked.
    pub fn blocks(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => holds(&self.v4, address.into()),
            IpAddr::V6(address) => holds(&self.v6, address.into()),
        }
    }
}

/// Sorts ranges and joins those that overlap.
fn join<T: Ord + Copy>(ranges: &mut Vec<(T, T)>) {
    ranges.retain(|(from, to)| from <= to);
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let overlap = next.0 <= last.1;
        if overlap {
            last.1 = last.1.max(next.1);
        }
        overlap
    });
    ranges.shrink_to_fit();
}

/// Whether one of these ranges, sorted and apart from one another, holds `address`.
fn holds<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|(from, _)| *from <= address);
    behind > 0 && address <= ranges[behind - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn both_ends_of_a_range_are_blocked_and_their_neighbours_are_not() {
        let filter = IpFilter::blocking([
            ip("60.0.0.2")..=ip("60.0.0.5"),
            ip("60.0.0.0")..=ip("60.0.0.2"),
            ip("2001:db8::1")..=ip("2001:db8::ff"),
        ]);
        for blocked in ["60.0.0.0", "60.0.0.5", "::ffff:60.0.0.4", "2001:db8::1", "2001:db8::ff"] {
            assert!(filter.blocks(ip(blocked)), "{blocked}");
        }
        for free in ["59.255.255.255", "60.0.0.6", "2001:db8::", "2001:db8::100", "::60.0.0.4"] {
            assert!(!filter.blocks(ip(free)), "{free}");
        }
        assert!(!filter.is_empty() && IpFilter::new().is_empty());
    }

    #[test]
    fn a_range_the_wrong_way_round_or_between_families_blocks_nobody() {
        let odd = [ip("60.0.0.2")..=ip("60.0.0.1"), ip("1.2.3.4")..=ip("2001:db8::1")];
        assert!(IpFilter::blocking(odd).is_empty());
    }

    proptest! {
        #[test]
        fn a_filter_agrees_with_a_list_of_ranges(
            ranges in prop::collection::vec((0_u8..60, 0_u8..60), 0..12),
        ) {
            let at = |number: u8| IpAddr::from([10, 0, 0, number]);
            let filter = IpFilter::blocking(ranges.iter().map(|(from, to)| at(*from)..=at(*to)));
            for number in 0..=60 {
                let listed = ranges.iter().any(|(from, to)| (*from..=*to).contains(&number));
                prop_assert_eq!(filter.blocks(at(number)), listed);
            }
        }
    }
}
