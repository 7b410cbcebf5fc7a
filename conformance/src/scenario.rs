//! What all drivers run: a server and a client, both echoes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use bytes::Bytes;
use teem_core::ids::CommandToken;
use teem_core::machine::Application;
use teem_core::machine::echo::{Command, Event};
use teem_core::time::Duration;

use crate::drive::Drive;

/// The server closes streams on which nothing happens for this long.
pub const IDLE: Duration = Duration::from_secs(1);

/// Lengths of the messages that are echoed.
pub const MESSAGES: [usize; 7] = [0, 1, 1_000, 65_536, 65_537, 300_000, 1 << 20];

/// Lengths of the messages of [`bulk`]; one is more than a system buffers between two sockets, so
/// that writing blocks too.
pub const BULK: [usize; 3] = [1 << 20, 12 << 20, 1 << 20];

/// Longest that nothing may happen.
const LIMIT: Duration = Duration::from_secs(10);

const SERVER: usize = 0;
const CLIENT: usize = 1;

/// Bytes that differ from message to message and from place to place.
pub fn message(len: usize) -> Bytes {
    (0..len).map(|at| (at * 7 + at / 251 + len) as u8 | 1).collect()
}

fn anywhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A port on which nobody listens.
fn refused() -> SocketAddr {
    let listener = TcpListener::bind(anywhere()).expect("a port is free");
    listener.local_addr().expect("it is bound")
}

fn expect<M: Application<Event = Event>>(drive: &mut dyn Drive<M>) -> (usize, Event) {
    let event = drive.next_event(LIMIT);
    event.unwrap_or_else(|| panic!("{}: nothing happened for {LIMIT:?}", drive.name()))
}

/// Starts the server's listener and both datagram sockets; returns the server's addresses.
fn start<M>(drive: &mut dyn Drive<M>) -> (SocketAddr, SocketAddr)
where
    M: Application<Command = Command, Event = Event>,
{
    drive.command(SERVER, Command::Listen(CommandToken(1), anywhere()));
    drive.command(SERVER, Command::Bind(CommandToken(2), anywhere()));
    drive.command(CLIENT, Command::Bind(CommandToken(3), anywhere()));
    let (mut streams, mut datagrams, mut client) = (None, None, false);
    loop {
        match expect(drive) {
            (SERVER, Event::Listening(CommandToken(1), at)) => streams = Some(at),
            (SERVER, Event::Bound(CommandToken(2), at)) => datagrams = Some(at),
            (CLIENT, Event::Bound(CommandToken(3), _)) => client = true,
            other => panic!("{}: {other:?}", drive.name()),
        }
        if let (Some(streams), Some(datagrams), true) = (streams, datagrams, client) {
            return (streams, datagrams);
        }
    }
}

/// Everything that the contract has: many streams at once, one that is refused, one on which
/// nothing happens, datagrams, jobs. Returns once everything has come to its end.
pub fn everything<M>(drive: &mut dyn Drive<M>)
where
    M: Application<Command = Command, Event = Event>,
{
    let (streams, datagrams) = start(drive);
    drive.command(CLIENT, Command::Hold(CommandToken(30), streams));
    drive.command(CLIENT, Command::Dial(CommandToken(20), refused(), message(9)));
    for (at, len) in MESSAGES.into_iter().enumerate() {
        let token = CommandToken(100 + at as u64);
        drive.command(CLIENT, Command::Dial(token, streams, message(len)));
    }
    drive.command(CLIENT, Command::Say(CommandToken(40), datagrams, message(500)));
    let (mut echoed, mut served, mut failed, mut said, mut idle) = (0, 0, Vec::new(), 0, 0);
    while echoed < MESSAGES.len()
        || served < MESSAGES.len()
        || failed.len() < 2
        || said < 2
        || idle < 1
    {
        match expect(drive) {
            (CLIENT, Event::Echoed(CommandToken(token), bytes)) => {
                let len = MESSAGES[token as usize - 100];
                assert_eq!(bytes, message(len), "{}", drive.name());
                echoed += 1;
            }
            (CLIENT, Event::Failed(CommandToken(token))) => failed.push(token),
            (SERVER, Event::Served(..)) => served += 1,
            (SERVER, Event::Idle) => idle += 1,
            (_, Event::Datagram(bytes)) => {
                assert!(bytes.ends_with(&message(500)), "{}", drive.name());
                said += 1;
            }
            other => panic!("{}: {other:?}", drive.name()),
        }
    }
    failed.sort_unstable();
    assert_eq!(failed, [20, 30], "{}", drive.name());
    rest(drive);
}

/// Some large messages at once, while something holds the machines up. Returns once all are back.
pub fn bulk<M>(drive: &mut dyn Drive<M>)
where
    M: Application<Command = Command, Event = Event>,
{
    let (streams, _) = start(drive);
    for (token, len) in (0..).zip(BULK) {
        drive.command(CLIENT, Command::Dial(CommandToken(token), streams, message(len)));
    }
    let (mut echoed, mut served) = (0, 0);
    while echoed < BULK.len() || served < BULK.len() {
        match expect(drive) {
            (CLIENT, Event::Echoed(CommandToken(token), bytes)) => {
                assert!(bytes == message(BULK[token as usize]), "{}", drive.name());
                echoed += 1;
            }
            (SERVER, Event::Served(..)) => served += 1,
            other => panic!("{}: {other:?}", drive.name()),
        }
    }
    rest(drive);
}

/// Lets the drivers do what is left, which yields no events.
fn rest<M: Application<Event = Event>>(drive: &mut dyn Drive<M>) {
    let after = drive.next_event(Duration::from_millis(50));
    assert_eq!(after, None, "{}", drive.name());
}
