//! Scenarios that other engines hold themselves to, as tests of ours; `table.md` says which is
//! where.

mod swarm;

mod checking;
mod scripted;
mod session_rows;
mod tampered;
mod tracker_http;
mod trackers;
