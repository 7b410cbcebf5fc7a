//! Rates near a change: each link where something changed is filled again, and a bounded step beyond.
//!
//! Owns a rule for networks too large to solve. To *fill* a link is to raise a water level over what
//! its flows ask for, until the link is full: a flow asks for its cap, or for what its other end has
//! to spare or would give it as a fair share, whichever is less. The level bounds every flow there.
//!
//! What a fill costs grows with the flows at that link, not with those of the network; how many
//! links one change may fill is bounded by [`STEPS`], counted from the links that changed.
//!
//! Never more than a link has: a flow loses freely, and gains only what its other end has to
//! spare at that moment. So the error is on the other side: what a flow loses at one end may lie
//! idle at the other until something changes there. `cargo run --release --example flow_error`
//! prints how much, against [`super::exact`].

use super::{Net, UNLIMITED};

/// How many links away from a change rates are still mended: 0 fills only the links that changed.
///
/// Beyond a changed link, only those are filled that hold some flow back and have got spare
/// capacity, or that a flow wants more of than they have to spare.
pub const STEPS: u8 = 2;

/// What is not worth a fill one step further on: less than the capacity (or what was asked for)
/// shifted right by this.
const WORTH: u32 = 4;

/// Rounds of a fill before what is left of it is sorted, which bounds its cost by `n log n`.
const ROUNDS: usize = 6;

/// Scratch of the local rule.
#[derive(Debug, Default)]
pub(super) struct Local {
    /// Links to fill, and their distance from a change.
    queue: Vec<(u32, u8)>,
    asks: Vec<u64>,
    open: Vec<u64>,
}

impl Local {
    pub(super) fn memory(&self) -> usize {
        self.queue.capacity() * size_of::<(u32, u8)>()
            + (self.asks.capacity() + self.open.capacity()) * size_of::<u64>()
    }

    pub(super) fn settle(&mut self, net: &mut Net) {
        let mut dirty = std::mem::take(&mut net.dirty);
        for link in dirty.drain(..) {
            let at = &mut net.links[link as usize];
            at.dirty = false;
            at.mark = true;
            self.queue.push((link, 0));
        }
        net.dirty = dirty;
        let mut next = 0;
        while let Some(&(link, step)) = self.queue.get(next) {
            next += 1;
            net.links[link as usize].mark = false;
            self.fill(net, link, step);
        }
        self.queue.clear();
    }

    fn fill(&mut self, net: &mut Net, link: u32, step: u8) {
        // The list is lent out, and comes back below.
        let ends = std::mem::take(&mut net.links[link as usize].ends);
        self.asks.clear();
        for end in &ends {
            let (flow, peer) = (&net.flows[end.flow as usize], &net.links[end.peer as usize]);
            let offer = if peer.is_limited() {
                flow.rate.saturating_add(peer.spare()).max(peer.level)
            } else {
                UNLIMITED
            };
            self.asks.push(offer.min(flow.cap));
        }
        let at = &mut net.links[link as usize];
        let level = if at.is_limited() {
            water_level(at.capacity, &self.asks, &mut self.open)
        } else {
            None
        };
        at.limits = level.is_some();
        let share = || at.capacity / (ends.len() as u64).max(1);
        at.level = level.unwrap_or_else(|| if at.is_limited() { share() } else { UNLIMITED });
        let most = level.unwrap_or(UNLIMITED);
        let mut used = 0_u64;
        for (end, &ask) in ends.iter().zip(&self.asks) {
            let before = net.flows[end.flow as usize].rate;
            let target = ask.min(most);
            let peer = &mut net.links[end.peer as usize];
            let mut rate = target;
            if peer.is_limited() {
                if target > before {
                    rate = target.min(before.saturating_add(peer.spare()));
                }
                peer.used = peer.used.saturating_sub(before).saturating_add(rate);
                let wanting = target - rate > target >> WORTH
                    || peer.limits && peer.spare() > peer.capacity >> WORTH;
                if wanting && step < STEPS && !peer.mark {
                    peer.mark = true;
                    self.queue.push((end.peer, step + 1));
                }
            }
            used = used.saturating_add(rate);
            if rate != before {
                net.set_rate(end.flow, rate);
            }
        }
        let at = &mut net.links[link as usize];
        at.used = if at.is_limited() { used } else { 0 };
        at.ends = ends;
    }
}

/// The level up to which `capacity` serves every ask, none if it serves them all: the greatest such
/// that the asks, none counted for more than it, sum to at most `capacity`.
fn water_level(capacity: u64, asks: &[u64], open: &mut Vec<u64>) -> Option<u64> {
    open.clear();
    open.extend_from_slice(asks);
    let mut rest = capacity;
    for _ in 0..ROUNDS {
        let level = rest.checked_div(open.len() as u64)?;
        let before = open.len();
        // Below the level, an ask is served: at most `before` times the level leaves the rest.
        open.retain(|&ask| {
            let served = ask <= level;
            rest -= if served { ask } else { 0 };
            !served
        });
        if open.len() == before {
            return Some(level);
        }
    }
    open.sort_unstable();
    for (index, &ask) in open.iter().enumerate() {
        let level = rest / (open.len() - index) as u64;
        if ask > level {
            return Some(level);
        }
        rest -= ask;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_water_level_serves_all_below_it_and_leaves_less_than_a_byte_each(
            capacity in 0..10_000_u64, asks in prop::collection::vec(0..3_000_u64, 0..40),
        ) {
            let given = |level: u64| asks.iter().map(|&ask| ask.min(level)).sum::<u64>();
            match water_level(capacity, &asks, &mut vec![9; 3]) {
                None => prop_assert!(given(UNLIMITED) <= capacity),
                Some(level) => {
                    prop_assert!(given(level) <= capacity);
                    prop_assert!(given(level + 1) > capacity, "no higher level fits");
                    prop_assert!(asks.iter().any(|&ask| ask > level));
                }
            }
        }

        #[test]
        fn a_water_level_over_asks_that_grow_geometrically_is_the_same_after_sorting(
            capacity in 0..u64::MAX, steps in 1..60_u32,
        ) {
            let asks: Vec<_> = (0..steps).map(|shift| 1_u64 << shift).collect();
            let given = |level: u64| asks.iter().map(|&ask| u128::from(ask.min(level))).sum::<u128>();
            let level = water_level(capacity, &asks, &mut Vec::new());
            prop_assert!(given(level.unwrap_or(UNLIMITED)) <= u128::from(capacity));
            if let Some(level) = level {
                prop_assert!(given(level + 1) > u128::from(capacity));
            }
        }
    }
}
