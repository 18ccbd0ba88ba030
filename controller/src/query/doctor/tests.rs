//! Every trouble the doctor knows, each beside a twin that is well.
#![allow(clippy::unwrap_used)]

use super::*;

const NOW: i64 = 1_790_000_000_000_000_000;

/// `about: what` and the remedy of each trouble.
fn told(judge: impl FnOnce(&mut Troubles)) -> Vec<(String, String)> {
    let mut troubles = Troubles::default();
    judge(&mut troubles);
    troubles.0.into_iter().map(|trouble| (format!("{}: {}", trouble.about, trouble.what), trouble.remedy)).collect()
}

fn time(before_now: i64) -> String {
    glasshive_event::Timestamp(NOW - before_now).rfc3339()
}

fn node(changes: &Value) -> Map<String, Value> {
    let mut node = json!({
        "state": "enrolled", "connected": true, "received": time(MINUTE_NS), "certificate_days": 30,
        "clock_offset_ns": 1_000_000, "records_behind": 3,
    });
    let map = node.as_object_mut().unwrap();
    map.extend(changes.as_object().unwrap().clone());
    map.clone()
}

#[test]
fn nodes_are_judged() {
    let ten = 10 * MINUTE_NS;
    let table = [
        (json!({"loss_count": 3}), Some(("3 not kept within a day", "tail --kind loss"))),
        (json!({"gap_count": 1}), Some(("1 gap in its log within a day", "tail --kind gap"))),
        (json!({"gap_count": 2}), Some(("2 gaps in its log within a day", "tail --kind gap"))),
        (json!({"connected": false}), Some(("not connected", "systemctl status"))),
        (json!({"connected": false, "last_error": "refused"}), Some(("not connected: refused", "port reachable"))),
        (json!({"certificate_days": 6}), Some(("its certificate ends in 6 days", "glasshive enroll edge"))),
        (json!({"certificate_days": 7}), None),
        (json!({"clock_offset_ns": -3_000_000_000_i64}), Some(("its clock is 3.0s behind", "time synchronisation"))),
        (json!({"clock_offset_ns": 3_000_000_000_i64}), Some(("its clock is 3.0s ahead", "time synchronisation"))),
        (json!({"clock_offset_ns": -2_000_000_000_i64}), None),
        (json!({"records_behind": 10_001}), Some(("10001 records wait on it", "catch up"))),
        (json!({"records_behind": 10_000}), None),
        (json!({"received": time(ten)}), Some(("connected, but its last record came 10m00s ago", "restart its daemon"))),
        (json!({"received": time(3 * MINUTE_NS)}), None),
        // A node that is not to come is not missed; what it lost is told all the same.
        (json!({"state": "revoked", "connected": false, "received": time(ten), "certificate_days": 0}), None),
        (
            json!({"wall": {"stands": false, "answering": false, "why": "table inet w is not loaded"}}),
            Some(("its wall does not stand: table inet w is not loaded; its visitors are refused", "glasshive-decoys wall runs")),
        ),
        (
            json!({"wall": {"stands": false, "answering": true, "why": "its reader has gone"}}),
            Some(("its wall does not stand: its reader has gone; its visitors are answered all the same", "load the wall")),
        ),
        (json!({"wall": {"stands": true, "answering": true, "entry": false}}), Some(("its entry rules are not loaded", "check --nft"))),
        (json!({"wall": {"stands": true, "answering": true, "entry": true}}), None),
        // A paused journal explains its silence.
        (json!({"paused": "no room", "received": time(ten)}), Some(("its journal cannot take more: no room", "free space"))),
        (json!({"state": "revoked", "loss_count": 1}), Some(("1 not kept within a day", "tail --kind loss"))),
        (json!({}), None),
    ];
    for (changes, expected) in table {
        let told = told(|troubles| judge_node("edge", &node(&changes), NOW, troubles));
        match expected {
            None => assert_eq!(told, [], "{changes}"),
            Some((what, remedy)) => {
                assert_eq!(told.len(), 1, "{changes}: {told:?}");
                assert!(told[0].0.starts_with(&format!("node edge: {what}")), "{changes}: {}", told[0].0);
                assert!(told[0].1.contains(remedy), "{changes}: {}", told[0].1);
            }
        }
    }
    // The controller's own log is no node to dial.
    let own = node(&json!({"connected": false}));
    assert_eq!(told(|troubles| judge_node(desk::NODE, &own, NOW, troubles)), []);
}

#[test]
fn nets_are_judged() {
    let rate = |sessions: (u64, u64), flows: (u64, u64), flows_seen| JoinRate {
        net: "dmz".to_owned(),
        sessions: sessions.1,
        sessions_joined: sessions.0,
        flows: flows.1,
        flows_joined: flows.0,
        flows_seen,
        ..JoinRate::default()
    };
    let table = [
        (rate((100, 100), (100, 100), 300), 1, true, vec![]),
        (rate((95, 100), (95, 100), 300), 1, true, vec![]),
        (rate((94, 100), (100, 100), 300), 1, true, vec!["net dmz: only 94 of 100 sessions have a flow"]),
        (rate((100, 100), (94, 100), 300), 1, true, vec!["net dmz: only 94 of 100 completed connections to decoys have a session"]),
        // Too few to say.
        (rate((0, 4), (0, 4), 8), 1, true, vec![]),
        // No sensor was ever there: nothing is missed.
        (rate((0, 100), (0, 0), 0), 0, false, vec![]),
        (rate((0, 100), (0, 0), 0), 1, true, vec!["net dmz: only 0 of 100 sessions have a flow"]),
        (rate((100, 100), (100, 100), 300), 1, false, vec!["net dmz: no segment list: detectors do not know which ports should answer"]),
    ];
    for (rate, sensors, listed, expected) in table {
        let told: Vec<_> = told(|troubles| judge_net(&rate, sensors, listed, troubles)).into_iter().map(|(what, _)| what).collect();
        assert_eq!(told, expected, "{rate:?}");
    }
}

#[test]
fn fusion_is_judged() {
    let well = || Status { running: true, behind: 5, lag_ns: MINUTE_NS, ..Status::default() };
    let table = [
        (well(), None),
        // Nothing waits: it only has not heard of later yet.
        (Status { lag_ns: 10 * MINUTE_NS, behind: 0, ..well() }, None),
        (Status { running: false, ..well() }, Some("it does not run")),
        (Status { error: Some("no room".to_owned()), ..well() }, Some("the last turn failed: no room")),
        (Status { lag_ns: 10 * MINUTE_NS, ..well() }, Some("10m00s behind, 5 records wait")),
        (Status { evicted: [("scan".to_owned(), 7)].into(), ..well() }, Some("detectors forgot 7 keys for want of room")),
        (Status { dropped: 1, skipped: 2, missing: 3, ..well() }, Some("1 finding dropped, 2 observations skipped, 3 records gone unseen")),
    ];
    for (status, expected) in table {
        let told = told(|troubles| judge_fusion(&status, troubles));
        let what: Vec<_> = told.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(what, expected.map(|text| format!("fusion: {text}")).iter().map(String::as_str).collect::<Vec<_>>(), "{status:?}");
        assert!(told.iter().all(|(_, remedy)| !remedy.is_empty()));
    }
}

#[test]
fn channels_are_judged() {
    let well =
        ChannelStatus { channel: "syslog".into(), target: "10.0.0.1:514 over tcp".into(), sent: 3, failed: 2, ..ChannelStatus::default() };
    let table = [
        (well.clone(), vec![]),
        (
            ChannelStatus { error: Some("refused".into()), ..well.clone() },
            vec!["notify syslog: 10.0.0.1:514 over tcp: the last note did not arrive: refused"],
        ),
        (ChannelStatus { dropped: 2, ..well }, vec!["notify syslog: 2 notes dropped since the start"]),
    ];
    for (channel, expected) in table {
        let told: Vec<_> = told(|troubles| judge_channel(&channel, troubles)).into_iter().map(|(what, _)| what).collect();
        assert_eq!(told, expected);
    }
}
