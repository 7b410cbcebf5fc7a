//! What the picker promises, one sentence each.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::ids::Key;
use crate::rng::Seed;

/// Blocks of each piece in the model's layout.
pub(super) const SIZES: [u32; 12] = [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2];

pub(super) fn peer(number: usize) -> StreamId {
    StreamId::from_parts(number as u32, 1)
}

pub(super) fn picker_of(layout: Layout) -> Picker {
    Picker::new(layout, Seed::from_number(7).stream("picker", 0))
}

/// The words of a peer that has the pieces that `has` picks.
pub(super) fn words_of(pieces: u32, has: impl Fn(u32) -> bool) -> Vec<u64> {
    let mut words = vec![0; pieces.div_ceil(64) as usize];
    for piece in (0..pieces).filter(|piece| has(*piece)) {
        words[(piece / 64) as usize] |= 1 << (63 - piece % 64);
    }
    words
}

pub(super) fn one(pieces: u32, piece: u32) -> Vec<u64> {
    words_of(pieces, |other| other == piece)
}

/// `pieces` pieces of `blocks` blocks, of which every one but the first few is left: past the
/// random first pieces, which are the last ones here.
fn torrent(pieces: u32, blocks: u32) -> Picker {
    let all = pieces + RANDOM_FIRST_PIECES;
    let len = blocks * BLOCK_LEN;
    let mut picker = picker_of(Layout::new(all, len, u64::from(all) * u64::from(len)).unwrap());
    for piece in pieces..all {
        picker.set_have(PieceIndex(piece));
    }
    picker
}

fn pick(picker: &mut Picker, by: usize, count: usize, how: &PickOptions) -> Vec<(u32, u32)> {
    let mut out = Vec::new();
    picker.pick(peer(by), Pieces::All, count, how, &mut out);
    picker.check();
    out.iter().map(|id| (id.piece.0, id.block)).collect()
}

fn slow(picker: &mut Picker, by: usize, count: usize) -> Vec<(u32, u32)> {
    pick(picker, by, count, &PickOptions::default())
}

fn id(piece: u32, block: u32) -> BlockId {
    BlockId { piece: PieceIndex(piece), block }
}

fn fill(picker: &mut Picker, piece: u32, by: usize) {
    for block in 0..picker.layout().blocks(PieceIndex(piece)) {
        picker.requested(id(piece, block), peer(by), Standing::Proven);
        picker.received(id(piece, block), peer(by));
    }
}

fn accepted(piece_complete: bool, cancel: &[usize]) -> Received {
    Received::Accepted { piece_complete, cancel: cancel.iter().map(|by| peer(*by)).collect() }
}

// Availability and order.

#[test]
fn the_rarest_pieces_come_first() {
    let mut picker = torrent(4, 1);
    for (piece, peers) in [(0, 3), (1, 1), (2, 4), (3, 2)] {
        (0..peers).for_each(|_| picker.have(PieceIndex(piece)));
    }
    let order: Vec<_> = slow(&mut picker, 0, 9).iter().map(|(piece, _)| *piece).collect();
    assert_eq!(order, [1, 3, 0, 2]);
}

#[test]
fn a_peer_that_should_not_sit_on_rare_pieces_gets_the_most_common() {
    let mut picker = torrent(3, 1);
    picker.have(PieceIndex(1));
    picker.have(PieceIndex(2));
    picker.have(PieceIndex(2));
    let how = PickOptions { common_first: true, ..PickOptions::default() };
    let order: Vec<_> = pick(&mut picker, 0, 9, &how).iter().map(|(piece, _)| *piece).collect();
    assert_eq!(order, [2, 1, 0]);
}

#[test]
fn pieces_that_are_equally_rare_are_shuffled_by_the_seed() {
    let order = |seed| {
        let layout = Layout::new(64, 1, 64).unwrap();
        let mut picker = Picker::new(layout, Seed::from_number(seed).stream("picker", 0));
        (60..64).for_each(|piece| picker.set_have(PieceIndex(piece)));
        slow(&mut picker, 0, 18)
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
    assert_ne!(order(1), (0..18).map(|piece| (piece, 0)).collect::<Vec<_>>());
}

#[test]
fn pickers_that_hear_the_same_haves_do_not_run_after_the_same_piece() {
    let first = |seed| {
        let layout = Layout::new(100, 1, 100).unwrap();
        let mut picker = Picker::new(layout, Seed::from_number(seed).stream("picker", 0));
        (90..100).for_each(|piece| picker.set_have(PieceIndex(piece)));
        (0..90).for_each(|piece| picker.have(PieceIndex(piece)));
        slow(&mut picker, 0, 1)[0].0
    };
    let mut firsts: Vec<_> = (0..32).map(first).collect();
    firsts.sort_unstable();
    firsts.dedup();
    assert!(firsts.len() > 20, "{firsts:?}");
}

#[test]
fn a_newcomer_begins_with_random_pieces_though_others_are_rarer() {
    let mut rare = 0;
    for seed in 0..200 {
        let layout = Layout::new(100, 1, 100).unwrap();
        let mut picker = Picker::new(layout, Seed::from_number(seed).stream("picker", 0));
        (1..100).for_each(|piece| picker.have(PieceIndex(piece)));
        rare += u32::from(slow(&mut picker, 0, 1)[0].0 == 0);
    }
    assert!(rare < 20, "{rare} of 200");
}

#[test]
fn a_peer_that_came_with_most_pieces_and_left_with_all_leaves_no_trace() {
    let mut picker = torrent(60, 1);
    let most = words_of(64, |piece| piece > 2);
    picker.add_peer(Pieces::Words(&most));
    (0..3).for_each(|piece| picker.have(PieceIndex(piece)));
    picker.remove_peer(Pieces::All);
    assert!((0..64).all(|piece| picker.availability(PieceIndex(piece)) == 0));
    assert_eq!(picker.copies(), Copies::default());
    assert!(!picker.is_all_there());
    picker.check();
}

#[test]
fn many_peers_that_come_poor_and_leave_rich_do_not_wear_the_counts_out() {
    let mut picker = torrent(4, 1);
    for _ in 0..70_000 {
        picker.add_peer(Pieces::Words(&[]));
        (0..8).for_each(|piece| picker.have(PieceIndex(piece)));
        picker.remove_peer(Pieces::All);
    }
    picker.check();
    assert_eq!(picker.availability(PieceIndex(0)), 0);
}

#[test]
fn copies_count_the_rarest_piece_and_how_many_are_more_common() {
    let mut picker = torrent(6, 1);
    picker.add_peer(Pieces::All);
    (0..4).for_each(|piece| picker.have(PieceIndex(piece)));
    assert_eq!(picker.copies(), Copies { whole: 1, thousandths: 400 });
    assert!(picker.is_all_there());
}

// Priorities.

#[test]
fn a_piece_of_priority_zero_is_never_picked() {
    let mut picker = torrent(2, 2);
    picker.set_priority(PieceIndex(0), Priority::SKIP);
    assert_eq!(slow(&mut picker, 0, 9), [(1, 0), (1, 1)]);
    assert_eq!(picker.wanted_left(), 2 * u64::from(BLOCK_LEN));
    assert_eq!(picker.left(), 4 * u64::from(BLOCK_LEN));
    assert!(!picker.is_interesting(Pieces::Words(&one(6, 0))));
}

#[test]
fn a_higher_priority_beats_a_begun_piece_and_a_rarer_one() {
    let mut picker = torrent(3, 2);
    picker.have(PieceIndex(2));
    picker.requested(id(0, 0), peer(1), Standing::Proven);
    picker.set_priority(PieceIndex(2), Priority::TOP);
    assert_eq!(slow(&mut picker, 0, 9), [(2, 0), (2, 1), (0, 1), (1, 0), (1, 1)]);
}

#[test]
fn an_open_piece_that_is_no_longer_wanted_keeps_its_blocks() {
    let mut picker = torrent(2, 2);
    picker.requested(id(0, 0), peer(1), Standing::Proven);
    picker.requested(id(0, 1), peer(1), Standing::Proven);
    picker.received(id(0, 0), peer(1));
    picker.set_priority(PieceIndex(0), Priority::SKIP);
    picker.abort(id(0, 1), peer(1));
    assert_eq!(slow(&mut picker, 0, 9), [(1, 0), (1, 1)]);
    picker.set_priority(PieceIndex(0), Priority::NORMAL);
    assert_eq!(slow(&mut picker, 0, 9), [(0, 1)]);
}

#[test]
fn everything_may_be_unwanted_and_wanted_again() {
    let mut picker = torrent(3, 1);
    (0..3).for_each(|piece| picker.set_priority(PieceIndex(piece), Priority::SKIP));
    assert!(picker.is_finished() && picker.wanted_left() == 0);
    assert!(slow(&mut picker, 0, 9).is_empty());
    (0..3).for_each(|piece| picker.set_priority(PieceIndex(piece), Priority::new(200)));
    assert_eq!(picker.priority(PieceIndex(0)), Priority::TOP);
    assert_eq!(slow(&mut picker, 0, 9).len(), 3);
}

// Partial pieces, fast and slow peers.

#[test]
fn a_begun_piece_comes_before_a_new_one_that_is_no_rarer() {
    let mut picker = torrent(2, 3);
    picker.requested(id(0, 1), peer(1), Standing::Proven);
    assert_eq!(slow(&mut picker, 0, 3), [(0, 0), (0, 2), (1, 0)]);
}

#[test]
fn a_slow_peer_leaves_the_piece_of_a_fast_one_alone_while_there_are_others() {
    let mut picker = torrent(2, 4);
    let fast = pick(&mut picker, 1, 2, &PickOptions::fast(1));
    let other = 1 - fast[0].0;
    let slow = slow(&mut picker, 0, 6);
    assert_eq!(slow[..4], [(other, 0), (other, 1), (other, 2), (other, 3)]);
    assert_eq!(slow[4..], [(fast[0].0, 2), (fast[0].0, 3)]);
}

#[test]
fn a_fast_peer_goes_on_with_its_own_piece_in_order() {
    let mut picker = torrent(3, 8);
    let how = PickOptions::fast(1);
    let first = pick(&mut picker, 0, 3, &how);
    slow(&mut picker, 1, 2);
    let second = pick(&mut picker, 0, 5, &how);
    let piece = first[0].0;
    let blocks: Vec<_> = first.iter().chain(&second).copied().collect();
    assert_eq!(blocks, (0..8).map(|block| (piece, block)).collect::<Vec<_>>());
}

#[test]
fn a_fast_peer_keeps_its_lanes_even_a_run_at_a_time_and_in_order() {
    let mut picker = torrent(20, 64);
    let how = PickOptions { run: 4, ..PickOptions::fast(8) };
    let picks = pick(&mut picker, 0, 8 * 16, &how);
    let mut next = std::collections::BTreeMap::new();
    for run in picks.chunks(4) {
        assert!(run.iter().all(|(piece, _)| *piece == run[0].0));
    }
    for (piece, block) in picks {
        let expected = next.entry(piece).or_insert(0);
        assert_eq!(block, *expected);
        *expected += 1;
    }
    assert_eq!(next.len(), 8);
    assert!(next.values().all(|blocks| *blocks == 16));
}

#[test]
fn too_many_open_pieces_make_slow_peers_share() {
    let mut picker = torrent(100, 2);
    for piece in 0..OPEN_PIECES_BASE as u32 {
        picker.requested(id(piece, 0), peer(50), Standing::Proven);
    }
    let picks = slow(&mut picker, 0, 100);
    assert_eq!(picks.len(), OPEN_PIECES_BASE);
    assert!(picks.iter().all(|(piece, block)| *piece < 16 && *block == 1));
    assert_eq!(slow(&mut picker, 1, 100).len(), 2, "one that can help nowhere opens one");
}

#[test]
fn more_peers_may_have_more_pieces_open() {
    let mut picker = torrent(100, 1);
    (0..4).for_each(|_| picker.add_peer(Pieces::All));
    assert_eq!(slow(&mut picker, 0, 100).len(), OPEN_PIECES_BASE + 4 * OPEN_PIECES_PER_PEER);
}

#[test]
fn a_suspect_fetches_whole_pieces_that_nobody_joins() {
    let mut picker = torrent(2, 2);
    picker.requested(id(0, 0), peer(1), Standing::Proven);
    let how = PickOptions { exclusive: true, ..PickOptions::default() };
    assert_eq!(pick(&mut picker, 0, 1, &how), [(1, 0)]);
    assert_eq!(slow(&mut picker, 2, 9), [(0, 1)]);
    assert!(slow(&mut picker, 3, 9).is_empty());
    let mut out = Vec::new();
    assert_eq!(picker.pick_from(peer(3), &[PieceIndex(1)], 9, &mut out), 0);
    assert_eq!(pick(&mut picker, 0, 9, &how), [(1, 1)]);
}

#[test]
fn a_suspect_does_not_go_on_with_what_others_sent_too() {
    let mut picker = torrent(2, 4);
    let (piece, _) = slow(&mut picker, 1, 1)[0];
    picker.received(id(piece, 0), peer(1));
    assert_eq!(slow(&mut picker, 0, 1), [(piece, 1)]);
    picker.received(id(piece, 1), peer(0));
    // It was asked last, and is suspect now.
    let how = PickOptions { exclusive: true, ..PickOptions::default() };
    let alone = 1 - piece;
    assert_eq!(pick(&mut picker, 0, 4, &how), (0..4).map(|at| (alone, at)).collect::<Vec<_>>());
}

#[test]
fn a_piece_whose_owner_was_choked_is_everybodys() {
    let mut picker = torrent(2, 4);
    let how = PickOptions::fast(1);
    let (piece, _) = pick(&mut picker, 0, 2, &how)[0];
    picker.received(id(piece, 0), peer(0));
    picker.abort(id(piece, 1), peer(0));
    assert_eq!(pick(&mut picker, 1, 3, &how), [(piece, 1), (piece, 2), (piece, 3)]);
}

#[test]
fn an_owner_that_closed_with_nothing_outstanding_owns_nothing() {
    let mut picker = torrent(2, 2);
    let (piece, _) = pick(&mut picker, 0, 1, &PickOptions::fast(1))[0];
    picker.received(id(piece, 0), peer(0));
    picker.forget_peer(peer(0));
    assert_eq!(slow(&mut picker, 1, 1), [(piece, 1)]);
}

// Orders.

#[test]
fn in_sequence_pieces_come_by_index_and_within_what_the_peer_has() {
    let mut picker = torrent(200, 1);
    picker.set_order(Order::Sequential);
    (0..10).for_each(|piece| picker.have(PieceIndex(piece)));
    assert_eq!(slow(&mut picker, 0, 3), [(0, 0), (1, 0), (2, 0)]);
    let some = words_of(204, |piece| piece == 1 || piece > 150);
    let mut out = Vec::new();
    picker.pick(peer(0), Pieces::Words(&some), 2, &PickOptions::default(), &mut out);
    assert_eq!(out, [id(151, 0), id(152, 0)]);
}

#[test]
fn an_order_of_ones_own_ranks_the_candidates() {
    #[derive(Debug)]
    struct From(u32);
    impl PieceOrder for From {
        fn rank(&self, candidate: Candidate) -> u64 {
            let ahead = candidate.piece.0.checked_sub(self.0);
            u64::from(ahead.unwrap_or(u32::MAX))
        }
        fn start(&self) -> PieceIndex {
            PieceIndex(self.0)
        }
    }
    let mut picker = torrent(30, 1);
    picker.set_order(Order::Custom(std::boxed::Box::new(From(12))));
    assert_eq!(slow(&mut picker, 0, 3), [(12, 0), (13, 0), (14, 0)]);
    let rest: Vec<_> = slow(&mut picker, 0, 13).iter().map(|(piece, _)| *piece).collect();
    assert_eq!(rest, (15..28).collect::<Vec<_>>());
    (0..28).for_each(|piece| fill(&mut picker, piece, 0));
    (0..28).for_each(|piece| assert!(picker.piece_verified(PieceIndex(piece))));
    assert_eq!(slow(&mut picker, 0, 9), [(28, 0), (29, 0)]);
}

#[test]
fn suggested_pieces_are_taken_in_the_order_of_the_list() {
    let mut picker = torrent(5, 2);
    picker.set_priority(PieceIndex(1), Priority::SKIP);
    let list = [3, 9_999, 1, 7, 0, 2].map(PieceIndex);
    let mut out = Vec::new();
    assert_eq!(picker.pick_from(peer(0), &list, 3, &mut out), 3);
    assert_eq!(out, [id(3, 0), id(3, 1), id(0, 0)]);
}

// The end game.

#[test]
fn the_end_game_asks_another_peer_and_says_whom_to_cancel() {
    let mut picker = torrent(1, 2);
    assert!(!picker.is_all_asked());
    assert_eq!(slow(&mut picker, 0, 9).len(), 2);
    assert!(slow(&mut picker, 1, 9).is_empty(), "nothing is asked twice unasked");
    assert!(picker.is_all_asked());
    for block in 0..2 {
        assert!(picker.asked_too(id(0, block), peer(1), Standing::Proven));
        assert!(!picker.asked_too(id(0, block), peer(1), Standing::Proven), "not twice the same");
    }
    assert_eq!(picker.asked(id(0, 1)).collect::<Vec<_>>(), [peer(0), peer(1)]);
    assert_eq!(picker.received(id(0, 0), peer(1)), accepted(false, &[0]));
    assert_eq!(picker.asked(id(0, 0)).count(), 0);
    assert_eq!(picker.received(id(0, 0), peer(0)), Received::Duplicate);
    assert_eq!(picker.received(id(0, 1), peer(0)), accepted(true, &[1]));
    assert_eq!(picker.received(id(0, 1), peer(1)), Received::Duplicate);
}

#[test]
fn only_what_others_were_asked_for_is_asked_too() {
    let mut picker = torrent(3, 2);
    assert!(picker.requested(id(0, 0), peer(0), Standing::Proven));
    let refused = [(0, 1), (1, 0), (0, 9), (9, 0)];
    for (piece, block) in refused {
        assert!(!picker.asked_too(id(piece, block), peer(1), Standing::Proven));
        assert_eq!(picker.asked(id(piece, block)).count(), 0);
    }
    fill(&mut picker, 1, 0);
    assert!(!picker.asked_too(id(1, 0), peer(1), Standing::Proven), "it is here");
    picker.set_priority(PieceIndex(0), Priority::SKIP);
    assert!(!picker.asked_too(id(0, 0), peer(1), Standing::Proven), "it is not wanted");
    assert!(!picker.is_all_asked(), "piece 2 is free");
    picker.set_priority(PieceIndex(2), Priority::SKIP);
    assert!(picker.is_all_asked(), "nothing is wanted");
}

/// How many peers of that standing, of ten from `from` on, are asked for the only block.
fn asked_of(picker: &mut Picker, from: usize, standing: Standing) -> usize {
    let peers = (from..from + 10).map(peer);
    peers.filter(|by| picker.requested(id(0, 0), *by, standing)).count()
}

#[test]
fn a_block_is_asked_of_a_bounded_number_of_peers() {
    let mut picker = torrent(1, 1);
    assert_eq!(asked_of(&mut picker, 0, Standing::Proven), END_GAME_REQUESTS_MAX);
}

#[test]
fn nobody_takes_a_place_in_the_end_game_from_a_better_peer() {
    use Standing::{Doubtful, New, Proven};
    let mut picker = torrent(1, 1);
    for (at, standing) in [Doubtful, New, Proven].into_iter().enumerate() {
        assert_eq!(asked_of(&mut picker, 10 * at, standing), END_GAME_REQUESTS_MAX);
    }
    for standing in [Doubtful, New, Proven] {
        assert_eq!(asked_of(&mut picker, 30, standing), 0);
    }
    // A place is free only for those who may take it.
    assert!(picker.abort(id(0, 0), peer(0)) && picker.abort(id(0, 0), peer(20)));
    assert_eq!(asked_of(&mut picker, 40, Doubtful) + asked_of(&mut picker, 40, New), 0);
    assert_eq!(asked_of(&mut picker, 40, Proven), 1);
    let Received::Accepted { cancel: mut told, .. } = picker.received(id(0, 0), peer(99)) else {
        panic!("it was asked for");
    };
    told.sort_unstable();
    assert_eq!(told[..], [1, 2, 10, 11, 12, 21, 22, 40].map(peer));
}

#[test]
fn an_aborted_duplicate_leaves_the_other_request_standing() {
    let mut picker = torrent(1, 1);
    slow(&mut picker, 0, 1);
    assert!(picker.asked_too(id(0, 0), peer(1), Standing::Proven));
    assert!(picker.abort(id(0, 0), peer(0)));
    assert_eq!(picker.requesters(PieceIndex(0)).collect::<Vec<_>>(), [(id(0, 0), peer(1))]);
    assert_eq!(picker.received(id(0, 0), peer(1)), accepted(true, &[]));
}

// The life of a block.

#[test]
fn an_aborted_block_is_picked_again_and_an_empty_piece_closes() {
    let mut picker = torrent(1, 2);
    slow(&mut picker, 0, 1);
    assert!(picker.abort(id(0, 0), peer(0)));
    assert!(!picker.abort(id(0, 0), peer(0)));
    assert_eq!(picker.state(PieceIndex(0)), PieceState::Missing);
    assert_eq!(slow(&mut picker, 1, 9), [(0, 0), (0, 1)]);
}

#[test]
fn a_full_piece_waits_for_its_hash_and_is_not_picked() {
    let mut picker = torrent(1, 1);
    fill(&mut picker, 0, 0);
    assert_eq!(picker.state(PieceIndex(0)), PieceState::Full);
    assert!(slow(&mut picker, 1, 9).is_empty());
    assert!(picker.is_interesting(Pieces::All), "it may fail yet");
    assert!(picker.piece_verified(PieceIndex(0)));
    assert!(!picker.piece_verified(PieceIndex(0)));
    assert!(picker.is_finished() && picker.left() == 0);
}

#[test]
fn a_wrong_hash_frees_every_block_and_the_senders_are_known_before() {
    let mut picker = torrent(1, 3);
    for (block, by) in [(0, 4), (1, 5), (2, 4)] {
        picker.received(id(0, block), peer(by));
    }
    let senders: Vec<_> = picker.senders(PieceIndex(0)).collect();
    assert_eq!(senders, [Some(peer(4)), Some(peer(5)), Some(peer(4))]);
    assert!(picker.piece_failed(PieceIndex(0)));
    assert!(!picker.piece_failed(PieceIndex(0)));
    assert_eq!(picker.senders(PieceIndex(0)).count(), 0);
    assert_eq!(slow(&mut picker, 0, 9).len(), 3);
    assert_eq!(picker.wanted_left(), 3 * u64::from(BLOCK_LEN));
}

#[test]
fn a_failed_write_frees_one_block_and_the_hash_no_longer_counts() {
    let mut picker = torrent(1, 2);
    fill(&mut picker, 0, 0);
    picker.write_failed(id(0, 1));
    assert!(!picker.piece_verified(PieceIndex(0)));
    assert_eq!(slow(&mut picker, 1, 9), [(0, 1)]);
}

#[test]
fn restored_blocks_have_no_sender_and_are_not_fetched() {
    let mut picker = torrent(1, 3);
    assert!(!picker.restore(id(0, 1)));
    assert_eq!(slow(&mut picker, 0, 9), [(0, 0), (0, 2)]);
    picker.received(id(0, 0), peer(0));
    assert_eq!(picker.received(id(0, 2), peer(0)), accepted(true, &[]));
    let senders: Vec<_> = picker.senders(PieceIndex(0)).collect();
    assert_eq!(senders, [Some(peer(0)), None, Some(peer(0))]);
}

#[test]
fn a_piece_restored_whole_waits_for_its_hash() {
    let mut picker = torrent(1, 2);
    assert!(!picker.restore(id(0, 0)));
    assert!(picker.restore(id(0, 1)));
    assert!(picker.piece_verified(PieceIndex(0)));
}

#[test]
fn blocks_of_pieces_that_do_not_exist_or_that_we_have_are_unwanted() {
    let mut picker = torrent(1, 1);
    assert_eq!(picker.received(id(1, 0), peer(0)), Received::Unwanted);
    assert_eq!(picker.received(id(0, 1), peer(0)), Received::Unwanted);
    assert_eq!(picker.received(id(u32::MAX, u32::MAX), peer(0)), Received::Unwanted);
    picker.have(PieceIndex(u32::MAX));
    picker.lost(PieceIndex(0));
    picker.set_have(PieceIndex(99));
    picker.set_missing(PieceIndex(99));
    picker.check();
}

#[test]
fn a_block_that_comes_after_its_request_was_given_up_is_still_good() {
    let mut picker = torrent(1, 2);
    slow(&mut picker, 0, 2);
    picker.abort(id(0, 0), peer(0));
    slow(&mut picker, 1, 1);
    assert_eq!(picker.received(id(0, 0), peer(0)), accepted(false, &[1]));
}

#[test]
fn a_recheck_takes_pieces_away_and_gives_them_back() {
    let mut picker = torrent(2, 2);
    slow(&mut picker, 0, 1);
    picker.set_have(PieceIndex(0));
    picker.set_have(PieceIndex(1));
    assert_eq!(picker.open_pieces().len(), 0);
    assert!(picker.is_finished());
    picker.set_missing(PieceIndex(1));
    assert_eq!(picker.interesting_piece(Pieces::All, PieceIndex(3)), Some(PieceIndex(1)));
    assert_eq!(slow(&mut picker, 0, 9), [(1, 0), (1, 1)]);
}

#[test]
fn a_suggestion_decides_between_pieces_that_are_equally_rare_and_nothing_else() {
    let layout = Layout::new(64, 2 * BLOCK_LEN, 64 * 2 * u64::from(BLOCK_LEN)).unwrap();
    let mut picker = picker_of(layout);
    for piece in 60..60 + RANDOM_FIRST_PIECES {
        picker.set_have(PieceIndex(piece));
    }
    picker.add_peer(Pieces::All);
    let common = words_of(64, |piece| piece < 20);
    picker.add_peer(Pieces::Words(&common));
    let mut first = |suggested: &[u32]| {
        let suggested: Vec<_> = suggested.iter().map(|piece| PieceIndex(*piece)).collect();
        let mut out = Vec::new();
        let how = PickOptions::default();
        picker.pick_suggested(peer(1), Pieces::All, &suggested, 1, &how, &mut out);
        let piece = out[0].piece.0;
        picker.abort(out[0], peer(1));
        piece
    };
    assert_eq!(first(&[33]), 33);
    assert_eq!(first(&[41, 33]), 41);
    // Common, had, or not there at all: overlooked.
    assert_eq!(first(&[7, 60, 64, 50]), 50);
    assert!(first(&[7]) >= 20);
}

#[test]
fn suggested_pieces_come_first_and_once() {
    let layout = Layout::new(64, 2 * BLOCK_LEN, 64 * 2 * u64::from(BLOCK_LEN)).unwrap();
    let mut picker = picker_of(layout);
    picker.add_peer(Pieces::All);
    let mut out = Vec::new();
    let suggested = [PieceIndex(9), PieceIndex(3)];
    let how = PickOptions::default();
    picker.pick_suggested(peer(1), Pieces::All, &suggested, 16, &how, &mut out);
    assert_eq!(out.len(), 16);
    let pieces: Vec<u32> = out.iter().step_by(2).map(|block| block.piece.0).collect();
    assert_eq!(pieces[..2], [9, 3]);
    let mut sorted = pieces;
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), 8, "every piece once");
}

/// Of 64 pieces of four blocks so many are here that the next ones are not random.
fn past_first_pieces() -> Picker {
    let layout = Layout::new(64, 4 * BLOCK_LEN, 64 * 4 * u64::from(BLOCK_LEN)).unwrap();
    let mut picker = picker_of(layout);
    for piece in 60..60 + RANDOM_FIRST_PIECES {
        picker.set_have(PieceIndex(piece));
    }
    picker
}

#[test]
fn a_slow_peer_is_asked_for_what_is_rarer_before_it_helps_with_what_was_begun() {
    let mut picker = past_first_pieces();
    let common = words_of(64, |piece| piece == 20);
    picker.add_peer(Pieces::Words(&common));
    picker.add_peer(Pieces::Words(&common));
    picker.add_peer(Pieces::All);
    let how = PickOptions::default();
    let mut out = Vec::new();
    picker.pick(peer(1), Pieces::Words(&common), 1, &how, &mut out);
    assert_eq!(out[0].piece, PieceIndex(20));
    // Only the seed has the others.
    picker.pick(peer(2), Pieces::All, 4, &how, &mut out);
    assert!(out[1..].iter().all(|block| block.piece != PieceIndex(20)), "{out:?}");
    // A peer that has nothing rarer helps.
    out.clear();
    picker.pick(peer(3), Pieces::Words(&common), 4, &how, &mut out);
    assert_eq!(out.iter().map(|block| block.block).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_newcomer_heeds_a_suggestion_that_is_rarer_before_it_helps_with_what_was_begun() {
    let layout = Layout::new(64, 4 * BLOCK_LEN, 64 * 4 * u64::from(BLOCK_LEN)).unwrap();
    let mut picker = picker_of(layout);
    let common = words_of(64, |piece| piece == 20 || piece == 21);
    picker.add_peer(Pieces::Words(&common));
    picker.add_peer(Pieces::All);
    let how = PickOptions::default();
    let mut out = Vec::new();
    picker.pick(peer(1), Pieces::Words(&common), 1, &how, &mut out);
    let begun = out[0].piece;
    let mut next = |number, suggested: &[PieceIndex], count| {
        out.clear();
        picker.pick_suggested(peer(number), Pieces::All, suggested, count, &how, &mut out);
        out.iter().map(|block| block.piece).collect::<Vec<_>>()
    };
    let [rare, common] = [PieceIndex(50), PieceIndex(41 - begun.0)];
    // What is as common as what was begun can wait, and so can what nobody suggested.
    assert_eq!(next(2, &[common], 1), [begun]);
    assert_eq!(next(3, &[common, rare], 5), [rare, rare, rare, rare, begun]);
}

#[test]
fn a_slow_peer_goes_on_with_what_it_sends_though_another_piece_is_rarer() {
    let mut picker = past_first_pieces();
    let common = words_of(64, |piece| piece == 20);
    picker.add_peer(Pieces::Words(&common));
    picker.add_peer(Pieces::All);
    let how = PickOptions::default();
    let mut out = Vec::new();
    picker.pick(peer(1), Pieces::Words(&common), 1, &how, &mut out);
    picker.received(out[0], peer(1));
    // Whatever else it has by now.
    let mut pieces = |number, count| {
        out.clear();
        picker.pick(peer(number), Pieces::All, count, &how, &mut out);
        out.iter().map(|block| block.piece.0 == 20).collect::<Vec<_>>()
    };
    assert_eq!(pieces(1, 1), [true]);
    // Somebody else is asked for what is rarer first.
    assert_eq!(pieces(2, 1), [false]);
    assert_eq!(pieces(1, 3), [true, true, false]);
}

#[test]
fn a_slow_peer_goes_on_with_its_piece_and_of_begun_ones_the_rarer_comes_first() {
    let mut picker = past_first_pieces();
    let [common, rare] = [20, 30].map(|only| words_of(64, |piece| piece == only));
    picker.add_peer(Pieces::Words(&common));
    picker.add_peer(Pieces::Words(&common));
    picker.add_peer(Pieces::Words(&rare));
    let how = PickOptions::default();
    let mut begun = Vec::new();
    // The common one is the older, and nobody is asked for it any more.
    picker.pick(peer(1), Pieces::Words(&common), 1, &how, &mut begun);
    picker.received(begun[0], peer(1));
    picker.pick(peer(2), Pieces::Words(&rare), 1, &how, &mut begun);
    let both = words_of(64, |piece| piece == 20 || piece == 30);
    let mut out = Vec::new();
    for _ in 0..4 {
        picker.pick(peer(2), Pieces::Words(&both), 1, &how, &mut out);
    }
    let pieces: Vec<u32> = out.iter().map(|block| block.piece.0).collect();
    assert_eq!(pieces, [30, 30, 30, 20]);
}
