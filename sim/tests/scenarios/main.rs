//! Scenarios that other engines hold themselves to, as tests of ours; `table.md` says which is
//! where.

mod peer;
mod stage;
mod swarm;
mod swarm_rows;
mod table;
mod timeouts;
