//! One cell of the matrix: two programs, one torrent, one way to meet.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::authority::Authority;
use crate::process::Running;
use crate::program::Seat;
use crate::tracker::{Tracker, wait_for_a_seeder};
use crate::{Content, Failure, Format, Network, Program, SeedFrom};

/// How long a cell may take. Transmission 3 needs some 15 s, because it acts on a slow timer.
pub const TIME_LIMIT: Duration = Duration::from_mins(2);

/// How the leecher gets to know the seeder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meeting {
    /// It is told the address.
    Direct,
    /// Both announce to opentracker over HTTP.
    OpentrackerHttp,
    /// Both announce to opentracker over UDP (BEP 15).
    OpentrackerUdp,
    /// Both announce to opentracker over HTTP, behind a program that ends TLS with OpenSSL.
    OpentrackerHttps,
    /// Both announce to `teem track` over HTTP.
    TeemTrack,
    /// Both announce to `teem track` over UDP.
    TeemTrackUdp,
    /// Both announce to `teem track` over HTTPS.
    TeemTrackHttps,
}

impl Meeting {
    const fn is_udp(self) -> bool {
        matches!(self, Self::OpentrackerUdp | Self::TeemTrackUdp)
    }

    const fn is_https(self) -> bool {
        matches!(self, Self::OpentrackerHttps | Self::TeemTrackHttps)
    }
}

/// How far the port for HTTPS is from that for HTTP.
const HTTPS_PORT: u16 = 5;

/// Which addresses the programs have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A transfer from one program to another.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// Who downloads.
    pub leecher: Program,
    /// Who has the content.
    pub seeder: Program,
    /// How they meet.
    pub meeting: Meeting,
    /// On which addresses.
    pub family: Family,
    /// What `teem` seeds from, if it seeds.
    pub from: SeedFrom,
    /// Who talks to nobody but in RC4 (MSE); the other does as it does by itself.
    pub forced_by: Option<Program>,
    /// What kind of torrent it is.
    pub format: Format,
    /// Whether the leecher's torrent lacks its piece layers (BEP 52).
    pub bare: bool,
    /// Whether the leecher has no torrent, but a magnet link (BEP 9).
    pub by_magnet: bool,
}

/// How a cell ended.
#[derive(Debug)]
pub enum Outcome {
    /// Every file of the leecher has the right bytes.
    Passed(Duration),
    /// A program is missing, or cannot run on this network.
    LeftOut(String),
    /// It did not work; with the logs.
    Failed(String),
}

impl Cell {
    /// A cell over IPv4.
    pub const fn new(leecher: Program, seeder: Program, meeting: Meeting) -> Self {
        Self {
            leecher,
            seeder,
            meeting,
            family: Family::V4,
            from: SeedFrom::Folder,
            forced_by: None,
            format: Format::V1,
            bare: false,
            by_magnet: false,
        }
    }

    /// The same over IPv6.
    #[must_use]
    pub const fn over_v6(self) -> Self {
        Self { family: Family::V6, ..self }
    }

    /// The same, with `teem` pointed at the content itself.
    #[must_use]
    pub const fn from_content(self) -> Self {
        Self { from: SeedFrom::Content, ..self }
    }

    /// The same, encrypted because this program insists on it.
    #[must_use]
    pub const fn forced_by(self, program: Program) -> Self {
        Self { forced_by: Some(program), ..self }
    }

    /// The same with a torrent of another kind, which libtorrent makes.
    #[must_use]
    pub const fn of(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// The same with a leecher that has to fetch the piece layers.
    #[must_use]
    pub const fn bare(self) -> Self {
        Self { bare: true, ..self }
    }

    /// The same with a leecher that has a magnet link alone; not for Transmission nor rtorrent.
    #[must_use]
    pub const fn by_magnet(self) -> Self {
        Self { by_magnet: true, ..self }
    }

    /// What the cell shows, in words.
    pub fn name(&self) -> String {
        let meeting = match self.meeting {
            Meeting::Direct => "told the address",
            Meeting::OpentrackerHttp => "opentracker over HTTP",
            Meeting::OpentrackerUdp => "opentracker over UDP",
            Meeting::OpentrackerHttps => "opentracker behind TLS",
            Meeting::TeemTrack => "teem track",
            Meeting::TeemTrackUdp => "teem track over UDP",
            Meeting::TeemTrackHttps => "teem track over HTTPS",
        };
        let family = if self.family == Family::V6 { ", IPv6" } else { "" };
        let from = if self.from == SeedFrom::Content { ", from the content itself" } else { "" };
        let forced = self.forced_by.map_or("", Program::name);
        let forced = if forced.is_empty() { forced } else { &format!(", RC4 forced by {forced}") };
        let format = match self.format {
            Format::V1 => "",
            Format::V2 => ", v2",
            Format::Hybrid => ", hybrid",
        };
        let bare = if self.bare { " without piece layers" } else { "" };
        let magnet = if self.by_magnet { ", by a magnet link" } else { "" };
        let (leecher, seeder) = (self.leecher.name(), self.seeder.name());
        format!("{leecher} from {seeder}, {meeting}{family}{from}{forced}{format}{bare}{magnet}")
    }

    /// Runs the cell in `scratch`, as number `index` on the network.
    pub fn run(&self, network: Network, index: u8, content: &Content, scratch: &Path) -> Outcome {
        if let Err(missing) = self.look(network) {
            return Outcome::LeftOut(missing.to_string());
        }
        let mut running = Vec::new();
        let begin = Instant::now();
        match self.transfer(network, index, content, scratch, &mut running) {
            Ok(()) => Outcome::Passed(begin.elapsed()),
            Err(failure) => {
                let logs: Vec<String> = running.iter().map(Running::report).collect();
                Outcome::Failed(format!("{failure}\n{}", logs.join("\n")))
            }
        }
    }

    fn look(self, network: Network) -> Result<(), Failure> {
        for program in [self.seeder, self.leecher] {
            program.look()?;
            if program.needs_real_addresses() && network == Network::Loopback {
                let remedy = "it takes 127.x for bogus; needs root or user namespaces".to_owned();
                return Err(Failure::Missing { program: program.name(), remedy });
            }
        }
        // It makes the torrents that are not v1, and writes the magnet links.
        if self.by_magnet || self.format != Format::V1 {
            Program::Libtorrent.look()?;
        }
        self.tracker().map_or(Ok(()), Tracker::look)
    }

    fn tracker(self) -> Option<Tracker> {
        match self.meeting {
            Meeting::Direct => None,
            Meeting::OpentrackerHttp | Meeting::OpentrackerUdp | Meeting::OpentrackerHttps => {
                Some(Tracker::Opentracker)
            }
            Meeting::TeemTrack | Meeting::TeemTrackUdp | Meeting::TeemTrackHttps => {
                Some(Tracker::Teem)
            }
        }
    }

    /// The order matters: a leecher that asks the tracker before the seeder told it would hear of
    /// nobody, and ask again half an hour later.
    fn transfer(
        self,
        network: Network,
        index: u8,
        content: &Content,
        scratch: &Path,
        running: &mut Vec<Running>,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + TIME_LIMIT;
        network.prepare(index)?;
        let at = |seat: u8| {
            let port = 20_000 + u16::from(index) * 10 + u16::from(seat);
            SocketAddr::new(network.address(self.family, index, seat), port)
        };
        let folder = |role: &str| make_folder(scratch, role);

        let (tracker_at, seeder_at, leecher_at) = (at(1), at(2), at(3));
        let https_at = SocketAddr::new(tracker_at.ip(), tracker_at.port() + HTTPS_PORT);
        let url = match self.meeting {
            Meeting::Direct => None,
            Meeting::OpentrackerHttp | Meeting::TeemTrack => {
                Some(format!("http://{tracker_at}/announce"))
            }
            Meeting::OpentrackerUdp | Meeting::TeemTrackUdp => {
                Some(format!("udp://{tracker_at}/announce"))
            }
            Meeting::OpentrackerHttps | Meeting::TeemTrackHttps => {
                Some(format!("https://{https_at}/announce"))
            }
        };
        fs::create_dir_all(scratch).map_err(Failure::io("making a folder"))?;
        let authority = self
            .meeting
            .is_https()
            .then(|| Authority::make(scratch, tracker_at.ip()))
            .transpose()?;
        let ca = authority.as_ref().map(|authority| authority.ca.as_path());
        let udp_trackers = self.meeting.is_udp();
        let torrent = scratch.join("it.torrent");
        // A tracker that nobody answers for is better than a torrent that nobody loads.
        let dead = self.seeder.insists_on_a_tracker().then(|| format!("http://{tracker_at}/none"));
        let announce = url.as_deref().or(dead.as_deref());
        content.write_torrent(&torrent, announce, self.format, false)?;
        let bare = scratch.join("bare.torrent");
        if self.bare {
            content.write_torrent(&bare, announce, self.format, true)?;
        }

        if let Some(tracker) = self.tracker() {
            let folder = folder("tracker")?;
            let secure = authority.as_ref().map(|authority| (https_at, authority));
            let hash = content.info_hash();
            for plan in tracker.plans(network, &folder, tracker_at, secure, hash)? {
                let folder = make_folder(&folder, &running.len().to_string())?;
                running.push(Running::start("tracker", &folder, plan.command)?);
                running.last_mut().expect("just started").wait(&plan.sign, deadline)?;
            }
        }

        let own = folder("seeder")?;
        let data = own.join("data");
        content.copy_to(&data)?;
        let seat = Seat {
            folder: &own,
            data: &data,
            torrent: &torrent,
            magnet: None,
            address: seeder_at.ip(),
            port: seeder_at.port(),
            rc4: self.forced_by == Some(self.seeder),
            udp_trackers,
            ca,
        };
        let plan = self.seeder.seed(&seat, self.from)?;
        let name = format!("seeder {}", self.seeder.name());
        running.push(Running::start(&name, &own, plan.command)?);
        running.last_mut().expect("just started").wait(&plan.sign, deadline)?;
        if url.is_some() {
            wait_for_a_seeder(tracker_at, content.info_hash(), deadline)?;
        }

        let magnet = self.by_magnet.then(|| Content::magnet(&torrent)).transpose()?;
        let own = folder("leecher")?;
        let data = own.join("data");
        let seat = Seat {
            folder: &own,
            data: &data,
            torrent: if self.bare { &bare } else { &torrent },
            magnet: magnet.as_deref(),
            address: leecher_at.ip(),
            port: leecher_at.port(),
            rc4: self.forced_by == Some(self.leecher),
            udp_trackers,
            ca,
        };
        let told = if url.is_none() { vec![seeder_at] } else { Vec::new() };
        let plan = self.leecher.leech(&seat, &told)?;
        let name = format!("leecher {}", self.leecher.name());
        running.push(Running::start(&name, &own, plan.command)?);
        let leecher = running.last_mut().expect("just started");
        leecher.wait(&plan.sign, deadline)?;
        // Some write their last blocks on the way out.
        leecher.stop();

        for program in running.iter_mut().rev().skip(1) {
            program.must_run()?;
        }
        content.verify(&data, !self.leecher.omits_empty_files())
    }
}

fn make_folder(within: &Path, name: &str) -> Result<PathBuf, Failure> {
    let folder = within.join(name);
    fs::create_dir_all(&folder).map_err(Failure::io("making a folder"))?;
    Ok(folder)
}
