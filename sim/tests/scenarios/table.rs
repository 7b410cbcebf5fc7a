//! The table of scenarios: what it says is true, and how much of it is tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Tests that there are at least: `table.md`'s own while it stands alone, then all.
const TESTS_MIN: [usize; 3] = [70, 156, 183];

#[derive(Debug, Default)]
struct Counts {
    names: usize,
    tests: usize,
    not_built: usize,
    not_applicable: usize,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

/// The cells of the rows of a table, its header left out, and where each row is: the heading that
/// it stands under, and its line.
fn rows<'a>(file: &'a str, text: &'a str) -> impl Iterator<Item = (&'a str, String, Vec<&'a str>)> {
    let mut heading = "";
    text.lines().enumerate().filter_map(move |(number, line)| {
        if line.starts_with('#') {
            heading = line;
        }
        let cells = line.strip_prefix('|')?.strip_suffix('|')?;
        let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
        let header = cells[0] == "name" || cells[0].starts_with("---");
        (!header).then(|| (heading, format!("{file}:{}", number + 1), cells))
    })
}

/// Whether `source` has this function as a test that is run.
fn has_test(source: &str, function: &str) -> bool {
    let signature = format!("fn {function}() ");
    let Some(at) = source.lines().position(|line| line.trim_start().starts_with(&signature)) else {
        return false;
    };
    let lines: Vec<&str> = source.lines().take(at).collect();
    let attributes = lines.iter().rev().take_while(|line| line.trim_start().starts_with("#["));
    let attributes: Vec<&str> = attributes.map(|line| line.trim()).collect();
    attributes.contains(&"#[test]") && !attributes.iter().any(|line| line.starts_with("#[ignore"))
}

/// A module's source, if `main.rs` makes it part of this binary.
fn source_of(module: &str) -> String {
    let main = fs::read_to_string(folder().join("main.rs")).expect("this binary's root");
    assert!(main.lines().any(|line| line == format!("mod {module};")), "no module {module}");
    fs::read_to_string(folder().join(format!("{module}.rs"))).expect("a module of this binary")
}

#[test]
fn every_scenario_is_named_once_and_every_named_test_is_there() {
    let files = ["table.md", "table_sessions.md", "table_transfers.md"];
    let texts: Vec<(&str, String)> = files
        .iter()
        .filter_map(|file| Some((*file, fs::read_to_string(folder().join(file)).ok()?)))
        .collect();
    assert_eq!(texts.first().map(|(file, _)| *file), Some("table.md"));
    let mut counts = Counts::default();
    let mut seen = BTreeMap::new();
    let mut held: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, text) in &texts {
        for (heading, place, cells) in rows(file, text) {
            let [name, kind, what] = cells[..] else { panic!("{place}: three cells") };
            assert!(!name.is_empty() && name.len() <= 80, "{place}: {name:?} is no name");
            // Two groups of tests may each have one of that name.
            if let Some(before) = seen.insert((heading, name), place.clone()) {
                panic!("{place}: {name} is in {before} already");
            }
            counts.names += 1;
            match kind {
                "test" => {
                    // What comes after the name of the test is a note.
                    let test = what.split([' ', ',', ';']).next().unwrap_or_default();
                    let test = test.trim_matches('`');
                    let Some((module, function)) = test.split_once("::") else {
                        panic!("{place}: {test:?} is not module::function");
                    };
                    assert!(has_test(&source_of(module), function), "{place}: no test {test}");
                    held.entry(test.to_owned()).or_default().push(name.to_owned());
                    counts.tests += 1;
                }
                "not built yet" | "not applicable" => {
                    assert!(what.len() >= 3, "{place}: why?");
                    let count = if kind == "not applicable" {
                        &mut counts.not_applicable
                    } else {
                        &mut counts.not_built
                    };
                    *count += 1;
                }
                other => panic!("{place}: {other:?} is no kind of row"),
            }
        }
    }
    for (test, names) in held.iter().filter(|(_, names)| names.len() > 1) {
        println!("{test} holds {}", names.join(", "));
        assert!(names.len() <= 2, "{test} can hardly hold all of {names:?}");
    }
    let Counts { names, tests, not_built, not_applicable } = counts;
    println!(
        "scenario table: {names} names, {tests} tests, {not_built} not built yet, \
         {not_applicable} not applicable"
    );
    let least = TESTS_MIN[texts.len() - 1];
    assert!(tests >= least, "{tests} tests of at least {least}");
}

#[test]
fn a_test_that_is_missing_or_ignored_does_not_count() {
    let source = "#[test]\nfn one() {\n}\n#[test]\n#[ignore]\nfn two() {\n}\nfn three() {\n}\n";
    assert!(has_test(source, "one"));
    assert!(!has_test(source, "two") && !has_test(source, "three") && !has_test(source, "on"));
}
