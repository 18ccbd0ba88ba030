//! Decoys and sensor together: what one saw and the other did not is told.

use super::*;
use glasshive_tests::world_sensor::Sensor;
use std::net::TcpListener;

/// A declared port nobody of ours serves.
const STRANGE: u16 = 9191;

/// The whole demonstration, as `make demo` runs it.
#[test]
fn demonstration() {
    let _turn = turn();
    root();
    let dir = tempfile::tempdir().unwrap();
    glasshive_tests::demo::demo(&dir.path().join("demo"), false).unwrap();
    for name in ["sessions.json", "session.txt", "SUMMARY.txt", "upload.bin", "findings.json", "original.pcapng", "decrypted.pcapng"] {
        assert!(std::fs::metadata(dir.path().join("demo").join(name)).is_ok_and(|file| file.len() > 0), "{name}");
    }
}

/// A connection answered in a decoy's place, and a visit the sensor is kept from seeing: each raises
/// `reconcile`, and the visits both saw raise nothing.
#[test]
fn reconcile_tells_both_ways() {
    let _turn = turn();
    root();
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { dir: dir.path(), root: true, nets: &[("alpha", Dial::Node)], persona: RAW, extra: "" };
    let mut world = World::prepare(&plan).unwrap();
    let decoy = world.nodes[0].decoy;
    // The list says that a decoy answers there.
    let list = world.nodes[0].dir.join("segment.toml");
    let text = std::fs::read_to_string(&list).unwrap();
    let entry = format!("\n[[open]]\naddress = \"{decoy}\"\nport = {STRANGE}\ntransport = \"tcp\"\nprotocol = \"unknown\"\n");
    std::fs::write(&list, text + &entry).unwrap();
    world.start_controller().unwrap();
    world.enroll(0, Dial::Node).unwrap();
    world.start_node(0).unwrap();
    // The sensor does not see the web server's packets.
    let _sensor = Sensor::start(&mut world, 0, "[capture]\nfilter = \"not port 80\"").unwrap();
    let lab = world.lab.as_ref().unwrap();
    // Somebody else answers at the decoy's address.
    let stranger = lab.enter("n1", || Ok(TcpListener::bind((decoy, STRANGE))?)).unwrap();
    lab.enter("v1", || {
        let mut stream = TcpStream::connect((decoy, STRANGE))?;
        stream.write_all(b"who is there?")?;
        Ok(())
    })
    .unwrap();
    let (mut taken, _) = stranger.accept().unwrap();
    taken.read_to_end(&mut Vec::new()).unwrap();
    drop(taken);
    Visitor::new(&world, 0).http(false, "/unseen", &[]).unwrap();
    // Both see this one.
    lab.enter("v1", || Ok(knock(SocketAddr::new(decoy, 9100), 1)?)).unwrap();
    world.wait_sessions(2, LIMIT).unwrap();
    let mut last = String::new();
    // Event time is the wall's here: a minute, the watermark's thirty seconds, and room for a busy machine.
    let findings = until("both findings", Duration::from_secs(150), || {
        last = world.cli(&["findings", "--json", "--limit", "1000"]).ok()?;
        let all: Vec<serde_json::Value> = last.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let mine: Vec<_> = all.into_iter().filter(|finding| finding["detector"] == "reconcile").collect();
        (mine.len() >= 2).then_some(mine)
    })
    .unwrap_or_else(|error| panic!("{error}: {last}"));
    let told: BTreeSet<String> = findings.iter().map(|finding| finding["summary"].as_str().unwrap().to_owned()).collect();
    assert_eq!(findings.len(), 2, "{told:#?}");
    assert!(told.iter().any(|text| text.contains(&format!("{decoy}:{STRANGE}")) && text.contains("no decoy knows of it")), "{told:#?}");
    assert!(told.iter().any(|text| text.contains(&format!("{decoy}:80")) && text.contains("no sensor saw")), "{told:#?}");
    // Refused and half-open tries are no sessions, and shown.
    assert!(lab.enter("v1", || Ok(TcpStream::connect((decoy, 9)).is_err())).unwrap(), "nothing is open there");
    until("the probe", LIMIT, || {
        let probes = world.cli(&["sessions", "--probes", "--json"]).ok()?;
        probes.lines().any(|line| line.contains("\"REJ\"") && line.contains(&decoy.to_string())).then_some(())
    })
    .unwrap();
}
