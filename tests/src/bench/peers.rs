//! Peers: other products that do part of what the subject does, installed by `tests/install-peers.sh` at
//! pinned versions and measured in the same rounds. They listen on loopback only, and everything in
//! them that would connect anywhere is off. As root they run as nobody: one of them refuses root.

use super::Run;
use super::clients::Words;
use super::subject::free_offset;
use super::tree::Tree;
use crate::process::{Daemon, pause, until};
use crate::world::LIMIT;
use anyhow::{Context as _, ensure};
use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// One peer.
pub(super) struct Peer {
    /// Its name, and that of its directory.
    pub(super) name: &'static str,
    /// What it offers: the port a persona would have, and what the one line of its log says that
    /// every visit must leave.
    services: &'static [(u16, &'static str)],
    /// How it speaks.
    pub(super) words: Words,
    /// Its log of records, below its directory.
    log: &'static str,
    /// Writes its configuration into a directory, with its ports so much above the personas'.
    configure: fn(&Path, u16) -> crate::Result<()>,
    /// Arguments of its `twistd`.
    arguments: fn(&Path) -> Vec<String>,
}

/// Which service it was is not asked: one is visited at a time.
const COWRIE_LOGIN: &str = "\"eventid\":\"cowrie.login.failed\"";

/// All peers.
pub(super) static PEERS: [Peer; 2] = [
    Peer {
        name: "opencanary",
        services: &[(21, "\"logtype\": 2000,"), (22, "\"logtype\": 4002,"), (23, "\"logtype\": 6001,"), (80, "\"logtype\": 3000,")],
        words: Words {
            ftp_login: "530 ",
            ftp_quit: false,
            page: "/index.html",
            telnet: [("Username: ", "root\r\n"), ("Password: ", "vizxv\r\n"), ("Authentication failed", "")],
            telnet_greeting: false,
        },
        log: "records.log",
        configure: opencanary,
        arguments: |home| vec!["-n".to_owned(), "-o".to_owned(), "-y".to_owned(), home.join("bin/opencanary.tac").display().to_string()],
    },
    Peer {
        name: "cowrie",
        services: &[(22, COWRIE_LOGIN), (23, COWRIE_LOGIN)],
        words: Words {
            ftp_login: "",
            ftp_quit: false,
            page: "",
            telnet: [("login: ", "root\r\n"), ("Password: ", "vizxv\r\n"), ("Login incorrect", "")],
            telnet_greeting: true,
        },
        log: "var/log/cowrie/cowrie.json",
        configure: cowrie,
        // As its own script does with COWRIE_STDOUT.
        arguments: |_| ["-n", "--umask=0022", "--logger", "cowrie.python.logfile.stdoutLogger", "cowrie"].map(str::to_owned).to_vec(),
    },
];

fn opencanary(dir: &Path, offset: u16) -> crate::Result<()> {
    let config = serde_json::json!({
        "device.node_id": "bench",
        "device.listen_addr": "127.0.0.1",
        "ftp.enabled": true,
        "ftp.port": 21 + offset,
        "ftp.banner": "FTP server ready",
        "http.enabled": true,
        "http.port": 80 + offset,
        "http.skin": "nasLogin",
        "ssh.enabled": true,
        "ssh.port": 22 + offset,
        "ssh.version": "SSH-2.0-OpenSSH_5.1p1 Debian-4",
        "ssh.key_path": ".",
        "telnet.enabled": true,
        "telnet.port": 23 + offset,
        // Limits above the load, as the subject's are.
        "telnet.max_connections": 1_000_000,
        "telnet.timeout": 3600,
        "telnet.banner": "",
        "logger": {"class": "PyLogger", "kwargs": {
            "formatters": {"plain": {"format": "%(message)s"}},
            "handlers": {"file": {"class": "logging.FileHandler", "filename": "records.log"}},
        }},
    });
    Ok(std::fs::write(dir.join("opencanary.conf"), config.to_string())?)
}

fn cowrie(dir: &Path, offset: u16) -> crate::Result<()> {
    for below in ["etc", "var/log/cowrie", "var/lib/cowrie/downloads", "var/lib/cowrie/tty", "var/run"] {
        std::fs::create_dir_all(dir.join(below))?;
    }
    let config = format!(
        "[honeypot]\nlogtype = plain\nidle_timeout = 3600\nauthentication_timeout = 3600\n[ssh]\nlisten_endpoints = tcp:{}:interface=127.0.0.1\nforwarding = false\n[telnet]\nenabled = true\nlisten_endpoints = tcp:{}:interface=127.0.0.1\n",
        22 + offset,
        23 + offset,
    );
    std::fs::write(dir.join("etc/cowrie.cfg"), config)?;
    // No login is accepted, as with the others: its pretended shell is not what is measured.
    Ok(std::fs::write(dir.join("etc/userdb.txt"), "nobody-at-all:x:none\n")?)
}

/// A peer at work.
pub(super) struct Running {
    /// Which.
    pub(super) peer: &'static Peer,
    daemon: Daemon,
    offset: u16,
    tally: Tally,
}

impl Running {
    /// Starts it in a fresh directory and waits until all its ports answer.
    pub(super) fn start(run: &Run, peer: &'static Peer) -> crate::Result<Self> {
        let home = run.options.peers_dir.join(peer.name);
        let home =
            home.canonicalize().with_context(|| format!("{} is not in {}: run tests/install-peers.sh", peer.name, home.display()))?;
        let dir = run.fresh(peer.name)?;
        let offset = free_offset()?;
        (peer.configure)(&dir, offset)?;
        let twistd = home.join("bin/twistd");
        let mut command = if rustix::process::geteuid().is_root() {
            give_away(&dir)?;
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(twistd);
            command
        } else {
            Command::new(twistd)
        };
        command.arg("--pidfile=").args((peer.arguments)(&home)).current_dir(&dir);
        // What a person has in his home or in the environment is not what is measured.
        command.env("HOME", &dir).env_remove("PYTHONPATH");
        let mut daemon = Daemon::start(peer.name, command, &run.dir.join(format!("{}.txt", peer.name)))?;
        for (port, _) in peer.services {
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port + offset));
            until(&format!("{} on port {port}", peer.name), LIMIT, || (TcpStream::connect(to).is_ok() || !daemon.alive()).then_some(()))?;
            ensure!(daemon.alive(), "{} ended at start:\n{}", peer.name, daemon.output());
        }
        let log = until(&format!("the log of {}", peer.name), LIMIT, || File::open(dir.join(peer.log)).ok())?;
        let mut running = Self { peer, daemon, offset, tally: Tally::new(log, peer) };
        // The knocks above are records of some, and none of what is measured.
        running.at_rest()?;
        Ok(running)
    }

    /// Where it offers a persona's port, if it does.
    pub(super) fn address(&self, port: u16) -> Option<SocketAddr> {
        let offers = self.peer.services.iter().any(|(own, _)| *own == port);
        offers.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port + self.offset)))
    }

    /// Its processes.
    pub(super) fn tree(&self) -> Tree {
        Tree(self.daemon.pid())
    }

    /// Records of visits to that port so far.
    pub(super) fn records(&mut self, port: u16) -> crate::Result<usize> {
        self.tally.read()?;
        let word = self.peer.services.iter().find(|(own, _)| *own == port).map(|(_, word)| *word);
        Ok(self.tally.seen.iter().find(|(known, _)| Some(*known) == word).map_or(0, |(_, seen)| *seen))
    }

    /// Waits until there are `wanted` more than `before`, or until none came for some time; how many
    /// came, and when the last did.
    pub(super) fn recorded_since(&mut self, port: u16, before: usize, wanted: usize) -> crate::Result<(usize, Instant)> {
        let (mut came, mut at) = (0, Instant::now());
        while came < wanted && at.elapsed() < Duration::from_secs(3) {
            let now = self.records(port)? - before;
            if now > came {
                (came, at) = (now, Instant::now());
            } else {
                pause();
            }
        }
        Ok((came, at))
    }

    /// Waits until its log no longer grows.
    pub(super) fn at_rest(&mut self) -> crate::Result<()> {
        self.settle(Duration::from_millis(300))
    }

    /// Until its log did not grow for so long.
    fn settle(&mut self, quiet: Duration) -> crate::Result<()> {
        let mut since = Instant::now();
        while since.elapsed() < quiet {
            if self.tally.read()? {
                since = Instant::now();
            }
            pause();
        }
        Ok(())
    }
}

/// What a log says, read once.
struct Tally {
    log: File,
    /// The line that is not whole yet.
    rest: Vec<u8>,
    /// How many lines held each word.
    seen: Vec<(&'static str, usize)>,
}

impl Tally {
    fn new(log: File, peer: &Peer) -> Self {
        let mut seen: Vec<_> = peer.services.iter().map(|(_, word)| (*word, 0)).collect();
        seen.dedup();
        Self { log, rest: Vec::new(), seen }
    }

    /// Reads on; whether there was more.
    fn read(&mut self) -> crate::Result<bool> {
        let before = self.rest.len();
        self.log.read_to_end(&mut self.rest)?;
        let grew = self.rest.len() > before;
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let text: Vec<u8> = self.rest.drain(..whole).collect();
        for line in text.split(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            for (word, seen) in &mut self.seen {
                if line.contains(*word) {
                    *seen += 1;
                }
            }
        }
        Ok(grew)
    }
}

/// Gives a directory and all in it to nobody.
fn give_away(dir: &Path) -> crate::Result<()> {
    let mut all = vec![dir.to_owned()];
    while let Some(path) = all.pop() {
        std::os::unix::fs::chown(&path, Some(65_534), Some(65_534))?;
        if path.is_dir() {
            let entries: Vec<PathBuf> = std::fs::read_dir(&path)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
            all.extend(entries);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn only_whole_lines_of_a_visit_count_and_each_once() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut tally = Tally::new(File::open(file.path()).unwrap(), &PEERS[0]);
        write!(file, "{{\"logtype\": 2000, \"n\": 1}}\n{{\"logtype\": 20001, \"n\": 2}}\n{{\"logtype\": 2000, ").unwrap();
        assert!(tally.read().unwrap());
        assert_eq!(tally.seen[0].1, 1);
        writeln!(file, "\"n\": 3}}").unwrap();
        assert!(tally.read().unwrap() && !tally.read().unwrap());
        assert_eq!(tally.seen.iter().map(|(_, seen)| *seen).collect::<Vec<_>>(), [2, 0, 0, 0]);
    }

    #[test]
    fn nothing_listens_outside_loopback() {
        let dir = tempfile::tempdir().unwrap();
        opencanary(dir.path(), 10_000).unwrap();
        let text = std::fs::read_to_string(dir.path().join("opencanary.conf")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&config["device.listen_addr"], &config["ssh.port"]), (&"127.0.0.1".into(), &10_022.into()));
        cowrie(dir.path(), 10_000).unwrap();
        let text = std::fs::read_to_string(dir.path().join("etc/cowrie.cfg")).unwrap();
        assert_eq!(text.matches("listen_endpoints").count(), text.matches(":interface=127.0.0.1").count());
    }
}
