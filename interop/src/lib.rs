//! The harness that lets `teem` meet other BitTorrent programs: Transmission, libtorrent, aria2,
//! rtorrent, and opentracker as the tracker.
//!
//! One [`Cell`] is one transfer: a seeder, a leecher, and how they get to know each other. Its programs
//! run on addresses of a private network namespace ([`network`]), write into a temporary folder, and
//! are ended by process id. A cell passes when every file of the leecher has the right SHA-256.
//!
//! This crate refuses to measure anything (see `bench/` for that), and never leaves the machine: all
//! discovery that would is switched off in every program.
//!
//! Environment:
//! - `TEEM_INTEROP=1`: a missing program fails the test instead of leaving cells out.
//! - `TEEM_INTEROP_ONLY=text`: only cells whose name contains the text.
//! - `TEEM_BIN`: the `teem` to test. Otherwise cargo builds one beside the test.
//! - `TEEM_STANDIN=1`: libtorrent plays `teem` and opentracker its tracker, which proves the harness itself.
//! - `TEEM_INTEROP_VENV`: the Python environment that has libtorrent (made by `interop/install.sh`).
//! - `TEEM_INTEROP_KEEP=1`: keep folders and logs.

#![allow(
    clippy::disallowed_methods,
    reason = "this crate drives real programs: it waits for them on the real clock"
)]

mod authority;
mod cell;
mod content;
mod failure;
pub mod network;
mod process;
mod program;
mod tracker;

pub use cell::{Cell, Family, Meeting, Outcome, TIME_LIMIT};
pub use content::{Content, Format};
pub use failure::Failure;
pub use network::Network;
pub use program::{Program, SeedFrom, teem};
