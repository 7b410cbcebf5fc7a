//! One running program: started with a clean environment, its output in a log file, ended by its id.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;

/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// How long a program may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(3);

/// Lines of a log that a report shows.
const LOG_TAIL_LINES: usize = 40;

/// How a program tells that its work is done.
#[derive(Debug, Clone)]
pub(crate) enum Sign {
    /// It exits with status 0.
    Exit,
    /// It makes this file.
    File(PathBuf),
    /// It prints this.
    Prints(&'static str),
    /// It listens on this TCP port.
    Listens(u16),
}

/// A program that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Starts a program in `folder`, with its home there and its output in `folder/log`.
    pub(crate) fn start(name: &str, folder: &Path, mut command: Command) -> Result<Self, Failure> {
        let log = folder.join("log");
        let doing = || Failure::io(format!("starting {name} ({})", command_line(&command)));
        let io = doing();
        let file = File::create(&log).map_err(doing())?;
        let err = file.try_clone().map_err(doing())?;
        // Proxies and the like of whoever runs the tests are none of the programs' business.
        let child = command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LANG", "C.UTF-8")
            .env("RUST_BACKTRACE", "1")
            .env("HOME", folder)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(err)
            .spawn()
            .map_err(io)?;
        Ok(Self { name: name.to_owned(), child, log, ended: None })
    }

    /// Waits for a sign, and fails if the program ends without it.
    pub(crate) fn wait(&mut self, sign: &Sign, deadline: Instant) -> Result<(), Failure> {
        let begin = Instant::now();
        loop {
            let ended = self.poll()?;
            let seen = match sign {
                Sign::Exit => ended.is_some_and(|status| status.success()),
                Sign::File(path) => path.exists(),
                Sign::Prints(text) => self.printed().contains(text),
                Sign::Listens(port) => someone_listens(*port),
            };
            if seen {
                return Ok(());
            }
            if let Some(status) = ended {
                return Err(Failure::Ended { program: self.name.clone(), status });
            }
            if Instant::now() > deadline {
                return Err(Failure::TimedOut {
                    waiting_for: format!("{}: {sign:?}", self.name),
                    limit: begin.elapsed(),
                });
            }
            sleep(GLANCE);
        }
    }

    /// Fails if the program has ended.
    pub(crate) fn must_run(&mut self) -> Result<(), Failure> {
        match self.poll()? {
            Some(status) => Err(Failure::Ended { program: self.name.clone(), status }),
            None => Ok(()),
        }
    }

    /// Asks the program to end, insists after a while, and waits until it has.
    pub(crate) fn stop(&mut self) {
        let begin = Instant::now();
        // The id is ours until the wait in `poll` has taken the exit status.
        if self.poll().is_ok_and(|ended| ended.is_none()) {
            let _already_gone = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
        while self.poll().is_ok_and(|ended| ended.is_none()) {
            if begin.elapsed() > GRACE {
                let _already_gone = self.child.kill();
            }
            sleep(GLANCE);
        }
    }

    /// The end of the log, for a report.
    pub(crate) fn report(&self) -> String {
        let mut printed = self.printed();
        // What it logs elsewhere, since it cannot log here.
        if let Ok(more) = fs::read(self.log.with_file_name("more.log")) {
            printed.push_str(&String::from_utf8_lossy(&more));
        }
        let lines: Vec<&str> = printed.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
        format!("--- {}, last {} lines:\n{}", self.name, tail.len(), tail.join("\n"))
    }

    fn poll(&mut self) -> Result<Option<ExitStatus>, Failure> {
        if self.ended.is_none() {
            let io = Failure::io(format!("waiting for {}", self.name));
            self.ended = self.child.try_wait().map_err(io)?;
        }
        Ok(self.ended)
    }

    fn printed(&self) -> String {
        fs::read(&self.log).map(|it| String::from_utf8_lossy(&it).into_owned()).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn command_line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

/// Whether any TCP socket of this network namespace listens on the port.
fn someone_listens(port: u16) -> bool {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"].iter().any(|table| {
        fs::read_to_string(table).unwrap_or_default().lines().any(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let local = fields.next().unwrap_or_default();
            local.ends_with(&suffix) && fields.nth(1) == Some(LISTEN)
        })
    })
}
