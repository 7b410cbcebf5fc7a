//! A tracker: the root machine that answers announces and scrapes over HTTP (BEP 3, 7, 23, 24,
//! 48) and UDP (BEP 15), from memory that both share.
//!
//! Over HTTP it answers `/announce` and `/scrape`, also behind one more path segment (a passkey, which it
//! does not look at), `/stats` and `/health`. What a peer says about its own address is ignored:
//! the source of its stream counts, with the port it tells. So a tracker behind a proxy sees the
//! proxy only; it is meant to face its peers.
//!
//! Streams have deadlines for a request's head, for taking an answer, and between requests; their
//! number is bounded, in all and for each address.
//!
//! Over UDP nothing is remembered of who asks, and whoever has not shown that it receives what is
//! sent to it is never sent more than it sent.

mod query;
#[cfg(test)]
mod tests;
mod udp;
#[cfg(test)]
mod udp_tests;

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use self::query::Asked;
pub use self::udp::{ANSWERS_MAX, CONNECTION_WINDOW, DATAGRAM_MAX};
use self::udp::{Lent, Udp};
use super::swarm::{Full, Limits, Swarms};
use crate::bencode::Encoder;
use crate::http::write::{Status, response};
use crate::http::{Error, Item, RequestHead, RequestParser};
use crate::ids::{CommandToken, ListenerId, Slab, SocketId, StreamId, TimerId};
use crate::machine::{
    Application, Clock, Deadline, Incoming, Input, Listen, ListenerInput, Machine, Outbox, Output,
    RECV_CREDIT_MIN, SendQueue, Shutdown, SocketError, StreamEdges, StreamInput, Transmit,
    TransmitLimit,
};
use crate::rng::{KeyedHasher, Seed};
use crate::time::{Duration, Instant};
use crate::timers::Timers;

/// Answers that wait to be taken, in bytes; a stream that has more is not read.
pub const BACKLOG_MAX: usize = 64 * 1024;

/// Bytes of a stream that are read at a time.
pub const RECV_CREDIT: usize = 16 * 1024;

/// Time between steps of the sweep for peers that are gone.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How a tracker behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// What peers are asked to keep to between announces.
    pub interval: Duration,
    /// The least they are asked to keep to.
    pub min_interval: Duration,
    /// Peers in an answer to who does not say.
    pub num_want_default: usize,
    /// Peers in an answer at most.
    pub num_want_max: usize,
    /// Hashes in one scrape.
    pub scrape_max: usize,
    /// Streams at a time.
    pub streams_max: usize,
    /// Streams of one address at a time.
    pub streams_per_address: u32,
    /// Time for the head of a request to arrive.
    pub head_timeout: Duration,
    /// Time for an answer to be taken.
    pub send_timeout: Duration,
    /// Time between requests on one stream.
    pub idle_timeout: Duration,
    /// What is remembered. Peers should live for about two intervals.
    pub limits: Limits,
}

impl Default for Config {
    /// Half an hour, at least a quarter; 50 peers, 200 at most; 64 hashes; 10,000 streams, 64 of
    /// each address; 5 s, 15 s, 30 s.
    fn default() -> Self {
        Self {
            interval: Duration::from_mins(30),
            min_interval: Duration::from_mins(15),
            num_want_default: 50,
            num_want_max: 200,
            scrape_max: 64,
            streams_max: 10_000,
            streams_per_address: 64,
            head_timeout: Duration::from_secs(5),
            send_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
            limits: Limits::default(),
        }
    }
}

/// What a [`Server`] can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Answer HTTP there: [`Event::Listening`] or [`Event::Failed`].
    Listen(CommandToken, SocketAddr),
    /// Tell what was done so far: [`Event::Stats`].
    Stats(CommandToken),
    /// Answer UDP there: [`Event::Listening`] or [`Event::Failed`].
    Bind(CommandToken, SocketAddr),
    /// Answer HTTP over TLS there, with the driver's certificate: [`Event::Listening`] or
    /// [`Event::Failed`].
    ListenTls(CommandToken, SocketAddr),
}

/// What a [`Server`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It listens there.
    Listening(CommandToken, SocketAddr),
    /// It does not listen.
    Failed(CommandToken, SocketError),
    /// What was done so far.
    Stats(CommandToken, Stats),
}

/// What a tracker did so far, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Swarms remembered.
    pub torrents: u64,
    /// Peers remembered.
    pub peers: u64,
    /// Streams open.
    pub streams: u64,
    /// Announces answered.
    pub announces: u64,
    /// Scrapes answered.
    pub scrapes: u64,
    /// Requests answered with a failure.
    pub failures: u64,
    /// Streams that sent what is not a request.
    pub malformed: u64,
    /// Streams turned away at the door.
    pub refused: u64,
    /// Streams that took too long.
    pub timed_out: u64,
    /// Connection ids given out over UDP.
    pub udp_connects: u64,
    /// Datagrams that are no requests.
    pub udp_malformed: u64,
    /// Requests over UDP without a connection id that is good for their sender; not answered.
    pub udp_unproven: u64,
    /// Answers over UDP that there was no room for.
    pub udp_dropped: u64,
    /// Bytes of all datagrams that came.
    pub udp_bytes_in: u64,
    /// Bytes of all datagrams that were sent.
    pub udp_bytes_out: u64,
}

impl Stats {
    fn text(&self) -> String {
        format!(
            "torrents {}\npeers {}\nstreams {}\nannounces {}\nscrapes {}\nfailures {}\n\
             malformed {}\nrefused {}\ntimed_out {}\nudp_connects {}\nudp_malformed {}\n\
             udp_unproven {}\nudp_dropped {}\nudp_bytes_in {}\nudp_bytes_out {}\n",
            self.torrents,
            self.peers,
            self.streams,
            self.announces,
            self.scrapes,
            self.failures,
            self.malformed,
            self.refused,
            self.timed_out,
            self.udp_connects,
            self.udp_malformed,
            self.udp_unproven,
            self.udp_dropped,
            self.udp_bytes_in,
            self.udp_bytes_out,
        )
    }
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Stream(StreamId),
    Sweep,
}

#[derive(Debug)]
struct Stream {
    from: SocketAddr,
    parser: RequestParser,
    /// The head of the request that is being read.
    head: Option<RequestHead>,
    /// What was received and waits for room for its answers.
    pending: Bytes,
    send: SendQueue,
    timer: TimerId,
    edges: StreamEdges,
    /// It was not read for want of room.
    starved: bool,
    /// Closed when everything is sent; nothing is read any more.
    closing: bool,
}

impl Stream {
    fn has_room(&self) -> bool {
        !self.closing && self.send.len() < BACKLOG_MAX
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Server {
    config: Config,
    clock: Clock,
    out: Outbox,
    timers: Timers<Due>,
    sweep: TimerId,
    listeners: Slab<ListenerId, CommandToken>,
    streams: Slab<StreamId, Stream>,
    per_address: HashMap<IpAddr, u32, KeyedHasher>,
    udp: Udp,
    swarms: Swarms,
    events: VecDeque<Event>,
    stats: Stats,
}

/// What a client is told when there is no room.
fn full(_: Full) -> &'static str {
    "the tracker is full"
}

impl Server {
    /// A tracker that listens nowhere yet.
    pub fn new(now: Instant, config: Config, seed: &Seed) -> Self {
        let mut timers = Timers::new();
        let sweep = timers.insert(Due::Sweep);
        Self {
            config,
            clock: Clock::new(now),
            out: Outbox::default(),
            timers,
            sweep,
            listeners: Slab::new(),
            streams: Slab::new(),
            per_address: HashMap::with_hasher(seed.hasher("tracker addresses")),
            udp: Udp::new(seed),
            swarms: Swarms::new(config.limits, seed),
            events: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// What it did so far.
    pub fn stats(&self) -> Stats {
        Stats {
            torrents: self.swarms.torrents() as u64,
            peers: self.swarms.peers() as u64,
            streams: self.streams.len() as u64,
            ..self.stats
        }
    }

    fn listen(&mut self, token: CommandToken, address: SocketAddr, tls: bool) {
        let listener = self.listeners.insert(token);
        self.out.push(Output::Listen(Listen { listener, address, tls }.into()));
    }

    fn arm(&mut self, id: StreamId, wait: Duration) {
        let now = self.clock.now();
        if let Some(stream) = self.streams.get(id) {
            self.timers.set(stream.timer, now, Some(now + wait));
        }
    }

    /// Forgets a stream that is closed.
    fn forget(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(id) else { return };
        self.timers.remove(stream.timer);
        let ip = stream.from.ip();
        if let Some(count) = self.per_address.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&ip);
            }
        }
    }

    fn close(&mut self, id: StreamId, how: Shutdown) {
        if self.streams.contains(id) {
            self.out.push(Output::Close { stream: id, how });
            self.forget(id);
        }
    }

    fn on_stream(&mut self, id: StreamId, input: StreamInput) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        match input {
            StreamInput::Received(bytes) => {
                if stream.closing {
                    return;
                }
                if stream.pending.is_empty() {
                    stream.pending = bytes;
                } else {
                    stream.pending = [&stream.pending[..], &bytes].concat().into();
                }
                self.read(id);
            }
            StreamInput::Sent(count) => {
                stream.send.settle(count);
                if stream.send.is_empty() && stream.closing {
                    self.close(id, Shutdown::Graceful);
                    return;
                }
                if stream.send.is_empty() && !stream.parser.is_inside() {
                    self.arm(id, self.config.idle_timeout);
                }
                self.read(id);
            }
            StreamInput::ReadClosed => {
                stream.closing = true;
                if stream.send.is_empty() {
                    self.close(id, Shutdown::Graceful);
                }
            }
            StreamInput::ConnectFailed(_) | StreamInput::Closed(_) => self.forget(id),
            StreamInput::Connected { .. } => {}
        }
    }

    /// Answers the requests that have arrived, while there is room for answers.
    fn read(&mut self, id: StreamId) {
        loop {
            let Some(stream) = self.streams.get_mut(id) else { return };
            if !stream.has_room() {
                stream.starved = true;
                return;
            }
            let was_inside = stream.parser.is_inside();
            match stream.parser.next(&mut stream.pending) {
                Ok(Some(Item::Head(head))) => stream.head = Some(head),
                Ok(Some(Item::Body(_))) => {}
                Ok(Some(Item::End)) => {
                    if let Some(head) = stream.head.take() {
                        self.on_request(id, &head);
                    }
                }
                Ok(None) => {
                    // A head that began has its time from then on, however it trickles in.
                    if stream.parser.is_inside() && !was_inside {
                        self.arm(id, self.config.head_timeout);
                    }
                    break;
                }
                Err(error) => {
                    self.stats.malformed += 1;
                    let status = match error {
                        Error::HeadTooLong | Error::TooManyHeaders => Status::HeadTooLarge,
                        Error::BodyTooLong => Status::ContentTooLarge,
                        _ => Status::BadRequest,
                    };
                    self.answer(id, status, b"", false);
                }
            }
        }
        if let Some(stream) = self.streams.get_mut(id)
            && core::mem::take(&mut stream.starved)
        {
            stream.edges.want_read(id, &mut self.out);
        }
    }

    fn answer(&mut self, id: StreamId, status: Status, body: &[u8], keep_alive: bool) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let mut bytes = Vec::with_capacity(body.len() + 128);
        response(&mut bytes, status, "text/plain", body, keep_alive);
        stream.closing |= !keep_alive;
        if stream.send.push(Bytes::from(bytes)) {
            stream.edges.want_write(id, &mut self.out);
            self.arm(id, self.config.send_timeout);
        }
    }

    fn on_request(&mut self, id: StreamId, head: &RequestHead) {
        let Some(stream) = self.streams.get(id) else { return };
        let from = stream.from;
        let asked = query::read(&head.method, &head.target, from, &self.config);
        let mut body = Vec::new();
        let status = match asked {
            Ok(Asked::Announce(asked)) => {
                self.announce(&asked, &mut body);
                Status::Ok
            }
            Ok(Asked::Scrape(hashes)) => {
                self.stats.scrapes += 1;
                query::write_scrape(&mut body, &hashes, |hash| self.swarms.scrape(hash));
                Status::Ok
            }
            Ok(Asked::Stats) => {
                body = self.stats().text().into_bytes();
                Status::Ok
            }
            Ok(Asked::Health) => {
                body.extend_from_slice(b"ok\n");
                Status::Ok
            }
            Err(query::Refusal::Failure(reason)) => {
                self.failure(&mut body, reason);
                Status::Ok
            }
            Err(query::Refusal::Status(status)) => status,
        };
        let keep_alive = head.keep_alive && status == Status::Ok;
        self.answer(id, status, &body, keep_alive);
    }

    fn announce(&mut self, asked: &query::Announce, body: &mut Vec<u8>) {
        let now = self.clock.now();
        let mut peers = Vec::new();
        match self.swarms.announce(now, &asked.said, &mut peers) {
            Ok(counts) => {
                self.stats.announces += 1;
                query::write_announce(body, asked, counts, &peers, &self.config);
            }
            Err(error) => self.failure(body, full(error)),
        }
        self.see_to_sweep();
    }

    fn see_to_sweep(&mut self) {
        let now = self.clock.now();
        if self.swarms.torrents() > 0 && self.timers.due(self.sweep).is_none() {
            self.timers.set(self.sweep, now, Some(now + SWEEP_INTERVAL));
        }
    }

    fn failure(&mut self, body: &mut Vec<u8>, reason: &str) {
        self.stats.failures += 1;
        let mut encoder = Encoder::new(body);
        encoder.begin_dict().key("failure reason").bytes(reason).end();
        encoder.finish();
    }

    fn on_due(&mut self, due: Due) {
        match due {
            Due::Stream(id) => {
                self.stats.timed_out += 1;
                self.close(id, Shutdown::Abort);
            }
            Due::Sweep => {
                // Twice around in a lifetime.
                let now = self.clock.now();
                let steps = (self.config.limits.lifetime.as_secs() / 2).max(1) as usize;
                self.swarms.sweep(now, self.swarms.torrents().div_ceil(steps));
                if self.swarms.torrents() > 0 {
                    self.timers.set(self.sweep, now, Some(now + SWEEP_INTERVAL));
                }
            }
        }
    }
}

impl Machine for Server {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        let now = self.clock.advance(now);
        match input {
            Input::Timeout => {
                while let Some(due) = self.timers.pop(now) {
                    self.on_due(due);
                }
            }
            Input::Stream(id, input) => self.on_stream(id, input),
            Input::Listener(id, input) => {
                let Some(&token) = self.listeners.get(id) else { return };
                self.events.push_back(match input {
                    ListenerInput::Bound(address) => Event::Listening(token, address),
                    ListenerInput::Failed(error) => {
                        self.listeners.remove(id);
                        Event::Failed(token, error)
                    }
                });
            }
            Input::Datagram(datagram) => {
                let (config, swarms) = (&self.config, &mut self.swarms);
                let mut lent = Lent { now, config, swarms, stats: &mut self.stats };
                for data in datagram.split() {
                    let (id, from) = (datagram.socket, datagram.from);
                    self.udp.on_datagram(id, from, data, &mut lent, &mut self.out);
                }
                self.see_to_sweep();
            }
            Input::Socket(id, input) => self.events.extend(self.udp.on_socket(id, input)),
            Input::Job(..) | Input::WallClock(_) => {}
        }
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) -> Option<StreamId> {
        let now = self.clock.advance(now);
        let ip = incoming.from.ip().to_canonical();
        let here = self.per_address.get(&ip).copied().unwrap_or_default();
        if self.streams.len() >= self.config.streams_max || here >= self.config.streams_per_address
        {
            self.stats.refused += 1;
            return None;
        }
        self.per_address.insert(ip, here + 1);
        let id = self.streams.next_key();
        let timer = self.timers.insert(Due::Stream(id));
        self.timers.set(timer, now, Some(now + self.config.head_timeout));
        Some(self.streams.insert(Stream {
            from: SocketAddr::new(ip, incoming.from.port()),
            parser: RequestParser::new(crate::http::Limits::GET),
            head: None,
            pending: Bytes::new(),
            send: SendQueue::new(),
            timer,
            edges: StreamEdges::new(),
            starved: false,
            closing: false,
        }))
    }

    fn poll_output(&mut self) -> Option<Output> {
        let output = self.out.pop()?;
        match output {
            Output::WantRead(id) | Output::WantWrite(id) => {
                if let Some(stream) = self.streams.get_mut(id) {
                    stream.edges.taken(&output);
                }
            }
            Output::WantTransmit(id) => self.udp.taken(id),
            _ => {}
        }
        Some(output)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timers.next().map(|(at, due)| {
            let reason = match due {
                Due::Stream(_) => "stream too slow",
                Due::Sweep => "sweep",
            };
            Deadline { at, reason }
        })
    }

    fn poll_send(&mut self, now: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        self.clock.advance(now);
        self.streams.get_mut(id).map_or(0, |stream| stream.send.lend(max, out))
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        on: SocketId,
        limit: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.clock.advance(now);
        self.udp.transmit(on, limit, buf, &mut self.stats)
    }

    fn recv_credit(&self, id: StreamId) -> usize {
        let open = |stream: &&Stream| stream.pending.is_empty() && stream.has_room();
        self.streams.get(id).filter(open).map_or(0, |_| RECV_CREDIT.max(RECV_CREDIT_MIN))
    }
}

impl Application for Server {
    type Command = Command;
    type Event = Event;

    fn handle_command(&mut self, now: Instant, command: Command) {
        self.clock.advance(now);
        match command {
            Command::Listen(token, address) => self.listen(token, address, false),
            Command::ListenTls(token, address) => self.listen(token, address, true),
            Command::Bind(token, address) => self.udp.bind(token, address, &mut self.out),
            Command::Stats(token) => self.events.push_back(Event::Stats(token, self.stats())),
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}
