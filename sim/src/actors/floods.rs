//! Attackers that send as much as the stream takes.

use bytes::Bytes;
use teem_core::ids::{PieceIndex, StreamId};
use teem_core::time::Duration;
use teem_core::wire::Message;

use super::attacker::{BACKLOG, Behaviour, Cx, Manners};

/// Requests of [`RequestFlood`] while it is not served: what anybody may ask for.
const POLITE_REQUESTS: u64 = 200;

/// How often the floods look whether they can go on.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Small messages without end.
#[derive(Debug)]
pub(super) struct HaveFlood;

impl HaveFlood {
    fn flood(id: StreamId, cx: &mut Cx<'_>) {
        if !cx.side(id).is_some_and(|side| side.shaken) || cx.links.unsent(id) >= BACKLOG / 2 {
            return;
        }
        let pieces = cx.stage.pieces();
        let mut out = Vec::with_capacity(BACKLOG + 32);
        let mut count = 0;
        while out.len() < BACKLOG {
            let Some(side) = cx.side(id) else { return };
            side.step += 1;
            // Each piece in turn, over and over; now and then something else.
            let message = match side.step % 16 {
                3 => Message::Interested,
                5 => Message::KeepAlive,
                7 => Message::NotInterested,
                9 => Message::Unchoke,
                11 => Message::Choke,
                _ => Message::Have(PieceIndex((side.step / 2 % u64::from(pieces)) as u32)),
            };
            message.encode(&mut out);
            count += 1;
        }
        cx.links.send_raw(id, out.into());
        cx.fired(count);
    }
}

impl Behaviour for HaveFlood {
    fn on_shaken(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        Self::flood(id, cx);
    }

    fn on_room(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        Self::flood(id, cx);
    }
}

/// Requests without end, once it is served, and not one byte read from then on.
#[derive(Debug)]
pub(super) struct RequestFlood;

impl RequestFlood {
    fn ask(id: StreamId, cx: &mut Cx<'_>) {
        let Some(side) = cx.side(id) else { return };
        let (served, asked) = (side.unchoked, side.step);
        if !side.shaken || cx.links.unsent(id) >= BACKLOG / 2 || !served && asked >= POLITE_REQUESTS
        {
            return;
        }
        let mut out = Vec::with_capacity(BACKLOG + 32);
        let mut count = 0;
        while out.len() < BACKLOG && (served || count < POLITE_REQUESTS) {
            let request = cx.stage.any_block();
            Message::Request(request).encode(&mut out);
            count += 1;
        }
        if let Some(side) = cx.side(id) {
            side.step += count;
        }
        cx.links.send_raw(id, out.into());
        cx.fired(count);
    }
}

impl Behaviour for RequestFlood {
    fn manners(&self) -> Manners {
        Manners { tick: Some(LOOK_EVERY), ..Manners::PLAIN }
    }

    fn on_shaken(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        cx.send(id, &Message::Interested);
        Self::ask(id, cx);
    }

    fn on_message(&mut self, id: StreamId, message: &Message, cx: &mut Cx<'_>) {
        if *message == Message::Unchoke {
            cx.links.set_reading(id, false);
            Self::ask(id, cx);
        }
    }

    fn on_room(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        Self::ask(id, cx);
    }

    fn on_tick(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        Self::ask(id, cx);
    }
}

/// Noise.
#[derive(Debug)]
pub(super) struct GarbageSender;

impl Behaviour for GarbageSender {
    fn manners(&self) -> Manners {
        Manners { tick: Some(LOOK_EVERY), ..Manners::PLAIN }
    }

    fn on_shaken(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        self.on_tick(id, cx);
    }

    fn on_tick(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        if !cx.side(id).is_some_and(|side| side.shaken) || cx.links.unsent(id) >= BACKLOG {
            return;
        }
        let len = 1 + cx.stage.rng.below(16 * 1024);
        let mut noise = vec![0; len as usize];
        cx.stage.rng.fill(&mut noise);
        cx.links.send_raw(id, Bytes::from(noise));
        cx.fired(u64::from(len));
    }
}
