//! One run: a driver whose decisions are bytes, and what it holds against the machine.

use std::net::SocketAddr;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use teem_core::ids::{JobId, Key, ListenerId, SocketId, StreamId};
use teem_core::machine::{
    Application, Datagram, Deadline, Incoming, Input, JobOutput, JobResult, ListenerInput, Machine,
    Output, RECV_CREDIT_MIN, SocketError, SocketInput, StreamError, StreamInput, TlsError,
    TransmitLimit,
};
use teem_core::time::{Duration, Instant, UnixTime};

use super::jobs::{Taken, failure};
use super::{Broken, Driven, Limits, World};

/// Deadlines that are slept until after the bytes ran out.
const LAST_SLEEPS: usize = 8;

/// Rounds of taking and answering what is asked for, before a machine counts as endless.
const ROUNDS_MAX: usize = 64;

/// Ended streams and jobs that are tried again.
const STALE_MAX: usize = 16;

/// The embedder's side of a machine, if it has one.
pub(super) trait Side<M: ?Sized> {
    fn command(&mut self, machine: &mut M, now: Instant, u: &mut Unstructured<'_>) -> bool;
    fn event(&mut self, machine: &mut M) -> bool;
}

/// Nobody asks the machine for anything.
pub(super) struct Alone;

impl<M: ?Sized> Side<M> for Alone {
    fn command(&mut self, _: &mut M, _: Instant, _: &mut Unstructured<'_>) -> bool {
        false
    }
    fn event(&mut self, _: &mut M) -> bool {
        false
    }
}

/// Somebody who makes commands of the bytes.
pub(super) struct Embedder<F>(pub(super) F);

impl<A, F> Side<A> for Embedder<F>
where
    A: Application + ?Sized,
    F: FnMut(&mut Unstructured<'_>) -> Option<A::Command>,
{
    fn command(&mut self, machine: &mut A, now: Instant, u: &mut Unstructured<'_>) -> bool {
        let Some(command) = (self.0)(u) else { return false };
        machine.handle_command(now, command);
        true
    }
    fn event(&mut self, machine: &mut A) -> bool {
        machine.poll_event().is_some()
    }
}

/// A stream that lives, as far as both sides said.
#[derive(Debug)]
struct Stream {
    id: StreamId,
    /// The machine asked for it and it is not decided yet.
    dialling: bool,
    /// What is lent and not settled.
    loan: Vec<Bytes>,
}

/// A stream that ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    id: StreamId,
    /// The machine said so, or was told when nothing waited to be taken: nothing more may come.
    told: bool,
}

/// What the first byte chooses.
#[derive(Clone, Copy, Debug)]
struct Habits {
    /// Outputs and jobs are taken after each step.
    diligent: bool,
    /// Listeners and sockets come up, or fail, at once.
    prompt: bool,
    /// Jobs run in the order that they want.
    lawful: bool,
}

pub(super) struct Run<'r, M: ?Sized, S, W> {
    machine: &'r mut M,
    side: S,
    world: W,
    limits: Limits,
    u: Unstructured<'r>,
    habits: Habits,
    now: Instant,
    /// Everything was taken, and nothing handed in since.
    quiet: bool,
    streams: Vec<Stream>,
    ended: Vec<Ended>,
    listeners: Vec<(ListenerId, SocketAddr, bool)>,
    listeners_ended: Vec<ListenerId>,
    sockets: Vec<(SocketId, SocketAddr, bool)>,
    sockets_ended: Vec<SocketId>,
    jobs: Taken,
    jobs_known: Vec<JobId>,
    jobs_done: Vec<JobId>,
    lent: Vec<Bytes>,
    datagram: Vec<u8>,
    driven: Driven,
}

type Checked = Result<(), Broken>;

#[expect(
    clippy::unnecessary_wraps,
    reason = "steps are of one type, whether they hold anything against the machine or not"
)]
impl<'r, M, S, W> Run<'r, M, S, W>
where
    M: Machine + ?Sized,
    S: Side<M>,
    W: World,
{
    pub(super) fn new(
        machine: &'r mut M,
        side: S,
        world: W,
        limits: Limits,
        bytes: &'r [u8],
    ) -> Self {
        let mut u = Unstructured::new(bytes);
        let habits = byte(&mut u);
        Self {
            machine,
            side,
            world,
            limits,
            u,
            habits: Habits {
                diligent: habits & 0b11 != 0b11,
                prompt: habits & 0b1100 != 0b1100,
                lawful: habits & 0x10 == 0,
            },
            now: Instant::ORIGIN,
            quiet: false,
            streams: Vec::new(),
            ended: Vec::new(),
            listeners: Vec::new(),
            listeners_ended: Vec::new(),
            sockets: Vec::new(),
            sockets_ended: Vec::new(),
            jobs: Taken::default(),
            jobs_known: Vec::new(),
            jobs_done: Vec::new(),
            lent: Vec::new(),
            datagram: Vec::new(),
            driven: Driven::default(),
        }
    }

    /// All steps, and the end.
    pub(super) fn whole(mut self) -> Result<Driven, Broken> {
        self.drain()?;
        for _ in 0..self.limits.steps_max {
            if self.u.is_empty() {
                break;
            }
            self.driven.steps += 1;
            self.step()?;
            if self.habits.diligent {
                self.drain()?;
            }
            self.look()?;
        }
        self.end()?;
        self.driven.streams_left = self.streams.len() as u64;
        Ok(self.driven)
    }

    fn step(&mut self) -> Checked {
        match byte(&mut self.u) % 32 {
            0..=2 => self.accept(),
            3..=9 => self.receive(),
            10 => self.decide_dialling(),
            11 => self.end_stream(),
            12 => self.pass_time(),
            13 | 14 => self.sleep(),
            15..=19 => self.complete_job(),
            20 | 21 => self.send(),
            22 => self.settle(),
            23 => self.transmit(),
            24 | 25 => self.datagram(),
            26 => self.tell_facts(),
            27 => self.stale(),
            28 => self.anything(),
            29 | 30 => self.command(),
            _ => self.take_some(),
        }
    }

    fn input(&mut self, input: Input<'_>) {
        self.driven.inputs += 1;
        self.driven.calls += 1;
        self.quiet = false;
        self.machine.handle_input(self.now, input);
    }

    fn tell(&mut self, id: StreamId, input: StreamInput) {
        self.input(Input::Stream(id, input));
    }

    // Streams.

    fn any_stream(&mut self) -> Option<usize> {
        let at = usize::from(byte(&mut self.u));
        if self.streams.is_empty() { None } else { Some(at % self.streams.len()) }
    }

    fn opened(&mut self, id: StreamId, dialling: bool) -> Checked {
        let live = self.streams.iter().any(|stream| stream.id == id);
        if live || self.ended.iter().any(|ended| ended.id == id) {
            return Err(Broken::StreamReused(id));
        }
        self.driven.streams += 1;
        self.streams.push(Stream { id, dialling, loan: Vec::new() });
        Ok(())
    }

    /// We say that a stream is gone.
    fn gone(&mut self, at: usize) -> StreamId {
        let id = self.streams.remove(at).id;
        self.ended.push(Ended { id, told: self.quiet });
        id
    }

    fn accept(&mut self) -> Checked {
        let choice = byte(&mut self.u);
        let from = SocketAddr::from(([10, 0, 1, choice >> 4], 4000 + u16::from(choice)));
        if self.streams.len() >= self.limits.streams_max {
            return Ok(());
        }
        let at = usize::from(choice);
        let (on, local) = match self.listeners.get(at % self.listeners.len().max(1)) {
            Some((id, address, _)) if choice < 0xf8 => (*id, *address),
            _ => (ListenerId::from_parts(99, 1), from),
        };
        self.driven.calls += 1;
        self.quiet = false;
        match self.machine.accept(self.now, Incoming { on, from, local }) {
            Some(id) => self.opened(id, false),
            None => Ok(()),
        }
    }

    fn receive(&mut self) -> Checked {
        let Some(at) = self.any_stream() else { return Ok(()) };
        let Stream { id, dialling, .. } = self.streams[at];
        if dialling {
            // It was asked for, and it comes up.
            return self.connected(at);
        }
        let Some(bytes) = self.world.say(id, &mut self.u) else { return Ok(()) };
        if !bytes.is_empty() {
            self.driven.received_bytes += bytes.len() as u64;
            self.tell(id, StreamInput::Received(bytes));
        }
        Ok(())
    }

    fn connected(&mut self, at: usize) -> Checked {
        self.streams[at].dialling = false;
        let local = SocketAddr::from(([10, 0, 0, 1], 5000 + at as u16));
        self.tell(self.streams[at].id, StreamInput::Connected { local });
        Ok(())
    }

    fn decide_dialling(&mut self) -> Checked {
        let how = byte(&mut self.u);
        let Some(at) = self.streams.iter().position(|stream| stream.dialling) else {
            return Ok(());
        };
        if how.is_multiple_of(2) {
            return self.connected(at);
        }
        let id = self.gone(at);
        self.tell(id, StreamInput::ConnectFailed(why(how)));
        Ok(())
    }

    fn end_stream(&mut self) -> Checked {
        let how = byte(&mut self.u);
        let Some(at) = self.any_stream() else { return Ok(()) };
        if how.is_multiple_of(3) {
            self.tell(self.streams[at].id, StreamInput::ReadClosed);
            return Ok(());
        }
        let dialling = self.streams[at].dialling;
        let id = self.gone(at);
        let input = if dialling {
            StreamInput::ConnectFailed(why(how))
        } else {
            StreamInput::Closed(why(how))
        };
        self.tell(id, input);
        Ok(())
    }

    fn lend(&mut self, at: usize, max: usize) -> Result<usize, Broken> {
        let stream = self.streams[at].id;
        self.driven.calls += 1;
        self.lent.clear();
        let said = self.machine.poll_send(self.now, stream, max, &mut self.lent);
        let lent = self.lent.iter().map(Bytes::len).sum();
        if lent != said || said > max {
            return Err(Broken::WrongLoan { stream, lent, said, max });
        }
        if lent > self.limits.send_bytes_max {
            let (count, max) = (lent, self.limits.send_bytes_max);
            return Err(Broken::Unbounded { what: "bytes to send", count, max });
        }
        if lent > 0 && !self.streams[at].loan.is_empty() {
            return Err(Broken::SecondLoan(stream));
        }
        Ok(lent)
    }

    /// Takes what a stream has to send, all or some, and reports all or some of it sent.
    fn send(&mut self) -> Checked {
        let (max, how) = (odd_limit(&mut self.u), byte(&mut self.u));
        let Some(at) = self.any_stream() else { return Ok(()) };
        let lent = self.lend(at, max)?;
        if lent == 0 {
            return Ok(());
        }
        std::mem::swap(&mut self.streams[at].loan, &mut self.lent);
        if how.is_multiple_of(8) {
            // Settled later, or never; nothing more is lent till then.
            return self.lend(at, usize::MAX).map(drop);
        }
        let count = if how % 8 == 1 { lent / 2 } else { lent };
        self.sent(at, count);
        Ok(())
    }

    /// So many of the lent bytes left, as we say: the other end reads them, if there are as many.
    fn sent(&mut self, at: usize, count: usize) {
        self.read_loan(at, count);
        self.tell(self.streams[at].id, StreamInput::Sent(count));
    }

    fn read_loan(&mut self, at: usize, count: usize) {
        let stream = &mut self.streams[at];
        let mut left = count;
        for part in &mut stream.loan {
            part.truncate(left);
            left -= part.len();
        }
        self.driven.sent_bytes += (count - left) as u64;
        if left < count {
            self.world.heard(stream.id, &stream.loan);
        }
        stream.loan.clear();
    }

    /// Settles a loan that is open, or one that is not there, with any count.
    fn settle(&mut self) -> Checked {
        let count = odd_limit(&mut self.u);
        if let Some(at) = self.any_stream() {
            self.sent(at, count);
        }
        Ok(())
    }

    // Time.

    /// A power of two of microseconds, forwards, and back a little for one call.
    fn pass_time(&mut self) -> Checked {
        let how = byte(&mut self.u);
        if how >= 0xf0 {
            let now = self.now;
            self.now = now - Duration::from_secs(1);
            self.input(Input::Timeout);
            self.now = now;
            return Ok(());
        }
        self.now += Duration::from_micros(1 << (how % 40));
        if how & 0x40 == 0 { self.timeout() } else { Ok(()) }
    }

    fn timeout(&mut self) -> Checked {
        self.input(Input::Timeout);
        match self.machine.poll_timeout() {
            Some(Deadline { at, reason }) if at <= self.now => {
                Err(Broken::TimeStandsStill { now: self.now, at, reason })
            }
            _ => Ok(()),
        }
    }

    /// Sleeps exactly until the deadline.
    fn sleep(&mut self) -> Checked {
        let Some(deadline) = self.machine.poll_timeout() else { return Ok(()) };
        self.now = self.now.max(deadline.at);
        self.timeout()
    }

    // Jobs.

    fn complete_job(&mut self) -> Checked {
        let (at, how) = (usize::from(byte(&mut self.u)), byte(&mut self.u));
        if self.jobs.len() == 0 {
            return self.take_jobs(1);
        }
        let at = at % self.jobs.len();
        let at = if self.habits.lawful { self.jobs.lawful(at) } else { at };
        self.complete(at, how)
    }

    fn complete(&mut self, at: usize, how: u8) -> Checked {
        let (id, job) = self.jobs.remove(at);
        let result = match how {
            0..0xc0 => self.jobs.succeed(job, &mut self.world),
            0xc0..0xe0 => failure(how),
            _ => self.wrong_kind(how),
        };
        if self.jobs_done.len() < STALE_MAX {
            self.jobs_done.push(id);
        }
        self.input(Input::Job(id, result));
        Ok(())
    }

    fn wrong_kind(&mut self, how: u8) -> JobResult {
        Ok(match how % 8 {
            0 => JobOutput::Done,
            1 => JobOutput::Read(Bytes::from_static(b"of another job")),
            2 => JobOutput::Files([None, None].into()),
            3 => JobOutput::Files([].into()),
            4 => JobOutput::Resolved([].into()),
            _ => JobOutput::arbitrary(&mut self.u).unwrap_or(JobOutput::Done),
        })
    }

    fn take_jobs(&mut self, max: usize) -> Checked {
        for _ in 0..max {
            self.driven.calls += 1;
            let Some((id, job)) = self.machine.poll_job() else { break };
            self.driven.jobs += 1;
            if self.jobs_known.contains(&id) {
                return Err(Broken::JobReused(id));
            }
            self.jobs_known.push(id);
            self.jobs.push(id, job);
        }
        let (count, max) = (self.jobs.len(), self.limits.jobs_max);
        if count > max {
            return Err(Broken::Unbounded { what: "jobs", count, max });
        }
        Ok(())
    }

    // Datagrams.

    fn any_socket(&mut self) -> Option<SocketId> {
        let at = usize::from(byte(&mut self.u));
        let socket = self.sockets.get(at % self.sockets.len().max(1));
        socket.map(|(id, ..)| *id)
    }

    fn datagram(&mut self) -> Checked {
        let Some(socket) = self.any_socket() else { return Ok(()) };
        let from = byte(&mut self.u);
        let Some(data) = self.world.datagram(&self.datagram, &mut self.u) else { return Ok(()) };
        let datagram = Datagram {
            socket,
            from: SocketAddr::from(([192, 0, 2, from % 4 + 1], 80)),
            local: None,
            ecn: None,
            stride: if from < 0xf0 { 0 } else { usize::from(from % 16) },
            data: &data,
        };
        self.driven.datagrams_in += 1;
        self.input(Input::Datagram(datagram));
        Ok(())
    }

    fn transmit(&mut self) -> Checked {
        let limit = TransmitLimit {
            datagrams: usize::from(byte(&mut self.u)) % 8 + 1,
            bytes: odd_limit(&mut self.u),
        };
        let Some(socket) = self.any_socket() else { return Ok(()) };
        self.transmit_once(socket, limit).map(drop)
    }

    fn transmit_once(&mut self, on: SocketId, limit: TransmitLimit) -> Result<bool, Broken> {
        self.driven.calls += 1;
        let mut buf = std::mem::take(&mut self.datagram);
        buf.clear();
        let Some(transmit) = self.machine.poll_transmit(self.now, on, limit, &mut buf) else {
            return Ok(false);
        };
        self.datagram = buf;
        let len = self.datagram.len();
        let segment = transmit.segment.unwrap_or(len);
        let count = if segment == 0 { usize::from(len > 0) * 2 } else { len.div_ceil(segment) };
        if transmit.len != len || len > limit.bytes || count > limit.datagrams {
            return Err(Broken::WrongTransmit(on));
        }
        self.driven.datagrams_out += count as u64;
        Ok(true)
    }

    // Everything else that can be said.

    fn tell_facts(&mut self) -> Checked {
        let (which, how) = (usize::from(byte(&mut self.u)), byte(&mut self.u));
        match how % 4 {
            0 => {
                let wall: u32 = self.u.arbitrary().unwrap_or_default();
                self.input(Input::WallClock(UnixTime(wall.into())));
            }
            1 if !self.sockets.is_empty() => {
                let at = which % self.sockets.len();
                let (id, address, _) = self.sockets[at];
                let input = match how / 4 % 4 {
                    0 => SocketInput::AddressChanged(address),
                    1 => SocketInput::Unreachable(([192, 0, 2, how % 4 + 1], 80).into()),
                    2 => SocketInput::TooBig { to: address, size: usize::from(how) },
                    _ => {
                        self.sockets.remove(at);
                        self.sockets_ended.push(id);
                        SocketInput::Failed(SocketError::Other)
                    }
                };
                self.input(Input::Socket(id, input));
            }
            2 if !self.sockets.is_empty() => {
                let at = which % self.sockets.len();
                self.bind(at, how);
            }
            3 if !self.listeners.is_empty() => {
                let at = which % self.listeners.len();
                self.listen(at, how);
            }
            _ => {}
        }
        Ok(())
    }

    fn bind(&mut self, at: usize, how: u8) {
        let (id, address, bound) = &mut self.sockets[at];
        let (id, address) = (*id, *address);
        *bound = true;
        let input = if how < 0xe0 {
            SocketInput::Bound(SocketAddr::new(address.ip(), address.port().max(1)))
        } else {
            self.sockets.remove(at);
            self.sockets_ended.push(id);
            SocketInput::Failed(SocketError::AddressInUse)
        };
        self.input(Input::Socket(id, input));
    }

    fn listen(&mut self, at: usize, how: u8) {
        let (id, address, bound) = &mut self.listeners[at];
        let (id, address) = (*id, *address);
        *bound = true;
        let input = if how < 0xe0 {
            ListenerInput::Bound(SocketAddr::new(address.ip(), address.port().max(1)))
        } else {
            self.listeners.remove(at);
            self.listeners_ended.push(id);
            ListenerInput::Failed(SocketError::AddressInUse)
        };
        self.input(Input::Listener(id, input));
    }

    /// Says something of what is gone, when nothing else is to be taken: nothing may come of it.
    fn stale(&mut self) -> Checked {
        let (which, how) = (usize::from(byte(&mut self.u)), byte(&mut self.u));
        // What time alone brings about is not held against what is said.
        self.timeout()?;
        self.drain()?;
        let before = self.machine.poll_timeout();
        let said = if how.is_multiple_of(4) && !self.jobs_done.is_empty() {
            let id = self.jobs_done[which % self.jobs_done.len()];
            let result = self.wrong_kind(how);
            self.input(Input::Job(id, result));
            "a second completion of a job"
        } else {
            let recent = self.ended.len().saturating_sub(STALE_MAX);
            let told = self.ended[recent..].iter().filter(|ended| ended.told);
            let id = told.clone().nth(which % told.count().max(1)).map(|ended| ended.id);
            let id = id.unwrap_or_else(|| StreamId::from_parts(1_000_000, 1));
            let input = match how % 5 {
                0 => StreamInput::Received(Bytes::from_static(b"late")),
                1 => StreamInput::Sent(usize::from(how)),
                2 => StreamInput::ReadClosed,
                3 => StreamInput::Connected { local: SocketAddr::from(([10, 0, 0, 1], 1)) },
                _ => StreamInput::Closed(why(how)),
            };
            self.tell(id, input);
            self.driven.calls += 2;
            self.lent.clear();
            let sends = self.machine.poll_send(self.now, id, 100, &mut self.lent);
            if sends > 0 || self.machine.recv_credit(id) > 0 {
                return Err(Broken::DeadStreamLives(id));
            }
            "an input about a stream that is gone"
        };
        let after = self.machine.poll_timeout();
        let quiet = self.machine.poll_output().is_none()
            && self.machine.poll_job().is_none()
            && !self.side.event(self.machine)
            && before == after;
        if quiet { Ok(()) } else { Err(Broken::StaleTookEffect(said)) }
    }

    /// Whatever the bytes say, about whatever ids they say. What ends by it ends.
    fn anything(&mut self) -> Checked {
        let Ok(input) = Input::arbitrary(&mut self.u) else { return Ok(()) };
        let dies = match &input {
            Input::Stream(id, StreamInput::ConnectFailed(_) | StreamInput::Closed(_)) => {
                self.streams.iter().position(|stream| stream.id == *id)
            }
            _ => None,
        };
        if let Some(at) = dies {
            self.gone(at);
        }
        match &input {
            Input::Stream(id, StreamInput::Sent(count)) => {
                if let Some(at) = self.streams.iter().position(|stream| stream.id == *id) {
                    self.read_loan(at, *count);
                }
            }
            Input::Listener(id, ListenerInput::Failed(_)) => {
                if let Some(at) = self.listeners.iter().position(|(known, ..)| known == id) {
                    self.listeners.remove(at);
                    self.listeners_ended.push(*id);
                }
            }
            Input::Socket(id, SocketInput::Failed(_)) => {
                if let Some(at) = self.sockets.iter().position(|(known, ..)| known == id) {
                    self.sockets.remove(at);
                    self.sockets_ended.push(*id);
                }
            }
            // Only what was asked for is completed; the second completion is `stale`'s part.
            Input::Job(id, _) => {
                let Some(at) = self.jobs.position(*id) else { return Ok(()) };
                self.jobs.remove(at);
            }
            _ => {}
        }
        self.input(input);
        Ok(())
    }

    fn command(&mut self) -> Checked {
        self.driven.calls += 1;
        self.quiet = false;
        if self.side.command(self.machine, self.now, &mut self.u) {
            self.driven.commands += 1;
        }
        Ok(())
    }

    // Outputs.

    /// Takes a few outputs, jobs and events.
    fn take_some(&mut self) -> Checked {
        let count = usize::from(byte(&mut self.u) % 16);
        for _ in 0..count {
            let Some(output) = self.machine.poll_output() else { break };
            self.on_output(output)?;
        }
        self.take_jobs(count)?;
        if count.is_multiple_of(2) {
            self.side.event(self.machine);
        }
        Ok(())
    }

    /// Takes everything, and answers what a driver answers at once, until nothing is left.
    fn drain(&mut self) -> Checked {
        for _ in 0..ROUNDS_MAX {
            self.take_all()?;
            let mut answered = false;
            if self.habits.prompt {
                while let Some(at) = self.sockets.iter().position(|(_, _, bound)| !bound) {
                    let how = byte(&mut self.u);
                    self.bind(at, how);
                    answered = true;
                }
                while let Some(at) = self.listeners.iter().position(|(_, _, bound)| !bound) {
                    let how = byte(&mut self.u);
                    self.listen(at, how);
                    answered = true;
                }
            }
            if !answered {
                self.quiet = true;
                return Ok(());
            }
        }
        Err(Broken::Endless { what: "sockets and listeners", max: ROUNDS_MAX })
    }

    fn take_all(&mut self) -> Checked {
        let max = self.limits.outputs_max;
        let mut count = 0;
        while let Some(output) = self.machine.poll_output() {
            self.on_output(output)?;
            count += 1;
            if count > max {
                return Err(Broken::Endless { what: "outputs", max });
            }
        }
        self.take_jobs(self.limits.jobs_max + 1)?;
        let mut count = 0;
        while self.side.event(self.machine) {
            count += 1;
            if count > max {
                return Err(Broken::Endless { what: "events", max });
            }
        }
        self.driven.events += count as u64;
        self.driven.calls += count as u64 + 1;
        Ok(())
    }

    fn on_output(&mut self, output: Output) -> Checked {
        self.driven.outputs += 1;
        self.driven.calls += 1;
        match output {
            Output::Listen(listen) => {
                let id = listen.listener;
                let live = self.listeners.iter().any(|(known, ..)| *known == id);
                if live || self.listeners_ended.contains(&id) {
                    return Err(Broken::ListenerReused(id));
                }
                self.listeners.push((id, listen.address, false));
            }
            Output::Unlisten(id) => {
                self.listeners.retain(|(known, ..)| *known != id);
                self.listeners_ended.push(id);
            }
            Output::Bind(bind) => {
                let id = bind.socket;
                let live = self.sockets.iter().any(|(known, ..)| *known == id);
                if live || self.sockets_ended.contains(&id) {
                    return Err(Broken::SocketReused(id));
                }
                self.sockets.push((id, bind.address, false));
            }
            Output::Unbind(id) => {
                self.sockets.retain(|(known, ..)| *known != id);
                self.sockets_ended.push(id);
            }
            Output::Connect(connect) => self.opened(connect.stream, true)?,
            Output::Close { stream, .. } => self.on_close(stream)?,
            Output::WantRead(id) | Output::WantWrite(id) => {
                let live = self.streams.iter().any(|stream| stream.id == id);
                if !live {
                    match self.ended.iter().find(|ended| ended.id == id) {
                        None => return Err(Broken::StreamUnknown(id)),
                        Some(Ended { told: true, .. }) => return Err(Broken::StreamEnded(id)),
                        Some(_) => {}
                    }
                }
            }
            Output::WantTransmit(socket) => {
                let mut count = 0;
                while self.transmit_once(socket, TransmitLimit::ONE)? {
                    count += 1;
                    if count > self.limits.outputs_max {
                        let max = self.limits.outputs_max;
                        return Err(Broken::Endless { what: "datagrams", max });
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn on_close(&mut self, id: StreamId) -> Checked {
        if let Some(at) = self.streams.iter().position(|stream| stream.id == id) {
            self.streams.remove(at);
            self.ended.push(Ended { id, told: true });
            return Ok(());
        }
        // We said that it was gone, and it was queued before.
        match self.ended.iter_mut().find(|ended| ended.id == id) {
            None => Err(Broken::StreamUnknown(id)),
            Some(Ended { told: true, .. }) => Err(Broken::StreamEnded(id)),
            Some(ended) => {
                ended.told = true;
                Ok(())
            }
        }
    }

    // What holds at any time.

    fn look(&mut self) -> Checked {
        self.driven.calls += 2;
        if self.machine.poll_timeout() != self.machine.poll_timeout() {
            return Err(Broken::TimeoutUnstable);
        }
        for stream in &self.streams {
            self.driven.calls += 1;
            let credit = self.machine.recv_credit(stream.id);
            if credit != 0 && credit < RECV_CREDIT_MIN {
                return Err(Broken::SmallCredit(stream.id, credit));
            }
        }
        Ok(())
    }

    /// Everything fails and closes; then the last timers run.
    fn end(&mut self) -> Checked {
        self.habits.prompt = true;
        self.drain()?;
        for at in 0..self.streams.len() {
            self.lend(at, usize::MAX)?;
        }
        while !self.streams.is_empty() {
            let dialling = self.streams[0].dialling;
            let id = self.gone(0);
            let error = StreamError::Reset;
            let closed = StreamInput::Closed(error);
            self.tell(id, if dialling { StreamInput::ConnectFailed(error) } else { closed });
        }
        self.drain()?;
        for round in 0..LAST_SLEEPS {
            while self.jobs.len() > 0 {
                let how = if round == 0 { 0xc7 } else { 0 };
                self.complete(0, how)?;
            }
            self.drain()?;
            self.sleep()?;
            self.drain()?;
        }
        self.look()
    }
}

fn byte(u: &mut Unstructured<'_>) -> u8 {
    u8::arbitrary(u).unwrap_or(0)
}

/// None, one, few, many, all.
fn odd_limit(u: &mut Unstructured<'_>) -> usize {
    let byte = byte(u);
    match byte % 8 {
        0 => usize::from(byte / 8),
        1 => 1 << (byte / 8 % 24),
        2 => (1 << (byte / 8 % 24)) - 1,
        _ => usize::MAX,
    }
}

fn why(how: u8) -> StreamError {
    let errors = [
        StreamError::Refused,
        StreamError::Reset,
        StreamError::TimedOut,
        StreamError::Unreachable,
        StreamError::Tls(TlsError::Other),
        StreamError::OutOfResources,
        StreamError::NotPermitted,
        StreamError::Other,
    ];
    errors[usize::from(how) % errors.len()]
}
