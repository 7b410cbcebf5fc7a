//! Runs every target on its committed corpus, once: what coverage is measured on.

use teem_fuzz::{TARGETS, seeds};

fn main() {
    let corpus = seeds::corpus();
    for target in TARGETS {
        let of_it = corpus.iter().filter(|seed| seed.target == target.name);
        let count = of_it.map(|seed| (target.run)(&seed.bytes)).count();
        println!("{}: {count} inputs", target.name);
    }
}
