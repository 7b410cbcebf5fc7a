//! A driver in the style of completions: reads and writes are handed to threads, which do them
//! with blocking calls, and tell later what came of it.
//!
//! It shows that the contract does not need readiness: a loan lasts while another thread writes it,
//! and the machine goes on meanwhile. It is made to be simple, not fast.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown as Half, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use bytes::Bytes;
use teem_core::ids::{ListenerId, SocketId, StreamId};
use teem_core::machine::{
    Application, Datagram, Incoming, Input, ListenerInput, Output, Shutdown, SocketInput,
    StreamInput, TransmitLimit,
};
use teem_core::time::Duration;
use teem_io::clock::Clock;
use teem_io::errors::{socket_error, stream_error};
use teem_io::jobs::{Executor, Inline};
use teem_io::net::abort;

use crate::drive::Drive;

/// Blocking calls look this often whether they are still wanted.
const TICK: Duration = Duration::from_millis(5);

/// Largest read, and largest loan.
const PART: usize = 64 * 1024;

/// Some hosts; see the [module](self).
#[derive(Debug)]
pub struct Completion<M> {
    hosts: Vec<Host<M>>,
    clock: Clock,
    done: Receiver<(usize, Done)>,
    doing: Sender<(usize, Done)>,
    /// Ends the threads that nobody else ends.
    over: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Host<M> {
    machine: M,
    executor: Inline,
    streams: BTreeMap<StreamId, Stream>,
    sockets: BTreeMap<SocketId, Arc<UdpSocket>>,
}

#[derive(Debug)]
struct Stream {
    reads: Sender<usize>,
    writes: Sender<WriteOp>,
    reading: bool,
    writing: bool,
}

#[derive(Debug)]
enum WriteOp {
    Write(Vec<Bytes>),
    Finish,
    Abort,
}

/// What a thread has done.
#[derive(Debug)]
enum Done {
    Accepted(ListenerId, TcpStream, SocketAddr),
    Connected(StreamId, std::io::Result<TcpStream>),
    Stream(StreamId, StreamInput),
    Datagram(SocketId, SocketAddr, Vec<u8>),
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().name(name.into()).spawn(work).expect("a thread can be had");
}

impl<M: Application> Completion<M> {
    /// Two hosts.
    pub fn new(machines: [M; 2]) -> Self {
        let (doing, done) = channel();
        let hosts = machines.map(|machine| Host {
            machine,
            executor: Inline::new(),
            streams: BTreeMap::new(),
            sockets: BTreeMap::new(),
        });
        let over = Arc::new(AtomicBool::new(false));
        Self { hosts: hosts.into(), clock: Clock::new(), done, doing, over }
    }

    /// Acts on what a host's machine asks for.
    fn act(&mut self, id: usize) {
        loop {
            while let Some(output) = self.hosts[id].machine.poll_output() {
                self.act_on(id, output);
            }
            let host = &mut self.hosts[id];
            while let Some((job, what)) = host.machine.poll_job() {
                host.executor.submit(job, what);
            }
            let Some((job, result)) = host.executor.try_completion() else { return };
            host.machine.handle_input(self.clock.now(), Input::Job(job, result));
        }
    }

    fn act_on(&mut self, id: usize, output: Output) {
        let now = self.clock.now();
        match output {
            Output::Listen(listen) => {
                let on = listen.listener;
                let input = match TcpListener::bind(listen.address) {
                    Ok(listener) => {
                        let address = listener.local_addr().expect("it is bound");
                        self.accept(id, on, listener);
                        ListenerInput::Bound(address)
                    }
                    Err(error) => ListenerInput::Failed(socket_error(&error)),
                };
                self.hosts[id].machine.handle_input(now, Input::Listener(on, input));
            }
            Output::Bind(bind) => {
                let on = bind.socket;
                let input = match UdpSocket::bind(bind.address) {
                    Ok(socket) => {
                        let address = socket.local_addr().expect("it is bound");
                        self.receive(id, on, socket);
                        SocketInput::Bound(address)
                    }
                    Err(error) => SocketInput::Failed(socket_error(&error)),
                };
                self.hosts[id].machine.handle_input(now, Input::Socket(on, input));
            }
            Output::Connect(connect) => {
                let doing = self.doing.clone();
                spawn("connect", move || {
                    let done = Done::Connected(connect.stream, TcpStream::connect(connect.to));
                    let _ = doing.send((id, done));
                });
            }
            Output::Close { stream, how } => {
                if let Some(stream) = self.hosts[id].streams.remove(&stream) {
                    let op = match how {
                        Shutdown::Graceful => WriteOp::Finish,
                        Shutdown::Abort => WriteOp::Abort,
                    };
                    let _ = stream.writes.send(op);
                }
            }
            Output::WantRead(stream) => self.read(id, stream),
            Output::WantWrite(stream) => self.write(id, stream),
            Output::WantTransmit(socket) => self.transmit(id, socket),
            // Nobody here unlistens; jobs are asked for all the time.
            _ => {}
        }
    }

    fn accept(&self, id: usize, on: ListenerId, listener: TcpListener) {
        let (doing, over) = (self.doing.clone(), Arc::clone(&self.over));
        listener.set_nonblocking(true).expect("set");
        spawn("accept", move || {
            while !over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, from)) => {
                        stream.set_nonblocking(false).expect("set");
                        let _ = doing.send((id, Done::Accepted(on, stream, from)));
                    }
                    Err(_) => std::thread::park_timeout(TICK),
                }
            }
        });
    }

    fn receive(&mut self, id: usize, on: SocketId, socket: UdpSocket) {
        let (doing, over) = (self.doing.clone(), Arc::clone(&self.over));
        socket.set_read_timeout(Some(TICK)).expect("set");
        let socket = Arc::new(socket);
        self.hosts[id].sockets.insert(on, Arc::clone(&socket));
        spawn("receive", move || {
            let mut buf = vec![0; 65_536];
            while !over.load(Ordering::Relaxed) {
                if let Ok((count, from)) = socket.recv_from(&mut buf) {
                    let done = Done::Datagram(on, from, buf[..count].to_vec());
                    let _ = doing.send((id, done));
                }
            }
        });
    }

    fn transmit(&mut self, id: usize, on: SocketId) {
        let host = &mut self.hosts[id];
        let Some(socket) = host.sockets.get(&on) else { return };
        let mut buf = Vec::new();
        let limit = TransmitLimit::ONE;
        while let Some(transmit) = host.machine.poll_transmit(self.clock.now(), on, limit, &mut buf)
        {
            let _ = socket.send_to(&buf, transmit.to);
            buf.clear();
        }
    }

    /// Starts the two threads of a stream.
    fn open(&mut self, id: usize, stream: StreamId, socket: TcpStream) {
        socket.set_nodelay(true).expect("set");
        socket.set_read_timeout(Some(TICK)).expect("set");
        let socket = Arc::new(socket);
        let (reads, to_read) = channel();
        let (writes, to_write) = channel();
        let tell = |doing: Sender<(usize, Done)>| {
            move |input| drop(doing.send((id, Done::Stream(stream, input))))
        };
        let closing = Arc::new(AtomicBool::new(false));
        let (reader, told) = (Arc::clone(&socket), tell(self.doing.clone()));
        let closed = Arc::clone(&closing);
        spawn("read", move || read_all(&reader, &to_read, &closed, told));
        let told = tell(self.doing.clone());
        spawn("write", move || write_all(&socket, &to_write, &closing, told));
        let opened = Stream { reads, writes, reading: false, writing: false };
        self.hosts[id].streams.insert(stream, opened);
    }

    fn read(&mut self, id: usize, stream: StreamId) {
        let host = &mut self.hosts[id];
        let Some(there) = host.streams.get_mut(&stream) else { return };
        let credit = host.machine.recv_credit(stream);
        if credit > 0 && !there.reading {
            there.reading = there.reads.send(credit.min(PART)).is_ok();
        }
    }

    fn write(&mut self, id: usize, stream: StreamId) {
        let host = &mut self.hosts[id];
        let Some(there) = host.streams.get_mut(&stream) else { return };
        if there.writing {
            return;
        }
        let mut loan = Vec::new();
        if host.machine.poll_send(self.clock.now(), stream, PART, &mut loan) > 0 {
            there.writing = there.writes.send(WriteOp::Write(loan)).is_ok();
        }
    }

    fn on_done(&mut self, id: usize, done: Done) {
        let now = self.clock.now();
        match done {
            Done::Accepted(on, socket, from) => {
                // What was closed before comes first: its slot may be granted again.
                self.act(id);
                let local = socket.local_addr().expect("it is connected");
                let incoming = Incoming { on, from, local };
                match self.hosts[id].machine.accept(now, incoming) {
                    Some(stream) => {
                        self.open(id, stream, socket);
                        self.read(id, stream);
                    }
                    None => abort(&socket2::SockRef::from(&socket)),
                }
            }
            Done::Connected(stream, Ok(socket)) => {
                let local = socket.local_addr().expect("it is connected");
                self.open(id, stream, socket);
                let input = Input::Stream(stream, StreamInput::Connected { local });
                self.hosts[id].machine.handle_input(now, input);
                self.read(id, stream);
            }
            Done::Connected(stream, Err(error)) => {
                let input = StreamInput::ConnectFailed(stream_error(&error));
                self.hosts[id].machine.handle_input(now, Input::Stream(stream, input));
            }
            Done::Stream(stream, input) => self.on_stream(id, stream, input),
            Done::Datagram(socket, from, data) => {
                let datagram =
                    Datagram { socket, from, local: None, ecn: None, stride: 0, data: &data };
                self.hosts[id].machine.handle_input(now, Input::Datagram(datagram));
            }
        }
    }

    fn on_stream(&mut self, id: usize, stream: StreamId, input: StreamInput) {
        let host = &mut self.hosts[id];
        let Some(there) = host.streams.get_mut(&stream) else { return };
        match input {
            StreamInput::Received(_) => there.reading = false,
            StreamInput::Sent(_) => there.writing = false,
            StreamInput::Closed(_) => drop(host.streams.remove(&stream)),
            // After `ReadClosed` it reads no more: the read stays out.
            _ => {}
        }
        host.machine.handle_input(self.clock.now(), Input::Stream(stream, input));
        self.read(id, stream);
        self.write(id, stream);
    }
}

fn read_all(
    socket: &TcpStream,
    to_read: &Receiver<usize>,
    closing: &AtomicBool,
    tell: impl Fn(StreamInput),
) {
    let mut buf = vec![0; PART];
    while let Ok(max) = to_read.recv() {
        loop {
            if closing.load(Ordering::Acquire) {
                return;
            }
            let input = match (&mut &*socket).read(&mut buf[..max]) {
                Ok(0) => StreamInput::ReadClosed,
                Ok(count) => StreamInput::Received(Bytes::copy_from_slice(&buf[..count])),
                Err(error) if would_pass(error.kind()) => continue,
                Err(error) => StreamInput::Closed(stream_error(&error)),
            };
            tell(input);
            break;
        }
    }
}

const fn would_pass(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn write_all(
    socket: &TcpStream,
    to_write: &Receiver<WriteOp>,
    closing: &AtomicBool,
    tell: impl Fn(StreamInput),
) {
    while let Ok(op) = to_write.recv() {
        match op {
            WriteOp::Write(loan) => {
                let mut socket = socket;
                let count = loan.iter().map(Bytes::len).sum();
                let written = loan.iter().try_for_each(|part| socket.write_all(part));
                drop(loan);
                match written {
                    Ok(()) => tell(StreamInput::Sent(count)),
                    Err(error) => {
                        tell(StreamInput::Sent(0));
                        tell(StreamInput::Closed(stream_error(&error)));
                    }
                }
            }
            WriteOp::Finish => {
                let _ = socket.shutdown(Half::Write);
                break;
            }
            WriteOp::Abort => {
                abort(&socket2::SockRef::from(socket));
                break;
            }
        }
    }
    closing.store(true, Ordering::Release);
}

impl<M: Application> Drive<M> for Completion<M> {
    fn name(&self) -> &'static str {
        "completion"
    }

    fn command(&mut self, host: usize, command: M::Command) {
        self.hosts[host].machine.handle_command(self.clock.now(), command);
    }

    fn next_event(&mut self, limit: Duration) -> Option<(usize, M::Event)> {
        let end = self.clock.now() + limit;
        loop {
            for id in 0..self.hosts.len() {
                let now = self.clock.now();
                let machine = &mut self.hosts[id].machine;
                if machine.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
                    machine.handle_input(now, Input::Timeout);
                }
                self.act(id);
                if let Some(event) = self.hosts[id].machine.poll_event() {
                    return Some((id, event));
                }
            }
            let timeouts = self.hosts.iter().filter_map(|host| host.machine.poll_timeout());
            let next = timeouts.map(|deadline| deadline.at).fold(end, Ord::min);
            match self.done.recv_timeout(next.saturating_since(self.clock.now())) {
                Ok((id, done)) => {
                    self.on_done(id, done);
                    // The whole batch in, before output is taken.
                    while let Ok((id, done)) = self.done.try_recv() {
                        self.on_done(id, done);
                    }
                }
                Err(RecvTimeoutError::Timeout) if self.clock.now() >= end => return None,
                Err(_) => {}
            }
        }
    }

    fn machine(&mut self, host: usize) -> &mut M {
        &mut self.hosts[host].machine
    }
}

impl<M> Drop for Completion<M> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
