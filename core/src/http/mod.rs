//! A small HTTP/1.1 (RFC 9112) for trackers and web seeds, client side and server side.
//!
//! A [`Parser`] takes bytes as they come and yields a head, the parts of the body as slices of
//! what came in, and an end; `httparse` reads the heads. [`mod@write`] makes requests and responses.
//! [`url`] resolves redirects and says what an address may be reached from.
//!
//! It refuses what it does not need: no upgrade, no `Expect`, no trailers (they are skipped). Bodies
//! come as they were sent; [`gzip`] undoes the one compression that we ask for. Everything a
//! stranger sends is bounded by [`Limits`]; time is the caller's.

mod body;
mod head;
mod parser;

pub mod fetch;
pub mod gzip;
pub mod url;
pub mod write;

pub use head::{Head, Headers, RequestHead, ResponseHead};
pub use parser::{Item, Parser, RequestParser, ResponseParser};

/// Header fields in one head; more is [`Error::TooManyHeaders`].
pub const HEADERS_MAX: usize = 64;

/// How much a [`Parser`] takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, and of the trailers.
    pub head: usize,
    /// Bytes of a body.
    pub body: u64,
}

impl Limits {
    /// For what trackers answer: 16 KiB and 1 MiB.
    pub const TRACKER: Self = Self { head: 16 * 1024, body: 1024 * 1024 };
    /// For what a server of ours is asked with `GET`: 8 KiB and nothing.
    pub const GET: Self = Self { head: 8 * 1024, body: 0 };
}

/// Why a message cannot be read. The stream is of no use after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The head is not HTTP/1.
    #[error("not HTTP")]
    Malformed,
    /// The head is longer than [`Limits::head`].
    #[error("the HTTP head is too long")]
    HeadTooLong,
    /// There are more than [`HEADERS_MAX`] header fields.
    #[error("too many HTTP header fields")]
    TooManyHeaders,
    /// The body is longer than [`Limits::body`], or says that it will be.
    #[error("the HTTP body is too long")]
    BodyTooLong,
    /// `Content-Length` is not a number, or is there twice with different numbers, or together
    /// with `Transfer-Encoding` in a request.
    #[error("the length of the HTTP body is not clear")]
    BadLength,
    /// A `Transfer-Encoding` other than `chunked`.
    #[error("unknown HTTP transfer encoding")]
    UnknownTransferEncoding,
    /// A chunk's size is not a number, or something stands where a chunk must end.
    #[error("bad HTTP chunk")]
    BadChunk,
    /// The stream ended inside a message.
    #[error("the HTTP message was cut off")]
    Truncated,
}
