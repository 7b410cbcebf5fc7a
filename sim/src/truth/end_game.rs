//! The end of a download: a block that a slow peer was asked for is asked of others as well.
//!
//! One leecher, some fast seeds and one slow one. Without an end game the last block is as late as
//! the slow one makes it. With it, it comes at most two round trips and one block's time on a fast
//! uplink after the one before (one round trip to ask, one for what is on its way already), and at
//! most one part in a hundred of all bytes comes twice. Sizes and rates are ours.
//!
//! Measured, with five seeds: next to nothing comes twice, and with twenty fast ones up to 0.4 %; the
//! last block comes at once after the one before, or within 46 ms, where 162 ms are allowed and
//! the slow uplink needs 4 s. When every idle peer was asked for whatever was missing, it was 0.4 to
//! 0.5 %, and 1.2 to 2.0 % with twenty fast ones, each of which sent a block or two in vain; and it
//! took a fourth of a second longer.

use teem_core::rng::Seed;
use teem_core::session::Config;
use teem_core::time::{Duration, Instant};

use super::visits::SEND_BUFFER;
use crate::net::{Access, Fidelity, Net, NetConfig};
use crate::swarm::{Swarm, torrent};

/// The experiment. See the [module](self).
#[derive(Clone, Debug)]
pub struct EndGame {
    /// Fast seeds; one slow one comes on top.
    pub fast: usize,
    /// The uplink of each of the fast ones.
    pub fast_bytes_per_s: u64,
    /// That of the slow one.
    pub slow_bytes_per_s: u64,
    /// From anybody to anybody, one way.
    pub one_way: Duration,
    /// Pieces of the torrent.
    pub pieces: u32,
    /// Bytes of each.
    pub piece_len: u32,
    /// All randomness.
    pub seed: u64,
}

/// What came out.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Bytes that came twice, against all.
    pub wasted: f64,
    /// How long after the last block but one the last one came, in seconds.
    pub last_wait_s: f64,
    /// Two round trips and one block's time on a fast uplink, in seconds.
    pub allowed_s: f64,
    /// One block's time on the slow uplink, in seconds.
    pub slow_block_s: f64,
    /// When everything was there, in seconds.
    pub done_s: f64,
}

const BLOCK: u64 = 16 * 1024;

impl EndGame {
    /// Four seeds of 200 kB/s and one of 4 kB/s, 20 ms from the leecher, and 32 MiB.
    pub const fn small(seed: u64) -> Self {
        Self {
            fast: 4,
            fast_bytes_per_s: 200_000,
            slow_bytes_per_s: 4_000,
            one_way: Duration::from_millis(20),
            pieces: 128,
            piece_len: 256 * 1024,
            seed,
        }
    }

    /// Runs until the leecher has everything.
    ///
    /// # Panics
    /// If it never has.
    pub fn run(&self) -> Outcome {
        let seed = Seed::from_number(self.seed);
        let total = u64::from(self.pieces) * u64::from(self.piece_len);
        let mut content = vec![0; total as usize];
        seed.stream("content", 0).fill(&mut content);
        let metainfo = torrent(&content, self.piece_len);
        let net = Net::with(NetConfig { fidelity: Fidelity::Flow, between: self.one_way, seed });
        let mut swarm = Swarm::on(net, metainfo, content.into());
        swarm.net.set_send_buffer(SEND_BUFFER);
        // Which of the seeds is the slow one is drawn: sessions differ by their numbers.
        let slow = seed.stream("slow", 0).below(self.fast as u32 + 1) as usize;
        for host in 0..=self.fast {
            swarm.seeder(Config::default());
            let rate = if host == slow { self.slow_bytes_per_s } else { self.fast_bytes_per_s };
            let access = Access { up_bytes_per_s: Some(rate), ..Access::PERFECT };
            swarm.net.set_access(host, access);
        }
        let leecher = swarm.leecher(Config::default());
        swarm.introduce(leecher, &(0..=self.fast).collect::<Vec<_>>());
        let (mut last_but_one, mut last) = (Instant::ORIGIN, Instant::ORIGIN);
        let mut before = 0;
        let is_done = swarm.run(3_600, |swarm| {
            let got = swarm.snapshot(leecher).downloaded_bytes;
            if got > before {
                (last_but_one, last) = (last, swarm.now());
                before = got;
            }
            got >= total
        });
        assert!(is_done, "it has everything in the end");
        // What is on its way when it is done comes, or is called off.
        swarm.run(10, |_| false);
        let round_trip_s = 2.0 * self.one_way.as_secs_f64();
        Outcome {
            wasted: swarm.session(leecher).stats().wasted_bytes as f64 / total as f64,
            last_wait_s: last.saturating_since(last_but_one).as_secs_f64(),
            allowed_s: 2.0 * round_trip_s + BLOCK as f64 / self.fast_bytes_per_s as f64,
            slow_block_s: BLOCK as f64 / self.slow_bytes_per_s as f64,
            done_s: last.saturating_since(Instant::ORIGIN).as_secs_f64(),
        }
    }
}
