//! Where a torrent's peers and bytes are to be found: trackers, web seeds, DHT nodes.
//!
//! These are hints. What is malformed is left out, and never makes a torrent illegal.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv6Addr;

use super::{NODES_MAX, TRACKERS_MAX, URL_LEN_MAX, WEB_SEEDS_MAX};
use crate::bencode::{Dict, List, Value};

/// A host by name or address, and a port that is not zero.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// A host name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Most entries of a list that are looked at, duplicates and nonsense included.
const LOOKED_AT_MAX: usize = 2048;

/// Longest host name in bytes (RFC 1035).
const HOST_LEN_MAX: usize = 253;

impl HostPort {
    /// `host` and `port`, if they can be.
    pub fn new(host: &str, port: u64) -> Option<Self> {
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        let legal = !host.is_empty()
            && host.len() <= HOST_LEN_MAX
            && (host.chars().all(is_name) || host.parse::<Ipv6Addr>().is_ok());
        let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
        legal.then(|| Self { host: host.to_string(), port })
    }

    /// From `host:port`, an IPv6 address in brackets.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        // Brackets and colons go together.
        if bare.is_some() != bare.unwrap_or(host).contains(':') {
            return None;
        }
        Self::new(bare.unwrap_or(host), port.parse::<u16>().ok()?.into())
    }
}

impl fmt::Display for HostPort {
    /// `host:port`, an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Trimmed, of a sane length, and free of control characters.
pub(super) fn clean_url(raw: &[u8]) -> Option<&str> {
    let url = core::str::from_utf8(raw).ok()?.trim();
    let sane = !url.is_empty() && url.len() <= URL_LEN_MAX && !url.chars().any(char::is_control);
    sane.then_some(url)
}

/// The tiers of `announce-list` (BEP 12), or `announce` alone if they say nothing. No tier is
/// empty, and no tracker is named twice. A string instead of a tier is a tier of one.
pub(super) fn trackers(top: Dict<'_>) -> Vec<Vec<String>> {
    let list = top.get("announce-list").and_then(Value::as_list);
    let values = list.into_iter().flatten().enumerate().flat_map(|(tier, value)| {
        let urls = value.as_list().map(List::iter).into_iter().flatten();
        core::iter::once(value).chain(urls).map(move |url| (tier, url))
    });
    let mut seen = Vec::new();
    let mut tiers = Vec::<Vec<String>>::new();
    let mut tier_of_last = None;
    for (tier, value) in values.take(LOOKED_AT_MAX) {
        let Some(url) = value.as_bytes().and_then(clean_url) else { continue };
        if seen.len() >= TRACKERS_MAX {
            break;
        }
        if seen.contains(&url) {
            continue;
        }
        seen.push(url);
        if tier_of_last.replace(tier) != Some(tier) {
            tiers.push(Vec::new());
        }
        tiers.last_mut().expect("pushed for the first of a tier").push(url.to_string());
    }
    if tiers.is_empty() {
        let announce = top.get("announce").and_then(Value::as_bytes).and_then(clean_url);
        tiers.extend(announce.map(|url| Vec::from([url.to_string()])));
    }
    tiers
}

/// The web seeds of `url-list` (BEP 19), a string or a list of strings, each once.
pub(super) fn web_seeds(top: Dict<'_>, single_file: bool) -> Vec<String> {
    let mut seeds = Vec::new();
    let Some(list) = top.get("url-list") else { return seeds };
    let items = list.as_list().map(List::iter);
    let values = core::iter::once(list).chain(items.into_iter().flatten());
    for value in values.take(LOOKED_AT_MAX) {
        if seeds.len() >= WEB_SEEDS_MAX {
            break;
        }
        let Some(url) = value.as_bytes().and_then(clean_url).and_then(web_seed_url) else {
            continue;
        };
        // Paths of files are appended, so a folder must end like one.
        let url = if single_file || url.ends_with('/') { url } else { url + "/" };
        if !seeds.contains(&url) {
            seeds.push(url);
        }
    }
    seeds
}

/// An HTTP address with whatever may not stand in one escaped, and escapes left as they are.
pub(super) fn web_seed_url(url: &str) -> Option<String> {
    let is_scheme = |scheme: &str| {
        url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            && url.len() > scheme.len()
    };
    if !is_scheme("http://") && !is_scheme("https://") {
        return None;
    }
    let mut escaped = String::with_capacity(url.len());
    for byte in url.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(url::form_urlencoded::byte_serialize(&[byte]).next().map_or(
                "",
                |s| {
                    if s == "+" { "%20" } else { s }
                },
            ));
        }
    }
    Some(escaped)
}

/// The DHT nodes of `nodes` (BEP 5): pairs of a host and a port.
pub(super) fn nodes(top: Dict<'_>) -> Vec<HostPort> {
    let list = top.get("nodes").and_then(Value::as_list);
    list.into_iter()
        .flatten()
        .filter_map(|node| {
            let mut pair = node.as_list()?.iter();
            HostPort::new(pair.next()?.as_str()?, pair.next()?.as_uint()?)
        })
        .take(NODES_MAX)
        .collect()
}
