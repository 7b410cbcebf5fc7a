//! A machine that does what a test says, and remembers what it was told; and a network of such.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use teem_core::ids::{ListenerId, Slab, SocketId, StreamId};
use teem_core::machine::{
    Bind, Connect, Datagram, Incoming, Input, Listen, Machine, Output, Shutdown, SocketInput,
    StreamError, StreamInput, Transmit, TransmitLimit,
};
use teem_core::rng::Seed;
use teem_core::time::{Duration, Instant};
use teem_sim::nat::{Kind, NatConfig};
use teem_sim::net::{Fidelity, HostId, NatId, Net, NetConfig};

/// The port that stations are bound to and listen on.
pub(crate) const PORT: u16 = 4_000;

/// One way between any two hosts.
pub(crate) const LATENCY: Duration = Duration::from_millis(20);

/// What happened to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was called and accepted, from that address.
    Accepted(SocketAddr),
    /// It called, and is up.
    Connected,
    /// It called, in vain.
    Failed(StreamError),
    /// It came to an end that nobody here wanted.
    Closed(StreamError),
    /// The other side has finished.
    Finished,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Station {
    outputs: VecDeque<Output>,
    socket: Option<SocketId>,
    listeners: Slab<ListenerId, ()>,
    sockets: Slab<SocketId, ()>,
    streams: Slab<StreamId, ()>,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
    to_send: BTreeMap<StreamId, VecDeque<Bytes>>,
    /// Whether it answers each datagram that does not begin with `re:`.
    pub(crate) answers: bool,
    /// Datagrams: from whom, and what.
    pub(crate) heard: Vec<(SocketAddr, Vec<u8>)>,
    /// What happened to streams, in order.
    pub(crate) fates: Vec<(StreamId, Fate)>,
    /// Bytes that came on streams.
    pub(crate) received: BTreeMap<StreamId, Vec<u8>>,
    /// The addresses that it was told are its own.
    pub(crate) own: Vec<SocketAddr>,
}

impl Station {
    /// Binds a socket, and listens, at this port.
    pub(crate) fn open(&mut self, port: u16) {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let socket = self.sockets.insert(());
        self.socket = Some(socket);
        let bind = Bind { socket, address, reuse: false, multicast: None };
        self.outputs.push_back(Output::Bind(bind.into()));
        let listener = self.listeners.insert(());
        let listen = Listen { listener, address, tls: false };
        self.outputs.push_back(Output::Listen(listen.into()));
    }

    pub(crate) fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.out.push_back((to, bytes.to_vec()));
        let socket = self.socket.expect("it is open");
        self.outputs.push_back(Output::WantTransmit(socket));
    }

    pub(crate) fn call(&mut self, to: SocketAddr, from: Option<SocketAddr>) -> StreamId {
        let stream = self.streams.insert(());
        let connect = Connect { stream, to, from, tls: None };
        self.outputs.push_back(Output::Connect(connect.into()));
        stream
    }

    pub(crate) fn write(&mut self, stream: StreamId, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        self.to_send.entry(stream).or_default().push_back(bytes);
        self.outputs.push_back(Output::WantWrite(stream));
    }

    pub(crate) fn close(&mut self, stream: StreamId) {
        self.streams.remove(stream);
        self.outputs.push_back(Output::Close { stream, how: Shutdown::Graceful });
    }

    /// From whom it heard this.
    pub(crate) fn heard_from(&self, what: &[u8]) -> Option<SocketAddr> {
        self.heard.iter().find(|(_, bytes)| bytes == what).map(|(from, _)| *from)
    }

    /// What became of a stream last.
    pub(crate) fn fate(&self, stream: StreamId) -> Option<&Fate> {
        self.fates.iter().rev().find(|(of, _)| *of == stream).map(|(_, fate)| fate)
    }

    pub(crate) fn accepted(&self) -> Vec<(StreamId, SocketAddr)> {
        let of = |(stream, fate): &(StreamId, Fate)| match fate {
            Fate::Accepted(from) => Some((*stream, *from)),
            _ => None,
        };
        self.fates.iter().filter_map(of).collect()
    }

    fn on_stream(&mut self, stream: StreamId, input: StreamInput) {
        let fate = match input {
            StreamInput::Connected { local } => {
                self.own.push(local);
                Fate::Connected
            }
            StreamInput::ConnectFailed(why) => Fate::Failed(why),
            StreamInput::Closed(why) => Fate::Closed(why),
            StreamInput::ReadClosed => Fate::Finished,
            StreamInput::Received(bytes) => {
                self.received.entry(stream).or_default().extend_from_slice(&bytes);
                return;
            }
            StreamInput::Sent(_) => return,
        };
        if matches!(fate, Fate::Failed(_) | Fate::Closed(_)) {
            self.streams.remove(stream);
        }
        self.fates.push((stream, fate));
    }
}

impl Machine for Station {
    fn handle_input(&mut self, _: Instant, input: Input<'_>) {
        match input {
            Input::Datagram(Datagram { from, data, .. }) => {
                self.heard.push((from, data.to_vec()));
                if self.answers && !data.starts_with(b"re:") {
                    self.send(from, &[b"re:", data].concat());
                }
            }
            Input::Socket(_, SocketInput::Bound(own) | SocketInput::AddressChanged(own)) => {
                self.own.push(own);
            }
            Input::Stream(stream, input) => self.on_stream(stream, input),
            _ => {}
        }
    }

    fn accept(&mut self, _: Instant, incoming: Incoming) -> Option<StreamId> {
        let stream = self.streams.insert(());
        self.own.push(incoming.local);
        self.fates.push((stream, Fate::Accepted(incoming.from)));
        Some(stream)
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_transmit(
        &mut self,
        _: Instant,
        _: SocketId,
        _: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let (to, bytes) = self.out.pop_front()?;
        buf.extend_from_slice(&bytes);
        Some(Transmit { to, from: None, ecn: None, len: bytes.len(), segment: None })
    }

    fn poll_send(
        &mut self,
        _: Instant,
        stream: StreamId,
        max: usize,
        out: &mut Vec<Bytes>,
    ) -> usize {
        let Some(queue) = self.to_send.get_mut(&stream) else { return 0 };
        let Some(mut bytes) = queue.pop_front() else { return 0 };
        let rest = bytes.split_off(bytes.len().min(max));
        if !rest.is_empty() {
            queue.push_front(rest);
        }
        let len = bytes.len();
        out.push(bytes);
        len
    }

    fn recv_credit(&self, _: StreamId) -> usize {
        1 << 20
    }
}

/// A network of stations.
pub(crate) struct World {
    pub(crate) net: Net<Station>,
    /// Public addresses that were given out.
    public: u32,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(Fidelity::Message)
    }

    pub(crate) fn of(fidelity: Fidelity) -> Self {
        let seed = Seed::from_number(1);
        Self { net: Net::with(NetConfig { fidelity, between: LATENCY, seed }), public: 0 }
    }

    pub(crate) fn public_ip(&mut self) -> Ipv4Addr {
        self.public += 1;
        Ipv4Addr::from_bits(u32::from_be_bytes([203, 0, 0, 0]) + self.public)
    }

    /// A station on the public network, open.
    pub(crate) fn station(&mut self) -> HostId {
        let ip = self.public_ip();
        let host = self.net.add(ip.into(), Station::default());
        self.at(host).open(PORT);
        host
    }

    pub(crate) fn nat(&mut self, config: NatConfig) -> NatId {
        let ip = self.public_ip();
        self.net.add_nat(config, &[ip], None)
    }

    /// A station behind a NAT, open.
    pub(crate) fn inside(&mut self, nat: NatId) -> HostId {
        let host = self.net.add(Ipv4Addr::new(10, 9, 9, 9).into(), Station::default());
        self.net.put_behind(host, nat);
        self.at(host).open(PORT);
        host
    }

    /// A station on the public network (none) or behind a NAT of its own.
    pub(crate) fn behind(&mut self, config: Option<NatConfig>) -> HostId {
        match config {
            None => self.station(),
            Some(config) => {
                let nat = self.nat(config);
                self.inside(nat)
            }
        }
    }

    pub(crate) fn at(&mut self, host: HostId) -> &mut Station {
        self.net.machine_mut(host)
    }

    pub(crate) fn see(&self, host: HostId) -> &Station {
        self.net.machine(host)
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.net.run_until(time, |_| false).expect("no timer is stuck");
    }

    /// The address that a host is bound to, as it knows it.
    pub(crate) fn own(&mut self, host: HostId) -> SocketAddr {
        self.run(Duration::ZERO);
        *self.see(host).own.first().expect("it is bound")
    }

    /// Two hosts tell a third who they are: the addresses that it sees.
    pub(crate) fn meet(&mut self, at: HostId, hosts: [HostId; 2]) -> [SocketAddr; 2] {
        let rendezvous = self.own(at);
        for host in hosts {
            self.at(host).send(rendezvous, format!("I am {host}").as_bytes());
        }
        self.run(Duration::from_secs(1));
        hosts.map(|host| {
            let said = format!("I am {host}");
            self.see(at).heard_from(said.as_bytes()).expect("the way out is open")
        })
    }
}

/// What a host is behind, and as a test names it.
pub(crate) const PLACES: [(&str, Option<Kind>); 5] = [
    ("none", None),
    ("full cone", Some(Kind::FullCone)),
    ("restricted", Some(Kind::RestrictedCone)),
    ("port-restricted", Some(Kind::PortRestricted)),
    ("symmetric", Some(Kind::Symmetric)),
];

pub(crate) fn is_private(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_private())
}
