//! Machines that keep the contract pass; for each promise there is one that breaks it and is
//! caught.

use std::net::SocketAddr;

use teem_core::ids::{CommandToken, Key};
use teem_core::machine::echo::{self, Echo};
use teem_core::machine::{
    Connect, Deadline, Incoming, Input, Listen, Output, StreamInput, Transmit, TransmitLimit,
};
use teem_core::rng::Seed;
use teem_core::time::Duration;

use super::*;

/// Runs in which a broken machine must be caught.
const RUNS: u64 = 300;

fn noise(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; 400];
    Seed::from_number(number).stream("drive", 0).fill(&mut bytes);
    bytes
}

fn address() -> SocketAddr {
    ([10, 0, 0, 1], 6881).into()
}

#[test]
fn an_echo_keeps_the_contract_and_gets_to_do_something() {
    let mut all = Driven::default();
    for number in 0..RUNS {
        let mut machine = Echo::new(Instant::ORIGIN);
        let driven = drive_app(&mut machine, &noise(number), |u| {
            let (choice, token) =
                (u8::arbitrary(u).ok()?, CommandToken(u8::arbitrary(u).ok()?.into()));
            let text = Bytes::from(vec![choice; usize::from(choice)]);
            Some(match choice % 5 {
                0 => echo::Command::Listen(token, address()),
                1 => echo::Command::Bind(token, address()),
                2 => echo::Command::Dial(token, address(), text),
                3 => echo::Command::Hold(token, address()),
                _ => echo::Command::Say(token, address(), text),
            })
        });
        all.streams += driven.streams;
        all.sent_bytes += driven.sent_bytes;
        all.jobs += driven.jobs;
        all.datagrams_out += driven.datagrams_out;
        all.events += driven.events;
    }
    let did = [all.streams, all.sent_bytes, all.jobs, all.datagrams_out, all.events];
    assert!(did.iter().all(|count| *count > RUNS / 4), "{all:?}");
}

#[test]
fn the_same_bytes_drive_the_same_way() {
    for number in 0..20 {
        let bytes = noise(number);
        let drive = || drive(&mut Machines::new(Wrong::Nothing), &bytes);
        assert_eq!(drive(), drive());
    }
}

/// What a machine does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    ReuseStream,
    ReuseJob,
    ReuseListener,
    ReuseSocket,
    NameUnknown,
    CloseTwice,
    StandStill,
    ForgetTimeout,
    EndlessOutputs,
    HoardJobs,
    HoardBytes,
    LendTwice,
    LendTooMuch,
    Miscount,
    SmallCredit,
    DeadCredit,
    TransmitTooMuch,
    HearTheDead,
    CompleteTwice,
}

/// A machine of few parts that does one thing wrong.
#[derive(Debug)]
struct Machines {
    wrong: Wrong,
    out: Vec<Output>,
    now: Instant,
    streams: Vec<(StreamId, bool)>,
    made: u32,
    lent: Vec<StreamId>,
    jobs: Vec<(JobId, Job)>,
    asked: std::cell::Cell<u32>,
    datagrams: usize,
}

impl Machines {
    fn new(wrong: Wrong) -> Self {
        let listener = ListenerId::from_parts(0, 1);
        let socket = SocketId::from_parts(0, 1);
        let bind = || teem_core::machine::Bind {
            socket,
            address: address(),
            reuse: false,
            multicast: None,
        };
        let mut out = vec![
            Output::Listen(Listen { listener, address: address(), tls: false }.into()),
            Output::Bind(bind().into()),
        ];
        match wrong {
            Wrong::ReuseListener => {
                out.push(Output::Listen(
                    Listen { listener, address: address(), tls: false }.into(),
                ));
            }
            Wrong::ReuseSocket => {
                out.extend([Output::Unbind(socket), Output::Bind(bind().into())]);
            }
            _ => {}
        }
        out.reverse();
        Self {
            wrong,
            out,
            now: Instant::ORIGIN,
            streams: Vec::new(),
            made: 0,
            lent: Vec::new(),
            jobs: Vec::new(),
            asked: std::cell::Cell::new(0),
            datagrams: 3,
        }
    }

    fn queue(&mut self, output: Output) {
        self.out.insert(0, output);
    }

    fn open(&mut self) -> StreamId {
        if self.wrong != Wrong::ReuseStream || self.made < 2 {
            self.made += 1;
        }
        let id = StreamId::from_parts(0, self.made);
        self.streams.push((id, true));
        id
    }

    fn work(&mut self) {
        if self.wrong != Wrong::ReuseJob || self.made < 2 {
            self.made += 1;
        }
        let job = Job::Resolve { host: "a".into(), port: 1 };
        self.jobs.push((JobId::from_parts(0, self.made), job));
    }

    fn lives(&self, id: StreamId) -> bool {
        self.streams.contains(&(id, true))
    }
}

impl Machine for Machines {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        if self.wrong != Wrong::StandStill || self.now == Instant::ORIGIN {
            self.now = self.now.max(now);
        }
        match input {
            Input::Stream(id, input) => {
                if !self.lives(id) {
                    if self.wrong == Wrong::HearTheDead {
                        self.work();
                    }
                    return;
                }
                match input {
                    StreamInput::Received(bytes) => {
                        self.queue(Output::WantWrite(id));
                        self.work();
                        if self.wrong == Wrong::NameUnknown {
                            self.queue(Output::WantRead(StreamId::from_parts(9, 9)));
                        }
                        if bytes.len().is_multiple_of(7) {
                            let stream = self.open();
                            let to = address();
                            let connect = Connect { stream, to, from: None, tls: None };
                            self.queue(Output::Connect(connect.into()));
                        }
                    }
                    StreamInput::Sent(_) => self.lent.retain(|lent| *lent != id),
                    StreamInput::ReadClosed => {
                        let how = teem_core::machine::Shutdown::Abort;
                        self.queue(Output::Close { stream: id, how });
                        if self.wrong == Wrong::CloseTwice {
                            self.queue(Output::Close { stream: id, how });
                        }
                        self.streams.retain(|(known, _)| *known != id);
                    }
                    StreamInput::Closed(_) | StreamInput::ConnectFailed(_) => {
                        self.streams.retain(|(known, _)| *known != id);
                    }
                    StreamInput::Connected { .. } => {}
                }
            }
            Input::Job(..) if self.wrong == Wrong::CompleteTwice => {
                self.queue(Output::WantJob);
            }
            _ => {}
        }
    }

    fn accept(&mut self, _: Instant, _: Incoming) -> Option<StreamId> {
        Some(self.open())
    }

    fn poll_output(&mut self) -> Option<Output> {
        if self.wrong == Wrong::EndlessOutputs && self.made > 3 {
            return Some(Output::WantJob);
        }
        self.out.pop()
    }

    fn poll_job(&mut self) -> Option<(JobId, Job)> {
        if self.wrong == Wrong::HoardJobs && self.made > 3 {
            self.work();
        }
        self.jobs.pop()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.asked.set(self.asked.get() + 1);
        if self.wrong == Wrong::ForgetTimeout && self.asked.get().is_multiple_of(5) {
            return None;
        }
        let at = self.now + Duration::from_secs(1);
        Some(Deadline { at, reason: "test" })
    }

    fn poll_transmit(
        &mut self,
        _: Instant,
        _: SocketId,
        limit: TransmitLimit,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let len = match self.wrong {
            Wrong::TransmitTooMuch => 100,
            _ => 100.min(limit.bytes),
        };
        self.datagrams = self.datagrams.checked_sub(1)?;
        buf.extend(vec![1; len]);
        Some(Transmit { to: address(), from: None, ecn: None, len, segment: None })
    }

    fn poll_send(&mut self, _: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        if !self.lives(id) || self.lent.contains(&id) && self.wrong != Wrong::LendTwice {
            return 0;
        }
        let len = match self.wrong {
            Wrong::LendTooMuch => 50,
            Wrong::HoardBytes => max.min(1 << 25),
            _ => max.min(50),
        };
        if len == 0 {
            return 0;
        }
        if self.wrong != Wrong::HoardBytes {
            self.lent.push(id);
        }
        out.push(Bytes::from(vec![7; len]));
        if self.wrong == Wrong::Miscount { len + 1 } else { len }
    }

    fn recv_credit(&self, id: StreamId) -> usize {
        match (self.wrong, self.lives(id)) {
            (Wrong::SmallCredit, true) => 17,
            (Wrong::DeadCredit, false) | (_, true) => 5_000,
            _ => 0,
        }
    }
}

fn catches(wrong: Wrong, is_it: impl Fn(&Broken) -> bool) {
    for number in 0..RUNS {
        let result = Driver::new().run(&mut Machines::new(wrong), &noise(number));
        match result {
            Ok(_) => {}
            Err(broken) => return assert!(is_it(&broken), "{wrong:?}: {broken}"),
        }
    }
    panic!("{wrong:?} was not caught in {RUNS} runs");
}

#[test]
fn a_machine_that_does_nothing_wrong_passes() {
    for number in 0..RUNS {
        let result = Driver::new().run(&mut Machines::new(Wrong::Nothing), &noise(number));
        assert!(result.is_ok(), "{result:?}");
    }
}

#[test]
fn every_broken_promise_is_caught() {
    catches(Wrong::ReuseStream, |broken| matches!(broken, Broken::StreamReused(_)));
    catches(Wrong::ReuseJob, |broken| matches!(broken, Broken::JobReused(_)));
    catches(Wrong::ReuseListener, |broken| matches!(broken, Broken::ListenerReused(_)));
    catches(Wrong::ReuseSocket, |broken| matches!(broken, Broken::SocketReused(_)));
    catches(Wrong::NameUnknown, |broken| matches!(broken, Broken::StreamUnknown(_)));
    catches(Wrong::CloseTwice, |broken| matches!(broken, Broken::StreamEnded(_)));
    catches(Wrong::StandStill, |broken| matches!(broken, Broken::TimeStandsStill { .. }));
    catches(Wrong::ForgetTimeout, |broken| {
        matches!(broken, Broken::TimeoutUnstable | Broken::StaleTookEffect(_))
    });
    catches(Wrong::EndlessOutputs, |broken| matches!(broken, Broken::Endless { .. }));
    catches(Wrong::HoardJobs, |broken| matches!(broken, Broken::Unbounded { .. }));
    catches(Wrong::HoardBytes, |broken| matches!(broken, Broken::Unbounded { .. }));
    catches(Wrong::LendTwice, |broken| matches!(broken, Broken::SecondLoan(_)));
    catches(Wrong::LendTooMuch, |broken| matches!(broken, Broken::WrongLoan { .. }));
    catches(Wrong::Miscount, |broken| matches!(broken, Broken::WrongLoan { .. }));
    catches(Wrong::SmallCredit, |broken| matches!(broken, Broken::SmallCredit(..)));
    catches(Wrong::DeadCredit, |broken| matches!(broken, Broken::DeadStreamLives(_)));
    catches(Wrong::TransmitTooMuch, |broken| matches!(broken, Broken::WrongTransmit(_)));
    catches(Wrong::HearTheDead, |broken| matches!(broken, Broken::StaleTookEffect(_)));
    catches(Wrong::CompleteTwice, |broken| matches!(broken, Broken::StaleTookEffect(_)));
}
