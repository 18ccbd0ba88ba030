//! Debian GNU/Linux 12 (bookworm), amd64, as a plain server install leaves it.
//!
//! Everything that a package decides (program sizes, versions) is here as tables; everything that an install decides is
//! drawn from the seed.

mod etc;

use super::{
    api::{Account, MachineSpec},
    facts::{Facts, Release, Rng},
    fs::{Base, Content, Kind, Made, Node},
    proc::Process,
};

const PROGRAMS: &str = include_str!("programs.txt");

/// Point releases, oldest first.
pub(super) const RELEASES: [Release; 3] = [
    Release {
        version: "12.10",
        abi: "6.1.0-32-amd64",
        kernel: "6.1.129-1",
        built: "2025-03-06",
        from_day: 20_162,
        openssl: "OpenSSL 3.0.15 3 Sep 2024",
        openssl_package: "3.0.15-1~deb12u1",
        base_files: "12.4+deb12u10",
    },
    Release {
        version: "12.11",
        abi: "6.1.0-37-amd64",
        kernel: "6.1.140-1",
        built: "2025-05-22",
        from_day: 20_232,
        openssl: "OpenSSL 3.0.16 11 Feb 2025",
        openssl_package: "3.0.16-1~deb12u1",
        base_files: "12.4+deb12u11",
    },
    Release {
        version: "12.12",
        abi: "6.1.0-39-amd64",
        kernel: "6.1.148-1",
        built: "2025-08-26",
        from_day: 20_337,
        openssl: "OpenSSL 3.0.17 1 Jul 2025",
        openssl_package: "3.0.17-1~deb12u2",
        base_files: "12.4+deb12u12",
    },
];

/// The `deb12uN` of a banner.
pub(super) fn ssh_revision(version: &str) -> Option<u32> {
    let rest = version.split("deb12u").nth(1)?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

/// Installed packages: name, version (`@base`, `@ssh`, `@ssl` and `@kernel` follow the release), architecture, description.
pub(super) const PACKAGES: [(&str, &str, &str, &str); 72] = [
    ("adduser", "3.134", "all", "add and remove users and groups"),
    ("apt", "2.6.1", "amd64", "commandline package manager"),
    ("apt-utils", "2.6.1", "amd64", "package management related utility programs"),
    ("base-files", "@base", "amd64", "Debian base system miscellaneous files"),
    ("base-passwd", "3.6.1", "amd64", "Debian base system master password and group files"),
    ("bash", "5.2.15-2+b8", "amd64", "GNU Bourne Again SHell"),
    ("bsdutils", "1:2.38.1-5+deb12u3", "amd64", "basic utilities from 4.4BSD-Lite"),
    ("bzip2", "1.0.8-5+b1", "amd64", "high-quality block-sorting file compressor - utilities"),
    ("ca-certificates", "20230311+deb12u1", "all", "Common CA certificates"),
    ("coreutils", "9.1-1", "amd64", "GNU core utilities"),
    ("cron", "3.0pl1-162", "amd64", "process scheduling daemon"),
    ("curl", "7.88.1-10+deb12u12", "amd64", "command line tool for transferring data with URL syntax"),
    ("dash", "0.5.12-2", "amd64", "POSIX-compliant shell"),
    ("dbus", "1.14.10-1~deb12u1", "amd64", "simple interprocess messaging system (system message bus)"),
    ("debconf", "1.5.82", "all", "Debian configuration management system"),
    ("debian-archive-keyring", "2023.3+deb12u2", "all", "GnuPG archive keys of the Debian archive"),
    ("debianutils", "5.7-0.5~deb12u1", "amd64", "Miscellaneous utilities specific to Debian"),
    ("diffutils", "1:3.8-4", "amd64", "File comparison utilities"),
    ("dpkg", "1.21.22", "amd64", "Debian package management system"),
    ("e2fsprogs", "1.47.0-2", "amd64", "ext2/ext3/ext4 file system utilities"),
    ("file", "1:5.44-3", "amd64", "Recognize the type of data in a file using \"magic\" numbers"),
    ("findutils", "4.9.0-4", "amd64", "utilities for finding files--find, xargs"),
    ("gcc-12-base", "12.2.0-14+deb12u1", "amd64", "GCC, the GNU Compiler Collection (base package)"),
    ("gpgv", "2.2.40-1.1+deb12u2", "amd64", "GNU privacy guard - signature verification tool"),
    ("grep", "3.8-5", "amd64", "GNU grep, egrep and fgrep"),
    ("grub-pc", "2.06-13+deb12u1", "amd64", "GRand Unified Bootloader, version 2 (PC/BIOS version)"),
    ("gzip", "1.12-1", "amd64", "GNU compression utilities"),
    ("hostname", "3.23+nmu1", "amd64", "utility to set/show the host name or domain name"),
    ("ifupdown", "0.8.41", "amd64", "high level tools to configure network interfaces"),
    ("init", "1.65.2", "amd64", "metapackage ensuring an init system is installed"),
    ("init-system-helpers", "1.65.2", "all", "helper tools for all init systems"),
    ("iproute2", "6.1.0-3", "amd64", "networking and traffic control tools"),
    ("iputils-ping", "3:20221126-1+deb12u1", "amd64", "Tools to test the reachability of network hosts"),
    ("isc-dhcp-client", "4.4.3-P1-2", "amd64", "DHCP client for automatically obtaining an IP address"),
    ("kmod", "30+20221128-1", "amd64", "tools for managing Linux kernel modules"),
    ("less", "590-2.1~deb12u2", "amd64", "pager program similar to more"),
    ("libc-bin", "2.36-9+deb12u10", "amd64", "GNU C Library: Binaries"),
    ("libc6", "2.36-9+deb12u10", "amd64", "GNU C Library: Shared libraries"),
    ("libpam-modules", "1.5.2-6+deb12u1", "amd64", "Pluggable Authentication Modules for PAM"),
    ("libssl3", "@ssl", "amd64", "Secure Sockets Layer toolkit - shared libraries"),
    ("libsystemd0", "252.38-1~deb12u1", "amd64", "systemd utility library"),
    ("linux-image-amd64", "@kernel", "amd64", "Linux for 64-bit PCs (meta-package)"),
    ("login", "1:4.13+dfsg1-1+deb12u1", "amd64", "system login tools"),
    ("logrotate", "3.21.0-1", "amd64", "Log rotation utility"),
    ("mawk", "1.3.4.20200120-3.1", "amd64", "Pattern scanning and text processing language"),
    ("mount", "2.38.1-5+deb12u3", "amd64", "tools for mounting and manipulating filesystems"),
    ("ncurses-base", "6.4-4", "all", "basic terminal type definitions"),
    ("ncurses-bin", "6.4-4", "amd64", "terminal-related programs and man pages"),
    ("netbase", "6.4", "all", "Basic TCP/IP networking system"),
    ("nftables", "1.0.6-2+deb12u2", "amd64", "Program to control packet filtering rules by Netfilter project"),
    ("openssh-client", "@ssh", "amd64", "secure shell (SSH) client, for secure access to remote machines"),
    ("openssh-server", "@ssh", "amd64", "secure shell (SSH) server, for secure access from remote machines"),
    ("openssh-sftp-server", "@ssh", "amd64", "secure shell (SSH) sftp server module, for SFTP access from remote machines"),
    ("openssl", "@ssl", "amd64", "Secure Sockets Layer toolkit - cryptographic utility"),
    ("passwd", "1:4.13+dfsg1-1+deb12u1", "amd64", "change and administer password and group data"),
    ("perl-base", "5.36.0-7+deb12u2", "amd64", "minimal Perl system"),
    ("procps", "2:4.0.2-3", "amd64", "/proc file system utilities"),
    ("sed", "4.9-1", "amd64", "GNU stream editor for filtering/transforming text"),
    ("sensible-utils", "0.0.17+nmu1", "all", "Utilities for sensible alternative selection"),
    ("systemd", "252.38-1~deb12u1", "amd64", "system and service manager"),
    ("systemd-sysv", "252.38-1~deb12u1", "amd64", "system and service manager - SysV links"),
    ("systemd-timesyncd", "252.38-1~deb12u1", "amd64", "minimalistic service to synchronize local time with NTP servers"),
    ("sysvinit-utils", "3.06-4", "amd64", "System-V-like utilities"),
    ("tar", "1.34+dfsg-1.2+deb12u1", "amd64", "GNU version of the tar archiving utility"),
    ("tasksel", "3.73", "all", "tool for selecting tasks for installation on Debian systems"),
    ("tzdata", "2025b-0+deb12u1", "all", "time zone and daylight-saving time data"),
    ("udev", "252.38-1~deb12u1", "amd64", "/dev/ and hotplug management daemon"),
    ("util-linux", "2.38.1-5+deb12u3", "amd64", "miscellaneous system utilities"),
    ("util-linux-extra", "2.38.1-5+deb12u3", "amd64", "interactive login tools"),
    ("wget", "1.21.3-1+deb12u1", "amd64", "retrieves files from the web"),
    ("xz-utils", "5.4.1-1", "amd64", "XZ-format compression utilities"),
    ("zlib1g", "1:1.2.13.dfsg-1", "amd64", "compression library - runtime"),
];

/// A package's version on this machine.
pub(super) fn package_version(version: &str, facts: &Facts, ssh: &str) -> String {
    match version {
        "@base" => facts.release.base_files.to_owned(),
        "@ssh" => {
            let revision = ssh.split("Debian-").nth(1).unwrap_or("2+deb12u7");
            let base = ssh.strip_prefix("OpenSSH_").and_then(|s| s.split(' ').next()).unwrap_or("9.2p1");
            format!("1:{base}-{revision}")
        }
        "@ssl" => facts.release.openssl_package.to_owned(),
        "@kernel" => facts.release.kernel.to_owned(),
        other => other.to_owned(),
    }
}

/// Builds the files every visitor meets first.
pub(super) fn files(spec: &MachineSpec, facts: &Facts, accounts: &[Account]) -> Base {
    let mut base = Base::default();
    let at = facts.installed;
    for dir in [
        "/boot",
        "/dev",
        "/etc",
        "/home",
        "/media",
        "/mnt",
        "/opt",
        "/proc",
        "/run",
        "/srv",
        "/sys",
        "/usr",
        "/var",
        "/usr/games",
        "/usr/include",
        "/usr/lib",
        "/usr/lib64",
        "/usr/libexec",
        "/usr/local",
        "/usr/share",
        "/usr/src",
        "/usr/local/bin",
        "/usr/local/etc",
        "/usr/local/games",
        "/usr/local/include",
        "/usr/local/lib",
        "/usr/local/sbin",
        "/usr/local/share",
        "/usr/local/src",
        "/var/backups",
        "/var/cache",
        "/var/cache/apt",
        "/var/lib",
        "/var/lib/apt",
        "/var/lib/dpkg",
        "/var/lib/dpkg/info",
        "/var/lib/systemd",
        "/var/log",
        "/var/log/apt",
        "/var/log/private",
        "/var/opt",
        "/var/spool",
        "/var/spool/cron",
        "/var/www",
        "/run/sshd",
        "/run/systemd",
        "/run/user",
        "/run/udev",
        "/usr/share/doc",
        "/usr/share/man",
        "/usr/share/perl5",
        "/usr/share/zoneinfo",
        "/usr/share/zoneinfo/Etc",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/systemd",
        "/usr/lib/systemd/system",
        "/usr/lib/modules",
        "/etc/systemd/system",
        "/etc/init.d",
        "/etc/cron.d",
        "/etc/cron.daily",
        "/etc/cron.hourly",
        "/etc/cron.weekly",
        "/etc/cron.monthly",
        "/sys/class/net",
        "/sys/kernel",
        "/sys/fs/cgroup",
        "/sys/devices/system/cpu",
        "/proc/net",
        "/proc/sys/kernel/random",
        "/proc/sys/net/ipv4",
        "/proc/sys/vm",
        "/proc/sys/fs",
        "/dev/pts",
        "/dev/mapper",
        "/lost+found",
    ] {
        base.dir(dir, 0o755, at);
    }
    for (dir, mode) in [
        ("/root", 0o700),
        ("/tmp", 0o1777),
        ("/var/tmp", 0o1777),
        ("/lost+found", 0o700),
        ("/dev/shm", 0o1777),
        ("/run/lock", 0o1777),
        ("/var/log/private", 0o700),
    ] {
        base.dir(dir, mode, at);
    }
    base.put("/var/mail", Node::new(Kind::Dir, 0o2775, 0, 8, at));
    base.put("/var/local", Node::new(Kind::Dir, 0o2775, 0, 50, at));
    base.put("/var/spool/cron/crontabs", Node::new(Kind::Dir, 0o1730, 0, 101, at));
    for (link, target) in [
        ("/bin", "usr/bin"),
        ("/sbin", "usr/sbin"),
        ("/lib", "usr/lib"),
        ("/lib64", "usr/lib64"),
        ("/lib32", "usr/lib32"),
        ("/libx32", "usr/libx32"),
        ("/var/run", "/run"),
        ("/var/lock", "/run/lock"),
        ("/usr/bin/sh", "dash"),
        ("/usr/bin/awk", "/etc/alternatives/awk"),
        ("/etc/alternatives/awk", "/usr/bin/mawk"),
        ("/usr/bin/which", "/etc/alternatives/which"),
        ("/etc/alternatives/which", "/usr/bin/which.debianutils"),
        ("/usr/bin/pager", "/etc/alternatives/pager"),
        ("/etc/alternatives/pager", "/usr/bin/less"),
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/etc/mtab", "../proc/self/mounts"),
        ("/etc/localtime", "/usr/share/zoneinfo/Etc/UTC"),
        ("/etc/os-release", "../usr/lib/os-release"),
        ("/usr/sbin/init", "/lib/systemd/systemd"),
        ("/proc/mounts", "self/mounts"),
        ("/usr/bin/nc", "/etc/alternatives/nc"),
    ] {
        if target != "/etc/alternatives/nc" {
            base.link(link, target, at);
        }
    }
    for dir in ["/usr/lib32", "/usr/libx32"] {
        base.dir(dir, 0o755, at);
    }
    for suffix in ["", ".old"] {
        base.link(&format!("/vmlinuz{suffix}"), &format!("boot/vmlinuz-{}", facts.release.abi), at);
        base.link(&format!("/initrd.img{suffix}"), &format!("boot/initrd.img-{}", facts.release.abi), at);
    }
    let mut rng = Rng::new(&facts.seed, b"boot");
    for (name, size) in [("vmlinuz", 8_200_000), ("System.map", 83), ("config", 259_000), ("initrd.img", 38_000_000)] {
        let size = if name == "System.map" { 83 } else { size + rng.range(0, 90_000) };
        base.put(
            &format!("/boot/{name}-{}", facts.release.abi),
            Node::new(Kind::File(Content::Made(Made::Program(size, name))), 0o644, 0, 0, at),
        );
    }
    base.dir("/boot/grub", 0o755, at);
    base.dir(&format!("/usr/lib/modules/{}", facts.release.abi), 0o755, at);
    for (path, major, minor, mode) in [
        ("null", 1, 3, 0o666),
        ("zero", 1, 5, 0o666),
        ("full", 1, 7, 0o666),
        ("random", 1, 8, 0o666),
        ("urandom", 1, 9, 0o666),
        ("tty", 5, 0, 0o666),
        ("console", 5, 1, 0o600),
        ("ptmx", 5, 2, 0o666),
        ("kmsg", 1, 11, 0o644),
        ("tty1", 4, 1, 0o620),
        ("mem", 1, 1, 0o640),
        ("pts/ptmx", 5, 2, 0o000),
    ] {
        base.put(&format!("/dev/{path}"), Node::new(Kind::Char(major, minor), mode, 0, if mode == 0o620 { 5 } else { 0 }, at));
    }
    for n in 0..4u32 {
        base.put(&format!("/dev/pts/{n}"), Node::new(Kind::Char(136, n), 0o620, 0, 5, at));
    }
    let major = if facts.disk == "sda" { 8 } else { 254 };
    for (part, minor) in [("", 0), ("1", 1)] {
        base.put(&format!("/dev/{}{part}", facts.disk), Node::new(Kind::Block(major, minor), 0o660, 0, 6, at));
    }
    for line in PROGRAMS.lines().filter(|l| !l.starts_with('#')) {
        program_line(&mut base, line);
    }
    for (path, size) in [
        ("/usr/sbin/cron", 55_752u64),
        ("/usr/bin/crontab", 43_568),
        ("/usr/bin/ping", 90_568),
        ("/usr/bin/openssl", 991_640),
        ("/usr/sbin/ifup", 91_848),
        ("/usr/bin/kmod", 174_424),
        ("/usr/sbin/dhclient", 545_800),
        ("/usr/bin/udevadm", 1_242_496),
        ("/usr/lib/systemd/systemd", 100_688),
        ("/usr/lib/systemd/systemd-journald", 190_184),
        ("/usr/lib/systemd/systemd-logind", 263_408),
        ("/usr/lib/systemd/systemd-timesyncd", 55_160),
        ("/usr/lib/openssh/sftp-server", 191_264),
        ("/usr/sbin/agetty", 64_328),
        ("/usr/bin/dbus-daemon", 244_096),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", 1_922_136),
        ("/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", 210_968),
        ("/usr/lib/x86_64-linux-gnu/libssl.so.3", 692_256),
    ] {
        let mode = if path.contains("/lib/x86") { 0o644 } else { 0o755 };
        base.put(
            path,
            Node::new(Kind::File(Content::Made(Made::Program(size, path.rsplit('/').next().unwrap_or(path)))), mode, 0, 0, 1_741_500_000),
        );
    }
    base.link("/usr/lib64/ld-linux-x86-64.so.2", "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", at);
    for (path, mode) in [
        ("cpuinfo", 0o444),
        ("meminfo", 0o444),
        ("version", 0o444),
        ("uptime", 0o444),
        ("loadavg", 0o444),
        ("cmdline", 0o444),
        ("stat", 0o444),
        ("filesystems", 0o444),
        ("swaps", 0o444),
        ("partitions", 0o444),
        ("modules", 0o444),
        ("net/dev", 0o444),
        ("net/route", 0o444),
        ("net/arp", 0o444),
        ("net/tcp", 0o444),
        ("net/tcp6", 0o444),
        ("net/udp", 0o444),
        ("net/udp6", 0o444),
        ("sys/kernel/hostname", 0o644),
        ("sys/kernel/osrelease", 0o444),
        ("sys/kernel/version", 0o444),
        ("sys/kernel/ostype", 0o444),
        ("sys/kernel/random/boot_id", 0o444),
        ("sys/kernel/random/uuid", 0o444),
        ("sys/kernel/random/entropy_avail", 0o444),
        ("sys/kernel/random/poolsize", 0o444),
        ("sys/kernel/pid_max", 0o644),
        ("sys/fs/file-nr", 0o444),
    ] {
        base.made(&format!("/proc/{path}"), mode, at);
    }
    for (path, value) in [
        ("sys/vm/swappiness", "60"),
        ("sys/vm/overcommit_memory", "0"),
        ("sys/net/ipv4/ip_forward", "0"),
        ("sys/vm/nr_hugepages", "0"),
        ("sys/vm/drop_caches", "0"),
        ("sys/kernel/randomize_va_space", "2"),
        ("sys/kernel/dmesg_restrict", "1"),
    ] {
        base.file(&format!("/proc/{path}"), format!("{value}\n"), 0o644, at);
    }
    for iface in ["lo", facts.iface] {
        base.made(&format!("/sys/class/net/{iface}/address"), 0o444, at);
        base.file(&format!("/sys/class/net/{iface}/mtu"), if iface == "lo" { "65536\n" } else { "1500\n" }, 0o644, at);
        base.file(&format!("/sys/class/net/{iface}/operstate"), if iface == "lo" { "unknown\n" } else { "up\n" }, 0o444, at);
    }
    etc::files(&mut base, spec, facts, accounts);
    base
}

/// One line of the program table.
fn program_line(base: &mut Base, line: &'static str) {
    let mut words = line.split(' ');
    let (Some(_package), Some(time), Some(dir)) = (words.next(), words.next(), words.next()) else { return };
    let time = time.parse().unwrap_or(0);
    for item in words {
        if let Some((name, target)) = item.split_once('=') {
            base.link(&format!("{dir}/{name}"), target, time);
            continue;
        }
        let mut fields = item.rsplitn(3, ':');
        let (Some(size), Some(mode), Some(name)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let script = size.ends_with('!');
        let size: u64 = size.trim_end_matches('!').parse().unwrap_or(0);
        let mode = u32::from_str_radix(mode, 8).unwrap_or(0o755);
        let content = if script {
            Content::new(format!("{:width$}\n", "#!/bin/sh", width = size.saturating_sub(1) as usize))
        } else {
            Content::Made(Made::Program(size, name))
        };
        base.put(&format!("{dir}/{name}"), Node::new(Kind::File(content), mode, 0, 0, time));
    }
}

/// A daemon behind a listening port, by the name a persona gives it: command line, user, KiB of virtual and resident memory.
const DAEMONS: [(&str, &str, &str, u64, u64); 14] = [
    ("nginx", "nginx: master process /usr/sbin/nginx -g daemon on; master_process on;", "root", 55_240, 5_612),
    ("apache2", "/usr/sbin/apache2 -k start", "root", 6_784, 4_788),
    ("mysqld", "/usr/sbin/mysqld", "mysql", 1_782_552, 391_204),
    ("mariadbd", "/usr/sbin/mariadbd", "mysql", 1_341_884, 118_640),
    (
        "postgres",
        "/usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/15/main -c config_file=/etc/postgresql/15/main/postgresql.conf",
        "postgres",
        216_540,
        29_312,
    ),
    ("redis-server", "/usr/bin/redis-server 127.0.0.1:6379", "redis", 66_204, 9_892),
    ("vsftpd", "/usr/sbin/vsftpd /etc/vsftpd.conf", "root", 10_144, 3_512),
    ("proftpd", "proftpd: (accepting connections)", "proftpd", 20_132, 4_940),
    ("smbd", "/usr/sbin/smbd --foreground --no-process-group", "root", 81_384, 23_716),
    ("named", "/usr/sbin/named -f -u bind", "bind", 238_860, 36_404),
    ("master", "/usr/lib/postfix/sbin/master -w", "root", 42_856, 4_616),
    ("dovecot", "/usr/sbin/dovecot -F", "root", 9_208, 5_540),
    ("snmpd", "/usr/sbin/snmpd -LOw -u Debian-snmp -g Debian-snmp -I -smux mteTrigger mteTriggerConf -f", "Debian-snmp", 25_812, 12_908),
    ("inetutils-inetd", "/usr/sbin/inetutils-inetd", "root", 4_096, 2_304),
];

/// The processes that run since the start.
pub(super) fn processes(spec: &MachineSpec, facts: &Facts, boot: i64, now: i64) -> Vec<Process> {
    let mut all = Vec::new();
    let mut rng = Rng::new(&facts.seed, b"pids");
    let mut pid = 0u32;
    let mut kernel = |name: &str, all: &mut Vec<Process>, skip: u32| {
        pid += 1 + skip;
        all.push(Process {
            pid,
            ppid: 2,
            user: "root".into(),
            tty: "?".into(),
            comm: name.into(),
            args: format!("[{name}]").into_bytes(),
            start: boot,
            state: if name.starts_with("kworker") || name.ends_with("_wq") || name.starts_with("rcu_") && name.ends_with("gp") {
                "I<".into()
            } else {
                "S".into()
            },
            ..Process::default()
        });
    };
    kernel("init", &mut all, 0);
    for name in [
        "kthreadd",
        "rcu_gp",
        "rcu_par_gp",
        "slub_flushwq",
        "netns",
        "kworker/0:0H-events_highpri",
        "mm_percpu_wq",
        "rcu_tasks_kthread",
        "rcu_tasks_rude_kthread",
        "rcu_tasks_trace_kthread",
        "ksoftirqd/0",
        "rcu_preempt",
        "migration/0",
        "cpuhp/0",
    ] {
        kernel(name, &mut all, 0);
    }
    for core in 1..facts.cores {
        for name in ["cpuhp", "migration", "ksoftirqd"] {
            kernel(&format!("{name}/{core}"), &mut all, 0);
        }
        kernel(&format!("kworker/{core}:0H-events_highpri"), &mut all, 1);
    }
    for name in [
        "kdevtmpfs",
        "inet_frag_wq",
        "kauditd",
        "khungtaskd",
        "oom_reaper",
        "writeback",
        "kcompactd0",
        "ksmd",
        "khugepaged",
        "kintegrityd",
        "kblockd",
        "blkcg_punt_bio",
        "tpm_dev_wq",
        "edac-poller",
        "devfreq_wq",
        "kworker/0:1H-kblockd",
        "kswapd0",
        "kthrotld",
        "acpi_thermal_pm",
        "mld",
        "ipv6_addrconf",
        "kstrp",
        "zswap-shrink",
        "kworker/u9:0",
        "ata_sff",
        "scsi_eh_0",
        "scsi_tmf_0",
        "scsi_eh_1",
        "scsi_tmf_1",
    ] {
        kernel(name, &mut all, u32::from(name == "kthrotld"));
    }
    let skip = rng.range(20, 60) as u32;
    kernel(&format!("jbd2/{}1-8", facts.disk), &mut all, skip);
    kernel("ext4-rsv-conver", &mut all, 0);
    if let Some(init) = all.first_mut() {
        *init = Process {
            pid: 1,
            ppid: 0,
            user: "root".into(),
            tty: "?".into(),
            comm: "systemd".into(),
            args: b"/sbin/init".to_vec(),
            start: boot,
            vsz: 167_400 + rng.range(0, 900),
            rss: 12_060 + rng.range(0, 400),
            state: "Ss".into(),
            cpu: ((now - boot) / 40_000 + 3) as u64,
            exe: b"/usr/lib/systemd/systemd".to_vec(),
            ..Process::default()
        };
    }
    if let Some(second) = all.get_mut(1) {
        second.ppid = 0;
    }
    let mut user_pid = pid + rng.range(25, 50) as u32;
    let mut daemon =
        |all: &mut Vec<Process>, comm: &str, args: &str, user: &str, uid: u32, vsz: u64, rss: u64, state: &str, tty: &str, delay: i64| {
            let wobble = rng.range(0, 60) * 4;
            let comm: String = comm.chars().take(15).collect();
            let exe = args.trim_start_matches('@').split([' ', ':']).next().unwrap_or("");
            let exe = if exe.starts_with('/') {
                exe.replace("/lib/systemd", "/usr/lib/systemd").replace("/usr/usr", "/usr")
            } else {
                format!("/usr/sbin/{exe}")
            };
            all.push(Process {
                pid: user_pid,
                ppid: 1,
                uid,
                user: user.into(),
                tty: tty.into(),
                comm,
                args: args.as_bytes().to_vec(),
                start: boot + delay,
                vsz: vsz + wobble,
                rss: rss + wobble / 2,
                state: state.into(),
                cpu: ((now - boot) as u64 / 400_000) * rng.range(0, 9),
                exe: exe.into_bytes(),
            });
            user_pid += rng.range(1, 5) as u32;
            user_pid - 1
        };
    daemon(&mut all, "systemd-journal", "/lib/systemd/systemd-journald", "root", 0, 49_500, 15_800, "Ss", "?", 2);
    daemon(&mut all, "systemd-udevd", "/lib/systemd/systemd-udevd", "root", 0, 26_600, 6_300, "Ss", "?", 2);
    daemon(&mut all, "systemd-timesyn", "/lib/systemd/systemd-timesyncd", "systemd-timesync", 997, 90_080, 6_700, "Ssl", "?", 3);
    daemon(&mut all, "cron", "/usr/sbin/cron -f", "root", 0, 6_610, 2_690, "Ss", "?", 4);
    daemon(
        &mut all,
        "dbus-daemon",
        "/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only",
        "messagebus",
        100,
        9_120,
        4_700,
        "Ss",
        "?",
        4,
    );
    daemon(&mut all, "systemd-logind", "/lib/systemd/systemd-logind", "root", 0, 17_000, 7_700, "Ss", "?", 4);
    daemon(&mut all, "agetty", "/sbin/agetty -o -p -- \\u --noclear - linux", "root", 0, 5_870, 1_010, "Ss+", "tty1", 5);
    daemon(&mut all, "sshd", "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups", "root", 0, 15_430, 9_300, "Ss", "?", 5);
    let mut seen = vec!["sshd".to_owned()];
    for (_, name) in &spec.services {
        if seen.contains(name) {
            continue;
        }
        seen.push(name.clone());
        let known = DAEMONS.iter().find(|d| d.0 == name);
        let (args, user, vsz, rss) =
            known.map_or_else(|| (format!("/usr/sbin/{name}"), "root", 18_000, 5_200), |d| (d.1.to_owned(), d.2, d.3, d.4));
        let uid = if user == "root" { 0 } else { 105 };
        daemon(&mut all, name, &args, user, uid, vsz, rss, "Ss", "?", 6);
        if name == "nginx" || name == "apache2" {
            for _ in 0..facts.cores.min(4) {
                let args = if name == "nginx" { "nginx: worker process" } else { "/usr/sbin/apache2 -k start" };
                daemon(&mut all, name, args, "www-data", 33, vsz + 900, rss - 1_300, "S", "?", 6);
            }
        }
    }
    // Workers come and go: their numbers move with the hour.
    let hour = now / 3_600;
    for (n, name) in ["kworker/0:1-events", "kworker/u8:2-events_unbound", "kworker/0:2-ata_sff"].iter().enumerate() {
        let started = (hour - n as i64 * 2) * 3_600 + 300;
        all.push(Process {
            pid: facts.pid_at(started.max(boot + 60) * 1_000_000_000),
            ppid: 2,
            user: "root".into(),
            tty: "?".into(),
            comm: (*name).into(),
            args: format!("[{name}]").into_bytes(),
            start: started.max(boot),
            state: "I".into(),
            ..Process::default()
        });
    }
    all.sort_by_key(|p| p.pid);
    all
}
