//! Why a connection was closed, and whose fault it was.

use serde::{Deserialize, Serialize};

use crate::bitfield::BitfieldError;
use crate::machine::StreamError;
use crate::mse;
use crate::wire::{HandshakeError, WireError};

/// Why a connection was closed, split by blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer broke the protocol.
    #[error("misbehaved: {0}")]
    Misbehaved(Misbehaviour),
    /// Nobody is to blame; the two just do not fit.
    #[error("{0}")]
    Refused(Refusal),
    /// We closed it, for reasons of our own.
    #[error("{0}")]
    Local(LocalReason),
    /// The network, or the peer, took it away.
    #[error("{0}")]
    Io(StreamError),
    /// The peer closed it in order.
    #[error("closed by the peer")]
    Ended,
    /// A limit was reached.
    #[error("{0}")]
    Limit(LimitReached),
}

impl CloseReason {
    /// Whether the peer is to blame, so that it is not worth trying again soon.
    pub const fn is_misbehaviour(&self) -> bool {
        matches!(self, Self::Misbehaved(_))
    }
}

/// What a peer did that the protocol forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// It does not speak BitTorrent.
    #[error("{0}")]
    Handshake(HandshakeError),
    /// Its encrypted handshake breaks the rules.
    #[error("encrypted handshake: {0}")]
    Encryption(mse::Error),
    /// It answered for another torrent than the one we asked for.
    #[error("answered for another torrent")]
    WrongInfoHash,
    /// It broke the framing.
    #[error("{0}")]
    Wire(WireError),
    /// Its bitfield does not fit the torrent.
    #[error("bad bitfield: {0}")]
    Bitfield(BitfieldError),
    /// It used a message of an extension that was not agreed on.
    #[error("used an extension that was not agreed on")]
    UnexpectedExtension,
    /// A piece that does not exist.
    #[error("spoke of piece {0}, which does not exist")]
    NoSuchPiece(u32),
    /// A request that is empty, too long, or outside its piece.
    #[error("asked for a range that does not exist")]
    BadRequest,
    /// It asked again and again for pieces that we do not have.
    #[error("asked for pieces that we did not announce")]
    PieceNotOurs,
    /// It asked for far more at a time than we allow.
    #[error("asked for too much at a time")]
    RequestFlood,
    /// It sent far more blocks than we asked for.
    #[error("sent blocks that nobody asked for")]
    UnrequestedBlocks,
    /// A block of another length than asked for.
    #[error("sent a block of the wrong length")]
    WrongBlockLength,
    /// Far too many small messages.
    #[error("sent too many small messages")]
    MessageFlood,
    /// It sent bytes that are not those of the torrent.
    #[error("sent corrupt data")]
    CorruptData,
    /// It sent metadata that are not those of the torrent.
    #[error("sent metadata that are not those of the torrent")]
    WrongMetadata,
    /// It asked for the torrent many times over.
    #[error("asked for the same data again and again")]
    EndlessRequests,
    /// It asked again and again for hashes that no tree of the torrent has.
    #[error("asked for hashes that do not exist")]
    BadHashRequest,
    /// It sent hashes that it was not asked for.
    #[error("sent hashes that nobody asked for")]
    UnrequestedHashes,
    /// It sent hashes that do not lead to the root of their file.
    #[error("sent hashes that are not those of the torrent")]
    WrongHashes,
    /// It claims to have pieces, and refused every block that it was asked for.
    #[error("refused what it claims to have")]
    EndlessRefusals,
}

/// Why two peers that both behave do not keep a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    /// It is us.
    #[error("connected to ourselves")]
    SelfConnection,
    /// There is a connection to that peer already.
    #[error("already connected to that peer")]
    Duplicate,
    /// It wants a torrent that we do not have.
    #[error("asked for an unknown torrent")]
    UnknownTorrent,
    /// It does not encrypt, or not in the way that is required here.
    #[error("not encrypted as required")]
    Unencrypted,
    /// Both sides have everything.
    #[error("both sides are complete")]
    BothComplete,
}

/// Why we closed a connection on our own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LocalReason {
    /// The torrent was paused, removed, or its storage failed.
    #[error("the torrent stopped")]
    TorrentStopped,
    /// The torrent's content is being checked.
    #[error("the torrent is not ready yet")]
    NotReady,
    /// The torrent is known now, and the peer, who was there before, has to say anew what was too
    /// much to keep, or to be told what we cannot tell it any more.
    #[error("the metadata are here now")]
    MetadataComplete,
    /// The peer's address is banned.
    #[error("banned")]
    Banned,
    /// The session's filter blocks the peer's address.
    #[error("blocked by the filter")]
    Filtered,
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LimitReached {
    /// No handshake in time.
    #[error("no handshake in time")]
    HandshakeTimeout,
    /// Not a word for too long.
    #[error("silent for too long")]
    Inactivity,
    /// It could ask for blocks, and did not for too long.
    #[error("asked for nothing for too long")]
    NoRequest,
    /// Neither side had anything for the other for too long, and places are scarce.
    #[error("of no use to each other, and places are scarce")]
    NoInterest,
    /// It does not read what we send.
    #[error("does not read what is sent")]
    SendQueue,
    /// There are as many connections as are allowed.
    #[error("too many connections")]
    Connections,
}

impl From<WireError> for CloseReason {
    fn from(error: WireError) -> Self {
        Misbehaviour::Wire(error).into()
    }
}

impl From<Misbehaviour> for CloseReason {
    fn from(what: Misbehaviour) -> Self {
        Self::Misbehaved(what)
    }
}

impl From<HandshakeError> for CloseReason {
    fn from(error: HandshakeError) -> Self {
        Misbehaviour::Handshake(error).into()
    }
}

impl From<mse::Error> for CloseReason {
    /// What the two have not in common is nobody's fault.
    fn from(error: mse::Error) -> Self {
        match error {
            mse::Error::UnknownTorrent => Refusal::UnknownTorrent.into(),
            mse::Error::NothingInCommon(_) => Refusal::Unencrypted.into(),
            error => Misbehaviour::Encryption(error).into(),
        }
    }
}

impl From<BitfieldError> for CloseReason {
    fn from(error: BitfieldError) -> Self {
        Misbehaviour::Bitfield(error).into()
    }
}

impl From<Refusal> for CloseReason {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<LimitReached> for CloseReason {
    fn from(limit: LimitReached) -> Self {
        Self::Limit(limit)
    }
}

impl From<LocalReason> for CloseReason {
    fn from(reason: LocalReason) -> Self {
        Self::Local(reason)
    }
}
