//! The task of one channel: a shell, a command, or a forwarded connection. It must never outlive the
//! visitor: everything that waits for a window also watches for his going.

use super::seat::{Event, Queued, Screen, Seat};
use super::visit::Place;
use crate::conn::Conn;
use crate::session::{Direction, Session};
use crate::system::{Client, Login, Shell, Terminal, Tty, Via};
use bytes::Bytes;
use russh::server::Msg;
use russh::{ChannelWriteHalf, Error};
use std::future::Future;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

/// Standard error of a channel.
const STDERR: u32 = 1;

/// What a channel's task works with.
pub(super) struct Task {
    pub(super) session: Session,
    pub(super) user: String,
    /// Variables the visitor sent and sshd accepts.
    pub(super) environment: Vec<(String, String)>,
    pub(super) write: ChannelWriteHalf<Msg>,
    pub(super) events: UnboundedReceiver<Queued>,
    /// Cancelled when the connection is over.
    pub(super) gone: CancellationToken,
    /// The channel's place among those allowed at once.
    pub(super) place: Place,
}

struct ChannelScreen {
    write: ChannelWriteHalf<Msg>,
    gone: CancellationToken,
    _place: Place,
}

impl ChannelScreen {
    async fn sent(&self, sending: impl Future<Output = Result<(), Error>> + Send) -> bool {
        tokio::select! {
            sent = sending => sent.is_ok(),
            () = self.gone.cancelled() => false,
        }
    }

    /// The end of a program, as sshd reports it.
    async fn end(self, status: Option<i32>) {
        if let Some(status) = status {
            self.sent(self.write.exit_status(u32::try_from(status).unwrap_or(255))).await;
            self.sent(self.write.eof()).await;
        }
        self.sent(self.write.close()).await;
    }
}

/// A screen that can be given back when the seat is done.
struct Lent<'a>(&'a ChannelScreen);

impl Screen for Lent<'_> {
    async fn out(&mut self, bytes: Bytes) -> bool {
        self.0.sent(self.0.write.data_bytes(bytes)).await
    }
    async fn error(&mut self, bytes: Bytes) -> bool {
        self.0.sent(self.0.write.extended_data_bytes(STDERR, bytes)).await
    }
}

fn log_in(task: &Task, tty: Option<&Tty>, interactive: bool) -> Option<Shell> {
    let session = &task.session;
    let mut shell = session.decoy().machine()?.login(Login {
        user: task.user.clone(),
        client: Client { peer: session.source(), local: session.local() },
        via: Via::Ssh,
        tty: tty.cloned(),
        interactive,
        now_ns: session.now_ns(),
    });
    for (name, value) in &task.environment {
        shell.set_env(name, value.as_bytes());
    }
    Some(shell)
}

/// A shell: with a terminal it greets and prompts, without one it reads a script.
pub(super) async fn shell(task: Task, tty: Option<Tty>) {
    let channel = task.write.id().number();
    let shell = log_in(&task, tty.as_ref(), true);
    let screen = ChannelScreen { write: task.write, gone: task.gone, _place: task.place };
    let Some(shell) = shell else { return screen.end(Some(1)).await };
    let seat = Seat { session: task.session, channel, role: "shell", shell, screen: Lent(&screen), events: task.events };
    let status = match tty {
        Some(tty) => seat.terminal(Terminal::new(&tty.term, tty.columns, false)).await,
        None => seat.piped().await,
    };
    screen.end(status).await;
}

/// One command.
pub(super) async fn exec(task: Task, tty: Option<Tty>, command: Vec<u8>) {
    let channel = task.write.id().number();
    let shell = log_in(&task, tty.as_ref(), false);
    let screen = ChannelScreen { write: task.write, gone: task.gone, _place: task.place };
    let Some(shell) = shell else { return screen.end(Some(1)).await };
    let seat = Seat { session: task.session, channel, role: "exec", shell, screen: Lent(&screen), events: task.events };
    let terminal = tty.map(|tty| Terminal::new(&tty.term, tty.columns, false));
    let status = seat.exec(&command, terminal).await;
    screen.end(status).await;
}

/// Carries a forwarded connection to the service that answers it in process.
pub(super) async fn forward(mut task: Task, conn: Conn) {
    const ROLE: &str = "tcp";
    let channel = task.write.id().number();
    let screen = ChannelScreen { write: task.write, gone: task.gone, _place: task.place };
    let (mut from, mut to) = tokio::io::split(conn);
    let session = &task.session;
    let outward = async {
        while let Some(queued) = task.events.recv().await {
            match queued {
                (Event::Data(bytes), _) => {
                    session.stream(channel, ROLE, Direction::In, &bytes).await;
                    if to.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                (Event::Eof, _) => {
                    let _ = to.shutdown().await;
                }
                (Event::Resize(..) | Event::Interrupt, _) => {}
            }
        }
        let _ = to.shutdown().await;
    };
    let inward = async {
        let mut buffer = bytes::BytesMut::with_capacity(8 * 1024);
        while let Ok(1..) = tokio::io::AsyncReadExt::read_buf(&mut from, &mut buffer).await {
            let bytes = buffer.split().freeze();
            session.stream(channel, ROLE, Direction::Out, &bytes).await;
            if !screen.sent(screen.write.data_bytes(bytes)).await {
                return;
            }
            buffer.reserve(8 * 1024);
        }
        screen.sent(screen.write.eof()).await;
    };
    tokio::select! {
        () = async { tokio::join!(outward, inward); } => {}
        () = screen.gone.cancelled() => {}
    }
    screen.sent(screen.write.close()).await;
}
