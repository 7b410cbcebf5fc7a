//! What a capture hears of the network: streams, of which segments are made up, and datagrams.
//! Segments that are real are heard elsewhere, see [`Taps`].
//!
//! A side table beside the network, by connection: whoever is not captured costs nothing. Each
//! connection is shown as one host of the capture sees it, be it the one that dialled or, if that is
//! none of it, the one that answered. Bytes leave when the network sends them on their way, and
//! arrive when they are there, read or not.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use teem_core::machine::{Machine, Shutdown, StreamError};
use teem_core::time::Duration;

use super::agenda::{ConnectionId, Side};
use super::packets::Taps;
use super::pipe::{Connection, Mark, Parcel};
use super::{Fidelity, HostId, Net};
use crate::capture::{Capture, Captured, Conversation, Direction, Segment, Sink, Who};
use crate::time::Nanos;

/// Connections that the table has room for before those that are over are looked for.
const SWEEP_AT: usize = 64;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Captures {
    capture: Capture,
    /// Where streams have segments of their own, and none are made up.
    taps: Option<Taps>,
    streams: BTreeMap<ConnectionId, Stream>,
    /// What a host of the capture hears by and by, in the order of time: no more than is on its
    /// way.
    later: BTreeMap<(Nanos, u64), (ConnectionId, Later)>,
    scheduled: u64,
    sweep_at: usize,
    payload: Vec<u8>,
}

#[derive(Debug)]
struct Stream {
    conversation: Conversation,
    host: HostId,
    near: Side,
    /// Time from one end to the other, of each side.
    delay: [Duration; 2],
    /// Entries of [`Captures::later`].
    waits: u32,
}

/// What the far host says.
#[derive(Clone, Copy, Debug)]
enum Later {
    /// Everything before this number has arrived.
    Acknowledge(u32),
    Finish,
    Reset,
}

/// Whether what comes is taken, thrown away, or not even noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ear {
    Open,
    Deaf,
    Off,
}

impl Ear {
    pub(super) const fn new(silent: bool, deaf: bool) -> Self {
        match (silent, deaf) {
            (true, _) => Self::Off,
            (false, true) => Self::Deaf,
            (false, false) => Self::Open,
        }
    }
}

impl Captures {
    fn new(capture: Capture, taps: Option<Taps>) -> Self {
        Self {
            capture,
            taps,
            streams: BTreeMap::new(),
            later: BTreeMap::new(),
            scheduled: 0,
            sweep_at: SWEEP_AT,
            payload: Vec::new(),
        }
    }

    /// Whoever shows segments that are real, and where.
    pub(super) fn taps(&mut self) -> Option<(&mut Capture, &mut Taps)> {
        Some((&mut self.capture, self.taps.as_mut()?))
    }

    /// Tells what was to be heard by now.
    fn catch_up(&mut self, now: Nanos) {
        while let Some(first) = self.later.first_entry()
            && first.key().0 <= now
        {
            let ((at, _), (id, what)) = first.remove_entry();
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.waits -= 1;
            let Stream { conversation, host, .. } = stream;
            let capture = &mut self.capture;
            let out = &mut |direction, segment: &Segment, payload: &[u8]| {
                capture.segment(at, *host, direction, segment, payload);
            };
            match what {
                Later::Acknowledge(before) => conversation.acknowledge(before, out),
                Later::Finish => {
                    conversation.finish(Who::Far, true, out);
                }
                Later::Reset => conversation.reset(Who::Far, out),
            }
        }
    }

    /// Has something be said now in a connection that is shown, and tells by and by what comes of
    /// it.
    fn with(
        &mut self,
        now: Nanos,
        id: ConnectionId,
        what: impl FnOnce(&mut Stream, &mut Sink<'_>) -> Option<(Duration, Later)>,
    ) {
        self.catch_up(now);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (capture, host) = (&mut self.capture, stream.host);
        let out = &mut |direction, segment: &Segment, payload: &[u8]| {
            capture.segment(now, host, direction, segment, payload);
        };
        if let Some((after, later)) = what(stream, out) {
            stream.waits += 1;
            self.scheduled += 1;
            self.later.insert((now + after, self.scheduled), (id, later));
        }
    }

    fn begin(&mut self, now: Nanos, id: ConnectionId, near: Side, connection: &Connection) -> bool {
        let Some(dial) = &connection.dial else { return false };
        if self.taps.is_some() {
            return false;
        }
        let host = connection.ends[usize::from(near)].host as HostId;
        if self.streams.contains_key(&id) || !self.capture.has(host) {
            return false;
        }
        let (near_at, far_at) = if near == 0 { (dial.from, dial.to) } else { (dial.to, dial.from) };
        // Numbers begin with a clock of 4 microseconds (RFC 9293, 3.4.1), two ends not the same.
        let first = (now.0 / 4_000) as u32;
        let other = first.wrapping_mul(0x9e37_79b9).wrapping_add(0x7f4a_7c15);
        let conversation = Conversation::new(near_at, far_at, [first, other]);
        let delay = connection.delay.map(Duration::from_nanos);
        self.streams.insert(id, Stream { conversation, host, near, delay, waits: 0 });
        true
    }

    /// Forgets connections that are over, now and then.
    fn sweep(&mut self, lives: impl Fn(ConnectionId) -> bool) {
        if self.streams.len() >= self.sweep_at {
            self.streams.retain(|id, stream| stream.waits > 0 || lives(*id));
            self.sweep_at = SWEEP_AT.max(2 * self.streams.len());
        }
    }

    /// A side sends something on its way.
    pub(super) fn sent(&mut self, now: Nanos, id: ConnectionId, side: Side, parcel: &Parcel) {
        let mut payload = std::mem::take(&mut self.payload);
        self.with(now, id, |stream, out| {
            if stream.near == side {
                gather(&mut payload, parcel);
                stream.conversation.send(Who::Near, &payload, true, out);
                match parcel.mark {
                    Mark::Nothing => {}
                    Mark::Finish => {
                        stream.conversation.finish(Who::Near, true, out);
                    }
                    Mark::Reset => stream.conversation.reset(Who::Near, out),
                }
            }
            None
        });
        self.payload = payload;
    }

    /// What a side sent arrives at the other.
    pub(super) fn arrived(
        &mut self,
        now: Nanos,
        id: ConnectionId,
        side: Side,
        parcel: &Parcel,
        ear: Ear,
    ) {
        if ear == Ear::Off {
            return;
        }
        let is_heard = ear == Ear::Open;
        let mut payload = std::mem::take(&mut self.payload);
        self.with(now, id, |stream, out| {
            if stream.near == side {
                let count = parcel.len + u32::from(parcel.mark == Mark::Finish);
                let before = stream.conversation.arrives(count);
                // Bytes that nobody takes are answered with a reset, by the network.
                let is_told = is_heard || parcel.len == 0;
                let back = stream.delay[usize::from(1 - side)];
                return (is_told && count > 0).then_some((back, Later::Acknowledge(before)));
            }
            gather(&mut payload, parcel);
            stream.conversation.send(Who::Far, &payload, is_heard, out);
            match parcel.mark {
                Mark::Nothing => {}
                Mark::Finish => {
                    stream.conversation.finish(Who::Far, true, out);
                }
                Mark::Reset => stream.conversation.reset(Who::Far, out),
            }
            None
        });
        self.payload = payload;
    }

    /// A side closes while nobody is left at the other end that would be told.
    fn closed(&mut self, now: Nanos, id: ConnectionId, side: Side, how: Shutdown) {
        self.with(now, id, |stream, out| {
            let graceful = how == Shutdown::Graceful;
            if stream.near != side {
                let later = if graceful { Later::Finish } else { Later::Reset };
                return Some((stream.delay[usize::from(side)], later));
            }
            if !graceful {
                stream.conversation.reset(Who::Near, out);
                return None;
            }
            stream.conversation.finish(Who::Near, true, out);
            let before = stream.conversation.end_arrives()?;
            Some((stream.delay[0] + stream.delay[1], Later::Acknowledge(before)))
        });
    }
}

fn gather(payload: &mut Vec<u8>, parcel: &Parcel) {
    payload.clear();
    for part in &parcel.parts {
        payload.extend_from_slice(part);
    }
}

impl<M: Machine> Net<M> {
    /// From now on, shows what the hosts of this capture send and receive, in place of a capture
    /// that there was. Connections that exist already are not shown.
    ///
    /// In `message` and `flow` fidelity streams have no segments: those are made up from what was
    /// sent and when it arrived, see [`crate::capture`]. In `packet` fidelity they are those that
    /// cross the network.
    pub fn capture(&mut self, capture: Capture) {
        let taps = (self.fidelity == Fidelity::Packet).then(Taps::new);
        self.captures = Some(Box::new(Captures::new(capture, taps)));
    }

    /// Ends the capture, if there is one. The error is the first there was.
    pub fn finish_capture(&mut self) -> Option<io::Result<Captured>> {
        let mut captures = self.captures.take()?;
        captures.catch_up(self.now);
        Some(captures.capture.finish())
    }

    /// A host calls.
    pub(super) fn capture_call(&mut self, id: ConnectionId) {
        self.tap_connection(id);
        let (Some(captures), Some(connection)) = (&mut self.captures, self.connections.get(id))
        else {
            return;
        };
        captures.sweep(|id| self.connections.contains(id));
        if captures.begin(self.now, id, 0, connection) {
            captures.with(self.now, id, |stream, out| {
                stream.conversation.call(Who::Near, out);
                None
            });
        }
    }

    /// A call was heard, and is answered.
    pub(super) fn capture_heard(&mut self, id: ConnectionId) {
        let (Some(captures), Some(connection)) = (&mut self.captures, self.connections.get(id))
        else {
            return;
        };
        let answer = connection.dial.as_ref().and_then(|dial| dial.answer);
        captures.sweep(|id| self.connections.contains(id));
        if captures.begin(self.now, id, 1, connection) {
            captures.with(self.now, id, |stream, out| {
                let conversation = &mut stream.conversation;
                conversation.call(Who::Far, out);
                if !matches!(answer, Some(Ok(_))) {
                    conversation.refuse(Who::Near, out);
                    return None;
                }
                conversation.answer(Who::Near, out);
                let before = conversation.arrives(1);
                Some((stream.delay[0] + stream.delay[1], Later::Acknowledge(before)))
            });
        }
    }

    /// The answer to a call is there.
    pub(super) fn capture_answer(&mut self, id: ConnectionId) {
        let (Some(captures), Some(connection)) = (&mut self.captures, self.connections.get(id))
        else {
            return;
        };
        let answer = connection.dial.as_ref().and_then(|dial| dial.answer);
        captures.with(self.now, id, |stream, out| {
            match answer {
                Some(Ok(_)) if stream.near == 0 => stream.conversation.answer(Who::Far, out),
                Some(Err(StreamError::Refused)) if stream.near == 0 => {
                    stream.conversation.refuse(Who::Far, out);
                }
                // Nobody answered, or it is seen from the other end.
                _ => {}
            }
            None
        });
    }

    /// A side closes, and nobody is at the other end that would be told.
    pub(super) fn capture_closed(&mut self, id: ConnectionId, side: Side, how: Shutdown) {
        let Some(captures) = &mut self.captures else { return };
        let other = self.connections.get(id).map(|it| it.ends[usize::from(1 - side)]);
        // A call that nobody heard is taken back.
        let Some(other) = other else { return };
        if !other.gone && !self.hosts[other.host as HostId].dark {
            captures.closed(self.now, id, side, how);
        }
    }

    /// A host sends a datagram, or receives one.
    pub(super) fn capture_datagram(
        &mut self,
        host: HostId,
        direction: Direction,
        way: (SocketAddr, SocketAddr),
        bytes: &[u8],
    ) {
        let Some(captures) = &mut self.captures else { return };
        if direction == Direction::In {
            let bound = self.sockets.get(&way.0).map(|(host, _)| *host);
            let from = bound.or_else(|| self.by_ip.get(&way.0.ip()).copied());
            if from.is_some_and(|from| captures.capture.has(from)) {
                return;
            }
        }
        captures.catch_up(self.now);
        captures.capture.datagram(self.now, host, direction, way, bytes);
    }
}

#[cfg(test)]
mod tests;
