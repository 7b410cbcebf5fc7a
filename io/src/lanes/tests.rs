//! Lanes against `sha1` and `sha2`, one message at a time.

use proptest::prelude::*;
use sha1::Digest as _;
use teem_core::hash::{BLOCK, HashAlgorithm, Stream};

use super::*;

const ALGORITHMS: [HashAlgorithm; 2] = [HashAlgorithm::Sha1, HashAlgorithm::Sha256];

fn expected(algorithm: HashAlgorithm, message: &[u8]) -> Vec<u8> {
    match algorithm {
        HashAlgorithm::Sha1 => sha1::Sha1::digest(message).to_vec(),
        _ => sha2::Sha256::digest(message).to_vec(),
    }
}

/// Bytes that differ everywhere.
fn message(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(0x9e37) >> 7) as u8 ^ (at + 31 * salt) as u8).collect()
}

/// Hashes streams of a number of steps, each of a number of parts, and compares every digest.
fn check(lanes: Lanes, streams: &[(HashAlgorithm, Vec<Vec<Vec<u8>>>)]) -> Tally {
    let mut tally = Tally::default();
    let mut states: Vec<_> = streams.iter().map(|(algorithm, _)| Stream::new(*algorithm)).collect();
    let steps_max = streams.iter().map(|(_, steps)| steps.len()).max().unwrap_or(0);
    for at in 0..steps_max {
        let mut set: Vec<_> = states
            .iter_mut()
            .zip(streams)
            .filter_map(|(state, (_, steps))| {
                steps.get(at).map(|parts| Step { state, parts: parts.as_slice() })
            })
            .collect();
        tally += lanes.update(&mut set);
    }
    for (state, (algorithm, steps)) in states.into_iter().zip(streams) {
        let whole = steps.concat().concat();
        let mut alone = Stream::new(*algorithm);
        alone.update(&whole);
        assert_eq!(state, alone, "the state is as if it had been hashed alone");
        assert_eq!(state.finish().as_bytes(), expected(*algorithm, &whole));
    }
    tally
}

fn here() -> bool {
    let here = Lanes::Auto.worth(HashAlgorithm::Sha1).is_some();
    if !here {
        eprintln!("no lanes on this processor: what is asserted of them is left out");
    }
    here
}

#[test]
fn every_number_of_lanes_hashes_right() {
    for algorithm in ALGORITHMS {
        for count in 0..=2 * LANES + 1 {
            let streams: Vec<_> =
                (0..count).map(|n| (algorithm, vec![vec![message(20 * BLOCK, n)]])).collect();
            let tally = check(Lanes::Auto, &streams);
            assert_eq!(tally.in_lanes + tally.alone, 20 * count as u64, "{count} {algorithm:?}");
            if here() && count >= LANES {
                assert!(tally.in_lanes >= 20 * LANES as u64, "{count} {algorithm:?}: {tally:?}");
            }
            assert_eq!(check(Lanes::Off, &streams).in_lanes, 0);
        }
    }
}

#[test]
fn a_lane_that_ends_takes_the_next_stream() {
    for algorithm in ALGORITHMS {
        let streams: Vec<_> = (0..100)
            .map(|n| (algorithm, vec![vec![message(BLOCK * (1 + n * 7 % 40) + n % 3, n)]]))
            .collect();
        let tally = check(Lanes::Auto, &streams);
        if here() {
            assert!(tally.in_lanes * 10 > tally.room * 8, "mostly full: {tally:?}");
            assert!(tally.in_lanes > 20 * tally.alone, "hardly any alone: {tally:?}");
        }
    }
}

#[test]
fn a_single_stream_is_hashed_alone() {
    let tally = check(Lanes::Auto, &[(HashAlgorithm::Sha1, vec![vec![message(1 << 16, 1)]])]);
    assert_eq!((tally.in_lanes, tally.room, tally.alone), (0, 0, 1024));
}

#[test]
fn both_algorithms_may_be_in_one_set() {
    let streams: Vec<_> =
        (0..40).map(|n| (ALGORITHMS[n % 2], vec![vec![message(1000 + n, n)]])).collect();
    check(Lanes::Auto, &streams);
}

#[test]
fn leaves_of_a_piece_are_hashed_at_once() {
    let piece = message(16 * 16384 + 77, 0);
    let leaves: Vec<&[u8]> = piece.chunks(16384).collect();
    let digests = Lanes::Auto.digests(HashAlgorithm::Sha256, &leaves);
    assert_eq!(digests.len(), 17);
    for (digest, leaf) in digests.iter().zip(leaves) {
        assert_eq!(digest.as_bytes(), expected(HashAlgorithm::Sha256, leaf));
    }
}

/// A stream: steps, of parts, of bytes; short parts and long ones.
fn stream() -> impl Strategy<Value = (HashAlgorithm, Vec<Vec<Vec<u8>>>)> {
    let len = prop_oneof![0..3_usize, 0..200_usize, 60..70_usize, Just(BLOCK), 0..3000_usize];
    let part = (len, any::<u8>()).prop_map(|(len, salt)| message(len, salt.into()));
    let steps = prop::collection::vec(prop::collection::vec(part, 0..6), 1..4);
    (prop::sample::select(&ALGORITHMS[..]), steps)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Any number of streams, of any length, cut anywhere into steps and parts.
    #[test]
    fn streams_cut_anywhere_have_the_hash_that_they_have_whole(
        streams in prop::collection::vec(stream(), 0..40),
    ) {
        check(Lanes::Auto, &streams);
        check(Lanes::Off, &streams);
    }

    /// Every number of full lanes, of one function, at once; random bytes.
    #[test]
    fn lanes_do_not_mix(
        count in 1..=LANES + 1,
        seed in prop::collection::vec(any::<u8>(), 64..640),
    ) {
        for algorithm in ALGORITHMS {
            let streams: Vec<_> = (0..count)
                .map(|n| {
                    let mut bytes = seed.clone();
                    bytes.rotate_left(n);
                    bytes[0] ^= n as u8;
                    (algorithm, vec![vec![bytes]])
                })
                .collect();
            check(Lanes::Auto, &streams);
        }
    }
}
