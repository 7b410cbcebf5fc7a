//! One run at close range: rates, availability, who served whom, what went wrong when, and what
//! befell the slowest peer.

use std::fmt::Write;

use super::html::{Figure, Table, esc};
use super::overall::{in_pairs, is_single, utilisation};
use super::plot::{Axis, Plot, draw, when};
use super::{Group, Report, Reported, words};
use crate::run::record::{Clusters, Note, Recording, Spell, Spread, StreamSeries, Tone};

/// Kinds of trouble in the plot of spells.
const KINDS_MAX: usize = 24;

/// Spells that are drawn for each kind.
const SPELLS_MAX: usize = 60;

/// Peers that are dots.
const DOTS_MAX: usize = 400;

/// Spells in the table.
const ROWS_MAX: usize = 200;

pub(super) fn html(report: &Report, group: &Group, run: &Reported) -> String {
    let Some(recording) = &run.recording else { return String::new() };
    let seed = run.summary.seed;
    let is_only = report.groups.len() == 1 && group.runs.len() == 1;
    let (title, lead) = if is_only {
        (format!("Seed {seed} at close range"), String::new())
    } else {
        let why = if run.is_right() {
            "took longest against its bound"
        } else {
            "is the first that did not end as it must"
        };
        let of = if report.groups.len() > 1 { " of B" } else { "" };
        let lead = format!("This run{of} {why}. Every other one can be had so, too: ");
        (format!("Seed {seed} at close range"), lead)
    };
    let mut out =
        format!("<section aria-labelledby=\"closer\"><h2 id=\"closer\">{}</h2>", esc(&title));
    let again = format!("{} --report DIR", run.again);
    let _ = write!(out, "<p class=\"lead\">{}<code>{}</code></p>", esc(&lead), esc(&again));
    out.push_str("<div class=\"cards\">\n");
    // Of many runs the uplinks are shown for all together.
    let uplinks = |wide| if is_single(report) { utilisation(report, wide) } else { None };
    let served = |wide| recording.clusters.as_ref().and_then(|it| clusters(it, wide));
    out.push_str(&in_pairs(&[
        &|wide| rates(recording, wide),
        &|wide| fairness(recording, wide),
        &uplinks,
        &served,
    ]));
    out.push_str(&heat(recording).unwrap_or_default());
    out.push_str(&in_pairs(&[&|wide| copies(recording, wide), &|wide| {
        connections(recording, wide)
    }]));
    out.push_str(&spells(recording).unwrap_or_default());
    out.push_str("</div></section>\n");
    out.push_str(&story(recording));
    out.push_str(&streams(recording));
    out
}

fn ends(recording: &Recording) -> f64 {
    recording.series.at_s.last().copied().unwrap_or(recording.ends_s)
}

/// A band and its median over the samples.
fn spread(plot: &mut Plot, colour: &str, recording: &Recording, spreads: &[Spread]) {
    let times = &recording.series.at_s;
    let both = || times.iter().copied().zip(spreads);
    plot.band(colour, both().map(|(x, spread)| (x, spread.low, spread.high)));
    plot.line(colour, both().map(|(x, spread)| (x, spread.mid)));
}

fn table(recording: &Recording, head: &[&str], columns: &[&dyn Fn(usize) -> String]) -> Table {
    let mut table = Table::new(head);
    for (at, x) in recording.series.at_s.iter().enumerate() {
        let cells = columns.iter().map(|column| column(at));
        table.at(*x, std::iter::once(words::seconds(*x)).chain(cells).collect());
    }
    table
}

fn rates(recording: &Recording, wide: bool) -> Option<String> {
    let series = &recording.series;
    let most = series
        .rates
        .iter()
        .flat_map(|(_, rates)| rates.iter().copied())
        .chain(series.down.iter().map(|spread| spread.high))
        .fold(0.0, f64::max);
    if series.at_s.len() < 2 {
        return None;
    }
    let mut sorted: Vec<f64> = series.rates.iter().flat_map(|(_, rates)| rates.clone()).collect();
    sorted.sort_by(f64::total_cmp);
    // A single burst must not press everything else to the ground.
    let top = sorted.get(sorted.len() * 995 / 1_000).copied().unwrap_or(most).max(1.0) * 1.1;
    let told = recording.story.as_ref().map(|story| story.host);
    let fill = |plot: &mut Plot| {
        let over_time = |values: &[f64]| {
            let points: Vec<_> = series.at_s.iter().copied().zip(values.iter().copied()).collect();
            points.into_iter()
        };
        for (_, rates) in series.rates.iter().filter(|(host, _)| Some(*host) != told) {
            plot.line("c1 thin", over_time(rates));
        }
        // When all are complete there is no rate any more.
        let last = series.down.iter().rposition(|spread| spread.high > 0.0).unwrap_or(0);
        let both = series.at_s.iter().copied().zip(series.down.iter().map(|spread| spread.mid));
        plot.line("c1", both.take(last + 1));
        for (_, rates) in series.rates.iter().filter(|(host, _)| Some(*host) == told) {
            plot.line("c2", over_time(rates));
        }
    };
    let axes = (Axis::time(ends(recording)), Axis::rate(top.min(most.max(1.0))));
    let plots = draw(wide, 270.0, "Download rates of peers over time", (&axes.0, &axes.1), fill);
    let mut legend = vec![
        ("c1", "median of those who fetch".to_owned()),
        ("c1 area", format!("single peers, {} of all", series.rates.len())),
    ];
    legend.extend(told.map(|host| ("c2", format!("host {host}, the slowest"))));
    let down = |pick: fn(&Spread) -> f64| move |at: usize| words::rate(pick(&series.down[at]));
    let up = |at: usize| words::rate(series.up[at].mid);
    let table = table(
        recording,
        &["Time", "Down, 10 %", "Down, median", "Down, 90 %", "Up, median"],
        &[&down(|it| it.low), &down(|it| it.mid), &down(|it| it.high), &up],
    );
    let figure = Figure {
        id: "rates",
        title: "Download rates",
        says: "What streams bring to peers that are not complete, protocol included.".into(),
        legend,
        plots,
        table: Some(table),
        wide,
    };
    Some(figure.html())
}

/// Mean rates against uplinks: what a peer gets for what it can give.
fn fairness(recording: &Recording, wide: bool) -> Option<String> {
    let peers: Vec<_> = recording.peers.iter().filter(|peer| peer.fetches).collect();
    let most = peers.iter().map(|peer| peer.mean_rate).fold(0.0, f64::max);
    if peers.len() < 2 || most <= 0.0 {
        return None;
    }
    let jain = recording.jain.map_or(String::new(), |jain| format!(" Jain's index is {jain:.3}."));
    let ups: Vec<f64> =
        peers.iter().filter_map(|peer| peer.up_bytes_per_s).map(|up| up as f64).collect();
    let (least_up, most_up) = ups
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(least, most), up| (least.min(*up), most.max(*up)));
    let told = recording.story.as_ref().map(|story| story.host);
    let differ = ups.len() == peers.len() && most_up > least_up * 1.01;
    let mut table = Table::new(&["Host", "Uplink", "Mean download", "Came", "Complete"]);
    let mut ranked = peers.clone();
    ranked.sort_by(|one, other| other.mean_rate.total_cmp(&one.mean_rate));
    for peer in &ranked {
        table.row(vec![
            peer.host.to_string(),
            peer.up_bytes_per_s.map_or_else(|| "any".into(), |up| words::rate(up as f64)),
            words::rate(peer.mean_rate),
            words::seconds(peer.arrives_s),
            peer.complete_s.map_or_else(|| "-".into(), words::seconds),
        ]);
    }
    let title = |peer: &crate::run::record::PeerRecord| {
        format!("host {}: {}", peer.host, words::rate(peer.mean_rate))
    };
    let says = if differ {
        "Mean download rate of each peer, over what its uplink carries: whoever can give more \
         should get more."
    } else {
        "Mean download rate of each peer, from the fastest to the slowest."
    };
    let scale = if most_up >= 1e6 { (1e6, "uplink in MB/s") } else { (1e3, "uplink in kB/s") };
    let x = if differ {
        let pad = 0.03 * (most_up - least_up);
        Axis::between((least_up - pad).max(0.0) / scale.0, (most_up + pad) / scale.0, scale.1)
    } else {
        Axis::up_to((peers.len() - 1) as f64, "peers, fastest first")
    };
    let fill = |plot: &mut Plot| {
        let count = ranked.len();
        let place = |at: usize, up: Option<u64>| {
            if differ { up.unwrap_or(0) as f64 / scale.0 } else { at as f64 }
        };
        if !differ {
            let line = ranked.iter().enumerate();
            plot.line("c1", line.map(|(at, peer)| (at as f64, peer.mean_rate)));
        }
        for (at, peer) in ranked.iter().enumerate() {
            let is_told = Some(peer.host) == told;
            // Of many an even choice, and in a line none but one.
            let is_shown = differ && at % (count / DOTS_MAX + 1) == 0;
            if is_told || is_shown {
                let class = if is_told { "c2" } else { "c1" };
                plot.dot(class, place(at, peer.up_bytes_per_s), peer.mean_rate, &title(peer));
            }
        }
    };
    let y = Axis::rate(most * 1.05);
    let plots = draw(wide, 270.0, "Mean download rates of peers", (&x, &y), fill);
    let figure = Figure {
        id: "fairness",
        title: "What each peer got",
        says: format!("{says}{jain}"),
        legend: told.map(|host| ("c2", format!("host {host}, the slowest"))).into_iter().collect(),
        plots,
        table: Some(table),
        wide,
    };
    Some(figure.html())
}

/// Steps of colour above zero.
const LEVELS: usize = 10;

fn heat(recording: &Recording) -> Option<String> {
    let heat = &recording.heat;
    let (columns, rows) = (heat.at_s.len(), heat.pieces.len());
    let most = heat.copies.iter().flatten().copied().max().unwrap_or(0);
    if columns < 2 || rows == 0 || most == 0 {
        return None;
    }
    let level = |copies: u32| match copies {
        0 => 0,
        // From 1 to LEVELS, evenly on a scale of square roots: a second copy matters more than a
        // hundredth.
        copies => {
            let share = (f64::from(copies - 1) / f64::from(most.max(2) - 1)).sqrt();
            #[expect(clippy::cast_sign_loss, reason = "a share is not negative")]
            let step = (share * (LEVELS - 1) as f64).round() as usize;
            step + 1
        }
    };
    let ends = ends(recording);
    let fill = |plot: &mut Plot| {
        let mut areas: Vec<Vec<[f64; 4]>> = vec![Vec::new(); LEVELS + 1];
        let from = |row: usize| f64::from(heat.pieces[row]);
        let to = |row: usize| {
            heat.pieces
                .get(row + 1)
                .map_or_else(|| f64::from(recording.pieces), |piece| f64::from(*piece))
        };
        let until = |column: usize| heat.at_s.get(column).copied().unwrap_or(ends);
        for row in 0..rows {
            let mut column = 0;
            while column < columns {
                let now = level(heat.copies[column][row]);
                let run = heat.copies[column..]
                    .iter()
                    .take_while(|copies| level(copies[row]) == now)
                    .count();
                areas[now].push([heat.at_s[column], from(row), until(column + run), to(row)]);
                column += run;
            }
        }
        for (level, areas) in areas.into_iter().enumerate() {
            plot.cells(&format!("h{level}"), areas.into_iter());
        }
    };
    let axes = (Axis::time(ends), Axis::up_to(f64::from(recording.pieces), "piece"));
    let plots = draw(true, 300.0, "Copies of each piece over time", (&axes.0, &axes.1), fill);
    let least_of = |wanted: usize| (1..=most).find(|copies| level(*copies) >= wanted);
    let mut legend = vec![("h h0", "nobody who is there has it".to_owned())];
    let keys = ["h h1", "h h4", "h h7", "h h10"];
    for (key, wanted) in keys.into_iter().zip([1, 4, 7, LEVELS]) {
        if let Some(copies) = least_of(wanted) {
            let label = match wanted {
                1 => "1 copy".to_owned(),
                LEVELS => format!("{most} copies"),
                _ => format!("from {copies} on"),
            };
            legend.push((key, label));
        }
    }
    let mut table = Table::new(&["Time", "Rarest piece", "Median piece", "Most common piece"]);
    for (at, column) in heat.at_s.iter().zip(&heat.copies) {
        let mut sorted = column.clone();
        sorted.sort_unstable();
        let cells = [sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]];
        let cells = cells.map(|copies| words::count(u64::from(copies)));
        table.at(*at, std::iter::once(words::seconds(*at)).chain(cells).collect());
    }
    let each = f64::from(recording.pieces) / rows as f64;
    let of = if each > 1.0 {
        format!(" Each row is {each:.1} pieces, and shows the rarest of them.")
    } else {
        String::new()
    };
    let figure = Figure {
        id: "heat",
        title: "Copies of each piece",
        says: format!(
            "How many of those who are there have each piece. Rarest first has all rows grow \
             together; a row that stays dark is a piece that the swarm waits for.{of}"
        ),
        legend,
        plots,
        table: Some(table),
        wide: true,
    };
    Some(figure.html())
}

fn copies(recording: &Recording, wide: bool) -> Option<String> {
    let series = &recording.series;
    let most = series
        .copies
        .iter()
        .map(|spread| spread.high)
        .chain(series.live.iter().copied())
        .fold(0.0, f64::max);
    if series.at_s.len() < 2 || most <= 0.0 {
        return None;
    }
    let axes = (Axis::time(ends(recording)), Axis::number(most, "clients"));
    let fill = |plot: &mut Plot| {
        plot.line("soft dash", series.at_s.iter().copied().zip(series.live.iter().copied()));
        spread(plot, "c3", recording, &series.copies);
    };
    let plots = draw(wide, 250.0, "Availability of pieces over time", (&axes.0, &axes.1), fill);
    let copies =
        |pick: fn(&Spread) -> f64| move |at: usize| format!("{:.0}", pick(&series.copies[at]));
    let live = |at: usize| format!("{:.0}", series.live[at]);
    let table = table(
        recording,
        &["Time", "Rarest", "Median", "Most common", "Clients there"],
        &[&copies(|it| it.low), &copies(|it| it.mid), &copies(|it| it.high), &live],
    );
    let figure = Figure {
        id: "copies",
        title: "Availability",
        says: "Clients that have a piece: from the rarest piece to the most common one, and the \
               median."
            .into(),
        legend: vec![
            ("c3 area", "rarest to most common piece, and the median".into()),
            ("soft dash", "clients that are there".into()),
        ],
        plots,
        table: Some(table),
        wide,
    };
    Some(figure.html())
}

fn connections(recording: &Recording, wide: bool) -> Option<String> {
    let series = &recording.series;
    let most = series.connections.iter().map(|spread| spread.high).fold(0.0, f64::max);
    if series.at_s.len() < 2 || most <= 0.0 {
        return None;
    }
    let axes = (Axis::time(ends(recording)), Axis::number(most, "connections"));
    let fill = |plot: &mut Plot| spread(plot, "c4", recording, &series.connections);
    let plots = draw(wide, 250.0, "Connections of clients over time", (&axes.0, &axes.1), fill);
    let of =
        |pick: fn(&Spread) -> f64| move |at: usize| format!("{:.0}", pick(&series.connections[at]));
    let jain = |at: usize| format!("{:.2}", series.jain[at]);
    let table = table(
        recording,
        &["Time", "10 %", "Median", "90 %", "Jain's index of rates"],
        &[&of(|it| it.low), &of(|it| it.mid), &of(|it| it.high), &jain],
    );
    let figure = Figure {
        id: "connections",
        title: "Connections of a client",
        says: "To peers through their handshake, of all honest clients that are there.".into(),
        legend: vec![("c4 area", "10 to 90 % of the clients, and the median".into())],
        plots,
        table: Some(table),
        wide,
    };
    Some(figure.html())
}

fn clusters(clusters: &Clusters, wide: bool) -> Option<String> {
    let index = clusters.index?;
    let count = clusters.classes.len();
    let names: Vec<String> = clusters
        .classes
        .iter()
        .map(|class| {
            if class.least == class.most {
                words::rate(class.least as f64)
            } else if class.least / 1_000_000 > 0 {
                format!(
                    "{:.1}\u{2013}{:.1} MB/s",
                    class.least as f64 / 1e6,
                    class.most as f64 / 1e6
                )
            } else {
                format!("{}\u{2013}{} kB/s", class.least / 1_000, class.most / 1_000)
            }
        })
        .collect();
    let rows: Vec<String> = names.iter().rev().cloned().collect();
    let times = |giver: usize, taker: usize| {
        let (seen, lot) = (clusters.observed[giver][taker], clusters.by_lot[giver][taker]);
        if lot > 0.0 { seen / lot } else { 0.0 }
    };
    let pairs = || (0..count).flat_map(|giver| (0..count).map(move |taker| (giver, taker)));
    let mut table =
        Table::new(&["Who gives", "Who gets", "Share of slots", "By lot", "Times by lot"]);
    for (giver, taker) in pairs() {
        table.row(vec![
            names[giver].clone(),
            names[taker].clone(),
            words::share(clusters.observed[giver][taker]),
            words::share(clusters.by_lot[giver][taker]),
            format!("{:.2}", times(giver, taker)),
        ]);
    }
    let fill = |plot: &mut Plot| {
        for (giver, taker) in pairs() {
            let times = times(giver, taker);
            // One is the middle of the scale; twice and half are at its ends.
            #[expect(clippy::cast_sign_loss, reason = "clamped to what is there")]
            let level = (5.5 + 4.5 * times.max(0.01).log2()).round().clamp(1.0, 10.0) as usize;
            let (x, y) = (taker as f64, (count - 1 - giver) as f64);
            let area = [x - 0.485, y - 0.47, x + 0.485, y + 0.47];
            plot.cells(&format!("h{level}"), std::iter::once(area));
            let on = if level > 6 { "on-light" } else { "on-dark" };
            plot.text(&format!("big {on}"), x, y, &format!("{times:.2}\u{d7}"));
        }
    };
    let axes = (Axis::names(&names), Axis::names(&rows));
    let title = "Upload slots between classes of peers, against chance";
    let plots = draw(wide, 250.0, title, (&axes.0, &axes.1), fill);
    let peers: Vec<_> = clusters.classes.iter().map(|class| class.peers.to_string()).collect();
    let figure = Figure {
        id: "clusters",
        title: "Who serves whom",
        says: format!(
            "Upload slots that peers gave (rows) to peers (columns), by their uplinks, against what \
             it would be by lot. On the diagonal peers serve their like: {index:.2} times chance in \
             all. There are {} peers in the classes.",
            peers.join(", ")
        ),
        legend: Vec::new(),
        plots,
        table: Some(table),
        wide,
    };
    Some(figure.html())
}

/// What went wrong, when and with whom.
fn spells(recording: &Recording) -> Option<String> {
    if recording.spells.is_empty() {
        return None;
    }
    let kinds = recording.spells_by_kind();
    let names: Vec<String> =
        kinds.keys().rev().take(KINDS_MAX).map(|kind| (*kind).to_owned()).collect();
    let last = recording.spells.iter().map(|spell| spell.to_s.unwrap_or(spell.from_s));
    let ends = last.fold(ends(recording), f64::max);
    let fill = |plot: &mut Plot| {
        for (at, name) in names.iter().enumerate() {
            for spell in kinds.get(&**name).into_iter().flatten().take(SPELLS_MAX) {
                let to = spell.to_s.unwrap_or(spell.from_s);
                let title = format!("{}, {}: {}", who(spell), span(spell), spell.what);
                plot.spell("bad", (spell.from_s, to), at as f64, &title);
            }
        }
        if recording.healed_s > 0.0 {
            plot.rule("faint", recording.healed_s, "from here on all is well");
        }
    };
    let height = 50.0 + 24.0 * names.len() as f64;
    let axes = (Axis::time(ends), Axis::names(&names));
    let plots = draw(true, height, "When each kind of trouble was there", (&axes.0, &axes.1), fill);
    let mut out = Table::new(&["When", "Kind", "Whom", "What"]);
    for spell in recording.spells.iter().take(ROWS_MAX) {
        out.row(vec![span(spell), spell.kind.clone(), who(spell), spell.what.clone()]);
    }
    let left_out =
        recording.spells_left_out + recording.spells.len().saturating_sub(ROWS_MAX) as u64;
    let more = if left_out > 0 {
        format!(" The table lacks {}.", words::many(left_out as usize, "more"))
    } else {
        String::new()
    };
    let figure = Figure {
        id: "spells",
        title: "What went wrong, and when",
        says: format!("As it was carried out, each for one host or for the network.{more}"),
        legend: Vec::new(),
        plots,
        table: None,
        wide: true,
    };
    // The table is no series over x: all of its rows are shown.
    let html = figure.html();
    let details = format!(
        "<details class=\"numbers\"><summary>One by one</summary>{}</details></figure>\n",
        out.html()
    );
    Some(html.replacen("</figure>\n", &details, 1))
}

fn who(spell: &Spell) -> String {
    spell.host.map_or_else(|| "network".into(), |host| format!("host {host}"))
}

fn span(spell: &Spell) -> String {
    match spell.to_s {
        Some(to) => format!("{} to {}", words::seconds(spell.from_s), words::seconds(to)),
        None => words::seconds(spell.from_s),
    }
}

/// Notes as a list.
pub(super) fn notes(notes: &[Note], class: &str) -> String {
    let mut out = format!("<ol class=\"story {class}\">");
    for note in notes {
        let tone = match note.tone {
            Tone::Plain => "plain",
            Tone::Good => "good",
            Tone::Bad => "bad",
        };
        let time = match note.to_s {
            Some(to) => format!("{} \u{2013} {}", words::seconds(note.at_s), words::seconds(to)),
            None => words::seconds(note.at_s),
        };
        let _ = write!(
            out,
            "<li class=\"{tone}\"><time>{}</time><span>{}</span></li>",
            esc(&time),
            esc(&note.what)
        );
    }
    out.push_str("</ol>");
    out
}

fn story(recording: &Recording) -> String {
    let Some(story) = &recording.story else { return String::new() };
    let series = &recording.series;
    let mut out = format!(
        "<section aria-labelledby=\"story\"><h2 id=\"story\">The story of host {}</h2>\
         <p class=\"lead\">Of all honest clients {}.</p><div class=\"cards\">\n",
        story.host,
        esc(&story.why)
    );
    if series.at_s.len() > 1 && series.slowest.len() == series.at_s.len() {
        let fill = |plot: &mut Plot| {
            spread(plot, "c1", recording, &series.progress);
            plot.line("c2", series.at_s.iter().copied().zip(series.slowest.iter().copied()));
            for note in story.notes.iter().filter(|note| note.tone == Tone::Bad) {
                let title = format!("{}: {}", when(note.at_s), note.what);
                plot.tick("bad", note.at_s, &title);
            }
            for failure in recording.failures.iter().filter(|note| note.host == Some(story.host)) {
                if let Some(at) = failure.at_s {
                    plot.rule("bad", at, "the failure");
                }
            }
        };
        let title = "Pieces of the slowest peer and of the others over time";
        let axes = (Axis::time(ends(recording)), Axis::share(1.0));
        let plots = draw(true, 240.0, title, (&axes.0, &axes.1), fill);
        let progress =
            |pick: fn(&Spread) -> f64| move |at: usize| words::share(pick(&series.progress[at]));
        let slowest = |at: usize| words::share(series.slowest[at]);
        let table = table(
            recording,
            &["Time", "This peer", "10 %", "Median", "90 %"],
            &[&slowest, &progress(|it| it.low), &progress(|it| it.mid), &progress(|it| it.high)],
        );
        let figure = Figure {
            id: "progress",
            title: "Pieces it has, against the others",
            says: "Marks on the time axis are what hindered it.".into(),
            legend: vec![
                ("c2", format!("host {}", story.host)),
                ("c1 area", "10 to 90 % of those who fetch, and the median".into()),
            ],
            plots,
            table: Some(table),
            wide: true,
        };
        out.push_str(&figure.html());
    }
    let _ = write!(out, "<div class=\"card wide\">{}", notes(&story.notes, ""));
    if !story.tail.is_empty() {
        let _ = write!(
            out,
            "<details style=\"margin-top:10px\"><summary>The last that it told</summary>{}</details>",
            notes(&story.tail, "short")
        );
    }
    out.push_str("</div></div></section>\n");
    out
}

/// Streams one by one: window, delay, in flight, losses. Left out if nobody measured any.
fn streams(recording: &Recording) -> String {
    let measured: Vec<&StreamSeries> =
        recording.streams.iter().filter(|stream| stream.samples().len() > 1).collect();
    if measured.is_empty() {
        return String::new();
    }
    let mut out = String::from(
        "<section aria-labelledby=\"streams\"><h2 id=\"streams\">Streams</h2><p class=\"lead\">\
         Of a few hosts those that carried most: congestion window and bytes in flight, delay, and \
         losses.</p><div class=\"cards\">\n",
    );
    for (number, stream) in measured.into_iter().enumerate() {
        out.push_str(&stream_window(number, stream));
        out.push_str(&stream_delay(number, stream));
    }
    out.push_str("</div></section>\n");
    out
}

fn stream_window(number: usize, stream: &StreamSeries) -> String {
    let samples = stream.samples();
    let ends = samples.last().map_or(0.0, |sample| sample.at_s);
    let most = samples.iter().map(|it| it.window_bytes.max(it.in_flight_bytes)).max().unwrap_or(0);
    let axis = Axis::number(most as f64 / 1024.0, "KiB");
    let mut plot = Plot::new(500.0, 250.0, Axis::time(ends), axis);
    let of = |pick: fn(&crate::run::record::StreamSample) -> u64| {
        samples.iter().map(move |sample| (sample.at_s, pick(sample) as f64 / 1024.0))
    };
    plot.line("c3", of(|it| it.in_flight_bytes));
    plot.line("c1", of(|it| it.window_bytes));
    for pair in samples.windows(2) {
        if pair[1].losses > pair[0].losses {
            let lost = pair[1].losses - pair[0].losses;
            plot.tick("bad", pair[1].at_s, &format!("{}: {lost} sent again", when(pair[1].at_s)));
        }
    }
    let mut table = Table::new(&["Time", "Window", "In flight", "Sent again so far"]);
    for sample in samples {
        table.at(
            sample.at_s,
            vec![
                words::seconds(sample.at_s),
                words::bytes(sample.window_bytes),
                words::bytes(sample.in_flight_bytes),
                words::count(sample.losses),
            ],
        );
    }
    Figure {
        id: &format!("stream-{number}"),
        title: &stream.name,
        says:
            "Congestion window and bytes in flight. Marks on the time axis are segments sent again."
                .into(),
        legend: vec![
            ("c1", "congestion window".into()),
            ("c3", "in flight".into()),
            ("bad box", "sent again".into()),
        ],
        plots: vec![plot.finish(&format!("Window and bytes in flight of {}", stream.name))],
        table: Some(table),
        wide: false,
    }
    .html()
}

fn stream_delay(number: usize, stream: &StreamSeries) -> String {
    let samples = stream.samples();
    let ends = samples.last().map_or(0.0, |sample| sample.at_s);
    let most = samples.iter().map(|it| it.round_trip_s.max(it.queueing_s)).fold(0.0, f64::max);
    let axis = Axis::number(most * 1e3, "ms");
    let mut plot = Plot::new(500.0, 250.0, Axis::time(ends), axis);
    plot.line("c2", samples.iter().map(|it| (it.at_s, it.queueing_s * 1e3)));
    plot.line("c4", samples.iter().map(|it| (it.at_s, it.round_trip_s * 1e3)));
    let mut table = Table::new(&["Time", "Round trip", "Queueing"]);
    for sample in samples {
        let ms = |s: f64| format!("{:.1} ms", s * 1e3);
        let cells =
            vec![words::seconds(sample.at_s), ms(sample.round_trip_s), ms(sample.queueing_s)];
        table.at(sample.at_s, cells);
    }
    Figure {
        id: &format!("stream-{number}-delay"),
        title: &stream.name,
        says: "Smoothed round trip, and what of it is queueing.".into(),
        legend: vec![("c4", "round trip".into()), ("c2", "queueing".into())],
        plots: vec![plot.finish(&format!("Delay of {}", stream.name))],
        table: Some(table),
        wide: false,
    }
    .html()
}
