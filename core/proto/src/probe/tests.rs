use super::*;

/// First bytes as real clients send them: protocol and bytes.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let hello = crate::tls::tests::records(&crate::tls::tests::message(0x0303, &[0x1301], Some(&[])), 16_384);
    let mut list: Vec<(&'static str, Vec<u8>)> = vec![("tls", hello)];
    let mut add = |name, bytes: &[u8]| list.push((name, bytes.to_vec()));
    // A hello cut over records of one and three bytes.
    add("tls", b"\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x01\x00");
    add("tls", b"\x16\x03\x01\x00\x03\x01\x00\x01\x16\x03\x01\x00\x01\x00");
    // SSL 2 hello: version 3.0, two ciphers, challenge of 16.
    add("tls", &[&[0x80, 31, 1, 3, 0, 0, 6, 0, 0, 0, 16, 1, 0, 0x80, 0, 0, 4][..], &[7; 16]].concat());
    add("ssh", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n");
    add("ssh", b"SSH-1.5-x\n");
    add("proxy", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
    add("proxy", b"PROXY UNKNOWN\r\n");
    add("proxy", &[&crate::proxy::SIGNATURE[..], &[0x21, 0x11, 0, 12], &[1; 12]].concat());
    add("http2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    add("http", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    add("http", b"OPTIONS * HTTP/1.0\r\n\r\n");
    add("http", b"CONNECT a.example:443 HTTP/1.1\r\n\r\n");
    add("http", b"BREW /pot HTTP/1.1\r\n");
    add("http", b"GET /\r\n");
    add("http", b"HTTP/1.1 200 OK\r\n");
    add("rtsp", b"OPTIONS rtsp://a/ RTSP/1.0\r\nCSeq: 1\r\n");
    add("rtsp", b"OPTIONS * RTSP/1.0\r\n");
    add("sip", b"OPTIONS sip:nm SIP/2.0\r\n");
    add("sip", b"REGISTER sip:a.example SIP/2.0\r\n");
    add("sip", b"SIP/2.0 200 OK\r\n");
    add("rdp", b"\x03\x00\x00\x2a\x25\xe0\x00\x00\x00\x00\x00Cookie: mstshash=eltons\r\n\x01\x00\x08\x00\x03\x00\x00\x00");
    add("rdp", b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x0b\x00\x00\x00");
    add("iso-tsap", b"\x03\x00\x00\x16\x11\xe0\x00\x00\x00\x01\x00\xc1\x02\x01\x00\xc2\x02\x01\x02\xc0\x01\x0a");
    add("smb1", b"\x00\x00\x00\x85\xffSMBr\x00\x00\x00\x00");
    add("smb2", b"\x00\x00\x00\x6c\xfeSMB\x40\x00");
    let name = [b"\x81\x00\x00\x44\x20".as_slice(), b"CKFDENECFDEFFCFGEFFCCACACACACACA", &[0], b"\x20EKEFFCFC"].concat();
    add("netbios-session", &name);
    add("dcerpc", b"\x05\x00\x0b\x03\x10\x00\x00\x00\x48\x00\x00\x00\x01\x00\x00\x00");
    add("smtp", b"EHLO scanner.example\r\n");
    add("smtp", b"MAIL FROM:<a@b>\r\n");
    add("ftp", b"USER anonymous\r\n");
    add("ftp", b"SYST\r\n");
    add("pop3", b"CAPA\r\n");
    add("pop3", b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n");
    add("imap", b"a001 LOGIN joe secret\r\n");
    add("imap", b"1 CAPABILITY\r\n");
    add("irc", b"NICK bot\r\nUSER bot 0 * :bot\r\n");
    add("irc", b"USER bot 0 * :bot\r\n");
    add("irc", b"CAP LS 302\r\n");
    add("telnet", b"\xff\xfb\x1f\xff\xfb\x20\xff\xfd\x01");
    let mut login = vec![0x54, 0, 0, 1, 0x85, 0xa6, 0xff, 0x01, 0, 0, 0, 1, 0x21];
    login.resize(36, 0);
    add("mysql", &[&login[..], b"root\0"].concat());
    add("mysql", b"\x4a\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00");
    add("postgres", &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
    add("postgres", b"\x00\x00\x00\x17\x00\x03\x00\x00user\0postgres\0\0");
    let prelogin = b"\x12\x01\x00\x2f\x00\x00\x01\x00\x00\x00\x1a\x00\x06\x01\x00\x20\x00\x01\x02\x00\x21\x00\x01\x03\x00\x22\x00\x04\xff";
    add("mssql", prelogin);
    let mut login7 = vec![0x10, 1, 0, 0x90, 0, 0, 1, 0, 0x88, 0, 0, 0, 4, 0, 0, 0x74];
    login7.resize(0x90, 0);
    add("mssql", &login7);
    let tns = b"\x00\x5a\x00\x00\x01\x00\x00\x00\x01\x36\x01\x2c\x00\x00\x08\x00\x7f\xff\x7f\x08\x00\x00\x00\x01\x00\x20\x00\x3a";
    add("oracle-tns", tns);
    add("mongodb", &[&[58, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xd4, 7, 0, 0][..], &[0; 42]].concat());
    add("mongodb", &[58, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0, 0]);
    add("redis", b"*1\r\n$4\r\nINFO\r\n");
    add("redis", b"CONFIG GET *\r\n");
    add("memcached", b"stats\r\n");
    add("memcached", b"set k 0 900 3\r\nabc\r\n");
    add("memcached", &[&[0x80, 0x0b][..], &[0; 22]].concat());
    add("ldap", b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00");
    add("ldap", b"\x30\x84\x00\x00\x00\x2d\x02\x01\x07\x63\x84\x00\x00\x00\x24\x04\x00\x0a\x01\x00");
    add("ldap", b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16");
    add("kerberos", b"\x00\x00\x00\x8c\x6a\x81\x89\x30\x81\x86\xa1\x03\x02\x01\x05\xa2\x03\x02\x01\x0a\xa4");
    add("kerberos", b"\x6a\x81\x89\x30\x81\x86\xa1\x03\x02\x01\x05\xa2\x03\x02\x01\x0a\xa4");
    add("snmp", b"\x30\x26\x02\x01\x01\x04\x06public\xa0\x19");
    add("snmp", b"\x30\x3e\x02\x01\x03\x30\x0e\x02\x01\x07\x02\x02\x05\xdc\x04\x01\x04\x02\x01\x03\x04");
    let query = b"\x00\x06\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07version\x04bind\x00\x00\x10\x00\x03";
    add("dns", &[&[0, 30][..], query].concat());
    add("mqtt", b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd");
    add("mqtt", b"\x10\x12\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x04abcd");
    add("amqp", b"AMQP\x00\x00\x09\x01");
    add("socks4", b"\x04\x01\x00\x50\xc0\x00\x02\x01joe\0");
    add("socks4", b"\x04\x01\x00\x50\x00\x00\x00\x01\0a.example\0");
    add("socks5", b"\x05\x01\x00");
    add("socks5", b"\x05\x02\x00\x02");
    add("vnc", b"RFB 003.008\n");
    add("x11", b"l\x00\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00");
    add("x11", b"B\x00\x00\x0b\x00\x00\x00\x12\x00\x10\x00\x00");
    add(
        "adb",
        &[b"CNXN".as_slice(), &[0, 0, 0, 1, 0, 0, 4, 0, 7, 0, 0, 0, 0x32, 2, 0, 0], &[0xbc, 0xb1, 0xa7, 0xb1], b"host::\0"].concat(),
    );
    add("modbus", &[0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 10]);
    add("modbus", &[0, 1, 0, 0, 0, 5, 1, 43, 14, 1, 0]);
    add("ajp", &[0x12, 0x34, 0, 1, 10]);
    add("ajp", b"\x12\x34\x00\x60\x02\x02\x00\x08HTTP/1.1\x00\x00\x01/");
    add("java-rmi", b"JRMI\x00\x02K");
    add("bittorrent", b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0");
    add("git", b"0032git-upload-pack /project.git\0host=a\0");
    add("rsync", b"@RSYNCD: 31.0\n");
    add("stratum", b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n");
    list
}

#[test]
fn every_protocol_is_named_by_its_own_bytes() {
    for (name, bytes) in samples() {
        assert_eq!(probe(&bytes), Probe { protocol: Some(name), verdict: Verdict::Certain }, "{name}: {}", bytes.escape_ascii());
    }
    for def in TABLE {
        assert!(samples().iter().any(|(name, _)| *name == def.name), "no sample of {}", def.name);
    }
    let mut names: Vec<_> = TABLE.iter().map(|def| def.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TABLE.len());
}

/// While the bytes arrive, the right protocol is never ruled out and no other is ever certain.
#[test]
fn a_prefix_never_misleads() {
    for (name, bytes) in samples() {
        for cut in 0..=bytes.len() {
            for def in TABLE {
                let answer = (def.check)(&bytes[..cut]);
                let shown = bytes[..cut].escape_ascii();
                if def.name == name {
                    assert_ne!(answer, Verdict::NotForUs, "{name} ruled out at {cut}: {shown}");
                } else {
                    assert_ne!(answer, Verdict::Certain, "{name} taken for {} at {cut}: {shown}", def.name);
                }
            }
        }
    }
}

/// Once one protocol is certain of the first bytes, more bytes after the message do not undo it,
/// except where the end of the bytes is part of the evidence.
#[test]
fn certain_stays_certain() {
    let needs_the_end = ["socks4", "socks5", "modbus", "telnet"];
    for (name, bytes) in samples() {
        if !needs_the_end.contains(&name) {
            let longer = [&bytes[..], b"\xff\x00 more\r\n"].concat();
            assert_eq!(probe(&longer).protocol, Some(name), "{}", longer.escape_ascii());
        }
    }
}

#[test]
fn benign_twins_are_not_claimed() {
    let twins: &[&[u8]] = &[
        b"",
        b"\r\n",
        b"\r\n\r\n",
        b"hello\r\n",
        b"Get well soon\r\n",
        b"get well soon\r\n",
        b"GET OFF MY LAWN\r\n",
        b"POST OFFICE\r\n",
        b"SSH is a protocol\r\n",
        b"user manual\r\n",
        b"USER root\r\n",
        b"USER a b c d\r\n",
        b"QUIT\r\n",
        b"HELP\r\n",
        b"stat\r\n",
        b"PROXY statement\r\n",
        b"please LOGIN now\r\n",
        b"a login page\r\n",
        b"set the table for four\r\n",
        b"set fire to the rain 1 2\r\n",
        b"stats are boring\r\n",
        b"PING\r\n",
        b"INFO\r\n",
        b"*bold*\r\n",
        b"*12 reasons\r\n",
        b"NICK of time\r\n",
        b"TYPE I error\r\n",
        b"CONFIG is wrong\r\n",
        b"OPTIONS are good\r\n",
        b"RFB is remote framebuffer\n",
        b"AMQPX",
        b"JRMI",
        b"0032git is nice",
        b"{\"id\":1}\n",
        b"root\r\n",
        b"admin\r\nadmin\r\n",
        b"\xff\xd8\xff\xe0\x00\x10JFIF",
        b"\xff\xfe1\x00a\x00",
        b"\x7fELF\x02\x01\x01",
        b"\x16\x03",
        b"\x16\x03\x01\x00\x05\x10",
        b"\x16\x04\x01\x00\x40\x01\x00\x00",
        b"\x03\x00\x00\x0b\x06\xe0\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x85\xffSMC",
        b"\x05\x03\x00",
        b"\x05\x01\x7f",
        b"\x04\x01\x00\x50\xc0\x00\x02\x01joe",
        b"\x04\x01\x00\x50\xc0\x00\x02\x01joe\0junk",
        b"\x04\x03\x00\x50\xc0\x00\x02\x01\x00",
        b"\x10\x0c\x00\x04MQTX\x04\x02",
        b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
        b"\x00\x01\x00\x00\x00\x06\x01\x03\x00\x00\x00",
        b"\x00\x01\x00\x00\x00\x06\x01\x63\x00\x00\x00\x0a",
        b"\x12\x34\x00\x05\x0a",
        b"\x12\x01\x00\x2f\x00\x00\x01\x01\x00",
        b"l\x00\x0a\x00\x00\x00",
        b"CNXN\x00\x00\x00\x01\x00\x00\x04\x00\x07\x00\x00\x00\x32\x02\x00\x00\x00\x00\x00\x00",
        b"\x00\x1e\x00\x06\x81\x80\x00\x01\x00\x00\x00\x00\x00\x00\x07version\x04bind\x00\x00\x10\x00\x03",
        b"\x00\x1e\x00\x06\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07version\x04bind\x00\x00\x10\x00\x07",
    ];
    for twin in twins {
        assert_ne!(probe(twin).verdict, Verdict::Certain, "{}: {:?}", twin.escape_ascii(), probe(twin));
    }
    for byte in 0..=255_u8 {
        for length in [1, 2, 3, 16, 64, 512] {
            let run = vec![byte; length];
            assert_ne!(probe(&run).verdict, Verdict::Certain, "{length} × {byte:#04x}: {:?}", probe(&run));
        }
    }
}

/// Noise is hardly ever claimed: fewer than one in twenty thousand of 2 to 80 random bytes.
#[test]
fn noise_is_not_claimed() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut claimed = Vec::new();
    const SAMPLES: usize = 200_000;
    for _ in 0..SAMPLES {
        let length = usize::try_from(next() % 79).unwrap() + 2;
        let bytes: Vec<u8> = (0..length).map(|_| next().to_le_bytes()[3]).collect();
        if probe(&bytes).verdict == Verdict::Certain {
            claimed.push((probe(&bytes).protocol, bytes));
        }
    }
    assert!(claimed.len() * 20_000 <= SAMPLES, "{} claimed: {claimed:?}", claimed.len());
}

#[test]
fn the_only_candidate_is_named_but_unsure() {
    assert_eq!(probe(b""), Probe { protocol: None, verdict: Verdict::Unsure });
    assert_eq!(probe(b"\x13BitT"), Probe { protocol: Some("bittorrent"), verdict: Verdict::Unsure });
    assert_eq!(probe(b"USER root\r\n"), Probe { protocol: None, verdict: Verdict::Unsure });
    assert_eq!(probe(b"\xfe\xfe\xfe\xfe").verdict, Verdict::NotForUs);
}
