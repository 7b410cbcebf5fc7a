//! Why an input is not bencode, and where.

/// What the reader refused. `at` is the offset in the input where it noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input ends inside a value.
    #[error("the input ends inside a value, at byte {at}")]
    Truncated {
        /// Offset of the end.
        at: usize,
    },
    /// A byte that cannot stand here.
    #[error("unexpected byte 0x{byte:02x} at byte {at}")]
    UnexpectedByte {
        /// Offset of the byte.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// A string that claims more bytes than are left.
    #[error("a string is longer than the rest of the input, at byte {at}")]
    StringTooLong {
        /// Offset of the string's length.
        at: usize,
    },
    /// A dictionary key that is not a string.
    #[error("a dictionary key is not a string, at byte {at}")]
    KeyNotString {
        /// Offset of the key.
        at: usize,
    },
    /// A dictionary that ends after a key.
    #[error("a dictionary key has no value, at byte {at}")]
    MissingValue {
        /// Offset of the dictionary's end.
        at: usize,
    },
    /// A number with leading zeros, or a negative zero. Strict mode only.
    #[error("a number has leading zeros, at byte {at}")]
    OverlongNumber {
        /// Offset of the number's token.
        at: usize,
    },
    /// A dictionary whose keys are not in order. Strict mode only.
    #[error("dictionary keys are out of order, at byte {at}")]
    UnsortedKeys {
        /// Offset of the key that should have come earlier.
        at: usize,
    },
    /// A dictionary that has a key twice in a row. Strict mode only.
    #[error("a dictionary key appears twice, at byte {at}")]
    DuplicateKey {
        /// Offset of the second one.
        at: usize,
    },
    /// Bytes behind the value. Strict mode only.
    #[error("there are bytes behind the end of the value, at byte {at}")]
    Trailing {
        /// Offset of the first one.
        at: usize,
    },
    /// More containers inside each other than [`Limits::depth`](super::Limits::depth).
    #[error("values are nested too deeply, at byte {at}")]
    TooDeep {
        /// Offset of the container that is one too many.
        at: usize,
    },
    /// More tokens than [`Limits::tokens`](super::Limits::tokens).
    #[error("too many values, at byte {at}")]
    TooManyTokens {
        /// Offset of the token that is one too many.
        at: usize,
    },
    /// An input longer than [`Limits::bytes`](super::Limits::bytes); nothing of it was read.
    #[error("the input is too large ({len} bytes)")]
    TooLarge {
        /// Its length.
        len: usize,
    },
}
