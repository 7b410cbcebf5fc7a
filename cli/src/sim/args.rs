//! What can be asked of the simulator.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use teem_sim::scenario;

/// Simulate whole swarms: the very code that ships, on a virtual network, disks and clock.
///
/// A scenario says who takes part, over which links, and what goes wrong; a seed decides everything
/// that it leaves open. The same scenario and seed give the same run, byte for byte, on every
/// machine. SCENARIO is a file (docs/simulate.md tells how to write one) or the name of one that
/// comes with the program: see `teem sim list`.
#[derive(Debug, Args)]
pub(crate) struct Sim {
    #[command(subcommand)]
    pub(crate) command: SimCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SimCommand {
    Run(Run),
    Replay(Replay),
    Shrink(Shrink),
    Diff(Diff),
    Compare(Compare),
    List(List),
}

/// Run a scenario, once or with many seeds.
///
/// Each run is checked while it goes on and at its end: bytes are neither lost nor made up, nobody
/// takes a block that nobody sent, and every honest peer is complete within a time that the
/// topology allows. One line per seed goes to standard error, a table of the results to standard
/// output.
#[derive(Debug, Args)]
#[command(after_long_help = RUN_HELP)]
pub(crate) struct Run {
    /// File, or name of a scenario that comes with the program.
    pub(crate) scenario: String,

    #[command(flatten)]
    pub(crate) seeds: Seeds,

    #[command(flatten)]
    pub(crate) how: How,

    /// Run only this part of the seeds, of n parts: those whose number modulo N is I.
    ///
    /// Parts are numbered from 0 or from 1, as you like: 4/4 is 0/4. Results of all parts together
    /// are those of a run without parts.
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Shard>,

    /// Seeds that are run at a time.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) jobs: NonZeroUsize,

    /// Write results as JSON, a line for each seed and a summary as the last; - is standard output.
    #[arg(long, value_name = "OUT")]
    pub(crate) json: Option<PathBuf>,

    /// Write down everything that any machine was told, a line each, for `teem sim diff`. For one
    /// seed only.
    #[arg(long, value_name = "OUT")]
    pub(crate) trace: Option<PathBuf>,

    /// Write a page of HTML about all seeds, DIR/index.html: curves, rates, what went wrong, and
    /// the slowest peer's story. It needs no network.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,

    /// Write results as JUnit XML, a test case for each seed; - is standard output.
    #[arg(long, value_name = "OUT")]
    pub(crate) junit: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) capture: Capture,
}

const RUN_HELP: &str = "\
Exit codes:
  0  every run was as it must be
  1  a run failed; the command that shows it again is printed
  2  the scenario cannot be used

A scenario with `must_fail = true` proves that failures are noticed. With one seed its run fails
like any other: `teem sim run canary` exits 1. In a sweep (--seeds) a run of it counts as it should
if it fails: `teem sim run canary --seeds 0..5` exits 0, and 1 if one of them does not fail.";

/// Which seeds.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Seeds {
    /// The seed of a single run [default: the one in the file, or 0].
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// A run for each seed from A up to, not including, B.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    pub(crate) seeds: Option<Range<u64>>,
}

impl Seeds {
    /// The seeds; of a scenario that names one, that.
    pub(crate) fn range(&self, named: Option<u64>) -> Range<u64> {
        let single = self.seed.or(named).unwrap_or(0);
        self.seeds.clone().unwrap_or_else(|| single..single.saturating_add(1))
    }
}

/// What can be said about a run beside the scenario and the seed.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct How {
    /// How closely the network is followed [default: what the scenario says].
    #[arg(long, value_name = "F")]
    pub(crate) fidelity: Option<Fidelity>,

    /// Have each seed switch a random half of the kinds of trouble on, instead of all.
    #[arg(long)]
    pub(crate) swarm: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fidelity {
    /// Everything takes its delay, whatever its size.
    Message,
    /// Streams share the links of their hosts, max-min fairly.
    Flow,
    /// Every packet crosses links and queues, and streams are TCP.
    Packet,
}

impl From<Fidelity> for scenario::Fidelity {
    fn from(fidelity: Fidelity) -> Self {
        match fidelity {
            Fidelity::Message => Self::Message,
            Fidelity::Flow => Self::Flow,
            Fidelity::Packet => Self::Packet,
        }
    }
}

/// Run a scenario once more and tell what happens, a line for each thing that a machine is told.
///
/// Time in seconds, the host, what it was told. Without --until the run goes on to its end, and the
/// exit code says how that was.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// File, or name of a scenario that comes with the program.
    pub(crate) scenario: String,

    /// The seed [default: the one in the file, or 0].
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    #[command(flatten)]
    pub(crate) how: How,

    /// Tell what happens before this time, and end the run there.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) until: Option<u64>,

    /// Tell only of this host. Can be repeated.
    #[arg(long = "host", value_name = "N")]
    pub(crate) hosts: Vec<usize>,

    #[command(flatten)]
    pub(crate) capture: Capture,
}

/// What is captured.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Capture {
    /// Write the packets of some hosts to a pcapng file, for tshark or Wireshark. For one seed only.
    ///
    /// Datagrams are as they were; streams have no segments here, and those in the file are made up
    /// from what was sent and when it arrived.
    #[arg(long, value_name = "OUT.pcapng", requires = "capture_hosts")]
    pub(crate) capture: Option<PathBuf>,

    /// Which hosts are captured: numbers, and ranges up to, not including, their end, such as
    /// 0,3..5.
    #[arg(long, value_name = "HOSTS", requires = "capture")]
    pub(crate) capture_hosts: Option<Hosts>,
}

/// Some hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hosts(Vec<Range<usize>>);

impl Hosts {
    /// Their numbers, each once and in order; or, if a run has only so many hosts, one that is none
    /// of it.
    pub(crate) fn of(&self, hosts: usize) -> Result<BTreeSet<usize>, usize> {
        match self.0.iter().map(|range| range.end - 1).max() {
            Some(last) if last >= hosts => Err(last),
            _ => Ok(self.0.iter().cloned().flatten().collect()),
        }
    }
}

impl FromStr for Hosts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = |part: &str| {
            if let Some((from, to)) = part.split_once("..") {
                let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
                return (from < to).then_some(from..to);
            }
            let host = part.trim().parse::<usize>().ok()?;
            Some(host..host.checked_add(1)?)
        };
        let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
        ranges.map(Self).ok_or_else(|| {
            "write numbers, and ranges with the first and the one after the last, such as 0,3..5"
                .into()
        })
    }
}

/// Make a run that fails as small as it can be: the fewest peers, faults and seconds that still fail
/// in the same way.
///
/// Progress goes to standard error. Then comes a scenario file, which `teem sim run` runs and which
/// fails in the same way, and a Rust test that fails as long as it does.
#[derive(Debug, Args)]
#[command(after_long_help = SHRINK_HELP)]
pub(crate) struct Shrink {
    /// File, or name of a scenario that comes with the program.
    pub(crate) scenario: String,

    /// The seed of the run that fails [default: the one in the file, or 0].
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    #[command(flatten)]
    pub(crate) how: How,

    /// Runs at most.
    #[arg(long, value_name = "MAX", default_value = "2000")]
    pub(crate) runs: NonZeroUsize,

    /// Seconds at most, by the clock on the wall; the result is what is smallest by then.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) within: Option<u64>,

    /// Runs at a time. The result does not depend on it.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) jobs: NonZeroUsize,

    /// Write the scenario file there, instead of to standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Write the test there, instead of to standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) test: Option<PathBuf>,
}

const SHRINK_HELP: &str = "\
Exit codes:
  0  a smaller run was written, or the same one if nothing smaller fails
  2  the scenario cannot be used, or its run does not fail";

/// Find the first event in which two runs differ.
///
/// A and B are files that `teem sim run --trace` wrote. Exit code 0: they are the same; 1: they
/// differ.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// A trace.
    pub(crate) a: PathBuf,

    /// Another one.
    pub(crate) b: PathBuf,

    /// How many events before the difference are shown.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) before: usize,
}

/// Compare two scenarios, or two builds, by runs in pairs of the same seed.
///
/// A and B are scenarios, or files of results that `teem sim run --json` wrote: of two builds, say.
/// Of each figure it tells the difference in per cent with its 95 % interval (Student's t for
/// pairs), what that means, and how many seeds would tell a difference of one per cent four times
/// in five.
#[derive(Debug, Args)]
#[command(after_long_help = COMPARE_HELP)]
pub(crate) struct Compare {
    /// Scenario or file of results.
    pub(crate) a: String,

    /// Another one; with --with, the same if it is left out.
    #[arg(required_unless_present = "with")]
    pub(crate) b: Option<String>,

    /// Run scenarios with each seed from A up to, not including, B.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds, default_value = "0..20")]
    pub(crate) seeds: Range<u64>,

    #[command(flatten)]
    pub(crate) how: How,

    /// Have this program run B: another build of teem.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) with: Option<PathBuf>,

    /// Seeds that are run at a time.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) jobs: NonZeroUsize,

    /// Exit with 1 if B is slower by more than this, and the interval leaves no doubt; or if it is
    /// not complete with a seed with which A is.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub(crate) fail_if_slower: Option<f64>,

    /// As JSON, a line for each figure and the verdict as the last.
    #[arg(long)]
    pub(crate) json: bool,

    /// Write a page of HTML about both, DIR/index.html. For two scenarios only.
    #[arg(long, value_name = "DIR", conflicts_with = "with")]
    pub(crate) report: Option<PathBuf>,
}

const COMPARE_HELP: &str = "\
Exit codes:
  0  whatever the verdict
  1  B is slower than --fail-if-slower allows
  2  A or B cannot be used, or they have no seed in common";

/// List the scenarios that come with the program, or print one.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print the file of this one: a start for your own.
    pub(crate) name: Option<String>,

    /// As JSON, a line for each.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Run a suite: many scenarios with many seeds.
#[derive(Debug, Args)]
pub(crate) struct Suite {
    #[command(subcommand)]
    pub(crate) command: SuiteCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SuiteCommand {
    Long(Long),
}

/// Every scenario and experiment at its full size, with all its seeds: hours of work.
///
/// Each case is a scenario and a seed, or an experiment whose outcome is known from theory or from
/// measurement, held to it. Experiments are there in a small size, too; a sample has only that.
/// Cases can be spread over machines (--shard), and a sample of
/// them can be taken (--share). Exit code 0: all cases that were run or resumed are as they must be.
#[derive(Debug, Args)]
pub(crate) struct Long {
    /// Run only this part of the cases, of N parts.
    ///
    /// Parts are numbered from 0 or from 1, as you like: 4/4 is 0/4.
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Shard>,

    /// Run a sample of so many of so many cases, such as 1/10, chosen by --salt.
    #[arg(long, value_name = "K/N")]
    pub(crate) share: Option<Shard>,

    /// What decides which cases are in a --share, such as the hash of a commit.
    #[arg(long, value_name = "HEX", default_value = "", requires = "share")]
    pub(crate) salt: String,

    /// Run only cases whose name is or begins with this, or the one with this key, such as
    /// faults#17. Can be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,

    /// Leave out cases whose results this file holds; results go there too, unless --json says
    /// otherwise.
    #[arg(long, value_name = "FILE")]
    pub(crate) resume: Option<PathBuf>,

    /// Write results as JSON, a line for each case and a summary as the last; - is standard output.
    #[arg(long, value_name = "OUT")]
    pub(crate) json: Option<PathBuf>,

    /// Cases that are run at a time.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) jobs: NonZeroUsize,

    /// Only list the cases.
    #[arg(long)]
    pub(crate) list: bool,
}

/// One of so many parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) part: u64,
    pub(crate) of: u64,
}

impl Shard {
    /// Whether a number is in the part; parts may be counted from zero or from one.
    pub(crate) const fn has(self, number: u64) -> bool {
        number % self.of == self.part % self.of
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(part, of)| {
            Some(Self { part: part.trim().parse().ok()?, of: of.trim().parse().ok()? })
        });
        match parsed {
            Some(shard) if shard.of > 0 && shard.part <= shard.of => Ok(shard),
            _ => Err("write part and number of parts, such as 1/4".into()),
        }
    }
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| {
        Some(from.trim().parse::<u64>().ok()?..to.trim().parse::<u64>().ok()?)
    });
    match range {
        Some(range) if range.start < range.end => Ok(range),
        _ => Err("write the first seed and the one after the last, such as 0..100".into()),
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.trim().trim_end_matches('%').trim_end().parse::<f64>();
    percent
        .ok()
        .filter(|percent| percent.is_finite() && *percent >= 0.0)
        .ok_or_else(|| "write per cent, such as 5".into())
}

/// Nanoseconds.
fn parse_seconds(text: &str) -> Result<u64, String> {
    let range = text.parse::<scenario::Range<scenario::Seconds>>();
    range.map(|range| range.most()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_sweep_are_all_of_it_and_none_twice() {
        for first in [0, 1] {
            let shards: Vec<Shard> = (first..first + 4).map(|part| Shard { part, of: 4 }).collect();
            for seed in 0..100 {
                assert_eq!(shards.iter().filter(|shard| shard.has(seed)).count(), 1);
            }
        }
        for text in ["", "1", "5/4", "0/0", "a/b", "-1/4"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_are_read_as_numbers_and_ranges() {
        let hosts = |text: &str| text.parse::<Hosts>();
        assert_eq!(hosts("0,3..5").expect("sound").of(5), Ok([0, 3, 4].into()));
        assert_eq!(hosts("2, 1 .. 3").expect("sound").of(3), Ok([1, 2].into()));
        assert_eq!(hosts("0,3..5").expect("sound").of(4), Err(4));
        assert_eq!(hosts("0..18446744073709551615").expect("sound").of(4), Err(usize::MAX - 1));
        for text in ["", ",", "1,", "a", "3..3", "5..3", "1..", "..", "-1", "18446744073709551615"]
        {
            assert!(hosts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seeds_are_read_as_a_range() {
        assert_eq!(parse_seeds("3..7"), Ok(3..7));
        for text in ["3", "7..3", "3..3", "..", "a..b"] {
            assert!(parse_seeds(text).is_err(), "{text}");
        }
        assert_eq!(parse_seconds("1.5"), Ok(1_500_000_000));
        assert_eq!((parse_percent("5"), parse_percent("2.5 %")), (Ok(5.0), Ok(2.5)));
        assert!(["", "-1", "nan", "inf"].iter().all(|text| parse_percent(text).is_err()));
    }
}
