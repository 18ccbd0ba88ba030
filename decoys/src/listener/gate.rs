//! The gate: whether visitors are answered at all. It closes when the wall around the segment does not
//! stand: listeners stop listening (connections are refused as on a host with nothing there), running
//! sessions end, datagrams are dropped. It opens again without a restart.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A cheap handle on the gate.
#[derive(Clone, Debug)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
    era: Arc<Mutex<CancellationToken>>,
    stop: CancellationToken,
}

impl Gate {
    /// A gate; sessions also end with `stop`.
    pub fn new(open: bool, stop: CancellationToken) -> Self {
        let era = stop.child_token();
        if !open {
            era.cancel();
        }
        Self { open: Arc::new(watch::Sender::new(open)), era: Arc::new(Mutex::new(era)), stop }
    }

    /// Whether visitors are answered.
    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Completes when the gate is closed, at once when it is.
    pub async fn closed(&self) {
        // The sender lives in `self`.
        let _ = self.open.subscribe().wait_for(|open| !*open).await;
    }

    /// Completes when the gate is open.
    pub async fn opened(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    /// What a session that begins now ends with: cancelled when the gate closes.
    pub fn era(&self) -> CancellationToken {
        self.era.lock().unwrap_or_else(PoisonError::into_inner).child_token()
    }

    /// Opens or closes; answers whether that is a change.
    pub fn set(&self, open: bool) -> bool {
        {
            let mut era = self.era.lock().unwrap_or_else(PoisonError::into_inner);
            match open {
                true if era.is_cancelled() => *era = self.stop.child_token(),
                true => {}
                false => era.cancel(),
            }
        }
        self.open.send_replace(open) != open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn closing_ends_what_began_before_it() {
        let stop = CancellationToken::new();
        let gate = Gate::new(true, stop.clone());
        let before = gate.era();
        assert!(gate.set(false) && !gate.set(false) && before.is_cancelled());
        gate.closed().await;
        assert!(gate.era().is_cancelled(), "what slips in while it is closed ends at once");
        assert!(gate.set(true));
        gate.opened().await;
        let after = gate.era();
        assert!(!after.is_cancelled());
        stop.cancel();
        assert!(after.is_cancelled());
        assert!(!Gate::new(false, stop).is_open());
    }
}
