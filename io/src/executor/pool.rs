//! Buffers that reads are lent in, used again when nobody holds them any more: new ones cost the
//! system a fault and a cleared page for each 4 KiB, about a quarter of all that serving cost.

use bytes::{Bytes, BytesMut};

/// Buffers that are remembered at most; what is lent beyond them is given back to the system.
const BUFFERS_MAX: usize = 16;

/// Shorter ones are cheap to make, and a long one would be pinned by few bytes.
const LEN_MIN: usize = 64 * 1024;

/// Those that are remembered are at least this long, as long as most reads are at most: so they need
/// not be lengthened, which is to say cleared, for one that is longer than the one before.
const LEN: usize = 256 * 1024;

/// See the [module](self). Each thread that reads has one.
#[derive(Debug, Default)]
pub(super) struct Pool {
    lent: Vec<Bytes>,
}

impl Pool {
    /// A buffer of at least `len` bytes that say nothing: zeros, or what was read before.
    pub(super) fn take(&mut self, len: usize) -> BytesMut {
        if len < LEN_MIN {
            return BytesMut::zeroed(len);
        }
        let free = self.lent.iter().position(|buffer| buffer.is_unique() && buffer.len() >= len);
        let free = free.and_then(|at| self.lent.swap_remove(at).try_into_mut().ok());
        let is_kept = self.lent.len() < BUFFERS_MAX;
        free.unwrap_or_else(|| BytesMut::zeroed(if is_kept { len.max(LEN) } else { len }))
    }

    /// Lends the first `len` bytes of a buffer. It comes back when the last of them is dropped.
    pub(super) fn lend(&mut self, buffer: BytesMut, len: usize) -> Bytes {
        let mut bytes = buffer.freeze();
        if len >= LEN_MIN && self.lent.len() < BUFFERS_MAX {
            self.lent.push(bytes.clone());
        }
        bytes.truncate(len);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_nobody_holds_is_used_again_and_one_that_is_held_is_not() {
        let mut pool = Pool::default();
        let mut first = pool.take(LEN_MIN);
        first.fill(1);
        let mut first = pool.lend(first, LEN_MIN);
        let held = first.split_off(LEN_MIN - 1);
        let address = first.as_ptr();
        drop(first);
        assert_ne!(pool.take(LEN_MIN).as_ptr(), address, "its last byte is held");
        assert_eq!(held[..], [1]);
        drop(held);
        let again = pool.take(LEN);
        assert_eq!((again.as_ptr(), again.len()), (address, LEN), "it is as long as ever");
    }

    #[test]
    fn a_buffer_is_lent_as_long_as_it_is_wanted() {
        let mut pool = Pool::default();
        for len in [LEN_MIN, 3 * LEN_MIN, 2 * LEN, LEN, 7] {
            let buffer = pool.take(len);
            assert!(buffer.len() >= len);
            assert_eq!(pool.lend(buffer, len).len(), len);
        }
        // The second one of LEN or less is the first.
        assert_eq!(pool.lent.len(), 2);
    }

    #[test]
    fn no_more_are_remembered_than_the_bound_and_short_ones_not_at_all() {
        let mut pool = Pool::default();
        let lent: Vec<Bytes> = (0..2 * BUFFERS_MAX)
            .map(|_| {
                let buffer = pool.take(LEN_MIN);
                pool.lend(buffer, LEN_MIN)
            })
            .collect();
        assert_eq!((lent.len(), pool.lent.len()), (2 * BUFFERS_MAX, BUFFERS_MAX));
        assert_eq!(pool.take(LEN_MIN).len(), LEN_MIN, "it would not be kept");
        let short = BytesMut::zeroed(LEN_MIN - 1);
        let mut pool = Pool::default();
        drop(pool.lend(short, LEN_MIN - 1));
        assert!(pool.lent.is_empty());
    }
}
