//! NATs: as a file says them, for each peer of a group or with names, and as they are drawn.
//!
//! NATs are numbered, as each draws by its number: those with names in the order of the file, then
//! those of the groups. A file that says what was drawn says the numbers where they are others.

pub(super) mod written;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use teem_core::rng::Seed;
use teem_core::time::Duration;

use super::HOSTS_MAX;
use super::draw::Crew;
use super::file::{Peers, Scenario};
use super::units::{Count, Range, Share, Time};
use crate::nat::{self, EXTERNAL_MAX, NatConfig, Servers};
use crate::run::{NatPlan, Role};

/// Peers that one NAT may have behind it.
pub const PER_MAX: u64 = 10_000;

/// Homes for which a carrier has one outside address.
const HOMES_PER_ADDRESS: usize = 32;

/// What the peers of a group are behind, `"port-restricted"` or a table; or a NAT with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat {
    /// What people call it.
    pub kind: NatKind,
    /// What the file calls it; none: it is of a group.
    pub name: Option<String>,
    /// Its number, or that of the first one of the group; without it, the next one. Only where it is
    /// certain how many NATs there are, and how many each group has.
    pub place: Option<usize>,
    /// The name of the carrier's NAT that it is behind in turn.
    pub behind: Option<String>,
    /// How many outside addresses one with a name has; without it, one.
    pub addresses: Option<Range<Count>>,
    /// How many peers one of them has behind it.
    pub per: Range<Count>,
    /// How many of the group are behind one at all, a coin for each.
    pub share: Range<Share>,
    /// Whether they are behind a NAT of a carrier in turn, one for the whole group.
    pub carrier_grade: bool,
    /// Whether the client's port is forwarded to it.
    pub forward: bool,
    /// See [`NatConfig::hairpin`]; without it, as is usual.
    pub hairpin: Option<bool>,
    /// See [`NatConfig::udp_timeout`].
    pub udp_timeout: Option<Range<Time>>,
    /// See [`NatConfig::tcp_established`].
    pub tcp_timeout: Option<Range<Time>>,
    /// See [`NatConfig::refresh_inbound`].
    pub refresh_inbound: Option<bool>,
    /// See [`NatConfig::unsolicited`].
    pub unsolicited: Option<Unsolicited>,
    /// See [`NatConfig::ports`].
    pub ports: Option<Ports>,
    /// See [`NatConfig::ports_per_host_max`]; of the carrier's NAT, if there is one.
    pub ports_per_host: Option<Range<Count>>,
    /// Whether the gateway speaks NAT-PMP.
    pub nat_pmp: bool,
    /// Whether it speaks PCP.
    pub pcp: bool,
    /// Whether it speaks UPnP.
    pub upnp: bool,
}

/// See [`nat::Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NatKind {
    /// Lets everybody in.
    FullCone,
    /// By address.
    RestrictedCone,
    /// By address and port.
    PortRestricted,
    /// Another port towards each remote side.
    Symmetric,
    /// As carriers have it.
    CarrierGrade,
}

impl From<NatKind> for nat::Kind {
    fn from(kind: NatKind) -> Self {
        match kind {
            NatKind::FullCone => Self::FullCone,
            NatKind::RestrictedCone => Self::RestrictedCone,
            NatKind::PortRestricted => Self::PortRestricted,
            NatKind::Symmetric => Self::Symmetric,
            NatKind::CarrierGrade => Self::CarrierGrade,
        }
    }
}

/// See [`nat::Unsolicited`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unsolicited {
    /// Silence.
    Drop,
    /// A reset.
    Reset,
}

impl From<Unsolicited> for nat::Unsolicited {
    fn from(unsolicited: Unsolicited) -> Self {
        match unsolicited {
            Unsolicited::Drop => Self::Drop,
            Unsolicited::Reset => Self::Reset,
        }
    }
}

/// See [`nat::PortAllocation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ports {
    /// As inside.
    Preserve,
    /// One after the other.
    Sequential,
    /// Any.
    Random,
}

impl From<Ports> for nat::PortAllocation {
    fn from(ports: Ports) -> Self {
        match ports {
            Ports::Preserve => Self::Preserve,
            Ports::Sequential => Self::Sequential,
            Ports::Random => Self::Random,
        }
    }
}

impl Nat {
    /// One of this kind, as is usual, for each peer.
    pub const fn of(kind: NatKind) -> Self {
        Self {
            kind,
            name: None,
            place: None,
            behind: None,
            addresses: None,
            per: Range::of(1),
            share: Range::of(1_000_000),
            carrier_grade: false,
            forward: false,
            hairpin: None,
            udp_timeout: None,
            tcp_timeout: None,
            refresh_inbound: None,
            unsolicited: None,
            ports: None,
            ports_per_host: None,
            nat_pmp: false,
            pcp: false,
            upnp: false,
        }
    }

    /// What is wrong with it for itself, if anything: which field, and why.
    pub(super) fn wrong(&self) -> Option<(&'static str, &'static str)> {
        if self.per.least() == 0 || self.per.most() > PER_MAX {
            return Some(("nat.per", "from 1 to 10,000"));
        }
        if self.share.most() > 1_000_000 {
            return Some(("nat.share", "at most 100 %"));
        }
        let is_zero = |range: Option<Range<Time>>| range.is_some_and(|range| range.least() == 0);
        if is_zero(self.udp_timeout) || is_zero(self.tcp_timeout) {
            return Some(("nat.udp_timeout or nat.tcp_timeout", "above zero"));
        }
        let ports = |range: Range<Count>| range.least() == 0 || range.most() > 1 << 16;
        if self.ports_per_host.is_some_and(ports) {
            return Some(("nat.ports_per_host", "from 1 to 65,536"));
        }
        let is_behind = self.carrier_grade || self.behind.is_some();
        if is_behind && self.kind == NatKind::CarrierGrade {
            let why = "a carrier's NAT is behind no other carrier's";
            return Some(("nat.carrier_grade or nat.behind", why));
        }
        if self.carrier_grade && self.behind.is_some() {
            return Some(("nat.behind", "carrier_grade = true is another carrier's NAT"));
        }
        if self.place.is_some_and(|place| place as u64 > HOSTS_MAX) {
            return Some(("nat.place", "at most 200,000"));
        }
        if self.addresses.is_some_and(|count| {
            count.least() == 0 || count.most() > EXTERNAL_MAX as u64 || is_behind
        }) {
            let why = "from 1 to 256, and none behind a carrier, where it has one of the carrier's";
            return Some(("nat.addresses", why));
        }
        if self.forward && (self.per.most() > 1 || is_behind || self.name.is_some()) {
            let why = "one port is forwarded to one peer, and no carrier does: leave out per, \
                       carrier_grade, behind and name";
            return Some(("nat.forward", why));
        }
        if self.forward && self.ports_per_host.is_some_and(|ports| ports.least() < 3) {
            let why = "forwarding takes a port of UDP and one of TCP: at least 3";
            return Some(("nat.ports_per_host", why));
        }
        None
    }

    fn config(&self, seed: &Seed, number: u64) -> NatConfig {
        let time = |range: Option<Range<Time>>, label| {
            range.map(|range| Duration::from_nanos(range.draw(&mut seed.stream(label, number))))
        };
        let usual = NatConfig::of(self.kind.into());
        let servers =
            Servers { nat_pmp: self.nat_pmp, pcp: self.pcp, upnp: self.upnp, ..usual.servers };
        let config = NatConfig {
            hairpin: self.hairpin.unwrap_or(usual.hairpin),
            udp_timeout: time(self.udp_timeout, "nat udp timeout").unwrap_or(usual.udp_timeout),
            tcp_established: time(self.tcp_timeout, "nat tcp timeout")
                .unwrap_or(usual.tcp_established),
            refresh_inbound: self.refresh_inbound.unwrap_or(usual.refresh_inbound),
            unsolicited: self.unsolicited.map_or(usual.unsolicited, Into::into),
            ports: self.ports.map_or(usual.ports, Into::into),
            servers,
            ..usual
        };
        if self.carrier_grade { config } else { self.with_ports(config, seed, number) }
    }

    fn with_ports(&self, config: NatConfig, seed: &Seed, number: u64) -> NatConfig {
        let Some(ports) = self.ports_per_host else { return config };
        let ports = ports.draw(&mut seed.stream("nat ports per host", number)) as u32;
        NatConfig { ports_per_host_max: ports, ..config }
    }
}

impl<'de> Deserialize<'de> for Nat {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            kind: NatKind,
            name: Option<String>,
            place: Option<usize>,
            behind: Option<String>,
            addresses: Option<Range<Count>>,
            per: Option<Range<Count>>,
            share: Option<Range<Share>>,
            #[serde(default)]
            carrier_grade: bool,
            #[serde(default)]
            forward: bool,
            hairpin: Option<bool>,
            udp_timeout: Option<Range<Time>>,
            tcp_timeout: Option<Range<Time>>,
            refresh_inbound: Option<bool>,
            unsolicited: Option<Unsolicited>,
            ports: Option<Ports>,
            ports_per_host: Option<Range<Count>>,
            #[serde(default)]
            nat_pmp: bool,
            #[serde(default)]
            pcp: bool,
            #[serde(default)]
            upnp: bool,
        }

        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Nat;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "a NAT, such as \"port-restricted\" or \
                     { kind = \"symmetric\", per = 4, hairpin = false }",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Nat, E> {
                NatKind::deserialize(StrDeserializer::new(text)).map(Nat::of)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Nat, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                let usual = Nat::of(table.kind);
                Ok(Nat {
                    kind: table.kind,
                    name: table.name,
                    place: table.place,
                    behind: table.behind,
                    addresses: table.addresses,
                    per: table.per.unwrap_or(usual.per),
                    share: table.share.unwrap_or(usual.share),
                    carrier_grade: table.carrier_grade,
                    forward: table.forward,
                    hairpin: table.hairpin,
                    udp_timeout: table.udp_timeout,
                    tcp_timeout: table.tcp_timeout,
                    refresh_inbound: table.refresh_inbound,
                    unsolicited: table.unsolicited,
                    ports: table.ports,
                    ports_per_host: table.ports_per_host,
                    nat_pmp: table.nat_pmp,
                    pcp: table.pcp,
                    upnp: table.upnp,
                })
            }
        }

        from.deserialize_any(Reader)
    }
}

/// What is wrong with the NATs of a scenario taken together, if anything: which field, and why.
pub(super) fn wrong(scenario: &Scenario) -> Option<(String, String)> {
    let mut known: BTreeMap<&str, NatKind> = BTreeMap::new();
    if scenario.nats.len() as u64 > HOSTS_MAX {
        return Some(("nats".into(), format!("at most {HOSTS_MAX}")));
    }
    let outer = |known: &BTreeMap<&str, NatKind>, nat: &Nat| match nat.behind.as_deref() {
        Some(name) if known.get(name) != Some(&NatKind::CarrierGrade) => Some(format!(
            "there is no \"{name}\" before it among the nats that is \"carrier-grade\""
        )),
        _ => None,
    };
    for (at, nat) in scenario.nats.iter().enumerate() {
        let wrong = |why: String| Some((format!("entry {} of nats", at + 1), why));
        if let Some((field, why)) = nat.wrong() {
            return wrong(format!("{field}: {why}"));
        }
        let Some(name) = &nat.name else {
            return wrong("it needs a name, for those who are behind it".into());
        };
        if nat.carrier_grade || nat.per != Range::of(1) || nat.share != Range::of(1_000_000) {
            return wrong("per, share and carrier_grade are for NATs of a group".into());
        }
        if let Some(why) = outer(&known, nat) {
            return wrong(why);
        }
        if known.insert(name, nat.kind).is_some() {
            return wrong(format!("there is another \"{name}\""));
        }
    }
    let mut behind: BTreeMap<&str, u64> = BTreeMap::new();
    for (at, peers) in scenario.peers.iter().enumerate() {
        let wrong =
            |field: &str, why: String| Some((format!("{field} of peers group {}", at + 1), why));
        if let Some(nat) = &peers.nat {
            if nat.name.is_some() || nat.addresses.is_some() {
                let why = "name and addresses are for NATs of the list nats";
                return wrong("nat", why.into());
            }
            if let Some(why) = outer(&known, nat) {
                return wrong("nat.behind", why);
            }
        }
        let Some(name) = peers.behind.as_deref() else { continue };
        if peers.nat.is_some() {
            return wrong("behind", "a peer has a NAT of its own or is behind one".into());
        }
        if !known.contains_key(name) {
            return wrong("behind", format!("there is no \"{name}\" among the nats"));
        }
        let count = behind.entry(name).or_default();
        *count += peers.count.most();
        if *count > PER_MAX {
            return wrong("behind", format!("at most {PER_MAX} peers are behind one NAT"));
        }
    }
    misplaced(scenario).map(|why| ("place of a NAT".into(), why.into()))
}

/// What is wrong with the numbers that are said.
fn misplaced(scenario: &Scenario) -> Option<&'static str> {
    let groups = || scenario.peers.iter().filter_map(|peers| Some((peers, peers.nat.as_ref()?)));
    if scenario.nats.iter().chain(groups().map(|(_, nat)| nat)).all(|nat| nat.place.is_none()) {
        return None;
    }
    let is_certain = |(Peers { count, .. }, nat): (&Peers, &Nat)| {
        count.least() == count.most()
            && nat.per.least() == nat.per.most()
            && nat.share == Range::of(1_000_000)
    };
    if scenario.faults.churn.is_some() || !groups().all(is_certain) {
        return Some("only where nothing else than the file says how many there are");
    }
    let mut numbers = Numbered::default();
    let mut known = BTreeMap::new();
    let is_after = |known: &BTreeMap<&str, usize>, nat: &Nat, at: usize| {
        nat.behind.as_deref().is_none_or(|name| known.get(name).is_some_and(|outer| *outer < at))
    };
    for nat in &scenario.nats {
        let at = numbers.number(nat.place);
        if !numbers.put(at, ()) || !is_after(&known, nat, at) {
            return Some(PLACES);
        }
        known.extend(nat.name.as_deref().map(|name| (name, at)));
    }
    for (peers, nat) in groups() {
        let homes = peers.count.most().div_ceil(nat.per.most());
        let mut place = nat.place;
        for _ in 0..homes + u64::from(nat.carrier_grade && homes > 0) {
            let at = numbers.number(place.take());
            if !numbers.put(at, ()) || !is_after(&known, nat, at) {
                return Some(PLACES);
            }
        }
    }
    None
}

const PLACES: &str = "each has its own, and is after the carrier's that it is behind";

/// Things by their numbers.
#[derive(Debug)]
struct Numbered<T> {
    all: BTreeMap<usize, T>,
    next: usize,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), next: 0 }
    }
}

impl<T> Numbered<T> {
    /// The place that is asked for, or the next one.
    fn number(&self, place: Option<usize>) -> usize {
        place.unwrap_or(self.next)
    }

    /// Whether that place was free.
    fn put(&mut self, at: usize, thing: T) -> bool {
        self.next = at + 1;
        self.all.insert(at, thing).is_none()
    }
}

/// All NATs, those that others are behind before those.
pub(super) fn draw(scenario: &Scenario, seed: &Seed, crew: &Crew) -> Vec<NatPlan> {
    let mut plans = Numbered::default();
    let mut put = |place: Option<usize>, plan: NatPlan| {
        let at = plans.number(place);
        let was_free = plans.put(at, plan);
        debug_assert!(was_free, "places are checked");
        at
    };
    let mut names = BTreeMap::new();
    let mut behind: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (at, nat) in scenario.nats.iter().enumerate() {
        // No group has this number.
        let number = (u64::from(u32::MAX) << 32) | at as u64;
        let addresses = |count: Range<Count>| count.draw(&mut seed.stream("nat addresses", number));
        let plan = NatPlan {
            config: nat.config(seed, number),
            hosts: Vec::new(),
            behind: nat.behind.as_deref().and_then(|name| names.get(name).copied()),
            addresses: nat.addresses.map_or(1, |count| addresses(count) as usize),
            forward: nat.forward,
        };
        let at = put(nat.place, plan);
        names.extend(nat.name.as_deref().map(|name| (name, at)));
    }
    for (group, peers) in scenario.peers.iter().enumerate() {
        let members = crew.members.iter().copied().enumerate();
        let newcomers = crew.newcomers.iter().map(|(host, of)| (*host, *of));
        let mut hosts = members
            .chain(newcomers)
            .filter(|(host, (of, _))| *of == group && crew.hosts[*host].role != Role::Nobody);
        if let Some(outer) = peers.behind.as_deref().and_then(|name| names.get(name)) {
            behind.entry(*outer).or_default().extend(hosts.map(|(host, _)| host));
            continue;
        }
        let Some(nat) = &peers.nat else { continue };
        let number = |at: usize| ((group as u64) << 32) | at as u64;
        // By its place in the group, so that a host more leaves the others.
        let is_behind = |member: usize| {
            let share = nat.share.draw(&mut seed.stream("nat share", number(member)));
            u64::from(seed.stream("nat", number(member)).below(1_000_000)) < share
        };
        let mut behind = hosts
            .by_ref()
            .filter(|(_, (_, member))| is_behind(*member))
            .map(|(host, _)| host)
            .peekable();
        let outer = nat.behind.as_deref().and_then(|name| names.get(name).copied());
        let mut homes = Vec::new();
        while behind.peek().is_some() {
            let at = homes.len();
            let per = nat.per.draw(&mut seed.stream("nat per", number(at))) as usize;
            let hosts = behind.by_ref().take(per).collect();
            let config = nat.config(seed, number(at));
            let forward = nat.forward;
            homes.push(NatPlan { config, hosts, behind: outer, addresses: 1, forward });
        }
        let mut place = nat.place;
        if nat.carrier_grade && !homes.is_empty() {
            let config = NatConfig::of(nat::Kind::CarrierGrade);
            let carrier = NatPlan {
                config: nat.with_ports(config, seed, number(0)),
                hosts: Vec::new(),
                behind: None,
                addresses: homes.len().div_ceil(HOMES_PER_ADDRESS).min(EXTERNAL_MAX),
                forward: false,
            };
            let carrier = put(place.take(), carrier);
            for home in &mut homes {
                home.behind = Some(carrier);
            }
        }
        for home in homes {
            put(place.take(), home);
        }
    }
    let mut all = plans.all;
    let mut plans: Vec<_> = (0..all.last_key_value().map_or(0, |(last, _)| last + 1))
        .map(|at| all.remove(&at).unwrap_or_else(NatPlan::nobody))
        .collect();
    for (nat, hosts) in behind {
        plans[nat].hosts = hosts.into_iter().collect();
    }
    plans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Plan;
    use crate::scenario::ScenarioError;

    fn scenario(nat: &str) -> Result<Scenario, ScenarioError> {
        let text = format!(
            "content = \"1 MiB\"\n[[peers]]\nrole = \"seeder\"\n\
             [[peers]]\nrole = \"leecher\"\ncount = 100\nnat = {nat}\n"
        );
        Scenario::parse("test", &text)
    }

    fn plan(nat: &str) -> Plan {
        scenario(nat).expect("a scenario").draw(3, false)
    }

    #[test]
    fn each_peer_of_a_group_has_its_own_or_some_share_one() {
        let plan_of = plan("\"port-restricted\"");
        assert_eq!(plan_of.nats.len(), 100);
        for (at, nat) in plan_of.nats.iter().enumerate() {
            assert_eq!(nat.hosts, [at + 1]);
            assert_eq!(nat.config, NatConfig::of(nat::Kind::PortRestricted));
        }
        let shared = plan("{ kind = \"full-cone\", per = \"2..6\" }").nats;
        let sizes: Vec<_> = shared.iter().map(|nat| nat.hosts.len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 100);
        assert!(sizes[..sizes.len() - 1].iter().all(|size| (2..=6).contains(size)), "{sizes:?}");
        assert!(sizes.contains(&2) && sizes.contains(&6), "{sizes:?}");
        assert!(plan("{ kind = \"symmetric\", per = 200 }").nats.len() == 1);
    }

    #[test]
    fn a_share_of_a_group_is_behind_one() {
        let behind = plan("{ kind = \"symmetric\", share = \"40 %\" }").nats.len();
        // Within 99.9 % of a binomial distribution.
        assert!((24..=56).contains(&behind), "{behind}");
    }

    #[test]
    fn every_field_says_what_it_says() {
        let text = "{ kind = \"symmetric\", hairpin = false, udp_timeout = \"30..60 s\", \
                    tcp_timeout = \"10 min\", refresh_inbound = true, unsolicited = \"reset\", \
                    ports = \"sequential\", ports_per_host = 7, nat_pmp = true, upnp = true, \
                    forward = true }";
        let nats = plan(text).nats;
        let timeouts: BTreeSet<_> = nats.iter().map(|nat| nat.config.udp_timeout).collect();
        assert!(timeouts.len() > 90, "each draws its own");
        let seconds = |seconds| Duration::from_secs(seconds);
        assert!(timeouts.iter().all(|it| (seconds(30)..=seconds(60)).contains(it)));
        let expected = NatConfig {
            hairpin: false,
            udp_timeout: nats[0].config.udp_timeout,
            tcp_established: seconds(600),
            refresh_inbound: true,
            unsolicited: nat::Unsolicited::Reset,
            ports: nat::PortAllocation::Sequential,
            ports_per_host_max: 7,
            servers: Servers { nat_pmp: true, upnp: true, ..Servers::OFF },
            ..NatConfig::of(nat::Kind::Symmetric)
        };
        assert_eq!(nats[0].config, expected);
        assert!(nats[0].forward);
    }

    #[test]
    fn homes_are_behind_a_carrier() {
        let text = "{ kind = \"port-restricted\", carrier_grade = true, ports_per_host = 9 }";
        let nats = plan(text).nats;
        assert_eq!(nats.len(), 101);
        let carrier = NatConfig { ports_per_host_max: 9, ..NatConfig::of(nat::Kind::CarrierGrade) };
        assert_eq!((nats[0].config, nats[0].addresses, nats[0].behind), (carrier, 4, None));
        let home = NatConfig::of(nat::Kind::PortRestricted);
        assert!(nats[1..].iter().all(|nat| nat.behind == Some(0) && nat.config == home));
    }

    #[test]
    fn whoever_comes_in_place_of_another_is_behind_one_too() {
        let text = "content = \"1 MiB\"\n[[peers]]\nrole = \"seeder\"\n\
             [[peers]]\nrole = \"leecher\"\ncount = 4\nnat = \"symmetric\"\n\
             [faults.churn]\nhosts = 2\n";
        let plan = Scenario::parse("test", text).expect("a scenario").draw(3, false);
        assert_eq!(plan.hosts.len(), 7);
        let behind: Vec<_> = plan.nats.iter().flat_map(|nat| nat.hosts.clone()).collect();
        assert_eq!(behind, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (text, hint) in [
            ("\"conical\"", "`port-restricted`"),
            ("5", "\"port-restricted\""),
            ("{ per = 2 }", "`kind`"),
            ("{ kind = \"symmetric\", hair = true }", "`hairpin`"),
            ("{ kind = \"symmetric\", udp_timeout = 5 }", "\"20 ms\""),
            ("{ kind = \"symmetric\", unsolicited = \"maybe\" }", "`drop`"),
            ("{ kind = \"symmetric\", per = 0 }", "nat.per of peers group 2"),
            ("{ kind = \"symmetric\", share = \"101 %\" }", "nat.share of peers group 2"),
            ("{ kind = \"symmetric\", udp_timeout = \"0 s\" }", "nat.udp_timeout"),
            ("{ kind = \"symmetric\", ports_per_host = 0 }", "nat.ports_per_host"),
            ("{ kind = \"symmetric\", ports_per_host = 2, forward = true }", "nat.ports_per_host"),
            ("{ kind = \"symmetric\", per = 2, forward = true }", "nat.forward"),
            ("{ kind = \"carrier-grade\", carrier_grade = true }", "nat.carrier_grade"),
        ] {
            let said = scenario(text).expect_err(text).to_string();
            assert!(said.contains(hint), "{text}: {said}");
        }
    }
}
