//! One suite for all drivers: the same machines and commands, and the same normalised trace.
//!
//! [`drive`] puts all drivers behind one trait, [`completion`] is one more that writes on other
//! threads, [`tap`] notes what a machine sees and does, [`throttle`] takes a machine's credit away
//! again and again, [`secure`] puts TLS below its streams, and [`scenario`] is what they all run.

#![forbid(unsafe_code)]

pub mod completion;
pub mod drive;
pub mod scenario;
pub mod secure;
pub mod tap;
pub mod throttle;
