//! Two sides of a stream with nothing but memory between them.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use super::*;

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> Authority {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).expect("a certificate").pem();
    Authority { pem, issuer: Issuer::new(params, key) }
}

impl Authority {
    /// A server that shows a certificate for `name`, changed by `change`.
    fn server(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> TlsConfig {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.into()]).expect("a name");
        change(&mut params);
        let pem = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        let config = TlsConfig::new().identity_pem(pem.as_bytes(), key.serialize_pem().as_bytes());
        config.expect("they go together")
    }

    fn client(&self) -> TlsConfig {
        TlsConfig::new().trust_pem(self.pem.as_bytes()).expect("an authority").trust_no_others()
    }
}

/// One direction: bytes on their way, a few at a time.
#[derive(Default)]
struct Way {
    bytes: VecDeque<u8>,
    room: usize,
    most: usize,
    cut: bool,
}

impl io::Read for &mut Way {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = buf.len().min(self.bytes.len()).min(self.most);
        if count == 0 && !self.cut {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for (to, from) in buf.iter_mut().zip(self.bytes.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }
}

impl io::Write for &mut Way {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = buf.len().min(self.room - self.bytes.len().min(self.room)).min(self.most);
        if count == 0 && !buf.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.bytes.extend(&buf[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Pair {
    sides: [Session; 2],
    /// To the server, and to the client.
    ways: [Way; 2],
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

fn pair_of(client: &TlsConfig, server: &TlsConfig, name: &str, most: usize) -> Pair {
    let sides = [client.connect(name).expect("a name"), server.accept().expect("an identity")];
    let way = || Way { room: 100_000, most, ..Way::default() };
    Pair { sides, ways: [way(), way()] }
}

fn pair(most: usize) -> Pair {
    let authority = authority();
    let server = authority.server("tracker.example", |_| {});
    pair_of(&authority.client(), &server, "tracker.example", most)
}

impl Pair {
    /// One side sends what it has. Returns whether anything moved.
    fn send(&mut self, side: usize) -> bool {
        let mut moved = false;
        while self.sides[side].wants_send() && self.sides[side].send(&mut self.ways[side]).is_ok() {
            moved = true;
        }
        moved
    }

    /// One side receives once. Zero is the end, none that there is nothing.
    fn receive(&mut self, side: usize) -> Result<Option<usize>, TlsError> {
        match self.sides[side].receive(&mut self.ways[1 - side]) {
            Ok(count) => self.sides[side].decipher().map(|()| Some(count)),
            Err(_) => Ok(None),
        }
    }

    fn shake_hands(&mut self) -> Result<(), TlsError> {
        while self.sides.iter().any(Session::is_handshaking) {
            let mut moved = false;
            for side in [CLIENT, SERVER] {
                moved |= self.send(side);
                if self.sides[side].is_handshaking() {
                    let received = self.receive(side);
                    // Whoever fails tells the other.
                    self.send(side);
                    moved |= received?.is_some_and(|count| count > 0);
                }
            }
            assert!(moved, "neither side goes on");
        }
        Ok(())
    }

    /// All that a side has to take.
    fn take(&mut self, side: usize, max: usize) -> (Vec<u8>, Taken) {
        let mut all = Vec::new();
        loop {
            match self.sides[side].take(max) {
                Taken::Bytes(bytes) => {
                    assert!(bytes.len() <= max && !bytes.is_empty());
                    all.extend_from_slice(&bytes);
                }
                other => return (all, other),
            }
        }
    }
}

#[test]
fn what_is_wrong_with_a_certificate_has_its_name() {
    let (ours, other) = (authority(), authority());
    let name = "tracker.example";
    let client = ours.client();
    let reason = |server: &TlsConfig, name: &str| {
        let mut pair = pair_of(&client, server, name, usize::MAX);
        let why = pair.shake_hands().err();
        // The other side learns it too, and is not left waiting.
        if why.is_some() {
            assert_eq!(pair.receive(SERVER), Err(TlsError::Refused));
        }
        why
    };
    let old = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    };
    let new = |params: &mut CertificateParams| params.not_before = date_time_ymd(2500, 1, 1);
    assert_eq!(reason(&ours.server(name, |_| {}), name), None);
    assert_eq!(reason(&ours.server("192.0.2.1", |_| {}), "192.0.2.1"), None);
    assert_eq!(reason(&ours.server("2001:db8::1", |_| {}), "[2001:db8::1]"), None);
    assert_eq!(reason(&ours.server(name, old), name), Some(TlsError::Expired));
    assert_eq!(reason(&ours.server(name, new), name), Some(TlsError::NotYetValid));
    assert_eq!(reason(&ours.server("b.example", |_| {}), name), Some(TlsError::WrongName));
    assert_eq!(reason(&other.server(name, |_| {}), name), Some(TlsError::UnknownIssuer));
    // Nobody vouches for one that vouches for itself.
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.into()]).expect("a name");
    let pem = params.self_signed(&key).expect("a certificate").pem();
    let own = TlsConfig::new().identity_pem(pem.as_bytes(), key.serialize_pem().as_bytes());
    assert_eq!(reason(&own.expect("an identity"), name), Some(TlsError::UnknownIssuer));
}

#[test]
fn nobody_is_trusted_where_nobody_is_known() {
    let nobody = TlsConfig::new().trust_no_others();
    assert_eq!(nobody.connect("a.example").err(), Some(TlsError::NoRoots));
    assert_eq!(authority().client().connect("not a name").err(), Some(TlsError::WrongName));
    assert!(nobody.accept().is_none() && !nobody.has_identity());
}

#[test]
fn what_does_not_speak_tls_is_told_apart() {
    let mut client = authority().client().connect("a.example").expect("a name");
    client.receive(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]).expect("bytes");
    assert_eq!(client.decipher(), Err(TlsError::NotTls));
}

#[test]
fn an_end_that_was_said_is_one_and_any_other_is_a_cut() {
    for said in [true, false] {
        let mut pair = pair(usize::MAX);
        assert_eq!(pair.shake_hands(), Ok(()));
        pair.sides[SERVER].write(&[Bytes::from_static(b"all of it")]);
        if said {
            pair.sides[SERVER].finish();
        }
        pair.send(SERVER);
        pair.ways[SERVER].cut = true;
        let mut all = Vec::new();
        let end = loop {
            match pair.receive(CLIENT) {
                Ok(Some(0)) => break Taken::Nothing,
                Ok(Some(_)) => {}
                other => panic!("{other:?}"),
            }
            let (bytes, taken) = pair.take(CLIENT, 4);
            all.extend(bytes);
            if taken == Taken::End {
                break taken;
            }
        };
        assert_eq!(all, b"all of it");
        assert_eq!(end == Taken::End, said);
        // Half closed is not closed: the other way still goes.
        pair.sides[CLIENT].write(&[Bytes::from_static(b"thanks")]);
        pair.send(CLIENT);
        while pair.receive(SERVER).expect("no error").is_some_and(|count| count > 0) {
            let (bytes, _) = pair.take(SERVER, 100);
            if bytes == b"thanks" {
                break;
            }
        }
    }
}

#[test]
fn no_more_than_a_loan_is_enciphered_ahead_of_the_socket() {
    let mut pair = pair(usize::MAX);
    assert_eq!(pair.shake_hands(), Ok(()));
    pair.send(SERVER);
    pair.ways[CLIENT].room = 10;
    let megabyte = Bytes::from(vec![7; 1 << 20]);
    pair.sides[CLIENT].write(&[megabyte.clone(), megabyte]);
    assert!(pair.sides[CLIENT].owes() && pair.sides[CLIENT].wants_send());
    pair.send(CLIENT);
    assert!(pair.sides[CLIENT].wants_send(), "the socket is full");
    pair.ways[CLIENT].room = usize::MAX;
    pair.send(CLIENT);
    let settled = pair.sides[CLIENT].settle();
    assert!(settled > 0 && settled <= LOAN_MAX, "{settled}");
    let sent = pair.ways[CLIENT].bytes.len();
    assert!(sent <= LOAN_MAX + 2048, "{sent}");
}

#[test]
fn pem_that_is_of_no_use_says_why() {
    let trust = |pem: &str| TlsConfig::new().trust_pem(pem.as_bytes()).err();
    assert_eq!(trust(""), Some(PemError::NoCertificate));
    assert_eq!(trust("hello"), Some(PemError::NoCertificate));
    let cut = "-----BEGIN CERTIFICATE-----\nMIIB\n";
    assert!(matches!(trust(cut), Some(PemError::Malformed(_))));
    let wrong = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    assert!(matches!(trust(wrong), Some(PemError::BadCertificate(_))));
    let many = authority().pem.repeat(CERTIFICATES_MAX + 1);
    assert_eq!(trust(&many), Some(PemError::TooMany));
    let pem = authority().pem;
    let identity = |key: &str| TlsConfig::new().identity_pem(pem.as_bytes(), key.as_bytes()).err();
    assert_eq!(identity(&pem), Some(PemError::NoKey));
    let another = KeyPair::generate().expect("a key").serialize_pem();
    assert!(matches!(identity(&another), Some(PemError::BadIdentity(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However the bytes are cut on their way and taken at their end, they are the same.
    #[test]
    fn bytes_arrive_however_they_are_cut(
        most in 1_usize..5_000,
        max in 1_usize..20_000,
        parts in prop::collection::vec(1_usize..30_000, 1..6),
    ) {
        let mut pair = pair(most);
        prop_assert_eq!(pair.shake_hands(), Ok(()));
        let all: Vec<u8> = (0..parts.iter().sum()).map(|at: usize| (at % 251) as u8).collect();
        let (mut at, mut got, mut parts) = (0, Vec::new(), parts.into_iter());
        while got.len() < all.len() {
            pair.send(CLIENT);
            if !pair.sides[CLIENT].wants_send() {
                at += pair.sides[CLIENT].settle();
                if let Some(len) = parts.next().or_else(|| (at < all.len()).then(|| all.len() - at)) {
                    let end = (at + len).min(all.len());
                    pair.sides[CLIENT].write(&[Bytes::copy_from_slice(&all[at..end])]);
                }
            }
            let received = pair.receive(SERVER);
            prop_assert!(received.is_ok());
            got.extend(pair.take(SERVER, max).0);
        }
        prop_assert_eq!(got, all);
    }

    /// Whatever a stranger says in place of TLS, there is a reason and no panic.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let authority = authority();
        let mut client = authority.client().connect("a.example").expect("a name");
        let mut server = authority.server("a.example", |_| {}).accept().expect("an identity");
        for session in [&mut client, &mut server] {
            let mut rest = &bytes[..];
            while !rest.is_empty() && session.receive(&mut rest).is_ok_and(|count| count > 0) {
                if session.decipher().is_err() {
                    break;
                }
                prop_assert_eq!(session.take(10), Taken::Nothing);
            }
            session.finish();
        }
    }
}
