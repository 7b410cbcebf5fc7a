//! A whole `.torrent` file: the `info` dictionary and what stands around it.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use super::layout::File;
use super::merkle::{self, Hash};
use super::sources::{self, HostPort};
use super::{Info, Magnet, MetainfoError, TEXT_LEN_MAX};
use crate::bencode::{Dict, Encoder, Limits, Mode, Tape, Value};
use crate::ids::PieceIndex;
use crate::time::UnixTime;

/// A judged torrent file. What is not covered by the hash may be changed freely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metainfo {
    info: Info,
    /// By root: the hashes of a file's pieces in a row, which add up to the root.
    layers: BTreeMap<Hash, Bytes>,
    /// Trackers in tiers (BEP 12); no tier is empty.
    pub trackers: Vec<Vec<String>>,
    /// Addresses of web seeds (BEP 19), escaped; those of a torrent in a folder end with `/`.
    pub web_seeds: Vec<String>,
    /// DHT nodes to begin with (BEP 5).
    pub nodes: Vec<HostPort>,
    /// What its maker says.
    pub comment: Option<String>,
    /// The program that made it.
    pub created_by: Option<String>,
    /// When it was made.
    pub creation_date: Option<UnixTime>,
}

impl Metainfo {
    /// Judges a torrent file. Bytes behind its end are ignored.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MetainfoError> {
        let mut tape = Tape::new();
        let document = tape.parse(bytes, &Limits::FILE, Mode::Lenient)?;
        let top = document.root().as_dict();
        let top =
            top.ok_or(MetainfoError::Kind { field: "top level", expected: "a dictionary" })?;
        let info = top.get("info").ok_or(MetainfoError::Missing { field: "info" })?;
        let info = Info::from_bytes(Bytes::copy_from_slice(info.raw()))?;
        let layers = match top.get("piece layers") {
            Some(layers) if info.info_hash_v2().is_some() => piece_layers(layers, &info)?,
            _ => BTreeMap::new(),
        };
        Ok(Self {
            trackers: sources::trackers(top),
            web_seeds: sources::web_seeds(top, info.layout().is_single_file()),
            nodes: sources::nodes(top),
            comment: text(top, "comment.utf-8").or_else(|| text(top, "comment")),
            created_by: text(top, "created by"),
            creation_date: top.get("creation date").and_then(Value::as_uint).map(UnixTime),
            info,
            layers,
        })
    }

    /// A torrent of which nothing is known but its `info`.
    pub const fn from_info(info: Info) -> Self {
        Self {
            info,
            layers: BTreeMap::new(),
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            nodes: Vec::new(),
            comment: None,
            created_by: None,
            creation_date: None,
        }
    }

    /// A torrent of which a magnet link tells: its `info` is not known, and comes from peers.
    pub fn from_magnet(magnet: &Magnet) -> Self {
        let name = magnet.name.as_deref();
        Self {
            trackers: magnet.trackers.iter().map(|url| vec![url.clone()]).collect(),
            web_seeds: magnet.web_seeds.clone(),
            ..Self::from_info(Info::unknown(magnet.info_hash, magnet.info_hash_v2, name))
        }
    }

    /// This torrent, with its `info` as peers sent it.
    #[must_use]
    pub fn with_info(&self, info: Info) -> Self {
        Self { info, layers: BTreeMap::new(), ..self.clone() }
    }

    /// The magnet link that says what is in here, but for the `info`.
    pub fn to_magnet(&self) -> Magnet {
        Magnet {
            info_hash: self.info.info_hash(),
            info_hash_v2: self.info.info_hash_v2(),
            name: Some(self.info.name().to_string()),
            trackers: self.trackers.iter().flatten().cloned().collect(),
            web_seeds: self.web_seeds.clone(),
            ..Magnet::default()
        }
    }

    /// The part that the hash covers.
    pub const fn info(&self) -> &Info {
        &self.info
    }

    /// The part that the hash covers, alone.
    pub fn into_info(self) -> Info {
        self.info
    }

    /// The hashes of the pieces of the v2 file with this root, 32 bytes each; known to be right.
    pub fn piece_layer(&self, root: &Hash) -> Option<&Bytes> {
        self.layers.get(root)
    }

    /// The root over a piece in the tree of its v2 file, as far as the file's piece layer is in here.
    pub fn piece_root(&self, piece: PieceIndex) -> Option<&Hash> {
        let layout = self.info.layout();
        let place = layout.tree_place(piece)?;
        let root = layout.file(place.file)?.pieces_root()?;
        if place.level == place.height && place.index == 0 {
            return Some(root);
        }
        self.layers.get(root)?.as_chunks::<32>().0.get(place.index as usize)
    }

    /// Puts in the hashes of the pieces of a v2 file, 32 bytes each. Refused unless they are those
    /// of a file in here.
    pub fn add_piece_layer(&mut self, root: Hash, layer: Bytes) -> Result<(), MetainfoError> {
        let layer =
            judge_layer(&root, &layer, &wanted_layers(&self.info), &self.info).map(|()| layer)?;
        self.layers.insert(root, layer);
        Ok(())
    }

    /// The v2 files whose piece layer is not in here, and must come from peers.
    pub fn files_without_layer(&self) -> impl Iterator<Item = File<'_>> {
        let piece_len = u64::from(self.info.layout().piece_len());
        self.info.layout().files().filter(move |file| {
            file.len() > piece_len
                && file.pieces_root().is_some_and(|root| !self.layers.contains_key(root))
        })
    }

    /// The torrent as a file, in canonical order, around the `info` dictionary as it came.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.info.bytes().len() + 512);
        let mut encoder = Encoder::new(&mut out);
        encoder.begin_dict();
        if let Some(first) = self.trackers.iter().flatten().next() {
            encoder.key("announce").bytes(first);
        }
        if self.trackers.iter().flatten().nth(1).is_some() {
            encoder.key("announce-list").begin_list();
            for tier in &self.trackers {
                strings(&mut encoder, tier);
            }
            encoder.end();
        }
        if let Some(comment) = &self.comment {
            encoder.key("comment").bytes(comment);
        }
        if let Some(created_by) = &self.created_by {
            encoder.key("created by").bytes(created_by);
        }
        if let Some(UnixTime(seconds)) = self.creation_date {
            encoder.key("creation date").uint(seconds);
        }
        encoder.key("info").raw(self.info.bytes());
        if !self.nodes.is_empty() {
            encoder.key("nodes").begin_list();
            for node in &self.nodes {
                encoder.begin_list().bytes(&node.host).uint(node.port.into()).end();
            }
            encoder.end();
        }
        if self.info.info_hash_v2().is_some() {
            encoder.key("piece layers").begin_dict();
            for (root, layer) in &self.layers {
                encoder.key(root).bytes(layer);
            }
            encoder.end();
        }
        if !self.web_seeds.is_empty() {
            strings(encoder.key("url-list"), &self.web_seeds);
        }
        encoder.end();
        encoder.finish();
        out
    }
}

fn strings(encoder: &mut Encoder<'_>, strings: &[String]) {
    encoder.begin_list();
    for string in strings {
        encoder.bytes(string);
    }
    encoder.end();
}

fn text(top: Dict<'_>, key: &str) -> Option<String> {
    let text = String::from_utf8_lossy(top.get(key)?.as_bytes()?);
    Some(text[..text.floor_char_boundary(TEXT_LEN_MAX)].to_string())
}

/// The files that have a layer: their roots, and how many pieces each has.
fn wanted_layers(info: &Info) -> BTreeMap<Hash, u64> {
    let piece_len = u64::from(info.layout().piece_len());
    let files = info.layout().files().filter(|file| file.len() > piece_len);
    files.filter_map(|file| Some((*file.pieces_root()?, file.len().div_ceil(piece_len)))).collect()
}

fn judge_layer(
    root: &Hash,
    layer: &[u8],
    wanted: &BTreeMap<Hash, u64>,
    info: &Info,
) -> Result<(), MetainfoError> {
    let field = "piece layers";
    let invalid = |problem| MetainfoError::Invalid { field, problem };
    let (hashes, rest) = layer.as_chunks::<32>();
    let pieces = *wanted.get(root).ok_or_else(|| invalid("there is a layer for no file"))?;
    if !rest.is_empty() || hashes.len() as u64 != pieces {
        return Err(MetainfoError::value(
            field,
            "32 bytes for each piece of the file",
            layer.len(),
        ));
    }
    if merkle::root(hashes, merkle::piece_level(info.layout().piece_len())) != *root {
        return Err(invalid("hashes do not add up to the root of the file"));
    }
    Ok(())
}

/// The layers that are there, each checked against its root.
fn piece_layers(layers: Value<'_>, info: &Info) -> Result<BTreeMap<Hash, Bytes>, MetainfoError> {
    let field = "piece layers";
    let dict = layers.as_dict().ok_or(MetainfoError::Kind { field, expected: "a dictionary" })?;
    let wanted = wanted_layers(info);
    let mut judged = BTreeMap::new();
    for (root, layer) in dict {
        let root = <&Hash>::try_from(root)
            .map_err(|_| MetainfoError::value(field, "under keys of 32 bytes", root.len()))?;
        let layer =
            layer.as_bytes().ok_or(MetainfoError::Kind { field, expected: "made of strings" })?;
        judge_layer(root, layer, &wanted, info)?;
        judged.insert(*root, Bytes::copy_from_slice(layer));
    }
    Ok(judged)
}
