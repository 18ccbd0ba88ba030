//! The main connection of a node: reads the journal from behind what the controller holds, keeps
//! what is in flight within the credit, and believes only ACK.

use super::{Node, connected_now, renewal_request, renewed};
use crate::common::{BATCH, BATCHES, middle};
use crate::error::LinkError;
use crate::frame::{Ack, Batch, Frame, GapFrame, Message, Nack, NackWhy, Ping, Pong};
use crate::identity::NodeIdentity;
use crate::source::{Block, BlockSource, SourceClosed};
use crate::wire::{Stream, Wire, unexpected};
use bytes::Bytes;
use futures_util::future::{Fuse, FusedFuture, FutureExt};
use glasshive_event::LogId;
use std::collections::VecDeque;
use std::convert::Infallible;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// The same record refused this often means that waiting will not help.
const REFUSALS: u32 = 3;

pub(super) async fn run<S: BlockSource, T: Stream>(
    node: &Node<S>,
    identity: &NodeIdentity,
    remote: &str,
    wire: &mut Wire<T>,
) -> Result<Infallible, LinkError> {
    let (hello, welcome) = node.hello(identity, wire).await?;
    if welcome.durable >= hello.next {
        // The journal remembers this, and starts a new log when it is opened next.
        node.source.acknowledged(welcome.durable).await?;
        return Err(LinkError::Diverged(format!(
            "it ends at {}, this journal at {}: restart the daemon",
            welcome.durable,
            hello.next.saturating_sub(1)
        )));
    }
    if welcome.durable > 0 {
        node.source.acknowledged(welcome.durable).await?;
    }
    node.status.send_modify(|status| {
        connected_now(status, remote);
        status.durable = welcome.durable;
        status.next = hello.next;
        status.in_flight = 0;
    });
    let mut sender = Sender {
        node,
        log: hello.log,
        next: welcome.durable.saturating_add(1),
        durable: welcome.durable,
        credit: u64::from(welcome.credit),
        flying: VecDeque::new(),
        bytes: 0,
        dry: false,
        refused: (0, 0),
        ping: None,
    };
    let mut current = identity.clone();
    let mut renewing = false;
    let mut pings = interval(node.config.ping);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    // Kept across turns: a read is not begun anew for every frame that comes in between.
    let reading = Fuse::terminated();
    tokio::pin!(reading);
    let (mut room, mut from) = (0, 0);
    loop {
        if from != sender.next {
            // NACK moved us, or what was read has been sent.
            reading.set(Fuse::terminated());
        }
        if reading.is_terminated() && sender.room() > 0 {
            (room, from) = (sender.room(), sender.next);
            reading.set(read(node, from, room, sender.dry).fuse());
        }
        tokio::select! {
            biased;
            frame = wire.frame() => {
                heard = Instant::now();
                match Message::decode(&frame?)? {
                    Message::Renewed(bundle) => {
                        current = renewed(node, bundle).await?;
                        renewing = false;
                    }
                    message => sender.heard(message, wire).await?,
                }
            }
            () = sleep_until(heard + node.config.idle) => return Err(LinkError::Silent(node.config.idle)),
            _ = pings.tick() => {
                sender.send_ping(wire).await?;
                if !renewing && let Some(request) = renewal_request(node, &current).await? {
                    wire.send(&request).await?;
                    renewing = true;
                }
            }
            blocks = &mut reading, if !reading.is_terminated() => sender.send(blocks?, room, wire).await?,
        }
    }
}

/// What there is to send; waits until there is something if the last look found nothing.
async fn read<S: BlockSource>(node: &Node<S>, next: u64, max: usize, dry: bool) -> Result<Vec<Block>, SourceClosed> {
    if dry {
        node.source.changed(next.saturating_sub(1)).await?;
    }
    node.source.read(next, max).await
}

struct Sender<'a, S> {
    node: &'a Node<S>,
    log: LogId,
    next: u64,
    durable: u64,
    credit: u64,
    /// Last record and size of what is in flight.
    flying: VecDeque<(u64, u64)>,
    bytes: u64,
    /// The last read found nothing.
    dry: bool,
    /// A refused record, and how often in a row.
    refused: (u64, u32),
    /// The PING under way: its number and our wall time.
    ping: Option<(u64, i64)>,
}

impl<S: BlockSource> Sender<'_, S> {
    /// How many bytes the next batch may have; 0 = not now.
    fn room(&self) -> usize {
        let left = self.credit.saturating_sub(self.bytes);
        if self.flying.len() >= BATCHES {
            0
        } else if self.flying.is_empty() {
            // With little credit at least one block at a time.
            (left.max(1) as usize).min(BATCH)
        } else if left >= BATCH as u64 {
            BATCH
        } else {
            0
        }
    }

    async fn send<T: Stream>(&mut self, blocks: Vec<Block>, room: usize, wire: &mut Wire<T>) -> Result<(), LinkError> {
        let mut blocks = blocks.into_iter();
        let Some(first) = blocks.next() else {
            self.dry = true;
            return Ok(());
        };
        self.dry = false;
        if first.last < self.next || first.first > first.last {
            return Err(LinkError::Violation("the journal gave other records than asked".into()));
        }
        if first.first > self.next {
            let to = first.first.saturating_sub(1);
            let gap = GapFrame { log: self.log, from: self.next, to, why: "dropped on the node to keep room".into() };
            self.flew(to, 0);
            wire.send(&Message::Gap(gap)).await?;
        }
        let (start, chain_before) = (first.first, first.chain_before);
        let (mut last, mut records) = (first.last, first.bytes);
        for block in blocks {
            if block.first != last.saturating_add(1) || block.last < block.first || records.len().saturating_add(block.bytes.len()) > room {
                break;
            }
            records.extend_from_slice(&block.bytes);
            last = block.last;
        }
        let count = last.saturating_sub(start).saturating_add(1);
        self.flew(last, records.len() as u64);
        let batch = Batch { log: self.log, first: start, count, chain_before, records: Bytes::from(records) };
        let frame: Frame = Message::Batch(batch).frame()?;
        wire.send_frame(frame).await
    }

    fn flew(&mut self, last: u64, bytes: u64) {
        self.flying.push_back((last, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
        self.next = last.saturating_add(1);
        let (next, in_flight) = (self.next, self.bytes);
        self.node.status.send_modify(|status| {
            status.next = status.next.max(next);
            status.in_flight = in_flight;
        });
    }

    async fn heard<T: Stream>(&mut self, message: Message, wire: &mut Wire<T>) -> Result<(), LinkError> {
        match message {
            Message::Ack(ack) => self.acknowledged(ack).await,
            Message::Nack(nack) => self.refused(nack),
            Message::Ping(ping) => {
                let pong = Pong { id: ping.id, wall_ns: self.node.clock.wall_ns(), next: self.source_next().await? };
                wire.send(&Message::Pong(pong)).await
            }
            Message::Pong(pong) => {
                if let Some((id, sent_ns)) = self.ping.take_if(|(id, _)| *id == pong.id) {
                    let middle = middle(sent_ns, self.node.clock.wall_ns());
                    let offset = middle.saturating_sub(pong.wall_ns);
                    self.node.status.send_modify(|status| status.offset_ns = Some(offset));
                    let _ = id;
                }
                Ok(())
            }
            Message::GoAway(away) => Err(LinkError::away(away)),
            Message::Unknown(_) => Ok(()),
            other => Err(unexpected(&other.frame()?)),
        }
    }

    async fn acknowledged(&mut self, ack: Ack) -> Result<(), LinkError> {
        self.credit = u64::from(ack.credit);
        if ack.durable >= self.next {
            return Err(LinkError::Violation(format!("record {} was acknowledged and never sent", ack.durable)));
        }
        if ack.durable <= self.durable {
            return Ok(());
        }
        self.durable = ack.durable;
        self.refused = (0, 0);
        while let Some((_, bytes)) = self.flying.pop_front_if(|(last, _)| *last <= ack.durable) {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        self.node.source.acknowledged(ack.durable).await?;
        let in_flight = self.bytes;
        self.node.status.send_modify(|status| {
            status.durable = ack.durable;
            status.in_flight = in_flight;
        });
        Ok(())
    }

    fn refused(&mut self, nack: Nack) -> Result<(), LinkError> {
        let what = match nack.why {
            NackWhy::Sequence => "it wants another record",
            NackWhy::Chain => "the hash chain does not continue there",
            NackWhy::Tamper => "it already holds another one",
            NackWhy::Damaged => "it could not read what came",
        };
        let times = if self.refused.0 == nack.expected { self.refused.1.saturating_add(1) } else { 1 };
        self.refused = (nack.expected, times);
        if nack.why != NackWhy::Sequence || times > REFUSALS || nack.expected > self.next || nack.expected <= self.durable {
            return Err(LinkError::Diverged(format!("at record {}: {what}", nack.expected)));
        }
        self.flying.clear();
        self.bytes = 0;
        self.next = nack.expected;
        self.dry = false;
        Ok(())
    }

    async fn send_ping<T: Stream>(&mut self, wire: &mut Wire<T>) -> Result<(), LinkError> {
        let id = self.ping.map_or(1, |(id, _)| id.wrapping_add(1));
        let (wall_ns, next) = (self.node.clock.wall_ns(), self.source_next().await?);
        self.ping = Some((id, wall_ns));
        wire.send(&Message::Ping(Ping { id, wall_ns, next })).await
    }

    async fn source_next(&self) -> Result<u64, LinkError> {
        let next = self.node.source.state().await?.next;
        self.node.status.send_modify(|status| status.next = next);
        Ok(next)
    }
}
