//! Packet exports with real clients, a real capture and tshark as the reader: what an examiner gets,
//! opened without a single option. The sensor's place is taken by a node of this test that answers
//! CARVE from tcpdump's file, so that controller, link and decoys are tried by themselves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_event::{Endpoint, LogId, Timestamp, Tuple};
use glasshive_link::carve::CarveParts;
use glasshive_link::client::{self, ClientConfig};
use glasshive_link::frame::RefusedWhy;
use glasshive_link::identity::{IdentityDir, Token};
use glasshive_link::{
    BlobPart, Block, BlockSource, CarveError, CarveOut, CarveQuery, CarveSource, CarveStatement, Carver, LinkStatus, SourceClosed,
    SourceState, SystemClock,
};
use glasshive_pcapng::{Block as Pcapng, BlockReader, Encoder, Interface, OptionList, SectionHeader, link_type};
use glasshive_tests::lab::Lab;
use glasshive_tests::process::{command, run, run_ok, tcpdump, until};
use glasshive_tests::visitors::Visitor;
use glasshive_tests::world::{Dial, LIMIT, PERSONA, Plan, World};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// tcpdump's file as a ring.
struct Ring(PathBuf);

/// The packets of a pcap file as tcpdump writes it here (little-endian, microseconds).
fn pcap(path: &Path) -> Vec<(i64, Vec<u8>)> {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..4], &0xa1b2_c3d4u32.to_le_bytes());
    let (mut at, mut all) = (24, Vec::new());
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    while at + 16 <= bytes.len() && at + 16 + word(at + 8) as usize <= bytes.len() {
        let length = word(at + 8) as usize;
        let ns = i64::from(word(at)) * 1_000_000_000 + i64::from(word(at + 4)) * 1_000;
        all.push((ns, bytes[at + 16..at + 16 + length].to_vec()));
        at += 16 + length;
    }
    all
}

/// Ends of an Ethernet frame with IPv4 and TCP.
fn ends(frame: &[u8]) -> Option<Tuple> {
    if frame.get(12..14)? != [8, 0] || *frame.get(23)? != 6 {
        return None;
    }
    let ip = |at: usize| Some(IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?)));
    let port = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    Some(Tuple { source: Endpoint { ip: ip(26)?, port: port(34)? }, destination: Endpoint { ip: ip(30)?, port: port(36)? } })
}

impl CarveSource for Ring {
    fn carve(&self, query: &CarveQuery, out: &mut CarveOut) -> Result<CarveStatement, CarveError> {
        let mut blocks = Encoder::new();
        blocks.section_header(&SectionHeader::default());
        blocks.interface(&Interface::new(link_type::ETHERNET, "dcy0"));
        let mut statement = CarveStatement::default();
        for (ns, frame) in pcap(&self.0) {
            if ends(&frame).is_some_and(|ends| query.scope.matches(Timestamp(ns), Some(6), Some(ends))) {
                blocks.enhanced_packet(0, ns as u64, frame.len() as u32, &frame, &OptionList::new());
                statement.matched += 1;
                statement.exported += 1;
            }
        }
        out.write_all(&blocks.take())?;
        Ok(statement)
    }
}

/// A node without records.
struct Node(Carver);

impl BlockSource for Node {
    async fn state(&self) -> Result<SourceState, SourceClosed> {
        Ok(SourceState { log: LogId([9; 16]), first: 1, next: 1, chain: [0; 32] })
    }
    async fn changed(&self, _: u64) -> Result<(), SourceClosed> {
        std::future::pending().await
    }
    async fn read(&self, _: u64, _: usize) -> Result<Vec<Block>, SourceClosed> {
        Ok(Vec::new())
    }
    async fn acknowledged(&self, _: u64) -> Result<(), SourceClosed> {
        Ok(())
    }
    async fn blob(&self, _: &str, _: u64, _: u32) -> Result<Option<BlobPart>, SourceClosed> {
        Ok(None)
    }
    async fn carve(&self, query: CarveQuery) -> Result<Result<CarveParts, RefusedWhy>, SourceClosed> {
        Ok(self.0.start(query))
    }
}

/// The sensor's place, in the node's namespace; gone when dropped.
struct Sensor {
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sensor {
    fn start(world: &World, capture: &Path) -> Self {
        let out = world.cli(&["enroll", "sensor1", "--net", "alpha", "--role", "sensor", "--json"]).unwrap();
        let token: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
        let token: Token = token["token"].as_str().unwrap().parse().unwrap();
        let namespace = std::fs::File::open(format!("/run/netns/{}", world.lab.as_ref().unwrap().netns("n1"))).unwrap();
        let (dir, ring) = (IdentityDir::new(world.dir.join("sensor1/identity")), Ring(capture.to_owned()));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let network = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), network).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                client::join("10.99.0.1:7443", &token, &dir, Arc::new(SystemClock)).await.unwrap();
                let (status, _seen) = watch::channel(LinkStatus::default());
                let config = ClientConfig::new(dir, vec!["10.99.0.1:7443".into()]);
                client::run(config, Node(Carver::new(Arc::new(ring))), Arc::new(SystemClock), status, stopped).await;
            });
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn tshark(file: &Path, words: &[&str]) -> String {
    let mut tshark = command(["tshark"]);
    tshark.arg("-r").arg(file).args(words);
    run_ok(tshark, None, LIMIT).unwrap()
}

fn sha256(path: &Path) -> String {
    use sha2::Digest as _;
    glasshive_event::text::hex(&sha2::Sha256::digest(std::fs::read(path).unwrap()))
}

/// Time and bytes of each packet of an interface.
fn frames(path: &Path, of: u32) -> Vec<(i64, Vec<u8>)> {
    let bytes = std::fs::read(path).unwrap();
    let mut reader = BlockReader::new(bytes.as_slice());
    let (mut all, mut last) = (Vec::new(), 0);
    while let Some(block) = reader.next_block().unwrap() {
        if let Pcapng::Packet(packet) = block {
            let time = packet.time.unwrap() as i64;
            assert!(time >= last, "times decrease");
            last = time;
            if packet.interface == of {
                all.push((time, packet.data.to_vec()));
            }
        }
    }
    all
}

struct Visits {
    world: World,
    dir: tempfile::TempDir,
    capture: PathBuf,
    sessions: Vec<serde_json::Value>,
}

impl Visits {
    fn export(&self, session: &serde_json::Value, format: &str, to: &str) -> PathBuf {
        let to = self.dir.path().join(to);
        let id = session["session"].as_str().unwrap();
        self.world.cli(&["export", "session", id, "--format", format, "-o", &to.display().to_string(), "--reason", "a test"]).unwrap();
        to
    }

    fn of(&self, service: &str) -> Vec<&serde_json::Value> {
        self.sessions.iter().filter(|session| session["service"] == service && session["parent"].is_null()).collect()
    }
}

/// Two TLS versions, a command, a typed shell and two forwards, captured where a sensor would.
fn visits(with_sensor: bool) -> (Visits, Option<Sensor>) {
    assert!(Lab::possible(), "this scenario needs root and the programs of tests/install.sh test");
    let dir = tempfile::tempdir().unwrap();
    let nets = [("alpha", Dial::Node)];
    let world = World::start(&Plan { dir: &dir.path().join("world"), root: true, nets: &nets, persona: PERSONA, extra: "" }).unwrap();
    let capture = dir.path().join("capture.pcap");
    let recorder = world.lab.as_ref().unwrap().inside("n1", Path::new("tcpdump"));
    let mut tcpdump = tcpdump(recorder, "dcy0", &["--immediate-mode"], &capture).unwrap();
    let sensor = with_sensor.then(|| Sensor::start(&world, &capture));

    let visitor = Visitor::new(&world, 0);
    let decoy = visitor.decoy().unwrap();
    visitor.http(true, "/old-tls", &["--tls-max", "1.2", "-d", "field=twelve"]).unwrap();
    visitor.http(true, "/new-tls", &["--tlsv1.3", "-d", "field=thirteen"]).unwrap();
    visitor.ssh_exec("deploy", "Summer2026!", "uname -a; echo marker-of-exec", None).unwrap();
    visitor.ssh_interactive("deploy", "Summer2026!", &["echo typed-by-hand", "exit"]).unwrap();
    for (target, path) in [("web-1:80", "/through-a-name"), (format!("{decoy}:80").as_str(), "/through-an-address")] {
        let mut ssh = world.visitor(0, "sshpass").unwrap();
        ssh.args(["-p", "Summer2026!", "ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        ssh.args(["-o", "PreferredAuthentications=password", "-W", target]).arg(format!("deploy@{decoy}"));
        let request = format!("GET {path} HTTP/1.1\r\nHost: intranet\r\nConnection: close\r\n\r\n");
        let output = run(ssh, Some(request.as_bytes()), LIMIT).unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("HTTP/1.1 "), "{target}: {output:?}");
    }
    let sessions = world.wait_sessions(6, LIMIT).unwrap();
    // The last packets of the last connection are in the file.
    until("the capture", LIMIT, || {
        let all = pcap(&capture);
        let fins = all.iter().filter(|(_, frame)| ends(frame).is_some() && frame[47] & 1 != 0).count();
        (fins >= 12).then_some(())
    })
    .unwrap();
    tcpdump.stop(LIMIT);
    if with_sensor {
        until("the sensor", LIMIT, || {
            world.cli(&["nodes", "--json"]).ok()?.lines().any(|l| l.contains("sensor1") && l.contains("\"connected\":true")).then_some(())
        })
        .unwrap();
    }
    (Visits { world, dir, capture, sessions }, sensor)
}

#[test]
fn exports_open_in_tshark_without_options() {
    let (visits, _sensor) = visits(true);
    let captured = pcap(&visits.capture);
    for (index, session) in visits.of("https").into_iter().enumerate() {
        let out = visits.export(session, "decrypted", &format!("tls{index}"));
        // Frames are those of the capture, in both files.
        let port = session["source"]["port"].as_u64().unwrap();
        let own = |(_, frame): &&(i64, Vec<u8>)| {
            ends(frame).is_some_and(|e| u64::from(e.source.port) == port || u64::from(e.destination.port) == port)
        };
        let own: Vec<_> = captured.iter().filter(own).cloned().collect();
        assert!(own.len() > 8);
        assert_eq!(frames(&out.join("original.pcapng"), 0), own);
        assert_eq!(frames(&out.join("decrypted.pcapng"), 0), own);
        assert_eq!(tshark(&out.join("original.pcapng"), &["-Y", "http"]), "", "no keys in the original");
        let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap();
        for file in manifest["files"].as_array().unwrap() {
            assert_eq!(file["sha256"], sha256(&out.join(file["name"].as_str().unwrap())).as_str());
        }
        assert_eq!(manifest["captured"][0]["statement"]["exported"], own.len());
        let seen = tshark(
            &out.join("decrypted.pcapng"),
            &["-Y", "http.request", "-T", "fields", "-e", "http.request.uri", "-e", "http.file_data", "-e", "urlencoded-form.value"],
        );
        let (path, value) = if seen.contains("/old-tls") { ("/old-tls", "twelve") } else { ("/new-tls", "thirteen") };
        assert!(seen.contains(path) && seen.contains(value), "{seen}");
        let versions = tshark(
            &out.join("decrypted.pcapng"),
            &["-Y", "tls.handshake.type==2", "-T", "fields", "-e", "tls.handshake.extensions.supported_version"],
        );
        assert_eq!(versions.contains("0x0304"), path == "/new-tls", "{versions}");
        // The first packet says whose it is.
        let comment = tshark(&out.join("decrypted.pcapng"), &["-Y", "frame.number==1", "-T", "fields", "-e", "frame.comment"]);
        assert!(comment.contains(session["session"].as_str().unwrap()) && comment.contains("web-1"), "{comment}");
        // The same again, byte for byte, once no finding came in between.
        until("the same again", LIMIT, || {
            let pair = ["again-a", "again-b"].map(|to| {
                let _ = std::fs::remove_dir_all(visits.dir.path().join(to));
                let out = visits.export(session, "decrypted", to);
                let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap();
                (manifest["findings"].clone(), manifest["records"].clone(), sha256(&out.join("decrypted.pcapng")))
            });
            let [(findings, records, first), (again_findings, again_records, again)] = pair;
            (findings == again_findings && records == again_records).then(|| assert_eq!(first, again))
        })
        .unwrap();
        // The classic form has the frames and no keys.
        let classic = visits.export(session, "pcap", &format!("classic{index}"));
        assert_eq!(tshark(&classic.join("original.pcap"), &[]).lines().count(), own.len());
        assert_eq!(tshark(&classic.join("original.pcap"), &["-Y", "http"]), "");
    }
    let (mut typed, mut executed, mut forwarded) = (0, 0, 0);
    for (index, session) in visits.of("ssh").into_iter().enumerate() {
        let out = visits.export(session, "decrypted", &format!("ssh{index}"));
        let file = out.join("decrypted.pcapng");
        assert_eq!(frames(&file, 0), frames(&out.join("original.pcapng"), 0));
        assert_eq!(tshark(&file, &["-Y", "frame.interface_name == \"derived-plaintext\" && !frame.comment"]), "");
        let trouble = "frame.interface_name == \"derived-plaintext\" && (tcp.analysis.flags || tcp.checksum.status == 0 || ip.checksum.status == 0 || _ws.malformed)";
        assert_eq!(tshark(&file, &["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-Y", trouble]), "");
        let stream = tshark(&file, &["-Y", "frame.interface_name == \"derived-plaintext\"", "-T", "fields", "-e", "tcp.stream"]);
        let stream = stream.lines().next().unwrap().to_owned();
        let text = tshark(&file, &["-q", "-z", &format!("follow,tcp,ascii,{stream}")]);
        let comments = tshark(&file, &["-Y", "frame.comment contains \"command: \"", "-T", "fields", "-e", "frame.comment"]);
        let http =
            tshark(&file, &["-Y", "http.request", "-T", "fields", "-e", "ip.dst_host", "-e", "tcp.dstport", "-e", "http.request.uri"]);
        if text.contains("typed-by-hand") {
            assert!(comments.contains("command: echo typed-by-hand") && comments.contains("command: exit"), "{comments}");
            assert!(text.contains(&format!("{}:23", visits.world.nodes[0].decoy)), "{text}");
            typed += 1;
        } else if text.contains("marker-of-exec") {
            let first = tshark(&file, &["-Y", &format!("tcp.stream == {stream} && tcp.len > 0"), "-T", "fields", "-e", "frame.comment"]);
            assert!(first.lines().next().unwrap().contains("command: uname -a; echo marker-of-exec"), "{first}");
            executed += 1;
        } else {
            assert!(http.contains("/through-a"), "{http}\n{text}");
            if http.contains("/through-a-name") {
                let named = tshark(&file, &["-N", "n", "-Y", "http.request", "-T", "fields", "-e", "ip.dst_host", "-e", "ip.dst"]);
                assert!(named.contains("web-1") && named.contains("198.18.0.1"), "{named}");
            }
            forwarded += 1;
        }
    }
    assert_eq!((typed, executed, forwarded), (1, 1, 2));
    // A finding's id alone brings its packets, marked as what they show.
    let findings = until("a finding", LIMIT, || {
        let out = visits.world.cli(&["findings", "--json"]).ok()?;
        out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).find(|f| f["detector"] == "remote_service")
    });
    let finding = findings.unwrap()["finding"].as_str().unwrap().to_owned();
    let out = visits.dir.path().join("finding");
    let to = out.display().to_string();
    visits.world.cli(&["export", "finding", &finding, "--format", "decrypted", "-o", &to, "--reason", "a test"]).unwrap();
    let original = frames(&out.join("original.pcapng"), 0);
    assert!(!original.is_empty() && original.iter().all(|frame| captured.contains(frame)));
    assert_eq!(frames(&out.join("decrypted.pcapng"), 0), original);
    let comments =
        tshark(&out.join("decrypted.pcapng"), &["-Y", "frame.comment contains \"finding \"", "-T", "fields", "-e", "frame.comment"]);
    assert!(comments.contains(&finding) && comments.contains("remote_service"), "{comments}");
    // Keys and clear text are given for a reason only, and every time it is kept.
    let id = visits.of("https")[0]["session"].as_str().unwrap().to_owned();
    let to = visits.dir.path().join("none");
    let (code, _, said) =
        visits.world.cli_result(&["export", "session", &id, "--format", "decrypted", "-o", &to.display().to_string()]).unwrap();
    assert!(code == 4 && said.contains("--reason") && !to.exists(), "{code} {said}");
    let audits = visits.world.cli(&["tail", "--kind", "audit", "--json"]).unwrap();
    assert!(audits.contains("keys of session") && audits.contains("a test"), "{audits}");
}

#[test]
fn without_a_sensor_the_records_alone_are_woven_and_the_original_is_refused() {
    let (visits, _) = visits(false);
    let ssh = visits.of("ssh");
    let id = ssh[0]["session"].as_str().unwrap();
    let to = visits.dir.path().join("none");
    let (code, _, said) =
        visits.world.cli_result(&["export", "session", id, "--format", "pcapng", "-o", &to.display().to_string()]).unwrap();
    assert!(code == 3 && said.contains("net alpha has no sensor") && said.trim().lines().count() == 1 && !to.exists(), "{code} {said}");
    for (index, session) in ssh.into_iter().enumerate() {
        let out = visits.export(session, "decrypted", &format!("alone{index}"));
        assert!(!out.join("original.pcapng").exists());
        let comments = tshark(&out.join("decrypted.pcapng"), &["-T", "fields", "-e", "frame.comment"]);
        assert!(comments.lines().count() > 6 && comments.lines().all(|line| line.contains("derived from records")), "{comments}");
        let manifest = std::fs::read_to_string(out.join("manifest.json")).unwrap();
        assert!(manifest.contains("net alpha has no sensor"), "{manifest}");
    }
}
