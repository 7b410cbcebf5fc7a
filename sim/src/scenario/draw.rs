//! From a scenario and a seed to a plan.

use teem_core::rng::{Rng, Seed};
use teem_core::session::Config;
use teem_core::time::Duration;

use super::file::{Choking, Leave, Peers, Preload, Role, Scenario};
use super::units::{Range, Rate};
use super::{events, families, nats, units, write};
use crate::net::{Access, CurveId, LineId, Skew};
use crate::packet::line::Line;
use crate::run::{self, Family, HostPlan, Plan};
use crate::time::Nanos;

impl Scenario {
    /// Draws a plan.
    ///
    /// A run of a swarm (`swarm`) has a random half of the kinds of trouble that the scenario
    /// knows, a coin for each; another run has all of them.
    pub fn draw(&self, seed: u64, swarm: bool) -> Plan {
        let source = Seed::from_number(seed);
        let once = |label: &str| source.stream(label, 0);
        let mut crew = Crew { hosts: Vec::new(), members: Vec::new(), newcomers: Vec::new() };
        for (group, peers) in self.peers.iter().enumerate() {
            for _ in crew.hosts.len()..peers.place.unwrap_or_default() {
                crew.hosts.push(HostPlan::nobody());
                crew.members.push((group, 0));
            }
            let draw = HostDraw { scenario: self, seed: &source, group };
            let count = peers.count.draw(&mut source.stream("peers count", group as u64)) as usize;
            let arrivals = peers.arrival.draw(&source, group as u64, count);
            for (member, arrives) in arrivals.into_iter().enumerate() {
                crew.hosts.push(draw.host(member, arrives));
                crew.members.push((group, member));
            }
        }
        let trackers = self.tracker.count.draw(&mut once("tracker count"));
        crew.hosts.extend((0..trackers).map(|_| tracker()));
        let on = |family: Family| {
            let known = match family {
                Family::Attackers => !self.mix.0.shares().is_empty(),
                Family::LyingTrackers => !self.tracker.mix.shares().is_empty(),
                _ => self.faults.has(family),
            };
            known && (!swarm || source.stream("swarm", family as u64).below(2) == 1)
        };
        let mut trouble = families::draw(self, &source, &mut crew, on);
        let events = events::draw(self, &source, &mut crew.hosts, &mut trouble.faults);
        trouble.healed_at = trouble.healed_at.max(write::healed_at(&events));
        trouble.faults.extend(events);
        trouble.faults.sort_by_key(|(at, _)| *at);
        trouble.families.extend(&self.families.0);
        trouble.families.sort_unstable();
        trouble.families.dedup();
        if let Some(healed) = self.gate.healed_at {
            trouble.healed_at = Nanos(healed.draw(&mut once("gate healed at")));
        }
        let piece = Range::<units::Count>::new(
            self.piece.least().ilog2().into(),
            self.piece.most().ilog2().into(),
        );
        let distance = |(at, distance): (usize, &super::Distance)| {
            let [one, other] = &distance.regions;
            let one_way = distance.one_way.draw(&mut source.stream("distance", at as u64));
            (self.region(one), self.region(other), Duration::from_nanos(one_way))
        };
        Plan {
            scenario: self.name.clone(),
            seed,
            fidelity: self.fidelity.into(),
            between: Duration::from_nanos(self.between.draw(&mut once("between"))),
            tcp: self.tcp.into(),
            lines: self.lines(&source),
            curves: self.peers.iter().filter_map(|group| group.jitter.curve()).collect(),
            distances: self.distances.iter().enumerate().map(distance).collect(),
            content_len: self.content.draw(&mut once("content length")),
            piece_len: 1 << piece.draw(&mut once("piece length")),
            format: self.format.into(),
            nats: nats::draw(self, &source, &crew),
            hosts: crew.hosts,
            degree: self.degree.draw(&mut once("degree")) as usize,
            faults: trouble.faults,
            families: trouble.families,
            healed_at: trouble.healed_at,
            bound_permille: self.gate.bound.draw(&mut once("gate bound")),
            slack: Duration::from_nanos(self.gate.slack.draw(&mut once("gate slack"))),
            ends_at: self.gate.ends_at.map(|ends| Nanos(ends.draw(&mut once("gate ends at")))),
            must_fail: self.gate.must_fail,
        }
    }

    /// Draws the plan of the seed that the file names, or of seed 0.
    pub fn plan(&self) -> Plan {
        self.draw(self.seed.unwrap_or_default(), false)
    }

    /// What lines of a group have in common, if it says so.
    fn line(&self, seed: &Seed, group: usize) -> Option<Line> {
        let line = self.peers[group].line.as_ref()?;
        Some(line.draw(&mut seed.stream("peers line", group as u64)))
    }

    /// All kinds of lines, each once; the first is the usual one.
    fn lines(&self, seed: &Seed) -> Vec<Line> {
        let mut lines = vec![Line::CLEAR];
        for line in (0..self.peers.len()).filter_map(|group| self.line(seed, group)) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        lines
    }

    /// Regions are numbered as they first come.
    fn region(&self, name: &str) -> u16 {
        let mut regions: Vec<&str> = Vec::new();
        for group in &self.peers {
            if !regions.contains(&group.region.as_str()) {
                regions.push(&group.region);
            }
        }
        regions.iter().position(|region| *region == name).unwrap_or_default() as u16
    }
}

/// The hosts of a plan that is being drawn.
#[derive(Debug)]
pub(super) struct Crew {
    pub(super) hosts: Vec<HostPlan>,
    /// Group and place in it of each of the first hosts; the others (a tracker, peers that come in
    /// place of others) are in no group.
    pub(super) members: Vec<(usize, usize)>,
    /// Hosts that come in place of others, and the group and place that they are drawn for.
    pub(super) newcomers: Vec<(usize, (usize, usize))>,
}

/// Draws hosts of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostDraw<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) seed: &'a Seed,
    pub(super) group: usize,
}

impl HostDraw<'_> {
    fn peers(&self) -> &Peers {
        &self.scenario.peers[self.group]
    }

    /// The stream of a purpose for one member of the group.
    fn stream(&self, label: &str, member: usize) -> Rng {
        self.seed.stream(label, ((self.group as u64) << 32) | member as u64)
    }

    /// A member, by its place in the group.
    pub(super) fn host(&self, member: usize, arrives: Nanos) -> HostPlan {
        let peers = self.peers();
        let rate = |range: Option<Range<Rate>>, label| {
            range.map(|range| range.draw(&mut self.stream(label, member)))
        };
        let time = |range: &Range<units::Time>, label| {
            Duration::from_nanos(range.draw(&mut self.stream(label, member)))
        };
        let nearest = peers.latency.draw(&mut self.stream("peers latency", member));
        let mut jitter = self.stream("peers jitter", member);
        let latency = peers.jitter.spread(nearest, self.curve(), &mut jitter);
        let access = Access {
            up_bytes_per_s: rate(peers.up, "peers up"),
            down_bytes_per_s: rate(peers.down, "peers down"),
            latency,
            loss_ppm: peers.loss.draw(&mut self.stream("peers loss", member)) as u32,
            region: self.scenario.region(&peers.region),
            line: self.line(),
            groups: 0,
        };
        let mut config = Config {
            up_bytes_per_s: rate(peers.up_limit, "peers up limit"),
            down_bytes_per_s: rate(peers.down_limit, "peers down limit"),
            ..peers.config.0.clone()
        };
        // What is said twice is as the settings have it.
        config.up_bytes_per_s = config.up_bytes_per_s.or(peers.config.0.up_bytes_per_s);
        config.down_bytes_per_s = config.down_bytes_per_s.or(peers.config.0.down_bytes_per_s);
        if let Some(slots) = &peers.slots {
            config.upload_slots = slots.draw(&mut self.stream("peers slots", member)) as usize;
        }
        if let Some(connections) = &peers.connections {
            let connections = connections.draw(&mut self.stream("peers connections", member));
            config.torrent_peers_max = connections as usize;
            config.peers_max = config.peers_max.max(config.torrent_peers_max);
        }
        let leaves = match &peers.leave {
            Leave::Never => run::Leaves::Never,
            Leave::AfterComplete(after) => run::Leaves::Complete(time(after, "peers leave")),
            Leave::AfterArrival(after) => run::Leaves::At(arrives + time(after, "peers leave")),
            Leave::At(at) => run::Leaves::At(Nanos::ZERO + time(at, "peers leave")),
        };
        HostPlan {
            role: match peers.role {
                Role::Seeder | Role::Leecher => run::Role::Peer,
                Role::Tracker => run::Role::Tracker,
                Role::LyingTracker(lie) => run::Role::LyingTracker(lie),
                Role::Attacker(kind) => run::Role::Attacker(kind),
            },
            access,
            arrives,
            leaves,
            preload: self.preload(member),
            disk: peers.disk.into(),
            clock: peers.clock.map_or_else(
                || self.clock(member),
                |clock| events::skew(clock.offset, clock.drift),
            ),
            config,
            order: peers.order.into(),
            choking: match &peers.choking {
                Choking::Default => run::Choking::Default,
                Choking::RoundRobin(bytes) => run::Choking::RoundRobin(
                    bytes.draw(&mut self.stream("peers round robin", member)),
                ),
            },
        }
    }

    fn clock(&self, member: usize) -> Skew {
        let peers = self.peers();
        Skew {
            offset_nanos: either_way(
                peers.clock_offset.draw(&mut self.stream("peers clock offset", member)),
                &mut self.stream("peers clock ahead", member),
            ),
            drift_ppm: either_way(
                peers.clock_drift.draw(&mut self.stream("peers clock drift", member)),
                &mut self.stream("peers clock fast", member),
            ) as i32,
        }
    }

    /// Where the group's measurement is, if it has one.
    fn curve(&self) -> Option<CurveId> {
        self.peers().jitter.curve()?;
        let before = &self.scenario.peers[..self.group];
        Some(CurveId(before.iter().filter(|group| group.jitter.curve().is_some()).count() as u16))
    }

    /// Where the group's kind of line is.
    fn line(&self) -> LineId {
        let Some(line) = self.scenario.line(self.seed, self.group) else { return LineId(0) };
        let place = self.scenario.lines(self.seed).iter().position(|known| *known == line);
        LineId(place.unwrap_or_default() as u16)
    }

    fn preload(&self, member: usize) -> run::Preload {
        let peers = self.peers();
        let preload = peers.preload.unwrap_or(match peers.role {
            Role::Seeder => Preload::EVERYTHING,
            _ => Preload::NOTHING,
        });
        match preload.0.draw(&mut self.stream("peers preload", member)) {
            0 => run::Preload::Nothing,
            1_000_000.. => run::Preload::Everything,
            part => run::Preload::Part((part / 1_000) as u16),
        }
    }
}

/// So much more or less: a coin decides.
pub(super) fn either_way(amount: u64, coin: &mut Rng) -> i64 {
    let amount = amount.cast_signed();
    if coin.below(2) == 0 { amount } else { -amount }
}

/// A tracker, well attached.
fn tracker() -> HostPlan {
    HostPlan { role: run::Role::Tracker, ..HostPlan::nobody() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Fault;

    const FILE: &str = r#"
        content = "1..8 MiB"
        piece = "64..256 KiB"
        degree = "5..20"
        mix = "20 % silent"
        [[peers]]
        role = "seeder"
        up = "1..2 MB/s"
        [[peers]]
        role = "leecher"
        count = 20
        up = "100..500 kB/s"
        down = "1..2 MB/s"
        latency = "5..50 ms"
        arrival = { over_s = 10 }
        [faults.crash]
        [faults.loss]
    "#;

    fn plan(text: &str) -> Plan {
        Scenario::parse("test", text).expect("a scenario").draw(3, false)
    }

    /// What is compared, host by host, without the faults.
    fn hosts(plan: &Plan) -> Vec<String> {
        plan.hosts.iter().map(|host| format!("{host:?}")).collect()
    }

    #[test]
    fn the_same_seed_draws_the_same_plan_and_another_one_another() {
        assert_eq!(format!("{:?}", plan(FILE)), format!("{:?}", plan(FILE)));
        let other = Scenario::parse("test", FILE).expect("a scenario").draw(4, false);
        assert_ne!(hosts(&plan(FILE)), hosts(&other));
    }

    #[test]
    fn a_draw_of_one_field_shifts_no_other() {
        let before = plan(FILE);
        // Another content and degree leave the hosts and what befalls them.
        let after = plan(&FILE.replace("1..8 MiB", "2 MiB").replace("5..20", "7"));
        assert_eq!(hosts(&before), hosts(&after));
        assert_eq!(before.faults, after.faults);
        assert_eq!(before.piece_len, after.piece_len);
        // Another uplink leaves the downlinks, latencies and arrivals.
        let after = plan(&FILE.replace("100..500 kB/s", "300..900 kB/s"));
        for (one, other) in before.hosts.iter().zip(&after.hosts) {
            let same = |host: &HostPlan| {
                (host.arrives, host.access.down_bytes_per_s, host.access.latency, host.role)
            };
            assert_eq!(same(one), same(other));
        }
        // A kind of trouble more leaves those that were there.
        let after = plan(&format!("{FILE}\n[faults.disk-full]\n"));
        let crashes = |plan: &Plan| -> Vec<_> {
            let of = |(_, fault): &&(Nanos, Fault)| matches!(fault, Fault::Crash(..));
            plan.faults.iter().filter(of).copied().collect()
        };
        assert_eq!(crashes(&before), crashes(&after));
        assert!(!crashes(&before).is_empty());
    }

    #[test]
    fn one_more_host_of_a_group_leaves_the_others() {
        let text = FILE.replace("mix = \"20 % silent\"", "");
        let one_more = text.replace("count = 20", "count = 21");
        assert_eq!(hosts(&plan(&text)), hosts(&plan(&one_more))[..21]);
    }

    #[test]
    fn so_many_of_the_leechers_mean_harm_and_no_seeder_does() {
        let plan = plan(FILE);
        let bad = |host: &HostPlan| matches!(host.role, run::Role::Attacker(_));
        assert_eq!(plan.hosts.iter().filter(|host| bad(host)).count(), 4);
        assert!(!bad(&plan.hosts[0]));
        assert!(plan.families.contains(&Family::Attackers));
    }

    #[test]
    fn a_swarm_run_has_about_half_of_the_families() {
        let scenario = Scenario::parse("test", FILE).expect("a scenario");
        let drawn: usize = (0..300).map(|seed| scenario.draw(seed, true).families.len()).sum();
        // Three families, 300 seeds.
        assert!((400..500).contains(&drawn), "{drawn}");
        assert_eq!(scenario.draw(0, false).families.len(), 3);
    }

    #[test]
    fn regions_are_numbered_as_they_come() {
        let text = r#"
            content = "1 MiB"
            distances = [{ regions = ["east", "west"], one_way = "40 ms" }]
            [[peers]]
            role = "seeder"
            region = "west"
            [[peers]]
            role = "leecher"
            region = "east"
        "#;
        let plan = plan(text);
        assert_eq!(plan.hosts.iter().map(|host| host.access.region).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(plan.distances, [(1, 0, Duration::from_millis(40))]);
    }
}
