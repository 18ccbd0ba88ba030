//! Every command against a controller that serves, as an analyst would type them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::{Hive, Node, at, closed, envelope, login, ssh_visit, uploaded};
use glasshive_event::Kind;
use glasshive_event::detail::{Loss, Request, SessionOpen};
use glasshive_event::text::hex;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Compares with `tests/data/NAME`; `GLASSHIVE_TEST_BLESS=1` writes it anew.
#[track_caller]
fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    if std::env::var_os("GLASSHIVE_TEST_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "{name}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{name}: {} columns: {line}", line.chars().count());
    }
}

/// Puts fixed words where a run's own are: pivots are keyed anew each time.
fn stable(hive: &Hive, text: &str) -> String {
    use glasshive_link::seal::Sealer as _;
    let sealer = hive.sealer();
    let mut text = text.to_owned();
    for (secret, word) in [(&b"123456"[..], "a1"), (b"hunter2", "b2")] {
        let pivot = sealer.pivot(secret);
        text = text.replace(&pivot, &word.repeat(16)).replace(&pivot[..12], &word.repeat(6));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyst_sees_who_came_and_what_they_did() {
    let mut hive = Hive::new().await;
    let mut node = Node::new("edge-1", 1);
    let id = ssh_visit(&hive, &mut node, 1).await;
    let open = envelope(2, "http");
    node.add(at(2, 0), Kind::SessionOpen, &open, &SessionOpen::default());
    let request =
        Request { protocol: "http".into(), verb: "GET".into(), target: "/.env".into(), status: Some("404".into()), ..Request::default() };
    node.add(at(2, 20), Kind::Request, &open, &request);
    let (end, close) = closed(2, 1);
    node.add(end, Kind::SessionClose, &open, &close);
    let loss = Loss { place: "udp_queue".into(), count: 3, bytes: 120, why: "queue full".into(), ..Loss::default() };
    node.add(at(3, 0), Kind::Loss, &Default::default(), &loss);
    node.send(&hive).await;

    let sessions = hive.run("sessions").await.ok();
    golden("sessions.txt", &sessions);
    golden("session.txt", &stable(&hive, &hive.run(&format!("session {}", id.short())).await.ok()));
    // Equally frequent secrets stand in the order of their pivots, which are keyed anew each time.
    let mut credentials: Vec<String> =
        stable(&hive, &hive.run("credentials --since 2026-01-01T00:00:00Z").await.ok()).lines().map(str::to_owned).collect();
    credentials.sort_by_key(|line| (!line.starts_with("USER"), line.clone()));
    golden("credentials.txt", &format!("{}\n", credentials.join("\n")));
    golden("files.txt", &hive.run("files").await.ok());
    golden("stats-service.txt", &hive.run("stats --since 2026-01-01T00:00:00Z").await.ok());
    golden("stats-hour.txt", &hive.run("stats --by hour --since 2026-01-01T00:00:00Z").await.ok());
    golden("stats-source.txt", &hive.run("stats --by source --since 2026-01-01T00:00:00Z").await.ok());
    golden("stats-user.txt", &hive.run("stats --by user --since 2026-01-01T00:00:00Z").await.ok());
    golden("replay.txt", &hive.run(&format!("replay {}", id.short())).await.ok());
    golden("events.txt", &hive.run("events").await.ok());
    let tail = hive.run("tail --since 2026-01-01T00:00:00Z --until 2026-02-01T00:00:00Z --kind login,command,loss").await.ok();
    assert_eq!(tail.lines().count(), 4, "{tail}");
    assert!(tail.contains("3 lost at udp_queue"), "{tail}");

    // JSON of the same: words of the design, one object a line.
    let rows = hive.run("sessions --json --service ssh").await.objects();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["session"], id.to_string());
    assert_eq!(rows[0]["source"]["ip"], "192.0.2.7");
    assert_eq!(rows[0]["accepted"], 1);
    assert_eq!(rows[0]["open"], "2026-01-31T12:01:00.000000000Z");
    let story = hive.run(&format!("session {id} --json")).await.objects();
    assert_eq!(story.iter().filter(|item| item["type"] == "event").count(), 12);
    assert_eq!(story.iter().filter(|item| item["type"] == "child").count(), 1);
    let nodes = hive.run("nodes --json").await.objects();
    assert_eq!(nodes.iter().find(|node| node["node"] == "edge-1").unwrap()["loss_count"], 3);

    // Filters, pages, and the ways to go wrong.
    assert_eq!(hive.run("sessions --json --source 192.0.2.0/24 --children").await.objects().len(), 3);
    assert_eq!(hive.run("sessions --json --source 198.51.100.0/24").await.objects().len(), 0);
    assert_eq!(hive.run("sessions --json --user root").await.objects().len(), 1);
    let first = hive.run("sessions --json --limit 1").await;
    assert!(first.err.starts_with("more: glasshive sessions --json --limit 1 --config"), "{}", first.err);
    let cursor = first.err.trim().rsplit("--cursor ").next().unwrap().trim_matches('\'').to_owned();
    let second = hive.run(&format!("sessions --json --limit 1 --cursor {cursor}")).await.objects();
    assert_ne!(second[0]["session"], serde_json::from_str::<Value>(first.out.trim()).unwrap()["session"]);
    for (words, code) in [
        ("session ffffffff", 3),
        ("session x", 2),
        ("session ../../etc", 2),
        ("sessions --since yesterday", 2),
        ("sessions --source 300.1.1.1", 2),
        ("credentials --reveal", 4),
        ("nonsense", 2),
        ("replay ffffffff", 3),
        ("revoke edge-9 --reason x", 3),
        ("enroll edge-9 --net nowhere --role decoys", 3),
        ("enroll edge-9 --net dmz --role emperor", 2),
    ] {
        let said = hive.run(words).await;
        assert_eq!(said.code, code, "{words}: {said:?}");
        assert!(!said.err.is_empty(), "{words}");
    }

    // The same answers with the daemon down; what only it can do is refused with the reason.
    hive.stop().await;
    assert_eq!(hive.run("sessions").await.ok(), sessions);
    let said = hive.run_words(&["credentials", "--reveal", "--reason", "case 7"]).await;
    assert_eq!(said.code, 6, "{said:?}");
    assert!(said.err.contains("glasshive serve"), "{said:?}");
    assert!(hive.run("").await.ok().contains("the daemon is DOWN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_screen_says_what_to_type_next() {
    let mut hive = Hive::new().await;
    let fresh = hive.run("").await.ok();
    assert!(fresh.contains("Next    glasshive enroll NODE --net dmz --role decoys  let a node in"), "{fresh}");
    let mut node = Node::new("edge-1", 1);
    let sealer = hive.sealer();
    let now = glasshive_controller::desk::now_ns();
    let open = glasshive_event::Envelope { session: Some(glasshive_event::SessionId::new(now, [1; 10])), ..envelope(1, "ssh") };
    node.add(now, Kind::SessionOpen, &open, &SessionOpen::default());
    node.add(now, Kind::Login, &open, &login(&sealer, "root", b"toor", false));
    node.send(&hive).await;
    let screen = hive.run("").await.ok();
    assert!(screen.contains("Today   1 session, 1 login (0 let in)") && screen.contains("Next    glasshive sessions"), "{screen}");
    for text in [&fresh, &screen] {
        assert!(text.lines().count() <= 24 && text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
    hive.stop().await;
    let nowhere = common::run_at(&hive.path("nothing.toml"), &[""]).await;
    assert_eq!(nowhere.code, 2);
    std::fs::write(hive.path("other.toml"), format!("state_dir = {:?}\nsocket = {:?}\n", hive.path("no"), hive.path("no.sock"))).unwrap();
    let none = common::run_at(&hive.path("other.toml"), &[""]).await;
    assert_eq!(none.code, 6, "{none:?}");
    assert!(none.out.contains("glasshive serve --help"), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reveal_leaves_a_durable_audit_event_first() {
    let mut hive = Hive::new().await;
    let mut node = Node::new("edge-1", 1);
    let id = ssh_visit(&hive, &mut node, 1).await;
    let masked = hive.run(&format!("session {id}")).await.ok();
    assert!(masked.contains("••••") && !masked.contains("hunter2"), "{masked}");
    assert_eq!(hive.run(&format!("session {id} --reveal")).await.code, 4);
    assert_eq!(hive.run_words(&["session", &id.to_string(), "--reveal", "--reason", "  "]).await.code, 4);
    let audits = async |hive: &Hive| hive.run("tail --json --kind audit").await.objects();
    assert_eq!(audits(&hive).await.len(), 0);

    let shown = hive.run_words(&["session", &id.to_string(), "--reveal", "--reason", "case 7"]).await.ok();
    assert!(shown.contains("hunter2") && shown.contains("123456"), "{shown}");
    let shown =
        hive.run_words(&["credentials", "--reveal", "--reason", "case 8", "--since", "2026-01-01T00:00:00Z", "--json"]).await.objects();
    assert!(shown.iter().any(|row| row["secret"] == "hunter2"), "{shown:?}");
    let written = audits(&hive).await;
    assert_eq!(written.len(), 2);
    assert_eq!(written[0]["detail"]["action"], "reveal");
    assert_eq!(written[0]["detail"]["reason"], "case 7");
    assert_eq!(written[0]["detail"]["object"], format!("session {id}"));
    assert_eq!(written[0]["detail"]["uid"], rustix::process::getuid().as_raw());
    assert_eq!(written[0]["node"], "controller");

    // Kept over a restart, and the log goes on where it was.
    hive.stop().await;
    hive.start().await;
    hive.run_words(&["session", &id.to_string(), "--reveal", "--reason", "case 9"]).await.ok();
    let written = audits(&hive).await;
    assert_eq!(written.len(), 3);
    assert_eq!(written[2]["log"], written[0]["log"]);
    hive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_carry_hashes_and_open_elsewhere() {
    let mut hive = Hive::new().await;
    let mut node = Node::new("edge-1", 1);
    let id = ssh_visit(&hive, &mut node, 1).await;
    for format in ["jsonl", "csv", "cast", "files"] {
        let dir = hive.path(format);
        hive.run_words(&["export", "session", &id.to_string(), "--format", format, "-o", dir.to_str().unwrap(), "--reason", "case 7"])
            .await
            .ok();
        let manifest: Value = serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest["attack_version"], "18");
        let files = manifest["files"].as_array().unwrap();
        assert_eq!(files.len(), 1, "{manifest}");
        for file in files {
            let bytes = std::fs::read(dir.join(file["name"].as_str().unwrap())).unwrap();
            assert_eq!(file["sha256"], hex(&Sha256::digest(&bytes)));
            assert_eq!(file["bytes"], bytes.len());
        }
        let again = hive.run_words(&["export", "session", &id.to_string(), "--format", format, "-o", dir.to_str().unwrap()]).await;
        assert_eq!(again.code, 2, "an export never overwrites another");
    }
    let audits = hive.run("tail --json --kind audit").await.objects();
    assert_eq!(audits.len(), 8);
    assert!(audits.iter().all(|event| event["detail"]["action"] == "export"));

    let lines = std::fs::read_to_string(hive.path("jsonl").join(format!("{id}.jsonl"))).unwrap();
    for line in lines.lines() {
        use base64::Engine as _;
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["glasshive"]["session"], id.to_string());
        assert_eq!(event["source"]["ip"], "192.0.2.7");
        assert_eq!(event["destination"]["port"], 22);
        let original = base64::engine::general_purpose::STANDARD.decode(event["event"]["original"].as_str().unwrap()).unwrap();
        assert_eq!(event["event"]["hash"], hex(&Sha256::digest(original)));
    }
    assert!(!lines.contains("hunter2"));

    let content = b"#!/bin/sh\necho owned\n";
    let path = hive.path("files").join(hex(&Sha256::digest(content)));
    assert_eq!(std::fs::read(&path).unwrap(), content);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let cast = std::fs::read_to_string(hive.path("cast").join(format!("{id}-channel-1.cast"))).unwrap();
    let mut lines = cast.lines();
    let header: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!((header["version"].as_u64(), header["width"].as_u64()), (Some(2), Some(80)));
    let mut last = 0.0;
    let mut shown = String::new();
    for line in lines {
        let (time, code, text): (f64, String, String) = serde_json::from_str(line).unwrap();
        assert!(time >= last);
        last = time;
        if code == "o" {
            shown.push_str(&text);
        }
    }
    // A character cut between two chunks is whole again.
    assert_eq!(shown, "root@web-1:~# uname -a\r\nLinux web-1 6.1.0 \x1b[32mx86_64\x1b[0m grün\r\n");
    // asciinema itself plays it where it is installed; it insists on a terminal, which script(1) gives it.
    let file = hive.path("cast").join(format!("{id}-channel-1.cast"));
    let player = std::process::Command::new("asciinema").arg("--version").output();
    if player.is_ok_and(|player| player.status.success()) {
        let play = format!("asciinema cat {}", file.display());
        let played = std::process::Command::new("script").args(["-qec", &play, "/dev/null"]).env("HOME", hive.dir.path()).output().unwrap();
        assert!(played.status.success(), "{played:?}");
        assert!(String::from_utf8_lossy(&played.stdout).contains("grün"), "{played:?}");
    }

    let dir = hive.path("filtered");
    let words = [
        "export",
        "filter",
        "--since",
        "2026-01-01T00:00:00Z",
        "--until",
        "2026-02-01T00:00:00Z",
        "--kind",
        "login",
        "--format",
        "csv",
        "-o",
        dir.to_str().unwrap(),
    ];
    hive.run_words(&words).await.ok();
    assert_eq!(std::fs::read_to_string(dir.join("events.csv")).unwrap().lines().count(), 3);
    let wrong = hive.run_words(&["export", "session", "ffffffff", "--format", "csv", "-o", hive.path("none").to_str().unwrap()]).await;
    assert_eq!((wrong.code, hive.path("none").exists()), (3, false));
    hive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_the_upload_fails_verification() {
    let mut hive = Hive::new().await;
    let mut node = Node::new("edge-1", 1);
    let open = envelope(1, "ssh");
    let sealer = hive.sealer();
    node.add(at(1, 0), Kind::SessionOpen, &open, &SessionOpen::default());
    let mut file = uploaded(&sealer, "x", b"one thing");
    file.sha256 = hex(&Sha256::digest(b"another thing"));
    node.add(at(1, 1), Kind::File, &open, &file);
    node.send(&hive).await;
    let dir = hive.path("out");
    let said =
        hive.run_words(&["export", "session", &open.session.unwrap().to_string(), "--format", "files", "-o", dir.to_str().unwrap()]).await;
    assert_eq!(said.code, 5, "{said:?}");
    hive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn manual_completions_and_check() {
    let mut hive = Hive::new().await;
    let dir = hive.path("man");
    hive.run_words(&["man", "-o", dir.to_str().unwrap()]).await.ok();
    for page in ["glasshive.1", "glasshive-sessions.1", "glasshive-export-session.1", "glasshive-replay.1"] {
        assert!(std::fs::read_to_string(dir.join(page)).unwrap().starts_with(".ie"), "{page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(hive.run(&format!("completions {shell}")).await.ok().contains("credentials"));
    }
    let check = hive.run("check").await.ok();
    assert!(check.contains("dmz (edge)") && check.contains("sec@example.org"), "{check}");
    assert_eq!(hive.run("check --json").await.objects()[0]["nets"][0]["net"], "dmz");
    let help = hive.run("sessions --help").await.ok();
    assert!(help.contains("Examples:") && help.contains("--cursor"), "{help}");
    assert!(hive.run("events --markdown").await.ok().contains("## session.open (1)"));
    hive.stop().await;
}
