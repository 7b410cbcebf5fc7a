//! Fast, medium and slow peers in one flash crowd: tit for tat has each serve its like.
//!
//! Legout, Liogkas, Kohler and Zhang, "Clustering and sharing incentives in BitTorrent systems"
//! (SIGMETRICS 2007): one seed, 40 leechers with three different uplinks who leave when they are
//! done, 113 MB in pieces of 256 KiB. With a fast seed, peers of a class unchoke each other more
//! than they would by chance and the fast ones are done first. With a slow one nobody can finish
//! before the seed has sent everything once, and the classes finish together.

use teem_core::ids::TorrentId;
use teem_core::rng::Seed;
use teem_core::session::{Command, Config, Event, RemoveFiles};
use teem_core::time::{Duration, Instant};

use crate::net::{Access, Fidelity, Net, NetConfig};
use crate::swarm::{Swarm, ip, torrent};

/// The experiment. See the [module](self).
#[derive(Clone, Debug)]
pub struct Clusters {
    /// Each class: how many peers, and their uplink in bytes per second.
    pub classes: Vec<(usize, u64)>,
    /// The seed's uplink.
    pub seed_bytes_per_s: u64,
    /// Pieces of the torrent.
    pub pieces: u32,
    /// Bytes of each.
    pub piece_len: u32,
    /// Upload slots, the optimistic ones included.
    pub slots: usize,
    /// All randomness.
    pub seed: u64,
}

/// What came of one class.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    /// When its peers were done, on average, in seconds.
    pub mean_s: f64,
    /// When the first of them was done, in seconds.
    pub first_s: f64,
    /// Time that its peers held slots of peers of their own class, against all their slots' time.
    pub same_share: f64,
    /// What that would be if peers were unchoked by lot.
    pub uniform_share: f64,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// In the order of [`Clusters::classes`].
    pub classes: Vec<Class>,
    /// Bytes moved while more than a twentieth of the peers were there, against what the uplinks
    /// of those present could have.
    pub utilisation: f64,
    /// The least time for the seed to send everything once, in seconds.
    pub seed_bound_s: f64,
    /// How many peers were done.
    pub done: usize,
}

impl Clusters {
    /// As published, with a fast seed.
    pub fn published(seed: u64) -> Self {
        Self {
            classes: vec![(13, 200_000), (14, 50_000), (13, 20_000)],
            seed_bytes_per_s: 200_000,
            pieces: 453,
            piece_len: 256 * 1024,
            slots: 4,
            seed,
        }
    }

    /// Runs until everybody has left, for as long as `limit` of virtual time.
    pub fn run(&self, limit: Duration) -> Outcome {
        let seed = Seed::from_number(self.seed);
        let mut content = vec![0; self.pieces as usize * self.piece_len as usize];
        seed.stream("content", 0).fill(&mut content);
        let total = content.len() as f64;
        let metainfo = torrent(&content, self.piece_len);
        let between = Duration::from_millis(10);
        let net = Net::with(NetConfig { fidelity: Fidelity::Flow, between, seed });
        let mut swarm = Swarm::on(net, metainfo, content.into());
        let config =
            Config { upload_slots: self.slots, torrent_peers_max: 100, ..Config::default() };
        let attach = |up| Access { up_bytes_per_s: Some(up), ..Access::PERFECT };
        let first = swarm.seeder(config.clone());
        swarm.net.set_access(first, attach(self.seed_bytes_per_s));
        // Classes take turns, so that a host's number says nothing about its class.
        let mut class_of = vec![usize::MAX];
        for (class, (count, _)) in self.classes.iter().enumerate() {
            class_of.extend(std::iter::repeat_n(class, *count));
        }
        seed.stream("classes", 0).shuffle(&mut class_of[1..]);
        let peers = class_of.len() - 1;
        for class in &class_of[1..] {
            let host = swarm.leecher(config.clone());
            swarm.net.set_access(host, attach(self.classes[*class].1));
            let earlier: Vec<_> = (0..host).collect();
            swarm.introduce(host, &earlier);
        }
        let host_of: std::collections::BTreeMap<_, _> =
            (0..=peers).map(|host| (ip(host), host)).collect();
        let mut done: Vec<Option<Instant>> = vec![None; peers + 1];
        let mut slots = vec![[0_u64; 2]; self.classes.len()];
        let (mut capacity, mut moved) = (0.0, 0.0);
        let end = swarm.now() + limit;
        let mut before = 0;
        while swarm.now() < end && done[1..].iter().any(Option::is_none) {
            swarm.run(1, |_| false);
            let left: Vec<usize> = (1..=peers).filter(|host| done[*host].is_none()).collect();
            let delivered = swarm.net.counters().delivered_bytes;
            if left.len() * 20 > peers {
                let ups = left.iter().map(|host| self.classes[class_of[*host]].1);
                capacity += (ups.sum::<u64>() + self.seed_bytes_per_s) as f64;
                moved += (delivered - before) as f64;
            }
            before = delivered;
            for host in &left {
                let class = class_of[*host];
                let torrent: TorrentId = swarm.torrent(*host);
                for peer in swarm.session(*host).peers(torrent) {
                    let other = host_of.get(&peer.address.ip()).map_or(0, |host| *host);
                    if !peer.choked && other > 0 {
                        slots[class][usize::from(class_of[other] == class)] += 1;
                    }
                }
                let finished = |event: &Event| matches!(event, Event::TorrentFinished(_));
                if swarm.heard(*host, finished) {
                    done[*host] = Some(swarm.now());
                    swarm.command(*host, Command::Remove(torrent, RemoveFiles::Keep));
                }
            }
        }
        let classes = self.classes.iter().enumerate().map(|(class, (count, _))| {
            let times: Vec<f64> = (1..=peers)
                .filter(|host| class_of[*host] == class)
                .map(|host| done[host].unwrap_or(end).saturating_since(Instant::ORIGIN))
                .map(|time| time.as_secs_f64())
                .collect();
            let [others, same] = slots[class];
            Class {
                mean_s: times.iter().sum::<f64>() / times.len() as f64,
                first_s: times.iter().copied().fold(f64::INFINITY, f64::min),
                same_share: same as f64 / (same + others).max(1) as f64,
                uniform_share: (count - 1) as f64 / (peers - 1) as f64,
            }
        });
        Outcome {
            classes: classes.collect(),
            utilisation: moved / capacity,
            seed_bound_s: total / self.seed_bytes_per_s as f64,
            done: done.iter().flatten().count(),
        }
    }
}
