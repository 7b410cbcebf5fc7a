//! Streams: calls, what is sent and read, and how they end.

use std::net::SocketAddr;

use teem_core::ids::StreamId;
use teem_core::machine::{
    Connect, Incoming, Input, Machine, Shutdown, StreamError, StreamInput, TlsError,
};
use teem_core::time::Duration;

use super::agenda::{ConnectionId, Side, What};
use super::captures::Ear;
use super::nats::plain;
use super::pipe::{Connection, Dial, End, Flow, Mark, NO_PIPE, Parcel, Pipe, parcels};
use super::{FLOW_WINDOW, Fidelity, Host, HostId, Net, Stuck, WINDOW};
use crate::flow::progress::Progress;
use crate::time::Nanos;

/// After how long a call that nobody hears is tried again, for the first time; each time it doubles
/// (RFC 6298).
pub(super) const DIAL_AGAIN: Duration = Duration::from_secs(1);

/// How often a call is tried again before it is given up, after 127 seconds.
pub(super) const DIAL_TRIES: u32 = 6;

/// What a loss costs beyond a round trip, where streams only have delays: the least time to wait
/// for an acknowledgement that is usual.
const RESEND_AFTER: Duration = Duration::from_millis(200);

/// What travels by itself and takes no share of the links, in bytes; see [`Net::enqueue`].
const SMALL: usize = 1_024;

/// A sender's system takes more when there is room for so much, in bytes: a block and its header.
pub(super) const ROOM_MIN: usize = 16 * 1024 + 13;

const fn other(side: Side) -> Side {
    1 - side
}

impl<M: Machine> Net<M> {
    pub(super) fn tell(&mut self, host: HostId, stream: StreamId, input: StreamInput) {
        self.input(host, Input::Stream(stream, input));
    }

    pub(super) fn connect(&mut self, host: HostId, connect: &Connect) {
        if connect.tls.is_some() {
            self.tell(
                host,
                connect.stream,
                StreamInput::ConnectFailed(TlsError::Unavailable.into()),
            );
            return;
        }
        self.counters.dials += 1;
        let asked = connect.from.unwrap_or_else(|| SocketAddr::new(self.hosts[host].ip, 0));
        let from = self.free_address(host, asked);
        let to = connect.to;
        // Whether somebody is there turns out when the call arrives.
        let there = self.whom_calls(host, to).unwrap_or(host);
        let out = self.topology.delay(host, there).as_nanos() as u64;
        let back = self.topology.delay(there, host).as_nanos() as u64;
        let ends = [End::new(host as u32, Some(connect.stream)), End::new(there as u32, None)];
        let dial = Dial { from, to, tries: 0, answer: None };
        let connection = Connection { ends, delay: [out, back], dial: Some(Box::new(dial)) };
        let id = self.connections.insert(connection);
        self.hosts[host].streams.insert(connect.stream, (id, 0));
        self.capture_call(id);
        self.call_leaves(id);
        if self.fidelity == Fidelity::Packet {
            self.wires.connect(id);
            self.call(id);
        } else {
            self.agenda.push(self.now + Duration::from_nanos(out), What::Dial(id));
        }
    }

    pub(super) fn on_dial(&mut self, id: ConnectionId) -> Result<(), Stuck> {
        let is_packet = self.fidelity == Fidelity::Packet;
        if is_packet && self.is_answered(id) {
            // The answer was lost.
            self.launch_answer(id);
            return Ok(());
        }
        let Some(arrival) = self.call_enters(id) else { return Ok(()) };
        let anybody = arrival.is_some_and(|(_, to)| self.is_anybody_at(to));
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let Some(dial) = &mut connection.dial else { return Ok(()) };
        let (from, to) = arrival.unwrap_or((dial.from, dial.to));
        let [dialler, there] = connection.ends.map(|end| end.host as HostId);
        let listener = self.listeners.get(&to).copied();
        let host = listener.map_or(there, |(host, _)| host);
        // A host may listen at an address besides its own.
        let known = arrival.is_some() && (listener.is_some() || anybody);
        let absent = !known || self.hosts[host].dark || self.hosts[host].paused;
        let cut = self.topology.is_cut(dialler, host) || self.topology.is_cut(host, dialler);
        self.counters.cut += u64::from(cut);
        if is_packet && absent {
            return Ok(());
        }
        let given_up = !is_packet && dial.tries > DIAL_TRIES;
        if given_up || absent || !is_packet && (cut || self.topology.is_lost(dialler, host)) {
            if given_up {
                dial.answer = Some(Err(StreamError::TimedOut));
                self.agenda.push(self.now, What::Answer(id));
            } else {
                self.agenda.push(self.now + DIAL_AGAIN * (1 << dial.tries), What::Dial(id));
                dial.tries += 1;
            }
            return Ok(());
        }
        if self.calls_meet(id, from, to) {
            return Ok(());
        }
        let mut accepted = None;
        if let Some((host, on)) = listener {
            // What it says before, such as that a stream of that slot is dead, comes first.
            self.touch(host);
            self.settle_machines()?;
            let incoming = Incoming { on, from, local: plain(to) };
            let now = self.local(host);
            let machine = self.hosts[host].machine.as_mut();
            accepted = machine.and_then(|machine| machine.accept(now, incoming));
            if let Some(stream) = accepted {
                self.hosts[host].streams.insert(stream, (id, 1));
                self.touch(host);
            }
        }
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        connection.ends[1] =
            End { up: true, wants_write: accepted.is_some(), ..End::new(host as u32, accepted) };
        let back = Duration::from_nanos(connection.delay[1]);
        if let (Some(dial), Some((_, listener))) = (&mut connection.dial, listener)
            && accepted.is_some()
        {
            dial.answer = Some(Ok(listener));
        } else if let Some(dial) = &mut connection.dial {
            dial.answer = Some(Err(StreamError::Refused));
        }
        self.capture_heard(id);
        if is_packet {
            self.launch_answer(id);
        } else {
            self.agenda.push(self.now + back, What::Answer(id));
        }
        self.send(id, 1);
        Ok(())
    }

    pub(super) fn on_answer(&mut self, id: ConnectionId) {
        self.capture_answer(id);
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(dial) = connection.dial.take() else { return };
        self.call_answered(id, matches!(dial.answer, Some(Ok(_))));
        let Some(connection) = self.connections.get_mut(id) else { return };
        let end = &mut connection.ends[0];
        end.up = true;
        let host = end.host as HostId;
        let Some(stream) = end.stream else {
            self.forget(id);
            return;
        };
        match dial.answer {
            Some(Ok(_)) => {
                end.wants_write = true;
                self.tell(host, stream, StreamInput::Connected { local: dial.from });
                self.deliver(id, 0);
                self.send(id, 0);
            }
            Some(Err(why)) => {
                self.part(id);
                self.hosts[host].streams.remove(stream);
                self.tell(host, stream, StreamInput::ConnectFailed(why));
            }
            None => {}
        }
    }

    /// A machine is done with a stream.
    pub(super) fn close(&mut self, host: HostId, stream: StreamId, how: Shutdown) {
        let Some((id, side)) = self.hosts[host].streams.remove(stream) else { return };
        if self.bury(id, side) {
            match how {
                Shutdown::Graceful => self.enqueue_mark(id, side, Mark::Finish),
                Shutdown::Abort => {
                    self.drop_waiting(id, side);
                    self.enqueue_mark(id, side, Mark::Reset);
                }
            }
        } else {
            self.capture_closed(id, side, how);
        }
        self.forget(id);
    }

    /// Nobody reads or writes at this end any more. Returns whether there is anybody to tell.
    pub(super) fn bury(&mut self, id: ConnectionId, side: Side) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let heard = connection.dial.as_ref().is_none_or(|dial| dial.answer.is_some());
        let end = &mut connection.ends[usize::from(side)];
        end.stream = None;
        end.wants_write = false;
        if !heard {
            // The call is taken back before anybody heard it.
            self.part(id);
            return false;
        }
        let other = connection.ends[usize::from(other(side))];
        if other.pipe != NO_PIPE {
            let pipe = &mut self.pipes[other.pipe];
            let unread = pipe.inbox_bytes;
            pipe.inbox.clear();
            pipe.inbox_bytes = 0;
            pipe.finished = false;
            self.lose(unread as u64);
            // What nobody reads any more still makes room: what comes next is then answered.
            self.acknowledge_all(id, 1 - side, unread);
        }
        !other.is_dead()
    }

    pub(super) fn acknowledge_all(&mut self, id: ConnectionId, sender: Side, count: usize) {
        if self.has_segments(id) {
            self.on_taken(id, other(sender), count);
            return;
        }
        let Some(connection) = self.connections.get(id) else { return };
        let pipe = connection.ends[usize::from(sender)].pipe;
        if pipe == NO_PIPE || count == 0 {
            return;
        }
        let back = Duration::from_nanos(connection.delay[usize::from(other(sender))]);
        let pipe = &mut self.pipes[pipe];
        pipe.acknowledged.push_back((self.now + back, count as u32));
        self.expect_room(id, sender);
    }

    pub(super) fn lose(&mut self, bytes: u64) {
        self.counters.lost_bytes += bytes;
        self.counters.in_flight_bytes -= bytes;
    }

    /// Drops what this side's system took and did not send.
    pub(super) fn drop_waiting(&mut self, id: ConnectionId, side: Side) {
        if self.has_segments(id) {
            let unsent = self.wires.halt(id, side);
            let bytes = self.pipe_mut(id, side).map_or(0, |pipe| pipe.take_back(unsent));
            self.look_again(id, side);
            self.lose(bytes as u64);
            return;
        }
        self.stop_flow(id, side);
        let Some(pipe) = self.pipe_mut(id, side) else { return };
        pipe.waiting.clear();
        let bytes = std::mem::take(&mut pipe.waiting_bytes);
        pipe.unacknowledged -= bytes;
        self.lose(bytes as u64);
    }

    /// Forgets a connection once both ends are dead.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        let answered = connection.dial.as_ref().is_none_or(|dial| dial.answer.is_some());
        if !answered || connection.ends.iter().any(|end| !end.is_dead()) {
            return;
        }
        for side in 0..2 {
            self.drop_pipe(id, side);
        }
        self.part(id);
    }

    /// Drops all that this side sent and nobody took.
    fn drop_pipe(&mut self, id: ConnectionId, side: Side) {
        self.stop_flow(id, side);
        let Some(pipe) = self.pipe_mut(id, side) else { return };
        let bytes = pipe.clear();
        self.lose(bytes);
        self.release(id, side);
    }

    fn pipe_mut(&mut self, id: ConnectionId, side: Side) -> Option<&mut Pipe> {
        let pipe = self.connections.get(id)?.ends[usize::from(side)].pipe;
        self.pipes.get_mut(pipe)
    }

    /// The pipe of this side, from the pool if it has none.
    pub(super) fn pipe(&mut self, id: ConnectionId, side: Side) -> u32 {
        let end = &mut self.connections.get_mut(id).expect("it exists").ends[usize::from(side)];
        if end.pipe == NO_PIPE {
            end.pipe = self.pipes.take();
        }
        end.pipe
    }

    /// Gives a pipe in which nothing moves back to the pool.
    pub(super) fn release(&mut self, id: ConnectionId, side: Side) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let end = &mut connection.ends[usize::from(side)];
        if self.pipes.get_mut(end.pipe).is_some_and(|pipe| pipe.is_empty()) {
            self.pipes.give_back(end.pipe);
            end.pipe = NO_PIPE;
        }
    }

    /// Hands in what has arrived, as far as the machine's credit goes.
    pub(super) fn deliver(&mut self, id: ConnectionId, side: Side) {
        let from = other(side);
        let has_segments = self.has_segments(id);
        loop {
            let Some(connection) = self.connections.get_mut(id) else { return };
            let back = Duration::from_nanos(connection.delay[usize::from(side)]);
            let pipe = connection.ends[usize::from(from)].pipe;
            let end = &mut connection.ends[usize::from(side)];
            let Some(stream) = end.stream.filter(|_| end.up) else { return };
            let Some(pipe) = self.pipes.get_mut(pipe) else { return };
            let host = end.host as HostId;
            if self.hosts[host].paused {
                return;
            }
            let Some(machine) = &self.hosts[host].machine else { return };
            let Some(first) = pipe.inbox.front_mut() else {
                if pipe.finished && machine.recv_credit(stream) > 0 {
                    pipe.finished = false;
                    if !std::mem::replace(&mut end.told_finished, true) {
                        self.tell(host, stream, StreamInput::ReadClosed);
                    }
                }
                self.release(id, from);
                return;
            };
            let credit = machine.recv_credit(stream);
            if credit == 0 {
                return;
            }
            let whole = if first.len() <= credit { pipe.inbox.pop_front() } else { None };
            let Some(bytes) = whole.or_else(|| Some(pipe.inbox.front_mut()?.split_to(credit)))
            else {
                return;
            };
            let count = bytes.len();
            pipe.inbox_bytes -= count;
            if !has_segments {
                pipe.acknowledged.push_back((self.now + back, count as u32));
            }
            let receiver = &mut self.hosts[host];
            receiver.traffic.received_bytes += count as u64;
            if let Some(marks) = &mut receiver.marks {
                marks.mark(&bytes, &self.library);
            }
            self.counters.delivered_bytes += count as u64;
            self.counters.in_flight_bytes -= count as u64;
            self.tell(host, stream, StreamInput::Received(bytes));
            if has_segments {
                self.on_taken(id, side, count);
            } else {
                self.expect_room(id, from);
            }
        }
    }

    const fn window(&self) -> usize {
        match self.fidelity {
            Fidelity::Message => WINDOW,
            Fidelity::Flow => FLOW_WINDOW,
            // The receiver's and the network's windows are TCP's.
            Fidelity::Packet => usize::MAX,
        }
    }

    /// Sees to it that a sender hears of room, if it waits for it.
    fn expect_room(&mut self, id: ConnectionId, side: Side) {
        let window = self.window();
        let Some(connection) = self.connections.get(id) else { return };
        let end = connection.ends[usize::from(side)];
        let Some(pipe) = self.pipes.get_mut(end.pipe) else { return };
        if !end.wants_write || pipe.room_at.is_some() || pipe.unacknowledged < window {
            return;
        }
        if let Some((at, _)) = pipe.acknowledged.front() {
            pipe.room_at = Some(*at);
            self.agenda.push(*at, What::Room(id, side));
        }
    }

    pub(super) fn on_room(&mut self, id: ConnectionId, side: Side, at: Nanos) {
        let Some(pipe) = self.pipe_mut(id, side) else { return };
        if pipe.room_at == Some(at) {
            pipe.room_at = None;
            self.send(id, side);
            self.release(id, side);
        }
    }

    /// Takes what a machine has to send, as far as there is room.
    pub(super) fn send(&mut self, id: ConnectionId, side: Side) {
        let window = self.window();
        let has_segments = self.has_segments(id);
        loop {
            let Some(connection) = self.connections.get_mut(id) else { return };
            let end = &mut connection.ends[usize::from(side)];
            let Some(stream) = end.stream.filter(|_| end.up && end.wants_write) else { return };
            let host = end.host as HostId;
            let clocks = self.hosts[host].clocks.as_deref();
            let now = clocks.map_or(self.instant, |clocks| clocks.instant(self.now));
            let mut room = window;
            if has_segments {
                room = self.send_buffer.saturating_sub(self.wires.unsent(id, side));
                if room < ROOM_MIN {
                    return;
                }
            } else if let Some(pipe) = self.pipes.get_mut(end.pipe) {
                pipe.acknowledge(self.now);
                room = window.saturating_sub(pipe.unacknowledged);
                if self.fidelity == Fidelity::Flow {
                    let buffer = self.send_buffer.saturating_sub(pipe.waiting_bytes);
                    if buffer < ROOM_MIN {
                        return;
                    }
                    room = room.min(buffer);
                }
            } else if self.fidelity == Fidelity::Flow {
                room = self.send_buffer;
            }
            if room == 0 {
                self.expect_room(id, side);
                return;
            }
            let Host { machine: Some(machine), paused: false, digest, traffic, .. } =
                &mut self.hosts[host]
            else {
                return;
            };
            let mut lent = std::mem::take(&mut self.lent);
            let count = machine.poll_send(now, stream, room, &mut lent);
            if count == 0 {
                end.wants_write = false;
                self.lent = lent;
                return;
            }
            for part in &lent {
                digest.bytes(part, &self.library);
            }
            traffic.sent_bytes += count as u64;
            self.counters.handed_bytes += count as u64;
            self.counters.in_flight_bytes += count as u64;
            self.enqueue(id, side, count, &mut lent);
            self.lent = lent;
            self.tell(host, stream, StreamInput::Sent(count));
        }
    }

    /// Puts what a machine sent on its way.
    ///
    /// In `flow` fidelity, a message below [`SMALL`] that finds nothing waiting goes at once, after
    /// the time it takes alone on both links, and takes no share of them: requests and haves would
    /// otherwise change every rate twice each, for a thousandth of the bytes.
    fn enqueue(
        &mut self,
        id: ConnectionId,
        side: Side,
        count: usize,
        lent: &mut Vec<bytes::Bytes>,
    ) {
        self.bytes_leave(id, side);
        self.tap_bytes(id, side, lent);
        let number = self.pipe(id, side);
        let connection = self.connections.get(id).expect("it exists");
        let delay = Duration::from_nanos(connection.delay[usize::from(side)]);
        let [from, to] =
            [side, other(side)].map(|side| connection.ends[usize::from(side)].host as HostId);
        let cut = self.topology.is_cut(from, to);
        self.counters.cut += u64::from(cut);
        let has_segments = self.has_segments(id);
        let pipe = &mut self.pipes[number];
        if has_segments {
            parcels(lent.drain(..), SMALL as u32, |parcel| pipe.waiting.push_back(parcel));
            pipe.waiting_bytes += count;
            self.push_segments(id, side, count);
            return;
        }
        pipe.unacknowledged += count;
        let parts = lent.drain(..);
        let at = match self.fidelity {
            Fidelity::Message => {
                let mut delay = delay;
                if self.topology.is_lost(from, to) {
                    self.counters.losses += 1;
                    delay += delay + delay + RESEND_AFTER;
                }
                self.now + delay
            }
            Fidelity::Flow if pipe.waiting.is_empty() && count < SMALL => {
                self.now + delay + self.topology.serialization(from, to, count)
            }
            Fidelity::Flow => {
                let was_empty = pipe.waiting.is_empty();
                pipe.waiting_bytes += count;
                let least = SMALL as u32;
                parcels(parts, least, |parcel| pipe.waiting.push_back(parcel));
                match &mut pipe.flow {
                    Some(flow) => {
                        flow.progress.push(self.now, count as u64);
                        // The last has just left and the flow goes on with these.
                        if was_empty {
                            flow.goal += pipe.waiting.front().map_or(0, |next| u64::from(next.len));
                        }
                    }
                    None if cut => {}
                    None => self.start_flow(id, side),
                }
                return;
            }
            // To a gateway, which is next to it.
            Fidelity::Packet => self.now + delay,
        };
        let at = if cut { Nanos::NEVER } else { at };
        let mut parcel = Parcel::mark(Mark::Nothing);
        parcel.parts.extend(parts);
        parcel.len = count as u32;
        self.travel(id, side, parcel, at);
    }

    /// Sends a mark on its way, behind all that was sent before.
    pub(super) fn enqueue_mark(&mut self, id: ConnectionId, side: Side, mark: Mark) {
        self.bytes_leave(id, side);
        if mark == Mark::Reset && self.has_segments(id) {
            self.launch_reset(id, side);
            return;
        }
        let number = self.pipe(id, side);
        let has_segments = self.has_segments(id);
        let pipe = &mut self.pipes[number];
        if has_segments {
            pipe.waiting.push_back(Parcel::mark(mark));
            self.finish_segments(id, side);
            return;
        }
        if !pipe.waiting.is_empty() {
            pipe.waiting.push_back(Parcel::mark(mark));
            return;
        }
        let connection = self.connections.get(id).expect("it exists");
        let delay = Duration::from_nanos(connection.delay[usize::from(side)]);
        let [from, to] =
            [side, other(side)].map(|side| connection.ends[usize::from(side)].host as HostId);
        let cut = self.topology.is_cut(from, to);
        let at = if cut { Nanos::NEVER } else { self.now + delay };
        self.travel(id, side, Parcel::mark(mark), at);
    }

    /// Sends a parcel on its way; it arrives no earlier than those before it.
    pub(super) fn travel(&mut self, id: ConnectionId, side: Side, mut parcel: Parcel, at: Nanos) {
        if let Some(captures) = &mut self.captures {
            captures.sent(self.now, id, side, &parcel);
        }
        let number = self.pipe(id, side);
        let pipe = &mut self.pipes[number];
        parcel.at = at.max(pipe.travelling.back().map_or(Nanos::ZERO, |last| last.at));
        if pipe.travelling.is_empty() && parcel.at != Nanos::NEVER {
            self.agenda.push(parcel.at, What::Arrive(id, side));
        }
        pipe.travelling.push_back(parcel);
    }

    /// What this side sent arrives at the other.
    pub(super) fn on_arrive(&mut self, id: ConnectionId, side: Side) {
        if self.gateway_hears(id, side) {
            return;
        }
        let Some(connection) = self.connections.get(id) else { return };
        let end = connection.ends[usize::from(other(side))];
        let silent = end.gone || self.hosts[end.host as HostId].dark;
        let deaf = silent || end.is_dead();
        let now = self.now;
        let number = connection.ends[usize::from(side)].pipe;
        let Some(pipe) = self.pipes.get_mut(number) else { return };
        let (mut lost, mut reset) = (0, false);
        while let Some(first) = pipe.travelling.front()
            && first.at <= now
            && let Some(parcel) = pipe.travelling.pop_front()
        {
            if let Some(captures) = &mut self.captures {
                captures.arrived(now, id, side, &parcel, Ear::new(silent, deaf));
            }
            reset |= parcel.mark == Mark::Reset;
            if deaf {
                pipe.unacknowledged -= parcel.len as usize;
                lost += u64::from(parcel.len);
            } else {
                pipe.inbox_bytes += parcel.len as usize;
                pipe.inbox.extend(parcel.parts);
                pipe.finished |= parcel.mark == Mark::Finish;
            }
        }
        if let Some(next) = pipe.travelling.front()
            && next.at != Nanos::NEVER
        {
            let at = next.at;
            self.agenda.push(at, What::Arrive(id, side));
        }
        self.lose(lost);
        if silent {
            self.release(id, side);
        } else if reset {
            self.deliver(id, other(side));
            self.on_reset(id, other(side));
        } else if deaf {
            self.release(id, side);
            if lost > 0 {
                self.enqueue_mark(id, other(side), Mark::Reset);
            }
        } else {
            self.deliver(id, other(side));
        }
    }

    /// This side learns that the connection is dead.
    pub(super) fn on_reset(&mut self, id: ConnectionId, side: Side) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let end = &mut connection.ends[usize::from(side)];
        let host = end.host as HostId;
        let stream = end.stream.take();
        end.wants_write = false;
        // Nobody is there who would take the rest, whichever way it goes.
        connection.ends[usize::from(other(side))].stream = None;
        if let Some(stream) = stream {
            self.hosts[host].streams.remove(stream);
            self.tell(host, stream, StreamInput::Closed(StreamError::Reset));
        }
        self.forget(id);
    }

    // Shares of the links.

    /// What waits on this side begins to leave.
    pub(super) fn start_flow(&mut self, id: ConnectionId, side: Side) {
        let Some(connection) = self.connections.get(id) else { return };
        let [from, to] =
            [side, other(side)].map(|side| connection.ends[usize::from(side)].host as HostId);
        let round_trip = Duration::from_nanos(connection.delay[0] + connection.delay[1]);
        let cap = self.topology.loss_cap(from, to, round_trip);
        let now = self.now;
        let flow = self.flows.start(from, to, cap);
        if self.flow_owners.len() <= flow.slot() {
            self.flow_owners.resize(flow.slot() + 1, None);
        }
        self.flow_owners[flow.slot()] = Some((id, side));
        self.flows_unsettled = true;
        if let Some(pipe) = self.pipe_mut(id, side) {
            let goal = pipe.waiting.front().map_or(0, |first| u64::from(first.len));
            let mut progress = Progress::new(now);
            progress.push(now, pipe.waiting_bytes as u64);
            pipe.flow = Some(Flow { id: flow, progress, goal, left_at: Nanos::NEVER });
        }
    }

    pub(super) fn stop_flow(&mut self, id: ConnectionId, side: Side) {
        let Some(flow) = self.pipe_mut(id, side).and_then(|pipe| pipe.flow.take()) else { return };
        self.flow_owners[flow.id.slot()] = None;
        self.flows.stop(flow.id);
        self.flows_unsettled = true;
    }

    /// Shares the links out anew, once per moment in which flows began or ended.
    pub(super) fn settle_flows(&mut self) {
        if !std::mem::take(&mut self.flows_unsettled) {
            return;
        }
        let mut changed = std::mem::take(&mut self.flows_changed);
        changed.clear();
        self.flows.settle(&mut changed);
        for flow in &changed {
            let rate = self.flows.rate(*flow);
            let now = self.now;
            let Some((id, side)) = self.flow_owners[flow.slot()] else { continue };
            if let Some(flow) = self.pipe_mut(id, side).and_then(|pipe| pipe.flow.as_mut()) {
                flow.progress.set_rate(now, rate);
            }
            self.expect_left(id, side);
        }
        self.flows_changed = changed;
    }

    /// Sees to it that it is noticed when the first that waits has left. An entry that comes too
    /// early is put off when it comes.
    fn expect_left(&mut self, id: ConnectionId, side: Side) {
        let now = self.now;
        let Some(flow) = self.pipe_mut(id, side).and_then(|pipe| pipe.flow.as_mut()) else {
            return;
        };
        let at = flow.progress.when(flow.goal).max(now);
        if at < flow.left_at {
            flow.left_at = at;
            self.agenda.push(at, What::Left(id, side));
        }
    }

    pub(super) fn on_left(&mut self, id: ConnectionId, side: Side, at: Nanos) {
        let now = self.now;
        let Some(connection) = self.connections.get(id) else { return };
        let delay = Duration::from_nanos(connection.delay[usize::from(side)]);
        let number = connection.ends[usize::from(side)].pipe;
        let Some(pipe) = self.pipes.get_mut(number) else { return };
        let Some(flow) = pipe.flow.as_mut().filter(|flow| flow.left_at == at) else { return };
        flow.left_at = Nanos::NEVER;
        flow.progress.advance(now);
        while let Some(flow) = &mut self.pipes[number].flow
            && flow.progress.sent() >= flow.goal
        {
            let pipe = &mut self.pipes[number];
            let Some(parcel) = pipe.waiting.pop_front() else { break };
            pipe.waiting_bytes -= parcel.len as usize;
            let next = pipe.waiting.front().map_or(0, |next| u64::from(next.len));
            if let Some(flow) = &mut pipe.flow {
                flow.goal += next;
            }
            self.travel(id, side, parcel, now + delay);
            if self.pipes[number].waiting.is_empty() {
                break;
            }
        }
        self.send(id, side);
        let Some(pipe) = self.pipe_mut(id, side) else { return };
        if pipe.waiting.is_empty() {
            self.stop_flow(id, side);
        } else {
            self.expect_left(id, side);
        }
    }
}
