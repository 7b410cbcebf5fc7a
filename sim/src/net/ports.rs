//! Where machines listen and bind: addresses and ports of hosts.

use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};

use teem_core::machine::{Bind, Input, Listen, ListenerInput, Machine, SocketError, SocketInput};

use super::{HostId, Net};

/// First of the ports that are given out.
pub(super) const EPHEMERAL: u16 = 49_152;

impl<M: Machine> Net<M> {
    pub(super) fn listen(&mut self, host: HostId, listen: &Listen) {
        let address = self.free_address(host, listen.address);
        let placed = self.placed(host, address);
        let input = match self.listeners.entry(placed) {
            _ if listen.tls => ListenerInput::Failed(SocketError::NoIdentity),
            Entry::Occupied(_) => ListenerInput::Failed(SocketError::AddressInUse),
            Entry::Vacant(vacant) => {
                vacant.insert((host, listen.listener));
                self.hosts[host].listeners.insert(listen.listener, placed);
                ListenerInput::Bound(address)
            }
        };
        self.input(host, Input::Listener(listen.listener, input));
    }

    pub(super) fn bind(&mut self, host: HostId, bind: &Bind) {
        let address = self.free_address(host, bind.address);
        let placed = self.placed(host, address);
        let input = match self.sockets.entry(placed) {
            Entry::Occupied(_) => SocketInput::Failed(SocketError::AddressInUse),
            Entry::Vacant(vacant) => {
                vacant.insert((host, bind.socket));
                self.hosts[host].sockets.insert(bind.socket, placed);
                SocketInput::Bound(address)
            }
        };
        self.input(host, Input::Socket(bind.socket, input));
    }

    pub(super) fn free_address(&mut self, id: HostId, asked: SocketAddr) -> SocketAddr {
        let ip = match (asked.ip(), self.hosts[id].ip) {
            // It has no IPv6 address of its own, and one that nobody else has stands for that.
            (IpAddr::V6(any), IpAddr::V4(own)) if any.is_unspecified() => {
                own.to_ipv6_mapped().into()
            }
            (asked, own) if asked.is_unspecified() => own,
            (asked, _) => asked,
        };
        let mut address = SocketAddr::new(ip, asked.port());
        while address.port() == 0 || asked.port() == 0 && self.is_taken(id, address) {
            let host = &mut self.hosts[id];
            address.set_port(host.ports);
            host.ports = host.ports.checked_add(1).unwrap_or(EPHEMERAL);
        }
        address
    }

    fn is_taken(&self, id: HostId, address: SocketAddr) -> bool {
        let placed = self.placed(id, address);
        self.listeners.contains_key(&placed) || self.sockets.contains_key(&placed)
    }
}
