//! The `packet` fidelity: what hosts send crosses the network packet by packet.
//!
//! ```text
//!   offered --> up link --> between: loss, detours, delay --> down link --> taken in
//!                 |                     |                         |
//!              dropped                lost                     dropped
//! ```
//!
//! A stream's bytes stay in its [`Pipe`](super::pipe::Pipe) until the receiver has them in order; only
//! positions travel: `segments` knows of them. Calls and their answers are packets, too, and are made
//! again when lost.

mod segments;
mod tap;
mod transit;

use std::net::SocketAddr;

use bytes::Bytes;
use teem_core::ids::{Key, StreamId};
use teem_core::machine::{Input, Machine, SocketInput};
use teem_core::rng::Seed;
use teem_core::time::Duration;

use self::segments::Tcp;
pub(super) use self::tap::Taps;
use self::transit::{Datagram, Load, Packet, Sent, Transit, Way};
use super::agenda::{ConnectionId, Side, What};
use super::link::{Access, Topology};
use super::{HostId, Net, Stuck};
use crate::packet::line::{Fate, Weather};
use crate::packet::queue::{Link, Offered};
use crate::packet::tcp::Config;
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

    /// The connection that a packet is of, and its sender's side; none: it is of none, or gone.
    pub(super) fn way_of(&self, number: u32) -> Option<(ConnectionId, Side)> {
        self.transit.fetch(number)
    }

    /// Reads what one end of a connection needs when a segment comes.
    pub(super) fn fetch(&self, id: ConnectionId, side: Side) -> u64 {
        let tcp = self.tcp.get(id.slot() as usize).and_then(Option::as_ref);
        tcp.map_or(0, |tcp| tcp.ends[usize::from(side)].fetch())
    }

    pub(super) fn set_rates(&mut self, now: Nanos, host: HostId, access: &Access) {
        let Some(wire) = self.hosts.get_mut(host) else { return };
        wire.links[UP].set_rate(now, access.up_bytes_per_s);
        wire.links[DOWN].set_rate(now, access.down_bytes_per_s);
    }
}

impl<M: Machine> Net<M> {
    /// How TCP is from now on, in `packet` fidelity: for connections that are made later.
    pub const fn set_tcp(&mut self, config: Config) {
        self.wires.config = config;
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
}
