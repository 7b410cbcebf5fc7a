//! The targets that live a machine's life, with what each execution comes to: for measuring.

use crate::{session, session_api, tracker_server};

/// A target whose executions are counted in inputs of its machine.
#[derive(Clone, Copy, Debug)]
pub struct Stateful {
    /// Its name among the [`TARGETS`](crate::TARGETS).
    pub name: &'static str,
    /// Its body, which returns how many inputs the machine was told.
    pub run: fn(&[u8]) -> u64,
}

/// All of them, by name.
pub const STATEFUL: &[Stateful] = &[
    Stateful { name: "session_api", run: |bytes| session_api::play(bytes).inputs },
    Stateful { name: "session_peer", run: |bytes| session::play(bytes).steps },
    Stateful { name: "storage_jobs", run: |bytes| session::play_storage(bytes).steps },
    Stateful { name: "tracker_server", run: |bytes| tracker_server::play(bytes).inputs },
];
