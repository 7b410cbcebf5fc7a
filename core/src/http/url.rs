//! URLs: request targets, percent-encoding, redirects, and which addresses are nobody's business.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use url::{Host, Url};

/// Redirects that are followed one after the other.
pub const REDIRECTS_MAX: u8 = 5;

/// Bytes of a `Location`, and of any URL of ours.
pub const URL_MAX: usize = 4 * 1024;

/// Appends `bytes` to `out`, with everything but unreserved characters (RFC 3986, 2.3) as `%XX`.
pub fn percent_encode(out: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => write!(out, "%{byte:02X}").expect("a string takes it"),
        }
    }
}

/// Undoes percent-encoding in a part of a query; `+` is a blank. What is not hex after a `%`
/// stands for itself.
pub fn percent_decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        out.push(match byte {
            b'+' => b' ',
            b'%' => match (digit(at), digit(at + 1)) {
                (Some(high), Some(low)) => {
                    at += 2;
                    (high << 4 | low) as u8
                }
                _ => byte,
            },
            _ => byte,
        });
    }
    Cow::Owned(out)
}

/// The pairs of a query (the part behind `?`), not decoded. A key without `=` has an empty value.
pub fn query_pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        }
    })
}

/// Path and query of `url`: what a request asks for.
pub fn target(url: &Url) -> String {
    let mut target = String::from(url.path());
    if target.is_empty() {
        target.push('/');
    }
    if let Some(query) = url.query() {
        target.push('?');
        target.push_str(query);
    }
    target
}

/// The value of a `Host` field: the port only if it is not the scheme's own.
pub(super) fn host_header(url: &Url) -> String {
    let mut host = String::from(url.host_str().unwrap_or_default());
    if let Some(port) = url.port() {
        write!(host, ":{port}").expect("a string takes it");
    }
    host
}

/// The address in `url`, if its host is one in writing (in any notation that URLs allow).
pub fn literal_address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(IpAddr::V4(address)),
        Host::Ipv6(address) => Some(IpAddr::V6(address).to_canonical()),
        Host::Domain(_) => None,
    }
}

/// Whether the name in `url` holds other letters than those of ASCII, which a URL writes in labels
/// that begin with `xn--` (RFC 5890).
pub fn is_international(url: &Url) -> bool {
    url.host_str().is_some_and(|host| host.split('.').any(|label| label.starts_with("xn--")))
}

/// Why a redirect is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedirectError {
    /// There is no `Location`, or it is not a URL, or longer than [`URL_MAX`].
    #[error("redirected to nowhere")]
    BadLocation,
    /// It leads to something that is not HTTP.
    #[error("redirected away from HTTP")]
    NotHttp,
    /// It leads from TLS to plain text.
    #[error("redirected from TLS to plain text")]
    Downgrade,
    /// More than [`REDIRECTS_MAX`] of them.
    #[error("redirected too often")]
    TooMany,
    /// It leads from the internet to a private or local address.
    #[error("redirected to a private address")]
    Private,
}

/// Whether `status` is a redirect that a `GET` follows.
pub const fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// Where a response to a request for `from` leads, by its `Location`.
pub fn redirect(from: &Url, location: Option<&[u8]>) -> Result<Url, RedirectError> {
    let location = location.filter(|location| location.len() <= URL_MAX);
    let text = location
        .and_then(|location| core::str::from_utf8(location).ok())
        .ok_or(RedirectError::BadLocation)?;
    let to = from.join(text.trim()).map_err(|_| RedirectError::BadLocation)?;
    match (from.scheme(), to.scheme()) {
        ("https", "http") => Err(RedirectError::Downgrade),
        (_, "http" | "https") if to.host().is_some() => Ok(to),
        (_, "http" | "https") => Err(RedirectError::BadLocation),
        _ => Err(RedirectError::NotHttp),
    }
}

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This machine.
    Loopback,
    /// This link, site, or provider.
    Local,
    /// The internet. Addresses for documentation count here: they lead nowhere, and stand for the
    /// internet in tests.
    Global,
    /// No single host: unspecified, multicast, broadcast, reserved.
    Unusable,
}

impl Scope {
    /// The scope of `address`. An IPv4 address inside an IPv6 one (mapped, 6to4, NAT64) counts as
    /// what it is.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            [127, ..] => Self::Loopback,
            [0 | 224..=255, ..] => Self::Unusable,
            [10, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            | [198, 18 | 19, ..] => Self::Local,
            _ => Self::Global,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let embedded = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Self::of_v4(Ipv4Addr::new(a, b, c, d))
        };
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0] | [0xff00..=0xffff, ..] => Self::Unusable,
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                embedded(high, low)
            }
            [0x2002, high, low, ..] => embedded(high, low),
            [0xfc00..=0xfdff | 0xfe80..=0xfeff, ..] => Self::Local,
            _ => Self::Global,
        }
    }
}

/// Whether a peer or server can be at `address`: one host, and a port that is not zero.
pub fn is_reachable(address: SocketAddr) -> bool {
    address.port() != 0 && Scope::of(address.ip()) != Scope::Unusable
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    #[test]
    fn redirects_are_resolved_against_where_they_come_from() {
        let from = url("http://a.example/x/announce?k=1");
        let to = |location: &str| redirect(&from, Some(location.as_bytes())).map(String::from);
        assert_eq!(to("/y").as_deref(), Ok("http://a.example/y"));
        assert_eq!(to("y?z").as_deref(), Ok("http://a.example/x/y?z"));
        assert_eq!(to("//b.example/").as_deref(), Ok("http://b.example/"));
        assert_eq!(to("https://b.example").as_deref(), Ok("https://b.example/"));
        assert_eq!(to("ftp://b.example/"), Err(RedirectError::NotHttp));
        assert_eq!(to("http://"), Err(RedirectError::BadLocation));
        assert_eq!(to(&"x".repeat(URL_MAX + 1)), Err(RedirectError::BadLocation));
        assert_eq!(redirect(&from, None), Err(RedirectError::BadLocation));
        let secure = url("https://a.example/");
        assert_eq!(redirect(&secure, Some(b"http://a.example/")), Err(RedirectError::Downgrade));
    }

    #[test]
    fn an_address_is_seen_through_every_notation() {
        for text in ["http://127.0.0.1/", "http://2130706433/", "http://0x7f.1/", "http://[::1]/"] {
            let address = literal_address(&url(text)).expect("a literal");
            assert_eq!(Scope::of(address), Scope::Loopback, "{text}");
        }
        let mapped = literal_address(&url("http://[::ffff:10.0.0.1]/")).expect("a literal");
        assert_eq!(mapped, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(literal_address(&url("http://a.example/")), None);
    }

    #[test]
    fn scopes_are_told_apart() {
        let cases = [
            ("8.8.8.8", Scope::Global),
            ("192.0.2.1", Scope::Global),
            ("10.1.2.3", Scope::Local),
            ("100.64.0.1", Scope::Local),
            ("172.32.0.1", Scope::Global),
            ("192.168.1.1", Scope::Local),
            ("169.254.169.254", Scope::Local),
            ("0.0.0.0", Scope::Unusable),
            ("239.1.1.1", Scope::Unusable),
            ("255.255.255.255", Scope::Unusable),
            ("::", Scope::Unusable),
            ("::1", Scope::Loopback),
            ("::ffff:127.0.0.1", Scope::Loopback),
            ("64:ff9b::7f00:1", Scope::Loopback),
            ("2002:a00:1::1", Scope::Local),
            ("fe80::1", Scope::Local),
            ("fd00::1", Scope::Local),
            ("ff02::1", Scope::Unusable),
            ("2001:db8::1", Scope::Global),
        ];
        for (text, scope) in cases {
            assert_eq!(Scope::of(text.parse().expect("an address")), scope, "{text}");
        }
    }

    #[test]
    fn a_query_falls_into_pairs() {
        let pairs: Vec<_> = query_pairs(b"a=b&&c&d=e=f").collect();
        let expected: [(&[u8], &[u8]); 3] = [(b"a", b"b"), (b"c", b""), (b"d", b"e=f")];
        assert_eq!(pairs, expected);
        assert_eq!(&percent_decode(b"a+b%2B%zz%4")[..], b"a b+%zz%4");
    }

    proptest! {
        #[test]
        fn encoded_bytes_decode_to_themselves(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut text = String::new();
            percent_encode(&mut text, &bytes);
            prop_assert_eq!(&percent_decode(text.as_bytes())[..], &bytes[..]);
            let joined = url("http://h/").join(&std::format!("?{text}")).expect("a query");
            prop_assert_eq!(joined.query(), Some(&text[..]));
        }

        #[test]
        fn arbitrary_locations_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = redirect(&url("http://h/"), Some(&bytes));
            let _ = percent_decode(&bytes);
            let _ = query_pairs(&bytes).count();
        }
    }
}
