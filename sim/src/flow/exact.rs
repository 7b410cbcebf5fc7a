//! Max-min fair rates, found again only as far as a change reaches.
//!
//! Owns progressive filling: all flows rise together; at its cap a flow stops; when a link is full,
//! its flows stop. In whole bytes per second, so this holds of every result:
//!
//! - no link carries more than its capacity;
//! - every flow has its cap, or one of its links is a bottleneck for it: no flow on that link has
//!   more, and fewer bytes per second are left over than there are flows on it;
//! - a flow that neither a cap nor a link binds is [`UNLIMITED`].
//!
//! Such an allocation is unique but for the bytes left over. So a change need not be followed through
//! the whole network: the links where something changed are solved as if the rest stood still, and
//! each link beyond to which that makes a difference joins them (a flow of its own bottleneck got less
//! or wants more, or it would carry too much), until the property above holds everywhere. After
//! [`GROWTHS`] such rounds, all that is connected joins.
//!
//! Costs `O((links + flows) log)` of what joined, and no allocation once its scratch has grown.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Flow, Link, Net, UNLIMITED};

/// Rounds in which the solved region grows link by link, before it takes in all that is connected.
pub const GROWTHS: usize = 8;

/// Scratch of the exact rule.
#[derive(Debug, Default)]
pub(super) struct Exact {
    /// Links that are solved; `mark` says so of a link.
    region: Vec<u32>,
    /// The flows at them; `mark` says so of a flow that has no rate yet.
    flows: Vec<Reached>,
    /// Links beyond, at which some flow changed.
    border: Vec<u32>,
    /// By link.
    fills: Vec<Fill>,
    /// Flows by what holds them back besides the region's links, lowest first from `next`.
    capped: Vec<(u64, u32)>,
    /// Links by their level when it was last looked at, which may have risen since.
    heap: BinaryHeap<Reverse<(u64, u32)>>,
}

/// A flow of the region, and its rate before.
#[derive(Clone, Copy, Debug)]
struct Reached {
    flow: u32,
    before: u64,
}

/// A link while it is solved.
#[derive(Clone, Copy, Default, Debug)]
struct Fill {
    /// What its flows have left of the capacity; of a link on the border: what they use.
    rest: u64,
    /// Flows without a rate.
    open: u32,
    /// Whether it is in `border`.
    on_border: bool,
}

impl Exact {
    pub(super) fn memory(&self) -> usize {
        (self.region.capacity() + self.border.capacity()) * size_of::<u32>()
            + self.flows.capacity() * size_of::<Reached>()
            + self.fills.capacity() * size_of::<Fill>()
            + self.capped.capacity() * size_of::<(u64, u32)>()
            + self.heap.capacity() * size_of::<Reverse<(u64, u32)>>()
    }

    pub(super) fn settle(&mut self, net: &mut Net) {
        self.fills.resize(net.links.len(), Fill::default());
        self.begin(net);
        let (mut gathered, mut round) = (0, 0);
        while gathered < self.region.len() {
            if round >= GROWTHS {
                self.join_all(net, gathered);
            }
            self.gather(net, gathered);
            gathered = self.region.len();
            self.solve(net);
            self.grow(net);
            round += 1;
        }
        self.commit(net);
    }

    /// The region is what is dirty.
    fn begin(&mut self, net: &mut Net) {
        let mut dirty = std::mem::take(&mut net.dirty);
        for link in dirty.drain(..) {
            net.links[link as usize].dirty = false;
            if net.links[link as usize].is_limited() {
                self.join(net, link);
                continue;
            }
            // It binds nothing, but its flows may be new, or it may have bound them before.
            for at in 0..net.links[link as usize].ends.len() {
                let end = net.links[link as usize].ends[at];
                if net.links[end.peer as usize].is_limited() {
                    self.join(net, end.peer);
                } else {
                    net.set_rate(end.flow, net.flows[end.flow as usize].cap);
                }
            }
        }
        net.dirty = dirty;
    }

    fn join(&mut self, net: &mut Net, link: u32) {
        let mark = &mut net.links[link as usize].mark;
        if !*mark {
            *mark = true;
            self.region.push(link);
        }
    }

    /// Joins all that is connected with the region's links from `next` on.
    fn join_all(&mut self, net: &mut Net, mut next: usize) {
        while let Some(&link) = self.region.get(next) {
            next += 1;
            for at in 0..net.links[link as usize].ends.len() {
                let peer = net.links[link as usize].ends[at].peer;
                if net.links[peer as usize].is_limited() {
                    self.join(net, peer);
                }
            }
        }
    }

    /// Lists the flows of the region's links from `next` on.
    fn gather(&mut self, net: &mut Net, next: usize) {
        for &link in &self.region[next..] {
            for end in &net.links[link as usize].ends {
                let flow = &mut net.flows[end.flow as usize];
                if !flow.mark {
                    flow.mark = true;
                    self.flows.push(Reached { flow: end.flow, before: flow.rate });
                }
            }
        }
    }

    /// Fills the region; the rest stands still.
    fn solve(&mut self, net: &mut Net) {
        self.capped.clear();
        for &Reached { flow, before } in &self.flows {
            let flow_at = &mut net.flows[flow as usize];
            // As long as it has no rate. Each flow here is at a limited link, so it gets one.
            flow_at.rate = UNLIMITED;
            let (mut limit, mut room) = (flow_at.cap, UNLIMITED);
            for link in [flow_at.up, flow_at.down].map(|link| &net.links[link as usize]) {
                if link.mark {
                    room = room.min(link.capacity);
                } else if link.is_limited() && link.limits && before >= link.level {
                    limit = limit.min(before);
                }
            }
            if limit < room {
                self.capped.push((limit, flow));
            }
        }
        self.capped.sort_unstable();
        let mut heap = std::mem::take(&mut self.heap).into_vec();
        for &link in &self.region {
            let at = &mut net.links[link as usize];
            let open = at.ends.len() as u32;
            self.fills[link as usize] = Fill { rest: at.capacity, open, on_border: false };
            at.limits = false;
            at.level = at.capacity / u64::from(open.max(1));
            if open > 0 {
                heap.push(Reverse((at.level, link)));
            }
        }
        self.heap = heap.into();
        let mut next = 0;
        while let Some(Reverse((seen, link))) = self.heap.pop() {
            let Fill { rest, open, .. } = self.fills[link as usize];
            let Some(level) = rest.checked_div(u64::from(open)) else { continue };
            if level > seen {
                self.heap.push(Reverse((level, link)));
                continue;
            }
            // No level is lower than this one, and levels only rise: so what is capped stops first.
            let mut stopped = false;
            while let Some(&(limit, flow)) =
                self.capped.get(next).filter(|capped| capped.0 <= level)
            {
                next += 1;
                if net.flows[flow as usize].rate == UNLIMITED {
                    self.stop(&mut net.flows[flow as usize], &net.links, limit);
                    stopped = true;
                }
            }
            if stopped {
                self.heap.push(Reverse((level, link)));
                continue;
            }
            for end in &net.links[link as usize].ends {
                if net.flows[end.flow as usize].rate == UNLIMITED {
                    self.stop(&mut net.flows[end.flow as usize], &net.links, level);
                }
            }
            let at = &mut net.links[link as usize];
            (at.limits, at.level) = (true, level);
        }
    }

    /// A flow has all it gets.
    fn stop(&mut self, flow: &mut Flow, links: &[Link], rate: u64) {
        flow.rate = rate;
        for link in [flow.up, flow.down] {
            if links[link as usize].mark {
                let fill = &mut self.fills[link as usize];
                fill.rest -= rate;
                fill.open -= 1;
            }
        }
    }

    /// Joins the links beyond the region that do not bear what the region makes of their flows.
    fn grow(&mut self, net: &mut Net) {
        self.border.clear();
        for at in 0..self.flows.len() {
            let Reached { flow, before } = self.flows[at];
            let Flow { up, down, rate, .. } = net.flows[flow as usize];
            if rate == before {
                continue;
            }
            for link in [up, down] {
                let at = &net.links[link as usize];
                if at.mark || !at.is_limited() {
                    continue;
                }
                if at.limits {
                    self.join(net, link);
                    continue;
                }
                let fill = &mut self.fills[link as usize];
                if !fill.on_border {
                    (fill.on_border, fill.rest) = (true, at.used);
                    self.border.push(link);
                }
                fill.rest = fill.rest.saturating_sub(before).saturating_add(rate);
            }
        }
        for at in 0..self.border.len() {
            let link = self.border[at];
            let fill = &mut self.fills[link as usize];
            fill.on_border = false;
            if fill.rest > net.links[link as usize].capacity {
                self.join(net, link);
            }
        }
    }

    /// What was solved holds everywhere: writes it down.
    fn commit(&mut self, net: &mut Net) {
        for link in self.border.drain(..) {
            net.links[link as usize].used = self.fills[link as usize].rest;
        }
        for link in self.region.drain(..) {
            let at = &mut net.links[link as usize];
            at.used = at.capacity - self.fills[link as usize].rest;
            at.mark = false;
        }
        for Reached { flow, before } in self.flows.drain(..) {
            let at = &mut net.flows[flow as usize];
            at.mark = false;
            if at.rate != before && !at.touched {
                at.touched = true;
                net.touched.push((flow, before));
            }
        }
    }
}
