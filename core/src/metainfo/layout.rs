//! Which bytes of a torrent are in which file, and the other way round.
//!
//! A v1 or hybrid torrent is one byte space, the files (padding among them) in a row. In a v2
//! torrent each file begins at a piece boundary, and the space between is nobody's: no file maps
//! to it, and pieces end with their file.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use super::merkle::{self, Hash};
use crate::hash::{HashAlgorithm, HashState, Stream, Tree};
use crate::ids::PieceIndex;

const NOTHING: u32 = u32::MAX;

/// The files of a torrent and their places. About 32 bytes per file, plus the text of its path.
#[derive(Clone, PartialEq, Eq)]
pub struct Layout {
    pub(super) entries: Box<[Entry]>,
    /// All paths in a row; components are joined by `/`, which no component contains.
    pub(super) paths: Box<str>,
    pub(super) roots: Box<[Hash]>,
    pub(super) links: Box<[Box<str>]>,
    pub(super) piece_len: u32,
    pub(super) single_file: bool,
    pub(super) aligned: bool,
}

/// One file, packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) len: u64,
    /// Where its path ends in `paths`; it begins where the one before ends.
    pub(super) path_end: u32,
    /// Index in `roots`, or `NOTHING`.
    pub(super) root: u32,
    /// Index in `links`, or `NOTHING`.
    pub(super) link: u32,
    pub(super) attributes: Attributes,
}

/// What BEP 47 says about a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `p`: zeros that align the next file; not to be stored.
    pub pad: bool,
    /// `x`: to be made executable.
    pub executable: bool,
    /// `h`: to be hidden where the file system knows such a thing.
    pub hidden: bool,
}

impl Attributes {
    pub(super) fn from_letters(letters: &[u8]) -> Self {
        let has = |letter| letters.contains(&letter);
        Self { pad: has(b'p'), executable: has(b'x'), hidden: has(b'h') }
    }
}

/// A part of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSlice {
    /// Index of the file.
    pub file: usize,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// How many bytes; never zero.
    pub len: u64,
}

/// Where a piece lies in a merkle tree; see [`Layout::tree_place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreePlace {
    /// Index of the file whose tree it is.
    pub file: usize,
    /// The piece, counted from the beginning of the file.
    pub index: u32,
    /// How far above the leaves the node over the piece stands.
    pub level: u32,
    /// How far above the leaves the root of the file stands: as far, if it is one piece.
    pub height: u32,
}

/// One file of a [`Layout`]: a view.
#[derive(Clone, Copy)]
pub struct File<'a> {
    layout: &'a Layout,
    index: usize,
}

impl Layout {
    /// No files.
    pub(super) fn empty() -> Self {
        Self {
            entries: Box::default(),
            paths: Box::default(),
            roots: Box::default(),
            links: Box::default(),
            piece_len: 1,
            single_file: false,
            aligned: false,
        }
    }

    /// How many files, padding and links among them.
    pub fn file_count(&self) -> usize {
        self.entries.len()
    }

    /// A file, counted from zero in the order of the torrent.
    pub fn file(&self, index: usize) -> Option<File<'_>> {
        (index < self.entries.len()).then_some(File { layout: self, index })
    }

    /// All files in the order of the torrent.
    pub fn files(&self) -> impl ExactSizeIterator<Item = File<'_>> + Clone {
        (0..self.entries.len()).map(|index| File { layout: self, index })
    }

    /// Whether it is a single file without a folder around it.
    pub const fn is_single_file(&self) -> bool {
        self.single_file
    }

    /// Length of all pieces but the shorter ones, in bytes; never zero.
    pub const fn piece_len(&self) -> u32 {
        self.piece_len
    }

    /// How many pieces; at least one, at most [`PIECES_MAX`](super::PIECES_MAX).
    pub fn piece_count(&self) -> u32 {
        self.space_len().div_ceil(u64::from(self.piece_len)) as u32
    }

    /// End of the byte space that offsets are in: all files, the padding between them included.
    pub fn space_len(&self) -> u64 {
        self.entries.last().map_or(0, |last| last.offset + last.len)
    }

    /// Bytes of all files without padding.
    pub fn content_len(&self) -> u64 {
        let content = self.entries.iter().filter(|entry| !entry.attributes.pad);
        content.map(|entry| entry.len).sum()
    }

    /// Bytes in this piece: [`piece_len`](Self::piece_len), or less for the last one of the
    /// torrent (v1) or of a file (v2). Zero beyond the end.
    pub fn piece_size(&self, piece: PieceIndex) -> u32 {
        let start = u64::from(piece.0) * u64::from(self.piece_len);
        let end = if self.aligned {
            let holder = self.entries.get(self.first_ending_after(start));
            holder
                .filter(|entry| entry.offset <= start)
                .map_or(start, |entry| entry.offset + entry.len)
        } else {
            self.space_len()
        };
        end.saturating_sub(start).min(u64::from(self.piece_len)) as u32
    }

    /// Bytes of this piece without the padding that it ends with (BEP 47). A piece that is nothing
    /// but padding counts whole.
    pub fn piece_content_len(&self, piece: PieceIndex) -> u32 {
        let size = self.piece_size(piece);
        let start = u64::from(piece.0) * u64::from(self.piece_len);
        let before = self.entries.partition_point(|entry| entry.offset < start + u64::from(size));
        let content = |entry: &&Entry| entry.len > 0 && !entry.attributes.pad;
        let last = self.entries[..before].iter().rev().find(content);
        let end = last.map_or(0, |entry| entry.offset + entry.len);
        if end > start { (end - start).min(u64::from(size)) as u32 } else { size }
    }

    /// Where this piece lies in the tree of its file (BEP 52): the file, the number of the piece
    /// in it, and how far above the leaves the root over the piece stands. None beyond the end. Of
    /// the layout of a v2 or hybrid torrent.
    pub fn tree_place(&self, piece: PieceIndex) -> Option<TreePlace> {
        let start = u64::from(piece.0) * u64::from(self.piece_len);
        let file = self.first_ending_after(start);
        let entry = self.entries.get(file).filter(|entry| entry.offset <= start)?;
        let index = ((start - entry.offset) / u64::from(self.piece_len)) as u32;
        let height = merkle::height(entry.len);
        let level = height.min(merkle::piece_level(self.piece_len));
        Some(TreePlace { file, index, level, height })
    }

    /// The hash of a piece before its first byte, for v1, v2 or both.
    pub(super) fn hash_state(&self, piece: PieceIndex, v1: bool, v2: bool) -> HashState {
        let padding = || self.piece_size(piece) - self.piece_content_len(piece);
        let stream = || Stream::new(HashAlgorithm::Sha1).padded(padding());
        let level = || self.tree_place(piece).map_or(0, |place| place.level);
        match (v1, v2) {
            (_, false) => stream().into(),
            (false, true) => HashState::Tree(Tree::new(level()).into()),
            (true, true) => HashState::Both((stream(), Tree::new(level())).into()),
        }
    }

    /// Pieces that end before [`piece_len`](Self::piece_len) does, with how much of them is content:
    /// the last one of each file of a v2 torrent, and pieces that end in padding. Ascending; a piece
    /// that is nothing but padding is not among them, nor the last one for being the last.
    pub fn short_pieces(&self) -> impl Iterator<Item = (PieceIndex, u32)> + '_ {
        let piece_len = u64::from(self.piece_len);
        let contents = self.entries.iter().filter(|entry| entry.len > 0 && !entry.attributes.pad);
        let mut nexts = contents.clone().skip(1);
        contents.filter_map(move |entry| {
            let next = nexts.next().map_or(u64::MAX, |next| next.offset);
            let end = entry.offset + entry.len;
            let short = (end % piece_len) as u32;
            let piece_end = end.next_multiple_of(piece_len).min(self.space_len());
            let is_short = end < piece_end && next >= piece_end;
            is_short.then(|| (PieceIndex((end / piece_len) as u32), short))
        })
    }

    /// Which parts of which files hold the bytes `offset..offset + len`, in order. Parts that are
    /// no file's (behind the end, or between the files of a v2 torrent) are left out.
    pub fn map(&self, offset: u64, len: u64) -> FileSlices<'_> {
        FileSlices {
            layout: self,
            file: self.first_ending_after(offset),
            offset,
            end: offset.saturating_add(len),
        }
    }

    /// Which parts of which files hold this piece.
    pub fn map_piece(&self, piece: PieceIndex) -> FileSlices<'_> {
        let start = u64::from(piece.0) * u64::from(self.piece_len);
        self.map(start, u64::from(self.piece_size(piece)))
    }

    /// Index of the first file that ends behind `offset`; ends never go backwards.
    fn first_ending_after(&self, offset: u64) -> usize {
        self.entries.partition_point(|entry| entry.offset + entry.len <= offset)
    }

    fn entry_path(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.entries[before].path_end);
        &self.paths[start as usize..self.entries[index].path_end as usize]
    }
}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layout")
            .field("piece_len", &self.piece_len)
            .field("piece_count", &self.piece_count())
            .field("files", &self.files().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl<'a> File<'a> {
    fn entry(self) -> Entry {
        self.layout.entries[self.index]
    }

    /// Its place in the list of files.
    pub const fn index(self) -> usize {
        self.index
    }

    /// Its path below the download folder, the torrent's own folder first, joined by `/`. Safe on
    /// every platform, and no other file's path even where case is ignored; only padding shares.
    pub fn path(self) -> &'a str {
        self.layout.entry_path(self.index)
    }

    /// The parts of [`path`](Self::path): folders, then the file. Never empty.
    pub fn components(self) -> impl DoubleEndedIterator<Item = &'a str> + Clone {
        self.path().split('/')
    }

    /// Where it begins in the byte space of the torrent.
    pub fn offset(self) -> u64 {
        self.entry().offset
    }

    /// Its length in bytes; may be zero.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a file's length is a number, not a container's"
    )]
    pub fn len(self) -> u64 {
        self.entry().len
    }

    /// The bytes of the torrent's space that it holds.
    pub fn range(self) -> Range<u64> {
        self.entry().offset..self.entry().offset + self.entry().len
    }

    /// The pieces that hold bytes of it; empty for an empty file.
    pub fn pieces(self) -> Range<u32> {
        let (range, piece_len) = (self.range(), u64::from(self.layout.piece_len));
        let first = (range.start / piece_len) as u32;
        if range.is_empty() { first..first } else { first..range.end.div_ceil(piece_len) as u32 }
    }

    /// Padding, executable, hidden (BEP 47).
    pub fn attributes(self) -> Attributes {
        self.entry().attributes
    }

    /// Whether it is padding: zeros that nobody stores.
    pub fn is_pad(self) -> bool {
        self.entry().attributes.pad
    }

    /// What a symbolic link points to: the path of another file or folder of this torrent, in the
    /// form of [`path`](Self::path), and no link itself.
    pub fn link_target(self) -> Option<&'a str> {
        self.layout.links.get(self.entry().link as usize).map(|target| &**target)
    }

    /// Root of the file's merkle tree (BEP 52); v2 files that are not empty have one.
    pub fn pieces_root(self) -> Option<&'a Hash> {
        self.layout.roots.get(self.entry().root as usize)
    }
}

impl fmt::Debug for File<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}+{}", self.path(), self.offset(), self.len())
    }
}

/// The parts of files that hold a range of bytes; see [`Layout::map`].
#[derive(Clone, Debug)]
pub struct FileSlices<'a> {
    layout: &'a Layout,
    file: usize,
    offset: u64,
    end: u64,
}

impl Iterator for FileSlices<'_> {
    type Item = FileSlice;

    fn next(&mut self) -> Option<FileSlice> {
        loop {
            let entry = self.layout.entries.get(self.file)?;
            if entry.offset >= self.end {
                return None;
            }
            let file = self.file;
            let start = self.offset.max(entry.offset);
            let end = self.end.min(entry.offset + entry.len);
            self.file += 1;
            if start < end {
                self.offset = end;
                return Some(FileSlice { file, offset: start - entry.offset, len: end - start });
            }
        }
    }
}

/// Puts a layout together, file after file.
#[derive(Debug)]
pub(super) struct LayoutBuilder {
    pub(super) piece_len: u32,
    /// Whether each file begins a piece (v2).
    pub(super) aligned: bool,
    entries: Vec<Entry>,
    roots: Vec<Hash>,
    end: u64,
}

impl LayoutBuilder {
    pub(super) fn new(piece_len: u32, aligned: bool, files: usize) -> Self {
        Self { piece_len, aligned, entries: Vec::with_capacity(files), roots: Vec::new(), end: 0 }
    }

    /// Adds a file behind the others; `None` if it would end beyond `space_max`.
    pub(super) fn push(
        &mut self,
        len: u64,
        attributes: Attributes,
        root: Option<Hash>,
        space_max: u64,
    ) -> Option<()> {
        let mut offset = self.end;
        if self.aligned && len > 0 {
            offset = offset.checked_next_multiple_of(u64::from(self.piece_len))?;
        }
        let end = offset.checked_add(len).filter(|end| *end <= space_max)?;
        self.end = end;
        let root = root.map_or(NOTHING, |root| {
            self.roots.push(root);
            (self.roots.len() - 1) as u32
        });
        self.entries.push(Entry { offset, len, path_end: 0, root, link: NOTHING, attributes });
        Some(())
    }

    /// How far the files reach.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// The layout, given a path per file and the targets of links by file. `None` if the paths
    /// are longer than 4 GiB together.
    pub(super) fn finish(
        mut self,
        paths: &[String],
        links: impl Iterator<Item = (usize, Box<str>)>,
        single_file: bool,
    ) -> Option<Layout> {
        let mut joined = String::with_capacity(paths.iter().map(String::len).sum());
        for (entry, path) in self.entries.iter_mut().zip(paths) {
            joined.push_str(path);
            entry.path_end = u32::try_from(joined.len()).ok()?;
        }
        let mut targets = Vec::new();
        for (file, target) in links {
            self.entries[file].link = targets.len() as u32;
            targets.push(target);
        }
        Some(Layout {
            entries: self.entries.into(),
            paths: joined.into(),
            roots: self.roots.into(),
            links: targets.into(),
            piece_len: self.piece_len,
            single_file,
            aligned: self.aligned,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    fn layout(lens: &[u64], piece_len: u32, aligned: bool) -> Layout {
        let mut builder = LayoutBuilder::new(piece_len, aligned, lens.len());
        for len in lens {
            builder.push(*len, Attributes::default(), None, u64::MAX).expect("small");
        }
        let paths: Vec<_> = (0..lens.len()).map(|n| std::format!("t/{n}")).collect();
        builder.finish(&paths, core::iter::empty(), false).expect("short")
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 32);
    }

    #[test]
    fn pieces_of_an_aligned_layout_end_with_their_file() {
        let layout = layout(&[10, 0, 16, 17], 16, true);
        let offsets: Vec<_> = layout.files().map(File::offset).collect();
        assert_eq!(offsets, [0, 10, 16, 32]);
        assert_eq!(layout.piece_count(), 4);
        let sizes: Vec<_> = (0..5).map(|n| layout.piece_size(PieceIndex(n))).collect();
        assert_eq!(sizes, [10, 16, 16, 1, 0]);
        assert_eq!(layout.content_len(), 43);
        assert_eq!(layout.file(3).expect("there").pieces(), 2..4);
        assert_eq!(layout.file(1).expect("there").pieces(), 0..0);
        assert_eq!(layout.file(0).expect("there").path().to_string(), "t/0");
    }

    proptest! {
        #[test]
        fn short_pieces_end_where_their_content_does(
            files in prop::collection::vec((0_u64..20, any::<bool>()), 1..10),
            piece_len in 1_u32..20,
            aligned: bool,
        ) {
            let mut builder = LayoutBuilder::new(piece_len, aligned, files.len());
            let mut bytes = Vec::new();
            for (len, pad) in &files {
                let attributes = Attributes { pad: *pad, ..Attributes::default() };
                builder.push(*len, attributes, None, u64::MAX).expect("small");
                if aligned && *len > 0 {
                    bytes.resize(bytes.len().next_multiple_of(piece_len as usize), false);
                }
                bytes.extend((0..*len).map(|_| !pad));
            }
            let paths: Vec<_> = (0..files.len()).map(|n| std::format!("t/{n}")).collect();
            let layout = builder.finish(&paths, core::iter::empty(), false).expect("short");
            let pieces = bytes.chunks(piece_len as usize).enumerate();
            let expected: Vec<_> = pieces
                .filter_map(|(piece, bytes)| {
                    let len = bytes.iter().rposition(|content| *content)? + 1;
                    (len < bytes.len()).then_some((PieceIndex(piece as u32), len as u32))
                })
                .collect();
            prop_assert_eq!(layout.short_pieces().collect::<Vec<_>>(), expected);
        }

        #[test]
        fn mapping_agrees_with_a_map_of_every_byte(
            lens in prop::collection::vec(0_u64..20, 1..10),
            piece_len in 1_u32..20,
            aligned: bool,
            offset in 0_u64..200,
            len in 0_u64..200,
        ) {
            let layout = layout(&lens, piece_len, aligned);
            let mut bytes = Vec::new();
            for (file, len) in lens.iter().enumerate() {
                if aligned && *len > 0 {
                    bytes.resize(bytes.len().next_multiple_of(piece_len as usize), None);
                }
                bytes.extend((0..*len).map(|at| Some((file, at))));
            }
            let at = |range: Range<u64>| -> Vec<_> {
                let range = range.start as usize..(range.end as usize).min(bytes.len());
                bytes.get(range).into_iter().flatten().flatten().copied().collect()
            };
            let expand = |slices: FileSlices<'_>| -> Vec<_> {
                slices
                    .flat_map(|s| (s.offset..s.offset + s.len).map(move |at| (s.file, at)))
                    .collect()
            };
            prop_assert_eq!(expand(layout.map(offset, len)), at(offset..offset + len));
            prop_assert_eq!(layout.space_len(), bytes.len() as u64);
            let mut total = 0;
            for piece in 0..layout.piece_count() {
                let start = u64::from(piece) * u64::from(piece_len);
                let here = at(start..start + u64::from(piece_len));
                prop_assert_eq!(layout.piece_size(PieceIndex(piece)) as usize, here.len());
                prop_assert_eq!(expand(layout.map_piece(PieceIndex(piece))), here);
                total += u64::from(layout.piece_size(PieceIndex(piece)));
            }
            prop_assert_eq!(total, layout.content_len());
            for file in layout.files() {
                let holders: Vec<_> = (0..layout.piece_count())
                    .filter(|n| layout.map_piece(PieceIndex(*n)).any(|s| s.file == file.index()))
                    .collect();
                prop_assert_eq!(file.pieces().collect::<Vec<_>>(), holders);
            }
        }
    }
}
