//! The reader: the process that holds `CAP_NET_ADMIN`, and nothing else.
//!
//! It never waits for the daemon: what it cannot hand over is counted, and the counts travel with the
//! next word on the wall's state.

use super::nfnetlink::{ACK, Socket, next, number, request, text};
use super::nft::Nft;
use super::{Direction, MAX_BYTES, MAX_LINE, Message, Packet, State};
use crate::config::{Config, WallConfig};
use anyhow::Context as _;
use glasshive_daemon::lockdown::{Calls, Files, Keep, Lockdown};
use glasshive_daemon::shutdown::{Notifier, Shutdown};
use glasshive_event::text::hex;
use glasshive_proto::layers::layers;
use glasshive_proto::reader::{ParseError, Reader};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

/// Subsystem of NFLOG (linux/netfilter/nfnetlink_log.h), in the upper byte of a message's type.
const ULOG: u16 = 4 << 8;
const CONFIG: u16 = ULOG | 1;
/// `NFPROTO_ARP`: its hooks have numbers of their own.
const ARP: u8 = 3;
/// Bytes of each packet the kernel hands over.
const SNAPLEN: u32 = 256;
/// How often the wall is looked at and spoken of.
const LOOK: Duration = Duration::from_secs(1);
/// Lines waiting for the daemon, bytes.
const MAX_WAITING: usize = 64 * 1024;
/// Datagrams of the kernel read in one go, so that looking at the wall is never put off.
const BURST: usize = 64;
/// Link type of a bare IP packet.
const RAW: u16 = 101;

/// Reads until told to stop. Before any runtime: the lockdown belongs to a thread.
///
/// # Errors
/// One line: what is missing in the configuration, or which step the system refuses.
pub fn run(config: &Config, path: &Path) -> anyhow::Result<()> {
    let wall = config.wall.as_ref().with_context(|| format!("{}: no [wall] section: add one, it may be empty", path.display()))?;
    let notifier = Notifier::from_environment();
    let group = wall.group;
    let nflog = open_group(group).with_context(|| {
        format!("NFLOG group {group} cannot be read: CAP_NET_ADMIN is needed, and no other reader of the group may be there")
    })?;
    let nft = Nft::open(&wall.table, &wall.hooks, crate::targets::TABLE).context("asking for the wall")?;
    let expected = wall.hash_file.as_deref().map(expected).transpose()?;
    if config.isolation.lockdown {
        let files = Files { read: Vec::new(), write: Vec::new(), no_connect: true };
        Lockdown { user: None, files: Some(files), calls: Calls::Connecting, keep: Keep::NetAdmin }.apply()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.on_signals().context("listening for signals")?;
        println!("reading NFLOG group {group}, watching table {}", wall.table);
        Watch { wall, nft, expected, counts: State::default(), allowance: wall.packets_per_second, waiting: Vec::new(), stream: None }
            .serve(watched(nflog)?, &notifier, &shutdown)
            .await;
        notifier.stopping();
        Ok(())
    })
}

/// SHA-256 of the wall's chains and rules as they are loaded, hexadecimal.
///
/// # Errors
/// One line: the kernel cannot be asked, or the table is not loaded.
pub fn hash(wall: &WallConfig) -> anyhow::Result<String> {
    let state = Nft::open(&wall.table, &wall.hooks, crate::targets::TABLE).context("asking for the wall: CAP_NET_ADMIN is needed")?.state();
    match state.fault() {
        Some(why) => anyhow::bail!("the wall does not stand: {why}"),
        None => Ok(state.hash),
    }
}

/// The hash somebody wrote down when the wall was deployed.
fn expected(path: &Path) -> anyhow::Result<String> {
    use std::io::Read as _;
    let mut hash = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(1024).read_to_string(&mut hash));
    read.with_context(|| format!("key wall.hash_file: {}: make it: glasshive-decoys wall --hash > {0}", path.display()))?;
    Ok(hash.trim().to_owned())
}

/// In the runtime. The new way to register is unsafe for types that could close their descriptor early.
#[allow(deprecated)] // Ours owns it for as long as it lives.
fn watched(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    AsyncFd::new(socket)
}

/// Binds the group: whole packets up to the snap length, numbered so that losses show, handed over
/// one by one.
fn open_group(group: u16) -> io::Result<Socket> {
    let socket = Socket::open(true)?;
    let asked = |number: u16, value: &[u8]| socket.ask(&request(CONFIG, ACK, 0, group, &[(number, value)]));
    asked(1, &[1])?; // NFULNL_CFG_CMD_BIND
    let mut mode = SNAPLEN.to_be_bytes().to_vec();
    mode.extend([2, 0]); // NFULNL_COPY_PACKET
    asked(2, &mode)?;
    asked(5, &1u32.to_be_bytes())?; // NFULA_CFG_QTHRESH
    asked(6, &1u16.to_be_bytes())?; // NFULNL_CFG_F_SEQ
    Ok(socket)
}

struct Watch<'a> {
    wall: &'a WallConfig,
    nft: Nft,
    expected: Option<String>,
    counts: State,
    allowance: u32,
    waiting: Vec<u8>,
    stream: Option<UnixStream>,
}

impl Watch<'_> {
    async fn serve(mut self, nflog: AsyncFd<Socket>, notifier: &Notifier, shutdown: &Shutdown) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut sequence = None;
        let mut ready = false;
        loop {
            let flush = !self.waiting.is_empty() && self.stream.is_some();
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                _ = ticks.tick() => {
                    self.look().await;
                    if !ready {
                        notifier.ready("watching the wall");
                        ready = true;
                    }
                    notifier.watchdog();
                }
                writable = writable(self.stream.as_ref()), if flush => if writable { self.flush() } else { self.hang_up() },
                guard = nflog.readable() => match guard {
                    Ok(mut guard) => {
                        if self.read(nflog.get_ref(), &mut sequence) {
                            guard.clear_ready();
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "NFLOG cannot be read");
                        return;
                    }
                },
            }
        }
    }

    /// Looks at the wall and says how it stands, connecting first where there is no connection.
    async fn look(&mut self) {
        self.allowance = self.wall.packets_per_second;
        if self.stream.is_none() {
            self.waiting.clear();
            // The daemon may not be there yet; the next look tries again.
            if let Ok(Ok(stream)) = tokio::time::timeout(LOOK, UnixStream::connect(&self.wall.socket)).await {
                tracing::info!(socket = %self.wall.socket.display(), "the decoys daemon listens");
                self.stream = Some(stream);
            }
        }
        let State { seen, skipped, lost, unreadable, .. } = self.counts;
        let state = State { seen, skipped, lost, unreadable, expected: self.expected.clone(), ..self.nft.state() };
        self.say(&Message::State(state));
        self.flush();
    }

    /// Puts a line in the queue; false when it does not fit or nobody listens.
    fn say(&mut self, message: &Message) -> bool {
        let Ok(mut line) = serde_json::to_vec(message) else { return false };
        line.push(b'\n');
        let fits = line.len() <= MAX_LINE && self.waiting.len().saturating_add(line.len()) <= MAX_WAITING;
        if self.stream.is_some() && fits {
            self.waiting.extend(line);
            return true;
        }
        false
    }

    fn flush(&mut self) {
        let Some(stream) = &self.stream else { return };
        while !self.waiting.is_empty() {
            match stream.try_write(&self.waiting) {
                Ok(0) => return self.hang_up(),
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.hang_up(),
            }
        }
    }

    fn hang_up(&mut self) {
        if self.stream.take().is_some() {
            tracing::warn!("the decoys daemon hung up; trying again");
        }
        let unsaid = self.waiting.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.counts.skipped = self.counts.skipped.saturating_add(unsaid);
        self.waiting.clear();
    }

    /// Reads what the kernel has; true when nothing more is there.
    fn read(&mut self, nflog: &Socket, sequence: &mut Option<u32>) -> bool {
        let mut buffer = Vec::new();
        for _ in 0..BURST {
            match nflog.receive(&mut buffer) {
                Ok(()) => self.datagram(nflog, &buffer, sequence),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                // The queue overflowed; the sequence numbers will say by how much.
                Err(error) if error.raw_os_error() == Some(105) => {}
                Err(_) => self.counts.unreadable = self.counts.unreadable.saturating_add(1),
            }
        }
        false
    }

    fn datagram(&mut self, nflog: &Socket, buffer: &[u8], sequence: &mut Option<u32>) {
        let mut reader = Reader::new(buffer);
        loop {
            match next(&mut reader) {
                Ok(None) => return,
                Ok(Some(message)) if message.kind == ULOG => match logged(&message) {
                    Ok(logged) => self.packet(nflog, logged, sequence),
                    Err(_) => self.counts.unreadable = self.counts.unreadable.saturating_add(1),
                },
                Ok(Some(_)) => {}
                Err(_) => {
                    self.counts.unreadable = self.counts.unreadable.saturating_add(1);
                    return;
                }
            }
        }
    }

    fn packet(&mut self, nflog: &Socket, logged: Logged<'_>, sequence: &mut Option<u32>) {
        if let Some(now) = logged.sequence {
            let missed = sequence.map_or(0, |before| now.wrapping_sub(before).wrapping_sub(1));
            // A number further back than half the range is a group that began anew.
            if missed < u32::MAX / 2 {
                self.counts.lost = self.counts.lost.saturating_add(missed.into());
            }
            *sequence = Some(now);
        }
        self.counts.seen = self.counts.seen.saturating_add(1);
        let Some(mut packet) = logged.packet() else {
            self.counts.unreadable = self.counts.unreadable.saturating_add(1);
            return;
        };
        packet.interface = logged
            .interface
            .map_or_else(String::new, |index| rustix::net::netdevice::index_to_name(nflog, index).unwrap_or_else(|_| format!("#{index}")));
        if self.allowance == 0 || !self.say(&Message::Blocked(packet)) {
            self.counts.skipped = self.counts.skipped.saturating_add(1);
            return;
        }
        self.allowance = self.allowance.saturating_sub(1);
    }
}

async fn writable(stream: Option<&UnixStream>) -> bool {
    match stream {
        Some(stream) => stream.writable().await.is_ok(),
        None => false,
    }
}

/// One logged packet as the kernel describes it.
#[derive(Debug, Default)]
struct Logged<'a> {
    arp: bool,
    hook: u8,
    interface: Option<u32>,
    prefix: String,
    uid: Option<u32>,
    sequence: Option<u32>,
    payload: &'a [u8],
}

fn logged<'a>(message: &super::nfnetlink::Message<'a>) -> Result<Logged<'a>, ParseError> {
    let mut logged = Logged { arp: message.family() == ARP, ..Logged::default() };
    let (mut input, mut output) = (None, None);
    let mut attributes = message.attributes();
    while let Some((kind, value)) = attributes.next()? {
        match kind {
            1 => logged.hook = value.get(2).copied().unwrap_or(u8::MAX), // NFULA_PACKET_HDR
            4 => input = number(value),                                  // NFULA_IFINDEX_INDEV
            5 => output = number(value),                                 // NFULA_IFINDEX_OUTDEV
            9 => logged.payload = value,                                 // NFULA_PAYLOAD
            10 => logged.prefix = text(value).trim().chars().take(128).collect(), // NFULA_PREFIX
            11 => logged.uid = number(value),                            // NFULA_UID
            12 => logged.sequence = number(value),                       // NFULA_SEQ
            _ => {}
        }
    }
    // What goes through has both: where it came in tells more of who tries.
    logged.interface = input.or(output);
    Ok(logged)
}

impl Logged<'_> {
    fn packet(&self) -> Option<Packet> {
        if self.arp {
            return self.claim();
        }
        let direction = match self.hook {
            0 | 1 => Direction::In,
            2 => Direction::Forward,
            3 | 4 => Direction::Out,
            _ => return None,
        };
        let found = layers(RAW, self.payload);
        let layer = found.iter().next()?;
        let protocol = layer.protocol?;
        let icmp = matches!(protocol, 1 | 58).then(|| (layer.source.port() as u8, layer.destination.port() as u8));
        let without_port = |mut address: std::net::SocketAddr| {
            if !layer.ports {
                address.set_port(0);
            }
            address
        };
        Some(self.told(direction, protocol, [without_port(layer.source), without_port(layer.destination)], icmp))
    }

    /// An ARP packet of Ethernet and IPv4 (RFC 826): somebody's word on who has an address.
    fn claim(&self) -> Option<Packet> {
        let direction = match self.hook {
            0 => Direction::In,
            1 => Direction::Out,
            2 => Direction::Forward,
            _ => return None,
        };
        let address = |at: usize| {
            let bytes: [u8; 4] = self.payload.get(at..)?.first_chunk().copied()?;
            Some(std::net::SocketAddr::from((bytes, 0)))
        };
        if self.payload.get(..6) != Some(&[0, 1, 8, 0, 6, 4]) {
            return None;
        }
        Some(self.told(direction, 0, [address(14)?, address(24)?], None))
    }

    fn told(&self, direction: Direction, protocol: u8, [source, destination]: [std::net::SocketAddr; 2], icmp: Option<(u8, u8)>) -> Packet {
        Packet {
            direction,
            protocol,
            source,
            destination,
            flags: if protocol == 6 { tcp_flags(self.payload) } else { 0 },
            icmp,
            interface: String::new(),
            prefix: self.prefix.clone(),
            uid: self.uid,
            len: u32::try_from(self.payload.len()).unwrap_or(u32::MAX),
            bytes: hex(self.payload.get(..MAX_BYTES).unwrap_or(self.payload)),
        }
    }
}

/// Flags of a TCP segment right behind the first header; 0 where they are not there (RFC 9293 §3.1).
fn tcp_flags(packet: &[u8]) -> u8 {
    let first = packet.first().copied().unwrap_or(0);
    let header = match first >> 4 {
        4 => usize::from(first & 0xf).saturating_mul(4),
        6 if packet.get(6) == Some(&6) => 40,
        _ => return 0,
    };
    packet.get(header.saturating_add(13)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// As Linux 6.18 handed over a datagram to port 53 that an output chain dropped.
    const DROPPED: &str = "7800000000040000000000000000000002000007080001000800030013000a00676c61737368697665206f7574200000080005000000000308000b000000000008000e000000000008000c00000000002500090045000021b2444000401174750a0800010a08000290310035000d143168656c6c6f000000";

    fn read(data: &[u8]) -> Option<Packet> {
        let message = next(&mut Reader::new(data)).ok()??;
        let logged = logged(&message).ok()?;
        assert_eq!((logged.interface, logged.sequence), (Some(3), Some(0)));
        logged.packet()
    }

    #[test]
    fn a_dropped_packet_is_read() {
        let packet = read(&bytes(DROPPED)).unwrap();
        let expected = Packet {
            direction: Direction::Out,
            protocol: 17,
            source: "10.8.0.1:36913".parse().unwrap(),
            destination: "10.8.0.2:53".parse().unwrap(),
            flags: 0,
            icmp: None,
            interface: String::new(),
            prefix: "glasshive out".into(),
            uid: Some(0),
            len: 33,
            bytes: "45000021b2444000401174750a0800010a08000290310035000d143168656c6c6f".into(),
        };
        assert_eq!(packet, expected);
    }

    /// A gratuitous ARP answer of 02:00:00:00:00:66 that claims 10.66.7.10; whatever is cut off it is no claim.
    #[test]
    fn an_arp_claim_is_read() {
        let payload = bytes("00010800060400020200000000660a42070a0200000000660a42070a");
        let logged = |payload| Logged { arp: true, prefix: "glasshive-wall arp".into(), payload, ..Logged::default() };
        let packet = logged(&payload).packet().unwrap();
        assert_eq!((packet.direction, packet.protocol, packet.source), (Direction::In, 0, "10.66.7.10:0".parse().unwrap()));
        assert_eq!((packet.destination, packet.len, packet.bytes), ("10.66.7.10:0".parse().unwrap(), 28, hex(&payload)));
        assert!((0..payload.len()).all(|len| logged(&payload[..len]).packet().is_none()));
    }

    #[test]
    fn flags_are_found_behind_either_header() {
        let mut four = vec![0x46; 40];
        four[24 + 13] = 0x12;
        let mut six = vec![0x60; 60];
        (six[6], six[53]) = (6, 0x02);
        assert_eq!((tcp_flags(&four), tcp_flags(&six), tcp_flags(&four[..30]), tcp_flags(&[])), (0x12, 0x02, 0, 0));
        six[6] = 44;
        assert_eq!(tcp_flags(&six), 0);
    }

    #[test]
    fn requests_have_the_kernels_form() {
        let asked = request(CONFIG, ACK, 0, 7, &[(1, &[1])]);
        assert_eq!(hex(&asked), "1c000000010405000000000000000000000000070500010001000000");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::fuzz_cases()))]

        /// Whatever the bytes, the walk ends and nothing panics.
        #[test]
        fn any_bytes_are_survived(mut data in proptest::collection::vec(any::<u8>(), 0..200), keep in any::<bool>(), at in 0usize..120, to in any::<u8>()) {
            if keep {
                data = bytes(DROPPED);
                data[at] = to;
            }
            let mut reader = Reader::new(&data);
            while let Ok(Some(message)) = next(&mut reader) {
                if let Ok(logged) = logged(&message) {
                    let packet = logged.packet();
                    prop_assert!(packet.is_none_or(|packet| packet.bytes.len() <= 2 * MAX_BYTES && packet.prefix.chars().count() <= 128));
                }
            }
        }
    }
}
