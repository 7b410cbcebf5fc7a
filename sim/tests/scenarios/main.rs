//! Scenarios that other engines hold themselves to, as tests of ours; `table.md` and
//! `table_sessions.md` say which is where.

mod checking;
mod encryption;
mod peer;
mod scripted;
mod session_rows;
mod stage;
mod swarm;
mod swarm_rows;
mod table;
mod tampered;
mod timeouts;
mod tracker_http;
mod trackers;
mod v2;
