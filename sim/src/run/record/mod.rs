//! Writes down how a run goes, for people to look at: figures over time, what went wrong when, and
//! what befell the slowest peer.
//!
//! It only looks. Samples are taken between two events, at even times, of what is there anyway, so
//! that a run that is recorded is the same as one that is not, byte for byte. There is a bounded
//! number of them: when there are too many, every second one is dropped, and from then on they are
//! taken half as often.

mod clusters;
mod peer;
mod recording;
mod reduce;
mod spells;
mod story;
mod streams;
#[cfg(test)]
mod tests;

pub use recording::{
    Class, Clusters, FailureNote, Heat, Note, PeerRecord, Recording, Series, Spell, Spread, Story,
    Tone,
};
pub use reduce::jain;
pub use streams::{STREAM_SAMPLES_MAX, STREAMS_MAX, StreamSample, StreamSeries};

use std::net::{IpAddr, SocketAddr};

use teem_core::session::Event;
use teem_core::time::Duration;

use self::clusters::Slots;
use self::peer::Watch;
use self::spells::Spells;
use self::streams::Streams;
use super::plan::{Fault, HostPlan, Leaves, Plan, Preload, Role};
use crate::net::{Fidelity, HostId, Net};
use crate::swarm::Node;
use crate::time::Nanos;

/// Samples over a run that are kept.
pub const SAMPLES_MAX: usize = 512;

/// Rows of pieces in [`Heat`]; where there are more pieces, a row is of several.
pub const HEAT_ROWS_MAX: usize = 64;

/// Columns in [`Heat`].
pub const HEAT_COLUMNS_MAX: usize = 120;

/// Single peers whose rates are kept.
pub const RATES_MAX: usize = 24;

/// Samples of single hosts that are kept, over all hosts.
const HOST_SAMPLES_MAX: usize = 1 << 21;

/// Hosts whose peers are looked at one by one in a sample; the others have their turn later.
const LOOKS_MAX: usize = 64;

/// How much is known of a run while it goes on. See the [module](self).
#[derive(Debug)]
pub(super) struct Recorder {
    /// Honest clients, in the order of their hosts.
    watches: Vec<Watch>,
    /// Places in `watches`, by host.
    place: Vec<Option<usize>>,
    /// How many have each piece and are there.
    copies: Vec<u32>,
    samples: Vec<Sample>,
    samples_max: usize,
    interval: Duration,
    /// When the next sample is due.
    due: Nanos,
    spells: Spells,
    slots: Option<Slots>,
    streams: Streams,
    /// Whose turn it is to be looked at closely.
    turn: usize,
    /// Uplinks count, and each has a limit.
    has_capacity: bool,
    /// Nobody takes part but honest clients: what comes to one is what another sent.
    is_closed: bool,
    begins: Nanos,
    healed: Nanos,
    bound: Duration,
    content_len: u64,
    piece_len: u32,
}

/// What is the case at a time.
#[derive(Debug)]
struct Sample {
    at: Nanos,
    /// What the uplinks that are there carry, in bytes per second.
    capacity: u64,
    /// Copies in each row of pieces: the least.
    rows: Box<[u32]>,
    /// Copies of the rarest piece, the median, and the most common one.
    copies: [u32; 3],
    hosts: Box<[HostSample]>,
}

/// A host at a time.
#[derive(Clone, Copy, Debug, Default)]
struct HostSample {
    received: u64,
    sent: u64,
    have: u32,
    connections: u16,
    is_up: bool,
    /// It came, and is not complete.
    is_fetching: bool,
}

impl Recorder {
    pub(super) fn new(plan: &Plan, bound: Duration) -> Self {
        let mut place = vec![None; plan.hosts.len()];
        let mut watches = Vec::new();
        for (host, planned) in plan.hosts.iter().enumerate() {
            if planned.role == Role::Peer {
                place[host] = Some(watches.len());
                watches.push(Watch::new(host, planned));
            }
        }
        let pieces = plan.content_len.div_ceil(u64::from(plan.piece_len)) as usize;
        let samples_max = (HOST_SAMPLES_MAX / watches.len().max(1)).clamp(64, SAMPLES_MAX);
        let interval = if bound.is_zero() { Duration::from_millis(250) } else { bound / 128 };
        let rates_count = plan.fidelity != Fidelity::Message;
        let has_capacity =
            rates_count && !watches.is_empty() && watches.iter().all(|watch| watch.up.is_some());
        let slots = rates_count.then(|| Slots::new(&watches)).flatten();
        Self {
            streams: Streams::new(&watches),
            watches,
            place,
            copies: vec![0; pieces],
            samples: Vec::new(),
            samples_max,
            interval: interval.clamp(Duration::from_millis(20), Duration::from_secs(10)),
            due: Nanos::ZERO,
            spells: Spells::default(),
            slots,
            turn: 0,
            has_capacity,
            is_closed: plan.hosts.iter().all(|host| host.role == Role::Peer),
            begins: plan.hosts.iter().map(|host| host.arrives).max().unwrap_or(Nanos::ZERO),
            healed: plan.healed_at,
            bound,
            content_len: plan.content_len,
            piece_len: plan.piece_len,
        }
    }

    fn watch(&mut self, host: HostId) -> Option<&mut Watch> {
        self.place[host].map(|place| &mut self.watches[place])
    }

    /// A host comes, or comes back.
    pub(super) fn on_up(&mut self, now: Nanos, host: HostId) {
        if let Some(watch) = self.watch(host) {
            watch.on_up(now);
        }
    }

    /// A host went down.
    pub(super) fn on_down(&mut self, now: Nanos, host: HostId) {
        let Some(place) = self.place[host] else { return };
        self.watches[place].on_down(now, &mut self.copies);
    }

    /// A host left for good, because the plan says so or because it is complete.
    pub(super) fn on_left(&mut self, now: Nanos, host: HostId, planned: &HostPlan) {
        let Some(place) = self.place[host] else { return };
        let watch = &mut self.watches[place];
        watch.on_down(now, &mut self.copies);
        watch.left = Some(now);
        if matches!(planned.leaves, Leaves::At(_)) {
            let what = if watch.complete.is_some() { "it left" } else { "it left, not complete" };
            self.spells.happen(now, "churn", Some(host), what.to_owned());
        }
    }

    /// A host tells something.
    pub(super) fn on_event(&mut self, now: Nanos, host: HostId, event: &Event, net: &Net<Node>) {
        let Some(place) = self.place[host] else { return };
        self.watches[place].on_event(now, event, net, &mut self.copies);
    }

    /// A host is complete.
    pub(super) fn on_complete(&mut self, now: Nanos, host: HostId) {
        if let Some(watch) = self.watch(host) {
            watch.complete = Some(now);
        }
    }

    /// What a host has is to be looked at again.
    pub(super) fn on_recheck(&mut self, host: HostId) {
        if let Some(watch) = self.watch(host) {
            watch.complete = None;
        }
    }

    /// A fault is about to be carried out.
    pub(super) fn on_fault(&mut self, now: Nanos, fault: &Fault, plan: &Plan, net: &Net<Node>) {
        let host = match fault {
            Fault::Crash(host, _) | Fault::Pause(host) | Fault::Access(host, _) => Some(*host),
            _ => None,
        };
        let usual = host.map(|host| &plan.hosts[host].access);
        let is_up = host.is_none_or(|host| net.is_up(host));
        self.spells.on_fault(now, fault, usual, is_up);
    }

    /// Nothing is wrong any more.
    pub(super) fn on_healed(&mut self, now: Nanos) {
        self.spells.heal_all(now);
    }

    /// Nothing happens before `next`: takes the samples that are due until then. `host_at` tells
    /// who is at an address.
    pub(super) fn sample_until(
        &mut self,
        next: Nanos,
        net: &Net<Node>,
        host_at: impl Fn(IpAddr) -> Option<HostId>,
    ) {
        while self.due <= next {
            let at = self.due;
            self.sample(at, net);
            self.look_closely(at, net, &host_at);
            self.streams.sample(at, net);
            if self.samples.len() >= self.samples_max {
                let mut number = 0;
                self.samples.retain(|_| {
                    number += 1;
                    number % 2 == 1
                });
                self.interval *= 2;
            }
            let last = self.samples.last().map_or(at, |sample| sample.at);
            self.due = last + self.interval;
        }
    }

    fn sample(&mut self, at: Nanos, net: &Net<Node>) {
        let mut capacity = 0_u64;
        let hosts = self.watches.iter().map(|watch| {
            let traffic = net.traffic(watch.host);
            let is_up = net.is_up(watch.host);
            let connections = match is_up.then(|| net.machine(watch.host).session()).flatten() {
                Some(session) => {
                    let link = net.topology().access(watch.host).up_bytes_per_s;
                    let own = session.config().up_bytes_per_s;
                    let up = link.into_iter().chain(own).min().unwrap_or(0);
                    capacity = capacity.saturating_add(up);
                    u16::try_from(session.stats().peers).unwrap_or(u16::MAX)
                }
                None => 0,
            };
            HostSample {
                received: traffic.received_bytes,
                sent: traffic.sent_bytes,
                have: watch.have_pieces(),
                connections,
                is_up,
                is_fetching: watch.is_fetching(),
            }
        });
        let hosts = hosts.collect();
        let rows = self.rows();
        let row = rows.iter().map(|row| {
            let copies = self.copies[row.clone()].iter().copied();
            copies.min().unwrap_or(0)
        });
        let mut sorted = self.copies.clone();
        sorted.sort_unstable();
        let copies = [0, sorted.len() / 2, sorted.len().saturating_sub(1)]
            .map(|at| sorted.get(at).copied().unwrap_or(0));
        self.samples.push(Sample { at, capacity, rows: row.collect(), copies, hosts });
    }

    /// Which pieces are in each row.
    fn rows(&self) -> Vec<std::ops::Range<usize>> {
        let pieces = self.copies.len();
        let rows = pieces.min(HEAT_ROWS_MAX);
        (0..rows).map(|row| row * pieces / rows..(row + 1) * pieces / rows).collect()
    }

    /// Looks at what some hosts wait for, and whom they serve.
    fn look_closely(
        &mut self,
        at: Nanos,
        net: &Net<Node>,
        host_at: &impl Fn(IpAddr) -> Option<HostId>,
    ) {
        let count = self.watches.len();
        let mut looks = 0;
        let mut steps = 0;
        while steps < count && looks < LOOKS_MAX {
            let place = (self.turn + steps) % count;
            steps += 1;
            let watch = &mut self.watches[place];
            if !watch.is_fetching() || !net.is_up(watch.host) {
                continue;
            }
            looks += 1;
            let Some(session) = net.machine(watch.host).session() else { continue };
            let Some(torrent) = session.torrents().next() else { continue };
            let peers = session.peers(torrent.id);
            watch.look(at, &torrent, &peers, net.traffic(watch.host).received_bytes);
            let Some(slots) = &mut self.slots else { continue };
            let host = watch.host;
            let fetching = |address: SocketAddr| {
                // Several may be behind one address of a NAT.
                let other = if net.has_nats() {
                    net.host_seen_at(host, address)
                } else {
                    host_at(address.ip())
                };
                let other = other.and_then(|other| self.place[other])?;
                self.watches[other].is_fetching().then_some(other)
            };
            slots.look(place, &peers, fetching);
        }
        self.turn = (self.turn + steps) % count.max(1);
    }

    /// The run is over: takes a last sample, and keeps what is worth it.
    pub(super) fn finish(mut self, net: &Net<Node>, failures: &[super::Failure]) -> Recording {
        let now = net.nanos();
        self.sample(now, net);
        reduce::reduce(self, now, net, failures)
    }
}

/// Whether a client is there to fetch something.
const fn fetches(planned: &HostPlan) -> bool {
    !matches!(planned.preload, Preload::Everything)
}
