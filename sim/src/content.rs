//! What torrents contain: one copy for a whole run.
//!
//! Blocks that go from host to host and from disk to disk are slices of that copy, so a swarm of
//! thousands holds its content once, and [`Library::locate`] tells by address whether bytes are
//! the true ones, and which. Hashing true bytes is remembered: [`Library::hash`] gives the real
//! state of the real hash, and does the work once per run and block.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use teem_core::hash::HashState;
use teem_core::torrent::picker::BLOCK_LEN;

/// One of a [`Library`]'s contents, in the order of [`Library::add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId(pub u32);

/// Where true bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// In which content.
    pub content: ContentId,
    /// From which byte on.
    pub offset: u64,
}

/// All contents of a run.
#[derive(Debug, Default)]
pub struct Library {
    contents: Vec<Content>,
}

#[derive(Debug)]
struct Content {
    key: Box<str>,
    bytes: Bytes,
    /// For each block: the hash before it and after it.
    hashed: Vec<Option<Box<(HashState, HashState)>>>,
    /// Blocks by their first bytes, once somebody has asked.
    beginnings: OnceLock<Beginnings>,
}

/// See [`Content::beginnings`].
type Beginnings = BTreeMap<[u8; 8], u32>;

impl Content {
    /// Blocks by their first bytes. Of several that begin alike, the last.
    fn beginnings(&self) -> &Beginnings {
        self.beginnings.get_or_init(|| {
            let blocks = self.bytes.chunks(BLOCK_LEN as usize).zip(0..);
            blocks.filter_map(|(block, at)| Some((*block.first_chunk()?, at))).collect()
        })
    }
}

impl Library {
    /// With nothing in it.
    pub const fn new() -> Self {
        Self { contents: Vec::new() }
    }

    /// Takes a content in, under the key that torrents are locked by: the info hash in lower-case
    /// hex. A second one of the same key replaces nothing and gets the first one's id.
    pub fn add(&mut self, key: &str, bytes: Bytes) -> ContentId {
        if let Some(there) = self.find(key) {
            return there;
        }
        let blocks = bytes.len().div_ceil(BLOCK_LEN as usize);
        self.contents.push(Content {
            key: key.into(),
            bytes,
            hashed: vec![None; blocks],
            beginnings: OnceLock::new(),
        });
        ContentId(self.contents.len() as u32 - 1)
    }

    /// The content of that key.
    pub fn find(&self, key: &str) -> Option<ContentId> {
        let at = self.contents.iter().position(|content| &*content.key == key)?;
        Some(ContentId(at as u32))
    }

    /// All of a content's bytes.
    pub fn bytes(&self, id: ContentId) -> &Bytes {
        &self.contents[id.0 as usize].bytes
    }

    /// Where `bytes` lie, if they are a slice of one of the contents: by address, not by value.
    pub fn locate(&self, bytes: &[u8]) -> Option<Span> {
        let from = bytes.as_ptr().addr();
        self.contents.iter().enumerate().find_map(|(at, content)| {
            let start = content.bytes.as_ptr().addr();
            let offset = from.checked_sub(start)?;
            let fits = !bytes.is_empty() && offset + bytes.len() <= content.bytes.len();
            let content = ContentId(at as u32);
            fits.then_some(Span { content, offset: offset as u64 })
        })
    }

    /// Where `bytes` lie, if they are true: by address, and where that does not tell (a disk on which
    /// not everything is true gives a copy), by value from the beginning of a block on.
    pub fn recognise(&self, bytes: &[u8]) -> Option<Span> {
        self.locate(bytes).or_else(|| {
            let first = bytes.first_chunk()?;
            let known = |(at, content): (usize, &Content)| {
                let block = *content.beginnings().get(first)?;
                let span = Span {
                    content: ContentId(at as u32),
                    offset: u64::from(block) * u64::from(BLOCK_LEN),
                };
                self.is_true(bytes, span).then_some(span)
            };
            self.contents.iter().enumerate().find_map(known)
        })
    }

    /// Whether `bytes` are the true ones of that place: by address, and where that does not tell (a
    /// receiver copies small fragments), by value.
    pub fn is_true(&self, bytes: &[u8], at: Span) -> bool {
        self.locate(bytes) == Some(at)
            || usize::try_from(at.offset).is_ok_and(|start| {
                let true_bytes = self.bytes(at.content).get(start..);
                true_bytes.is_some_and(|true_bytes| true_bytes.starts_with(bytes))
            })
    }

    /// Takes `state` over `bytes`. True blocks are hashed once; everything else each time.
    pub fn hash(&mut self, state: &mut HashState, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(Span { content: ContentId(id), offset }) = self.locate(bytes) else {
                return state.update(bytes);
            };
            let Content { bytes: all, hashed, .. } = &mut self.contents[id as usize];
            let block = (offset / u64::from(BLOCK_LEN)) as usize;
            let start = block * BLOCK_LEN as usize;
            let len = (all.len() - start).min(BLOCK_LEN as usize);
            let within = offset as usize - start;
            let (here, rest) = bytes.split_at(bytes.len().min(len - within));
            bytes = rest;
            if within > 0 || here.len() < len {
                state.update(here);
                continue;
            }
            match &hashed[block] {
                Some(known) if known.0 == *state => *state = known.1.clone(),
                _ => {
                    let before = state.clone();
                    state.update(here);
                    hashed[block] = Some(Box::new((before, state.clone())));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teem_core::hash::{HashAlgorithm, sha1};

    fn library() -> (Library, ContentId) {
        let bytes: Vec<u8> =
            (0..100_000_u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        let mut library = Library::new();
        library.add("other", Bytes::from_static(b"other"));
        let id = library.add("content", bytes.into());
        (library, id)
    }

    #[test]
    fn slices_of_a_content_are_found_and_copies_are_not() {
        let (library, id) = library();
        let slice = library.bytes(id).slice(20_000..30_000);
        assert_eq!(library.locate(&slice), Some(Span { content: id, offset: 20_000 }));
        let copy = slice.to_vec();
        assert_eq!(library.locate(&copy), None);
        assert_eq!(library.locate(&[]), None);
        assert_eq!(library.find("content"), Some(id));
        let place = Span { content: id, offset: 20_000 };
        assert!(library.is_true(&slice, place) && library.is_true(&copy, place));
        assert!(!library.is_true(&slice, Span { offset: 20_001, ..place }));
        assert!(!library.is_true(&slice, Span { offset: 99_000, ..place }));
    }

    #[test]
    fn copies_of_whole_blocks_are_recognised() {
        let (library, id) = library();
        let all = library.bytes(id).clone();
        let block = BLOCK_LEN as usize;
        let mut copy = all[2 * block..3 * block].to_vec();
        let place = Span { content: id, offset: 2 * u64::from(BLOCK_LEN) };
        assert_eq!(library.recognise(&copy), Some(place));
        // Not one that is wrong, nor what begins elsewhere: that is found by address alone.
        copy[9_000] ^= 1;
        assert_eq!(library.recognise(&copy), None);
        let elsewhere = all[5..50_000].to_vec();
        assert_eq!(library.recognise(&elsewhere), None);
        assert!(library.recognise(&all[5..50_000]).is_some());
        assert_eq!(library.recognise(b"short"), None);
    }

    #[test]
    fn a_remembered_hash_is_the_real_one() {
        let (mut library, id) = library();
        let all = library.bytes(id).clone();
        let expected = sha1(&all);
        // Whole, again, in uneven steps, and as a copy.
        let uneven = [all.slice(..5), all.slice(5..40_000), all.slice(40_000..)];
        let copy = [Bytes::from(all.to_vec())];
        for parts in [&[all.clone()][..], &[all][..], &uneven, &copy] {
            let mut state = HashState::new(HashAlgorithm::Sha1);
            for part in parts {
                library.hash(&mut state, part);
            }
            assert_eq!(state.finish().as_bytes(), expected);
        }
    }

    #[test]
    fn the_same_block_after_another_beginning_is_hashed_anew() {
        let (mut library, id) = library();
        let block = library.bytes(id).slice(..BLOCK_LEN as usize);
        for before in [&b""[..], b"x"] {
            let mut state = HashState::new(HashAlgorithm::Sha1);
            state.update(before);
            library.hash(&mut state, &block);
            assert_eq!(state.finish().as_bytes(), sha1(&[before, &block].concat()));
        }
    }
}
