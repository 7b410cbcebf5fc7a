//! The client: torrents, their peers and their trackers, as one machine.
//!
//! ```text
//!   Command --> Session --> Event            torrents   what is here, what to fetch, whom to serve
//!                  |                         streams    peers and trackers, and what waits to be sent
//!      Input --> Machine --> Output, Job     trackers   announces under way
//!                                            cx         time, timers, jobs, budgets, counters
//! ```
//!
//! The session routes: streams to peers to torrents, jobs to whoever asked, timers to whoever
//! waits. What a message means is `torrent::transfer`'s part. State is read with
//! [`Session::torrents`], [`Session::peers`] and [`Session::stats`], as of the last call that told
//! the time ([`Input::Timeout`](crate::machine::Input::Timeout) will do); events tell only what
//! cannot be read afterwards.

mod config;
pub(crate) mod cx;
mod event;
mod filter;
pub(crate) mod gate;
mod handshake;
mod machine;
mod stats;
pub(crate) mod streams;
mod trackers;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

#[cfg(feature = "planted-bugs")]
pub use config::PlantedBug;
pub use config::{Config, Encryption};
pub use event::{AddError, AddTorrent, Command, Event, RemoveFiles, Source};
pub use filter::{IpFilter, RANGES_MAX};
pub use gate::RateLimits;
pub use stats::{PeerSnapshot, Stats, TorrentSnapshot, TorrentState, TrackerSnapshot, WaitsFor};

use self::cx::{Cx, TimerKey};
use self::streams::{Kind, Streams};
use self::trackers::{Trackers, Udp};
use crate::ids::{CommandToken, InfoHash, ListenerId, Slab, StreamId, TimerId, TorrentId};
use crate::machine::{Application, Listen, Output};
use crate::metainfo::{Info, Metainfo};
use crate::mse;
use crate::peer::{CloseReason, LocalReason};
use crate::rng::{Rng, Seed};
use crate::time::{Instant, UnixTime};
use crate::torrent::choker::Choker;
use crate::torrent::picker::Order;
use crate::torrent::{AfterStop, Origin, Phase, Torrent, Upward};
use crate::tracker::client::Config as TrackersConfig;
use crate::tracker::ways::Family;

/// A BitTorrent client. See the [module](self); drive it as [`crate::machine`] says.
#[derive(Debug)]
pub struct Session {
    cx: Cx,
    streams: Streams,
    torrents: Slab<TorrentId, Torrent>,
    by_hash: BTreeMap<InfoHash, TorrentId>,
    /// By the marks that encrypted handshakes name them with.
    by_mark: Vec<([u8; 20], InfoHash)>,
    /// Private keys and padding of encrypted handshakes.
    mse: Rng,
    listeners: Slab<ListenerId, Listener>,
    trackers: Trackers,
    trackers_timer: TimerId,
    rates_timer: TimerId,
    udp: Udp,
    /// Some torrent has, or had, rate limits of its own.
    torrents_limited: bool,
    /// No torrent runs until somebody says so.
    paused: bool,
    shutting_down: bool,
    shut_down_told: bool,
}

#[derive(Debug)]
struct Listener {
    token: CommandToken,
}

impl Session {
    /// A session without torrents. `seed` is all the randomness it will ever have; `wall` is the
    /// time of day.
    pub fn new(config: Config, seed: Seed, now: Instant, wall: UnixTime) -> Self {
        let mut cx = Cx::new(config, seed, now, wall);
        Self {
            trackers: Trackers::new(
                TrackersConfig {
                    international_names: cx.config.international_names,
                    ..TrackersConfig::default()
                },
                &cx.config.user_agent,
                seed.stream("trackers", 0),
            ),
            trackers_timer: cx.timers.insert(TimerKey::Trackers),
            rates_timer: cx.timers.insert(TimerKey::Rates),
            udp: Udp::default(),
            streams: Streams::default(),
            torrents: Slab::new(),
            by_hash: BTreeMap::new(),
            by_mark: Vec::new(),
            mse: seed.stream("mse", 0),
            listeners: Slab::new(),
            torrents_limited: false,
            paused: cx.config.paused,
            shutting_down: false,
            shut_down_told: false,
            cx,
        }
    }

    /// Takes on a torrent, as [`Command::Add`] does, and returns its id.
    pub fn add_torrent(&mut self, now: Instant, add: AddTorrent) -> Result<TorrentId, AddError> {
        self.cx.clock.advance(now);
        if self.shutting_down {
            return Err(AddError::ShuttingDown);
        }
        let hashes = hashes_of(add.metainfo.0.info());
        if let Some(there) = hashes.iter().flatten().find(|hash| self.by_hash.contains_key(*hash)) {
            return Err(AddError::Duplicate(*there));
        }
        let id = self.torrents.next_key();
        let paused = add.paused;
        self.torrents_limited |= !add.limits.is_none();
        let torrent = Torrent::new(id, add, &mut self.cx);
        self.torrents.insert(torrent);
        self.register(id, hashes);
        if !paused {
            self.resume(id);
        }
        Ok(id)
    }

    /// Has a torrent be found by these, even if another one was so far.
    fn register(&mut self, id: TorrentId, hashes: [Option<InfoHash>; 2]) {
        for hash in hashes.into_iter().flatten() {
            if self.by_hash.insert(hash, id).is_none() {
                let mark = mse::torrent_mark(&hash);
                let at = self.by_mark.partition_point(|(other, _)| *other < mark);
                self.by_mark.insert(at, (mark, hash));
            }
        }
    }

    /// Peers have sent all of a torrent's `info`, and it is what its hash says.
    fn on_metadata(&mut self, id: TorrentId, bytes: Bytes) {
        let info = match Info::from_bytes(bytes) {
            Ok(info) => info,
            Err(error) => return self.give_up_metadata(id, AddError::Metainfo(error)),
        };
        // It may have another half, by which it is here already. Of two of which only a magnet link
        // was known, the one that is first to be more than that stays.
        let twin = hashes_of(&info).into_iter().flatten().find_map(|hash| {
            let other = *self.by_hash.get(&hash).filter(|other| **other != id)?;
            Some((hash, other))
        });
        let is_known = |id| self.metainfo(id).is_some_and(|metainfo| metainfo.info().is_known());
        match twin {
            Some((hash, other)) if is_known(other) => {
                return self.give_up_metadata(id, AddError::Duplicate(hash));
            }
            Some((hash, other)) => self.give_up_metadata(other, AddError::Duplicate(hash)),
            None => {}
        }
        self.register(id, hashes_of(&info));
        if let Some(torrent) = self.torrents.get_mut(id) {
            torrent.learn(info, &mut self.streams, &mut self.cx);
        }
        self.poll_announces(id);
    }

    /// What peers can tell of a torrent is of no use.
    fn give_up_metadata(&mut self, id: TorrentId, error: AddError) {
        self.cx.event(Event::MetadataFailed(id, error));
        self.pause(id);
    }

    /// What a torrent is, as far as that is known.
    pub fn metainfo(&self, id: TorrentId) -> Option<&Arc<Metainfo>> {
        Some(&self.torrents.get(id)?.metainfo)
    }

    /// All torrents as they are now, in the order of their ids.
    pub fn torrents(&self) -> impl Iterator<Item = TorrentSnapshot> + '_ {
        self.torrents.iter().map(|(_, torrent)| torrent.snapshot(&self.streams, &self.cx))
    }

    /// A torrent as it is now.
    pub fn torrent(&self, id: TorrentId) -> Option<TorrentSnapshot> {
        Some(self.torrents.get(id)?.snapshot(&self.streams, &self.cx))
    }

    /// The peers of a torrent that are through their handshake, as they are now.
    pub fn peers(&self, id: TorrentId) -> Vec<PeerSnapshot> {
        let torrent = self.torrents.get(id);
        torrent.map_or_else(Vec::new, |torrent| torrent.peer_snapshots(&self.streams, &self.cx))
    }

    /// The pieces of a torrent that are here and verified, one bit each, as a bitfield on the wire
    /// has them (BEP 3).
    pub fn pieces(&self, id: TorrentId) -> Option<Box<[u8]>> {
        Some(self.torrents.get(id)?.pieces_on_wire())
    }

    /// Counters since the session began, and what is in use now.
    pub fn stats(&self) -> Stats {
        Stats {
            stale_jobs: self.cx.jobs.stale(),
            clamped_deadlines: self.cx.timers.clamped(),
            clock_regressions: self.cx.clock.regressions(),
            peers: self.streams.peer_count(),
            peers_half_open: self.streams.connecting_count(),
            buffered_bytes: self.cx.memory.held(),
            ..self.cx.stats.clone()
        }
    }

    /// Hands a torrent's upload slots out by policies of one's own from the next round on: one for
    /// while we fetch, one for while we seed. Returns whether there is such a torrent. A trace does
    /// not hold this; set the same before a replay.
    pub fn set_chokers(
        &mut self,
        id: TorrentId,
        leeching: Box<dyn Choker>,
        seeding: Box<dyn Choker>,
    ) -> bool {
        let torrent = self.torrents.get_mut(id);
        torrent.map(|torrent| torrent.set_chokers(leeching, seeding)).is_some()
    }

    /// Begins a torrent's pieces in this order from now on. Returns whether there is such a
    /// torrent. A trace does not hold this; set the same before a replay.
    pub fn set_order(&mut self, id: TorrentId, order: Order) -> bool {
        let torrent = self.torrents.get_mut(id);
        torrent.map(|torrent| torrent.picker.set_order(order)).is_some()
    }

    /// Whether no torrent runs until [`Command::ResumeSession`].
    pub const fn is_paused(&self) -> bool {
        self.paused
    }

    /// What this session is set to.
    pub const fn config(&self) -> &Config {
        &self.cx.config
    }

    fn with_torrent(
        &mut self,
        id: TorrentId,
        act: impl FnOnce(&mut Torrent, &mut Streams, &mut Cx) -> Upward,
    ) {
        let Some(torrent) = self.torrents.get_mut(id) else { return };
        match act(torrent, &mut self.streams, &mut self.cx) {
            Upward::Nothing => {}
            Upward::Stopped => self.on_stopped(id),
            Upward::SharedEnough(limit) => {
                self.cx.event(Event::ShareLimitReached(id, limit));
                self.pause(id);
            }
        }
    }

    /// A torrent has stopped: told, saved, closed.
    fn on_stopped(&mut self, id: TorrentId) {
        let Some(torrent) = self.torrents.get_mut(id) else { return };
        if matches!(torrent.after_stop, AfterStop::Remove(_)) {
            torrent.forget(&mut self.cx);
            for hash in hashes_of(torrent.metainfo.info()).into_iter().flatten() {
                if self.by_hash.get(&hash) == Some(&id) {
                    self.by_hash.remove(&hash);
                    self.by_mark.retain(|(_, other)| *other != hash);
                }
            }
            self.torrents.remove(id);
            self.cx.event(Event::TorrentRemoved(id));
        } else {
            self.go_on(id);
        }
        self.check_shut_down();
    }

    /// Nobody wants a torrent to run any more.
    fn pause(&mut self, id: TorrentId) {
        if let Some(torrent) = self.torrents.get_mut(id) {
            torrent.again = false;
        }
        self.stop_torrent(id, AfterStop::Pause);
    }

    /// Somebody wants a torrent to run.
    fn resume(&mut self, id: TorrentId) {
        let Some(torrent) = self.torrents.get_mut(id) else { return };
        torrent.again = match &torrent.phase {
            Phase::Paused | Phase::Failed(_) => true,
            // A storage failure that is not told yet is to be seen before it is tried again.
            Phase::Stopping(_) => torrent.after_stop == AfterStop::Pause,
            Phase::Opening | Phase::Checking(_) | Phase::Running => false,
        };
        self.go_on(id);
    }

    /// Starts a torrent that is to run, if it may.
    fn go_on(&mut self, id: TorrentId) {
        if self.paused || self.shutting_down {
            return;
        }
        if let Some(torrent) = self.torrents.get_mut(id)
            && torrent.again
        {
            torrent.start(&mut self.cx);
        }
    }

    fn pause_session(&mut self) {
        self.paused = true;
        for id in self.torrents.keys().collect::<Vec<_>>() {
            let Some(torrent) = self.torrents.get_mut(id) else { continue };
            if matches!(torrent.phase, Phase::Opening | Phase::Checking(_) | Phase::Running) {
                torrent.again = true;
                self.stop_torrent(id, AfterStop::Pause);
            }
        }
    }

    fn resume_session(&mut self) {
        self.paused = false;
        for id in self.torrents.keys().collect::<Vec<_>>() {
            self.go_on(id);
        }
    }

    fn stop_torrent(&mut self, id: TorrentId, then: AfterStop) {
        // What is under way gives way to the last word; a last word is left alone.
        if self.torrents.get(id).is_some_and(Torrent::is_running) {
            self.cancel_announces(id);
        }
        self.with_torrent(id, |torrent, streams, cx| torrent.stop(then, streams, cx));
        self.poll_announces(id);
    }

    fn set_filter(&mut self, filter: IpFilter) {
        self.cx.filter = filter;
        let blocked = self.streams.iter_mut().filter_map(|(id, stream)| {
            let Kind::Peer(peer) = &stream.kind else { return None };
            let torrent = peer.torrent.and_then(|torrent| self.torrents.get(torrent));
            let filtered = torrent.is_none_or(|torrent| torrent.filtered);
            (filtered && self.cx.filter.blocks(peer.address.ip())).then_some(id)
        });
        for id in blocked.collect::<Vec<_>>() {
            self.close_peer(id, LocalReason::Filtered.into());
        }
    }

    fn shut_down(&mut self) {
        if self.shutting_down {
            return;
        }
        self.shutting_down = true;
        for listener in self.listeners.keys().collect::<Vec<_>>() {
            self.listeners.remove(listener);
            self.cx.out.push(Output::Unlisten(listener));
        }
        for id in self.torrents.keys().collect::<Vec<_>>() {
            self.stop_torrent(id, AfterStop::Pause);
        }
        for id in self.streams.strangers() {
            self.close_peer(id, LocalReason::TorrentStopped.into());
        }
        self.check_shut_down();
    }

    fn check_shut_down(&mut self) {
        let stopped = |torrent: &Torrent| matches!(torrent.phase, Phase::Paused | Phase::Failed(_));
        if self.shutting_down
            && !self.shut_down_told
            && self.trackers.is_empty()
            && self.torrents.iter().all(|(_, torrent)| stopped(torrent))
        {
            self.shut_down_told = true;
            self.cx.event(Event::ShutDown);
        }
    }

    fn listen(&mut self, token: CommandToken, address: SocketAddr) {
        let listener = self.listeners.insert(Listener { token });
        self.cx.out.push(Output::Listen(Listen { listener, address, tls: false }.into()));
        self.hear(address);
    }

    /// We listen there, or are about to.
    fn hear(&mut self, address: SocketAddr) {
        let mut heard = self.cx.heard;
        heard[Family::of(address.ip()) as usize] = true;
        self.set_heard(heard);
    }

    /// Peers may reach us over other families of addresses than before.
    fn set_heard(&mut self, heard: [bool; 2]) {
        let before = self.cx.is_dual_stack();
        self.cx.heard = heard;
        if self.cx.is_dual_stack() == before {
            return;
        }
        for id in self.torrents.keys().collect::<Vec<_>>() {
            if let Some(torrent) = self.torrents.get_mut(id) {
                torrent.set_ways(&self.cx);
            }
            self.poll_announces(id);
        }
    }

    /// Closes a peer connection, for this reason.
    fn close_peer(&mut self, id: StreamId, reason: CloseReason) {
        let Some(peer) = self.streams.peer(id) else { return };
        let (address, torrent) = (peer.address, peer.torrent);
        if let Some(torrent) = torrent.and_then(|torrent| self.torrents.get_mut(torrent)) {
            torrent.close_peer(id, reason, &mut self.streams, &mut self.cx);
        } else {
            self.streams.close(id, crate::machine::Shutdown::Abort, &mut self.cx);
            self.cx.event(Event::PeerClosed { torrent: None, address, reason });
        }
    }
}

/// The hashes by which a torrent is found: both halves of a hybrid one are the same.
fn hashes_of(info: &Info) -> [Option<InfoHash>; 2] {
    [info.info_hash(), info.swarm_hash_v2()]
}

impl Application for Session {
    type Command = Command;
    type Event = Event;

    fn handle_command(&mut self, now: Instant, command: Command) {
        let now = self.cx.clock.advance(now);
        match command {
            Command::Listen(token, address) => self.listen(token, address),
            Command::Add(token, add) => {
                let event = match self.add_torrent(now, *add) {
                    Ok(id) => Event::TorrentAdded(token, id),
                    Err(error) => Event::AddFailed(token, error),
                };
                self.cx.event(event);
            }
            Command::Pause(id) => self.pause(id),
            Command::Resume(id) => self.resume(id),
            Command::Remove(id, files) => self.stop_torrent(id, AfterStop::Remove(files)),
            Command::AddPeers(id, peers) => {
                if let Some(torrent) = self.torrents.get_mut(id) {
                    torrent.add_addresses(peers, Origin::Embedder, &mut self.cx);
                }
            }
            Command::Announce(id) => {
                if let Some(torrent) = self.torrents.get_mut(id) {
                    torrent.trackers.reannounce(now);
                    torrent.arm(&mut self.cx);
                }
            }
            Command::SetLimits(limits) => {
                self.streams.note_all_fetching(&mut self.cx.out);
                self.cx.gate.set(now, limits);
                self.grant_rates();
            }
            Command::SetTorrentLimits(id, limits) => {
                self.torrents_limited |= !limits.is_none();
                if let Some(torrent) = self.torrents.get_mut(id) {
                    torrent.set_limits(limits, &mut self.streams, &mut self.cx);
                }
            }
            Command::SetPriorities(id, files) => {
                if let Some(torrent) = self.torrents.get_mut(id) {
                    torrent.set_priorities(files, &mut self.streams, &mut self.cx);
                }
            }
            Command::SetSequential(id, sequential) => {
                if let Some(torrent) = self.torrents.get_mut(id) {
                    torrent.set_sequential(sequential);
                }
            }
            Command::SetShareLimits(id, limits) => {
                if let Some(torrent) = self.torrents.get_mut(id) {
                    torrent.set_share_limits(limits, &mut self.cx);
                }
            }
            Command::ShutDown => self.shut_down(),
            Command::ReplaceTrackers(id, tiers) => {
                if let Some(torrent) = self.torrents.get_mut(id) {
                    torrent.replace_trackers(&tiers, &mut self.cx);
                }
            }
            Command::PauseSession => self.pause_session(),
            Command::ResumeSession => self.resume_session(),
            Command::AnnounceTo(id, url) => {
                if let Some(torrent) = self.torrents.get_mut(id) {
                    torrent.trackers.reannounce_to(now, &url);
                    torrent.arm(&mut self.cx);
                }
            }
            Command::Scrape(id) => self.scrape(id),
            Command::SetIpFilter(filter) => self.set_filter(filter),
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.cx.pop_event()
    }
}
