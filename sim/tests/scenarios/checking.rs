//! What becomes of content that is there when a torrent is taken on.

use bytes::Bytes;
use teem_core::session::{Command, Config, Event, TorrentState};
use teem_core::torrent::resume::resume_name;
use teem_sim::net::HostId;
use teem_sim::swarm::{Swarm, state};

use crate::trackers::{pass, swarm};

/// Pieces of the torrent.
const PIECES: u32 = 7;

fn content(swarm: &Swarm) -> Vec<u8> {
    swarm.content().to_vec()
}

fn has(swarm: &Swarm, client: HostId) -> Vec<bool> {
    let pieces = swarm.session(client).pieces(swarm.torrent(client)).expect("it is there");
    (0..PIECES as usize).map(|at| pieces[at / 8] >> (7 - at % 8) & 1 == 1).collect()
}

#[test]
fn checking() {
    let mut swarm = swarm(&[]);
    let client = swarm.seeder(Config::default());
    pass(&mut swarm, 6);
    assert!(swarm.is_complete(client));
    assert_eq!(has(&swarm, client), [true; PIECES as usize]);
    assert_eq!(swarm.session(client).stats().checked_bytes, swarm.content().len() as u64);
    assert_eq!(swarm.session(client).stats().downloaded_bytes, 0);
    assert_eq!(swarm.net.disk(client).bytes_written(), saved_len(&swarm, client));
}

/// Bytes of resume data: all that is written of a torrent that was complete.
fn saved_len(swarm: &Swarm, client: HostId) -> u64 {
    saved(swarm, client).expect("it was saved").len() as u64
}

pub(crate) fn saved(swarm: &Swarm, client: HostId) -> Option<Bytes> {
    let name = resume_name(swarm.snapshot(client).info_hash);
    swarm.net.disk(client).saved(&state(), &name).cloned()
}

#[test]
fn checking_first_piece_missing() {
    let mut swarm = swarm(&[]);
    let mut damaged = content(&swarm);
    damaged[..4].copy_from_slice(b"0000");
    let little_memory = Config { check_bytes_max: 1, ..Config::default() };
    let client = swarm.add(Some(&damaged), little_memory, |_| {});
    pass(&mut swarm, 6);
    assert_eq!(swarm.snapshot(client).state, TorrentState::Downloading);
    let mut expected = [true; PIECES as usize];
    expected[0] = false;
    assert_eq!(has(&swarm, client), expected);
}

#[test]
fn no_resume_when_started() {
    let mut swarm = swarm(&[]);
    let client = swarm.seeder(Config::default());
    pass(&mut swarm, 6);
    assert_eq!(swarm.snapshot(client).have_pieces, PIECES);
    assert_eq!(swarm.count(client, |event| matches!(event, Event::TorrentReady(_))), 1);
}

#[test]
fn no_resume_when_paused() {
    let mut swarm = swarm(&[]);
    let whole = content(&swarm);
    let client = swarm.add(Some(&whole), Config::default(), |add| add.paused = true);
    pass(&mut swarm, 60);
    let shown = swarm.snapshot(client);
    assert_eq!((shown.state, shown.have_pieces), (TorrentState::Paused, 0));
    assert_eq!(swarm.session(client).stats().checked_bytes, 0);
    assert!(!swarm.heard(client, |event| matches!(event, Event::TorrentReady(_))));
}

#[test]
fn resume_reject_when_paused() {
    let mut swarm = swarm(&[]);
    let whole = content(&swarm);
    let first = swarm.seeder(Config::default());
    pass(&mut swarm, 6);
    let resume = saved(&swarm, first);
    assert!(resume.is_some());
    // The same bytes, but files that are younger than the resume data says.
    let client = swarm.add(Some(&whole), Config::default(), |add| {
        add.resume = resume;
        add.paused = true;
    });
    pass(&mut swarm, 60);
    let changed = |event: &Event| matches!(event, Event::ContentChanged(..));
    assert_eq!(swarm.snapshot(client).state, TorrentState::Paused);
    assert_eq!(swarm.session(client).stats().checked_bytes, 0);
    assert!(!swarm.heard(client, changed));
    swarm.command(client, Command::Resume(swarm.torrent(client)));
    pass(&mut swarm, 6);
    assert!(swarm.heard(client, changed));
    assert_eq!(swarm.session(client).stats().checked_bytes, whole.len() as u64);
    assert!(swarm.is_complete(client));
}
