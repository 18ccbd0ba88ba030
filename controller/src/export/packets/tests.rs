//! Story and weaving on made-up answers; what tools make of the files is tested in `tests/`.

use super::story::{Gather, Host, Story};
use super::weave::{self, Woven};
use super::*;
use glasshive_pcapng::{Block, BlockReader, Encoder, Interface, OptionList, Packet, SectionHeader, link_type};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const START: i64 = 1_769_860_800_000_000_000;

/// Each case is a whole story, not a mutated message: a soak's million of them would take hours.
fn cases() -> u32 {
    std::env::var("GLASSHIVE_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000).min(50_000)
}

fn time(ns: i64) -> String {
    glasshive_event::Timestamp(START + ns).rfc3339()
}

fn session(id: &str, parent: &str, source: &str, destination: &str) -> Value {
    let end = |text: &str| {
        let end: std::net::SocketAddr = text.parse().unwrap();
        json!({"ip": end.ip(), "port": end.port()})
    };
    let (kind, service) = if parent.is_empty() { ("session", "ssh") } else { ("child", "telnet") };
    json!({"type": kind, "session": id, "decoy": "web-01", "service": service, "transport": "tcp",
        "source": end(source), "destination": end(destination), "open": time(0), "close": time(9_000), "in_process": !parent.is_empty()})
}

fn event(session: &str, seq: u64, at: i64, kind: &str, detail: Value) -> Value {
    json!({"type": "event", "session": session, "node": "n", "log": "l", "seq": seq, "time": time(at), "kind": kind, "detail": detail,
        "record_sha256": format!("{seq:064x}")})
}

fn stream(channel: u32, role: &str, direction: &str, offset: u64, chunks: &[(u64, &[u8])]) -> Value {
    let chunks: Vec<_> = chunks.iter().map(|(delta, bytes)| json!([delta, STANDARD.encode(bytes)])).collect();
    json!({"channel": channel, "role": role, "direction": direction, "offset": offset, "chunks": chunks})
}

fn told(items: &[Value]) -> Story {
    let mut gather = Gather::default();
    items.iter().for_each(|item| gather.item(item));
    gather.finish()
}

/// A shell, a command and a forward by name in whose connection another shell ran.
fn visit() -> Vec<Value> {
    vec![
        session("a", "", "203.0.113.9:40000", "192.0.2.10:22"),
        session("b", "a", "192.0.2.10:32848", "192.0.2.11:23"),
        event("a", 1, 10, "stream", stream(1, "shell", "out", 0, &[(0, b"$ ")])),
        event("a", 2, 20, "stream", stream(1, "shell", "in", 0, &[(0, b"id"), (5, b"\r")])),
        event("a", 3, 26, "stream", stream(1, "shell", "out", 2, &[(0, b"id\r\nuid=0\r\n$ ")])),
        event("a", 4, 40, "command", json!({"input": "id", "channel": 1, "took_ns": 14})),
        event("a", 5, 60, "command", json!({"input": {"hex": "756e616d65ff1b5b33316d"}, "channel": 2, "took_ns": 10})),
        event("a", 6, 55, "stream", stream(2, "exec", "out", 0, &[(0, b"Linux\n")])),
        event(
            "a",
            7,
            70,
            "forward",
            json!({"host": "in tranet\u{1b}", "port": 80, "mechanism": "direct-tcpip", "answered": true, "child": "b", "channel": 3}),
        ),
        event("a", 8, 75, "stream", stream(3, "tcp", "in", 0, &[(0, b"GET / HTTP/1.1\r\n\r\n")])),
        event("a", 9, 80, "stream", stream(3, "tcp", "out", 0, &[(0, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")])),
        event("b", 10, 76, "command", json!({"input": "inner", "channel": 0})),
    ]
}

#[test]
fn channels_become_connections() {
    let story = told(&visit());
    assert_eq!(story.connections.len(), 3);
    let [shell, exec, forward] = story.connections.as_slice() else { panic!() };
    let bytes = |at: usize, inbound: bool| -> Vec<u8> {
        story.connections[at].pieces.iter().filter(|piece| piece.inbound == inbound).flat_map(|piece| piece.bytes.clone()).collect()
    };
    assert_eq!(
        (&shell.client, &shell.server, shell.port),
        (&Host::At("203.0.113.9".parse().unwrap()), &Host::At("192.0.2.10".parse().unwrap()), 23)
    );
    assert_eq!((bytes(0, true), bytes(0, false)), (b"id\r".to_vec(), b"$ id\r\nuid=0\r\n$ ".to_vec()));
    let said: Vec<_> = shell.pieces.iter().filter(|piece| !piece.comments.is_empty()).collect();
    assert_eq!((said.len(), said[0].bytes.as_slice(), said[0].comments[0].as_str()), (1, &b"\r"[..], "command: id"));
    // The command comes first, when it was given; hostile bytes are inert.
    assert_eq!((exec.open_ns, exec.pieces[0].bytes.as_slice()), (START + 50, &b"uname\xff\x1b[31m\n"[..]));
    assert_eq!(exec.pieces[0].comments, ["command: uname\\xff\\x1b[31m"]);
    assert_eq!((&forward.server, forward.port), (&Host::Named("in_tranet\\x1b".into()), 80));
    assert_eq!(forward.open_ns, START + 70);
    assert_eq!(forward.pieces[0].comments, ["command: inner"]);
    assert_eq!(story.marks.len(), 1, "a session answered within another is not on the wire");
    assert_eq!(story.records[0]["ranges"], json!([[1, 10]]));
    assert!(story.notes.is_empty(), "{:?}", story.notes);
}

#[test]
fn key_logs_hold_key_lines_only() {
    let good = format!("CLIENT_RANDOM {} {}", "ab".repeat(32), "cd".repeat(48));
    let lines = format!("{good}\n# x\nCLIENT_RANDOM zz 00\n{good}\nlower 00 11\nA 00 11 22\nSERVER_TRAFFIC_SECRET_0 00 11\r\n");
    let story = told(&[json!({"type": "keylog", "lines": lines})]);
    assert_eq!(story.keylog, format!("{good}\nSERVER_TRAFFIC_SECRET_0 00 11\n"));
    assert_eq!(story.notes, ["4 lines of sealed key logs are no key-log lines and were left out"]);
}

/// An Ethernet frame of a TCP segment.
fn frame(from: &str, to: &str) -> Vec<u8> {
    let (from, to): (std::net::SocketAddrV4, std::net::SocketAddrV4) = (from.parse().unwrap(), to.parse().unwrap());
    let mut bytes = vec![2; 12];
    bytes.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    bytes.extend(from.ip().octets());
    bytes.extend(to.ip().octets());
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend([0x50, 2, 0, 0, 0, 0, 0, 0]);
    bytes
}

fn capture(dir: &Path, name: &str, frames: &[(i64, Vec<u8>)]) -> PathBuf {
    let mut out = Encoder::new();
    out.section_header(&SectionHeader::default());
    out.interface(&Interface::new(link_type::ETHERNET, name));
    for (ns, frame) in frames {
        out.enhanced_packet(0, (START + ns) as u64, frame.len() as u32, frame, &OptionList::new());
    }
    let path = dir.join(name);
    std::fs::write(&path, out.take()).unwrap();
    path
}

fn woven(inputs: &[PathBuf], story: &Story) -> (Vec<u8>, Woven) {
    let mut out = Vec::new();
    let woven = weave::weave(inputs, story, "about", &mut |bytes| {
        out.extend_from_slice(bytes);
        Ok(())
    });
    (out, woven.unwrap())
}

/// Interface, nanoseconds, bytes and comments of each packet; checks that times never decrease.
fn packets(file: &[u8]) -> Vec<(u32, i64, Vec<u8>, Vec<String>)> {
    let mut reader = BlockReader::new(file);
    let mut all: Vec<(u32, i64, Vec<u8>, Vec<String>)> = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        if let Block::Packet(Packet { interface, time, data, options, .. }) = block {
            let comments = options.comments().map(|comment| comment.into_owned()).collect();
            all.push((interface, time.unwrap() as i64 - START, data.to_vec(), comments));
        }
    }
    assert!(all.windows(2).all(|two| two[0].1 <= two[1].1), "times decrease");
    all
}

#[test]
fn captured_frames_are_untouched_and_derived_ones_stand_between_them() {
    let dir = tempfile::tempdir().unwrap();
    let frames = vec![
        (1, frame("203.0.113.9:40000", "192.0.2.10:22")),
        (30, frame("192.0.2.10:22", "203.0.113.9:40000")),
        // Where the first derived port would be.
        (31, frame("203.0.113.9:49152", "192.0.2.10:23")),
        (90, frame("203.0.113.9:40000", "192.0.2.10:22")),
    ];
    let input = capture(dir.path(), "original", &frames);
    let mut items = visit();
    items.push(json!({"type": "finding", "finding": "f", "detector": "d", "version": 3, "techniques": ["T1021"], "summary": "x",
        "scope": [{"protocol": 6, "a": "203.0.113.9", "since": START + 31}]}));
    let story = told(&items);
    let (file, woven_of) = woven(std::slice::from_ref(&input), &story);
    assert_eq!((woven_of.captured, woven_of.connections, woven_of.notes.len()), (4, 3, 0));
    let all = packets(&file);
    let captured: Vec<_> = all.iter().filter(|packet| packet.0 == 0).map(|packet| (packet.1, packet.2.clone())).collect();
    assert_eq!(captured, frames);
    let comments: Vec<Vec<String>> = all.iter().filter(|packet| packet.0 == 0).map(|packet| packet.3.clone()).collect();
    assert_eq!(comments[0], ["session a, decoy web-01, service ssh"]);
    assert!(comments[1].is_empty());
    assert_eq!(comments[2], ["finding f, d version 3, T1021: x"]);
    assert_eq!(comments[3], ["finding f, d version 3, T1021: x"]);
    let derived: Vec<_> = all.iter().filter(|packet| packet.0 == 1).collect();
    assert_eq!(derived.len() as u64, woven_of.derived);
    assert!(derived.iter().all(|packet| packet.3.iter().any(|comment| comment.starts_with("derived from records"))));
    // No derived connection has a captured one's ends.
    let both = |link: u16, bytes: &[u8]| {
        let ends = tuples::seen(link, bytes).unwrap().ends;
        [ends.source, ends.destination].map(|end| (end.ip, end.port)).into_iter().collect::<std::collections::BTreeSet<_>>()
    };
    let on_the_wire: Vec<_> = frames.iter().map(|(_, frame)| both(link_type::ETHERNET, frame)).collect();
    assert!(derived.iter().all(|packet| !on_the_wire.contains(&both(link_type::RAW_IP, &packet.2))));
    // The same again.
    assert_eq!(woven(&[input], &told(&items)).0, file);
}

#[test]
fn several_sensors_become_one_file_in_order_of_time() {
    let dir = tempfile::tempdir().unwrap();
    let one = capture(dir.path(), "one", &[(1, frame("10.0.0.1:1", "10.0.0.2:2")), (5, frame("10.0.0.1:1", "10.0.0.2:2"))]);
    let two = capture(
        dir.path(),
        "two",
        &[(2, frame("10.0.0.3:1", "10.0.0.2:2")), (5, frame("10.0.0.3:1", "10.0.0.2:2")), (4, frame("10.0.0.3:9", "10.0.0.2:2"))],
    );
    let empty = capture(dir.path(), "none", &[]);
    let (file, woven_of) = woven(&[one, empty, two], &Story::default());
    let mut reader = BlockReader::new(file.as_slice());
    let mut seen = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        if let Block::Packet(packet) = block {
            seen.push((packet.interface, packet.time.unwrap() as i64 - START));
        }
    }
    assert_eq!(seen, [(0, 1), (2, 2), (0, 5), (2, 5), (2, 4)]);
    assert_eq!(
        woven_of.notes,
        ["1 captured packets stand earlier in time than the one before them; they are kept in the order of the capture"]
    );
}

#[test]
fn damaged_originals_are_errors_and_nothing_captured_is_fine() {
    let dir = tempfile::tempdir().unwrap();
    let path = capture(dir.path(), "cut", &[(1, vec![0; 60])]);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 8]).unwrap();
    let error = weave::weave(&[path], &Story::default(), "", &mut |_| Ok(())).unwrap_err();
    assert!(error.message.contains("ends within the block"), "{}", error.message);
    let (file, woven_of) = woven(&[], &told(&visit()));
    assert_eq!(woven_of.captured, 0);
    assert_eq!(packets(&file).len() as u64, woven_of.derived);
}

/// Whatever nodes and visitors put into records: a readable file, in order, with every frame untouched.
#[test]
fn hostile_records_never_break_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let frames = vec![(1, frame("203.0.113.9:40000", "192.0.2.10:22")), (500, vec![0xff; 70])];
    let input = capture(dir.path(), "original", &frames);
    let text = prop_oneof![Just(String::new()), "\\PC{0,40}", Just("\u{0}\n\u{202e}x\u{1b}[2J".to_owned()), Just("a".repeat(70_000))];
    let wire =
        prop_oneof![text.clone().prop_map(Value::from), prop::collection::vec(any::<u8>(), 0..40).prop_map(|b| json!({"hex": hex(&b)}))];
    let number = prop_oneof![0u64..200, any::<u64>()];
    let chunk =
        (number.clone(), prop_oneof![Just("!".to_owned()), prop::collection::vec(any::<u8>(), 0..60).prop_map(|b| STANDARD.encode(b))]);
    let stream = (0u32..4, text.clone(), "(in|out|x)", number.clone(), prop::collection::vec(chunk, 0..4)).prop_map(
        |(channel, role, direction, offset, chunks)| {
            let role = if role.len() % 2 == 0 { "shell".to_owned() } else { role };
            ("stream", json!({"channel": channel, "role": role, "direction": direction, "offset": offset, "chunks": chunks}))
        },
    );
    let command = (0u32..4, wire.clone(), prop::option::of(number.clone()))
        .prop_map(|(channel, input, took)| ("command", json!({"channel": channel, "input": input, "took_ns": took})));
    let host =
        prop_oneof![wire, Just(json!("2001:db8::1")), Just(json!("::ffff:10.0.0.1")), Just(json!("192.0.2.10")), Just(json!("[::1]"))];
    let forward = (0u32..4, host, any::<u32>(), text.clone()).prop_map(|(channel, host, port, mechanism)| {
        ("forward", json!({"channel": channel, "host": host, "port": port, "mechanism": mechanism, "child": "b"}))
    });
    let junk = (0u32..4).prop_map(|n| ("stream", json!({"channel": n, "offset": -1, "chunks": "x"})));
    let one = (prop_oneof![Just("a"), Just("b"), Just("nobody")], any::<u64>(), -20i64..2_000, prop_oneof![stream, command, forward, junk]);
    let strategy = (prop::collection::vec(one, 0..20), text);
    let mut runner = TestRunner::new(Config { cases: cases(), failure_persistence: None, ..Config::default() });
    let run = runner.run(&strategy, |(events, lines)| {
        let mut items = vec![session("a", "", "203.0.113.9:40000", "192.0.2.10:22"), session("b", "a", "192.0.2.10:1", "192.0.2.11:23")];
        items.extend(events.into_iter().map(|(session, seq, at, (kind, detail))| event(session, seq, at, kind, detail)));
        items.push(json!({"type": "keylog", "lines": lines}));
        let (file, of) = woven(std::slice::from_ref(&input), &told(&items));
        let all = packets(&file);
        let captured: Vec<_> = all.iter().filter(|packet| packet.0 == 0).map(|packet| (packet.1, packet.2.clone())).collect();
        prop_assert_eq!(&captured, &frames);
        prop_assert_eq!(all.len() as u64, of.captured + of.derived);
        for packet in all.iter().filter(|packet| packet.0 == 1) {
            prop_assert!(tuples::seen(link_type::RAW_IP, &packet.2).is_some());
            prop_assert!(packet.3.iter().all(|comment| !comment.chars().any(char::is_control)), "{:?}", packet.3);
        }
        prop_assert!(woven(std::slice::from_ref(&input), &told(&items)).0 == file);
        Ok(())
    });
    run.unwrap();
}

#[test]
fn classic_files_hold_frames_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let original = capture(dir.path(), "original", &[(7, frame("10.0.0.1:1", "10.0.0.2:2"))]);
    let mut out = Vec::new();
    let count = classic::write(&original, &mut |bytes| {
        out.extend_from_slice(bytes);
        Ok(())
    });
    assert_eq!((count.unwrap(), out.len()), (1, 24 + 16 + 54));
    assert_eq!(&out[..4], &0xa1b2_3c4du32.to_le_bytes());
    assert_eq!(&out[40..], frame("10.0.0.1:1", "10.0.0.2:2"));
}
