//! `teem demo`: a whole swarm on this machine, over real sockets.
//!
//! A tracker, a seeder and the leechers each run on a thread and a driver of their own, made of the
//! same parts as `track`, `seed` and `get`.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use teem_core::hash::{Digest, HashAlgorithm, HashState};
use teem_core::ids::PieceIndex;
use teem_core::metainfo::Metainfo;
use teem_core::metainfo::create::{Content, Draft, Options};
use teem_core::rng::Seed;
use teem_core::session::{AddTorrent, Config, Event};
use teem_core::time::Instant;
use teem_io::clock::Clock;
use teem_io::tls::TlsConfig;

use crate::args::Demo;
use crate::engine::{self, Engine, SHUT_DOWN_MAX, Step};
use crate::failure::{Failure, Signal};
use crate::signals::Interrupts;
use crate::track::{Door, Scheme, Tracker};
use crate::{Outcome, hashing, paths, report, size};

const NAME: &str = "demo.bin";

/// Content is made and compared in parts of this many bytes.
const PART: usize = 1 << 20;

/// Without a byte of progress for this long, the demo has failed.
const STALL_MAX: Duration = Duration::from_secs(30);

pub(crate) fn run(demo: &Demo) -> Outcome {
    if demo.size == 0 {
        return Err(Failure::Input("--size: at least one byte".into()));
    }
    let clock = Clock::new();
    let folder = tempfile::Builder::new().prefix("teem-demo-").tempdir();
    let folder = folder.map_err(|error| Failure::file(&std::env::temp_dir(), &error))?;
    let seeder = folder.path().join("seeder");
    report::hint(&format!(
        "making {} of content in {}",
        size::show(demo.size),
        folder.path().display()
    ));
    let mut interrupts = Interrupts::new()?;
    let digest = make_content(&seeder, demo.size, &mut interrupts)?;

    let end = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let stop = Stop(Arc::clone(&end));
        let (sender, receiver) = mpsc::channel();
        let (ready, url) = mpsc::channel();
        scope.spawn({
            let (end, news) = (Arc::clone(&end), sender.clone());
            move || run_tracker(&ready, &news, interrupts, &end)
        });
        let url = url.recv().map_err(|_| Failure::Incomplete("no tracker".into()))??;
        let metainfo = Arc::new(make_torrent(&seeder, demo.size, &url)?);
        report::hint(&format!("tracker at {url}; {} leechers", demo.leechers));

        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let start = clock.now();
        let mut members = vec![Member::new("seeder".into(), seeder, true, demo.size, &bars)];
        for number in 1..=demo.leechers {
            let name = format!("leecher {number}");
            let place = folder.path().join(name.replace(' ', "-"));
            members.push(Member::new(name, place, false, demo.size, &bars));
        }
        for member in &members {
            let (sender, end, metainfo) = (sender.clone(), Arc::clone(&end), Arc::clone(&metainfo));
            let runner = member.clone();
            thread::Builder::new()
                .name(member.name.clone())
                .spawn_scoped(scope, move || {
                    let outcome = engine::block_on(runner.run(metainfo, &end));
                    // The main thread has given up.
                    let _ = sender.send(outcome);
                })
                .map_err(|error| Failure::Incomplete(format!("no thread: {error}")))?;
            // A leecher that asks before the seeder is known would have to ask again much later.
            while member.seeds && !member.announced.load(Ordering::Acquire) {
                match receiver.recv_timeout(Duration::from_millis(10)) {
                    Ok(news) => news?,
                    Err(_) if clock.now().saturating_since(start) > STALL_MAX => {
                        let text = "the seeder does not reach the tracker on 127.0.0.1";
                        return Err(Failure::Incomplete(text.into()));
                    }
                    Err(_) => {}
                }
            }
        }
        drop(sender);
        let result = await_leechers(&receiver, &members, &clock, usize::from(demo.leechers));
        let took = clock.now().saturating_since(start);
        drop(stop);
        for member in &members {
            member.bar.finish();
        }
        result?;
        compare(&members, &digest)?;
        summarise(demo, took);
        Ok(())
    })
}

/// Ends all threads, however the demo ends.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Writes content that depends on its size only; returns its SHA-256.
fn make_content(folder: &Path, len: u64, interrupts: &mut Interrupts) -> Result<[u8; 32], Failure> {
    let path = folder.join(NAME);
    let failed = |error: std::io::Error| Failure::file(&path, &error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = File::create(&path).map_err(failed)?;
    let mut rng = Seed::from_number(len).stream("demo content", 0);
    let mut state = HashState::new(HashAlgorithm::Sha256);
    let mut part = vec![0; PART];
    let mut left = len;
    while left > 0 {
        let now = left.min(PART as u64) as usize;
        rng.fill(&mut part[..now]);
        state.update(&part[..now]);
        file.write_all(&part[..now]).map_err(failed)?;
        left -= now as u64;
        if let Some(signal) = smol::block_on(smol::future::poll_once(interrupts.next())) {
            return Err(interrupted(signal));
        }
    }
    Ok(sha256(state))
}

fn interrupted(signal: Signal) -> Failure {
    Failure::Interrupted("interrupted; everything was removed again".into(), signal)
}

fn sha256(state: HashState) -> [u8; 32] {
    *state.finish().as_bytes().first_chunk().expect("32 bytes of SHA-256")
}

fn digest_of(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut state = HashState::new(HashAlgorithm::Sha256);
    let mut part = vec![0; PART];
    loop {
        let count = file.read(&mut part)?;
        if count == 0 {
            return Ok(sha256(state));
        }
        state.update(&part[..count]);
    }
}

fn make_torrent(folder: &Path, len: u64, tracker: &str) -> Result<Metainfo, Failure> {
    let options =
        Options { trackers: vec![vec![tracker.to_owned()]], private: true, ..Options::default() };
    let refused = |error| Failure::Input(format!("--size: {error}"));
    let draft = Draft::new(NAME, Content::File(len), options).map_err(refused)?;
    let mut hashes = vec![Digest::Sha1([0; 20]); draft.layout().piece_count() as usize];
    let mut failure = None;
    let done = |PieceIndex(piece), hashed: hashing::Hashed| {
        match hashed {
            Ok(hash) => hashes[piece as usize] = hash,
            Err((_, error)) => failure = Some(Failure::file(folder, &error)),
        }
        true
    };
    let state_of = |piece| draft.hash_state(piece);
    hashing::hash_pieces(draft.layout(), |_| folder.join(NAME), state_of, true, done);
    failure.map_or_else(|| draft.finish(&hashes).map_err(refused), Err)
}

fn run_tracker(
    ready: &mpsc::Sender<Result<String, Failure>>,
    news: &mpsc::Sender<News>,
    mut interrupts: Interrupts,
    end: &AtomicBool,
) {
    engine::block_on(async {
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let door = Door { scheme: Scheme::Http, address };
        match Tracker::start(vec![door], Duration::from_mins(30), TlsConfig::new()).await {
            Ok(mut tracker) => {
                // Nobody listens: the demo has ended.
                let _ = ready.send(Ok(tracker.doors()[0].url()));
                let interrupted = async {
                    let signal = interrupts.next().await;
                    // As above.
                    let _ = news.send(Err(interrupted(signal)));
                    // The members still want to tell the tracker that they leave.
                    smol::future::pending::<()>().await;
                };
                tracker.run_until(smol::future::or(ended(end), interrupted)).await;
            }
            Err(failure) => drop(ready.send(Err(failure))),
        }
    });
}

async fn ended(end: &AtomicBool) {
    while !end.load(Ordering::Acquire) {
        smol::Timer::after(Duration::from_millis(50)).await;
    }
}

/// The seeder, or a leecher.
#[derive(Clone)]
struct Member {
    name: String,
    folder: PathBuf,
    seeds: bool,
    have: Arc<AtomicU64>,
    /// The tracker knows it.
    announced: Arc<AtomicBool>,
    bar: ProgressBar,
}

/// What a member has to say in the end, or as soon as it is complete.
type News = Result<(), Failure>;

impl Member {
    fn new(name: String, folder: PathBuf, seeds: bool, len: u64, bars: &MultiProgress) -> Self {
        let style = ProgressStyle::with_template("{prefix:12} {bar:24} {percent:>3}% {wide_msg}")
            .expect("a template of ours");
        let bar = bars.add(ProgressBar::new(len).with_style(style.progress_chars("=> ")));
        bar.set_prefix(name.clone());
        Self { name, folder, seeds, have: Arc::default(), announced: Arc::default(), bar }
    }

    /// Downloads, and serves until all are done.
    async fn run(&self, metainfo: Arc<Metainfo>, end: &AtomicBool) -> News {
        let config = Config { bind_v4: Some(Ipv4Addr::LOCALHOST), ..Config::default() };
        let mut engine = Engine::new(config, TlsConfig::new(), None)?;
        engine.listen(Some(0)).await?;
        let mut add = AddTorrent::new(metainfo, paths::location(&self.folder));
        add.seed_only = self.seeds;
        let id = engine.add(&self.name, add)?;
        loop {
            match engine.step().await {
                Step::Event(Event::TorrentFailed(_, error)) => {
                    return Err(Failure::storage(&self.name, &error));
                }
                Step::Event(event) => {
                    tracing::debug!(member = self.name, ?event);
                    if matches!(event, Event::TrackerReplied { .. }) {
                        self.announced.store(true, Ordering::Release);
                    }
                }
                Step::Tick | Step::Signal(_) => {}
            }
            let Some(torrent) = engine.session().torrent(id) else { return Ok(()) };
            self.have.store(torrent.have_bytes, Ordering::Relaxed);
            self.bar.set_position(torrent.have_bytes);
            self.bar.set_message(format!(
                "down {}  up {}  {} peers",
                size::show_rate(torrent.down_bytes_per_s),
                size::show_rate(torrent.up_bytes_per_s),
                torrent.peers,
            ));
            if end.load(Ordering::Acquire) {
                break;
            }
        }
        engine.shut_down(SHUT_DOWN_MAX, |_, _| {}).await;
        Ok(())
    }
}

/// Waits until every leecher has everything, or nothing moves any more.
fn await_leechers(
    news: &mpsc::Receiver<News>,
    members: &[Member],
    clock: &Clock,
    leechers: usize,
) -> Outcome {
    let (mut before, mut moved): (u64, Instant) = (0, clock.now());
    loop {
        match news.recv_timeout(Duration::from_millis(20)) {
            Ok(news) => news?,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Failure::Incomplete("every thread ended".into()));
            }
        }
        let have = || members.iter().map(|member| member.have.load(Ordering::Relaxed));
        let whole = members[0].bar.length().unwrap_or_default();
        if have().skip(1).filter(|have| *have == whole).count() == leechers {
            return Ok(());
        }
        let sum = have().sum();
        if sum != before {
            (before, moved) = (sum, clock.now());
        } else if clock.now().saturating_since(moved) > STALL_MAX {
            return Err(Failure::Incomplete(format!(
                "nothing moved for {}; --log debug says more",
                size::show_time(STALL_MAX)
            )));
        }
    }
}

fn compare(members: &[Member], digest: &[u8; 32]) -> Outcome {
    for member in members.iter().filter(|member| !member.seeds) {
        let path = member.folder.join(NAME);
        let is = digest_of(&path).map_err(|error| Failure::file(&path, &error))?;
        if is != *digest {
            return Err(Failure::Incomplete(format!("the copy of {} is wrong", member.name)));
        }
    }
    Ok(())
}

fn summarise(demo: &Demo, took: Duration) {
    let moved = demo.size as f64 * f64::from(demo.leechers) / f64::from(1 << 20);
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    let peak = peak_memory().map_or_else(|| "unknown".into(), size::show);
    report::line(&format!(
        "{} copies of {}, all right (SHA-256)\n\
         {:.2} s, {:.0} MiB/s in all, {cpu:.2} s of CPU time, {peak} of memory at most",
        demo.leechers,
        size::show(demo.size),
        took.as_secs_f64(),
        moved / took.as_secs_f64().max(0.001),
    ));
}

/// The most memory that this process ever used, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
