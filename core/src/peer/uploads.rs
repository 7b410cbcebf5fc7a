//! The requests that a peer has outstanding with us.
//!
//! They wait here until the peer's send queue has room; then neighbours are read together, one
//! read job for a run of blocks.

use alloc::collections::VecDeque;

use smallvec::SmallVec;

use super::Allowed;
use crate::wire::BlockRequest;

/// Requests of one peer that may wait: what we tell it (BEP 10, `reqq`).
pub(crate) const QUEUE_MAX: u32 = 512;

/// Requests that a peer may send beyond that before it is closed; they are rejected or dropped.
pub(crate) const OVERFLOW_MAX: u32 = 4 * QUEUE_MAX;

/// Requests for pieces that we do not have before a peer is closed. A few are honest: what was
/// announced may have been lost since, or given up.
pub(crate) const INVALID_MAX: u32 = 300;

/// Longest range that may be asked for; larger ones are refused by all deployed clients too.
pub(crate) const REQUEST_LEN_MAX: u32 = 128 * 1024;

/// Most bytes that one read job fetches for one peer.
pub(crate) const READ_LEN_MAX: u32 = 256 * 1024;

/// Blocks of one read job.
pub(crate) type Run = SmallVec<[BlockRequest; 4]>;

#[derive(Debug, Default)]
pub(crate) struct Uploads {
    waiting: VecDeque<BlockRequest>,
    /// Bytes of read jobs under way.
    pub(crate) reading: usize,
    /// Requests that are being read, so that a cancel can still catch them.
    in_read: SmallVec<[BlockRequest; 16]>,
    pub(crate) overflow: u32,
    /// Pieces that may be asked for while choked (BEP 6), and how many bytes of each.
    pub(crate) allowed: Allowed,
    /// They were told.
    pub(crate) told_allowed: bool,
    /// Blocks are among what was not sent yet.
    pub(crate) unsent: bool,
    /// Requests for pieces that we do not have.
    pub(crate) invalid: u32,
    /// Pieces of metadata that it was sent (BEP 9).
    pub(crate) metadata_given: u32,
}

impl Uploads {
    /// Takes a request in; false if there are too many.
    pub(crate) fn push(&mut self, request: BlockRequest) -> bool {
        if self.waiting.len() + self.in_read.len() >= QUEUE_MAX as usize {
            self.overflow += 1;
            return false;
        }
        self.waiting.push_back(request);
        true
    }

    /// Takes a request back. Returns whether it was there.
    pub(crate) fn cancel(&mut self, request: BlockRequest) -> bool {
        if let Some(at) = self.waiting.iter().position(|waiting| *waiting == request) {
            self.waiting.remove(at);
            return true;
        }
        self.take_read(request)
    }

    /// The next run of neighbours to read together: one, and more while they fit into `room` bytes.
    pub(crate) fn next_run(&mut self, room: u32) -> Option<Run> {
        let first = self.waiting.pop_front()?;
        let mut run = Run::new();
        run.push(first);
        let mut len = first.length;
        while let Some(next) = self.waiting.front() {
            let adjacent = next.piece == first.piece && next.begin == first.begin + len;
            if !adjacent || len + next.length > READ_LEN_MAX.min(room) {
                break;
            }
            len += next.length;
            run.push(*next);
            self.waiting.pop_front();
        }
        self.in_read.extend_from_slice(&run);
        self.reading += len as usize;
        Some(run)
    }

    /// A request of a finished read: whether it is still wanted.
    pub(crate) fn take_read(&mut self, request: BlockRequest) -> bool {
        match self.in_read.iter().position(|reading| *reading == request) {
            Some(at) => {
                self.in_read.swap_remove(at);
                true
            }
            None => false,
        }
    }

    /// Whether a choked peer may ask for this; if so, it may not ask for it again.
    pub(crate) fn allows(&mut self, request: BlockRequest) -> bool {
        let mut pieces = self.allowed.iter_mut();
        let Some((_, left)) = pieces.find(|(piece, _)| *piece == request.piece) else {
            return false;
        };
        match left.checked_sub(request.length) {
            Some(less) => {
                *left = less;
                true
            }
            None => false,
        }
    }

    /// Drops all requests, those being read too, and returns them; but for those of pieces that may
    /// be asked for while choked.
    pub(crate) fn drop_choked(&mut self) -> SmallVec<[BlockRequest; 16]> {
        let mut dropped = SmallVec::new();
        let allowed = &self.allowed;
        let mut keep = |request: &BlockRequest| {
            let keep = allowed.iter().any(|(piece, _)| *piece == request.piece);
            if !keep {
                dropped.push(*request);
            }
            keep
        };
        self.in_read.retain(|request| keep(request));
        self.waiting.retain(keep);
        dropped
    }

    /// Whether no request waits or is read.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_read.is_empty()
    }

    /// Requests that wait or are read.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.in_read.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PieceIndex;

    fn request(piece: u32, begin: u32) -> BlockRequest {
        BlockRequest { piece: PieceIndex(piece), begin, length: 16_384 }
    }

    #[test]
    fn neighbours_are_read_together_up_to_a_limit() {
        let mut uploads = Uploads::default();
        for block in 0..20 {
            assert!(uploads.push(request(0, block * 16_384)));
        }
        uploads.push(request(3, 0));
        let run = uploads.next_run(u32::MAX).expect("a run");
        assert_eq!(run.len(), 16);
        assert_eq!(uploads.next_run(u32::MAX).map(|run| run.len()), Some(4));
        assert_eq!(uploads.next_run(u32::MAX).map(|run| run[0].piece), Some(PieceIndex(3)));
        assert_eq!(uploads.next_run(u32::MAX), None);
        assert_eq!(uploads.reading, 21 * 16_384);
    }

    #[test]
    fn a_slow_peer_is_read_for_block_by_block() {
        let mut uploads = Uploads::default();
        for block in 0..4 {
            uploads.push(request(0, block * 16_384));
        }
        assert_eq!(uploads.next_run(1).map(|run| run.len()), Some(1));
        assert_eq!(uploads.next_run(40_000).map(|run| run.len()), Some(2));
        // What was not read can still be taken back.
        assert_eq!(uploads.drop_choked().len(), 4);
    }

    #[test]
    fn a_cancel_catches_a_request_that_is_being_read() {
        let mut uploads = Uploads::default();
        uploads.push(request(0, 0));
        uploads.push(request(0, 16_384));
        uploads.next_run(u32::MAX);
        assert!(uploads.cancel(request(0, 0)));
        assert!(!uploads.take_read(request(0, 0)));
        assert!(uploads.take_read(request(0, 16_384)));
        assert!(uploads.is_empty());
    }

    #[test]
    fn a_choke_leaves_what_is_allowed_and_that_only_once() {
        let mut uploads = Uploads::default();
        uploads.allowed.push((PieceIndex(7), 32_768));
        assert!(!uploads.allows(request(0, 0)));
        assert!(uploads.allows(request(7, 0)) && uploads.push(request(7, 0)));
        assert!(uploads.allows(request(7, 16_384)) && !uploads.allows(request(7, 0)));
        uploads.push(request(1, 0));
        uploads.next_run(READ_LEN_MAX);
        uploads.push(request(2, 0));
        assert_eq!(uploads.drop_choked()[..], [request(1, 0), request(2, 0)]);
        assert_eq!(uploads.len(), 1);
    }

    #[test]
    fn a_full_queue_refuses_and_counts() {
        let mut uploads = Uploads::default();
        for block in 0..QUEUE_MAX {
            assert!(uploads.push(request(block, 0)));
        }
        assert!(!uploads.push(request(0, 16_384)));
        assert_eq!(uploads.overflow, 1);
    }
}
