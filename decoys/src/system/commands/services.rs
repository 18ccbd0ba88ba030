//! `systemctl`, `service`, `journalctl`, `crontab`, `init` and its kin.

use super::{Cx, show};
use crate::system::{
    fs::{Content, Kind},
    time,
};

/// Units that run: name, description, daemon.
const UNITS: [(&str, &str, &str); 9] = [
    ("cron", "Regular background program processing daemon", "cron"),
    ("dbus", "D-Bus System Message Bus", "dbus-daemon"),
    ("getty@tty1", "Getty on tty1", "agetty"),
    ("networking", "Raise network interfaces", ""),
    ("ssh", "OpenBSD Secure Shell server", "sshd"),
    ("systemd-journald", "Journal Service", "systemd-journal"),
    ("systemd-logind", "User Login Management", "systemd-logind"),
    ("systemd-timesyncd", "Network Time Synchronization", "systemd-timesyn"),
    ("systemd-udevd", "Rule-based Manager for Device Events and Files", "systemd-udevd"),
];

fn text(format: &str, at: i64) -> String {
    String::from_utf8_lossy(&time::format(format.as_bytes(), at, 0)).into_owned()
}

fn units(cx: &Cx<'_, '_>) -> Vec<(String, String, String)> {
    let mut all: Vec<(String, String, String)> =
        UNITS.iter().map(|(n, d, p)| ((*n).to_owned(), (*d).to_owned(), (*p).to_owned())).collect();
    for (_, name) in &cx.x.machine.spec.services {
        let unit = match name.as_str() {
            "sshd" => continue,
            "mysqld" => "mysql",
            "mariadbd" => "mariadb",
            "master" => "postfix",
            "inetutils-inetd" => "inetutils-inetd",
            other => other,
        };
        if !all.iter().any(|u| u.0 == unit) {
            all.push((unit.to_owned(), format!("{unit} service"), name.clone()));
        }
    }
    all.sort();
    all
}

pub(super) fn systemctl(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let words: Vec<String> = args.iter().skip(1).map(|a| show(a)).filter(|a| !a.starts_with('-')).collect();
    let all = units(cx);
    let verb = words.first().map_or("list-units", String::as_str);
    let name_of = |w: &String| w.trim_end_matches(".service").to_owned();
    let alias = |n: String| match n.as_str() {
        "sshd" => "ssh".to_owned(),
        "crond" => "cron".to_owned(),
        _ => n,
    };
    if args.iter().any(|a| a == b"--version") {
        cx.say("systemd 252 (252.38-1~deb12u1)\n+PAM +AUDIT +SELINUX +APPARMOR +IMA +SMACK +SECCOMP +GCRYPT -GNUTLS +OPENSSL +ACL +BLKID +CURL +ELFUTILS +FIDO2 +IDN2 -IDN +IPTC +KMOD +LIBCRYPTSETUP +LIBFDISK +PCRE2 -PWQUALITY +P11KIT +QRENCODE +TPM2 +BZIP2 +LZ4 +XZ +ZLIB +ZSTD -BPF_FRAMEWORK -XKBCOMMON +UTMP +SYSVINIT default-hierarchy=unified\n");
        return 0;
    }
    match verb {
        "list-units" | "list-unit-files" => {
            let files = verb == "list-unit-files";
            let mut out = if files {
                "UNIT FILE                                  STATE           PRESET\n".to_owned()
            } else {
                "  UNIT                           LOAD   ACTIVE SUB     DESCRIPTION\n".to_owned()
            };
            for (name, description, daemon) in &all {
                let unit = format!("{name}.service");
                out.push_str(&if files {
                    format!("{unit:<42} enabled         enabled\n")
                } else {
                    format!("  {unit:<30} loaded active {:<7} {description}\n", if daemon.is_empty() { "exited" } else { "running" })
                });
            }
            out.push_str(&if files { format!("\n{} unit files listed.\n", all.len()) } else { format!("\nLOAD   = Reflects whether the unit definition was properly loaded.\nACTIVE = The high-level unit activation state, i.e. generalization of SUB.\nSUB    = The low-level unit activation state, values depend on unit type.\n{} loaded units listed. Pass --all to see loaded but inactive units, too.\nTo show all installed unit files use 'systemctl list-unit-files'.\n", all.len()) });
            cx.say(&out);
            0
        }
        "status" => {
            if words.len() < 2 {
                let s = cx.x.session;
                let host = cx.x.machine.spec.hostname.clone();
                cx.say(&format!("● {host}\n    State: running\n    Units: 238 loaded (incl. loaded aliases)\n     Jobs: 0 queued\n   Failed: 0 units\n    Since: {}; {} ago\n  systemd: 252.38-1~deb12u1\n   CGroup: /\n", text("%a %F %T UTC", s.boot), age(cx.now() - s.boot)));
                return 0;
            }
            let mut status = 0;
            for word in words.iter().skip(1) {
                let name = alias(name_of(word));
                match all.iter().find(|u| u.0 == name) {
                    Some((name, description, daemon)) => {
                        let pid = cx.x.fs.procs.list.iter().find(|p| p.comm == *daemon).map_or(0, |p| p.pid);
                        let boot = cx.x.session.boot;
                        let since = text("%a %F %T UTC", boot + 5);
                        let state = if daemon.is_empty() { "exited" } else { "running" };
                        let mut out = format!(
                            "● {name}.service - {description}\n     Loaded: loaded (/lib/systemd/system/{name}.service; enabled; preset: enabled)\n     Active: active ({state}) since {since}; {} ago\n",
                            age(cx.now() - boot - 5)
                        );
                        if pid > 0 {
                            out.push_str(&format!("   Main PID: {pid} ({daemon})\n      Tasks: 1 (limit: {})\n     Memory: {}.{}M\n        CPU: {}.{:03}s\n     CGroup: /system.slice/{name}.service\n             └─{pid} {daemon}\n", cx.x.machine.facts.mem_kb / 870, 2 + pid % 7, pid % 10, 1 + pid % 90, pid % 1_000));
                        }
                        cx.say(&out);
                    }
                    None => {
                        cx.err(&format!("Unit {name}.service could not be found.\n"));
                        status = 4;
                    }
                }
            }
            status
        }
        "is-active" | "is-enabled" => {
            let mut status = 0;
            for word in words.iter().skip(1) {
                let name = alias(name_of(word));
                if all.iter().any(|u| u.0 == name) {
                    cx.say(if verb == "is-active" { "active\n" } else { "enabled\n" });
                } else if verb == "is-active" {
                    cx.say("inactive\n");
                    status = 3;
                } else {
                    cx.err(&format!("Failed to get unit file state for {name}.service: No such file or directory\n"));
                    status = 1;
                }
            }
            status
        }
        "is-system-running" => {
            cx.say("running\n");
            0
        }
        "get-default" => {
            cx.say("multi-user.target\n");
            0
        }
        "daemon-reload" | "daemon-reexec" | "reset-failed" => 0,
        "start" | "stop" | "restart" | "reload" | "enable" | "disable" | "mask" | "unmask" | "try-restart" | "kill" => {
            if words.len() < 2 {
                cx.err("Too few arguments.\n");
                return 1;
            }
            let mut status = 0;
            for word in words.iter().skip(1) {
                let name = alias(name_of(word));
                let own = format!("/etc/systemd/system/{name}.service");
                let exists = all.iter().any(|u| u.0 == name) || cx.stat(own.as_bytes(), true).is_ok();
                if cx.st.who.uid != 0 {
                    cx.err(&format!("Failed to {verb} {name}.service: Access denied\n"));
                    status = 4;
                } else if exists {
                    if verb == "enable" && cx.stat(own.as_bytes(), true).is_ok() {
                        let who = cx.st.who.clone();
                        let link = format!("/etc/systemd/system/multi-user.target.wants/{name}.service");
                        let _ = cx.x.fs.create(&who, b"/etc/systemd/system/multi-user.target.wants", Kind::Dir, 0o755);
                        if cx.x.fs.create(&who, link.as_bytes(), Kind::Link(own.clone().into_bytes()), 0o777).is_ok() {
                            cx.err(&format!("Created symlink {link} → {own}.\n"));
                        }
                    }
                } else if matches!(verb, "enable" | "disable" | "mask" | "unmask") {
                    cx.err(&format!("Failed to {verb} unit: Unit file {name}.service does not exist.\n"));
                    status = 1;
                } else {
                    cx.err(&format!("Failed to {verb} {name}.service: Unit {name}.service not found.\n"));
                    status = 5;
                }
            }
            status
        }
        "cat" | "show" => {
            for word in words.iter().skip(1) {
                let name = alias(name_of(word));
                if all.iter().any(|u| u.0 == name) {
                    cx.say(&format!("# /lib/systemd/system/{name}.service\n[Unit]\nDescription={name}\n\n[Service]\nExecStart=/usr/sbin/{name}\n\n[Install]\nWantedBy=multi-user.target\n"));
                } else {
                    cx.err(&format!("No files found for {name}.service.\n"));
                    return 1;
                }
            }
            0
        }
        "reboot" | "poweroff" | "halt" => init(cx, args),
        other => {
            cx.err(&format!("Unknown command verb {other}.\n"));
            1
        }
    }
}

fn age(seconds: i64) -> String {
    let (w, d, h, m) = (seconds / 604_800, seconds / 86_400 % 7, seconds / 3_600 % 24, seconds / 60 % 60);
    if w > 0 {
        format!("{w} week{} {d} day{}", if w == 1 { "" } else { "s" }, if d == 1 { "" } else { "s" })
    } else if d > 0 {
        format!("{d} day{}", if d == 1 { "" } else { "s" })
    } else if h > 0 {
        format!("{h}h {m}min")
    } else {
        format!("{m}min {}s", seconds % 60)
    }
}

pub(super) fn service(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    match (args.get(1), args.get(2)) {
        (Some(flag), None) if flag == b"--status-all" => {
            for (name, _, daemon) in units(cx) {
                if !name.contains('@') && !name.starts_with("systemd") {
                    cx.say(&format!(" [ {} ]  {name}\n", if daemon.is_empty() { '-' } else { '+' }));
                }
            }
            0
        }
        (Some(name), Some(verb)) => {
            let name = show(name);
            let known = units(cx).iter().any(|u| u.0 == name) || name == "sshd";
            if !known {
                cx.err(&format!("{name}: unrecognized service\n"));
                return 1;
            }
            let words = vec![b"systemctl".to_vec(), verb.clone(), name.into_bytes()];
            systemctl(cx, &words)
        }
        _ => {
            cx.err("Usage: service < option > | --status-all | [ service_name [ command | --full-restart ] ]\n");
            1
        }
    }
}

pub(super) fn journalctl(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if args.iter().any(|a| a.starts_with(b"--vacuum")) {
        cx.say("Vacuuming done, freed 0B of archived journals from /var/log/journal.\n");
        return 0;
    }
    if cx.st.who.uid != 0 {
        cx.err("Hint: You are currently not seeing messages from other users and the system.\n      Users in groups 'adm', 'systemd-journal' can see all messages.\n      Pass -q to turn off this notice.\nNo journal files were opened due to insufficient permissions.\n");
        return 1;
    }
    let s = cx.x.session.clone();
    let host = cx.x.machine.spec.hostname.clone();
    let sshd = s.pid.saturating_sub(7);
    let at = text("%b %d %H:%M:%S", s.started);
    let mut out = String::new();
    for hour in (1..4).rev() {
        let when = s.started - s.started.rem_euclid(3_600) - hour * 3_600 + 1_020;
        out.push_str(&format!(
            "{} {host} CRON[{}]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)\n",
            text("%b %d %H:%M:%S", when),
            cx.x.machine.facts.pid_at(when * 1_000_000_000)
        ));
    }
    if s.via == crate::system::api::Via::Ssh {
        out.push_str(&format!("{at} {host} sshd[{sshd}]: Accepted password for {} from {} port {} ssh2\n{at} {host} sshd[{sshd}]: pam_unix(sshd:session): session opened for user {}(uid={}) by (uid=0)\n", s.user, s.client.peer.ip(), s.client.peer.port(), s.user, s.who.uid));
    }
    cx.say(&out);
    0
}

pub(super) fn init(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    if cx.st.who.uid != 0 {
        cx.err(&format!(
            "Failed to set wall message, ignoring: Access denied\nCall to {} failed: Access denied\n",
            if cx.name == "reboot" { "Reboot" } else { "PowerOff" }
        ));
        return 1;
    }
    // The connection goes with the machine.
    cx.st.last = 0;
    cx.x.flow = crate::system::shell::exec::Flow::Exit;
    0
}

pub(super) fn crontab(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut user = show(&cx.st.user);
    let mut action = None;
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        match arg.as_slice() {
            b"-u" => user = rest.next().map(|a| show(a)).unwrap_or_default(),
            b"-l" | b"-r" | b"-e" => action = Some(arg.clone()),
            b"-i" => {}
            other if other.len() > 1 && other.first() == Some(&b'-') => {
                cx.err(&format!("crontab: invalid option -- '{}'\ncrontab: usage error: unrecognized option\nusage:\tcrontab [-u user] file\n\tcrontab [ -u user ] [ -i ] {{ -e | -l | -r }}\n\t\t(default operation is replace, per 1003.2)\n\t-e\t(edit user's crontab)\n\t-l\t(list user's crontab)\n\t-r\t(delete user's crontab)\n\t-i\t(prompt before deleting user's crontab)\n", show(other.get(1..).unwrap_or_default())));
                return 1;
            }
            _ => action = Some(arg.clone()),
        }
    }
    if user.is_empty() || user.contains('/') || cx.x.account(user.as_bytes()).is_none() {
        cx.err(&format!("crontab:  user `{user}' unknown\n"));
        return 1;
    }
    let path = format!("/var/spool/cron/crontabs/{user}").into_bytes();
    let root = crate::system::fs::Who { uid: 0, gid: 0, groups: Vec::new() };
    match action.as_deref() {
        Some(b"-l") => match cx.x.read_path(&path) {
            Ok(data) => {
                // The three lines crontab itself put first are not listed.
                let data = data.as_ref().clone();
                cx.out(&data);
                0
            }
            Err(_) => {
                cx.err(&format!("no crontab for {user}\n"));
                1
            }
        },
        Some(b"-r") => {
            cx.x.note_removed(&path);
            match cx.x.fs.remove(&root, &path) {
                Ok(()) => 0,
                Err(_) => {
                    cx.err(&format!("no crontab for {user}\n"));
                    1
                }
            }
        }
        Some(b"-e") => {
            cx.err(&format!("no crontab for {user} - using an empty one\n/usr/bin/sensible-editor: 20: editor: not found\n/usr/bin/sensible-editor: 31: nano: not found\n/usr/bin/sensible-editor: 20: vi: not found\nCouldn't find an editor!\nSet the $EDITOR environment variable to your desired editor.\ncrontab: \"/usr/bin/sensible-editor\" exited with status 1\n"));
            1
        }
        file => {
            let file = file.unwrap_or(b"-").to_vec();
            let data = match cx.read(&file) {
                Ok(d) => d.as_ref().clone(),
                Err(e) => {
                    cx.err(&format!("{}: {}\n", show(&file), e.text()));
                    return 1;
                }
            };
            if cx.x.waiting.is_some() {
                return 0;
            }
            for (n, line) in super::lines(&data).enumerate() {
                let line = line.trim_ascii();
                if line.is_empty() || line.first() == Some(&b'#') || line.first() == Some(&b'@') {
                    continue;
                }
                let name = line.split(|b| *b == b'=').next().unwrap_or_default();
                if line.contains(&b'=') && crate::system::shell::lexer::valid_name(name.trim_ascii()) {
                    continue;
                }
                if !line.first().is_some_and(|b| b.is_ascii_digit() || *b == b'*')
                    || line.split(|b| b.is_ascii_whitespace()).filter(|w| !w.is_empty()).count() < 6
                {
                    cx.err(&format!("\"{}\":{}: bad minute\nerrors in crontab file, can't install.\n", show(&file), n + 1));
                    return 1;
                }
            }
            let gid = 101;
            match cx.x.fs.write(&root, &path, Content::new(data), 0o600) {
                Ok(()) => {
                    let uid = cx.st.who.uid;
                    let _ = cx.x.fs.change(&path, |n| (n.uid, n.gid) = (uid, gid));
                    cx.x.note(&path, crate::system::api::How::Command("crontab"));
                    0
                }
                Err(e) => {
                    cx.err(&format!("{}: {}\n", show(&path), e.text()));
                    1
                }
            }
        }
    }
}
