//! The simulator: one more driver, on virtual time.
//!
//! [`net`] runs any number of machines in one thread and in memory; [`storage`] keeps their content.
//! Nothing here reads a clock or asks for randomness: the same machines and commands give the same
//! run, byte for byte.

#![forbid(unsafe_code)]

pub mod actors;
pub mod content;
pub mod flow;
pub mod net;
pub mod run;
pub mod scenario;
pub mod storage;
pub mod swarm;
pub mod time;
pub mod truth;
