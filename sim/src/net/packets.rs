//! The `packet` fidelity: what hosts send crosses the network packet by packet.
//!
//! ```text
//!   offered --> up link --> between: loss, detours, delay --> down link --> taken in
//!                 |                     |                         |
//!              dropped                lost                     dropped
//! ```
//!
//! A stream's bytes stay in its [`Pipe`] until the receiver has them in order;
//! only positions travel. Calls and their answers are packets, too, and are made again when lost.

mod tap;

use std::net::SocketAddr;

use bytes::Bytes;
use teem_core::ids::{Key, StreamId};
use teem_core::machine::{Input, Machine, SocketInput, StreamError, StreamInput};
use teem_core::rng::Seed;
use teem_core::time::Duration;

pub(super) use self::tap::Taps;
use super::agenda::{ConnectionId, Side, What};
use super::link::{Access, Topology};
use super::pipe::{Mark, Pipe};
use super::{Fidelity, HostId, Net};
use crate::packet::line::{Fate, Weather};
use crate::packet::queue::{Link, Offered};
use crate::packet::tcp::{Ack, Config, MSS, Receiver, Segment, Sender, Snapshot};
use crate::packet::{TCP_HEADERS, UDP_HEADERS};
use crate::time::Nanos;

/// What systems and what they share add to the way of a segment, at most, drawn evenly: without it
/// whoever comes first to a full queue once comes first again, and loses each time (Floyd and
/// Jacobson, 1991).
pub const NOISE: Duration = Duration::from_micros(500);

/// The two links of a host.
const UP: usize = 0;
const DOWN: usize = 1;

/// All that is there in `packet` fidelity only.
#[derive(Debug, Default)]
pub(super) struct Wires {
    hosts: Vec<Wire>,
    slots: Vec<Option<Packet>>,
    free: Vec<u32>,
    /// By the slots of connections.
    tcp: Vec<Option<Box<Tcp>>>,
    config: Config,
    dropped: Vec<u32>,
}

/// What a host is attached with.
#[derive(Debug)]
struct Wire {
    links: [Link; 2],
    /// None where packets meet nothing but loss and delay.
    weather: Option<Box<[Weather; 2]>>,
    mtu: u16,
    is_black_hole: bool,
    noise: Noise,
}

/// Small numbers for [`NOISE`], which nothing else depends on: the generator of Steele, Lea and
/// Flood (2014), known as `SplitMix64`.
#[derive(Debug)]
struct Noise(u64);

impl Noise {
    fn draw(&mut self) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Duration::from_nanos(((word >> 32) * NOISE.as_nanos() as u64) >> 32)
    }
}

/// Both ends of a connection.
#[derive(Debug)]
struct Tcp {
    id: ConnectionId,
    ends: [TcpEnd; 2],
}

#[derive(Debug)]
struct TcpEnd {
    sender: Sender,
    receiver: Receiver,
    /// It sends nothing more, not even again.
    is_halted: bool,
    /// The times of the entries that count.
    timer_at: Nanos,
    ack_at: Nanos,
    /// When the last segment of it came to the receiver's link: they stay in order.
    last_between: Nanos,
}

/// Something on its way.
#[derive(Clone, Debug)]
struct Packet {
    from: u32,
    to: u32,
    /// With headers.
    bytes: u32,
    is_here: bool,
    load: Load,
}

#[derive(Clone, Debug)]
enum Load {
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Bytes,
    },
    /// A call, and the answer to it.
    Call(ConnectionId),
    Answer(ConnectionId),
    /// From this side.
    Segment(ConnectionId, Side, Option<Segment>, Ack),
    /// This side's system will have nothing to do with what came.
    Reset(ConnectionId, Side),
    /// What came from here was too big for the way.
    TooBig(u16, Sent),
}

/// What a notice is about.
#[derive(Clone, Copy, Debug)]
enum Sent {
    Datagram { from: SocketAddr, to: SocketAddr },
    Segment(ConnectionId, Side),
}

impl Load {
    const fn id(&self) -> Option<(ConnectionId, Side)> {
        match self {
            Self::Segment(id, side, ..) => Some((*id, *side)),
            _ => None,
        }
    }
}

impl Wires {
    pub(super) fn attach(&mut self, topology: &Topology, access: &Access, seed: Seed) {
        let host = self.hosts.len() as u64;
        let line = topology.line(access.line);
        let weather = |way: u64| Weather::new(seed.stream("weather", 2 * host + way));
        self.hosts.push(Wire {
            links: [
                Link::new(access.up_bytes_per_s, line.up),
                Link::new(access.down_bytes_per_s, line.down),
            ],
            weather: (!line.is_fair()).then(|| Box::new([weather(0), weather(1)])),
            mtu: line.mtu,
            is_black_hole: line.black_hole,
            noise: Noise(seed.stream("noise", host).next_u64()),
        });
    }

    pub(super) fn set_rates(&mut self, now: Nanos, host: HostId, access: &Access) {
        let Some(wire) = self.hosts.get_mut(host) else { return };
        wire.links[UP].set_rate(now, access.up_bytes_per_s);
        wire.links[DOWN].set_rate(now, access.down_bytes_per_s);
    }

    fn insert(&mut self, packet: Packet) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(packet);
            return slot;
        }
        self.slots.push(Some(packet));
        self.slots.len() as u32 - 1
    }

    fn remove(&mut self, slot: u32) -> Option<Packet> {
        let packet = self.slots[slot as usize].take()?;
        self.free.push(slot);
        Some(packet)
    }

    /// Both ends of a connection begin anew.
    pub(super) fn connect(&mut self, id: ConnectionId) {
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
        };
        self.tcp[slot] = Some(Box::new(Tcp { id, ends: [end(), end()] }));
    }

    fn end(&mut self, id: ConnectionId, side: Side) -> Option<&mut TcpEnd> {
        let tcp = self.tcp.get_mut(id.slot() as usize)?.as_mut()?;
        (tcp.id == id).then(|| &mut tcp.ends[usize::from(side)])
    }

    /// Bytes of this side that were never sent.
    pub(super) fn unsent(&mut self, id: ConnectionId, side: Side) -> usize {
        self.end(id, side).map_or(0, |end| end.sender.unsent() as usize)
    }

    /// This side sends nothing more. Returns how many bytes it had never sent.
    pub(super) fn halt(&mut self, id: ConnectionId, side: Side) -> usize {
        let Some(end) = self.end(id, side) else { return 0 };
        if std::mem::replace(&mut end.is_halted, true) {
            return 0;
        }
        end.sender.unsent() as usize
    }
}

impl<M: Machine> Net<M> {
    /// How TCP is from now on, in `packet` fidelity: for connections that are made later.
    pub const fn set_tcp(&mut self, config: Config) {
        self.wires.config = config;
    }

    /// Where the sending end of a stream stands, in `packet` fidelity; none elsewhere, and for
    /// streams that are no more.
    pub fn stream_snapshot(&self, host: HostId, stream: StreamId) -> Option<Snapshot> {
        let (id, side) = self.hosts[host].streams.get(stream)?;
        let tcp = self.wires.tcp.get(id.slot() as usize)?.as_ref()?;
        (tcp.id == id).then(|| tcp.ends[usize::from(side)].sender.snapshot())
    }

    /// Streams of a host that are there, in the order of their ids.
    pub fn stream_ids(&self, host: HostId) -> impl Iterator<Item = StreamId> {
        self.hosts[host].streams.iter().map(|(stream, _)| stream)
    }

    /// Bytes that wait before a host's links, sending and receiving, in `packet` fidelity.
    pub fn backlogs(&self, host: HostId) -> Option<[u64; 2]> {
        let wire = self.wires.hosts.get(host)?;
        Some([UP, DOWN].map(|way| wire.links[way].backlog(self.now)))
    }

    // The way of a packet.

    fn launch(&mut self, packet: Packet) {
        self.counters.packets += 1;
        self.tap_launched(&packet);
        let [from, to] = [packet.from, packet.to].map(|host| host as HostId);
        if self.topology.is_cut(from, to) {
            self.counters.cut += 1;
            self.lose_packet(&packet);
            return;
        }
        let [one, other] = [&self.wires.hosts[from], &self.wires.hosts[to]];
        let mtu = one.mtu.min(other.mtu);
        if packet.bytes > u32::from(mtu) {
            self.counters.packets_too_big += 1;
            let vanishes = [one, other].iter().any(|it| it.mtu == mtu && it.is_black_hole);
            if !vanishes {
                self.refuse_size(&packet, mtu);
            }
            self.lose_packet(&packet);
            return;
        }
        let bytes = packet.bytes;
        let number = self.wires.insert(packet);
        self.offer(from, UP, number, bytes);
    }

    /// Tells whoever sent a packet that it was too big, after the way there and back.
    fn refuse_size(&mut self, packet: &Packet, mtu: u16) {
        let about = match packet.load {
            Load::Datagram { from, to, .. } => Sent::Datagram { from, to },
            Load::Segment(id, side, ..) => Sent::Segment(id, side),
            _ => return,
        };
        let (from, to) = (packet.from as HostId, packet.to as HostId);
        let delay = self.topology.delay(from, to) + self.topology.delay(to, from);
        let notice = Packet {
            from: packet.to,
            to: packet.from,
            bytes: 0,
            is_here: true,
            load: Load::TooBig(mtu, about),
        };
        let number = self.wires.insert(notice);
        self.agenda.push(self.now + delay, What::Packet(number));
    }

    fn lose_packet(&mut self, packet: &Packet) {
        match packet.load {
            Load::Datagram { .. } => self.counters.datagrams_lost += 1,
            Load::Segment(..) => self.counters.losses += 1,
            _ => {}
        }
    }

    fn drop_packet(&mut self, number: u32) {
        self.counters.packets_dropped += 1;
        if let Some(packet) = self.wires.remove(number) {
            self.lose_packet(&packet);
        }
    }

    /// A packet comes to a link.
    fn offer(&mut self, host: HostId, way: usize, number: u32, bytes: u32) {
        let link = &mut self.wires.hosts[host].links[way];
        let was_waiting = link.wake_at().is_some();
        match link.offer(self.now, number, bytes) {
            Offered::Leaves(at) => self.left(way, number, at),
            Offered::Dropped => self.drop_packet(number),
            Offered::Waits => {
                if let Some(at) = link.wake_at().filter(|_| !was_waiting) {
                    self.agenda.push(at, What::Wake((2 * host + way) as u32));
                }
            }
        }
    }

    /// A link looks at what waits before it.
    pub(super) fn on_wake(&mut self, number: u32) {
        let (host, way) = (number as usize / 2, number as usize % 2);
        let mut dropped = std::mem::take(&mut self.wires.dropped);
        let link = &mut self.wires.hosts[host].links[way];
        let left = link.wake(self.now, &mut dropped);
        if let Some(at) = link.wake_at() {
            self.agenda.push(at, What::Wake(number));
        }
        for packet in dropped.drain(..) {
            self.drop_packet(packet);
        }
        self.wires.dropped = dropped;
        if let Some((packet, at)) = left {
            self.left(way, packet, at);
        }
    }

    /// A packet has left a link, or will at a time.
    fn left(&mut self, way: usize, number: u32, at: Nanos) {
        if way == UP {
            self.cross(number, at);
        } else if at > self.now {
            self.agenda.push(at, What::Packet(number));
        } else {
            // Nothing limits it: it is taken in where it is.
            self.agenda.push(self.now, What::Packet(number));
        }
    }

    /// A packet goes from one host's line to the other's.
    fn cross(&mut self, number: u32, at: Nanos) {
        let Some(packet) = &self.wires.slots[number as usize] else { return };
        let [from, to] = [packet.from, packet.to].map(|host| host as HostId);
        let stream = packet.load.id();
        let fates = [(from, UP), (to, DOWN)].map(|(host, way)| {
            let line = self.topology.line_of(host);
            let weather = self.wires.hosts[host].weather.as_mut();
            weather.map_or_else(Fate::default, |weather| weather[way].next(line))
        });
        let is_damaged = stream.is_some() && fates.iter().any(|fate| fate.flipped.is_some());
        let is_lost = fates.iter().any(|fate| fate.is_lost);
        if is_lost || is_damaged || self.topology.is_lost_alone(from, to) {
            if let Some(packet) = self.wires.remove(number) {
                self.lose_packet(&packet);
            }
            return;
        }
        let mut arrives = at + self.topology.delay(from, to);
        if let Some((id, side)) = stream {
            arrives += self.wires.hosts[from].noise.draw();
            if let Some(end) = self.wires.end(id, side) {
                // A delay that varies does not by itself change the order of a stream.
                arrives = arrives.max(end.last_between);
                end.last_between = arrives;
            }
        }
        arrives += fates[0].later + fates[1].later;
        for fate in fates {
            if let (Some(draw), Some(packet)) =
                (fate.flipped, &mut self.wires.slots[number as usize])
            {
                packet.damage(draw);
            }
            if fate.is_doubled
                && let Some(copy) = self.wires.slots[number as usize].clone()
            {
                let copy = self.wires.insert(copy);
                self.tap_doubled(number, copy);
                self.agenda.push(arrives, What::Packet(copy));
            }
        }
        self.agenda.push(arrives, What::Packet(number));
    }

    /// A packet is at its next place.
    pub(super) fn on_packet(&mut self, number: u32) -> Result<(), super::Stuck> {
        let Some(packet) = &mut self.wires.slots[number as usize] else { return Ok(()) };
        let to = packet.to as HostId;
        if !std::mem::replace(&mut packet.is_here, true) && self.has_down_link(to) {
            let bytes = self.wires.slots[number as usize].as_ref().map_or(0, |it| it.bytes);
            self.offer(to, DOWN, number, bytes);
            return Ok(());
        }
        let Some(packet) = self.wires.remove(number) else { return Ok(()) };
        self.tap_landed(number, &packet);
        match packet.load {
            Load::Datagram { from, to, bytes } => self.take_datagram(from, to, &bytes),
            Load::Call(id) => return self.on_dial(id),
            Load::Answer(id) => self.on_answer(id),
            Load::Segment(id, side, segment, ack) => self.on_segment(id, side, segment, &ack),
            Load::Reset(id, side) => self.on_reset_packet(id, side),
            Load::TooBig(mtu, about) => self.on_too_big(mtu, about),
        }
        Ok(())
    }

    fn has_down_link(&self, host: HostId) -> bool {
        self.topology.access(host).down_bytes_per_s.is_some()
    }

    fn on_too_big(&mut self, mtu: u16, about: Sent) {
        match about {
            Sent::Datagram { from, to } => {
                let Some((host, socket)) = self.sockets.get(&from).copied() else { return };
                let size = usize::from(mtu).saturating_sub(UDP_HEADERS);
                self.input(host, Input::Socket(socket, SocketInput::TooBig { to, size }));
            }
            Sent::Segment(id, side) => {
                if let Some(end) = self.wires.end(id, side) {
                    end.sender.on_too_big(mtu.saturating_sub(TCP_HEADERS as u16));
                    self.pump(id, side);
                }
            }
        }
    }

    // Datagrams.

    pub(super) fn launch_datagram(
        &mut self,
        host: HostId,
        other: HostId,
        addresses: [SocketAddr; 2],
        bytes: Bytes,
    ) {
        let [from, to] = addresses;
        self.launch(Packet {
            from: host as u32,
            to: other as u32,
            bytes: (bytes.len() + UDP_HEADERS) as u32,
            is_here: false,
            load: Load::Datagram { from, to, bytes },
        });
    }

    // Connections.

    /// Whether a connection is TCP that is followed: in `packet` fidelity all are, but for those to
    /// the gateway of a NAT, which is at no distance.
    pub(super) fn has_segments(&self, id: ConnectionId) -> bool {
        self.fidelity == Fidelity::Packet && !self.is_to_gateway(id)
    }

    /// Whether a call has its answer, which may be on its way.
    pub(super) fn is_answered(&self, id: ConnectionId) -> bool {
        let dial = self.connections.get(id).and_then(|connection| connection.dial.as_ref());
        dial.is_some_and(|dial| dial.answer.is_some())
    }

    /// Calls, and sees to it that it is done again.
    pub(super) fn call(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let ends = connection.ends;
        let Some(dial) = &mut connection.dial else { return };
        if ends[0].is_dead() {
            return;
        }
        let tries = dial.tries;
        dial.tries += 1;
        if tries > super::streams::DIAL_TRIES {
            dial.answer = Some(Err(StreamError::TimedOut));
            self.agenda.push(self.now, What::Answer(id));
            return;
        }
        self.agenda.push(self.now + super::streams::DIAL_AGAIN * (1 << tries), What::Dial(id));
        self.launch_empty(ends[0].host, ends[1].host, Load::Call(id));
    }

    /// Answers a call.
    pub(super) fn launch_answer(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        let ends = connection.ends;
        self.launch_empty(ends[1].host, ends[0].host, Load::Answer(id));
    }

    pub(super) fn launch_reset(&mut self, id: ConnectionId, side: Side) {
        let Some(connection) = self.connections.get(id) else { return };
        let [from, to] = [side, 1 - side].map(|side| connection.ends[usize::from(side)].host);
        self.launch_empty(from, to, Load::Reset(id, side));
    }

    fn launch_empty(&mut self, from: u32, to: u32, load: Load) {
        self.launch(Packet { from, to, bytes: TCP_HEADERS as u32, is_here: false, load });
    }

    /// So many bytes more are to be sent by this side, and are in its pipe.
    pub(super) fn push_segments(&mut self, id: ConnectionId, side: Side, count: usize) {
        if let Some(end) = self.wires.end(id, side) {
            end.sender.push(count as u64);
        }
        self.pump(id, side);
    }

    /// This side's stream ends behind what is in its pipe.
    pub(super) fn finish_segments(&mut self, id: ConnectionId, side: Side) {
        if let Some(end) = self.wires.end(id, side) {
            end.sender.finish();
        }
        self.pump(id, side);
    }

    /// Sends what this side may send now. Returns whether that was anything.
    fn pump(&mut self, id: ConnectionId, side: Side) -> bool {
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
            self.launch(Packet {
                from,
                to,
                bytes: u32::from(segment.payload()) + TCP_HEADERS as u32,
                is_here: false,
                load: Load::Segment(id, side, Some(segment), ack),
            });
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

    pub(super) fn on_resend(&mut self, id: ConnectionId, side: Side, at: Nanos) {
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

    pub(super) fn on_acknowledge(&mut self, id: ConnectionId, side: Side, at: Nanos) {
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
        self.launch_empty(from, to, Load::Segment(id, side, None, ack));
    }

    /// A segment of this side, or an acknowledgement, comes to the other.
    fn on_segment(&mut self, id: ConnectionId, side: Side, segment: Option<Segment>, ack: &Ack) {
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
        if let Some(reply) = reply
            && reply.in_order > 0
        {
            self.take_in_order(id, side, reply.in_order);
            self.deliver(id, here);
        }
        let has_sent = self.pump(id, here);
        if reply.is_some_and(|reply| reply.acks_now) && !has_sent {
            self.acknowledge(id, here);
        }
        self.send(id, here);
    }

    /// This side's system will have nothing to do with what the other sent.
    fn on_reset_packet(&mut self, id: ConnectionId, side: Side) {
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

    /// So many positions of what this side sent are in order at the other.
    fn take_in_order(&mut self, id: ConnectionId, side: Side, positions: u64) {
        let Some(connection) = self.connections.get(id) else { return };
        let number = connection.ends[usize::from(side)].pipe;
        let Some(pipe) = self.pipes.get_mut(number) else { return };
        pipe.take(positions);
    }

    /// A machine took so many bytes that came to this side, or nobody will.
    pub(super) fn on_taken(&mut self, id: ConnectionId, side: Side, count: usize) {
        let Some(end) = self.wires.end(id, side) else { return };
        if end.receiver.on_read(count as u32) {
            self.acknowledge(id, side);
        }
    }
}

impl Packet {
    /// Turns one bit of a datagram over.
    fn damage(&mut self, draw: u64) {
        if let Load::Datagram { bytes, .. } = &mut self.load
            && !bytes.is_empty()
        {
            let mut copy = bytes.to_vec();
            let bit = (u128::from(draw) * (copy.len() as u128 * 8)) >> 64;
            copy[bit as usize / 8] ^= 1 << (bit % 8);
            *bytes = copy.into();
        }
    }
}

impl Pipe {
    /// So many positions more of what waits have arrived in order. What a machine handed over
    /// together is handed in together, as from a system that gathers what comes.
    fn take(&mut self, positions: u64) {
        self.in_order += positions;
        while let Some(first) = self.waiting.front() {
            let is_end = first.mark == Mark::Finish;
            let takes = if is_end { 1 } else { u64::from(first.len) };
            if takes > self.in_order {
                break;
            }
            self.in_order -= takes;
            let parcel = self.waiting.pop_front();
            if is_end {
                self.finished = true;
                continue;
            }
            self.inbox.extend(parcel.into_iter().flat_map(|parcel| parcel.parts));
            self.waiting_bytes -= takes as usize;
            self.inbox_bytes += takes as usize;
        }
    }

    /// Takes back the last bytes that wait. Returns how many that were.
    pub(super) fn take_back(&mut self, bytes: usize) -> usize {
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
