//! The tracker, driven through the contract.

use super::*;
use crate::machine::StreamError;
use crate::tracker::announce::{AnnounceEvent, AnnounceRequest, AnnounceResponse};
use crate::tracker::http::{announce_target, parse_response};
use crate::{
    http::{Limits as HttpLimits, ResponseParser},
    ids::{InfoHash, PeerId},
};
use proptest::prelude::*;
use std::format;

struct Bench {
    server: Server,
    now: Instant,
    listener: ListenerId,
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn bench(config: Config) -> Bench {
    let now = Instant::ORIGIN;
    let mut server = Server::new(now, config, &Seed::from_number(1));
    server.handle_command(now, Command::Listen(CommandToken(1), address("[::]:6969")));
    let Some(Output::Listen(listen)) = server.poll_output() else { panic!("a listen") };
    let bound = ListenerInput::Bound(listen.address);
    server.handle_input(now, Input::Listener(listen.listener, bound));
    assert_eq!(server.poll_event(), Some(Event::Listening(CommandToken(1), listen.address)));
    Bench { server, now, listener: listen.listener }
}

impl Bench {
    fn accept(&mut self, from: &str) -> Option<StreamId> {
        let (from, local) = (address(from), address("[::]:6969"));
        self.server.accept(self.now, Incoming { on: self.listener, from, local })
    }

    fn receive(&mut self, id: StreamId, bytes: &[u8]) {
        let input = StreamInput::Received(Bytes::copy_from_slice(bytes));
        self.server.handle_input(self.now, Input::Stream(id, input));
    }

    /// All that the tracker sends on a stream.
    fn sent(&mut self, id: StreamId) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let mut parts = Vec::new();
            let count = self.server.poll_send(self.now, id, 1_000, &mut parts);
            if count == 0 {
                return all;
            }
            all.extend_from_slice(&parts.concat());
            self.server.handle_input(self.now, Input::Stream(id, StreamInput::Sent(count)));
        }
    }

    /// One request on a stream of its own; status and body.
    fn get(&mut self, from: &str, target: &str) -> (u16, Vec<u8>) {
        let id = self.accept(from).expect("room");
        let text = format!("GET {target} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        self.receive(id, text.as_bytes());
        let answer = parsed(&self.sent(id));
        while let Some(output) = self.server.poll_output() {
            if output == (Output::Close { stream: id, how: Shutdown::Graceful }) {
                return answer;
            }
        }
        panic!("the stream is closed after the answer");
    }

    fn announce(&mut self, from: &str, request: &AnnounceRequest) -> AnnounceResponse {
        let (status, body) = self.get(from, &announce_target("/announce", request));
        parse_response(&body, status).expect("an answer")
    }

    fn failure(&mut self, target: &str) -> String {
        let (status, body) = self.get("192.0.2.9:1", target);
        match parse_response(&body, status) {
            Err(error) => format!("{error}"),
            Ok(response) => panic!("{response:?}"),
        }
    }
}

fn parsed(bytes: &[u8]) -> (u16, Vec<u8>) {
    let mut input = Bytes::copy_from_slice(bytes);
    let mut parser = ResponseParser::new(HttpLimits::TRACKER);
    let Ok(Some(Item::Head(head))) = parser.next(&mut input) else { panic!("a head") };
    let mut body = Vec::new();
    while let Ok(Some(Item::Body(part))) = parser.next(&mut input) {
        body.extend_from_slice(&part);
    }
    (head.status, body)
}

fn request(port: u16, left: u64) -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash([0xaa; 20]),
        peer_id: PeerId([b'p'; 20]),
        port,
        uploaded: 0,
        downloaded: 0,
        left: Some(left),
        event: AnnounceEvent::Started,
        num_want: None,
        key: 1,
        ipv4: None,
        ipv6: Some("2001:db8::666".parse().expect("an address")),
        tracker_id: None,
    }
}

#[test]
fn peers_of_both_families_find_each_other() {
    let mut bench = bench(Config::default());
    let first = bench.announce("[::ffff:192.0.2.1]:5000", &request(1, 9));
    assert_eq!(first.peers, []);
    assert_eq!(first.external_ip, Some("192.0.2.1".parse().expect("an address")));
    assert_eq!(first.interval, Some(Duration::from_mins(30)));
    bench.announce("[2001:db8::1]:5000", &request(2, 0));
    let third = bench.announce("192.0.2.1:5001", &request(3, 9));
    let addresses: Vec<_> = third.peers.iter().map(|peer| peer.address).collect();
    assert_eq!(addresses, [address("192.0.2.1:1"), address("[2001:db8::1]:2")]);
    assert_eq!((third.seeders, third.leechers), (Some(1), Some(2)));
    let stopped = AnnounceRequest { event: AnnounceEvent::Stopped, ..request(1, 9) };
    let stopped = bench.announce("192.0.2.1:5002", &stopped);
    assert_eq!((stopped.peers.len(), stopped.leechers), (0, Some(1)));
    assert_eq!(bench.server.stats().peers, 2);
    assert_eq!(bench.server.stats().streams, 0);
}

#[test]
fn a_dictionary_is_written_for_who_wants_one() {
    let mut bench = bench(Config::default());
    bench.announce("192.0.2.1:5000", &request(1, 9));
    let target = announce_target("/passkey/announce", &request(2, 9));
    let target = target.replace("compact=1", "compact=0");
    let (status, body) = bench.get("192.0.2.2:5000", &target);
    let response = parse_response(&body, status).expect("an answer");
    assert_eq!(response.peers[0].id, Some(PeerId([b'p'; 20])));
    let (_, body) = bench.get("192.0.2.2:5000", &(target + "&no_peer_id=1"));
    assert_eq!(parse_response(&body, status).expect("an answer").peers[0].id, None);
}

#[test]
fn num_want_is_kept_within_its_limit() {
    let mut bench = bench(Config::default());
    for port in 1..=300 {
        bench.announce("192.0.2.1:5000", &request(port, 9));
    }
    for (asked, got) in [(Some(0), 0), (Some(7), 7), (None, 50), (Some(u32::MAX), 200)] {
        let request = AnnounceRequest { num_want: asked, ..request(301, 9) };
        assert_eq!(bench.announce("192.0.2.1:5000", &request).peers.len(), got);
    }
}

#[test]
fn a_scrape_counts_each_hash_once() {
    let mut bench = bench(Config::default());
    bench.announce("192.0.2.1:5000", &request(1, 0));
    let hash = "%aa".repeat(20);
    let other = "b".repeat(20);
    let (_, body) = bench.get(
        "192.0.2.1:1",
        &format!("/scrape?info_hash={other}&info_hash={hash}&info_hash={hash}"),
    );
    let expected = [
        &b"d5:filesd20:bbbbbbbbbbbbbbbbbbbbd8:completei0e10:downloadedi0e10:incompletei0ee20:"[..],
        &[0xaa; 20],
        b"d8:completei1e10:downloadedi0e10:incompletei0eeee",
    ];
    assert_eq!(body, expected.concat());
    let many = format!("info_hash={other}&").repeat(65);
    assert!(bench.failure(&format!("/scrape?{many}")).contains("too many"));
    assert!(bench.failure("/scrape").contains("missing info_hash"));
}

#[test]
fn what_is_wrong_with_an_announce_is_said_in_bencode() {
    let mut bench = bench(Config::default());
    let good = announce_target("/announce", &request(1, 9));
    let cases = [
        ("/announce".into(), "missing port"),
        (good.replace("port=1", "port=0"), "invalid port"),
        (good.replace("port=1", "port=65536"), "invalid port"),
        (good.replace("left=9", "left=x"), "invalid left"),
        (good.replace("peer_id=p", "peer_id="), "invalid peer_id"),
        (good.replace("info_hash=%AA", "info_hash="), "invalid info_hash"),
        (good.replace("info_hash=", "hash="), "missing info_hash"),
        (format!("{good}&info_hash={}", "x".repeat(20)), "more than one"),
    ];
    for (target, reason) in cases {
        let failure = bench.failure(&target);
        assert!(failure.contains(reason), "{target}: {failure}");
    }
    assert_eq!(bench.server.stats().failures, 8);
}

#[test]
fn other_paths_and_methods_have_their_status() {
    let mut bench = bench(Config::default());
    for (target, status) in [("/", 404), ("/a/b/announce", 404), ("*", 400), ("/health", 200)] {
        assert_eq!(bench.get("192.0.2.1:1", target).0, status, "{target}");
    }
    let (_, stats) = bench.get("192.0.2.1:1", "/stats");
    assert!(stats.starts_with(b"torrents 0\npeers 0\nstreams 1\n"), "{}", stats.escape_ascii());
    let id = bench.accept("192.0.2.1:1").expect("room");
    bench.receive(id, b"POST /announce HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(parsed(&bench.sent(id)).0, 405);
    let id = bench.accept("192.0.2.1:1").expect("room");
    bench.receive(id, b"POST /announce HTTP/1.1\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(parsed(&bench.sent(id)).0, 413);
    let id = bench.accept("192.0.2.1:1").expect("room");
    bench.receive(id, format!("GET /{} HTTP/1.1\r\n", "x".repeat(9_000)).as_bytes());
    assert_eq!(parsed(&bench.sent(id)).0, 431);
}

#[test]
fn requests_in_a_row_are_answered_in_a_row_and_wait_for_room() {
    let mut bench = bench(Config::default());
    let id = bench.accept("192.0.2.1:1").expect("room");
    let count = 1_000;
    bench.receive(id, &b"GET /health HTTP/1.1\r\n\r\n".repeat(count));
    assert_eq!(bench.server.recv_credit(id), 0);
    let queued = bench.server.streams.get(id).expect("open").send.len();
    assert!(queued < BACKLOG_MAX + 1_000, "{queued}");
    let sent = bench.sent(id);
    let answers = sent.windows(4).filter(|window| window == b"\r\n\r\n").count();
    assert_eq!(answers, count);
    assert_eq!(bench.server.recv_credit(id), RECV_CREDIT);
}

#[test]
fn a_slow_head_an_idle_stream_and_an_answer_not_taken_are_closed() {
    let config = Config::default();
    let close = |bench: &mut Bench, id| {
        let deadline = bench.server.poll_timeout().expect("armed");
        bench.now = deadline.at;
        bench.server.handle_input(bench.now, Input::Timeout);
        let mut outputs = core::iter::from_fn(|| bench.server.poll_output());
        assert!(outputs.any(|o| o == Output::Close { stream: id, how: Shutdown::Abort }));
        deadline.at.saturating_since(Instant::ORIGIN)
    };
    let mut slow = bench(config);
    let id = slow.accept("192.0.2.1:1").expect("room");
    for second in 0..5 {
        slow.now = Instant::ORIGIN + Duration::from_secs(second);
        slow.receive(id, b"G");
    }
    assert_eq!(close(&mut slow, id), config.head_timeout);

    let mut stuck = bench(config);
    let id = stuck.accept("192.0.2.1:1").expect("room");
    stuck.receive(id, b"GET /health HTTP/1.1\r\n\r\n");
    stuck.server.handle_input(stuck.now, Input::Timeout);
    while stuck.server.poll_timeout().is_some_and(|d| d.at < stuck.now + config.send_timeout) {
        stuck.now = stuck.server.poll_timeout().expect("armed").at;
        stuck.server.handle_input(stuck.now, Input::Timeout);
        stuck.now = Instant::ORIGIN;
    }
    assert_eq!(close(&mut stuck, id), config.send_timeout);

    let mut idle = bench(config);
    let id = idle.accept("192.0.2.1:1").expect("room");
    idle.receive(id, b"GET /health HTTP/1.1\r\n\r\n");
    idle.sent(id);
    let early = idle.server.poll_timeout().expect("armed").at;
    idle.server.handle_input(early, Input::Timeout);
    assert_eq!(close(&mut idle, id), config.idle_timeout);
    assert_eq!(idle.server.stats().timed_out, 1);
    assert!(idle.server.per_address.is_empty());
}

#[test]
fn too_many_streams_of_one_address_are_turned_away() {
    let config = Config { streams_per_address: 2, streams_max: 3, ..Config::default() };
    let mut bench = bench(config);
    let first = bench.accept("192.0.2.1:1").expect("room");
    bench.accept("[::ffff:192.0.2.1]:2").expect("room");
    assert_eq!(bench.accept("192.0.2.1:3"), None);
    bench.accept("192.0.2.2:1").expect("room");
    assert_eq!(bench.accept("192.0.2.3:1"), None);
    let closed = StreamInput::Closed(StreamError::Reset);
    bench.server.handle_input(bench.now, Input::Stream(first, closed));
    bench.accept("192.0.2.1:4").expect("room again");
    bench.server.handle_command(bench.now, Command::Stats(CommandToken(5)));
    let Some(Event::Stats(CommandToken(5), stats)) = bench.server.poll_event() else {
        panic!("stats")
    };
    assert_eq!((stats.refused, stats.streams), (2, 3));
}

#[test]
fn peers_that_are_silent_for_their_lifetime_are_swept_out_and_the_timer_rests() {
    let mut bench = bench(Config::default());
    bench.announce("192.0.2.1:1", &request(1, 9));
    let mut ticks = 0;
    while let Some(deadline) = bench.server.poll_timeout() {
        bench.now = deadline.at;
        bench.server.handle_input(bench.now, Input::Timeout);
        ticks += 1;
        assert!(ticks < 4_000);
    }
    assert_eq!(bench.server.stats().torrents, 0);
    assert!(bench.now >= Instant::ORIGIN + Duration::from_hours(1));
}

proptest! {
    #[test]
    fn arbitrary_requests_never_panic_and_leave_nothing(
        parts in prop::collection::vec(
            prop_oneof![
                Just(b"GET /announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port=1".to_vec()),
                Just(b" HTTP/1.1\r\n".to_vec()),
                Just(b"\r\n".to_vec()),
                Just(b"GET /scrape?info_hash=%".to_vec()),
                Just(b"&left=0&event=completed&compact=0".to_vec()),
                prop::collection::vec(any::<u8>(), 0..20),
            ],
            0..12,
        ),
        reads in any::<bool>(),
    ) {
        let mut bench = bench(Config::default());
        let id = bench.accept("192.0.2.1:1").expect("room");
        for part in parts {
            if !part.is_empty() {
                bench.receive(id, &part);
            }
            if reads {
                bench.sent(id);
            }
        }
        bench.server.handle_input(bench.now, Input::Stream(id, StreamInput::ReadClosed));
        bench.sent(id);
        prop_assert_eq!(bench.server.stats().streams, 0);
        prop_assert!(bench.server.per_address.is_empty());
    }
}

#[test]
fn a_recorded_tracker_lives_its_life_again() {
    use crate::machine::trace::{Recorder, Replayed, replay};
    let now = Instant::ORIGIN;
    let new = || Server::new(now, Config::default(), &Seed::from_number(7));
    let mut server = Recorder::new(new());
    server.handle_command(now, Command::Listen(CommandToken(1), address("[::]:6969")));
    let Some(Output::Listen(listen)) = server.poll_output() else { panic!("a listen") };
    let mut sent = Vec::new();
    for port in 1..=60 {
        let from = address("192.0.2.1:5000");
        let incoming = Incoming { on: listen.listener, from, local: listen.address };
        let id = server.accept(now, incoming).expect("room");
        let target = announce_target("/announce", &request(port, u64::from(port % 2)));
        let text = format!("GET {target} HTTP/1.0\r\n\r\n");
        server.handle_input(now, Input::Stream(id, StreamInput::Received(text.into())));
        let mut parts = Vec::new();
        let count = server.poll_send(now, id, usize::MAX, &mut parts);
        server.handle_input(now, Input::Stream(id, StreamInput::Sent(count)));
        sent.push(parts.concat());
    }
    let mut again = Vec::new();
    replay(&mut new(), &server.take(), |_, seen| {
        if let Replayed::Sent(_, parts) = seen {
            again.push(parts.concat());
        }
    })
    .expect("a whole trace");
    assert_eq!(again, sent);
    assert_eq!(sent.len(), 60);
}
