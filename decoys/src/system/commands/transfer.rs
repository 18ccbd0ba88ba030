//! `wget`, `curl`, `ssh` and `scp`: nothing is ever dialled; the attempt is noted and fails as an unreachable network does.

use std::net::IpAddr;

use super::{Cx, has, number, show, value};
use crate::system::{shell::exec::Exec, time};

/// Tools that fetch but are not installed; what they were to fetch is noted all the same.
const TOOLS: [&str; 8] = ["tftp", "ftpget", "busybox", "curl", "wget", "fetch", "lynx", "aria2c"];

/// Notes the addresses in the words of a fetching command that is not installed.
pub(super) fn missed(x: &mut Exec<'_>, args: &[Vec<u8>]) {
    let Some(name) = args.first().map(|a| show(crate::system::fs::split(a).1)) else { return };
    let Some(mut tool) = TOOLS.iter().find(|t| **t == name).copied() else { return };
    let mut words: Vec<String> = args.iter().skip(1).map(|a| show(a)).collect();
    if tool == "busybox" {
        let Some(applet) = words.first().and_then(|w| TOOLS.iter().find(|t| *t == w)) else { return };
        tool = applet;
        words.remove(0);
    }
    match tool {
        "tftp" | "ftpget" => {
            // `tftp -g -r FILE HOST`, `tftp HOST -c get FILE`, `ftpget -u U -p P HOST LOCAL REMOTE`.
            let mut file = String::new();
            let mut plain = Vec::new();
            let mut at = words.iter();
            while let Some(w) = at.next() {
                match w.as_str() {
                    "-r" => file = at.next().cloned().unwrap_or_default(),
                    "-l" | "-u" | "-p" | "-P" | "-b" => {
                        at.next();
                    }
                    "-c" => {}
                    w if w.starts_with('-') => {}
                    w => plain.push(w.to_owned()),
                }
            }
            plain.retain(|w| w != "get");
            let host = plain.first().cloned().unwrap_or_default();
            if file.is_empty() {
                file = plain.last().filter(|_| plain.len() > 1).cloned().unwrap_or_default();
            }
            if !host.is_empty() {
                let scheme = if tool == "tftp" { "tftp" } else { "ftp" };
                x.note_download(tool, format!("{scheme}://{host}/{}", file.trim_start_matches('/')).as_bytes());
            }
        }
        _ => {
            for w in words.iter().filter(|w| w.contains("://") || (w.contains('.') && !w.starts_with('-') && w.contains('/'))) {
                let url = if w.contains("://") { w.clone() } else { format!("http://{w}") };
                x.note_download(tool, url.as_bytes());
            }
        }
    }
}

struct Url {
    full: String,
    scheme: String,
    host: String,
    port: u16,
    file: String,
}

fn parse(text: &str) -> Url {
    let (scheme, rest) = text.split_once("://").map_or(("http", text), |(s, r)| (s, r));
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(a, p)| (a, p));
    let authority = authority.rsplit_once('@').map_or(authority, |(_, a)| a);
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (h, p) = v6.split_once(']').unwrap_or((v6, ""));
            (h.to_owned(), p.trim_start_matches(':').parse().ok())
        }
        None => authority.rsplit_once(':').map_or((authority.to_owned(), None), |(h, p)| (h.to_owned(), p.parse().ok())),
    };
    let port = port.unwrap_or(match scheme {
        "https" => 443,
        "ftp" => 21,
        _ => 80,
    });
    let file = path.split(['?', '#']).next().unwrap_or("").rsplit('/').next().unwrap_or("").to_owned();
    Url { full: format!("{scheme}://{rest}{}", if rest.contains('/') { "" } else { "/" }), scheme: scheme.to_owned(), host, port, file }
}

/// What becomes of a connection: the error text, and how long it takes.
enum Fate {
    NoName,
    NoRoute,
    Refused,
    TimedOut,
}

fn fate(cx: &Cx<'_, '_>, host: &str) -> Fate {
    if host == "localhost" {
        return Fate::Refused;
    }
    let Ok(address) = host.parse::<IpAddr>() else { return Fate::NoName };
    let f = &cx.x.machine.facts;
    if address.is_loopback() || cx.x.machine.spec.addresses.contains(&address) {
        return Fate::Refused;
    }
    match address {
        // A neighbour that does not answer ARP; the world beyond a filtering gateway.
        IpAddr::V4(v) if v.octets().get(..3) == f.v4.octets().get(..3) => Fate::NoRoute,
        IpAddr::V4(v) if v.is_private() => Fate::NoRoute,
        IpAddr::V6(_) => Fate::NoRoute,
        IpAddr::V4(_) => Fate::TimedOut,
    }
}

pub(super) fn wget(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("quiet", b'q'),
        ("output-document=", b'O'),
        ("no-check-certificate", b'1'),
        ("tries=", b't'),
        ("timeout=", b'T'),
        ("directory-prefix=", b'P'),
        ("user-agent=", b'U'),
        ("continue", b'c'),
        ("header=", b'2'),
        ("post-data=", b'3'),
        ("no-verbose", b'n'),
        ("background", b'b'),
        ("recursive", b'r'),
        ("user=", b'4'),
        ("password=", b'5'),
        ("version", b'V'),
        ("help", b'h'),
        ("input-file=", b'i'),
        ("spider", b'6'),
        ("no-proxy", b'7'),
        ("connect-timeout=", b'8'),
        ("limit-rate=", b'9'),
        ("no-cache", b'7'),
    ];
    let Ok((options, rest)) = cx.options(args, "qO:t:T:P:U:cbn:rl:A:e:i:o:a:dSNvVhY:w:Q:R:I:X:D:HLkpKmxE4B:", &longs) else { return 2 };
    if has(&options, b'V') {
        cx.say("GNU Wget 1.21.3 built on linux-gnu.\n\n-cares +digest -gpgme +https +ipv6 +iri +large-file -metalink +nls \n+ntlm +opie +psl +ssl/gnutls \n");
        return 0;
    }
    if has(&options, b'h') {
        cx.say("GNU Wget 1.21.3, a non-interactive network retriever.\nUsage: wget [OPTION]... [URL]...\n");
        return 0;
    }
    if rest.is_empty() {
        cx.err("wget: missing URL\nUsage: wget [OPTION]... [URL]...\n\nTry `wget --help' for more options.\n");
        return 2;
    }
    let quiet = has(&options, b'q') || has(&options, b'b');
    let verbose = !has(&options, b'n');
    let seconds = value(&options, b'T').and_then(|t| number::<i64>(t)).unwrap_or(131).clamp(1, 131);
    let tries = value(&options, b't').and_then(|t| number::<u32>(t)).unwrap_or(20).clamp(1, 20);
    let mut status = 0;
    for word in rest {
        let url = parse(&show(&word));
        cx.x.note_download("wget", url.full.as_bytes());
        let output = value(&options, b'O').map(<[u8]>::to_vec);
        // With -O the file exists, empty, even when nothing came.
        if let Some(path) = output.filter(|o| o != b"-" && o != b"/dev/null") {
            let _ = cx.write_file(&path, Vec::new());
        }
        let mut text = String::new();
        if verbose {
            text.push_str(&format!("--{}--  {}\n", String::from_utf8_lossy(&time::format(b"%F %T", cx.now(), 0)), url.full));
        }
        if !matches!(url.scheme.as_str(), "http" | "https" | "ftp") {
            cx.err(&format!("{}: Unsupported scheme ‘{}’.\n", url.full, url.scheme));
            status = 1;
            continue;
        }
        match fate(cx, &url.host) {
            Fate::NoName => {
                cx.x.pass(5_020_000_000);
                text.push_str(&format!(
                    "Resolving {h} ({h})... failed: Temporary failure in name resolution.\nwget: unable to resolve host address ‘{h}’\n",
                    h = url.host
                ));
            }
            Fate::Refused => text.push_str(&format!("Connecting to {}:{}... failed: Connection refused.\n", url.host, url.port)),
            Fate::NoRoute => {
                cx.x.pass(3_070_000_000);
                text.push_str(&format!("Connecting to {}:{}... failed: No route to host.\n", url.host, url.port));
            }
            Fate::TimedOut => {
                // A visitor's client waits for the first try at most; the rest would take most of an hour.
                let shown = tries.min(if seconds > 30 { 1 } else { 3 });
                for n in 1..=shown {
                    cx.x.pass(seconds * 1_000_000_000);
                    text.push_str(&format!("Connecting to {}:{}... failed: Connection timed out.\n", url.host, url.port));
                    if n < shown {
                        text.push_str(&format!(
                            "Retrying.\n\n--{}--  (try:{:>2})  {}\n",
                            String::from_utf8_lossy(&time::format(b"%F %T", cx.now(), 0)),
                            n + 1,
                            url.full
                        ));
                    } else {
                        text.push_str("Giving up.\n\n");
                    }
                }
            }
        }
        if !quiet {
            cx.err(&text);
        } else if has(&options, b'b') {
            cx.say(&format!("Continuing in background, pid {}.\nOutput will be written to ‘wget-log’.\n", cx.x.session.pid + 20));
            return 0;
        }
        status = 4;
    }
    status
}

pub(super) fn curl(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    const VALUED: &[u8] = b"oAdHXmuUexTFbcwrKEtyYzC";
    let mut urls = Vec::new();
    let (mut silent, mut show_error, mut output, mut remote, mut fail_quiet) = (false, false, None, false, false);
    let mut limit = 131i64;
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        if let Some(long) = arg.strip_prefix(b"--") {
            let name = show(long);
            match name.as_str() {
                "silent" => silent = true,
                "show-error" => show_error = true,
                "fail" => fail_quiet = true,
                "remote-name" => remote = true,
                "output" => output = rest.next().cloned(),
                "max-time" | "connect-timeout" => limit = rest.next().and_then(|a| number::<f64>(a)).map_or(131, |s| s.ceil() as i64),
                "url" => urls.extend(rest.next().cloned()),
                "version" => {
                    cx.say("curl 7.88.1 (x86_64-pc-linux-gnu) libcurl/7.88.1 OpenSSL/3.0.16 zlib/1.2.13 brotli/1.0.9 zstd/1.5.4 libidn2/2.3.3 libpsl/0.21.2 (+libidn2/2.3.3) libssh2/1.10.0 nghttp2/1.52.0 librtmp/2.3 OpenLDAP/2.5.13\nRelease-Date: 2023-02-20, security patched: 7.88.1-10+deb12u12\nProtocols: dict file ftp ftps gopher gophers http https imap imaps ldap ldaps mqtt pop3 pop3s rtmp rtsp scp sftp smb smbs smtp smtps telnet tftp\n");
                    return 0;
                }
                "help" => {
                    cx.say("Usage: curl [options...] <url>\n");
                    return 0;
                }
                "data" | "header" | "request" | "user" | "user-agent" | "referer" | "proxy" | "upload-file" | "form" | "cookie"
                | "data-binary" | "data-raw" | "retry" | "write-out" | "interface" | "resolve" | "cacert" => {
                    rest.next();
                }
                _ => {}
            }
            continue;
        }
        if arg.first() == Some(&b'-') && arg.len() > 1 {
            for (at, letter) in arg.iter().enumerate().skip(1) {
                match letter {
                    b's' => silent = true,
                    b'S' => show_error = true,
                    b'f' => fail_quiet = true,
                    b'O' => remote = true,
                    b'V' => {
                        cx.say("curl 7.88.1 (x86_64-pc-linux-gnu) libcurl/7.88.1 OpenSSL/3.0.16 zlib/1.2.13\n");
                        return 0;
                    }
                    l if VALUED.contains(l) => {
                        let inline = arg.get(at + 1..).unwrap_or_default();
                        let value = if inline.is_empty() { rest.next().cloned().unwrap_or_default() } else { inline.to_vec() };
                        match l {
                            b'o' => output = Some(value),
                            b'm' => limit = number::<f64>(&value).map_or(131, |s| s.ceil() as i64),
                            _ => {}
                        }
                        break;
                    }
                    _ => {}
                }
            }
            continue;
        }
        urls.push(arg.clone());
    }
    let _ = (output, remote, fail_quiet);
    if urls.is_empty() {
        cx.err("curl: try 'curl --help' or 'curl --manual' for more information\n");
        return 2;
    }
    let mut status = 0;
    for word in urls.into_iter().take(32) {
        let url = parse(&show(&word));
        cx.x.note_download("curl", url.full.as_bytes());
        if !silent {
            cx.err("  % Total    % Received % Xferd  Average Speed   Time    Time     Time  Current\n                                 Dload  Upload   Total   Spent    Left  Speed\n\r  0     0    0     0    0     0      0      0 --:--:-- --:--:-- --:--:--     0");
        }
        let (code, message) = match fate(cx, &url.host) {
            Fate::NoName => {
                cx.x.pass(5_020_000_000.min(limit * 1_000_000_000));
                (6, format!("Could not resolve host: {}", url.host))
            }
            Fate::Refused => (7, format!("Failed to connect to {} port {} after 0 ms: Couldn't connect to server", url.host, url.port)),
            Fate::NoRoute if limit > 3 => {
                cx.x.pass(3_070_000_000);
                (
                    7,
                    format!(
                        "Failed to connect to {} port {} after {} ms: Couldn't connect to server",
                        url.host,
                        url.port,
                        3_040 + cx.st.random.next() % 60
                    ),
                )
            }
            _ => {
                cx.x.pass(limit.clamp(1, 131) * 1_000_000_000);
                if limit < 131 {
                    (28, format!("Connection timed out after {} milliseconds", limit * 1_000 + 1))
                } else {
                    (
                        28,
                        format!(
                            "Failed to connect to {} port {} after {} ms: Couldn't connect to server",
                            url.host,
                            url.port,
                            130_000 + cx.st.random.next() % 1_900
                        ),
                    )
                }
            }
        };
        if !silent {
            cx.err("\r  0     0    0     0    0     0      0      0 --:--:-- --:--:-- --:--:--     0\n");
        }
        if !silent || show_error {
            cx.err(&format!("curl: ({code}) {message}\n"));
        }
        let _ = &url.file;
        status = code;
    }
    status
}

pub(super) fn ssh(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if cx.name == "ssh" && args.get(1).is_some_and(|a| a == b"-V") {
        let line = format!("{}, {}\n", cx.x.machine.spec.ssh_version, cx.x.machine.facts.release.openssl);
        cx.err(&line);
        return 0;
    }
    let mut words: Vec<String> = Vec::new();
    let mut port = 22u16;
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        let text = show(arg);
        if text.starts_with('-') && text.len() > 1 {
            let letter = text.chars().nth(1).unwrap_or(' ');
            if "pPoiFlLRDcmbBeEIJOQSWwx".contains(letter) && !(cx.name == "scp" && letter == 'p') {
                let value =
                    if text.len() > 2 { text.get(2..).unwrap_or("").to_owned() } else { rest.next().map(|r| show(r)).unwrap_or_default() };
                if letter == 'p' || letter == 'P' {
                    port = value.parse().unwrap_or(22);
                }
            }
            continue;
        }
        words.push(text);
    }
    let remote = if cx.name == "scp" { words.iter().find(|w| w.contains(':')).cloned() } else { words.first().cloned() };
    let Some(remote) = remote else {
        let line = match cx.name {
            "scp" if words.len() >= 2 => "cp: cannot stat\n".to_owned(),
            "scp" => "usage: scp [-346ABCOpqRrsTv] [-c cipher] [-D sftp_server_path] [-F ssh_config]\n           [-i identity_file] [-J destination] [-l limit] [-o ssh_option]\n           [-P port] [-S program] [-X sftp_option] source ... target\n".to_owned(),
            "sftp" => "usage: sftp [-46AaCfNpqrv] [-B buffer_size] [-b batchfile] [-c cipher]\n          [-D sftp_server_command] [-F ssh_config] [-i identity_file]\n          [-J destination] [-l limit] [-o ssh_option] [-P port]\n          [-R num_requests] [-S program] [-s subsystem | sftp_server]\n          [-X sftp_option] destination\n".to_owned(),
            _ => "usage: ssh [-46AaCfGgKkMNnqsTtVvXxYy] [-B bind_interface]\n           [-b bind_address] [-c cipher_spec] [-D [bind_address:]port]\n           [-E log_file] [-e escape_char] [-F configfile] [-I pkcs11]\n           [-i identity_file] [-J [user@]host[:port]] [-L address]\n           [-l login_name] [-m mac_spec] [-O ctl_cmd] [-o option] [-p port]\n           [-Q query_option] [-R address] [-S ctl_path] [-W host:port]\n           [-w local_tun[:remote_tun]] destination [command [argument ...]]\n".to_owned(),
        };
        cx.err(&line);
        return if cx.name == "ssh" { 255 } else { 1 };
    };
    let (target, file) = remote.split_once(':').map_or((remote.clone(), String::new()), |(h, f)| (h.to_owned(), f.to_owned()));
    let host = target.rsplit('@').next().unwrap_or("").to_owned();
    if cx.name == "scp" {
        cx.x.note_download("scp", format!("scp://{target}/{}", file.trim_start_matches('/')).as_bytes());
    }
    let message = match fate(cx, &host) {
        Fate::NoName => {
            cx.x.pass(5_000_000_000);
            format!("ssh: Could not resolve hostname {host}: Temporary failure in name resolution\n")
        }
        Fate::Refused => format!("ssh: connect to host {host} port {port}: Connection refused\n"),
        Fate::NoRoute => {
            cx.x.pass(3_070_000_000);
            format!("ssh: connect to host {host} port {port}: No route to host\n")
        }
        Fate::TimedOut => {
            cx.x.pass(131_000_000_000);
            format!("ssh: connect to host {host} port {port}: Connection timed out\n")
        }
    };
    cx.err(&message);
    if cx.name != "ssh" {
        cx.err(if cx.name == "scp" { "scp: Connection closed\n" } else { "Connection closed\n" });
    }
    255
}

pub(super) fn ssh_keygen(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut kind = "rsa".to_owned();
    let mut path = None;
    let mut rest = args.iter().skip(1);
    let mut list = false;
    while let Some(arg) = rest.next() {
        match arg.as_slice() {
            b"-t" => kind = rest.next().map(|a| show(a)).unwrap_or_default(),
            b"-f" => path = rest.next().cloned(),
            b"-b" | b"-C" | b"-N" | b"-P" | b"-m" | b"-a" => {
                rest.next();
            }
            b"-l" | b"-y" | b"-R" | b"-F" => list = true,
            _ => {}
        }
    }
    if list {
        let shown = show(path.as_deref().unwrap_or_default());
        cx.err(&format!("{shown}: No such file or directory\n"));
        return 255;
    }
    let home = show(&cx.st.home);
    let path = path.unwrap_or_else(|| format!("{home}/.ssh/id_{kind}").into_bytes());
    let mut rng = cx.st.random.clone();
    let mut letters = |n: usize| {
        (0..n)
            .filter_map(|_| rng.pick(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/").map(|b| char::from(*b)))
            .collect::<String>()
    };
    let (size, lines, public) = match kind.as_str() {
        "ed25519" => (256, 5, format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{}", letters(43))),
        _ => (3_072, 37, format!("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ{}=", letters(508))),
    };
    let body: String = (0..lines).map(|_| letters(70) + "\n").collect();
    let fingerprint = letters(43);
    let comment = format!("{}@{}", show(&cx.st.user), cx.x.machine.spec.hostname);
    let private = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}-----END OPENSSH PRIVATE KEY-----\n");
    if let Err(e) = cx.write_file(&path, private.into_bytes()) {
        cx.err(&format!("Saving key \"{}\" failed: {}\n", show(&path), e.text()));
        return 1;
    }
    if let Ok((real, _)) = cx.stat(&path, true) {
        let _ = cx.x.fs.change(&real, |n| n.mode = 0o600);
    }
    let public_path = [path.as_slice(), b".pub"].concat();
    let _ = cx.write_file(&public_path, format!("{public} {comment}\n").into_bytes());
    cx.say(&format!("Generating public/private {kind} key pair.\nYour identification has been saved in {p}\nYour public key has been saved in {p}.pub\nThe key fingerprint is:\nSHA256:{fingerprint} {comment}\nThe key's randomart image is:\n+---[{} {size}]----+\n", kind.to_uppercase(), p = show(&path)));
    0
}
