//! Messages out of a stream of byte buffers, blocks by reference.
//!
//! A block is sliced out of the buffer it was received in. Whoever holds a slice holds the whole
//! buffer, so what waits for more bytes never does that for little: headers wait in an array of
//! 17 bytes, fragments below [`FRAGMENT_LEN_MIN`] are copied, and a block is at most
//! [`PARTS_MAX`] parts. Once [`Decoder::next`] has returned none, the decoder holds no buffer
//! other than those of long fragments of one unfinished block.
//!
//! ```text
//!            4 to 17 bytes                      all of the payload
//! Header ─────────────────────▶ (message) ◀───────────────────────── Body, Skip
//!    │   └──────────────────────────────────────────────────────────▶   ▲
//!    └── a length beyond its limit ──▶ Failed, for good                 └─ the payload is not there
//! ```
//!
//! Lengths are held against [`Limits`] as soon as the type is known and before anything is kept;
//! what is kept grows with what was received, not with what was announced.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;

use bytes::{Buf, Bytes};

use super::hashes::HashMessage;
use super::limits::{Limits, WireError, header_len};
use super::message::{BlockRequest, Message, id};
use crate::chunks::Chunks;
use crate::ids::PieceIndex;

/// Fragments of a block that are shorter than this are copied, so that they do not hold their
/// receive buffer. Bytes.
pub const FRAGMENT_LEN_MIN: usize = 4 * 1024;

/// A block is at most so many parts; what would go beyond is copied together.
pub const PARTS_MAX: usize = 8;

/// The longest header: that of a request, which has no payload behind it.
const HEADER_LEN_MAX: usize = 17;

/// Turns received buffers into messages. 64 bytes; idle, it owns no heap memory.
#[derive(Debug)]
pub struct Decoder {
    /// What was pushed and not looked at yet; holds no buffer when empty.
    input: Bytes,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Between messages (`len` is 0), or within the fixed part of one.
    Header { len: u8, bytes: [u8; HEADER_LEN_MAX] },
    /// Within the payload of a message.
    Body(Box<Body>),
    /// Within a message that nobody reads.
    Skip { id: u8, len: u32, left: u32 },
    /// The peer broke the framing.
    Failed(WireError),
}

const IDLE: State = State::Header { len: 0, bytes: [0; HEADER_LEN_MAX] };

/// A message whose fixed part is known and whose payload is on its way.
#[derive(Debug)]
struct Body {
    head: Head,
    /// Bytes of payload that did not come yet.
    left: u32,
    /// What is here, in order; of a message other than a piece nothing.
    parts: Chunks,
    /// What is here after that, copied.
    own: Vec<u8>,
}

/// The fixed part of a message with a payload.
#[derive(Clone, Copy, Debug)]
enum Head {
    Piece { piece: PieceIndex, begin: u32 },
    Bitfield,
    Extended { id: u8 },
    Hash { id: u8 },
}

impl Decoder {
    /// A decoder at the start of a stream of messages, after the handshake.
    pub const fn new() -> Self {
        Self { input: Bytes::new(), state: IDLE }
    }

    /// Takes the next bytes of the stream. Call [`next`](Self::next) until it returns none before
    /// the next push; otherwise what is left is copied together with `bytes`. After an error,
    /// bytes are dropped.
    #[inline]
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() || matches!(self.state, State::Failed(_)) {
            return;
        }
        if self.input.is_empty() {
            self.input = bytes;
        } else {
            self.input = [&self.input[..], &bytes].concat().into();
        }
    }

    /// The next message, or none until more bytes are pushed. An error is final and returned
    /// again.
    #[inline]
    pub fn next(&mut self, limits: &Limits) -> Result<Option<Message>, WireError> {
        if let State::Header { len: 0, .. } = self.state {
            if self.input.is_empty() {
                return Ok(None);
            }
            match self.whole(limits) {
                Ok(None) => {}
                Ok(message) => {
                    self.release();
                    return Ok(message);
                }
                Err(error) => return Err(self.fail(error)),
            }
        }
        self.resume(limits)
    }

    /// The messages that are there, until none is left or one is broken.
    #[inline]
    pub fn drain(&mut self, limits: &Limits) -> impl Iterator<Item = Result<Message, WireError>> {
        let mut failed = false;
        core::iter::from_fn(move || {
            if failed {
                return None;
            }
            let next = self.next(limits);
            failed = next.is_err();
            next.transpose()
        })
    }

    /// Bytes that were pushed and are held: those not looked at yet, and those of the unfinished
    /// message. Skipped bytes are not held. The receive buffers behind them may be larger, up to
    /// [`PARTS_MAX`] of them.
    pub fn pending(&self) -> usize {
        let held = match &self.state {
            State::Header { len, .. } => usize::from(*len),
            State::Body(body) => body.parts.len() + body.own.len(),
            State::Skip { .. } | State::Failed(_) => 0,
        };
        self.input.len() + held
    }

    /// The block on its way, from its first byte on, and how many bytes of it are here: a slow
    /// block is not a dead one.
    pub fn block_on_its_way(&self) -> Option<(BlockRequest, u32)> {
        let State::Body(body) = &self.state else { return None };
        let Head::Piece { piece, begin } = body.head else { return None };
        let here = (body.parts.len() + body.own.len()) as u32;
        Some((BlockRequest { piece, begin, length: here + body.left }, here))
    }

    /// A message that lies in the input with all its bytes; the way nearly all of them go.
    #[inline]
    fn whole(&mut self, limits: &Limits) -> Result<Option<Message>, WireError> {
        let input = &self.input[..];
        let Some((prefix, rest)) = input.split_first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_be_bytes(*prefix);
        if len == 0 {
            self.input.advance(4);
            return Ok(Some(Message::KeepAlive));
        }
        let Some(&id) = rest.first() else { return Ok(None) };
        let header = header_len(id, len, limits)?;
        if rest.len() < len as usize {
            return Ok(None);
        }
        let parsed = parse_header(&input[..header], len);
        self.input.advance(header);
        let payload = 4 + len as usize - header;
        Ok(Some(match parsed {
            Parsed::Message(message) => message,
            Parsed::Head(head) => head.finish(self.input.split_to(payload)),
            Parsed::Unknown { id, len } => {
                self.input.advance(payload);
                Message::Unknown { id, len }
            }
        }))
    }

    /// A message that did not lie in the input with all its bytes when it began.
    #[inline(never)]
    fn resume(&mut self, limits: &Limits) -> Result<Option<Message>, WireError> {
        let message = match &mut self.state {
            State::Header { .. } => self.resume_header(limits)?,
            State::Body(_) => self.resume_body(),
            State::Skip { .. } => self.resume_skip(),
            State::Failed(error) => return Err(*error),
        };
        self.release();
        Ok(message)
    }

    fn resume_header(&mut self, limits: &Limits) -> Result<Option<Message>, WireError> {
        let (header, announced) = loop {
            let State::Header { len, bytes } = &mut self.state else {
                unreachable!("called in this state")
            };
            let have = usize::from(*len);
            let announced = bytes.first_chunk().map_or(0, |prefix| u32::from_be_bytes(*prefix));
            // The announced length decides whether there is a type, the type how much follows.
            let wanted = match have {
                0..4 => 4,
                4 if announced == 0 => {
                    self.state = IDLE;
                    return Ok(Some(Message::KeepAlive));
                }
                4 => 5,
                _ => match header_len(bytes[4], announced, limits) {
                    Ok(header) => header,
                    Err(error) => return Err(self.fail(error)),
                },
            };
            if have >= 5 && have == wanted {
                break (*bytes, announced);
            }
            let take = (wanted - have).min(self.input.len());
            if take == 0 {
                return Ok(None);
            }
            bytes[have..have + take].copy_from_slice(&self.input[..take]);
            *len += take as u8;
            self.input.advance(take);
        };
        let State::Header { len, .. } = self.state else { unreachable!("called in this state") };
        let payload = announced - (u32::from(len) - 4);
        match parse_header(&header[..usize::from(len)], announced) {
            Parsed::Message(message) => {
                self.state = IDLE;
                Ok(Some(message))
            }
            Parsed::Head(head) if self.input.len() >= payload as usize => {
                self.state = IDLE;
                Ok(Some(head.finish(self.input.split_to(payload as usize))))
            }
            // All of the header and nothing of the payload: the array will do until there is.
            Parsed::Head(_) if self.input.is_empty() => Ok(None),
            Parsed::Head(head) => {
                let body = Body { head, left: payload, parts: Chunks::new(), own: Vec::new() };
                self.state = State::Body(Box::new(body));
                Ok(self.resume_body())
            }
            Parsed::Unknown { id, len } => {
                self.state = State::Skip { id, len, left: len };
                Ok(self.resume_skip())
            }
        }
    }

    fn resume_body(&mut self) -> Option<Message> {
        let State::Body(body) = &mut self.state else { unreachable!("called in this state") };
        let take = self.input.len().min(body.left as usize);
        body.push(self.input.split_to(take));
        if body.left > 0 {
            return None;
        }
        let State::Body(body) = mem::replace(&mut self.state, IDLE) else {
            unreachable!("looked at above")
        };
        Some(body.finish())
    }

    fn resume_skip(&mut self) -> Option<Message> {
        let State::Skip { id, len, left } = &mut self.state else {
            unreachable!("called in this state")
        };
        let take = self.input.len().min(*left as usize);
        self.input.advance(take);
        *left -= take as u32;
        if *left > 0 {
            return None;
        }
        let message = Message::Unknown { id: *id, len: *len };
        self.state = IDLE;
        Some(message)
    }

    #[cold]
    fn fail(&mut self, error: WireError) -> WireError {
        self.input = Bytes::new();
        self.state = State::Failed(error);
        error
    }

    /// Lets go of a receive buffer that was read to its end.
    #[inline]
    fn release(&mut self) {
        if self.input.is_empty() {
            self.input = Bytes::new();
        }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Body {
    /// Takes the next bytes of the payload; not more than are left.
    fn push(&mut self, fragment: Bytes) {
        let before = self.left as usize;
        self.left -= fragment.len() as u32;
        // If more is to come, one place is kept for it.
        let parts = self.parts.parts().len() + usize::from(!self.own.is_empty());
        let free = PARTS_MAX - usize::from(self.left > 0);
        let by_reference = matches!(self.head, Head::Piece { .. })
            && fragment.len() >= FRAGMENT_LEN_MIN
            && parts < free;
        if by_reference {
            self.parts.push(mem::take(&mut self.own).into());
            self.parts.push(fragment);
            return;
        }
        let wanted = self.own.len() + fragment.len();
        if wanted > self.own.capacity() {
            // Double it, but not beyond what can still come.
            let capacity = wanted.max((2 * self.own.len()).min(self.own.len() + before));
            self.own.reserve_exact(capacity - self.own.len());
        }
        self.own.extend_from_slice(&fragment);
    }

    fn finish(mut self) -> Message {
        self.parts.push(self.own.into());
        match self.head {
            Head::Piece { piece, begin } => Message::Piece { piece, begin, block: self.parts },
            Head::Bitfield | Head::Extended { .. } | Head::Hash { .. } => {
                self.head.finish(self.parts.into_bytes())
            }
        }
    }
}

impl Head {
    /// The message with all of its payload in one slice.
    #[inline]
    fn finish(self, payload: Bytes) -> Message {
        match self {
            Self::Piece { piece, begin } => {
                let short = payload.len() < FRAGMENT_LEN_MIN;
                let block = if short { Bytes::copy_from_slice(&payload) } else { payload };
                Message::Piece { piece, begin, block: block.into() }
            }
            Self::Bitfield => Message::Bitfield(payload),
            Self::Extended { id } => Message::Extended { id, payload },
            Self::Hash { id } => Message::Hash(HashMessage::read(id, payload).into()),
        }
    }
}

enum Parsed {
    Message(Message),
    Head(Head),
    Unknown { id: u8, len: u32 },
}

/// Reads a header of the length that [`header_len`] gave, of a message that announced `len` bytes.
#[inline]
fn parse_header(header: &[u8], len: u32) -> Parsed {
    let at = |at: usize| {
        let field = header.get(at..).and_then(|rest| rest.first_chunk());
        u32::from_be_bytes(*field.expect("a header of this type has this field"))
    };
    let piece = || PieceIndex(at(5));
    let block = || BlockRequest { piece: piece(), begin: at(9), length: at(13) };
    Parsed::Message(match header[4] {
        id::CHOKE => Message::Choke,
        id::UNCHOKE => Message::Unchoke,
        id::INTERESTED => Message::Interested,
        id::NOT_INTERESTED => Message::NotInterested,
        id::HAVE => Message::Have(piece()),
        id::BITFIELD => return Parsed::Head(Head::Bitfield),
        id::REQUEST => Message::Request(block()),
        id::PIECE => return Parsed::Head(Head::Piece { piece: piece(), begin: at(9) }),
        id::CANCEL => Message::Cancel(block()),
        id::PORT => Message::Port(u16::from_be_bytes([header[5], header[6]])),
        id::SUGGEST => Message::Suggest(piece()),
        id::HAVE_ALL => Message::HaveAll,
        id::HAVE_NONE => Message::HaveNone,
        id::REJECT => Message::Reject(block()),
        id::ALLOWED_FAST => Message::AllowedFast(piece()),
        id::EXTENDED => return Parsed::Head(Head::Extended { id: header[5] }),
        id @ (id::HASH_REQUEST | id::HASHES | id::HASH_REJECT) => {
            return Parsed::Head(Head::Hash { id });
        }
        id => return Parsed::Unknown { id, len: len - 1 },
    })
}

#[cfg(test)]
mod tests;
