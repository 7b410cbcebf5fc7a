//! How many stateful executions a core does in a second: each target on mutations of its corpus,
//! for so many seconds; `cargo run --release -p teem-fuzz --example throughput -- [SECONDS [MIN]]`.
//! With names of targets as further arguments, only those. Ends with a failure if all targets
//! together do fewer than MIN a second.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use teem_fuzz::mutate::Mutator;
use teem_fuzz::{STATEFUL, Stateful, seeds};

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    executions: u64,
    bytes: u64,
    inputs: u64,
    time: Duration,
}

impl Counts {
    fn print(&self, name: &str) {
        let per_s = self.per_s();
        let (bytes, inputs) = (self.bytes / self.executions, self.inputs / self.executions);
        println!("{name}: {per_s} executions/s, of {bytes} bytes and {inputs} inputs on average");
    }

    fn per_s(&self) -> u64 {
        self.executions * 1_000 / (self.time.as_millis() as u64).max(1)
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut numbers = args.iter().filter_map(|arg| arg.parse::<u64>().ok());
    let (seconds, min) = (numbers.next().unwrap_or(5), numbers.next().unwrap_or(0));
    let names: Vec<&String> = args.iter().filter(|arg| arg.parse::<u64>().is_err()).collect();
    let mut all = Counts::default();
    let wanted = |target: &&Stateful| names.is_empty() || names.iter().any(|n| *n == target.name);
    for target in STATEFUL.iter().filter(wanted) {
        let counts = measure(target, Duration::from_secs(seconds));
        counts.print(target.name);
        all.executions += counts.executions;
        all.bytes += counts.bytes;
        all.inputs += counts.inputs;
        all.time += counts.time;
    }
    all.print("all stateful targets");
    if all.per_s() < min {
        println!("fewer than {min}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[expect(clippy::disallowed_methods, reason = "what is measured is time")]
fn measure(target: &Stateful, time: Duration) -> Counts {
    let of_it = seeds::corpus().into_iter().filter(|seed| seed.target == target.name);
    let corpus: Vec<_> = of_it.map(|seed| seed.bytes).collect();
    let mut mutator = Mutator::new(&corpus, 1);
    let mut counts = Counts::default();
    let start = Instant::now();
    while counts.time < time {
        for _ in 0..64 {
            let input = mutator.input();
            counts.executions += 1;
            counts.bytes += input.len() as u64;
            counts.inputs += (target.run)(&input);
        }
        counts.time = start.elapsed();
    }
    counts
}
