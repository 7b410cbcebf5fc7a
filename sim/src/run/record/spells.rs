//! Faults as they are carried out, put together to spells: from when they begin until they are
//! mended.

use super::recording::Spell;
use crate::net::{Access, HostId, Skew};
use crate::run::plan::Fault;
use crate::storage::Crash;
use crate::time::Nanos;

/// Spells of one run that are kept; more are only counted.
const SPELLS_MAX: usize = 2_000;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Spells {
    all: Vec<Spell>,
    /// Which of them go on.
    open: Vec<usize>,
    left_out: u64,
}

impl Spells {
    /// A fault is about to be carried out. `usual` is how the host is attached when nothing is
    /// wrong, and `is_up` whether it runs.
    pub(super) fn on_fault(
        &mut self,
        now: Nanos,
        fault: &Fault,
        usual: Option<&Access>,
        is_up: bool,
    ) {
        match *fault {
            Fault::Crash(host, how) if is_up => match how {
                Crash::Process => self.begin(now, "crash", Some(host), "its process ended".into()),
                Crash::Power => self.begin(now, "power", Some(host), "its power failed".into()),
            },
            Fault::Restart(host) => self.end(now, &["crash", "power"], Some(host)),
            Fault::Pause(host) if is_up => {
                self.begin(now, "pause", Some(host), "its process was stopped".into());
            }
            Fault::Resume(host) => self.end(now, &["pause"], Some(host)),
            Fault::Cut(..) => {
                let what = "some hosts were cut off from the others".to_owned();
                self.begin(now, "partition", None, what);
            }
            Fault::Heal => self.end(now, &["partition"], None),
            Fault::Move(host) => {
                self.happen(now, "move", Some(host), "it got another address".into());
            }
            Fault::Access(host, access) => self.attach(now, host, &access, usual),
            Fault::DiskErrors(host, kind, ppm) if ppm > 0 => {
                let share = f64::from(ppm) / 10_000.0;
                let what = format!("{share:.0} % of its {kind:?} jobs failed");
                self.begin(now, "disk-errors", Some(host), what);
            }
            Fault::DiskErrorAt(host, kind, n) => {
                let what = format!("{kind:?} job number {n} from here on was to fail");
                self.happen(now, "disk-errors", Some(host), what);
            }
            Fault::DiskRoom(host, Some(room)) => {
                let what = format!("its disk had room for {} KiB more", room / 1024);
                self.begin(now, "disk-full", Some(host), what);
            }
            Fault::DiskRoom(host, None) => self.end(now, &["disk-full"], Some(host)),
            Fault::DiskSlow(host, times, until) => {
                let what = format!("its disk was {times} times slower");
                self.begin(now, "disk-slow", Some(host), what);
                self.end(until, &["disk-slow"], Some(host));
            }
            Fault::DiskHeals(host) => self.end(now, &["disk-errors", "disk-full"], Some(host)),
            Fault::DiskMisdirects(host, ppm) if ppm > 0 => {
                let share = f64::from(ppm) / 10_000.0;
                let what = format!("{share:.0} % of its writes landed in the wrong place");
                self.begin(now, "misdirected-writes", Some(host), what);
            }
            Fault::Recheck(host) => {
                self.end(now, &["misdirected-writes"], Some(host));
                let what = "all that is on its disk was checked again".to_owned();
                self.happen(now, "recheck", Some(host), what);
            }
            // Who is down cannot go down, and what happens never is no trouble.
            Fault::Crash(..)
            | Fault::Pause(_)
            | Fault::DiskErrors(_, _, 0)
            | Fault::DiskMisdirects(_, 0) => {}
            Fault::Clock(host, skew) if skew == Skew::NONE => {
                self.end(now, &["clock-skew"], Some(host));
            }
            Fault::Clock(host, skew) => {
                let seconds = skew.offset_nanos as f64 / 1e9;
                let what = format!(
                    "its clocks were {seconds:+.0} s off and drifted {:+} ppm",
                    skew.drift_ppm
                );
                self.begin(now, "clock-skew", Some(host), what);
            }
            other => {
                let (kind, host, what) = plain(&format!("{other:?}"));
                // A command that mends what is broken is no trouble.
                if !kind.starts_with("restart") {
                    self.happen(now, &kind, host, what);
                }
            }
        }
    }

    fn attach(&mut self, now: Nanos, host: HostId, access: &Access, usual: Option<&Access>) {
        self.end(now, &["slow-links", "loss"], Some(host));
        let Some(usual) = usual else { return };
        let slower = [
            (access.up_bytes_per_s, usual.up_bytes_per_s),
            (access.down_bytes_per_s, usual.down_bytes_per_s),
        ];
        let factor = slower.into_iter().filter_map(|(now, usual)| {
            let factor = usual? as f64 / now?.max(1) as f64;
            (factor > 1.0).then_some(factor)
        });
        if let Some(factor) = factor.max_by(f64::total_cmp) {
            let what = format!("its link was {factor:.1} times slower");
            self.begin(now, "slow-links", Some(host), what);
        }
        if access.loss_ppm > usual.loss_ppm {
            let share = f64::from(access.loss_ppm) / 10_000.0;
            self.begin(now, "loss", Some(host), format!("its link lost {share:.1} %"));
        }
    }

    /// Something happens that has no length.
    pub(super) fn happen(&mut self, now: Nanos, kind: &str, host: Option<HostId>, what: String) {
        self.add(now, kind, host, what);
    }

    fn begin(&mut self, now: Nanos, kind: &str, host: Option<HostId>, what: String) {
        // A partition is two cuts.
        let mut open = self.open.iter().map(|at| &self.all[*at]);
        let has_begun = |spell: &Spell| {
            spell.kind == kind
                && spell.host == host
                && spell.what == what
                && secs(now) <= spell.from_s
        };
        if open.any(has_begun) {
            return;
        }
        if self.add(now, kind, host, what) {
            self.open.push(self.all.len() - 1);
        }
    }

    fn add(&mut self, now: Nanos, kind: &str, host: Option<HostId>, what: String) -> bool {
        if self.all.len() >= SPELLS_MAX {
            self.left_out += 1;
            return false;
        }
        let kind = kind.to_owned();
        self.all.push(Spell { kind, host, from_s: secs(now), to_s: None, what });
        true
    }

    fn end(&mut self, now: Nanos, kinds: &[&str], host: Option<HostId>) {
        let all = &mut self.all;
        self.open.retain(|at| {
            let spell = &mut all[*at];
            let ends = kinds.contains(&&*spell.kind) && spell.host == host;
            if ends {
                spell.to_s = Some(secs(now).max(spell.from_s));
            }
            !ends
        });
    }

    /// Nothing is wrong any more.
    pub(super) fn heal_all(&mut self, now: Nanos) {
        for at in std::mem::take(&mut self.open) {
            let spell = &mut self.all[at];
            spell.to_s = Some(secs(now).max(spell.from_s));
        }
    }

    /// All of them, and how many more there were.
    pub(super) fn take(&mut self, now: Nanos) -> (Vec<Spell>, u64) {
        self.heal_all(now);
        (std::mem::take(&mut self.all), self.left_out)
    }
}

/// Seconds since the run began.
pub(super) fn secs(at: Nanos) -> f64 {
    at.0 as f64 / 1e9
}

/// Of a fault that has no words of its own: its kind in kebab-case, its host if it begins with one,
/// and itself. `RestartTorrent(3)` is `restart-torrent` of host 3.
fn plain(debug: &str) -> (String, Option<HostId>, String) {
    let end = debug.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(debug.len());
    let mut kind = String::new();
    for letter in debug[..end].chars() {
        if letter.is_ascii_uppercase() && !kind.is_empty() {
            kind.push('-');
        }
        kind.push(letter.to_ascii_lowercase());
    }
    let digits: String = debug[end..].chars().skip(1).take_while(char::is_ascii_digit).collect();
    (kind, digits.parse().ok(), debug.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use teem_core::time::Duration;

    fn at(seconds: u64) -> Nanos {
        Nanos::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_spell_lasts_until_its_fault_is_mended() {
        let mut spells = Spells::default();
        spells.on_fault(at(1), &Fault::Pause(3), None, true);
        spells.on_fault(at(2), &Fault::Pause(4), None, false);
        spells.on_fault(at(2), &Fault::Crash(4, Crash::Power), None, true);
        spells.on_fault(at(3), &Fault::Move(5), None, true);
        spells.on_fault(at(5), &Fault::Resume(3), None, true);
        let (all, left_out) = spells.take(at(9));
        let short: Vec<_> =
            all.iter().map(|spell| (&*spell.kind, spell.host, spell.from_s, spell.to_s)).collect();
        assert_eq!(
            short,
            [
                ("pause", Some(3), 1.0, Some(5.0)),
                ("power", Some(4), 2.0, Some(9.0)),
                ("move", Some(5), 3.0, None),
            ]
        );
        assert_eq!(left_out, 0);
    }

    #[test]
    fn a_link_that_is_slower_and_lossier_is_both_until_it_is_as_usual() {
        let usual = Access { up_bytes_per_s: Some(1_000), ..Access::PERFECT };
        let bad = Access { up_bytes_per_s: Some(100), loss_ppm: 20_000, ..usual };
        let mut spells = Spells::default();
        spells.on_fault(at(1), &Fault::Access(7, bad), Some(&usual), true);
        spells.on_fault(at(4), &Fault::Access(7, usual), Some(&usual), true);
        let (all, _) = spells.take(at(9));
        let kinds: Vec<_> = all.iter().map(|spell| (&*spell.kind, spell.to_s)).collect();
        assert_eq!(kinds, [("slow-links", Some(4.0)), ("loss", Some(4.0))]);
        assert!(all[0].what.contains("10.0 times"), "{}", all[0].what);
    }

    #[test]
    fn what_has_no_words_is_told_by_its_name() {
        let (kind, host, what) = plain("RebootNat(12, Fast)");
        assert_eq!((&*kind, host), ("reboot-nat", Some(12)));
        assert_eq!(what, "RebootNat(12, Fast)");
        assert_eq!(plain("Heal").1, None);
    }
}
