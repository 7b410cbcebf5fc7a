//! What has harmed other engines in the field: each attack against a session of ours.

use std::fs;
use std::path::Path;

use teem_core::ids::PieceIndex;
use teem_core::peer::{CloseReason, Misbehaviour};
use teem_core::session::Config;
use teem_core::time::Duration;
use teem_core::wire::{BlockRequest, Message};
use teem_sim::swarm::{Swarm, ip};

use crate::stage::{PIECE_LEN, Stage, banned};

/// A client whose disk fails fetches the same piece for ever; whole ranges of addresses were banned
/// for that.
#[test]
fn a_peer_that_fetches_a_piece_again_and_again_is_closed_and_others_are_served() {
    let mut stage = Stage::seeding(9);
    let guest = stage.guest();
    stage.send(guest, &Message::Interested);
    stage.wait(Duration::from_secs(1));
    let request = BlockRequest { piece: PieceIndex(0), begin: 0, length: PIECE_LEN };
    let mut rounds = 0;
    while stage.closings().is_empty() {
        rounds += 1;
        assert!(rounds < 1_000, "it is served for ever");
        for _ in 0..50 {
            stage.send(guest, &Message::Request(request));
        }
        stage.wait(Duration::from_millis(200));
    }
    assert_eq!(stage.closings(), [CloseReason::Misbehaved(Misbehaviour::EndlessRequests)]);
    let blocks = stage.got(guest).filter(|got| matches!(got, Message::Piece { .. })).count();
    assert!(blocks >= 1_000, "{blocks}: a clumsy peer is not closed for a few");

    let (seed, leecher) = (stage.session, stage.swarm.leecher(Config::default()));
    stage.swarm.introduce(leecher, &[seed]);
    assert!(stage.swarm.run(60, |swarm| swarm.is_complete(leecher)));
}

#[test]
fn of_ten_seeders_the_one_that_sends_wrong_bytes_is_banned_and_nobody_else() {
    let mut swarm = Swarm::new(4_000_000, 64 << 10, 33);
    let seeders: Vec<_> = (0..10).map(|_| swarm.seeder(Config::default())).collect();
    let poisoner = seeders[4];
    let ready = |swarm: &Swarm| seeders.iter().all(|seeder| swarm.is_complete(*seeder));
    assert!(swarm.run(10, ready));
    swarm.damage(poisoner, |bytes| {
        for block in bytes.chunks_mut(16 << 10).step_by(3) {
            block[7] ^= 1;
        }
    });
    let leecher = swarm.leecher(Config::default());
    swarm.introduce(leecher, &seeders);
    assert!(swarm.run(300, |swarm| swarm.is_complete(leecher)));
    assert_eq!(banned(&swarm, leecher), [ip(poisoner)]);
}

#[test]
fn every_threat_that_is_met_names_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/threats.md")).expect("the page");
    let (mut met, mut tests, mut open) = (0, 0, 0);
    for row in page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|')).skip(1) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [threat, done, named] = cells[..] else { panic!("{row}: three cells") };
        if done.starts_with("not built yet") {
            open += 1;
            continue;
        }
        for test in named.split(", ") {
            let (file, function) = test.split_once("::").unwrap_or_else(|| panic!("{threat}"));
            let source = fs::read_to_string(root.join(file)).unwrap_or_default();
            let mut lines = source.lines().map(str::trim);
            let there =
                lines.by_ref().take_while(|line| !line.starts_with(&format!("fn {function}(")));
            let attribute = there.filter(|line| !line.is_empty()).last();
            assert_eq!(attribute, Some("#[test]"), "{threat}: {test}");
            tests += 1;
        }
        met += 1;
    }
    println!("threats: {met} met, with {tests} tests; {open} not built yet");
    assert!(met >= 18 && tests >= 43 && open == 0, "{met} {tests} {open}");
}
