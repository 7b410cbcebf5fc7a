//! Sockets, set up the way every driver wants them. All of them are non-blocking.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use teem_core::machine::{Bind, Connect, Listen};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Slices that one vectored write takes.
pub const SLICES_MAX: usize = 64;

/// Receive and send buffers of datagram sockets, in bytes; a burst fits.
const DATAGRAM_BUFFER: usize = 2 * 1024 * 1024;

/// Bytes that a graceful close reads and discards, so that it is a close and no reset.
const DISCARD_MAX: usize = 256 * 1024;

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // The two families are two sockets: an address has one way of writing it.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// A listening socket, and the address it listens on. The port of a program that ended a moment
/// ago is taken; the port of one that runs is not.
pub fn listen(listen: &Listen) -> io::Result<(Socket, SocketAddr)> {
    let socket = socket(listen.address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&listen.address.into())?;
    socket.listen(BACKLOG)?;
    let address = local(&socket)?;
    Ok((socket, address))
}

/// The next connection at a listening socket, and who it is.
pub fn accept(listener: &Socket) -> io::Result<(Socket, SocketAddr)> {
    let (socket, from) = listener.accept()?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    Ok((socket, address(&from)?))
}

/// A socket that has begun to connect; [`connected`] tells the outcome.
pub fn connect(connect: &Connect) -> io::Result<Socket> {
    let socket = socket(connect.to, Type::STREAM, Protocol::TCP)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(from) = connect.from {
        if from.port() != 0 {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&from.into())?;
    }
    match socket.connect(&connect.to.into()) {
        Ok(()) => Ok(socket),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(socket),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
            _ => Err(error),
        },
    }
}

/// The outcome of a [`connect`]: our end's address, or why not. `WouldBlock` while it is open.
pub fn connected(socket: &Socket) -> io::Result<SocketAddr> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Ok(_) => local(socket),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        Err(error) => Err(error),
    }
}

/// A datagram socket, and the address it is bound to.
pub fn bind(bind: &Bind) -> io::Result<(Socket, SocketAddr)> {
    let socket = socket(bind.address, Type::DGRAM, Protocol::UDP)?;
    if bind.reuse {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
    }
    // As much as the system allows; less works too.
    let _ = socket.set_recv_buffer_size(DATAGRAM_BUFFER);
    let _ = socket.set_send_buffer_size(DATAGRAM_BUFFER);
    socket.bind(&bind.address.into())?;
    match bind.multicast {
        None => {}
        Some(IpAddr::V4(group)) => {
            let interface = match bind.address.ip() {
                IpAddr::V4(ip) => ip,
                IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
            };
            socket.join_multicast_v4(&group, &interface)?;
        }
        Some(IpAddr::V6(group)) => socket.join_multicast_v6(&group, 0)?,
    }
    let address = local(&socket)?;
    Ok((socket, address))
}

/// Writes the first [`SLICES_MAX`] of `parts` in one call, and returns how many bytes left.
pub fn write(socket: &Socket, parts: &[Bytes]) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let count = parts.len().min(SLICES_MAX);
    for (slice, part) in slices.iter_mut().zip(parts) {
        *slice = IoSlice::new(part);
    }
    socket.send_vectored(&slices[..count])
}

/// The next datagram: its length, and who sent it.
pub fn receive_from(socket: &Socket, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    let flags = rustix::net::RecvFlags::empty();
    let (count, _, from) = rustix::net::recvfrom(socket, buf, flags)?;
    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
    Ok((count, from.ok_or(io::ErrorKind::InvalidData)?))
}

/// Sends one datagram.
pub fn send_to(socket: &Socket, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
    socket.send_to(datagram, &to.into()).map(drop)
}

/// Closes at once: the other side sees a reset, and what was not sent is dropped.
pub fn abort(socket: &Socket) {
    // It is closed either way; there is nobody to tell.
    let _ = socket.set_linger(Some(Duration::ZERO));
}

/// Begins a graceful close: no more is sent after what the system already holds. Returns whether
/// the other side has finished too, so that the socket can be dropped; dropped earlier, it might
/// answer what still comes with a reset, which would take what was sent with it.
pub fn finish(socket: &Socket) -> bool {
    if socket.shutdown(Shutdown::Write).is_err() {
        return true;
    }
    let mut discarded = 0;
    let mut scratch = [MaybeUninit::uninit(); 4096];
    while discarded < DISCARD_MAX {
        match socket.recv(&mut scratch) {
            Ok(0) => return true,
            Ok(count) => discarded += count,
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
    false
}

/// The address of our end.
pub fn local(socket: &Socket) -> io::Result<SocketAddr> {
    address(&socket.local_addr()?)
}

fn address(from: &SockAddr) -> io::Result<SocketAddr> {
    from.as_socket().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use teem_core::ids::{Key, ListenerId, SocketId, StreamId};

    fn any() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }

    fn listening() -> (Socket, SocketAddr) {
        let listener = ListenerId::from_parts(0, 1);
        listen(&Listen { listener, address: any(), tls: false }).expect("a port")
    }

    fn blocking<R>(mut op: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        loop {
            match op() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    fn dial(to: SocketAddr, from: Option<SocketAddr>) -> io::Result<Socket> {
        let stream = StreamId::from_parts(0, 1);
        let socket = connect(&Connect { stream, to, from, tls: None })?;
        blocking(|| connected(&socket))?;
        Ok(socket)
    }

    #[test]
    fn a_stream_connects_from_where_it_is_told_and_carries_many_slices() {
        let (listener, to) = listening();
        let from = SocketAddr::from(([127, 0, 0, 2], 0));
        let dialled = dial(to, Some(from)).expect("somebody listens");
        let (served, who) = blocking(|| accept(&listener)).expect("somebody dials");
        assert_eq!(who.ip(), from.ip());
        let parts: Vec<_> = (0..100).map(|at| Bytes::from(vec![at; 3])).collect();
        assert_eq!(write(&dialled, &parts).expect("room"), SLICES_MAX * 3);
        let mut buf = [MaybeUninit::uninit(); 1000];
        let count = blocking(|| served.recv(&mut buf)).expect("bytes");
        assert_eq!(count, SLICES_MAX * 3);
    }

    #[test]
    fn nobody_listens_is_refused() {
        let (listener, to) = listening();
        drop(listener);
        let refused = dial(to, None).expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn an_aborted_stream_is_reset_and_a_finished_one_is_not() {
        let mut buf = [MaybeUninit::uninit(); 8];
        for graceful in [false, true] {
            let (listener, to) = listening();
            let dialled = dial(to, None).expect("somebody listens");
            let (served, _) = blocking(|| accept(&listener)).expect("somebody dials");
            if graceful {
                assert!(!finish(&served), "the other side may still send");
                assert_eq!(blocking(|| dialled.recv(&mut buf)).expect("the end"), 0);
                assert!(finish(&dialled), "both have finished");
            } else {
                abort(&served);
                drop(served);
                let reset = blocking(|| dialled.recv(&mut buf)).expect_err("cut");
                assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
            }
        }
    }

    #[test]
    fn datagrams_go_and_come() {
        let socket = SocketId::from_parts(0, 1);
        let bound = || {
            let bind = Bind { socket, address: any(), reuse: false, multicast: None };
            super::bind(&bind).expect("a port")
        };
        let ((a, a_address), (b, b_address)) = (bound(), bound());
        send_to(&a, b"hello", b_address).expect("room");
        let mut buf = [0; 100];
        let (count, from) = blocking(|| receive_from(&b, &mut buf)).expect("a datagram");
        assert_eq!((&buf[..count], from), (&b"hello"[..], a_address));
    }
}
