//! Hosts: what each of them has, and what is asked of one.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use teem_core::ids::{ListenerId, SocketId, StreamId};
use teem_core::machine::{Application, Input, Machine};
use teem_core::time::{Instant, UnixTime};

use super::agenda::{ConnectionId, Side};
use super::clock::Clocks;
use super::digest::Digest;
use super::link::Access;
use super::marks::Marks;
use super::ports::EPHEMERAL;
use super::table::Table;
use super::{Fidelity, HostId, Net, WALL, jobs};
use crate::content::{ContentId, Library};
use crate::storage::Disk;
use crate::time::Nanos;

#[derive(Debug)]
pub(super) struct Host<M> {
    /// None while it is down.
    pub(super) machine: Option<M>,
    pub(super) ip: IpAddr,
    /// None while its clocks are right and always were.
    pub(super) clocks: Option<Box<Clocks>>,
    pub(super) disk: Disk,
    pub(super) jobs: jobs::Pending,
    pub(super) streams: Table<StreamId, (ConnectionId, Side)>,
    pub(super) listeners: Table<ListenerId, SocketAddr>,
    pub(super) sockets: Table<SocketId, SocketAddr>,
    pub(super) ports: u16,
    /// The times of the entries for its timers and its jobs that count.
    pub(super) timer_at: Nanos,
    pub(super) job_at: Nanos,
    pub(super) touched: bool,
    pub(super) recent: bool,
    pub(super) paused: bool,
    /// Its network is off: calls are not even refused.
    pub(super) dark: bool,
    pub(super) woken_at: Instant,
    pub(super) wakes: u32,
    pub(super) digest: Digest,
    pub(super) traffic: Traffic,
    /// Blocks of true content that were delivered to it, for who asked.
    pub(super) marks: Option<Box<Marks>>,
}

/// What one host's machine sent and took on streams, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// What it sent.
    pub sent_bytes: u64,
    /// What it took.
    pub received_bytes: u64,
}

impl<M> Host<M> {
    /// Reads what is needed when something happens to it, its machine aside.
    pub(super) fn fetch(&self) -> u64 {
        self.timer_at.0
            ^ self.digest.value()
            ^ self.traffic.sent_bytes
            ^ u64::from(self.machine.is_some() ^ self.marks.is_some() ^ self.touched)
            ^ self.disk.next().map_or(0, |at| at.0)
    }

    /// Reads where that leads.
    pub(super) fn fetch_on(&self) -> u64 {
        self.disk.fetch() ^ self.marks.as_ref().map_or(0, |marks| marks.fetch())
    }
}

impl<M: Machine> Net<M> {
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

    /// A place for a host at `ip`, attached so, on which nothing runs until
    /// [`restart`](Self::restart).
    pub fn add_absent(&mut self, ip: IpAddr, access: Access) -> HostId {
        let id = self.place(ip, access);
        self.hosts[id].dark = true;
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

    /// Has a host run `machine` from now on.
    pub(super) fn start(&mut self, host: HostId, machine: M) {
        self.hosts[host].machine = Some(machine);
        let wall = self.wall(host);
        self.input(host, Input::WallClock(wall));
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

    /// What a host was told and sent so far, as a number; see [`Net::digest`].
    pub fn host_digest(&self, host: HostId) -> u64 {
        self.hosts[host].digest.value()
    }

    /// What a host sent and took.
    pub fn traffic(&self, host: HostId) -> Traffic {
        self.hosts[host].traffic
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
