//! A session and a driver without sockets, for tests and measurements of the session's own part.
//!
//! The session is the real one. Its jobs are completed at once: contents are zeros, and the hash of
//! a piece is what the torrent says. Time is virtual, and timers come when they are due.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use teem_core::ids::{CommandToken, Key, ListenerId, PeerId, StreamId};
use teem_core::machine::{
    Application, FileOp, FileStat, Incoming, Input, Job, JobOutput, ListenerInput, Location,
    Machine, Output, StreamInput,
};
use teem_core::metainfo::Metainfo;
use teem_core::metainfo::create::{Content, Draft, Options};
use teem_core::rng::Seed;
use teem_core::session::{AddTorrent, Command, Config, Session};
use teem_core::time::{Duration, Instant, UnixTime};
use teem_core::wire::{
    BLOCK_LEN, BlockRequest, Decoder, ExtensionHandshake, HANDSHAKE_LEN, Handshake, Limits,
    Message, Reserved,
};

/// Our end of every connection.
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6881);

/// What the torrent says that the hash of each piece is.
const DIGEST: [u8; 20] = [7; 20];

/// Most that is read at a time.
const READ_LEN_MAX: usize = 256 * 1024;

/// A session with one torrent, and what drives it.
pub struct Host {
    pub session: Session,
    metainfo: Arc<Metainfo>,
    now: Instant,
    listener: Option<ListenerId>,
    zeros: Bytes,
    lent: Vec<Bytes>,
    connected: u32,
    /// Peers that read what they are sent.
    readers: BTreeMap<u32, Reader>,
}

/// A peer that reads what it is sent.
#[derive(Debug)]
pub struct Reader {
    /// Bytes that it was sent.
    pub sent: u64,
    /// What we asked it for.
    pub requests: VecDeque<BlockRequest>,
    /// How much of our handshake is still to come.
    handshake_left: usize,
    decoder: Decoder,
}

impl Reader {
    fn take(&mut self, parts: &[Bytes]) {
        for part in parts {
            self.sent += part.len() as u64;
            let handshake = self.handshake_left.min(part.len());
            self.handshake_left -= handshake;
            self.decoder.push(part.slice(handshake..));
            for message in self.decoder.drain(&Limits::DEFAULT) {
                if let Message::Request(request) = message.expect("legal") {
                    self.requests.push_back(request);
                }
            }
        }
    }
}

impl Host {
    /// With all of a torrent of so many pieces, each of so many blocks, or with nothing of it.
    pub fn new(config: Config, pieces: u32, piece_blocks: u32, complete: bool) -> Self {
        let piece_len = piece_blocks * BLOCK_LEN;
        let options = Options { piece_len: Some(piece_len), ..Options::default() };
        let len = u64::from(pieces) * u64::from(piece_len);
        let draft = Draft::new("content", Content::File(len), options).expect("legal");
        let metainfo = draft.finish(&vec![DIGEST; pieces as usize]).expect("legal");
        let (now, seed) = (Instant::ORIGIN, Seed::from_number(1));
        let mut host = Self {
            session: Session::new(config, seed, now, UnixTime(1_700_000_000)),
            metainfo: Arc::new(metainfo),
            now,
            listener: None,
            zeros: Bytes::from(vec![0; READ_LEN_MAX]),
            lent: Vec::new(),
            connected: 0,
            readers: BTreeMap::new(),
        };
        host.session.handle_command(now, Command::Listen(CommandToken(1), LOCAL));
        let folder = Location(Bytes::from_static(b"folder"));
        let mut add = AddTorrent::new(Arc::clone(&host.metainfo), folder);
        add.seed_only = complete;
        host.session.add_torrent(now, add).expect("new");
        host.pass(Duration::from_secs(1));
        host
    }

    /// Peers that say these things and nothing more.
    pub fn admit_idlers(&mut self, count: usize, says: &[Message]) {
        for _ in 0..count {
            self.admit(says);
        }
        assert_eq!(self.session.stats().peers, count);
    }

    /// A peer that says these things and reads what it is sent.
    pub fn admit_reader(&mut self, says: &[Message]) -> StreamId {
        let decoder = Decoder::new();
        let (sent, requests, handshake_left) = (0, VecDeque::new(), HANDSHAKE_LEN);
        let reader = Reader { sent, requests, handshake_left, decoder };
        self.readers.insert(self.connected, reader);
        self.admit(says)
    }

    /// What a peer read.
    pub fn reader(&mut self, id: StreamId) -> &mut Reader {
        self.readers.get_mut(&id.slot()).expect("a peer that reads")
    }

    /// Somebody connects, shakes hands and says these things.
    fn admit(&mut self, says: &[Message]) -> StreamId {
        let number = self.connected;
        self.connected += 1;
        let [_, a, b, c] = (number + 1).to_be_bytes();
        let on = self.listener.expect("it listens");
        let from = SocketAddr::from(([10, a, b, c], 6881));
        let incoming = Incoming { on, from, local: LOCAL };
        let id = self.session.accept(self.now, incoming).expect("there is room");
        assert_eq!(id.slot(), number, "nobody left before");
        let mut peer_id = *b"-ID0001-000000000000";
        peer_id[16..].copy_from_slice(&number.to_be_bytes());
        let reserved = Reserved::NONE.with_extension_protocol().with_fast();
        let info_hash = self.metainfo.info().swarm_hash();
        let handshake = Handshake { reserved, info_hash, peer_id: PeerId(peer_id) };
        let mut bytes = BytesMut::from(&handshake.encode()[..]);
        let mut payload = Vec::new();
        ExtensionHandshake::default().encode(&mut payload);
        Message::Extended { id: 0, payload: payload.into() }.encode(&mut bytes);
        for message in says {
            message.encode(&mut bytes);
        }
        self.receive(id, bytes.freeze());
        self.run();
        id
    }

    /// Bytes of a peer came.
    pub fn receive(&mut self, id: StreamId, bytes: Bytes) {
        assert!(self.session.recv_credit(id) > 0);
        let input = Input::Stream(id, StreamInput::Received(bytes));
        self.session.handle_input(self.now, input);
    }

    /// Lets time pass, and does all there is to do.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.run();
            match self.session.poll_timeout() {
                Some(deadline) if deadline.at <= end => {
                    self.now = self.now.max(deadline.at);
                    self.session.handle_input(self.now, Input::Timeout);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn run(&mut self) {
        loop {
            let mut any = false;
            while let Some(output) = self.session.poll_output() {
                any = true;
                match output {
                    Output::Listen(listen) => {
                        self.listener = Some(listen.listener);
                        let bound = ListenerInput::Bound(listen.address);
                        let input = Input::Listener(listen.listener, bound);
                        self.session.handle_input(self.now, input);
                    }
                    Output::WantWrite(id) => self.send(id),
                    Output::Close { stream, .. } => panic!("{stream:?} is turned away"),
                    _ => {}
                }
            }
            while let Some((id, job)) = self.session.poll_job() {
                any = true;
                let result = self.done(job);
                self.session.handle_input(self.now, Input::Job(id, Ok(result)));
            }
            while self.session.poll_event().is_some() {}
            if !any {
                return;
            }
        }
    }

    fn done(&self, job: Job) -> JobOutput {
        match job {
            Job::Read { len, .. } => JobOutput::Read(self.zeros.slice(..len as usize)),
            Job::Hash { last: true, .. } => JobOutput::Digest(DIGEST.into()),
            Job::Hash { state, .. } => JobOutput::Hashed(state),
            Job::Files { op: FileOp::Open(open), .. } => {
                let len = open.layout.space_len();
                let file = FileStat { len, modified: 0, allocated: len };
                JobOutput::Files(Box::new([(!open.writable).then_some(file)]))
            }
            _ => JobOutput::Done,
        }
    }

    /// Takes all that a stream has to send.
    fn send(&mut self, id: StreamId) {
        loop {
            let sent = self.session.poll_send(self.now, id, 256 * 1024, &mut self.lent);
            if sent == 0 {
                return;
            }
            if let Some(reader) = self.readers.get_mut(&id.slot()) {
                reader.take(&self.lent);
            }
            self.lent.clear();
            let input = Input::Stream(id, StreamInput::Sent(sent));
            self.session.handle_input(self.now, input);
        }
    }
}
