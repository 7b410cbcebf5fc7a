//! What of a torrent is wanted, and in which order.
//!
//! People choose files; the picker knows pieces. A piece is wanted as much as the file in it that
//! is wanted most, so that a file is never left short of the pieces at its ends. Padding wants
//! nothing (BEP 47).

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::picker::{Order, Picker, Priority};
use super::{REFILL_AFTER, Torrent};
use crate::ids::PieceIndex;
use crate::metainfo::Layout;
use crate::session::cx::Cx;
use crate::session::streams::Streams;

/// How much files are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    /// The first ones, by index.
    pub(super) first: Vec<Priority>,
    /// All others.
    pub(super) others: Priority,
}

impl Wishes {
    fn of(&self, file: usize) -> Priority {
        self.first.get(file).copied().unwrap_or(self.others)
    }
}

/// Which files are to be made on the disk; empty: all.
pub(super) fn wanted_files(layout: &Layout, wishes: &Wishes) -> Box<[bool]> {
    let mut all = wishes.first.iter().chain([&wishes.others]);
    if all.all(|priority| *priority != Priority::SKIP) {
        return Box::default();
    }
    (0..layout.file_count()).map(|index| wishes.of(index) != Priority::SKIP).collect()
}

/// Tells the picker how much each piece is wanted. Returns how many bytes are in pieces that are.
pub(super) fn apply(layout: &Layout, wishes: &Wishes, picker: &mut Picker) -> u64 {
    let mut pieces = vec![Priority::SKIP; layout.piece_count() as usize];
    for (index, file) in layout.files().enumerate() {
        if file.is_pad() || file.len() == 0 {
            continue;
        }
        let priority = wishes.of(index);
        for piece in file.pieces() {
            let piece = &mut pieces[piece as usize];
            *piece = (*piece).max(priority);
        }
    }
    let mut wanted = 0;
    for (piece, priority) in pieces.into_iter().enumerate() {
        let piece = PieceIndex(piece as u32);
        picker.set_priority(piece, priority);
        if priority != Priority::SKIP {
            wanted += u64::from(picker.layout().piece_len(piece));
        }
    }
    wanted
}

/// In which order pieces are begun.
pub(super) const fn order(sequential: bool) -> Order {
    if sequential { Order::Sequential } else { Order::RarestFirst }
}

impl Torrent {
    /// Wants each file as much as this says from now on.
    pub(crate) fn set_priorities(
        &mut self,
        files: Vec<Priority>,
        streams: &mut Streams,
        cx: &mut Cx,
    ) {
        let wishes = Wishes { first: files, others: Priority::NORMAL };
        if let Some(fetch) = &mut self.fetch {
            fetch.wishes = wishes;
            return;
        }
        let layout = self.metainfo.info().layout();
        self.wanted_files = wanted_files(layout, &wishes);
        self.wanted_bytes = apply(layout, &wishes, &mut self.picker);
        if !self.is_running() {
            return;
        }
        let finished = self.picker.is_finished();
        if finished && !self.finished {
            self.on_finished(streams, cx);
        } else if !finished {
            self.finished = false;
            self.told_finished = false;
            self.note_seeding(cx.now());
        }
        for at in 0..self.peers.len() {
            let id = self.peers[at];
            if streams.peer(id).is_some_and(crate::peer::Peer::is_open) {
                self.update_interest(id, streams, cx);
            }
        }
        self.rounds.refill = self.rounds.refill.min(cx.now() + REFILL_AFTER);
        self.arm(cx);
    }

    /// Begins pieces by index from now on, or the rarest first.
    pub(crate) fn set_sequential(&mut self, sequential: bool) {
        self.picker.set_order(order(sequential));
    }
}
