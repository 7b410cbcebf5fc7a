use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use teem_core::ids::CommandToken;
use teem_core::machine::echo::{Command, Echo};
use teem_core::time::Instant;

use super::*;
use crate::capture::pcapng::tests::{Block, read};
use crate::net::{Access, NetConfig, WALL};
use crate::packet::line::Line;
use crate::packet::queue::Queue;

const LATENCY: Duration = Duration::from_millis(10);
const TOKEN: CommandToken = CommandToken(7);

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A packet as it was written.
struct Shown {
    /// Since the beginning.
    ms: u64,
    interface: u32,
    /// Sent or received.
    way: char,
    bytes: Vec<u8>,
}

fn shown(shared: &Shared) -> Vec<Shown> {
    let bytes = shared.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let packet = |block| {
        let Block::Packet { interface, nanos, bytes, options } = block else { return None };
        let ms = (nanos - WALL.0 * 1_000_000_000) / 1_000_000;
        let way = if options[0].1[0] == 1 { '<' } else { '>' };
        Some(Shown { ms, interface, way, bytes })
    };
    read(&bytes).into_iter().filter_map(packet).collect()
}

/// Milliseconds since the beginning, sent or received, flags of TCP, and bytes of payload.
type Seen = (u64, char, u8, usize);

fn seen(shared: &Shared) -> Vec<Seen> {
    let line = |it: &Shown| {
        let (flags, header) = match it.bytes[9] {
            6 => (it.bytes[33], usize::from(it.bytes[32] >> 4) * 4),
            _ => (0, 8),
        };
        (it.ms, it.way, flags, it.bytes.len() - 20 - header)
    };
    shown(shared).iter().map(line).collect()
}

/// Bytes of payload that were sent, or received.
fn payload(seen: &[Seen], way: char) -> usize {
    seen.iter().filter(|line| line.1 == way).map(|line| line.3).sum()
}

fn ip(host: HostId) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, host as u8 + 1).into()
}

fn at(host: HostId) -> SocketAddr {
    (ip(host), 6_881).into()
}

/// The first listens, and two others are there; these are captured.
fn net(fidelity: Fidelity, captured: &[HostId]) -> (Net<Echo>, Shared) {
    attached(fidelity, captured, Line::CLEAR, Access::PERFECT)
}

/// The same on lines of this kind. Each is a group of its own.
fn attached(
    fidelity: Fidelity,
    captured: &[HostId],
    line: Line,
    access: Access,
) -> (Net<Echo>, Shared) {
    let seed = teem_core::rng::Seed::from_number(0);
    let mut net = Net::with(NetConfig { fidelity, between: LATENCY, seed });
    let shared = Shared::default();
    let mut capture = Capture::new(Box::new(shared.clone()), "");
    let line = net.topology_mut().add_line(line);
    for host in 0..3 {
        let access = Access { line, groups: 1 << host, ..access };
        net.add_attached(ip(host), access, Echo::new(Instant::ORIGIN));
        if captured.contains(&host) {
            capture.add_host(host, ip(host), "");
        }
    }
    if !captured.is_empty() {
        net.capture(capture);
    }
    net.handle_command(0, Command::Listen(TOKEN, at(0)));
    (net, shared)
}

fn run(net: &mut Net<Echo>, wanted: usize) {
    let mut events = 0;
    net.run_until(Duration::from_mins(2), |net| {
        for host in 0..3 {
            events += std::iter::from_fn(|| net.poll_event(host)).count();
        }
        events >= wanted
    })
    .expect("no timer is stuck");
    // What is on its way.
    wait(net, 1_000);
    assert_eq!(events, wanted);
}

fn wait(net: &mut Net<Echo>, ms: u64) {
    net.run_until(Duration::from_millis(ms), |_| false).expect("no timer is stuck");
}

fn end(net: &mut Net<Echo>) -> Captured {
    net.finish_capture().expect("there is one").expect("it was written")
}

const S: u8 = 0x02;
const SA: u8 = 0x12;
const A: u8 = 0x10;
const PA: u8 = 0x18;
const FA: u8 = 0x11;
const RA: u8 = 0x14;

#[test]
fn a_connection_is_shown_as_who_dialled_sees_it() {
    // Whether the other end is of the capture, too, or not.
    for captured in [&[1_usize][..], &[1, 0]] {
        let (mut net, shared) = net(Fidelity::Message, captured);
        let message = Bytes::from(vec![7; 2_000]);
        net.handle_command(1, Command::Dial(TOKEN, at(0), message));
        run(&mut net, 3);
        let packets = end(&mut net).packets;
        let seen = seen(&shared);
        assert_eq!(packets, seen.len() as u64);
        let own = captured.iter().filter(|host| **host < 1).count() as u32;
        assert!(shown(&shared).iter().all(|it| it.interface == own), "{captured:?}");
        let wanted = [
            (0, '>', S, 0),
            (20, '<', SA, 0),
            (20, '>', A, 0),
            (20, '>', A, 1_448),
            (20, '>', PA, 552),
        ];
        assert_eq!(seen[..5], wanted, "{seen:?}");
        assert_eq!(['>', '<'].map(|way| payload(&seen, way)), [2_000, 2_000]);
        for way in ['>', '<'] {
            let ends = seen.iter().filter(|line| line.1 == way && line.2 == FA).count();
            assert_eq!(ends, 1, "{seen:?}");
        }
        assert!(seen.is_sorted_by_key(|line| line.0), "{seen:?}");
        // Each end is heard.
        assert_eq!((seen[seen.len() - 1].2, seen[seen.len() - 1].3), (A, 0));
    }
}

#[test]
fn a_connection_is_shown_as_who_answered_sees_it_if_nobody_else_is_captured() {
    for fidelity in [Fidelity::Message, Fidelity::Flow] {
        let (mut net, shared) = net(fidelity, &[0]);
        net.handle_command(1, Command::Dial(TOKEN, at(0), Bytes::from(vec![7; 2_000])));
        run(&mut net, 3);
        end(&mut net);
        let seen = seen(&shared);
        let wanted = [
            (10, '<', S, 0),
            (10, '>', SA, 0),
            (30, '<', A, 0),
            (30, '<', A, 1_448),
            (30, '<', PA, 552),
            (30, '>', A, 0),
        ];
        assert_eq!(seen[..6], wanted, "{seen:?}");
        assert_eq!(payload(&seen, '>'), 2_000);
    }
}

#[test]
fn refusals_and_resets_are_shown_and_silence_is_not() {
    let (mut net, shared) = net(Fidelity::Message, &[1]);
    // Nobody listens there, and nobody is there.
    net.handle_command(1, Command::Dial(TOKEN, at(2), Bytes::from_static(b"x")));
    net.handle_command(1, Command::Dial(TOKEN, at(9), Bytes::from_static(b"x")));
    run(&mut net, 2 + 1);
    end(&mut net);
    assert_eq!(seen(&shared), [(0, '>', S, 0), (0, '>', S, 0), (20, '<', RA, 0)]);
    // A process that crashes resets what it had.
    let (mut net, shared) = self::net(Fidelity::Message, &[1]);
    net.handle_command(1, Command::Hold(TOKEN, at(0)));
    wait(&mut net, 1_000);
    net.crash(0, crate::storage::Crash::Process);
    wait(&mut net, 1_000);
    end(&mut net);
    assert_eq!(seen(&shared).last(), Some(&(1_010, '<', RA, 0)));
}

#[test]
fn datagrams_are_shown_once_and_also_if_nobody_hears_them() {
    let udp = |net: &mut Net<Echo>| {
        for host in 0..2 {
            net.handle_command(host, Command::Bind(TOKEN, at(host)));
        }
        run(net, 3);
        net.handle_command(1, Command::Say(TOKEN, at(0), Bytes::from_static(b"hello")));
        net.handle_command(1, Command::Say(TOKEN, at(9), Bytes::from_static(b"nobody")));
        wait(net, 1_000);
    };
    // The answer has a byte more.
    for (captured, answer) in [(&[1][..], ('<', 6)), (&[0, 1], ('>', 6))] {
        let (mut net, shared) = net(Fidelity::Message, captured);
        udp(&mut net);
        end(&mut net);
        let seen: Vec<_> = seen(&shared).iter().map(|line| (line.1, line.3)).collect();
        assert_eq!(seen, [('>', 5), ('>', 6), answer]);
    }
}

#[test]
fn a_capture_changes_no_digest() {
    for fidelity in [Fidelity::Message, Fidelity::Flow, Fidelity::Packet] {
        let digest = |captured: &[HostId]| {
            let (mut net, _) = net(fidelity, captured);
            net.handle_command(1, Command::Dial(TOKEN, at(0), Bytes::from(vec![7; 99_999])));
            run(&mut net, 3);
            (net.digest(), *net.counters())
        };
        assert_eq!(digest(&[]), digest(&[0, 1, 2]));
        assert_eq!(digest(&[]), digest(&[0]));
    }
}

#[test]
fn connections_that_are_over_are_forgotten() {
    for fidelity in [Fidelity::Message, Fidelity::Packet] {
        let (mut net, shared) = net(fidelity, &[0, 1]);
        run(&mut net, 1);
        for call in 0..500 {
            net.handle_command(1, Command::Dial(TOKEN, at(0), Bytes::from_static(b"x")));
            run(&mut net, 2);
            let captures = net.captures.as_ref().expect("it goes on");
            let taps = captures.taps.as_ref().map_or([0; 2], Taps::sizes);
            let there = captures.streams.len() + taps[0];
            assert!((1..=SWEEP_AT).contains(&there), "after {call} calls: {there}");
            assert_eq!(taps[1], 0, "nothing is on its way");
        }
        end(&mut net);
        let calls = seen(&shared).iter().filter(|line| line.2 == S).count();
        assert_eq!(calls, 500);
    }
}

// Segments that are real.

fn message(len: usize) -> Bytes {
    (0..len).map(|at| (at / 7) as u8).collect()
}

/// A segment: sent or received, number and acknowledgement, ranges beyond it, and the payload.
#[derive(Debug)]
struct Tcp {
    way: char,
    seq: u32,
    ack: u32,
    flags: u8,
    sacks: usize,
    payload: Vec<u8>,
}

fn segments(shared: &Shared) -> Vec<Tcp> {
    let segment = |it: Shown| {
        let tcp = &it.bytes[20..];
        let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        let header = usize::from(tcp[12] >> 4) * 4;
        // After the timestamps.
        let sacks = if header > 32 && tcp[34] == 5 { usize::from(tcp[35] - 2) / 8 } else { 0 };
        Tcp {
            way: it.way,
            seq: word(4),
            ack: word(8),
            flags: tcp[13],
            sacks,
            payload: tcp[header..].to_vec(),
        }
    };
    shown(shared).into_iter().map(segment).collect()
}

/// What was said in one direction, of everything that is seen of it; and bytes that were said
/// before. The same place never has other bytes.
fn stream(segments: &[Tcp], way: char) -> (Vec<u8>, usize) {
    let mut own = segments.iter().filter(|it| it.way == way);
    let first = own.find(|it| it.flags & S != 0).expect("a greeting").seq.wrapping_add(1);
    let (mut places, mut again) = (BTreeMap::new(), 0);
    for segment in own {
        for (at, byte) in segment.payload.iter().enumerate() {
            let place = segment.seq.wrapping_sub(first) as usize + at;
            if let Some(before) = places.insert(place, *byte) {
                assert_eq!(before, *byte, "at {place}");
                again += 1;
            }
        }
    }
    assert!(places.keys().copied().eq(0..places.len()), "gaps");
    (places.into_values().collect(), again)
}

#[test]
fn a_segment_that_is_lost_is_seen_as_sent_and_sent_again() {
    let seen = |captured: &[HostId]| {
        let (mut net, shared) = net(Fidelity::Packet, captured);
        net.handle_command(1, Command::Dial(TOKEN, at(0), message(1_000)));
        wait(&mut net, 15);
        net.cut(1 << 1, 1 << 0);
        wait(&mut net, 10);
        net.heal();
        run(&mut net, 3);
        end(&mut net);
        seen(&shared)
    };
    let dialled = [
        (0, '>', S, 0),
        (20, '<', SA, 0),
        (20, '>', A, 0),
        (20, '>', PA, 1_000),
        // Nothing was measured yet: after a second (RFC 6298).
        (1_020, '>', PA, 1_000),
        // What acknowledges has the echo in it.
        (1_040, '<', PA, 1_000),
        (1_040, '>', FA, 0),
        (1_061, '<', A, 0),
    ];
    assert_eq!(seen(&[1]), dialled);
    let answered = [
        (10, '<', S, 0),
        (10, '>', SA, 0),
        // Neither the first time nor the end of the handshake was heard.
        (1_030, '<', A, 0),
        (1_030, '<', PA, 1_000),
        (1_030, '>', PA, 1_000),
        (1_050, '<', FA, 0),
        (1_050, '>', A, 0),
    ];
    assert_eq!(seen(&[0]), answered);
    // Both: each packet where it was sent.
    let mut sent: Vec<_> = dialled.into_iter().filter(|line| line.1 == '>').collect();
    sent.extend(answered.into_iter().filter(|line| line.1 == '>'));
    sent.sort_by_key(|line| line.0);
    assert_eq!(seen(&[0, 1]), sent);
}

#[test]
fn what_a_full_queue_drops_leaves_a_gap_that_is_told_and_filled() {
    // Room for eight segments, and ten are sent at once.
    let line = Line { up: Queue::bytes(12_000), ..Line::CLEAR };
    let access = Access { up_bytes_per_s: Some(1_000_000), ..Access::PERFECT };
    let message = message(40_000);
    for captured in [&[1_usize][..], &[0], &[0, 1]] {
        let (mut net, shared) = attached(Fidelity::Packet, captured, line, access);
        net.handle_command(1, Command::Dial(TOKEN, at(0), message.clone()));
        run(&mut net, 3);
        assert!(net.counters().packets_dropped > 0);
        end(&mut net);
        let segments = segments(&shared);
        let (own, other) = if captured == [0] { ('<', '>') } else { ('>', '<') };
        let told = segments.iter().filter(|it| it.sacks > 0).count();
        assert!(told > 0, "{captured:?}");
        if captured.len() == 1 {
            let (sent, again) = stream(&segments, own);
            assert_eq!(sent, message);
            assert_eq!(stream(&segments, other).0, message);
            // Where it comes, nothing comes twice.
            assert_eq!(again > 0, captured == [1], "{captured:?}: {again}");
        }
    }
}

#[test]
fn copies_and_what_comes_late_are_shown_as_they_come() {
    let line = Line {
        duplicate_ppm: 100_000,
        reorder_ppm: 100_000,
        reorder_by: Duration::from_millis(5),
        ..Line::CLEAR
    };
    let access = Access { loss_ppm: 20_000, ..Access::PERFECT };
    let message = message(200_000);
    let (mut net, shared) = attached(Fidelity::Packet, &[0], line, access);
    net.handle_command(1, Command::Dial(TOKEN, at(0), message.clone()));
    run(&mut net, 3);
    assert!(net.counters().losses > 0);
    end(&mut net);
    let segments = segments(&shared);
    let (received, again) = stream(&segments, '<');
    assert_eq!(received, message);
    assert!(again > 0);
    assert_eq!(stream(&segments, '>').0, message);
    let own: Vec<u32> = segments.iter().filter(|it| it.way == '<').map(|it| it.seq).collect();
    assert!(!own.is_sorted());
}

#[test]
fn calls_that_come_to_nothing_are_shown_as_often_as_they_are_made() {
    let (mut net, shared) = net(Fidelity::Packet, &[1]);
    // Nobody listens there, and nobody is there.
    net.handle_command(1, Command::Dial(TOKEN, at(2), Bytes::from_static(b"x")));
    net.handle_command(1, Command::Dial(TOKEN, at(9), Bytes::from_static(b"x")));
    wait(&mut net, 8_000);
    end(&mut net);
    let calls = [(0, '>', S, 0), (0, '>', S, 0), (20, '<', RA, 0)];
    let again = [1_000, 3_000, 7_000].map(|at| (at, '>', S, 0));
    assert_eq!(seen(&shared), [&calls[..], &again].concat());
    // The numbers are those of the call.
    let segments = segments(&shared);
    assert_eq!((segments[2].seq, segments[2].ack), (0, segments[0].seq.wrapping_add(1)));
}

#[test]
fn a_process_that_crashes_resets_in_the_right_place_and_one_without_power_hears_nothing() {
    for captured in [&[0_usize][..], &[1]] {
        for how in [crate::storage::Crash::Process, crate::storage::Crash::Power] {
            let (mut net, shared) = net(Fidelity::Packet, captured);
            net.handle_command(1, Command::Dial(TOKEN, at(0), message(100_000)));
            wait(&mut net, 35);
            net.crash(0, how);
            wait(&mut net, 1_000);
            end(&mut net);
            let way = if captured == [0] { '>' } else { '<' };
            let all = segments(&shared);
            let resets: Vec<&Tcp> = all.iter().filter(|it| it.flags == RA).collect();
            if how == crate::storage::Crash::Power {
                assert!(resets.is_empty(), "{captured:?}");
                let last = seen(&shared).last().expect("packets").0;
                assert_eq!(last > 50, captured == [1], "{last}");
                continue;
            }
            let [first, ..] = resets[..] else { panic!("{captured:?}") };
            assert_eq!(first.way, way);
            let sent = all.iter().filter(|it| it.way == way && it.flags & S == 0);
            let next = sent.map(|it| it.seq.wrapping_add(it.payload.len() as u32)).max();
            assert_eq!(Some(first.seq), next);
        }
    }
}
