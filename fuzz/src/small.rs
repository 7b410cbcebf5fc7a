//! Small machines under [`drive`](crate::drive).

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use teem_core::http::fetch::{Command as Get, Config, Fetch};
use teem_core::ids::{CommandToken, StreamId};
use teem_core::machine::echo::{Command, Echo};
use teem_core::time::Instant;

use crate::drive::{Driver, World, drive_app, kept};

/// The echo: streams both ways, datagrams, jobs, timers.
pub fn echo(bytes: &[u8]) {
    drive_app(&mut Echo::new(Instant::ORIGIN), bytes, |u| {
        let (choice, token) = (u8::arbitrary(u).ok()?, u8::arbitrary(u).ok()?);
        let (token, address) = (CommandToken(token.into()), ([10, 0, 0, choice], 7).into());
        let text = Bytes::from(vec![choice; usize::from(choice)]);
        Some(match choice % 5 {
            0 => Command::Listen(token, address),
            1 => Command::Bind(token, address),
            2 => Command::Dial(token, address, text),
            3 => Command::Hold(token, address),
            _ => Command::Say(token, address, text),
        })
    });
}

/// Web servers, more or less.
#[derive(Debug)]
struct Servers;

impl World for Servers {
    fn say(&mut self, _: StreamId, u: &mut Unstructured<'_>) -> Option<Bytes> {
        let how = u8::arbitrary(u).ok()?;
        let text = match how % 16 {
            0 => "HTTP/1.1 301 M\r\nLocation: http://other.example/f\r\nContent-Length: 0\r\n\r\n",
            1 => "HTTP/1.1 302 M\r\nLocation: ../up\r\n\r\n",
            2 => "HTTP/1.1 302 M\r\nLocation: http://127.0.0.1/\r\n\r\n",
            3 => "HTTP/1.1 302 M\r\nLocation: https://h/\r\n\r\n",
            4 => "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno",
            5 => "HTTP/1.0 200 OK\r\n\r\nuntil the end",
            6 => "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            7 => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            8 => "0\r\n\r\n",
            9 => "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
            10 => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            11 | 12 => "hello",
            _ => {
                let len = usize::from(how).min(u.len());
                return u.bytes(len).ok().map(Bytes::copy_from_slice);
            }
        };
        Some(Bytes::from_static(text.as_bytes()))
    }
}

/// One file over HTTP, from servers that redirect, break off and lie.
pub fn fetch(bytes: &[u8]) {
    let mut machine = Fetch::new(Instant::ORIGIN, Config { body_max: 64, ..Config::default() });
    let result = Driver::new().world(Servers).run_app(&mut machine, bytes, |u| {
        let urls = [
            "http://192.0.2.1/file",
            "http://files.example:8080/a?b#c",
            "http://[2001:db8::1]/",
            "https://files.example/",
            "ftp://files.example/",
            "http://127.0.0.1/x",
            "not a url",
        ];
        let choice = u8::arbitrary(u).ok()?;
        Some(Get::Get(urls[usize::from(choice) % urls.len()].into()))
    });
    kept(result);
}
