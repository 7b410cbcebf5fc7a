//! The announce client against a world of bytes: names that resolve or do not, streams that come
//! up, answer, break and stay silent, datagrams that answer, or pretend to.
//!
//! What is held: every announce ends exactly once; only what is open is closed, and only what is
//! asked is forgotten; whoever sleeps until the deadline gets past it; and when the world falls
//! silent, everything ends, and nothing stays open.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use teem_core::ids::{InfoHash, JobId, PeerId, Slab, StreamId};
use teem_core::machine::{JobError, JobErrorKind, JobOutput, Shutdown, StreamError, StreamInput};
use teem_core::rng::Seed;
use teem_core::time::{Duration, Instant};
use teem_core::tracker::announce::{AnnounceEvent, AnnounceRequest};
use teem_core::tracker::client::{Client, Config, Net, Options, Upward};
use teem_core::tracker::udp::{ConnectionId, Request, Response};
use teem_core::tracker::url::TrackerUrl;

use crate::script::Script;

/// Announces of one script.
const ANNOUNCES_MAX: u32 = 24;

/// Steps of one script.
const STEPS_MAX: usize = 400;

/// Deadlines within which everything ends once nobody answers any more.
const LAST_SLEEPS_MAX: usize = 2_000;

const URLS: &[&str] = &[
    "http://192.0.2.1/announce",
    "http://tracker.example:6969/announce?pass=1",
    "https://tracker.example/a/announce",
    "udp://192.0.2.2:80/announce",
    "udp://t.example:1337",
    "udp://[2001:db8::1]:80",
    "http://127.0.0.1:8080/announce",
    "http://127.0.0.1:8080/admin",
];

struct World {
    now: Instant,
    streams: Slab<StreamId, bool>,
    jobs: Slab<JobId, u16>,
    reaches_v6: bool,
    full: bool,
}

impl Net for World {
    fn now(&self) -> Instant {
        self.now
    }
    fn reaches(&self, address: IpAddr) -> bool {
        address.is_ipv4() || self.reaches_v6
    }
    fn connect(&mut self, _: SocketAddr, _: Option<&str>) -> Option<StreamId> {
        (!self.full).then(|| self.streams.insert(false))
    }
    fn send(&mut self, stream: StreamId, bytes: Bytes) {
        assert_eq!(self.streams.get(stream), Some(&true), "sent on a stream that is up");
        assert!(!bytes.is_empty());
    }
    fn close(&mut self, stream: StreamId, _: Shutdown) {
        assert!(self.streams.remove(stream).is_some(), "closed once");
    }
    fn resolve(&mut self, _: &str, port: u16) -> JobId {
        self.jobs.insert(port)
    }
    fn forget(&mut self, job: JobId) {
        assert!(self.jobs.remove(job).is_some(), "forgotten once");
    }
    fn datagrams_wait(&mut self) {}
}

struct Bench {
    world: World,
    client: Client<u32>,
    /// How often each announce ended.
    ended: Vec<u32>,
    asked: Vec<(SocketAddr, Bytes)>,
}

/// Announces over HTTP and UDP, of which the bytes decide what comes.
pub fn tracker_client(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let habits = script.byte();
    let config = Config {
        http_max: 1 + usize::from(habits & 3),
        udp_max: 1 + usize::from(habits >> 2 & 3),
        ..Config::default()
    };
    let world = World {
        now: Instant::ORIGIN,
        streams: Slab::new(),
        jobs: Slab::new(),
        reaches_v6: habits & 16 == 0,
        full: false,
    };
    let rng = Seed::from_number(3).stream("tracker", 0);
    let client = Client::new(config, "teem", rng);
    let mut bench = Bench { world, client, ended: Vec::new(), asked: Vec::new() };
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        bench.step(&mut script);
    }
    bench.end();
}

impl Bench {
    fn done(&mut self, upward: Vec<Upward<u32>>) {
        for ended in upward {
            let (Upward::Announced { token, .. } | Upward::Scraped { token, .. }) = ended;
            let ended = &mut self.ended[token as usize];
            *ended += 1;
            assert_eq!(*ended, 1, "announce {token} ends once");
        }
        while let Some(datagram) = self.client.pop_datagram() {
            assert!(Request::parse(&datagram.1).is_ok(), "we ask properly");
            self.asked.push(datagram);
        }
        let open = self.ended.iter().filter(|count| **count == 0).count();
        assert_eq!(self.client.len(), open, "what did not end is under way");
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 16 {
            0..=2 => self.announce(script),
            3 | 4 => self.resolve(script),
            5..=9 => self.stream(script),
            10..=12 => self.datagram(script),
            13 => self.sleep(),
            14 => {
                self.world.now += Duration::from_micros(1 << (script.byte() % 30));
                let done = self.client.on_timeout(&mut self.world);
                self.done(done);
            }
            _ => {
                let which = script.byte();
                let done = match which % 4 {
                    0 => {
                        let token = u32::from(which / 4);
                        self.client.cancel(&mut self.world, |known| *known == token)
                    }
                    1 => {
                        self.world.full = !self.world.full;
                        Vec::new()
                    }
                    _ => {
                        let to = self.asked.last().map(|(to, _)| *to);
                        let to = to.unwrap_or_else(|| ([192, 0, 2, 9], 9).into());
                        self.client.on_unreachable(&mut self.world, to)
                    }
                };
                self.done(done);
            }
        }
    }

    fn announce(&mut self, script: &mut Script<'_>) {
        let (which, how) = (script.below(URLS.len()), script.byte());
        let token = self.ended.len() as u32;
        if token >= ANNOUNCES_MAX {
            return;
        }
        self.ended.push(0);
        let url = TrackerUrl::parse(URLS[which]).expect("sound");
        let request = AnnounceRequest {
            info_hash: InfoHash([how; 20]),
            peer_id: PeerId([2; 20]),
            port: 6881,
            uploaded: 0,
            downloaded: u64::from(how),
            left: (how & 1 == 1).then_some(5),
            event: [AnnounceEvent::None, AnnounceEvent::Started, AnnounceEvent::Stopped]
                [usize::from(how) % 3],
            num_want: (how & 2 == 2).then_some(30),
            key: 1,
            ipv4: None,
            ipv6: (how & 8 == 8).then(|| [1; 16].into()),
            tracker_id: (how & 4 == 4).then(|| vec![b'i'].into()),
        };
        let options = if how & 0x30 == 0 { Options::SHUTDOWN } else { Options::default() };
        let done = if how & 0x18 == 0x18 {
            self.client.scrape(&mut self.world, token, &url, request.info_hash, options)
        } else {
            self.client.announce(&mut self.world, token, &url, request, options)
        };
        self.done(done);
    }

    fn resolve(&mut self, script: &mut Script<'_>) {
        let how = script.byte();
        let Some((job, port)) = self.world.jobs.iter().map(|(id, port)| (id, *port)).next() else {
            return;
        };
        self.world.jobs.remove(job);
        let v4 = SocketAddr::from(([192, 0, 2, how / 32], port));
        let v6 = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7], port));
        let result = match how % 8 {
            0 => Err(JobError { kind: JobErrorKind::NoSuchHost, detail: "none".into() }),
            1 => Ok(JobOutput::Done),
            2 => Ok(JobOutput::Resolved([].into())),
            3 => Ok(JobOutput::Resolved(vec![v4; 12].into())),
            4 => Ok(JobOutput::Resolved([([127, 0, 0, 1], port).into(), v4].into())),
            5 => Ok(JobOutput::Resolved([v6, v4].into())),
            _ => Ok(JobOutput::Resolved([v4].into())),
        };
        let done = self.client.on_job(&mut self.world, job, result);
        self.done(done);
    }

    fn stream(&mut self, script: &mut Script<'_>) {
        let ids: Vec<_> = self.world.streams.keys().collect();
        let (id, how) = (script.one_of(&ids), script.byte());
        let Some(id) = id else { return };
        assert!(self.client.owns(id) && self.client.recv_credit(id) > 0);
        let up = self.world.streams.get_mut(id).expect("it is there");
        let input = match (*up, how % 8) {
            (false, 0 | 4) => {
                self.world.streams.remove(id);
                StreamInput::ConnectFailed(StreamError::Refused)
            }
            (false, _) => {
                *up = true;
                StreamInput::Connected { local: ([10, 0, 0, 1], 1).into() }
            }
            (true, 0) => StreamInput::ReadClosed,
            (true, 1) => {
                self.world.streams.remove(id);
                StreamInput::Closed(StreamError::Reset)
            }
            (true, 2) => StreamInput::Sent(usize::from(how)),
            (true, 3) => StreamInput::Received(Bytes::copy_from_slice(script.run())),
            (true, _) => StreamInput::Received(answer(how, script)),
        };
        if matches!(&input, StreamInput::Received(bytes) if bytes.is_empty()) {
            return;
        }
        let done = self.client.on_stream(&mut self.world, id, input);
        self.done(done);
    }

    /// An answer to the last question, or to none.
    fn datagram(&mut self, script: &mut Script<'_>) {
        let (how, back) = (script.byte(), script.byte());
        let at = self.asked.len().checked_sub(1 + usize::from(back % 4));
        let Some((to, asked)) = at.and_then(|at| self.asked.get(at)).cloned() else { return };
        let mut out = Vec::new();
        let peers = [192, 0, 2, how, 0x1a, 0xe1];
        let response = match Request::parse(&asked).expect("we ask properly") {
            Request::Connect { transaction } if how % 8 > 1 => {
                Response::Connect { transaction, connection: ConnectionId(how.into()) }
            }
            Request::Announce { transaction, .. } if how % 8 > 1 => Response::Announce {
                transaction,
                interval: u32::from(how) * 10,
                leechers: 1,
                seeders: 1,
                peers: &peers,
            },
            Request::Connect { transaction }
            | Request::Announce { transaction, .. }
            | Request::Scrape { transaction, .. } => {
                Response::Error { transaction, reason: script.run() }
            }
        };
        response.write(&mut out);
        if how % 16 == 15 {
            out.truncate(usize::from(how / 16));
        }
        let from = if how % 32 == 16 { ([192, 0, 2, 77], 7).into() } else { to };
        let done = self.client.on_datagram(&mut self.world, from, &out);
        self.done(done);
    }

    fn sleep(&mut self) {
        let Some(at) = self.client.next_deadline() else { return };
        self.world.now = self.world.now.max(at);
        let done = self.client.on_timeout(&mut self.world);
        self.done(done);
        let next = self.client.next_deadline();
        assert!(next.is_none_or(|next| next > self.world.now), "time stands still");
    }

    /// Nobody answers any more: everything ends.
    fn end(&mut self) {
        for _ in 0..LAST_SLEEPS_MAX {
            if self.client.is_empty() {
                break;
            }
            assert!(self.client.next_deadline().is_some(), "it waits for nothing, for ever");
            self.sleep();
        }
        assert!(self.client.is_empty(), "{} announces never end", self.client.len());
        assert!(self.world.streams.is_empty() && self.world.jobs.is_empty(), "nothing stays open");
        assert!(self.ended.iter().all(|count| *count == 1));
    }
}

fn answer(how: u8, script: &mut Script<'_>) -> Bytes {
    let body: &[u8] = match how / 8 % 8 {
        0 => b"d14:failure reason4:nope8:retry in1:3e",
        1 => b"d8:intervali60e5:peersld2:ip9:127.0.0.14:porti6881eeee",
        2 => script.run(),
        _ => b"d8:intervali1800e5:peers6:\x0a\x00\x02\x01\x1a\xe1e",
    };
    let len = body.len();
    let head = match how / 8 {
        8 => format!(
            "HTTP/1.1 302 F\r\nLocation: http://192.0.2.3/o\r\nContent-Length: {len}\r\n\r\n"
        ),
        9 => "HTTP/1.1 307 F\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n".into(),
        10 => "HTTP/1.1 302 F\r\nLocation: http://127.0.0.1/announce\r\n\r\n".into(),
        11 => "HTTP/1.0 200 OK\r\n\r\n".into(),
        12 => format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{len:x}\r\n"),
        13 => format!("HTTP/1.1 503 No\r\nContent-Length: {len}\r\n\r\n"),
        14 => format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len}\r\n\r\n"),
        _ => format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n"),
    };
    let end: &[u8] = if how / 8 == 12 { b"\r\n0\r\n\r\n" } else { b"" };
    [head.as_bytes(), body, end].concat().into()
}
