//! How a client gets to a tracker: names, addresses, redirects, answers cut in pieces, servers
//! that keep it waiting.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use teem_core::http::gzip::gzip;
use teem_core::session::{AddTorrent, Command, Config, Event};
use teem_sim::net::HostId;
use teem_sim::swarm::{PORT, Swarm, folder};

use crate::scripted::{Answer, ScriptedTracker, UdpAnswer, asked, events, scripted};
use crate::tampered::Tampered;
use crate::trackers::{at, ip, pass, swarm, torrent, tracker, url};
use teem_core::tracker::announce::AnnounceEvent::Started;

const OK: &str = "d8:intervali1800e5:peers0:e";

/// A client with one tracker, and a server that knows a good deal about HTTP.
fn ask(url: &str) -> (Swarm, HostId, HostId) {
    let mut swarm = swarm(&[&[url]]);
    let client = swarm.seeder(Config::default());
    let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-encoding: Chunked\r\n\r\n".to_vec();
    for part in OK.as_bytes().chunks(5) {
        chunked.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        chunked.extend_from_slice(part);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let until_closed = [b"HTTP/1.0 200 OK\r\n\r\n", OK.as_bytes()].concat();
    let packed = |encoding: &str, body: &[u8]| {
        let len = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len}\r\n\r\n"
        );
        Answer::Raw([head.as_bytes(), body].concat())
    };
    let cut_off = [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", OK.as_bytes()].concat();
    let server = ScriptedTracker::http(at(1))
        .on("/announce", [Answer::body(OK)])
        .on("/chunked", [Answer::Raw(chunked)])
        .on("/until-closed", [Answer::Raw(until_closed)])
        .on("/gzip", [packed("gzip", &gzip(OK.as_bytes()))])
        .on("/damaged", [packed("gzip", b"\x1f\x8b\x08")])
        .on("/brotli", [packed("br", b"???")])
        .on("/cut-off", [Answer::Raw(cut_off)])
        .on("/redirect", [Answer::redirect("/announce")])
        .on("/relative/redirect", [Answer::redirect("../announce")])
        .on("/infinite/redirect", [Answer::redirect("/infinite/redirect")])
        .on("/elsewhere", [Answer::redirect("http://another.example:8080/announce")])
        .join(&mut swarm, ip(1));
    // Somebody is there who refuses; an address that nobody has would swallow the call.
    ScriptedTracker::udp(at(10), UdpAnswer::Silence).join(&mut swarm, ip(10));
    let names = swarm.net.names_mut();
    names.add("tracker.example", [ip(1)]);
    names.add("another.example", [ip(1)]);
    // Nobody listens at the first of these.
    names.add("try-next.example", [ip(10), ip(1)]);
    pass(&mut swarm, 3);
    (swarm, client, server)
}

fn paths(swarm: &Swarm, server: HostId) -> Vec<&str> {
    asked(swarm, server).iter().map(|asked| asked.path.as_str()).collect()
}

/// Asking this URL works, by these requests.
fn works(url: &str, expected: &[&str]) {
    let (swarm, client, server) = ask(url);
    assert_eq!(paths(&swarm, server), expected, "{url}");
    let tracker = tracker(&swarm, client);
    assert_eq!((tracker.error, tracker.fails), (None, 0), "{url}");
    assert_eq!(swarm.count(client, |event| matches!(event, Event::TrackerReplied { .. })), 1);
}

/// Asking this URL fails, once, for this reason, after so many requests.
fn fails(url: &str, reason: &str, requests: usize) {
    let (swarm, client, server) = ask(url);
    assert_eq!(asked(&swarm, server).len(), requests, "{url}");
    let tracker = tracker(&swarm, client);
    assert_eq!((tracker.error.as_deref(), tracker.fails), (Some(reason), 1), "{url}");
    assert_eq!(swarm.count(client, |event| matches!(event, Event::TrackerFailed { .. })), 1);
}

/// A client that takes names of all alphabets or not, a tracker whose name is in other letters and one
/// that redirects to it: what it asked, and what it says of each.
fn international(names: bool, first: &str) -> (Vec<String>, Option<String>) {
    let mut swarm = swarm(&[&[first]]);
    let client = swarm.seeder(Config { international_names: names, ..Config::default() });
    let server = ScriptedTracker::http(at(1))
        .on("/announce", [Answer::body(OK)])
        .on("/redirect", [Answer::redirect("http://xn--bcher-kva.example:8080/announce")])
        .join(&mut swarm, ip(1));
    swarm.net.names_mut().add("xn--bcher-kva.example", [ip(1)]);
    pass(&mut swarm, 3);
    let asked = paths(&swarm, server).into_iter().map(str::to_owned).collect();
    (asked, tracker(&swarm, client).error.map(Into::into))
}

const UNWANTED: &str = "the tracker's name is in letters that are not wanted";

#[test]
fn tracker_idna() {
    for url in ["http://xn--bcher-kva.example:8080/announce", "http://b\u{fc}cher.example/announce"]
    {
        let (asked, error) = international(false, url);
        assert_eq!((asked.len(), error.as_deref()), (0, Some(UNWANTED)), "{url}");
    }
    let (asked, error) = international(true, "http://xn--bcher-kva.example:8080/announce");
    assert_eq!((&asked[..], error), (&["/announce".to_owned()][..], None));
}

#[test]
fn tracker_idna_redirect() {
    let url = format!("http://{}/redirect", at(1));
    let (asked, error) = international(true, &url);
    assert_eq!((asked.len(), error), (2, None));
    let (asked, error) = international(false, &url);
    assert_eq!((&asked[..], error.as_deref()), (&["/redirect".to_owned()][..], Some(UNWANTED)));
}

/// A swarm whose client asks `/announce` at the first tracker; its answer to a scrape.
fn scraped(answer: impl AsRef<[u8]>) -> (Swarm, HostId) {
    let mut swarm = swarm(&[&[&url(1)]]);
    let client = swarm.seeder(Config::default());
    let server = ScriptedTracker::http(at(1))
        .on("/announce", [Answer::body(OK)])
        .on("/scrape", [Answer::body(answer)])
        .join(&mut swarm, ip(1));
    pass(&mut swarm, 3);
    swarm.command(client, Command::Scrape(swarm.torrent(client)));
    pass(&mut swarm, 3);
    assert_eq!(paths(&swarm, server), ["/announce", "/scrape"]);
    let hash = swarm.net.machine(client).session().expect("a client").torrents().next();
    let hash = hash.expect("it has one").info_hash;
    assert_eq!(asked(&swarm, server)[1].says["info_hash"], hash.0);
    (swarm, client)
}

#[test]
fn test_scrape() {
    let (swarm, client) = scraped("d5:filesdee");
    let reason = "the tracker's answer is malformed: it has no counts of this torrent";
    assert!(swarm.heard(
        client,
        |event| matches!(event, Event::TrackerFailed { error, .. } if **error == *reason)
    ));
    assert_eq!(tracker(&swarm, client).fails, 0, "announces are another matter");
    let hash = torrent(1, false, vec![vec![url(1)]]).info().swarm_hash();
    let counts = b"d8:completei1e10:downloadedi3e10:incompletei2eeee";
    let (swarm, client) = scraped([&b"d5:filesd20:"[..], &hash.0, counts].concat());
    let shown = tracker(&swarm, client);
    let counted = (shown.seeders, shown.leechers, shown.downloaded);
    assert_eq!(counted, (Some(1), Some(2), Some(3)));
    let told = |event: &Event| matches!(event, Event::TrackerScraped { counts, .. } if counts.downloaded == 3);
    assert_eq!(swarm.count(client, told), 1);
}

#[test]
fn force_reannounce_url_high_priority_skips_queue() {
    // Two tiers: the second one is not asked while the first one serves, unless by its name.
    let mut swarm = swarm(&[&[&url(1)], &[&url(2)]]);
    let client = swarm.seeder(Config { peers_max: 0, ..Config::default() });
    let hosts = [1, 2].map(|number| {
        let answer = Answer::body("d8:intervali1800e12:min intervali60e5:peers0:e");
        ScriptedTracker::http(at(number)).on("/announce", [answer]).join(&mut swarm, ip(number))
    });
    let hold = ScriptedTracker::http(at(3)).on("/announce", [Answer::Stall]);
    hold.join(&mut swarm, ip(3));
    pass(&mut swarm, 61);
    assert_eq!(hosts.map(|host| asked(&swarm, host).len()), [1, 0]);
    // All places are taken, and another torrent waits for one.
    for number in 0..65 {
        let metainfo = torrent(100 + number, false, vec![vec![url(3)]]);
        let now = swarm.now();
        let session = swarm.net.machine_mut(client).session_mut().expect("a client");
        session.add_torrent(now, AddTorrent::new(metainfo, folder())).expect("a sound torrent");
    }
    pass(&mut swarm, 1);
    let id = swarm.torrent(client);
    swarm.command(client, Command::AnnounceTo(id, url(2)));
    swarm.command(client, Command::AnnounceTo(id, url(9)));
    pass(&mut swarm, 1);
    assert_eq!(hosts.map(|host| asked(&swarm, host).len()), [1, 0], "it waits for a place");
    pass(&mut swarm, 60);
    assert_eq!(hosts.map(|host| asked(&swarm, host).len()), [1, 1]);
    assert_eq!(events(&swarm, hosts[1]), [Started]);
    pass(&mut swarm, 1_900);
    assert_eq!(hosts.map(|host| asked(&swarm, host).len()), [2, 1], "that was once");
}

#[test]
fn http_connection() {
    let base = format!("http://{}", at(1));
    works(&format!("{base}/announce"), &["/announce"]);
    works("http://tracker.example:8080/announce", &["/announce"]);
    works(&format!("{base}/redirect"), &["/redirect", "/announce"]);
    works(&format!("{base}/relative/redirect"), &["/relative/redirect", "/announce"]);
    works(&format!("{base}/elsewhere"), &["/elsewhere", "/announce"]);
    works(&format!("{base}/chunked"), &["/chunked"]);
    works(&format!("{base}/until-closed"), &["/until-closed"]);
    works("http://try-next.example:8080/announce", &["/announce"]);
    fails(&format!("{base}/non-existent"), "the tracker answered with HTTP status 404", 1);
    fails(&format!("{base}/infinite/redirect"), "redirected too often", 6);
    fails(&format!("{base}/cut-off"), "the HTTP message was cut off", 1);
    works(&format!("{base}/gzip"), &["/gzip"]);
    fails(&format!("{base}/damaged"), "the compressed body is damaged", 1);
    // It was told that we take none of those.
    let reason = "the tracker's answer is in an encoding that was not asked for";
    fails(&format!("{base}/brotli"), reason, 1);
    fails("http://203.0.113.10:8080/announce", "connection refused", 0);
    fails("http://non-existent.example/announce", "the tracker's host is not known", 0);
}

#[test]
fn a_redirect_carries_the_announce_to_the_other_host() {
    let (swarm, _, server) = ask(&format!("http://{}/elsewhere", at(1)));
    let hosts: Vec<_> = asked(&swarm, server).iter().map(|asked| asked.host.as_deref()).collect();
    assert_eq!(hosts, [Some("203.0.113.1:8080"), Some("another.example:8080")]);
    for asked in asked(&swarm, server) {
        assert_eq!((asked.event(), asked.number("port")), (Started, Some(u64::from(PORT))));
    }
}

/// A client that asks a tracker of two addresses, neither of which leads anywhere.
fn two_dead_ends(listening: bool) -> (Swarm, HostId, [HostId; 2]) {
    let mut swarm = swarm(&[&["http://dual-stack.example:8080/announce"]]);
    let addresses: [IpAddr; 2] = [ip(1), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()];
    let client = Tampered::join(&mut swarm, SocketAddr::new(ip(50), PORT), Config::default());
    let servers = addresses.map(|ip| {
        let at = SocketAddr::new(ip, 8080);
        ScriptedTracker::http(at).on("/announce", [Answer::Stall]).join(&mut swarm, ip)
    });
    let now = swarm.now();
    let add = AddTorrent::new(Arc::clone(swarm.metainfo()), folder());
    swarm.net.names_mut().add("dual-stack.example", addresses);
    let tampered = Tampered::of_mut(&mut swarm, client);
    if !listening {
        tampered.deaf = addresses.map(|ip| SocketAddr::new(ip, 8080)).to_vec();
    }
    tampered.session.add_torrent(now, add).expect("a sound torrent");
    // Not so long that it is asked again.
    pass(&mut swarm, if listening { 64 } else { 23 });
    (swarm, client, servers)
}

fn timed_out_once(swarm: &Swarm, client: HostId) {
    let failures = Tampered::of(swarm, client).events.iter().filter_map(|event| match event {
        Event::TrackerFailed { error, .. } => Some(&**error),
        _ => None,
    });
    let failures: Vec<_> = failures.collect();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(
        ["the tracker did not answer in time", "timed out"].contains(&failures[0]),
        "{failures:?}"
    );
}

#[test]
fn http_connection_timeout_server_stalls() {
    let (swarm, client, servers) = two_dead_ends(true);
    for server in servers {
        assert_eq!(events(&swarm, server), [Started]);
    }
    timed_out_once(&swarm, client);
}

#[test]
fn http_connection_timeout_server_does_not_accept() {
    let (swarm, client, servers) = two_dead_ends(false);
    assert!(servers.iter().all(|server| scripted(&swarm, *server).accepted == 0));
    assert_eq!(Tampered::of(&swarm, client).unanswered.len(), 2);
    timed_out_once(&swarm, client);
}

#[test]
fn a_udp_tracker_is_asked_by_name_and_says_no_in_its_own_words() {
    let mut swarm = swarm(&[&["udp://tracker.example:8080/a/b?c=d"], &[&url(2)]]);
    let client = swarm.seeder(Config::default());
    let refusal = UdpAnswer::Refusal("go\u{7} away");
    let udp = ScriptedTracker::udp(at(1), refusal).join(&mut swarm, ip(1));
    let next = ScriptedTracker::http(at(2)).on("/announce", [Answer::body(OK)]);
    let next = next.join(&mut swarm, ip(2));
    swarm.net.names_mut().add("tracker.example", [ip(1)]);
    pass(&mut swarm, 3);
    assert_eq!(paths(&swarm, udp), ["/a/b?c=d"]);
    assert_eq!(events(&swarm, next), [Started]);
    let refused = |event: &Event| match event {
        Event::TrackerFailed { error, .. } => &**error == "the tracker refused: go away",
        _ => false,
    };
    assert!(swarm.heard(client, refused), "{:?}", swarm.events(client));
}
