use std::net::Ipv4Addr;

use teem_core::ids::CommandToken;
use teem_core::machine::echo::{Command, Echo, Event};
use teem_core::machine::{Deadline, Input};

use super::clock::Clocks;
use super::*;

const LATENCY: Duration = Duration::from_millis(10);
const MINUTE: Duration = Duration::from_mins(1);

fn host(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number).into()
}

fn anywhere() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, 0).into()
}

fn two() -> (Net<Echo>, SocketAddr) {
    let mut net = Net::new(LATENCY);
    for number in 1..3 {
        net.add(host(number), Echo::new(net.now()));
    }
    net.handle_command(0, Command::Listen(CommandToken(0), anywhere()));
    let (at, event) = event(&mut net);
    let Event::Listening(_, address) = event else { panic!("{event:?} at {at:?}") };
    (net, address)
}

fn event(net: &mut Net<Echo>) -> (Instant, Event) {
    let mut found = None;
    net.run_until(MINUTE, |net| {
        found = (0..2).find_map(|host| net.poll_event(host));
        found.is_some()
    })
    .expect("no timer is stuck");
    (net.now(), found.expect("an event within a minute"))
}

fn dial(to: SocketAddr, message: &'static [u8]) -> Command {
    Command::Dial(CommandToken(7), to, Bytes::from_static(message))
}

#[test]
fn time_jumps_exactly_to_what_happens() {
    let (mut net, address) = two();
    assert_eq!(address.ip(), host(1));
    net.handle_command(1, dial(address, b"hello"));
    // There and back to connect, there and back with the message.
    let (at, echoed) = event(&mut net);
    assert_eq!(echoed, Event::Echoed(CommandToken(7), Bytes::from_static(b"hello")));
    assert_eq!(at, Instant::ORIGIN + 4 * LATENCY);
    // The end of it; hashing what was served takes no time.
    let (at, served) = event(&mut net);
    assert!(matches!(served, Event::Served(_, 5)), "{served:?}");
    assert_eq!(at, Instant::ORIGIN + 5 * LATENCY);
    assert!(net.connections.is_empty(), "both ends are gone");
    assert_eq!(net.pipes.in_use(), 0);
    assert_eq!(net.run_until(MINUTE, |_| false), Ok(false));
    assert_eq!(net.next(), None);
}

#[test]
fn nobody_listens_is_refused_after_a_round_trip() {
    let (mut net, _) = two();
    net.handle_command(1, dial((host(2), 7).into(), b"hello"));
    let (at, failed) = event(&mut net);
    assert_eq!(failed, Event::Failed(CommandToken(7)));
    assert_eq!(at, Instant::ORIGIN + 2 * LATENCY);
}

#[test]
fn what_is_larger_than_the_window_takes_more_round_trips() {
    let (mut net, address) = two();
    let message = Bytes::from(vec![7; 4 * WINDOW]);
    net.handle_command(1, Command::Dial(CommandToken(7), address, message.clone()));
    let (at, echoed) = event(&mut net);
    assert_eq!(echoed, Event::Echoed(CommandToken(7), message));
    assert!(at >= Instant::ORIGIN + 10 * LATENCY, "{at:?}");
}

#[test]
fn an_idle_stream_ends_when_its_timer_says() {
    let (mut net, address) = two();
    net.handle_command(1, Command::Hold(CommandToken(7), address));
    let (at, idle) = event(&mut net);
    assert_eq!(idle, Event::Idle);
    assert_eq!(at, Instant::ORIGIN + LATENCY + teem_core::machine::echo::IDLE_TIMEOUT);
    assert_eq!(event(&mut net), (at + LATENCY, Event::Failed(CommandToken(7))));
}

struct Stubborn;

impl Machine for Stubborn {
    fn handle_input(&mut self, _: Instant, _: Input<'_>) {}

    fn poll_timeout(&self) -> Option<Deadline> {
        let at = Instant::ORIGIN + Duration::from_secs(3);
        Some(Deadline { at, reason: "never cleared" })
    }
}

#[test]
fn a_timer_that_does_not_advance_fails_the_run_by_name() {
    let mut net = Net::new(LATENCY);
    net.add(host(1), Stubborn);
    let stuck = net.run_until(MINUTE, |_| false).expect_err("it is stuck");
    let at = Instant::ORIGIN + Duration::from_secs(3);
    assert_eq!(stuck, Stuck { host: 0, at, reason: "never cleared" });
}

#[test]
fn a_timer_comes_when_the_hosts_own_clock_says() {
    // A tenth too fast, too slow, and an hour ahead.
    for (drift_ppm, offset_nanos) in [(100_000, 0), (-100_000, 0), (0, 3_600_000_000_000_i64)] {
        let (mut net, address) = two();
        let skew = Skew { offset_nanos, drift_ppm };
        for id in 0..2 {
            net.set_clock(id, skew);
        }
        net.handle_command(1, Command::Hold(CommandToken(7), address));
        let (at, idle) = event(&mut net);
        assert_eq!(idle, Event::Idle);
        let timeout = teem_core::machine::echo::IDLE_TIMEOUT.as_micros().cast_signed();
        let expected = timeout * 1_000_000 / i128::from(1_000_000 + drift_ppm);
        let took = at.saturating_since(Instant::ORIGIN + LATENCY).as_micros().cast_signed();
        assert!((took - expected).abs() <= 1, "{took} and not {expected}");
        assert_eq!(net.counters().late_deadlines, 0);
        let gained = i128::from(net.nanos().0) * i128::from(drift_ppm) / 1_000_000;
        let nanos = i128::from(net.nanos().0) + gained + i128::from(offset_nanos);
        let wall = i128::from(WALL.0) + nanos.div_euclid(1_000_000_000);
        assert_eq!(i128::from(net.wall(0).0), wall);
    }
}

#[test]
fn a_clock_that_is_right_changes_nothing() {
    let digest = |skew: bool| {
        let (mut net, address) = two();
        if skew {
            net.hosts[1].clocks = Some(Clocks::new(net.now, Skew::NONE).into());
        }
        net.handle_command(1, dial(address, b"hello"));
        event(&mut net);
        event(&mut net);
        net.digest()
    };
    assert_eq!(digest(false), digest(true));
}

#[test]
fn a_stuck_timer_is_found_whatever_the_clock_says() {
    for drift_ppm in [DRIFT_MAX_PPM, -DRIFT_MAX_PPM] {
        let mut net = Net::new(LATENCY);
        let id = net.add_absent(host(1), Access::PERFECT);
        net.set_clock(id, Skew { offset_nanos: -1_000_000_000, drift_ppm });
        net.restart(id, Stubborn);
        let stuck = net.run_until(MINUTE, |_| false).expect_err("it is stuck");
        assert_eq!(stuck.reason, "never cleared");
        // Four seconds of its clock.
        let micros = 4_000_000 * 1_000_000 / i64::from(1_000_000 + drift_ppm);
        let at = stuck.at.saturating_since(Instant::ORIGIN).as_micros().cast_signed();
        assert!((at - i128::from(micros)).abs() <= 1, "{at} and not {micros}");
    }
}

#[test]
fn a_run_stops_at_its_limit() {
    let mut net = Net::<Echo>::new(LATENCY);
    assert_eq!(net.run_until(MINUTE, |_| false), Ok(false));
    assert_eq!(net.now(), Instant::ORIGIN + MINUTE);
}
