//! The trackers through which peers find each other, and the harness's own look at their swarm.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::authority::Authority;
use crate::content::hex;
use crate::process::Sign;
use crate::program::{Plan, find, stands_in, teem};
use crate::{Failure, Network};

/// A tracker program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tracker {
    Opentracker,
    Teem,
}

impl Tracker {
    /// Fails if the program is not on this machine.
    pub(crate) fn look(self) -> Result<(), Failure> {
        match self {
            Self::Teem if stands_in() => Self::Opentracker.look(),
            Self::Teem => teem().map(drop),
            Self::Opentracker => find("opentracker", "opentracker").map(drop),
        }
    }

    /// The tracker on one address and port, TCP and UDP, for one torrent; and on another one over
    /// TLS, if that is wanted.
    pub(crate) fn plans(
        self,
        network: Network,
        folder: &Path,
        at: SocketAddr,
        secure: Option<(SocketAddr, &Authority)>,
        info_hash: [u8; 20],
    ) -> Result<Vec<Plan>, Failure> {
        let mut proxy = None;
        let command = match self {
            Self::Teem if !stands_in() => {
                let mut command = Command::new(teem()?);
                command.arg("track").arg("--http").arg(at.to_string());
                command.arg("--udp").arg(at.to_string());
                if let Some((secure, authority)) = secure {
                    command.arg("--https").arg(secure.to_string());
                    command.arg("--tls-cert").arg(&authority.cert);
                    command.arg("--tls-key").arg(&authority.key);
                }
                command
            }
            Self::Teem | Self::Opentracker => {
                proxy = secure.map(|(secure, authority)| tls_proxy(secure, at, authority));
                opentracker(network, folder, at, info_hash)?
            }
        };
        let mut plans = vec![Plan { command, sign: Sign::Listens(at.port()) }];
        plans.extend(proxy);
        Ok(plans)
    }
}

/// Python's TLS, which is OpenSSL's, in front of a tracker that has none.
fn tls_proxy(secure: SocketAddr, at: SocketAddr, authority: &Authority) -> Plan {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/tls_proxy.py"));
    command.arg(secure.ip().to_string());
    command.arg(secure.port().to_string()).arg(at.port().to_string());
    command.arg(&authority.cert).arg(&authority.key);
    Plan { command, sign: Sign::Listens(secure.port()) }
}

/// opentracker refuses to run as root and Debian's serves only what its list names. It reads the list
/// as the other user and relative to its folder.
fn opentracker(
    network: Network,
    folder: &Path,
    at: SocketAddr,
    info_hash: [u8; 20],
) -> Result<Command, Failure> {
    fs::write(folder.join("white"), hex(info_hash, "") + "\n")
        .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o755)))
        .map_err(Failure::io("configuring opentracker"))?;
    let mut command = if network == Network::UserNamespace {
        // No other user is mapped here, so it gets a user namespace in which it is one.
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-user=65534", "--map-group=65534", "opentracker"]);
        command
    } else {
        Command::new("opentracker")
    };
    command.arg("-i").arg(at.ip().to_string()).arg("-d").arg(folder).args(["-w", "white"]);
    command.args(["-u", "nobody"]);
    command.arg("-p").arg(at.port().to_string()).arg("-P").arg(at.port().to_string());
    Ok(command)
}

/// Waits until the tracker knows a complete peer of the torrent (scrape, BEP 48).
pub(crate) fn wait_for_a_seeder(
    at: SocketAddr,
    info_hash: [u8; 20],
    deadline: Instant,
) -> Result<(), Failure> {
    let begin = Instant::now();
    loop {
        let answer = scrape(at, info_hash).map_err(Failure::io(format!("scraping {at}")))?;
        match complete(&answer) {
            Some(1..) => return Ok(()),
            // An unknown torrent has no entry yet.
            Some(0) => {}
            None if find_bytes(&answer, b"5:filesd").is_some() => {}
            None => {
                let answer = String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
                return Err(Failure::Scrape { answer });
            }
        }
        if Instant::now() > deadline {
            return Err(Failure::TimedOut {
                waiting_for: "the seeder's announce".to_owned(),
                limit: begin.elapsed(),
            });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn scrape(at: SocketAddr, info_hash: [u8; 20]) -> std::io::Result<Vec<u8>> {
    let escaped = hex(info_hash, "%");
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET /scrape?info_hash={escaped} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer)?;
    Ok(answer)
}

fn complete(answer: &[u8]) -> Option<u32> {
    const KEY: &[u8] = b"8:completei";
    let at = find_bytes(answer, KEY)? + KEY.len();
    let digits: Vec<u8> = answer[at..].iter().copied().take_while(u8::is_ascii_digit).collect();
    String::from_utf8(digits).ok()?.parse().ok()
}

fn find_bytes(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}
