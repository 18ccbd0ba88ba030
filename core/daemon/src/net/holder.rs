//! Who has a port: the kernel's socket tables joined with the open files of processes.

use super::Transport;
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Longest part of a socket table read.
const MAX_TABLE: u64 = 16 << 20;

/// A process that has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// The kernel's name of it.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", crate::telemetry::Shown(&self.name), self.pid)
    }
}

/// The process that listens on `address`. `None` when there is none, it is in another network
/// namespace, or this user may not look into it.
pub fn holder(transport: Transport, address: SocketAddr) -> Option<Holder> {
    let tables = match transport {
        Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let inode = tables.iter().find_map(|table| inode_in(Path::new(table), transport, address))?;
    owner_of(&format!("socket:[{inode}]"))
}

fn inode_in(table: &Path, transport: Transport, address: SocketAddr) -> Option<u64> {
    let lines = BufReader::new(File::open(table).ok()?.take(MAX_TABLE)).lines();
    lines.map_while(Result::ok).skip(1).find_map(|line| inode_of(&line, transport, address))
}

/// The inode of a table line when it holds `address`: itself, or all addresses on its port.
fn inode_of(line: &str, transport: Transport, address: SocketAddr) -> Option<u64> {
    let mut cells = line.split_ascii_whitespace().skip(1);
    let (local, port) = cells.next()?.split_once(':')?;
    let state = cells.nth(1)?;
    let inode = cells.nth(5)?.parse().ok()?;
    let listens = match transport {
        Transport::Tcp => state == "0A",
        Transport::Udp => true,
    };
    let local = parse_address(local)?;
    let same = |a: IpAddr, b: IpAddr| a.is_unspecified() || b.is_unspecified() || a.to_canonical() == b.to_canonical();
    (listens && u16::from_str_radix(port, 16).ok()? == address.port() && same(local, address.ip())).then_some(inode)
}

/// Addresses in the tables are 32-bit words in the machine's byte order.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |from: usize| u32::from_str_radix(hex.get(from..from + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?).into())
        }
        _ => None,
    }
}

fn owner_of(link: &str) -> Option<Holder> {
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.filter_map(Result::ok).find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let files = std::fs::read_dir(process.path().join("fd")).ok()?;
        let has = files.filter_map(Result::ok).any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == link));
        has.then(|| {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            Holder { pid, name: name.trim_end().to_owned() }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_lines() {
        let listening = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0";
        let connected = listening.replace(" 0A ", " 01 ");
        let wide = listening.replace("0100007F", "00000000");
        let v6 = listening.replace("0100007F", "00000000000000000000000001000000");
        let check = |line: &str, address: &str| inode_of(line, Transport::Tcp, address.parse().unwrap());
        assert_eq!(check(listening, "127.0.0.1:8080"), Some(4242));
        assert_eq!(check(listening, "0.0.0.0:8080"), Some(4242));
        assert_eq!(check(listening, "127.0.0.2:8080"), None);
        assert_eq!(check(listening, "127.0.0.1:8081"), None);
        assert_eq!(check(&connected, "127.0.0.1:8080"), None);
        assert_eq!(inode_of(&connected, Transport::Udp, "127.0.0.1:8080".parse().unwrap()), Some(4242));
        assert_eq!(check(&wide, "127.0.0.2:8080"), Some(4242));
        assert_eq!(check(&v6, "[::1]:8080"), Some(4242));
        for bad in ["", "x", "0: zz:1 a 0A", "0: 0100007F 0:0 0A"] {
            assert_eq!(check(bad, "127.0.0.1:1"), None);
        }
    }
}
