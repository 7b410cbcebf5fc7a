//! What a capture hears of packets: each as it is sent, or else as it is received.
//!
//! A side table beside the network, of the connections of hosts that are captured: a packet is made
//! readable when its host sends it, be it to be shown then, or when it comes to a host that is.
//! What is lost on the way to one that alone is captured is never shown.

use std::collections::BTreeMap;

use bytes::Bytes;
use teem_core::machine::Machine;

use super::transit::{Load, Packet};
use crate::capture::{Direction, Ends, Segment};
use crate::net::agenda::{ConnectionId, Side};
use crate::net::{HostId, Net};

/// Connections that the table has room for before those that are over are looked for.
const SWEEP_AT: usize = 64;

/// See the [module](self).
#[derive(Debug)]
pub(in crate::net) struct Taps {
    connections: BTreeMap<ConnectionId, Ends>,
    /// What is to be shown when it arrives, by the numbers of packets; no more than these.
    on_way: BTreeMap<u32, OnWay>,
    sweep_at: usize,
    payload: Vec<u8>,
}

#[derive(Clone, Debug)]
struct OnWay {
    segment: Segment,
    payload: Box<[u8]>,
}

impl Taps {
    pub(in crate::net) const fn new() -> Self {
        Self {
            connections: BTreeMap::new(),
            on_way: BTreeMap::new(),
            sweep_at: SWEEP_AT,
            payload: Vec::new(),
        }
    }

    /// Connections that are known, and packets that are on their way.
    #[cfg(test)]
    pub(in crate::net) fn sizes(&self) -> [usize; 2] {
        [self.connections.len(), self.on_way.len()]
    }
}

impl<M: Machine> Net<M> {
    /// A connection is about to be made.
    pub(in crate::net) fn tap_connection(&mut self, id: ConnectionId) {
        let (Some((capture, taps)), Some(connection)) =
            (self.captures.as_mut().and_then(|it| it.taps()), self.connections.get(id))
        else {
            return;
        };
        if taps.connections.len() >= taps.sweep_at {
            taps.connections.retain(|id, _| self.connections.contains(*id));
            taps.sweep_at = SWEEP_AT.max(2 * taps.connections.len());
        }
        let is_of = connection.ends.iter().any(|end| capture.has(end.host as HostId));
        if let Some(dial) = connection.dial.as_ref().filter(|_| is_of) {
            let buffer = self.wires.config.receive_buffer;
            taps.connections.insert(id, Ends::new(self.now, [dial.from, dial.to], buffer));
        }
    }

    /// A machine hands over bytes.
    pub(in crate::net) fn tap_bytes(&mut self, id: ConnectionId, side: Side, parts: &[Bytes]) {
        let Some((_, taps)) = self.captures.as_mut().and_then(|it| it.taps()) else { return };
        if let (Some(ends), Some(end)) = (taps.connections.get_mut(&id), self.wires.end(id, side)) {
            ends.push(side, parts, end.sender.snapshot().acked_bytes);
        }
    }

    /// A host sends a packet, which has no number yet.
    pub(super) fn tap_launched(&mut self, packet: &Packet) {
        let Some((capture, taps)) = self.captures.as_mut().and_then(|it| it.taps()) else { return };
        let number = self.wires.transit.next_number();
        taps.on_way.remove(&number);
        let Some((id, side)) = packet.way.of else { return };
        let Some(ends) = taps.connections.get_mut(&id) else { return };
        let (now, payload) = (self.now, &mut taps.payload);
        payload.clear();
        let segment = match &packet.load {
            Load::Call => ends.call(now),
            Load::Answer => {
                let dial = self.connections.get(id).and_then(|it| it.dial.as_ref());
                match dial.and_then(|dial| dial.answer) {
                    Some(Ok(_)) => ends.answer(now),
                    _ => ends.refuse(),
                }
            }
            Load::Segment(sent, ack) => ends.segment(now, side, sent.as_ref(), ack, payload),
            Load::Reset => {
                let has = self.wires.end(id, side).map_or(0, |end| end.receiver.next());
                ends.reset(now, side, has)
            }
            Load::Datagram(_) | Load::TooBig(..) => return,
        };
        let [from, to] = [packet.way.from, packet.way.to].map(|host| host as HostId);
        if capture.has(from) {
            capture.segment(now, from, Direction::Out, &segment, payload);
        } else if capture.has(to) {
            let payload = payload.as_slice().into();
            taps.on_way.insert(number, OnWay { segment, payload });
        }
    }

    /// There are two of a packet now.
    pub(super) fn tap_doubled(&mut self, number: u32, copy: u32) {
        let Some((_, taps)) = self.captures.as_mut().and_then(|it| it.taps()) else { return };
        match taps.on_way.get(&number).cloned() {
            Some(packet) => taps.on_way.insert(copy, packet),
            None => taps.on_way.remove(&copy),
        };
    }

    /// A packet comes to a host, which has not looked at it yet.
    pub(super) fn tap_landed(&mut self, number: u32, packet: &Packet) {
        let Some((capture, taps)) = self.captures.as_mut().and_then(|it| it.taps()) else { return };
        let on_way = taps.on_way.remove(&number);
        let Some((id, side)) = packet.way.of else { return };
        let host = packet.way.to as HostId;
        let connection = self.connections.get(id);
        let end = connection.map(|it| it.ends[usize::from(1 - side)]);
        // To an address that it left behind.
        let is_gone = |to: &OnWay| self.by_ip.get(&to.segment.to.ip()) != Some(&host);
        let is_gone = end.map_or_else(|| on_way.as_ref().is_some_and(is_gone), |end| end.gone);
        if self.hosts[host].dark || is_gone {
            return;
        }
        let mut ends = taps.connections.get_mut(&id);
        if let Some(OnWay { segment, payload }) = on_way {
            let ends =
                ends.as_mut().filter(|_| side == 0 && matches!(packet.load, Load::Segment(..)));
            if let Some(confirmed) = ends.and_then(|ends| ends.confirm_before(self.now, &segment)) {
                capture.segment(self.now, host, Direction::In, &confirmed, &[]);
            }
            capture.segment(self.now, host, Direction::In, &segment, &payload);
        }
        let is_wanted = end.is_some_and(|end| !end.is_dead());
        let dial = connection.and_then(|it| it.dial.as_ref());
        if let (Load::Answer, Some(ends)) = (&packet.load, ends)
            && dial.is_some_and(|dial| matches!(dial.answer, Some(Ok(_))))
            && ends.open()
            && is_wanted
            && capture.has(host)
            && let Some(confirmed) = ends.confirm(self.now)
        {
            capture.segment(self.now, host, Direction::Out, &confirmed, &[]);
        }
    }
}
