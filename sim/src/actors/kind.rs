//! Which attackers there are, by name.

use std::fmt;
use std::str::FromStr;

use super::attacker::{Attacker, Behaviour, Setup};
use super::{drains, floods, idlers, liars};
use crate::swarm::Actor;

/// A kind of attacker. What its counter [`fired`](super::Counters::fired) counts is said of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Claims everything and serves every block with one wrong byte. Fired: wrong blocks.
    Poisoner,
    /// Claims everything and serves one block in ten with one wrong byte. Fired: wrong blocks.
    PartialPoisoner,
    /// Claims everything, unchokes, and on half of its connections never answers a request, on
    /// the others rejects each. Fired: requests left unanswered or rejected.
    LyingBitfield,
    /// Tells what it has, again and again, between all other small messages, as fast as the
    /// stream takes it. Fired: messages.
    HaveFlood,
    /// Asks for blocks until it is served, and then for far more than is allowed, and does not
    /// read. Fired: requests.
    RequestFlood,
    /// Sends everything byte by byte and never completes it: a handshake, a message, or a block
    /// that it was asked for. Fired: bytes.
    SlowLoris,
    /// Takes what it gets, has nothing, serves nobody. Fired: blocks taken.
    NeverUnchoke,
    /// Shakes hands and says nothing more. Fired: handshakes.
    Silent,
    /// Random bytes after the handshake. Fired: bytes.
    GarbageSender,
    /// Claims everything, serves each block twice, and pushes blocks that nobody asked for.
    /// Fired: blocks too many.
    Duplicates,
    /// Connects, shakes hands, closes, and so on. Fired: connections that it closed.
    Reconnector,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Poisoner,
        Self::PartialPoisoner,
        Self::LyingBitfield,
        Self::HaveFlood,
        Self::RequestFlood,
        Self::SlowLoris,
        Self::NeverUnchoke,
        Self::Silent,
        Self::GarbageSender,
        Self::Duplicates,
        Self::Reconnector,
    ];

    /// Its name, in kebab-case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poisoner => "poisoner",
            Self::PartialPoisoner => "partial-poisoner",
            Self::LyingBitfield => "lying-bitfield",
            Self::HaveFlood => "have-flood",
            Self::RequestFlood => "request-flood",
            Self::SlowLoris => "slow-loris",
            Self::NeverUnchoke => "never-unchoke",
            Self::Silent => "silent",
            Self::GarbageSender => "garbage-sender",
            Self::Duplicates => "duplicates",
            Self::Reconnector => "reconnector",
        }
    }

    /// One of these, as its own type: it can be asked what it did once it is on a host
    /// (`swarm.net.machine(host).actor::<Attacker>()`).
    pub fn attacker(self, setup: &Setup) -> Attacker {
        let behaviour: Box<dyn Behaviour> = match self {
            Self::Poisoner => Box::new(liars::Poisoner { wrong_ppm: 1_000_000 }),
            Self::PartialPoisoner => Box::new(liars::Poisoner { wrong_ppm: 100_000 }),
            Self::LyingBitfield => Box::new(liars::LyingBitfield),
            Self::Duplicates => Box::new(liars::Duplicates),
            Self::HaveFlood => Box::new(floods::HaveFlood),
            Self::RequestFlood => Box::new(floods::RequestFlood),
            Self::GarbageSender => Box::new(floods::GarbageSender),
            Self::SlowLoris => Box::new(idlers::SlowLoris),
            Self::Silent => Box::new(idlers::Silent),
            Self::Reconnector => Box::new(idlers::Reconnector),
            Self::NeverUnchoke => Box::new(drains::NeverUnchoke),
        };
        Attacker::new(self, behaviour, setup)
    }

    /// One of these, to be put on a host as it is: `Node::Actor(kind.build(&setup))`.
    pub fn build(self, setup: &Setup) -> Box<dyn Actor> {
        Box::new(self.attacker(setup))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No attacker goes by that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no attacker called \"{0}\"")]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        let named = Self::ALL.into_iter().find(|kind| kind.name() == name);
        named.ok_or_else(|| UnknownKind(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("Poisoner".parse::<Kind>(), Err(UnknownKind("Poisoner".into())));
    }
}
