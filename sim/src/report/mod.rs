//! Reports: one page of HTML about one run or many, for a person who prefers that to numbers; and
//! comparisons.
//!
//! The page is a file on its own: plots are SVG, the style sheet and a small script are in it, and it
//! loads nothing from anywhere. Without the script it is complete. Whatever comes from a scenario or
//! a run is escaped.
//!
//! It has two parts: all runs together, as bands over their seeds, and one run at close range: the
//! first that did not end as it must, or else the one that took longest against its bound.

mod closer;
pub mod compare;
mod html;
mod overall;
mod page;
mod plot;
pub mod stats;
#[cfg(test)]
mod tests;
mod words;

use crate::run::Summary;
use crate::run::record::Recording;

pub use page::page;
pub use words::count;

/// Bytes that a page of 1,000 peers and 20 seeds has at most.
pub const PAGE_BYTES_MAX: usize = 2 << 20;

/// What a page is about.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What it is called: the scenario's name.
    pub title: String,
    /// What it is about, in a line.
    pub about: String,
    /// The command that makes this page.
    pub command: String,
    /// The files of the scenarios: names and texts.
    pub files: Vec<(String, String)>,
    /// One: runs of a scenario. Two: A and B, compared by seed.
    pub groups: Vec<Group>,
}

/// Runs that belong together.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// What they are called.
    pub name: String,
    /// The runs, in the order of their seeds.
    pub runs: Vec<Reported>,
}

impl Group {
    /// Adds a run. What shows a run at close range is kept of one run alone: the first that did not
    /// end as it must, or else the one that took longest against its bound.
    pub fn add(&mut self, run: Reported) {
        self.runs.push(run);
        let focus = self.focus();
        let last = self.runs.len() - 1;
        for (at, run) in self.runs.iter_mut().enumerate() {
            // Others have forgotten already, if they are not the one that was in focus before.
            let is_full = at == last || run.recording.as_ref().is_some_and(has_details);
            if Some(at) != focus
                && is_full
                && let Some(recording) = &mut run.recording
            {
                recording.forget_details();
            }
        }
    }

    /// Which run is worth a closer look.
    fn focus(&self) -> Option<usize> {
        let recorded = || self.runs.iter().enumerate().filter(|(_, run)| run.recording.is_some());
        let wrong = recorded().find(|(_, run)| !run.is_right());
        let over = |run: &Reported| run.over_bound().unwrap_or(0.0);
        // The first of several that took as long.
        let slowest =
            || recorded().rev().max_by(|(_, one), (_, other)| over(one).total_cmp(&over(other)));
        wrong.or_else(slowest).map(|(at, _)| at)
    }
}

fn has_details(recording: &Recording) -> bool {
    !recording.peers.is_empty()
}

/// A run.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    /// In numbers.
    pub summary: Summary,
    /// How it went; none: it panicked.
    pub recording: Option<Recording>,
    /// It must fail.
    pub must_fail: bool,
    /// The command that does it once more.
    pub again: String,
}

impl Reported {
    /// When the last of those that stayed was complete, in seconds after the last came; none if not
    /// all were.
    fn took_s(&self) -> Option<f64> {
        let all = Some(self.summary.took_s).filter(|took| *took > 0.0);
        all.or_else(|| self.recording.as_ref()?.took_s)
    }

    /// The same over the bound.
    fn over_bound(&self) -> Option<f64> {
        let bound = self.summary.bound_s;
        self.took_s().filter(|_| bound > 0.0).map(|took| took / bound)
    }

    /// Whether it ended as it must.
    pub const fn is_right(&self) -> bool {
        self.summary.failed == self.must_fail
    }
}
