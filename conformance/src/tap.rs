//! Notes what a machine sees and does, and tells it in a form that all drivers share.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fmt::Write;

use bytes::Bytes;
use teem_core::hash::sha1;
use teem_core::ids::{JobId, SocketId, StreamId};
use teem_core::machine::{
    Application, Deadline, Incoming, Input, Job, ListenerInput, Machine, Output, Shutdown,
    SocketInput, StreamInput, Transmit, TransmitLimit,
};
use teem_core::time::Instant;

/// A machine that is listened in on.
#[derive(Debug)]
pub struct Tap<M> {
    machine: M,
    live: BTreeMap<StreamId, Stream>,
    lines: Vec<String>,
    /// Datagrams, per socket in their order.
    datagrams: BTreeMap<SocketId, String>,
    raw: Raw,
}

/// All that came out, as it was.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Raw {
    /// Control outputs without the edges, which depend on when they are taken.
    pub outputs: Vec<Output>,
    /// Bytes lent, per stream.
    pub lent: BTreeMap<StreamId, Vec<u8>>,
    /// Datagrams.
    pub datagrams: Vec<(SocketId, Vec<u8>)>,
    /// Events.
    pub events: Vec<String>,
}

impl Raw {
    /// Notes a control output.
    pub fn output(&mut self, output: &Output) {
        match output {
            Output::WantRead(_)
            | Output::WantWrite(_)
            | Output::WantTransmit(_)
            | Output::WantJob => {}
            output => self.outputs.push(output.clone()),
        }
    }

    /// Notes lent bytes.
    pub fn lent(&mut self, stream: StreamId, parts: &[Bytes]) {
        let all = self.lent.entry(stream).or_default();
        for part in parts {
            all.extend_from_slice(part);
        }
    }
}

#[derive(Debug, Default)]
struct Stream {
    facts: Vec<String>,
    received: Vec<u8>,
    sent: Vec<u8>,
    loan: Vec<Bytes>,
}

impl Stream {
    fn new(fact: String) -> Self {
        Self { facts: vec![fact], ..Self::default() }
    }

    fn settle(&mut self, count: usize) {
        let mut left = count;
        for part in self.loan.drain(..) {
            let take = left.min(part.len());
            self.sent.extend_from_slice(&part[..take]);
            left -= take;
        }
        assert_eq!(left, 0, "no more was sent than lent");
    }

    fn line(self) -> String {
        let Self { facts, received, sent, .. } = self;
        format!("stream {}; in {}; out {}", facts.join(", "), sum(&received), sum(&sent))
    }
}

fn sum(bytes: &[u8]) -> String {
    format!("{} bytes {:02x?}", bytes.len(), &sha1(bytes)[..4])
}

impl<M> Tap<M> {
    /// Listens in on `machine`.
    pub fn new(machine: M) -> Self {
        Self {
            machine,
            live: BTreeMap::new(),
            lines: Vec::new(),
            datagrams: BTreeMap::new(),
            raw: Raw::default(),
        }
    }

    /// The machine inside.
    pub const fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// Streams that are not closed.
    pub fn streams(&self) -> usize {
        self.live.len()
    }

    /// All that came out.
    pub const fn raw(&self) -> &Raw {
        &self.raw
    }

    /// What happened: per stream and per socket in order; across them sorted; ports removed.
    pub fn normalised(&self) -> String {
        let lines = self.lines.iter().chain(self.datagrams.values());
        let mut lines: Vec<_> = lines.map(|line| without_ports(line)).collect();
        lines.sort();
        lines.join("\n")
    }

    fn on_stream(&mut self, id: StreamId, input: &StreamInput) {
        let Some(stream) = self.live.get_mut(&id) else { return };
        let dead = matches!(input, StreamInput::Closed(_) | StreamInput::ConnectFailed(_));
        match input {
            StreamInput::Received(bytes) => {
                assert!(!bytes.is_empty(), "never zero bytes");
                stream.received.extend_from_slice(bytes);
            }
            StreamInput::Sent(count) => stream.settle(*count),
            other => stream.facts.push(format!("{other:?}")),
        }
        if dead {
            self.lines.extend(self.live.remove(&id).map(Stream::line));
        }
    }

    fn on_close(&mut self, id: StreamId, how: Shutdown) {
        let Some(mut stream) = self.live.remove(&id) else { return };
        if how == Shutdown::Graceful {
            // What was handed over arrives first.
            stream.settle(stream.loan.iter().map(Bytes::len).sum());
        }
        stream.facts.push(format!("close {how:?}"));
        self.lines.push(stream.line());
    }
}

/// Takes `:12345` after addresses away.
fn without_ports(text: &str) -> String {
    let mut parts = text.split("127.0.0.1:");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|at: char| at.is_ascii_digit());
        write!(plain, "127.0.0.1{rest}").expect("a string takes it");
    }
    plain
}

impl<M: Machine> Machine for Tap<M> {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match &input {
            Input::Stream(id, input) => self.on_stream(*id, input),
            Input::Datagram(datagram) => {
                let line = self.datagrams.entry(datagram.socket).or_default();
                write!(line, "in {} {}; ", datagram.from, sum(datagram.data))
                    .expect("a string takes it");
            }
            Input::Job(_, result) => self.lines.push(format!("job {result:?}")),
            Input::Listener(_, ListenerInput::Bound(address)) => {
                self.lines.push(format!("listening {address}"));
            }
            Input::Socket(id, SocketInput::Bound(address)) => {
                let line = self.datagrams.entry(*id).or_default();
                write!(line, "bound {address}; ").expect("a string takes it");
            }
            Input::Listener(..) | Input::Socket(..) => self.lines.push(format!("{input:?}")),
            _ => {}
        }
        self.machine.handle_input(now, input);
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) -> Option<StreamId> {
        let stream = self.machine.accept(now, incoming)?;
        let fact = format!("from {} to {}", incoming.from, incoming.local);
        let old = self.live.insert(stream, Stream::new(fact));
        assert!(old.is_none(), "a granted stream is new");
        Some(stream)
    }

    fn poll_output(&mut self) -> Option<Output> {
        let output = self.machine.poll_output()?;
        self.raw.output(&output);
        match &output {
            Output::Connect(connect) => {
                let fact = format!("dialled {}", connect.to);
                self.live.insert(connect.stream, Stream::new(fact));
            }
            Output::Close { stream, how } => self.on_close(*stream, *how),
            _ => {}
        }
        Some(output)
    }

    fn poll_job(&mut self) -> Option<(JobId, Job)> {
        self.machine.poll_job()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.machine.poll_timeout()
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        on: SocketId,
        limit: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let transmit = self.machine.poll_transmit(now, on, limit, buf)?;
        let data = &buf[buf.len() - transmit.len..];
        self.raw.datagrams.push((on, data.to_vec()));
        let line = self.datagrams.entry(on).or_default();
        write!(line, "out {} {}; ", transmit.to, sum(data)).expect("a string takes it");
        Some(transmit)
    }

    fn poll_send(&mut self, now: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        let before = out.len();
        let count = self.machine.poll_send(now, id, max, out);
        let parts = &out[before..];
        assert_eq!(count, parts.iter().map(Bytes::len).sum::<usize>());
        assert!(count <= max, "no more than asked for");
        if count > 0 {
            self.raw.lent(id, parts);
        }
        if let Some(stream) = self.live.get_mut(&id)
            && count > 0
        {
            assert!(stream.loan.is_empty(), "one loan at a time");
            stream.loan = parts.to_vec();
        }
        count
    }

    fn recv_credit(&self, stream: StreamId) -> usize {
        self.machine.recv_credit(stream)
    }
}

impl<M: Application<Event: Debug>> Application for Tap<M> {
    type Command = M::Command;
    type Event = M::Event;

    fn handle_command(&mut self, now: Instant, command: M::Command) {
        self.machine.handle_command(now, command);
    }

    fn poll_event(&mut self) -> Option<M::Event> {
        let event = self.machine.poll_event()?;
        self.raw.events.push(format!("{event:?}"));
        let event_text = format!("{event:?}");
        let (start, rest) = event_text.split_at(event_text.len().min(60));
        // Addresses stand at the start; payloads may be long.
        let rest = if rest.is_empty() { String::new() } else { sum(rest.as_bytes()) };
        self.lines.push(format!("event {start}{rest}"));
        Some(event)
    }
}
