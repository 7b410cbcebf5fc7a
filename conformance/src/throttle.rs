//! Takes a machine's receive credit away again and again: the edges must survive it.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use teem_core::ids::{JobId, SocketId, StreamId};
use teem_core::machine::{
    Application, Deadline, Incoming, Input, Job, Machine, Output, RECV_CREDIT_MIN, StreamInput,
    Transmit, TransmitLimit,
};
use teem_core::time::{Duration, Instant};

/// Bytes that all streams together may receive between two pauses.
pub const ALLOWANCE: usize = 64 * 1024;

/// How long a pause is.
pub const PAUSE: Duration = Duration::from_millis(3);

/// A machine that pauses all reading after every [`ALLOWANCE`].
#[derive(Debug)]
pub struct Throttle<M> {
    machine: M,
    left: usize,
    resume: Option<Instant>,
    streams: BTreeSet<StreamId>,
    edges: VecDeque<Output>,
    pauses: u64,
}

impl<M> Throttle<M> {
    /// Throttles `machine`.
    pub const fn new(machine: M) -> Self {
        Self {
            machine,
            left: ALLOWANCE,
            resume: None,
            streams: BTreeSet::new(),
            edges: VecDeque::new(),
            pauses: 0,
        }
    }

    /// How often reading was paused.
    pub const fn pauses(&self) -> u64 {
        self.pauses
    }
}

impl<M: Machine> Machine for Throttle<M> {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        if self.resume.is_some_and(|at| at <= now) {
            self.resume = None;
            self.left = ALLOWANCE;
            self.edges.extend(self.streams.iter().copied().map(Output::WantRead));
        }
        match &input {
            Input::Stream(id, StreamInput::Connected { .. }) => {
                self.streams.insert(*id);
            }
            Input::Stream(id, StreamInput::Closed(_)) => {
                self.streams.remove(id);
            }
            Input::Stream(_, StreamInput::Received(bytes)) => {
                self.left = self.left.saturating_sub(bytes.len());
                if self.left < RECV_CREDIT_MIN && self.resume.is_none() {
                    self.left = 0;
                    self.pauses += 1;
                    self.resume = Some(now + PAUSE);
                }
            }
            _ => {}
        }
        self.machine.handle_input(now, input);
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) -> Option<StreamId> {
        let stream = self.machine.accept(now, incoming)?;
        self.streams.insert(stream);
        Some(stream)
    }

    fn poll_output(&mut self) -> Option<Output> {
        let output = self.edges.pop_front().or_else(|| self.machine.poll_output())?;
        if let Output::Close { stream, .. } = output {
            self.streams.remove(&stream);
        }
        Some(output)
    }

    fn poll_job(&mut self) -> Option<(JobId, Job)> {
        self.machine.poll_job()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let resume = self.resume.map(|at| Deadline { at, reason: "resume" });
        [resume, self.machine.poll_timeout()].into_iter().flatten().min_by_key(|it| it.at)
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        on: SocketId,
        limit: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.machine.poll_transmit(now, on, limit, buf)
    }

    fn poll_send(&mut self, now: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        self.machine.poll_send(now, id, max, out)
    }

    fn recv_credit(&self, stream: StreamId) -> usize {
        self.machine.recv_credit(stream).min(self.left)
    }
}

impl<M: Application> Application for Throttle<M> {
    type Command = M::Command;
    type Event = M::Event;

    fn handle_command(&mut self, now: Instant, command: M::Command) {
        self.machine.handle_command(now, command);
    }

    fn poll_event(&mut self) -> Option<M::Event> {
        self.machine.poll_event()
    }
}
