//! How many packets a second go through a chain of three links, on one core.
//!
//! ```sh
//! cargo run --release -p teem-sim --example packets
//! ```
//!
//! Packets of 1,500 bytes come at random times (nine tenths of what the first link carries), cross
//! three links of 100 MB/s with 5 ms after each, and are counted at the end. With tail drop a link
//! costs an event for each packet, with `CoDel` two.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use teem_core::rng::Seed;
use teem_sim::packet::queue::{CoDel, Discipline, Link, Offered, Queue};
use teem_sim::time::Nanos;

const LINKS: usize = 3;
const PACKETS: u32 = 3_000_000;
const RATE: u64 = 100_000_000;
const BYTES: u32 = 1_500;
const WAY: u64 = 5_000_000;

/// A packet at its next link, or a link that looks at what waits (from `LINKS` on).
type Entry = Reverse<(u64, u32, u8)>;

fn main() {
    for (name, discipline) in
        [("tail drop", Discipline::TailDrop), ("CoDel", Discipline::CoDel(CoDel::DEFAULT))]
    {
        let (arrived, dropped, seconds) = run(discipline);
        println!(
            "{name}: {:.2} M packets/s through {LINKS} links ({arrived} arrived, {dropped} dropped)",
            f64::from(PACKETS) / seconds / 1e6
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn run(discipline: Discipline) -> (u32, u32, f64) {
    let queue = Queue { limit_bytes: Some(1_000_000), discipline };
    let mut links: Vec<Link> = (0..LINKS).map(|_| Link::new(Some(RATE), queue)).collect();
    let mut rng = Seed::from_number(1).stream("packets", 0);
    let mut heap: BinaryHeap<Entry> = BinaryHeap::new();
    let (mut arrived, mut dropped, mut lost) = (0, 0, Vec::new());
    let mean = u64::from(BYTES) * 1_000_000_000 / RATE * 10 / 9;
    let mut next = (0_u64, 0_u32);
    let began = Instant::now();
    loop {
        // The next packet of the source, or what happens next, whichever is first.
        let (at, packet, place) = match heap.peek() {
            Some(Reverse((at, packet, place))) if next.1 == PACKETS || *at <= next.0 => {
                let first = (*at, *packet, *place);
                heap.pop();
                first
            }
            _ if next.1 < PACKETS => {
                let first = (next.0, next.1, 0);
                // Evenly from nothing to twice the mean.
                next = (next.0 + u64::from(rng.below(2 * mean as u32)), next.1 + 1);
                first
            }
            _ => break,
        };
        let place = usize::from(place);
        let now = Nanos(at);
        if place == LINKS {
            arrived += 1;
            continue;
        }
        if place > LINKS {
            let link = place - LINKS - 1;
            if let Some((packet, leaves)) = links[link].wake(now, &mut lost) {
                heap.push(Reverse((leaves.0 + WAY, packet, link as u8 + 1)));
            }
            if let Some(wakes) = links[link].wake_at() {
                heap.push(Reverse((wakes.0, 0, place as u8)));
            }
            continue;
        }
        let link = &mut links[place];
        let had = link.wake_at().is_some();
        match link.offer(now, packet, BYTES) {
            Offered::Leaves(leaves) => {
                heap.push(Reverse((leaves.0 + WAY, packet, place as u8 + 1)));
            }
            Offered::Waits => {
                if let Some(wakes) = link.wake_at().filter(|_| !had) {
                    heap.push(Reverse((wakes.0, 0, (LINKS + 1 + place) as u8)));
                }
            }
            Offered::Dropped => dropped += 1,
        }
    }
    (arrived, dropped + lost.len() as u32, began.elapsed().as_secs_f64())
}
