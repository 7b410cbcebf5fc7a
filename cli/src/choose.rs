//! What people say about files and sharing on the command line.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use teem_core::metainfo::{FILES_MAX, Metainfo};
use teem_core::torrent::picker::Priority;
use teem_core::torrent::share::ShareLimits;

use crate::args::{Choice, Sharing};
use crate::failure::Failure;

/// Numbers of files, from 1, as `teem show` prints them: `1,3-5,8-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files(Vec<RangeInclusive<usize>>);

impl FromStr for Files {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const HINT: &str = "write numbers and ranges as `teem show` counts files, such as 1,3-5,8-";
        let number = |text: &str| match text.trim().parse::<usize>() {
            Ok(0) => Err("files are numbered from 1".to_owned()),
            Ok(number) => Ok(number),
            Err(_) => Err(HINT.to_owned()),
        };
        let ranges = text.split(',').map(|part| match part.split_once('-') {
            None => number(part).map(|one| one..=one),
            Some((first, last)) => {
                let first = number(first)?;
                let last = if last.trim().is_empty() { usize::MAX } else { number(last)? };
                if last < first {
                    return Err(format!("{part}: the range ends before it begins"));
                }
                Ok(first..=last)
            }
        });
        ranges.collect::<Result<_, _>>().map(Self)
    }
}

/// How much some files are wanted: `1-3=high`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rank {
    files: Files,
    priority: Priority,
}

impl FromStr for Rank {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const HINT: &str = "write which files and how much, such as 1-3=high; \
                            skip, low, normal, high or 0 to 7";
        let (files, level) = text.rsplit_once('=').ok_or(HINT)?;
        let priority = match level.trim() {
            "skip" => Priority::SKIP,
            "low" => Priority::new(1),
            "normal" => Priority::NORMAL,
            "high" => Priority::TOP,
            number => match number.parse() {
                Ok(number @ 0..=7) => Priority::new(number),
                _ => return Err(HINT.into()),
            },
        };
        Ok(Self { files: files.parse()?, priority })
    }
}

/// Sets the priorities of a torrent's files that the numbers stand for.
fn set(
    files: &Files,
    priority: Priority,
    metainfo: &Metainfo,
    priorities: &mut [Priority],
) -> Result<(), Failure> {
    let layout = metainfo.info().layout();
    for range in &files.0 {
        let (first, last) = (*range.start(), (*range.end()).min(priorities.len()));
        let open = *range.end() == usize::MAX;
        let beyond = if open { first } else { *range.end() };
        if beyond > priorities.len() {
            return Err(Failure::Input(format!(
                "there is no file {beyond}: those of {} are numbered from 1 to {}, see `teem show`",
                metainfo.info().name(),
                priorities.len()
            )));
        }
        for number in first..=last {
            let pad = layout.file(number - 1).is_none_or(teem_core::metainfo::File::is_pad);
            if pad && first == last {
                let text = format!("file {number} is padding; `teem show` numbers what is not");
                return Err(Failure::Input(text));
            }
            priorities[number - 1] = priority;
        }
    }
    Ok(())
}

impl Choice {
    /// How much each file of a torrent is wanted; empty: all alike. `linked` are those that a magnet
    /// link wants (BEP 53), which what was said here outdoes.
    pub(crate) fn priorities(
        &self,
        metainfo: &Metainfo,
        linked: &[RangeInclusive<u32>],
    ) -> Result<Vec<Priority>, Failure> {
        let linked = if self.select.is_some() { &[] } else { linked };
        if self.select.is_none() && self.priority.is_empty() && linked.is_empty() {
            return Ok(Vec::new());
        }
        let count = metainfo.info().layout().file_count();
        let some = self.select.is_some() || !linked.is_empty();
        let mut priorities = vec![if some { Priority::SKIP } else { Priority::NORMAL }; count];
        if let Some(files) = &self.select {
            set(files, Priority::NORMAL, metainfo, &mut priorities)?;
        }
        for range in linked {
            // What there is not was meant for another torrent, or for another program.
            let range = *range.start() as usize..(*range.end() as usize + 1).min(count);
            priorities.get_mut(range).unwrap_or_default().fill(Priority::NORMAL);
        }
        for rank in &self.priority {
            set(&rank.files, rank.priority, metainfo, &mut priorities)?;
        }
        if priorities.iter().all(|priority| *priority == Priority::SKIP) {
            return Err(Failure::Input("no file is wanted: nothing to download".into()));
        }
        Ok(priorities)
    }

    /// The same of a torrent of which only a magnet link is known: how much its first files are
    /// wanted, and all others.
    pub(crate) fn of_unknown(&self, linked: &[RangeInclusive<u32>]) -> (Vec<Priority>, Priority) {
        let linked = if self.select.is_some() { &[] } else { linked };
        let some = self.select.is_some() || !linked.is_empty();
        let mut first: Vec<Priority> = Vec::new();
        let mut others = if some { Priority::SKIP } else { Priority::NORMAL };
        let mut set = |range: &RangeInclusive<usize>, priority| {
            let (start, end) = (*range.start() - 1, *range.end());
            let is_open = end == usize::MAX;
            let end = if is_open { first.len().max(start) } else { end }.min(FILES_MAX);
            if first.len() < end {
                first.resize(end, others);
            }
            if let Some(named) = first.get_mut(start..end) {
                named.fill(priority);
            }
            if is_open {
                others = priority;
            }
        };
        for range in self.select.iter().flat_map(|files| &files.0) {
            set(range, Priority::NORMAL);
        }
        for range in linked {
            set(&(*range.start() as usize + 1..=*range.end() as usize + 1), Priority::NORMAL);
        }
        for rank in &self.priority {
            rank.files.0.iter().for_each(|range| set(range, rank.priority));
        }
        (first, others)
    }

    /// Whether it is about the files of one torrent.
    pub(crate) const fn names_files(&self) -> bool {
        self.select.is_some() || !self.priority.is_empty()
    }
}

impl Sharing {
    pub(crate) fn limits(&self) -> ShareLimits {
        ShareLimits {
            ratio_permille: self.seed_ratio,
            seed_time_s: self
                .seed_time
                .map(|time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX)),
        }
    }

    /// Whether there is an end to it.
    pub(crate) const fn ends(&self) -> bool {
        self.seed_ratio.is_some() || self.seed_time.is_some()
    }
}

/// Reads a ratio such as 1.5, in thousandths.
pub(crate) fn ratio(text: &str) -> Result<u32, String> {
    match text.trim().parse::<f64>() {
        #[expect(clippy::cast_sign_loss, reason = "the range begins at zero")]
        Ok(ratio @ 0.0..=1_000_000.0) => Ok((ratio * 1000.0).round() as u32),
        _ => Err("write a number such as 1.5: what is sent for each byte of the content".into()),
    }
}

/// Reads a time: a number with `s`, `m`, `h` or `d` behind it.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    const HINT: &str = "write a time such as 90s, 30m, 12h or 7d";
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).ok_or(HINT)?;
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(HINT.into()),
    };
    let seconds = number.parse::<u32>().ok().and_then(|number| number.checked_mul(unit));
    seconds.map(|seconds| Duration::from_secs(seconds.into())).ok_or_else(|| HINT.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use teem_core::metainfo::create::{Content, Draft, Options};

    #[test]
    fn lists_of_files_are_numbers_and_ranges_from_one() {
        let files = |text: &str| text.parse::<Files>();
        assert_eq!(files("1, 3-5,8-"), Ok(Files(vec![1..=1, 3..=5, 8..=usize::MAX])));
        for wrong in ["", "0", "0-3", "5-3", "a", "1-2-3", "1;2", "-2"] {
            assert!(files(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn priorities_have_names_and_numbers() {
        let priority = |text: &str| text.parse::<Rank>().map(|rank| rank.priority.value());
        assert_eq!(priority("1=high"), Ok(7));
        assert_eq!(priority("1,2=low"), Ok(1));
        assert_eq!(priority("3-=0"), Ok(0));
        for wrong in ["1", "1=8", "=high", "x=high", "1=urgent"] {
            assert!(priority(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_wanted_of_files_is_the_same_before_and_after_their_number_is_known() {
        let files = |text: &str| text.parse::<Files>().ok();
        let ranks = |texts: &[&str]| texts.iter().map(|text| text.parse().expect(text)).collect();
        let layout = |count: usize| {
            let folder = (0..count).map(|n| (vec![format!("{n}")], 1)).collect();
            let draft =
                Draft::new("x", Content::Folder(folder), Options::default()).expect("sound");
            draft.finish(&[[0; 20]]).expect("sound")
        };
        let (metainfo, wishes) = (layout(6), |select, priority: &[&str], linked: &[_]| {
            let choice =
                Choice { select: files(select), priority: ranks(priority), ..Choice::default() };
            let mut known = choice.priorities(&layout(6), linked).expect("they exist");
            known.resize(6, Priority::NORMAL);
            let (mut first, others) = choice.of_unknown(linked);
            first.resize(6, others);
            assert_eq!(first, known, "{choice:?} {linked:?}");
            known.iter().map(|priority| priority.value()).collect::<Vec<_>>()
        });
        assert_eq!(metainfo.info().layout().file_count(), 6);
        assert_eq!(wishes("", &[], &[]), [4; 6]);
        assert_eq!(wishes("2-3,6", &[], &[0..=0]), [0, 4, 4, 0, 0, 4]);
        assert_eq!(wishes("5-", &["6=high"], &[]), [0, 0, 0, 0, 4, 7]);
        assert_eq!(wishes("2-,1", &[], &[]), [4; 6]);
        assert_eq!(wishes("", &["4-=low", "5=skip"], &[]), [4, 4, 4, 1, 0, 1]);
        assert_eq!(wishes("", &["5=skip", "4-=low"], &[]), [4, 4, 4, 1, 1, 1]);
        assert_eq!(wishes("", &[], &[0..=1, 4..=4]), [4, 4, 0, 0, 4, 0]);
    }

    #[test]
    fn ratios_are_thousandths_and_times_have_units() {
        assert_eq!(ratio("1.5"), Ok(1500));
        assert_eq!(ratio("0"), Ok(0));
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("12h"), Ok(Duration::from_hours(12)));
        for wrong in ["-1", "x", "inf", "NaN"] {
            assert!(ratio(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["5", "h", "1w", "99999999999s", "4294967295d"] {
            assert!(time(wrong).is_err(), "{wrong:?}");
        }
    }
}
