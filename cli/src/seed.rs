//! `teem seed`: serve content that is here.

use std::path::Path;
use std::sync::Arc;

use teem_core::session::{AddTorrent, Event};

use crate::args::Seed;
use crate::engine::{self, Engine, SHUT_DOWN_MAX, Step};
use crate::failure::Failure;
use crate::report::Report;
use crate::signals::Interrupts;
use crate::{Outcome, get, paths, source};

pub(crate) fn run(seed: &Seed) -> Outcome {
    let config = engine::config(&seed.network)?;
    let tls = engine::tls(&seed.network)?;
    let metainfo = source::load(&seed.torrent, &tls)?;
    let name = metainfo.info().name().to_owned();
    let folder = paths::find_folder(&seed.path, &name)?;
    let interrupts = Interrupts::new()?;
    let mut report = Report::new(seed.json, true);
    engine::block_on(async {
        let mut engine = Engine::new(config, tls, Some(interrupts))?;
        report.listening(engine.listen(seed.network.port).await?);
        let mut add = AddTorrent::new(Arc::clone(&metainfo), paths::location(&folder));
        if is_writable(&folder) {
            (add.state, add.resume) = get::state(&folder, &metainfo, &report);
        }
        add.seed_only = true;
        add.own_trackers = !seed.network.no_trackers;
        add.trackers.clone_from(&seed.network.trackers);
        add.share = seed.sharing.limits();
        let id = engine.add(&name, add)?;
        report.added(id, metainfo, &folder.display().to_string());
        serve(&mut engine, &mut report).await
    })
}

async fn serve(engine: &mut Engine, report: &mut Report) -> Outcome {
    let start = engine.now();
    loop {
        match engine.step().await {
            Step::Event(Event::TorrentFailed(id, error)) => {
                report.end();
                let name = engine.session().torrent(id).map(|torrent| torrent.name);
                return Err(Failure::storage(name.as_deref().unwrap_or("?"), &error));
            }
            Step::Event(event) => {
                report.event(engine.session(), &event);
                match event {
                    Event::TorrentReady(id) => warn_if_incomplete(engine, report, id),
                    Event::ShareLimitReached(..) => break,
                    _ => {}
                }
            }
            Step::Tick => report.progress(engine.session(), engine.now()),
            Step::Signal(_) => break,
        }
    }
    let took = engine.now().saturating_since(start);
    let torrents: Vec<_> = engine.session().torrents().collect();
    report.end();
    engine.shut_down(SHUT_DOWN_MAX, |session, event| report.event(session, event)).await;
    report.summary(&torrents, engine.session(), took);
    Ok(())
}

fn warn_if_incomplete(engine: &Engine, report: &Report, id: teem_core::ids::TorrentId) {
    let Some(torrent) = engine.session().torrent(id) else { return };
    let missing = torrent.pieces - torrent.have_pieces;
    if missing > 0 {
        report.warn(&format!(
            "{}: {missing} of {} pieces are missing or wrong; the rest is served\n\
             `teem verify` names the files, `teem get` fetches what is missing",
            torrent.name, torrent.pieces
        ));
    }
}

fn is_writable(folder: &Path) -> bool {
    use rustix::fs::{Access, access};
    let state = paths::state_folder(folder);
    let place = if state.exists() { &state } else { folder };
    access(place, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}
