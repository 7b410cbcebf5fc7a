//! Where torrents come from: files and addresses.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use teem_core::http::fetch::{Command, Config, Event, Fetch, FetchError};
use teem_core::machine::{StreamError, TlsError};
use teem_core::metainfo::Metainfo;
use teem_io::executor::{PoolConfig, ThreadPool};
use teem_io::storage::FileStore;
use teem_io::tls::TlsConfig;
use teem_io_smol::Driver;

use crate::failure::Failure;
use crate::report::mask_url;

/// Largest torrent file that is read, in bytes.
const TORRENT_LEN_MAX: u64 = 64 << 20;

/// Reads a torrent from a file, or from an `http://` or `https://` address.
pub(crate) fn load(source: &str, tls: &TlsConfig) -> Result<Arc<Metainfo>, Failure> {
    if source.starts_with("magnet:") {
        return Err(Failure::Input(
            "magnet links are not supported yet; use the torrent file, or `teem show` to see what \
             the link says"
                .into(),
        ));
    }
    let bytes = if source.contains("://") { fetch(source, tls)? } else { read(Path::new(source))? };
    let metainfo = Metainfo::from_bytes(&bytes).map_err(|error| {
        let hint = if bytes.trim_ascii_start().starts_with(b"<") {
            "this is a web page, not a torrent"
        } else if !bytes.starts_with(b"d") {
            "this is not a torrent file"
        } else {
            "the torrent is broken there; get it again from where it came from"
        };
        Failure::Input(format!("{source}: {error}\n{hint}"))
    })?;
    Ok(Arc::new(metainfo))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::file(path, &error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(TORRENT_LEN_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > TORRENT_LEN_MAX {
        return Err(Failure::Input(format!("{}: too large for a torrent file", path.display())));
    }
    Ok(bytes)
}

/// Gets a torrent from an address.
fn fetch(url: &str, tls: &TlsConfig) -> Result<Vec<u8>, Failure> {
    let pool = ThreadPool::new(PoolConfig::default(), Arc::new(FileStore::new()));
    let mut driver = Driver::make(|now| Fetch::new(now, Config::default()), pool);
    driver.set_tls(tls.clone());
    driver.handle_command(Command::Get(url.into()));
    let shown = mask_url(url);
    match smol::block_on(driver.next_event()) {
        Event::Done(body) => Ok(body.into()),
        Event::Failed(error) => {
            let hint = match error {
                FetchError::UnsupportedScheme => {
                    "download it with another program, and name the file"
                }
                FetchError::Stream(StreamError::Tls(TlsError::UnknownIssuer)) => {
                    "if you trust its authority, name the authority's certificate with --ca"
                }
                FetchError::NoSuchHost | FetchError::BadUrl => "look for a typing error",
                _ => "try again later, or download it with another program and name the file",
            };
            Err(Failure::Input(format!("{shown}: {error}\n{hint}")))
        }
        _ => Err(Failure::Input(format!("{shown}: no answer"))),
    }
}
