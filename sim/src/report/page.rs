//! The page from head to foot.

use std::fmt::Write;

use super::compare::{Compared, MEASURES, Sentence, Verdict};
use super::html::esc;
use super::{Group, Report, Reported, closer, overall, stats, words};
use crate::run::record::Recording;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The report as HTML.
pub fn page(report: &Report) -> String {
    let mut out = String::with_capacity(1 << 18);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\
         <link rel=\"icon\" href=\"data:,\">\
         <title>{} - teem sim</title>\n<style>{STYLE}</style></head><body><main>\n",
        esc(&report.title)
    );
    head(&mut out, report);
    failures(&mut out, report);
    out.push_str(&overall::html(report));
    if let Some((group, run)) = focus(report) {
        out.push_str(&closer::html(report, group, run));
    }
    runs(&mut out, report);
    foot(&mut out, report);
    let _ = writeln!(out, "</main>\n<script>{SCRIPT}</script></body></html>");
    out
}

/// All runs.
pub(super) fn all(report: &Report) -> impl Iterator<Item = &Reported> + Clone {
    report.groups.iter().flat_map(|group| &group.runs)
}

/// The run that is worth a closer look, with the group that it is in.
fn focus(report: &Report) -> Option<(&Group, &Reported)> {
    // Of two groups, B is what is new.
    let group = report.groups.last()?;
    Some((group, &group.runs[group.focus()?]))
}

fn head(out: &mut String, report: &Report) {
    let runs = all(report).count();
    let first = all(report).next();
    let mut facts = vec!["teem sim".to_owned()];
    facts.extend(first.map(|run| format!("{} fidelity", run.summary.fidelity)));
    let between = |least: u64, most: u64, show: &dyn Fn(u64) -> String| {
        if least == most { show(most) } else { format!("{} to {}", show(least), show(most)) }
    };
    let span = |of: &dyn Fn(&Reported) -> u64, show: &dyn Fn(u64) -> String| {
        let values = all(report).map(of);
        Some(between(values.clone().min()?, values.max()?, show))
    };
    match (runs, first) {
        (1, Some(run)) => facts.push(format!("seed {}", run.summary.seed)),
        _ => facts.push(words::many(runs, "run")),
    }
    let hosts = span(&|run| run.summary.hosts as u64, &words::count);
    facts.extend(hosts.map(|hosts| format!("{hosts} hosts")));
    let recorded = |run: &Reported, of: fn(&Recording) -> u64| run.recording.as_ref().map_or(0, of);
    facts.extend(span(&|run| recorded(run, |it| it.content_len), &words::bytes));
    let pieces = span(&|run| recorded(run, |it| u64::from(it.pieces)), &words::count);
    facts.extend(pieces.map(|pieces| format!("{pieces} pieces")));
    let _ = write!(
        out,
        "<header><p class=\"eyebrow\">{}</p><h1>{}</h1>",
        esc(&facts.join(" \u{b7} ")),
        esc(&report.title)
    );
    if !report.about.is_empty() {
        let _ = write!(out, "<p class=\"about\">{}</p>", esc(&report.about));
    }
    verdict(out, report);
    out.push_str("</header>\n");
    out.push_str(&overall::tiles(report));
}

fn verdict(out: &mut String, report: &Report) {
    let runs = all(report).count();
    let wrong = all(report).filter(|run| !run.is_right()).count();
    let must_fail = all(report).any(|run| run.must_fail);
    let (good, mut says) = match (runs, wrong) {
        (0, _) => (true, "No seed was run".to_owned()),
        (1, 0) if must_fail => (true, "The run failed, as it must".to_owned()),
        (1, 0) => (true, "The run is as it must be".to_owned()),
        (1, _) if must_fail => (false, "The run did not fail, and it must".to_owned()),
        (1, _) => (false, "The run failed".to_owned()),
        (runs, 0) if must_fail => (true, format!("All {runs} runs failed, as they must")),
        (2, 0) => (true, "Both runs are as they must be".to_owned()),
        (runs, 0) => (true, format!("All {runs} runs are as they must be")),
        (runs, wrong) if must_fail => (false, format!("{wrong} of {runs} runs did not fail")),
        (runs, wrong) => (false, format!("{wrong} of {runs} runs failed")),
    };
    let mut more = summed_up(report);
    if let [a, b] = &report.groups[..] {
        let compared = compare(a, b, "took_s");
        let sentence = Sentence(&compared, &MEASURES[0]).to_string();
        more = format!("{says}. {more}");
        says = match compared.verdict {
            Verdict::More | Verdict::Less => sentence,
            _ => format!("Time to complete: {sentence}"),
        };
    }
    // Whether slower is worse, who compares knows.
    let (class, sign) = match (good, report.groups.len()) {
        (false, _) => ("bad", "\u{2717}"),
        (true, 2) => ("plain", "\u{394}"),
        (true, _) => ("good", "\u{2713}"),
    };
    let _ = write!(
        out,
        "<div class=\"verdict {class}\"><span class=\"sign\" aria-hidden=\"true\">{sign}</span>\
         <div><strong>{}</strong><p>{}</p></div></div>",
        esc(&says),
        esc(&more)
    );
}

/// Clients that left before they were complete.
pub(super) fn left_early(report: &Report) -> usize {
    all(report).filter_map(|run| run.recording.as_ref()).map(|it| it.left_early).sum()
}

/// How long it took, in a sentence.
fn summed_up(report: &Report) -> String {
    if let [a, b] = &report.groups[..] {
        return format!("A is {}, B is {}.", a.name, b.name);
    }
    let mut times: Vec<_> = all(report)
        .filter_map(|run| Some((run.over_bound()?, run.took_s()?, run.summary.seed)))
        .collect();
    times.sort_by(|one, other| one.0.total_cmp(&other.0));
    let complete: usize = all(report).map(|run| run.summary.complete).sum();
    let honest: usize = all(report).map(|run| run.summary.honest).sum();
    let left = left_early(report);
    let left_early = match left {
        0 => String::new(),
        left => format!(", and {} left before they were", words::count(left as u64)),
    };
    match &times[..] {
        [] => {
            let clients = words::many(honest, "honest client");
            format!("{complete} of {clients} were complete{left_early}.")
        }
        [(over, took, _)] => format!(
            "Everybody{} was complete {} after the last came: {over:.2} times the least that the \
             topology allows.",
            if left > 0 { " who stayed" } else { "" },
            words::seconds(*took)
        ),
        all => {
            let over: Vec<f64> = all.iter().map(|(over, ..)| *over).collect();
            let (middle, (worst, _, seed)) = (stats::median(&over), all[all.len() - 1]);
            format!(
                "{} of {} clients were complete{left_early}. Runs took {middle:.2} times the least that the \
                 topology allows in the median, and {worst:.2} times at worst (seed {seed}).",
                words::count(complete as u64),
                words::count(honest as u64)
            )
        }
    }
}

/// Compares two groups by seed.
pub(super) fn compare(a: &Group, b: &Group, figure: &'static str) -> Compared {
    let of = |run: &Reported| match figure {
        "over_bound" => run.summary.over_bound,
        _ => run.summary.took_s,
    };
    let mut left_out = 0;
    let mut pairs = Vec::new();
    for one in &a.runs {
        let other = b.runs.iter().find(|run| run.summary.seed == one.summary.seed);
        match other.map(|other| (of(one), of(other))) {
            Some(pair) if pair.0 > 0.0 && pair.1 > 0.0 => pairs.push(pair),
            _ => left_out += 1,
        }
    }
    Compared::of(figure, &pairs, left_out)
}

/// Failures of a run that are told at length.
const TOLD_MAX: usize = 5;

/// Runs whose failures are told.
const RUNS_TOLD_MAX: usize = 10;

fn failures(out: &mut String, report: &Report) {
    let failed: Vec<_> = all(report).filter(|run| run.summary.failed).collect();
    if failed.is_empty() {
        return;
    }
    out.push_str("<section aria-labelledby=\"failures\"><h2 id=\"failures\">What failed</h2>\n");
    for run in failed.iter().take(RUNS_TOLD_MAX) {
        let _ = write!(
            out,
            "<p class=\"lead\">Seed {}. To see it again: <code>{}</code></p>",
            run.summary.seed,
            esc(&run.again)
        );
        let notes = run.recording.as_ref().map_or(&[][..], |recording| &recording.failures);
        if notes.is_empty() {
            for text in &run.summary.failures {
                let _ = write!(out, "<div class=\"card failure\"><h3>{}</h3></div>", esc(text));
            }
        }
        let mut meaning = "";
        for note in notes.iter().take(TOLD_MAX) {
            let _ = write!(out, "<div class=\"card failure\"><h3>{}</h3>", esc(&note.text));
            // What is the same is said once.
            if note.meaning != meaning {
                let _ = write!(out, "<p>{}</p>", esc(&note.meaning));
            }
            meaning = &note.meaning;
            if !note.tail.is_empty() {
                let host = note.host.map_or(String::new(), |host| format!(" of host {host}"));
                let _ = write!(
                    out,
                    "<details><summary>The last that was heard{host}</summary>{}</details>",
                    closer::notes(&note.tail, "short")
                );
            }
            out.push_str("</div>\n");
        }
        if notes.len() > TOLD_MAX {
            let _ = write!(
                out,
                "<details class=\"more\"><summary>{} more in this run</summary><ul>",
                notes.len() - TOLD_MAX
            );
            for note in &notes[TOLD_MAX..] {
                let _ = write!(out, "<li>{}</li>", esc(&note.text));
            }
            out.push_str("</ul></details>\n");
        }
    }
    if failed.len() > RUNS_TOLD_MAX {
        let seeds: Vec<_> =
            failed[RUNS_TOLD_MAX..].iter().map(|run| run.summary.seed.to_string()).collect();
        let _ = write!(out, "<p>Seeds {} failed, too.</p>", seeds.join(", "));
    }
    out.push_str("</section>\n");
}

/// Rows of the table of runs.
const ROWS_MAX: usize = 200;

fn runs(out: &mut String, report: &Report) {
    out.push_str(
        "<section aria-labelledby=\"runs\"><h2 id=\"runs\">Every run</h2>\
         <div class=\"card\"><div class=\"scroll\"><table><thead><tr>",
    );
    let is_pair = report.groups.len() > 1;
    let names = ["Seed", "Verdict", "Complete", "Took", "Bound", "T over bound", "Uplinks used"];
    let more = ["Jain", "Clustering", "Events", "Wall time", "Digest"];
    for name in is_pair.then_some("Of").iter().chain(&names).chain(&more) {
        let _ = write!(out, "<th scope=\"col\">{name}</th>");
    }
    out.push_str("</tr></thead><tbody>");
    let mut left = ROWS_MAX;
    for (at, group) in report.groups.iter().enumerate() {
        for run in group.runs.iter().take(left) {
            row(out, run, is_pair.then_some(if at == 0 { "A" } else { "B" }));
        }
        left = left.saturating_sub(group.runs.len());
    }
    out.push_str("</tbody></table></div></div></section>\n");
}

fn row(out: &mut String, run: &Reported, of: Option<&str>) {
    let summary = &run.summary;
    let recording = run.recording.as_ref();
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "\u{2013}".into());
    let verdict = match (summary.failed, run.must_fail) {
        (false, false) => "ok",
        (true, false) => "failed",
        (true, true) => "failed, as it must",
        (false, true) => "did not fail",
    };
    let cells = [
        summary.seed.to_string(),
        verdict.to_owned(),
        format!("{} of {}", summary.complete, summary.honest),
        or_dash(run.took_s().map(words::seconds)),
        or_dash((summary.bound_s > 0.0).then(|| words::seconds(summary.bound_s))),
        or_dash(run.over_bound().map(|over| format!("{over:.2}"))),
        or_dash(recording.and_then(|it| it.utilisation).map(words::share)),
        or_dash(recording.and_then(|it| it.jain).map(|jain| format!("{jain:.3}"))),
        or_dash(
            recording
                .and_then(|it| it.clusters.as_ref())
                .and_then(|it| it.index)
                .map(|index| format!("{index:.2}")),
        ),
        words::count(summary.events),
        words::seconds(summary.wall_s),
        summary.digest.clone(),
    ];
    out.push_str(if run.is_right() { "<tr>" } else { "<tr class=\"bad\">" });
    for cell in of.map(str::to_owned).into_iter().chain(cells) {
        let _ = write!(out, "<td>{}</td>", esc(&cell));
    }
    out.push_str("</tr>\n");
}

/// Bytes of a scenario that are shown.
const FILE_MAX: usize = 64 << 10;

fn foot(out: &mut String, report: &Report) {
    out.push_str("<section aria-labelledby=\"again\"><h2 id=\"again\">To see it again</h2>\n");
    let _ = writeln!(out, "<pre><code>{}</code></pre>", esc(&report.command));
    for (name, text) in &report.files {
        let end = text.floor_char_boundary(FILE_MAX);
        let _ = writeln!(
            out,
            "<details class=\"file\" style=\"margin-top:10px\"><summary>The scenario {}</summary>\
             <pre><code>{}</code></pre></details>",
            esc(name),
            esc(&text[..end])
        );
    }
    out.push_str("</section>\n<footer><dl>");
    for (name, means) in [
        (
            "The bound",
            "The least time in which any engine could do it, from when the last host came: the \
             fluid bound of Kumar and Ross (2006), and the doublings of a first piece. It takes for \
             granted that everybody reaches everybody.",
        ),
        (
            "Jain's index",
            "How alike the download rates are: 1 if all are the same, 1/n if one has everything. \
             Links of different speed make it smaller, fair or not.",
        ),
        (
            "Clustering",
            "Time that peers of the same class held each other's upload slots, against what it \
             would be by lot among those connected (Legout and others, 2007).",
        ),
        (
            "Uplinks used",
            "Bytes that honest clients sent, against what their uplinks could have carried while \
             they were there.",
        ),
        ("Time", "Virtual, counted from the beginning of a run, but for the time on the wall."),
    ] {
        let _ = write!(out, "<dt>{name}</dt><dd>{means}</dd>");
    }
    let runs = report.groups.iter().flat_map(|group| &group.runs);
    let clients = runs.map(|run| (run.summary.behind_nats, run.summary.honest)).max();
    if let Some((behind, honest)) = clients.filter(|(behind, _)| *behind > 0) {
        let _ = write!(
            out,
            "<dt>NATs</dt><dd>{behind} of {honest} clients are behind NATs that forward nothing to \
             them: nobody calls them. The bound takes no account of that.</dd>"
        );
    }
    out.push_str("</dl></footer>\n");
}
