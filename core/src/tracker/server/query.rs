//! What is asked over HTTP, and how the answers are written. No state.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::Config;
use crate::bencode::Encoder;
use crate::http::url::{percent_decode, query_pairs};
use crate::http::write::Status;
use crate::ids::{InfoHash, PeerId};
use crate::tracker::announce::{AnnounceEvent, Peer};
use crate::tracker::swarm;
use crate::tracker::udp::Counts;

/// A request that makes sense.
#[derive(Debug)]
pub(super) enum Asked {
    Announce(Announce),
    Scrape(Vec<InfoHash>),
    Stats,
    Health,
}

/// An announce, and how it wants its answer.
#[derive(Debug)]
pub(super) struct Announce {
    pub(super) said: swarm::Announce,
    compact: bool,
    no_peer_id: bool,
}

/// A request that does not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Answered in HTTP.
    Status(Status),
    /// Answered in bencode.
    Failure(&'static str),
}

/// Reads a request from `from`.
pub(super) fn read(
    method: &[u8],
    target: &[u8],
    from: SocketAddr,
    config: &Config,
) -> Result<Asked, Refusal> {
    if method != b"GET" {
        return Err(Refusal::Status(Status::MethodNotAllowed));
    }
    let (path, query) = match target.iter().position(|byte| *byte == b'?') {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, &[][..]),
    };
    let path = path.strip_prefix(b"/").ok_or(Refusal::Status(Status::BadRequest))?;
    let (key, action) = match path.iter().position(|byte| *byte == b'/') {
        Some(at) => (Some(&path[..at]), &path[at + 1..]),
        None => (None, path),
    };
    match (key, action) {
        (_, b"announce") => announce(query, from, config).map_err(Refusal::Failure),
        (_, b"scrape") => scrape(query, config).map_err(Refusal::Failure),
        (None, b"stats") => Ok(Asked::Stats),
        (None, b"health") => Ok(Asked::Health),
        _ => Err(Refusal::Status(Status::NotFound)),
    }
}

fn number<N: core::str::FromStr>(value: &[u8]) -> Option<N> {
    core::str::from_utf8(value).ok()?.parse().ok()
}

fn announce(query: &[u8], from: SocketAddr, config: &Config) -> Result<Asked, &'static str> {
    let (mut info_hash, mut id, mut port, mut left) = (None, None, None, None);
    let mut event = AnnounceEvent::None;
    let (mut compact, mut no_peer_id) = (true, false);
    let mut num_want = config.num_want_default;
    for (key, value) in query_pairs(query) {
        match key {
            b"info_hash" => {
                let hash = percent_decode(value).as_ref().try_into();
                if info_hash.replace(InfoHash(hash.map_err(|_| "invalid info_hash")?)).is_some() {
                    return Err("more than one info_hash");
                }
            }
            b"peer_id" => {
                let decoded = percent_decode(value).as_ref().try_into();
                id = Some(PeerId(decoded.map_err(|_| "invalid peer_id")?));
            }
            b"port" => port = Some(number::<u16>(value).ok_or("invalid port")?),
            b"left" => left = Some(number::<i128>(value).ok_or("invalid left")?),
            b"event" => {
                event = match value {
                    b"started" => AnnounceEvent::Started,
                    b"completed" => AnnounceEvent::Completed,
                    b"stopped" => AnnounceEvent::Stopped,
                    _ => AnnounceEvent::None,
                };
            }
            b"numwant" | b"num_want" => {
                num_want = number(value).unwrap_or(config.num_want_default);
            }
            b"compact" => compact = value != b"0",
            b"no_peer_id" => no_peer_id = value == b"1",
            _ => {}
        }
    }
    let port = port.ok_or("missing port")?;
    if port == 0 {
        return Err("invalid port");
    }
    let said = swarm::Announce {
        info_hash: info_hash.ok_or("missing info_hash")?,
        peer: SocketAddr::new(from.ip(), port),
        id: id.ok_or("missing peer_id")?,
        seeder: left == Some(0),
        event,
        num_want: num_want.min(config.num_want_max),
    };
    Ok(Asked::Announce(Announce { said, compact, no_peer_id }))
}

fn scrape(query: &[u8], config: &Config) -> Result<Asked, &'static str> {
    let mut hashes = Vec::new();
    for (_, value) in query_pairs(query).filter(|(key, _)| *key == b"info_hash") {
        if hashes.len() >= config.scrape_max {
            return Err("too many hashes in one scrape");
        }
        let hash = percent_decode(value).as_ref().try_into();
        hashes.push(InfoHash(hash.map_err(|_| "invalid info_hash")?));
    }
    if hashes.is_empty() {
        return Err("missing info_hash");
    }
    hashes.sort_unstable();
    hashes.dedup();
    Ok(Asked::Scrape(hashes))
}

fn octets(ip: IpAddr) -> ([u8; 16], usize) {
    let mut bytes = [0; 16];
    match ip {
        IpAddr::V4(ip) => {
            bytes[..4].copy_from_slice(&ip.octets());
            (bytes, 4)
        }
        IpAddr::V6(ip) => (ip.octets(), 16),
    }
}

/// Appends peers of one family in compact form.
pub(super) fn compact(bytes: &mut Vec<u8>, peers: &[Peer], v6: bool) {
    for peer in peers.iter().filter(|peer| peer.address.is_ipv6() == v6) {
        let (ip, len) = octets(peer.address.ip());
        bytes.extend_from_slice(&ip[..len]);
        bytes.extend_from_slice(&peer.address.port().to_be_bytes());
    }
}

/// Writes the answer to an announce.
pub(super) fn write_announce(
    body: &mut Vec<u8>,
    asked: &Announce,
    counts: Counts,
    peers: &[Peer],
    config: &Config,
) {
    let mut encoder = Encoder::new(body);
    let (ip, len) = octets(asked.said.peer.ip());
    encoder.begin_dict();
    encoder.key("complete").uint(u64::from(counts.seeders));
    encoder.key("downloaded").uint(u64::from(counts.downloaded));
    encoder.key("external ip").bytes(&ip[..len]);
    encoder.key("incomplete").uint(u64::from(counts.leechers));
    encoder.key("interval").uint(config.interval.as_secs());
    encoder.key("min interval").uint(config.min_interval.as_secs());
    encoder.key("peers");
    if asked.compact {
        let mut all = Vec::with_capacity(peers.len() * 6);
        compact(&mut all, peers, false);
        encoder.bytes(&all);
        all.clear();
        compact(&mut all, peers, true);
        if !all.is_empty() {
            encoder.key("peers6").bytes(&all);
        }
    } else {
        encoder.begin_list();
        for peer in peers {
            encoder.begin_dict();
            encoder.key("ip").bytes(alloc::format!("{}", peer.address.ip()));
            if let Some(id) = peer.id.filter(|_| !asked.no_peer_id) {
                encoder.key("peer id").bytes(id);
            }
            encoder.key("port").uint(u64::from(peer.address.port()));
            encoder.end();
        }
        encoder.end();
    }
    encoder.end();
    encoder.finish();
}

/// Writes the answer to a scrape (BEP 48). `hashes` are in order, each once.
pub(super) fn write_scrape(
    body: &mut Vec<u8>,
    hashes: &[InfoHash],
    counts: impl Fn(&InfoHash) -> Counts,
) {
    let mut encoder = Encoder::new(body);
    encoder.begin_dict().key("files").begin_dict();
    for hash in hashes {
        let counts = counts(hash);
        encoder.key(hash).begin_dict();
        encoder.key("complete").uint(u64::from(counts.seeders));
        encoder.key("downloaded").uint(u64::from(counts.downloaded));
        encoder.key("incomplete").uint(u64::from(counts.leechers));
        encoder.end();
    }
    encoder.end().end();
    encoder.finish();
}
