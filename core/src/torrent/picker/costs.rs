//! What the picker costs, in elements looked at: the cases that are slow elsewhere, at 100,000
//! pieces.

use std::vec;
use std::vec::Vec;

use super::tests::{one, peer, picker_of, words_of};
use super::*;

const PIECES: u32 = 100_000;
const WORDS: u64 = 100_000_u64.div_ceil(64);

fn picker() -> Picker {
    picker_of(Layout::new(PIECES, BLOCK_LEN, u64::from(PIECES) * u64::from(BLOCK_LEN)).unwrap())
}

fn cost(picker: &mut Picker, work: impl FnOnce(&mut Picker)) -> u64 {
    let before = picker.steps();
    work(picker);
    picker.steps() - before
}

fn pick_one(picker: &mut Picker, pieces: Pieces<'_>) -> Vec<BlockId> {
    let mut out = Vec::new();
    picker.pick(peer(0), pieces, 1, &PickOptions::default(), &mut out);
    out
}

/// Past the random first pieces.
fn begun() -> Picker {
    let mut picker = picker();
    for piece in 0..RANDOM_FIRST_PIECES {
        picker.set_have(PieceIndex(piece));
    }
    picker
}

#[test]
fn a_bitfield_costs_its_words_and_its_shorter_half() {
    let mut picker = picker();
    let few = words_of(PIECES, |piece| piece % 1000 == 0);
    let most = words_of(PIECES, |piece| piece % 1000 != 0);
    for words in [&few, &most] {
        let came = cost(&mut picker, |picker| picker.add_peer(Pieces::Words(words)));
        assert!(came <= WORDS + 1 + 2 * 100, "{came}");
    }
    for words in [&few, &most] {
        let went = cost(&mut picker, |picker| picker.remove_peer(Pieces::Words(words)));
        assert!(went <= WORDS + 1 + 2 * 100, "{went}");
    }
    assert_eq!(cost(&mut picker, |picker| picker.add_peer(Pieces::All)), 1);
}

#[test]
fn a_peer_with_few_pieces_does_not_make_a_pick_scan_the_list() {
    let mut picker = begun();
    // Everybody else has everything but the rare half, which the poor peer has nothing of.
    let common = words_of(PIECES, |piece| piece % 2 == 1);
    picker.add_peer(Pieces::Words(&common));
    let poor = one(PIECES, 77_777);
    let poor = Pieces::Words(&poor);
    picker.add_peer(poor);
    let mut out = Vec::new();
    let steps = cost(&mut picker, |picker| out = pick_one(picker, poor));
    assert_eq!(out, [BlockId { piece: PieceIndex(77_777), block: 0 }]);
    assert!(steps <= u64::from(SCAN_MAX) + 2 * WORDS + 32, "{steps}");
}

#[test]
fn a_peer_with_many_common_pieces_is_sampled() {
    let mut picker = begun();
    let common = words_of(PIECES, |piece| piece % 2 == 1);
    picker.add_peer(Pieces::Words(&common));
    let steps = cost(&mut picker, |picker| {
        assert_eq!(pick_one(picker, Pieces::Words(&common)).len(), 1);
    });
    assert!(steps <= u64::from(SCAN_MAX + SAMPLE_MAX) + 2 * WORDS + 32, "{steps}");
}

#[test]
fn a_nearly_finished_torrent_is_cheap() {
    let mut picker = picker();
    for piece in (0..PIECES).filter(|piece| piece % 20_000 != 7) {
        picker.set_have(PieceIndex(piece));
    }
    let has = one(PIECES, 80_007);
    let has = Pieces::Words(&has);
    picker.add_peer(has);
    let mut out = Vec::new();
    let steps = cost(&mut picker, |picker| out = pick_one(picker, has));
    assert_eq!(out.len(), 1);
    assert!(steps <= 64, "{steps}");
    let mut asked = 0;
    assert_eq!(picker.interesting(has, 0, &mut asked), Some(80_007));
    assert!(asked <= 64, "{asked}");
}

#[test]
fn a_seed_that_loses_a_piece_costs_one_step() {
    let mut picker = picker();
    picker.add_peer(Pieces::All);
    picker.add_peer(Pieces::All);
    let steps = cost(&mut picker, |picker| picker.lost(PieceIndex(5_000)));
    assert!(steps <= 2, "{steps}");
    assert_eq!(picker.availability(PieceIndex(5_000)), 1);
    assert_eq!(picker.availability(PieceIndex(5_001)), 2);
    let rest = words_of(PIECES, |piece| piece != 5_000);
    let steps = cost(&mut picker, |picker| picker.remove_peer(Pieces::Words(&rest)));
    assert!(steps <= WORDS + 4, "{steps}");
    assert_eq!(picker.copies(), Copies { whole: 1, thousandths: 0 });
}

#[test]
fn nothing_is_rebuilt_after_a_have() {
    let mut picker = begun();
    picker.add_peer(Pieces::All);
    picker.add_peer(Pieces::Words(&[]));
    for piece in 0..1_000 {
        let steps = cost(&mut picker, |picker| {
            picker.have(PieceIndex(piece * 97));
            pick_one(picker, Pieces::All);
        });
        assert!(steps <= 64, "{steps}");
        picker.forget_peer(peer(0));
    }
}

#[test]
fn a_piece_enters_and_leaves_the_front_in_steps_per_group() {
    let mut picker = begun();
    // Fifty groups: piece i is with i % 50 peers, and one rarest piece at the very front.
    for level in 0..50 {
        let words = words_of(PIECES, |piece| piece % 50 > level && piece != 500);
        picker.add_peer(Pieces::Words(&words));
    }
    for piece in [500, 501, 549] {
        let piece = PieceIndex(piece);
        let out = cost(&mut picker, |picker| picker.set_priority(piece, Priority::SKIP));
        let back = cost(&mut picker, |picker| picker.set_priority(piece, Priority::NORMAL));
        assert!(out <= 52 && back <= 52, "{out} {back}");
    }
}

#[test]
fn availability_is_read_without_a_copy_and_copies_without_a_scan() {
    let mut picker = picker();
    picker.add_peer(Pieces::All);
    picker.have(PieceIndex(3));
    assert_eq!(picker.histogram().collect::<Vec<_>>(), [0, PIECES - 1, 1]);
    assert_eq!(picker.copies(), Copies { whole: 1, thousandths: 0 });
}

#[test]
fn a_piece_costs_under_sixteen_bytes() {
    let picker = picker();
    let mut bytes = picker.counts.capacity() * 2 + picker.flags.capacity();
    bytes += picker.places.of.capacity() * 4;
    for band in &picker.bands {
        bytes += band.order.capacity() * 4 + band.ends.capacity() * 4 + band.bits.bytes();
    }
    bytes += picker.lacking.bytes();
    assert!(bytes <= 16 * PIECES as usize, "{bytes}");
}

#[test]
fn a_million_pieces_are_fetched_to_the_end_at_a_steady_price() {
    let pieces = 1_000_000;
    let layout = Layout::new(pieces, BLOCK_LEN, u64::from(pieces) * u64::from(BLOCK_LEN)).unwrap();
    let mut picker = picker_of(layout);
    picker.add_peer(Pieces::All);
    let half = words_of(pieces, |piece| piece % 2 == 0);
    picker.add_peer(Pieces::Words(&half));
    let mut out = vec![];
    let before = picker.steps();
    while !picker.is_finished() {
        out.clear();
        assert!(picker.pick(peer(0), Pieces::All, 64, &PickOptions::fast(16), &mut out) > 0);
        for id in &out {
            picker.received(*id, peer(0));
            assert!(picker.piece_verified(id.piece));
        }
    }
    let steps = (picker.steps() - before) / u64::from(pieces);
    assert!(steps <= 16, "{steps} a block");
}
