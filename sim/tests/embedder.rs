//! What somebody else would write: a policy of their own, proved in a swarm against ours.
//!
//! The simulator is a dev-dependency; the sessions are the ones that ship.

use teem_core::ids::StreamId;
use teem_core::rng::Seed;
use teem_core::session::Config;
use teem_core::time::{Duration, Instant};
use teem_core::torrent::choker::{Candidate, Choker};
use teem_sim::net::{Access, Fidelity, Net, NetConfig};
use teem_sim::swarm::{Swarm, torrent};

/// Our own policy: take everything, and serve nobody.
#[derive(Debug)]
struct Miser;

impl Choker for Miser {
    fn unchoke(&mut self, _: Instant, _: &[Candidate], _: usize, out: &mut Vec<StreamId>) {
        out.clear();
    }

    fn gives_free_slots(&self) -> bool {
        false
    }
}

#[test]
fn who_serves_nobody_pays_for_it() {
    let mut content = vec![0; 8 << 20];
    Seed::from_number(1).stream("content", 0).fill(&mut content);
    let content_len = content.len();
    let between = Duration::from_millis(20);
    let seed = Seed::from_number(1);
    let net = Net::with(NetConfig { fidelity: Fidelity::Flow, between, seed });
    let mut swarm = Swarm::on(net, torrent(&content, 128 << 10), content.into());

    let seeder = swarm.seeder(Config::default());
    let peers: Vec<_> =
        (0..20).map(|_| swarm.leecher(Config { upload_slots: 4, ..Config::default() })).collect();
    for (number, peer) in peers.iter().enumerate() {
        swarm.introduce(*peer, &[&[seeder], &peers[..number]].concat());
        swarm.net.set_access(*peer, Access { up_bytes_per_s: Some(200_000), ..Access::PERFECT });
    }
    swarm.net.set_access(seeder, Access { up_bytes_per_s: Some(400_000), ..Access::PERFECT });
    let misers = &peers[..5];
    for miser in misers {
        let id = swarm.torrent(*miser);
        let session = swarm.net.machine_mut(*miser).session_mut().expect("a client");
        session.set_chokers(id, Box::new(Miser), Box::new(Miser));
    }

    let start = swarm.now();
    let mut took = vec![None; peers.len()];
    let mut misers_had = None;
    let all = swarm.run(3_600, |swarm| {
        for (peer, took) in peers.iter().zip(&mut took) {
            if took.is_none() && swarm.is_complete(*peer) {
                *took = Some(swarm.now().saturating_since(start).as_secs());
            }
        }
        // From then on those who are complete have nothing better to do than to serve misers.
        if misers_had.is_none() && took[misers.len()..].iter().any(Option::is_some) {
            let got = misers.iter().map(|miser| swarm.snapshot(*miser).downloaded_bytes);
            misers_had = Some(got.sum::<u64>() * 100 / (misers.len() * content_len) as u64);
        }
        took.iter().all(Option::is_some)
    });
    assert!(all, "{took:?}");
    let mean = |some: &[Option<u64>]| some.iter().flatten().sum::<u64>() / some.len() as u64;
    let (for_misers, for_others) = (mean(&took[..5]), mean(&took[5..]));
    let misers_had = misers_had.expect("the others were complete");
    println!(
        "who gives nothing takes {for_misers} s and has {misers_had} % when the first of the others \
         is complete; they take {for_others} s"
    );
    assert!(misers_had <= 60);
    // All bytes over all uplinks that serve are 49 s.
    assert!(for_others <= 58 && for_misers > for_others);
    let given = |peer: &usize| swarm.session(*peer).stats().uploaded_bytes;
    assert!(misers.iter().all(|miser| given(miser) == 0));
    assert!(peers[5..].iter().all(|other| given(other) > 0));
}
