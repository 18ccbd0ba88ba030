//! The programs of the pretended system: one line in [`COMMANDS`] per program, one file per family.

mod accounts;
mod archive;
mod awk;
mod copy;
mod dates;
mod fields;
mod files;
mod find;
mod grep;
mod hash;
mod links;
mod ls;
mod network;
mod packages;
mod processes;
mod sed;
mod services;
mod shells;
mod status;
mod text;
mod transfer;

use std::sync::Arc;

use super::{
    api::Waiting,
    fs::{Errno, Node},
    shell::{
        exec::{Exec, Fd, Io},
        state::State,
    },
};

pub(super) use processes::kill as kill_builtin;
pub(super) use shells::{echo as builtin_echo, printf as builtin_printf, test as builtin_test, test_files, test_unary};

/// What a command works with.
pub(super) struct Cx<'a, 'm> {
    pub x: &'a mut Exec<'m>,
    pub st: &'a mut State,
    pub io: Io,
    pub name: &'static str,
}

/// Runs a command; returns its exit status.
pub(super) type Run = fn(&mut Cx<'_, '_>, &[Vec<u8>]) -> i32;

/// One program.
pub(super) struct Command {
    pub name: &'static str,
    pub run: Run,
}

macro_rules! commands {
    ($($name:literal => $run:path),* $(,)?) => {
        /// All programs that answer; they exist only where the profile has a file of that name.
        pub(super) static COMMANDS: &[Command] = &[$(Command { name: $name, run: $run }),*];
    };
}

commands! {
    "[" => shells::test,
    "adduser" => accounts::useradd,
    "apt" => packages::apt,
    "apt-cache" => packages::apt,
    "apt-get" => packages::apt,
    "arch" => status::arch,
    "awk" => awk::awk,
    "base64" => hash::base64,
    "basename" => links::basename,
    "bash" => shells::bash,
    "bunzip2" => archive::gzip,
    "bzip2" => archive::gzip,
    "cat" => text::cat,
    "chage" => accounts::chage,
    "chattr" => files::chattr,
    "chgrp" => files::chown,
    "chmod" => files::chmod,
    "chown" => files::chown,
    "chpasswd" => accounts::chpasswd,
    "chsh" => accounts::chsh,
    "cksum" => hash::cksum,
    "clear" => status::clear,
    "cmp" => fields::cmp,
    "comm" => fields::comm,
    "cp" => copy::cp,
    "crontab" => services::crontab,
    "curl" => transfer::curl,
    "cut" => fields::cut,
    "dash" => shells::sh,
    "date" => dates::date,
    "dd" => copy::dd,
    "deluser" => accounts::userdel,
    "df" => status::df,
    "diff" => fields::diff,
    "dir" => ls::ls,
    "dirname" => links::dirname,
    "dmesg" => status::dmesg,
    "dpkg" => packages::dpkg,
    "dpkg-query" => packages::dpkg,
    "du" => files::du,
    "echo" => shells::echo,
    "egrep" => grep::grep,
    "env" => shells::env,
    "expr" => shells::expr,
    "false" => shells::no,
    "fgrep" => grep::grep,
    "file" => files::file,
    "find" => find::find,
    "fold" => text::fold,
    "free" => status::free,
    "getent" => accounts::getent,
    "grep" => grep::grep,
    "groupadd" => accounts::groupadd,
    "groups" => accounts::groups,
    "gunzip" => archive::gzip,
    "gzip" => archive::gzip,
    "head" => text::head,
    "hostid" => status::hostid,
    "hostname" => status::hostname,
    "hostnamectl" => status::hostnamectl,
    "id" => accounts::id,
    "init" => services::init,
    "install" => copy::install,
    "ip" => network::ip,
    "journalctl" => services::journalctl,
    "kill" => processes::kill,
    "last" => status::last,
    "lastb" => status::lastb,
    "lastlog" => status::lastlog,
    "less" => text::cat,
    "ln" => links::ln,
    "logname" => accounts::whoami,
    "ls" => ls::ls,
    "lsattr" => files::lsattr,
    "lsblk" => status::lsblk,
    "lscpu" => status::lscpu,
    "mawk" => awk::awk,
    "md5sum" => hash::sum,
    "mkdir" => files::mkdir,
    "mkfifo" => files::mkfifo,
    "mknod" => files::mkfifo,
    "mktemp" => links::mktemp,
    "more" => text::cat,
    "mount" => status::mount,
    "mv" => copy::mv,
    "nice" => shells::nohup,
    "nl" => text::nl,
    "nohup" => shells::nohup,
    "nproc" => status::nproc,
    "od" => text::od,
    "openssl" => hash::openssl,
    "passwd" => accounts::passwd,
    "paste" => fields::paste,
    "perl" => shells::perl,
    "pgrep" => processes::pgrep,
    "pidof" => processes::pgrep,
    "ping" => network::ping,
    "pkill" => processes::kill_by_name,
    "poweroff" => services::init,
    "printenv" => shells::printenv,
    "printf" => shells::printf,
    "ps" => processes::ps,
    "pwd" => shells::pwd,
    "rbash" => shells::bash,
    "readlink" => links::readlink,
    "realpath" => links::readlink,
    "reboot" => services::init,
    "reset" => status::clear,
    "rev" => text::rev,
    "rm" => files::rm,
    "rmdir" => files::rmdir,
    "run-parts" => shells::yes_sir,
    "scp" => transfer::ssh,
    "sed" => sed::sed,
    "seq" => text::seq,
    "service" => services::service,
    "setsid" => shells::nohup,
    "sftp" => transfer::ssh,
    "sh" => shells::sh,
    "sha1sum" => hash::sum,
    "sha224sum" => hash::sum,
    "sha256sum" => hash::sum,
    "sha384sum" => hash::sum,
    "sha512sum" => hash::sum,
    "shred" => files::shred,
    "shuf" => text::sort,
    "shutdown" => services::init,
    "sleep" => shells::sleep,
    "sort" => text::sort,
    "ss" => network::ss,
    "ssh" => transfer::ssh,
    "ssh-keygen" => transfer::ssh_keygen,
    "stat" => links::stat,
    "stdbuf" => shells::nohup,
    "stty" => status::stty,
    "su" => accounts::su,
    "swapon" => status::swapon,
    "sync" => shells::yes_sir,
    "sysctl" => status::sysctl,
    "systemctl" => services::systemctl,
    "tac" => text::tac,
    "tail" => text::tail,
    "tar" => archive::tar,
    "tee" => text::tee,
    "test" => shells::test,
    "timedatectl" => dates::timedatectl,
    "timeout" => shells::timeout,
    "top" => processes::top,
    "touch" => files::touch,
    "tr" => text::tr,
    "true" => shells::yes_sir,
    "truncate" => files::truncate,
    "tty" => status::tty,
    "uname" => status::uname,
    "unexpand" => text::cat,
    "uniq" => text::uniq,
    "unlink" => files::rm,
    "uptime" => status::uptime,
    "useradd" => accounts::useradd,
    "userdel" => accounts::userdel,
    "usermod" => accounts::usermod,
    "users" => accounts::whoami,
    "vdir" => ls::ls,
    "vmstat" => status::vmstat,
    "w" => status::w,
    "wall" => shells::yes_sir,
    "wc" => text::wc,
    "wget" => transfer::wget,
    "which" => shells::which,
    "who" => status::who,
    "whoami" => accounts::whoami,
    "xargs" => find::xargs,
    "yes" => text::yes,
    "zcat" => archive::gzip,
}

/// The program of this name.
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    COMMANDS.iter().find(|c| c.name.as_bytes() == name)
}

/// Notes what a fetching command that is not installed was to fetch.
pub(super) fn missed(x: &mut Exec<'_>, args: &[Vec<u8>]) {
    transfer::missed(x, args);
}

/// Options found: the letter of each and its value, then the operands.
pub(super) type Options = (Vec<(u8, Vec<u8>)>, Vec<Vec<u8>>);

impl Cx<'_, '_> {
    pub(super) fn out(&mut self, bytes: &[u8]) {
        // A closed or full output loses the bytes, as a real command's would be.
        let _ = self.x.write(self.io.get(1), bytes);
    }
    pub(super) fn say(&mut self, text: &str) {
        self.out(text.as_bytes());
    }
    pub(super) fn err(&mut self, text: &str) {
        let _ = self.x.write(self.io.get(2), text.as_bytes());
    }
    /// `name: message` on standard error; returns 1.
    pub(super) fn fail(&mut self, message: &str) -> i32 {
        let line = format!("{}: {message}\n", self.name);
        self.err(&line);
        1
    }
    /// `bash: name: message` on standard error, for builtins; returns 1.
    pub(super) fn complain(&mut self, message: &str) -> i32 {
        let line = format!("{}: {message}", self.name);
        self.x.complain(self.st, self.io, &line);
        1
    }
    /// Whether to go on: not killed, not waiting, and the reader still reads.
    pub(super) fn alive(&mut self) -> bool {
        self.x.flow == super::shell::exec::Flow::None && self.x.spend(1)
    }
    pub(super) fn input(&mut self) -> Vec<u8> {
        self.x.read_all(self.io.get(0))
    }
    pub(super) fn tty_out(&self) -> bool {
        self.x.is_tty(self.io.get(1))
    }
    pub(super) fn now(&self) -> i64 {
        self.x.seconds()
    }
    /// Stops the run until a secret was typed; `None` while it has not arrived or at the end.
    pub(super) fn secret(&mut self, prompt: &str) -> Option<Vec<u8>> {
        self.err(prompt);
        let line = self.x.read_until(self.io.get(0), b'\n');
        if line.is_none() && self.x.waiting.is_some() {
            self.x.waiting = Some(Waiting::Secret);
        }
        // The terminal echoes the line's end itself.
        line.map(|mut l| {
            if l.last() == Some(&b'\n') {
                l.pop();
            }
            l
        })
    }
    /// A file named by an operand; `-` is standard input.
    pub(super) fn read(&mut self, path: &[u8]) -> Result<Arc<Vec<u8>>, Errno> {
        if path == b"-" {
            return Ok(Arc::new(self.input()));
        }
        let fd = self.x.open_read(self.st, self.io, path, false)?;
        if let Ok((real, node)) = self.x.fs.stat(&self.st.cwd, path, true) {
            if node.is_dir() {
                return Err(Errno::IsDir);
            }
            let _ = real;
        }
        Ok(Arc::new(self.x.read_all(fd)))
    }
    /// The node a path leads to.
    pub(super) fn stat(&mut self, path: &[u8], follow: bool) -> Result<(Vec<u8>, Node), Errno> {
        let found = self.x.fs.stat(&self.st.cwd, path, follow)?;
        if !self.x.fs.reach(&self.st.who, &found.0) {
            return Err(Errno::Access);
        }
        Ok(found)
    }
    /// Replaces a file, noting who wrote it.
    pub(super) fn write_file(&mut self, path: &[u8], data: Vec<u8>) -> Result<(), Errno> {
        let fd = self.x.open_write(self.st, path, false, super::api::How::Command(self.name))?;
        self.x.write(fd, &data)
    }
    pub(super) fn append_file(&mut self, path: &[u8], data: &[u8]) -> Result<(), Errno> {
        let fd = self.x.open_write(self.st, path, true, super::api::How::Command(self.name))?;
        self.x.write(fd, data)
    }
    /// Whether a descriptor is the terminal or waits for it.
    pub(super) fn stdin_fd(&self) -> Fd {
        self.io.get(0)
    }

    /// Reads options as GNU `getopt_long` does, options and operands mixed. `spec` lists letters, `:` after those with a
    /// value; `longs` maps names (ending in `=` when they take a value) to letters. On an error the message is written.
    pub(super) fn options(&mut self, args: &[Vec<u8>], spec: &str, longs: &[(&str, u8)]) -> Result<Options, ()> {
        let spec = spec.as_bytes();
        let (mut found, mut rest) = (Vec::new(), Vec::new());
        let mut args = args.iter().skip(1);
        while let Some(arg) = args.next() {
            if arg == b"--" {
                rest.extend(args.cloned());
                break;
            }
            if let Some(long) = arg.strip_prefix(b"--") {
                let text = String::from_utf8_lossy(long).into_owned();
                let (name, value) = match text.split_once('=') {
                    Some((n, v)) => (n.to_owned(), Some(v.as_bytes().to_vec())),
                    None => (text.clone(), None),
                };
                let exact = longs.iter().find(|(l, _)| l.trim_end_matches('=') == name);
                let entry = exact.or_else(|| longs.iter().find(|(l, _)| l.starts_with(&name)));
                match entry {
                    Some((l, letter)) => {
                        let value = if l.ends_with('=') && value.is_none() && !l.ends_with("[=") {
                            args.next().cloned().unwrap_or_default()
                        } else {
                            value.unwrap_or_default()
                        };
                        found.push((*letter, value));
                    }
                    None if name == "help" => {
                        let line = format!("Usage: {} [OPTION]... [FILE]...\n", self.name);
                        self.say(&line);
                        self.x.flow = super::shell::exec::Flow::None;
                        found.push((0, Vec::new()));
                        return Ok((found, rest));
                    }
                    None if name == "version" => {
                        let line = version(self.name);
                        self.say(&line);
                        found.push((0, Vec::new()));
                        return Ok((found, rest));
                    }
                    None => {
                        let line = format!("{n}: unrecognized option '--{name}'\nTry '{n} --help' for more information.\n", n = self.name);
                        self.err(&line);
                        return Err(());
                    }
                }
                continue;
            }
            if arg.len() < 2 || arg.first() != Some(&b'-') {
                rest.push(arg.clone());
                // A leading `+` in the spec stops at the first operand.
                if spec.first() == Some(&b'+') {
                    rest.extend(args.cloned());
                    break;
                }
                continue;
            }
            let mut letters = arg.iter().copied().enumerate().skip(1);
            while let Some((at, letter)) = letters.next() {
                let Some(p) = spec.iter().position(|s| *s == letter && letter != b':' && letter != b'+') else {
                    let line =
                        format!("{n}: invalid option -- '{}'\nTry '{n} --help' for more information.\n", char::from(letter), n = self.name);
                    self.err(&line);
                    return Err(());
                };
                if spec.get(p + 1) == Some(&b':') {
                    let inline = arg.get(at + 1..).unwrap_or_default();
                    let value = if inline.is_empty() {
                        match args.next() {
                            Some(v) => v.clone(),
                            None => {
                                let line = format!(
                                    "{n}: option requires an argument -- '{}'\nTry '{n} --help' for more information.\n",
                                    char::from(letter),
                                    n = self.name
                                );
                                self.err(&line);
                                return Err(());
                            }
                        }
                    } else {
                        inline.to_vec()
                    };
                    found.push((letter, value));
                    break;
                }
                found.push((letter, Vec::new()));
            }
        }
        Ok((found, rest))
    }
}

fn version(name: &str) -> String {
    match name {
        "grep" | "egrep" | "fgrep" => "grep (GNU grep) 3.8\nCopyright (C) 2022 Free Software Foundation, Inc.\n".to_owned(),
        "sed" => "sed (GNU sed) 4.9\nCopyright (C) 2022 Free Software Foundation, Inc.\n".to_owned(),
        "find" | "xargs" => format!("{name} (GNU findutils) 4.9.0\nCopyright (C) 2022 Free Software Foundation, Inc.\n"),
        "ps" | "free" | "top" | "uptime" | "w" | "pgrep" => format!("{name} from procps-ng 4.0.2\n"),
        "bash" => {
            "GNU bash, version 5.2.15(1)-release (x86_64-pc-linux-gnu)\nCopyright (C) 2022 Free Software Foundation, Inc.\n".to_owned()
        }
        "mount" | "lscpu" | "lsblk" | "dmesg" | "last" => format!("{name} from util-linux 2.38.1\n"),
        _ => format!(
            "{name} (GNU coreutils) 9.1\nCopyright (C) 2022 Free Software Foundation, Inc.\nLicense GPLv3+: GNU GPL version 3 or later <https://gnu.org/licenses/gpl.html>.\nThis is free software: you are free to change and redistribute it.\nThere is NO WARRANTY, to the extent permitted by law.\n"
        ),
    }
}

/// Whether an option was given.
pub(super) fn has(options: &[(u8, Vec<u8>)], letter: u8) -> bool {
    options.iter().any(|(l, _)| *l == letter)
}

/// The last value of an option.
pub(super) fn value(options: &[(u8, Vec<u8>)], letter: u8) -> Option<&[u8]> {
    options.iter().rev().find(|(l, _)| *l == letter).map(|(_, v)| v.as_slice())
}

/// Bytes as text for messages.
pub(super) fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A number written in ASCII.
pub(super) fn number<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

/// Lines without their ends; a last line without an end counts.
pub(super) fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = data.strip_suffix(b"\n").unwrap_or(data);
    let mut parts = body.split(|b| *b == b'\n');
    if data.is_empty() {
        parts.next();
    }
    parts
}

/// A word as the shell would need it quoted (`set -x`, `printf %q`, `ls` on a terminal).
pub(super) fn quote_shell(word: &[u8]) -> Vec<u8> {
    let plain = |b: &u8| {
        b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/' | b':' | b'=' | b'+' | b',' | b'@' | b'%' | b'^') || *b >= 0x80
    };
    if !word.is_empty() && word.iter().all(plain) {
        return word.to_vec();
    }
    let mut out = vec![b'\''];
    for b in word {
        if *b == b'\'' {
            out.extend_from_slice(b"'\\''");
        } else {
            out.push(*b);
        }
    }
    out.push(b'\'');
    out
}

/// Bytes as the GNU tools print them with `-h`: three figures at most, rounded up.
pub(super) fn human(bytes: u64) -> String {
    if bytes < 1_024 {
        return bytes.to_string();
    }
    let mut value = bytes as f64;
    let mut unit = 0usize;
    while value >= 1_024.0 && unit < 6 {
        value /= 1_024.0;
        unit += 1;
    }
    let letter = ["", "K", "M", "G", "T", "P", "E"].get(unit).copied().unwrap_or("E");
    let tenth = (value * 10.0).ceil() / 10.0;
    if tenth < 10.0 {
        format!("{tenth:.1}{letter}")
    } else if value.ceil() >= 1_024.0 {
        format!("1.0{}", ["K", "M", "G", "T", "P", "E", "Z"].get(unit).copied().unwrap_or("E"))
    } else {
        format!("{}{letter}", value.ceil())
    }
}
