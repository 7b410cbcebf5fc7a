//! How fast one thread moves bytes: a source and a sink in one machine, over loopback.

use std::time::Instant as StdInstant;

use bytes::Bytes;
use teem_core::ids::StreamId;
use teem_core::machine::{
    Application, Connect, Incoming, Input, Listen, ListenerInput, Machine, Output, StreamInput,
};
use teem_core::time::Instant;
use teem_io::jobs::Inline;

const TOTAL: u64 = 8 << 30;
const BLOCK: usize = 16 * 1024;

/// Sends blocks on a stream to itself, and counts them.
struct Blast {
    block: Bytes,
    outputs: Vec<Output>,
    source: Option<StreamId>,
    lent: u64,
    sent: u64,
    settled: bool,
    received: u64,
    reads: u64,
    done: bool,
}

const SOURCE: (u32, u32) = (0, 1);
const SINK: (u32, u32) = (1, 1);

fn stream((slot, generation): (u32, u32)) -> StreamId {
    teem_core::ids::Key::from_parts(slot, generation)
}

impl Machine for Blast {
    fn handle_input(&mut self, _: Instant, input: Input<'_>) {
        match input {
            Input::Listener(_, ListenerInput::Bound(to)) => {
                let connect = Connect { stream: stream(SOURCE), to, from: None, tls: None };
                self.outputs.push(Output::Connect(connect.into()));
            }
            Input::Stream(id, StreamInput::Connected { .. }) => {
                self.source = Some(id);
                self.outputs.push(Output::WantWrite(id));
            }
            Input::Stream(_, StreamInput::Sent(count)) => {
                self.sent += count as u64;
                self.settled = true;
            }
            Input::Stream(_, StreamInput::Received(bytes)) => {
                self.received += bytes.len() as u64;
                self.reads += 1;
                self.done = self.received >= TOTAL;
            }
            _ => {}
        }
    }

    fn accept(&mut self, _: Instant, _: Incoming) -> Option<StreamId> {
        Some(stream(SINK))
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop()
    }

    fn poll_send(&mut self, _: Instant, id: StreamId, max: usize, out: &mut Vec<Bytes>) -> usize {
        if self.source != Some(id) || !self.settled {
            return 0;
        }
        let max = max.min((TOTAL - self.sent) as usize);
        let mut lent = 0;
        while lent < max {
            let part = self.block.slice(..BLOCK.min(max - lent));
            lent += part.len();
            out.push(part);
        }
        self.lent += lent as u64;
        self.settled = lent == 0;
        lent
    }

    fn recv_credit(&self, _: StreamId) -> usize {
        1 << 20
    }
}

impl Application for Blast {
    type Command = ();
    type Event = u64;

    fn handle_command(&mut self, _: Instant, (): ()) {
        let listener = teem_core::ids::Key::from_parts(0, 1);
        let listen = Listen { listener, address: ([127, 0, 0, 1], 0).into(), tls: false };
        self.outputs.push(Output::Listen(listen.into()));
    }

    fn poll_event(&mut self) -> Option<u64> {
        self.done.then(|| {
            self.done = false;
            self.reads
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch for people")]
fn main() {
    let blast = Blast {
        block: Bytes::from(vec![7; BLOCK]),
        outputs: Vec::new(),
        source: None,
        lent: 0,
        sent: 0,
        settled: true,
        received: 0,
        reads: 0,
        done: false,
    };
    let mut driver = teem_io_smol::Driver::new(blast, Inline::new());
    driver.handle_command(());
    let start = StdInstant::now();
    let reads = smol::block_on(driver.next_event());
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{:.2} GB/s through one thread, both ends; {} reads of {} KiB; {} turns",
        TOTAL as f64 / seconds / 1e9,
        reads,
        TOTAL / reads / 1024,
        driver.stats().turns,
    );
}
