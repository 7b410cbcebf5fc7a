//! The simulator: one more driver, on virtual time.
//!
//! ```text
//!   scenario --seed--> run::Plan --run::run--> Outcome --> report    files, draws, checks, pages
//!       ^                  |                      |
//!       +----- shrink -----|----------------------+                  the least that still fails
//!                          |
//!                    net::Net<Node> ------> capture                  one clock, one agenda of events
//!         +-----------+----+------+-----------+
//!    flow | packet   nat       storage     content                   rates or TCP, NATs, disks, bytes
//!                          |
//!              sessions, trackers, actors                            what ships, and attackers
//! ```
//!
//! A network is followed at one of three fidelities ([`net::Fidelity`]): latency alone, streams that
//! share links ([`flow`]), or every packet, with TCP on top ([`packet`]).
//!
//! Nothing here reads a clock or asks for randomness: the same plan gives the same run, byte for
//! byte, and a digest says so. For a test of many seeds of a whole swarm begin with [`sweep()`]
//! (`docs/first-simulation.md` is the way from nothing), and go on with [`scenario`], [`mod@run`]
//! and [`mod@shrink`]; for a few hosts by hand with [`swarm::Swarm`]; for machines of one's own with
//! [`net::Net`]. [`truth`] holds what the literature says of swarms against what ours do, and
//! [`report`] makes a page of runs.

#![forbid(unsafe_code)]

pub mod actors;
pub mod capture;
pub mod content;
mod fixed;
pub mod flow;
pub mod nat;
pub mod net;
pub mod packet;
pub mod report;
pub mod run;
pub mod scenario;
pub mod shrink;
mod splitmix;
pub mod storage;
pub mod swarm;
mod sweep;
pub mod time;
pub mod truth;

pub use sweep::{FailedSeed, SHRINK_RUNS, Sweep, SweepError, sweep};
