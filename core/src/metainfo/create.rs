//! Making torrents, v1, v2 and hybrid: names, lengths and piece hashes in, a [`Metainfo`] out.
//!
//! Reading files and hashing are somebody else's: a [`Draft`] says by its layout which bytes make
//! which piece, and takes the hashes at the end. Choices that the specifications leave open (what
//! padding is called, and where it goes) are those of libtorrent, so that both make the same
//! torrent of the same files. Bendy writes the `info` dictionary here, since
//! its form is for ever; and what was written is judged like any other torrent.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use bendy::encoding::{Encoder, Error as EncodeError, SingleItemEncoder};
use bytes::Bytes;

use super::info::new_layout;
use super::layout::{File, Layout};
use super::merkle::{self, Hash};
use super::{Info, Metainfo, MetainfoError};
use crate::hash::{Digest, HashState};
use crate::ids::PieceIndex;
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

/// Which generation of the protocol a torrent is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// BEP 3: one SHA-1 per piece. Everybody knows it.
    #[default]
    V1,
    /// BEP 52: a merkle tree per file.
    V2,
    /// Both, of the same files, padded so that each begins a piece (BEP 47).
    Hybrid,
}

/// What may be said about a torrent besides its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// For whom it is.
    pub format: Format,
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
    /// The files of a v2 torrent are not in the order of their paths, byte by byte, part by part.
    #[error("the files are not in order")]
    Order,
    /// A hash is not of the kind that the torrent needs: of another function.
    #[error("the hash of piece {piece} is not of the kind that is due")]
    HashKind {
        /// Which piece.
        piece: u32,
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
        let format = options.format;
        let layout = match &content {
            Content::File(len) => new_layout(&name, piece_len, None, *len, format)?,
            Content::Folder(files) => new_layout(&name, piece_len, Some(files), total, format)?,
        };
        if let Content::Folder(files) = &content
            && format != Format::V1
            && !files.is_sorted_by(|(a, _), (b, _)| a < b)
        {
            return Err(CreateError::Order);
        }
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
        for (file, meant) in layout.files().filter(|file| !file.is_pad()).zip(meant) {
            if file.path() != meant {
                return Err(CreateError::Name { path: file.path().into() });
            }
        }
        Ok(Self { name, content, layout, options })
    }

    /// Which bytes make which piece. In a hybrid torrent there is padding between the files.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// For whom it is.
    pub const fn format(&self) -> Format {
        self.options.format
    }

    /// The hash of a piece before its first byte; to be taken over the piece without the padding
    /// that it ends with ([`Layout::piece_content_len`]).
    pub fn hash_state(&self, piece: PieceIndex) -> HashState {
        let format = self.options.format;
        self.layout.hash_state(piece, format != Format::V2, format != Format::V1)
    }

    /// The torrent, given the hash of each piece.
    pub fn finish<D: Copy + Into<Digest>>(self, hashes: &[D]) -> Result<Metainfo, CreateError> {
        let pieces = self.layout.piece_count();
        if hashes.len() != pieces as usize {
            return Err(CreateError::HashCount { given: hashes.len(), pieces });
        }
        let format = self.options.format;
        let mut sha1 = Vec::new();
        let mut roots: Vec<Hash> = Vec::new();
        for (piece, hash) in (0..).zip(hashes) {
            let wrong = CreateError::HashKind { piece };
            let hash: Digest = (*hash).into();
            match (format, hash.sha1(), hash.sha256()) {
                (Format::V1, Some(hash), _) => sha1.extend_from_slice(hash),
                (Format::V2, _, Some(root)) => roots.push(*root),
                (Format::Hybrid, Some(hash), Some(root)) => {
                    sha1.extend_from_slice(hash);
                    roots.push(*root);
                }
                _ => return Err(wrong),
            }
        }
        let level = merkle::piece_level(self.layout.piece_len());
        let of = |file: File<'_>| {
            let pieces = file.pieces();
            roots.get(pieces.start as usize..pieces.end as usize).unwrap_or_default()
        };
        let root = |file: File<'_>| match of(file) {
            [] => None,
            [only] => Some(*only),
            layer => Some(merkle::root(layer, level)),
        };
        let bytes = self.encode(&sha1, &root).expect("keys are in order");
        let info = Info::from_bytes(bytes.into())?;
        let mut made = Metainfo::from_info(info);
        for file in self.layout.files().filter(|file| !file.is_pad() && of(*file).len() > 1) {
            let layer = Bytes::copy_from_slice(of(file).as_flattened());
            made.add_piece_layer(root(file).expect("a file of several pieces"), layer)?;
        }
        made.trackers = self.options.trackers;
        made.web_seeds = self.options.web_seeds;
        made.comment = self.options.comment;
        made.created_by = self.options.created_by;
        made.creation_date = self.options.creation_date;
        Ok(made)
    }

    fn encode(
        &self,
        pieces: &[u8],
        root: &dyn Fn(File<'_>) -> Option<Hash>,
    ) -> Result<Vec<u8>, EncodeError> {
        let format = self.options.format;
        let mut encoder = Encoder::new().with_max_depth(TREE_DEPTH_MAX);
        encoder.emit_dict(|mut info| {
            if format != Format::V1 {
                let stored = self.layout.files().filter(|file| !file.is_pad());
                let leaves: Vec<Leaf<'_>> = match &self.content {
                    Content::File(_) => stored
                        .map(|file| (core::slice::from_ref(&self.name), file.len(), root(file)))
                        .collect(),
                    Content::Folder(files) => stored
                        .zip(files)
                        .map(|(file, (path, _))| (&path[..], file.len(), root(file)))
                        .collect(),
                };
                info.emit_pair_with(b"file tree", |value| emit_tree(value, &leaves, 0))?;
            }
            match &self.content {
                _ if format == Format::V2 => {}
                Content::Folder(files) => info.emit_pair_with(b"files", |list| {
                    list.emit_list(|list| {
                        let mut paths = files.iter().map(|(path, _)| path);
                        self.layout.files().try_for_each(|file| {
                            list.emit_dict(|mut entry| {
                                if file.is_pad() {
                                    let name = alloc::format!("{}", file.len());
                                    entry.emit_pair(b"attr", "p")?;
                                    entry.emit_pair(b"length", file.len())?;
                                    return entry.emit_pair(b"path", &[".pad", &name][..]);
                                }
                                let path = paths.next().expect("as many as files");
                                entry.emit_pair(b"length", file.len())?;
                                entry.emit_pair(b"path", path)
                            })
                        })
                    })
                })?,
                Content::File(len) => info.emit_pair(b"length", len)?,
            }
            if format != Format::V1 {
                info.emit_pair(b"meta version", 2)?;
            }
            info.emit_pair(b"name", &self.name)?;
            info.emit_pair(b"piece length", self.layout.piece_len())?;
            if format != Format::V2 {
                info.emit_pair_with(b"pieces", |value| value.emit_bytes(pieces))?;
            }
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

/// Dictionaries in each other in a file tree at most, and what is around and below it.
const TREE_DEPTH_MAX: usize = super::path::DEPTH_MAX + 8;

/// A file of a tree: its path, its length, its root.
type Leaf<'a> = (&'a [String], u64, Option<Hash>);

/// The dictionary of a folder, `depth` folders down: `files` are those in it, in order.
fn emit_tree(
    value: SingleItemEncoder<'_>,
    files: &[Leaf<'_>],
    depth: usize,
) -> Result<(), EncodeError> {
    value.emit_dict(|mut folder| {
        let mut rest = files;
        while let Some((path, len, root)) = rest.first() {
            let name = &path[depth];
            let same = rest.iter().take_while(|(path, ..)| path[depth] == *name).count();
            let (here, later) = rest.split_at(same);
            rest = later;
            if path.len() > depth + 1 {
                let name = name.as_bytes();
                folder.emit_pair_with(name, |value| emit_tree(value, here, depth + 1))?;
                continue;
            }
            folder.emit_pair_with(name.as_bytes(), |value| {
                value.emit_dict(|mut entry| {
                    entry.emit_pair_with(b"", |value| {
                        value.emit_dict(|mut leaf| {
                            leaf.emit_pair(b"length", len)?;
                            match root {
                                Some(root) => leaf
                                    .emit_pair_with(b"pieces root", |value| value.emit_bytes(root)),
                                None => Ok(()),
                            }
                        })
                    })
                })
            })?;
        }
        Ok(())
    })
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
            format: Format::V1,
        };
        let content = folder(&[("a|b.txt", 40_000), ("empty", 0), ("c", 1)]);
        let draft = Draft::new("name", content, options).expect("legal");
        assert_eq!(draft.layout().piece_count(), 2);
        let layout = draft.layout().clone();
        let made = draft.finish(&[[1; 20], [2; 20]]).expect("made");
        assert_eq!(**made.info().layout(), layout);
        assert_eq!(made.info().piece_hash(PieceIndex(1)), Some(&[2; 20]));
        assert!(made.info().is_private());
        assert_eq!(made.info().source(), Some("S"));
        let loaded = Metainfo::from_bytes(&made.to_bytes()).expect("legal");
        assert_eq!(loaded, made);
        assert_eq!(loaded.to_bytes(), made.to_bytes());
        assert!(made.info().bytes().starts_with(b"d5:filesld6:lengthi40000e4:pathl1:a5:b.txteed"));
    }

    /// What a draft makes of this content, which is as long as its layout.
    fn made(draft: Draft, content: &[u8]) -> Metainfo {
        let layout = draft.layout();
        let hashes: Vec<Digest> = (0..layout.piece_count())
            .map(|piece| {
                let start = piece as usize * layout.piece_len() as usize;
                let len = layout.piece_content_len(PieceIndex(piece)) as usize;
                let mut state = draft.hash_state(PieceIndex(piece));
                state.update(&content[start..start + len]);
                state.finish()
            })
            .collect();
        draft.finish(&hashes).expect("made")
    }

    #[test]
    fn a_v2_or_hybrid_torrent_is_loaded_as_it_was_made() {
        let files = [("a", 40_000), ("b|empty", 0), ("b|x", 100_000), ("c|y", 16_384), ("z", 5)];
        for format in [Format::V2, Format::Hybrid] {
            let options = Options { piece_len: Some(1 << 15), format, ..Options::default() };
            let draft = Draft::new("t", folder(&files), options).expect("legal");
            let layout = draft.layout().clone();
            assert_eq!(layout.piece_count(), 2 + 4 + 1 + 1);
            let content: Vec<u8> = (0..layout.space_len()).map(|at| (at / 97) as u8).collect();
            let mut padded = content.clone();
            for file in layout.files().filter(|file| file.is_pad()) {
                padded[file.offset() as usize..file.range().end as usize].fill(0);
            }
            let torrent = made(draft, &content);
            assert_eq!(**torrent.info().layout(), {
                // Roots are known only afterwards.
                let mut layout = layout.clone();
                layout.roots.clone_from(&torrent.info().layout().roots);
                layout.entries.clone_from(&torrent.info().layout().entries);
                layout
            });
            assert_eq!(torrent.info().info_hash().is_some(), format == Format::Hybrid);
            assert_eq!(torrent.files_without_layer().count(), 0);
            let loaded = Metainfo::from_bytes(&torrent.to_bytes()).expect("legal");
            assert_eq!(loaded, torrent);
            if format == Format::Hybrid {
                for (piece, bytes) in padded.chunks(1 << 15).enumerate() {
                    let piece = PieceIndex(piece as u32);
                    let hash = crate::hash::sha1(bytes);
                    assert_eq!(torrent.info().piece_hash(piece), Some(&hash));
                }
            }
            for file in torrent.info().layout().files().filter(|file| file.len() > 0) {
                let Some(root) = file.pieces_root() else { continue };
                let bytes = &content[file.offset() as usize..file.range().end as usize];
                let leaves: Vec<_> = bytes.chunks(1 << 14).map(merkle::leaf).collect();
                assert_eq!(*root, merkle::root(&leaves, 0), "{file:?}");
            }
        }
    }

    #[test]
    fn files_of_a_v2_torrent_have_an_order() {
        for (format, is_fine) in [(Format::V1, true), (Format::V2, false), (Format::Hybrid, false)]
        {
            let options = Options { format, ..Options::default() };
            let draft = Draft::new("t", folder(&[("b", 1), ("a", 1)]), options);
            assert_eq!(draft.is_ok(), is_fine, "{format:?}");
        }
        let options = Options { format: Format::V2, ..Options::default() };
        let draft = Draft::new("t", folder(&[("a", 1)]), options).expect("legal");
        assert_eq!(draft.finish(&[[1; 20]]), Err(CreateError::HashKind { piece: 0 }));
        let options = Options { format: Format::V2, piece_len: Some(40_000), ..Options::default() };
        assert!(Draft::new("t", folder(&[("a", 1)]), options).is_err());
    }

    #[test]
    fn the_pieces_of_a_v1_torrent_may_have_any_length() {
        for piece_len in [1, 8_191, 1 << 13, (1 << 15) + 123] {
            let options = Options { piece_len: Some(piece_len), ..Options::default() };
            let content: Vec<u8> = (0..=piece_len * 2).map(|at| (at / 97) as u8).collect();
            let len = content.len() as u64;
            let draft = Draft::new("t", folder(&[("a", len - 1), ("b", 1)]), options);
            let torrent = made(draft.expect("legal"), &content);
            assert_eq!(torrent.info().layout().piece_count(), 3);
            let last = crate::hash::sha1(&content[2 * piece_len as usize..]);
            assert_eq!(torrent.info().piece_hash(PieceIndex(2)), Some(&last));
            assert_eq!(Metainfo::from_bytes(&torrent.to_bytes()), Ok(torrent));
        }
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
        assert_eq!(
            draft.finish::<Digest>(&[]),
            Err(CreateError::HashCount { given: 0, pieces: 1 })
        );
    }
}
