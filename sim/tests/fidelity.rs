//! Ten swarms in `flow` and in `packet` fidelity: they take about as long.
//!
//! Eger, Hossfeld, Binzenhoefer and Kunzmann (2007) found up to 30 % between the two for their
//! swarms, which is the gate; 15 % is the aim, and met by the mean of the ten. They are short: packet by
//! packet, streams begin slowly and wait in queues at slow uplinks.

use teem_sim::run::{Outcome, run};
use teem_sim::scenario::{Fidelity, Scenario};

/// What each has in common.
const COMMON: &str = "content = \"4 MiB\"\npiece = \"64 KiB\"\ndegree = 12\n";

const SEEDER: &str = "[[peers]]\nrole = \"seeder\"\nup = \"800 kB/s\"\nlatency = \"10 ms\"\n";

/// By name: leechers, and lines before them.
const SWARMS: [(&str, &str, &str); 10] = [
    ("equal", "", "count = 20\nup = \"200 kB/s\"\ndown = \"1 MB/s\"\nlatency = \"10 ms\""),
    (
        "various",
        "",
        "count = 20\nup = \"50..400 kB/s\"\ndown = \"1..4 MB/s\"\nlatency = \"2..40 ms\"",
    ),
    (
        "far apart",
        "between = \"80 ms\"",
        "count = 16\nup = \"200 kB/s\"\ndown = \"1 MB/s\"\nlatency = \"5..60 ms\"",
    ),
    (
        "near",
        "between = \"1 ms\"",
        "count = 16\nup = \"1 MB/s\"\ndown = \"4 MB/s\"\nlatency = \"1 ms\"",
    ),
    ("few", "", "count = 3\nup = \"200 kB/s\"\ndown = \"1 MB/s\"\nlatency = \"10 ms\""),
    (
        "slow to receive",
        "",
        "count = 16\nup = \"400 kB/s\"\ndown = \"150 kB/s\"\nlatency = \"10 ms\"",
    ),
    (
        "lossy",
        "",
        "count = 16\nup = \"200 kB/s\"\ndown = \"1 MB/s\"\nlatency = \"10 ms\"\nloss = \"0.2 %\"",
    ),
    (
        "come one by one",
        "",
        "count = 20\nup = \"200 kB/s\"\ndown = \"1 MB/s\"\nlatency = \"10 ms\"\narrival = { poisson_per_s = 1 }",
    ),
    (
        "bloated",
        "",
        "count = 16\nup = \"150 kB/s\"\ndown = \"1 MB/s\"\nlatency = \"10 ms\"\nline = { up_queue = \"256 KiB\" }",
    ),
    (
        "controlled",
        "",
        "count = 16\nup = \"150 kB/s\"\ndown = \"1 MB/s\"\nlatency = \"10 ms\"\nline = { discipline = \"codel\", up_queue = \"1 MB\", down_queue = \"1 MB\" }",
    ),
];

/// When the last one of twenty peers is done is a matter of luck: by two seeds a swarm is up to a tenth
/// off its mean.
const SEEDS: u64 = 8;

fn simulate(name: &str, head: &str, leechers: &str, fidelity: Fidelity, seed: u64) -> Outcome {
    let text = format!("{head}\n{COMMON}{SEEDER}[[peers]]\nrole = \"leecher\"\n{leechers}\n");
    let mut scenario = Scenario::parse(name, &text).expect(name);
    scenario.fidelity = fidelity;
    let outcome = run(scenario.draw(seed, false), None);
    assert_eq!(outcome.failures, [], "{name}");
    assert_eq!(outcome.summary.complete, outcome.summary.honest, "{name}");
    outcome
}

#[test]
fn ten_swarms_take_as_long_packet_by_packet_as_by_rates() {
    let (mut close, mut worst, mut sum) = (0, 0.0_f64, 0.0);
    for (name, head, leechers) in SWARMS {
        let took = |fidelity| {
            let all = (0..SEEDS)
                .map(|seed| simulate(name, head, leechers, fidelity, seed).summary.took_s);
            all.sum::<f64>() / SEEDS as f64
        };
        let (flow, packet) = (took(Fidelity::Flow), took(Fidelity::Packet));
        let more = packet / flow - 1.0;
        println!("{name:>16}: flow {flow:6.1} s, packet {packet:6.1} s, {:+.1} %", more * 100.0);
        assert!(more.abs() <= 0.3, "{name}: {flow} and {packet}");
        close += usize::from(more.abs() <= 0.15);
        worst = worst.max(more.abs());
        sum += more.abs();
    }
    let mean = sum / SWARMS.len() as f64;
    println!("{close} of 10 within 15 %, the mean differs by {:.1} %", mean * 100.0);
    println!("the worst differs by {:.1} %", worst * 100.0);
    assert!(close >= 5, "{close} of 10 are within 15 %");
    assert!(mean <= 0.15, "they differ by {mean} on average");
}
