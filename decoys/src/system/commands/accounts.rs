//! Programs about accounts: `id`, `passwd`, `chpasswd`, `useradd`, `su`, `getent`.

use super::{Cx, has, number, show, value};
use crate::system::{
    api::How,
    fs::{Content, Kind, Who},
    shell::simple::Passwd,
};

pub(super) fn whoami(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    if cx.name == "logname" && cx.x.session.tty.is_none() {
        return cx.fail("no login name");
    }
    if cx.name == "users" && cx.x.session.tty.is_none() {
        return 0;
    }
    let uid = cx.st.who.uid;
    let name = if cx.name == "whoami" { cx.x.user_name(uid) } else { cx.x.session.user.clone().into_bytes() };
    cx.out(&[name.as_slice(), b"\n"].concat());
    0
}

fn membership(cx: &mut Cx<'_, '_>, name: &[u8]) -> Option<(Passwd, Vec<u32>)> {
    let account = cx.x.account(name).or_else(|| number::<u32>(name).and_then(|uid| cx.x.accounts().into_iter().find(|a| a.uid == uid)))?;
    let mut ids = vec![account.gid];
    ids.extend(cx.x.groups().into_iter().filter(|(_, id, members)| *id != account.gid && members.contains(&account.name)).map(|g| g.1));
    Some((account, ids))
}

pub(super) fn id(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [("user", b'u'), ("group", b'g'), ("groups", b'G'), ("name", b'n'), ("real", b'r')];
    let Ok((options, rest)) = cx.options(args, "ugGnraZz", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    let (uid, name, ids) = match rest.first() {
        Some(user) => match membership(cx, user) {
            Some((a, ids)) => (a.uid, show(&a.name), ids),
            None => return cx.fail(&format!("‘{}’: no such user", show(user))),
        },
        None => {
            let who = cx.st.who.clone();
            let mut ids = vec![who.gid];
            ids.extend(who.groups.iter().copied().filter(|g| *g != who.gid));
            (who.uid, show(&cx.x.user_name(who.uid)), ids)
        }
    };
    let gid = ids.first().copied().unwrap_or(uid);
    let named = has(&options, b'n');
    let group = |cx: &mut Cx<'_, '_>, g: u32| show(&cx.x.group_name(g));
    let line = if has(&options, b'u') {
        if named { name } else { uid.to_string() }
    } else if has(&options, b'g') {
        if named { group(cx, gid) } else { gid.to_string() }
    } else if has(&options, b'G') {
        let mut all = Vec::new();
        for g in &ids {
            all.push(if named { group(cx, *g) } else { g.to_string() });
        }
        all.join(" ")
    } else {
        let mut all = Vec::new();
        for g in &ids {
            all.push(format!("{g}({})", group(cx, *g)));
        }
        format!("uid={uid}({name}) gid={gid}({}) groups={}", group(cx, gid), all.join(","))
    };
    cx.say(&format!("{line}\n"));
    0
}

pub(super) fn groups(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let names: Vec<Vec<u8>> = args.iter().skip(1).cloned().collect();
    if names.is_empty() {
        return id(cx, &[b"id".to_vec(), b"-Gn".to_vec()]);
    }
    let mut status = 0;
    for name in names {
        match membership(cx, &name) {
            Some((_, ids)) => {
                let all: Vec<String> = ids.iter().map(|g| show(&cx.x.group_name(*g))).collect();
                cx.say(&format!("{} : {}\n", show(&name), all.join(" ")));
            }
            None => status = cx.fail(&format!("‘{}’: no such user", show(&name))),
        }
    }
    status
}

/// Rewrites a file of accounts line by line, as root.
fn edit(cx: &mut Cx<'_, '_>, path: &[u8], change: impl FnOnce(&mut Vec<Vec<u8>>)) -> bool {
    let Ok(data) = cx.x.read_path(path) else { return false };
    let mut lines: Vec<Vec<u8>> = super::lines(&data).map(<[u8]>::to_vec).collect();
    change(&mut lines);
    let mut out = lines.join(&b'\n');
    out.push(b'\n');
    let root = Who { uid: 0, gid: 0, groups: Vec::new() };
    let done = cx.x.fs.write(&root, path, Content::new(out), 0o644).is_ok();
    if done {
        cx.x.note(path, How::Command(cx.name));
    }
    done
}

fn set_secret(cx: &mut Cx<'_, '_>, user: &[u8], secret: &str) {
    let day = cx.now() / 86_400;
    let user = user.to_vec();
    let secret = secret.to_owned();
    edit(cx, b"/etc/shadow", |lines| {
        for line in lines.iter_mut() {
            if line.split(|b| *b == b':').next() == Some(user.as_slice()) {
                *line = format!("{}:{secret}:{day}:0:99999:7:::", show(&user)).into_bytes();
            }
        }
    });
}

fn crypt(cx: &mut Cx<'_, '_>) -> String {
    const ALPHABET: &[u8] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = |n: usize| (0..n).filter_map(|_| cx.st.random.pick(ALPHABET).map(|b| char::from(*b))).collect::<String>();
    format!("$y$j9T${}${}", text(22), text(43))
}

pub(super) fn passwd(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(
        args,
        "dlueSan:x:w:i:qR:",
        &[("delete", b'd'), ("lock", b'l'), ("unlock", b'u'), ("expire", b'e'), ("status", b'S'), ("quiet", b'q')],
    ) else {
        return 6;
    };
    if has(&options, 0) {
        return 0;
    }
    let uid = cx.st.who.uid;
    let own = cx.x.user_name(uid);
    let user = rest.first().cloned().unwrap_or_else(|| own.clone());
    if cx.x.account(&user).is_none() {
        cx.err(&format!("passwd: user '{}' does not exist\n", show(&user)));
        return 1;
    }
    if uid != 0 && user != own {
        cx.err(&format!("passwd: You may not view or modify password information for {}.\n", show(&user)));
        return 1;
    }
    if has(&options, b'S') {
        cx.say(&format!(
            "{} P {} 0 99999 7 -1\n",
            show(&user),
            String::from_utf8_lossy(&crate::system::time::format(b"%m/%d/%Y", cx.x.machine.facts.installed, 0))
        ));
        return 0;
    }
    if has(&options, b'd') || has(&options, b'l') || has(&options, b'u') || has(&options, b'e') {
        let secret = if has(&options, b'd') { String::new() } else { format!("!{}", crypt(cx)) };
        set_secret(cx, &user, &secret);
        cx.say(if has(&options, b'l') || has(&options, b'e') || has(&options, b'd') {
            "passwd: password changed.\n"
        } else {
            "passwd: password changed.\n"
        });
        return 0;
    }
    if uid != 0 {
        cx.say(&format!("Changing password for {}.\n", show(&user)));
        if cx.secret("Current password: ").is_none() {
            return quit(cx);
        }
        cx.err("\n");
    }
    for _ in 0..3 {
        let Some(first) = cx.secret("New password: ") else { return quit(cx) };
        newline(cx);
        if first.is_empty() {
            cx.err("No password has been supplied.\n");
            continue;
        }
        let Some(second) = cx.secret("Retype new password: ") else { return quit(cx) };
        newline(cx);
        if first != second {
            cx.err("Sorry, passwords do not match.\n");
            break;
        }
        let secret = crypt(cx);
        set_secret(cx, &user, &secret);
        cx.err("passwd: password updated successfully\n");
        return 0;
    }
    cx.err("passwd: Authentication token manipulation error\npasswd: password unchanged\n");
    10
}

/// After a secret the cursor stands behind the prompt when no terminal echoed the line's end.
fn newline(cx: &mut Cx<'_, '_>) {
    if cx.x.session.tty.is_none() {
        cx.err("\n");
    }
}

fn quit(cx: &mut Cx<'_, '_>) -> i32 {
    if cx.x.waiting.is_none() {
        cx.err("\npasswd: Authentication token manipulation error\npasswd: password unchanged\n");
    }
    10
}

pub(super) fn chpasswd(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, _)) = cx.options(args, "emc:s:R:S", &[("encrypted", b'e'), ("md5", b'm'), ("crypt-method=", b'c')]) else { return 2 };
    if has(&options, 0) {
        return 0;
    }
    let data = cx.input();
    if cx.x.waiting.is_some() {
        return 0;
    }
    if cx.st.who.uid != 0 {
        cx.err("chpasswd: Permission denied.\nchpasswd: cannot lock /etc/passwd; try again later.\n");
        return 1;
    }
    let mut status = 0;
    let lines: Vec<Vec<u8>> = super::lines(&data).take(256).map(<[u8]>::to_vec).collect();
    for (n, line) in lines.iter().enumerate() {
        let Some(at) = line.iter().position(|b| *b == b':') else {
            cx.err(&format!("chpasswd: line {}: missing new password\nchpasswd: error detected, changes ignored\n", n + 1));
            return 1;
        };
        let user = line.get(..at).unwrap_or_default();
        if cx.x.account(user).is_none() {
            cx.err(&format!("chpasswd: (user {}) pam_chauthtok() failed, error:\nAuthentication token manipulation error\nchpasswd: (line {}, user {}) password not changed\n", show(user), n + 1, show(user)));
            status = 1;
            continue;
        }
        let secret = if has(&options, b'e') { show(line.get(at + 1..).unwrap_or_default()) } else { crypt(cx) };
        set_secret(cx, user, &secret);
    }
    status
}

pub(super) fn useradd(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("home-dir=", b'd'),
        ("home=", b'd'),
        ("shell=", b's'),
        ("uid=", b'u'),
        ("gid=", b'g'),
        ("ingroup=", b'I'),
        ("groups=", b'G'),
        ("create-home", b'm'),
        ("comment=", b'c'),
        ("gecos=", b'c'),
        ("password=", b'p'),
        ("system", b'r'),
        ("non-unique", b'o'),
        ("disabled-password", b'1'),
        ("disabled-login", b'1'),
        ("no-create-home", b'M'),
        ("quiet", b'q'),
        ("force-badname", b'2'),
        ("expiredate=", b'e'),
    ];
    let Ok((options, rest)) = cx.options(args, "d:s:u:g:G:mMc:p:roN:k:K:b:e:f:UDq", &longs) else { return 2 };
    if has(&options, 0) {
        return 0;
    }
    let adduser = cx.name == "adduser";
    let Some(user) = rest.first().cloned() else {
        cx.err(if adduser {
            "adduser: Only one or two names allowed.\n"
        } else {
            "Usage: useradd [options] LOGIN\n       useradd -D\n       useradd -D [options]\n"
        });
        return if adduser { 1 } else { 2 };
    };
    if cx.st.who.uid != 0 {
        cx.err(if adduser {
            "adduser: Only root may add a user or group to the system.\n"
        } else {
            "useradd: Permission denied.\nuseradd: cannot lock /etc/passwd; try again later.\n"
        });
        return 1;
    }
    let valid = user.first().is_some_and(|b| b.is_ascii_lowercase() || *b == b'_')
        && user.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        && user.len() <= 32;
    if !valid {
        cx.err(&format!("{}: invalid user name '{}'{}\n", cx.name, show(&user), if adduser { "" } else { ": use --badname to ignore" }));
        return 3;
    }
    if cx.x.account(&user).is_some() {
        cx.err(&if adduser {
            format!("adduser: The user `{}' already exists.\n", show(&user))
        } else {
            format!("useradd: user '{}' already exists\n", show(&user))
        });
        return if adduser { 1 } else { 9 };
    }
    let system = has(&options, b'r');
    let accounts = cx.x.accounts();
    let taken = |id: u32| accounts.iter().any(|a| a.uid == id);
    let uid = value(&options, b'u')
        .and_then(|u| number::<u32>(u))
        .or_else(|| if system { (101..999).rev().find(|i| !taken(*i)) } else { (1_000..60_000).find(|i| !taken(*i)) })
        .unwrap_or(1_000);
    if value(&options, b'u').is_some() && taken(uid) && !has(&options, b'o') {
        cx.err(&format!("useradd: UID {uid} is not unique\n"));
        return 4;
    }
    let group = value(&options, b'g').or(value(&options, b'I')).map(<[u8]>::to_vec);
    let gid = match group {
        Some(g) => match cx.x.groups().into_iter().find(|x| x.0 == g || number(&g) == Some(x.1)) {
            Some(found) => found.1,
            None => {
                cx.err(&format!("useradd: group '{}' does not exist\n", show(&g)));
                return 6;
            }
        },
        None => uid,
    };
    let home = value(&options, b'd').map_or_else(|| format!("/home/{}", show(&user)), show);
    let shell = value(&options, b's').map_or_else(|| if adduser { "/bin/bash".to_owned() } else { "/bin/sh".to_owned() }, show);
    let gecos = value(&options, b'c').map(show).unwrap_or_default();
    let line = format!("{}:x:{uid}:{gid}:{gecos}:{home}:{shell}", show(&user));
    let day = cx.now() / 86_400;
    let secret = value(&options, b'p').map_or_else(|| "!".to_owned(), show);
    edit(cx, b"/etc/passwd", |l| l.push(line.into_bytes()));
    let name = show(&user);
    edit(cx, b"/etc/shadow", |l| l.push(format!("{name}:{secret}:{day}:0:99999:7:::").into_bytes()));
    if gid == uid && !cx.x.groups().iter().any(|g| g.1 == gid) {
        edit(cx, b"/etc/group", |l| l.push(format!("{name}:x:{gid}:").into_bytes()));
    }
    if let Some(more) = value(&options, b'G') {
        add_to_groups(cx, &user, &show(more));
    }
    if has(&options, b'm') || (adduser && !has(&options, b'M')) {
        let root = Who { uid: 0, gid: 0, groups: Vec::new() };
        if cx.x.fs.create(&root, home.as_bytes(), Kind::Dir, if adduser { 0o700 } else { 0o755 }).is_ok() {
            let _ = cx.x.fs.change(home.as_bytes(), |n| (n.uid, n.gid) = (uid, gid));
            for file in [".bashrc", ".profile", ".bash_logout"] {
                if let Ok(data) = cx.x.read_path(format!("/etc/skel/{file}").as_bytes()) {
                    let path = format!("{home}/{file}").into_bytes();
                    let _ = cx.x.fs.write(&root, &path, Content::Bytes(data), 0o644);
                    let _ = cx.x.fs.change(&path, |n| (n.uid, n.gid) = (uid, gid));
                }
            }
        }
    }
    if adduser {
        cx.say(&format!("Adding user `{name}' ...\nAdding new group `{name}' ({gid}) ...\nAdding new user `{name}' ({uid}) with group `{name} ({gid})' ...\nCreating home directory `{home}' ...\nCopying files from `/etc/skel' ...\n"));
        if !has(&options, b'1') {
            return passwd(cx, &[b"passwd".to_vec(), user]);
        }
    }
    0
}

fn add_to_groups(cx: &mut Cx<'_, '_>, user: &[u8], names: &str) {
    let user = user.to_vec();
    let names: Vec<String> = names.split(',').map(str::to_owned).collect();
    edit(cx, b"/etc/group", |lines| {
        for line in lines.iter_mut() {
            let name = show(line.split(|b| *b == b':').next().unwrap_or_default());
            let members = show(line.rsplit(|b| *b == b':').next().unwrap_or_default());
            if names.contains(&name) && !members.split(',').any(|m| m.as_bytes() == user) {
                if !members.is_empty() {
                    line.push(b',');
                }
                line.extend_from_slice(&user);
            }
        }
    });
}

pub(super) fn usermod(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(
        args,
        "aG:s:d:u:g:l:Lp:mUoc:e:",
        &[("append", b'a'), ("groups=", b'G'), ("shell=", b's'), ("lock", b'L'), ("password=", b'p')],
    ) else {
        return 2;
    };
    let Some(user) = rest.first().cloned() else {
        cx.err("Usage: usermod [options] LOGIN\n");
        return 2;
    };
    if cx.st.who.uid != 0 {
        cx.err("usermod: Permission denied.\nusermod: cannot lock /etc/passwd; try again later.\n");
        return 1;
    }
    if cx.x.account(&user).is_none() {
        cx.err(&format!("usermod: user '{}' does not exist\n", show(&user)));
        return 6;
    }
    if let Some(groups) = value(&options, b'G') {
        add_to_groups(cx, &user, &show(groups));
    }
    if let Some(secret) = value(&options, b'p') {
        set_secret(cx, &user, &show(secret));
    }
    let (shell, uid) = (value(&options, b's').map(show), value(&options, b'u').and_then(|u| number::<u32>(u)));
    if shell.is_some() || uid.is_some() {
        edit(cx, b"/etc/passwd", |lines| {
            for line in lines.iter_mut() {
                let mut f: Vec<String> = show(line).split(':').map(str::to_owned).collect();
                if f.first().is_some_and(|n| n.as_bytes() == user) {
                    if let (Some(slot), Some(s)) = (f.get_mut(6), &shell) {
                        s.clone_into(slot);
                    }
                    if let (Some(slot), Some(u)) = (f.get_mut(2), uid) {
                        *slot = u.to_string();
                    }
                    *line = f.join(":").into_bytes();
                }
            }
        });
    }
    0
}

pub(super) fn userdel(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "rfZ", &[("remove", b'r'), ("force", b'f'), ("remove-home", b'r')]) else { return 2 };
    let Some(user) = rest.first().cloned() else {
        cx.err(&format!("Usage: {} [options] LOGIN\n", cx.name));
        return 2;
    };
    if cx.st.who.uid != 0 {
        cx.err(&format!("{n}: Permission denied.\n{n}: cannot lock /etc/passwd; try again later.\n", n = cx.name));
        return 1;
    }
    let Some(account) = cx.x.account(&user) else {
        cx.err(&if cx.name == "deluser" {
            format!("deluser: The user `{}' does not exist.\n", show(&user))
        } else {
            format!("userdel: user '{}' does not exist\n", show(&user))
        });
        return if cx.name == "deluser" { 2 } else { 6 };
    };
    for path in [b"/etc/passwd".as_slice(), b"/etc/shadow", b"/etc/group"] {
        edit(cx, path, |lines| lines.retain(|l| l.split(|b| *b == b':').next() != Some(user.as_slice())));
    }
    if has(&options, b'r') {
        super::files::remove(cx, &account.home, &account.home, false, 0);
    }
    0
}

pub(super) fn groupadd(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "g:rfo", &[("gid=", b'g'), ("system", b'r'), ("force", b'f')]) else { return 2 };
    let Some(name) = rest.first().cloned() else {
        cx.err("Usage: groupadd [options] GROUP\n");
        return 2;
    };
    if cx.st.who.uid != 0 {
        cx.err("groupadd: Permission denied.\ngroupadd: cannot lock /etc/group; try again later.\n");
        return 10;
    }
    let groups = cx.x.groups();
    if groups.iter().any(|g| g.0 == name) {
        cx.err(&format!("groupadd: group '{}' already exists\n", show(&name)));
        return 9;
    }
    let gid = value(&options, b'g')
        .and_then(|g| number::<u32>(g))
        .or_else(|| (1_000..60_000).find(|i| !groups.iter().any(|g| g.1 == *i)))
        .unwrap_or(1_000);
    edit(cx, b"/etc/group", |l| l.push(format!("{}:x:{gid}:", show(&name)).into_bytes()));
    0
}

pub(super) fn chsh(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut words = vec![b"usermod".to_vec()];
    words.extend(args.iter().skip(1).cloned());
    if words.len() < 4 {
        let uid = cx.st.who.uid;
        words.push(cx.x.user_name(uid));
    }
    usermod(cx, &words)
}

pub(super) fn chage(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let user = args.last().cloned().unwrap_or_default();
    if cx.x.account(&user).is_none() {
        cx.err(&format!("chage: user '{}' does not exist in /etc/passwd\n", show(&user)));
        return 1;
    }
    if args.iter().any(|a| a == b"-l") {
        let day = String::from_utf8_lossy(&crate::system::time::format(b"%b %d, %Y", cx.x.machine.facts.installed, 0)).into_owned();
        cx.say(&format!("Last password change\t\t\t\t\t: {day}\nPassword expires\t\t\t\t\t: never\nPassword inactive\t\t\t\t\t: never\nAccount expires\t\t\t\t\t\t: never\nMinimum number of days between password change\t\t: 0\nMaximum number of days between password change\t\t: 99999\nNumber of days of warning before password expires\t: 7\n"));
    }
    0
}

pub(super) fn getent(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let database = show(args.get(1).map_or(b"".as_slice(), Vec::as_slice));
    let path = match database.as_str() {
        "passwd" => "/etc/passwd",
        "group" => "/etc/group",
        "shadow" => "/etc/shadow",
        "hosts" | "ahosts" => "/etc/hosts",
        "services" => "/etc/services",
        "protocols" => "/etc/protocols",
        other => {
            cx.err(&format!("Unknown database: {other}\nTry `getent --help' or `getent --usage' for more information.\n"));
            return 1;
        }
    };
    let data = match cx.read(path.as_bytes()) {
        Ok(d) => d,
        Err(_) => return 2,
    };
    let keys: Vec<String> = args.iter().skip(2).map(|k| show(k)).collect();
    let mut found = keys.is_empty();
    for line in super::lines(&data) {
        let text = show(line);
        if text.starts_with('#') || text.trim().is_empty() {
            continue;
        }
        let hit = keys.is_empty()
            || keys.iter().any(|k| {
                if path == "/etc/hosts" || path == "/etc/services" {
                    text.split_whitespace().any(|w| w == k)
                } else {
                    text.split(':').next() == Some(k) || text.split(':').nth(2) == Some(k)
                }
            });
        if hit {
            found = true;
            if path == "/etc/hosts" {
                let mut w = text.split_whitespace();
                cx.say(&format!("{:<15} {}\n", w.next().unwrap_or(""), w.collect::<Vec<_>>().join(" ")));
            } else {
                cx.say(&format!("{text}\n"));
            }
        }
    }
    if found { 0 } else { 2 }
}

pub(super) fn su(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut user = b"root".to_vec();
    let mut command = None;
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        match arg.as_slice() {
            b"-" | b"-l" | b"--login" | b"-m" | b"-p" => {}
            b"-c" | b"--command" => command = rest.next().cloned(),
            b"-s" | b"--shell" | b"-g" | b"-G" => {
                rest.next();
            }
            name => user = name.to_vec(),
        }
    }
    let Some((account, groups)) = membership(cx, &user) else {
        return cx.fail(&format!("user {} does not exist or the user entry does not contain all the required fields", show(&user)));
    };
    if cx.st.who.uid != 0 {
        let Some(_) = cx.secret("Password: ") else { return 1 };
        newline(cx);
        cx.x.pass(2_000_000_000);
        return cx.fail("Authentication failure");
    }
    if account.shell.ends_with(b"nologin") && command.is_none() {
        cx.say("This account is currently not available.\n");
        return 1;
    }
    let mut inner = cx.x.subshell_state(cx.st);
    inner.who = Who { uid: account.uid, gid: account.gid, groups };
    inner.user = account.name.clone();
    inner.home = account.home.clone();
    inner.export(b"HOME", account.home.clone());
    inner.export(b"USER", account.name.clone());
    inner.export(b"LOGNAME", account.name.clone());
    match command {
        Some(text) => cx.x.script(&inner, cx.io, &text, &[b"bash".to_vec()], false),
        None => {
            // A shell of its own that reads the rest of the input; on a terminal the session itself changes over.
            if cx.x.is_tty(cx.io.get(0)) {
                cx.st.who = inner.who;
                cx.st.user = inner.user;
                cx.st.home = inner.home.clone();
                cx.st.export(b"HOME", inner.home);
                return 0;
            }
            let text = cx.input();
            cx.x.script(&inner, cx.io, &text, &[b"bash".to_vec()], false)
        }
    }
}
