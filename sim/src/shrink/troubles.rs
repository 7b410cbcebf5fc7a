//! Fewer troubles: what belongs together goes together first (a crash and the coming back from it),
//! and then each event for itself.

use super::Shrinker;
use super::hosts::tidy;
use crate::run::{Fault, Plan};

impl Shrinker<'_> {
    pub(super) fn fewer_troubles(&mut self) {
        let mut troubles: Vec<(Sort, Option<usize>)> = Vec::new();
        for (_, fault) in &self.plan.faults {
            let trouble = trouble(fault);
            if !troubles.contains(&trouble) {
                troubles.push(trouble);
            }
        }
        self.take_away("fewer troubles", troubles, |plan, gone| {
            without(plan, |_, fault| gone.contains(&trouble(fault)))
        });
    }

    pub(super) fn fewer_events(&mut self) {
        // From the end, so that the numbers of those before stay.
        loop {
            let plans: Vec<_> = (0..self.plan.faults.len())
                .rev()
                .map(|gone| without(&self.plan, |at, _| at == gone))
                .collect();
            if self.try_plans("fewer events", plans).is_none() {
                return;
            }
        }
    }
}

/// What belongs together, on one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Presence,
    Pause,
    Cut,
    Move,
    Link,
    Disk,
    Clock,
}

const fn trouble(fault: &Fault) -> (Sort, Option<usize>) {
    let sort = match fault {
        Fault::Crash(..) | Fault::Restart(_) => Sort::Presence,
        Fault::Pause(_) | Fault::Resume(_) => Sort::Pause,
        Fault::Cut(..) | Fault::Heal => Sort::Cut,
        Fault::Move(_) => Sort::Move,
        Fault::Access(..) => Sort::Link,
        Fault::DiskErrors(..)
        | Fault::DiskErrorAt(..)
        | Fault::DiskRoom(..)
        | Fault::DiskSlow(..)
        | Fault::DiskHeals(_)
        | Fault::RestartTorrent(_)
        | Fault::DiskMisdirects(..)
        | Fault::Recheck(_) => Sort::Disk,
        Fault::Clock(..) => Sort::Clock,
    };
    (sort, fault.host())
}

fn without(plan: &Plan, gone: impl Fn(usize, &Fault) -> bool) -> Plan {
    let mut plan = plan.clone();
    let faults = std::mem::take(&mut plan.faults).into_iter().enumerate();
    plan.faults =
        faults.filter(|(at, (_, fault))| !gone(*at, fault)).map(|(_, fault)| fault).collect();
    tidy(&mut plan);
    plan
}
