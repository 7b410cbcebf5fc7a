//! Values made from unstructured bytes, for fuzzers: `arbitrary::Arbitrary` for wire types, for
//! what machines are told, and for ids. Behind the feature `arbitrary`, which links std.
//!
//! What names something is small and dense (a few slots, generations, pieces, addresses, hashes),
//! so that operations meet the same thing; now and then it is any value at all. Types with
//! invariants are made through their own constructors, so a value made here is one that could have
//! been made anywhere.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;

use crate::bitfield::Bitfield;
use crate::chunks::Chunks;
use crate::hash::{Digest, HashAlgorithm, HashState, Stream, Tree};
use crate::ids::{
    CommandToken, InfoHash, InfoHashV2, JobId, Key, ListenerId, PeerId, PieceIndex, SocketId,
    StreamId, TimerId, TorrentId,
};
use crate::machine::{
    Datagram, Ecn, FileStat, Incoming, Input, JobError, JobErrorKind, JobOutput, ListenerInput,
    SocketError, SocketInput, StreamError, StreamInput, TlsError, TransmitLimit,
};
use crate::time::{Duration, Instant, UnixTime};
use crate::tracker::announce::{
    AnnounceEvent, AnnounceRequest, AnnounceResponse, Peer, clean_text,
};
use crate::tracker::udp::{Announce, ConnectionId, Counts, Request, Response, TransactionId};
use crate::wire::{
    BlockRequest, ClientName, Extension, ExtensionHandshake, ExtensionIds, Handshake, HashMessage,
    HashRequest, Limits, Message, Reserved,
};

/// Slots, pieces, tokens and the like are below this, mostly.
const DENSE: u32 = 8;

/// Bytes of a payload at most.
const PAYLOAD_LEN_MAX: usize = 4 * 1024;

/// Items of a list at most.
const ITEMS_MAX: usize = 16;

/// Bits of a bitfield at most.
const BITS_MAX: u32 = 512;

/// Mostly below [`DENSE`], sometimes any number.
fn dense(u: &mut Unstructured<'_>) -> Result<u32> {
    let byte = u8::arbitrary(u)?;
    if byte < 0xf0 { Ok(u32::from(byte) % DENSE) } else { u.arbitrary() }
}

/// Numbers near those that matter to the protocol, sometimes any.
fn length(u: &mut Unstructured<'_>) -> Result<u32> {
    const BLOCK: u32 = 16 * 1024;
    let byte = u8::arbitrary(u)?;
    Ok(match byte % 8 {
        0 => u.arbitrary()?,
        1 => u32::from(byte / 8),
        2 => BLOCK - 1,
        3 => BLOCK + 1,
        _ => BLOCK,
    })
}

fn payload(u: &mut Unstructured<'_>) -> Result<Bytes> {
    slice(u).map(Bytes::copy_from_slice)
}

fn slice<'a>(u: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    let byte = u8::arbitrary(u)?;
    let len = if byte < 0xf0 { usize::from(byte) } else { usize::from(u16::arbitrary(u)?) };
    u.bytes(len.min(u.len()).min(PAYLOAD_LEN_MAX))
}

fn list<'a, T: Arbitrary<'a>>(u: &mut Unstructured<'a>) -> Result<Vec<T>> {
    let len = usize::from(u8::arbitrary(u)?) % (ITEMS_MAX + 1);
    let mut items = Vec::new();
    for _ in 0..len {
        if u.is_empty() {
            break;
        }
        items.push(u.arbitrary()?);
    }
    Ok(items)
}

/// One of a few addresses, of both families, the odd ones among them.
fn ip(u: &mut Unstructured<'_>) -> Result<IpAddr> {
    let byte = u8::arbitrary(u)?;
    let host = byte / 16;
    Ok(match byte % 16 {
        0 => IpAddr::V4(u.arbitrary()?),
        1 => IpAddr::V6(u.arbitrary()?),
        2 => Ipv4Addr::LOCALHOST.into(),
        3 => Ipv4Addr::UNSPECIFIED.into(),
        4 => Ipv6Addr::LOCALHOST.into(),
        5 => Ipv4Addr::new(10, 0, 0, host).to_ipv6_mapped().into(),
        6 => Ipv4Addr::new(224, 0, 0, host).into(),
        7..=9 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)).into(),
        _ => Ipv4Addr::new(192, 0, 2, host).into(),
    })
}

fn address(u: &mut Unstructured<'_>) -> Result<SocketAddr> {
    let ip = ip(u)?;
    let byte = u8::arbitrary(u)?;
    let port = match byte % 8 {
        0 => 0,
        1 => u.arbitrary()?,
        _ => 6881 + u16::from(byte / 64),
    };
    Ok(SocketAddr::new(ip, port))
}

fn named<const N: usize>(u: &mut Unstructured<'_>) -> Result<[u8; N]> {
    let byte = u8::arbitrary(u)?;
    if byte < 0xf0 { Ok([byte % DENSE as u8; N]) } else { u.arbitrary() }
}

macro_rules! ids {
    ($($name:ident),*) => {$(
        impl<'a> Arbitrary<'a> for $name {
            fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
                let slot = dense(u)?;
                let generation = dense(u)?;
                Ok(Self::from_parts(slot, generation % (1 << 31) + 1))
            }
        }
    )*};
}

ids!(StreamId, SocketId, ListenerId, JobId, TorrentId, TimerId);

macro_rules! names {
    ($($name:ident),*) => {$(
        impl<'a> Arbitrary<'a> for $name {
            fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
                named(u).map(Self)
            }
        }
    )*};
}

names!(InfoHash, InfoHashV2, PeerId);

/// `Type { field, .. }`, each field by its own `Arbitrary`, but for those given.
macro_rules! fields {
    ($($name:ident $(<$life:lifetime>)? { $($field:ident $(: $make:expr)?),* $(,)? })*) => {$(
        impl<'a> Arbitrary<'a> for $name $(<$life>)? {
            fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
                Ok(Self { $($field: fields!(@ u $($make)?)),* })
            }
        }
    )*};
    (@ $u:ident) => { $u.arbitrary()? };
    (@ $u:ident $make:expr) => { $make($u)? };
}

/// One of a list of plain values.
macro_rules! one_of {
    ($($name:ident: $($variant:ident),*;)*) => {$(
        impl<'a> Arbitrary<'a> for $name {
            fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
                u.choose(&[$(Self::$variant),*]).copied()
            }
        }
    )*};
}

/// Below `bound`, which is at most 256.
fn below(u: &mut Unstructured<'_>, bound: u8) -> Result<u8> {
    Ok(u8::arbitrary(u)? % bound)
}

impl<'a> Arbitrary<'a> for PieceIndex {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        dense(u).map(Self)
    }
}

impl<'a> Arbitrary<'a> for CommandToken {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        dense(u).map(|token| Self(token.into()))
    }
}

impl<'a> Arbitrary<'a> for TransactionId {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        dense(u).map(Self)
    }
}

impl<'a> Arbitrary<'a> for ConnectionId {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        dense(u).map(|id| Self(id.into()))
    }
}

impl<'a> Arbitrary<'a> for UnixTime {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        u.arbitrary().map(Self)
    }
}

impl<'a> Arbitrary<'a> for Instant {
    /// After the origin by a power of two of microseconds and a bit, sometimes any time.
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let byte = u8::arbitrary(u)?;
        if byte >= 0xf0 {
            return u.arbitrary().map(Self::from_micros);
        }
        let micros = (1_u64 << (byte % 48)) + u64::from(u8::arbitrary(u)?);
        Ok(Self::ORIGIN + Duration::from_micros(micros))
    }
}

impl<'a> Arbitrary<'a> for Chunks {
    /// A few parts of a few bytes each.
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut chunks = Self::default();
        for _ in 0..below(u, 4)? {
            let part = payload(u)?;
            if !part.is_empty() {
                chunks.push(part);
            }
        }
        Ok(chunks)
    }
}

impl<'a> Arbitrary<'a> for Bitfield {
    /// At most 512 bits, any of them set.
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let len = u32::from(u16::arbitrary(u)?) % (BITS_MAX + 1);
        let mut bits = Self::new(len);
        if bool::arbitrary(u)? {
            bits.set_all();
        }
        for _ in 0..below(u, 32)? {
            let bit = u32::from(u16::arbitrary(u)?);
            if bit < len {
                let _ = if bits.get(bit) { bits.clear(bit) } else { bits.set(bit) };
            }
        }
        Ok(bits)
    }
}

one_of! {
    HashAlgorithm: Sha1, Sha256;
    AnnounceEvent: None, Started, Completed, Stopped;
    Extension: Pex, Metadata, UploadOnly, Holepunch, DontHave;
    Ecn: Capable0, Capable1, Congested;
    SocketError: AddressInUse, AddressNotAvailable, NotPermitted, OutOfResources, Other;
    JobErrorKind: Full, NotFound, PermissionDenied, Obstructed, Busy, NoSuchHost, Cancelled, Io,
        Contradiction;
}

fields! {
    BlockRequest { piece, begin: begin, length: length }
    Handshake { reserved, info_hash, peer_id }
    Limits {
        pieces: pieces_max, bitfield_len_max: length, block_len_max: length,
        extended_len_max: length, other_len_max: length,
    }
    Counts { seeders, downloaded, leechers }
    Announce {
        info_hash, peer_id, downloaded, left, uploaded, event, ip: v4, key, num_want, port,
    }
    AnnounceRequest {
        info_hash, peer_id, port, uploaded, downloaded, left, event, num_want, key, ipv4, ipv6,
        tracker_id: some_bytes,
    }
    AnnounceResponse {
        interval: some_seconds, min_interval: some_seconds, tracker_id: some_bytes, seeders,
        leechers, downloaded, peers: list, warning: warning, external_ip: some_ip,
    }
    Incoming { on, from: address, local: address }
    FileStat { len, modified, allocated }
    JobError { kind, detail: text }
    TransmitLimit { datagrams: at_least_one, bytes }
    Datagram<'a> { socket, from: address, local: some_ip, ecn, stride: stride, data: slice }
}

impl<'a> Arbitrary<'a> for StreamError {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let all = [
            Self::Refused,
            Self::Reset,
            Self::TimedOut,
            Self::Unreachable,
            Self::Tls(TlsError::Other),
            Self::OutOfResources,
            Self::NotPermitted,
            Self::Other,
        ];
        u.choose(&all).copied()
    }
}

impl<'a> Arbitrary<'a> for Reserved {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let byte = u8::arbitrary(u)?;
        if byte >= 0xf0 {
            return u.arbitrary().map(Self);
        }
        let mut reserved = Self::NONE;
        for (bit, with) in [
            (1, Self::with_fast as fn(Self) -> Self),
            (2, Self::with_extension_protocol),
            (4, Self::with_dht),
            (8, Self::with_v2_upgrade),
        ] {
            if byte & bit != 0 {
                reserved = with(reserved);
            }
        }
        Ok(reserved)
    }
}

impl<'a> Arbitrary<'a> for Message {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match below(u, 18)? {
            0 => Self::KeepAlive,
            1 => Self::Choke,
            2 => Self::Unchoke,
            3 => Self::Interested,
            4 => Self::NotInterested,
            5 => Self::Have(u.arbitrary()?),
            6 => Self::Bitfield(payload(u)?),
            7 => Self::Request(u.arbitrary()?),
            8 => Self::Piece { piece: u.arbitrary()?, begin: begin(u)?, block: u.arbitrary()? },
            9 => Self::Cancel(u.arbitrary()?),
            10 => Self::Port(u.arbitrary()?),
            11 => Self::Suggest(u.arbitrary()?),
            12 => Self::HaveAll,
            13 => Self::HaveNone,
            14 => Self::Reject(u.arbitrary()?),
            15 => Self::AllowedFast(u.arbitrary()?),
            16 => Self::Extended { id: dense(u)? as u8, payload: payload(u)? },
            _ if u.arbitrary()? => Self::Hash(u.arbitrary::<HashMessage>()?.into()),
            _ => Self::Unknown { id: 64 + below(u, 64)?, len: dense(u)? },
        })
    }
}

impl<'a> Arbitrary<'a> for HashMessage {
    /// Requests mostly near what a small tree has; answers of any number of hashes.
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let request = HashRequest {
            root: [below(u, 4)?; 32],
            base: below(u, 8)?.into(),
            index: dense(u)?,
            length: if u.arbitrary()? { 1 << below(u, 11)? } else { dense(u)? },
            proof_layers: below(u, 24)?.into(),
        };
        Ok(match below(u, 3)? {
            0 => Self::Request(request),
            1 => Self::Hashes(
                request,
                alloc::vec![below(u, 3)?; 32 * usize::from(below(u, 12)?)].into(),
            ),
            _ => Self::Reject(request),
        })
    }
}

impl<'a> Arbitrary<'a> for ExtensionIds {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut ids = Self::NONE;
        for _ in 0..below(u, 8)? {
            ids.set(u.arbitrary()?, dense(u)? as u8);
        }
        Ok(ids)
    }
}

impl<'a> Arbitrary<'a> for ExtensionHandshake {
    /// Only what can be said on the wire.
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let (ids, client) = (u.arbitrary()?, slice(u)?);
        let metadata_len: u32 = u.arbitrary()?;
        Ok(Self {
            ids,
            client: ClientName::from_bytes(client),
            requests_max: u.arbitrary()?,
            listen_port: u.arbitrary()?,
            your_ip: some_ip(u)?,
            ipv4: u.arbitrary()?,
            ipv6: u.arbitrary()?,
            metadata_len: (metadata_len % (crate::wire::METADATA_LEN_MAX + 1)).try_into().ok(),
            upload_only: u.arbitrary()?,
        })
    }
}

impl<'a> Arbitrary<'a> for Peer {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        // Never what is not to be believed: see the field.
        let host = below(u, 16)? + 1;
        let ip = if bool::arbitrary(u)? {
            IpAddr::from([192, 0, 2, host])
        } else {
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)).into()
        };
        let port = 6881 + u16::from(below(u, 4)?);
        Ok(Self { address: SocketAddr::new(ip, port), id: u.arbitrary()? })
    }
}

impl<'a> Arbitrary<'a> for Request<'a> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let transaction = u.arbitrary()?;
        Ok(match below(u, 3)? {
            0 => Self::Connect { transaction },
            1 => {
                let (connection, announce) = (u.arbitrary()?, u.arbitrary()?);
                Self::Announce { connection, transaction, announce, options: slice(u)? }
            }
            _ => {
                let (connection, hashes) = (u.arbitrary()?, slice(u)?);
                Self::Scrape { connection, transaction, hashes }
            }
        })
    }
}

impl<'a> Arbitrary<'a> for Response<'a> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let transaction = u.arbitrary()?;
        Ok(match below(u, 4)? {
            0 => Self::Connect { transaction, connection: u.arbitrary()? },
            1 => Self::Announce {
                transaction,
                interval: u.arbitrary()?,
                leechers: dense(u)?,
                seeders: dense(u)?,
                peers: slice(u)?,
            },
            2 => Self::Scrape { transaction, counts: slice(u)? },
            _ => Self::Error { transaction, reason: slice(u)? },
        })
    }
}

impl<'a> Arbitrary<'a> for HashState {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let stream = Stream::new(u.arbitrary()?);
        let mut state = match below(u, 3)? {
            0 => stream.into(),
            1 => Self::Tree(Tree::new(below(u, 12)?.into()).into()),
            _ => Self::Both((stream, Tree::new(below(u, 12)?.into())).into()),
        };
        state.update(slice(u)?);
        Ok(state)
    }
}

impl<'a> Arbitrary<'a> for Digest {
    /// Of a few bytes: a digest that is right for something.
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        HashState::arbitrary(u).map(HashState::finish)
    }
}

impl<'a> Arbitrary<'a> for StreamInput {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match below(u, 6)? {
            0 => Self::Connected { local: address(u)? },
            1 => Self::ConnectFailed(u.arbitrary()?),
            2 => Self::Received(payload(u)?),
            3 => Self::Sent(length(u)? as usize),
            4 => Self::ReadClosed,
            _ => Self::Closed(u.arbitrary()?),
        })
    }
}

impl<'a> Arbitrary<'a> for ListenerInput {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match below(u, 2)? {
            0 => Self::Bound(address(u)?),
            _ => Self::Failed(u.arbitrary()?),
        })
    }
}

impl<'a> Arbitrary<'a> for SocketInput {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match below(u, 5)? {
            0 => Self::Bound(address(u)?),
            1 => Self::Failed(u.arbitrary()?),
            2 => Self::AddressChanged(address(u)?),
            3 => Self::Unreachable(address(u)?),
            _ => Self::TooBig { to: address(u)?, size: length(u)? as usize },
        })
    }
}

impl<'a> Arbitrary<'a> for JobOutput {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match below(u, 6)? {
            0 => Self::Done,
            1 => Self::Read(payload(u)?),
            2 => Self::Hashed(u.arbitrary()?),
            3 => Self::Digest(u.arbitrary()?),
            4 => Self::Files(list(u)?.into()),
            _ => {
                let mut addresses = Vec::new();
                for _ in 0..=below(u, 4)? {
                    addresses.push(address(u)?);
                }
                Self::Resolved(addresses.into())
            }
        })
    }
}

impl<'a> Arbitrary<'a> for Input<'a> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match below(u, 12)? {
            0 => Self::Timeout,
            1 | 2 => Self::Datagram(u.arbitrary()?),
            3..=6 => Self::Stream(u.arbitrary()?, u.arbitrary()?),
            7 | 8 => Self::Job(u.arbitrary()?, u.arbitrary()?),
            9 => Self::Listener(u.arbitrary()?, u.arbitrary()?),
            10 => Self::Socket(u.arbitrary()?, u.arbitrary()?),
            _ => Self::WallClock(u.arbitrary()?),
        })
    }
}

/// A multiple of the length of a block, sometimes any number.
fn begin(u: &mut Unstructured<'_>) -> Result<u32> {
    let byte = u8::arbitrary(u)?;
    if byte < 0xf0 { Ok(u32::from(byte % 4) * 16 * 1024) } else { u.arbitrary() }
}

fn pieces_max(u: &mut Unstructured<'_>) -> Result<Option<u32>> {
    if bool::arbitrary(u)? { dense(u).map(Some) } else { Ok(None) }
}

fn v4(u: &mut Unstructured<'_>) -> Result<Ipv4Addr> {
    u.arbitrary()
}

fn some_ip(u: &mut Unstructured<'_>) -> Result<Option<IpAddr>> {
    if bool::arbitrary(u)? { ip(u).map(Some) } else { Ok(None) }
}

fn some_bytes(u: &mut Unstructured<'_>) -> Result<Option<Box<[u8]>>> {
    if bool::arbitrary(u)? { slice(u).map(|bytes| Some(bytes.into())) } else { Ok(None) }
}

fn some_seconds(u: &mut Unstructured<'_>) -> Result<Option<Duration>> {
    let seconds: Option<u32> = u.arbitrary()?;
    Ok(seconds.map(|seconds| Duration::from_secs(seconds.into())))
}

fn text(u: &mut Unstructured<'_>) -> Result<Box<str>> {
    slice(u).map(clean_text)
}

fn warning(u: &mut Unstructured<'_>) -> Result<Option<Box<str>>> {
    if bool::arbitrary(u)? { text(u).map(Some) } else { Ok(None) }
}

fn at_least_one(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(usize::from(below(u, 64)?) + 1)
}

fn stride(u: &mut Unstructured<'_>) -> Result<usize> {
    let byte = u8::arbitrary(u)?;
    Ok(if byte < 0x80 { 0 } else { usize::from(byte) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bencode::Tape;
    use crate::rng::Seed;
    use crate::wire::{Decoder, HandshakeParser};
    use std::vec;

    fn each(count: usize, mut what: impl FnMut(&mut Unstructured<'_>)) {
        let mut rng = Seed::from_number(1).stream("arbitrary", 0);
        for _ in 0..count {
            let mut bytes = vec![0; rng.below(400) as usize];
            rng.fill(&mut bytes);
            what(&mut Unstructured::new(&bytes));
        }
    }

    #[test]
    fn messages_and_handshakes_survive_the_wire() {
        let limits = Limits::DEFAULT;
        each(2_000, |u| {
            let Ok(message) = Message::arbitrary(u) else { return };
            let mut out = Vec::new();
            message.encode(&mut out);
            assert_eq!(out.len(), message.encoded_len());
            let mut decoder = Decoder::new();
            decoder.push(out.into());
            if !matches!(message, Message::Unknown { .. } | Message::Bitfield(_))
                && let Ok(found) = decoder.next(&limits)
            {
                assert_eq!(found.map(|m| m.encoded_len()), Some(message.encoded_len()));
            }
            let Ok(handshake) = Handshake::arbitrary(u) else { return };
            let mut bytes = Bytes::copy_from_slice(&handshake.encode());
            assert_eq!(HandshakeParser::new().push(&mut bytes), Ok(Some(handshake)));
        });
    }

    #[test]
    fn extension_handshakes_and_datagrams_are_read_back_the_same() {
        each(2_000, |u| {
            let Ok(handshake) = ExtensionHandshake::arbitrary(u) else { return };
            let mut out = Vec::new();
            handshake.encode(&mut out);
            assert_eq!(ExtensionHandshake::parse(&out, &mut Tape::new()), Ok(handshake));
            let Ok(request) = Request::arbitrary(u) else { return };
            let mut out = Vec::new();
            request.write(&mut out);
            assert!(Request::parse(&out).is_ok());
            let Ok(response) = Response::arbitrary(u) else { return };
            let mut out = Vec::new();
            response.write(&mut out);
            assert!(Response::parse(&out).is_ok());
        });
    }

    #[test]
    fn ids_collide_and_every_kind_of_input_comes() {
        let mut kinds = [0_usize; 7];
        let mut same = 0;
        each(4_000, |u| {
            let Ok(input) = Input::arbitrary(u) else { return };
            kinds[match input {
                Input::Timeout => 0,
                Input::Datagram(_) => 1,
                Input::Stream(id, _) => {
                    same += usize::from(id == StreamId::from_parts(1, 1));
                    2
                }
                Input::Job(..) => 3,
                Input::Listener(..) => 4,
                Input::Socket(..) => 5,
                Input::WallClock(_) => 6,
            }] += 1;
        });
        assert!(kinds.iter().all(|count| *count > 50), "{kinds:?}");
        assert!(same > 5, "{same}");
    }
}
