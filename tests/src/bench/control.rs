//! The controls: the least that could answer the same visitors, each a process of its own so that its
//! CPU time and memory are read the same way as the subject's. They record nothing.

use crate::process::{Daemon, binary};
use anyhow::Context as _;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::server;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Name of the listener without a product behind it.
pub(super) const TOKIO: &str = "bare tokio";
/// Name of the SSH server without a product behind it.
pub(super) const RUSSH: &str = "bare russh";

/// One kind of control.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialogue {
    /// Its name on the command line.
    pub(super) name: &'static str,
    /// Sent at once.
    greeting: &'static str,
    /// What ends each thing the visitor says.
    end: &'static str,
    /// What is answered to each.
    answers: &'static [&'static str],
    /// The visitor is sent away after the last answer.
    close: bool,
}

/// What bare listeners can say.
pub(super) static DIALOGUES: [Dialogue; 5] = [
    Dialogue { name: "silent", greeting: "", end: "\n", answers: &[], close: false },
    Dialogue { name: "banner", greeting: "220 (vsFTPd 3.0.3)\r\n", end: "\n", answers: &[], close: false },
    Dialogue {
        name: "ftp",
        greeting: "220 (vsFTPd 3.0.3)\r\n",
        end: "\n",
        answers: &["331 Please specify the password.\r\n", "230 Login successful.\r\n", "221 Goodbye.\r\n"],
        close: true,
    },
    Dialogue { name: "telnet", greeting: "web-01 login: ", end: "\r\0", answers: &["Password: ", "\r\nLogin incorrect\r\n"], close: false },
    Dialogue {
        name: "http",
        greeting: "",
        end: "\r\n\r\n",
        answers: &[
            "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/html\r\nContent-Length: 20\r\nConnection: close\r\n\r\n<html>welcome</html>",
        ],
        close: true,
    },
];

/// A running control.
pub(super) struct Control {
    /// Where it listens.
    pub(super) address: SocketAddr,
    daemon: Daemon,
}

impl Control {
    /// Starts `glasshive-lab bench-worker WORKER ARGUMENT` and waits for its address; `dir` gets its log.
    pub(super) fn start(worker: &str, argument: &str, dir: &Path) -> crate::Result<Self> {
        let mut command = Command::new(binary("glasshive-lab")?);
        command.args(["bench-worker", worker, argument]);
        let log = dir.join(format!("{worker}-{argument}.log"));
        // What an earlier one said would be taken for this one's.
        let _ = std::fs::remove_file(&log);
        let mut daemon = Daemon::start(worker, command, &log)?;
        daemon.wait_for("listening on ", crate::world::LIMIT)?;
        let said = daemon.output();
        let address = said.lines().rev().find_map(|line| line.strip_prefix("listening on ")?.parse().ok());
        Ok(Self { address: address.with_context(|| format!("{worker} said no address: {said}"))?, daemon })
    }

    /// Its processes.
    pub(super) fn tree(&self) -> super::tree::Tree {
        super::tree::Tree(self.daemon.pid())
    }
}

/// `bench-worker tokio DIALOGUE`
pub(super) fn tokio_worker(arguments: &[String]) -> crate::Result<()> {
    let name = arguments.first().map_or("", String::as_str);
    let dialogue = DIALOGUES.iter().find(|dialogue| dialogue.name == name).with_context(|| format!("no dialogue {name:?}"))?;
    serve(move |stream| async move {
        // A visitor who leaves early is no fault of ours.
        let _ = talk(stream, dialogue).await;
    })
}

async fn talk(mut stream: TcpStream, dialogue: &Dialogue) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(dialogue.greeting.as_bytes()).await?;
    let mut heard = Vec::new();
    for answer in dialogue.answers {
        loop {
            if let Some(at) = heard.windows(dialogue.end.len()).position(|window| window == dialogue.end.as_bytes()) {
                heard.drain(..at + dialogue.end.len());
                break;
            }
            if heard.len() > 16 * 1024 || stream.read_buf(&mut heard).await? == 0 {
                return Ok(());
            }
        }
        stream.write_all(answer.as_bytes()).await?;
    }
    if dialogue.close {
        stream.shutdown().await?;
    }
    let mut rest = [0; 256];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// `bench-worker russh -`
pub(super) fn russh_worker(_: &[String]) -> crate::Result<()> {
    let config = Arc::new(server::Config {
        keys: vec![PrivateKey::from(Ed25519Keypair::from_seed(&[42; 32]))],
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        inactivity_timeout: None,
        ..server::Config::default()
    });
    serve(move |stream| {
        let config = Arc::clone(&config);
        async move {
            if let Ok(session) = server::run_stream(config, stream, Refusing).await {
                let _ = session.await;
            }
        }
    })
}

/// Refuses every password: what russh does when nobody says otherwise.
struct Refusing;

impl server::Handler for Refusing {
    type Error = russh::Error;
}

/// Accepts until killed.
fn serve<F, V>(visit: F) -> crate::Result<()>
where
    F: Fn(TcpStream) -> V,
    V: Future<Output = ()> + Send + 'static,
{
    super::raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let listener: TcpListener = socket.listen(4096)?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(visit(stream));
        }
    })
}
