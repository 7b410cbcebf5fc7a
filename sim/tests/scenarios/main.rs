//! Scenarios that other engines hold themselves to, as tests of ours; `table.md` says which is
//! where.

mod swarm;
