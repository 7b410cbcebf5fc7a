//! A proof that the core needs no operating system.
//!
//! This library brings its own panic handler. If `teem-core`, or anything that it depends on,
//! linked `std`, there would be two, and the compiler refuses: "found duplicate lang item
//! `panic_impl`". It builds machines and calls them, so that nothing of the core is left out.
//!
//! It is a static library, as firmware would link it. To run the proof:
//!
//! ```text
//! cp Cargo.lock purity/ && cargo build --manifest-path purity/Cargo.toml
//! ```

#![no_std]

extern crate alloc;

use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

use teem_core::ids::CommandToken;
use teem_core::machine::echo::{self, Echo};
use teem_core::machine::{Application, Input};
use teem_core::rng::Seed;
use teem_core::session::{Command, Config, Session};
use teem_core::time::{Duration, Instant, UnixTime};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Bytes that can be allocated, ever.
const ARENA_LEN: usize = 1024 * 1024;

/// Hands out memory from the front of an array and takes none back.
struct Bump {
    arena: UnsafeCell<[u8; ARENA_LEN]>,
    used: AtomicUsize,
}

// SAFETY: `used` hands out each byte of the arena once.
unsafe impl Sync for Bump {}

// SAFETY: what `alloc` returns is aligned, within the arena, and never handed out again; null
// says that there is no more.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.arena.get().cast::<u8>();
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            let skip = base.wrapping_add(used).align_offset(layout.align());
            let start = used.saturating_add(skip);
            let end = start.saturating_add(layout.size());
            if end > ARENA_LEN {
                return core::ptr::null_mut();
            }
            match self.used.compare_exchange_weak(used, end, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return base.wrapping_add(start),
                Err(now) => used = now,
            }
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static MEMORY: Bump = Bump { arena: UnsafeCell::new([0; ARENA_LEN]), used: AtomicUsize::new(0) };

/// Takes an application through one turn of each of its calls; returns how much came out.
fn turn<A: Application>(application: &mut A, command: A::Command) -> usize {
    let now = Instant::ORIGIN + Duration::from_secs(1);
    application.handle_command(now, command);
    application.handle_input(now, Input::Timeout);
    let mut count = 0;
    while application.poll_output().is_some() {
        count += 1;
    }
    while application.poll_job().is_some() {
        count += 1;
    }
    while application.poll_event().is_some() {
        count += 1;
    }
    count + usize::from(application.poll_timeout().is_some())
}

/// Makes an echo and a session, and asks both to listen.
///
/// Returns what they ask for, which is at least one thing each.
#[unsafe(no_mangle)]
pub extern "C" fn teem_purity() -> usize {
    let address = core::net::SocketAddr::from(([127, 0, 0, 1], 6881));
    let token = CommandToken(1);
    let mut echo = Echo::new(Instant::ORIGIN);
    let by_echo = turn(&mut echo, echo::Command::Listen(token, address));
    let seed = Seed::from_number(1);
    let mut session = Session::new(Config::default(), seed, Instant::ORIGIN, UnixTime(0));
    let by_session = turn(&mut session, Command::Listen(token, address));
    Vec::from([by_echo, by_session]).into_iter().sum()
}
