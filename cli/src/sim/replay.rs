//! `teem sim replay`: a run once more, told line by line.

use std::io::{BufWriter, Stdout, Write};
use std::ops::ControlFlow;

use teem_sim::net::Logged;
use teem_sim::run::Observer;

use super::args::Replay;
use super::capture::CaptureOut;
use super::trace::time;
use super::{one, out};
use crate::Outcome;
use crate::failure::Failure;

pub(crate) fn run(replay: &Replay) -> Outcome {
    let scenario = super::load(&replay.scenario, replay.how)?;
    let seed = replay.seed.or(scenario.seed).unwrap_or(0);
    let plan = scenario.draw(seed, replay.how.swarm);
    if let Some(host) = replay.hosts.iter().find(|host| **host >= plan.hosts.len()) {
        let last = plan.hosts.len() - 1;
        return Err(Failure::Input(format!("--host {host}: there are hosts 0 to {last}")));
    }
    let capture = CaptureOut::create(&replay.capture, &scenario, seed, replay.how)?;
    let (capture, capturing) = capture.unzip();
    let mut teller = Teller {
        to: BufWriter::with_capacity(1 << 16, std::io::stdout()),
        until: replay.until.unwrap_or(u64::MAX),
        hosts: &replay.hosts,
        gone: false,
    };
    let observer: &mut dyn Observer = &mut teller;
    let (name, how) = (&replay.scenario, replay.how);
    let (done, captured) =
        one::run_captured(&scenario, name, seed, how, Some(observer), false, capturing);
    // Whoever read it is gone: nobody to tell.
    let _ = teller.to.flush();
    out::tell(&format!("{} seed {}", scenario.name, seed), &done, true);
    let told = capture.map_or(Ok(()), |capture| capture.tell(captured));
    if done.summary.failed {
        return Err(Failure::Incomplete("the run failed".into()));
    }
    told
}

struct Teller<'a> {
    to: BufWriter<Stdout>,
    until: u64,
    hosts: &'a [usize],
    /// Nobody reads it any more.
    gone: bool,
}

impl Observer for Teller<'_> {
    /// Goes on to the end if nobody said until when, to tell how it ends.
    fn on_logged(&mut self, logged: &Logged) -> ControlFlow<()> {
        if self.gone || logged.at.0 >= self.until {
            return ControlFlow::Break(());
        }
        if self.hosts.is_empty() || self.hosts.contains(&logged.host) {
            let Logged { at, host, what, .. } = logged;
            self.gone = writeln!(self.to, "{:>14}  host {host:<4} {what}", time(at.0)).is_err();
        }
        ControlFlow::Continue(())
    }
}
