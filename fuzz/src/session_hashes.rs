//! A live session with a v2 torrent, and peers that ask for hashes, give them, and lie.
//!
//! What is held, besides that nothing panics: an answer is to a question, and leads to the root of
//! its file; a piece is verified only if the disk has it as it should be; nothing is asked for
//! that does not exist; and shutting down ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use teem_core::ids::{CommandToken, JobId, ListenerId, PeerId, PieceIndex, StreamId};
use teem_core::machine::{
    Application, FileOp, FileStat, HashSource, Incoming, Input, Job, JobError, JobErrorKind,
    JobOutput, JobResult, ListenerInput, Location, Machine, Output, StreamInput,
};
use teem_core::metainfo::Metainfo;
use teem_core::metainfo::create::{Content, Draft, Format, Options};
use teem_core::metainfo::merkle;
use teem_core::rng::Seed;
use teem_core::session::{AddTorrent, Command, Config, Event, Session};
use teem_core::time::{Duration, Instant, UnixTime};
use teem_core::wire::{
    BlockRequest, Decoder, HANDSHAKE_LEN, Handshake, HashMessage, HashRequest, Limits, Message,
    Reserved,
};

use crate::script::Script;

const PIECE_LEN: u32 = 32 * 1024;

/// Steps of a script; longer ones are cut.
const STEPS_MAX: usize = 300;

/// Streams at a time.
const STREAMS_MAX: usize = 4;

/// A file of five pieces, one of one piece, and one of one block; the content, as its layout has it.
static TORRENT: LazyLock<(Arc<Metainfo>, Bytes)> = LazyLock::new(|| {
    let files = [("a", 140_000), ("b", 30_000), ("c", 5)];
    let files = files.map(|(name, len)| (vec![name.to_owned()], len)).into();
    let options = Options { piece_len: Some(PIECE_LEN), format: Format::V2, ..Options::default() };
    let draft = Draft::new("t", Content::Folder(files), options).expect("legal");
    let content: Vec<u8> = (0..draft.layout().space_len()).map(|at| (at / 5) as u8).collect();
    let hashes: Vec<_> = (0..draft.layout().piece_count())
        .map(|piece| {
            let start = (piece * PIECE_LEN) as usize;
            let len = draft.layout().piece_content_len(PieceIndex(piece)) as usize;
            let mut state = draft.hash_state(PieceIndex(piece));
            state.update(&content[start..start + len]);
            state.finish()
        })
        .collect();
    (Arc::new(draft.finish(&hashes).expect("legal")), content.into())
});

#[derive(Debug, Default)]
struct Stranger {
    shaken: usize,
    decoder: Decoder,
    asks: Vec<HashRequest>,
    asked: Vec<HashRequest>,
    blocks: Vec<BlockRequest>,
}

struct World {
    session: Session,
    now: Instant,
    listener: Option<ListenerId>,
    strangers: BTreeMap<StreamId, Stranger>,
    jobs: Vec<(JobId, Job)>,
    disk: Vec<u8>,
    exists: bool,
    reached: Reached,
}

/// What a script brought about.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    answered: usize,
    rejected: usize,
    verified: usize,
    finished: bool,
    misbehaved: u64,
}

/// A live session with a v2 torrent, whose peers ask for hashes and give them as a script says.
pub fn session_hashes(bytes: &[u8]) {
    play(bytes);
}

pub(crate) fn play(bytes: &[u8]) -> Reached {
    let mut script = Script::new(bytes);
    let mut world = World::new(script.byte());
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
        world.drain();
    }
    world.end()
}

impl World {
    fn new(habits: u8) -> Self {
        let (metainfo, content) = &*TORRENT;
        let now = Instant::ORIGIN;
        let seed = Seed::from_number(5);
        let mut session = Session::new(Config::default(), seed, now, UnixTime(1_700_000_000));
        let address = SocketAddr::from(([10, 0, 0, 1], 6881));
        session.handle_command(now, Command::Listen(CommandToken(1), address));
        let metainfo = if habits & 2 == 0 {
            Arc::clone(metainfo)
        } else {
            Arc::new(Metainfo::from_info(metainfo.info().clone()))
        };
        let add = AddTorrent::new(metainfo, Location(Bytes::from_static(b"/content")));
        session.handle_command(now, Command::Add(CommandToken(2), add.into()));
        let exists = habits & 1 == 1;
        let disk = if exists { content.to_vec() } else { vec![0; content.len()] };
        let mut world = Self {
            session,
            now,
            listener: None,
            strangers: BTreeMap::new(),
            jobs: Vec::new(),
            disk,
            exists,
            reached: Reached::default(),
        };
        world.drain();
        world.work(usize::MAX);
        world
    }

    fn end(mut self) -> Reached {
        self.session.handle_command(self.now, Command::ShutDown);
        for _ in 0..100 {
            self.drain();
            self.work(usize::MAX);
            if let Some(deadline) = self.session.poll_timeout() {
                self.now = self.now.max(deadline.at);
                self.session.handle_input(self.now, Input::Timeout);
            }
        }
        assert!(self.strangers.is_empty() && self.jobs.is_empty(), "all is over");
        self.reached.misbehaved = self.session.stats().peers_misbehaved;
        self.reached
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let choice = script.byte();
        let id = script.one_of(&self.strangers.keys().copied().collect::<Vec<_>>());
        match (choice % 16, id) {
            (0, _) | (_, None) => self.arrive(script.byte()),
            (1, Some(id)) => self.say(id, &Message::Interested),
            (2, Some(id)) => self.say(id, &Message::NotInterested),
            (3, Some(id)) => {
                self.say(id, &Message::HaveAll);
                self.say(id, &Message::Unchoke);
            }
            (4..=6, Some(id)) => self.ask(id, script),
            (7..=9, Some(id)) => self.answer(id, script),
            (10, Some(id)) => self.give_block(id, script.byte()),
            (11, _) => self.work(1 + usize::from(script.byte() % 8)),
            (12, _) => self.work(usize::MAX),
            (13, _) => {
                self.now += Duration::from_millis(u64::from(script.byte()).pow(2));
                self.session.handle_input(self.now, Input::Timeout);
            }
            (14, Some(id)) => {
                let payload = script.run();
                let message = [&((1 + payload.len()) as u32).to_be_bytes()[..], &[22], payload];
                self.receive(id, message.concat().into());
            }
            (_, Some(id)) => {
                self.strangers.remove(&id);
                let closed = StreamInput::Closed(teem_core::machine::StreamError::Reset);
                self.session.handle_input(self.now, Input::Stream(id, closed));
            }
        }
    }

    fn arrive(&mut self, choice: u8) {
        let Some(on) = self.listener.filter(|_| self.strangers.len() < STREAMS_MAX) else { return };
        let from = SocketAddr::from(([10, 0, 1, choice >> 4], 4000));
        let local = SocketAddr::from(([10, 0, 0, 1], 6881));
        let Some(id) = self.session.accept(self.now, Incoming { on, from, local }) else { return };
        self.strangers.insert(id, Stranger::default());
        let handshake = Handshake {
            reserved: Reserved::NONE.with_fast(),
            info_hash: TORRENT.0.info().swarm_hash(),
            peer_id: PeerId([choice >> 4; 20]),
        };
        self.receive(id, Bytes::copy_from_slice(&handshake.encode()));
        self.drain();
        if self.strangers.contains_key(&id) && choice & 1 == 1 {
            self.say(id, &Message::HaveAll);
        }
        if self.strangers.contains_key(&id) && choice & 2 == 2 {
            self.say(id, &Message::Interested);
        }
    }

    /// Asks for hashes that are there, or nearly.
    fn ask(&mut self, id: StreamId, script: &mut Script<'_>) {
        let layout = TORRENT.0.info().layout();
        let file = layout.file(script.below(layout.file_count())).expect("there");
        let height = merkle::height(file.len());
        let base = [0, 1, 1, 0, 2][script.below(5)];
        let length = [2, 4, 8, 16, 2, 3, 512, 1][script.below(8)];
        let request = HashRequest {
            root: *file.pieces_root().expect("not empty"),
            base,
            index: length * u32::from(script.byte() % 5),
            length,
            proof_layers: match script.byte() {
                wrong @ 200.. => wrong.into(),
                _ => height.saturating_sub(1 + base),
            },
        };
        if let Some(stranger) = self.strangers.get_mut(&id) {
            stranger.asks.push(request);
        }
        self.say(id, &Message::Hash(HashMessage::Request(request).into()));
    }

    /// Answers what the session asked, as it should or not.
    fn answer(&mut self, id: StreamId, script: &mut Script<'_>) {
        let how = script.byte();
        let Some(stranger) = self.strangers.get_mut(&id) else { return };
        let Some(request) = stranger.asked.pop() else { return };
        let message = match how % 8 {
            0 => HashMessage::Reject(request),
            1 => HashMessage::Hashes(request, vec![how; 32 * 4].into()),
            2 => HashMessage::Hashes(HashRequest { index: 2, ..request }, right(&request)),
            3 => {
                let mut hashes = right(&request).to_vec();
                let at = script.below(hashes.len());
                hashes[at] ^= 1;
                HashMessage::Hashes(request, hashes.into())
            }
            _ => HashMessage::Hashes(request, right(&request)),
        };
        self.say(id, &Message::Hash(message.into()));
    }

    fn give_block(&mut self, id: StreamId, how: u8) {
        let Some(stranger) = self.strangers.get_mut(&id) else { return };
        for BlockRequest { piece, begin, length } in std::mem::take(&mut stranger.blocks) {
            let start = (piece.0 * PIECE_LEN + begin) as usize;
            let mut block = TORRENT.1[start..start + length as usize].to_vec();
            if how < 40 {
                block[0] ^= how | 1;
            }
            self.say(id, &Message::Piece { piece, begin, block: Bytes::from(block).into() });
        }
    }

    fn receive(&mut self, id: StreamId, bytes: Bytes) {
        let input = Input::Stream(id, StreamInput::Received(bytes));
        self.session.handle_input(self.now, input);
    }

    fn say(&mut self, id: StreamId, message: &Message) {
        let mut out = Vec::new();
        message.encode(&mut out);
        self.receive(id, out.into());
    }

    fn drain(&mut self) {
        loop {
            while let Some(output) = self.session.poll_output() {
                match output {
                    Output::Listen(listen) => {
                        self.listener = Some(listen.listener);
                        let bound = ListenerInput::Bound(listen.address);
                        let input = Input::Listener(listen.listener, bound);
                        self.session.handle_input(self.now, input);
                    }
                    Output::Unlisten(_) => self.listener = None,
                    Output::Close { stream, .. } => drop(self.strangers.remove(&stream)),
                    _ => {}
                }
            }
            while let Some((id, job)) = self.session.poll_job() {
                self.jobs.push((id, job));
            }
            while let Some(event) = self.session.poll_event() {
                self.told(&event);
            }
            let mut any = false;
            for id in self.strangers.keys().copied().collect::<Vec<_>>() {
                let mut lent = Vec::new();
                let count = self.session.poll_send(self.now, id, usize::MAX, &mut lent);
                if count > 0 {
                    any = true;
                    self.heard(id, &lent.concat());
                    self.session
                        .handle_input(self.now, Input::Stream(id, StreamInput::Sent(count)));
                }
            }
            if !any {
                return;
            }
        }
    }

    fn told(&mut self, event: &Event) {
        match event {
            Event::PieceVerified(_, piece) => {
                self.reached.verified += 1;
                let start = (piece.0 * PIECE_LEN) as usize;
                let len = TORRENT.0.info().layout().piece_content_len(*piece) as usize;
                let range = start..start + len;
                assert!(self.disk[range.clone()] == TORRENT.1[range], "{piece:?} is right");
            }
            Event::TorrentFinished(_) => self.reached.finished = true,
            _ => {}
        }
    }

    fn heard(&mut self, id: StreamId, mut bytes: &[u8]) {
        let Some(stranger) = self.strangers.get_mut(&id) else { return };
        let shaking = (HANDSHAKE_LEN - stranger.shaken).min(bytes.len());
        stranger.shaken += shaking;
        bytes = &bytes[shaking..];
        stranger.decoder.push(Bytes::copy_from_slice(bytes));
        while let Some(message) = stranger.decoder.next(&Limits::DEFAULT).expect("sound messages") {
            match message {
                Message::Request(request) => stranger.blocks.push(request),
                Message::Hash(message) => match *message {
                    HashMessage::Request(request) => {
                        let _exists = right(&request);
                        stranger.asked.push(request);
                    }
                    HashMessage::Reject(request) => {
                        settle(&mut stranger.asks, &request);
                        self.reached.rejected += 1;
                    }
                    HashMessage::Hashes(request, hashes) => {
                        settle(&mut stranger.asks, &request);
                        assert_eq!(hashes, right(&request), "{request:?}");
                        self.reached.answered += 1;
                    }
                },
                _ => {}
            }
        }
    }

    /// Does jobs, in order, at most so many.
    fn work(&mut self, most: usize) {
        for _ in 0..most {
            if self.jobs.is_empty() {
                return;
            }
            let (id, job) = self.jobs.remove(0);
            let result = self.run(job);
            self.session.handle_input(self.now, Input::Job(id, result));
            self.drain();
        }
    }

    fn run(&mut self, job: Job) -> JobResult {
        let range = |offset: u64, len: usize| offset as usize..offset as usize + len;
        Ok(match job {
            Job::Read { offset, len, .. } => {
                JobOutput::Read(Bytes::copy_from_slice(&self.disk[range(offset, len as usize)]))
            }
            Job::Write { offset, data, .. } => {
                let bytes = data.into_bytes();
                self.exists = true;
                self.disk[range(offset, bytes.len())].copy_from_slice(&bytes);
                JobOutput::Done
            }
            Job::Hash { mut state, source, last, .. } => {
                match source {
                    HashSource::Memory(data) => {
                        data.parts().iter().for_each(|part| state.update(part));
                    }
                    HashSource::Stored { offset, len } => {
                        state.update(&self.disk[range(offset, len as usize)]);
                    }
                }
                if last { JobOutput::Digest(state.finish()) } else { JobOutput::Hashed(state) }
            }
            Job::Files { op: FileOp::Open(_) | FileOp::Flush | FileOp::Check, .. } => {
                let stat = |len| FileStat { len, modified: 1, allocated: len };
                let files = TORRENT.0.info().layout().files();
                let stats = files.map(|file| self.exists.then(|| stat(file.len())));
                JobOutput::Files(stats.collect())
            }
            Job::Resolve { .. } => {
                let detail = "there are no names".into();
                return Err(JobError { kind: JobErrorKind::NoSuchHost, detail });
            }
            _ => JobOutput::Done,
        })
    }
}

/// An answer is to a question.
fn settle(asks: &mut Vec<HashRequest>, request: &HashRequest) {
    let at = asks.iter().position(|asked| asked == request);
    asks.swap_remove(at.expect("that was asked for"));
}

/// The one right answer to a request, by definition: all leaves, all layers.
fn right(request: &HashRequest) -> Bytes {
    let (metainfo, content) = &*TORRENT;
    let mut files = metainfo.info().layout().files();
    let file =
        files.find(|file| file.pieces_root() == Some(&request.root)).expect("a file of ours");
    let height = merkle::height(file.len());
    assert!(request.is_sound(height), "{request:?} of a tree of height {height}");
    let bytes = &content[file.offset() as usize..file.range().end as usize];
    let leaves: Vec<_> = bytes.chunks(16 * 1024).map(merkle::leaf).collect();
    let node = |layer: u32, at: u32| merkle::node(&leaves, 0, layer, at.into());
    let run = request.index..request.index + request.length;
    let mut out: Vec<u8> = run.flat_map(|at| node(request.base, at)).collect();
    let first = request.base + request.length.trailing_zeros();
    for layer in first..first + request.uncles() {
        out.extend(node(layer, (request.index >> (layer - request.base)) ^ 1));
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_reach_what_they_are_for() {
        let seeds = crate::seeds::seeds();
        let play = |name: &str| {
            let seed =
                seeds.iter().find(|seed| seed.target == "session_hashes" && seed.name == name);
            play(&seed.expect("a seed").bytes)
        };
        let asked = play("asks");
        assert!(asked.answered >= 4 && asked.rejected >= 2, "{asked:?}");
        let fetched = play("fetches-layers");
        assert!(fetched.finished && fetched.verified == 7, "{fetched:?}");
        let lied = play("lies");
        assert!(lied.misbehaved >= 1 && lied.verified == 0, "{lied:?}");
    }
}
