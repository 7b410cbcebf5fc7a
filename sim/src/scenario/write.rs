//! A plan as a file: what was drawn, written down as constants.
//!
//! What is read from it is the same plan again, so its run is the same, byte for byte. Hosts keep
//! their places, as every host draws from streams of its own number: where one was taken out of a
//! plan, the next one says where it is.

use std::fmt::Write;

use teem_core::metainfo::create::Format;
use teem_core::time::Duration;

use super::events::{job_name, spread_text};
use super::file::{Gate, Settings};
use super::nats::written::{Own, Written};
use crate::net::{Access, Fidelity, Skew};
use crate::packet::MTU;
use crate::packet::line::{Bursts, Line};
use crate::packet::queue::{CoDel, Discipline};
use crate::packet::tcp::Algorithm;
use crate::run::{Choking, Fault, HostPlan, Leaves, PickOrder, Plan, Preload, Role};
use crate::storage::{Crash, Profile};
use crate::time::Nanos;

/// A plan has something that no file can say: it was made by hand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no scenario file can say {0}")]
pub struct Unwritable(pub String);

/// Writes a plan down as a scenario file of constants: its seed, a line for each host (and for those
/// alike that follow each other), a line for each event.
///
/// # Errors
/// If it has what was made by hand and no file can say: a disk that is none of those with a name, a
/// NAT that is of no kind, a measured delay that is not of a group.
pub fn write(plan: &Plan) -> Result<String, Unwritable> {
    let nats = Written::of(plan)?;
    let mut out = String::new();
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(out, "{key} = {value}");
    };
    line("name", &text(&plan.scenario));
    line("seed", &plan.seed.to_string());
    if plan.fidelity != Fidelity::Flow {
        line("fidelity", &quoted(plan.fidelity.name()));
    }
    if plan.tcp == Algorithm::Reno {
        line("tcp", "\"reno\"");
    }
    line("content", &quoted(&bytes(plan.content_len)));
    if plan.piece_len != 256 << 10 {
        line("piece", &quoted(&bytes(plan.piece_len.into())));
    }
    match plan.format {
        Format::V1 => {}
        Format::V2 => line("format", "\"v2\""),
        Format::Hybrid => line("format", "\"hybrid\""),
    }
    if plan.between != Duration::from_millis(20) {
        line("between", &quoted(&time(plan.between)));
    }
    if plan.degree != 30 {
        line("degree", &plan.degree.to_string());
    }
    let regions = Regions::of(plan);
    let distances: Vec<_> =
        plan.distances.iter().filter_map(|distance| regions.distance(*distance)).collect();
    if !distances.is_empty() {
        line("distances", &format!("[{}]", distances.join(", ")));
    }
    if !plan.families.is_empty() {
        let names: Vec<_> = plan.families.iter().map(|family| quoted(family.name())).collect();
        line("families", &format!("[{}]", names.join(", ")));
    }
    if let Some(gate) = gate(plan) {
        line("gate", &gate);
    }
    if !nats.named.is_empty() {
        line("nats", &list(&nats.named));
    }
    let lines = peers(plan, &regions, &nats)?;
    line("peers", &list(&lines));
    if !plan.faults.is_empty() {
        let lines: Vec<_> = plan
            .faults
            .iter()
            .map(|(at, fault)| event(plan, *at, fault))
            .collect::<Result<_, _>>()?;
        line("events", &list(&lines));
    }
    Ok(out)
}

fn list(lines: &[String]) -> String {
    let mut out = "[\n".to_owned();
    for line in lines {
        let _ = writeln!(out, "  {line},");
    }
    out.push(']');
    out
}

/// Regions have numbers in a plan, and names in a file.
struct Regions {
    /// The largest that somebody is in.
    last: u16,
    used: Vec<u16>,
}

impl Regions {
    fn of(plan: &Plan) -> Self {
        let mut used: Vec<u16> = plan
            .hosts
            .iter()
            .filter(|host| host.role != Role::Nobody)
            .map(|host| host.access.region)
            .collect();
        used.sort_unstable();
        used.dedup();
        Self { last: used.last().copied().unwrap_or_default(), used }
    }

    /// None: all are in one.
    fn name(&self, region: u16) -> Option<String> {
        (self.last > 0).then(|| format!("\"r{region}\""))
    }

    /// None: nobody is there.
    fn distance(&self, (one, other, one_way): (u16, u16, Duration)) -> Option<String> {
        if !self.used.contains(&one) || !self.used.contains(&other) {
            return None;
        }
        let name = |region| self.name(region).unwrap_or_else(|| "\"\"".into());
        let (one, other, one_way) = (name(one), name(other), time(one_way));
        Some(format!("{{ regions = [{one}, {other}], one_way = \"{one_way}\" }}"))
    }
}

fn gate(plan: &Plan) -> Option<String> {
    let usual = Gate::default();
    let mut fields = Vec::new();
    if plan.bound_permille != usual.bound.least() {
        fields.push(format!("bound = {}", factor(plan.bound_permille)));
    }
    if plan.slack != Duration::from_nanos(usual.slack.least()) {
        fields.push(format!("slack = \"{}\"", time(plan.slack)));
    }
    if let Some(ends_at) = plan.ends_at {
        fields.push(format!("ends_at = \"{}\"", moment(ends_at)));
    }
    if plan.healed_at != healed_at(&plan.faults) {
        fields.push(format!("healed_at = \"{}\"", moment(plan.healed_at)));
    }
    if plan.must_fail {
        fields.push("must_fail = true".into());
    }
    (!fields.is_empty()).then(|| table(&fields))
}

/// When the last of these is over, if nothing else is said.
pub(super) fn healed_at(faults: &[(Nanos, Fault)]) -> Nanos {
    let over = |(at, fault): &(Nanos, Fault)| match fault {
        Fault::DiskSlow(_, _, until) => (*at).max(*until),
        _ => *at,
    };
    faults.iter().map(over).max().unwrap_or(Nanos::ZERO)
}

/// Hosts that are alike and follow each other.
struct Group {
    place: usize,
    count: usize,
    /// Its role first.
    fields: Vec<String>,
    /// The number of the first one's NAT, and what those are.
    nat: Option<Own>,
}

impl Group {
    /// Whether the next host may be one of it.
    fn is_followed_by(&self, next: &Self) -> bool {
        let nats = match (&self.nat, &next.nat) {
            (None, None) => true,
            (Some(first), Some(next)) => {
                first.number + self.count == next.number && first.fields == next.fields
            }
            _ => false,
        };
        nats && self.place + self.count == next.place && self.fields == next.fields
    }
}

fn peers(plan: &Plan, regions: &Regions, nats: &Written) -> Result<Vec<String>, Unwritable> {
    let mut groups: Vec<Group> = Vec::new();
    for (place, host) in plan.hosts.iter().enumerate() {
        if host.role == Role::Nobody {
            continue;
        }
        let mut fields = peer(plan, host, regions)?;
        if let Some(name) = nats.behind.get(&place) {
            fields.push(format!("behind = {}", quoted(name)));
        }
        let next = Group { place, count: 1, fields, nat: nats.own.get(&place).cloned() };
        match groups.last_mut() {
            Some(last) if last.is_followed_by(&next) => last.count += 1,
            _ => groups.push(next),
        }
    }
    let (mut next, mut next_nat) = (0, nats.next);
    let line = |Group { place, count, fields, nat }: &Group| {
        let mut all = Vec::new();
        if *place != next {
            all.push(format!("place = {place}"));
        }
        next = place + count;
        all.push(fields[0].clone());
        if *count > 1 {
            all.push(format!("count = {count}"));
        }
        all.extend_from_slice(&fields[1..]);
        if let Some(own) = nat {
            all.push(format!("nat = {}", own.text(next_nat)));
            next_nat = own.number + count;
        }
        table(&all)
    };
    Ok(groups.iter().map(line).collect())
}

/// The fields of a host, its role first.
fn peer(plan: &Plan, host: &HostPlan, regions: &Regions) -> Result<Vec<String>, Unwritable> {
    let role = match host.role {
        Role::Peer if host.preload == Preload::Everything => "seeder",
        Role::Peer => "leecher",
        Role::Tracker => "tracker",
        Role::LyingTracker(lie) => lie.name(),
        Role::Attacker(kind) => kind.name(),
        Role::Nobody => unreachable!("left out"),
    };
    let mut fields = vec![format!("role = \"{role}\"")];
    let mut field = |key: &str, value: String| fields.push(format!("{key} = {value}"));
    match host.preload {
        Preload::Nothing => {}
        Preload::Everything if role == "seeder" => {}
        Preload::Everything => field("preload", "\"everything\"".into()),
        // Less than a thousandth is none of them, and yet files.
        Preload::Part(0) => field("preload", "\"1 ppm\"".into()),
        Preload::Part(part) => field("preload", quoted(&share(u64::from(part) * 1_000))),
    }
    if let Some(up) = host.access.up_bytes_per_s {
        field("up", quoted(&rate(up)));
    }
    if let Some(down) = host.access.down_bytes_per_s {
        field("down", quoted(&rate(down)));
    }
    let (latency, jitter) = match (spread_text(host.access.latency), host.access.latency) {
        (Some(text), _) => text,
        (None, crate::net::Spread::Empirical { base, curve }) => {
            let curve = plan.curves.get(usize::from(curve.0));
            let curve =
                curve.ok_or_else(|| Unwritable("a measurement that is not there".into()))?;
            let times = curve.quantiles().map(|nanos| quoted(&time(nanos)));
            let times: Vec<_> = times.collect();
            (base, Some(format!("{{ quantiles = [{}] }}", times.join(", "))))
        }
        (None, other) => return Err(Unwritable(format!("the delay {other:?}"))),
    };
    if !latency.is_zero() {
        field("latency", quoted(&time(latency)));
    }
    if let Some(jitter) = jitter {
        field("jitter", jitter);
    }
    if host.access.loss_ppm > 0 {
        field("loss", quoted(&share(host.access.loss_ppm.into())));
    }
    let known = plan.lines.get(usize::from(host.access.line.0)).copied();
    let packets = packets(&known.unwrap_or_default())?;
    if !packets.is_empty() {
        field("line", table(&packets));
    }
    if let Some(region) = regions.name(host.access.region) {
        field("region", region);
    }
    if host.arrives != Nanos::ZERO {
        field("arrival", format!("{{ at = \"{}\" }}", moment(host.arrives)));
    }
    match host.leaves {
        Leaves::Never => {}
        Leaves::Complete(after) => {
            field("leave", format!("{{ after_complete = \"{}\" }}", time(after)));
        }
        Leaves::At(at) => field("leave", format!("{{ at = \"{}\" }}", moment(at))),
    }
    match disk(&host.disk)? {
        "ssd" => {}
        disk => field("disk", quoted(disk)),
    }
    if host.clock != Skew::NONE {
        field("clock", table(&skew(host.clock)));
    }
    match host.order {
        PickOrder::RarestFirst => {}
        PickOrder::Sequential => field("order", "\"sequential\"".into()),
        PickOrder::Random => field("order", "\"random\"".into()),
    }
    match host.choking {
        Choking::Default => {}
        Choking::RoundRobin(quota) => {
            field("choking", format!("{{ round_robin = \"{}\" }}", bytes(quota)));
        }
    }
    let config = Settings(host.config.clone()).changed();
    if !config.is_empty() {
        field("config", value(&toml::Value::Table(config))?);
    }
    Ok(fields)
}

/// What befalls packets on a line, if it is not the usual.
fn packets(line: &Line) -> Result<Vec<String>, Unwritable> {
    let mut fields = Vec::new();
    for (key, queue) in [("up_queue", line.up), ("down_queue", line.down)] {
        fields.extend(queue.limit_bytes.map(|limit| format!("{key} = \"{}\"", bytes(limit))));
    }
    match (line.up.discipline, line.down.discipline) {
        (Discipline::TailDrop, Discipline::TailDrop) => {}
        (Discipline::CoDel(up), Discipline::CoDel(down))
            if (up, down) == (CoDel::DEFAULT, CoDel::DEFAULT) =>
        {
            fields.push("discipline = \"codel\"".into());
        }
        (up, down) => return Err(Unwritable(format!("queues of {up:?} and {down:?}"))),
    }
    if line.mtu != MTU {
        fields.push(format!("mtu = {}", line.mtu));
    }
    if line.black_hole {
        fields.push("black_hole = true".into());
    }
    if let Some(Bursts { begin_ppm, end_ppm }) = line.bursts {
        let (begin, end) = (share(begin_ppm.into()), share(end_ppm.into()));
        fields.push(format!("bursts = {{ begin = \"{begin}\", end = \"{end}\" }}"));
    }
    if line.duplicate_ppm > 0 {
        fields.push(format!("duplicate = \"{}\"", share(line.duplicate_ppm.into())));
    }
    if line.reorder_ppm > 0 || !line.reorder_by.is_zero() {
        let (part, by) = (share(line.reorder_ppm.into()), time(line.reorder_by));
        fields.push(format!("reorder = {{ share = \"{part}\", by = \"{by}\" }}"));
    }
    if line.corrupt_ppm > 0 {
        fields.push(format!("corrupt = \"{}\"", share(line.corrupt_ppm.into())));
    }
    Ok(fields)
}

fn disk(profile: &Profile) -> Result<&'static str, Unwritable> {
    let named = [
        (Profile::INSTANT, "instant"),
        (Profile::SSD, "ssd"),
        (Profile::HDD, "hdd"),
        (Profile::SLOW, "slow"),
    ];
    let name = named.into_iter().find(|(known, _)| known == profile).map(|(_, name)| name);
    name.ok_or_else(|| Unwritable(format!("the disk {profile:?}")))
}

fn skew(skew: Skew) -> Vec<String> {
    let sign = |negative: bool| if negative { "-" } else { "" };
    let mut fields = Vec::new();
    if skew.offset_nanos != 0 {
        let offset = time(Duration::from_nanos(skew.offset_nanos.unsigned_abs()));
        fields.push(format!("offset = \"{}{offset}\"", sign(skew.offset_nanos < 0)));
    }
    if skew.drift_ppm != 0 {
        let drift = share(skew.drift_ppm.unsigned_abs().into());
        fields.push(format!("drift = \"{}{drift}\"", sign(skew.drift_ppm < 0)));
    }
    fields
}

fn event(plan: &Plan, at: Nanos, fault: &Fault) -> Result<String, Unwritable> {
    let mut fields = vec![format!("at = \"{}\"", moment(at))];
    let mut field = |key: &str, value: String| fields.push(format!("{key} = {value}"));
    match *fault {
        Fault::Crash(host, Crash::Process) => field("crash", host.to_string()),
        Fault::Crash(host, Crash::Power) => field("power", host.to_string()),
        Fault::Restart(host) => field("restart", host.to_string()),
        Fault::Pause(host) => field("pause", host.to_string()),
        Fault::Resume(host) => field("resume", host.to_string()),
        Fault::Cut(from, to) => {
            let side = |groups: u64| {
                let hosts = plan.hosts.iter().enumerate();
                let on = hosts.filter(|(_, host)| {
                    host.role != Role::Nobody && host.access.groups & groups != 0
                });
                on.map(|(place, _)| place.to_string()).collect::<Vec<_>>()
            };
            let (from, to) = (side(from), side(to));
            if from.is_empty() || to.is_empty() {
                return Err(Unwritable("a cut without hosts on both sides".into()));
            }
            field("cut", format!("[[{}], [{}]]", from.join(", "), to.join(", ")));
        }
        Fault::Heal => field("heal", "true".into()),
        Fault::Move(host) => field("move", host.to_string()),
        Fault::Access(host, access) => {
            field("link", host.to_string());
            fields.extend(link(&plan.hosts[host].access, &access)?);
        }
        Fault::DiskErrors(host, job, ppm) => {
            field("disk-errors", host.to_string());
            field("job", quoted(&job_name(job)));
            field("chance", quoted(&share(ppm.into())));
        }
        Fault::DiskErrorAt(host, job, nth) => {
            field("disk-errors", host.to_string());
            field("job", quoted(&job_name(job)));
            field("nth", nth.to_string());
        }
        Fault::DiskRoom(host, room) => {
            field("disk-full", host.to_string());
            if let Some(room) = room {
                field("room", quoted(&bytes(room)));
            }
        }
        Fault::DiskSlow(host, times, until) => {
            field("disk-slow", host.to_string());
            field("factor", times.to_string());
            field("until", quoted(&moment(until)));
        }
        Fault::DiskHeals(host) => field("disk-heals", host.to_string()),
        Fault::RestartTorrent(host) => field("restart-torrent", host.to_string()),
        Fault::DiskMisdirects(host, ppm) => {
            field("misdirected-writes", host.to_string());
            field("chance", quoted(&share(ppm.into())));
        }
        Fault::Recheck(host) => field("recheck", host.to_string()),
        Fault::Clock(host, wrong) => {
            field("clock", host.to_string());
            fields.extend(skew(wrong));
        }
    }
    Ok(table(&fields))
}

/// How a link differs from how it usually is.
fn link(usual: &Access, now: &Access) -> Result<Vec<String>, Unwritable> {
    let mut fields = Vec::new();
    let rates = [
        ("up", usual.up_bytes_per_s, now.up_bytes_per_s),
        ("down", usual.down_bytes_per_s, now.down_bytes_per_s),
    ];
    for (key, usual, now) in rates {
        match now {
            now if now == usual => {}
            Some(now) => fields.push(format!("{key} = \"{}\"", rate(now))),
            None => return Err(Unwritable("a link that loses its limit for a while".into())),
        }
    }
    if now.latency != usual.latency {
        let unknown = || Unwritable(format!("the delay {:?} for a while", now.latency));
        let (latency, jitter) = spread_text(now.latency).ok_or_else(unknown)?;
        fields.push(format!("latency = \"{}\"", time(latency)));
        fields.extend(jitter.map(|jitter| format!("jitter = {jitter}")));
    }
    if now.loss_ppm != usual.loss_ppm {
        fields.push(format!("loss = \"{}\"", share(now.loss_ppm.into())));
    }
    let place = |access: &Access| (access.region, access.groups, access.line);
    if place(now) != place(usual) {
        return Err(Unwritable("a host of another region, group or line for a while".into()));
    }
    Ok(fields)
}

// Values.

pub(super) fn table(fields: &[String]) -> String {
    format!("{{ {} }}", fields.join(", "))
}

pub(super) fn quoted(plain: &str) -> String {
    format!("\"{plain}\"")
}

/// Any text.
fn text(any: &str) -> String {
    let mut out = String::from("\"");
    for c in any.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A value of the configuration, in one line.
fn value(any: &toml::Value) -> Result<String, Unwritable> {
    Ok(match any {
        toml::Value::String(any) => text(any),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(yes) => yes.to_string(),
        toml::Value::Array(values) => {
            let values: Vec<_> = values.iter().map(value).collect::<Result<_, _>>()?;
            format!("[{}]", values.join(", "))
        }
        toml::Value::Table(fields) => {
            let fields = fields.iter().map(|(key, field)| Ok(format!("{key} = {}", value(field)?)));
            table(&fields.collect::<Result<Vec<_>, Unwritable>>()?)
        }
        other => return Err(Unwritable(format!("{other:?} in a configuration"))),
    })
}

/// A number of units, exactly.
fn decimal(number: u64, unit: u64) -> String {
    let digits = unit.ilog10() as usize;
    let (whole, rest) = (number / unit, number % unit);
    let fraction = format!("{rest:0digits$}");
    let fraction = if digits == 0 { "" } else { fraction.trim_end_matches('0') };
    if fraction.is_empty() { whole.to_string() } else { format!("{whole}.{fraction}") }
}

fn bytes(number: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units.iter().find(|(unit, _)| number > 0 && number.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{number} B"), |(unit, name)| format!("{} {name}", number / unit))
}

fn rate(number: u64) -> String {
    match number {
        1_000_000.. if number.is_multiple_of(1_000) => {
            format!("{} MB/s", decimal(number, 1_000_000))
        }
        1_000.. => format!("{} kB/s", decimal(number, 1_000)),
        _ => format!("{number} B/s"),
    }
}

/// A time without a sign.
pub(super) fn time(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    match nanos {
        1_000_000_000.. => format!("{} s", decimal(nanos, 1_000_000_000)),
        1_000_000.. => format!("{} ms", decimal(nanos, 1_000_000)),
        1_000.. => format!("{} us", decimal(nanos, 1_000)),
        0 => "0 s".into(),
        _ => format!("{nanos} ns"),
    }
}

fn moment(at: Nanos) -> String {
    time(Duration::from_nanos(at.0))
}

fn share(ppm: u64) -> String {
    if ppm.is_multiple_of(100) {
        format!("{} %", decimal(ppm, 10_000))
    } else {
        format!("{ppm} ppm")
    }
}

/// Thousandths.
pub(super) fn factor(permille: u64) -> String {
    decimal(permille, 1_000)
}
