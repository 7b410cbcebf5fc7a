//! Ctrl-C and `SIGTERM`, as a future.

use async_signal::{Signal as Number, Signals};
use smol::stream::StreamExt;

use crate::failure::{Failure, Signal};

/// The signals that ask us to end. From its creation on they no longer end the program by
/// themselves.
#[derive(Debug)]
pub(crate) struct Interrupts(Signals);

impl Interrupts {
    pub(crate) fn new() -> Result<Self, Failure> {
        let signals = Signals::new([Number::Int, Number::Term]);
        signals.map(Self).map_err(|error| Failure::Input(format!("signals: {error}")))
    }

    /// The next one. Can be dropped at any time.
    pub(crate) async fn next(&mut self) -> Signal {
        loop {
            match self.0.next().await {
                Some(Ok(Number::Term)) => return Signal::Terminate,
                Some(Ok(_)) => return Signal::Interrupt,
                Some(Err(_)) => {}
                None => smol::future::pending().await,
            }
        }
    }
}
