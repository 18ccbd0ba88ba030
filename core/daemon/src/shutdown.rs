//! Stopping: one signal drains, a second one leaves at once. And telling the service manager.

use std::future::Future;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often a start that lasts says so; each time it asks for four times as long.
const STARTING: Duration = Duration::from_secs(15);
/// For so long: a start that takes longer hangs.
const STARTING_MOST: Duration = Duration::from_secs(3_600);

/// A cheap handle on the process's end.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    requested: CancellationToken,
    forced: CancellationToken,
    tasks: TaskTracker,
}

/// How draining ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every tracked task ended by itself.
    Clean,
    /// The deadline passed; `left` tasks were still running.
    Deadline {
        /// Tasks still running.
        left: usize,
    },
    /// A second signal came; `left` tasks were still running.
    Forced {
        /// Tasks still running.
        left: usize,
    },
}

impl Shutdown {
    /// Nothing requested yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Completes when the end was requested. Tasks select on it and finish what they hold.
    pub async fn requested(&self) {
        self.requested.cancelled().await;
    }

    /// Whether the end was requested.
    pub fn is_requested(&self) -> bool {
        self.requested.is_cancelled()
    }

    /// Requests the end; the second time, at once.
    pub fn request(&self) {
        if self.requested.is_cancelled() {
            self.forced.cancel();
        }
        self.requested.cancel();
    }

    /// A token cancelled with the request, for APIs that take one.
    pub fn token(&self) -> CancellationToken {
        self.requested.child_token()
    }

    /// Starts a task that [`Self::drain`] waits for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// The tracker, for tasks started elsewhere.
    pub fn tracker(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Turns SIGTERM and SIGINT into [`Self::request`], from now on.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn on_signals(&self) -> io::Result<()> {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let this = self.clone();
        // Not tracked: it lives until the process ends.
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    Some(()) = term.recv() => "SIGTERM",
                    Some(()) = int.recv() => "SIGINT",
                    else => return,
                };
                let again = this.is_requested();
                tracing::info!(
                    signal = name,
                    "{}",
                    if again { "stopping at once" } else { "stopping: draining; signal again to leave at once" }
                );
                this.request();
            }
        });
        Ok(())
    }

    /// After a request: waits for the tracked tasks, at most `limit` and not past a second request.
    pub async fn drain(&self, limit: Duration) -> Drained {
        self.tasks.close();
        tokio::select! {
            biased;
            () = self.tasks.wait() => Drained::Clean,
            () = self.forced.cancelled() => Drained::Forced { left: self.tasks.len() },
            () = tokio::time::sleep(limit) => Drained::Deadline { left: self.tasks.len() },
        }
    }
}

/// Tells systemd (`Type=notify`) where the daemon stands. Without `NOTIFY_SOCKET` it does nothing.
///
/// Open it before the lockdown: the socket is kept.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<(UnixDatagram, std::os::unix::net::SocketAddr)>,
    /// How often the manager wants to hear that the daemon is alive: a third of what it waits.
    every: Option<Duration>,
}

impl Notifier {
    /// From `NOTIFY_SOCKET`; trouble with it is logged and then ignored, as it is the manager's.
    pub fn from_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Self::default() };
        match Self::open(&name) {
            Ok(notifier) => Self { every: watchdog(), ..notifier },
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET cannot be used; the service manager will not be told");
                Self::default()
            }
        }
    }

    /// To a path, or an abstract name written with a leading `@`.
    ///
    /// # Errors
    /// When no socket can be made or the name is not an address.
    pub fn open(name: &std::ffi::OsStr) -> io::Result<Self> {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::ffi::OsStrExt as _;
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => std::os::unix::net::SocketAddr::from_abstract_name(rest)?,
            _ => std::os::unix::net::SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some((socket, address)), every: None })
    }

    /// The daemon serves, and this is its state in a few words.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// Starts the daemon: while `start` is not done, asks the manager for another minute again and again, so that
    /// recovering much data is not taken for a start that hangs (`TimeoutStartSec=`). An hour at most.
    pub async fn starting<T>(&self, start: impl Future<Output = T>) -> T {
        let mut start = std::pin::pin!(start);
        let began = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(STARTING);
        loop {
            tokio::select! {
                biased;
                started = &mut start => return started,
                _ = ticks.tick(), if began.elapsed() < STARTING_MOST => {
                    let more = STARTING.saturating_mul(4).as_micros();
                    self.send(&format!("EXTEND_TIMEOUT_USEC={more}\nSTATUS=starting, for {} s now", began.elapsed().as_secs()));
                }
            }
        }
    }

    /// Shown by `systemctl status`.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", one_line(status)));
    }

    /// The daemon drains.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// The main loop: waits until the end was requested, and as often as the manager asks (`WatchdogSec=`)
    /// says that the daemon is alive, each time only after `alive` has answered so. Call it from the
    /// task everything else hangs on, never from one of its own: a stuck daemon must fall silent.
    pub async fn watch<F>(&self, shutdown: &Shutdown, mut alive: impl FnMut() -> F)
    where
        F: Future<Output = bool>,
    {
        let Some(every) = self.every else { return shutdown.requested().await };
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                _ = ticks.tick() => {}
            }
            let answered = tokio::select! {
                () = shutdown.requested() => return,
                answered = tokio::time::timeout(every, alive()) => answered,
            };
            match answered {
                Ok(true) => self.watchdog(),
                Ok(false) => tracing::error!("a part of this daemon has ended; the service manager will restart it"),
                Err(_) => tracing::error!("this daemon is stuck; the service manager will restart it"),
            }
        }
    }

    /// The main loop is alive (`WatchdogSec=`).
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(message.as_bytes(), address)
        {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

/// A third of the time the manager waits for a sign of life, if it does and means this process.
fn watchdog() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    number("WATCHDOG_USEC").filter(|wait| *wait > 0).map(|wait| Duration::from_micros((wait / 3).max(1_000)))
}

/// Whether the runtime still starts and ends tasks: for [`Notifier::watch`].
pub async fn runtime_is_alive() -> bool {
    tokio::spawn(async {}).await.is_ok()
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drains_clean() {
        let shutdown = Shutdown::new();
        let worker = shutdown.clone();
        let task = shutdown.spawn(async move {
            worker.requested().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        });
        assert!(!shutdown.is_requested());
        shutdown.request();
        assert_eq!(shutdown.drain(Duration::from_secs(10)).await, Drained::Clean);
        assert!(task.is_finished() && shutdown.token().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_and_force() {
        let shutdown = Shutdown::new();
        shutdown.spawn(std::future::pending::<()>());
        shutdown.request();
        assert_eq!(shutdown.drain(Duration::from_secs(3)).await, Drained::Deadline { left: 1 });
        shutdown.request();
        assert_eq!(shutdown.drain(Duration::from_secs(3)).await, Drained::Forced { left: 1 });
    }

    #[test]
    fn notifies_by_path_and_abstract_name() {
        use std::os::linux::net::SocketAddrExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("gh-notify-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let by_path = UnixDatagram::bind(&path).unwrap();
        for (receiver, to) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
            let notifier = Notifier::open(&to).unwrap();
            notifier.ready("serving\n12 decoys");
            notifier.stopping();
            let mut buffer = [0; 64];
            let mut next = || {
                let len = receiver.recv(&mut buffer).unwrap();
                String::from_utf8(buffer[..len].to_vec())
            };
            assert_eq!(next().unwrap(), "READY=1\nSTATUS=serving 12 decoys");
            assert_eq!(next().unwrap(), "STOPPING=1");
        }
        Notifier::default().ready("nobody listens");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_start_asks_for_time_until_it_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let notifier = Notifier::open(path.as_os_str()).unwrap();
        let heard = || std::iter::from_fn(|| receiver.recv(&mut [0; 64]).ok()).count();
        notifier.starting(tokio::time::sleep(Duration::from_secs(100))).await;
        assert_eq!(heard(), 7);
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(heard(), 0, "the start is over");
        assert_eq!(notifier.starting(async { 5 }).await, 5);
        assert_eq!(heard(), 0, "a quick start needs none");
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_stop_with_the_life() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let notifier = Notifier { every: Some(Duration::from_secs(10)), ..Notifier::open(path.as_os_str()).unwrap() };
        let heard = || std::iter::from_fn(|| receiver.recv(&mut [0; 64]).ok()).count();
        let shutdown = Shutdown::new();
        for (alive, within, expected) in [(Some(true), 95, 10), (Some(false), 95, 0), (None, 95, 0)] {
            let looking = notifier.watch(&shutdown, || async move {
                match alive {
                    Some(alive) => alive && runtime_is_alive().await,
                    // Stuck.
                    None => std::future::pending().await,
                }
            });
            assert!(tokio::time::timeout(Duration::from_secs(within), looking).await.is_err());
            assert_eq!(heard(), expected, "{alive:?}");
        }
        shutdown.request();
        notifier.watch(&shutdown, || async { true }).await;
        Notifier::default().watch(&shutdown, || async { true }).await;
        assert_eq!(heard(), 0);
    }
}
