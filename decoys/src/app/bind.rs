//! Binds every socket the personas need, before the daemon gives up the right to make more. What the
//! service manager handed over takes the place of what would be bound here.

use crate::config::Config;
use crate::conn::Duplex;
use crate::persona::file::Host;
use crate::recorder::BoxFuture;
use crate::session::{PassivePort, PassivePorts, Peer};
use crate::targets::{Target, Targets};
use glasshive_daemon::activation::{Passed, is_transparent};
use glasshive_daemon::net::{BindError, BoundTcp, TcpOptions, UdpOptions, bind_tcp, bind_udp, listen_tcp};
use glasshive_event::{Transport, Tuple};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

/// Everything bound.
pub(super) struct Sockets {
    /// Listeners, with their service when they are plain.
    pub(super) tcp: Vec<(std::net::TcpListener, Option<Target>)>,
    /// UDP sockets, with the port personas offer there.
    pub(super) udp: Vec<(std::net::UdpSocket, u16)>,
}

pub(super) fn bind(config: &Config, hosts: &[Host], targets: &Targets, transparent: bool, passed: &mut Passed) -> anyhow::Result<Sockets> {
    // With the entry's sockets handed over there is no right to make others for any address.
    let handed = !passed.is_empty();
    let mut sockets = Sockets { tcp: Vec::new(), udp: Vec::new() };
    let options = TcpOptions { save_syn: true, transparent, ..TcpOptions::default() };
    if transparent {
        for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            if hosts.iter().any(|host| host.decoy.addresses.iter().any(|address| address.is_ipv6() == ip.is_ipv6())) {
                sockets.tcp.push((tcp(SocketAddr::new(ip, config.tproxy_port), &options, passed)?, None));
            }
        }
        for port in targets.udp_ports() {
            for ip in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
                let wanted = targets
                    .open()
                    .any(|(at, transport, _)| transport == Transport::Udp && at.port() == port && at.is_ipv6() == ip.is_ipv6());
                if wanted {
                    sockets.udp.push((udp(SocketAddr::new(ip, port), transparent, passed)?, port));
                }
            }
        }
    } else {
        for (at, transport, target) in targets.open() {
            let real = SocketAddr::new(at.ip(), at.port().checked_add(config.port_offset).unwrap_or(at.port()));
            match transport {
                Transport::Tcp => sockets.tcp.push((tcp(real, &options, passed)?, Some(target.clone()))),
                Transport::Udp => sockets.udp.push((udp(real, false, passed)?, at.port())),
            }
        }
    }
    for host in hosts.iter().filter(|host| host.offered.iter().any(|offered| offered.def.passive)) {
        let _ = host.decoy.passive.set(Arc::new(pool(config, host, transparent, handed)?));
    }
    Ok(sockets)
}

/// What to do about a socket that was neither handed over nor can be made.
const REMEDY: &str = "or let the service manager hand it over: glasshive-decoys check --socket prints its unit";

fn remedied(error: BindError) -> anyhow::Error {
    match error.source.kind() {
        std::io::ErrorKind::PermissionDenied => anyhow::anyhow!("{error}, {REMEDY}"),
        _ => error.into(),
    }
}

fn tcp(address: SocketAddr, options: &TcpOptions, passed: &mut Passed) -> anyhow::Result<std::net::TcpListener> {
    match passed.tcp(address) {
        Some(listener) if options.transparent && !is_transparent(&listener)? => {
            anyhow::bail!("tcp {address}: the service manager's socket is not transparent: set Transparent=yes in its unit")
        }
        Some(listener) => Ok(listener),
        None => listen_tcp(address, options).map_err(remedied),
    }
}

fn udp(address: SocketAddr, transparent: bool, passed: &mut Passed) -> anyhow::Result<std::net::UdpSocket> {
    match passed.udp(address) {
        Some(socket) if transparent && !is_transparent(&socket)? => {
            anyhow::bail!("udp {address}: the service manager's socket is not transparent: set Transparent=yes in its unit")
        }
        Some(socket) => Ok(socket),
        None => bind_udp(address, &UdpOptions { transparent, ..UdpOptions::default() }).map_err(remedied),
    }
}

/// The passive ports of one decoy, on each of its addresses.
fn pool(config: &Config, host: &Host, transparent: bool, handed: bool) -> anyhow::Result<Pool> {
    // Decoys' addresses are local by a route, so binding them needs no right when they need not be there.
    let options = TcpOptions { save_syn: true, transparent: transparent && !handed, freebind: handed, ..TcpOptions::default() };
    let (first, last) = config.passive_ports;
    let mut free = Vec::new();
    for address in &host.decoy.addresses {
        let mut ports = VecDeque::new();
        for port in first..=last {
            ports.push_back(bind_tcp(SocketAddr::new(*address, port), &options)?);
        }
        free.push((*address, ports));
    }
    Ok(Pool { free: Arc::new(Mutex::new(free)), net: config.net.clone() })
}

type Free = Arc<Mutex<Vec<(IpAddr, VecDeque<BoundTcp>)>>>;

struct Pool {
    free: Free,
    net: String,
}

impl PassivePorts for Pool {
    fn open(&self, address: IpAddr) -> Option<Box<dyn PassivePort>> {
        let address = address.to_canonical();
        let bound = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            free.iter_mut().find(|(ip, _)| *ip == address)?.1.pop_front()?
        };
        let listener = bound.listen().and_then(|listener| {
            listener.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(listener)
        });
        let open =
            Open { at: bound.address(), bound: Some(bound), free: Arc::clone(&self.free), listener: listener.ok(), net: self.net.clone() };
        // Dropping `open` on a failed listen gives the port back.
        open.listener.is_some().then(|| Box::new(open) as Box<dyn PassivePort>)
    }
}

struct Open {
    at: SocketAddr,
    bound: Option<BoundTcp>,
    free: Free,
    listener: Option<tokio::net::TcpListener>,
    net: String,
}

impl PassivePort for Open {
    fn address(&self) -> SocketAddr {
        self.at
    }

    fn accept(&mut self) -> BoxFuture<'_, std::io::Result<(Box<dyn Duplex>, Peer)>> {
        Box::pin(async move {
            let listener = self.listener.as_ref().ok_or(std::io::ErrorKind::NotConnected)?;
            let (stream, source) = listener.accept().await?;
            let wire = Tuple { source: source.into(), destination: self.at.into() };
            let conn = glasshive_daemon::net::client_isn(&stream).map(|isn| {
                glasshive_event::ConnId::derive(&self.net, Transport::Tcp.number(), wire.source.into(), wire.destination.into(), isn)
            });
            let peer = Peer { transport: Transport::Tcp, wire, claimed: None, conn };
            Ok((Box::new(stream) as Box<dyn Duplex>, peer))
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.listener = None;
        if let Some(bound) = self.bound.take() {
            bound.stop();
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, ports)) = free.iter_mut().find(|(ip, _)| *ip == self.at.ip()) {
                ports.push_back(bound);
            }
        }
    }
}
