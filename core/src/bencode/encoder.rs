//! The writer: appends to a buffer of the caller's, allocates nothing of its own in release.

use alloc::vec::Vec;

/// Writes bencode to the end of a buffer.
///
/// It trusts its caller to write whole values and keys in order; debug builds assert both.
///
/// ```
/// # use teem_core::bencode::Encoder;
/// let mut out = Vec::new();
/// let mut encoder = Encoder::new(&mut out);
/// encoder.begin_dict();
/// encoder.key("port").uint(6881);
/// encoder.key("q").bytes("ping");
/// encoder.end();
/// encoder.finish();
/// assert_eq!(out, b"d4:porti6881e1:q4:pinge");
/// ```
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    #[cfg(debug_assertions)]
    check: Check,
}

impl<'a> Encoder<'a> {
    /// A writer that appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            #[cfg(debug_assertions)]
            check: Check::default(),
        }
    }

    /// Opens a dictionary; pairs of [`key`](Self::key) and a value follow, then [`end`](Self::end).
    pub fn begin_dict(&mut self) -> &mut Self {
        #[cfg(debug_assertions)]
        self.check.begin(true);
        self.out.push(b'd');
        self
    }

    /// Opens a list; values follow, then [`end`](Self::end).
    pub fn begin_list(&mut self) -> &mut Self {
        #[cfg(debug_assertions)]
        self.check.begin(false);
        self.out.push(b'l');
        self
    }

    /// Closes the container that was opened last.
    pub fn end(&mut self) -> &mut Self {
        #[cfg(debug_assertions)]
        self.check.end();
        self.out.push(b'e');
        self
    }

    /// A dictionary's next key, greater than the one before; its value must follow.
    pub fn key(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        #[cfg(debug_assertions)]
        self.check.key(key.as_ref());
        self.string(key.as_ref());
        self
    }

    /// An integer.
    pub fn int(&mut self, number: i64) -> &mut Self {
        self.number(number < 0, number.unsigned_abs())
    }

    /// An integer that is not negative.
    pub fn uint(&mut self, number: u64) -> &mut Self {
        self.number(false, number)
    }

    /// A byte string.
    pub fn bytes(&mut self, content: impl AsRef<[u8]>) -> &mut Self {
        #[cfg(debug_assertions)]
        self.check.value();
        self.string(content.as_ref());
        self
    }

    /// A byte string that is many parts in a row, such as compact peers.
    pub fn bytes_of(&mut self, parts: impl Iterator<Item = impl AsRef<[u8]>> + Clone) -> &mut Self {
        #[cfg(debug_assertions)]
        self.check.value();
        self.digits(parts.clone().map(|part| part.as_ref().len() as u64).sum());
        self.out.push(b':');
        parts.for_each(|part| self.out.extend_from_slice(part.as_ref()));
        self
    }

    /// One value that is already encoded.
    pub fn raw(&mut self, encoded: &[u8]) -> &mut Self {
        #[cfg(debug_assertions)]
        self.check.value();
        self.out.extend_from_slice(encoded);
        self
    }

    /// Ends the writing; debug builds assert that exactly one value was written.
    pub fn finish(self) {
        #[cfg(debug_assertions)]
        self.check.finish();
    }

    fn number(&mut self, negative: bool, magnitude: u64) -> &mut Self {
        #[cfg(debug_assertions)]
        self.check.value();
        self.out.push(b'i');
        if negative {
            self.out.push(b'-');
        }
        self.digits(magnitude);
        self.out.push(b'e');
        self
    }

    fn string(&mut self, content: &[u8]) {
        self.digits(content.len() as u64);
        self.out.push(b':');
        self.out.extend_from_slice(content);
    }

    fn digits(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[first..]);
    }
}

/// What debug builds know about the containers that are open.
#[cfg(debug_assertions)]
#[derive(Debug, Default)]
struct Check {
    open: Vec<Open>,
    whole: bool,
}

#[cfg(debug_assertions)]
#[derive(Debug)]
struct Open {
    dict: bool,
    last_key: Option<Vec<u8>>,
    wants_value: bool,
}

#[cfg(debug_assertions)]
impl Check {
    fn value(&mut self) {
        match self.open.last_mut() {
            None => assert!(!core::mem::replace(&mut self.whole, true), "a second value"),
            Some(open) if open.dict => {
                assert!(core::mem::take(&mut open.wants_value), "a value without a key");
            }
            Some(_) => {}
        }
    }

    fn begin(&mut self, dict: bool) {
        self.value();
        self.open.push(Open { dict, last_key: None, wants_value: false });
    }

    fn end(&mut self) {
        let open = self.open.pop().expect("an end without a begin");
        assert!(!open.wants_value, "a key without a value");
    }

    fn key(&mut self, key: &[u8]) {
        let open = self.open.last_mut().expect("a key outside of a dictionary");
        assert!(open.dict, "a key in a list");
        assert!(!core::mem::replace(&mut open.wants_value, true), "two keys in a row");
        let before = open.last_key.replace(key.to_vec());
        assert!(before.is_none_or(|before| before.as_slice() < key), "keys are in order");
    }

    fn finish(&self) {
        assert!(self.open.is_empty() && self.whole, "exactly one whole value");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_written() {
        let mut out = b"before".to_vec();
        let mut encoder = Encoder::new(&mut out);
        encoder.begin_list();
        encoder.int(i64::MIN).int(0).uint(u64::MAX).bytes("").bytes_of([b"ab", b"cd"].iter());
        encoder.raw(b"de").begin_dict().key("a").int(-1).key("b").begin_list().end().end().end();
        encoder.finish();
        assert_eq!(
            out,
            b"beforeli-9223372036854775808ei0ei18446744073709551615e0:4:abcdded1:ai-1e1:bleee"
        );
    }

    #[cfg(debug_assertions)]
    #[test]
    #[should_panic(expected = "keys are in order")]
    fn keys_out_of_order_are_a_bug() {
        let mut out = Vec::new();
        Encoder::new(&mut out).begin_dict().key("b").int(1).key("a");
    }
}
