//! v2 and hybrid torrents (BEP 52): transfers, what is proven of hashes, upgrades, and what is
//! refused.

use std::sync::Arc;

use bytes::Bytes;
use teem_core::ids::{CommandToken, PieceIndex, TorrentId};
use teem_core::machine::JobErrorKind;
use teem_core::metainfo::Metainfo;
use teem_core::metainfo::create::Format;
use teem_core::metainfo::merkle::{self, Hash};
use teem_core::peer::{CloseReason, Misbehaviour};
use teem_core::rng::Seed;
use teem_core::session::{AddError, AddTorrent, Command, Config, Event, RemoveFiles, Source};
use teem_core::time::Duration;
use teem_core::wire::{HashMessage, HashRequest, Message, Reserved};
use teem_sim::actors::{Conn, Kind, Puppet, Setup};
use teem_sim::net::HostId;
use teem_sim::swarm::{Swarm, address, folder, torrent_of};

use crate::stage::{Stage, banned, closings};

const FILES: &[(&str, u64)] = &[
    ("a", 200_000),
    ("b/empty", 0),
    ("b/one", 1),
    ("b/piece", 65_536),
    ("c", 1_000_000),
    ("d", 30_000),
];

const PIECE_LEN: u32 = 64 * 1024;

fn both() -> [(Format, Arc<Metainfo>, Bytes); 2] {
    [Format::V2, Format::Hybrid].map(|format| {
        let (metainfo, content) = torrent_of(FILES, PIECE_LEN, format, 5);
        (format, metainfo, content)
    })
}

/// The same torrent, without the hashes that stand outside of what its own hash covers.
fn without_layers(metainfo: &Metainfo) -> Arc<Metainfo> {
    let bare = Metainfo::from_info(metainfo.info().clone());
    assert!(bare.files_without_layer().count() > 0);
    Arc::new(bare)
}

fn with(metainfo: &Arc<Metainfo>) -> impl FnOnce(&mut AddTorrent) {
    let metainfo = Arc::clone(metainfo);
    |add| add.metainfo = Source(metainfo)
}

#[test]
fn v2_and_hybrid_torrents_go_from_one_to_another() {
    for (format, metainfo, content) in both() {
        let mut swarm = Swarm::of(metainfo, content);
        let seeder = swarm.seeder(Config::default());
        let leecher = swarm.leecher(Config::default());
        swarm.introduce(leecher, &[seeder]);
        assert!(swarm.run(60, |swarm| swarm.is_complete(leecher)), "{format:?}");
        assert!(swarm.disk(leecher) == swarm.content(), "{format:?}");
        // Padding is neither asked for nor counted.
        let len: u64 = FILES.iter().map(|(_, len)| *len).sum();
        assert_eq!(swarm.snapshot(leecher).total_bytes, len);
        assert_eq!(swarm.snapshot(leecher).downloaded_bytes, len);
    }
}

#[test]
fn piece_layers_that_a_torrent_lacks_come_from_peers_and_stay() {
    // More than one run of a layer, with leaves of their own and without.
    for (piece_len, files) in [
        (16 * 1024, &[("a", 20_000), ("b", 700 * 16_384), ("c", 700 * 16_384)][..]),
        (32 * 1024, &[("b", 514 * 32_768 - 5), ("c", 65_536)]),
    ] {
        for format in [Format::V2, Format::Hybrid] {
            let (metainfo, content) = torrent_of(files, piece_len, format, 6);
            let bare = without_layers(&metainfo);
            let mut swarm = Swarm::of(metainfo, content);
            let seeder = swarm.seeder(Config::default());
            let leecher = swarm.add(None, Config::default(), with(&bare));
            swarm.introduce(leecher, &[seeder]);
            assert!(swarm.run(120, |swarm| swarm.is_complete(leecher)), "{format:?}");
            assert!(swarm.disk(leecher) == swarm.content());
            // It can give them now, and so can whoever has its resume data.
            let second = swarm.add(None, Config::default(), with(&bare));
            swarm.introduce(second, &[leecher]);
            assert!(swarm.run(120, |swarm| swarm.is_complete(second)), "{format:?}");
            assert!(closings(&swarm, second).iter().all(|why| !why.is_misbehaviour()));
        }
    }
}

#[test]
fn a_whole_file_proves_its_own_layer() {
    let (metainfo, content) = torrent_of(FILES, PIECE_LEN, Format::V2, 7);
    let bare = without_layers(&metainfo);
    let mut swarm = Swarm::of(metainfo, content.clone());
    let seeder = swarm.add(Some(&content), Config::default(), with(&bare));
    assert!(swarm.run(10, |swarm| swarm.is_complete(seeder)));
    // Nobody else has it.
    let leecher = swarm.add(None, Config::default(), with(&bare));
    swarm.introduce(leecher, &[seeder]);
    assert!(swarm.run(60, |swarm| swarm.is_complete(leecher)));
    assert!(swarm.disk(leecher) == content);
}

/// A session that has everything, and a puppet of its v2 swarm that it unchoked.
fn guest(format: Format) -> (Stage, (HostId, Conn), Arc<Metainfo>, Bytes) {
    let (metainfo, content) = torrent_of(FILES, PIECE_LEN, format, 8);
    let mut swarm = Swarm::of(Arc::clone(&metainfo), content.clone());
    let session = swarm.seeder(Config::default());
    assert!(swarm.run(10, |swarm| swarm.is_complete(session)));
    let mut stage = Stage { swarm, session };
    let hash = metainfo.info().swarm_hash_v2().expect("a v2 half");
    let puppet = stage.puppet(|config, _| config.info_hash = hash);
    let conn = stage.dial(puppet);
    stage.send((puppet, conn), &Message::HaveNone);
    stage.send((puppet, conn), &Message::Interested);
    stage.wait(Duration::from_secs(2));
    (stage, (puppet, conn), metainfo, content)
}

fn ask(stage: &mut Stage, of: (HostId, Conn), request: HashRequest) -> HashMessage {
    let answers = |stage: &Stage| {
        let answers = stage.got(of).filter_map(|message| match message {
            Message::Hash(message) => Some((**message).clone()),
            _ => None,
        });
        answers.collect::<Vec<_>>()
    };
    let before = answers(stage).len();
    stage.send(of, &Message::Hash(HashMessage::Request(request).into()));
    stage.wait(Duration::from_secs(1));
    let after = answers(stage);
    assert_eq!(after.len(), before + 1, "one answer for {request:?}");
    after[before].clone()
}

/// Whether an answer proves the nodes that it gives.
fn proves(answer: &HashMessage, request: &HashRequest, expected: &[Hash]) -> bool {
    let HashMessage::Hashes(echo, hashes) = answer else { return false };
    let (hashes, _) = hashes.as_chunks::<32>();
    let (run, uncles) = hashes.split_at(request.length as usize);
    let node = merkle::root(run, request.base);
    let at = u64::from(request.index / request.length);
    echo == request
        && uncles.len() as u32 == request.uncles()
        && run[..expected.len().min(run.len())] == *expected
        && merkle::climb(node, at, uncles) == request.root
}

#[test]
fn hashes_are_given_with_their_proof_and_unsound_requests_rejected() {
    for format in [Format::V2, Format::Hybrid] {
        let (mut stage, guest, metainfo, content) = guest(format);
        let layout = metainfo.info().layout();
        let file = layout.files().find(|file| file.len() == 1_000_000).expect("there");
        let root = *file.pieces_root().expect("not empty");
        let bytes = &content[file.offset() as usize..file.range().end as usize];
        let leaves: Vec<Hash> = bytes.chunks(16_384).map(merkle::leaf).collect();
        let layer = metainfo.piece_layer(&root).expect("of the file").as_chunks::<32>().0;
        // 62 leaves: the root stands 6 above them, pieces 2.
        let sound = [
            (HashRequest { root, base: 2, index: 0, length: 16, proof_layers: 3 }, layer),
            (HashRequest { root, base: 2, index: 4, length: 4, proof_layers: 3 }, &layer[4..8]),
            (HashRequest { root, base: 2, index: 14, length: 2, proof_layers: 3 }, &layer[14..]),
            (HashRequest { root, base: 0, index: 0, length: 64, proof_layers: 5 }, &leaves),
            (HashRequest { root, base: 0, index: 6, length: 2, proof_layers: 5 }, &leaves[6..8]),
            (HashRequest { root, base: 0, index: 60, length: 4, proof_layers: 5 }, &leaves[60..]),
            (
                HashRequest { root, base: 0, index: 16, length: 16, proof_layers: 5 },
                &leaves[16..32],
            ),
        ];
        for (request, expected) in sound {
            let answer = ask(&mut stage, guest, request);
            assert!(proves(&answer, &request, expected), "{request:?}: {answer:?}");
        }
        // A file of one piece has no layer, but leaves.
        let small = layout.files().find(|file| file.len() == 30_000).expect("there");
        let root = *small.pieces_root().expect("not empty");
        let request = HashRequest { root, base: 0, index: 0, length: 2, proof_layers: 0 };
        let answer = ask(&mut stage, guest, request);
        assert!(proves(&answer, &request, &[]), "{answer:?}");
        let good = sound[0].0;
        for unsound in [
            HashRequest { root: [9; 32], ..good },
            HashRequest { base: 1, length: 2, ..good },
            HashRequest { base: 7, ..good },
            HashRequest { index: 8, ..good },
            HashRequest { length: 12, ..good },
            HashRequest { length: 1, ..good },
            HashRequest { length: 1024, ..good },
            HashRequest { proof_layers: 4, ..good },
            HashRequest { index: u32::MAX, ..good },
        ] {
            assert_eq!(ask(&mut stage, guest, unsound), HashMessage::Reject(unsound));
        }
        // It may err, but not for ever.
        let unsound = HashRequest { length: 1024, ..good };
        for _ in 0..310 {
            stage.send(guest, &Message::Hash(HashMessage::Request(unsound).into()));
        }
        let (_, reason) = stage.closes_within(Duration::from_secs(5));
        assert_eq!(reason, Misbehaviour::BadHashRequest.into());
    }
}

#[test]
fn leaves_are_not_given_to_who_is_choked_nor_of_what_changed_on_disk() {
    let (mut stage, guest, metainfo, _) = guest(Format::V2);
    let root = *metainfo.info().layout().file(0).expect("there").pieces_root().expect("not empty");
    let request = HashRequest { root, base: 0, index: 0, length: 4, proof_layers: 3 };
    assert!(matches!(ask(&mut stage, guest, request), HashMessage::Hashes(..)));
    let session = stage.session;
    stage.swarm.damage(session, |disk| disk[5] ^= 1);
    assert_eq!(ask(&mut stage, guest, request), HashMessage::Reject(request));
    let other = HashRequest { index: 4, ..request };
    assert!(matches!(ask(&mut stage, guest, other), HashMessage::Hashes(..)));
    stage.send(guest, &Message::NotInterested);
    stage.wait(Duration::from_secs(1));
    assert_eq!(ask(&mut stage, guest, other), HashMessage::Reject(other));
}

/// What becomes of a puppet that sends such a message to a session of this torrent.
fn closed_for(
    metainfo: Arc<Metainfo>,
    content: Bytes,
    v2: bool,
    message: HashMessage,
) -> CloseReason {
    let info = metainfo.info().clone();
    let mut swarm = Swarm::of(metainfo, content);
    let session = swarm.seeder(Config::default());
    assert!(swarm.run(10, |swarm| swarm.is_complete(session)));
    let mut stage = Stage { swarm, session };
    let puppet = stage.puppet(|config, _| {
        config.info_hash = info.swarm_hash();
        if v2 {
            config.reserved = config.reserved.with_v2_upgrade();
        }
    });
    let conn = stage.dial(puppet);
    stage.send((puppet, conn), &Message::Hash(message.into()));
    stage.closes_within(Duration::from_secs(5)).1
}

const ANY: HashRequest =
    HashRequest { root: [1; 32], base: 0, index: 0, length: 2, proof_layers: 0 };

fn v1_closes(v2: bool, message: HashMessage) {
    let (metainfo, content) = torrent_of(FILES, PIECE_LEN, Format::V1, 9);
    let reason = closed_for(metainfo, content, v2, message);
    assert_eq!(reason, Misbehaviour::UnexpectedExtension.into());
}

#[test]
fn a_v1_torrent_closes_a_false_v2_peer_that_asks_for_hashes() {
    v1_closes(true, HashMessage::Request(ANY));
}

#[test]
fn a_v1_torrent_closes_a_false_v2_peer_that_sends_hashes() {
    v1_closes(true, HashMessage::Hashes(ANY, vec![0; 64].into()));
}

#[test]
fn a_v1_torrent_closes_a_false_v2_peer_that_rejects_hashes() {
    v1_closes(true, HashMessage::Reject(ANY));
}

#[test]
fn a_v1_torrent_closes_a_v1_peer_that_asks_for_hashes() {
    v1_closes(false, HashMessage::Request(ANY));
}

#[test]
fn a_hybrid_torrent_answers_a_hash_request_of_a_v2_peer() {
    let (mut stage, guest, ..) = guest(Format::Hybrid);
    assert_eq!(ask(&mut stage, guest, ANY), HashMessage::Reject(ANY));
    assert_eq!(stage.peers(), 1);
}

#[test]
fn requests_and_refusals_of_hashes_out_of_every_range_are_refused_and_do_no_harm() {
    for format in [Format::V2, Format::Hybrid] {
        let (mut stage, guest, metainfo, _) = guest(format);
        let layout = metainfo.info().layout();
        let root =
            *layout.files().find_map(teem_core::metainfo::File::pieces_root).expect("a tree");
        for root in [root, [0; 32]] {
            let sound = HashRequest { root, base: 2, index: 0, length: 2, proof_layers: 0 };
            for wrong in [
                HashRequest { base: u32::MAX, ..sound },
                HashRequest { index: u32::MAX, ..sound },
                HashRequest { length: u32::MAX, ..sound },
                HashRequest { length: 0, ..sound },
                HashRequest { index: u32::MAX - 1, proof_layers: u32::MAX, ..sound },
            ] {
                let answer = ask(&mut stage, guest, wrong);
                assert_eq!(answer, HashMessage::Reject(wrong), "{format:?}");
                // A refusal of what was never asked for.
                stage.send(guest, &Message::Hash(HashMessage::Reject(wrong).into()));
            }
        }
        stage.wait(Duration::from_secs(1));
        assert_eq!((stage.peers(), stage.closings()), (1, vec![]), "{format:?}");
    }
}

#[test]
fn hashes_that_nobody_asked_for_close_their_sender() {
    let (metainfo, content) = torrent_of(FILES, PIECE_LEN, Format::Hybrid, 9);
    let message = HashMessage::Hashes(ANY, vec![0; 64].into());
    let reason = closed_for(metainfo, content, true, message);
    assert_eq!(reason, Misbehaviour::UnrequestedHashes.into());
}

#[test]
fn hashes_that_lead_nowhere_close_their_sender_and_a_refusal_does_not() {
    let (metainfo, content) = torrent_of(FILES, PIECE_LEN, Format::V2, 10);
    let bare = without_layers(&metainfo);
    let mut swarm = Swarm::of(metainfo, content);
    let session = swarm.add(None, Config::default(), with(&bare));
    let mut stage = Stage { swarm, session };
    assert!(stage.swarm.run(10, |swarm| {
        swarm.heard(session, |event| matches!(event, Event::TorrentReady(_)))
    }));
    let [liar, refuser] = [0, 1].map(|_| {
        let guest = stage.guest();
        stage.send(guest, &Message::HaveAll);
        stage.send(guest, &Message::Unchoke);
        stage.wait(Duration::from_secs(1));
        guest
    });
    let asked = |stage: &Stage, of| {
        let mut requests = stage.got(of).filter_map(|message| match message {
            Message::Hash(message) => match **message {
                HashMessage::Request(request) => Some(request),
                _ => None,
            },
            _ => None,
        });
        let first = requests.next().expect("it lacks layers");
        assert!(requests.next().is_none(), "one at a time");
        first
    };
    let (one, other) = (asked(&stage, liar), asked(&stage, refuser));
    assert_ne!(one, other, "the same is not asked of two");
    stage.send(refuser, &Message::Hash(HashMessage::Reject(other).into()));
    stage.wait(Duration::from_secs(1));
    assert_eq!(stage.peers(), 2);
    let count = one.length + one.uncles();
    let hashes = vec![3; 32 * count as usize].into();
    stage.send(liar, &Message::Hash(HashMessage::Hashes(one, hashes).into()));
    let (_, reason) = stage.closes_within(Duration::from_secs(5));
    assert_eq!(reason, Misbehaviour::WrongHashes.into());
    // No piece can be told right from wrong: none is asked for.
    let pieces = stage.got(refuser).filter_map(|message| match message {
        Message::Request(request) => Some(request.piece),
        _ => None,
    });
    let layout = bare.info().layout();
    let alone = |piece: PieceIndex| {
        layout.tree_place(piece).is_some_and(|place| place.level == place.height)
    };
    let pieces: Vec<PieceIndex> = pieces.collect();
    assert!(!pieces.is_empty(), "files of one piece need no layer");
    assert!(pieces.iter().all(|piece| alone(*piece)), "{pieces:?}");
}

#[test]
fn a_hybrid_torrent_is_found_by_either_hash_and_upgrades_who_can_do_better() {
    let (metainfo, content) = torrent_of(FILES, PIECE_LEN, Format::Hybrid, 11);
    let info = metainfo.info().clone();
    let (v1, v2) = (info.swarm_hash(), info.swarm_hash_v2().expect("a v2 half"));
    let mut swarm = Swarm::of(metainfo, content);
    let session = swarm.seeder(Config::default());
    assert!(swarm.run(10, |swarm| swarm.is_complete(session)));
    let mut stage = Stage { swarm, session };
    for (hash, upgrade, answer) in [(v1, false, v1), (v1, true, v2), (v2, false, v2)] {
        let puppet = stage.puppet(|config, _| {
            config.info_hash = hash;
            config.reserved =
                if upgrade { Reserved::NONE.with_v2_upgrade() } else { Reserved::NONE };
        });
        let conn = stage.dial(puppet);
        let theirs = Puppet::on(&stage.swarm, puppet).handshake(conn).expect("shaken");
        assert_eq!(theirs.info_hash, answer);
        assert_eq!(theirs.reserved.v2_upgrade(), answer == v1, "what could be better is said");
    }
    assert_eq!(stage.peers(), 3);
}

#[test]
fn a_hybrid_torrent_is_refused_a_second_time_by_either_half() {
    let (metainfo, content) = torrent_of(FILES, PIECE_LEN, Format::Hybrid, 12);
    let info = metainfo.info().clone();
    let mut swarm = Swarm::of(Arc::clone(&metainfo), content);
    let session = swarm.leecher(Config::default());
    let again = |swarm: &mut Swarm, token| {
        let add = AddTorrent::new(Arc::clone(&metainfo), folder());
        swarm.command(session, Command::Add(CommandToken(token), add.into()));
        swarm.run(1, |_| false);
        let events = swarm.events(session).iter();
        events.rev().find_map(|event| match event {
            Event::AddFailed(CommandToken(of), AddError::Duplicate(hash)) if *of == token => {
                Some(Err(*hash))
            }
            Event::TorrentAdded(CommandToken(of), id) if *of == token => Some(Ok(*id)),
            _ => None,
        })
    };
    assert_eq!(again(&mut swarm, 7), Some(Err(info.swarm_hash())));
    let id: TorrentId = swarm.torrent(session);
    swarm.command(session, Command::Remove(id, RemoveFiles::Keep));
    let gone = |event: &Event| matches!(event, Event::TorrentRemoved(_));
    assert!(swarm.run(10, |swarm| swarm.heard(session, gone)));
    assert!(again(&mut swarm, 8).is_some_and(|added| added.is_ok()), "both hashes are free again");
}

#[test]
fn a_hybrid_torrent_that_contradicts_itself_stops_and_says_so() {
    // Both halves are sound; but the one is of other bytes than the other.
    let (one, content) = torrent_of(&[("a", 100_000)], PIECE_LEN, Format::Hybrid, 13);
    let (other, _) = torrent_of(&[("a", 100_000)], PIECE_LEN, Format::Hybrid, 14);
    let (ours, theirs) =
        (one.info().piece_hash(PieceIndex(1)), other.info().piece_hash(PieceIndex(1)));
    let (ours, theirs) = (ours.expect("hybrid"), theirs.expect("hybrid"));
    let mut bytes = one.to_bytes();
    let at = bytes.windows(20).position(|window| window == ours).expect("in `pieces`");
    bytes[at..at + 20].copy_from_slice(theirs);
    let forged = Arc::new(Metainfo::from_bytes(&bytes).expect("sound as such"));
    for preloaded in [false, true] {
        let mut swarm = Swarm::of(Arc::clone(&forged), content.clone());
        let stopped = |host: HostId| {
            move |swarm: &Swarm| {
                swarm.heard(host, |event| {
                    matches!(event, Event::TorrentFailed(_, why)
                        if why.kind == JobErrorKind::Contradiction && why.detail.contains("piece 1"))
                })
            }
        };
        if preloaded {
            let seeder = swarm.seeder(Config::default());
            assert!(swarm.run(10, stopped(seeder)));
            continue;
        }
        let session = swarm.leecher(Config::default());
        let setup = Setup {
            seed: Seed::from_number(1),
            metainfo: Arc::clone(&forged),
            content: content.clone(),
            listen: None,
            targets: vec![address(session)],
        };
        // It serves what is right, if more of it than anybody wants.
        swarm.actor(|_| Kind::Duplicates.attacker(&setup));
        assert!(swarm.run(60, stopped(session)));
        assert_eq!(swarm.count(session, |event| matches!(event, Event::PeerBanned(..))), 0);
    }
}

#[test]
fn who_sends_wrong_blocks_is_found_by_the_leaves_of_the_piece() {
    for format in [Format::V2, Format::Hybrid] {
        // One piece that takes blocks from everybody.
        let (metainfo, content) = torrent_of(&[("a", 8 << 20)], 4 << 20, format, 15);
        let mut swarm = Swarm::of(Arc::clone(&metainfo), content.clone());
        let seeders = [0; 3].map(|_| swarm.seeder(Config::default()));
        let leecher = swarm.leecher(Config::default());
        let mut liar = None;
        swarm.actor(|host| {
            liar = Some(address(host).ip());
            let setup = Setup {
                seed: Seed::from_number(2),
                metainfo: Arc::clone(&metainfo),
                content: content.clone(),
                listen: None,
                targets: vec![address(leecher)],
            };
            Kind::PartialPoisoner.attacker(&setup)
        });
        swarm.introduce(leecher, &seeders);
        assert!(swarm.run(300, |swarm| swarm.is_complete(leecher)), "{format:?}");
        assert_eq!(banned(&swarm, leecher), [liar.expect("made")], "{format:?}");
        assert!(swarm.disk(leecher) == content);
    }
}
