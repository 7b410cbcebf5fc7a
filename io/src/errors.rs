//! What the system says, in the contract's words.

use std::io::{Error, ErrorKind};

use rustix::io::Errno;
use teem_core::machine::{SocketError, StreamError};

/// Why a stream did not come up, or went away.
pub fn stream_error(error: &Error) -> StreamError {
    match error.kind() {
        ErrorKind::ConnectionRefused => StreamError::Refused,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            StreamError::Reset
        }
        ErrorKind::TimedOut => StreamError::TimedOut,
        ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::InvalidInput => StreamError::Unreachable,
        ErrorKind::PermissionDenied => StreamError::NotPermitted,
        ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse | ErrorKind::OutOfMemory => {
            StreamError::OutOfResources
        }
        _ if out_of_resources(error) => StreamError::OutOfResources,
        _ => match Errno::from_io_error(error) {
            Some(Errno::AFNOSUPPORT) => StreamError::Unreachable,
            _ => StreamError::Other,
        },
    }
}

/// Why a listener or datagram socket cannot be had.
pub fn socket_error(error: &Error) -> SocketError {
    match error.kind() {
        ErrorKind::AddrInUse => SocketError::AddressInUse,
        ErrorKind::AddrNotAvailable => SocketError::AddressNotAvailable,
        ErrorKind::PermissionDenied => SocketError::NotPermitted,
        ErrorKind::OutOfMemory => SocketError::OutOfResources,
        _ if out_of_resources(error) => SocketError::OutOfResources,
        _ => match Errno::from_io_error(error) {
            Some(Errno::AFNOSUPPORT) => SocketError::AddressNotAvailable,
            _ => SocketError::Other,
        },
    }
}

/// Whether there are no more descriptors or buffers: it may pass, and nothing will tell when.
pub fn out_of_resources(error: &Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// What a failed send of one datagram means. None of these is an error of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFailure {
    /// There is no room now, and nothing will tell when there is: try again soon.
    NoRoom,
    /// The datagram is too big for the way it goes.
    TooBig,
    /// There is no way to that address.
    Unreachable,
    /// Lost, as a network loses datagrams.
    Lost,
}

/// What a failed send of one datagram means.
pub fn send_failure(error: &Error) -> SendFailure {
    match Errno::from_io_error(error) {
        Some(Errno::NOBUFS | Errno::NOMEM) => SendFailure::NoRoom,
        Some(Errno::MSGSIZE) => SendFailure::TooBig,
        Some(
            Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::NETDOWN
            | Errno::AFNOSUPPORT
            | Errno::INVAL
            | Errno::ADDRNOTAVAIL,
        ) => SendFailure::Unreachable,
        _ => SendFailure::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: Errno) -> Error {
        Error::from(errno)
    }

    #[test]
    fn what_the_system_says_keeps_its_meaning() {
        for (errno, meaning) in [
            (Errno::CONNREFUSED, StreamError::Refused),
            (Errno::CONNRESET, StreamError::Reset),
            (Errno::PIPE, StreamError::Reset),
            (Errno::TIMEDOUT, StreamError::TimedOut),
            (Errno::NETUNREACH, StreamError::Unreachable),
            (Errno::AFNOSUPPORT, StreamError::Unreachable),
            (Errno::MFILE, StreamError::OutOfResources),
            (Errno::ACCESS, StreamError::NotPermitted),
            (Errno::IO, StreamError::Other),
        ] {
            assert_eq!(stream_error(&error(errno)), meaning, "{errno:?}");
        }
        assert_eq!(socket_error(&error(Errno::ADDRINUSE)), SocketError::AddressInUse);
        assert_eq!(socket_error(&error(Errno::ACCESS)), SocketError::NotPermitted);
        assert_eq!(socket_error(&error(Errno::NFILE)), SocketError::OutOfResources);
    }

    #[test]
    fn a_full_interface_queue_is_no_success_and_no_loss() {
        assert_eq!(send_failure(&error(Errno::NOBUFS)), SendFailure::NoRoom);
        assert_eq!(send_failure(&error(Errno::MSGSIZE)), SendFailure::TooBig);
        assert_eq!(send_failure(&error(Errno::PERM)), SendFailure::Lost);
    }
}
