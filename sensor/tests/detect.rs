//! The wire detectors over public captures: what must be found and what must not, and that the packets a
//! finding names, cut out with tshark by the finding's own filter, give it again with the same id.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod build;

use build::corpus;
use glasshive_detect::{Finding, Severity};
use glasshive_event::FindingId;
use glasshive_event::flow::FlowEnd;
use glasshive_pcapng::Packets;
use glasshive_sensor::pipeline::{Output, Packet, Pipeline, Settings};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The last word of every finding of a file, with its detector's name.
fn findings(path: &Path) -> BTreeMap<FindingId, (&'static str, Finding)> {
    let mut pipeline = Pipeline::new(Settings::default()).unwrap();
    let mut packets = Packets::new(std::fs::File::open(path).unwrap());
    let mut found = BTreeMap::new();
    let mut take = |output: Output| {
        if let Output::Finding(def, finding) = output {
            found.insert(finding.id(def), (def.name, *finding));
        }
    };
    while let Some(captured) = packets.next_packet() {
        let at = glasshive_event::Timestamp(captured.time_ns);
        let packet = Packet { at, link_type: captured.link_type, data: captured.data, original_length: captured.original_length };
        pipeline.packet(&packet, &mut take);
    }
    pipeline.finish(FlowEnd::Shutdown, &mut take);
    found
}

/// Capture, detector, begin of the key.
const FOUND: &[(&str, &str, &str)] = &[
    ("misport/ndpi__http_on_sip_port.pcap", "port_mismatch", "unlisted tcp"),
    ("misport/zeek__http-on-port-5432.pcap", "port_mismatch", "registered tcp"),
    ("misport/zeek__http-to-ssh.pcap", "port_mismatch", "one-side tcp"),
    ("misport/zeek__quicv2-echo-dpd-custom-port-4433.pcap", "port_mismatch", "unlisted udp"),
    ("misport/zeek__ssh-on-port-80.pcap", "port_mismatch", "registered tcp"),
    ("scan/bro-simple-scan__port_scan.pcap", "scan", "ports tcp connect"),
    ("scan/curated-pcaps__nmap_80_w_service_detection.pcap", "scan", "version"),
    ("scan/curated-pcaps__one_way_F.pcap", "scan", "ports tcp fin"),
    ("scan/curated-pcaps__one_way_None.pcap", "scan", "ports tcp null"),
    ("scan/curated-pcaps__one_way_UPF.pcap", "scan", "ports tcp xmas"),
    ("scan/curated-pcaps__tcp_0_1000_20190821.pcap", "scan", "ports tcp connect"),
    ("scan/ndpi__synscan.pcap", "scan", "ports tcp connect"),
    ("scan/pcaphunt__hs-arpScan.pcap", "scan", "arp"),
    ("scan/pcaphunt__hs-sh-IPscan.pcapng", "scan", "protocols"),
    ("scan/pcaphunt__ps-tcp_syn.pcap", "scan", "ports tcp connect"),
    ("scan/pcaphunt__ps-udp.pcap", "scan", "ports udp connect"),
    ("scan/stratospherelinuxips__dataset_test12-icmp-portscan.pcap", "scan", "icmp"),
    ("weakcrypto/arkime__openssl-ssl3.pcap", "weak_crypto", "version"),
    ("weakcrypto/ndpi__smbv1.pcap", "weak_crypto", "protocol"),
    ("weakcrypto/ndpi__tls_port_80.pcapng", "port_mismatch", "registered tcp"),
    ("weakcrypto/sv__ssl-v2-s1.pcap", "weak_crypto", "dh"),
    ("weakcrypto/zeek__ssl-v2.pcap", "weak_crypto", "version"),
    ("weakcrypto/zeek__ssl.v3.pcap", "weak_crypto", "cipher"),
    ("weakcrypto/zeek__tls1.2.pcap", "weak_crypto", "cipher"),
    ("weakcrypto/zeek__tls1_1.pcap", "weak_crypto", "version"),
];

#[test]
fn what_the_captures_are_labelled_with_is_found() {
    let Some(corpus) = corpus() else { return };
    for (path, detector, key) in FOUND {
        let found = findings(&corpus.join(path));
        let keys: Vec<_> = found.values().map(|(name, finding)| (*name, finding.key.as_str())).collect();
        assert!(keys.iter().any(|(name, found)| name == detector && found.starts_with(key)), "{path}: {keys:?}");
    }
}

/// Benign captures in which something weak or out of place is really there: detector and begin of the key.
const REMARKS: &[(&str, &str, &str)] = &[
    ("proto/arkime__mysql-tls.pcap", "weak_crypto", "version"),
    ("proto/arkime__smb-smbclient.pcap", "weak_crypto", "protocol"),
    ("proto/zeek__rdp-to-ssl.pcap", "weak_crypto", "version"),
    ("proto/zeek__rdp-to-ssl.pcap", "weak_crypto", "signature"),
    ("proto/zeek__smtp-starttls.pcap", "weak_crypto", "signature"),
];

#[test]
fn benign_captures_raise_nothing_but_remarks_that_are_true() {
    let Some(corpus) = corpus() else { return };
    let truth = std::fs::read_to_string(corpus.join("truth.tsv")).unwrap();
    let benign: BTreeSet<&str> = truth
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|row| row[1] == "benign" && row[2] == "yes")
        .map(|row| row[0])
        .collect();
    assert!(benign.len() > 50);
    for path in benign {
        for (name, finding) in findings(&corpus.join(path)).into_values() {
            let remark = REMARKS.iter().any(|(of, detector, key)| *of == path && *detector == name && finding.key.starts_with(key));
            assert!(remark && finding.severity <= Severity::Low, "{path}: {name} {} {:?}", finding.key, finding.severity);
        }
    }
}

#[test]
fn what_tshark_cuts_out_by_a_findings_filter_gives_the_finding_again() {
    let Some(corpus) = corpus() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut tried = 0;
    for (path, _, _) in FOUND.iter().chain(REMARKS) {
        for (id, (name, finding)) in findings(&corpus.join(path)).into_iter().take(4) {
            let cut = dir.path().join("cut.pcapng");
            let filter = finding.scope.display_filter();
            let output = std::process::Command::new("tshark")
                .arg("-nr")
                .arg(corpus.join(path))
                .args(["-Y", &filter, "-w"])
                .arg(&cut)
                .output()
                .unwrap();
            assert!(output.status.success(), "{filter}: {}", String::from_utf8_lossy(&output.stderr));
            let again = findings(&cut);
            let keys: Vec<_> = again.values().map(|(_, finding)| &finding.key).collect();
            assert!(again.contains_key(&id), "{path}: {name} {} is not among {keys:?}", finding.key);
            tried += 1;
        }
    }
    assert!(tried >= 20, "only {tried} findings");
}
