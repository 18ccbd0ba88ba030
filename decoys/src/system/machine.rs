//! The machine all sessions of a decoy share: its files, facts and what it keeps for each source.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    api::{Account, Client, Login, MachineSpec, OsProfile, OverlayStats, Tty, Via},
    facts::{Facts, Rng},
    fs::{Base, Fs, Overlay, Who},
    limits,
    login_shell::Shell,
    proc::{ProcView, Process},
    profile_debian12,
    shell::state::State,
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
            numbered: login.interactive && login.tty.is_none(),
            line: 1,
            first_line: 1,
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
            interactive: login.interactive && login.tty.is_some(),
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
        Shell::start(Arc::clone(self), session, state, overlay, greeting, login.interactive)
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
    pub(super) fn account_bytes(&self, source: IpAddr, bytes: usize) {
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

    pub(super) fn leave(&self, source: IpAddr) {
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
