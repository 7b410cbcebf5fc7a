//! `teem track`: a tracker.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use smol::future::or;
use teem_core::ids::CommandToken;
use teem_core::tracker::server::{Command, Config, Event, Server};
use teem_io::jobs::Inline;
use teem_io_smol::Driver;

use crate::args::Track;
use crate::failure::Failure;
use crate::signals::Interrupts;
use crate::{Outcome, engine, report};

/// A tracker on a driver.
#[derive(Debug)]
pub(crate) struct Tracker {
    driver: Driver<Server, Inline>,
    address: SocketAddr,
}

impl Tracker {
    /// A tracker that listens at `at`.
    pub(crate) async fn start(at: SocketAddr, interval: Duration) -> Result<Self, Failure> {
        let mut config = Config { interval, min_interval: interval / 2, ..Config::default() };
        config.limits.lifetime = interval * 2 + Duration::from_mins(1);
        let seed = engine::seed()?;
        let mut driver = Driver::make(|now| Server::new(now, config, &seed), Inline::new());
        driver.handle_command(Command::Listen(CommandToken(1), at));
        loop {
            match driver.next_event().await {
                Event::Listening(_, address) => return Ok(Self { driver, address }),
                Event::Failed(_, error) => {
                    return Err(Failure::Input(format!(
                        "cannot listen on {at}: {error}; choose another address with --http"
                    )));
                }
                Event::Stats(..) => {}
            }
        }
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
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

/// The announce URL of a tracker at `address`, as peers on this machine can use it.
pub(crate) fn announce_url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}/announce", SocketAddr::new(ip, address.port()))
}

pub(crate) fn run(track: &Track) -> Outcome {
    let mut interrupts = Interrupts::new()?;
    engine::block_on(async {
        let mut tracker =
            Tracker::start(track.http, Duration::from_secs(track.interval.into())).await?;
        let (address, url) = (tracker.address(), announce_url(tracker.address()));
        if track.json {
            report::json::write(
                "listening",
                serde_json::json!({ "address": address.to_string(), "url": url }),
            );
        } else {
            report::line(&url);
            if address.ip().is_unspecified() {
                report::hint(
                    "peers elsewhere use the address of this machine in place of that one",
                );
            }
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
