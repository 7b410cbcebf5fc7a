//! What the simulator's disk costs: time per true block, and memory per host.
//!
//! `cargo run --release -p teem-sim --example disk_cost`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use teem_core::chunks::Chunks;
use teem_core::hash::{HashAlgorithm, HashState};
use teem_core::ids::{JobId, Key, TorrentId};
use teem_core::machine::{Allocation, FileOp, HashSource, Job, JobOutput, Location, OpenFiles};
use teem_core::metainfo::create::{Content, Draft, Options};
use teem_core::rng::Seed;
use teem_sim::content::Library;
use teem_sim::storage::{Disk, Profile};
use teem_sim::time::Nanos;

const CONTENT_LEN: usize = 64 << 20;
const BLOCK_LEN: usize = 16 * 1024;
const PIECE_LEN: usize = 1 << 20;
const HOSTS: u64 = 8;

/// Time spent in one kind of job.
#[derive(Default)]
struct Cost {
    nanos: u128,
    jobs: u64,
}

struct Run {
    library: Library,
    now: Nanos,
    number: u32,
}

impl Run {
    fn job(&mut self, disk: &mut Disk, job: Job, cost: &mut Cost) -> JobOutput {
        self.number += 1;
        let id = JobId::from_parts(self.number, 1);
        disk.submit(self.now, id, job);
        self.now = disk.next().expect("it is under way").max(self.now);
        let (completed, result) = disk.complete(self.now, &mut self.library).expect("it is due");
        assert_eq!(completed, id);
        cost.jobs += 1;
        result.expect("nothing fails")
    }
}

#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
fn timed(cost: &mut Cost, work: impl FnOnce(&mut Cost)) {
    let before = Instant::now();
    work(cost);
    cost.nanos += before.elapsed().as_nanos();
}

fn main() {
    let content: Bytes = (0..CONTENT_LEN).map(|at| (at / 5) as u8).collect::<Vec<_>>().into();
    let draft = Draft::new("t", Content::File(CONTENT_LEN as u64), Options::default());
    let layout = Arc::new(draft.expect("legal").layout().clone());
    let mut library = Library::new();
    library.add("key", content.clone());
    let mut run = Run { library, now: Nanos::ZERO, number: 0 };
    let torrent = TorrentId::from_parts(0, 1);
    let folder = Location(Bytes::from_static(b"/downloads"));
    for (name, profile) in [("INSTANT", Profile::INSTANT), ("SSD", Profile::SSD)] {
        let (mut write, mut hash, mut read) = <(Cost, Cost, Cost)>::default();
        let mut sizes = [0; 4];
        for host in 0..=HOSTS {
            if host == 1 {
                // The first one was for warming up: it is who really hashes.
                (write, hash, read) = Default::default();
            }
            let mut disk = Disk::new(Seed::from_number(7).stream("disk", host));
            disk.set_profile(profile);
            sizes[0] = disk.footprint();
            let open = OpenFiles {
                layout: Arc::clone(&layout),
                folder: folder.clone(),
                key: "key".into(),
                allocation: Allocation::Sparse,
                writable: true,
                wanted: Box::new([]),
            };
            let open = Job::Files { torrent, op: FileOp::Open(open.into()) };
            run.job(&mut disk, open, &mut Cost::default());
            timed(&mut write, |cost| {
                for at in (0..CONTENT_LEN).step_by(BLOCK_LEN) {
                    let data = Chunks::from(content.slice(at..at + BLOCK_LEN));
                    run.job(&mut disk, Job::Write { torrent, offset: at as u64, data }, cost);
                }
            });
            sizes[1] = disk.footprint();
            timed(&mut hash, |cost| {
                let mut state = Box::new(HashState::new(HashAlgorithm::Sha1));
                for at in (0..CONTENT_LEN).step_by(BLOCK_LEN) {
                    let source = HashSource::Memory(content.slice(at..at + BLOCK_LEN).into());
                    let last = (at + BLOCK_LEN).is_multiple_of(PIECE_LEN);
                    let job = Job::Hash { torrent, state, source, last };
                    state = match run.job(&mut disk, job, cost) {
                        JobOutput::Hashed(state) => state,
                        _ => Box::new(HashState::new(HashAlgorithm::Sha1)),
                    };
                }
            });
            timed(&mut read, |cost| {
                for at in (0..CONTENT_LEN).step_by(BLOCK_LEN) {
                    let job = Job::Read { torrent, offset: at as u64, len: BLOCK_LEN as u32 };
                    black_box(run.job(&mut disk, job, cost));
                }
            });
            let flush = Job::Files { torrent, op: FileOp::Flush };
            run.job(&mut disk, flush, &mut Cost::default());
            sizes[2] = disk.footprint();
            assert!(disk.is_true(&folder, "key"));
            let close = Job::Files { torrent, op: FileOp::Close };
            run.job(&mut disk, close, &mut Cost::default());
            sizes[3] = disk.footprint();
        }
        let per = |cost: &Cost| cost.nanos / u128::from(cost.jobs);
        println!(
            "{name}: ns per 16 KiB true block: write {}, hash {}, read {} (submit and complete)",
            per(&write),
            per(&hash),
            per(&read)
        );
        println!(
            "{name}: bytes per disk: idle {}, with a complete 64 MiB torrent {} before and {} \
             after a flush, {} closed",
            sizes[0], sizes[1], sizes[2], sizes[3]
        );
    }
}
