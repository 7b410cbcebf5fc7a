//! Encrypted connections: who talks to whom, and how.

use bytes::Bytes;
use teem_core::ids::{InfoHash, PeerId};
use teem_core::mse::{self, Established, Initiator, Method, Responder};
use teem_core::peer::{CloseReason, LimitReached, Misbehaviour, Refusal};
use teem_core::rng::{Rng, Seed};
use teem_core::session::{Config, Encryption, Event};
use teem_core::time::Duration;
use teem_core::wire::{HANDSHAKE_LEN, Handshake, HandshakeParser, Reserved};
use teem_sim::actors::{Conn, Puppet, Received};
use teem_sim::net::HostId;
use teem_sim::swarm::{Swarm, address};

use super::stage::{Stage, closings};

const PLAINTEXT: &[Method] = &[Method::Plaintext];
const EITHER: &[Method] = &[Method::Plaintext, Method::Rc4];

const ID: PeerId = PeerId(*b"-XX0000-hiddenhidden");

fn config(encryption: Encryption) -> Config {
    Config { encryption, ..Config::default() }
}

/// How a session's connections were encrypted.
fn connections(swarm: &Swarm, host: HostId) -> Vec<Option<Method>> {
    let events = swarm.events(host).iter();
    events
        .filter_map(|event| match event {
            Event::PeerConnected(_, _, encryption) => Some(*encryption),
            _ => None,
        })
        .collect()
}

/// A download by a session that dials another; how the two were connected, if they were.
fn download(leecher: Encryption, seeder: Encryption) -> (Vec<Option<Method>>, Vec<CloseReason>) {
    let mut swarm = Swarm::new(1_000_000, 64 * 1024, 51);
    let [seeder, leecher] = [swarm.seeder(config(seeder)), swarm.leecher(config(leecher))];
    swarm.introduce(leecher, &[seeder]);
    let done = swarm.run(20, |swarm| swarm.is_complete(leecher));
    let how = connections(&swarm, leecher);
    assert_eq!(done, !how.is_empty());
    assert_eq!(connections(&swarm, seeder), how);
    if done {
        assert!(swarm.disk(leecher) == swarm.content());
    }
    for host in [seeder, leecher] {
        let encrypted = how.iter().filter(|how| **how == Some(Method::Rc4)).count() as u64;
        assert_eq!(swarm.session(host).stats().peers_encrypted, encrypted);
        let told = swarm.session(host).peers(swarm.torrent(host));
        assert!(told.iter().all(|peer| Some(&peer.encryption) == how.last()));
    }
    (how, closings(&swarm, leecher))
}

#[test]
fn every_pair_of_settings_connects_as_it_can() {
    use Encryption::{Allow, Off, Prefer, Require};
    const NEVER: &[Option<Method>] = &[];
    const CLEAR: &[Option<Method>] = &[None];
    const RC4: &[Option<Method>] = &[Some(Method::Rc4)];
    let all = [Off, Allow, Prefer, Require];
    // Who dials, and whom: how they connect, and after how many attempts that failed.
    let wanted = [
        [(CLEAR, 0), (CLEAR, 0), (CLEAR, 0), (NEVER, 1)],
        [(CLEAR, 0), (CLEAR, 0), (CLEAR, 0), (RC4, 1)],
        [(CLEAR, 1), (RC4, 0), (RC4, 0), (RC4, 0)],
        [(NEVER, 1), (RC4, 0), (RC4, 0), (RC4, 0)],
    ];
    let mut pairs = 0;
    for (leecher, row) in all.into_iter().zip(wanted) {
        for (seeder, (wanted, failed)) in all.into_iter().zip(row) {
            let (how, closed) = download(leecher, seeder);
            assert_eq!(how, wanted, "{leecher:?} dials {seeder:?}");
            let refused = closed.iter().filter(|reason| matches!(reason, CloseReason::Io(_)));
            assert_eq!(refused.count(), failed, "{leecher:?} dials {seeder:?}: {closed:?}");
            pairs += 1;
        }
    }
    assert_eq!(pairs, 16);
}

#[test]
fn two_that_require_encryption_are_done_in_twenty_seconds() {
    let (how, _) = download(Encryption::Require, Encryption::Require);
    assert_eq!(how, [Some(Method::Rc4)]);
}

#[test]
fn one_that_prefers_encryption_has_it_with_one_that_allows_it() {
    let (how, _) = download(Encryption::Prefer, Encryption::Allow);
    assert_eq!(how, [Some(Method::Rc4)]);
}

#[test]
fn two_that_allow_encryption_do_without() {
    let (how, closed) = download(Encryption::Allow, Encryption::Allow);
    assert_eq!(how, [None]);
    assert!(!closed.iter().any(|reason| matches!(reason, CloseReason::Io(_))));
}

#[test]
fn two_that_prefer_encryption_have_it() {
    let (how, _) = download(Encryption::Prefer, Encryption::Prefer);
    assert_eq!(how, [Some(Method::Rc4)]);
}

#[test]
fn one_without_encryption_never_gets_anything_of_one_that_requires_it() {
    let mut swarm = Swarm::new(1_000_000, 64 * 1024, 52);
    let seeder = swarm.seeder(config(Encryption::Off));
    let leecher = swarm.leecher(config(Encryption::Require));
    swarm.introduce(leecher, &[seeder]);
    swarm.introduce(seeder, &[leecher]);
    assert!(!swarm.run(120, |swarm| !connections(swarm, leecher).is_empty()));
    assert_eq!(swarm.session(leecher).stats().downloaded_bytes, 0);
    let unencrypted = CloseReason::Refused(Refusal::Unencrypted);
    assert!(closings(&swarm, leecher).contains(&unencrypted));
    let protocol = |reason: &CloseReason| {
        matches!(reason, CloseReason::Misbehaved(Misbehaviour::Handshake(_)))
    };
    assert!(closings(&swarm, seeder).iter().any(protocol));
}

#[test]
fn an_encrypted_swarm_finishes_and_every_byte_is_right() {
    let mut swarm = Swarm::new(3_000_000, 64 * 1024, 53);
    let seeder =
        swarm.seeder(Config { up_bytes_per_s: Some(500_000), ..config(Encryption::Require) });
    let kinds = [Encryption::Allow, Encryption::Prefer, Encryption::Require];
    let leechers: Vec<_> = (0..6).map(|at| swarm.leecher(config(kinds[at % 3]))).collect();
    for leecher in &leechers {
        let mut others = leechers.clone();
        others.push(seeder);
        swarm.introduce(*leecher, &others);
    }
    let all = |swarm: &Swarm| leechers.iter().all(|leecher| swarm.is_complete(*leecher));
    assert!(swarm.run(120, all));
    for leecher in &leechers {
        assert!(swarm.disk(*leecher) == swarm.content());
        assert_eq!(swarm.session(*leecher).stats().corrupt_bytes, 0);
    }
}

/// A scripted end of an encrypted handshake, over a puppet that knows nothing of it.
struct Hidden {
    puppet: HostId,
    conn: Conn,
    read: usize,
    role: Role,
    established: Option<Established>,
    /// What came after it, in the clear.
    rest: Vec<u8>,
}

enum Role {
    Initiator(Initiator),
    Responder(Responder),
}

fn rng() -> Rng {
    Seed::from_number(7).stream("mse", 0)
}

fn raw(swarm: &Swarm, puppet: HostId, conn: Conn) -> Vec<u8> {
    let received = Puppet::on(swarm, puppet).received(conn).iter();
    let bytes = received.filter_map(|(_, what)| match what {
        Received::Raw(bytes) => Some(&bytes[..]),
        _ => None,
    });
    bytes.collect::<Vec<_>>().concat()
}

impl Hidden {
    /// Dials the session, hides the handshake with this torrent, and says `initial` within.
    fn dial(
        stage: &mut Stage,
        torrent: InfoHash,
        offer: &'static [Method],
        initial: &[u8],
    ) -> Self {
        let puppet = stage.puppet(|config, _| config.auto_handshake = false);
        let to = address(stage.session);
        let mut first = Vec::new();
        let initiator = Initiator::new(torrent, offer, initial, &mut rng(), &mut first);
        let actor = Puppet::on_mut(&mut stage.swarm, puppet);
        let conn = actor.dial(to);
        actor.send_raw(conn, first);
        let role = Role::Initiator(initiator);
        Self { puppet, conn, read: 0, role, established: None, rest: Vec::new() }
    }

    /// Goes on for half a second.
    fn run(&mut self, stage: &mut Stage) -> Result<(), mse::Error> {
        for _ in 0..5 {
            stage.wait(Duration::from_millis(100));
            let all = raw(&stage.swarm, self.puppet, self.conn);
            let mut input = Bytes::copy_from_slice(&all[self.read..]);
            self.read = all.len();
            let mut out = Vec::new();
            if self.established.is_none() {
                let torrent = stage.swarm.metainfo().info().swarm_hash();
                self.established = match &mut self.role {
                    Role::Initiator(initiator) => initiator.receive(&mut input, &mut out)?,
                    Role::Responder(responder) => {
                        responder.receive(&mut input, |_| Some(torrent), &mut out)?
                    }
                };
            }
            if let Some(established) = &mut self.established {
                self.rest.extend_from_slice(&match &mut established.cipher {
                    Some(cipher) => cipher.open(&input),
                    None => input,
                });
            }
            if !out.is_empty() {
                Puppet::on_mut(&mut stage.swarm, self.puppet).send_raw(self.conn, out);
            }
        }
        Ok(())
    }

    /// The session's handshake, if it came.
    fn handshake(&self) -> Option<Handshake> {
        HandshakeParser::new().push(&mut Bytes::copy_from_slice(&self.rest)).expect("a handshake")
    }
}

fn hello(stage: &Stage) -> [u8; HANDSHAKE_LEN] {
    let info_hash = stage.swarm.metainfo().info().swarm_hash();
    Handshake { reserved: Reserved::NONE, info_hash, peer_id: ID }.encode()
}

fn torrent_of(stage: &Stage) -> InfoHash {
    stage.swarm.metainfo().info().swarm_hash()
}

/// Whoever hides its handshake and offers `offer` to a session of this setting: how it goes on.
fn offered(offer: &'static [Method], encryption: Encryption) -> Option<Method> {
    let mut stage = Stage::new(4, true, config(encryption));
    let (torrent, hello) = (torrent_of(&stage), hello(&stage));
    let mut hidden = Hidden::dial(&mut stage, torrent, offer, &hello);
    hidden.run(&mut stage).expect("the session keeps the rules");
    let method = hidden.established.as_ref().map(Established::method);
    assert_eq!(hidden.handshake().map(|theirs| theirs.info_hash), Some(torrent));
    assert_eq!(connections(&stage.swarm, stage.session), [method]);
    method
}

#[test]
fn whoever_hides_only_its_handshake_is_served_in_the_clear() {
    assert_eq!(offered(PLAINTEXT, Encryption::Allow), Some(Method::Plaintext));
    assert_eq!(offered(PLAINTEXT, Encryption::Prefer), Some(Method::Plaintext));
}

#[test]
fn of_both_methods_the_one_that_costs_less_is_taken() {
    assert_eq!(offered(EITHER, Encryption::Allow), Some(Method::Plaintext));
}

#[test]
fn of_both_methods_rc4_is_taken_by_whoever_prefers_it() {
    assert_eq!(offered(EITHER, Encryption::Prefer), Some(Method::Rc4));
    assert_eq!(offered(EITHER, Encryption::Require), Some(Method::Rc4));
}

#[test]
fn whoever_refuses_the_clear_and_hides_only_its_handshake_is_fetched_from() {
    let mut stage = Stage::leeching(4);
    let listener = stage.puppet(|config, host| {
        config.listen = Some(address(host));
        config.auto_handshake = false;
    });
    stage.swarm.introduce(stage.session, &[listener]);
    stage.wait(Duration::from_secs(1));
    let first = Puppet::on(&stage.swarm, listener).accepted().next().expect("it was dialled");
    Puppet::on_mut(&mut stage.swarm, listener).abort(first);
    stage.wait(Duration::from_secs(1));
    let second = Puppet::on(&stage.swarm, listener).accepted().nth(1).expect("dialled again");
    let bytes = raw(&stage.swarm, listener, second);
    assert!(bytes.len() >= mse::PUBLIC_KEY_LEN && !bytes.starts_with(b"\x13BitTorrent"));
    let role = Role::Responder(Responder::new(PLAINTEXT, &mut rng()));
    let mut hidden = Hidden {
        puppet: listener,
        conn: second,
        read: 0,
        role,
        established: None,
        rest: Vec::new(),
    };
    hidden.run(&mut stage).expect("the session keeps the rules");
    let established = hidden.established.as_ref().expect("it went through");
    assert_eq!(established.method(), Method::Plaintext);
    assert_eq!(established.initial.len(), HANDSHAKE_LEN);
    let answer = hello(&stage);
    Puppet::on_mut(&mut stage.swarm, listener).send_raw(second, answer.to_vec());
    stage.wait(Duration::from_secs(1));
    assert_eq!(connections(&stage.swarm, stage.session), [Some(Method::Plaintext)]);
}

/// Dials a session of this setting and says `bytes`; why it was let go.
fn told(encryption: Encryption, bytes: Vec<u8>, limit: Duration) -> CloseReason {
    let mut stage = Stage::new(4, true, config(encryption));
    let puppet = stage.puppet(|config, _| config.auto_handshake = false);
    let to = address(stage.session);
    let actor = Puppet::on_mut(&mut stage.swarm, puppet);
    let conn = actor.dial(to);
    actor.send_raw(conn, bytes);
    stage.closes_within(limit).1
}

#[test]
fn who_breaks_the_rules_of_encryption_is_told_apart() {
    let soon = Duration::from_secs(2);
    let noise = vec![0x55; 2_000];
    let broken = |error| CloseReason::Misbehaved(Misbehaviour::Encryption(error));
    assert_eq!(told(Encryption::Allow, noise.clone(), soon), broken(mse::Error::NoSync));
    assert_eq!(told(Encryption::Allow, vec![0; 96], soon), broken(mse::Error::PublicKey));
    // Too little to tell: that takes as long as a handshake may.
    let late = Duration::from_secs(25);
    let timeout = CloseReason::Limit(LimitReached::HandshakeTimeout);
    assert_eq!(told(Encryption::Allow, vec![0x55; 95], late), timeout);
    let off = told(Encryption::Off, noise, soon);
    assert!(matches!(off, CloseReason::Misbehaved(Misbehaviour::Handshake(_))), "{off:?}");
    let clear = b"\x13BitTorrent protocol".to_vec();
    let unencrypted = CloseReason::Refused(Refusal::Unencrypted);
    assert_eq!(told(Encryption::Require, clear, soon), unencrypted);
}

#[test]
fn a_hidden_handshake_must_be_about_a_torrent_that_is_here_and_the_same_within() {
    let mut stage = Stage::seeding(4);
    let hello = hello(&stage);
    let mut hidden = Hidden::dial(&mut stage, InfoHash([9; 20]), EITHER, &hello);
    hidden.run(&mut stage).expect("nothing is said");
    assert_eq!(stage.closings(), [CloseReason::Refused(Refusal::UnknownTorrent)]);
    let torrent = torrent_of(&stage);
    let info_hash = InfoHash([9; 20]);
    let other = Handshake { reserved: Reserved::NONE, info_hash, peer_id: ID };
    let mut hidden = Hidden::dial(&mut stage, torrent, EITHER, &other.encode());
    hidden.run(&mut stage).expect("the session keeps the rules");
    let wrong = CloseReason::Misbehaved(Misbehaviour::WrongInfoHash);
    assert_eq!(stage.closings()[1..], [wrong]);
}

/// How often a session of this setting dials somebody who never says a word, in fifty seconds, and
/// whether it began with the handshake of BitTorrent.
fn dials_of_the_silent(encryption: Encryption) -> Vec<bool> {
    let mut stage = Stage::new(4, false, config(encryption));
    let listener = stage.puppet(|config, host| {
        config.listen = Some(address(host));
        config.auto_handshake = false;
    });
    stage.swarm.introduce(stage.session, &[listener]);
    stage.wait(Duration::from_secs(45));
    let puppet = Puppet::on(&stage.swarm, listener);
    let clear = |conn| puppet.handshake(conn).is_some();
    puppet.accepted().map(clear).collect()
}

#[test]
fn silence_may_mean_that_encryption_is_not_understood_but_not_that_it_is_required() {
    assert_eq!(dials_of_the_silent(Encryption::Allow), [true]);
    assert_eq!(dials_of_the_silent(Encryption::Prefer), [false, true]);
    assert_eq!(dials_of_the_silent(Encryption::Require), [false]);
}
