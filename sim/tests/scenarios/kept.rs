//! Peers of a magnet link stay when its metadata come: what they said of pieces until then counts,
//! is judged as always, and they learn what they would have been told in a new handshake.

use std::sync::Arc;

use bytes::Bytes;
use teem_core::bencode::Tape;
use teem_core::bitfield::{Bitfield, BitfieldError};
use teem_core::ids::PieceIndex;
use teem_core::metainfo::create::Format;
use teem_core::peer::{CloseReason, LocalReason, Misbehaviour, Refusal};
use teem_core::session::{Command, Config, Encryption, Event, TorrentState};
use teem_core::time::Duration;
use teem_core::wire::{
    BLOCK_LEN, BlockRequest, Extension, ExtensionHandshake, HashMessage, HashRequest, Message,
    PIECE_HEADER_LEN, Reserved, WireError,
};
use teem_sim::actors::{Conn, Puppet};
use teem_sim::net::HostId;
use teem_sim::swarm::{Swarm, address};

use crate::metadata::{claim, dialled, fetcher, give, is_received, large, magnet, stage_with};
use crate::stage::{Stage, closings};

type Guest = (HostId, Conn);

/// A client on stage that has a magnet link of a v1 torrent, the dictionary, and how many pieces it
/// tells of.
fn magnet_stage() -> (Stage, Bytes, u32) {
    let (metainfo, content) = large(Format::V1);
    let bytes = metainfo.info().bytes().clone();
    let pieces = metainfo.info().layout().piece_count();
    let link = magnet(&metainfo, true, false);
    (stage_with(metainfo, content, link), bytes, pieces)
}

/// Somebody on stage gives the whole dictionary.
fn teach(stage: &mut Stage, guest: Guest, bytes: &Bytes) {
    claim(stage, guest, bytes.len() as u32);
    give(stage, guest, bytes);
    assert!(stage.swarm.heard(stage.session, is_received));
    stage.wait(Duration::from_secs(1));
}

/// A bitfield of `pieces` pieces, all of them set, and no spare bit.
fn all_of(pieces: u32) -> Vec<u8> {
    Bitfield::full(pieces).to_wire()
}

fn is_open(stage: &Stage, (puppet, conn): Guest) -> bool {
    Puppet::on(&stage.swarm, puppet).is_open(conn)
}

fn haves(stage: &Stage, guest: Guest) -> Vec<u32> {
    let pieces = stage.got(guest).filter_map(|message| match message {
        Message::Have(PieceIndex(piece)) => Some(*piece),
        _ => None,
    });
    pieces.collect()
}

fn is_asked(stage: &Stage, guest: Guest) -> bool {
    stage.got(guest).any(|message| matches!(message, Message::Request(_)))
}

#[test]
fn everybody_has_one_connection_to_everybody_before_and_after_the_metadata() {
    for (format, v1, v2) in [
        (Format::V1, true, false),
        (Format::V2, false, true),
        (Format::Hybrid, true, false),
        (Format::Hybrid, false, true),
        (Format::Hybrid, true, true),
    ] {
        for encryption in [Encryption::default(), Encryption::Require] {
            let what = format!("{format:?} {v1} {v2} {encryption:?}");
            let config = || Config { encryption, ..Config::default() };
            let (metainfo, content) = large(format);
            let link = magnet(&metainfo, v1, v2);
            let mut swarm = Swarm::of(Arc::clone(&metainfo), content);
            let fetchers: Vec<_> = (0..4)
                .map(|_| swarm.add(None, config(), |add| add.metainfo = link.clone()))
                .collect();
            // They meet while nobody knows anything: each dials those before it.
            for (at, fetcher) in fetchers.iter().enumerate() {
                swarm.introduce(*fetcher, &fetchers[..at]);
            }
            swarm.run(5, |_| false);
            for fetcher in &fetchers {
                assert_eq!(swarm.session(*fetcher).stats().peers, 3, "{what}");
            }
            // Somebody who has everything dials the first, or is dialled if it would come by a hash that is
            // not known there yet.
            let seeder = swarm.seeder(config());
            if v1 || format == Format::V2 {
                swarm.introduce(seeder, &fetchers[..1]);
            } else {
                swarm.introduce(fetchers[0], &[seeder]);
            }
            let all = |swarm: &Swarm| fetchers.iter().all(|host| swarm.is_complete(*host));
            assert!(swarm.run(120, all), "{what}");
            for (host, connections) in fetchers.iter().zip([4, 3, 3, 3]) {
                assert!(swarm.disk(*host) == swarm.content(), "{what}");
                let stats = swarm.session(*host).stats();
                assert_eq!(stats.peers_connected, connections, "{what}");
                let why = closings(&swarm, *host);
                let complete = CloseReason::from(Refusal::BothComplete);
                let ended = |why: &CloseReason| *why == complete || *why == CloseReason::Ended;
                assert!(why.iter().all(ended), "{what}: {why:?}");
            }
        }
    }
}

#[test]
fn a_peer_that_came_to_us_stays_and_what_it_said_before_counts() {
    let half = |pieces: u32| {
        let mut half = vec![0; pieces.div_ceil(8) as usize];
        half[0] = 0xf0;
        half
    };
    // Who it is, what it says first of pieces, and how many it turns out to have.
    let ways = |pieces: u32| -> Vec<(Vec<Message>, usize)> {
        vec![
            (vec![Message::HaveAll], pieces as usize),
            (vec![Message::Bitfield(all_of(pieces).into())], pieces as usize),
            (vec![Message::Bitfield(half(pieces).into()), Message::Have(PieceIndex(9))], 5),
            (vec![Message::HaveNone, Message::Have(PieceIndex(2))], 1),
            (vec![Message::Have(PieceIndex(pieces - 1)), Message::Have(PieceIndex(0))], 2),
            // The last word counts.
            (vec![Message::HaveAll, Message::Bitfield(half(pieces).into())], 4),
        ]
    };
    let (_, _, pieces) = magnet_stage();
    for (said, has) in ways(pieces) {
        let (mut stage, bytes, _) = magnet_stage();
        let guest = stage.guest();
        for message in &said {
            stage.send(guest, message);
        }
        stage.send(guest, &Message::Interested);
        stage.send(guest, &Message::Unchoke);
        teach(&mut stage, guest, &bytes);
        let session = stage.session;
        let peers = stage.swarm.session(session).peers(stage.swarm.torrent(session));
        assert_eq!(peers.len(), 1, "{said:?}");
        let peer = &peers[0];
        assert_eq!((peer.pieces as usize, peer.outgoing), (has, false), "{said:?}");
        assert!(peer.interested && !peer.choking_us && peer.interesting, "{said:?}");
        assert_eq!(stage.closings(), [], "{said:?}");
        assert!(is_asked(&stage, guest), "{said:?}");
        // It asks no less than anybody: there is a slot for it.
        assert!(stage.got(guest).any(|message| *message == Message::Unchoke), "{said:?}");
        // It was told once that nothing is here, and nothing else since.
        let told = |wanted: &Message| stage.got(guest).filter(|got| *got == wanted).count();
        assert_eq!(told(&Message::HaveNone), 1);
        assert!(!stage.got(guest).any(|got| matches!(got, Message::Bitfield(_))));
    }
}

#[test]
fn a_peer_without_extensions_of_its_own_stays_beside_the_one_that_gives_the_metadata() {
    let (mut stage, bytes, pieces) = magnet_stage();
    let plain = stage.puppet(|config, _| config.reserved = Reserved::NONE);
    let plain = (plain, stage.dial(plain));
    stage.send(plain, &Message::Bitfield(all_of(pieces).into()));
    stage.wait(Duration::from_secs(1));
    let giver = stage.guest();
    teach(&mut stage, giver, &bytes);
    assert_eq!((stage.peers(), stage.closings().len()), (2, 0));
    assert!(stage.got(plain).any(|message| *message == Message::Interested));
    stage.send(plain, &Message::Unchoke);
    stage.wait(Duration::from_secs(1));
    assert!(is_asked(&stage, plain));
    // Nothing of what it does not speak.
    let spoken = |message: &Message| {
        !matches!(message, Message::HaveNone | Message::HaveAll | Message::Extended { .. })
    };
    assert!(stage.got(plain).all(spoken));
}

#[test]
fn an_offer_to_serve_while_choked_and_a_lost_piece_are_remembered() {
    let (mut stage, bytes, _) = magnet_stage();
    let guest = stage.guest();
    stage.send(guest, &Message::HaveAll);
    stage.send(guest, &Message::AllowedFast(PieceIndex(3)));
    stage.send(guest, &Message::AllowedFast(PieceIndex(4)));
    let id = Extension::DontHave.local_id();
    let payload = Bytes::from_static(&[0, 0, 0, 4]);
    stage.send(guest, &Message::Extended { id, payload });
    teach(&mut stage, guest, &bytes);
    let asked: Vec<_> = stage
        .got(guest)
        .filter_map(|message| match message {
            Message::Request(request) => Some(request.piece.0),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [3], "it chokes us, and lost the other one");
    assert_eq!(stage.closings(), []);
}

#[test]
fn who_lies_about_pieces_before_there_are_any_is_dropped_for_that_when_there_are() {
    let (_, _, pieces) = magnet_stage();
    assert!(!pieces.is_multiple_of(8), "there are spare bits");
    let bits = all_of(pieces);
    let len = bits.len() as u32 + 1;
    let mut spare = bits.clone();
    *spare.last_mut().expect("some") |= 1;
    let wire = |len| CloseReason::from(WireError::BitfieldLength { len, pieces });
    let beyond = CloseReason::from(Misbehaviour::NoSuchPiece(pieces));
    let lost = Message::Extended {
        id: Extension::DontHave.local_id(),
        payload: Bytes::copy_from_slice(&pieces.to_be_bytes()),
    };
    let lies = [
        (Message::Bitfield([&bits[..], &[0]].concat().into()), wire(len + 1)),
        (Message::Bitfield(bits[1..].to_vec().into()), wire(len - 1)),
        (Message::Bitfield(Bytes::new()), wire(1)),
        (Message::Bitfield(spare.into()), BitfieldError::SpareBits.into()),
        (Message::Have(PieceIndex(pieces)), beyond),
        (Message::Have(PieceIndex(u32::MAX)), Misbehaviour::NoSuchPiece(u32::MAX).into()),
        (Message::AllowedFast(PieceIndex(pieces)), beyond),
        (lost, beyond),
    ];
    let (mut stage, bytes, _) = magnet_stage();
    let liars: Vec<_> = lies
        .iter()
        .map(|(lie, _)| {
            let liar = stage.guest();
            // What is true beside it does not help.
            stage.send(liar, &Message::Have(PieceIndex(0)));
            stage.send(liar, lie);
            liar
        })
        .collect();
    stage.wait(Duration::from_secs(1));
    assert_eq!(stage.closings(), [], "nobody knows yet");
    let honest = stage.guest();
    stage.send(honest, &Message::HaveAll);
    teach(&mut stage, honest, &bytes);
    let reasons: Vec<_> = lies.iter().map(|(_, reason)| *reason).collect();
    assert_eq!(stage.closings(), reasons);
    assert!(liars.iter().all(|liar| !is_open(&stage, *liar)));
    assert!(is_open(&stage, honest));
    // The same lies, now that it is known, have the same end.
    for (lie, reason) in lies {
        let liar = stage.guest();
        stage.send(liar, &lie);
        assert_eq!(stage.closes_within(Duration::from_secs(5)).1, reason);
    }
}

#[test]
fn what_was_not_agreed_on_is_no_better_before_there_are_pieces() {
    let asks = HashRequest { root: [0; 32], base: 0, index: 0, length: 2, proof_layers: 0 };
    let asks = Message::Hash(HashMessage::Request(asks).into());
    let (mut stage, bytes, _) = magnet_stage();
    for wrong in [Message::HaveAll, Message::HaveNone, asks] {
        let puppet = stage.puppet(|config, _| config.reserved = Reserved::NONE);
        let conn = stage.dial(puppet);
        stage.send((puppet, conn), &wrong);
        let (_, reason) = stage.closes_within(Duration::from_secs(5));
        assert_eq!(reason, Misbehaviour::UnexpectedExtension.into(), "{wrong:?}");
    }
    // A request is refused, each by itself: all are choked.
    let guest = stage.guest();
    let request = BlockRequest { piece: PieceIndex(0), begin: 0, length: BLOCK_LEN };
    stage.send(guest, &Message::Request(request));
    stage.send(guest, &Message::Request(request));
    stage.wait(Duration::from_secs(1));
    let rejected = stage.got(guest).filter(|got| **got == Message::Reject(request)).count();
    assert_eq!(rejected, 2);
    teach(&mut stage, guest, &bytes);
    assert!(is_open(&stage, guest));
}

#[test]
fn what_is_on_the_disk_is_told_piece_by_piece_and_served() {
    let (metainfo, content) = large(Format::V1);
    let bytes = metainfo.info().bytes().clone();
    let pieces = metainfo.info().layout().piece_count();
    let link = magnet(&metainfo, true, false);
    let mut swarm = Swarm::of(metainfo, content.clone());
    let session = swarm.add(Some(&content), Config::default(), |add| add.metainfo = link);
    swarm.run(1, |_| false);
    let mut stage = Stage { swarm, session };
    let [wants, plain, seed] = [false, true, false].map(|is_plain| {
        let puppet = stage.puppet(|config, _| {
            if is_plain {
                config.reserved = Reserved::NONE;
            }
        });
        (puppet, stage.dial(puppet))
    });
    stage.send(wants, &Message::Interested);
    stage.send(seed, &Message::HaveAll);
    let giver = stage.guest();
    teach(&mut stage, giver, &bytes);
    stage.wait(Duration::from_secs(15));
    for guest in [wants, plain, giver] {
        assert_eq!(haves(&stage, guest), (0..pieces).collect::<Vec<_>>());
        assert!(
            !stage.got(guest).any(|got| matches!(got, Message::Bitfield(_) | Message::HaveAll))
        );
    }
    assert_eq!(stage.closings(), [CloseReason::from(Refusal::BothComplete)]);
    assert_eq!(stage.peers(), 3);
    // It is told, too, that we want nothing, and that the metadata are to be had.
    let hello = stage.got(wants).filter_map(|message| match message {
        Message::Extended { id: 0, payload } => {
            Some(ExtensionHandshake::parse(payload, &mut Tape::new()).expect("sound"))
        }
        _ => None,
    });
    let hello = hello.last().expect("it was sent");
    assert_eq!(hello.metadata_len.map(std::num::NonZeroU32::get), Some(bytes.len() as u32));
    assert_eq!(hello.upload_only, Some(true));
    let request = BlockRequest { piece: PieceIndex(1), begin: 0, length: BLOCK_LEN };
    assert!(stage.got(wants).any(|message| *message == Message::Unchoke));
    stage.send(wants, &Message::Request(request));
    stage.wait(Duration::from_secs(1));
    let came = stage.got(wants).any(|message| {
        matches!(message, Message::Piece { .. })
            && message.encoded_len() == PIECE_HEADER_LEN + BLOCK_LEN as usize
    });
    assert!(came, "what it asks for is sent");
}

#[test]
fn what_is_too_much_to_keep_is_said_anew_on_a_new_connection() {
    let (mut stage, bytes, _) = magnet_stage();
    let dials = stage.guest();
    let listens = stage.puppet(|config, host| config.listen = Some(address(host)));
    let session = stage.session;
    stage.swarm.introduce(session, &[listens]);
    let conn = dialled(&mut stage, listens, 0);
    let much = Message::Bitfield(vec![0; 200 * 1024].into());
    for guest in [dials, (listens, conn)] {
        stage.send(guest, &much);
        stage.send(guest, &much);
    }
    stage.wait(Duration::from_secs(30));
    let giver = stage.guest();
    teach(&mut stage, giver, &bytes);
    let reason = CloseReason::from(LocalReason::MetadataComplete);
    assert_eq!(stage.closings(), [reason, reason]);
    dialled(&mut stage, listens, 1);
    assert!(is_open(&stage, giver));
}

#[test]
fn a_pause_at_any_time_closes_those_who_stayed_and_they_come_again() {
    // How long after the metadata came: before the files are open, while they are looked at, after.
    for after in [0, 1, 5, 20, 100] {
        let (metainfo, content) = large(Format::V1);
        let link = magnet(&metainfo, true, false);
        let mut swarm = Swarm::of(metainfo, content);
        let seeder = swarm.seeder(Config::default());
        let leecher = fetcher(&mut swarm, link);
        swarm.introduce(leecher, &[seeder]);
        assert!(swarm.run(60, |swarm| swarm.heard(leecher, is_received)), "{after}");
        let end = swarm.now() + Duration::from_millis(after);
        while swarm.now() < end {
            let left = end.saturating_since(swarm.now());
            swarm.net.run_until(left, |_| false).expect("it goes on");
        }
        let torrent = swarm.torrent(leecher);
        swarm.command(leecher, Command::Pause(torrent));
        let paused = |event: &Event| matches!(event, Event::TorrentPaused(_));
        assert!(swarm.run(10, |swarm| swarm.heard(leecher, paused)), "{after}");
        assert_eq!(swarm.session(leecher).stats().peers, 0, "{after}");
        assert_eq!(swarm.snapshot(leecher).state, TorrentState::Paused);
        let stopped = CloseReason::from(LocalReason::TorrentStopped);
        assert_eq!(closings(&swarm, leecher), [stopped], "{after}");
        swarm.command(leecher, Command::Resume(torrent));
        assert!(swarm.run(120, |swarm| swarm.is_complete(leecher)), "{after}");
        assert!(swarm.disk(leecher) == swarm.content());
        let stats = swarm.session(leecher).stats();
        assert_eq!((stats.peers_connected, stats.peers_misbehaved), (2, 0), "{after}");
    }
}

#[test]
fn who_is_still_shaking_hands_when_the_metadata_come_is_a_peer_as_any_other() {
    let (mut stage, bytes, pieces) = magnet_stage();
    let shy = stage.puppet(|config, _| config.auto_handshake = false);
    let session = stage.session;
    let conn = Puppet::on_mut(&mut stage.swarm, shy).dial(address(session));
    stage.wait(Duration::from_secs(1));
    let giver = stage.guest();
    teach(&mut stage, giver, &bytes);
    Puppet::on_mut(&mut stage.swarm, shy).shake(conn);
    stage.send((shy, conn), &Message::Bitfield(all_of(pieces).into()));
    stage.send((shy, conn), &Message::Unchoke);
    stage.wait(Duration::from_secs(1));
    assert!(is_asked(&stage, (shy, conn)));
    assert_eq!((stage.peers(), stage.closings().len()), (2, 0));
}
