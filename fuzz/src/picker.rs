//! The picker against sets: who was asked for what, what is here, what is left.

use std::collections::{BTreeMap, BTreeSet};

use teem_core::ids::{Key, PieceIndex, StreamId};
use teem_core::rng::Seed;
use teem_core::torrent::picker::{
    BlockId, END_GAME_REQUESTS_MAX, Layout, PickOptions, Picker, PieceState, Pieces, Priority,
    Received, Standing,
};

use crate::script::Script;

/// More than a word of pieces, the last one short.
const PIECES: u32 = 70;
const PIECE_LEN: u32 = 40_000;
const TOTAL: u64 = 69 * 40_000 + 20_000;
const PEERS: usize = 5;

/// A peer's pieces as a bitfield has them.
type Words = [u64; 2];

#[derive(Debug, Default)]
struct Model {
    peers: [Option<Words>; PEERS],
    priority: BTreeMap<u32, u8>,
    have: BTreeSet<u32>,
    here: BTreeSet<BlockId>,
    asked: BTreeSet<(BlockId, StreamId)>,
}

impl Model {
    fn blocks(piece: u32) -> u32 {
        if piece == PIECES - 1 { 2 } else { 3 }
    }

    fn priority(&self, piece: u32) -> u8 {
        self.priority.get(&piece).copied().unwrap_or(Priority::NORMAL.value())
    }

    fn is_wanted(&self, piece: u32) -> bool {
        !self.have.contains(&piece) && self.priority(piece) > 0
    }

    fn is_full(&self, piece: u32) -> bool {
        !self.have.contains(&piece)
            && (0..Self::blocks(piece))
                .all(|block| self.here.contains(&BlockId { piece: PieceIndex(piece), block }))
    }

    fn clear(&mut self, piece: u32) {
        self.here.retain(|id| id.piece.0 != piece);
        self.asked.retain(|(id, _)| id.piece.0 != piece);
    }

    fn has(words: Words, piece: u32) -> bool {
        words[(piece / 64) as usize] & (1 << (63 - piece % 64)) != 0
    }
}

fn peer(slot: usize) -> StreamId {
    StreamId::from_parts(slot as u32, 1)
}

/// A script of everything that happens to a picker.
pub fn picker_model(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let layout = Layout::new(PIECES, PIECE_LEN, TOTAL).expect("sizes that fit");
    let seed = Seed::from_number(u64::from(script.byte()));
    let mut picker = Picker::new(layout, seed.stream("picker", 0));
    let mut model = Model::default();
    while !script.is_over() {
        step(&mut script, &mut picker, &mut model);
        compare(&picker, &model);
    }
}

fn step(script: &mut Script<'_>, picker: &mut Picker, model: &mut Model) {
    let op = script.below(13);
    let slot = script.below(PEERS);
    match op {
        0 | 1 => come_and_go(script, picker, model, slot),
        2 => {
            let piece = u32::from(script.byte()) % (PIECES + 2);
            let Some(words) = &mut model.peers[slot] else { return };
            if piece >= PIECES {
                picker.have(PieceIndex(piece));
            } else if !Model::has(*words, piece) {
                words[(piece / 64) as usize] |= 1 << (63 - piece % 64);
                picker.have(PieceIndex(piece));
            }
        }
        3 => {
            let (piece, level) = (u32::from(script.byte()) % (PIECES + 2), script.byte() % 10);
            picker.set_priority(PieceIndex(piece), Priority::new(level));
            if piece < PIECES {
                model.priority.insert(piece, level.min(Priority::TOP.value()));
            }
        }
        4..=6 => pick(script, picker, model, slot),
        7 | 8 => {
            let asked: Vec<_> = model.asked.iter().copied().collect();
            if let Some((id, from)) = script.one_of(&asked) {
                arrive(picker, model, id, from);
            }
        }
        9 => {
            let piece = u32::from(script.byte()) % (PIECES + 2);
            let id = BlockId { piece: PieceIndex(piece), block: u32::from(script.byte()) % 4 };
            arrive(picker, model, id, peer(slot));
        }
        10 => {
            let asked: Vec<_> = model.asked.iter().copied().collect();
            if let Some((id, from)) = script.one_of(&asked) {
                assert!(picker.abort(id, from));
                assert!(!picker.abort(id, from));
                model.asked.remove(&(id, from));
            }
        }
        11 => {
            let full: Vec<_> = (0..PIECES).filter(|piece| model.is_full(*piece)).collect();
            let Some(piece) = script.one_of(&full) else { return };
            model.clear(piece);
            if script.flag() {
                assert!(picker.piece_failed(PieceIndex(piece)));
            } else {
                assert!(picker.piece_verified(PieceIndex(piece)));
                model.have.insert(piece);
            }
        }
        _ => {
            let piece = u32::from(script.byte()) % PIECES;
            model.clear(piece);
            if script.flag() {
                picker.set_have(PieceIndex(piece));
                model.have.insert(piece);
            } else {
                picker.set_missing(PieceIndex(piece));
                model.have.remove(&piece);
            }
        }
    }
}

fn come_and_go(script: &mut Script<'_>, picker: &mut Picker, model: &mut Model, slot: usize) {
    let all = [u64::MAX; 2];
    if let Some(words) = model.peers[slot].take() {
        let is_all = (0..PIECES).all(|piece| Model::has(words, piece));
        picker.forget_peer(peer(slot));
        let pieces = if is_all { Pieces::All } else { Pieces::Words(&words) };
        picker.remove_peer(pieces);
        model.asked.retain(|(_, by)| *by != peer(slot));
    } else {
        let words = if script.flag() { all } else { [script.u64(), script.u64()] };
        let pieces = if words == all { Pieces::All } else { Pieces::Words(&words) };
        picker.add_peer(pieces);
        model.peers[slot] = Some(words);
    }
}

const STANDINGS: [Standing; 3] = [Standing::Proven, Standing::New, Standing::Doubtful];

fn pick(script: &mut Script<'_>, picker: &mut Picker, model: &mut Model, slot: usize) {
    let Some(words) = model.peers[slot] else { return };
    let choice = script.byte();
    let how = PickOptions {
        lanes: usize::from(choice & 3) * 5,
        run: u32::from(script.byte()) % 20,
        exclusive: choice & 4 != 0,
        common_first: choice & 8 != 0,
        standing: STANDINGS[usize::from(choice >> 5) % STANDINGS.len()],
    };
    let count = script.below(12);
    let mut picks = Vec::new();
    assert_eq!(
        picker.pick(peer(slot), Pieces::Words(&words), count, &how, &mut picks),
        picks.len()
    );
    assert!(picks.len() <= count);
    for id in picks {
        let piece = id.piece.0;
        assert!(Model::has(words, piece), "the peer has it");
        assert!(model.is_wanted(piece), "it is wanted");
        assert!(id.block < Model::blocks(piece) && !model.here.contains(&id), "it is missing");
        assert!(model.asked.iter().all(|(asked, _)| *asked != id), "nobody was asked for it");
        model.asked.insert((id, peer(slot)));
    }
    if choice & 16 == 0 {
        return;
    }
    let asked: Vec<_> = model.asked.iter().copied().collect();
    let Some((id, _)) = script.one_of(&asked) else { return };
    let by = |of: &StreamId| model.asked.contains(&(id, *of));
    let others = (0..PEERS).map(peer).filter(by).count();
    let asked = picker.asked_too(id, peer(slot), how.standing);
    assert_eq!(picker.asked(id).count(), others + usize::from(asked));
    if asked {
        // Each standing has places of its own beside those of the lesser ones.
        assert!(others < END_GAME_REQUESTS_MAX * (1 + how.standing as usize));
        assert!(model.is_wanted(id.piece.0), "it is wanted");
        assert!(model.asked.insert((id, peer(slot))), "not asked for twice");
    }
}

fn arrive(picker: &mut Picker, model: &mut Model, id: BlockId, from: StreamId) {
    let piece = id.piece.0;
    let answer = picker.received(id, from);
    let exists = piece < PIECES && id.block < Model::blocks(piece);
    if !exists || model.have.contains(&piece) {
        assert_eq!(answer, Received::Unwanted);
        return;
    }
    if model.here.contains(&id) {
        assert_eq!(answer, Received::Duplicate);
        return;
    }
    let Received::Accepted { piece_complete, mut cancel } = answer else {
        let begun = model.here.iter().any(|other| other.piece == id.piece)
            || model.asked.iter().any(|(other, _)| other.piece == id.piece);
        assert!(!begun && model.priority(piece) == 0, "{id:?}: {answer:?}");
        return;
    };
    model.here.insert(id);
    let of_it = |(asked, _): &&(BlockId, StreamId)| *asked == id;
    let asked: Vec<_> = model.asked.iter().filter(of_it).map(|(_, by)| *by).collect();
    model.asked.retain(|(asked, _)| *asked != id);
    cancel.sort();
    let others: Vec<_> = asked.into_iter().filter(|by| *by != from).collect();
    assert_eq!(cancel.to_vec(), others);
    assert_eq!(piece_complete, model.is_full(piece));
}

fn compare(picker: &Picker, model: &Model) {
    let mut left = 0;
    for piece in 0..PIECES {
        let id = PieceIndex(piece);
        let here = model.here.iter().any(|block| block.piece == id);
        let asked = model.asked.iter().any(|(block, _)| block.piece == id);
        let state = match () {
            () if model.have.contains(&piece) => PieceState::Have,
            () if model.is_full(piece) => PieceState::Full,
            () if here || asked => PieceState::Open,
            () => PieceState::Missing,
        };
        assert_eq!(picker.state(id), state, "{id:?}");
        assert_eq!(picker.is_wanted(id), model.is_wanted(piece));
        let peers = model.peers.iter().flatten().filter(|words| Model::has(**words, piece));
        assert_eq!(picker.availability(id), peers.count() as u32);
        if !model.have.contains(&piece) {
            left += u64::from(picker.layout().piece_len(id));
        }
    }
    assert_eq!(picker.left(), left);
    assert_eq!(picker.have_count() as usize, model.have.len());
    assert_eq!(picker.is_finished(), !(0..PIECES).any(|piece| model.is_wanted(piece)));
    for words in model.peers.iter().flatten() {
        let plain = (0..PIECES).any(|p| Model::has(*words, p) && model.is_wanted(p));
        assert_eq!(picker.is_interesting(Pieces::Words(words)), plain);
    }
}
