//! Torrents: what a `.torrent` file, an `info` dictionary and a magnet link say, judged.
//!
//! [`Metainfo`] is a whole file, [`Info`] its `info` dictionary alone, which is all that peers
//! send (BEP 9); [`Magnet`] is a link. What comes out is legal: sizes add up, hashes are
//! complete, no path leaves the folder of the torrent, and nothing is larger than the constants
//! here. What real torrents get wrong without harm is put right silently; the rest is refused with
//! a [`MetainfoError`] that names the field.
//!
//! Follows BEP 3, 5 (`nodes`), 9 (magnet), 12, 19, 27, 47, 52 and 53. Piece layers are judged by the
//! loader of whole files, since an `info` dictionary has none; a torrent without them is legal,
//! and fetches them from peers. `encoding` is ignored: text is UTF-8 or made so, and the
//! `.utf-8` variants of names win.

pub mod create;
mod error;
mod file;
mod info;
mod layout;
mod links;
pub mod magnet;
pub mod merkle;
pub mod path;
mod sources;
#[cfg(test)]
mod vectors;

pub use error::MetainfoError;
pub use file::Metainfo;
pub use info::Info;
pub use layout::{Attributes, File, FileSlice, FileSlices, Layout, TreePlace};
pub use magnet::Magnet;
pub use sources::HostPort;

/// Most pieces of a torrent (libtorrent's limit).
pub const PIECES_MAX: u32 = 0x20_0000;
/// Longest piece in bytes: 32767 blocks (libtorrent's limit).
pub const PIECE_LEN_MAX: u32 = 32_767 * 16 * 1024;
/// Most files of a torrent. The token limit of [`Limits::FILE`](crate::bencode::Limits::FILE)
/// comes first where files have much to say.
pub const FILES_MAX: usize = 1 << 19;
/// Most bytes of a torrent, padding included (libtorrent's limit).
pub const SPACE_LEN_MAX: u64 = (1 << 48) - 1;
/// Most trackers of a torrent or magnet link; those beyond are ignored.
pub const TRACKERS_MAX: usize = 256;
/// Most web seeds of a torrent or magnet link; those beyond are ignored.
pub const WEB_SEEDS_MAX: usize = 256;
/// Most DHT nodes of a torrent and peers of a magnet link; those beyond are ignored.
pub const NODES_MAX: usize = 256;
/// Longest address of a tracker or web seed in bytes; longer ones are ignored.
pub const URL_LEN_MAX: usize = 2048;
/// Longest comment of a torrent in bytes; longer ones are cut.
pub const TEXT_LEN_MAX: usize = 16 * 1024;
