//! How fast one torrent's peers may be received from and sent to, beside the session's limits.

use alloc::boxed::Box;

use super::Torrent;
use crate::ids::StreamId;
use crate::session::cx::Cx;
use crate::session::gate::{Gate, RateLimits};
use crate::session::streams::Streams;

impl Torrent {
    /// Its own gate, if it has limits of its own.
    pub(crate) fn gate_mut(&mut self) -> Option<&mut Gate> {
        self.gate.as_deref_mut()
    }

    /// A peer may send nothing now for the torrent's own limit.
    pub(crate) fn wait_to_send(&mut self, id: StreamId, had_turn: bool, cx: &mut Cx) {
        if let Some(gate) = &mut self.gate {
            gate.wait(cx.clock.now(), id, had_turn);
            self.arm(cx);
        }
    }

    /// How many bytes its own limit lets in.
    pub(crate) fn may_receive(&self) -> usize {
        self.gate.as_ref().map_or(usize::MAX, |gate| gate.down.available())
    }

    /// Limits of its own from now on, or none.
    pub(crate) fn set_limits(&mut self, limits: RateLimits, streams: &mut Streams, cx: &mut Cx) {
        let now = cx.now();
        match (&mut self.gate, limits.is_none()) {
            (None, true) => {}
            (Some(_), true) => {
                for id in self.gate.take().map(|gate| gate.into_waiting()).unwrap_or_default() {
                    streams.send_again(id, &mut cx.out);
                }
                for id in &self.peers {
                    streams.read_again(*id, &mut cx.out);
                }
            }
            (Some(gate), false) => {
                streams.note_all_fetching(&mut cx.out);
                gate.set(now, limits);
                self.grant_rates(streams, cx);
            }
            (gate @ None, false) => {
                streams.note_all_fetching(&mut cx.out);
                *gate = Some(Box::new(Gate::new(now, limits)));
            }
        }
        self.arm(cx);
    }

    /// Lets peers go on that its own limit held up.
    pub(super) fn grant_rates(&mut self, streams: &mut Streams, cx: &mut Cx) {
        let Some(gate) = &mut self.gate else { return };
        let (read, send) = gate.granted(cx.clock.now());
        if read {
            let torrent = Some(self.id);
            streams.read_fetching_again(|peer| peer.torrent == torrent, &mut cx.out);
        }
        for id in send {
            streams.send_again(id, &mut cx.out);
        }
    }
}
