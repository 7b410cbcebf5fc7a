//! Magnet links (BEP 9, BEP 53): a hash, and hints where to find the rest.
//!
//! Hints that are malformed or beyond a limit are left out; only a link without a usable hash is
//! refused.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;

use url::form_urlencoded;

use super::sources::{HostPort, clean_url, web_seed_url};
use super::{FILES_MAX, NODES_MAX, TRACKERS_MAX, WEB_SEEDS_MAX};
use crate::ids::{InfoHash, InfoHashV2};

/// Longest link in bytes.
pub const LINK_LEN_MAX: usize = 256 * 1024;
/// Longest display name in bytes; longer ones are cut.
pub const NAME_LEN_MAX: usize = 1024;
/// Most ranges of files; those beyond are ignored.
pub const RANGES_MAX: usize = 1024;

/// Prefix of a SHA-256 multihash: the code of the function and the length.
const MULTIHASH_SHA256: [u8; 2] = [0x12, 0x20];

/// What a magnet link says. At least one of the hashes is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Magnet {
    /// `xt=urn:btih:`, in hex or base32.
    pub info_hash: Option<InfoHash>,
    /// `xt=urn:btmh:`, a SHA-256 multihash in hex.
    pub info_hash_v2: Option<InfoHashV2>,
    /// `dn`: what to call it until the metadata is there. Not safe as a path.
    pub name: Option<String>,
    /// `tr`: trackers, each a tier of its own.
    pub trackers: Vec<String>,
    /// `ws`: web seeds.
    pub web_seeds: Vec<String>,
    /// `x.pe`: peers to begin with.
    pub peers: Vec<HostPort>,
    /// `so`: the files that are wanted by index, in order and apart from each other; empty means
    /// all (BEP 53).
    pub select_only: Vec<RangeInclusive<u32>>,
}

/// Why a link was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MagnetError {
    /// It does not begin with `magnet:?`.
    #[error("not a magnet link")]
    NotMagnet,
    /// It is longer than [`LINK_LEN_MAX`].
    #[error("the magnet link is too long ({len} bytes)")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// It names no torrent.
    #[error("xt: the magnet link names no torrent")]
    NoHash,
    /// It names a torrent by something that is no hash, and by nothing else.
    #[error("xt: the hash of the magnet link is malformed")]
    BadHash,
}

impl FromStr for Magnet {
    type Err = MagnetError;

    fn from_str(link: &str) -> Result<Self, MagnetError> {
        let link = link.trim();
        if link.len() > LINK_LEN_MAX {
            return Err(MagnetError::TooLong { len: link.len() });
        }
        let (scheme, query) = link.split_once(":?").ok_or(MagnetError::NotMagnet)?;
        if !scheme.eq_ignore_ascii_case("magnet") {
            return Err(MagnetError::NotMagnet);
        }
        let mut magnet = Self::default();
        let mut malformed = false;
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            // `tr.1` is the same as `tr`, but `x.pe` has its dot for itself.
            let key = match key.rsplit_once('.') {
                Some((key, number)) if number.parse::<u16>().is_ok() => key,
                _ => &key,
            };
            match key {
                "xt" => malformed |= magnet.take_topic(&value).is_none(),
                "dn" if magnet.name.is_none() => {
                    let cut = &value[..value.floor_char_boundary(NAME_LEN_MAX)];
                    magnet.name = Some(cut.to_string()).filter(|name| !name.is_empty());
                }
                "tr" => {
                    let url = clean_url(value.as_bytes()).map(ToString::to_string);
                    push_new(&mut magnet.trackers, url, TRACKERS_MAX);
                }
                "ws" => {
                    let url = clean_url(value.as_bytes()).and_then(web_seed_url);
                    push_new(&mut magnet.web_seeds, url, WEB_SEEDS_MAX);
                }
                "x.pe" => push_new(&mut magnet.peers, HostPort::parse(&value), NODES_MAX),
                "so" => magnet.select_only = ranges(&value),
                _ => {}
            }
        }
        match (magnet.info_hash, magnet.info_hash_v2) {
            (None, None) if malformed => Err(MagnetError::BadHash),
            (None, None) => Err(MagnetError::NoHash),
            _ => Ok(magnet),
        }
    }
}

impl Magnet {
    /// Takes a hash, unless there is one of its kind. `None` if it is malformed; other kinds of
    /// topics are not our concern.
    fn take_topic(&mut self, topic: &str) -> Option<()> {
        let (kind, hash) = match topic.get(..9) {
            Some(kind) => (kind, &topic[9..]),
            None => return Some(()),
        };
        if kind.eq_ignore_ascii_case("urn:btih:") {
            let hash = match hash.len() {
                40 => hex(hash)?,
                _ => base32(hash)?,
            };
            self.info_hash.get_or_insert(InfoHash(hash));
        } else if kind.eq_ignore_ascii_case("urn:btmh:") {
            let multihash: [u8; 34] = hex(hash)?;
            let digest = multihash.strip_prefix(&MULTIHASH_SHA256)?;
            self.info_hash_v2.get_or_insert(InfoHashV2(digest.try_into().ok()?));
        }
        Some(())
    }
}

impl fmt::Display for Magnet {
    /// A link that says the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("magnet:?")?;
        let mut separator = "";
        if let Some(hash) = self.info_hash {
            write!(f, "xt=urn:btih:{hash}")?;
            separator = "&";
        }
        if let Some(hash) = self.info_hash_v2 {
            write!(f, "{separator}xt=urn:btmh:1220{hash}")?;
        }
        if let Some(name) = &self.name {
            write!(f, "&dn={}", Escaped(name))?;
        }
        for url in &self.trackers {
            write!(f, "&tr={}", Escaped(url))?;
        }
        for url in &self.web_seeds {
            write!(f, "&ws={}", Escaped(url))?;
        }
        for peer in &self.peers {
            write!(f, "&x.pe={peer}")?;
        }
        for (at, range) in self.select_only.iter().enumerate() {
            f.write_str(if at == 0 { "&so=" } else { "," })?;
            match range.end() {
                end if end == range.start() => write!(f, "{end}")?,
                end => write!(f, "{}-{end}", range.start())?,
            }
        }
        Ok(())
    }
}

/// Percent-encoded, spaces too: not everybody takes `+` for one.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        form_urlencoded::byte_serialize(self.0.as_bytes())
            .try_for_each(|part| f.write_str(if part == "+" { "%20" } else { part }))
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: Option<T>, max: usize) {
    if let Some(item) = item.filter(|item| list.len() < max && !list.contains(item)) {
        list.push(item);
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
    }
    Some(bytes)
}

/// RFC 4648, without padding: 32 characters are 20 bytes.
fn base32(text: &str) -> Option<[u8; 20]> {
    let mut bytes = [0; 20];
    let (groups, rest) = text.as_bytes().as_chunks::<8>();
    if groups.len() != 4 || !rest.is_empty() {
        return None;
    }
    for (out, group) in bytes.chunks_mut(5).zip(groups) {
        let mut bits = 0_u64;
        for c in group {
            let digit = match c.to_ascii_uppercase() {
                c @ b'A'..=b'Z' => c - b'A',
                c @ b'2'..=b'7' => c - b'2' + 26,
                _ => return None,
            };
            bits = bits << 5 | u64::from(digit);
        }
        out.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(bytes)
}

/// `0,2,6-8`: sorted, and what overlaps or touches joined. What is no range is left out.
fn ranges(text: &str) -> Vec<RangeInclusive<u32>> {
    let index = |text: &str| text.parse::<u32>().ok().filter(|index| (*index as usize) < FILES_MAX);
    let mut found: Vec<_> = text
        .split(',')
        .take(RANGES_MAX)
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (index(first)?, index(last)?);
            (first <= last).then_some((first, last))
        })
        .collect();
    found.sort_unstable();
    let mut joined = Vec::<(u32, u32)>::new();
    for (first, last) in found {
        match joined.last_mut() {
            Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined.into_iter().map(|(first, last)| first..=last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write as _;
    use proptest::prelude::*;
    use std::format;
    use std::string::String;

    const HEX: &str = "631a31dd0a46257d5078c0dee4e66e26f73e42ac";
    const BASE32: &str = "MMNDDXIKIYSX2UDYYDPOJZTOE33T4QVM";

    #[test]
    fn hex_and_base32_name_the_same_torrent() {
        for hash in [HEX, &HEX.to_uppercase(), BASE32, &BASE32.to_lowercase()] {
            let magnet: Magnet = format!("magnet:?xt=urn:btih:{hash}").parse().expect("a link");
            assert_eq!(magnet.info_hash.expect("there").to_string(), HEX);
        }
    }

    #[test]
    fn every_field_is_read_and_written() {
        let v2 = "ab".repeat(32);
        let link = format!(
            "magnet:?xt=urn:btih:{HEX}&xt=urn:btmh:1220{v2}&dn=a%20b%26c\
             &tr=udp%3A%2F%2Ft.example%3A80&ws=http%3A%2F%2Fw.example%2Fa%2520b\
             &x.pe=10.0.0.1:6881&x.pe=[2001:db8::1]:1&x.pe=host.example:2&so=0,2,6-8"
        );
        let magnet: Magnet = link.parse().expect("a link");
        assert_eq!(magnet.info_hash_v2, Some(InfoHashV2([0xab; 32])));
        assert_eq!(magnet.name.as_deref(), Some("a b&c"));
        assert_eq!(magnet.trackers, ["udp://t.example:80"]);
        assert_eq!(magnet.web_seeds, ["http://w.example/a%20b"]);
        assert_eq!(magnet.peers[1], HostPort { host: "2001:db8::1".to_string(), port: 1 });
        assert_eq!(magnet.select_only, [0..=0, 2..=2, 6..=8]);
        assert_eq!(magnet.to_string(), link);
    }

    #[test]
    fn numbered_keys_other_topics_and_duplicates_are_understood() {
        let link = format!(
            " MAGNET:?xt.1=urn:ed2k:31D6CFE0D16AE931B73C59D7E0C089C0&xt.2=URN:BTIH:{HEX}&dn=a+b\
             &tr.1=http://a.example&tr.2=http://b.example&tr=http://a.example&unknown=1&dn=other "
        );
        let magnet: Magnet = link.parse().expect("a link");
        assert_eq!(magnet.trackers, ["http://a.example", "http://b.example"]);
        assert_eq!(magnet.name.as_deref(), Some("a b"));
    }

    #[test]
    fn a_link_without_a_usable_hash_is_refused() {
        let short = &HEX[1..];
        for (link, error) in [
            ("http://example.com".to_string(), MagnetError::NotMagnet),
            ("magnet:".to_string(), MagnetError::NotMagnet),
            ("magnet:?".to_string(), MagnetError::NoHash),
            (format!("magnet:?dn={HEX}"), MagnetError::NoHash),
            (format!("magnet:?xt=urn:btih:{short}"), MagnetError::BadHash),
            (format!("magnet:?xt=urn:btih:{short}g"), MagnetError::BadHash),
            ("magnet:?xt=urn:btih:".to_string(), MagnetError::BadHash),
            (format!("magnet:?xt=urn:btih:{}1", &BASE32[1..]), MagnetError::BadHash),
            (format!("magnet:?xt=urn:btmh:1120{}", "ab".repeat(32)), MagnetError::BadHash),
            (format!("magnet:?xt=urn:btmh:1220{}", "ab".repeat(31)), MagnetError::BadHash),
        ] {
            assert_eq!(link.parse::<Magnet>(), Err(error), "{link}");
        }
    }

    #[test]
    fn counts_and_lengths_are_bounded() {
        let mut link = format!("magnet:?xt=urn:btih:{HEX}");
        for n in 0..3000 {
            write!(link, "&tr=http://t/{n}&ws=http://w/{n}&x.pe=h:{}", n + 1).expect("written");
        }
        let magnet: Magnet = link.parse().expect("a link");
        assert_eq!(magnet.trackers.len(), TRACKERS_MAX);
        assert_eq!(magnet.web_seeds.len(), WEB_SEEDS_MAX);
        assert_eq!(magnet.peers.len(), NODES_MAX);
        let named = format!("magnet:?xt=urn:btih:{HEX}&dn={}", "n".repeat(100_000));
        let magnet: Magnet = named.parse().expect("a link");
        assert_eq!(magnet.name.expect("there").len(), NAME_LEN_MAX);
        let long = format!("magnet:?xt=urn:btih:{HEX}&dn={}", "n".repeat(1 << 20));
        assert!(matches!(long.parse::<Magnet>(), Err(MagnetError::TooLong { .. })));
    }

    #[test]
    fn hints_that_are_malformed_are_left_out() {
        let link = format!(
            "magnet:?xt=urn:btih:{HEX}&x.pe=nohost&x.pe=:80&x.pe=a:0&x.pe=a:65536&x.pe=1::2:80\
             &x.pe=[zz]:1&tr=%20&tr=a%00b&ws=ftp://x&ws=http://&so=5-3,x,1-,7,9-99999999999,6"
        );
        let magnet: Magnet = link.parse().expect("a link");
        assert!(magnet.peers.is_empty() && magnet.trackers.is_empty());
        assert!(magnet.web_seeds.is_empty());
        assert_eq!(magnet.select_only, [6..=7]);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_what_is_printed_is_read_back(
            tail in "(&?(xt=urn:btih:|xt=urn:btmh:1220|dn=|tr=http://|ws=https://|x.pe=|so=)?\
                     [0-9a-f%:,. +\u{e9}-]{0,44}){0,6}",
            any_text in "\\PC{0,60}",
        ) {
            let _ = any_text.parse::<Magnet>();
            let link = format!("magnet:?xt=urn:btih:{HEX}{tail}{any_text}");
            let links: [String; 2] = [link, format!("magnet:?{tail}")];
            for link in links {
                if let Ok(magnet) = link.parse::<Magnet>() {
                    prop_assert_eq!(magnet.to_string().parse::<Magnet>(), Ok(magnet));
                }
            }
        }
    }
}
