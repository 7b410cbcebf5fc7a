//! Packets in transit, by number.
//!
//! Thousands are in transit at a time, and each costs about what it has to fetch from memory. Nobody
//! looks at a packet between the end that sends it and the one where it arrives.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::net::agenda::{ConnectionId, Side};
use crate::packet::tcp::{Ack, Segment};

#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) way: Way,
    pub(super) load: Load,
}

/// From where to where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) from: u32,
    pub(super) to: u32,
    /// With headers.
    pub(super) bytes: u32,
    /// The connection, and who of it sent this.
    pub(super) of: Option<(ConnectionId, Side)>,
}

#[derive(Clone, Debug)]
pub(super) enum Load {
    Datagram(Box<Datagram>),
    /// A call, and the answer to it.
    Call,
    Answer,
    /// A part of a stream, or nothing but an acknowledgement.
    Segment(Option<Segment>, Ack),
    /// The sender's system will have nothing to do with what came.
    Reset,
    /// What came from here was too big for the way.
    TooBig(u16, Box<Sent>),
}

#[derive(Clone, Debug)]
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Bytes,
}

/// What a notice is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sent {
    /// From there, and to there.
    Datagram(SocketAddr, SocketAddr),
    Segment(ConnectionId, Side),
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Transit {
    ways: Vec<Way>,
    loads: Vec<Slot>,
    free: Vec<u32>,
}

/// One line of the cache.
#[derive(Debug)]
#[repr(align(64))]
struct Slot(Option<Load>);

impl Way {
    pub(super) const fn new(
        from: u32,
        to: u32,
        bytes: u32,
        of: Option<(ConnectionId, Side)>,
    ) -> Self {
        Self { from, to, bytes, of }
    }
}

impl Transit {
    /// The number that the next packet gets.
    pub(super) fn next_number(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.loads.len() as u32)
    }

    pub(super) fn insert(&mut self, packet: Packet) -> u32 {
        let Packet { way, load } = packet;
        if let Some(number) = self.free.pop() {
            self.ways[number as usize] = way;
            self.loads[number as usize] = Slot(Some(load));
            return number;
        }
        self.ways.push(way);
        self.loads.push(Slot(Some(load)));
        self.loads.len() as u32 - 1
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Packet> {
        let load = self.loads[number as usize].0.take()?;
        self.free.push(number);
        Some(Packet { way: self.ways[number as usize], load })
    }

    pub(super) fn way(&self, number: u32) -> &Way {
        &self.ways[number as usize]
    }

    /// Of which connection, and from whom, a segment is; none: it is none.
    pub(super) fn segment_of(&self, number: u32) -> Option<(ConnectionId, Side)> {
        let is_segment = matches!(self.loads[number as usize].0, Some(Load::Segment(..)));
        self.ways[number as usize].of.filter(|_| is_segment)
    }

    /// Reads a packet. Returns of which connection it is, and from whom.
    pub(super) fn fetch(&self, number: u32) -> Option<(ConnectionId, Side)> {
        self.loads[number as usize].0.as_ref().and(self.ways[number as usize].of)
    }

    /// Makes two of a packet. Returns the number of the other.
    pub(super) fn double(&mut self, number: u32) -> Option<u32> {
        let load = self.loads[number as usize].0.clone()?;
        Some(self.insert(Packet { way: self.ways[number as usize], load }))
    }

    /// Turns one bit of a datagram over.
    pub(super) fn damage(&mut self, number: u32, draw: u64) {
        if let Some(Load::Datagram(datagram)) = &mut self.loads[number as usize].0
            && !datagram.bytes.is_empty()
        {
            let mut copy = datagram.bytes.to_vec();
            let bit = (u128::from(draw) * (copy.len() as u128 * 8)) >> 64;
            copy[bit as usize / 8] ^= 1 << (bit % 8);
            datagram.bytes = copy.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_small() {
        assert!(size_of::<Way>() <= 24, "{}", size_of::<Way>());
        assert_eq!(size_of::<Slot>(), 64);
    }
}
