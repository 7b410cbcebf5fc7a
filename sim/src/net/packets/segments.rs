//! Connections, packet by packet: calls and answers, segments and acknowledgements.
//!
//! What is to be sent and when, [`tcp`](crate::packet::tcp) says; here that becomes packets and entries
//! of the agenda, and what is in order goes from the sender's [`Pipe`] to the receiver's machine.

use teem_core::ids::{Key, StreamId};
use teem_core::machine::{Machine, StreamError, StreamInput};

use super::Wires;
use super::transit::{Load, Packet, Way};
use crate::net::agenda::{ConnectionId, Side, What};
use crate::net::pipe::{Mark, Parcel, Pipe};
use crate::net::streams::{DIAL_AGAIN, DIAL_TRIES};
use crate::net::{Fidelity, HostId, Net};
use crate::packet::TCP_HEADERS;
use crate::packet::tcp::{Ack, MSS, Receiver, Segment, Sender, Snapshot};
use crate::time::Nanos;

/// Both ends of a connection.
#[derive(Debug)]
pub(super) struct Tcp {
    pub(super) id: ConnectionId,
    pub(super) ends: Box<[TcpEnd; 2]>,
}

/// In the order of use, so that what most segments touch lies together: thousands of ends are in use
/// at a time, and each segment comes to another one.
#[derive(Debug)]
#[repr(C)]
pub(super) struct TcpEnd {
    pub(super) sender: Sender,
    /// It sends nothing more, not even again.
    pub(super) is_halted: bool,
    /// The times of the entries that count.
    pub(super) timer_at: Nanos,
    pub(super) ack_at: Nanos,
    /// When the last segment of it came to the receiver's link: they stay in order.
    pub(super) last_between: Nanos,
    /// Positions of the other side's stream that are out of its pipe.
    pub(super) taken: u64,
    /// With fewer positions in order there is nothing more to take out, and nothing to hand in.
    pub(super) whole_at: u64,
    pub(super) receiver: Receiver,
}

impl TcpEnd {
    /// Reads one number of each line of the cache.
    pub(super) fn fetch(&self) -> u64 {
        self.sender.fetch() ^ self.receiver.fetch() ^ self.last_between.0
    }
}

impl Wires {
    /// Both ends of a connection begin anew.
    pub(in crate::net) fn connect(&mut self, id: ConnectionId) {
        let slot = id.slot() as usize;
        if self.tcp.len() <= slot {
            self.tcp.resize_with(slot + 1, || None);
        }
        let end = || TcpEnd {
            sender: Sender::new(self.config, MSS),
            receiver: Receiver::new(self.config),
            is_halted: false,
            timer_at: Nanos::NEVER,
            ack_at: Nanos::NEVER,
            last_between: Nanos::ZERO,
            taken: 0,
            whole_at: 0,
        };
        self.tcp[slot] = Some(Tcp { id, ends: Box::new([end(), end()]) });
    }

    pub(super) fn end(&mut self, id: ConnectionId, side: Side) -> Option<&mut TcpEnd> {
        let tcp = self.tcp.get_mut(id.slot() as usize)?.as_mut()?;
        (tcp.id == id).then(|| &mut tcp.ends[usize::from(side)])
    }

    /// Bytes of this side that were never sent.
    pub(in crate::net) fn unsent(&mut self, id: ConnectionId, side: Side) -> usize {
        self.end(id, side).map_or(0, |end| end.sender.unsent() as usize)
    }

    /// This side sends nothing more. Returns how many bytes it had never sent.
    pub(in crate::net) fn halt(&mut self, id: ConnectionId, side: Side) -> usize {
        let Some(end) = self.end(id, side) else { return 0 };
        if std::mem::replace(&mut end.is_halted, true) {
            return 0;
        }
        end.sender.unsent() as usize
    }
}

impl<M: Machine> Net<M> {
    /// Where the sending end of a stream stands, in `packet` fidelity; none elsewhere, and for
    /// streams that are no more.
    pub fn stream_snapshot(&self, host: HostId, stream: StreamId) -> Option<Snapshot> {
        let (id, side) = self.hosts[host].streams.get(stream)?;
        let tcp = self.wires.tcp.get(id.slot() as usize)?.as_ref()?;
        (tcp.id == id).then(|| tcp.ends[usize::from(side)].sender.snapshot())
    }

    /// Whether a connection is TCP that is followed: in `packet` fidelity all are, but for those to
    /// the gateway of a NAT, which is at no distance.
    pub(in crate::net) fn has_segments(&self, id: ConnectionId) -> bool {
        self.fidelity == Fidelity::Packet && !self.is_to_gateway(id)
    }

    /// Whether a call has its answer, which may be on its way.
    pub(in crate::net) fn is_answered(&self, id: ConnectionId) -> bool {
        let dial = self.connections.get(id).and_then(|connection| connection.dial.as_ref());
        dial.is_some_and(|dial| dial.answer.is_some())
    }

    /// Calls, and sees to it that it is done again.
    pub(in crate::net) fn call(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let ends = connection.ends;
        let Some(dial) = &mut connection.dial else { return };
        if ends[0].is_dead() {
            return;
        }
        let tries = dial.tries;
        dial.tries += 1;
        if tries > DIAL_TRIES {
            dial.answer = Some(Err(StreamError::TimedOut));
            self.agenda.push(self.now, What::Answer(id));
            return;
        }
        self.agenda.push(self.now + DIAL_AGAIN * (1 << tries), What::Dial(id));
        self.launch_empty([ends[0].host, ends[1].host], (id, 0), Load::Call);
    }

    /// Answers a call.
    pub(in crate::net) fn launch_answer(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        let ends = connection.ends;
        self.launch_empty([ends[1].host, ends[0].host], (id, 1), Load::Answer);
    }

    pub(in crate::net) fn launch_reset(&mut self, id: ConnectionId, side: Side) {
        let Some(connection) = self.connections.get(id) else { return };
        let [from, to] = [side, 1 - side].map(|side| connection.ends[usize::from(side)].host);
        self.launch_empty([from, to], (id, side), Load::Reset);
    }

    fn launch_empty(&mut self, [from, to]: [u32; 2], of: (ConnectionId, Side), load: Load) {
        self.launch(Packet { way: Way::new(from, to, TCP_HEADERS as u32, Some(of)), load });
    }

    /// So many bytes more are to be sent by this side, and are in its pipe.
    pub(in crate::net) fn push_segments(&mut self, id: ConnectionId, side: Side, count: usize) {
        if let Some(end) = self.wires.end(id, side) {
            end.sender.push(count as u64);
        }
        self.pump(id, side);
    }

    /// This side's stream ends behind what is in its pipe.
    pub(in crate::net) fn finish_segments(&mut self, id: ConnectionId, side: Side) {
        if let Some(end) = self.wires.end(id, side) {
            end.sender.finish();
        }
        self.pump(id, side);
    }

    /// Sends what this side may send now. Returns whether that was anything.
    pub(super) fn pump(&mut self, id: ConnectionId, side: Side) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        let [from, to] = [side, 1 - side].map(|side| connection.ends[usize::from(side)].host);
        let mut has_sent = false;
        while let Some(end) = self.wires.end(id, side)
            && !end.is_halted
            && let Some(segment) = end.sender.poll(self.now)
        {
            has_sent = true;
            let ack = end.receiver.ack();
            self.counters.segments_again += u64::from(segment.is_again);
            let bytes = u32::from(segment.payload()) + TCP_HEADERS as u32;
            let way = Way::new(from, to, bytes, Some((id, side)));
            self.launch(Packet { way, load: Load::Segment(Some(segment), ack) });
        }
        self.arm(id, side);
        has_sent
    }

    /// Sees to it that this side's timers come.
    fn arm(&mut self, id: ConnectionId, side: Side) {
        let Some(end) = self.wires.end(id, side) else { return };
        if !end.is_halted
            && let Some(at) = end.sender.timer_at()
            && at < end.timer_at
        {
            end.timer_at = at.max(self.now);
            self.agenda.push(end.timer_at, What::Resend(id, side));
        }
        let Some(end) = self.wires.end(id, side) else { return };
        if let Some(at) = end.receiver.timer_at()
            && at < end.ack_at
        {
            end.ack_at = at.max(self.now);
            self.agenda.push(end.ack_at, What::Acknowledge(id, side));
        }
    }

    pub(in crate::net) fn on_resend(&mut self, id: ConnectionId, side: Side, at: Nanos) {
        let Some(end) = self.wires.end(id, side).filter(|end| end.timer_at == at) else { return };
        end.timer_at = Nanos::NEVER;
        if end.is_halted || end.sender.timer_at().is_none_or(|due| due > at) {
            self.arm(id, side);
            return;
        }
        end.sender.on_timer(at);
        if end.sender.has_given_up() {
            end.is_halted = true;
            self.give_up(id, side);
            return;
        }
        self.pump(id, side);
    }

    /// Nothing was heard from the other side for a quarter of an hour.
    fn give_up(&mut self, id: ConnectionId, side: Side) {
        let Some(connection) = self.connections.get(id) else { return };
        let end = connection.ends[usize::from(side)];
        if let Some(stream) = end.stream {
            let host = end.host as HostId;
            self.hosts[host].streams.remove(stream);
            self.bury(id, side);
            self.drop_waiting(id, side);
            self.tell(host, stream, StreamInput::Closed(StreamError::TimedOut));
        }
        self.forget(id);
    }

    pub(in crate::net) fn on_acknowledge(&mut self, id: ConnectionId, side: Side, at: Nanos) {
        let Some(end) = self.wires.end(id, side).filter(|end| end.ack_at == at) else { return };
        end.ack_at = Nanos::NEVER;
        match end.receiver.timer_at() {
            Some(due) if due <= at => self.acknowledge(id, side),
            _ => self.arm(id, side),
        }
    }

    /// Says what this side has.
    fn acknowledge(&mut self, id: ConnectionId, side: Side) {
        let Some(connection) = self.connections.get(id) else { return };
        let [from, to] = [side, 1 - side].map(|side| connection.ends[usize::from(side)].host);
        let Some(end) = self.wires.end(id, side) else { return };
        let ack = end.receiver.ack();
        self.launch_empty([from, to], (id, side), Load::Segment(None, ack));
    }

    /// A segment of this side, or an acknowledgement, comes to the other.
    pub(super) fn on_segment(
        &mut self,
        id: ConnectionId,
        side: Side,
        segment: Option<Segment>,
        ack: &Ack,
    ) {
        let here = 1 - side;
        let Some(connection) = self.connections.get(id) else { return };
        let end = connection.ends[usize::from(here)];
        if end.gone || self.hosts[end.host as HostId].dark || !end.up {
            return;
        }
        if end.is_dead() && segment.is_some_and(|segment| segment.payload() > 0) {
            // Nobody reads here any more.
            self.launch_reset(id, here);
            return;
        }
        let now = self.now;
        let Some(tcp) = self.wires.end(id, here) else { return };
        tcp.sender.on_ack(now, ack);
        let reply = segment.map(|segment| tcp.receiver.on_segment(now, &segment));
        let is_whole = tcp.receiver.next() >= tcp.whole_at;
        if is_whole && reply.is_some_and(|reply| reply.in_order > 0) {
            self.take_in_order(id, side);
        }
        let has_sent = self.pump(id, here);
        if reply.is_some_and(|reply| reply.acks_now) && !has_sent {
            self.acknowledge(id, here);
        }
        self.send(id, here);
    }

    /// This side's system will have nothing to do with what the other sent.
    pub(super) fn on_reset_packet(&mut self, id: ConnectionId, side: Side) {
        let here = 1 - side;
        let Some(connection) = self.connections.get_mut(id) else { return };
        let end = connection.ends[usize::from(here)];
        if end.gone || self.hosts[end.host as HostId].dark {
            return;
        }
        match &mut connection.dial {
            // The answer was lost, and whoever gave it is gone since.
            Some(dial) if here == 0 => {
                dial.answer = Some(Err(StreamError::Reset));
                self.on_answer(id);
            }
            _ => self.on_reset(id, here),
        }
    }

    /// More of what this side sent is in order at the other, and is handed in as far as it is whole.
    fn take_in_order(&mut self, id: ConnectionId, side: Side) {
        let Some(connection) = self.connections.get(id) else { return };
        let number = connection.ends[usize::from(side)].pipe;
        let (Some(pipe), Some(end)) = (self.pipes.get_mut(number), self.wires.end(id, 1 - side))
        else {
            return;
        };
        end.taken += pipe.take(end.receiver.next() - end.taken);
        end.whole_at = end.taken + pipe.waiting.front().map_or(0, Parcel::positions);
        self.deliver(id, 1 - side);
        // What the machine does not take now, it is offered again with what comes next.
        if let Some(pipe) = self.pipes.get_mut(number)
            && (!pipe.inbox.is_empty() || pipe.finished)
        {
            self.look_again(id, side);
        }
    }

    /// What of this side's stream is next to be handed in is not what it was.
    pub(in crate::net) fn look_again(&mut self, id: ConnectionId, side: Side) {
        if let Some(end) = self.wires.end(id, 1 - side) {
            end.whole_at = 0;
        }
    }

    /// A machine took so many bytes that came to this side, or nobody will.
    pub(in crate::net) fn on_taken(&mut self, id: ConnectionId, side: Side, count: usize) {
        let Some(end) = self.wires.end(id, side) else { return };
        if end.receiver.on_read(count as u32) {
            self.acknowledge(id, side);
        }
    }
}

impl Pipe {
    /// So many positions of what waits have arrived in order. What a machine handed over together is
    /// handed in together, as from a system that gathers what comes. Returns how many that took.
    fn take(&mut self, in_order: u64) -> u64 {
        let mut taken = 0;
        while let Some(first) = self.waiting.front()
            && taken + first.positions() <= in_order
            && let Some(parcel) = self.waiting.pop_front()
        {
            taken += parcel.positions();
            self.finished |= parcel.mark == Mark::Finish;
            self.waiting_bytes -= parcel.len as usize;
            self.inbox_bytes += parcel.len as usize;
            self.inbox.extend(parcel.parts);
        }
        taken
    }

    /// Takes back the last bytes that wait. Returns how many that were.
    pub(in crate::net) fn take_back(&mut self, bytes: usize) -> usize {
        let mut left = bytes;
        while left > 0
            && let Some(last) = self.waiting.back_mut()
        {
            if last.len as usize <= left {
                left -= last.len as usize;
                self.waiting.pop_back();
                continue;
            }
            last.len -= left as u32;
            while left > 0
                && let Some(part) = last.parts.last_mut()
            {
                if part.len() <= left {
                    left -= part.len();
                    last.parts.pop();
                } else {
                    part.truncate(part.len() - left);
                    left = 0;
                }
            }
        }
        self.waiting_bytes -= bytes - left;
        bytes - left
    }
}

impl Parcel {
    /// Positions of the stream that it takes: the end of it takes one.
    fn positions(&self) -> u64 {
        u64::from(self.len) + u64::from(self.mark == Mark::Finish)
    }
}
