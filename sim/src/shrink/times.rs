//! Earlier and shorter: events at full seconds, as early as they do it, the run over soon after.

use teem_core::time::Duration;

use super::Shrinker;
use crate::run::{Fault, Plan};
use crate::time::Nanos;

const SECOND: u64 = 1_000_000_000;

impl Shrinker<'_> {
    pub(super) fn earlier(&mut self) {
        self.try_change("full seconds", |plan| {
            for (at, fault) in &mut plan.faults {
                *at = full_second(*at);
                if let Fault::DiskSlow(_, _, until) = fault {
                    *until = full_second(*until);
                }
            }
            plan.healed_at = last(plan);
        });
        self.try_change("healed after the last event", |plan| plan.healed_at = last(plan));
        // All of them together, then each with what follows, so that distances stay and then go.
        for from in 0..self.plan.faults.len() {
            let at = self.plan.faults[from].0.0;
            let before = from.checked_sub(1).map_or(0, |before| self.plan.faults[before].0.0);
            self.bisect("earlier events", before / SECOND, at.div_ceil(SECOND), |plan, second| {
                let by = at.saturating_sub(second * SECOND);
                for (at, fault) in &mut plan.faults[from..] {
                    at.0 -= by;
                    if let Fault::DiskSlow(_, _, until) = fault {
                        until.0 = until.0.saturating_sub(by).max(at.0);
                    }
                }
                plan.healed_at.0 = plan.healed_at.0.saturating_sub(by).max(last(plan).0);
            });
            if self.is_over {
                return;
            }
        }
        let healed = self.plan.healed_at.0.div_ceil(SECOND);
        let least = last(&self.plan).0.div_ceil(SECOND);
        self.bisect("healed earlier", least, healed, |plan, second| {
            plan.healed_at = Nanos(second * SECOND);
        });
        if self.plan.ends_at.is_some() {
            let ended = self.try_change("no end of its own", |plan| plan.ends_at = None);
            let fails_at = Duration::from_millis(self.now.millis);
            if !ended {
                let second = fails_at.as_secs() + 1;
                self.try_change("an earlier end", |plan| {
                    plan.ends_at = plan.ends_at.map(|at| at.min(Nanos(second * SECOND)));
                });
            }
        }
    }

    /// The smallest number from `least` on for which it fails, if it fails for all above that, too;
    /// for `most` it does.
    pub(super) fn bisect(
        &mut self,
        what: &'static str,
        least: u64,
        most: u64,
        change: impl Fn(&mut Plan, u64),
    ) {
        let base = self.plan.clone();
        let (mut low, mut high) = (least, most);
        // The first guess is the best that there is.
        let mut guess = least;
        while low < high && !self.is_over {
            let mut plan = base.clone();
            change(&mut plan, guess);
            if self.try_plan(what, plan) {
                high = guess;
            } else {
                low = guess + 1;
            }
            guess = low + (high - low) / 2;
        }
    }
}

/// When the last event is over.
fn last(plan: &Plan) -> Nanos {
    let over = |(at, fault): &(Nanos, Fault)| match fault {
        Fault::DiskSlow(_, _, until) => (*at).max(*until),
        _ => *at,
    };
    plan.faults.iter().map(over).max().unwrap_or(Nanos::ZERO)
}

const fn full_second(at: Nanos) -> Nanos {
    Nanos(at.0 / SECOND * SECOND)
}
