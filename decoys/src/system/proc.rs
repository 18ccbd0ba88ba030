//! The process table and the files below `/proc` and `/sys` that move.

use std::sync::Arc;

use super::{
    facts::{Facts, Rng},
    fs::{Content, Kind, Made, Node},
    machine::{Machine, Session},
};

/// One pretended process.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    pub pid: u32,
    pub ppid: u32,
    pub uid: u32,
    pub user: String,
    /// `?` without a terminal.
    pub tty: String,
    pub comm: String,
    /// The command line, blanks between its words; kernel threads have `[name]`.
    pub args: Vec<u8>,
    /// Seconds since 1970.
    pub start: i64,
    pub vsz: u64,
    pub rss: u64,
    pub state: String,
    /// Processor seconds used.
    pub cpu: u64,
    /// Program file.
    pub exe: Vec<u8>,
}

impl Process {
    pub(super) fn kernel(&self) -> bool {
        self.vsz == 0
    }
}

/// The processes one run sees.
#[derive(Clone, Debug, Default)]
pub(super) struct ProcView {
    pub list: Arc<Vec<Process>>,
    /// The process that looks (`/proc/self`).
    pub own: u32,
    pub cwd: Vec<u8>,
    pub tty: Vec<u8>,
}

const PID_FILES: [&str; 10] = ["cmdline", "comm", "status", "stat", "environ", "maps", "mounts", "limits", "cgroup", "statm"];

impl ProcView {
    fn process(&self, part: &[u8]) -> Option<&Process> {
        if part == b"self" || part == b"thread-self" {
            return self.list.iter().find(|p| p.pid == self.own).or_else(|| self.list.last());
        }
        let pid: u32 = std::str::from_utf8(part).ok()?.parse().ok()?;
        self.list.iter().find(|p| p.pid == pid)
    }

    /// The node below `/proc/`.
    pub(super) fn node(&self, rest: &[u8]) -> Option<Node> {
        let mut parts = rest.splitn(2, |b| *b == b'/');
        let first = parts.next()?;
        let inner = parts.next();
        if matches!(first, b"self" | b"thread-self") && inner.is_none() {
            return Some(stamp(Kind::Link(self.process(first)?.pid.to_string().into_bytes()), 0o777, 0, u64::from(self.own)));
        }
        let process = self.process(first)?;
        let make = |kind, mode| Some(stamp(kind, mode, process.uid, u64::from(process.pid) * 16 + 7));
        let Some(inner) = inner else { return make(Kind::Dir, 0o555) };
        match inner {
            b"exe" => {
                if process.kernel() {
                    return make(Kind::Link(Vec::new()), 0o777);
                }
                make(Kind::Link(process.exe.clone()), 0o777)
            }
            b"cwd" => make(Kind::Link(if process.pid == self.own { self.cwd.clone() } else { b"/".to_vec() }), 0o777),
            b"root" => make(Kind::Link(b"/".to_vec()), 0o777),
            b"fd" | b"task" | b"ns" | b"net" => make(Kind::Dir, 0o500),
            b"fd/0" | b"fd/1" | b"fd/2" => {
                let target = if process.pid == self.own && !self.tty.is_empty() {
                    self.tty.clone()
                } else if process.pid == self.own {
                    format!("pipe:[{}]", 20_000 + process.pid).into_bytes()
                } else {
                    b"/dev/null".to_vec()
                };
                make(Kind::Link(target), 0o700)
            }
            _ => {
                let name = std::str::from_utf8(inner).ok()?;
                let name = PID_FILES.iter().find(|f| **f == name)?;
                make(Kind::File(Content::Made(Made::Pid(process.pid, name))), if *name == "environ" { 0o400 } else { 0o444 })
            }
        }
    }

    /// Entries of `/proc` (empty rest) or of a process.
    pub(super) fn list(&self, rest: &[u8]) -> Vec<(Vec<u8>, Node)> {
        let names: Vec<Vec<u8>> = if rest.is_empty() {
            self.list.iter().map(|p| p.pid.to_string().into_bytes()).chain([b"self".to_vec(), b"thread-self".to_vec()]).collect()
        } else if self.process(rest).is_some() {
            PID_FILES.iter().copied().chain(["exe", "cwd", "root", "fd", "task", "ns", "net"]).map(|n| n.as_bytes().to_vec()).collect()
        } else if rest.ends_with(b"/fd") {
            ["0", "1", "2"].iter().map(|n| n.as_bytes().to_vec()).collect()
        } else {
            return Vec::new();
        };
        let full = |name: &[u8]| if rest.is_empty() { name.to_vec() } else { [rest, b"/", name].concat() };
        names.into_iter().filter_map(|n| self.node(&full(&n)).map(|node| (n, node))).collect()
    }
}

fn stamp(kind: Kind, mode: u32, uid: u32, ino: u64) -> Node {
    let mut node = Node::new(kind, mode, uid, uid, 0);
    node.ino = ino;
    node
}

/// The content of a process's file.
pub(super) fn pid_file(view: &ProcView, machine: &Machine, pid: u32, name: &str) -> Vec<u8> {
    let Some(p) = view.list.iter().find(|p| p.pid == pid) else { return Vec::new() };
    match name {
        "cmdline" if p.kernel() => Vec::new(),
        "cmdline" => {
            let mut line: Vec<u8> = p.args.iter().map(|b| if *b == b' ' { 0 } else { *b }).collect();
            line.push(0);
            line
        }
        "comm" => format!("{}\n", p.comm).into_bytes(),
        "status" => format!(
            "Name:\t{}\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t{pid}\nNgid:\t0\nPid:\t{pid}\nPPid:\t{}\nTracerPid:\t0\nUid:\t{u}\t{u}\t{u}\t{u}\nGid:\t{u}\t{u}\t{u}\t{u}\nFDSize:\t256\nGroups:\t{u} \nVmPeak:\t{:>8} kB\nVmSize:\t{:>8} kB\nVmRSS:\t{:>8} kB\nThreads:\t1\nSeccomp:\t0\n",
            p.comm, p.ppid, p.vsz + 68, p.vsz, p.rss, u = p.uid
        )
        .into_bytes(),
        "stat" => {
            let ticks = (p.start - machine.facts.boot(p.start.max(machine.facts.installed + 7_200))).max(0) * 100;
            format!(
                "{pid} ({}) S {} {pid} {pid} 0 -1 4194560 1181 0 0 0 {} 0 0 0 20 0 1 0 {ticks} {} {} 18446744073709551615 1 1 0 0 0 0 65536 3686404 1266761467 1 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
                p.comm, p.ppid, p.cpu * 100, p.vsz * 1024, p.rss / 4
            )
            .into_bytes()
        }
        "statm" => format!("{} {} {} 202 0 120 0\n", p.vsz / 4, p.rss / 4, p.rss / 6).into_bytes(),
        "cgroup" => b"0::/user.slice\n".to_vec(),
        "mounts" => mounts(&machine.facts).into_bytes(),
        "limits" => b"Limit                     Soft Limit           Hard Limit           Units     \nMax cpu time              unlimited            unlimited            seconds   \nMax file size             unlimited            unlimited            bytes     \nMax open files            1024                 1048576              files     \n".to_vec(),
        "maps" => {
            let mut rng = Rng::new(&machine.facts.seed, &pid.to_le_bytes());
            let text = 0x5500_0000_0000 + (rng.next() & 0xff_ffff_f000);
            let stack = 0x7ffc_0000_0000 + (rng.next() & 0xffff_f000);
            let exe = String::from_utf8_lossy(&p.exe).into_owned();
            format!(
                "{:x}-{:x} r--p 00000000 fe:01 262310                     {exe}\n{:x}-{:x} r-xp 0002f000 fe:01 262310                     {exe}\n{stack:x}-{:x} rw-p 00000000 00:00 0                          [stack]\n",
                text, text + 0x2f000, text + 0x2f000, text + 0x10d000, stack + 0x21000
            )
            .into_bytes()
        }
        _ => Vec::new(),
    }
}

/// `/proc/mounts`.
pub(super) fn mounts(f: &Facts) -> String {
    let run = f.mem_kb / 10;
    format!(
        "sysfs /sys sysfs rw,nosuid,nodev,noexec,relatime 0 0\nproc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\nudev /dev devtmpfs rw,nosuid,relatime,size={}k,nr_inodes={},mode=755,inode64 0 0\ndevpts /dev/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=000 0 0\ntmpfs /run tmpfs rw,nosuid,nodev,noexec,relatime,size={run}k,mode=755,inode64 0 0\n/dev/{}1 / ext4 rw,relatime,errors=remount-ro 0 0\nsecurityfs /sys/kernel/security securityfs rw,nosuid,nodev,noexec,relatime 0 0\ntmpfs /dev/shm tmpfs rw,nosuid,nodev,inode64 0 0\ntmpfs /run/lock tmpfs rw,nosuid,nodev,noexec,relatime,size=5120k,inode64 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate,memory_recursiveprot 0 0\npstore /sys/fs/pstore pstore rw,nosuid,nodev,noexec,relatime 0 0\nbpf /sys/fs/bpf bpf rw,nosuid,nodev,noexec,relatime,mode=700 0 0\nsystemd-1 /proc/sys/fs/binfmt_misc autofs rw,relatime,fd=30,pgrp=1,timeout=0,minproto=5,maxproto=5,direct,pipe_ino=13118 0 0\nhugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\nmqueue /dev/mqueue mqueue rw,nosuid,nodev,noexec,relatime 0 0\ndebugfs /sys/kernel/debug debugfs rw,nosuid,nodev,noexec,relatime 0 0\ntracefs /sys/kernel/tracing tracefs rw,nosuid,nodev,noexec,relatime 0 0\nconfigfs /sys/kernel/config configfs rw,nosuid,nodev,noexec,relatime 0 0\ntmpfs /run/user/0 tmpfs rw,nosuid,nodev,relatime,size={}k,nr_inodes={},mode=700,inode64 0 0\n",
        f.mem_kb / 2 - 20_000,
        f.mem_kb / 8 - 5_000,
        f.disk,
        run - 4,
        (run - 4) / 4
    )
}

/// `/proc/version`.
pub(super) fn version(f: &Facts) -> String {
    format!(
        "Linux version {} (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40) {}\n",
        f.release.abi,
        build(f)
    )
}

/// `uname -v`.
pub(super) fn build(f: &Facts) -> String {
    format!("#1 SMP PREEMPT_DYNAMIC Debian {} ({})", f.release.kernel, f.release.built)
}

/// The content of a file that is made by its path.
pub(super) fn path_file(machine: &Machine, session: &Session, path: &[u8], now_ns: i64) -> Option<Vec<u8>> {
    let f = &machine.facts;
    let now = now_ns.div_euclid(1_000_000_000);
    let up = (now - session.boot).max(1);
    let centis = now_ns.div_euclid(10_000_000).rem_euclid(100);
    let text = match std::str::from_utf8(path).ok()? {
        "/proc/version" => version(f),
        "/proc/uptime" => format!("{up}.{centis:02} {:.2}\n", f.idle(now)),
        "/proc/loadavg" => {
            let [a, b, c] = f.load(now);
            format!("{a:.2} {b:.2} {c:.2} 1/{} {}\n", session.processes.len() + 24, f.pid_at(now_ns) + session.forks)
        }
        "/proc/cmdline" => format!("BOOT_IMAGE=/boot/vmlinuz-{} root=UUID={} ro quiet\n", f.release.abi, f.root_uuid),
        "/proc/mounts" | "/etc/mtab" => mounts(f),
        "/proc/filesystems" => "nodev\tsysfs\nnodev\ttmpfs\nnodev\tbdev\nnodev\tproc\nnodev\tcgroup\nnodev\tcgroup2\nnodev\tdevtmpfs\nnodev\tdebugfs\nnodev\ttracefs\nnodev\tsecurityfs\nnodev\tsockfs\nnodev\tbpf\nnodev\tpipefs\nnodev\tramfs\nnodev\thugetlbfs\nnodev\tdevpts\nnodev\tmqueue\nnodev\tpstore\n\text3\n\text2\n\text4\nnodev\tautofs\nnodev\tconfigfs\n".to_owned(),
        "/proc/swaps" => {
            let mut t = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_owned();
            if f.swap_kb > 0 {
                t.push_str(&format!("/dev/{}5                               partition\t{}\t\t0\t\t-2\n", f.disk, f.swap_kb));
            }
            t
        }
        "/proc/partitions" => {
            let major = if f.disk == "sda" { 8 } else { 254 };
            let mut t = format!("major minor  #blocks  name\n\n{major:>4}        0 {:>10} {}\n{major:>4}        1 {:>10} {}1\n", f.root_kb + f.swap_kb + 2_048, f.disk, f.root_kb, f.disk);
            if f.swap_kb > 0 {
                t.push_str(&format!("{major:>4}        2          1 {d}2\n{major:>4}        5 {:>10} {d}5\n", f.swap_kb, d = f.disk));
            }
            t
        }
        "/proc/cpuinfo" => (0..f.cores).map(|core| cpuinfo(f, core)).collect(),
        "/proc/meminfo" => meminfo(f, now),
        "/proc/stat" => {
            let user = up as u64 * 2;
            let per = |n: u64| format!("{} {} {} {} {} 0 {} 0 0 0", user * n / 2, 31 * n, user * n / 3, (f.idle(now) * 100.0) as u64 * n / u64::from(f.cores), 1_200 * n, 90 * n);
            let mut t = format!("cpu  {}\n", per(u64::from(f.cores)));
            for core in 0..f.cores {
                t.push_str(&format!("cpu{core} {}\n", per(1)));
            }
            t.push_str(&format!("intr {}\nctxt {}\nbtime {}\nprocesses {}\nprocs_running 1\nprocs_blocked 0\n", up * 61, up * 117, session.boot, f.pid_at(now_ns)));
            t
        }
        "/proc/net/dev" => {
            let (rx, rxp, tx, txp) = traffic(f, now, session.boot);
            format!(
                "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo: {l:>7} {lp:>7}    0    0    0     0          0         0 {l:>8} {lp:>7}    0    0    0     0       0          0\n{:>6}: {rx:>7} {rxp:>7}    0    0    0     0          0         0 {tx:>8} {txp:>7}    0    0    0     0       0          0\n",
                f.iface, l = up / 9 + 5_400, lp = up / 900 + 54
            )
        }
        "/proc/net/route" => {
            let hex = |a: std::net::Ipv4Addr| a.octets().iter().rev().map(|b| format!("{b:02X}")).collect::<String>();
            let [a, b, c, _] = f.v4.octets();
            let pad = |t: String| format!("{t:<127} \n");
            pad("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT".to_owned())
                + &pad(format!("{}\t00000000\t{}\t0003\t0\t0\t0\t00000000\t0\t0\t0", f.iface, hex(f.gateway)))
                + &pad(format!("{}\t{}\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0", f.iface, hex(std::net::Ipv4Addr::new(a, b, c, 0))))
        }
        "/proc/net/arp" => {
            let line = |ip: String, mac: String| format!("{ip:<16} 0x1         0x2         {mac}     *        {}\n", f.iface);
            "IP address       HW type     Flags       HW address            Mask     Device\n".to_owned() + &line(f.gateway.to_string(), f.neighbour_mac(f.gateway.into()))
        }
        "/proc/net/tcp" => net_tcp(machine, session),
        "/proc/net/tcp6" | "/proc/net/udp" | "/proc/net/udp6" => "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n".to_owned(),
        "/proc/modules" => "tls 135168 0 - Live 0x0000000000000000\nintel_rapl_msr 20480 0 - Live 0x0000000000000000\nvirtio_net 73728 0 - Live 0x0000000000000000\nnet_failover 24576 1 virtio_net, Live 0x0000000000000000\next4 983040 1 - Live 0x0000000000000000\njbd2 167936 1 ext4, Live 0x0000000000000000\n".to_owned(),
        "/proc/sys/kernel/hostname" => format!("{}\n", machine.spec.hostname),
        "/proc/sys/kernel/osrelease" => format!("{}\n", f.release.abi),
        "/proc/sys/kernel/version" => format!("{}\n", build(f)),
        "/proc/sys/kernel/ostype" => "Linux\n".to_owned(),
        "/proc/sys/kernel/random/boot_id" => format!("{}\n", Rng::new(&f.seed, &session.boot.to_le_bytes()).uuid()),
        "/proc/sys/kernel/random/uuid" => format!("{}\n", Rng::new(&f.seed, &now_ns.to_le_bytes()).uuid()),
        "/proc/sys/kernel/random/entropy_avail" | "/proc/sys/kernel/random/poolsize" => "256\n".to_owned(),
        "/proc/sys/kernel/pid_max" => "4194304\n".to_owned(),
        "/proc/sys/fs/file-nr" => format!("{}\t0\t9223372036854775807\n", 900 + now.rem_euclid(97)),
        "/sys/class/net/lo/address" => "00:00:00:00:00:00\n".to_owned(),
        p if p.starts_with("/sys/class/net/") && p.ends_with("/address") => {
            format!("{}\n", mac(machine.spec.mac))
        }
        _ => return None,
    };
    Some(text.into_bytes())
}

pub(super) fn mac(mac: [u8; 6]) -> String {
    mac.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
}

/// Received bytes and packets, sent bytes and packets since the start.
pub(super) fn traffic(f: &Facts, now: i64, boot: i64) -> (i64, i64, i64, i64) {
    let up = (now - boot).max(1);
    let rate = 140 + (f.installed % 400);
    let wobble = (f.noise("net", now, 30) * 9_000.0) as i64;
    let rx = up * rate + wobble + 1_900_000;
    let tx = up * rate / 5 + wobble / 3 + 240_000;
    (rx, rx / 310, tx, tx / 260)
}

fn net_tcp(machine: &Machine, session: &Session) -> String {
    let mut t = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n".to_owned();
    let hex = |a: std::net::IpAddr| match a {
        std::net::IpAddr::V4(v) => v.octets().iter().rev().map(|b| format!("{b:02X}")).collect::<String>(),
        std::net::IpAddr::V6(_) => "00000000".to_owned(),
    };
    let mut n = 0;
    for (port, _) in &machine.spec.services {
        let row = format!(
            "{n:>4}: 00000000:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 {} 1 0000000000000000 100 0 0 10 0",
            15_200 + n * 37
        );
        t.push_str(&format!("{row:<149} \n"));
        n += 1;
    }
    let (l, p) = (session.client.local, session.client.peer);
    let row = format!(
        "{n:>4}: {}:{:04X} {}:{:04X} 01 00000000:00000000 02:000A7214 00000000     0        0 {} 4 0000000000000000 20 4 30 10 -1",
        hex(l.ip()),
        l.port(),
        hex(p.ip()),
        p.port(),
        15_200 + session.pid * 3
    );
    t + &format!("{row:<149} \n")
}

fn cpuinfo(f: &Facts, core: u32) -> String {
    let c = &f.cpu;
    let intel = c.vendor == "GenuineIntel";
    format!(
        "processor\t: {core}\nvendor_id\t: {}\ncpu family\t: {}\nmodel\t\t: {}\nmodel name\t: {}\nstepping\t: {}\nmicrocode\t: {}\ncpu MHz\t\t: {}.{:03}\ncache size\t: {} KB\nphysical id\t: {core}\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1\napicid\t\t: {core}\ninitial apicid\t: {core}\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {}\nwp\t\t: yes\nflags\t\t: {}\nbugs\t\t: {}\nbogomips\t: {}.{:02}\n{}clflush size\t: 64\ncache_alignment\t: 64\naddress sizes\t: {} bits physical, 48 bits virtual\npower management:\n\n",
        c.vendor,
        c.family,
        c.number,
        c.model,
        c.stepping,
        if intel { "0x1" } else { "0x1000065" },
        c.mhz / 1_000,
        c.mhz % 1_000,
        c.cache_kb,
        if intel { 13 } else { 16 },
        c.flags,
        if intel {
            "spectre_v1 spectre_v2 spec_store_bypass swapgs taa mmio_stale_data retbleed gds bhi its"
        } else {
            "sysret_ss_attrs null_seg spectre_v1 spectre_v2 spec_store_bypass retbleed smt_rsb srso"
        },
        c.mhz * 2 / 1_000,
        c.mhz * 2 % 1_000 / 10,
        if intel { String::new() } else { "TLB size\t: 1024 4K pages\n".to_owned() },
        if intel { 46 } else { 48 },
    )
}

fn meminfo(f: &Facts, now: i64) -> String {
    let m = f.memory(now);
    let anon = m.total.saturating_sub(m.free + m.buffers + m.cached + m.slab) / 2;
    let rows: [(&str, u64); 34] = [
        ("MemTotal", m.total),
        ("MemFree", m.free),
        ("MemAvailable", m.available),
        ("Buffers", m.buffers),
        ("Cached", m.cached),
        ("SwapCached", 0),
        ("Active", anon / 3 + m.cached / 3),
        ("Inactive", m.cached * 2 / 3 + anon * 2 / 3),
        ("Active(anon)", m.shared),
        ("Inactive(anon)", anon),
        ("Active(file)", m.cached / 3),
        ("Inactive(file)", m.cached * 2 / 3),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", m.swap),
        ("SwapFree", m.swap_free),
        ("Zswap", 0),
        ("Zswapped", 0),
        ("Dirty", 40 + now.rem_euclid(30) as u64 * 4),
        ("Writeback", 0),
        ("AnonPages", anon),
        ("Mapped", anon * 4 / 5),
        ("Shmem", m.shared),
        ("KReclaimable", m.slab * 2 / 3),
        ("Slab", m.slab),
        ("SReclaimable", m.slab * 2 / 3),
        ("SUnreclaim", m.slab / 3),
        ("KernelStack", 1_900 + u64::from(f.cores) * 90),
        ("PageTables", 2_200),
        ("NFS_Unstable", 0),
        ("CommitLimit", m.total / 2 + m.swap),
        ("Committed_AS", anon * 3),
        ("VmallocTotal", 34_359_738_367),
        ("VmallocUsed", 14_000 + u64::from(f.cores) * 300),
    ];
    let mut t = String::new();
    for (name, value) in rows.iter().filter(|r| r.0 != "NFS_Unstable") {
        t.push_str(&format!("{:<16}{value:>8} kB\n", format!("{name}:")));
    }
    t.push_str("HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\nHugepagesize:       2048 kB\nHugetlb:               0 kB\n");
    t
}

impl ProcView {
    /// The modification time `ls -l` shows for what the kernel makes up.
    pub(super) fn mtime(path: &[u8], now: i64, boot: i64) -> i64 {
        if path.starts_with(b"/sys") { boot } else { now }
    }
}
