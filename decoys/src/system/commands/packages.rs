//! `apt`, `apt-get`, `dpkg`, `dpkg-query`.

use super::{Cx, show};
use crate::system::{
    profile_debian12::{PACKAGES, package_version},
    shell::pattern,
};

fn installed(cx: &Cx<'_, '_>) -> Vec<(String, String, String, String)> {
    let f = &cx.x.machine.facts;
    let ssh = &cx.x.machine.spec.ssh_version;
    let mut all: Vec<(String, String, String, String)> =
        PACKAGES.iter().map(|(n, v, a, d)| ((*n).to_owned(), package_version(v, f, ssh), (*a).to_owned(), (*d).to_owned())).collect();
    all.push((
        format!("linux-image-{}", f.release.abi),
        f.release.kernel.to_owned(),
        "amd64".to_owned(),
        "Linux 6.1 for 64-bit PCs (signed)".to_owned(),
    ));
    all.sort();
    all
}

pub(super) fn dpkg(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let words: Vec<String> = args.iter().skip(1).map(|a| show(a)).collect();
    let first = words.first().map_or("", String::as_str);
    let names: Vec<&String> = words.iter().skip(1).filter(|w| !w.starts_with('-')).collect();
    let all = installed(cx);
    match first {
        "-l" | "--list" => {
            let rows: Vec<&(String, String, String, String)> =
                all.iter().filter(|p| names.is_empty() || names.iter().any(|n| pattern::matches(n.as_bytes(), p.0.as_bytes()))).collect();
            if rows.is_empty() {
                cx.err(&format!("dpkg-query: no packages found matching {}\n", names.first().map_or("", |n| n.as_str())));
                return 1;
            }
            let width =
                |f: fn(&(String, String, String, String)) -> usize, least: usize| rows.iter().map(|r| f(r)).max().unwrap_or(0).max(least);
            let (a, b, c) = (width(|r| r.0.len(), 14), width(|r| r.1.len(), 12), width(|r| r.2.len(), 12));
            let d = 33.max(rows.iter().map(|r| r.3.len()).max().unwrap_or(0));
            let mut out = "Desired=Unknown/Install/Remove/Purge/Hold\n| Status=Not/Inst/Conf-files/Unpacked/halF-conf/Half-inst/trig-aWait/Trig-pend\n|/ Err?=(none)/Reinst-required (Status,Err: uppercase=bad)\n".to_owned();
            out.push_str(&format!(
                "||/ {:<a$} {:<b$} {:<c$} Description\n+++-{}-{}-{}-{}\n",
                "Name",
                "Version",
                "Architecture",
                "=".repeat(a),
                "=".repeat(b),
                "=".repeat(c),
                "=".repeat(d)
            ));
            for (name, version, arch, text) in rows {
                out.push_str(&format!("ii  {name:<a$} {version:<b$} {arch:<c$} {text}\n"));
            }
            cx.say(&out);
            0
        }
        "-s" | "--status" => {
            let mut status = 0;
            for name in names {
                match all.iter().find(|p| p.0 == *name) {
                    Some((name, version, arch, text)) => cx.say(&format!("Package: {name}\nStatus: install ok installed\nPriority: optional\nArchitecture: {arch}\nVersion: {version}\nDescription: {text}\n\n")),
                    None => {
                        cx.err(&format!("dpkg-query: package '{name}' is not installed and no information is available\nUse dpkg --info (= dpkg-deb --info) to examine archive files.\n"));
                        status = 1;
                    }
                }
            }
            status
        }
        "-W" | "--show" => {
            for (name, version, _, _) in all.iter().filter(|p| names.is_empty() || names.iter().any(|n| **n == p.0)) {
                cx.say(&format!("{name}\t{version}\n"));
            }
            0
        }
        "--print-architecture" => {
            cx.say("amd64\n");
            0
        }
        "--version" => {
            cx.say("Debian 'dpkg' package management program version 1.21.22 (amd64).\nThis is free software; see the GNU General Public License version 2 or\nlater for copying conditions. There is NO warranty.\n");
            0
        }
        "-S" | "--search" => {
            let name = names.first().map_or("", |n| n.as_str());
            cx.err(&format!("dpkg-query: no path found matching pattern {name}\n"));
            1
        }
        "--get-selections" => {
            for (name, ..) in &all {
                cx.say(&format!("{name}\t\t\t\t\tinstall\n"));
            }
            0
        }
        "-i" | "--install" => {
            if cx.st.who.uid != 0 {
                cx.err("dpkg: error: requested operation requires superuser privilege\n");
                return 2;
            }
            let name = names.first().map_or("", |n| n.as_str());
            cx.err(&format!("dpkg: error: cannot access archive '{name}': No such file or directory\n"));
            2
        }
        "" => {
            cx.err("dpkg: error: need an action option\n\nType dpkg --help for help about installing and deinstalling packages [*];\nUse 'apt' or 'aptitude' for user-friendly package management.\n");
            2
        }
        _ => 0,
    }
}

pub(super) fn apt(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let words: Vec<String> = args.iter().skip(1).map(|a| show(a)).filter(|w| !w.starts_with('-')).collect();
    let verb = words.first().map_or("", String::as_str);
    let names: Vec<&String> = words.iter().skip(1).collect();
    if args.iter().any(|a| a == b"--version" || a == b"-v") || verb.is_empty() {
        cx.say("apt 2.6.1 (amd64)\n");
        return 0;
    }
    if cx.name == "apt" && !cx.tty_out() {
        cx.err("\nWARNING: apt does not have a stable CLI interface. Use with caution in scripts.\n\n");
    }
    let changes = matches!(verb, "install" | "remove" | "purge" | "update" | "upgrade" | "dist-upgrade" | "full-upgrade" | "autoremove");
    if changes && cx.st.who.uid != 0 {
        let lock = if verb == "update" { "/var/lib/apt/lists/lock" } else { "/var/lib/dpkg/lock-frontend" };
        cx.err(&format!(
            "E: Could not open lock file {lock} - open (13: Permission denied)\nE: Unable to {}, are you root?\n",
            if verb == "update" {
                "lock directory /var/lib/apt/lists/"
            } else {
                "acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend)"
            }
        ));
        return 100;
    }
    let all = installed(cx);
    match verb {
        "update" => {
            cx.x.pass(36_000_000_000);
            let mut out = String::new();
            for (n, suite) in ["bookworm", "bookworm-updates"].iter().enumerate() {
                out.push_str(&format!(
                    "Err:{} http://deb.debian.org/debian {suite} InRelease\n  Temporary failure resolving 'deb.debian.org'\n",
                    n * 2 + 1
                ));
                if n == 0 {
                    out.push_str("Err:2 http://security.debian.org/debian-security bookworm-security InRelease\n  Temporary failure resolving 'security.debian.org'\n");
                }
            }
            out.push_str("Reading package lists...\n");
            cx.say(&out);
            cx.err("W: Failed to fetch http://deb.debian.org/debian/dists/bookworm/InRelease  Temporary failure resolving 'deb.debian.org'\nW: Failed to fetch http://security.debian.org/debian-security/dists/bookworm-security/InRelease  Temporary failure resolving 'security.debian.org'\nW: Failed to fetch http://deb.debian.org/debian/dists/bookworm-updates/InRelease  Temporary failure resolving 'deb.debian.org'\nW: Some index files failed to download. They have been ignored, or old ones used instead.\n");
            0
        }
        "install" | "remove" | "purge" => {
            cx.say("Reading package lists...\nBuilding dependency tree...\nReading state information...\n");
            let mut status = 0;
            for name in names {
                match all.iter().find(|p| p.0 == *name) {
                    Some((name, version, ..)) if verb == "install" => {
                        cx.say(&format!("{name} is already the newest version ({version}).\n"))
                    }
                    Some((name, ..)) => {
                        cx.say(&format!("The following packages will be REMOVED:\n  {name}\n"));
                        cx.err("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (systemd)\n");
                        return 100;
                    }
                    None if verb == "install" => {
                        cx.err(&format!("E: Unable to locate package {name}\n"));
                        status = 100;
                    }
                    None => cx.say(&format!("Package '{name}' is not installed, so not removed\n")),
                }
            }
            if status == 0 {
                cx.say("0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n");
            }
            status
        }
        "upgrade" | "dist-upgrade" | "full-upgrade" | "autoremove" | "autoclean" | "clean" => {
            if verb != "clean" {
                cx.say("Reading package lists...\nBuilding dependency tree...\nReading state information...\n");
            }
            if verb.ends_with("upgrade") {
                cx.say("Calculating upgrade...\n");
            }
            if !verb.ends_with("clean") {
                cx.say("0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n");
            }
            0
        }
        "list" => {
            cx.say("Listing...\n");
            for (name, version, arch, _) in all {
                cx.say(&format!("{name}/stable,now {version} {arch} [installed]\n"));
            }
            0
        }
        "search" | "policy" | "show" => {
            for name in names {
                if let Some((n, version, arch, text)) = all.iter().find(|p| p.0 == *name) {
                    cx.say(&if verb == "policy" { format!("{n}:\n  Installed: {version}\n  Candidate: {version}\n  Version table:\n *** {version} 100\n        100 /var/lib/dpkg/status\n") } else { format!("Package: {n}\nVersion: {version}\nArchitecture: {arch}\nDescription: {text}\n\n") });
                } else if verb == "show" {
                    cx.err("E: No packages found\n");
                    return 100;
                }
            }
            0
        }
        other => {
            cx.err(&format!("E: Invalid operation {other}\n"));
            100
        }
    }
}
