//! A disk as a machine of its own: jobs go in, completions come out when their time has come, and
//! a crash leaves what a crash leaves.
//!
//! ```text
//!   submit ──▶ [ queue ] ── due ──▶ complete ──▶ JobResult
//!                 │ order rules        │
//!              Profile: hands,      Image per folder and torrent: files,
//!              latency, rates       blocks that differ, what is not durable
//! ```
//!
//! It keeps the rules of [`Job`]. What a job does, it does at the moment it completes, so a read
//! sees every write that completed before it, and may see more. Content is held as what differs
//! from the true one in the [`Library`]: a bit per block where nothing does. True bytes are read
//! without a copy and, through [`Library::hash`], hashed once per run.
//!
//! Looking up names is no work for a disk: [`Job::Resolve`] is refused by a panic.
//!
//! # Crashes
//!
//! After [`Crash::Process`] everything that was completed is there. After [`Crash::Power`] what was
//! not flushed may be lost, block by block and file by file; a file that was made and not flushed
//! may be gone or empty, and time of change and length of a file may be older than its bytes. Two
//! things are durable as soon as they are completed: saved blobs, which [`Job::Save`] promises, and
//! [`FileOp::Move`] and [`FileOp::Delete`], as a journal makes them.

mod blobs;
mod blocks;
mod counts;
mod faults;
mod image;
mod profile;
mod queue;
mod shelf;
#[cfg(test)]
mod tests;
mod undo;

use std::sync::Arc;

use bytes::Bytes;
use teem_core::chunks::Chunks;
use teem_core::hash::HashState;
use teem_core::ids::{JobId, TorrentId};
use teem_core::machine::{
    FileOp, HashSource, Job, JobError, JobErrorKind, JobOutput, JobResult, Location, OpenFiles,
};
use teem_core::rng::{Rng, Seed};

use crate::content::{Library, Span};
use crate::time::Nanos;
use blobs::Blobs;
use image::Image;
use queue::{Queue, Task};
use shelf::Shelf;

pub use counts::{Count, Counts, JobKind};
pub use faults::{ALWAYS_PPM, Fault, Faults, NTH_MAX};
pub use profile::{Cost, Profile};

/// Jobs that a disk takes at a time, those that wait for a hand included.
pub const JOBS_MAX: usize = 64;

/// See the [module](self).
#[derive(Debug)]
pub struct Disk {
    queue: Queue,
    shelf: Shelf,
    blobs: Blobs,
    counts: Counts,
    /// Bytes of room that were ever taken: rewriting takes some again, as on a disk that never
    /// frees any.
    room_taken: u64,
    /// None: [`Profile::INSTANT`].
    profile: Option<Arc<Profile>>,
    faults: Option<Box<Faults>>,
    latency: Rng,
    /// Apart from `latency`, so that a fault that is switched on shifts no delay.
    chance: Rng,
}

/// How a host goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The program ends. Content writes that were not completed did not happen.
    Process,
    /// The power fails: what was not flushed is gone, or not, or half of it. So it is with content
    /// writes that were being worked on.
    Power,
}

/// Jobs under way that a crash settled, for whoever counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aftermath {
    /// Jobs that will never complete.
    pub jobs: u32,
    /// Saves among them that are there all the same.
    pub saved: u32,
    /// Blocks that went back to what was durable. Some may have held the same bytes.
    pub lost_blocks: u64,
    /// Blocks that are a mixture.
    pub torn_blocks: u64,
}

impl Disk {
    /// An empty disk with room for everything that does all at once ([`Profile::INSTANT`]). Delays
    /// and faults are drawn from `rng`.
    pub fn new(mut rng: Rng) -> Self {
        let mut seed = [0; 32];
        rng.fill(&mut seed);
        Self {
            queue: Queue::default(),
            shelf: Shelf::default(),
            blobs: Blobs::default(),
            counts: Counts::default(),
            room_taken: 0,
            profile: None,
            faults: None,
            latency: rng,
            chance: Seed(seed).stream("faults", 0),
        }
    }

    /// How many more jobs it takes now, of [`JOBS_MAX`].
    pub fn room(&self) -> usize {
        self.queue.room()
    }

    /// Takes a job. Panics without [`room`](Self::room), and on a job that no disk does.
    pub fn submit(&mut self, now: Nanos, id: JobId, job: Job) {
        let kind = JobKind::of(&job).expect("names are looked up elsewhere");
        let mut task = Task::new(id, kind, job);
        let n = self.counts.take(kind);
        if let Some(faults) = &mut self.faults {
            task.fails = faults.on_take(kind, n, &mut self.chance);
        }
        if let (JobKind::Flush, Some(torrent)) = (kind, task.torrent()) {
            task.seal = self.shelf.opened(torrent).map_or(0, Image::seal);
        }
        self.queue.push(task);
        self.start(now);
    }

    /// Reads what is needed to take a job or to complete one.
    pub(crate) fn fetch(&self) -> u64 {
        self.shelf.fetch()
    }

    /// When the next completion is due. O(1).
    pub fn next(&self) -> Option<Nanos> {
        self.queue.next()
    }

    /// Completes the next job that is due by `now`; none if there is none.
    pub fn complete(&mut self, now: Nanos, library: &mut Library) -> Option<(JobId, JobResult)> {
        let task = self.queue.pop(now)?;
        let (id, kind) = (task.id, task.kind);
        let result = self.run(now, task, library);
        self.counts.complete(kind, result.is_ok());
        self.start(now);
        Some((id, result))
    }

    /// Nobody waits for that job any more: a read or a hash that was not begun fails with
    /// [`JobErrorKind::Cancelled`] when its turn comes, and takes no time. Everything else goes on,
    /// and each job completes once.
    pub fn cancel(&mut self, id: JobId) {
        self.queue.cancel(id);
    }

    /// Starts what may start.
    fn start(&mut self, now: Nanos) {
        let (hands, reorders) = match &self.profile {
            None => (Profile::INSTANT.hands(), Profile::INSTANT.reorders()),
            Some(profile) => (profile.hands(), profile.reorders()),
        };
        while let Some(at) = self.queue.startable(hands, reorders) {
            let task = self.queue.task(at);
            let mut nanos = 0;
            if !matches!(task.fails, Some((JobErrorKind::Cancelled, _))) {
                let (kind, stored) = (task.kind, task.is_stored());
                if let Some(profile) = &self.profile {
                    let bytes = counts::bytes_of(&task.job);
                    nanos = profile.draw(kind, stored, bytes, &mut self.latency);
                }
                if let Some(faults) = &mut self.faults {
                    nanos = faults.on_start(now, nanos, &mut self.chance);
                }
            }
            self.queue.start(at, Nanos(now.0.saturating_add(nanos)), reorders);
        }
    }

    /// Changes how it behaves, for jobs that start from now on. Many disks may share a profile.
    pub fn set_profile(&mut self, profile: impl Into<Arc<Profile>>) {
        self.profile = Some(profile.into()).filter(|profile| **profile != Profile::INSTANT);
    }

    /// What goes wrong, to change it. Half a kilobyte from the first call on.
    pub fn faults_mut(&mut self) -> &mut Faults {
        self.faults.get_or_insert_default()
    }

    /// What goes wrong, and went; none if nothing ever did and was never going to.
    pub fn faults(&self) -> Option<&Faults> {
        self.faults.as_deref()
    }

    /// From here on there is room for that many more bytes; none: for everything.
    pub fn set_room(&mut self, bytes: Option<u64>) {
        let full_at = bytes.map(|bytes| self.room_taken.saturating_add(bytes));
        if full_at.is_some() || self.faults.is_some() {
            self.faults_mut().set_full_at(full_at);
        }
    }

    /// What it did so far.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many jobs of that kind it took so far: the next one is the n+1st for
    /// [`Faults::fail_nth`].
    pub const fn jobs_taken(&self, kind: JobKind) -> u32 {
        self.counts.of(kind).taken
    }

    /// Bytes written so far, content and blobs.
    pub const fn bytes_written(&self) -> u64 {
        self.counts.written_bytes
    }

    /// The host goes down. Jobs under way never complete; nothing is open and no lock is held; a
    /// save under way happened or did not. Profile, faults and counts stay.
    pub fn crash(&mut self, now: Nanos, how: Crash, library: &Library) -> Aftermath {
        let mut after = Aftermath::default();
        for task in self.queue.take() {
            after.jobs += 1;
            let (started, torrent) = (task.is_started(), task.torrent());
            match task.job {
                Job::Save { location, name, data }
                    if started && task.fails.is_none() && self.chance.below(2) == 0 =>
                {
                    after.saved += 1;
                    self.blobs.put(location, name, data);
                }
                Job::Write { offset, data, .. }
                    if started && task.fails.is_none() && how == Crash::Power =>
                {
                    let image = torrent.and_then(|torrent| self.shelf.opened(torrent));
                    if let Some(image) = image {
                        // Not flushed: the blocks are judged with the others.
                        let _ = image.write(offset, &data, modified(now), library);
                    }
                }
                _ => {}
            }
        }
        self.shelf.close_all();
        if how == Crash::Power {
            let torn_ppm = self.faults.as_ref().map_or(0, |faults| faults.torn_ppm());
            for image in self.shelf.iter_mut() {
                let loss = image.power_loss(torn_ppm, &mut self.chance, library);
                after.lost_blocks += loss.lost;
                after.torn_blocks += loss.torn;
            }
            if after.lost_blocks + after.torn_blocks > 0 {
                let faults = self.faults_mut();
                faults.count(Fault::Lost, after.lost_blocks);
                faults.count(Fault::Torn, after.torn_blocks);
            }
        }
        after
    }

    fn run(&mut self, now: Nanos, task: Task, library: &mut Library) -> JobResult {
        if let Some((kind, detail)) = task.fails {
            if let (JobKind::Close, Some(torrent)) = (task.kind, task.torrent()) {
                self.shelf.close(torrent);
            }
            return Err(failure(kind, detail));
        }
        match task.job {
            Job::Read { torrent, offset, len } => {
                self.read(torrent, offset, len, library).map(JobOutput::Read)
            }
            Job::Write { torrent, offset, data } => {
                self.write(now, torrent, offset, &data, library)
            }
            Job::Hash { torrent, mut state, source, last } => {
                match source {
                    HashSource::Memory(data) => hash(&mut state, &data, library),
                    HashSource::Stored { offset, len } => {
                        let data = self.read(torrent, offset, len, library)?;
                        library.hash(&mut state, &data);
                    }
                }
                Ok(if last { JobOutput::Digest(state.finish()) } else { JobOutput::Hashed(state) })
            }
            Job::Files { torrent, op } => self.files(now, torrent, op, task.seal, library),
            Job::Save { location, name, data } => {
                self.take_room(now, data.len() as u64)?;
                self.counts.written_bytes += data.len() as u64;
                self.blobs.put(location, name, data);
                Ok(JobOutput::Done)
            }
            // A fence; nothing else was taken.
            _ => Ok(JobOutput::Done),
        }
    }

    fn opened(&mut self, torrent: TorrentId) -> Result<&mut Image, JobError> {
        self.shelf.opened(torrent).ok_or_else(not_open)
    }

    /// Takes so many bytes of room, if there are.
    fn take_room(&mut self, now: Nanos, bytes: u64) -> Result<(), JobError> {
        if let Some(faults) = &mut self.faults
            && faults.on_room(now, self.room_taken, bytes)
        {
            return Err(no_room());
        }
        self.room_taken += bytes;
        Ok(())
    }

    fn read(
        &mut self,
        torrent: TorrentId,
        offset: u64,
        len: u32,
        library: &Library,
    ) -> Result<Bytes, JobError> {
        let image = self.opened(torrent)?;
        let mut data = image.read(offset, len, library)?;
        self.counts.read_bytes += u64::from(len);
        let Some(faults) = self.faults.as_deref_mut() else { return Ok(data) };
        if faults.on_seek(&mut self.chance)
            && let Some(image) = self.shelf.opened(torrent)
            && let Some(elsewhere) = image.elsewhere(offset, len, &mut self.chance)
            && let Ok(wrong) = image.read(elsewhere, len, library)
        {
            faults.count(Fault::Misdirected, 1);
            data = wrong;
        }
        if let Some((at, bit)) = faults.on_read(data.len(), &mut self.chance) {
            let mut wrong = data.to_vec();
            wrong[at] ^= bit;
            data = wrong.into();
        }
        Ok(data)
    }

    fn write(
        &mut self,
        now: Nanos,
        torrent: TorrentId,
        offset: u64,
        data: &Chunks,
        library: &Library,
    ) -> JobResult {
        let len = data.len() as u64;
        let image = self.shelf.opened(torrent).ok_or_else(not_open)?;
        let room = image.room_to_write(offset, len);
        if let Some(faults) = &mut self.faults
            && faults.on_room(now, self.room_taken, room)
        {
            return Err(no_room());
        }
        let mut place = offset;
        if let Some(faults) = &mut self.faults
            && faults.on_place(&mut self.chance)
            && let Some(elsewhere) = image.elsewhere(offset, len as u32, &mut self.chance)
        {
            faults.count(Fault::MisdirectedWrite, 1);
            place = elsewhere;
        }
        image.write(place, data, modified(now), library)?;
        self.room_taken += room;
        self.counts.written_bytes += len;
        Ok(JobOutput::Done)
    }

    fn files(
        &mut self,
        now: Nanos,
        torrent: TorrentId,
        op: FileOp,
        seal: u32,
        library: &Library,
    ) -> JobResult {
        match op {
            FileOp::Open(open) => return self.open(now, torrent, &open, library),
            FileOp::Flush => {
                let image = self.opened(torrent)?;
                image.flushed(seal);
                return Ok(image.stats());
            }
            FileOp::Check => return Ok(self.opened(torrent)?.stats()),
            FileOp::Room { bytes } => {
                self.opened(torrent)?;
                let taken = self.room_taken;
                if let Some(faults) = &mut self.faults
                    && faults.on_room(now, taken, bytes)
                {
                    return Err(no_room());
                }
            }
            FileOp::Move { to } => {
                let image = self.opened(torrent)?;
                if image.folder != to {
                    let key = image.key.clone();
                    let there = self.shelf.find(&to, &key);
                    if there.is_some_and(|image| image.open_by.is_some()) {
                        return Err(failure(JobErrorKind::Busy, "open already"));
                    }
                    if there.is_some_and(|image| !image.is_empty()) {
                        return Err(failure(JobErrorKind::Obstructed, "something is there"));
                    }
                    self.shelf.relocate(torrent, &to);
                }
            }
            FileOp::Delete => self.opened(torrent)?.delete(),
            FileOp::Close => self.shelf.close(torrent),
            _ => return Err(failure(JobErrorKind::Io, "unknown work on files")),
        }
        Ok(JobOutput::Done)
    }

    fn open(
        &mut self,
        now: Nanos,
        torrent: TorrentId,
        open: &OpenFiles,
        library: &Library,
    ) -> JobResult {
        let open_already = self.shelf.opened(torrent).is_some();
        let image = self.shelf.find_or_add(&open.folder, &open.key);
        if open_already || image.open_by.is_some() {
            return Err(failure(JobErrorKind::Busy, "open already"));
        }
        image.adopt(open, modified(now), library);
        let room = image.room_to_open(open);
        if let Err(full) = self.take_room(now, room) {
            if self.shelf.find(&open.folder, &open.key).is_some_and(Image::is_empty) {
                self.shelf.remove(&open.folder, &open.key);
            }
            return Err(full);
        }
        let image = self.shelf.find_or_add(&open.folder, &open.key);
        let found = image.open(torrent, open, modified(now));
        self.shelf.open(torrent, &open.folder, &open.key);
        Ok(found)
    }
}

/// What tests and scenarios put on a disk and find there.
impl Disk {
    /// Puts the first bytes of a torrent's content there, durably, padding included; its key is
    /// what [`OpenFiles::key`] will be. The files that begin before the end of `bytes` exist.
    /// Replaces what was there. Panics if a torrent has it open; [`damage`](Self::damage) does not.
    pub fn preload(&mut self, folder: &Location, key: &str, bytes: &[u8], library: &Library) {
        self.unopened(folder, key).preload(bytes, library);
    }

    /// Puts all the true content there, which the library has under that key: the same as
    /// [`preload`](Self::preload), for the price of a bit per block.
    pub fn preload_true(&mut self, folder: &Location, key: &str, library: &Library) {
        let content = library.find(key).expect("the library has that content");
        self.unopened(folder, key).preload_true(content, library);
    }

    fn unopened(&mut self, folder: &Location, key: &str) -> &mut Image {
        let image = self.shelf.find_or_add(folder, key);
        assert!(image.open_by.is_none(), "a torrent that has it open would not know");
        image
    }

    /// What lies there, up to the end of the last file that exists; none if there is no file. A
    /// slice of the library if it is all true, else a copy.
    pub fn content(&self, folder: &Location, key: &str, library: &Library) -> Option<Bytes> {
        self.shelf.find(folder, key)?.content(library)
    }

    /// Changes what lies there behind everybody's back, durably: `change` gets what
    /// [`content`](Self::content) tells. Returns whether anything lies there. Blocks that were not
    /// flushed may still go back to what they were before.
    pub fn damage(
        &mut self,
        folder: &Location,
        key: &str,
        library: &Library,
        change: impl FnOnce(&mut [u8]),
    ) -> bool {
        let Some(image) = self.shelf.find_mut(folder, key) else { return false };
        let Some(content) = image.content(library) else { return false };
        let mut bytes = content.to_vec();
        change(&mut bytes);
        image.overwrite(&bytes, library);
        true
    }

    /// Whether all files of the torrent are there, whole, and as the library has them. O(files).
    pub fn is_true(&self, folder: &Location, key: &str) -> bool {
        self.shelf.find(folder, key).is_some_and(Image::is_true)
    }

    /// Whether a power cut would lose nothing.
    pub fn is_clean(&self) -> bool {
        self.shelf.iter().all(Image::is_clean)
    }

    /// A saved blob.
    pub fn saved(&self, location: &Location, name: &str) -> Option<&Bytes> {
        self.blobs.get(location, name)
    }

    /// Every saved blob, by location and name.
    pub fn blobs(&self) -> impl Iterator<Item = (&Location, &str, &Bytes)> {
        self.blobs.iter()
    }

    /// Puts a blob there, or takes it away.
    pub fn set_saved(&mut self, location: &Location, name: &str, data: Option<Bytes>) {
        match data {
            Some(data) => self.blobs.put(location.clone(), name.into(), data),
            None => drop(self.blobs.remove(location, name)),
        }
    }

    /// Bytes of memory that it holds, itself included. Not counted: what jobs under way own, and
    /// what is shared with others (the library, layouts, profiles, the names
    /// of folders).
    pub fn footprint(&self) -> usize {
        size_of::<Self>()
            + self.queue.footprint()
            + self.shelf.footprint()
            + self.blobs.footprint()
            + self.faults.as_ref().map_or(0, |faults| faults.footprint())
    }
}

/// Takes a hash over bytes in memory. If they are true, they are taken as one slice of the library,
/// so that blocks that came in pieces are known too.
fn hash(state: &mut HashState, data: &Chunks, library: &mut Library) {
    match whole(data, library) {
        Some(whole) => library.hash(state, &whole),
        None => {
            for part in data.parts() {
                library.hash(state, part);
            }
        }
    }
}

/// The slice of the library that says the same as `data`, if one of its parts tells where it is.
fn whole(data: &Chunks, library: &Library) -> Option<Bytes> {
    let mut before = 0;
    let place = data.parts().iter().find_map(|part| {
        let found = library.locate(part);
        before += if found.is_none() { part.len() as u64 } else { 0 };
        found
    })?;
    let start = place.offset.checked_sub(before)?;
    let mut at = start;
    for part in data.parts() {
        if !library.is_true(part, Span { offset: at, ..place }) {
            return None;
        }
        at += part.len() as u64;
    }
    Some(library.bytes(place.content).slice(start as usize..at as usize))
}

/// The time of change of a file that is changed now: nanoseconds since 1970, if machines told it
/// by the time they see.
fn modified(now: Nanos) -> i64 {
    let origin = Nanos::ZERO.instant().as_micros() * 1_000;
    i64::try_from(origin.saturating_add(now.0)).unwrap_or(i64::MAX)
}

fn failure(kind: JobErrorKind, detail: &str) -> JobError {
    JobError { kind, detail: detail.into() }
}

fn not_open() -> JobError {
    failure(JobErrorKind::Io, "the files are not open")
}

fn no_room() -> JobError {
    failure(JobErrorKind::Full, "no room left")
}
