//! A stream under way: what comes is decrypted, and what is lent is encrypted, each byte once.

use alloc::vec::Vec;

use bytes::Bytes;

use super::Rc4;
use crate::machine::SendQueue;

/// Both directions of one stream, and how much of what waits to be sent is encrypted.
#[derive(Debug)]
pub struct Cipher {
    pub(super) send: Rc4,
    pub(super) receive: Rc4,
    /// Bytes at the front of the send queue that are encrypted.
    sealed: usize,
}

impl Cipher {
    /// A stream at its first byte.
    pub(super) const fn new(send: Rc4, receive: Rc4) -> Self {
        Self { send, receive, sealed: 0 }
    }

    /// The next bytes that came, decrypted into a buffer of their own: what they came in may be
    /// somebody else's too.
    pub fn open(&mut self, bytes: &[u8]) -> Bytes {
        let mut plain = Vec::from(bytes);
        self.receive.apply(&mut plain);
        plain.into()
    }

    /// What waits in `queue` now goes as it is: it is the end of the handshake.
    pub const fn begin(&mut self, queue: &SendQueue) {
        self.sealed = queue.len();
    }

    /// Lends as [`SendQueue::lend`] does, and encrypts first what was never lent before.
    pub fn lend(&mut self, queue: &mut SendQueue, max: usize, out: &mut Vec<Bytes>) -> usize {
        let end = queue.lendable().min(max);
        if end > self.sealed {
            queue.rewrite(self.sealed, end, |bytes| self.send.apply(bytes));
            self.sealed = end;
        }
        queue.lend(max, out)
    }

    /// So many bytes of `queue` left, as [`SendQueue::settle`] said.
    pub const fn settled(&mut self, count: usize) {
        self.sealed = self.sealed.saturating_sub(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair() -> (Cipher, Cipher) {
        let (a, b) = (Rc4::new(b"one way"), Rc4::new(b"the other"));
        (Cipher::new(a.clone(), b.clone()), Cipher::new(b, a))
    }

    #[test]
    fn an_encrypted_stream_costs_little_more_than_two_states() {
        assert!(size_of::<Cipher>() <= 528, "{}", size_of::<Cipher>());
    }

    #[test]
    fn the_end_of_the_handshake_is_not_encrypted_again() {
        let (mut ours, mut theirs) = pair();
        let mut queue = SendQueue::new();
        queue.push(Bytes::from_static(b"handshake"));
        ours.begin(&queue);
        queue.push(Bytes::from_static(b"payload"));
        let mut out = Vec::new();
        assert_eq!(ours.lend(&mut queue, 100, &mut out), 16);
        let sent = out.concat();
        assert_eq!(sent[..9], *b"handshake");
        assert_eq!(theirs.open(&sent[9..]), b"payload"[..]);
    }

    proptest! {
        #[test]
        fn every_byte_is_encrypted_once_however_it_is_lent_and_settled(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..9),
            steps in prop::collection::vec((any::<bool>(), 0_usize..50, 0_usize..50), 0..60),
        ) {
            let (mut ours, mut theirs) = pair();
            let mut queue = SendQueue::new();
            let (mut fresh, mut sent) = (parts.iter(), Vec::new());
            for (push, max, settle) in steps {
                if push && let Some(part) = fresh.next() {
                    queue.push(Bytes::copy_from_slice(part));
                }
                let mut out = Vec::new();
                let lent = ours.lend(&mut queue, max, &mut out);
                prop_assert_eq!(out.concat().len(), lent);
                prop_assert!(lent <= max);
                prop_assert_eq!(ours.lend(&mut queue, max, &mut out), 0);
                let count = queue.settle(settle);
                ours.settled(count);
                sent.extend_from_slice(&theirs.open(&out.concat()[..count]));
            }
            prop_assert!(parts.concat().starts_with(&sent));
        }
    }
}
