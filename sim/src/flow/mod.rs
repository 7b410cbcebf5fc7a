//! Rates of streams that share access links: the model behind the `flow` fidelity.
//!
//! Owns who gets how many bytes per second when every host has an up link and a down link, and every
//! *flow* (one direction of one stream, while it has a backlog) uses the up link of one host, the
//! down link of another and never exceeds a cap of its own. The share is max-min fair: a flow gets
//! less than another on the same link only if something else holds it back.
//!
//! Refuses: bytes, queues and time ([`progress`] has them), loss and delay (the caller turns them
//! into a cap), and pairs of hosts, of which there are too many to keep anything for.
//!
//! - [`exact`] finds the max-min shares, as far as a change reaches.
//! - [`local`] looks at the links where something changed and a bounded step beyond, and never gives
//!   out more than a link has.
//!
//! Both are deterministic, and what they give a group of hosts does not depend on hosts that
//! no chain of flows connects with it; only the choice between them, which [`Rule::Auto`] makes by
//! the number of all flows, does.
//!
//! # Memory
//!
//! 40 bytes a flow, 56 a link, and 8 per flow in each of its two links' lists: 112 bytes for an idle
//! host, 56 for a flow (and the slack of vectors). 10,000 hosts with 80,000 flows take under 8 MiB.

pub mod exact;
pub mod local;
pub mod progress;

use exact::Exact;
use local::Local;

/// A rate or a capacity that nothing binds.
pub const UNLIMITED: u64 = u64::MAX;

/// Up to this many flows, [`Rule::Auto`] is exact.
pub const EXACT_MAX: usize = 2_000;

/// Below this many flows, [`Rule::Auto`] returns to exact: apart from [`EXACT_MAX`], so that a swarm
/// at the limit does not solve the whole network at each change.
pub const EXACT_AGAIN: usize = 1_500;

/// Most hosts: links are numbered with 32 bits, two a host.
pub const HOSTS_MAX: usize = 1 << 31;

/// Most flows at a time.
pub const FLOWS_MAX: usize = u32::MAX as usize;

/// How rates are found.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Exact with few flows, local with many: [`EXACT_MAX`], [`EXACT_AGAIN`].
    #[default]
    Auto,
    /// Max-min fair, however many flows there are: [`exact`].
    Exact,
    /// Near a change only: [`local`].
    Local,
}

/// Names a flow from its start to its stop. Slots are used again, names are not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowId {
    slot: u32,
    generation: u32,
}

impl FlowId {
    /// A small number that no other running flow has: an index for what the caller keeps per flow.
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

/// Hosts, the flows between them, and the rate of each.
///
/// Changes ([`Flows::start`], [`Flows::stop`], [`Flows::set_rates`]) only mark links; rates follow
/// in [`Flows::settle`], once per instant however many changes it saw.
///
/// ```
/// use teem_sim::flow::Flows;
///
/// let mut flows = Flows::new();
/// let seed = flows.add_host(Some(1_000), None);
/// let leech = flows.add_host(None, Some(300));
/// let other = flows.add_host(None, None);
/// let slow = flows.start(seed, leech, None);
/// let fast = flows.start(seed, other, None);
/// flows.settle(&mut Vec::new());
/// assert_eq!((flows.rate(slow), flows.rate(fast)), (300, 700));
/// ```
#[derive(Debug, Default)]
pub struct Flows {
    net: Net,
    rule: Rule,
    /// Whether the rates at hand came from the local rule.
    is_local: bool,
    exact: Exact,
    local: Local,
}

impl Flows {
    /// No hosts, no flows; [`Rule::Auto`].
    pub fn new() -> Self {
        Self::default()
    }

    /// No hosts, no flows; always `rule`.
    pub fn with_rule(rule: Rule) -> Self {
        Self { rule, is_local: rule == Rule::Local, ..Self::default() }
    }

    /// One more host, the next number from zero. Rates in bytes per second, none: unlimited.
    pub fn add_host(&mut self, up: Option<u64>, down: Option<u64>) -> usize {
        let host = self.hosts();
        assert!(host < HOSTS_MAX, "hosts are numbered with 31 bits");
        self.net.links.extend([Link::new(up), Link::new(down)]);
        host
    }

    /// Hosts added.
    pub fn hosts(&self) -> usize {
        self.net.links.len() / 2
    }

    /// Gives `host` other rates. Costs as much as it has flows.
    pub fn set_rates(&mut self, host: usize, up: Option<u64>, down: Option<u64>) {
        self.net.set_capacity(up_of(host), up);
        self.net.set_capacity(down_of(host), down);
    }

    /// A flow from `from` to `to`, at most `cap` bytes per second, for as long as it has something
    /// to send. Its rate is zero until [`Flows::settle`]. Any number of flows may share two hosts,
    /// and a host may send to itself (through its own up and down link).
    pub fn start(&mut self, from: usize, to: usize, cap: Option<u64>) -> FlowId {
        self.net.start(up_of(from), down_of(to), cap.unwrap_or(UNLIMITED))
    }

    /// Ends `flow`: its backlog is empty, or its stream is closed. O(1).
    ///
    /// # Panics
    /// If it was stopped before.
    pub fn stop(&mut self, flow: FlowId) {
        self.net.stop(flow);
    }

    /// Changes what `flow` may reach by itself (loss or round trip changed). O(1).
    pub fn set_cap(&mut self, flow: FlowId, cap: Option<u64>) {
        self.net.set_cap(flow, cap.unwrap_or(UNLIMITED));
    }

    /// Whether something changed since the last [`Flows::settle`].
    pub fn is_dirty(&self) -> bool {
        !self.net.dirty.is_empty()
    }

    /// Finds the rates after all changes since the last call, and appends to `changed` each running
    /// flow whose rate differs from then (a new flow had zero). Their order is deterministic, and
    /// among connected hosts the same whatever else there is.
    pub fn settle(&mut self, changed: &mut Vec<FlowId>) {
        let be_local = match self.rule {
            Rule::Exact => false,
            Rule::Local => true,
            Rule::Auto if self.is_local => self.net.count >= EXACT_AGAIN,
            Rule::Auto => self.net.count > EXACT_MAX,
        };
        if be_local {
            self.local.settle(&mut self.net);
        } else {
            if self.is_local {
                (0..self.net.links.len()).for_each(|link| self.net.mark(link as u32));
            }
            self.exact.settle(&mut self.net);
        }
        self.is_local = be_local;
        self.net.report(changed);
    }

    /// Bytes per second of `flow` since the last [`Flows::settle`]; [`UNLIMITED`] if nothing binds it.
    ///
    /// # Panics
    /// If it was stopped.
    pub fn rate(&self, flow: FlowId) -> u64 {
        self.net.flow(flow).rate
    }

    /// The host that `flow` leaves, and the one that it reaches.
    ///
    /// # Panics
    /// If it was stopped.
    pub fn ends(&self, flow: FlowId) -> (usize, usize) {
        let flow = self.net.flow(flow);
        (flow.up as usize / 2, flow.down as usize / 2)
    }

    /// Running flows.
    pub fn len(&self) -> usize {
        self.net.count
    }

    /// Whether no flow runs.
    pub fn is_empty(&self) -> bool {
        self.net.count == 0
    }

    /// The rates of all flows that leave `host` and of all that reach it, summed. Costs as much as
    /// it has flows; for checkers.
    pub fn load(&self, host: usize) -> (u64, u64) {
        (self.net.load(up_of(host)), self.net.load(down_of(host)))
    }

    /// Bytes that this structure holds, scratch included.
    pub fn memory(&self) -> usize {
        let lists: usize = self.net.links.iter().map(|link| link.ends.capacity()).sum();
        self.net.links.capacity() * size_of::<Link>()
            + lists * size_of::<End>()
            + self.net.flows.capacity() * size_of::<Flow>()
            + (self.net.free.capacity() + self.net.dirty.capacity()) * size_of::<u32>()
            + self.net.touched.capacity() * size_of::<(u32, u64)>()
            + self.exact.memory()
            + self.local.memory()
    }
}

const fn up_of(host: usize) -> u32 {
    host as u32 * 2
}

const fn down_of(host: usize) -> u32 {
    host as u32 * 2 + 1
}

/// Hosts' links and the flows at them: what both rules read and write.
#[derive(Debug, Default)]
struct Net {
    /// Two a host: up at even numbers, down at odd ones.
    links: Vec<Link>,
    flows: Vec<Flow>,
    free: Vec<u32>,
    count: usize,
    /// Links at which something changed, each once, in that order.
    dirty: Vec<u32>,
    /// Flows to which a rule gave another rate during this settle, each once, and the rate before.
    touched: Vec<(u32, u64)>,
}

/// One direction of one host's access link.
#[derive(Debug)]
struct Link {
    /// Bytes per second; [`UNLIMITED`] binds nothing and joins nothing.
    capacity: u64,
    /// What its flows have, summed. Kept for limited links only.
    used: u64,
    /// What a flow gets here that nothing else holds back: the water level if this link `limits`,
    /// else the equal share.
    level: u64,
    ends: Vec<End>,
    dirty: bool,
    /// Whether it held some flow back when it was last looked at.
    limits: bool,
    /// For the rule at work; false between settles.
    mark: bool,
}

/// A flow in a link's list.
#[derive(Clone, Copy, Debug)]
struct End {
    flow: u32,
    /// The link at its other end.
    peer: u32,
}

#[derive(Debug)]
struct Flow {
    cap: u64,
    rate: u64,
    up: u32,
    down: u32,
    /// Where it stands in the lists of its links.
    up_at: u32,
    down_at: u32,
    generation: u32,
    /// Whether it is in `touched`.
    touched: bool,
    /// For the rule at work; false between settles.
    mark: bool,
}

const _: () = assert!(size_of::<Flow>() == 40 && size_of::<Link>() == 56 && size_of::<End>() == 8);

impl Link {
    fn new(capacity: Option<u64>) -> Self {
        Self {
            capacity: capacity.unwrap_or(UNLIMITED),
            used: 0,
            level: capacity.unwrap_or(UNLIMITED),
            ends: Vec::new(),
            dirty: false,
            limits: false,
            mark: false,
        }
    }

    const fn is_limited(&self) -> bool {
        self.capacity != UNLIMITED
    }

    /// Takes the flow at `at` off the list, and says which one stands there now, if any does.
    fn remove(&mut self, at: u32, rate: u64) -> Option<u32> {
        self.ends.swap_remove(at as usize);
        if self.is_limited() {
            // A flow may have had more, if the capacity shrank since the last settle.
            self.used = self.used.saturating_sub(rate);
        }
        self.ends.get(at as usize).map(|end| end.flow)
    }

    /// What nobody uses. Zero if the capacity shrank below what is used.
    const fn spare(&self) -> u64 {
        self.capacity.saturating_sub(self.used)
    }
}

impl Net {
    fn start(&mut self, up: u32, down: u32, cap: u64) -> FlowId {
        let slot = self.free.pop().unwrap_or_else(|| {
            assert!(self.flows.len() < FLOWS_MAX, "flows are numbered with 32 bits");
            let fresh = Flow {
                cap: 0,
                rate: 0,
                up: 0,
                down: 0,
                up_at: 0,
                down_at: 0,
                generation: 0,
                touched: false,
                mark: false,
            };
            self.flows.push(fresh);
            self.flows.len() as u32 - 1
        });
        let flow = &mut self.flows[slot as usize];
        (flow.cap, flow.rate, flow.up, flow.down) = (cap, 0, up, down);
        flow.up_at = self.links[up as usize].ends.len() as u32;
        flow.down_at = self.links[down as usize].ends.len() as u32;
        let generation = flow.generation;
        self.links[up as usize].ends.push(End { flow: slot, peer: down });
        self.links[down as usize].ends.push(End { flow: slot, peer: up });
        self.count += 1;
        self.mark_ends(up, down);
        FlowId { slot, generation }
    }

    fn stop(&mut self, id: FlowId) {
        let &Flow { up, down, up_at, down_at, rate, .. } = self.flow(id);
        if let Some(moved) = self.links[up as usize].remove(up_at, rate) {
            self.flows[moved as usize].up_at = up_at;
        }
        if let Some(moved) = self.links[down as usize].remove(down_at, rate) {
            self.flows[moved as usize].down_at = down_at;
        }
        let flow = &mut self.flows[id.slot()];
        flow.generation = flow.generation.wrapping_add(1);
        self.free.push(id.slot);
        self.count -= 1;
        for link in [up, down] {
            if self.links[link as usize].is_limited() {
                self.mark(link);
            }
        }
    }

    fn set_cap(&mut self, id: FlowId, cap: u64) {
        let &Flow { up, down, .. } = self.flow(id);
        self.flows[id.slot()].cap = cap;
        self.mark_ends(up, down);
    }

    fn set_capacity(&mut self, link: u32, capacity: Option<u64>) {
        let (was, is) = (self.links[link as usize].capacity, capacity.unwrap_or(UNLIMITED));
        if was == is {
            return;
        }
        let used = if is == UNLIMITED { 0 } else { self.load(link) };
        let link_at = &mut self.links[link as usize];
        (link_at.capacity, link_at.used, link_at.limits) = (is, used, false);
        link_at.level = is;
        self.mark(link);
    }

    /// # Panics
    /// If `id` was stopped: its slot may be another flow by now.
    fn flow(&self, id: FlowId) -> &Flow {
        let flow = &self.flows[id.slot()];
        assert_eq!(flow.generation, id.generation, "a stopped flow");
        flow
    }

    /// Marks what must be looked at when a flow between them changes: the links that can bind it,
    /// or either, if none can.
    fn mark_ends(&mut self, up: u32, down: u32) {
        let is_limited = |link: u32| self.links[link as usize].is_limited();
        let (at_up, at_down) = (is_limited(up), is_limited(down));
        if at_up || !at_down {
            self.mark(up);
        }
        if at_down {
            self.mark(down);
        }
    }

    fn mark(&mut self, link: u32) {
        let dirty = &mut self.links[link as usize].dirty;
        if !*dirty {
            *dirty = true;
            self.dirty.push(link);
        }
    }

    /// Gives a flow `rate`, remembering the one it had when the settle began.
    fn set_rate(&mut self, slot: u32, rate: u64) {
        let flow = &mut self.flows[slot as usize];
        if !flow.touched {
            flow.touched = true;
            self.touched.push((slot, flow.rate));
        }
        flow.rate = rate;
    }

    fn load(&self, link: u32) -> u64 {
        let rates =
            self.links[link as usize].ends.iter().map(|end| self.flows[end.flow as usize].rate);
        rates.fold(0, u64::saturating_add)
    }

    /// Ends a settle: which flows have another rate than before it.
    fn report(&mut self, changed: &mut Vec<FlowId>) {
        for (slot, before) in self.touched.drain(..) {
            let flow = &mut self.flows[slot as usize];
            flow.touched = false;
            if flow.rate != before {
                changed.push(FlowId { slot, generation: flow.generation });
            }
        }
    }
}

#[cfg(test)]
mod tests;
