//! Making v1 torrents: names, lengths and piece hashes in, a [`Metainfo`] out.
//!
//! Reading files and hashing are somebody else's: a [`Draft`] says by its layout which bytes make
//! which piece, and takes the hashes at the end. Bendy writes the `info` dictionary here, since
//! its form is for ever; and what was written is judged like any other torrent.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use bendy::encoding::{Encoder, Error as EncodeError};

use super::info::v1_layout;
use super::layout::Layout;
use super::{Info, Metainfo, MetainfoError};
use crate::time::UnixTime;

/// Smallest piece that is chosen automatically, in bytes.
pub const AUTO_PIECE_LEN_MIN: u32 = 16 << 10;
/// Largest piece that is chosen automatically, in bytes.
pub const AUTO_PIECE_LEN_MAX: u32 = 16 << 20;
/// A larger piece is chosen until there are no more pieces than this.
pub const AUTO_PIECES_MAX: u64 = 2000;

/// What a torrent is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// One file, which bears the name of the torrent. Its length in bytes.
    File(u64),
    /// A folder, which bears the name of the torrent: for each file the folders down to it and
    /// its name, and its length in bytes. In the order that they will have.
    Folder(Vec<(Vec<String>, u64)>),
}

/// What may be said about a torrent besides its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Bytes per piece; chosen by the total length if absent ([`auto_piece_len`]).
    pub piece_len: Option<u32>,
    /// Whether only its trackers may be asked for peers (BEP 27). Part of the hash.
    pub private: bool,
    /// A mark of a tracker that makes the hash its own. Part of the hash.
    pub source: Option<String>,
    /// Trackers in tiers (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// What its maker has to say.
    pub comment: Option<String>,
    /// The program that makes it.
    pub created_by: Option<String>,
    /// When it is made.
    pub creation_date: Option<UnixTime>,
}

/// Why a torrent cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A name that would have to be changed on loading: it is unsafe, or two differ only in case.
    #[error("the file name {path:?} cannot be used on all platforms, or is there twice")]
    Name {
        /// The path as it would have to be.
        path: String,
    },
    /// The number of hashes is not the number of pieces.
    #[error("there are {given} hashes for {pieces} pieces")]
    HashCount {
        /// How many were given.
        given: usize,
        /// How many are due.
        pieces: u32,
    },
    /// Nobody would load such a torrent.
    #[error(transparent)]
    Illegal(#[from] MetainfoError),
}

/// The piece length that suits a total length: the smallest power of two that makes no more than
/// [`AUTO_PIECES_MAX`] pieces, between [`AUTO_PIECE_LEN_MIN`] and [`AUTO_PIECE_LEN_MAX`].
pub fn auto_piece_len(total_len: u64) -> u32 {
    let mut piece_len = AUTO_PIECE_LEN_MIN;
    while piece_len < AUTO_PIECE_LEN_MAX && total_len.div_ceil(piece_len.into()) > AUTO_PIECES_MAX {
        piece_len *= 2;
    }
    piece_len
}

/// A torrent in the making: everything is known but the hashes.
#[derive(Clone, Debug)]
pub struct Draft {
    name: String,
    content: Content,
    layout: Layout,
    options: Options,
}

impl Draft {
    /// Judges names and lengths, before anybody hashes anything.
    pub fn new(
        name: impl Into<String>,
        content: Content,
        options: Options,
    ) -> Result<Self, CreateError> {
        let name = name.into();
        let total = match &content {
            Content::File(len) => *len,
            Content::Folder(files) => files.iter().fold(0, |sum, (_, len)| len.saturating_add(sum)),
        };
        let piece_len = options.piece_len.unwrap_or_else(|| auto_piece_len(total));
        let layout = match &content {
            Content::File(len) => v1_layout(&name, piece_len, None, *len)?,
            Content::Folder(files) => v1_layout(&name, piece_len, Some(files), total)?,
        };
        let meant: Box<dyn Iterator<Item = String>> = match &content {
            Content::File(_) => Box::new(core::iter::once(name.clone())),
            Content::Folder(files) => Box::new(files.iter().map(|(path, _)| {
                let mut whole = name.clone();
                for component in path {
                    whole.push('/');
                    whole.push_str(component);
                }
                whole
            })),
        };
        for (file, meant) in layout.files().zip(meant) {
            if file.path() != meant {
                return Err(CreateError::Name { path: file.path().into() });
            }
        }
        Ok(Self { name, content, layout, options })
    }

    /// Which bytes make which piece.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The torrent, given the SHA-1 of each piece.
    pub fn finish(self, hashes: &[[u8; 20]]) -> Result<Metainfo, CreateError> {
        let pieces = self.layout.piece_count();
        if hashes.len() != pieces as usize {
            return Err(CreateError::HashCount { given: hashes.len(), pieces });
        }
        let bytes = self.encode(hashes.as_flattened()).expect("keys are in order");
        let info = Info::from_bytes(bytes.into())?;
        let mut made = Metainfo::from_info(info);
        made.trackers = self.options.trackers;
        made.web_seeds = self.options.web_seeds;
        made.comment = self.options.comment;
        made.created_by = self.options.created_by;
        made.creation_date = self.options.creation_date;
        Ok(made)
    }

    fn encode(&self, pieces: &[u8]) -> Result<Vec<u8>, EncodeError> {
        let mut encoder = Encoder::new();
        encoder.emit_dict(|mut info| {
            match &self.content {
                Content::File(len) => info.emit_pair(b"length", len)?,
                Content::Folder(files) => info.emit_pair_with(b"files", |list| {
                    list.emit_list(|list| {
                        files.iter().try_for_each(|(path, len)| {
                            list.emit_dict(|mut file| {
                                file.emit_pair(b"length", len)?;
                                file.emit_pair(b"path", path)
                            })
                        })
                    })
                })?,
            }
            info.emit_pair(b"name", &self.name)?;
            info.emit_pair(b"piece length", self.layout.piece_len())?;
            info.emit_pair_with(b"pieces", |value| value.emit_bytes(pieces))?;
            if self.options.private {
                info.emit_pair(b"private", 1)?;
            }
            match &self.options.source {
                Some(source) => info.emit_pair(b"source", source),
                None => Ok(()),
            }
        })?;
        encoder.get_output()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec;

    fn folder(files: &[(&str, u64)]) -> Content {
        let split = |path: &str| path.split('|').map(ToString::to_string).collect();
        Content::Folder(files.iter().map(|(path, len)| (split(path), *len)).collect())
    }

    #[test]
    fn a_torrent_is_loaded_as_it_was_made() {
        let options = Options {
            private: true,
            source: Some("S".to_string()),
            trackers: vec![vec!["http://a/".to_string()], vec!["udp://b:1".to_string()]],
            web_seeds: vec!["http://w/".to_string()],
            comment: Some("Grüße".to_string()),
            created_by: Some("teem".to_string()),
            creation_date: Some(UnixTime(1_700_000_000)),
            piece_len: Some(1 << 15),
        };
        let content = folder(&[("a|b.txt", 40_000), ("empty", 0), ("c", 1)]);
        let draft = Draft::new("name", content, options).expect("legal");
        assert_eq!(draft.layout().piece_count(), 2);
        let layout = draft.layout().clone();
        let made = draft.finish(&[[1; 20], [2; 20]]).expect("made");
        assert_eq!(**made.info().layout(), layout);
        assert_eq!(made.info().piece_hash(crate::ids::PieceIndex(1)), Some(&[2; 20]));
        assert!(made.info().is_private());
        assert_eq!(made.info().source(), Some("S"));
        let loaded = Metainfo::from_bytes(&made.to_bytes()).expect("legal");
        assert_eq!(loaded, made);
        assert_eq!(loaded.to_bytes(), made.to_bytes());
        assert!(made.info().bytes().starts_with(b"d5:filesld6:lengthi40000e4:pathl1:a5:b.txteed"));
    }

    #[test]
    fn the_dictionary_of_a_single_file_is_as_bep_3_has_it() {
        let draft = Draft::new("x", Content::File(5), Options::default()).expect("legal");
        let made = draft.finish(&[[b'h'; 20]]).expect("made");
        assert_eq!(
            made.info().bytes(),
            &b"d6:lengthi5e4:name1:x12:piece lengthi16384e6:pieces20:hhhhhhhhhhhhhhhhhhhhe"[..]
        );
        assert_eq!(made.to_bytes(), [b"d4:info", &made.info().bytes()[..], b"e"].concat());
    }

    #[test]
    fn the_piece_length_grows_with_the_content() {
        for (total, expected) in [
            (0, 16 << 10),
            (1, 16 << 10),
            (2000 * (16 << 10), 16 << 10),
            (2000 * (16 << 10) + 1, 32 << 10),
            (1 << 30, 1 << 20),
            (1 << 40, 16 << 20),
            (u64::MAX, 16 << 20),
        ] {
            assert_eq!(auto_piece_len(total), expected, "{total}");
        }
    }

    #[test]
    fn what_nobody_would_load_is_refused_before_it_is_hashed() {
        let made = |name: &str, content| Draft::new(name, content, Options::default()).map(|_| ());
        let is_name = |result| matches!(result, Err(CreateError::Name { .. }));
        assert!(is_name(made("..", Content::File(1))));
        assert!(is_name(made("a/b", Content::File(1))));
        assert!(is_name(made("t", folder(&[("..|x", 1)]))));
        assert!(is_name(made("t", folder(&[("x", 1), ("X", 1)]))));
        assert!(is_name(made("t", folder(&[("", 1)]))));
        assert!(matches!(made("t", Content::File(0)), Err(CreateError::Illegal(_))));
        assert!(matches!(made("t", folder(&[])), Err(CreateError::Illegal(_))));
        let too_large = folder(&[("a", u64::MAX), ("b", 1)]);
        assert!(matches!(made("t", too_large), Err(CreateError::Illegal(_))));
        let draft = Draft::new("x", Content::File(5), Options::default()).expect("legal");
        assert_eq!(draft.finish(&[]), Err(CreateError::HashCount { given: 0, pieces: 1 }));
    }
}
