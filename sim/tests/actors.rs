//! Actors against real sessions: what a scripted peer sees, and what attackers cost the honest.

use std::sync::Arc;

use bytes::Bytes;
use teem_core::ids::PieceIndex;
use teem_core::machine::StreamError;
use teem_core::rng::Seed;
use teem_core::session::{Config, Event};
use teem_core::time::Duration;
use teem_core::wire::{BLOCK_LEN, BlockRequest, Message, encode_piece_header};
use teem_sim::actors::{Attacker, Conn, Kind, Puppet, PuppetConfig, Received, Setup};
use teem_sim::net::HostId;
use teem_sim::swarm::{Swarm, address};

const PIECE_LEN: u32 = 64 * 1024;

fn add_puppet(swarm: &mut Swarm, change: impl FnOnce(&mut PuppetConfig)) -> HostId {
    let mut config = PuppetConfig::new(swarm.metainfo().info().swarm_hash());
    swarm.actor(|host| {
        config.listen = Some(address(host));
        change(&mut config);
        Puppet::new(config)
    })
}

#[test]
fn a_puppet_fetches_a_block_from_a_session_by_hand() {
    let mut swarm = Swarm::new(200_000, PIECE_LEN, 1);
    let content = swarm.content().clone();
    let seeder = swarm.seeder(Config::default());
    let host = add_puppet(&mut swarm, |_| {});
    assert!(swarm.run(5, |swarm| swarm.is_complete(seeder)));
    let conn = Puppet::on_mut(&mut swarm, host).dial(address(seeder));
    assert!(swarm.run(5, |swarm| Puppet::on(swarm, host).handshake(conn).is_some()));
    Puppet::on_mut(&mut swarm, host).send(conn, &Message::Interested);
    let unchoked =
        |swarm: &Swarm| Puppet::on(swarm, host).messages(conn).any(|m| *m == Message::Unchoke);
    assert!(swarm.run(30, unchoked));
    let block = BlockRequest { piece: PieceIndex(1), begin: BLOCK_LEN, length: BLOCK_LEN };
    Puppet::on_mut(&mut swarm, host).send(conn, &Message::Request(block));
    let got = |swarm: &Swarm| {
        Puppet::on(swarm, host).messages(conn).find_map(|message| match message {
            Message::Piece { piece, begin, block } => Some((*piece, *begin, block.to_vec())),
            _ => None,
        })
    };
    assert!(swarm.run(5, |swarm| got(swarm).is_some()));
    let from = (PIECE_LEN + BLOCK_LEN) as usize;
    let expected = content[from..from + BLOCK_LEN as usize].to_vec();
    assert_eq!(got(&swarm), Some((PieceIndex(1), BLOCK_LEN, expected)));
    Puppet::on_mut(&mut swarm, host).close(conn);
    let (_, last) = Puppet::on(&swarm, host).received(conn).last().expect("it was noted");
    assert_eq!(*last, Received::ClosedByUs);
    assert!(!Puppet::on(&swarm, host).is_open(conn));
    assert!(swarm.run(5, |swarm| swarm.session(seeder).stats().peers == 0));
    let ended = |event: &Event| matches!(event, Event::PeerClosed { .. });
    assert_eq!(swarm.count(seeder, ended), 1);
}

#[test]
fn a_puppet_serves_a_session_that_dialled_it() {
    let mut swarm = Swarm::new(100_000, PIECE_LEN, 2);
    let content = swarm.content().clone();
    let leecher = swarm.leecher(Config::default());
    let host = add_puppet(&mut swarm, |_| {});
    swarm.introduce(leecher, &[host]);
    assert!(swarm.run(5, |swarm| Puppet::on(swarm, host).handshake(Conn(0)).is_some()));
    let conn = Puppet::on(&swarm, host).accepted().next().expect("it was dialled");
    Puppet::on_mut(&mut swarm, host).send(conn, &Message::HaveAll);
    Puppet::on_mut(&mut swarm, host).send(conn, &Message::Unchoke);
    let mut answered = 0;
    while !swarm.is_complete(leecher) {
        let requests: Vec<BlockRequest> = Puppet::on(&swarm, host)
            .messages(conn)
            .filter_map(|message| match message {
                Message::Request(block) => Some(*block),
                _ => None,
            })
            .collect();
        for request in &requests[answered..] {
            let BlockRequest { piece, begin, length } = *request;
            let from = (piece.0 * PIECE_LEN + begin) as usize;
            let block = content.slice(from..from + length as usize).into();
            let message = Message::Piece { piece, begin, block };
            Puppet::on_mut(&mut swarm, host).send(conn, &message);
        }
        answered = requests.len();
        assert!(swarm.now() < teem_core::time::Instant::ORIGIN + Duration::from_mins(1));
        swarm.run(1, |swarm| {
            let asked = Puppet::on(swarm, host).messages(conn);
            asked.filter(|m| matches!(m, Message::Request(_))).count() > answered
                || swarm.is_complete(leecher)
        });
    }
    assert!(swarm.disk(leecher) == content);
    assert_eq!(answered, 7, "each block was asked for once");
}

#[test]
fn a_puppet_that_does_not_read_holds_the_other_side_up_and_then_gets_everything() {
    let mut swarm = Swarm::new(100_000, PIECE_LEN, 3);
    let seeder = swarm.seeder(Config::default());
    let host = add_puppet(&mut swarm, |config| config.reading = false);
    assert!(swarm.run(5, |swarm| swarm.is_complete(seeder)));
    let conn = Puppet::on_mut(&mut swarm, host).dial(address(seeder));
    swarm.run(5, |_| false);
    assert_eq!(Puppet::on(&swarm, host).received(conn).len(), 1, "only that it is up");
    let before = swarm.now();
    Puppet::on_mut(&mut swarm, host).set_reading(conn, true);
    assert!(swarm.run(5, |swarm| Puppet::on(swarm, host).messages(conn).next().is_some()));
    let (at, _) = Puppet::on(&swarm, host).received(conn)[1];
    assert!(at >= before, "{at:?}");
}

#[test]
fn a_puppet_may_say_anything_and_is_told_why_it_is_alone() {
    let mut swarm = Swarm::new(100_000, PIECE_LEN, 4);
    let seeder = swarm.seeder(Config::default());
    let host = add_puppet(&mut swarm, |config| config.auto_handshake = false);
    assert!(swarm.run(5, |swarm| swarm.is_complete(seeder)));
    let conn = Puppet::on_mut(&mut swarm, host).dial(address(seeder));
    Puppet::on_mut(&mut swarm, host).send_raw(conn, Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"));
    assert!(
        swarm.run(60, |swarm| !Puppet::on(swarm, host).is_open(conn)
            || read_closed(swarm, host, conn))
    );
    assert_eq!(Puppet::on(&swarm, host).handshake(conn), None);
    // Shaking hands late is as good as at once.
    let conn = Puppet::on_mut(&mut swarm, host).dial(address(seeder));
    assert!(swarm.run(3, |swarm| !Puppet::on(swarm, host).received(conn).is_empty()));
    Puppet::on_mut(&mut swarm, host).shake(conn);
    assert!(swarm.run(5, |swarm| Puppet::on(swarm, host).handshake(conn).is_some()));
    Puppet::on_mut(&mut swarm, host).abort(conn);
    assert!(!Puppet::on(&swarm, host).is_open(conn));
    // Nobody listens there.
    let mut nowhere = address(seeder);
    nowhere.set_port(1);
    let conn = Puppet::on_mut(&mut swarm, host).dial(nowhere);
    assert!(swarm.run(5, |swarm| !Puppet::on(swarm, host).is_open(conn)));
    let (_, last) = Puppet::on(&swarm, host).received(conn).last().expect("it was noted");
    assert_eq!(*last, Received::Refused(StreamError::Refused));
}

fn read_closed(swarm: &Swarm, host: HostId, conn: Conn) -> bool {
    Puppet::on(swarm, host).received(conn).iter().any(|(_, what)| *what == Received::ReadClosed)
}

#[test]
fn a_peer_that_never_has_enough_gets_no_more_than_its_share_of_the_upload_limit() {
    let mut swarm = Swarm::new(1_000_000, PIECE_LEN, 5);
    let limit = 200_000;
    let seeder = swarm.seeder(Config { up_bytes_per_s: Some(limit), ..Config::default() });
    let setup = Setup {
        seed: Seed::from_number(5),
        metainfo: Arc::clone(swarm.metainfo()),
        content: Bytes::new(),
        listen: None,
        targets: vec![address(seeder)],
    };
    assert!(swarm.run(5, |swarm| swarm.is_complete(seeder)));
    let rider = swarm.actor(|_| Kind::NeverUnchoke.attacker(&setup));
    let taken = |swarm: &Swarm| {
        let rider: &Attacker = swarm.net.machine(rider).actor().expect("an attacker");
        rider.counters().taken_bytes
    };
    assert!(swarm.run(60, |swarm| taken(swarm) > 500_000));
    let leecher = swarm.leecher(Config::default());
    swarm.introduce(leecher, &[seeder]);
    let (start, before) = (swarm.now(), taken(&swarm));
    // Half of the limit is ten seconds for all of it.
    assert!(swarm.run(60, |swarm| swarm.is_complete(leecher)), "{:?}", swarm.snapshot(leecher));
    let took = swarm.now().saturating_since(start).as_millis();
    assert!(took < 14_000, "{took} ms, {} bytes to the other", taken(&swarm) - before);
}

#[test]
fn a_peer_whose_block_trickles_in_is_snubbed() {
    let mut swarm = Swarm::new(100_000, PIECE_LEN, 6);
    let leecher = swarm.leecher(Config::default());
    let host = add_puppet(&mut swarm, |_| {});
    swarm.introduce(leecher, &[host]);
    assert!(swarm.run(5, |swarm| Puppet::on(swarm, host).handshake(Conn(0)).is_some()));
    let puppet = Puppet::on_mut(&mut swarm, host);
    puppet.send(Conn(0), &Message::HaveAll);
    puppet.send(Conn(0), &Message::Unchoke);
    let asked = |swarm: &Swarm| {
        Puppet::on(swarm, host).messages(Conn(0)).find_map(|message| match message {
            Message::Request(block) => Some(*block),
            _ => None,
        })
    };
    assert!(swarm.run(5, |swarm| asked(swarm).is_some()));
    let block = asked(&swarm).expect("it was asked");
    let header = encode_piece_header(block.piece, block.begin, block.length);
    Puppet::on_mut(&mut swarm, host).send_raw(Conn(0), header.to_vec());
    let start = swarm.now();
    while swarm.session(leecher).stats().snubs == 0 {
        Puppet::on_mut(&mut swarm, host).send_raw(Conn(0), vec![0]);
        swarm.run(1, |_| false);
        let waited = swarm.now().saturating_since(start);
        assert!(waited < Duration::from_mins(1), "it waits for ever");
    }
}
