//! What a session is set to.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::ids::PeerId;
use crate::mse::Method;
use crate::rng::Rng;
use crate::time::Duration;
use crate::tracker::ways::Family;

/// Settings of a session. All have sensible defaults; change fields and hand it over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// First eight bytes of our peer id, in the style of BEP 20.
    pub peer_id_prefix: [u8; 8],
    /// What we call ourselves to peers (BEP 10) and HTTP trackers.
    pub user_agent: alloc::string::String,
    /// Tell neither peers nor public trackers what program this is, nor private ones our addresses.
    /// Private trackers are told the program all the same, as many let in only some.
    pub anonymous: bool,
    /// Peer connections over all torrents.
    pub peers_max: usize,
    /// Peer connections of one torrent.
    pub torrent_peers_max: usize,
    /// Outgoing connections that are not through their handshake.
    pub half_open_max: usize,
    /// Peers of one torrent that may download from us at a time, the optimistic ones included.
    pub upload_slots: usize,
    /// Pieces that a peer may fetch while it is choked, so that it has something to give (BEP 6);
    /// at most a hundred. They are served beside the upload slots, which is why there are none
    /// unless asked for.
    pub allowed_fast_pieces: u32,
    /// How long a peer may stay that neither side is interested in, once two thirds of the places
    /// are taken. Seconds.
    pub no_interest_timeout_s: u32,
    /// Whether connections to peers are encrypted.
    pub encryption: Encryption,
    /// Bytes per second that we receive from peers, over all torrents; none: no limit.
    pub down_bytes_per_s: Option<u64>,
    /// Bytes per second that we send to peers, over all torrents; none: no limit.
    pub up_bytes_per_s: Option<u64>,
    /// Bytes of content that may be on their way to us or to the disk.
    pub buffer_bytes_max: usize,
    /// Content that is hashed at a time while checking what is on disk, in bytes.
    pub check_bytes_max: usize,
    /// Announce to every tracker of a tier, not only to the first that answers. Not for private
    /// torrents (BEP 27).
    pub announce_to_all_trackers: bool,
    /// Announce in every tier, not only in the first with a tracker that answers. Not for private
    /// torrents (BEP 27).
    pub announce_to_all_tiers: bool,
    /// Ask trackers whose names are written in other alphabets than ours, which look like others to
    /// those who do not know them; also when a redirect leads there.
    pub international_names: bool,
    /// Begin as after [`Command::PauseSession`](super::Command::PauseSession).
    pub paused: bool,
    /// Our address for IPv4 connections; with only one of the two set, the other family is not
    /// used at all.
    pub bind_v4: Option<Ipv4Addr>,
    /// Our address for IPv6 connections.
    pub bind_v6: Option<Ipv6Addr>,
    /// A mistake that the session is to make. For tests of tests alone.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<PlantedBug>,
}

/// A mistake that was put here on purpose: a simulator that is worth something finds it.
///
/// Each is in the one place where such a mistake would be made. They are compiled in with the
/// feature `planted-bugs` alone, which nothing that is published turns on, and even then none is
/// made unless it is asked for.
#[cfg(feature = "planted-bugs")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlantedBug {
    /// [`TitForTat`](crate::torrent::choker::TitForTat) forgets between two rounds who holds a slot
    /// and whose turn it was, so that slots flap.
    ChokerForgets,
    /// A wakeup that comes late, because the process was stopped, goes back to where it was in
    /// the queue, which is in the past ([`Timers`](crate::timers::Timers)).
    TimerInThePast,
    /// Resume data is saved without a flush before it: it claims pieces that a power cut takes
    /// back.
    ResumeClaimsTooMuch,
}

/// Whether connections to peers are encrypted ([`crate::mse`]).
///
/// Who does not like how we begin mostly closes without a word; then the other way is tried at
/// once, if there is one, and what worked is tried first the next time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Encryption {
    /// Never: neither do we encrypt, nor may others.
    Off,
    /// As others like it. We begin without, and encrypt with who refuses that.
    #[default]
    Allow,
    /// In RC4 where others can. We begin so, and do without with who refuses that.
    Prefer,
    /// In RC4, or not at all.
    Require,
}

impl Encryption {
    /// Whether a connection that we open is encrypted, at the first attempt or the second.
    pub(crate) const fn dials_encrypted(self, second: bool) -> bool {
        match self {
            Self::Off => false,
            Self::Allow => second,
            Self::Prefer => !second,
            Self::Require => true,
        }
    }

    /// Whether there is another way to begin.
    pub(crate) const fn has_second(self) -> bool {
        matches!(self, Self::Allow | Self::Prefer)
    }

    /// Whether somebody may connect without encryption.
    pub(crate) const fn takes_plain(self) -> bool {
        !matches!(self, Self::Require)
    }

    /// Whether somebody may connect encrypted.
    pub(crate) const fn takes_encrypted(self) -> bool {
        !matches!(self, Self::Off)
    }

    /// What may follow an encrypted handshake that we begin.
    pub(crate) const fn offers(self) -> &'static [Method] {
        match self {
            // Who can do without has both to choose from.
            Self::Off | Self::Allow => &[Method::Plaintext, Method::Rc4],
            Self::Prefer | Self::Require => &[Method::Rc4],
        }
    }

    /// What may follow an encrypted handshake that another begins, the best first.
    pub(crate) const fn accepts(self) -> &'static [Method] {
        match self {
            Self::Off | Self::Allow => &[Method::Plaintext, Method::Rc4],
            Self::Prefer => &[Method::Rc4, Method::Plaintext],
            Self::Require => &[Method::Rc4],
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            peer_id_prefix: *b"-TE0100-",
            user_agent: concat!("teem/", env!("CARGO_PKG_VERSION")).into(),
            anonymous: false,
            peers_max: 200,
            torrent_peers_max: 50,
            half_open_max: 30,
            upload_slots: 8,
            allowed_fast_pieces: 0,
            no_interest_timeout_s: 600,
            encryption: Encryption::Allow,
            down_bytes_per_s: None,
            up_bytes_per_s: None,
            buffer_bytes_max: 24 * 1024 * 1024,
            check_bytes_max: 64 * 1024 * 1024,
            announce_to_all_trackers: false,
            announce_to_all_tiers: false,
            international_names: true,
            paused: false,
            bind_v4: None,
            bind_v6: None,
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }
}

impl Config {
    /// Whether this mistake is to be made.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn has_planted(&self, bug: PlantedBug) -> bool {
        self.planted == Some(bug)
    }

    pub(crate) const fn no_interest_timeout(&self) -> Duration {
        Duration::from_secs(self.no_interest_timeout_s as u64)
    }

    /// Whether connections to this address may be made.
    pub(crate) const fn reaches(&self, address: IpAddr) -> bool {
        self.has(Family::of(address))
    }

    /// Whether connections to addresses of this family may be made.
    pub(crate) const fn has(&self, family: Family) -> bool {
        let unset = self.bind_v4.is_none() && self.bind_v6.is_none();
        unset
            || match family {
                Family::V4 => self.bind_v4.is_some(),
                Family::V6 => self.bind_v6.is_some(),
            }
    }

    /// The address to connect from to reach another, if that matters.
    pub(crate) fn bind_for(&self, address: IpAddr) -> Option<SocketAddr> {
        let from = match address {
            IpAddr::V4(_) => self.bind_v4.map(IpAddr::from),
            IpAddr::V6(_) => self.bind_v6.map(IpAddr::from),
        };
        from.map(|from| SocketAddr::new(from, 0))
    }

    pub(crate) fn peer_id(&self, rng: &mut Rng) -> PeerId {
        const LETTERS: &[u8; 62] =
            b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let mut id = [0; 20];
        id[..8].copy_from_slice(&self.peer_id_prefix);
        for byte in &mut id[8..] {
            *byte = *rng.choose(LETTERS).expect("letters");
        }
        PeerId(id)
    }
}
