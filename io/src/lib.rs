//! What real drivers share: sockets, clocks, readiness, receive buffers, jobs, storage.
//!
//! A driver binds a [`Machine`](teem_core::machine::Machine) to an event loop. All that two
//! drivers would do alike lives here, above all the [`pump`]; what is left to a driver's own crate
//! is how to wait. Unix only, for now: readiness is asked for by file descriptor.

#![deny(unsafe_code)]

pub mod clock;
pub mod errors;
pub mod executor;
pub mod jobs;
pub mod lanes;
pub mod net;
pub mod pump;
pub mod read;
pub mod readiness;
pub mod storage;
pub mod table;
pub mod task;
pub mod tls;

mod dns;
