//! `teem get`: download torrents, and perhaps serve them afterwards.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use teem_core::ids::TorrentId;
use teem_core::machine::JobErrorKind;
use teem_core::metainfo::{Magnet, Metainfo};
use teem_core::session::{AddTorrent, Event, RateLimits, TorrentSnapshot};
use teem_core::time::Instant;
use teem_core::torrent::resume::resume_name;
use teem_io::storage;

use crate::args::Get;
use crate::engine::{self, Engine, SHUT_DOWN_MAX, Step};
use crate::failure::{Failure, Signal};
use crate::report::Report;
use crate::signals::Interrupts;
use crate::{Outcome, paths, source};

/// How long we stay to tell the trackers that a download is complete.
const TELL_MAX: Duration = Duration::from_secs(5);

/// How long we stay to tell the trackers that we leave, when nobody waits for us.
const LEAVE_MAX: Duration = Duration::from_secs(5);

pub(crate) fn run(get: &Get) -> Outcome {
    let mut config = engine::config(&get.network)?;
    config.down_bytes_per_s = get.down;
    let tls = engine::tls(&get.network)?;
    let mut report = Report::new(get.json, false);
    let mut torrents: BTreeMap<_, Wanted> = BTreeMap::new();
    for name in &get.torrents {
        let wanted = match source::magnet(name)? {
            Some(magnet) => Wanted::linked(&magnet, &get.output, &report),
            None => Wanted::whole(source::load(name, &tls)?),
        };
        match torrents.entry(wanted.metainfo.info().swarm_hash()) {
            Entry::Vacant(place) => drop(place.insert(wanted)),
            Entry::Occupied(mut same) => same.get_mut().join(wanted),
        }
    }
    if torrents.len() > 1 && get.choice.names_files() {
        let text = "--select and --priority are about the files of one torrent; name one";
        return Err(Failure::Input(text.into()));
    }
    let interrupts = Interrupts::new()?;
    let torrents: Vec<_> = torrents
        .into_values()
        .map(|wanted| prepare(get, &wanted, &report).map(|add| (wanted, add)))
        .collect::<Result<_, _>>()?;
    engine::block_on(async {
        let mut engine = Engine::new(config, tls, Some(interrupts))?;
        report.listening(engine.listen(get.network.port).await?);
        let mut download = Download::new(get);
        for (wanted, add) in torrents {
            let metainfo = &wanted.metainfo;
            let id = engine.add(metainfo.info().name(), add)?;
            report.added(id, Arc::clone(metainfo), &get.output.display().to_string());
            download.torrents.insert(id, Progress::Running);
            if !metainfo.info().is_known() {
                download.links.insert(id, wanted);
            }
        }
        download.run(&mut engine, &mut report).await
    })
}

/// A torrent that was named on the command line.
#[derive(Clone, Debug)]
struct Wanted {
    /// What it is, or what a magnet link says of it.
    metainfo: Arc<Metainfo>,
    /// Peers that a magnet link names.
    peers: Vec<SocketAddr>,
    /// Files that a magnet link wants, from zero.
    files: Vec<RangeInclusive<u32>>,
}

impl Wanted {
    const fn whole(metainfo: Arc<Metainfo>) -> Self {
        Self { metainfo, peers: Vec::new(), files: Vec::new() }
    }

    fn linked(magnet: &Magnet, folder: &Path, report: &Report) -> Self {
        let mut peers = Vec::new();
        for peer in &magnet.peers {
            match (peer.host.as_str(), peer.port).to_socket_addrs() {
                Ok(addresses) => peers.extend(addresses),
                Err(error) => report.warn(&format!("peer {peer} of the magnet link: {error}")),
            }
        }
        let metainfo = source::from_magnet(magnet, folder, report).into();
        Self { metainfo, peers, files: magnet.select_only.clone() }
    }

    /// Takes in what was said of the same torrent once more.
    fn join(&mut self, other: Self) {
        if other.metainfo.info().is_known() && !self.metainfo.info().is_known() {
            self.metainfo = other.metainfo;
        }
        self.peers.extend(other.peers);
    }
}

/// A torrent with what is known of it.
fn prepare(get: &Get, wanted: &Wanted, report: &Report) -> Result<AddTorrent, Failure> {
    let metainfo = &wanted.metainfo;
    let mut add = AddTorrent::new(Arc::clone(metainfo), paths::location(&get.output));
    (add.state, add.resume) = state(&get.output, metainfo, report);
    add.own_trackers = !get.network.no_trackers;
    add.trackers.clone_from(&get.network.trackers);
    add.peers = get.peers.iter().chain(&wanted.peers).copied().collect();
    add.limits = RateLimits { down_bytes_per_s: get.torrent_down, up_bytes_per_s: get.torrent_up };
    add.share = get.sharing.limits();
    add.sequential = get.choice.sequential;
    if metainfo.info().is_known() {
        add.priorities = get.choice.priorities(metainfo, &wanted.files)?;
    } else {
        (add.priorities, add.other_files) = get.choice.of_unknown(&wanted.files);
    }
    Ok(add)
}

/// Where the state of a torrent in `folder` lies, and what was saved there.
pub(crate) fn state(
    folder: &Path,
    metainfo: &Metainfo,
    report: &Report,
) -> (Option<teem_core::machine::Location>, Option<bytes::Bytes>) {
    let state = paths::location(&paths::state_folder(folder));
    let saved = storage::load(&state, &resume_name(metainfo.info().swarm_hash()));
    let saved = saved.unwrap_or_else(|error| {
        report.warn(&format!("what is known of an earlier run cannot be read: {error}\nthe content is checked instead"));
        None
    });
    (Some(state), saved.map(Into::into))
}

/// Downloads under way.
#[derive(Debug)]
struct Download<'a> {
    get: &'a Get,
    torrents: BTreeMap<TorrentId, Progress>,
    /// Those of which only a magnet link is known.
    links: BTreeMap<TorrentId, Wanted>,
    /// Since when everything is settled.
    settled: Option<Instant>,
    busy: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    Running,
    Finished,
    /// Finished, and others were served enough.
    Shared,
    Failed,
}

impl<'a> Download<'a> {
    fn new(get: &'a Get) -> Self {
        Self { get, torrents: BTreeMap::new(), links: BTreeMap::new(), settled: None, busy: false }
    }

    async fn run(mut self, engine: &mut Engine, report: &mut Report) -> Outcome {
        let seed = self.get.seed || self.get.sharing.ends();
        let start = engine.now();
        let mut wrong = None;
        let signal = loop {
            match engine.step().await {
                Step::Event(event) => {
                    report.event(engine.session(), &event);
                    if let Event::MetadataReceived(id) = event
                        && let Err(failure) = self.on_metadata(id, engine, report)
                    {
                        wrong = Some(failure);
                        break None;
                    }
                    self.on_event(&event);
                    if self.settled.is_none() && self.is_settled() {
                        self.settled = Some(engine.now());
                    }
                }
                Step::Tick => report.progress(engine.session(), engine.now()),
                Step::Signal(signal) => break Some(signal),
            }
            if let Some(since) = self.settled
                && (!seed || self.is_over())
                && (engine.now().saturating_since(since) >= TELL_MAX || !owes(engine))
            {
                break None;
            }
        };
        report.progress(engine.session(), engine.now());
        let took = engine.now().saturating_since(start);
        let torrents: Vec<TorrentSnapshot> = engine.session().torrents().collect();
        report.end();
        if signal.is_some() {
            report.note("stopping; once more to stop at once");
        }
        let limit = if signal.is_some() { SHUT_DOWN_MAX } else { LEAVE_MAX };
        let saved = engine.shut_down(limit, |session, event| report.event(session, event)).await;
        report.summary(&torrents, engine.session(), took);
        wrong.map_or_else(|| self.outcome(signal, saved), Err)
    }

    /// Peers have sent what a magnet link does not tell.
    fn on_metadata(&mut self, id: TorrentId, engine: &Engine, report: &Report) -> Outcome {
        let Some(link) = self.links.remove(&id) else { return Ok(()) };
        let Some(metainfo) = engine.session().metainfo(id).map(Arc::clone) else { return Ok(()) };
        source::save(&link.metainfo, &metainfo, &self.get.output, report);
        // What is wanted was said already. Now it shows whether there is such a thing.
        self.get.choice.priorities(&metainfo, &link.files).map(drop)
    }

    fn on_event(&mut self, event: &Event) {
        match event {
            Event::TorrentFinished(id) => {
                self.torrents.insert(*id, Progress::Finished);
            }
            Event::ShareLimitReached(id, _) => {
                self.torrents.insert(*id, Progress::Shared);
            }
            Event::MetadataFailed(id, _) => {
                self.torrents.insert(*id, Progress::Failed);
            }
            Event::TorrentFailed(id, error) => {
                self.busy |= error.kind == JobErrorKind::Busy;
                self.torrents.insert(*id, Progress::Failed);
            }
            _ => {}
        }
    }

    /// Nobody is served any more.
    fn is_over(&self) -> bool {
        self.torrents.values().all(|at| matches!(at, Progress::Failed | Progress::Shared))
    }

    fn is_settled(&self) -> bool {
        self.torrents.values().all(|torrent| *torrent != Progress::Running)
    }

    fn outcome(&self, signal: Option<Signal>, saved: bool) -> Outcome {
        let here = |at: &Progress| matches!(at, Progress::Finished | Progress::Shared);
        if self.torrents.values().all(here) {
            return Ok(());
        }
        if let Some(signal) = signal {
            let text = if saved {
                "interrupted; run the same command again to go on"
            } else {
                "interrupted before everything was saved; run the same command again to go on, \
                 some of the content will be checked again"
            };
            return Err(Failure::Interrupted(text.into(), signal));
        }
        let failed = self.torrents.values().filter(|torrent| **torrent == Progress::Failed).count();
        let text = match self.torrents.len() {
            1 => "the download failed, see above".into(),
            all => format!("{failed} of {all} downloads failed, see above"),
        };
        if self.busy { Err(Failure::Busy(text)) } else { Err(Failure::Incomplete(text)) }
    }
}

/// Whether a tracker is still to be told that a download is complete.
fn owes(engine: &Engine) -> bool {
    engine.session().torrents().any(|torrent| torrent.owes_completed)
}
