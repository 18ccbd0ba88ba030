//! What was lost and when, kept beside the packets so that every later question can be answered
//! honestly, and handed on once to whoever journals it.

use super::{LossSpan, RingDir};
use crate::capture::Cause;
use glasshive_event::Timestamp;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Mutex, PoisonError};

/// Size at which the file is made smaller.
const LARGE: u64 = 4 << 20;
/// Entries kept of it then.
const ENTRIES: usize = 10_000;
/// Entries waiting for the journal before they are joined.
const WAITING: usize = 256;

/// Losses on their way to the journal. Never dropped: when too many wait they are joined by cause.
#[derive(Debug, Default)]
pub struct PendingLosses(Mutex<Vec<(Cause, LossSpan)>>);

impl PendingLosses {
    pub(super) fn push(&self, cause: Cause, span: LossSpan) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING
            && let Some((_, known)) = waiting.iter_mut().rfind(|(known, _)| *known == cause)
        {
            join(known, &span);
            return;
        }
        waiting.push((cause, span));
    }

    /// Takes all out.
    pub fn take(&self) -> Vec<(Cause, LossSpan)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn join(known: &mut LossSpan, more: &LossSpan) {
    known.from = known.from.min(more.from);
    known.to = known.to.max(more.to);
    known.count = known.count.saturating_add(more.count);
    known.bytes = known.bytes.saturating_add(more.bytes);
}

/// Adds to the file; makes it smaller when it has grown.
pub(super) fn append(dir: &RingDir, spans: &[LossSpan]) -> io::Result<()> {
    let mut lines = Vec::new();
    for span in spans {
        serde_json::to_writer(&mut lines, span).map_err(io::Error::other)?;
        lines.push(b'\n');
    }
    let path = dir.losses_path();
    let mut file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
    file.write_all(&lines)?;
    if file.metadata()?.len() > LARGE {
        let oldest = dir.segments()?.first().and_then(|segment| dir.meta(segment.serial)).and_then(|meta| meta.first);
        let mut kept = Vec::new();
        for span in shorter(dir.losses(), oldest) {
            serde_json::to_writer(&mut kept, &span).map_err(io::Error::other)?;
            kept.push(b'\n');
        }
        glasshive_journal::disk::write_atomic(&path, &kept)?;
    }
    Ok(())
}

/// Without what is older than the ring, joined by minute, hour or day until few enough are left.
fn shorter(mut spans: Vec<LossSpan>, oldest: Option<Timestamp>) -> Vec<LossSpan> {
    spans.retain(|span| oldest.is_none_or(|oldest| span.to >= oldest));
    for seconds in [60, 3_600, 86_400] {
        if spans.len() <= ENTRIES {
            break;
        }
        let mut joined: Vec<LossSpan> = Vec::new();
        for span in spans {
            let slot = |at: Timestamp| at.0.div_euclid(seconds * 1_000_000_000);
            match joined
                .iter_mut()
                .rev()
                .take(Cause::ALL.len())
                .find(|known| known.cause == span.cause && slot(known.from) == slot(span.from))
            {
                Some(known) => join(known, &span),
                None => joined.push(span),
            }
        }
        spans = joined;
    }
    // What is left after joining by day is decades old.
    let surplus = spans.len().saturating_sub(ENTRIES);
    spans.drain(..surplus);
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: i64, cause: &str) -> LossSpan {
        LossSpan { from: Timestamp(from), to: Timestamp(from + 1), cause: cause.into(), count: 1, bytes: 2 }
    }

    #[test]
    fn losses_are_joined_and_never_uncounted() {
        let spans: Vec<_> = (0..40_000).map(|second| span(second * 1_000_000_000, if second % 2 == 0 { "a" } else { "b" })).collect();
        let short = shorter(spans.clone(), None);
        assert!(short.len() <= ENTRIES && short.iter().map(|span| span.count).sum::<u64>() == 40_000);
        assert_eq!(shorter(spans, Some(Timestamp(39_999_000_000_000))).len(), 1);
        let pending = PendingLosses::default();
        for at in 0..1000 {
            pending.push(Cause::Kernel, span(at, "capture_kernel"));
        }
        let taken = pending.take();
        assert_eq!((taken.len(), taken.iter().map(|(_, span)| span.count).sum::<u64>()), (WAITING, 1000));
        assert!(pending.take().is_empty());
    }

    #[test]
    fn the_file_is_read_back_and_kept_small() {
        let dir = tempfile::tempdir().unwrap();
        let ring = RingDir::new(dir.path());
        append(&ring, &[span(5, "a")]).unwrap();
        append(&ring, &[span(7, "b"), span(8, "b")]).unwrap();
        assert_eq!(ring.losses(), [span(5, "a"), span(7, "b"), span(8, "b")]);
        let many: Vec<_> = (0..90_000).map(|at| span(at * 10_000_000, "a")).collect();
        append(&ring, &many).unwrap();
        let kept = ring.losses();
        assert!(kept.len() <= ENTRIES && kept.iter().map(|span| span.count).sum::<u64>() == 90_003, "{}", kept.len());
    }
}
