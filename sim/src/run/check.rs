//! What must hold in every run, looked at as it happens.
//!
//! Each event costs O(1); now and then, and at the end, sums are counted again from scratch.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use teem_core::ids::{PieceIndex, TorrentId};
use teem_core::session::{Event, Session, TorrentState};
use teem_core::time::{Duration, Instant};
use teem_core::torrent::picker::BLOCK_LEN;

use super::flaps::Flaps;
use super::plan::{Choking, Family, HostPlan, Plan, Preload};
use crate::content::ContentId;
use crate::net::{HostId, Net, Stuck};
use crate::swarm::{Node, folder};
use crate::time::Nanos;

/// Failures of one run that are kept; more are only counted.
pub const FAILURES_MAX: usize = 20;

/// What a session may send at once beyond its limit, in seconds' worth: it saves up for one, and a
/// loan that is not settled counts when it is made.
const BURST: u64 = 2;

/// Bytes beyond a limit that are nobody's fault: handshakes and what was under way.
const BURST_BYTES: u64 = 256 * 1024;

/// Bytes of content beyond its limit that a session may hold for each peer: the one block that is
/// always allowed to be on its way.
const HELD_PER_PEER: u64 = BLOCK_LEN as u64;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A host was woken without end.
    #[error("{0}")]
    Stuck(#[from] Stuck),
    /// Bytes came from nowhere or went nowhere.
    #[error(
        "at {at:?}: {handed} bytes were sent, which is not {delivered} delivered, {lost} lost and \
         {in_flight} on their way"
    )]
    BytesLost {
        /// When it was noticed.
        at: Nanos,
        /// What machines sent.
        handed: u64,
        /// What machines took.
        delivered: u64,
        /// What nobody will take.
        lost: u64,
        /// The rest.
        in_flight: u64,
    },
    /// A piece was taken for good of which not every block was ever delivered.
    #[error("at {at:?}: host {host} has piece {piece}, and nobody sent it all of it")]
    Unsent {
        /// When.
        at: Nanos,
        /// Who took it.
        host: HostId,
        /// Which piece.
        piece: u32,
    },
    /// A piece was verified a second time.
    #[error("at {at:?}: host {host} verified piece {piece}, which it had")]
    Twice {
        /// When.
        at: Nanos,
        /// Who.
        host: HostId,
        /// Which piece.
        piece: u32,
    },
    /// A piece that a host had is gone.
    #[error("at {at:?}: host {host} no longer has piece {piece}")]
    Forgotten {
        /// When it was noticed.
        at: Nanos,
        /// Who.
        host: HostId,
        /// Which piece.
        piece: u32,
    },
    /// An honest host was banned.
    #[error("at {at:?}: host {host} banned {banned}, which is honest")]
    HonestBanned {
        /// When.
        at: Nanos,
        /// Who did it.
        host: HostId,
        /// Whom.
        banned: IpAddr,
    },
    /// A session sent more than its limit.
    #[error("at {at:?}: host {host} is {excess} bytes above its upload limit")]
    TooFast {
        /// When.
        at: Nanos,
        /// Who.
        host: HostId,
        /// By how much.
        excess: u64,
    },
    /// A session holds more than it may.
    #[error("at {at:?}: host {host} holds {held} bytes between wire and disk, of {limit} allowed")]
    TooMuchMemory {
        /// When.
        at: Nanos,
        /// Who.
        host: HostId,
        /// What it holds.
        held: u64,
        /// What it may hold.
        limit: u64,
    },
    /// Slots went to and fro.
    #[error(
        "at {at:?}: the choker of host {host} took {times} upload slots within two minutes from \
         peers \
         whose turn was not over, and gave them to peers that had given nothing"
    )]
    Flaps {
        /// When it was noticed.
        at: Nanos,
        /// Whose choker.
        host: HostId,
        /// How many slots.
        times: usize,
    },
    /// A host began with a piece that is not on its disk.
    #[error(
        "at {at:?}: host {host} began with piece {piece}, which is not on its disk: its resume data \
         claims too much"
    )]
    ClaimsTooMuch {
        /// When.
        at: Nanos,
        /// Who.
        host: HostId,
        /// The first such piece.
        piece: u32,
    },
    /// Deadlines were still due after they had been handled.
    #[error("{count} deadlines lay in the past when they had been handled")]
    LateDeadlines {
        /// How many.
        count: u64,
    },
    /// Somebody announced what is not legal.
    #[error("host {host} announced illegally: {what}")]
    Announce {
        /// The tracker that saw it.
        host: HostId,
        /// What.
        what: String,
    },
    /// Somebody is complete and its disk is not.
    #[error("host {host} is complete, and what is on its disk is not the content")]
    WrongContent {
        /// Who.
        host: HostId,
    },
    /// Somebody did not get everything in time.
    #[error("host {host} has {have} of {pieces} pieces after {after:?}: {state}")]
    Incomplete {
        /// Who.
        host: HostId,
        /// What it has.
        have: u32,
        /// Of how many.
        pieces: u32,
        /// How long it could have taken, at most.
        after: Duration,
        /// What it is doing.
        state: String,
    },
    /// A kind of trouble that the scenario promises did not happen.
    #[error("the scenario has \"{}\" in it, and it never happened", .0.name())]
    NeverFired(Family),
    /// More failures than are kept.
    #[error("and {0} more")]
    More(u64),
}

impl Failure {
    /// Which kind it is, in kebab-case: the same for failures that differ in figures alone. One
    /// that is about a kind of trouble or a timer names it.
    pub fn kind(&self) -> String {
        let kind = match self {
            Self::Stuck(stuck) => return format!("stuck: {}", stuck.reason),
            Self::NeverFired(family) => return format!("never-fired: {}", family.name()),
            Self::BytesLost { .. } => "bytes-lost",
            Self::Unsent { .. } => "unsent",
            Self::Twice { .. } => "twice",
            Self::Forgotten { .. } => "forgotten",
            Self::HonestBanned { .. } => "honest-banned",
            Self::TooFast { .. } => "too-fast",
            Self::TooMuchMemory { .. } => "too-much-memory",
            Self::Flaps { .. } => "flaps",
            Self::ClaimsTooMuch { .. } => "claims-too-much",
            Self::LateDeadlines { .. } => "late-deadlines",
            Self::Announce { .. } => "announce",
            Self::WrongContent { .. } => "wrong-content",
            Self::Incomplete { .. } => "incomplete",
            Self::More(_) => "more",
        };
        kind.into()
    }

    /// Who did what must not be, if it was one.
    pub const fn host(&self) -> Option<HostId> {
        match self {
            Self::Stuck(Stuck { host, .. })
            | Self::Unsent { host, .. }
            | Self::Twice { host, .. }
            | Self::Forgotten { host, .. }
            | Self::HonestBanned { host, .. }
            | Self::TooFast { host, .. }
            | Self::TooMuchMemory { host, .. }
            | Self::Flaps { host, .. }
            | Self::ClaimsTooMuch { host, .. }
            | Self::Announce { host, .. }
            | Self::WrongContent { host }
            | Self::Incomplete { host, .. } => Some(*host),
            Self::BytesLost { .. }
            | Self::LateDeadlines { .. }
            | Self::NeverFired(_)
            | Self::More(_) => None,
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Checks {
    piece_len: u64,
    content_len: u64,
    content: ContentId,
    /// What disks and libraries know the torrent by.
    key: String,
    hosts: Vec<Watched>,
    /// Who is honest, by address.
    honest: BTreeMap<IpAddr, HostId>,
    /// Addresses of those whose disks make them send what is wrong.
    excused: BTreeSet<IpAddr>,
    failures: Vec<Failure>,
    more: u64,
    pub(super) fired: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Default)]
struct Watched {
    /// What its torrent has, since it was ready; a bit per piece, the first in the lowest.
    have: Vec<u64>,
    ready: bool,
    /// Its disk is not to be trusted, so its bans are not its fault.
    doubted: bool,
    /// What was on its disk when it came, a bit per piece.
    preloaded: Vec<u64>,
    sent: u64,
    /// Millionths of bytes above its limit, falling as time passes.
    level: u128,
    /// By its own clock; none: it was not looked at yet.
    level_at: Option<Instant>,
    looks: u32,
    /// How often it started.
    starts: u32,
    /// It hands slots out as clients do by default.
    is_watched_choker: bool,
    /// What it fetches.
    leeches: Option<TorrentId>,
    flaps: Flaps,
}

impl Checks {
    pub(super) fn new(plan: &Plan, content: ContentId, key: &str) -> Self {
        let watched = |host: &HostPlan| Watched {
            is_watched_choker: host.choking == Choking::Default,
            ..Watched::default()
        };
        Self {
            piece_len: u64::from(plan.piece_len),
            content_len: plan.content_len,
            content,
            key: key.to_owned(),
            hosts: plan.hosts.iter().map(watched).collect(),
            honest: BTreeMap::new(),
            excused: BTreeSet::new(),
            failures: Vec::new(),
            more: 0,
            fired: BTreeMap::new(),
        }
    }

    /// A client is at this address.
    pub(super) fn is_at(&mut self, host: HostId, ip: IpAddr) {
        self.honest.insert(ip, host);
    }

    /// The client at an address.
    pub(super) fn host_at(&self, ip: IpAddr) -> Option<HostId> {
        self.honest.get(&ip).copied()
    }

    /// Whoever is at this address may be banned: its disk makes it send what is wrong.
    pub(super) fn excuse(&mut self, ip: IpAddr) {
        self.excused.insert(ip);
    }

    /// What a client finds on its disk is wrong from now on, or can be relied on again.
    pub(super) fn doubt(&mut self, host: HostId, doubted: bool) {
        self.hosts[host].doubted = doubted;
    }

    /// A client starts, again or for the first time.
    pub(super) fn starts(&mut self, host: HostId) {
        let watched = &mut self.hosts[host];
        watched.ready = false;
        watched.starts += 1;
        watched.leeches = None;
        watched.flaps.clear();
    }

    /// These pieces are on a client's disk.
    pub(super) fn preloaded(&mut self, host: HostId, preload: Preload, pieces: &[u32]) {
        let all = self.content_len.div_ceil(self.piece_len) as u32;
        let bits = &mut self.hosts[host].preloaded;
        match preload {
            Preload::Everything => (0..all).for_each(|piece| set(bits, piece)),
            _ => pieces.iter().for_each(|piece| set(bits, *piece)),
        }
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(failure);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn fire(&mut self, family: Family, times: u64) {
        if times > 0 {
            *self.fired.entry(family.name()).or_default() += times;
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        !self.failures.is_empty()
    }

    pub(super) fn take_failures(&mut self) -> Vec<Failure> {
        let mut failures = std::mem::take(&mut self.failures);
        if self.more > 0 {
            failures.push(Failure::More(self.more));
        }
        failures
    }

    /// A client tells something.
    pub(super) fn on_event(&mut self, host: HostId, event: &Event, net: &Net<Node>) {
        let at = net.nanos();
        match event {
            Event::TorrentReady(id) => {
                let pieces = net.machine(host).session().and_then(|session| session.pieces(*id));
                let watched = &mut self.hosts[host];
                watched.have = pieces.as_deref().map(words).unwrap_or_default();
                watched.ready = true;
                let all = self.content_len.div_ceil(self.piece_len) as u32;
                let lacks = (0..all).any(|piece| !has(&watched.have, piece));
                watched.leeches = lacks.then_some(*id);
                watched.flaps.clear();
                if let Some(piece) = self.claimed_in_vain(host, net) {
                    self.fail(Failure::ClaimsTooMuch { at, host, piece });
                }
            }
            Event::TorrentFinished(_) => {
                self.hosts[host].leeches = None;
                self.hosts[host].flaps.clear();
            }
            Event::PieceVerified(_, PieceIndex(piece)) => {
                let watched = &mut self.hosts[host];
                if has(&watched.have, *piece) {
                    self.fail(Failure::Twice { at, host, piece: *piece });
                    return;
                }
                set(&mut watched.have, *piece);
                let start = u64::from(*piece) * self.piece_len;
                let range = start..(start + self.piece_len).min(self.content_len);
                let sent =
                    has(&watched.preloaded, *piece) || net.was_delivered(host, self.content, range);
                if !sent {
                    self.fail(Failure::Unsent { at, host, piece: *piece });
                }
            }
            Event::PeerBanned(_, ip)
                if self.honest.contains_key(ip)
                    && !self.excused.contains(ip)
                    && !self.hosts[host].doubted =>
            {
                self.fail(Failure::HonestBanned { at, host, banned: *ip });
            }
            Event::DiskFull(..) => {
                self.fire(Family::DiskFull, 1);
            }
            _ => {}
        }
    }

    /// The first piece that a client has that came back, and its disk has not. Whoever comes for the
    /// first time has nothing to claim.
    fn claimed_in_vain(&self, host: HostId, net: &Net<Node>) -> Option<u32> {
        let watched = &self.hosts[host];
        let disk = net.disk(host);
        if watched.starts < 2 || watched.doubted || disk.is_true(&folder(), &self.key) {
            return None;
        }
        let library = net.library();
        let truth = library.bytes(self.content);
        let found = disk.content(&folder(), &self.key, library).unwrap_or_default();
        let pieces = truth.chunks(self.piece_len as usize).enumerate();
        let mut claimed = pieces.filter(|(piece, _)| has(&watched.have, *piece as u32));
        claimed
            .find(|(piece, part)| {
                let start = piece * self.piece_len as usize;
                found.get(start..start + part.len()) != Some(*part)
            })
            .map(|(piece, _)| piece as u32)
    }

    /// Something happened to a client.
    pub(super) fn look(&mut self, host: HostId, session: &Session, net: &Net<Node>) {
        let (at, sent) = (net.nanos(), net.traffic(host).sent_bytes);
        let watched = &mut self.hosts[host];
        if let Some(limit) = session.config().up_bytes_per_s {
            // A limit is so much in a second of its own.
            let local = net.local(host);
            let level_at = watched.level_at.get_or_insert(local);
            let passed = local.saturating_since(*level_at).as_micros();
            *level_at = local;
            watched.level = watched.level.saturating_sub(passed * u128::from(limit));
            watched.level += u128::from(sent - watched.sent) * 1_000_000;
            let allowed = limit.saturating_mul(BURST) + BURST_BYTES;
            let level = u64::try_from(watched.level / 1_000_000).unwrap_or(u64::MAX);
            if level > allowed {
                watched.level = 0;
                self.fail(Failure::TooFast { at, host, excess: level - allowed });
            }
        }
        let watched = &mut self.hosts[host];
        if let Some(torrent) = watched.leeches
            && watched.is_watched_choker
        {
            let local = net.local(host);
            if watched.flaps.is_due(local)
                && let Some(times) = watched.flaps.look(local, &session.peers(torrent))
            {
                self.fail(Failure::Flaps { at, host, times });
            }
        }
        let watched = &mut self.hosts[host];
        watched.sent = sent;
        watched.looks += 1;
        if watched.looks.is_multiple_of(64) {
            let stats = session.stats();
            let limit =
                session.config().buffer_bytes_max as u64 + HELD_PER_PEER * (stats.peers as u64 + 1);
            if stats.buffered_bytes > limit {
                let held = stats.buffered_bytes;
                self.fail(Failure::TooMuchMemory { at, host, held, limit });
            }
        }
    }

    /// Counts sums again from scratch.
    pub(super) fn recount(&mut self, net: &Net<Node>) {
        let counters = net.counters();
        let in_flight = net.recount();
        let (handed, delivered, lost) =
            (counters.handed_bytes, counters.delivered_bytes, counters.lost_bytes);
        if handed != delivered + lost + in_flight || in_flight != counters.in_flight_bytes {
            let at = net.nanos();
            self.fail(Failure::BytesLost { at, handed, delivered, lost, in_flight });
        }
        for host in 0..self.hosts.len() {
            if !self.hosts[host].ready || !net.is_up(host) {
                continue;
            }
            let Some(session) = net.machine(host).session() else { continue };
            let Some(torrent) = session.torrents().next() else { continue };
            if !matches!(torrent.state, TorrentState::Downloading | TorrentState::Seeding) {
                continue;
            }
            let now = session.pieces(torrent.id).as_deref().map(words).unwrap_or_default();
            let lost = (0..torrent.pieces)
                .find(|piece| has(&self.hosts[host].have, *piece) && !has(&now, *piece));
            if let Some(piece) = lost {
                self.fail(Failure::Forgotten { at: net.nanos(), host, piece });
            }
        }
    }

    /// Everything is over.
    pub(super) fn finish(&mut self, net: &Net<Node>) {
        self.recount(net);
        let late = net.counters().late_deadlines;
        if late > 0 {
            self.fail(Failure::LateDeadlines { count: late });
        }
        let key = |session: &Session| {
            let torrent = session.torrents().next()?;
            let complete = torrent.state == TorrentState::Seeding;
            complete.then(|| torrent.info_hash.to_string())
        };
        for host in 0..self.hosts.len() {
            if !net.is_up(host) {
                continue;
            }
            let Some(key) = net.machine(host).session().and_then(key) else { continue };
            if !net.disk(host).is_true(&folder(), &key) {
                self.fail(Failure::WrongContent { host });
            }
        }
    }
}

fn set(bits: &mut Vec<u64>, piece: u32) {
    let word = piece as usize / 64;
    if bits.len() <= word {
        bits.resize(word + 1, 0);
    }
    bits[word] |= 1 << (piece % 64);
}

fn has(bits: &[u64], piece: u32) -> bool {
    bits.get(piece as usize / 64).is_some_and(|word| word >> (piece % 64) & 1 == 1)
}

/// A bitfield as the wire has it, as words.
fn words(bitfield: &[u8]) -> Vec<u64> {
    let word = |bytes: &[u8]| {
        let bits = bytes.iter().enumerate();
        bits.fold(0, |word, (at, byte)| word | u64::from(byte.reverse_bits()) << (8 * at))
    };
    bitfield.chunks(8).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_piece_of_a_bitfield_is_the_lowest_bit() {
        let bits = words(&[0b1000_0001, 0, 0, 0, 0, 0, 0, 0, 0b0100_0000]);
        let pieces: Vec<_> = (0..100).filter(|piece| has(&bits, *piece)).collect();
        assert_eq!(pieces, [0, 7, 65]);
        let mut same = Vec::new();
        for piece in pieces {
            set(&mut same, piece);
        }
        assert_eq!(same, bits);
    }
}
