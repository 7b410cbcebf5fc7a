//! A tracker that answers as a test tells it to, and writes down what it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use teem_core::http::url::{percent_decode, query_pairs};
use teem_core::http::{Item, Limits, RequestHead, RequestParser};
use teem_core::ids::{ListenerId, Slab, SocketId, StreamId};
use teem_core::machine::{
    Bind, Clock, Datagram, Incoming, Input, Listen, Machine, Outbox, Output, SendQueue, Shutdown,
    SocketInput, StreamInput, Transmit, TransmitLimit,
};
use teem_core::time::Instant;
use teem_core::tracker::announce::AnnounceEvent;
use teem_core::tracker::udp::{ConnectionId, Request, Response, url_data};
use teem_sim::net::HostId;
use teem_sim::swarm::{Node, Swarm};

/// What is said to one request over HTTP.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// These bytes, and then the stream is closed.
    Raw(Vec<u8>),
    /// Nothing, for ever.
    Stall,
    /// Nothing; the stream is closed.
    HangUp,
}

impl Answer {
    /// This body, with status 200 and its length.
    pub(crate) fn body(body: impl AsRef<[u8]>) -> Self {
        Self::with_status("200 OK", body)
    }

    pub(crate) fn with_status(status: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        Self::Raw([head.as_bytes(), body].concat())
    }

    pub(crate) fn redirect(location: &str) -> Self {
        Self::Raw(format!("HTTP/1.1 301 Moved\r\nLocation: {location}\r\n\r\n").into_bytes())
    }

    /// Nobody is there, come again after so many seconds.
    pub(crate) fn interval(seconds: u32) -> Self {
        Self::body(format!("d8:intervali{seconds}e5:peers0:e"))
    }
}

/// What is said to announces over UDP.
#[derive(Clone, Debug)]
pub(crate) enum UdpAnswer {
    /// Nothing, whatever is asked.
    Silence,
    /// These peers, and when to come again.
    Peers(u32, Vec<SocketAddr>),
    /// No, for this reason.
    Refusal(&'static str),
}

/// One announce, or whatever else was asked for over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) path: String,
    /// What it says, under the names that it has over HTTP, decoded.
    pub(crate) says: BTreeMap<String, Vec<u8>>,
    pub(crate) user_agent: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) from: IpAddr,
}

impl Asked {
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.says.get(key)?).ok()
    }

    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }

    pub(crate) fn event(&self) -> AnnounceEvent {
        match self.text("event") {
            None => AnnounceEvent::None,
            Some("started") => AnnounceEvent::Started,
            Some("completed") => AnnounceEvent::Completed,
            Some("stopped") => AnnounceEvent::Stopped,
            Some(other) => panic!("event {other}"),
        }
    }
}

#[derive(Debug)]
struct Stream {
    from: SocketAddr,
    parser: RequestParser,
    head: Option<RequestHead>,
    send: SendQueue,
    closing: bool,
}

#[derive(Debug)]
struct Route {
    path: String,
    /// The next one first; the last one stays.
    answers: VecDeque<Answer>,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct ScriptedTracker {
    clock: Clock,
    out: Outbox,
    listeners: Slab<ListenerId, ()>,
    streams: Slab<StreamId, Stream>,
    sockets: Slab<SocketId, VecDeque<(SocketAddr, Vec<u8>)>>,
    routes: Vec<Route>,
    udp: UdpAnswer,
    /// Streams that were let in.
    pub(crate) accepted: usize,
    /// Connection ids that were asked for over UDP.
    pub(crate) connects: usize,
    pub(crate) asked: Vec<Asked>,
}

impl ScriptedTracker {
    /// A tracker over HTTP at this address, which answers 404 to everything.
    pub(crate) fn http(at: SocketAddr) -> Self {
        let mut this = Self::new();
        let listener = this.listeners.insert(());
        this.out.push(Output::Listen(Listen { listener, address: at, tls: false }.into()));
        this
    }

    /// A tracker over UDP at this address.
    pub(crate) fn udp(at: SocketAddr, answer: UdpAnswer) -> Self {
        let mut this = Self::new();
        let socket = this.sockets.insert(VecDeque::new());
        let bind = Bind { socket, address: at, reuse: false, multicast: None };
        this.out.push(Output::Bind(bind.into()));
        this.udp = answer;
        this
    }

    fn new() -> Self {
        Self {
            clock: Clock::new(Instant::ORIGIN),
            out: Outbox::default(),
            listeners: Slab::new(),
            streams: Slab::new(),
            sockets: Slab::new(),
            routes: Vec::new(),
            udp: UdpAnswer::Silence,
            accepted: 0,
            connects: 0,
            asked: Vec::new(),
        }
    }

    /// Requests for this path are answered so, one after the other, and then ever like the last.
    pub(crate) fn on(mut self, path: &str, answers: impl IntoIterator<Item = Answer>) -> Self {
        self.routes.retain(|route| route.path != path);
        self.routes.push(Route { path: path.into(), answers: answers.into_iter().collect() });
        self
    }

    /// Has this tracker take part, on a host of its own.
    pub(crate) fn join(self, swarm: &mut Swarm, ip: IpAddr) -> HostId {
        swarm.net.add(ip, Node::Actor(Box::new(self)))
    }

    fn answer(&mut self, path: &str) -> Answer {
        let route = self.routes.iter_mut().find(|route| route.path == path);
        let Some(route) = route else { return Answer::with_status("404 Not Found", "") };
        match route.answers.len() {
            0 => Answer::Stall,
            1 => route.answers[0].clone(),
            _ => route.answers.pop_front().expect("there are two"),
        }
    }

    fn on_request(&mut self, id: StreamId, head: &RequestHead) {
        let Some(stream) = self.streams.get(id) else { return };
        assert_eq!(&head.method[..], b"GET");
        let target = std::str::from_utf8(&head.target).expect("an encoded target");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query_pairs(query.as_bytes());
        let says = pairs.map(|(key, value)| {
            (String::from_utf8_lossy(key).into_owned(), percent_decode(value).into_owned())
        });
        let field =
            |name| head.headers.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
        self.asked.push(Asked {
            at: self.clock.now(),
            path: path.into(),
            says: says.collect(),
            user_agent: field("user-agent"),
            host: field("host"),
            from: stream.from.ip(),
        });
        let answer = self.answer(path);
        let Some(stream) = self.streams.get_mut(id) else { return };
        match answer {
            Answer::Stall => {}
            Answer::HangUp => {
                self.streams.remove(id);
                self.out.push(Output::Close { stream: id, how: Shutdown::Graceful });
            }
            Answer::Raw(bytes) => {
                stream.closing = true;
                stream.send.push(bytes.into());
                self.out.push(Output::WantWrite(id));
            }
        }
    }

    fn on_stream(&mut self, id: StreamId, input: StreamInput) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        match input {
            StreamInput::Received(mut bytes) => {
                while let Some(stream) = self.streams.get_mut(id)
                    && let Some(item) = stream.parser.next(&mut bytes).expect("a request")
                {
                    match item {
                        Item::Head(head) => stream.head = Some(head),
                        Item::Body(_) => {}
                        Item::End => {
                            let head = stream.head.take().expect("it came first");
                            self.on_request(id, &head);
                        }
                    }
                }
            }
            StreamInput::Sent(count) => {
                stream.send.settle(count);
                if stream.closing && stream.send.is_empty() {
                    self.streams.remove(id);
                    self.out.push(Output::Close { stream: id, how: Shutdown::Graceful });
                }
            }
            StreamInput::Closed(_) | StreamInput::ConnectFailed(_) => {
                self.streams.remove(id);
            }
            StreamInput::ReadClosed | StreamInput::Connected { .. } => {}
        }
    }

    fn on_datagram(&mut self, datagram: &Datagram<'_>) {
        let mut bytes = Vec::new();
        match Request::parse(datagram.data).expect("a request") {
            Request::Connect { transaction } => {
                self.connects += 1;
                if !matches!(self.udp, UdpAnswer::Silence) {
                    Response::Connect { transaction, connection: ConnectionId(77) }
                        .write(&mut bytes);
                }
            }
            Request::Announce { connection, transaction, announce, options } => {
                assert_eq!(connection, ConnectionId(77));
                let event = match announce.event {
                    AnnounceEvent::None => None,
                    AnnounceEvent::Started => Some("started"),
                    AnnounceEvent::Completed => Some("completed"),
                    AnnounceEvent::Stopped => Some("stopped"),
                };
                let mut says = BTreeMap::new();
                let mut say = |key: &str, value: String| {
                    says.insert(String::from(key), value.into_bytes());
                };
                say("port", announce.port.to_string());
                say("left", announce.left.to_string());
                say("downloaded", announce.downloaded.to_string());
                say("uploaded", announce.uploaded.to_string());
                say("key", format!("{:08X}", announce.key));
                if let Some(event) = event {
                    say("event", event.into());
                }
                self.asked.push(Asked {
                    at: self.clock.now(),
                    path: String::from_utf8_lossy(&url_data(options)).into_owned(),
                    says,
                    user_agent: None,
                    host: None,
                    from: datagram.from.ip(),
                });
                match &self.udp {
                    UdpAnswer::Silence => {}
                    UdpAnswer::Refusal(reason) => {
                        Response::Error { transaction, reason: reason.as_bytes() }
                            .write(&mut bytes);
                    }
                    UdpAnswer::Peers(interval, peers) => {
                        let peers: Vec<u8> = peers.iter().flat_map(|peer| compact(*peer)).collect();
                        Response::Announce {
                            transaction,
                            interval: *interval,
                            leechers: 3,
                            seeders: 4,
                            peers: &peers,
                        }
                        .write(&mut bytes);
                    }
                }
            }
            Request::Scrape { .. } => panic!("nobody asked for a scrape"),
        }
        if let Some(waiting) = self.sockets.get_mut(datagram.socket)
            && !bytes.is_empty()
        {
            waiting.push_back((datagram.from, bytes));
            self.out.push(Output::WantTransmit(datagram.socket));
        }
    }
}

/// An address as trackers write it (BEP 23, BEP 7).
pub(crate) fn compact(address: SocketAddr) -> Vec<u8> {
    let mut bytes = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend_from_slice(&address.port().to_be_bytes());
    bytes
}

impl Machine for ScriptedTracker {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.clock.advance(now);
        match input {
            Input::Stream(id, input) => self.on_stream(id, input),
            Input::Datagram(datagram) => self.on_datagram(&datagram),
            Input::Socket(_, SocketInput::Failed(error)) => panic!("{error}"),
            _ => {}
        }
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) -> Option<StreamId> {
        self.clock.advance(now);
        self.accepted += 1;
        Some(self.streams.insert(Stream {
            from: incoming.from,
            parser: RequestParser::new(Limits::GET),
            head: None,
            send: SendQueue::new(),
            closing: false,
        }))
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop()
    }

    fn poll_transmit(
        &mut self,
        _: Instant,
        on: SocketId,
        _: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let (to, bytes) = self.sockets.get_mut(on)?.pop_front()?;
        buf.extend_from_slice(&bytes);
        Some(Transmit { to, from: None, ecn: None, len: bytes.len(), segment: None })
    }

    fn poll_send(&mut self, _: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        self.streams.get_mut(id).map_or(0, |stream| stream.send.lend(max, out))
    }

    fn recv_credit(&self, _: StreamId) -> usize {
        64 * 1024
    }
}

/// What a tracker was asked so far.
pub(crate) fn asked(swarm: &Swarm, tracker: HostId) -> &[Asked] {
    &scripted(swarm, tracker).asked
}

/// The events of the announces that a tracker had so far.
pub(crate) fn events(swarm: &Swarm, tracker: HostId) -> Vec<AnnounceEvent> {
    asked(swarm, tracker).iter().map(Asked::event).collect()
}

/// A tracker that takes part.
pub(crate) fn scripted(swarm: &Swarm, tracker: HostId) -> &ScriptedTracker {
    swarm.net.machine(tracker).actor().expect("a scripted tracker")
}
