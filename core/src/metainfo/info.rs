//! The `info` dictionary: what the torrent is, apart from where to find it.
//!
//! Three shapes: v1 (BEP 3) with a list of files in one byte space and a SHA-1 per piece, v2
//! (BEP 52) with a tree of files and a merkle root each, and hybrid with both, which must then
//! say the same. Paths are made safe here, once ([`path`](super::path)).

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::create::Format;
use super::layout::{Attributes, Layout, LayoutBuilder};
use super::merkle::{BLOCK_LEN, Hash};
use super::path::{DEPTH_MAX, Taken, sanitise};
use super::{FILES_MAX, MetainfoError, PIECE_LEN_MAX, PIECES_MAX, SPACE_LEN_MAX, links};
use crate::bencode::{self, Dict, Limits, Mode, Tape, Value};
use crate::hash::HashState;
use crate::ids::{InfoHash, InfoHashV2, PieceIndex};

type Result<T> = core::result::Result<T, MetainfoError>;

/// How padding files were called before there was an attribute for them.
const LEGACY_PAD_PREFIX: &[u8] = b"_____padding_file_";

/// A judged `info` dictionary. Immutable; share it behind an `Arc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    bytes: Bytes,
    hash_v1: Option<InfoHash>,
    hash_v2: Option<InfoHashV2>,
    name: Box<str>,
    /// SHA-1 of each piece in a row, a slice of `bytes`; empty in v2.
    piece_hashes: Bytes,
    layout: Arc<Layout>,
    private: bool,
    source: Option<Box<str>>,
}

/// A file as the torrent has it, before its path is made safe.
#[derive(Debug)]
pub(super) struct RawFile<'a> {
    pub(super) path: SmallVec<[&'a [u8]; 3]>,
    pub(super) len: u64,
    pub(super) attributes: Attributes,
    pub(super) link: Option<Vec<&'a [u8]>>,
    pub(super) root: Option<Hash>,
}

impl<'a> RawFile<'a> {
    fn plain(path: SmallVec<[&'a [u8]; 3]>, len: u64) -> Self {
        Self { path, len, attributes: Attributes::default(), link: None, root: None }
    }
}

impl Info {
    /// Judges the bytes of an `info` dictionary, which are kept as they are.
    ///
    /// For metadata that came from peers, check its hash first ([`info_hash`](Self::info_hash)
    /// tells it afterwards, but by then it was parsed). Piece layers are not part of it.
    pub fn from_bytes(bytes: Bytes) -> Result<Self> {
        let mut tape = Tape::new();
        let input = bytes.clone();
        let document = tape.parse(&input, &Limits::FILE, Mode::Lenient)?;
        let info = document.root().as_dict();
        let info = info.ok_or_else(|| kind("info", "a dictionary"))?;
        if !document.trailing().is_empty() {
            let at = bytes.len() - document.trailing().len();
            return Err(bencode::Error::Trailing { at }.into());
        }
        let has_v2 = match info.get("meta version").map(Value::as_int) {
            None | Some(Some(1)) => false,
            Some(Some(2)) => true,
            Some(is) => {
                let field = "info.meta version";
                return Err(
                    is.map_or_else(|| kind(field, "an integer"), |is| value(field, "1 or 2", is))
                );
            }
        };
        if has_v2 {
            // Two encodings of the same v2 torrent would be two swarms: BEP 52 wants one.
            Tape::new().parse(&bytes, &Limits::FILE, Mode::Strict)?;
        }
        let has_v1 = !has_v2 || ["pieces", "files", "length"].iter().any(|k| info.get(k).is_some());
        let hash_v1 = has_v1.then(|| InfoHash(Sha1::digest(&bytes).into()));
        let hash_v2 = has_v2.then(|| InfoHashV2(Sha256::digest(&bytes).into()));

        let piece_len = piece_len(info, has_v2)?;
        let raw_name = raw_name(info)?;
        let name = sanitise(raw_name).unwrap_or_else(|| {
            hash_v1
                .map_or_else(|| hash_v2.map(|hash| hash.to_string()), |hash| Some(hash.to_string()))
                .expect("a torrent is v1 or v2 or both")
        });

        let tree = if has_v2 { Some(file_tree(info, piece_len)?) } else { None };
        let (files, builder, single_file, pieces) = if has_v1 {
            let (mut files, single) = v1_files(info, raw_name)?;
            if let Some(tree) = tree {
                join_halves(&mut files, tree, piece_len)?;
            }
            let builder = place_v1(&files, piece_len, single)?;
            let pieces = piece_hashes(info, builder.end().div_ceil(u64::from(piece_len)))?;
            (files, builder, single, Some(pieces))
        } else {
            let files = tree.expect("without a v1 half there is a tree");
            let single = matches!(&files[..], [only] if only.path[..] == [raw_name]);
            let builder = place_v2(&files, piece_len)?;
            (files, builder, single, None)
        };
        let piece_hashes = pieces.map_or_else(Bytes::new, |pieces| bytes.slice_ref(pieces));

        let paths = safe_paths(&files, &name, single_file)?;
        let targets = links::resolve(&files, &paths, &name);
        let layout = builder.finish(&paths, targets.into_iter(), single_file).ok_or_else(|| {
            MetainfoError::TooMany { field: "info.files.path", max: u64::from(u32::MAX) }
        })?;
        let private = info.get("private").and_then(Value::as_int) == Some(1);
        let source = info.get("source").and_then(Value::as_bytes);
        let source = source.map(|source| String::from_utf8_lossy(source).into());
        Ok(Self {
            hash_v1,
            hash_v2,
            name: name.into(),
            piece_hashes,
            layout: Arc::new(layout),
            private,
            source,
            bytes,
        })
    }

    /// What a magnet link says of a torrent: at least one of its hashes, perhaps a name, and nothing
    /// of its content. There are no pieces and no files until peers have sent the rest.
    pub(super) fn unknown(
        hash_v1: Option<InfoHash>,
        hash_v2: Option<InfoHashV2>,
        name: Option<&str>,
    ) -> Self {
        let name = name.and_then(|name| sanitise(name.as_bytes()));
        let hash = || {
            let v1 = hash_v1.map(|hash| hash.to_string());
            v1.or_else(|| hash_v2.map(|hash| hash.to_string())).unwrap_or_default()
        };
        Self {
            hash_v1,
            hash_v2,
            name: name.unwrap_or_else(hash).into(),
            piece_hashes: Bytes::new(),
            layout: Arc::new(Layout::empty()),
            private: false,
            source: None,
            bytes: Bytes::new(),
        }
    }

    /// Whether the dictionary is here, and not only its hashes.
    pub const fn is_known(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Whether `bytes` are the dictionary of which this has the hashes.
    pub fn is_hash_of(&self, bytes: &[u8]) -> bool {
        let v1 = self.hash_v1.is_none_or(|hash| hash.0[..] == Sha1::digest(bytes)[..]);
        v1 && self.hash_v2.is_none_or(|hash| hash.0[..] == Sha256::digest(bytes)[..])
    }

    /// The dictionary exactly as it came: what the hashes are over, and what peers are served.
    /// Empty if it is not known.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The v1 hash; v1 and hybrid torrents have one.
    pub const fn info_hash(&self) -> Option<InfoHash> {
        self.hash_v1
    }

    /// The v2 hash; v2 and hybrid torrents have one.
    pub const fn info_hash_v2(&self) -> Option<InfoHashV2> {
        self.hash_v2
    }

    /// The 20 bytes by which swarms know it: the v1 hash if there is one, else the beginning of
    /// the v2 hash.
    pub fn swarm_hash(&self) -> InfoHash {
        self.hash_v1.or_else(|| self.hash_v2.map(truncated)).expect("v1 or v2 or both")
    }

    /// What to call it, safe as the name of a file or folder. The v1 info hash (v2 if there is no
    /// other) in hex, if the torrent has no usable name.
    pub const fn name(&self) -> &str {
        &self.name
    }

    /// The files and the pieces.
    pub const fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// SHA-1 of a piece; none in a pure v2 torrent or beyond the end.
    pub fn piece_hash(&self, piece: PieceIndex) -> Option<&[u8; 20]> {
        let start = piece.0 as usize * 20;
        self.piece_hashes.get(start..)?.first_chunk()
    }

    /// The hash of a piece before its first byte: SHA-1, the tree, or both, as the torrent has it.
    /// What it is to be taken over is the piece without the padding that it ends with
    /// ([`Layout::piece_content_len`]).
    pub fn hash_state(&self, piece: PieceIndex) -> HashState {
        self.layout.hash_state(piece, self.hash_v1.is_some(), self.hash_v2.is_some())
    }

    /// The 20 bytes by which swarms know its v2 half, if it has one: the beginning of the v2 hash.
    pub fn swarm_hash_v2(&self) -> Option<InfoHash> {
        self.hash_v2.map(truncated)
    }

    /// Whether only its trackers may be asked for peers (BEP 27).
    pub const fn is_private(&self) -> bool {
        self.private
    }

    /// The `source` field, by which private trackers tell their torrents from others' of the same
    /// content.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }
}

fn truncated(hash: InfoHashV2) -> InfoHash {
    InfoHash(*hash.0.first_chunk().expect("20 of 32 bytes"))
}

const fn kind(field: &'static str, expected: &'static str) -> MetainfoError {
    MetainfoError::Kind { field, expected }
}

fn value(field: &'static str, must: &'static str, is: impl TryInto<i64>) -> MetainfoError {
    MetainfoError::value(field, must, is)
}

const fn invalid(field: &'static str, problem: &'static str) -> MetainfoError {
    MetainfoError::Invalid { field, problem }
}

fn piece_len(info: Dict<'_>, has_v2: bool) -> Result<u32> {
    let field = "info.piece length";
    let found = info.get("piece length").ok_or(MetainfoError::Missing { field })?;
    let len = found.as_int().ok_or_else(|| kind(field, "an integer"))?;
    if len <= 0 || len > i64::from(PIECE_LEN_MAX) {
        return Err(value(field, "between 1 and 536854528", len));
    }
    if has_v2 && !(len.cast_unsigned().is_power_of_two() && len >= i64::from(BLOCK_LEN)) {
        return Err(value(field, "a power of two of at least 16384", len));
    }
    Ok(u32::try_from(len).expect("checked above"))
}

/// The string under `key`, or better the one under its older UTF-8 variant.
fn text<'a>(dict: Dict<'a>, utf8: &str, key: &str) -> Option<Value<'a>> {
    dict.get(utf8).filter(|value| value.as_bytes().is_some()).or_else(|| dict.get(key))
}

fn raw_name(info: Dict<'_>) -> Result<&[u8]> {
    let field = "info.name";
    let name = text(info, "name.utf-8", "name").ok_or(MetainfoError::Missing { field })?;
    let name = name.as_bytes().ok_or_else(|| kind(field, "a string"))?;
    if !name.is_empty() && name.iter().all(u8::is_ascii_control) {
        return Err(invalid(field, "holds nothing but control characters"));
    }
    Ok(name)
}

fn piece_hashes(info: Dict<'_>, count: u64) -> Result<&[u8]> {
    let field = "info.pieces";
    let pieces = info.get("pieces").ok_or(MetainfoError::Missing { field })?;
    let pieces = pieces.as_bytes().ok_or_else(|| kind(field, "a string"))?;
    if pieces.len() % 20 != 0 {
        return Err(value(field, "a multiple of 20 bytes long", pieces.len()));
    }
    if pieces.len() as u64 / 20 != count {
        return Err(value(field, "one hash for each piece", pieces.len() / 20));
    }
    Ok(pieces)
}

/// Not negative, and no longer than all offsets may be.
fn file_len(found: Option<Value<'_>>, field: &'static str) -> Result<u64> {
    let found = found.ok_or(MetainfoError::Missing { field })?;
    let len = found.as_int().ok_or_else(|| kind(field, "an integer of at most 64 bits"))?;
    match u64::try_from(len) {
        Ok(len) if len <= SPACE_LEN_MAX => Ok(len),
        _ => Err(value(field, "between 0 and 2^48 - 1", len)),
    }
}

fn components<'a>(list: Value<'a>, field: &'static str) -> Result<SmallVec<[&'a [u8]; 3]>> {
    let list = list.as_list().ok_or_else(|| kind(field, "a list of strings"))?;
    let mut path = SmallVec::new();
    for component in list {
        if path.len() >= DEPTH_MAX {
            return Err(MetainfoError::TooMany { field, max: DEPTH_MAX as u64 });
        }
        path.push(component.as_bytes().ok_or_else(|| kind(field, "a list of strings"))?);
    }
    Ok(path)
}

/// Attributes and the target of a link. An `l` without a target says nothing.
fn attributes<'a>(
    file: Dict<'a>,
    field: &'static str,
) -> Result<(Attributes, Option<Vec<&'a [u8]>>)> {
    let letters = file.get("attr").and_then(Value::as_bytes).unwrap_or_default();
    let attributes = Attributes::from_letters(letters);
    let target = file.get("symlink path").filter(|_| letters.contains(&b'l') && !attributes.pad);
    let target = target.map(|target| components(target, field)).transpose()?;
    Ok((attributes, target.map(SmallVec::into_vec)))
}

/// The list of a v1 torrent, and whether it is a single file without a folder.
fn v1_files<'a>(info: Dict<'a>, name: &'a [u8]) -> Result<(Vec<RawFile<'a>>, bool)> {
    let Some(list) = info.get("files") else {
        let len = file_len(info.get("length"), "info.length")?;
        let (attributes, _) = attributes(info, "info.symlink path")?;
        let mut file = RawFile::plain(SmallVec::from_slice(&[name]), len);
        file.attributes = Attributes { pad: false, ..attributes };
        return Ok((Vec::from([file]), true));
    };
    let list = list.as_list().ok_or_else(|| kind("info.files", "a list"))?;
    let mut files = Vec::new();
    for file in list {
        if files.len() >= FILES_MAX {
            return Err(MetainfoError::TooMany { field: "info.files", max: FILES_MAX as u64 });
        }
        files.push(v1_file(
            file.as_dict().ok_or_else(|| kind("info.files", "a list of dictionaries"))?,
        )?);
    }
    if files.is_empty() {
        return Err(invalid("info.files", "there are no files"));
    }
    Ok((files, false))
}

fn v1_file(file: Dict<'_>) -> Result<RawFile<'_>> {
    let len = file_len(file.get("length"), "info.files.length")?;
    let (mut attributes, link) = attributes(file, "info.files.symlink path")?;
    let field = "info.files.path";
    let utf8 = file.get("path.utf-8").filter(|path| path.as_list().is_some());
    let path = match utf8.or_else(|| file.get("path")) {
        Some(path) => components(path, field)?,
        None if attributes.pad => SmallVec::new(),
        None => return Err(MetainfoError::Missing { field }),
    };
    attributes.pad |= path.last().is_some_and(|name| name.starts_with(LEGACY_PAD_PREFIX));
    // A link uses no bytes of the torrent, whatever its length says.
    let len = if link.is_some() { 0 } else { len };
    Ok(RawFile { path, len, attributes, link, root: None })
}

/// The files of a v2 tree, in its order, which is that of their places.
fn file_tree(info: Dict<'_>, piece_len: u32) -> Result<Vec<RawFile<'_>>> {
    let field = "info.file tree";
    let tree = info.get("file tree").ok_or(MetainfoError::Missing { field })?;
    let tree = tree.as_dict().ok_or_else(|| kind(field, "a dictionary"))?;
    let mut files = Vec::new();
    let mut path = SmallVec::<[&[u8]; 3]>::new();
    let mut stack = Vec::from([tree.iter()]);
    while let Some(folder) = stack.last_mut() {
        let Some((name, entry)) = folder.next() else {
            stack.pop();
            path.pop();
            continue;
        };
        if name.is_empty() {
            return Err(invalid(field, "a file or folder has an empty name"));
        }
        let entry = entry.as_dict().ok_or_else(|| kind(field, "made of dictionaries"))?;
        if path.len() >= DEPTH_MAX {
            return Err(MetainfoError::TooMany { field: "nesting", max: DEPTH_MAX as u64 });
        }
        path.push(name);
        let Some(leaf) = entry.get("") else {
            stack.push(entry.iter());
            continue;
        };
        if entry.iter().nth(1).is_some() {
            return Err(invalid(field, "a name is a file and a folder at once"));
        }
        if files.len() >= FILES_MAX {
            return Err(MetainfoError::TooMany { field, max: FILES_MAX as u64 });
        }
        let leaf = leaf.as_dict().ok_or_else(|| kind(field, "made of dictionaries"))?;
        files.push(v2_file(leaf, path.clone(), piece_len)?);
        path.pop();
    }
    if files.is_empty() {
        return Err(invalid(field, "there are no files"));
    }
    Ok(files)
}

fn v2_file<'a>(
    leaf: Dict<'a>,
    path: SmallVec<[&'a [u8]; 3]>,
    piece_len: u32,
) -> Result<RawFile<'a>> {
    let field = "info.file tree.length";
    let len = file_len(leaf.get("length"), field)?;
    if len.div_ceil(u64::from(piece_len)) > u64::from(PIECES_MAX) {
        return Err(value(field, "at most 2097152 pieces", len));
    }
    let (attributes, link) = attributes(leaf, "info.file tree.symlink path")?;
    if attributes.pad {
        return Err(invalid("info.file tree.attr", "a v2 file cannot be padding"));
    }
    let len = if link.is_some() { 0 } else { len };
    let root = if len == 0 { None } else { Some(pieces_root(leaf)?) };
    Ok(RawFile { path, len, attributes, link, root })
}

fn pieces_root(leaf: Dict<'_>) -> Result<Hash> {
    let field = "info.file tree.pieces root";
    let root = leaf.get("pieces root").ok_or(MetainfoError::Missing { field })?;
    let root = root.as_bytes().ok_or_else(|| kind(field, "a string"))?;
    let hash: Hash = root.try_into().map_err(|_| value(field, "32 bytes long", root.len()))?;
    if hash == [0; 32] {
        return Err(invalid(field, "is all zeros"));
    }
    Ok(hash)
}

/// Checks that both halves of a hybrid are the same files at the same places, and takes the roots
/// over from the tree.
fn join_halves(files: &mut [RawFile<'_>], tree: Vec<RawFile<'_>>, piece_len: u32) -> Result<()> {
    let differ = |problem| Err(invalid("info.files", problem));
    let piece_len = u64::from(piece_len);
    let (mut v1_end, mut v2_end) = (0_u64, 0_u64);
    let mut tree = tree.into_iter();
    for file in files {
        let offset = v1_end;
        v1_end = v1_end.saturating_add(file.len);
        if file.attributes.pad {
            continue;
        }
        let Some(twin) = tree.next() else {
            return differ("the v1 list has a file that the v2 tree has not");
        };
        if twin.path != file.path || twin.len != file.len {
            return differ("the v1 list and the v2 tree differ");
        }
        if file.len > 0 {
            let aligned = v2_end.next_multiple_of(piece_len);
            if offset != aligned {
                return differ("a file of the v1 list is not padded to where the v2 half has it");
            }
            v2_end = aligned + file.len;
        }
        file.root = twin.root;
    }
    if tree.next().is_some() {
        return differ("the v2 tree has a file that the v1 list has not");
    }
    if v1_end.div_ceil(piece_len) != v2_end.div_ceil(piece_len) {
        return differ("the v1 list is padded to more pieces than the v2 half has");
    }
    Ok(())
}

fn place_v1(files: &[RawFile<'_>], piece_len: u32, single: bool) -> Result<LayoutBuilder> {
    let field = if single { "info.length" } else { "info.files.length" };
    let builder = place(files, LayoutBuilder::new(piece_len, false, files.len()), field)?;
    if builder.end().div_ceil(u64::from(piece_len)) > u64::from(PIECES_MAX) {
        return Err(MetainfoError::TooMany { field: "info.pieces", max: u64::from(PIECES_MAX) });
    }
    Ok(builder)
}

fn place_v2(files: &[RawFile<'_>], piece_len: u32) -> Result<LayoutBuilder> {
    let field = "info.file tree.length";
    let builder = place(files, LayoutBuilder::new(piece_len, true, files.len()), field)?;
    if builder.end().div_ceil(u64::from(piece_len)) > u64::from(PIECES_MAX) {
        return Err(MetainfoError::TooMany { field: "info.file tree", max: u64::from(PIECES_MAX) });
    }
    Ok(builder)
}

fn place(
    files: &[RawFile<'_>],
    mut builder: LayoutBuilder,
    field: &'static str,
) -> Result<LayoutBuilder> {
    for file in files {
        builder
            .push(file.len, file.attributes, file.root, SPACE_LEN_MAX)
            .ok_or_else(|| value(field, "at most 2^48 - 1 in total", file.len))?;
    }
    if builder.end() == 0 {
        return Err(value(field, "above 0 in total", 0));
    }
    Ok(builder)
}

/// The layout that a new torrent would have: of files in a folder, or of one file of this length;
/// with padding where the format wants it. Links cannot be made this way.
pub(super) fn new_layout(
    name: &str,
    piece_len: u32,
    folder: Option<&[(Vec<String>, u64)]>,
    len: u64,
    format: Format,
) -> Result<Layout> {
    let field = "info.piece length";
    if piece_len == 0 || piece_len > PIECE_LEN_MAX {
        return Err(value(field, "between 1 and 536854528", i64::from(piece_len)));
    }
    if format != Format::V1 && !(piece_len.is_power_of_two() && piece_len >= BLOCK_LEN) {
        return Err(value(field, "a power of two of at least 16384", i64::from(piece_len)));
    }
    let files: Vec<_> = match folder {
        None => Vec::from([RawFile::plain(SmallVec::from_slice(&[name.as_bytes()]), len)]),
        Some([]) => return Err(invalid("info.files", "there are no files")),
        Some(files) => files
            .iter()
            .map(|(path, len)| RawFile::plain(path.iter().map(String::as_bytes).collect(), *len))
            .collect(),
    };
    let deepest = files.iter().map(|file| file.path.len()).max();
    if deepest.is_some_and(|depth| depth > DEPTH_MAX) {
        return Err(MetainfoError::TooMany { field: "info.files.path", max: DEPTH_MAX as u64 });
    }
    let files = if format == Format::Hybrid { padded(files, piece_len) } else { files };
    if files.len() > FILES_MAX {
        return Err(MetainfoError::TooMany { field: "info.files", max: FILES_MAX as u64 });
    }
    let single = match format {
        Format::V1 | Format::Hybrid => folder.is_none(),
        Format::V2 => matches!(&files[..], [only] if only.path[..] == [name.as_bytes()]),
    };
    let builder = match format {
        Format::V1 | Format::Hybrid => place_v1(&files, piece_len, single)?,
        Format::V2 => place_v2(&files, piece_len)?,
    };
    let safe_name = sanitise(name.as_bytes()).unwrap_or_default();
    let paths = safe_paths(&files, &safe_name, single)?;
    Ok(builder.finish(&paths, core::iter::empty(), single).expect("names are in memory"))
}

/// The same files with padding behind each but the last, so that every one begins a piece.
fn padded(files: Vec<RawFile<'_>>, piece_len: u32) -> Vec<RawFile<'_>> {
    let last = files.len() - 1;
    let mut padded = Vec::with_capacity(2 * files.len());
    for (at, file) in files.into_iter().enumerate() {
        // Files before this one end where a piece does.
        let over = file.len % u64::from(piece_len);
        padded.push(file);
        if over > 0 && at < last {
            let mut pad = RawFile::plain(SmallVec::new(), u64::from(piece_len) - over);
            pad.attributes.pad = true;
            padded.push(pad);
        }
    }
    padded
}

/// A path for each file that is safe and, padding aside, nobody else's.
fn safe_paths(files: &[RawFile<'_>], name: &str, single: bool) -> Result<Vec<String>> {
    if single {
        return Ok(Vec::from([name.to_string()]));
    }
    let mut paths: Vec<_> = files
        .iter()
        .map(|file| {
            if file.attributes.pad {
                format!("{name}/.pad/{}", file.len)
            } else {
                join(name, &file.path)
            }
        })
        .collect();
    let mut taken = Taken::default();
    let is_stored = |file: &&RawFile<'_>| !file.attributes.pad;
    for (_, path) in files.iter().zip(&paths).filter(|(file, _)| is_stored(file)) {
        taken.take_folders(path);
    }
    for (_, path) in files.iter().zip(&mut paths).filter(|(file, _)| is_stored(file)) {
        *path = taken
            .take_file(core::mem::take(path))
            .ok_or_else(|| invalid("info.files.path", "too many files have the same path"))?;
    }
    Ok(paths)
}

/// `name/a/b` of the components that say something, or `name/_` if none does.
pub(super) fn join(name: &str, components: &[&[u8]]) -> String {
    let mut path = String::from(name);
    for component in components.iter().filter_map(|raw| sanitise(raw)) {
        path.push('/');
        path.push_str(&component);
    }
    if path.len() == name.len() {
        path.push_str("/_");
    }
    path
}
