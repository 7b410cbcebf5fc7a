use super::*;
use crate::rng::Seed;
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::BTreeSet;
use std::vec;

fn rng(seed: u64) -> crate::rng::Rng {
    Seed::from_number(seed).stream("choker", 0)
}

fn id(number: u32) -> StreamId {
    StreamId::from_parts(number, 1)
}

/// Connected long before the test began.
fn old(number: u32) -> Candidate {
    let connected = Instant::ORIGIN - Duration::from_hours(1);
    Candidate { interested: true, ..Candidate::new(id(number), connected) }
}

/// Peers whose slots follow what a choker says, as a torrent would have it.
struct Swarm {
    now: Instant,
    peers: Vec<Candidate>,
    choker: Box<dyn Choker>,
    changes: u32,
}

impl Swarm {
    fn new(count: u32, choker: impl Choker + 'static) -> Self {
        let peers = (0..count).map(old).collect();
        Self { now: Instant::ORIGIN, peers, choker: Box::new(choker), changes: 0 }
    }

    fn round(&mut self, slots: usize) -> Vec<StreamId> {
        let mut out = Vec::new();
        self.choker.unchoke(self.now, &self.peers, slots, &mut out);
        for peer in &mut self.peers {
            match (out.contains(&peer.id), peer.unchoked_since) {
                (true, None) => {
                    peer.unchoked_since = Some(self.now);
                    peer.last_unchoked = Some(self.now);
                    peer.uploaded_since_unchoke = 0;
                    self.changes += 1;
                }
                (false, Some(_)) => {
                    peer.unchoked_since = None;
                    self.changes += 1;
                }
                _ => {}
            }
        }
        self.now += ROUND;
        out
    }
}

#[test]
fn the_three_that_send_most_are_unchoked_and_one_more() {
    let mut swarm = Swarm::new(10, TitForTat::new(rng(1)));
    for (peer, rate) in swarm.peers.iter_mut().zip([5, 90, 7, 70, 1, 80, 2, 3, 4, 6]) {
        peer.received_rate = rate * 1000;
    }
    let out = swarm.round(4);
    assert_eq!(out[..3], [id(1), id(5), id(3)]);
    assert_eq!(out.len(), 4);
}

#[test]
fn incumbents_keep_their_slots_among_equals() {
    let mut swarm = Swarm::new(20, TitForTat::new(rng(2)));
    swarm.peers.iter_mut().for_each(|peer| peer.received_rate = 50_000);
    let first: BTreeSet<_> = swarm.round(4)[..3].iter().copied().collect();
    for _ in 0..50 {
        let out = swarm.round(4);
        assert_eq!(out[..3].iter().copied().collect::<BTreeSet<_>>(), first);
    }
    // The optimistic slot went round every third round; each time one came and one went.
    assert_eq!(swarm.changes, 4 + 2 * (50 / 3));
}

#[test]
fn an_incumbent_is_beaten_by_a_clearly_faster_peer_and_not_by_a_hair() {
    let mut swarm = Swarm::new(2, TitForTat::new(rng(2)));
    swarm.peers[0].received_rate = 100_000;
    assert_eq!(swarm.round(1), [id(0)]);
    swarm.peers[1].received_rate = 101_000;
    assert_eq!(swarm.round(1), [id(0)]);
    swarm.peers[1].received_rate = 120_000;
    assert_eq!(swarm.round(1), [id(1)]);
}

#[test]
fn the_optimistic_slot_goes_round_fairly() {
    let mut swarm = Swarm::new(20, TitForTat::new(rng(3)));
    for peer in &mut swarm.peers[..3] {
        peer.received_rate = 1_000_000;
    }
    let mut turns = vec![0; 20];
    let mut last = None;
    for round in 0..17 * 300 {
        let out = swarm.round(4);
        if round % 3 == 0 {
            assert_ne!(last, Some(out[3]), "somebody else each time");
            turns[out[3].slot() as usize] += 1;
        } else {
            assert_eq!(last, Some(out[3]), "for three rounds");
        }
        last = Some(out[3]);
    }
    assert_eq!(turns[..3], [0, 0, 0]);
    assert!(turns[3..].iter().all(|turns| *turns == 100), "{turns:?}");
}

#[test]
fn a_newcomer_is_three_times_as_likely() {
    let mut newcomer = 0;
    for seed in 0..2_000 {
        let mut swarm = Swarm::new(8, TitForTat::new(rng(seed)));
        swarm.peers[7].connected_at = swarm.now;
        newcomer += u32::from(swarm.round(1) == [id(7)]);
    }
    assert!((520..680).contains(&newcomer), "{newcomer} of 2000, three tenths expected");
}

#[test]
fn who_took_a_free_slot_keeps_it_for_its_time_and_no_longer() {
    let mut swarm = Swarm::new(3, TitForTat::new(rng(13)));
    let since = swarm.now - Duration::from_millis(9_900);
    swarm.peers[1].unchoked_since = Some(since);
    swarm.peers[1].last_unchoked = Some(since);
    assert_eq!([swarm.round(1), swarm.round(1)], [[id(1)], [id(1)]]);
    // The third round comes 29.9 seconds after it began.
    let next = swarm.round(1)[0];
    assert_ne!(next, id(1));
    assert_eq!([swarm.round(1), swarm.round(1)], [[next], [next]]);
    assert!(![next, id(1)].contains(&swarm.round(1)[0]));
    swarm.round(1);
    swarm.round(1);
    assert_eq!(swarm.round(1), [id(1)], "then it is its turn again");
}

#[test]
fn a_peer_that_snubs_us_gets_nothing_but_its_turn() {
    let mut swarm = Swarm::new(10, TitForTat::new(rng(4)));
    swarm.peers.iter_mut().for_each(|peer| peer.received_rate = 1000);
    swarm.peers[0].received_rate = 1_000_000;
    swarm.peers[0].snubbed = true;
    let turns = (0..300).filter(|_| swarm.round(4).contains(&id(0))).count();
    assert!((15..90).contains(&turns), "{turns} of 300 rounds, a seventh expected");
}

#[test]
fn when_everybody_snubs_us_every_slot_looks_for_somebody_else() {
    let mut swarm = Swarm::new(40, TitForTat::new(rng(5)));
    swarm.peers.iter_mut().for_each(|peer| peer.snubbed = true);
    let mut seen = BTreeSet::new();
    for _ in 0..60 {
        let out = swarm.round(4);
        assert_eq!(out.len(), 4);
        seen.extend(out);
    }
    assert!(seen.len() > 30, "{}", seen.len());
}

#[test]
fn an_optimistic_peer_that_pays_back_earns_a_slot() {
    let mut swarm = Swarm::new(10, TitForTat::new(rng(6)));
    for peer in &mut swarm.peers[..3] {
        peer.received_rate = 10_000;
    }
    let lucky = swarm.round(4)[3];
    swarm.peers[lucky.slot() as usize].received_rate = 90_000;
    let out = swarm.round(4);
    assert_eq!(out[0], lucky);
    assert_eq!(out.len(), 4);
    (0..20).for_each(|_| assert_eq!(swarm.round(4)[0], lucky));
}

#[test]
fn who_reciprocates_is_served_more_than_who_does_not() {
    let mut swarm = Swarm::new(20, TitForTat::new(rng(7)));
    let mut rounds = [0_u32; 2];
    for _ in 0..600 {
        let out = swarm.round(4);
        for peer in &mut swarm.peers {
            let fair = peer.id.slot() < 6;
            let unchoked = out.contains(&peer.id);
            rounds[usize::from(fair)] += u32::from(unchoked);
            peer.received_rate = if fair && unchoked { 50_000 } else { 0 };
        }
    }
    // Six that give back, fourteen that take.
    assert!(rounds[1] / 6 > 5 * (rounds[0] / 14), "{rounds:?}");
}

#[test]
fn who_takes_and_gives_nothing_waits_until_all_others_had_their_turn() {
    let mut swarm = Swarm::new(12, TitForTat::new(rng(14)));
    for (peer, rate) in swarm.peers.iter_mut().zip([900, 800, 700]) {
        peer.received_rate = rate;
    }
    for peer in &mut swarm.peers[3..8] {
        peer.sent = CREDIT + 4;
    }
    let turns = |swarm: &mut Swarm| -> BTreeSet<u32> {
        let out = (0..24).flat_map(|_| swarm.round(4));
        out.map(Key::slot).filter(|at| *at > 2).collect()
    };
    assert_eq!(turns(&mut swarm), BTreeSet::from([8, 9, 10, 11]), "not tried yet");
    // One gives enough now, and of the others nobody wants anything any more.
    swarm.peers[5].received = swarm.peers[5].sent / RETURN_MIN;
    assert!(turns(&mut swarm).is_subset(&BTreeSet::from([5, 8, 9, 10, 11])));
    swarm.peers[8..].iter_mut().for_each(|peer| peer.interested = false);
    turns(&mut swarm);
    swarm.peers[5].interested = false;
    assert_eq!(turns(&mut swarm), BTreeSet::from([3, 4, 6, 7]), "then it is their turn");
    assert_eq!(swarm.round(8).len(), 4, "and they have no more than that one slot");
    swarm.peers[..3].iter_mut().for_each(|peer| peer.interested = false);
    assert_eq!(swarm.round(8).len(), 4, "but all that nobody else wants");
}

#[test]
fn a_seed_serves_those_that_take_most_and_tries_others() {
    let mut swarm = Swarm::new(10, FastestUpload::new(rng(8)));
    swarm.peers.iter_mut().for_each(|peer| peer.snubbed = true);
    for (peer, rate) in swarm.peers.iter_mut().zip([0, 900, 0, 700, 800]) {
        peer.sent_rate = rate;
    }
    let out = swarm.round(4);
    assert_eq!(out[..3], [id(1), id(4), id(3)]);
    assert_eq!(out.len(), 4);
}

#[test]
fn in_round_robin_everybody_gets_the_same_quota() {
    let quota = 1_000_000;
    let mut swarm = Swarm::new(12, RoundRobin::new(quota, rng(9)));
    let mut sent = vec![0_u64; 12];
    for _ in 0..360 {
        let out = swarm.round(4);
        assert_eq!(out.len(), 4);
        for peer in swarm.peers.iter_mut().filter(|peer| out.contains(&peer.id)) {
            // Fast ones use their quota up in a round, slow ones in four.
            let bytes = if peer.id.slot() < 6 { quota } else { quota / 4 };
            peer.uploaded_since_unchoke += bytes;
            sent[peer.id.slot() as usize] += bytes;
        }
    }
    let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
    assert!(most - least <= 2 * quota, "{sent:?}");
}

#[test]
fn in_round_robin_a_peer_is_not_interrupted_before_its_quota() {
    let mut swarm = Swarm::new(9, RoundRobin::new(1_000, rng(10)));
    let first = swarm.round(3);
    swarm.peers.iter_mut().for_each(|peer| peer.uploaded_since_unchoke = 999);
    assert_eq!(
        swarm.round(3).iter().collect::<BTreeSet<_>>(),
        first.iter().collect::<BTreeSet<_>>()
    );
    let lucky = first[0];
    swarm.peers[lucky.slot() as usize].uploaded_since_unchoke = 1_000;
    assert!(!swarm.round(3).contains(&lucky));
}

#[test]
fn in_round_robin_turns_double_until_they_are_whole() {
    let mut choker = RoundRobin::growing(100, 700, rng(15));
    let turns: Vec<_> = [0, 100, 200, 400, 800].map(|before| choker.quantum(before)).into();
    assert_eq!(turns, [100, 100, 200, 400, 700]);
    let mut out = Vec::new();
    let mut peers = [old(0), old(1)];
    peers[0].unchoked_since = Some(Instant::ORIGIN);
    (peers[0].sent, peers[0].uploaded_since_unchoke) = (399, 199);
    choker.unchoke(Instant::ORIGIN, &peers, 1, &mut out);
    assert_eq!(out, [id(0)]);
    (peers[0].sent, peers[0].uploaded_since_unchoke) = (400, 200);
    choker.unchoke(Instant::ORIGIN, &peers, 1, &mut out);
    assert_eq!(out, [id(1)]);
}

#[test]
fn in_round_robin_who_passes_on_what_it_got_comes_before_who_keeps_it() {
    let mut choker = RoundRobin::new(100, rng(16));
    let mut peers: Vec<_> = (0..4).map(old).collect();
    for (peer, (last, kept)) in peers.iter_mut().zip([(1, 3), (2, 1), (3, 0), (4, 0)]) {
        peer.last_unchoked = Some(Instant::ORIGIN + Duration::from_secs(last));
        peer.kept = kept;
    }
    let mut out = Vec::new();
    choker.unchoke(Instant::ORIGIN, &peers, 4, &mut out);
    assert_eq!(out, [2, 3, 1, 0].map(id));
}

#[test]
fn in_round_robin_a_peer_that_takes_nothing_makes_room_in_time() {
    let mut swarm = Swarm::new(9, RoundRobin::new(1_000, rng(11)));
    let first = swarm.round(3);
    (0..11).for_each(|_| assert_eq!(swarm.round(3), first));
    assert!(swarm.round(3).iter().all(|id| !first.contains(id)));
}

#[test]
fn in_round_robin_nobody_is_choked_for_nobody() {
    let mut swarm = Swarm::new(3, RoundRobin::new(1, rng(12)));
    for _ in 0..40 {
        assert_eq!(swarm.round(4).len(), 3);
        swarm.peers.iter_mut().for_each(|peer| peer.uploaded_since_unchoke = 9);
    }
    assert_eq!(swarm.changes, 3);
}

#[test]
fn a_torrent_can_hold_any_choker() {
    let chokers: Vec<Box<dyn Choker>> = vec![
        Box::new(TitForTat::new(rng(0))),
        Box::new(FastestUpload::new(rng(0))),
        Box::new(RoundRobin::new(1, rng(0))),
    ];
    for mut choker in chokers {
        let mut out = vec![id(77)];
        choker.unchoke(Instant::ORIGIN, &[], 4, &mut out);
        assert!(out.is_empty());
    }
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let secs = |s: u64| Instant::ORIGIN + Duration::from_secs(s);
    let one = (
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop_oneof![Just(0), 0..5_u64, Just(u64::MAX)],
        0..4_u64,
        prop::option::of(0..300_u64),
        prop::option::of(0..300_u64),
        0..300_u64,
    );
    prop::collection::vec(one, 0..25).prop_map(move |all| {
        let of = |(at, one): (usize, (bool, bool, u64, u64, _, _, u64))| {
            let (interested, snubbed, received_rate, sent_rate, since, last, connected) = one;
            let since: Option<u64> = since;
            let last: Option<u64> = last;
            Candidate {
                id: id(at as u32),
                interested,
                snubbed,
                received_rate,
                sent_rate,
                unchoked_since: since.map(secs),
                last_unchoked: last.map(secs),
                received: received_rate,
                sent: sent_rate * 150,
                uploaded_since_unchoke: sent_rate * 100,
                kept: sent_rate as u32,
                is_spare: received_rate % 2 == 0,
                connected_at: secs(connected),
            }
        };
        all.into_iter().enumerate().map(of).collect()
    })
}

#[test]
fn turns_are_for_those_who_are_owed_something_while_anybody_is() {
    let secs = |s: u64| Instant::ORIGIN + Duration::from_secs(s);
    let mut choker = RoundRobin::new(1_000, rng(1));
    let spare = |number| Candidate { is_spare: true, ..old(number) };
    let held = Candidate { unchoked_since: Some(secs(0)), ..spare(1) };
    let mut out = Vec::new();
    choker.unchoke(secs(5), &[held, spare(2), old(3)], 2, &mut out);
    assert_eq!(out, [id(3)], "the one that holds a slot loses it");
    let bored = Candidate { interested: false, ..old(3) };
    choker.unchoke(secs(5), &[held, spare(2), bored], 2, &mut out);
    assert_eq!(out.len(), 2, "nobody is owed anything");
}

#[test]
fn nobody_waits_for_a_peer_that_keeps_more_to_itself_to_get_what_it_is_owed() {
    let now = Instant::ORIGIN + Duration::from_secs(5);
    let mut choker = RoundRobin::new(1_000, rng(1));
    let spare = |number, kept| Candidate { is_spare: true, kept, ..old(number) };
    let owed = Candidate { kept: 2, ..old(3) };
    let mut out = Vec::new();
    choker.unchoke(now, &[spare(1, 1), spare(2, 2), owed], 3, &mut out);
    out.sort_unstable();
    assert_eq!(out, [id(1), id(3)]);
}

proptest! {
    #[test]
    fn no_choker_breaks_the_rules_or_minds_the_order_of_the_peers(
        rounds in prop::collection::vec((candidates(), 0..8_usize, 0..40_u64), 1..8),
        seed in 0..1000_u64,
    ) {
        let pair = |seed| -> Vec<Box<dyn Choker>> { vec![
            Box::new(TitForTat::new(rng(seed))),
            Box::new(FastestUpload::new(rng(seed))),
            Box::new(RoundRobin::new(200, rng(seed))),
        ] };
        for (mut choker, mut twin) in pair(seed).into_iter().zip(pair(seed)) {
            let mut now = Instant::ORIGIN + Duration::from_mins(5);
            for (peers, slots, pause) in &rounds {
                now += Duration::from_secs(*pause);
                let mut out = Vec::new();
                choker.unchoke(now, peers, *slots, &mut out);
                let interested: BTreeSet<_> =
                    peers.iter().filter(|peer| peer.interested).map(|peer| peer.id).collect();
                let chosen: BTreeSet<_> = out.iter().copied().collect();
                prop_assert_eq!(chosen.len(), out.len(), "none twice");
                prop_assert!(chosen.is_subset(&interested));
                let takes_turns = choker.quantum(0) < u64::MAX;
                let owed = peers.iter().filter(|peer| peer.interested && !peer.is_spare);
                let least = owed.map(|peer| peer.kept).min().filter(|_| takes_turns);
                let waits = |peer: &&Candidate| {
                    peer.interested && peer.is_spare && least.is_some_and(|it| it <= peer.kept)
                };
                let wanted = interested.len() - peers.iter().filter(waits).count();
                let wanted = wanted.min(*slots);
                prop_assert_eq!(out.len(), wanted, "no slot is wasted");
                let mut shuffled = peers.clone();
                rng(seed + 1).shuffle(&mut shuffled);
                let mut again = Vec::new();
                twin.unchoke(now, &shuffled, *slots, &mut again);
                prop_assert_eq!(out, again);
            }
        }
    }
}
