//! `teem sim diff`: the first event in which two traces differ.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;

use super::args::Diff;
use super::out::count;
use super::trace::{Line, MAGIC, time};
use crate::failure::Failure;
use crate::{Outcome, report};

pub(crate) fn run(diff: &Diff) -> Outcome {
    let (header_a, mut a) = open(&diff.a)?;
    let (header_b, mut b) = open(&diff.b)?;
    if header_a != header_b {
        report::hint(&format!(
            "these are not of the same run:\n  A {}\n  B {}",
            header_a.trim_start_matches(MAGIC).trim(),
            header_b.trim_start_matches(MAGIC).trim()
        ));
    }
    let mut before = VecDeque::new();
    let mut events = 0;
    loop {
        let (one, other) = (next(&mut a, &diff.a)?, next(&mut b, &diff.b)?);
        match (one, other) {
            (None, None) => {
                report::line(&format!("the same: {} events", count(events)));
                return Ok(());
            }
            (Some(one), Some(other)) if one == other => {
                events += 1;
                before.push_back(one);
                if before.len() > diff.before {
                    before.pop_front();
                }
            }
            (one, other) => {
                show(events, &before, one.as_deref(), other.as_deref());
                return Err(Failure::Incomplete(format!(
                    "the traces differ after {} events",
                    count(events)
                )));
            }
        }
    }
}

fn show(events: u64, before: &VecDeque<String>, one: Option<&str>, other: Option<&str>) {
    report::line(&format!("the first {} events are the same; then", count(events)));
    for line in before {
        report::line(&format!("    {}", readable(line)));
    }
    let end = "(it ends here)".to_owned();
    report::line(&format!("  A {}", one.map_or_else(|| end.clone(), readable)));
    report::line(&format!("  B {}", other.map_or(end, readable)));
    if let (Some(one), Some(other)) = (one.and_then(Line::parse), other.and_then(Line::parse)) {
        let mut differ = Vec::new();
        for (name, differs) in [
            ("the time", one.at != other.at),
            ("the host", one.host != other.host),
            ("what it was told", one.what != other.what),
        ] {
            if differs {
                differ.push(name);
            }
        }
        if differ.is_empty() {
            // The digest holds contents too, and what the host sent in between.
            differ.push("what the bytes were, or what the host did before");
        }
        report::line(&format!("what differs: {}", differ.join(", ")));
    }
}

fn readable(line: &str) -> String {
    Line::parse(line).map_or_else(
        || line.to_owned(),
        |line| format!("{}  host {}  {}  [{}]", time(line.at), line.host, line.what, line.digest),
    )
}

type Events = Lines<BufReader<File>>;

/// The header, and the events behind it.
fn open(path: &Path) -> Result<(String, Events), Failure> {
    let file = File::open(path).map_err(|error| Failure::file(path, &error))?;
    let mut lines = BufReader::with_capacity(1 << 16, file).lines();
    match next(&mut lines, path)? {
        Some(header) if header.starts_with(MAGIC) => Ok((header, lines)),
        _ => Err(Failure::Input(format!(
            "{}: is not a trace; `teem sim run SCENARIO --seed N --trace FILE` writes one",
            path.display()
        ))),
    }
}

fn next(lines: &mut Events, path: &Path) -> Result<Option<String>, Failure> {
    lines.next().transpose().map_err(|error| Failure::file(path, &error))
}
