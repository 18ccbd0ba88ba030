//! A node's main connection at the controller: a reader that never waits for the store, and a worker
//! that hands one batch after the other to it. What may be queued between them is the credit.

use super::{Proof, Shared, enrol};
use crate::common::{BATCH, BATCHES, middle};
use crate::error::LinkError;
use crate::frame::{Ack, Frame, GoAwayWhy, Hello, MAX_FRAME, Message, Nack, NackWhy, Ping, Pong, VERSION_MAX, Welcome, kind};
use crate::identity::Denied;
use crate::ingest::{Batch, Gap, HighWater, Ingest, Notice, Refusal};
use crate::wire::{Stream, Wire, unexpected};
use glasshive_event::LogId;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

/// Room for what a node may have in flight, gaps among it.
const QUEUE: usize = 2 * BATCHES + 2;
/// One batch may exceed the credit by itself, and frames have heads.
const SLACK: u64 = 2 * BATCH as u64;
/// A full store is asked again after this.
const FULL: Duration = Duration::from_secs(10);

/// What the worker tells the reader.
enum Told {
    Durable(u64),
    Nack(Nack),
    End(LinkError),
}

pub(super) async fn run<I: Ingest, T: Stream>(
    shared: &Arc<Shared<I>>,
    proof: &Proof,
    hello: Hello,
    wire: &mut Wire<T>,
    cancel: &CancellationToken,
) -> Result<Infallible, LinkError> {
    let high = shared.ingest.high_water(&proof.peer, hello.log).await;
    let stored = high.seq;
    welcome(shared, proof, &hello, high, wire).await?;
    if stored >= hello.next {
        // It reads this out of WELCOME too; here it is for whoever looks at the controller.
        shared.nodes.update(&proof.peer.node, |status| status.refusals = status.refusals.saturating_add(1));
        return Err(LinkError::Diverged(format!(
            "{stored} records of it are stored, the node has {}: it came back from an older copy and begins a new log when it is restarted",
            hello.next.saturating_sub(1)
        )));
    }
    let mut roots = shared.identity.generation();
    roots.mark_changed();
    let queued = Arc::new(AtomicU64::new(0));
    let (work, todo) = mpsc::channel::<Frame>(QUEUE);
    let (tell, mut told) = mpsc::channel::<Told>(QUEUE);
    let denied = shared.identity.denied();
    let (log, cancel) = (hello.log, cancel.clone());
    let worker = Worker { shared: shared.clone(), proof: proof.clone(), log, queued: queued.clone(), cancel, denied, wanted: None };
    // Not a task of its own: when this connection ends, nothing more of it is stored.
    let working = worker.run(todo, tell);
    tokio::pin!(working);
    let mut pings = interval(shared.config.ping);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reader = Reader { shared, proof, work, queued, ping: None };
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            biased;
            first = told.recv() => reader.told(first, &mut told, wire).await?,
            () = &mut working => return Err(LinkError::Stopping),
            frame = wire.frame() => {
                heard = Instant::now();
                reader.frame(frame?, wire).await?;
            }
            () = sleep_until(heard + shared.config.idle) => return Err(LinkError::Silent(shared.config.idle)),
            _ = pings.tick() => reader.send_ping(wire).await?,
            // At once, and whenever they change: the node installs them and comes back with them.
            _ = roots.changed() => if let Some(renewed) = enrol::push(shared, proof).await {
                wire.send(&renewed).await?;
                let text = "new roots and certificate: come back with them".into();
                return Err(LinkError::Away { why: GoAwayWhy::Replaced, text, retry: Duration::ZERO });
            },
        }
    }
}

async fn welcome<I: Ingest, T: Stream>(
    shared: &Shared<I>,
    proof: &Proof,
    hello: &Hello,
    high: HighWater,
    wire: &mut Wire<T>,
) -> Result<(), LinkError> {
    let now = shared.clock.wall_ns();
    let (durable, credit) = (high.seq, shared.config.credit);
    wire.send(&Message::Welcome(Welcome { version: VERSION_MAX, durable, credit, max_frame: MAX_FRAME as u32, wall_ns: now })).await?;
    let version: String = glasshive_event::text::escape(&hello.product).chars().take(64).collect();
    shared.nodes.update(&proof.peer.node, |status| {
        status.connected_since_ns = Some(now);
        status.last_frame_ns = Some(now);
        status.remote = Some(proof.remote);
        status.version = Some(version.clone());
        status.durable = durable;
        status.next = hello.next;
        status.last_error = None;
        status.connections = status.connections.saturating_add(1);
    });
    shared.ingest.notice(Notice::Connected { node: proof.peer.node.clone(), remote: proof.remote, version });
    Ok(())
}

struct Reader<'a, I> {
    shared: &'a Arc<Shared<I>>,
    proof: &'a Proof,
    work: mpsc::Sender<Frame>,
    queued: Arc<AtomicU64>,
    /// The PING under way: its number and our wall time.
    ping: Option<(u64, i64)>,
}

impl<I: Ingest> Reader<'_, I> {
    /// One ACK stands for everything that became durable in the meantime.
    async fn told<T: Stream>(&self, first: Option<Told>, more: &mut mpsc::Receiver<Told>, wire: &mut Wire<T>) -> Result<(), LinkError> {
        let mut next = Some(first.ok_or(LinkError::Stopping)?);
        let mut durable = None;
        while let Some(told) = next {
            match told {
                Told::Durable(seq) => durable = durable.max(Some(seq)),
                Told::Nack(nack) => {
                    self.acknowledge(durable.take(), wire).await?;
                    wire.send(&Message::Nack(nack)).await?;
                }
                Told::End(error) => {
                    self.acknowledge(durable.take(), wire).await?;
                    return Err(error);
                }
            }
            next = more.try_recv().ok();
        }
        self.acknowledge(durable, wire).await
    }

    async fn acknowledge<T: Stream>(&self, durable: Option<u64>, wire: &mut Wire<T>) -> Result<(), LinkError> {
        let Some(durable) = durable else { return Ok(()) };
        self.shared.nodes.update(&self.proof.peer.node, |status| {
            status.durable = durable;
            status.next = status.next.max(durable.saturating_add(1));
        });
        wire.send(&Message::Ack(Ack { durable, credit: self.shared.config.credit })).await
    }

    async fn frame<T: Stream>(&mut self, frame: Frame, wire: &mut Wire<T>) -> Result<(), LinkError> {
        let node = &self.proof.peer.node;
        let now = self.shared.clock.wall_ns();
        self.shared.nodes.update(node, |status| status.last_frame_ns = Some(now));
        if matches!(frame.kind, kind::BATCH | kind::GAP | kind::CKPT) {
            let size = frame.wire_len() as u64;
            let queued = self.queued.fetch_add(size, Ordering::Relaxed).saturating_add(size);
            if queued > u64::from(self.shared.config.credit).saturating_add(SLACK) {
                return Err(LinkError::Violation("more in flight than the credit allows".into()));
            }
            return self.work.try_send(frame).map_err(|_| LinkError::Violation("too many batches in flight".into()));
        }
        match Message::decode(&frame)? {
            Message::Ping(ping) => {
                self.shared.nodes.update(node, |status| status.next = status.next.max(ping.next));
                wire.send(&Message::Pong(Pong { id: ping.id, wall_ns: now, next: 0 })).await
            }
            Message::Pong(pong) => {
                let sent = self.ping.take_if(|(id, _)| *id == pong.id);
                self.shared.nodes.update(node, |status| {
                    status.next = status.next.max(pong.next);
                    if let Some((_, sent_ns)) = sent {
                        status.offset_ns = Some(pong.wall_ns.saturating_sub(middle(sent_ns, now)));
                    }
                });
                Ok(())
            }
            Message::Renew(csr) => match enrol::renew(self.shared, node, csr).await {
                Some(answer) => wire.send(&answer).await,
                None => Ok(()),
            },
            Message::GoAway(away) => Err(LinkError::away(away)),
            Message::Unknown(_) => Ok(()),
            _ => Err(unexpected(&frame)),
        }
    }

    async fn send_ping<T: Stream>(&mut self, wire: &mut Wire<T>) -> Result<(), LinkError> {
        let id = self.ping.map_or(1, |(id, _)| id.wrapping_add(1));
        let wall_ns = self.shared.clock.wall_ns();
        self.ping = Some((id, wall_ns));
        wire.send(&Message::Ping(Ping { id, wall_ns, next: 0 })).await
    }
}

struct Worker<I> {
    shared: Arc<Shared<I>>,
    proof: Proof,
    log: LogId,
    queued: Arc<AtomicU64>,
    cancel: CancellationToken,
    denied: watch::Receiver<Arc<Denied>>,
    /// After a refusal: what came behind it is dropped until the node starts here again, so that one refusal gives one NACK.
    wanted: Option<u64>,
}

impl<I: Ingest> Worker<I> {
    async fn run(mut self, mut todo: mpsc::Receiver<Frame>, tell: mpsc::Sender<Told>) {
        while let Some(frame) = todo.recv().await {
            let size = frame.wire_len() as u64;
            let told = match self.frame(frame).await {
                Ok(told) => told,
                Err(error) => Some(Told::End(error)),
            };
            self.queued.fetch_sub(size, Ordering::Relaxed);
            let last = matches!(told, Some(Told::End(_)));
            if let Some(told) = told
                && tell.send(told).await.is_err()
            {
                return;
            }
            if last {
                // The reader ends the connection once it has heard.
                std::future::pending::<()>().await;
            }
        }
    }

    async fn frame(&mut self, frame: Frame) -> Result<Option<Told>, LinkError> {
        let received_ns = self.shared.clock.wall_ns();
        let message = Message::decode(&frame)?;
        // Revocation holds from the moment it is decided, not from when this connection notices.
        if self.denied.borrow().denies(&self.proof.peer.node, &self.proof.serial) {
            return Err(LinkError::Revoked);
        }
        if self.cancel.is_cancelled() {
            return Err(LinkError::Replaced);
        }
        let (log, first) = match &message {
            Message::Batch(batch) => (batch.log, Some(batch.first)),
            Message::Gap(gap) => (gap.log, Some(gap.from)),
            Message::Checkpoint(note) => (note.log, None),
            _ => return Err(unexpected(&frame)),
        };
        if log != self.log {
            return Err(LinkError::Violation("records of another log than HELLO named".into()));
        }
        if let (Some(wanted), Some(first)) = (self.wanted, first) {
            if first > wanted {
                return Ok(None);
            }
            self.wanted = None;
        }
        let peer = &self.proof.peer;
        let stored = match message {
            Message::Batch(b) => {
                let (first, count, chain_before) = (b.first, b.count, b.chain_before);
                let batch = Batch { log, first, count, chain_before, bytes: b.records.into(), received_ns };
                self.shared.ingest.batch(peer, batch).await
            }
            Message::Gap(g) => {
                let why = glasshive_event::text::escape(&g.why).chars().take(200).collect();
                self.shared.ingest.gap(peer, Gap { log, from: g.from, to: g.to, why }).await
            }
            Message::Checkpoint(note) => {
                self.shared.ingest.checkpoint(peer, log, note.note.into()).await;
                return Ok(None);
            }
            _ => return Err(unexpected(&frame)),
        };
        if matches!(stored, Err(Refusal::Expected(_) | Refusal::Tamper { .. } | Refusal::Chain { .. } | Refusal::Damaged(_))) {
            self.shared.nodes.update(&self.proof.peer.node, |status| status.refusals = status.refusals.saturating_add(1));
        }
        match stored {
            Ok(durable) => Ok(Some(Told::Durable(durable))),
            Err(Refusal::Expected(expected)) => {
                self.wanted = Some(expected);
                Ok(Some(Told::Nack(Nack { expected, why: NackWhy::Sequence })))
            }
            Err(Refusal::Full) => Err(LinkError::Away { why: GoAwayWhy::Full, text: Refusal::Full.to_string(), retry: FULL }),
            Err(Refusal::Closed) => Err(LinkError::Stopping),
            Err(other) => Err(LinkError::Diverged(other.to_string())),
        }
    }
}
