//! The network against closed forms: what is sent arrives when arithmetic says, and nothing else
//! does.

mod packets;
mod prober;

use teem_core::time::Duration;
use teem_sim::net::{Access, Fidelity, HostId, Net, Spread};
use teem_sim::time::Nanos;

use prober::{Prober, at, grouped, is_likely, link, mathis, network, run, run_millis, sizes};

#[test]
fn a_stream_arrives_when_size_over_rate_and_propagation_say() {
    let hosts = [link(123_457, 1_000_000), link(1_000_000, 777_777)];
    let mut net = network(Fidelity::Flow, &hosts);
    net.machine_mut(0).dial(0, at(1), 1_000_000);
    run(&mut net, 60);
    let (last, _) = *net.machine(1).arrived.last().expect("it arrived");
    // The call there and back, then the slower of the two links, then the way there.
    let nanos = 20_000_000 + (1_000_000_u64 * 1_000_000_000).div_ceil(123_457) + 10_000_000;
    assert_eq!(last, Nanos(nanos).instant());
    assert_eq!(sizes(&net, 1).iter().sum::<usize>(), 1_000_000);
}

#[test]
fn no_window_of_time_carries_more_than_the_rate() {
    let mut net = network(Fidelity::Flow, &[link(200_000, 0), link(0, 1 << 30)]);
    net.machine_mut(0).dial(0, at(1), 2_000_000);
    run(&mut net, 60);
    let arrived = &net.machine(1).arrived;
    for first in 0..arrived.len() {
        let mut bytes = 0;
        for (now, len) in &arrived[first + 1..] {
            bytes += *len as u64;
            let window = now.saturating_since(arrived[first].0).as_micros() as u64;
            // A microsecond of rounding at each end.
            assert!(bytes <= 200_000 * (window + 2) / 1_000_000 + 1, "{bytes} in {window} us");
        }
    }
}

#[test]
fn streams_share_a_link_fairly_and_what_one_leaves_the_others_take() {
    // Two receivers behind one uplink, one of them slow: 300 and 700 of 1,000.
    let hosts = [link(1_000_000, 0), link(0, 300_000), link(0, 1 << 30)];
    let mut net = network(Fidelity::Flow, &hosts);
    for host in [1, 2] {
        net.machine_mut(host).to_send = 0;
    }
    // One machine sends on both streams: the same number of bytes, one after the other asked for.
    net.machine_mut(0).dial(0, at(1), 30_000_000);
    net.machine_mut(0).dial(1, at(2), 30_000_000);
    run(&mut net, 10);
    let of = |host: HostId| net.traffic(host).received_bytes as f64;
    assert!((of(1) / 3_000_000.0 - 1.0).abs() < 0.05, "{}", of(1));
    assert!((of(2) / 7_000_000.0 - 1.0).abs() < 0.05, "{}", of(2));
}

#[test]
fn datagrams_take_their_size_over_the_rate_and_the_delay() {
    let mut net = network(Fidelity::Flow, &[link(100_000, 0), link(0, 50_000)]);
    run(&mut net, 1);
    let start = net.nanos();
    net.machine_mut(0).cast(at(1), 1_000);
    run(&mut net, 1);
    let (arrived, len) = net.machine(1).arrived[0];
    assert_eq!((Nanos::of(arrived).since(start), len), (Duration::from_millis(30), 1_000));
}

#[test]
fn each_direction_has_its_own_rate_and_loss() {
    let fast_up = link(1_000_000, 10_000);
    let mut net = network(Fidelity::Flow, &[fast_up, link(20_000, 1_000_000)]);
    net.machine_mut(0).dial(0, at(1), 500_000);
    run(&mut net, 5);
    assert_eq!(net.traffic(1).received_bytes, 500_000);
    let mut net = network(Fidelity::Flow, &[fast_up, link(20_000, 1_000_000)]);
    net.machine_mut(1).dial(0, at(0), 500_000);
    run(&mut net, 5);
    let got = net.traffic(0).received_bytes;
    assert!((40_000..=50_000).contains(&got), "{got}");
}

#[test]
fn datagrams_are_lost_as_often_as_the_link_says() {
    let lossy = Access { loss_ppm: 50_000, ..Access::PERFECT };
    let mut net = network(Fidelity::Message, &[lossy, Access::PERFECT]);
    run(&mut net, 1);
    for _ in 0..20_000 {
        net.machine_mut(0).cast(at(1), 10);
    }
    run(&mut net, 1);
    let (sent, lost) = (net.counters().datagrams, net.counters().datagrams_lost);
    assert_eq!((sent, net.machine(1).arrived.len() as u64), (20_000, 20_000 - lost));
    assert!(is_likely(lost as f64, 20_000.0, 0.05), "{lost}");
}

#[test]
fn jitter_reorders_datagrams_as_often_as_it_should() {
    // Two datagrams 2 ms apart, each delayed evenly by 0 to 10 ms: the second overtakes when its
    // delay is more than 2 ms less, which is (8/10)^2 / 2 of the cases.
    let jitter = Spread::Uniform(Duration::ZERO, Duration::from_millis(10));
    let hosts = [Access { latency: jitter, ..Access::PERFECT }, Access::PERFECT];
    let mut net = network(Fidelity::Message, &hosts);
    run(&mut net, 1);
    let pairs = 5_000;
    for _ in 0..pairs {
        net.machine_mut(0).cast(at(1), 1);
        run_millis(&mut net, 2);
        net.machine_mut(0).cast(at(1), 2);
        run_millis(&mut net, 98);
    }
    let overtaken = sizes(&net, 1).chunks(2).filter(|pair| pair[0] == 2).count();
    assert!(is_likely(overtaken as f64, f64::from(pairs), 0.32), "{overtaken}");
}

#[test]
fn nothing_that_is_sent_during_a_partition_arrives_until_it_heals() {
    for fidelity in [Fidelity::Message, Fidelity::Flow] {
        let [one, other] = grouped([link(100_000, 1_000_000); 2]);
        let mut net = network(fidelity, &[one, other, Access::PERFECT]);
        net.machine_mut(0).dial(0, at(1), 50_000);
        run_millis(&mut net, 25);
        net.cut(1, 2);
        let cut_at = net.now();
        net.machine_mut(0).cast(at(1), 9);
        net.machine_mut(1).cast(at(0), 9);
        net.machine_mut(2).cast(at(1), 8);
        run(&mut net, 20);
        // What was on its way arrives; datagrams are lost; the other direction and others work.
        let late = |net: &Net<Prober>| {
            let arrived = &net.machine(1).arrived;
            let limit = cut_at + Duration::from_millis(10);
            arrived.iter().filter(|(now, len)| *now > limit && *len != 8).count()
        };
        assert_eq!(late(&net), 0, "{fidelity:?}");
        assert!(sizes(&net, 0).contains(&9));
        assert!(sizes(&net, 1).contains(&8));
        let before = net.traffic(1).received_bytes;
        net.heal();
        run(&mut net, 20);
        assert_eq!(net.traffic(1).received_bytes, 50_000);
        assert!(!sizes(&net, 1).contains(&9));
        if fidelity == Fidelity::Flow {
            assert!(before < 50_000);
        }
    }
}

#[test]
fn a_call_is_made_again_until_it_is_heard_or_given_up() {
    for fidelity in [Fidelity::Message, Fidelity::Flow, Fidelity::Packet] {
        let mut net = network(fidelity, &grouped([Access::PERFECT; 2]));
        run(&mut net, 1);
        // Of packets the answer alone is lost: the call is heard twice, and answered twice.
        net.cut(2, 1);
        net.machine_mut(0).dial(0, at(1), 1);
        run(&mut net, 4);
        assert!(!net.machine(0).connected && !net.machine(0).failed, "{fidelity:?}");
        net.heal();
        run(&mut net, 4);
        assert!(net.machine(0).connected, "{fidelity:?}");
        assert_eq!(net.traffic(1).received_bytes, 1, "{fidelity:?}");
        // Nobody is there at all: given up after 127 seconds.
        net.machine_mut(0).dial(1, at(9), 1);
        run(&mut net, 126);
        assert!(!net.machine(0).failed, "{fidelity:?}");
        run(&mut net, 2);
        assert!(net.machine(0).failed, "{fidelity:?}");
    }
}

#[test]
fn a_lossy_stream_is_as_fast_as_the_formula_of_mathis_says() {
    let lossy = Access { loss_ppm: 10_000, ..link(1 << 30, 1 << 30) };
    let mut net = network(Fidelity::Flow, &[lossy, link(1 << 30, 1 << 30)]);
    net.machine_mut(0).dial(0, at(1), 100_000_000);
    run(&mut net, 20);
    // Less the call.
    let expected = mathis(0.020, 19.97);
    let got = net.traffic(1).received_bytes as f64;
    assert!((got / expected - 1.0).abs() < 0.02, "{got} of {expected}");
}
