//! One way to answer a question, whether it came over the admin socket or the command line opened
//! the store itself. Lists read the summary only; a session opens the few segments it lies in.

pub(crate) mod doctor;
mod events;
mod findings;
mod lists;
mod nodes;
mod packets;
pub mod resolve;
mod sessions;

use crate::ask::{Answer, End, Request};
use crate::config::Config;
use crate::desk::{Desk, Operator};
use crate::fail::Failure;
use crate::live::Live;
use glasshive_journal::schema::SchemaError;
use glasshive_journal::store::{StoreError, StoreHandle};
use glasshive_link::identity::ControllerIdentity;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Answers that may wait for a slow reader.
const QUEUE: usize = 64;

/// What questions are answered from.
#[derive(Clone)]
pub struct Context {
    /// Log and summary.
    pub store: StoreHandle,
    /// The configuration.
    pub config: Arc<Config>,
    /// The controller's own log.
    pub desk: Arc<Desk>,
    /// CA and list of nodes; `None` when there is none yet.
    pub identity: Option<Arc<ControllerIdentity>>,
    /// The running daemon; `None` when the store was opened by the command line.
    pub live: Option<Arc<dyn Live>>,
}

/// Where an answer's objects go.
pub(crate) struct Sink {
    to: mpsc::Sender<Answer>,
    count: u64,
}

impl Sink {
    /// One object.
    pub(crate) async fn item(&mut self, value: Value) -> Result<(), Failure> {
        self.to.send(Answer::Item(value)).await.map_err(|_| gone())?;
        self.count += 1;
        Ok(())
    }

    /// Whether the reader went away.
    pub(crate) fn gone(&self) -> bool {
        self.to.is_closed()
    }

    /// Returns once the reader went away.
    pub(crate) async fn closed(&self) {
        self.to.closed().await;
    }
}

fn gone() -> Failure {
    Failure::failed("the reader went away")
}

/// Starts answering; the answer ends with [`Answer::End`] or [`Answer::Error`].
pub fn start(cx: Context, by: Operator, request: Request) -> mpsc::Receiver<Answer> {
    let (to, from) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut sink = Sink { to, count: 0 };
        let last = match Box::pin(answer(&cx, &by, request, &mut sink)).await {
            Ok(next) => Answer::End(End { count: sink.count, next }),
            Err(failure) => Answer::Error(failure),
        };
        let _ = sink.to.send(last).await;
    });
    from
}

/// Answers one question; returns the cursor of the next page.
async fn answer(cx: &Context, by: &Operator, request: Request, sink: &mut Sink) -> Result<Option<String>, Failure> {
    match request {
        Request::Status => nodes::status(cx, sink).await,
        Request::Nodes => nodes::list(cx, sink).await,
        Request::Enroll { node, net, role, ttl_s } => nodes::enroll(cx, by, [&node, &net, &role], ttl_s, sink).await,
        Request::Sign { csr, net, role } => nodes::sign(cx, by, &csr, [&net, &role], sink).await,
        Request::Revoke { node, reason } => nodes::revoke(cx, by, &node, &reason, sink).await,
        Request::Rotate { step, reason, force } => nodes::rotate(cx, by, step, &reason, force, sink).await,
        Request::Sessions { query } => lists::sessions(cx, query, sink).await,
        Request::Credentials { query, reveal } => lists::credentials(cx, by, query, reveal, sink).await,
        Request::Files { query } => lists::files(cx, query, sink).await,
        Request::Findings { query } => findings::list(cx, query, sink).await,
        Request::Finding { id } => findings::show(cx, &id, sink).await,
        Request::Probes { query } => findings::probes(cx, query, sink).await,
        Request::Doctor => doctor::run(cx, sink).await,
        Request::NotifyTest => notify_test(cx, by, sink).await,
        Request::Stats { query } => lists::stats(cx, query, sink).await,
        Request::Session { id, reveal } => sessions::show(cx, by, &id, reveal, sink).await,
        Request::Streams { id, follow } => sessions::streams(cx, &id, follow, sink).await,
        Request::Tail { query, filter, follow } => events::tail(cx, query, &filter, follow, sink).await,
        Request::Export { what, format, to, reason, files, packets, secrets } => {
            let take = events::Take { files, packets, secrets };
            events::export(cx, by, what, [&format, &to, &reason], take, sink).await
        }
    }
}

/// Sends a test note over every channel, past the queues, and says what happened to each.
async fn notify_test(cx: &Context, by: &Operator, sink: &mut Sink) -> Result<Option<String>, Failure> {
    let said = crate::notify::test(&cx.config.notify, &by.user).await?;
    for (channel, target, result) in said {
        let error = result.err();
        sink.item(serde_json::json!({"channel": channel, "target": target, "sent": error.is_none(), "error": error})).await?;
    }
    Ok(None)
}

/// A reveal needs a reason and the running daemon; it is audited before anything is shown.
pub(crate) async fn allow_reveal<'a>(cx: &'a Context, by: &Operator, object: &str, reason: &str) -> Result<&'a dyn Live, Failure> {
    if reason.trim().is_empty() {
        return Err(Failure::refused("secrets are shown only with a reason: add --reason TEXT; it is kept with your user id"));
    }
    let Some(live) = cx.live.as_deref() else {
        return Err(Failure::unreachable("only the running daemon reads the sealing key: start glasshive serve and ask again"));
    };
    cx.desk.audit(by, "reveal", object, reason).await?;
    Ok(live)
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Locked { .. } => Self::unreachable(error),
            StoreError::Schema(SchemaError::Newer { .. }) => Self::newer(error),
            StoreError::Query(_) => Self::usage(error),
            _ => Self::failed(error),
        }
    }
}
