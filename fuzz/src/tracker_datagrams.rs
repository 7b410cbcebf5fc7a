//! The tracker over UDP: nobody who has not shown that it receives what is sent to it gets more
//! bytes than it sent.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use teem_core::ids::{CommandToken, InfoHash, PeerId, SocketId};
use teem_core::machine::{
    Application, Datagram, Input, Machine, Output, SocketInput, TransmitLimit,
};
use teem_core::rng::Seed;
use teem_core::time::{Duration, Instant};
use teem_core::tracker::announce::AnnounceEvent;
use teem_core::tracker::server::{CONNECTION_WINDOW, Command, Config, DATAGRAM_MAX, Server};
use teem_core::tracker::udp::{
    Announce, ConnectionId, Request, Response, SCRAPE_MAX, TransactionId,
};

use crate::script::Script;

/// Who sends.
const SENDERS: [&str; 4] =
    ["192.0.2.1:1000", "192.0.2.2:53", "[2001:db8::1]:1000", "[2001:db8::2]:53"];

/// Datagrams in one run.
const DATAGRAMS_MAX: usize = 400;

struct Bench {
    server: Server,
    socket: SocketId,
    now: Instant,
    /// The ids that each address was given, and when.
    given: BTreeMap<(IpAddr, u64), Instant>,
    last: u64,
    /// Bytes that came without proof, and that went for them.
    unproven: [usize; 2],
}

/// Datagrams from some addresses, with right, old, stolen and made up connection ids.
pub fn tracker_datagrams(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let now = Instant::ORIGIN;
    let mut server = Server::new(now, Config::default(), &Seed::from_number(4));
    let at = SocketAddr::from(([10, 0, 0, 1], 6969));
    server.handle_command(now, Command::Bind(CommandToken(1), at));
    let Some(Output::Bind(bind)) = server.poll_output() else { panic!("a socket") };
    let socket = bind.socket;
    server.handle_input(now, Input::Socket(socket, SocketInput::Bound(at)));
    let (given, unproven) = (BTreeMap::new(), [0; 2]);
    let mut bench = Bench { server, socket, now, given, last: 0, unproven };
    for _ in 0..DATAGRAMS_MAX {
        if script.is_over() {
            break;
        }
        bench.step(&mut script);
    }
    let stats = bench.server.stats();
    assert!(bench.unproven[1] <= bench.unproven[0], "{:?}", bench.unproven);
    assert!(stats.udp_bytes_in >= bench.unproven[0] as u64);
}

impl Bench {
    fn step(&mut self, script: &mut Script<'_>) {
        let how = script.byte();
        let from: SocketAddr = SENDERS[usize::from(how & 3)].parse().expect("an address");
        let mut data = Vec::new();
        match how >> 2 & 7 {
            0 => data.extend_from_slice(script.run()),
            1 => self.now += Duration::from_secs(u64::from(script.byte())),
            2 | 3 => {
                let transaction = TransactionId(u32::from(script.byte()));
                Request::Connect { transaction }.write(&mut data);
            }
            4 => {
                let connection = self.id(script);
                let transaction = TransactionId(1);
                let hashes = vec![script.byte(); script.below(SCRAPE_MAX + 9) * 20];
                Request::Scrape { connection, transaction, hashes: &hashes }.write(&mut data);
            }
            _ => {
                let (connection, options) = (self.id(script), script.run());
                let announce = announce(script);
                let transaction = TransactionId(2);
                Request::Announce { connection, transaction, announce, options }.write(&mut data);
            }
        }
        self.say(from, &data);
    }

    /// An id: the last one that anybody got, or any, or one that is a bit off.
    fn id(&self, script: &mut Script<'_>) -> ConnectionId {
        ConnectionId(match script.byte() % 8 {
            0 => script.u64(),
            1 => self.last ^ 1 << script.below(64),
            2 => self.given.keys().next().map_or(0, |(_, id)| *id),
            _ => self.last,
        })
    }

    fn say(&mut self, from: SocketAddr, data: &[u8]) {
        let socket = self.socket;
        let datagram = Datagram { socket, from, local: None, ecn: None, stride: 0, data };
        self.server.handle_input(self.now, Input::Datagram(datagram));
        let parsed = Request::parse(data);
        let given = match parsed {
            Ok(Request::Announce { connection, .. } | Request::Scrape { connection, .. }) => {
                self.given.get(&(from.ip(), connection.0)).copied()
            }
            _ => None,
        };
        let age = given.map(|at| self.now.saturating_since(at));
        let proven = age.is_some_and(|age| age < CONNECTION_WINDOW.saturating_mul(2));
        let (mut went, mut answers) = (0, 0);
        let mut buf = Vec::new();
        let limit = TransmitLimit::ONE;
        while let Some(sent) = self.server.poll_transmit(self.now, socket, limit, &mut buf) {
            assert_eq!(sent.to, from, "an answer goes to who asked");
            assert!(sent.len <= DATAGRAM_MAX);
            let answer = Response::parse(&buf).expect("we answer properly");
            if let Response::Connect { connection, .. } = answer {
                self.last = connection.0;
                self.given.insert((from.ip(), connection.0), self.now);
            }
            went += sent.len;
            answers += 1;
            buf.clear();
        }
        assert!(answers <= 1);
        if !proven {
            assert!(went <= data.len(), "{went} bytes for {}", data.len());
            self.unproven[0] += data.len();
            self.unproven[1] += went;
        }
        if age.is_some_and(|age| age < CONNECTION_WINDOW) {
            assert_eq!(answers, 1, "whoever has an id is served with it");
        }
    }
}

fn announce(script: &mut Script<'_>) -> Announce {
    let events = [
        AnnounceEvent::None,
        AnnounceEvent::Started,
        AnnounceEvent::Stopped,
        AnnounceEvent::Completed,
    ];
    Announce {
        info_hash: InfoHash([script.byte() % 4; 20]),
        peer_id: PeerId([script.byte(); 20]),
        downloaded: 0,
        left: u64::from(script.byte() % 3),
        uploaded: 0,
        event: events[script.below(4)],
        ip: [192, 0, 2, script.byte()].into(),
        key: 0,
        num_want: i32::from(script.byte()) - 20,
        port: script.u16(),
    }
}
