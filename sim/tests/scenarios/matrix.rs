//! The transfer matrix: every way in which one that has everything and one that has not may differ,
//! in every combination that there is. Either all arrives, and every byte is right; or the source
//! is corrupt, and nothing wrong is ever taken for right.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use teem_core::bitfield::Bitfield;
use teem_core::ids::PieceIndex;
use teem_core::metainfo::create::Format;
use teem_core::metainfo::{Layout, Magnet, Metainfo};
use teem_core::mse::Method;
use teem_core::session::{AddTorrent, Command, Config, Encryption, Event};
use teem_core::torrent::resume::{Resume, resume_name};
use teem_sim::net::HostId;
use teem_sim::swarm::{Swarm, state, torrent_of};

use crate::stage::banned;

/// Seconds that a transfer may take, and that a hopeless one is watched.
const SECONDS: u64 = 60;

/// Pieces that are here when a client is started anew, or one more than it began with.
const RESTART_AT: u32 = 7;

const PIECES: [Pieces; 4] = [Pieces::Small, Pieces::Normal, Pieces::Large, Pieces::Odd];
const SOURCES: [Source; 2] = [Source::Peers, Source::WebSeed];
const KINDS: [Kind; 4] = [Kind::Hybrid, Kind::V2, Kind::V1, Kind::HybridByV2];
const BEGINNINGS: [Beginning; 2] = [Beginning::File, Beginning::Magnet];
const RESTARTS: [Restart; 3] = [Restart::None, Restart::Resumed, Restart::TooLong];
const LINKS: [Link; 4] = [Link::V4, Link::V4Rc4, Link::V6, Link::V6Rc4];

/// Combinations of everything but what is on the disk.
const CELLS: usize = 4 * 2 * 2 * 4 * 2 * 2 * 3 * 4;

/// Of these, those that run: ten torrents, from peers, by their files or by magnet links.
const RUN: usize = 10 * 2 * 2 * 2 * 3 * 4;

const ODD_V2: &str = "pieces of odd length in a v2 half: BEP 52 forbids them";
const WEB_MAGNET: &str = "a magnet without peers: a web seed has no metadata to give";
const WEB: &str = "web seeds: not built yet";
const ONE_HALF: &str = "a hybrid torrent by one half: both must hold";

/// Why all others do not run, and how many.
const LEFT_OUT: [(&str, usize); 4] =
    [(ODD_V2, 576), (WEB_MAGNET, 624), (WEB, 624), (ONE_HALF, 288)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pieces {
    Small,
    Normal,
    Large,
    Odd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Peers,
    WebSeed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Hybrid,
    V2,
    V1,
    /// By its v2 hashes alone, whatever the v1 hashes say.
    HybridByV2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    File,
    Magnet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Restart {
    None,
    /// With what it saved.
    Resumed,
    /// With what it saved, as of a torrent of one more piece.
    TooLong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    V4,
    V4Rc4,
    V6,
    V6Rc4,
}

/// What is on the disk of the one that downloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    NoFiles,
    /// Everything, all of it wrong.
    AllInvalid,
    /// The first half, and nothing of the rest.
    HalfValid,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    pieces: Pieces,
    source: Source,
    corrupt: bool,
    kind: Kind,
    beginning: Beginning,
    files: u64,
    restart: Restart,
    link: Link,
    there: There,
}

/// All cells with this on the disk.
fn cells(there: There) -> Vec<Cell> {
    let mut cells = Vec::new();
    for pieces in PIECES {
        for kind in KINDS {
            for files in [1, 3] {
                for source in SOURCES {
                    for corrupt in [false, true] {
                        for beginning in BEGINNINGS {
                            for restart in RESTARTS {
                                cells.extend(LINKS.map(|link| Cell {
                                    pieces,
                                    source,
                                    corrupt,
                                    kind,
                                    beginning,
                                    files,
                                    restart,
                                    link,
                                    there,
                                }));
                            }
                        }
                    }
                }
            }
        }
    }
    cells
}

impl Cell {
    /// Why it cannot be, or is not built: the first reason that holds.
    fn left_out(self) -> Option<&'static str> {
        let web = self.source == Source::WebSeed;
        let magnet = self.beginning == Beginning::Magnet;
        let reasons = [
            (self.pieces == Pieces::Odd && self.kind != Kind::V1, ODD_V2),
            (web && magnet, WEB_MAGNET),
            (web, WEB),
            (self.kind == Kind::HybridByV2, ONE_HALF),
        ];
        reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason))
    }

    const fn piece_len(self) -> u32 {
        match self.pieces {
            Pieces::Small => 16 * 1024,
            Pieces::Normal => 32 * 1024,
            Pieces::Large => 64 * 1024,
            Pieces::Odd => 32 * 1024 + 123,
        }
    }

    const fn format(self) -> Format {
        match self.kind {
            Kind::Hybrid | Kind::HybridByV2 => Format::Hybrid,
            Kind::V2 => Format::V2,
            Kind::V1 => Format::V1,
        }
    }

    /// Files of ten pieces and a tail. The tails of three are less than a piece together.
    fn torrent(self) -> (Arc<Metainfo>, Bytes) {
        let len = 10 * u64::from(self.piece_len()) + 1_234;
        let files = ["a", "b", "c"].map(|name| (name, len));
        torrent_of(&files[..self.files as usize], self.piece_len(), self.format(), 31)
    }

    const fn piece_count(self) -> u32 {
        match (self.files, self.kind) {
            (1, _) => 11,
            (_, Kind::V1) => 31,
            _ => 33,
        }
    }

    /// Hashes of pieces are not part of the dictionary, and not here.
    fn lacks_hashes(self) -> bool {
        self.kind == Kind::V2 && self.beginning == Beginning::Magnet
    }

    const fn is_encrypted(self) -> bool {
        matches!(self.link, Link::V4Rc4 | Link::V6Rc4)
    }

    const fn is_v6(self) -> bool {
        matches!(self.link, Link::V6 | Link::V6Rc4)
    }

    fn config(self) -> Config {
        let encryption = if self.is_encrypted() { Encryption::Require } else { Encryption::Off };
        Config { encryption, ..Config::default() }
    }
}

/// Where a piece's content begins and ends.
fn span(metainfo: &Metainfo, piece: u32) -> (usize, usize) {
    let layout = metainfo.info().layout();
    let start = piece as usize * layout.piece_len() as usize;
    (start, start + layout.piece_content_len(PieceIndex(piece)) as usize)
}

/// A transfer under way.
struct Trial<'a> {
    cell: Cell,
    metainfo: &'a Arc<Metainfo>,
    content: &'a Bytes,
    swarm: Swarm,
    seeder: HostId,
    client: HostId,
}

impl<'a> Trial<'a> {
    /// Both are ready, and do not know each other yet.
    fn new(cell: Cell, metainfo: &'a Arc<Metainfo>, content: &'a Bytes) -> Self {
        let mut swarm = Swarm::of(Arc::clone(metainfo), content.clone());
        if cell.is_v6() {
            swarm = swarm.over_ipv6();
        }
        let seeder = swarm.seeder(cell.config());
        assert!(swarm.run(10, |swarm| swarm.is_complete(seeder)));
        if cell.corrupt {
            // It was right when it was checked.
            let (from, _) = span(metainfo, cell.piece_count() / 4);
            swarm.damage(seeder, |disk| disk[from..].iter_mut().for_each(|byte| *byte ^= 0x55));
        }
        let mut config = cell.config();
        if cell.restart != Restart::None {
            // Slow enough to be stopped on the way.
            config.down_bytes_per_s = Some(content.len() as u64 / 2);
        }
        let link = Magnet {
            info_hash: metainfo.info().info_hash(),
            info_hash_v2: metainfo.info().info_hash_v2(),
            ..Magnet::default()
        };
        let begins = |add: &mut AddTorrent| {
            if cell.beginning == Beginning::Magnet {
                add.metainfo.0 = Metainfo::from_magnet(&link).into();
            }
        };
        let client = match cell.there {
            There::NoFiles => swarm.add(None, config, begins),
            There::AllInvalid => {
                let mut wrong = content.to_vec();
                for file in metainfo.info().layout().files().filter(|file| !file.is_pad()) {
                    let range = file.range();
                    let range = range.start as usize..range.end as usize;
                    wrong[range].iter_mut().for_each(|byte| *byte ^= 0xff);
                }
                swarm.add(Some(&wrong), config, begins)
            }
            There::HalfValid => swarm.add(Some(&content[..content.len() / 2]), config, begins),
        };
        Self { cell, metainfo, content, swarm, seeder, client }
    }

    fn layout(&self) -> &Layout {
        self.metainfo.info().layout()
    }

    fn have(&self) -> u32 {
        self.swarm.snapshot(self.client).have_pieces
    }

    fn becomes_ready(&mut self) {
        let client = self.client;
        let ready = |event: &Event| matches!(event, Event::TorrentReady(_));
        assert!(self.swarm.run(10, |swarm| swarm.heard(client, ready)));
    }

    /// How many pieces are on the disk from the beginning, and their bytes.
    fn valid(&self) -> (u32, u64) {
        if self.cell.there != There::HalfValid {
            return (0, 0);
        }
        let half = self.content.len() / 2;
        let valid =
            (0..self.cell.piece_count()).filter(|piece| span(self.metainfo, *piece).1 <= half);
        let len = |piece| u64::from(self.layout().piece_content_len(PieceIndex(piece)));
        (valid.clone().count() as u32, valid.map(len).sum())
    }

    /// Of these, those that are not judged before peers have sent their hashes: a whole file proves
    /// its own.
    fn unjudged(&self) -> (u32, u64) {
        if !self.cell.lacks_hashes() {
            return (0, 0);
        }
        let whole = self.layout().files().map(|file| (file.pieces().count() as u32, file.len()));
        whole.fold(self.valid(), |(pieces, bytes), (all, len)| {
            if pieces >= all { (pieces - all, bytes - len) } else { (pieces, bytes) }
        })
    }

    /// What the check of the disk must have found.
    fn is_checked(&self) {
        let stats = self.swarm.session(self.client).stats();
        let (found, checked) = match self.cell.there {
            There::NoFiles => (0, 0),
            There::AllInvalid => (0, self.layout().content_len()),
            There::HalfValid => self.valid(),
        };
        let found = found - self.unjudged().0;
        assert_eq!((self.have(), stats.checked_bytes), (found, checked));
        assert!(self.cell.there != There::HalfValid || self.valid().0 >= 5);
    }

    /// The client stops; what it saved is nothing but true.
    fn stops(&mut self) -> Resume {
        let client = self.client;
        self.swarm.command(client, Command::ShutDown);
        let down = |event: &Event| matches!(event, Event::ShutDown);
        assert!(self.swarm.run(10, |swarm| swarm.heard(client, down)));
        let info_hash = self.swarm.snapshot(client).info_hash;
        let saved = self.swarm.net.disk(client).saved(&state(), &resume_name(info_hash));
        let (pieces, files) = (self.layout().piece_count(), self.layout().file_count());
        let saved = Resume::from_bytes(saved.expect("it was saved"), info_hash, pieces, files);
        let saved = saved.expect("it can be read");
        assert_eq!(saved.have.iter().count() as u32, self.have());
        let disk = self.swarm.disk(client);
        for piece in saved.have.iter() {
            let (start, end) = span(self.metainfo, piece);
            assert!(disk[start..end] == self.content[start..end], "piece {piece}");
        }
        saved
    }

    /// The client stops on its way, and another goes on from what it saved.
    fn restarts(&mut self) {
        let (client, had) = (self.client, self.have());
        let wanted = RESTART_AT.max(had + 1);
        let failed = |event: &Event| matches!(event, Event::PieceFailed(..));
        assert!(self.swarm.run(SECONDS, |swarm| {
            swarm.snapshot(client).have_pieces >= wanted || swarm.heard(client, failed)
        }));
        let mut saved = self.stops();
        let kept = self.have();
        assert!(kept < self.cell.piece_count(), "it was stopped too late");
        assert!(kept >= wanted || self.cell.corrupt);
        let too_long = self.cell.restart == Restart::TooLong;
        if too_long {
            let mut longer = Bitfield::new(saved.have.len() + 1);
            for piece in saved.have.iter() {
                longer.set(piece);
            }
            saved.have = longer;
        }
        let resume = Bytes::from(saved.to_bytes());
        self.client = self.swarm.add(None, self.cell.config(), |add| add.resume = Some(resume));
        self.swarm.net.swap_disks(client, self.client);
        self.becomes_ready();
        // What was saved of another number of pieces is not believed: everything is checked.
        let checked = self.swarm.session(self.client).stats().checked_bytes;
        assert_eq!(self.have(), kept);
        assert_eq!(checked > 0, too_long && !self.swarm.disk(self.client).is_empty());
    }

    fn runs(mut self) {
        let (cell, pieces) = (self.cell, self.cell.piece_count());
        assert_eq!(self.layout().piece_count(), pieces);
        if cell.beginning == Beginning::File {
            self.becomes_ready();
        }
        self.swarm.introduce(self.client, &[self.seeder]);
        if cell.beginning == Beginning::Magnet {
            self.becomes_ready();
        }
        self.is_checked();
        if cell.restart != Restart::None {
            self.restarts();
            self.swarm.introduce(self.client, &[self.seeder]);
        }
        let (client, had) = (self.client, self.have());
        let left = self.swarm.snapshot(client).left_bytes;
        let done = self.swarm.run(SECONDS, |swarm| swarm.is_complete(client));
        let stats = self.swarm.session(client).stats();
        if cell.corrupt {
            assert!(!done && self.have() < pieces);
            assert_eq!(banned(&self.swarm, client), [self.swarm.address(self.seeder).ip()]);
            assert!(stats.corrupt_bytes > 0);
        } else {
            assert!(done, "{:?}", self.swarm.snapshot(client));
            assert!(self.swarm.disk(client) == self.content);
            let told = |event: &Event| matches!(event, Event::PieceVerified(..));
            let judged = Some(self.unjudged()).filter(|_| cell.restart == Restart::None);
            let (judged, judged_bytes) = judged.unwrap_or_default();
            assert_eq!(self.swarm.count(client, told) as u32, pieces - had - judged);
            assert_eq!((stats.wasted_bytes, stats.corrupt_bytes), (0, 0));
            let left = left - judged_bytes;
            assert!(stats.downloaded_bytes == left || cell.restart != Restart::None);
        }
        self.is_linked();
        let saved = self.stops();
        assert!(saved.have.iter().count() as u32 == pieces || cell.corrupt);
    }

    /// Every connection was of the kind that the cell is about.
    fn is_linked(&self) {
        let method = self.cell.is_encrypted().then_some(Method::Rc4);
        let mut connections = 0;
        for event in self.swarm.events(self.client) {
            if let Event::PeerConnected(_, address, how) = event {
                assert_eq!((address.is_ipv6(), *how), (self.cell.is_v6(), method));
                connections += 1;
            }
        }
        assert!(connections > 0);
    }
}

/// Names the cell that a panic came from.
struct Named(Cell);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("in the cell {:?}", self.0);
        }
    }
}

/// Runs all cells with this on the disk that can be run, and counts.
fn run_all(there: There) {
    let mut ran = 0;
    let mut left_out: BTreeMap<&str, usize> = BTreeMap::new();
    let cells = cells(there);
    assert_eq!(cells.len(), CELLS);
    let torrent = |cell: &Cell| (cell.pieces, cell.kind, cell.files);
    for cells in cells.chunk_by(|one, next| torrent(one) == torrent(next)) {
        let mut made = None;
        for cell in cells {
            if let Some(why) = cell.left_out() {
                *left_out.entry(why).or_default() += 1;
                continue;
            }
            let _named = Named(*cell);
            let (metainfo, content) = made.get_or_insert_with(|| cell.torrent());
            Trial::new(*cell, metainfo, content).runs();
            ran += 1;
        }
    }
    println!("transfer matrix, {there:?}: {ran} of {CELLS} cells ran");
    for (why, count) in &left_out {
        println!("left out: {count}, {why}");
    }
    assert_eq!((ran, left_out), (RUN, BTreeMap::from(LEFT_OUT)));
}

#[test]
fn transfer_no_files() {
    run_all(There::NoFiles);
}

#[test]
fn transfer_full_invalid_files() {
    run_all(There::AllInvalid);
}

#[test]
fn transfer_partial_valid_files() {
    run_all(There::HalfValid);
}
