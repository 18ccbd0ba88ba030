//! `ip`, `ss`, `ping`.

use std::net::IpAddr;

use super::{Cx, has, number, show, value};
use crate::system::{facts::Facts, proc};

pub(super) fn ip(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut words: Vec<String> = args.iter().skip(1).map(|a| show(a)).collect();
    let flags: Vec<String> = words.iter().take_while(|w| w.starts_with('-')).cloned().collect();
    words.retain(|w| !w.starts_with('-'));
    let brief = flags.iter().any(|f| f.starts_with("-br"));
    let one = flags.iter().any(|f| f == "-o" || f == "-oneline");
    let family = if flags.iter().any(|f| f == "-4") {
        4
    } else if flags.iter().any(|f| f == "-6") {
        6
    } else {
        0
    };
    if flags.iter().any(|f| f.starts_with("-V")) {
        cx.say("ip utility, iproute2-6.1.0, libbpf 1.1.0\n");
        return 0;
    }
    let Some(object) = words.first().cloned() else {
        cx.err("Usage: ip [ OPTIONS ] OBJECT { COMMAND | help }\n       ip [ -force ] -batch filename\n");
        return 255;
    };
    let verb = words.get(1).map_or("show", String::as_str);
    let changes = matches!(verb, "add" | "del" | "delete" | "set" | "flush" | "replace" | "change");
    if changes {
        if cx.st.who.uid != 0 {
            cx.err("RTNETLINK answers: Operation not permitted\n");
            return 2;
        }
        return 0;
    }
    let starts = |full: &str| !object.is_empty() && full.starts_with(object.as_str());
    let spec = &cx.x.machine.spec;
    let f = &cx.x.machine.facts;
    let device = words.iter().skip_while(|w| *w != "dev").nth(1).or_else(|| words.get(2).filter(|w| *w != "dev")).cloned();
    if let Some(d) = &device
        && d != "lo"
        && d != f.iface
        && (starts("address") || starts("link"))
    {
        cx.err(&format!("Device \"{d}\" does not exist.\n"));
        return 1;
    }
    let shown = |name: &str| device.as_deref().is_none_or(|d| d == name);
    let v4: Vec<String> = spec.addresses.iter().filter(|a| a.is_ipv4()).map(ToString::to_string).collect();
    let v6: Vec<String> = spec.addresses.iter().filter(|a| a.is_ipv6()).map(ToString::to_string).collect();
    let local = Facts::link_local(spec.mac);
    let [a, b, c, _] = f.v4.octets();
    let out = if starts("address") || object == "a" || object == "addr" {
        let mut out = String::new();
        if brief {
            if shown("lo") {
                out.push_str("lo               UNKNOWN        127.0.0.1/8 ::1/128 \n");
            }
            if shown(f.iface) {
                let all: String = v4.iter().map(|x| format!("{x}/24 ")).chain(v6.iter().map(|x| format!("{x}/64 "))).collect();
                out.push_str(&format!("{:<16} UP             {all}{local}/64 \n", f.iface));
            }
        } else {
            if shown("lo") {
                out.push_str("1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000\n");
                if family == 0 {
                    out.push_str("    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00\n");
                }
                if family != 6 {
                    out.push_str("    inet 127.0.0.1/8 scope host lo\n       valid_lft forever preferred_lft forever\n");
                }
                if family != 4 {
                    out.push_str("    inet6 ::1/128 scope host noprefixroute \n       valid_lft forever preferred_lft forever\n");
                }
            }
            if shown(f.iface) {
                out.push_str(&format!(
                    "2: {}: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc {} state UP group default qlen 1000\n",
                    f.iface,
                    queue(f)
                ));
                if family == 0 {
                    out.push_str(&format!("    link/ether {} brd ff:ff:ff:ff:ff:ff\n{}", proc::mac(spec.mac), altnames(f)));
                }
                if family != 6 {
                    for x in &v4 {
                        out.push_str(&format!(
                            "    inet {x}/24 brd {a}.{b}.{c}.255 scope global {}\n       valid_lft forever preferred_lft forever\n",
                            f.iface
                        ));
                    }
                }
                if family != 4 {
                    for x in &v6 {
                        out.push_str(&format!("    inet6 {x}/64 scope global \n       valid_lft forever preferred_lft forever\n"));
                    }
                    out.push_str(&format!("    inet6 {local}/64 scope link \n       valid_lft forever preferred_lft forever\n"));
                }
            }
        }
        if one {
            // One line per address: `2: eth0    inet …`.
            let mut rows = String::new();
            if family != 6 {
                rows.push_str("1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever\n");
                for x in &v4 {
                    rows.push_str(&format!(
                        "2: {i}    inet {x}/24 brd {a}.{b}.{c}.255 scope global {i}\\       valid_lft forever preferred_lft forever\n",
                        i = f.iface
                    ));
                }
            }
            if family != 4 {
                rows.push_str(&format!("2: {}    inet6 {local}/64 scope link \\       valid_lft forever preferred_lft forever\n", f.iface));
            }
            rows
        } else {
            out
        }
    } else if starts("link") {
        let mut out = String::new();
        if brief {
            out.push_str(&format!("lo               UNKNOWN        00:00:00:00:00:00 <LOOPBACK,UP,LOWER_UP> \n{:<16} UP             {} <BROADCAST,MULTICAST,UP,LOWER_UP> \n", f.iface, proc::mac(spec.mac)));
        } else {
            if shown("lo") {
                out.push_str("1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000\n    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00\n");
            }
            if shown(f.iface) {
                out.push_str(&format!("2: {}: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc {} state UP mode DEFAULT group default qlen 1000\n    link/ether {} brd ff:ff:ff:ff:ff:ff\n{}", f.iface, queue(f), proc::mac(spec.mac), altnames(f)));
                if flags.iter().any(|x| x.starts_with("-s")) {
                    let (rx, rxp, tx, txp) = proc::traffic(f, cx.now(), cx.x.session.boot);
                    out.push_str(&format!("    RX:  bytes packets errors dropped  missed   mcast           \n    {rx:>10} {rxp:>7}      0       0       0       0 \n    TX:  bytes packets errors dropped carrier collsns           \n    {tx:>10} {txp:>7}      0       0       0       0 \n"));
                }
            }
        }
        out
    } else if starts("route") {
        if verb == "get" {
            let to = words.get(2).cloned().unwrap_or_default();
            let near = to.starts_with(&format!("{a}.{b}.{c}."));
            format!(
                "{to} {}dev {} src {} uid {} \n    cache \n",
                if near { String::new() } else { format!("via {} ", f.gateway) },
                f.iface,
                f.v4,
                cx.st.who.uid
            )
        } else if family == 6 {
            format!("fe80::/64 dev {} proto kernel metric 256 pref medium\n", f.iface)
        } else {
            format!(
                "default via {} dev {i} onlink \n{a}.{b}.{c}.0/24 dev {i} proto kernel scope link src {} \n",
                f.gateway,
                f.v4,
                i = f.iface
            )
        }
    } else if starts("neighbour") || starts("neighbor") || object == "neigh" {
        let peer = cx.x.session.client.peer.ip();
        let near = |x: IpAddr| matches!(x, IpAddr::V4(v) if v.octets().get(..3) == Some(&[a, b, c]));
        let mut out = format!("{} dev {} lladdr {} REACHABLE\n", f.gateway, f.iface, f.neighbour_mac(f.gateway.into()));
        if near(peer) && peer != IpAddr::V4(f.gateway) {
            out.push_str(&format!("{peer} dev {} lladdr {} REACHABLE\n", f.iface, f.neighbour_mac(peer)));
        }
        out
    } else if starts("rule") {
        "0:\tfrom all lookup local\n32766:\tfrom all lookup main\n32767:\tfrom all lookup default\n".to_owned()
    } else if starts("netns") {
        String::new()
    } else {
        cx.err(&format!("Object \"{object}\" is unknown, try \"ip help\".\n"));
        return 1;
    };
    cx.say(&out);
    0
}

fn queue(f: &Facts) -> &'static str {
    if f.cores > 1 { "mq" } else { "fq_codel" }
}

fn altnames(f: &Facts) -> String {
    match f.iface {
        "ens3" => "    altname enp0s3\n".to_owned(),
        "ens18" => "    altname enp0s18\n".to_owned(),
        "ens192" => "    altname enp11s0\n".to_owned(),
        _ => String::new(),
    }
}

pub(super) fn ss(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("all", b'a'),
        ("numeric", b'n'),
        ("tcp", b't'),
        ("udp", b'u'),
        ("listening", b'l'),
        ("processes", b'p'),
        ("summary", b's'),
        ("ipv4", b'4'),
        ("ipv6", b'6'),
        ("no-header", b'H'),
    ];
    let Ok((options, _)) = cx.options(args, "anltuwxpseomior46HKTtZzEbNfA:", &longs) else { return 255 };
    if has(&options, 0) {
        return 0;
    }
    let on = |l: u8| has(&options, l);
    let s = cx.x.session.clone();
    let spec = cx.x.machine.spec.clone();
    let procs = cx.x.fs.procs.clone();
    if on(b's') {
        let n = spec.services.len() + 1;
        cx.say(&format!("Total: {}\nTCP:   {n} (estab 1, closed 0, orphaned 0, timewait 0)\n\nTransport Total     IP        IPv6\nRAW\t  0         0         0        \nUDP\t  1         1         0        \nTCP\t  {n}         {}         {}        \nINET\t  {}         {}         {}        \nFRAG\t  0         0         0        \n\n", 90 + n, n - n / 2, n / 2, n + 1, n + 1 - n / 2, n / 2));
        return 0;
    }
    let (tcp, udp) = (on(b't') || !on(b'u'), on(b'u') || !on(b't'));
    let both = tcp && udp;
    let root = cx.st.who.uid == 0;
    let show_processes = on(b'p') && root;
    let pid_of = |name: &str| procs.list.iter().find(|p| p.comm == name.chars().take(15).collect::<String>()).map_or(1, |p| p.pid);
    let port_name = |p: u16| {
        if on(b'n') {
            return p.to_string();
        }
        match p {
            21 => "ftp",
            22 => "ssh",
            23 => "telnet",
            25 => "smtp",
            53 => "domain",
            80 => "http",
            443 => "https",
            3306 => "mysql",
            5432 => "postgresql",
            _ => return p.to_string(),
        }
        .to_owned()
    };
    let mut rows: Vec<[String; 7]> = Vec::new();
    let add = |rows: &mut Vec<[String; 7]>, kind: &str, state: &str, queue: &str, local: String, peer: String, users: String| {
        rows.push([kind.to_owned(), state.to_owned(), "0".to_owned(), queue.to_owned(), local, peer, users]);
    };
    if tcp && (on(b'a') || on(b'l')) {
        for (port, name) in &spec.services {
            let users = |fd: u32| if show_processes { format!("users:((\"{name}\",pid={},fd={fd}))", pid_of(name)) } else { String::new() };
            let queue = if matches!(name.as_str(), "nginx" | "apache2" | "redis-server") { "511" } else { "128" };
            if !on(b'6') {
                add(&mut rows, "tcp", "LISTEN", queue, format!("0.0.0.0:{}", port_name(*port)), "0.0.0.0:*".to_owned(), users(3));
            }
            if !on(b'4') && matches!(name.as_str(), "sshd" | "nginx" | "apache2") {
                add(&mut rows, "tcp", "LISTEN", queue, format!("[::]:{}", port_name(*port)), "[::]:*".to_owned(), users(4));
            }
        }
    }
    if tcp && !on(b'l') {
        let (l, p) = (s.client.local, s.client.peer);
        let show_addr = |ip: IpAddr, port: String| match ip {
            IpAddr::V4(v) => format!("{v}:{port}"),
            IpAddr::V6(v) => format!("[{v}]:{port}"),
        };
        let shown = match l.ip() {
            IpAddr::V4(_) => !on(b'6'),
            IpAddr::V6(_) => !on(b'4'),
        };
        if shown {
            let daemon = if s.via == crate::system::api::Via::Ssh {
                ("sshd", s.pid.saturating_sub(7), 4)
            } else {
                ("telnetd", s.pid.saturating_sub(2), 0)
            };
            let users = if show_processes { format!("users:((\"{}\",pid={},fd={}))", daemon.0, daemon.1, daemon.2) } else { String::new() };
            add(&mut rows, "tcp", "ESTAB", "0", show_addr(l.ip(), port_name(l.port())), show_addr(p.ip(), p.port().to_string()), users);
        }
    }
    let title = ["Netid", "State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port", "Process"];
    // Addresses are aligned at their colon.
    let split = |t: &str| t.rsplit_once(':').map_or((t.to_owned(), String::new()), |(a, p)| (a.to_owned(), p.to_owned()));
    let width = |at: usize| rows.iter().filter_map(|r| r.get(at)).map(String::len).max().unwrap_or(0);
    let (la, lp) = (
        rows.iter().map(|r| split(&r[4]).0.len()).max().unwrap_or(0).max(13),
        rows.iter().map(|r| split(&r[4]).1.len()).max().unwrap_or(0).max(4),
    );
    let (pa, pp) = (
        rows.iter().map(|r| split(&r[5]).0.len()).max().unwrap_or(0).max(12),
        rows.iter().map(|r| split(&r[5]).1.len()).max().unwrap_or(0).max(4),
    );
    let sw = width(1).max(5);
    let mut out = String::new();
    let kind = |t: &str| if both { format!("{t:<5} ") } else { String::new() };
    if !on(b'H') {
        out.push_str(&format!(
            "{}{:<sw$} {:<6} {:<6} {:>la$}:{:<lp$} {:>pa$}:{:<pp$}{}\n",
            kind(title[0]),
            title[1],
            title[2],
            title[3],
            "Local Address",
            "Port",
            "Peer Address",
            "Port",
            if show_processes || on(b'p') { "Process" } else { "Process" }
        ));
    }
    for r in &rows {
        let ((a, p), (b, q)) = (split(&r[4]), split(&r[5]));
        out.push_str(&format!(
            "{}{:<sw$} {:<6} {:<6} {a:>la$}:{p:<lp$} {b:>pa$}:{q:<pp$}{}\n",
            kind(&r[0]),
            r[1],
            r[2],
            r[3],
            if r[6].is_empty() { String::new() } else { format!(" {}", r[6]) }
        ));
    }
    cx.say(&out);
    0
}

pub(super) fn ping(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "c:i:W:w:s:t:I:M:p:Q:S:l:m:nqv46abBdDfhLORrUV", &[]) else { return 2 };
    let Some(host) = rest.first().map(|h| show(h)) else {
        cx.err("ping: usage error: Destination address required\n");
        return 1;
    };
    let count = value(&options, b'c').and_then(|c| number::<u32>(c));
    let size = value(&options, b's').and_then(|c| number::<u32>(c)).unwrap_or(56).min(65_507);
    let f = cx.x.machine.facts.clone();
    let own = cx.x.machine.spec.addresses.clone();
    let address: IpAddr = match host.as_str() {
        "localhost" => IpAddr::from([127, 0, 0, 1]),
        h if h == cx.x.machine.spec.hostname => IpAddr::from([127, 0, 1, 1]),
        h => match h.parse() {
            Ok(a) => a,
            Err(_) => {
                cx.x.pass(4_000_000_000);
                cx.err(&format!("ping: {host}: Temporary failure in name resolution\n"));
                return 2;
            }
        },
    };
    let near = matches!(address, IpAddr::V4(v) if v.octets().get(..3) == f.v4.octets().get(..3));
    let answers = address.is_loopback()
        || own.contains(&address)
        || address == IpAddr::V4(f.gateway)
        || address == cx.x.session.client.peer.ip() && near;
    let n = count.unwrap_or(4).clamp(1, 100);
    let mut out = format!("PING {host} ({address}) {size}({}) bytes of data.\n", size + 28);
    let mut times = Vec::new();
    for seq in 1..=n {
        if answers {
            let base = if address.is_loopback() || own.contains(&address) { 25 } else { 280 };
            let micros = base + cx.st.random.next() % (base / 2);
            times.push(micros);
            out.push_str(&format!("{} bytes from {host}: icmp_seq={seq} ttl=64 time={:.3} ms\n", size + 8, micros as f64 / 1_000.0));
        } else if near {
            out.push_str(&format!("From {} icmp_seq={seq} Destination Host Unreachable\n", f.v4));
        }
        if seq < n {
            cx.x.pass(1_000_000_000);
        }
    }
    if !answers {
        cx.x.pass(if near { 3_000_000_000 } else { 10_000_000_000 });
    }
    let got = times.len() as u32;
    let elapsed = u64::from(n - 1) * 1_010 + u64::from(!answers) * 20;
    let errors = if near && !answers { format!(", +{n} errors") } else { String::new() };
    out.push_str(&format!(
        "\n--- {host} ping statistics ---\n{n} packets transmitted, {got} received{errors}, {}% packet loss, time {elapsed}ms\n",
        (n - got) * 100 / n
    ));
    if let (Some(min), Some(max)) = (times.iter().min(), times.iter().max()) {
        let avg = times.iter().sum::<u64>() as f64 / times.len() as f64;
        let dev = (times.iter().map(|t| (*t as f64 - avg).powi(2)).sum::<f64>() / times.len() as f64).sqrt();
        out.push_str(&format!(
            "rtt min/avg/max/mdev = {:.3}/{:.3}/{:.3}/{:.3} ms\n",
            *min as f64 / 1e3,
            avg / 1e3,
            *max as f64 / 1e3,
            dev / 1e3
        ));
    } else {
        out.push('\n');
    }
    cx.say(&out);
    if count.is_none() && cx.x.session.tty.is_some() {
        cx.x.starve(crate::system::api::Waiting::Line);
    }
    i32::from(got == 0)
}
