//! Connections at the level of the wire: handshakes, messages, bytes to be sent.
//!
//! What every actor that speaks to peers is made of. It keeps no rule of the protocol and knows no
//! torrent: what it is told to send it sends, what comes it takes apart as far as that can be done.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use teem_core::ids::{Key, ListenerId, Slab, StreamId};
use teem_core::machine::{
    Clock, Connect, Incoming, Input, Listen, ListenerInput, Outbox, Output, SendQueue, Shutdown,
    StreamEdges, StreamError, StreamInput,
};
use teem_core::time::Instant;
use teem_core::wire::{
    Decoder, Handshake, HandshakeParser, Limits, Message, WireError, encode_piece_header,
};

/// Bytes of a stream that may be read at a time.
const CREDIT: usize = 256 * 1024;

/// Messages as large as anybody sends; what is still larger breaks the framing.
const LIMITS: Limits = Limits { block_len_max: 1024 * 1024, ..Limits::DEFAULT };

/// See the [module](self). `T` is what the owner keeps for each connection.
#[derive(Debug)]
pub(super) struct Links<T> {
    clock: Clock,
    out: Outbox,
    open: Slab<StreamId, Link<T>>,
    happened: VecDeque<(StreamId, Happened<T>)>,
    listener: Option<SocketAddr>,
    /// What is said in handshakes, for those that are to be made without being told to.
    shakes: Option<Handshake>,
    max: usize,
}

#[derive(Debug)]
pub(super) struct Link<T> {
    pub(super) state: T,
    pub(super) up: bool,
    send: SendQueue,
    edges: StreamEdges,
    reading: bool,
    shaken: bool,
    finishing: bool,
    incoming: Reading,
}

/// How far what comes can be taken apart.
#[derive(Debug)]
enum Reading {
    Handshake(Box<HandshakeParser>),
    Messages(Decoder),
    Raw,
}

/// What happened to a connection.
#[derive(Debug)]
pub(super) enum Happened<T> {
    Up {
        local: SocketAddr,
    },
    Handshake(Handshake),
    Message(Message),
    /// Bytes that are neither.
    Raw(Bytes),
    Broken(WireError),
    ReadClosed,
    /// Bytes went out.
    Sent,
    /// It did not come up.
    Refused(T, StreamError),
    /// It is gone; none: in order, after everything was sent.
    Down(T, Option<StreamError>),
}

impl<T> Links<T> {
    pub(super) fn new(listen: Option<SocketAddr>, shakes: Option<Handshake>, max: usize) -> Self {
        let mut out = Outbox::default();
        if let Some(address) = listen {
            out.push(Output::Listen(
                Listen { listener: ListenerId::from_parts(0, 1), address, tls: false }.into(),
            ));
        }
        Self {
            clock: Clock::new(Instant::ORIGIN),
            out,
            open: Slab::new(),
            happened: VecDeque::new(),
            listener: None,
            shakes,
            max,
        }
    }

    pub(super) const fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(super) fn advance(&mut self, now: Instant) -> Instant {
        self.clock.advance(now)
    }

    /// Where it listens, once it does.
    pub(super) const fn listening(&self) -> Option<SocketAddr> {
        self.listener
    }

    pub(super) fn get(&self, id: StreamId) -> Option<&Link<T>> {
        self.open.get(id)
    }

    pub(super) fn get_mut(&mut self, id: StreamId) -> Option<&mut Link<T>> {
        self.open.get_mut(id)
    }

    /// All connections, in slot order, those that are being dialled too.
    pub(super) fn ids(&self) -> impl Iterator<Item = StreamId> {
        self.open.keys()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Dials; none if there are as many connections as there may be.
    pub(super) fn dial(&mut self, to: SocketAddr, reading: bool, state: T) -> Option<StreamId> {
        let stream = self.open(state, reading, true)?;
        self.out.push(Output::Connect(Connect { stream, to, from: None, tls: None }.into()));
        Some(stream)
    }

    /// Takes a connection in; none if there are as many as there may be.
    pub(super) fn accept(
        &mut self,
        incoming: Incoming,
        reading: bool,
        state: T,
    ) -> Option<StreamId> {
        let id = self.open(state, reading, false)?;
        self.happened.push_back((id, Happened::Up { local: incoming.local }));
        Some(id)
    }

    fn open(&mut self, state: T, reading: bool, outgoing: bool) -> Option<StreamId> {
        (self.open.len() < self.max).then(|| {
            self.open.insert(Link {
                state,
                up: !outgoing,
                send: SendQueue::new(),
                edges: StreamEdges::new(),
                reading,
                shaken: false,
                finishing: false,
                incoming: Reading::Handshake(Box::default()),
            })
        })
    }

    pub(super) fn send_raw(&mut self, id: StreamId, bytes: Bytes) {
        let Some(link) = self.open.get_mut(id) else { return };
        if link.send.push(bytes) && link.up {
            link.edges.want_write(id, &mut self.out);
        }
    }

    /// Sends a message; blocks by reference.
    pub(super) fn send(&mut self, id: StreamId, message: &Message) {
        if let Message::Piece { piece, begin, block } = message {
            let header = encode_piece_header(*piece, *begin, block.len() as u32);
            self.send_raw(id, Bytes::copy_from_slice(&header));
            block.parts().iter().for_each(|part| self.send_raw(id, part.clone()));
        } else {
            let mut out = Vec::with_capacity(message.encoded_len());
            message.encode(&mut out);
            self.send_raw(id, out.into());
        }
    }

    /// Sends a handshake, once.
    pub(super) fn shake(&mut self, id: StreamId, handshake: &Handshake) {
        let Some(link) = self.open.get_mut(id) else { return };
        if !std::mem::replace(&mut link.shaken, true) {
            self.send_raw(id, Bytes::copy_from_slice(&handshake.encode()));
        }
    }

    /// Bytes that wait to be sent.
    pub(super) fn unsent(&self, id: StreamId) -> usize {
        self.open.get(id).map_or(0, |link| link.send.len())
    }

    pub(super) fn set_reading(&mut self, id: StreamId, reading: bool) {
        let Some(link) = self.open.get_mut(id) else { return };
        link.reading = reading;
        if reading {
            link.edges.want_read(id, &mut self.out);
        }
    }

    /// Closes at once; what was not sent is lost.
    pub(super) fn abort(&mut self, id: StreamId) -> Option<T> {
        let link = self.open.remove(id)?;
        self.out.push(Output::Close { stream: id, how: Shutdown::Abort });
        Some(link.state)
    }

    /// Closes after everything was sent.
    pub(super) fn finish(&mut self, id: StreamId) {
        let Some(link) = self.open.get_mut(id) else { return };
        link.finishing = true;
        self.finish_if_sent(id);
    }

    fn finish_if_sent(&mut self, id: StreamId) {
        let done = |link: &Link<T>| link.finishing && link.send.is_empty();
        if !self.open.get(id).is_some_and(done) {
            return;
        }
        if let Some(link) = self.open.remove(id) {
            self.out.push(Output::Close { stream: id, how: Shutdown::Graceful });
            self.happened.push_back((id, Happened::Down(link.state, None)));
        }
    }

    /// What a driver says. What that means comes out of [`Self::next`].
    pub(super) fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.clock.advance(now);
        match input {
            Input::Stream(id, input) => self.on_stream(id, input),
            Input::Listener(_, ListenerInput::Bound(address)) => self.listener = Some(address),
            _ => {}
        }
    }

    fn on_stream(&mut self, id: StreamId, input: StreamInput) {
        let Some(link) = self.open.get_mut(id) else { return };
        match input {
            StreamInput::Connected { local } => {
                link.up = true;
                self.happened.push_back((id, Happened::Up { local }));
                if let Some(handshake) = self.shakes {
                    self.shake(id, &handshake);
                }
                if let Some(link) = self.open.get_mut(id)
                    && !link.send.is_empty()
                {
                    link.edges.want_write(id, &mut self.out);
                }
            }
            StreamInput::Received(bytes) => self.on_received(id, bytes),
            StreamInput::Sent(count) => {
                link.send.settle(count);
                self.happened.push_back((id, Happened::Sent));
                self.finish_if_sent(id);
            }
            StreamInput::ReadClosed => self.happened.push_back((id, Happened::ReadClosed)),
            StreamInput::ConnectFailed(why) => {
                if let Some(link) = self.open.remove(id) {
                    self.happened.push_back((id, Happened::Refused(link.state, why)));
                }
            }
            StreamInput::Closed(why) => {
                if let Some(link) = self.open.remove(id) {
                    self.happened.push_back((id, Happened::Down(link.state, Some(why))));
                }
            }
        }
    }

    fn on_received(&mut self, id: StreamId, mut bytes: Bytes) {
        let Some(link) = self.open.get_mut(id) else { return };
        if let Reading::Handshake(parser) = &mut link.incoming {
            let whole = bytes.clone();
            match parser.push(&mut bytes) {
                Ok(None) => return,
                Ok(Some(handshake)) => {
                    link.incoming = Reading::Messages(Decoder::new());
                    self.happened.push_back((id, Happened::Handshake(handshake)));
                    if let Some(ours) = self.shakes {
                        self.shake(id, &ours);
                    }
                }
                Err(_) => {
                    link.incoming = Reading::Raw;
                    bytes = whole;
                }
            }
        }
        let Some(link) = self.open.get_mut(id) else { return };
        match &mut link.incoming {
            Reading::Messages(decoder) => {
                decoder.push(bytes);
                for message in decoder.drain(&LIMITS) {
                    self.happened.push_back(match message {
                        Ok(message) => (id, Happened::Message(message)),
                        Err(error) => (id, Happened::Broken(error)),
                    });
                }
            }
            Reading::Raw => self.happened.push_back((id, Happened::Raw(bytes))),
            Reading::Handshake(_) => {}
        }
    }

    /// The next thing that happened, oldest first.
    pub(super) fn next(&mut self) -> Option<(StreamId, Happened<T>)> {
        self.happened.pop_front()
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        let output = self.out.pop()?;
        if let Output::WantRead(id) | Output::WantWrite(id) = output
            && let Some(link) = self.open.get_mut(id)
        {
            link.edges.taken(&output);
        }
        Some(output)
    }

    pub(super) fn poll_send(&mut self, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        self.open.get_mut(id).map_or(0, |link| link.send.lend(max, out))
    }

    pub(super) fn recv_credit(&self, id: StreamId) -> usize {
        self.open.get(id).map_or(0, |link| if link.reading { CREDIT } else { 0 })
    }
}
