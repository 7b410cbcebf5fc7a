//! Announces and scrapes over UDP (BEP 15).
//!
//! A connection id is a keyed checksum of the sender's IP address and the time, so nothing is kept
//! for a client that asked for one, and nobody can make one for an address that is not its own. Its
//! port is not part of it: what is proven is that a host receives what is sent to it, and
//! translators of addresses may give it another port at any time.
//!
//! Whoever shows no such id gets at most as many bytes as it sent: 16 for 16 when it asks for an
//! id, and nothing otherwise, no error either. So a forged sender never makes this tracker say more
//! than the forger says itself.
//!
//! The path and query of the tracker's URL that a client sends along (BEP 41) are not looked at.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::{Config, Stats};
use crate::http::url::is_reachable;
use crate::ids::{CommandToken, Slab, SocketId};
use crate::machine::{Bind, Outbox, Output, SocketInput, Transmit, TransmitLimit};
use crate::rng::{Seed, mac};
use crate::time::{Duration, Instant};
use crate::tracker::announce::Peer;
use crate::tracker::swarm::{self, Swarms};
use crate::tracker::udp::{self, ConnectionId, Request, Response, TransactionId};

/// A connection id made in one window of this length is good in it and in the next one: for two
/// minutes at least, as BEP 15 wants.
pub const CONNECTION_WINDOW: Duration = Duration::from_mins(2);

/// Longest datagram that is sent, in bytes: what every IPv6 link passes, headers left out.
pub const DATAGRAM_MAX: usize = 1_232;

/// Answers that wait for a socket, in bytes; what does not fit is dropped, and asked again.
pub const ANSWERS_MAX: usize = 256 * 1024;

/// Bytes of an announce's answer in front of the peers.
const ANNOUNCE_HEAD: usize = 20;

#[derive(Debug)]
pub(super) struct Udp {
    key: [u64; 2],
    sockets: Slab<SocketId, Socket>,
    /// Of the answer that is being made.
    answer: Vec<u8>,
    compact: Vec<u8>,
    peers: Vec<Peer>,
}

#[derive(Debug)]
struct Socket {
    token: CommandToken,
    want_transmit: bool,
    /// Where the waiting answers go, and their lengths.
    waiting: VecDeque<(SocketAddr, usize)>,
    bytes: VecDeque<u8>,
}

/// What the rest of the server lends for an answer.
pub(super) struct Lent<'a> {
    pub(super) now: Instant,
    pub(super) config: &'a Config,
    pub(super) swarms: &'a mut Swarms,
    pub(super) stats: &'a mut Stats,
}

impl Udp {
    pub(super) fn new(seed: &Seed) -> Self {
        Self {
            key: seed.key("tracker connections", 0),
            sockets: Slab::new(),
            answer: Vec::new(),
            compact: Vec::new(),
            peers: Vec::new(),
        }
    }

    pub(super) fn bind(&mut self, token: CommandToken, address: SocketAddr, out: &mut Outbox) {
        let (waiting, bytes) = (VecDeque::new(), VecDeque::new());
        let socket = self.sockets.insert(Socket { token, want_transmit: false, waiting, bytes });
        let bind = Bind { socket, address, reuse: false, multicast: None };
        out.push(Output::Bind(bind.into()));
    }

    /// What became of a socket, if its embedder wants to know.
    pub(super) fn on_socket(&mut self, id: SocketId, input: SocketInput) -> Option<super::Event> {
        let token = self.sockets.get(id)?.token;
        match input {
            SocketInput::Bound(address) => Some(super::Event::Listening(token, address)),
            SocketInput::Failed(error) => {
                self.sockets.remove(id);
                Some(super::Event::Failed(token, error))
            }
            SocketInput::AddressChanged(_)
            | SocketInput::Unreachable(_)
            | SocketInput::TooBig { .. } => None,
        }
    }

    /// One datagram, and its answer, if it gets one.
    pub(super) fn on_datagram(
        &mut self,
        id: SocketId,
        from: SocketAddr,
        datagram: &[u8],
        lent: &mut Lent<'_>,
        out: &mut Outbox,
    ) {
        if !self.sockets.contains(id) {
            return;
        }
        lent.stats.udp_bytes_in += datagram.len() as u64;
        self.answer.clear();
        let canonical = SocketAddr::new(from.ip().to_canonical(), from.port());
        if !is_reachable(canonical) || !self.make_answer(canonical, datagram, lent) {
            return;
        }
        debug_assert!(self.answer.len() <= DATAGRAM_MAX, "what is counted fits");
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if socket.bytes.len() + self.answer.len() > ANSWERS_MAX {
            lent.stats.udp_dropped += 1;
            return;
        }
        socket.bytes.extend(&self.answer);
        socket.waiting.push_back((from, self.answer.len()));
        if !socket.want_transmit {
            socket.want_transmit = true;
            out.push(Output::WantTransmit(id));
        }
    }

    /// Returns whether there is an answer.
    fn make_answer(&mut self, from: SocketAddr, datagram: &[u8], lent: &mut Lent<'_>) -> bool {
        let Ok(request) = Request::parse(datagram) else {
            lent.stats.udp_malformed += 1;
            return false;
        };
        let id = match &request {
            Request::Connect { transaction } => {
                lent.stats.udp_connects += 1;
                let connection = self.connection(from.ip(), window(lent.now));
                Response::Connect { transaction: *transaction, connection }.write(&mut self.answer);
                return true;
            }
            Request::Announce { connection, .. } | Request::Scrape { connection, .. } => {
                *connection
            }
        };
        if !self.is_proof(lent.now, from.ip(), id) {
            lent.stats.udp_unproven += 1;
            return false;
        }
        match request {
            Request::Announce { transaction, announce, .. } => {
                self.announce(from, transaction, &announce, lent);
            }
            Request::Scrape { transaction, hashes, .. } => {
                lent.stats.scrapes += 1;
                self.compact.clear();
                for hash in hashes.chunks_exact(20).take(lent.config.scrape_max) {
                    let Ok(hash) = hash.try_into().map(crate::ids::InfoHash) else { continue };
                    self.compact.extend_from_slice(&lent.swarms.scrape(&hash).to_bytes());
                }
                Response::Scrape { transaction, counts: &self.compact }.write(&mut self.answer);
            }
            Request::Connect { .. } => {}
        }
        true
    }

    fn announce(
        &mut self,
        from: SocketAddr,
        transaction: TransactionId,
        announce: &udp::Announce,
        lent: &mut Lent<'_>,
    ) {
        let entry = if from.is_ipv4() { 6 } else { 18 };
        let room = (DATAGRAM_MAX - ANNOUNCE_HEAD) / entry;
        let wanted = usize::try_from(announce.num_want).unwrap_or(lent.config.num_want_default);
        let said = swarm::Announce {
            info_hash: announce.info_hash,
            peer: SocketAddr::new(from.ip(), announce.port),
            id: announce.peer_id,
            seeder: announce.left == 0,
            event: announce.event,
            num_want: wanted.min(lent.config.num_want_max).min(room),
        };
        self.peers.clear();
        let result = match announce.port {
            0 => Err("invalid port"),
            _ => lent.swarms.announce(lent.now, &said, &mut self.peers).map_err(super::full),
        };
        match result {
            Ok(counts) => {
                lent.stats.announces += 1;
                self.compact.clear();
                super::query::compact(&mut self.compact, &self.peers, from.is_ipv6());
                let interval = lent.config.interval.as_secs();
                Response::Announce {
                    transaction,
                    interval: u32::try_from(interval).unwrap_or(u32::MAX),
                    leechers: counts.leechers,
                    seeders: counts.seeders,
                    peers: &self.compact,
                }
                .write(&mut self.answer);
            }
            Err(reason) => {
                lent.stats.failures += 1;
                Response::Error { transaction, reason: reason.as_bytes() }.write(&mut self.answer);
            }
        }
    }

    /// The id that `ip` gets in a window of time.
    fn connection(&self, ip: IpAddr, window: u64) -> ConnectionId {
        let mut message = [0; 24];
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        message[..16].copy_from_slice(&ip.octets());
        message[16..].copy_from_slice(&window.to_be_bytes());
        ConnectionId(mac(self.key, &message))
    }

    /// Whether `ip` was given `id` in this window or the one before. Both are looked at whatever
    /// the first one says, all bits at once: the time it takes tells nothing.
    fn is_proof(&self, now: Instant, ip: IpAddr, id: ConnectionId) -> bool {
        let window = window(now);
        let differs = |window| self.connection(ip, window).0 ^ id.0;
        let is_none = |bits: u64| u8::from(bits == 0);
        is_none(differs(window)) | is_none(differs(window.wrapping_sub(1))) == 1
    }

    /// The edge was taken.
    pub(super) fn taken(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(id) {
            socket.want_transmit = false;
        }
    }

    pub(super) fn transmit(
        &mut self,
        id: SocketId,
        limit: TransmitLimit,
        buf: &mut Vec<u8>,
        stats: &mut Stats,
    ) -> Option<Transmit> {
        let socket = self.sockets.get_mut(id)?;
        let (to, len) = *socket.waiting.front()?;
        if len > limit.bytes {
            return None;
        }
        socket.waiting.pop_front();
        buf.extend(socket.bytes.drain(..len));
        if socket.waiting.is_empty() && socket.bytes.capacity() > ANSWERS_MAX / 4 {
            socket.bytes = VecDeque::new();
        }
        stats.udp_bytes_out += len as u64;
        Some(Transmit { to, from: None, ecn: None, len, segment: None })
    }
}

fn window(now: Instant) -> u64 {
    now.as_micros() / (CONNECTION_WINDOW.as_secs() * 1_000_000)
}
