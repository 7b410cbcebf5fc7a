//! All runs together: tiles, completion with bands over seeds, time over the bound, uplinks.

use std::fmt::Write;

use super::compare::{MEASURES, Sentence};
use super::html::{Figure, Table, esc};
use super::page::{all, compare, left_early};
use super::plot::{Axis, Plot, draw, when};
use super::{Group, Report, Reported, stats, words};
use crate::run::record::{Recording, Spread};

/// Places on the time axis at which bands are drawn.
const PLACES: usize = 181;

/// Colours of A and B; of a single group that of A.
const COLOURS: [&str; 2] = ["c1", "c2"];

fn recordings(group: &Group) -> impl Iterator<Item = &Recording> + Clone {
    group.runs.iter().filter_map(|run| run.recording.as_ref())
}

fn quantiles(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| Spread::of(values))
}

/// What matters, in numbers.
pub(super) fn tiles(report: &Report) -> String {
    let mut tiles: Vec<(&str, String, String)> = Vec::new();
    if let [a, b] = &report.groups[..] {
        for (figure, name) in [("took_s", "Time to complete"), ("over_bound", "T over bound")] {
            let compared = compare(a, b, figure);
            let interval = match (compared.percent_least, compared.percent_most) {
                (Some(least), Some(most)) => format!("95 %: {least:+.1} % to {most:+.1} %"),
                _ => "too few pairs".to_owned(),
            };
            tiles.push((
                name,
                format!("{:+.1} %", compared.percent),
                format!("B to A; {interval}"),
            ));
        }
    }
    let runs = all(report).count();
    let complete: usize = all(report).map(|run| run.summary.complete).sum();
    let honest: usize = all(report).map(|run| run.summary.honest).sum();
    let of = |number: usize| words::count(number as u64);
    let (value, note) = if complete == honest {
        (of(complete), "all honest clients".to_owned())
    } else {
        let note = match left_early(report) {
            0 => "honest clients".to_owned(),
            left => format!("honest clients; {} left early", of(left)),
        };
        (format!("{} of {}", of(complete), of(honest)), note)
    };
    tiles.push(("Complete", value, note));
    let is_one = report.groups.len() == 1;
    let over = all(report).filter_map(Reported::over_bound);
    if let Some(spread) = quantiles(over.clone())
        && is_one
    {
        let worst = over.fold(0.0, f64::max);
        let note = if runs > 1 { format!("median; worst {worst:.2}") } else { "1 is ideal".into() };
        tiles.push(("T over bound", format!("{:.2} \u{d7}", spread.mid), note));
    }
    let recordings = || all(report).filter_map(|run| run.recording.as_ref());
    let mut tile = |name, values: Vec<f64>, show: fn(f64) -> String, what: &str| {
        let Some(spread) = quantiles(values.iter().copied()) else { return };
        let (low, high) = (show(spread.low), show(spread.high));
        let note = if low == high { what.to_owned() } else { format!("{what}; {low} to {high}") };
        tiles.push((name, show(spread.mid), note));
    };
    tile(
        "Uplinks used",
        recordings().filter_map(|it| it.utilisation).collect(),
        words::share,
        "of what they carry",
    );
    tile(
        "Jain's index",
        recordings().filter_map(|it| it.jain).collect(),
        |jain| format!("{jain:.2}"),
        "of download rates",
    );
    tile(
        "Clustering",
        recordings().filter_map(|it| it.clusters.as_ref()?.index).collect(),
        |index| format!("{index:.2} \u{d7}"),
        "what chance would do",
    );
    let mut kinds: Vec<&str> =
        all(report).flat_map(|run| run.summary.fired.keys().copied()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    if !kinds.is_empty() {
        tiles.push(("Troubles", kinds.len().to_string(), "kinds happened".to_owned()));
    }
    let mut out = String::from("<ul class=\"tiles\">");
    for (name, value, note) in tiles {
        let _ = write!(
            out,
            "<li><div class=\"name\">{}</div><div class=\"value\">{}</div>\
             <div class=\"note\">{}</div></li>",
            esc(name),
            esc(&value),
            esc(&note)
        );
    }
    out.push_str("</ul>\n");
    out
}

pub(super) fn html(report: &Report) -> String {
    let mut out = String::from("<section class=\"cards\" aria-label=\"All runs\">\n");
    out.push_str(&completion(report));
    let differ = |wide| match &report.groups[..] {
        [a, b] => Some(differences(a, b, wide)),
        _ => None,
    };
    // Of a single run the uplinks are shown at close range.
    let uplinks = |wide| if is_single(report) { None } else { utilisation(report, wide) };
    out.push_str(&in_pairs(&[&|wide| over_bound(report, wide), &uplinks, &differ, &|wide| {
        troubles(report, wide)
    }]));
    out.push_str("</section>\n");
    out
}

/// Whether there is one run alone.
pub(super) fn is_single(report: &Report) -> bool {
    all(report).count() == 1
}

/// A figure, on the whole width or on half of it; none if there is nothing to show.
pub(super) type Half<'a> = &'a dyn Fn(bool) -> Option<String>;

/// Figures side by side; the last of an odd number takes the whole width, not to leave a hole.
pub(super) fn in_pairs(figures: &[Half<'_>]) -> String {
    let shown: Vec<_> =
        figures.iter().filter_map(|figure| Some((figure(false)?, figure))).collect();
    let mut out = String::new();
    for (at, (half, figure)) in shown.iter().enumerate() {
        let is_alone = at + 1 == shown.len() && shown.len() % 2 == 1;
        let wide = is_alone.then(|| figure(true)).flatten();
        out.push_str(wide.as_ref().unwrap_or(half));
    }
    out
}

fn ends(report: &Report) -> f64 {
    let recordings = all(report).filter_map(|run| run.recording.as_ref());
    let last = |it: &Recording| match it.complete_s.last() {
        Some(last) if it.complete_s.len() == it.fetching => *last,
        _ => it.ends_s,
    };
    let bounds = recordings.clone().map(|it| it.begins_s + it.bound_s);
    recordings.map(last).chain(bounds).fold(0.0, f64::max) * 1.04
}

fn completion(report: &Report) -> String {
    let ends = ends(report);
    let runs = all(report).count();
    let is_pair = report.groups.len() > 1;
    let places = stats::grid(ends, PLACES);
    let mut head = vec!["Time"];
    let mut columns: Vec<Vec<f64>> = Vec::new();
    let mut legend = Vec::new();
    let mut plots: Vec<Plot> = [(1020.0, 330.0), (440.0, 300.0)]
        .map(|(width, height)| Plot::new(width, height, Axis::time(ends), Axis::share(1.0)))
        .into();
    for ((group, colour), letter) in report.groups.iter().zip(COLOURS).zip(["A", "B"]) {
        let curves: Vec<&Recording> = recordings(group).collect();
        let share = |it: &Recording, at| stats::share_until(&it.complete_s, it.fetching, at);
        let functions: Vec<_> = curves.iter().map(|it| move |at| share(it, at)).collect();
        let bands = stats::bands(&functions, &places);
        for plot in &mut plots {
            if curves.len() > 1 {
                let points = places.iter().zip(&bands).map(|(x, band)| (*x, band.low, band.high));
                plot.band(colour, points);
            } else if let Some(recording) = recordings(group).next() {
                let series = &recording.series;
                let progress = series.at_s.iter().zip(&series.progress);
                let class = if is_pair { format!("{colour} dash") } else { "c3 dash".into() };
                plot.line(&class, progress.map(|(x, spread)| (*x, spread.mid)));
            }
            if curves.len() == 1 {
                plot.line(colour, steps(&curves[0].complete_s, curves[0].fetching));
            } else {
                plot.line(colour, places.iter().zip(&bands).map(|(x, band)| (*x, band.mid)));
            }
        }
        let who = if is_pair { format!("{letter}: ") } else { String::new() };
        let key = match (colour, curves.len()) {
            ("c1", 1) => "c1",
            ("c2", 1) => "c2",
            ("c1", _) => "c1 area",
            _ => "c2 area",
        };
        if curves.len() == 1 {
            legend.push((key, format!("{who}share of the peers that are complete")));
            if !is_pair {
                legend.push(("c3 dash", "share of the pieces that the median peer has".into()));
            }
            head.push(if is_pair { letter } else { "Complete" });
            columns.push(bands.iter().map(|band| band.mid).collect());
        } else {
            legend.push((key, format!("{who}10 to 90 % of the seeds, and the median")));
            head.extend(if is_pair {
                match letter {
                    "A" => ["A, 10 %", "A, median", "A, 90 %"],
                    _ => ["B, 10 %", "B, median", "B, 90 %"],
                }
            } else {
                ["10 % of seeds", "Median", "90 %"]
            });
            columns.push(bands.iter().map(|band| band.low).collect());
            columns.push(bands.iter().map(|band| band.mid).collect());
            columns.push(bands.iter().map(|band| band.high).collect());
        }
        for plot in &mut plots {
            marks(
                plot,
                group,
                if is_pair { colour } else { "c4" },
                if is_pair { letter } else { "" },
            );
        }
    }
    let mut table = Table::new(&head);
    for (at, x) in places.iter().enumerate() {
        let cells = columns.iter().map(|column| words::share(column[at]));
        table.at(*x, std::iter::once(words::seconds(*x)).chain(cells).collect());
    }
    let says = if runs > 1 {
        "How many of those who had something to fetch were complete, over virtual time, with a \
         band over seeds. To the left of the bound no swarm can be done."
    } else {
        "How many of those who had something to fetch were complete, over virtual time. To the \
         left of the bound no swarm can be done."
    };
    let title = "Share of peers that are complete, over time";
    Figure {
        id: "completion",
        title: "Completion",
        says: says.into(),
        legend,
        plots: plots.into_iter().map(|plot| plot.finish(title)).collect(),
        table: Some(table),
        wide: true,
    }
    .html()
}

/// What is known of a group's time axis: the bound, the last arrival, the end of trouble.
fn marks(plot: &mut Plot, group: &Group, colour: &str, letter: &str) {
    let middle = |values: &dyn Fn(&Recording) -> f64| {
        quantiles(recordings(group).map(values)).map_or(0.0, |spread| spread.mid)
    };
    let (begins, healed) = (middle(&|it| it.begins_s), middle(&|it| it.healed_s));
    let bound = middle(&|it| it.begins_s + it.bound_s);
    let is_many = group.runs.len() > 1;
    let median = if is_many { "median of the " } else { "" };
    if letter != "B" {
        if begins > 0.0 {
            plot.rule("faint", begins, &format!("{median}last arrival"));
        }
        if healed > 0.0 {
            plot.rule("faint", healed, &format!("{median}last trouble's end"));
        }
    }
    if bound > begins {
        let who = if letter.is_empty() { String::new() } else { format!(" of {letter}") };
        let label = if is_many { "median bound" } else { "bound" };
        plot.rule(colour, bound, &format!("{label}{who}: {}", words::seconds(bound)));
    }
    let failures = group.runs.iter().filter_map(|run| run.recording.as_ref());
    for (failure, ends) in
        failures.flat_map(|it| it.failures.iter().map(|one| (one, it.ends_s))).take(50)
    {
        let at = failure.at_s.unwrap_or(ends);
        plot.tick("bad", at, &format!("{}: {}", when(at), failure.text));
    }
    if let ([run], Some(recording)) = (&group.runs[..], recordings(group).next())
        && let Some(failure) = recording.failures.first()
    {
        let (at, label) = match failure.at_s {
            Some(at) => (at, "the first failure"),
            None => (recording.ends_s, "the run ended, and failed"),
        };
        debug_assert!(run.summary.failed, "a run with failures failed");
        plot.rule("bad", at, label);
    }
}

/// A share that grows by one at each time.
fn steps(times: &[f64], of: usize) -> impl Iterator<Item = (f64, f64)> {
    let share = move |number: usize| number as f64 / of.max(1) as f64;
    let corners = times.iter().enumerate();
    std::iter::once((0.0, 0.0))
        .chain(corners.flat_map(move |(at, time)| [(*time, share(at)), (*time, share(at + 1))]))
}

fn over_bound(report: &Report, wide: bool) -> Option<String> {
    let timed = |run: &&Reported| run.over_bound().is_some();
    let seeds: Vec<u64> = {
        let mut seeds: Vec<u64> = all(report).map(|run| run.summary.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        seeds
    };
    if seeds.len() < 2 || all(report).filter(timed).count() == 0 {
        return None;
    }
    let most = all(report).filter_map(Reported::over_bound).fold(1.0, f64::max);
    let names: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let place = |seed: u64| seeds.partition_point(|other| *other < seed) as f64;
    let is_pair = report.groups.len() > 1;
    let of = |group: &Group, seed: u64| {
        let mut runs = group.runs.iter();
        runs.find(|run| run.summary.seed == seed).and_then(Reported::over_bound)
    };
    let cell = |over: Option<f64>| over.map_or_else(|| "-".into(), |over| format!("{over:.3}"));
    let mut table;
    if is_pair {
        table = Table::new(&["Seed", "A", "B"]);
        for seed in &seeds {
            let [a, b] = [0, 1].map(|at| cell(of(&report.groups[at], *seed)));
            table.at(place(*seed), vec![seed.to_string(), a, b]);
        }
    } else {
        table = Table::new(&["Seed", "T over bound", "Took", "Bound"]);
        for run in all(report) {
            let (seed, bound) = (run.summary.seed, words::seconds(run.summary.bound_s));
            let took = run.took_s().map_or_else(|| "-".into(), words::seconds);
            table.at(place(seed), vec![seed.to_string(), cell(run.over_bound()), took, bound]);
        }
    }
    let fill = |plot: &mut Plot| {
        for seed in seeds.iter().filter(|_| is_pair) {
            let pair = [0, 1].map(|at| of(&report.groups[at], *seed));
            if let [Some(a), Some(b)] = pair {
                plot.line("soft", [(place(*seed), a), (place(*seed), b)].into_iter());
            }
            for (over, colour) in pair.iter().zip(COLOURS) {
                if let Some(over) = over {
                    plot.dot(colour, place(*seed), *over, &format!("seed {seed}: {over:.3}"));
                }
            }
        }
        for run in all(report).filter(|_| !is_pair) {
            let (seed, class) = (run.summary.seed, if run.is_right() { "c1" } else { "bad" });
            match run.over_bound() {
                Some(over) => {
                    let title = format!("seed {seed}: {over:.3}");
                    plot.bar(class, place(seed), 0.72, over, &title);
                }
                None => plot.text("note bad", place(seed), 0.06 * most, "\u{2717}"),
            }
        }
        plot.level("c4", 1.0, "the bound");
    };
    let axes = (Axis::names(&names), Axis::number(most * 1.02, "times the bound"));
    let plots = draw(wide, 270.0, "Time over the bound for each seed", (&axes.0, &axes.1), fill);
    let legend = if is_pair {
        vec![("c1", "A".into()), ("c2", "B".into())]
    } else if all(report).any(|run| !run.is_right()) {
        vec![("c1 box", "as it must be".into()), ("bad box", "failed".into())]
    } else {
        Vec::new()
    };
    let figure = Figure {
        id: "over-bound",
        title: "Time over the bound, by seed",
        says: "How long it took until all who stayed were complete, over the least time that each \
               seed's topology allows. A cross stands for a run in which somebody was not."
            .into(),
        legend,
        plots,
        table: Some(table),
        wide,
    };
    Some(figure.html())
}

pub(super) fn utilisation(report: &Report, wide: bool) -> Option<String> {
    let measured = |it: &&Recording| !it.series.utilisation.is_empty();
    if all(report).filter_map(|run| run.recording.as_ref()).filter(measured).count() == 0 {
        return None;
    }
    let ends = ends(report);
    let places = stats::grid(ends, 91);
    let is_pair = report.groups.len() > 1;
    let mut table = Table::new(if is_pair { &["Time", "A", "B"] } else { &["Time", "Median"] });
    let mut legend: Vec<(&str, String)> = Vec::new();
    let groups: Vec<(Vec<&Recording>, Vec<Spread>)> = report
        .groups
        .iter()
        .map(|group| {
            let runs: Vec<&Recording> = recordings(group).filter(measured).collect();
            let curves: Vec<_> = runs.iter().map(|it| move |at: f64| used(it, at)).collect();
            let bands = stats::bands(&curves, &places);
            (runs, bands)
        })
        .collect();
    for (((runs, _), colour), letter) in groups.iter().zip(COLOURS).zip(["A", "B"]) {
        let key = if colour == "c1" { "c1 area" } else { "c2 area" };
        let who = if is_pair { format!("{letter}: ") } else { String::new() };
        if runs.len() > 1 {
            legend.push((key, format!("{who}10 to 90 % of the seeds, and the median")));
        } else if is_pair {
            legend.push((colour, letter.to_owned()));
        }
    }
    for (at, x) in places.iter().enumerate() {
        let cells = groups.iter().map(|(_, bands)| words::share(bands[at].mid));
        table.at(*x, std::iter::once(words::seconds(*x)).chain(cells).collect());
    }
    let fill = |plot: &mut Plot| {
        for ((runs, bands), colour) in groups.iter().zip(COLOURS) {
            if let [run] = runs[..] {
                let series = &run.series;
                let points = series.at_s.iter().copied().zip(series.utilisation.iter().copied());
                plot.line(colour, points);
            } else {
                let points = places.iter().zip(bands).map(|(x, band)| (*x, band.low, band.high));
                plot.band(colour, points);
                plot.line(colour, places.iter().zip(bands).map(|(x, band)| (*x, band.mid)));
            }
        }
    };
    let highs = groups.iter().flat_map(|(_, bands)| bands.iter().map(|band| band.high));
    let axes = (Axis::time(ends), Axis::share(highs.fold(1.0, f64::max).min(1.25)));
    let plots =
        draw(wide, 270.0, "Share of the uplinks in use, over time", (&axes.0, &axes.1), fill);
    let figure = Figure {
        id: "utilisation",
        title: "Uplinks used",
        says: "Bytes that honest clients sent, against what the uplinks of those who were there \
               could carry. A swarm that is well fed stays near 100 % until its end; one that has \
               few pieces to give begins late."
            .into(),
        legend,
        plots,
        table: Some(table),
        wide,
    };
    Some(figure.html())
}

/// Share of the uplinks in use at a time; none is after the end.
fn used(recording: &Recording, at: f64) -> f64 {
    let series = &recording.series;
    match series.at_s.last() {
        Some(last) if at <= *last => stats::at(&series.at_s, &series.utilisation, at),
        _ => 0.0,
    }
}

/// All figures of two groups with their intervals.
fn differences(a: &Group, b: &Group, wide: bool) -> String {
    let mut says = Vec::new();
    let mut table =
        Table::new(&["Figure", "A", "B", "Difference", "Least", "Most", "Pairs for 1 %"]);
    let mut rows = Vec::new();
    for measure in MEASURES.iter().filter(|measure| measure.needs_complete) {
        let compared = compare(a, b, measure.figure);
        says.push(format!("{}: {}", measure.title, Sentence(&compared, measure)));
        let percent =
            |value: Option<f64>| value.map_or_else(|| "-".into(), |it| format!("{it:+.2} %"));
        table.row(vec![
            measure.title.into(),
            format!("{:.3}", compared.mean_a),
            format!("{:.3}", compared.mean_b),
            format!("{:+.2} %", compared.percent),
            percent(compared.percent_least),
            percent(compared.percent_most),
            compared.pairs_for_one_percent.map_or_else(|| "-".into(), words::count),
        ]);
        rows.push((measure.title, compared));
    }
    let least = rows.iter().filter_map(|(_, it)| it.percent_least).fold(-1.0, f64::min);
    let most = rows.iter().filter_map(|(_, it)| it.percent_most).fold(1.0, f64::max);
    let pad = 0.08 * (most - least);
    let names: Vec<String> = rows.iter().rev().map(|(title, _)| (*title).to_owned()).collect();
    let fill = |plot: &mut Plot| {
        plot.rule("faint", 0.0, "the same");
        for (at, (title, compared)) in rows.iter().rev().enumerate() {
            let title = format!("{title}: {:+.2} %", compared.percent);
            if let (Some(least), Some(most)) = (compared.percent_least, compared.percent_most) {
                plot.line("c2", [(least, at as f64), (most, at as f64)].into_iter());
            }
            plot.dot("c2", compared.percent, at as f64, &title);
        }
    };
    let axes = (Axis::between(least - pad, most + pad, "% of A"), Axis::names(&names));
    let title = "Differences in per cent with their intervals";
    let plots = draw(wide, 190.0, title, (&axes.0, &axes.1), fill);
    Figure {
        id: "difference",
        title: "B against A",
        says: format!(
            "{}. Dots are means, lines their 95 % intervals by Student's t for pairs.",
            says.join(". ")
        ),
        legend: Vec::new(),
        plots,
        table: Some(table),
        wide,
    }
    .html()
}

/// Which troubles happened, and how often.
fn troubles(report: &Report, wide: bool) -> Option<String> {
    let mut kinds: Vec<(&str, u64, usize)> = Vec::new();
    for run in all(report) {
        for (kind, times) in &run.summary.fired {
            match kinds.iter_mut().find(|(name, ..)| name == kind) {
                Some((_, all, runs)) => {
                    *all += times;
                    *runs += 1;
                }
                None => kinds.push((kind, *times, 1)),
            }
        }
    }
    if kinds.is_empty() {
        return None;
    }
    kinds.sort_unstable();
    let runs = all(report).count();
    // On the whole width there is room for two.
    let rows = if wide { kinds.len().div_ceil(2) } else { kinds.len() };
    let tables = kinds.chunks(rows).map(|kinds| {
        let mut table = Table::new(&["Kind", "Times", "Runs"]);
        for (kind, times, of) in kinds {
            let runs = format!("{of} of {runs}");
            table.row(vec![(*kind).to_owned(), words::count(*times), runs]);
        }
        table.html()
    });
    let tables: String = tables.collect();
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<figure class=\"card all{}\" id=\"troubles\"><figcaption><h3>Troubles that happened</h3>\
         <p>Kinds of trouble that fired, how often, and in how many runs. Some count each job or \
         connection that they hit.</p></figcaption><div class=\"two\">{tables}</div></figure>",
        if wide { " wide" } else { "" }
    );
    Some(out)
}
