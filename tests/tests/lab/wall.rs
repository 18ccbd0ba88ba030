//! The wall around a node: what it drops arrives as events and as a critical finding; without it, and
//! without somebody who watches it, the decoys refuse.

use super::{root, turn, world};
use glasshive_tests::process::{Daemon, run_ok, until};
use glasshive_tests::visitors::Visitor;
use glasshive_tests::world::{Dial, LIMIT, PERSONA, World};
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Operators are promised this.
const WITHIN: Duration = Duration::from_secs(5);

const WALL: &str = r#"
table inet glasshive_wall
delete table inet glasshive_wall
table inet glasshive_wall {
  chain input {
    type filter hook input priority 0; policy drop;
    iifname { "lo", "mgmt0", "dcy0" } accept
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    log prefix "glasshive forward " group 7
  }
  chain output {
    type filter hook output priority 0; policy drop;
    oifname "lo" accept
    ct state established,related accept
    meta l4proto ipv6-icmp accept
    ip daddr 10.99.0.1 tcp dport 7443 accept
    oifname "mgmt0" log prefix "glasshive out mgmt " group 7 counter drop
    log prefix "glasshive out decoy " group 7 counter
  }
}
"#;

fn nft(world: &World, ruleset: &str) {
    let mut nft = world.lab.as_ref().unwrap().inside("n1", std::path::Path::new("nft"));
    nft.args(["-f", "-"]);
    run_ok(nft, Some(ruleset.as_bytes()), LIMIT).unwrap();
}

fn decoy(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 66, 1, 10], port))
}

fn connect(world: &World) -> std::io::Result<TcpStream> {
    world.lab.as_ref().unwrap().enter("v1", || Ok(TcpStream::connect_timeout(&decoy(80), Duration::from_secs(3)))).unwrap()
}

fn refused(world: &World) {
    until("the refusal", WITHIN, || {
        connect(world).err().map(|error| assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "silence is another answer"))
    })
    .unwrap();
    // Once refused, always: also on another port, and by datagrams.
    assert!(connect(world).is_err());
}

fn answered(world: &World) {
    until("an answer", LIMIT, || connect(world).ok()).unwrap();
}

fn findings(world: &World) -> Vec<serde_json::Value> {
    let out = world.cli(&["findings", "--json"]).unwrap();
    out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).filter(|one| one["detector"] == "egress").collect()
}

fn reader(world: &World) -> Daemon {
    let command = world.decoys(0, &["wall"]).unwrap();
    let mut reader = Daemon::start("the wall's reader", command, &world.nodes[0].dir.join("wall.txt")).unwrap();
    reader.wait_for("reading NFLOG group 7", LIMIT).unwrap();
    reader
}

fn doctor(world: &World) -> (i32, String) {
    let (code, out, _) = world.cli_result(&["doctor"]).unwrap();
    (code, out)
}

/// A tries-to-leave is told, and the decoys answer only behind a wall that stands and is watched.
#[test]
fn decoys_answer_only_behind_a_wall() {
    let _turn = turn();
    root();
    let dir = tempfile::tempdir().unwrap();
    let extra = format!("[wall]\nrequired = true\nsocket = {:?}\n", dir.path().join("wall.sock"));
    let world = world(&dir, true, &[("alpha", Dial::Node)], PERSONA, &extra);
    // No reader yet.
    refused(&world);
    let mut watching = reader(&world);
    refused(&world);
    nft(&world, WALL);
    answered(&world);
    Visitor::new(&world, 0).http(false, "/", &[]).unwrap();
    let mut ping = world.visitor(0, "ping").unwrap();
    ping.args(["-c", "2", "10.66.1.10"]);
    run_ok(ping, None, LIMIT).unwrap();
    until("the visit", LIMIT, || world.sessions().ok()?.iter().any(|one| one["service"] == "http").then_some(())).unwrap();
    assert_eq!(findings(&world).len(), 0, "visits are no attempts to leave");

    // Something on the node tries to leave, from the decoy's address and again and again.
    let tries = 40;
    world
        .lab
        .as_ref()
        .unwrap()
        .enter("n1", || {
            let socket = std::net::UdpSocket::bind("10.66.1.10:0")?;
            for _ in 0..tries {
                // EPERM: the wall dropped it.
                assert!(socket.send_to(b"let me out", "10.66.1.100:4444").is_err());
            }
            Ok(())
        })
        .unwrap();
    let found = until("the finding", LIMIT, || Some(findings(&world)).filter(|found| !found.is_empty())).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (&found[0]["severity"], &found[0]["actor"], &found[0]["target"]),
        (&"critical".into(), &"10.66.1.10".into(), &"10.66.1.100".into())
    );
    let blocked = || -> Vec<serde_json::Value> {
        let out = world.cli(&["tail", "--kind", "blocked", "--json", "--limit", "1000"]).unwrap();
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // The first at once, the rest together.
    let all = until("the count", LIMIT, || Some(blocked()).filter(|all| all.iter().any(|one| one["detail"]["total"] == tries))).unwrap();
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all.iter().map(|one| one["detail"]["count"].as_u64().unwrap()).sum::<u64>(), tries);
    let first = &all[0];
    assert_eq!((&first["detail"]["direction"], &first["detail"]["interface"]), (&"out".into(), &"dcy0".into()));
    assert_eq!(first["detail"]["prefix"], "glasshive out decoy");
    assert_eq!((&first["decoy"], &first["detail"]["protocol"]), (&"web-1".into(), &17.into()));

    // The wall goes: a visit that runs ends, new ones are refused.
    let mut held = connect(&world).unwrap();
    held.set_read_timeout(Some(WITHIN)).unwrap();
    nft(&world, "delete table inet glasshive_wall\n");
    refused(&world);
    assert!(matches!(held.read(&mut [0; 64]), Ok(0) | Err(_)), "the visit goes on without a wall");
    assert!(held.read(&mut [0; 64]).map_err(|error| error.kind()) != Err(std::io::ErrorKind::WouldBlock), "the visit was not ended");
    let told =
        until("the doctor's word", LIMIT, || Some(doctor(&world)).filter(|(_, out)| out.contains("its wall does not stand"))).unwrap();
    assert_eq!(told.0, 1);
    assert!(told.1.contains("table inet glasshive_wall is not loaded"), "{}", told.1);
    nft(&world, WALL);
    answered(&world);
    until("all well with the wall", LIMIT, || (!doctor(&world).1.contains("its wall does not stand")).then_some(())).unwrap();

    // A wall that is loaded and drops nothing by default is none; neither is a dormant one.
    nft(&world, "chain inet glasshive_wall output { policy accept; }\n");
    refused(&world);
    nft(&world, WALL);
    answered(&world);
    nft(&world, "table inet glasshive_wall { flags dormant; }\n");
    refused(&world);
    nft(&world, WALL);
    answered(&world);

    // Nobody watches: that is as good as no wall.
    watching.stop(LIMIT);
    refused(&world);
    let _watching = reader(&world);
    answered(&world);
    Visitor::new(&world, 0).http(false, "/again", &[]).unwrap();
}
