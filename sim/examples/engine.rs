//! Events per second of the engine, beside the plain event loop that it is measured against.
//!
//! `cargo run --release -p teem-sim --example engine [hosts] [seconds]`: every host sends a message
//! of 100 bytes to another one, drawn at random, ten times a second of virtual time. Once with real
//! hosts on [`Net`], where a message is a datagram and a tick a timer, and once as what is left of
//! that if one takes everything away but the queue: a binary heap of times and hosts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant as Wall;

use teem_core::ids::{Key, SocketId};
use teem_core::machine::{
    Bind, Deadline, Input, Machine, Output, SocketInput, Transmit, TransmitLimit,
};
use teem_core::rng::{Rng, Seed};
use teem_core::time::{Duration, Instant};
use teem_sim::net::Net;

const MESSAGE_LEN: usize = 100;
const EVERY: Duration = Duration::from_millis(100);
const LATENCY: Duration = Duration::from_millis(20);
const PORT: u16 = 9;

fn ip(host: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + host).into()
}

/// Counts what it gets, and sends on time.
#[derive(Debug)]
struct Chatter {
    me: u32,
    hosts: u32,
    rng: Rng,
    next: Instant,
    bound: bool,
    to_send: bool,
    /// The edge that goes with it.
    wanted: bool,
    received: u64,
}

impl Chatter {
    fn new(me: u32, hosts: u32) -> Self {
        let mut rng = Seed::from_number(1).stream("chatter", u64::from(me));
        let first = Duration::from_micros(rng.below(EVERY.as_micros() as u32).into());
        let next = Instant::ORIGIN + first;
        Self { me, hosts, rng, next, bound: false, to_send: false, wanted: false, received: 0 }
    }

    fn socket() -> SocketId {
        SocketId::from_parts(0, 1)
    }
}

/// A random other host.
fn other(me: u32, hosts: u32, rng: &mut Rng) -> u32 {
    let other = rng.below(hosts - 1);
    other + u32::from(other >= me)
}

impl Machine for Chatter {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Timeout => {
                while self.next <= now {
                    self.next += EVERY;
                    self.to_send = true;
                    self.wanted = true;
                }
            }
            Input::Datagram(datagram) => {
                self.received += u64::from(datagram.data.len() == MESSAGE_LEN);
            }
            Input::Socket(_, input) => assert!(matches!(input, SocketInput::Bound(_))),
            _ => {}
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        if !std::mem::replace(&mut self.bound, true) {
            let address = SocketAddr::new(ip(self.me), PORT);
            let bind = Bind { socket: Self::socket(), address, reuse: false, multicast: None };
            return Some(Output::Bind(bind.into()));
        }
        std::mem::take(&mut self.wanted).then_some(Output::WantTransmit(Self::socket()))
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        Some(Deadline { at: self.next, reason: "next message" })
    }

    fn poll_transmit(
        &mut self,
        _: Instant,
        _: SocketId,
        _: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        if !std::mem::take(&mut self.to_send) {
            return None;
        }
        buf.resize(MESSAGE_LEN, self.me as u8);
        let to = SocketAddr::new(ip(other(self.me, self.hosts, &mut self.rng)), PORT);
        Some(Transmit { to, from: None, ecn: None, len: MESSAGE_LEN, segment: None })
    }
}

/// Events, and messages that arrived.
fn engine(hosts: u32, seconds: u64) -> (u64, u64) {
    let mut net = Net::new(LATENCY);
    for host in 0..hosts {
        net.add(ip(host), Chatter::new(host, hosts));
    }
    net.run_until(Duration::from_secs(seconds), |_| false).expect("no host spins");
    let received = (0..net.len()).map(|host| net.machine(host).received).sum();
    (net.counters().events, received)
}

/// The same without hosts, addresses, digests and bytes.
fn bare(hosts: u32, seconds: u64) -> (u64, u64) {
    let end = seconds * 1_000_000;
    let mut rng = Seed::from_number(1).stream("bare", 0);
    let mut heap = BinaryHeap::new();
    let mut received = vec![0_u64; hosts as usize];
    let mut number = 0_u64;
    for host in 0..hosts {
        heap.push(Reverse((u64::from(rng.below(EVERY.as_micros() as u32)), number, host, None)));
        number += 1;
    }
    let mut events = 0;
    while let Some(Reverse((at, _, host, message))) = heap.pop()
        && at <= end
    {
        events += 1;
        if let Some(message) = message {
            received[host as usize] += u64::from(std::hint::black_box(message) != [0; 25]);
            continue;
        }
        let to = other(host, hosts, &mut rng);
        heap.push(Reverse((
            at + LATENCY.as_micros() as u64,
            number,
            to,
            Some([host + 1; MESSAGE_LEN / 4]),
        )));
        heap.push(Reverse((at + EVERY.as_micros() as u64, number + 1, host, None)));
        number += 2;
    }
    (events, received.iter().sum())
}

#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
fn main() {
    let mut args = std::env::args().skip(1);
    let mut number =
        |default: u64| args.next().map_or(default, |text| text.parse().expect("a number"));
    let (hosts, seconds) = (number(10_000) as u32, number(10));
    for (name, run) in [("engine", engine as fn(u32, u64) -> (u64, u64)), ("bare heap", bare)] {
        let start = Wall::now();
        let (events, received) = run(hosts, seconds);
        let took = start.elapsed().as_secs_f64();
        println!(
            "{name}: {hosts} hosts, {seconds} s: {events} events, {received} messages, {took:.2} s, {:.2} M events/s",
            events as f64 / took / 1e6,
        );
    }
}
