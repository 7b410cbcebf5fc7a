//! Bencode (BEP 3): a bounded reader that keeps the place of every value, and a writer.
//!
//! Reading is in two steps. A [`Tape`] tokenises the whole input once, without recursion and
//! within [`Limits`]; the [`Document`] it lends out is then walked through [`Value`], [`Dict`] and
//! [`List`], where skipping a value costs the same whatever is inside. Nothing is copied: strings
//! are slices of the input, and [`Value::raw`] is the exact encoding of a value, which is what
//! `info` dictionaries are hashed over.
//!
//! [`Mode::Strict`] accepts what a canonical writer writes and nothing else, which is what `bendy`
//! accepts (tests hold the two together). [`Mode::Lenient`] also takes what real peers send, and
//! says in [`Anomalies`] what it overlooked.
//!
//! Where we left the design: it wants bendy to write. Bendy does write the `info` dictionaries of
//! new torrents ([`crate::metainfo::create`]). But its encoder owns its output, allocates room for
//! 2048 levels with each message and once more for each key, and cannot splice a value that is
//! already encoded: a DHT answer takes it 560 ns. Messages are written by [`Encoder`], which
//! appends to the caller's buffer and takes 30 ns.

mod encoder;
mod error;
mod tape;
mod value;

pub use encoder::Encoder;
pub use error::Error;
pub use tape::{Anomalies, Document, Tape};
pub use value::{Dict, DictIter, Kind, List, ListIter, Value};

/// How much the reader takes on before it refuses. Checked while reading, so that the cost of a
/// hostile input is bounded by these and not by what the input says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Containers inside each other, the outermost counted.
    pub depth: u32,
    /// Tokens: a string, an integer, or the begin or the end of a container. 8 bytes of memory
    /// each; at most 2^28 whatever is asked for.
    pub tokens: u32,
    /// Length of the input in bytes; at most 2^31 whatever is asked for.
    pub bytes: usize,
}

impl Limits {
    /// For messages of peers, DHT nodes and trackers.
    pub const WIRE: Self = Self { depth: 32, tokens: 1 << 16, bytes: 2 << 20 };
    /// For files: torrents and saved state. The token limit is libtorrent's.
    pub const FILE: Self = Self { depth: 128, tokens: 2_500_000, bytes: 64 << 20 };
}

/// What the reader does about encodings that have a meaning but are not canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Refuse them: numbers with a leading zero or a negative zero, keys out of order or twice,
    /// bytes behind the value.
    Strict,
    /// Take them, and note it in [`Anomalies`]. Of equal keys the first one counts
    /// ([`Dict::get`]), and iteration shows all; bytes behind the value are left to the caller
    /// ([`Document::trailing`]).
    Lenient,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;
    use std::{format, vec};

    /// Whether bendy takes `input` as exactly one value, within the depth that we allow.
    fn bendy_accepts(input: &[u8]) -> bool {
        let depth = Limits::FILE.depth as usize;
        let mut open = 0_usize;
        let mut values = 0;
        for token in bendy::decoding::Decoder::new(input).with_max_depth(depth).tokens() {
            use bendy::state_tracker::Token::{Dict, End, List, Num, String};
            match token {
                Ok(List | Dict) => open += 1,
                Ok(End) => open -= 1,
                Ok(String(_) | Num(_)) => {}
                Err(_) => return false,
            }
            values += u32::from(open == 0);
        }
        values == 1
    }

    fn accepts(input: &[u8], mode: Mode) -> bool {
        Tape::new().parse(input, &Limits::FILE, mode).is_ok()
    }

    /// A value of any shape, for round trips.
    #[derive(Clone, Debug, PartialEq)]
    enum Tree {
        Int(i64),
        Bytes(Vec<u8>),
        List(Vec<Self>),
        Dict(std::collections::BTreeMap<Vec<u8>, Self>),
    }

    impl Tree {
        fn read(value: Value<'_>) -> Self {
            match value.kind() {
                Kind::Int => Self::Int(value.as_int().expect("fits")),
                Kind::Bytes => Self::Bytes(value.as_bytes().expect("bytes").to_vec()),
                Kind::List => {
                    Self::List(value.as_list().expect("list").iter().map(Self::read).collect())
                }
                Kind::Dict => Self::Dict(
                    value
                        .as_dict()
                        .expect("dict")
                        .iter()
                        .map(|(key, value)| (key.to_vec(), Self::read(value)))
                        .collect(),
                ),
            }
        }

        fn write(&self, to: &mut Encoder<'_>) {
            match self {
                Self::Int(number) => to.int(*number),
                Self::Bytes(bytes) => to.bytes(bytes),
                Self::List(items) => {
                    to.begin_list();
                    for item in items {
                        item.write(to);
                    }
                    to.end()
                }
                Self::Dict(pairs) => {
                    to.begin_dict();
                    for (key, value) in pairs {
                        value.write(to.key(key));
                    }
                    to.end()
                }
            };
        }

        fn write_with_bendy(
            &self,
            to: bendy::encoding::SingleItemEncoder<'_>,
        ) -> Result<(), bendy::encoding::Error> {
            match self {
                Self::Int(number) => to.emit_int(*number),
                Self::Bytes(bytes) => to.emit_bytes(bytes),
                Self::List(items) => to.emit_list(|list| {
                    items.iter().try_for_each(|item| {
                        list.emit_with(|encoder| item.write_with_bendy(encoder))
                    })
                }),
                Self::Dict(pairs) => to.emit_dict(|mut dict| {
                    pairs.iter().try_for_each(|(key, value)| {
                        dict.emit_pair_with(key, |encoder| value.write_with_bendy(encoder))
                    })
                }),
            }
        }
    }

    fn trees() -> impl Strategy<Value = Tree> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..12);
        let leaf =
            prop_oneof![any::<i64>().prop_map(Tree::Int), bytes().prop_map(Tree::Bytes)].boxed();
        leaf.prop_recursive(5, 60, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::List),
                prop::collection::btree_map(bytes(), inner, 0..6).prop_map(Tree::Dict),
            ]
        })
    }

    /// Bytes that are nearly bencode, so that the interesting paths are reached.
    fn almost_bencode() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"d".to_vec()),
            Just(b"l".to_vec()),
            Just(b"e".to_vec()),
            Just(b"1:a".to_vec()),
            Just(b"1:b".to_vec()),
            Just(b"2:aa".to_vec()),
            Just(b"0:".to_vec()),
            Just(b"01:a".to_vec()),
            Just(b"i0e".to_vec()),
            Just(b"i-0e".to_vec()),
            Just(b"i05e".to_vec()),
            Just(b"i-7e".to_vec()),
            Just(b"ie".to_vec()),
            Just(b"i99999999999999999999e".to_vec()),
            prop::collection::vec(any::<u8>(), 1..3),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn strict_accepts_what_bendy_accepts(input in almost_bencode()) {
            prop_assert_eq!(accepts(&input, Mode::Strict), bendy_accepts(&input));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_lenient_takes_what_strict_takes(
            input in prop_oneof![almost_bencode(), prop::collection::vec(any::<u8>(), 0..40)],
        ) {
            let mut tape = Tape::new();
            let lenient = tape.parse(&input, &Limits::WIRE, Mode::Lenient).map(|document| {
                let _ = format!("{:?}", document.root());
                document.anomalies() == Anomalies::default() && document.trailing().is_empty()
            });
            prop_assert_eq!(lenient == Ok(true), accepts(&input, Mode::Strict));
        }

        #[test]
        fn trees_survive_a_round_trip_and_bendy_writes_the_same(tree in trees()) {
            let mut out = Vec::new();
            let mut encoder = Encoder::new(&mut out);
            tree.write(&mut encoder);
            encoder.finish();
            let mut by_bendy = bendy::encoding::Encoder::new();
            by_bendy.emit_with(|encoder| tree.write_with_bendy(encoder)).expect("written");
            prop_assert_eq!(&out, &by_bendy.get_output().expect("whole"));
            prop_assert!(bendy_accepts(&out));

            let mut tape = Tape::new();
            let document = tape.parse(&out, &Limits::WIRE, Mode::Strict).expect("canonical");
            prop_assert_eq!(document.root().raw(), &out[..]);
            prop_assert_eq!(Tree::read(document.root()), tree);
            for end in 0..out.len() {
                prop_assert!(!accepts(&out[..end], Mode::Lenient), "cut at {}", end);
            }
        }
    }

    #[test]
    fn two_hundred_thousand_nested_lists_are_an_error() {
        for (input, bytes) in [(b"l".as_slice(), 200_000), (b"d1:a", 800_000)] {
            let nested = input.repeat(200_000);
            assert_eq!(nested.len(), bytes);
            for mode in [Mode::Strict, Mode::Lenient] {
                let error = Tape::new().parse(&nested, &Limits::FILE, mode).expect_err("deep");
                assert!(matches!(error, Error::TooDeep { .. }), "{error:?}");
            }
            let no_limit = Limits { depth: u32::MAX, ..Limits::FILE };
            let error = Tape::new().parse(&nested, &no_limit, Mode::Lenient).expect_err("open");
            assert!(matches!(error, Error::Truncated { .. }), "{error:?}");
        }
    }

    #[test]
    fn a_length_beyond_the_input_is_an_error_and_allocates_nothing() {
        for input in [
            b"9999999999999:abc".as_slice(),
            b"18446744073709551615:abc",
            b"99999999999999999999999999:abc",
            b"4:abc",
        ] {
            let error = Tape::new().parse(input, &Limits::WIRE, Mode::Lenient).expect_err("short");
            assert!(matches!(error, Error::StringTooLong { at: 0 }), "{error:?}");
        }
    }

    #[test]
    fn each_limit_allows_its_value_and_refuses_one_more() {
        let limits = Limits { depth: 2, tokens: 6, bytes: 12 };
        let fits = |input: &[u8]| Tape::new().parse(input, &limits, Mode::Strict).map(|_| ());
        assert_eq!(fits(b"lli1eee"), Ok(()));
        assert_eq!(fits(b"llleee"), Err(Error::TooDeep { at: 2 }));
        assert_eq!(fits(b"li1ei2ei3ee"), Ok(()));
        assert_eq!(fits(b"l0:0:0:0:0:e"), Err(Error::TooManyTokens { at: 11 }));
        assert_eq!(fits(b"10:0123456789"), Err(Error::TooLarge { len: 13 }));
    }

    #[test]
    fn lenient_says_what_it_overlooked() {
        let cases: [(&[u8], Anomalies, &[u8]); 6] = [
            (b"d1:bi1e1:ai2ee", Anomalies { unsorted_keys: 1, ..Anomalies::default() }, b""),
            (b"d1:ai1e1:ai2ee", Anomalies { duplicate_keys: 1, ..Anomalies::default() }, b""),
            (b"i007e", Anomalies { overlong_numbers: 1, ..Anomalies::default() }, b""),
            (b"i-0e", Anomalies { overlong_numbers: 1, ..Anomalies::default() }, b""),
            (b"02:ab", Anomalies { overlong_numbers: 1, ..Anomalies::default() }, b""),
            (b"i7e\r\n", Anomalies::default(), b"\r\n"),
        ];
        for (input, anomalies, trailing) in cases {
            let mut tape = Tape::new();
            assert!(tape.parse(input, &Limits::WIRE, Mode::Strict).is_err(), "{input:?}");
            let document = tape.parse(input, &Limits::WIRE, Mode::Lenient).expect("lenient");
            assert_eq!(document.anomalies(), anomalies, "{input:?}");
            assert_eq!(document.trailing(), trailing, "{input:?}");
        }
    }

    #[test]
    fn of_equal_keys_the_first_one_counts() {
        let mut tape = Tape::new();
        let document =
            tape.parse(b"d1:ai1e1:ai2ee", &Limits::WIRE, Mode::Lenient).expect("lenient");
        assert_eq!(document.root().get("a").and_then(Value::as_int), Some(1));
        let all: Vec<_> =
            document.root().as_dict().expect("dict").iter().map(|(_, v)| v.as_int()).collect();
        assert_eq!(all, vec![Some(1), Some(2)]);
    }

    #[test]
    fn malformed_input_is_refused_in_both_modes_with_its_place() {
        let cases: [(&[u8], Error); 16] = [
            (b"", Error::Truncated { at: 0 }),
            (b"i", Error::Truncated { at: 1 }),
            (b"i12", Error::Truncated { at: 3 }),
            (b"12", Error::Truncated { at: 2 }),
            (b"d", Error::Truncated { at: 1 }),
            (b"d1:a", Error::Truncated { at: 4 }),
            (b"l", Error::Truncated { at: 1 }),
            (b"e", Error::UnexpectedByte { at: 0, byte: b'e' }),
            (b"ie", Error::UnexpectedByte { at: 1, byte: b'e' }),
            (b"i-e", Error::UnexpectedByte { at: 2, byte: b'e' }),
            (b"i+1e", Error::UnexpectedByte { at: 1, byte: b'+' }),
            (b"i1xe", Error::UnexpectedByte { at: 2, byte: b'x' }),
            (b"1x", Error::UnexpectedByte { at: 1, byte: b'x' }),
            (b"-1:a", Error::UnexpectedByte { at: 0, byte: b'-' }),
            (b"di1ei2ee", Error::KeyNotString { at: 1 }),
            (b"d1:ae", Error::MissingValue { at: 4 }),
        ];
        for (input, expected) in cases {
            for mode in [Mode::Strict, Mode::Lenient] {
                let error = Tape::new().parse(input, &Limits::WIRE, mode).expect_err("malformed");
                assert_eq!(error, expected, "{input:?} {mode:?}");
            }
        }
    }
}
