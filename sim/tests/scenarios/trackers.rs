//! What trackers see of a client, and what a client makes of what trackers say.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use teem_core::hash;
use teem_core::ids::CommandToken;
use teem_core::metainfo::Metainfo;
use teem_core::metainfo::create::{Content, Draft, Format, Options};
use teem_core::rng::Seed;
use teem_core::session::{
    AddTorrent, Command, Config, Event, TorrentSnapshot, TorrentState, TrackerSnapshot,
};
use teem_core::time::Duration;
use teem_core::tracker::announce::AnnounceEvent;
use teem_core::tracker::client::GENERIC_USER_AGENT;
use teem_core::tracker::tiers::BACKOFF_MIN;
use teem_sim::net::HostId;
use teem_sim::swarm::{PORT, Swarm, folder, torrent_of};

use crate::scripted::{
    Answer, Asked, ScriptedTracker, UdpAnswer, asked, compact, events, scripted,
};

use AnnounceEvent::{Completed, None as Regular, Started, Stopped};

const PIECE_LEN: u32 = 16 * 1024;
const LEN: usize = 100_000;

/// Hosts of trackers, on the internet as far as a client can tell.
pub(crate) fn ip(number: u8) -> IpAddr {
    IpAddr::from([203, 0, 113, number])
}

fn ip6(number: u16) -> IpAddr {
    IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, number])
}

/// Where the tracker of that number listens.
pub(crate) fn at(number: u8) -> SocketAddr {
    SocketAddr::new(ip(number), 8080)
}

/// Its announce URL.
pub(crate) fn url(number: u8) -> String {
    format!("http://{}/announce", at(number))
}

pub(crate) fn content(number: u64) -> Vec<u8> {
    let mut content = vec![0; LEN];
    Seed::from_number(number).stream("content", 0).fill(&mut content);
    content
}

pub(crate) fn torrent(number: u64, private: bool, trackers: Vec<Vec<String>>) -> Arc<Metainfo> {
    let content = content(number);
    let piece_len = Some(PIECE_LEN);
    let options = Options { piece_len, private, trackers, ..Options::default() };
    let draft = Draft::new("content", Content::File(LEN as u64), options).expect("a sound draft");
    let hashes: Vec<_> = content.chunks(PIECE_LEN as usize).map(hash::sha1).collect();
    Arc::new(draft.finish(&hashes).expect("a sound torrent"))
}

/// Nobody yet, around a public torrent with these trackers.
pub(crate) fn swarm(tiers: &[&[&str]]) -> Swarm {
    let tiers = tiers.iter().map(|tier| tier.iter().map(|url| (*url).into()).collect());
    Swarm::of(torrent(1, false, tiers.collect()), content(1).into())
}

/// Lets exactly so much time pass.
pub(crate) fn pass(swarm: &mut Swarm, seconds: u64) {
    swarm.net.run_until(Duration::from_secs(seconds), |_| false).expect("no host spins");
    swarm.run(0, |_| true);
}

fn pass_ms(swarm: &mut Swarm, milliseconds: u64) {
    swarm.net.run_until(Duration::from_millis(milliseconds), |_| false).expect("no host spins");
    swarm.run(0, |_| true);
}

/// A tracker that wants to hear from everybody every so many seconds.
fn every(number: u8, seconds: u32) -> ScriptedTracker {
    ScriptedTracker::http(at(number)).on("/announce", [Answer::interval(seconds)])
}

fn shut_down(swarm: &mut Swarm, client: HostId) {
    swarm.command(client, Command::ShutDown);
    assert!(swarm.run(30, |swarm| swarm.heard(client, |event| matches!(event, Event::ShutDown))));
    pass(swarm, 5);
}

/// A torrent's only tracker, as its client shows it.
pub(crate) fn tracker(swarm: &Swarm, client: HostId) -> TrackerSnapshot {
    let TorrentSnapshot { trackers, .. } = swarm.snapshot(client);
    let [tracker] = &trackers[..] else { panic!("{} trackers", trackers.len()) };
    tracker.clone()
}

fn tracker_of(swarm: &Swarm, client: HostId, url: &str) -> TrackerSnapshot {
    let found = swarm.snapshot(client).trackers.into_iter().find(|tracker| &*tracker.url == url);
    found.expect("the torrent has that tracker")
}

/// `started` first and only then, `stopped` last and only then; `completed` as often as said.
fn assert_a_sane_life(events: &[AnnounceEvent], completed: usize) {
    let [Started, middle @ .., Stopped] = events else { panic!("{events:?}") };
    assert!(!middle.is_empty(), "{events:?}");
    let regular = middle.iter().filter(|event| **event == Regular).count();
    let done = middle.iter().filter(|event| **event == Completed).count();
    assert_eq!((done, regular + done), (completed, middle.len()), "{events:?}");
}

fn life(downloading: bool, replaced: bool) {
    let mut swarm = swarm(&[]);
    let preload = swarm.content().clone();
    let preload = (!downloading).then_some(&preload[..]);
    let slow = Config { down_bytes_per_s: Some(20_000), ..Config::default() };
    let client = swarm.add(preload, slow, |add| {
        if !replaced {
            add.trackers = vec![url(1)];
        }
    });
    let other = swarm.seeder(Config::default());
    let tracker = every(1, 500).join(&mut swarm, ip(1));
    if replaced {
        swarm.command(client, Command::ReplaceTrackers(swarm.torrent(client), vec![vec![url(1)]]));
    }
    if downloading {
        swarm.introduce(client, &[other]);
    }
    pass(&mut swarm, 2_000);
    assert!(swarm.is_complete(client));
    shut_down(&mut swarm, client);
    assert_a_sane_life(&events(&swarm, tracker), usize::from(downloading));
}

#[test]
fn event_completed_downloading() {
    life(true, false);
}

#[test]
fn event_completed_downloading_replace_trackers() {
    life(true, true);
}

#[test]
fn event_completed_seeding() {
    life(false, false);
}

#[test]
fn event_completed_seeding_replace_trackers() {
    life(false, true);
}

/// The interval that a tracker asks for is kept for hours.
fn interval(seconds: u32) {
    let mut swarm = swarm(&[&[&url(1)]]);
    swarm.seeder(Config::default());
    let tracker = every(1, seconds).join(&mut swarm, ip(1));
    pass(&mut swarm, 6 * 3_600);
    let times: Vec<_> = asked(&swarm, tracker).iter().map(|asked| asked.at).collect();
    assert_eq!(times.len() as u32, (6 * 3_600_u32).div_ceil(seconds));
    for pair in times.windows(2) {
        let off = pair[1].saturating_since(pair[0]).abs_diff(Duration::from_secs(seconds.into()));
        assert!(off < Duration::from_secs(2), "{times:?}");
    }
}

#[test]
fn announce_interval_440() {
    interval(440);
}

#[test]
fn announce_interval_1800() {
    interval(1_800);
}

#[test]
fn announce_interval_1200() {
    interval(3_600);
}

#[test]
fn announce_ip_port() {
    let mut swarm = swarm(&[&[&url(1)]]);
    let client = swarm.seeder(Config::default());
    let tracker = every(1, 1_800).join(&mut swarm, ip(1));
    pass(&mut swarm, 10);
    shut_down(&mut swarm, client);
    let asked = asked(&swarm, tracker);
    assert_eq!(asked.len(), 2);
    for asked in asked {
        assert_eq!(asked.number("port"), Some(u64::from(PORT)));
        assert!(["ip", "ipv4", "ipv6"].iter().all(|key| !asked.says.contains_key(*key)));
        assert_eq!(asked.from, teem_sim::swarm::ip(client));
    }
}

/// A client that does not listen is told of peers all the same; it says that it has no port.
fn announces_without_listening(url: &str, tracker: ScriptedTracker) {
    let mut swarm = swarm(&[&[url]]);
    let client = swarm.bare(Config::default());
    let tracker = tracker.join(&mut swarm, ip(1));
    let add = AddTorrent::new(Arc::clone(swarm.metainfo()), folder());
    let now = swarm.now();
    let session = swarm.net.machine_mut(client).session_mut().expect("a client");
    session.add_torrent(now, add).expect("a sound torrent");
    pass(&mut swarm, 10);
    shut_down(&mut swarm, client);
    assert_eq!(events(&swarm, tracker), [Started, Stopped]);
    assert!(asked(&swarm, tracker).iter().all(|asked| asked.number("port") == Some(0)));
}

#[test]
fn announce_no_listen() {
    announces_without_listening(&url(1), every(1, 1_800));
}

#[test]
fn announce_udp_no_listen() {
    let tracker = ScriptedTracker::udp(at(1), UdpAnswer::Peers(1_800, Vec::new()));
    announces_without_listening(&format!("udp://{}", at(1)), tracker);
}

/// A client with an address of one family asks a tracker that has both over that one, once.
fn bound_to(v6: bool) {
    let mut swarm = swarm(&[&["http://tracker.example:8080/announce"]]);
    let config = Config {
        bind_v4: (!v6).then_some([203, 0, 113, 100].into()),
        bind_v6: v6.then_some([0x2001, 0xdb8, 0, 0, 0, 0, 0, 100].into()),
        ..Config::default()
    };
    let client = swarm.seeder(config);
    let v4_tracker = every(1, 1_800).join(&mut swarm, ip(1));
    let at6 = SocketAddr::new(ip6(1), 8080);
    let v6_tracker = ScriptedTracker::http(at6).on("/announce", [Answer::interval(1_800)]);
    let v6_tracker = v6_tracker.join(&mut swarm, ip6(1));
    // Whichever comes first.
    let names = if v6 { [ip(1), ip6(1)] } else { [ip6(1), ip(1)] };
    swarm.net.names_mut().add("tracker.example", names);
    pass(&mut swarm, 100);
    shut_down(&mut swarm, client);
    let (asked_one, other) = if v6 { (v6_tracker, v4_tracker) } else { (v4_tracker, v6_tracker) };
    assert_eq!(events(&swarm, asked_one), [Started, Stopped]);
    assert_eq!(scripted(&swarm, other).accepted, 0);
}

#[test]
fn ipv6_support_bind_v4() {
    bound_to(false);
}

#[test]
fn ipv6_support_bind_v6() {
    bound_to(true);
}

#[test]
fn udp_variant_of_the_ipv6_tests() {
    let mut swarm = swarm(&[&["udp://tracker.example:8080"]]);
    let bind_v6 = Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, 100].into());
    let client = swarm.seeder(Config { bind_v6, ..Config::default() });
    let answer = || UdpAnswer::Peers(1_800, vec![SocketAddr::new(ip6(9), 6881)]);
    let v4 = ScriptedTracker::udp(at(1), answer()).join(&mut swarm, ip(1));
    let v6 = SocketAddr::new(ip6(1), 8080);
    let v6 = ScriptedTracker::udp(v6, answer()).join(&mut swarm, ip6(1));
    swarm.net.names_mut().add("tracker.example", [ip(1), ip6(1)]);
    pass(&mut swarm, 100);
    // A peer of 18 bytes, as the family of the tracker's address says.
    let one_peer = |event: &Event| matches!(event, Event::TrackerReplied { peers: 1, .. });
    assert!(swarm.heard(client, one_peer));
    shut_down(&mut swarm, client);
    assert_eq!(events(&swarm, v6), [Started, Stopped]);
    assert_eq!(scripted(&swarm, v4).connects, 0);
}

#[test]
fn omit_stop_event() {
    let mut swarm = swarm(&[&[&format!("udp://{}/announce", at(1))]]);
    let client = swarm.seeder(Config::default());
    let tracker = ScriptedTracker::udp(at(1), UdpAnswer::Silence).join(&mut swarm, ip(1));
    pass(&mut swarm, 1_800);
    let before = scripted(&swarm, tracker).connects;
    assert!(before > 3, "{before}");
    swarm.command(client, Command::Pause(swarm.torrent(client)));
    pass(&mut swarm, 600);
    assert_eq!(swarm.snapshot(client).state, TorrentState::Paused);
    assert_eq!(scripted(&swarm, tracker).connects, before);
    assert!(asked(&swarm, tracker).is_empty());
}

/// What a client shows of a tracker that answers like this, ten seconds on.
fn after_answer(answer: Answer) -> (Swarm, HostId, HostId) {
    let mut swarm = swarm(&[&[&url(1)]]);
    let client = swarm.seeder(Config::default());
    let tracker = ScriptedTracker::http(at(1)).on("/announce", [answer]).join(&mut swarm, ip(1));
    pass_ms(&mut swarm, 3_000);
    assert_eq!(events(&swarm, tracker), [Started]);
    (swarm, client, tracker)
}

fn failed(swarm: &Swarm, client: HostId) -> Vec<&str> {
    let failures = swarm.events(client).iter().filter_map(|event| match event {
        Event::TrackerFailed { error, .. } => Some(&**error),
        _ => None,
    });
    failures.collect()
}

#[test]
fn test_error() {
    let (swarm, client, _) = after_answer(Answer::body("d14:failure reason4:teste"));
    let tracker = tracker(&swarm, client);
    assert_eq!(&*tracker.url, url(1));
    assert_eq!(tracker.error.as_deref(), Some("the tracker refused: test"));
    assert_eq!((tracker.fails, tracker.announcing), (1, false));
    assert_eq!(failed(&swarm, client), ["the tracker refused: test"]);
}

#[test]
fn test_warning() {
    let (swarm, client, _) =
        after_answer(Answer::body("d5:peers6:aaaaaa15:warning message5:test2e"));
    let tracker = tracker(&swarm, client);
    assert_eq!(tracker.warning.as_deref(), Some("test2"));
    assert_eq!((tracker.error, tracker.fails), (None, 0));
    let warned = |event: &Event| match event {
        Event::TrackerReplied { warning, peers: 1, .. } => warning.as_deref() == Some("test2"),
        _ => false,
    };
    assert!(swarm.heard(client, warned));
}

#[test]
fn test_no_announce_path() {
    let mut swarm = swarm(&[&[&format!("http://{}", at(1))]]);
    let client = swarm.seeder(Config::default());
    let answer = Answer::body("d5:peers6:aaaaaae");
    let server = ScriptedTracker::http(at(1)).on("/", [answer]).join(&mut swarm, ip(1));
    pass(&mut swarm, 5);
    assert_eq!(asked(&swarm, server)[0].path, "/");
    let tracker = tracker(&swarm, client);
    assert_eq!(&*tracker.url, format!("http://{}", at(1)));
    assert_eq!((tracker.error, tracker.fails), (None, 0));
}

#[test]
fn test_scrape_data_in_announce() {
    let body = "d8:completei1e10:downloadedi3e11:downloadersi4e10:incompletei2e5:peers6:aaaaaae";
    let (swarm, client, _) = after_answer(Answer::body(body));
    let tracker = tracker(&swarm, client);
    assert_eq!(
        (tracker.seeders, tracker.leechers, tracker.downloaded),
        (Some(1), Some(2), Some(3))
    );
    assert_eq!((tracker.error, tracker.fails), (None, 0));
}

#[test]
fn test_http_status() {
    let (swarm, client, _) = after_answer(Answer::with_status("410 Not A Tracker", ""));
    let tracker = tracker(&swarm, client);
    assert_eq!(tracker.error.as_deref(), Some("the tracker answered with HTTP status 410"));
    assert_eq!(tracker.fails, 1);
}

#[test]
fn test_interval() {
    // An answer with nothing but a cookie is one; the cookie comes back with every later announce.
    let (mut swarm, client, server) = after_answer(Answer::body("d10:tracker id8:testteste"));
    let shown = tracker(&swarm, client);
    assert_eq!((shown.error, shown.fails), (None, 0));
    let next = shown.next.expect("scheduled").saturating_since(swarm.now()).as_secs();
    assert!((1_795..=1_800).contains(&next), "{next}");
    pass(&mut swarm, 1_900);
    shut_down(&mut swarm, client);
    let cookies: Vec<_> =
        asked(&swarm, server).iter().map(|asked| asked.text("trackerid")).collect();
    assert_eq!(cookies, [None, Some("testtest"), Some("testtest")]);
}

#[test]
fn test_invalid_bencoding() {
    let (swarm, client, _) = after_answer(Answer::body("d10:tracer idteste"));
    let tracker = tracker(&swarm, client);
    let error = tracker.error.expect("it is none");
    assert!(error.starts_with("the tracker's answer is not bencode"), "{error}");
    assert_eq!(tracker.fails, 1);
}

#[test]
fn paused_session() {
    let mut swarm = swarm(&[&[&url(1)]]);
    let client = swarm.seeder(Config::default());
    let tracker = every(1, 1_800).join(&mut swarm, ip(1));
    pass(&mut swarm, 5);
    assert_eq!(events(&swarm, tracker), [Started]);
    swarm.command(client, Command::PauseSession);
    pass(&mut swarm, 1_801);
    assert_eq!(events(&swarm, tracker), [Started, Stopped]);
    swarm.command(client, Command::ResumeSession);
    pass(&mut swarm, 5);
    assert_eq!(events(&swarm, tracker), [Started, Stopped, Started]);
}

#[test]
fn paused_session_in_flight_announce() {
    let (mut swarm, client, server) = after_answer(Answer::Stall);
    assert!(tracker(&swarm, client).announcing);
    swarm.command(client, Command::PauseSession);
    pass(&mut swarm, 1);
    let shown = tracker(&swarm, client);
    assert_eq!((shown.announcing, shown.fails), (false, 0));
    assert_eq!(swarm.snapshot(client).state, TorrentState::Paused);
    swarm.command(client, Command::ResumeSession);
    pass(&mut swarm, 1);
    assert_eq!(events(&swarm, server), [Started, Started]);
}

#[test]
fn try_next() {
    let dead =
        ["udp://failing-tracker.example:80/announce", "http://failing-tracker.example/announce"];
    let working = "http://tracker.example:8080/announce";
    let mut swarm = swarm(&[&[dead[0]], &[dead[1]], &[working]]);
    let client = swarm.seeder(Config::default());
    let tracker = every(1, 1_800).join(&mut swarm, ip(1));
    swarm.net.names_mut().add("tracker.example", [ip(1)]);
    pass(&mut swarm, 60);
    assert_eq!(events(&swarm, tracker), [Started]);
    assert_eq!(asked(&swarm, tracker)[0].host.as_deref(), Some("tracker.example:8080"));
    for url in dead {
        let shown = tracker_of(&swarm, client, url);
        assert!(shown.fails >= 1);
        assert_eq!(shown.error.as_deref(), Some("the tracker's host is not known"));
    }
    let shown = tracker_of(&swarm, client, working);
    assert_eq!((shown.fails, shown.error), (0, None));
}

#[test]
fn clear_error() {
    let mut swarm = swarm(&[&[&url(1)]]);
    let client = swarm.seeder(Config::default());
    let answers = [Answer::HangUp, Answer::interval(1_800)];
    let server = ScriptedTracker::http(at(1)).on("/announce", answers).join(&mut swarm, ip(1));
    pass_ms(&mut swarm, 3_000);
    let shown = tracker(&swarm, client);
    assert!(shown.error.is_some() && shown.fails == 1);
    pass(&mut swarm, 60);
    assert_eq!(events(&swarm, server), [Started, Started]);
    let shown = tracker(&swarm, client);
    assert_eq!((shown.error, shown.fails), (None, 0));
}

#[test]
fn force_reannounce_high_priority_skips_queue() {
    /// Announces over HTTP that a client makes at a time.
    const HTTP_MAX: u64 = 64;
    let mut swarm = swarm(&[&[&url(1)]]);
    let client = swarm.seeder(Config { peers_max: 0, ..Config::default() });
    let answer = Answer::body("d8:intervali1800e12:min intervali60e5:peers0:e");
    let fast = ScriptedTracker::http(at(1)).on("/announce", [answer]).join(&mut swarm, ip(1));
    let hold = ScriptedTracker::http(at(2)).on("/announce", [Answer::Stall]);
    let hold = hold.join(&mut swarm, ip(2));
    let low = every(3, 1_800).join(&mut swarm, ip(3));
    pass(&mut swarm, 61);
    assert_eq!(events(&swarm, fast), [Started]);
    let add = |swarm: &mut Swarm, number: u64, url: String| {
        let add = AddTorrent::new(torrent(number, false, vec![vec![url]]), folder());
        let now = swarm.now();
        let session = swarm.net.machine_mut(client).session_mut().expect("a client");
        session.add_torrent(now, add).expect("a sound torrent");
    };
    for number in 0..HTTP_MAX {
        add(&mut swarm, 100 + number, url(2));
    }
    pass(&mut swarm, 1);
    add(&mut swarm, 200, url(3));
    pass(&mut swarm, 1);
    swarm.command(client, Command::Announce(swarm.torrent(client)));
    pass(&mut swarm, 1);
    assert_eq!(asked(&swarm, hold).len() as u64, HTTP_MAX);
    assert_eq!((asked(&swarm, fast).len(), asked(&swarm, low).len()), (1, 0), "both wait");
    pass(&mut swarm, 60);
    let (fast, low) = (asked(&swarm, fast)[1].at, asked(&swarm, low)[0].at);
    assert!(fast <= low, "{fast:?} {low:?}");
}

/// What a client with addresses of both families tells a tracker.
fn addresses_told(private: bool, anonymous: bool) -> (Option<String>, Option<String>) {
    let metainfo = torrent(1, private, vec![vec![url(1)]]);
    let mut swarm = Swarm::of(metainfo, content(1).into());
    let config = Config {
        bind_v4: Some([203, 0, 113, 100].into()),
        bind_v6: Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, 100].into()),
        anonymous,
        ..Config::default()
    };
    swarm.seeder(config);
    let tracker = every(1, 1_800).join(&mut swarm, ip(1));
    pass(&mut swarm, 5);
    let asked = &asked(&swarm, tracker)[0];
    (asked.text("ipv4").map(Into::into), asked.text("ipv6").map(Into::into))
}

#[test]
fn tracker_ipv6_argument() {
    let told = addresses_told(true, false);
    assert_eq!(told, (Some("203.0.113.100".into()), Some("2001:db8::64".into())));
}

#[test]
fn tracker_ipv6_argument_non_private() {
    assert_eq!(addresses_told(false, false), (None, None));
}

#[test]
fn tracker_ipv6_argument_privacy_mode() {
    assert_eq!(addresses_told(true, true), (None, None));
}

/// What a client that hides what it is tells the tracker of a torrent that it is.
fn user_agent_told_in_privacy(private: bool) -> Option<String> {
    let torrent = torrent(1, private, vec![vec![url(1)]]);
    let mut swarm = Swarm::of(torrent, content(1).into());
    let user_agent = "test_agent/1.2.3".into();
    swarm.seeder(Config { user_agent, anonymous: true, ..Config::default() });
    let tracker = every(1, 1_800).join(&mut swarm, ip(1));
    pass(&mut swarm, 5);
    asked(&swarm, tracker)[0].user_agent.clone()
}

#[test]
fn tracker_user_agent_privacy_mode_public_torrent() {
    assert_eq!(user_agent_told_in_privacy(false).as_deref(), Some(GENERIC_USER_AGENT));
}

#[test]
fn tracker_user_agent_privacy_mode_private_torrent() {
    assert_eq!(user_agent_told_in_privacy(true).as_deref(), Some("test_agent/1.2.3"));
}

#[test]
fn tracker_key_argument() {
    let mut swarm = swarm(&[&[&url(1)], &[&url(2)]]);
    let config = Config { announce_to_all_tiers: true, ..Config::default() };
    let one = swarm.seeder(config.clone());
    let other = swarm.seeder(config);
    let trackers = [1, 2].map(|number| every(number, 300).join(&mut swarm, ip(number)));
    pass(&mut swarm, 1_000);
    let mut keys = BTreeMap::new();
    for tracker in trackers {
        for asked in asked(&swarm, tracker) {
            let key = asked.text("key").expect("told").to_owned();
            *keys.entry((asked.from, key)).or_insert(0) += 1;
        }
    }
    let hosts: Vec<_> = keys.keys().map(|(from, _)| *from).collect();
    assert_eq!(hosts, [one, other].map(teem_sim::swarm::ip), "one key each: {keys:?}");
    assert!(keys.values().all(|count| *count == 8), "{keys:?}");
}

#[test]
fn trackers_are_told_the_user_agent_that_is_set() {
    let mut swarm = swarm(&[&[&url(1)]]);
    swarm.seeder(Config { user_agent: "test_agent/1.2.3".into(), ..Config::default() });
    let tracker = every(1, 1_800).join(&mut swarm, ip(1));
    pass(&mut swarm, 5);
    assert_eq!(asked(&swarm, tracker)[0].user_agent.as_deref(), Some("test_agent/1.2.3"));
}

/// Whether a tracker at `host` is asked under this path.
fn asks(host: IpAddr, url: &str, path: &str) -> bool {
    let mut swarm = swarm(&[]);
    swarm.add(None, Config::default(), |add| add.trackers = vec![url.into()]);
    let tracker = ScriptedTracker::http(SocketAddr::new(host, 8080));
    let tracker = tracker.on(path, [Answer::body("d5:peers0:e")]).join(&mut swarm, host);
    swarm.net.names_mut().add("localhost", [host]);
    swarm.net.names_mut().add("tracker.example", [host]);
    pass(&mut swarm, 60);
    assert_eq!(scripted(&swarm, tracker).accepted, asked(&swarm, tracker).len());
    !asked(&swarm, tracker).is_empty()
}

fn loopback(name: &str, host: IpAddr) {
    let asks = |path: &str| asks(host, &format!("http://{name}:8080{path}"), path);
    assert!(asks("/announce"));
    assert!(!asks("/unusual-announce-path"));
    assert!(!asks("/short"));
}

#[test]
fn ssrf_localhost() {
    loopback("localhost", IpAddr::from([127, 0, 0, 1]));
}

#[test]
fn ssrf_ipv4() {
    loopback("127.0.0.1", IpAddr::from([127, 0, 0, 1]));
}

#[test]
fn ssrf_ipv6() {
    loopback("[::1]", IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]));
}

#[test]
fn ssrf_query_string() {
    let asks = |query: &str| {
        asks(ip(1), &format!("http://tracker.example:8080/announce{query}"), "/announce")
    };
    for query in ["?info_hash=abc", "?iNfo_HaSh=abc", "?event=abc", "?EvEnT=abc"] {
        assert!(!asks(query), "{query}");
    }
    assert!(asks("?passkey=abc"));
}

/// How often each of four trackers, two in each of two tiers, is asked in half a minute.
fn tiers(all_trackers: bool, all_tiers: bool, multi_homed: bool) -> [usize; 4] {
    let urls: Vec<String> = (1..=4).map(url).collect();
    let mut swarm = swarm(&[&[&urls[0], &urls[1]], &[&urls[2], &urls[3]]]);
    swarm.seeder(Config {
        announce_to_all_trackers: all_trackers,
        announce_to_all_tiers: all_tiers,
        bind_v4: Some([203, 0, 113, 100].into()),
        bind_v6: multi_homed.then_some([0x2001, 0xdb8, 0, 0, 0, 0, 0, 100].into()),
        ..Config::default()
    });
    let trackers = [1, 2, 3, 4].map(|number| every(number, 1_800).join(&mut swarm, ip(number)));
    pass(&mut swarm, 30);
    trackers.map(|tracker| asked(&swarm, tracker).len())
}

fn is_one_of(counts: &[usize]) -> bool {
    matches!(counts, [1, 0] | [0, 1])
}

fn one_tracker(multi_homed: bool) {
    let counts = tiers(false, false, multi_homed);
    assert!(is_one_of(&counts[..2]) && counts[2..] == [0, 0], "{counts:?}");
}

fn one_tracker_of_each_tier(multi_homed: bool) {
    let counts = tiers(false, true, multi_homed);
    assert!(is_one_of(&counts[..2]) && is_one_of(&counts[2..]), "{counts:?}");
}

#[test]
fn tracker_tiers() {
    one_tracker(false);
}

#[test]
fn tracker_tiers_multi_homed() {
    one_tracker(true);
}

#[test]
fn tracker_tiers_all_trackers() {
    assert_eq!(tiers(true, false, false), [1, 1, 0, 0]);
}

#[test]
fn tracker_tiers_all_trackers_multi_homed() {
    assert_eq!(tiers(true, false, true), [1, 1, 0, 0]);
}

#[test]
fn tracker_tiers_all_tiers() {
    one_tracker_of_each_tier(false);
}

#[test]
fn tracker_tiers_all_tiers_multi_homed() {
    one_tracker_of_each_tier(true);
}

#[test]
fn tracker_tiers_all_trackers_and_tiers() {
    assert_eq!(tiers(true, true, false), [1, 1, 1, 1]);
}

#[test]
fn tracker_tiers_all_trackers_and_tiers_multi_homed() {
    assert_eq!(tiers(true, true, true), [1, 1, 1, 1]);
}

#[test]
fn tracker_tiers_unreachable_tracker() {
    let v6 = format!("http://{}/announce", SocketAddr::new(ip6(1), 8080));
    let mut swarm = swarm(&[&[&v6, &url(2)], &[&url(3), &url(4)]]);
    let bind_v4 = Some([203, 0, 113, 100].into());
    swarm.seeder(Config { bind_v4, ..Config::default() });
    let unreachable = ScriptedTracker::http(SocketAddr::new(ip6(1), 8080));
    let unreachable = unreachable.join(&mut swarm, ip6(1));
    let trackers = [2, 3, 4].map(|number| every(number, 1_800).join(&mut swarm, ip(number)));
    pass(&mut swarm, 30);
    assert_eq!(trackers.map(|tracker| asked(&swarm, tracker).len()), [1, 0, 0]);
    assert_eq!(scripted(&swarm, unreachable).accepted, 0);
}

/// A tracker that fails is asked again after a time that doubles, one that works only when it
/// wants to be.
fn retries(second_tier: &[&str], working: &[u8]) {
    let mut swarm = swarm(&[&[&url(1)], second_tier]);
    swarm.seeder(Config {
        announce_to_all_trackers: true,
        announce_to_all_tiers: true,
        ..Config::default()
    });
    let working: Vec<_> =
        working.iter().map(|number| every(*number, 1_800).join(&mut swarm, ip(*number))).collect();
    let gone = Answer::with_status("404 Not Found", "");
    let failing = ScriptedTracker::http(at(5)).on("/announce", [gone]).join(&mut swarm, ip(5));
    pass(&mut swarm, 30);
    for tracker in &working {
        assert_eq!(asked(&swarm, *tracker).len(), 1);
    }
    pass(&mut swarm, 31 * 60 - 30);
    for tracker in &working {
        assert_eq!(asked(&swarm, *tracker).len(), 2);
    }
    let times: Vec<_> = asked(&swarm, failing).iter().map(|asked| asked.at).collect();
    assert!((7..=10).contains(&times.len()), "{times:?}");
    for (n, pair) in times.windows(2).enumerate() {
        let (wait, least) = (pair[1].saturating_since(pair[0]), BACKOFF_MIN * (1 << n));
        let most = 2 * least + Duration::from_secs(1);
        assert!(least <= wait && wait <= most, "{times:?}");
    }
}

#[test]
fn tracker_tiers_retry_all() {
    retries(&[&url(5)], &[1]);
}

#[test]
fn tracker_tiers_retry_all_multiple_trackers_per_tier() {
    retries(&[&url(5), &url(2)], &[1, 2]);
}

#[test]
fn peers_of_an_answer_are_as_many_as_it_has() {
    let peers: Vec<u8> =
        (1..=6_u8).flat_map(|at| compact(SocketAddr::from(([10, 9, 9, at], 6881)))).collect();
    let body = [b"d8:intervali1800e5:peers36:", &peers[..], b"e"].concat();
    let (swarm, client, _) = after_answer(Answer::body(body));
    assert!(swarm.heard(client, |event| matches!(event, Event::TrackerReplied { peers: 6, .. })));
    assert_eq!(swarm.snapshot(client).known_peers, 6);
}

#[test]
fn uploaded_downloaded_and_left_are_true() {
    let mut swarm = swarm(&[&[&url(1)]]);
    let slow = Config { down_bytes_per_s: Some(20_000), ..Config::default() };
    let leecher = swarm.leecher(slow);
    let seeder = swarm.seeder(Config::default());
    let tracker = every(1, 1_800).join(&mut swarm, ip(1));
    swarm.introduce(leecher, &[seeder]);
    pass(&mut swarm, 60);
    assert!(swarm.is_complete(leecher));
    shut_down(&mut swarm, leecher);
    shut_down(&mut swarm, seeder);
    let of = |host: HostId| {
        let from = teem_sim::swarm::ip(host);
        let theirs = asked(&swarm, tracker).iter().filter(move |asked| asked.from == from);
        let numbers = ["uploaded", "downloaded", "left"];
        let say = move |asked: &Asked| {
            (asked.event(), numbers.map(|key| asked.number(key).expect("told")))
        };
        theirs.map(say).collect::<Vec<_>>()
    };
    let len = LEN as u64;
    assert_eq!(
        of(leecher),
        [(Started, [0, 0, len]), (Completed, [0, len, 0]), (Stopped, [0, len, 0])]
    );
    assert_eq!(of(seeder), [(Started, [0, 0, 0]), (Stopped, [len, 0, 0])]);
}

#[test]
fn a_tracker_whose_tls_fails_is_not_asked_in_the_open() {
    let mut swarm = swarm(&[&[&format!("https://{}/announce", at(1))], &[&url(2)]]);
    let client = swarm.seeder(Config::default());
    let secret = every(1, 1_800).join(&mut swarm, ip(1));
    let open = every(2, 1_800).join(&mut swarm, ip(2));
    pass(&mut swarm, 30);
    assert_eq!((asked(&swarm, secret).len(), asked(&swarm, open).len()), (0, 1));
    assert!(failed(&swarm, client).iter().all(|error| *error == "TLS: not available here"));
    assert!(!failed(&swarm, client).is_empty());
}

/// The address of that number at which a client of two families is, one for each.
const HOME: u8 = 100;

/// A client that has all, and an address of each family; it listens on them in this order.
fn dual_homed(swarm: &mut Swarm, listen: [IpAddr; 2], config: Config) -> HostId {
    let content = swarm.content().clone();
    let config = Config {
        bind_v4: Some([203, 0, 113, HOME].into()),
        bind_v6: Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, HOME.into()].into()),
        ..config
    };
    let listen = listen.map(|address| SocketAddr::new(address, PORT));
    swarm.add_at(&listen, Some(&content), config, |_| {})
}

fn any_v4() -> IpAddr {
    IpAddr::from([0; 4])
}

fn any_v6() -> IpAddr {
    IpAddr::from([0; 16])
}

/// A tracker that has an address of each family is asked over each.
fn both_families(listen: [IpAddr; 2]) {
    let mut swarm = swarm(&[&["http://tracker.example:8080/announce"]]);
    let client = dual_homed(&mut swarm, listen, Config::default());
    let v4 = every(1, 1_800).join(&mut swarm, ip(1));
    let at6 = SocketAddr::new(ip6(1), 8080);
    let v6 = ScriptedTracker::http(at6).on("/announce", [Answer::interval(1_800)]);
    let v6 = v6.join(&mut swarm, ip6(1));
    swarm.net.names_mut().add("tracker.example", [ip(1), ip6(1)]);
    pass(&mut swarm, 100);
    let shown = tracker(&swarm, client);
    assert_eq!((shown.error, shown.fails), (None, 0));
    shut_down(&mut swarm, client);
    for tracker in [v4, v6] {
        assert_eq!(events(&swarm, tracker), [Started, Stopped]);
    }
}

#[test]
fn ipv6_support() {
    both_families([ip(HOME), ip6(HOME.into())]);
}

#[test]
fn ipv6_support_bind_v6_v4() {
    both_families([ip6(HOME.into()), ip(HOME)]);
}

#[test]
fn ipv6_support_bind_v4_v6_any() {
    both_families([any_v4(), any_v6()]);
}

#[test]
fn who_listens_on_one_family_is_announced_once_and_on_both_over_each() {
    let mut swarm = swarm(&[&["http://tracker.example:8080/announce"]]);
    let client = swarm.seeder(Config::default());
    let v4 = every(1, 1_800).join(&mut swarm, ip(1));
    let at6 = SocketAddr::new(ip6(1), 8080);
    let v6 = ScriptedTracker::http(at6).on("/announce", [Answer::interval(1_800)]);
    let v6 = v6.join(&mut swarm, ip6(1));
    swarm.net.names_mut().add("tracker.example", [ip(1), ip6(1)]);
    pass(&mut swarm, 100);
    assert_eq!((events(&swarm, v4), events(&swarm, v6)), (vec![Started], vec![]));
    let listen = SocketAddr::new(any_v6(), PORT);
    swarm.command(client, Command::Listen(CommandToken(7), listen));
    pass(&mut swarm, 100);
    shut_down(&mut swarm, client);
    for tracker in [v4, v6] {
        assert_eq!(events(&swarm, tracker), [Started, Stopped]);
    }
}

/// How often trackers are asked in half a minute by a client of both families, by tier: each is a
/// number, and whether it has an IPv6 address, or else an IPv4 one.
fn families(all_trackers: bool, all_tiers: bool, tiers: &[&[(u8, bool)]]) -> Vec<Vec<usize>> {
    let home = |(number, v6): (u8, bool)| if v6 { ip6(number.into()) } else { ip(number) };
    let at = |one| SocketAddr::new(home(one), 8080);
    let url = |one: &(u8, bool)| format!("http://{}/announce", at(*one));
    let urls: Vec<Vec<String>> = tiers.iter().map(|tier| tier.iter().map(url).collect()).collect();
    let mut swarm = Swarm::of(torrent(1, false, urls), content(1).into());
    let client = dual_homed(
        &mut swarm,
        [any_v4(), any_v6()],
        Config {
            announce_to_all_trackers: all_trackers,
            announce_to_all_tiers: all_tiers,
            ..Config::default()
        },
    );
    let mut join = |one: &(u8, bool)| {
        let tracker = ScriptedTracker::http(at(*one)).on("/announce", [Answer::interval(1_800)]);
        tracker.join(&mut swarm, home(*one))
    };
    let hosts: Vec<Vec<_>> =
        tiers.iter().map(|tier| tier.iter().map(&mut join).collect()).collect();
    pass(&mut swarm, 30);
    // That one of them is not for the other family is nothing to tell anybody.
    assert!(!swarm.heard(client, |event| matches!(event, Event::TrackerFailed { .. })));
    let asked = |host: &HostId| asked(&swarm, *host).len();
    hosts.iter().map(|tier| tier.iter().map(asked).collect()).collect()
}

const V4: bool = false;
const V6: bool = true;

#[test]
fn tracker_tiers_v4_and_v6_same_tier() {
    let counts = families(false, false, &[&[(1, V4), (2, V6)], &[(3, V4), (4, V6)]]);
    assert_eq!(counts, [[1, 1], [0, 0]]);
}

#[test]
fn tracker_tiers_v4_and_v6_different_tiers() {
    let counts = families(false, false, &[&[(1, V4)], &[(2, V6), (3, V4)]]);
    assert_eq!(counts, [vec![1], vec![1, 0]]);
}

#[test]
fn tracker_tiers_v4_and_v6_all_trackers() {
    let counts = families(true, false, &[&[(1, V4), (2, V6), (3, V4)], &[(4, V6), (5, V4)]]);
    assert_eq!(counts, [vec![1, 1, 1], vec![0, 0]]);
}

#[test]
fn tracker_tiers_v4_and_v6_different_tiers_all_trackers() {
    let counts = families(true, false, &[&[(1, V4), (2, V4)], &[(3, V6), (4, V6), (5, V4)]]);
    assert_eq!(counts, [vec![1, 1], vec![1, 1, 0]]);
}

#[test]
fn tracker_tiers_v4_and_v6_different_tiers_all_tiers() {
    let counts = families(false, true, &[&[(1, V4)], &[(2, V6), (3, V4)]]);
    assert_eq!(counts, [vec![1], vec![1, 1]]);
}

#[test]
fn a_hybrid_torrent_is_announced_by_both_of_its_hashes() {
    let (metainfo, content) = torrent_of(&[("a", 50_000)], PIECE_LEN, Format::Hybrid, 3);
    let hashes = [metainfo.info().info_hash(), metainfo.info().swarm_hash_v2()];
    let mut swarm = Swarm::of(metainfo, content);
    let client = swarm.add(None, Config::default(), |add| add.trackers = vec![url(1)]);
    let seeder = swarm.seeder(Config::default());
    let tracker = every(1, 1_800).join(&mut swarm, ip(1));
    swarm.introduce(client, &[seeder]);
    pass(&mut swarm, 100);
    assert!(swarm.is_complete(client));
    assert_eq!(swarm.snapshot(client).trackers.len(), 1);
    shut_down(&mut swarm, client);
    let asked = asked(&swarm, tracker);
    for hash in hashes {
        let hash = hash.expect("it has both");
        let events =
            asked.iter().filter(|asked| asked.says["info_hash"] == hash.0).map(Asked::event);
        assert_eq!(events.collect::<Vec<_>>(), [Started, Completed, Stopped]);
    }
    assert_eq!(asked.len(), 6);
}
