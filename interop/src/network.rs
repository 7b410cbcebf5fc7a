//! Where the programs of a cell live: addresses of their own on one machine.
//!
//! Transmission takes 127.x for bogus and keeps one peer per address, so the suite runs again inside a
//! fresh network namespace (through `unshare`, as root or in a user namespace), whose loopback device
//! carries 10.77.C.N and fd77::C:N for program N of cell C. Its process namespace ends with it, so
//! nothing outlives the suite. Where neither is allowed, 127.x and ::1 must do, and Transmission is left out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use crate::program::{stands_in, teem};
use crate::{Failure, Family};

/// Tells the inner run that it is one, and as whom.
const INSIDE: &str = "TEEM_INTEROP_INSIDE";

/// Programs in one cell at most: tracker, seeder, leecher.
const SEATS: u8 = 3;

/// Which addresses there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// A namespace of our own, entered as root: every program has addresses of its own.
    Namespace,
    /// The same, in a user namespace that maps the caller to root: programs cannot change their user.
    UserNamespace,
    /// The machine's own loopback device.
    Loopback,
}

impl Network {
    /// Runs this very test once more inside a namespace, if that is not where it already runs.
    ///
    /// `Ok(network)`: go on here. `Err(status)`: the inner run is over, and this is how it ended.
    pub fn enter(test_name: &str) -> Result<Self, ExitStatus> {
        match std::env::var(INSIDE).as_deref() {
            Ok("root") => return Ok(Self::Namespace),
            Ok("user") => return Ok(Self::UserNamespace),
            _ => {}
        }
        let root = rustix::process::geteuid().is_root();
        let (flag, who) = if root { ("--net", "root") } else { ("-rn", "user") };
        let unshare = |inner: &[&str]| {
            let mut command = Command::new("unshare");
            command.args([flag, "--pid", "--fork", "--kill-child"]).args(inner).env(INSIDE, who);
            command
        };
        let possible = unshare(&["ip", "link", "set", "lo", "up"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !possible {
            println!("no network namespace to be had here: 127.x must do");
            return Ok(Self::Loopback);
        }
        // Cargo may have to fetch, and there is nobody to fetch from inside.
        let teem = if stands_in() { PathBuf::new() } else { teem().unwrap_or_default() };
        let exe = std::env::current_exe().expect("a test knows its own file");
        let exe = exe.to_str().expect("cargo's paths are UTF-8");
        let status = unshare(&[exe, "--exact", test_name, "--nocapture", "--test-threads=1"])
            .env("TEEM_BIN", teem)
            .stdin(Stdio::null())
            .status()
            .expect("unshare ran a moment ago");
        Err(status)
    }

    /// Gives the addresses of a cell to the loopback device.
    pub fn prepare(self, cell: u8) -> Result<(), Failure> {
        if self == Self::Loopback {
            return Ok(());
        }
        run_ip(&["link", "set", "lo", "up"])?;
        for seat in 1..=SEATS {
            let v4 = format!("{}/32", self.address(Family::V4, cell, seat));
            let v6 = format!("{}/128", self.address(Family::V6, cell, seat));
            run_ip(&["addr", "replace", &v4, "dev", "lo"])?;
            run_ip(&["-6", "addr", "replace", &v6, "dev", "lo", "nodad"])?;
        }
        Ok(())
    }

    /// The address of one program of a cell.
    pub fn address(self, family: Family, cell: u8, seat: u8) -> IpAddr {
        match (self, family) {
            (Self::Loopback, Family::V4) => {
                let process = std::process::id().to_le_bytes()[0] | 128;
                Ipv4Addr::new(127, process, cell, seat).into()
            }
            (Self::Loopback, Family::V6) => Ipv6Addr::LOCALHOST.into(),
            (_, Family::V4) => Ipv4Addr::new(10, 77, cell, seat).into(),
            (_, Family::V6) => {
                Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, cell.into(), seat.into()).into()
            }
        }
    }
}

fn run_ip(args: &[&str]) -> Result<(), Failure> {
    let doing = || Failure::io(format!("ip {}", args.join(" ")));
    let output = Command::new("ip").args(args).output().map_err(doing())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(doing()(std::io::Error::other(said)))
}
