//! One scripted peer against a session: what is tolerated, and what is not.

use std::sync::Arc;

use bytes::Bytes;
use teem_core::bitfield::Bitfield;
use teem_core::ids::{InfoHash, PeerId, PieceIndex};
use teem_core::metainfo::create::{Content, Draft, Options};
use teem_core::peer::{CloseReason, LimitReached, Misbehaviour, Refusal};
use teem_core::session::{Config, Event, TorrentState};
use teem_core::time::Duration;
use teem_core::wire::{BlockRequest, HANDSHAKE_LEN, Message, WireError};
use teem_sim::actors::{Conn, Puppet, PuppetConfig, Received};
use teem_sim::net::HostId;
use teem_sim::swarm::{Swarm, address};

use crate::stage::{PIECE_LEN, Stage};

/// As many as the scenarios were written for.
const PIECES: u32 = 9;

const INACTIVITY: CloseReason = CloseReason::Limit(LimitReached::Inactivity);

fn bitfield(pieces: u32, has: impl IntoIterator<Item = u32>) -> Message {
    let mut bits = Bitfield::new(pieces);
    for piece in has {
        bits.set(piece);
    }
    Message::Bitfield(bits.to_wire().into())
}

fn block(piece: u32) -> BlockRequest {
    BlockRequest { piece: PieceIndex(piece), begin: 0, length: PIECE_LEN }
}

fn wire(error: WireError) -> CloseReason {
    CloseReason::Misbehaved(Misbehaviour::Wire(error))
}

#[test]
fn who_hides_what_it_is_gives_peers_no_name() {
    for anonymous in [false, true] {
        let mut stage = Stage::new(PIECES, true, Config { anonymous, ..Config::default() });
        let guest = stage.guest();
        stage.wait(Duration::from_secs(1));
        assert_eq!(stage.hello(guest).client.is_none(), anonymous);
    }
}

/// Says all of `messages` at once to a session that has nothing, and is then silent.
fn only_silence_ends(messages: &[Message]) {
    let mut stage = Stage::leeching(PIECES);
    let guest = stage.guest();
    for message in messages {
        stage.send(guest, message);
    }
    let (after, reason) = stage.closes_within(Duration::from_secs(200));
    assert_eq!(reason, INACTIVITY);
    assert!((149..152).contains(&after.as_secs()), "{after:?}");
    assert_eq!(stage.swarm.session(stage.session).stats().peers_misbehaved, 0);
    assert_eq!(stage.closings().len(), 1);
}

/// Says all of `messages` at once to a session that has nothing, and is closed at once.
fn is_closed_for(messages: &[Message], raw: &'static [u8]) -> CloseReason {
    let mut stage = Stage::leeching(PIECES);
    let guest @ (puppet, conn) = stage.guest();
    for message in messages {
        stage.send(guest, message);
    }
    Puppet::on_mut(&mut stage.swarm, puppet).send_raw(conn, raw);
    let (after, reason) = stage.closes_within(Duration::from_secs(10));
    assert!(after < Duration::from_millis(100), "{after:?}");
    assert_eq!(stage.swarm.session(stage.session).stats().peers_misbehaved, 1);
    reason
}

#[test]
fn have_all_and_have_none_by_turns_are_tolerated() {
    let turns = [Message::HaveAll, Message::HaveNone, Message::HaveAll, Message::HaveNone];
    only_silence_ends(&turns);
}

#[test]
fn a_bitfield_and_then_have_none_is_tolerated() {
    only_silence_ends(&[bitfield(PIECES, [5]), Message::HaveNone]);
}

#[test]
fn a_bitfield_and_then_have_all_is_tolerated() {
    only_silence_ends(&[bitfield(PIECES, [5]), Message::HaveAll]);
}

#[test]
fn a_full_bitfield_and_then_have_all_is_tolerated() {
    only_silence_ends(&[bitfield(PIECES, 0..PIECES), Message::HaveAll]);
}

#[test]
fn a_full_bitfield_and_then_have_none_is_tolerated() {
    only_silence_ends(&[bitfield(PIECES, 0..PIECES), Message::HaveNone]);
}

#[test]
fn the_last_word_on_what_a_peer_has_counts() {
    let mut stage = Stage::leeching(PIECES);
    let guest = stage.guest();
    let told = |stage: &Stage| {
        let id = stage.swarm.torrent(stage.session);
        let peers = stage.swarm.session(stage.session).peers(id);
        (peers[0].pieces, peers[0].interesting)
    };
    for (message, expected) in [
        (bitfield(PIECES, [5]), (1, true)),
        (Message::HaveNone, (0, false)),
        (Message::HaveAll, (PIECES, true)),
        (bitfield(PIECES, [1, 2]), (2, true)),
    ] {
        stage.send(guest, &message);
        stage.wait(Duration::from_millis(50));
        assert_eq!(told(&stage), expected, "{message:?}");
    }
}

#[test]
fn a_seed_lets_go_of_whoever_claims_to_have_everything() {
    let mut stage = Stage::seeding(PIECES);
    let guest = stage.guest();
    for message in [Message::HaveAll, Message::HaveNone, Message::HaveAll, Message::HaveNone] {
        stage.send(guest, &message);
    }
    let (after, reason) = stage.closes_within(Duration::from_secs(10));
    assert_eq!(reason, CloseReason::Refused(Refusal::BothComplete));
    assert!(after < Duration::from_millis(100), "{after:?}");
}

#[test]
fn a_request_for_a_piece_that_is_not_here_is_told_and_rejected() {
    let mut stage = Stage::leeching(PIECES);
    let guest @ (puppet, conn) = stage.guest();
    stage.send(guest, &Message::Interested);
    stage.send(guest, &Message::Request(block(1)));
    stage.wait(Duration::from_secs(100));
    let told: Vec<BlockRequest> = stage
        .swarm
        .events(stage.session)
        .iter()
        .filter_map(|event| match event {
            Event::InvalidRequest { request, .. } => Some(*request),
            _ => None,
        })
        .collect();
    assert_eq!(told, [block(1)]);
    assert!(stage.got(guest).any(|message| *message == Message::Reject(block(1))));
    assert_eq!(stage.closings(), []);
    // Once is a mistake; always is not.
    for _ in 0..300 {
        stage.send(guest, &Message::Request(block(2)));
    }
    let (_, reason) = stage.closes_within(Duration::from_secs(5));
    assert_eq!(reason, CloseReason::Misbehaved(Misbehaviour::PieceNotOurs));
    assert!(!Puppet::on(&stage.swarm, puppet).is_open(conn) || stage.peers() == 0);
    assert_eq!(stage.swarm.session(stage.session).stats().invalid_requests, 300);
}

#[test]
fn a_request_while_choked_is_rejected_and_nothing_else() {
    let mut stage = Stage::new(PIECES, true, Config { upload_slots: 0, ..Config::default() });
    let guest = stage.guest();
    stage.send(guest, &Message::Interested);
    stage.send(guest, &Message::Request(block(1)));
    stage.wait(Duration::from_secs(100));
    assert!(stage.got(guest).any(|message| *message == Message::Reject(block(1))));
    assert!(!stage.got(guest).any(|message| matches!(message, Message::Piece { .. })));
    assert_eq!((stage.peers(), stage.closings().len()), (1, 0));
    assert_eq!(stage.swarm.session(stage.session).stats().uploaded_bytes, 0);
}

#[test]
fn messages_that_announce_too_much_are_told_apart() {
    for len in [2_000_000, u32::MAX] {
        let announced = |id: u8| -> &'static [u8] {
            let mut bytes = len.to_be_bytes().to_vec();
            bytes.push(id);
            bytes.leak()
        };
        for (id, error) in [
            (0, WireError::FixedLength { id: 0, len }),
            (5, WireError::BitfieldLength { len, pieces: PIECES }),
            (7, WireError::BlockTooLong { len }),
            (20, WireError::ExtendedTooLong { len }),
            (200, WireError::OtherTooLong { id: 200, len }),
        ] {
            assert_eq!(is_closed_for(&[], announced(id)), wire(error));
        }
    }
}

/// A `have` of three bytes.
const BROKEN: &[u8] = &[0, 0, 0, 3, 4, 0, 0];

/// A type that nobody knows.
const UNKNOWN: &[u8] = &[0, 0, 0, 1, 0xff];

#[test]
fn a_message_that_cannot_be_read_closes_and_one_of_an_unknown_type_is_skipped() {
    let error = WireError::FixedLength { id: 4, len: 3 };
    assert_eq!(is_closed_for(&[], BROKEN), wire(error));
    let mut stage = Stage::leeching(PIECES);
    let (puppet, conn) = stage.guest();
    Puppet::on_mut(&mut stage.swarm, puppet).send_raw(conn, UNKNOWN);
    stage.wait(Duration::from_mins(1));
    assert_eq!((stage.peers(), stage.closings().len()), (1, 0));
}

#[test]
fn a_message_that_cannot_be_read_closes_a_peer_that_is_of_use_as_well() {
    let error = WireError::FixedLength { id: 4, len: 3 };
    assert_eq!(is_closed_for(&[Message::HaveAll], BROKEN), wire(error));
}

#[test]
fn a_bitfield_that_is_too_short_closes_for_that() {
    let error = WireError::BitfieldLength { len: 2, pieces: PIECES };
    assert_eq!(is_closed_for(&[bitfield(PIECES - 1, 0..PIECES - 1)], &[]), wire(error));
}

#[test]
fn a_bitfield_that_is_too_long_closes_for_that() {
    let error = WireError::BitfieldLength { len: 4, pieces: PIECES };
    assert_eq!(is_closed_for(&[bitfield(PIECES + 9, 0..PIECES + 9)], &[]), wire(error));
}

#[test]
fn bits_beyond_the_last_piece_close_for_that() {
    let reason = is_closed_for(&[bitfield(PIECES + 1, [PIECES])], &[]);
    assert!(matches!(reason, CloseReason::Misbehaved(Misbehaviour::Bitfield(_))), "{reason:?}");
}

#[test]
fn who_asks_for_an_unknown_torrent_is_told_of_without_one() {
    let mut stage = Stage::leeching(PIECES);
    let puppet = stage.puppet(|config, _| config.info_hash = InfoHash([b'0'; 20]));
    let to = address(stage.session);
    Puppet::on_mut(&mut stage.swarm, puppet).dial(to);
    stage.wait(Duration::from_secs(5));
    let closed: Vec<_> = stage
        .swarm
        .events(stage.session)
        .iter()
        .filter_map(|event| match event {
            Event::PeerClosed { torrent, address, reason } => {
                Some((*torrent, address.ip(), *reason))
            }
            _ => None,
        })
        .collect();
    let refused = CloseReason::Refused(Refusal::UnknownTorrent);
    assert_eq!(closed, [(None, address(puppet).ip(), refused)]);
}

// BEP 6, "Allowed Fast".

fn allowed_by(stage: &Stage, guest: (HostId, Conn)) -> Vec<u32> {
    let allowed = stage.got(guest).filter_map(|message| match message {
        Message::AllowedFast(piece) => Some(piece.0),
        _ => None,
    });
    allowed.collect()
}

#[test]
fn the_allowed_set_is_the_same_whatever_the_peer_has() {
    let (pieces, size) = (50, 13);
    let config = Config { allowed_fast_pieces: size, ..Config::default() };
    let mut stage = Stage::new(pieces, false, config);
    let puppet = stage.puppet(|_, _| {});
    let mut whole = Vec::new();
    for has in 0..=pieces {
        let guest = (puppet, stage.dial(puppet));
        stage.send(guest, &bitfield(pieces, 0..has));
        stage.send(guest, &Message::Interested);
        // Said twice, told once.
        stage.send(guest, &Message::NotInterested);
        stage.send(guest, &Message::Interested);
        stage.wait(Duration::from_millis(100));
        let allowed = allowed_by(&stage, guest);
        if has == 0 {
            whole.clone_from(&allowed);
            whole.sort_unstable();
            whole.dedup();
            assert_eq!(whole.len(), size as usize, "{allowed:?}");
        }
        let mut sorted = allowed.clone();
        sorted.sort_unstable();
        let expected: Vec<u32> = whole.iter().copied().filter(|piece| *piece >= has).collect();
        assert_eq!(sorted, expected, "with {has} pieces");
        Puppet::on_mut(&mut stage.swarm, puppet).abort(guest.1);
        stage.wait(Duration::from_millis(100));
    }
    assert!(whole.iter().all(|piece| *piece < pieces));
}

#[test]
fn an_allowed_set_of_nearly_all_pieces_is_given_up_early() {
    let pieces = 50_000;
    let options = Options { piece_len: Some(PIECE_LEN), ..Options::default() };
    let len = u64::from(pieces) * u64::from(PIECE_LEN);
    let draft = Draft::new("content", Content::File(len), options).expect("a sound draft");
    let metainfo = draft.finish(&vec![[0; 20]; pieces as usize]).expect("a sound torrent");
    let mut swarm = Swarm::of(Arc::new(metainfo), Bytes::new());
    let config = Config { allowed_fast_pieces: pieces - 1, ..Config::default() };
    let session = swarm.leecher(config);
    let downloading = |swarm: &Swarm| swarm.snapshot(session).state == TorrentState::Downloading;
    assert!(swarm.run(10, downloading));
    let mut stage = Stage { swarm, session };
    let guest = stage.guest();
    stage.send(guest, &Message::Interested);
    stage.wait(Duration::from_secs(1));
    let mut allowed = allowed_by(&stage, guest);
    let told = allowed.len();
    allowed.sort_unstable();
    allowed.dedup();
    assert_eq!(allowed.len(), told, "none twice");
    assert!(allowed.iter().all(|piece| *piece < pieces));
    assert!((1..pieces as usize / 80).contains(&told), "{told}");
}

#[test]
fn what_is_allowed_is_fetched_while_choked_and_no_more() {
    let mut swarm = Swarm::new(40 * PIECE_LEN as usize, PIECE_LEN, 40);
    let all_choked = Config { upload_slots: 0, allowed_fast_pieces: 7, ..Config::default() };
    let seeder = swarm.seeder(all_choked);
    let leecher = swarm.leecher(Config::default());
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(10, |swarm| swarm.snapshot(leecher).have_pieces == 7));
    swarm.run(120, |_| false);
    let got = swarm.snapshot(leecher);
    assert_eq!((got.have_pieces, got.peers), (7, 1));
    let id = swarm.torrent(leecher);
    assert!(swarm.session(leecher).peers(id)[0].choking_us);
    assert_eq!(swarm.session(seeder).stats().uploaded_bytes, 7 * u64::from(PIECE_LEN));
}

#[test]
fn an_allowed_piece_is_served_once_and_survives_a_choke() {
    let config = Config { upload_slots: 0, allowed_fast_pieces: 3, ..Config::default() };
    let mut stage = Stage::new(PIECES, true, config);
    let guest = stage.guest();
    stage.send(guest, &Message::Interested);
    stage.wait(Duration::from_secs(1));
    let allowed = allowed_by(&stage, guest);
    assert_eq!(allowed.len(), 3);
    for _ in 0..2 {
        for piece in 0..PIECES {
            stage.send(guest, &Message::Request(block(piece)));
        }
    }
    stage.wait(Duration::from_secs(5));
    let mut served: Vec<u32> = stage
        .got(guest)
        .filter_map(|message| match message {
            Message::Piece { piece, .. } => Some(piece.0),
            _ => None,
        })
        .collect();
    served.sort_unstable();
    let mut expected = allowed;
    expected.sort_unstable();
    assert_eq!(served, expected);
    let rejected = stage.got(guest).filter(|message| matches!(message, Message::Reject(_)));
    assert_eq!(rejected.count(), 2 * PIECES as usize - 3);
}

#[test]
fn an_allowed_piece_that_is_rejected_is_not_asked_for_again() {
    let mut stage = Stage::leeching(PIECES);
    let guest = stage.guest();
    stage.send(guest, &Message::HaveAll);
    stage.send(guest, &Message::AllowedFast(PieceIndex(4)));
    stage.send(guest, &Message::AllowedFast(PieceIndex(4)));
    stage.wait(Duration::from_secs(2));
    let asked = |stage: &Stage| -> Vec<BlockRequest> {
        let requests = stage.got(guest).filter_map(|message| match message {
            Message::Request(request) => Some(*request),
            _ => None,
        });
        requests.collect()
    };
    assert_eq!(asked(&stage), [block(4)]);
    stage.send(guest, &Message::Reject(block(4)));
    stage.wait(Duration::from_secs(20));
    assert_eq!(asked(&stage), [block(4)]);
    assert_eq!(stage.peers(), 1);
}

// Who is let in.

#[test]
fn a_second_connection_of_the_same_peer_id_is_a_duplicate() {
    let mut stage = Stage::leeching(PIECES);
    let id = PeerId([0xaa; 20]);
    let puppets = [0; 2].map(|_| stage.puppet(|config, _| config.peer_id = id));
    for puppet in puppets {
        let to = address(stage.session);
        Puppet::on_mut(&mut stage.swarm, puppet).dial(to);
    }
    stage.wait(Duration::from_secs(5));
    assert_eq!(stage.closings(), [CloseReason::Refused(Refusal::Duplicate)]);
    assert_eq!(stage.peers(), 1);
}

#[test]
fn without_encryption_the_first_bytes_are_the_handshake_and_all_is_done_in_twenty_seconds() {
    let mut swarm = Swarm::new(1_000_000, 64 * 1024, 41);
    let seeder = swarm.seeder(Config::default());
    let leecher = swarm.leecher(Config::default());
    let info_hash = swarm.metainfo().info().swarm_hash();
    let listener = swarm.actor(|host| {
        let listen = Some(address(host));
        let config = PuppetConfig { listen, auto_handshake: false, ..PuppetConfig::new(info_hash) };
        Puppet::new(config)
    });
    swarm.introduce(leecher, &[seeder, listener]);
    assert!(swarm.run(20, |swarm| swarm.is_complete(leecher)));
    let puppet = Puppet::on(&swarm, listener);
    let first = puppet.accepted().next().expect("it was dialled");
    let seen: Vec<_> = puppet.received(first).iter().map(|(_, what)| what).collect();
    // The handshake, with nothing before it; the puppet would tell of bytes that are none.
    assert!(matches!(seen[..2], [Received::Connected(_), Received::Handshake(_)]), "{seen:?}");
    assert_eq!(HANDSHAKE_LEN, 68);
}
