//! Runs: a plan, carried out on a network of its own, and checked.
//!
//! ```text
//!   Scenario + seed --draw--> Plan --run--> Outcome: a summary, and what must not have been
//! ```
//!
//! A run has two phases. While things go wrong, nothing that must hold may break ([`Failure`]
//! lists it). From [`Plan::healed_at`] on nothing goes wrong any more, and everybody must get on:
//! each honest client is to be complete within a multiple of the [`bound()`] that the topology
//! itself sets, so that each plan brings its own measure.

mod bound;
mod check;
mod flaps;
mod nats;
mod plan;
pub mod record;
mod swarm;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::ops::ControlFlow;

use serde::Serialize;

pub use bound::bound;
pub use check::{FAILURES_MAX, Failure};
pub use flaps::{FLAPS_MAX, FLAPS_WITHIN};
pub use plan::{Choking, Family, Fault, HostPlan, Leaves, NatPlan, PickOrder, Plan, Preload, Role};

use crate::capture::Captured;
use crate::net::{HostId, Logged};

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// In numbers.
    pub summary: Summary,
    /// What must not have been; empty if all is well.
    pub failures: Vec<Failure>,
    /// What each host was told and sent, as a number, in the order of their ids.
    pub host_digests: Vec<u64>,
}

/// A run in numbers. Times are virtual but for `wall_s`.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// How closely the network was followed.
    pub fidelity: &'static str,
    /// What happened, as a number in hex: the same for the same plan, always and everywhere.
    pub digest: String,
    /// Hosts that took part.
    pub hosts: usize,
    /// Honest clients among them.
    pub honest: usize,
    /// Those of them behind NATs that forward nothing to them, so that nobody calls them: `bound_s`
    /// takes no account of that.
    pub behind_nats: usize,
    /// Clients that were complete, at the end or when they left.
    pub complete: usize,
    /// Calls of `handle_input`.
    pub events: u64,
    /// Calls of it for a timer.
    pub timeouts: u64,
    /// Blocks of content that clients took.
    pub blocks: u64,
    /// Connections that were tried.
    pub connections: u64,
    /// Bytes that streams delivered.
    pub delivered_bytes: u64,
    /// Bytes that streams lost, when their connections ended.
    pub lost_bytes: u64,
    /// How long it took, in seconds of virtual time.
    pub virtual_s: f64,
    /// When the last client was complete, in seconds after the last came; zero if not all were.
    pub took_s: f64,
    /// The least time that the topology allows, in seconds, if everybody reaches everybody.
    pub bound_s: f64,
    /// `took_s` over `bound_s`; zero if there is no bound.
    pub over_bound: f64,
    /// How long it took on the clock on the wall, in seconds, if somebody measured it.
    pub wall_s: f64,
    /// The most memory that the process had, in bytes, if somebody measured it.
    pub peak_rss_bytes: u64,
    /// How often each kind of trouble happened.
    pub fired: BTreeMap<&'static str, u64>,
    /// Whether an [`Observer`] or a limit ended it early: what must be in the end was not asked for then.
    pub stopped: bool,
    /// Whether something was that must not be.
    pub failed: bool,
    /// What.
    pub failures: Vec<String>,
}

/// Looks on while a run goes on.
pub trait Observer {
    /// A machine was told something. [`ControlFlow::Break`] ends the run before anything else
    /// happens: its summary says so ([`Summary::stopped`]), and holds it to nothing but what must
    /// hold all the time.
    fn on_logged(&mut self, logged: &Logged) -> ControlFlow<()>;
}

/// Carries a plan out, but ends after so many events (calls of `handle_input`), a little later
/// where more happen at the same time: the summary says then that it was
/// [stopped](Summary::stopped), and it is held to nothing but what must hold all the time.
pub fn run_at_most(plan: Plan, events_max: u64) -> Outcome {
    swarm::Run::new(plan).at_most(events_max).finish(None)
}

/// Carries a plan out. With an observer it is slower, and the same as far as that lets it go.
pub fn run(plan: Plan, observer: Option<&mut dyn Observer>) -> Outcome {
    swarm::Run::new(plan).finish(observer)
}

/// Carries a plan out as [`run()`] does, with the same outcome, and writes down how it goes; and
/// captures it, if that is wanted.
pub fn record(
    plan: Plan,
    observer: Option<&mut dyn Observer>,
    capturing: Option<Capturing>,
) -> (Outcome, record::Recording, Option<io::Result<Captured>>) {
    let mut run = swarm::Run::new(plan);
    run.record();
    if let Some(capturing) = capturing {
        run.capture(capturing);
    }
    let outcome = run.finish(observer);
    let recording = run.take_recording().expect("it was asked for");
    (outcome, recording, run.finish_capture())
}

/// What is captured of a run, and where it goes: a pcapng file, see [`crate::capture`].
pub struct Capturing {
    /// Which hosts. Those that the plan does not have are left out.
    pub hosts: Vec<HostId>,
    /// Where packets are written to, in parts of some 64 KiB, as the run goes.
    pub to: Box<dyn Write + Send>,
}

impl fmt::Debug for Capturing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capturing").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// The same, with a capture, which changes nothing of what comes of it. Where that cannot be
/// written, it ends, and the run goes on.
pub fn run_captured(
    plan: Plan,
    observer: Option<&mut dyn Observer>,
    capturing: Capturing,
) -> (Outcome, io::Result<Captured>) {
    let mut run = swarm::Run::new(plan);
    run.capture(capturing);
    let outcome = run.finish(observer);
    let captured = run.finish_capture().expect("it was begun");
    (outcome, captured)
}
