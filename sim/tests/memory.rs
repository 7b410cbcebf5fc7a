//! What a simulated host costs: counted at the allocator, everything included.
//!
//! A binary of its own, with one test, so that nobody else allocates meanwhile.

#![allow(unsafe_code, reason = "an allocator cannot be counted without being one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use teem_core::machine::{Input, Machine};
use teem_core::rng::Seed;
use teem_core::session::{Config, Session};
use teem_core::time::Instant;
use teem_sim::net::WALL;
use teem_sim::storage::Disk;
use teem_sim::swarm::{Node, Swarm};

/// Counts what is allocated.
struct Counting;

static BYTES: AtomicU64 = AtomicU64::new(0);

/// What a block takes of the heap, as common allocators keep it: with a word in front, in steps of
/// 16 bytes, and no less than 32.
const fn taken(size: usize) -> u64 {
    let chunk = (size + 8).next_multiple_of(16);
    if chunk < 32 { 32 } else { chunk as u64 }
}

// SAFETY: hands every call on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the rules.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the rules.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn bytes() -> u64 {
    BYTES.load(Ordering::Relaxed)
}

/// Hosts: no power of two, so that what grows by doubling is as large as it mostly is.
const HOSTS: usize = 100;

/// Connections of each.
const CONNECTIONS: usize = 30;

/// Pieces of the torrent.
const PIECES: usize = 64;

/// Bytes of a host with one torrent and [`CONNECTIONS`] idle connections, everything included.
const HOST_MAX: u64 = 32 * 1024;

/// Bytes of a session that nobody told anything.
const EMPTY_SESSION_MAX: u64 = 8 * 1024;

/// Bytes of one end of an idle connection: the session's, its half of the network's, and all that
/// either of them keeps lists of.
const CONNECTION_MAX: u64 = 800;

/// Takes a session's place, and no memory.
#[derive(Debug)]
struct Nobody;

impl Machine for Nobody {
    fn handle_input(&mut self, _: Instant, _: Input<'_>) {}
}

/// Runs, and keeps nothing of what sessions tell.
fn run(swarm: &mut Swarm, seconds: u64) {
    swarm.run(seconds, |_| false);
    for host in 0..swarm.net.len() {
        swarm.take_events(host);
    }
}

#[test]
fn a_host_with_a_torrent_and_thirty_idle_connections_is_small() {
    let hosts = HOSTS as u64;
    let start = bytes();
    let make =
        |number| Session::new(Config::default(), Seed::from_number(number), Instant::ORIGIN, WALL);
    let sessions: Vec<_> = (0..hosts).map(make).collect();
    let empty = (bytes() - start) / hosts;
    drop(sessions);

    let mut swarm = Swarm::new(PIECES << 14, 1 << 14, 1);
    let start = bytes();
    let leechers: Vec<_> = (0..HOSTS).map(|_| swarm.leecher(Config::default())).collect();
    run(&mut swarm, 1);
    let open = (bytes() - start) / hosts;

    // Everybody calls the next ones round a ring, and is called by those before.
    for (at, leecher) in leechers.iter().enumerate() {
        let next = |by: usize| leechers[(at + by) % HOSTS];
        swarm.introduce(*leecher, &(1..=CONNECTIONS / 2).map(next).collect::<Vec<_>>());
    }
    // Beyond choke rounds, saves and keep-alives.
    run(&mut swarm, 300);
    for leecher in &leechers {
        assert_eq!(swarm.session(*leecher).stats().peers, CONNECTIONS);
    }
    assert_eq!(swarm.net.counters().in_flight_bytes, 0);
    let all = (bytes() - start) / hosts;

    // Taken apart.
    let mut left = bytes();
    let mut part = || {
        let freed = (left - bytes()) / hosts;
        left = bytes();
        freed
    };
    for leecher in &leechers {
        *swarm.net.machine_mut(*leecher) = Node::Actor(Box::new(Nobody));
    }
    let core = part();
    for (host, leecher) in leechers.iter().enumerate() {
        *swarm.net.disk_mut(*leecher) = Disk::new(Seed::from_number(0).stream("", host as u64));
    }
    let disk = part();
    let net = all - core - disk;
    let connection = (all - open) / CONNECTIONS as u64;
    println!(
        "empty session {empty}, host with an open torrent {open}, each connection {connection}"
    );
    println!("host with {CONNECTIONS} connections {all}: core {core}, disk {disk}, network {net}");

    assert!(empty <= EMPTY_SESSION_MAX, "{empty}");
    assert!(all <= HOST_MAX, "{all}");
    assert!(connection <= CONNECTION_MAX, "{connection}");
}
