//! One session and scripted peers around it.

use std::net::IpAddr;

use teem_core::bencode::Tape;
use teem_core::peer::CloseReason;
use teem_core::session::{Config, Event};
use teem_core::time::{Duration, Instant};
use teem_core::wire::{ExtensionHandshake, Message};
use teem_sim::actors::{Conn, Puppet, PuppetConfig, Received};
use teem_sim::net::HostId;
use teem_sim::swarm::{Swarm, address};

/// Bytes of a piece: a block.
pub(crate) const PIECE_LEN: u32 = 16 * 1024;

/// A session on trial, and what surrounds it.
pub(crate) struct Stage {
    pub(crate) swarm: Swarm,
    pub(crate) session: HostId,
}

impl Stage {
    /// A session that has all of `pieces` pieces, or none, and is ready for peers.
    pub(crate) fn new(pieces: u32, complete: bool, config: Config) -> Self {
        let mut swarm = Swarm::new((pieces * PIECE_LEN) as usize, PIECE_LEN, u64::from(pieces));
        let session = if complete { swarm.seeder(config) } else { swarm.leecher(config) };
        let ready = |event: &Event| matches!(event, Event::TorrentReady(_));
        assert!(swarm.run(10, |swarm| swarm.heard(session, ready)));
        Self { swarm, session }
    }

    pub(crate) fn seeding(pieces: u32) -> Self {
        Self::new(pieces, true, Config::default())
    }

    pub(crate) fn leeching(pieces: u32) -> Self {
        Self::new(pieces, false, Config::default())
    }

    /// A puppet with a name of its own, as `change` leaves it.
    pub(crate) fn puppet(&mut self, change: impl FnOnce(&mut PuppetConfig, HostId)) -> HostId {
        let info_hash = self.swarm.metainfo().info().swarm_hash();
        self.swarm.actor(|host| {
            let mut config = PuppetConfig::new(info_hash);
            config.peer_id.0[19] = host as u8;
            change(&mut config, host);
            Puppet::new(config)
        })
    }

    /// A puppet that shook hands with the session and said nothing else.
    pub(crate) fn guest(&mut self) -> (HostId, Conn) {
        let puppet = self.puppet(|_, _| {});
        (puppet, self.dial(puppet))
    }

    /// Another connection of a puppet, through its handshake.
    pub(crate) fn dial(&mut self, puppet: HostId) -> Conn {
        let session = self.session;
        let conn = Puppet::on_mut(&mut self.swarm, puppet).dial(address(session));
        let shaken = |swarm: &Swarm| Puppet::on(swarm, puppet).handshake(conn).is_some();
        assert!(self.swarm.run(5, shaken), "no handshake");
        conn
    }

    pub(crate) fn send(&mut self, (puppet, conn): (HostId, Conn), message: &Message) {
        Puppet::on_mut(&mut self.swarm, puppet).send(conn, message);
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.swarm.now() + time;
        while self.swarm.now() < end {
            // A step may be short or long; time moves on even if nothing happens.
            let left = end.saturating_since(self.swarm.now());
            let passed = self.swarm.net.run_until(left, |_| false);
            assert!(passed.is_ok(), "{passed:?}");
        }
        // Events are taken in.
        self.swarm.run(0, |_| true);
    }

    pub(crate) fn puppet_at(&self, (puppet, conn): (HostId, Conn)) -> &[(Instant, Received)] {
        Puppet::on(&self.swarm, puppet).received(conn)
    }

    /// Messages that a puppet got.
    pub(crate) fn got(&self, (puppet, conn): (HostId, Conn)) -> impl Iterator<Item = &Message> {
        Puppet::on(&self.swarm, puppet).messages(conn)
    }

    /// What the session says of itself to a puppet (BEP 10).
    pub(crate) fn hello(&self, guest: (HostId, Conn)) -> ExtensionHandshake {
        let hello = self.got(guest).find_map(|message| match message {
            Message::Extended { id: 0, payload } => {
                Some(ExtensionHandshake::parse(payload, &mut Tape::new()).expect("sound"))
            }
            _ => None,
        });
        hello.expect("it was sent")
    }

    /// Why the session closed connections, oldest first.
    pub(crate) fn closings(&self) -> Vec<CloseReason> {
        closings(&self.swarm, self.session)
    }

    /// Waits for the session to close a connection, at most `limit`, and tells how long that took
    /// and why.
    pub(crate) fn closes_within(&mut self, limit: Duration) -> (Duration, CloseReason) {
        let (start, had, session) = (self.swarm.now(), self.closings().len(), self.session);
        let closed = |swarm: &Swarm| closings(swarm, session).len() > had;
        assert!(self.swarm.run(limit.as_secs(), closed), "it stays after {limit:?}");
        (self.swarm.now().saturating_since(start), self.closings()[had])
    }

    /// Whether the session still has this many peers.
    pub(crate) fn peers(&self) -> usize {
        self.swarm.snapshot(self.session).peers
    }
}

/// Whom a session banned, oldest first.
pub(crate) fn banned(swarm: &Swarm, session: HostId) -> Vec<IpAddr> {
    let events = swarm.events(session).iter();
    events
        .filter_map(|event| match event {
            Event::PeerBanned(_, ip) => Some(*ip),
            _ => None,
        })
        .collect()
}

/// Why a session closed connections, oldest first.
pub(crate) fn closings(swarm: &Swarm, session: HostId) -> Vec<CloseReason> {
    let events = swarm.events(session).iter();
    events
        .filter_map(|event| match event {
            Event::PeerClosed { reason, .. } => Some(*reason),
            _ => None,
        })
        .collect()
}
