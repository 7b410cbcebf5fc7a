//! A network in memory: hosts, streams and datagrams on one virtual clock.
//!
//! Time jumps exactly to what happens next: something arrives, a job is done, or a machine's
//! [`Machine::poll_timeout`] has come. A host to which nothing happens costs nothing.
//!
//! What a byte goes through is the [`Fidelity`]'s; how hosts are attached is [`Access`], and what
//! lies between them [`Topology`]. Streams keep their order and lose nothing: a loss is a delay, or a
//! rate, or a segment that is sent again. A receiver that does not read stops the sender ([`WINDOW`]).
//!
//! A host that is woken for its timers 1,000 times without time moving has a timer that does not
//! advance: the run fails and names it.

mod agenda;
mod ahead;
mod captures;
mod clock;
mod datagrams;
mod digest;
mod faults;
mod host;
mod jobs;
mod link;
mod marks;
mod nats;
mod packets;
mod pipe;
mod ports;
mod said;
mod settle;
mod spread;
mod streams;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use teem_core::ids::{ListenerId, Slab, SocketId};
use teem_core::machine::Machine;
use teem_core::rng::Seed;
use teem_core::time::{Duration, Instant, UnixTime};

pub use self::clock::{DRIFT_MAX_PPM, OFFSET_MAX, Skew};
pub use self::host::Traffic;
pub use self::jobs::{Answer, COMPLETIONS_MAX, Names};
pub use self::link::{Access, LineId, Topology};
pub use self::nats::{GIVE_UP, NATS_MAX, NatId};
pub use self::packets::NOISE;
pub(crate) use self::spread::log_normal;
pub use self::spread::{Curve, CurveId, DELAY_MAX, QUANTILES_MAX, Spread};

use self::agenda::{Agenda, ConnectionId, Side};
use self::datagrams::Datagrams;
use self::digest::Digest;
use self::host::Host;
use self::nats::Nats;
use self::packets::Wires;
use self::pipe::{Connection, Pipes};
use crate::content::Library;
use crate::flow::{FlowId, Flows};
use crate::time::Nanos;

/// Bytes of a stream that are on their way or not taken yet, per direction, in `message` fidelity.
pub const WINDOW: usize = 256 * 1024;

/// The same in `flow` fidelity, where rates and not windows hold a sender back.
pub const FLOW_WINDOW: usize = 4 * 1024 * 1024;

/// Bytes that a sender's system takes from it before they leave, in `flow` and `packet` fidelity, where
/// nothing else is said: [`Net::set_send_buffer`].
pub const SEND_BUFFER: usize = 64 * 1024;

/// Times that a host may be woken without time moving.
pub const WAKES_MAX: u32 = 1_000;

/// What the clock on the wall says at [`Instant::ORIGIN`].
pub const WALL: UnixTime = UnixTime(1_800_000_000);

/// Which host, in the order of [`Net::add`].
pub type HostId = usize;

/// How closely the network is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fidelity {
    /// Everything takes its delay, whatever its size.
    #[default]
    Message,
    /// Streams share the links of their hosts, max-min fairly.
    Flow,
    /// Every packet crosses links, queues and what lies between; streams are TCP.
    Packet,
}

impl Fidelity {
    /// As scenario files and reports name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Flow => "flow",
            Self::Packet => "packet",
        }
    }
}

/// What a network is made with.
#[derive(Clone, Copy, Debug)]
pub struct NetConfig {
    /// How closely it is followed.
    pub fidelity: Fidelity,
    /// What lies between any two hosts, one way, on top of how they are attached.
    pub between: Duration,
    /// All the randomness that delays and losses are drawn from.
    pub seed: Seed,
}

/// A host whose timer does not advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("host {host} was woken {WAKES_MAX} times at {at:?} for the timer \"{reason}\"")]
pub struct Stuck {
    /// Which host.
    pub host: HostId,
    /// When.
    pub at: Instant,
    /// The timer's name.
    pub reason: &'static str,
}

/// What a network has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of [`Machine::handle_input`].
    pub events: u64,
    /// Calls for a timer that was due.
    pub timeouts: u64,
    /// Bytes that machines gave to streams.
    pub handed_bytes: u64,
    /// Bytes that machines took from streams.
    pub delivered_bytes: u64,
    /// Bytes that nobody will ever take: their connection ended.
    pub lost_bytes: u64,
    /// Bytes on their way, sent or arrived and not taken.
    pub in_flight_bytes: u64,
    /// Datagrams that were sent.
    pub datagrams: u64,
    /// Of these, those that did not arrive.
    pub datagrams_lost: u64,
    /// Parcels of streams that were lost and sent again.
    pub losses: u64,
    /// Connections that were tried.
    pub dials: u64,
    /// Connections, datagrams and parcels that a partition held up.
    pub cut: u64,
    /// Packets that were sent, in `packet` fidelity, as are the following.
    pub packets: u64,
    /// Of these, those that found a queue full, or waited in it for too long.
    pub packets_dropped: u64,
    /// Of these, those that were too big for their way.
    pub packets_too_big: u64,
    /// Segments that were sent again.
    pub segments_again: u64,
    /// Deadlines that were still due after they had been handled.
    pub late_deadlines: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Net<M> {
    now: Nanos,
    /// The same, as machines see it.
    instant: Instant,
    fidelity: Fidelity,
    send_buffer: usize,
    hosts: Vec<Host<M>>,
    by_ip: BTreeMap<IpAddr, HostId>,
    agenda: Agenda,
    seed: Seed,
    names: Names,
    topology: Topology,
    connections: Slab<ConnectionId, Connection>,
    pipes: Pipes,
    flows: Flows,
    flow_owners: Vec<Option<(ConnectionId, Side)>>,
    flows_changed: Vec<FlowId>,
    flows_unsettled: bool,
    datagrams: Datagrams,
    wires: Wires,
    listeners: BTreeMap<SocketAddr, (HostId, ListenerId)>,
    sockets: BTreeMap<SocketAddr, (HostId, SocketId)>,
    nats: Nats,
    library: Library,
    /// Hosts whose machines may have outputs, each once.
    touched: VecDeque<u32>,
    /// Hosts that were touched since [`Net::take_recent`], each once.
    recent: Vec<HostId>,
    counters: Counters,
    log: Option<Vec<Logged>>,
    captures: Option<Box<captures::Captures>>,
    ahead: ahead::Ahead,
    lent: Vec<Bytes>,
    buf: Vec<u8>,
}

/// Something that a machine was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Which of all, from zero.
    pub number: u64,
    /// When.
    pub at: Nanos,
    /// Which host's machine.
    pub host: HostId,
    /// What, in short.
    pub what: String,
    /// The host's digest with it.
    pub digest: u64,
}

impl<M: Machine> Net<M> {
    /// No hosts yet, at [`Instant::ORIGIN`]; everything takes `latency` one way.
    pub fn new(latency: Duration) -> Self {
        let seed = Seed::from_number(0);
        Self::with(NetConfig { fidelity: Fidelity::Message, between: latency, seed })
    }

    /// No hosts yet, at [`Instant::ORIGIN`].
    pub fn with(config: NetConfig) -> Self {
        Self {
            now: Nanos::ZERO,
            instant: Instant::ORIGIN,
            fidelity: config.fidelity,
            send_buffer: SEND_BUFFER,
            hosts: Vec::new(),
            by_ip: BTreeMap::new(),
            agenda: match config.fidelity {
                Fidelity::Packet | Fidelity::Flow => Agenda::busy(),
                Fidelity::Message => Agenda::default(),
            },
            seed: config.seed,
            names: Names::default(),
            topology: Topology::new(config.seed, config.between),
            connections: Slab::new(),
            pipes: Pipes::default(),
            flows: Flows::new(),
            flow_owners: Vec::new(),
            flows_changed: Vec::new(),
            flows_unsettled: false,
            datagrams: Datagrams::default(),
            wires: Wires::default(),
            listeners: BTreeMap::new(),
            sockets: BTreeMap::new(),
            nats: Nats::default(),
            library: Library::new(),
            touched: VecDeque::new(),
            recent: Vec::new(),
            counters: Counters::default(),
            log: None,
            captures: None,
            ahead: ahead::Ahead::default(),
            lent: Vec::new(),
            buf: Vec::new(),
        }
    }

    /// How much of a stream a sender's system takes before it leaves, from now on, in `flow` and
    /// `packet` fidelity: at least a block and its header. What it took is out of the machine's hands.
    pub fn set_send_buffer(&mut self, bytes: usize) {
        self.send_buffer = bytes.max(streams::ROOM_MIN);
    }

    /// The time.
    pub const fn now(&self) -> Instant {
        self.instant
    }

    /// The time, as links see it.
    pub const fn nanos(&self) -> Nanos {
        self.now
    }

    /// How many hosts there are, down or not.
    pub const fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there is no host yet.
    pub const fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// What names mean.
    pub const fn names_mut(&mut self) -> &mut Names {
        &mut self.names
    }

    /// What torrents contain.
    pub const fn library(&self) -> &Library {
        &self.library
    }

    /// What torrents contain.
    pub const fn library_mut(&mut self) -> &mut Library {
        &mut self.library
    }

    /// How hosts are attached, and what lies between them.
    pub const fn topology(&self) -> &Topology {
        &self.topology
    }

    /// How hosts are attached, and what lies between them. For connections that exist already,
    /// distances stay as they are.
    pub const fn topology_mut(&mut self) -> &mut Topology {
        &mut self.topology
    }

    /// What happened so far, in numbers.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What happened so far, as a number: the same for every run of the same machines with the
    /// same seed.
    pub fn digest(&self) -> u64 {
        let mut all = Digest::new();
        for host in &self.hosts {
            all.number(host.digest.value());
        }
        all.value()
    }

    /// Bytes in streams, counted one by one: [`Counters::in_flight_bytes`] says the same.
    pub fn recount(&self) -> u64 {
        self.pipes.bytes()
    }

    /// From now on, keeps what machines are told for [`take_log`](Self::take_log).
    pub fn keep_log(&mut self) {
        self.log.get_or_insert_default();
    }

    /// What machines were told since this was last called.
    pub fn take_log(&mut self) -> Vec<Logged> {
        self.log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Hosts to which something happened since this was last asked, each once.
    pub fn take_recent(&mut self, out: &mut Vec<HostId>) {
        out.clear();
        std::mem::swap(&mut self.recent, out);
        for host in out {
            self.hosts[*host].recent = false;
        }
    }
}

#[cfg(test)]
mod tests;
