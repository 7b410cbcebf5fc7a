//! What goes wrong when, and with whom: events that a file names one by one.
//!
//! Where `[faults]` draws, an event says: `{ at = "12 s", power = 3 }`. Hosts are called by their
//! places, the first one 0, which is how runs and traces call them.

use serde::Deserialize;
use teem_core::rng::{Rng, Seed};
use teem_core::time::Duration;

use super::delays::Delay;
use super::file::Scenario;
use super::units::{Bytes, Count, Factor, Range, Rate, Share, Signed, Time};
use crate::net::{Access, Skew, Spread};
use crate::run::{Fault, HostPlan};
use crate::storage::{Crash, JobKind};
use crate::time::Nanos;

/// Something that goes wrong, or is mended, at a time. One of the kinds, and what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, since the beginning of the run.
    #[serde(default)]
    pub at: Range<Time>,
    /// This host's process ends.
    pub crash: Option<usize>,
    /// This host loses its power.
    pub power: Option<usize>,
    /// This host comes back, with its disk, if it is down.
    pub restart: Option<usize>,
    /// This host's process is stopped.
    pub pause: Option<usize>,
    /// It goes on.
    pub resume: Option<usize>,
    /// Nothing gets from the hosts of the first list to those of the second.
    pub cut: Option<[Vec<usize>; 2]>,
    /// All cuts are over.
    #[serde(default)]
    pub heal: bool,
    /// This host gets another address.
    #[serde(rename = "move")]
    pub moves: Option<usize>,
    /// This host's link is as its group says, but for `up`, `down`, `latency`, `jitter` and `loss`
    /// if they are there.
    pub link: Option<usize>,
    /// Jobs of kind `job` fail on this host: with `chance`, or only the `nth`, counted from one.
    #[serde(rename = "disk-errors")]
    pub disk_errors: Option<usize>,
    /// This host's disk has `room` for so many more bytes; without it, for everything.
    #[serde(rename = "disk-full")]
    pub disk_full: Option<usize>,
    /// This host's disk is `factor` times slower `until` then.
    #[serde(rename = "disk-slow")]
    pub disk_slow: Option<usize>,
    /// This host's disk has no faults any more.
    #[serde(rename = "disk-heals")]
    pub disk_heals: Option<usize>,
    /// This host's torrent, if it failed, is started again.
    #[serde(rename = "restart-torrent")]
    pub restart_torrent: Option<usize>,
    /// Writes of this host land in the wrong place with `chance`.
    #[serde(rename = "misdirected-writes")]
    pub misdirects: Option<usize>,
    /// All that is on this host's disk is checked, without its resume data and under another
    /// address.
    pub recheck: Option<usize>,
    /// This host's clocks are off by `offset` and `drift`; without them, right.
    pub clock: Option<usize>,

    /// What the link can send.
    pub up: Option<Range<Rate>>,
    /// What the link can receive.
    pub down: Option<Range<Rate>>,
    /// From the host to its region and back, each.
    pub latency: Option<Delay>,
    /// On top of that, for each connection and datagram.
    pub jitter: Option<Delay>,
    /// Losses each way.
    pub loss: Option<Range<Share>>,
    /// Which jobs: `read`, `write`, `hash`, `open`, `flush`, `save` and others; see [`JobKind`].
    pub job: Option<String>,
    /// How likely a job goes wrong.
    pub chance: Option<Range<Share>>,
    /// Which of them goes wrong.
    pub nth: Option<Range<Count>>,
    /// Bytes that there is room for.
    pub room: Option<Range<Bytes>>,
    /// How many times slower.
    pub factor: Option<Range<Factor>>,
    /// Until when.
    pub until: Option<Range<Time>>,
    /// How far clocks are ahead; negative: behind.
    pub offset: Option<Signed<Time>>,
    /// By how much they are too fast; negative: too slow.
    pub drift: Option<Signed<Share>>,
}

/// A kind of event: what it is called, whom it befalls, and what belongs to it.
struct Kind {
    name: &'static str,
    host: Option<usize>,
    takes: &'static [&'static str],
}

impl Event {
    /// The kinds that are there; one, if the event is sound.
    fn kinds(&self) -> Vec<Kind> {
        let of = |name, host: Option<usize>, takes| {
            host.map(|host| Kind { name, host: Some(host), takes })
        };
        let whole = |name, there: bool| there.then_some(Kind { name, host: None, takes: &[] });
        [
            of("crash", self.crash, &[]),
            of("power", self.power, &[]),
            of("restart", self.restart, &[]),
            of("pause", self.pause, &[]),
            of("resume", self.resume, &[]),
            whole("cut", self.cut.is_some()),
            whole("heal", self.heal),
            of("move", self.moves, &[]),
            of("link", self.link, &["up", "down", "latency", "jitter", "loss"]),
            of("disk-errors", self.disk_errors, &["job", "chance", "nth"]),
            of("disk-full", self.disk_full, &["room"]),
            of("disk-slow", self.disk_slow, &["factor", "until"]),
            of("disk-heals", self.disk_heals, &[]),
            of("restart-torrent", self.restart_torrent, &[]),
            of("misdirected-writes", self.misdirects, &["chance"]),
            of("recheck", self.recheck, &[]),
            of("clock", self.clock, &["offset", "drift"]),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Fields that are there and belong to some kinds only.
    fn extras(&self) -> impl Iterator<Item = &'static str> {
        [
            ("up", self.up.is_some()),
            ("down", self.down.is_some()),
            ("latency", self.latency.is_some()),
            ("jitter", self.jitter.is_some()),
            ("loss", self.loss.is_some()),
            ("job", self.job.is_some()),
            ("chance", self.chance.is_some()),
            ("nth", self.nth.is_some()),
            ("room", self.room.is_some()),
            ("factor", self.factor.is_some()),
            ("until", self.until.is_some()),
            ("offset", self.offset.is_some()),
            ("drift", self.drift.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
    }

    /// What is wrong with it, if anything, among so many hosts.
    pub(super) fn wrong(&self, hosts: usize) -> Option<String> {
        let kinds = self.kinds();
        let [Kind { name, host, takes }] = &kinds[..] else {
            let names: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
            return Some(match &names[..] {
                [] => {
                    "says nothing: write what happens, such as { at = \"12 s\", crash = 3 }".into()
                }
                names => format!("is one thing, and not {}", names.join(" and ")),
            });
        };
        if let Some(extra) = self.extras().find(|extra| !takes.contains(extra)) {
            return Some(format!("`{extra}` does not belong to `{name}`"));
        }
        let cut = self.cut.iter().flatten().flatten().copied();
        if let Some(host) = host.iter().copied().chain(cut).find(|host| *host >= hosts) {
            return Some(format!("there is no host {host}: the first is 0, of {hosts}"));
        }
        if self.cut.iter().flatten().any(Vec::is_empty) {
            return Some("a cut is between hosts and others: [[0], [1, 2]]".into());
        }
        let rates = [self.up, self.down].into_iter().flatten();
        if rates.clone().any(|rate| rate.least() == 0) {
            return Some("a rate is at least 1 B/s".into());
        }
        if self.loss.is_some_and(|loss| loss.most() > 500_000) {
            return Some("`loss` is at most 50 %".into());
        }
        if self.chance.is_some_and(|chance| chance.most() > 1_000_000) {
            return Some("`chance` is at most 100 %".into());
        }
        for delay in [&self.latency, &self.jitter].into_iter().flatten() {
            if let Delay::Quantiles(_) = delay {
                return Some("a measurement belongs to a group of peers".into());
            }
            if let Some(why) = delay.wrong() {
                return Some(why.into());
            }
        }
        if self.disk_errors.is_some() {
            if self.chance.is_some() == self.nth.is_some() {
                return Some("`disk-errors` needs `chance` or `nth`".into());
            }
            if self.job().is_none() {
                let names = JobKind::ALL.map(job_name).join(", ");
                return Some(format!("`disk-errors` needs `job`, one of {names}"));
            }
        }
        if self.disk_slow.is_some()
            && (self.until.is_none() || self.factor.is_none_or(|factor| factor.least() < 1_000))
        {
            return Some("`disk-slow` needs `factor`, at least 1, and `until`".into());
        }
        (self.misdirects.is_some() && self.chance.is_none())
            .then(|| "`misdirected-writes` needs `chance`".into())
    }

    fn job(&self) -> Option<JobKind> {
        let name = self.job.as_deref()?;
        JobKind::ALL.into_iter().find(|kind| job_name(*kind) == name)
    }
}

/// What a kind of job is called in files.
pub(super) fn job_name(kind: JobKind) -> String {
    format!("{kind:?}").to_lowercase()
}

/// Makes faults of the events of a scenario, in their order. Hosts learn in which groups they are.
pub(super) fn draw(
    scenario: &Scenario,
    seed: &Seed,
    hosts: &mut [HostPlan],
    drawn: &mut [(Nanos, Fault)],
) -> Vec<(Nanos, Fault)> {
    let mut groups = Groups::new(hosts);
    let cuts: Vec<_> = scenario
        .events
        .iter()
        .map(|event| event.cut.as_ref().map(|[from, to]| (groups.of(from), groups.of(to))))
        .collect();
    groups.put(hosts, drawn);
    let drawing = scenario.events.iter().zip(cuts).enumerate();
    drawing
        .map(|(index, (event, cut))| {
            let stream = |label: &str| seed.stream(&format!("event {label}"), index as u64);
            let at = Nanos(event.at.draw(&mut stream("at")));
            (at, event.fault(cut, hosts, &stream))
        })
        .collect()
}

impl Event {
    fn fault(
        &self,
        cut: Option<(u64, u64)>,
        hosts: &[HostPlan],
        stream: &dyn Fn(&str) -> Rng,
    ) -> Fault {
        let plain = [
            self.crash.map(|host| Fault::Crash(host, Crash::Process)),
            self.power.map(|host| Fault::Crash(host, Crash::Power)),
            self.restart.map(Fault::Restart),
            self.pause.map(Fault::Pause),
            self.resume.map(Fault::Resume),
            self.moves.map(Fault::Move),
            self.disk_heals.map(Fault::DiskHeals),
            self.restart_torrent.map(Fault::RestartTorrent),
            self.recheck.map(Fault::Recheck),
        ];
        let plain = plain.into_iter().flatten().next();
        if let Some(fault) = plain {
            return fault;
        }
        let chance = || self.chance.map(|chance| chance.draw(&mut stream("chance")) as u32);
        if let Some((from, to)) = cut {
            Fault::Cut(from, to)
        } else if let Some(host) = self.link {
            Fault::Access(host, self.access(hosts[host].access, stream))
        } else if let Some(host) = self.disk_errors {
            let job = self.job().expect("events are checked");
            match (self.nth, chance()) {
                (Some(nth), _) => {
                    Fault::DiskErrorAt(host, job, nth.draw(&mut stream("nth")) as u32)
                }
                (None, chance) => Fault::DiskErrors(host, job, chance.unwrap_or_default()),
            }
        } else if let Some(host) = self.disk_full {
            Fault::DiskRoom(host, self.room.map(|room| room.draw(&mut stream("room"))))
        } else if let Some(host) = self.disk_slow {
            let factor = self.factor.expect("events are checked").draw(&mut stream("factor"));
            let until = self.until.expect("events are checked").draw(&mut stream("until"));
            Fault::DiskSlow(host, (factor / 1_000) as u32, Nanos(until))
        } else if let Some(host) = self.misdirects {
            Fault::DiskMisdirects(host, chance().unwrap_or_default())
        } else if let Some(host) = self.clock {
            Fault::Clock(host, skew(self.offset, self.drift))
        } else {
            Fault::Heal
        }
    }

    fn access(&self, usual: Access, stream: &dyn Fn(&str) -> Rng) -> Access {
        let rate = |range: Option<Range<Rate>>, label, usual| {
            range.map(|range| range.draw(&mut stream(label))).or(usual)
        };
        let latency = match (&self.latency, &self.jitter) {
            (None, None) => usual.latency,
            (latency, jitter) => {
                let base = latency.as_ref().map(|delay| delay.draw(&mut stream("latency")));
                let jitter = jitter.as_ref().unwrap_or(&Delay::NOTHING);
                jitter.spread(base.unwrap_or_default(), None, &mut stream("jitter"))
            }
        };
        Access {
            up_bytes_per_s: rate(self.up, "up", usual.up_bytes_per_s),
            down_bytes_per_s: rate(self.down, "down", usual.down_bytes_per_s),
            latency,
            loss_ppm: self
                .loss
                .map_or(usual.loss_ppm, |loss| loss.draw(&mut stream("loss")) as u32),
            ..usual
        }
    }
}

/// Clocks that are so wrong.
pub(super) fn skew(offset: Option<Signed<Time>>, drift: Option<Signed<Share>>) -> Skew {
    Skew {
        offset_nanos: offset.map_or(0, Signed::get),
        drift_ppm: drift.map_or(0, Signed::get) as i32,
    }
}

/// A spread that is a base and what comes on top, as files say it; none of a measurement, and of
/// what no file says.
pub(super) fn spread_text(spread: Spread) -> Option<(Duration, Option<String>)> {
    use super::write::{factor, time};
    Some(match spread {
        Spread::Constant(base) => (base, None),
        // An even spread from and to zero is a constant, for a file.
        Spread::Uniform(_, most) if most.is_zero() => return None,
        Spread::Uniform(least, most) if least == most => {
            (Duration::ZERO, Some(format!("\"{}\"", time(least))))
        }
        Spread::Uniform(least, most) => {
            (least, Some(format!("\"0 ms..{}\"", time(most.saturating_sub(least)))))
        }
        Spread::LogNormal { base, median, sigma_permille } => {
            let (median, sigma) = (time(median), factor(sigma_permille.into()));
            let text = format!("{{ log_normal = {{ median = \"{median}\", sigma = {sigma} }} }}");
            (base, Some(text))
        }
        Spread::Empirical { .. } => return None,
    })
}

/// Groups of hosts that are cut off from one another, as bits.
struct Groups {
    next: u32,
    known: Vec<(Vec<usize>, u64)>,
}

impl Groups {
    fn new(hosts: &[HostPlan]) -> Self {
        let taken = hosts.iter().fold(0, |taken, host| taken | host.access.groups);
        Self { next: u64::BITS - taken.leading_zeros(), known: Vec::new() }
    }

    /// The bit of these hosts; the same for the same ones.
    fn of(&mut self, hosts: &[usize]) -> u64 {
        let mut hosts = hosts.to_vec();
        hosts.sort_unstable();
        hosts.dedup();
        if let Some((_, bit)) = self.known.iter().find(|(known, _)| *known == hosts) {
            return *bit;
        }
        let bit = 1_u64.checked_shl(self.next).unwrap_or(1 << (u64::BITS - 1));
        self.next += 1;
        self.known.push((hosts, bit));
        bit
    }

    /// Tells hosts in which they are, and links that are drawn already.
    fn put(&self, hosts: &mut [HostPlan], drawn: &mut [(Nanos, Fault)]) {
        for (members, bit) in &self.known {
            for host in members {
                hosts[*host].access.groups |= bit;
            }
        }
        for (_, fault) in drawn {
            if let Fault::Access(host, access) = fault {
                access.groups = hosts[*host].access.groups;
            }
        }
    }
}

/// Groups of hosts that are cut off by events: at most this many different ones.
pub(super) const CUT_GROUPS_MAX: usize = 64;

/// How many different groups of hosts the events cut off.
pub(super) fn cut_groups(events: &[Event]) -> usize {
    let mut groups = Groups { next: 0, known: Vec::new() };
    for group in events.iter().filter_map(|event| event.cut.as_ref()).flatten() {
        groups.of(group);
    }
    groups.known.len()
}
