//! Two kinds of load. Closed loop: so many visitors, each coming again when its visit is over. Paced:
//! so many new visits a second whatever becomes of the earlier ones, timed from when each was due, so
//! that a server that stalls is charged for the visits that waited.

use super::clients::PATIENCE;
use super::measure::percentile;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What came of a load.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Milliseconds of every visit that went well.
    pub(super) latencies_ms: Vec<f64>,
    /// Visits that did not.
    pub(super) failed: usize,
    /// What the first of them said.
    pub(super) why: Option<String>,
    /// From the first visit to the end of the last.
    pub(super) elapsed: Duration,
}

impl Outcome {
    /// A percentile of the latencies; infinite when none went well.
    pub(super) fn percentile(&self, percent: f64) -> f64 {
        percentile(&self.latencies_ms, percent).unwrap_or(f64::INFINITY)
    }

    fn take(&mut self, visit: Result<Duration, String>) {
        match visit {
            Ok(latency) => self.latencies_ms.push(latency.as_secs_f64() * 1000.0),
            Err(why) => {
                self.failed += 1;
                self.why.get_or_insert(why);
            }
        }
    }
}

/// One visit, bounded in time.
async fn bounded(visit: impl Future<Output = crate::Result<Duration>>) -> Result<Duration, String> {
    match tokio::time::timeout(PATIENCE, visit).await {
        Ok(done) => done.map_err(|error| format!("{error:#}")),
        Err(_) => Err(format!("no end within {PATIENCE:?}")),
    }
}

/// `clients` visitors at once until `total` visits are made. `visit` gets the visit's number and says
/// what it waited for.
pub(super) async fn closed<F, V>(clients: usize, total: usize, visit: F) -> Outcome
where
    F: Fn(usize) -> V + Send + Sync + 'static,
    V: Future<Output = crate::Result<Duration>> + Send + 'static,
{
    let (visit, next) = (Arc::new(visit), Arc::new(AtomicUsize::new(0)));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..clients.min(total) {
        let (visit, next) = (Arc::clone(&visit), Arc::clone(&next));
        tasks.spawn(async move {
            let mut own = Outcome::default();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= total {
                    return own;
                }
                own.take(bounded(visit(n)).await);
            }
        });
    }
    let mut all = Outcome::default();
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok(own) => {
                all.latencies_ms.extend(own.latencies_ms);
                all.failed += own.failed;
                all.why = all.why.or(own.why);
            }
            Err(error) => all.take(Err(error.to_string())),
        }
    }
    all.elapsed = start.elapsed();
    all
}

/// How often due visits are started.
const STEP: Duration = Duration::from_millis(1);

/// `rate` new visits a second until `total` are made.
pub(super) async fn paced<F, V>(rate: usize, total: usize, visit: F) -> Outcome
where
    F: Fn(usize) -> V,
    V: Future<Output = crate::Result<Duration>> + Send + 'static,
{
    let start = Instant::now();
    let mut step = tokio::time::interval(STEP);
    step.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut tasks = JoinSet::new();
    let mut all = Outcome::default();
    let mut made = 0;
    while made < total {
        step.tick().await;
        let due = ((start.elapsed().as_secs_f64() * rate as f64) as usize + 1).min(total);
        for n in made..due {
            let due = start + Duration::from_secs_f64(n as f64 / rate as f64);
            let visit = visit(n);
            tasks.spawn(bounded(async move { visit.await.map(|_| due.elapsed()) }));
        }
        made = due;
        while let Some(Ok(done)) = tasks.try_join_next() {
            all.take(done);
        }
    }
    while let Some(done) = tasks.join_next().await {
        all.take(done.unwrap_or_else(|error| Err(error.to_string())));
    }
    all.elapsed = start.elapsed();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_visit_is_made_once_and_failures_are_counted() {
        let visit = |n: usize| async move { if n % 10 == 3 { anyhow::bail!("visit {n}") } else { Ok(Duration::from_millis(n as u64)) } };
        let outcome = closed(7, 100, visit).await;
        assert_eq!((outcome.latencies_ms.len(), outcome.failed), (90, 10));
        assert!(outcome.why.unwrap().ends_with('3'));
        let outcome = paced(20_000, 100, visit).await;
        assert_eq!((outcome.latencies_ms.len(), outcome.failed), (90, 10));
        assert_eq!(Outcome::default().percentile(99.0), f64::INFINITY);
    }
}
