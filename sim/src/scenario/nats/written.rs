//! NATs of a plan, as a file says them: those of one host with the host, others with names.

use std::collections::BTreeMap;

use crate::nat::{Kind, NatConfig, PortAllocation, Servers, Unsolicited};
use crate::run::{NatPlan, Plan, Role};
use crate::scenario::Unwritable;
use crate::scenario::write::{quoted, table, time};

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::scenario) struct Written {
    /// Those with names, an entry each.
    pub(in crate::scenario) named: Vec<String>,
    /// The names of those that hosts are behind.
    pub(in crate::scenario) behind: BTreeMap<usize, String>,
    /// Those that hosts have for themselves.
    pub(in crate::scenario) own: BTreeMap<usize, Own>,
    /// The number of the next one after those with names.
    pub(in crate::scenario) next: usize,
}

/// A host's own NAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::scenario) struct Own {
    pub(in crate::scenario) number: usize,
    /// Its kind first.
    pub(in crate::scenario) fields: Vec<String>,
}

impl Own {
    /// A value, where the next NAT has the number `next`.
    pub(in crate::scenario) fn text(&self, next: usize) -> String {
        let kind = self.fields[0].trim_start_matches("kind = ");
        if self.number == next && self.fields.len() == 1 {
            return kind.to_owned();
        }
        let mut all = self.fields.clone();
        if self.number != next {
            all.insert(0, format!("place = {}", self.number));
        }
        table(&all)
    }
}

impl Written {
    pub(in crate::scenario) fn of(plan: &Plan) -> Result<Self, Unwritable> {
        let mut written = Self::default();
        let carriers = plan.carriers();
        for (number, nat) in plan.nats.iter().enumerate() {
            let is_there =
                |host: &usize| plan.hosts.get(*host).is_some_and(|host| host.role != Role::Nobody);
            let hosts: Vec<usize> = nat.hosts.iter().copied().filter(is_there).collect();
            if !hosts.is_sorted_by(|one, other| one < other) {
                return Err(Unwritable("hosts behind a NAT that are not in order".into()));
            }
            let is_carrier = carriers.contains(&number);
            let empty = NatPlan { hosts: Vec::new(), ..nat.clone() };
            if hosts.is_empty() && !is_carrier && empty == NatPlan::nobody() {
                continue;
            }
            let mut fields = fields(nat)?;
            if let Some(outer) = nat.behind {
                let kinds = [Some(number), Some(outer)]
                    .map(|at| plan.nats.get(at?).and_then(|nat| nat.config.kind()));
                if outer >= number
                    || kinds[1] != Some(Kind::CarrierGrade)
                    || kinds[0] == Some(Kind::CarrierGrade)
                {
                    return Err(Unwritable("a NAT that is behind none of a carrier".into()));
                }
                fields.push(format!("behind = {}", quoted(&name(outer))));
            }
            let forwards = nat.forward && nat.hosts.first().is_some_and(is_there);
            let is_plain = nat.behind.is_none() && nat.config.ports_per_host_max >= 3;
            match hosts[..] {
                [host]
                    if !is_carrier
                        && nat.addresses <= 1
                        && (is_plain || !forwards)
                        && !written.knows(host) =>
                {
                    if forwards {
                        fields.push("forward = true".into());
                    }
                    written.own.insert(host, Own { number, fields });
                    continue;
                }
                _ if forwards => {
                    return Err(Unwritable("a port that is forwarded by no host's own NAT".into()));
                }
                _ => {}
            }
            let mut all = vec![format!("name = {}", quoted(&name(number)))];
            if number != written.next {
                all.push(format!("place = {number}"));
            }
            written.next = number + 1;
            all.append(&mut fields);
            if nat.addresses > 1 && nat.behind.is_none() {
                all.push(format!("addresses = {}", nat.addresses));
            }
            written.named.push(table(&all));
            for host in hosts {
                if written.knows(host) {
                    return Err(Unwritable("a host behind two NATs".into()));
                }
                written.behind.insert(host, name(number));
            }
        }
        Ok(written)
    }

    fn knows(&self, host: usize) -> bool {
        self.own.contains_key(&host) || self.behind.contains_key(&host)
    }
}

fn name(number: usize) -> String {
    format!("nat{number}")
}

/// What it is, its kind first.
fn fields(nat: &NatPlan) -> Result<Vec<String>, Unwritable> {
    let config = nat.config;
    let other = || Unwritable(format!("the NAT {config:?}"));
    let kind = config.kind().ok_or_else(other)?;
    let usual = NatConfig::of(kind);
    let Servers { nat_pmp, pcp, upnp, .. } = config.servers;
    let can_be_said = NatConfig {
        hairpin: config.hairpin,
        udp_timeout: config.udp_timeout,
        refresh_inbound: config.refresh_inbound,
        tcp_established: config.tcp_established,
        unsolicited: config.unsolicited,
        ports: config.ports,
        ports_per_host_max: config.ports_per_host_max,
        servers: Servers { nat_pmp, pcp, upnp, ..usual.servers },
        ..usual
    };
    if can_be_said != config || config.check().is_err() || config.ports_per_host_max > 1 << 16 {
        return Err(other());
    }
    let mut fields = vec![format!("kind = {}", quoted(kind.name()))];
    let mut field = |key: &str, value: String| fields.push(format!("{key} = {value}"));
    if config.hairpin != usual.hairpin {
        field("hairpin", config.hairpin.to_string());
    }
    if config.udp_timeout != usual.udp_timeout {
        field("udp_timeout", quoted(&time(config.udp_timeout)));
    }
    if config.refresh_inbound != usual.refresh_inbound {
        field("refresh_inbound", config.refresh_inbound.to_string());
    }
    if config.tcp_established != usual.tcp_established {
        field("tcp_timeout", quoted(&time(config.tcp_established)));
    }
    if config.unsolicited != usual.unsolicited {
        let answers = match config.unsolicited {
            Unsolicited::Drop => "drop",
            Unsolicited::Reset => "reset",
        };
        field("unsolicited", quoted(answers));
    }
    if config.ports != usual.ports {
        let ports = match config.ports {
            PortAllocation::Preserve => "preserve",
            PortAllocation::Sequential => "sequential",
            PortAllocation::Random => "random",
        };
        field("ports", quoted(ports));
    }
    if config.ports_per_host_max != usual.ports_per_host_max {
        field("ports_per_host", config.ports_per_host_max.to_string());
    }
    for (server, is_on) in [("nat_pmp", nat_pmp), ("pcp", pcp), ("upnp", upnp)] {
        if is_on {
            field(server, "true".into());
        }
    }
    Ok(fields)
}
