//! A network in memory: hosts, streams and datagrams on one virtual clock.
//!
//! Time jumps exactly to what happens next: something arrives, a job is done, or a machine's
//! [`Machine::poll_timeout`] has come. Everything takes the same latency one way; streams have a
//! window, so that a machine that does not read stops the other from sending. Datagrams are never
//! lost.
//!
//! A host that is woken for its timers 1,000 times without time moving has a timer that does not
//! advance: the run fails and names it.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use teem_core::ids::{JobId, ListenerId, SocketId, StreamId, TorrentId};
use teem_core::machine::{
    Application, Bind, Connect, Datagram, Incoming, Input, Job, JobResult, Listen, ListenerInput,
    Machine, Output, Shutdown, SocketError, SocketInput, StreamError, StreamInput, TransmitLimit,
};
use teem_core::time::{Duration, Instant, UnixTime};

use crate::disk::Disk;

/// Bytes of a stream that are on their way or not taken yet, per direction.
pub const WINDOW: usize = 256 * 1024;

/// Jobs of one host that are not completed.
pub const JOBS_MAX: usize = 64;

/// Times that a host may be woken without time moving.
pub const WAKES_MAX: u32 = 1_000;

/// What the clock on the wall says at [`Instant::ORIGIN`].
pub const WALL: UnixTime = UnixTime(1_800_000_000);

/// First of the ports that are given out.
const EPHEMERAL: u16 = 49_152;

/// Which host, in the order of [`Net::add`].
pub type HostId = usize;

/// A host whose timer does not advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("host {host} was woken {WAKES_MAX} times at {at:?} for the timer \"{reason}\"")]
pub struct Stuck {
    /// Which host.
    pub host: HostId,
    /// When.
    pub at: Instant,
    /// The timer's name.
    pub reason: &'static str,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Net<M> {
    now: Instant,
    latency: Duration,
    hosts: Vec<Host<M>>,
    agenda: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    connections: BTreeMap<u64, Connection>,
    connected: u64,
    listeners: BTreeMap<SocketAddr, (HostId, ListenerId)>,
    sockets: BTreeMap<SocketAddr, (HostId, SocketId)>,
    ports: u16,
    lent: Vec<Bytes>,
    buf: Vec<u8>,
}

#[derive(Debug)]
struct Host<M> {
    machine: M,
    ip: IpAddr,
    disk: Disk,
    job_latency: fn(&Job) -> Duration,
    /// When the latest completion of each torrent comes; fences and file work come no earlier.
    completions: BTreeMap<Option<TorrentId>, Instant>,
    jobs: usize,
    jobs_wanted: bool,
    streams: BTreeMap<StreamId, (u64, usize)>,
    listeners: BTreeMap<ListenerId, SocketAddr>,
    sockets: BTreeMap<SocketId, SocketAddr>,
    /// It may have outputs.
    touched: bool,
    wakes: u32,
}

/// A stream's two ends: the one that dialled first.
#[derive(Debug)]
struct Connection {
    ends: [End; 2],
}

#[derive(Debug)]
struct End {
    host: HostId,
    /// None before it was accepted, and once it is dead.
    stream: Option<StreamId>,
    address: SocketAddr,
    up: bool,
    inbox: VecDeque<Bytes>,
    /// The other end has finished, after what is in the inbox.
    finished: bool,
    told_finished: bool,
    /// Bytes that this end sent and the other has not taken yet.
    unacknowledged: usize,
    wants_write: bool,
}

#[derive(Debug)]
struct Scheduled {
    at: Instant,
    number: u64,
    what: Happening,
}

#[derive(Debug)]
enum Happening {
    Dial { connection: u64 },
    Answer { connection: u64, accepted: bool },
    Data { connection: u64, to: usize, bytes: Bytes },
    Taken { connection: u64, to: usize, count: usize },
    Finish { connection: u64, to: usize },
    Reset { connection: u64, to: usize },
    Datagram { from: SocketAddr, to: SocketAddr, bytes: Bytes },
    Done { host: HostId, id: JobId, result: JobResult },
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<M: Machine> Net<M> {
    /// No hosts yet, at [`Instant::ORIGIN`]; everything takes `latency` one way.
    pub const fn new(latency: Duration) -> Self {
        Self {
            now: Instant::ORIGIN,
            latency,
            hosts: Vec::new(),
            agenda: BinaryHeap::new(),
            scheduled: 0,
            connections: BTreeMap::new(),
            connected: 0,
            listeners: BTreeMap::new(),
            sockets: BTreeMap::new(),
            ports: EPHEMERAL,
            lent: Vec::new(),
            buf: Vec::new(),
        }
    }

    /// A host at `ip` that runs `machine`. Hosts may share an address, not a port.
    pub fn add(&mut self, ip: IpAddr, machine: M) -> HostId {
        let mut host = Host {
            machine,
            ip,
            disk: Disk::new(),
            job_latency: |_| Duration::from_millis(1),
            completions: BTreeMap::new(),
            jobs: 0,
            jobs_wanted: true,
            streams: BTreeMap::new(),
            listeners: BTreeMap::new(),
            sockets: BTreeMap::new(),
            touched: true,
            wakes: 0,
        };
        let passed = self.now.saturating_since(Instant::ORIGIN).as_secs();
        host.machine.handle_input(self.now, Input::WallClock(UnixTime(WALL.0 + passed)));
        self.hosts.push(host);
        self.hosts.len() - 1
    }

    /// The time.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// A host's machine.
    pub fn machine(&self, host: HostId) -> &M {
        &self.hosts[host].machine
    }

    /// A host's machine. Whatever it wants afterwards is found in the next step.
    pub fn machine_mut(&mut self, host: HostId) -> &mut M {
        let host = &mut self.hosts[host];
        host.touched = true;
        &mut host.machine
    }

    /// A host's disk.
    pub fn disk(&self, host: HostId) -> &Disk {
        &self.hosts[host].disk
    }

    /// A host's disk.
    pub fn disk_mut(&mut self, host: HostId) -> &mut Disk {
        &mut self.hosts[host].disk
    }

    /// How long a host's jobs take, from now on; else a millisecond.
    pub fn set_job_latency(&mut self, host: HostId, latency: fn(&Job) -> Duration) {
        self.hosts[host].job_latency = latency;
    }

    /// Does what is to be done now, then moves on to what happens next and does that. Returns
    /// whether anything ever happens.
    pub fn step(&mut self) -> Result<bool, Stuck> {
        self.settle();
        let Some(next) = self.next() else { return Ok(false) };
        if next > self.now {
            self.now = next;
            for host in &mut self.hosts {
                host.wakes = 0;
            }
        }
        while self.agenda.peek().is_some_and(|Reverse(first)| first.at <= self.now) {
            let Some(Reverse(Scheduled { what, .. })) = self.agenda.pop() else { break };
            self.happen(what);
        }
        for (id, host) in self.hosts.iter_mut().enumerate() {
            let Some(deadline) = host.machine.poll_timeout() else { continue };
            if deadline.at > self.now {
                continue;
            }
            host.wakes += 1;
            if host.wakes >= WAKES_MAX {
                return Err(Stuck { host: id, at: self.now, reason: deadline.reason });
            }
            host.machine.handle_input(self.now, Input::Timeout);
            host.touched = true;
        }
        self.settle();
        Ok(true)
    }

    /// Steps until `done` says so, or `limit` has passed, or nothing happens any more. Returns
    /// whether it is done.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, Stuck> {
        let end = self.now + limit;
        loop {
            self.settle();
            if done(self) {
                return Ok(true);
            }
            if self.next().is_none_or(|next| next > end) {
                self.now = end.max(self.now);
                return Ok(false);
            }
            self.step()?;
        }
    }

    /// When something happens next; none: never.
    pub fn next(&self) -> Option<Instant> {
        let agenda = self.agenda.peek().map(|Reverse(first)| first.at);
        let timeouts = self.hosts.iter().filter_map(|host| host.machine.poll_timeout());
        timeouts.map(|deadline| deadline.at).chain(agenda).min().map(|at| at.max(self.now))
    }

    fn schedule(&mut self, after: Duration, what: Happening) {
        self.schedule_at(self.now + after, what);
    }

    fn schedule_at(&mut self, at: Instant, what: Happening) {
        self.scheduled += 1;
        self.agenda.push(Reverse(Scheduled { at, number: self.scheduled, what }));
    }

    /// Acts on what machines ask for, until none asks for more.
    fn settle(&mut self) {
        while let Some(id) = self.hosts.iter().position(|host| host.touched) {
            self.hosts[id].touched = false;
            while let Some(output) = self.hosts[id].machine.poll_output() {
                self.act(id, output);
            }
            self.hand_out_jobs(id);
        }
    }

    fn input(&mut self, host: HostId, input: Input<'_>) {
        let host = &mut self.hosts[host];
        host.touched = true;
        host.machine.handle_input(self.now, input);
    }

    fn tell(&mut self, host: HostId, stream: StreamId, input: StreamInput) {
        self.input(host, Input::Stream(stream, input));
    }

    fn act(&mut self, host: HostId, output: Output) {
        match output {
            Output::Listen(listen) => self.listen(host, &listen),
            Output::Unlisten(id) => {
                if let Some(address) = self.hosts[host].listeners.remove(&id) {
                    self.listeners.remove(&address);
                }
            }
            Output::Bind(bind) => self.bind(host, &bind),
            Output::Unbind(id) => {
                if let Some(address) = self.hosts[host].sockets.remove(&id) {
                    self.sockets.remove(&address);
                }
            }
            Output::Connect(connect) => self.connect(host, &connect),
            Output::Close { stream, how } => self.close(host, stream, how),
            Output::WantRead(stream) => {
                if let Some((connection, end)) = self.end(host, stream) {
                    self.deliver(connection, end);
                }
            }
            Output::WantWrite(stream) => {
                if let Some((connection, end)) = self.end(host, stream) {
                    if let Some(end) = self.end_mut(connection, end) {
                        end.wants_write = true;
                    }
                    self.send(connection, end);
                }
            }
            Output::WantTransmit(socket) => self.transmit(host, socket),
            Output::WantJob => self.hosts[host].jobs_wanted = true,
            // Cancelled jobs are done all the same. The contract may grow beyond this.
            _ => {}
        }
    }

    fn end(&self, host: HostId, stream: StreamId) -> Option<(u64, usize)> {
        self.hosts[host].streams.get(&stream).copied()
    }

    fn end_mut(&mut self, connection: u64, end: usize) -> Option<&mut End> {
        self.connections.get_mut(&connection).map(|connection| &mut connection.ends[end])
    }

    fn free_address(&mut self, host: HostId, asked: SocketAddr) -> SocketAddr {
        let ip = if asked.ip().is_unspecified() { self.hosts[host].ip } else { asked.ip() };
        let mut address = SocketAddr::new(ip, asked.port());
        while address.port() == 0
            || asked.port() == 0
                && (self.listeners.contains_key(&address) || self.sockets.contains_key(&address))
        {
            address.set_port(self.ports);
            self.ports = self.ports.checked_add(1).unwrap_or(EPHEMERAL);
        }
        address
    }

    fn listen(&mut self, host: HostId, listen: &Listen) {
        let address = self.free_address(host, listen.address);
        let input = match self.listeners.entry(address) {
            Entry::Occupied(_) => ListenerInput::Failed(SocketError::AddressInUse),
            Entry::Vacant(vacant) => {
                vacant.insert((host, listen.listener));
                self.hosts[host].listeners.insert(listen.listener, address);
                ListenerInput::Bound(address)
            }
        };
        self.input(host, Input::Listener(listen.listener, input));
    }

    fn bind(&mut self, host: HostId, bind: &Bind) {
        let address = self.free_address(host, bind.address);
        let input = match self.sockets.entry(address) {
            Entry::Occupied(_) => SocketInput::Failed(SocketError::AddressInUse),
            Entry::Vacant(vacant) => {
                vacant.insert((host, bind.socket));
                self.hosts[host].sockets.insert(bind.socket, address);
                SocketInput::Bound(address)
            }
        };
        self.input(host, Input::Socket(bind.socket, input));
    }

    fn connect(&mut self, host: HostId, connect: &Connect) {
        if connect.tls.is_some() {
            self.tell(host, connect.stream, StreamInput::ConnectFailed(StreamError::Tls));
            return;
        }
        let ours = match connect.from {
            Some(from) => from,
            None => SocketAddr::new(self.hosts[host].ip, 0),
        };
        let ours = self.free_address(host, ours);
        self.connected += 1;
        let ends = [
            End::new(host, Some(connect.stream), ours),
            // Whose address it is turns out when the call arrives.
            End::new(host, None, connect.to),
        ];
        self.connections.insert(self.connected, Connection { ends });
        self.hosts[host].streams.insert(connect.stream, (self.connected, 0));
        self.schedule(self.latency, Happening::Dial { connection: self.connected });
    }

    fn close(&mut self, host: HostId, stream: StreamId, how: Shutdown) {
        let Some((connection, end)) = self.hosts[host].streams.remove(&stream) else { return };
        let to = 1 - end;
        if let Some(end) = self.end_mut(connection, end) {
            end.stream = None;
            // What nobody reads any more still makes room: what comes next is then answered.
            let count = end.inbox.drain(..).map(|bytes| bytes.len()).sum();
            self.schedule(self.latency, Happening::Taken { connection, to, count });
        }
        self.schedule(
            self.latency,
            match how {
                Shutdown::Graceful => Happening::Finish { connection, to },
                Shutdown::Abort => Happening::Reset { connection, to },
            },
        );
        self.forget(connection);
    }

    /// Forgets a connection once both ends are dead.
    fn forget(&mut self, connection: u64) {
        let Some(there) = self.connections.get(&connection) else { return };
        if there.ends.iter().all(|end| end.stream.is_none() && end.up) {
            self.connections.remove(&connection);
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Dial { connection } => self.on_dial(connection),
            Happening::Answer { connection, accepted } => self.on_answer(connection, accepted),
            Happening::Data { connection, to, bytes } => {
                let latency = self.latency;
                let Some(end) = self.end_mut(connection, to) else { return };
                if end.stream.is_some() {
                    end.inbox.push_back(bytes);
                    self.deliver(connection, to);
                } else {
                    self.schedule(latency, Happening::Reset { connection, to: 1 - to });
                }
            }
            Happening::Taken { connection, to, count } => {
                let Some(end) = self.end_mut(connection, to) else { return };
                end.unacknowledged -= count;
                self.send(connection, to);
            }
            Happening::Finish { connection, to } => {
                let Some(end) = self.end_mut(connection, to) else { return };
                end.finished = true;
                self.deliver(connection, to);
            }
            Happening::Reset { connection, to } => self.on_reset(connection, to),
            Happening::Datagram { from, to, bytes } => {
                let Some(&(host, socket)) = self.sockets.get(&to) else { return };
                let local = Some(to.ip());
                let datagram = Datagram { socket, from, local, ecn: None, stride: 0, data: &bytes };
                self.input(host, Input::Datagram(datagram));
            }
            Happening::Done { host, id, result } => {
                self.hosts[host].jobs -= 1;
                self.input(host, Input::Job(id, result));
            }
        }
    }

    fn on_dial(&mut self, connection: u64) {
        let Some(Connection { ends: [dialler, other] }) = self.connections.get_mut(&connection)
        else {
            return;
        };
        let (from, local) = (dialler.address, other.address);
        let mut accepted = None;
        if let Some(&(host, on)) = self.listeners.get(&local) {
            other.host = host;
            // What it says before, such as that a stream of that slot is dead, comes first.
            self.hosts[host].touched = true;
            self.settle();
            let incoming = Incoming { on, from, local };
            accepted = self.hosts[host].machine.accept(self.now, incoming);
            if let Some(stream) = accepted {
                self.hosts[host].streams.insert(stream, (connection, 1));
                self.hosts[host].touched = true;
            }
        }
        if let Some(other) = self.end_mut(connection, 1) {
            other.stream = accepted;
            other.up = true;
            other.wants_write = accepted.is_some();
        }
        let accepted = accepted.is_some();
        self.schedule(self.latency, Happening::Answer { connection, accepted });
        self.send(connection, 1);
    }

    fn on_answer(&mut self, connection: u64, accepted: bool) {
        let Some(end) = self.end_mut(connection, 0) else { return };
        end.up = true;
        let (host, local) = (end.host, end.address);
        let Some(stream) = end.stream else {
            self.forget(connection);
            return;
        };
        if accepted {
            end.wants_write = true;
            self.tell(host, stream, StreamInput::Connected { local });
            self.deliver(connection, 0);
            self.send(connection, 0);
        } else {
            self.connections.remove(&connection);
            self.hosts[host].streams.remove(&stream);
            self.tell(host, stream, StreamInput::ConnectFailed(StreamError::Refused));
        }
    }

    fn on_reset(&mut self, connection: u64, to: usize) {
        let Some(end) = self.end_mut(connection, to) else { return };
        end.inbox.clear();
        let host = end.host;
        if let Some(stream) = end.stream.take() {
            self.hosts[host].streams.remove(&stream);
            self.tell(host, stream, StreamInput::Closed(StreamError::Reset));
        }
        self.forget(connection);
    }

    /// Hands in what has arrived, as far as the machine's credit goes.
    fn deliver(&mut self, connection: u64, at: usize) {
        loop {
            let Some(there) = self.connections.get_mut(&connection) else { return };
            let end = &mut there.ends[at];
            let Some(stream) = end.stream.filter(|_| end.up) else { return };
            let host = end.host;
            let credit = self.hosts[host].machine.recv_credit(stream);
            let Some(first) = end.inbox.front_mut() else {
                if end.finished && !end.told_finished && credit > 0 {
                    end.told_finished = true;
                    self.tell(host, stream, StreamInput::ReadClosed);
                }
                return;
            };
            if credit == 0 {
                return;
            }
            let bytes = first.split_to(first.len().min(credit));
            if first.is_empty() {
                end.inbox.pop_front();
            }
            let count = bytes.len();
            self.tell(host, stream, StreamInput::Received(bytes));
            self.schedule(self.latency, Happening::Taken { connection, to: 1 - at, count });
        }
    }

    /// Takes what the machine has to send, as far as the window goes.
    fn send(&mut self, connection: u64, at: usize) {
        loop {
            let Some(there) = self.connections.get_mut(&connection) else { return };
            let end = &mut there.ends[at];
            let room = WINDOW - end.unacknowledged;
            let Some(stream) = end.stream.filter(|_| end.up && end.wants_write && room > 0) else {
                return;
            };
            let host = end.host;
            let machine = &mut self.hosts[host].machine;
            let mut lent = std::mem::take(&mut self.lent);
            let count = machine.poll_send(self.now, stream, room, &mut lent);
            if count == 0 {
                end.wants_write = false;
            }
            end.unacknowledged += count;
            let latency = self.latency;
            for bytes in lent.drain(..) {
                self.schedule(latency, Happening::Data { connection, to: 1 - at, bytes });
            }
            self.lent = lent;
            if count == 0 {
                return;
            }
            self.tell(host, stream, StreamInput::Sent(count));
        }
    }

    fn transmit(&mut self, host: HostId, socket: SocketId) {
        let Some(&from) = self.hosts[host].sockets.get(&socket) else { return };
        loop {
            self.buf.clear();
            let machine = &mut self.hosts[host].machine;
            let limit = TransmitLimit::ONE;
            let Some(transmit) = machine.poll_transmit(self.now, socket, limit, &mut self.buf)
            else {
                return;
            };
            let bytes = Bytes::copy_from_slice(&self.buf);
            self.schedule(self.latency, Happening::Datagram { from, to: transmit.to, bytes });
        }
    }

    fn hand_out_jobs(&mut self, id: HostId) {
        loop {
            let host = &mut self.hosts[id];
            if !host.jobs_wanted || host.jobs >= JOBS_MAX {
                return;
            }
            let Some((job_id, job)) = host.machine.poll_job() else {
                host.jobs_wanted = false;
                return;
            };
            host.jobs += 1;
            let mut at = self.now + (host.job_latency)(&job);
            let (torrent, last) = order(&job);
            let latest = host.completions.entry(torrent).or_insert(at);
            if last {
                at = at.max(*latest);
            }
            *latest = at.max(*latest);
            host.disk.set_now(self.now);
            let result = host.disk.run(job);
            self.schedule_at(at, Happening::Done { host: id, id: job_id, result });
        }
    }
}

/// Whose job it is, and whether it is completed after all of its torrent that came before.
const fn order(job: &Job) -> (Option<TorrentId>, bool) {
    match job {
        Job::Read { torrent, .. } | Job::Write { torrent, .. } | Job::Hash { torrent, .. } => {
            (Some(*torrent), false)
        }
        Job::Fence { torrent } | Job::Files { torrent, .. } => (Some(*torrent), true),
        _ => (None, false),
    }
}

impl<M: Application> Net<M> {
    /// Does what a host's embedder asks for.
    pub fn handle_command(&mut self, host: HostId, command: M::Command) {
        let host = &mut self.hosts[host];
        host.touched = true;
        host.machine.handle_command(self.now, command);
    }

    /// The next fact for a host's embedder.
    pub fn poll_event(&mut self, host: HostId) -> Option<M::Event> {
        self.hosts[host].machine.poll_event()
    }
}

impl End {
    const fn new(host: HostId, stream: Option<StreamId>, address: SocketAddr) -> Self {
        Self {
            host,
            stream,
            address,
            up: false,
            inbox: VecDeque::new(),
            finished: false,
            told_finished: false,
            unacknowledged: 0,
            wants_write: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use teem_core::ids::CommandToken;
    use teem_core::machine::Deadline;
    use teem_core::machine::echo::{Command, Echo, Event};

    const LATENCY: Duration = Duration::from_millis(10);
    const MINUTE: Duration = Duration::from_mins(1);

    fn host(number: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, number).into()
    }

    fn anywhere() -> SocketAddr {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    }

    fn two() -> (Net<Echo>, SocketAddr) {
        let mut net = Net::new(LATENCY);
        for number in 1..3 {
            net.add(host(number), Echo::new(net.now()));
        }
        net.handle_command(0, Command::Listen(CommandToken(0), anywhere()));
        let (at, event) = event(&mut net);
        let Event::Listening(_, address) = event else { panic!("{event:?} at {at:?}") };
        (net, address)
    }

    fn event(net: &mut Net<Echo>) -> (Instant, Event) {
        let mut found = None;
        net.run_until(MINUTE, |net| {
            found = (0..2).find_map(|host| net.poll_event(host));
            found.is_some()
        })
        .expect("no timer is stuck");
        (net.now(), found.expect("an event within a minute"))
    }

    fn dial(to: SocketAddr, message: &'static [u8]) -> Command {
        Command::Dial(CommandToken(7), to, Bytes::from_static(message))
    }

    #[test]
    fn time_jumps_exactly_to_what_happens() {
        let (mut net, address) = two();
        assert_eq!(address.ip(), host(1));
        net.handle_command(1, dial(address, b"hello"));
        // There and back to connect, there and back with the message.
        let (at, echoed) = event(&mut net);
        assert_eq!(echoed, Event::Echoed(CommandToken(7), Bytes::from_static(b"hello")));
        assert_eq!(at, Instant::ORIGIN + 4 * LATENCY);
        // The end of it, and a millisecond to hash what was served.
        let (at, served) = event(&mut net);
        assert!(matches!(served, Event::Served(_, 5)), "{served:?}");
        assert_eq!(at, Instant::ORIGIN + 5 * LATENCY + Duration::from_millis(1));
        assert!(net.connections.is_empty(), "both ends are gone");
        assert_eq!(net.run_until(MINUTE, |_| false), Ok(false));
        assert_eq!(net.next(), None);
    }

    #[test]
    fn nobody_listens_is_refused_after_a_round_trip() {
        let (mut net, _) = two();
        net.handle_command(1, dial((host(2), 7).into(), b"hello"));
        let (at, failed) = event(&mut net);
        assert_eq!(failed, Event::Failed(CommandToken(7)));
        assert_eq!(at, Instant::ORIGIN + 2 * LATENCY);
    }

    #[test]
    fn what_is_larger_than_the_window_takes_more_round_trips() {
        let (mut net, address) = two();
        let message = Bytes::from(vec![7; 4 * WINDOW]);
        net.handle_command(1, Command::Dial(CommandToken(7), address, message.clone()));
        let (at, echoed) = event(&mut net);
        assert_eq!(echoed, Event::Echoed(CommandToken(7), message));
        assert!(at >= Instant::ORIGIN + 10 * LATENCY, "{at:?}");
    }

    #[test]
    fn an_idle_stream_ends_when_its_timer_says() {
        let (mut net, address) = two();
        net.handle_command(1, Command::Hold(CommandToken(7), address));
        let (at, idle) = event(&mut net);
        assert_eq!(idle, Event::Idle);
        assert_eq!(at, Instant::ORIGIN + LATENCY + teem_core::machine::echo::IDLE_TIMEOUT);
        assert_eq!(event(&mut net), (at + LATENCY, Event::Failed(CommandToken(7))));
    }

    struct Stubborn;

    impl Machine for Stubborn {
        fn handle_input(&mut self, _: Instant, _: Input<'_>) {}

        fn poll_timeout(&self) -> Option<Deadline> {
            let at = Instant::ORIGIN + Duration::from_secs(3);
            Some(Deadline { at, reason: "never cleared" })
        }
    }

    #[test]
    fn a_timer_that_does_not_advance_fails_the_run_by_name() {
        let mut net = Net::new(LATENCY);
        net.add(host(1), Stubborn);
        let stuck = net.run_until(MINUTE, |_| false).expect_err("it is stuck");
        let at = Instant::ORIGIN + Duration::from_secs(3);
        assert_eq!(stuck, Stuck { host: 0, at, reason: "never cleared" });
    }

    #[test]
    fn a_run_stops_at_its_limit() {
        let mut net = Net::<Echo>::new(LATENCY);
        assert_eq!(net.run_until(MINUTE, |_| false), Ok(false));
        assert_eq!(net.now(), Instant::ORIGIN + MINUTE);
    }
}
