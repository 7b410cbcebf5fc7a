//! What is known of the merkle trees of a v2 or hybrid torrent (BEP 52): the hashes of its pieces.
//!
//! Those that came with the torrent file stay there. Here is what came from peers, each run of a
//! layer proven against the root of its file before it is taken in; what is still missing; and
//! the hashes of pieces on disk that wait for something to be compared with. No hash that is not
//! proven is ever told.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::hashes::Exchange;
use crate::bitfield::Bitfield;
use crate::ids::PieceIndex;
use crate::metainfo::merkle::{self, Hash};
use crate::metainfo::{Layout, Metainfo};
use crate::wire::{HASHES_MAX, HashRequest};

/// Files of one piece and all those whose layer is in the torrent file cost nothing here.
#[derive(Debug)]
pub(super) struct Trees {
    /// By root.
    layers: BTreeMap<Hash, Layer>,
    /// The roots of those that are not whole.
    open: BTreeSet<Hash>,
    /// The pieces whose hash is known, while there are others; empty when all are.
    verifiable: Bitfield,
    /// The roots of whole runs of long layers, which proofs are made of. Made at need.
    upper: BTreeMap<Hash, Box<[Hash]>>,
    /// Pieces as they are on disk, which there is no hash yet to compare with.
    unjudged: BTreeMap<u32, Hash>,
    /// Files by their root, once somebody asked for one.
    files: BTreeMap<Hash, u32>,
    pub(super) exchange: Exchange,
}

/// The hashes of the pieces of a file, or of several that are the same, which the torrent file has
/// not.
#[derive(Debug)]
struct Layer {
    /// Where the pieces of each of the files begin.
    firsts: SmallVec<[u32; 1]>,
    pieces: u32,
    len: u64,
    /// One for each piece; zeros are not known. Nothing at all before the first.
    hashes: Vec<Hash>,
    /// Runs that nobody has given yet.
    missing: Vec<u32>,
}

impl Layer {
    fn run(&self, run: u32) -> Range<u32> {
        let start = run * HASHES_MAX;
        start..(start + HASHES_MAX).min(self.pieces)
    }
}

/// As much of a piece layer as is asked for at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The root of the file.
    pub(super) root: Hash,
    /// The run, counted from the beginning of the layer.
    pub(super) run: u32,
}

/// What a hash says of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// Nobody has told yet what it should be.
    Unknown,
    /// It is what one half of a hybrid torrent says and not what the other says.
    Contradiction,
}

impl Trees {
    /// None of a torrent that has no v2 half. `saved` are layers of an earlier run, which are taken
    /// if they are right.
    pub(super) fn new(metainfo: &Metainfo, saved: &[(Hash, Bytes)]) -> Option<Box<Self>> {
        let info = metainfo.info();
        info.info_hash_v2()?;
        let layout = info.layout();
        let mut trees = Self {
            layers: BTreeMap::new(),
            open: BTreeSet::new(),
            verifiable: Bitfield::new(0),
            upper: BTreeMap::new(),
            unjudged: BTreeMap::new(),
            files: BTreeMap::new(),
            exchange: Exchange::default(),
        };
        for file in metainfo.files_without_layer() {
            let root = *file.pieces_root().expect("a file that has a layer has a root");
            let range = file.pieces();
            let layer = trees.layers.entry(root).or_insert_with(|| Layer {
                firsts: SmallVec::new(),
                pieces: range.len() as u32,
                len: file.len(),
                hashes: Vec::new(),
                missing: (0..(range.len() as u32).div_ceil(HASHES_MAX)).collect(),
            });
            layer.firsts.push(range.start);
            trees.open.insert(root);
            if trees.verifiable.is_empty() {
                trees.verifiable = Bitfield::full(layout.piece_count());
            }
            for piece in range {
                trees.verifiable.clear(piece);
            }
        }
        let level = merkle::piece_level(layout.piece_len());
        for (root, layer) in saved {
            let (hashes, _) = layer.as_chunks::<32>();
            let fits = trees.layers.get(root).is_some_and(|l| l.pieces as usize == hashes.len());
            if fits && merkle::root(hashes, level) == *root {
                trees.take_layer(*root, hashes);
            }
        }
        Some(trees.into())
    }

    /// Whether some hashes of pieces are not known.
    pub(super) fn lacks_layers(&self) -> bool {
        !self.open.is_empty()
    }

    /// The runs that are missing.
    pub(super) fn missing(&self) -> impl Iterator<Item = Run> + '_ {
        self.open.iter().flat_map(|root| {
            self.layers[root].missing.iter().map(|run| Run { root: *root, run: *run })
        })
    }

    /// The pieces whose hash is known, if there are others.
    pub(super) fn verifiable(&self) -> Option<&Bitfield> {
        Some(&self.verifiable).filter(|_| self.lacks_layers())
    }

    /// What the root over a piece should be.
    pub(super) fn expected<'a>(
        &'a self,
        piece: PieceIndex,
        metainfo: &'a Metainfo,
    ) -> Option<&'a Hash> {
        if let Some(root) = metainfo.piece_root(piece) {
            return Some(root);
        }
        let layout = metainfo.info().layout();
        let place = layout.tree_place(piece)?;
        let layer = self.layers.get(layout.file(place.file)?.pieces_root()?)?;
        layer.hashes.get(place.index as usize).filter(|hash| **hash != [0; 32])
    }

    /// The whole piece layer of the file with this root.
    fn layer<'a>(&'a self, root: &Hash, metainfo: &'a Metainfo) -> Option<&'a [Hash]> {
        if let Some(layer) = metainfo.piece_layer(root) {
            return Some(layer.as_chunks::<32>().0);
        }
        Some(&self.layers.get(root).filter(|layer| layer.missing.is_empty())?.hashes)
    }

    /// The layers that came from peers and are whole: for resume data.
    pub(super) fn fetched(&self) -> impl Iterator<Item = (Hash, Bytes)> + '_ {
        let whole = self.layers.iter().filter(|(_, layer)| layer.missing.is_empty());
        whole.map(|(root, layer)| (*root, Bytes::copy_from_slice(layer.hashes.as_flattened())))
    }

    /// The request for a run of a layer, up to the root of its file; `level` is that of pieces.
    pub(super) fn request(&self, Run { root, run }: Run, level: u32) -> Option<HashRequest> {
        let layer = self.layers.get(&root)?;
        let run = layer.run(run);
        Some(HashRequest {
            root,
            base: level,
            index: run.start,
            length: (run.len() as u32).next_power_of_two().max(2),
            proof_layers: merkle::height(layer.len) - 1 - level,
        })
    }

    /// The pieces that a run is about, in every file that is the same.
    pub(super) fn pieces(&self, Run { root, run }: Run) -> impl Iterator<Item = Range<u32>> + '_ {
        self.layers.get(&root).into_iter().flat_map(move |layer| {
            let within = layer.run(run);
            let of = move |first: &u32| first + within.start..first + within.end;
            layer.firsts.iter().map(of)
        })
    }

    /// Takes in a run that is proven.
    pub(super) fn take_run(&mut self, Run { root, run }: Run, hashes: &[Hash]) {
        let Some(layer) = self.layers.get_mut(&root) else { return };
        let within = layer.run(run);
        layer.hashes.resize(layer.pieces as usize, [0; 32]);
        for (at, hash) in within.clone().zip(hashes) {
            layer.hashes[at as usize] = *hash;
        }
        layer.missing.retain(|other| *other != run);
        if layer.missing.is_empty() {
            self.open.remove(&root);
        }
        for piece in layer.firsts.iter().flat_map(|first| first + within.start..first + within.end)
        {
            self.verifiable.set(piece);
        }
        if self.open.is_empty() {
            self.verifiable = Bitfield::new(0);
        }
    }

    /// Takes in a whole layer that is proven.
    fn take_layer(&mut self, root: Hash, hashes: &[Hash]) {
        for (run, hashes) in hashes.chunks(HASHES_MAX as usize).enumerate() {
            self.take_run(Run { root, run: run as u32 }, hashes);
        }
    }

    // Pieces on disk before their hash is known.

    /// A piece on disk has this root; what it should have is not known.
    pub(super) fn remember(&mut self, piece: PieceIndex, root: Hash) {
        self.unjudged.insert(piece.0, root);
    }

    /// What a piece on disk was remembered by.
    pub(super) fn recall(&mut self, piece: u32) -> Option<Hash> {
        self.unjudged.remove(&piece)
    }

    /// Every piece on disk was looked at: files that are whole prove their own layer. `level` is
    /// that of pieces. Returns the pieces that are right by that.
    pub(super) fn judge_whole_files(&mut self, level: u32) -> Vec<PieceIndex> {
        let mut right = Vec::new();
        for root in self.open.clone() {
            let Some(layer) = self.layers.get(&root) else { continue };
            let pieces = layer.pieces;
            let whole = |first: &u32| {
                let found = self.unjudged.range(*first..first + pieces).map(|(_, root)| *root);
                let hashes: Vec<Hash> = found.collect();
                (hashes.len() == pieces as usize && merkle::root(&hashes, level) == root)
                    .then_some(hashes)
            };
            let Some(hashes) = layer.firsts.iter().find_map(whole) else { continue };
            let firsts = layer.firsts.clone();
            self.take_layer(root, &hashes);
            for first in firsts {
                for (piece, hash) in (first..).zip(&hashes) {
                    if self.unjudged.remove(&piece) == Some(*hash) {
                        right.push(PieceIndex(piece));
                    }
                }
            }
        }
        right
    }

    // Proofs.

    /// The file with this root, or one of several that are the same.
    pub(super) fn file_of(&mut self, root: &Hash, layout: &Layout) -> Option<usize> {
        if self.files.is_empty() {
            let files = layout.files().filter(|file| file.len() > 0);
            self.files = files
                .filter_map(|file| Some((*file.pieces_root()?, file.index() as u32)))
                .collect();
        }
        self.files.get(root).map(|file| *file as usize)
    }

    /// The hashes that answer a sound request for a run of the piece layer; none if they are not
    /// all known.
    pub(super) fn answer(&mut self, request: &HashRequest, metainfo: &Metainfo) -> Option<Bytes> {
        let HashRequest { root, base, index, length, .. } = *request;
        let mut out = BytesMut::new();
        let layer = self.layer(&root, metainfo)?;
        let padding = merkle::pad(base);
        for at in index..index + length {
            out.put_slice(layer.get(at as usize).unwrap_or(&padding));
        }
        let run_level = length.trailing_zeros();
        self.put_uncles(request, base, run_level, u64::from(index / length), &mut out, metainfo)?;
        Some(out.freeze())
    }

    /// Appends the uncles of a request from the node on that stands `above` the piece layer, whose
    /// level is `level`, and is the `at`-th there; as many as bring it to the request's number.
    pub(super) fn put_uncles(
        &mut self,
        request: &HashRequest,
        level: u32,
        above: u32,
        at: u64,
        out: &mut BytesMut,
        metainfo: &Metainfo,
    ) -> Option<()> {
        let top = request.base + request.proof_layers;
        let lowest = level + above;
        if lowest > top {
            return Some(());
        }
        self.raise(&request.root, level, metainfo);
        let layer = self.layer(&request.root, metainfo)?;
        let upper = self.upper.get(&request.root);
        let run_height = HASHES_MAX.trailing_zeros();
        for up in above..=top - level {
            let uncle = (at >> (up - above)) ^ 1;
            let node = match upper {
                Some(upper) if up >= run_height => {
                    merkle::node(upper, level + run_height, up - run_height, uncle)
                }
                _ => merkle::node(layer, level, up, uncle),
            };
            out.put_slice(&node);
        }
        Some(())
    }

    /// Makes the roots of the runs of a long layer, if they are not there.
    fn raise(&mut self, root: &Hash, level: u32, metainfo: &Metainfo) {
        if self.upper.contains_key(root) {
            return;
        }
        let Some(layer) = self.layer(root, metainfo) else { return };
        if layer.len() > HASHES_MAX as usize {
            let run_height = HASHES_MAX.trailing_zeros();
            let runs = (layer.len() as u32).div_ceil(HASHES_MAX);
            let upper = (0..runs).map(|at| merkle::node(layer, level, run_height, u64::from(at)));
            let upper = upper.collect();
            self.upper.insert(*root, upper);
        }
    }
}

/// Whether these hashes are what a request up to the root of the file asked for: as many, and
/// leading there.
pub(super) fn is_proven(request: &HashRequest, hashes: &[Hash]) -> bool {
    let (length, uncles) = (request.length as usize, request.uncles() as usize);
    if hashes.len() != length + uncles {
        return false;
    }
    let (run, uncles) = hashes.split_at(length);
    let node = merkle::root(run, request.base);
    merkle::climb(node, u64::from(request.index / request.length), uncles) == request.root
}
