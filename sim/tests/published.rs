//! Swarms that papers have models or measurements of, at sizes for every day; the long suite runs
//! the same experiments larger, over more seeds, and holds them to all of their gates.

use teem_sim::net::Fidelity;
use teem_sim::truth::Mean;
use teem_sim::truth::end_game::EndGame;
use teem_sim::truth::fluid::{Fluid, Riders};
use teem_sim::truth::homogeneous::Homogeneous;
use teem_sim::truth::proximity::Proximity;
use teem_sim::truth::rarest::Rarest;

/// Runs it, and tells how long downloads took in the steady state, in units of the model's `T`, how
/// many leechers there were, in units of what those who came make by the model and by sharing evenly,
/// and how many came.
fn steady(fluid: &Fluid) -> (f64, [f64; 2], f64) {
    let outcome = fluid.run();
    let time_s = fluid.download_s();
    let (from, to) = (4 * time_s, outcome.counts.len() as u64);
    let rate = outcome.arrivals_per_s(from, to);
    let leechers = outcome.leechers(from as usize, to as usize);
    let over_shared = leechers / outcome.leechers_shared(from as usize, to as usize);
    let over_model = leechers / fluid.leechers(rate);
    // Who came last may not be done, and those who are were the faster ones.
    let took = outcome.download_s(from, to - 2 * time_s) / time_s as f64;
    println!("{rate:.3} come a second: {took:.3} times T, {over_shared:.3} times the leechers");
    (took, [over_model, over_shared], rate * (to - from) as f64)
}

#[test]
fn a_download_takes_what_the_fluid_model_says_however_many_come() {
    let few = steady(&Fluid::up_bound(10, 12, 1));
    let more = steady(&Fluid::up_bound(30, 9, 1));
    for (took, [over_model, over_shared], came) in [few, more] {
        // A tenth, and two standard deviations of so few.
        let off = 0.10 + 2.0 / came.sqrt();
        assert!((took - 1.0).abs() <= off, "{took} times T");
        assert!((over_model - 1.0).abs() <= off, "{over_model} times the leechers of the model");
        // Chance is in both.
        assert!((0.95..=1.10).contains(&over_shared), "{over_shared} times the leechers");
    }
    assert!((more.0 / few.0 - 1.0).abs() <= 0.25, "{few:?}, {more:?}");
}

#[test]
fn a_download_takes_what_a_downlink_needs_where_uplinks_have_more_than_enough() {
    let (took, ..) = steady(&Fluid::down_bound(10, 8, 1));
    assert!((0.99..=1.10).contains(&took), "{took} times T");
}

#[test]
fn leechers_follow_a_step_of_arrivals_as_content_of_a_size_has_it() {
    // The equations themselves have departures follow at once, and are off by more: see the module.
    let mut fluid = Fluid::up_bound(15, 4, 1);
    let step = fluid.arrivals[0].1 as usize;
    fluid.expect(45, 3);
    let outcome = fluid.run();
    let to = outcome.counts.len();
    let off = outcome.off(&outcome.cohorts, step, to);
    println!("off by {off:.3}; the equations by {:.3}", outcome.off(&outcome.fluid, step, to));
    // A tenth, and the standard deviation of so few.
    assert!(off <= 0.10 + 15.0_f64.sqrt().recip(), "{off}");
    let before = outcome.leechers(step / 2, step);
    let after = outcome.leechers(to - step / 2, to);
    assert!(after > 2.0 * before, "{before} and then {after}");
}

#[test]
fn who_serves_nobody_gets_no_more_than_the_share_of_the_optimistic_slots() {
    // In a long transfer of a small swarm: see `Riders` for where that is not so.
    let riders = Riders::small(1);
    let ridden = riders.run();
    println!("{ridden:.3?}");
    assert!(ridden.fair > 0.9, "{ridden:?}");
    assert!(ridden.rider > 0.0, "it gets something");
    assert!(ridden.rider / ridden.fair <= riders.share_max(), "{ridden:?}");
}

#[test]
fn equal_peers_around_a_slow_seed_get_unequal_rates_and_are_done_together() {
    for seed in 1..=3 {
        let outcome = Homogeneous::small(seed).catch_up(5);
        println!("{outcome:.0?}");
        let bound = outcome.seed_bound_s;
        for done in &outcome.done_s {
            assert!((0.99 * bound..=1.15 * bound).contains(done), "{done} s");
        }
        assert!(outcome.spread() <= 0.10, "{}", outcome.spread());
        // Twice, if the seed sent nothing in vain.
        assert!(outcome.last_over_first() >= 1.5, "{}", outcome.last_over_first());
    }
}

#[test]
fn equal_peers_who_come_at_random_around_a_slow_seed_leave_in_bursts() {
    let outcome = Homogeneous::small(1).bursts(7, 8_000);
    println!("{outcome:.3?}");
    assert!(outcome.left >= 30, "{outcome:?}");
    assert!(outcome.close_departures >= 2.0 * outcome.close_by_chance, "{outcome:?}");
    assert!(outcome.close_departures >= 2.0 * outcome.close_arrivals, "{outcome:?}");
}

#[test]
fn rare_pieces_go_away_at_the_seeds_rate_and_last_ones_are_no_slower_than_others() {
    let outcome = Rarest { seconds: 700, ..Rarest::small(1) }.run();
    println!(
        "slope {:.3}, fit {:.4}, then at least {} copies, {:.2?}",
        outcome.slope, outcome.fit, outcome.copies_min, outcome.twentieths
    );
    assert!((0.95..=1.02).contains(&outcome.slope), "{}", outcome.slope);
    assert!(outcome.fit >= 0.99, "{}", outcome.fit);
    assert!(outcome.copies_min >= 2, "{}", outcome.copies_min);
    assert!(outcome.later >= 20, "{}", outcome.later);
    assert!(outcome.twentieths[19] <= 1.5, "{:?}", outcome.twentieths);
    assert!(outcome.twentieths[0] >= 1.5, "{:?}", outcome.twentieths);
}

#[test]
fn packet_by_packet_near_peers_serve_each_other_more_than_by_chance_or_by_rates() {
    let (mut above_chance, mut above_flow) = (Vec::new(), Vec::new());
    for seed in 0..6 {
        let proximity = Proximity::small(seed);
        let flow = proximity.run(Fidelity::Flow);
        let packet = proximity.run(Fidelity::Packet);
        println!("by rates {flow:.3?}, by packets {packet:.3?}");
        assert!((packet.mean_s / flow.mean_s - 1.0).abs() <= 0.30, "{flow:?}, {packet:?}");
        above_chance.push(packet.near_share - proximity.chance());
        above_flow.push(packet.near_share - flow.near_share);
    }
    let (above_chance, above_flow) = (Mean::of(&above_chance), Mean::of(&above_flow));
    println!("above chance {above_chance:?}, above flow {above_flow:?}");
    assert!(above_chance.mean > above_chance.within, "{above_chance:?}");
    // In six pairs the interval of this may reach below zero.
    assert!(above_flow.mean > 0.0, "{above_flow:?}");
}

#[test]
fn the_last_block_does_not_wait_for_a_slow_peer_and_little_comes_twice() {
    for (fast, seed) in (0..5).map(|seed| (4, seed)).chain((0..5).map(|seed| (20, seed))) {
        let outcome = EndGame { fast, ..EndGame::small(seed) }.run();
        println!("{fast} fast ones, {outcome:.4?}");
        assert!(outcome.slow_block_s > 5.0 * outcome.allowed_s, "it would wait otherwise");
        assert!(outcome.last_wait_s <= outcome.allowed_s, "{outcome:?}");
        assert!(outcome.wasted <= 0.01, "{outcome:?}");
    }
}
