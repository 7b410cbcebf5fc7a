//! Attackers that take and never give.

use teem_core::ids::{PieceIndex, StreamId};
use teem_core::wire::Message;

use super::attacker::{Behaviour, Cx};

/// Requests that [`NeverUnchoke`] keeps outstanding.
const OUTSTANDING: u32 = 64;

/// A free rider that is never full.
#[derive(Debug)]
pub(super) struct NeverUnchoke;

impl NeverUnchoke {
    fn ask(id: StreamId, cx: &mut Cx<'_>) {
        loop {
            let pieces = cx.stage.pieces();
            let from = cx.stage.rng.below(pieces);
            let Some(side) = cx.side(id) else { return };
            if !side.unchoked || side.outstanding >= OUTSTANDING {
                return;
            }
            let Some(have) = &side.have else { return };
            // Some piece that the other side has.
            let piece = (from..pieces).chain(0..from).find(|piece| have.get(*piece));
            let Some(piece) = piece else { return };
            side.outstanding += 1;
            let request = cx.stage.any_block_of(PieceIndex(piece));
            cx.send(id, &Message::Request(request));
        }
    }
}

impl Behaviour for NeverUnchoke {
    fn on_shaken(&mut self, id: StreamId, cx: &mut Cx<'_>) {
        if cx.side(id).is_some_and(|side| side.fast) {
            cx.send(id, &Message::HaveNone);
        }
        cx.send(id, &Message::Interested);
    }

    fn on_message(&mut self, id: StreamId, message: &Message, cx: &mut Cx<'_>) {
        if matches!(message, Message::Piece { .. }) {
            cx.fired(1);
        }
        Self::ask(id, cx);
    }
}
