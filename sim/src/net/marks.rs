//! Which blocks of true content reached a host: a bit each.

use std::ops::Range;

use teem_core::torrent::picker::BLOCK_LEN;

use crate::content::{ContentId, Library, Span};

/// Shorter ones are messages, or parts of blocks of which others tell, and are not looked for by
/// value.
const COPIED_MAX: usize = 4 * 1024;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// By content, and by 64 blocks.
    contents: Vec<Vec<u64>>,
}

impl Marks {
    /// Notes the blocks that these bytes touch, if they are true ones.
    pub(super) fn mark(&mut self, bytes: &[u8], library: &Library) {
        let span =
            if bytes.len() < COPIED_MAX { library.locate(bytes) } else { library.recognise(bytes) };
        let Some(Span { content, offset }) = span else { return };
        let at = content.0 as usize;
        if self.contents.len() <= at {
            self.contents.resize(at + 1, Vec::new());
        }
        let words = &mut self.contents[at];
        for block in blocks(&(offset..offset + bytes.len() as u64)) {
            let word = block / 64;
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            words[word] |= 1 << (block % 64);
        }
    }

    /// Reads what is needed to note something.
    pub(super) fn fetch(&self) -> u64 {
        self.contents.first().and_then(|words| words.first()).copied().unwrap_or_default()
    }

    /// Whether all blocks that this range touches were noted.
    pub(super) fn holds(&self, content: ContentId, bytes: Range<u64>) -> bool {
        let words = self.contents.get(content.0 as usize).map_or(&[][..], Vec::as_slice);
        blocks(&bytes)
            .all(|block| words.get(block / 64).is_some_and(|word| word >> (block % 64) & 1 == 1))
    }
}

fn blocks(bytes: &Range<u64>) -> Range<usize> {
    let len = u64::from(BLOCK_LEN);
    (bytes.start / len) as usize..bytes.end.div_ceil(len) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn blocks_are_noted_once_any_byte_of_them_came() {
        let mut library = Library::new();
        library.add("other", Bytes::from(vec![1; 10]));
        let content = library.add("content", Bytes::from(vec![0; 200_000]));
        let bytes = library.bytes(content).clone();
        let mut marks = Marks::default();
        marks.mark(&bytes.slice(16_384..32_769), &library);
        assert!(marks.holds(content, 16_384..49_152));
        assert!(!marks.holds(content, 0..20_000) && !marks.holds(content, 49_151..49_153));
        marks.mark(&[0; 100], &library);
        assert!(!marks.holds(ContentId(0), 0..10));
    }
}
