//! The bulk connection of a node: parts of blobs and carves, several requests in turn, each within its credit.

use super::Node;
use crate::carve::{CARVES, CarvePart, CarveParts, CarveQuery};
use crate::common::{CHUNK, REQUESTS};
use crate::error::LinkError;
use crate::frame::{BulkRequest, FileData, FileEnd, FileGet, Message, Ping, Pong, Refused, RefusedWhy};
use crate::identity::NodeIdentity;
use crate::source::{BlockSource, SourceClosed};
use crate::wire::{Stream, Wire, unexpected};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, Abortable, Aborted, BoxFuture, abortable};
use futures_util::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::convert::Infallible;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// A file on its way.
struct Answer {
    get: FileGet,
    /// Credit left.
    credit: u64,
}

/// A carve on its way.
struct Carve {
    request: u32,
    /// Credit left.
    credit: u64,
    /// Bytes sent.
    offset: u64,
    /// Bytes taken from the carve and not yet sent, for want of credit.
    held: Bytes,
    /// `None` while `working` has it.
    parts: Option<CarveParts>,
    working: Option<AbortHandle>,
}

impl Drop for Carve {
    fn drop(&mut self) {
        if let Some(working) = &self.working {
            working.abort();
        }
    }
}

/// What came of waiting for a carve: its beginning, or its next part.
enum Came {
    Begun(Result<Result<CarveParts, RefusedWhy>, SourceClosed>),
    Part(CarveParts, CarvePart),
}

type Waiting<'a> = BoxFuture<'a, (u32, Came)>;

/// The requests of one connection.
struct Requests<'a, S> {
    node: &'a Node<S>,
    files: VecDeque<Answer>,
    carves: Vec<Carve>,
    /// Carves being waited for.
    working: FuturesUnordered<Abortable<Waiting<'a>>>,
}

pub(super) async fn run<S: BlockSource, T: Stream>(
    node: &Node<S>,
    identity: &NodeIdentity,
    wire: &mut Wire<T>,
) -> Result<Infallible, LinkError> {
    node.hello(identity, wire).await?;
    let mut requests = Requests { node, files: VecDeque::new(), carves: Vec::new(), working: FuturesUnordered::new() };
    let mut pings = interval(node.config.ping);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let ready = requests.files.iter().any(|answer| answer.credit > 0);
        tokio::select! {
            biased;
            frame = wire.frame() => {
                heard = Instant::now();
                if let Some(answer) = requests.hear(Message::decode(&frame?)?)? {
                    wire.send(&answer).await?;
                }
                requests.pour(wire).await?;
            }
            () = sleep_until(heard + node.config.idle) => return Err(LinkError::Silent(node.config.idle)),
            _ = pings.tick() => wire.send(&Message::Ping(Ping { id: 0, wall_ns: node.clock.wall_ns(), next: 0 })).await?,
            Some(came) = requests.working.next() => {
                if let Some(answer) = requests.came(came)? {
                    wire.send(&answer).await?;
                }
                requests.pour(wire).await?;
            }
            () = std::future::ready(()), if ready => requests.step(wire).await?,
        }
    }
}

impl<'a, S: BlockSource> Requests<'a, S> {
    fn hear(&mut self, message: Message) -> Result<Option<Message>, LinkError> {
        let refuse = |request, why| Ok(Some(Message::Refused(Refused { request, why })));
        match message {
            Message::FileGet(FileGet { request, .. }) | Message::Carve(BulkRequest { request, .. }) if self.is_open(request) => {
                Err(LinkError::Violation("a request number was used twice".into()))
            }
            Message::FileGet(get) if self.files.len() >= REQUESTS => refuse(get.request, RefusedWhy::Busy),
            Message::FileGet(get) => {
                let credit = u64::from(get.credit);
                self.files.push_back(Answer { get, credit });
                Ok(None)
            }
            Message::Carve(carve) if self.carves.len() >= CARVES => refuse(carve.request, RefusedWhy::Busy),
            Message::Carve(carve) => match CarveQuery::from_json(&carve.query) {
                Some(query) => {
                    self.begin(carve.request, query);
                    Ok(None)
                }
                None => refuse(carve.request, RefusedWhy::Question),
            },
            Message::Credit(more) => {
                let file = self.files.iter_mut().find(|answer| answer.get.request == more.request).map(|answer| &mut answer.credit);
                let carve = self.carves.iter_mut().find(|carve| carve.request == more.request).map(|carve| &mut carve.credit);
                if let Some(credit) = file.or(carve) {
                    *credit = credit.saturating_add(u64::from(more.bytes));
                }
                Ok(None)
            }
            Message::Cancel(request) => {
                self.files.retain(|answer| answer.get.request != request);
                self.carves.retain(|carve| carve.request != request);
                Ok(None)
            }
            Message::Ping(ping) => Ok(Some(Message::Pong(Pong { id: ping.id, wall_ns: self.node.clock.wall_ns(), next: 0 }))),
            Message::Pong(_) | Message::Unknown(_) => Ok(None),
            Message::GoAway(away) => Err(LinkError::away(away)),
            other => Err(unexpected(&other.frame()?)),
        }
    }

    fn is_open(&self, request: u32) -> bool {
        self.files.iter().any(|answer| answer.get.request == request) || self.carves.iter().any(|carve| carve.request == request)
    }

    fn begin(&mut self, request: u32, query: CarveQuery) {
        let node = self.node;
        let begun: Waiting<'a> = Box::pin(async move { (request, Came::Begun(node.source.carve(query).await)) });
        let (begun, handle) = abortable(begun);
        self.working.push(begun);
        self.carves.push(Carve { request, credit: 0, offset: 0, held: Bytes::new(), parts: None, working: Some(handle) });
    }

    /// Takes what was waited for; the answer is the request's last word.
    fn came(&mut self, came: Result<(u32, Came), Aborted>) -> Result<Option<Message>, LinkError> {
        // Cancelled.
        let Ok((request, came)) = came else { return Ok(None) };
        let Some(at) = self.carves.iter().position(|carve| carve.request == request) else { return Ok(None) };
        let last = match came {
            Came::Begun(begun) => match begun? {
                Ok(parts) => {
                    if let Some(carve) = self.carves.get_mut(at) {
                        (carve.parts, carve.working) = (Some(parts), None);
                    }
                    return Ok(None);
                }
                Err(why) => Message::Refused(Refused { request, why }),
            },
            Came::Part(parts, CarvePart::Bytes(bytes)) => {
                if let Some(carve) = self.carves.get_mut(at) {
                    (carve.parts, carve.working, carve.held) = (Some(parts), None, bytes);
                }
                return Ok(None);
            }
            Came::Part(_, CarvePart::End(statement)) => Message::CarveEnd(BulkRequest { request, query: Bytes::from(statement.to_json()) }),
            Came::Part(_, CarvePart::Refused(why)) => Message::Refused(Refused { request, why }),
        };
        self.carves.swap_remove(at);
        Ok(Some(last))
    }

    /// Sends what carves have as far as their credit goes, and asks for more where all was sent.
    async fn pour<T: Stream>(&mut self, wire: &mut Wire<T>) -> Result<(), LinkError> {
        let Self { carves, working, .. } = self;
        for carve in carves {
            let request = carve.request;
            loop {
                let length = (carve.held.len() as u64).min(carve.credit).min(u64::from(CHUNK)) as usize;
                if length == 0 {
                    break;
                }
                let (offset, bytes) = (carve.offset, carve.held.split_to(length));
                carve.offset = offset.saturating_add(length as u64);
                carve.credit = carve.credit.saturating_sub(length as u64);
                wire.send(&Message::CarveData(FileData { request, offset, bytes })).await?;
            }
            // Without credit the end can still be said.
            if carve.held.is_empty()
                && let Some(mut parts) = carve.parts.take()
            {
                let next = async move {
                    let part = parts.next().await;
                    (request, Came::Part(parts, part))
                };
                let next: Waiting<'a> = Box::pin(next);
                let (next, handle) = abortable(next);
                working.push(next);
                carve.working = Some(handle);
            }
        }
        Ok(())
    }

    /// Sends one part of the next file that has credit, and puts it at the end of the line.
    async fn step<T: Stream>(&mut self, wire: &mut Wire<T>) -> Result<(), LinkError> {
        let Some(at) = self.files.iter().position(|answer| answer.credit > 0) else { return Ok(()) };
        let Some(mut answer) = self.files.remove(at) else { return Ok(()) };
        let (request, offset) = (answer.get.request, answer.get.offset);
        let want = u64::from(CHUNK).min(answer.credit).min(answer.get.len) as u32;
        let Some(part) = self.node.source.blob(answer.get.name.as_str(), offset, want).await? else {
            return wire.send(&Message::Refused(Refused { request, why: RefusedWhy::NotFound })).await;
        };
        let sent = part.bytes.len() as u64;
        if sent > u64::from(want) {
            return wire.send(&Message::Refused(Refused { request, why: RefusedWhy::Failed })).await;
        }
        let total = part.total;
        if sent > 0 {
            wire.send(&Message::FileData(FileData { request, offset, bytes: part.bytes })).await?;
        }
        answer.get.offset = offset.saturating_add(sent);
        answer.get.len = answer.get.len.saturating_sub(sent);
        answer.credit = answer.credit.saturating_sub(sent);
        if sent == 0 || answer.get.len == 0 || answer.get.offset >= total {
            return wire.send(&Message::FileEnd(FileEnd { request, total })).await;
        }
        self.files.push_back(answer);
        Ok(())
    }
}
