//! The incremental parser: bytes in, heads and bodies out.

use alloc::vec::Vec;

use bytes::{Buf, Bytes};

use super::body::{Framing, Step};
use super::head::{Head, RequestHead, ResponseHead};
use super::{Error, Limits};

/// What a [`Parser`] found next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<H> {
    /// The head of a message.
    Head(H),
    /// The next part of its body: a slice of the input, not empty.
    Body(Bytes),
    /// The message is whole; what follows is the next one.
    End,
}

/// Reads the responses that a server sends on one stream.
pub type ResponseParser = Parser<ResponseHead>;

/// Reads the requests that a client sends on one stream.
pub type RequestParser = Parser<RequestHead>;

/// Reads messages from one stream, in pieces of any size.
///
/// ```
/// # use teem_core::http::{Item, Limits, ResponseParser};
/// # use bytes::Bytes;
/// let mut parser = ResponseParser::new(Limits::TRACKER);
/// let mut input = Bytes::from_static(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
/// let Some(Item::Head(head)) = parser.next(&mut input)? else { panic!("a whole head") };
/// assert_eq!(head.status, 200);
/// assert_eq!(parser.next(&mut input)?, Some(Item::Body(Bytes::from_static(b"hi"))));
/// assert_eq!(parser.next(&mut input)?, Some(Item::End));
/// # Ok::<(), teem_core::http::Error>(())
/// ```
#[derive(Debug)]
pub struct Parser<H> {
    limits: Limits,
    state: State,
    /// Bytes of the body so far.
    body: u64,
    head: core::marker::PhantomData<fn() -> H>,
}

#[derive(Debug)]
enum State {
    /// The head so far, and how long its last line is (without its end).
    Head {
        raw: Vec<u8>,
        line: usize,
    },
    Body(Framing),
    Failed(Error),
}

const START: State = State::Head { raw: Vec::new(), line: 0 };

impl<H: Head> Parser<H> {
    /// A parser for a stream that begins; allocates nothing.
    pub const fn new(limits: Limits) -> Self {
        Self { limits, state: START, body: 0, head: core::marker::PhantomData }
    }

    /// Takes the next item from the front of `input`; none: all of it was taken, and more is
    /// needed. An error is final.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Item<H>>, Error> {
        let result = self.step(input);
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
    }

    /// The stream ended: the end of a body that lasts until then, or none between messages.
    pub fn finish(&mut self) -> Result<Option<Item<H>>, Error> {
        match &self.state {
            State::Head { raw, .. } if raw.is_empty() => Ok(None),
            State::Body(Framing::UntilClose) => {
                self.state = START;
                Ok(Some(Item::End))
            }
            State::Failed(error) => Err(*error),
            State::Head { .. } | State::Body(_) => Err(Error::Truncated),
        }
    }

    /// Whether a message has begun and not ended.
    pub fn is_inside(&self) -> bool {
        !matches!(&self.state, State::Head { raw, .. } if raw.is_empty())
    }

    fn step(&mut self, input: &mut Bytes) -> Result<Option<Item<H>>, Error> {
        loop {
            match &mut self.state {
                State::Failed(error) => return Err(*error),
                State::Head { raw, line } => {
                    if !take_head(raw, line, input, self.limits.head)? {
                        return Ok(None);
                    }
                    let raw = Bytes::from(core::mem::take(raw));
                    let head = H::parse(&raw)?;
                    let Some(framing) = head.framing()? else {
                        self.state = START;
                        continue;
                    };
                    if let Framing::Length(length) = framing
                        && length > self.limits.body
                    {
                        return Err(Error::BodyTooLong);
                    }
                    self.body = 0;
                    self.state = State::Body(framing);
                    return Ok(Some(Item::Head(head)));
                }
                State::Body(framing) => match framing.next(input, &self.limits)? {
                    Step::More => return Ok(None),
                    Step::End => {
                        self.state = START;
                        return Ok(Some(Item::End));
                    }
                    Step::Part(part) => {
                        self.body += part.len() as u64;
                        if self.body > self.limits.body {
                            return Err(Error::BodyTooLong);
                        }
                        return Ok(Some(Item::Body(part)));
                    }
                },
            }
        }
    }
}

/// Moves bytes from `input` to `raw` up to the empty line that ends a head, each looked at once.
/// Returns whether it was found.
fn take_head(
    raw: &mut Vec<u8>,
    line: &mut usize,
    input: &mut Bytes,
    max: usize,
) -> Result<bool, Error> {
    // Empty lines in front of a message are allowed (RFC 9112, 2.2).
    if raw.is_empty() {
        let blank = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        input.advance(blank);
    }
    let mut taken = 0;
    let mut found = false;
    for byte in input.iter() {
        taken += 1;
        match byte {
            b'\n' if *line == 0 => {
                found = true;
                break;
            }
            b'\n' => *line = 0,
            b'\r' => {}
            _ => *line += 1,
        }
    }
    if raw.len() + taken > max {
        return Err(Error::HeadTooLong);
    }
    raw.extend_from_slice(&input.split_to(taken));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write;
    use std::format;
    use std::string::String;

    const LIMITS: Limits = Limits { head: 512, body: 64 };

    /// All that a parser makes of `input` cut at `cuts`, with body parts joined.
    fn read<H: Head + core::fmt::Debug>(input: &[u8], cuts: &[usize]) -> String {
        let mut parser = Parser::<H>::new(LIMITS);
        let (mut seen, mut body) = (String::new(), Vec::new());
        let mut at = 0;
        let mut note = |item: Result<Option<Item<H>>, Error>| match item {
            Ok(Some(Item::Body(part))) => {
                assert!(!part.is_empty());
                body.extend_from_slice(&part);
                true
            }
            // Bytes of a body before an error are not promised, only before its end.
            Ok(Some(Item::End)) => {
                writeln!(seen, "{} end", core::mem::take(&mut body).escape_ascii())
                    .expect("a string takes it");
                true
            }
            Ok(Some(item)) => {
                writeln!(seen, "{item:?}").expect("a string takes it");
                true
            }
            Ok(None) => false,
            Err(error) => {
                writeln!(seen, "{error:?}").expect("a string takes it");
                false
            }
        };
        for end in cuts.iter().copied().filter(|cut| *cut < input.len()).chain([input.len()]) {
            let mut part = Bytes::copy_from_slice(&input[at..end.max(at)]);
            at = end.max(at);
            while note(parser.next(&mut part)) {}
            if matches!(parser.state, State::Failed(_)) {
                return seen;
            }
        }
        note(parser.finish());
        seen
    }

    fn body_of(input: &[u8]) -> Result<Vec<u8>, Error> {
        let mut parser = ResponseParser::new(LIMITS);
        let mut input = Bytes::copy_from_slice(input);
        let mut body = Vec::new();
        loop {
            match parser.next(&mut input)? {
                Some(Item::Head(_)) => {}
                Some(Item::Body(part)) => body.extend_from_slice(&part),
                Some(Item::End) => return Ok(body),
                None => {
                    return parser.finish()?.map(|_| body).ok_or(Error::Truncated);
                }
            }
        }
    }

    #[test]
    fn a_body_ends_by_length_by_chunks_or_with_the_stream() {
        let bodies: [&[u8]; 6] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n05\nhello\n0\nTrailer: x\n\n",
            b"HTTP/1.1 200 OK\r\n\r\nhello",
            b"HTTP/1.0 200\n\nhello",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        ];
        for input in bodies {
            assert_eq!(body_of(input).as_deref(), Ok(&b"hello"[..]), "{}", input.escape_ascii());
        }
        assert_eq!(body_of(b"HTTP/1.1 204 No Content\r\n\r\n"), Ok(Vec::new()));
    }

    #[test]
    fn what_cannot_be_read_has_its_own_error() {
        let head = |fields: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}");
        let chunked = |body: &str| head("Transfer-Encoding: chunked\r\n", body);
        let cases = [
            (head("Content-Length: 5\r\n", "hell"), Error::Truncated),
            (head("Content-Length: 65\r\n", ""), Error::BodyTooLong),
            (head("Content-Length: -1\r\n", ""), Error::BadLength),
            (head("Content-Length: 1\r\nContent-Length: 2\r\n", ""), Error::BadLength),
            (head("Content-Length: 99999999999999999999\r\n", ""), Error::BadLength),
            (head("", &"x".repeat(65)), Error::BodyTooLong),
            (head("Transfer-Encoding: gzip\r\n", ""), Error::UnknownTransferEncoding),
            (head(&"A: b\r\n".repeat(65), ""), Error::TooManyHeaders),
            (head(&format!("A: {}\r\n", "b".repeat(512)), ""), Error::HeadTooLong),
            (chunked("x\r\n"), Error::BadChunk),
            (chunked("\r\n"), Error::BadChunk),
            (chunked("-1\r\n"), Error::BadChunk),
            (chunked("fffffffffffffffff\r\n"), Error::BadChunk),
            (chunked("1\r\nab"), Error::BadChunk),
            (chunked(&format!("1;{}", "a".repeat(300))), Error::BadChunk),
            (chunked(&format!("0\r\n{}", "a: b\r\n".repeat(100))), Error::HeadTooLong),
            (chunked(&format!("41\r\n{}", "x".repeat(65))), Error::BodyTooLong),
            (String::from("SSH-2.0-OpenSSH\r\n\r\n"), Error::Malformed),
            (String::from("HTTP/1.1 200 OK\r\n"), Error::Truncated),
            (String::new(), Error::Truncated),
        ];
        for (input, error) in cases {
            assert_eq!(body_of(input.as_bytes()), Err(error), "{input}");
        }
    }

    #[test]
    fn requests_follow_each_other_on_one_stream() {
        let input = b"GET /announce?a=b HTTP/1.1\r\nHost: h\r\n\r\n\r\nGET /x HTTP/1.0\r\n\r\n";
        let mut parser = RequestParser::new(Limits::GET);
        let mut input = Bytes::from_static(input);
        let Ok(Some(Item::Head(first))) = parser.next(&mut input) else { panic!("a head") };
        assert_eq!((&first.method[..], &first.target[..]), (&b"GET"[..], &b"/announce?a=b"[..]));
        assert!(first.keep_alive);
        assert_eq!(first.headers.get("HOST"), Some(&b"h"[..]));
        assert_eq!(parser.next(&mut input), Ok(Some(Item::End)));
        let Ok(Some(Item::Head(second))) = parser.next(&mut input) else { panic!("a head") };
        assert!(!second.keep_alive);
        assert_eq!(parser.next(&mut input), Ok(Some(Item::End)));
        assert_eq!(parser.next(&mut input), Ok(None));
        assert!(!parser.is_inside());
    }

    #[test]
    fn a_request_with_two_lengths_is_refused() {
        let mut input = Bytes::from_static(
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        let mut parser = RequestParser::new(LIMITS);
        assert_eq!(parser.next(&mut input), Err(Error::BadLength));
        assert_eq!(parser.next(&mut input), Err(Error::BadLength));
    }

    fn almost_http() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(&b"HTTP/1.1 200 OK\r\n"[..]),
            Just(&b"HTTP/1.0 404 No\n"[..]),
            Just(&b"GET / HTTP/1.1\r\n"[..]),
            Just(&b"Content-Length: 3\r\n"[..]),
            Just(&b"Transfer-Encoding: chunked\r\n"[..]),
            Just(&b"\r\n"[..]),
            Just(&b"\n"[..]),
            Just(&b"3\r\nabc\r\n"[..]),
            Just(&b"0\r\n\r\n"[..]),
            Just(&b"abc"[..]),
        ];
        let bytes = prop::collection::vec(any::<u8>(), 0..3);
        let piece = prop_oneof![9 => piece.prop_map(<[u8]>::to_vec), 1 => bytes];
        prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_the_messages_are_the_same(
            input in almost_http(),
            mut cuts in prop::collection::vec(0_usize..120, 0..8),
        ) {
            cuts.sort_unstable();
            let bytewise: Vec<usize> = (1..input.len()).collect();
            let whole = read::<ResponseHead>(&input, &[]);
            prop_assert_eq!(&read::<ResponseHead>(&input, &cuts), &whole);
            prop_assert_eq!(&read::<ResponseHead>(&input, &bytewise), &whole);
            let whole = read::<RequestHead>(&input, &[]);
            prop_assert_eq!(&read::<RequestHead>(&input, &cuts), &whole);
            prop_assert_eq!(&read::<RequestHead>(&input, &bytewise), &whole);
        }

        #[test]
        fn arbitrary_bytes_never_panic(input in prop::collection::vec(any::<u8>(), 0..200)) {
            read::<ResponseHead>(&input, &[7, 50]);
            read::<RequestHead>(&input, &[7, 50]);
        }
    }
}
