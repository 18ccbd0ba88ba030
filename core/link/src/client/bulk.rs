//! The bulk connection of a node: parts of blobs, several requests in turn, each within its credit.

use super::Node;
use crate::common::{CHUNK, REQUESTS};
use crate::error::LinkError;
use crate::frame::{FileData, FileEnd, FileGet, Message, Ping, Pong, Refused, RefusedWhy};
use crate::identity::NodeIdentity;
use crate::source::BlockSource;
use crate::wire::{Stream, Wire, unexpected};
use std::collections::VecDeque;
use std::convert::Infallible;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

struct Answer {
    get: FileGet,
    /// Credit left.
    credit: u64,
}

pub(super) async fn run<S: BlockSource, T: Stream>(
    node: &Node<S>,
    identity: &NodeIdentity,
    wire: &mut Wire<T>,
) -> Result<Infallible, LinkError> {
    node.hello(identity, wire).await?;
    let mut answers: VecDeque<Answer> = VecDeque::new();
    let mut pings = interval(node.config.ping);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let ready = answers.iter().any(|answer| answer.credit > 0);
        tokio::select! {
            biased;
            frame = wire.frame() => {
                heard = Instant::now();
                if let Some(answer) = hear(node, Message::decode(&frame?)?, &mut answers)? {
                    wire.send(&answer).await?;
                }
            }
            () = sleep_until(heard + node.config.idle) => return Err(LinkError::Silent(node.config.idle)),
            _ = pings.tick() => wire.send(&Message::Ping(Ping { id: 0, wall_ns: node.clock.wall_ns(), next: 0 })).await?,
            () = std::future::ready(()), if ready => step(node, &mut answers, wire).await?,
        }
    }
}

fn hear<S: BlockSource>(node: &Node<S>, message: Message, answers: &mut VecDeque<Answer>) -> Result<Option<Message>, LinkError> {
    let refuse = |request, why| Ok(Some(Message::Refused(Refused { request, why })));
    match message {
        Message::FileGet(get) if answers.len() >= REQUESTS => refuse(get.request, RefusedWhy::Busy),
        Message::FileGet(get) if answers.iter().any(|answer| answer.get.request == get.request) => {
            Err(LinkError::Violation("a request number was used twice".into()))
        }
        Message::FileGet(get) => {
            let credit = u64::from(get.credit);
            answers.push_back(Answer { get, credit });
            Ok(None)
        }
        Message::Credit(more) => {
            if let Some(answer) = answers.iter_mut().find(|answer| answer.get.request == more.request) {
                answer.credit = answer.credit.saturating_add(u64::from(more.bytes));
            }
            Ok(None)
        }
        Message::Cancel(request) => {
            answers.retain(|answer| answer.get.request != request);
            Ok(None)
        }
        Message::Carve(carve) => refuse(carve.request, RefusedWhy::NotSupported),
        Message::Ping(ping) => Ok(Some(Message::Pong(Pong { id: ping.id, wall_ns: node.clock.wall_ns(), next: 0 }))),
        Message::Pong(_) | Message::Unknown(_) => Ok(None),
        Message::GoAway(away) => Err(LinkError::away(away)),
        other => Err(unexpected(&other.frame()?)),
    }
}

/// Sends one part of the next answer that has credit, and puts it at the end of the line.
async fn step<S: BlockSource, T: Stream>(node: &Node<S>, answers: &mut VecDeque<Answer>, wire: &mut Wire<T>) -> Result<(), LinkError> {
    let Some(at) = answers.iter().position(|answer| answer.credit > 0) else { return Ok(()) };
    let Some(mut answer) = answers.remove(at) else { return Ok(()) };
    let (request, offset) = (answer.get.request, answer.get.offset);
    let want = u64::from(CHUNK).min(answer.credit).min(answer.get.len) as u32;
    let Some(part) = node.source.blob(answer.get.name.as_str(), offset, want).await? else {
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
    answers.push_back(answer);
    Ok(())
}
