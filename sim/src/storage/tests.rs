//! The disk from outside: what jobs do, what goes wrong, and what a crash leaves.

use std::sync::Arc;

use proptest::prelude::*;
use teem_core::hash::{HashAlgorithm, sha1};
use teem_core::ids::Key;
use teem_core::machine::{Allocation, FileStat};
use teem_core::metainfo::create::{Content as Files, Draft, Options};
use teem_core::metainfo::{File, Info, Layout};
use teem_core::time::Duration;

use super::*;

const BLOCK: u64 = 16 * 1024;

/// Seconds in nanoseconds.
const SECOND: u64 = 1_000_000_000;

fn torrent() -> TorrentId {
    TorrentId::from_parts(0, 1)
}

fn folder() -> Location {
    Location(Bytes::from_static(b"/downloads"))
}

fn layout(files: &[(&str, u64)]) -> Arc<Layout> {
    let files = files.iter().map(|(path, len)| (vec![(*path).into()], *len)).collect();
    let draft = Draft::new("t", Files::Folder(files), Options::default()).expect("legal");
    Arc::new(draft.layout().clone())
}

fn open_files(layout: &Arc<Layout>) -> OpenFiles {
    OpenFiles {
        layout: Arc::clone(layout),
        folder: folder(),
        key: "key".into(),
        allocation: Allocation::Sparse,
        writable: true,
        wanted: Box::new([]),
    }
}

/// A disk, the library that it differs from, and the time.
struct Bench {
    disk: Disk,
    library: Library,
    now: Nanos,
    jobs: u32,
}

impl Bench {
    fn new(number: u64) -> Self {
        let disk = Disk::new(Seed::from_number(number).stream("disk", 0));
        Self { disk, library: Library::new(), now: Nanos(SECOND), jobs: 0 }
    }

    /// With this content in the library.
    fn with_content(number: u64, len: u64) -> (Self, Bytes) {
        let mut bench = Self::new(number);
        let content: Bytes = (0..len).map(|at| (at % 251) as u8 + 1).collect::<Vec<_>>().into();
        bench.library.add("key", content.clone());
        (bench, content)
    }

    fn submit(&mut self, job: Job) -> JobId {
        self.jobs += 1;
        let id = JobId::from_parts(self.jobs, 1);
        self.disk.submit(self.now, id, job);
        id
    }

    /// Completes what completes next.
    fn step(&mut self) -> Option<(JobId, JobResult)> {
        self.now = self.now.max(self.disk.next()?);
        let completed = self.disk.complete(self.now, &mut self.library);
        assert!(completed.is_some(), "it was due");
        completed
    }

    /// Does a job, and everything before it.
    fn run(&mut self, job: Job) -> JobResult {
        let id = self.submit(job);
        loop {
            let (completed, result) = self.step().expect("it completes");
            if completed == id {
                return result;
            }
        }
    }

    fn files(&mut self, op: FileOp) -> JobResult {
        self.run(Job::Files { torrent: torrent(), op })
    }

    fn open(&mut self, open: OpenFiles) -> JobResult {
        self.files(FileOp::Open(open.into()))
    }

    fn write(&mut self, offset: u64, data: impl Into<Bytes>) -> JobResult {
        self.run(write(offset, data))
    }

    fn read(&mut self, offset: u64, len: u32) -> JobResult {
        self.run(Job::Read { torrent: torrent(), offset, len })
    }

    fn content(&self) -> Bytes {
        self.disk.content(&folder(), "key", &self.library).unwrap_or_default()
    }
}

fn write(offset: u64, data: impl Into<Bytes>) -> Job {
    Job::Write { torrent: torrent(), offset, data: Chunks::from(data.into()) }
}

fn stored_hash(offset: u64, len: u32) -> Job {
    Job::Hash {
        torrent: torrent(),
        state: HashState::new(HashAlgorithm::Sha1).into(),
        source: HashSource::Stored { offset, len },
        last: true,
    }
}

fn save(data: &'static [u8]) -> Job {
    Job::Save { location: folder(), name: "state".into(), data: Bytes::from_static(data) }
}

#[track_caller]
fn fails(result: JobResult, kind: JobErrorKind) {
    assert_eq!(result.expect_err("it fails").kind, kind);
}

fn bytes(result: JobResult) -> Bytes {
    let Ok(JobOutput::Read(bytes)) = result else { panic!("{result:?}") };
    bytes
}

fn stats(result: JobResult) -> Box<[Option<FileStat>]> {
    let Ok(JobOutput::Files(files)) = result else { panic!("{result:?}") };
    files
}

fn lens(result: JobResult) -> Vec<Option<(u64, u64)>> {
    stats(result).iter().map(|file| file.map(|file| (file.len, file.allocated))).collect()
}

#[test]
fn an_idle_disk_and_a_complete_torrent_are_small() {
    let (mut bench, content) = Bench::with_content(1, 64 << 20);
    assert!(bench.disk.footprint() < 500, "{}", bench.disk.footprint());
    bench.disk.preload_true(&folder(), "key", &bench.library);
    bench.open(open_files(&layout(&[("a", 64 << 20)]))).expect("it opens");
    let footprint = bench.disk.footprint();
    assert!(footprint < 500 + 1_024, "{footprint}");
    assert_eq!(bench.content().as_ptr(), content.as_ptr());
    assert!(bench.disk.is_true(&folder(), "key"));
    bench.files(FileOp::Close).expect("it closes");
    assert!(bench.disk.footprint() <= footprint);
}

#[test]
fn true_blocks_that_are_written_cost_a_bit_and_are_read_without_a_copy() {
    let (mut bench, content) = Bench::with_content(2, 20 * BLOCK + 77);
    bench.open(open_files(&layout(&[("a", 20 * BLOCK + 77)]))).expect("it opens");
    for block in 0..=20 {
        let range = block * BLOCK..((block + 1) * BLOCK).min(content.len() as u64);
        let range = range.start as usize..range.end as usize;
        // In two parts, as they come off a wire.
        let mut data = Chunks::from(content.slice(range.start..range.start + 50));
        data.push(content.slice(range.start + 50..range.end));
        let written = Job::Write { torrent: torrent(), offset: range.start as u64, data };
        assert_eq!(bench.run(written), Ok(JobOutput::Done));
    }
    bench.files(FileOp::Flush).expect("it flushes");
    assert!(bench.disk.is_true(&folder(), "key") && bench.disk.is_clean());
    assert!(bench.disk.footprint() < 1_024, "{}", bench.disk.footprint());
    let read = bytes(bench.read(5, 3 * BLOCK as u32));
    assert_eq!(read.as_ptr(), content[5..].as_ptr());
    assert_eq!(bench.disk.bytes_written(), content.len() as u64);
}

#[test]
fn a_block_that_is_wrong_is_kept_and_one_that_is_mended_is_given_back() {
    let (mut bench, content) = Bench::with_content(3, 3 * BLOCK);
    bench.open(open_files(&layout(&[("a", 3 * BLOCK)]))).expect("it opens");
    // True bytes at a wrong place are wrong.
    bench.write(0, content.slice(BLOCK as usize..2 * BLOCK as usize)).expect("there is room");
    assert_eq!(bench.content()[..BLOCK as usize], content[BLOCK as usize..2 * BLOCK as usize]);
    // A copy of true bytes is as good as they are, in parts too.
    bench.write(0, content[..100].to_vec()).expect("there is room");
    bench.write(100, content.slice(100..2 * BLOCK as usize + 9)).expect("there is room");
    bench.write(2 * BLOCK + 9, content[2 * BLOCK as usize + 9..].to_vec()).expect("there is room");
    assert!(bench.disk.is_true(&folder(), "key"));
    bench.files(FileOp::Flush).expect("it flushes");
    assert!(bench.disk.footprint() < 1_024, "{}", bench.disk.footprint());
}

#[test]
fn a_content_that_nobody_knows_is_stored_as_it_is() {
    let mut bench = Bench::new(4);
    bench.disk.preload(&folder(), "key", b"hel", &bench.library);
    assert_eq!(bench.content(), &b"hel"[..]);
    let layout = layout(&[("a", 5), ("b", 4)]);
    assert_eq!(lens(bench.open(open_files(&layout))), [Some((3, 3)), None]);
    fails(bench.open(open_files(&layout)), JobErrorKind::Busy);
    assert_eq!(lens(bench.files(FileOp::Check)), [Some((5, 5)), Some((4, 0))]);
    assert_eq!(bench.content(), &b"hel\0\0\0\0\0\0"[..]);
    bench.write(3, &b"p me"[..]).expect("there is room");
    assert_eq!(bytes(bench.read(1, 3)), &b"elp"[..]);
    let Ok(JobOutput::Digest(digest)) = bench.run(stored_hash(0, 7)) else { panic!("a digest") };
    assert_eq!(digest.as_bytes(), sha1(b"help me"));
    fails(bench.read(7, 3), JobErrorKind::Io);
    bench.files(FileOp::Close).expect("it closes");
    fails(bench.read(0, 1), JobErrorKind::Io);
    assert_eq!(bench.content(), &b"help me\0\0"[..]);
}

#[test]
fn a_preloaded_content_keeps_only_what_is_wrong_with_it() {
    let (mut bench, content) = Bench::with_content(5, 8 * BLOCK);
    let mut damaged = content[..6 * BLOCK as usize + 9].to_vec();
    damaged[BLOCK as usize] ^= 1;
    bench.disk.preload(&folder(), "key", &damaged, &bench.library);
    assert_eq!(bench.content(), damaged);
    assert!(bench.disk.footprint() < 500 + 2 * BLOCK as usize + 600);
    let found = bench.open(open_files(&layout(&[("a", 8 * BLOCK)])));
    assert_eq!(lens(found), [Some((6 * BLOCK + 9, 6 * BLOCK + 9))]);
    damaged.resize(content.len(), 0);
    assert_eq!(bench.content(), damaged);
    let changed = bench.disk.damage(&folder(), "key", &bench.library, |bytes| {
        bytes.copy_from_slice(&content);
        bytes[5] = 0;
    });
    assert!(changed);
    assert_eq!(bytes(bench.read(4, 3)), [content[4], 0, content[6]].to_vec());
    assert!(!bench.disk.is_true(&folder(), "key"));
}

#[test]
fn a_library_that_has_another_length_is_not_trusted() {
    let (mut bench, content) = Bench::with_content(6, 2 * BLOCK + 5);
    bench.disk.preload_true(&folder(), "key", &bench.library);
    bench.open(open_files(&layout(&[("a", 2 * BLOCK)]))).expect("it opens");
    assert_eq!(bench.content(), content.slice(..2 * BLOCK as usize));
    bench.write(0, content.slice(..BLOCK as usize)).expect("there is room");
    assert!(!bench.disk.is_true(&folder(), "key"));
    assert_eq!(bench.content(), content.slice(..2 * BLOCK as usize));
}

#[test]
fn padding_is_not_stored_and_reads_as_zeros() {
    let mut info = b"d5:filesld6:lengthi5e4:pathl1:aeed4:attr1:p6:lengthi11e4:pathl4:.pad2:11ee\
        d6:lengthi4e4:pathl1:beee4:name1:t12:piece lengthi16384e6:pieces20:"
        .to_vec();
    info.extend([0; 20]);
    info.push(b'e');
    let info = Info::from_bytes(info.into()).expect("legal");
    let layout = Arc::clone(info.layout());
    assert!(layout.files().any(File::is_pad));
    let mut bench = Bench::new(7);
    bench.open(open_files(&layout)).expect("it opens");
    let space = layout.space_len();
    bench.write(0, vec![7; space as usize]).expect("there is room");
    let read = bytes(bench.read(0, space as u32));
    let second = layout.files().last().expect("a file").offset() as usize;
    assert!(read[..5].iter().chain(&read[second..]).all(|byte| *byte == 7));
    assert!(read[5..second].iter().all(|byte| *byte == 0));
    let there: Vec<bool> = stats(bench.files(FileOp::Check)).iter().map(Option::is_some).collect();
    assert_eq!(there, [true, false, true]);
}

#[test]
fn files_that_nobody_wants_are_made_when_they_are_written() {
    let mut bench = Bench::new(8);
    let layout = layout(&[("a", 5), ("b", 4), ("c", 0)]);
    let wanted = [true, false, false].into();
    bench.open(OpenFiles { wanted, ..open_files(&layout) }).expect("it opens");
    assert_eq!(lens(bench.files(FileOp::Check)), [Some((5, 0)), None, Some((0, 0))]);
    fails(bench.read(4, 2), JobErrorKind::NotFound);
    assert_eq!(bytes(bench.read(0, 5)), &[0; 5][..]);
    bench.write(4, &b"xy"[..]).expect("there is room");
    assert_eq!(bytes(bench.read(4, 3)), &b"xy\0"[..]);
}

#[test]
fn who_only_reads_changes_nothing() {
    let mut bench = Bench::new(9);
    bench.disk.preload(&folder(), "key", b"hel", &bench.library);
    let layout = layout(&[("a", 5), ("b", 4)]);
    bench.open(OpenFiles { writable: false, ..open_files(&layout) }).expect("it opens");
    fails(bench.write(0, &b"x"[..]), JobErrorKind::PermissionDenied);
    fails(bench.read(0, 4), JobErrorKind::NotFound);
    assert_eq!(lens(bench.files(FileOp::Check)), [Some((3, 3)), None]);
    assert!(bench.disk.is_clean());
}

#[test]
fn files_are_moved_and_deleted_and_never_over_others() {
    let mut bench = Bench::new(10);
    let to = Location(Bytes::from_static(b"/elsewhere"));
    let layout = layout(&[("a", 5)]);
    bench.open(open_files(&layout)).expect("it opens");
    bench.write(0, &b"hello"[..]).expect("there is room");
    bench.disk.preload(&to, "key", b"in the way", &bench.library);
    fails(bench.files(FileOp::Move { to: to.clone() }), JobErrorKind::Obstructed);
    let third = Location(Bytes::from_static(b"/third"));
    bench.files(FileOp::Move { to: third.clone() }).expect("nothing is there");
    assert_eq!(bench.disk.content(&folder(), "key", &bench.library), None);
    let moved = bench.disk.content(&third, "key", &bench.library);
    assert_eq!(moved.as_deref(), Some(&b"hello"[..]));
    assert_eq!(bytes(bench.read(0, 5)), &b"hello"[..]);
    bench.files(FileOp::Delete).expect("they are there");
    assert_eq!(bench.disk.content(&third, "key", &bench.library), None);
    fails(bench.read(0, 5), JobErrorKind::NotFound);
    bench.files(FileOp::Close).expect("it closes");
    assert!(bench.disk.shelf.find(&third, "key").is_none(), "nothing is left of it");
}

#[test]
fn a_full_disk_takes_nothing_and_keeps_what_it_has() {
    let mut bench = Bench::new(11);
    bench.disk.preload(&folder(), "key", b"hello", &bench.library);
    bench.open(open_files(&layout(&[("a", 5)]))).expect("it opens");
    bench.disk.set_room(Some(2));
    fails(bench.write(0, &b"HEL"[..]), JobErrorKind::Full);
    bench.write(0, &b"HE"[..]).expect("there is room");
    fails(bench.run(save(b"x")), JobErrorKind::Full);
    assert_eq!(bench.content(), &b"HEllo"[..]);
    bench.disk.set_room(None);
    bench.run(save(b"x")).expect("there is room again");
    assert_eq!(bench.disk.faults().expect("set").fired(Fault::Full), 2);
    assert_eq!(bench.disk.bytes_written(), 3);
}

#[test]
fn files_that_got_their_room_at_once_cannot_find_the_disk_full() {
    let mut bench = Bench::new(12);
    let open = OpenFiles { allocation: Allocation::Full, ..open_files(&layout(&[("a", 5)])) };
    bench.disk.set_room(Some(4));
    fails(bench.open(open.clone()), JobErrorKind::Full);
    assert_eq!(bench.disk.shelf.iter().count(), 0);
    bench.disk.set_room(Some(5));
    bench.open(open).expect("there is room");
    assert_eq!(lens(bench.files(FileOp::Check)), [Some((5, 5))]);
    bench.write(0, &b"hello"[..]).expect("it has its room");
    fails(bench.run(save(b"x")), JobErrorKind::Full);
}

#[test]
fn a_hash_over_parts_is_the_real_one_wherever_they_come_from() {
    let (mut bench, content) = Bench::with_content(13, 3 * BLOCK);
    for _ in 0..2 {
        let mut data = Chunks::from(content.slice(..100));
        data.push(content.slice(100..2 * BLOCK as usize));
        data.push(Bytes::from_static(b"and more"));
        data.push(content.slice(7..9));
        let expected = sha1(&data.to_vec());
        let hash = Job::Hash {
            torrent: torrent(),
            state: HashState::new(HashAlgorithm::Sha1).into(),
            source: HashSource::Memory(data),
            last: true,
        };
        let Ok(JobOutput::Digest(digest)) = bench.run(hash) else { panic!("a digest") };
        assert_eq!(digest.as_bytes(), expected);
    }
}

#[test]
fn a_flush_covers_what_was_completed_before_it_was_taken_and_nothing_else() {
    for number in 0..20 {
        let mut bench = Bench::new(number);
        bench.open(open_files(&layout(&[("a", 2 * BLOCK)]))).expect("it opens");
        bench.write(0, &b"first"[..]).expect("there is room");
        let instant = Profile::new(4, true);
        bench.disk.set_profile(instant.with(JobKind::Flush, Cost::micros(10, 10, 0)));
        let flush = bench.submit(Job::Files { torrent: torrent(), op: FileOp::Flush });
        let late = bench.submit(write(BLOCK, &b"second"[..]));
        assert_eq!(bench.step().expect("the write is faster").0, late);
        assert_eq!(bench.step().expect("then the flush").0, flush);
        assert!(!bench.disk.is_clean());
        bench.disk.crash(bench.now, Crash::Power, &bench.library);
        let content = bench.content();
        assert_eq!(content[..5], *b"first");
        let second = &content[BLOCK as usize..BLOCK as usize + 6];
        assert!(second == b"second" || second == [0; 6]);
    }
}

#[test]
fn a_flush_that_fails_makes_nothing_durable_and_the_next_one_does() {
    let mut lost = 0;
    for number in 0..40 {
        let mut bench = Bench::new(number);
        bench.open(open_files(&layout(&[("a", BLOCK)]))).expect("it opens");
        bench.files(FileOp::Flush).expect("it flushes");
        bench.disk.faults_mut().fail_nth(JobKind::Flush, 2, JobErrorKind::Io);
        bench.write(0, &b"bytes"[..]).expect("there is room");
        fails(bench.files(FileOp::Flush), JobErrorKind::Io);
        if number % 2 == 0 {
            bench.files(FileOp::Flush).expect("it flushes");
        }
        bench.disk.crash(bench.now, Crash::Power, &bench.library);
        let there = bench.content()[..5] == *b"bytes";
        assert!(there || number % 2 == 1);
        lost += u32::from(!there);
    }
    assert!((5..15).contains(&lost), "{lost} of 20");
}

#[test]
fn a_program_that_ends_loses_only_what_was_under_way() {
    let mut bench = Bench::new(14);
    let open = open_files(&layout(&[("a", BLOCK)]));
    bench.open(open.clone()).expect("it opens");
    bench.write(0, &b"written"[..]).expect("there is room");
    bench.disk.set_profile(Profile::SSD);
    bench.submit(write(0, &b"WRITTEN"[..]));
    let after = bench.disk.crash(bench.now, Crash::Process, &bench.library);
    assert_eq!(after, Aftermath { jobs: 1, ..Aftermath::default() });
    assert_eq!((bench.disk.next(), bench.disk.room()), (None, JOBS_MAX));
    assert_eq!(bench.content()[..7], *b"written");
    // Nobody holds the lock, and it is still to be flushed.
    assert!(!bench.disk.is_clean());
    bench.open(open).expect("it opens");
    bench.files(FileOp::Flush).expect("it flushes");
    assert!(bench.disk.is_clean());
}

#[test]
fn a_save_under_way_in_a_crash_is_old_or_new_and_both_happen() {
    for how in [Crash::Process, Crash::Power] {
        let mut new = 0;
        for number in 0..40 {
            let mut bench = Bench::new(number);
            bench.run(save(b"old")).expect("it is saved");
            bench.disk.set_profile(Profile::HDD);
            bench.submit(save(b"new"));
            let after = bench.disk.crash(bench.now, how, &bench.library);
            let found = bench.disk.saved(&folder(), "state").expect("never none").clone();
            assert_eq!(found, if after.saved == 1 { &b"new"[..] } else { b"old" });
            new += after.saved;
        }
        assert!((10..30).contains(&new), "{new} of 40");
    }
}

#[test]
fn a_file_that_was_made_and_not_flushed_may_be_gone_or_empty() {
    let mut seen = [0; 3];
    for number in 0..60 {
        let mut bench = Bench::new(number);
        let open = open_files(&layout(&[("a", 9)]));
        bench.open(open.clone()).expect("it opens");
        bench.disk.crash(bench.now, Crash::Power, &bench.library);
        match *lens(bench.open(open)) {
            [None] => seen[0] += 1,
            [Some((0, 0))] => seen[1] += 1,
            [Some((9, 0))] => seen[2] += 1,
            ref other => panic!("{other:?}"),
        }
    }
    assert!(seen.iter().all(|times| *times > 5), "{seen:?}");
}

#[test]
fn a_torn_block_is_a_mixture_of_whole_sectors() {
    let (mut bench, content) = Bench::with_content(15, 4 * BLOCK);
    bench.open(open_files(&layout(&[("a", 4 * BLOCK)]))).expect("it opens");
    bench.files(FileOp::Flush).expect("it flushes");
    bench.disk.faults_mut().tear(ALWAYS_PPM);
    bench.write(0, content.clone()).expect("there is room");
    let after = bench.disk.crash(bench.now, Crash::Power, &bench.library);
    assert_eq!((after.torn_blocks, after.lost_blocks), (4, 0));
    let found = bench.content();
    let sectors = found.chunks(512).zip(content.chunks(512));
    let kept = sectors.filter(|(found, truth)| {
        assert!(found == truth || found.iter().all(|byte| *byte == 0));
        found == truth
    });
    assert!((32..96).contains(&kept.count()));
    assert_eq!(bench.disk.faults().expect("set").fired(Fault::Torn), 4);
}

#[test]
fn a_read_may_see_a_wrong_bit_or_other_bytes_while_the_disk_stays_right() {
    let (mut bench, content) = Bench::with_content(16, 4 * BLOCK);
    bench.disk.preload_true(&folder(), "key", &bench.library);
    bench.open(open_files(&layout(&[("a", 4 * BLOCK)]))).expect("it opens");
    bench.disk.faults_mut().flip_bits(ALWAYS_PPM);
    let read = bytes(bench.read(3, 1_000));
    let wrong: u32 =
        read.iter().zip(&content[3..1_003]).map(|(one, other)| (one ^ other).count_ones()).sum();
    assert_eq!(wrong, 1);
    let Ok(JobOutput::Digest(digest)) = bench.run(stored_hash(0, 9)) else { panic!("a digest") };
    assert_ne!(digest.as_bytes(), sha1(&content[..9]));
    bench.disk.faults_mut().heal();
    bench.disk.faults_mut().misdirect(ALWAYS_PPM);
    let read = bytes(bench.read(BLOCK, 1_000));
    assert_ne!(read, content.slice(BLOCK as usize..BLOCK as usize + 1_000));
    bench.disk.faults_mut().heal();
    assert_eq!(bytes(bench.read(3, 1_000)), content.slice(3..1_003));
    let faults = bench.disk.faults().expect("set");
    assert_eq!((faults.fired(Fault::BitFlip), faults.fired(Fault::Misdirected)), (2, 1));
    assert!(bench.disk.is_true(&folder(), "key"));
}

#[test]
fn a_misdirected_write_is_missing_where_it_belongs_and_overwrites_what_it_hits() {
    // Two files, so that a write may land in the other one.
    let len = 8 * BLOCK;
    let mut elsewhere = [0; 2];
    for number in 0..40 {
        let (mut bench, content) = Bench::with_content(number, len);
        bench.open(open_files(&layout(&[("a", 3 * BLOCK), ("b", 5 * BLOCK)]))).expect("it opens");
        for at in 1..8 {
            bench.write(at * BLOCK, content.slice(range(at))).expect("there is room");
        }
        bench.disk.faults_mut().misdirect_writes(ALWAYS_PPM);
        bench.write(0, content.slice(range(0))).expect("it says so");
        assert_eq!(bench.disk.faults().expect("set").fired(Fault::MisdirectedWrite), 1);
        bench.disk.faults_mut().heal();
        assert_eq!(bytes(bench.read(0, 512)), vec![0; 512], "nothing came where it belongs");
        assert!(!bench.disk.is_true(&folder(), "key"));
        let found = bench.content();
        let hit =
            (0..8).filter(|at| *at > 0 && found.slice(range(*at)) != content.slice(range(*at)));
        let hit: Vec<u64> = hit.collect();
        // It begins at a sector, so that one block or two are hit.
        assert!((1..=2).contains(&hit.len()), "{hit:?}");
        elsewhere[usize::from(hit[0] >= 3)] += 1;
        // A check reads what is there, and does not find what it looks for.
        for at in hit {
            let hash = bench.run(stored_hash(at * BLOCK, BLOCK as u32));
            let Ok(JobOutput::Digest(digest)) = hash else { panic!("a digest") };
            assert_ne!(digest.as_bytes(), sha1(&content[range(at)]));
        }
    }
    assert!(elsewhere.iter().all(|times| *times > 5), "{elsewhere:?}");
}

/// Where a block lies.
fn range(block: u64) -> std::ops::Range<usize> {
    (block * BLOCK) as usize..((block + 1) * BLOCK) as usize
}

#[test]
fn the_nth_job_of_every_kind_can_be_made_to_fail() {
    let layout = layout(&[("a", 9)]);
    let to = || FileOp::Move { to: Location(Bytes::from_static(b"/new")) };
    let all = |bench: &mut Bench| {
        let files = |op| Job::Files { torrent: torrent(), op };
        let jobs = [
            files(FileOp::Open(open_files(&layout).into())),
            write(0, &b"x"[..]),
            Job::Read { torrent: torrent(), offset: 0, len: 1 },
            stored_hash(0, 1),
            Job::Fence { torrent: torrent() },
            files(FileOp::Flush),
            files(FileOp::Check),
            files(FileOp::Room { bytes: 1 }),
            save(b"x"),
            files(to()),
            files(FileOp::Delete),
            files(FileOp::Close),
        ];
        jobs.map(|job| bench.run(job).err().map(|error| error.kind))
    };
    for kind in JobKind::ALL {
        let mut bench = Bench::new(17);
        bench.disk.faults_mut().fail_nth(kind, 2, JobErrorKind::PermissionDenied);
        assert_eq!(all(&mut bench), [None; JobKind::COUNT]);
        assert_eq!(bench.disk.jobs_taken(kind), 1);
        let second = all(&mut bench);
        let denied = second.iter().filter(|it| **it == Some(JobErrorKind::PermissionDenied));
        assert_eq!(denied.count(), 1, "{kind:?}");
        assert!(bench.disk.counts().of(kind).failed >= 1);
        // A lock is given back though closing fails.
        if kind != JobKind::Open {
            assert_eq!(all(&mut bench)[0], None, "{kind:?}");
        }
    }
}

#[test]
fn a_disk_is_slow_for_a_while_and_a_job_may_hang() {
    let mut bench = Bench::new(18);
    bench.disk.set_profile(Profile::new(1, false).with(JobKind::Save, Cost::micros(5, 5, 0)));
    let until = Nanos(bench.now.0 + 10_000);
    bench.disk.faults_mut().slow_between(bench.now, until, 3);
    let took = |bench: &mut Bench| {
        let before = bench.now;
        bench.run(save(b"x")).expect("it is saved");
        bench.now.since(before)
    };
    assert_eq!(took(&mut bench), Duration::from_micros(15));
    assert_eq!(took(&mut bench), Duration::from_micros(5));
    bench.disk.faults_mut().stick(ALWAYS_PPM, Duration::from_secs(40));
    assert_eq!(took(&mut bench), Duration::from_micros(40_000_005));
    let faults = bench.disk.faults().expect("set");
    assert_eq!((faults.fired(Fault::Slow), faults.fired(Fault::Stuck)), (1, 1));
}

#[test]
fn a_disk_that_reorders_lets_reads_overtake_and_hands_limit_it() {
    let mut bench = Bench::new(19);
    bench.open(open_files(&layout(&[("a", BLOCK)]))).expect("it opens");
    bench.disk.set_profile(Profile::SSD);
    let jobs: Vec<JobId> = (0..JOBS_MAX as u64)
        .map(|at| bench.submit(Job::Read { torrent: torrent(), offset: at, len: 1 }))
        .collect();
    assert_eq!(bench.disk.room(), 0);
    let mut order = Vec::new();
    let started = bench.now;
    while let Some((id, result)) = bench.step() {
        assert_eq!(bytes(result), &b"\0"[..]);
        order.push(id);
    }
    assert_ne!(order, jobs);
    order.sort_unstable();
    assert_eq!(order, jobs);
    let took = bench.now.since(started).as_micros();
    assert!((64 / 8 * 60..64 / 8 * 120).contains(&took), "{took}");
}

/// One step of a random life.
#[derive(Clone, Debug)]
enum Step {
    /// From a sector on, so many bytes, of this value; none: true ones.
    Write(u16, u16, Option<u8>),
    Flush,
    Read(u16, u16),
    Process,
    /// With a write like that under way.
    Power(u16, u16, Option<u8>),
}

/// The bytes of a write from a sector on.
fn data(content: &Bytes, sector: u16, len: u16, value: Option<u8>) -> (usize, Bytes) {
    let at = usize::from(sector) * 512;
    let end = (at + usize::from(len)).min(content.len());
    let true_bytes = content.slice(at..end);
    (at, value.map_or(true_bytes, |value| vec![value; end - at].into()))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = || prop_oneof![Just(None), any::<u8>().prop_map(Some)];
    let write = move || (0..160_u16, 0..40_000_u16, value());
    let step = prop_oneof![
        8 => write().prop_map(|(at, len, value)| Step::Write(at, len, value)),
        2 => Just(Step::Flush),
        4 => (any::<u16>(), any::<u16>()).prop_map(|(at, len)| Step::Read(at, len)),
        1 => Just(Step::Process),
        2 => write().prop_map(|(at, len, value)| Step::Power(at, len, value)),
    ];
    prop::collection::vec(step, 1..40)
}

/// A file as everybody understands it, and what each byte may be after a power cut.
struct Model {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Every value that a byte had since it was durable.
    since: Vec<Vec<u8>>,
}

impl Model {
    fn write(&mut self, at: usize, data: &[u8]) {
        for (at, byte) in (at..).zip(data) {
            self.bytes[at] = *byte;
            self.since[at].push(*byte);
        }
    }

    fn flush(&mut self) {
        self.durable.clone_from(&self.bytes);
        self.since.iter_mut().for_each(Vec::clear);
    }

    /// Takes over what was found after a power cut, if it may be.
    fn power(&mut self, found: &[u8]) {
        assert_eq!(found.len(), self.bytes.len());
        for (at, byte) in found.iter().enumerate() {
            let legal = *byte == self.durable[at] || self.since[at].contains(byte);
            assert!(legal, "byte {at} is {byte}, was {}", self.durable[at]);
        }
        self.bytes = found.to_vec();
        self.flush();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn after_a_power_cut_every_byte_is_durable_or_was_written_since(
        steps in steps(),
        number in any::<u64>(),
        known in any::<bool>(),
        made in any::<bool>(),
        torn_ppm in prop_oneof![Just(0), Just(300_000)],
    ) {
        const LEN: u64 = 5 * BLOCK + 700;
        let (mut bench, mut content) = Bench::with_content(number, LEN);
        if !known {
            content = Bytes::from(content.to_vec());
            bench.library = Library::new();
        }
        let open = open_files(&layout(&[("a", 3 * BLOCK + 100), ("b", 2 * BLOCK + 600)]));
        bench.open(open.clone()).expect("it opens");
        if made {
            // Else the files themselves may be gone.
            bench.files(FileOp::Flush).expect("it flushes");
        }
        bench.disk.faults_mut().tear(torn_ppm);
        let zeros = vec![0; LEN as usize];
        let mut model =
            Model { bytes: zeros.clone(), durable: zeros, since: vec![Vec::new(); LEN as usize] };
        for step in steps {
            bench.now += Duration::from_millis(1);
            match step {
                Step::Write(sector, len, value) => {
                    let (at, data) = data(&content, sector, len, value);
                    model.write(at, &data);
                    bench.write(at as u64, data).expect("there is room");
                }
                Step::Flush => {
                    bench.files(FileOp::Flush).expect("it flushes");
                    prop_assert!(bench.disk.is_clean());
                    model.flush();
                }
                Step::Read(at, len) => {
                    let at = u64::from(at);
                    let len = u64::from(len).min(LEN - at);
                    let read = bytes(bench.read(at, len as u32));
                    prop_assert_eq!(read, &model.bytes[at as usize..(at + len) as usize]);
                }
                Step::Process => {
                    bench.disk.crash(bench.now, Crash::Process, &bench.library);
                    prop_assert_eq!(bench.content(), &model.bytes[..]);
                    bench.open(open.clone()).expect("it opens");
                }
                Step::Power(sector, len, value) => {
                    let (at, data) = data(&content, sector, len, value);
                    model.since[at..at + data.len()].iter_mut().zip(&data).for_each(|(all, byte)| {
                        all.push(*byte);
                    });
                    bench.disk.set_profile(Profile::HDD);
                    bench.submit(write(at as u64, data));
                    bench.disk.crash(bench.now, Crash::Power, &bench.library);
                    bench.disk.set_profile(Profile::INSTANT);
                    prop_assert!(bench.disk.is_clean());
                    // Opening makes what is gone, and zeros what is missing.
                    bench.open(open.clone()).expect("it opens");
                    model.power(&bench.content());
                }
            }
        }
        prop_assert_eq!(bench.content(), &model.bytes[..]);
        prop_assert_eq!(bench.disk.is_true(&folder(), "key"), known && model.bytes == content);
    }

    #[test]
    fn the_rules_of_order_hold_under_every_profile(
        jobs in prop::collection::vec((0..2_u32, 0..6_u8, 0..3_u8), 1..200),
        number in any::<u64>(),
        hands in 1..6_u16,
        reorders in any::<bool>(),
        stuck in any::<bool>(),
    ) {
        let mut bench = Bench::new(number);
        let mut profile = Profile::new(hands, reorders);
        for kind in JobKind::ALL {
            profile = profile.with(kind, Cost::micros(0, 50, 1_000_000));
        }
        bench.disk.set_profile(profile);
        if stuck {
            bench.disk.faults_mut().stick(200_000, Duration::from_micros(300));
        }
        // Those under way, in the order in which they were taken: torrent, fence, alone.
        let mut under_way: Vec<(JobId, u32, bool, bool)> = Vec::new();
        let mut taken = jobs.into_iter();
        let mut next = taken.next();
        let mut completed = 0;
        loop {
            let full = bench.disk.room() == 0;
            if let Some((slot, what, wait)) = next.filter(|_| !full) {
                let torrent = TorrentId::from_parts(slot, 1);
                let job = match what {
                    0 => Job::Fence { torrent },
                    1 => Job::Files { torrent, op: FileOp::Delete },
                    2 => Job::Files { torrent, op: FileOp::Flush },
                    3 => Job::Write { torrent, offset: 0, data: Bytes::from_static(b"x").into() },
                    _ => Job::Read { torrent, offset: 0, len: 7 },
                };
                let id = bench.submit(job);
                under_way.push((id, slot, what == 0, what == 1));
                next = taken.next();
                if wait > 0 {
                    continue;
                }
            }
            let Some((id, _)) = bench.step() else {
                prop_assert!(under_way.is_empty(), "something never completes");
                if next.is_none() {
                    break;
                }
                continue;
            };
            completed += 1;
            let at = under_way.iter().position(|job| job.0 == id).expect("it is under way");
            let (_, slot, fence, alone) = under_way.remove(at);
            let before = || under_way[..at].iter().filter(|job| job.1 == slot);
            prop_assert!(!(fence || alone) || before().next().is_none());
            prop_assert!(before().all(|job| !job.3), "it overtook what runs alone");
            prop_assert!(reorders || at == 0);
        }
        prop_assert_eq!(completed, bench.jobs);
        let done: u32 = JobKind::ALL
            .map(|kind| bench.disk.counts().of(kind))
            .iter()
            .map(|count| count.done + count.failed)
            .sum();
        prop_assert_eq!(done, completed);
    }
}

#[test]
fn the_same_life_twice_is_the_same_life() {
    let life = |number| {
        let (mut bench, content) = Bench::with_content(number, 40 * BLOCK);
        bench.disk.set_profile(Profile::SSD);
        bench.disk.faults_mut().fail(JobKind::Write, 50_000).tear(500_000).flip_bits(100_000);
        bench.open(open_files(&layout(&[("a", 40 * BLOCK)]))).expect("it opens");
        let mut log = Vec::new();
        for block in 0..40 {
            let at = (block * BLOCK) as usize;
            bench.submit(write(at as u64, content.slice(at..at + BLOCK as usize)));
        }
        for _ in 0..30 {
            let (id, result) = bench.step().expect("some are left");
            log.push((bench.now, id, result));
        }
        bench.disk.crash(bench.now, Crash::Power, &bench.library);
        (log, bench.content())
    };
    assert!(life(1) == life(1));
    assert!(life(1) != life(2));
}
