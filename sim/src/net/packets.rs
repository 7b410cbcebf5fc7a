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
mod transit;

use std::net::SocketAddr;

use bytes::Bytes;
use teem_core::ids::{Key, StreamId};
use teem_core::machine::{Input, Machine, SocketInput, StreamError, StreamInput};
use teem_core::rng::Seed;
use teem_core::time::Duration;

pub(super) use self::tap::Taps;
use self::transit::{Datagram, Load, Packet, Sent, Transit, Way};
use super::agenda::{ConnectionId, Side, What};
use super::link::{Access, Topology};
use super::pipe::{Mark, Parcel, Pipe};
use super::{Fidelity, HostId, Net, Stuck};
use crate::packet::line::{Fate, Weather};
use crate::packet::queue::{Link, Offered};
use crate::packet::tcp::{Ack, Config, MSS, Receiver, Segment, Sender, Snapshot};
use crate::packet::{TCP_HEADERS, UDP_HEADERS};
use crate::splitmix::SplitMix64;
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
    transit: Transit,
    /// By the slots of connections.
    tcp: Vec<Option<Tcp>>,
    config: Config,
    dropped: Vec<u32>,
    /// Whom the packets of a moment go to.
    ahead: Vec<(ConnectionId, Side)>,
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

/// Draws of [`NOISE`], which nothing else depends on.
#[derive(Debug)]
struct Noise(SplitMix64);

impl Noise {
    fn draw(&mut self) -> Duration {
        let share = u64::from(self.0.next_half());
        Duration::from_nanos((share * NOISE.as_nanos() as u64) >> 32)
    }
}

/// Both ends of a connection.
#[derive(Debug)]
struct Tcp {
    id: ConnectionId,
    ends: Box<[TcpEnd; 2]>,
}

/// In the order of use, so that what most segments touch lies together: thousands of ends are in use
/// at a time, and each segment comes to another one.
#[derive(Debug)]
#[repr(C)]
struct TcpEnd {
    sender: Sender,
    /// It sends nothing more, not even again.
    is_halted: bool,
    /// The times of the entries that count.
    timer_at: Nanos,
    ack_at: Nanos,
    /// When the last segment of it came to the receiver's link: they stay in order.
    last_between: Nanos,
    /// Positions of the other side's stream that are out of its pipe.
    taken: u64,
    /// With fewer positions in order there is nothing more to take out, and nothing to hand in.
    whole_at: u64,
    receiver: Receiver,
}

impl TcpEnd {
    /// Reads one number of each line of the cache.
    fn fetch(&self) -> u64 {
        self.sender.fetch() ^ self.receiver.fetch() ^ self.last_between.0
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
            noise: Noise(SplitMix64(seed.stream("noise", host).next_u64())),
        });
    }

    pub(super) fn set_rates(&mut self, now: Nanos, host: HostId, access: &Access) {
        let Some(wire) = self.hosts.get_mut(host) else { return };
        wire.links[UP].set_rate(now, access.up_bytes_per_s);
        wire.links[DOWN].set_rate(now, access.down_bytes_per_s);
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
            taken: 0,
            whole_at: 0,
        };
        self.tcp[slot] = Some(Tcp { id, ends: Box::new([end(), end()]) });
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
        let Way { from, to, bytes, .. } = packet.way;
        let [from, to] = [from, to].map(|host| host as HostId);
        if self.topology.is_cut(from, to) {
            self.counters.cut += 1;
            self.lose_packet(&packet.load);
            return;
        }
        let [one, other] = [&self.wires.hosts[from], &self.wires.hosts[to]];
        let mtu = one.mtu.min(other.mtu);
        let Some(bytes) = u16::try_from(bytes).ok().filter(|bytes| *bytes <= mtu) else {
            self.counters.packets_too_big += 1;
            let vanishes = [one, other].iter().any(|it| it.mtu == mtu && it.is_black_hole);
            if !vanishes {
                self.refuse_size(&packet, mtu);
            }
            self.lose_packet(&packet.load);
            return;
        };
        let number = self.wires.transit.insert(packet);
        self.offer(from, UP, number, bytes);
    }

    /// Tells whoever sent a packet that it was too big, after the way there and back.
    fn refuse_size(&mut self, packet: &Packet, mtu: u16) {
        let about = match (&packet.load, packet.way.of) {
            (Load::Datagram(datagram), _) => Sent::Datagram(datagram.from, datagram.to),
            (Load::Segment(..), Some((id, side))) => Sent::Segment(id, side),
            _ => return,
        };
        let Way { from, to, .. } = packet.way;
        let notice = Packet {
            way: Way { from: to, to: from, bytes: 0, of: None },
            load: Load::TooBig(mtu, Box::new(about)),
        };
        let number = self.wires.transit.insert(notice);
        let (from, to) = (from as HostId, to as HostId);
        let delay = self.topology.delay(from, to) + self.topology.delay(to, from);
        self.agenda.push(self.now + delay, What::Packet(number));
    }

    fn lose_packet(&mut self, load: &Load) {
        match load {
            Load::Datagram(_) => self.counters.datagrams_lost += 1,
            Load::Segment(..) => self.counters.losses += 1,
            _ => {}
        }
    }

    fn drop_packet(&mut self, number: u32) {
        self.counters.packets_dropped += 1;
        if let Some(packet) = self.wires.transit.remove(number) {
            self.lose_packet(&packet.load);
        }
    }

    /// A packet comes to a link.
    fn offer(&mut self, host: HostId, way: usize, number: u32, bytes: u16) {
        let link = &mut self.wires.hosts[host].links[way];
        let was_waiting = link.wake_at().is_some();
        match link.offer(self.now, number, bytes.into()) {
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
        let way = *self.wires.transit.way(number);
        let [from, to] = [way.from, way.to].map(|host| host as HostId);
        let segment_of = self.wires.transit.segment_of(number);
        let fates = [(from, UP), (to, DOWN)].map(|(host, way)| {
            let line = self.topology.line_of(host);
            let weather = self.wires.hosts[host].weather.as_mut();
            weather.map_or_else(Fate::default, |weather| weather[way].next(line))
        });
        let is_damaged = segment_of.is_some() && fates.iter().any(|fate| fate.flipped.is_some());
        let is_lost = fates.iter().any(|fate| fate.is_lost);
        if is_lost || is_damaged || self.topology.is_lost_alone(from, to) {
            if let Some(packet) = self.wires.transit.remove(number) {
                self.lose_packet(&packet.load);
            }
            return;
        }
        let mut arrives = at + self.topology.delay(from, to);
        if let Some((id, side)) = segment_of {
            arrives += self.wires.hosts[from].noise.draw();
            if let Some(end) = self.wires.end(id, side) {
                // A delay that varies does not by itself change the order of a stream.
                arrives = arrives.max(end.last_between);
                end.last_between = arrives;
            }
        }
        arrives += fates[0].later + fates[1].later;
        // No larger than any MTU.
        let (host, bytes) = (way.to, way.bytes as u16);
        for fate in fates {
            if let Some(draw) = fate.flipped {
                self.wires.transit.damage(number, draw);
            }
            if fate.is_doubled
                && let Some(copy) = self.wires.transit.double(number)
            {
                self.tap_doubled(number, copy);
                self.agenda.push(arrives, What::Comes { packet: copy, host, bytes });
            }
        }
        self.agenda.push(arrives, What::Comes { packet: number, host, bytes });
    }

    /// Fetches from memory what the packets of this slice of time will need. There are thousands of
    /// connections, and each packet goes to another one: whatever it needs is far away. One after
    /// the other each would be waited for; here all are waited for together.
    pub(super) fn fetch_ahead(&mut self) {
        let Some(arriving) = self.agenda.take_turned() else { return };
        let Wires { transit, ahead, tcp, .. } = &mut self.wires;
        ahead.clear();
        ahead.extend(arriving.filter_map(|number| transit.fetch(number)));
        let mut read = 0;
        for (id, side) in &*ahead {
            let end = self.connections.get(*id).map(|it| it.ends[usize::from(1 - side)].host);
            read ^= u64::from(end.unwrap_or_default());
            let tcp = tcp.get(id.slot() as usize).and_then(Option::as_ref);
            read ^= tcp.map_or(0, |tcp| tcp.ends[usize::from(1 - side)].fetch());
        }
        // Nothing comes of it, and it is to be read all the same.
        std::hint::black_box(read);
    }

    /// A packet comes to the line of a host.
    pub(super) fn on_comes(&mut self, number: u32, to: HostId, bytes: u16) -> Result<(), Stuck> {
        if self.wires.hosts[to].links[DOWN].is_limited() {
            self.offer(to, DOWN, number, bytes);
            return Ok(());
        }
        self.on_packet(number)
    }

    /// A packet is there.
    pub(super) fn on_packet(&mut self, number: u32) -> Result<(), Stuck> {
        let Some(packet) = self.wires.transit.remove(number) else { return Ok(()) };
        self.tap_landed(number, &packet);
        match (packet.load, packet.way.of) {
            (Load::Datagram(it), _) => self.take_datagram(it.from, it.to, &it.bytes),
            (Load::Call, Some((id, _))) => return self.on_dial(id),
            (Load::Answer, Some((id, _))) => self.on_answer(id),
            (Load::Segment(segment, ack), Some((id, side))) => {
                self.on_segment(id, side, segment, &ack);
            }
            (Load::Reset, Some((id, side))) => self.on_reset_packet(id, side),
            (Load::TooBig(mtu, about), _) => self.on_too_big(mtu, &about),
            (Load::Call | Load::Answer | Load::Segment(..) | Load::Reset, None) => {
                unreachable!("it is of a connection")
            }
        }
        Ok(())
    }

    fn on_too_big(&mut self, mtu: u16, about: &Sent) {
        match *about {
            Sent::Datagram(from, to) => {
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
        let size = (bytes.len() + UDP_HEADERS) as u32;
        let load = Load::Datagram(Box::new(Datagram { from, to, bytes }));
        self.launch(Packet { way: Way::new(host as u32, other as u32, size, None), load });
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
        self.launch_empty([ends[0].host, ends[1].host], (id, 0), Load::Call);
    }

    /// Answers a call.
    pub(super) fn launch_answer(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        let ends = connection.ends;
        self.launch_empty([ends[1].host, ends[0].host], (id, 1), Load::Answer);
    }

    pub(super) fn launch_reset(&mut self, id: ConnectionId, side: Side) {
        let Some(connection) = self.connections.get(id) else { return };
        let [from, to] = [side, 1 - side].map(|side| connection.ends[usize::from(side)].host);
        self.launch_empty([from, to], (id, side), Load::Reset);
    }

    fn launch_empty(&mut self, [from, to]: [u32; 2], of: (ConnectionId, Side), load: Load) {
        self.launch(Packet { way: Way::new(from, to, TCP_HEADERS as u32, Some(of)), load });
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
        self.launch_empty([from, to], (id, side), Load::Segment(None, ack));
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
    pub(super) fn look_again(&mut self, id: ConnectionId, side: Side) {
        if let Some(end) = self.wires.end(id, 1 - side) {
            end.whole_at = 0;
        }
    }

    /// A machine took so many bytes that came to this side, or nobody will.
    pub(super) fn on_taken(&mut self, id: ConnectionId, side: Side, count: usize) {
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

impl Parcel {
    /// Positions of the stream that it takes: the end of it takes one.
    fn positions(&self) -> u64 {
        u64::from(self.len) + u64::from(self.mark == Mark::Finish)
    }
}
