//! Everything about a run that is decided before it begins.
//!
//! A scenario and a seed make a [`Plan`]; [`run`](super::run()) carries a plan out. Whatever is
//! drawn at random was drawn here, each number from a stream of its own, so that a plan can be
//! changed by hand (a host less, a fault less) and the rest stays as it was.

use std::collections::BTreeSet;

use teem_core::metainfo::create::Format;
use teem_core::session::Config;
use teem_core::time::Duration;

use crate::actors::{Kind, Lie};
use crate::nat::{self, NatConfig};
use crate::net::{Access, Curve, Fidelity, Skew};
use crate::packet::line::Line;
use crate::packet::tcp::Algorithm;
use crate::storage::{Crash, JobKind, Profile};
use crate::time::Nanos;

/// Everything about a run that is decided before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the scenario is called.
    pub scenario: String,
    /// What everything was drawn from, and will be.
    pub seed: u64,
    /// How closely the network is followed.
    pub fidelity: Fidelity,
    /// What lies between any two hosts, one way.
    pub between: Duration,
    /// Distances between regions on top of that, one way.
    pub distances: Vec<(u16, u16, Duration)>,
    /// Measured delays, which [`Spread::Empirical`](crate::net::Spread::Empirical) names by their
    /// places here.
    pub curves: Vec<Curve>,
    /// How TCP finds its rate, in `packet` fidelity.
    pub tcp: Algorithm,
    /// Kinds of lines, which [`Access::line`] names by their places here, each once; the first is
    /// [`Line::CLEAR`].
    pub lines: Vec<Line>,
    /// Bytes that everybody wants.
    pub content_len: u64,
    /// Bytes in a piece.
    pub piece_len: u32,
    /// What kind of torrent it is.
    pub format: Format,
    /// Who takes part, in the order of their host ids.
    pub hosts: Vec<HostPlan>,
    /// What some of them are behind, in the order of the numbers that the NATs draw by.
    pub nats: Vec<NatPlan>,
    /// How many of those that are there a peer is told of when it arrives.
    pub degree: usize,
    /// What goes wrong, in the order of time.
    pub faults: Vec<(Nanos, Fault)>,
    /// Kinds of trouble that are in this plan; each must fire, or the run fails.
    pub families: Vec<Family>,
    /// When the last fault is over: from then on everybody must get on.
    pub healed_at: Nanos,
    /// Every honest peer must be complete this long after the last arrival and after
    /// [`Plan::healed_at`], in thousandths of the bound that the topology allows ...
    pub bound_permille: u64,
    /// ... and this much more, for what does not scale: choke rounds, timeouts.
    pub slack: Duration,
    /// The run ends there, complete or not; none: when everybody is complete.
    pub ends_at: Option<Nanos>,
    /// The run must fail: it proves that a failure is noticed.
    pub must_fail: bool,
}

/// One host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPlan {
    /// What runs on it.
    pub role: Role,
    /// How it is attached.
    pub access: Access,
    /// When it comes.
    pub arrives: Nanos,
    /// When it goes.
    pub leaves: Leaves,
    /// What is on its disk when it comes.
    pub preload: Preload,
    /// How its disk is.
    pub disk: Profile,
    /// How wrong its clocks are.
    pub clock: Skew,
    /// Its session's settings.
    pub config: Config,
    /// In which order it begins pieces.
    pub order: PickOrder,
    /// Whom it serves.
    pub choking: Choking,
}

/// A NAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatPlan {
    /// How it behaves.
    pub config: NatConfig,
    /// Which hosts are behind it.
    pub hosts: Vec<usize>,
    /// Which other NAT, by its place before this one, it is behind; none: it has public addresses.
    pub behind: Option<usize>,
    /// How many outside addresses it has; behind another NAT it has one.
    pub addresses: usize,
    /// Whether it forwards the clients' port to the first of the hosts.
    pub forward: bool,
}

impl Plan {
    /// Numbers the groups that are cut off from one another in the order in which cuts name them, as
    /// a scenario file that says so is read. Groups that no cut names are gone.
    pub fn groups_in_order(&mut self) {
        let mut bits: Vec<u64> = Vec::new();
        for (_, fault) in &mut self.faults {
            let Fault::Cut(from, to) = fault else { continue };
            for side in [from, to] {
                let at = bits.iter().position(|bit| bit == side).unwrap_or(bits.len());
                if at == bits.len() {
                    bits.push(*side);
                }
                *side = 1 << at;
            }
        }
        let renamed = |groups: u64| {
            let on = |(at, bit): (usize, &u64)| u64::from(groups & bit != 0) << at;
            bits.iter().enumerate().map(on).sum()
        };
        for host in &mut self.hosts {
            host.access.groups = renamed(host.access.groups);
        }
        for (_, fault) in &mut self.faults {
            if let Fault::Access(_, access) = fault {
                access.groups = renamed(access.groups);
            }
        }
    }
}

impl Plan {
    /// NATs that other NATs are behind.
    pub(crate) fn carriers(&self) -> BTreeSet<usize> {
        self.nats.iter().filter_map(|nat| nat.behind).collect()
    }
}

impl NatPlan {
    /// An empty place: a NAT with nothing behind it, so that those after it keep theirs. Each NAT
    /// draws from a stream of its own number.
    pub const fn nobody() -> Self {
        Self {
            config: NatConfig::of(nat::Kind::FullCone),
            hosts: Vec::new(),
            behind: None,
            addresses: 1,
            forward: false,
        }
    }
}

impl HostPlan {
    /// An empty place.
    pub fn nobody() -> Self {
        Self {
            role: Role::Nobody,
            access: Access::PERFECT,
            arrives: Nanos::ZERO,
            leaves: Leaves::Never,
            preload: Preload::Nothing,
            disk: Profile::INSTANT,
            clock: Skew::NONE,
            config: Config::default(),
            order: PickOrder::default(),
            choking: Choking::default(),
        }
    }
}

/// What runs on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A client.
    Peer,
    /// An honest tracker, which every client announces to.
    Tracker,
    /// A tracker that answers every client with this lie.
    LyingTracker(Lie),
    /// Somebody who means harm.
    Attacker(Kind),
    /// Nothing ever: the place is empty, so that those after it keep theirs. Every host draws from
    /// streams of its own number, so one that is replaced by nobody leaves the others' draws.
    Nobody,
}

/// When a host goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// Never.
    Never,
    /// This long after it was complete.
    Complete(Duration),
    /// Then, complete or not.
    At(Nanos),
}

/// What is on a client's disk when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preload {
    /// Nothing.
    Nothing,
    /// All of it.
    Everything,
    /// That many thousandths of its pieces, chosen by the seed.
    Part(u16),
}

/// In which order a client begins pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PickOrder {
    /// The rarest first.
    #[default]
    RarestFirst,
    /// By index.
    Sequential,
    /// As they come.
    Random,
}

/// Whom a client serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choking {
    /// As the client does by default: those that give most, and when it is complete those that
    /// take most.
    #[default]
    Default,
    /// In turn, so many bytes each.
    RoundRobin(u64),
}

/// Something that goes wrong, or is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A host goes down.
    Crash(usize, Crash),
    /// It comes up again, with its disk.
    Restart(usize),
    /// A host stops to run.
    Pause(usize),
    /// It runs again.
    Resume(usize),
    /// Nothing gets from hosts of the first groups to hosts of the second.
    Cut(u64, u64),
    /// All cuts are over.
    Heal,
    /// A host gets another address.
    Move(usize),
    /// A host is attached in another way.
    Access(usize, Access),
    /// Jobs of this kind fail on a host, in millionths, from now on.
    DiskErrors(usize, JobKind, u32),
    /// The n-th job of this kind, counted from one, fails on a host.
    DiskErrorAt(usize, JobKind, u32),
    /// A host's disk has room for that many more bytes; none: for everything.
    DiskRoom(usize, Option<u64>),
    /// A host's disk is this many times slower until then.
    DiskSlow(usize, u32, Nanos),
    /// A host's disk has no faults any more.
    DiskHeals(usize),
    /// A host's torrent, if it failed, is started again.
    RestartTorrent(usize),
    /// Writes on a host land in the wrong place of the torrent, in millionths, from now on.
    DiskMisdirects(usize, u32),
    /// A host's resume data is lost, so that all that is on its disk is checked when it starts, which
    /// is now if it runs; and it comes under another address, as its old one may be banned for what
    /// its disk made it send.
    Recheck(usize),
    /// A host's clocks are this wrong from now on.
    Clock(usize, Skew),
}

impl Fault {
    /// The host that it befalls, if it is one.
    pub const fn host(mut self) -> Option<usize> {
        match self.host_mut() {
            Some(host) => Some(*host),
            None => None,
        }
    }

    /// The same, to have it befall another one.
    pub const fn host_mut(&mut self) -> Option<&mut usize> {
        match self {
            Self::Crash(host, _)
            | Self::Restart(host)
            | Self::Pause(host)
            | Self::Resume(host)
            | Self::Move(host)
            | Self::Access(host, _)
            | Self::DiskErrors(host, ..)
            | Self::DiskErrorAt(host, ..)
            | Self::DiskRoom(host, _)
            | Self::DiskSlow(host, ..)
            | Self::DiskHeals(host)
            | Self::RestartTorrent(host)
            | Self::DiskMisdirects(host, _)
            | Self::Recheck(host)
            | Self::Clock(host, _) => Some(host),
            Self::Cut(..) | Self::Heal => None,
        }
    }
}

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Processes end and come back.
    Crash,
    /// Power fails and comes back.
    Power,
    /// Processes are stopped and go on.
    Pause,
    /// Groups of hosts are cut off from each other.
    Partition,
    /// Hosts get other addresses.
    Move,
    /// Links lose what they carry.
    Loss,
    /// Links become slow for a while.
    SlowLinks,
    /// Disk jobs fail.
    DiskErrors,
    /// Disks are full for a while.
    DiskFull,
    /// Disks are slow for a while.
    DiskSlow,
    /// Peers leave before they are complete, and others come.
    Churn,
    /// Somebody means harm.
    Attackers,
    /// Writes land in the wrong place, and nobody notices until everything is checked.
    MisdirectedWrites,
    /// Clocks are wrong for a while.
    ClockSkew,
    /// Trackers lie.
    LyingTrackers,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Crash,
        Self::Power,
        Self::Pause,
        Self::Partition,
        Self::Move,
        Self::Loss,
        Self::SlowLinks,
        Self::DiskErrors,
        Self::DiskFull,
        Self::DiskSlow,
        Self::Churn,
        Self::Attackers,
        Self::MisdirectedWrites,
        Self::ClockSkew,
        Self::LyingTrackers,
    ];

    /// As scenario files and reports name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Power => "power",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::Move => "move",
            Self::Loss => "loss",
            Self::SlowLinks => "slow-links",
            Self::DiskErrors => "disk-errors",
            Self::DiskFull => "disk-full",
            Self::DiskSlow => "disk-slow",
            Self::Churn => "churn",
            Self::Attackers => "attackers",
            Self::MisdirectedWrites => "misdirected-writes",
            Self::ClockSkew => "clock-skew",
            Self::LyingTrackers => "lying-trackers",
        }
    }
}
