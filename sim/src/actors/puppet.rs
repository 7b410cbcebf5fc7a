//! A peer that does what a test tells it, and remembers what it was told.
//!
//! It has no will of its own but one, which can be switched off: to shake hands. It breaks any
//! rule of the protocol that the test wants broken, and keeps none that the test does not.
//!
//! ```
//! use teem_core::session::Config;
//! use teem_core::wire::Message;
//! use teem_sim::actors::{Puppet, PuppetConfig};
//! use teem_sim::swarm::{Swarm, address};
//!
//! let mut swarm = Swarm::new(100_000, 32 * 1024, 1);
//! let info_hash = swarm.metainfo().info().swarm_hash();
//! let seeder = swarm.seeder(Config::default());
//! let host = swarm.actor(|_| Puppet::new(PuppetConfig::new(info_hash)));
//!
//! assert!(swarm.run(1, |swarm| swarm.is_complete(seeder)));
//! let conn = Puppet::on_mut(&mut swarm, host).dial(address(seeder));
//! let told = |message: &Message| *message == Message::HaveAll;
//! assert!(swarm.run(5, |swarm| Puppet::on(swarm, host).messages(conn).any(told)));
//!
//! Puppet::on_mut(&mut swarm, host).send(conn, &Message::Interested);
//! let unchoked = |message: &Message| *message == Message::Unchoke;
//! assert!(swarm.run(30, |swarm| Puppet::on(swarm, host).messages(conn).any(unchoked)));
//! ```

use std::net::SocketAddr;

use bytes::Bytes;
use teem_core::ids::{InfoHash, PeerId, StreamId};
use teem_core::machine::{Incoming, Input, Machine, Output, StreamError};
use teem_core::time::Instant;
use teem_core::wire::{Handshake, Message, Reserved, WireError};

use super::links::{Happened, Links};
use crate::net::HostId;
use crate::swarm::Swarm;

/// Things that a puppet remembers, over all its connections; what comes later is only
/// [counted](Puppet::forgotten).
pub const RECORDS_MAX: usize = 1_000_000;

/// Connections of a puppet at a time; more are refused.
const CONNECTIONS_MAX: usize = 4_096;

/// What a puppet is made of. [`PuppetConfig::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct PuppetConfig {
    /// Its name in handshakes.
    pub peer_id: PeerId,
    /// The swarm that it claims to be in.
    pub info_hash: InfoHash,
    /// The extensions that it claims to speak.
    pub reserved: Reserved,
    /// Where it listens, if it does.
    pub listen: Option<SocketAddr>,
    /// Whether it shakes hands without being told to: first when it dialled, after the other side
    /// when it was dialled.
    pub auto_handshake: bool,
    /// Whether it reads; see [`Puppet::set_reading`].
    pub reading: bool,
}

impl PuppetConfig {
    /// One that shakes hands, reads, speaks the fast extension and the extension protocol, and
    /// does not listen.
    pub fn new(info_hash: InfoHash) -> Self {
        Self {
            peer_id: PeerId(*b"-XX0000-puppetpuppet"),
            info_hash,
            reserved: Reserved::NONE.with_fast().with_extension_protocol(),
            listen: None,
            auto_handshake: true,
            reading: true,
        }
    }
}

/// One of a puppet's connections, open or not, numbered from zero in the order in which they were
/// dialled or accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conn(pub usize);

/// One thing that a puppet noticed of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// It is up; this is our end's address.
    Connected(SocketAddr),
    /// The other side's handshake.
    Handshake(Handshake),
    /// A message.
    Message(Message),
    /// Bytes that are not those of a handshake, nor come after one.
    Raw(Bytes),
    /// What comes is not made of messages any more; nothing further is read out of it.
    Broken(WireError),
    /// The other side will send no more.
    ReadClosed,
    /// It did not come up.
    Refused(StreamError),
    /// The other side, or the network, took it away.
    Closed(StreamError),
    /// We closed it.
    ClosedByUs,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Puppet {
    config: PuppetConfig,
    links: Links<Conn>,
    conns: Vec<Record>,
    kept: usize,
    forgotten: u64,
}

#[derive(Debug)]
struct Record {
    stream: Option<StreamId>,
    address: SocketAddr,
    outgoing: bool,
    received: Vec<(Instant, Received)>,
}

impl Puppet {
    /// One that waits to be told what to do.
    pub fn new(config: PuppetConfig) -> Self {
        let PuppetConfig { peer_id, info_hash, reserved, .. } = config;
        let handshake = Handshake { reserved, info_hash, peer_id };
        let shakes = config.auto_handshake.then_some(handshake);
        let links = Links::new(config.listen, shakes, CONNECTIONS_MAX);
        Self { config, links, conns: Vec::new(), kept: 0, forgotten: 0 }
    }

    /// The puppet on a host.
    ///
    /// # Panics
    ///
    /// If something else is there.
    pub fn on(swarm: &Swarm, host: HostId) -> &Self {
        swarm.net.machine(host).actor().expect("a puppet")
    }

    /// The puppet on a host, to be told what to do; that happens in the next step of the swarm.
    ///
    /// # Panics
    ///
    /// If something else is there.
    pub fn on_mut(swarm: &mut Swarm, host: HostId) -> &mut Self {
        swarm.net.machine_mut(host).actor_mut().expect("a puppet")
    }

    /// Connects to `to`. With too many connections open it is refused at once.
    pub fn dial(&mut self, to: SocketAddr) -> Conn {
        let conn = Conn(self.conns.len());
        let stream = self.links.dial(to, self.config.reading, conn);
        self.conns.push(Record { stream, address: to, outgoing: true, received: Vec::new() });
        if stream.is_none() {
            self.note(conn, Received::Refused(StreamError::OutOfResources));
        }
        conn
    }

    /// Sends the handshake of the config, if it was not sent yet.
    pub fn shake(&mut self, conn: Conn) {
        let PuppetConfig { peer_id, info_hash, reserved, .. } = self.config;
        if let Some(stream) = self.stream(conn) {
            self.links.shake(stream, &Handshake { reserved, info_hash, peer_id });
        }
    }

    /// Sends a message; nothing on a connection that is gone.
    pub fn send(&mut self, conn: Conn, message: &Message) {
        if let Some(stream) = self.stream(conn) {
            self.links.send(stream, message);
        }
    }

    /// Sends any bytes; nothing on a connection that is gone.
    pub fn send_raw(&mut self, conn: Conn, bytes: impl Into<Bytes>) {
        if let Some(stream) = self.stream(conn) {
            self.links.send_raw(stream, bytes.into());
        }
    }

    /// Closes in order, after everything was sent. Until then it goes on receiving.
    pub fn close(&mut self, conn: Conn) {
        if let Some(stream) = self.stream(conn) {
            self.links.finish(stream);
            self.take();
        }
    }

    /// Closes at once.
    pub fn abort(&mut self, conn: Conn) {
        if self.stream(conn).and_then(|stream| self.links.abort(stream)).is_some() {
            self.conns[conn.0].stream = None;
            self.note(conn, Received::ClosedByUs);
        }
    }

    /// Whether it reads what comes on this connection; else its credit is zero, and the other
    /// side's bytes pile up on the way.
    pub fn set_reading(&mut self, conn: Conn, reading: bool) {
        if let Some(stream) = self.stream(conn) {
            self.links.set_reading(stream, reading);
        }
    }

    /// What it noticed of a connection, oldest first, and when.
    pub fn received(&self, conn: Conn) -> &[(Instant, Received)] {
        self.conns.get(conn.0).map_or(&[], |record| &record.received)
    }

    /// The messages that came on a connection, oldest first.
    pub fn messages(&self, conn: Conn) -> impl DoubleEndedIterator<Item = &Message> {
        self.received(conn).iter().filter_map(|(_, what)| match what {
            Received::Message(message) => Some(message),
            _ => None,
        })
    }

    /// The other side's handshake, once it came.
    pub fn handshake(&self, conn: Conn) -> Option<Handshake> {
        self.received(conn).iter().find_map(|(_, what)| match what {
            Received::Handshake(handshake) => Some(*handshake),
            _ => None,
        })
    }

    /// All its connections, open or not.
    pub fn conns(&self) -> impl DoubleEndedIterator<Item = Conn> + use<> {
        (0..self.conns.len()).map(Conn)
    }

    /// Those that others opened.
    pub fn accepted(&self) -> impl DoubleEndedIterator<Item = Conn> {
        self.conns().filter(|conn| !self.conns[conn.0].outgoing)
    }

    /// The other end's address.
    pub fn address(&self, conn: Conn) -> Option<SocketAddr> {
        self.conns.get(conn.0).map(|record| record.address)
    }

    /// Whether a connection is neither refused nor closed; one that is being dialled is open.
    pub fn is_open(&self, conn: Conn) -> bool {
        self.stream(conn).is_some()
    }

    /// Bytes that were told to be sent, and were not taken by the network yet.
    pub fn unsent(&self, conn: Conn) -> usize {
        self.stream(conn).map_or(0, |stream| self.links.unsent(stream))
    }

    /// Where it listens, once it does.
    pub const fn listening(&self) -> Option<SocketAddr> {
        self.links.listening()
    }

    /// What came and was not kept, beyond [`RECORDS_MAX`].
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn stream(&self, conn: Conn) -> Option<StreamId> {
        self.conns.get(conn.0)?.stream
    }

    fn note(&mut self, conn: Conn, what: Received) {
        if self.kept >= RECORDS_MAX {
            self.forgotten += 1;
            return;
        }
        self.kept += 1;
        let now = self.links.now();
        self.conns[conn.0].received.push((now, what));
    }

    /// Writes down what happened.
    fn take(&mut self) {
        while let Some((stream, happened)) = self.links.next() {
            let known = self.links.get(stream).map(|link| link.state);
            let (conn, what) = match (happened, known) {
                (Happened::Refused(conn, why), _) => (conn, Received::Refused(why)),
                (Happened::Down(conn, Some(why)), _) => (conn, Received::Closed(why)),
                (Happened::Down(conn, None), _) => (conn, Received::ClosedByUs),
                (Happened::Sent, _) | (_, None) => continue,
                (Happened::Up { local }, Some(conn)) => (conn, Received::Connected(local)),
                (Happened::Handshake(it), Some(conn)) => (conn, Received::Handshake(it)),
                (Happened::Message(message), Some(conn)) => (conn, Received::Message(message)),
                (Happened::Raw(bytes), Some(conn)) => (conn, Received::Raw(bytes)),
                (Happened::Broken(error), Some(conn)) => (conn, Received::Broken(error)),
                (Happened::ReadClosed, Some(conn)) => (conn, Received::ReadClosed),
            };
            if matches!(what, Received::Refused(_) | Received::Closed(_) | Received::ClosedByUs) {
                self.conns[conn.0].stream = None;
            }
            self.note(conn, what);
        }
    }
}

impl Machine for Puppet {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.links.handle_input(now, input);
        self.take();
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) -> Option<StreamId> {
        self.links.advance(now);
        let conn = Conn(self.conns.len());
        let stream = self.links.accept(incoming, self.config.reading, conn)?;
        let (stream_of, address) = (Some(stream), incoming.from);
        let received = Vec::new();
        self.conns.push(Record { stream: stream_of, address, outgoing: false, received });
        self.take();
        Some(stream)
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.links.poll_output()
    }

    fn poll_send(&mut self, now: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        self.links.advance(now);
        self.links.poll_send(id, max, out)
    }

    fn recv_credit(&self, stream: StreamId) -> usize {
        self.links.recv_credit(stream)
    }
}
