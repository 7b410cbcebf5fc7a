//! `teem sim run`: a scenario with one seed, or with many.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use teem_core::hash::sha1;
use teem_io::clock::Clock;
use teem_sim::run::Observer;

use super::args::Run;
use super::capture::CaptureOut;
use super::junit::JunitOut;
use super::one::{self, Done};
use super::out::{self, JsonOut};
use super::page::PageOut;
use super::trace::TraceOut;
use crate::failure::Failure;
use crate::{Outcome, report, size};

pub(crate) fn run(run: &Run) -> Outcome {
    let scenario = super::load(&run.scenario, run.how)?;
    let is_sweep = run.seeds.seeds.is_some();
    let seeds: Vec<u64> = run
        .seeds
        .range(scenario.seed)
        .filter(|seed| run.shard.is_none_or(|shard| shard.has(*seed)))
        .collect();
    let mut out = JsonOut::open(run.json.as_deref())?;
    let mut junit =
        run.junit.as_deref().map(|to| JunitOut::open(to, &scenario.name)).transpose()?;
    let mut page = run.report.as_deref().map(PageOut::create).transpose()?;
    let is_recorded = page.is_some();
    let clock = Clock::new();
    let start = clock.now();
    let mut totals = Totals::default();
    let mut settle = |seed: u64, mut done: Done| {
        out::tell(&format!("{} seed {seed}", scenario.name), &done, !is_sweep);
        out.write("run", done.json())?;
        if let Some(junit) = &mut junit {
            junit.add(&done, is_sweep);
        }
        if let Some(page) = &mut page {
            page.add(0, &mut done);
        }
        totals.add(done, is_sweep);
        Ok(())
    };
    let mut told = Ok(());
    if run.trace.is_some() || run.capture.capture.is_some() {
        let &[seed] = &seeds[..] else {
            let what = if run.trace.is_some() { "trace" } else { "capture" };
            return Err(Failure::Input(format!("--{what}: a {what} is of one seed, see --seed")));
        };
        let capture = CaptureOut::create(&run.capture, &scenario, seed, run.how)?;
        let (capture, capturing) = capture.unzip();
        let trace = run.trace.as_deref();
        let trace = trace.map(|path| TraceOut::create(path, &scenario, seed, run.how));
        let mut trace = trace.transpose()?;
        let observer = trace.as_mut().map(|trace| trace as &mut dyn Observer);
        let (how, name) = (run.how, &run.scenario);
        let (done, captured) =
            one::run_captured(&scenario, name, seed, how, observer, is_recorded, capturing);
        if let Some(trace) = trace {
            trace.finish()?;
        }
        settle(seed, done)?;
        told = capture.map_or(Ok(()), |capture| capture.tell(captured));
    } else {
        let work =
            |seed: &u64| one::run_as(&scenario, &run.scenario, *seed, run.how, None, is_recorded);
        one::in_order(&seeds, run.jobs, work, |seed, done| settle(*seed, done))?;
    }
    let wall_s = clock.now().saturating_since(start).as_secs_f64();
    out.write("summary", totals.json(&scenario.name, wall_s))?;
    let is_silent = out.is_stdout() || run.junit.as_deref().is_some_and(out::is_stdout);
    if !is_silent {
        totals.tell(&scenario.name, wall_s);
    }
    if let Some(junit) = junit {
        junit.finish(wall_s)?;
    }
    if let Some(mut page) = page {
        page.about(&scenario, &run.scenario);
        let seeds = match &run.seeds.seeds {
            Some(seeds) => format!("--seeds {}..{}", seeds.start, seeds.end),
            None => format!("--seed {}", run.seeds.range(scenario.seed).start),
        };
        let shard = run.shard.map_or(String::new(), |it| format!(" --shard {}/{}", it.part, it.of));
        let (name, flags) = (one::quoted(&run.scenario), one::flags(run.how));
        page.finish(&format!("teem sim run {name} {seeds}{shard}{flags}"))?;
    }
    totals.judge().and(told)
}

/// What came of all runs.
#[derive(Debug, Default)]
struct Totals {
    last: Option<Done>,
    runs: u64,
    failed: u64,
    /// Runs that did not end as they must, and the command that shows the first of them.
    wrong: u64,
    again: Option<String>,
    digests: Vec<u8>,
    hosts: usize,
    honest: usize,
    complete: usize,
    events: u64,
    timeouts: u64,
    blocks: u64,
    connections: u64,
    delivered_bytes: u64,
    lost_bytes: u64,
    virtual_s: f64,
    peak_rss_bytes: u64,
    over_bound: f64,
    fired: BTreeMap<&'static str, (u64, u64)>,
}

impl Totals {
    fn add(&mut self, done: Done, is_sweep: bool) {
        let summary = &done.summary;
        self.runs += 1;
        self.failed += u64::from(summary.failed);
        // A single run of a scenario that must fail fails; in a sweep, that is how it must be.
        let is_right = if is_sweep { done.is_right() } else { !summary.failed };
        if !is_right {
            self.wrong += 1;
            self.again.get_or_insert_with(|| done.again.clone());
        }
        self.digests.extend_from_slice(summary.digest.as_bytes());
        self.hosts += summary.hosts;
        self.honest += summary.honest;
        self.complete += summary.complete;
        self.events += summary.events;
        self.timeouts += summary.timeouts;
        self.blocks += summary.blocks;
        self.connections += summary.connections;
        self.delivered_bytes += summary.delivered_bytes;
        self.lost_bytes += summary.lost_bytes;
        self.virtual_s += summary.virtual_s;
        self.peak_rss_bytes = self.peak_rss_bytes.max(summary.peak_rss_bytes);
        self.over_bound = self.over_bound.max(summary.over_bound);
        for (family, times) in &summary.fired {
            let (runs, all) = self.fired.entry(family).or_default();
            *runs += u64::from(*times > 0);
            *all += times;
        }
        self.last = Some(done);
    }

    /// One digest of all, in the order of seeds.
    fn digest(&self) -> String {
        sha1(&self.digests)[..8]
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    fn fired(&self) -> BTreeMap<&'static str, u64> {
        self.fired.iter().map(|(family, (_, times))| (*family, *times)).collect()
    }

    /// Of a single run, what it says; of several, sums, and the largest of memory and of the
    /// multiple of the bound.
    fn json(&self, scenario: &str, wall_s: f64) -> Value {
        let mut value = match &self.last {
            Some(done) if self.runs == 1 => done.json(),
            _ => json!({
                "scenario": scenario,
                "seed": null,
                "digest": self.digest(),
                "hosts": self.hosts,
                "honest": self.honest,
                "complete": self.complete,
                "events": self.events,
                "timeouts": self.timeouts,
                "blocks": self.blocks,
                "connections": self.connections,
                "delivered_bytes": self.delivered_bytes,
                "lost_bytes": self.lost_bytes,
                "virtual_s": self.virtual_s,
                "wall_s": wall_s,
                "peak_rss_bytes": self.peak_rss_bytes,
                "over_bound": self.over_bound,
                "fired": self.fired(),
            }),
        };
        value["seeds"] = self.runs.into();
        value["failed"] = self.failed.into();
        value["wrong"] = self.wrong.into();
        value["again"] = self.again.clone().into();
        value
    }

    fn tell(&self, scenario: &str, wall_s: f64) {
        let Some(Done { summary, .. }) = &self.last else {
            report::line("no seed of this part to run");
            return;
        };
        let mut rows = vec![("scenario", format!("{scenario}, {}", summary.fidelity))];
        let per_s = |number: u64| {
            #[expect(clippy::cast_sign_loss, reason = "rates are not negative")]
            let rate = (number as f64 / wall_s.max(1e-6)) as u64;
            out::count(rate)
        };
        let times = |over: f64| format!("{over:.2} times the bound");
        let virtual_time = out::seconds(self.virtual_s);
        if self.runs == 1 {
            let nats = match summary.behind_nats {
                0 => String::new(),
                behind => format!("; {behind} behind NATs, of which the bound knows nothing"),
            };
            let (all, honest) = (summary.hosts, summary.honest);
            let hosts = format!("{all}, {honest} of them honest clients{nats}");
            rows.push(("hosts", hosts));
            rows.push(("complete", format!("{} of {}", summary.complete, summary.honest)));
            let took = if summary.took_s > 0.0 && summary.bound_s > 0.0 {
                format!(
                    "; all complete {} after the last came, {} of {}",
                    out::seconds(summary.took_s),
                    times(summary.over_bound),
                    out::seconds(summary.bound_s)
                )
            } else {
                String::new()
            };
            rows.push(("virtual time", format!("{virtual_time}{took}")));
        } else {
            let failed = match self.wrong {
                0 if self.failed > 0 => "all failed, as they must".to_owned(),
                0 => "all ok".to_owned(),
                wrong => format!("{wrong} NOT as they must be"),
            };
            rows.push(("runs", format!("{}: {failed}", self.runs)));
            rows.push(("hosts", format!("{} in all runs", out::count(self.hosts as u64))));
            rows.push(("complete", format!("{} of {}", self.complete, self.honest)));
            let slowest = if self.over_bound > 0.0 {
                format!("{virtual_time}; the slowest run {}", times(self.over_bound))
            } else {
                virtual_time
            };
            rows.push(("virtual time", slowest));
        }
        rows.push(("wall time", out::seconds(wall_s)));
        for (name, number) in [("events", self.events), ("blocks", self.blocks)] {
            rows.push((name, format!("{}, {} per second", out::count(number), per_s(number))));
        }
        rows.push(("connections", out::count(self.connections)));
        rows.push(("delivered", size::show(self.delivered_bytes)));
        rows.push(("memory", format!("{} at most", size::show(self.peak_rss_bytes))));
        if !self.fired.is_empty() {
            let fired = self.fired.iter().map(|(family, (runs, times))| {
                if self.runs == 1 {
                    format!("{family} {}", out::count(*times))
                } else {
                    format!("{family} {} in {runs} runs", out::count(*times))
                }
            });
            rows.push(("happened", fired.collect::<Vec<_>>().join(", ")));
        }
        let digest = if self.runs == 1 { summary.digest.clone() } else { self.digest() };
        rows.push(("digest", digest));
        out::table(&rows);
    }

    fn judge(&self) -> Outcome {
        let Some(again) = &self.again else { return Ok(()) };
        let what = match (self.runs, self.failed) {
            (1, _) => "the run failed".to_owned(),
            (runs, 0) => format!("{} of {runs} runs did not fail, and must", self.wrong),
            (runs, _) if self.last.as_ref().is_some_and(|done| done.must_fail) => {
                format!("{} of {runs} runs did not fail, and must", self.wrong)
            }
            (runs, _) => format!("{} of {runs} runs failed", self.wrong),
        };
        let shrink = again.strip_prefix("teem sim run ").filter(|_| {
            // What must fail is as small as it is.
            self.failed > 0 && self.last.as_ref().is_none_or(|done| !done.must_fail)
        });
        let shrink = shrink.map_or_else(String::new, |arguments| {
            format!("\nand with as little as it takes:\n    teem sim shrink {arguments}")
        });
        let text = format!("{what}; to see it again:\n    {again}{shrink}");
        Err(Failure::Incomplete(text))
    }
}
