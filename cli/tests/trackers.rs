//! `teem track` over UDP and TLS, whom clients trust, and what is not told of tracker addresses.

#![expect(unreachable_pub, dead_code, reason = "shared between tests")]

mod common;

use std::path::PathBuf;

use common::{Running, Yard, code, run, stderr, teem};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustix::process::Signal;

const MIB: u64 = 1 << 20;

/// A secret in the path of a tracker's address.
const PASSKEY: &str = "0123456789abcdef0123456789abcdef";

/// Files of a certificate authority and of a server's certificate, in the folder of a yard.
struct Files {
    ca: String,
    cert: String,
    key: String,
}

fn certificates(yard: &Yard, name: &str, expired: bool) -> Files {
    let ca_key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).expect("a certificate").pem();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![name.into()]).expect("a name");
    if expired {
        params.not_after = date_time_ymd(2002, 1, 1);
    }
    let cert = params.signed_by(&key, &issuer).expect("a certificate").pem();
    let write = |name: &str, text: String| {
        std::fs::write::<PathBuf, _>(yard.path(name), text).expect("written");
        yard.text(name)
    };
    Files {
        ca: write("ca.pem", ca),
        cert: write("cert.pem", cert),
        key: write("key.pem", key.serialize_pem()),
    }
}

/// A tracker that listens as told, and its address for peers.
fn tracker(args: &[&str]) -> (Running, String) {
    let mut all = vec!["track", "--json"];
    all.extend_from_slice(args);
    let mut tracker = Running::start(&all);
    let url = tracker.await_event("listening")["url"].as_str().expect("a URL").to_owned();
    (tracker, url)
}

/// A seeder and a downloader meet at `url`.
fn meet(yard: &Yard, url: &str, extra: &[&str]) {
    let args = [&["--tracker", url], extra].concat();
    let (mut seeder, _) = yard.seeder(&args);
    let told = seeder.await_event("tracker");
    assert_eq!(told["error"], serde_json::Value::Null, "{told}");
    let got = run(&yard.get("got", &args));
    assert_eq!(code(&got), 0, "{}", stderr(&got));
    assert!(yard.is_complete("got"));
    seeder.signal(Signal::INT);
    assert_eq!(seeder.end().0, Some(0));
}

#[test]
fn peers_find_each_other_through_our_udp_tracker() {
    let yard = Yard::new(MIB as usize);
    let (mut tracker, url) = tracker(&["--udp", "127.0.0.1:0"]);
    assert!(url.starts_with("udp://127.0.0.1:"), "{url}");
    meet(&yard, &url, &[]);
    tracker.signal(Signal::TERM);
    let (code, _, rest) = tracker.end();
    assert_eq!(code, Some(0));
    assert!(rest.contains("\"announces\":5"), "{rest}");
}

#[test]
fn peers_find_each_other_over_tls_if_they_trust_the_tracker() {
    let yard = Yard::new(MIB as usize);
    let files = certificates(&yard, "127.0.0.1", false);
    let (_tracker, url) =
        tracker(&["--https", "127.0.0.1:0", "--tls-cert", &files.cert, "--tls-key", &files.key]);
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let (mut stranger, _) = yard.seeder(&["--tracker", &url]);
    let told = stranger.await_event("tracker");
    assert_eq!(told["error"], "TLS: the certificate's issuer is not trusted here", "{told}");
    drop(stranger);
    meet(&yard, &url, &["--ca", &files.ca]);
}

/// Why a seeder that trusts the authority does not get an answer.
fn refusal(name: &str, expired: bool) -> String {
    let yard = Yard::new(1000);
    let files = certificates(&yard, name, expired);
    let (_tracker, url) =
        tracker(&["--https", "127.0.0.1:0", "--tls-cert", &files.cert, "--tls-key", &files.key]);
    let (mut seeder, _) = yard.seeder(&["--tracker", &url, "--ca", &files.ca]);
    seeder.await_event("tracker")["error"].as_str().expect("a reason").to_owned()
}

#[test]
fn certificates_that_expired_or_are_for_another_name_are_refused() {
    assert_eq!(refusal("127.0.0.1", true), "TLS: the certificate has expired");
    assert_eq!(refusal("127.0.0.2", false), "TLS: the certificate is for another name");
}

#[test]
fn files_of_certificates_that_are_of_no_use_are_named() {
    let yard = Yard::new(1000);
    let files = certificates(&yard, "127.0.0.1", false);
    let torrent = yard.text("data.torrent");
    let got = teem(&["get", &torrent, "--ca", &torrent]);
    assert_eq!(code(&got), 2, "{}", stderr(&got));
    assert!(stderr(&got).contains("data.torrent: no certificate in it"), "{}", stderr(&got));
    let swapped = ["--tls-cert", &files.key, "--tls-key", &files.cert];
    let got = teem(&[&["track", "--https", "127.0.0.1:0"], &swapped[..]].concat());
    assert_eq!(code(&got), 2, "{}", stderr(&got));
    let got = teem(&["track", "--https", "127.0.0.1:0"]);
    assert_eq!(code(&got), 2, "{}", stderr(&got));
    assert!(stderr(&got).contains("--tls-cert"), "{}", stderr(&got));
}

#[test]
fn passkeys_are_in_nothing_that_is_said_or_saved() {
    let yard = Yard::new(1000);
    let (_tracker, url) = tracker(&["--http", "127.0.0.1:0"]);
    let good = url.replace("/announce", &format!("/{PASSKEY}/announce"));
    // Nobody listens at port 1, and the other is no tracker.
    let refused = format!("http://127.0.0.1:1/{PASSKEY}/announce");
    let query = format!("https://127.0.0.1:1/announce?passkey={PASSKEY}");
    let all = ["--tracker", &refused, "--tracker", &query, "--tracker", &good, "-vv"];
    let (mut seeder, _) = yard.seeder(&all);
    for _ in 0..3 {
        let told = seeder.await_event("tracker").to_string();
        assert!(told.contains("***") && !told.contains(PASSKEY), "{told}");
    }
    seeder.signal(Signal::INT);
    let (_, errors, rest) = seeder.end();
    assert!(errors.contains("***"), "the log tells of trackers: {errors}");
    assert!(!errors.contains(PASSKEY) && !rest.contains(PASSKEY), "{errors}\n{rest}");
}
