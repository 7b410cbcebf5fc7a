//! Who serves whom: the time of upload slots, by classes of uplinks.

use std::net::SocketAddr;

use teem_core::session::PeerSnapshot;

use super::peer::Watch;
use super::recording::{Class, Clusters};

/// Classes at most; with more speeds than that, classes are thirds of all.
const CLASSES_MAX: usize = 4;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Slots {
    classes: Vec<Class>,
    /// By place of the watch; none: it does not fetch.
    class_of: Vec<Option<usize>>,
    /// Slots that each class was seen to give to each.
    seen: Vec<Vec<f64>>,
    /// Slots that it would have given by lot.
    by_lot: Vec<Vec<f64>>,
}

impl Slots {
    /// None if all that fetch have about the same uplink, or any.
    pub(super) fn new(watches: &[Watch]) -> Option<Self> {
        let mut speeds: Vec<u64> =
            watches.iter().filter(|watch| watch.fetches).filter_map(|watch| watch.up).collect();
        speeds.sort_unstable();
        let all = speeds.clone();
        speeds.dedup();
        let is_alike = |speeds: &[u64]| speeds[speeds.len() - 1] < speeds[0] / 4 * 5;
        if speeds.len() < 2 || is_alike(&speeds) {
            return None;
        }
        // The least of each class.
        let least: Vec<u64> = if speeds.len() <= CLASSES_MAX {
            speeds
        } else {
            let mut least = vec![all[0], all[all.len() / 3], all[all.len() * 2 / 3]];
            least.dedup();
            least
        };
        let class = |up: u64| least.iter().rposition(|least| up >= *least);
        let class_of: Vec<_> = watches
            .iter()
            .map(|watch| watch.up.filter(|_| watch.fetches).and_then(class))
            .collect();
        let classes = (0..least.len()).map(|class| {
            let members = || watches.iter().zip(&class_of).filter(|(_, of)| **of == Some(class));
            Class {
                least: members().filter_map(|(watch, _)| watch.up).min().unwrap_or(0),
                most: members().filter_map(|(watch, _)| watch.up).max().unwrap_or(0),
                peers: members().count(),
            }
        });
        let empty = vec![vec![0.0; least.len()]; least.len()];
        Some(Self { classes: classes.collect(), class_of, seen: empty.clone(), by_lot: empty })
    }

    /// A peer that fetches, at this place, is connected to these. `fetching` gives the place of who
    /// is at an address, if that fetches, too.
    pub(super) fn look(
        &mut self,
        place: usize,
        peers: &[PeerSnapshot],
        fetching: impl Fn(SocketAddr) -> Option<usize>,
    ) {
        let Some(giver) = self.class_of[place] else { return };
        let mut connected = vec![0.0; self.classes.len()];
        let mut served = 0.0;
        for peer in peers {
            let other = fetching(peer.address);
            let Some(taker) = other.and_then(|other| self.class_of[other]) else { continue };
            connected[taker] += 1.0;
            if !peer.choked {
                self.seen[giver][taker] += 1.0;
                served += 1.0;
            }
        }
        let all: f64 = connected.iter().sum();
        if served > 0.0 {
            for (by_lot, connected) in self.by_lot[giver].iter_mut().zip(connected) {
                *by_lot += served * connected / all;
            }
        }
    }

    pub(super) fn take(self) -> Clusters {
        let same = |slots: &[Vec<f64>]| {
            slots.iter().enumerate().map(|(class, row)| row[class]).sum::<f64>()
        };
        let by_lot = same(&self.by_lot);
        let index = (by_lot > 0.0).then(|| same(&self.seen) / by_lot);
        let shares = |slots: Vec<Vec<f64>>| {
            let share = |row: Vec<f64>| {
                let all: f64 = row.iter().sum();
                row.into_iter().map(|slots| if all > 0.0 { slots / all } else { 0.0 }).collect()
            };
            slots.into_iter().map(share).collect()
        };
        Clusters {
            classes: self.classes,
            observed: shares(self.seen),
            by_lot: shares(self.by_lot),
            index,
        }
    }
}
