//! What befalls hosts and the ways between them: crashes, pauses, partitions, moves.

use std::net::{IpAddr, SocketAddr};

use teem_core::machine::{Input, Machine, SocketInput, StreamError, StreamInput};
use teem_core::time::Duration;

use super::agenda::{ConnectionId, What};
use super::clock::{Clocks, Skew};
use super::link::Access;
use super::pipe::Mark;
use super::{Fidelity, HostId, Net, Stuck, jobs};
use crate::storage::Crash;
use crate::time::Nanos;

impl<M: Machine> Net<M> {
    /// A host goes down: with its process, and its system closes its connections; or with its power,
    /// and nobody is told. Returns its machine, as it was; none if it was down.
    pub fn crash(&mut self, id: HostId, how: Crash) -> Option<M> {
        let machine = self.hosts[id].machine.take()?;
        let host = &mut self.hosts[id];
        host.dark = how == Crash::Power;
        host.paused = false;
        host.timer_at = Nanos::NEVER;
        host.job_at = Nanos::NEVER;
        host.jobs = jobs::Pending::default();
        host.disk.crash(self.now, how, &self.library);
        for (_, address) in std::mem::take(&mut host.listeners).iter() {
            self.listeners.remove(&address);
        }
        for (_, address) in std::mem::take(&mut host.sockets).iter() {
            self.sockets.remove(&address);
        }
        let streams = std::mem::take(&mut self.hosts[id].streams);
        for (_, (connection, side)) in streams.iter() {
            let told = self.bury(connection, side);
            self.drop_waiting(connection, side);
            if told && how == Crash::Process {
                self.enqueue_mark(connection, side, Mark::Reset);
            }
            self.forget(connection);
        }
        Some(machine)
    }

    /// A host that is down comes up again, with another machine on the disk that it has.
    pub fn restart(&mut self, id: HostId, machine: M) {
        self.hosts[id].dark = false;
        self.start(id, machine);
    }

    /// A host stops to run, and its system goes on: what comes is kept for it.
    pub fn pause(&mut self, id: HostId) {
        self.hosts[id].paused = true;
    }

    /// A paused host runs again.
    pub fn resume(&mut self, id: HostId) -> Result<(), Stuck> {
        if !std::mem::take(&mut self.hosts[id].paused) {
            return Ok(());
        }
        self.hosts[id].timer_at = Nanos::NEVER;
        self.hosts[id].job_at = Nanos::NEVER;
        if self.hosts[id].clocks.is_some() {
            // They may have been set meanwhile.
            self.tell_wall(id);
        }
        for (connection, side) in self.streams_of(id) {
            self.deliver(connection, side);
            self.send(connection, side);
        }
        self.touch(id);
        self.complete_jobs(id)
    }

    /// A host's clocks are this wrong from now on. Its machine is told what the clock on the wall
    /// says. The monotonic clock goes on from where it is, unless this is the first time and
    /// nothing runs there: then it is set, too.
    pub fn set_clock(&mut self, id: HostId, skew: Skew) {
        let host = &mut self.hosts[id];
        match &mut host.clocks {
            None if host.machine.is_none() => {
                host.clocks = Some(Clocks::new(self.now, skew).into());
            }
            clocks => {
                let right = || Clocks::new(self.now, Skew::NONE).into();
                clocks.get_or_insert_with(right).set(self.now, skew);
            }
        }
        if !self.hosts[id].paused {
            self.tell_wall(id);
        }
    }

    fn tell_wall(&mut self, id: HostId) {
        let wall = self.wall(id);
        self.input(id, Input::WallClock(wall));
    }

    /// A host gets another address. Its own connections are reset; the other ends are not told, and
    /// nothing that they send arrives. What listened and was bound is there under the new address.
    pub fn set_address(&mut self, id: HostId, ip: IpAddr) {
        let old = std::mem::replace(&mut self.hosts[id].ip, ip);
        if self.by_ip.get(&old) == Some(&id) {
            self.by_ip.remove(&old);
        }
        self.by_ip.entry(ip).or_insert(id);
        for (connection, side) in self.streams_of(id) {
            if let Some(connection) = self.connections.get_mut(connection) {
                connection.ends[usize::from(side)].gone = true;
            }
            let stream = self.connections.get(connection);
            let stream = stream.and_then(|connection| connection.ends[usize::from(side)].stream);
            self.bury(connection, side);
            self.drop_waiting(connection, side);
            self.forget(connection);
            if let Some(stream) = stream {
                self.hosts[id].streams.remove(stream);
                self.tell(id, stream, StreamInput::Closed(StreamError::Reset));
            }
        }
        let moved = |address: SocketAddr| {
            if address.ip() == old { SocketAddr::new(ip, address.port()) } else { address }
        };
        let listeners: Vec<_> = self.hosts[id].listeners.iter().collect();
        for (listener, address) in listeners {
            self.listeners.remove(&address);
            self.listeners.insert(moved(address), (id, listener));
            self.hosts[id].listeners.insert(listener, moved(address));
        }
        let sockets: Vec<_> = self.hosts[id].sockets.iter().collect();
        for (socket, address) in sockets {
            self.sockets.remove(&address);
            self.sockets.insert(moved(address), (id, socket));
            self.hosts[id].sockets.insert(socket, moved(address));
            if moved(address) != address {
                let input = SocketInput::AddressChanged(moved(address));
                self.input(id, Input::Socket(socket, input));
            }
        }
    }

    /// Attaches a host in another way from now on. Connections that exist keep their delay.
    pub fn set_access(&mut self, id: HostId, access: Access) {
        *self.topology.access_mut(id) = access;
        if self.fidelity == Fidelity::Packet {
            self.wires.set_rates(self.now, id, &access);
            return;
        }
        self.flows.set_rates(id, access.up_bytes_per_s, access.down_bytes_per_s);
        self.flows_unsettled = true;
    }

    /// From now on nothing gets from hosts of some groups (bits of [`Access::groups`]) to hosts of
    /// others: calls and datagrams are lost, streams are held up. What is on its way arrives. Each
    /// direction is cut by itself.
    pub fn cut(&mut self, from: u64, to: u64) {
        self.topology.cut(from, to);
        for id in self.connections.keys().collect::<Vec<_>>() {
            for side in 0..2 {
                if self.is_cut(id, side) {
                    self.stop_flow(id, side);
                }
            }
        }
    }

    /// Takes back every [`cut`](Self::cut): what was held up goes on.
    pub fn heal(&mut self) {
        self.topology.heal();
        if self.fidelity == Fidelity::Packet {
            // Streams go on when they try again.
            return;
        }
        for id in self.connections.keys().collect::<Vec<_>>() {
            for side in 0..2 {
                self.let_go(id, side);
            }
        }
    }

    fn is_cut(&self, id: ConnectionId, side: u8) -> bool {
        self.connections.get(id).is_some_and(|connection| {
            let [one, other] = connection.ends.map(|end| end.host as HostId);
            let (from, to) = if side == 0 { (one, other) } else { (other, one) };
            self.topology.is_cut(from, to)
        })
    }

    /// Sends what a partition held up on its way.
    fn let_go(&mut self, id: ConnectionId, side: u8) {
        let Some(connection) = self.connections.get(id) else { return };
        let number = connection.ends[usize::from(side)].pipe;
        let arrival = self.now + Duration::from_nanos(connection.delay[usize::from(side)]);
        let Some(pipe) = self.pipes.get_mut(number) else { return };
        let held = pipe.travelling.iter_mut().filter(|parcel| parcel.at == Nanos::NEVER);
        for parcel in held {
            parcel.at = arrival;
        }
        if pipe.travelling.front().is_some_and(|first| first.at == arrival) {
            self.agenda.push(arrival, What::Arrive(id, side));
        }
        if !pipe.waiting.is_empty() && pipe.flow.is_none() {
            self.start_flow(id, side);
        }
    }

    fn streams_of(&self, id: HostId) -> Vec<(ConnectionId, u8)> {
        self.hosts[id].streams.iter().map(|(_, end)| end).collect()
    }
}
