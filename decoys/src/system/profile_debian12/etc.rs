//! The files below `/etc`, `/var` and the home directories.

use super::{PACKAGES, package_version};
use crate::system::{
    api::{Account, MachineSpec},
    facts::{Facts, Rng},
    fs::{Base, Content, Kind, Node},
    time,
};

/// System accounts: name, uid, gid, gecos, home, shell.
const SYSTEM: [(&str, u32, u32, &str, &str, &str); 23] = [
    ("root", 0, 0, "root", "/root", "/bin/bash"),
    ("daemon", 1, 1, "daemon", "/usr/sbin", "/usr/sbin/nologin"),
    ("bin", 2, 2, "bin", "/bin", "/usr/sbin/nologin"),
    ("sys", 3, 3, "sys", "/dev", "/usr/sbin/nologin"),
    ("sync", 4, 65534, "sync", "/bin", "/bin/sync"),
    ("games", 5, 60, "games", "/usr/games", "/usr/sbin/nologin"),
    ("man", 6, 12, "man", "/var/cache/man", "/usr/sbin/nologin"),
    ("lp", 7, 7, "lp", "/var/spool/lpd", "/usr/sbin/nologin"),
    ("mail", 8, 8, "mail", "/var/mail", "/usr/sbin/nologin"),
    ("news", 9, 9, "news", "/var/spool/news", "/usr/sbin/nologin"),
    ("uucp", 10, 10, "uucp", "/var/spool/uucp", "/usr/sbin/nologin"),
    ("proxy", 13, 13, "proxy", "/bin", "/usr/sbin/nologin"),
    ("www-data", 33, 33, "www-data", "/var/www", "/usr/sbin/nologin"),
    ("backup", 34, 34, "backup", "/var/backups", "/usr/sbin/nologin"),
    ("list", 38, 38, "Mailing List Manager", "/var/list", "/usr/sbin/nologin"),
    ("irc", 39, 39, "ircd", "/run/ircd", "/usr/sbin/nologin"),
    ("_apt", 42, 65534, "", "/nonexistent", "/usr/sbin/nologin"),
    ("nobody", 65534, 65534, "nobody", "/nonexistent", "/usr/sbin/nologin"),
    ("systemd-network", 998, 998, "systemd Network Management", "/", "/usr/sbin/nologin"),
    ("systemd-timesync", 997, 997, "systemd Time Synchronization", "/", "/usr/sbin/nologin"),
    ("messagebus", 100, 107, "", "/nonexistent", "/usr/sbin/nologin"),
    ("avahi-autoipd", 101, 109, "Avahi autoip daemon,,,", "/var/lib/avahi-autoipd", "/usr/sbin/nologin"),
    ("sshd", 102, 65534, "", "/run/sshd", "/usr/sbin/nologin"),
];

const GROUPS: [(&str, u32); 50] = [
    ("root", 0),
    ("daemon", 1),
    ("bin", 2),
    ("sys", 3),
    ("adm", 4),
    ("tty", 5),
    ("disk", 6),
    ("lp", 7),
    ("mail", 8),
    ("news", 9),
    ("uucp", 10),
    ("man", 12),
    ("proxy", 13),
    ("kmem", 15),
    ("dialout", 20),
    ("fax", 21),
    ("voice", 22),
    ("cdrom", 24),
    ("floppy", 25),
    ("tape", 26),
    ("sudo", 27),
    ("audio", 29),
    ("dip", 30),
    ("www-data", 33),
    ("backup", 34),
    ("operator", 37),
    ("list", 38),
    ("irc", 39),
    ("src", 40),
    ("shadow", 42),
    ("utmp", 43),
    ("video", 44),
    ("sasl", 45),
    ("plugdev", 46),
    ("staff", 50),
    ("games", 60),
    ("users", 100),
    ("nogroup", 65534),
    ("systemd-journal", 999),
    ("systemd-network", 998),
    ("crontab", 101),
    ("systemd-timesync", 997),
    ("input", 104),
    ("sgx", 105),
    ("kvm", 106),
    ("render", 103),
    ("messagebus", 107),
    ("netdev", 108),
    ("avahi-autoipd", 109),
    ("_ssh", 110),
];

fn crypt_text(rng: &mut Rng, length: usize) -> String {
    const ALPHABET: &[u8] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    (0..length).filter_map(|_| rng.pick(ALPHABET).map(|b| char::from(*b))).collect()
}

/// The accounts beside the system's, with `root` first in `/etc/passwd`.
pub(super) fn files(base: &mut Base, spec: &MachineSpec, facts: &Facts, accounts: &[Account]) {
    let at = facts.installed;
    let mut rng = Rng::new(&facts.seed, b"etc");
    let root = accounts.iter().find(|a| a.name == "root");
    let mut passwd = String::new();
    let mut shadow = String::new();
    let day = at / 86_400;
    let secret = |rng: &mut Rng| format!("$y$j9T${}${}", crypt_text(rng, 22), crypt_text(rng, 43));
    for (name, uid, gid, gecos, home, shell) in SYSTEM {
        let (home, shell) = if let (0, Some(r)) = (uid, root) { (r.home.as_str(), r.shell.as_str()) } else { (home, shell) };
        passwd.push_str(&format!("{name}:x:{uid}:{gid}:{gecos}:{home}:{shell}\n"));
        let mark = if uid == 0 {
            secret(&mut rng)
        } else if (100..1000).contains(&uid) {
            "!".to_owned()
        } else {
            "*".to_owned()
        };
        let ages = if mark == "!" { ":::::" } else { "0:99999:7:::" };
        shadow.push_str(&format!("{name}:{mark}:{day}:{ages}\n"));
    }
    let mut groups: Vec<(String, u32, Vec<String>)> = GROUPS.iter().map(|(n, g)| ((*n).to_owned(), *g, Vec::new())).collect();
    for (n, account) in accounts.iter().filter(|a| a.uid != 0).enumerate() {
        passwd.push_str(&format!(
            "{}:x:{}:{}:{}:{}:{}\n",
            account.name, account.uid, account.gid, account.gecos, account.home, account.shell
        ));
        shadow.push_str(&format!("{}:{}:{day}:0:99999:7:::\n", account.name, secret(&mut rng)));
        if !groups.iter().any(|g| g.1 == account.gid) {
            groups.push((account.name.clone(), account.gid, Vec::new()));
        }
        if n == 0 && account.uid >= 1000 {
            // What the installer gives to the first user.
            for group in groups
                .iter_mut()
                .filter(|g| matches!(g.0.as_str(), "cdrom" | "floppy" | "audio" | "dip" | "video" | "plugdev" | "users" | "netdev"))
            {
                group.2.push(account.name.clone());
            }
        }
    }
    let group: String = groups.iter().map(|(n, g, m)| format!("{n}:x:{g}:{}\n", m.join(","))).collect();
    let gshadow: String =
        groups.iter().map(|(n, _, m)| format!("{n}:{}::{}\n", if groups.is_empty() { "!" } else { "*" }, m.join(","))).collect();
    let host = &spec.hostname;
    let full = if spec.domain.is_empty() { host.clone() } else { format!("{host}.{}\t{host}", spec.domain) };
    let release = &facts.release;
    let iface = facts.iface;
    let major = release.version;
    let texts: Vec<(&str, String)> = vec![
        ("passwd", passwd.clone()),
        ("group", group.clone()),
        ("hostname", format!("{host}\n")),
        ("hosts", format!("127.0.0.1\tlocalhost\n127.0.1.1\t{full}\n\n# The following lines are desirable for IPv6 capable hosts\n::1     localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n")),
        ("debian_version", format!("{major}\n")),
        ("issue", "Debian GNU/Linux 12 \\n \\l\n\n".to_owned()),
        ("issue.net", "Debian GNU/Linux 12\n".to_owned()),
        ("motd", "\nThe programs included with the Debian GNU/Linux system are free software;\nthe exact distribution terms for each program are described in the\nindividual files in /usr/share/doc/*/copyright.\n\nDebian GNU/Linux comes with ABSOLUTELY NO WARRANTY, to the extent\npermitted by applicable law.\n".to_owned()),
        ("fstab", format!("# /etc/fstab: static file system information.\n#\n# <file system> <mount point>   <type>  <options>       <dump>  <pass>\nUUID={} /               ext4    errors=remount-ro 0       1\n{}", facts.root_uuid, if facts.swap_kb > 0 { format!("UUID={} none            swap    sw              0       0\n", rng.uuid()) } else { String::new() })),
        ("resolv.conf", format!("{}nameserver {}\n", if spec.domain.is_empty() { String::new() } else { format!("domain {d}\nsearch {d}\n", d = spec.domain) }, facts.gateway)),
        ("nsswitch.conf", "passwd:         files systemd\ngroup:          files systemd\nshadow:         files systemd\ngshadow:        files systemd\n\nhosts:          files dns\nnetworks:       files\n\nprotocols:      db files\nservices:       db files\nethers:         db files\nrpc:            db files\n\nnetgroup:       nis\n".to_owned()),
        ("network/interfaces", format!("# This file describes the network interfaces available on your system\n# and how to activate them. For more information, see interfaces(5).\n\nsource /etc/network/interfaces.d/*\n\n# The loopback network interface\nauto lo\niface lo inet loopback\n\n# The primary network interface\nallow-hotplug {iface}\niface {iface} inet static\n\taddress {}/24\n\tgateway {}\n", facts.v4, facts.gateway)),
        ("apt/sources.list", "deb http://deb.debian.org/debian/ bookworm main non-free-firmware\ndeb-src http://deb.debian.org/debian/ bookworm main non-free-firmware\n\ndeb http://security.debian.org/debian-security bookworm-security main non-free-firmware\ndeb-src http://security.debian.org/debian-security bookworm-security main non-free-firmware\n\ndeb http://deb.debian.org/debian/ bookworm-updates main non-free-firmware\ndeb-src http://deb.debian.org/debian/ bookworm-updates main non-free-firmware\n".to_owned()),
        ("crontab", "# /etc/crontab: system-wide crontab\n\nSHELL=/bin/sh\nPATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin\n\n# m h dom mon dow user\tcommand\n17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly\n25 6\t* * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }\n47 6\t* * 7\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.weekly; }\n52 6\t1 * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.monthly; }\n#\n".to_owned()),
        ("ssh/sshd_config", "# This is the sshd server system-wide configuration file.\n\nInclude /etc/ssh/sshd_config.d/*.conf\n\n#Port 22\n#ListenAddress 0.0.0.0\n\n#LoginGraceTime 2m\nPermitRootLogin yes\n#MaxAuthTries 6\n\n#PubkeyAuthentication yes\n#PasswordAuthentication yes\nKbdInteractiveAuthentication no\n\nUsePAM yes\nX11Forwarding yes\nPrintMotd no\n\nAcceptEnv LANG LC_*\n\nSubsystem\tsftp\t/usr/lib/openssh/sftp-server\n".to_owned()),
        ("ssh/ssh_config", "# This is the ssh client system-wide configuration file.\n\nInclude /etc/ssh/ssh_config.d/*.conf\n\nHost *\n    SendEnv LANG LC_*\n    HashKnownHosts yes\n    GSSAPIAuthentication yes\n".to_owned()),
        ("profile", "# /etc/profile: system-wide .profile file for the Bourne shell (sh(1))\n\nif [ \"$(id -u)\" -eq 0 ]; then\n  PATH=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\nelse\n  PATH=\"/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games\"\nfi\nexport PATH\n".to_owned()),
        ("bash.bashrc", "# System-wide .bashrc file for interactive bash(1) shells.\n\n[ -z \"$PS1\" ] && return\n\nshopt -s checkwinsize\n\nPS1='${debian_chroot:+($debian_chroot)}\\u@\\h:\\w\\$ '\n".to_owned()),
        ("environment", String::new()),
        ("host.conf", "multi on\n".to_owned()),
        ("networks", "default\t\t0.0.0.0\nloopback\t127.0.0.0\nlink-local\t169.254.0.0\n\n".to_owned()),
        ("timezone", "Etc/UTC\n".to_owned()),
        ("adjtime", "0.0 0 0.0\n0\nUTC\n".to_owned()),
        ("shells", "# /etc/shells: valid login shells\n/bin/sh\n/bin/bash\n/usr/bin/bash\n/bin/rbash\n/usr/bin/rbash\n/usr/bin/sh\n/bin/dash\n/usr/bin/dash\n".to_owned()),
        ("ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n\n".to_owned()),
        ("services", "ftp\t\t21/tcp\nssh\t\t22/tcp\t\t\t\t# SSH Remote Login Protocol\ntelnet\t\t23/tcp\nsmtp\t\t25/tcp\t\tmail\ndomain\t\t53/tcp\t\t\t\t# Domain Name Server\ndomain\t\t53/udp\nhttp\t\t80/tcp\t\twww\t\t# WorldWideWeb HTTP\nhttps\t\t443/tcp\t\t\t\t# http protocol over TLS/SSL\n".to_owned()),
        ("protocols", "ip\t0\tIP\t\t# internet protocol, pseudo protocol number\nicmp\t1\tICMP\t\t# internet control message protocol\ntcp\t6\tTCP\t\t# transmission control protocol\nudp\t17\tUDP\t\t# user datagram protocol\n".to_owned()),
        ("login.defs", "MAIL_DIR        /var/mail\nFAILLOG_ENAB\t\tyes\nLOG_UNKFAIL_ENAB\tno\nUMASK\t\t022\nPASS_MAX_DAYS\t99999\nPASS_MIN_DAYS\t0\nPASS_WARN_AGE\t7\nUID_MIN\t\t\t 1000\nUID_MAX\t\t\t60000\nENCRYPT_METHOD YESCRYPT\n".to_owned()),
        ("sysctl.conf", "#\n# /etc/sysctl.conf - Configuration file for setting system variables\n#\n".to_owned()),
        ("rc.local", String::new()),
    ];
    for (name, text) in texts {
        if name != "rc.local" {
            base.file(&format!("/etc/{name}"), text, 0o644, at);
        }
    }
    base.file("/etc/machine-id", format!("{}\n", facts.machine_id), 0o444, at);
    base.file("/usr/lib/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION=\"12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\nHOME_URL=\"https://www.debian.org/\"\nSUPPORT_URL=\"https://www.debian.org/support\"\nBUG_REPORT_URL=\"https://bugs.debian.org/\"\n", 0o644, release.from_day * 86_400 - 500_000);
    for (name, text) in [("passwd-", &passwd), ("group-", &group)] {
        base.file(&format!("/etc/{name}"), text.clone(), 0o644, at);
    }
    for (name, text) in [("shadow", &shadow), ("shadow-", &shadow), ("gshadow", &gshadow), ("gshadow-", &gshadow)] {
        base.put(&format!("/etc/{name}"), Node::new(Kind::File(Content::new(text.clone())), 0o640, 0, 42, at));
    }
    for kind in ["rsa", "ecdsa", "ed25519"] {
        let size = match kind {
            "rsa" => 36,
            "ecdsa" => 7,
            _ => 5,
        };
        let body: String = (0..size).map(|_| crypt_text(&mut rng, 70).replace('.', "+") + "\n").collect();
        base.file(
            &format!("/etc/ssh/ssh_host_{kind}_key"),
            format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}-----END OPENSSH PRIVATE KEY-----\n"),
            0o600,
            at,
        );
    }
    for dir in [
        "/etc/ssh/sshd_config.d",
        "/etc/ssh/ssh_config.d",
        "/etc/apt/sources.list.d",
        "/etc/apt/apt.conf.d",
        "/etc/network/interfaces.d",
        "/etc/profile.d",
        "/etc/skel",
        "/etc/default",
        "/etc/pam.d",
        "/etc/security",
        "/etc/ld.so.conf.d",
        "/etc/alternatives",
        "/etc/rc0.d",
        "/etc/rc1.d",
        "/etc/rc2.d",
        "/etc/rc3.d",
        "/etc/rc4.d",
        "/etc/rc5.d",
        "/etc/rc6.d",
        "/etc/rcS.d",
        "/etc/sysctl.d",
        "/etc/udev",
        "/etc/kernel",
        "/etc/logrotate.d",
        "/etc/opt",
    ] {
        base.dir(dir, 0o755, at);
    }
    for name in ["cron", "networking", "ssh", "dbus", "udev", "procps", "kmod", "hwclock.sh"] {
        base.file(&format!("/etc/init.d/{name}"), "#!/bin/sh\n### BEGIN INIT INFO\n### END INIT INFO\nexit 0\n", 0o755, at);
    }
    base.file("/etc/default/locale", "LANG=C.UTF-8\n", 0o644, at);
    base.file("/var/lib/dpkg/status", status(facts, &spec.ssh_version), 0o644, at);
    homes(base, facts, accounts, root.map_or("/root", |r| r.home.as_str()));
    logs(base, facts, host);
    for extra in &spec.files {
        let uid = accounts.iter().find(|a| a.name == extra.owner).map_or(0, |a| a.uid);
        let gid = accounts.iter().find(|a| a.name == extra.owner).map_or(0, |a| a.gid);
        base.put(&extra.path, Node::new(Kind::File(Content::new(extra.content.clone())), extra.mode & 0o7777, uid, gid, at + 86_400));
    }
}

fn status(facts: &Facts, ssh: &str) -> String {
    PACKAGES
        .iter()
        .map(|(name, version, arch, text)| {
            format!(
                "Package: {name}\nStatus: install ok installed\nArchitecture: {arch}\nVersion: {}\nDescription: {text}\n\n",
                package_version(version, facts, ssh)
            )
        })
        .collect()
}

fn homes(base: &mut Base, facts: &Facts, accounts: &[Account], root_home: &str) {
    let at = facts.installed;
    base.file(&format!("{root_home}/.bashrc"), "# ~/.bashrc: executed by bash(1) for non-login shells.\n\n# Note: PS1 and umask are already set in /etc/profile. You should not\n# need this unless you want different defaults for root.\n# umask 022\n\n# export LS_OPTIONS='--color=auto'\n# alias ls='ls $LS_OPTIONS'\n", 0o644, 1_617_973_000);
    base.file(&format!("{root_home}/.profile"), "# ~/.profile: executed by Bourne-compatible login shells.\n\nif [ \"$BASH\" ]; then\n  if [ -f ~/.bashrc ]; then\n    . ~/.bashrc\n  fi\nfi\n\nmesg n 2> /dev/null || true\n", 0o644, 1_562_300_000);
    base.dir(&format!("{root_home}/.ssh"), 0o700, at);
    base.file("/etc/skel/.bashrc", "# ~/.bashrc: executed by bash(1) for non-login shells.\n\ncase $- in\n    *i*) ;;\n      *) return;;\nesac\n\nHISTCONTROL=ignoreboth\nshopt -s histappend\nHISTSIZE=1000\nHISTFILESIZE=2000\n\nalias ls='ls --color=auto'\nalias grep='grep --color=auto'\n", 0o644, 1_682_200_000);
    base.file("/etc/skel/.profile", "# ~/.profile: executed by the command interpreter for login shells.\n\nif [ -n \"$BASH_VERSION\" ]; then\n    if [ -f \"$HOME/.bashrc\" ]; then\n\t. \"$HOME/.bashrc\"\n    fi\nfi\n", 0o644, 1_682_200_000);
    base.file("/etc/skel/.bash_logout", "# ~/.bash_logout: executed by bash(1) when login shell exits.\n\nif [ \"$SHLVL\" = 1 ]; then\n    [ -x /usr/bin/clear_console ] && /usr/bin/clear_console -q\nfi\n", 0o644, 1_682_200_000);
    for account in accounts.iter().filter(|a| a.uid >= 1000 && a.uid < 60_000) {
        base.put(&account.home, Node::new(Kind::Dir, 0o700, account.uid, account.gid, at + 90));
        for name in [".bashrc", ".profile", ".bash_logout"] {
            if let Some(node) = base.get(format!("/etc/skel/{name}").as_bytes()).cloned() {
                let path = format!("{}/{name}", account.home);
                base.put(&path, Node { uid: account.uid, gid: account.gid, mtime: at + 90, ..node });
                base.own(&path, account.uid, account.gid);
            }
        }
    }
}

fn logs(base: &mut Base, facts: &Facts, host: &str) {
    let at = facts.installed;
    let mut rng = Rng::new(&facts.seed, b"logs");
    let mut dpkg = String::new();
    for (name, version, arch, _) in PACKAGES.iter().take(40) {
        let when = at + rng.range(0, 900) as i64;
        dpkg.push_str(&format!(
            "{} status installed {name}:{arch} {}\n",
            String::from_utf8_lossy(&time::format(b"%F %T", when, 0)),
            version.trim_start_matches('@')
        ));
    }
    base.file("/var/log/dpkg.log", dpkg, 0o644, at + 900);
    base.file(
        "/var/log/apt/history.log",
        format!(
            "\nStart-Date: {}\nCommandline: apt-get install -y openssh-server\n",
            String::from_utf8_lossy(&time::format(b"%F  %T", at + 700, 0))
        ),
        0o644,
        at + 900,
    );
    base.file(
        "/var/log/alternatives.log",
        format!(
            "update-alternatives {}: run with --install /usr/bin/awk awk /usr/bin/mawk 5\n",
            String::from_utf8_lossy(&time::format(b"%F %T", at, 0))
        ),
        0o644,
        at,
    );
    base.file("/var/log/faillog", Vec::new(), 0o644, at);
    base.put(
        "/var/log/btmp",
        Node::new(Kind::File(Content::new(vec![0u8; 384 * rng.range(3, 40) as usize])), 0o660, 0, 43, at + 4_000_000),
    );
    base.put("/var/log/wtmp", Node::new(Kind::File(Content::new(rng.bytes(384 * 30))), 0o664, 0, 43, at + 4_000_000));
    base.put("/var/log/lastlog", Node::new(Kind::File(Content::new(vec![0u8; 292_292])), 0o664, 0, 43, at + 4_000_000));
    base.dir(&format!("/var/log/journal/{}", facts.machine_id), 0o755, at);
    base.file("/var/log/installer/lsb-release", format!("DISTRIB_ID=Debian\nDISTRIB_DESCRIPTION=\"Debian GNU/Linux installer\"\nDISTRIB_RELEASE=\"12 (bookworm) - installer build\"\nX_INSTALLATION_MEDIUM={host}\n").replace(host, "netboot"), 0o644, at);
}
