//! Running the real program: its exit code, its JSON events, its words.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;

use serde_json::Value;
use teem_core::rng::Seed;
use tempfile::TempDir;

pub fn teem(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_teem"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

pub fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The last event of this name.
pub fn event(output: &Output, name: &str) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.rfind(|event| event["event"] == name).unwrap_or_else(|| {
        panic!("no {name:?} in:\n{text}\n{}", stderr(output));
    })
}

/// A folder with content and a torrent of it.
pub struct Yard {
    pub folder: TempDir,
    pub content: Vec<u8>,
}

impl Yard {
    /// One file of random bytes, `seed/data.bin`, and `data.torrent`.
    pub fn new(len: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut content = vec![0; len];
        Seed::from_number(len as u64).stream("content", 0).fill(&mut content);
        std::fs::create_dir(folder.path().join("seed")).expect("made");
        std::fs::write(folder.path().join("seed/data.bin"), &content).expect("written");
        Self { folder, content }.with_torrent()
    }

    /// A folder `seed/data.bin` of files with random bytes, and `data.torrent`.
    pub fn folder(files: &[(&str, usize)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("seed/data.bin");
        std::fs::create_dir_all(&data).expect("made");
        for (number, (name, len)) in files.iter().enumerate() {
            let mut content = vec![0; *len];
            Seed::from_number(number as u64).stream("content", 0).fill(&mut content);
            std::fs::write(data.join(name), &content).expect("written");
        }
        Self { folder, content: Vec::new() }.with_torrent()
    }

    fn with_torrent(self) -> Self {
        self.remake(&[]);
        self
    }

    /// Makes the torrent again, with these arguments too.
    pub fn remake(&self, extra: &[&str]) {
        let (data, torrent) = (self.text("seed/data.bin"), self.text("data.torrent"));
        let own = ["create", &data, "-o", &torrent, "--piece-size", "256K"];
        let made = teem(&[&own, extra].concat());
        assert_eq!(code(&made), 0, "{}", stderr(&made));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// A seeder of the content, and the address of it.
    pub fn seeder(&self, extra: &[&str]) -> (Running, String) {
        let (torrent, folder) = (self.text("data.torrent"), self.text("seed"));
        let mut args =
            vec!["seed", &torrent, &folder, "--bind", "127.0.0.1", "--port", "0", "--json"];
        args.extend_from_slice(extra);
        let mut seeder = Running::start(&args);
        let port = seeder.await_event("listening")["port"].as_u64().expect("a port");
        seeder.await_event("ready");
        (seeder, format!("127.0.0.1:{port}"))
    }

    /// The arguments of a download into `to`.
    pub fn get(&self, to: &str, extra: &[&str]) -> Vec<String> {
        let (torrent, to) = (self.text("data.torrent"), self.text(to));
        let own = ["get", &torrent, "-o", &to, "--bind", "127.0.0.1", "--port", "0", "--json"];
        own.into_iter().chain(extra.iter().copied()).map(str::to_owned).collect()
    }

    /// A file of a [`folder`](Self::folder) as it was downloaded to `to`.
    pub fn file(&self, to: &str, name: &str) -> PathBuf {
        self.path(to).join("data.bin").join(name)
    }

    pub fn is_file_complete(&self, to: &str, name: &str) -> bool {
        let read = |folder| std::fs::read(self.file(folder, name));
        read(to).is_ok_and(|got| got == read("seed").expect("it is there"))
    }

    pub fn is_complete(&self, to: &str) -> bool {
        std::fs::read(self.path(to).join("data.bin")).is_ok_and(|data| data == self.content)
    }
}

pub fn run(args: &[String]) -> Output {
    teem(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The program, running; killed when dropped.
pub struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
    errors: Option<thread::JoinHandle<String>>,
}

impl Running {
    pub fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_teem"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut stderr = child.stderr.take().expect("piped");
        let errors = thread::Builder::new()
            .spawn(move || {
                let mut text = String::new();
                drop(stderr.read_to_string(&mut text));
                text
            })
            .expect("a thread");
        Self { child, lines, errors: Some(errors) }
    }

    /// Reads events up to one of this name.
    pub fn await_event(&mut self, name: &str) -> Value {
        self.await_that(name, |_| true)
    }

    pub fn await_that(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line).expect("readable");
            assert!(!line.is_empty(), "it ended before {name:?}: {}", self.end().1);
            let event: Value = serde_json::from_str(&line).expect("JSON");
            if event["event"] == name && fits(&event) {
                return event;
            }
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process"), signal).expect("it runs");
    }

    /// Waits for the end: the exit code (none: killed), standard error, the rest of the output.
    pub fn end(&mut self) -> (Option<i32>, String, String) {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).expect("readable");
        let status = self.child.wait().expect("it ends");
        let errors = self.errors.take().map_or_else(String::new, |e| e.join().expect("no panic"));
        (status.code(), errors, rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn torrent_of(bytes: &[u8], folder: &Path) -> String {
    let path = folder.join("broken.torrent");
    std::fs::write(&path, bytes).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

pub fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}
