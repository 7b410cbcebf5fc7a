//! The handshake of the extension protocol (BEP 10): which extensions a peer speaks, by which ids
//! it wants to be sent them, and what else it says about itself.
//!
//! It is the payload of extension message 0. A peer may send it again at any time, and says then
//! only what has changed. What is not understood, or out of range, counts as not said; only a
//! payload that is no dictionary at all is an error.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::{NonZeroU8, NonZeroU16, NonZeroU32};

use crate::bencode::{self, Encoder, Kind, Limits, Mode, Tape, Value};

/// Bytes of a client's name that are kept.
pub const CLIENT_LEN_MAX: usize = 64;

/// The longest `info` dictionary that a peer is believed to have: 64 MiB, which is the longest that
/// is read from a file.
pub const METADATA_LEN_MAX: u32 = 64 << 20;

/// What a handshake may be. Deployed ones have a few hundred bytes.
const LIMITS: Limits = Limits { depth: 8, tokens: 2048, bytes: 64 * 1024 };

/// The extensions known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Extension {
    /// `ut_pex`: peers that the sender knows (BEP 11).
    Pex = 1,
    /// `ut_metadata`: the `info` dictionary in pieces (BEP 9).
    Metadata = 2,
    /// `upload_only`: the sender turned into, or ceased to be, a partial seed (BEP 21).
    UploadOnly = 3,
    /// `ut_holepunch`: help in reaching a third peer (BEP 55).
    Holepunch = 4,
    /// `lt_donthave`: the sender lost a piece (BEP 54).
    DontHave = 5,
}

impl Extension {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 5] =
        [Self::DontHave, Self::UploadOnly, Self::Holepunch, Self::Metadata, Self::Pex];

    /// What it is called in handshakes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pex => "ut_pex",
            Self::Metadata => "ut_metadata",
            Self::UploadOnly => "upload_only",
            Self::Holepunch => "ut_holepunch",
            Self::DontHave => "lt_donthave",
        }
    }

    /// The id by which we want to be sent it; the same on every connection.
    pub const fn local_id(self) -> u8 {
        self as u8
    }

    /// The extension that a peer means by the id of a message that it sent to us.
    pub fn from_local_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|extension| extension.local_id() == id)
    }

    const fn place(self) -> usize {
        self as usize - 1
    }
}

/// The ids of extensions, as one side gave them out. 10 bytes.
///
/// Of each extension it says an id, or that it is off, or nothing. What one handshake says, and
/// what all handshakes of a connection amount to, have the same shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionIds([Option<u8>; Extension::ALL.len()]);

impl ExtensionIds {
    /// Says nothing.
    pub const NONE: Self = Self([None; Extension::ALL.len()]);

    /// These extensions with our own ids, for our handshake.
    pub fn local(extensions: impl IntoIterator<Item = Extension>) -> Self {
        let mut ids = Self::NONE;
        for extension in extensions {
            ids.set(extension, extension.local_id());
        }
        ids
    }

    /// The id to send `extension` with, if the peer wants it.
    pub fn get(&self, extension: Extension) -> Option<NonZeroU8> {
        self.0[extension.place()].and_then(NonZeroU8::new)
    }

    /// What is said of `extension`: its id, or 0 for that it is off.
    pub fn told(&self, extension: Extension) -> Option<u8> {
        self.0[extension.place()]
    }

    /// Gives `extension` an id; 0 turns it off.
    pub fn set(&mut self, extension: Extension, id: u8) {
        self.0[extension.place()] = Some(id);
    }

    /// Takes over what a later handshake says (BEP 10: it is additive, and 0 disables).
    pub fn update(&mut self, later: &Self) {
        for (id, later) in self.0.iter_mut().zip(later.0) {
            *id = later.or(*id);
        }
    }
}

/// A client's name as a peer told it, safe to show: valid text of at most [`CLIENT_LEN_MAX`]
/// bytes, without control characters and without those that change the direction of text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientName(Box<str>);

impl ClientName {
    /// What can be shown of `bytes`; none if that is nothing. Bytes that are not UTF-8 become
    /// replacement characters.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut name = String::new();
        // Cut first: the rest is not worth decoding. A character cut in two is shown as such.
        let bytes = &bytes[..bytes.len().min(CLIENT_LEN_MAX)];
        for chunk in bytes.utf8_chunks() {
            let replacement = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
            let shown = chunk.valid().chars().filter(|char| is_shown(*char));
            for char in shown.chain(replacement) {
                if name.len() + char.len_utf8() > CLIENT_LEN_MAX {
                    break;
                }
                name.push(char);
            }
        }
        let name = name.trim();
        (!name.is_empty()).then(|| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Not a control character, not invisible, and not one that reorders what is around it.
fn is_shown(char: char) -> bool {
    let hidden = matches!(char,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
    !char.is_control() && !hidden
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What the handshake of the extension protocol says (BEP 10). All of it is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtensionHandshake {
    /// The ids by which the sender wants to be sent extensions (`m`).
    pub ids: ExtensionIds,
    /// The client and its version (`v`).
    pub client: Option<ClientName>,
    /// How many requests the sender keeps before it drops some (`reqq`).
    pub requests_max: Option<NonZeroU32>,
    /// The TCP port on which the sender listens (`p`).
    pub listen_port: Option<NonZeroU16>,
    /// The receiver's address as the sender sees it (`yourip`); a claim.
    pub your_ip: Option<IpAddr>,
    /// The sender's IPv4 address (`ipv4`); a claim.
    pub ipv4: Option<Ipv4Addr>,
    /// The sender's IPv6 address (`ipv6`); a claim.
    pub ipv6: Option<Ipv6Addr>,
    /// Bytes of the `info` dictionary, if the sender has it (`metadata_size`, BEP 9); a claim of
    /// at most [`METADATA_LEN_MAX`].
    pub metadata_len: Option<NonZeroU32>,
    /// Whether the sender wants nothing, be it a seed or not (`upload_only`, BEP 21).
    pub upload_only: Option<bool>,
}

/// Why a payload is not a handshake of the extension protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionError {
    /// It is not bencode, or more of it than anybody needs.
    #[error("the extension handshake is not bencode")]
    Bencode(#[from] bencode::Error),
    /// It is another value.
    #[error("the extension handshake is not a dictionary")]
    NotDictionary,
}

impl ExtensionHandshake {
    /// Reads the payload of extension message 0. `tape` is scratch space to reuse.
    pub fn parse(payload: &[u8], tape: &mut Tape) -> Result<Self, ExtensionError> {
        let root = tape.parse(payload, &LIMITS, Mode::Lenient)?.root();
        if root.kind() != Kind::Dict {
            return Err(ExtensionError::NotDictionary);
        }
        let bytes = |key| root.get(key).and_then(Value::as_bytes);
        let uint = |key| root.get(key).and_then(Value::as_uint);
        let mut ids = ExtensionIds::NONE;
        if let Some(names) = root.get("m") {
            for extension in Extension::ALL {
                let id = names.get(extension.name()).and_then(Value::as_uint);
                if let Some(id) = id.and_then(|id| u8::try_from(id).ok()) {
                    ids.set(extension, id);
                }
            }
        }
        // A queue longer than we can count is as good as the longest that we can.
        let requests_max = uint("reqq").map(|len| u32::try_from(len).unwrap_or(u32::MAX));
        let port = uint("p").and_then(|port| u16::try_from(port).ok());
        let metadata_len = uint("metadata_size")
            .filter(|len| *len <= u64::from(METADATA_LEN_MAX))
            .map(|len| len as u32);
        Ok(Self {
            ids,
            client: bytes("v").and_then(ClientName::from_bytes),
            requests_max: requests_max.and_then(NonZeroU32::new),
            listen_port: port.and_then(NonZeroU16::new),
            your_ip: bytes("yourip").and_then(|ip| match ip.len() {
                4 => Some(IpAddr::from(<[u8; 4]>::try_from(ip).ok()?)),
                _ => Some(IpAddr::from(<[u8; 16]>::try_from(ip).ok()?)),
            }),
            ipv4: bytes("ipv4").and_then(|ip| Some(<[u8; 4]>::try_from(ip).ok()?.into())),
            ipv6: bytes("ipv6").and_then(|ip| Some(<[u8; 16]>::try_from(ip).ok()?.into())),
            metadata_len: metadata_len.and_then(NonZeroU32::new),
            upload_only: uint("upload_only").map(|flag| flag != 0),
        })
    }

    /// Appends the payload of extension message 0 to `out`. There is always an `m`, if an empty
    /// one.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut encoder = Encoder::new(out);
        encoder.begin_dict();
        if let Some(ip) = self.ipv4 {
            encoder.key("ipv4").bytes(ip.octets());
        }
        if let Some(ip) = self.ipv6 {
            encoder.key("ipv6").bytes(ip.octets());
        }
        encoder.key("m").begin_dict();
        for extension in Extension::ALL {
            if let Some(id) = self.ids.0[extension.place()] {
                encoder.key(extension.name()).uint(id.into());
            }
        }
        encoder.end();
        if let Some(len) = self.metadata_len {
            encoder.key("metadata_size").uint(len.get().into());
        }
        if let Some(port) = self.listen_port {
            encoder.key("p").uint(port.get().into());
        }
        if let Some(len) = self.requests_max {
            encoder.key("reqq").uint(len.get().into());
        }
        if let Some(flag) = self.upload_only {
            encoder.key("upload_only").uint(flag.into());
        }
        if let Some(client) = &self.client {
            encoder.key("v").bytes(client.as_str());
        }
        match self.your_ip {
            Some(IpAddr::V4(ip)) => encoder.key("yourip").bytes(ip.octets()),
            Some(IpAddr::V6(ip)) => encoder.key("yourip").bytes(ip.octets()),
            None => &mut encoder,
        };
        encoder.end();
        encoder.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    fn parse(payload: &[u8]) -> Result<ExtensionHandshake, ExtensionError> {
        ExtensionHandshake::parse(payload, &mut Tape::new())
    }

    fn client(bytes: &[u8]) -> Option<String> {
        ClientName::from_bytes(bytes).map(|name| name.to_string())
    }

    #[test]
    fn ids_are_small_and_lead_back_to_their_extension() {
        assert_eq!(size_of::<ExtensionIds>(), 10);
        for extension in Extension::ALL {
            assert_eq!(Extension::from_local_id(extension.local_id()), Some(extension));
        }
        assert_eq!(Extension::from_local_id(0), None);
        assert_eq!(Extension::from_local_id(6), None);
        assert!(Extension::ALL.is_sorted_by_key(|extension| extension.name()));
    }

    #[test]
    fn the_example_of_bep_10_is_read() {
        let payload = b"d1:md11:LT_metadatai1e6:ut_pexi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e";
        let handshake = parse(payload).unwrap();
        assert_eq!(handshake.ids.get(Extension::Pex), NonZeroU8::new(2));
        assert_eq!(handshake.ids.get(Extension::Metadata), None);
        assert_eq!(handshake.listen_port, NonZeroU16::new(6881));
        assert_eq!(handshake.client.unwrap().as_str(), "µTorrent 1.2");
    }

    #[test]
    fn our_handshake_is_canonical() {
        let handshake = ExtensionHandshake {
            ids: ExtensionIds::local([Extension::Pex, Extension::Metadata]),
            client: ClientName::from_bytes(b"teem 0.1"),
            requests_max: NonZeroU32::new(500),
            listen_port: NonZeroU16::new(6881),
            your_ip: Some(Ipv4Addr::new(1, 2, 3, 4).into()),
            metadata_len: NonZeroU32::new(31235),
            upload_only: Some(true),
            ..ExtensionHandshake::default()
        };
        let mut out = Vec::new();
        handshake.encode(&mut out);
        let expected = b"d1:md11:ut_metadatai2e6:ut_pexi1ee13:metadata_sizei31235e1:pi6881e\
            4:reqqi500e11:upload_onlyi1e1:v8:teem 0.16:yourip4:\x01\x02\x03\x04e";
        assert_eq!(out, expected);
    }

    #[test]
    fn a_later_handshake_changes_what_it_names_and_nothing_else() {
        let mut ids = parse(b"d1:md11:ut_metadatai7e6:ut_pexi9eee").unwrap().ids;
        ids.update(&parse(b"d1:md11:lt_donthavei3e6:ut_pexi0eee").unwrap().ids);
        assert_eq!(ids.get(Extension::Metadata), NonZeroU8::new(7));
        assert_eq!(ids.get(Extension::Pex), None);
        assert_eq!(ids.get(Extension::DontHave), NonZeroU8::new(3));
        ids.update(&parse(b"de").unwrap().ids);
        assert_eq!(ids.get(Extension::Metadata), NonZeroU8::new(7));
    }

    #[test]
    fn what_is_out_of_range_or_of_another_kind_counts_as_not_said() {
        let cases: [&[u8]; 9] = [
            b"d1:mi1ee",
            b"d1:md6:ut_pexi256e11:ut_metadatai-1e11:upload_only1:xee",
            b"d13:metadata_sizei67108865ee",
            b"d13:metadata_sizei0ee",
            b"d1:pi65536ee",
            b"d1:pi0ee",
            b"d4:ipv43:abc4:ipv64:abcd6:yourip5:abcdee",
            b"d4:reqqi-5e11:upload_only1:1e1:vi3ee",
            b"d1:v0:7:unknownld1:ai1eeee",
        ];
        for payload in cases {
            assert_eq!(parse(payload), Ok(ExtensionHandshake::default()), "{payload:?}");
        }
        let many = parse(b"d4:reqqi99999999999ee").unwrap().requests_max;
        assert_eq!(many, NonZeroU32::new(u32::MAX));
    }

    #[test]
    fn what_is_no_dictionary_is_an_error() {
        assert_eq!(parse(b"le"), Err(ExtensionError::NotDictionary));
        assert!(matches!(parse(b""), Err(ExtensionError::Bencode(_))));
        assert!(matches!(parse(b"d1:v"), Err(ExtensionError::Bencode(_))));
        let long = [b"d1:v70000:".as_slice(), &b"x".repeat(70_000), b"e"].concat();
        assert!(matches!(parse(&long), Err(ExtensionError::Bencode(_))));
    }

    #[test]
    fn a_client_name_is_safe_to_show() {
        assert_eq!(client(b"\x1b[2Jqb\0\n "), Some("[2Jqb".into()));
        assert_eq!(client("a\u{202e}b\u{85}c".as_bytes()), Some("abc".into()));
        assert_eq!(client(b"a\xffb"), Some("a\u{fffd}b".into()));
        assert_eq!(client(b" \r\n\0"), None);
        assert_eq!(client(&[b'x'; 1000]).map(|name| name.len()), Some(CLIENT_LEN_MAX));
        assert!(client(&[0xff; 1000]).is_some_and(|name| name.len() <= CLIENT_LEN_MAX));
    }

    fn handshake() -> impl Strategy<Value = ExtensionHandshake> {
        (
            any::<[Option<u8>; 5]>(),
            prop::option::of(".{1,40}"),
            any::<(u32, u16, Option<Ipv4Addr>, Option<Ipv6Addr>, Option<IpAddr>)>(),
            0..=METADATA_LEN_MAX,
            any::<Option<bool>>(),
        )
            .prop_map(
                |(ids, client, (requests, port, ipv4, ipv6, your_ip), metadata, flag)| {
                    ExtensionHandshake {
                        ids: ExtensionIds(ids),
                        client: client.and_then(|name| ClientName::from_bytes(name.as_bytes())),
                        requests_max: NonZeroU32::new(requests),
                        listen_port: NonZeroU16::new(port),
                        your_ip,
                        ipv4,
                        ipv6,
                        metadata_len: NonZeroU32::new(metadata),
                        upload_only: flag,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn a_handshake_survives_a_round_trip(handshake in handshake()) {
            let mut out = Vec::new();
            handshake.encode(&mut out);
            let mut tape = Tape::new();
            prop_assert!(tape.parse(&out, &LIMITS, Mode::Strict).is_ok());
            prop_assert_eq!(ExtensionHandshake::parse(&out, &mut tape), Ok(handshake));
        }

        #[test]
        fn a_client_name_stays_what_it_is(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(name) = ClientName::from_bytes(&bytes) {
                prop_assert!(name.as_str().len() <= CLIENT_LEN_MAX);
                prop_assert!(!name.as_str().contains(char::is_control));
                prop_assert_eq!(ClientName::from_bytes(name.as_str().as_bytes()), Some(name));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(handshake in handshake(), at: usize, byte: u8, cut: usize) {
            let mut out = Vec::new();
            handshake.encode(&mut out);
            let at = at % out.len();
            out[at] = byte;
            out.truncate(1 + cut % out.len());
            let _ = parse(&out);
        }
    }
}
