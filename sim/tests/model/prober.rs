//! A machine that sends what it is told to and notes what arrives, and networks of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use teem_core::ids::{Key, ListenerId, SocketId, StreamId};
use teem_core::machine::{
    Bind, Connect, Incoming, Input, Listen, Machine, Output, SocketInput, StreamInput, Transmit,
    TransmitLimit,
};
use teem_core::rng::Seed;
use teem_core::time::{Duration, Instant};
use teem_sim::net::{Access, Fidelity, HostId, Net, NetConfig};

const PORT: u16 = 1;

/// Sends bytes on a stream, or datagrams, and notes what arrives when.
#[derive(Debug, Default)]
pub(crate) struct Prober {
    pub(crate) out: Vec<Output>,
    /// Bytes to send on the stream that it dialled.
    pub(crate) to_send: usize,
    pub(crate) lent: usize,
    pub(crate) datagrams: Vec<(SocketAddr, usize)>,
    pub(crate) arrived: Vec<(Instant, usize)>,
    pub(crate) failed: bool,
    /// What the network said of datagrams: the largest that would pass.
    pub(crate) too_big: Vec<usize>,
    pub(crate) connected: bool,
    pub(crate) is_closed: bool,
}

pub(crate) fn stream(slot: u32) -> StreamId {
    StreamId::from_parts(slot, 1)
}

impl Prober {
    pub(crate) fn listening() -> Self {
        let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT);
        let listener = ListenerId::from_parts(0, 1);
        let socket = SocketId::from_parts(0, 1);
        let bind = Bind { socket, address, reuse: false, multicast: None };
        let listen = Listen { listener, address, tls: false };
        Self {
            out: vec![Output::Bind(bind.into()), Output::Listen(listen.into())],
            ..Self::default()
        }
    }

    pub(crate) fn dial(&mut self, slot: u32, to: SocketAddr, bytes: usize) {
        let connect = Connect { stream: stream(slot), to, from: None, tls: None };
        self.out.push(Output::Connect(connect.into()));
        self.to_send = bytes;
    }

    pub(crate) fn cast(&mut self, to: SocketAddr, len: usize) {
        self.datagrams.push((to, len));
        self.out.push(Output::WantTransmit(SocketId::from_parts(0, 1)));
    }
}

impl Machine for Prober {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Stream(_, StreamInput::Connected { .. }) => self.connected = true,
            Input::Stream(id, StreamInput::Sent(count)) => {
                self.to_send -= count;
                self.lent = 0;
                if self.to_send > 0 {
                    self.out.push(Output::WantWrite(id));
                }
            }
            Input::Stream(_, StreamInput::Received(bytes)) => self.arrived.push((now, bytes.len())),
            Input::Stream(_, StreamInput::ConnectFailed(_)) => self.failed = true,
            Input::Stream(_, StreamInput::Closed(_)) => self.is_closed = true,
            Input::Datagram(datagram) => self.arrived.push((now, datagram.data.len())),
            Input::Socket(_, SocketInput::Failed(why)) => panic!("{why}"),
            Input::Socket(_, SocketInput::TooBig { size, .. }) => self.too_big.push(size),
            _ => {}
        }
    }

    fn accept(&mut self, _: Instant, _: Incoming) -> Option<StreamId> {
        Some(stream(100))
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop()
    }

    fn poll_send(&mut self, _: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        if id == stream(100) || self.lent > 0 || self.to_send == 0 {
            return 0;
        }
        self.lent = max.min(self.to_send);
        out.push(Bytes::from(vec![7; self.lent]));
        self.lent
    }

    fn poll_transmit(
        &mut self,
        _: Instant,
        _: SocketId,
        _: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let (to, len) = self.datagrams.pop()?;
        buf.resize(len, 7);
        Some(Transmit { to, from: None, ecn: None, len, segment: None })
    }

    fn recv_credit(&self, _: StreamId) -> usize {
        usize::MAX
    }
}

pub(crate) fn ip(host: HostId) -> IpAddr {
    IpAddr::from([192, 0, 2, host as u8 + 1])
}

pub(crate) fn at(host: HostId) -> SocketAddr {
    SocketAddr::new(ip(host), PORT)
}

pub(crate) fn network(fidelity: Fidelity, hosts: &[Access]) -> Net<Prober> {
    let between = Duration::from_millis(10);
    let mut net = Net::with(NetConfig { fidelity, between, seed: Seed::from_number(1) });
    for (host, access) in hosts.iter().enumerate() {
        net.add_attached(ip(host), *access, Prober::listening());
    }
    net
}

pub(crate) fn run(net: &mut Net<Prober>, seconds: u64) {
    run_millis(net, 1_000 * seconds);
}

pub(crate) fn run_millis(net: &mut Net<Prober>, millis: u64) {
    net.run_until(Duration::from_millis(millis), |_| false).expect("no host spins");
}

/// The sizes of what arrived at a host.
pub(crate) fn sizes(net: &Net<Prober>, host: HostId) -> Vec<usize> {
    net.machine(host).arrived.iter().map(|(_, len)| *len).collect()
}

/// Hosts that can be cut off from each other: the first is in group 1, the second in group 2.
pub(crate) const fn grouped(mut hosts: [Access; 2]) -> [Access; 2] {
    hosts[0].groups = 1;
    hosts[1].groups = 2;
    hosts
}

/// What a stream carries in a number of seconds over a way on which one in a hundred is lost, in
/// bytes, by the formula of Mathis, Semke, Mahdavi and Ott (1997).
pub(crate) fn mathis(round_trip_s: f64, seconds: f64) -> f64 {
    1.22 * 1_448.0 / (round_trip_s * 0.1) * seconds
}

/// Whether a count is within 99.9 % of a binomial distribution.
pub(crate) fn is_likely(found: f64, of: f64, share: f64) -> bool {
    (found - of * share).abs() < 3.3 * (of * share * (1.0 - share)).sqrt()
}

pub(crate) fn link(up: u64, down: u64) -> Access {
    Access { up_bytes_per_s: Some(up), down_bytes_per_s: Some(down), ..Access::PERFECT }
}
