//! The types a service meets.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// Which operating system a machine pretends to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OsProfile {
    /// Debian GNU/Linux 12 (bookworm), amd64, a plain server install.
    Debian12,
}

/// One account of the pretended machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory, absolute.
    pub home: String,
    /// Login shell, absolute.
    pub shell: String,
    /// The comment field of `/etc/passwd`.
    pub gecos: String,
}

/// One extra file of the pretended machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// Absolute path; missing parents are made.
    pub path: String,
    /// What it holds.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Name of its owner; `root` when unknown.
    pub owner: String,
}

/// What a machine is made from.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    /// Host name without domain.
    pub hostname: String,
    /// Domain, may be empty.
    pub domain: String,
    /// Operating system.
    pub os: OsProfile,
    /// The decoy's own addresses, as visitors reach it.
    pub addresses: Vec<IpAddr>,
    /// Hardware address of its interface.
    pub mac: [u8; 6],
    /// Accounts beside the distribution's system accounts; `root` is added when missing.
    pub accounts: Vec<Account>,
    /// All that is not given is drawn from here.
    pub seed: [u8; 32],
    /// Extra files.
    pub files: Vec<Extra>,
    /// Listening TCP ports and the process that holds each, as `ss` and `ps` show them.
    pub services: Vec<(u16, String)>,
    /// The SSH software version of the banner, such as `OpenSSH_9.2p1 Debian-2+deb12u7`; `ssh -V` and `dpkg -l` agree with it.
    pub ssh_version: String,
}

/// The terminal a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tty {
    /// `TERM`.
    pub term: String,
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The visitor's address and port.
    pub peer: SocketAddr,
    /// The decoy's address and port it reached.
    pub local: SocketAddr,
}

/// Which service let the visitor in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// sshd.
    Ssh,
    /// telnetd and login.
    Telnet,
}

/// How a session begins.
#[derive(Clone, Debug)]
pub struct Login {
    /// Account name; an unknown one gets `/` as home and its own name, as after a login that should not have worked.
    pub user: String,
    /// Both ends of the connection.
    pub client: Client,
    /// Which service it is.
    pub via: Via,
    /// The terminal, if one was asked for.
    pub tty: Option<Tty>,
    /// `true` for a login shell that reads lines, `false` for one command (an exec channel, `bash -c`).
    pub interactive: bool,
    /// Wall time in nanoseconds since 1970, UTC.
    pub now_ns: i64,
}

/// What is known of a command's standard input.
#[derive(Clone, Copy, Debug, Default)]
pub struct Input<'a> {
    /// Bytes that have arrived.
    pub bytes: &'a [u8],
    /// Whether the end was reached; if not, a command that reads further makes the run wait ([`Ran::waiting`]).
    pub eof: bool,
}

/// How a file came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By a shell redirection.
    Redirect,
    /// By the named command.
    Command(&'static str),
}

/// A file the visitor wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFile {
    /// Absolute path.
    pub path: Vec<u8>,
    /// All of it as it was at the end of the run, or just before it was removed.
    pub content: Arc<Vec<u8>>,
    /// What wrote it last.
    pub how: How,
    /// Whether the same run removed it again.
    pub removed: bool,
}

/// Something the visitor tried to fetch; nothing is ever fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// The address as given, with a scheme.
    pub url: Vec<u8>,
    /// The command that was to fetch it.
    pub tool: &'static str,
}

/// A file the visitor tried to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Absolute path.
    pub path: Vec<u8>,
    /// What it holds.
    pub content: Arc<Vec<u8>>,
}

/// Why a run is not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A command reads standard input.
    Line,
    /// A command asks for a secret: the terminal must not echo.
    Secret,
}

/// The outcome of [`Shell::run`](super::Shell::run) and [`Shell::input`](super::Shell::input).
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// Standard output; on a terminal everything, in order.
    pub stdout: Vec<u8>,
    /// Standard error; empty on a terminal.
    pub stderr: Vec<u8>,
    /// Exit status of the last command.
    pub exit: i32,
    /// `false` if some command was not found.
    pub known: bool,
    /// The shell ended (`exit`, `logout`, `exec`).
    pub logout: bool,
    /// The line is unfinished (quote, here-document, `if`): send the next line to [`Shell::run`](super::Shell::run); the prompt is `> `.
    pub needs_more: bool,
    /// A command waits for standard input: send it to [`Shell::input`](super::Shell::input).
    pub waiting: Option<Waiting>,
    /// How long this would have taken on a real machine.
    pub took: Duration,
    /// Files written.
    pub files_written: Vec<WrittenFile>,
    /// Fetches tried.
    pub downloads: Vec<Download>,
    /// Visitor files run.
    pub executed: Vec<Executed>,
    /// A bound of [`limits`](super::limits) ended the run.
    pub cut: bool,
}

/// Counts of what is kept for sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverlayStats {
    /// Sources with kept files.
    pub sources: usize,
    /// Bytes kept.
    pub bytes: usize,
    /// Sources forgotten to stay within the bounds.
    pub evicted: u64,
}
