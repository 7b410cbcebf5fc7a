//! What a scenario file says.
//!
//! A file is TOML. Whatever can be drawn is a [`Range`]; a single value is a range of one. Fields
//! that are not known are refused by name.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use teem_core::metainfo::create;
use teem_core::session::Config;

use super::arrivals::Arrival;
use super::delays::Delay;
use super::events::Event;
use super::line::Line;
use super::nats::Nat;
use super::units::{Bytes, Count, Factor, Part, Range, Rate, Share, Signed, Time};
use crate::actors;
use crate::net;
use crate::packet::tcp::Algorithm;
use crate::run::{self, Family};
use crate::storage::Profile;

/// A scenario: what a file says, checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called; without it, as the file.
    #[serde(default)]
    pub name: String,
    /// What it is about, in a line.
    #[serde(default)]
    pub about: String,
    /// The seed that it is meant for; another one may be used all the same.
    pub seed: Option<u64>,
    /// How closely the network is followed: `message`, `flow` or `packet`.
    #[serde(default)]
    pub fidelity: Fidelity,
    /// How TCP finds its rate, in `packet` fidelity: `cubic` or `reno`.
    #[serde(default)]
    pub tcp: Tcp,
    /// What lies between any two hosts, one way.
    #[serde(default = "defaults::between")]
    pub between: Range<Time>,
    /// Distances between regions on top of that.
    #[serde(default)]
    pub distances: Vec<Distance>,
    /// Bytes that everybody wants.
    pub content: Range<Bytes>,
    /// Bytes in a piece: a power of two of at least 16 KiB.
    #[serde(default = "defaults::piece")]
    pub piece: Range<Bytes>,
    /// What kind of torrent it is: `v1`, `v2` or `hybrid`.
    #[serde(default)]
    pub format: Format,
    /// How many of those that are there a peer is told of when it arrives.
    #[serde(default = "defaults::degree")]
    pub degree: Range<Count>,
    /// Whether there are trackers, which every client announces to.
    #[serde(default)]
    pub tracker: Trackers,
    /// Who of the leechers means harm: `"10 % poisoner, 5 % slow-loris"`.
    #[serde(default)]
    pub mix: Mix,
    /// NATs with names, which groups or other NATs are behind.
    #[serde(default)]
    pub nats: Vec<Nat>,
    /// Who takes part.
    pub peers: Vec<Peers>,
    /// What goes wrong, as the seed draws it.
    #[serde(default)]
    pub faults: Faults,
    /// What goes wrong when and with whom.
    #[serde(default)]
    pub events: Vec<Event>,
    /// Kinds of trouble that must happen, or the run fails, beside those of `faults`.
    #[serde(default)]
    pub families: Families,
    /// When a run has failed.
    #[serde(default)]
    pub gate: Gate,
}

/// What kind of torrent it is; see [`create::Format`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// BEP 3.
    #[default]
    V1,
    /// BEP 52.
    V2,
    /// Both.
    Hybrid,
}

impl From<Format> for create::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::V1 => Self::V1,
            Format::V2 => Self::V2,
            Format::Hybrid => Self::Hybrid,
        }
    }
}

/// How closely the network is followed; see [`net::Fidelity`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fidelity {
    /// Everything takes its delay, whatever its size.
    Message,
    /// Streams share the links of their hosts.
    #[default]
    Flow,
    /// Every packet crosses links and queues; streams are TCP.
    Packet,
}

impl From<Fidelity> for net::Fidelity {
    fn from(fidelity: Fidelity) -> Self {
        match fidelity {
            Fidelity::Message => Self::Message,
            Fidelity::Flow => Self::Flow,
            Fidelity::Packet => Self::Packet,
        }
    }
}

/// How TCP finds its rate; see [`Algorithm`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tcp {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 5681.
    Reno,
}

impl From<Tcp> for Algorithm {
    fn from(tcp: Tcp) -> Self {
        match tcp {
            Tcp::Cubic => Self::Cubic,
            Tcp::Reno => Self::Reno,
        }
    }
}

impl Fidelity {
    /// As files name it.
    pub fn name(self) -> &'static str {
        net::Fidelity::from(self).name()
    }
}

/// How far apart two regions are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distance {
    /// The two, as [`Peers::region`] names them.
    pub regions: [String; 2],
    /// One way.
    pub one_way: Range<Time>,
}

/// A group of peers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// What they come for.
    pub role: Role,
    /// The place of the first of them, counted from 0 over all hosts; without it, the next one.
    /// Places that are left out are empty. Groups come in the order of their places.
    pub place: Option<usize>,
    /// How many.
    #[serde(default = "defaults::one")]
    pub count: Range<Count>,
    /// What each can send; without it, any rate.
    pub up: Option<Range<Rate>>,
    /// What each can receive; without it, any rate.
    pub down: Option<Range<Rate>>,
    /// From each to its region and back, each; drawn once for each host.
    #[serde(default = "defaults::no_delay")]
    pub latency: Delay,
    /// What comes on top of that, drawn for each connection and datagram.
    #[serde(default = "defaults::no_delay")]
    pub jitter: Delay,
    /// Losses each way.
    #[serde(default = "defaults::nothing")]
    pub loss: Range<Share>,
    /// How their lines treat packets, in `packet` fidelity.
    pub line: Option<Line>,
    /// Where they are; without it, in the region "".
    #[serde(default)]
    pub region: String,
    /// How many each serves at a time; without it, the client's default.
    pub slots: Option<Range<Count>>,
    /// Connections that each has at most; without it, the client's default.
    pub connections: Option<Range<Count>>,
    /// The client's own limit of what it sends.
    pub up_limit: Option<Range<Rate>>,
    /// The client's own limit of what it receives.
    pub down_limit: Option<Range<Rate>>,
    /// Whom they serve.
    #[serde(default)]
    pub choking: Choking,
    /// In which order they begin pieces.
    #[serde(default)]
    pub order: Order,
    /// When they come.
    #[serde(default)]
    pub arrival: Arrival,
    /// When they go.
    #[serde(default)]
    pub leave: Leave,
    /// What is on their disks; without it, everything for seeders and nothing for leechers.
    pub preload: Option<Preload>,
    /// How their disks are.
    #[serde(default)]
    pub disk: Disk,
    /// How wrong their clocks are when they come, either way.
    #[serde(default = "defaults::nothing")]
    pub clock_offset: Range<Time>,
    /// By how much their clocks are too fast or too slow.
    #[serde(default = "defaults::nothing")]
    pub clock_drift: Range<Share>,
    /// What they are behind; without it, each has a public address.
    pub nat: Option<Nat>,
    /// The name of the NAT that all of them are behind, of those in [`Scenario::nats`].
    pub behind: Option<String>,
    /// How wrong their clocks are when they come, exactly; then the two above do not count.
    pub clock: Option<Clock>,
    /// Further settings of their sessions, by the names that [`Config`] has for them.
    #[serde(default)]
    pub config: Settings,
}

/// What peers come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To serve: `seeder`.
    Seeder,
    /// To fetch, and serve what they have: `leecher`.
    Leecher,
    /// To be announced to, by every client: `tracker`.
    Tracker,
    /// To lie to every client, by the name of the lie: `many-peers`.
    LyingTracker(actors::Lie),
    /// To do harm, by the name of the kind: `poisoner`.
    Attacker(actors::Kind),
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match text.as_str() {
            "seeder" => return Ok(Self::Seeder),
            "leecher" => return Ok(Self::Leecher),
            "tracker" => return Ok(Self::Tracker),
            _ => {}
        }
        let lie = text.parse().ok().map(Self::LyingTracker);
        lie.or_else(|| text.parse().ok().map(Self::Attacker)).ok_or_else(|| {
            let kinds = actors::Kind::ALL.map(actors::Kind::name).join(", ");
            let lies = actors::Lie::ALL.map(actors::Lie::name).join(", ");
            D::Error::custom(format!(
                "\"{text}\" is no role: there are seeder, leecher, tracker; those who mean harm: \
                 {kinds}; and trackers that lie: {lies}"
            ))
        })
    }
}

/// How wrong clocks are: `{ offset = "-5 s", drift = "20 ppm" }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// How far they are ahead; negative: behind.
    pub offset: Option<Signed<Time>>,
    /// By how much they are too fast; negative: too slow.
    pub drift: Option<Signed<Share>>,
}

/// Settings of a session: the defaults, but for what a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(pub Config);

impl Settings {
    /// Those that are not the defaults, by name.
    pub fn changed(&self) -> toml::Table {
        let usual = Self::table(&Config::default());
        let mut changed = Self::table(&self.0);
        changed.retain(|name, value| usual.get(name) != Some(value));
        changed
    }

    /// The defaults with these changes.
    ///
    /// # Errors
    /// If a setting is not known or its value is of the wrong kind, in words.
    pub fn with(changes: &toml::Table) -> Result<Self, String> {
        let usual = Self::table(&Config::default());
        let mut all = usual.clone();
        all.extend(changes.clone());
        let config: Config = all.try_into().map_err(|error| error.to_string())?;
        let known = Self::table(&config);
        match changes.keys().find(|name| !known.contains_key(*name)) {
            None => Ok(Self(config)),
            Some(name) => {
                let names: Vec<_> = usual.keys().map(String::as_str).collect();
                Err(format!(
                    "there is no setting `{name}`; among others there are: {}",
                    names.join(", ")
                ))
            }
        }
    }

    /// All that have a value.
    fn table(config: &Config) -> toml::Table {
        toml::Table::try_from(config).expect("settings are numbers and texts")
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::with(&toml::Table::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// Kinds of trouble, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Families(pub Vec<Family>);

impl<'de> Deserialize<'de> for Families {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(from)?;
        let family = |name: &String| {
            let found = Family::ALL.into_iter().find(|family| family.name() == name);
            found.ok_or_else(|| {
                let known = Family::ALL.map(Family::name).join(", ");
                D::Error::custom(format!("\"{name}\" is no kind of trouble; there are: {known}"))
            })
        };
        names.iter().map(family).collect::<Result<_, _>>().map(Self)
    }
}

/// Whom a peer serves; see [`run::Choking`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choking {
    /// As the client does.
    #[default]
    Default,
    /// In turn, so many bytes each.
    RoundRobin(Range<Bytes>),
}

/// In which order a peer begins pieces; see [`run::PickOrder`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The rarest first.
    #[default]
    RarestFirst,
    /// By index.
    Sequential,
    /// As they come.
    Random,
}

impl From<Order> for run::PickOrder {
    fn from(order: Order) -> Self {
        match order {
            Order::RarestFirst => Self::RarestFirst,
            Order::Sequential => Self::Sequential,
            Order::Random => Self::Random,
        }
    }
}

/// When a peer goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leave {
    /// Never.
    #[default]
    Never,
    /// This long after it was complete.
    AfterComplete(Range<Time>),
    /// This long after it came, complete or not.
    AfterArrival(Range<Time>),
    /// Then, complete or not.
    At(Range<Time>),
}

/// What is on a peer's disk: `"nothing"`, `"everything"`, or a share of its pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preload(pub Range<Share>);

impl Preload {
    /// All of it.
    pub const EVERYTHING: Self = Self(Range::of(1_000_000));
    /// Nothing.
    pub const NOTHING: Self = Self(Range::of(0));
}

impl<'de> Deserialize<'de> for Preload {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match text.as_str() {
            "everything" => Ok(Self::EVERYTHING),
            "nothing" => Ok(Self::NOTHING),
            _ => text.parse().map(Self).map_err(|_| {
                D::Error::custom(format!(
                    "\"{text}\" is not a preload: write \"nothing\", \"everything\" or a share \
                     of the pieces, such as \"30 %\""
                ))
            }),
        }
    }
}

/// How a disk is; see [`Profile`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disk {
    /// Nothing takes time.
    Instant,
    /// A solid-state disk.
    #[default]
    Ssd,
    /// A spinning disk.
    Hdd,
    /// Storage that is hardly there.
    Slow,
}

impl From<Disk> for Profile {
    fn from(disk: Disk) -> Self {
        match disk {
            Disk::Instant => Self::INSTANT,
            Disk::Ssd => Self::SSD,
            Disk::Hdd => Self::HDD,
            Disk::Slow => Self::SLOW,
        }
    }
}

/// Who of a crowd means harm; see [`actors::Mix`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mix(pub actors::Mix);

impl<'de> Deserialize<'de> for Mix {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let names = || actors::Kind::ALL.map(actors::Kind::name).join(", ");
        let known = |error| format!("{error}; write \"10 % poisoner\"; there are: {}", names());
        text.parse().map(Self).map_err(|error| D::Error::custom(known(error)))
    }
}

/// Trackers: `true` for an honest one, or a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trackers {
    /// How many.
    pub count: Range<Count>,
    /// Which of them lie, and how: `"50 % many-peers"`; see [`actors::Lie`].
    pub mix: actors::Mix<actors::Lie>,
}

impl Default for Trackers {
    fn default() -> Self {
        Self { count: Range::of(0), mix: actors::Mix::default() }
    }
}

impl<'de> Deserialize<'de> for Trackers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            #[serde(default = "defaults::one")]
            count: Range<Count>,
            #[serde(default)]
            mix: String,
        }

        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Trackers;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, false or { count = 3, mix = \"50 % many-peers\" }")
            }

            fn visit_bool<E: Error>(self, any: bool) -> Result<Trackers, E> {
                Ok(Trackers { count: Range::of(any.into()), ..Trackers::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Trackers, A::Error> {
                let Table { count, mix } = Table::deserialize(MapAccessDeserializer::new(map))?;
                let names = || actors::Lie::ALL.map(actors::Lie::name).join(", ");
                let known =
                    |error| format!("{error}; write \"50 % many-peers\"; there are: {}", names());
                let mix = mix.parse().map_err(|error| A::Error::custom(known(error)))?;
                Ok(Trackers { count, mix })
            }
        }

        from.deserialize_any(Reader)
    }
}

/// What goes wrong: a table for each kind of trouble. A kind that is not there does not happen.
///
/// Each is in every run that is not a swarm run; in a swarm run, each is in with one half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Faults {
    /// Processes end and come back.
    pub crash: Option<Spell>,
    /// Power fails and comes back.
    pub power: Option<Spell>,
    /// Processes are stopped and go on.
    pub pause: Option<Spell>,
    /// Some of the hosts are cut off from the others.
    pub partition: Option<Partition>,
    /// Hosts get other addresses.
    #[serde(rename = "move")]
    pub moves: Option<Moment>,
    /// Links lose what they carry.
    pub loss: Option<Loss>,
    /// Links become slow.
    pub slow_links: Option<Slow>,
    /// Disk jobs fail.
    pub disk_errors: Option<DiskErrors>,
    /// Disks are full.
    pub disk_full: Option<DiskFull>,
    /// Disks are slow.
    pub disk_slow: Option<Slow>,
    /// Leechers leave before they are complete, and others come.
    pub churn: Option<Spell>,
    /// Writes land in the wrong place.
    pub misdirected_writes: Option<DiskErrors>,
    /// Clocks are wrong.
    pub clock_skew: Option<ClockSkew>,
}

impl Faults {
    /// Whether this kind of trouble is there. [`Family::Attackers`] and [`Family::LyingTrackers`]
    /// are the mixes'.
    pub const fn has(&self, family: Family) -> bool {
        match family {
            Family::Crash => self.crash.is_some(),
            Family::Power => self.power.is_some(),
            Family::Pause => self.pause.is_some(),
            Family::Partition => self.partition.is_some(),
            Family::Move => self.moves.is_some(),
            Family::Loss => self.loss.is_some(),
            Family::SlowLinks => self.slow_links.is_some(),
            Family::DiskErrors => self.disk_errors.is_some(),
            Family::DiskFull => self.disk_full.is_some(),
            Family::DiskSlow => self.disk_slow.is_some(),
            Family::Churn => self.churn.is_some(),
            Family::MisdirectedWrites => self.misdirected_writes.is_some(),
            Family::ClockSkew => self.clock_skew.is_some(),
            Family::Attackers | Family::LyingTrackers => false,
        }
    }
}

/// Some hosts, from some time on, for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spell {
    /// How many.
    pub hosts: Part,
    /// From when on, since the beginning of the run.
    pub at: Range<Time>,
    /// For how long. Of churn: until another one comes.
    pub lasts: Range<Time>,
}

/// Some hosts, at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Moment {
    /// How many.
    pub hosts: Part,
    /// When, since the beginning of the run.
    pub at: Range<Time>,
}

/// Some of the hosts are cut off from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Partition {
    /// How often, one after the other.
    pub cuts: Range<Count>,
    /// How many are on the one side.
    pub hosts: Part,
    /// From when on.
    pub at: Range<Time>,
    /// For how long.
    pub lasts: Range<Time>,
    /// How likely it is that only one direction is cut.
    pub one_way: Range<Share>,
}

/// Some links lose what they carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Loss {
    /// How many hosts' links.
    pub hosts: Part,
    /// From when on.
    pub at: Range<Time>,
    /// For how long.
    pub lasts: Range<Time>,
    /// How much of it.
    pub loss: Range<Share>,
}

/// Something becomes slow for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slow {
    /// How many hosts.
    pub hosts: Part,
    /// From when on.
    pub at: Range<Time>,
    /// For how long.
    pub lasts: Range<Time>,
    /// How many times slower.
    pub factor: Range<Factor>,
}

/// Jobs of some disks go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskErrors {
    /// How many hosts. Of errors: each has one kind of job that fails.
    pub hosts: Part,
    /// From when on.
    pub at: Range<Time>,
    /// For how long. Then torrents that failed are started again; where writes were misdirected,
    /// all that is on the disk is checked.
    pub lasts: Range<Time>,
    /// How likely a job goes wrong.
    pub chance: Range<Share>,
}

/// Some clocks are wrong for a while, each either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockSkew {
    /// How many hosts.
    pub hosts: Part,
    /// From when on.
    pub at: Range<Time>,
    /// For how long; then they are as they were.
    pub lasts: Range<Time>,
    /// How far the clock on the wall jumps.
    pub offset: Range<Time>,
    /// By how much all clocks of a host are too fast or too slow.
    pub drift: Range<Share>,
}

/// Some disks are full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskFull {
    /// How many hosts.
    pub hosts: Part,
    /// From when on.
    pub at: Range<Time>,
    /// For how long; then torrents that failed are started again.
    pub lasts: Range<Time>,
    /// What there is room for all the same.
    pub room: Range<Bytes>,
}

const HOSTS: Part = Part::Count(Range::new(1, 3));
const AT: Range<Time> = Range::new(5 * SECOND, 60 * SECOND);
const LASTS: Range<Time> = Range::new(SECOND, 20 * SECOND);
const SECOND: u64 = 1_000_000_000;

impl Default for Spell {
    fn default() -> Self {
        Self { hosts: HOSTS, at: AT, lasts: LASTS }
    }
}

impl Default for Moment {
    fn default() -> Self {
        Self { hosts: HOSTS, at: AT }
    }
}

impl Default for Partition {
    fn default() -> Self {
        let hosts = Part::Share(Range::new(100_000, 500_000));
        let cuts = Range::new(1, 2);
        Self { cuts, hosts, at: AT, lasts: LASTS, one_way: Range::of(300_000) }
    }
}

impl Default for Loss {
    fn default() -> Self {
        Self { hosts: HOSTS, at: AT, lasts: LASTS, loss: Range::new(10_000, 100_000) }
    }
}

impl Default for Slow {
    fn default() -> Self {
        Self { hosts: HOSTS, at: AT, lasts: LASTS, factor: Range::new(4_000, 20_000) }
    }
}

impl Default for DiskErrors {
    fn default() -> Self {
        Self { hosts: HOSTS, at: AT, lasts: LASTS, chance: Range::new(100_000, 500_000) }
    }
}

impl Default for ClockSkew {
    fn default() -> Self {
        let (offset, drift) = (Range::new(SECOND, 3_600 * SECOND), Range::new(10, 1_000));
        Self { hosts: HOSTS, at: AT, lasts: LASTS, offset, drift }
    }
}

impl Default for DiskFull {
    fn default() -> Self {
        Self { hosts: HOSTS, at: AT, lasts: LASTS, room: Range::new(0, 256 << 10) }
    }
}

/// When a run has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Everybody must be complete within this many times the bound that the topology allows ...
    pub bound: Range<Factor>,
    /// ... and this much more, for what does not scale.
    pub slack: Range<Time>,
    /// The run ends there, complete or not.
    pub ends_at: Option<Range<Time>>,
    /// When the last trouble is over, and everything is mended; without it, when the last event
    /// and the last of what is drawn is.
    pub healed_at: Option<Range<Time>>,
    /// The run must fail: it proves that a failure is noticed.
    pub must_fail: bool,
}

impl Default for Gate {
    fn default() -> Self {
        let (bound, slack) = (Range::of(2_000), Range::of(120 * SECOND));
        Self { bound, slack, ends_at: None, healed_at: None, must_fail: false }
    }
}

mod defaults {
    use super::{Bytes, Count, Delay, Range, Time};

    pub(super) const fn between() -> Range<Time> {
        Range::of(20_000_000)
    }

    pub(super) const fn piece() -> Range<Bytes> {
        Range::of(256 << 10)
    }

    pub(super) const fn degree() -> Range<Count> {
        Range::of(30)
    }

    pub(super) const fn one() -> Range<Count> {
        Range::of(1)
    }

    pub(super) const fn no_delay() -> Delay {
        Delay::NOTHING
    }

    pub(super) const fn nothing<U>() -> Range<U> {
        Range::of(0)
    }
}
