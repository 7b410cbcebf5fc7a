//! `docs/first-simulation.md`, done as it is written: a fresh crate outside of this workspace, its
//! files, its commands, and what they say.
//!
//! Two things are not as written: the crate comes from here and not from a registry, and nothing is
//! fetched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The document.
const TEXT: &str = include_str!("../../docs/first-simulation.md");

/// A piece of it that is between fences.
struct Block {
    language: &'static str,
    body: &'static str,
    /// What is said before it.
    before: &'static str,
}

fn blocks() -> Vec<Block> {
    let parts: Vec<&'static str> = TEXT.split("```").collect();
    assert!(parts.len() % 2 == 1, "every fence is closed");
    let fenced = parts.chunks_exact(2).map(|pair| {
        let (language, body) = pair[1].split_once('\n').expect("a fence is a line");
        Block { language, body, before: pair[0] }
    });
    fenced.collect()
}

impl Block {
    /// The file that what is said before it tells to put it into.
    fn path(&self) -> &'static str {
        let parts: Vec<&str> = self.before.rsplit('`').collect();
        assert!(self.before.trim_end().ends_with(':') || parts.len() > 1, "{}", self.before);
        parts[1]
    }
}

/// A project of somebody who is new, outside of this workspace.
struct Project {
    folder: PathBuf,
    sim: PathBuf,
    target: PathBuf,
}

impl Project {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        // In one place, so that what was built is of use the next time.
        let folder = std::env::temp_dir().join(format!("teem-newcomer-{}", mark_of(root)));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("src")).expect("made");
        fs::create_dir_all(folder.join("tests")).expect("made");
        fs::write(folder.join("src/lib.rs"), "//! Nothing yet.\n").expect("written");
        let manifest = "[package]\nname = \"mine\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
        fs::write(folder.join("Cargo.toml"), manifest).expect("written");
        // The versions that are here: others would have to be fetched.
        fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).expect("copied");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("newcomer");
        Self { folder, sim: root.join("sim"), target }
    }

    /// Does a command of the document.
    fn run(&self, command: &str) -> Output {
        let mut words: Vec<&str> = command.split_whitespace().collect();
        let sim = self.sim.to_str().expect("UTF-8").to_owned();
        let program = match words.remove(0) {
            "cargo" => {
                if words[0] == "add" {
                    assert_eq!(words, ["add", "--dev", "teem-sim"]);
                    words.extend(["--path", &sim]);
                }
                std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
            }
            "teem" => env!("CARGO_BIN_EXE_teem").to_owned(),
            other => panic!("{other} is no program that a newcomer has"),
        };
        let mut command = Command::new(program);
        command
            .args(&words)
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_NET_OFFLINE", "true")
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("RUST_BACKTRACE", "0");
        // How this test was built is no matter of theirs.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "LLVM_PROFILE_FILE", "RUSTC_WRAPPER"] {
            command.env_remove(name);
        }
        command.output().expect("it runs")
    }
}

/// Something short that other checkouts have otherwise.
fn mark_of(root: &Path) -> String {
    let digest = teem_core::hash::sha1(root.to_string_lossy().as_bytes());
    format!("{:08x}", u32::from_be_bytes(digest[..4].try_into().expect("four bytes")))
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn the_first_simulation_goes_as_it_is_written() {
    let project = Project::new();
    let (mut commands, mut shown) = (0, String::new());
    for block in blocks() {
        match block.language {
            "rust" => {
                assert!(block.body.lines().count() <= 36, "a test of some thirty lines");
                fs::write(project.folder.join(block.path()), block.body).expect("written");
            }
            "sh" => {
                for command in block.body.lines() {
                    let output = project.run(command);
                    shown = said(&output);
                    let fails = command.ends_with("hurry");
                    assert_eq!(output.status.success(), !fails, "{command}: {shown}");
                    commands += 1;
                }
            }
            "text" => {
                assert!(
                    shown.contains(block.body.trim_end()),
                    "{}\nis not in\n{shown}",
                    block.body
                );
                let (_, small) = block.body.split_once("\n\n# fails").expect("the smallest");
                let small = small.split_once("\n\n").map_or(small, |(file, _)| file);
                let path = project.folder.join("hurry-0.toml");
                fs::write(path, format!("# fails{small}\n")).expect("written");
            }
            "console" => {
                for line in block.body.lines() {
                    let command = line.strip_prefix("$ ").expect("a command");
                    let output = project.run(command);
                    let code = i32::from(!command.contains(" shrink "));
                    if let Some((_, page)) = command.split_once("--report ") {
                        let page = project.folder.join(page).join("index.html");
                        let page = fs::read_to_string(page).expect("a page");
                        let failed = "host 1 has 0 of 1 pieces";
                        assert!(page.contains(failed), "the page says what was wrong");
                    }
                    assert_eq!(output.status.code(), Some(code), "{command}: {}", said(&output));
                    commands += 1;
                }
            }
            other => panic!("{other}: nobody runs that"),
        }
    }
    assert_eq!(commands, 6);
}
