//! Every service of the table under every kind of visitor that is not one. A new service gets this
//! suite by its line in the table.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_decoys::services::{Outcome, SERVICES, ServiceDef};
use glasshive_decoys::testkit::{Kit, Seen};
use glasshive_event::{Kind, Transport};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

const REASONS: [&str; 6] = ["client", "server", "timeout", "limit", "error", "shutdown"];
/// A whole case may take this long; nothing is asserted about how fast it is.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `visit` against every TCP service and checks what every session must leave behind.
async fn every_service<F>(case: &str, visit: impl Fn(&'static ServiceDef, DuplexStream, std::sync::Arc<Kit>) -> F)
where
    F: Future<Output = u64>,
{
    for def in SERVICES.iter().copied().filter(|def| def.transports.contains(&Transport::Tcp)) {
        let kit = std::sync::Arc::new(Kit::new(def, "").unwrap_or_else(|why| panic!("{}: {why}", def.name)));
        let client = kit.connect();
        let work = async {
            let sent = visit(def, client, std::sync::Arc::clone(&kit)).await;
            (sent, kit.memory.closed(1).await)
        };
        let (sent, seen) = tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{case}: {} does not end", def.name));
        check(case, def, sent, &seen);
    }
}

fn check(case: &str, def: &ServiceDef, sent: u64, seen: &[Seen]) {
    let name = def.name;
    let opens: Vec<_> = seen.iter().filter(|s| s.kind == Kind::SessionOpen).collect();
    let closes: Vec<_> = seen.iter().filter(|s| s.kind == Kind::SessionClose).collect();
    assert_eq!((opens.len(), closes.len()), (1, 1), "{case}: {name}: opens and closes");
    assert_eq!(seen.first().map(|s| s.kind), Some(Kind::SessionOpen), "{case}: {name}: the open comes first");
    assert_eq!(seen.last().map(|s| s.kind), Some(Kind::SessionClose), "{case}: {name}: the close comes last");
    let close = &closes[0].detail;
    let reason = close["reason"].as_str().unwrap_or_default();
    assert!(REASONS.contains(&reason), "{case}: {name}: reason {reason:?} ({close})");
    assert!(reason != "error", "{case}: {name}: our own fault: {close}");
    assert!(close["bytes_in"].as_u64().unwrap() <= sent, "{case}: {name}: more bytes in than were sent");
    for event in seen {
        assert_eq!(event.envelope.session, opens[0].envelope.session, "{case}: {name}: foreign event");
        assert_eq!(event.envelope.service.as_deref(), Some(name));
        assert_eq!(event.envelope.decoy.as_deref(), Some("web-1"));
        assert!(event.kind != Kind::Loss, "{case}: {name}: lost {}", event.detail);
    }
}

async fn drain(mut client: DuplexStream) {
    let mut sink = Vec::new();
    let _ = client.read_to_end(&mut sink).await;
}

/// Deterministic junk.
fn junk(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

#[tokio::test]
async fn immediate_close() {
    every_service("immediate close", |_, client, _| async move {
        drop(client);
        0
    })
    .await;
}

#[tokio::test]
async fn half_close_without_a_byte() {
    every_service("half close", |_, mut client, _| async move {
        client.shutdown().await.unwrap();
        drain(client).await;
        0
    })
    .await;
}

#[tokio::test]
async fn silence_until_shutdown() {
    every_service("shutdown", |_, client, kit| async move {
        kit.memory.wait(|seen| !seen.is_empty()).await;
        kit.cancel.cancel();
        drain(client).await;
        0
    })
    .await;
}

#[tokio::test]
async fn one_byte_at_a_time() {
    every_service("slow", |_, mut client, _| async move {
        let text = b"GET / HTTP/1.0\r\n\r\n";
        let mut sent = 0;
        for byte in text {
            if client.write_all(&[*byte]).await.is_err() {
                break;
            }
            sent += 1;
            tokio::task::yield_now().await;
        }
        let _ = client.shutdown().await;
        drain(client).await;
        sent
    })
    .await;
}

#[tokio::test]
async fn a_mebibyte_of_junk() {
    every_service("1 MiB of junk", |_, client, _| async move {
        let (mut read, mut write) = tokio::io::split(client);
        let data = junk(1 << 20);
        let reading = tokio::spawn(async move {
            let mut sink = Vec::new();
            let _ = read.read_to_end(&mut sink).await;
        });
        let _ = write.write_all(&data).await;
        let _ = write.shutdown().await;
        drop(write);
        let _ = reading.await;
        data.len() as u64
    })
    .await;
}

#[tokio::test]
async fn a_mebibyte_without_newline() {
    every_service("1 MiB line", |_, client, _| async move {
        let (mut read, mut write) = tokio::io::split(client);
        let data = vec![b'A'; 1 << 20];
        let reading = tokio::spawn(async move {
            let mut sink = Vec::new();
            let _ = read.read_to_end(&mut sink).await;
        });
        let _ = write.write_all(&data).await;
        let _ = write.shutdown().await;
        drop(write);
        let _ = reading.await;
        data.len() as u64
    })
    .await;
}

#[tokio::test]
async fn the_wrong_protocol() {
    let greetings: [&[u8]; 7] = [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
        b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00",
        b"USER anonymous\r\nPASS \r\n",
        b"\xff\xfd\x01\xff\xfb\x1f",
        b"\x00\x00\x00\x00",
    ];
    for greeting in greetings {
        every_service("wrong protocol", |_, mut client, _| async move {
            let _ = client.write_all(greeting).await;
            let _ = client.shutdown().await;
            drain(client).await;
            greeting.len() as u64
        })
        .await;
    }
}

#[tokio::test]
async fn datagrams_of_junk() {
    for def in SERVICES.iter().copied().filter(|def| def.transports.contains(&Transport::Udp)) {
        let kit = Kit::new(def, "").unwrap();
        let (tx, mut answers) = kit.datagrams();
        let data = junk(4096);
        let mut sent = 0;
        for len in [0, 1, 11, 12, 13, 512, 1400, 4096] {
            tx.send(bytes::Bytes::copy_from_slice(&data[..len])).await.unwrap();
            sent += len as u64;
        }
        drop(tx);
        let seen = tokio::time::timeout(PATIENCE, kit.memory.closed(1)).await.unwrap_or_else(|_| panic!("{} does not end", def.name));
        check("datagrams", def, sent, &seen);
        let mut answered = 0u64;
        while let Ok(answer) = answers.try_recv() {
            answered += answer.len() as u64;
        }
        assert!(answered <= sent, "{}: {answered} bytes answered to {sent} bytes of junk: an amplifier", def.name);
    }
}

/// A wrong setting is one line that names the key.
#[test]
fn unknown_settings_are_refused() {
    for def in SERVICES {
        let why = Kit::new(def, "no_such_key = 1").err().unwrap_or_else(|| panic!("{} takes any key", def.name));
        assert!(why.contains("no_such_key") && !why.contains('\n'), "{}: {why:?}", def.name);
    }
}

/// Panics at the byte `!`, gives every other byte back.
struct Fragile;
impl glasshive_decoys::services::Service for Fragile {
    fn serve(
        &self,
        mut conn: glasshive_decoys::conn::Conn,
        _: glasshive_decoys::session::Session,
    ) -> glasshive_decoys::recorder::BoxFuture<'static, Outcome> {
        Box::pin(async move {
            let mut byte = [0];
            loop {
                match conn.read(&mut byte).await {
                    Ok(0) => return Outcome::Client,
                    Ok(_) if byte == *b"!" => panic!("a fault of this service"),
                    Ok(_) => match conn.write_all(&byte).await {
                        Ok(()) => {}
                        Err(error) => return error.into(),
                    },
                    Err(error) => return error.into(),
                }
            }
        })
    }
}
static FRAGILE: ServiceDef = ServiceDef {
    name: "fragile",
    transports: &[Transport::Tcp],
    default_ports: &[],
    passive: false,
    protocol: "unknown",
    summary: "panics when told to",
    build: |_| Ok(std::sync::Arc::new(Fragile)),
};

#[tokio::test]
async fn a_panic_ends_its_own_session_and_no_other() {
    let kit = Kit::new(&FRAGILE, "").unwrap();
    let (mut before, mut fatal) = (kit.connect(), kit.connect());
    let mut answer = [0];
    for visitor in [&mut before, &mut fatal] {
        visitor.write_all(b"a").await.unwrap();
        visitor.read_exact(&mut answer).await.unwrap();
    }
    fatal.write_all(b"!").await.unwrap();
    drain(fatal).await;
    kit.memory.closed(1).await;
    // Who was there goes on, who comes later is served.
    let mut after = kit.connect();
    for visitor in [&mut before, &mut after] {
        visitor.write_all(b"b").await.unwrap();
        visitor.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"b");
    }
    drop((before, after));
    let seen = kit.memory.closed(3).await;
    let reasons: Vec<_> =
        seen.iter().filter(|s| s.kind == Kind::SessionClose).map(|s| s.detail["reason"].as_str().unwrap().to_owned()).collect();
    assert_eq!(reasons, ["panic", "client", "client"]);
    assert_eq!(seen.iter().filter(|s| s.kind == Kind::SessionOpen).count(), 3);
}
