//! The `info` dictionary from and for peers (BEP 9).
//!
//! A torrent that a magnet link tells of has no pieces until somebody sends its dictionary. Nobody
//! can be believed before all of it is here: neither how long it is, nor any piece of it, for the
//! hash is over the whole. So peers that claim the same length are asked side by side, once. If
//! what they gave together is wrong, nobody knows who lied: from then on one peer gives all of it,
//! for as long as [`ALONE_MAX`], and a wrong one is banned.
//!
//! [`Fetch`] says whom to ask for what; it knows streams by their ids and sends nothing itself.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU8;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::kept::Heard;
use super::selection::Wishes;
use super::{Phase, Torrent};
use crate::bencode::Tape;
use crate::ids::StreamId;
use crate::metainfo::{Info, Metainfo};
use crate::peer::{CloseReason, Misbehaviour};
use crate::session::Event;
use crate::session::cx::Cx;
use crate::session::streams::Streams;
use crate::time::{Duration, Instant};
use crate::wire::{
    Message, MetadataMessage, encode_extended_header, metadata_pieces, metadata_range,
};

/// Longest dictionary that is fetched from peers: 32 MiB. A torrent of 1.5 million pieces has one.
const METADATA_FETCH_MAX: u32 = 32 << 20;

/// Pieces that a peer is asked for at a time.
const ASKED_MAX: usize = 2;

/// How long a piece is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a peer is left alone that did not give what it was asked for.
const PAUSE: Duration = Duration::from_mins(1);

/// How long a peer may take that gives all of it, while others could.
const ALONE_MAX: Duration = Duration::from_mins(2);

/// How often a peer may fetch the whole dictionary before it is closed.
const COPIES_PER_PEER: u32 = 4;

/// Bytes that wait for a peer above which it is refused further pieces.
const QUEUE_MAX: usize = 1 << 20;

/// What is known of a dictionary that is not here. See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Fetch {
    /// Resume data, which says something of pieces.
    pub(super) resume: Option<Bytes>,
    /// How much each file is wanted.
    pub(super) wishes: Wishes,
    /// Its chokers are the embedder's, and not to be replaced by ours for its pieces.
    pub(super) own_chokers: bool,
    /// What peers say of its pieces meanwhile.
    pub(super) heard: Heard,
    /// Who has it.
    sources: BTreeMap<StreamId, Source>,
    attempt: Option<Attempt>,
    /// What several gave together was wrong: one gives all of it.
    alone: bool,
    /// All of it, and right.
    complete: Option<Bytes>,
}

#[derive(Debug)]
struct Source {
    /// By which id it wants to be asked.
    extension: NonZeroU8,
    /// How long the dictionary is, as it says.
    len: u32,
    asked: SmallVec<[(u32, Instant); ASKED_MAX]>,
    /// It is asked for nothing before this.
    not_before: Instant,
}

/// A dictionary on its way.
#[derive(Debug)]
struct Attempt {
    len: u32,
    pieces: Box<[Option<Box<[u8]>>]>,
    missing: u32,
    /// Who gave any of it: one, or else several.
    from: SmallVec<[StreamId; 2]>,
    /// The one that gives all of it, and until when.
    alone: Option<(StreamId, Instant)>,
}

/// What to ask whom for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ask {
    stream: StreamId,
    extension: NonZeroU8,
    piece: u32,
}

/// What became of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// More are missing, or it was not asked for.
    Going,
    /// That was all: this is the dictionary, if they did not lie who gave it.
    Whole(Bytes),
    /// It has another length than it has to have.
    Misfit,
}

impl Fetch {
    /// Nothing is here, and nobody has it.
    pub(super) fn new(resume: Option<Bytes>, wishes: Wishes) -> Self {
        Self { resume, wishes, ..Self::default() }
    }

    /// Bytes that are here, and of how many, as far as anybody says.
    pub(super) fn progress(&self) -> (u32, Option<u32>) {
        let Some(attempt) = &self.attempt else { return (0, None) };
        let here = attempt.pieces.iter().flatten().map(|piece| piece.len() as u32).sum();
        (here, Some(attempt.len))
    }

    /// A peer says that it has the dictionary, or something else of it than before.
    fn on_source(&mut self, stream: StreamId, extension: NonZeroU8, len: u32, now: Instant) {
        if len > METADATA_FETCH_MAX {
            return;
        }
        let source = self.sources.entry(stream).or_insert_with(|| Source {
            extension,
            len,
            asked: SmallVec::new(),
            not_before: now,
        });
        source.extension = extension;
        if source.len != len {
            // What it was asked for is of another length now.
            source.len = len;
            source.asked.clear();
        }
    }

    /// A peer is gone, or has it no more.
    pub(super) fn forget(&mut self, stream: StreamId) {
        self.sources.remove(&stream);
    }

    /// What to ask for next; asked for as soon as it is returned.
    fn next(&mut self, now: Instant) -> Option<Ask> {
        self.expire(now);
        let is_ready = |source: &Source| now >= source.not_before;
        if self.attempt.is_none() {
            let len = self.choose_len(now)?;
            let one = self.sources.iter().find(|(_, it)| it.len == len && is_ready(it));
            let alone = one.filter(|_| self.alone).map(|(one, _)| (*one, now + ALONE_MAX));
            self.attempt = Some(Attempt {
                len,
                pieces: vec![None; metadata_pieces(len) as usize].into(),
                missing: metadata_pieces(len),
                from: SmallVec::new(),
                alone,
            });
        }
        let attempt = self.attempt.as_ref()?;
        let is_asked = |piece: u32| {
            self.sources
                .values()
                .any(|source| source.asked.iter().any(|(asked, _)| *asked == piece))
        };
        let free = |from: &StreamId| attempt.alone.is_none_or(|(alone, _)| alone == *from);
        let (stream, _) = self.sources.iter().find(|(from, source)| {
            source.len == attempt.len
                && free(from)
                && is_ready(source)
                && source.asked.len() < ASKED_MAX
        })?;
        let missing = (0..).zip(&attempt.pieces).filter(|(_, piece)| piece.is_none());
        let piece = missing.map(|(at, _)| at).find(|piece| !is_asked(*piece))?;
        let stream = *stream;
        let source = self.sources.get_mut(&stream)?;
        source.asked.push((piece, now));
        Some(Ask { stream, extension: source.extension, piece })
    }

    /// The length that most of those claim who can be asked.
    fn choose_len(&self, now: Instant) -> Option<u32> {
        let mut claims: BTreeMap<u32, usize> = BTreeMap::new();
        for source in self.sources.values().filter(|source| now >= source.not_before) {
            *claims.entry(source.len).or_default() += 1;
        }
        claims.into_iter().max_by_key(|(_, claims)| *claims).map(|(len, _)| len)
    }

    /// Gives up what took too long, and an attempt that nobody can go on with.
    fn expire(&mut self, now: Instant) {
        for source in self.sources.values_mut() {
            if source.asked.iter().any(|(_, at)| now >= *at + ANSWER_TIMEOUT) {
                source.asked.clear();
                source.not_before = now + PAUSE;
            }
        }
        let Some(attempt) = &self.attempt else { return };
        let goes_on = match attempt.alone {
            None => {
                let mut sources = self.sources.values();
                sources.any(|source| source.len == attempt.len && now >= source.not_before)
            }
            Some((alone, until)) => {
                let mut others = self.sources.iter().filter(|(from, _)| **from != alone);
                let late = now >= until && others.any(|(_, other)| now >= other.not_before);
                let source = self.sources.get_mut(&alone);
                source.is_some_and(|source| {
                    if late {
                        source.asked.clear();
                        source.not_before = now + PAUSE;
                    }
                    source.len == attempt.len && now >= source.not_before
                })
            }
        };
        if !goes_on && (attempt.alone.is_some() || self.choose_len(now).is_some()) {
            self.attempt = None;
        }
    }

    /// A peer will not give a piece.
    fn on_reject(&mut self, stream: StreamId, piece: u32, now: Instant) {
        let Some(source) = self.sources.get_mut(&stream) else { return };
        if source.asked.iter().any(|(asked, _)| *asked == piece) {
            source.asked.clear();
            source.not_before = now + PAUSE;
        }
    }

    /// A piece came.
    fn on_data(
        &mut self,
        stream: StreamId,
        piece: u32,
        total_len: Option<u64>,
        data: &[u8],
    ) -> Outcome {
        let (Some(source), Some(attempt)) = (self.sources.get_mut(&stream), &mut self.attempt)
        else {
            return Outcome::Going;
        };
        let asked = source.asked.iter().position(|(asked, _)| *asked == piece);
        let Some(asked) = asked.filter(|_| source.len == attempt.len) else {
            return Outcome::Going;
        };
        source.asked.swap_remove(asked);
        let range =
            metadata_range(attempt.len, piece).expect("only pieces that exist are asked for");
        let fits =
            data.len() == range.len() && total_len.is_none_or(|len| len == u64::from(attempt.len));
        if !fits {
            return Outcome::Misfit;
        }
        let place = &mut attempt.pieces[piece as usize];
        if place.is_none() {
            *place = Some(data.into());
            attempt.missing -= 1;
            if !attempt.from.contains(&stream) {
                attempt.from.push(stream);
            }
        }
        if attempt.missing > 0 {
            return Outcome::Going;
        }
        let mut whole = BytesMut::with_capacity(attempt.len as usize);
        attempt.pieces.iter().flatten().for_each(|piece| whole.extend_from_slice(piece));
        Outcome::Whole(whole.freeze())
    }

    /// What was put together is wrong. Returns who lied, if that is known.
    fn on_wrong(&mut self) -> Option<StreamId> {
        let attempt = self.attempt.take()?;
        self.alone = true;
        for source in self.sources.values_mut() {
            source.asked.clear();
        }
        match attempt.from[..] {
            [liar] => {
                self.sources.remove(&liar);
                Some(liar)
            }
            _ => None,
        }
    }

    /// When [`next`](Self::next) may have something without anything new from outside.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let asked = self.sources.values().flat_map(|source| &source.asked);
        let answers = asked.map(|(_, at)| *at + ANSWER_TIMEOUT);
        let pauses = self.sources.values().map(|source| source.not_before).filter(|at| *at > now);
        let alone = self.attempt.iter().filter_map(|attempt| Some(attempt.alone?.1));
        let alone = alone.filter(|until| *until > now);
        answers.chain(pauses).chain(alone).min()
    }
}

impl Torrent {
    /// What the extension handshake says of the dictionary: its length, if it is here.
    pub(super) fn metadata_len(&self) -> Option<core::num::NonZeroU32> {
        let len = u32::try_from(self.metainfo.info().bytes().len()).ok();
        len.and_then(core::num::NonZeroU32::new)
    }

    /// What a peer says of the dictionary in its extension handshake.
    pub(super) fn on_metadata_source(
        &mut self,
        id: StreamId,
        len: Option<core::num::NonZeroU32>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) {
        let (Some(fetch), Some(peer)) = (&mut self.fetch, streams.peer(id)) else { return };
        match (peer.metadata_id, len) {
            (Some(extension), Some(len)) => fetch.on_source(id, extension, len.get(), cx.now()),
            (None, _) => fetch.forget(id),
            // A later handshake says only what has changed.
            (Some(_), None) => {}
        }
        self.ask_metadata(streams, cx);
    }

    /// Asks peers for what is missing of the dictionary.
    pub(super) fn ask_metadata(&mut self, streams: &mut Streams, cx: &mut Cx) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        while let Some(ask) = self.fetch.as_mut().and_then(|fetch| fetch.next(cx.now())) {
            let payload = MetadataMessage::Request(ask.piece).to_payload();
            let message = Message::Extended { id: ask.extension.get(), payload };
            streams.send_message(ask.stream, &message, cx);
            streams.rearm(ask.stream, cx);
        }
        self.arm(cx);
    }

    /// A message about the dictionary.
    pub(super) fn on_metadata_message(
        &mut self,
        id: StreamId,
        payload: &Bytes,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        // What does not parse says nothing, as with the handshake.
        let Ok(Some(message)) = MetadataMessage::parse(payload, &mut Tape::new()) else {
            return Ok(());
        };
        match message {
            MetadataMessage::Request(piece) => self.give_metadata(id, piece, streams, cx),
            MetadataMessage::Reject(piece) => {
                if let Some(fetch) = &mut self.fetch {
                    fetch.on_reject(id, piece, cx.now());
                    self.ask_metadata(streams, cx);
                }
                Ok(())
            }
            MetadataMessage::Data { piece, total_len, data } => {
                let Some(fetch) = &mut self.fetch else { return Ok(()) };
                match fetch.on_data(id, piece, total_len, &data) {
                    Outcome::Going => {}
                    Outcome::Misfit => return Err(Misbehaviour::WrongMetadata.into()),
                    Outcome::Whole(bytes) if self.metainfo.info().is_hash_of(&bytes) => {
                        fetch.complete = Some(bytes);
                        return Ok(());
                    }
                    Outcome::Whole(_) => {
                        cx.stats.metadata_failed += 1;
                        let liar = fetch.on_wrong();
                        let address = liar.and_then(|liar| streams.peer(liar)).map(|p| p.address);
                        if let Some(address) = address {
                            self.ban(address.ip(), Misbehaviour::WrongMetadata, streams, cx);
                        }
                    }
                }
                self.ask_metadata(streams, cx);
                Ok(())
            }
        }
    }

    /// Sends a piece of the dictionary, or says that we do not.
    fn give_metadata(
        &self,
        id: StreamId,
        piece: u32,
        streams: &mut Streams,
        cx: &mut Cx,
    ) -> Result<(), CloseReason> {
        let Some(stream) = streams.get(id) else { return Ok(()) };
        let queued = stream.send.len();
        let Some(peer) = streams.peer_mut(id) else { return Ok(()) };
        let Some(extension) = peer.metadata_id else { return Ok(()) };
        let bytes = self.metainfo.info().bytes();
        let len = bytes.len() as u32;
        let range = metadata_range(len, piece).filter(|_| queued < QUEUE_MAX);
        let Some(range) = range else {
            let payload = MetadataMessage::Reject(piece).to_payload();
            let message = Message::Extended { id: extension.get(), payload };
            streams.send_message(id, &message, cx);
            return Ok(());
        };
        let uploads = Self::uploads_of(peer);
        uploads.metadata_given += 1;
        if uploads.metadata_given > metadata_pieces(len).saturating_mul(COPIES_PER_PEER) {
            return Err(Misbehaviour::EndlessRequests.into());
        }
        let data = bytes.slice(range.start as usize..range.end as usize);
        let total_len = Some(u64::from(len));
        let mut head = Vec::new();
        let message = MetadataMessage::Data { piece, total_len, data: data.clone() };
        message.encode_head(&mut head);
        let length = head.len() + data.len();
        cx.make_room(head.len() + 6);
        cx.scratch.extend_from_slice(&encode_extended_header(extension.get(), length as u32));
        cx.scratch.extend_from_slice(&head);
        let head = cx.scratch.split().freeze();
        streams.send(id, head, &mut cx.out);
        streams.send(id, data, &mut cx.out);
        streams.rearm(id, cx);
        Ok(())
    }

    /// The dictionary, once all of it is here and right.
    pub(crate) fn take_metadata(&mut self) -> Option<Bytes> {
        let fetch = self.fetch.as_mut()?;
        let complete = fetch.complete.take()?;
        // Should it be of no use, it is fetched anew when it is tried again.
        fetch.attempt = None;
        Some(complete)
    }

    /// Becomes the torrent that the dictionary describes, and begins anew as that. Its peers stay.
    pub(crate) fn learn(&mut self, info: Info, streams: &mut Streams, cx: &mut Cx) {
        let Some(fetch) = self.fetch.take() else { return };
        self.trackers.set_private(info.is_private());
        self.metainfo = Arc::new(Metainfo::with_info(&self.metainfo, info));
        self.set_ways(cx);
        self.describe(&fetch.wishes, fetch.resume.as_ref(), fetch.own_chokers, cx);
        cx.event(Event::MetadataReceived(self.id));
        self.phase = Phase::Paused;
        self.start(cx);
        self.keep_peers(fetch.heard, streams, cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Key;
    use crate::wire::METADATA_PIECE_LEN;
    use std::vec::Vec;

    const LEN: u32 = 3 * METADATA_PIECE_LEN + 7;

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(seconds)
    }

    fn stream(number: u32) -> StreamId {
        StreamId::from_parts(number, 1)
    }

    fn with_sources(lens: &[u32]) -> Fetch {
        let mut fetch = Fetch::default();
        for (number, len) in (0..).zip(lens) {
            fetch.on_source(stream(number), NonZeroU8::MIN, *len, at(0));
        }
        fetch
    }

    fn asks(fetch: &mut Fetch, now: Instant) -> Vec<(u32, u32)> {
        core::iter::from_fn(|| fetch.next(now)).map(|ask| (ask.stream.slot(), ask.piece)).collect()
    }

    fn give(fetch: &mut Fetch, from: u32, piece: u32) -> Outcome {
        let range = metadata_range(LEN, piece).expect("it exists");
        fetch.on_data(stream(from), piece, Some(LEN.into()), &vec![from as u8; range.len()])
    }

    #[test]
    fn peers_that_claim_the_same_length_give_it_side_by_side() {
        let mut fetch = with_sources(&[LEN, 99, LEN]);
        assert_eq!(asks(&mut fetch, at(0)), [(0, 0), (0, 1), (2, 2), (2, 3)]);
        assert_eq!(give(&mut fetch, 2, 3), Outcome::Going);
        assert_eq!(give(&mut fetch, 0, 3), Outcome::Going, "it was not asked for that");
        assert_eq!(fetch.progress(), (7, Some(LEN)));
        assert_eq!(give(&mut fetch, 0, 0), Outcome::Going);
        assert_eq!(give(&mut fetch, 0, 1), Outcome::Going);
        let Outcome::Whole(bytes) = give(&mut fetch, 2, 2) else { panic!("all is here") };
        let piece = METADATA_PIECE_LEN as usize;
        let expected = [vec![0; 2 * piece], vec![2; piece + 7]].concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn after_a_wrong_one_each_gives_all_of_it_and_liars_are_known() {
        let mut fetch = with_sources(&[LEN; 3]);
        for (from, piece) in asks(&mut fetch, at(0)) {
            give(&mut fetch, from, piece);
        }
        assert_eq!(fetch.on_wrong(), None, "several gave it");
        for liar in [0, 1] {
            let mut given = 0;
            while given < 4 {
                for (from, piece) in asks(&mut fetch, at(1)) {
                    assert_eq!(from, liar);
                    give(&mut fetch, from, piece);
                    given += 1;
                }
            }
            assert_eq!(fetch.on_wrong(), Some(stream(liar)));
        }
        assert_eq!(asks(&mut fetch, at(1)), [(2, 0), (2, 1)]);
    }

    #[test]
    fn whoever_does_not_answer_or_refuses_keeps_nothing_from_the_others() {
        let mut fetch = with_sources(&[LEN, LEN]);
        assert_eq!(asks(&mut fetch, at(0)), [(0, 0), (0, 1), (1, 2), (1, 3)]);
        fetch.on_reject(stream(1), 2, at(1));
        assert_eq!(asks(&mut fetch, at(1)), [], "the other one is busy");
        give(&mut fetch, 0, 0);
        assert_eq!(asks(&mut fetch, at(1)), [(0, 2)]);
        assert_eq!(fetch.next_deadline(at(1)), Some(at(20)));
        assert_eq!(asks(&mut fetch, at(20)), [], "both are left alone for a while");
        assert_eq!(fetch.progress().0, METADATA_PIECE_LEN, "what came stays");
        assert_eq!(fetch.next_deadline(at(20)), Some(at(61)));
        assert_eq!(asks(&mut fetch, at(61)), [(1, 1), (1, 2)]);
    }

    #[test]
    fn a_length_that_nobody_makes_good_gives_way_to_another() {
        let mut fetch = with_sources(&[99, 99, LEN]);
        assert_eq!(asks(&mut fetch, at(0)), [(0, 0)]);
        fetch.on_reject(stream(0), 0, at(0));
        assert_eq!(asks(&mut fetch, at(0)), [(1, 0)]);
        fetch.forget(stream(1));
        assert_eq!(asks(&mut fetch, at(0)), [(2, 0), (2, 1)]);
    }

    #[test]
    fn one_that_gives_all_of_it_too_slowly_makes_way() {
        let mut fetch = with_sources(&[LEN, LEN]);
        fetch.alone = true;
        assert_eq!(asks(&mut fetch, at(0)), [(0, 0), (0, 1)]);
        let late = at(0) + ALONE_MAX;
        fetch.sources.get_mut(&stream(0)).expect("it is there").asked.clear();
        assert_eq!(asks(&mut fetch, late), [(1, 0), (1, 1)]);
    }

    #[test]
    fn what_is_claimed_to_be_too_long_is_not_asked_for() {
        let mut fetch = with_sources(&[METADATA_FETCH_MAX + 1]);
        assert_eq!(asks(&mut fetch, at(0)), []);
    }

    #[test]
    fn a_piece_of_another_length_is_a_misfit() {
        let mut fetch = with_sources(&[LEN]);
        asks(&mut fetch, at(0));
        assert_eq!(fetch.on_data(stream(0), 0, None, b"short"), Outcome::Misfit);
        let piece = vec![0; METADATA_PIECE_LEN as usize];
        assert_eq!(fetch.on_data(stream(0), 1, Some(1), &piece), Outcome::Misfit);
    }
}
