//! Heads: the first line and the header fields.

use alloc::vec::Vec;

use bytes::Bytes;

use super::body::Framing;
use super::{Error, HEADERS_MAX};

/// Header fields, in order of arrival.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    fields: Vec<(Bytes, Bytes)>,
}

impl Headers {
    fn read(raw: &Bytes, headers: &[httparse::Header<'_>]) -> Self {
        let field = |header: &httparse::Header<'_>| {
            (raw.slice_ref(header.name.as_bytes()), raw.slice_ref(header.value))
        };
        Self { fields: headers.iter().map(field).collect() }
    }

    /// The value of the first field called `name`, in any case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The values of all fields called `name`, in any case.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let named = move |(field, _): &&(Bytes, Bytes)| field.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(named).map(|(_, value)| &value[..])
    }

    /// Whether a comma-separated list called `name` holds `item`, in any case.
    pub fn has_item(&self, name: &str, item: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|found| found.trim_ascii().eq_ignore_ascii_case(item.as_bytes()))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    fn content_length(&self) -> Result<Option<u64>, Error> {
        let mut length = None;
        for value in self.all("content-length") {
            let digits = value.trim_ascii();
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                return Err(Error::BadLength);
            }
            let text = core::str::from_utf8(digits).map_err(|_| Error::BadLength)?;
            let number: u64 = text.parse().map_err(|_| Error::BadLength)?;
            if length.is_some_and(|length| length != number) {
                return Err(Error::BadLength);
            }
            length = Some(number);
        }
        Ok(length)
    }

    /// Whether the body is chunked.
    fn chunked(&self) -> Result<bool, Error> {
        let mut chunked = false;
        for value in self.all("transfer-encoding") {
            let value = value.trim_ascii();
            let known = value.eq_ignore_ascii_case(b"chunked");
            if !known && !value.eq_ignore_ascii_case(b"identity") {
                return Err(Error::UnknownTransferEncoding);
            }
            chunked |= known;
        }
        Ok(chunked)
    }
}

impl core::fmt::Debug for Headers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let text = |bytes: &Bytes| alloc::format!("{}", bytes.escape_ascii());
        f.debug_map().entries(self.fields.iter().map(|(k, v)| (text(k), text(v)))).finish()
    }
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code, such as 200.
    pub status: u16,
    /// The header fields.
    pub headers: Headers,
    /// Whether the stream can be used again after the body.
    pub keep_alive: bool,
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The method, such as `GET`.
    pub method: Bytes,
    /// The target, as it was sent: a path and perhaps a query; ASCII without blanks.
    pub target: Bytes,
    /// The header fields.
    pub headers: Headers,
    /// Whether the asker wants to ask again on this stream.
    pub keep_alive: bool,
}

/// What a [`Parser`](super::Parser) reads at the front of a message.
pub trait Head: sealed::Sealed + Sized {}

pub(super) mod sealed {
    use super::{Bytes, Error, Framing};

    #[expect(unnameable_types, reason = "sealed: a parser reads the two heads of this module")]
    pub trait Sealed: Sized {
        /// Reads a whole head.
        fn parse(raw: &Bytes) -> Result<Self, Error>;
        /// How the body behind this head ends; none: this head is to be skipped.
        fn framing(&self) -> Result<Option<Framing>, Error>;
    }
}

fn refused(error: httparse::Error) -> Error {
    match error {
        httparse::Error::TooManyHeaders => Error::TooManyHeaders,
        _ => Error::Malformed,
    }
}

fn keep_alive(version: Option<u8>, headers: &Headers) -> bool {
    let default = version.is_some_and(|minor| minor >= 1);
    if default {
        !headers.has_item("connection", "close")
    } else {
        headers.has_item("connection", "keep-alive")
    }
}

impl Head for ResponseHead {}

impl sealed::Sealed for ResponseHead {
    fn parse(raw: &Bytes) -> Result<Self, Error> {
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let status = response.parse(raw).map_err(refused)?;
        if status.is_partial() {
            return Err(Error::Malformed);
        }
        let headers = Headers::read(raw, response.headers);
        let keep_alive = keep_alive(response.version, &headers);
        Ok(Self { status: response.code.ok_or(Error::Malformed)?, headers, keep_alive })
    }

    fn framing(&self) -> Result<Option<Framing>, Error> {
        match self.status {
            // Interim: the real one follows. There is no upgrade that we would ask for.
            0..200 => return Ok(None),
            204 | 304 => return Ok(Some(Framing::Length(0))),
            _ => {}
        }
        if self.headers.chunked()? {
            return Ok(Some(Framing::chunked()));
        }
        Ok(Some(match self.headers.content_length()? {
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        }))
    }
}

impl Head for RequestHead {}

impl sealed::Sealed for RequestHead {
    fn parse(raw: &Bytes) -> Result<Self, Error> {
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        let status = request.parse(raw).map_err(refused)?;
        if status.is_partial() {
            return Err(Error::Malformed);
        }
        let headers = Headers::read(raw, request.headers);
        let part = |text: Option<&str>| {
            text.map(|text| raw.slice_ref(text.as_bytes())).ok_or(Error::Malformed)
        };
        Ok(Self {
            method: part(request.method)?,
            target: part(request.path)?,
            keep_alive: keep_alive(request.version, &headers),
            headers,
        })
    }

    fn framing(&self) -> Result<Option<Framing>, Error> {
        let length = self.headers.content_length()?;
        if self.headers.chunked()? {
            // Two lengths in a request are how requests are smuggled past a proxy.
            return if length.is_some() {
                Err(Error::BadLength)
            } else {
                Ok(Some(Framing::chunked()))
            };
        }
        Ok(Some(Framing::Length(length.unwrap_or(0))))
    }
}
