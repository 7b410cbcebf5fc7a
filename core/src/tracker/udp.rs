//! The UDP tracker protocol (BEP 15), both sides, and its options (BEP 41).
//!
//! A codec without state. Everything is big-endian and of fixed layout; a reader checks the
//! length for each action. What is longer than its layout is read as if it were not: later
//! versions add at the end.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use super::announce::{AnnounceEvent, AnnounceRequest, AnnounceResponse};
use super::http::compact_peers;
use crate::ids::{InfoHash, PeerId};
use crate::time::Duration;

/// What stands in place of a connection id in a connect request.
pub const PROTOCOL: u64 = 0x0417_2710_1980;

/// Bytes of an announce request without options.
pub const ANNOUNCE_LEN: usize = 98;

/// Hashes in one scrape: what fits into a datagram of 1,500 bytes.
pub const SCRAPE_MAX: usize = 74;

/// Bytes of URL data that are sent or kept (BEP 41); more is left out.
pub const URL_DATA_MAX: usize = 1_020;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// Names a question, so that its answer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u32);

/// Proves that whoever asks receives what is sent to where it claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// Why a datagram is not of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Shorter than the action it names, or than any.
    #[error("a datagram of {0} bytes is too short")]
    TooShort(usize),
    /// An action that there is none of.
    #[error("unknown action {0}")]
    UnknownAction(u32),
    /// A connect request without the protocol's number.
    #[error("not a connect request")]
    NotConnect,
}

/// Reads big-endian fields from the front.
struct Fields<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Fields<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, len: bytes.len() }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Error::TooShort(self.len))?;
        self.rest = rest;
        Ok(*array)
    }

    fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// For a connection id.
    Connect {
        /// Comes back with the answer.
        transaction: TransactionId,
    },
    /// For peers.
    Announce {
        /// From the answer to a connect request.
        connection: ConnectionId,
        /// Comes back with the answer.
        transaction: TransactionId,
        /// What is announced.
        announce: Announce,
        /// Options (BEP 41), to be read with [`url_data`].
        options: &'a [u8],
    },
    /// For counts.
    Scrape {
        /// From the answer to a connect request.
        connection: ConnectionId,
        /// Comes back with the answer.
        transaction: TransactionId,
        /// Of which swarms: 20 bytes each, a rest left out; at most [`SCRAPE_MAX`] of them.
        hashes: &'a [u8],
    },
}

/// What an announce says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The swarm.
    pub info_hash: InfoHash,
    /// How the client calls itself.
    pub peer_id: PeerId,
    /// Payload bytes received.
    pub downloaded: u64,
    /// Bytes missing.
    pub left: u64,
    /// Payload bytes sent.
    pub uploaded: u64,
    /// Why it announces; an unknown number counts as none.
    pub event: AnnounceEvent,
    /// Where the client claims to be, or zero. Not to be believed.
    pub ip: Ipv4Addr,
    /// A secret of the client's.
    pub key: u32,
    /// Peers wanted; negative: as the tracker likes.
    pub num_want: i32,
    /// The port it listens on.
    pub port: u16,
}

impl Announce {
    /// What BEP 15 has room for.
    pub fn new(request: &AnnounceRequest) -> Self {
        let num_want = request.num_want.map(|want| i32::try_from(want).unwrap_or(i32::MAX));
        Self {
            info_hash: request.info_hash,
            peer_id: request.peer_id,
            downloaded: request.downloaded,
            left: request.left_or_huge(),
            uploaded: request.uploaded,
            event: request.event,
            // Deviation from BEP 15: our address is never told; trackers take the sender's.
            ip: Ipv4Addr::UNSPECIFIED,
            key: request.key,
            num_want: num_want.unwrap_or(-1),
            port: request.port,
        }
    }
}

impl<'a> Request<'a> {
    /// Reads a request.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut fields = Fields::new(bytes);
        let connection = ConnectionId(fields.u64()?);
        let action = fields.u32()?;
        let transaction = TransactionId(fields.u32()?);
        match action {
            CONNECT if connection.0 == PROTOCOL => Ok(Self::Connect { transaction }),
            CONNECT => Err(Error::NotConnect),
            ANNOUNCE => {
                let announce = Announce {
                    info_hash: InfoHash(fields.array()?),
                    peer_id: PeerId(fields.array()?),
                    downloaded: fields.u64()?,
                    left: fields.u64()?,
                    uploaded: fields.u64()?,
                    event: match fields.u32()? {
                        1 => AnnounceEvent::Completed,
                        2 => AnnounceEvent::Started,
                        3 => AnnounceEvent::Stopped,
                        _ => AnnounceEvent::None,
                    },
                    ip: Ipv4Addr::from(fields.u32()?),
                    key: fields.u32()?,
                    num_want: fields.u32()?.cast_signed(),
                    port: fields.u16()?,
                };
                Ok(Self::Announce { connection, transaction, announce, options: fields.rest })
            }
            SCRAPE => {
                let count = (fields.rest.len() / 20).min(SCRAPE_MAX);
                let hashes = &fields.rest[..count * 20];
                Ok(Self::Scrape { connection, transaction, hashes })
            }
            other => Err(Error::UnknownAction(other)),
        }
    }

    /// Appends it to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut head = |connection: u64, action: u32, transaction: &TransactionId| {
            out.extend_from_slice(&connection.to_be_bytes());
            out.extend_from_slice(&action.to_be_bytes());
            out.extend_from_slice(&transaction.0.to_be_bytes());
        };
        match self {
            Self::Connect { transaction } => head(PROTOCOL, CONNECT, transaction),
            Self::Announce { connection, transaction, announce, options } => {
                head(connection.0, ANNOUNCE, transaction);
                out.extend_from_slice(&announce.info_hash.0);
                out.extend_from_slice(&announce.peer_id.0);
                out.extend_from_slice(&announce.downloaded.to_be_bytes());
                out.extend_from_slice(&announce.left.to_be_bytes());
                out.extend_from_slice(&announce.uploaded.to_be_bytes());
                let event: u32 = match announce.event {
                    AnnounceEvent::None => 0,
                    AnnounceEvent::Completed => 1,
                    AnnounceEvent::Started => 2,
                    AnnounceEvent::Stopped => 3,
                };
                out.extend_from_slice(&event.to_be_bytes());
                out.extend_from_slice(&announce.ip.octets());
                out.extend_from_slice(&announce.key.to_be_bytes());
                out.extend_from_slice(&announce.num_want.to_be_bytes());
                out.extend_from_slice(&announce.port.to_be_bytes());
                out.extend_from_slice(options);
            }
            Self::Scrape { connection, transaction, hashes } => {
                head(connection.0, SCRAPE, transaction);
                out.extend_from_slice(hashes);
            }
        }
    }
}

/// Appends path and query of a tracker's URL as options (BEP 41); nothing for a bare `/`.
pub fn write_url_data(out: &mut Vec<u8>, target: &str) {
    let data = target.as_bytes();
    if matches!(data, b"" | b"/") {
        return;
    }
    for part in data[..data.len().min(URL_DATA_MAX)].chunks(255) {
        out.push(2);
        out.push(part.len() as u8);
        out.extend_from_slice(part);
    }
}

/// The URL data in the options of an announce (BEP 41), parts joined, at most [`URL_DATA_MAX`]
/// bytes. An option that runs over the end ends the options.
pub fn url_data(mut options: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        match options {
            [1, rest @ ..] => options = rest,
            [kind, len, rest @ ..] if *kind > 1 && rest.len() >= usize::from(*len) => {
                let (content, behind) = rest.split_at(usize::from(*len));
                if *kind == 2 {
                    let room = URL_DATA_MAX - data.len();
                    data.extend_from_slice(&content[..content.len().min(room)]);
                }
                options = behind;
            }
            _ => return data,
        }
    }
}

/// What a tracker answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// A connection id.
    Connect {
        /// Of the request.
        transaction: TransactionId,
        /// To ask with, for a minute.
        connection: ConnectionId,
    },
    /// Peers.
    Announce {
        /// Of the request.
        transaction: TransactionId,
        /// Seconds until the next announce.
        interval: u32,
        /// Peers that do not have everything.
        leechers: u32,
        /// Peers that do.
        seeders: u32,
        /// In compact form: 6 bytes each over IPv4, 18 over IPv6.
        peers: &'a [u8],
    },
    /// Counts.
    Scrape {
        /// Of the request.
        transaction: TransactionId,
        /// 12 bytes each, in the order of the hashes; to be read with [`scrape_counts`].
        counts: &'a [u8],
    },
    /// A refusal.
    Error {
        /// Of the request.
        transaction: TransactionId,
        /// Why; any bytes.
        reason: &'a [u8],
    },
}

/// What a tracker counts of one swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Peers that have everything.
    pub seeders: u32,
    /// How often it was downloaded to the end.
    pub downloaded: u32,
    /// Peers that do not have everything.
    pub leechers: u32,
}

impl Counts {
    /// As a scrape answer has it.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.seeders.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.downloaded.to_be_bytes());
        bytes[8..].copy_from_slice(&self.leechers.to_be_bytes());
        bytes
    }
}

/// The counts in a scrape answer, in order; a rest at the end is left out.
pub fn scrape_counts(bytes: &[u8]) -> impl Iterator<Item = Counts> + '_ {
    bytes.chunks_exact(12).filter_map(|entry| {
        let mut fields = Fields::new(entry);
        let mut next = || fields.u32().ok();
        Some(Counts { seeders: next()?, downloaded: next()?, leechers: next()? })
    })
}

/// The transaction that an answer belongs to, if `bytes` may be one at all. Tells trackers from
/// other protocols on the same socket, and answers that are cut short from none.
pub fn answers(bytes: &[u8]) -> Option<TransactionId> {
    let mut fields = Fields::new(bytes);
    let action = fields.u32().ok()?;
    let transaction = TransactionId(fields.u32().ok()?);
    (action <= ERROR).then_some(transaction)
}

impl<'a> Response<'a> {
    /// Reads an answer.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut fields = Fields::new(bytes);
        let action = fields.u32()?;
        let transaction = TransactionId(fields.u32()?);
        match action {
            CONNECT => Ok(Self::Connect { transaction, connection: ConnectionId(fields.u64()?) }),
            ANNOUNCE => Ok(Self::Announce {
                transaction,
                interval: fields.u32()?,
                leechers: fields.u32()?,
                seeders: fields.u32()?,
                peers: fields.rest,
            }),
            SCRAPE => Ok(Self::Scrape { transaction, counts: fields.rest }),
            ERROR => Ok(Self::Error { transaction, reason: fields.rest }),
            other => Err(Error::UnknownAction(other)),
        }
    }

    /// Appends it to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut head = |action: u32, transaction: &TransactionId| {
            out.extend_from_slice(&action.to_be_bytes());
            out.extend_from_slice(&transaction.0.to_be_bytes());
        };
        match self {
            Self::Connect { transaction, connection } => {
                head(CONNECT, transaction);
                out.extend_from_slice(&connection.0.to_be_bytes());
            }
            Self::Announce { transaction, interval, leechers, seeders, peers } => {
                head(ANNOUNCE, transaction);
                for count in [interval, leechers, seeders] {
                    out.extend_from_slice(&count.to_be_bytes());
                }
                out.extend_from_slice(peers);
            }
            Self::Scrape { transaction, counts } => {
                head(SCRAPE, transaction);
                out.extend_from_slice(counts);
            }
            Self::Error { transaction, reason } => {
                head(ERROR, transaction);
                out.extend_from_slice(reason);
            }
        }
    }
}

/// An announce's answer as the transport-neutral one. `v6` says by which family it came: that is
/// what the peers are of.
pub fn announce_response(
    interval: u32,
    leechers: u32,
    seeders: u32,
    peers: &[u8],
    v6: bool,
) -> AnnounceResponse {
    let mut response = AnnounceResponse {
        interval: (interval > 0).then(|| Duration::from_secs(u64::from(interval))),
        seeders: Some(seeders),
        leechers: Some(leechers),
        ..AnnounceResponse::default()
    };
    compact_peers(&mut response.peers, peers, v6);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T: TransactionId = TransactionId(0x1234_5678);
    const C: ConnectionId = ConnectionId(0x0102_0304_0506_0708);

    fn written(request: &Request<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        request.write(&mut out);
        out
    }

    #[test]
    fn the_layout_is_that_of_the_specification() {
        let connect = written(&Request::Connect { transaction: T });
        assert_eq!(connect, b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0\x12\x34\x56\x78");
        let announce = Announce {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId([2; 20]),
            downloaded: 3,
            left: 4,
            uploaded: 5,
            event: AnnounceEvent::Started,
            ip: Ipv4Addr::UNSPECIFIED,
            key: 6,
            num_want: -1,
            port: 0x1ae1,
        };
        let request = Request::Announce { connection: C, transaction: T, announce, options: b"" };
        let bytes = written(&request);
        assert_eq!(bytes.len(), ANNOUNCE_LEN);
        assert_eq!(bytes[8..12], [0, 0, 0, 1]);
        assert_eq!((bytes[63], bytes[71], bytes[79], bytes[83]), (3, 4, 5, 2));
        assert_eq!(bytes[92..], [0xff, 0xff, 0xff, 0xff, 0x1a, 0xe1]);
        assert_eq!(Request::parse(&bytes), Ok(request));
    }

    #[test]
    fn each_action_has_its_least_length() {
        for (action, least) in [(0, 16), (1, ANNOUNCE_LEN), (2, 16)] {
            let mut bytes = [0_u8; ANNOUNCE_LEN];
            bytes[..8].copy_from_slice(&PROTOCOL.to_be_bytes());
            bytes[11] = action;
            assert!(Request::parse(&bytes[..least]).is_ok());
            assert_eq!(Request::parse(&bytes[..least - 1]), Err(Error::TooShort(least - 1)));
        }
        for (action, least) in [(0, 16), (1, 20), (2, 8), (3, 8)] {
            let mut bytes = [0_u8; 20];
            bytes[3] = action;
            assert!(Response::parse(&bytes[..least]).is_ok());
            assert_eq!(Response::parse(&bytes[..least - 1]), Err(Error::TooShort(least - 1)));
        }
    }

    #[test]
    fn url_data_of_any_length_comes_back_joined() {
        for len in [1, 2, 255, 256, 600, 2_000] {
            let target: std::string::String = core::iter::repeat_n('x', len).collect();
            let mut options = alloc::vec![1];
            write_url_data(&mut options, &target);
            options.extend_from_slice(&[7, 2, 0, 0, 0]);
            assert_eq!(url_data(&options), &target.as_bytes()[..len.min(URL_DATA_MAX)]);
        }
        let mut options = Vec::new();
        write_url_data(&mut options, "/");
        assert!(options.is_empty());
        assert_eq!(url_data(&[2, 5, b'a']), b"");
    }

    #[test]
    fn peers_are_of_the_family_that_the_answer_came_by() {
        let v4 = announce_response(0, 1, 2, &[10, 0, 0, 1, 0, 5, 9], false);
        assert_eq!(v4.peers.len(), 1);
        assert_eq!((v4.leechers, v4.seeders, v4.interval), (Some(1), Some(2), None));
        let mut v6 = [0_u8; 18];
        v6[0] = 0x20;
        v6[17] = 9;
        assert_eq!(announce_response(9, 0, 0, &v6, true).peers.len(), 1);
    }

    proptest! {
        #[test]
        fn what_parses_is_written_back_the_same(
            action in 0_u32..5,
            rest in prop::collection::vec(any::<u8>(), 0..140),
        ) {
            let bytes = [&PROTOCOL.to_be_bytes()[..], &action.to_be_bytes(), &rest].concat();
            if let Ok(request) = Request::parse(&bytes) {
                let again = written(&request);
                prop_assert_eq!(Request::parse(&again), Ok(request));
            }
            let bytes = [&action.to_be_bytes()[..], &rest].concat();
            if let Ok(response) = Response::parse(&bytes) {
                let mut again = Vec::new();
                response.write(&mut again);
                prop_assert_eq!(Response::parse(&again), Ok(response));
            }
            prop_assert_eq!(answers(&bytes).is_some(), bytes.len() >= 8 && action <= 3);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..140)) {
            let _ = Request::parse(&bytes);
            let _ = Response::parse(&bytes);
            let _ = url_data(&bytes);
            let _ = scrape_counts(&bytes).count();
            let _ = announce_response(1, 2, 3, &bytes, true);
        }
    }
}
