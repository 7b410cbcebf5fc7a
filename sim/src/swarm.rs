//! Swarms for tests: sessions that share one torrent, and whoever else takes part.
//!
//! ```
//! use teem_core::session::Config;
//! use teem_sim::swarm::Swarm;
//!
//! let mut swarm = Swarm::new(1_000_000, 64 * 1024, 1);
//! let seeder = swarm.seeder(Config::default());
//! let leecher = swarm.leecher(Config::default());
//! swarm.introduce(leecher, &[seeder]);
//! assert!(swarm.run(60, |swarm| swarm.is_complete(leecher)));
//! assert!(swarm.disk(leecher) == swarm.content());
//! ```

use std::any::Any;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use teem_core::ids::{CommandToken, JobId, PieceIndex, SocketId, StreamId, TorrentId};
use teem_core::machine::{
    Application, Deadline, Incoming, Input, Job, Location, Machine, Output, Transmit, TransmitLimit,
};
use teem_core::metainfo::Metainfo;
use teem_core::metainfo::create::{Content, Draft, Format, Options};
use teem_core::rng::Seed;
use teem_core::session::{
    AddTorrent, Command, Config, Event, Session, TorrentSnapshot, TorrentState,
};
use teem_core::time::{Duration, Instant};

use crate::net::{HostId, Net, WALL};

/// The port that sessions listen on.
pub const PORT: u16 = 6881;

/// A machine that takes part and is not a session: a tracker, a scripted peer, an attacker.
pub trait Actor: Machine + Any + fmt::Debug {}

impl<M: Machine + Any + fmt::Debug> Actor for M {}

/// What runs on a host.
#[derive(Debug)]
pub enum Node {
    /// A client.
    Session(Box<Session>),
    /// Anything else.
    Actor(Box<dyn Actor>),
}

impl Node {
    /// The client that this is, if it is one.
    pub fn session(&self) -> Option<&Session> {
        match self {
            Self::Session(session) => Some(session),
            Self::Actor(_) => None,
        }
    }

    /// The client that this is, if it is one.
    pub fn session_mut(&mut self) -> Option<&mut Session> {
        match self {
            Self::Session(session) => Some(session),
            Self::Actor(_) => None,
        }
    }

    /// The actor that this is, if it is one of type `A`.
    pub fn actor<A: Actor>(&self) -> Option<&A> {
        match self {
            Self::Session(_) => None,
            Self::Actor(actor) => (&**actor as &dyn Any).downcast_ref(),
        }
    }

    /// The actor that this is, if it is one of type `A`.
    pub fn actor_mut<A: Actor>(&mut self) -> Option<&mut A> {
        match self {
            Self::Session(_) => None,
            Self::Actor(actor) => (&mut **actor as &mut dyn Any).downcast_mut(),
        }
    }

    fn machine(&self) -> &dyn Machine {
        match self {
            Self::Session(session) => &**session,
            Self::Actor(actor) => &**actor,
        }
    }

    fn machine_mut(&mut self) -> &mut dyn Machine {
        match self {
            Self::Session(session) => &mut **session,
            Self::Actor(actor) => &mut **actor,
        }
    }
}

impl Machine for Node {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.machine_mut().handle_input(now, input);
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) -> Option<StreamId> {
        self.machine_mut().accept(now, incoming)
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.machine_mut().poll_output()
    }

    fn poll_job(&mut self) -> Option<(JobId, Job)> {
        self.machine_mut().poll_job()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.machine().poll_timeout()
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        on: SocketId,
        limit: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.machine_mut().poll_transmit(now, on, limit, buf)
    }

    fn poll_send(&mut self, now: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        self.machine_mut().poll_send(now, id, max, out)
    }

    fn recv_credit(&self, stream: StreamId) -> usize {
        self.machine().recv_credit(stream)
    }
}

impl Application for Node {
    type Command = Command;
    type Event = Event;

    fn handle_command(&mut self, now: Instant, command: Command) {
        if let Self::Session(session) = self {
            session.handle_command(now, command);
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.session_mut()?.poll_event()
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Swarm {
    /// The network that everybody is on.
    pub net: Net<Node>,
    metainfo: Arc<Metainfo>,
    content: Bytes,
    peers: Vec<Peer>,
    ipv6: bool,
}

/// What is known of a host; of an actor, only its place.
#[derive(Debug, Default)]
struct Peer {
    torrent: Option<TorrentId>,
    events: Vec<Event>,
}

impl Swarm {
    /// Nobody yet, around one file of `len` random bytes in pieces of `piece_len`; everything
    /// takes 20 ms one way.
    pub fn new(len: usize, piece_len: u32, number: u64) -> Self {
        let mut content = vec![0; len];
        Seed::from_number(number).stream("content", 0).fill(&mut content);
        let metainfo = torrent(&content, piece_len);
        Self::of(metainfo, content.into())
    }

    /// Nobody yet, around this torrent and its content.
    pub fn of(metainfo: Arc<Metainfo>, content: Bytes) -> Self {
        Self::on(Net::new(Duration::from_millis(20)), metainfo, content)
    }

    /// Nobody yet, on this network, around this torrent and its content.
    pub fn on(mut net: Net<Node>, metainfo: Arc<Metainfo>, content: Bytes) -> Self {
        let key = metainfo.info().swarm_hash().to_string();
        net.library_mut().add(&key, content.clone());
        Self { net, metainfo, content, peers: Vec::new(), ipv6: false }
    }

    /// The same, of hosts that have IPv6 addresses and no others: from the next one on.
    #[must_use]
    pub const fn over_ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// Where a client of this swarm listens.
    pub fn address(&self, host: HostId) -> SocketAddr {
        SocketAddr::new(if self.ipv6 { ipv6(host) } else { ip(host) }, PORT)
    }

    /// The torrent.
    pub fn metainfo(&self) -> &Arc<Metainfo> {
        &self.metainfo
    }

    /// What everybody wants.
    pub fn content(&self) -> &Bytes {
        &self.content
    }

    /// What the torrent's files are locked by: its info hash in hex.
    pub fn key(&self) -> String {
        self.metainfo.info().swarm_hash().to_string()
    }

    /// A client that has everything.
    pub fn seeder(&mut self, config: Config) -> HostId {
        let content = self.content.clone();
        self.add(Some(&content), config, |_| {})
    }

    /// A client that has nothing.
    pub fn leecher(&mut self, config: Config) -> HostId {
        self.add(None, config, |_| {})
    }

    /// A client that listens, with this on its disk, and the torrent as `change` leaves it.
    pub fn add(
        &mut self,
        preload: Option<&[u8]>,
        config: Config,
        change: impl FnOnce(&mut AddTorrent),
    ) -> HostId {
        let at = self.address(self.peers.len());
        self.add_at(&[at], preload, config, change)
    }

    /// The same, listening at these addresses.
    pub fn add_at(
        &mut self,
        listen: &[SocketAddr],
        preload: Option<&[u8]>,
        config: Config,
        change: impl FnOnce(&mut AddTorrent),
    ) -> HostId {
        let host = self.bare(config);
        if let Some(content) = preload {
            self.preload(host, content);
        }
        for (number, at) in (0..).zip(listen) {
            self.command(host, Command::Listen(CommandToken(number), *at));
        }
        let mut add = AddTorrent::new(Arc::clone(&self.metainfo), folder());
        add.state = Some(state());
        change(&mut add);
        let now = self.net.now();
        let session = self.net.machine_mut(host).session_mut().expect("it was just made");
        self.peers[host].torrent = Some(session.add_torrent(now, add).expect("a sound torrent"));
        host
    }

    /// Puts content on a host's disk, for a torrent that is not open there.
    pub fn preload(&mut self, host: HostId, content: &[u8]) {
        let key = self.key();
        let (disk, library) = self.net.disk_and_library(host);
        disk.preload(&folder(), &key, content, library);
    }

    /// Changes content on a host's disk behind its back.
    pub fn damage(&mut self, host: HostId, change: impl FnOnce(&mut [u8])) {
        let key = self.key();
        let (disk, library) = self.net.disk_and_library(host);
        assert!(disk.damage(&folder(), &key, library, change), "there is something to damage");
    }

    /// A client that neither listens nor has a torrent.
    pub fn bare(&mut self, config: Config) -> HostId {
        let number = self.peers.len();
        let seed = Seed::from_number(number as u64 + 1);
        let session = Session::new(config, seed, self.net.now(), WALL);
        self.peers.push(Peer::default());
        self.net.add(self.address(number).ip(), Node::Session(session.into()))
    }

    /// Somebody else, made for the address that it will have: [`Swarm::address`].
    pub fn actor<A: Actor>(&mut self, make: impl FnOnce(HostId) -> A) -> HostId {
        let number = self.peers.len();
        self.peers.push(Peer::default());
        self.net.add(self.address(number).ip(), Node::Actor(Box::new(make(number))))
    }

    /// Tells a client of peers, at [`PORT`].
    pub fn introduce(&mut self, to: HostId, whom: &[HostId]) {
        let peers = whom.iter().map(|host| self.address(*host)).collect();
        self.command(to, Command::AddPeers(self.torrent(to), peers));
    }

    /// Asks a client for something.
    pub fn command(&mut self, host: HostId, command: Command) {
        self.net.handle_command(host, command);
    }

    /// The torrent's id in a client.
    pub fn torrent(&self, host: HostId) -> TorrentId {
        self.peers[host].torrent.expect("a client with the torrent")
    }

    /// A client's torrent as it is now.
    pub fn snapshot(&self, host: HostId) -> TorrentSnapshot {
        self.session(host).torrent(self.torrent(host)).expect("it was not removed")
    }

    /// A client.
    pub fn session(&self, host: HostId) -> &Session {
        self.net.machine(host).session().expect("a client")
    }

    /// What a client's disk holds of the torrent; empty if it holds nothing.
    pub fn disk(&self, host: HostId) -> Bytes {
        let disk = self.net.disk(host);
        disk.content(&folder(), &self.key(), self.net.library()).unwrap_or_default()
    }

    /// Whether a client has everything, checked and written.
    pub fn is_complete(&self, host: HostId) -> bool {
        self.snapshot(host).state == TorrentState::Seeding
    }

    /// What a client has told so far.
    pub fn events(&self, host: HostId) -> &[Event] {
        &self.peers[host].events
    }

    /// What a client has told since this was last asked; it is kept no longer.
    pub fn take_events(&mut self, host: HostId) -> Vec<Event> {
        std::mem::take(&mut self.peers[host].events)
    }

    /// Whether a client told such a thing.
    pub fn heard(&self, host: HostId, wanted: impl Fn(&Event) -> bool) -> bool {
        self.events(host).iter().any(wanted)
    }

    /// How often a client told such a thing.
    pub fn count(&self, host: HostId, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events(host).iter().filter(|event| wanted(event)).count()
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.net.now()
    }

    /// Runs until `done`, at most `seconds`; tells whether it is done. `done` is asked after each
    /// step, when all events are in.
    pub fn run(&mut self, seconds: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.net.nanos() + Duration::from_secs(seconds);
        let mut recent = Vec::new();
        loop {
            self.net.settle().expect("no host spins");
            self.net.take_recent(&mut recent);
            for host in &recent {
                while let Some(event) = self.net.poll_event(*host) {
                    self.peers[*host].events.push(event);
                }
            }
            if done(self) {
                return true;
            }
            if !self.net.step_within(end).expect("no host spins") {
                return false;
            }
        }
    }
}

/// A v1 torrent of one file.
pub fn torrent(content: &[u8], piece_len: u32) -> Arc<Metainfo> {
    torrent_as(content, piece_len, Format::V1)
}

/// A torrent of one file, of any format.
pub fn torrent_as(content: &[u8], piece_len: u32, format: Format) -> Arc<Metainfo> {
    let options = Options { piece_len: Some(piece_len), format, ..Options::default() };
    let draft = Draft::new("content", Content::File(content.len() as u64), options);
    Arc::new(finish(draft.expect("a sound draft"), content))
}

/// The torrent that a draft makes of this content, which is as long as its layout.
fn finish(draft: Draft, content: &[u8]) -> Metainfo {
    let layout = draft.layout();
    let pieces = (0..layout.piece_count()).map(PieceIndex);
    let hashes: Vec<_> = pieces
        .map(|piece| {
            let start = piece.0 as usize * layout.piece_len() as usize;
            let len = layout.piece_content_len(piece) as usize;
            let mut state = draft.hash_state(piece);
            state.update(&content[start..start + len]);
            state.finish()
        })
        .collect();
    draft.finish(&hashes).expect("a sound torrent")
}

/// A torrent of these files, in the order of their paths, and the content that it has, padding
/// included: random bytes.
pub fn torrent_of(
    files: &[(&str, u64)],
    piece_len: u32,
    format: Format,
    number: u64,
) -> (Arc<Metainfo>, Bytes) {
    let options = Options { piece_len: Some(piece_len), format, ..Options::default() };
    let path = |path: &str| path.split('/').map(Into::into).collect();
    let folder = files.iter().map(|(name, len)| (path(name), *len)).collect();
    let draft = Draft::new("content", Content::Folder(folder), options).expect("a sound draft");
    let layout = draft.layout();
    let mut content = vec![0; layout.space_len() as usize];
    let mut random = Seed::from_number(number).stream("content", 0);
    for file in layout.files().filter(|file| !file.is_pad()) {
        let range = file.range();
        random.fill(&mut content[range.start as usize..range.end as usize]);
    }
    (Arc::new(finish(draft, &content)), content.into())
}

/// Where clients keep content.
pub fn folder() -> Location {
    Location(Bytes::from_static(b"/downloads"))
}

/// Where clients keep resume data.
pub fn state() -> Location {
    Location(Bytes::from_static(b"/state"))
}

/// A host's IPv4 address.
pub fn ip(host: HostId) -> IpAddr {
    let host = host as u32;
    IpAddr::from([10, (host / 62_500) as u8, (host / 250 % 250) as u8, (host % 250 + 1) as u8])
}

/// A host's IPv6 address: one of a private network (RFC 4193).
pub fn ipv6(host: HostId) -> IpAddr {
    Ipv6Addr::from((0xfd00 << 112) | (host as u128 + 1)).into()
}

/// Where a client with an IPv4 address listens.
pub fn address(host: HostId) -> SocketAddr {
    SocketAddr::new(ip(host), PORT)
}
