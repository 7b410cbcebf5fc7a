//! The programs, and how each is told to seed or to leech one torrent and nothing else.
//!
//! Everything that would look for peers beyond the cell (DHT, local discovery, port mapping) is off.
//! Every program binds its listener and its outgoing sockets to its own address, so that the tracker
//! sees the address it listens on.

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::process::Sign;
use crate::{Content, Failure};

/// One BitTorrent program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Ours.
    Teem,
    /// Debian's transmission-daemon (3.00).
    Transmission,
    /// The Python binding of libtorrent, run by `peers/libtorrent_peer.py`.
    Libtorrent,
    /// aria2c.
    Aria2,
    /// rtorrent.
    Rtorrent,
}

/// What `teem seed` is pointed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeedFrom {
    /// The folder that holds the content.
    Folder,
    /// The content itself.
    Content,
}

/// Where one program of a cell sits and what it is given.
#[derive(Debug)]
pub(crate) struct Seat<'a> {
    /// The program's own folder: home, configuration, log.
    pub(crate) folder: &'a Path,
    /// The folder that holds (or will hold) the content.
    pub(crate) data: &'a Path,
    pub(crate) torrent: &'a Path,
    /// The magnet link that is all that it is told of the torrent, if it is.
    pub(crate) magnet: Option<&'a str>,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    /// Talks to nobody but in RC4.
    pub(crate) rc4: bool,
    /// The torrent's tracker speaks UDP.
    pub(crate) udp_trackers: bool,
    /// Whom the torrent's tracker is trusted by, if it speaks TLS.
    pub(crate) ca: Option<&'a Path>,
}

impl Seat<'_> {
    /// The magnet link, or else the torrent file.
    fn source(&self) -> &OsStr {
        self.magnet.map_or(self.torrent.as_os_str(), OsStr::new)
    }
}

/// A program ready to start, and how it tells that it has got where it should.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) command: Command,
    pub(crate) sign: Sign,
}

impl Program {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Teem => "teem",
            Self::Transmission => "transmission",
            Self::Libtorrent => "libtorrent",
            Self::Aria2 => "aria2",
            Self::Rtorrent => "rtorrent",
        }
    }

    /// Whether the program has no use for 127.x, and takes all ports of an address for one peer.
    pub fn needs_real_addresses(self) -> bool {
        self == Self::Transmission
    }

    /// Whether a download lacks files of no bytes: Transmission 3 makes a file with its first byte.
    pub(crate) fn omits_empty_files(self) -> bool {
        self == Self::Transmission
    }

    /// Whether the program refuses a torrent without a tracker.
    pub(crate) fn insists_on_a_tracker(self) -> bool {
        self == Self::Rtorrent
    }

    /// Fails if the program is not on this machine.
    pub fn look(self) -> Result<(), Failure> {
        match self {
            Self::Teem if stands_in() => Self::Libtorrent.look(),
            Self::Teem => teem().map(drop),
            Self::Transmission => find("transmission-daemon", "transmission-daemon").map(drop),
            Self::Libtorrent => libtorrent_python().map(drop),
            Self::Aria2 => find("aria2c", "aria2").map(drop),
            Self::Rtorrent => find("rtorrent", "rtorrent").map(drop),
        }
    }

    /// A seeder of the content in `seat.data`; the sign comes when it serves.
    pub(crate) fn seed(self, seat: &Seat<'_>, from: SeedFrom) -> Result<Plan, Failure> {
        match self {
            Self::Teem if stands_in() => Self::Libtorrent.seed(seat, from),
            Self::Teem => {
                let mut command = Command::new(teem()?);
                command.arg("seed").arg(seat.torrent);
                match from {
                    SeedFrom::Folder => command.arg(seat.data),
                    SeedFrom::Content => command.arg(seat.data.join(Content::name())),
                };
                command.arg("--bind").arg(seat.address.to_string());
                command.arg("--port").arg(seat.port.to_string());
                require(&mut command, seat);
                if let Some(ca) = seat.ca {
                    command.arg("--ca").arg(ca);
                }
                Ok(Plan { command, sign: Sign::Listens(seat.port) })
            }
            Self::Libtorrent => {
                let command = libtorrent("seed", seat)?;
                Ok(Plan { command, sign: Sign::Prints("ready\n") })
            }
            Self::Transmission => {
                let command = transmission(seat)?;
                Ok(Plan { command, sign: Sign::Listens(seat.port) })
            }
            Self::Aria2 => {
                let mut command = aria2(seat);
                command.args([
                    "--check-integrity=true",
                    "--seed-ratio=0.0",
                    "--summary-interval=1",
                ]);
                command.arg(seat.torrent);
                Ok(Plan { command, sign: Sign::Prints("SEED(") })
            }
            Self::Rtorrent => {
                let command = rtorrent(seat)?;
                Ok(Plan { command, sign: Sign::File(seat.folder.join("checked")) })
            }
        }
    }

    /// A leecher into `seat.data`; the sign comes when it is complete.
    ///
    /// Only `teem` and libtorrent can be told of peers; the others need a tracker.
    pub(crate) fn leech(self, seat: &Seat<'_>, peers: &[SocketAddr]) -> Result<Plan, Failure> {
        let add_peers = |command: &mut Command| {
            for peer in peers {
                command.arg("--peer").arg(peer.to_string());
            }
        };
        match self {
            Self::Teem if stands_in() => Self::Libtorrent.leech(seat, peers),
            Self::Teem => {
                let mut command = Command::new(teem()?);
                command.arg("get").arg(seat.source()).arg("-o").arg(seat.data);
                command.arg("--bind").arg(seat.address.to_string());
                command.arg("--port").arg(seat.port.to_string());
                require(&mut command, seat);
                if let Some(ca) = seat.ca {
                    command.arg("--ca").arg(ca);
                }
                add_peers(&mut command);
                Ok(Plan { command, sign: Sign::Exit })
            }
            Self::Libtorrent => {
                let mut command = libtorrent("leech", seat)?;
                add_peers(&mut command);
                Ok(Plan { command, sign: Sign::Exit })
            }
            Self::Transmission => {
                let command = transmission(seat)?;
                Ok(Plan { command, sign: Sign::File(seat.folder.join("done")) })
            }
            Self::Aria2 => {
                let mut command = aria2(seat);
                command.arg("--seed-time=0").arg(seat.source());
                Ok(Plan { command, sign: Sign::Exit })
            }
            Self::Rtorrent => {
                let command = rtorrent(seat)?;
                Ok(Plan { command, sign: Sign::File(seat.folder.join("done")) })
            }
        }
    }
}

/// Has `teem` require encryption, if it is to.
fn require(command: &mut Command, seat: &Seat<'_>) {
    if seat.rc4 {
        command.args(["--encryption", "require"]);
    }
}

fn libtorrent(mode: &str, seat: &Seat<'_>) -> Result<Command, Failure> {
    let mut command = Command::new(libtorrent_python()?);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/libtorrent_peer.py")).arg(mode);
    command.arg("--torrent").arg(seat.source()).arg("--dir").arg(seat.data);
    command.arg("--bind").arg(seat.address.to_string());
    command.arg("--port").arg(seat.port.to_string());
    if seat.rc4 {
        command.args(["--encryption", "rc4"]);
    }
    Ok(command)
}

fn aria2(seat: &Seat<'_>) -> Command {
    let mut command = Command::new("aria2c");
    command.args(["--no-conf", "--enable-color=false", "--file-allocation=none"]);
    command.args(["--enable-dht6=false", "--bt-enable-lpd=false"]);
    if seat.udp_trackers {
        // It asks UDP trackers from the socket of its DHT, and has no other. It knows no node.
        command.arg("--enable-dht=true").arg(format!("--dht-listen-port={}", seat.port));
        command.arg(format!("--dht-file-path={}", seat.folder.join("dht.dat").display()));
    } else {
        command.arg("--enable-dht=false");
    }
    if let Some(ca) = seat.ca {
        command.arg(format!("--ca-certificate={}", ca.display()));
    }
    command.arg(format!("--dir={}", seat.data.display()));
    command.arg(format!("--listen-port={}", seat.port));
    command.arg(format!("--interface={}", seat.address));
    if seat.rc4 {
        command.args(["--bt-require-crypto=true", "--bt-min-crypto-level=arc4"]);
    }
    command
}

/// Transmission is told by files alone: a watched folder in, a script's mark out. Its uTP is off: against
/// a peer that has none it needs minutes to come back over TCP.
fn transmission(seat: &Seat<'_>) -> Result<Command, Failure> {
    let script = seat.folder.join("done.sh");
    let watched = seat.folder.join("watched");
    let conf = seat.folder.join("conf");
    let text = |path: &Path| path.to_str().expect("our own folders are UTF-8").to_owned();
    let settings = format!(
        r#"{{
  "bind-address-ipv4": "{address}", "peer-port": {port}, "peer-port-random-on-start": false,
  "port-forwarding-enabled": false, "dht-enabled": false, "lpd-enabled": false, "utp-enabled": false,
  "rpc-enabled": false, "watch-dir": "{watched}", "watch-dir-enabled": true,
  "start-added-torrents": true, "trash-original-torrent-files": false,
  "download-dir": "{data}", "incomplete-dir-enabled": false, "rename-partial-files": true,
  "script-torrent-done-enabled": true, "script-torrent-done-filename": "{script}",
  "ratio-limit-enabled": false, "encryption": {encryption}, "preallocation": 0, "message-level": 3
}}"#,
        address = seat.address,
        port = seat.port,
        watched = text(&watched),
        data = text(seat.data),
        script = text(&script),
        encryption = if seat.rc4 { 2 } else { 1 },
    );
    let mark = format!("#!/bin/sh\ntouch '{}'\n", text(&seat.folder.join("done")));
    fs::create_dir_all(&conf)
        .and_then(|()| fs::create_dir_all(&watched))
        .and_then(|()| fs::create_dir_all(seat.data))
        .and_then(|()| fs::write(conf.join("settings.json"), settings))
        .and_then(|()| fs::write(&script, mark))
        .and_then(|()| fs::set_permissions(&script, fs::Permissions::from_mode(0o755)))
        .and_then(|()| fs::copy(seat.torrent, watched.join("it.torrent")))
        .map_err(Failure::io("configuring transmission"))?;
    let mut command = Command::new("transmission-daemon");
    command.arg("-f").arg("-g").arg(conf);
    Ok(command)
}

/// rtorrent marks a finished check with the file `checked`, a finished download with `done`.
fn rtorrent(seat: &Seat<'_>) -> Result<Command, Failure> {
    let rc = seat.folder.join("rc");
    let session = seat.folder.join("session");
    let config = format!(
        "log.open_file = \"more\", \"{folder}/more.log\"
log.add_output = \"info\", \"more\"
log.add_output = \"torrent_info\", \"more\"
log.add_output = \"tracker_info\", \"more\"
system.daemon.set = true
network.bind_address.set = {address}
network.port_range.set = {port}-{port}
network.port_random.set = no
directory.default.set = \"{data}\"
session.path.set = \"{session}\"
dht.mode.set = disable
protocol.encryption.set = {encryption}
trackers.use_udp.set = yes
{ca}
method.set_key = event.download.hash_done, checked, \"execute2={{touch,{folder}/checked}}\"
method.set_key = event.download.finished, done, \"execute2={{touch,{folder}/done}}\"
schedule2 = load, 0, 0, \"load.start=\\\"{torrent}\\\"\"
",
        address = seat.address,
        port = seat.port,
        data = seat.data.display(),
        session = session.display(),
        folder = seat.folder.display(),
        torrent = seat.torrent.display(),
        encryption = if seat.rc4 {
            "allow_incoming,try_outgoing,require,require_RC4"
        } else {
            "allow_incoming,try_outgoing,enable_retry"
        },
        ca = seat.ca.map_or_else(String::new, |ca| format!(
            "network.http.ssl_verify_peer.set = 1\nnetwork.http.cacert.set = \"{}\"",
            ca.display()
        )),
    );
    fs::create_dir_all(&session)
        .and_then(|()| fs::create_dir_all(seat.data))
        .and_then(|()| fs::write(&rc, config))
        .map_err(Failure::io("configuring rtorrent"))?;
    let mut command = Command::new("rtorrent");
    command.arg("-n").arg("-o").arg(format!("import={}", rc.display()));
    Ok(command)
}

/// Whether other programs play ours.
pub(crate) fn stands_in() -> bool {
    std::env::var_os("TEEM_STANDIN").is_some_and(|value| value != "0")
}

/// The `teem` under test. Unless the environment names one, cargo makes sure that it is no older than
/// its source, in the profile of this test.
pub fn teem() -> Result<PathBuf, Failure> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            if let Some(path) = std::env::var_os("TEEM_BIN") {
                if path.is_empty() {
                    return Err("cargo could not build it; or set TEEM_BIN".to_owned());
                }
                return fs::canonicalize(&path).map_err(|err| format!("TEEM_BIN: {err}"));
            }
            let folder = profile_folder();
            // `cargo test` builds into `debug` with the profile `test`; so the binary is optimised alike.
            let profile = match folder.file_name().and_then(OsStr::to_str) {
                Some("debug") => "test",
                Some(other) => other,
                None => return Err("the test is not in cargo's target folder".to_owned()),
            };
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            println!("building teem");
            let status = Command::new(cargo)
                .args(["build", "--quiet", "-p", "teem", "--bin", "teem", "--profile", profile])
                .arg("--target-dir")
                .arg(folder.parent().unwrap_or(&folder))
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status();
            match status {
                Ok(status) if status.success() => Ok(folder.join("teem")),
                Ok(_) => Err("cargo could not build it; or set TEEM_BIN".to_owned()),
                Err(err) => Err(format!("cargo did not start ({err}); set TEEM_BIN")),
            }
        })
        .clone()
        .map_err(|remedy| Failure::Missing { program: "teem", remedy })
}

/// The Python that has libtorrent: in the environment that `install.sh` made, or the system's.
pub(crate) fn libtorrent_python() -> Result<PathBuf, Failure> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let named = std::env::var_os("TEEM_INTEROP_VENV").map(PathBuf::from);
            let made = profile_folder().parent().map(|target| target.join("interop-venv"));
            let own = named.or(made).map(|venv| venv.join("bin/python3"));
            own.into_iter().chain([PathBuf::from("python3")]).find(|python| {
                Command::new(python)
                    .args(["-c", "import libtorrent"])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .is_ok_and(|status| status.success())
            })
        })
        .clone()
        .ok_or_else(|| Failure::Missing {
            program: "libtorrent",
            remedy: "run interop/install.sh (pip install libtorrent==2.1.1)".to_owned(),
        })
}

/// Finds a Debian program in the search path.
pub(crate) fn find(program: &'static str, package: &str) -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|it| it.is_file())
        .ok_or_else(|| Failure::Missing {
            program,
            remedy: format!("run interop/install.sh (apt-get install {package})"),
        })
}

/// Cargo's folder of this profile: two above the test, which lies in `deps`.
fn profile_folder() -> PathBuf {
    let exe = std::env::current_exe().expect("a test knows its own file");
    exe.ancestors().nth(2).expect("cargo puts tests in target/<profile>/deps").to_owned()
}
