//! A sensor between two hosts of a lab, a sender whose packets carry numbers, and tcpdump beside it.

use crate::lab::Lab;
use crate::process::{Daemon, binary, command, run, run_ok, until};
use crate::world::LIMIT;
use anyhow::{Context as _, bail, ensure};
use glasshive_event::{Kind, RecordView};
use glasshive_journal::JournalConfig;
use glasshive_pcapng::{Block, BlockReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A packet: time in nanoseconds, bytes, length on the wire.
pub type Packet = (u64, Vec<u8>, u32);

/// Hosts `a` (sends) and `b` (receives); the sensor captures `b`'s interface, from within `b`.
pub struct SensorLab {
    /// The network.
    pub lab: Lab,
    /// Configuration, state and logs.
    pub dir: PathBuf,
    /// The sensor, while it runs.
    pub daemon: Option<Daemon>,
}

impl SensorLab {
    /// Makes the network and the configuration: `extra` is added to it. Nothing runs yet.
    pub fn new(dir: &Path, extra: &str) -> crate::Result<Self> {
        let mut lab = Lab::new()?;
        lab.bridge("seg")?;
        for (host, address) in [("a", "10.77.0.1/24"), ("b", "10.77.0.2/24")] {
            lab.host(host)?;
            // No router solicitations and the like: what is sent is what the test sends.
            let netns = lab.netns(host);
            let words = [
                "ip",
                "netns",
                "exec",
                &netns,
                "sysctl",
                "-qw",
                "net.ipv6.conf.all.disable_ipv6=1",
                "net.ipv6.conf.default.disable_ipv6=1",
            ];
            run_ok(command(words), None, LIMIT)?;
            lab.leg(host, "eth0", "seg", &[address])?;
        }
        let config = format!("interface = \"eth0\"\nnet = \"lab\"\nstate_dir = {:?}\n{extra}", dir.join("state"));
        std::fs::write(dir.join("sensor.toml"), config)?;
        Ok(Self { lab, dir: dir.to_owned(), daemon: None })
    }

    /// Starts the sensor and waits until it captures.
    pub fn start(&mut self) -> crate::Result<()> {
        let mut serve = self.lab.inside("b", &binary("glasshive-sensor")?);
        serve.arg("--config").arg(self.dir.join("sensor.toml")).arg("run");
        let log = self.dir.join("log.txt");
        let before = std::fs::read_to_string(&log).map_or(0, |text| text.matches(SAYS).count());
        let mut daemon = Daemon::start("the sensor", serve, &log)?;
        until("the sensor's start", LIMIT, || (daemon.output().matches(SAYS).count() > before || !daemon.alive()).then_some(()))?;
        ensure!(daemon.alive(), "the sensor ended at start:\n{}", daemon.output());
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Stops it as an operator does; it must end by itself, with 0.
    pub fn stop(&mut self) -> crate::Result<()> {
        let mut daemon = self.daemon.take().context("the sensor does not run")?;
        let code = daemon.stop(LIMIT);
        ensure!(code == Some(0), "the sensor ended with {code:?}:\n{}", daemon.output());
        Ok(())
    }

    /// `glasshive-sensor ARGS` with its configuration.
    pub fn sensor(&self, arguments: &[&str]) -> crate::Result<Output> {
        let mut ask = command([binary("glasshive-sensor")?]);
        ask.arg("--config").arg(self.dir.join("sensor.toml")).args(arguments);
        run(ask, None, LIMIT)
    }

    /// The same, which must succeed; its standard output.
    pub fn ask(&self, arguments: &[&str]) -> crate::Result<Vec<u8>> {
        let output = self.sensor(arguments)?;
        if !output.status.success() {
            bail!("glasshive-sensor {arguments:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        }
        Ok(output.stdout)
    }

    /// The packets a selection gives, through a pipe.
    pub fn carve(&self, selection: &[&str]) -> crate::Result<Vec<Packet>> {
        let mut words = vec!["carve", "--out", "-"];
        words.extend(selection);
        pcapng(&self.ask(&words)?)
    }

    /// What the journal of the stopped sensor holds: kinds and details, in order.
    pub fn records(&self) -> crate::Result<Vec<(Option<Kind>, serde_json::Value)>> {
        let (journal, handle, _) = glasshive_journal::open(JournalConfig::new(self.dir.join("state/journal")))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut records = Vec::new();
        let mut next = handle.first();
        loop {
            let blocks = runtime.block_on(handle.read(next, 1 << 20))?;
            for block in &blocks {
                next = block.last + 1;
                for record in glasshive_journal::block::records(&block.bytes) {
                    let view = RecordView::parse(record?)?;
                    let (envelope, detail) = view.split()?;
                    records.push((Kind::from_number(envelope.kind), serde_json::from_str(detail)?));
                }
            }
            if blocks.is_empty() {
                break;
            }
        }
        drop(handle);
        journal.close()?;
        Ok(records)
    }

    /// Sends UDP packets from `a` to `b`, port 9: 4 bytes of number, then `padding(number)` more.
    pub fn send(&self, numbers: std::ops::Range<u32>, padding: impl Fn(u32) -> usize + Send) -> crate::Result<()> {
        self.lab.enter("a", move || {
            // A child being started elsewhere in this process holds the last socket for a moment.
            let socket = until("the sender's port", LIMIT, || UdpSocket::bind("10.77.0.1:4000").ok())?;
            socket.connect("10.77.0.2:9")?;
            for number in numbers {
                let mut packet = number.to_be_bytes().to_vec();
                packet.resize(4 + padding(number), 0x5a);
                // Nobody listens there: the answers to earlier packets are errors of this socket.
                while let Err(error) = socket.send(&packet) {
                    ensure!(error.kind() == std::io::ErrorKind::ConnectionRefused, "sending: {error}");
                }
            }
            Ok(())
        })
    }
}

const SAYS: &str = "capturing from";

/// The packets of a pcapng file; a file that is malformed anywhere is an error.
pub fn pcapng(bytes: &[u8]) -> crate::Result<Vec<Packet>> {
    let mut reader = BlockReader::new(bytes);
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block()? {
        if let Block::Packet(packet) = block {
            packets.push((packet.time.unwrap_or(0), packet.data.into_owned(), packet.original_length));
        }
    }
    ensure!(reader.unknown_blocks() == 0, "blocks of unknown types");
    Ok(packets)
}

/// The packets of a file tcpdump wrote with nanoseconds.
pub fn pcap(bytes: &[u8]) -> crate::Result<Vec<Packet>> {
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk::<4>()?));
    ensure!(word(0) == Some(0xa1b2_3c4d), "not a little-endian pcap file of nanoseconds");
    let (mut at, mut packets) = (24, Vec::new());
    while let (Some(seconds), Some(nanoseconds), Some(length), Some(original)) = (word(at), word(at + 4), word(at + 8), word(at + 12)) {
        let data = bytes.get(at + 16..at + 16 + length as usize).context("pcap file ends within a packet")?;
        packets.push((u64::from(seconds) * 1_000_000_000 + u64::from(nanoseconds), data.to_vec(), original));
        at += 16 + length as usize;
    }
    Ok(packets)
}

/// The numbers of those packets [`SensorLab::send`] sent, in their order.
pub fn numbers(packets: &[Packet]) -> Vec<u32> {
    packets
        .iter()
        .filter(|(_, data, _)| data.get(23) == Some(&17) && data.get(36..38) == Some(&[0, 9]))
        .filter_map(|(_, data, _)| Some(u32::from_be_bytes(*data.get(42..)?.first_chunk::<4>()?)))
        .collect()
}
