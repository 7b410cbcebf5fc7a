//! One connection to a peer: what both sides said, what we asked for and what they did.
//!
//! ```text
//!   connecting --> greeting --> open --> closed, for a CloseReason
//!        (outgoing)   ^
//!   accepted ---------+
//! ```
//!
//! A [`Peer`] holds the state of the conversation and keeps its rules; it owns no stream, no
//! pieces and no policy. What the messages mean for a torrent is `torrent::transfer`'s part.
//! BEP 3, BEP 6 (Fast extension), BEP 10 (extension protocol).

mod allowed;
mod greeting;
mod pipeline;
mod reason;
mod refusals;
mod uploads;

pub(crate) use allowed::{ALLOWED_MAX, Allowed, allowed_set};
pub(crate) use greeting::{Greeting, Layer};
pub(crate) use pipeline::Pipeline;
pub use reason::{CloseReason, LimitReached, LocalReason, Misbehaviour, Refusal};
pub(crate) use refusals::Refusals;
pub use refusals::{REFUSALS_MAX, REFUSALS_TOLERATED};
pub(crate) use uploads::{
    INVALID_MAX, OVERFLOW_MAX, QUEUE_MAX as REQUESTS_MAX, REQUEST_LEN_MAX, Run, Uploads,
};

use alloc::boxed::Box;
use core::net::SocketAddr;
use core::num::NonZeroU8;

use crate::bitfield::Bitfield;
use crate::ids::{PeerId, TorrentId};
use crate::mse::{Cipher, Method};
use crate::rate::Rate;
use crate::time::{Duration, Instant};
use crate::torrent::choker::RATE_WINDOW;
use crate::torrent::picker::{Pieces, Standing};
use crate::wire::{Decoder, Reserved};

/// How long a connection may take to come up and shake hands.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// A peer that says nothing for this long is gone (BEP 3 practice: two minutes, and some slack).
pub const INACTIVITY_TIMEOUT: Duration = Duration::from_secs(150);

/// We say something at least this often (BEP 3: keep-alives are sent once every two minutes).
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(100);

/// A peer that we asked for blocks and that sent none for this long is snubbed: its requests go to
/// others, and it is asked for one block at a time until it delivers.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A peer that is unchoked and interested, and asks us, who are complete, for nothing for this long,
/// holds a slot that others could use: it is closed. Time in which it was sent blocks counts from
/// their end.
pub const NO_REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// How often it is judged again whether a peer may stay that neither side is interested in.
pub const BORED_AGAIN: Duration = Duration::from_secs(10);

/// A block on its way keeps its sender from being snubbed as long as so many bytes of it come
/// within [`REQUEST_TIMEOUT`]: a slow block is not a dead one, one that trickles in byte by byte
/// is.
pub const BLOCK_PROGRESS_MIN: u32 = 2 * 1024;

/// Messages other than blocks and requests that a peer may send per second, on average, before it
/// is closed; a burst of [`CHATTER_BURST`] is free.
pub const CHATTER_PER_S: u32 = 200;

/// See [`CHATTER_PER_S`]. Large enough for one `have` a piece of a large torrent.
pub const CHATTER_BURST: u32 = 200_000;

/// Bytes of blocks that we did not ask for before a peer is closed, beside a sixteenth of what it
/// sent in all: requests and cancels cross on the way.
pub const UNREQUESTED_MAX: u64 = 4 * 1024 * 1024;

/// What a peer has, as far as it said.
#[derive(Clone, Debug)]
pub(crate) enum Have {
    /// Everything.
    All,
    /// These pieces.
    Some(Bitfield),
}

impl Have {
    pub(crate) fn pieces(&self) -> Pieces<'_> {
        match self {
            Self::All => Pieces::All,
            Self::Some(bits) => Pieces::Words(bits.words()),
        }
    }

    pub(crate) fn is_seed(&self) -> bool {
        match self {
            Self::All => true,
            Self::Some(bits) => bits.all() && !bits.is_empty(),
        }
    }

    pub(crate) fn count(&self, pieces: u32) -> u32 {
        match self {
            Self::All => pieces,
            Self::Some(bits) => bits.count(),
        }
    }
}

/// How far a connection is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// It is to come up, or the two shake hands.
    Greeting(Box<Greeting>),
    /// Both sides shook hands; messages flow.
    Open,
}

/// One connection. At most 512 bytes while it idles, with what it owns, and one bit per piece; an
/// encrypted one has the state of its cipher beside that.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) outgoing: bool,
    /// Set once we know which torrent it is about.
    pub(crate) torrent: Option<TorrentId>,
    /// Place in its torrent's list.
    pub(crate) place: u32,
    pub(crate) stage: Stage,
    /// What everything is encrypted with, both ways, the rest of the handshake included.
    pub(crate) cipher: Option<Box<Cipher>>,
    /// How the encrypted handshake ended, if there was one.
    pub(crate) encryption: Option<Method>,
    pub(crate) decoder: Decoder,
    pub(crate) id: PeerId,
    pub(crate) reserved: Reserved,
    pub(crate) have: Have,
    /// Whether it told us what it has, or sent anything else that closes that door.
    pub(crate) told_have: bool,

    pub(crate) choking_us: bool,
    pub(crate) interested_in_us: bool,
    /// How often that ended, modulo 256.
    pub(crate) interest_ended: u8,
    pub(crate) we_choke: bool,
    pub(crate) we_are_interested: bool,
    /// A piece that makes it interesting; see `Picker::interesting_piece`.
    pub(crate) wanted_piece: Option<u32>,
    pub(crate) snubbed: bool,
    pub(crate) standing: Standing,
    /// It delivered something that we asked for since it last unchoked us.
    pub(crate) delivers: bool,
    /// Took part in a piece that turned out wrong: fetches whole pieces on its own for now.
    pub(crate) suspect: bool,
    /// It will never want anything of us (BEP 21).
    pub(crate) upload_only: bool,

    pub(crate) pipeline: Option<Box<Pipeline>>,
    pub(crate) uploads: Option<Box<Uploads>>,
    /// Pieces that it lets us ask for while it chokes us (BEP 6).
    pub(crate) allowed: Option<Box<Allowed>>,
    /// What it refused while it did not choke us.
    pub(crate) refusals: Option<Box<Refusals>>,
    /// Name and version that it gives itself (BEP 10).
    pub(crate) client: Option<Box<str>>,
    /// By which id it wants to be sent messages about metadata (BEP 9).
    pub(crate) metadata_id: Option<NonZeroU8>,
    /// Requests that it allows to be outstanding (BEP 10, `reqq`).
    pub(crate) request_queue: u16,

    pub(crate) received: Rate,
    pub(crate) sent: Rate,
    /// Bytes of blocks, each way.
    pub(crate) downloaded: u64,
    pub(crate) uploaded: u64,
    pub(crate) unrequested: u64,
    pub(crate) chatter: u32,
    /// Bytes of the block on its way that `last_block` knows of.
    pub(crate) block_progress: u32,
    pub(crate) connected_at: Instant,
    pub(crate) last_received: Instant,
    pub(crate) last_sent: Instant,
    pub(crate) last_block: Instant,
    /// When it last asked for a block, got the end of one, or began to be able to ask.
    pub(crate) asked_at: Instant,
    /// When it is judged whether it may stay, if neither side is interested in the other.
    pub(crate) bored_at: Instant,
    pub(crate) unchoked_at: Option<Instant>,
    pub(crate) uploaded_at_unchoke: u64,
    /// Bytes of blocks from it, one and two choke rounds ago.
    downloaded_then: [Coarse; 2],
}

/// A count of bytes in 256s, modulo 2^40 bytes: enough to tell what came in two choke rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Coarse(u32);

impl Coarse {
    const UNIT: u64 = 256;

    const fn of(bytes: u64) -> Self {
        Self((bytes / Self::UNIT) as u32)
    }

    const fn since(self, then: Self) -> u64 {
        self.0.wrapping_sub(then.0) as u64 * Self::UNIT
    }
}

/// Requests that a peer allows if it does not say (libtorrent's default is 250).
pub(crate) const REQUEST_QUEUE_DEFAULT: u16 = 250;

impl Peer {
    /// Whether the connection is one of the v2 swarm: by its handshake, or upgraded (BEP 52).
    pub(crate) const fn speaks_v2(&self) -> bool {
        self.reserved.v2_upgrade()
    }

    pub(crate) fn new(now: Instant, address: SocketAddr, torrent: Option<TorrentId>) -> Self {
        Self {
            address,
            outgoing: torrent.is_some(),
            torrent,
            place: 0,
            stage: Stage::Greeting(Greeting::new(torrent.is_some()).into()),
            cipher: None,
            encryption: None,
            decoder: Decoder::new(),
            id: PeerId([0; 20]),
            reserved: Reserved::NONE,
            have: Have::Some(Bitfield::new(0)),
            told_have: false,
            choking_us: true,
            interested_in_us: false,
            interest_ended: 0,
            we_choke: true,
            we_are_interested: false,
            wanted_piece: None,
            snubbed: false,
            standing: Standing::New,
            delivers: false,
            suspect: false,
            upload_only: false,
            pipeline: None,
            uploads: None,
            allowed: None,
            refusals: None,
            client: None,
            metadata_id: None,
            request_queue: REQUEST_QUEUE_DEFAULT,
            received: Rate::new(now),
            sent: Rate::new(now),
            downloaded: 0,
            uploaded: 0,
            unrequested: 0,
            chatter: 0,
            block_progress: 0,
            connected_at: now,
            last_received: now,
            last_sent: now,
            last_block: now,
            asked_at: now,
            bored_at: now,
            unchoked_at: None,
            uploaded_at_unchoke: 0,
            downloaded_then: [Coarse(0); 2],
        }
    }

    /// Whether messages flow.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// What is known of it before messages flow.
    pub(crate) const fn greeting(&self) -> Option<&Greeting> {
        match &self.stage {
            Stage::Greeting(greeting) => Some(greeting),
            Stage::Open => None,
        }
    }

    /// What is known of it before messages flow.
    pub(crate) const fn greeting_mut(&mut self) -> Option<&mut Greeting> {
        match &mut self.stage {
            Stage::Greeting(greeting) => Some(greeting),
            Stage::Open => None,
        }
    }

    /// Whether both sides speak the Fast extension (BEP 6).
    pub(crate) const fn fast(&self) -> bool {
        self.reserved.fast()
    }

    /// Blocks that we asked for and that are not here.
    pub(crate) fn outstanding(&self) -> usize {
        self.pipeline.as_ref().map_or(0, |pipeline| pipeline.len())
    }

    /// What it sent us in the last two choke rounds, in bytes per second of payload.
    pub(crate) fn given(&self, now: Instant) -> u64 {
        let window = RATE_WINDOW.min(now.saturating_since(self.connected_at));
        let bytes = Coarse::of(self.downloaded).since(self.downloaded_then[1]);
        bytes / window.as_secs().max(1)
    }

    /// A choke round passed.
    pub(crate) const fn note_round(&mut self) {
        self.downloaded_then = [Coarse::of(self.downloaded), self.downloaded_then[0]];
    }

    /// Counts a message that is neither a block nor a request against the peer's budget.
    pub(crate) fn count_chatter(&mut self, now: Instant) -> Result<(), CloseReason> {
        self.chatter += 1;
        let seconds = now.saturating_since(self.connected_at).as_secs();
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        let allowed = seconds.saturating_mul(CHATTER_PER_S).saturating_add(CHATTER_BURST);
        if self.chatter > allowed {
            return Err(CloseReason::Misbehaved(Misbehaviour::MessageFlood));
        }
        Ok(())
    }

    /// Takes note of a block of which `here` bytes have come.
    pub(crate) fn on_block_progress(&mut self, here: u32, now: Instant) {
        if here >= self.block_progress + BLOCK_PROGRESS_MIN {
            self.block_progress = here;
            self.last_block = now;
        }
    }

    /// Counts a block that we did not ask for against the peer's budget.
    pub(crate) fn count_unrequested(&mut self, bytes: usize) -> Result<(), CloseReason> {
        self.unrequested += bytes as u64;
        if self.unrequested > UNREQUESTED_MAX + self.downloaded / 16 {
            return Err(CloseReason::Misbehaved(Misbehaviour::UnrequestedBlocks));
        }
        Ok(())
    }

    /// Whether it could ask us for blocks, and wants some.
    pub(crate) const fn may_ask(&self) -> bool {
        self.interested_in_us && !self.we_choke
    }

    /// Whether it may want a slot or has one, or may be asked for blocks, or was. Of any other
    /// nothing is to be expected before it says something.
    pub(crate) fn is_active(&self) -> bool {
        self.interested_in_us
            || !self.we_choke
            || !self.choking_us
            || self.allowed.is_some()
            || self.outstanding() > 0
    }

    /// It wants something of us.
    pub(crate) fn begins_interest(&mut self, now: Instant) {
        if !self.interested_in_us {
            self.asked_at = now;
        }
        self.interested_in_us = true;
    }

    /// It wants nothing of us, and is judged then if that stays so on both sides.
    pub(crate) fn ends_interest(&mut self, bored_at: Instant) {
        if self.interested_in_us {
            self.interest_ended = self.interest_ended.wrapping_add(1);
            self.bored_at = bored_at;
        }
        self.interested_in_us = false;
    }

    /// Whether neither side has anything for the other.
    pub(crate) const fn is_bored(&self) -> bool {
        !self.interested_in_us && !self.we_are_interested
    }

    /// When this connection's own timer is due.
    pub(crate) fn deadline(&self) -> Instant {
        if !self.is_open() {
            return self.connected_at + HANDSHAKE_TIMEOUT;
        }
        let mut due =
            (self.last_received + INACTIVITY_TIMEOUT).min(self.last_sent + KEEP_ALIVE_INTERVAL);
        if self.outstanding() > 0 {
            due = due.min(self.last_block + REQUEST_TIMEOUT);
        }
        if self.may_ask() {
            due = due.min(self.asked_at + NO_REQUEST_TIMEOUT);
        }
        if self.is_bored() {
            due = due.min(self.bored_at);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Peer>() <= 392, "{}", size_of::<Peer>());
    }

    #[test]
    fn a_block_that_trickles_in_does_not_count_as_one_that_comes() {
        let start = Instant::ORIGIN;
        let address = "192.0.2.1:1".parse().expect("an address");
        let mut peer = Peer::new(start, address, None);
        let later = start + Duration::from_secs(1);
        peer.on_block_progress(BLOCK_PROGRESS_MIN - 1, later);
        assert_eq!(peer.last_block, start);
        peer.on_block_progress(BLOCK_PROGRESS_MIN, later);
        assert_eq!(peer.last_block, later);
        peer.on_block_progress(BLOCK_PROGRESS_MIN + 1, later + REQUEST_TIMEOUT);
        assert_eq!(peer.last_block, later);
    }

    #[test]
    fn what_a_peer_gave_is_judged_over_two_rounds() {
        let start = Instant::ORIGIN;
        let address = "192.0.2.1:1".parse().expect("an address");
        let mut peer = Peer::new(start, address, None);
        peer.downloaded = 51_200;
        assert_eq!(peer.given(start + Duration::from_secs(5)), 10_240);
        peer.note_round();
        peer.downloaded = 307_200;
        assert_eq!(peer.given(start + Duration::from_secs(25)), 15_360);
        peer.note_round();
        assert_eq!(peer.given(start + Duration::from_secs(35)), 12_800);
    }

    #[test]
    fn a_flood_of_small_messages_runs_out_of_budget() {
        let now = Instant::ORIGIN;
        let address = "192.0.2.1:1".parse().expect("an address");
        let mut peer = Peer::new(now, address, None);
        let flood = (0..=CHATTER_BURST).map(|_| peer.count_chatter(now)).last();
        let reason = CloseReason::Misbehaved(Misbehaviour::MessageFlood);
        assert_eq!(flood, Some(Err(reason)));
    }
}
