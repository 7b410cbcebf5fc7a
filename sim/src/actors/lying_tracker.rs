//! A tracker that answers every announce with a lie, over HTTP.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use bytes::Bytes;
use teem_core::bencode::Encoder;
use teem_core::http::url::query_pairs;
use teem_core::http::write::{Status, response};
use teem_core::http::{Item, Limits, RequestParser};
use teem_core::ids::{Key, ListenerId, Slab, StreamId};
use teem_core::machine::{
    Clock, Incoming, Input, Listen, Machine, Outbox, Output, SendQueue, Shutdown, StreamEdges,
    StreamInput,
};
use teem_core::rng::{Rng, Seed};
use teem_core::time::Instant;

/// Peers in an answer of [`Lie::ManyPeers`].
pub const MANY_PEERS: usize = 100_000;

/// Streams at a time; more are refused.
const STREAMS_MAX: usize = 4_096;

/// Bytes of a request that are read at a time.
const CREDIT: usize = 16 * 1024;

/// Bytes that an endless body keeps ready.
const ENDLESS: usize = 64 * 1024;

/// What a [`LyingTracker`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Lie {
    /// [`MANY_PEERS`] random addresses.
    ManyPeers,
    /// The asker's own address, over and over, and its loopback address.
    OwnAddresses,
    /// Private, loopback, link-local, group and broadcast addresses, and ports such as zero.
    BogusAddresses,
    /// Nobody, and to come back at once.
    IntervalZero,
    /// Nobody, and to come back in the far future.
    IntervalHuge,
    /// Bencode that breaks off.
    BrokenBencode,
    /// A body that goes on as long as anybody reads it.
    EndlessBody,
    /// Ask here again.
    RedirectLoop,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ManyPeers,
        Self::OwnAddresses,
        Self::BogusAddresses,
        Self::IntervalZero,
        Self::IntervalHuge,
        Self::BrokenBencode,
        Self::EndlessBody,
        Self::RedirectLoop,
    ];

    /// Its name, in kebab-case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ManyPeers => "many-peers",
            Self::OwnAddresses => "own-addresses",
            Self::BogusAddresses => "bogus-addresses",
            Self::IntervalZero => "interval-zero",
            Self::IntervalHuge => "interval-huge",
            Self::BrokenBencode => "broken-bencode",
            Self::EndlessBody => "endless-body",
            Self::RedirectLoop => "redirect-loop",
        }
    }
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No lie goes by that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no lie called \"{0}\"")]
pub struct UnknownLie(pub String);

impl FromStr for Lie {
    type Err = UnknownLie;

    fn from_str(name: &str) -> Result<Self, UnknownLie> {
        let named = Self::ALL.into_iter().find(|lie| lie.name() == name);
        named.ok_or_else(|| UnknownLie(name.into()))
    }
}

/// A tracker that answers every announce with a [`Lie`], over HTTP.
#[derive(Debug)]
pub struct LyingTracker {
    lies: Vec<Lie>,
    told: Vec<(Instant, Lie)>,
    clock: Clock,
    out: Outbox,
    rng: Rng,
    streams: Slab<StreamId, Stream>,
    endless_bytes: u64,
}

#[derive(Debug)]
struct Stream {
    from: SocketAddr,
    parser: RequestParser,
    send: SendQueue,
    edges: StreamEdges,
    answered: bool,
    endless: bool,
}

impl LyingTracker {
    /// One that listens there, and tells these lies in turn, one for each request.
    ///
    /// # Panics
    ///
    /// If there is no lie to tell.
    pub fn new(listen: SocketAddr, lies: &[Lie], seed: &Seed) -> Self {
        assert!(!lies.is_empty(), "a lie to tell");
        let mut out = Outbox::default();
        let listener = ListenerId::from_parts(0, 1);
        out.push(Output::Listen(Listen { listener, address: listen, tls: false }.into()));
        Self {
            lies: lies.to_vec(),
            told: Vec::new(),
            clock: Clock::new(Instant::ORIGIN),
            out,
            rng: seed.stream("lying tracker", 0),
            streams: Slab::new(),
            endless_bytes: 0,
        }
    }

    /// What it told, and when, oldest first.
    pub fn told(&self) -> &[(Instant, Lie)] {
        &self.told
    }

    /// How often it told a lie.
    pub fn count(&self, lie: Lie) -> usize {
        self.told.iter().filter(|(_, told)| *told == lie).count()
    }

    /// Bytes of endless bodies that were taken.
    pub const fn endless_bytes(&self) -> u64 {
        self.endless_bytes
    }

    fn read(&mut self, id: StreamId, mut bytes: Bytes) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.answered {
            return;
        }
        match stream.parser.next(&mut bytes) {
            Ok(None) => {}
            Ok(Some(Item::Head(head))) => {
                stream.answered = true;
                let lie = self.lies[self.told.len() % self.lies.len()];
                self.told.push((self.clock.now(), lie));
                let answer = self.answer(id, lie, &head.target);
                self.send(id, answer);
            }
            Ok(Some(_)) | Err(_) => self.close(id),
        }
    }

    fn answer(&mut self, id: StreamId, lie: Lie, target: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match lie {
            Lie::EndlessBody => {
                if let Some(stream) = self.streams.get_mut(id) {
                    stream.endless = true;
                }
                out.extend_from_slice(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nd5:peers");
            }
            Lie::RedirectLoop => {
                out.extend_from_slice(b"HTTP/1.1 302 Found\r\nLocation: ");
                out.extend_from_slice(target);
                out.extend_from_slice(b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
            _ => {
                let body = self.body(id, lie, target);
                response(&mut out, Status::Ok, "text/plain", &body, false);
            }
        }
        out
    }

    fn body(&mut self, id: StreamId, lie: Lie, target: &[u8]) -> Vec<u8> {
        let (mut interval, mut peers) = (1_800, Vec::new());
        match lie {
            Lie::ManyPeers => {
                peers = vec![0; MANY_PEERS * 6];
                self.rng.fill(&mut peers);
            }
            Lie::OwnAddresses => {
                let from = self.streams.get(id).map(|stream| stream.from.ip());
                let port = port(target).to_be_bytes();
                for at in 0..400 {
                    let ip = match from {
                        Some(IpAddr::V4(ip)) if at % 4 > 0 => ip,
                        _ => Ipv4Addr::LOCALHOST,
                    };
                    peers.extend_from_slice(&ip.octets());
                    peers.extend_from_slice(&port);
                }
            }
            Lie::BogusAddresses => {
                for at in 0..1_000 {
                    let mut ip = self.rng.next_u32().to_be_bytes();
                    match at % 8 {
                        0 => ip[0] = 10,
                        1 => ip[..2].copy_from_slice(&[192, 168]),
                        2 => ip[0] = 127,
                        3 => ip[..2].copy_from_slice(&[169, 254]),
                        4 => ip[0] = 224 + ip[0] % 16,
                        5 => ip = [255; 4],
                        6 => ip = [0; 4],
                        _ => ip[..2].copy_from_slice(&[172, 16]),
                    }
                    peers.extend_from_slice(&ip);
                    let port = [0, 22, 80, 6881][at / 8 % 4_usize];
                    peers.extend_from_slice(&u16::to_be_bytes(port));
                }
            }
            Lie::IntervalZero => interval = 0,
            Lie::IntervalHuge => interval = i64::MAX,
            Lie::BrokenBencode => return b"d8:intervali1800e5:peers99999:abc".to_vec(),
            Lie::EndlessBody | Lie::RedirectLoop => {}
        }
        let mut body = Vec::with_capacity(peers.len() + 64);
        let mut encoder = Encoder::new(&mut body);
        encoder.begin_dict().key("interval").int(interval);
        encoder.key("min interval").int(interval).key("peers").bytes(&peers).end();
        encoder.finish();
        body
    }

    fn send(&mut self, id: StreamId, bytes: Vec<u8>) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.send.push(bytes.into()) {
            stream.edges.want_write(id, &mut self.out);
        }
    }

    fn close(&mut self, id: StreamId) {
        if self.streams.remove(id).is_some() {
            self.out.push(Output::Close { stream: id, how: Shutdown::Graceful });
        }
    }

    fn on_sent(&mut self, id: StreamId, count: usize) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.send.settle(count);
        if stream.endless {
            self.endless_bytes += count as u64;
            if stream.send.len() < ENDLESS {
                self.send(id, vec![b'1'; ENDLESS]);
            }
        } else if stream.answered && stream.send.is_empty() {
            self.close(id);
        }
    }
}

/// The port in an announce.
fn port(target: &[u8]) -> u16 {
    let query = target.split(|byte| *byte == b'?').nth(1).unwrap_or_default();
    let port = query_pairs(query).find(|(key, _)| *key == b"port");
    let text = port.and_then(|(_, value)| std::str::from_utf8(value).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

impl Machine for LyingTracker {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.clock.advance(now);
        let Input::Stream(id, input) = input else { return };
        match input {
            StreamInput::Received(bytes) => self.read(id, bytes),
            StreamInput::Sent(count) => self.on_sent(id, count),
            StreamInput::ReadClosed => self.close(id),
            StreamInput::Closed(_) | StreamInput::ConnectFailed(_) => {
                self.streams.remove(id);
            }
            StreamInput::Connected { .. } => {}
        }
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) -> Option<StreamId> {
        self.clock.advance(now);
        (self.streams.len() < STREAMS_MAX).then(|| {
            self.streams.insert(Stream {
                from: incoming.from,
                parser: RequestParser::new(Limits::GET),
                send: SendQueue::new(),
                edges: StreamEdges::new(),
                answered: false,
                endless: false,
            })
        })
    }

    fn poll_output(&mut self) -> Option<Output> {
        let output = self.out.pop()?;
        if let Output::WantWrite(id) = output
            && let Some(stream) = self.streams.get_mut(id)
        {
            stream.edges.taken(&output);
        }
        Some(output)
    }

    fn poll_send(&mut self, now: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        self.clock.advance(now);
        self.streams.get_mut(id).map_or(0, |stream| stream.send.lend(max, out))
    }

    fn recv_credit(&self, stream: StreamId) -> usize {
        if self.streams.contains(stream) { CREDIT } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lie_is_found_by_its_name() {
        for lie in Lie::ALL {
            assert_eq!(lie.to_string().parse(), Ok(lie));
        }
        assert_eq!("truth".parse::<Lie>(), Err(UnknownLie("truth".into())));
    }

    #[test]
    fn the_port_of_an_announce_is_found() {
        assert_eq!(port(b"/announce?a=b&port=6881&left=0"), 6881);
        assert_eq!(port(b"/announce"), 0);
    }
}
