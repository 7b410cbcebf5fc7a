//! Slow work: taken while there is room, done by the disk, completed in virtual time.

use std::collections::BTreeMap;

use teem_core::ids::TorrentId;
use teem_core::machine::{Input, Job, Machine};
use teem_core::time::Duration;

use super::agenda::What;
use super::{HostId, JOBS_MAX, JobId, JobResult, Net};
use crate::time::Nanos;

/// Jobs of one host that are not completed.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The machine may have more.
    pub(super) wanted: bool,
    taken: u64,
    done: BTreeMap<(Nanos, u64), (JobId, JobResult)>,
    /// When the latest completion of each torrent comes; fences and file work come no earlier.
    completions: BTreeMap<Option<TorrentId>, Nanos>,
}

impl<M: Machine> Net<M> {
    pub(super) fn hand_out_jobs(&mut self, id: HostId) {
        let host = &mut self.hosts[id];
        let Some(machine) = &mut host.machine else { return };
        while host.jobs.wanted && host.jobs.done.len() < JOBS_MAX {
            let Some((job_id, job)) = machine.poll_job() else {
                host.jobs.wanted = false;
                break;
            };
            let mut at = self.now + Duration::from_millis(1);
            let (torrent, last) = order(&job);
            let latest = host.jobs.completions.entry(torrent).or_insert(at);
            if last {
                at = at.max(*latest);
            }
            *latest = at.max(*latest);
            host.disk.set_now(self.instant);
            let result = host.disk.run(job);
            host.jobs.taken += 1;
            host.jobs.done.insert((at, host.jobs.taken), (job_id, result));
        }
        self.rearm_jobs(id);
    }

    pub(super) fn rearm_jobs(&mut self, id: HostId) {
        let host = &mut self.hosts[id];
        let Some(((at, _), _)) = host.jobs.done.first_key_value() else { return };
        if *at < host.job_at {
            host.job_at = *at;
            self.agenda.push(*at, What::Job(id as u32));
        }
    }

    pub(super) fn on_job(&mut self, id: HostId, at: Nanos) {
        let host = &mut self.hosts[id];
        if host.job_at != at {
            return;
        }
        host.job_at = Nanos::NEVER;
        if host.paused {
            return;
        }
        while let Some(first) = self.hosts[id].jobs.done.first_entry()
            && first.key().0 <= self.now
        {
            let (job, result) = first.remove();
            self.input(id, Input::Job(job, result));
        }
        self.rearm_jobs(id);
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
