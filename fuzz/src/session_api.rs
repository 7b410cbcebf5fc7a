//! A session under [`drive`](crate::drive): commands and inputs, legal and not, in any order, with
//! peers and trackers that speak their protocols often enough to get somewhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use teem_core::bencode::Tape;
use teem_core::hash::sha1;
use teem_core::ids::{CommandToken, Key, StreamId, TorrentId};
use teem_core::machine::{Application, HashSource, Job, JobOutput, JobResult, Location};
use teem_core::metainfo::create::{Content, Draft, Options};
use teem_core::metainfo::{Magnet, Metainfo};
use teem_core::rng::Seed;
use teem_core::session::{
    AddTorrent, Command, Config, RateLimits, RemoveFiles, Session, Source, TorrentState,
};
use teem_core::time::{Instant, UnixTime};
use teem_core::torrent::picker::Priority;
use teem_core::torrent::resume::Resume;
use teem_core::torrent::share::ShareLimits;
use teem_core::tracker::udp::{Request, Response};
use teem_core::wire::{
    BLOCK_LEN, BlockRequest, Decoder, Extension, ExtensionHandshake, HANDSHAKE_LEN, Handshake,
    Limits, Message, MetadataMessage, Reserved, metadata_range,
};

use crate::drive::{Driven, Driver, World, kept};
use crate::world::TORRENT;

/// Content that all torrents are made of, and the torrents: some pieces and files, trackers over
/// HTTP and UDP, and many small pieces.
static TORRENTS: LazyLock<[Arc<Metainfo>; 3]> = LazyLock::new(|| {
    let tracked = Options {
        piece_len: Some(16 * 1024),
        trackers: vec![
            vec!["http://192.0.2.1/announce".into(), "udp://192.0.2.2:80/a".into()],
            vec!["http://tracker.example/announce".into(), "udp://t.example:80".into()],
        ],
        ..Options::default()
    };
    let plain = Options { piece_len: Some(16 * 1024), private: true, ..Options::default() };
    [TORRENT.1.clone(), torrent("tracked", 40_000, tracked), torrent("private", 90_000, plain)]
});

fn torrent(name: &str, len: usize, options: Options) -> Arc<Metainfo> {
    let piece_len = options.piece_len.expect("it is set") as usize;
    let draft = Draft::new(name, Content::File(len as u64), options).expect("legal");
    let hashes: Vec<_> = TORRENT.0[..len].chunks(piece_len).map(sha1).collect();
    Arc::new(draft.finish(&hashes).expect("a hash for each piece"))
}

/// A peer or a tracker, as it sees itself.
#[derive(Debug, Default)]
struct Stranger {
    shaken: bool,
    head: Vec<u8>,
    tracker: bool,
    /// The session encrypts, which nobody here understands.
    hidden: bool,
    torrent: usize,
    decoder: Decoder,
    requests: Vec<BlockRequest>,
    /// Pieces of the metadata that it was asked for.
    metadata: Vec<u32>,
}

#[derive(Debug, Default)]
struct Strangers {
    all: BTreeMap<StreamId, Stranger>,
}

impl Strangers {
    fn message(stranger: &mut Stranger, u: &mut Unstructured<'_>) -> Result<Bytes> {
        let how = u8::arbitrary(u)?;
        let pieces = TORRENTS[stranger.torrent].info().layout().piece_count();
        let message = match how {
            0..96 if !stranger.requests.is_empty() => {
                let at = usize::from(how) % stranger.requests.len();
                let BlockRequest { piece, begin, length } = stranger.requests.swap_remove(at);
                let layout = TORRENTS[stranger.torrent].info().layout();
                let start = u64::from(piece.0) * u64::from(layout.piece_len()) + u64::from(begin);
                let mut block = TORRENT.0.slice(start as usize..start as usize + length as usize);
                if how.is_multiple_of(16) {
                    block = Bytes::from(vec![how; block.len()]);
                }
                Message::Piece { piece, begin, block: block.into() }
            }
            0..24 => Message::Unchoke,
            24..48 => Message::Interested,
            48..72 => Message::HaveAll,
            72..96 => Message::Bitfield(Bytes::from(vec![0xff; pieces.div_ceil(8) as usize])),
            96..108 if !stranger.metadata.is_empty() => {
                let at = usize::from(how) % stranger.metadata.len();
                let piece = stranger.metadata.swap_remove(at);
                let bytes = TORRENTS[stranger.torrent].info().bytes();
                let range = metadata_range(bytes.len() as u32, piece).unwrap_or_default();
                let data = bytes.slice(range.start as usize..range.end as usize);
                let total_len = Some(bytes.len() as u64);
                let payload = MetadataMessage::Data { piece, total_len, data }.to_payload();
                Message::Extended { id: Extension::Metadata.local_id(), payload }
            }
            96..112 => {
                let mut hello = ExtensionHandshake::arbitrary(u)?;
                if how.is_multiple_of(2) {
                    // It has the metadata, and says so.
                    let len = TORRENTS[stranger.torrent].info().bytes().len() as u32;
                    hello.ids.set(Extension::Metadata, 1 + how % 4);
                    hello.metadata_len = NonZeroU32::new(len);
                }
                let mut payload = Vec::new();
                hello.encode(&mut payload);
                Message::Extended { id: 0, payload: payload.into() }
            }
            112..120 => {
                let len = usize::from(how).min(u.len());
                return u.bytes(len).map(Bytes::copy_from_slice);
            }
            _ => u.arbitrary()?,
        };
        let mut out = Vec::with_capacity(message.encoded_len());
        message.encode(&mut out);
        Ok(out.into())
    }

    fn handshake(stranger: &mut Stranger, u: &mut Unstructured<'_>) -> Result<Bytes> {
        let how = u8::arbitrary(u)?;
        stranger.shaken = true;
        if stranger.head.is_empty() {
            stranger.torrent = usize::from(how / 64 % 3);
        }
        let mut reserved = Reserved::NONE.with_dht();
        if how & 1 == 0 {
            reserved = reserved.with_fast();
        }
        if how & 2 == 0 {
            reserved = reserved.with_extension_protocol();
        }
        let info_hash = TORRENTS[stranger.torrent].info().swarm_hash();
        let mut hello = Handshake { reserved, info_hash, peer_id: u.arbitrary()? };
        if how & 0x3c == 0x3c {
            hello = u.arbitrary()?;
        }
        Ok(Bytes::copy_from_slice(&hello.encode()))
    }

    fn answer(u: &mut Unstructured<'_>) -> Result<Bytes> {
        let how = u8::arbitrary(u)?;
        let body: &[u8] = match how % 8 {
            0 => b"d14:failure reason4:nope8:retry in1:3e",
            1 => b"d8:intervali60e5:peersld2:ip9:127.0.0.14:porti6881eeee",
            2 => u.bytes(usize::from(how / 8).min(u.len()))?,
            3 => b"d8:intervali0e12:min intervali9e10:tracker id2:ab15:warning message2:hme",
            _ => {
                b"d8:completei3e10:incompletei4e8:intervali1800e5:peers12:\
                   \x0a\x00\x02\x01\x1a\xe1\x0a\x00\x02\x02\x1a\xe1e"
            }
        };
        let status = match how / 8 % 8 {
            0 => "302 Found\r\nLocation: http://192.0.2.3/other",
            1 => "500 Oops",
            _ => "200 OK",
        };
        let mut out = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        if how > 0xf0 {
            out = format!("HTTP/1.1 {status}\r\n\r\n");
        }
        Ok([out.as_bytes(), body].concat().into())
    }
}

impl World for Strangers {
    fn say(&mut self, id: StreamId, u: &mut Unstructured<'_>) -> Option<Bytes> {
        let stranger = self.all.entry(id).or_default();
        let said = if stranger.tracker {
            Self::answer(u)
        } else if !stranger.shaken {
            Self::handshake(stranger, u)
        } else {
            Self::message(stranger, u)
        };
        said.ok().filter(|said| !said.is_empty())
    }

    fn heard(&mut self, id: StreamId, parts: &[Bytes]) {
        let stranger = self.all.entry(id).or_default();
        for part in parts {
            let mut part = part.clone();
            if stranger.head.len() < HANDSHAKE_LEN {
                let head = part.split_to(part.len().min(HANDSHAKE_LEN - stranger.head.len()));
                stranger.head.extend_from_slice(&head);
                stranger.tracker |= stranger.head.starts_with(b"G");
                stranger.hidden |= Handshake::check_start(&stranger.head).is_err();
                let hash = stranger.head.get(28..48);
                let known = TORRENTS.iter().position(|torrent| {
                    hash.is_some_and(|hash| torrent.info().swarm_hash().0 == hash)
                });
                stranger.torrent = known.unwrap_or(stranger.torrent);
            }
            if stranger.tracker || stranger.hidden || part.is_empty() {
                continue;
            }
            stranger.decoder.push(part);
            while let Some(message) = stranger.decoder.next(&Limits::DEFAULT).expect("sound") {
                match message {
                    Message::Request(request) if !stranger.requests.contains(&request) => {
                        stranger.requests.push(request);
                    }
                    Message::Cancel(gone) => stranger.requests.retain(|asked| *asked != gone),
                    Message::Extended { id: 1.., payload } => {
                        let message = MetadataMessage::parse(&payload, &mut Tape::new());
                        if let Ok(Some(MetadataMessage::Request(piece))) = message {
                            stranger.metadata.push(piece);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn datagram(&mut self, last: &[u8], u: &mut Unstructured<'_>) -> Option<Vec<u8>> {
        let how = u8::arbitrary(u).ok()?;
        let peers = [10, 0, 2, how % 8, 0x1a, 0xe1];
        let response = match Request::parse(last) {
            Ok(Request::Connect { transaction }) if how < 0xd0 => {
                Response::Connect { transaction, connection: u.arbitrary().ok()? }
            }
            Ok(Request::Announce { transaction, .. }) if how < 0xc0 => Response::Announce {
                transaction,
                interval: 600,
                leechers: 1,
                seeders: 2,
                peers: &peers,
            },
            Ok(Request::Announce { transaction, .. }) if how < 0xd0 => {
                Response::Error { transaction, reason: b"no" }
            }
            _ => u.arbitrary().ok()?,
        };
        let mut out = Vec::new();
        response.write(&mut out);
        Some(out)
    }

    /// All content is the start of the same bytes.
    fn job(&mut self, job: &Job) -> Option<JobResult> {
        let stored = |offset: u64, len: u32| {
            let end = offset.checked_add(len.into())?;
            let range = usize::try_from(offset).ok()?..usize::try_from(end).ok()?;
            (range.end <= TORRENT.0.len()).then(|| TORRENT.0.slice(range))
        };
        match job {
            Job::Read { offset, len, .. } => Some(Ok(JobOutput::Read(stored(*offset, *len)?))),
            Job::Hash { state, source: HashSource::Stored { offset, len }, last, .. } => {
                let mut state = state.clone();
                state.update(&stored(*offset, *len)?);
                Some(Ok(if *last {
                    JobOutput::Digest(state.finish())
                } else {
                    JobOutput::Hashed(state)
                }))
            }
            _ => None,
        }
    }
}

fn peers(choice: u8) -> Vec<SocketAddr> {
    (0..choice % 5).map(|at| ([10, 0, 2, at], 6881).into()).collect()
}

fn torrent_id(choice: u8) -> TorrentId {
    TorrentId::from_parts(u32::from(choice % 3), u32::from(choice / 128) + 1)
}

fn add(u: &mut Unstructured<'_>) -> Result<AddTorrent> {
    let (which, how) = (u8::arbitrary(u)?, u8::arbitrary(u)?);
    let metainfo = TORRENTS[usize::from(which) % 3].clone();
    let info = metainfo.info();
    let pieces = info.layout().piece_count();
    let mut resume = Resume {
        layers: Vec::new(),
        info_hash: info.swarm_hash(),
        have: teem_core::bitfield::Bitfield::new(pieces),
        files: vec![Some((1, 1)); info.layout().file_count()].into(),
        partial: Vec::new(),
        downloaded: u64::from(how),
        uploaded: 0,
        completed: how & 4 == 4,
        seeded: teem_core::time::Duration::from_secs(u64::from(how)),
    };
    let mut add = AddTorrent::new(metainfo, Location(Bytes::from_static(b"/content")));
    if which & 0x40 == 0 {
        add.state = Some(Location(Bytes::from_static(b"/state")));
    }
    match how % 8 {
        0 => add.resume = Some(Bytes::copy_from_slice(u.bytes(usize::from(how).min(u.len()))?)),
        1 | 2 => {
            resume.have.set(u32::from(how / 8) % pieces);
            add.resume = Some(resume.to_bytes().into());
        }
        3 | 4 => {
            resume.have.set_all();
            add.resume = Some(resume.to_bytes().into());
        }
        _ => {}
    }
    if which & 0x20 == 0x20 {
        let info_hash = add.metainfo.0.info().info_hash();
        let link = Magnet { info_hash, ..Magnet::default() };
        add.metainfo = Source(Arc::new(Metainfo::from_magnet(&link)));
    }
    if how & 0x10 == 0x10 {
        add.trackers.push("http://192.0.2.4/announce?pass=1".into());
    }
    add.own_trackers = how & 0x20 == 0;
    add.seed_only = how & 0xc0 == 0xc0;
    add.paused = which & 0x80 == 0x80;
    add.peers = peers(how);
    Ok(add)
}

fn command(u: &mut Unstructured<'_>) -> Result<Command> {
    let choice = u8::arbitrary(u)?;
    let token = CommandToken(u64::from(choice));
    Ok(match choice % 16 {
        0 => Command::Listen(token, ([10, 0, 0, 1], 6881 + u16::from(choice)).into()),
        1..=4 => Command::Add(token, add(u)?.into()),
        5 => Command::Pause(torrent_id(u.arbitrary()?)),
        6 | 7 => Command::Resume(torrent_id(u.arbitrary()?)),
        8 => {
            let files = if choice < 128 { RemoveFiles::Keep } else { RemoveFiles::Delete };
            Command::Remove(torrent_id(u.arbitrary()?), files)
        }
        9 | 10 => Command::AddPeers(torrent_id(u.arbitrary()?), peers(choice / 16)),
        11 | 12 => Command::Announce(torrent_id(u.arbitrary()?)),
        13 => {
            let limit = |byte: u8| (byte & 1 == 1).then(|| u64::from(byte) * 100);
            let limits = RateLimits {
                down_bytes_per_s: limit(u.arbitrary()?),
                up_bytes_per_s: limit(u.arbitrary()?),
            };
            if choice < 128 {
                Command::SetLimits(limits)
            } else {
                Command::SetTorrentLimits(torrent_id(choice), limits)
            }
        }
        14 => {
            let torrent = torrent_id(choice / 16);
            match choice / 64 {
                0 => {
                    let files: [u8; 3] = u.arbitrary()?;
                    Command::SetPriorities(
                        torrent,
                        files.map(|byte| Priority::new(byte % 8)).into(),
                    )
                }
                1 => Command::SetSequential(torrent, u.arbitrary()?),
                _ => {
                    let (ratio, time): (Option<u16>, Option<u8>) = u.arbitrary()?;
                    let limits = ShareLimits {
                        ratio_permille: ratio.map(u32::from),
                        seed_time_s: time.map(u32::from),
                    };
                    Command::SetShareLimits(torrent, limits)
                }
            }
        }
        _ if choice > 0xe0 => Command::ShutDown,
        _ => Command::Resume(torrent_id(choice / 16)),
    })
}

pub(crate) fn play(bytes: &[u8]) -> Driven {
    let config = Config { buffer_bytes_max: 256 * 1024, peers_max: 12, ..Config::default() };
    // One block of each peer may always be on its way.
    let blocks = config.peers_max as u64 * u64::from(BLOCK_LEN);
    let bound = config.buffer_bytes_max as u64 + blocks;
    let now = Instant::ORIGIN;
    let mut session = Session::new(config, Seed::from_number(9), now, UnixTime(1_700_000_000));
    let address = ([10, 0, 0, 1], 6881).into();
    session.handle_command(now, Command::Listen(CommandToken(0), address));
    let driver = Driver::new().world(Strangers::default());
    let driven = kept(driver.run_app(&mut session, bytes, |u| command(u).ok()));
    let stats = session.stats();
    assert!(stats.peers as u64 <= driven.streams_left, "{} peers of {driven:?}", stats.peers);
    assert!(stats.buffered_bytes <= bound, "{stats:?}");
    for torrent in session.torrents() {
        if matches!(torrent.state, TorrentState::FetchingMetadata { .. }) {
            continue;
        }
        assert!(torrent.have_bytes + torrent.left_bytes <= torrent.total_bytes, "{torrent:?}");
        assert!(torrent.have_pieces <= torrent.pieces);
    }
    driven
}

/// A session that is asked for and told anything, in any order.
pub fn session_api(bytes: &[u8]) {
    play(bytes);
}
