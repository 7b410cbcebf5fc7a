//! Counters of a session, and pictures of its torrents and peers. Counters only grow.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::ids::{InfoHash, TorrentId};
use crate::mse::Method;
use crate::time::{Duration, Instant};

/// Counters of a session since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes received on peer connections, all of them.
    pub received_bytes: u64,
    /// Bytes sent on peer connections, all of them.
    pub sent_bytes: u64,
    /// Bytes of blocks received that we asked for and could use.
    pub downloaded_bytes: u64,
    /// Bytes of blocks sent.
    pub uploaded_bytes: u64,
    /// Bytes of blocks received that came twice or that nobody wanted.
    pub wasted_bytes: u64,
    /// Bytes of pieces that turned out wrong.
    pub corrupt_bytes: u64,
    /// How often metadata from peers turned out wrong.
    pub metadata_failed: u64,
    /// Bytes hashed on their way to the disk.
    pub hashed_bytes: u64,
    /// Bytes that the disk took.
    pub written_bytes: u64,
    /// Bytes that were hashed to check what was on disk.
    pub checked_bytes: u64,
    /// Connections that came to a handshake, either way.
    pub peers_connected: u64,
    /// Of these, ones that are in RC4.
    pub peers_encrypted: u64,
    /// Connections that peers opened.
    pub peers_accepted: u64,
    /// Connections closed because the peer broke the protocol.
    pub peers_misbehaved: u64,
    /// Requests for pieces that we do not have.
    pub invalid_requests: u64,
    /// Addresses banned for corrupt data.
    pub peers_banned: u64,
    /// Peers that were too slow with what we asked for.
    pub snubs: u64,
    /// Inputs about streams, sockets and listeners that were gone.
    pub stale_inputs: u64,
    /// Completions of jobs that nobody waited for.
    pub stale_jobs: u64,
    /// Events that the embedder did not take in time.
    pub events_dropped: u64,
    /// Deadlines that were set in the past.
    pub clamped_deadlines: u64,
    /// How often the driver's time ran backwards.
    pub clock_regressions: u64,
    /// Peer connections now.
    pub peers: usize,
    /// Outgoing ones that are not through their handshake.
    pub peers_half_open: usize,
    /// Bytes of content between the wire and the disk now.
    pub buffered_bytes: u64,
}

/// What a torrent is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TorrentState {
    /// Fetching its metadata, of which nothing but a hash is known (BEP 9).
    FetchingMetadata {
        /// Bytes that are here.
        done: u32,
        /// Bytes in all, as peers say.
        total: Option<u32>,
    },
    /// Its files are being made ready.
    Opening,
    /// What is on disk is being checked.
    Checking {
        /// Bytes checked.
        done: u64,
        /// Bytes to check in all.
        total: u64,
    },
    /// Fetching what is missing.
    Downloading,
    /// Everything wanted is here; serving.
    Seeding,
    /// Stopping: telling trackers, saving.
    Stopping,
    /// Paused.
    Paused,
    /// Its storage failed: why.
    Failed(Box<str>),
}

/// What a torrent that makes no progress waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitsFor {
    /// It does not wait.
    Nothing,
    /// No peer is known.
    Peers,
    /// Peers are known, and none is connected.
    Connections,
    /// Connected peers have not sent the metadata.
    Metadata,
    /// No connected peer has what is missing.
    Pieces,
    /// Every peer that has what is missing chokes us.
    Unchoke,
    /// The disk does not keep up.
    Disk,
    /// The rate limit.
    RateLimit,
    /// The disk is full.
    Room,
}

/// A torrent as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TorrentSnapshot {
    /// Its id in this session.
    pub id: TorrentId,
    /// Its name in the swarm.
    pub info_hash: InfoHash,
    /// What it is called.
    pub name: Box<str>,
    /// What it is doing.
    pub state: TorrentState,
    /// It is paused or stopping, and starts of itself when the session is not paused any more.
    pub held: bool,
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// Its metadata are here: of a magnet link, once peers have sent them. Until then it has neither
    /// pieces nor bytes.
    pub has_metadata: bool,
    /// Bytes of content.
    pub total_bytes: u64,
    /// Bytes of content that are here and verified.
    pub have_bytes: u64,
    /// Bytes of pieces that are wanted, here or not.
    pub wanted_bytes: u64,
    /// Bytes of wanted blocks that are not here.
    pub left_bytes: u64,
    /// Pieces.
    pub pieces: u32,
    /// Pieces that are here and verified.
    pub have_pieces: u32,
    /// Wanted pieces that are not.
    pub left_pieces: u32,
    /// Bytes of blocks received, over all runs.
    pub downloaded_bytes: u64,
    /// Bytes of blocks sent, over all runs.
    pub uploaded_bytes: u64,
    /// Bytes per second of blocks that come now.
    pub down_bytes_per_s: u64,
    /// Bytes per second of blocks that go now.
    pub up_bytes_per_s: u64,
    /// Connections through their handshake.
    pub peers: usize,
    /// Of these, complete ones.
    pub seeds: usize,
    /// Peers known, connected or not.
    pub known_peers: usize,
    /// Full copies among the connected peers, in thousandths.
    pub copies_thousandths: u32,
    /// A tracker is still to be told that the download finished in this run.
    pub owes_completed: bool,
    /// Its trackers.
    pub trackers: Vec<TrackerSnapshot>,
}

/// A tracker as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrackerSnapshot {
    /// Its address.
    pub url: Box<str>,
    /// Its tier, from zero (BEP 12).
    pub tier: usize,
    /// What went wrong last, if it did.
    pub error: Option<Box<str>>,
    /// How often in a row it went wrong.
    pub fails: u32,
    /// What it wanted a person to read, with its last answer.
    pub warning: Option<Box<str>>,
    /// Whether it is being asked now.
    pub announcing: bool,
    /// When it is asked next.
    pub next: Option<Instant>,
    /// Complete peers, as it said.
    pub seeders: Option<u32>,
    /// Incomplete peers, as it said.
    pub leechers: Option<u32>,
    /// Downloads to the end, as it said.
    pub downloaded: Option<u32>,
}

/// A peer as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerSnapshot {
    /// Its address.
    pub address: SocketAddr,
    /// Whether we connected to it.
    pub outgoing: bool,
    /// How an encrypted handshake ended, if there was one: in RC4, or in the clear all the same.
    pub encryption: Option<Method>,
    /// What it calls itself.
    pub client: Option<Box<str>>,
    /// Pieces that it has.
    pub pieces: u32,
    /// It will not answer our requests.
    pub choking_us: bool,
    /// We will not answer its requests.
    pub choked: bool,
    /// It has something that we want.
    pub interesting: bool,
    /// It wants something that we have.
    pub interested: bool,
    /// How often it ceased to want anything, modulo 256: whether it did between two snapshots.
    pub interest_ended: u8,
    /// It was too slow with what we asked for.
    pub snubbed: bool,
    /// Blocks that we asked for and that are not here.
    pub requests_out: usize,
    /// Blocks that it asked for and that we did not send.
    pub requests_in: usize,
    /// Bytes of blocks from it.
    pub downloaded_bytes: u64,
    /// Bytes of blocks to it.
    pub uploaded_bytes: u64,
    /// Bytes per second from it.
    pub down_bytes_per_s: u64,
    /// Bytes per second to it.
    pub up_bytes_per_s: u64,
    /// How long it is connected.
    pub connected_for: Duration,
}
