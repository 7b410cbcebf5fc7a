//! What is tried, in which order; and plainer values.

use teem_core::metainfo::create::Format;
use teem_core::session::Config;
use teem_core::time::Duration;

use super::Shrinker;
use super::hosts::tidy;
use crate::net::{Access, LineId, Skew, Spread};
use crate::run::{Choking, Fault, HostPlan, Leaves, PickOrder, Plan, Preload, Role};
use crate::scenario::{Settings, write};
use crate::storage::Profile;
use crate::time::Nanos;

/// Hosts up to which each is made plainer for itself.
pub(super) const HOSTS_MAX: usize = 12;

/// A block.
const PIECE_MIN: u32 = 16 << 10;

impl Shrinker<'_> {
    /// Everything, until nothing helps any more.
    pub(super) fn all_passes(&mut self) {
        let never_fired = self.target.0.strip_prefix("never-fired: ").map(str::to_owned);
        self.try_change("no kinds of trouble that must happen", |plan| {
            plan.families.retain(|family| never_fired.as_deref() == Some(family.name()));
        });
        loop {
            let before = self.steps.len();
            self.fewer_troubles();
            self.fewer_hosts();
            self.fewer_nats();
            self.fewer_events();
            self.first_places();
            self.first_numbers_of_nats();
            self.less_content();
            self.plainer();
            self.earlier();
            if self.steps.len() == before || self.is_over {
                return;
            }
        }
    }

    fn less_content(&mut self) {
        let piece_len = self.plan.piece_len;
        let pieces = self.plan.content_len.div_ceil(piece_len.into());
        if piece_len > PIECE_MIN {
            self.try_change("pieces of a block", |plan| {
                plan.piece_len = PIECE_MIN;
                plan.content_len = pieces * u64::from(PIECE_MIN);
            });
        }
        let piece_len = u64::from(self.plan.piece_len);
        let fewer: Vec<_> = (0..u64::BITS)
            .map(|power| 1_u64 << power)
            .take_while(|count| count * piece_len < self.plan.content_len)
            .map(|count| Plan { content_len: count * piece_len, ..self.plan.clone() })
            .collect();
        self.try_plans("less content", fewer);
        let pieces = self.plan.content_len.div_ceil(piece_len);
        self.bisect("less content", pieces / 2 + 1, pieces, |plan, count| {
            plan.content_len = plan.content_len.min(count * piece_len);
        });
    }

    /// What concerns all hosts is tried each time. Each for itself is changed once, when they are
    /// few: what makes them alike again would undo it, and it that.
    fn plainer(&mut self) {
        let is_late = self.target.0 == "incomplete";
        self.try_change("a v1 torrent", |plan| plan.format = Format::V1);
        self.try_change("20 ms between all", |plan| plan.between = Duration::from_millis(20));
        self.try_change("one region", |plan| {
            plan.distances.clear();
            each_access(plan, |access| access.region = 0);
        });
        self.try_change("everybody is told of fifteen", |plan| plan.degree = 30);
        if !is_late {
            // How long is waited decides only who is late.
            self.try_change("the usual gate", |plan| {
                plan.bound_permille = 2_000;
                plan.slack = Duration::from_mins(2);
            });
        }
        self.each_host("clocks that are right", &|host| host.clock = Skew::NONE);
        self.each_host("all at once", &|host| host.arrives = Nanos::ZERO);
        self.each_host("nobody leaves", &|host| host.leaves = Leaves::Never);
        self.each_host("empty disks", &|host| {
            if matches!(host.preload, Preload::Part(_)) {
                host.preload = Preload::Nothing;
            }
        });
        self.each_host("instant disks", &|host| host.disk = Profile::INSTANT);
        self.each_host("the usual order", &|host| host.order = PickOrder::default());
        self.each_host("the usual choker", &|host| host.choking = Choking::default());
        for name in Settings(self.config()).changed().keys() {
            self.each_host("the usual settings", &|host| {
                let mut changed = Settings(host.config.clone()).changed();
                changed.remove(name);
                if let Ok(Settings(config)) = Settings::with(&changed) {
                    host.config = config;
                }
            });
        }
        self.try_change("lines that do nothing to packets", |plan| {
            each_access(plan, |access| access.line = LineId(0));
            tidy(plan);
        });
        self.plainer_nats();
        self.each_link("no losses", &|access| access.loss_ppm = 0);
        self.each_link("no delay of its own", &|access| access.latency = Spread::ZERO);
        self.each_link("constant delays", &|access| {
            access.latency = Spread::Constant(least(access.latency));
        });
        self.try_change("no measurements", |plan| plan.curves.clear());
        if !is_late {
            // Without limits the least time is none, and everybody is late.
            self.each_link("any rate down", &|access| access.down_bytes_per_s = None);
            self.each_link("any rate up", &|access| access.up_bytes_per_s = None);
        }
        self.each_link("round rates", &|access| {
            access.up_bytes_per_s = access.up_bytes_per_s.map(rounded);
            access.down_bytes_per_s = access.down_bytes_per_s.map(rounded);
        });
        self.each_link("round delays", &|access| {
            if let Spread::Constant(delay) = access.latency {
                access.latency = Spread::Constant(Duration::from_millis(delay.as_millis() as u64));
            }
        });
        self.alike();
        self.was_each_plainer |= self.left().0 <= HOSTS_MAX;
    }

    /// All settings that are not the usual ones anywhere.
    fn config(&self) -> Config {
        let mut all = toml::Table::new();
        for host in &self.plan.hosts {
            all.extend(Settings(host.config.clone()).changed());
        }
        Settings::with(&all).map_or_else(|_| Config::default(), |settings| settings.0)
    }

    /// Changes all hosts, or as many as can be.
    fn each_host(&mut self, what: &'static str, change: &dyn Fn(&mut HostPlan)) {
        let changed = self.try_change(what, |plan| {
            for host in &mut plan.hosts {
                if host.role != Role::Nobody {
                    change(host);
                }
            }
        });
        if changed || self.was_each_plainer || self.left().0 > HOSTS_MAX {
            return;
        }
        for place in 0..self.plan.hosts.len() {
            if self.plan.hosts[place].role != Role::Nobody {
                self.try_change(what, |plan| change(&mut plan.hosts[place]));
            }
        }
    }

    /// Changes all links, or as many as can be.
    fn each_link(&mut self, what: &'static str, change: &dyn Fn(&mut Access)) {
        let changed = self.try_change(what, |plan| each_access(plan, change));
        if changed || self.was_each_plainer || self.left().0 > HOSTS_MAX {
            return;
        }
        for place in 0..self.plan.hosts.len() {
            self.try_change(what, |plan| change_access(plan, place, change));
        }
    }

    /// Has all that fetch be attached and set as one of them is, if that makes the file shorter.
    fn alike(&mut self) {
        let leechers: Vec<usize> = (0..self.plan.hosts.len())
            .filter(|place| {
                let host = &self.plan.hosts[*place];
                host.role == Role::Peer && host.preload == Preload::Nothing
            })
            .collect();
        let plans = leechers
            .iter()
            .take(3)
            .map(|like| {
                let model = self.plan.hosts[*like].clone();
                let mut plan = self.plan.clone();
                for place in &leechers {
                    change_access(&mut plan, *place, &|access| {
                        access.up_bytes_per_s = model.access.up_bytes_per_s;
                        access.down_bytes_per_s = model.access.down_bytes_per_s;
                        access.latency = model.access.latency;
                    });
                    plan.hosts[*place].config = model.config.clone();
                    plan.hosts[*place].disk = model.disk;
                }
                plan
            })
            .filter(|plan| lines(plan) < lines(&self.plan))
            .collect();
        self.try_plans("alike", plans);
    }
}

/// Lines of its file.
fn lines(plan: &Plan) -> usize {
    write(plan).map_or(usize::MAX, |text| text.lines().count())
}

fn each_access(plan: &mut Plan, change: impl Fn(&mut Access)) {
    for place in 0..plan.hosts.len() {
        change_access(plan, place, &change);
    }
}

/// Changes a host's link, and what becomes of it meanwhile.
fn change_access(plan: &mut Plan, place: usize, change: &dyn Fn(&mut Access)) {
    let host = &mut plan.hosts[place];
    if host.role == Role::Nobody {
        return;
    }
    let usual = host.access;
    change(&mut host.access);
    let now = host.access;
    for (_, fault) in &mut plan.faults {
        let Fault::Access(whom, access) = fault else { continue };
        if *whom == place {
            // What was as usual is as usual; what was not stays as it was.
            let keep = |was: Option<u64>, usual: Option<u64>, now: Option<u64>| {
                if was == usual { now } else { was.or(now) }
            };
            *access = Access {
                up_bytes_per_s: keep(
                    access.up_bytes_per_s,
                    usual.up_bytes_per_s,
                    now.up_bytes_per_s,
                ),
                down_bytes_per_s: keep(
                    access.down_bytes_per_s,
                    usual.down_bytes_per_s,
                    now.down_bytes_per_s,
                ),
                latency: if access.latency == usual.latency { now.latency } else { access.latency },
                loss_ppm: if access.loss_ppm == usual.loss_ppm {
                    now.loss_ppm
                } else {
                    access.loss_ppm
                },
                ..now
            };
        }
    }
}

/// The least that it can be.
const fn least(spread: Spread) -> Duration {
    match spread {
        Spread::Constant(least) | Spread::Uniform(least, _) => least,
        Spread::LogNormal { base, .. } | Spread::Empirical { base, .. } => base,
    }
}

/// To two digits.
const fn rounded(rate: u64) -> u64 {
    let mut unit = 1;
    while rate / unit >= 100 {
        unit *= 10;
    }
    rate / unit * unit
}
