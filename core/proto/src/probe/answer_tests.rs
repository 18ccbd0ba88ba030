use super::*;
use proptest::prelude::*;

/// First bytes of those who were asked, and datagrams, as real ones send them.
fn answers() -> Vec<(&'static str, Vec<u8>, Fit)> {
    let mut list: Vec<(&'static str, Vec<u8>, Fit)> = Vec::new();
    let mut add = |name, bytes: &[u8], fit| list.push((name, bytes.to_vec(), fit));
    add("tls", b"\x16\x03\x03\x00\x50\x02\x00\x00\x4c", Fit::Names);
    add("tls", b"\x16\x03\x01\x00\x01\x02\x16\x03\x01\x00\x01\x00", Fit::Names);
    add("tls", b"\x15\x03\x01\x00\x02\x02\x28", Fit::Fits);
    add("tls", b"\x83\x25\x04\x00\x01\x00\x02", Fit::Fits);
    add("ssh", b"SSH-2.0-OpenSSH_9.2p1\r\n", Fit::Names);
    add("ssh", b"hello\r\nthere\r\nSSH-1.99-x\n", Fit::Names);
    add("http2", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03", Fit::Fits);
    add("http", b"HTTP/1.1 400 Bad Request\r\n", Fit::Names);
    add("rtsp", b"RTSP/1.0 200 OK\r\n", Fit::Names);
    add("sip", b"SIP/2.0 404 Not here\r\n", Fit::Names);
    add("rdp", b"\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00\x02", Fit::Fits);
    add("iso-tsap", b"\x03\x00\x00\x16\x11\xd0\x00\x01\x00\x02\x00\xc0", Fit::Fits);
    add("smb1", b"\x00\x00\x00\x85\xffSMBr\x00", Fit::Fits);
    add("smb1", b"\x00\x00\x01\x00\xfeSMB\x40\x00", Fit::Fits);
    add("smb2", b"\x00\x00\x01\x00\xfeSMB\x40\x00", Fit::Fits);
    add("netbios-session", b"\x82\x00\x00\x00", Fit::Fits);
    add("dcerpc", b"\x05\x00\x0c\x03\x10\x00\x00\x00\x44\x00\x00\x00", Fit::Fits);
    add("smtp", b"220 mx.example ESMTP Postfix\r\n", Fit::Names);
    add("smtp", b"220 ready\r\n", Fit::Fits);
    add("ftp", b"220 (vsFTPd 3.0.3)\r\n", Fit::Names);
    add("ftp", b"220-Welcome\r\n", Fit::Fits);
    add("pop3", b"+OK POP3 ready\r\n", Fit::Names);
    add("pop3", b"+OK\r\n", Fit::Fits);
    add("imap", b"* OK [CAPABILITY IMAP4rev1] ready\r\n", Fit::Names);
    add("imap", b"* OK ready\r\n", Fit::Fits);
    add("irc", b":irc.example NOTICE * :*** Looking up\r\n", Fit::Fits);
    add("telnet", b"\xff\xfd\x18\xff\xfd\x20", Fit::Fits);
    add("mysql", b"\x4a\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00", Fit::Names);
    add("mysql", b"\x45\x00\x00\x00\xff\x6a\x04Host", Fit::Fits);
    add("postgres", b"S", Fit::Fits);
    add("postgres", b"R\x00\x00\x00\x08\x00\x00\x00\x00", Fit::Fits);
    add("mssql", b"\x04\x01\x00\x2b\x00\x00\x01\x00\x00", Fit::Fits);
    add("oracle-tns", b"\x00\x20\x00\x00\x02\x00\x00\x00", Fit::Fits);
    add("mongodb", &[36, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], Fit::Fits);
    add("redis", b"+PONG\r\n", Fit::Names);
    add("redis", b"$7\r\nversion\r\n", Fit::Fits);
    add("memcached", b"STAT pid 1\r\n", Fit::Fits);
    add("ldap", b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00", Fit::Fits);
    add("kerberos", b"\x00\x00\x00\x90\x7e\x81\x8d\x30\x81\x8a", Fit::Fits);
    add("snmp", b"\x30\x26\x02\x01\x01\x04\x06public\xa2\x19", Fit::Fits);
    add("dns", b"\x00\x1e\x00\x06\x81\x80\x00\x01\x00\x00", Fit::Fits);
    add("mqtt", b"\x20\x02\x00\x00", Fit::Fits);
    add("amqp", b"\x01\x00\x00\x00\x00\x01\xf0\x00\x0a", Fit::Fits);
    add("socks4", b"\x00\x5a\x00\x00\x00\x00\x00\x00", Fit::Fits);
    add("socks5", b"\x05\x00", Fit::Fits);
    add("vnc", b"RFB 003.008\n", Fit::Names);
    add("x11", b"\x00\x0d\x0b\x00\x00\x00\x04\x00", Fit::Fits);
    add("adb", &[b"AUTH".as_slice(), &[1, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0], &[0xbe, 0xaa, 0xab, 0xb7]].concat(), Fit::Fits);
    add("modbus", &[0, 1, 0, 0, 0, 5, 1, 3, 2, 0, 9], Fit::Fits);
    add("ajp", b"AB\x00\x01\x09", Fit::Fits);
    add("java-rmi", b"\x4e\x00\x09127.0.0.1", Fit::Fits);
    add("bittorrent", b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0", Fit::Names);
    add("git", b"0032abcdef", Fit::Fits);
    add("rsync", b"@RSYNCD: 31.0\n", Fit::Names);
    add("stratum", b"{\"id\":1,\"result\":true}\n", Fit::Fits);
    list
}

#[test]
fn every_protocol_has_an_answer() {
    for (name, bytes, expected) in answers() {
        let def = definition(name).unwrap();
        assert_eq!((def.answer)(&bytes), expected, "{name}: {}", bytes.escape_ascii());
        if expected == Fit::Names {
            assert_eq!(answer(&bytes).map(|def| def.name), Some(name), "{name}: {}", bytes.escape_ascii());
        }
        for cut in 0..bytes.len() {
            assert_ne!((def.answer)(&bytes[..cut]), Fit::No, "{name} ruled out at {cut} of {}", bytes.escape_ascii());
        }
    }
    for def in TABLE.iter().filter(|def| def.name != "proxy") {
        assert!(answers().iter().any(|(name, ..)| *name == def.name), "no answer of {}", def.name);
    }
}

/// An answer alone that others give too names nothing, and no beginning of an answer names another.
#[test]
fn beginnings_do_not_mislead() {
    for (name, bytes, _) in answers() {
        for cut in 0..=bytes.len() {
            if let Some(found) = answer(&bytes[..cut]) {
                assert_eq!(found.name, name, "at {cut} of {}", bytes.escape_ascii());
            }
        }
    }
}

#[test]
fn two_sides_together_name_what_neither_does() {
    let pair = |a: &[u8], b: &[u8]| pair(a, b).map(|def| def.name);
    assert_eq!(pair(b"USER root\r\n", b"220 ready\r\n"), Some("ftp"));
    assert_eq!(pair(b"USER root\r\n", b"+OK\r\n"), Some("pop3"));
    assert_eq!(pair(b"USER root\r\n", b"hello\r\n"), None);
    assert_eq!(pair(b"QUIT\r\n", b"220 ready\r\n"), None);
    assert_eq!(pair(b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"), None);
    assert_eq!(pair(b"", b"220 ready\r\n"), None);
}

fn datagrams() -> Vec<(&'static str, Vec<u8>)> {
    let mut list: Vec<(&'static str, Vec<u8>)> = Vec::new();
    let mut add = |name, bytes: &[u8]| list.push((name, bytes.to_vec()));
    let sized = |start: &[u8], size: usize| {
        let mut bytes = start.to_vec();
        bytes.resize(size, 0);
        bytes
    };
    add("dns", b"\x00\x06\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07version\x04bind\x00\x00\x10\x00\x03");
    add("dns", b"\x00\x06\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01");
    add("llmnr", b"\x21\x96\x80\x00\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01\x01a\x00\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\x0a\x00\x00\x01");
    add("mdns", b"\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04_ipp\x04_tcp\x05local\x00\x00\x0c\x00\x01");
    add(
        "nbns",
        &[&[0x82, 0x28, 1, 0x10, 0, 1, 0, 0, 0, 0, 0, 0, 32][..], b"CKFDENECFDEFFCFGEFFCCACACACACACA", &[0, 0, 0x20, 0, 1]].concat(),
    );
    add("snmp", b"\x30\x26\x02\x01\x01\x04\x06public\xa0\x19");
    add("kerberos", b"\x6a\x81\x89\x30\x81\x86\xa1\x03\x02\x01\x05\xa2\x03\x02\x01\x0a\xa4");
    add("kerberos", b"\x7e\x03\x30\x01\x00");
    add("cldap", b"\x30\x84\x00\x00\x00\x2d\x02\x01\x07\x63\x84\x00\x00\x00\x24\x04\x00\x0a\x01\x00");
    add("quic", &sized(b"\xc3\x00\x00\x00\x01\x08abcdefgh\x00", 1_200));
    add("quic", &sized(b"\xd3\x6b\x33\x43\xcf\x08abcdefgh\x00", 1_200));
    add("stun", b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl");
    add("sip", b"OPTIONS sip:nm SIP/2.0\r\n");
    add("ssdp", b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n");
    add("ssdp", b"HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\n");
    add("dhcp", &[sized(&[1, 1, 6, 0], 236), vec![0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255]].concat());
    add("tftp", b"\x00\x01file\x00octet\x00");
    add("syslog", b"<13>Jan  1 00:00:00 host x: y");
    add("ike", &[&[7; 16][..], &[0x21, 0x20, 0x22, 8, 0, 0, 0, 0, 0, 0, 0, 40], &[0; 12]].concat());
    add("wireguard", &sized(&[1, 0, 0, 0], 148));
    add("openvpn", &[&[0x38][..], &[9; 8], &[0, 0, 0, 0, 0]].concat());
    add("radius", &[&[1, 9, 0, 26][..], &[3; 16], &[1, 6, b'j', b'o', b'e', b'x']].concat());
    add("netflow5", &sized(&[0, 5, 0, 1], 72));
    add("netflow9", &[sized(&[0, 9, 0, 1], 20), vec![0, 0, 0, 12, 1, 0, 0, 1, 0, 8, 0, 4]].concat());
    add("ipfix", &[sized(&[0, 10, 0, 28], 16), vec![0, 2, 0, 12, 1, 0, 0, 1, 0, 8, 0, 4]].concat());
    add("sflow", &sized(&[0, 0, 0, 5, 0, 0, 0, 1], 28));
    add("netbios-datagram", &[sized(&[0x11, 2, 0, 1, 10, 0, 0, 1, 0, 138, 0, 6], 14), vec![0; 6]].concat());
    add("bittorrent", b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping");
    add("ntp", &sized(&[0x23, 0, 6, 0xec], 48));
    list
}

#[test]
fn every_datagram_is_named() {
    for (name, bytes) in datagrams() {
        assert_eq!(datagram(&bytes), Some(name), "{}", bytes.escape_ascii());
        // A cut datagram is never taken for something else, except what has no length of its own.
        for cut in 0..bytes.len() {
            let found = datagram(&bytes[..cut]);
            assert!(
                found.is_none_or(|found| found == name || ["mdns", "dns"].contains(&found) && ["mdns", "nbns"].contains(&name)),
                "{name} cut at {cut}: {found:?}"
            );
        }
    }
    for def in DATAGRAMS {
        assert!(datagrams().iter().any(|(name, _)| *name == def.name), "no datagram of {}", def.name);
    }
}

#[test]
fn benign_datagrams_are_not_claimed() {
    for twin in [
        &b""[..],
        b"hello",
        b"<999>x",
        b"<13>",
        b"\x00\x01file",
        b"HTTP/1.1 200 OK\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 48],
        &[0xff; 148],
        &[0; 512],
    ] {
        assert_eq!(datagram(twin), None, "{}", twin.escape_ascii());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::tests::cases()))]

    /// Mutated beginnings end in an answer, and noise names hardly anything.
    #[test]
    fn arbitrary_bytes(which: usize, at: usize, byte: u8, noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        let list = answers();
        let (_, mut bytes, _) = list[which % list.len()].clone();
        let place = at % bytes.len();
        bytes[place] = byte;
        bytes.extend(&noise);
        for def in TABLE {
            let _ = (def.answer)(&bytes);
            let _ = def.may_ask(&bytes);
            let _ = (def.answer)(&noise);
        }
        let list = datagrams();
        let (_, mut bytes) = list[which % list.len()].clone();
        let place = at % bytes.len();
        bytes[place] = byte;
        let _ = datagram(&bytes);
        let _ = datagram(&noise);
    }
}

#[test]
fn noise_is_hardly_ever_named() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut streams, mut claimed) = (Vec::new(), Vec::new());
    for _ in 0..100_000 {
        let length = usize::try_from(next() % 120).unwrap() + 2;
        let bytes: Vec<u8> = (0..length).map(|_| next().to_le_bytes()[3]).collect();
        streams.extend(answer(&bytes).map(|def| def.name));
        claimed.extend(datagram(&bytes));
    }
    assert!(streams.len() <= 5 && claimed.len() <= 60, "{streams:?} {claimed:?}");
}
