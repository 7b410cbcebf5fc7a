//! The suite with TLS below the streams: real drivers, the same trace as in the open, and reasons
//! that a person can act on.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use bytes::Bytes;
use teem_conformance::drive::{Drive, START, Virtual, secure};
use teem_conformance::scenario::{IDLE, bulk, everything};
use teem_conformance::secure::{Authority, NAME, Secure};
use teem_conformance::tap::Tap;
use teem_conformance::throttle::Throttle;
use teem_core::ids::CommandToken;
use teem_core::machine::echo::{Command, Echo, Event};
use teem_core::machine::{StreamError, TlsError};
use teem_core::time::Duration;
use teem_io::tls::TlsConfig;

/// Real drivers on the pump.
const DRIVERS: usize = 3;

fn server() -> Echo {
    Echo::with_idle_timeout(START, IDLE)
}

fn client() -> Echo {
    Echo::with_idle_timeout(START, Duration::from_mins(1))
}

fn configs() -> [TlsConfig; 2] {
    let authority = Authority::default();
    [authority.server(NAME, false), authority.client()]
}

#[test]
fn tls_changes_nothing_that_a_machine_sees() {
    let mut open = Virtual::new([Tap::new(server()), Tap::new(client())]);
    everything(&mut open);
    let expected = [0, 1].map(|host| open.machine(host).normalised());
    let make = || [server(), client()].map(|echo| Secure::new(Tap::new(echo), Some(NAME)));
    let mut ran = 0;
    for mut drive in secure(make, &configs()) {
        everything(&mut *drive);
        for (host, expected) in expected.iter().enumerate() {
            let seen = drive.machine(host).machine.normalised();
            assert!(seen == *expected, "host {host}, {}:\n{seen}\n{expected}", drive.name());
        }
        ran += 1;
    }
    assert_eq!(ran, DRIVERS);
}

#[test]
fn no_edge_is_lost_below_a_machine_that_pauses() {
    let make = || [(); 2].map(|()| Secure::new(Throttle::new(client()), Some(NAME)));
    let mut ran = 0;
    for mut drive in secure(make, &configs()) {
        bulk(&mut *drive);
        for host in 0..2 {
            let pauses = drive.machine(host).machine.pauses();
            assert!(pauses > 8, "{}: {pauses} pauses", drive.name());
        }
        ran += 1;
    }
    assert_eq!(ran, DRIVERS);
}

type Shaky = Secure<Echo>;

fn echoes(name: Option<&'static str>) -> [Shaky; 2] {
    [Secure::new(server(), name), Secure::new(client(), name)]
}

fn listen(drive: &mut dyn Drive<Shaky>) -> SocketAddr {
    drive.command(0, Command::Listen(CommandToken(1), (Ipv4Addr::LOCALHOST, 0).into()));
    match drive.next_event(Duration::from_secs(10)) {
        Some((0, Event::Listening(_, at))) => at,
        other => panic!("{}: {other:?}", drive.name()),
    }
}

/// Why a dial to `to` came to nothing, on the client's side.
fn failure(drive: &mut dyn Drive<Shaky>, to: SocketAddr) -> StreamError {
    drive.command(1, Command::Dial(CommandToken(2), to, Bytes::from_static(b"hello")));
    // The server may tell of its end of the stream first.
    let event = loop {
        match drive.next_event(Duration::from_secs(10)) {
            Some((0, _)) => {}
            other => break other,
        }
    };
    assert_eq!(event, Some((1, Event::Failed(CommandToken(2)))), "{}", drive.name());
    *drive.machine(1).errors.last().expect("a reason")
}

#[test]
fn what_is_wrong_has_its_name_on_every_driver() {
    let (ours, other) = (Authority::default(), Authority::default());
    let cases = [
        ([ours.server(NAME, true), ours.client()], TlsError::Expired),
        ([ours.server("b.example", false), ours.client()], TlsError::WrongName),
        ([other.server(NAME, false), ours.client()], TlsError::UnknownIssuer),
        ([ours.server(NAME, false), TlsConfig::new().trust_no_others()], TlsError::NoRoots),
    ];
    let mut ran = 0;
    for (configs, why) in cases {
        for mut drive in secure(|| echoes(Some(NAME)), &configs) {
            let at = listen(&mut *drive);
            assert_eq!(failure(&mut *drive, at), StreamError::Tls(why), "{}", drive.name());
            ran += 1;
        }
    }
    assert_eq!(ran, 4 * DRIVERS);
}

#[test]
fn a_listener_without_a_certificate_does_not_listen() {
    for mut drive in secure(|| echoes(None), &[TlsConfig::new(), TlsConfig::new()]) {
        drive.command(0, Command::Listen(CommandToken(1), (Ipv4Addr::LOCALHOST, 0).into()));
        let event = drive.next_event(Duration::from_secs(10));
        assert_eq!(event, Some((0, Event::Failed(CommandToken(1)))), "{}", drive.name());
    }
}

#[test]
fn a_dial_in_the_open_to_a_listener_with_tls_comes_to_nothing() {
    for mut drive in secure(|| echoes(None), &configs()) {
        let at = listen(&mut *drive);
        drive.command(1, Command::Dial(CommandToken(2), at, Bytes::from_static(b"hello")));
        // It fails, or takes the server's alert for an echo.
        let event = drive.next_event(Duration::from_secs(10));
        assert!(event.is_some(), "{}", drive.name());
        let (name, errors) = (drive.name(), &drive.machine(0).errors);
        assert_eq!(errors[..], [StreamError::Tls(TlsError::NotTls)], "{name}");
    }
}

/// A server that answers the first bytes of each stream with `say`, and hangs up.
fn rude(say: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let at = listener.local_addr().expect("it is bound");
    let server = move || {
        for stream in listener.incoming().take(DRIVERS) {
            let mut stream: TcpStream = stream.expect("a stream");
            let mut buf = [0; 4096];
            let _ = stream.read(&mut buf);
            let _ = stream.write_all(say);
        }
    };
    std::thread::Builder::new().spawn(server).expect("a thread");
    at
}

#[test]
fn servers_that_hang_up_or_speak_something_else_are_told_apart() {
    let cases = [
        (&b"HTTP/1.0 400 Bad Request\r\n\r\n"[..], TlsError::NotTls),
        (b"", TlsError::Truncated),
        // An alert: handshake failure.
        (b"\x15\x03\x03\x00\x02\x02\x28", TlsError::Refused),
    ];
    for (say, why) in cases {
        let at = rude(say);
        for mut drive in secure(|| echoes(Some(NAME)), &configs()) {
            assert_eq!(failure(&mut *drive, at), StreamError::Tls(why), "{}", drive.name());
        }
    }
}
