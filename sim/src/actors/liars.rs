//! Attackers that claim what they do not have, or serve what it is not.

use bytes::Bytes;
use teem_core::bitfield::Bitfield;
use teem_core::ids::StreamId;
use teem_core::time::Duration;
use teem_core::wire::{BlockRequest, Message};

use super::attacker::{Behaviour, Cx, Manners};

/// How often [`Duplicates`] pushes a block.
const PUSH_EVERY: Duration = Duration::from_millis(500);

/// Claims everything and serves it, some blocks with a wrong byte.
#[derive(Debug)]
pub(super) struct Poisoner {
    /// Blocks that it spoils, in millionths of those that it serves.
    pub(super) wrong_ppm: u32,
}

impl Behaviour for Poisoner {
    fn on_shaken(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        cx.claim_everything(id);
        cx.send(id, &Message::Unchoke);
    }

    fn on_message(&mut self, id: StreamId, message: &Message, cx: &mut Cx<'_>) {
        let Message::Request(request) = message else { return };
        let Some(mut block) = cx.stage.block(request) else { return };
        if cx.stage.rng.below(1_000_000) < self.wrong_ppm && !block.is_empty() {
            let mut wrong = block.to_vec();
            let at = cx.stage.rng.below(request.length) as usize;
            // Never zero: it is wrong.
            wrong[at] ^= cx.stage.rng.below(255) as u8 + 1;
            block = wrong.into();
            cx.fired(1);
        }
        serve(id, request, block, cx);
    }
}

fn serve(id: StreamId, request: &BlockRequest, block: Bytes, cx: &mut Cx<'_>) {
    let BlockRequest { piece, begin, .. } = *request;
    cx.send(id, &Message::Piece { piece, begin, block: block.into() });
}

/// Claims everything and serves nothing.
#[derive(Debug)]
pub(super) struct LyingBitfield;

impl Behaviour for LyingBitfield {
    fn on_shaken(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        let full = Bitfield::full(cx.stage.pieces()).to_wire();
        cx.send(id, &Message::Bitfield(full.into()));
        cx.send(id, &Message::Unchoke);
    }

    fn on_message(&mut self, id: StreamId, message: &Message, cx: &mut Cx<'_>) {
        let Message::Request(request) = message else { return };
        cx.fired(1);
        if cx.side(id).is_some_and(|side| side.fast && side.lot % 2 == 0) {
            cx.send(id, &Message::Reject(*request));
        }
    }
}

/// Claims everything and serves it, and more of it than anybody wants.
#[derive(Debug)]
pub(super) struct Duplicates;

impl Behaviour for Duplicates {
    fn manners(&self) -> Manners {
        Manners { tick: Some(PUSH_EVERY), ..Manners::PLAIN }
    }

    fn on_shaken(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        cx.claim_everything(id);
        cx.send(id, &Message::Unchoke);
    }

    fn on_message(&mut self, id: StreamId, message: &Message, cx: &mut Cx<'_>) {
        let Message::Request(request) = message else { return };
        let Some(block) = cx.stage.block(request) else { return };
        serve(id, request, block.clone(), cx);
        serve(id, request, block, cx);
        cx.fired(1);
    }

    fn on_tick(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        if !cx.side(id).is_some_and(|side| side.shaken) {
            return;
        }
        let request = cx.stage.any_block();
        let Some(block) = cx.stage.block(&request) else { return };
        serve(id, &request, block, cx);
        cx.fired(1);
    }
}
