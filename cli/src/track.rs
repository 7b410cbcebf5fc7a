//! `teem track`: a tracker.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use smol::future::or;
use teem_core::ids::CommandToken;
use teem_core::machine::SocketError;
use teem_core::tracker::server::{Command, Config, Event, Server};
use teem_io::jobs::Inline;
use teem_io::tls::TlsConfig;
use teem_io_smol::Driver;

use crate::args::Track;
use crate::failure::Failure;
use crate::signals::Interrupts;
use crate::{Outcome, engine, report};

/// Where a tracker listens if it is not told.
const HTTP_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 6969);

/// How a tracker is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
    Udp,
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Udp => "udp",
        }
    }

    /// The announce URL of a tracker at `address`, as peers on this machine can use it.
    fn url(self, address: SocketAddr) -> String {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        format!("{}://{}/announce", self.name(), SocketAddr::new(ip, address.port()))
    }
}

/// One way to a tracker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door {
    pub(crate) scheme: Scheme,
    pub(crate) address: SocketAddr,
}

impl Door {
    /// Where peers on this machine announce.
    pub(crate) fn url(self) -> String {
        self.scheme.url(self.address)
    }
}

/// A tracker on a driver.
#[derive(Debug)]
pub(crate) struct Tracker {
    driver: Driver<Server, Inline>,
    doors: Vec<Door>,
}

impl Tracker {
    /// A tracker that answers at all of `doors`.
    pub(crate) async fn start(
        mut doors: Vec<Door>,
        interval: Duration,
        tls: TlsConfig,
    ) -> Result<Self, Failure> {
        let mut config = Config { interval, min_interval: interval / 2, ..Config::default() };
        config.limits.lifetime = interval * 2 + Duration::from_mins(1);
        let seed = engine::seed()?;
        let mut driver = Driver::make(|now| Server::new(now, config, &seed), Inline::new());
        driver.set_tls(tls);
        for (token, door) in (0..).map(CommandToken).zip(&doors) {
            driver.handle_command(match door.scheme {
                Scheme::Http => Command::Listen(token, door.address),
                Scheme::Https => Command::ListenTls(token, door.address),
                Scheme::Udp => Command::Bind(token, door.address),
            });
        }
        let mut waiting = doors.len();
        while waiting > 0 {
            match driver.next_event().await {
                Event::Listening(token, address) => {
                    if let Some(door) = doors.get_mut(token.0 as usize) {
                        door.address = address;
                        waiting -= 1;
                    }
                }
                Event::Failed(token, error) => {
                    return Err(cannot_listen(doors.get(token.0 as usize), error));
                }
                Event::Stats(..) => {}
            }
        }
        Ok(Self { driver, doors })
    }

    /// Where it answers, in the order in which it was told.
    pub(crate) fn doors(&self) -> &[Door] {
        &self.doors
    }

    /// Answers until `until` is done.
    pub(crate) async fn run_until<T>(&mut self, until: impl Future<Output = T>) -> T {
        let serve = async {
            loop {
                let event = self.driver.next_event().await;
                tracing::debug!(?event);
            }
        };
        or(until, serve).await
    }

    pub(crate) fn stats(&self) -> teem_core::tracker::server::Stats {
        self.driver.machine().stats()
    }
}

fn cannot_listen(door: Option<&Door>, error: SocketError) -> Failure {
    let Some(Door { scheme, address }) = door else {
        return Failure::Input(format!("cannot listen: {error}"));
    };
    let scheme = scheme.name();
    Failure::Input(format!(
        "cannot listen on {address}: {error}; choose another address with --{scheme}"
    ))
}

/// All that `track` asks for.
fn doors(track: &Track) -> Vec<Door> {
    let http = if track.http.is_empty() && track.https.is_empty() && track.udp.is_empty() {
        &[HTTP_DEFAULT][..]
    } else {
        &track.http
    };
    let all = [(Scheme::Http, http), (Scheme::Https, &track.https), (Scheme::Udp, &track.udp)];
    all.into_iter()
        .flat_map(|(scheme, addresses)| {
            addresses.iter().map(move |address| Door { scheme, address: *address })
        })
        .collect()
}

/// The certificate that `--https` shows.
fn identity(chain: &Path, key: &Path) -> Result<TlsConfig, Failure> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| Failure::file(path, &error));
    let (chain_pem, key_pem) = (read(chain)?, read(key)?);
    TlsConfig::new().identity_pem(&chain_pem, &key_pem).map_err(|error| {
        Failure::Input(format!(
            "{} and {}: {error}\n--tls-cert wants a certificate as PEM, with those between it and \
             its authority behind it, and --tls-key its private key as PEM",
            chain.display(),
            key.display()
        ))
    })
}

pub(crate) fn run(track: &Track) -> Outcome {
    let mut interrupts = Interrupts::new()?;
    let tls = match (&track.tls_cert, &track.tls_key) {
        (Some(chain), Some(key)) => identity(chain, key)?,
        _ => TlsConfig::new(),
    };
    engine::block_on(async {
        let interval = Duration::from_secs(track.interval.into());
        let mut tracker = Tracker::start(doors(track), interval, tls).await?;
        for door in tracker.doors() {
            if track.json {
                let (address, url) = (door.address.to_string(), door.url());
                report::json::write(
                    "listening",
                    serde_json::json!({ "address": address, "url": url }),
                );
            } else {
                report::line(&door.url());
            }
        }
        let everywhere = |door: &Door| door.address.ip().is_unspecified();
        if !track.json && tracker.doors().iter().any(everywhere) {
            report::hint("peers elsewhere use the address of this machine in place of that one");
        }
        // There is no other end than a signal, so this one is success.
        tracker.run_until(interrupts.next()).await;
        let stats = tracker.stats();
        if track.json {
            report::json::write(
                "summary",
                serde_json::json!({
                    "torrents": stats.torrents, "peers": stats.peers, "announces": stats.announces,
                    "scrapes": stats.scrapes, "failures": stats.failures,
                    "udp_bytes_in": stats.udp_bytes_in, "udp_bytes_out": stats.udp_bytes_out,
                }),
            );
        } else {
            report::hint(&format!(
                "{} announces, {} scrapes answered; {} torrents, {} peers",
                stats.announces, stats.scrapes, stats.torrents, stats.peers
            ));
        }
        Ok(())
    })
}
