//! The corpus as code: small inputs that reach deep, and the smallest input of each bug found.
//!
//! `cargo run -p teem-fuzz --example seeds` writes them to `corpus/`, where libFuzzer looks; a test
//! holds the two together. Beside them lie inputs that libFuzzer found, each the smallest that
//! reaches something which no other does: files named `found-` and their hash.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use teem_core::bitfield::Bitfield;
use teem_core::hash::sha1;
use teem_core::http::gzip::gzip;
use teem_core::ids::{CommandToken, InfoHash, PeerId, PieceIndex};
use teem_core::machine::echo::{Command, Echo};
use teem_core::machine::trace::{MAGIC, Recorder};
use teem_core::machine::{Application, Input, Machine, Output, StreamInput};
use teem_core::metainfo::create::{Content, Draft, Options};
use teem_core::mse::{Initiator, Method};
use teem_core::rng::Seed as RngSeed;
use teem_core::time::Instant;
use teem_core::torrent::picker::BlockId;
use teem_core::torrent::resume::Resume;
use teem_core::wire::{
    BlockRequest, Extension, ExtensionHandshake, ExtensionIds, Handshake, Message, MetadataMessage,
    Reserved,
};

use crate::{TARGETS, Target};

/// One input of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The target's name.
    pub target: &'static str,
    /// A file name that says what it is.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// What the files that a fuzzer found begin with.
pub const FOUND: &str = "found-";

/// Everything in `corpus/`, as it was committed: [`seeds`], and what was found; by target and name.
pub fn corpus() -> Vec<Seed> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut all = Vec::new();
    for Target { name: target, .. } in TARGETS {
        let folder = fs::read_dir(root.join(target)).into_iter().flatten();
        let mut files: Vec<_> = folder.map(|file| file.expect("a file").path()).collect();
        files.sort();
        for path in files {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            all.push(Seed { target, name, bytes: fs::read(path).expect("a file") });
        }
    }
    all
}

/// All that are made here, always the same.
pub fn seeds() -> Vec<Seed> {
    let mut all = Vec::new();
    let mut add = |target, name: &str, bytes: Vec<u8>| {
        all.push(Seed { target, name: name.into(), bytes });
    };
    bencode(&mut add);
    files(&mut add);
    wire(&mut add);
    encryption(&mut add);
    http(&mut add);
    trackers(&mut add);
    scripts(&mut add);
    all
}

type Add<'a> = &'a mut dyn FnMut(&'static str, &str, Vec<u8>);

fn bencode(add: Add<'_>) {
    for (name, text) in [
        ("dictionary", "d1:ad2:idi7ee1:b4:spamli0ei-1ei9223372036854775807eee"),
        ("nested", "lllllllleeeeeeee"),
        ("unsorted", "d1:b0:1:a0:e"),
        ("twice", "d1:a0:1:a0:e"),
        ("leading-zeros", "li007e03:abce"),
        ("huge-number", "i99999999999999999999999e"),
        ("unsigned-64", "i18446744073709551615e"),
        ("trailing", "i0ejunk"),
        ("string-too-long", "99999999999999999999:a"),
        ("truncated", "d4:info"),
    ] {
        add("bencode", name, text.into());
    }
}

fn single_file(private: bool) -> Vec<u8> {
    let options = Options {
        piece_len: Some(16 * 1024),
        private,
        trackers: vec![vec!["http://t.example/announce".into()], vec!["udp://u.example:9".into()]],
        web_seeds: vec!["http://w.example/".into()],
        comment: Some("of no use".into()),
        ..Options::default()
    };
    let draft = Draft::new("one.bin", Content::File(40_000), options).expect("legal");
    draft.finish(&[[1; 20], [2; 20], [3; 20]]).expect("three pieces").to_bytes()
}

fn files(add: Add<'_>) {
    add("metainfo", "single-file", single_file(false));
    add("metainfo", "private", single_file(true));
    let names = [("a", "x.txt", 5), ("a", "empty", 0), ("b", "y.txt", 20_000)];
    let files = names.map(|(folder, name, len)| (vec![folder.into(), name.into()], len));
    let options = Options { piece_len: Some(16 * 1024), ..Options::default() };
    let draft = Draft::new("folder", Content::Folder(files.into()), options).expect("legal");
    let folder = draft.finish(&[[1; 20], [2; 20]]).expect("two pieces").to_bytes();
    add("metainfo", "folder", folder);
    for (name, path) in
        [("dots", "2:..4:evil"), ("absolute", "5:/evil"), ("device", "3:CON"), ("none", "")]
    {
        let text = format!(
            "d4:infod5:filesld6:lengthi3e4:pathl{path}eee4:name1:n12:piece lengthi16384e6:pieces\
             20:aaaaaaaaaaaaaaaaaaaaee"
        );
        add("metainfo", &format!("path-{name}"), text.into());
    }
    let v2 = "d4:infod9:file treed1:ad0:d6:lengthi3e11:pieces root32:aaaaaaaaaaaaaaaabbbbbbbbbbbbbbb\
              beee12:meta versioni2e4:name1:a12:piece lengthi16384eee";
    add("metainfo", "v2", v2.into());
    let huge = "d4:infod6:lengthi281474976710655e4:name1:n12:piece lengthi1073741824e6:pieces0:ee";
    add("metainfo", "huge", huge.into());

    let hex = "0123456789abcdef0123456789abcdef01234567";
    for (name, rest) in [
        ("plain", String::new()),
        (
            "full",
            "&dn=a+name&tr=http%3A%2F%2Ft.example%2F&x.pe=[::1]:80&so=0,2-4&ws=http://w/".into(),
        ),
        ("v2", format!("&xt=urn:btmh:1220{0}{1}", hex, &hex[..24])),
    ] {
        add("magnet", name, format!("magnet:?xt=urn:btih:{hex}{rest}").into());
    }
    add("magnet", "base32", "magnet:?xt=urn:btih:MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U&dn=%FF%".into());

    let mut have = Bitfield::new(9);
    have.set(3);
    let partial = vec![BlockId { piece: PieceIndex(1), block: 1 }];
    let mut saved = Resume {
        layers: Vec::new(),
        info_hash: InfoHash([7; 20]),
        have,
        files: [Some((9, -4)), None].into(),
        partial,
        downloaded: 12,
        uploaded: 1 << 40,
        completed: true,
        seeded: teem_core::time::Duration::from_secs(7),
    };
    let body = |resume: &Resume| {
        let mut bytes = resume.to_bytes();
        bytes.truncate(bytes.len() - 20);
        [&[9, 2], &bytes[..]].concat()
    };
    add("resume", "partial", body(&saved));
    saved.have.set_all();
    saved.partial.clear();
    add("resume", "whole", body(&saved));

    add("trace", "echo", trace()[MAGIC.len()..].to_vec());
    add("trace", "with-magic", trace());
    add("trace", "length-too-large", vec![0xff; 6]);
}

/// An echo that is dialled, answered and timed out.
fn trace() -> Vec<u8> {
    let now = Instant::ORIGIN;
    let mut echo = Recorder::new(Echo::new(now));
    let to = "192.0.2.1:7".parse().expect("an address");
    echo.handle_command(now, Command::Dial(CommandToken(1), to, Bytes::from_static(b"hello")));
    echo.handle_command(now, Command::Listen(CommandToken(2), to));
    let Some(Output::Connect(connect)) = echo.poll_output() else { return Vec::new() };
    let mut tell = |input| echo.handle_input(now, Input::Stream(connect.stream, input));
    tell(StreamInput::Connected { local: to });
    echo.poll_send(now, connect.stream, 100, &mut Vec::new());
    let mut tell = |input| echo.handle_input(now, Input::Stream(connect.stream, input));
    tell(StreamInput::Sent(5));
    tell(StreamInput::Received(Bytes::from_static(b"hello")));
    tell(StreamInput::ReadClosed);
    echo.handle_input(now, Input::Timeout);
    echo.take()
}

fn wire(add: Add<'_>) {
    let request = BlockRequest { piece: PieceIndex(1), begin: 16_384, length: 16_384 };
    let block = |len: usize| {
        let block = Bytes::from(vec![7; len]).into();
        Message::Piece { piece: PieceIndex(0), begin: 0, block }
    };
    let bits = Message::Bitfield(Bytes::from_static(&[0xf0]));
    let extended = Message::Extended { id: 0, payload: Bytes::from_static(b"d1:md6:ut_pexi1eee") };
    let plain = [
        Message::KeepAlive,
        Message::Choke,
        Message::Unchoke,
        Message::Interested,
        Message::NotInterested,
        Message::Have(PieceIndex(3)),
        Message::Request(request),
        Message::Cancel(request),
        Message::Port(6881),
    ];
    let fast = [
        Message::HaveAll,
        Message::HaveNone,
        Message::Suggest(PieceIndex(1)),
        Message::Reject(request),
        Message::AllowedFast(PieceIndex(2)),
    ];
    let mut stream = |name: &str, head: &[u8], messages: &[Message], tail: &[u8]| {
        let mut out = head.to_vec();
        for message in messages {
            message.encode(&mut out);
        }
        out.extend_from_slice(tail);
        add("peer_stream", name, out);
    };
    stream("plain", &[0, 3], &plain, &[]);
    stream("fast", &[0, 3], &fast, &[]);
    stream("bitfield", &[1, 4, 9], &[bits, Message::Interested], &[]);
    stream("extended", &[0, 1], &[extended], &[]);
    stream("blocks", &[0, 200], &[block(300), block(0), block(5000)], &[]);
    stream("block-too-long", &[2, 9], &[block(64), block(65)], &[]);
    stream("unknown-type", &[0, 9], &[Message::Choke], &[0, 0, 0, 4, 99, 1, 2, 3, 0, 0, 0, 0]);
    stream("cut-off", &[0, 9], &[block(10)], &[0, 0, 0, 13, 6, 0]);
    stream("length-too-large", &[0, 9], &[], &[0xff, 0xff, 0xff, 0xff, 7]);

    let reserved = Reserved::default().with_fast().with_extension_protocol().with_dht();
    let handshake =
        Handshake { reserved, info_hash: InfoHash([1; 20]), peer_id: PeerId([2; 20]) }.encode();
    add("handshake", "whole", handshake.to_vec());
    add("handshake", "with-more", [&handshake[..], b"\0\0\0\0"].concat());
    add("handshake", "without-peer-id", handshake[..48].to_vec());
    add("handshake", "other-protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec());

    let mut all = ExtensionHandshake {
        ids: ExtensionIds::local(Extension::ALL),
        listen_port: 6881.try_into().ok(),
        requests_max: 250.try_into().ok(),
        your_ip: Some([192, 0, 2, 1].into()),
        upload_only: Some(true),
        ..ExtensionHandshake::default()
    };
    all.metadata_len = 31_235.try_into().ok();
    let mut out = Vec::new();
    all.encode(&mut out);
    add("extension_handshake", "whole", out);
    add("extension_handshake", "empty", b"d1:mdee".to_vec());
    add(
        "extension_handshake",
        "odd",
        b"d1:mi3e1:pi99999e4:reqqi-1e1:v3:\xff\xfe\x016:yourip3:abce".into(),
    );
    add("metadata_message", "request", MetadataMessage::Request(3).to_payload().into());
    add("metadata_message", "reject", MetadataMessage::Reject(u32::MAX).to_payload().into());
    for (name, piece, total_len) in [("data", 1, Some(20_000)), ("beyond", 2, Some(20_000))] {
        let data = Bytes::from_static(&[7; 100]);
        let message = MetadataMessage::Data { piece, total_len, data };
        add("metadata_message", name, message.to_payload().into());
    }
    add("metadata_message", "unknown", b"d8:msg_typei9e5:piecei0ee".to_vec());
    add("metadata_message", "without-a-piece", b"d8:msg_typei0ee".to_vec());
}

fn encryption(add: Add<'_>) {
    // Methods of both sides, a seed, the length of the initial payload, the step, and changes: a
    // place, a direction and what is changed there.
    let mut script =
        |name: &str, offer: u8, allowed: u8, edits: &[(u16, bool, u8)], noise: &[u8]| {
            let mut out = vec![offer, allowed, 9, 0, 68, 6, edits.len() as u8];
            for (at, to_responder, change) in edits {
                out.extend_from_slice(&at.to_be_bytes());
                out.extend_from_slice(&[u8::from(*to_responder), *change]);
            }
            add("mse", name, [&out, noise].concat());
        };
    script("rc4", 0, 0, &[], &[]);
    script("plaintext", 1, 2, &[], &[]);
    script("either", 2, 3, &[], &[]);
    script("nothing-in-common", 0, 1, &[], &[]);
    script("other-keys", 0, 0, &[(3, true, 0x80)], &[]);
    script("other-answer", 0, 0, &[(3, false, 0x80)], &[]);
    script("noise", 2, 2, &[], &[0x55; 1200]);
    script("zeros", 2, 2, &[], &[0; 100]);
    // The fields lie behind padding, whose length the seed decides.
    let mut first = Vec::new();
    let mut rng = RngSeed::from_number(9).stream("mse", 0);
    Initiator::new(InfoHash([7; 20]), &[Method::Rc4], &[0xaa; 68], &mut rng, &mut first);
    let marks = first.len() as u16;
    for (name, at, change) in [
        ("no-sync", marks, 1),
        ("unknown-torrent", marks + 20, 1),
        ("verification", marks + 40, 1),
        ("unknown-method", marks + 51, 6),
        ("padding-too-long", marks + 52, 0x80),
    ] {
        script(name, 0, 2, &[(at, true, change)], &[]);
    }
}

fn http(add: Add<'_>) {
    for (name, text) in [
        ("length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 404 No\r\n\r\nrest"),
        (
            "chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: t\r\n\r\n",
        ),
        ("until-close", "HTTP/1.0 200 OK\r\n\r\nall of it"),
        ("continue", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 None\r\n\r\n"),
        ("two-lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        (
            "bad-chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        ),
        ("bare-newlines", "HTTP/1.1 302 Found\nLocation: /x\n\n"),
    ] {
        add("http_response", name, [b"\0\x06", text.as_bytes()].concat());
        add("http_response", &format!("{name}-small"), [b"\x01\x01", text.as_bytes()].concat());
    }
    for (name, text) in [
        ("announce", "GET /announce?info_hash=%01&port=1 HTTP/1.1\r\nHost: t\r\n\r\n"),
        ("two", "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
        ("body", "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"),
        (
            "both-lengths",
            "GET / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
    ] {
        add("http_request", name, [b"\0\x06", text.as_bytes()].concat());
    }
}

fn trackers(add: Add<'_>) {
    for (name, text) in [
        (
            "compact",
            "d8:completei3e10:incompletei4e8:intervali1800e5:peers6:\x01\x02\x03\x04\x1a\x09e",
        ),
        ("list", "d5:peersld2:ip9:127.0.0.14:porti6881eed2:ip3:::14:porti1eeee"),
        ("refused", "d14:failure reason4:nope8:retry in5:nevere"),
        ("warning", "d11:external ip4:\x01\x02\x03\x0415:warning message5:\x1b[31me"),
        ("strings", "d8:interval3:12312:min interval1:7e"),
    ] {
        add("tracker_http", name, [b"\x01", text.as_bytes()].concat());
        add("tracker_http", &format!("{name}-status-400"), [b"\x00", text.as_bytes()].concat());
    }
    let magic = 0x417_2710_1980_u64.to_be_bytes();
    add("tracker_udp", "connect", [&magic[..], &[0; 4], &[1; 4]].concat());
    let mut announce = [&[5; 8][..], &[0, 0, 0, 1], &[1; 4], &[3; 82]].concat();
    add("tracker_udp", "announce", announce.clone());
    announce.extend_from_slice(b"\x02\x05/path\x01\x00");
    add("tracker_udp", "announce-with-path", announce);
    add("tracker_udp", "scrape", [&[5; 8][..], &[0, 0, 0, 2], &[1; 4], &[3; 45]].concat());
    add("tracker_udp", "connected", [&[0; 4][..], &[1; 4], &[9; 8]].concat());
    add("tracker_udp", "peers", [&[0, 0, 0, 1][..], &[1; 4], &[2; 12], &[3; 19]].concat());
    add("tracker_udp", "counts", [&[0, 0, 0, 2][..], &[1; 4], &[2; 25]].concat());
    add("tracker_udp", "error", [&[0, 0, 0, 3][..], &[1; 4], b"no"].concat());
    // Everybody connects and announces, waits, and asks again with what they have.
    let mut datagrams = Vec::new();
    for who in 0..4 {
        datagrams.extend([who + 8, 1, who + 20, 3, 0, 1, b'x', 1, 1, 0, 0, 90, 0x1a, 0xe1]);
        datagrams.extend([who + 16, 3, 1, 9]);
    }
    add("tracker_datagrams", "announces", datagrams.clone());
    datagrams.extend([4, 130, 20, 2, 0, 1, 1, 1, 0, 0, 90, 0, 1, 4, 130, 20, 2, 0, 1, 1, 1, 0, 0]);
    add("tracker_datagrams", "old-ids", datagrams);
    let forged = [[16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 60], [16, 1, 7, 1, 60, 0, 3, 1, 2, 3, 8, 1]];
    add("tracker_datagrams", "forged-ids", forged.concat());
    let packed = gzip(b"d8:intervali1800e5:peers0:e");
    add("gzip", "answer", [&[0, 200], &packed[..]].concat());
    add("gzip", "too-long", [&[0, 20], &packed[..]].concat());
    add("gzip", "bomb", [&[0xff, 0xff], &gzip(&vec![0; 70_000])[..]].concat());
    let mut fields = packed;
    fields[3] = 30;
    fields.splice(10..10, *b"\x03\0abcname\0comment\0??");
    add("gzip", "fields", [&[0, 200], &fields[..]].concat());
}

fn scripts(add: Add<'_>) {
    // A session that leeches: everything is checked, a seed comes, answers, the disk writes.
    let fetch = |unit: &[u8], times: usize| {
        let mut script = vec![0, 19, 19, 0, 0b0000_0111, 15, 0, 0xff, 0xff, 1];
        script.extend(unit.repeat(times));
        script
    };
    let good = [13, 0, 1, 0, 15, 0, 0xff, 0xff, 1, 19, 8];
    let bad = [13, 0, 8, 0, 15, 0, 0xff, 0xff, 1, 19, 8];
    let slow = [13, 0, 0x31, 0, 7, 9, 15, 0, 0xff, 0xff, 0, 9, 0];
    let failing = [
        13, 0, 1, 0, 13, 0, 1, 0, 13, 0, 1, 0, 12, 0, 0, 19, 19, 17, 2, 19, 19, 0, 7, 15, 0, 255,
        255, 1,
    ];
    add("session_peer", "leech", fetch(&good, 9));
    add("session_peer", "leech-corrupt", fetch(&bad, 12));
    add("session_peer", "leech-slow", fetch(&slow, 30));
    add("session_peer", "disk-fails", fetch(&failing, 6));
    let pausing = [
        13, 0, 1, 0, 15, 0, 0xff, 0xff, 1, 17, 0, 19, 19, 19, 17, 2, 19, 19, 19, 8, 0, 7, 15, 0,
        0xff, 0xff, 1,
    ];
    add("session_peer", "pausing", fetch(&pausing, 5));
    // One block comes, the torrent is paused, its files vanish, it goes on.
    let mut vanish = fetch(&good, 1);
    vanish.extend([17, 0, 19, 19, 19, 17, 255, 17, 2, 19, 19, 19, 0, 7, 15, 0, 0xff, 0xff, 1]);
    vanish.extend(good.repeat(9));
    add("session_peer", "files-vanish", vanish);
    // A session that seeds: a peer is interested and asks.
    let mut serve = vec![1, 19, 19, 19, 0, 0b0000_0011, 15, 0, 0xff, 0xff, 1, 2, 0, 3, 0, 0, 99];
    serve.extend([8, 8, 8]);
    for piece in 0..4 {
        serve.extend([2, 0, 8, piece, 0, 99, 2, 0, 9, piece, 1, 99, 19, 15, 0, 0xff, 0xff, 1]);
    }
    add("session_peer", "seed", serve.clone());
    // It asks for metadata, rightly and not, refuses some and sends some.
    let mut metadata = serve.clone();
    let mut extended = |id: u8, payload: &[u8]| {
        metadata.extend([2, 0, 17, 0, 0, id, payload.len() as u8]);
        metadata.extend_from_slice(payload);
        metadata.extend([15, 0, 0xff, 0xff, 1]);
    };
    let own = Extension::Metadata.local_id();
    extended(own, &MetadataMessage::Request(0).to_payload());
    extended(0, b"d1:md11:ut_metadatai3ee13:metadata_sizei99ee");
    for piece in [0, 1, 0, 0, 0, 0] {
        extended(own, &MetadataMessage::Request(piece).to_payload());
    }
    extended(own, &MetadataMessage::Reject(0).to_payload());
    let data =
        MetadataMessage::Data { piece: 0, total_len: Some(9), data: Bytes::from_static(b"x") };
    extended(own, &data.to_payload());
    add("session_peer", "gives-metadata", metadata);
    serve.extend([2, 0, 12, 1, 0, 99, 17, 4, 5, 5, 7, 200, 16, 0, 1, 18, 0, 17, 206, 0]);
    add("session_peer", "seed-removed", serve);
    // A magnet link: somebody who has everything comes and gives the metadata, then the content; somebody
    // speaks of a piece that there is none of, another of too many, before that; the first to give
    // metadata lies.
    let send = [15, 0, 0xff, 0xff, 1];
    let learn = [&send[..], &[13, 0, 1, 0, 19, 19], &send].concat();
    let magnet = [&[0x40, 0, 0b0000_0111][..], &learn, &good.repeat(9)].concat();
    add("session_peer", "magnet", magnet);
    let lies = [0x40, 0, 1, 2, 0, 6, 4, 0, 99, 0, 0b0001_0001, 2, 1, 7, 0, 0, 3];
    let honest = [0, 0b0010_0111, 15, 2, 0xff, 0xff, 1, 13, 2, 1, 0, 19, 19, 15, 0, 0xff, 0xff, 1];
    add("session_peer", "magnet-lies", [&lies[..], &honest].concat());
    let wrong =
        [&[0x40, 0, 0b0000_0011][..], &send, &[13, 0, 8, 0, 0, 0b0001_0111], &learn].concat();
    add("session_peer", "magnet-wrong", wrong);
    let dial = [0, 19, 19, 17, 7, 8, 8, 8, 16, 0, 0, 15, 0, 1, 0, 1, 16, 0, 1, 8, 8, 8];
    add("session_peer", "dials", dial.to_vec());

    let mut rng = RngSeed::from_number(2).stream("seeds", 0);
    for target in [
        "picker_model",
        "choker",
        "timers",
        "session_peer",
        "session_api",
        "storage_jobs",
        "tracker_server",
        "tracker_client",
        "echo",
        "fetch",
        "session_hashes",
    ] {
        for at in 0..6 {
            let mut bytes = vec![0; 300];
            rng.fill(&mut bytes);
            add(target, &format!("random-{at}"), bytes);
        }
    }
    // Of a session that has everything: layers, leaves, and what is not there.
    let asks =
        [[0, 1, 1, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 1, 1, 0], [1, 0, 0, 0, 0]];
    let refused = [[0, 4, 0, 0, 0], [0, 0, 5, 0, 0], [0, 1, 1, 0, 255]];
    let asks = asks.iter().chain(&refused).flat_map(|ask| [&[4, 0][..], ask, &[12, 0]].concat());
    add("session_hashes", "asks", [1, 0, 0, 2].into_iter().chain(asks).collect());
    let round = [7, 0, 7, 13, 0, 20, 10, 0, 255, 12, 0];
    let fetches = [&[2, 0, 0, 1, 3, 0][..], &round.repeat(12)].concat();
    add("session_hashes", "fetches-layers", fetches);
    add("session_hashes", "lies", vec![2, 0, 0, 1, 7, 0, 1]);
    // A flush that yields what a lookup yields: it counts as failed, and nothing is claimed of it.
    let both_due = b"\x9a5\xfa=\xcc\x9d\xb6\xb26\xaa\xb1A\x9b\")\xac\x93";
    add("fetch", "both-timers-due", both_due.to_vec());
    let other_kind = b"_\xd0\xda3>2\xc6\x05q\xb1jX";
    add("storage_jobs", "flush-of-another-kind", other_kind.to_vec());
    add("storage_jobs", "all-is-done", [&[0][..], &[15, 0].repeat(60)].concat());
    // A disk that writes once a second: what came meanwhile was held without a bound.
    let slow =
        b"bf\x016YK\xc1..\x15x\xc29\xea\xca\xa6\xde\xa5\x80 ]\x01m{(\xb0\xc7\xceh\xe9h~`\xe3";
    add("swarm_scenario", "slow-disk", slow.to_vec());
    // A seeder and leechers; a poisoner among them; a disk that fills up; everybody leaves.
    let peers = [0, 0, 0, 0, 0, 0, 0, 200, 0, 0, 0, 0, 0, 0, 200, 0, 0, 0, 0, 0, 0];
    let swarm = |torrent, events: &[u8]| [&[torrent, 1][..], &peers, events].concat();
    add("swarm_scenario", "plain", swarm(0, &[]));
    add("swarm_scenario", "poisoner", swarm(2, &[1, 0, 2, 9]));
    add("swarm_scenario", "disk-full", swarm(0, &[2, 1, 0, 40, 90, 1, 1, 0]));
    add(
        "swarm_scenario",
        "leave",
        swarm(1, &[1, 0, 3, 0, 9, 0, 4, 0, 20, 1, 9, 255, 30, 2, 8, 255]),
    );
    add("resume", "not-sealed", [&[9, 2][..], b"de", &sha1(b"de")].concat());
}
