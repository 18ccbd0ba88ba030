//! UDP sockets that know which address a datagram was sent to and answer from that one.

use super::{BindError, Transport, tcp};
use crate::sys;
use socket2::{Domain, MsgHdr, Protocol, SockAddr, SockRef, Socket, Type};
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use tokio::io::Interest;

/// How a socket is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct UdpOptions {
    /// Take datagrams to, and answer from, addresses this host does not have (TPROXY).
    pub transparent: bool,
    /// Bind to an address that is not there yet.
    pub freebind: bool,
    /// Receive buffer in bytes, when not the system's default (it caps this at `net.core.rmem_max`).
    pub receive_buffer: Option<usize>,
}

/// One received datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes put into the buffer.
    pub len: usize,
    /// The datagram was longer than the buffer.
    pub truncated: bool,
    /// Who sent it.
    pub source: SocketAddr,
    /// The address and port it was sent to (also a broadcast or multicast one).
    pub destination: SocketAddr,
    /// What to answer from.
    pub reply: ReplyFrom,
}

/// The address to answer from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyFrom {
    /// A unicast address of ours, or unspecified when the datagram went to a multicast group.
    pub address: IpAddr,
    /// Interface it came in on; used for link-local and unspecified addresses only.
    pub interface: u32,
}

/// Binds. IPv6 sockets take IPv6 only.
///
/// # Errors
/// [`BindError`], one line.
pub fn bind_udp(address: SocketAddr, options: &UdpOptions) -> Result<UdpSocket, BindError> {
    let bind = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        tcp::common(&socket, address, options.transparent, options.freebind)?;
        match address {
            SocketAddr::V4(_) => sys::set_int(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?,
            SocketAddr::V6(_) => sys::set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?,
        }
        if let Some(bytes) = options.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(&address.into())?;
        Ok(socket)
    };
    bind().map(UdpSocket::from).map_err(|error| BindError::new(Transport::Udp, address, error))
}

/// A socket from [`bind_udp`] within the runtime.
#[derive(Debug)]
pub struct Datagrams {
    socket: tokio::net::UdpSocket,
    bound: SocketAddr,
}

impl Datagrams {
    /// Hands the socket to the runtime; call within one.
    ///
    /// # Errors
    /// The system's.
    pub fn from_std(socket: UdpSocket) -> io::Result<Self> {
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        Ok(Self { bound: socket.local_addr()?, socket })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.bound
    }

    /// Waits for a datagram. Cancel safe: nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The system's.
    pub async fn recv_from_to(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        let message = self.socket.async_io(Interest::READABLE, || sys::receive(&self.socket, buffer)).await?;
        let (arrived, reply) =
            destination(message.control.bytes()).unwrap_or((self.bound.ip(), ReplyFrom { address: self.bound.ip(), interface: 0 }));
        Ok(Datagram {
            len: message.len,
            truncated: message.truncated,
            source: message.source,
            destination: SocketAddr::new(arrived, self.bound.port()),
            reply,
        })
    }

    /// Sends one datagram from the chosen address and this socket's port.
    ///
    /// # Errors
    /// The system's; `InvalidInput` when the families differ.
    pub async fn send_from_to(&self, bytes: &[u8], from: ReplyFrom, to: SocketAddr) -> io::Result<usize> {
        if from.address.is_ipv4() != to.is_ipv4() || to.is_ipv4() != self.bound.is_ipv4() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "datagram ends are of two address families"));
        }
        let control = source_control(from);
        let to = SockAddr::from(match to {
            // A link-local peer is reached by interface.
            SocketAddr::V6(v6) if v6.scope_id() == 0 && v6.ip().is_unicast_link_local() => {
                SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, from.interface))
            }
            other => other,
        });
        // Built anew at each try: the header holds raw pointers and must not live across a wait.
        let send = || {
            let buffers = [IoSlice::new(bytes)];
            let message = MsgHdr::new().with_addr(&to).with_buffers(&buffers).with_control(&control);
            SockRef::from(&self.socket).sendmsg(&message, 0)
        };
        self.socket.async_io(Interest::WRITABLE, send).await
    }
}

/// Bytes of a control message's head: length, level, type.
const HEAD: usize = size_of::<usize>() + 8;

/// The destination and answering address from the control data of a received datagram.
fn destination(mut control: &[u8]) -> Option<(IpAddr, ReplyFrom)> {
    loop {
        let (length, rest) = control.split_first_chunk::<{ size_of::<usize>() }>()?;
        let length = usize::from_ne_bytes(*length);
        let (level, rest) = rest.split_first_chunk::<4>()?;
        let (kind, _) = rest.split_first_chunk::<4>()?;
        let data = control.get(HEAD..length)?;
        match (i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind)) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let (interface, rest) = data.split_first_chunk::<4>()?;
                let (local, rest) = rest.split_first_chunk::<4>()?;
                let (header, _) = rest.split_first_chunk::<4>()?;
                let reply = ReplyFrom { address: Ipv4Addr::from(*local).into(), interface: u32::from_ne_bytes(*interface) };
                return Some((Ipv4Addr::from(*header).into(), reply));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let (header, rest) = data.split_first_chunk::<16>()?;
                let (interface, _) = rest.split_first_chunk::<4>()?;
                let header = Ipv6Addr::from(*header);
                let address = if header.is_multicast() { Ipv6Addr::UNSPECIFIED } else { header };
                return Some((header.into(), ReplyFrom { address: address.into(), interface: u32::from_ne_bytes(*interface) }));
            }
            _ => control = control.get(length.max(HEAD).checked_next_multiple_of(size_of::<usize>())?..)?,
        }
    }
}

/// Control data that chooses the source address of a datagram.
fn source_control(from: ReplyFrom) -> Vec<u8> {
    let (level, kind, data) = match from.address {
        IpAddr::V4(v4) => {
            // Interface 0: the route decides; a fixed one would bypass it for addresses on lo.
            let interface: u32 = if v4.is_link_local() { from.interface } else { 0 };
            (libc::IPPROTO_IP, libc::IP_PKTINFO, [&interface.to_ne_bytes()[..], &v4.octets(), &[0; 4]].concat())
        }
        IpAddr::V6(v6) => {
            let interface = if v6.is_unicast_link_local() || v6.is_unspecified() { from.interface } else { 0 };
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, [&v6.octets()[..], &interface.to_ne_bytes()].concat())
        }
    };
    let length = HEAD.saturating_add(data.len());
    let mut control = [&length.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes(), &data].concat();
    control.resize(length.next_multiple_of(size_of::<usize>()), 0);
    control
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[tokio::test]
    async fn answers_from_the_address_asked() {
        // Every address of 127.0.0.0/8 is this host's, as AnyIP makes a decoy's.
        for (bind, asked) in [("0.0.0.0:0", "127.9.8.7"), ("[::]:0", "::1")] {
            let server = Datagrams::from_std(bind_udp(bind.parse().unwrap(), &UdpOptions::default()).unwrap()).unwrap();
            let asked = SocketAddr::new(asked.parse().unwrap(), server.address().port());
            let local = if asked.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
            let client = tokio::net::UdpSocket::bind(local).await.unwrap();
            // Connected: an answer from any other address would not be delivered.
            client.connect(asked).await.unwrap();
            client.send(b"who are you").await.unwrap();
            let mut buffer = [0; 8];
            let got = server.recv_from_to(&mut buffer).await.unwrap();
            assert_eq!((got.len, got.truncated, got.source, got.destination), (8, true, client.local_addr().unwrap(), asked));
            assert_eq!(got.reply.address, asked.ip());
            assert_eq!(server.send_from_to(b"me", got.reply, got.source).await.unwrap(), 2);
            assert_eq!(client.recv(&mut buffer).await.unwrap(), 2);
            let other = if asked.is_ipv4() { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
            let mixed = server.send_from_to(b"x", ReplyFrom { address: other, interface: 0 }, got.source).await;
            assert_eq!(mixed.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[tokio::test]
    async fn empty_datagrams_arrive() {
        let server = Datagrams::from_std(bind_udp("127.0.0.1:0".parse().unwrap(), &UdpOptions::default()).unwrap()).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"", server.address()).unwrap();
        assert_eq!(server.recv_from_to(&mut [0; 4]).await.unwrap().len, 0);
    }

    #[test]
    fn taken_port_names_the_holder() {
        let first = bind_udp("127.0.0.1:0".parse().unwrap(), &UdpOptions::default()).unwrap();
        let error = bind_udp(first.local_addr().unwrap(), &UdpOptions::default()).unwrap_err().to_string();
        assert!(error.starts_with("cannot listen on udp ") && error.contains(&format!("(pid {})", std::process::id())), "{error}");
    }

    #[test]
    fn control_data_round_trips() {
        let v4 = ReplyFrom { address: "169.254.1.2".parse().unwrap(), interface: 3 };
        let (_, reply) = destination(&source_control(v4)).unwrap();
        assert_eq!(reply, v4);
        let v6 = ReplyFrom { address: "fe80::1".parse().unwrap(), interface: 9 };
        assert_eq!(destination(&source_control(v6)), Some((v6.address, v6)));
        // Another message before ours is skipped.
        let other = [&24usize.to_ne_bytes()[..], &1i32.to_ne_bytes(), &29i32.to_ne_bytes(), &[0; 8]].concat();
        assert_eq!(destination(&[other, source_control(v6)].concat()).unwrap().1, v6);
        assert_eq!(destination(&[]), None);
        assert_eq!(destination(&[0; 64]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::fuzz_cases()))]
        #[test]
        fn any_control_data_is_answered(length in 0usize..80, level in prop_oneof![Just(0i32), Just(41)], kind in prop_oneof![Just(8i32), Just(50)], data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let control = [&length.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes(), &data].concat();
            let _ = destination(&control);
        }
    }
}
