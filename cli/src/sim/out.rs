//! Where results go: lines of JSON for programs, and words for people.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
pub(super) use teem_sim::report::count;

use super::one::Done;
use crate::failure::Failure;
use crate::{report, size};

/// Lines of JSON, in a file, on standard output, or nowhere.
#[derive(Debug)]
pub(super) enum JsonOut {
    Nowhere,
    Stdout,
    File(PathBuf, File),
}

impl JsonOut {
    /// A file is made anew.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        match path {
            None => Ok(Self::Nowhere),
            Some(path) if is_stdout(path) => Ok(Self::Stdout),
            Some(path) => {
                let file = File::create(path).map_err(|error| Failure::file(path, &error))?;
                Ok(Self::File(path.to_owned(), file))
            }
        }
    }

    /// A file that lines are added to. One that was cut short in a line begins another.
    pub(super) fn append(path: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::file(path, &error);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1)).map_err(failed)?;
            file.read_exact(&mut last).map_err(failed)?;
            if last != *b"\n" {
                file.write_all(b"\n").map_err(failed)?;
            }
        }
        Ok(Self::File(path.to_owned(), file))
    }

    /// Whether standard output is for programs.
    pub(super) const fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }

    /// A line: an object with a member `event` and others.
    pub(super) fn write(&mut self, event: &str, members: Value) -> Result<(), Failure> {
        let mut all = Map::new();
        all.insert("event".into(), event.into());
        if let Value::Object(members) = members {
            all.extend(members);
        }
        let text = Value::Object(all).to_string();
        match self {
            Self::Nowhere => {}
            Self::Stdout => report::line(&text),
            Self::File(path, file) => file
                .write_all(format!("{text}\n").as_bytes())
                .map_err(|error| Failure::file(path, &error))?,
        }
        Ok(())
    }
}

/// Whether a path stands for standard output.
pub(super) fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// How a run ended, in a line; and below it what was wrong, also (`all`) if that must be.
pub(super) fn tell(what: &str, done: &Done, all: bool) {
    let summary = &done.summary;
    let verdict = match (summary.failed, done.must_fail) {
        (false, _) if summary.stopped => "stopped, ok so far",
        (false, false) => "ok    ",
        (true, false) => "FAILED",
        (true, true) => "failed, as it must",
        (false, true) => "DID NOT FAIL, and must",
    };
    report::hint(&format!(
        "{what}: {verdict}  {} of {} complete  {} in {}  {} events  {}",
        summary.complete,
        summary.honest,
        seconds(summary.virtual_s),
        seconds(summary.wall_s),
        count(summary.events),
        if summary.digest.is_empty() { "no digest" } else { &summary.digest },
    ));
    if all || summary.failed || !done.is_right() {
        for failure in &summary.failures {
            report::hint(&format!("    {failure}"));
        }
    }
}

/// Rows of a name and a value.
pub(super) fn table(rows: &[(&str, String)]) {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in rows {
        report::line(&format!("{name:<width$}  {value}"));
    }
}

/// Seconds, with as many digits as matter.
pub(super) fn seconds(s: f64) -> String {
    match s {
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 120.0 => format!("{s:.1} s"),
        #[expect(clippy::cast_sign_loss, reason = "times are not negative")]
        s => size::show_time(std::time::Duration::from_secs(s as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(12_345_678), "12,345,678");
        assert_eq!(seconds(0.125), "0.12 s");
        assert_eq!(seconds(74.25), "74.2 s");
        assert_eq!(seconds(3_700.0), "1h 01m");
    }

    #[test]
    fn a_file_that_was_cut_short_goes_on_in_a_new_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("results");
        std::fs::write(&path, "{\"a\":1}\n{\"b").expect("written");
        let mut out = JsonOut::append(&path).expect("there");
        out.write("run", serde_json::json!({ "c": 2 })).expect("written");
        let text = std::fs::read_to_string(&path).expect("there");
        assert_eq!(text, "{\"a\":1}\n{\"b\n{\"event\":\"run\",\"c\":2}\n");
    }
}
