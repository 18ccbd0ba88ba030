//! The machine all sessions of a decoy share, and the shell each session drives.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    api::{Account, Client, How, Input, Login, MachineSpec, OsProfile, OverlayStats, Ran, Tty, Via, WrittenFile},
    facts::{Facts, Rng},
    fs::{Base, Fs, Overlay, Who},
    limits,
    proc::{ProcView, Process},
    profile_debian12,
    shell::{
        exec::{Exec, Flow},
        lexer::{Fault, Lexer},
        parser,
        state::State,
    },
    terminal::Completion,
    time,
};

/// One pretended machine, shared by all sessions of a decoy.
#[derive(Debug)]
pub struct Machine {
    pub(super) spec: MachineSpec,
    pub(super) facts: Facts,
    pub(super) base: Base,
    sources: Mutex<Sources>,
}

#[derive(Debug, Default)]
struct Sources {
    map: HashMap<IpAddr, SourceState>,
    clock: u64,
    bytes: usize,
    evicted: u64,
}

#[derive(Debug)]
struct SourceState {
    overlay: Arc<Mutex<Overlay>>,
    bytes: usize,
    used: u64,
    terminals: usize,
    last: Option<(i64, IpAddr)>,
}

/// What one session is, fixed at login.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub user: String,
    pub who: Who,
    pub client: Client,
    pub via: Via,
    pub tty: Option<Tty>,
    /// `pts/0`, or `?`.
    pub tty_name: String,
    pub started: i64,
    pub boot: i64,
    pub pid: u32,
    /// Processes begun since the login.
    pub forks: u32,
    pub processes: Arc<Vec<Process>>,
    /// `NAME=value`, each ended by NUL.
    pub environ: Vec<u8>,
}

/// Why a machine cannot be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MachineError {
    /// The profile's tables are empty (a fault of ours).
    #[error("the profile has no release")]
    Profile,
}

/// Sources are told apart by address; all of an IPv6 /64 is one.
fn source_key(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        },
        v4 => v4,
    }
}

impl Machine {
    /// Builds the machine: its files, facts and processes.
    ///
    /// # Errors
    /// Only when the profile itself is broken.
    pub fn new(spec: MachineSpec) -> Result<Arc<Self>, MachineError> {
        let OsProfile::Debian12 = spec.os;
        let revision = profile_debian12::ssh_revision(&spec.ssh_version);
        let facts = Facts::new(&spec, &profile_debian12::RELEASES, revision).ok_or(MachineError::Profile)?;
        let mut accounts = spec.accounts.clone();
        if !accounts.iter().any(|a| a.uid == 0) {
            accounts.insert(
                0,
                Account { name: "root".into(), uid: 0, gid: 0, home: "/root".into(), shell: "/bin/bash".into(), gecos: "root".into() },
            );
        }
        let base = profile_debian12::files(&spec, &facts, &accounts);
        Ok(Arc::new(Self { spec, facts, base, sources: Mutex::default() }))
    }

    /// The kernel's identity, as a banner or another service of the same decoy may need it: `uname -srvm`.
    pub fn uname(&self) -> String {
        format!("Linux {} {} x86_64", self.facts.release.abi, super::proc::build(&self.facts))
    }

    /// The distribution's version, such as `12.11`.
    pub fn os_version(&self) -> &'static str {
        self.facts.release.version
    }

    /// Starts a session.
    pub fn login(self: &Arc<Self>, login: Login) -> Shell {
        let now = login.now_ns.div_euclid(1_000_000_000);
        let boot = self.facts.boot(now);
        let source = login.client.peer.ip();
        let (overlay, terminals, last) = self.enter(source, login.tty.is_some(), now);
        let found = self.lookup(&overlay, &login.user, login.now_ns);
        let (who, home, shell) = found.unwrap_or((Who { uid: 65_534, gid: 65_534, groups: vec![65_534] }, "/".into(), "/bin/sh".into()));
        let tty_name = if login.tty.is_some() { format!("pts/{terminals}") } else { "?".to_owned() };
        let pid = self.facts.pid_at(login.now_ns) + 14;
        let mut state = State {
            vars: Default::default(),
            funcs: Default::default(),
            aliases: Default::default(),
            cwd: home.clone().into_bytes(),
            umask: 0o022,
            last: 0,
            pid,
            subshell: false,
            last_job: None,
            jobs: Vec::new(),
            args: Vec::new(),
            arg0: if login.interactive { b"-bash".to_vec() } else { b"bash".to_vec() },
            label: if login.interactive { b"-bash".to_vec() } else { b"bash".to_vec() },
            numbered: false,
            line: 1,
            flags: Default::default(),
            pipefail: false,
            shopt: Default::default(),
            who: who.clone(),
            user: login.user.clone().into_bytes(),
            home: home.clone().into_bytes(),
            history: Arc::new(VecDeque::new()),
            traps: Default::default(),
            locals: Vec::new(),
            kept: Default::default(),
            random: Rng::new(&self.facts.seed, &[login.now_ns.to_le_bytes(), (pid as i64).to_le_bytes()].concat()),
            started: now,
            interactive: login.interactive,
            dirs: Vec::new(),
            getopts: 1,
            pipestatus: Vec::new(),
            bytes: 0,
            posix: false,
        };
        environment(&mut state, &login, &tty_name, &home, &shell, who.uid);
        if login.interactive && who.uid >= 1000 {
            state.aliases.insert(b"ls".to_vec(), b"ls --color=auto".to_vec());
            state.aliases.insert(b"grep".to_vec(), b"grep --color=auto".to_vec());
        }
        let mut environ = state.environment().join(&0);
        environ.push(0);
        let mut session = Session {
            user: login.user.clone(),
            who,
            client: login.client,
            via: login.via,
            tty: login.tty.clone(),
            tty_name,
            started: now,
            boot,
            pid,
            forks: 0,
            processes: Arc::new(Vec::new()),
            environ,
        };
        session.processes = Arc::new(self.session_processes(&session, login.interactive));
        let greeting = self.greeting(&login, last, now);
        Shell { machine: Arc::clone(self), session, state, overlay, partial: Vec::new(), pending: None, greeting, ended: false }
    }

    /// What is kept for sources.
    pub fn overlays(&self) -> OverlayStats {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        OverlayStats { sources: sources.map.len(), bytes: sources.bytes, evicted: sources.evicted }
    }

    fn enter(&self, source: IpAddr, tty: bool, now: i64) -> (Arc<Mutex<Overlay>>, usize, Option<(i64, IpAddr)>) {
        let key = source_key(source);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.clock += 1;
        let clock = sources.clock;
        let entry =
            sources.map.entry(key).or_insert_with(|| SourceState { overlay: Arc::default(), bytes: 0, used: 0, terminals: 0, last: None });
        entry.used = clock;
        let terminals = entry.terminals;
        let last = entry.last;
        if tty {
            entry.terminals += 1;
            entry.last = Some((now, source));
        }
        let overlay = Arc::clone(&entry.overlay);
        sources.shrink(key);
        (overlay, terminals, last)
    }

    /// Counts what a source holds now and forgets others while that is too much.
    fn account_bytes(&self, source: IpAddr, bytes: usize) {
        let key = source_key(source);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.clock += 1;
        let clock = sources.clock;
        if let Some(entry) = sources.map.get_mut(&key) {
            let before = std::mem::replace(&mut entry.bytes, bytes);
            entry.used = clock;
            sources.bytes = sources.bytes.saturating_sub(before) + bytes;
        }
        sources.shrink(key);
    }

    fn leave(&self, source: IpAddr) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = sources.map.get_mut(&source_key(source)) {
            entry.terminals = entry.terminals.saturating_sub(1);
        }
    }

    /// Ids, home and shell of a user, by the `/etc/passwd` this source sees.
    fn lookup(&self, overlay: &Mutex<Overlay>, user: &str, now_ns: i64) -> Option<(Who, String, String)> {
        let mut overlay = overlay.lock().unwrap_or_else(PoisonError::into_inner);
        let fs = Fs { base: &self.base, over: &mut overlay, procs: ProcView::default(), now: (now_ns / 1_000_000_000, 0) };
        let read = |path: &[u8]| match fs.get(path)?.kind {
            super::fs::Kind::File(super::fs::Content::Bytes(b)) => Some(String::from_utf8_lossy(&b).into_owned()),
            _ => None,
        };
        let passwd = read(b"/etc/passwd")?;
        let line = passwd.lines().find(|l| l.split(':').next() == Some(user))?;
        let f: Vec<&str> = line.split(':').collect();
        let uid = f.get(2)?.parse().ok()?;
        let gid: u32 = f.get(3)?.parse().ok()?;
        let mut groups = vec![gid];
        for line in read(b"/etc/group").unwrap_or_default().lines() {
            let f: Vec<&str> = line.split(':').collect();
            if let (Some(id), Some(members)) = (f.get(2).and_then(|g| g.parse().ok()), f.get(3))
                && members.split(',').any(|m| m == user)
                && !groups.contains(&id)
                && groups.len() < 32
            {
                groups.push(id);
            }
        }
        Some((Who { uid, gid, groups }, (*f.get(5)?).to_owned(), (*f.get(6)?).to_owned()))
    }

    fn session_processes(&self, s: &Session, interactive: bool) -> Vec<Process> {
        let mut all = profile_debian12::processes(&self.spec, &self.facts, s.boot, s.started);
        let listener = all.iter().find(|p| p.comm == "sshd").map_or(1, |p| p.pid);
        let root = |pid: u32, ppid: u32, comm: &str, args: String| Process {
            pid,
            ppid,
            user: "root".into(),
            tty: "?".into(),
            comm: comm.into(),
            args: args.into_bytes(),
            start: s.started,
            vsz: 17_740,
            rss: 11_020,
            state: "Ss".into(),
            exe: b"/usr/sbin/sshd".to_vec(),
            ..Process::default()
        };
        let user = &s.user;
        match s.via {
            Via::Ssh => {
                let shown = if s.tty.is_some() { format!("sshd: {user}@{}", s.tty_name) } else { format!("sshd: {user}@notty") };
                if s.who.uid == 0 {
                    all.push(root(s.pid - 7, listener, "sshd", shown));
                } else {
                    all.push(root(s.pid - 9, listener, "sshd", format!("sshd: {user} [priv]")));
                    let mut child = root(s.pid - 7, s.pid - 9, "sshd", shown);
                    (child.uid, child.user, child.state) = (s.who.uid, user.clone(), "S".into());
                    (child.vsz, child.rss) = (18_000, 6_760);
                    all.push(child);
                }
                let manager = Process {
                    pid: s.pid - 5,
                    ppid: 1,
                    uid: s.who.uid,
                    user: user.clone(),
                    tty: "?".into(),
                    comm: "systemd".into(),
                    args: b"/lib/systemd/systemd --user".to_vec(),
                    start: s.started,
                    vsz: 18_920,
                    rss: 10_500,
                    state: "Ss".into(),
                    exe: b"/usr/lib/systemd/systemd".to_vec(),
                    ..Process::default()
                };
                all.push(Process {
                    pid: s.pid - 4,
                    ppid: s.pid - 5,
                    comm: "(sd-pam)".into(),
                    args: b"(sd-pam)".to_vec(),
                    vsz: 103_100,
                    rss: 3_030,
                    state: "S".into(),
                    ..manager.clone()
                });
                all.push(manager);
            }
            Via::Telnet => {
                let inetd = all.iter().find(|p| p.comm.contains("inetd")).map_or(1, |p| p.pid);
                let mut daemon = root(s.pid - 2, inetd, "telnetd", "telnetd".to_owned());
                (daemon.vsz, daemon.rss) = (3_920, 2_240);
                all.push(daemon);
                let mut login = root(s.pid - 1, s.pid - 2, "login", format!("/bin/login -p -h {}", s.client.peer.ip()));
                (login.vsz, login.rss, login.tty) = (5_180, 4_020, s.tty_name.clone());
                all.push(login);
            }
        }
        let parent = if s.via == Via::Ssh { s.pid - 7 } else { s.pid - 1 };
        all.push(Process {
            pid: s.pid,
            ppid: parent,
            uid: s.who.uid,
            user: user.clone(),
            tty: s.tty_name.clone(),
            comm: "bash".into(),
            args: if interactive { b"-bash".to_vec() } else { b"bash -c".to_vec() },
            start: s.started,
            vsz: 7_200,
            rss: 3_920,
            state: "Ss".into(),
            exe: b"/usr/bin/bash".to_vec(),
            ..Process::default()
        });
        all.sort_by_key(|p| p.pid);
        all
    }

    fn greeting(&self, login: &Login, last: Option<(i64, IpAddr)>, now: i64) -> Vec<u8> {
        let mut text = format!("{}\n", self.uname().replacen("Linux ", &format!("Linux {} ", self.spec.hostname), 1));
        if let Some(super::fs::Kind::File(super::fs::Content::Bytes(motd))) = self.base.get(b"/etc/motd").map(|n| n.kind.clone()) {
            text.push_str(&String::from_utf8_lossy(&motd));
        }
        let (at, from) = last.map_or_else(|| self.earlier_login(now, 0), |(at, from)| (at, from.to_string()));
        let when = String::from_utf8_lossy(&time::format(b"%a %b %e %H:%M:%S %Y", at, 0)).into_owned();
        match login.via {
            Via::Ssh => text.push_str(&format!("Last login: {when} from {from}\n")),
            Via::Telnet => text.push_str(&format!(
                "Last login: {} from {from} on pts/0\n",
                String::from_utf8_lossy(&time::format(b"%a %b %e %H:%M:%S UTC %Y", at, 0))
            )),
        }
        text.into_bytes()
    }

    /// The n-th latest login of the pretended owner: when, and from where.
    pub(super) fn earlier_login(&self, now: i64, n: u64) -> (i64, String) {
        let f = &self.facts;
        let mut day = now.div_euclid(86_400);
        let mut left = n;
        for _ in 0..400 {
            day -= 1;
            let mut rng = Rng::new(&f.seed, &day.to_le_bytes());
            if rng.range(0, 5) == 0 {
                if left == 0 {
                    let [a, b, c, _] = f.v4.octets();
                    let host = Rng::new(&f.seed, b"owner").range(20, 200);
                    return (day * 86_400 + rng.range(25_000, 70_000) as i64, format!("{a}.{b}.{c}.{host}"));
                }
                left -= 1;
            }
        }
        (f.installed + 3_600, f.gateway.to_string())
    }
}

impl Sources {
    /// Forgets the least recently used sources, never the one at work.
    fn shrink(&mut self, keep: IpAddr) {
        while self.map.len() > limits::SOURCES || self.bytes > limits::TOTAL_BYTES {
            let oldest = self.map.iter().filter(|(k, _)| **k != keep).min_by_key(|(_, s)| s.used).map(|(k, _)| *k);
            let Some(state) = oldest.and_then(|k| self.map.remove(&k)) else { return };
            self.bytes = self.bytes.saturating_sub(state.bytes);
            self.evicted += 1;
        }
    }
}

fn environment(state: &mut State, login: &Login, tty: &str, home: &str, shell: &str, uid: u32) {
    let path = if uid == 0 {
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    } else if login.interactive {
        "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
    } else {
        "/usr/local/bin:/usr/bin:/bin:/usr/games"
    };
    let (peer, local) = (login.client.peer, login.client.local);
    for (name, value) in [
        ("SHELL", shell.to_owned()),
        ("PWD", home.to_owned()),
        ("LOGNAME", login.user.clone()),
        ("HOME", home.to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("USER", login.user.clone()),
        ("SHLVL", "1".to_owned()),
        ("PATH", path.to_owned()),
        ("_", "/usr/bin/env".to_owned()),
    ] {
        state.export(name.as_bytes(), value);
    }
    if login.via == Via::Ssh {
        for (name, value) in [
            ("XDG_SESSION_TYPE", "tty".to_owned()),
            ("XDG_SESSION_CLASS", "user".to_owned()),
            ("XDG_SESSION_ID", (state.pid % 400 + 3).to_string()),
            ("XDG_RUNTIME_DIR", format!("/run/user/{uid}")),
            ("DBUS_SESSION_BUS_ADDRESS", format!("unix:path=/run/user/{uid}/bus")),
            ("SSH_CLIENT", format!("{} {} {}", peer.ip(), peer.port(), local.port())),
            ("SSH_CONNECTION", format!("{} {} {} {}", peer.ip(), peer.port(), local.ip(), local.port())),
        ] {
            state.export(name.as_bytes(), value);
        }
    }
    if let Some(t) = &login.tty {
        state.export(b"TERM", t.term.clone());
        if login.via == Via::Ssh {
            state.export(b"SSH_TTY", format!("/dev/{tty}"));
        }
        state.set(b"COLUMNS", t.columns.to_string());
        state.set(b"LINES", t.rows.to_string());
    }
    for (name, value) in [
        ("BASH", "/bin/bash"),
        ("BASH_VERSION", "5.2.15(1)-release"),
        ("HOSTTYPE", "x86_64"),
        ("MACHTYPE", "x86_64-pc-linux-gnu"),
        ("OSTYPE", "linux-gnu"),
        ("IFS", " \t\n"),
        ("OPTIND", "1"),
        ("OPTERR", "1"),
        ("PS4", "+ "),
    ] {
        state.set(name.as_bytes(), value);
    }
    if login.interactive {
        let title = login.tty.as_ref().is_some_and(|t| t.term.starts_with("xterm") || t.term.starts_with("rxvt")) && uid >= 1000;
        let color = login.tty.as_ref().is_some_and(|t| t.term.ends_with("-256color") || t.term == "xterm-color") && uid >= 1000;
        let body = if color {
            r"${debian_chroot:+($debian_chroot)}\[\033[01;32m\]\u@\h\[\033[00m\]:\[\033[01;34m\]\w\[\033[00m\]\$ "
        } else {
            r"${debian_chroot:+($debian_chroot)}\u@\h:\w\$ "
        };
        let head = if title { r"\[\e]0;${debian_chroot:+($debian_chroot)}\u@\h: \w\a\]" } else { "" };
        for (name, value) in [
            ("PS1", format!("{head}{body}")),
            ("PS2", "> ".to_owned()),
            ("HISTFILE", format!("{home}/.bash_history")),
            ("HISTSIZE", if uid == 0 { "500" } else { "1000" }.to_owned()),
            ("HISTFILESIZE", if uid == 0 { "500" } else { "2000" }.to_owned()),
        ] {
            state.set(name.as_bytes(), value);
        }
    }
}

struct Pending {
    text: Vec<u8>,
    stdin: Vec<u8>,
    shown: (usize, usize),
    now_ns: i64,
    took: Duration,
    before: Box<State>,
    reported: usize,
}

/// One shell of one session.
pub struct Shell {
    machine: Arc<Machine>,
    session: Session,
    state: State,
    overlay: Arc<Mutex<Overlay>>,
    partial: Vec<u8>,
    pending: Option<Pending>,
    greeting: Vec<u8>,
    ended: bool,
}

impl Drop for Shell {
    fn drop(&mut self) {
        if self.session.tty.is_some() {
            self.machine.leave(self.session.client.peer.ip());
        }
    }
}

impl Shell {
    /// What is printed between the login and the first prompt: kernel line, message of the day, last login.
    pub fn greeting(&self) -> &[u8] {
        &self.greeting
    }

    /// Runs one line, or one `bash -c` command. A call while [`Ran::waiting`] stood gives that command up first.
    pub fn run(&mut self, line: &[u8], stdin: Input<'_>, now_ns: i64) -> Ran {
        self.pending = None;
        let room = limits::SOURCE.saturating_sub(self.partial.len() + 1);
        let cut = line.len() > room;
        let line = line.get(..line.len().min(room)).unwrap_or_default();
        let mut text = std::mem::take(&mut self.partial);
        if !text.is_empty() {
            text.push(b'\n');
        }
        text.extend(line.iter().copied().filter(|b| *b != 0));
        if self.state.interactive && !cut {
            let mut lex = Lexer::new(&text, true);
            loop {
                match parser::unit(&mut lex) {
                    Ok(Some(_)) => {}
                    Err(Fault::End(_)) => {
                        self.partial = text;
                        return Ran { needs_more: true, known: true, ..Ran::default() };
                    }
                    _ => break,
                }
            }
            self.remember(&text);
        }
        let before = (!stdin.eof).then(|| Box::new(self.state.clone()));
        let mut stdin_bytes = stdin.bytes.to_vec();
        stdin_bytes.truncate(limits::PIPE);
        let mut ran = self.execute(&text, &stdin_bytes, stdin.eof, now_ns);
        ran.cut |= cut;
        self.after(&mut ran, before, text, stdin_bytes, now_ns);
        ran
    }

    /// Continues a run that waits: `more` bytes of standard input, and whether it ended. Without a waiting run nothing happens.
    pub fn input(&mut self, more: &[u8], eof: bool, now_ns: i64) -> Ran {
        let Some(mut pending) = self.pending.take() else { return Ran { known: true, ..Ran::default() } };
        let room = limits::PIPE.saturating_sub(pending.stdin.len());
        pending.stdin.extend_from_slice(more.get(..more.len().min(room)).unwrap_or_default());
        let eof = eof || more.len() > room;
        // A long input is worked on when it doubles or ends, so that many small pieces do not cost the square.
        if !eof && pending.stdin.len() > 16_384 && pending.stdin.len() < pending.reported * 2 {
            let ran = Ran { waiting: Some(super::api::Waiting::Line), known: true, ..Ran::default() };
            self.pending = Some(pending);
            return ran;
        }
        // The same run again, with more input: everything up to the point it waited at repeats exactly.
        self.state = (*pending.before).clone();
        let mut ran = self.execute(&pending.text, &pending.stdin, eof, pending.now_ns);
        let (out, err) = (ran.stdout.len(), ran.stderr.len());
        ran.stdout.drain(..pending.shown.0.min(out));
        ran.stderr.drain(..pending.shown.1.min(err));
        ran.took = ran.took.saturating_sub(pending.took);
        let _ = now_ns;
        if ran.waiting.is_some() {
            pending.shown = (out, err);
            pending.took += ran.took;
            pending.reported = pending.stdin.len();
            self.pending = Some(pending);
        }
        ran
    }

    fn after(&mut self, ran: &mut Ran, before: Option<Box<State>>, text: Vec<u8>, stdin: Vec<u8>, now_ns: i64) {
        if let (Some(_), Some(before)) = (ran.waiting, before) {
            self.pending = Some(Pending {
                text,
                reported: stdin.len(),
                stdin,
                shown: (ran.stdout.len(), ran.stderr.len()),
                now_ns,
                took: ran.took,
                before,
            });
        }
    }

    /// Interrupt (^C): drops an unfinished line or a waiting command.
    pub fn interrupt(&mut self, _now_ns: i64) -> Ran {
        self.partial.clear();
        self.pending = None;
        self.state.last = 130;
        Ran { exit: 130, known: true, ..Ran::default() }
    }

    /// Whether an unfinished line is open, so that [`Shell::prompt`] gives the second prompt.
    pub fn continues(&self) -> bool {
        !self.partial.is_empty()
    }

    /// The terminal's size changed.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        if let Some(tty) = &mut self.session.tty {
            (tty.columns, tty.rows) = (columns, rows);
            self.state.set(b"COLUMNS", columns.to_string());
            self.state.set(b"LINES", rows.to_string());
        }
    }

    /// Sets an environment variable the client sent (`LANG`, `LC_*`; others are refused as sshd's `AcceptEnv` does).
    pub fn set_env(&mut self, name: &str, value: &[u8]) -> bool {
        let ok = (name == "LANG" || name.starts_with("LC_"))
            && name.len() < 64
            && value.len() < 1_024
            && super::shell::lexer::valid_name(name.as_bytes());
        if ok {
            self.state.export(name.as_bytes(), value);
        }
        ok
    }

    fn remember(&mut self, text: &[u8]) {
        let control = self.state.text("HISTCONTROL");
        if text.iter().all(u8::is_ascii_whitespace)
            || !self.state.vars.contains_key(b"HISTFILE".as_slice()) && self.state.text("HISTSIZE") == b"0"
        {
            return;
        }
        if text.first() == Some(&b' ') && control.starts_with(b"ignore") {
            return;
        }
        let history = Arc::make_mut(&mut self.state.history);
        history.push_back(text.iter().copied().take(4_096).collect());
        while history.len() > limits::HISTORY {
            history.pop_front();
        }
    }

    fn execute(&mut self, text: &[u8], stdin: &[u8], eof: bool, now_ns: i64) -> Ran {
        if self.ended {
            return Ran { logout: true, known: true, exit: self.state.last, ..Ran::default() };
        }
        let mut overlay = self.overlay.lock().unwrap_or_else(PoisonError::into_inner);
        // A run that waits is undone and repeated with more input; meanwhile the lock keeps other sessions of this source out.
        let snapshot = (!eof).then(|| overlay.clone());
        let procs = ProcView {
            list: Arc::clone(&self.session.processes),
            own: self.session.pid,
            cwd: self.state.cwd.clone(),
            tty: if self.session.tty.is_some() { format!("/dev/{}", self.session.tty_name).into_bytes() } else { Vec::new() },
        };
        let fs = Fs {
            base: &self.machine.base,
            over: &mut overlay,
            procs,
            now: (now_ns.div_euclid(1_000_000_000), now_ns.rem_euclid(1_000_000_000) as u32),
        };
        let mut exec = Exec::new(&self.machine, &self.session, fs, now_ns, Arc::new(stdin.to_vec()), eof);
        let io = exec.initial(&self.state);
        let mut status = exec.source(&mut self.state, io, text);
        let mut ran = Ran { known: !exec.unknown, waiting: exec.waiting, cut: exec.cut, ..Ran::default() };
        match exec.flow {
            Flow::Exit => {
                ran.logout = true;
                status = exec.leave(&mut self.state, io, status);
            }
            Flow::Stop if exec.cut => status = 137,
            _ => {}
        }
        if !self.state.interactive && ran.waiting.is_none() {
            if exec.flow == Flow::None && !ran.logout {
                status = exec.leave(&mut self.state, io, status);
            }
            ran.logout = true;
        }
        if exec.cut && exec.flow == Flow::Stop && ran.waiting.is_none() {
            exec.flow = Flow::None;
            exec.complain(&self.state, io, "Killed");
        }
        if ran.waiting.is_none() {
            self.state.last = status;
        }
        let forks = exec.forks;
        ran.exit = status & 0xff;
        ran.took = Duration::from_nanos(exec.took_ns.unsigned_abs());
        ran.files_written = written(&mut exec);
        ran.downloads = std::mem::take(&mut exec.downloads);
        ran.executed = std::mem::take(&mut exec.executed);
        ran.stdout = std::mem::take(&mut exec.out);
        ran.stderr = std::mem::take(&mut exec.err);
        drop(exec);
        self.session.forks = self.session.forks.wrapping_add(forks) % 100_000;
        if ran.waiting.is_some()
            && let Some(snapshot) = snapshot
        {
            *overlay = snapshot;
            ran.files_written.clear();
            ran.downloads.clear();
            ran.executed.clear();
        }
        let bytes = overlay.bytes();
        drop(overlay);
        self.machine.account_bytes(self.session.client.peer.ip(), bytes);
        self.ended = ran.logout;
        ran
    }

    /// Candidates for the word at the end of `before`: file names, or command names at the start.
    pub fn complete(&self, before: &[u8]) -> Completion {
        let start =
            before.iter().rposition(|b| matches!(b, b' ' | b'\t' | b';' | b'|' | b'&' | b'>' | b'<' | b'(' | b'=')).map_or(0, |p| p + 1);
        let word = before.get(start..).unwrap_or_default();
        let command = before.get(..start).unwrap_or_default().trim_ascii_end();
        let first = matches!(command.last(), None | Some(b';' | b'|' | b'&' | b'('));
        let mut overlay = self.overlay.lock().unwrap_or_else(PoisonError::into_inner);
        let fs = Fs { base: &self.machine.base, over: &mut overlay, procs: ProcView::default(), now: (0, 0) };
        let mut words: Vec<Vec<u8>> = Vec::new();
        if first && !word.contains(&b'/') {
            if word.is_empty() {
                return Completion::default();
            }
            for dir in [b"/usr/sbin".as_slice(), b"/usr/bin"] {
                words.extend(fs.list(dir).into_iter().map(|(n, _)| n).filter(|n| n.starts_with(word)));
            }
            words.extend(super::builtins::names().filter(|n| n.as_bytes().starts_with(word)).map(|n| n.as_bytes().to_vec()));
            words.sort();
            words.dedup();
        } else {
            let cut = word.iter().rposition(|b| *b == b'/').map_or(0, |p| p + 1);
            let (dir, name) = word.split_at_checked(cut).unwrap_or((b"", word));
            let mut look = if dir.is_empty() { b".".to_vec() } else { dir.to_vec() };
            if look.starts_with(b"~/") {
                look = [self.state.home.as_slice(), look.get(1..).unwrap_or_default()].concat();
            }
            if let Ok((real, node)) = fs.stat(&self.state.cwd, &look, true)
                && node.is_dir()
                && fs.may(&self.state.who, &node, 4)
            {
                for (entry, node) in fs.list(&real) {
                    if entry.starts_with(name) && (!name.is_empty() || entry.first() != Some(&b'.')) {
                        let is_dir = node.is_dir() || fs.stat(&real, &entry, true).is_ok_and(|(_, n)| n.is_dir());
                        words.push([dir, &entry, if is_dir { b"/".as_slice() } else { b"" }].concat());
                    }
                }
            }
        }
        words.truncate(1_000);
        Completion { replace: word.len(), words }
    }

    /// The prompt to show; the second one while a line is unfinished.
    pub fn prompt(&self) -> Vec<u8> {
        if !self.partial.is_empty() {
            return self.state.text("PS2");
        }
        super::prompt::render(&self.state, &self.machine.spec.hostname, &self.state.text("PS1"))
    }
}

fn written(exec: &mut Exec<'_>) -> Vec<WrittenFile> {
    let mut all = std::mem::take(&mut exec.removed);
    let touched: Vec<(Vec<u8>, How)> = std::mem::take(&mut exec.touched).into_iter().collect();
    for (path, how) in touched {
        if let Ok(content) = exec.read_path(&path) {
            all.push(WrittenFile { path, content, how, removed: false });
        }
    }
    all
}
