//! All drivers behind one trait: some hosts, commands in, events out.

use std::net::{IpAddr, Ipv4Addr};

use smol::future::{FutureExt, or};
use teem_core::machine::Application;
use teem_core::time::{Duration, Instant};
use teem_io::jobs::Inline;
use teem_io::tls::TlsConfig;
use teem_sim::net::Net;

/// Runs machines, each as a host of its own, on the loopback address.
pub trait Drive<M: Application> {
    /// Which driver it is.
    fn name(&self) -> &'static str;

    /// Hands a command to a host.
    fn command(&mut self, host: usize, command: M::Command);

    /// Runs all hosts until one has an event; none if there was none for `limit`.
    fn next_event(&mut self, limit: Duration) -> Option<(usize, M::Event)>;

    /// A host's machine.
    fn machine(&mut self, host: usize) -> &mut M;
}

/// A driver of each kind for the machines that `make` makes.
pub fn all<M>(make: impl Fn() -> [M; 2]) -> Vec<Box<dyn Drive<M>>>
where
    M: Application + 'static,
    M::Event: 'static,
{
    vec![
        Box::new(Virtual::new(make())),
        Box::new(Mio::new(make())),
        Box::new(Smol::new(make())),
        Box::new(Tokio::new(make())),
        Box::new(crate::completion::Completion::new(make())),
    ]
}

/// A real driver of each kind for the machines that `make` makes, with these settings for TLS.
pub fn secure<M>(make: impl Fn() -> [M; 2], tls: &[TlsConfig; 2]) -> Vec<Box<dyn Drive<M>>>
where
    M: Application + 'static,
    M::Event: 'static,
{
    let (mut mio, mut smol, mut tokio) = (Mio::new(make()), Smol::new(make()), Tokio::new(make()));
    for (host, tls) in tls.iter().enumerate() {
        mio.0[host].set_tls(tls.clone());
        smol.0[host].set_tls(tls.clone());
        tokio.drivers[host].set_tls(tls.clone());
    }
    vec![Box::new(mio), Box::new(smol), Box::new(tokio)]
}

/// The simulator's network: virtual time.
#[derive(Debug)]
pub struct Virtual<M>(Net<M>);

impl<M: Application> Virtual<M> {
    /// Two hosts.
    pub fn new(machines: [M; 2]) -> Self {
        let mut net = Net::new(Duration::from_millis(2));
        for machine in machines {
            net.add(IpAddr::V4(Ipv4Addr::LOCALHOST), machine);
        }
        Self(net)
    }

    /// The network.
    pub const fn net(&self) -> &Net<M> {
        &self.0
    }
}

impl<M: Application> Drive<M> for Virtual<M> {
    fn name(&self) -> &'static str {
        "virtual"
    }

    fn command(&mut self, host: usize, command: M::Command) {
        self.0.handle_command(host, command);
    }

    fn next_event(&mut self, limit: Duration) -> Option<(usize, M::Event)> {
        let mut found = None;
        self.0
            .run_until(limit, |net| {
                found = (0..2).find_map(|host| Some((host, net.poll_event(host)?)));
                found.is_some()
            })
            .expect("no timer is stuck");
        found
    }

    fn machine(&mut self, host: usize) -> &mut M {
        self.0.machine_mut(host)
    }
}

/// mio, the hosts in turn.
#[derive(Debug)]
pub struct Mio<M>([teem_io_mio::Driver<M, Inline>; 2]);

impl<M: Application> Mio<M> {
    /// Two hosts.
    pub fn new(machines: [M; 2]) -> Self {
        Self(machines.map(|machine| {
            teem_io_mio::Driver::new(machine, Inline::new()).expect("a poll can be had")
        }))
    }
}

impl<M: Application> Drive<M> for Mio<M> {
    fn name(&self) -> &'static str {
        "mio"
    }

    fn command(&mut self, host: usize, command: M::Command) {
        self.0[host].handle_command(command);
    }

    fn next_event(&mut self, limit: Duration) -> Option<(usize, M::Event)> {
        let end = self.0[0].now() + limit;
        while self.0[0].now() < end {
            for (host, driver) in self.0.iter_mut().enumerate() {
                let event = driver.next_event(Some(Duration::from_millis(1)));
                if let Some(event) = event.expect("the poll works") {
                    return Some((host, event));
                }
            }
        }
        None
    }

    fn machine(&mut self, host: usize) -> &mut M {
        self.0[host].machine_mut()
    }
}

/// smol, the hosts raced on one thread, so that one future is dropped with every event.
#[derive(Debug)]
pub struct Smol<M>([teem_io_smol::Driver<M, Inline>; 2]);

impl<M: Application> Smol<M> {
    /// Two hosts.
    pub fn new(machines: [M; 2]) -> Self {
        Self(machines.map(|machine| teem_io_smol::Driver::new(machine, Inline::new())))
    }
}

impl<M: Application> Drive<M> for Smol<M> {
    fn name(&self) -> &'static str {
        "smol"
    }

    fn command(&mut self, host: usize, command: M::Command) {
        self.0[host].handle_command(command);
    }

    fn next_event(&mut self, limit: Duration) -> Option<(usize, M::Event)> {
        let [a, b] = &mut self.0;
        let event =
            async { Some((0, a.next_event().await)) }.or(async { Some((1, b.next_event().await)) });
        smol::block_on(or(event, async {
            smol::Timer::after(limit).await;
            None
        }))
    }

    fn machine(&mut self, host: usize) -> &mut M {
        self.0[host].machine_mut()
    }
}

/// tokio on one thread, the hosts raced.
#[derive(Debug)]
pub struct Tokio<M> {
    runtime: tokio::runtime::Runtime,
    drivers: [teem_io_tokio_compat::Driver<M, Inline>; 2],
}

impl<M: Application> Tokio<M> {
    /// Two hosts.
    pub fn new(machines: [M; 2]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let drivers =
            machines.map(|machine| teem_io_tokio_compat::Driver::new(machine, Inline::new()));
        Self { runtime: runtime.expect("a runtime can be had"), drivers }
    }
}

impl<M: Application> Drive<M> for Tokio<M> {
    fn name(&self) -> &'static str {
        "tokio"
    }

    fn command(&mut self, host: usize, command: M::Command) {
        self.drivers[host].handle_command(command);
    }

    fn next_event(&mut self, limit: Duration) -> Option<(usize, M::Event)> {
        let [a, b] = &mut self.drivers;
        self.runtime.block_on(async {
            tokio::select! {
                event = a.next_event() => Some((0, event)),
                event = b.next_event() => Some((1, event)),
                () = tokio::time::sleep(limit) => None,
            }
        })
    }

    fn machine(&mut self, host: usize) -> &mut M {
        self.drivers[host].machine_mut()
    }
}

/// When machines for these drivers are made.
pub const START: Instant = Instant::ORIGIN;
