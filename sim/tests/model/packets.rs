//! The same in `packet` fidelity: queues, losses, MTUs, and TCP over them.

use teem_core::time::{Duration, Instant};
use teem_sim::net::{Access, Fidelity, Net, Spread};
use teem_sim::packet::line::{Bursts, Line};
use teem_sim::packet::queue::{CoDel, Discipline, Queue};
use teem_sim::packet::tcp::{Algorithm, Config};
use teem_sim::packet::{TCP_HEADERS, UDP_HEADERS};
use teem_sim::time::Nanos;

use crate::prober::{
    Prober, at, grouped, is_likely, link, mathis, network, run, run_millis, sizes,
};

/// Hosts on lines of one kind.
fn lined(line: Line, hosts: &[Access]) -> Net<Prober> {
    let mut net = network(Fidelity::Packet, &[]);
    let line = net.topology_mut().add_line(line);
    for (host, access) in hosts.iter().enumerate() {
        net.add_attached(at(host).ip(), Access { line, ..*access }, Prober::listening());
    }
    run(&mut net, 1);
    net
}

/// How long a datagram takes from host 0 to host 1 now; none: it is lost.
fn probe(net: &mut Net<Prober>) -> Option<Duration> {
    let start = net.nanos();
    let before = net.machine(1).arrived.len();
    net.machine_mut(0).cast(at(1), 7);
    let arrives = net.run_until(Duration::from_secs(5), |net| sizes(net, 1)[before..].contains(&7));
    arrives.expect("no host spins").then(|| net.nanos().since(start))
}

#[test]
fn a_packet_takes_both_links_and_the_way_to_the_nanosecond() {
    let mut net = lined(Line::CLEAR, &[link(100_000, 1 << 30), link(1 << 30, 50_000)]);
    let start = net.nanos();
    let bytes = (1_000 + UDP_HEADERS) as u64;
    net.machine_mut(0).cast(at(1), 1_000);
    net.machine_mut(0).cast(at(1), 1_000);
    run(&mut net, 1);
    // The slower link spaces them.
    let first = 10_000_000 + bytes * 10_000 + bytes * 20_000;
    let expected = [first, first + bytes * 20_000].map(|nanos| Nanos(start.0 + nanos).instant());
    let arrived: Vec<Instant> = net.machine(1).arrived.iter().map(|(at, _)| *at).collect();
    assert_eq!(arrived, expected);
}

#[test]
fn a_stream_takes_what_a_link_carries_less_its_headers() {
    for algorithm in [Algorithm::Reno, Algorithm::Cubic] {
        let mut net =
            network(Fidelity::Packet, &[link(500_000, 1 << 30), link(1 << 30, 5_000_000)]);
        net.set_tcp(Config { algorithm, ..Config::DEFAULT });
        net.machine_mut(0).dial(0, at(1), 10_000_000);
        run(&mut net, 10);
        let before = net.traffic(1).received_bytes;
        run(&mut net, 8);
        let got = (net.traffic(1).received_bytes - before) as f64 / 8.0;
        let goodput = 500_000.0 * 1_448.0 / 1_500.0;
        assert!((got / goodput - 1.0).abs() < 0.02, "{algorithm:?}: {got} of {goodput}");
        run(&mut net, 10);
        assert_eq!(net.traffic(1).received_bytes, 10_000_000);
        assert_eq!(net.recount(), net.counters().in_flight_bytes);
        assert_eq!(net.counters().in_flight_bytes, 0);
    }
}

#[test]
fn losses_slow_a_stream_down_as_mathis_says() {
    let lossy = Access { loss_ppm: 10_000, ..link(1 << 30, 1 << 30) };
    let mut net = network(Fidelity::Packet, &[lossy, link(1 << 30, 1 << 30)]);
    net.set_tcp(Config { algorithm: Algorithm::Reno, ack_every: 1, ..Config::DEFAULT });
    net.machine_mut(0).dial(0, at(1), 1_000_000_000);
    run(&mut net, 300);
    // A round trip of 20 ms and what systems add.
    let expected = mathis(0.0205, 300.0);
    let got = net.traffic(1).received_bytes as f64;
    assert!((got / expected - 1.0).abs() < 0.2, "{got} of {expected}");
    assert!(net.counters().segments_again > 1_000);
}

#[test]
fn one_stream_fills_a_bloated_uplink_and_codel_empties_it() {
    let delay = |queue: Queue| {
        let line = Line { up: queue, ..Line::CLEAR };
        let mut net = lined(line, &[link(125_000, 1 << 30), link(1 << 30, 1 << 30)]);
        assert!(probe(&mut net).is_some_and(|delay| delay < Duration::from_millis(11)));
        net.machine_mut(0).dial(0, at(1), 100_000_000);
        run(&mut net, 30);
        let delays = (0..50).filter_map(|_| {
            run(&mut net, 1);
            probe(&mut net)
        });
        let delays: Vec<Duration> = delays.collect();
        assert!(delays.len() >= 40, "{delays:?}");
        delays.iter().sum::<Duration>().as_secs_f64() / delays.len() as f64
    };
    // 250 kB at 125 kB/s.
    let bloated = delay(Queue::bytes(250_000));
    assert!((1.2..2.05).contains(&bloated), "{bloated}");
    let codel = Discipline::CoDel(CoDel::DEFAULT);
    let controlled = delay(Queue { limit_bytes: Some(250_000), discipline: codel });
    assert!(controlled < 0.06, "{controlled}");
}

#[test]
fn packets_that_are_too_big_are_told_of_or_vanish() {
    for black_hole in [false, true] {
        let line = Line { mtu: 1_400, black_hole, ..Line::CLEAR };
        let mut net = lined(line, &[Access::PERFECT; 2]);
        let fits = 1_400 - UDP_HEADERS;
        net.machine_mut(0).cast(at(1), fits);
        net.machine_mut(0).cast(at(1), fits + 1);
        run(&mut net, 1);
        assert_eq!(sizes(&net, 1), [fits]);
        assert_eq!(net.machine(0).too_big, if black_hole { vec![] } else { vec![fits] });
        // A stream gets through, one way or the other: with segments that fit, or small ones.
        net.machine_mut(0).dial(0, at(1), 3_000_000);
        run(&mut net, 60);
        assert_eq!(net.traffic(1).received_bytes, 3_000_000, "{black_hole}");
        let least = 3_000_000 / if black_hole { 524 } else { 1_400 - TCP_HEADERS as u64 };
        assert!(net.counters().packets > least, "{:?}", net.counters());
    }
}

#[test]
fn copies_detours_and_damage_reach_machines() {
    let line = Line {
        duplicate_ppm: 50_000,
        reorder_ppm: 100_000,
        reorder_by: Duration::from_millis(5),
        corrupt_ppm: 20_000,
        ..Line::CLEAR
    };
    let mut net = lined(line, &[Access::PERFECT; 2]);
    let sent = 10_000;
    for number in 0..sent {
        net.machine_mut(0).cast(at(1), 1 + number % 2);
        run_millis(&mut net, 1);
    }
    run(&mut net, 1);
    let arrived = sizes(&net, 1);
    // Both lines do it.
    let copies = arrived.len() - sent;
    assert!(is_likely(copies as f64, 2.0 * sent as f64, 0.05), "{copies}");
    // Lengths go 1, 2, 1, 2; what takes a detour breaks that.
    let broken = arrived.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(broken > sent / 10, "{broken}");
    // A stream minds none of it.
    net.machine_mut(0).dial(0, at(1), 2_000_000);
    run(&mut net, 60);
    assert_eq!(net.traffic(1).received_bytes, 2_000_000);
    assert!(net.counters().losses > 0, "a damaged segment is a lost one");
}

#[test]
fn bursts_lose_their_share_and_streams_survive_them() {
    let bursts = Bursts { begin_ppm: 5_000, end_ppm: 200_000 };
    let line = Line { bursts: Some(bursts), ..Line::CLEAR };
    let mut net = lined(line, &[Access::PERFECT; 2]);
    let sent = 40_000;
    for _ in 0..sent {
        net.machine_mut(0).cast(at(1), 1);
    }
    run(&mut net, 1);
    // Two lines: what the first leaves, the second takes its share of.
    let share = f64::from(bursts.loss_ppm()) / 1e6;
    let expected = f64::from(sent) * (1.0 - (1.0 - share).powi(2));
    let lost = net.counters().datagrams_lost as f64;
    assert!((lost / expected - 1.0).abs() < 0.1, "{lost} of {expected}");
    net.machine_mut(0).dial(0, at(1), 1_000_000);
    run(&mut net, 120);
    assert_eq!(net.traffic(1).received_bytes, 1_000_000);
}

#[test]
fn delays_vary_for_each_packet_and_streams_stay_in_order() {
    let jitter = Spread::Uniform(Duration::ZERO, Duration::from_millis(20));
    let hosts = [Access { latency: jitter, ..link(1_000_000, 1 << 30) }, link(1 << 30, 1 << 30)];
    let mut net = network(Fidelity::Packet, &hosts);
    run(&mut net, 1);
    let delays: Vec<f64> =
        (0..400).filter_map(|_| probe(&mut net)).map(|delay| delay.as_secs_f64()).collect();
    let mean = delays.iter().sum::<f64>() / 400.0;
    // 10 ms of way and 10 of jitter; the standard error is 0.3 ms.
    assert!((mean - 0.020).abs() < 0.001, "{mean}");
    net.machine_mut(0).dial(0, at(1), 5_000_000);
    run(&mut net, 60);
    assert_eq!(net.traffic(1).received_bytes, 5_000_000);
    // Nothing is lost but what the queue drops at the end of slow start.
    let counters = net.counters();
    assert!(counters.segments_again <= counters.packets_dropped * 2 + 10, "{counters:?}");
}

#[test]
fn a_stream_into_a_partition_goes_on_when_it_heals_or_is_given_up() {
    let hosts = grouped([link(100_000, 1_000_000); 2]);
    let mut net = network(Fidelity::Packet, &hosts);
    net.machine_mut(0).dial(0, at(1), 2_000_000);
    run(&mut net, 5);
    net.cut(1, 2);
    run(&mut net, 1);
    let before = net.traffic(1).received_bytes;
    assert!((100_000..2_000_000).contains(&before), "{before}");
    run(&mut net, 20);
    assert_eq!(net.traffic(1).received_bytes, before);
    net.heal();
    run(&mut net, 60);
    assert_eq!(net.traffic(1).received_bytes, 2_000_000);
    // Cut for good in the middle of another: nobody hears of it but by waiting.
    net.machine_mut(0).dial(1, at(1), 2_000_000);
    run(&mut net, 3);
    net.cut(3, 3);
    run(&mut net, 600);
    assert!(!net.machine(0).is_closed);
    run(&mut net, 1_200);
    assert!(net.machine(0).is_closed);
    assert_eq!(net.recount(), net.counters().in_flight_bytes);
}
