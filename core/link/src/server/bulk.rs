//! Bulk requests to a node: numbered, each with its own credit, answered as a bounded stream.
//! What comes over the wire is the node's word: offsets, sizes and credit are checked, content is not.

use super::{Proof, Shared};
use crate::carve::{CarveQuery, CarveStatement};
use crate::common::{CHUNK, REQUESTS};
use crate::error::LinkError;
use crate::frame::{BulkRequest, Credit, FileData, FileGet, Hello, MAX_FRAME, Message, Ping, Pong, RefusedWhy, VERSION_MAX, Welcome};
use crate::ingest::Ingest;
use crate::name::{BlobName, NodeName};
use crate::wire::{Stream, Wire, unexpected};
use bytes::Bytes;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// What a request may have under way.
const WINDOW: u32 = 4 * CHUNK;
/// Parts under way; a node that cuts them smaller than this breaks the protocol.
const PARTS: usize = 64;
/// Commands of consumers waiting for the connection.
const COMMANDS: usize = 64;

/// Which part of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub offset: u64,
    /// How many at most; `None` = to the end.
    pub len: Option<u64>,
}

impl Range {
    /// The whole blob.
    pub const ALL: Self = Self { offset: 0, len: None };
}

/// Why a file or a carve does not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The node has no bulk connection now.
    #[error("node {0} is not connected")]
    NotConnected(NodeName),
    /// The connection ended while the file came.
    #[error("the connection to node {0} broke while the answer came")]
    Broken(NodeName),
    /// Too many requests to this node are under way here.
    #[error("too many requests to node {0} at once: try again")]
    Busy(NodeName),
    /// The node answered that it will not.
    #[error("node {0}: {1}")]
    Refused(NodeName, RefusedWhy),
    /// The node could not carve, in its words.
    #[error("node {0} could not carve: {1}")]
    Carve(NodeName, String),
}

/// What is asked for.
pub(super) enum Wanted {
    Blob(BlobName, Range),
    Carve(CarveQuery),
}

/// What consumers tell the connection.
pub(super) enum Command {
    Get { wanted: Wanted, parts: mpsc::Sender<Part>, number: oneshot::Sender<Option<u32>> },
    Taken { request: u32, bytes: u32 },
    Cancel { request: u32 },
}

pub(super) enum Part {
    Bytes(Bytes),
    End { total: u64 },
    Statement(Box<CarveStatement>),
    Refused(RefusedWhy),
}

/// An answer on its way: what files and carves share. Dropping it cancels the request.
#[derive(Debug)]
struct Incoming {
    node: NodeName,
    request: u32,
    parts: mpsc::Receiver<Part>,
    commands: mpsc::Sender<Command>,
    ended: bool,
}

impl Incoming {
    async fn request(commands: mpsc::Sender<Command>, node: NodeName, wanted: Wanted) -> Result<Self, FileError> {
        let (send, parts) = mpsc::channel(PARTS);
        let (number, numbered) = oneshot::channel();
        let gone = || FileError::Broken(node.clone());
        commands.send(Command::Get { wanted, parts: send, number }).await.map_err(|_| gone())?;
        match numbered.await.map_err(|_| gone())? {
            Some(request) => Ok(Self { node, request, parts, commands, ended: false }),
            None => Err(FileError::Busy(node)),
        }
    }

    /// The next part; bytes are paid for with credit as they are taken.
    async fn next(&mut self) -> Option<Result<Part, FileError>> {
        if self.ended {
            return None;
        }
        let part = self.parts.recv().await;
        match part {
            Some(Part::Bytes(bytes)) => {
                let taken = Command::Taken { request: self.request, bytes: bytes.len() as u32 };
                // A closed connection shows at the next call.
                let _ = self.commands.send(taken).await;
                Some(Ok(Part::Bytes(bytes)))
            }
            last => {
                self.ended = true;
                Some(match last {
                    Some(Part::Refused(why)) => Err(FileError::Refused(self.node.clone(), why)),
                    Some(part) => Ok(part),
                    None => Err(FileError::Broken(self.node.clone())),
                })
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.ended {
            // If there is no room the connection notices at the next part.
            let _ = self.commands.try_send(Command::Cancel { request: self.request });
        }
    }
}

/// Part of a blob on its way. Dropping it cancels the request.
#[derive(Debug)]
pub struct FileStream {
    incoming: Incoming,
    total: Option<u64>,
}

impl FileStream {
    pub(super) async fn request(commands: mpsc::Sender<Command>, node: NodeName, blob: BlobName, range: Range) -> Result<Self, FileError> {
        Ok(Self { incoming: Incoming::request(commands, node, Wanted::Blob(blob, range)).await?, total: None })
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, FileError>> {
        match self.incoming.next().await? {
            Ok(Part::Bytes(bytes)) => Some(Ok(bytes)),
            Ok(Part::End { total }) => {
                self.total = Some(total);
                None
            }
            Ok(_) => Some(Err(FileError::Broken(self.incoming.node.clone()))),
            Err(error) => Some(Err(error)),
        }
    }

    /// Size of the whole blob as stored on the node, known at the end.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// All bytes, or an error when there are more than `max`.
    pub async fn collect(mut self, max: usize) -> Result<Vec<u8>, FileError> {
        let mut all = Vec::new();
        while let Some(part) = self.next().await {
            let part = part?;
            if all.len().saturating_add(part.len()) > max {
                return Err(FileError::Refused(self.incoming.node.clone(), RefusedWhy::Failed));
            }
            all.extend_from_slice(&part);
        }
        Ok(all)
    }
}

/// A carve on its way. Dropping it cancels the request.
#[derive(Debug)]
pub struct CarveStream {
    incoming: Incoming,
    statement: Option<Box<CarveStatement>>,
}

impl CarveStream {
    pub(super) async fn request(commands: mpsc::Sender<Command>, node: NodeName, query: CarveQuery) -> Result<Self, FileError> {
        Ok(Self { incoming: Incoming::request(commands, node, Wanted::Carve(query)).await?, statement: None })
    }

    /// The next bytes of the pcapng file; `None` at the end. After an error what came before is void.
    pub async fn next(&mut self) -> Option<Result<Bytes, FileError>> {
        match self.incoming.next().await? {
            Ok(Part::Bytes(bytes)) => Some(Ok(bytes)),
            Ok(Part::Statement(statement)) => match &statement.failed {
                Some(why) => Some(Err(FileError::Carve(self.incoming.node.clone(), glasshive_event::text::escape(why)))),
                None => {
                    self.statement = Some(statement);
                    None
                }
            },
            Ok(_) => Some(Err(FileError::Broken(self.incoming.node.clone()))),
            Err(error) => Some(Err(error)),
        }
    }

    /// What the node says of its answer; known at the end.
    pub fn statement(&self) -> Option<&CarveStatement> {
        self.statement.as_deref()
    }
}

/// A request under way.
struct Request {
    is_carve: bool,
    parts: mpsc::Sender<Part>,
    /// Where the next part must stand.
    offset: u64,
    /// What the node may still send.
    credit: u64,
    left: u64,
}

pub(super) async fn run<I: Ingest, T: Stream>(
    shared: &Arc<Shared<I>>,
    proof: &Proof,
    hello: Hello,
    wire: &mut Wire<T>,
) -> Result<Infallible, LinkError> {
    let node = &proof.peer.node;
    let welcome = Welcome {
        version: VERSION_MAX,
        durable: hello.next.saturating_sub(1),
        credit: 0,
        max_frame: MAX_FRAME as u32,
        wall_ns: shared.clock.wall_ns(),
    };
    wire.send(&Message::Welcome(welcome)).await?;
    let (commands, mut asked) = mpsc::channel(COMMANDS);
    shared.nodes.bulk(node, Some(commands));
    let _gone = Gone(shared, node);
    let mut requests = Requests { open: HashMap::new(), number: 0 };
    let mut pings = interval(shared.config.ping);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            biased;
            frame = wire.frame() => {
                heard = Instant::now();
                let now = shared.clock.wall_ns();
                let answer = match Message::decode(&frame?)? {
                    Message::Ping(ping) => Some(Message::Pong(Pong { id: ping.id, wall_ns: now, next: 0 })),
                    message => requests.hear(message)?,
                };
                if let Some(answer) = answer {
                    wire.send(&answer).await?;
                }
            }
            command = asked.recv() => {
                for message in command.map(|command| requests.command(command)).into_iter().flatten() {
                    wire.send(&message).await?;
                }
            }
            () = sleep_until(heard + shared.config.idle) => return Err(LinkError::Silent(shared.config.idle)),
            _ = pings.tick() => wire.send(&Message::Ping(Ping { id: 0, wall_ns: shared.clock.wall_ns(), next: 0 })).await?,
        }
    }
}

/// Takes the node's commands away when the connection ends.
struct Gone<'a, I>(&'a Arc<Shared<I>>, &'a NodeName);
impl<I> Drop for Gone<'_, I> {
    fn drop(&mut self) {
        self.0.nodes.bulk(self.1, None);
    }
}

struct Requests {
    open: HashMap<u32, Request>,
    number: u32,
}

impl Requests {
    fn command(&mut self, command: Command) -> Vec<Message> {
        match command {
            Command::Get { wanted, parts, number } => {
                self.open.retain(|_, request| !request.parts.is_closed());
                if self.open.len() >= REQUESTS {
                    let _ = number.send(None);
                    return Vec::new();
                }
                self.number = self.number.wrapping_add(1);
                let request = self.number;
                if number.send(Some(request)).is_err() {
                    return Vec::new();
                }
                let credit = u64::from(WINDOW);
                match wanted {
                    Wanted::Blob(name, range) => {
                        let (offset, len) = (range.offset, range.len.unwrap_or(u64::MAX));
                        self.open.insert(request, Request { is_carve: false, parts, offset, credit, left: len });
                        vec![Message::FileGet(FileGet { request, name, offset, len, credit: WINDOW })]
                    }
                    Wanted::Carve(query) => {
                        let Some(json) = query.to_json() else {
                            let _ = parts.try_send(Part::Refused(RefusedWhy::Question));
                            return Vec::new();
                        };
                        self.open.insert(request, Request { is_carve: true, parts, offset: 0, credit, left: query.max_bytes });
                        let carve = Message::Carve(BulkRequest { request, query: json.into() });
                        vec![carve, Message::Credit(Credit { request, bytes: WINDOW })]
                    }
                }
            }
            Command::Taken { request, bytes } => {
                let Some(open) = self.open.get_mut(&request) else { return Vec::new() };
                open.credit = open.credit.saturating_add(u64::from(bytes));
                vec![Message::Credit(Credit { request, bytes })]
            }
            Command::Cancel { request } => self.open.remove(&request).map(|_| Message::Cancel(request)).into_iter().collect(),
        }
    }

    fn hear(&mut self, message: Message) -> Result<Option<Message>, LinkError> {
        match message {
            Message::FileData(data) => self.data(data, false),
            Message::CarveData(data) => self.data(data, true),
            Message::FileEnd(end) => self.last(end.request, Some(false), Part::End { total: end.total }),
            Message::CarveEnd(end) => match CarveStatement::from_json(&end.query) {
                Some(statement) => self.last(end.request, Some(true), Part::Statement(Box::new(statement))),
                None => Err(LinkError::Violation("the statement of a carve is damaged".into())),
            },
            Message::Refused(refused) => self.last(refused.request, None, Part::Refused(refused.why)),
            Message::Pong(_) | Message::Unknown(_) => Ok(None),
            Message::GoAway(away) => Err(LinkError::away(away)),
            other => Err(unexpected(&other.frame()?)),
        }
    }

    fn data(&mut self, data: FileData, is_carve: bool) -> Result<Option<Message>, LinkError> {
        let violation = |what: &str| Err(LinkError::Violation(what.into()));
        // Parts of a cancelled request may still be on their way.
        let Some(open) = self.open.get_mut(&data.request) else { return Ok(None) };
        let length = data.bytes.len() as u64;
        if length == 0 || open.is_carve != is_carve || data.offset != open.offset || length > open.credit || length > open.left {
            return violation("a part of an answer that was not asked for");
        }
        open.offset = open.offset.saturating_add(length);
        open.credit = open.credit.saturating_sub(length);
        open.left = open.left.saturating_sub(length);
        match open.parts.try_send(Part::Bytes(data.bytes)) {
            Ok(()) => Ok(None),
            Err(mpsc::error::TrySendError::Full(_)) => violation("an answer cut into too many parts"),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.open.remove(&data.request);
                Ok(Some(Message::Cancel(data.request)))
            }
        }
    }

    /// The last word of an answer; `is_carve` = of which kind the request must be.
    fn last(&mut self, request: u32, is_carve: Option<bool>, part: Part) -> Result<Option<Message>, LinkError> {
        let Some(open) = self.open.remove(&request) else { return Ok(None) };
        if is_carve.is_some_and(|is_carve| is_carve != open.is_carve) {
            return Err(LinkError::Violation("an answer of another kind than was asked for".into()));
        }
        match open.parts.try_send(part) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(LinkError::Violation("an answer cut into too many parts".into())),
            _ => Ok(None),
        }
    }
}
