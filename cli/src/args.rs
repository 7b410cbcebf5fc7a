//! What can be asked for on the command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use teem_core::metainfo::create::Format;

use crate::choose::{self, Files, Rank};
use crate::sim::args::{Sim, SimCommand, Suite};
use crate::size;

/// A BitTorrent client and tracker, and a simulator of whole swarms.
///
/// SIZE is a number of bytes, RATE a number of bytes per second; K, M and G behind it stand for
/// powers of 1024.
///
/// Results go to standard output, progress and warnings to standard error. With --json, standard
/// output holds one JSON object a line instead.
#[derive(Debug, Parser)]
#[command(name = "teem", version, after_long_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Log more to standard error: -v what happens, -vv each connection.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Log at this level to standard error: off, error, warn, info, debug, trace.
    #[arg(long, global = true, value_name = "LEVEL", conflicts_with = "verbose")]
    pub(crate) log: Option<tracing::level_filters::LevelFilter>,
}

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  not complete: a download failed, content is not all there, or a simulated run failed
    2  wrong usage, or input that cannot be used
    3  another instance works on the same content
  130  interrupted by Ctrl-C (143: by SIGTERM); `get` goes on when it is run again";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Get(Get),
    Seed(Seed),
    Create(Create),
    Show(Show),
    Verify(Verify),
    Track(Track),
    Demo(Demo),
    Sim(Sim),
    Suite(Suite),
}

/// How to reach others, and be reached.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Connections")]
pub(crate) struct Network {
    /// Use only this address of this machine; give one of each family to use both.
    ///
    /// Without it, all addresses of this machine are used, IPv4 and IPv6.
    #[arg(long, value_name = "ADDR")]
    pub(crate) bind: Vec<IpAddr>,

    /// Port to listen on [default: the first free one of 6881 to 6889, or else any].
    ///
    /// If it is in use, another free port is taken and named.
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,

    /// Announce to this tracker too, before those of the torrent. Can be repeated.
    #[arg(long = "tracker", value_name = "URL")]
    pub(crate) trackers: Vec<String>,

    /// Do not announce to the trackers that the torrent names.
    #[arg(long)]
    pub(crate) no_trackers: bool,

    /// Whether connections to peers are encrypted.
    ///
    /// That hides them from those who look for BitTorrent, and keeps no secret from anybody else.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub(crate) encryption: Encryption,

    /// Tell neither peers nor public trackers what program this is.
    ///
    /// Everybody who is asked or connected to sees the address of this machine all the same.
    #[arg(long)]
    pub(crate) anonymous: bool,

    /// Trust these certificate authorities (PEM) too when https addresses are asked.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// Send peers at most this much, over all torrents.
    #[arg(long, value_name = "RATE", value_parser = size::parse_rate)]
    pub(crate) up: Option<u64>,

    /// Peers of one torrent to serve at a time [default: 8].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) slots: Option<u16>,

    /// Connections to peers at most [default: 200, and 50 of one torrent].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) max_peers: Option<u32>,

    /// Connections under way to peers that have not answered yet, at most [default: 30].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) max_half_open: Option<u32>,
}

/// What is wanted of a torrent.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What is wanted")]
pub(crate) struct Choice {
    /// Download only these files: numbers and ranges as `teem show` prints them, such as 1,3-5,8-.
    ///
    /// Pieces are fetched whole, so that the files beside a wanted one may come to have some of
    /// their content too.
    #[arg(long, value_name = "LIST")]
    pub(crate) select: Option<Files>,

    /// How much files are wanted, such as 1-3=high: skip, low, normal, high or 0 to 7. Can be
    /// repeated.
    #[arg(long, value_name = "LIST=LEVEL")]
    pub(crate) priority: Vec<Rank>,

    /// Fetch pieces in order, and not the rarest first.
    ///
    /// To look at the beginning early. A swarm of such downloads is a slow one.
    #[arg(long)]
    pub(crate) sequential: bool,
}

/// When others were served enough.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Sharing")]
pub(crate) struct Sharing {
    /// Serve until this much was sent for each byte of the content, such as 1.5.
    #[arg(long, value_name = "RATIO", value_parser = choose::ratio)]
    pub(crate) seed_ratio: Option<u32>,

    /// Serve for this long after the download, such as 90s, 30m, 12h or 7d, over all runs.
    #[arg(long, value_name = "TIME", value_parser = choose::time)]
    pub(crate) seed_time: Option<Duration>,
}

/// What `--encryption` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encryption {
    /// Never
    Off,
    /// As peers like it: begin without, and encrypt with those who refuse that
    #[default]
    Allow,
    /// Where peers can: begin encrypted, and do without with those who refuse that
    Prefer,
    /// Always: talk to no peer that does not encrypt everything
    Require,
}

impl From<Encryption> for teem_core::session::Encryption {
    fn from(encryption: Encryption) -> Self {
        match encryption {
            Encryption::Off => Self::Off,
            Encryption::Allow => Self::Allow,
            Encryption::Prefer => Self::Prefer,
            Encryption::Require => Self::Require,
        }
    }
}

/// Download torrents.
///
/// Downloads, verifies, tells the trackers, and ends; with --seed it goes on to serve others until
/// Ctrl-C. Run the same command again to go on with what was interrupted: what is known of it lies
/// in DIR/.teem. It stays there after a download is complete, so that a further run need not check
/// the content again; remove it if you like. Files that are there already are checked, and only
/// what is missing or wrong is fetched; no file is ever shortened.
///
/// What a magnet link does not tell is fetched from peers first, and kept as a torrent file in
/// DIR/.teem, under the hash of the link.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Torrent files, http:// addresses of torrent files, or magnet links, in quotes.
    #[arg(required = true, value_name = "TORRENT|MAGNET")]
    pub(crate) torrents: Vec<String>,

    /// Folder to download into.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) output: PathBuf,

    /// Report as JSON lines on standard output.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) network: Network,

    /// Try this peer, IP:PORT. Can be repeated.
    #[arg(long = "peer", value_name = "ADDR", help_heading = "Connections")]
    pub(crate) peers: Vec<SocketAddr>,

    #[command(flatten)]
    pub(crate) choice: Choice,

    /// Receive at most this much from peers, over all torrents.
    #[arg(long, value_name = "RATE", value_parser = size::parse_rate,
          help_heading = "Connections")]
    pub(crate) down: Option<u64>,

    /// Receive at most this much for each torrent.
    #[arg(long, value_name = "RATE", value_parser = size::parse_rate,
          help_heading = "Connections")]
    pub(crate) torrent_down: Option<u64>,

    /// Send at most this much for each torrent.
    #[arg(long, value_name = "RATE", value_parser = size::parse_rate,
          help_heading = "Connections")]
    pub(crate) torrent_up: Option<u64>,

    /// Serve others after the download, until Ctrl-C, or as --seed-ratio and --seed-time say.
    #[arg(long, help_heading = "Sharing")]
    pub(crate) seed: bool,

    #[command(flatten)]
    pub(crate) sharing: Sharing,
}

/// Serve a torrent whose content is here.
///
/// Nothing is fetched, and no content is written. The content is checked first, once: what was
/// found is kept in a folder .teem beside it, if it can be written.
#[derive(Debug, Args)]
pub(crate) struct Seed {
    /// Torrent file, or http:// address of one.
    pub(crate) torrent: String,

    /// The content, or the folder that holds it.
    pub(crate) path: PathBuf,

    /// Report as JSON lines on standard output.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) network: Network,

    #[command(flatten)]
    pub(crate) sharing: Sharing,
}

/// Run a tracker.
///
/// It keeps its swarms in memory and answers /announce and /scrape, also behind one more path
/// segment, and /stats and /health; over UDP announces and scrapes. All addresses share the same
/// swarms. Ctrl-C ends it.
#[derive(Debug, Args)]
pub(crate) struct Track {
    /// Address and port to answer HTTP on [default: 0.0.0.0:6969, if no address is given at all];
    /// port 0 takes a free one. Can be repeated, like the next two.
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Vec<SocketAddr>,

    /// Address and port to answer UDP on.
    #[arg(long, value_name = "ADDR")]
    pub(crate) udp: Vec<SocketAddr>,

    /// Address and port to answer HTTPS on, with the certificate of --tls-cert.
    #[arg(long, value_name = "ADDR", requires = "tls_cert")]
    pub(crate) https: Vec<SocketAddr>,

    /// Certificate for --https as PEM, with those between it and its authority behind it.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Private key of that certificate as PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Seconds that peers are asked to wait between announces.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) interval: u32,

    /// Report as JSON lines on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Make a torrent of a file or folder.
///
/// Files are taken in the order of their paths. Links are followed. A file that cannot be read, or
/// that changes meanwhile, is an error: nothing is left out but a folder .teem and the torrent
/// itself.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// File or folder.
    pub(crate) path: PathBuf,

    /// Torrent file to write; one that is there is replaced.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// Tracker. Can be repeated: each is asked if those before it do not answer.
    #[arg(short, long = "tracker", value_name = "URL")]
    pub(crate) trackers: Vec<String>,

    /// Bytes per piece, a power of two of at least 16K [default: by the size of the content].
    #[arg(long, value_name = "SIZE", value_parser = piece_size)]
    pub(crate) piece_size: Option<u32>,

    /// For BEP 52 alone: a merkle tree per file. Older clients cannot use it.
    #[arg(long, conflicts_with = "hybrid")]
    pub(crate) v2: bool,

    /// For old clients and for BEP 52: both kinds of hashes, and each file begins a piece.
    #[arg(long)]
    pub(crate) hybrid: bool,

    /// Only the trackers may be asked for peers.
    #[arg(long)]
    pub(crate) private: bool,

    /// What you have to say about it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,

    /// Report as JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Create {
    pub(crate) const fn format(&self) -> Format {
        match (self.v2, self.hybrid) {
            (false, false) => Format::V1,
            (true, _) => Format::V2,
            (false, true) => Format::Hybrid,
        }
    }
}

fn piece_size(text: &str) -> Result<u32, String> {
    let size = u32::try_from(size::parse(text)?).map_err(|_| "that is too large".to_owned())?;
    if size < 16 << 10 || !size.is_power_of_two() {
        return Err("a power of two of at least 16K, such as 256K or 1M".into());
    }
    Ok(size)
}

/// Show what a torrent or a magnet link says. Files are numbered from 1.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Torrent file, http:// address of one, or magnet link.
    #[arg(value_name = "TORRENT|MAGNET")]
    pub(crate) torrent: String,

    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Check content on disk against a torrent.
///
/// Reads all of it, and changes nothing, unless --repair fetches what is missing or wrong. Exit code
/// 0: complete; 1: not complete; 2: it could not be checked.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Torrent file, or http:// address of one.
    pub(crate) torrent: String,

    /// The content, or the folder that holds it.
    pub(crate) path: PathBuf,

    /// Fetch exactly what is missing or wrong, whatever an earlier run believed.
    #[arg(long)]
    pub(crate) repair: bool,

    /// Report as JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) network: Network,

    /// With --repair, try this peer, IP:PORT. Can be repeated.
    #[arg(long = "peer", value_name = "ADDR")]
    pub(crate) peers: Vec<SocketAddr>,
}

/// Show that it works: a tracker, a seeder and some downloads, all on this machine.
///
/// Makes content, shares it over real sockets on 127.0.0.1, compares all copies, and removes
/// everything again. Exit code 0 only if every copy is right. Needs room for all copies in the
/// folder for temporary files; set TMPDIR to use another.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Size of the content.
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size::parse)]
    pub(crate) size: u64,

    /// How many download it.
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) leechers: u16,
}

impl Command {
    /// Whether standard output is for programs.
    pub(crate) const fn json(&self) -> bool {
        match self {
            Self::Get(get) => get.json,
            Self::Seed(seed) => seed.json,
            Self::Create(create) => create.json,
            Self::Show(show) => show.json,
            Self::Verify(verify) => verify.json,
            Self::Track(track) => track.json,
            // With `sim run --json -`, the last line is the summary, whatever the outcome.
            Self::Demo(_) | Self::Suite(_) => false,
            Self::Sim(sim) => matches!(&sim.command, SimCommand::List(list) if list.json),
        }
    }
}
