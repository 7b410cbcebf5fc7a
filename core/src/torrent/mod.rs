//! One torrent: what to fetch, whom to serve. The parts here are pure data.

pub mod choker;
pub mod picker;
