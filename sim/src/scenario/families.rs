//! What goes wrong in a run: each kind of trouble, drawn for itself.
//!
//! Whom something befalls is the order of a draw per host, so that one host more leaves the others
//! where they are. Two things that would undo each other do not befall a host at the same time: a
//! host that is down does not crash, and a disk has one trouble at a time. What comes second comes
//! later then, and if it cannot, it befalls the next host.

use teem_core::rng::{Rng, Seed};

use super::draw::{Crew, HostDraw, either_way};
use super::file::{Role, Scenario};
use super::units::{Part, Range, Time};
use crate::net::{Access, Skew};
use crate::run::{self, Family, Fault, Leaves};
use crate::storage::{ALWAYS_PPM, Crash, JobKind};
use crate::time::Nanos;

/// Between two troubles of the same sort on one host, in nanoseconds.
const REST: u64 = 1_000_000_000;

/// Jobs that disk errors make fail, one kind a host; the first is for the first host.
const JOBS: [JobKind; 6] =
    [JobKind::Write, JobKind::Read, JobKind::Hash, JobKind::Save, JobKind::Flush, JobKind::Open];

/// Families that come before the others: they decide who is there and how everybody is attached.
const FIRST: [Family; 3] = [Family::Attackers, Family::Churn, Family::Partition];

/// What goes wrong in a plan.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// In the order of time.
    pub(super) faults: Vec<(Nanos, Fault)>,
    pub(super) families: Vec<Family>,
    /// When the last of them is over.
    pub(super) healed_at: Nanos,
}

/// Draws the families that are `on`.
pub(super) fn draw(
    scenario: &Scenario,
    seed: &Seed,
    crew: &mut Crew,
    on: impl Fn(Family) -> bool,
) -> Trouble {
    let mut draw = Draw::new(scenario, seed, crew);
    let others = Family::ALL.into_iter().filter(|family| !FIRST.contains(family));
    for family in FIRST.into_iter().chain(others) {
        if on(family) {
            draw.family(family);
        }
    }
    let mut trouble = draw.trouble;
    trouble.faults.sort_by_key(|(at, _)| *at);
    trouble.families.sort_unstable();
    trouble
}

/// What must not happen twice at a time on one host.
#[derive(Clone, Copy, Debug)]
enum Sort {
    Presence,
    Link,
    Disk,
    Clock,
}

struct Draw<'a> {
    scenario: &'a Scenario,
    seed: &'a Seed,
    crew: &'a mut Crew,
    /// Honest peers that the file has.
    peers: Vec<usize>,
    /// Those of them that fetch.
    leechers: Vec<usize>,
    /// When each host has trouble of each sort.
    busy: Vec<[Vec<(u64, u64)>; 4]>,
    trouble: Trouble,
}

impl<'a> Draw<'a> {
    fn new(scenario: &'a Scenario, seed: &'a Seed, crew: &'a mut Crew) -> Self {
        let is_peer = |host: &usize| crew.hosts[*host].role == run::Role::Peer;
        let peers: Vec<usize> = (0..crew.members.len()).filter(is_peer).collect();
        let mut draw = Self {
            scenario,
            seed,
            leechers: Vec::new(),
            busy: vec![<[Vec<_>; 4]>::default(); crew.members.len()],
            peers,
            crew,
            trouble: Trouble::default(),
        };
        draw.leechers = draw.peers.iter().copied().filter(|host| draw.fetches(*host)).collect();
        for host in &draw.peers {
            if let Leaves::At(at) = draw.crew.hosts[*host].leaves {
                draw.busy[*host][Sort::Presence as usize].push((at.0, u64::MAX));
            }
        }
        draw
    }

    fn fetches(&self, host: usize) -> bool {
        let role = self.scenario.peers[self.crew.members[host].0].role;
        role == Role::Leecher && self.crew.hosts[host].preload != run::Preload::Everything
    }

    fn stream(&self, family: Family, purpose: &str, index: usize) -> Rng {
        self.seed.stream(&format!("faults {} {purpose}", family.name()), index as u64)
    }

    /// Hosts in the order in which this befalls them.
    fn order(&self, family: Family, among: &[usize]) -> Vec<usize> {
        let mut order: Vec<(u64, usize)> = among
            .iter()
            .map(|host| (self.stream(family, "whom", *host).next_u64(), *host))
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, host)| host).collect()
    }

    /// The next time from `at` on at which a host has no trouble of that sort for so long; none:
    /// there is none. Remembers it.
    fn place(&mut self, host: usize, sort: Sort, at: u64, lasts: u64) -> Option<(Nanos, Nanos)> {
        let mut from = at.max(self.crew.hosts[host].arrives.0.saturating_add(REST));
        let busy = &mut self.busy[host][sort as usize];
        busy.sort_unstable();
        for &(start, end) in busy.iter() {
            if from <= end && start <= from.saturating_add(lasts) {
                from = end.checked_add(REST)?;
            }
        }
        let to = from.checked_add(lasts)?;
        busy.push((from, to));
        self.trouble.healed_at = self.trouble.healed_at.max(Nanos(to));
        Some((Nanos(from), Nanos(to)))
    }

    /// Some hosts with a time each, in which nothing else of that sort befalls them.
    fn spells(
        &mut self,
        family: Family,
        sort: Sort,
        spell: (Part, Range<Time>, Range<Time>),
        among: &[usize],
    ) -> Vec<(usize, Nanos, Nanos)> {
        let (hosts, at, lasts) = spell;
        let count = hosts.draw(among.len(), &mut self.stream(family, "hosts", 0));
        let mut spells = Vec::new();
        for host in self.order(family, among) {
            if spells.len() == count {
                break;
            }
            let at = at.draw(&mut self.stream(family, "at", host));
            let lasts = lasts.draw(&mut self.stream(family, "lasts", host));
            if let Some((from, to)) = self.place(host, sort, at, lasts) {
                spells.push((host, from, to));
            }
        }
        if !spells.is_empty() {
            self.trouble.families.push(family);
        }
        spells
    }

    fn push(&mut self, at: Nanos, fault: Fault) {
        self.trouble.faults.push((at, fault));
    }

    fn family(&mut self, family: Family) {
        let faults = self.scenario.faults;
        let (peers, leechers) = (self.peers.clone(), self.leechers.clone());
        match family {
            Family::Crash | Family::Power | Family::Pause => {
                let spell = match family {
                    Family::Crash => faults.crash,
                    Family::Power => faults.power,
                    _ => faults.pause,
                };
                let spell = spell.unwrap_or_default();
                let spell = (spell.hosts, spell.at, spell.lasts);
                for (host, from, to) in self.spells(family, Sort::Presence, spell, &peers) {
                    let (down, up) = match family {
                        Family::Crash => (Fault::Crash(host, Crash::Process), Fault::Restart(host)),
                        Family::Power => (Fault::Crash(host, Crash::Power), Fault::Restart(host)),
                        _ => (Fault::Pause(host), Fault::Resume(host)),
                    };
                    self.push(from, down);
                    self.push(to, up);
                }
            }
            Family::Partition => self.partitions(),
            Family::Move => {
                let moment = faults.moves.unwrap_or_default();
                let spell = (moment.hosts, moment.at, Range::of(0));
                for (host, at, _) in self.spells(family, Sort::Presence, spell, &peers) {
                    self.push(at, Fault::Move(host));
                }
            }
            Family::Loss => {
                let loss = faults.loss.unwrap_or_default();
                let spell = (loss.hosts, loss.at, loss.lasts);
                for (host, from, to) in self.spells(family, Sort::Link, spell, &peers) {
                    let usual = self.crew.hosts[host].access;
                    let loss_ppm = loss.loss.draw(&mut self.stream(family, "loss", host)) as u32;
                    let loss_ppm = loss_ppm.max(usual.loss_ppm);
                    self.push(from, Fault::Access(host, Access { loss_ppm, ..usual }));
                    self.push(to, Fault::Access(host, usual));
                }
            }
            Family::SlowLinks => {
                let slow = faults.slow_links.unwrap_or_default();
                let spell = (slow.hosts, slow.at, slow.lasts);
                for (host, from, to) in self.spells(family, Sort::Link, spell, &peers) {
                    let usual = self.crew.hosts[host].access;
                    let factor = slow.factor.draw(&mut self.stream(family, "factor", host));
                    let slowed = |rate: Option<u64>| {
                        Some((rate.unwrap_or(FAST).saturating_mul(1_000) / factor).max(1))
                    };
                    let (up, down) = (slowed(usual.up_bytes_per_s), slowed(usual.down_bytes_per_s));
                    let access = Access { up_bytes_per_s: up, down_bytes_per_s: down, ..usual };
                    self.push(from, Fault::Access(host, access));
                    self.push(to, Fault::Access(host, usual));
                }
            }
            Family::DiskErrors => {
                let errors = faults.disk_errors.unwrap_or_default();
                let spell = (errors.hosts, errors.at, errors.lasts);
                // Who has left writes nothing.
                let stays = |host: &usize| !matches!(self.crew.hosts[*host].leaves, Leaves::At(_));
                let stay: Vec<usize> = leechers.iter().copied().filter(stays).collect();
                let among = if stay.is_empty() { leechers } else { stay };
                let spells = self.spells(family, Sort::Disk, spell, &among);
                for (at, (host, from, to)) in spells.into_iter().enumerate() {
                    let chance = errors.chance.draw(&mut self.stream(family, "chance", host));
                    let mut job = JOBS[0];
                    if at > 0 {
                        job = *self.stream(family, "job", host).choose(&JOBS).expect("some");
                    }
                    self.push(from, Fault::DiskErrors(host, job, chance as u32));
                    self.push(to, Fault::DiskHeals(host));
                    self.push(to, Fault::RestartTorrent(host));
                }
            }
            Family::DiskFull => {
                let full = faults.disk_full.unwrap_or_default();
                let spell = (full.hosts, full.at, full.lasts);
                for (host, from, to) in self.spells(family, Sort::Disk, spell, &leechers) {
                    let room = full.room.draw(&mut self.stream(family, "room", host));
                    self.push(from, Fault::DiskRoom(host, Some(room)));
                    self.push(to, Fault::DiskRoom(host, None));
                    self.push(to, Fault::RestartTorrent(host));
                }
            }
            Family::DiskSlow => {
                let slow = faults.disk_slow.unwrap_or_default();
                let spell = (slow.hosts, slow.at, slow.lasts);
                for (host, from, to) in self.spells(family, Sort::Disk, spell, &leechers) {
                    let factor = slow.factor.draw(&mut self.stream(family, "factor", host));
                    self.push(from, Fault::DiskSlow(host, (factor / 1_000) as u32, to));
                }
            }
            Family::MisdirectedWrites => {
                let errors = faults.misdirected_writes.unwrap_or_default();
                let spell = (errors.hosts, errors.at, errors.lasts);
                // Those with other trouble of the disk would have it later, when there is nothing to
                // write, and who is away writes nothing; who leaves has nobody to check what it
                // left behind.
                let is_free = |host: &usize| {
                    let is_none = |sort| self.busy[*host][sort as usize].is_empty();
                    is_none(Sort::Disk)
                        && is_none(Sort::Presence)
                        && !matches!(self.crew.hosts[*host].leaves, Leaves::At(_))
                };
                let free: Vec<usize> = leechers.iter().copied().filter(is_free).collect();
                let among = if free.is_empty() { leechers } else { free };
                let spells = self.spells(family, Sort::Disk, spell, &among);
                for (at, (host, from, to)) in spells.into_iter().enumerate() {
                    let chance = errors.chance.draw(&mut self.stream(family, "chance", host));
                    // A host may write little in that time: the first one's never come right.
                    let chance = if at == 0 { ALWAYS_PPM } else { chance as u32 };
                    self.push(from, Fault::DiskMisdirects(host, chance));
                    self.push(to, Fault::DiskHeals(host));
                    self.push(to, Fault::Recheck(host));
                }
            }
            Family::ClockSkew => {
                let skew = faults.clock_skew.unwrap_or_default();
                let spell = (skew.hosts, skew.at, skew.lasts);
                for (host, from, to) in self.spells(family, Sort::Clock, spell, &peers) {
                    let offset = skew.offset.draw(&mut self.stream(family, "offset", host));
                    let drift = skew.drift.draw(&mut self.stream(family, "drift", host));
                    let wrong = Skew {
                        offset_nanos: either_way(offset, &mut self.stream(family, "ahead", host)),
                        drift_ppm: either_way(drift, &mut self.stream(family, "fast", host)) as i32,
                    };
                    self.push(from, Fault::Clock(host, wrong));
                    self.push(to, Fault::Clock(host, self.crew.hosts[host].clock));
                }
            }
            Family::Churn => self.churn(),
            Family::Attackers => self.attackers(),
            Family::LyingTrackers => self.lying_trackers(),
        }
    }

    /// Cuts are one after the other, since they heal together.
    fn partitions(&mut self) {
        let family = Family::Partition;
        let partition = self.scenario.faults.partition.unwrap_or_default();
        let cuts = partition.cuts.draw(&mut self.stream(family, "cuts", 0)) as usize;
        let mut times: Vec<(u64, u64, usize)> = (0..cuts)
            .map(|cut| {
                let at = partition.at.draw(&mut self.stream(family, "at", cut));
                (at, partition.lasts.draw(&mut self.stream(family, "lasts", cut)), cut)
            })
            .collect();
        times.sort_unstable();
        let mut free_from = 0;
        for (at, lasts, cut) in times {
            let from = at.max(free_from);
            let to = from.saturating_add(lasts);
            free_from = to.saturating_add(REST);
            let all = self.crew.hosts.len();
            let count = partition.hosts.draw(all, &mut self.stream(family, "hosts", cut));
            let count = count.min(all.saturating_sub(1)).max(1);
            let mut order: Vec<(u64, usize)> = (0..all)
                .map(|host| {
                    let whom = (cut << 32) | host;
                    (self.stream(family, "whom", whom).next_u64(), host)
                })
                .collect();
            order.sort_unstable();
            let (some, others) = (1_u64 << (2 * cut), 1_u64 << (2 * cut + 1));
            for (at, (_, host)) in order.into_iter().enumerate() {
                let groups = &mut self.crew.hosts[host].access.groups;
                *groups |= if at < count { some } else { others };
            }
            let mut ways = vec![(some, others), (others, some)];
            if partition.one_way.draw(&mut self.stream(family, "one way", cut))
                > u64::from(self.stream(family, "one way coin", cut).below(1_000_000))
            {
                ways.remove(self.stream(family, "which way", cut).below(2) as usize);
            }
            for (one, other) in ways {
                self.push(Nanos(from), Fault::Cut(one, other));
            }
            self.push(Nanos(to), Fault::Heal);
            self.trouble.healed_at = self.trouble.healed_at.max(Nanos(to));
        }
        self.trouble.families.push(family);
    }

    /// Leechers leave, and others like them come.
    fn churn(&mut self) {
        let family = Family::Churn;
        let spell = self.scenario.faults.churn.unwrap_or_default();
        let spell = (spell.hosts, spell.at, spell.lasts);
        let leechers = self.leechers.clone();
        for (host, from, to) in self.spells(family, Sort::Presence, spell, &leechers) {
            self.crew.hosts[host].leaves = Leaves::At(from);
            self.busy[host][Sort::Presence as usize].push((from.0, u64::MAX));
            let (group, member) = self.crew.members[host];
            let draw = HostDraw { scenario: self.scenario, seed: self.seed, group };
            // No group has so many members.
            let member = member | 1 << 31;
            let other = draw.host(member, to);
            self.crew.newcomers.push((self.crew.hosts.len(), (group, member)));
            self.crew.hosts.push(other);
        }
    }

    /// Of the leechers, a draw decides who is what.
    fn attackers(&mut self) {
        let mut rng = self.seed.stream("mix", 0);
        let kinds = self.scenario.mix.0.assign(self.leechers.len(), &mut rng);
        let mut any = false;
        for (host, kind) in self.leechers.clone().into_iter().zip(kinds) {
            if let Some(kind) = kind {
                self.crew.hosts[host].role = run::Role::Attacker(kind);
                any = true;
            }
        }
        let honest = |host: &usize| self.crew.hosts[*host].role == run::Role::Peer;
        self.peers.retain(honest);
        self.leechers.retain(honest);
        if any {
            self.trouble.families.push(Family::Attackers);
        }
    }
}

impl Draw<'_> {
    /// Of the trackers, a draw decides who lies, and how.
    fn lying_trackers(&mut self) {
        let is_tracker = |host: &usize| self.crew.hosts[*host].role == run::Role::Tracker;
        let trackers: Vec<usize> = (0..self.crew.hosts.len()).filter(is_tracker).collect();
        let mut rng = self.seed.stream("tracker mix", 0);
        let lies = self.scenario.tracker.mix.assign(trackers.len(), &mut rng);
        let mut any = false;
        for (host, lie) in trackers.into_iter().zip(lies) {
            if let Some(lie) = lie {
                self.crew.hosts[host].role = run::Role::LyingTracker(lie);
                any = true;
            }
        }
        if any {
            self.trouble.families.push(Family::LyingTrackers);
        }
    }
}

/// What a link without a limit is taken for when it becomes slow, in bytes per second.
const FAST: u64 = 125_000_000;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::run::Plan;

    const FILE: &str = r#"
        content = "8 MiB"
        [[peers]]
        role = "seeder"
        [[peers]]
        role = "leecher"
        count = 12
        up = "100..500 kB/s"
        [faults.crash]
        hosts = "50 %"
        [faults.power]
        hosts = "50 %"
        [faults.pause]
        hosts = "50 %"
        [faults.partition]
        cuts = 3
        [faults.move]
        [faults.loss]
        hosts = "50 %"
        [faults.slow-links]
        hosts = "50 %"
        [faults.disk-errors]
        hosts = "50 %"
        [faults.disk-full]
        hosts = "50 %"
        [faults.disk-slow]
        hosts = "50 %"
        [faults.churn]
        hosts = 2
        [faults.misdirected-writes]
        hosts = "50 %"
        [faults.clock-skew]
        hosts = "50 %"
    "#;

    fn plans(text: &str) -> impl Iterator<Item = Plan> {
        let scenario = Scenario::parse("test", text).expect("a scenario");
        (0..30).map(move |seed| scenario.draw(seed, false))
    }

    #[test]
    fn every_family_is_in_a_plan_and_over_when_it_is_healed() {
        for plan in plans(FILE) {
            assert_eq!(plan.families.len(), 13);
            assert!(plan.faults.is_sorted_by_key(|(at, _)| *at));
            assert!(plan.faults.iter().all(|(at, _)| *at <= plan.healed_at));
        }
    }

    #[test]
    fn who_goes_down_comes_up_before_it_goes_down_again() {
        for plan in plans(FILE) {
            let mut down = BTreeSet::new();
            for (_, fault) in &plan.faults {
                match fault {
                    Fault::Crash(host, _) | Fault::Pause(host) => assert!(down.insert(*host)),
                    Fault::Restart(host) | Fault::Resume(host) => assert!(down.remove(host)),
                    Fault::Move(host) => assert!(!down.contains(host)),
                    _ => {}
                }
            }
            assert!(down.is_empty());
        }
    }

    #[test]
    fn a_link_is_in_the_end_as_it_was() {
        for plan in plans(FILE) {
            let mut links: BTreeMap<usize, Access> = BTreeMap::new();
            for (_, fault) in &plan.faults {
                if let Fault::Access(host, access) = fault {
                    links.insert(*host, *access);
                }
            }
            assert!(!links.is_empty());
            for (host, access) in links {
                assert_eq!(access, plan.hosts[host].access);
            }
        }
    }

    #[test]
    fn clocks_are_right_in_the_end_and_wrong_either_way() {
        let (mut ahead, mut behind) = (0, 0);
        for plan in plans(FILE) {
            let mut clocks: BTreeMap<usize, Skew> = BTreeMap::new();
            for (_, fault) in &plan.faults {
                if let Fault::Clock(host, skew) = fault {
                    let before = clocks.insert(*host, *skew).unwrap_or(Skew::NONE);
                    assert_ne!(before, *skew);
                    ahead += usize::from(skew.offset_nanos > 0);
                    behind += usize::from(skew.offset_nanos < 0);
                }
            }
            assert!(!clocks.is_empty());
            assert!(clocks.values().all(|skew| *skew == Skew::NONE));
        }
        assert!(ahead > 20 && behind > 20, "{ahead} ahead, {behind} behind");
    }

    #[test]
    fn a_disk_that_misdirected_writes_is_checked_when_it_no_longer_does() {
        for plan in plans(FILE) {
            let mut waits = BTreeSet::new();
            for (_, fault) in &plan.faults {
                match fault {
                    Fault::DiskMisdirects(host, ppm) => {
                        assert!(*ppm > 0 && waits.insert(*host));
                    }
                    Fault::Recheck(host) => assert!(waits.remove(host)),
                    _ => {}
                }
            }
            assert!(waits.is_empty());
        }
    }

    #[test]
    fn so_many_of_the_trackers_lie() {
        let text = format!("tracker = {{ count = 4, mix = \"50 % many-peers\" }}\n{FILE}");
        for plan in plans(&text) {
            let liars = plan
                .hosts
                .iter()
                .filter(|host| host.role == run::Role::LyingTracker(crate::actors::Lie::ManyPeers));
            assert_eq!(liars.count(), 2);
            assert!(plan.families.contains(&Family::LyingTrackers));
        }
    }

    #[test]
    fn a_cut_has_two_sides_and_everybody_is_on_one() {
        for plan in plans(FILE) {
            let cuts: Vec<_> = plan
                .faults
                .iter()
                .filter_map(|(_, fault)| match fault {
                    Fault::Cut(one, other) => Some((*one, *other)),
                    _ => None,
                })
                .collect();
            assert!((3..=6).contains(&cuts.len()));
            for (one, other) in cuts {
                let on = |side: u64| plan.hosts.iter().filter(move |h| h.access.groups & side != 0);
                assert!(on(one).count() > 0 && on(other).count() > 0);
                assert_eq!(on(one).count() + on(other).count(), plan.hosts.len());
            }
            let heals = plan.faults.iter().filter(|(_, fault)| *fault == Fault::Heal).count();
            assert_eq!(heals, 3);
        }
    }

    #[test]
    fn for_each_that_leaves_another_comes_and_who_left_is_let_alone() {
        for plan in plans(FILE) {
            let gone: Vec<_> = (0..13)
                .filter_map(|host| match plan.hosts[host].leaves {
                    Leaves::At(at) => Some((host, at)),
                    _ => None,
                })
                .collect();
            assert_eq!(gone.len(), 2);
            assert_eq!(plan.hosts.len(), 15);
            for (host, left) in gone {
                assert!(plan.faults.iter().all(|(at, fault)| match fault {
                    Fault::Crash(who, _) | Fault::Restart(who) | Fault::Pause(who) =>
                        *who != host || *at < left,
                    _ => true,
                }));
            }
        }
    }

    #[test]
    fn those_who_mean_harm_have_no_troubles_of_their_own() {
        for plan in plans(&format!("mix = \"30 % silent\"\n{FILE}")) {
            for (_, fault) in &plan.faults {
                let (Fault::Crash(host, _) | Fault::Access(host, _) | Fault::DiskHeals(host)) =
                    fault
                else {
                    continue;
                };
                assert_eq!(plan.hosts[*host].role, run::Role::Peer);
            }
        }
    }
}
