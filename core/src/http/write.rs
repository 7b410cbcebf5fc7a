//! Writing messages: a bare `GET`, and whole responses.

use alloc::vec::Vec;
use core::fmt::Write;

use url::Url;

use super::url::host_header;

/// What we call ourselves to trackers and web seeds. Some trackers refuse names that hold
/// `mozilla`, `browser`, `chrome`, `safari`, `opera`, `links`, `lynx`, `bot` or `unknown`.
pub const USER_AGENT: &str = concat!("teem/", env!("CARGO_PKG_VERSION"));

struct Text<'a>(&'a mut Vec<u8>);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Appends to `out` a `GET` of `target` (a path and perhaps a query, see
/// [`target`](super::url::target)) from the host of `url`, for a stream that is closed afterwards.
/// The header set is as bare as private trackers want it.
pub fn get(out: &mut Vec<u8>, url: &Url, target: &str, user_agent: &str) {
    debug_assert!(!target.contains(|c: char| c <= ' '), "a target is encoded");
    let host = host_header(url);
    write!(
        Text(out),
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {user_agent}\r\n\
         Accept-Encoding: gzip\r\nConnection: close\r\n\r\n",
    )
    .expect("a vector takes it");
}

/// A status that a server of ours answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// 200.
    Ok,
    /// 400.
    BadRequest,
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 408.
    RequestTimeout,
    /// 413.
    ContentTooLarge,
    /// 431.
    HeadTooLarge,
    /// 503.
    ServiceUnavailable,
}

impl Status {
    /// Code and reason, such as `200 OK`.
    pub const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::ServiceUnavailable => "503 Service Unavailable",
        }
    }
}

/// Appends to `out` a whole response. `keep_alive` says whether the stream stays open.
pub fn response(
    out: &mut Vec<u8>,
    status: Status,
    content_type: &str,
    body: &[u8],
    keep_alive: bool,
) {
    let line = status.line();
    let len = body.len();
    let connection = if keep_alive { "keep-alive" } else { "close" };
    write!(
        Text(out),
        "HTTP/1.1 {line}\r\nContent-Type: {content_type}\r\nContent-Length: {len}\r\n\
         Connection: {connection}\r\n\r\n",
    )
    .expect("a vector takes it");
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Item, Limits, RequestParser, ResponseParser};
    use bytes::Bytes;

    #[test]
    fn a_request_that_we_write_is_one_that_we_read_and_its_headers_are_bare() {
        let url = Url::parse("http://Tracker.example:6969/announce").expect("a URL");
        let mut out = Vec::new();
        get(&mut out, &url, "/announce?info_hash=%00", USER_AGENT);
        let mut input = Bytes::from(out);
        let mut parser = RequestParser::new(Limits::GET);
        let Ok(Some(Item::Head(head))) = parser.next(&mut input) else { panic!("a head") };
        assert_eq!(&head.target[..], b"/announce?info_hash=%00");
        assert_eq!(head.headers.get("host"), Some(&b"tracker.example:6969"[..]));
        assert_eq!(head.headers.len(), 4);
        assert!(!head.keep_alive);
    }

    #[test]
    fn the_user_agent_holds_no_word_that_trackers_refuse() {
        let agent = USER_AGENT.to_ascii_lowercase();
        for word in
            ["mozilla", "browser", "chrome", "safari", "opera", "links", "lynx", "bot", "unknown"]
        {
            assert!(!agent.contains(word), "{agent}");
        }
        assert!(agent.len() <= 64);
    }

    #[test]
    fn a_response_that_we_write_is_one_that_we_read() {
        let mut out = Vec::new();
        response(&mut out, Status::Ok, "text/plain", b"hi", true);
        let mut input = Bytes::from(out);
        let mut parser = ResponseParser::new(Limits::TRACKER);
        let Ok(Some(Item::Head(head))) = parser.next(&mut input) else { panic!("a head") };
        assert!(head.keep_alive && head.status == 200);
        assert_eq!(parser.next(&mut input), Ok(Some(Item::Body(Bytes::from_static(b"hi")))));
        assert_eq!(parser.next(&mut input), Ok(Some(Item::End)));
    }
}
