//! `teem sim replay`: a run once more, told line by line.

use std::io::{BufWriter, Stdout, Write};

use teem_sim::net::Logged;
use teem_sim::run::Observer;

use super::args::Replay;
use super::trace::time;
use super::{one, out};
use crate::Outcome;
use crate::failure::Failure;

pub(crate) fn run(replay: &Replay) -> Outcome {
    let scenario = super::load(&replay.scenario, replay.how)?;
    let plan = scenario.draw(replay.seed, replay.how.swarm);
    if let Some(host) = replay.hosts.iter().find(|host| **host >= plan.hosts.len()) {
        let last = plan.hosts.len() - 1;
        return Err(Failure::Input(format!("--host {host}: there are hosts 0 to {last}")));
    }
    let mut teller = Teller {
        to: BufWriter::with_capacity(1 << 16, std::io::stdout()),
        until: replay.until.unwrap_or(u64::MAX),
        hosts: &replay.hosts,
        gone: false,
    };
    let observer: &mut dyn Observer = &mut teller;
    let done = one::run(&scenario, &replay.scenario, replay.seed, replay.how, Some(observer));
    // Whoever read it is gone: nobody to tell.
    let _ = teller.to.flush();
    out::tell(&format!("{} seed {}", scenario.name, replay.seed), &done, true);
    if done.summary.failed {
        return Err(Failure::Incomplete("the run failed".into()));
    }
    Ok(())
}

struct Teller<'a> {
    to: BufWriter<Stdout>,
    until: u64,
    hosts: &'a [usize],
    /// Nobody reads it any more.
    gone: bool,
}

impl Observer for Teller<'_> {
    fn on_logged(&mut self, logged: &Logged) {
        let wanted = self.hosts.is_empty() || self.hosts.contains(&logged.host);
        if self.gone || !wanted || logged.at.0 >= self.until {
            return;
        }
        let line = format!("{:>14}  host {:<4} {}", time(logged.at.0), logged.host, logged.what);
        self.gone = writeln!(self.to, "{line}").is_err();
    }
}
