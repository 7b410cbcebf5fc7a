//! Message stream encryption (MSE, also PE): a stream that does not look like BitTorrent.
//!
//! ```text
//!   initiator A                                             responder B
//!     Ya, PadA             ------------------------------>
//!                          <------------------------------    Yb, PadB
//!     HASH(req1, S), HASH(req2, SKEY) xor HASH(req3, S),
//!     RC4(VC, provide, PadC, IA)  ----------------------->
//!                          <------------------------------    RC4(VC, select, PadD)
//!     what was selected    <----------------------------->    what was selected
//! ```
//!
//! Two machines without I/O, [`Initiator`] and [`Responder`], take bytes and hand out bytes; what
//! they end in is [`Established`]. They own the handshake and its bounds. When to give up waiting,
//! whom to try again and how, and which torrents there are, is the session's part.
//!
//! It hides from those who look for a pattern, no more: who knows the info hash and sits in between
//! reads everything, and RC4 is a broken cipher. Hence also the short private keys.
//!
//! There is no BEP; the source is the page "Message Stream Encryption" of the Vuze wiki, and what
//! deployed clients do.

mod cipher;
mod dh;
mod initiator;
mod keys;
mod rc4;
mod responder;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

pub use self::cipher::Cipher;
pub use self::dh::{PUBLIC_KEY_LEN, PrivateKey};
pub use self::initiator::Initiator;
pub use self::keys::torrent_mark;
pub use self::rc4::Rc4;
pub use self::responder::Responder;
use crate::ids::InfoHash;
use crate::rng::Rng;

/// Bytes of padding that either side may put in a place for it.
pub const PADDING_MAX: u16 = 512;

/// Bytes of padding that we put where only zeros may stand (PadC, PadD). Deviation from the
/// specification, which allows [`PADDING_MAX`]: rtorrent 0.9.8 is said to abort near the maximum.
const ZERO_PADDING_MAX: u16 = 127;

/// Bytes that an initiator may send before it knows what was selected (IA). A handshake is
/// customary, and all that libtorrent takes; this has room for a bitfield of 100,000 pieces behind
/// it.
pub const INITIAL_PAYLOAD_MAX: u16 = 16 * 1024;

/// Zeros by which both sides know that the keys are right.
const VERIFICATION: [u8; 8] = [0; 8];

/// How a stream goes on after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Method {
    /// In the clear: only the handshake was hidden.
    Plaintext,
    /// Everything in RC4.
    Rc4,
}

impl Method {
    /// Its bit in `crypto_provide` and `crypto_select`.
    const fn bit(self) -> u32 {
        match self {
            Self::Plaintext => 1,
            Self::Rc4 => 2,
        }
    }

    fn bits(all: &[Self]) -> u32 {
        all.iter().fold(0, |bits, method| bits | method.bit())
    }
}

/// What the other side did wrong, or what the two have not in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A public key that is no number from 2 to p - 2: it would fix the secret.
    #[error("the public key fixes the secret")]
    PublicKey,
    /// What ends the padding did not come within [`PADDING_MAX`].
    #[error("the padding does not end")]
    NoSync,
    /// The initiator wants none of our torrents.
    #[error("an unknown torrent")]
    UnknownTorrent,
    /// The verification constant is not zero: the two do not have the same keys.
    #[error("the keys are not the same")]
    Verification,
    /// Padding of more than [`PADDING_MAX`] bytes is announced.
    #[error("padding of {0} bytes")]
    Padding(u16),
    /// More than [`INITIAL_PAYLOAD_MAX`] bytes of initial payload are announced.
    #[error("initial payload of {0} bytes")]
    InitialPayload(u16),
    /// Nothing that the initiator provides is allowed here.
    #[error("no way to encrypt in common (offered: {0:#x})")]
    NothingInCommon(u32),
    /// The responder selected what is not one of the methods that it was offered.
    #[error("selected what was not offered ({0:#x})")]
    Selected(u32),
}

/// How the handshake ended.
#[derive(Debug)]
pub struct Established {
    /// The torrent that both mean.
    pub torrent: InfoHash,
    /// What follows is in this cipher, both ways; none: it is in the clear.
    pub cipher: Option<Box<Cipher>>,
    /// The first bytes of the stream, if the initiator sent some within the handshake: decrypted.
    pub initial: Bytes,
}

impl Established {
    /// How the stream goes on.
    pub const fn method(&self) -> Method {
        if self.cipher.is_some() { Method::Rc4 } else { Method::Plaintext }
    }

    fn new(torrent: InfoHash, method: Method, cipher: Box<Cipher>, initial: Vec<u8>) -> Self {
        let cipher = (method == Method::Rc4).then_some(cipher);
        Self { torrent, cipher, initial: initial.into() }
    }
}

/// Bytes of a field that is not complete. Grows with what came, to the longest field.
#[derive(Debug, Default)]
struct Held(Vec<u8>);

impl Held {
    /// A field of `len` bytes, once it is there; takes no byte beyond it.
    fn field(&mut self, input: &mut Bytes, len: usize) -> Option<Vec<u8>> {
        let take = input.len().min(len - self.0.len());
        self.0.extend_from_slice(&input[..take]);
        input.advance(take);
        (self.0.len() == len).then(|| core::mem::take(&mut self.0))
    }

    /// As [`field`](Self::field), as an array.
    fn array<const N: usize>(&mut self, input: &mut Bytes) -> Option<[u8; N]> {
        let field = self.field(input, N)?;
        Some(field.try_into().expect("a field has its length"))
    }

    /// Whether `mark` is there, after at most [`PADDING_MAX`] bytes; takes no byte beyond it.
    fn sync(&mut self, input: &mut Bytes, mark: &[u8]) -> Result<bool, Error> {
        while !input.is_empty() {
            self.0.push(input.get_u8());
            if self.0.ends_with(mark) {
                self.0 = Vec::new();
                return Ok(true);
            }
            if self.0.len() >= usize::from(PADDING_MAX) + mark.len() {
                return Err(Error::NoSync);
            }
        }
        Ok(false)
    }
}

/// Takes padding out of `input`, of which `left` bytes are to come. Returns how many are left
/// then, unless nothing came.
fn skip(input: &mut Bytes, left: u16, keys: &mut Rc4) -> Option<u16> {
    let take = input.len().min(usize::from(left));
    input.advance(take);
    keys.discard(take);
    (take > 0).then(|| left - take as u16)
}

/// Appends a public key and random padding behind it.
fn put_key(key: &PrivateKey, rng: &mut Rng, out: &mut Vec<u8>) {
    out.extend_from_slice(&key.public());
    let len = rng.below(u32::from(PADDING_MAX) + 1) as usize;
    let start = out.len();
    out.resize(start + len, 0);
    rng.fill(&mut out[start..]);
}

/// How much padding we put where only zeros may stand.
fn zero_padding(rng: &mut Rng) -> u16 {
    rng.below(u32::from(ZERO_PADDING_MAX) + 1) as u16
}

/// Appends VC, the methods, and padding, not encrypted yet.
fn put_methods(bits: u32, padding: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&VERIFICATION);
    out.extend_from_slice(&bits.to_be_bytes());
    out.extend_from_slice(&padding.to_be_bytes());
    out.resize(out.len() + usize::from(padding), 0);
}

/// The methods and the length of the padding, which is within its bound.
fn read_methods(field: [u8; 6]) -> Result<(u32, u16), Error> {
    let [a, b, c, d, high, low] = field;
    let padding = u16::from_be_bytes([high, low]);
    if padding > PADDING_MAX {
        return Err(Error::Padding(padding));
    }
    Ok((u32::from_be_bytes([a, b, c, d]), padding))
}
