//! Twenty thousand mutations of the corpus for each target, the same ones every time; fewer for
//! those that run whole swarms.

use teem_fuzz::mutate::Mutator;
use teem_fuzz::{TARGETS, seeds};

/// Inputs for each target.
const INPUTS: usize = 20_000;

/// Inputs for each target that runs a swarm.
const SWARM_INPUTS: usize = 60;

/// Inputs for each target that works out secrets, which takes long.
const SECRET_INPUTS: usize = 3_000;

fn run(names: &[&str], inputs: usize) {
    let mut ran = 0;
    for target in TARGETS.iter().filter(|target| names.contains(&target.name)) {
        let of_it = seeds::corpus().into_iter().filter(|seed| seed.target == target.name);
        let corpus: Vec<_> = of_it.map(|seed| seed.bytes).collect();
        let mut mutator = Mutator::new(&corpus, 0x7ee4);
        for _ in 0..inputs {
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
    "gzip",
    "handshake",
    "http_request",
    "http_response",
    "magnet",
    "metadata_message",
    "metainfo",
    "peer_stream",
    "resume",
    "trace",
    "tracker_http",
    "tracker_udp",
];
const MODELS: &[&str] = &["choker", "picker_model", "timers"];
const MACHINES: &[&str] = &[
    "echo",
    "fetch",
    "session_api",
    "session_hashes",
    "session_peer",
    "storage_jobs",
    "tracker_client",
    "tracker_datagrams",
    "tracker_server",
];
/// Each of these shakes hands twice, at eight powers of 768 bits a time.
const SECRETS: &[&str] = &["mse"];
/// Each of these is a run of thirty seconds of several machines: fewer of them.
const SWARMS: &[&str] = &["swarm_scenario"];

#[test]
fn decoders_keep_their_promises() {
    run(DECODERS, INPUTS);
}

#[test]
fn data_structures_agree_with_their_models() {
    run(MODELS, INPUTS);
}

#[test]
fn machines_keep_their_promises() {
    run(MACHINES, INPUTS);
}

#[test]
fn handshakes_with_secrets_keep_their_promises() {
    run(SECRETS, SECRET_INPUTS);
}

#[test]
fn swarms_keep_their_promises() {
    run(SWARMS, SWARM_INPUTS);
}

#[test]
fn no_target_is_left_out() {
    let names = [DECODERS, MODELS, MACHINES, SECRETS, SWARMS];
    assert_eq!(names.iter().map(|names| names.len()).sum::<usize>(), TARGETS.len());
}
