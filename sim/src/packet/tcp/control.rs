//! How a sender finds its rate: Reno (RFC 5681) and CUBIC (RFC 9438), in integers.

use teem_core::time::Duration;

use crate::time::Nanos;

/// Which one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 5681 with the recovery of RFC 6675.
    Reno,
    /// RFC 9438.
    #[default]
    Cubic,
}

/// A window without bound, in bytes.
pub(super) const UNBOUNDED: u64 = 1 << 40;

/// The congestion window and what belongs to it.
#[derive(Clone, Debug)]
#[repr(C)]
pub(super) struct Control {
    /// In bytes.
    pub(super) window: u64,
    /// Below it, slow start.
    pub(super) threshold: u64,
    /// Growth that is less than a byte yet, in window-ths.
    part: u64,
    cubic: Cubic,
    algorithm: Algorithm,
}

/// Of CUBIC, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Cubic {
    /// When this epoch of growth began; none: with the next acknowledgement.
    epoch: Option<Nanos>,
    /// The window before the last reduction.
    w_max: u64,
    /// When the curve is back there, in milliseconds after the epoch began.
    k: u64,
    /// What Reno would have, and the part of a byte of it.
    w_est: u64,
    part: u64,
}

/// What is left of the window after a loss, in thousandths.
const RENO_LEFT: u64 = 500;
const CUBIC_LEFT: u64 = 700;

impl Control {
    pub(super) fn new(algorithm: Algorithm, window: u64) -> Self {
        Self { algorithm, window, threshold: UNBOUNDED, part: 0, cubic: Cubic::default() }
    }

    pub(super) const fn is_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    /// So many bytes were acknowledged, of a window that was used up. `credit` is what they count
    /// for.
    pub(super) fn grow(&mut self, now: Nanos, credit: u64, mss: u64, trip: Duration) {
        let mut credit = credit;
        if self.is_slow_start() {
            let some = credit.min(self.threshold - self.window);
            self.window += some;
            credit -= some;
            if credit == 0 {
                return;
            }
        }
        match self.algorithm {
            Algorithm::Reno => {
                let (more, part) = share(mss * credit + self.part, self.window);
                self.window += more;
                self.part = part;
            }
            Algorithm::Cubic => self.grow_cubic(now, credit, mss, trip),
        }
    }

    fn grow_cubic(&mut self, now: Nanos, credit: u64, mss: u64, trip: Duration) {
        let cubic = &mut self.cubic;
        let epoch = *cubic.epoch.get_or_insert_with(|| {
            cubic.w_max = cubic.w_max.max(self.window);
            cubic.k = time_to(cubic.w_max - self.window, mss);
            cubic.w_est = self.window;
            cubic.part = 0;
            now
        });
        // RFC 9438, section 4.3: 3 (1 - beta) / (1 + beta) segments each round trip, and one once
        // it is beyond where it was.
        let alpha = if cubic.w_est < cubic.w_max { 529 } else { 1_000 };
        let (more, part) = share(alpha * mss * credit / 1_000 + cubic.part, self.window);
        cubic.w_est += more;
        cubic.part = part;
        let since = (now + trip).since(epoch).as_millis() as u64;
        let target = curve(cubic.w_max, since, cubic.k, mss);
        let target = target.clamp(self.window, self.window + self.window / 2);
        let (more, part) = share((target - self.window) * credit + self.part, self.window);
        self.window += more;
        self.part = part;
        self.window = self.window.max(cubic.w_est);
    }

    /// Something was lost of `flight` bytes: once a round trip.
    pub(super) fn reduce(&mut self, flight: u64, mss: u64) {
        self.part = 0;
        let left = match self.algorithm {
            Algorithm::Reno => flight * RENO_LEFT / 1_000,
            Algorithm::Cubic => {
                // Fast convergence, section 4.7.
                let w_max = self.cubic.w_max;
                self.cubic.w_max = if self.window < w_max {
                    self.window * (1_000 + CUBIC_LEFT) / 2_000
                } else {
                    self.window
                };
                self.cubic.epoch = None;
                flight.min(self.window) * CUBIC_LEFT / 1_000
            }
        };
        self.threshold = left.max(2 * mss);
        self.window = self.threshold;
    }

    /// Nothing was heard for a while.
    pub(super) fn collapse(&mut self, flight: u64, mss: u64) {
        self.reduce(flight, mss);
        self.window = mss;
    }

    /// Nothing was sent for a while: the window is not what it was.
    pub(super) fn rest(&mut self, initial: u64) {
        self.window = self.window.min(initial);
        self.cubic.epoch = None;
    }
}

/// How often a window fits, and what is left of it.
fn share(product: u64, window: u64) -> (u64, u64) {
    let window = window.max(1);
    (product / window, product % window)
}

/// `C (t - K)^3 + W_max` with C of 0.4 segments per cubic second, times in milliseconds.
fn curve(w_max: u64, at: u64, k: u64, mss: u64) -> u64 {
    let t = i128::from(at.min(1 << 24)) - i128::from(k);
    let grown = t * t * t * i128::from(mss) * 4 / 10_000_000_000;
    u64::try_from(i128::from(w_max) + grown).unwrap_or(0).min(UNBOUNDED)
}

/// The cubic root of `bytes / C`, in milliseconds.
fn time_to(bytes: u64, mss: u64) -> u64 {
    let cube = u128::from(bytes) * 10_000_000_000 / (4 * u128::from(mss.max(1)));
    let (mut low, mut high) = (0_u64, 1 << 24);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if u128::from(middle).pow(3) <= cube { low = middle } else { high = middle - 1 }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u64 = 1_000;

    #[test]
    fn reno_grows_by_a_segment_a_window_and_halves() {
        let mut control = Control::new(Algorithm::Reno, 20 * MSS);
        control.threshold = 20 * MSS;
        let mut acked = 0;
        while control.window < 21 * MSS {
            control.grow(Nanos::ZERO, 2 * MSS, MSS, Duration::from_millis(10));
            acked += 2 * MSS;
        }
        assert!((20 * MSS..=22 * MSS).contains(&acked), "{acked}");
        control.reduce(21 * MSS, MSS);
        assert_eq!((control.window, control.threshold), (10_500, 10_500));
        control.collapse(3 * MSS, MSS);
        assert_eq!((control.window, control.threshold), (MSS, 2 * MSS));
    }

    #[test]
    fn slow_start_grows_by_what_is_acknowledged_and_ends_at_the_threshold() {
        let mut control = Control::new(Algorithm::Reno, 10 * MSS);
        control.threshold = 15 * MSS;
        control.grow(Nanos::ZERO, 3 * MSS, MSS, Duration::ZERO);
        assert_eq!(control.window, 13 * MSS);
        control.grow(Nanos::ZERO, 3 * MSS, MSS, Duration::ZERO);
        assert!((15 * MSS..15 * MSS + 100).contains(&control.window), "{}", control.window);
    }

    #[test]
    fn cubic_is_back_after_k_and_flat_there() {
        // 1,000 segments; seven tenths are left. K is the cubic root of 300 / 0.4: 9.086 s.
        let mut control = Control::new(Algorithm::Cubic, 1_000 * MSS);
        control.threshold = 0;
        control.reduce(1_000 * MSS, MSS);
        assert_eq!(control.window, 700 * MSS);
        let trip = Duration::from_millis(100);
        let mut at = Nanos::ZERO;
        let mut windows = Vec::new();
        for _ in 0..150 {
            at += trip;
            control.grow(at, control.window, MSS, trip);
            windows.push(control.window as f64 / MSS as f64);
        }
        assert_eq!(control.cubic.k, 9_085);
        // A window's worth of acknowledgements reaches the target: the curve, a round trip ahead.
        for (rounds, seconds) in [(20_usize, 2.0), (50, 5.0), (90, 9.0), (140, 14.0)] {
            let expected = 0.4 * (seconds - 9.086_f64).powi(3) + 1_000.0;
            let found = windows[rounds - 1];
            assert!((found / expected - 1.0).abs() < 0.01, "{seconds}: {found}, {expected}");
        }
    }

    #[test]
    fn cubic_is_no_slower_than_reno_where_windows_are_small() {
        let mut control = Control::new(Algorithm::Cubic, 20 * MSS);
        control.threshold = 0;
        control.reduce(20 * MSS, MSS);
        let trip = Duration::from_millis(10);
        let mut at = Nanos::ZERO;
        for _ in 0..40 {
            at += trip;
            control.grow(at, control.window, MSS, trip);
        }
        // 14 segments, half of one for each round trip; the curve alone would take seconds.
        assert!(control.window > 30 * MSS, "{}", control.window);
    }

    #[test]
    fn cubic_gives_way_when_it_falls_twice() {
        let mut control = Control::new(Algorithm::Cubic, 100 * MSS);
        control.reduce(100 * MSS, MSS);
        assert_eq!(control.cubic.w_max, 100 * MSS);
        control.reduce(70 * MSS, MSS);
        assert_eq!(control.cubic.w_max, 59_500);
    }

    #[test]
    fn roots_are_cubic() {
        for k in [4_000_u64, 20_000, 100_000] {
            let bytes = u128::from(k).pow(3) as u64 * 4 * MSS / 10_000_000_000;
            let found = time_to(bytes, MSS);
            assert!(found.abs_diff(k) <= 1 + k / 10_000, "{k}: {found}");
        }
    }
}
