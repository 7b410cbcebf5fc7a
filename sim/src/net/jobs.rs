//! Slow work: taken while there is room, done by the host's disk or answered by [`Names`],
//! completed in virtual time.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use teem_core::ids::JobId;
use teem_core::machine::{Input, Job, JobError, JobErrorKind, JobOutput, JobResult, Machine};
use teem_core::time::{Duration, Instant};

use super::agenda::What;
use super::{HostId, Net, Stuck};
use crate::storage::{JOBS_MAX, JobKind};
use crate::time::Nanos;

/// Jobs of one host that may be completed without time moving: more than any session has at a
/// time, so that a machine that tries again for ever is noticed.
pub const COMPLETIONS_MAX: u32 = 100_000;

/// What names mean, and how long it takes to find out.
#[derive(Debug, Default)]
pub struct Names {
    script: BTreeMap<Box<str>, Answer>,
    asked: u64,
}

/// What is said of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its addresses, or why there are none.
    pub found: Result<Vec<IpAddr>, JobErrorKind>,
    /// How long the answer takes.
    pub takes: Duration,
}

impl Names {
    /// From now on a name has these addresses, which is known after a millisecond.
    pub fn add(&mut self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        let found = Ok(addresses.into_iter().collect());
        self.set(name, Answer { found, takes: Duration::from_millis(1) });
    }

    /// From now on this is said of a name.
    pub fn set(&mut self, name: &str, answer: Answer) {
        self.script.insert(name.into(), answer);
    }

    /// How often a name was asked for.
    pub const fn asked(&self) -> u64 {
        self.asked
    }

    /// Addresses in writing are their own answer, at once; unknown names have none.
    fn resolve(&mut self, name: &str, port: u16) -> (Duration, JobResult) {
        self.asked += 1;
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let answer = match bare.unwrap_or(name).parse() {
            Ok(literal) => Answer { found: Ok(vec![literal]), takes: Duration::ZERO },
            Err(_) => self.script.get(name).cloned().unwrap_or_else(|| Answer {
                found: Err(JobErrorKind::NoSuchHost),
                takes: Duration::from_millis(1),
            }),
        };
        let result = match answer.found {
            Ok(found) if !found.is_empty() => {
                let addresses = found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
                Ok(JobOutput::Resolved(addresses))
            }
            Ok(_) => Err(JobErrorKind::NoSuchHost),
            Err(kind) => Err(kind),
        };
        let result = result.map_err(|kind| JobError { kind, detail: name.into() });
        (answer.takes, result)
    }
}

/// Jobs of one host that are not completed, beside those that its disk has.
#[derive(Debug)]
pub(super) struct Pending {
    /// The machine may have more.
    pub(super) wanted: bool,
    answers: BTreeMap<(Nanos, u64), (JobId, JobResult)>,
    /// Completions without time moving.
    completed_at: Instant,
    completed: u32,
}

impl Default for Pending {
    fn default() -> Self {
        let completed_at = Instant::ORIGIN;
        Self { wanted: false, answers: BTreeMap::new(), completed_at, completed: 0 }
    }
}

impl<M: Machine> Net<M> {
    /// Takes what work there is, and completes what takes no time.
    pub(super) fn hand_out_jobs(&mut self, id: HostId) -> Result<(), Stuck> {
        let host = &mut self.hosts[id];
        let Some(machine) = &mut host.machine else { return Ok(()) };
        while host.jobs.wanted && host.disk.room() > 0 && host.jobs.answers.len() < JOBS_MAX {
            let Some((job_id, job)) = machine.poll_job() else {
                host.jobs.wanted = false;
                break;
            };
            if let Job::Resolve { host: name, port } = &job {
                let (takes, result) = self.names.resolve(name, *port);
                let key = (self.now + takes, self.names.asked);
                host.jobs.answers.insert(key, (job_id, result));
            } else if JobKind::of(&job).is_some() {
                host.disk.submit(self.now, job_id, job);
            } else {
                let unknown = JobError { kind: JobErrorKind::Io, detail: "unknown job".into() };
                host.jobs.answers.insert((self.now, u64::MAX), (job_id, Err(unknown)));
            }
        }
        self.complete_jobs(id)
    }

    /// Tells a machine what is done, and sees to it that the rest is noticed in time.
    pub(super) fn complete_jobs(&mut self, id: HostId) -> Result<(), Stuck> {
        loop {
            let now = self.now;
            let host = &mut self.hosts[id];
            if host.machine.is_none() || host.paused {
                return Ok(());
            }
            let first = host.jobs.answers.first_entry().filter(|first| first.key().0 <= now);
            let done = match first {
                Some(first) => Some(first.remove()),
                None if host.disk.next().is_some_and(|at| at <= now) => {
                    host.disk.complete(now, &mut self.library)
                }
                None => None,
            };
            let Some((job, result)) = done else { break };
            if host.jobs.completed_at != self.instant {
                host.jobs.completed_at = self.instant;
                host.jobs.completed = 0;
            }
            host.jobs.completed += 1;
            if host.jobs.completed > COMPLETIONS_MAX {
                return Err(Stuck { host: id, at: self.instant, reason: "jobs without end" });
            }
            self.input(id, Input::Job(job, result));
        }
        let host = &mut self.hosts[id];
        let answer = host.jobs.answers.first_key_value().map(|((at, _), _)| *at);
        let Some(at) = answer.into_iter().chain(host.disk.next()).min() else { return Ok(()) };
        if at < host.job_at {
            host.job_at = at;
            self.agenda.push(at, What::Job(id as u32));
        }
        Ok(())
    }

    pub(super) fn on_job(&mut self, id: HostId, at: Nanos) -> Result<(), Stuck> {
        let host = &mut self.hosts[id];
        if host.job_at != at {
            return Ok(());
        }
        host.job_at = Nanos::NEVER;
        self.complete_jobs(id)
    }
}
