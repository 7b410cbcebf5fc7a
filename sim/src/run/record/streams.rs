//! How single streams go, in `packet` fidelity: window, delay, what is in flight and what is lost.
//!
//! Streams of a few hosts are followed, and those that carried most are kept.

use teem_core::ids::StreamId;

use super::peer::Watch;
use super::spells::secs;
use crate::net::{HostId, Net};
use crate::swarm::Node;
use crate::time::Nanos;

/// Streams of one run that are kept.
pub const STREAMS_MAX: usize = 6;

/// Streams of one run that are followed.
const FOLLOWED_MAX: usize = 64;

/// Hosts whose streams are followed: so many of those that have everything, and so many others.
const HOSTS_OF_EACH: usize = 2;

/// Samples of a stream that are kept.
pub const STREAM_SAMPLES_MAX: usize = 512;

/// A stream at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StreamSample {
    /// When, in seconds since the run began.
    pub at_s: f64,
    /// Congestion window, in bytes.
    pub window_bytes: u64,
    /// Smoothed round trip, in seconds.
    pub round_trip_s: f64,
    /// What of it is queueing, in seconds.
    pub queueing_s: f64,
    /// Bytes sent and not acknowledged.
    pub in_flight_bytes: u64,
    /// Segments that were sent again so far.
    pub losses: u64,
}

/// A stream over time. The samples are even in time: when there are too many, every second one is
/// dropped, and from then on every second one that comes is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamSeries {
    /// Whose it is: "host 3 to host 7".
    pub name: String,
    samples: Vec<StreamSample>,
    /// Of so many that come one is kept.
    stride: u64,
    seen: u64,
}

impl StreamSeries {
    /// Nothing is known yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), samples: Vec::new(), stride: 1, seen: 0 }
    }

    /// Adds a sample, which is later than those before.
    pub fn push(&mut self, sample: StreamSample) {
        let is_kept = self.seen.is_multiple_of(self.stride.max(1));
        self.seen += 1;
        if !is_kept {
            return;
        }
        self.samples.push(sample);
        if self.samples.len() >= STREAM_SAMPLES_MAX {
            let mut number = 0;
            self.samples.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.stride = self.stride.max(1) * 2;
        }
    }

    /// What is kept, in the order of time.
    pub fn samples(&self) -> &[StreamSample] {
        &self.samples
    }
}

/// What is known of streams while a run goes on.
#[derive(Debug, Default)]
pub(super) struct Streams {
    hosts: Vec<HostId>,
    followed: Vec<Followed>,
}

#[derive(Debug)]
struct Followed {
    host: HostId,
    stream: StreamId,
    acked_bytes: u64,
    series: StreamSeries,
}

impl Streams {
    pub(super) fn new(watches: &[Watch]) -> Self {
        let of = |fetches| {
            let hosts = watches.iter().filter(move |watch| watch.fetches == fetches);
            hosts.take(HOSTS_OF_EACH).map(|watch| watch.host)
        };
        Self { hosts: of(false).chain(of(true)).collect(), followed: Vec::new() }
    }

    /// Takes a sample of each stream that is followed and there.
    pub(super) fn sample(&mut self, at: Nanos, net: &Net<Node>) {
        for host in &self.hosts {
            for stream in net.stream_ids(*host) {
                // In other fidelities there is none.
                let Some(now) = net.stream_snapshot(*host, stream) else { continue };
                let place = self
                    .followed
                    .iter()
                    .position(|other| other.host == *host && other.stream == stream);
                let place = match place {
                    Some(place) => place,
                    // A stream that carries little says little.
                    None if self.followed.len() >= FOLLOWED_MAX || now.acked_bytes < 1 << 16 => {
                        continue;
                    }
                    None => {
                        let series = StreamSeries::new(format!("host {host}, stream {stream:?}"));
                        let (host, acked_bytes) = (*host, 0);
                        self.followed.push(Followed { host, stream, acked_bytes, series });
                        self.followed.len() - 1
                    }
                };
                let round_trip = now.round_trip.unwrap_or_default();
                let least = now.round_trip_min.unwrap_or(round_trip);
                let followed = &mut self.followed[place];
                followed.acked_bytes = now.acked_bytes;
                followed.series.push(StreamSample {
                    at_s: secs(at),
                    window_bytes: now.window_bytes,
                    round_trip_s: round_trip.as_secs_f64(),
                    queueing_s: round_trip.saturating_sub(least).as_secs_f64(),
                    in_flight_bytes: now.flight_bytes,
                    losses: now.counts.again,
                });
            }
        }
    }

    /// Those that carried most, the first of them first.
    pub(super) fn take(&mut self) -> Vec<StreamSeries> {
        let mut followed = std::mem::take(&mut self.followed);
        followed.sort_by_key(|one| std::cmp::Reverse(one.acked_bytes));
        followed.truncate(STREAMS_MAX);
        followed.into_iter().map(|one| one.series).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_stream_is_kept_at_half_the_resolution_each_time() {
        let mut series = StreamSeries::new("host 1 to host 2");
        for number in 0..10_000_u64 {
            series.push(StreamSample {
                at_s: number as f64,
                losses: number,
                ..StreamSample::default()
            });
        }
        let kept = series.samples();
        assert!((STREAM_SAMPLES_MAX / 2..STREAM_SAMPLES_MAX).contains(&kept.len()));
        let stride = kept[1].losses - kept[0].losses;
        assert!(stride.is_power_of_two());
        assert!(kept.windows(2).all(|pair| pair[1].losses - pair[0].losses == stride));
    }
}
