//! Calls and connections through NATs: how they leave, arrive, meet, and are forgotten; and those to
//! a gateway itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use smallvec::SmallVec;
use teem_core::ids::{Key, ListenerId};
use teem_core::machine::{Machine, StreamError, StreamInput};
use teem_core::time::Duration;

use super::super::agenda::{ConnectionId, Side, What};
use super::super::pipe::{End, Mark, Parcel};
use super::super::{HostId, Net};
use super::{Arrival, GIVE_UP, Hop, Left, NatId, TO_GATEWAY, Way, in_realm, realm_of};
use crate::nat::upnp;
use crate::nat::{Passing, Unsolicited};
use crate::time::Nanos;

impl<M: Machine> Net<M> {
    /// A call leaves its host, for the first time or again.
    pub(in crate::net) fn call_leaves(&mut self, id: ConnectionId) {
        if self.nats.is_empty() {
            return;
        }
        let Some(connection) = self.connections.get(id) else { return };
        let Some(dial) = &connection.dial else { return };
        let host = connection.ends[0].host as HostId;
        let realm = self.nats.realm(host);
        let call = (in_realm(realm, dial.from), dial.to);
        let mut hops = SmallVec::new();
        let left = self.nats.leave(self.now, Passing::Syn, (realm, dial.from), dial.to, |hop| {
            hops.push(hop);
        });
        let (mut seen, mut gateway) = (None, None);
        match left {
            Left::To(from, to) => seen = Some((from, to)),
            Left::Gateway(nat, from) => {
                gateway = Some((nat, Box::default()));
                seen = Some((from, dial.to));
            }
            Left::Nowhere => {}
        }
        let out = hops.len();
        self.nats.calls.insert(call, id);
        let way = Way { call, seen, hops, out, gateway, broken: None, told: [false; 2] };
        self.nats.ways.insert(id, way);
    }

    /// A call arrives: from whom and at whose address, if it is not lost. None: it is dealt with.
    pub(in crate::net) fn call_enters(&mut self, id: ConnectionId) -> Option<Arrival> {
        let connection = self.connections.get(id)?;
        let dial = connection.dial.as_ref()?;
        let (untouched, is_again) = (Some((dial.from, dial.to)), dial.tries > 0);
        if self.nats.is_empty() {
            return Some(untouched);
        }
        let back = Duration::from_nanos(connection.delay[1]);
        let now = self.now;
        if is_again {
            self.call_leaves(id);
        }
        // None: it left before there were NATs.
        let Some(way) = self.nats.ways.get_mut(&id) else { return Some(untouched) };
        let Some((from, to)) = way.seen else { return Some(None) };
        if let Some((nat, _)) = way.gateway {
            self.answer_at_gateway(id, nat, to);
            return None;
        }
        way.hops.truncate(way.out);
        let mut hops = std::mem::take(&mut way.hops);
        let place = self.nats.enter(now, Passing::Syn, from, to, |hop| hops.push(hop));
        if let Some(way) = self.nats.ways.get_mut(&id) {
            way.hops = hops;
        }
        match place {
            Ok(place) => {
                // Whoever is there, and not who was near when the call left.
                if let (Some(nat), address) = realm_of(place)
                    && let Some(host) = self.nats.inside.get(&(nat, address.ip()))
                    && let Some(connection) = self.connections.get_mut(id)
                {
                    connection.ends[1].host = *host as u32;
                }
                Some(Some((from, place)))
            }
            Err((nat, _)) => match self.nat(nat).config().unsolicited {
                Unsolicited::Drop => Some(None),
                Unsolicited::Reset => {
                    self.answer(id, Err(StreamError::Refused), now + back);
                    None
                }
            },
        }
    }

    fn answer(&mut self, id: ConnectionId, answer: Result<ListenerId, StreamError>, at: Nanos) {
        let connection = self.connections.get_mut(id);
        if let Some(dial) = connection.and_then(|connection| connection.dial.as_mut())
            && dial.answer.is_none()
        {
            dial.answer = Some(answer);
            self.agenda.push(at, What::Answer(id));
        }
    }

    /// A call arrives where the same addresses are called from: both become one connection. Returns
    /// whether that is so.
    pub(in crate::net) fn calls_meet(
        &mut self,
        id: ConnectionId,
        from: SocketAddr,
        to: SocketAddr,
    ) -> bool {
        let Some(other) = self.nats.calls.get(&(to, from)).copied().filter(|other| *other != id)
        else {
            return false;
        };
        let Some(met) = self.connections.get_mut(other) else { return false };
        let end = met.ends[0];
        let (Some(stream), Some(dial)) = (end.stream, &met.dial) else { return false };
        if dial.answer.is_some() {
            return false;
        }
        let local = dial.from;
        // Its mappings are those of the one that stays.
        self.connections.remove(other);
        self.nats.ways.remove(&other);
        self.nats.calls.remove(&(to, from));
        let host = end.host as HostId;
        let Some(connection) = self.connections.get_mut(id) else { return false };
        connection.ends[1] =
            End { up: true, wants_write: true, ..End::new(end.host, Some(stream)) };
        let back = Duration::from_nanos(connection.delay[1]);
        self.hosts[host].streams.insert(stream, (id, 1));
        self.answer(id, Ok(nobodys_listener()), self.now + back);
        self.tell(host, stream, StreamInput::Connected { local });
        self.send(id, 1);
        true
    }

    /// A call is answered: NATs see it.
    pub(in crate::net) fn call_answered(&mut self, id: ConnectionId, accepted: bool) {
        let now = self.now;
        let nats = &mut self.nats;
        let Some(way) = nats.ways.get(&id) else { return };
        if nats.calls.get(&way.call) == Some(&id) {
            nats.calls.remove(&way.call);
        }
        if way.hops.is_empty() && way.gateway.is_none() {
            nats.ways.remove(&id);
        } else if accepted {
            for hop in &way.hops {
                let nat = &mut nats.all[hop.nat.0 as usize].nat;
                // A NAT that has forgotten it meanwhile shows with the first byte.
                let _ = nat.along(now, Passing::SynAck, hop.outside, hop.remote);
            }
        }
    }

    // Connections.

    /// A connection is over, or a call: it is forgotten here and at NATs.
    pub(in crate::net) fn part(&mut self, id: ConnectionId) {
        self.connections.remove(id);
        let now = self.now;
        let nats = &mut self.nats;
        let Some(way) = nats.ways.remove(&id) else { return };
        if nats.calls.get(&way.call) == Some(&id) {
            nats.calls.remove(&way.call);
        }
        for hop in &way.hops {
            let nat = &mut nats.all[hop.nat.0 as usize].nat;
            // Some have forgotten it before.
            let _ = nat.along(now, Passing::Last, hop.outside, hop.remote);
        }
    }

    /// Something is sent on a connection: NATs see it, and one that has forgotten the connection
    /// lets nothing pass from now on.
    pub(in crate::net) fn bytes_leave(&mut self, id: ConnectionId, side: Side) {
        let now = self.now;
        let nats = &mut self.nats;
        let Some(way) = nats.ways.get_mut(&id) else { return };
        if way.broken.is_none() {
            let mut pass = |hop: &Hop| {
                let nat = &mut nats.all[hop.nat.0 as usize].nat;
                let passes = nat.along(now, Passing::Segment, hop.outside, hop.remote);
                passes.err().map(|_| nat.config().unsolicited)
            };
            way.broken = match side {
                0 => way.hops.iter().find_map(&mut pass),
                _ => way.hops.iter().rev().find_map(&mut pass),
            };
        }
        let Some(how) = way.broken else { return };
        if std::mem::replace(&mut way.told[usize::from(side)], true) {
            return;
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        for end in &mut connection.ends {
            end.gone = true;
        }
        let after = match how {
            Unsolicited::Drop => GIVE_UP,
            Unsolicited::Reset => Duration::from_nanos(connection.delay[usize::from(side)]),
        };
        self.agenda.push(now + after, What::Broken(id, side));
    }

    /// A sender learns that nothing passes any more.
    pub(in crate::net) fn on_broken(&mut self, id: ConnectionId, side: Side) {
        let how = self.nats.ways.get(&id).and_then(|way| way.broken);
        let why = match how {
            Some(Unsolicited::Reset) => StreamError::Reset,
            _ => StreamError::TimedOut,
        };
        let Some(connection) = self.connections.get(id) else { return };
        let end = connection.ends[usize::from(side)];
        let Some(stream) = end.stream else { return };
        let host = end.host as HostId;
        self.bury(id, side);
        self.drop_waiting(id, side);
        self.forget(id);
        self.hosts[host].streams.remove(stream);
        self.tell(host, stream, StreamInput::Closed(why));
    }

    // The gateway's HTTP server.

    /// Whether a connection goes to the gateway of a NAT.
    pub(in crate::net) fn is_to_gateway(&self, id: ConnectionId) -> bool {
        !self.nats.is_empty() && self.nats.ways.get(&id).is_some_and(|way| way.gateway.is_some())
    }

    fn answer_at_gateway(&mut self, id: ConnectionId, nat: NatId, to: SocketAddr) {
        let serves = self.nat(nat).config().servers.upnp && to.port() == upnp::HTTP_PORT;
        let Some(connection) = self.connections.get_mut(id) else { return };
        let own = connection.ends[0].host;
        connection.ends[1] = End { up: true, ..End::new(own, None) };
        let answer = if serves { Ok(nobodys_listener()) } else { Err(StreamError::Refused) };
        self.answer(id, answer, self.now + TO_GATEWAY);
    }

    /// Bytes arrive at a gateway. Returns whether that is so.
    pub(in crate::net) fn gateway_hears(&mut self, id: ConnectionId, side: Side) -> bool {
        let now = self.now;
        let nats = &mut self.nats;
        let Some(way) = nats.ways.get_mut(&id) else { return false };
        let Some((nat, conversation)) = &mut way.gateway else { return false };
        if side != 0 {
            return false;
        }
        let from = way.seen.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |(from, _)| from.ip());
        let nat = &mut nats.all[nat.0 as usize].nat;
        let Some(connection) = self.connections.get(id) else { return true };
        let Some(pipe) = self.pipes.get_mut(connection.ends[0].pipe) else { return true };
        let (mut heard, mut said, was_closed) = (0, Vec::new(), conversation.is_closed());
        while let Some(parcel) = pipe.travelling.pop_front_if(|first| first.at <= now) {
            heard += parcel.len as usize;
            for part in parcel.parts {
                said.extend(conversation.receive(nat, now, from, part));
            }
        }
        let closes = conversation.is_closed() && !was_closed;
        if let Some(next) = pipe.travelling.front()
            && next.at != Nanos::NEVER
        {
            self.agenda.push(next.at, What::Arrive(id, side));
        }
        self.counters.delivered_bytes += heard as u64;
        self.counters.in_flight_bytes -= heard as u64;
        self.acknowledge_all(id, 0, heard);
        self.release(id, 0);
        if !said.is_empty() {
            let len = said.len();
            self.counters.handed_bytes += len as u64;
            self.counters.in_flight_bytes += len as u64;
            let pipe = self.pipe(id, 1);
            self.pipes[pipe].unacknowledged += len;
            let mut parcel = Parcel::mark(Mark::Nothing);
            parcel.parts.push(said.into());
            parcel.len = len as u32;
            self.travel(id, 1, parcel, now + TO_GATEWAY);
        }
        if closes {
            self.travel(id, 1, Parcel::mark(Mark::Finish), now + TO_GATEWAY);
        }
        true
    }
}

/// Who answers is not asked for by callers.
fn nobodys_listener() -> ListenerId {
    ListenerId::from_parts(0, 1)
}
