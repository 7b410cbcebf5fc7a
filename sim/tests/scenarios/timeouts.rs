//! How long peers are put up with that do nothing, and whose turn it is.

use teem_core::peer::{
    CloseReason, HANDSHAKE_TIMEOUT, INACTIVITY_TIMEOUT, LimitReached, NO_REQUEST_TIMEOUT,
};
use teem_core::session::Config;
use teem_core::time::{Duration, Instant};
use teem_core::wire::{BlockRequest, Message};
use teem_sim::actors::{Conn, Puppet, Received};
use teem_sim::net::HostId;
use teem_sim::swarm::address;

use crate::stage::{PIECE_LEN, Stage};

const PIECES: u32 = 9;

/// A puppet that listens, dialled by the session, which does not shake hands unless `shakes`.
fn dialled(shakes: bool) -> Stage {
    let mut stage = Stage::leeching(PIECES);
    let puppet = stage.puppet(|config, host| {
        config.listen = Some(address(host));
        config.auto_handshake = shakes;
    });
    stage.wait(Duration::from_millis(1));
    let session = stage.session;
    stage.swarm.introduce(session, &[puppet]);
    stage
}

#[test]
fn a_peer_that_shakes_hands_and_falls_silent_leaves_after_two_and_a_half_minutes() {
    let (after, reason) = dialled(true).closes_within(Duration::from_mins(5));
    assert_eq!(reason, CloseReason::Limit(LimitReached::Inactivity));
    assert_eq!(INACTIVITY_TIMEOUT, Duration::from_secs(150));
    assert!((150..152).contains(&after.as_secs()), "{after:?}");
}

#[test]
fn a_peer_that_never_shakes_hands_leaves_after_twenty_seconds() {
    let (after, reason) = dialled(false).closes_within(Duration::from_mins(5));
    assert_eq!(reason, CloseReason::Limit(LimitReached::HandshakeTimeout));
    assert_eq!(HANDSHAKE_TIMEOUT, Duration::from_secs(20));
    assert!((20..21).contains(&after.as_secs()), "{after:?}");
}

/// A peer that asks a seed for one block and for nothing more: when it has it, and when it has to
/// leave.
fn asks_once(up_bytes_per_s: Option<u64>) -> (Duration, Duration) {
    let mut stage = Stage::new(PIECES, true, Config { up_bytes_per_s, ..Config::default() });
    let guest = stage.guest();
    let start = stage.swarm.now();
    stage.send(guest, &Message::Interested);
    stage.wait(Duration::from_secs(1));
    let piece = teem_core::ids::PieceIndex(0);
    let request = BlockRequest { piece, begin: 0, length: PIECE_LEN };
    stage.send(guest, &Message::Request(request));
    let (_, reason) = stage.closes_within(Duration::from_secs(140));
    assert_eq!(reason, CloseReason::Limit(LimitReached::NoRequest));
    let end = stage.swarm.now().saturating_since(start);
    let had = stage
        .puppet_at(guest)
        .iter()
        .find(|(_, what)| matches!(what, Received::Message(Message::Piece { .. })))
        .map(|(at, _)| at.saturating_since(start));
    (had.expect("it was served"), end)
}

#[test]
fn a_peer_that_asks_for_nothing_more_leaves_the_seed_after_a_minute() {
    let (had, left) = asks_once(None);
    assert_eq!(NO_REQUEST_TIMEOUT, Duration::from_mins(1));
    assert!(had < Duration::from_millis(1_100), "{had:?}");
    assert!((61..62).contains(&left.as_secs()), "{left:?}");
}

#[test]
fn while_the_last_answer_is_on_its_way_nobody_is_expected_to_ask() {
    let (had, left) = asks_once(Some(1_000));
    assert!((10..20).contains(&had.as_secs()), "{had:?}");
    let since = left.checked_sub(had).expect("first one, then the other");
    assert!(since.abs_diff(Duration::from_mins(1)) < Duration::from_secs(1), "{since:?}");
}

#[test]
fn a_leecher_puts_up_with_a_peer_that_asks_for_nothing() {
    let mut stage = Stage::leeching(PIECES);
    let guest = stage.guest();
    stage.send(guest, &Message::Interested);
    stage.wait(Duration::from_secs(140));
    assert_eq!((stage.peers(), stage.closings().len()), (1, 0));
}

/// Ten peers of no interest, which say `again` every hundred seconds; how many places there are,
/// and the seconds after which it is judged. Returns after how many seconds who left.
fn bored(places: usize, timeout_s: Option<u32>, again: &Message) -> Vec<(u64, CloseReason)> {
    let mut config = Config { torrent_peers_max: places, ..Config::default() };
    if let Some(seconds) = timeout_s {
        config.no_interest_timeout_s = seconds;
    }
    let mut stage = Stage::new(PIECES, false, config);
    let start = stage.swarm.now();
    let puppets: Vec<HostId> = (0..10).map(|_| stage.puppet(|_, _| {})).collect();
    let to = address(stage.session);
    for puppet in &puppets {
        Puppet::on_mut(&mut stage.swarm, *puppet).dial(to);
    }
    let mut left = Vec::new();
    for second in 0..700_u64 {
        stage.wait(Duration::from_secs(1));
        let passed = stage.swarm.now().saturating_since(start).as_secs();
        for reason in stage.closings().into_iter().skip(left.len()) {
            left.push((passed - 1, reason));
        }
        if second % 100 == 99 {
            for puppet in &puppets {
                stage.send((*puppet, Conn(0)), again);
            }
        }
    }
    assert_eq!(stage.peers(), 10 - left.len());
    left
}

const NO_INTEREST: CloseReason = CloseReason::Limit(LimitReached::NoInterest);

#[test]
fn near_the_limit_peers_of_no_interest_leave_after_ten_minutes_until_a_third_is_free() {
    let left = bored(12, None, &Message::KeepAlive);
    assert_eq!(left, [(600, NO_INTEREST); 3]);
    let left = bored(10, None, &Message::KeepAlive);
    assert_eq!(left, [(600, NO_INTEREST); 4]);
}

#[test]
fn saying_again_that_one_is_not_interested_does_not_start_the_time_anew() {
    let left = bored(12, None, &Message::NotInterested);
    assert_eq!(left, [(600, NO_INTEREST); 3]);
}

#[test]
fn with_no_time_at_all_they_leave_at_once() {
    let left = bored(12, Some(0), &Message::KeepAlive);
    assert_eq!(left, [(0, NO_INTEREST); 3]);
}

#[test]
fn with_places_to_spare_nobody_leaves() {
    assert_eq!(bored(20, None, &Message::KeepAlive), []);
    assert_eq!(bored(20, Some(0), &Message::KeepAlive), []);
}

#[test]
fn interest_that_ends_starts_the_time() {
    let config = Config { torrent_peers_max: 1, ..Config::default() };
    let mut stage = Stage::new(PIECES, false, config);
    let guest = stage.guest();
    for message in [Message::Interested, Message::NotInterested] {
        stage.send(guest, &message);
        for _ in 0..5 {
            stage.wait(Duration::from_secs(100));
            stage.send(guest, &Message::KeepAlive);
        }
    }
    let (after, reason) = stage.closes_within(Duration::from_secs(140));
    assert_eq!(reason, NO_INTEREST);
    assert!((99..101).contains(&after.as_secs()), "{after:?}");
}

/// How long each of a row of choke and unchoke messages left a peer unchoked, until `end`.
fn unchoked(seen: &[(Instant, Received)], end: Instant) -> Duration {
    let (mut total, mut since) = (Duration::ZERO, None);
    for (at, what) in seen {
        match what {
            Received::Message(Message::Unchoke) if since.is_none() => since = Some(*at),
            Received::Message(Message::Choke) => {
                total += since.take().map_or(Duration::ZERO, |since| at.saturating_since(since));
            }
            _ => {}
        }
    }
    total + since.map_or(Duration::ZERO, |since| end.saturating_since(since))
}

#[test]
fn twenty_idle_peers_share_one_slot_to_the_second() {
    let mut stage = Stage::new(PIECES, false, Config { upload_slots: 1, ..Config::default() });
    let puppets: Vec<HostId> = (0..20).map(|_| stage.puppet(|_, _| {})).collect();
    let to = address(stage.session);
    for puppet in &puppets {
        Puppet::on_mut(&mut stage.swarm, *puppet).dial(to);
    }
    stage.wait(Duration::from_millis(100));
    for puppet in &puppets {
        stage.send((*puppet, Conn(0)), &Message::Interested);
    }
    for _ in 0..18 {
        for puppet in &puppets {
            stage.send((*puppet, Conn(0)), &Message::KeepAlive);
        }
        stage.wait(Duration::from_secs(100));
    }
    assert_eq!(stage.peers(), 20);
    let end = stage.swarm.now();
    for puppet in &puppets {
        let total = unchoked(stage.puppet_at((*puppet, Conn(0))), end);
        let off = total.abs_diff(Duration::from_secs(90));
        assert!(off < Duration::from_millis(1_500), "{total:?} of 90 s");
    }
}
