//! Torrents of which only a magnet link is known: their `info` comes from peers (BEP 9).

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use sha1::{Digest, Sha1};
use teem_core::bencode::Tape;
use teem_core::ids::InfoHash;
use teem_core::metainfo::create::Format;
use teem_core::metainfo::{Info, Magnet, Metainfo};
use teem_core::peer::{CloseReason, Misbehaviour};
use teem_core::session::{
    AddError, AddTorrent, Command, Config, Event, RemoveFiles, Source, TorrentState, WaitsFor,
};
use teem_core::time::Duration;
use teem_core::wire::{
    Extension, ExtensionHandshake, ExtensionIds, Message, MetadataMessage, metadata_range,
};
use teem_sim::actors::{Conn, Puppet};
use teem_sim::net::HostId;
use teem_sim::swarm::{Swarm, address, folder, ip, torrent_of};

use crate::stage::{Stage, banned, closings};

const PIECE_LEN: u32 = 16 * 1024;

/// By which id a puppet wants to be told of metadata.
const THEIRS: u8 = 7;

/// A torrent whose dictionary has several pieces.
pub(crate) fn large(format: Format) -> (Arc<Metainfo>, Bytes) {
    let names: Vec<String> = (0..400).map(|n| format!("{n:0150}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), 1_500)).collect();
    let (metainfo, content) = torrent_of(&files, PIECE_LEN, format, 11);
    assert!(metainfo.info().bytes().len() > 3 * PIECE_LEN as usize, "several pieces");
    (metainfo, content)
}

/// What a magnet link says that names one half of the torrent, or both.
pub(crate) fn magnet(metainfo: &Metainfo, v1: bool, v2: bool) -> Source {
    let info = metainfo.info();
    Source(Arc::new(Metainfo::from_magnet(&Magnet {
        info_hash: info.info_hash().filter(|_| v1),
        info_hash_v2: info.info_hash_v2().filter(|_| v2),
        ..Magnet::default()
    })))
}

pub(crate) fn is_received(event: &Event) -> bool {
    matches!(event, Event::MetadataReceived(_))
}

/// A client that has a magnet link.
pub(crate) fn fetcher(swarm: &mut Swarm, source: Source) -> HostId {
    swarm.add(None, Config::default(), |add| add.metainfo = source)
}

/// A client that has a magnet link, on stage, waiting for peers.
pub(crate) fn stage_with(metainfo: Arc<Metainfo>, content: Bytes, source: Source) -> Stage {
    let mut swarm = Swarm::of(metainfo, content);
    let session = fetcher(&mut swarm, source);
    swarm.run(1, |_| false);
    let snapshot = swarm.snapshot(session);
    assert_eq!(snapshot.state, TorrentState::FetchingMetadata { done: 0, total: None });
    assert_eq!(snapshot.waits_for, WaitsFor::Peers);
    Stage { swarm, session }
}

/// A puppet that is connected, and says that it has a dictionary of that length.
fn source(stage: &mut Stage, len: u32) -> (HostId, Conn) {
    let guest = stage.guest();
    claim(stage, guest, len);
    guest
}

pub(crate) fn claim(stage: &mut Stage, guest: (HostId, Conn), len: u32) {
    let mut ids = ExtensionIds::NONE;
    ids.set(Extension::Metadata, THEIRS);
    let hello =
        ExtensionHandshake { ids, metadata_len: NonZeroU32::new(len), ..Default::default() };
    let mut payload = Vec::new();
    hello.encode(&mut payload);
    stage.send(guest, &Message::Extended { id: 0, payload: payload.into() });
    stage.wait(Duration::from_millis(300));
}

/// By which id the session wants to be told of metadata.
fn ours(stage: &Stage, guest: (HostId, Conn)) -> u8 {
    stage.hello(guest).ids.get(Extension::Metadata).expect("it is offered").get()
}

/// What a puppet was told of metadata, oldest first.
fn told(stage: &Stage, guest: (HostId, Conn)) -> Vec<MetadataMessage> {
    let messages = stage.got(guest).filter_map(|message| match message {
        Message::Extended { id: THEIRS, payload } => {
            MetadataMessage::parse(payload, &mut Tape::new()).expect("sound")
        }
        _ => None,
    });
    messages.collect()
}

fn requests(stage: &Stage, guest: (HostId, Conn)) -> Vec<u32> {
    let pieces = told(stage, guest).into_iter().filter_map(|message| match message {
        MetadataMessage::Request(piece) => Some(piece),
        _ => None,
    });
    pieces.collect()
}

fn tell(stage: &mut Stage, guest: (HostId, Conn), message: &MetadataMessage) {
    let id = ours(stage, guest);
    stage.send(guest, &Message::Extended { id, payload: message.to_payload() });
}

/// Answers everything that the session asks a puppet for with the pieces of `bytes`, until it asks
/// no more. Returns how much that was.
pub(crate) fn give(stage: &mut Stage, guest: (HostId, Conn), bytes: &Bytes) -> usize {
    let mut given = 0;
    loop {
        let asked = requests(stage, guest).split_off(given);
        if asked.is_empty() || !Puppet::on(&stage.swarm, guest.0).is_open(guest.1) {
            return given;
        }
        for piece in asked {
            given += 1;
            let range = metadata_range(bytes.len() as u32, piece).expect("a piece that exists");
            let data = bytes.slice(range.start as usize..range.end as usize);
            let total_len = Some(bytes.len() as u64);
            tell(stage, guest, &MetadataMessage::Data { piece, total_len, data });
        }
        stage.wait(Duration::from_millis(300));
    }
}

#[test]
fn a_magnet_link_becomes_its_torrent_and_is_given_on() {
    for (format, v1, v2) in [
        (Format::V1, true, false),
        (Format::V2, false, true),
        (Format::Hybrid, true, false),
        (Format::Hybrid, false, true),
        (Format::Hybrid, true, true),
    ] {
        let what = format!("{format:?} {v1} {v2}");
        let (metainfo, content) = large(format);
        let link = magnet(&metainfo, v1, v2);
        let mut swarm = Swarm::of(Arc::clone(&metainfo), content);
        let seeder = swarm.seeder(Config::default());
        let first = fetcher(&mut swarm, link.clone());
        swarm.introduce(first, &[seeder]);
        assert!(swarm.run(120, |swarm| swarm.is_complete(first)), "{what}");
        assert!(swarm.disk(first) == swarm.content(), "{what}");
        assert_eq!(swarm.count(first, is_received), 1, "{what}");
        let learnt = swarm.session(first).metainfo(swarm.torrent(first)).expect("it is there");
        assert!(learnt.info().bytes() == metainfo.info().bytes(), "{what}");
        // Who had it from a peer gives it to others.
        let second = fetcher(&mut swarm, link);
        swarm.introduce(second, &[first]);
        assert!(swarm.run(120, |swarm| swarm.is_complete(second)), "{what}");
        assert!(swarm.disk(second) == swarm.content(), "{what}");
        for host in [seeder, first, second] {
            assert!(closings(&swarm, host).iter().all(|why| !why.is_misbehaviour()), "{what}");
        }
    }
}

#[test]
fn a_dictionary_comes_from_several_peers_side_by_side() {
    let (metainfo, content) = large(Format::V1);
    let bytes = metainfo.info().bytes().clone();
    let link = magnet(&metainfo, true, false);
    let mut stage = stage_with(metainfo, content, link);
    let len = bytes.len() as u32;
    let [one, other] = [0, 1].map(|_| source(&mut stage, len));
    let asked = [one, other].map(|guest| requests(&stage, guest));
    assert_eq!(asked, [vec![0, 1], vec![2, 3]]);
    give(&mut stage, one, &bytes);
    let state = stage.swarm.snapshot(stage.session).state;
    let TorrentState::FetchingMetadata { done, total } = state else { panic!("{state:?}") };
    assert_eq!(total, Some(len));
    assert!(done >= 2 * PIECE_LEN && done < len, "{done} of {len}");
    give(&mut stage, other, &bytes);
    assert!(stage.swarm.heard(stage.session, is_received));
    assert!(closings(&stage.swarm, stage.session).iter().all(|why| !why.is_misbehaviour()));
}

#[test]
fn a_magnet_link_of_one_half_becomes_a_torrent_that_has_both() {
    for v1 in [true, false] {
        let (metainfo, content) = large(Format::Hybrid);
        let halves = [magnet(&metainfo, true, false), magnet(&metainfo, false, true)];
        let mut swarm = Swarm::of(Arc::clone(&metainfo), content);
        let seeder = swarm.seeder(Config::default());
        let leecher = fetcher(&mut swarm, halves[usize::from(!v1)].clone());
        // Nobody knows yet that the two are the same.
        let other = halves[usize::from(v1)].clone();
        let add = AddTorrent::new(Arc::clone(&other.0), folder());
        let now = swarm.now();
        let session = swarm.net.machine_mut(leecher).session_mut().expect("a session");
        let twin = session.add_torrent(now, add).expect("nothing says that it is there");
        swarm.introduce(leecher, &[seeder]);
        assert!(swarm.run(120, |swarm| swarm.is_complete(leecher)));
        let hash = |swarm: &Swarm| {
            let metainfo = swarm.session(leecher).metainfo(swarm.torrent(leecher))?;
            Some((metainfo.info().info_hash()?, metainfo.info().info_hash_v2()?))
        };
        assert!(hash(&swarm).is_some(), "both halves are known now");
        // The other one is one too many now, and so it is when it is tried again.
        let failures = |swarm: &Swarm| {
            swarm.count(leecher, |event| {
                matches!(event, Event::MetadataFailed(id, AddError::Duplicate(_)) if *id == twin)
            })
        };
        let is_paused = |swarm: &Swarm| {
            let twin = swarm.session(leecher).torrent(twin).expect("still there");
            twin.state == TorrentState::Paused
        };
        assert!(failures(&swarm) == 1 && is_paused(&swarm), "v1: {v1}");
        swarm.command(leecher, Command::Resume(twin));
        swarm.command(leecher, Command::AddPeers(twin, vec![address(seeder)]));
        assert!(swarm.run(120, |swarm| failures(swarm) == 2 && is_paused(swarm)), "v1: {v1}");
        // Without it, both hashes are still those of the other.
        swarm.command(leecher, Command::Remove(twin, RemoveFiles::Keep));
        assert!(swarm.run(10, |swarm| swarm.session(leecher).torrent(twin).is_none()));
        // Nor is it taken on anew, by either half.
        for half in &halves {
            let now = swarm.now();
            let add = AddTorrent::new(Arc::clone(&half.0), folder());
            let session = swarm.net.machine_mut(leecher).session_mut().expect("a session");
            assert!(matches!(session.add_torrent(now, add), Err(AddError::Duplicate(_))));
        }
    }
}

/// A peer of one torrent that says, rightly or not, that it is of the v2 swarm, gives a client that
/// has a magnet link the dictionary. Returns the stage after that.
fn survivor(format: Format, claims_v2: bool) -> (Stage, (HostId, Conn)) {
    let (metainfo, content) = large(format);
    let bytes = metainfo.info().bytes().clone();
    let link = magnet(&metainfo, true, false);
    let mut stage = stage_with(metainfo, content, link);
    let puppet = stage.puppet(|config, host| {
        config.listen = Some(address(host));
        if claims_v2 {
            config.reserved = config.reserved.with_v2_upgrade();
        }
    });
    let session = stage.session;
    stage.swarm.introduce(session, &[puppet]);
    let conn = dialled(&mut stage, puppet, 0);
    claim(&mut stage, (puppet, conn), bytes.len() as u32);
    give(&mut stage, (puppet, conn), &bytes);
    assert!(stage.swarm.heard(stage.session, is_received));
    (stage, (puppet, conn))
}

/// A connection that the session makes to a puppet, the `number`-th, through its handshake.
pub(crate) fn dialled(stage: &mut Stage, puppet: HostId, number: usize) -> Conn {
    let conn = |swarm: &Swarm| Puppet::on(swarm, puppet).accepted().nth(number);
    let shaken = |swarm: &Swarm| {
        conn(swarm).is_some_and(|conn| Puppet::on(swarm, puppet).handshake(conn).is_some())
    };
    assert!(stage.swarm.run(10, shaken), "it is dialled");
    conn(&stage.swarm).expect("just seen")
}

/// Whoever gave the dictionary stays, and is of use.
fn is_kept((mut stage, guest): (Stage, (HostId, Conn))) {
    stage.send(guest, &Message::HaveAll);
    stage.send(guest, &Message::Unchoke);
    stage.wait(Duration::from_secs(2));
    let asked = stage.got(guest).any(|got| matches!(got, Message::Request(_)));
    assert!(asked, "it is asked for blocks");
    assert_eq!((stage.peers(), stage.closings().len()), (1, 0));
}

#[test]
fn a_false_v2_claim_does_no_harm_to_who_gives_the_dictionary_of_a_v1_torrent() {
    is_kept(survivor(Format::V1, true));
}

#[test]
fn who_gives_the_dictionary_of_a_v1_torrent_is_kept() {
    is_kept(survivor(Format::V1, false));
}

#[test]
fn who_gives_the_dictionary_of_a_hybrid_torrent_is_kept() {
    is_kept(survivor(Format::Hybrid, true));
}

#[test]
fn nobody_makes_us_believe_a_wrong_dictionary_nor_keep_room_for_one_that_is_too_long() {
    let (metainfo, content) = large(Format::V1);
    let bytes = metainfo.info().bytes().clone();
    let len = bytes.len() as u32;
    let link = magnet(&metainfo, true, false);
    let mut stage = stage_with(metainfo, content, link);
    let seeder = stage.swarm.seeder(Config::default());

    // A gigabyte, and what is more than anybody needs: neither is begun with.
    for absurd in [1 << 30, 64 << 20, (32 << 20) + 1] {
        let guest = source(&mut stage, absurd);
        assert_eq!(requests(&stage, guest), [], "{absurd}");
    }

    // Pieces longer or shorter than they are, and such as are of another dictionary.
    let piece = |len: usize, total| MetadataMessage::Data {
        piece: 0,
        total_len: Some(total),
        data: vec![1; len].into(),
    };
    for wrong in [
        piece(PIECE_LEN as usize + 1, len.into()),
        piece(PIECE_LEN as usize - 1, len.into()),
        piece(0, len.into()),
        piece(PIECE_LEN as usize, u64::from(len) * 2),
        piece(PIECE_LEN as usize, 1 << 30),
        piece(PIECE_LEN as usize, u64::MAX),
    ] {
        let liar = source(&mut stage, len);
        assert!(requests(&stage, liar).contains(&0), "{wrong:?}");
        tell(&mut stage, liar, &wrong);
        let (_, reason) = stage.closes_within(Duration::from_secs(5));
        assert_eq!(reason, Misbehaviour::WrongMetadata.into());
    }

    // Pieces that were not asked for, and that there are none of, say nothing.
    let pusher = source(&mut stage, len);
    for piece in [3, 5, 1 << 16, u32::MAX] {
        let data = vec![2; PIECE_LEN as usize].into();
        tell(&mut stage, pusher, &MetadataMessage::Data { piece, total_len: None, data });
    }
    stage.wait(Duration::from_secs(1));
    let state = stage.swarm.snapshot(stage.session).state;
    assert_eq!(state, TorrentState::FetchingMetadata { done: 0, total: Some(len) });
    Puppet::on_mut(&mut stage.swarm, pusher.0).close(pusher.1);
    stage.wait(Duration::from_secs(1));

    // All pieces, all of the right length, and all wrong, by somebody who gave all of them.
    let liar = source(&mut stage, len);
    give(&mut stage, liar, &vec![3; len as usize].into());
    assert_eq!(banned(&stage.swarm, stage.session), [ip(liar.0)]);
    assert_eq!(stage.closings().last(), Some(&Misbehaviour::WrongMetadata.into()));

    // One true and one lying: whoever lies, it is found out, and the other is believed.
    let [honest, liar] = [0, 1].map(|_| source(&mut stage, len));
    for _ in 0..4 {
        give(&mut stage, liar, &vec![4; len as usize].into());
        give(&mut stage, honest, &bytes);
        if stage.swarm.heard(stage.session, is_received) {
            break;
        }
    }
    assert!(stage.swarm.heard(stage.session, is_received));
    assert!(!banned(&stage.swarm, stage.session).contains(&ip(honest.0)));

    let session = stage.session;
    stage.swarm.introduce(session, &[seeder]);
    assert!(stage.swarm.run(120, |swarm| swarm.is_complete(session)));
}

#[test]
fn a_dictionary_is_given_piece_by_piece_but_not_for_ever() {
    let (metainfo, content) = large(Format::V1);
    let bytes = metainfo.info().bytes().clone();
    let mut swarm = Swarm::of(metainfo, content);
    let session = swarm.seeder(Config::default());
    assert!(swarm.run(10, |swarm| swarm.is_complete(session)));
    let mut stage = Stage { swarm, session };
    let guest = stage.guest();
    let len = bytes.len() as u32;
    // Who has not said how it wants to be told cannot be.
    tell(&mut stage, guest, &MetadataMessage::Request(0));
    stage.wait(Duration::from_millis(300));
    assert_eq!(told(&stage, guest), []);
    claim(&mut stage, guest, len);
    let pieces = len.div_ceil(PIECE_LEN);
    for piece in (0..pieces).chain([pieces, u32::MAX]) {
        tell(&mut stage, guest, &MetadataMessage::Request(piece));
    }
    stage.wait(Duration::from_secs(1));
    let answers = told(&stage, guest);
    let mut whole = Vec::new();
    for (at, answer) in (0..pieces).zip(&answers) {
        let MetadataMessage::Data { piece, total_len, data } = answer else { panic!("{answer:?}") };
        assert_eq!((*piece, *total_len), (at, Some(len.into())));
        whole.extend_from_slice(data);
    }
    assert!(whole == bytes);
    let refused = [pieces, u32::MAX].map(MetadataMessage::Reject);
    assert_eq!(answers[pieces as usize..], refused);
    let endless = (0..4).flat_map(|_| 0..pieces);
    endless.for_each(|piece| tell(&mut stage, guest, &MetadataMessage::Request(piece)));
    let (_, reason) = stage.closes_within(Duration::from_secs(5));
    assert_eq!(reason, Misbehaviour::EndlessRequests.into());
    // Who has none of it says so.
    let link = magnet(stage.swarm.metainfo(), true, false);
    let fetcher = fetcher(&mut stage.swarm, link);
    stage.session = fetcher;
    let guest = source(&mut stage, 0);
    tell(&mut stage, guest, &MetadataMessage::Request(0));
    stage.wait(Duration::from_secs(1));
    assert_eq!(told(&stage, guest), [MetadataMessage::Reject(0)]);
}

#[test]
fn a_dictionary_that_is_true_and_of_no_use_is_told_of_and_pauses() {
    let bytes = Bytes::from_static(b"d6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces3:abce");
    let error = Info::from_bytes(bytes.clone()).expect_err("it is broken");
    let hash = InfoHash(Sha1::digest(&bytes).into());
    let link = Magnet { info_hash: Some(hash), ..Magnet::default() };
    let (metainfo, content) = large(Format::V1);
    let mut stage = stage_with(metainfo, content, Source(Arc::new(Metainfo::from_magnet(&link))));
    let puppet = stage.puppet(|config, _| config.info_hash = hash);
    let guest = (puppet, stage.dial(puppet));
    claim(&mut stage, guest, bytes.len() as u32);
    give(&mut stage, guest, &bytes);
    let failed = |event: &Event| matches!(event, Event::MetadataFailed(_, AddError::Metainfo(why)) if *why == error);
    assert!(stage.swarm.heard(stage.session, failed), "{:?}", stage.swarm.events(stage.session));
    stage.wait(Duration::from_secs(1));
    assert_eq!(stage.swarm.snapshot(stage.session).state, TorrentState::Paused);
    assert!(!stage.closings().iter().any(CloseReason::is_misbehaviour));
}
