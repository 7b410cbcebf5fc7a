//! What befell one peer, in words and in the order of time.

use std::collections::VecDeque;
use std::net::IpAddr;

use teem_core::session::Event;

use super::Recorder;
use super::peer::{STALL, Stall, Watch};
use super::recording::{FailureNote, Note, Spell, Story, Tone};
use super::spells::secs;
use crate::net::HostId;
use crate::run::Failure;
use crate::swarm::ip;
use crate::time::Nanos;

/// Notes of a story at most; the first and the last are kept.
const NOTES_MAX: usize = 60;

/// Pieces at the end that are told one by one.
const LAST_PIECES: usize = 3;

/// Who is worth a story: the first that failed and is honest, or who was complete last.
pub(super) fn choose(watches: &[Watch], failures: &[Failure]) -> Option<usize> {
    let failed = failures.iter().filter_map(Failure::host);
    let failed = failed.filter_map(|host| watches.iter().position(|watch| watch.host == host));
    let lacks = |watch: &Watch| watch.fetches && watch.left.is_none() && watch.complete.is_none();
    let fetching = || watches.iter().enumerate().filter(|(_, watch)| watch.fetches);
    failed
        .chain(fetching().filter(|(_, watch)| lacks(watch)).map(|(place, _)| place))
        .next()
        .or_else(|| {
            let last = fetching().filter_map(|(place, watch)| Some((watch.complete?, place)));
            last.max_by_key(|(at, place)| (*at, std::cmp::Reverse(*place))).map(|(_, place)| place)
        })
}

pub(super) fn tell(watch: &Watch, spells: &[Spell], failures: &[Failure], now: Nanos) -> Story {
    let mut notes = Vec::new();
    let mut note = |at: f64, tone: Tone, what: String| {
        notes.push(Note { at_s: at, to_s: None, tone, what });
    };
    for (number, (at, is_up)) in watch.ups.iter().enumerate() {
        match (is_up, number) {
            (true, 0) => note(secs(*at), Tone::Plain, "comes".into()),
            (true, _) => note(secs(*at), Tone::Good, "is back".into()),
            (false, _) if watch.left == Some(*at) => {
                note(secs(*at), Tone::Plain, "leaves for good".into());
            }
            (false, _) => note(secs(*at), Tone::Bad, "is down".into()),
        }
    }
    if let Some(at) = watch.first_peer {
        note(secs(at), Tone::Plain, "has a first peer".into());
    }
    tell_pieces(watch, &mut note);
    for (at, event) in &watch.troubles {
        note(secs(*at), Tone::Bad, words(event));
    }
    if let Some(at) = watch.complete.filter(|_| watch.fetches) {
        note(secs(at), Tone::Good, "is complete".into());
    }
    for spell in spells {
        if spell.host.is_none_or(|host| host == watch.host) {
            let what = match spell.host {
                Some(_) => format!("{}: {}", spell.kind, spell.what),
                None => format!("{} in the network: {}", spell.kind, spell.what),
            };
            notes.push(Note { at_s: spell.from_s, to_s: spell.to_s, tone: Tone::Bad, what });
        }
    }
    notes.extend(watch.stalls.iter().map(|stall| stalled(stall, now)));
    notes.sort_by(|one, other| one.at_s.total_cmp(&other.at_s));
    if notes.len() > NOTES_MAX {
        let left_out = notes.len() - NOTES_MAX;
        let gap = NOTES_MAX / 2;
        let at_s = notes[gap].at_s;
        let what = format!("{left_out} more that are left out here");
        notes.splice(gap..gap + left_out, [Note { at_s, to_s: None, tone: Tone::Plain, what }]);
    }
    let failed = failures.iter().any(|failure| failure.host() == Some(watch.host));
    let why = if failed {
        "the run failed because of it"
    } else if watch.complete.is_none() {
        "it was not complete when the run ended"
    } else {
        "it was the last to be complete"
    };
    Story { host: watch.host, why: why.into(), notes, tail: tail(&watch.tail) }
}

fn tell_pieces(watch: &Watch, note: &mut impl FnMut(f64, Tone, String)) {
    let pieces = &watch.pieces;
    let all = pieces.len();
    let Some((first, piece)) = pieces.first() else { return };
    note(secs(*first), Tone::Good, format!("has its first piece, number {piece}"));
    for quarter in [1, 2, 3] {
        let place = all * quarter / 4;
        if place > 1 && place + LAST_PIECES < all {
            let what = format!("{} % of what it fetched is here, {place} pieces", quarter * 25);
            note(secs(pieces[place - 1].0), Tone::Plain, what);
        }
    }
    for (back, (at, piece)) in pieces[1..].iter().rev().take(LAST_PIECES).enumerate() {
        let before = pieces[all - 2 - back].0;
        let gap = at.since(before).as_secs_f64();
        let which = match back {
            0 => "last piece".to_owned(),
            back => format!("last piece but {back}"),
        };
        note(
            secs(*at),
            Tone::Plain,
            format!("has its {which}, number {piece}, {gap:.1} s after the one before"),
        );
    }
}

fn stalled(stall: &Stall, now: Nanos) -> Note {
    let to = stall.to.unwrap_or(now);
    let seconds = to.since(stall.from).as_secs_f64();
    let most = stall.waits.iter().max_by_key(|(_, times)| **times);
    let waited = match most.map_or("", |(wait, _)| wait) {
        "Nothing" => "blocks were on their way",
        "Peers" => "it knew no peer",
        "Connections" => "no peer that it knew was connected",
        "Metadata" => "no peer had sent the metadata",
        "Pieces" => "no connected peer had what was missing",
        "Unchoke" => "every peer that had what was missing choked it",
        "Disk" => "its disk did not keep up",
        "RateLimit" => "its own limit held it back",
        "Room" => "its disk was full",
        other => other,
    };
    let peers = span(stall.peers, "peer");
    let open = span(stall.open, "of them ready to serve it");
    let seen: u32 = stall.waits.values().sum();
    let bytes = stall.bytes.1.saturating_sub(stall.bytes.0);
    let came =
        if seen > 1 { format!("; {} KiB came meanwhile", bytes / 1024) } else { String::new() };
    let what = format!("no new piece for {seconds:.1} s: {waited}; {peers}, {open}{came}");
    debug_assert!(to.since(stall.from) >= STALL || stall.to.is_none(), "a stall is long");
    Note { at_s: secs(stall.from), to_s: Some(secs(to)), tone: Tone::Bad, what }
}

fn span((least, most): (usize, usize), what: &str) -> String {
    let plural = if what == "peer" && most != 1 { "s" } else { "" };
    if least == most {
        format!("{most} {what}{plural}")
    } else {
        format!("{least} to {most} {what}{plural}")
    }
}

fn tail(events: &VecDeque<(Nanos, Event)>) -> Vec<Note> {
    let note = |(at, event): &(Nanos, Event)| {
        let tone = match event {
            Event::PieceVerified(..) | Event::TorrentFinished(_) => Tone::Good,
            Event::PieceFailed(..) | Event::TorrentFailed(..) | Event::PeerBanned(..) => Tone::Bad,
            _ => Tone::Plain,
        };
        Note { at_s: secs(*at), to_s: None, tone, what: words(event) }
    };
    events.iter().map(note).collect()
}

/// What a client told, in words.
fn words(event: &Event) -> String {
    match event {
        Event::Listening(_, at) => format!("listens at {at}"),
        Event::TorrentReady(_) => "has looked at its disk and is ready".into(),
        Event::TorrentFinished(_) => "has everything".into(),
        Event::TorrentFailed(_, error) => format!("cannot go on: {error}"),
        Event::DiskFull(_, error) => format!("its disk is full: {error}"),
        Event::DiskHasRoom(_) => "its disk has room again".into(),
        Event::PieceVerified(_, piece) => format!("has piece {}", piece.0),
        Event::PieceFailed(_, piece) => format!("piece {} is wrong, and fetched again", piece.0),
        Event::PieceUnreadable(_, piece, error) => {
            format!("cannot read piece {}: {error}", piece.0)
        }
        Event::PeerConnected(_, address, _) => format!("is connected to {}", name(address.ip())),
        Event::PeerClosed { address, reason, .. } => {
            format!("is no longer connected to {}: {reason}", name(address.ip()))
        }
        Event::PeerBanned(_, ip) => format!("bans {}", name(*ip)),
        Event::TrackerReplied { url, peers, .. } => format!("hears of {peers} peers from {url}"),
        Event::TrackerFailed { url, error, .. } => format!("cannot ask {url}: {error}"),
        Event::SaveFailed(_, error) => format!("cannot save its resume data: {error}"),
        other => format!("{other:?}"),
    }
}

/// Who is at an address: the host that was given it when it was made, or the address itself.
fn name(at: IpAddr) -> String {
    let IpAddr::V4(v4) = at else { return at.to_string() };
    let [_, high, middle, low] = v4.octets().map(HostId::from);
    let host = high * 62_500 + middle * 250 + low.saturating_sub(1);
    if ip(host) == at { format!("host {host}") } else { at.to_string() }
}

pub(super) fn failures(recorder: &Recorder, failures: &[Failure]) -> Vec<FailureNote> {
    let tail_of = |host: HostId| {
        let place = recorder.place.get(host).copied().flatten();
        place.map_or_else(Vec::new, |place| tail(&recorder.watches[place].tail))
    };
    let note = |failure: &Failure| FailureNote {
        text: failure.to_string(),
        meaning: failure.meaning().to_owned(),
        at_s: failure.at().map(secs),
        host: failure.host(),
        tail: failure.host().map_or_else(Vec::new, tail_of),
    };
    failures.iter().map(note).collect()
}

impl Failure {
    /// When it was noticed; none: at the end, or nobody knows.
    pub const fn at(&self) -> Option<Nanos> {
        match self {
            Self::Stuck(stuck) => Some(Nanos::of(stuck.at)),
            Self::BytesLost { at, .. }
            | Self::Unsent { at, .. }
            | Self::Twice { at, .. }
            | Self::Forgotten { at, .. }
            | Self::HonestBanned { at, .. }
            | Self::TooFast { at, .. }
            | Self::TooMuchMemory { at, .. }
            | Self::Flaps { at, .. }
            | Self::ClaimsTooMuch { at, .. } => Some(*at),
            _ => None,
        }
    }

    /// What it means, and where to look, for who has not seen it before.
    pub const fn meaning(&self) -> &'static str {
        match self {
            Self::Stuck(_) => {
                "A machine asks to be woken at a time that has come, and does not act on it when \
                 it is. In a real driver this is a busy loop. Look at what sets this timer."
            }
            Self::BytesLost { .. } => {
                "The simulator's own books do not balance: what is told below cannot be relied on. \
                 Look at the network model, not at the client."
            }
            Self::Unsent { .. } => {
                "A client holds a piece for verified although not all of its blocks ever reached \
                 it. Either it took a wrong piece for right, or it counts blocks wrongly."
            }
            Self::Twice { .. } => {
                "A client fetched and verified a piece that it had already: work for nothing, and \
                 a sign that it forgot for a while what it has."
            }
            Self::Forgotten { .. } => {
                "A piece that was verified and told to others is not there any more, and nothing \
                 that went wrong explains it."
            }
            Self::HonestBanned { .. } => {
                "A client banned a peer that did nothing wrong: it blames the wrong one for a \
                 piece that failed. Look at who sent which block of that piece."
            }
            Self::TooFast { .. } => {
                "A client sent more than its user allows. Look at what is charged to the limit, \
                 and when."
            }
            Self::TooMuchMemory { .. } => {
                "A client holds more content between wire and disk than its limit allows: under \
                 load it would grow without end."
            }
            Self::Flaps { .. } => {
                "A client gives an upload slot and takes it back again and again: what it began to \
                 send is lost each time, and nobody can rely on it. Look at the choker: whom it \
                 serves now has to count for whom it serves next."
            }
            Self::ClaimsTooMuch { .. } => {
                "A client began with a piece that is not on its disk: its resume data says more than \
                 was durable when it was saved. Look at what is flushed before resume data is \
                 written, and at what is written into it meanwhile."
            }
            Self::LateDeadlines { .. } => {
                "A machine was woken for a timer, and still had one that was due afterwards: it \
                 arms it in the past. A driver comes back at once, again and again. Look at what \
                 sets the timer that the events of the host name."
            }
            Self::Announce { .. } => {
                "A tracker was told something that the protocol forbids, such as a stop without a \
                 start, or was asked too soon."
            }
            Self::WrongContent { .. } => {
                "A client says that it is complete, and what is on its disk is not the torrent. \
                 Of all failures this is the worst: the user's data is wrong."
            }
            Self::Incomplete { .. } => {
                "A client had all the time that the gate of the scenario allows, and did not get \
                 everything. Its last state is told; a stall without end shows in its story."
            }
            Self::NeverFired(_) => {
                "The run was to show that this kind of trouble does no harm, and it did not \
                 happen: the run shows nothing. Change when or whom it befalls in the scenario."
            }
            _ => "See what it says, and what the hosts told last.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_by_the_address_that_it_was_given() {
        for host in [0, 7, 249, 250, 62_499, 62_500, 199_999] {
            assert_eq!(name(ip(host)), format!("host {host}"));
        }
        assert_eq!(name(IpAddr::from([11, 0, 0, 3])), "11.0.0.3");
        assert_eq!(name(IpAddr::from([10, 0, 0, 255])), "10.0.0.255");
    }
}
