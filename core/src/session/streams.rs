//! All streams of a session: peers, and exchanges with trackers.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use super::cx::{Cx, TimerKey};
use crate::ids::{Slab, StreamId, TimerId};
use crate::machine::{Outbox, Output, SendQueue, Shutdown, StreamEdges};
use crate::mse::Cipher;
use crate::peer::Peer;
use crate::wire::Message;

/// Unsent bytes of one peer, beyond blocks that it asked for, before it is closed: it does not
/// read.
pub(crate) const SEND_QUEUE_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) send: SendQueue,
    pub(crate) timer: TimerId,
    pub(crate) kind: Kind,
    pub(crate) edges: StreamEdges,
    /// The upload limit told it to wait.
    pub(crate) waits_to_send: bool,
    /// The upload limit gave it something since it last waited: others go first.
    pub(crate) had_turn: bool,
    /// It is among those that a limit on what we fetch may hold up; see [`Fetching`].
    fetching: bool,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Peer(Box<Peer>),
    Tracker,
}

impl Stream {
    fn read_again(&mut self, id: StreamId, out: &mut Outbox) {
        if matches!(self.kind, Kind::Peer(_)) {
            self.edges.want_read(id, out);
        }
    }

    /// Lends the next unsent bytes, encrypted if the stream is.
    pub(crate) fn lend(&mut self, max: usize, out: &mut Vec<Bytes>) -> usize {
        match self.cipher() {
            (queue, Some(cipher)) => cipher.lend(queue, max, out),
            (queue, None) => queue.lend(max, out),
        }
    }

    /// Settles the loan; see [`SendQueue::settle`].
    pub(crate) fn settle(&mut self, count: usize) -> usize {
        let (queue, cipher) = self.cipher();
        let count = queue.settle(count);
        if let Some(cipher) = cipher {
            cipher.settled(count);
        }
        count
    }

    const fn cipher(&mut self) -> (&mut SendQueue, Option<&mut Cipher>) {
        let cipher = match &mut self.kind {
            Kind::Peer(peer) => match &mut peer.cipher {
                Some(cipher) => Some(&mut **cipher),
                None => None,
            },
            Kind::Tracker => None,
        };
        (&mut self.send, cipher)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Streams {
    slab: Slab<StreamId, Stream>,
    peers: usize,
    connecting: usize,
    /// From the first limit on what we fetch on.
    fetching: Option<Box<Fetching>>,
}

/// Streams that a limit on what we fetch may hold up: those of peers that we asked for blocks, and
/// that may not have sent them all. Nobody else is held up, and all others can be many.
#[derive(Debug, Default)]
struct Fetching {
    streams: Vec<StreamId>,
}

impl Streams {
    pub(crate) fn open_peer(&mut self, peer: Peer, cx: &mut Cx) -> StreamId {
        self.peers += 1;
        self.connecting += usize::from(!peer.is_open() && peer.outgoing);
        let deadline = peer.deadline();
        let id = self.open(Kind::Peer(Box::new(peer)), cx);
        self.set_timer(id, Some(deadline), cx);
        id
    }

    pub(crate) fn open(&mut self, kind: Kind, cx: &mut Cx) -> StreamId {
        let timer = cx.timers.insert(TimerKey::Stream(self.slab.next_key()));
        self.slab.insert(Stream {
            send: SendQueue::new(),
            timer,
            kind,
            edges: StreamEdges::new(),
            waits_to_send: false,
            had_turn: false,
            fetching: false,
        })
    }

    /// Takes a stream out; the caller has said, or will say, that it closes.
    pub(crate) fn remove(&mut self, id: StreamId, cx: &mut Cx) -> Option<Stream> {
        let stream = self.slab.remove(id)?;
        cx.timers.remove(stream.timer);
        if let Kind::Peer(peer) = &stream.kind {
            self.peers -= 1;
            self.connecting -= usize::from(!peer.is_open() && peer.outgoing);
        }
        Some(stream)
    }

    /// Takes a stream out and has the driver close it.
    pub(crate) fn close(&mut self, id: StreamId, how: Shutdown, cx: &mut Cx) -> Option<Stream> {
        let stream = self.remove(id, cx)?;
        cx.out.push(Output::Close { stream: id, how });
        Some(stream)
    }

    pub(crate) fn get(&self, id: StreamId) -> Option<&Stream> {
        self.slab.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.slab.get_mut(id)
    }

    pub(crate) fn peer(&self, id: StreamId) -> Option<&Peer> {
        match &self.slab.get(id)?.kind {
            Kind::Peer(peer) => Some(peer),
            Kind::Tracker => None,
        }
    }

    pub(crate) fn peer_mut(&mut self, id: StreamId) -> Option<&mut Peer> {
        match &mut self.slab.get_mut(id)?.kind {
            Kind::Peer(peer) => Some(peer),
            Kind::Tracker => None,
        }
    }

    /// A peer's handshake is done: it no longer counts as half-open.
    pub(crate) fn opened(&mut self, id: StreamId) {
        let Some(peer) = self.peer_mut(id) else { return };
        let outgoing = peer.outgoing;
        peer.stage = crate::peer::Stage::Open;
        self.connecting -= usize::from(outgoing);
    }

    /// Peer connections, half-open ones included.
    pub(crate) const fn peer_count(&self) -> usize {
        self.peers
    }

    /// Outgoing connections that are not through their handshake.
    pub(crate) const fn connecting_count(&self) -> usize {
        self.connecting
    }

    /// Connections that did not say yet which torrent they are about.
    pub(crate) fn strangers(&self) -> Vec<StreamId> {
        let all = self.slab.iter();
        all.filter(|(_, stream)| matches!(&stream.kind, Kind::Peer(peer) if peer.torrent.is_none()))
            .map(|(id, _)| id)
            .collect()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (StreamId, &mut Stream)> {
        self.slab.iter_mut()
    }

    pub(crate) fn set_timer(&self, id: StreamId, at: Option<crate::time::Instant>, cx: &mut Cx) {
        if let Some(stream) = self.slab.get(id) {
            let now = cx.now();
            cx.timers.set(stream.timer, now, at);
        }
    }

    /// A limit that held a stream up lets it be read again.
    pub(crate) fn read_again(&mut self, id: StreamId, out: &mut Outbox) {
        if let Some(stream) = self.slab.get_mut(id) {
            stream.read_again(id, out);
        }
    }

    /// A peer is asked for blocks while there is a limit on what we fetch.
    pub(crate) fn note_fetching(&mut self, id: StreamId, out: &mut Outbox) {
        let Some(stream) = self.slab.get_mut(id).filter(|stream| !stream.fetching) else { return };
        stream.fetching = true;
        let streams = &self.fetching.get_or_insert_default().streams;
        let is_full = streams.len() == streams.capacity();
        if is_full {
            // Those who are done, or gone, make room.
            self.read_fetching_again(|_| true, out);
        }
        let streams = &mut self.fetching.get_or_insert_default().streams;
        if is_full && streams.len() > streams.capacity() / 2 {
            streams.reserve(streams.len() + 1);
        }
        streams.push(id);
    }

    /// There is a limit on what we fetch that was not there before.
    pub(crate) fn note_all_fetching(&mut self, out: &mut Outbox) {
        let asked = self.slab.iter().filter_map(|(id, stream)| {
            let Kind::Peer(peer) = &stream.kind else { return None };
            (peer.outstanding() > 0).then_some(id)
        });
        for id in asked.collect::<Vec<_>>() {
            self.note_fetching(id, out);
        }
    }

    /// A limit that held up those of these peers that were asked for blocks lets them be read again.
    pub(crate) fn read_fetching_again(&mut self, whose: impl Fn(&Peer) -> bool, out: &mut Outbox) {
        let Some(fetching) = &mut self.fetching else { return };
        let slab = &mut self.slab;
        // In an order that does not depend on who was asked when.
        fetching.streams.sort_unstable();
        fetching.streams.retain(|id| {
            let Some(stream) = slab.get_mut(*id) else { return false };
            let Kind::Peer(peer) = &stream.kind else { return false };
            if !whose(peer) {
                return true;
            }
            stream.fetching = peer.outstanding() > 0;
            stream.read_again(*id, out);
            stream.fetching
        });
    }

    /// A limit that held a stream up lets it send again.
    pub(crate) fn send_again(&mut self, id: StreamId, out: &mut Outbox) {
        let Some(stream) = self.slab.get_mut(id) else { return };
        stream.waits_to_send = false;
        stream.edges.want_write(id, out);
    }

    /// Sets a peer's timer to what it is waiting for.
    pub(crate) fn rearm(&self, id: StreamId, cx: &mut Cx) {
        let deadline = self.peer(id).map(Peer::deadline);
        self.set_timer(id, deadline, cx);
    }

    pub(crate) fn send(&mut self, id: StreamId, bytes: Bytes, out: &mut Outbox) {
        let Some(stream) = self.slab.get_mut(id) else { return };
        if stream.send.push(bytes) {
            stream.edges.want_write(id, out);
        }
    }

    pub(crate) fn send_message(&mut self, id: StreamId, message: &Message, cx: &mut Cx) {
        cx.make_room(message.encoded_len());
        message.encode(&mut cx.scratch);
        let bytes = cx.scratch.split().freeze();
        self.send(id, bytes, &mut cx.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PieceIndex;
    use crate::peer::Pipeline;
    use crate::rng::Seed;
    use crate::session::Config;
    use crate::time::{Instant, UnixTime};
    use crate::torrent::picker::BlockId;

    const BLOCK: BlockId = BlockId { piece: PieceIndex(0), block: 0 };

    fn with_peers(count: usize) -> (Streams, Cx, Vec<StreamId>) {
        let now = Instant::ORIGIN;
        let mut cx = Cx::new(Config::default(), Seed::from_number(1), now, UnixTime(0));
        let mut streams = Streams::default();
        let address = "192.0.2.1:1".parse().expect("an address");
        let peers = (0..count).map(|_| streams.open_peer(Peer::new(now, address, None), &mut cx));
        let peers = peers.collect();
        (streams, cx, peers)
    }

    fn ask(streams: &mut Streams, id: StreamId) {
        let peer = streams.peer_mut(id).expect("it is there");
        let pipeline = peer.pipeline.get_or_insert_with(|| Pipeline::new().into());
        pipeline.push(BLOCK, Instant::ORIGIN);
    }

    /// Who is to be read again, as the driver takes it.
    fn taken(streams: &mut Streams, cx: &mut Cx) -> Vec<StreamId> {
        let mut taken = Vec::new();
        while let Some(output) = cx.out.pop() {
            let Output::WantRead(id) = output else { panic!("{output:?}") };
            streams.get_mut(id).expect("it is there").edges.taken(&output);
            taken.push(id);
        }
        taken
    }

    #[test]
    fn only_those_who_were_asked_are_read_again_and_once_more_when_they_are_done() {
        let (mut streams, mut cx, ids) = with_peers(100);
        for id in [ids[70], ids[7]] {
            ask(&mut streams, id);
            streams.note_fetching(id, &mut cx.out);
            streams.note_fetching(id, &mut cx.out);
        }
        streams.read_fetching_again(|_| true, &mut cx.out);
        assert_eq!(taken(&mut streams, &mut cx), [ids[7], ids[70]]);
        let pipeline = streams.peer_mut(ids[7]).and_then(|peer| peer.pipeline.as_mut());
        assert!(pipeline.expect("it was asked").withdrawn(BLOCK));
        // It may have been held up before that.
        streams.read_fetching_again(|_| true, &mut cx.out);
        assert_eq!(taken(&mut streams, &mut cx), [ids[7], ids[70]]);
        streams.read_fetching_again(|_| true, &mut cx.out);
        assert_eq!(taken(&mut streams, &mut cx), [ids[70]]);
        streams.remove(ids[70], &mut cx);
        streams.read_fetching_again(|_| true, &mut cx.out);
        assert_eq!(taken(&mut streams, &mut cx), []);
    }

    #[test]
    fn whoever_was_asked_before_there_was_a_limit_is_found_and_who_is_gone_takes_no_room() {
        let (mut streams, mut cx, ids) = with_peers(300);
        ask(&mut streams, ids[3]);
        streams.note_all_fetching(&mut cx.out);
        for id in &ids[10..] {
            ask(&mut streams, *id);
            streams.note_fetching(*id, &mut cx.out);
            taken(&mut streams, &mut cx);
            streams.remove(*id, &mut cx);
        }
        let kept = streams.fetching.as_ref().expect("somebody was asked").streams.len();
        assert!(kept < 20, "{kept}");
        streams.read_fetching_again(|_| true, &mut cx.out);
        assert_eq!(taken(&mut streams, &mut cx), [ids[3]]);
    }
}
