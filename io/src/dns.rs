//! Names to addresses, by the system's resolver.
//!
//! There is no timeout here: the resolver has one, and a machine that will not wait that long
//! cancels.

use std::net::{SocketAddr, ToSocketAddrs};

use teem_core::machine::{JobErrorKind, JobOutput, JobResult};

use crate::storage::error;

/// Addresses of one name that are passed on.
const ADDRESSES_MAX: usize = 32;

/// Longest name that is looked up: the limit of DNS, with the final dot.
const HOST_LEN_MAX: usize = 254;

/// Asks the system, and waits as long as it takes.
pub(crate) fn resolve(host: &str, port: u16) -> JobResult {
    if host.is_empty() || host.len() > HOST_LEN_MAX || host.contains('\0') {
        return Err(error(JobErrorKind::NoSuchHost, format!("{host:?}: not a host name")));
    }
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|failed| error(JobErrorKind::NoSuchHost, format!("{host}: {failed}")))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(error(JobErrorKind::NoSuchHost, format!("{host}: no address")));
    }
    Ok(JobOutput::Resolved(addresses.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_cannot_be_one_is_no_such_host() {
        for host in ["", "a\0b", &"a".repeat(300)] {
            let failed = resolve(host, 1).expect_err("not a name");
            assert_eq!(failed.kind, JobErrorKind::NoSuchHost);
        }
    }

    #[test]
    fn the_local_host_has_an_address() {
        let Ok(JobOutput::Resolved(addresses)) = resolve("localhost", 7) else {
            panic!("the hosts file knows it");
        };
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    }
}
