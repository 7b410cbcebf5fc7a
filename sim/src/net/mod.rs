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
mod captures;
mod clock;
mod datagrams;
mod digest;
mod faults;
mod jobs;
mod link;
mod marks;
mod nats;
mod packets;
mod pipe;
mod said;
mod spread;
mod streams;
mod table;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use bytes::Bytes;
use teem_core::ids::{ListenerId, Slab, SocketId, StreamId};
use teem_core::machine::{
    Application, Bind, Input, Listen, ListenerInput, Machine, Output, SocketError, SocketInput,
};
use teem_core::rng::Seed;
use teem_core::time::{Duration, Instant, UnixTime};

pub use self::clock::{DRIFT_MAX_PPM, OFFSET_MAX, Skew};
pub use self::jobs::{Answer, COMPLETIONS_MAX, Names};
pub use self::link::{Access, LineId, Topology};
pub use self::nats::{GIVE_UP, NATS_MAX, NatId};
pub use self::packets::NOISE;
pub(crate) use self::spread::log_normal;
pub use self::spread::{Curve, CurveId, DELAY_MAX, QUANTILES_MAX, Spread};

use self::agenda::{Agenda, ConnectionId, Side, What};
use self::clock::Clocks;
use self::datagrams::Datagrams;
use self::digest::Digest;
use self::marks::Marks;
use self::nats::Nats;
use self::packets::Wires;
use self::pipe::{Connection, Pipes};
use self::said::said;
use self::table::Table;
use crate::content::{ContentId, Library};
use crate::flow::{FlowId, Flows};
use crate::storage::Disk;
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

/// First of the ports that are given out.
const EPHEMERAL: u16 = 49_152;

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
    lent: Vec<Bytes>,
    buf: Vec<u8>,
}

#[derive(Debug)]
struct Host<M> {
    /// None while it is down.
    machine: Option<M>,
    ip: IpAddr,
    /// None while its clocks are right and always were.
    clocks: Option<Box<Clocks>>,
    disk: Disk,
    jobs: jobs::Pending,
    streams: Table<StreamId, (ConnectionId, Side)>,
    listeners: Table<ListenerId, SocketAddr>,
    sockets: Table<SocketId, SocketAddr>,
    ports: u16,
    /// The times of the entries for its timers and its jobs that count.
    timer_at: Nanos,
    job_at: Nanos,
    touched: bool,
    recent: bool,
    paused: bool,
    /// Its network is off: calls are not even refused.
    dark: bool,
    woken_at: Instant,
    wakes: u32,
    digest: Digest,
    traffic: Traffic,
    /// Blocks of true content that were delivered to it, for who asked.
    marks: Option<Box<Marks>>,
}

/// What one host's machine sent and took on streams, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// What it sent.
    pub sent_bytes: u64,
    /// What it took.
    pub received_bytes: u64,
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
                Fidelity::Packet => Agenda::busy(),
                Fidelity::Message | Fidelity::Flow => Agenda::default(),
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
            lent: Vec::new(),
            buf: Vec::new(),
        }
    }

    /// How much of a stream a sender's system takes before it leaves, from now on, in `flow` and
    /// `packet` fidelity: at least a block and its header. What it took is out of the machine's hands.
    pub fn set_send_buffer(&mut self, bytes: usize) {
        self.send_buffer = bytes.max(streams::ROOM_MIN);
    }

    /// A host at `ip` that runs `machine`. Hosts may share an address, not a port.
    pub fn add(&mut self, ip: IpAddr, machine: M) -> HostId {
        self.add_attached(ip, Access::PERFECT, machine)
    }

    /// A host at `ip`, attached so, that runs `machine`. Hosts may share an address, not a port.
    pub fn add_attached(&mut self, ip: IpAddr, access: Access, machine: M) -> HostId {
        let id = self.place(ip, access);
        self.start(id, machine);
        id
    }

    fn place(&mut self, ip: IpAddr, access: Access) -> HostId {
        let id = self.hosts.len();
        self.topology.attach(access);
        if self.fidelity == Fidelity::Packet {
            self.wires.attach(&self.topology, &access, self.seed);
        } else {
            self.flows.add_host(access.up_bytes_per_s, access.down_bytes_per_s);
        }
        self.by_ip.entry(ip).or_insert(id);
        self.hosts.push(Host {
            machine: None,
            ip,
            clocks: None,
            disk: Disk::new(self.seed.stream("disk", id as u64)),
            jobs: jobs::Pending::default(),
            streams: Table::default(),
            listeners: Table::default(),
            sockets: Table::default(),
            ports: EPHEMERAL,
            timer_at: Nanos::NEVER,
            job_at: Nanos::NEVER,
            touched: false,
            recent: false,
            paused: false,
            dark: false,
            woken_at: Instant::ORIGIN,
            wakes: 0,
            digest: Digest::new(),
            traffic: Traffic::default(),
            marks: None,
        });
        id
    }

    /// A place for a host at `ip`, attached so, on which nothing runs until
    /// [`restart`](Self::restart).
    pub fn add_absent(&mut self, ip: IpAddr, access: Access) -> HostId {
        let id = self.place(ip, access);
        self.hosts[id].dark = true;
        id
    }

    /// Has a host run `machine` from now on.
    fn start(&mut self, host: HostId, machine: M) {
        self.hosts[host].machine = Some(machine);
        let wall = self.wall(host);
        self.input(host, Input::WallClock(wall));
    }

    /// The time.
    pub const fn now(&self) -> Instant {
        self.instant
    }

    /// The time as a host's own clock has it, which is what its machine is told.
    pub fn local(&self, host: HostId) -> Instant {
        let clocks = self.hosts[host].clocks.as_deref();
        clocks.map_or(self.instant, |clocks| clocks.instant(self.now))
    }

    /// The time of day as a host's clock on the wall has it.
    pub fn wall(&self, host: HostId) -> UnixTime {
        let clocks = self.hosts[host].clocks.as_deref();
        let right = || UnixTime(WALL.0 + self.now.0 / 1_000_000_000);
        clocks.map_or_else(right, |clocks| clocks.wall(self.now))
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

    /// A host's machine. Panics while the host is down.
    pub fn machine(&self, host: HostId) -> &M {
        self.hosts[host].machine.as_ref().expect("the host is up")
    }

    /// A host's machine. Whatever it wants afterwards is found in the next step. Panics while the
    /// host is down.
    pub fn machine_mut(&mut self, host: HostId) -> &mut M {
        self.touch(host);
        self.hosts[host].machine.as_mut().expect("the host is up")
    }

    /// Whether a host runs.
    pub fn is_up(&self, host: HostId) -> bool {
        self.hosts[host].machine.is_some()
    }

    /// A host's disk.
    pub fn disk(&self, host: HostId) -> &Disk {
        &self.hosts[host].disk
    }

    /// A host's disk.
    pub fn disk_mut(&mut self, host: HostId) -> &mut Disk {
        &mut self.hosts[host].disk
    }

    /// A host's disk, and what torrents contain.
    pub fn disk_and_library(&mut self, host: HostId) -> (&mut Disk, &Library) {
        (&mut self.hosts[host].disk, &self.library)
    }

    /// Two hosts change disks.
    pub fn swap_disks(&mut self, one: HostId, other: HostId) {
        if let Ok([one, other]) = self.hosts.get_disjoint_mut([one, other]) {
            std::mem::swap(&mut one.disk, &mut other.disk);
        }
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

    /// What a host was told and sent so far, as a number; see [`Net::digest`].
    pub fn host_digest(&self, host: HostId) -> u64 {
        self.hosts[host].digest.value()
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

    /// What a host sent and took.
    pub fn traffic(&self, host: HostId) -> Traffic {
        self.hosts[host].traffic
    }

    /// Bytes in streams, counted one by one: [`Counters::in_flight_bytes`] says the same.
    pub fn recount(&self) -> u64 {
        self.pipes.bytes()
    }

    /// From now on, notes which blocks of true content are delivered to a host.
    pub fn mark_blocks(&mut self, host: HostId) {
        self.hosts[host].marks.get_or_insert_default();
    }

    /// Whether all blocks that true bytes touch were delivered to a host since
    /// [`mark_blocks`](Self::mark_blocks).
    pub fn was_delivered(&self, host: HostId, content: ContentId, bytes: Range<u64>) -> bool {
        self.hosts[host].marks.as_ref().is_some_and(|marks| marks.holds(content, bytes))
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

    /// Does what is to be done now, then moves on to what happens next and does all of that.
    /// Returns whether anything ever happens.
    pub fn step(&mut self) -> Result<bool, Stuck> {
        self.settle()?;
        let Some(next) = self.agenda.next() else { return Ok(false) };
        self.advance(next);
        self.fetch_ahead();
        while let Some((at, what)) = self.agenda.pop(self.now) {
            self.happen(at, what)?;
            self.settle_machines()?;
        }
        self.settle()?;
        Ok(true)
    }

    /// Steps until `done` says so, or `limit` has passed, or nothing happens any more. Returns
    /// whether it is done.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, Stuck> {
        let end = self.now + limit;
        loop {
            self.settle()?;
            if done(self) {
                return Ok(true);
            }
            if !self.step_within(end)? {
                return Ok(false);
            }
        }
    }

    /// [`step`](Self::step)s until something happens to a host, unless nothing does until `end`: then
    /// time moves there, and this returns false.
    pub fn step_within(&mut self, end: Nanos) -> Result<bool, Stuck> {
        self.settle()?;
        loop {
            if self.agenda.next().is_none_or(|next| next > end) {
                self.advance(end);
                return Ok(false);
            }
            self.step()?;
            if !self.recent.is_empty() {
                return Ok(true);
            }
        }
    }

    /// When something may happen next, machines' wishes of this moment aside; none: never.
    pub fn next(&self) -> Option<Nanos> {
        self.agenda.next().map(|at| at.max(self.now))
    }

    fn advance(&mut self, to: Nanos) {
        if to > self.now {
            self.now = to;
            self.instant = to.instant();
        }
    }

    fn happen(&mut self, at: Nanos, what: What) -> Result<(), Stuck> {
        match what {
            What::Timer(host) => return self.on_timer(host as HostId, at),
            What::Job(host) => return self.on_job(host as HostId, at),
            What::Dial(id) if self.fidelity == Fidelity::Packet => self.call(id),
            What::Dial(id) => return self.on_dial(id),
            What::Answer(id) => self.on_answer(id),
            What::Arrive(id, side) => self.on_arrive(id, side),
            What::Left(id, side) => self.on_left(id, side, at),
            What::Room(id, side) => self.on_room(id, side, at),
            What::Broken(id, side) => self.on_broken(id, side),
            What::Datagram(number) => self.on_datagram(number),
            What::Comes { packet, host, bytes } => {
                return self.on_comes(packet, host as HostId, bytes);
            }
            What::Packet(number) => return self.on_packet(number),
            What::Wake(link) => self.on_wake(link),
            What::Resend(id, side) => self.on_resend(id, side, at),
            What::Acknowledge(id, side) => self.on_acknowledge(id, side, at),
        }
        Ok(())
    }

    fn on_timer(&mut self, id: HostId, at: Nanos) -> Result<(), Stuck> {
        let host = &mut self.hosts[id];
        if host.timer_at != at {
            return Ok(());
        }
        host.timer_at = Nanos::NEVER;
        let Some(machine) = host.machine.as_mut().filter(|_| !host.paused) else { return Ok(()) };
        let Some(deadline) = machine.poll_timeout() else { return Ok(()) };
        let clocks = host.clocks.as_deref();
        let local = clocks.map_or(self.instant, |clocks| clocks.instant(self.now));
        if deadline.at > local {
            self.rearm(id);
            return Ok(());
        }
        if host.woken_at != self.instant {
            host.woken_at = self.instant;
            host.wakes = 0;
        }
        host.wakes += 1;
        if host.wakes >= WAKES_MAX {
            return Err(Stuck { host: id, at: self.instant, reason: deadline.reason });
        }
        self.counters.timeouts += 1;
        self.input(id, Input::Timeout);
        let again = self.hosts[id].machine.as_ref().and_then(Machine::poll_timeout);
        if again.is_some_and(|deadline| deadline.at <= local) {
            self.counters.late_deadlines += 1;
        }
        Ok(())
    }

    /// Sees to it that a host is woken when its machine wants to be.
    fn rearm(&mut self, id: HostId) {
        let host = &mut self.hosts[id];
        let Some(machine) = host.machine.as_ref().filter(|_| !host.paused) else { return };
        let Some(deadline) = machine.poll_timeout() else { return };
        let at = match host.clocks.as_deref() {
            None => Nanos::of(deadline.at).max(self.now),
            Some(clocks) => clocks.when(self.now, deadline.at),
        };
        if at < host.timer_at {
            host.timer_at = at;
            self.agenda.push(at, What::Timer(id as u32));
        }
    }

    /// Does all that machines ask for now, and shares the links out anew.
    pub fn settle(&mut self) -> Result<(), Stuck> {
        self.settle_machines()?;
        self.settle_flows();
        Ok(())
    }

    /// Acts on what machines ask for, until none asks for more.
    fn settle_machines(&mut self) -> Result<(), Stuck> {
        while let Some(id) = self.touched.pop_front() {
            let id = id as HostId;
            self.hosts[id].touched = false;
            if self.hosts[id].paused {
                continue;
            }
            while let Some(output) = self.hosts[id].machine.as_mut().and_then(M::poll_output) {
                self.act(id, output);
            }
            self.hand_out_jobs(id)?;
            self.rearm(id);
        }
        Ok(())
    }

    fn touch(&mut self, id: HostId) {
        let host = &mut self.hosts[id];
        if !host.touched {
            host.touched = true;
            self.touched.push_back(id as u32);
        }
        if !host.recent {
            host.recent = true;
            self.recent.push(id);
        }
    }

    fn input(&mut self, id: HostId, input: Input<'_>) {
        let local = self.local(id);
        let host = &mut self.hosts[id];
        let Some(machine) = &mut host.machine else { return };
        host.digest.input(self.now, &input, &self.library);
        if let Some(log) = &mut self.log {
            log.push(Logged {
                number: self.counters.events,
                at: self.now,
                host: id,
                what: said(&input),
                digest: host.digest.value(),
            });
        }
        self.counters.events += 1;
        machine.handle_input(local, input);
        self.touch(id);
    }

    fn act(&mut self, host: HostId, output: Output) {
        match output {
            Output::Listen(listen) => self.listen(host, &listen),
            Output::Unlisten(id) => {
                if let Some(address) = self.hosts[host].listeners.remove(id) {
                    self.listeners.remove(&address);
                }
            }
            Output::Bind(bind) => self.bind(host, &bind),
            Output::Unbind(id) => {
                if let Some(address) = self.hosts[host].sockets.remove(id) {
                    self.sockets.remove(&address);
                }
            }
            Output::Connect(connect) => self.connect(host, &connect),
            Output::Close { stream, how } => self.close(host, stream, how),
            Output::WantRead(stream) => {
                if let Some((id, side)) = self.end(host, stream) {
                    self.deliver(id, side);
                }
            }
            Output::WantWrite(stream) => {
                if let Some((id, side)) = self.end(host, stream) {
                    if let Some(connection) = self.connections.get_mut(id) {
                        connection.ends[usize::from(side)].wants_write = true;
                    }
                    self.send(id, side);
                }
            }
            Output::WantTransmit(socket) => self.transmit(host, socket),
            Output::WantJob => self.hosts[host].jobs.wanted = true,
            // Cancelled jobs are done all the same. The contract may grow beyond this.
            _ => {}
        }
    }

    fn end(&self, host: HostId, stream: StreamId) -> Option<(ConnectionId, Side)> {
        self.hosts[host].streams.get(stream)
    }

    fn free_address(&mut self, id: HostId, asked: SocketAddr) -> SocketAddr {
        let ip = match (asked.ip(), self.hosts[id].ip) {
            // It has no IPv6 address of its own, and one that nobody else has stands for that.
            (IpAddr::V6(any), IpAddr::V4(own)) if any.is_unspecified() => {
                own.to_ipv6_mapped().into()
            }
            (asked, own) if asked.is_unspecified() => own,
            (asked, _) => asked,
        };
        let mut address = SocketAddr::new(ip, asked.port());
        while address.port() == 0 || asked.port() == 0 && self.is_taken(id, address) {
            let host = &mut self.hosts[id];
            address.set_port(host.ports);
            host.ports = host.ports.checked_add(1).unwrap_or(EPHEMERAL);
        }
        address
    }

    fn is_taken(&self, id: HostId, address: SocketAddr) -> bool {
        let placed = self.placed(id, address);
        self.listeners.contains_key(&placed) || self.sockets.contains_key(&placed)
    }

    fn listen(&mut self, host: HostId, listen: &Listen) {
        let address = self.free_address(host, listen.address);
        let placed = self.placed(host, address);
        let input = match self.listeners.entry(placed) {
            _ if listen.tls => ListenerInput::Failed(SocketError::NoIdentity),
            Entry::Occupied(_) => ListenerInput::Failed(SocketError::AddressInUse),
            Entry::Vacant(vacant) => {
                vacant.insert((host, listen.listener));
                self.hosts[host].listeners.insert(listen.listener, placed);
                ListenerInput::Bound(address)
            }
        };
        self.input(host, Input::Listener(listen.listener, input));
    }

    fn bind(&mut self, host: HostId, bind: &Bind) {
        let address = self.free_address(host, bind.address);
        let placed = self.placed(host, address);
        let input = match self.sockets.entry(placed) {
            Entry::Occupied(_) => SocketInput::Failed(SocketError::AddressInUse),
            Entry::Vacant(vacant) => {
                vacant.insert((host, bind.socket));
                self.hosts[host].sockets.insert(bind.socket, placed);
                SocketInput::Bound(address)
            }
        };
        self.input(host, Input::Socket(bind.socket, input));
    }
}

impl<M: Application> Net<M> {
    /// Does what a host's embedder asks for; nothing while the host is down.
    pub fn handle_command(&mut self, id: HostId, command: M::Command) {
        let now = self.local(id);
        self.touch(id);
        if let Some(machine) = &mut self.hosts[id].machine {
            machine.handle_command(now, command);
        }
    }

    /// The next fact for a host's embedder.
    pub fn poll_event(&mut self, id: HostId) -> Option<M::Event> {
        self.hosts[id].machine.as_mut()?.poll_event()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use teem_core::ids::CommandToken;
    use teem_core::machine::Deadline;
    use teem_core::machine::echo::{Command, Echo, Event};

    const LATENCY: Duration = Duration::from_millis(10);
    const MINUTE: Duration = Duration::from_mins(1);

    fn host(number: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, number).into()
    }

    fn anywhere() -> SocketAddr {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    }

    fn two() -> (Net<Echo>, SocketAddr) {
        let mut net = Net::new(LATENCY);
        for number in 1..3 {
            net.add(host(number), Echo::new(net.now()));
        }
        net.handle_command(0, Command::Listen(CommandToken(0), anywhere()));
        let (at, event) = event(&mut net);
        let Event::Listening(_, address) = event else { panic!("{event:?} at {at:?}") };
        (net, address)
    }

    fn event(net: &mut Net<Echo>) -> (Instant, Event) {
        let mut found = None;
        net.run_until(MINUTE, |net| {
            found = (0..2).find_map(|host| net.poll_event(host));
            found.is_some()
        })
        .expect("no timer is stuck");
        (net.now(), found.expect("an event within a minute"))
    }

    fn dial(to: SocketAddr, message: &'static [u8]) -> Command {
        Command::Dial(CommandToken(7), to, Bytes::from_static(message))
    }

    #[test]
    fn time_jumps_exactly_to_what_happens() {
        let (mut net, address) = two();
        assert_eq!(address.ip(), host(1));
        net.handle_command(1, dial(address, b"hello"));
        // There and back to connect, there and back with the message.
        let (at, echoed) = event(&mut net);
        assert_eq!(echoed, Event::Echoed(CommandToken(7), Bytes::from_static(b"hello")));
        assert_eq!(at, Instant::ORIGIN + 4 * LATENCY);
        // The end of it; hashing what was served takes no time.
        let (at, served) = event(&mut net);
        assert!(matches!(served, Event::Served(_, 5)), "{served:?}");
        assert_eq!(at, Instant::ORIGIN + 5 * LATENCY);
        assert!(net.connections.is_empty(), "both ends are gone");
        assert_eq!(net.pipes.in_use(), 0);
        assert_eq!(net.run_until(MINUTE, |_| false), Ok(false));
        assert_eq!(net.next(), None);
    }

    #[test]
    fn nobody_listens_is_refused_after_a_round_trip() {
        let (mut net, _) = two();
        net.handle_command(1, dial((host(2), 7).into(), b"hello"));
        let (at, failed) = event(&mut net);
        assert_eq!(failed, Event::Failed(CommandToken(7)));
        assert_eq!(at, Instant::ORIGIN + 2 * LATENCY);
    }

    #[test]
    fn what_is_larger_than_the_window_takes_more_round_trips() {
        let (mut net, address) = two();
        let message = Bytes::from(vec![7; 4 * WINDOW]);
        net.handle_command(1, Command::Dial(CommandToken(7), address, message.clone()));
        let (at, echoed) = event(&mut net);
        assert_eq!(echoed, Event::Echoed(CommandToken(7), message));
        assert!(at >= Instant::ORIGIN + 10 * LATENCY, "{at:?}");
    }

    #[test]
    fn an_idle_stream_ends_when_its_timer_says() {
        let (mut net, address) = two();
        net.handle_command(1, Command::Hold(CommandToken(7), address));
        let (at, idle) = event(&mut net);
        assert_eq!(idle, Event::Idle);
        assert_eq!(at, Instant::ORIGIN + LATENCY + teem_core::machine::echo::IDLE_TIMEOUT);
        assert_eq!(event(&mut net), (at + LATENCY, Event::Failed(CommandToken(7))));
    }

    struct Stubborn;

    impl Machine for Stubborn {
        fn handle_input(&mut self, _: Instant, _: Input<'_>) {}

        fn poll_timeout(&self) -> Option<Deadline> {
            let at = Instant::ORIGIN + Duration::from_secs(3);
            Some(Deadline { at, reason: "never cleared" })
        }
    }

    #[test]
    fn a_timer_that_does_not_advance_fails_the_run_by_name() {
        let mut net = Net::new(LATENCY);
        net.add(host(1), Stubborn);
        let stuck = net.run_until(MINUTE, |_| false).expect_err("it is stuck");
        let at = Instant::ORIGIN + Duration::from_secs(3);
        assert_eq!(stuck, Stuck { host: 0, at, reason: "never cleared" });
    }

    #[test]
    fn a_timer_comes_when_the_hosts_own_clock_says() {
        // A tenth too fast, too slow, and an hour ahead.
        for (drift_ppm, offset_nanos) in [(100_000, 0), (-100_000, 0), (0, 3_600_000_000_000_i64)] {
            let (mut net, address) = two();
            let skew = Skew { offset_nanos, drift_ppm };
            for id in 0..2 {
                net.set_clock(id, skew);
            }
            net.handle_command(1, Command::Hold(CommandToken(7), address));
            let (at, idle) = event(&mut net);
            assert_eq!(idle, Event::Idle);
            let timeout = teem_core::machine::echo::IDLE_TIMEOUT.as_micros().cast_signed();
            let expected = timeout * 1_000_000 / i128::from(1_000_000 + drift_ppm);
            let took = at.saturating_since(Instant::ORIGIN + LATENCY).as_micros().cast_signed();
            assert!((took - expected).abs() <= 1, "{took} and not {expected}");
            assert_eq!(net.counters().late_deadlines, 0);
            let gained = i128::from(net.nanos().0) * i128::from(drift_ppm) / 1_000_000;
            let nanos = i128::from(net.nanos().0) + gained + i128::from(offset_nanos);
            let wall = i128::from(WALL.0) + nanos.div_euclid(1_000_000_000);
            assert_eq!(i128::from(net.wall(0).0), wall);
        }
    }

    #[test]
    fn a_clock_that_is_right_changes_nothing() {
        let digest = |skew: bool| {
            let (mut net, address) = two();
            if skew {
                net.hosts[1].clocks = Some(Clocks::new(net.now, Skew::NONE).into());
            }
            net.handle_command(1, dial(address, b"hello"));
            event(&mut net);
            event(&mut net);
            net.digest()
        };
        assert_eq!(digest(false), digest(true));
    }

    #[test]
    fn a_stuck_timer_is_found_whatever_the_clock_says() {
        for drift_ppm in [DRIFT_MAX_PPM, -DRIFT_MAX_PPM] {
            let mut net = Net::new(LATENCY);
            let id = net.add_absent(host(1), Access::PERFECT);
            net.set_clock(id, Skew { offset_nanos: -1_000_000_000, drift_ppm });
            net.restart(id, Stubborn);
            let stuck = net.run_until(MINUTE, |_| false).expect_err("it is stuck");
            assert_eq!(stuck.reason, "never cleared");
            // Four seconds of its clock.
            let micros = 4_000_000 * 1_000_000 / i64::from(1_000_000 + drift_ppm);
            let at = stuck.at.saturating_since(Instant::ORIGIN).as_micros().cast_signed();
            assert!((at - i128::from(micros)).abs() <= 1, "{at} and not {micros}");
        }
    }

    #[test]
    fn a_run_stops_at_its_limit() {
        let mut net = Net::<Echo>::new(LATENCY);
        assert_eq!(net.run_until(MINUTE, |_| false), Ok(false));
        assert_eq!(net.now(), Instant::ORIGIN + MINUTE);
    }
}
