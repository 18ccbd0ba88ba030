//! The daemon's side of its link: starting the keeper, answering the link's process, and saying how
//! the link stands.

use super::{CHILD, Host, HostError, KEEPER};
use crate::pipe::{self, PipeEvent};
use crate::source::BlockSource;
use crate::status::{LinkPhase, LinkStatus};
use glasshive_daemon::keeper::{self, Backoff, Kept};
use glasshive_daemon::reexec::Helper;
use glasshive_journal::JournalHandle;
use std::ffi::OsString;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a stopping daemon waits for its last records to be acknowledged.
const FAREWELL: Duration = Duration::from_secs(2);

impl Host {
    /// Arguments that start this binary again as `command` with the same configuration.
    fn arguments(&self, command: &str) -> [OsString; 5] {
        ["--config".into(), self.config_path.clone().into(), "--state-dir".into(), self.state_dir.clone().into(), command.into()]
    }

    /// Starts the keeper of the link's process, which starts it again whenever it ends: the daemon
    /// could not, having given up starting programs. Before the lockdown and the runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn start_keeper(&self) -> Result<Helper, HostError> {
        Kept::start(self.arguments(KEEPER)).map_err(|error| HostError::Io("starting the keeper of the link's process", error))
    }

    /// The keeper's own main.
    ///
    /// # Errors
    /// When this process was not started by [`Self::start_keeper`].
    pub fn keeper_main(&self) -> Result<(), HostError> {
        keeper::keep(&self.arguments(CHILD), Backoff::default()).map_err(|error| HostError::Io("keeping the link's process", error))
    }
}

/// The link's process while the daemon runs.
#[derive(Debug)]
pub struct Linked {
    stop: CancellationToken,
    serving: JoinHandle<Kept>,
}

impl Linked {
    /// Gives the link a moment to bring the last records over, then ends it. `acknowledged` tells the
    /// highest record the controller holds.
    pub async fn finish(self, journal: &JournalHandle, acknowledged: impl Fn() -> u64) {
        let deadline = tokio::time::Instant::now() + FAREWELL;
        while !all_over(journal, acknowledged()) && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.stop.cancel();
        if let Ok(kept) = self.serving.await {
            let _ = tokio::task::spawn_blocking(move || kept.finish()).await;
        }
    }
}

/// Whether the controller holds all that was appended, what is only about to be durable with it.
fn all_over(journal: &JournalHandle, acknowledged: u64) -> bool {
    let (free, all) = journal.gauges().room;
    free == all && acknowledged >= journal.durable().borrow().seq
}

/// Answers the link's questions from `source`, and passes on what it says about the link. Within the
/// runtime, with what [`Host::start_keeper`] gave.
///
/// # Errors
/// The system's.
pub fn serve_pipe<S: BlockSource + Clone>(keeper: Helper, source: S, link: watch::Sender<LinkStatus>) -> Result<Linked, HostError> {
    let kept = Kept::adopt(keeper).map_err(|error| HostError::Io("the link's process", error))?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let serving = tokio::spawn(async move {
        tokio::select! {
            () = stopped.cancelled() => {}
            () = answer(&kept, &source, &link) => {}
        }
        kept
    });
    Ok(Linked { stop, serving })
}

/// Serves one worker after the other.
async fn answer<S: BlockSource + Clone>(kept: &Kept, source: &S, link: &watch::Sender<LinkStatus>) {
    let mut said = None;
    loop {
        let stream = match kept.worker().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::error!(%error, "the link's keeper ended; records stay here until this daemon is started again");
                return;
            }
        };
        let (events, mut heard) = mpsc::channel(16);
        let listening = async {
            while let Some(event) = heard.recv().await {
                if let PipeEvent::Status(status) = event {
                    say(&status, &mut said);
                    link.send_replace(*status);
                }
            }
        };
        let (ended, ()) = tokio::join!(pipe::serve(source.clone(), stream, events), listening);
        if let Err(error) = ended {
            tracing::warn!(%error, "the link's process ended and is started again");
        }
    }
}

/// One line for every change an operator should know of.
fn say(status: &LinkStatus, said: &mut Option<(LinkPhase, Option<String>)>) {
    let now = (status.phase, status.last_error.clone());
    if said.as_ref() == Some(&now) {
        return;
    }
    let controller = status.controller.as_deref().unwrap_or("the controller");
    match (&status.phase, &status.last_error) {
        (LinkPhase::Connected, _) => tracing::info!(%controller, "linked"),
        (_, Some(error)) => tracing::warn!(%controller, %error, "not linked; records stay here"),
        _ => {}
    }
    *said = Some(now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use glasshive_event::{Body, Envelope};
    use glasshive_journal::{JournalConfig, Pending};

    #[tokio::test]
    async fn the_last_record_is_waited_for_although_it_is_not_durable_yet() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, handle, _) = glasshive_journal::open(JournalConfig::new(dir.path().join("journal"))).unwrap();
        assert!(all_over(&handle, 0));
        let body = Body::encode(&Envelope::default(), &serde_json::json!({})).unwrap();
        handle.append_reserved(Pending { wall_ns: 1, mono_ns: 1, body }).await.unwrap();
        // Neither before it is durable nor after.
        assert!(!all_over(&handle, 0));
        handle.durable().wait_for(|durable| durable.seq == 1).await.unwrap();
        assert!(!all_over(&handle, 0));
        while !all_over(&handle, 1) {
            tokio::task::yield_now().await;
        }
        drop(handle);
        journal.close().unwrap();
    }
}
