//! Timers and chokers, driven by scripts, against models that are obviously right.

use teem_core::ids::{Key, StreamId, TimerId};
use teem_core::rng::Seed;
use teem_core::time::{Duration, Instant};
use teem_core::timers::{GRANULE, Timers};
use teem_core::torrent::choker::{Candidate, Choker, FastestUpload, RoundRobin, TitForTat};

use crate::script::Script;

/// Timers in a script at a time.
const TIMERS_MAX: usize = 12;

/// Rounds of a choker in a script.
const ROUNDS_MAX: usize = 64;

/// The timers, against a list that is searched at each question.
pub fn timers(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut now = Instant::ORIGIN;
    let mut timers = Timers::new();
    let mut model: Vec<(TimerId, u32, Option<Instant>)> = Vec::new();
    let mut gone: Vec<TimerId> = Vec::new();
    let mut next_key = 0;
    while !script.is_over() {
        match script.below(6) {
            0 if model.len() < TIMERS_MAX => {
                model.push((timers.insert(next_key), next_key, None));
                next_key += 1;
            }
            1 if !model.is_empty() => {
                let (id, ..) = model.swap_remove(script.below(model.len()));
                timers.remove(id);
                timers.remove(id);
                gone.push(id);
            }
            2 => now += Duration::from_micros(u64::from(script.u16()) * 10),
            3 => {
                while let Some(key) = timers.pop(now) {
                    let (_, _, due) = model.iter_mut().find(|(_, k, _)| *k == key).expect("known");
                    assert!(due.is_some_and(|due| due <= now), "{key} is due");
                    *due = None;
                }
                assert!(model.iter().all(|(.., due)| due.is_none_or(|due| due > now)));
                assert!(timers.next().is_none_or(|(at, _)| at > now), "a driver makes progress");
            }
            4 => {
                if let Some(id) = script.one_of(&gone) {
                    timers.set(id, now, Some(now));
                    assert_eq!(timers.due(id), None, "a stale id does nothing");
                }
            }
            _ if !model.is_empty() => {
                let at = script.below(model.len());
                let (id, _, due) = &mut model[at];
                let offset = Duration::from_micros(u64::from(script.u16()) * 20);
                let asked = match script.below(4) {
                    0 => None,
                    1 => Some(now - offset),
                    _ => Some(now + offset),
                };
                timers.set(*id, now, asked);
                *due = asked.map(|asked| if asked > now { asked } else { now + GRANULE });
            }
            _ => {}
        }
        for (id, _, due) in &model {
            assert_eq!(timers.due(*id), *due);
        }
        let earliest = model.iter().filter_map(|(.., due)| *due).min();
        let next = timers.next().map(|(at, _)| at);
        assert!(earliest.is_none_or(|due| next.is_some_and(|next| next <= due)), "none is missed");
    }
}

/// The chokers: what each promises of every answer, and that the order of peers never matters.
pub fn choker(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let seed = u64::from(script.byte());
    let which = script.below(3);
    let make = || -> Box<dyn Choker> {
        let rng = Seed::from_number(seed).stream("choker", 0);
        match which {
            0 => Box::new(TitForTat::new(rng)),
            1 => Box::new(FastestUpload::new(rng)),
            _ => Box::new(RoundRobin::new(100_000, rng)),
        }
    };
    let (mut one, mut other) = (make(), make());
    let mut peers: Vec<Candidate> = Vec::new();
    let mut now = Instant::ORIGIN;
    let mut slot = 0;
    for _ in 0..ROUNDS_MAX {
        if script.is_over() {
            return;
        }
        for _ in 0..script.below(4) {
            slot += 1;
            peers.push(Candidate::new(StreamId::from_parts(slot, 1), now));
        }
        for _ in 0..script.below(6) {
            if peers.is_empty() {
                break;
            }
            let at = script.below(peers.len());
            let peer = &mut peers[at];
            match script.below(5) {
                0 => peer.interested = !peer.interested,
                1 => peer.snubbed = !peer.snubbed,
                2 => peer.received_rate = u64::from(script.byte()) << script.below(58),
                3 => peer.sent_rate = u64::from(script.byte()) << script.below(58),
                _ => _ = peers.remove(at),
            }
        }
        now += Duration::from_millis(u64::from(script.byte()) * 100);
        let slots = script.below(9);
        let (mut chosen, mut backwards) = (vec![StreamId::from_parts(0, 1)], Vec::new());
        one.unchoke(now, &peers, slots, &mut chosen);
        let reversed: Vec<_> = peers.iter().rev().copied().collect();
        other.unchoke(now, &reversed, slots, &mut backwards);
        assert_eq!(chosen, backwards, "the order of peers does not matter");
        let interested = peers.iter().filter(|peer| peer.interested).count();
        assert_eq!(chosen.len(), interested.min(slots), "no slot is idle while somebody waits");
        for (at, id) in chosen.iter().enumerate() {
            assert!(!chosen[..at].contains(id), "none twice");
            assert!(peers.iter().any(|peer| peer.id == *id && peer.interested));
        }
        for peer in &mut peers {
            match (chosen.contains(&peer.id), peer.unchoked_since) {
                (true, None) => {
                    peer.unchoked_since = Some(now);
                    peer.uploaded_since_unchoke = 0;
                }
                (true, Some(_)) => {
                    let sent = u64::from(script.byte()) * 1000;
                    peer.uploaded_since_unchoke = peer.uploaded_since_unchoke.saturating_add(sent);
                }
                (false, Some(_)) => {
                    peer.unchoked_since = None;
                    peer.last_unchoked = Some(now);
                }
                (false, None) => {}
            }
        }
    }
}
