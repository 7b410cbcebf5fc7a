//! Names for things: generational ids of our own, and the identifiers of the protocol.
//!
//! An id that outlived its thing is recognised (the generation differs) and ignored; it never
//! reaches another thing that took the place.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use serde::{Deserialize, Serialize};

/// What a [`Slab`] is addressed by: a slot and its generation. Implemented by the ids here.
pub trait Key: Copy + fmt::Debug {
    /// The key of this slot in this generation.
    fn from_parts(slot: u32, generation: u32) -> Self;
    /// The slot that this key names.
    fn slot(self) -> u32;
    /// The generation of the slot that this key names; never zero.
    fn generation(self) -> u32;
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $short:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// 8 bytes, and so is an `Option` of it. The slot is below 2^32, the generation counts
        /// how often the slot was reused.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name { slot: u32, generation: core::num::NonZeroU32 }

        impl Key for $name {
            fn from_parts(slot: u32, generation: u32) -> Self {
                let generation = core::num::NonZeroU32::new(generation)
                    .unwrap_or(core::num::NonZeroU32::MIN);
                Self { slot, generation }
            }
            fn slot(self) -> u32 { self.slot }
            fn generation(self) -> u32 { self.generation.get() }
        }

        impl fmt::Debug for $name {
            /// Slot and generation, such as `s3v1`.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($short, "{}v{}"), self.slot, self.generation)
            }
        }
    )*};
}

ids! {
    /// One byte stream between us and somebody: TCP, or anything that looks like it from above.
    StreamId, "s";
    /// One bound datagram socket.
    SocketId, "u";
    /// One listening socket.
    ListenerId, "l";
    /// One piece of slow work.
    JobId, "j";
    /// One torrent of a session.
    TorrentId, "t";
    /// One armed or idle timer.
    TimerId, "timer";
}

/// A vector of slots, reused with a new generation each time, so that stale keys find nothing.
///
/// Insertion and removal are O(1); iteration is in slot order, which is deterministic.
#[derive(Clone)]
pub struct Slab<K, V> {
    slots: Vec<Slot<V>>,
    free: Option<u32>,
    len: u32,
    key: PhantomData<fn(K) -> K>,
}

#[derive(Clone)]
enum Slot<V> {
    Full { generation: u32, value: V },
    Free { generation: u32, next: Option<u32> },
}

impl<K: Key, V> Slab<K, V> {
    /// An empty slab; allocates nothing.
    pub const fn new() -> Self {
        Self { slots: Vec::new(), free: None, len: 0, key: PhantomData }
    }

    /// The key that the next [`insert`](Self::insert) will return.
    pub fn next_key(&self) -> K {
        match self.free {
            Some(slot) => match &self.slots[slot as usize] {
                Slot::Free { generation, .. } => K::from_parts(slot, *generation),
                Slot::Full { .. } => unreachable!("the free list holds free slots"),
            },
            None => K::from_parts(self.slots.len() as u32, 1),
        }
    }

    /// Puts `value` into a slot and returns its key.
    pub fn insert(&mut self, value: V) -> K {
        let key = self.next_key();
        let full = Slot::Full { generation: key.generation(), value };
        if let Some(slot) = self.free {
            let old = core::mem::replace(&mut self.slots[slot as usize], full);
            let Slot::Free { next, .. } = old else {
                unreachable!("the free list holds free slots")
            };
            self.free = next;
        } else {
            let len = self.slots.len();
            assert!(len < u32::MAX as usize, "fewer than 2^32 slots");
            if len == self.slots.capacity() {
                // By a quarter and not by half: slabs live long, and most of them stay small.
                let least = if size_of::<V>() > 128 { 1 } else { 4 };
                self.slots.reserve_exact((len / 4).max(least));
            }
            self.slots.push(full);
        }
        self.len += 1;
        key
    }

    /// Takes out what `key` names, if it is still there.
    pub fn remove(&mut self, key: K) -> Option<V> {
        self.get(key)?;
        let generation = key.generation().checked_add(1).unwrap_or(1);
        let free = Slot::Free { generation, next: self.free };
        let old = core::mem::replace(&mut self.slots[key.slot() as usize], free);
        self.free = Some(key.slot());
        self.len -= 1;
        match old {
            Slot::Full { value, .. } => Some(value),
            Slot::Free { .. } => unreachable!("looked up above"),
        }
    }

    /// What `key` names, unless it is gone.
    pub fn get(&self, key: K) -> Option<&V> {
        match self.slots.get(key.slot() as usize)? {
            Slot::Full { generation, value } if *generation == key.generation() => Some(value),
            _ => None,
        }
    }

    /// What `key` names, unless it is gone.
    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        match self.slots.get_mut(key.slot() as usize)? {
            Slot::Full { generation, value } if *generation == key.generation() => Some(value),
            _ => None,
        }
    }

    /// Whether `key` still names something.
    pub fn contains(&self, key: K) -> bool {
        self.get(key).is_some()
    }

    /// How many things are in it.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether nothing is in it.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All things with their keys, in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.slots.iter().enumerate().filter_map(|(slot, entry)| match entry {
            Slot::Full { generation, value } => {
                Some((K::from_parts(slot as u32, *generation), value))
            }
            Slot::Free { .. } => None,
        })
    }

    /// All things with their keys, in slot order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut V)> {
        self.slots.iter_mut().enumerate().filter_map(|(slot, entry)| match entry {
            Slot::Full { generation, value } => {
                Some((K::from_parts(slot as u32, *generation), value))
            }
            Slot::Free { .. } => None,
        })
    }

    /// All keys, in slot order.
    pub fn keys(&self) -> impl Iterator<Item = K> {
        self.iter().map(|(key, _)| key)
    }
}

impl<K: Key, V> Default for Slab<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key, V: fmt::Debug> fmt::Debug for Slab<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Index of a piece in its torrent (BEP 3), from zero.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct PieceIndex(pub u32);

/// A command's name for its own outcome: chosen by the embedder, handed back in the event.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct CommandToken(pub u64);

macro_rules! byte_names {
    ($($(#[$doc:meta])* $name:ident, $len:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            /// Lower-case hex.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] { &self.0 }
        }
    )*};
}

byte_names! {
    /// SHA-1 of a torrent's `info` dictionary (BEP 3): the name of a v1 swarm. A v2 torrent goes
    /// by the first 20 bytes of its SHA-256 where 20 bytes are needed (BEP 52).
    InfoHash, 20;
    /// SHA-256 of a torrent's `info` dictionary (BEP 52): the name of a v2 torrent.
    InfoHashV2, 32;
    /// The 20 bytes by which a peer calls itself (BEP 3, BEP 20).
    PeerId, 20;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn ids_have_a_niche_and_stay_small() {
        assert_eq!(size_of::<StreamId>(), 8);
        assert_eq!(size_of::<Option<StreamId>>(), 8);
    }

    #[test]
    fn a_stale_key_finds_nothing_after_its_slot_was_reused() {
        let mut slab = Slab::<StreamId, u8>::new();
        let first = slab.insert(1);
        assert_eq!(slab.remove(first), Some(1));
        let announced = slab.next_key();
        let second = slab.insert(2);
        assert_eq!(announced, second);
        assert_eq!(first.slot(), second.slot());
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&2));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn iteration_is_in_slot_order_whatever_was_removed() {
        let mut slab = Slab::<StreamId, u8>::new();
        let keys: Vec<_> = (0..5).map(|n| slab.insert(n)).collect();
        slab.remove(keys[1]);
        slab.remove(keys[3]);
        slab.insert(9);
        let seen: Vec<_> = slab.iter().map(|(_, value)| *value).collect();
        assert_eq!(seen, [0, 2, 9, 4]);
    }
}
