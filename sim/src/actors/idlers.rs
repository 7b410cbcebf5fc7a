//! Attackers that take up a place and do next to nothing with it.

use bytes::Bytes;
use teem_core::ids::StreamId;
use teem_core::time::Duration;
use teem_core::wire::{BLOCK_LEN, Message, encode_piece_header};

use super::attacker::{Behaviour, Cx, Manners};

/// How often [`SlowLoris`] sends a byte.
const BYTE_EVERY: Duration = Duration::from_secs(1);

/// How long [`Reconnector`] stays.
const STAY: Duration = Duration::from_millis(100);

/// One byte at a time. Which of three things it never completes, a connection's lot decides.
#[derive(Debug)]
pub(super) struct SlowLoris;

/// What a [`SlowLoris`] sends byte by byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trickle {
    Handshake,
    Message,
    Block,
}

impl Trickle {
    const fn of(lot: u32) -> Self {
        match lot % 3 {
            0 => Self::Handshake,
            1 => Self::Message,
            _ => Self::Block,
        }
    }
}

impl Behaviour for SlowLoris {
    fn manners(&self) -> Manners {
        Manners { shakes: false, tick: Some(BYTE_EVERY), ..Manners::PLAIN }
    }

    fn on_up(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        let Some(side) = cx.side(id) else { return };
        if Trickle::of(side.lot) == Trickle::Handshake {
            return;
        }
        let handshake = cx.stage.handshake;
        cx.links.shake(id, &handshake);
    }

    fn on_shaken(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        let Some(side) = cx.side(id) else { return };
        if Trickle::of(side.lot) == Trickle::Block {
            cx.claim_everything(id);
            cx.send(id, &Message::Unchoke);
        }
    }

    fn on_message(&mut self, id: StreamId, message: &Message, cx: &mut Cx<'_>) {
        let Message::Request(request) = message else { return };
        let Some(side) = cx.side(id) else { return };
        if Trickle::of(side.lot) == Trickle::Block && side.step == 0 {
            side.step = 1;
            let header = encode_piece_header(request.piece, request.begin, request.length);
            cx.links.send_raw(id, Bytes::copy_from_slice(&header));
        }
    }

    fn on_tick(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        let handshake = cx.stage.handshake.encode();
        let Some(side) = cx.side(id) else { return };
        let step = side.step as usize;
        let byte = match Trickle::of(side.lot) {
            // All but the last one.
            Trickle::Handshake if step + 1 < handshake.len() => handshake[step],
            // An extension message of a megabyte.
            Trickle::Message => *[0, 16, 0, 0, 20, 1].get(step).unwrap_or(&0),
            // A block was asked for, and its header sent.
            Trickle::Block if step > 0 && step < BLOCK_LEN as usize => 0,
            Trickle::Handshake | Trickle::Block => return,
        };
        side.step += 1;
        cx.links.send_raw(id, Bytes::copy_from_slice(&[byte]));
        cx.fired(1);
    }
}

/// Not a word after the handshake.
#[derive(Debug)]
pub(super) struct Silent;

impl Behaviour for Silent {
    fn on_shaken(&mut self, _: StreamId, cx: &mut Cx<'_>) {
        cx.fired(1);
    }
}

/// In and out.
#[derive(Debug)]
pub(super) struct Reconnector;

impl Behaviour for Reconnector {
    fn manners(&self) -> Manners {
        Manners { tick: Some(STAY), redial: STAY, ..Manners::PLAIN }
    }

    fn on_shaken(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        cx.claim_everything(id);
    }

    fn on_tick(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        if cx.side(id).is_some_and(|side| side.shaken) {
            cx.fired(1);
            cx.links.finish(id);
        }
    }
}
