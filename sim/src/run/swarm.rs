//! The carrying out: hosts come and go, things go wrong and are mended, and every step is looked
//! at.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use teem_core::ids::{CommandToken, TorrentId};
use teem_core::machine::JobErrorKind;
use teem_core::metainfo::Metainfo;
use teem_core::rng::{Rng, Seed};
use teem_core::session::{AddTorrent, Command, Event, Session, TorrentState};
use teem_core::time::Duration;
use teem_core::torrent::choker::RoundRobin;
use teem_core::torrent::picker::{BLOCK_LEN, Candidate, Order, PieceOrder};
use teem_core::torrent::resume::resume_name;
use teem_core::tracker::server;

use super::bound::{behind_nats, bound};
use super::check::{Checks, Failure};
use super::nats::Homes;
use super::plan::{Choking, Family, Fault, Leaves, PickOrder, Plan, Preload, Role};
use super::record::{Recorder, Recording};
use super::{Capturing, Observer, Outcome, Summary};
use crate::actors::{AnnounceLog, Attacker, LyingTracker, Setup};
use crate::capture::{Capture, Captured};
use crate::net::{HostId, Net, NetConfig, Skew, Stuck};
use crate::packet::tcp;
use crate::splitmix::{GOLDEN, SplitMix64, mix};
use crate::storage::{self, Crash};
use crate::swarm::{Node, PORT, folder, ip, state, torrent_as};
use crate::time::Nanos;

/// Events between two recounts.
const RECOUNT_EVERY: u64 = 1_000_000;

/// The port that trackers listen on.
const TRACKER_PORT: u16 = 6969;

/// Something to do at a time.
#[derive(Clone, Copy, Debug)]
enum Act {
    Arrive(HostId),
    Leave(HostId),
    Fault(Fault),
    HealAll,
}

/// A run under way.
#[derive(Debug)]
pub(super) struct Run {
    plan: Plan,
    net: Net<Node>,
    seed: Seed,
    metainfo: Arc<Metainfo>,
    content: Bytes,
    key: String,
    peers: Vec<Peer>,
    homes: Homes,
    trackers: Vec<SocketAddr>,
    /// What is to be done, by time and in order.
    acts: BTreeMap<(Nanos, u64), Act>,
    scheduled: u64,
    checks: Checks,
    recounted: u64,
    blocks: u64,
    /// Honest clients that are to come, or are here and not complete.
    lacking: usize,
    moves: u32,
    last_complete: Nanos,
    /// The observer has seen enough, or there were too many events.
    stopped: bool,
    /// Writes down how it goes, if somebody asked for that.
    recorder: Option<Box<Recorder>>,
    recording: Option<Box<Recording>>,
    /// After so many events the run ends.
    events_max: u64,
}

#[derive(Debug, Default)]
struct Peer {
    /// It came.
    came: bool,
    /// It left for good.
    left: bool,
    /// It was complete once.
    complete: bool,
    incarnation: u64,
    torrent: Option<TorrentId>,
    ip: Option<IpAddr>,
    /// Its disk puts writes in the wrong place, or did, and nobody has looked yet.
    misdirects: bool,
    /// Its clocks are wrong.
    is_skewed: bool,
    /// Faults of its disk that were counted, by [`DISK_FAMILIES`].
    counted: [u64; DISK_FAMILIES.len()],
}

/// Families that disks count.
const DISK_FAMILIES: [(Family, storage::Fault); 4] = [
    (Family::DiskErrors, storage::Fault::Error),
    (Family::DiskErrors, storage::Fault::Nth),
    (Family::DiskSlow, storage::Fault::Slow),
    (Family::MisdirectedWrites, storage::Fault::MisdirectedWrite),
];

impl Run {
    pub(super) fn new(mut plan: Plan) -> Self {
        plan.faults.sort_by_key(|(at, _)| *at);
        let seed = Seed::from_number(plan.seed);
        let mut content = vec![0; plan.content_len as usize];
        fill(&mut content, seed);
        let content = Bytes::from(content);
        let metainfo = torrent_as(&content, plan.piece_len, plan.format);
        let key = metainfo.info().swarm_hash().to_string();
        let config = NetConfig { fidelity: plan.fidelity, between: plan.between, seed };
        let mut net = Net::with(config);
        let content_id = net.library_mut().add(&key, content.clone());
        for curve in std::mem::take(&mut plan.curves) {
            net.topology_mut().add_curve(curve);
        }
        net.set_tcp(tcp::Config { algorithm: plan.tcp, ..tcp::Config::DEFAULT });
        for line in &plan.lines {
            net.topology_mut().add_line(*line);
        }
        for (one, other, distance) in &plan.distances {
            net.topology_mut().set_distance(*one, *other, *distance);
        }
        let homes = Homes::new(&plan, &mut net);
        let mut run = Self {
            homes,
            checks: Checks::new(&plan, content_id, &key),
            peers: plan.hosts.iter().map(|_| Peer::default()).collect(),
            trackers: Vec::new(),
            acts: BTreeMap::new(),
            scheduled: 0,
            recounted: 0,
            blocks: 0,
            lacking: 0,
            moves: 0,
            last_complete: Nanos::ZERO,
            stopped: false,
            recorder: None,
            recording: None,
            events_max: u64::MAX,
            net,
            seed,
            metainfo,
            content,
            key,
            plan,
        };
        run.place_hosts();
        for at in 0..run.plan.faults.len() {
            let (at, fault) = run.plan.faults[at];
            run.schedule(at, Act::Fault(fault));
        }
        run.schedule(run.plan.healed_at, Act::HealAll);
        run
    }

    /// Ends after so many events.
    pub(super) const fn at_most(mut self, events_max: u64) -> Self {
        self.events_max = events_max;
        self
    }

    /// A place on the network for everybody, and on the agenda for their coming and going.
    fn place_hosts(&mut self) {
        for host in 0..self.plan.hosts.len() {
            let planned = &self.plan.hosts[host];
            let (arrives, role, preload) = (planned.arrives, planned.role, planned.preload);
            if let Leaves::At(at) = planned.leaves {
                self.schedule(at, Act::Leave(host));
            }
            let planned = &self.plan.hosts[host];
            self.net.add_absent(ip(host), planned.access);
            self.net.disk_mut(host).set_profile(planned.disk);
            if planned.clock != Skew::NONE {
                self.net.set_clock(host, planned.clock);
                self.peers[host].is_skewed = true;
            }
            if role == Role::Nobody {
                continue;
            }
            self.homes.put(&self.plan, &mut self.net, host);
            self.is_seen_at(host, &self.public_ips(host));
            self.schedule(arrives, Act::Arrive(host));
            match role {
                Role::Peer => {
                    self.net.mark_blocks(host);
                    self.preload(host, preload);
                    self.lacking += usize::from(preload != Preload::Everything);
                }
                Role::Tracker | Role::LyingTracker(_) => {
                    self.trackers.push(SocketAddr::new(ip(host), TRACKER_PORT));
                }
                Role::Attacker(_) | Role::Nobody => {}
            }
        }
    }

    fn preload(&mut self, host: HostId, preload: Preload) {
        let (disk, library) = self.net.disk_and_library(host);
        let mut pieces = Vec::new();
        match preload {
            Preload::Nothing => return,
            Preload::Everything => disk.preload_true(&folder(), &self.key, library),
            Preload::Part(thousandths) => {
                let piece_len = self.plan.piece_len as usize;
                let mut rng = self.seed.stream("preload", host as u64);
                let mut bytes = vec![0; self.content.len()];
                for (piece, part) in self.content.chunks(piece_len).enumerate() {
                    if rng.below(1_000) < u32::from(thousandths) {
                        pieces.push(piece as u32);
                        let start = piece * piece_len;
                        bytes[start..start + part.len()].copy_from_slice(part);
                    }
                }
                disk.preload(&folder(), &self.key, &bytes, library);
            }
        }
        self.checks.preloaded(host, preload, &pieces);
    }

    /// Where a host is seen.
    fn public_ips(&self, host: HostId) -> Vec<IpAddr> {
        match self.homes.of(host) {
            Some(nat) => self.homes.outside(&self.plan, &self.net, nat),
            None => vec![ip(host)],
        }
    }

    /// A host is seen at these addresses from now on, and others are told the first of them.
    fn is_seen_at(&mut self, host: HostId, ips: &[IpAddr]) {
        self.peers[host].ip = ips.first().copied();
        let shared = self.homes.of(host);
        let shared = shared.is_some_and(|nat| self.homes.has_attacker(&self.plan, nat));
        for ip in ips {
            if self.plan.hosts[host].role == Role::Peer {
                self.checks.is_at(host, *ip);
            }
            // Whoever bans an attacker bans those who share its address.
            if shared || self.peers[host].misdirects {
                self.checks.excuse(*ip);
            }
        }
    }

    fn schedule(&mut self, at: Nanos, act: Act) {
        self.scheduled += 1;
        self.acts.insert((at, self.scheduled), act);
    }

    /// Writes down how it goes, from the beginning.
    pub(super) fn record(&mut self) {
        let bound = bound(&self.plan);
        self.recorder = Some(Box::new(Recorder::new(&self.plan, bound)));
    }

    /// How it went, if that was written down and it is over.
    pub(super) fn take_recording(&mut self) -> Option<Recording> {
        self.recording.take().map(|recording| *recording)
    }

    /// Has hosts captured, from the beginning.
    pub(super) fn capture(&mut self, capturing: Capturing) {
        let plan = &self.plan;
        let comment = format!(
            "scenario {}, seed {}, fidelity {}: TCP segments are made up from streams",
            plan.scenario,
            plan.seed,
            plan.fidelity.name()
        );
        let mut capture = Capture::new(capturing.to, &comment);
        for host in capturing.hosts {
            let Some(planned) = plan.hosts.get(host) else { continue };
            let description = match planned.role {
                Role::Peer if planned.preload == Preload::Everything => "seeder".into(),
                Role::Peer => "leecher".into(),
                Role::Tracker => "tracker".into(),
                Role::LyingTracker(lie) => format!("tracker that lies: {lie:?}"),
                Role::Attacker(kind) => format!("attacker: {kind:?}"),
                Role::Nobody => continue,
            };
            capture.add_host(host, ip(host), &description);
        }
        self.net.capture(capture);
    }

    /// Ends the capture, if there is one.
    pub(super) fn finish_capture(&mut self) -> Option<io::Result<Captured>> {
        self.net.finish_capture()
    }

    pub(super) fn finish(&mut self, mut observer: Option<&mut dyn Observer>) -> Outcome {
        if observer.is_some() {
            self.net.keep_log();
        }
        let bound = bound(&self.plan);
        let hosts = || self.plan.hosts.iter().filter(|host| host.role != Role::Nobody);
        let last_arrival = hosts().map(|host| host.arrives).max();
        let begins = last_arrival.unwrap_or(Nanos::ZERO);
        let allowed = bound * u32::try_from(self.plan.bound_permille / 10).unwrap_or(u32::MAX)
            / 100
            + self.plan.slack;
        let limit = self.plan.ends_at.unwrap_or_else(|| begins.max(self.plan.healed_at) + allowed);
        if let Err(stuck) = self.run_until(limit, &mut observer) {
            self.checks.fail(stuck.into());
            // What led to it is what somebody looks on for.
            if let Some(observer) = &mut observer {
                let _ =
                    self.net.take_log().iter().try_for_each(|logged| observer.on_logged(logged));
            }
        }
        if self.stopped {
            self.checks.recount(&self.net);
        } else if !self.checks.has_failed() {
            self.judge_end(limit.since(begins));
        }
        let failures = self.checks.take_failures();
        if let Some(recorder) = self.recorder.take() {
            self.recording = Some(Box::new(recorder.finish(&self.net, &failures)));
        }
        let counters = *self.net.counters();
        let honest = self.plan.hosts.iter().filter(|host| host.role == Role::Peer).count();
        let complete = self.peers.iter().filter(|peer| peer.complete).count();
        let took =
            if complete == honest { self.last_complete.since(begins) } else { Duration::ZERO };
        for host in 0..self.peers.len() {
            self.count_blocks(host);
        }
        let summary = Summary {
            scenario: self.plan.scenario.clone(),
            seed: self.plan.seed,
            fidelity: self.plan.fidelity.name(),
            digest: format!("{:016x}", self.net.digest()),
            hosts: self.plan.hosts.iter().filter(|host| host.role != Role::Nobody).count(),
            honest,
            behind_nats: behind_nats(&self.plan),
            complete,
            events: counters.events,
            timeouts: counters.timeouts,
            blocks: self.blocks,
            connections: counters.dials,
            delivered_bytes: counters.delivered_bytes,
            lost_bytes: counters.lost_bytes,
            virtual_s: self.net.nanos().since(Nanos::ZERO).as_secs_f64(),
            took_s: took.as_secs_f64(),
            bound_s: bound.as_secs_f64(),
            over_bound: if bound.is_zero() {
                0.0
            } else {
                took.as_secs_f64() / bound.as_secs_f64()
            },
            wall_s: 0.0,
            peak_rss_bytes: 0,
            fired: self.checks.fired.clone(),
            stopped: self.stopped,
            failed: !failures.is_empty(),
            failures: failures.iter().map(ToString::to_string).collect(),
        };
        let host_digests = (0..self.net.len()).map(|host| self.net.host_digest(host)).collect();
        Outcome { summary, failures, host_digests }
    }

    /// Runs to the limit, or until everybody has everything and nothing is to come.
    fn run_until(
        &mut self,
        limit: Nanos,
        observer: &mut Option<&mut dyn Observer>,
    ) -> Result<(), Stuck> {
        let mut recent = Vec::new();
        loop {
            let now = self.net.nanos();
            while let Some(first) = self.acts.first_entry()
                && first.key().0 <= now
            {
                let act = first.remove();
                self.act(act)?;
            }
            self.net.settle()?;
            if let Some(observer) = observer {
                for logged in self.net.take_log() {
                    if observer.on_logged(&logged).is_break() {
                        self.stopped = true;
                        return Ok(());
                    }
                }
            }
            self.net.take_recent(&mut recent);
            for host in &recent {
                self.look_at(*host);
            }
            if self.net.counters().events - self.recounted >= RECOUNT_EVERY {
                self.recounted = self.net.counters().events;
                self.checks.recount(&self.net);
            }
            if self.is_over() || self.checks.has_failed() {
                return Ok(());
            }
            if self.net.counters().events > self.events_max {
                self.stopped = true;
                return Ok(());
            }
            let next = self.acts.first_key_value().map_or(limit, |((at, _), _)| (*at).min(limit));
            if let Some(recorder) = &mut self.recorder {
                let until = self.net.next().map_or(next, |at| at.min(next));
                recorder.sample_until(until, &self.net, |ip| self.checks.host_at(ip));
            }
            // What happens at the very time of an act comes before it.
            if !self.net.step_within(next)? && next >= limit {
                return Ok(());
            }
        }
    }

    fn is_over(&self) -> bool {
        self.plan.ends_at.is_none() && self.lacking == 0 && self.net.nanos() >= self.plan.healed_at
    }

    /// Something happened to a host: hears what it tells, and checks it.
    fn look_at(&mut self, host: HostId) {
        if !self.net.is_up(host) || self.peers[host].torrent.is_none() {
            return;
        }
        while let Some(event) = self.net.poll_event(host) {
            self.checks.on_event(host, &event, &self.net);
            if let Some(recorder) = &mut self.recorder {
                recorder.on_event(self.net.nanos(), host, &event, &self.net);
            }
            match event {
                Event::TorrentFinished(_) => self.completed(host),
                Event::TorrentReady(id) => {
                    let session = self.net.machine(host).session();
                    let torrent = session.and_then(|session| session.torrent(id));
                    if torrent.is_some_and(|torrent| torrent.left_bytes == 0) {
                        self.completed(host);
                    }
                }
                _ => {}
            }
        }
        let Some(session) = self.net.machine(host).session() else { return };
        self.checks.look(host, session, &self.net);
    }

    fn completed(&mut self, host: HostId) {
        let peer = &mut self.peers[host];
        if peer.complete {
            return;
        }
        peer.complete = true;
        if let Some(recorder) = &mut self.recorder {
            recorder.on_complete(self.net.nanos(), host);
        }
        if self.plan.hosts[host].preload != Preload::Everything {
            self.lacking -= 1;
            self.last_complete = self.net.nanos();
        }
        if let Leaves::Complete(after) = self.plan.hosts[host].leaves {
            self.schedule(self.net.nanos() + after, Act::Leave(host));
        }
    }

    // What is done at a time.

    fn act(&mut self, act: Act) -> Result<(), Stuck> {
        match act {
            Act::Arrive(host) => self.start(host),
            Act::Leave(host) => self.leave(host),
            Act::Fault(fault) => return self.fault(fault),
            Act::HealAll => return self.heal_all(),
        }
        Ok(())
    }

    fn start(&mut self, host: HostId) {
        let is_nobody = self.plan.hosts[host].role == Role::Nobody;
        if self.net.is_up(host) || self.peers[host].left || is_nobody {
            return;
        }
        self.peers[host].came = true;
        if let Some(recorder) = &mut self.recorder {
            recorder.on_up(self.net.nanos(), host);
        }
        self.peers[host].incarnation += 1;
        self.checks.fire(Family::ClockSkew, u64::from(self.peers[host].is_skewed));
        let number = (host as u64) << 16 | self.peers[host].incarnation;
        let mut bytes = [0; 32];
        self.seed.stream("host", number).fill(&mut bytes);
        let seed = Seed(bytes);
        match self.plan.hosts[host].role {
            Role::Peer => self.start_peer(host, seed),
            Role::Tracker => {
                let listen = SocketAddr::new(ip(host), TRACKER_PORT);
                let log = AnnounceLog::new(listen, server::Config::default(), &seed);
                self.net.restart(host, Node::Actor(Box::new(log)));
            }
            Role::LyingTracker(lie) => {
                let listen = SocketAddr::new(ip(host), TRACKER_PORT);
                let liar = LyingTracker::new(listen, &[lie], &seed);
                self.net.restart(host, Node::Actor(Box::new(liar)));
            }
            Role::Attacker(kind) => {
                let mut rng = self.seed.stream("targets", number);
                let any = IpAddr::from([0, 0, 0, 0]);
                let listens_at = if self.homes.of(host).is_some() { any } else { ip(host) };
                let setup = Setup {
                    seed,
                    metainfo: Arc::clone(&self.metainfo),
                    content: self.content.clone(),
                    listen: Some(SocketAddr::new(listens_at, PORT)),
                    targets: self.choose_peers(host, &mut rng),
                };
                self.net.restart(host, Node::Actor(Box::new(kind.attacker(&setup))));
            }
            Role::Nobody => {}
        }
    }

    fn start_peer(&mut self, host: HostId, seed: Seed) {
        let planned = &self.plan.hosts[host];
        let now = self.net.local(host);
        let mut config = planned.config.clone();
        // With one there is no choice; of several, some may lie.
        config.announce_to_all_tiers |= self.trackers.len() > 1;
        let mut session = Session::new(config, seed, now, self.net.wall(host));
        let any = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), PORT);
        teem_core::machine::Application::handle_command(
            &mut session,
            now,
            Command::Listen(CommandToken(0), any),
        );
        let mut add = AddTorrent::new(Arc::clone(&self.metainfo), folder());
        add.state = Some(state());
        let name = resume_name(self.metainfo.info().swarm_hash());
        add.resume = self.net.disk(host).saved(&state(), &name).cloned();
        add.trackers = self.trackers.iter().map(|at| format!("http://{at}/announce")).collect();
        let number = (host as u64) << 16 | self.peers[host].incarnation;
        let mut rng = self.seed.stream("introductions", number);
        add.peers = self.choose_peers(host, &mut rng);
        let torrent =
            session.add_torrent(now, add).expect("a sound torrent, the first of its kind");
        match planned.order {
            PickOrder::RarestFirst => {}
            PickOrder::Sequential => drop(session.set_order(torrent, Order::Sequential)),
            PickOrder::Random => {
                let salt = rng.next_u64();
                session.set_order(torrent, Order::Custom(Box::new(Shuffled(salt))));
            }
        }
        if let Choking::RoundRobin(quota) = planned.choking {
            let choker = |label| Box::new(RoundRobin::new(quota, seed.stream(label, 0)));
            session.set_chokers(torrent, choker("leeching"), choker("seeding"));
        }
        self.peers[host].torrent = Some(torrent);
        self.checks.starts(host);
        self.net.restart(host, Node::Session(session.into()));
    }

    /// Whom a host is told of: half the degree of those that are here, as calls go both ways. Each
    /// has a number of its own for that, so that one who is not there leaves the others.
    fn choose_peers(&self, host: HostId, rng: &mut Rng) -> Vec<SocketAddr> {
        let now = self.net.nanos();
        let salt = rng.next_u64();
        let mut there: Vec<(u64, HostId)> = (0..self.plan.hosts.len())
            .filter(|other| {
                let planned = &self.plan.hosts[*other];
                *other != host
                    && matches!(planned.role, Role::Peer | Role::Attacker(_))
                    && planned.arrives <= now
                    && !self.peers[*other].left
            })
            .map(|other| (mix(salt ^ (other as u64).wrapping_mul(GOLDEN)), other))
            .collect();
        let wanted = self.plan.degree.div_ceil(2).min(there.len());
        if wanted < there.len() {
            there.select_nth_unstable(wanted);
            there.truncate(wanted);
        }
        there.sort_unstable();
        there
            .iter()
            .filter_map(|(_, other)| self.peers[*other].ip)
            .map(|ip| SocketAddr::new(ip, PORT))
            .collect()
    }

    /// What a client has taken goes into the sum before the client is gone.
    fn count_blocks(&mut self, host: HostId) {
        if self.net.is_up(host)
            && let Some(session) = self.net.machine(host).session()
        {
            self.blocks += session.stats().downloaded_bytes.div_ceil(u64::from(BLOCK_LEN));
        }
    }

    fn leave(&mut self, host: HostId) {
        if std::mem::replace(&mut self.peers[host].left, true) {
            return;
        }
        self.count_blocks(host);
        if self.net.crash(host, Crash::Process).is_some() {
            self.checks.fire(Family::Churn, 1);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.on_left(self.net.nanos(), host, &self.plan.hosts[host]);
        }
        let planned = &self.plan.hosts[host];
        let lacks = planned.role == Role::Peer
            && planned.preload != Preload::Everything
            && !self.peers[host].complete;
        self.lacking -= usize::from(lacks);
    }

    fn fault(&mut self, fault: Fault) -> Result<(), Stuck> {
        if let Some(recorder) = &mut self.recorder {
            recorder.on_fault(self.net.nanos(), &fault, &self.plan, &self.net);
        }
        match fault {
            Fault::Crash(host, how) => {
                self.count_blocks(host);
                if self.net.crash(host, how).is_some() {
                    self.record_down(host);
                    let family = match how {
                        Crash::Process => Family::Crash,
                        Crash::Power => Family::Power,
                    };
                    self.checks.fire(family, 1);
                }
            }
            Fault::Restart(host) => {
                if self.peers[host].came {
                    self.start(host);
                }
            }
            Fault::Pause(host) => {
                self.checks.fire(Family::Pause, u64::from(self.net.is_up(host)));
                self.net.pause(host);
            }
            Fault::Resume(host) => return self.net.resume(host),
            Fault::Cut(from, to) => self.net.cut(from, to),
            Fault::Heal => self.net.heal(),
            Fault::Move(host) => {
                self.change_address(host);
                self.checks.fire(Family::Move, 1);
            }
            Fault::Access(host, access) => {
                let usual = self.plan.hosts[host].access;
                let is_slower = |now: Option<u64>, usual: Option<u64>| {
                    now.is_some_and(|now| usual.is_none_or(|usual| now < usual))
                };
                let slow = is_slower(access.up_bytes_per_s, usual.up_bytes_per_s)
                    || is_slower(access.down_bytes_per_s, usual.down_bytes_per_s);
                self.checks.fire(Family::SlowLinks, u64::from(slow));
                self.checks.fire(Family::Loss, u64::from(access.loss_ppm > usual.loss_ppm));
                self.net.set_access(host, access);
            }
            Fault::DiskErrors(host, kind, ppm) => {
                self.net.disk_mut(host).faults_mut().fail(kind, ppm);
            }
            Fault::DiskErrorAt(host, kind, n) => {
                self.net.disk_mut(host).faults_mut().fail_nth(kind, n, JobErrorKind::Io);
            }
            Fault::DiskRoom(host, room) => self.net.disk_mut(host).set_room(room),
            Fault::DiskSlow(host, times, until) => {
                let now = self.net.nanos();
                self.net.disk_mut(host).faults_mut().slow_between(now, until, times);
            }
            Fault::DiskHeals(host) => self.heal_disk(host),
            Fault::RestartTorrent(host) => self.restart_torrent(host),
            Fault::DiskMisdirects(host, ppm) => {
                self.net.disk_mut(host).faults_mut().misdirect_writes(ppm);
                self.peers[host].misdirects = true;
                self.checks.doubt(host, true);
                if let Some(ip) = self.peers[host].ip {
                    self.checks.excuse(ip);
                }
            }
            Fault::Recheck(host) => self.recheck(host),
            Fault::Clock(host, skew) => {
                let is_skewed = skew != Skew::NONE;
                self.net.set_clock(host, skew);
                self.peers[host].is_skewed = is_skewed;
                let fired = is_skewed && self.net.is_up(host);
                self.checks.fire(Family::ClockSkew, u64::from(fired));
            }
        }
        Ok(())
    }

    /// Has everything on a host's disk looked at.
    fn recheck(&mut self, host: HostId) {
        self.peers[host].misdirects = false;
        self.checks.doubt(host, false);
        if self.peers[host].left {
            return;
        }
        self.count_blocks(host);
        let was_up = self.net.crash(host, Crash::Process).is_some();
        if was_up {
            self.record_down(host);
        }
        let name = resume_name(self.metainfo.info().swarm_hash());
        self.net.disk_mut(host).set_saved(&state(), &name, None);
        self.change_address(host);
        // What it took for complete may not be.
        let fetches = self.plan.hosts[host].preload != Preload::Everything;
        let was_complete = std::mem::take(&mut self.peers[host].complete);
        self.lacking += usize::from(was_complete && fetches);
        if let Some(recorder) = &mut self.recorder {
            recorder.on_recheck(host);
        }
        if was_up {
            self.start(host);
        }
    }

    fn record_down(&mut self, host: HostId) {
        if let Some(recorder) = &mut self.recorder {
            recorder.on_down(self.net.nanos(), host);
        }
    }

    fn change_address(&mut self, host: HostId) {
        if let Some(nat) = self.homes.of(host) {
            // The NAT is who moves, with all who are behind it.
            self.homes.renumber(&self.plan, &mut self.net, nat);
            for host in self.plan.nats[nat].hosts.clone() {
                self.is_seen_at(host, &self.public_ips(host));
            }
            return;
        }
        self.moves += 1;
        let [_, _, high, low] = self.moves.to_be_bytes();
        let ip = IpAddr::from([11, 0, high, low]);
        self.is_seen_at(host, &[ip]);
        self.net.set_address(host, ip);
    }

    fn heal_disk(&mut self, host: HostId) {
        let disk = self.net.disk_mut(host);
        disk.set_room(None);
        let Some(faults) = disk.faults() else { return };
        let fired = DISK_FAMILIES.map(|(_, fault)| faults.fired(fault));
        disk.faults_mut().heal();
        let before = std::mem::replace(&mut self.peers[host].counted, fired);
        for ((family, _), (fired, before)) in DISK_FAMILIES.iter().zip(fired.iter().zip(before)) {
            self.checks.fire(*family, fired - before);
        }
    }

    fn restart_torrent(&mut self, host: HostId) {
        let Some(torrent) = self.peers[host].torrent else { return };
        if !self.net.is_up(host) {
            return;
        }
        let session = self.net.machine(host).session();
        let state = session.and_then(|session| session.torrent(torrent)).map(|found| found.state);
        if matches!(state, Some(TorrentState::Failed(_))) {
            self.net.handle_command(host, Command::Resume(torrent));
        }
    }

    /// The second phase begins: nothing is wrong any more.
    fn heal_all(&mut self) -> Result<(), Stuck> {
        if let Some(recorder) = &mut self.recorder {
            recorder.on_healed(self.net.nanos());
        }
        self.net.heal();
        for host in 0..self.peers.len() {
            self.heal_disk(host);
            self.net.resume(host)?;
            if self.peers[host].came && !self.peers[host].left {
                self.start(host);
            }
            self.restart_torrent(host);
        }
        self.checks.fire(Family::Partition, self.net.counters().cut);
        if self.plan.families.contains(&Family::Loss) {
            let lossy = self.plan.hosts.iter().filter(|host| host.access.loss_ppm > 0).count();
            self.checks.fire(Family::Loss, lossy as u64);
        }
        Ok(())
    }

    // The end.

    fn judge_end(&mut self, after: Duration) {
        if self.plan.ends_at.is_none() {
            self.find_incomplete(after);
        }
        self.checks.finish(&self.net);
        self.judge_actors();
        for family in std::mem::take(&mut self.plan.families) {
            if !self.checks.fired.contains_key(family.name()) {
                self.checks.fail(Failure::NeverFired(family));
            }
        }
    }

    fn find_incomplete(&mut self, after: Duration) {
        for host in 0..self.peers.len() {
            let planned = &self.plan.hosts[host];
            let peer = &self.peers[host];
            if planned.role != Role::Peer || peer.complete || peer.left {
                continue;
            }
            let session = self.net.is_up(host).then(|| self.net.machine(host).session()).flatten();
            let torrent = session.and_then(|session| session.torrent(peer.torrent?));
            let failure = match torrent {
                Some(torrent) => Failure::Incomplete {
                    host,
                    have: torrent.have_pieces,
                    pieces: torrent.pieces,
                    after,
                    state: format!(
                        "{:?}, waits for {:?}, {} peers",
                        torrent.state, torrent.waits_for, torrent.peers
                    ),
                },
                None => {
                    Failure::Incomplete { host, have: 0, pieces: 0, after, state: "down".into() }
                }
            };
            self.checks.fail(failure);
        }
    }

    fn judge_actors(&mut self) {
        for host in 0..self.peers.len() {
            if !self.net.is_up(host) {
                continue;
            }
            let node = self.net.machine(host);
            if let Some(log) = node.actor::<AnnounceLog>() {
                let violations: Vec<_> =
                    log.violations().iter().map(|violation| format!("{violation:?}")).collect();
                for what in violations {
                    self.checks.fail(Failure::Announce { host, what });
                }
            } else if let Some(liar) = node.actor::<LyingTracker>() {
                let told = liar.told().len() as u64;
                self.checks.fire(Family::LyingTrackers, told);
            } else if let Some(attacker) = node.actor::<Attacker>() {
                let fired = attacker.counters().fired;
                self.checks.fire(Family::Attackers, fired);
            }
        }
    }
}

/// Random bytes, cheaply: the content of a large torrent is most of the time that a small run takes.
fn fill(bytes: &mut [u8], seed: Seed) {
    let mut words = SplitMix64(seed.stream("content", 0).next_u64() | 1);
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&words.next_word().to_le_bytes()[..chunk.len()]);
    }
}

/// Each client's own order, whatever others have.
#[derive(Debug)]
struct Shuffled(u64);

impl PieceOrder for Shuffled {
    fn rank(&self, candidate: Candidate) -> u64 {
        let word = (self.0 ^ u64::from(candidate.piece.0)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }
}
