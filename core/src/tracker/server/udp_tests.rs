//! The tracker over UDP, driven through the contract, every byte counted.

use super::*;
use crate::ids::{InfoHash, PeerId};
use crate::machine::{Datagram, SocketInput};
use crate::tracker::announce::AnnounceEvent;
use crate::tracker::udp::{
    Announce, ConnectionId, Counts, PROTOCOL, Request, Response, SCRAPE_MAX, TransactionId,
    scrape_counts, write_url_data,
};
use core::net::Ipv4Addr;
use proptest::prelude::*;

const T: TransactionId = TransactionId(0xdead_beef);

struct Bench {
    server: Server,
    now: Instant,
    socket: SocketId,
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn bench(config: Config) -> Bench {
    let now = Instant::ORIGIN + Duration::from_secs(12_345);
    let mut server = Server::new(now, config, &Seed::from_number(1));
    server.handle_command(now, Command::Bind(CommandToken(7), address("0.0.0.0:6969")));
    let Some(Output::Bind(bind)) = server.poll_output() else { panic!("a socket") };
    let bound = SocketInput::Bound(bind.address);
    server.handle_input(now, Input::Socket(bind.socket, bound));
    assert_eq!(server.poll_event(), Some(Event::Listening(CommandToken(7), bind.address)));
    Bench { server, now, socket: bind.socket }
}

impl Bench {
    fn receive(&mut self, from: &str, data: &[u8]) {
        let (socket, from) = (self.socket, address(from));
        let datagram = Datagram { socket, from, local: None, ecn: None, stride: 0, data };
        self.server.handle_input(self.now, Input::Datagram(datagram));
    }

    fn transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let mut buf = Vec::new();
        let limit = TransmitLimit::ONE;
        let transmit = self.server.poll_transmit(self.now, self.socket, limit, &mut buf)?;
        assert_eq!(transmit.len, buf.len());
        Some((transmit.to, buf))
    }

    /// All that is sent in answer to one datagram, which goes to whoever it came from.
    fn say(&mut self, from: &str, data: &[u8]) -> Vec<Vec<u8>> {
        self.receive(from, data);
        let mut all = Vec::new();
        while let Some((to, answer)) = self.transmit() {
            assert_eq!(to, address(from));
            all.push(answer);
        }
        all
    }

    fn connection(&mut self, from: &str) -> ConnectionId {
        let request = written(&Request::Connect { transaction: T });
        let answers = self.say(from, &request);
        assert_eq!(answers.iter().map(Vec::len).sum::<usize>(), request.len());
        let Ok(Response::Connect { transaction: T, connection }) = Response::parse(&answers[0])
        else {
            panic!("a connection id")
        };
        connection
    }

    /// The one answer to a request that shows its proof.
    fn ask(&mut self, from: &str, request: &Request<'_>) -> Vec<u8> {
        let mut answers = self.say(from, &written(request));
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }
}

fn written(request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    request.write(&mut out);
    out
}

fn announce(port: u16, left: u64) -> Announce {
    Announce {
        info_hash: InfoHash([0xaa; 20]),
        peer_id: PeerId([b'p'; 20]),
        downloaded: 0,
        left,
        uploaded: 0,
        event: AnnounceEvent::Started,
        ip: Ipv4Addr::UNSPECIFIED,
        key: 1,
        num_want: -1,
        port,
    }
}

fn request(connection: ConnectionId, announce: Announce) -> Request<'static> {
    Request::Announce { connection, transaction: T, announce, options: b"" }
}

/// Interval, leechers, seeders, and how many bytes of peers.
fn peers(answer: &[u8]) -> (u32, u32, u32, Vec<u8>) {
    match Response::parse(answer) {
        Ok(Response::Announce { transaction: T, interval, leechers, seeders, peers }) => {
            (interval, leechers, seeders, peers.to_vec())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_swarm_meets_over_udp_and_http_sees_the_same() {
    let mut bench = bench(Config::default());
    let seed = bench.connection("192.0.2.1:1000");
    let answer = bench.ask("192.0.2.1:1000", &request(seed, announce(6881, 0)));
    assert_eq!(peers(&answer), (1800, 0, 1, Vec::new()));
    let leech = bench.connection("192.0.2.2:2000");
    let answer = bench.ask("192.0.2.2:2000", &request(leech, announce(6882, 5)));
    assert_eq!(peers(&answer), (1800, 1, 1, b"\xc0\0\x02\x01\x1a\xe1".to_vec()));
    assert_eq!(bench.server.swarms.scrape(&InfoHash([0xaa; 20])).seeders, 1);
    let stats = bench.server.stats();
    assert_eq!((stats.announces, stats.udp_connects, stats.peers), (2, 2, 2));
    assert_eq!(stats.udp_bytes_in, 2 * (16 + 98));
    assert_eq!(stats.udp_bytes_out, 2 * (16 + 20) + 6);
}

#[test]
fn over_ipv6_peers_are_ipv6_and_mapped_senders_are_ipv4() {
    let mut bench = bench(Config::default());
    for (from, port) in [("[2001:db8::1]:9", 1), ("[2001:db8::2]:9", 2), ("192.0.2.1:9", 3)] {
        let connection = bench.connection(from);
        bench.ask(from, &request(connection, announce(port, 5)));
    }
    let from = "[2001:db8::3]:9";
    let connection = bench.connection(from);
    let (_, leechers, _, v6) = peers(&bench.ask(from, &request(connection, announce(4, 5))));
    assert_eq!((leechers, v6.len()), (4, 2 * 18));
    let from = "[::ffff:192.0.2.7]:9";
    let connection = bench.connection(from);
    let (.., v4) = peers(&bench.ask(from, &request(connection, announce(5, 5))));
    assert_eq!(v4, b"\xc0\0\x02\x01\0\x03");
    assert_eq!(bench.connection("192.0.2.7:10"), connection, "the same host");
}

#[test]
fn an_id_is_good_for_its_address_and_for_two_minutes_and_no_longer_than_four() {
    for begun in [0, 1, 119] {
        let mut bench = bench(Config::default());
        let start = CONNECTION_WINDOW.as_secs() * 1_000 + begun;
        bench.now = Instant::ORIGIN + Duration::from_secs(start);
        let id = bench.connection("192.0.2.1:1000");
        let mut say = |from: &str, at: u64| {
            bench.now = Instant::ORIGIN + Duration::from_secs(at);
            bench.say(from, &written(&request(id, announce(1, 1)))).len()
        };
        assert_eq!(say("192.0.2.1:1000", start), 1);
        assert_eq!(say("192.0.2.1:1001", start), 1, "ports change behind translators");
        assert_eq!(say("192.0.2.2:1000", start), 0, "of somebody else");
        assert_eq!(say("[2001:db8::1]:1000", start), 0, "of somebody else");
        assert_eq!(say("192.0.2.1:1000", start + 120), 1);
        assert_eq!(say("192.0.2.1:1000", start + 240), 0, "too old");
        assert_eq!(bench.server.stats().udp_unproven, 3);
    }
}

#[test]
fn ids_that_were_not_given_get_silence_whatever_they_are() {
    let mut bench = bench(Config::default());
    let from = "192.0.2.1:1000";
    let good = bench.connection(from);
    let later = window_of(&bench, from, 1);
    let guesses = [0, PROTOCOL, u64::MAX, good.0 ^ 1, good.0.swap_bytes(), later.0];
    let brute = (0..1 << 16).map(|guess: u64| guess.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut tried = 0;
    for guess in guesses.into_iter().chain(brute) {
        let announce = written(&request(ConnectionId(guess), announce(1, 1)));
        let scrape =
            Request::Scrape { connection: ConnectionId(guess), transaction: T, hashes: &[7; 20] };
        assert!(bench.say(from, &announce).is_empty(), "{guess:#x}");
        assert!(bench.say(from, &written(&scrape)).is_empty(), "{guess:#x}");
        tried += 2;
    }
    assert_eq!(bench.server.stats().udp_unproven, tried);
    assert_eq!(bench.server.stats().peers, 0);
}

/// The id that `from` gets so many windows later.
fn window_of(bench: &Bench, from: &str, windows: u64) -> ConnectionId {
    let mut other = self::bench(Config::default());
    other.now = bench.now + CONNECTION_WINDOW.saturating_mul(windows as u32);
    other.connection(from)
}

#[test]
fn answers_fit_into_a_datagram_however_many_peers_are_wanted() {
    let config = Config { num_want_max: 10_000, ..Config::default() };
    let mut bench = bench(config);
    for port in 1..=300_u16 {
        for from in ["192.0.2.1:9", "[2001:db8::1]:9"] {
            let connection = bench.connection(from);
            let said = Announce { num_want: 0, ..announce(port, 5) };
            let answer = bench.ask(from, &request(connection, said));
            assert_eq!(answer.len(), ANNOUNCE_HEAD, "who wants none gets none");
        }
    }
    for (from, entry) in [("192.0.2.2:9", 6), ("[2001:db8::2]:9", 18)] {
        let connection = bench.connection(from);
        let said = Announce { num_want: i32::MAX, ..announce(1, 5) };
        let answer = bench.ask(from, &request(connection, said));
        assert!(answer.len() <= DATAGRAM_MAX && answer.len() + entry > DATAGRAM_MAX);
        let answer = bench.ask(from, &request(connection, announce(1, 5)));
        assert_eq!(answer.len(), ANNOUNCE_HEAD + entry * config.num_want_default);
    }
}

const ANNOUNCE_HEAD: usize = 20;

#[test]
fn scrapes_are_answered_in_order_and_are_smaller_than_what_asked_for_them() {
    let mut bench = bench(Config { scrape_max: 100, ..Config::default() });
    let from = "192.0.2.1:9";
    let connection = bench.connection(from);
    bench.ask(from, &request(connection, announce(1, 0)));
    let mut hashes = [3; 20 * (SCRAPE_MAX + 5)];
    hashes[20..40].fill(0xaa);
    let scrape = Request::Scrape { connection, transaction: T, hashes: &hashes };
    let answer = bench.ask(from, &scrape);
    let Ok(Response::Scrape { counts, .. }) = Response::parse(&answer) else { panic!("counts") };
    let counts: Vec<Counts> = scrape_counts(counts).collect();
    assert_eq!(counts.len(), SCRAPE_MAX);
    assert_eq!(counts[0], Counts::default());
    assert_eq!(counts[1], Counts { seeders: 1, downloaded: 0, leechers: 0 });
    assert!(answer.len() < written(&scrape).len());
}

#[test]
fn what_cannot_be_served_is_told_to_those_who_proved_who_they_are() {
    let limits = Limits { torrents: 1, ..Limits::default() };
    let mut bench = bench(Config { limits, ..Config::default() });
    let from = "192.0.2.1:9";
    let connection = bench.connection(from);
    let answer = bench.ask(from, &request(connection, announce(0, 1)));
    let reason = |bytes: &[u8]| match Response::parse(bytes) {
        Ok(Response::Error { transaction: T, reason }) => reason.to_vec(),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(&answer), b"invalid port");
    for port in 1..3 {
        bench.ask(from, &request(connection, announce(port, 1)));
    }
    let other = Announce { info_hash: InfoHash([1; 20]), ..announce(1, 1) };
    let answer = bench.ask(from, &request(connection, other));
    assert_eq!(reason(&answer), b"the tracker is full");
    assert_eq!(bench.server.stats().failures, 2);
}

#[test]
fn a_path_that_is_sent_along_is_no_harm() {
    let mut bench = bench(Config::default());
    let connection = bench.connection("192.0.2.1:9");
    let mut options = Vec::new();
    write_url_data(&mut options, "/passkey/announce?x=y");
    let announce = announce(1, 1);
    let request = Request::Announce { connection, transaction: T, announce, options: &options };
    assert_eq!(peers(&bench.ask("192.0.2.1:9", &request)).1, 1);
}

#[test]
fn answers_that_nobody_takes_are_bounded_and_stale_sockets_are_ignored() {
    let mut bench = bench(Config::default());
    let connect = written(&Request::Connect { transaction: T });
    let fit = (ANSWERS_MAX / connect.len()) as u64;
    for _ in 0..fit + 10 {
        bench.receive("192.0.2.1:9", &connect);
    }
    assert_eq!(bench.server.stats().udp_dropped, 10);
    let wants = core::iter::from_fn(|| bench.server.poll_output());
    assert_eq!(wants.filter(|output| matches!(output, Output::WantTransmit(_))).count(), 1);
    let mut taken = 0;
    while bench.transmit().is_some() {
        taken += 1;
    }
    assert_eq!(taken, fit);
    let failed = SocketInput::Failed(SocketError::AddressInUse);
    bench.server.handle_input(bench.now, Input::Socket(bench.socket, failed));
    let event = Event::Failed(CommandToken(7), SocketError::AddressInUse);
    assert_eq!(bench.server.poll_event(), Some(event));
    assert!(bench.say("192.0.2.1:9", &connect).is_empty());
}

#[test]
fn senders_that_cannot_be_answered_are_not() {
    let mut bench = bench(Config::default());
    let connect = written(&Request::Connect { transaction: T });
    for from in ["192.0.2.1:0", "0.0.0.0:9", "239.1.1.1:9", "255.255.255.255:9"] {
        assert!(bench.say(from, &connect).is_empty(), "{from}");
    }
}

/// A datagram as a forger may make one: any bytes, or the shape of a request with any id.
fn forged() -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = prop::collection::vec(any::<u8>(), 0..200);
    let shaped = (prop_oneof![Just(PROTOCOL), any::<u64>()], 0_u32..5, any::<u32>());
    let shaped = (shaped, prop::collection::vec(any::<u8>(), 0..1600));
    prop_oneof![
        1 => any_bytes,
        3 => shaped.prop_map(|((id, action, transaction), rest)| {
            [&id.to_be_bytes()[..], &action.to_be_bytes(), &transaction.to_be_bytes(), &rest]
                .concat()
        }),
    ]
}

proptest! {
    /// Whatever comes from an address that has not shown that it receives what is sent to it, no
    /// more bytes go there than came; over all of it, and for each datagram.
    #[test]
    fn before_proof_no_more_goes_out_than_came_in(
        datagrams in prop::collection::vec((forged(), 0_u64..300, 0_u8..3), 1..40),
    ) {
        let mut bench = bench(Config::default());
        // There is much to be had.
        let friend = bench.connection("192.0.2.1:9");
        for port in 1..100 {
            bench.ask("192.0.2.1:9", &request(friend, announce(port, 5)));
        }
        let mut sums = [(0, 0); 3];
        for (datagram, wait, who) in datagrams {
            bench.now += Duration::from_secs(wait);
            let from = ["198.51.100.1:53", "[2001:db8::53]:53", "203.0.113.9:19"][usize::from(who)];
            let out: usize = bench.say(from, &datagram).iter().map(Vec::len).sum();
            prop_assert!(out <= datagram.len(), "{out} for {}", datagram.len());
            let (came, went) = &mut sums[usize::from(who)];
            *came += datagram.len();
            *went += out;
            prop_assert!(*went <= *came);
        }
        let stats = bench.server.stats();
        prop_assert_eq!(stats.announces, 99, "nobody else announced anything");
    }

    /// A client that did prove itself is sent no more than one datagram for each of its own.
    #[test]
    fn after_proof_an_answer_is_one_datagram(
        num_want in any::<i32>(), port in any::<u16>(), left in 0_u64..2, rest in forged(),
    ) {
        let mut bench = bench(Config::default());
        let connection = bench.connection("192.0.2.1:9");
        let announce = Announce { num_want, ..announce(port, left) };
        let request = Request::Announce { connection, transaction: T, announce, options: &rest };
        let answer = bench.ask("192.0.2.1:9", &request);
        prop_assert!(answer.len() <= DATAGRAM_MAX);
    }
}
