//! What is kept of a run that was recorded: a bounded number of figures, whatever its size.
//!
//! Times are seconds since the run began, rates bytes per second.

use std::collections::BTreeMap;

use super::streams::StreamSeries;
use crate::net::HostId;

/// How a run went.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Recording {
    /// When it ended.
    pub ends_s: f64,
    /// When the last host came; the bound counts from there.
    pub begins_s: f64,
    /// When the last planned trouble was over; zero if there was none.
    pub healed_s: f64,
    /// The least time that the topology allows if everybody reaches everybody, from
    /// [`Recording::begins_s`] on; zero: none.
    pub bound_s: f64,
    /// Bytes that everybody wants.
    pub content_len: u64,
    /// Bytes in a piece.
    pub piece_len: u32,
    /// Pieces.
    pub pieces: u32,
    /// Honest clients that had to fetch something.
    pub fetching: usize,
    /// When those of them that were complete were, in the order of time.
    pub complete_s: Vec<f64>,
    /// How many left before they were complete.
    pub left_early: usize,
    /// When the last of those that stayed was complete, counted from [`Recording::begins_s`]; none
    /// if not all were.
    pub took_s: Option<f64>,
    /// Honest clients, in the order of their hosts.
    pub peers: Vec<PeerRecord>,
    /// Figures over time.
    pub series: Series,
    /// Full copies of each piece over time.
    pub heat: Heat,
    /// What went wrong, as it was carried out, in the order of time.
    pub spells: Vec<Spell>,
    /// Further spells, which are not kept.
    pub spells_left_out: u64,
    /// Who served whom, if links are of different speed.
    pub clusters: Option<Clusters>,
    /// Jain's index of the mean download rates of those who fetched: 1 if all are the same.
    pub jain: Option<f64>,
    /// Bytes that honest clients sent, against what their uplinks could have carried while they
    /// were there; none if an uplink has no limit.
    pub utilisation: Option<f64>,
    /// Of the slowest honest peer, or of the first that failed.
    pub story: Option<Story>,
    /// What must not have been, in the order of the run's failures.
    pub failures: Vec<FailureNote>,
    /// How single streams went: those of a few hosts that carried most. Empty unless in `packet`
    /// fidelity.
    pub streams: Vec<StreamSeries>,
}

/// An honest client.
#[derive(Clone, Debug, Default)]
pub struct PeerRecord {
    /// Its host.
    pub host: HostId,
    /// It had to fetch something.
    pub fetches: bool,
    /// What its uplink carries, in bytes per second; none: any rate.
    pub up_bytes_per_s: Option<u64>,
    /// What its downlink carries, in bytes per second; none: any rate.
    pub down_bytes_per_s: Option<u64>,
    /// When it was to come.
    pub arrives_s: f64,
    /// When it was complete.
    pub complete_s: Option<f64>,
    /// When it left for good.
    pub left_s: Option<f64>,
    /// Bytes that streams brought it.
    pub received_bytes: u64,
    /// Bytes that it sent on streams.
    pub sent_bytes: u64,
    /// Mean bytes per second that came while it fetched; zero if it never did.
    pub mean_rate: f64,
}

/// Figures over time: all lists are as long as [`Series::at_s`].
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// When each sample was taken.
    pub at_s: Vec<f64>,
    /// Honest clients that were there.
    pub live: Vec<f64>,
    /// Download rates of those that were fetching, over a second or so.
    pub down: Vec<Spread>,
    /// Upload rates of all that were there.
    pub up: Vec<Spread>,
    /// Share of the pieces that those who fetch had, complete or not; the ones that left at their
    /// last.
    pub progress: Vec<Spread>,
    /// Connections of each that was there.
    pub connections: Vec<Spread>,
    /// Share of the uplinks in use, over a second or so; empty if an uplink has no limit.
    pub utilisation: Vec<f64>,
    /// Full copies of a piece among clients that were there: the rarest, the median and the most
    /// common piece.
    pub copies: Vec<Spread>,
    /// Jain's index of the download rates of those that were fetching.
    pub jain: Vec<f64>,
    /// Share of the pieces that the peer of [`Recording::story`] had.
    pub slowest: Vec<f64>,
    /// Download rates of single peers: their hosts, and rates over time.
    pub rates: Vec<(HostId, Vec<f64>)>,
}

/// A distribution in three numbers. What they are, the field says: mostly the 10, 50 and 90 %
/// quantiles.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The lower one.
    pub low: f64,
    /// The median.
    pub mid: f64,
    /// The upper one.
    pub high: f64,
}

/// Full copies of each piece over time. At most [`HEAT_ROWS_MAX`](super::HEAT_ROWS_MAX) rows of
/// pieces by [`HEAT_COLUMNS_MAX`](super::HEAT_COLUMNS_MAX) columns.
#[derive(Clone, Debug, Default)]
pub struct Heat {
    /// When each column begins; the last ends with the run.
    pub at_s: Vec<f64>,
    /// First piece of each row.
    pub pieces: Vec<u32>,
    /// Column by column, the rows of each: the least copies of a piece in the row.
    pub copies: Vec<Vec<u32>>,
}

/// Something that was wrong for a while, or happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Spell {
    /// Which kind of trouble.
    pub kind: String,
    /// Whom it befell; none: the network.
    pub host: Option<HostId>,
    /// When it began.
    pub from_s: f64,
    /// When it was over; none: it has no length.
    pub to_s: Option<f64>,
    /// What it was, in words.
    pub what: String,
}

/// Who served whom, among those who were fetching: clients in classes by their uplinks, slowest
/// first.
///
/// The time of slots is counted as in [`truth::clusters`](crate::truth::clusters). What it would
/// have been by lot is the share of each class among the peers that were connected at that time.
#[derive(Clone, Debug, Default)]
pub struct Clusters {
    /// The classes.
    pub classes: Vec<Class>,
    /// For each class the shares of its slots' time that each class had.
    pub observed: Vec<Vec<f64>>,
    /// The same by lot.
    pub by_lot: Vec<Vec<f64>>,
    /// Time that peers of their own class held slots, against what it would be by lot: above 1,
    /// peers serve their like. None if nobody held a slot.
    pub index: Option<f64>,
}

/// Clients whose uplinks are about as fast.
#[derive(Clone, Debug, Default)]
pub struct Class {
    /// The slowest of them, in bytes per second.
    pub least: u64,
    /// The fastest of them.
    pub most: u64,
    /// How many there are.
    pub peers: usize,
}

/// What befell one peer, in the order of time.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// Its host.
    pub host: HostId,
    /// Why it is told: it was the last, or failed.
    pub why: String,
    /// What befell it.
    pub notes: Vec<Note>,
    /// What it was told last, by its own session.
    pub tail: Vec<Note>,
}

/// Something that happened at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// When it began.
    pub at_s: f64,
    /// When it was over, if it has a length.
    pub to_s: Option<f64>,
    /// What weight it has.
    pub tone: Tone,
    /// What, in words.
    pub what: String,
}

/// What a note says about how things go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// It went on.
    #[default]
    Plain,
    /// It went well.
    Good,
    /// It stood still, or was hindered.
    Bad,
}

/// A failure, where it belongs.
#[derive(Clone, Debug, Default)]
pub struct FailureNote {
    /// What must not have been.
    pub text: String,
    /// What that means.
    pub meaning: String,
    /// When it was noticed; none: at the end.
    pub at_s: Option<f64>,
    /// Whom it concerns.
    pub host: Option<HostId>,
    /// What that host's session told last before the run ended.
    pub tail: Vec<Note>,
}

impl Recording {
    /// Keeps what is needed to show this run among many, and drops what shows it at close range.
    pub fn forget_details(&mut self) {
        let series = std::mem::take(&mut self.series);
        self.series.at_s = series.at_s;
        self.series.utilisation = series.utilisation;
        self.peers = Vec::new();
        self.heat = Heat::default();
        self.spells = Vec::new();
        self.story = None;
        self.streams = Vec::new();
    }

    /// How many spells of each kind there were.
    pub fn spells_by_kind(&self) -> BTreeMap<&str, Vec<&Spell>> {
        let mut kinds: BTreeMap<&str, Vec<&Spell>> = BTreeMap::new();
        for spell in &self.spells {
            kinds.entry(&spell.kind).or_default().push(spell);
        }
        kinds
    }
}
