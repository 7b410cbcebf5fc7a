//! BitTorrent as pure state machines.
//!
//! Bytes, timers and job completions go in; actions come out. There is no socket, no thread, no
//! clock and no global randomness in this crate: a driver binds it to an event loop, and the
//! simulator is one more driver. [`machine`] is the contract between the two.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(feature = "arbitrary")]
mod arbitrary;
pub mod bencode;
pub mod bitfield;
pub mod chunks;
pub mod hash;
pub mod http;
pub mod ids;
pub mod machine;
pub mod metainfo;
pub mod mse;
pub mod peer;
pub mod rate;
pub mod rng;
pub mod session;
pub mod time;
pub mod timers;
pub mod torrent;
pub mod tracker;
pub mod wire;
