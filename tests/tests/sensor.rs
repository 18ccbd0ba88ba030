//! The sensor as a real daemon on real interfaces in namespaces, beside tcpdump. Needs root and the
//! programs of `tests/install.sh test`. One scenario at a time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_event::Kind;
use glasshive_tests::lab::Lab;
use glasshive_tests::process::{command, pause, run_ok, tcpdump, until};
use glasshive_tests::sensor::{Packet, SensorLab, numbers, pcap, pcapng};
use glasshive_tests::world::LIMIT;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    assert!(Lab::possible(), "this scenario needs root and the programs of tests/install.sh test");
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says so when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn number(name: &str) -> Option<u32> {
    std::env::var(name).ok()?.parse().ok()
}

fn ring(sensor: &SensorLab) -> Vec<serde_json::Value> {
    let out = String::from_utf8(sensor.ask(&["ring", "--json"]).unwrap()).unwrap();
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn used(dir: &Path) -> u64 {
    std::fs::read_dir(dir).map_or(0, |entries| entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum())
}

fn bytes(packets: &[Packet]) -> u64 {
    packets.iter().map(|(_, data, _)| data.len() as u64).sum()
}

/// Waits until the ring holds the packet with that number.
fn wait_for(sensor: &SensorLab, number: u32) {
    let filter = format!("udp dst port 9 and udp[8:4] = {number}");
    until("the packet in the ring", LIMIT, || (!sensor.carve(&["--bpf", &filter]).ok()?.is_empty()).then_some(())).unwrap();
}

/// What was sent is in the ring, frame for frame what tcpdump has: small and large, tagged once and
/// twice, and frames of 64 KB that the sender's stack left uncut.
#[test]
fn every_packet_is_kept_as_tcpdump_keeps_it() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let mut sensor = SensorLab::new(dir.path(), "").unwrap();
    sensor.start().unwrap();
    let file = dir.path().join("tcpdump.pcap");
    let mut tcpdump = tcpdump(sensor.lab.inside("b", Path::new("tcpdump")), "eth0", &["--nano"], &file).unwrap();
    // Both must be there before what is compared begins.
    sensor.send(0..1, |_| 0).unwrap();
    wait_for(&sensor, 0);
    until("tcpdump", LIMIT, || (!numbers(&pcap(&std::fs::read(&file).ok()?).ok()?).is_empty()).then_some(())).unwrap();
    sensor.send(1..20_000, |number| (number as usize * 37) % 1400).unwrap();
    // Tagged frames, as no host here makes them: once, twice (802.1ad outside), priority only.
    let sent: Vec<Vec<u8>> = (0..300u32).map(tagged).collect();
    let frames_file = dir.path().join("tagged.pcap");
    std::fs::write(&frames_file, classic(&sent)).unwrap();
    let mut replay = sensor.lab.inside("a", Path::new("tcpreplay"));
    replay.args(["-q", "-i", "eth0", "--topspeed"]).arg(&frames_file);
    run_ok(replay, None, LIMIT).unwrap();
    let listener = sensor.lab.enter("b", || Ok(std::net::TcpListener::bind("10.77.0.2:80")?)).unwrap();
    const BULK: usize = 8 << 20;
    std::thread::scope(|scope| {
        let sink = scope.spawn(|| {
            let mut all = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut all).unwrap();
            all.len()
        });
        sensor.lab.enter("a", || Ok(std::net::TcpStream::connect("10.77.0.2:80")?.write_all(&vec![7; BULK])?)).unwrap();
        assert_eq!(sink.join().unwrap(), BULK);
    });
    sensor.send(20_000..20_001, |_| 0).unwrap();
    wait_for(&sensor, 20_000);
    until("tcpdump's last packet", LIMIT, || numbers(&pcap(&std::fs::read(&file).ok()?).ok()?).contains(&20_000).then_some(())).unwrap();
    sensor.stop().unwrap();
    tcpdump.stop(LIMIT);
    let said = tcpdump.output();
    assert!(said.contains("0 packets dropped by kernel"), "{said}");
    let (ours, theirs) = (sensor.carve(&[]).unwrap(), pcap(&std::fs::read(&file).unwrap()).unwrap());
    assert_eq!(numbers(&ours), (0..=20_000).collect::<Vec<_>>());
    // From the first packet both have to the last.
    let within = |packets: &[Packet]| {
        let place = |number: u32| packets.iter().position(|packet| numbers(std::slice::from_ref(packet)) == [number]).unwrap();
        packets[place(0)..=place(20_000)].to_vec()
    };
    let (mut ours, mut theirs) = (within(&ours), within(&theirs));
    assert_eq!((ours.len(), bytes(&ours)), (theirs.len(), bytes(&theirs)));
    println!("{} packets, {} bytes, as tcpdump has", ours.len(), bytes(&ours));
    assert!(ours.iter().is_sorted_by_key(|(at, _, _)| *at));
    assert!(ours.iter().all(|(_, data, length)| data.len() == *length as usize), "a frame was cut");
    let got: Vec<&Vec<u8>> =
        ours.iter().map(|(_, data, _)| data).filter(|data| data[12..14] != [8, 0] && data[6..12] == sent[0][6..12]).collect();
    assert!(got.iter().copied().eq(&sent), "tagged frames are not what was sent: {} of {}", got.len(), sent.len());
    assert!(ours.iter().any(|(_, data, _)| data.len() > 60_000), "no frame of 64 KB was seen: this lab cannot show that they are kept");
    for packets in [&mut ours, &mut theirs] {
        packets.sort();
    }
    let frames = |packets: &[Packet]| packets.iter().map(|(_, data, _)| data.clone()).collect::<std::collections::BTreeSet<_>>();
    assert!(frames(&ours) == frames(&theirs), "a frame differs from tcpdump's");
    let segments = ring(&sensor);
    assert!(segments.iter().all(|segment| segment["state"] == "complete" && segment["dropped"] == 0), "{segments:?}");
    let verified = sensor.ask(&["ring", "verify"]).unwrap();
    assert!(String::from_utf8(verified).unwrap().contains("segments verified"));
    // The journal: start, heartbeats, the segment's hash, the flow, stop; no loss.
    let records = sensor.records().unwrap();
    let of = |kind: Kind| records.iter().filter(move |(found, _)| *found == Some(kind)).map(|(_, detail)| detail);
    let health: Vec<_> = of(Kind::Health).map(|detail| detail["what"].as_str().unwrap().to_owned()).collect();
    for what in ["start", "heartbeat", "segment", "stop"] {
        assert!(health.iter().any(|found| found == what), "no {what} in {health:?}");
    }
    let hash = of(Kind::Health).find(|detail| detail["what"] == "segment").unwrap()["fields"]["sha256"].clone();
    assert_eq!(hash, segments[0]["sha256"]);
    assert_eq!(of(Kind::Loss).collect::<Vec<_>>(), Vec::<&serde_json::Value>::new());
    let last = of(Kind::Flow).rfind(|flow| flow["wire"]["source"] == serde_json::json!({"ip": "10.77.0.1", "port": 4000})).unwrap();
    assert_eq!(last["sent"]["packets"], 20_001, "{last}");
    // By index: one flow, and within tags.
    assert_eq!(
        sensor.carve(&["--flow", "udp:10.77.0.1:4000-10.77.0.2:9"]).unwrap().len(),
        numbers(&sensor.carve(&[]).unwrap()).len() + icmp(&sensor)
    );
    assert_eq!(sensor.carve(&["--host", "10.88.0.1", "--proto", "udp", "--bpf", "vlan and vlan and udp"]).unwrap().len(), 100);
    assert_eq!(sensor.carve(&["--host", "10.88.0.1"]).unwrap().len(), 300);
}

/// A UDP frame with one tag, two, or an empty one.
fn tagged(number: u32) -> Vec<u8> {
    let tags: &[u8] = match number % 3 {
        0 => &[0x81, 0, 0, 5],
        1 => &[0x88, 0xa8, 0, 7, 0x81, 0, 0x20, 8],
        _ => &[0x81, 0, 0xa0, 0],
    };
    let mut frame = [&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8][..], tags, &[8, 0, 0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0]].concat();
    frame.extend([10, 88, 0, 1, 10, 88, 0, 2, 0x0f, 0xa0, 0, 9, 0, 26, 0, 0]);
    frame.extend(number.to_be_bytes());
    frame.extend([0x5a; 14]);
    frame
}

/// A capture file of frames, as tcpreplay reads it.
fn classic(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file: Vec<u8> = [0xa1b2_c3d4u32, 4 << 16 | 2, 0, 0, 262_144, 1].iter().flat_map(|word| word.to_le_bytes()).collect();
    for (at, frame) in frames.iter().enumerate() {
        let length = frame.len() as u32;
        file.extend([0, at as u32, length, length].iter().flat_map(|word| word.to_le_bytes()));
        file.extend(frame);
    }
    file
}

/// ICMP errors that quote a packet of the numbered flow.
fn icmp(sensor: &SensorLab) -> usize {
    sensor.carve(&["--bpf", "icmp and icmp[28:4] = 0x0fa00009"]).unwrap().len()
}

/// One packet on a quiet link can be exported at once, without anything behind it; an idle sensor stays up and ends when told to.
#[test]
fn a_single_packet_can_be_had_at_once() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let mut sensor = SensorLab::new(dir.path(), "").unwrap();
    sensor.start().unwrap();
    for number in [5, 6] {
        sensor.send(number..number + 1, |_| 10).unwrap();
        let sent = std::time::Instant::now();
        wait_for(&sensor, number);
        println!("packet {number}: in an export {} ms after it was sent", sent.elapsed().as_millis());
    }
    let out = dir.path().join("one.pcapng");
    let said = sensor.ask(&["carve", "--since", "1h", "--port", "9", "--json", "--out", out.to_str().unwrap()]).unwrap();
    let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(numbers(&pcapng(&std::fs::read(&out).unwrap()).unwrap()), [5, 6]);
    assert_eq!(said["statement"]["segments"][0]["complete"], false, "{said}");
    assert!(sensor.daemon.as_mut().unwrap().alive());
    let asked = std::time::Instant::now();
    sensor.stop().unwrap();
    println!("an idle sensor ended {} ms after it was told to", asked.elapsed().as_millis());
    let said = std::fs::read_to_string(dir.path().join("log.txt")).unwrap();
    assert!(!said.contains("ERROR") && !said.contains("WARN"), "{said}");
}

/// Carving beside a running capture: never a malformed block, never a hole.
#[test]
fn carving_beside_a_capture_is_always_whole() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let mut sensor = SensorLab::new(dir.path(), "[ring]\nquota = \"256 MiB\"\nsegment = \"4 MiB\"\n").unwrap();
    sensor.start().unwrap();
    let (done, sent, carved) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    // The full number is 1000.
    let rounds = number("GLASSHIVE_KILLS").map_or(30, |kills| kills * 20);
    // Packets a round at most: together they stay below the quota, which has a test of its own.
    let pace = (200_000 / rounds).min(5_000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                let next = sent.load(Relaxed);
                if next >= (carved.load(Relaxed) + 1) * pace {
                    pause();
                    continue;
                }
                sensor.send(next..next + 100, |number| (number as usize * 13) % 1200).unwrap();
                sent.store(next + 100, Relaxed);
                pause();
            }
        });
        // Also when an assertion fails: the sender would go on for ever.
        let _over = Over(&done);
        let mut most = 0;
        for round in 0..rounds {
            let filter = if round % 2 == 0 { &["--proto", "udp", "--host", "10.77.0.1"][..] } else { &[] };
            let found = numbers(&sensor.carve(filter).unwrap());
            assert!(
                found.iter().copied().eq(0..found.len() as u32),
                "round {round}: {} packets, the first {:?}",
                found.len(),
                found.first()
            );
            assert!(found.len() >= most, "packets that were there are gone");
            most = found.len();
            carved.store(round + 1, Relaxed);
        }
        println!("{rounds} carves, the last of {most} packets");
    });
    wait_for(&sensor, sent.load(Relaxed) - 1);
    sensor.stop().unwrap();
    assert_eq!(numbers(&sensor.carve(&[]).unwrap()).len(), sent.load(Relaxed) as usize);
}

/// Killed while packets come, again and again: whole packets stay, leftovers do not, and the journal goes on.
#[test]
fn a_kill_costs_nothing_that_was_written() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let mut sensor = SensorLab::new(dir.path(), "[ring]\nsegment = \"4 MiB\"\n").unwrap();
    let mut next = 0;
    let kills = number("GLASSHIVE_KILLS").unwrap_or(5);
    for _ in 0..kills {
        sensor.start().unwrap();
        sensor.send(next..next + 4_000, |number| (number as usize * 7) % 1300).unwrap();
        wait_for(&sensor, next + 2_000);
        let before = numbers(&sensor.carve(&[]).unwrap());
        let mut daemon = sensor.daemon.take().unwrap();
        daemon.kill();
        let after = numbers(&sensor.carve(&[]).unwrap());
        assert!(after.starts_with(&before) && after.is_sorted());
        next += 4_000;
    }
    let before = numbers(&sensor.carve(&[]).unwrap());
    sensor.start().unwrap();
    until("the ring to be read through", LIMIT, || ring(&sensor).iter().all(|segment| segment["state"] == "complete").then_some(()))
        .unwrap();
    assert_eq!(numbers(&sensor.carve(&[]).unwrap()), before, "the start changed what was kept");
    sensor.send(next..next + 10, |_| 0).unwrap();
    wait_for(&sensor, next + 9);
    sensor.stop().unwrap();
    sensor.ask(&["ring", "verify"]).unwrap();
    let stray: Vec<_> = std::fs::read_dir(dir.path().join("state/ring")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(stray.iter().all(|name| !name.to_string_lossy().starts_with('.') && !name.to_string_lossy().ends_with(".tmp")), "{stray:?}");
}

/// The quota is kept to within one segment while packets come, and the oldest go first.
#[test]
fn the_quota_is_kept() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let mut sensor = SensorLab::new(dir.path(), "[ring]\nquota = \"32 MiB\"\n").unwrap();
    sensor.start().unwrap();
    let ring_dir = dir.path().join("state/ring");
    let mut most = 0;
    for part in 0..30u32 {
        sensor.send(part * 2_000..(part + 1) * 2_000, |_| 1_400).unwrap();
        most = most.max(used(&ring_dir));
    }
    wait_for(&sensor, 59_999);
    sensor.stop().unwrap();
    assert!(most <= 36 << 20 && used(&ring_dir) <= 36 << 20, "{most}");
    let found = numbers(&sensor.carve(&[]).unwrap());
    assert_eq!((found.last(), found.len() as u32), (Some(&59_999), 60_000 - found[0]), "a hole, or not the oldest went");
    assert!(found.len() > 10_000, "far more than needed was deleted: {} left", found.len());
    let said: serde_json::Value =
        serde_json::from_slice(&sensor.ask(&["carve", "--json", "--out", dir.path().join("x").to_str().unwrap()]).unwrap()).unwrap();
    assert_eq!(said["statement"]["purged"].as_array().unwrap().len(), 1, "{said}");
}

/// A file system full of other things: the sensor goes on, counts what it cannot keep, and keeps again when there is room.
#[test]
fn a_full_disk_ends_nothing() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    run_ok(command(["mount", "-t", "tmpfs", "-o", "size=64m", "none", state.to_str().unwrap()]), None, LIMIT).unwrap();
    let mounted = Mounted(state.clone());
    let mut sensor = SensorLab::new(dir.path(), "").unwrap();
    sensor.start().unwrap();
    sensor.send(0..100, |_| 100).unwrap();
    wait_for(&sensor, 99);
    let filler = state.join("filler");
    let fill = |bytes: usize| {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&filler).unwrap();
        let mut done = 0;
        while done < bytes && file.write_all(&[0; 65_536]).is_ok() {
            done += 65_536;
        }
    };
    fill(usize::MAX);
    sensor.send(100..5_000, |_| 1_200).unwrap();
    let log = || std::fs::read_to_string(dir.path().join("log.txt")).unwrap();
    until("the loss to be told", LIMIT, || log().contains("packets cannot be kept").then_some(())).unwrap();
    assert!(sensor.daemon.as_mut().unwrap().alive());
    std::fs::remove_file(&filler).unwrap();
    until("packets to be kept again", LIMIT, || {
        sensor.send(5_000..5_001, |_| 0).unwrap();
        (!sensor.carve(&["--bpf", "udp[8:4] = 5000"]).ok()?.is_empty()).then_some(())
    })
    .unwrap();
    until("the loss in the ring's account", LIMIT, || {
        let text = std::fs::read_to_string(state.join("ring/losses.jsonl")).ok()?;
        text.lines().any(|line| line.contains("\"ring\"")).then_some(())
    })
    .unwrap();
    sensor.stop().unwrap();
    let out = dir.path().join("x");
    let said: serde_json::Value =
        serde_json::from_slice(&sensor.ask(&["carve", "--json", "--out", out.to_str().unwrap()]).unwrap()).unwrap();
    let lost: u64 = said["statement"]["lost"].as_array().unwrap().iter().filter_map(|lost| lost["packets"].as_u64()).sum();
    let kept = numbers(&pcapng(&std::fs::read(&out).unwrap()).unwrap());
    let unique: std::collections::BTreeSet<_> = kept.iter().filter(|number| **number < 5_000).collect();
    println!("full disk: {} of 5000 kept, {lost} said to be lost", unique.len());
    // Answers of `b` (port unreachable) are lost too, so at least what is missing is counted.
    assert!(lost >= 5_000 - unique.len() as u64, "{said}");
    sensor.ask(&["ring", "verify"]).unwrap();
    drop(sensor);
    drop(mounted);
}

/// What the kernel had no room for is counted: what was sent is what is kept and what is said to be lost.
#[test]
fn losses_are_what_is_missing() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let mut sensor = SensorLab::new(dir.path(), "[capture]\nring = \"16 MiB\"\n").unwrap();
    // Somebody takes the packets, so that nothing is answered.
    let _taker = sensor.lab.enter("b", || Ok(std::net::UdpSocket::bind("10.77.0.2:9")?)).unwrap();
    sensor.start().unwrap();
    sensor.send(0..1, |_| 0).unwrap();
    wait_for(&sensor, 0);
    // Stopped in the middle, as by a host that has no time for it.
    sensor.daemon.as_ref().unwrap().signal(19);
    sensor.send(1..40_000, |_| 1_300).unwrap();
    sensor.daemon.as_ref().unwrap().signal(18);
    // What comes then is kept.
    until("packets to be kept again", LIMIT, || {
        sensor.send(40_000..40_001, |_| 0).unwrap();
        (!sensor.carve(&["--bpf", "udp[8:4] = 40000"]).ok()?.is_empty()).then_some(())
    })
    .unwrap();
    sensor.stop().unwrap();
    let out = dir.path().join("x");
    let said: serde_json::Value =
        serde_json::from_slice(&sensor.ask(&["carve", "--json", "--out", out.to_str().unwrap()]).unwrap()).unwrap();
    let lost: u64 = said["statement"]["lost"].as_array().unwrap().iter().filter_map(|lost| lost["packets"].as_u64()).sum();
    let kept = numbers(&pcapng(&std::fs::read(&out).unwrap()).unwrap()).into_iter().filter(|number| *number < 40_000).count() as u64;
    println!("{kept} kept, {lost} said to be lost of 40000");
    // An ARP packet or one of the last kind may be among the lost.
    let missing = 40_000 - kept;
    assert!(missing > 0 && (missing..missing + 20).contains(&lost), "{missing} missing: {said}");
    let records = sensor.records().unwrap();
    let told: Vec<_> = records.iter().filter(|(kind, _)| *kind == Some(Kind::Loss)).map(|(_, detail)| detail).collect();
    assert_eq!(told.iter().filter(|loss| loss["place"] == "capture_kernel").filter_map(|loss| loss["count"].as_u64()).sum::<u64>(), lost);
    assert!(told.iter().all(|loss| loss["since"].is_i64() && loss["until"].is_i64() && loss["why"].is_string()), "{told:?}");
    let dropped: u64 = ring(&sensor).iter().filter_map(|segment| segment["dropped"].as_u64()).sum();
    assert_eq!(dropped, lost);
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = run_ok(command(["umount", "-l", self.0.to_str().unwrap()]), None, LIMIT);
    }
}
