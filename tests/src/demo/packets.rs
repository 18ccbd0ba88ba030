//! The demonstration's packets: capture beside an independent recorder, findings, exports that open
//! decrypted in Wireshark without options.

use super::say;
use crate::lab::Lab;
use crate::process::{Daemon, command, run, run_ok, until};
use crate::visitors::Visitor;
use crate::world::{LIMIT, World, is_root_tcp};
use crate::world_sensor::{Sensor, tshark};
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for a finding that rests on both sides (watermark and late pass included).
const JUDGED: Duration = Duration::from_secs(120);
/// Another host of the segment, no decoy.
const OTHER: &str = "10.66.1.50";
/// Where its SSH server answers.
const ODD_PORT: u16 = 4022;
/// What is sent over HTTPS and must be readable in the export.
const SECRET_BODY: &str = "user=admin&password=letmein";

/// The packet half of a running demonstration.
pub(super) struct Packets {
    sensor: Sensor,
    tcpdump: Option<Daemon>,
    recording: PathBuf,
    since: jiff::Timestamp,
    _sshd: Daemon,
}

impl Packets {
    /// Starts sensor, independent recorder and the segment's other host.
    pub(super) fn start(world: &mut World) -> crate::Result<Self> {
        say("a sensor on a mirror of the segment, tcpdump beside it, and another host with SSH on 4022");
        let sshd = other_host(world)?;
        let sensor = Sensor::start(world, 0, "")?;
        let recording = world.dir.join("beside.pcap");
        let tcpdump = sensor.tcpdump(world, &recording)?;
        Ok(Self { sensor, tcpdump: Some(tcpdump), recording, since: jiff::Timestamp::now(), _sshd: sshd })
    }

    /// Visits only a sensor tells apart: scans, SSH at an odd place, HTTP inside SSH.
    pub(super) fn visit(&self, world: &World) -> crate::Result<()> {
        let visitor = Visitor::new(world, 0);
        let decoy = visitor.decoy()?;
        say("ssh to the other host on 4022, and HTTP through ssh -L");
        let mut odd = world.visitor(0, "ssh")?;
        odd.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        odd.args(["-p", &ODD_PORT.to_string(), &format!("visitor@{OTHER}"), "true"]);
        // It has no account there; that both sides speak SSH is what counts.
        let _ = run(odd, None, LIMIT)?;
        visitor.http_through_ssh("deploy", "Summer2026!", "/intranet/report?id=7")?;
        say("nmap: a SYN scan, then versions");
        for words in [&["-sS", "-p", "1-1000"][..], &["-sV", "-p", "21,22,80,443"]] {
            let mut nmap = world.visitor(0, "nmap")?;
            nmap.args(["-n", "-Pn"]).args(words).arg(&decoy);
            run_ok(nmap, None, Duration::from_secs(240))?;
        }
        Ok(())
    }

    /// Judges what was captured and writes `findings.json`, `original.pcapng` and `decrypted.pcapng`.
    /// Returns lines for the summary.
    pub(super) fn review(&mut self, world: &World) -> crate::Result<String> {
        let mut text = String::new();
        self.same_as_tcpdump(world, &mut text)?;
        self.findings(world, &mut text)?;
        let sessions = world.sessions()?;
        exports(world, &sessions, &mut text)?;
        Ok(text)
    }

    /// Equal count and bytes; handshakes to what is open equal the TCP sessions without parent.
    fn same_as_tcpdump(&mut self, world: &World, text: &mut String) -> crate::Result<()> {
        // The span lies within both recordings, and its edges are quiet.
        let until_time = jiff::Timestamp::now();
        if let Some(mut tcpdump) = self.tcpdump.take() {
            tcpdump.signal(2);
            until("the end of tcpdump", LIMIT, || (!tcpdump.alive()).then_some(()))?;
        }
        let frames = |file: &Path| -> crate::Result<(u64, u64)> {
            let filter = format!("frame.time_epoch >= {} && frame.time_epoch <= {}", seconds(self.since), seconds(until_time));
            let out = tshark(file, &["-Y", &filter, "-T", "fields", "-e", "frame.len"])?;
            let lengths: Vec<u64> = out.lines().filter_map(|line| line.trim().parse().ok()).collect();
            Ok((lengths.len() as u64, lengths.iter().sum()))
        };
        let theirs = frames(&self.recording)?;
        let carved = world.dir.join("carved.pcapng");
        let (since, end) = (self.since.to_string(), until_time.to_string());
        let mut ours = (0, 0);
        // A packet can be carved within two seconds of its arrival.
        until("the ring to hold what tcpdump saw", Duration::from_secs(20), || {
            let mut carve = self.sensor.command(world, &["carve", "--since", &since, "--until", &end, "--out"]).ok()?;
            carve.arg(&carved);
            run_ok(carve, None, LIMIT).ok()?;
            ours = frames(&carved).ok()?;
            (ours.0 >= theirs.0).then_some(())
        })
        .with_context(|| format!("the sensor kept {ours:?} packets and bytes, tcpdump {theirs:?}"))?;
        ensure!(ours == theirs && ours.0 > 1000, "the sensor kept {ours:?} packets and bytes, tcpdump {theirs:?}");
        let _ = writeln!(text, "packets       {} packets, {} bytes kept by the sensor; tcpdump beside it counts the same", ours.0, ours.1);
        let handshakes = handshakes(&self.recording, &open_ports(&self.sensor.segment)?)?;
        let sessions = world.wait_sessions(handshakes, LIMIT)?;
        let roots = sessions.iter().filter(|s| is_root_tcp(s)).count();
        ensure!(roots == handshakes, "tcpdump saw {handshakes} completed handshakes to open ports, but there are {roots} TCP sessions");
        let _ = writeln!(text, "handshakes    {handshakes} completed on the wire to open ports, as many TCP sessions without parent");
        std::fs::remove_file(&carved)?;
        Ok(())
    }

    /// Waits for the expected findings, checks one's tshark line against its export, and that reading
    /// that file again gives the same ids.
    fn findings(&self, world: &World, text: &mut String) -> crate::Result<()> {
        let wanted = ["scan", "port_mismatch", "remote_service"];
        let mut last = String::new();
        let findings = until("the findings", JUDGED, || {
            last = world.cli(&["findings", "--json", "--limit", "1000"]).ok()?;
            let all: Vec<Value> = last.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let has = |name: &str, technique: &str| {
                all.iter().any(|f| {
                    f["detector"] == name
                        && f["techniques"]
                            .as_array()
                            .is_some_and(|t| t.iter().any(|t| t.as_str().is_some_and(|t| t.starts_with(technique))))
                })
            };
            let complete = wanted.iter().all(|name| has(name, "")) && has("remote_service", "T1110") && has("remote_service", "T1078");
            complete.then_some(all)
        })
        .with_context(|| format!("wanted {wanted:?} with the guessed and the accepted login, got:\n{last}"))?;
        std::fs::write(world.dir.join("findings.json"), &last)?;
        let _ = writeln!(text, "findings      {} in findings.json", findings.len());
        for finding in findings.iter().filter(|f| f["site"] == "wire" || f["detector"] == "scan" || f["detector"] == "port_mismatch") {
            let id = finding["finding"].as_str().context("finding id")?;
            let shown = world.cli(&["finding", id])?;
            let line = shown.lines().find(|line| line.contains("tshark")).with_context(|| format!("no tshark line in:\n{shown}"))?;
            let dir = world.dir.join(format!("finding-{id}"));
            world.cli(&["export", "finding", id, "--format", "pcapng", "-o", &dir.to_string_lossy()])?;
            let file = dir.join("original.pcapng");
            let filter = line.split_once("-Y '").and_then(|(_, rest)| rest.rsplit_once('\'')).map(|(filter, _)| filter);
            let filter = filter.with_context(|| format!("no filter in {line}"))?;
            let all = tshark(&file, &["-T", "fields", "-e", "frame.number"])?.lines().count();
            let shown = tshark(&file, &["-Y", filter, "-T", "fields", "-e", "frame.number"])?.lines().count();
            ensure!(all == shown && all > 0, "{id}: the export has {all} frames, the tshark line shows {shown}: {line}");
            let read = self.sensor.command(
                world,
                &[
                    "read",
                    "--json",
                    "--net",
                    &world.nodes[0].net,
                    "--segment",
                    &self.sensor.segment.to_string_lossy(),
                    &file.to_string_lossy(),
                ],
            )?;
            let read = run_ok(read, None, LIMIT)?;
            ensure!(
                read.lines().any(|line| line.contains("\"type\":\"finding\"") && line.contains(id)),
                "reading the export of finding {id} again does not give it:\n{}",
                read.lines().filter(|line| line.contains("\"finding\"")).collect::<Vec<_>>().join("\n")
            );
        }
        Ok(())
    }
}

/// The HTTPS session and the SSH sessions as packets, opened with no options.
fn exports(world: &World, sessions: &[Value], text: &mut String) -> crate::Result<()> {
    let dir = &world.dir;
    let id = |s: &Value| s["session"].as_str().map(str::to_owned).context("session id");
    // The newest come first; nmap's own requests came last.
    let https = sessions.iter().rfind(|s| s["service"] == "https" && s["requests"].as_u64() > Some(0)).context("no HTTPS session")?;
    let shell = sessions.iter().rfind(|s| s["service"] == "ssh" && s["commands"].as_u64() >= Some(4)).context("no interactive session")?;
    let tunnel = sessions.iter().find(|s| s["service"] == "http" && !s["parent"].is_null()).context("no tunnelled session")?;
    let export = |session: &str, name: &str| -> crate::Result<PathBuf> {
        let to = dir.join(format!("export-{name}"));
        // Writes original.pcapng too.
        world.cli(&["export", "session", session, "--format", "decrypted", "--reason", "demonstration", "-o", &to.to_string_lossy()])?;
        Ok(to)
    };
    let secure = export(&id(https)?, "https")?;
    let shown = tshark(
        &secure.join("decrypted.pcapng"),
        &["-Y", "http.request", "-T", "fields", "-e", "http.request.uri", "-e", "http.file_data"],
    )?;
    let body = hex_or_text(&shown);
    ensure!(shown.contains('/') && body.contains(SECRET_BODY), "the HTTPS request is not readable: {shown}");
    let typed = export(&id(shell)?, "ssh")?;
    let comments = tshark(&typed.join("decrypted.pcapng"), &["-T", "fields", "-e", "frame.comment"])?;
    ensure!(comments.contains("command: whoami"), "no comment tells the typed command: {comments}");
    let stream = tshark(&typed.join("decrypted.pcapng"), &["-Y", "tcp.port == 23", "-T", "fields", "-e", "tcp.stream"])?;
    let stream = stream.lines().next().context("no derived channel")?.trim().to_owned();
    let followed = tshark(&typed.join("decrypted.pcapng"), &["-q", "-z", &format!("follow,tcp,ascii,{stream}")])?;
    ensure!(followed.contains("from the keyboard"), "the followed channel does not show the shell: {followed}");
    let parent = tunnel["parent"].as_str().context("parent")?.to_owned();
    let tunnelled = export(&parent, "tunnel")?;
    let inner = tshark(
        &tunnelled.join("decrypted.pcapng"),
        &["-Y", "http.request && frame.interface_name == \"derived-plaintext\"", "-T", "fields", "-e", "http.request.uri"],
    )?;
    ensure!(inner.contains("/intranet/report?id=7"), "the tunnelled request is not dissected as HTTP: {inner:?}");
    for name in ["original.pcapng", "decrypted.pcapng"] {
        std::fs::copy(typed.join(name), dir.join(name))?;
    }
    let _ = writeln!(text, "pcapng        original.pcapng decrypted.pcapng (the shell); export-https, export-tunnel: all open decrypted");
    Ok(())
}

/// The other host: a real SSH server, where none is declared.
fn other_host(world: &mut World) -> crate::Result<Daemon> {
    let dir = world.dir.join("other");
    std::fs::create_dir_all(&dir)?;
    let key = dir.join("host_key");
    let mut keygen = command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f"]);
    keygen.arg(&key);
    run_ok(keygen, None, LIMIT)?;
    std::fs::create_dir_all("/run/sshd")?;
    let lab: &mut Lab = world.lab.as_mut().context("no namespaces")?;
    lab.host("o1")?;
    lab.leg("o1", "eth0", "dcy1", &[&format!("{OTHER}/24")])?;
    let mut sshd = lab.inside("o1", Path::new("/usr/sbin/sshd"));
    sshd.args(["-D", "-e", "-f", "/dev/null", "-p", &ODD_PORT.to_string(), "-o", "PidFile=none", "-h"]).arg(&key);
    let mut daemon = Daemon::start("sshd", sshd, &dir.join("log.txt"))?;
    daemon.wait_for("listening on", LIMIT)?;
    Ok(daemon)
}

/// TCP (address, port) pairs the segment list declares.
fn open_ports(segment: &Path) -> crate::Result<BTreeSet<(String, String)>> {
    let list = glasshive_detect::Segment::parse(&std::fs::read_to_string(segment)?).map_err(anyhow::Error::msg)?;
    let open = list.open.iter().filter(|open| open.transport == "tcp");
    Ok(open.map(|open| (open.address.to_string(), open.port.to_string())).collect())
}

/// Completed handshakes (SYN, SYN-ACK, and the ACK that is no reset) to declared ports, by tshark alone.
fn handshakes(file: &Path, open: &BTreeSet<(String, String)>) -> crate::Result<usize> {
    let fields = ["tcp.stream", "ip.dst", "ipv6.dst", "tcp.dstport", "tcp.flags.syn", "tcp.flags.ack", "tcp.flags.reset"];
    let mut words = vec!["-Y", "tcp", "-T", "fields", "-E", "occurrence=f"];
    words.extend(fields.iter().flat_map(|field| ["-e", field]));
    // 0: SYN, 1: SYN-ACK, 2: complete.
    let mut streams: BTreeMap<String, (u8, String)> = BTreeMap::new();
    for line in tshark(file, &words)?.lines() {
        let values: Vec<&str> = line.split('\t').collect();
        let [stream, v4, v6, port, syn, ack, reset] = values[..] else { continue };
        let on = |flag: &str| matches!(flag, "1" | "True");
        let to = (if v4.is_empty() { v6 } else { v4 }.to_owned(), port.to_owned());
        let declared = open.contains(&to);
        match (on(syn), on(ack), on(reset)) {
            (true, false, false) if declared => {
                streams.entry(stream.to_owned()).or_insert((0, to.0));
            }
            (true, true, false) => {
                if let Some(entry) = streams.get_mut(stream).filter(|entry| entry.0 == 0) {
                    entry.0 = 1;
                }
            }
            (false, true, false) if declared => {
                if let Some(entry) = streams.get_mut(stream).filter(|entry| entry.0 == 1 && entry.1 == to.0) {
                    entry.0 = 2;
                }
            }
            _ => {}
        }
    }
    Ok(streams.values().filter(|(state, _)| *state == 2).count())
}

/// tshark prints a body as text or, in other versions, as hexadecimal.
fn hex_or_text(text: &str) -> String {
    let decoded = text.split_whitespace().filter_map(|word| {
        let digits: String = word.chars().filter(|c| *c != ':').collect();
        let bytes: Option<Vec<u8>> =
            (0..digits.len()).step_by(2).map(|at| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok())).collect();
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    });
    decoded.chain([text.to_owned()]).collect::<Vec<_>>().join("\n")
}

/// As `frame.time_epoch` takes it.
fn seconds(at: jiff::Timestamp) -> String {
    format!("{}.{:09}", at.as_second(), at.subsec_nanosecond())
}
