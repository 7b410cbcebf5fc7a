//! `--junit`: results as the XML that JUnit's Ant task wrote and that CI systems read.
//!
//! One suite, a case for each seed. Text is escaped; what XML 1.0 does not allow at all becomes
//! U+FFFD.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::one::Done;
use super::out;
use crate::failure::Failure;
use crate::report;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct JunitOut {
    /// None: standard output.
    to: Option<(PathBuf, File)>,
    suite: String,
    cases: String,
    tests: usize,
    failures: usize,
}

impl JunitOut {
    /// A file is made anew.
    pub(super) fn open(path: &Path, suite: &str) -> Result<Self, Failure> {
        let to = if out::is_stdout(path) {
            None
        } else {
            let file = File::create(path).map_err(|error| Failure::file(path, &error))?;
            Some((path.to_owned(), file))
        };
        let suite = suite.to_owned();
        Ok(Self { to, suite, cases: String::new(), tests: 0, failures: 0 })
    }

    /// A run. In a sweep one that must fail is right if it does.
    pub(super) fn add(&mut self, done: &Done, is_sweep: bool) {
        let summary = &done.summary;
        let is_right = if is_sweep { done.is_right() } else { !summary.failed };
        self.tests += 1;
        let _ = write!(
            self.cases,
            "  <testcase classname=\"{}\" name=\"seed {}\" time=\"{:.3}\"",
            esc(&self.suite),
            summary.seed,
            summary.wall_s
        );
        if is_right {
            self.cases.push_str("/>\n");
            return;
        }
        self.failures += 1;
        let first = match summary.failures.first() {
            Some(first) => first,
            None => "the run did not fail, and must",
        };
        let mut text = format!("to see it again:\n    {}\n", done.again);
        for failure in &summary.failures {
            let _ = write!(text, "\n{failure}");
        }
        if !summary.digest.is_empty() {
            let _ = write!(text, "\n\ndigest {}", summary.digest);
        }
        let _ = write!(
            self.cases,
            ">\n    <failure message=\"{}\" type=\"simulation\">{}</failure>\n  </testcase>\n",
            esc(first),
            esc(&text)
        );
    }

    pub(super) fn finish(self, wall_s: f64) -> Result<(), Failure> {
        let Self { to, suite, cases, tests, failures } = self;
        let counts = format!(
            "tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" \
             time=\"{wall_s:.3}\""
        );
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n\
             <testsuite name=\"{}\" {counts}>\n{cases}</testsuite>\n</testsuites>",
            esc(&suite)
        );
        match to {
            None => report::line(&text),
            Some((path, mut file)) => {
                let written = file.write_all(format!("{text}\n").as_bytes());
                written.map_err(|error| Failure::file(&path, &error))?;
            }
        }
        Ok(())
    }
}

fn esc(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(letter),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_text_in_xml() {
        assert_eq!(esc("a<b>&\"c\"\u{1}\n"), "a&lt;b&gt;&amp;&quot;c&quot;\u{fffd}\n");
    }
}
