//! `glasshive-sensor read`: the real binary over files and standard input.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod build;

use build::*;
use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn read(arguments: &[&str], dir: &Path, input: Option<&[u8]>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glasshive-sensor"));
    command.env_clear().current_dir(dir).arg("read").args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    if let Some(input) = input {
        stdin.write_all(input).unwrap();
    }
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    std::str::from_utf8(&output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn pcap(packets: &[(i64, Vec<u8>)]) -> Vec<u8> {
    let mut out = [0xa1b2_3c4du32, 0x0004_0002, 0, 0, 262_144, 1].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    for (at, data) in packets {
        for word in [(at / SECOND) as u32, (at % SECOND) as u32, data.len() as u32, data.len() as u32] {
            out.extend(word.to_le_bytes());
        }
        out.extend(data);
    }
    out
}

fn visit() -> Vec<(i64, Vec<u8>)> {
    let mut talk = Talk::new(("10.0.0.1", 40_000), ("10.0.0.2", 80));
    talk.handshake().up(PSH | ACK, 101, 901, b"x").up(FIN | ACK, 102, 901, b"").down(FIN | ACK, 901, 103, b"").up(ACK, 103, 902, b"");
    let mut packets = talk.packets;
    packets.push((START + SECOND, eth(0x0800, &[0x43; 20])));
    packets.push((START + SECOND, udp(("10.0.0.1", 5), ("10.0.0.2", 9), b"y")));
    packets
}

#[test]
fn json_is_one_object_a_line_and_a_summary_last() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.pcap"), pcap(&visit())).unwrap();
    let all = lines(&read(&["--json", "--net", "lab", "a.pcap"], dir.path(), None));
    let of = |kind: &str| all.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    assert_eq!((of("flow").len(), of("malformed").len(), of("summary").len()), (2, 1, 1));
    let flow = of("flow").into_iter().find(|flow| flow["protocol"] == 6).unwrap();
    assert_eq!((&flow["state"], &flow["established"], flow["conn"].as_str().unwrap().len()), (&"SF".into(), &true.into(), 32));
    assert_eq!((&of("malformed")[0]["protocol"], &of("malformed")[0]["offset"]), (&"ipv4".into(), &14.into()));
    let facts: Vec<_> = of("observation").iter().map(|line| line["fact"].as_str().unwrap().to_owned()).collect();
    assert!(facts.starts_with(&["flow_opened".to_owned(), "established".to_owned()]), "{facts:?}");
    let summary = all.last().unwrap();
    let number = |name: &str| summary[name].as_u64().unwrap();
    assert_eq!((number("packets"), number("flows"), number("findings"), number("malformed")), (9, 2, 0, 1));
    assert_eq!((&summary["type"], summary["damage"].as_array().unwrap().len()), (&"summary".into(), 0));
    // Standard input gives the same.
    let input = read(&["--json", "--net", "lab", "-"], dir.path(), Some(&pcap(&visit())));
    assert_eq!(lines(&input), all);
}

/// One capture cut in two files anywhere is the one capture.
#[test]
fn several_files_are_read_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let packets = visit();
    std::fs::write(dir.path().join("all"), pcap(&packets)).unwrap();
    let mut whole = lines(&read(&["--json", "all"], dir.path(), None));
    whole.pop();
    for at in 0..packets.len() {
        std::fs::write(dir.path().join("one"), pcap(&packets[..at])).unwrap();
        std::fs::write(dir.path().join("two"), pcap(&packets[at..])).unwrap();
        let mut split = lines(&read(&["--json", "one", "two"], dir.path(), None));
        assert_eq!(split.pop().unwrap()["packets"], packets.len());
        assert_eq!(split, whole, "{at}");
    }
}

#[test]
fn the_table_fits_and_ends_with_a_summary() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = pcap(&visit());
    file.extend([0; 9]);
    std::fs::write(dir.path().join("a.pcap"), &file).unwrap();
    let output = read(&["a.pcap"], dir.path(), None);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    for part in ["SOURCE", "10.0.0.1:40000", "10.0.0.2:80", "SF", "9 packets, ", "2 flows, 0 findings", "1 packets break a protocol"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(
        text.ends_with(&format!("damage: a.pcap: cut-record at byte {}: the file ends within a record's header\n", file.len() - 9)),
        "{text}"
    );
}

#[test]
fn damage_is_told_and_the_next_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bad"), b"this is no capture at all").unwrap();
    std::fs::write(dir.path().join("empty"), b"").unwrap();
    std::fs::write(dir.path().join("good"), pcap(&visit())).unwrap();
    let all = lines(&read(&["--json", "bad", "empty", "good"], dir.path(), None));
    let summary = all.last().unwrap();
    assert_eq!(summary["packets"], 9);
    let damage: Vec<_> =
        summary["damage"].as_array().unwrap().iter().map(|one| (one["file"].as_str().unwrap(), one["kind"].as_str().unwrap())).collect();
    assert_eq!(damage, [("bad", "not-a-capture"), ("empty", "empty")]);
}

#[test]
fn faults_are_one_line_naming_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("good"), pcap(&visit())).unwrap();
    std::fs::write(dir.path().join("list"), "version = 9\n").unwrap();
    for (arguments, code, named) in [
        (&["good", "absent.pcap"][..], 1, "absent.pcap: No such file"),
        (&["--segment", "absent.toml", "good"], 1, "absent.toml: No such file"),
        (&["--segment", "list", "good"], 1, "list: version 9"),
    ] {
        let output = read(arguments, dir.path(), None);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.lines().count(), output.stdout.len()), (Some(code), 1, 0), "{text}");
        assert!(text.contains(named), "{text}");
    }
    assert_eq!(read(&[], dir.path(), None).status.code(), Some(2));
    std::fs::write(dir.path().join("list"), "version = 1\ndecoys = [\"10.0.0.2\"]\n").unwrap();
    assert_eq!(read(&["--segment", "list", "good"], dir.path(), None).status.code(), Some(0));
}
