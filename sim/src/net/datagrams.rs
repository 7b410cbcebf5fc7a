//! Datagrams: sent at once, lost, delayed each by itself, never in order on purpose.

use std::net::SocketAddr;

use bytes::Bytes;
use teem_core::ids::SocketId;
use teem_core::machine::{Datagram, Input, Machine, TransmitLimit};

use super::agenda::What;
use super::{Fidelity, HostId, Net};
use crate::capture::Direction;

/// Datagrams on their way, by the numbers that the agenda knows them by.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    slots: Vec<Option<OnItsWay>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct OnItsWay {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Bytes,
}

impl Datagrams {
    fn insert(&mut self, datagram: OnItsWay) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(datagram);
            return slot;
        }
        self.slots.push(Some(datagram));
        self.slots.len() as u32 - 1
    }

    fn remove(&mut self, slot: u32) -> Option<OnItsWay> {
        let datagram = self.slots[slot as usize].take()?;
        self.free.push(slot);
        Some(datagram)
    }
}

impl<M: Machine> Net<M> {
    /// Takes what a machine has to send on a socket.
    pub(super) fn transmit(&mut self, host: HostId, socket: SocketId) {
        let Some(from) = self.hosts[host].sockets.get(socket) else { return };
        let now = self.local(host);
        loop {
            self.buf.clear();
            let limit = TransmitLimit::ONE;
            let Some(machine) = &mut self.hosts[host].machine else { return };
            let transmit = machine.poll_transmit(now, socket, limit, &mut self.buf);
            let Some(transmit) = transmit else { return };
            self.counters.datagrams += 1;
            let bytes = Bytes::copy_from_slice(&self.buf);
            self.hosts[host].digest.bytes(&bytes, &self.library);
            let to = transmit.to;
            self.capture_datagram(host, Direction::Out, (from, to), &bytes);
            // A host may be bound to an address besides its own.
            let bound = self.sockets.get(&to).map(|(host, _)| *host);
            let Some(other) = bound.or_else(|| self.by_ip.get(&to.ip()).copied()) else {
                self.counters.datagrams_lost += 1;
                continue;
            };
            if self.fidelity == Fidelity::Packet {
                self.launch_datagram(host, other, [from, to], bytes);
                continue;
            }
            let cut = self.topology.is_cut(host, other);
            self.counters.cut += u64::from(cut);
            if cut || self.topology.is_lost(host, other) {
                self.counters.datagrams_lost += 1;
                continue;
            }
            let mut delay = self.topology.delay(host, other);
            if self.fidelity == Fidelity::Flow {
                delay += self.topology.serialization(host, other, bytes.len());
            }
            let number = self.datagrams.insert(OnItsWay { from, to, bytes });
            self.agenda.push(self.now + delay, What::Datagram(number));
        }
    }

    pub(super) fn on_datagram(&mut self, number: u32) {
        let Some(OnItsWay { from, to, bytes }) = self.datagrams.remove(number) else { return };
        self.take_datagram(from, to, &bytes);
    }

    pub(super) fn take_datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let there = self.sockets.get(&to).copied();
        let there = there.filter(|(host, _)| !self.hosts[*host].paused);
        let Some((host, socket)) = there else {
            self.counters.datagrams_lost += 1;
            return;
        };
        self.capture_datagram(host, Direction::In, (from, to), bytes);
        let local = Some(to.ip());
        let datagram = Datagram { socket, from, local, ecn: None, stride: 0, data: bytes };
        self.input(host, Input::Datagram(datagram));
    }
}
