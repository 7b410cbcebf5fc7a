//! What a session is asked for, and what it tells.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::filter::IpFilter;
use super::gate::RateLimits;
use crate::ids::{CommandToken, InfoHash, PieceIndex, TorrentId};
use crate::machine::{Allocation, JobError, Location, SocketError};
use crate::metainfo::{Metainfo, MetainfoError};
use crate::mse::Method;
use crate::peer::CloseReason;
use crate::torrent::picker::Priority;
use crate::torrent::share::{ShareLimit, ShareLimits};
use crate::tracker::udp::Counts;
use crate::wire::BlockRequest;

/// What a session can be asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Command {
    /// Listen for peers: [`Event::Listening`] or [`Event::ListenFailed`].
    Listen(CommandToken, SocketAddr),
    /// Take on a torrent: [`Event::TorrentAdded`] or [`Event::AddFailed`].
    Add(CommandToken, Box<AddTorrent>),
    /// Close its connections, tell its trackers, save its state; [`Event::TorrentPaused`] when
    /// that is done.
    Pause(TorrentId),
    /// Go on with a paused or failed torrent: at once, or when its pause is done, or when the
    /// session is not paused any more.
    Resume(TorrentId),
    /// Pause and forget a torrent: [`Event::TorrentRemoved`].
    Remove(TorrentId, RemoveFiles),
    /// Try these peers.
    AddPeers(TorrentId, Vec<SocketAddr>),
    /// Ask its trackers for peers as soon as they allow.
    Announce(TorrentId),
    /// Limit what peers send us and what we send them, over all torrents.
    SetLimits(RateLimits),
    /// Limit what the peers of one torrent send us and what we send them; the session's limits
    /// hold beside these.
    SetTorrentLimits(TorrentId, RateLimits),
    /// How much each file is wanted, by index, from now on; those that are not named are wanted
    /// as usual. A piece is wanted as much as the file in it that is wanted most. Of a file that
    /// is not wanted, what lies in such a piece is fetched and written all the same.
    SetPriorities(TorrentId, Vec<Priority>),
    /// Whether to begin pieces by index, and not the rarest first.
    SetSequential(TorrentId, bool),
    /// When it has served others enough.
    SetShareLimits(TorrentId, ShareLimits),
    /// Pause every torrent and close every file: [`Event::ShutDown`] when all is saved and told.
    ShutDown,
    /// Ask these trackers from now on, tier by tier (BEP 12), in place of those it has. What is no
    /// tracker URL is left out. Trackers that go are told `stopped` if they know us.
    ReplaceTrackers(TorrentId, Vec<Vec<String>>),
    /// Pause every torrent that is not paused, and start none until [`Command::ResumeSession`]:
    /// [`Event::TorrentPaused`] for each.
    PauseSession,
    /// Go on with the torrents that run but for [`Command::PauseSession`].
    ResumeSession,
    /// Talk to no peer or tracker at these addresses from now on, in place of those blocked so
    /// far. Peers that are connected are let go.
    SetIpFilter(IpFilter),
    /// Ask the tracker of this URL for peers as soon as it allows, also if others serve us.
    AnnounceTo(TorrentId, String),
    /// Ask a tracker what it counts: [`Event::TrackerScraped`] or [`Event::TrackerFailed`]. The
    /// first that does its work is asked, or else the first; without trackers nothing happens.
    Scrape(TorrentId),
}

/// What becomes of the content when a torrent is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemoveFiles {
    /// It stays.
    Keep,
    /// It is deleted.
    Delete,
}

/// A torrent to take on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AddTorrent {
    /// What it is, or what a magnet link says of it ([`Metainfo::from_magnet`]): the rest is then
    /// fetched from peers first.
    pub metainfo: Source,
    /// The folder that holds, or will hold, its content.
    pub folder: Location,
    /// The folder for its resume data; none: none is kept.
    pub state: Option<Location>,
    /// Resume data of an earlier run, if there is any.
    pub resume: Option<Bytes>,
    /// How new files get their size.
    pub allocation: Allocation,
    /// Whether to take the trackers that the torrent names.
    pub own_trackers: bool,
    /// Further trackers, a tier each, before those of the torrent.
    pub trackers: Vec<String>,
    /// Peers to try at once.
    pub peers: Vec<SocketAddr>,
    /// Only serve what is there; write nothing.
    pub seed_only: bool,
    /// Do not start until asked to.
    pub paused: bool,
    /// Whether peers are kept to the session's filter of addresses. Trackers always are.
    pub filtered: bool,
    /// How much each file is wanted, as for [`Command::SetPriorities`].
    pub priorities: Vec<Priority>,
    /// How much all files beyond those are wanted: how many there are is not known of a magnet link.
    pub other_files: Priority,
    /// Whether to begin pieces by index.
    pub sequential: bool,
    /// Limits of its own.
    pub limits: RateLimits,
    /// When it has served others enough.
    pub share: ShareLimits,
}

impl AddTorrent {
    /// A torrent with its own trackers, downloaded into `folder`, its state kept nowhere.
    pub fn new(metainfo: Arc<Metainfo>, folder: Location) -> Self {
        Self {
            metainfo: Source(metainfo),
            folder,
            state: None,
            resume: None,
            allocation: Allocation::Sparse,
            own_trackers: true,
            trackers: Vec::new(),
            peers: Vec::new(),
            seed_only: false,
            paused: false,
            filtered: true,
            priorities: Vec::new(),
            other_files: Priority::NORMAL,
            sequential: false,
            limits: RateLimits::default(),
            share: ShareLimits::default(),
        }
    }
}

/// A shared torrent. In a trace it stands as its bytes, or as a magnet link if no more is known.
#[derive(Clone, Debug)]
pub struct Source(pub Arc<Metainfo>);

impl Serialize for Source {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let bytes = if self.0.info().is_known() {
            self.0.to_bytes()
        } else {
            self.0.to_magnet().to_string().into_bytes()
        };
        Bytes::from(bytes).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = Bytes::deserialize(from)?;
        let magnet = core::str::from_utf8(&bytes).ok().and_then(|link| link.parse().ok());
        let metainfo = match magnet {
            Some(magnet) => Metainfo::from_magnet(&magnet),
            None => Metainfo::from_bytes(&bytes).map_err(serde::de::Error::custom)?,
        };
        Ok(Self(Arc::new(metainfo)))
    }
}

/// What a session tells. State that can be read is not repeated here.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Peers can reach us there.
    Listening(CommandToken, SocketAddr),
    /// They cannot.
    ListenFailed(CommandToken, SocketError),
    /// A torrent was taken on; its files are being made ready.
    TorrentAdded(CommandToken, TorrentId),
    /// A torrent was not taken on.
    AddFailed(CommandToken, AddError),
    /// Peers have sent what a magnet link does not tell ([`Session::metainfo`](super::Session::metainfo)
    /// has it); its files are being made ready.
    MetadataReceived(TorrentId),
    /// What peers have sent is what the magnet link means, and of no use: the torrent is being
    /// paused.
    MetadataFailed(TorrentId, AddError),
    /// What is on disk was checked, and the torrent starts.
    TorrentReady(TorrentId),
    /// These files (by index) are not as they were when resume data was saved; they are checked.
    ContentChanged(TorrentId, Vec<usize>),
    /// Every wanted piece is here, verified and written. Told once, not after a resume.
    TorrentFinished(TorrentId),
    /// Its storage failed; it stopped and can be resumed.
    TorrentFailed(TorrentId, JobError),
    /// The disk has no room for more of it: nothing is fetched until it has, and others are
    /// served. Told once, until there was room again.
    DiskFull(TorrentId, JobError),
    /// The disk takes more of it again.
    DiskHasRoom(TorrentId),
    /// It served others as much as it was to; it is being paused.
    ShareLimitReached(TorrentId, ShareLimit),
    /// It is paused: told, saved.
    TorrentPaused(TorrentId),
    /// It is gone.
    TorrentRemoved(TorrentId),
    /// These files (by index) are complete, with a piece that was fetched. Files that were complete
    /// when the torrent became ready, empty ones and padding are not told.
    FilesFinished(TorrentId, Vec<usize>),
    /// A piece is ours.
    PieceVerified(TorrentId, PieceIndex),
    /// A piece that was here could not be read for a peer, which was refused it. Told once for each
    /// piece until the torrent is started again.
    PieceUnreadable(TorrentId, PieceIndex, JobError),
    /// A piece turned out wrong and will be fetched again.
    PieceFailed(TorrentId, PieceIndex),
    /// A connection is through its handshake, and how the encrypted one ended, if there was one.
    PeerConnected(TorrentId, SocketAddr, Option<Method>),
    /// A connection ended, or an attempt did.
    PeerClosed {
        /// Which torrent, if it came that far.
        torrent: Option<TorrentId>,
        /// Who.
        address: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
    /// A peer asked for a piece that we do not have. It is told so, and closed only if it does that
    /// again and again.
    InvalidRequest {
        /// Which torrent.
        torrent: TorrentId,
        /// Who.
        address: SocketAddr,
        /// What it asked for.
        request: BlockRequest,
    },
    /// A peer sent corrupt data and will not be talked to again.
    PeerBanned(TorrentId, core::net::IpAddr),
    /// A tracker answered.
    TrackerReplied {
        /// For which torrent.
        torrent: TorrentId,
        /// Its address.
        url: Box<str>,
        /// How many peers it named.
        peers: usize,
        /// What it wants a person to read.
        warning: Option<Box<str>>,
    },
    /// A tracker did not answer, or refused.
    TrackerFailed {
        /// For which torrent.
        torrent: TorrentId,
        /// Its address.
        url: Box<str>,
        /// What went wrong, for a person.
        error: Box<str>,
    },
    /// A tracker told what it counts.
    TrackerScraped {
        /// For which torrent.
        torrent: TorrentId,
        /// Its address.
        url: Box<str>,
        /// What it counts.
        counts: Counts,
    },
    /// Resume data was not saved; the torrent goes on.
    SaveFailed(TorrentId, JobError),
    /// Everything is saved and told; the session can be dropped.
    ShutDown,
}

/// Why a torrent was not taken on.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// It is there already, by this hash: the v1 hash, or the first 20 bytes of the v2 hash. A hybrid
    /// torrent is there by both.
    #[error("torrent {0} is already there")]
    Duplicate(InfoHash),
    /// It does not stand up to judgement.
    #[error("{0}")]
    Metainfo(MetainfoError),
    /// The session is shutting down.
    #[error("the session is shutting down")]
    ShuttingDown,
}
