//! The picker against a model made of plain vectors, with everything recomputed at each question.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::tests::{SIZES, peer, picker_of};
use super::*;
use crate::ids::Key;

/// Pieces of the model; each has three blocks, the last one two.
const PIECES: u32 = 12;
const PIECE_LEN: u32 = 40_000;
const TOTAL: u64 = 11 * 40_000 + 20_000;

#[derive(Clone, Default)]
struct ModelBlock {
    asked: Vec<StreamId>,
    /// What each of them was then.
    standing: Vec<(StreamId, Standing)>,
    here: bool,
    sender: Option<StreamId>,
}

impl ModelBlock {
    fn ask(&mut self, peer: StreamId, standing: Standing) {
        self.asked.push(peer);
        self.standing.retain(|(by, _)| *by != peer);
        self.standing.push((peer, standing));
    }

    /// How many of this standing or better were asked.
    fn rivals(&self, standing: Standing) -> usize {
        let better =
            |(by, its): &&(StreamId, Standing)| *its >= standing && self.asked.contains(by);
        self.standing.iter().filter(better).count()
    }
}

#[derive(Clone)]
struct ModelPiece {
    have: bool,
    priority: u8,
    blocks: Vec<ModelBlock>,
}

impl ModelPiece {
    fn state(&self) -> PieceState {
        if self.have {
            PieceState::Have
        } else if self.blocks.iter().all(|block| block.here) {
            PieceState::Full
        } else if self.blocks.iter().all(|b| !b.here && b.asked.is_empty()) {
            PieceState::Missing
        } else {
            PieceState::Open
        }
    }

    fn wanted(&self) -> bool {
        !self.have && self.priority > 0
    }

    fn clear(&mut self) {
        let blocks = self.blocks.len();
        self.blocks = vec![ModelBlock::default(); blocks];
    }
}

struct Model {
    pieces: Vec<ModelPiece>,
    peers: Vec<Option<u64>>,
    layout: Layout,
}

impl Model {
    fn availability(&self, piece: u32) -> u32 {
        self.peers.iter().flatten().filter(|words| *words >> piece & 1 == 1).count() as u32
    }

    fn free(&self, piece: u32) -> impl Iterator<Item = u32> + '_ {
        let piece = &self.pieces[piece as usize];
        let open = piece.wanted();
        let blocks = piece.blocks.iter().enumerate();
        blocks.filter(move |(_, b)| open && !b.here && b.asked.is_empty()).map(|(at, _)| at as u32)
    }

    fn outstanding(&self) -> Vec<(BlockId, StreamId)> {
        let mut all = Vec::new();
        for (piece, entry) in self.pieces.iter().enumerate() {
            for (block, entry) in entry.blocks.iter().enumerate() {
                let id = BlockId { piece: PieceIndex(piece as u32), block: block as u32 };
                all.extend(entry.asked.iter().map(|peer| (id, *peer)));
            }
        }
        all
    }

    fn block(&mut self, id: BlockId) -> &mut ModelBlock {
        &mut self.pieces[id.piece.0 as usize].blocks[id.block as usize]
    }

    fn compare(&self, picker: &Picker) {
        picker.check();
        let mut left = 0;
        let mut wanted_left = 0;
        for (index, piece) in self.pieces.iter().enumerate() {
            let id = PieceIndex(index as u32);
            assert_eq!(picker.state(id), piece.state(), "{id:?}");
            assert_eq!(picker.priority(id).value(), piece.priority);
            assert_eq!(picker.availability(id), self.availability(id.0), "{id:?}");
            assert_eq!(picker.is_wanted(id), piece.wanted());
            let len = |block: usize| {
                u64::from(self.layout.block_len(BlockId { piece: id, block: block as u32 }))
            };
            if !piece.have {
                left += u64::from(self.layout.piece_len(id));
            }
            if piece.wanted() {
                let missing = piece.blocks.iter().enumerate().filter(|(_, b)| !b.here);
                wanted_left += missing.map(|(at, _)| len(at)).sum::<u64>();
            }
            if matches!(piece.state(), PieceState::Open | PieceState::Full) {
                let senders: Vec<_> = piece.blocks.iter().map(|b| b.sender).collect();
                assert_eq!(picker.senders(id).collect::<Vec<_>>(), senders);
                let here: Vec<_> = piece.blocks.iter().map(|b| b.here).collect();
                assert_eq!(picker.received_blocks(id).collect::<Vec<_>>(), here);
            }
        }
        assert_eq!((picker.left(), picker.wanted_left()), (left, wanted_left));
        assert_eq!(picker.is_finished(), !self.pieces.iter().any(ModelPiece::wanted));
        for words in self.peers.iter().flatten() {
            let plain = (0..PIECES)
                .any(|piece| words >> piece & 1 == 1 && self.pieces[piece as usize].wanted());
            assert_eq!(picker.is_interesting(Pieces::Words(&[words.reverse_bits()])), plain);
        }
        let mut out = self.outstanding();
        out.sort();
        let mut theirs: Vec<_> =
            (0..PIECES).flat_map(|piece| picker.requesters(PieceIndex(piece))).collect();
        theirs.sort();
        assert_eq!(theirs, out);
        let free =
            |piece: u32| self.pieces[piece as usize].wanted() && self.free(piece).next().is_some();
        assert_eq!(picker.is_all_asked(), !(0..PIECES).any(free));
    }

    /// What every pick must obey, whatever it chose.
    fn judge(
        &self,
        before: &[PieceState],
        words: u64,
        count: usize,
        how: &PickOptions,
        room: bool,
        picks: &[BlockId],
    ) {
        assert!(picks.len() <= count);
        let has = |piece: u32| words >> piece & 1 == 1;
        let missing = |piece: u32| {
            let entry = &self.pieces[piece as usize];
            entry.state() == PieceState::Missing && entry.wanted() && has(piece)
        };
        for new in picks.iter().map(|pick| pick.piece.0) {
            if before[new as usize] != PieceState::Missing {
                continue;
            }
            let priority = self.pieces[new as usize].priority;
            for other in (0..PIECES).filter(|other| missing(*other)) {
                let entry = &self.pieces[other as usize];
                assert!(entry.priority <= priority, "{other} before {new}");
                if entry.priority == priority {
                    let (mine, its) = (self.availability(new), self.availability(other));
                    let fine = if how.common_first { mine >= its } else { mine <= its };
                    assert!(fine, "{other} ({its}) before {new} ({mine})");
                }
            }
        }
        if picks.len() < count && (room || picks.is_empty()) {
            assert!(!(0..PIECES).any(missing), "{picks:?} leaves new pieces");
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    AddPeer(u64),
    RemovePeer(usize),
    Have(usize, u32),
    Lost(usize, u32),
    Priority(u32, u8),
    Pick { peer: usize, count: usize, how: PickOptions },
    PickFrom { peer: usize, count: usize, list: Vec<u32> },
    Requested { peer: usize, piece: u32, block: u32, standing: Standing, too: bool },
    Receive(usize),
    Stray { peer: usize, piece: u32, block: u32 },
    Restore { piece: u32, block: u32 },
    Abort(usize),
    Forget(usize),
    Verify(u32),
    Fail(u32),
    WriteFailed { piece: u32, block: u32 },
    SetHave(u32),
    SetMissing(u32),
}

fn words() -> impl Strategy<Value = u64> {
    let all = (1 << PIECES) - 1;
    prop_oneof![2 => Just(all), 1 => Just(u64::MAX), 4 => any::<u64>(), 1 => Just(0)]
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![1 => Just(Standing::Doubtful), 1 => Just(Standing::New), 2 => Just(Standing::Proven)]
}

fn options() -> impl Strategy<Value = PickOptions> {
    let ways = (any::<bool>(), standing());
    (0..5_usize, 0..4_u32, prop::bool::weighted(0.1), ways).prop_map(
        |(lanes, run, exclusive, (common_first, standing))| PickOptions {
            lanes,
            run,
            exclusive,
            common_first,
            standing,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let piece = 0..PIECES + 1;
    let block = 0..4_u32;
    prop_oneof![
        3 => words().prop_map(Op::AddPeer),
        1 => (0..6_usize).prop_map(Op::RemovePeer),
        3 => (0..6_usize, piece.clone()).prop_map(|(peer, piece)| Op::Have(peer, piece)),
        1 => (0..6_usize, piece.clone()).prop_map(|(peer, piece)| Op::Lost(peer, piece)),
        2 => (piece.clone(), 0..9_u8).prop_map(|(piece, level)| Op::Priority(piece, level)),
        8 => (0..6_usize, 0..10_usize, options())
            .prop_map(|(peer, count, how)| Op::Pick { peer, count, how }),
        1 => (0..6_usize, 0..6_usize, prop::collection::vec(piece.clone(), 0..4))
            .prop_map(|(peer, count, list)| Op::PickFrom { peer, count, list }),
        4 => (0..6_usize, piece.clone(), block.clone(), standing(), any::<bool>())
            .prop_map(|(peer, piece, block, standing, too)| {
                Op::Requested { peer, piece, block, standing, too }
            }),
        12 => (0..100_usize).prop_map(Op::Receive),
        1 => (0..6_usize, piece.clone(), block.clone())
            .prop_map(|(peer, piece, block)| Op::Stray { peer, piece, block }),
        1 => (piece.clone(), block.clone()).prop_map(|(piece, block)| Op::Restore { piece, block }),
        3 => (0..100_usize).prop_map(Op::Abort),
        1 => (0..6_usize).prop_map(Op::Forget),
        6 => piece.clone().prop_map(Op::Verify),
        1 => piece.clone().prop_map(Op::Fail),
        1 => (piece.clone(), block).prop_map(|(piece, block)| Op::WriteFailed { piece, block }),
        1 => piece.clone().prop_map(Op::SetHave),
        1 => piece.prop_map(Op::SetMissing),
    ]
}

fn run(ops: Vec<Op>) {
    let layout = Layout::new(PIECES, PIECE_LEN, TOTAL).unwrap();
    let mut picker = picker_of(layout.clone());
    let pieces = (0..PIECES).map(|piece| ModelPiece {
        have: false,
        priority: 4,
        blocks: vec![ModelBlock::default(); layout.blocks(PieceIndex(piece)) as usize],
    });
    let mut model = Model { pieces: pieces.collect(), peers: vec![None; 6], layout };
    for op in ops {
        step(&mut picker, &mut model, op);
        model.compare(&picker);
    }
}

fn step(picker: &mut Picker, model: &mut Model, op: Op) {
    let real = |piece: u32, block: u32| {
        let id = BlockId { piece: PieceIndex(piece), block };
        let exists = SIZES.get(piece as usize).is_some_and(|blocks| block < *blocks);
        (id, exists)
    };
    match op {
        Op::AddPeer(words) => {
            let Some(slot) = model.peers.iter().position(Option::is_none) else { return };
            model.peers[slot] = Some(words & ((1 << PIECES) - 1));
            let view = [words.reverse_bits()];
            picker.add_peer(if words == u64::MAX { Pieces::All } else { Pieces::Words(&view) });
        }
        Op::RemovePeer(slot) => {
            let Some(words) = model.peers[slot].take() else { return };
            let all = words == (1 << PIECES) - 1 && slot % 2 == 0;
            let view = [words.reverse_bits()];
            picker.remove_peer(if all { Pieces::All } else { Pieces::Words(&view) });
        }
        Op::Have(slot, piece) => {
            let Some(words) = &mut model.peers[slot] else { return };
            if piece >= PIECES {
                return picker.have(PieceIndex(piece));
            }
            if *words >> piece & 1 == 0 {
                *words |= 1 << piece;
                picker.have(PieceIndex(piece));
            }
        }
        Op::Lost(slot, piece) => {
            let Some(words) = &mut model.peers[slot] else { return };
            if *words >> piece & 1 == 1 {
                *words &= !(1 << piece);
                picker.lost(PieceIndex(piece));
            }
        }
        Op::Priority(piece, level) => {
            picker.set_priority(PieceIndex(piece), Priority::new(level));
            if let Some(entry) = model.pieces.get_mut(piece as usize) {
                entry.priority = level.min(7);
            }
        }
        Op::Pick { peer: slot, count, how } => {
            let Some(words) = model.peers[slot] else { return };
            let id = peer(slot);
            let before: Vec<_> = model.pieces.iter().map(ModelPiece::state).collect();
            let free: Vec<Vec<u32>> =
                (0..PIECES).map(|piece| model.free(piece).collect()).collect();
            let random = picker.have_count() < RANDOM_FIRST_PIECES;
            let mut picks = Vec::new();
            picker.pick(id, Pieces::Words(&[words.reverse_bits()]), count, &how, &mut picks);
            for pick in &picks {
                let (piece, block) = (pick.piece.0, pick.block);
                assert!(words >> piece & 1 == 1, "the peer has it");
                assert!(model.pieces[piece as usize].wanted());
                assert!(free[piece as usize].contains(&block), "nobody was asked for it");
                assert!(!model.block(*pick).here);
                model.block(*pick).ask(id, how.standing);
            }
            let room = picker.open_pieces().len() < picker.open_limit();
            if !random || how.common_first {
                model.judge(&before, words, count, &how, room, &picks);
            }
        }
        Op::PickFrom { peer: slot, count, list } => {
            let list: Vec<_> = list.into_iter().map(PieceIndex).collect();
            let mut picks = Vec::new();
            picker.pick_from(peer(slot), &list, count, &mut picks);
            assert!(picks.len() <= count);
            for pick in picks {
                assert!(list.contains(&pick.piece));
                assert!(model.free(pick.piece.0).any(|block| block == pick.block));
                model.block(pick).ask(peer(slot), Standing::Proven);
            }
        }
        Op::Requested { peer: slot, piece, block, standing, too } => {
            let (id, exists) = real(piece, block);
            let may = exists
                && model.pieces[piece as usize].wanted()
                && model.pieces[piece as usize].state() != PieceState::Full
                && !model.block(id).here
                && !model.block(id).asked.contains(&peer(slot))
                && model.block(id).rivals(standing) < END_GAME_REQUESTS_MAX;
            let asked = exists && !model.block(id).asked.is_empty();
            assert_eq!(picker.may_ask_too(id, peer(slot), standing), may && asked);
            let may = may && (asked || !too);
            let ask = if too { Picker::asked_too } else { Picker::requested };
            assert_eq!(ask(picker, id, peer(slot), standing), may);
            if may {
                model.block(id).ask(peer(slot), standing);
            }
        }
        Op::Receive(at) => {
            let out = model.outstanding();
            let Some(&(id, from)) = out.get(at % out.len().max(1)) else { return };
            arrive(picker, model, id, Some(from));
        }
        Op::Stray { peer: slot, piece, block } => {
            let (id, exists) = real(piece, block);
            if exists {
                arrive(picker, model, id, Some(peer(slot)));
            } else {
                assert_eq!(picker.received(id, peer(slot)), Received::Unwanted);
            }
        }
        Op::Restore { piece, block } => {
            let (id, exists) = real(piece, block);
            if exists {
                arrive(picker, model, id, None);
            } else {
                assert!(!picker.restore(id));
            }
        }
        Op::Abort(at) => {
            let out = model.outstanding();
            let Some(&(id, by)) = out.get(at % out.len().max(1)) else { return };
            assert!(picker.abort(id, by));
            assert!(!picker.abort(id, by));
            model.block(id).asked.retain(|asked| *asked != by);
        }
        Op::Forget(slot) => {
            picker.forget_peer(peer(slot));
            for piece in &mut model.pieces {
                for block in &mut piece.blocks {
                    block.asked.retain(|asked| *asked != peer(slot));
                }
            }
        }
        Op::Verify(piece) => {
            let full = model.pieces.get(piece as usize).map(ModelPiece::state);
            assert_eq!(picker.piece_verified(PieceIndex(piece)), full == Some(PieceState::Full));
            if full == Some(PieceState::Full) {
                model.pieces[piece as usize].clear();
                model.pieces[piece as usize].have = true;
            }
        }
        Op::Fail(piece) => {
            let full = model.pieces.get(piece as usize).map(ModelPiece::state);
            assert_eq!(picker.piece_failed(PieceIndex(piece)), full == Some(PieceState::Full));
            if full == Some(PieceState::Full) {
                model.pieces[piece as usize].clear();
            }
        }
        Op::WriteFailed { piece, block } => {
            let (id, exists) = real(piece, block);
            picker.write_failed(id);
            if exists {
                model.block(id).here = false;
                model.block(id).sender = None;
            }
        }
        Op::SetHave(piece) => {
            picker.set_have(PieceIndex(piece));
            if let Some(entry) = model.pieces.get_mut(piece as usize) {
                entry.clear();
                entry.have = true;
            }
        }
        Op::SetMissing(piece) => {
            picker.set_missing(PieceIndex(piece));
            if let Some(entry) = model.pieces.get_mut(piece as usize) {
                entry.clear();
                entry.have = false;
            }
        }
    }
}

fn arrive(picker: &mut Picker, model: &mut Model, id: BlockId, from: Option<StreamId>) {
    let state = model.pieces[id.piece.0 as usize].state();
    let skipped = model.pieces[id.piece.0 as usize].priority == 0;
    let here = model.block(id).here;
    let answer = if let Some(from) = from {
        picker.received(id, from)
    } else {
        if !picker.restore(id) {
            if state != PieceState::Have && !here {
                *model.block(id) = ModelBlock { here: true, ..ModelBlock::default() };
            }
            return;
        }
        Received::Accepted { piece_complete: true, cancel: SmallVec::new() }
    };
    if state == PieceState::Have || (state == PieceState::Missing && skipped && from.is_some()) {
        assert_eq!(answer, Received::Unwanted);
    } else if here {
        assert_eq!(answer, Received::Duplicate);
    } else {
        let Received::Accepted { piece_complete, mut cancel } = answer else {
            panic!("{answer:?}");
        };
        let asked = core::mem::take(&mut model.block(id).asked);
        model.block(id).here = true;
        model.block(id).sender = from;
        if from.is_some() {
            let mut expected: Vec<_> =
                asked.into_iter().filter(|asked| Some(*asked) != from).collect();
            expected.sort();
            cancel.sort();
            assert_eq!(cancel.to_vec(), expected);
        }
        assert_eq!(piece_complete, model.pieces[id.piece.0 as usize].state() == PieceState::Full);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn the_picker_agrees_with_plain_vectors(ops in prop::collection::vec(op(), 1..120)) {
        run(ops);
    }
}

#[test]
fn stream_ids_of_the_tests_differ() {
    assert_ne!(peer(0), peer(1));
    assert_eq!(peer(3).slot(), 3);
}

impl Picker {
    /// Panics if anything in here contradicts anything else.
    pub(super) fn check(&self) {
        let pieces = self.layout.pieces();
        let mut histogram = vec![0_u32; self.histogram.len()];
        let mut in_bands = 0;
        for (at, band) in self.bands.iter().enumerate() {
            let mut start = 0;
            for (a, end) in band.ends.iter().enumerate() {
                assert!(start <= *end, "groups are in order");
                for piece in &band.order[start as usize..*end as usize] {
                    assert_eq!(usize::from(self.availability_of(*piece)), a, "in its group");
                }
                start = *end;
            }
            assert_eq!(start as usize, band.order.len(), "the groups hold every piece");
            for (place, piece) in band.order.iter().enumerate() {
                assert_eq!(self.places.of[*piece as usize] as usize, place);
                assert_eq!(band_of(self.flags[*piece as usize]), Some(at));
                assert!(band.bits.contains(*piece));
            }
            in_bands += band.order.len();
            let bits = (0..pieces).filter(|piece| band.bits.contains(*piece)).count();
            assert_eq!(bits, band.order.len());
        }
        let mut expected_in_bands = 0;
        for piece in 0..pieces {
            histogram[usize::from(self.availability_of(piece))] += 1;
            expected_in_bands += usize::from(band_of(self.flags[piece as usize]).is_some());
            let lacking =
                !self.has(PieceIndex(piece)) && self.priority(PieceIndex(piece)) != Priority::SKIP;
            assert_eq!(self.lacking.contains(piece), lacking);
        }
        assert_eq!(in_bands, expected_in_bands);
        assert!(self.histogram.iter().eq(histogram.iter()));
        for (at, open) in self.open.iter().enumerate() {
            open.check();
            assert_eq!(self.places.of[open.piece as usize] as usize, at);
            let expected =
                if open.free + open.requested == 0 { PieceState::Full } else { PieceState::Open };
            assert_eq!(self.state(PieceIndex(open.piece)), expected);
            assert!(open.taken() > 0, "a piece with nothing closes");
            match open.loose_at {
                u32::MAX => assert_eq!(open.free, 0),
                at => {
                    assert!(open.free > 0);
                    assert_eq!(self.loose[at as usize], open.piece);
                }
            }
        }
        let open = (0..pieces)
            .filter(|piece| {
                matches!(self.state(PieceIndex(*piece)), PieceState::Open | PieceState::Full)
            })
            .count();
        assert_eq!(open, self.open.len());
        assert_eq!(self.loose.len(), self.open.iter().filter(|open| open.free > 0).count());
    }
}
