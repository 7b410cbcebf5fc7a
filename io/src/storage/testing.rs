//! What tests of storage share.

use std::path::Path;
use std::sync::Arc;

use teem_core::machine::{Allocation, Location, OpenFiles};
use teem_core::metainfo::{Info, Layout};

/// Length of a piece in all layouts here.
pub(crate) const PIECE_LEN: u64 = 16 * 1024;

/// A layout of files `t/<path>`; a path that begins with `.pad` is padding.
pub(crate) fn layout(files: &[(&str, u64)]) -> Arc<Layout> {
    let total: u64 = files.iter().map(|(_, len)| len).sum();
    let file = |(path, len): &(&str, u64)| {
        let attributes = if path.starts_with(".pad") { "4:attr1:p" } else { "" };
        let parts: Vec<String> =
            path.split('/').map(|part| format!("{}:{part}", part.len())).collect();
        let path = parts.concat();
        format!("d{attributes}6:lengthi{len}e4:pathl{path}ee")
    };
    let list = files.iter().map(file).collect::<Vec<_>>().concat();
    let hashes = total.div_ceil(PIECE_LEN) as usize * 20;
    let rest = format!("4:name1:t12:piece lengthi{PIECE_LEN}e6:pieces{hashes}:");
    let info = format!("d5:filesl{list}e{rest}{}e", "h".repeat(hashes));
    let info = Info::from_bytes(info.into_bytes().into()).expect("a legal torrent");
    info.layout().clone()
}

pub(crate) fn location(folder: &Path) -> Location {
    Location(folder.as_os_str().as_encoded_bytes().to_vec().into())
}

/// Opens all files, sparse, for writing.
pub(crate) fn open_files(layout: &Arc<Layout>, folder: &Path) -> OpenFiles {
    OpenFiles {
        layout: Arc::clone(layout),
        folder: location(folder),
        key: "0123abc".into(),
        allocation: Allocation::Sparse,
        writable: true,
        wanted: [].into(),
    }
}
