//! Twenty thousand mutations of the corpus for each target, the same ones every time.

use teem_fuzz::mutate::Mutator;
use teem_fuzz::{TARGETS, seeds};

/// Inputs for each target.
const INPUTS: usize = 20_000;

fn run(names: &[&str]) {
    let mut ran = 0;
    for target in TARGETS.iter().filter(|target| names.contains(&target.name)) {
        let of_it = seeds::seeds().into_iter().filter(|seed| seed.target == target.name);
        let corpus: Vec<_> = of_it.map(|seed| seed.bytes).collect();
        let mut mutator = Mutator::new(&corpus, 0x7ee4);
        for _ in 0..INPUTS {
            let input = mutator.input();
            let shown = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(shown.is_ok(), "{}: {}", target.name, input.escape_ascii());
        }
        ran += 1;
    }
    assert_eq!(ran, names.len(), "every name is a target's");
}

const DECODERS: &[&str] = &[
    "bencode",
    "extension_handshake",
    "handshake",
    "http_request",
    "http_response",
    "magnet",
    "metainfo",
    "peer_stream",
    "resume",
    "trace",
    "tracker_http",
    "tracker_udp",
];
const MODELS: &[&str] = &["choker", "picker_model", "timers"];
const MACHINES: &[&str] = &["session_peer"];

#[test]
fn decoders_keep_their_promises() {
    run(DECODERS);
}

#[test]
fn data_structures_agree_with_their_models() {
    run(MODELS);
}

#[test]
fn a_session_keeps_its_promises() {
    run(MACHINES);
}

#[test]
fn no_target_is_left_out() {
    assert_eq!(DECODERS.len() + MODELS.len() + MACHINES.len(), TARGETS.len());
}
