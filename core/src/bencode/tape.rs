//! The tokeniser: one pass over the input, a stack of its own, eight bytes per token.

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::value::{Kind, Value};
use super::{Error, Limits, Mode};

/// Token counts stay below 2^28 and offsets below 2^31, so that both fit beside the kind.
const TOKENS_MAX: u32 = 1 << 28;
const BYTES_MAX: usize = 1 << 31;

/// Where a token begins, what it is, and one number more: for a container the index of the token
/// behind its end, for a string the length of its header (`12:` is three).
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) offset: u32,
    kind_and_link: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Int,
    Bytes,
    List,
    Dict,
    /// The end of a container, or of the whole document.
    End,
}

const LINK_BITS: u32 = 29;
const LINK_MASK: u32 = (1 << LINK_BITS) - 1;

impl Token {
    const fn new(offset: usize, kind: TokenKind, link: u32) -> Self {
        Self { offset: offset as u32, kind_and_link: (kind as u32) << LINK_BITS | link & LINK_MASK }
    }

    pub(super) const fn kind(self) -> TokenKind {
        match self.kind_and_link >> LINK_BITS {
            0 => TokenKind::Int,
            1 => TokenKind::Bytes,
            2 => TokenKind::List,
            3 => TokenKind::Dict,
            _ => TokenKind::End,
        }
    }

    pub(super) const fn link(self) -> u32 {
        self.kind_and_link & LINK_MASK
    }
}

/// What [`Mode::Lenient`] overlooked, counted. All zero means canonical, bytes behind the value
/// aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anomalies {
    /// Keys smaller than the key before them.
    pub unsorted_keys: u32,
    /// Keys equal to the key before them. A repetition further away shows as an unsorted key.
    pub duplicate_keys: u32,
    /// Integers and string lengths with leading zeros, and negative zeros.
    pub overlong_numbers: u32,
}

impl Anomalies {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The tokens of the input that was read last. Keep one to read many messages without allocating.
#[derive(Debug, Default)]
pub struct Tape {
    tokens: Vec<Token>,
}

/// An input that was read: one value, which borrows from the input and from the [`Tape`].
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    input: &'a [u8],
    tokens: &'a [Token],
    end: usize,
    anomalies: Anomalies,
}

impl<'a> Document<'a> {
    /// The one value.
    pub fn root(&self) -> Value<'a> {
        Value::new(self.input, self.tokens, 0)
    }

    /// What lenient reading overlooked; empty after strict reading.
    pub const fn anomalies(&self) -> Anomalies {
        self.anomalies
    }

    /// The bytes behind the value; empty after strict reading. A metadata message (BEP 9) carries
    /// its payload there.
    pub fn trailing(&self) -> &'a [u8] {
        &self.input[self.end..]
    }
}

/// A container that is open.
struct Frame {
    token: u32,
    expects: Expects,
    /// The last key, as a range of the input; empty before the first.
    key: Option<(u32, u32)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expects {
    Item,
    Key,
    Value,
}

impl Tape {
    /// No tokens; allocates nothing.
    pub const fn new() -> Self {
        Self { tokens: Vec::new() }
    }

    /// Tokenises `input`, which must hold one value. What was read before is forgotten.
    pub fn parse<'a>(
        &'a mut self,
        input: &'a [u8],
        limits: &Limits,
        mode: Mode,
    ) -> Result<Document<'a>, Error> {
        self.tokens.clear();
        if input.len() > limits.bytes.min(BYTES_MAX) {
            return Err(Error::TooLarge { len: input.len() });
        }
        let mut scan = Scan {
            input,
            pos: 0,
            tokens: &mut self.tokens,
            tokens_max: limits.tokens.min(TOKENS_MAX) as usize,
            strict: mode == Mode::Strict,
            anomalies: Anomalies::default(),
        };
        scan.value(limits.depth as usize)?;
        let (end, anomalies) = (scan.pos, scan.anomalies);
        if mode == Mode::Strict && end < input.len() {
            return Err(Error::Trailing { at: end });
        }
        self.tokens.push(Token::new(end, TokenKind::End, 0));
        Ok(Document { input, tokens: &self.tokens, end, anomalies })
    }
}

struct Scan<'i, 't> {
    input: &'i [u8],
    pos: usize,
    tokens: &'t mut Vec<Token>,
    tokens_max: usize,
    strict: bool,
    anomalies: Anomalies,
}

impl Scan<'_, '_> {
    /// One value with everything in it.
    fn value(&mut self, depth_max: usize) -> Result<(), Error> {
        let mut stack = SmallVec::<[Frame; 8]>::new();
        loop {
            let at = self.pos;
            let byte = self.peek()?;
            if let Some(frame) = stack.last_mut()
                && frame.expects == Expects::Key
                && byte != b'e'
            {
                if !byte.is_ascii_digit() {
                    return Err(Error::KeyNotString { at });
                }
                let key = self.string()?;
                let before = frame.key.replace(key);
                frame.expects = Expects::Value;
                if let Some(before) = before {
                    self.compare_keys(before, key, at)?;
                }
                continue;
            }
            match byte {
                b'i' => self.integer()?,
                b'0'..=b'9' => {
                    self.string()?;
                }
                b'l' | b'd' => {
                    if stack.len() >= depth_max {
                        return Err(Error::TooDeep { at });
                    }
                    let (kind, expects) = match byte {
                        b'l' => (TokenKind::List, Expects::Item),
                        _ => (TokenKind::Dict, Expects::Key),
                    };
                    let token = self.tokens.len() as u32;
                    self.push(Token::new(at, kind, 0))?;
                    self.pos += 1;
                    stack.push(Frame { token, expects, key: None });
                    continue;
                }
                b'e' => {
                    let Some(frame) = stack.pop() else {
                        return Err(Error::UnexpectedByte { at, byte });
                    };
                    if frame.expects == Expects::Value {
                        return Err(Error::MissingValue { at });
                    }
                    self.push(Token::new(at, TokenKind::End, 0))?;
                    self.pos += 1;
                    let behind = self.tokens.len() as u32;
                    let begin = &mut self.tokens[frame.token as usize];
                    *begin = Token::new(begin.offset as usize, begin.kind(), behind);
                }
                _ => return Err(Error::UnexpectedByte { at, byte }),
            }
            match stack.last_mut() {
                None => return Ok(()),
                Some(frame) if frame.expects == Expects::Value => frame.expects = Expects::Key,
                Some(_) => {}
            }
        }
    }

    fn peek(&self) -> Result<u8, Error> {
        self.input.get(self.pos).copied().ok_or(Error::Truncated { at: self.pos })
    }

    fn push(&mut self, token: Token) -> Result<(), Error> {
        if self.tokens.len() >= self.tokens_max {
            return Err(Error::TooManyTokens { at: token.offset as usize });
        }
        self.tokens.push(token);
        Ok(())
    }

    /// `i-42e`. Any number of digits is well-formed.
    fn integer(&mut self) -> Result<(), Error> {
        let at = self.pos;
        self.pos += 1;
        let negative = self.peek()? == b'-';
        self.pos += usize::from(negative);
        let first = self.pos;
        self.digits(b'e')?;
        if self.input[first] == b'0' && (negative || self.pos - first > 2) {
            self.overlong(at)?;
        }
        self.push(Token::new(at, TokenKind::Int, 0))
    }

    /// `3:abc`. Returns start and end of the content.
    fn string(&mut self) -> Result<(u32, u32), Error> {
        let at = self.pos;
        self.digits(b':')?;
        let content = self.pos;
        if self.input[at] == b'0' && content - at > 2 {
            self.overlong(at)?;
        }
        let len = self.input[at..content - 1]
            .iter()
            .try_fold(0_usize, |len, digit| {
                len.checked_mul(10)?.checked_add(usize::from(digit - b'0'))
            })
            .filter(|len| *len <= self.input.len() - content)
            .ok_or(Error::StringTooLong { at })?;
        self.pos = content + len;
        // The header is shorter than 2^29: with more zeros than that, the offset does not fit.
        if content - at > LINK_MASK as usize {
            return Err(Error::StringTooLong { at });
        }
        self.push(Token::new(at, TokenKind::Bytes, (content - at) as u32))?;
        Ok((content as u32, self.pos as u32))
    }

    /// At least one digit, then `end`; both are consumed.
    fn digits(&mut self, end: u8) -> Result<(), Error> {
        let first = self.pos;
        loop {
            match self.peek()? {
                b'0'..=b'9' => self.pos += 1,
                byte if byte == end && self.pos > first => {
                    self.pos += 1;
                    return Ok(());
                }
                byte => return Err(Error::UnexpectedByte { at: self.pos, byte }),
            }
        }
    }

    fn overlong(&mut self, at: usize) -> Result<(), Error> {
        if self.strict {
            return Err(Error::OverlongNumber { at });
        }
        self.anomalies.overlong_numbers += 1;
        Ok(())
    }

    fn compare_keys(
        &mut self,
        before: (u32, u32),
        key: (u32, u32),
        at: usize,
    ) -> Result<(), Error> {
        let slice = |(start, end): (u32, u32)| &self.input[start as usize..end as usize];
        let (error, counter) = match slice(before).cmp(slice(key)) {
            core::cmp::Ordering::Less => return Ok(()),
            core::cmp::Ordering::Equal => {
                (Error::DuplicateKey { at }, &mut self.anomalies.duplicate_keys)
            }
            core::cmp::Ordering::Greater => {
                (Error::UnsortedKeys { at }, &mut self.anomalies.unsorted_keys)
            }
        };
        if self.strict {
            return Err(error);
        }
        *counter += 1;
        Ok(())
    }
}

impl TokenKind {
    /// The kind of the value that begins with such a token.
    pub(super) const fn value_kind(self) -> Option<Kind> {
        match self {
            Self::Int => Some(Kind::Int),
            Self::Bytes => Some(Kind::Bytes),
            Self::List => Some(Kind::List),
            Self::Dict => Some(Kind::Dict),
            Self::End => None,
        }
    }
}
