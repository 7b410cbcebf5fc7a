//! Where torrents come from: files, addresses and magnet links.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use teem_core::http::fetch::{Command, Config, Event, Fetch, FetchError};
use teem_core::machine::{StreamError, TlsError};
use teem_core::metainfo::{Magnet, Metainfo};
use teem_io::executor::{PoolConfig, ThreadPool};
use teem_io::storage::{self, FileStore};
use teem_io::tls::TlsConfig;
use teem_io_smol::Driver;

use crate::failure::Failure;
use crate::paths;
use crate::report::{Report, mask_url};

/// Largest torrent file that is read, in bytes.
const TORRENT_LEN_MAX: u64 = 64 << 20;

/// The magnet link that this is, if it is one.
pub(crate) fn magnet(source: &str) -> Result<Option<Magnet>, Failure> {
    if !source.trim_start().get(..7).is_some_and(|start| start.eq_ignore_ascii_case("magnet:")) {
        return Ok(None);
    }
    source.trim().parse().map(Some).map_err(|error| {
        Failure::Input(format!(
            "{error}\nput the whole link in quotes, or the shell cuts it at the first &"
        ))
    })
}

/// What a magnet link says, and what peers have sent of it in an earlier run into `folder`.
pub(crate) fn from_magnet(magnet: &Magnet, folder: &Path, report: &Report) -> Metainfo {
    let unknown = Metainfo::from_magnet(magnet);
    let state = paths::location(&paths::state_folder(folder));
    let name = torrent_name(&unknown);
    match storage::load(&state, &name) {
        Ok(None) => unknown,
        Ok(Some(bytes)) => match Metainfo::from_bytes(&bytes) {
            Ok(saved) if unknown.info().is_hash_of(saved.info().bytes()) => {
                unknown.with_info(saved.info().clone())
            }
            // It is fetched again, and replaced.
            _ => unknown,
        },
        Err(error) => {
            report.warn(&format!(
                "what peers sent in an earlier run cannot be read: {error}\nit is fetched again"
            ));
            unknown
        }
    }
}

/// Keeps what peers have sent of a magnet link, as a torrent file beside the resume data.
pub(crate) fn save(magnet: &Metainfo, learnt: &Metainfo, folder: &Path, report: &Report) {
    let state = paths::location(&paths::state_folder(folder));
    if let Err(error) = storage::save(&state, &torrent_name(magnet), &learnt.to_bytes()) {
        report.warn(&format!(
            "the torrent file could not be saved: {error}\nthe download goes on; a further run will \
             fetch it from peers again"
        ));
    }
}

/// What the torrent file of a magnet link is called: its hash.
fn torrent_name(magnet: &Metainfo) -> String {
    format!("{}.torrent", magnet.info().swarm_hash())
}

/// Reads a torrent from a file, or from an `http://` or `https://` address.
pub(crate) fn load(source: &str, tls: &TlsConfig) -> Result<Arc<Metainfo>, Failure> {
    if magnet(source)?.is_some() {
        return Err(Failure::Input(format!(
            "this needs a torrent file; `teem get` makes one of a magnet link: {}/HASH.torrent in \
             the folder that it downloads into",
            paths::OWN_FOLDER
        )));
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
