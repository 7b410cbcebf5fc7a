//! Feeds mutated inputs to a target, or to all of them in turn, for so many seconds each, and ends
//! with the input of the first broken promise:
//! `cargo run --release -p teem-fuzz --example hunt -- SECONDS [TARGET [SEED]]`.
//!
//! It needs no nightly compiler, and sees no coverage: libFuzzer finds more.

use std::io::Write as _;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use teem_fuzz::mutate::Mutator;
use teem_fuzz::{TARGETS, Target, seeds};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(10);
    let only = args.next();
    let seed = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(1);
    let mut found = false;
    for target in TARGETS.iter().filter(|target| only.as_ref().is_none_or(|n| n == target.name)) {
        found |= hunt(target, seed, Duration::from_secs(seconds));
    }
    if found { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[expect(clippy::disallowed_methods, reason = "how long to search is told in seconds")]
fn hunt(target: &Target, seed: u64, time: Duration) -> bool {
    let of_it = seeds::corpus().into_iter().filter(|seed| seed.target == target.name);
    let corpus: Vec<_> = of_it.map(|seed| seed.bytes).collect();
    let mut mutator = Mutator::new(&corpus, seed);
    let start = Instant::now();
    let mut count = 0_u64;
    while start.elapsed() < time {
        let input = mutator.input();
        count += 1;
        if catch_unwind(|| (target.run)(&input)).is_err() {
            let input = shrink(target, input);
            println!("{}: after {count}: {}", target.name, input.escape_ascii());
            let _ = catch_unwind(|| (target.run)(&input));
            return true;
        }
    }
    println!("{}: {count} inputs", target.name);
    let _ = std::io::stdout().flush();
    false
}

/// Leaves out of an input what is not needed to fail.
fn shrink(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut len = input.len();
    while len > 0 {
        let mut at = 0;
        while at < input.len() {
            let end = (at + len).min(input.len());
            let shorter = [&input[..at], &input[end..]].concat();
            if catch_unwind(|| (target.run)(&shorter)).is_err() {
                input = shorter;
            } else {
                at = end;
            }
        }
        len /= 2;
    }
    std::panic::set_hook(hook);
    input
}
