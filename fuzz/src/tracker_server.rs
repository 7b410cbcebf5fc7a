//! The tracker's machine under [`drive`](crate::drive): requests whole, in parts, many at a time
//! and malformed, on streams that come and go.

use std::fmt::Write as _;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use teem_core::ids::{CommandToken, StreamId};
use teem_core::rng::Seed;
use teem_core::time::{Duration, Instant};
use teem_core::tracker::server::{Command, Config, Server};
use teem_core::tracker::swarm::Limits;

use crate::drive::{Driven, Driver, World, kept};

/// Strangers that speak HTTP, mostly.
#[derive(Debug, Default)]
struct Strangers {
    /// What is left of a request that is said in parts.
    rest: Vec<u8>,
}

fn escaped(out: &mut String, byte: u8, len: usize) {
    for _ in 0..len {
        write!(out, "%{byte:02x}").expect("a string takes all");
    }
}

/// A request line and headers, of a few bytes.
fn request(u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let choice: u8 = u.arbitrary()?;
    let mut target = String::from(if choice & 0x80 == 0 { "" } else { "/passkey" });
    match choice % 8 {
        0 => target.push_str("/scrape?x=1"),
        1 => target.push_str("/stats"),
        2 => target.push_str("/health"),
        _ => {
            let (swarm, peer, port) = (u8::arbitrary(u)?, u8::arbitrary(u)?, u16::arbitrary(u)?);
            target.push_str("/announce?info_hash=");
            escaped(&mut target, swarm % 6, 20);
            target.push_str("&peer_id=");
            escaped(&mut target, peer % 16, if peer > 0xf8 { 3 } else { 20 });
            write!(target, "&port={port}&left={}", peer / 64).expect("a string takes all");
            target.push_str(
                ["", "&event=started", "&event=stopped", "&event=completed"]
                    [usize::from(swarm / 6 % 4)],
            );
            target.push_str(
                ["", "&compact=0", "&compact=1", "&no_peer_id=1"][usize::from(swarm / 24 % 4)],
            );
            if swarm > 200 {
                write!(target, "&numwant={}", u8::arbitrary(u)?).expect("a string takes all");
            }
        }
    }
    if choice.is_multiple_of(8) {
        for _ in 0..choice / 16 {
            target.push_str("&info_hash=");
            escaped(&mut target, u8::arbitrary(u)? % 6, 20);
        }
    }
    let method = if choice == 0x7f { "POST" } else { "GET" };
    let close = if choice & 0x40 == 0 { "" } else { "Connection: close\r\n" };
    let body = if choice == 0x7f { "Content-Length: 3\r\n" } else { "" };
    let version = u8::from(choice & 0x20 == 0);
    Ok(format!("{method} {target} HTTP/1.{version}\r\nHost: t\r\n{close}{body}\r\n").into())
}

impl World for Strangers {
    fn say(&mut self, _: StreamId, u: &mut Unstructured<'_>) -> Option<Bytes> {
        let how = u8::arbitrary(u).ok()?;
        match how {
            // What they please.
            0..32 => {
                let len = usize::from(how % 32).min(u.len());
                u.bytes(len).ok().map(Bytes::copy_from_slice)
            }
            32..64 => Some(std::mem::take(&mut self.rest).into()),
            // In two parts.
            64..96 => {
                let mut whole = request(u).ok()?;
                self.rest = whole.split_off(usize::from(how).min(whole.len()));
                Some(whole.into())
            }
            // Many at a time.
            96..104 => Some(request(u).ok()?.repeat(usize::from(how % 64)).into()),
            _ => request(u).ok().map(Bytes::from),
        }
    }
}

fn command(u: &mut Unstructured<'_>) -> Option<Command> {
    let choice: u8 = u.arbitrary().ok()?;
    Some(match choice % 4 {
        0 => {
            let address = ([10, 0, 0, 1], u16::from(choice)).into();
            Command::Listen(CommandToken(choice.into()), address)
        }
        _ => Command::Stats(CommandToken(choice.into())),
    })
}

pub(crate) fn play(bytes: &[u8]) -> Driven {
    let config = Config {
        num_want_max: 8,
        scrape_max: 4,
        streams_max: 12,
        streams_per_address: 3,
        limits: Limits {
            torrents: 4,
            peers_per_torrent: 6,
            peers: 12,
            lifetime: Duration::from_mins(2),
        },
        ..Config::default()
    };
    let now = Instant::ORIGIN;
    let mut server = Server::new(now, config, &Seed::from_number(5));
    // There is nothing to do before it listens.
    let listen = Command::Listen(CommandToken(1), ([10, 0, 0, 1], 80).into());
    teem_core::machine::Application::handle_command(&mut server, now, listen);
    let driver = Driver::new().world(Strangers::default());
    let driven = kept(driver.run_app(&mut server, bytes, command));
    let stats = server.stats();
    assert_eq!(stats.streams, driven.streams_left, "everybody left");
    assert!(stats.torrents <= 4 && stats.peers <= 12, "{stats:?}");
    driven
}

/// A tracker that is asked, badly and well, by strangers that come and go.
pub fn tracker_server(bytes: &[u8]) {
    play(bytes);
}
