//! Scenarios that other engines hold themselves to, as tests of ours; `table.md`,
//! `table_sessions.md` and `table_transfers.md` say which is where.

mod checking;
mod encryption;
mod kept;
mod matrix;
mod metadata;
mod padding;
mod peer;
mod scripted;
mod session_rows;
mod stage;
mod swarm;
mod swarm_rows;
mod table;
mod tampered;
mod threats;
mod timeouts;
mod tracker_http;
mod trackers;
mod transfers;
mod v2;
