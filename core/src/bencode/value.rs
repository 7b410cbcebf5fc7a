//! A value of a document that was read: a view that borrows, cheap to copy and to skip.

use core::fmt;
use core::ops::Range;

use super::tape::{Token, TokenKind};

/// What a [`Value`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number of any size.
    Int,
    /// A byte string.
    Bytes,
    /// A list.
    List,
    /// A dictionary.
    Dict,
}

/// One value. Looking into it never fails: a value of another kind answers `None`.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    input: &'a [u8],
    tokens: &'a [Token],
    at: u32,
}

impl<'a> Value<'a> {
    pub(super) const fn new(input: &'a [u8], tokens: &'a [Token], at: u32) -> Self {
        Self { input, tokens, at }
    }

    fn token(self) -> Token {
        self.tokens[self.at as usize]
    }

    /// Index of the token behind this value.
    fn behind(self) -> u32 {
        match self.token().kind() {
            TokenKind::List | TokenKind::Dict => self.token().link(),
            TokenKind::Int | TokenKind::Bytes | TokenKind::End => self.at + 1,
        }
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        self.token().kind().value_kind().expect("no view stands on an end token")
    }

    /// Its place in the input.
    pub fn span(self) -> Range<usize> {
        let end = self.tokens[self.behind() as usize].offset;
        self.token().offset as usize..end as usize
    }

    /// Its encoding, exactly as it was in the input.
    pub fn raw(self) -> &'a [u8] {
        &self.input[self.span()]
    }

    /// The content of a string.
    pub fn as_bytes(self) -> Option<&'a [u8]> {
        (self.kind() == Kind::Bytes).then(|| &self.raw()[self.token().link() as usize..])
    }

    /// The content of a string that is UTF-8.
    pub fn as_str(self) -> Option<&'a str> {
        core::str::from_utf8(self.as_bytes()?).ok()
    }

    /// The digits of an integer, with a `-` in front if it is negative.
    fn digits(self) -> Option<&'a str> {
        let raw = self.raw();
        let digits = (self.kind() == Kind::Int).then(|| &raw[1..raw.len() - 1])?;
        Some(core::str::from_utf8(digits).expect("digits are ASCII"))
    }

    /// An integer that fits.
    pub fn as_int(self) -> Option<i64> {
        self.digits()?.parse().ok()
    }

    /// An integer that is not negative and fits.
    pub fn as_uint(self) -> Option<u64> {
        self.digits()?.parse().ok()
    }

    /// A dictionary.
    pub fn as_dict(self) -> Option<Dict<'a>> {
        (self.kind() == Kind::Dict).then_some(Dict(self))
    }

    /// A list.
    pub fn as_list(self) -> Option<List<'a>> {
        (self.kind() == Kind::List).then_some(List(self))
    }

    /// What a dictionary has under `key`; see [`Dict::get`].
    pub fn get(self, key: impl AsRef<[u8]>) -> Option<Self> {
        self.as_dict()?.get(key)
    }

    /// The values inside a container, keys among them.
    fn inner(self) -> ListIter<'a> {
        ListIter { next: Self { at: self.at + 1, ..self } }
    }
}

/// A dictionary.
#[derive(Clone, Copy)]
pub struct Dict<'a>(Value<'a>);

impl<'a> Dict<'a> {
    /// The value under `key`, of several the first. Looks at each key before it.
    pub fn get(self, key: impl AsRef<[u8]>) -> Option<Value<'a>> {
        let key = key.as_ref();
        self.iter().find(|(found, _)| *found == key).map(|(_, value)| value)
    }

    /// All pairs, in the order of the input.
    pub fn iter(self) -> DictIter<'a> {
        DictIter(self.0.inner())
    }

    /// Whether it holds nothing.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// The dictionary as the value it is.
    pub const fn as_value(self) -> Value<'a> {
        self.0
    }
}

/// A list.
#[derive(Clone, Copy)]
pub struct List<'a>(Value<'a>);

impl<'a> List<'a> {
    /// All items, in order.
    pub fn iter(self) -> ListIter<'a> {
        self.0.inner()
    }

    /// Whether it holds nothing.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// The list as the value it is.
    pub const fn as_value(self) -> Value<'a> {
        self.0
    }
}

/// The items of a [`List`].
#[derive(Clone)]
pub struct ListIter<'a> {
    /// The next item, or the end token.
    next: Value<'a>,
}

impl<'a> Iterator for ListIter<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let value = self.next;
        value.token().kind().value_kind()?;
        self.next.at = value.behind();
        Some(value)
    }
}

/// The pairs of a [`Dict`].
#[derive(Clone)]
pub struct DictIter<'a>(ListIter<'a>);

impl<'a> Iterator for DictIter<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.next()?.as_bytes().expect("keys are strings");
        Some((key, self.0.next().expect("each key has a value")))
    }
}

impl<'a> IntoIterator for List<'a> {
    type Item = Value<'a>;
    type IntoIter = ListIter<'a>;

    fn into_iter(self) -> ListIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for Dict<'a> {
    type Item = (&'a [u8], Value<'a>);
    type IntoIter = DictIter<'a>;

    fn into_iter(self) -> DictIter<'a> {
        self.iter()
    }
}

/// Strings in debug output are cut to this many bytes.
const DEBUG_STRING_MAX: usize = 64;

struct DebugBytes<'a>(&'a [u8]);

impl fmt::Debug for DebugBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = &self.0[..self.0.len().min(DEBUG_STRING_MAX)];
        write!(f, "\"{}\"", cut.escape_ascii())?;
        match self.0.len() - cut.len() {
            0 => Ok(()),
            more => write!(f, "(+{more})"),
        }
    }
}

impl fmt::Debug for Value<'_> {
    /// Like JSON, with long strings cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Kind::Int => f.write_str(self.digits().unwrap_or_default()),
            Kind::Bytes => DebugBytes(self.as_bytes().unwrap_or_default()).fmt(f),
            Kind::List => f.debug_list().entries(self.inner()).finish(),
            Kind::Dict => Dict(*self).fmt(f),
        }
    }
}

impl fmt::Debug for Dict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(key, value)| (DebugBytes(key), value))).finish()
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ListIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl fmt::Debug for DictIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.clone().map(|(key, value)| (DebugBytes(key), value))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, Mode, Tape};
    use super::*;
    use std::format;
    use std::vec::Vec;

    #[test]
    fn a_document_is_walked_without_copying() {
        let input = b"d4:infod6:lengthi42e4:name1:xe4:listl1:ai-1eee";
        let mut tape = Tape::new();
        let root = tape.parse(input, &Limits::WIRE, Mode::Lenient).expect("read").root();
        let info = root.get("info").expect("there");
        assert_eq!(info.raw(), b"d6:lengthi42e4:name1:xe");
        assert_eq!(info.span(), 7..30);
        assert_eq!(info.get("length").and_then(Value::as_uint), Some(42));
        let name = info.get("name").and_then(Value::as_bytes).expect("there");
        assert_eq!(name.as_ptr(), &raw const input[28]);
        let list: Vec<_> =
            root.get("list").expect("there").as_list().expect("list").iter().collect();
        assert_eq!(list[0].as_str(), Some("a"));
        assert_eq!((list[1].as_int(), list[1].as_uint()), (Some(-1), None));
        assert_eq!(list.len(), 2);
        assert_eq!(
            format!("{root:?}"),
            r#"{"info": {"length": 42, "name": "x"}, "list": ["a", -1]}"#
        );
    }

    #[test]
    fn a_value_of_another_kind_answers_nothing() {
        let mut tape = Tape::new();
        let root = tape.parse(b"i1e", &Limits::WIRE, Mode::Strict).expect("read").root();
        assert!(root.as_bytes().is_none() && root.as_list().is_none() && root.as_dict().is_none());
        assert!(root.get("key").is_none());
    }

    #[test]
    fn integers_that_do_not_fit_are_well_formed_and_answer_nothing() {
        for (input, int, uint) in [
            (&b"i9223372036854775807e"[..], Some(i64::MAX), Some(i64::MAX as u64)),
            (b"i-9223372036854775808e", Some(i64::MIN), None),
            (b"i9223372036854775808e", None, Some(1 << 63)),
            (b"i-9223372036854775809e", None, None),
            (b"i18446744073709551616e", None, None),
        ] {
            let mut tape = Tape::new();
            let root = tape.parse(input, &Limits::WIRE, Mode::Strict).expect("read").root();
            assert_eq!((root.as_int(), root.as_uint()), (int, uint));
        }
    }
}
