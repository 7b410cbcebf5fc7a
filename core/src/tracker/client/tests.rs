//! A client against a world that writes down what it is asked for.

use super::*;
use crate::http::Limits;
use crate::http::gzip::{GzipError, gzip};
use crate::http::url::REDIRECTS_MAX;
use crate::ids::{InfoHash, PeerId};
use crate::machine::{JobError, JobErrorKind, TlsError};
use crate::rng::Seed;
use crate::tracker::announce::AnnounceEvent;
use crate::tracker::udp::{self, Request};
use proptest::prelude::*;
use std::format;
use std::string::String;

/// A world that writes down what it is asked for.
struct World {
    now: Instant,
    streams: Slab<StreamId, (SocketAddr, Option<String>, Vec<u8>)>,
    jobs: Slab<JobId, String>,
    closed: usize,
    reaches_v6: bool,
}

impl Net for World {
    fn now(&self) -> Instant {
        self.now
    }
    fn reaches(&self, address: IpAddr) -> bool {
        address.is_ipv4() || self.reaches_v6
    }
    fn connect(&mut self, to: SocketAddr, tls: Option<&str>) -> Option<StreamId> {
        Some(self.streams.insert((to, tls.map(String::from), Vec::new())))
    }
    fn send(&mut self, stream: StreamId, bytes: Bytes) {
        self.streams.get_mut(stream).expect("open").2.extend_from_slice(&bytes);
    }
    fn close(&mut self, stream: StreamId, _: Shutdown) {
        self.streams.remove(stream).expect("open");
        self.closed += 1;
    }
    fn resolve(&mut self, host: &str, port: u16) -> JobId {
        self.jobs.insert(format!("{host}:{port}"))
    }
    fn forget(&mut self, job: JobId) {
        self.jobs.remove(job).expect("known");
    }
    fn datagrams_wait(&mut self) {}
}

type Done = Vec<Upward<u32>>;

struct Bench {
    world: World,
    client: Client<u32>,
}

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left: None,
        event: AnnounceEvent::Started,
        num_want: None,
        key: 1,
        ipv4: None,
        ipv6: None,
        tracker_id: None,
    }
}

fn bench() -> Bench {
    let world = World {
        now: Instant::ORIGIN,
        streams: Slab::new(),
        jobs: Slab::new(),
        closed: 0,
        reaches_v6: true,
    };
    let rng = Seed::from_number(1).stream("tracker", 0);
    Bench { world, client: Client::new(Config::default(), "test/1\r\nX: y", rng) }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

impl Bench {
    fn announce(&mut self, token: u32, url: &str) -> Done {
        let url = TrackerUrl::parse(url).expect("a URL");
        self.client.announce(&mut self.world, token, &url, request(), Options::default())
    }

    /// Answers the only lookup.
    fn resolve(&mut self, to: &[&str]) -> Done {
        let job = self.world.jobs.keys().next().expect("a lookup");
        self.world.jobs.remove(job);
        let addresses: Vec<_> = to.iter().map(|to| address(to)).collect();
        let result = if to.is_empty() {
            Err(JobError { kind: JobErrorKind::NoSuchHost, detail: "".into() })
        } else {
            Ok(JobOutput::Resolved(addresses.into()))
        };
        self.client.on_job(&mut self.world, job, result)
    }

    /// The newest stream.
    fn stream(&self) -> (StreamId, SocketAddr) {
        let (id, (to, ..)) = self.world.streams.iter().last().expect("a stream");
        (id, *to)
    }

    fn on_stream(&mut self, input: StreamInput) -> Done {
        let (id, _) = self.stream();
        let gone = matches!(input, StreamInput::Closed(_) | StreamInput::ConnectFailed(_));
        if gone {
            self.world.streams.remove(id);
        }
        self.client.on_stream(&mut self.world, id, input)
    }

    fn connected(&mut self) -> String {
        let local = address("192.0.2.99:1");
        assert_eq!(self.on_stream(StreamInput::Connected { local }), []);
        let (id, _) = self.stream();
        let sent = &self.world.streams.get(id).expect("open").2;
        String::from_utf8(sent.clone()).expect("ASCII")
    }

    fn received(&mut self, text: &str) -> Done {
        self.on_stream(StreamInput::Received(Bytes::copy_from_slice(text.as_bytes())))
    }

    fn pass(&mut self, seconds: u64) -> Done {
        let end = self.world.now + Duration::from_secs(seconds);
        let mut done = Vec::new();
        while let Some(next) = self.client.next_deadline().filter(|next| *next <= end) {
            assert!(next > self.world.now);
            self.world.now = next;
            done.extend(self.client.on_timeout(&mut self.world));
        }
        self.world.now = end;
        done
    }

    fn datagram(&mut self, from: SocketAddr, response: &Response<'_>) -> Done {
        let mut bytes = Vec::new();
        response.write(&mut bytes);
        self.client.on_datagram(&mut self.world, from, &bytes)
    }

    /// Nothing is left behind.
    fn assert_clean(&self) {
        assert!(self.client.is_empty());
        assert_eq!(self.world.streams.len() + self.world.jobs.len(), 0);
        assert!(self.client.streams.is_empty() && self.client.jobs.is_empty());
        assert!(self.client.questions.is_empty());
        assert!(self.client.connections.values().all(|c| c.waiting.is_empty()));
        assert_eq!(self.client.lanes.iter().map(|lane| lane.active).sum::<usize>(), 0);
        assert!(self.client.lanes.iter().all(|lane| lane.queue.is_empty()));
        assert_eq!(self.client.next_deadline(), None);
    }
}

fn error(done: &Done) -> AnnounceError {
    match done.as_slice() {
        [Upward::Announced { result: Err(error), .. }] => error.clone(),
        other => panic!("{other:?}"),
    }
}

fn token(ended: &Upward<u32>) -> u32 {
    let (Upward::Announced { token, .. } | Upward::Scraped { token, .. }) = ended;
    *token
}

fn answer(done: &Done) -> (u32, AnnounceResponse) {
    match done.as_slice() {
        [Upward::Announced { token, result: Ok(response) }] => (*token, (**response).clone()),
        other => panic!("{other:?}"),
    }
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\n\r\nd8:intervali900e5:peers0:e";

#[test]
fn http_connection() {
    let mut bench = bench();
    assert_eq!(bench.announce(7, "http://a.example:6969/announce?k=v"), []);
    assert_eq!(bench.resolve(&["192.0.2.1:6969"]), []);
    assert_eq!(bench.stream().1, address("192.0.2.1:6969"));
    let sent = bench.connected();
    assert!(sent.starts_with("GET /announce?k=v&info_hash=%01"), "{sent}");
    assert!(sent.contains("\r\nHost: a.example:6969\r\n"), "{sent}");
    assert!(sent.contains("\r\nUser-Agent: test/1X: y\r\n"), "{sent}");
    assert_eq!(bench.received(&ANSWER[..30]), []);
    assert_eq!(bench.received(&ANSWER[30..]), []);
    let (token, response) = answer(&bench.on_stream(StreamInput::ReadClosed));
    assert_eq!((token, response.interval), (7, Some(Duration::from_mins(15))));
    bench.assert_clean();
    assert_eq!(bench.world.closed, 1);
}

#[test]
fn an_https_tracker_is_reached_with_the_name_its_certificate_must_carry() {
    let mut bench = bench();
    assert_eq!(bench.announce(1, "https://a.example/announce"), []);
    assert_eq!(bench.resolve(&["192.0.2.1:443"]), []);
    let (id, _) = bench.stream();
    assert_eq!(bench.world.streams.get(id).expect("open").1.as_deref(), Some("a.example"));
    let done = bench.on_stream(StreamInput::ConnectFailed(StreamError::Tls(TlsError::Expired)));
    assert_eq!(error(&done), AnnounceError::Stream(StreamError::Tls(TlsError::Expired)));
    bench.assert_clean();
}

#[test]
fn http_connection_chunked_and_closed() {
    let mut bench = bench();
    assert_eq!(bench.announce(1, "http://192.0.2.1/announce"), []);
    bench.connected();
    let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(answer(&bench.received(text)).1, AnnounceResponse::default());
    assert_eq!(bench.announce(1, "http://192.0.2.1/announce"), []);
    bench.connected();
    assert_eq!(bench.received(ANSWER), []);
    answer(&bench.on_stream(StreamInput::Closed(StreamError::Reset)));
    bench.assert_clean();
}

#[test]
fn http_connection_second_address_tried() {
    let mut bench = bench();
    bench.world.reaches_v6 = false;
    assert_eq!(bench.announce(1, "http://a.example/announce"), []);
    let addresses = ["0.0.0.0:80", "[2001:db8::1]:80", "192.0.2.1:80", "192.0.2.2:80"];
    assert_eq!(bench.resolve(&addresses), []);
    assert_eq!(bench.on_stream(StreamInput::ConnectFailed(StreamError::Refused)), []);
    assert_eq!(bench.stream().1, address("192.0.2.2:80"));
    bench.connected();
    answer(&bench.received("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nde"));
    bench.assert_clean();
}

#[test]
fn http_connection_timeout_server_stalls() {
    let mut bench = bench();
    assert_eq!(bench.announce(1, "http://a.example/announce"), []);
    assert_eq!(bench.resolve(&["192.0.2.1:80", "192.0.2.2:80"]), []);
    bench.connected();
    assert_eq!(bench.pass(30), []);
    assert_eq!(bench.stream().1, address("192.0.2.2:80"));
    assert_eq!(bench.pass(9), []);
    assert_eq!(error(&bench.pass(1)), AnnounceError::TimedOut);
    bench.assert_clean();
    assert_eq!(bench.world.closed, 2);
}

#[test]
fn http_connection_unknown_host() {
    let mut bench = bench();
    assert_eq!(bench.announce(1, "http://a.example/announce"), []);
    assert_eq!(error(&bench.resolve(&[])), AnnounceError::NoSuchHost);
    assert_eq!(bench.announce(1, "http://a.example/announce"), []);
    assert_eq!(error(&bench.pass(60)), AnnounceError::TimedOut);
    bench.assert_clean();
}

fn redirected(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 9\r\n\r\n")
}

#[test]
fn http_connection_redirects() {
    let mut bench = bench();
    assert_eq!(bench.announce(1, "http://192.0.2.1/announce?k=v"), []);
    bench.connected();
    assert_eq!(bench.received(&redirected("/other?k=v")), []);
    assert!(bench.connected().starts_with("GET /other?k=v&info_hash=%01"));
    assert_eq!(bench.received(&redirected("http://b.example/x?info_hash=1")), []);
    assert_eq!(bench.resolve(&["192.0.2.2:80"]), []);
    assert!(bench.connected().starts_with("GET /x?info_hash=1 HTTP"));
    for _ in 2..REDIRECTS_MAX {
        assert_eq!(bench.received(&redirected("http://192.0.2.2/again")), []);
        bench.connected();
    }
    let done = bench.received(&redirected("http://192.0.2.2/again"));
    assert_eq!(error(&done), AnnounceError::Redirect(RedirectError::TooMany));
    bench.assert_clean();
}

#[test]
fn a_redirect_from_the_internet_to_a_private_address_is_refused() {
    for to in ["http://127.0.0.1/announce", "http://10.0.0.1/", "http://0x7f.1/announce"] {
        let mut bench = bench();
        assert_eq!(bench.announce(1, "http://192.0.2.1/announce"), []);
        bench.connected();
        let done = bench.received(&redirected(to));
        assert_eq!(error(&done), AnnounceError::Redirect(RedirectError::Private), "{to}");
        bench.assert_clean();
    }
    let mut bench = bench();
    assert_eq!(bench.announce(1, "http://192.0.2.1/announce"), []);
    bench.connected();
    assert_eq!(bench.received(&redirected("http://b.example/announce")), []);
    let done = bench.resolve(&["[::ffff:192.168.1.1]:80"]);
    assert_eq!(error(&done), AnnounceError::Redirect(RedirectError::Private));
    bench.assert_clean();
}

#[test]
fn ssrf_localhost() {
    let mut bench = bench();
    let done = bench.announce(1, "http://127.0.0.1/unusual-announce-path");
    assert_eq!(error(&done), AnnounceError::AddressRefused);
    assert_eq!(bench.announce(1, "http://localhost/unusual"), []);
    assert_eq!(error(&bench.resolve(&["[::1]:80"])), AnnounceError::AddressRefused);
    assert_eq!(bench.announce(1, "http://127.0.0.1/announce"), []);
    assert_eq!(bench.world.streams.len(), 1);
}

#[test]
fn an_answer_without_end_or_in_another_encoding_is_refused() {
    let cases = [
        ("HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n", AnnounceError::Encoding),
        (
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nde",
            AnnounceError::Gzip(GzipError::Damaged),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
            AnnounceError::Http(crate::http::Error::BodyTooLong),
        ),
        ("HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno", AnnounceError::Status(404)),
    ];
    for (text, expected) in cases {
        let mut bench = bench();
        assert_eq!(bench.announce(1, "http://192.0.2.1/announce"), []);
        bench.connected();
        assert_eq!(error(&bench.received(text)), expected);
        bench.assert_clean();
    }
}

#[test]
fn a_compressed_answer_is_read_and_a_bomb_is_not() {
    let with = |body: &[u8]| {
        let packed = gzip(body);
        let len = packed.len();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len}\r\n\r\n");
        let mut bench = bench();
        assert_eq!(bench.announce(1, "http://192.0.2.1/announce"), []);
        assert!(bench.connected().contains("\r\nAccept-Encoding: gzip\r\n"));
        let bytes = Bytes::from([head.as_bytes(), &packed].concat());
        let done = bench.on_stream(StreamInput::Received(bytes));
        bench.assert_clean();
        done
    };
    let (_, response) = answer(&with(b"d8:intervali900e5:peers0:e"));
    assert_eq!(response.interval, Some(Duration::from_mins(15)));
    let bomb = [&b"d1:a16000000:"[..], &std::vec![b'x'; 16_000_000], b"e"].concat();
    assert_eq!(error(&with(&bomb)), AnnounceError::Gzip(GzipError::TooLong));
}

#[test]
fn a_body_as_long_as_its_stream_is_worth_nothing_if_its_tls_was_cut() {
    for (input, whole) in [
        (StreamInput::ReadClosed, true),
        (StreamInput::Closed(StreamError::Tls(TlsError::Truncated)), false),
        (StreamInput::Closed(StreamError::Reset), true),
    ] {
        let mut bench = bench();
        assert_eq!(bench.announce(1, "https://192.0.2.1/announce"), []);
        bench.connected();
        assert_eq!(bench.received("HTTP/1.1 200 OK\r\n\r\nd8:intervali900e5:peers0:e"), []);
        let done = bench.on_stream(input);
        assert_eq!(matches!(&done[..], [Upward::Announced { result: Ok(_), .. }]), whole);
        bench.assert_clean();
    }
}

fn scrape(bench: &mut Bench, url: &str) -> Done {
    let url = TrackerUrl::parse(url).expect("a URL");
    let hash = InfoHash([0xaa; 20]);
    bench.client.scrape(&mut bench.world, 9, &url, hash, Options::default())
}

fn counted(done: &Done) -> Result<Counts, AnnounceError> {
    match done.as_slice() {
        [Upward::Scraped { token: 9, result }] => result.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tracker_is_scraped_over_http() {
    let hash = "%AA".repeat(20);
    let mut bench = bench();
    assert_eq!(scrape(&mut bench, "http://192.0.2.1/x/announce?k=v"), []);
    let asked = format!("GET /x/scrape?k=v&info_hash={hash} HTTP/1.1\r\n");
    assert!(bench.connected().starts_with(&asked));
    let head = b"HTTP/1.1 200 OK\r\n\r\nd5:filesd20:";
    let counts = b"d8:completei5e10:downloadedi50e10:incompletei10eeee";
    let bytes = [&head[..], &[0xaa; 20], counts].concat();
    let done = bench.on_stream(StreamInput::Received(bytes.into()));
    let done = if done.is_empty() { bench.on_stream(StreamInput::ReadClosed) } else { done };
    assert_eq!(counted(&done), Ok(Counts { seeders: 5, downloaded: 50, leechers: 10 }));
    bench.assert_clean();
    // One that knows nothing of it, and one that cannot be asked.
    assert_eq!(scrape(&mut bench, "http://192.0.2.1/announce"), []);
    bench.connected();
    let done = bench.received("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nd5:filesdeee");
    let none = AnnounceError::Malformed("it has no counts of this torrent");
    assert_eq!(counted(&done), Err(none));
    let done = scrape(&mut bench, "http://192.0.2.1/a");
    assert_eq!(counted(&done), Err(AnnounceError::NoScrape));
    bench.assert_clean();
}

#[test]
fn a_tracker_is_scraped_over_udp() {
    let mut bench = bench();
    let to = address("192.0.2.1:6969");
    assert_eq!(scrape(&mut bench, "udp://192.0.2.1:6969/announce"), []);
    let transaction = connect_asked(&mut bench, to);
    let connection = ConnectionId(7);
    assert_eq!(bench.datagram(to, &Response::Connect { transaction, connection }), []);
    let (_, bytes) = bench.client.pop_datagram().expect("a scrape");
    let Ok(Request::Scrape { connection: ConnectionId(7), transaction, hashes }) =
        Request::parse(&bytes)
    else {
        panic!("a scrape")
    };
    assert_eq!(hashes, [0xaa; 20]);
    // What answers another question is not the answer to this one.
    let peers =
        Response::Announce { transaction, interval: 1, leechers: 0, seeders: 0, peers: b"" };
    assert_eq!(bench.datagram(to, &peers), []);
    let counts = Counts { seeders: 1, downloaded: 2, leechers: 3 };
    let answer = Response::Scrape { transaction, counts: &counts.to_bytes() };
    let done = bench.datagram(to, &answer);
    assert_eq!(counted(&done), Ok(counts));
    bench.assert_clean();
}

#[test]
fn the_tls_of_a_redirect_is_for_the_host_it_leads_to() {
    let mut bench = bench();
    assert_eq!(bench.announce(1, "http://192.0.2.1/announce"), []);
    bench.connected();
    let text = "HTTP/1.1 301 x\r\nLocation: https://other.example/announce\r\n\r\n";
    assert_eq!(bench.received(text), []);
    assert_eq!(bench.resolve(&["192.0.2.7:443"]), []);
    let (id, to) = bench.stream();
    assert_eq!(to, address("192.0.2.7:443"));
    let tls = &bench.world.streams.get(id).expect("open").1;
    assert_eq!(tls.as_deref(), Some("other.example"));
    bench.connected();
    // And there is no way back.
    let text = "HTTP/1.1 301 x\r\nLocation: http://other.example/announce\r\n\r\n";
    let downgrade = RedirectError::Downgrade;
    assert_eq!(error(&bench.received(text)), AnnounceError::Redirect(downgrade));
    bench.assert_clean();
}

#[test]
fn answers_without_end_are_given_up_before_they_cost_much() {
    use crate::http::Error as E;
    let ok = "HTTP/1.1 200 OK\r\n";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let head = Limits::TRACKER.head;
    let body = Limits::TRACKER.body as usize;
    // What it begins with, what it goes on with, and how many bytes that takes at most.
    let cases = [
        (ok.into(), "X-Pad: x\r\n", head, None),
        (ok.into(), "x", head, Some(E::HeadTooLong)),
        (format!("{ok}\r\n"), "xxxxxxxxxxxxxxxx", body, Some(E::BodyTooLong)),
        (chunked.into(), "8\r\nxxxxxxxx\r\n", 2 * body, Some(E::BodyTooLong)),
        (format!("{chunked}1;"), "x", 300, Some(E::BadChunk)),
        (format!("{chunked}0\r\n"), "X: y\r\n", head, Some(E::HeadTooLong)),
        (format!("{chunked}ffffffffffffffffff"), "f", 100, Some(E::BadChunk)),
        (format!("{chunked}-1\r\n"), "x", 100, Some(E::BadChunk)),
        (format!("{chunked}3\r\nabcd"), "x", 100, Some(E::BadChunk)),
    ];
    for (begin, unit, most, expected) in cases {
        let mut bench = bench();
        assert_eq!(bench.announce(1, "http://192.0.2.1/announce"), []);
        bench.connected();
        let mut done = bench.received(&begin);
        let mut bytes = 0;
        let more = unit.repeat(50);
        while done.is_empty() && bytes <= most + 4 * more.len() {
            done = bench.received(&more);
            bytes += more.len();
        }
        let why = error(&done);
        assert!(matches!(why, AnnounceError::Http(_)), "{begin:?}: {why}");
        if let Some(expected) = expected {
            assert_eq!(why, AnnounceError::Http(expected), "{begin:?}");
        }
        bench.assert_clean();
    }
}

fn connect_asked(bench: &mut Bench, to: SocketAddr) -> TransactionId {
    let (sent_to, bytes) = bench.client.pop_datagram().expect("a datagram");
    assert_eq!(sent_to, to);
    let Ok(Request::Connect { transaction }) = Request::parse(&bytes) else { panic!("connect") };
    transaction
}

fn announce_asked(bench: &mut Bench, to: SocketAddr) -> (TransactionId, ConnectionId, Vec<u8>) {
    let (sent_to, bytes) = bench.client.pop_datagram().expect("a datagram");
    assert_eq!(sent_to, to);
    match Request::parse(&bytes) {
        Ok(Request::Announce { connection, transaction, options, .. }) => {
            (transaction, connection, udp::url_data(options))
        }
        other => panic!("{other:?}"),
    }
}

const UDP: &str = "udp://192.0.2.1:6969/announce";

fn announced(transaction: TransactionId) -> Response<'static> {
    let peers = &[10, 0, 0, 1, 0, 5];
    Response::Announce { transaction, interval: 900, leechers: 1, seeders: 2, peers }
}

#[test]
fn udp_tracker() {
    let mut bench = bench();
    let to = address("192.0.2.1:6969");
    assert_eq!(bench.announce(1, UDP), []);
    assert_eq!(bench.announce(2, UDP), []);
    let transaction = connect_asked(&mut bench, to);
    assert_eq!(bench.client.pop_datagram(), None, "one connection id serves both");
    let connection = ConnectionId(99);
    let response = Response::Connect { transaction, connection };
    assert_eq!(bench.datagram(address("192.0.2.2:6969"), &response), [], "not from there");
    assert_eq!(bench.client.pop_datagram(), None);
    assert_eq!(bench.datagram(address("[::ffff:192.0.2.1]:6969"), &response), []);
    let (first, used, data) = announce_asked(&mut bench, to);
    assert_eq!((used, &data[..]), (connection, &b"/announce"[..]));
    let (second, ..) = announce_asked(&mut bench, to);
    let (token, response) = answer(&bench.datagram(to, &announced(second)));
    assert_eq!((token, response.peers.len(), response.seeders), (2, 1, Some(2)));
    assert_eq!(answer(&bench.datagram(to, &announced(first))).0, 1);
    assert_eq!(bench.datagram(to, &announced(first)), []);
    assert_eq!(bench.pass(59), []);
    assert_eq!(bench.announce(3, UDP), []);
    let (third, ..) = announce_asked(&mut bench, to);
    answer(&bench.datagram(to, &announced(third)));
    bench.pass(2);
    assert_eq!(bench.announce(4, UDP), []);
    connect_asked(&mut bench, to);
    assert_eq!(bench.client.cancel(&mut bench.world, |token| *token == 4).len(), 1);
    bench.assert_clean();
}

#[test]
fn a_refused_connection_id_from_before_is_asked_for_again_once() {
    let mut bench = bench();
    let to = address("192.0.2.1:6969");
    let connection = ConnectionId(1);
    assert_eq!(bench.announce(1, UDP), []);
    let transaction = connect_asked(&mut bench, to);
    assert_eq!(bench.datagram(to, &Response::Connect { transaction, connection }), []);
    let (transaction, ..) = announce_asked(&mut bench, to);
    answer(&bench.datagram(to, &announced(transaction)));
    assert_eq!(bench.announce(2, UDP), []);
    let (transaction, ..) = announce_asked(&mut bench, to);
    let refused = |transaction| Response::Error { transaction, reason: b"no\x1b" };
    assert_eq!(bench.datagram(to, &refused(transaction)), []);
    let transaction = connect_asked(&mut bench, to);
    assert_eq!(bench.datagram(to, &Response::Connect { transaction, connection }), []);
    let (transaction, ..) = announce_asked(&mut bench, to);
    let done = bench.datagram(to, &refused(transaction));
    assert_eq!(error(&done), AnnounceError::Refused { reason: "no".into(), retry: None });
    bench.assert_clean();
}

#[test]
fn a_silent_udp_tracker_is_asked_at_0_15_and_45_seconds_and_given_up_at_60() {
    let mut bench = bench();
    assert_eq!(bench.announce(1, "udp://a.example:1"), []);
    assert_eq!(bench.resolve(&["192.0.2.1:1", "192.0.2.2:1"]), []);
    let mut asked = Vec::new();
    for second in 0..60 {
        while let Some((to, _)) = bench.client.pop_datagram() {
            asked.push((second, to.ip().to_canonical() == address("192.0.2.1:1").ip()));
        }
        if second < 59 {
            assert_eq!(bench.pass(1), []);
        }
    }
    assert_eq!(asked, [(0, true), (15, false), (45, true)]);
    assert_eq!(error(&bench.pass(1)), AnnounceError::TimedOut);
    bench.assert_clean();
}

#[test]
fn all_eight_retries_are_made_when_there_is_time() {
    let mut bench = bench();
    bench.client.config.total_timeout = Duration::from_hours(24);
    assert_eq!(bench.announce(1, UDP), []);
    assert_eq!(error(&bench.pass(15 * 511)), AnnounceError::TimedOut);
    let mut count = 0;
    while bench.client.pop_datagram().is_some() {
        count += 1;
    }
    assert_eq!(count, 9);
    bench.assert_clean();
}

#[test]
fn an_answer_of_a_head_alone_and_an_unreachable_port_end_an_announce() {
    let mut bench = bench();
    let to = address("192.0.2.1:6969");
    assert_eq!(bench.announce(1, UDP), []);
    let transaction = connect_asked(&mut bench, to);
    let connection = ConnectionId(1);
    assert_eq!(bench.datagram(to, &Response::Connect { transaction, connection }), []);
    let (transaction, ..) = announce_asked(&mut bench, to);
    let bytes = [&[0, 0, 0, 1][..], &transaction.0.to_be_bytes()].concat();
    let done = bench.client.on_datagram(&mut bench.world, to, &bytes);
    assert!(matches!(error(&done), AnnounceError::Malformed(_)));
    assert_eq!(bench.announce(1, UDP), []);
    let done = bench.client.on_unreachable(&mut bench.world, to);
    assert_eq!(error(&done), AnnounceError::Stream(StreamError::Unreachable));
    bench.assert_clean();
}

#[test]
fn force_reannounce_high_priority_skips_queue() {
    let mut bench = bench();
    bench.client.config.http_max = 1;
    for token in 0..3 {
        assert_eq!(bench.announce(token, "http://192.0.2.1/announce"), []);
    }
    let url = TrackerUrl::parse("http://192.0.2.9/announce").expect("a URL");
    let urgent = Options { urgent: true, ..Options::default() };
    let done = bench.client.announce(&mut bench.world, 9, &url, request(), urgent);
    assert_eq!(done, []);
    assert_eq!(bench.world.streams.len(), 1);
    bench.connected();
    answer(&bench.received("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nde"));
    assert_eq!(bench.stream().1, address("192.0.2.9:80"));
    assert_eq!(bench.client.cancel(&mut bench.world, |_| true).len(), 3);
    bench.assert_clean();
}

#[test]
fn a_stop_at_shutdown_has_two_seconds_even_if_its_turn_never_comes() {
    let mut bench = bench();
    bench.client.config.http_max = 1;
    assert_eq!(bench.announce(1, "http://192.0.2.1/announce"), []);
    for url in ["http://192.0.2.2/announce", UDP] {
        let url = TrackerUrl::parse(url).expect("a URL");
        let options = Options { urgent: false, ..Options::SHUTDOWN };
        assert_eq!(bench.client.announce(&mut bench.world, 2, &url, request(), options), []);
    }
    let done = bench.pass(2);
    assert_eq!(done.len(), 2, "{done:?}");
    assert_eq!(bench.client.len(), 1);
}

#[test]
fn more_announces_than_there_is_room_for_end_at_once() {
    let mut bench = bench();
    for token in 0..EXCHANGES_MAX as u32 {
        assert_eq!(bench.announce(token, "http://192.0.2.1/announce"), []);
    }
    assert_eq!(error(&bench.announce(0, UDP)), AnnounceError::Busy);
    assert_eq!(bench.world.streams.len(), 64);
    assert_eq!(bench.client.cancel(&mut bench.world, |_| true).len(), EXCHANGES_MAX);
    bench.assert_clean();
}

#[derive(Clone, Debug)]
enum Step {
    Announce(u8),
    Resolve(u8),
    Connected,
    Failed,
    Received(Vec<u8>),
    End(bool),
    Pass(u8),
    Udp(u8, Vec<u8>),
    Unreachable,
    Cancel(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![
        Just(ANSWER.as_bytes().to_vec()),
        Just(redirected("/x").into_bytes()),
        Just(redirected("http://b.example/x").into_bytes()),
        Just(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nde".to_vec()),
        prop::collection::vec(any::<u8>(), 0..30),
    ];
    let step = prop_oneof![
        3 => any::<u8>().prop_map(Step::Announce),
        2 => any::<u8>().prop_map(Step::Resolve),
        2 => Just(Step::Connected),
        1 => Just(Step::Failed),
        2 => bytes.prop_map(Step::Received),
        1 => any::<bool>().prop_map(Step::End),
        1 => any::<u8>().prop_map(Step::Pass),
        3 => (0_u8..5, prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(action, rest)| Step::Udp(action, rest)),
        1 => Just(Step::Unreachable),
        1 => (0_u32..40).prop_map(Step::Cancel),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn each_announce_ends_exactly_once_and_leaves_nothing_behind(steps in steps()) {
        let mut bench = bench();
        bench.client.config.http_max = 2;
        bench.client.config.udp_max = 3;
        let urls = ["http://a.example/announce", "https://192.0.2.1/x", UDP, "udp://a.example:1"];
        let (mut asked, mut done) = (0_u32, Vec::new());
        let mut last = None;
        for step in steps {
            done.extend(match step {
                Step::Announce(which) => {
                    asked += 1;
                    bench.announce(asked, urls[usize::from(which) % 4])
                }
                Step::Resolve(how) if !bench.world.jobs.is_empty() => {
                    let found = ["192.0.2.1:6969", "10.0.0.1:1", "[2001:db8::1]:1"];
                    bench.resolve(&found[..usize::from(how) % 4])
                }
                Step::Connected if !bench.world.streams.is_empty() => {
                    bench.on_stream(StreamInput::Connected { local: address("10.0.0.1:1") })
                }
                Step::Failed if !bench.world.streams.is_empty() => {
                    bench.on_stream(StreamInput::ConnectFailed(StreamError::Refused))
                }
                Step::Received(bytes) if !bench.world.streams.is_empty() => {
                    bench.on_stream(StreamInput::Received(Bytes::from(bytes)))
                }
                Step::End(clean) if !bench.world.streams.is_empty() => {
                    let closed = StreamInput::Closed(StreamError::Reset);
                    bench.on_stream(if clean { StreamInput::ReadClosed } else { closed })
                }
                Step::Pass(seconds) => bench.pass(u64::from(seconds) / 4),
                Step::Udp(action, rest) => {
                    while let Some((to, bytes)) = bench.client.pop_datagram() {
                        last = Some((to, bytes));
                    }
                    let Some((to, bytes)) = &last else { continue };
                    let answer = [&[0, 0, 0, action], &bytes[12..16], &rest].concat();
                    bench.client.on_datagram(&mut bench.world, *to, &answer)
                }
                Step::Unreachable => {
                    bench.client.on_unreachable(&mut bench.world, address("192.0.2.1:6969"))
                }
                Step::Cancel(which) => {
                    bench.client.cancel(&mut bench.world, |token| *token == which)
                }
                _ => continue,
            });
        }
        done.extend(bench.pass(100_000));
        let mut tokens: Vec<u32> =
            done.iter().map(token).collect();
        tokens.sort_unstable();
        prop_assert_eq!(tokens, (1..=asked).collect::<Vec<_>>());
        bench.assert_clean();
    }
}

#[test]
fn a_tracker_of_ours_answers_a_client_of_ours() {
    use crate::ids::ListenerId;
    use crate::machine::{Incoming, Input, Machine};
    use crate::tracker::server::{Config as ServerConfig, Server};

    let now = Instant::ORIGIN;
    let mut server = Server::new(now, ServerConfig::default(), &Seed::from_number(2));
    let on = <ListenerId as Key>::from_parts(0, 1);
    let mut ports = Vec::new();
    for token in 1..=2 {
        let mut bench = bench();
        assert_eq!(bench.announce(token, "http://192.0.2.1:6969/key/announce"), []);
        let asked = bench.connected();
        let incoming = Incoming { on, from: address("192.0.2.7:9"), local: bench.stream().1 };
        let id = server.accept(now, incoming).expect("room");
        let received = StreamInput::Received(Bytes::from(asked.into_bytes()));
        server.handle_input(now, Input::Stream(id, received));
        let mut parts = Vec::new();
        server.poll_send(now, id, usize::MAX, &mut parts);
        let mut done = Vec::new();
        // Byte by byte, up to where the length says that it is all.
        for byte in parts.concat() {
            if done.is_empty() {
                done = bench.on_stream(StreamInput::Received(Bytes::copy_from_slice(&[byte])));
            }
        }
        let (told, response) = answer(&done);
        assert_eq!(told, token);
        assert_eq!(response.external_ip, Some(address("192.0.2.7:9").ip()));
        ports.push((response.peers.len(), response.leechers));
        bench.assert_clean();
    }
    // Both came from one address and port: they are one peer, which is never told of itself.
    assert_eq!(ports, [(0, Some(1)), (0, Some(1))]);
}
