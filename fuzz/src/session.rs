//! A live session with one torrent: peers that say anything, a disk that fails, time that jumps.
//! Of the torrent it knows all from the start, or a magnet link alone.
//!
//! What is held, besides that nothing panics: a closed stream is named no more; a credit is nothing
//! or worth a read; a driver that sleeps until the deadline makes progress; a verified piece is on
//! the disk as it should be, and a saved one is durable; shutting down ends, with every job done
//! and nobody left; what is held in memory stays within its limit; and a replayed trace counts the same.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use teem_core::bencode::Tape;
use teem_core::ids::{
    CommandToken, JobId, Key, ListenerId, PeerId, PieceIndex, StreamId, TorrentId,
};
use teem_core::machine::trace::{Recorder, replay};
use teem_core::machine::{
    Application, Deadline, Incoming, Input, Job, ListenerInput, Location, Machine, Output,
    RECV_CREDIT_MIN, SocketError, SocketInput, StreamError, StreamInput,
};
use teem_core::metainfo::{Magnet, Metainfo};
use teem_core::peer::{CloseReason, LocalReason};
use teem_core::rng::Seed;
use teem_core::session::{
    AddTorrent, Command, Config, Event, RateLimits, RemoveFiles, Session, Source, TorrentState,
};
use teem_core::time::{Duration, Instant, UnixTime};
use teem_core::torrent::picker::Priority;
use teem_core::torrent::share::ShareLimits;
use teem_core::wire::{
    BLOCK_LEN, BlockRequest, Decoder, Extension, ExtensionHandshake, ExtensionIds, HANDSHAKE_LEN,
    Handshake, Limits, Message, MetadataMessage, Reserved, metadata_range,
};

use crate::script::Script;
use crate::world::{Disk, PIECES, TORRENT, Taken, range_of};

/// Streams that a script may hold open.
const STREAMS_MAX: usize = 6;

/// Steps within which a session that shuts down must be done.
const SHUT_DOWN_STEPS_MAX: usize = 4000;

/// Steps after which those who were turned away call again.
const TURNED_AWAY: u32 = 8;

/// The bit of a session's habits by which it has a magnet link.
const MAGNET: u8 = 0x40;

/// By which id strangers want to be told of metadata.
const THEIRS: u8 = 3;

/// Steps of a script; longer ones are cut.
const STEPS_MAX: usize = 600;

/// A peer, as it sees itself.
#[derive(Debug, Default)]
struct Stranger {
    /// We were dialled and it is not decided yet.
    dialling: bool,
    shaken: Vec<u8>,
    decoder: Decoder,
    /// What the session asked for.
    requests: Vec<BlockRequest>,
    /// Pieces of the metadata that it asked for.
    metadata: Vec<u32>,
}

impl Stranger {
    fn is_asked(&self) -> bool {
        !self.requests.is_empty() || !self.metadata.is_empty()
    }
}

/// A session, and what it was told, if that is to be lived again.
#[derive(Debug)]
enum Live {
    Told(Box<Session>),
    Recorded(Box<Recorder<Session>>),
}

impl Live {
    /// The session, to look at.
    fn machine(&self) -> &Session {
        match self {
            Self::Told(session) => session,
            Self::Recorded(recorder) => recorder.machine(),
        }
    }

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match self {
            Self::Told(session) => session.handle_input(now, input),
            Self::Recorded(recorder) => recorder.handle_input(now, input),
        }
    }

    fn handle_command(&mut self, now: Instant, command: Command) {
        match self {
            Self::Told(session) => session.handle_command(now, command),
            Self::Recorded(recorder) => recorder.handle_command(now, command),
        }
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) -> Option<StreamId> {
        match self {
            Self::Told(session) => session.accept(now, incoming),
            Self::Recorded(recorder) => recorder.accept(now, incoming),
        }
    }

    fn poll_send(&mut self, now: Instant, on: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        match self {
            Self::Told(session) => session.poll_send(now, on, max, out),
            Self::Recorded(recorder) => recorder.poll_send(now, on, max, out),
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        match self {
            Self::Told(session) => session.poll_output(),
            Self::Recorded(recorder) => recorder.poll_output(),
        }
    }

    fn poll_job(&mut self) -> Option<(JobId, Job)> {
        match self {
            Self::Told(session) => session.poll_job(),
            Self::Recorded(recorder) => recorder.poll_job(),
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        match self {
            Self::Told(session) => session.poll_event(),
            Self::Recorded(recorder) => recorder.poll_event(),
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.machine().poll_timeout()
    }

    fn recv_credit(&self, stream: StreamId) -> usize {
        self.machine().recv_credit(stream)
    }
}

#[derive(Debug)]
struct World {
    session: Live,
    now: Instant,
    torrent: TorrentId,
    listener: Option<ListenerId>,
    strangers: BTreeMap<StreamId, Stranger>,
    closed: Vec<StreamId>,
    jobs: Vec<Taken>,
    /// The job completed last.
    done: Option<JobId>,
    disk: Disk,
    /// Steps before those who do what is right call again, having been turned away.
    pause: u32,
    calls: u64,
    reached: Reached,
    /// Some files may not be wanted.
    selected: bool,
    /// The torrent was a magnet link at first.
    magnet: bool,
}

fn config() -> Config {
    Config { buffer_bytes_max: 128 * 1024, peers_max: 5, ..Config::default() }
}

fn new_session() -> Session {
    Session::new(config(), Seed::from_number(7), Instant::ORIGIN, UnixTime(1_700_000_000))
}

/// A live session with one torrent, whose peers, disk and clock follow a script.
pub fn session_peer(bytes: &[u8]) {
    play(bytes);
}

/// A live session whose every job ends as the script says: in what order, how, and with what,
/// while peers do all that is right.
pub fn storage_jobs(bytes: &[u8]) {
    play_storage(bytes);
}

pub(crate) fn play_storage(bytes: &[u8]) -> Reached {
    let mut script = Script::new(bytes);
    let habits = script.byte();
    let mut world = World::new(habits, is_recorded(bytes));
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        world.attend(habits);
        world.step_storage(&mut script);
        world.drain();
    }
    world.end()
}

/// What a script brought about, for the tests below.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    /// Inputs that the session was told.
    pub(crate) steps: u64,
    metadata: bool,
    misbehaved: usize,
    verified: usize,
    corrupt: usize,
    failed: usize,
    finished: bool,
    paused: usize,
    removed: bool,
    shut_down: bool,
    saves: usize,
    uploaded: u64,
}

pub(crate) fn play(bytes: &[u8]) -> Reached {
    let mut script = Script::new(bytes);
    let mut world = World::new(script.byte(), is_recorded(bytes));
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
        world.drain();
    }
    world.end()
}

/// Whether a life is recorded and lived again: about every eighth, since that costs more than living
/// it. All bytes decide, so that of what becomes of one input it is an eighth, too.
fn is_recorded(bytes: &[u8]) -> bool {
    let mix = |sum: u32, byte: &u8| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    (bytes.iter().fold(0x811c_9dc5, mix) >> 16).is_multiple_of(8)
}

impl World {
    /// A session that listens and has a torrent, of which all or nothing is on the disk.
    fn new(habits: u8, is_recorded: bool) -> Self {
        let (seeds, magnet) = (habits & 1 == 1, habits & MAGNET == MAGNET);
        let mut session = if is_recorded {
            Live::Recorded(Recorder::new(new_session()).into())
        } else {
            Live::Told(new_session().into())
        };
        let now = Instant::ORIGIN;
        let address = SocketAddr::from(([10, 0, 0, 1], 6881));
        session.handle_command(now, Command::Listen(CommandToken(1), address));
        let folder = |name: &'static [u8]| Location(Bytes::from_static(name));
        let mut add = AddTorrent::new(TORRENT.1.clone(), folder(b"/content"));
        add.state = Some(folder(b"/state"));
        if magnet {
            let info_hash = TORRENT.1.info().info_hash();
            let link = Magnet { info_hash, ..Magnet::default() };
            add.metainfo = Source(Arc::new(Metainfo::from_magnet(&link)));
        }
        session.handle_command(now, Command::Add(CommandToken(2), add.into()));
        let torrent = session.machine().torrents().next().expect("it was added").id;
        let mut disk = Disk::new();
        if seeds {
            disk.fill();
        }
        let mut world = Self {
            session,
            now,
            torrent,
            listener: None,
            strangers: BTreeMap::new(),
            closed: Vec::new(),
            jobs: Vec::new(),
            done: None,
            disk,
            pause: 0,
            calls: 0,
            reached: Reached::default(),
            selected: false,
            magnet,
        };
        world.drain();
        world
    }

    /// Shuts the session down, and lives its life again.
    fn end(mut self) -> Reached {
        self.shut_down();
        self.reached.steps = self.calls;
        self.reached.saves = self.disk.saves();
        let stats = self.session.machine().stats();
        self.reached.uploaded = stats.uploaded_bytes;
        if let Live::Recorded(recorder) = &mut self.session {
            let mut again = new_session();
            replay(&mut again, &recorder.take(), |_, _| {}).expect("a whole trace");
            assert_eq!(again.stats(), stats, "a replay counts the same");
        }
        self.reached
    }

    /// Two peers who do what is right: one has everything, one wants everything. Turned away, as
    /// by a torrent that is paused, they call again after a few steps.
    fn attend(&mut self, habits: u8) {
        self.pause = self.pause.saturating_sub(1);
        for choice in [0b0000_0111, 0b0001_0001 | habits & 2] {
            if self.strangers.len() < 2 && self.pause == 0 {
                let before = self.strangers.len();
                self.arrive(&mut Script::new(&[choice]));
                self.drain();
                if self.strangers.len() == before {
                    self.pause = TURNED_AWAY;
                }
            }
        }
        let ids: Vec<_> = self.strangers.keys().copied().collect();
        for id in ids {
            self.send_all(id);
            self.drain();
            for _ in 0..2 {
                let asked = self.strangers.get(&id).is_some_and(Stranger::is_asked);
                if asked {
                    self.answer_as(id, 1, 0);
                    self.drain();
                }
            }
        }
    }

    /// Everything that the session has for a peer reaches it.
    fn send_all(&mut self, id: StreamId) {
        let mut lent = Vec::new();
        let count = self.session.poll_send(self.now, id, usize::MAX, &mut lent);
        if count > 0 {
            self.heard(id, &lent.concat());
            self.input(Input::Stream(id, StreamInput::Sent(count)));
        }
    }

    /// What becomes of jobs, mostly.
    fn step_storage(&mut self, script: &mut Script<'_>) {
        match script.byte() % 16 {
            0..=5 => self.finish_job(script, true),
            6 | 7 => self.finish_job(script, false),
            8 => {
                let (at, how) = (script.below(self.jobs.len()), script.byte());
                if at < self.jobs.len() {
                    let job = self.jobs.remove(self.lawful(at));
                    let (id, result) = self.disk.run_and_mistake(job, how);
                    self.input(Input::Job(id, result));
                }
            }
            9 => {
                // Once more, which counts as nothing.
                let Some(id) = self.done else { return };
                let before = self.session.machine().stats().stale_jobs;
                self.input(Input::Job(id, Ok(teem_core::machine::JobOutput::Done)));
                assert_eq!(self.session.machine().stats().stale_jobs, before + 1);
            }
            10 => self.sleep(),
            11 => {
                self.now += Duration::from_micros(1 << (script.byte() % 36));
                self.input(Input::Timeout);
            }
            12 => self.command(script),
            13 => self.speak(script),
            14 => self.end_stream(script),
            _ => {
                for at in (0..self.jobs.len()).rev() {
                    self.complete(at, None);
                }
            }
        }
    }

    fn input(&mut self, input: Input<'_>) {
        self.calls += 1;
        self.session.handle_input(self.now, input);
    }

    fn receive(&mut self, id: StreamId, bytes: Bytes) {
        if !bytes.is_empty() {
            self.input(Input::Stream(id, StreamInput::Received(bytes)));
        }
    }

    fn say(&mut self, id: StreamId, message: &Message) {
        let mut out = Vec::new();
        message.encode(&mut out);
        self.receive(id, out.into());
    }

    fn any_stream(&self, script: &mut Script<'_>) -> Option<StreamId> {
        let streams: Vec<_> = self.strangers.keys().copied().collect();
        script.one_of(&streams)
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 20 {
            0 | 1 => self.arrive(script),
            2..=5 => self.speak(script),
            6 => {
                if let Some(id) = self.any_stream(script) {
                    self.receive(id, Bytes::copy_from_slice(script.run()));
                }
            }
            7 => {
                self.now += Duration::from_millis(u64::from(script.byte()).pow(2));
                self.input(Input::Timeout);
            }
            8 => self.sleep(),
            9..=11 => self.finish_job(script, true),
            12 => self.finish_job(script, false),
            13 | 14 => self.answer(script),
            15 => self.send(script),
            16 => self.end_stream(script),
            17 => self.command(script),
            18 => {
                // Of something that is gone, or never was.
                let stale =
                    script.one_of(&self.closed).unwrap_or_else(|| StreamId::from_parts(999, 1));
                if !self.strangers.contains_key(&stale) {
                    self.receive(stale, Bytes::from_static(b"late"));
                    self.input(Input::Stream(stale, StreamInput::Closed(StreamError::Reset)));
                    assert_eq!(self.session.poll_send(self.now, stale, 100, &mut Vec::new()), 0);
                    assert_eq!(self.session.recv_credit(stale), 0);
                }
            }
            _ => {
                for at in (0..self.jobs.len()).rev() {
                    self.complete(at, None);
                }
            }
        }
    }

    /// A stranger comes, and perhaps shakes hands as it should.
    fn arrive(&mut self, script: &mut Script<'_>) {
        let choice = script.byte();
        let Some(on) = self.listener.filter(|_| self.strangers.len() < STREAMS_MAX) else { return };
        let from = SocketAddr::from(([10, 0, 1, choice >> 4], 4000 + u16::from(choice)));
        let local = SocketAddr::from(([10, 0, 0, 1], 6881));
        let incoming = Incoming { on, from, local };
        let Some(id) = self.session.accept(self.now, incoming) else { return };
        assert!(!self.strangers.contains_key(&id), "ids of live streams are their own");
        self.strangers.insert(id, Stranger::default());
        if choice & 8 == 0 {
            let mut reserved = Reserved::default();
            if choice & 1 == 1 {
                reserved = reserved.with_fast();
            }
            if choice & 2 == 2 {
                reserved = reserved.with_extension_protocol();
            }
            let info_hash = TORRENT.1.info().swarm_hash();
            let peer_id = PeerId([b'a' + (choice >> 4); 20]);
            let handshake = Handshake { reserved, info_hash, peer_id };
            self.receive(id, Bytes::copy_from_slice(&handshake.encode()));
            if self.magnet && reserved.extension_protocol() {
                self.drain();
                self.offer_metadata(id);
            }
            if choice & 4 == 4 {
                self.drain();
                let has = if choice & 1 == 1 {
                    Message::HaveAll
                } else {
                    Message::Bitfield(Bytes::from_static(&[0xf0]))
                };
                if self.strangers.contains_key(&id) {
                    self.say(id, &has);
                    self.say(id, &Message::Unchoke);
                }
            }
        }
    }

    /// A stranger says that it has the metadata.
    fn offer_metadata(&mut self, id: StreamId) {
        let mut ids = ExtensionIds::NONE;
        ids.set(Extension::Metadata, THEIRS);
        let metadata_len = NonZeroU32::new(TORRENT.1.info().bytes().len() as u32);
        let mut payload = Vec::new();
        ExtensionHandshake { ids, metadata_len, ..Default::default() }.encode(&mut payload);
        if self.strangers.contains_key(&id) {
            self.say(id, &Message::Extended { id: 0, payload: payload.into() });
        }
    }

    /// A well-formed message, sensible or not.
    fn speak(&mut self, script: &mut Script<'_>) {
        let Some(id) = self.any_stream(script) else { return };
        let kind = script.byte() % 18;
        let piece = PieceIndex(u32::from(script.byte()) % (PIECES as u32 + 1));
        let begin = u32::from(script.byte() % 4) * 16 * 1024;
        let length = match script.byte() {
            small @ 0..16 => u32::from(small),
            16..32 => 200_000,
            _ => 16 * 1024,
        };
        let request = BlockRequest { piece, begin, length };
        let message = match kind {
            0 => Message::KeepAlive,
            1 => Message::Choke,
            2 => Message::Unchoke,
            3 | 4 => Message::Interested,
            5 => Message::NotInterested,
            6 => Message::Have(piece),
            7 => {
                let longer = usize::from(self.magnet && length == 3);
                Message::Bitfield(vec![begin as u8 | length as u8 & 0xf0; 1 + longer].into())
            }
            8..=10 => Message::Request(request),
            11 => Message::Piece { piece, begin, block: Bytes::from(vec![1; 100]).into() },
            12 => Message::Cancel(request),
            13 => Message::HaveAll,
            14 => Message::HaveNone,
            15 => Message::Reject(request),
            16 => Message::AllowedFast(piece),
            _ => {
                let payload = Bytes::copy_from_slice(script.run());
                if payload.is_empty() {
                    return;
                }
                Message::Extended { id: length as u8 % 8, payload }
            }
        };
        self.say(id, &message);
    }

    /// A block that was asked for comes: right, wrong, or in parts.
    fn answer(&mut self, script: &mut Script<'_>) {
        let (id, how, which) = (self.any_stream(script), script.byte(), script.byte());
        let Some(id) = id else { return };
        if !self.strangers[&id].is_asked() {
            return;
        }
        self.answer_as(id, how, usize::from(which));
    }

    fn answer_as(&mut self, id: StreamId, how: u8, which: usize) {
        let Some(stranger) = self.strangers.get_mut(&id) else { return };
        if let Some(piece) = stranger.metadata.pop() {
            let bytes = TORRENT.1.info().bytes();
            let range = metadata_range(bytes.len() as u32, piece).expect("it knows how many");
            let mut data = bytes[range.start as usize..range.end as usize].to_vec();
            if how.is_multiple_of(8) {
                data[which % range.len()] ^= 1;
            }
            let total_len = Some(bytes.len() as u64);
            let message = MetadataMessage::Data { piece, total_len, data: data.into() };
            let (id_of_theirs, payload) = (Extension::Metadata.local_id(), message.to_payload());
            self.say(id, &Message::Extended { id: id_of_theirs, payload });
            return;
        }
        let which = which % stranger.requests.len();
        let request = stranger.requests.swap_remove(which);
        let start = range_of(request.piece.0 as usize).start + request.begin as usize;
        let mut block = TORRENT.0[start..start + request.length as usize].to_vec();
        if how.is_multiple_of(8) {
            block[0] ^= 1;
        }
        let (piece, begin) = (request.piece, request.begin);
        let mut out = Vec::new();
        Message::Piece { piece, begin, block: Bytes::from(block).into() }.encode(&mut out);
        let mut bytes = Bytes::from(out);
        let split = if how & 16 == 16 { usize::from(how) * 60 } else { 0 };
        let head = bytes.split_to(split.min(bytes.len()));
        self.receive(id, head);
        self.drain();
        if self.strangers.contains_key(&id) {
            self.receive(id, bytes);
        }
    }

    fn finish_job(&mut self, script: &mut Script<'_>, good: bool) {
        let at = script.below(self.jobs.len());
        let how = if good { None } else { Some(script.byte()) };
        if at < self.jobs.len() {
            self.complete(at, how);
        }
    }

    /// Completes a job, or the one that must be completed before it.
    fn complete(&mut self, at: usize, failure: Option<u8>) {
        let job = self.jobs.remove(self.lawful(at));
        let (id, result) = match failure {
            None => self.disk.run(job),
            Some(how) => Disk::fail(&job, how),
        };
        self.done = Some(id);
        self.input(Input::Job(id, result));
    }

    /// The job at `at`, or the first one if the order of jobs wants that.
    fn lawful(&self, at: usize) -> usize {
        let waits = at > 0 && self.jobs[at].runs_alone();
        if waits || self.jobs[..at].iter().any(Taken::runs_alone) { 0 } else { at }
    }

    /// Sleeps exactly until the deadline.
    fn sleep(&mut self) {
        let Some(deadline) = self.session.poll_timeout() else { return };
        self.now = self.now.max(deadline.at);
        self.input(Input::Timeout);
        let next = self.session.poll_timeout();
        assert!(
            next.is_none_or(|next| next.at > self.now),
            "time stands still: {deadline:?}, {next:?}"
        );
    }

    fn send(&mut self, script: &mut Script<'_>) {
        let Some(id) = self.any_stream(script) else { return };
        let max = usize::from(script.u16());
        let keep = script.byte();
        let mut lent = Vec::new();
        let count = self.session.poll_send(self.now, id, max, &mut lent);
        assert_eq!(lent.iter().map(Bytes::len).sum::<usize>(), count);
        assert!(count <= max);
        if count > 0 {
            assert_eq!(self.session.poll_send(self.now, id, max, &mut Vec::new()), 0, "one loan");
        }
        let sent = if keep.is_multiple_of(4) { count / 2 } else { count };
        self.heard(id, &lent.concat()[..sent]);
        self.input(Input::Stream(id, StreamInput::Sent(sent)));
    }

    /// The stranger reads what the session sent: it is well-formed, and notes the requests.
    fn heard(&mut self, id: StreamId, mut bytes: &[u8]) {
        let Some(stranger) = self.strangers.get_mut(&id) else { return };
        let shaken = bytes.len().min(HANDSHAKE_LEN - stranger.shaken.len());
        stranger.shaken.extend_from_slice(&bytes[..shaken]);
        bytes = &bytes[shaken..];
        if Handshake::check_start(&stranger.shaken).is_err() {
            // It encrypts, which nobody here understands.
            return;
        }
        stranger.decoder.push(Bytes::copy_from_slice(bytes));
        let limits = Limits { pieces: Some(PIECES as u32), ..Limits::DEFAULT };
        while let Some(message) = stranger.decoder.next(&limits).expect("we are well-behaved") {
            match message {
                // It may be asked for again after a choke or a reject.
                Message::Request(request) if !stranger.requests.contains(&request) => {
                    stranger.requests.push(request);
                }
                Message::Cancel(request) => stranger.requests.retain(|asked| *asked != request),
                Message::Extended { id: THEIRS, payload } => {
                    let message = MetadataMessage::parse(&payload, &mut Tape::new());
                    if let Ok(Some(MetadataMessage::Request(piece))) = message {
                        stranger.metadata.push(piece);
                    }
                }
                Message::Piece { piece, begin, block } => {
                    let start = range_of(piece.0 as usize).start + begin as usize;
                    let sent = block.to_vec();
                    let right = sent == TORRENT.0[start..start + sent.len()];
                    assert!(right || self.disk.vanished(), "we send what is right");
                }
                _ => {}
            }
        }
    }

    fn end_stream(&mut self, script: &mut Script<'_>) {
        let Some(id) = self.any_stream(script) else { return };
        let dialling = self.strangers[&id].dialling;
        let input = match script.byte() % 4 {
            0 | 1 if dialling => {
                self.strangers.get_mut(&id).expect("it is there").dialling = false;
                StreamInput::Connected { local: SocketAddr::from(([10, 0, 0, 1], 5000)) }
            }
            0 => StreamInput::ReadClosed,
            _ => {
                self.strangers.remove(&id);
                self.closed.push(id);
                if dialling {
                    StreamInput::ConnectFailed(StreamError::Refused)
                } else {
                    StreamInput::Closed(StreamError::Reset)
                }
            }
        };
        self.input(Input::Stream(id, input));
    }

    fn command(&mut self, script: &mut Script<'_>) {
        let torrent = self.torrent;
        let choice = script.byte();
        if choice >= 250 {
            let state = self.session.machine().torrent(torrent).map(|torrent| torrent.state);
            if matches!(state, Some(TorrentState::Paused | TorrentState::Failed(_))) {
                self.disk.vanish();
            }
            return;
        }
        self.selected |= choice >= 230 && choice.is_multiple_of(4);
        let command = match choice % 8 {
            // A few choices of each kind are about what is wanted.
            _ if choice >= 230 => match choice % 4 {
                0 => {
                    let files = [script.byte(), script.byte(), script.byte()];
                    Command::SetPriorities(
                        torrent,
                        files.map(|byte| Priority::new(byte % 8)).into(),
                    )
                }
                1 => Command::SetSequential(torrent, script.flag()),
                2 => {
                    let limit = |byte: u8| (byte & 1 == 1).then(|| u64::from(byte) * 100);
                    let limits = RateLimits {
                        down_bytes_per_s: limit(script.byte()),
                        up_bytes_per_s: limit(script.byte()),
                    };
                    Command::SetTorrentLimits(torrent, limits)
                }
                _ => {
                    let limit = |byte: u8| (byte & 1 == 1).then(|| u32::from(byte));
                    let limits = ShareLimits {
                        ratio_permille: limit(script.byte()),
                        seed_time_s: limit(script.byte()),
                    };
                    Command::SetShareLimits(torrent, limits)
                }
            },
            0 | 1 => Command::Pause(torrent),
            2 | 3 => Command::Resume(torrent),
            4 => {
                let limit = |byte: u8| (byte & 1 == 1).then(|| u64::from(byte) * 100);
                Command::SetLimits(RateLimits {
                    down_bytes_per_s: limit(script.byte()),
                    up_bytes_per_s: limit(script.byte()),
                })
            }
            5 => Command::Announce(torrent),
            6 if choice > 200 => {
                let files = if script.flag() { RemoveFiles::Keep } else { RemoveFiles::Delete };
                Command::Remove(torrent, files)
            }
            _ => {
                let peers = (0..choice % 5).map(|at| ([10, 0, 2, at], 6881).into()).collect();
                Command::AddPeers(torrent, peers)
            }
        };
        self.session.handle_command(self.now, command);
    }

    /// Takes everything that the session puts out, as a driver would.
    fn drain(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(output) = self.session.poll_output() {
                quiet = false;
                self.on_output(output);
            }
            while let Some((id, job)) = self.session.poll_job() {
                quiet = false;
                assert!(self.jobs.iter().all(|taken| taken.id != id), "job ids are their own");
                self.jobs.push(self.disk.take(id, job));
            }
            while let Some(event) = self.session.poll_event() {
                self.on_event(&event);
            }
            if quiet {
                break;
            }
        }
        for id in self.strangers.keys() {
            let credit = self.session.recv_credit(*id);
            assert!(credit == 0 || credit >= RECV_CREDIT_MIN, "a credit of {credit}");
        }
        let held = self.session.machine().stats().buffered_bytes;
        // One block of each peer may always be on its way.
        let blocks = config().peers_max as u64 * u64::from(BLOCK_LEN);
        assert!(held <= config().buffer_bytes_max as u64 + blocks, "{held} bytes are held");
    }

    fn on_output(&mut self, output: Output) {
        match output {
            Output::Listen(listen) => {
                self.listener = Some(listen.listener);
                let bound = ListenerInput::Bound(listen.address);
                self.input(Input::Listener(listen.listener, bound));
            }
            Output::Unlisten(_) => self.listener = None,
            Output::Bind(bind) => {
                let failed = SocketInput::Failed(SocketError::AddressInUse);
                self.input(Input::Socket(bind.socket, failed));
            }
            Output::Connect(connect) => {
                let stranger = Stranger { dialling: true, ..Stranger::default() };
                let before = self.strangers.insert(connect.stream, stranger);
                assert!(before.is_none(), "ids of live streams are their own");
            }
            Output::Close { stream, .. } => {
                // One that we reported closed meanwhile may still be named.
                let known = self.strangers.remove(&stream).is_some();
                assert!(known || self.closed.contains(&stream), "{stream:?} is closed twice");
                self.closed.push(stream);
            }
            Output::WantRead(stream) | Output::WantWrite(stream) => {
                let known = self.strangers.contains_key(&stream) || self.closed.contains(&stream);
                assert!(known, "{stream:?} was never there");
            }
            _ => {}
        }
    }

    fn on_event(&mut self, event: &Event) {
        match event {
            Event::PieceVerified(_, piece) => {
                assert!((piece.0 as usize) < PIECES);
                self.reached.verified += 1;
            }
            Event::PieceFailed(..) => self.reached.corrupt += 1,
            Event::MetadataReceived(_) => self.reached.metadata = true,
            Event::PeerClosed { reason: CloseReason::Misbehaved(_), .. } => {
                self.reached.misbehaved += 1;
            }
            Event::PeerClosed {
                reason: CloseReason::Local(LocalReason::MetadataComplete), ..
            } => {
                panic!("nobody can say so much that it is not kept");
            }
            Event::TorrentFailed(..) | Event::DiskFull(..) => self.reached.failed += 1,
            Event::TorrentPaused(_) => self.reached.paused += 1,
            Event::TorrentFinished(_) => {
                self.reached.finished = true;
                let here = self.session.machine().pieces(self.torrent).expect("it is there");
                for piece in 0..PIECES as u32 {
                    let claimed = here[piece as usize / 8] & 0x80 >> (piece % 8) != 0;
                    assert!(claimed || self.selected, "piece {piece} is finished");
                    let right = self.disk.is_right(PieceIndex(piece));
                    assert!(!claimed || right, "piece {piece} is finished");
                }
            }
            Event::TorrentRemoved(_) => {
                assert!(!self.reached.removed, "removed once");
                self.reached.removed = true;
            }
            Event::ShutDown => {
                assert!(!self.reached.shut_down, "shut down once");
                self.reached.shut_down = true;
            }
            _ => {}
        }
    }

    /// Shuts the session down, and holds it to an end.
    fn shut_down(&mut self) {
        self.session.handle_command(self.now, Command::ShutDown);
        self.drain();
        for _ in 0..SHUT_DOWN_STEPS_MAX {
            if !self.jobs.is_empty() {
                self.complete(0, None);
            } else if self.reached.shut_down {
                let peers = self.session.machine().peers(self.torrent);
                assert!(peers.is_empty(), "nobody is left: {peers:?}");
                let stats = self.session.machine().stats();
                assert_eq!((stats.peers, stats.buffered_bytes), (0, 0), "nothing is left");
                return;
            } else {
                assert!(self.session.poll_timeout().is_some(), "it waits for nothing, for ever");
                self.sleep();
            }
            self.drain();
        }
        panic!("shutting down does not end: {:?}", self.session.machine().torrent(self.torrent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_seed(name: &str) -> Reached {
        let seeds = crate::seeds::seeds();
        let seed = seeds.iter().find(|seed| seed.target == "session_peer" && seed.name == name);
        play(&seed.expect("a seed of that name").bytes)
    }

    #[test]
    fn a_leech_finishes_and_saves() {
        let reached = of_seed("leech");
        assert!(reached.finished && reached.saves > 0, "{reached:?}");
        assert_eq!(reached.verified, PIECES);
    }

    #[test]
    fn corrupt_blocks_fail_their_pieces() {
        let reached = of_seed("leech-corrupt");
        assert!(reached.corrupt > 0 && !reached.finished, "{reached:?}");
    }

    #[test]
    fn a_failing_disk_is_told() {
        assert!(of_seed("disk-fails").failed > 0);
    }

    #[test]
    fn a_magnet_link_is_fetched_with_all_of_its_content() {
        let reached = of_seed("magnet");
        assert!(reached.metadata && reached.finished && reached.saves > 0, "{reached:?}");
        assert_eq!((reached.verified, reached.misbehaved), (PIECES, 0));
    }

    #[test]
    fn what_is_said_before_the_metadata_are_there_is_judged_when_they_are() {
        let reached = of_seed("magnet-lies");
        assert!(reached.metadata, "{reached:?}");
        assert_eq!(reached.misbehaved, 2, "an index and a bitfield");
    }

    #[test]
    fn metadata_that_are_wrong_are_fetched_from_somebody_else() {
        let reached = of_seed("magnet-wrong");
        assert!(reached.metadata && reached.misbehaved == 1, "{reached:?}");
    }

    #[test]
    fn a_torrent_is_paused_and_goes_on() {
        let reached = of_seed("pausing");
        assert!(reached.paused > 1, "{reached:?}");
    }

    #[test]
    fn a_seed_serves_and_is_removed() {
        assert!(of_seed("seed").uploaded > 0);
        assert!(of_seed("seed-removed").removed);
    }
}
