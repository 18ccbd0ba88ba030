//! From stored records and the doctor to notes. It follows the store as a reader of `tail -f` does: a
//! flood it cannot follow is told as a number, and the findings stay in `glasshive findings`.

use super::config::Notify;
use super::dedupe::{Findings, Troubles};
use super::worker::{Board, Channels};
use super::{Note, NoteKind};
use crate::desk::now_ns;
use crate::fail::Failure;
use crate::query::{Context, doctor};
use glasshive_event::{Kind, Severity, StoredFinding};
use glasshive_journal::store::StoredEvent;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

/// What the engine is made of.
pub struct Parts {
    /// What questions are answered from.
    pub context: Context,
    /// Records as they are stored; subscribed before the nodes are let in.
    pub records: broadcast::Receiver<Arc<StoredEvent>>,
    /// Where the channels' status is shown.
    pub board: Board,
}

/// Tries every configured channel once with a test note; answers name, target and what happened.
pub(crate) async fn test(settings: &Notify, who: &str) -> Result<Vec<(String, String, Result<(), String>)>, Failure> {
    let channels = settings.channels().map_err(|(key, why)| Failure::usage(format!("key {key}: {why}")))?;
    let mut said = Vec::new();
    for (channel, _) in channels {
        let note = Note::new(NoteKind::Test, Severity::Info, "test", format!("a test, asked for by {who}"), now_ns());
        said.push((channel.name().to_owned(), channel.target(), channel.send(&note).await));
    }
    Ok(said)
}

/// Whether a channel is configured, and can be opened.
pub(crate) fn wanted(settings: &Notify) -> Result<bool, Failure> {
    settings.channels().map(|channels| !channels.is_empty()).map_err(|(key, why)| Failure::usage(format!("key {key}: {why}")))
}

/// Notifies until `stop`.
pub async fn run(parts: Parts, stop: CancellationToken) {
    let Parts { context, mut records, board } = parts;
    let settings = context.config.notify.clone();
    let channels = match settings.channels() {
        Ok(channels) => Channels::start(channels, board, &stop),
        Err((key, why)) => return tracing::error!(key, why, "notifications are off"),
    };
    let mut findings: Vec<Findings> = channels.filters().map(|_| Findings::new(settings.window.0)).collect();
    let mut troubles = Troubles::default();
    let mut missed = 0u64;
    let mut ticks = tokio::time::interval(SECOND);
    let mut looks = tokio::time::interval(settings.check.0);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            stored = records.recv() => match stored {
                Ok(stored) => if let Some(finding) = finding(&stored) {
                    for (index, (filter, told)) in channels.filters().zip(&mut findings).enumerate() {
                        if filter.passes(&stored.net, finding.severity)
                            && let Some(note) = told.add(&stored.net, &finding, now_ns())
                        {
                            channels.offer(index, note);
                        }
                    }
                },
                Err(RecvError::Lagged(count)) => missed = missed.saturating_add(count),
                Err(RecvError::Closed) => break,
            },
            _ = ticks.tick() => {
                for (index, told) in findings.iter_mut().enumerate() {
                    told.tick(now_ns()).into_iter().for_each(|note| channels.offer(index, note));
                }
            }
            _ = looks.tick(), if settings.troubles => {
                let mut notes = troubles.look(&doctor::examine(&context).await.troubles, now_ns());
                if missed > 0 {
                    let what = format!("{missed} records came too fast to look for findings in them");
                    let mut note = Note::new(NoteKind::Trouble, Severity::Medium, "notify", what, now_ns());
                    note.remedy = Some("look yourself: glasshive findings".to_owned());
                    notes.push(note);
                    missed = 0;
                }
                for note in notes {
                    for index in 0..findings.len() {
                        channels.offer(index, note.clone());
                    }
                }
            }
        }
    }
    channels.finish().await;
}

fn finding(stored: &StoredEvent) -> Option<StoredFinding> {
    let view = stored.view()?;
    let (envelope, json) = view.split().ok()?;
    if envelope.kind != Kind::Finding.number() {
        return None;
    }
    serde_json::from_str(json).ok()
}
