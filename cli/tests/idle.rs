//! Peers that connect, say what they have and then say nothing, as most peers of a large swarm do:
//! what a thousand of them take of the program's memory.

#![expect(unreachable_pub, dead_code, reason = "shared between tests")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::{Running, Yard, code, run, stderr, strs};
use rustix::process::{Resource, getrlimit, setrlimit};
use teem_core::bitfield::Bitfield;
use teem_core::ids::{InfoHash, PeerId};
use teem_core::metainfo::Metainfo;
use teem_core::wire::{
    ClientName, Decoder, Extension, ExtensionHandshake, ExtensionIds, HANDSHAKE_LEN, Handshake,
    HandshakeParser, Limits, Message, Reserved,
};

/// Connections at the first look, so that what does not grow with them falls out, and more at the
/// second.
const BEFORE: usize = 100;
const MORE: usize = 1_000;

/// Bytes of a process that one more idle peer may take, beside what the kernel has.
const PEER_MAX: u64 = 4 * 1024;

/// 64 pieces.
const CONTENT: usize = 16 << 20;

/// Reports, one a second, between the last connection and the second look: longer than a choke
/// round.
const REPORTS: usize = 12;

/// Each connection is two descriptors, one of them ours; what is started from here inherits the
/// limit.
fn raise_descriptor_limit() {
    let wanted = 2 * (BEFORE + MORE) as u64;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).expect("up to the hard limit");
    }
    let raised = getrlimit(Resource::Nofile).current;
    assert!(raised.is_none_or(|now| now >= wanted), "`ulimit -Hn` is below {wanted}: {limit:?}");
}

/// Private memory of a process that no file is behind: its heap, its stacks, what it wrote to of
/// its own data.
fn memory(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(path).expect("a process that runs, on Linux");
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).expect("it is there");
    let kib = line.trim().strip_suffix("kB").expect("in this unit").trim();
    kib.parse::<u64>().expect("a number") * 1024
}

/// Connects somebody who is shaken hands with, told what the program has, and then idles.
fn idler(number: usize, to: SocketAddr, info_hash: InfoHash, have: &Bitfield) -> TcpStream {
    let mut peer_id = *b"-ID0001-000000000000";
    peer_id[8..].copy_from_slice(format!("{number:012}").as_bytes());
    let reserved = Reserved::NONE.with_extension_protocol().with_fast();
    let hello = ExtensionHandshake {
        ids: ExtensionIds::local([Extension::UploadOnly, Extension::DontHave]),
        client: ClientName::from_bytes(b"idler 1.0"),
        ..ExtensionHandshake::default()
    };
    let mut payload = Vec::new();
    hello.encode(&mut payload);
    let mut said = BytesMut::new();
    let handshake = Handshake { reserved, info_hash, peer_id: PeerId(peer_id) };
    said.extend_from_slice(&handshake.encode());
    Message::Extended { id: 0, payload: payload.into() }.encode(&mut said);
    Message::Bitfield(have.to_wire().into()).encode(&mut said);

    let mut stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("set");
    stream.write_all(&said).expect("it reads");
    let mut bytes = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut bytes).expect("a handshake");
    let mut bytes = Bytes::copy_from_slice(&bytes);
    let theirs = HandshakeParser::new().push(&mut bytes).expect("legal").expect("whole");
    assert_eq!(theirs.info_hash, info_hash);
    let mut decoder = Decoder::new();
    loop {
        match decoder.next(&Limits::DEFAULT).expect("legal") {
            Some(Message::HaveAll | Message::HaveNone | Message::Bitfield(_)) => return stream,
            Some(_) => {}
            None => {
                let mut bytes = [0; 512];
                let count = stream.read(&mut bytes).expect("it says what it has");
                assert_ne!(count, 0, "peer {number} was turned away");
                decoder.push(Bytes::copy_from_slice(&bytes[..count]));
            }
        }
    }
}

/// Lets idle peers connect, holds what each of them takes against the bound, and returns them.
fn measure(
    what: &str,
    program: &mut Running,
    yard: &Yard,
    port: u16,
    have: &Bitfield,
) -> Vec<TcpStream> {
    let torrent = std::fs::read(yard.path("data.torrent")).expect("made");
    let info_hash = Metainfo::from_bytes(&torrent).expect("legal").info().swarm_hash();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let with =
        |peers: usize| move |told: &serde_json::Value| told["peers"].as_u64() == Some(peers as u64);

    let mut idlers = Vec::new();
    let mut connect = |program: &mut Running, count: usize| {
        for number in idlers.len()..count {
            idlers.push(idler(number, to, info_hash, have));
            // What it tells is read as it goes, or it would wait for us.
            program.await_event("peer_connected");
        }
    };
    connect(program, BEFORE);
    program.await_that("progress", with(BEFORE));
    let before = memory(program.id());
    connect(program, BEFORE + MORE);
    for _ in 0..REPORTS {
        program.await_that("progress", with(BEFORE + MORE));
    }
    let after = memory(program.id());
    let each = after.saturating_sub(before) / MORE as u64;
    println!("{what}: {BEFORE} idle peers: {before} bytes; {MORE} more: {after}; each {each}");
    assert!(each > 0, "a peer takes something");
    assert!(each < PEER_MAX, "{each} bytes for each idle peer");

    for (number, idler) in idlers.iter_mut().enumerate() {
        idler.set_nonblocking(true).expect("set");
        let mut rest = [0; 512];
        let count = idler.read(&mut rest).unwrap_or(1);
        assert_ne!(count, 0, "peer {number} was let go");
    }
    idlers
}

fn max_peers() -> String {
    (BEFORE + MORE + 1).to_string()
}

#[test]
fn a_seeder_keeps_a_thousand_idle_peers_in_little_memory_and_serves() {
    raise_descriptor_limit();
    let yard = Yard::new(CONTENT);
    let (mut seeder, peer) = yard.seeder(&["--max-peers", &max_peers()]);
    let port = peer.parse::<SocketAddr>().expect("an address").port();
    let mut have = Bitfield::new(64);
    for piece in 0..32 {
        have.set(piece);
    }
    let _idlers = measure("seeder", &mut seeder, &yard, port, &have);
    let got = run(&yard.get("got", &["--peer", &peer]));
    assert_eq!(code(&got), 0, "{}", stderr(&got));
    assert!(yard.is_complete("got"));
}

#[test]
fn a_leecher_keeps_a_thousand_idle_peers_in_little_memory() {
    raise_descriptor_limit();
    let yard = Yard::new(CONTENT);
    let mut leecher = Running::start(&strs(&yard.get("got", &["--max-peers", &max_peers()])));
    let port = leecher.await_event("listening")["port"].as_u64().expect("a port");
    leecher.await_event("ready");
    // All have something for us, and choke us.
    let mut have = Bitfield::new(64);
    for piece in 0..32 {
        have.set(piece);
    }
    measure("leecher", &mut leecher, &yard, u16::try_from(port).expect("a port"), &have);
}

#[test]
fn the_usual_limit_on_descriptors_is_raised() {
    let script = "ulimit -S -n 200 && exec \"$0\" track --http 127.0.0.1:0 --json";
    let mut tracker = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_teem")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut line = String::new();
    let output = tracker.stdout.take().expect("piped");
    BufReader::new(output).read_line(&mut line).expect("readable");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", tracker.id()));
    tracker.kill().expect("it runs");
    tracker.wait().expect("it ends");
    assert!(line.contains("listening"), "{line}");
    let limits = limits.expect("a process that runs, on Linux");
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = files.expect("it is there").split_whitespace().next().expect("a limit");
    assert!(soft.parse::<u64>().expect("a number") > 200, "{limits}");
}
