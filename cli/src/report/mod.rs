//! What people and programs are told while torrents run.
//!
//! People get bars on a terminal and lines elsewhere, on standard error, and results on standard
//! output. Programs get [`mod@json`] lines on standard output.

pub(crate) mod json;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use teem_core::ids::TorrentId;
use teem_core::metainfo::Metainfo;
use teem_core::session::{Event, Session, TorrentSnapshot, TorrentState};
use teem_core::time::Instant;
use teem_core::torrent::share::ShareLimit;

use crate::failure::{Failure, storage_fault, storage_text};
use crate::progress::{Above, Bars};
pub(crate) use text::{mask_url, printable};

/// Between two lines of progress, for people.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Between two progress objects.
const JSON_EVERY: Duration = Duration::from_secs(1);

/// Changed files that are named; more are counted.
const NAMES_MAX: usize = 10;

/// A result, on standard output.
pub(crate) fn line(text: &str) {
    // Whoever read it is gone: nobody to tell.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A remark, on standard error.
pub(crate) fn hint(text: &str) {
    let _ = writeln!(Above::default(), "{text}");
}

/// Why the program ends without success.
pub(crate) fn failure(failure: &Failure, as_json: bool) {
    if as_json {
        json::write(
            "error",
            json!({ "message": failure.to_string(), "exit_code": failure.exit_code() }),
        );
    } else if matches!(failure, Failure::Interrupted(..)) {
        hint(&failure.to_string());
    } else {
        hint(&format!("error: {failure}"));
    }
}

/// Tells what torrents do.
#[derive(Debug)]
pub(crate) struct Report {
    style: Style,
    torrents: BTreeMap<TorrentId, Arc<Metainfo>>,
    /// The last line of state of each torrent.
    said: BTreeMap<TorrentId, String>,
    /// Failures of trackers that were told.
    told: BTreeSet<(Box<str>, Box<str>)>,
    last: Option<Instant>,
    /// Nothing is fetched.
    serve_only: bool,
}

#[derive(Debug)]
enum Style {
    Bars(Bars),
    Lines,
    Json,
}

impl Report {
    pub(crate) fn new(as_json: bool, serve_only: bool) -> Self {
        let style = if as_json {
            Style::Json
        } else if std::io::stderr().is_terminal() {
            Style::Bars(Bars::new())
        } else {
            Style::Lines
        };
        let (torrents, said) = (BTreeMap::new(), BTreeMap::new());
        Self { style, torrents, said, told: BTreeSet::new(), last: None, serve_only }
    }

    const fn is_json(&self) -> bool {
        matches!(self.style, Style::Json)
    }

    /// Something that people should know.
    pub(crate) fn note(&self, text: &str) {
        if self.is_json() {
            json::write("note", json!({ "message": text }));
        } else {
            hint(text);
        }
    }

    /// Something that is not as it should be.
    pub(crate) fn warn(&self, text: &str) {
        if self.is_json() {
            json::write("warning", json!({ "message": text }));
        } else {
            hint(&format!("warning: {text}"));
        }
    }

    /// We listen for peers.
    pub(crate) fn listening(&self, listening: crate::engine::Listening) {
        if let Some(asked) = listening.instead_of {
            self.warn(&format!("port {asked} is in use; listening on port {}", listening.port));
        } else if !self.is_json() {
            hint(&format!("listening on port {}", listening.port));
        }
        if self.is_json() {
            json::write("listening", json!({ "port": listening.port }));
        }
    }

    /// A torrent was taken on.
    pub(crate) fn added(&mut self, id: TorrentId, metainfo: Arc<Metainfo>, folder: &str) {
        if self.is_json() {
            let mut members = json::described(&metainfo);
            members["folder"] = folder.into();
            json::write("added", members);
        }
        self.torrents.insert(id, metainfo);
    }

    fn name(&self, id: TorrentId) -> String {
        self.torrents.get(&id).map_or_else(String::new, |m| printable(m.info().name()))
    }

    fn hash(&self, id: TorrentId) -> String {
        self.torrents.get(&id).map_or_else(String::new, |m| m.info().swarm_hash().to_string())
    }

    /// Something happened.
    pub(crate) fn event(&mut self, session: &Session, event: &Event) {
        if let Event::MetadataReceived(id) = event
            && let Some(metainfo) = session.metainfo(*id)
        {
            self.torrents.insert(*id, Arc::clone(metainfo));
        }
        if self.is_json() {
            json::event(self, session, event);
        }
        match event {
            Event::MetadataReceived(id) if !self.is_json() => {
                let Some(metainfo) = self.torrents.get(id) else { return };
                hint(&text::described(metainfo));
            }
            Event::MetadataFailed(id, error) if !self.is_json() => {
                let name = self.name(*id);
                hint(&format!("error: {name}: what the magnet link means is of no use: {error}"));
            }
            Event::TorrentReady(id) => {
                let Some(torrent) = session.torrent(*id) else { return };
                tracing::info!(torrent = %torrent.name, pieces = torrent.have_pieces, of = torrent.pieces, "ready");
            }
            Event::ContentChanged(id, files) => {
                let name = self.name(*id);
                let names = self.file_names(*id, files);
                self.warn(&format!(
                    "{name}: changed since the last run, and checked again: {}",
                    names.join(", ")
                ));
            }
            Event::TorrentFailed(id, error) if !self.is_json() => {
                hint(&format!("error: {}", storage_text(&self.name(*id), error)));
            }
            Event::PieceUnreadable(id, piece, error) => {
                let name = self.name(*id);
                tracing::info!(torrent = name, piece = piece.0, %error, "a piece cannot be read");
                // One file may hold thousands of them.
                let told = (name.clone().into(), error.detail.clone());
                if self.told.insert(told) {
                    self.warn(&format!(
                        "{}\npiece {} cannot be served, and others like it; `teem verify --repair` \
                         fetches again what is damaged",
                        storage_fault(&name, error),
                        piece.0
                    ));
                }
            }
            Event::PieceFailed(id, piece) => {
                tracing::info!(torrent = self.name(*id), piece = piece.0, "a piece was corrupt");
            }
            Event::PeerConnected(_, address, encryption) => {
                let encryption = text::encryption(*encryption);
                tracing::debug!(%address, encryption, "peer connected");
            }
            Event::PeerClosed { address, reason, .. } => {
                tracing::debug!(%address, %reason, "peer closed");
            }
            Event::PeerBanned(id, address) => {
                let text =
                    format!("{}: {address} sent corrupt data and was banned", self.name(*id));
                self.warn(&text);
            }
            Event::TrackerReplied { torrent, url, peers, warning } => {
                let url = mask_url(url);
                tracing::info!(torrent = self.name(*torrent), %url, peers, "tracker replied");
                if let Some(warning) = warning
                    && self.told.insert((url.clone().into(), warning.clone()))
                {
                    self.warn(&format!("tracker {url} says: {}", printable(warning)));
                }
            }
            Event::TrackerFailed { torrent, url, error } => {
                let url = mask_url(url);
                tracing::info!(torrent = self.name(*torrent), %url, %error, "tracker failed");
                if self.told.insert((url.clone().into(), error.clone())) && !self.is_json() {
                    hint(&format!("warning: tracker {url}: {error}"));
                }
            }
            Event::DiskFull(id, error) => {
                self.warn(&format!(
                    "{}\nothers are served meanwhile; it goes on by itself when there is room",
                    storage_fault(&self.name(*id), error)
                ));
            }
            Event::DiskHasRoom(id) => {
                self.note(&format!("{}: the disk has room again, going on", self.name(*id)));
            }
            Event::ShareLimitReached(id, limit) => {
                let name = self.name(*id);
                match limit {
                    ShareLimit::Ratio => self.note(&format!("{name}: the ratio is reached")),
                    ShareLimit::Time => self.note(&format!("{name}: its time of seeding is over")),
                }
            }
            Event::SaveFailed(id, error) => {
                let name = self.name(*id);
                self.warn(&format!(
                    "{name}: what is known of the download could not be saved: {error}\n\
                     the download goes on; a further run will have to check the content again"
                ));
            }
            _ => {}
        }
    }

    fn file_names(&self, id: TorrentId, files: &[usize]) -> Vec<String> {
        let Some(metainfo) = self.torrents.get(&id) else { return Vec::new() };
        let layout = metainfo.info().layout();
        let path = |index: &usize| layout.file(*index).map(|file| printable(file.path()));
        let mut names: Vec<String> = files.iter().take(NAMES_MAX).filter_map(path).collect();
        if files.len() > NAMES_MAX {
            names.push(format!("and {} more", files.len() - NAMES_MAX));
        }
        names
    }

    /// Some time passed: tells how far things are, if it is time to.
    pub(crate) fn progress(&mut self, session: &Session, now: Instant) {
        let due = |last: Option<Instant>, every| {
            last.is_none_or(|last: Instant| now.saturating_since(last) >= every)
        };
        match &mut self.style {
            Style::Bars(bars) => {
                for torrent in session.torrents() {
                    bars.show(&torrent, text::behind_bar(&torrent, self.serve_only));
                }
            }
            Style::Lines => {
                let all = due(self.last, LINE_EVERY);
                for torrent in session.torrents() {
                    let state = text::state(&torrent, self.serve_only);
                    let changed = self.said.get(&torrent.id).is_none_or(|said| {
                        said.split_whitespace().next() != state.split_whitespace().next()
                    });
                    let idle =
                        torrent.state == TorrentState::Seeding && torrent.up_bytes_per_s == 0;
                    if changed || all && !idle {
                        hint(&text::line(&torrent, self.serve_only));
                        self.said.insert(torrent.id, state);
                    }
                }
                if all {
                    self.last = Some(now);
                }
            }
            Style::Json => {
                if due(self.last, JSON_EVERY) {
                    self.last = Some(now);
                    session.torrents().for_each(|torrent| json::progress(&torrent));
                }
            }
        }
    }

    /// Takes what is on the terminal away.
    pub(crate) fn end(&mut self) {
        if let Style::Bars(bars) = &mut self.style {
            bars.clear();
        }
    }

    /// How it all ended.
    pub(crate) fn summary(
        &mut self,
        torrents: &[TorrentSnapshot],
        session: &Session,
        took: Duration,
    ) {
        self.end();
        if self.is_json() {
            json::summary(torrents, &session.stats(), took);
            return;
        }
        for torrent in torrents {
            line(&text::summary(torrent));
        }
        let stats = session.stats();
        if stats.downloaded_bytes > 0 || stats.uploaded_bytes > 0 {
            hint(&text::totals(&stats, took));
        }
    }
}
