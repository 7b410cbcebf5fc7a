//! Who sent the wrong bytes.
//!
//! A piece that turns out wrong and came from one address convicts it. One that came from several
//! makes them all suspects: each block is hashed as it was sent, the piece is fetched again, by
//! peers that fetch it whole, and when it is right, its blocks are hashed once more. Who sent
//! other bytes than those is convicted, everybody else is clear. An honest peer is never banned.
//!
//! In a v2 torrent the hashes of the right blocks can be had before: anybody can prove them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::hash::Digest;
use crate::ids::PieceIndex;
use crate::metainfo::merkle::Hash;

/// Pieces about which somebody is suspected; beyond that the piece is only fetched again.
pub(crate) const CASES_MAX: usize = 256;

/// What was sent for one piece, in one or several rounds, and what is right.
#[derive(Debug)]
struct Case {
    /// Each round: who sent each block, and the hash of what they sent.
    rounds: Vec<Vec<Option<Sent>>>,
    /// The hashes of the right blocks, once they are being taken.
    right: Option<Vec<Option<Digest>>>,
    /// The hashes of the right blocks, as somebody proved them before there was a right piece.
    leaves: Option<Vec<Option<Digest>>>,
    /// Hashes that are being taken.
    waiting: u32,
}

/// Who sent a block, and the hash of it.
type Sent = (IpAddr, Option<Digest>);

/// Rounds kept for one piece.
const ROUNDS_MAX: usize = 4;

#[derive(Debug, Default)]
pub(crate) struct Blame {
    cases: BTreeMap<u32, Case>,
    suspects: BTreeSet<IpAddr>,
}

/// What follows from a wrong piece, or from a hash that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Hash this many blocks of the piece as they are on disk; then fetch it again, or, if it was
    /// right, forget about it.
    HashBlocks(u32),
    /// The hashes of the wrong piece are taken: fetch it again.
    FetchAgain,
    /// These sent wrong bytes. If the piece was wrong, fetch it again.
    Convicted(Vec<IpAddr>),
    /// Nothing yet.
    Nothing,
}

impl Blame {
    /// A piece is wrong; `senders` sent its blocks.
    pub(crate) fn wrong(&mut self, piece: PieceIndex, senders: &[Option<IpAddr>]) -> Finding {
        let distinct: BTreeSet<IpAddr> = senders.iter().flatten().copied().collect();
        let from_disk = senders.iter().any(Option::is_none);
        if let (1, false, Some(culprit)) = (distinct.len(), from_disk, distinct.first()) {
            return Finding::Convicted(vec![*culprit]);
        }
        if distinct.is_empty()
            || (self.cases.len() >= CASES_MAX && !self.cases.contains_key(&piece.0))
        {
            return Finding::FetchAgain;
        }
        self.suspects.extend(&distinct);
        let case = self.cases.entry(piece.0).or_insert_with(|| Case {
            rounds: Vec::new(),
            right: None,
            leaves: None,
            waiting: 0,
        });
        if case.rounds.len() >= ROUNDS_MAX {
            case.rounds.remove(0);
        }
        case.rounds.push(senders.iter().map(|sender| sender.map(|ip| (ip, None))).collect());
        case.waiting = senders.len() as u32;
        Finding::HashBlocks(case.waiting)
    }

    /// A piece is right, with that many blocks.
    pub(crate) fn right(&mut self, piece: PieceIndex, blocks: u32) -> Finding {
        let Some(case) = self.cases.get_mut(&piece.0) else { return Finding::Nothing };
        case.right = Some(vec![None; blocks as usize]);
        case.waiting = blocks;
        Finding::HashBlocks(blocks)
    }

    /// A block's hash came in; none if it could not be taken.
    pub(crate) fn hashed(
        &mut self,
        piece: PieceIndex,
        block: u32,
        digest: Option<Digest>,
    ) -> Finding {
        let Some(case) = self.cases.get_mut(&piece.0) else { return Finding::Nothing };
        case.waiting = case.waiting.saturating_sub(1);
        if let Some(right) = &mut case.right {
            if let Some(slot) = right.get_mut(block as usize) {
                *slot = digest;
            }
        } else if let Some(Some((_, sent))) =
            case.rounds.last_mut().and_then(|round| round.get_mut(block as usize))
        {
            *sent = digest;
        }
        if case.waiting > 0 {
            return Finding::Nothing;
        }
        match case.right.take().or_else(|| case.leaves.take()) {
            Some(right) => self.convict(piece, &right),
            None => Finding::FetchAgain,
        }
    }

    /// What the blocks of a wrong piece should have been is proven (BEP 52).
    pub(crate) fn leaves(&mut self, piece: PieceIndex, leaves: &[Hash]) -> Finding {
        let Some(case) = self.cases.get_mut(&piece.0) else { return Finding::Nothing };
        if case.right.is_some() {
            return Finding::Nothing;
        }
        let right: Vec<_> = leaves.iter().map(|leaf| Some(Digest::Sha256(*leaf))).collect();
        if case.waiting > 0 {
            case.leaves = Some(right);
            return Finding::Nothing;
        }
        self.convict(piece, &right)
    }

    /// Closes a case: whoever sent other blocks than these.
    fn convict(&mut self, piece: PieceIndex, right: &[Option<Digest>]) -> Finding {
        let Some(case) = self.cases.remove(&piece.0) else { return Finding::Nothing };
        let mut convicted = BTreeSet::new();
        for round in &case.rounds {
            for (sent, right) in round.iter().zip(right) {
                if let (Some((ip, Some(sent))), Some(right)) = (sent, right)
                    && sent != right
                {
                    convicted.insert(*ip);
                }
            }
        }
        self.clear();
        Finding::Convicted(convicted.into_iter().collect())
    }

    /// Whether an address is suspected of anything.
    pub(crate) fn is_suspect(&self, ip: IpAddr) -> bool {
        self.suspects.contains(&ip)
    }

    /// Whether hashes of a piece are being taken, so that it must not change on disk.
    pub(crate) fn is_busy(&self) -> bool {
        self.cases.values().any(|case| case.waiting > 0)
    }

    /// Whether the hashes that are being taken of this piece are those of the right one.
    pub(crate) fn was_right(&self, piece: PieceIndex) -> bool {
        self.cases.get(&piece.0).is_some_and(|case| case.right.is_some())
    }

    /// Clears whoever is in no open case any more.
    fn clear(&mut self) {
        let open: BTreeSet<IpAddr> = self
            .cases
            .values()
            .flat_map(|case| case.rounds.iter().flatten())
            .flatten()
            .map(|(ip, _)| *ip)
            .collect();
        self.suspects.retain(|ip| open.contains(ip));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{HashAlgorithm, HashState};

    const PIECE: PieceIndex = PieceIndex(3);

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn digest(content: u8) -> Digest {
        let mut state = HashState::new(HashAlgorithm::Sha1);
        state.update(&[content]);
        state.finish()
    }

    #[test]
    fn a_piece_from_one_address_convicts_it() {
        let mut blame = Blame::default();
        let senders = [Some(ip(1)), Some(ip(1))];
        assert_eq!(blame.wrong(PIECE, &senders), Finding::Convicted(vec![ip(1)]));
    }

    #[test]
    fn of_several_senders_only_the_one_whose_bytes_differ_is_convicted() {
        let mut blame = Blame::default();
        let senders = [Some(ip(1)), Some(ip(2)), Some(ip(1))];
        assert_eq!(blame.wrong(PIECE, &senders), Finding::HashBlocks(3));
        assert!(blame.is_suspect(ip(1)) && blame.is_suspect(ip(2)) && blame.is_busy());
        assert_eq!(blame.hashed(PIECE, 0, Some(digest(0))), Finding::Nothing);
        assert_eq!(blame.hashed(PIECE, 2, Some(digest(2))), Finding::Nothing);
        assert_eq!(blame.hashed(PIECE, 1, Some(digest(99))), Finding::FetchAgain);
        assert_eq!(blame.right(PIECE, 3), Finding::HashBlocks(3));
        blame.hashed(PIECE, 0, Some(digest(0)));
        blame.hashed(PIECE, 1, Some(digest(1)));
        assert_eq!(blame.hashed(PIECE, 2, Some(digest(2))), Finding::Convicted(vec![ip(2)]));
        assert!(!blame.is_suspect(ip(1)) && !blame.is_busy());
    }

    #[test]
    fn proven_leaves_convict_before_or_after_what_was_sent_is_hashed() {
        let sha256 = |content: u8| {
            let mut state = HashState::new(HashAlgorithm::Sha256);
            state.update(&[content]);
            state.finish()
        };
        let leaves: Vec<Hash> = (0..4).map(|n| *sha256(n).sha256().expect("taken")).collect();
        let senders = [Some(ip(1)), Some(ip(2)), Some(ip(1))];
        for early in [true, false] {
            let mut blame = Blame::default();
            blame.wrong(PIECE, &senders);
            if early {
                assert_eq!(blame.leaves(PIECE, &leaves), Finding::Nothing);
            }
            blame.hashed(PIECE, 0, Some(sha256(0)));
            blame.hashed(PIECE, 1, Some(sha256(77)));
            let last = blame.hashed(PIECE, 2, Some(sha256(2)));
            let found = if early { last } else { blame.leaves(PIECE, &leaves) };
            assert_eq!(found, Finding::Convicted(vec![ip(2)]));
            assert!(!blame.is_suspect(ip(1)) && !blame.is_busy());
            assert_eq!(blame.right(PIECE, 3), Finding::Nothing);
            assert_eq!(blame.leaves(PIECE, &leaves), Finding::Nothing);
        }
    }

    #[test]
    fn blocks_that_were_on_disk_convict_nobody() {
        let mut blame = Blame::default();
        assert_eq!(blame.wrong(PIECE, &[None, None]), Finding::FetchAgain);
        assert_eq!(blame.wrong(PIECE, &[None, Some(ip(1))]), Finding::HashBlocks(2));
        blame.hashed(PIECE, 0, Some(digest(9)));
        blame.hashed(PIECE, 1, Some(digest(1)));
        blame.right(PIECE, 2);
        blame.hashed(PIECE, 0, Some(digest(0)));
        assert_eq!(blame.hashed(PIECE, 1, Some(digest(1))), Finding::Convicted(vec![]));
    }

    #[test]
    fn a_block_that_could_not_be_read_back_convicts_nobody() {
        let mut blame = Blame::default();
        blame.wrong(PIECE, &[Some(ip(1)), Some(ip(2))]);
        blame.hashed(PIECE, 0, None);
        blame.hashed(PIECE, 1, Some(digest(1)));
        blame.right(PIECE, 2);
        blame.hashed(PIECE, 0, Some(digest(0)));
        assert_eq!(blame.hashed(PIECE, 1, Some(digest(1))), Finding::Convicted(vec![]));
    }
}
