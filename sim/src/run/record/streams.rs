//! How single streams go: window, delay, what is in flight and what is lost.

/// Streams of one run that are kept.
pub const STREAMS_MAX: usize = 8;

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
    /// Segments lost so far.
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
