//! Bytes in, protocol handlers held against their promises.
//!
//! Each target is a plain function of bytes that panics when a promise is broken: a decoder that
//! panics, or reads differently when its input is split elsewhere; a session that loses a job, or
//! claims in its resume data what is not on the disk. [`TARGETS`] lists them. Nothing here needs
//! more than stable Rust: tests replay the committed corpus and feed mutations of it; the shells
//! for libFuzzer are in a package of their own, in `libfuzzer/`.
//!
//! A bug that was found gets its smallest input into [`seeds`], under a name that says what it
//! was, beside a test at the lowest level that can show it.

pub mod drive;
mod http;
mod metainfo;
mod models;
mod mse;
pub mod mutate;
mod picker;
pub mod scenario;
mod script;
pub mod seeds;
mod session;
mod session_api;
mod session_hashes;
mod small;
mod stateful;
mod tracker;
mod tracker_client;
mod tracker_datagrams;
mod tracker_server;
mod wire;
mod world;

pub use self::http::{gzip, http_request, http_response};
pub use self::metainfo::{bencode, magnet, metainfo, resume, trace};
pub use self::models::{choker, timers};
pub use self::mse::mse;
pub use self::picker::picker_model;
pub use self::scenario::swarm_scenario;
pub use self::session::{session_peer, storage_jobs};
pub use self::session_api::session_api;
pub use self::session_hashes::session_hashes;
pub use self::small::{echo, fetch};
pub use self::stateful::{STATEFUL, Stateful};
pub use self::tracker::{tracker_http, tracker_udp};
pub use self::tracker_client::tracker_client;
pub use self::tracker_datagrams::tracker_datagrams;
pub use self::tracker_server::tracker_server;
pub use self::wire::{extension_handshake, handshake, metadata_message, peer_stream};

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its function, of its corpus folder and of its shell.
    pub name: &'static str,
    /// Its body; panics when a promise is broken.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        &[$(Target { name: stringify!($name), run: $name }),*]
    };
}

/// All of them, by name.
pub const TARGETS: &[Target] = targets![
    bencode,
    choker,
    echo,
    extension_handshake,
    fetch,
    gzip,
    handshake,
    http_request,
    http_response,
    magnet,
    metadata_message,
    metainfo,
    mse,
    peer_stream,
    picker_model,
    resume,
    session_api,
    session_hashes,
    session_peer,
    storage_jobs,
    swarm_scenario,
    timers,
    trace,
    tracker_client,
    tracker_datagrams,
    tracker_http,
    tracker_server,
    tracker_udp,
];

/// Longest input that a target looks at, in bytes; more is left out.
pub const INPUT_LEN_MAX: usize = 64 * 1024;
