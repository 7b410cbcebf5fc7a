//! A client between whom and its driver a test has put its fingers: a job of its choice fails, or
//! calls to some addresses are never answered.

use std::net::SocketAddr;

use bytes::Bytes;
use teem_core::ids::{JobId, SocketId, StreamId};
use teem_core::machine::{
    Application, Deadline, FileOp, Incoming, Input, Job, JobError, JobErrorKind, Machine, Output,
    Transmit, TransmitLimit,
};
use teem_core::rng::Seed;
use teem_core::session::{Command, Config, Event, Session};
use teem_core::time::Instant;
use teem_sim::net::{HostId, WALL};
use teem_sim::swarm::{Node, Swarm};

/// What the failed job says for itself.
pub(crate) const DETAIL: &str = "the test did that";

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Tampered {
    pub(crate) session: Session,
    now: Instant,
    /// Jobs taken so far.
    pub(crate) jobs: u64,
    /// The job of that number fails, counted from zero.
    pub(crate) fail: Option<u64>,
    /// What the failed job was.
    pub(crate) failed: Option<&'static str>,
    /// Whoever is called there never answers.
    pub(crate) deaf: Vec<SocketAddr>,
    /// Calls that were never answered.
    pub(crate) unanswered: Vec<SocketAddr>,
    pub(crate) events: Vec<Event>,
}

impl Tampered {
    /// A client that is not tampered with yet, on a host that was not there.
    pub(crate) fn join(swarm: &mut Swarm, address: SocketAddr, config: Config) -> HostId {
        let now = swarm.now();
        let this = Self {
            session: Session::new(config, Seed::from_number(99), now, WALL),
            now,
            jobs: 0,
            fail: None,
            failed: None,
            deaf: Vec::new(),
            unanswered: Vec::new(),
            events: Vec::new(),
        };
        swarm.net.add(address.ip(), Node::Actor(Box::new(this)))
    }

    pub(crate) fn of(swarm: &Swarm, host: HostId) -> &Self {
        swarm.net.machine(host).actor().expect("it is tampered with")
    }

    pub(crate) fn of_mut(swarm: &mut Swarm, host: HostId) -> &mut Self {
        swarm.net.machine_mut(host).actor_mut().expect("it is tampered with")
    }

    pub(crate) fn command(swarm: &mut Swarm, host: HostId, command: Command) {
        let now = swarm.now();
        Self::of_mut(swarm, host).session.handle_command(now, command);
    }

    fn listen_in(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.events.push(event);
        }
    }
}

fn kind(job: &Job) -> &'static str {
    match job {
        Job::Read { .. } => "read",
        Job::Write { .. } => "write",
        Job::Hash { .. } => "hash",
        Job::Save { .. } => "save",
        Job::Resolve { .. } => "resolve",
        Job::Files { op: FileOp::Open(_), .. } => "open",
        Job::Files { op: FileOp::Flush, .. } => "flush",
        Job::Files { op: FileOp::Close, .. } => "close",
        Job::Files { op: FileOp::Delete, .. } => "delete",
        _ => "other",
    }
}

impl Machine for Tampered {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.now = now;
        self.session.handle_input(now, input);
        self.listen_in();
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) -> Option<StreamId> {
        self.session.accept(now, incoming)
    }

    fn poll_output(&mut self) -> Option<Output> {
        loop {
            match self.session.poll_output()? {
                Output::Connect(connect) if self.deaf.contains(&connect.to) => {
                    self.unanswered.push(connect.to);
                }
                output => return Some(output),
            }
        }
    }

    fn poll_job(&mut self) -> Option<(JobId, Job)> {
        loop {
            let (id, job) = self.session.poll_job()?;
            let number = self.jobs;
            self.jobs += 1;
            if self.fail != Some(number) {
                return Some((id, job));
            }
            self.failed = Some(kind(&job));
            let error = JobError { kind: JobErrorKind::Io, detail: DETAIL.into() };
            self.session.handle_input(self.now, Input::Job(id, Err(error)));
            self.listen_in();
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.session.poll_timeout()
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        on: SocketId,
        limit: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.session.poll_transmit(now, on, limit, buf)
    }

    fn poll_send(&mut self, now: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        self.session.poll_send(now, id, max, out)
    }

    fn recv_credit(&self, stream: StreamId) -> usize {
        self.session.recv_credit(stream)
    }
}
