//! Real clients visiting a decoy. Each call returns how many TCP connections the client opened that
//! are not opened inside another (an FTP data connection is inside its control connection).

use crate::process::{Daemon, run, run_ok};
use crate::world::World;
use anyhow::{Context as _, ensure};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A visitor in net `net` of `world`.
pub struct Visitor<'a> {
    world: &'a World,
    net: usize,
}

const SSH_OPTIONS: [&str; 12] = [
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
    "-o",
    "PreferredAuthentications=password",
    "-o",
    "NumberOfPasswordPrompts=1",
    "-o",
    "IdentityAgent=none",
];

impl<'a> Visitor<'a> {
    /// The visitor of net `net`.
    pub fn new(world: &'a World, net: usize) -> Self {
        Self { world, net }
    }

    fn program(&self, name: &str) -> crate::Result<Command> {
        self.world.visitor(self.net, name)
    }

    /// Address of the decoy.
    pub fn decoy(&self) -> crate::Result<String> {
        Ok(self.world.nodes.get(self.net).context("no such net")?.decoy.to_string())
    }

    fn ssh(&self, password: &str, user: &str, words: &[&str]) -> crate::Result<Command> {
        let mut command = self.program("sshpass")?;
        command.args(["-p", password, "ssh", "-F", "none"]).args(SSH_OPTIONS);
        command.args(["-p", &self.world.port(22).to_string()]).args(words).arg(format!("{user}@{}", self.decoy()?));
        Ok(command)
    }

    /// One wrong password; the client must be refused.
    pub fn ssh_wrong(&self, user: &str, password: &str) -> crate::Result<usize> {
        let mut command = self.ssh(password, user, &[])?;
        command.arg("true");
        let output = run(command, None, LIMIT)?;
        ensure!(!output.status.success(), "a wrong password was accepted");
        Ok(1)
    }

    /// Runs one command; returns its output.
    pub fn ssh_exec(&self, user: &str, password: &str, line: &str, input: Option<&[u8]>) -> crate::Result<(usize, Vec<u8>)> {
        let mut command = self.ssh(password, user, &[])?;
        command.arg(line);
        let output = run(command, input, LIMIT)?;
        ensure!(
            output.status.code() != Some(255) && output.status.code() != Some(5),
            "ssh failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok((1, output.stdout))
    }

    /// Types lines into an interactive shell on a pseudo-terminal of its own.
    pub fn ssh_interactive(&self, user: &str, password: &str, lines: &[&str]) -> crate::Result<(usize, String)> {
        let ssh = self.ssh(password, user, &["-tt"])?;
        let words: Vec<String> =
            std::iter::once(ssh.get_program()).chain(ssh.get_args()).map(|word| shell_quote(&word.to_string_lossy())).collect();
        let mut command = Command::new("script");
        command.args(["-qec", &words.join(" "), "/dev/null"]);
        let typed: String = lines.iter().map(|line| format!("{line}\r")).collect();
        let output = run(command, Some(typed.as_bytes()), LIMIT)?;
        Ok((1, String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Fetches a path of the decoy's web server through a forward of its SSH server.
    pub fn http_through_ssh(&self, user: &str, password: &str, path: &str) -> crate::Result<usize> {
        let local = crate::world::free_port()?;
        let decoy = self.decoy()?;
        let forward = format!("127.0.0.1:{local}:{decoy}:80");
        let mut ssh = self.ssh(password, user, &["-N", "-o", "ExitOnForwardFailure=yes", "-L", &forward])?;
        ssh.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut tunnel = Tunnel(ssh.spawn().context("starting ssh -L")?);
        let url = format!("http://127.0.0.1:{local}{path}");
        let said = crate::process::until("an answer through the tunnel", LIMIT, || {
            let mut curl = self.program("curl").ok()?;
            curl.args([
                "-sS",
                "--noproxy",
                "*",
                "--max-time",
                "20",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "-H",
                &format!("Host: {decoy}"),
                &url,
            ]);
            run(curl, None, LIMIT).ok().filter(|output| output.status.success())
        });
        let alive = matches!(tunnel.0.try_wait(), Ok(None));
        drop(tunnel);
        said.with_context(|| format!("ssh -L is {}", if alive { "still there" } else { "gone" }))?;
        Ok(1)
    }

    /// Fetches a URL path; returns the body.
    pub fn http(&self, tls: bool, path: &str, extra: &[&str]) -> crate::Result<(usize, Vec<u8>)> {
        let mut command = self.program("curl")?;
        let (scheme, port) = if tls { ("https", 443) } else { ("http", 80) };
        command.args(["-sS", "-k", "--noproxy", "*", "--max-time", "20"]).args(extra);
        command.arg(format!("{scheme}://{}:{}{path}", self.decoy()?, self.world.port(port)));
        let output = run(command, None, LIMIT)?;
        ensure!(output.status.success(), "curl {path}: {}", String::from_utf8_lossy(&output.stderr));
        Ok((1, output.stdout))
    }

    /// Uploads a file by FTP and fetches it again; returns what came back.
    pub fn ftp(&self, user: &str, password: &str, file: &Path, back: &Path) -> crate::Result<usize> {
        let name = file.file_name().context("file name")?.to_string_lossy().into_owned();
        let mut command = self.program("lftp")?;
        let script = format!(
            "set ftp:ssl-allow no; set ftp:prefer-epsv no; set net:max-retries 1; set net:timeout 20; set net:reconnect-interval-base 1; \
             set ftp:use-feat no; set cmd:fail-exit yes; open -u {user},{} -p {} {}; ls; put {} -o {name}; get {name} -o {}; bye",
            shell_quote(password),
            self.world.port(21),
            self.decoy()?,
            shell_quote(&file.to_string_lossy()),
            shell_quote(&back.to_string_lossy()),
        );
        command.args(["--norc", "-c", &script]);
        run_ok(command, None, LIMIT)?;
        Ok(1)
    }

    /// Asks the name server; TCP connections opened and what dig printed.
    pub fn dig(&self, words: &[&str]) -> crate::Result<(usize, String)> {
        let mut command = self.program("dig")?;
        let tcp = words.iter().any(|word| word.eq_ignore_ascii_case("axfr") || *word == "+tcp");
        command.args(["+time=5", "+tries=1", "-p", &self.world.port(53).to_string(), &format!("@{}", self.decoy()?)]).args(words);
        Ok((usize::from(tcp), run_ok(command, None, LIMIT)?))
    }

    /// Connects, says nothing, closes.
    pub fn silent(&self, port: u16) -> crate::Result<usize> {
        let mut command = self.program("bash")?;
        command.args(["-c", &format!("exec 3<>/dev/tcp/{}/{}; exec 3>&-", self.decoy()?, self.world.port(port))]);
        run_ok(command, None, LIMIT)?;
        Ok(1)
    }

    /// A long-running program of the visitor.
    pub fn background(&self, name: &str, words: &[&str], log: &Path) -> crate::Result<Daemon> {
        let mut command = self.program(name)?;
        command.args(words);
        Daemon::start(name, command, log)
    }
}

/// An `ssh -L`, ended politely when dropped so that the server sees it close.
struct Tunnel(std::process::Child);

impl Drop for Tunnel {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap_or(0)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

fn shell_quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
