//! Drives a machine on tokio.
//!
//! ```no_run
//! # use teem_core::machine::echo::{Command, Echo};
//! # use teem_core::ids::CommandToken;
//! # async fn ctrl_c() {}
//! # async fn run() {
//! let mut driver = teem_io_tokio_compat::Driver::make(Echo::new, teem_io::jobs::Inline::new());
//! driver.handle_command(Command::Listen(CommandToken(1), ([127, 0, 0, 1], 7).into()));
//! loop {
//!     tokio::select! {
//!         event = driver.next_event() => println!("{event:?}"),
//!         () = ctrl_c() => break,
//!     }
//! }
//! # }
//! ```
//!
//! What it does is the [pump](teem_io::pump)'s; this crate only waits. It wants a runtime with I/O
//! and time enabled, of either flavour; a current-thread one, where nothing crosses threads, is the
//! fastest.

#![deny(unsafe_code)]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use socket2::Socket;
use teem_core::time::Duration;
use teem_io::readiness::{Direction, Reactor, Token, nonblocking};
use teem_io::task::{ReadyQueue, TaskDriver, TaskReactor};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep, sleep};

/// Drives a machine; see [`TaskDriver`] for what it can do. Made anywhere, it runs inside a
/// runtime.
pub type Driver<M, E> = TaskDriver<M, E, Tokio>;

/// The reactor: the one of the runtime that the driver runs in.
#[derive(Debug)]
pub struct Tokio {
    queue: Arc<ReadyQueue>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl TaskReactor for Tokio {
    fn new(queue: Arc<ReadyQueue>) -> Self {
        Self { queue, timer: None }
    }

    fn set_timer(&mut self, after: Duration) {
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(Instant::now() + after),
            none => *none = Some(Box::pin(sleep(after))),
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
    }
}

impl Reactor for Tokio {
    type Source = Source;

    fn register(&mut self, socket: Socket, token: Token) -> io::Result<Source> {
        #[expect(unsafe_code, reason = "the runtime trusts the descriptor")]
        // SAFETY: a `Socket` owns its descriptor, which stays the same one and open as long as it
        // lives; nothing here takes it out or lends it mutably.
        let socket = unsafe { AsyncFd::register(socket) };
        Ok(Source {
            socket: socket.map_err(|error| error.into_parts().1)?,
            readable: self.queue.waker(token, Direction::Read),
            writable: self.queue.waker(token, Direction::Write),
        })
    }

    fn waker(&self) -> Waker {
        Arc::clone(&self.queue).into()
    }
}

/// A socket that tokio watches.
#[derive(Debug)]
pub struct Source {
    socket: AsyncFd<Socket>,
    readable: Waker,
    writable: Waker,
}

impl teem_io::readiness::Source for Source {
    fn attempt<R>(
        &mut self,
        direction: Direction,
        mut op: impl FnMut(&Socket) -> io::Result<R>,
    ) -> io::Result<Option<R>> {
        loop {
            // The guard comes before the call, so that only the readiness seen here is cleared.
            let ready = match direction {
                Direction::Read => {
                    self.socket.poll_read_ready(&mut Context::from_waker(&self.readable))
                }
                Direction::Write => {
                    self.socket.poll_write_ready(&mut Context::from_waker(&self.writable))
                }
            };
            let Poll::Ready(guard) = ready else { return Ok(None) };
            let mut guard = guard?;
            if let Some(result) = nonblocking(|| op(self.socket.get_ref()))? {
                return Ok(Some(result));
            }
            guard.clear_ready();
        }
    }

    fn socket(&self) -> &Socket {
        self.socket.get_ref()
    }
}
