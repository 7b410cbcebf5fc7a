//! Resume data: what was here when it was saved, and how to tell whether it still is.
//!
//! A bencoded dictionary (`v`, `info-hash`, `have`, `files`, `partial`, `layers`, totals) followed by the
//! SHA-1 of it. Length and time of change of each file are noted after everything claimed was made
//! durable, so that a claim about a file that changed since is noticed and checked. Anything
//! damaged, of another version, or of another torrent is refused whole.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::bencode::{Dict, Encoder, Limits, Mode, Tape, Value};
use crate::bitfield::Bitfield;
use crate::hash;
use crate::ids::{InfoHash, PieceIndex};
use crate::machine::FileStat;
use crate::metainfo::merkle::Hash;
use crate::time::Duration;
use crate::torrent::picker::BlockId;

/// The version of the format.
pub const VERSION: u64 = 1;

const DIGEST_LEN: usize = 20;

/// What resume data says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Which torrent it is about.
    pub info_hash: InfoHash,
    /// The pieces that are verified and durable.
    pub have: Bitfield,
    /// Length and time of change of each file then; none for a file that did not exist.
    pub files: Box<[Option<(u64, i64)>]>,
    /// Blocks of unfinished pieces that are durable; not verified.
    pub partial: Vec<BlockId>,
    /// Bytes of blocks received, over all runs.
    pub downloaded: u64,
    /// Bytes of blocks sent, over all runs.
    pub uploaded: u64,
    /// Whether its trackers were told that it is complete.
    pub completed: bool,
    /// How long it has served others since it had all that was wanted, over all runs; in whole
    /// seconds.
    pub seeded: Duration,
    /// Piece layers (BEP 52) that the torrent file lacks and peers gave: the root of the file, and
    /// the hashes of its pieces in a row. Whoever reads them proves them again.
    pub layers: Vec<(Hash, Bytes)>,
}

/// Why resume data is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// Its checksum is wrong: cut off, or damaged.
    #[error("resume data is damaged")]
    Damaged,
    /// It is of a version that is not known here.
    #[error("resume data is of another version")]
    Version,
    /// It is about another torrent.
    #[error("resume data is about another torrent")]
    WrongTorrent,
    /// This field is missing or of the wrong kind.
    #[error("resume data: field `{0}` is missing or wrong")]
    Field(&'static str),
}

impl Resume {
    /// The data as it is saved.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out);
        encoder.begin_dict();
        encoder.key("completed").uint(self.completed.into());
        encoder.key("downloaded").uint(self.downloaded);
        encoder.key("files").begin_list();
        for file in &self.files {
            encoder.begin_list();
            if let Some((len, modified)) = file {
                encoder.uint(*len).int(*modified);
            }
            encoder.end();
        }
        encoder.end();
        encoder.key("have").bytes(self.have.to_wire());
        encoder.key("info-hash").bytes(self.info_hash);
        if !self.layers.is_empty() {
            encoder.key("layers").begin_dict();
            for (root, layer) in &self.layers {
                encoder.key(root).bytes(layer);
            }
            encoder.end();
        }
        encoder.key("partial").begin_list();
        for block in &self.partial {
            encoder.begin_list().uint(block.piece.0.into()).uint(block.block.into()).end();
        }
        encoder.end();
        encoder.key("pieces").uint(self.have.len().into());
        encoder.key("seeded").uint(self.seeded.as_secs());
        encoder.key("uploaded").uint(self.uploaded);
        encoder.key("v").uint(VERSION);
        encoder.end();
        encoder.finish();
        let digest = hash::sha1(&out);
        out.extend_from_slice(&digest);
        out
    }

    /// Reads what was saved for the torrent `info_hash` with that many pieces and files.
    pub fn from_bytes(
        bytes: &[u8],
        info_hash: InfoHash,
        pieces: u32,
        files: usize,
    ) -> Result<Self, ResumeError> {
        let end = bytes.len().checked_sub(DIGEST_LEN).ok_or(ResumeError::Damaged)?;
        let (body, digest) = bytes.split_at(end);
        if hash::sha1(body) != *digest {
            return Err(ResumeError::Damaged);
        }
        let mut tape = Tape::new();
        let document =
            tape.parse(body, &Limits::FILE, Mode::Strict).map_err(|_| ResumeError::Damaged)?;
        let root = document.root();
        let uint = |key| root.get(key).and_then(Value::as_uint).ok_or(ResumeError::Field(key));
        if uint("v")? != VERSION {
            return Err(ResumeError::Version);
        }
        if root.get("info-hash").and_then(Value::as_bytes) != Some(&info_hash.0) {
            return Err(ResumeError::WrongTorrent);
        }
        if uint("pieces")? != u64::from(pieces) {
            return Err(ResumeError::Field("pieces"));
        }
        let have = root.get("have").and_then(Value::as_bytes);
        let have = have.and_then(|bytes| Bitfield::from_wire(bytes, pieces).ok());
        let list = |key| root.get(key).and_then(Value::as_list).ok_or(ResumeError::Field(key));
        let read_files: Option<Box<[_]>> = list("files")?.iter().map(read_file).collect();
        let read_files = read_files.filter(|read| read.len() == files);
        let partial: Option<Vec<_>> = list("partial")?.iter().map(read_block).collect();
        let layers = match root.get("layers").map(Value::as_dict) {
            None => Vec::new(),
            Some(layers) => read_layers(layers).ok_or(ResumeError::Field("layers"))?,
        };
        Ok(Self {
            info_hash,
            layers,
            have: have.ok_or(ResumeError::Field("have"))?,
            files: read_files.ok_or(ResumeError::Field("files"))?,
            partial: partial.ok_or(ResumeError::Field("partial"))?,
            downloaded: uint("downloaded")?,
            uploaded: uint("uploaded")?,
            completed: uint("completed")? != 0,
            // Earlier versions did not count it.
            seeded: Duration::from_secs(uint("seeded").unwrap_or(0)),
        })
    }

    /// Whether a file is as it was when this was saved.
    pub fn is_unchanged(&self, file: usize, now: Option<&FileStat>) -> bool {
        match (self.files.get(file).copied().flatten(), now) {
            (Some((len, modified)), Some(now)) => len == now.len && modified == now.modified,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

/// The name that a torrent's resume data is saved under.
pub fn resume_name(info_hash: InfoHash) -> Box<str> {
    alloc::format!("{info_hash}.resume").into()
}

/// A list of length and time, or an empty one.
#[expect(clippy::option_option, reason = "malformed, absent, or there")]
fn read_file(value: Value<'_>) -> Option<Option<(u64, i64)>> {
    let mut fields = value.as_list()?.iter();
    let Some(len) = fields.next() else { return Some(None) };
    Some(Some((len.as_uint()?, fields.next()?.as_int()?)))
}

fn read_layers(layers: Option<Dict<'_>>) -> Option<Vec<(Hash, Bytes)>> {
    let read = |(root, layer): (&[u8], Value<'_>)| {
        Some((root.try_into().ok()?, Bytes::copy_from_slice(layer.as_bytes()?)))
    };
    layers?.iter().map(read).collect()
}

fn read_block(value: Value<'_>) -> Option<BlockId> {
    let mut fields = value.as_list()?.iter();
    let mut field = || u32::try_from(fields.next()?.as_uint()?).ok();
    Some(BlockId { piece: PieceIndex(field()?), block: field()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn sample() -> Resume {
        let mut have = Bitfield::new(10);
        have.set(3);
        Resume {
            info_hash: InfoHash([7; 20]),
            have,
            files: vec![Some((100, -5)), None].into(),
            partial: vec![BlockId { piece: PieceIndex(4), block: 2 }],
            downloaded: 1,
            uploaded: 2,
            completed: false,
            seeded: Duration::from_secs(90),
            layers: vec![([1; 32], Bytes::from_static(&[2; 64]))],
        }
    }

    #[test]
    fn what_was_saved_is_read_back() {
        let saved = sample().to_bytes();
        assert_eq!(Resume::from_bytes(&saved, InfoHash([7; 20]), 10, 2), Ok(sample()));
    }

    #[test]
    fn data_of_another_torrent_or_shape_is_refused() {
        let saved = sample().to_bytes();
        let read =
            |hash, pieces, files| Resume::from_bytes(&saved, InfoHash([hash; 20]), pieces, files);
        assert_eq!(read(8, 10, 2), Err(ResumeError::WrongTorrent));
        assert_eq!(read(7, 11, 2), Err(ResumeError::Field("pieces")));
        assert_eq!(read(7, 10, 3), Err(ResumeError::Field("files")));
    }

    #[test]
    fn a_file_that_grew_or_was_touched_or_vanished_has_changed() {
        let resume = sample();
        let stat = |len, modified| FileStat { len, modified, allocated: 0 };
        assert!(resume.is_unchanged(0, Some(&stat(100, -5))));
        assert!(!resume.is_unchanged(0, Some(&stat(101, -5))));
        assert!(!resume.is_unchanged(0, Some(&stat(100, -4))));
        assert!(!resume.is_unchanged(0, None));
        assert!(resume.is_unchanged(1, None));
    }

    #[test]
    fn a_flipped_bit_or_a_cut_is_noticed_wherever_it_is() {
        let mut saved = sample().to_bytes();
        let read = |bytes: &[u8]| Resume::from_bytes(bytes, InfoHash([7; 20]), 10, 2);
        for at in 0..saved.len() {
            assert_eq!(read(&saved[..at]), Err(ResumeError::Damaged), "cut at {at}");
            for bit in 0..8 {
                saved[at] ^= 1 << bit;
                assert_eq!(read(&saved), Err(ResumeError::Damaged), "bit {bit} at {at}");
                saved[at] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn lengths_and_counts_that_are_claimed_and_not_there_are_refused() {
        for claim in ["d4:have1000000000:e", "d5:files1000000000:e", "d4:havei1000000000eee", "d"] {
            let mut bytes = claim.as_bytes().to_vec();
            bytes.extend(hash::sha1(claim.as_bytes()));
            let read = Resume::from_bytes(&bytes, InfoHash([7; 20]), u32::MAX, 1 << 20);
            assert!(read.is_err(), "{claim}");
        }
    }
}
