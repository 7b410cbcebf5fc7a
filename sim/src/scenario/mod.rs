//! Scenarios: what a run is about, as a file that people write.
//!
//! A [`Scenario`] is TOML with ranges in it, and a seed makes a [`Plan`] of it. Every number is
//! drawn from a stream of its own, named by what it is for and whom it concerns, so that a change
//! in one place of a file leaves everything else as it was.
//!
//! ```
//! use teem_sim::scenario::Scenario;
//!
//! let scenario = Scenario::parse(
//!     "small",
//!     r#"
//!     content = "1 MiB"
//!     [[peers]]
//!     role = "seeder"
//!     [[peers]]
//!     role = "leecher"
//!     count = "3..5"
//!     up = "500..2000 kB/s"
//!     "#,
//! )?;
//! let plan = scenario.draw(7, false);
//! assert!((4..=6).contains(&plan.hosts.len()));
//! # Ok::<(), teem_sim::scenario::ScenarioError>(())
//! ```
//!
//! [`bundled()`] has some by name. What a file may say is listed in [`file`](Scenario) and told at
//! length in `docs/simulate.md`.

mod arrivals;
mod bundled;
mod delays;
mod draw;
mod events;
mod families;
mod file;
mod line;
mod nats;
mod units;
mod write;

pub use arrivals::Arrival;
pub use bundled::{BUNDLED, Bundled, bundled};
pub use delays::{Delay, LogNormal};
pub use events::Event;
pub use file::{
    Choking, Clock, ClockSkew, Disk, DiskErrors, DiskFull, Distance, Families, Faults, Fidelity,
    Format, Gate, Leave, Loss, Mix, Moment, Order, Partition, Peers, Preload, Role, Scenario,
    Settings, Slow, Spell, Tcp, Trackers,
};
pub use line::{Bursts, Line, Reorder, Waiting};
pub use nats::{Nat, NatKind, PER_MAX, Ports, Unsolicited};
pub use units::{
    Bytes, Count, Factor, Part, PerSecond, Range, Rate, Seconds, Share, Signed, Time, Unit,
    UnitError,
};
pub use write::{Unwritable, write};

use crate::net::{DRIFT_MAX_PPM, OFFSET_MAX};
#[cfg(doc)]
use crate::run::Plan;

/// Hosts that a scenario may have.
pub const HOSTS_MAX: u64 = 200_000;

/// Bytes of content that a scenario may have: a run holds them once.
pub const CONTENT_MAX: u64 = 4 << 30;

/// Bytes that a piece has at least; a block.
pub const PIECE_MIN: u64 = 16 << 10;

/// Trackers that a scenario may have: every client announces to each.
pub const TRACKERS_MAX: u64 = 64;

/// Partitions that a run may have, one after the other: groups are bits, two for each.
pub const CUTS_MAX: u64 = 32;

/// Why a file is not a scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// It is not TOML, a field is not known or missing, or a value cannot be read. The text shows
    /// the line.
    #[error("{0}")]
    Text(String),
    /// A value can be read, and makes no sense.
    #[error("{field}: {why}")]
    Field {
        /// Which one.
        field: String,
        /// What is wrong with it, and what would do.
        why: String,
    },
}

impl Scenario {
    /// Reads a scenario and looks whether it makes sense. It goes by `name` if it does not say
    /// otherwise.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let mut scenario: Self = toml::from_str(text)
            .map_err(|error| ScenarioError::Text(error.to_string().trim_end().to_owned()))?;
        if scenario.name.is_empty() {
            name.clone_into(&mut scenario.name);
        }
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), ScenarioError> {
        let wrong =
            |field: &str, why: String| Err(ScenarioError::Field { field: field.to_owned(), why });
        if self.content.least() == 0 || self.content.most() > CONTENT_MAX {
            return wrong("content", "from 1 B to 4 GiB".into());
        }
        let sizes = [self.piece.least(), self.piece.most()];
        let sound = |size: &u64| size.is_power_of_two() && (PIECE_MIN..=1 << 30).contains(size);
        if !sizes.iter().all(sound) {
            return wrong("piece", "a power of two of at least 16 KiB, such as \"256 KiB\"".into());
        }
        let has_tracker = self.peers.iter().any(|group| group.role == Role::Tracker);
        if self.degree.most() == 0 && self.tracker.count.most() == 0 && !has_tracker {
            return wrong("degree", "peers find nobody: at least 1, or tracker = true".into());
        }
        if self.tracker.count.most() > TRACKERS_MAX {
            return wrong("tracker.count", format!("at most {TRACKERS_MAX}"));
        }
        let hosts: u64 = self.peers.iter().map(|group| group.count.most()).sum();
        if hosts > HOSTS_MAX {
            return wrong("peers", format!("{hosts} hosts are more than {HOSTS_MAX}"));
        }
        if self.peers.iter().all(|group| group.role != Role::Seeder && group.preload.is_none()) {
            let why = "nobody has the content: add [[peers]] with role = \"seeder\"";
            return wrong("peers", why.into());
        }
        for (at, group) in self.peers.iter().enumerate() {
            let wrong = |field: &str, why: &str| {
                wrong(&format!("{field} of peers group {}", at + 1), why.to_owned())
            };
            if [group.up, group.down, group.up_limit, group.down_limit]
                .iter()
                .flatten()
                .any(|rate| rate.least() == 0)
            {
                let why = "a rate is at least 1 B/s; leave it out for no limit";
                return wrong("up, down, up_limit or down_limit", why);
            }
            for (field, delay) in [("latency", &group.latency), ("jitter", &group.jitter)] {
                if let Some(why) = delay.wrong() {
                    return wrong(field, why);
                }
            }
            if let Some((field, why)) = group.line.as_ref().and_then(Line::wrong) {
                return wrong(&format!("line.{field}"), why);
            }
            if is_beyond(group.clock_offset, group.clock_drift)
                || group.clock.is_some_and(|clock| is_off(clock.offset, clock.drift))
            {
                return wrong("clock_offset or clock_drift", CLOCKS);
            }
            if group.loss.most() > 500_000 {
                return wrong("loss", "at most 50 %: beyond that nothing gets through");
            }
            if group.preload.is_some_and(|preload| preload.0.most() > 1_000_000) {
                return wrong("preload", "at most 100 %");
            }
            if let Some((field, why)) = group.nat.as_ref().and_then(Nat::wrong) {
                return wrong(field, why);
            }
            match &group.arrival {
                Arrival::AtS(times) if (times.len() as u64) < group.count.most() => {
                    return wrong("arrival", "at_s needs a time for each host of the group");
                }
                Arrival::PoissonPerS(rate) if rate.least() == 0 => {
                    return wrong("arrival", "poisson_per_s is above zero");
                }
                _ => {}
            }
            if matches!(group.choking, Choking::RoundRobin(bytes) if bytes.least() == 0) {
                return wrong("choking", "round_robin needs a number of bytes above zero");
            }
        }
        self.check_places()?;
        if let Some((field, why)) = nats::wrong(self) {
            return wrong(&field, why);
        }
        for distance in &self.distances {
            for region in &distance.regions {
                if !self.peers.iter().any(|group| group.region == *region) {
                    return wrong("distances", format!("nobody is in region \"{region}\""));
                }
            }
        }
        self.faults.check()
    }

    /// Places are in order, and events befall hosts that there are.
    fn check_places(&self) -> Result<(), ScenarioError> {
        let wrong = |field: String, why: String| Err(ScenarioError::Field { field, why });
        let (mut least, mut most) = (0, 0);
        for (at, group) in self.peers.iter().enumerate() {
            if let Some(place) = group.place {
                if (place as u64) < most {
                    let why = format!("{place} may be taken: the next one that is free is {most}");
                    return wrong(format!("place of peers group {}", at + 1), why);
                }
                if place as u64 > HOSTS_MAX {
                    let why = format!("at most {HOSTS_MAX}");
                    return wrong(format!("place of peers group {}", at + 1), why);
                }
                (least, most) = (place as u64, place as u64);
            }
            least += group.count.least();
            most += group.count.most();
        }
        for (at, event) in self.events.iter().enumerate() {
            if let Some(why) = event.wrong(least as usize) {
                return wrong(format!("event {}", at + 1), why);
            }
            if is_off(event.offset, event.drift) {
                return wrong(format!("event {}", at + 1), CLOCKS.into());
            }
        }
        if events::cut_groups(&self.events) > events::CUT_GROUPS_MAX {
            return wrong(
                "events".into(),
                "at most 64 different groups of hosts are cut off".into(),
            );
        }
        Ok(())
    }
}

impl Faults {
    fn check(&self) -> Result<(), ScenarioError> {
        let wrong = |field: &str, why: &str| {
            Err(ScenarioError::Field { field: field.to_owned(), why: why.to_owned() })
        };
        if self.partition.is_some_and(|cut| cut.cuts.least() == 0 || cut.cuts.most() > CUTS_MAX) {
            return wrong("faults.partition.cuts", "from 1 to 32");
        }
        if self.loss.is_some_and(|loss| loss.loss.least() == 0 || loss.loss.most() > 500_000) {
            return wrong("faults.loss.loss", "above 0 % and at most 50 %");
        }
        for (name, slow) in [("slow-links", self.slow_links), ("disk-slow", self.disk_slow)] {
            if slow.is_some_and(|slow| slow.factor.least() < 2_000 || slow.factor.most() > 1 << 30)
            {
                return wrong(&format!("faults.{name}.factor"), "at least 2");
            }
        }
        for (name, errors) in
            [("disk-errors", self.disk_errors), ("misdirected-writes", self.misdirected_writes)]
        {
            let chance = errors.map(|errors| errors.chance);
            if chance.is_some_and(|chance| chance.least() == 0 || chance.most() > 1_000_000) {
                let field = format!("faults.{name}.chance");
                return wrong(&field, "above 0 % and at most 100 %");
            }
        }
        if self.clock_skew.is_some_and(|skew| is_beyond(skew.offset, skew.drift)) {
            return wrong("faults.clock-skew", CLOCKS);
        }
        if self.clock_skew.is_some_and(|skew| skew.offset.least() + skew.drift.least() == 0) {
            return wrong("faults.clock-skew", "an offset or a drift above zero");
        }
        Ok(())
    }
}

/// How wrong clocks may be.
const CLOCKS: &str = "clocks are off by a year at most, and drift by 50 % at most";

/// The same of what is said with a sign.
fn is_off(offset: Option<Signed<Time>>, drift: Option<Signed<Share>>) -> bool {
    let off = |value: Option<i64>| value.unwrap_or_default().unsigned_abs();
    is_beyond(Range::of(off(offset.map(Signed::get))), Range::of(off(drift.map(Signed::get))))
}

const fn is_beyond(offset: Range<Time>, drift: Range<Share>) -> bool {
    offset.most() > OFFSET_MAX.cast_unsigned()
        || drift.most() > DRIFT_MAX_PPM.cast_unsigned() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "content = \"1 MiB\"\n[[peers]]\nrole = \"seeder\"\n";

    fn error(text: &str) -> String {
        Scenario::parse("test", text).expect_err(text).to_string()
    }

    #[test]
    fn unknown_fields_are_named_with_those_that_there_are() {
        let said = error(&format!("{SMALL}upp = \"1 MB/s\"\n"));
        assert!(
            said.contains("`upp`") && said.contains("`up`") && said.contains("line 4"),
            "{said}"
        );
        let said = error(&format!("{SMALL}[faults.crush]\n"));
        assert!(said.contains("`crush`") && said.contains("`crash`"), "{said}");
        let said = error(&format!("{SMALL}[faults.crash]\nlosts = \"1 s\"\n"));
        assert!(said.contains("`losts`") && said.contains("`lasts`"), "{said}");
    }

    #[test]
    fn values_that_cannot_be_read_are_shown_with_what_would_do() {
        for (line, hint) in [
            ("up = \"fast\"", "500 kB/s"),
            ("up = 5", "500 kB/s"),
            ("disk = \"tape\"", "`hdd`"),
            ("role = \"captain\"", "leecher"),
            ("arrival = { poisson_per_s = \"often\" }", "2 or 0.5"),
            ("leave = \"soon\"", "`after_complete`"),
            ("preload = \"half\"", "everything"),
        ] {
            let text = SMALL.replace("role = \"seeder\"", "role = \"leecher\"");
            let text = if line.starts_with("role") {
                SMALL.replace("role = \"seeder\"", line)
            } else {
                format!("{text}{line}\n")
            };
            let said = error(&text);
            let key = line.split(' ').next().expect("a key");
            assert!(said.contains(hint) && said.contains(key), "{line}: {said}");
        }
        let said = error(&format!("mix = \"10 % villain\"\n{SMALL}"));
        assert!(said.contains("villain") && said.contains("slow-loris"), "{said}");
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        for (text, field) in [
            ("content = \"0 B\"\n[[peers]]\nrole = \"seeder\"", "content"),
            ("content = \"1 MiB\"\npiece = \"100 KiB\"\n[[peers]]\nrole = \"seeder\"", "piece"),
            ("content = \"1 MiB\"\ndegree = 0\n[[peers]]\nrole = \"seeder\"", "degree"),
            ("content = \"1 MiB\"\n[[peers]]\nrole = \"leecher\"", "peers"),
            ("content = \"1 MiB\"\n[[peers]]\nrole = \"seeder\"\ncount = 300000", "peers"),
            (
                "content = \"1 MiB\"\n[[peers]]\nrole = \"seeder\"\ncount = 2\n\
                 arrival = { at_s = [1] }",
                "arrival of peers group 1",
            ),
        ] {
            let said = error(text);
            assert!(said.starts_with(&format!("{field}: ")), "{text}: {said}");
        }
    }

    #[test]
    fn a_scenario_without_a_name_is_called_as_its_file() {
        assert_eq!(Scenario::parse("small", SMALL).map(|it| it.name), Ok("small".into()));
        let named = format!("name = \"mine\"\n{SMALL}");
        assert_eq!(Scenario::parse("small", &named).map(|it| it.name), Ok("mine".into()));
    }
}
