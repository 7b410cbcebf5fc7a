//! All announces of a session that are under way: HTTP exchanges and UDP transactions.
//!
//! A [`Client`] is a part of a root machine, which owns streams, jobs and sockets and lends it
//! what it needs as a [`Net`]. It is told what happens to what it asked for, and each call returns
//! what came of it.
//!
//! ```text
//!   queued -> resolving -> connecting -> exchanging -> done          over HTTP
//!      ^          |            |  ^----------|   next address after a failure
//!      |          |            +-------------+-> resolving           redirected
//!      |          +-> asking for a connection id -> announcing -> done   over UDP, with retries
//! ```
//!
//! Redirects that lead from the internet to a private address are refused, and so is asking this
//! machine itself for anything that does not look like an announce.

mod http;
#[cfg(test)]
mod tests;
mod udp;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use ::url::Url;
use bytes::Bytes;

use super::announce::{AnnounceError, AnnounceRequest, AnnounceResponse};
use super::udp::{ConnectionId, Counts, Response, TransactionId, answers};
use super::url::{TrackerUrl, Transport, may_ask_loopback, scrape_url};
use super::ways::Family;
use crate::http::ResponseParser;
use crate::http::gzip::Encoding;
use crate::http::url::{RedirectError, Scope, is_international, literal_address};
use crate::ids::{InfoHash, JobId, Key, Slab, StreamId};
use crate::machine::{JobOutput, JobResult, Shutdown, StreamError, StreamInput};
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::timers::Timers;

/// Announces at a time, waiting ones included; more fail with [`AnnounceError::Busy`].
pub const EXCHANGES_MAX: usize = 4_096;

/// Addresses of one host that are tried.
pub const ADDRESSES_MAX: usize = 8;

/// How long a connection id may be used (BEP 15).
pub const CONNECTION_LIFE: Duration = Duration::from_mins(1);

/// Connection ids that are remembered; those that nobody waits for are forgotten first.
pub const CONNECTIONS_MAX: usize = 256;

/// Time to wait for a first UDP answer. Doubles with each retry (BEP 15).
pub const UDP_TIMEOUT: Duration = Duration::from_secs(15);

/// Retries over UDP (BEP 15).
pub const UDP_RETRIES_MAX: u32 = 8;

/// Datagrams that wait to be sent; more are dropped, and asked again like lost ones.
pub const DATAGRAMS_MAX: usize = 256;

/// What trackers are told that we are if they are not to know: a program that many people have.
pub const GENERIC_USER_AGENT: &str = "curl/7.88.1";

/// Bytes of a tracker's stream that may be read at a time.
pub const RECV_CREDIT: usize = 64 * 1024;

/// What a [`Client`] may do to the world; lent by its owner for the time of a call.
pub trait Net {
    /// The time of the call.
    fn now(&self) -> Instant;

    /// Whether there is a way to `address` at all.
    fn reaches(&self, address: IpAddr) -> bool {
        let _ = address;
        true
    }

    /// Asks for a stream to `to`, with TLS for this name if there is one. None: there is no room.
    fn connect(&mut self, to: SocketAddr, tls: Option<&str>) -> Option<StreamId>;

    /// Sends bytes on a stream.
    fn send(&mut self, stream: StreamId, bytes: Bytes);

    /// Closes a stream; nothing will be said of it again.
    fn close(&mut self, stream: StreamId, how: Shutdown);

    /// Asks for the addresses of a host.
    fn resolve(&mut self, host: &str, port: u16) -> JobId;

    /// Nobody waits for that job any more; its completion is not handed on.
    fn forget(&mut self, job: JobId);

    /// There are datagrams to take from [`Client::pop_datagram`].
    fn datagrams_wait(&mut self);
}

/// How long things may take, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// For a stream to come up, TLS included, for each address.
    pub connect_timeout: Duration,
    /// For the answer once it is up.
    pub exchange_timeout: Duration,
    /// For all of an announce, from when its turn comes: lookup, addresses, redirects, retries.
    pub total_timeout: Duration,
    /// Announces over HTTP at a time.
    pub http_max: usize,
    /// Announces over UDP at a time.
    pub udp_max: usize,
    /// Whether hosts are asked whose names hold other letters than those of ASCII.
    pub international_names: bool,
}

impl Default for Config {
    /// 10 s, 30 s, 60 s; 64 over HTTP, 512 over UDP; names of all alphabets.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            exchange_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_mins(1),
            http_max: 64,
            udp_max: 512,
            international_names: true,
        }
    }
}

/// How one announce is to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Time for all of it from now on, waiting for its turn included; none: as configured.
    pub limit: Option<Duration>,
    /// Goes before all that wait.
    pub urgent: bool,
    /// Only over addresses of this family; none: of any.
    pub family: Option<Family>,
    /// An HTTP tracker is told [`GENERIC_USER_AGENT`] and not what we are.
    pub anonymous: bool,
}

impl Options {
    /// For `stopped` when everything ends: two seconds, at once.
    pub const SHUTDOWN: Self =
        Self { limit: Some(Duration::from_secs(2)), urgent: true, family: None, anonymous: false };
}

/// What a call came to, for the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upward<T> {
    /// An announce ended.
    Announced {
        /// What it was made with.
        token: T,
        /// How.
        result: Result<Box<AnnounceResponse>, AnnounceError>,
    },
    /// A scrape ended.
    Scraped {
        /// What it was made with.
        token: T,
        /// How.
        result: Result<Counts, AnnounceError>,
    },
}

/// What a tracker is asked.
#[derive(Debug)]
enum Ask {
    Announce(Box<AnnounceRequest>),
    Scrape(InfoHash),
}

/// What it answered.
#[derive(Debug)]
enum Answered {
    Announce(Box<AnnounceResponse>),
    Scrape(Counts),
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct ExchangeId {
    slot: u32,
    generation: u32,
}

impl core::fmt::Debug for ExchangeId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "announce{}v{}", self.slot, self.generation)
    }
}

impl Key for ExchangeId {
    fn from_parts(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }
    fn slot(self) -> u32 {
        self.slot
    }
    fn generation(self) -> u32 {
        self.generation
    }
}

#[derive(Debug)]
struct Exchange<T> {
    token: T,
    transport: Transport,
    /// Where we are now: changes with redirects.
    url: Box<Url>,
    ask: Ask,
    family: Option<Family>,
    anonymous: bool,
    limit: Option<Instant>,
    timer: crate::ids::TimerId,
    addresses: Vec<SocketAddr>,
    /// The one in use.
    at: usize,
    redirects: u8,
    /// A redirect came from the internet.
    from_global: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Queued,
    Resolving(JobId),
    Connecting(StreamId),
    Exchanging(StreamId, Box<Answer>),
    /// Waits for a connection id of this address.
    AskingConnection {
        to: SocketAddr,
        tries: u32,
    },
    Announcing {
        to: SocketAddr,
        tries: u32,
        transaction: TransactionId,
        cached: bool,
    },
}

#[derive(Debug)]
struct Answer {
    parser: ResponseParser,
    status: u16,
    encoding: Encoding,
    body: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Question {
    to: SocketAddr,
    /// The announce; none: it asks for a connection id.
    exchange: Option<ExchangeId>,
}

#[derive(Debug, Default)]
struct Connection {
    id: Option<(ConnectionId, Instant)>,
    asked: Option<(TransactionId, Instant)>,
    waiting: Vec<ExchangeId>,
}

#[derive(Debug, Default)]
struct Lane {
    active: usize,
    queue: VecDeque<ExchangeId>,
}

/// See the [module](self). `T` is how the owner knows its announces.
#[derive(Debug)]
pub struct Client<T> {
    config: Config,
    user_agent: Box<str>,
    rng: Rng,
    exchanges: Slab<ExchangeId, Exchange<T>>,
    timers: Timers<ExchangeId>,
    /// HTTP and UDP.
    lanes: [Lane; 2],
    streams: BTreeMap<StreamId, ExchangeId>,
    jobs: BTreeMap<JobId, ExchangeId>,
    questions: BTreeMap<TransactionId, Question>,
    connections: BTreeMap<SocketAddr, Connection>,
    datagrams: VecDeque<(SocketAddr, Bytes)>,
    done: Vec<Upward<T>>,
}

const fn lane(transport: Transport) -> usize {
    match transport {
        Transport::Http | Transport::Https => 0,
        Transport::Udp => 1,
    }
}

impl<T: Copy> Client<T> {
    /// A client that does nothing yet; `rng` makes transaction ids. `user_agent` is what HTTP
    /// trackers are told that we are; what has no place in a header field is left out of it.
    pub fn new(config: Config, user_agent: &str, rng: Rng) -> Self {
        Self {
            config,
            user_agent: user_agent
                .chars()
                .filter(|c| matches!(c, ' '..='~'))
                .collect::<String>()
                .into(),
            rng,
            exchanges: Slab::new(),
            timers: Timers::new(),
            lanes: [
                Lane { active: 0, queue: VecDeque::new() },
                Lane { active: 0, queue: VecDeque::new() },
            ],
            streams: BTreeMap::new(),
            jobs: BTreeMap::new(),
            questions: BTreeMap::new(),
            connections: BTreeMap::new(),
            datagrams: VecDeque::new(),
            done: Vec::new(),
        }
    }

    /// Announces under way, waiting ones included.
    pub const fn len(&self) -> usize {
        self.exchanges.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.exchanges.is_empty()
    }

    /// Makes an announce. It ends in exactly one [`Upward::Announced`], of this call or a later.
    #[must_use]
    pub fn announce(
        &mut self,
        net: &mut dyn Net,
        token: T,
        url: &TrackerUrl,
        request: AnnounceRequest,
        options: Options,
    ) -> Vec<Upward<T>> {
        let ask = Ask::Announce(Box::new(request));
        self.enqueue(net, token, url.transport(), url.url().clone(), ask, options)
    }

    /// Asks a tracker what it counts of a swarm. It ends in exactly one [`Upward::Scraped`], of this
    /// call or a later.
    #[must_use]
    pub fn scrape(
        &mut self,
        net: &mut dyn Net,
        token: T,
        url: &TrackerUrl,
        info_hash: InfoHash,
        options: Options,
    ) -> Vec<Upward<T>> {
        let at = match url.transport() {
            Transport::Udp => Some(url.url().clone()),
            Transport::Http | Transport::Https => scrape_url(url.url()),
        };
        let Some(at) = at else {
            let result = Err(AnnounceError::NoScrape);
            self.done.push(Upward::Scraped { token, result });
            return self.take_done();
        };
        self.enqueue(net, token, url.transport(), at, Ask::Scrape(info_hash), options)
    }

    fn enqueue(
        &mut self,
        net: &mut dyn Net,
        token: T,
        transport: Transport,
        url: Url,
        ask: Ask,
        options: Options,
    ) -> Vec<Upward<T>> {
        if self.exchanges.len() >= EXCHANGES_MAX {
            self.done.push(ended(token, &ask, Err(AnnounceError::Busy)));
            return self.take_done();
        }
        let now = net.now();
        let timer = self.timers.insert(self.exchanges.next_key());
        let limit = options.limit.map(|limit| now + limit);
        self.timers.set(timer, now, limit);
        let id = self.exchanges.insert(Exchange {
            token,
            transport,
            url: Box::new(url),
            ask,
            family: options.family,
            anonymous: options.anonymous,
            limit,
            timer,
            addresses: Vec::new(),
            at: 0,
            redirects: 0,
            from_global: false,
            state: State::Queued,
        });
        let queue = &mut self.lanes[lane(transport)].queue;
        if options.urgent {
            queue.push_front(id);
        } else {
            queue.push_back(id);
        }
        self.settle(net)
    }

    /// Gives up all announces whose token `matches`: they end with [`AnnounceError::Cancelled`].
    #[must_use]
    pub fn cancel(
        &mut self,
        net: &mut dyn Net,
        mut matches: impl FnMut(&T) -> bool,
    ) -> Vec<Upward<T>> {
        let found = self.exchanges.iter().filter(|(_, exchange)| matches(&exchange.token));
        let found: Vec<_> = found.map(|(id, _)| id).collect();
        for id in found {
            self.end(net, id, Err(AnnounceError::Cancelled));
        }
        self.settle(net)
    }

    /// Whether a stream is one that this client asked for.
    pub fn owns(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    /// How many bytes of a stream may be read: what comes is bounded by the parser.
    pub fn recv_credit(&self, stream: StreamId) -> usize {
        if self.owns(stream) { RECV_CREDIT } else { 0 }
    }

    /// Something happened to a stream of this client; others are ignored.
    #[must_use]
    pub fn on_stream(
        &mut self,
        net: &mut dyn Net,
        stream: StreamId,
        input: StreamInput,
    ) -> Vec<Upward<T>> {
        let Some(&id) = self.streams.get(&stream) else { return Vec::new() };
        match input {
            StreamInput::Connected { .. } => self.on_connected(net, id, stream),
            StreamInput::Received(bytes) => self.on_received(net, id, bytes),
            StreamInput::Sent(_) => {}
            StreamInput::ReadClosed => {
                self.on_end_of_answer(net, id, crate::http::Error::Truncated.into());
            }
            StreamInput::ConnectFailed(error) => {
                self.streams.remove(&stream);
                self.next_address(net, id, error.into());
            }
            StreamInput::Closed(error) => {
                self.streams.remove(&stream);
                self.on_end_of_answer(net, id, error.into());
            }
        }
        self.settle(net)
    }

    /// A lookup of this client is done; others are ignored.
    #[must_use]
    pub fn on_job(&mut self, net: &mut dyn Net, job: JobId, result: JobResult) -> Vec<Upward<T>> {
        let Some(id) = self.jobs.remove(&job) else { return Vec::new() };
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.state = State::Queued;
            match result {
                Ok(JobOutput::Resolved(addresses)) => self.on_addresses(net, id, &addresses),
                _ => self.end_active(id, Err(AnnounceError::NoSuchHost)),
            }
        }
        self.settle(net)
    }

    /// Whether a datagram looks like the answer to a question of this client: for owners whose
    /// socket serves other protocols too.
    pub fn expects(&self, from: SocketAddr, data: &[u8]) -> bool {
        let question = answers(data).and_then(|id| self.questions.get(&id));
        question.is_some_and(|question| question.to == canonical(from))
    }

    /// A datagram arrived. What answers no question is ignored.
    #[must_use]
    pub fn on_datagram(
        &mut self,
        net: &mut dyn Net,
        from: SocketAddr,
        data: &[u8],
    ) -> Vec<Upward<T>> {
        if !self.expects(from, data) {
            return Vec::new();
        }
        let Some(transaction) = answers(data) else { return Vec::new() };
        let Some(&question) = self.questions.get(&transaction) else { return Vec::new() };
        match question.exchange {
            None => self.on_connection_answer(net, question.to, &Response::parse(data)),
            Some(id) => self.on_announce_answer(net, id, question.to, &Response::parse(data)),
        }
        self.settle(net)
    }

    /// The network says that nobody is at this address.
    #[must_use]
    pub fn on_unreachable(&mut self, net: &mut dyn Net, address: SocketAddr) -> Vec<Upward<T>> {
        let address = canonical(address);
        let asks = |exchange: &Exchange<T>| match exchange.state {
            State::AskingConnection { to, .. } | State::Announcing { to, .. } => to == address,
            _ => false,
        };
        let ids = self.exchanges.iter().filter(|(_, exchange)| asks(exchange));
        let ids: Vec<_> = ids.map(|(id, _)| id).collect();
        for id in ids {
            self.leave_udp(id);
            self.next_address(net, id, StreamError::Unreachable.into());
        }
        self.settle(net)
    }

    /// Time passed, perhaps a deadline with it.
    #[must_use]
    pub fn on_timeout(&mut self, net: &mut dyn Net) -> Vec<Upward<T>> {
        let now = net.now();
        while let Some(id) = self.timers.pop(now) {
            self.on_due(net, id);
        }
        self.settle(net)
    }

    /// When to call [`on_timeout`](Self::on_timeout) next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next().map(|(at, _)| at)
    }

    /// The next datagram to send, and where to.
    pub fn pop_datagram(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.datagrams.pop_front()
    }

    /// The length of the next datagram.
    pub fn peek_datagram(&self) -> Option<(SocketAddr, usize)> {
        self.datagrams.front().map(|(to, bytes)| (*to, bytes.len()))
    }

    /// Starts what waits, while there is room, and hands out what ended.
    fn settle(&mut self, net: &mut dyn Net) -> Vec<Upward<T>> {
        let max = [self.config.http_max, self.config.udp_max];
        for (lane, max) in max.into_iter().enumerate() {
            while self.lanes[lane].active < max.max(1) {
                let Some(id) = self.lanes[lane].queue.pop_front() else { break };
                self.lanes[lane].active += 1;
                self.begin(net, id);
            }
        }
        self.take_done()
    }

    fn take_done(&mut self) -> Vec<Upward<T>> {
        core::mem::take(&mut self.done)
    }

    fn begin(&mut self, net: &mut dyn Net, id: ExchangeId) {
        let total = net.now() + self.config.total_timeout;
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.limit = Some(exchange.limit.map_or(total, |limit| limit.min(total)));
        self.locate(net, id);
    }

    /// Finds the addresses of the host.
    fn locate(&mut self, net: &mut dyn Net, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let port = exchange.url.port_or_known_default().unwrap_or_default();
        if !self.config.international_names && is_international(&exchange.url) {
            self.end_active(id, Err(AnnounceError::InternationalName));
            return;
        }
        if let Some(address) = literal_address(&exchange.url) {
            self.on_addresses(net, id, &[SocketAddr::new(address, port)]);
            return;
        }
        let job = net.resolve(exchange.url.host_str().unwrap_or_default(), port);
        exchange.state = State::Resolving(job);
        self.jobs.insert(job, id);
        self.arm(net, id, None);
    }

    fn on_addresses(&mut self, net: &mut dyn Net, id: ExchangeId, found: &[SocketAddr]) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let udp = exchange.transport == Transport::Udp;
        let loopback = udp || may_ask_loopback(&exchange.url);
        let mut error = AnnounceError::AddressRefused;
        exchange.addresses.clear();
        exchange.at = 0;
        for address in found.iter().copied().map(canonical) {
            let scope = Scope::of(address.ip());
            if exchange.from_global && scope != Scope::Global {
                error = RedirectError::Private.into();
                continue;
            }
            if exchange.family.is_some_and(|family| family != Family::of(address.ip())) {
                error = AnnounceError::OtherFamily;
                continue;
            }
            let allowed = match scope {
                Scope::Unusable => false,
                Scope::Loopback => loopback,
                Scope::Local | Scope::Global => true,
            };
            let new =
                allowed && net.reaches(address.ip()) && !exchange.addresses.contains(&address);
            if new && exchange.addresses.len() < ADDRESSES_MAX {
                exchange.addresses.push(address);
            }
        }
        if exchange.addresses.is_empty() {
            self.end_active(id, Err(error));
        } else if udp {
            self.ask(net, id, 0);
        } else {
            self.connect(net, id);
        }
    }

    /// Goes on with the next address after `error`; after the last one that is the result.
    fn next_address(&mut self, net: &mut dyn Net, id: ExchangeId, error: AnnounceError) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        exchange.state = State::Queued;
        exchange.at += 1;
        if exchange.at >= exchange.addresses.len() {
            self.end_active(id, Err(error));
        } else if exchange.transport == Transport::Udp {
            self.ask(net, id, 0);
        } else {
            self.connect(net, id);
        }
    }

    /// Sets the timer to `wait` from now, or to the limit of the whole announce if that is sooner.
    fn arm(&mut self, net: &dyn Net, id: ExchangeId, wait: Option<Duration>) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        let now = net.now();
        let wait = wait.map(|wait| now + wait);
        let due = [wait, exchange.limit].into_iter().flatten().min();
        self.timers.set(exchange.timer, now, due);
    }

    fn on_due(&mut self, net: &mut dyn Net, id: ExchangeId) {
        let now = net.now();
        let Some(exchange) = self.exchanges.get(id) else { return };
        if exchange.limit.is_some_and(|limit| limit <= now) {
            self.end(net, id, Err(AnnounceError::TimedOut));
            return;
        }
        match exchange.state {
            State::Queued | State::Resolving(_) => self.arm(net, id, None),
            State::Connecting(stream) | State::Exchanging(stream, _) => {
                self.drop_stream(net, stream, Shutdown::Abort);
                self.next_address(net, id, AnnounceError::TimedOut);
            }
            State::AskingConnection { tries, .. } | State::Announcing { tries, .. } => {
                if tries >= UDP_RETRIES_MAX {
                    self.end(net, id, Err(AnnounceError::TimedOut));
                } else {
                    self.ask(net, id, tries + 1);
                }
            }
        }
    }

    fn drop_stream(&mut self, net: &mut dyn Net, stream: StreamId, how: Shutdown) {
        if self.streams.remove(&stream).is_some() {
            net.close(stream, how);
        }
    }

    /// Ends an announce that took its turn and holds nothing.
    fn end_active(&mut self, id: ExchangeId, result: Result<Answered, AnnounceError>) {
        let Some(exchange) = self.exchanges.get(id) else { return };
        debug_assert!(matches!(exchange.state, State::Queued), "it holds nothing");
        let lane = lane(exchange.transport);
        self.lanes[lane].active -= 1;
        self.remove(id, result);
    }

    /// Ends an announce, whatever it is at.
    fn end(&mut self, net: &mut dyn Net, id: ExchangeId, result: Result<Answered, AnnounceError>) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let lane = lane(exchange.transport);
        match core::mem::replace(&mut exchange.state, State::Queued) {
            State::Queued => {
                self.lanes[lane].queue.retain(|waiting| *waiting != id);
                self.remove(id, result);
                return;
            }
            State::Resolving(job) => {
                self.jobs.remove(&job);
                net.forget(job);
            }
            State::Connecting(stream) => self.drop_stream(net, stream, Shutdown::Abort),
            State::Exchanging(stream, _) => {
                let how = if result.is_ok() { Shutdown::Graceful } else { Shutdown::Abort };
                self.drop_stream(net, stream, how);
            }
            state @ (State::AskingConnection { .. } | State::Announcing { .. }) => {
                exchange.state = state;
                self.leave_udp(id);
            }
        }
        self.end_active(id, result);
    }

    fn remove(&mut self, id: ExchangeId, result: Result<Answered, AnnounceError>) {
        let Some(exchange) = self.exchanges.remove(id) else { return };
        self.timers.remove(exchange.timer);
        self.done.push(ended(exchange.token, &exchange.ask, result));
    }
}

/// How the owner is told of an end.
fn ended<T>(token: T, ask: &Ask, result: Result<Answered, AnnounceError>) -> Upward<T> {
    match (ask, result) {
        (_, Ok(Answered::Announce(response))) => Upward::Announced { token, result: Ok(response) },
        (_, Ok(Answered::Scrape(counts))) => Upward::Scraped { token, result: Ok(counts) },
        (Ask::Announce(_), Err(error)) => Upward::Announced { token, result: Err(error) },
        (Ask::Scrape(_), Err(error)) => Upward::Scraped { token, result: Err(error) },
    }
}

/// An IPv4 address in IPv6 clothes without them.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
