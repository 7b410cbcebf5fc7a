//! What goes wrong on a disk, and how often it did.
//!
//! Everything is off until it is switched on. Each family counts when it fires, and remembers that
//! it was ever on, so that a run can show that what it switched on was not in vain.

use teem_core::machine::JobErrorKind;
use teem_core::rng::Rng;
use teem_core::time::Duration;

use super::counts::JobKind;
use crate::time::Nanos;

/// Jobs that [`Faults::fail_nth`] may have in store.
pub const NTH_MAX: usize = 1_024;

/// A chance in a million that is certain.
pub const ALWAYS_PPM: u32 = 1_000_000;

/// A family of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A job fails by chance: [`Faults::fail`].
    Error,
    /// A certain job fails: [`Faults::fail_nth`].
    Nth,
    /// There is no room: [`Faults::full_between`] and [`Disk::set_room`](super::Disk::set_room).
    Full,
    /// Everything takes longer: [`Faults::slow_between`].
    Slow,
    /// A job hangs: [`Faults::stick`].
    Stuck,
    /// A bit of what is read is wrong: [`Faults::flip_bits`].
    BitFlip,
    /// What is read is from elsewhere: [`Faults::misdirect`].
    Misdirected,
    /// A power cut leaves half-written blocks: [`Faults::tear`].
    Torn,
    /// A power cut loses blocks that were not flushed. Always on.
    Lost,
    /// What is written lands elsewhere: [`Faults::misdirect_writes`].
    MisdirectedWrite,
}

impl Fault {
    /// How many families there are.
    pub const COUNT: usize = 10;

    /// Every family, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Error,
        Self::Nth,
        Self::Full,
        Self::Slow,
        Self::Stuck,
        Self::BitFlip,
        Self::Misdirected,
        Self::Torn,
        Self::Lost,
        Self::MisdirectedWrite,
    ];
}

/// See the [module](self). Chances are in millionths, of each job (or block) on its own.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    error_ppm: [u32; JobKind::COUNT],
    nth: Vec<(JobKind, u32, JobErrorKind)>,
    full_at_bytes: Option<u64>,
    full: Option<(Nanos, Nanos)>,
    slow: Option<(Nanos, Nanos, u32)>,
    stuck: Option<(u32, Duration)>,
    flip_ppm: u32,
    misdirect_ppm: u32,
    misdirect_writes_ppm: u32,
    torn_ppm: u32,
    ever_on: [bool; Fault::COUNT],
    fired: [u64; Fault::COUNT],
}

impl Faults {
    /// Jobs of that kind fail with [`JobErrorKind::Io`]; they have no effect then, but that a
    /// [`JobKind::Close`] gives the lock back all the same.
    pub const fn fail(&mut self, kind: JobKind, ppm: u32) -> &mut Self {
        self.error_ppm[kind as usize] = ppm;
        self.note(Fault::Error, ppm > 0)
    }

    /// The `n`-th job of that kind fails, counted from one since the disk was made, as
    /// [`Disk::jobs_taken`](super::Disk::jobs_taken) counts. One in the past never comes. Panics
    /// with more than [`NTH_MAX`] in store.
    pub fn fail_nth(&mut self, kind: JobKind, n: u32, error: JobErrorKind) -> &mut Self {
        assert!(self.nth.len() < NTH_MAX, "too many certain failures");
        self.nth.push((kind, n, error));
        self.note(Fault::Nth, true)
    }

    /// Nothing more fits once so many bytes of room were taken in all; none: everything fits.
    pub(super) const fn set_full_at(&mut self, bytes: Option<u64>) {
        self.full_at_bytes = bytes;
        self.note(Fault::Full, bytes.is_some());
    }

    /// Nothing fits on the disk from one instant to (not including) the other.
    pub const fn full_between(&mut self, from: Nanos, until: Nanos) -> &mut Self {
        self.full = Some((from, until));
        self.note(Fault::Full, true)
    }

    /// Jobs that start in between take that many times as long.
    pub const fn slow_between(&mut self, from: Nanos, until: Nanos, times: u32) -> &mut Self {
        self.slow = Some((from, until, times));
        self.note(Fault::Slow, true)
    }

    /// Jobs hang for so long before they complete.
    pub const fn stick(&mut self, ppm: u32, extra: Duration) -> &mut Self {
        self.stuck = Some((ppm, extra));
        self.note(Fault::Stuck, ppm > 0)
    }

    /// Reads, and hashes from storage, see one bit wrong; what is stored stays right.
    pub const fn flip_bits(&mut self, ppm: u32) -> &mut Self {
        self.flip_ppm = ppm;
        self.note(Fault::BitFlip, ppm > 0)
    }

    /// Reads, and hashes from storage, see other bytes of the same torrent.
    pub const fn misdirect(&mut self, ppm: u32) -> &mut Self {
        self.misdirect_ppm = ppm;
        self.note(Fault::Misdirected, ppm > 0)
    }

    /// Writes land in another place of the same torrent, perhaps in another file of it, and are
    /// reported as done: what was to be written is missing where it belongs, and what they hit is
    /// overwritten. Nobody is told; only reading it again shows it.
    pub const fn misdirect_writes(&mut self, ppm: u32) -> &mut Self {
        self.misdirect_writes_ppm = ppm;
        self.note(Fault::MisdirectedWrite, ppm > 0)
    }

    /// In a power cut, a block that was changed and not flushed is there in part: each 512 bytes as
    /// they were, or as they were written.
    pub const fn tear(&mut self, ppm: u32) -> &mut Self {
        self.torn_ppm = ppm;
        self.note(Fault::Torn, ppm > 0)
    }

    /// Switches everything off, and makes room. What fired stays counted.
    pub fn heal(&mut self) {
        let Self { ever_on, fired, .. } = *self;
        *self = Self { ever_on, fired, ..Self::default() };
    }

    /// How often that family fired. A slow period counts jobs, a torn or lost one counts blocks.
    pub const fn fired(&self, fault: Fault) -> u64 {
        self.fired[fault as usize]
    }

    /// Whether that family was ever on. Losing what was not flushed is never off, and not counted
    /// here.
    pub const fn was_on(&self, fault: Fault) -> bool {
        self.ever_on[fault as usize]
    }

    /// The families that were on and never fired.
    pub fn silent(&self) -> impl Iterator<Item = Fault> {
        Fault::ALL.into_iter().filter(|fault| self.was_on(*fault) && self.fired(*fault) == 0)
    }

    const fn note(&mut self, fault: Fault, on: bool) -> &mut Self {
        self.ever_on[fault as usize] |= on;
        self
    }

    pub(super) const fn count(&mut self, fault: Fault, times: u64) {
        self.fired[fault as usize] += times;
    }

    /// Whether the `n`-th job of that kind is to fail, and how.
    pub(super) fn on_take(
        &mut self,
        kind: JobKind,
        n: u32,
        rng: &mut Rng,
    ) -> Option<(JobErrorKind, &'static str)> {
        if let Some(at) = self.nth.iter().position(|nth| (nth.0, nth.1) == (kind, n)) {
            self.count(Fault::Nth, 1);
            return Some((self.nth.swap_remove(at).2, "it was its turn to fail"));
        }
        if hits(self.error_ppm[kind as usize], rng) {
            self.count(Fault::Error, 1);
            return Some((JobErrorKind::Io, "the disk is broken"));
        }
        None
    }

    /// How long a job takes that would take `nanos` if all were well.
    pub(super) fn on_start(&mut self, now: Nanos, mut nanos: u64, rng: &mut Rng) -> u64 {
        if let Some((from, until, times)) = self.slow
            && (from..until).contains(&now)
            && nanos > 0
        {
            self.count(Fault::Slow, 1);
            nanos = nanos.saturating_mul(u64::from(times));
        }
        if let Some((ppm, extra)) = self.stuck
            && hits(ppm, rng)
        {
            self.count(Fault::Stuck, 1);
            nanos = nanos.saturating_add(u64::try_from(extra.as_nanos()).unwrap_or(u64::MAX));
        }
        nanos
    }

    /// Whether so many more bytes do not fit.
    pub(super) fn on_room(&mut self, now: Nanos, taken: u64, more: u64) -> bool {
        let within = self.full.is_some_and(|(from, until)| (from..until).contains(&now));
        let full = within && more > 0;
        let full = full || self.full_at_bytes.is_some_and(|full_at| taken + more > full_at);
        self.count(Fault::Full, u64::from(full));
        full
    }

    /// Whether a read goes to another place.
    pub(super) fn on_seek(&self, rng: &mut Rng) -> bool {
        hits(self.misdirect_ppm, rng)
    }

    /// Whether a write goes to another place.
    pub(super) fn on_place(&self, rng: &mut Rng) -> bool {
        hits(self.misdirect_writes_ppm, rng)
    }

    /// Which bit of so many bytes is read wrong.
    pub(super) fn on_read(&mut self, len: usize, rng: &mut Rng) -> Option<(usize, u8)> {
        if len == 0 || !hits(self.flip_ppm, rng) {
            return None;
        }
        self.count(Fault::BitFlip, 1);
        Some((rng.below(len as u32) as usize, 1 << rng.below(8)))
    }

    pub(super) const fn torn_ppm(&self) -> u32 {
        self.torn_ppm
    }

    /// Bytes of memory held, itself included.
    pub(super) fn footprint(&self) -> usize {
        size_of::<Self>() + self.nth.capacity() * size_of::<(JobKind, u32, JobErrorKind)>()
    }
}

/// Whether a chance comes true. Nothing is drawn for what never or always does.
pub(super) fn hits(ppm: u32, rng: &mut Rng) -> bool {
    match ppm {
        0 => false,
        ALWAYS_PPM.. => true,
        _ => rng.below(ALWAYS_PPM) < ppm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teem_core::rng::Seed;

    #[test]
    fn what_is_off_draws_nothing_and_never_fires() {
        let mut rng = Seed::from_number(1).stream("faults", 0);
        let before = rng.clone();
        let mut faults = Faults::default();
        assert_eq!(faults.on_take(JobKind::Read, 1, &mut rng), None);
        assert_eq!(faults.on_start(Nanos(5), 7, &mut rng), 7);
        assert!(!faults.on_room(Nanos(5), 100, 100));
        assert!(!faults.on_seek(&mut rng) && !faults.on_place(&mut rng));
        assert_eq!(faults.on_read(10, &mut rng), None);
        assert_eq!(rng, before);
        assert!(Fault::ALL.into_iter().all(|fault| faults.fired(fault) == 0));
    }

    #[test]
    fn chances_come_true_as_often_as_they_say() {
        let mut rng = Seed::from_number(1).stream("faults", 0);
        let mut faults = Faults::default();
        faults.fail(JobKind::Write, 100_000);
        let failed = (0..10_000).filter_map(|n| faults.on_take(JobKind::Write, n, &mut rng));
        let failed = failed.count() as u64;
        assert!((900..1_100).contains(&failed), "{failed}");
        assert_eq!(faults.fired(Fault::Error), failed);
        assert_eq!(faults.on_take(JobKind::Read, 1, &mut rng), None);
    }

    #[test]
    fn a_disk_that_is_healed_remembers_what_it_went_through() {
        let mut rng = Seed::from_number(1).stream("faults", 0);
        let mut faults = Faults::default();
        faults.full_between(Nanos(5), Nanos(7)).stick(ALWAYS_PPM, Duration::from_nanos(3));
        assert!(!faults.on_room(Nanos(4), 0, 1) && !faults.on_room(Nanos(7), 0, 1));
        assert!(faults.on_room(Nanos(5), 0, 1) && !faults.on_room(Nanos(5), 0, 0));
        assert_eq!(faults.on_start(Nanos(5), 7, &mut rng), 10);
        faults.heal();
        assert!(!faults.on_room(Nanos(5), 0, 1));
        assert_eq!(faults.on_start(Nanos(5), 7, &mut rng), 7);
        assert_eq!((faults.fired(Fault::Full), faults.fired(Fault::Stuck)), (1, 1));
        assert!(faults.was_on(Fault::Full) && !faults.was_on(Fault::Slow));
        faults.slow_between(Nanos(5), Nanos(7), 2).heal();
        assert_eq!(faults.silent().collect::<Vec<_>>(), [Fault::Slow]);
    }
}
