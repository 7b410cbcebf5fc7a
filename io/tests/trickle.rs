//! Blocks that trickle in, beside a peer that is fast: what memory they keep others from using.
//!
//! All streams of a driver are read into the same large chunks, and whoever keeps one slice of a
//! chunk keeps all of it. A binary of its own, with one test, so that nobody else allocates
//! meanwhile.

#![allow(unsafe_code, reason = "an allocator cannot be counted without being one")]
#![allow(unreachable_pub, dead_code, reason = "shared with a benchmark")]

mod host;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use host::Host;
use socket2::{Domain, Socket, Type};
use teem_core::ids::StreamId;
use teem_core::session::Config;
use teem_core::wire::{
    BLOCK_LEN, BlockRequest, FRAGMENT_LEN_MIN, Message, PIECE_HEADER_LEN, encode_piece_header,
};
use teem_io::read::{CHUNK, ReadBuffer};

/// Counts what is allocated.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands every call on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the rules.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the rules.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}

/// Peers whose blocks trickle in.
const PEERS: usize = 200;

/// Blocks of the fast peer that fill a chunk, but for less than is worth a read.
const CHUNK_BLOCKS: usize = 15;

/// Blocks of a piece.
const PIECE_BLOCKS: u32 = 16;

/// What a block on its way may take beside its payload.
const BLOCK_OVERHEAD: usize = 256;

/// Chunks by which what is held of the fast peer's goes up and down.
const CHUNKS: usize = 4;

/// Bytes that may be taken when so many of each block have come: its buffer grows by doubling.
const fn bound(came: usize) -> usize {
    let payload = if 2 * came < BLOCK_LEN as usize { 2 * came } else { BLOCK_LEN as usize };
    PEERS * (payload + BLOCK_OVERHEAD) + CHUNKS * CHUNK
}

/// A session that reads what comes as drivers read it.
struct Reading {
    host: Host,
    buffer: ReadBuffer,
    tx: Socket,
    rx: Socket,
}

impl Reading {
    fn new(host: Host) -> Self {
        let (tx, rx) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("a pair of sockets");
        tx.set_nonblocking(true).expect("set");
        rx.set_nonblocking(true).expect("set");
        Self { host, buffer: ReadBuffer::new(), tx, rx }
    }

    /// Lets a peer's bytes come.
    fn arrive(&mut self, from: StreamId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let mut unread = self.tx.send(bytes).expect("all that came before was read");
            bytes = &bytes[unread..];
            while unread > 0 {
                let read = self.buffer.read(&self.rx, CHUNK).expect("there is more");
                unread -= read.len();
                self.host.receive(from, read);
            }
        }
    }

    /// The fast peer sends what fills a chunk.
    fn fill_chunk(&mut self, fast: StreamId, zeros: &[u8]) {
        for _ in 0..CHUNK_BLOCKS {
            let Some(request) = self.host.reader(fast).requests.pop_front() else { break };
            self.arrive(fast, &block(request, zeros));
        }
        self.host.pass(Duration::from_millis(1));
    }
}

fn block(request: BlockRequest, zeros: &[u8]) -> Bytes {
    let BlockRequest { piece, begin, length } = request;
    let mut message = BytesMut::from(&encode_piece_header(piece, begin, length)[..]);
    message.extend_from_slice(&zeros[..length as usize]);
    message.freeze()
}

#[test]
fn blocks_that_trickle_in_do_not_hold_the_chunks_that_they_came_in() {
    trickle(64, 10);
    // More than a block on its way copies.
    trickle(FRAGMENT_LEN_MIN + 100, 3);
}

/// Blocks that come in reads of `len`; the first `rounds` of them with a chunk of the fast peer's in
/// between any two.
fn trickle(len: usize, rounds: usize) {
    let config = Config { peers_max: 300, torrent_peers_max: 300, ..Config::default() };
    let pieces = ((rounds + 2) * PEERS) as u32;
    let mut all = Reading::new(Host::new(config, pieces, PIECE_BLOCKS, false));
    let says = [Message::HaveAll, Message::Unchoke];
    let slow: Vec<StreamId> = (0..PEERS).map(|_| all.host.admit_reader(&says)).collect();
    let fast = all.host.admit_reader(&says);
    let zeros = vec![0; BLOCK_LEN as usize];
    let message = |all: &mut Reading, id| {
        let request = all.host.reader(id).requests.pop_front().expect("it is asked for a block");
        block(request, &zeros)
    };
    let blocks: Vec<Bytes> = slow.iter().map(|id| message(&mut all, *id)).collect();
    let whole = PIECE_HEADER_LEN + BLOCK_LEN as usize;
    assert!(blocks.iter().all(|block| block.len() == whole));
    // Until it is as fast as it will be.
    for _ in 0..PEERS {
        all.fill_chunk(fast, &zeros);
    }
    let before = bytes();
    let had = all.host.session.stats();

    let (mut at, mut most) = (0, 0);
    for _ in 0..rounds {
        for (id, block) in slow.iter().zip(&blocks) {
            all.arrive(*id, &block[at..at + len]);
            all.fill_chunk(fast, &zeros);
            most = most.max(bytes().saturating_sub(before));
        }
        at += len;
    }
    let fetched = all.host.session.stats().downloaded_bytes - had.downloaded_bytes;
    println!("{PEERS} blocks, {at} bytes each, by {len}: {most} bytes; {fetched} of the fast one");
    assert!(fetched as usize >= rounds * PEERS * (CHUNK_BLOCKS - 1) * BLOCK_LEN as usize);
    assert!(most <= bound(at), "{most} bytes");

    while at + len < whole {
        for (id, block) in slow.iter().zip(&blocks) {
            all.arrive(*id, &block[at..at + len]);
            most = most.max(bytes().saturating_sub(before));
        }
        at += len;
    }
    println!("{PEERS} blocks, {at} bytes each, by {len}: {most} bytes");
    assert!(most <= bound(at), "{most} bytes");

    for (id, block) in slow.iter().zip(&blocks) {
        all.arrive(*id, &block[at..]);
    }
    let stats = all.host.session.stats();
    let got = stats.downloaded_bytes - had.downloaded_bytes - fetched;
    assert_eq!(got, PEERS as u64 * u64::from(BLOCK_LEN));
    assert_eq!(stats.wasted_bytes, 0);
}
