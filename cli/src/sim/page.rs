//! `--report`: a page of HTML about runs.

use std::fs;
use std::path::{Path, PathBuf};

use teem_sim::report::{Group, Report, Reported, page};
use teem_sim::scenario::{BUNDLED, Scenario};

use super::one::{self, Done};
use crate::failure::Failure;
use crate::report;

/// The page in its folder.
const PAGE: &str = "index.html";

/// A page that grows with each run, and is written at the end.
#[derive(Debug)]
pub(super) struct PageOut {
    folder: PathBuf,
    report: Report,
}

impl PageOut {
    /// Makes the folder, and makes sure that the page can be written: nobody wants to hear that
    /// after an hour.
    pub(super) fn create(folder: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
        let path = folder.join(PAGE);
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| Failure::file(&path, &error))?;
        Ok(Self { folder: folder.to_owned(), report: Report::default() })
    }

    /// Adds a run to a group, and takes what was recorded from it.
    pub(super) fn add(&mut self, group: usize, done: &mut Done) {
        while self.report.groups.len() <= group {
            self.report.groups.push(Group::default());
        }
        self.report.groups[group].add(Reported {
            summary: done.summary.clone(),
            recording: done.recording.take().map(|recording| *recording),
            must_fail: done.must_fail,
            again: done.again.clone(),
        });
    }

    /// What the next group is about; of the first, so is the page.
    pub(super) fn about(&mut self, scenario: &Scenario, name: &str) {
        let at = self.report.files.len();
        if let Some(group) = self.report.groups.get_mut(at) {
            group.name.clone_from(&scenario.name);
        }
        if at == 0 {
            self.report.title.clone_from(&scenario.name);
            self.report.about.clone_from(&scenario.about);
        } else {
            self.report.title = format!("{} against {}", self.report.title, scenario.name);
            self.report.about = String::new();
        }
        let bundled = BUNDLED.iter().find(|bundled| bundled.name == name);
        // It was read a moment ago; if it is gone the page has all but that.
        let text = bundled.map_or_else(
            || fs::read_to_string(name).unwrap_or_default(),
            |bundled| bundled.text.to_owned(),
        );
        self.report.files.push((scenario.name.clone(), text));
    }

    /// Writes the page. `command` makes the runs; this adds what makes the page.
    pub(super) fn finish(mut self, command: &str) -> Result<(), Failure> {
        let folder = one::quoted(&self.folder.to_string_lossy());
        self.report.command = format!("{command} --report {folder}");
        let path = self.folder.join(PAGE);
        fs::write(&path, page(&self.report)).map_err(|error| Failure::file(&path, &error))?;
        report::hint(&format!("the report is in {}", path.display()));
        Ok(())
    }
}
