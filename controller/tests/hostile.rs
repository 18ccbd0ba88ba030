//! Whatever a visitor sends, through every command, as table and as JSON: nothing may act on the
//! terminal that shows it, and JSON still means the bytes that were sent.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use common::{Hive, Node, at, closed, envelope, login, stream, uploaded};
use glasshive_event::detail::{Command, Forward, Hello, Loss, Malformed, Request, SessionOpen};
use glasshive_event::{Kind, WireText};

const HOSTILE: &[&[u8]] = &[
    b"\x1b[2J\x1b]0;owned\x07\x1b[6n\r\n\x08\x00=cmd()",
    "\u{202e}gnp.exe\u{200b}\u{9b}31m\u{2028}\u{e0041}<script>alert(1)</script>".as_bytes(),
    b"\xff\xfe\x1b[8mhidden",
    b"-rf --json '; reboot; `id` $(id) %s%n",
];

/// Bytes a terminal would act on, and characters that deceive.
fn inert(text: &str) -> Result<(), String> {
    for line in text.lines() {
        for c in line.chars() {
            let deceptive =
                matches!(u32::from(c), 0x80..=0x9f | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xe0000..=0xe0fff | 0xfeff);
            if c.is_control() || deceptive {
                return Err(format!("{c:?} in {line:?}"));
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bytes_are_inert_in_every_command() {
    let mut hive = Hive::new().await;
    let mut node = Node::new("edge-1", 1);
    let sealer = hive.sealer();
    let mut ids = Vec::new();
    let mut findings = Vec::new();
    for (index, bytes) in HOSTILE.iter().enumerate() {
        let n = index as u8 + 1;
        let text = String::from_utf8_lossy(bytes).into_owned();
        let wire = || WireText::from_bytes(bytes);
        let mut open = envelope(n, "ssh");
        // A node under an adversary controls these too.
        open.decoy = Some(text.clone());
        open.service = Some(text.clone());
        ids.push(open.session.unwrap());
        node.add(
            at(n, 0),
            Kind::SessionOpen,
            &open,
            &SessionOpen { persona: text.clone(), target: Some(text.clone()), ..SessionOpen::default() },
        );
        let hello = Hello {
            protocol: text.clone(),
            id: Some(wire()),
            sni: Some(wire()),
            hassh: Some(text.clone()),
            ja3: Some(text.clone()),
            ..Hello::default()
        };
        node.add(at(n, 1), Kind::Hello, &open, &hello);
        node.add(at(n, 2), Kind::Login, &open, &login(&sealer, wire(), bytes, true));
        node.add(at(n, 3), Kind::Command, &open, &Command { input: wire(), exit: Some(-1), ..Command::default() });
        let mut fields = serde_json::Map::new();
        fields.insert("host".into(), serde_json::json!(text));
        fields.insert("body".into(), serde_json::to_value(wire()).unwrap());
        let request = Request { protocol: "http".into(), verb: wire(), target: wire(), status: Some(text.clone()), fields };
        node.add(at(n, 4), Kind::Request, &open, &request);
        node.add(at(n, 5), Kind::Stream, &open, &stream(0, "in", 0, false, &[(0, bytes)]));
        node.add(at(n, 6), Kind::Stream, &open, &stream(1, "out", 0, true, &[(0, bytes)]));
        let mut file = uploaded(&sealer, "", bytes);
        file.name = wire();
        file.magic.clone_from(&text);
        node.add(at(n, 7), Kind::File, &open, &file);
        node.add(
            at(n, 8),
            Kind::Forward,
            &open,
            &Forward { host: wire(), mechanism: text.clone(), originator: Some(text.clone()), ..Forward::default() },
        );
        let malformed = Malformed {
            protocol: text.clone(),
            what: text.clone(),
            bytes: glasshive_event::text::hex(bytes),
            looks_like: Some(text.clone()),
            offset: 0,
        };
        node.add(at(n, 9), Kind::Malformed, &open, &malformed);
        node.add(at(n, 10), Kind::Loss, &open, &Loss { place: text.clone(), count: 1, bytes: 1, why: text.clone(), ..Loss::default() });
        // What a sensor says is what it read off the wire, or what an adversary on it likes.
        let ends = open.wire.unwrap();
        let flow = serde_json::json!({"flow": glasshive_event::FlowId([n; 16]), "first": at(n, 0), "last": at(n, 9), "protocol": 6,
            "wire": ends, "state": text, "community_id": text, "application": {"protocol": text, "sni": wire()}, "layers": [text]});
        node.add(at(n, 10), Kind::Flow, &open, &flow);
        let id = glasshive_event::FindingId([n; 16]);
        findings.push(id);
        let finding = serde_json::json!({"finding": id, "detector": text, "version": 1, "at": at(n, 10), "first": at(n, 1), "key": text,
            "severity": "high", "techniques": [text, "T1021"], "use_cases": [text], "actor": "192.0.2.7", "summary": text,
            "evidence": [{"metric": text, "value": 1e300, "threshold": 0.25, "samples": [text]}],
            "sessions": [open.session], "flows": [glasshive_event::FlowId([n; 16])]});
        node.add(at(n, 10), Kind::Finding, &Default::default(), &finding);
        let (end, mut close) = closed(n, 1);
        close.reason.clone_from(&text);
        close.error = Some(text);
        node.add(end, Kind::SessionClose, &open, &close);
    }
    node.send(&hive).await;

    let long_ago = "2026-01-01T00:00:00Z";
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut add = |words: &[&str]| lines.push(words.iter().map(|word| (*word).to_owned()).collect());
    for words in [
        &["sessions"][..],
        &["credentials", "--since", long_ago],
        &["credentials", "--since", long_ago, "--reveal", "--reason", "test"],
        &["files"],
        &["nodes"],
        &["findings"],
        &["findings", "--technique", "T1021"],
        &["sessions", "--probes"],
        &["doctor"],
        &["stats", "--by", "service", "--since", long_ago],
        &["stats", "--by", "hour", "--since", long_ago],
        &["stats", "--by", "source", "--since", long_ago],
        &["stats", "--by", "user", "--since", long_ago],
        &["stats", "--by", "net", "--since", long_ago],
        &["tail", "--since", long_ago, "--limit", "1000"],
        &[""],
    ] {
        add(words);
    }
    for id in &ids {
        let id = id.to_string();
        add(&["session", &id]);
        add(&["session", &id, "--reveal", "--reason", "test"]);
        add(&["replay", &id]);
        add(&["replay", &id, "--channel", "0"]);
        add(&["session", &format!("{id}\x1b[2J")]);
        add(&["revoke", "\x1b[2J", "--reason", "x"]);
        add(&["enroll", "a", "--net", "\x1b[2J\u{202e}", "--role", "decoys"]);
    }
    for id in &findings {
        let id = id.to_string();
        lines.push(vec!["finding".into(), id.clone()]);
        lines.push(vec!["finding".into(), format!("{id}\x1b[2J")]);
    }
    for words in &lines {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        for json in [false, true] {
            let mut words = words.clone();
            if json {
                words.push("--json");
            }
            let said = hive.run_words(&words).await;
            for text in [&said.out, &said.err] {
                inert(text).unwrap_or_else(|why| panic!("{words:?}: {why}"));
            }
            if json && said.code == 0 {
                for line in said.out.lines() {
                    serde_json::from_str::<serde_json::Value>(line).unwrap();
                }
            }
        }
    }

    // Inert, and still the bytes that were sent.
    let users = hive.run(&format!("stats --by user --since {long_ago} --json")).await.objects();
    for bytes in HOSTILE {
        let wanted = serde_json::to_value(WireText::from_bytes(bytes)).unwrap();
        assert!(users.iter().any(|row| row["user"] == wanted), "{wanted}");
    }

    let told = hive.run("findings --json").await.objects();
    for bytes in HOSTILE {
        let wanted = serde_json::json!(String::from_utf8_lossy(bytes));
        assert!(told.iter().any(|row| row["summary"] == wanted), "{wanted}");
    }
    assert_eq!(hive.run(&format!("finding {}", findings[0])).await.code, 0);

    // Exports: no formula in a cell, names of ours only, records whole.
    for (index, id) in ids.iter().enumerate() {
        for format in ["csv", "jsonl", "cast", "files"] {
            let dir = hive.path(&format!("{format}-{index}"));
            hive.run_words(&["export", "session", &id.to_string(), "--format", format, "-o", dir.to_str().unwrap()]).await.ok();
            for entry in std::fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)), "{name}");
                if format == "csv" && name.ends_with(".csv") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    inert(&text).unwrap();
                    assert!(!text.split("\",\"").any(|cell| cell.trim_start().starts_with(['=', '+', '-', '@'])), "{text}");
                }
                if name.ends_with(".jsonl") || name == "manifest.json" {
                    inert(&std::fs::read_to_string(&path).unwrap()).unwrap_or_else(|why| panic!("{name}: {why}"));
                }
                if format == "files" && name.len() == 64 {
                    assert_eq!(std::fs::read(&path).unwrap(), HOSTILE[index]);
                }
            }
        }
    }
    hive.stop().await;
}
