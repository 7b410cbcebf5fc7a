//! Why a torrent is refused: which field, what is wrong with it.

use crate::bencode;

/// Why a torrent or its `info` dictionary was refused. [`field`](Self::field) names the place in
/// the terms of BEP 3 and BEP 52, such as `info.piece length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetainfoError {
    /// It is not bencode, it is nested too deeply, or a v2 `info` is not canonical.
    #[error("{}: {}", self.field(), .0)]
    Bencode(#[from] bencode::Error),
    /// A field that must be there is not.
    #[error("{field}: is missing")]
    Missing {
        /// Where.
        field: &'static str,
    },
    /// A field holds a value of the wrong kind.
    #[error("{field}: must be {expected}")]
    Kind {
        /// Where.
        field: &'static str,
        /// What belongs there, with its article.
        expected: &'static str,
    },
    /// A number or a length is out of bounds.
    #[error("{field}: must be {must} (is {is})")]
    Value {
        /// Where.
        field: &'static str,
        /// The condition that fails.
        must: &'static str,
        /// The value.
        is: i64,
    },
    /// There is more than we take on.
    #[error("{field}: there are too many (at most {max})")]
    TooMany {
        /// Where.
        field: &'static str,
        /// The limit.
        max: u64,
    },
    /// A field breaks a rule that is not about its size.
    #[error("{field}: {problem}")]
    Invalid {
        /// Where.
        field: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
}

impl MetainfoError {
    pub(super) fn value(field: &'static str, must: &'static str, is: impl TryInto<i64>) -> Self {
        Self::Value { field, must, is: is.try_into().unwrap_or(i64::MAX) }
    }

    /// The field that is to blame, or `bencoding` or `nesting` where the encoding itself is.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Bencode(bencode::Error::TooDeep { .. }) => "nesting",
            Self::Bencode(_) => "bencoding",
            Self::Missing { field }
            | Self::Kind { field, .. }
            | Self::Value { field, .. }
            | Self::TooMany { field, .. }
            | Self::Invalid { field, .. } => field,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn errors_read_well() {
        let error = MetainfoError::Value {
            field: "info.piece length",
            must: "a power of two of at least 16384",
            is: 12,
        };
        assert_eq!(
            error.to_string(),
            "info.piece length: must be a power of two of at least 16384 (is 12)"
        );
        let deep = MetainfoError::from(bencode::Error::TooDeep { at: 7 });
        assert_eq!(deep.to_string(), "nesting: values are nested too deeply, at byte 7");
    }
}
