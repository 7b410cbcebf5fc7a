//! Tracker URLs: which are taken, and what they say.

use alloc::boxed::Box;
use alloc::string::String;
use core::net::IpAddr;

use ::url::Url;

use crate::http::url::{URL_MAX, literal_address, query_pairs, target};

/// How a tracker is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// HTTP (BEP 3).
    Http,
    /// HTTP over TLS.
    Https,
    /// UDP (BEP 15).
    Udp,
}

/// Why a URL is not taken for a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It is longer than [`URL_MAX`] bytes.
    #[error("the tracker URL is too long")]
    TooLong,
    /// It is not a URL with a host.
    #[error("not a tracker URL")]
    Malformed,
    /// Neither HTTP nor UDP.
    #[error("trackers of this kind are not supported")]
    UnsupportedScheme,
    /// A UDP tracker without a port.
    #[error("the tracker URL has no port")]
    NoPort,
    /// Its query already has a key that the announce itself has, such as `info_hash`: it would
    /// make us send what somebody else made up.
    #[error("the tracker URL has announce parameters of its own")]
    ReservedKey,
}

/// Query keys that an announce sends itself.
const RESERVED_KEYS: [&str; 14] = [
    "info_hash",
    "peer_id",
    "port",
    "uploaded",
    "downloaded",
    "left",
    "event",
    "numwant",
    "compact",
    "key",
    "ip",
    "ipv4",
    "ipv6",
    "trackerid",
];

/// A tracker's address, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct TrackerUrl {
    text: Box<str>,
    /// With an `http` scheme for UDP trackers, so that hosts are read alike.
    url: Box<Url>,
    transport: Transport,
}

impl TrackerUrl {
    /// Reads a URL as torrents and magnet links have it.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        if text.len() > URL_MAX {
            return Err(UrlError::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Malformed)?;
        let transport = match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => Transport::Http,
            _ if scheme.eq_ignore_ascii_case("https") => Transport::Https,
            _ if scheme.eq_ignore_ascii_case("udp") => Transport::Udp,
            _ => return Err(UrlError::UnsupportedScheme),
        };
        let url = match transport {
            Transport::Http | Transport::Https => Url::parse(text),
            Transport::Udp if !has_port(rest) => return Err(UrlError::NoPort),
            Transport::Udp => {
                let mut as_http = String::from("http://");
                as_http.push_str(rest);
                Url::parse(&as_http)
            }
        };
        let url = url.map_err(|_| UrlError::Malformed)?;
        if url.host().is_none() {
            return Err(UrlError::Malformed);
        }
        if url.port_or_known_default().is_none_or(|port| port == 0) {
            return Err(UrlError::NoPort);
        }
        let this = Self { text: text.into(), url: Box::new(url), transport };
        if this.has_reserved_key() {
            return Err(UrlError::ReservedKey);
        }
        Ok(this)
    }

    fn has_reserved_key(&self) -> bool {
        query_pairs(self.url.query().unwrap_or_default().as_bytes()).any(|(key, _)| {
            let key = crate::http::url::percent_decode(key);
            RESERVED_KEYS.iter().any(|reserved| key.eq_ignore_ascii_case(reserved.as_bytes()))
        })
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How this tracker is spoken to.
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// The URL in parts; for UDP trackers the scheme means nothing.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The host: a name in ASCII, or an address in writing.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The port, never zero.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or_default()
    }

    /// The address, if the host is one in writing.
    pub fn address(&self) -> Option<IpAddr> {
        literal_address(&self.url)
    }

    /// Path and query: the request target over HTTP, the URL data over UDP (BEP 41).
    pub fn target(&self) -> String {
        target(&self.url)
    }
}

impl core::fmt::Debug for TrackerUrl {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl core::fmt::Display for TrackerUrl {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether there is a port in the part of a URL behind its scheme.
fn has_port(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    host.rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a request may go to this machine itself for the path of `url`: only to what looks like
/// an announce or a scrape, so that a torrent cannot press the buttons of other programs here.
pub fn may_ask_loopback(url: &Url) -> bool {
    let last = url.path().rsplit('/').next().unwrap_or_default();
    ["announce", "scrape"]
        .iter()
        .any(|name| last.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
}

/// Where a tracker that announces at `url` is scraped over HTTP (BEP 48): the same, with `scrape`
/// for the `announce` that its last segment begins with. None: there is no such convention for it.
pub fn scrape_url(url: &Url) -> Option<Url> {
    let (folder, last) = url.path().rsplit_once('/')?;
    let rest = last.strip_prefix("announce")?;
    let path = alloc::format!("{folder}/scrape{rest}");
    let mut url = url.clone();
    url.set_path(&path);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn host_port_and_target_are_read_alike_for_all_transports() {
        let cases = [
            ("http://A.Example/announce", Transport::Http, "a.example", 80, "/announce"),
            (
                "HTTPS://a.example:8443/p/announce?k=v",
                Transport::Https,
                "a.example",
                8443,
                "/p/announce?k=v",
            ),
            ("udp://a.example:80", Transport::Udp, "a.example", 80, "/"),
            ("udp://a.example:21/announce", Transport::Udp, "a.example", 21, "/announce"),
            (
                "udp://[2001:db8::1]:6969/announce",
                Transport::Udp,
                "[2001:db8::1]",
                6969,
                "/announce",
            ),
            ("udp://b\u{fc}cher.example:6969/", Transport::Udp, "xn--bcher-kva.example", 6969, "/"),
        ];
        for (text, transport, host, port, target) in cases {
            let url = TrackerUrl::parse(text).expect(text);
            assert_eq!((url.transport(), url.host(), url.port()), (transport, host, port));
            assert_eq!(url.target(), target);
            assert_eq!(url.as_str(), text);
        }
        let literal = TrackerUrl::parse("udp://127.1:6969").expect("a URL");
        assert_eq!(literal.address(), Some("127.0.0.1".parse().expect("an address")));
    }

    #[test]
    fn ssrf_query_string() {
        for query in ["info_hash=abc", "a=b&PEER_ID=x", "%70ort=1", "event"] {
            let text = std::format!("http://a.example/announce?{query}");
            assert_eq!(TrackerUrl::parse(&text), Err(UrlError::ReservedKey), "{query}");
        }
        assert!(TrackerUrl::parse("http://a.example/announce?passkey=x").is_ok());
    }

    #[test]
    fn what_is_no_tracker_is_refused() {
        let cases = [
            ("", UrlError::Malformed),
            ("announce", UrlError::Malformed),
            ("wss://a.example/", UrlError::UnsupportedScheme),
            ("file:///etc/passwd", UrlError::UnsupportedScheme),
            ("http://", UrlError::Malformed),
            ("udp://a.example", UrlError::NoPort),
            ("udp://[2001:db8::21]/x:1", UrlError::NoPort),
            ("udp://a.example:0", UrlError::NoPort),
            ("http://a.example:99999/", UrlError::Malformed),
        ];
        for (text, error) in cases {
            assert_eq!(TrackerUrl::parse(text), Err(error), "{text}");
        }
        let long = std::format!("http://a.example/{}", "x".repeat(URL_MAX));
        assert_eq!(TrackerUrl::parse(&long), Err(UrlError::TooLong));
    }

    #[test]
    fn this_machine_is_asked_for_announces_only() {
        let may = |text: &str| may_ask_loopback(&Url::parse(text).expect("a URL"));
        assert!(may("http://h/announce") && may("http://h/k/Announce.php?x"));
        assert!(may("http://h/scrape?x"));
        assert!(!may("http://h/admin") && !may("http://h/announce/../admin"));
    }

    #[test]
    fn a_tracker_is_scraped_where_its_announce_says() {
        // The examples of BEP 48.
        let cases = [
            ("/announce", Some("/scrape")),
            ("/x/announce", Some("/x/scrape")),
            ("/announce.php", Some("/scrape.php")),
            ("/a", None),
            ("/announce?x2%0644", Some("/scrape?x2%0644")),
            ("/announce?x=2/4", Some("/scrape?x=2/4")),
            ("/x%064announce", None),
        ];
        for (path, expected) in cases {
            let url = Url::parse(&std::format!("http://example.com{path}")).expect("a URL");
            let found = scrape_url(&url).map(|url| target(&url));
            assert_eq!(found.as_deref(), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,60}", scheme in "(udp|http|https)://") {
            let _ = TrackerUrl::parse(&text);
            if let Ok(url) = TrackerUrl::parse(&(scheme + &text)) {
                prop_assert!(url.port() != 0 && !url.host().is_empty());
            }
        }
    }
}
