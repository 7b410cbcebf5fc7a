//! Bodies: where each part of them is, and where they end.

use bytes::{Buf, Bytes};

use super::{Error, Limits};

/// Bytes of the line that gives a chunk's size; extensions are skipped.
const CHUNK_LINE_MAX: usize = 256;

/// How a body ends, and how much of it is left.
#[expect(unnameable_types, reason = "part of the sealed trait of heads")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes more.
    Length(u64),
    /// In chunks.
    Chunked(Chunk),
    /// With the stream.
    UntilClose,
}

/// Where in the chunks we are.
#[expect(unnameable_types, reason = "part of the sealed trait of heads")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// In the line with the size.
    Size { size: u64, digits: u8, in_digits: bool, cr: bool, line: usize },
    /// This many bytes before the end of a chunk.
    Data(u64),
    /// In the line end behind a chunk.
    DataEnd { cr: bool },
    /// In the trailers: bytes of this line, and of all.
    Trailers { line: usize, total: usize },
}

const SIZE: Chunk = Chunk::Size { size: 0, digits: 0, in_digits: true, cr: false, line: 0 };

/// What [`Framing::next`] found.
pub(super) enum Step {
    Part(Bytes),
    More,
    End,
}

impl Framing {
    pub(super) const fn chunked() -> Self {
        Self::Chunked(SIZE)
    }

    /// Takes the next part of the body from `input`.
    pub(super) fn next(&mut self, input: &mut Bytes, limits: &Limits) -> Result<Step, Error> {
        match self {
            Self::UntilClose if input.is_empty() => Ok(Step::More),
            Self::UntilClose => Ok(Step::Part(core::mem::take(input))),
            Self::Length(0) => Ok(Step::End),
            Self::Length(left) => Ok(take(input, left)),
            Self::Chunked(chunk) => loop {
                if let Chunk::Data(left @ 1..) = chunk {
                    return Ok(take(input, left));
                }
                let Some(&byte) = input.first() else { return Ok(Step::More) };
                input.advance(1);
                let Some(next) = chunk.step(byte, limits.head)? else { return Ok(Step::End) };
                *chunk = next;
            },
        }
    }
}

fn take(input: &mut Bytes, left: &mut u64) -> Step {
    if input.is_empty() {
        return Step::More;
    }
    let len = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *left -= len as u64;
    Step::Part(input.split_to(len))
}

impl Chunk {
    /// One byte that is not data; none: the body ends here.
    fn step(self, byte: u8, trailers_max: usize) -> Result<Option<Self>, Error> {
        Ok(Some(match self {
            Self::Size { size, digits, in_digits, cr, line } => {
                let line = line + 1;
                if line > CHUNK_LINE_MAX || cr && byte != b'\n' {
                    return Err(Error::BadChunk);
                }
                match byte {
                    b'\n' if digits == 0 => return Err(Error::BadChunk),
                    b'\n' if size == 0 => Self::Trailers { line: 0, total: 0 },
                    b'\n' => Self::Data(size),
                    b'\r' => Self::Size { size, digits, in_digits, cr: true, line },
                    _ if !in_digits => Self::Size { size, digits, in_digits, cr, line },
                    b';' | b' ' | b'\t' if digits > 0 => {
                        Self::Size { size, digits, in_digits: false, cr, line }
                    }
                    _ => {
                        let digit = char::from(byte).to_digit(16).ok_or(Error::BadChunk)?;
                        if size >> 56 != 0 {
                            return Err(Error::BadChunk);
                        }
                        let size = size << 4 | u64::from(digit);
                        Self::Size { size, digits: 1, in_digits, cr, line }
                    }
                }
            }
            Self::Data(_) => return Self::DataEnd { cr: false }.step(byte, trailers_max),
            Self::DataEnd { cr } => match byte {
                b'\r' if !cr => Self::DataEnd { cr: true },
                b'\n' => SIZE,
                _ => return Err(Error::BadChunk),
            },
            Self::Trailers { line, total } => {
                let total = total + 1;
                if total > trailers_max {
                    return Err(Error::HeadTooLong);
                }
                match byte {
                    b'\n' if line == 0 => return Ok(None),
                    b'\n' => Self::Trailers { line: 0, total },
                    b'\r' => Self::Trailers { line, total },
                    _ => Self::Trailers { line: line + 1, total },
                }
            }
        }))
    }
}
