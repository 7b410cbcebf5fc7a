//! How it goes on: time moves to what happens next, machines are told, and what they ask for is done.
//!
//! ```text
//!   step: time moves --> something happens --> input --> touched --> settle --> outputs, jobs, timers
//!             ^                                                                        |
//!             +---------------------------- agenda <-----------------------------------+
//! ```

use teem_core::ids::StreamId;
use teem_core::machine::{Input, Machine, Output};
use teem_core::time::Duration;

use super::agenda::{ConnectionId, Side, What};
use super::said::said;
use super::{Fidelity, HostId, Logged, Net, Stuck, WAKES_MAX};
use crate::time::Nanos;

impl<M: Machine> Net<M> {
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
    pub(super) fn settle_machines(&mut self) -> Result<(), Stuck> {
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

    pub(super) fn touch(&mut self, id: HostId) {
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

    pub(super) fn input(&mut self, id: HostId, input: Input<'_>) {
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
}
