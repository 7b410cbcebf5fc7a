//! HTTP, both ways: the same items however the stream is split, and never more than the limits.

use bytes::Bytes;
use teem_core::http::gzip::{GzipError, gunzip, gzip as pack};
use teem_core::http::{Error, Head, Item, Limits, Parser, RequestHead, ResponseHead};

use crate::script::Script;

/// What a server sends.
pub fn http_response(bytes: &[u8]) {
    stream::<ResponseHead>(bytes);
}

/// What a client sends.
pub fn http_request(bytes: &[u8]) {
    stream::<RequestHead>(bytes);
}

/// A compressed body: never more than the limit, and the same with any limit that is enough.
pub fn gzip(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let max = usize::from(script.u16());
    let packed = script.rest();
    match gunzip(packed, max) {
        Ok(plain) => {
            assert!(plain.len() <= max);
            assert_eq!(gunzip(packed, plain.len()).as_ref(), Ok(&plain));
            assert_eq!(gunzip(&pack(&plain), max), Ok(plain));
        }
        Err(GzipError::TooLong) => {
            let more = gunzip(packed, max + 1);
            assert!(more.is_err() || more.is_ok_and(|plain| plain.len() == max + 1));
        }
        Err(_) => {}
    }
}

/// Items of one stream, parts of bodies joined.
#[derive(Debug, PartialEq)]
struct Items<H> {
    messages: Vec<(H, Vec<u8>)>,
    whole: usize,
    end: Result<bool, Error>,
}

fn stream<H: Head + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let limits = if script.flag() { Limits { head: 100, body: 30 } } else { Limits::TRACKER };
    let step = usize::from(script.byte()) + 1;
    let stream = script.rest();
    let whole = items::<H>([stream], limits);
    assert_eq!(whole, items(stream.chunks(1), limits), "byte by byte");
    assert_eq!(whole, items(stream.chunks(step), limits), "in steps of {step}");
}

fn items<'a, H: Head>(parts: impl IntoIterator<Item = &'a [u8]>, limits: Limits) -> Items<H> {
    let mut parser = Parser::<H>::new(limits);
    let mut found = Items { messages: Vec::new(), whole: 0, end: Ok(false) };
    for part in parts {
        let mut input = Bytes::copy_from_slice(part);
        loop {
            let before = input.len();
            match parser.next(&mut input) {
                Ok(None) => {
                    assert!(input.is_empty(), "all of it was taken");
                    break;
                }
                Ok(Some(item)) => {
                    let ended = matches!(item, Item::End);
                    assert!(ended || input.len() < before, "an item takes something");
                    put(&mut found, item, limits);
                }
                Err(error) => {
                    assert_eq!(parser.next(&mut input).err(), Some(error), "errors are final");
                    found.end = Err(error);
                    // How much of a body comes out before an error depends on the parts.
                    found.messages.truncate(found.whole);
                    return found;
                }
            }
        }
    }
    found.end = match parser.finish() {
        Ok(Some(item)) => {
            put(&mut found, item, limits);
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(error) => {
            found.messages.truncate(found.whole);
            Err(error)
        }
    };
    found
}

fn put<H>(found: &mut Items<H>, item: Item<H>, limits: Limits) {
    match item {
        Item::Head(head) => found.messages.push((head, Vec::new())),
        Item::Body(part) => {
            assert!(!part.is_empty());
            let (_, body) = found.messages.last_mut().expect("a body has a head");
            body.extend_from_slice(&part);
            assert!(body.len() as u64 <= limits.body, "the body stays within its limit");
        }
        Item::End => {
            found.whole += 1;
            assert_eq!(found.whole, found.messages.len(), "one end for each head");
        }
    }
}
