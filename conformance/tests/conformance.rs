//! The suite: every driver, the same scenario, the same trace.

use std::collections::BTreeSet;

use teem_conformance::drive::{Drive, Mio, START, all};
use teem_conformance::scenario::{IDLE, bulk, everything};
use teem_conformance::tap::{Raw, Tap};
use teem_conformance::throttle::Throttle;
use teem_core::machine::echo::Echo;
use teem_core::machine::trace::{Recorder, Replayed, replay};
use teem_core::time::Duration;

fn server() -> Echo {
    Echo::with_idle_timeout(START, IDLE)
}

fn client() -> Echo {
    Echo::with_idle_timeout(START, Duration::from_mins(1))
}

#[test]
fn all_drivers_leave_the_same_trace() {
    let mut traces = Vec::new();
    for mut drive in all(|| [Tap::new(server()), Tap::new(client())]) {
        everything(&mut *drive);
        let trace = [0, 1].map(|host| {
            assert_eq!(drive.machine(host).streams(), 0, "{}: all are closed", drive.name());
            drive.machine(host).normalised()
        });
        traces.push((drive.name(), trace));
    }
    let names: BTreeSet<_> = traces.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    let (first, expected) = &traces[0];
    // 9 streams and 7 jobs at the server, with their events; not an empty trace five times.
    assert_eq!(expected[0].lines().count(), 8 + 7 + 1 + 1 + 11, "{}", expected[0]);
    for (name, trace) in &traces {
        for host in 0..2 {
            let (seen, expected) = (&trace[host], &expected[host]);
            assert!(seen == expected, "host {host}, {first}:\n{expected}\n\n{name}:\n{seen}");
        }
    }
}

#[test]
fn no_edge_is_lost_when_reading_pauses_and_resumes() {
    let mut ran = 0;
    for mut drive in all(|| [Throttle::new(client()), Throttle::new(client())]) {
        bulk(&mut *drive);
        for host in 0..2 {
            let pauses = drive.machine(host).pauses();
            assert!(pauses > 8, "{}: {pauses} pauses", drive.name());
        }
        ran += 1;
    }
    assert_eq!(ran, 5);
}

#[test]
fn a_recorded_run_replays_every_output_byte() {
    let tapped = |echo| Tap::new(Recorder::new(echo));
    let mut drive = Mio::new([tapped(server()), tapped(client())]);
    everything(&mut drive);
    for (host, mut again) in [server(), client()].into_iter().enumerate() {
        let tap = drive.machine(host);
        let trace = tap.machine_mut().take();
        let mut raw = Raw::default();
        let calls = replay(&mut again, &trace, |_, what| match what {
            Replayed::Output(output) => raw.output(&output),
            Replayed::Sent(stream, parts) => raw.lent(stream, parts),
            Replayed::Transmitted(socket, _, data) => raw.datagrams.push((socket, data.to_vec())),
            Replayed::Event(event) => raw.events.push(format!("{event:?}")),
            Replayed::Job(..) | Replayed::Accepted(_) => {}
        });
        assert!(calls.expect("a whole trace") > 20);
        assert!(raw.lent.values().map(Vec::len).sum::<usize>() > 1 << 20);
        assert!(raw == *tap.raw(), "host {host} did something else");
    }
}
