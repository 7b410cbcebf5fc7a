//! The one compression that we ask for: gzip (RFC 1952), inflated all at once and never beyond a
//! given length, so that a small body cannot become a large one.

use alloc::vec;
use alloc::vec::Vec;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::Headers;

/// Bytes of output that are made room for first.
const FIRST: usize = 4 * 1024;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    #[default]
    Identity,
    /// In gzip.
    Gzip,
}

/// Why a body in gzip is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GzipError {
    /// It is not gzip, or damaged.
    #[error("the compressed body is damaged")]
    Damaged,
    /// It is longer than it may be when it is inflated.
    #[error("the compressed body is too long when it is inflated")]
    TooLong,
}

impl Encoding {
    /// What `Content-Encoding` says. None: something that we cannot undo.
    pub fn of(headers: &Headers) -> Option<Self> {
        let name = headers.get("content-encoding").unwrap_or_default();
        let is = |what: &[u8]| name.eq_ignore_ascii_case(what);
        if name.is_empty() || is(b"identity") {
            Some(Self::Identity)
        } else if is(b"gzip") || is(b"x-gzip") {
            Some(Self::Gzip)
        } else {
            None
        }
    }

    /// The body as it was meant, at most `max` bytes of it if it has to be inflated.
    pub fn undo(self, body: Vec<u8>, max: usize) -> Result<Vec<u8>, GzipError> {
        match self {
            Self::Identity => Ok(body),
            Self::Gzip => gunzip(&body, max),
        }
    }
}

/// Inflates the first member of a gzip file to at most `max` bytes. What comes behind it is left.
pub fn gunzip(bytes: &[u8], max: usize) -> Result<Vec<u8>, GzipError> {
    let body = skip_header(bytes).ok_or(GzipError::Damaged)?;
    let mut inflater = alloc::boxed::Box::<DecompressorOxide>::default();
    let mut out = vec![0; FIRST.min(max)];
    let (mut taken, mut made) = (0, 0);
    loop {
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, used, more) = decompress(&mut inflater, &body[taken..], &mut out, made, flags);
        (taken, made) = (taken + used, made + more);
        match status {
            TINFLStatus::Done => break,
            TINFLStatus::HasMoreOutput if out.len() < max => {
                let len = out.len().saturating_mul(2).min(max);
                out.resize(len, 0);
            }
            TINFLStatus::HasMoreOutput => return Err(GzipError::TooLong),
            _ => return Err(GzipError::Damaged),
        }
    }
    out.truncate(made);
    let end = body[taken..].first_chunk::<8>().ok_or(GzipError::Damaged)?;
    let expected = [&crc32(&out).to_le_bytes()[..], &(made as u32).to_le_bytes()].concat();
    if end[..] == expected { Ok(out) } else { Err(GzipError::Damaged) }
}

/// What comes behind the header of a member.
fn skip_header(bytes: &[u8]) -> Option<&[u8]> {
    let (head, mut rest) = bytes.split_first_chunk::<10>()?;
    let [0x1f, 0x8b, 8, flags, ..] = *head else { return None };
    if flags & 4 != 0 {
        let (len, behind) = rest.split_first_chunk::<2>()?;
        rest = behind.get(usize::from(u16::from_le_bytes(*len))..)?;
    }
    // A name and a comment, each with a zero behind it.
    for flag in [8, 16] {
        if flags & flag != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & 2 != 0 { rest.get(2..) } else { Some(rest) }
}

/// The checksum of RFC 1952, 8: four bits at a time.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut at = 0;
        while at < 16 {
            let (mut value, mut bit) = (at as u32, 0);
            while bit < 4 {
                value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[at] = value;
            at += 1;
        }
        table
    };
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        let low = crc ^ u32::from(*byte);
        let low = low >> 4 ^ TABLE[(low & 15) as usize];
        low >> 4 ^ TABLE[(low & 15) as usize]
    })
}

/// `bytes` in gzip, for tests and scripted servers.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.extend(miniz_oxide::deflate::compress_to_vec(bytes, 6));
    out.extend(crc32(bytes).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `echo -n hello | gzip -n`, and the same with a name, a comment, an extra field and a check of
    /// the header.
    const HELLO: [u8; 25] = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0, 0x86, 0xa6,
        0x10, 0x36, 5, 0, 0, 0,
    ];

    fn with_fields() -> Vec<u8> {
        let mut bytes = HELLO[..10].to_vec();
        bytes[3] = 2 | 4 | 8 | 16;
        bytes.extend(b"\x03\0abcname\0comment\0\x12\x34");
        bytes.extend(&HELLO[10..]);
        bytes
    }

    #[test]
    fn what_gzip_made_is_read() {
        assert_eq!(gunzip(&HELLO, 5).as_deref(), Ok(&b"hello"[..]));
        assert_eq!(gunzip(&with_fields(), 100).as_deref(), Ok(&b"hello"[..]));
        let behind = [&HELLO[..], b"rest"].concat();
        assert_eq!(gunzip(&behind, 100).as_deref(), Ok(&b"hello"[..]));
        // A stored block, as libtorrent's tests have it.
        let stored =
            b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01\x04\0\xfb\xfftest\x0c\x7e\x7f\xd8\x04\0\0\0";
        assert_eq!(gunzip(stored, 100).as_deref(), Ok(&b"test"[..]));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_that_matters_is_noticed() {
        for whole in [HELLO.to_vec(), with_fields()] {
            for len in 0..whole.len() {
                assert_eq!(gunzip(&whole[..len], 100), Err(GzipError::Damaged), "{len}");
            }
        }
        for at in (0..3).chain(10..HELLO.len()) {
            let mut bytes = HELLO;
            bytes[at] ^= 1;
            assert!(gunzip(&bytes, 100).is_err(), "{at}");
        }
    }

    #[test]
    fn a_bomb_goes_off_in_a_small_room() {
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 100_000, "a thousand times smaller than what is in it");
        assert_eq!(gunzip(&bomb, 1 << 20), Err(GzipError::TooLong));
        assert_eq!(gunzip(&HELLO, 4), Err(GzipError::TooLong));
        assert_eq!(gunzip(&HELLO, 0), Err(GzipError::TooLong));
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_the_same(
            bytes in prop::collection::vec(any::<u8>(), 0..20_000),
        ) {
            prop_assert_eq!(gunzip(&gzip(&bytes), bytes.len()), Ok(bytes));
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300), max in 0_usize..2_000,
        ) {
            if let Ok(out) = gunzip(&[&HELLO[..10], &bytes].concat(), max) {
                prop_assert!(out.len() <= max);
            }
            let _ = gunzip(&bytes, max);
        }
    }
}
