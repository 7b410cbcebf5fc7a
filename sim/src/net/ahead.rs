//! What is about to be needed is fetched from memory.
//!
//! There are thousands of connections, and whatever happens, happens to another one: all that it needs
//! is far away. One after the other each would be waited for; here all that the next few things need
//! is waited for together. It is read, and nothing comes of that: runs are the same without it.

use std::hint::black_box;

use teem_core::ids::StreamId;
use teem_core::machine::Machine;

use super::agenda::{ConnectionId, Side, What};
use super::pipe::NO_PIPE;
use super::{HostId, Net};

/// Whom the next few things happen to.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    segments: Vec<(ConnectionId, Side)>,
    hosts: Vec<Reached>,
}

/// A host that is reached, and by what.
#[derive(Clone, Copy, Debug)]
struct Reached {
    host: u32,
    stream: Option<StreamId>,
    pipe: u32,
}

impl<M: Machine> Net<M> {
    /// Reads what the next few things need.
    pub(super) fn fetch_ahead(&mut self) {
        let Ahead { segments, hosts } = &mut self.ahead;
        segments.clear();
        hosts.clear();
        for what in self.agenda.ahead() {
            let (id, side, at) = match what {
                What::Comes { packet, .. } | What::Packet(packet) => {
                    segments.extend(self.wires.way_of(packet));
                    continue;
                }
                What::Timer(host) | What::Job(host) => {
                    hosts.push(Reached { host, stream: None, pipe: NO_PIPE });
                    continue;
                }
                What::Arrive(id, side) => (id, side, 1 - side),
                What::Left(id, side) | What::Room(id, side) => (id, side, side),
                _ => continue,
            };
            if let Some(connection) = self.connections.get(id) {
                let [from, at] = [side, at].map(|side| connection.ends[usize::from(side)]);
                hosts.push(Reached { host: at.host, stream: at.stream, pipe: from.pipe });
            }
        }
        let mut read = 0;
        for (id, side) in &*segments {
            let end = self.connections.get(*id).map(|it| it.ends[usize::from(1 - side)].host);
            read ^= u64::from(end.unwrap_or_default());
            read ^= self.wires.fetch(*id, 1 - side);
        }
        for Reached { host, pipe, .. } in &*hosts {
            let host = &self.hosts[*host as HostId];
            read ^= host.fetch() ^ self.pipes.get_mut(*pipe).map_or(0, |pipe| pipe.fetch());
        }
        // Where these lead, and what machines will be asked first anyway.
        for Reached { host, stream, pipe } in &*hosts {
            let host = &self.hosts[*host as HostId];
            read ^= host.fetch_on() ^ self.pipes.get_mut(*pipe).map_or(0, |pipe| pipe.fetch_on());
            let Some(machine) = &host.machine else { continue };
            read ^= stream.map_or(0, |stream| machine.recv_credit(stream) as u64);
            read ^= u64::from(machine.poll_timeout().is_some());
        }
        black_box(read);
    }
}
