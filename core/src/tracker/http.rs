//! Announces over HTTP (BEP 3, 7, 23, 24, 31): the query, and the bencoded answer.
//!
//! What an answer has too much is left out, what is strange about a part of it loses that part;
//! an answer is refused only if it is no dictionary or says so itself.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::announce::{
    AnnounceError, AnnounceEvent, AnnounceRequest, AnnounceResponse, PEERS_MAX, Peer, RetryIn,
    TRACKER_ID_MAX, clean_text,
};
use super::udp::Counts;
use crate::bencode::{Limits, Mode, Tape, Value};
use crate::http::url::{is_reachable, percent_encode};
use crate::ids::{InfoHash, PeerId};
use crate::time::Duration;

/// What to ask for: the URL's own `target` (path and query) first, then the announce.
pub fn announce_target(target: &str, request: &AnnounceRequest) -> String {
    let mut out = String::with_capacity(target.len() + 320);
    out.push_str(target);
    out.push(match target.split_once('?') {
        None => '?',
        Some(_) => '&',
    });
    out.push_str("info_hash=");
    percent_encode(&mut out, &request.info_hash.0);
    out.push_str("&peer_id=");
    percent_encode(&mut out, &request.peer_id.0);
    let event = match request.event {
        AnnounceEvent::None => "",
        AnnounceEvent::Started => "&event=started",
        AnnounceEvent::Completed => "&event=completed",
        AnnounceEvent::Stopped => "&event=stopped",
    };
    write!(
        out,
        "&port={}&uploaded={}&downloaded={}&left={}&key={:08X}{event}&compact=1&supportcrypto=1",
        request.port,
        request.uploaded.min(i64::MAX as u64),
        request.downloaded.min(i64::MAX as u64),
        request.left_or_huge(),
        request.key,
    )
    .expect("a string takes it");
    let mut pair = |key: &str, value: &dyn core::fmt::Display| {
        let mut text = String::new();
        write!(text, "{value}").expect("a string takes it");
        out.push('&');
        out.push_str(key);
        out.push('=');
        percent_encode(&mut out, text.as_bytes());
    };
    if let Some(num_want) = request.num_want {
        pair("numwant", &num_want);
    }
    if let Some(address) = request.ipv4 {
        pair("ipv4", &address);
    }
    if let Some(address) = request.ipv6 {
        pair("ipv6", &address);
    }
    if let Some(id) = &request.tracker_id {
        out.push_str("&trackerid=");
        percent_encode(&mut out, id);
    }
    out
}

/// What to ask for at a tracker's scrape URL (BEP 48): its own `target` first, then the swarm.
pub fn scrape_target(target: &str, info_hash: &InfoHash) -> String {
    let mut out = String::from(target);
    out.push(if target.contains('?') { '&' } else { '?' });
    out.push_str("info_hash=");
    percent_encode(&mut out, &info_hash.0);
    out
}

/// Reads the body of an answer to a scrape (BEP 48), whatever its HTTP status was: what it says of
/// one swarm. What it leaves out counts as zero.
pub fn parse_scrape(
    body: &[u8],
    status: u16,
    info_hash: &InfoHash,
) -> Result<Counts, AnnounceError> {
    let mut tape = Tape::new();
    let root = parse_root(&mut tape, body, status)?;
    let swarm = root
        .get("files")
        .and_then(|files| files.get(info_hash))
        .ok_or(AnnounceError::Malformed("it has no counts of this torrent"))?;
    let count = |key: &str| {
        let count = swarm.get(key).and_then(Value::as_uint).unwrap_or_default();
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    Ok(Counts {
        seeders: count("complete"),
        downloaded: count("downloaded"),
        leechers: count("incomplete"),
    })
}

/// Reads the body of an answer, whatever its HTTP status was.
pub fn parse_response(body: &[u8], status: u16) -> Result<AnnounceResponse, AnnounceError> {
    let mut tape = Tape::new();
    let root = parse_root(&mut tape, body, status)?;
    let count = |key: &str| {
        root.get(key).and_then(Value::as_uint).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
    };
    let bytes = |key: &str| root.get(key).and_then(Value::as_bytes);
    let text = |key: &str| bytes(key).map(clean_text).filter(|text| !text.is_empty());
    let mut response = AnnounceResponse {
        interval: root.get("interval").and_then(seconds),
        min_interval: root.get("min interval").and_then(seconds),
        tracker_id: bytes("tracker id")
            .filter(|id| !id.is_empty() && id.len() <= TRACKER_ID_MAX)
            .map(Into::into),
        seeders: count("complete"),
        leechers: count("incomplete"),
        downloaded: count("downloaded"),
        peers: Vec::new(),
        warning: text("warning message"),
        external_ip: bytes("external ip").and_then(raw_address),
    };
    if let Some(peers) = root.get("peers") {
        if let Some(compact) = peers.as_bytes() {
            compact_peers(&mut response.peers, compact, false);
        } else if let Some(list) = peers.as_list() {
            push_peers(&mut response.peers, list.iter().filter_map(dictionary_peer));
        }
    }
    if let Some(compact) = bytes("peers6") {
        compact_peers(&mut response.peers, compact, true);
    }
    Ok(response)
}

/// The dictionary that an answer is, if it is one and does not say no.
fn parse_root<'a>(
    tape: &'a mut Tape,
    body: &'a [u8],
    status: u16,
) -> Result<Value<'a>, AnnounceError> {
    let not_bencode = |error| match status {
        200 => AnnounceError::Bencode(error),
        _ => AnnounceError::Status(status),
    };
    let document = tape.parse(body, &Limits::WIRE, Mode::Lenient).map_err(not_bencode)?;
    let root = document.root();
    if let Some(reason) = root.get("failure reason") {
        let reason = clean_text(reason.as_bytes().unwrap_or_default());
        return Err(AnnounceError::Refused { reason, retry: root.get("retry in").and_then(retry) });
    }
    if status != 200 {
        return Err(AnnounceError::Status(status));
    }
    if root.as_dict().is_none() {
        return Err(AnnounceError::Malformed("not a dictionary"));
    }
    Ok(root)
}

/// A time in seconds; trackers write it as a number or, at times, as a string of digits.
fn seconds(value: Value<'_>) -> Option<Duration> {
    let seconds = value.as_uint().or_else(|| value.as_str()?.parse().ok())?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// BEP 31: minutes, or the word `never`.
fn retry(value: Value<'_>) -> Option<RetryIn> {
    if value.as_bytes() == Some(b"never") {
        return Some(RetryIn::Never);
    }
    let minutes = value.as_uint().or_else(|| value.as_str()?.parse().ok())?;
    Some(RetryIn::After(Duration::from_secs(minutes.saturating_mul(60))))
}

fn raw_address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()),
        _ => None,
    }
}

fn push_peers(to: &mut Vec<Peer>, peers: impl Iterator<Item = Peer>) {
    let room = PEERS_MAX.saturating_sub(to.len());
    to.extend(peers.filter(|peer| is_reachable(peer.address)).take(room));
}

/// Appends peers in compact form (BEP 23; BEP 7 for IPv6); a rest at the end is left out.
pub(super) fn compact_peers(to: &mut Vec<Peer>, bytes: &[u8], v6: bool) {
    let peer = |entry: &[u8]| {
        let (address, port) = entry.split_at_checked(entry.len() - 2)?;
        let port = u16::from_be_bytes(port.try_into().ok()?);
        Some(Peer { address: SocketAddr::new(raw_address(address)?, port), id: None })
    };
    push_peers(to, bytes.chunks_exact(if v6 { 18 } else { 6 }).filter_map(peer));
}

/// A peer as a dictionary (BEP 3). Names of hosts are left out: a peer is not worth a lookup.
fn dictionary_peer(value: Value<'_>) -> Option<Peer> {
    let text = value.get("ip")?.as_str()?;
    let ip = match text.parse::<Ipv4Addr>() {
        Ok(address) => IpAddr::V4(address),
        Err(_) => IpAddr::V6(text.parse::<Ipv6Addr>().ok()?).to_canonical(),
    };
    let port = u16::try_from(value.get("port")?.as_uint()?).ok()?;
    let id = value.get("peer id").and_then(|id| Some(PeerId(id.as_bytes()?.try_into().ok()?)));
    Some(Peer { address: SocketAddr::new(ip, port), id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash([0xab; 20]),
            peer_id: PeerId(*b"-TE0001-abcdefghijkl"),
            port: 6881,
            uploaded: 1,
            downloaded: 2,
            left: Some(3),
            event: AnnounceEvent::Started,
            num_want: Some(50),
            key: 0xbeef,
            ipv4: None,
            ipv6: Some("2001:db8::1".parse().expect("an address")),
            tracker_id: Some(b"a b".as_slice().into()),
        }
    }

    #[test]
    fn the_url_s_own_query_comes_first() {
        let target = announce_target("/p/announce?passkey=x", &request());
        let hash = "%AB".repeat(20);
        assert_eq!(
            target,
            std::format!(
                "/p/announce?passkey=x&info_hash={hash}&peer_id=-TE0001-abcdefghijkl&port=6881\
                 &uploaded=1&downloaded=2&left=3&key=0000BEEF&event=started&compact=1\
                 &supportcrypto=1&numwant=50&ipv6=2001%3Adb8%3A%3A1&trackerid=a%20b"
            )
        );
        let unknown = AnnounceRequest { left: None, event: AnnounceEvent::None, ..request() };
        let target = announce_target("/announce", &unknown);
        assert!(target.starts_with("/announce?info_hash="), "{target}");
        assert!(target.contains("&left=9223372036854775807&key"), "{target}");
    }

    fn addresses(response: &AnnounceResponse) -> Vec<String> {
        response.peers.iter().map(|peer| std::format!("{}", peer.address)).collect()
    }

    #[test]
    fn a_compact_answer_with_both_families_and_bytes_behind_it_is_read() {
        let body = b"d8:completei3e10:downloadedi9e11:external ip4:\x01\x02\x03\x0410:incompletei4e\
            8:intervali1800e12:min intervali60e5:peers13:\x0a\x00\x00\x01\x1a\xe1\x0a\x00\x00\x02\x00\x00x\
            6:peers618:\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe1\
            10:tracker id2:id15:warning message4:slowe\r\n";
        let response = parse_response(body, 200).expect("an answer");
        assert_eq!(addresses(&response), ["10.0.0.1:6881", "[2001:db8::1]:6881"]);
        assert_eq!(response.interval, Some(Duration::from_mins(30)));
        assert_eq!(response.min_interval, Some(Duration::from_mins(1)));
        assert_eq!((response.seeders, response.leechers), (Some(3), Some(4)));
        assert_eq!(response.downloaded, Some(9));
        assert_eq!(response.tracker_id.as_deref(), Some(&b"id"[..]));
        assert_eq!(response.warning.as_deref(), Some("slow"));
        assert_eq!(response.external_ip, Some(IpAddr::from([1, 2, 3, 4])));
    }

    #[test]
    fn a_dictionary_answer_is_read_peer_by_peer() {
        let body = b"d8:intervali-5e5:peersl\
            d2:ip9:192.0.2.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti1ee\
            d2:ip16:::ffff:192.0.2.24:porti2ee\
            d2:ip11:2001:db8::14:porti3ee\
            d2:ip9:a.example4:porti4ee\
            d2:ip9:192.0.2.34:porti70000ee\
            d2:ip9:224.0.0.14:porti5ee\
            i7eee";
        let response = parse_response(body, 200).expect("an answer");
        assert_eq!(addresses(&response), ["192.0.2.1:1", "192.0.2.2:2", "[2001:db8::1]:3"]);
        assert_eq!(response.peers[0].id, Some(PeerId([b'a'; 20])));
        assert_eq!(response.interval, None);
    }

    #[test]
    fn test_error() {
        let refused =
            |reason: &str, retry| Err(AnnounceError::Refused { reason: reason.into(), retry });
        let body = b"d14:failure reason7:no\x1b way8:retry ini5ee";
        let after = RetryIn::After(Duration::from_mins(5));
        assert_eq!(parse_response(body, 200), refused("no way", Some(after)));
        assert_eq!(parse_response(body, 404), refused("no way", Some(after)));
        let body = b"d14:failure reason2:no8:retry in5:nevere";
        assert_eq!(parse_response(body, 200), refused("no", Some(RetryIn::Never)));
    }

    #[test]
    fn test_http_status_and_test_invalid_bencoding() {
        assert_eq!(parse_response(b"de", 410), Err(AnnounceError::Status(410)));
        assert_eq!(parse_response(b"<html>", 410), Err(AnnounceError::Status(410)));
        assert!(matches!(parse_response(b"<html>", 200), Err(AnnounceError::Bencode(_))));
        assert_eq!(parse_response(b"le", 200), Err(AnnounceError::Malformed("not a dictionary")));
        assert_eq!(parse_response(b"de", 200), Ok(AnnounceResponse::default()));
    }

    #[test]
    fn more_peers_than_anyone_needs_are_left_out() {
        let count = PEERS_MAX + 10;
        let mut body = std::format!("d5:peers{}:", count * 6).into_bytes();
        body.extend(core::iter::repeat_n([10, 0, 0, 1, 0, 1], count).flatten());
        body.push(b'e');
        assert_eq!(parse_response(&body, 200).expect("an answer").peers.len(), PEERS_MAX);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..120),
            inner in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let _ = parse_response(&bytes, 200);
            let mut body = std::format!("d5:peers{}:", inner.len()).into_bytes();
            body.extend_from_slice(&inner);
            body.extend_from_slice(&bytes);
            let _ = parse_response(&body, 200);
        }
    }
}
