//! Binds every socket the personas need, before the daemon gives up the right to make more.

use crate::config::Config;
use crate::conn::Duplex;
use crate::persona::file::Host;
use crate::recorder::BoxFuture;
use crate::session::{PassivePort, PassivePorts, Peer};
use crate::targets::{Target, Targets};
use glasshive_daemon::net::{BoundTcp, TcpOptions, UdpOptions, bind_tcp, bind_udp, listen_tcp};
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

pub(super) fn bind(config: &Config, hosts: &[Host], targets: &Targets, transparent: bool) -> anyhow::Result<Sockets> {
    let mut sockets = Sockets { tcp: Vec::new(), udp: Vec::new() };
    let options = TcpOptions { save_syn: true, transparent, ..TcpOptions::default() };
    if transparent {
        for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            if hosts.iter().any(|host| host.decoy.addresses.iter().any(|address| address.is_ipv6() == ip.is_ipv6())) {
                sockets.tcp.push((listen_tcp(SocketAddr::new(ip, config.tproxy_port), &options)?, None));
            }
        }
        for port in targets.udp_ports() {
            for ip in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
                let wanted = targets
                    .open()
                    .any(|(at, transport, _)| transport == Transport::Udp && at.port() == port && at.is_ipv6() == ip.is_ipv6());
                if wanted {
                    sockets.udp.push((bind_udp(SocketAddr::new(ip, port), &UdpOptions { transparent, ..UdpOptions::default() })?, port));
                }
            }
        }
    } else {
        for (at, transport, target) in targets.open() {
            let real = SocketAddr::new(at.ip(), at.port().checked_add(config.port_offset).unwrap_or(at.port()));
            match transport {
                Transport::Tcp => sockets.tcp.push((listen_tcp(real, &options)?, Some(target.clone()))),
                Transport::Udp => sockets.udp.push((bind_udp(real, &UdpOptions::default())?, at.port())),
            }
        }
    }
    for host in hosts.iter().filter(|host| host.offered.iter().any(|offered| offered.def.passive)) {
        let _ = host.decoy.passive.set(Arc::new(pool(config, host, transparent)?));
    }
    Ok(sockets)
}

/// The passive ports of one decoy, on each of its addresses.
fn pool(config: &Config, host: &Host, transparent: bool) -> anyhow::Result<Pool> {
    let options = TcpOptions { save_syn: true, transparent, ..TcpOptions::default() };
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
