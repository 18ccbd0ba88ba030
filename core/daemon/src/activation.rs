//! Sockets the service manager opened and handed over (sd_listen_fds(3)): with them a daemon needs no
//! capability of its own, neither for low ports nor for transparent sockets.
//!
//! Which is which is told by what a socket is bound to, not by its name. Taken once, at the start,
//! before the daemon opens anything.

use crate::net::Transport;
use crate::sys;
use rustix::net::{AddressFamily, SocketType};
use socket2::{SockRef, Socket};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Most sockets taken.
const MAX: u32 = 4_096;
/// Connections the kernel holds for us.
const BACKLOG: i32 = 4_096;

/// Sockets handed over; what is not asked for is closed with this.
#[derive(Debug, Default)]
pub struct Passed {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
    unix: Vec<UnixListener>,
}

impl Passed {
    /// Takes the sockets that `LISTEN_FDS` and `LISTEN_PID` speak of; none when they speak of none, or
    /// of another process.
    ///
    /// # Errors
    /// One line: a descriptor that is not there, is no socket, or cannot be used.
    pub fn take() -> io::Result<Self> {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        match (number("LISTEN_PID"), number("LISTEN_FDS")) {
            (Some(pid), Some(count)) if pid == std::process::id() && count > 0 => Self::sort(sys::passed(count.min(MAX))?),
            _ => Ok(Self::default()),
        }
    }

    fn sort(descriptors: Vec<OwnedFd>) -> io::Result<Self> {
        let mut passed = Self::default();
        for (index, descriptor) in descriptors.into_iter().enumerate() {
            passed
                .add(descriptor)
                .map_err(|error| io::Error::new(error.kind(), format!("socket {index} of the service manager: {error}")))?;
        }
        Ok(passed)
    }

    fn add(&mut self, descriptor: OwnedFd) -> io::Result<()> {
        let kind = rustix::net::sockopt::socket_type(&descriptor)?;
        let family = rustix::net::getsockname(&descriptor)?.address_family();
        let socket = Socket::from(descriptor);
        socket.set_nonblocking(true)?;
        match (family, kind) {
            (AddressFamily::UNIX, SocketType::STREAM) => self.unix.push(socket.into()),
            (AddressFamily::INET | AddressFamily::INET6, SocketType::STREAM) => {
                sys::set_int(&socket, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, 1)?;
                // One that a daemon before this one had shut down listens again.
                socket.listen(BACKLOG)?;
                self.tcp.push(socket.into());
            }
            (AddressFamily::INET, SocketType::DGRAM) => {
                sys::set_int(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
                self.udp.push(socket.into());
            }
            (AddressFamily::INET6, SocketType::DGRAM) => {
                sys::set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
                self.udp.push(socket.into());
            }
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither TCP nor UDP nor a Unix stream")),
        }
        Ok(())
    }

    /// Whether nothing was handed over, or all of it was taken.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty() && self.unix.is_empty()
    }

    /// Whether a TCP listener at that address is there.
    pub fn has_tcp(&self, address: SocketAddr) -> bool {
        self.tcp.iter().any(|listener| bound_at(listener.local_addr(), address))
    }

    /// The TCP listener at that address.
    pub fn tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.tcp.iter().position(|listener| bound_at(listener.local_addr(), address))?;
        Some(self.tcp.swap_remove(at))
    }

    /// The UDP socket at that address.
    pub fn udp(&mut self, address: SocketAddr) -> Option<UdpSocket> {
        let at = self.udp.iter().position(|socket| bound_at(socket.local_addr(), address))?;
        Some(self.udp.swap_remove(at))
    }

    /// The Unix listener at that path.
    pub fn unix(&mut self, path: &Path) -> Option<UnixListener> {
        let at = self.unix.iter().position(|listener| listener.local_addr().is_ok_and(|at| at.as_pathname() == Some(path)))?;
        Some(self.unix.swap_remove(at))
    }

    /// What was handed over and not taken, in words.
    pub fn left(&self) -> Vec<String> {
        let shown =
            |transport: Transport, at: io::Result<SocketAddr>| at.map_or_else(|_| transport.to_string(), |at| format!("{transport} {at}"));
        let tcp = self.tcp.iter().map(|listener| shown(Transport::Tcp, listener.local_addr()));
        let udp = self.udp.iter().map(|socket| shown(Transport::Udp, socket.local_addr()));
        let unix = self.unix.iter().map(|_| "a Unix socket".to_owned());
        tcp.chain(udp).chain(unix).collect()
    }
}

fn bound_at(bound: io::Result<SocketAddr>, wanted: SocketAddr) -> bool {
    bound.is_ok_and(|bound| bound.port() == wanted.port() && bound.ip() == wanted.ip())
}

/// Whether a socket takes connections to, or answers from, addresses this host does not have.
///
/// # Errors
/// The system's.
pub fn is_transparent(socket: &impl std::os::fd::AsFd) -> io::Result<bool> {
    let known = SockRef::from(socket);
    if known.local_addr()?.is_ipv4() {
        return known.ip_transparent_v4();
    }
    sys::get_int(socket, libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT).map(|on| on != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_known_by_what_they_are_bound_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wall.sock");
        // Bound by number, as a unit says it: a port the system chose would be lost by the shutdown.
        let options = crate::net::TcpOptions { save_syn: false, ..crate::net::TcpOptions::default() };
        let tcp = crate::net::listen_tcp("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let six = TcpListener::bind("[::1]:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let unix = UnixListener::bind(&path).unwrap();
        let (at, at6, at_udp) = (tcp.local_addr().unwrap(), six.local_addr().unwrap(), udp.local_addr().unwrap());
        // As a daemon before this one may have left it.
        SockRef::from(&tcp).shutdown(std::net::Shutdown::Both).unwrap();
        let mut passed = Passed::sort(vec![unix.into(), udp.into(), six.into(), tcp.into()]).unwrap();
        assert!(!passed.is_empty() && passed.has_tcp(at) && !passed.has_tcp(at_udp));
        let listener = passed.tcp(at).unwrap();
        let client = std::net::TcpStream::connect(at).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(crate::net::client_isn(&accepted).is_some(), "the SYN is kept");
        drop(client);
        assert!(passed.tcp(at).is_none() && passed.tcp(at6).is_some() && passed.udp(at).is_none());
        assert_eq!(passed.left(), [format!("udp {at_udp}"), "a Unix socket".to_owned()]);
        assert!(passed.udp(at_udp).is_some() && passed.unix(Path::new("/elsewhere")).is_none() && passed.unix(&path).is_some());
        assert!(passed.is_empty());
        let file = std::fs::File::open("/dev/null").unwrap();
        let error = Passed::sort(vec![file.into()]).unwrap_err().to_string();
        assert!(error.starts_with("socket 0 of the service manager: "), "{error}");
        assert!(!is_transparent(&UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap());
        assert!(!is_transparent(&UdpSocket::bind("[::1]:0").unwrap()).unwrap());
    }

    #[test]
    fn another_process_is_meant() {
        // The test runner was handed nothing.
        assert!(Passed::take().unwrap().is_empty());
    }
}
