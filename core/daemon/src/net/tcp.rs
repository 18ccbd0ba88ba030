//! TCP listeners with large backlogs, saved SYNs and, when asked, any address (TPROXY).

use super::{BindError, Transport, syn_isn};
use crate::sys;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::Duration;

/// How a listener is made.
#[derive(Debug, Clone, Copy)]
pub struct TcpOptions {
    /// Connections the kernel holds for us before `accept` (it caps this at `net.core.somaxconn`).
    pub backlog: i32,
    /// Take connections to any address and port that the firewall hands over (TPROXY).
    pub transparent: bool,
    /// Bind to an address that is not there yet.
    pub freebind: bool,
    /// Keep each client's SYN, for [`client_isn`].
    pub save_syn: bool,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self { backlog: 4096, transparent: false, freebind: false, save_syn: true }
    }
}

/// A port that is ours and does not listen yet: FTP's passive range is bound before the lockdown
/// and opened per transfer.
#[derive(Debug)]
pub struct BoundTcp {
    socket: Socket,
    address: SocketAddr,
    backlog: i32,
}

/// Binds without listening.
///
/// # Errors
/// [`BindError`], one line.
pub fn bind_tcp(address: SocketAddr, options: &TcpOptions) -> Result<BoundTcp, BindError> {
    let fault = |error| BindError::new(Transport::Tcp, address, error);
    let first = prepare(address, options).map_err(fault)?;
    let bound = first.local_addr().map_err(fault)?.as_socket().unwrap_or(address);
    // A port the system chose is lost at the first `stop`; one asked for by number is kept. Both
    // sockets hold it for a moment, so nobody can take it in between.
    let socket = if address.port() == 0 { prepare(bound, options).map_err(fault)? } else { first };
    Ok(BoundTcp { socket, address: bound, backlog: options.backlog })
}

/// Binds and listens.
///
/// # Errors
/// [`BindError`], one line.
pub fn listen_tcp(address: SocketAddr, options: &TcpOptions) -> Result<TcpListener, BindError> {
    let bound = bind_tcp(address, options)?;
    // Two sockets with SO_REUSEADDR may bind one port; only listening tells that it is taken.
    bound.socket.listen(bound.backlog).map_err(|error| BindError::new(Transport::Tcp, address, error))?;
    Ok(bound.socket.into())
}

fn prepare(address: SocketAddr, options: &TcpOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    common(&socket, address, options.transparent, options.freebind)?;
    if options.save_syn {
        sys::set_int(&socket, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, 1)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What both transports set: one family a socket, and other addresses when asked.
pub(super) fn common(socket: &Socket, address: SocketAddr, transparent: bool, freebind: bool) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => {
            if transparent {
                socket.set_ip_transparent_v4(true)?;
            }
            if freebind {
                socket.set_freebind_v4(true)?;
            }
        }
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            if transparent {
                socket.set_ip_transparent_v6(true)?;
            }
            if freebind {
                socket.set_freebind_v6(true)?;
            }
        }
    }
    Ok(())
}

impl BoundTcp {
    /// The bound address, with the port the system chose when 0 was asked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts listening; the handle shares the socket, and dropping it does not stop it.
    ///
    /// # Errors
    /// The system's.
    pub fn listen(&self) -> io::Result<TcpListener> {
        self.socket.listen(self.backlog)?;
        Ok(self.socket.try_clone()?.into())
    }

    /// Stops listening: new connections are refused, the port stays ours, [`Self::listen`] opens it again.
    pub fn stop(&self) {
        // ENOTCONN: it was not listening, which is what is wanted.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// The SYN an accepted connection began with, IP header first. `None` when it was not kept (no
/// `save_syn`, SYN cookies under flood) or was read before: the kernel gives it once.
pub fn accepted_syn(stream: &impl AsFd) -> Option<Vec<u8>> {
    sys::saved_syn(stream).ok().filter(|syn| !syn.is_empty())
}

/// The client's initial sequence number: the part of the join key only the wire and we know.
pub fn client_isn(stream: &impl AsFd) -> Option<u32> {
    accepted_syn(stream).and_then(|syn| syn_isn(&syn))
}

/// Makes the coming close a reset instead of a farewell.
///
/// # Errors
/// The system's.
pub fn arm_reset(stream: &impl AsFd) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// Closes with a reset, as a port that is suddenly gone.
pub fn reset<S: AsFd>(stream: S) {
    let _ = arm_reset(&stream);
    drop(stream);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpStream;

    fn accept(listener: &TcpListener) -> TcpStream {
        listener.set_nonblocking(false).unwrap();
        listener.accept().unwrap().0
    }

    #[test]
    fn saved_syn_gives_the_clients_sequence_number_once() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = listen_tcp(address.parse().unwrap(), &TcpOptions::default()).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let server = accept(&listener);
            let syn = accepted_syn(&server).unwrap();
            let ports = if address.starts_with('[') { &syn[40..44] } else { &syn[20..24] };
            assert_eq!(ports[..2], client.local_addr().unwrap().port().to_be_bytes());
            assert_eq!(ports[2..], listener.local_addr().unwrap().port().to_be_bytes());
            assert!(syn_isn(&syn).is_some());
            assert_eq!(accepted_syn(&server), None);
        }
    }

    #[test]
    fn early_reset_keeps_the_syn() {
        let listener = listen_tcp("127.0.0.1:0".parse().unwrap(), &TcpOptions::default()).unwrap();
        reset(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        assert!(client_isn(&accept(&listener)).is_some());
    }

    #[test]
    fn without_save_syn_there_is_none() {
        let listener = listen_tcp("127.0.0.1:0".parse().unwrap(), &TcpOptions { save_syn: false, ..TcpOptions::default() }).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(client_isn(&accept(&listener)), None);
    }

    #[test]
    fn reset_is_a_reset() {
        let listener = listen_tcp("127.0.0.1:0".parse().unwrap(), &TcpOptions::default()).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        reset(accept(&listener));
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn taken_port_names_the_holder() {
        let first = listen_tcp("127.0.0.1:0".parse().unwrap(), &TcpOptions::default()).unwrap();
        let address = first.local_addr().unwrap();
        let error = listen_tcp(address, &TcpOptions::default()).unwrap_err().to_string();
        let pid = format!("(pid {})", std::process::id());
        assert!(
            error.starts_with(&format!("cannot listen on tcp {address}: in use by ")) && error.contains(&pid) && !error.contains('\n'),
            "{error}"
        );
    }

    #[test]
    fn foreign_address_says_so() {
        let error = listen_tcp("192.0.2.1:0".parse().unwrap(), &TcpOptions::default()).unwrap_err().to_string();
        assert!(error.contains("does not have the address"), "{error}");
        let free = TcpOptions { freebind: true, ..TcpOptions::default() };
        assert!(listen_tcp("192.0.2.1:0".parse().unwrap(), &free).is_ok());
    }

    #[test]
    fn transparent_takes_any_address_or_says_what_it_needs() {
        for address in ["192.0.2.1:0", "[2001:db8::1]:0"] {
            let any = TcpOptions { transparent: true, ..TcpOptions::default() };
            match listen_tcp(address.parse().unwrap(), &any) {
                Ok(listener) => assert_eq!(listener.local_addr().unwrap().ip(), address.parse::<SocketAddr>().unwrap().ip()),
                Err(error) => assert!(error.to_string().contains("transparent sockets need CAP_NET_ADMIN"), "{error}"),
            }
        }
    }

    #[test]
    fn reserved_port_opens_and_closes() {
        let bound = bind_tcp("127.0.0.1:0".parse().unwrap(), &TcpOptions::default()).unwrap();
        for _ in 0..3 {
            assert!(TcpStream::connect(bound.address()).is_err());
            let listener = bound.listen().unwrap();
            let _client = TcpStream::connect(bound.address()).unwrap();
            assert!(client_isn(&accept(&listener)).is_some());
            bound.stop();
        }
        assert!(TcpStream::connect(bound.address()).is_err());
    }
}
