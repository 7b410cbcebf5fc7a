//! What a tracker is asked and what it answers, whatever the transport.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::url::UrlError;
use crate::bencode;
use crate::http::gzip::GzipError;
use crate::http::url::RedirectError;
use crate::ids::{InfoHash, PeerId};
use crate::machine::StreamError;
use crate::time::Duration;

/// Peers that are taken from one answer; the rest is left out.
pub const PEERS_MAX: usize = 2_000;

/// Characters of a tracker's text that are kept.
pub const TEXT_MAX: usize = 256;

/// Bytes of a `tracker id` that is kept; a longer one is ignored.
pub const TRACKER_ID_MAX: usize = 256;

/// What happened, as far as a tracker wants to know (BEP 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AnnounceEvent {
    /// Nothing: time passed.
    #[default]
    None,
    /// The first announce of a run.
    Started,
    /// The download finished during this run.
    Completed,
    /// The last announce of a run.
    Stopped,
}

/// What we tell a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The swarm. A v2 hash is cut to 20 bytes (BEP 52).
    pub info_hash: InfoHash,
    /// How we call ourselves in that swarm.
    pub peer_id: PeerId,
    /// The port we listen on.
    pub port: u16,
    /// Payload bytes sent since `started`.
    pub uploaded: u64,
    /// Payload bytes received since `started`.
    pub downloaded: u64,
    /// Bytes missing; none: not known yet (a magnet link), which is sent as a very large number.
    pub left: Option<u64>,
    /// Why we announce.
    pub event: AnnounceEvent,
    /// Peers that we would like; none: as the tracker likes.
    pub num_want: Option<u32>,
    /// A secret that stays the same when our address changes.
    pub key: u32,
    /// Our other IPv4 address, to tell a tracker that sees our IPv6 one (BEP 7). HTTP only.
    pub ipv4: Option<Ipv4Addr>,
    /// Our other IPv6 address, the other way round. HTTP only.
    pub ipv6: Option<Ipv6Addr>,
    /// What this tracker gave us as `tracker id`. HTTP only.
    pub tracker_id: Option<Box<[u8]>>,
}

impl AnnounceRequest {
    /// Bytes missing as a number that any tracker can read.
    pub fn left_or_huge(&self) -> u64 {
        self.left.unwrap_or(i64::MAX as u64).min(i64::MAX as u64)
    }
}

/// A peer in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it can be reached. Never port zero, never a group or unspecified address, an IPv4
    /// address never in IPv6 clothes.
    pub address: SocketAddr,
    /// Its name, which compact answers leave out.
    pub id: Option<PeerId>,
}

/// What a tracker answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceResponse {
    /// When it wants to hear from us again; as it said.
    pub interval: Option<Duration>,
    /// How soon it takes the next announce; as it said.
    pub min_interval: Option<Duration>,
    /// To be sent back with every later announce.
    pub tracker_id: Option<Box<[u8]>>,
    /// Peers that have everything.
    pub seeders: Option<u32>,
    /// Peers that do not.
    pub leechers: Option<u32>,
    /// How often it was downloaded to the end.
    pub downloaded: Option<u32>,
    /// At most [`PEERS_MAX`] peers.
    pub peers: Vec<Peer>,
    /// A word of warning, see [`clean_text`].
    pub warning: Option<Box<str>>,
    /// Our address as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
}

/// When a tracker that refused may be asked again (BEP 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryIn {
    /// After this time.
    After(Duration),
    /// Never.
    Never,
}

/// Why an announce came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceError {
    /// The tracker says no.
    #[error("the tracker refused: {reason}")]
    Refused {
        /// Its own words, see [`clean_text`].
        reason: Box<str>,
        /// When to ask again, if it said so.
        retry: Option<RetryIn>,
    },
    /// Its URL is not one that we ask.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Its name has no address.
    #[error("the tracker's host is not known")]
    NoSuchHost,
    /// None of its addresses is one that we ask: of a family that we do not have, or on this
    /// machine and not for an announce.
    #[error("the tracker's address is not one to ask")]
    AddressRefused,
    /// It has no address of the family over which it was to be asked.
    #[error("the tracker has no address of this family")]
    OtherFamily,
    /// Its name holds letters of other alphabets, and those are not asked.
    #[error("the tracker's name is in letters that are not wanted")]
    InternationalName,
    /// No stream to it could be had, or it broke.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// It did not answer in time.
    #[error("the tracker did not answer in time")]
    TimedOut,
    /// Its HTTP cannot be read.
    #[error(transparent)]
    Http(#[from] crate::http::Error),
    /// It answered with an HTTP status that is not 200.
    #[error("the tracker answered with HTTP status {0}")]
    Status(u16),
    /// It sent us elsewhere in a way that we do not follow.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// Its answer is compressed in a way that we did not ask for.
    #[error("the tracker's answer is in an encoding that was not asked for")]
    Encoding,
    /// Its compressed answer is broken, or too long.
    #[error(transparent)]
    Gzip(#[from] GzipError),
    /// Its answer is not bencode.
    #[error("the tracker's answer is not bencode: {0}")]
    Bencode(bencode::Error),
    /// A part of its answer is missing or not what it should be.
    #[error("the tracker's answer is malformed: {0}")]
    Malformed(&'static str),
    /// It announces somewhere from where nobody can tell where it is scraped.
    #[error("the tracker has no place to be scraped at")]
    NoScrape,
    /// Too many announces of ours wait already.
    #[error("too many announces at a time")]
    Busy,
    /// We gave it up ourselves.
    #[error("given up")]
    Cancelled,
}

/// Text from strangers made fit to be shown: at most [`TEXT_MAX`] characters, no control
/// characters, nothing that changes the direction of text.
pub fn clean_text(bytes: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * TEXT_MAX)]);
    let hidden = |c: char| {
        c.is_control()
            || matches!(c,
                '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}')
    };
    let shown: String = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !hidden(*c))
        .take(TEXT_MAX)
        .collect();
    shown.trim().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn terminal_escapes_and_text_direction_do_not_get_through() {
        let hostile = "\x1b[31mred\x07\r\n\u{202e}gnp.exe\u{2066} ok\0";
        assert_eq!(&*clean_text(hostile.as_bytes()), "[31mred  gnp.exe ok");
        assert_eq!(&*clean_text(b"caf\xe9"), "caf\u{fffd}");
        assert_eq!(clean_text("\u{e4}".repeat(5_000).as_bytes()).chars().count(), TEXT_MAX);
    }

    proptest! {
        #[test]
        fn cleaned_text_is_clean(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let text = clean_text(&bytes);
            prop_assert!(text.chars().count() <= TEXT_MAX);
            prop_assert!(!text.chars().any(char::is_control));
        }
    }
}
