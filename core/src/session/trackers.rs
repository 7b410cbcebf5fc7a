//! Announces: from a torrent's list to a tracker and back.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;

use super::cx::{Cx, JobOwner};
use super::streams::{Kind, Streams};
use super::{Event, Session};
use crate::http::url::Scope;
use crate::ids::{JobId, SocketId, StreamId, TorrentId};
use crate::machine::{
    Bind, Connect, Datagram, Job, JobResult, Output, Shutdown, SocketInput, StreamInput, Transmit,
    TransmitLimit,
};
use crate::time::Instant;
use crate::torrent::Torrent;
use crate::tracker::announce::{AnnounceError, AnnounceEvent, AnnounceResponse};
use crate::tracker::client::{Client, Net, Options, Upward};
use crate::tracker::tiers::{Facts, TrackerId};
use crate::tracker::udp::Counts;
use crate::tracker::ways::{ListId, Way};

/// Which tracker of which torrent is asked.
type Token = (TorrentId, ListId, TrackerId);

pub(super) type Trackers = Client<Token>;

/// Peers that a tracker is asked for.
const PEERS_WANTED: u32 = 100;

/// Datagrams that wait for a socket; more are dropped, and asked again like lost ones.
const DATAGRAMS_MAX: usize = 256;

/// The sockets that UDP trackers are asked from: one each for IPv4 and IPv6, bound when first
/// needed.
#[derive(Debug, Default)]
pub(super) struct Udp {
    v4: Family,
    v6: Family,
    bound: u32,
}

#[derive(Debug, Default)]
struct Family {
    socket: Option<SocketId>,
    ready: bool,
    waiting: VecDeque<(SocketAddr, Bytes)>,
    want_transmit: bool,
}

impl Udp {
    fn family(&mut self, v4: bool) -> &mut Family {
        if v4 { &mut self.v4 } else { &mut self.v6 }
    }

    fn of(&mut self, socket: SocketId) -> Option<&mut Family> {
        [&mut self.v4, &mut self.v6].into_iter().find(|family| family.socket == Some(socket))
    }

    /// The edge was taken.
    pub(super) fn taken(&mut self, socket: SocketId) {
        if let Some(family) = self.of(socket) {
            family.want_transmit = false;
        }
    }

    fn send(&mut self, to: SocketAddr, bytes: Bytes, cx: &mut Cx) {
        let address = if to.is_ipv4() {
            IpAddr::from(cx.config.bind_v4.unwrap_or(Ipv4Addr::UNSPECIFIED))
        } else {
            IpAddr::from(cx.config.bind_v6.unwrap_or(Ipv6Addr::UNSPECIFIED))
        };
        self.bound += 1;
        let slot = u32::from(to.is_ipv6());
        let generation = self.bound;
        let family = self.family(to.is_ipv4());
        if family.waiting.len() >= DATAGRAMS_MAX {
            return;
        }
        family.waiting.push_back((to, bytes));
        if family.socket.is_none() {
            let socket = <SocketId as crate::ids::Key>::from_parts(slot, generation);
            family.socket = Some(socket);
            family.ready = false;
            let address = SocketAddr::new(address, 0);
            let bind = Bind { socket, address, reuse: false, multicast: None };
            cx.out.push(Output::Bind(bind.into()));
        }
        family.wake(cx);
    }
}

impl Family {
    fn wake(&mut self, cx: &mut Cx) {
        if let Some(socket) = self.socket
            && self.ready
            && !self.waiting.is_empty()
            && !self.want_transmit
        {
            self.want_transmit = true;
            cx.out.push(Output::WantTransmit(socket));
        }
    }
}

/// What the session lends to its tracker client.
struct Lent<'a> {
    cx: &'a mut Cx,
    streams: &'a mut Streams,
}

impl Net for Lent<'_> {
    fn now(&self) -> Instant {
        self.cx.now()
    }

    fn reaches(&self, address: IpAddr) -> bool {
        self.cx.config.reaches(address) && !self.cx.filter.blocks(address)
    }

    fn connect(&mut self, to: SocketAddr, tls: Option<&str>) -> Option<StreamId> {
        let stream = self.streams.open(Kind::Tracker, self.cx);
        let from = self.cx.config.bind_for(to.ip());
        let connect = Connect { stream, to, from, tls: tls.map(Into::into) };
        self.cx.out.push(Output::Connect(connect.into()));
        Some(stream)
    }

    fn send(&mut self, stream: StreamId, bytes: Bytes) {
        self.streams.send(stream, bytes, &mut self.cx.out);
    }

    fn close(&mut self, stream: StreamId, how: Shutdown) {
        self.streams.close(stream, how, self.cx);
    }

    fn resolve(&mut self, host: &str, port: u16) -> JobId {
        let job = Job::Resolve { host: host.into(), port };
        self.cx.jobs.submit(JobOwner::Resolve, job, &mut self.cx.out)
    }

    fn forget(&mut self, job: JobId) {
        self.cx.out.push(Output::CancelJob(job));
    }

    fn datagrams_wait(&mut self) {}
}

impl Torrent {
    /// A tracker's address for people; nothing, if it left the list.
    fn tracker_url(&self, list: ListId, tracker: TrackerId) -> Box<str> {
        self.trackers.url(list, tracker).map_or_else(Default::default, |url| url.as_str().into())
    }
}

impl Session {
    /// Makes the announces of a torrent that are due.
    pub(super) fn poll_announces(&mut self, id: TorrentId) {
        loop {
            let Some(torrent) = self.torrents.get_mut(id) else { return };
            let now = self.cx.now();
            let wants = torrent.wants_addresses(&self.cx) || !torrent.is_complete();
            // BEP 7. A public tracker has no business with addresses that we do not ask it from.
            let private = torrent.metainfo.info().is_private();
            let anonymous = self.cx.config.anonymous;
            let told =
                |address: IpAddr| private && !anonymous && Scope::of(address) == Scope::Global;
            let hashes = [false, true].map(|v2| torrent.hash_of(v2));
            let (uploaded, downloaded) = (torrent.uploaded_in_run(), torrent.downloaded_in_run());
            let (left, cx) = (torrent.picker.left(), &self.cx);
            let facts = |way: Way| Facts {
                info_hash: hashes[usize::from(way.v2)],
                peer_id: cx.peer_id,
                port: cx.listen_port,
                uploaded,
                downloaded,
                left: Some(left),
                num_want: if wants { PEERS_WANTED } else { 0 },
                key: cx.announce_key,
                ipv4: cx.config.bind_v4.filter(|address| told((*address).into())),
                ipv6: cx.config.bind_v6.filter(|address| told((*address).into())),
            };
            let Some((list, way, announce)) = torrent.trackers.poll(now, facts) else { break };
            let stopped = announce.request.event == AnnounceEvent::Stopped;
            let options = if stopped {
                Options::SHUTDOWN
            } else {
                Options { urgent: announce.urgent, ..Options::default() }
            };
            let options =
                Options { family: way.family, anonymous: anonymous && !private, ..options };
            let token = (id, list, announce.tracker);
            self.ask(|trackers, net| {
                trackers.announce(net, token, &announce.url, announce.request, options)
            });
        }
        if let Some(torrent) = self.torrents.get_mut(id) {
            torrent.arm(&mut self.cx);
        }
    }

    /// Asks a tracker of a torrent what it counts.
    pub(super) fn scrape(&mut self, id: TorrentId) {
        let Some(torrent) = self.torrents.get(id) else { return };
        let Some((list, way, tracker, url)) = torrent.trackers.scraped() else { return };
        let (url, hash) = (url.clone(), torrent.hash_of(way.v2));
        let anonymous = self.cx.config.anonymous && !torrent.metainfo.info().is_private();
        let options = Options { urgent: true, anonymous, ..Options::default() };
        self.ask(|trackers, net| trackers.scrape(net, (id, list, tracker), &url, hash, options));
    }

    fn on_scraped(&mut self, (id, list, tracker): Token, result: Result<Counts, AnnounceError>) {
        let Some(torrent) = self.torrents.get_mut(id) else { return };
        let url = torrent.tracker_url(list, tracker);
        match result {
            Ok(counts) => {
                torrent.trackers.on_scrape(list, tracker, counts);
                self.cx.event(Event::TrackerScraped { torrent: id, url, counts });
            }
            Err(AnnounceError::Cancelled) => {}
            Err(error) => {
                let error = alloc::format!("{error}").into();
                self.cx.event(Event::TrackerFailed { torrent: id, url, error });
            }
        }
    }

    /// Gives up a torrent's announces that are under way.
    pub(super) fn cancel_announces(&mut self, id: TorrentId) {
        self.ask(|trackers, net| trackers.cancel(net, |(torrent, ..)| *torrent == id));
    }

    pub(super) fn on_tracker_stream(&mut self, stream: StreamId, input: StreamInput) {
        match input {
            StreamInput::Sent(count) => {
                if let Some(stream) = self.streams.get_mut(stream) {
                    stream.send.settle(count);
                }
            }
            StreamInput::ConnectFailed(_) | StreamInput::Closed(_) => {
                self.streams.remove(stream, &mut self.cx);
            }
            _ => {}
        }
        self.ask(|trackers, net| trackers.on_stream(net, stream, input));
    }

    pub(super) fn on_resolved(&mut self, job: JobId, result: JobResult) {
        self.ask(|trackers, net| trackers.on_job(net, job, result));
    }

    pub(super) fn on_tracker_timeout(&mut self) {
        self.ask(|trackers, net| trackers.on_timeout(net));
    }

    pub(super) fn on_datagram(&mut self, datagram: &Datagram<'_>) {
        if self.udp.of(datagram.socket).is_none() {
            self.cx.stats.stale_inputs += 1;
            return;
        }
        for data in datagram.split() {
            self.ask(|trackers, net| trackers.on_datagram(net, datagram.from, data));
        }
    }

    pub(super) fn on_socket(&mut self, socket: SocketId, input: SocketInput) {
        let Some(family) = self.udp.of(socket) else {
            self.cx.stats.stale_inputs += 1;
            return;
        };
        match input {
            SocketInput::Bound(_) => {
                family.ready = true;
                family.wake(&mut self.cx);
            }
            SocketInput::Failed(_) => {
                // What waited is lost, and asked again when its time is up.
                *family = Family::default();
            }
            SocketInput::Unreachable(address) => {
                self.ask(|trackers, net| trackers.on_unreachable(net, address));
            }
            SocketInput::AddressChanged(_) | SocketInput::TooBig { .. } => {}
        }
    }

    pub(super) fn transmit(
        &mut self,
        on: SocketId,
        limit: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let family = self.udp.of(on)?;
        if !family.ready || family.waiting.front()?.1.len() > limit.bytes {
            return None;
        }
        let (to, bytes) = family.waiting.pop_front()?;
        buf.extend_from_slice(&bytes);
        Some(Transmit { to, from: None, ecn: None, len: bytes.len(), segment: None })
    }

    /// Calls the tracker client, and sees to what comes of it.
    fn ask(&mut self, call: impl FnOnce(&mut Trackers, &mut dyn Net) -> Vec<Upward<Token>>) {
        let mut net = Lent { cx: &mut self.cx, streams: &mut self.streams };
        let ended = call(&mut self.trackers, &mut net);
        while let Some((to, bytes)) = self.trackers.pop_datagram() {
            self.udp.send(to, bytes, &mut self.cx);
        }
        let (now, next) = (self.cx.now(), self.trackers.next_deadline());
        self.cx.timers.set(self.trackers_timer, now, next);
        for upward in ended {
            match upward {
                Upward::Announced { token, result } => self.on_announced(token, result),
                Upward::Scraped { token, result } => self.on_scraped(token, result),
            }
        }
        self.check_shut_down();
    }

    fn on_announced(
        &mut self,
        (id, list, tracker): Token,
        result: Result<Box<AnnounceResponse>, AnnounceError>,
    ) {
        let Some(torrent) = self.torrents.get_mut(id) else { return };
        let now = self.cx.now();
        let url = torrent.tracker_url(list, tracker);
        match result {
            Ok(response) => {
                torrent.trackers.on_result(now, list, tracker, Ok(&response));
                let addresses = response.peers.iter().map(|peer| peer.address);
                let reachable: Vec<SocketAddr> =
                    addresses.filter(|address| self.cx.config.reaches(address.ip())).collect();
                torrent.add_found(reachable, list, &mut self.cx);
                // Whoever is complete is found by others, and keeps to the tracker's interval.
                if !torrent.is_complete()
                    && torrent.wants_addresses(&self.cx)
                    && torrent.peers.is_empty()
                {
                    torrent.trackers.want_peers(now);
                }
                self.cx.event(Event::TrackerReplied {
                    torrent: id,
                    url,
                    peers: response.peers.len(),
                    warning: response.warning.clone(),
                });
            }
            Err(error) => {
                let otherwise = torrent
                    .trackers
                    .url(list, tracker)
                    .is_some_and(|url| torrent.trackers.is_served_otherwise(list, url));
                torrent.trackers.on_result(now, list, tracker, Err(&error));
                if error != AnnounceError::Cancelled && !otherwise {
                    let error = alloc::format!("{error}").into();
                    self.cx.event(Event::TrackerFailed { torrent: id, url, error });
                }
            }
        }
        torrent.arm(&mut self.cx);
    }
}
