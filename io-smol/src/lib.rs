//! Drives a machine on async-io, the reactor of smol.
//!
//! ```no_run
//! # use teem_core::machine::echo::{Command, Echo};
//! # use teem_core::ids::CommandToken;
//! # async fn ctrl_c() {}
//! let mut driver = teem_io_smol::Driver::make(Echo::new, teem_io::jobs::Inline::new());
//! driver.handle_command(Command::Listen(CommandToken(1), ([127, 0, 0, 1], 7).into()));
//! smol::block_on(async {
//!     loop {
//!         let event = smol::future::or(async { Some(driver.next_event().await) }, async {
//!             ctrl_c().await;
//!             None
//!         });
//!         let Some(event) = event.await else { break };
//!         println!("{event:?}");
//!     }
//! });
//! ```
//!
//! What it does is the [pump](teem_io::pump)'s; this crate only waits. It needs no runtime of its
//! own: `async_io::block_on` and `smol::block_on` run the reactor on the same thread, which is the
//! fastest way.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_io::{Async, Timer};
use socket2::Socket;
use teem_core::time::Duration;
use teem_io::readiness::{Direction, Reactor, Token};
use teem_io::task::{ReadyQueue, TaskDriver, TaskReactor, attempt};

/// Drives a machine; see [`TaskDriver`] for what it can do.
pub type Driver<M, E> = TaskDriver<M, E, Smol>;

/// The reactor: async-io, which is one for the whole process.
#[derive(Debug)]
pub struct Smol {
    queue: Arc<ReadyQueue>,
    timer: Timer,
}

impl TaskReactor for Smol {
    fn new(queue: Arc<ReadyQueue>) -> Self {
        Self { queue, timer: Timer::never() }
    }

    fn set_timer(&mut self, after: Duration) {
        self.timer.set_after(after);
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Future::poll(std::pin::Pin::new(&mut self.timer), cx).map(drop)
    }
}

impl Reactor for Smol {
    type Source = Source;

    fn register(&mut self, socket: Socket, token: Token) -> io::Result<Source> {
        Ok(Source {
            socket: Async::new_nonblocking(socket)?,
            readable: self.queue.waker(token, Direction::Read),
            writable: self.queue.waker(token, Direction::Write),
        })
    }

    fn waker(&self) -> Waker {
        Arc::clone(&self.queue).into()
    }
}

/// A socket that async-io watches.
#[derive(Debug)]
pub struct Source {
    socket: Async<Socket>,
    readable: Waker,
    writable: Waker,
}

impl teem_io::readiness::Source for Source {
    fn attempt<R>(
        &mut self,
        direction: Direction,
        mut op: impl FnMut(&Socket) -> io::Result<R>,
    ) -> io::Result<Option<R>> {
        let socket = &self.socket;
        attempt(
            || op(socket.get_ref()),
            || match direction {
                Direction::Read => socket.poll_readable(&mut Context::from_waker(&self.readable)),
                Direction::Write => socket.poll_writable(&mut Context::from_waker(&self.writable)),
            },
        )
    }

    fn socket(&self) -> &Socket {
        self.socket.get_ref()
    }
}

/// Runs the example of the project's page as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadmeDoctests;
