//! Programs that tell about the machine: `uname`, `uptime`, `w`, `free`, `df`, `lscpu`, `mount`, `last`.

use super::{Cx, has, human, number, show};
use crate::system::{proc, shell::exec::Fd, time};

fn text(format: &str, at: i64) -> String {
    String::from_utf8_lossy(&time::format(format.as_bytes(), at, 0)).into_owned()
}

pub(super) fn arch(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    cx.say("x86_64\n");
    0
}

pub(super) fn uname(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("all", b'a'),
        ("kernel-name", b's'),
        ("nodename", b'n'),
        ("kernel-release", b'r'),
        ("kernel-version", b'v'),
        ("machine", b'm'),
        ("processor", b'p'),
        ("hardware-platform", b'i'),
        ("operating-system", b'o'),
    ];
    let Ok((options, rest)) = cx.options(args, "asnrvmpio", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    if let Some(extra) = rest.first() {
        cx.err(&format!("uname: extra operand ‘{}’\nTry 'uname --help' for more information.\n", show(extra)));
        return 1;
    }
    let f = &cx.x.machine.facts;
    let all = has(&options, b'a');
    let values = [
        (b's', "Linux".to_owned()),
        (b'n', cx.x.machine.spec.hostname.clone()),
        (b'r', f.release.abi.to_owned()),
        (b'v', proc::build(f)),
        (b'm', "x86_64".to_owned()),
        (b'p', "unknown".to_owned()),
        (b'i', "unknown".to_owned()),
        (b'o', "GNU/Linux".to_owned()),
    ];
    let parts: Vec<String> = values
        .into_iter()
        .filter(|(l, _)| if options.is_empty() { *l == b's' } else { has(&options, *l) || all && !matches!(l, b'p' | b'i') })
        .map(|v| v.1)
        .collect();
    cx.say(&format!("{}\n", parts.join(" ")));
    0
}

pub(super) fn hostname(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let spec = &cx.x.machine.spec;
    let full = if spec.domain.is_empty() { spec.hostname.clone() } else { format!("{}.{}", spec.hostname, spec.domain) };
    let line = match args.get(1).map(Vec::as_slice) {
        Some(b"-f" | b"--fqdn" | b"--long") => full,
        Some(b"-d" | b"--domain") => spec.domain.clone(),
        Some(b"-I" | b"--all-ip-addresses") => spec.addresses.iter().map(|a| format!("{a} ")).collect(),
        Some(b"-i" | b"--ip-address") => "127.0.1.1".to_owned(),
        Some(b"-s" | b"--short") | None => spec.hostname.clone(),
        Some(flag) if flag.first() == Some(&b'-') => {
            cx.err(&format!(
                "hostname: invalid option -- '{}'\nUsage: hostname [-b] {{hostname|-F file}}         set host name (from file)\n",
                show(flag.get(1..).unwrap_or_default())
            ));
            return 255;
        }
        Some(_) => {
            if cx.st.who.uid != 0 {
                cx.err("hostname: you must be root to change the host name\n");
                return 1;
            }
            return 0;
        }
    };
    cx.say(&format!("{line}\n"));
    0
}

pub(super) fn hostnamectl(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    let f = &cx.x.machine.facts;
    let boot = cx.x.read_path(b"/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let text = format!(
        " Static hostname: {}\n       Icon name: computer-vm\n         Chassis: vm 🖴\n      Machine ID: {}\n         Boot ID: {}\n  Virtualization: kvm\nOperating System: Debian GNU/Linux 12 (bookworm)\n          Kernel: Linux {}\n    Architecture: x86-64\n Hardware Vendor: QEMU\n  Hardware Model: Standard PC _i440FX + PIIX, 1996_\n",
        cx.x.machine.spec.hostname,
        f.machine_id,
        show(&boot).trim().replace('-', ""),
        f.release.abi
    );
    cx.say(&text);
    0
}

pub(super) fn hostid(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    cx.say("007f0101\n");
    0
}

fn up_text(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let mut out = String::new();
    if days > 0 {
        out.push_str(&format!("{days} day{}, ", if days == 1 { "" } else { "s" }));
    }
    if hours > 0 {
        out.push_str(&format!("{hours:>2}:{minutes:02}"))
    } else {
        out.push_str(&format!("{minutes} min"))
    }
    out
}

fn users(cx: &Cx<'_, '_>) -> usize {
    usize::from(cx.x.session.tty.is_some())
}

fn head(cx: &Cx<'_, '_>) -> String {
    let now = cx.now();
    let [a, b, c] = cx.x.machine.facts.load(now);
    let users = users(cx);
    format!(
        " {} up {},  {users} user{},  load average: {a:.2}, {b:.2}, {c:.2}\n",
        text("%H:%M:%S", now),
        up_text(now - cx.x.session.boot),
        if users == 1 { "" } else { "s" }
    )
}

pub(super) fn uptime_line(cx: &Cx<'_, '_>) -> String {
    head(cx)
}

pub(super) fn uptime(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let line = match args.get(1).map(Vec::as_slice) {
        Some(b"-p" | b"--pretty") => {
            let up = cx.now() - cx.x.session.boot;
            let part = |n: i64, name: &str| (n > 0).then(|| format!("{n} {name}{}", if n == 1 { "" } else { "s" }));
            let parts: Vec<String> =
                [part(up / 604_800, "week"), part(up / 86_400 % 7, "day"), part(up / 3_600 % 24, "hour"), part(up / 60 % 60, "minute")]
                    .into_iter()
                    .flatten()
                    .collect();
            format!("up {}\n", parts.join(", "))
        }
        Some(b"-s" | b"--since") => format!("{}\n", text("%F %T", cx.x.session.boot)),
        _ => head(cx),
    };
    cx.say(&line);
    0
}

pub(super) fn w(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    let mut out = head(cx);
    out.push_str("USER     TTY      FROM             LOGIN@   IDLE   JCPU   PCPU WHAT\n");
    let s = cx.x.session;
    if s.tty.is_some() {
        let idle = (cx.now() - s.started).clamp(0, 59).min(1);
        out.push_str(&format!(
            "{:<8} {:<8} {:<16} {:<7} {idle:>4}.00s  0.0{}s  0.00s w\n",
            s.user.chars().take(8).collect::<String>(),
            s.tty_name,
            s.client.peer.ip().to_string().chars().take(16).collect::<String>(),
            text("%H:%M", s.started),
            1 + s.pid % 5
        ));
    }
    cx.say(&out);
    0
}

pub(super) fn who(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let s = cx.x.session;
    if args.get(1).is_some_and(|a| a == b"-b") {
        cx.say(&format!("         system boot  {}\n", text("%F %R", s.boot)));
        return 0;
    }
    if args.get(1).is_some_and(|a| a == b"-r") {
        cx.say(&format!("         run-level 5  {}\n", text("%F %R", s.boot + 6)));
        return 0;
    }
    if s.tty.is_some() {
        cx.say(&format!("{:<8} {:<12} {} ({})\n", s.user, s.tty_name, text("%F %R", s.started), s.client.peer.ip()));
    }
    0
}

pub(super) fn last(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let most = args
        .iter()
        .skip(1)
        .find_map(|a| number::<usize>(a.strip_prefix(b"-n").filter(|r| !r.is_empty()).or(a.strip_prefix(b"-"))?))
        .or_else(|| args.iter().skip_while(|a| a.as_slice() != b"-n").nth(1).and_then(|a| number(a)))
        .unwrap_or(usize::MAX);
    let s = cx.x.session;
    let f = &cx.x.machine.facts;
    let mut rows = Vec::new();
    if s.tty.is_some() {
        rows.push(format!(
            "{:<8} {:<12} {:<16} {}   still logged in",
            s.user,
            s.tty_name,
            s.client.peer.ip().to_string().chars().take(16).collect::<String>(),
            text("%a %b %e %H:%M", s.started)
        ));
    }
    let owner = "root";
    let mut boot = s.boot;
    let before = f.boot_before(boot);
    for n in 0..14 {
        let (at, from) = cx.x.machine.earlier_login(s.started, n);
        if at < boot && boot == s.boot {
            rows.push(format!(
                "{:<8} {:<12} {:<16} {}   still running",
                "reboot",
                "system boot",
                f.release.abi.chars().take(16).collect::<String>(),
                text("%a %b %e %H:%M", boot)
            ));
            boot = before;
        }
        if at < boot {
            break;
        }
        let stay = 240 + (at % 5_400);
        rows.push(format!(
            "{owner:<8} {:<12} {from:<16} {} - {}  ({:02}:{:02})",
            "pts/0",
            text("%a %b %e %H:%M", at),
            text("%H:%M", at + stay),
            stay / 3_600,
            stay / 60 % 60
        ));
    }
    if boot == s.boot {
        rows.push(format!(
            "{:<8} {:<12} {:<16} {}   still running",
            "reboot",
            "system boot",
            f.release.abi.chars().take(16).collect::<String>(),
            text("%a %b %e %H:%M", boot)
        ));
    }
    let mut out: String = rows.into_iter().take(most).map(|r| r + "\n").collect();
    out.push_str(&format!("\nwtmp begins {}\n", text("%a %b %e %H:%M:%S %Y", before.max(f.installed))));
    cx.say(&out);
    0
}

pub(super) fn lastb(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    if cx.st.who.uid != 0 {
        cx.err("lastb: cannot open /var/log/btmp: Permission denied\n");
        return 1;
    }
    cx.say(&format!("\nbtmp begins {}\n", text("%a %b %e %H:%M:%S %Y", cx.now() - cx.now().rem_euclid(2_592_000))));
    0
}

pub(super) fn lastlog(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    let mut out = "Username         Port     From                                       Latest\n".to_owned();
    let s = cx.x.session.clone();
    for a in cx.x.accounts() {
        let name = show(&a.name);
        if name == s.user && s.tty.is_some() {
            out.push_str(&format!(
                "{name:<16} {:<8} {:<42} {}\n",
                s.tty_name,
                s.client.peer.ip(),
                text("%a %b %e %H:%M:%S +0000 %Y", s.started)
            ));
        } else {
            out.push_str(&format!("{name:<60}**Never logged in**\n").replacen(
                &format!("{name:<60}"),
                &format!("{name:<16} {:<50} ", ""),
                1,
            ));
        }
    }
    cx.say(&out);
    0
}

pub(super) fn free(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("human", b'h'),
        ("mega", b'M'),
        ("mebi", b'm'),
        ("giga", b'G'),
        ("gibi", b'g'),
        ("kibi", b'k'),
        ("bytes", b'b'),
        ("total", b't'),
        ("wide", b'w'),
    ];
    let Ok((options, _)) = cx.options(args, "bkmghtwls:c:", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    let m = cx.x.machine.facts.memory(cx.now());
    let show = |kib: u64| {
        if has(&options, b'h') {
            if kib == 0 {
                "0B".to_owned()
            } else {
                let (mut v, mut unit) = (kib as f64, 0usize);
                while v >= 1_024.0 && unit < 3 {
                    v /= 1_024.0;
                    unit += 1;
                }
                let name = ["Ki", "Mi", "Gi", "Ti"].get(unit).copied().unwrap_or("Ti");
                if v < 10.0 { format!("{v:.1}{name}") } else { format!("{v:.0}{name}") }
            }
        } else if has(&options, b'm') {
            (kib / 1_024).to_string()
        } else if has(&options, b'g') {
            (kib / 1_048_576).to_string()
        } else if has(&options, b'b') {
            (kib * 1_024).to_string()
        } else if has(&options, b'M') {
            (kib * 1_024 / 1_000_000).to_string()
        } else {
            kib.to_string()
        }
    };
    let cache = m.buffers + m.cached + m.slab * 2 / 3;
    let used = m.total.saturating_sub(m.available);
    let swap_used = m.swap - m.swap_free;
    let mut out = format!("{:>20} {:>11} {:>11} {:>11} {:>11} {:>11}\n", "total", "used", "free", "shared", "buff/cache", "available");
    out.push_str(&format!(
        "Mem:  {:>14} {:>11} {:>11} {:>11} {:>11} {:>11}\n",
        show(m.total),
        show(used),
        show(m.free),
        show(m.shared),
        show(cache),
        show(m.available)
    ));
    out.push_str(&format!("Swap: {:>14} {:>11} {:>11}\n", show(m.swap), show(swap_used), show(m.swap_free)));
    if has(&options, b't') {
        out.push_str(&format!("Total:{:>14} {:>11} {:>11}\n", show(m.total + m.swap), show(used + swap_used), show(m.free + m.swap_free)));
    }
    cx.say(&out);
    0
}

pub(super) fn df(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("human-readable", b'h'),
        ("si", b'H'),
        ("inodes", b'i'),
        ("print-type", b'T'),
        ("all", b'a'),
        ("portability", b'P'),
        ("total", b'3'),
        ("type=", b't'),
        ("local", b'l'),
    ];
    let Ok((options, rest)) = cx.options(args, "hHiTaPkmlt:x:B:", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    let f = &cx.x.machine.facts;
    let now = cx.now();
    let root = (format!("/dev/{}1", f.disk), "ext4", f.root_kb, f.disk_used(now), f.root_kb / 20, "/");
    let run = f.mem_kb / 10;
    let mut rows = vec![
        ("udev".to_owned(), "devtmpfs", f.mem_kb / 2 - 20_000, 0, 0, "/dev"),
        ("tmpfs".to_owned(), "tmpfs", run, 500 + f.installed as u64 % 300, 0, "/run"),
        root,
        ("tmpfs".to_owned(), "tmpfs", f.mem_kb / 2, 0, 0, "/dev/shm"),
        ("tmpfs".to_owned(), "tmpfs", 5_120, 0, 0, "/run/lock"),
        ("tmpfs".to_owned(), "tmpfs", run - 4, 0, 0, "/run/user/0"),
    ];
    let mut status = 0;
    if !rest.is_empty() {
        let mut picked = Vec::new();
        for path in &rest {
            match cx.stat(path, true) {
                Ok((real, _)) => {
                    let real = show(&real);
                    let best = rows
                        .iter()
                        .filter(|r| r.5 == "/" || real == r.5 || real.starts_with(&format!("{}/", r.5)))
                        .max_by_key(|r| r.5.len())
                        .cloned();
                    picked.extend(best);
                }
                Err(e) => status = cx.fail(&format!("{}: {}", show(path), e.text())),
            }
        }
        if picked.is_empty() {
            return status.max(1);
        }
        rows = picked;
    }
    let inodes = has(&options, b'i');
    let size = |kb: u64| {
        if has(&options, b'h') {
            if kb == 0 { "0".to_owned() } else { human(kb * 1_024) }
        } else if has(&options, b'm') {
            kb.div_ceil(1_024).to_string()
        } else {
            kb.to_string()
        }
    };
    let headers = if inodes {
        ["Inodes", "IUsed", "IFree", "IUse%"]
    } else if has(&options, b'h') {
        ["Size", "Used", "Avail", "Use%"]
    } else if has(&options, b'P') {
        ["1024-blocks", "Used", "Available", "Capacity"]
    } else if has(&options, b'm') {
        ["1M-blocks", "Used", "Available", "Use%"]
    } else {
        ["1K-blocks", "Used", "Available", "Use%"]
    };
    let mut table: Vec<[String; 7]> = vec![[
        "Filesystem".to_owned(),
        "Type".to_owned(),
        headers[0].to_owned(),
        headers[1].to_owned(),
        headers[2].to_owned(),
        headers[3].to_owned(),
        "Mounted on".to_owned(),
    ]];
    for (device, kind, total, used, reserved, mount) in rows {
        let (total, used, free) = if inodes {
            let n = total / if kind == "ext4" { 16 } else { 4 };
            let u = if kind == "ext4" { 31_000 + used / 300 } else { 2 + used / 90 };
            (n, u, n.saturating_sub(u))
        } else {
            (total, used, total.saturating_sub(used + reserved))
        };
        let percent = if used + free == 0 { 0 } else { (used * 100).div_ceil(used + free) };
        let cell = |n: u64| if inodes && !has(&options, b'h') { n.to_string() } else { size(n) };
        table.push([device, kind.to_owned(), cell(total), cell(used), cell(free), format!("{percent}%"), mount.to_owned()]);
    }
    let width = |at: usize| table.iter().filter_map(|r| r.get(at)).map(String::len).max().unwrap_or(0);
    let w: Vec<usize> = (0..7).map(width).collect();
    let col = |at: usize, least: usize| w.get(at).copied().unwrap_or(0).max(least);
    let numbers = if has(&options, b'h') { [4, 4, 5] } else { [9, 8, 9] };
    let mut out = String::new();
    for [device, kind, total, used, free, percent, mount] in &table {
        out.push_str(&format!("{device:<w$} ", w = col(0, 14)));
        if has(&options, b'T') {
            out.push_str(&format!("{kind:<w$} ", w = col(1, 4)));
        }
        out.push_str(&format!(
            "{total:>a$} {used:>b$} {free:>c$} {percent:>4} {mount}\n",
            a = col(2, if has(&options, b'h') { 5 } else { numbers[0] }),
            b = col(3, if has(&options, b'h') { 5 } else { numbers[1] }),
            c = col(4, numbers[2])
        ));
    }
    cx.say(&out);
    status
}

pub(super) fn mount(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if args.len() > 1 && !args.iter().skip(1).all(|a| a.first() == Some(&b'-')) {
        let target = show(args.last().map_or(b"".as_slice(), Vec::as_slice));
        if cx.st.who.uid != 0 {
            return cx.fail("only root can do that");
        }
        if args.iter().any(|a| a.windows(7).any(|w| w == b"remount")) {
            return 0;
        }
        cx.err(&format!("mount: {target}: can't find in /etc/fstab.\n"));
        return 1;
    }
    let table = proc::mounts(&cx.x.machine.facts);
    let mut out = String::new();
    for line in table.lines() {
        let f: Vec<&str> = line.split(' ').collect();
        if let [device, dir, kind, options, ..] = f.as_slice() {
            out.push_str(&format!("{device} on {dir} type {kind} ({options})\n"));
        }
    }
    cx.say(&out);
    0
}

pub(super) fn swapon(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    let f = &cx.x.machine.facts;
    if f.swap_kb > 0 {
        cx.say(&format!(
            "NAME      TYPE      SIZE USED PRIO\n/dev/{}5 partition {:>4} {:>4}   -2\n",
            f.disk,
            human(f.swap_kb * 1_024),
            "0B"
        ));
    }
    0
}

pub(super) fn lsblk(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    let f = &cx.x.machine.facts;
    let major = if f.disk == "sda" { 8 } else { 254 };
    let size = |kb: u64| {
        let g = kb as f64 / 1_048_576.0;
        if g >= 10.0 && (g - g.round()).abs() < 0.05 {
            format!("{g:.0}G")
        } else if g >= 1.0 {
            format!("{g:.1}G")
        } else {
            format!("{:.0}M", kb as f64 / 1_024.0)
        }
    };
    let id = |minor: u32| format!("{major}:{minor}");
    let mut out = format!(
        "NAME   MAJ:MIN RM  SIZE RO TYPE MOUNTPOINTS\n{:<6} {:>7}  0 {:>5}  0 disk \n├─{:<4} {:>7}  0 {:>5}  0 part /\n",
        f.disk,
        id(0),
        size(f.root_kb + f.swap_kb + 2_048),
        format!("{}1", f.disk),
        id(1),
        size(f.root_kb)
    );
    if f.swap_kb > 0 {
        out.push_str(&format!(
            "├─{:<4} {:>7}  0     1K  0 part \n└─{:<4} {:>7}  0 {:>5}  0 part [SWAP]\n",
            format!("{}2", f.disk),
            id(2),
            format!("{}5", f.disk),
            id(5),
            size(f.swap_kb)
        ));
    } else {
        out = out.replace("├─", "└─");
    }
    cx.say(&out);
    0
}

pub(super) fn nproc(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    let line = format!("{}\n", cx.x.machine.facts.cores);
    cx.say(&line);
    0
}

pub(super) fn lscpu(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    let f = &cx.x.machine.facts;
    let c = &f.cpu;
    let n = f.cores;
    let intel = c.vendor == "GenuineIntel";
    let list = if n == 1 {
        "0".to_owned()
    } else if n == 2 {
        "0,1".to_owned()
    } else {
        format!("0-{}", n - 1)
    };
    let instances = |kib: u32| {
        let total = kib * n;
        let text = if total >= 1_024 { format!("{} MiB", total as f64 / 1_024.0) } else { format!("{total} KiB") };
        format!("{text} ({n} instance{})", if n == 1 { "" } else { "s" })
    };
    let rows: Vec<(&str, String)> = vec![
        ("Architecture:", "x86_64".to_owned()),
        ("CPU op-mode(s):", "32-bit, 64-bit".to_owned()),
        ("Address sizes:", format!("{} bits physical, 48 bits virtual", if intel { 46 } else { 48 })),
        ("Byte Order:", "Little Endian".to_owned()),
        ("CPU(s):", n.to_string()),
        ("On-line CPU(s) list:", list.clone()),
        ("Vendor ID:", c.vendor.to_owned()),
        ("Model name:", c.model.to_owned()),
        ("CPU family:", c.family.to_string()),
        ("Model:", c.number.to_string()),
        ("Thread(s) per core:", "1".to_owned()),
        ("Core(s) per socket:", "1".to_owned()),
        ("Socket(s):", n.to_string()),
        ("Stepping:", c.stepping.to_string()),
        ("BogoMIPS:", format!("{}.{:02}", c.mhz * 2 / 1_000, c.mhz * 2 % 1_000 / 10)),
        ("Flags:", c.flags.to_owned()),
        ("Hypervisor vendor:", "KVM".to_owned()),
        ("Virtualization type:", "full".to_owned()),
        ("L1d cache:", instances(32)),
        ("L1i cache:", instances(32)),
        ("L2 cache:", instances(if intel { 1_024 } else { 512 })),
        ("L3 cache:", instances(if intel { c.cache_kb } else { 16_384 })),
        ("NUMA node(s):", "1".to_owned()),
        ("NUMA node0 CPU(s):", list),
        ("Vulnerability Meltdown:", if intel { "Mitigation; PTI" } else { "Not affected" }.to_owned()),
        ("Vulnerability Spectre v1:", "Mitigation; usercopy/swapgs barriers and __user pointer sanitization".to_owned()),
        (
            "Vulnerability Spectre v2:",
            "Mitigation; Retpolines; IBPB conditional; IBRS_FW; STIBP disabled; RSB filling; PBRSB-eIBRS Not affected; BHI Retpoline"
                .to_owned(),
        ),
    ];
    let width = rows.iter().map(|r| r.0.len()).max().unwrap_or(0);
    let out: String = rows.iter().map(|(k, v)| format!("{k:<width$} {v}\n", width = width + 14)).collect();
    cx.say(&out);
    0
}

pub(super) fn dmesg(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if cx.st.who.uid != 0 {
        cx.err("dmesg: read kernel buffer failed: Operation not permitted\n");
        return 1;
    }
    let f = &cx.x.machine.facts;
    let human_time = args.iter().any(|a| a == b"-T");
    let boot = cx.x.session.boot;
    let disk_mb = (f.root_kb + f.swap_kb) / 1_024;
    let lines: Vec<(f64, String)> = vec![
        (0.0, proc::version(f).trim().to_owned()),
        (0.0, format!("Command line: BOOT_IMAGE=/boot/vmlinuz-{} root=UUID={} ro quiet", f.release.abi, f.root_uuid)),
        (0.0, "BIOS-provided physical RAM map:".to_owned()),
        (0.0, "BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable".to_owned()),
        (0.0, "SMBIOS 2.8 present.".to_owned()),
        (0.0, "DMI: QEMU Standard PC (i440FX + PIIX, 1996), BIOS 1.16.2-debian-1.16.2-1 04/01/2014".to_owned()),
        (0.0, "Hypervisor detected: KVM".to_owned()),
        (0.000_004, "kvm-clock: Using msrs 4b564d01 and 4b564d00".to_owned()),
        (0.000_007, format!("tsc: Detected {}.{:03} MHz processor", f.cpu.mhz / 1_000, f.cpu.mhz % 1_000)),
        (0.120_144, format!("smp: Bringing up secondary CPUs ... {} CPUs", f.cores)),
        (0.152_310, format!("Memory: {}K/{}K available", f.mem_kb - 90_000, f.mem_kb + 60_000)),
        (0.820_931, "PCI: Using configuration type 1 for base access".to_owned()),
        (1.400_521, format!("virtio_blk virtio1: [{}] {} 512-byte logical blocks ({} MB)", f.disk, (f.root_kb + f.swap_kb) * 2, disk_mb)),
        (1.604_112, format!("virtio_net virtio0 {}: renamed from eth0", f.iface)),
        (2.217_883, format!("EXT4-fs ({}1): mounted filesystem with ordered data mode. Quota mode: none.", f.disk)),
        (2.800_124, "systemd[1]: systemd 252.38-1~deb12u1 running in system mode".to_owned()),
        (3.102_552, format!("systemd[1]: Hostname set to <{}>.", cx.x.machine.spec.hostname)),
        (4.011_221, format!("IPv6: ADDRCONF(NETDEV_CHANGE): {}: link becomes ready", f.iface)),
    ];
    let mut out = String::new();
    for (at, line) in lines {
        if human_time {
            out.push_str(&format!("[{}] {line}\n", text("%a %b %e %H:%M:%S %Y", boot + at as i64)));
        } else {
            out.push_str(&format!("[{at:>12.6}] {line}\n"));
        }
    }
    cx.say(&out);
    0
}

pub(super) fn vmstat(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    let m = cx.x.machine.facts.memory(cx.now());
    let n = cx.now().rem_euclid(37);
    cx.say(&format!("procs -----------memory---------- ---swap-- -----io---- -system-- ------cpu-----\n r  b   swpd   free   buff  cache   si   so    bi    bo   in   cs us sy id wa st\n 1  0 {:>6} {:>6} {:>6} {:>6}    0    0     {}    {}   {}  {}  0  0 99  0  0\n", m.swap - m.swap_free, m.free, m.buffers, m.cached, 2 + n % 7, 10 + n, 40 + n, 70 + 2 * n));
    0
}

pub(super) fn sysctl(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut status = 0;
    let quiet = args.iter().any(|a| a == b"-n");
    for name in args.iter().skip(1).filter(|a| a.first() != Some(&b'-')) {
        let text = show(name);
        let (key, set) = text.split_once('=').map_or((text.as_str(), None), |(k, v)| (k, Some(v)));
        let path = format!("/proc/sys/{}", key.trim().replace('.', "/"));
        match cx.read(path.as_bytes()) {
            Ok(_) if set.is_some() => {
                if cx.st.who.uid == 0 {
                    cx.say(&format!("{} = {}\n", key.trim(), set.unwrap_or("").trim()));
                } else {
                    status = cx.fail(&format!("permission denied on key \"{}\"", key.trim()));
                }
            }
            Ok(v) => {
                let v = show(&v);
                cx.say(&if quiet { v } else { format!("{key} = {v}") });
            }
            Err(_) => {
                cx.err(&format!("sysctl: cannot stat {path}: No such file or directory\n"));
                status = 255;
            }
        }
    }
    status
}

pub(super) fn tty(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if cx.x.is_tty(cx.stdin_fd()) || cx.stdin_fd() == Fd::Terminal && cx.x.session.tty.is_some() {
        let line = format!("/dev/{}\n", cx.x.session.tty_name);
        cx.say(&line);
        return 0;
    }
    if !args.iter().any(|a| a == b"-s") {
        cx.say("not a tty\n");
    }
    1
}

pub(super) fn stty(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Some(tty) = cx.x.session.tty.clone() else {
        cx.err("stty: 'standard input': Inappropriate ioctl for device\n");
        return 1;
    };
    match args.get(1).map(Vec::as_slice) {
        Some(b"size") => cx.say(&format!("{} {}\n", tty.rows, tty.columns)),
        Some(b"-g") => cx.say("4500:5:bf:8a3b:3:1c:7f:15:4:0:1:0:11:13:1a:0:12:f:17:16:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0\n"),
        Some(b"speed") => cx.say("38400\n"),
        Some(b"-a") => cx.say(&format!("speed 38400 baud; rows {}; columns {}; line = 0;\nintr = ^C; quit = ^\\; erase = ^?; kill = ^U; eof = ^D; eol = <undef>;\neol2 = <undef>; swtch = <undef>; start = ^Q; stop = ^S; susp = ^Z; rprnt = ^R;\nwerase = ^W; lnext = ^V; discard = ^O; min = 1; time = 0;\n", tty.rows, tty.columns)),
        None => cx.say("speed 38400 baud; line = 0;\n-brkint -imaxbel\n"),
        _ => {}
    }
    0
}

pub(super) fn clear(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    match cx.st.get(b"TERM") {
        Some(term) if !term.is_empty() && term != b"dumb" => {
            cx.say("\x1b[H\x1b[2J\x1b[3J");
            0
        }
        _ => {
            cx.err("TERM environment variable not set.\n");
            1
        }
    }
}
