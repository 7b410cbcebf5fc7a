//! `teem sim compare`: runs in pairs of the same seed, and whether B is slower.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use teem_sim::report::compare::{Compared, MEASURES, Sentence, Verdict};

use super::args::Compare;
use super::page::PageOut;
use super::{one, out};
use crate::failure::Failure;
use crate::{Outcome, report};

/// Figures of runs, by seed.
type Runs = BTreeMap<u64, Value>;

/// Where runs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Scenario,
    Results,
}

pub(crate) fn run(compare: &Compare) -> Outcome {
    let b = compare.b.as_deref().unwrap_or(&compare.a);
    let sources = [source(&compare.a), source(b)];
    if compare.with.is_some() && sources[1] == Source::Results {
        return Err(Failure::Input(format!("{b}: --with runs a scenario, and these are results")));
    }
    if compare.report.is_some() && sources.contains(&Source::Results) {
        let why = "--report: results hold no curves; give two scenarios";
        return Err(Failure::Input(why.into()));
    }
    let mut page = compare.report.as_deref().map(PageOut::create).transpose()?;
    let of_a = runs(compare, &compare.a, sources[0], 0, None, &mut page)?;
    let of_b = runs(compare, b, sources[1], 1, compare.with.as_deref(), &mut page)?;
    if let Some(page) = page {
        let (a, b) = (one::quoted(&compare.a), one::quoted(b));
        let (from, to) = (compare.seeds.start, compare.seeds.end);
        let flags = one::flags(compare.how);
        page.finish(&format!("teem sim compare {a} {b} --seeds {from}..{to}{flags}"))?;
    }
    let pairs: Vec<(u64, &Value, &Value)> =
        of_a.iter().filter_map(|(seed, a)| Some((*seed, a, of_b.get(seed)?))).collect();
    if pairs.is_empty() {
        return Err(Failure::Input("A and B have no seed in common".into()));
    }
    let unpaired = of_a.len() + of_b.len() - 2 * pairs.len();
    let figures: Vec<Compared> = MEASURES
        .iter()
        .map(|measure| {
            let found = pairs.iter().filter_map(|(_, a, b)| {
                let pair = (number(a, measure.figure)?, number(b, measure.figure)?);
                let is_timed = pair.0 > 0.0 && pair.1 > 0.0;
                (is_timed || !measure.needs_complete).then_some(pair)
            });
            let found: Vec<_> = found.collect();
            Compared::of(measure.figure, &found, pairs.len() - found.len())
        })
        .collect();
    let failed = [0, 1].map(|side| {
        let runs = pairs.iter().map(|(_, a, b)| if side == 0 { a } else { b });
        runs.filter(|run| run["failed"] == true).count()
    });
    let only_a: Vec<u64> = pairs
        .iter()
        .filter(|(_, a, b)| is_complete(a) && !is_complete(b))
        .map(|(seed, ..)| *seed)
        .collect();
    let names = [name_of(&of_a, &compare.a), name_of(&of_b, b)];
    let told = Told { figures: &figures, names: &names, failed, only_a: &only_a, unpaired };
    if compare.json {
        told.json(compare);
    } else {
        told.words(pairs.len(), compare.with.as_deref());
    }
    judge(compare, &figures[0], &only_a)
}

/// A file whose first line is an object of JSON holds results; all else is a scenario.
fn source(name: &str) -> Source {
    let text = std::fs::read_to_string(name).unwrap_or_default();
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    match serde_json::from_str::<Value>(first) {
        Ok(Value::Object(_)) => Source::Results,
        _ => Source::Scenario,
    }
}

fn runs(
    compare: &Compare,
    name: &str,
    source: Source,
    side: usize,
    with: Option<&Path>,
    page: &mut Option<PageOut>,
) -> Result<Runs, Failure> {
    if source == Source::Results {
        let text = std::fs::read_to_string(name);
        return parse(name, &text.map_err(|error| Failure::file(Path::new(name), &error))?);
    }
    if let Some(program) = with {
        return run_with(compare, name, program);
    }
    let scenario = super::load(name, compare.how)?;
    let seeds: Vec<u64> = compare.seeds.clone().collect();
    let is_recorded = page.is_some();
    let work = |seed: &u64| one::run_as(&scenario, name, *seed, compare.how, None, is_recorded);
    let letter = ["A", "B"][side];
    let mut runs = Runs::new();
    one::in_order(&seeds, compare.jobs, work, |seed, mut done| {
        out::tell(&format!("{letter} {} seed {seed}", scenario.name), &done, false);
        if let Some(page) = page {
            page.add(side, &mut done);
        }
        runs.insert(*seed, done.json());
        Ok(())
    })?;
    if let Some(page) = page {
        page.about(&scenario, name);
    }
    Ok(runs)
}

/// Has another program run it.
fn run_with(compare: &Compare, name: &str, program: &Path) -> Result<Runs, Failure> {
    let (from, to) = (compare.seeds.start, compare.seeds.end);
    let jobs = compare.jobs.to_string();
    let seeds = format!("{from}..{to}");
    let mut command = Command::new(program);
    command.args(["sim", "run", name, "--seeds", &seeds, "--jobs", &jobs, "--json", "-"]);
    command.args(one::flags(compare.how).split_whitespace());
    // What it tells people goes where ours does.
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| Failure::file(program, &error))?;
    let said = String::from_utf8_lossy(&output.stdout);
    // With 1 it ran, and a run failed: that is for who compares to know.
    if !matches!(output.status.code(), Some(0 | 1)) {
        let status = output.status;
        return Err(Failure::Input(format!("{}: could not run it: {status}", program.display())));
    }
    parse(&program.display().to_string(), &said)
}

/// Lines of results: those of runs.
fn parse(name: &str, text: &str) -> Result<Runs, Failure> {
    let mut runs = Runs::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |why: &str| Failure::Input(format!("{name}: line {}: {why}", at + 1));
        let value: Value = serde_json::from_str(line).map_err(|_| wrong("is not JSON"))?;
        if value["event"] != "run" {
            continue;
        }
        let seed = value["seed"].as_u64().ok_or_else(|| wrong("has no seed"))?;
        if runs.insert(seed, value).is_some() {
            return Err(wrong(&format!("seed {seed} is there twice")));
        }
    }
    if runs.is_empty() {
        let why = "has no runs; `teem sim run SCENARIO --seeds 0..20 --json FILE` writes some";
        return Err(Failure::Input(format!("{name}: {why}")));
    }
    Ok(runs)
}

fn number(run: &Value, figure: &str) -> Option<f64> {
    run[figure].as_f64().filter(|number| number.is_finite())
}

fn is_complete(run: &Value) -> bool {
    number(run, "took_s").is_some_and(|took| took > 0.0)
}

fn name_of(runs: &Runs, otherwise: &str) -> String {
    let first = runs.values().next().and_then(|run| run["scenario"].as_str());
    first.unwrap_or(otherwise).to_owned()
}

fn judge(compare: &Compare, took: &Compared, only_a: &[u64]) -> Outcome {
    let Some(percent) = compare.fail_if_slower else { return Ok(()) };
    if took.is_above(percent) {
        let sentence = Sentence(took, &MEASURES[0]);
        return Err(Failure::Incomplete(format!("{sentence}, and may be {percent} %")));
    }
    if !only_a.is_empty() {
        let seeds: Vec<_> = only_a.iter().map(u64::to_string).collect();
        let why = format!("B is not complete with seeds {}, and A is", seeds.join(", "));
        return Err(Failure::Incomplete(why));
    }
    Ok(())
}

/// What came out.
struct Told<'a> {
    figures: &'a [Compared],
    names: &'a [String; 2],
    failed: [usize; 2],
    /// Seeds with which A is complete and B is not.
    only_a: &'a [u64],
    unpaired: usize,
}

impl Told<'_> {
    fn json(&self, compare: &Compare) {
        let line = |event: &str, members: Value| {
            let mut all = json!({ "event": event });
            if let (Value::Object(all), Value::Object(members)) = (&mut all, members) {
                all.extend(members);
            }
            report::line(&all.to_string());
        };
        for (compared, measure) in self.figures.iter().zip(&MEASURES) {
            let mut members = serde_json::to_value(compared).unwrap_or_default();
            members["says"] = Sentence(compared, measure).to_string().into();
            line("figure", members);
        }
        let took = &self.figures[0];
        let is_slower = compare.fail_if_slower.map(|percent| took.is_above(percent));
        line(
            "verdict",
            json!({
                "a": self.names[0],
                "b": self.names[1],
                "pairs": took.pairs,
                "verdict": took.verdict,
                "says": Sentence(took, &MEASURES[0]).to_string(),
                "failed_a": self.failed[0],
                "failed_b": self.failed[1],
                "incomplete_in_b_alone": self.only_a,
                "seeds_of_one_side": self.unpaired,
                "is_slower_than_allowed": is_slower,
            }),
        );
    }

    fn words(&self, pairs: usize, with: Option<&Path>) {
        let by = with.map_or(String::new(), |program| format!(", run by {}", program.display()));
        report::line(&format!(
            "A is {}, B is {}{by}: {pairs} pairs of runs",
            self.names[0], self.names[1]
        ));
        let width = MEASURES.iter().map(|measure| measure.title.len()).max().unwrap_or(0);
        for (compared, measure) in self.figures.iter().zip(&MEASURES) {
            let more = match (compared.verdict, compared.pairs_for_one_percent) {
                (Verdict::TooFew | Verdict::Same, _) | (_, None) => String::new(),
                (_, Some(needed)) => {
                    format!("; {} seeds would tell 1 %", out::count(needed))
                }
            };
            let title = measure.title;
            let sentence = Sentence(compared, measure);
            report::line(&format!("{title:<width$}  {sentence}{more}"));
        }
        let left_out = self.figures[0].left_out;
        if left_out > 0 {
            report::line(&format!(
                "{left_out} pairs have no time, as one of the two is not complete"
            ));
        }
        if self.unpaired > 0 {
            report::line(&format!("{} runs have no partner with the same seed", self.unpaired));
        }
        if self.failed != [0, 0] {
            let [a, b] = self.failed;
            report::line(&format!("failed: {a} runs of A, {b} of B"));
        }
        let took = &self.figures[0];
        report::line(&format!("verdict: {}", Sentence(took, &MEASURES[0])));
    }
}
