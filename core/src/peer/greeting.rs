//! A connection before messages flow: is it up, is it encrypted, what does its handshake say?
//!
//! ```text
//!   Connecting --+--------> Initiator --+
//!    (outgoing)  +----------------------+--> Clear --> open
//!                           Responder --+      |
//!   Either ------+---------------^             |   `Clear` with a cipher is inside an encrypted
//!    (accepted)  +-----------------------------+   stream
//! ```

use alloc::boxed::Box;

use super::{CloseReason, LimitReached, Misbehaviour};
use crate::ids::InfoHash;
use crate::mse::{Initiator, Responder};
use crate::wire::HandshakeParser;

/// All that is kept of a connection until both sides shook hands.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) layer: Layer,
    /// We connect, and hide that it is BitTorrent.
    pub(crate) encrypt: bool,
    pub(crate) parser: HandshakeParser,
    /// The hash in our handshake, once that is on its way.
    pub(crate) answered: Option<InfoHash>,
    /// The torrent that the encrypted handshake is about: the one within must say the same.
    pub(crate) agreed: Option<InfoHash>,
}

/// How to read what comes.
#[derive(Debug)]
pub(crate) enum Layer {
    /// We asked for it; nothing is there yet.
    Connecting,
    /// The first bytes will tell.
    Either,
    /// An encrypted handshake that we began.
    Initiator(Box<Initiator>),
    /// An encrypted handshake that the other side began.
    Responder(Box<Responder>),
    /// The handshake of BitTorrent.
    Clear,
}

impl Greeting {
    /// A connection that is to come up, or that somebody else opened.
    pub(crate) fn new(outgoing: bool) -> Self {
        Self {
            layer: if outgoing { Layer::Connecting } else { Layer::Either },
            encrypt: false,
            parser: HandshakeParser::new(),
            answered: None,
            agreed: None,
        }
    }

    /// Whether this end may mean that the other side does not like the way in which we began,
    /// encrypted or not. One that is silent for too long may well wait for more of what it does not
    /// understand, but nobody waits for more of what it refuses.
    pub(crate) const fn is_unwelcome(&self, end: &CloseReason) -> bool {
        let gone = matches!(end, CloseReason::Io(_) | CloseReason::Ended);
        match self.layer {
            Layer::Clear => !self.encrypt && self.parser.held().is_empty() && gone,
            Layer::Initiator(_) => {
                gone || matches!(
                    end,
                    CloseReason::Limit(LimitReached::HandshakeTimeout)
                        | CloseReason::Misbehaved(Misbehaviour::Encryption(_))
                )
            }
            Layer::Connecting | Layer::Either | Layer::Responder(_) => false,
        }
    }
}
