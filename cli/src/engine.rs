//! A [`Session`] on a driver, with threads for its slow work: what `get`, `seed` and `demo` share.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use smol::Timer;
use smol::future::{or, pending};
use smol::stream::StreamExt;
use teem_core::ids::{CommandToken, TorrentId};
use teem_core::machine::{Input, Machine as _, SocketError};
use teem_core::rng::Seed;
use teem_core::session::{AddTorrent, Command, Config, Event, Session};
use teem_core::time::Instant;
use teem_core::tracker::url::TrackerUrl;
use teem_io::executor::{PoolConfig, ThreadPool};
use teem_io::storage::FileStore;
use teem_io::tls::TlsConfig;
use teem_io_smol::Driver;

use crate::args::Network;
use crate::failure::{Failure, Signal};
use crate::hashing;
use crate::signals::Interrupts;

/// Ports that are tried first.
const PORTS: std::ops::RangeInclusive<u16> = 6881..=6889;

/// How often [`Step::Tick`] comes.
const TICK: Duration = Duration::from_millis(200);

/// How long a shutdown may take before we leave all the same.
pub(crate) const SHUT_DOWN_MAX: Duration = Duration::from_millis(2500);

/// A session that runs while one of its methods is awaited.
#[derive(Debug)]
pub(crate) struct Engine {
    driver: Driver<Session, ThreadPool>,
    ticks: Timer,
    interrupts: Option<Interrupts>,
    tokens: u64,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step {
    /// The session tells something.
    Event(Event),
    /// Some time passed.
    Tick,
    /// Somebody wants us to end.
    Signal(Signal),
}

/// Where peers reach us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listening {
    /// The port.
    pub(crate) port: u16,
    /// The port that was asked for and is in use by another program.
    pub(crate) instead_of: Option<u16>,
}

/// The session's settings that the command line says.
pub(crate) fn config(network: &Network) -> Result<Config, Failure> {
    let mut config = Config {
        up_bytes_per_s: network.up,
        encryption: network.encryption.into(),
        anonymous: network.anonymous,
        ..Config::default()
    };
    if let Some(slots) = network.slots {
        config.upload_slots = slots.into();
    }
    if let Some(max) = network.max_peers {
        config.peers_max = max as usize;
        config.torrent_peers_max = max as usize;
    }
    if let Some(max) = network.max_half_open {
        config.half_open_max = max as usize;
    }
    for address in &network.bind {
        let twice = match address {
            IpAddr::V4(v4) => config.bind_v4.replace(*v4).is_some(),
            IpAddr::V6(v6) => config.bind_v6.replace(*v6).is_some(),
        };
        if twice {
            let text = "--bind takes one IPv4 and one IPv6 address at most";
            return Err(Failure::Input(text.into()));
        }
    }
    for url in &network.trackers {
        if let Err(error) = TrackerUrl::parse(url) {
            return Err(Failure::Input(format!(
                "--tracker {url}: {error}\nit looks like http://host:port/announce, https://host/announce or udp://host:port"
            )));
        }
    }
    Ok(config)
}

/// Whom https servers are trusted by: by whom this machine trusts, and by those of `--ca`.
pub(crate) fn tls(network: &Network) -> Result<TlsConfig, Failure> {
    let Some(path) = &network.ca else { return Ok(TlsConfig::new()) };
    let pem = std::fs::read(path).map_err(|error| Failure::file(path, &error))?;
    TlsConfig::new().trust_pem(&pem).map_err(|error| {
        Failure::Input(format!(
            "--ca {}: {error}\nit wants certificates of authorities as PEM",
            path.display()
        ))
    })
}

/// A seed from the operating system.
pub(crate) fn seed() -> Result<Seed, Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Failure::Input(format!("no random numbers from the system: {error}")))?;
    Ok(Seed(seed))
}

impl Engine {
    /// A session without torrents. With `interrupts`, signals come as steps.
    pub(crate) fn new(
        config: Config,
        tls: TlsConfig,
        interrupts: Option<Interrupts>,
    ) -> Result<Self, Failure> {
        let mut threads = PoolConfig::default();
        threads.lanes = hashing::lanes();
        let pool = ThreadPool::new(threads, Arc::new(FileStore::new()));
        let (seed, wall) = (seed()?, teem_io::clock::wall());
        let mut driver = Driver::make(|now| Session::new(config, seed, now, wall), pool);
        driver.set_tls(tls);
        Ok(Self { driver, ticks: Timer::interval(TICK), interrupts, tokens: 0 })
    }

    pub(crate) fn session(&self) -> &Session {
        self.driver.machine()
    }

    pub(crate) fn now(&self) -> Instant {
        self.driver.now()
    }

    /// Takes on a torrent.
    pub(crate) fn add(&mut self, name: &str, add: AddTorrent) -> Result<TorrentId, Failure> {
        let now = self.driver.now();
        let added = self.driver.machine_mut().add_torrent(now, add);
        added.map_err(|error| Failure::Input(format!("{name}: {error}")))
    }

    /// What comes next. Can be dropped at any time.
    pub(crate) async fn step(&mut self) -> Step {
        let Self { driver, ticks, interrupts, .. } = self;
        let signal = async {
            match interrupts {
                Some(interrupts) => Step::Signal(interrupts.next().await),
                None => pending().await,
            }
        };
        let tick = async {
            ticks.next().await;
            Step::Tick
        };
        let step = or(signal, or(tick, async { Step::Event(driver.next_event().await) })).await;
        if matches!(step, Step::Tick) {
            // An idle session does not know what time it is, and its rates would stand still.
            let now = self.driver.now();
            self.driver.machine_mut().handle_input(now, Input::Timeout);
        }
        step
    }

    /// Listens for peers: on `port`, or the usual ones, or any that is free.
    pub(crate) async fn listen(&mut self, port: Option<u16>) -> Result<Listening, Failure> {
        let config = self.session().config();
        let (v4, v6) = (config.bind_v4, config.bind_v6);
        let addresses: Vec<IpAddr> = if v4.is_none() && v6.is_none() {
            vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
        } else {
            [v4.map(IpAddr::from), v6.map(IpAddr::from)].into_iter().flatten().collect()
        };
        let bound = !(v4.is_none() && v6.is_none());
        let asked = port.filter(|port| *port != 0);
        let ports: Vec<u16> = match port {
            Some(0) => vec![0],
            Some(port) => vec![port, 0],
            None => PORTS.chain([0]).collect(),
        };
        let mut last = SocketError::Other;
        for port in ports {
            let mut listening: Option<u16> = None;
            for address in &addresses {
                let at = SocketAddr::new(*address, listening.unwrap_or(port));
                match self.try_listen(at).await {
                    Ok(at) => listening = Some(listening.unwrap_or_else(|| at.port())),
                    Err(SocketError::AddressNotAvailable) if bound => {
                        return Err(Failure::Input(format!(
                            "--bind {address}: this machine has no such address; see the \
                             addresses that it has with `ip address`"
                        )));
                    }
                    // The other family may still work.
                    Err(error) if listening.is_some() || error != SocketError::AddressInUse => {
                        tracing::info!(%at, %error, "not listening");
                        last = error;
                    }
                    Err(error) => {
                        last = error;
                        break;
                    }
                }
            }
            if let Some(port) = listening {
                let instead_of = asked.filter(|asked| *asked != port);
                return Ok(Listening { port, instead_of });
            }
        }
        Err(Failure::Input(format!("cannot listen for peers: {last}; try another --port")))
    }

    async fn try_listen(&mut self, at: SocketAddr) -> Result<SocketAddr, SocketError> {
        self.tokens += 1;
        let asked = CommandToken(self.tokens);
        self.driver.handle_command(Command::Listen(asked, at));
        loop {
            match self.driver.next_event().await {
                Event::Listening(token, at) if token == asked => return Ok(at),
                Event::ListenFailed(token, error) if token == asked => return Err(error),
                other => tracing::debug!(?other, "before there are torrents"),
            }
        }
    }

    /// Saves, tells the trackers, closes. `tell` gets the events meanwhile. Returns whether all was
    /// done in `limit`; leaves the process at once if another signal comes.
    pub(crate) async fn shut_down(
        &mut self,
        limit: Duration,
        mut tell: impl FnMut(&Session, &Event),
    ) -> bool {
        self.driver.handle_command(Command::ShutDown);
        let end = self.now() + limit;
        loop {
            match self.step().await {
                Step::Event(Event::ShutDown) => {
                    tracing::debug!(blocks = ?self.driver.executor_mut().hashed(), "hashed");
                    return true;
                }
                Step::Event(event) => tell(self.session(), &event),
                Step::Signal(signal) => std::process::exit(signal.exit_code().into()),
                Step::Tick if self.now() >= end => return false,
                Step::Tick => {}
            }
        }
    }
}

/// Runs a future on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    smol::block_on(future)
}
