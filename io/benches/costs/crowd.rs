//! What one busy peer costs a session, and what it costs beside peers that idle: the session's work
//! alone, over virtual time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use teem_core::ids::PieceIndex;
use teem_core::session::Config;
use teem_core::wire::{BLOCK_LEN, BlockRequest, Message, encode_piece_header};

use crate::host::Host;

/// Peers that idle beside the busy one.
pub const CROWD: usize = 10_000;

/// Blocks that go over the busy connection: 32 MiB.
const BLOCKS: u32 = 2_048;

/// How long a block takes: some 80 MB/s.
const BLOCK_TIME: Duration = Duration::from_micros(200);

/// Small enough that a download waits for memory again and again.
const BUFFER: usize = 2 << 20;

fn config() -> Config {
    Config {
        peers_max: CROWD + 1,
        torrent_peers_max: CROWD + 1,
        buffer_bytes_max: BUFFER,
        ..Config::default()
    }
}

/// A peer downloads from us, who seed, beside so many.
pub fn serve(idlers: usize) -> Box<dyn FnMut()> {
    const PIECE_BLOCKS: u32 = 16;
    let mut host = Host::new(config(), BLOCKS / PIECE_BLOCKS, PIECE_BLOCKS, true);
    host.admit_idlers(idlers, &[Message::HaveNone]);
    let busy = host.admit_reader(&[Message::HaveNone, Message::Interested]);
    host.pass(Duration::from_secs(11));
    let before = host.reader(busy).sent;
    Box::new(move || {
        let mut requests = BytesMut::new();
        for piece in (0..BLOCKS / PIECE_BLOCKS).map(PieceIndex) {
            for block in 0..PIECE_BLOCKS {
                let begin = block * BLOCK_LEN;
                let request = BlockRequest { piece, begin, length: BLOCK_LEN };
                Message::Request(request).encode(&mut requests);
            }
            host.receive(busy, requests.split().freeze());
            host.pass(BLOCK_TIME * PIECE_BLOCKS);
        }
        let sent = host.reader(busy).sent - before;
        assert!(sent > u64::from(BLOCKS * BLOCK_LEN), "all that was asked for was sent: {sent}");
    })
}

/// We download from a peer, with room for little of what we could ask it for, beside so many that
/// have things for us too and choke us. No piece becomes complete meanwhile: to tell everybody of a
/// new piece is work for everybody.
pub fn fetch(idlers: usize) -> Box<dyn FnMut()> {
    let mut host = Host::new(config(), 2, BLOCKS, false);
    host.admit_idlers(idlers, &[Message::HaveAll]);
    let busy = host.admit_reader(&[Message::HaveAll, Message::Unchoke]);
    let block = Bytes::from(vec![0; BLOCK_LEN as usize]);
    Box::new(move || {
        for _ in 1..BLOCKS {
            let request = host.reader(busy).requests.pop_front().expect("it asks for more");
            let header = encode_piece_header(request.piece, request.begin, BLOCK_LEN);
            host.receive(busy, Bytes::copy_from_slice(&header));
            host.receive(busy, block.clone());
            host.pass(BLOCK_TIME);
        }
        let got = host.session.stats().downloaded_bytes;
        assert_eq!(got, u64::from((BLOCKS - 1) * BLOCK_LEN), "all that came was of use");
    })
}
