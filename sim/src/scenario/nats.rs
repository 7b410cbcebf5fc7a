//! NATs of a group of peers: as a file says it, and as they are drawn.

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use teem_core::rng::Seed;
use teem_core::time::Duration;

use super::draw::Crew;
use super::file::Scenario;
use super::units::{Count, Range, Share, Time};
use crate::nat::{self, EXTERNAL_MAX, NatConfig, Servers};
use crate::run::NatPlan;

/// Peers that one NAT may have behind it.
pub const PER_MAX: u64 = 10_000;

/// Homes for which a carrier has one outside address.
const HOMES_PER_ADDRESS: usize = 32;

/// What the peers of a group are behind: `"port-restricted"`, or a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat {
    /// What people call it.
    pub kind: NatKind,
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

    /// What is wrong with it, if anything: which field, and why.
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
        if self.carrier_grade && self.kind == NatKind::CarrierGrade {
            return Some(("nat.carrier_grade", "a carrier's NAT is behind no other carrier's"));
        }
        if self.forward && (self.per.most() > 1 || self.carrier_grade) {
            let why = "one port is forwarded to one peer, and no carrier does: leave out per and \
                       carrier_grade";
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

/// The NATs of all groups, those that others are behind before those.
pub(super) fn draw(scenario: &Scenario, seed: &Seed, crew: &Crew) -> Vec<NatPlan> {
    let mut plans = Vec::new();
    for (group, peers) in scenario.peers.iter().enumerate() {
        let Some(nat) = &peers.nat else { continue };
        let number = |at: usize| ((group as u64) << 32) | at as u64;
        // By its place in the group, so that a host more leaves the others.
        let is_behind = |member: usize| {
            let share = nat.share.draw(&mut seed.stream("nat share", number(member)));
            u64::from(seed.stream("nat", number(member)).below(1_000_000)) < share
        };
        let members = crew.members.iter().copied().enumerate();
        let newcomers = crew.newcomers.iter().map(|(host, of)| (*host, *of));
        let mut behind = members
            .chain(newcomers)
            .filter(|(_, (of, member))| *of == group && is_behind(*member))
            .map(|(host, _)| host)
            .peekable();
        let mut homes = Vec::new();
        while behind.peek().is_some() {
            let at = homes.len();
            let per = nat.per.draw(&mut seed.stream("nat per", number(at))) as usize;
            let hosts = behind.by_ref().take(per).collect();
            let config = nat.config(seed, number(at));
            homes.push(NatPlan { config, hosts, behind: None, addresses: 1, forward: nat.forward });
        }
        if nat.carrier_grade && !homes.is_empty() {
            let config = NatConfig::of(nat::Kind::CarrierGrade);
            let carrier = plans.len();
            plans.push(NatPlan {
                config: nat.with_ports(config, seed, number(0)),
                hosts: Vec::new(),
                behind: None,
                addresses: homes.len().div_ceil(HOMES_PER_ADDRESS).min(EXTERNAL_MAX),
                forward: false,
            });
            for home in &mut homes {
                home.behind = Some(carrier);
            }
        }
        plans.append(&mut homes);
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
        let timeouts: std::collections::BTreeSet<_> =
            nats.iter().map(|nat| nat.config.udp_timeout).collect();
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
