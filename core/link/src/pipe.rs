//! A [`BlockSource`] over a connected stream socket, so that the link can live in a child process
//! that alone may connect: [`serve`] beside the journal, [`RemoteSource`] in the child.
//!
//! The frames are the link's, with the same limits. The child tells back how the link stands and,
//! once it has an identity, whom to seal to. Closing the socket ends both sides.

use crate::carve::{CARVES, CarvePart, CarveParts, CarveQuery, CarveStatement};
use crate::error::LinkError;
use crate::frame::{Frame, FrameError, MAX_FRAME, RefusedWhy};
use crate::identity::IdentityDir;
use crate::source::{BlobPart, Block, BlockSource, SourceClosed, SourceState};
use crate::status::LinkStatus;
use crate::wire::{Stream, Wire};
use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::FuturesUnordered;
use glasshive_event::LogId;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot, watch};
use tokio::time::timeout;

/// Most questions under way: main and bulk connection ask a few at a time.
const QUESTIONS: usize = 64;
/// Most bytes one answer may carry beside its head.
const ANSWER: usize = 1024 * 1024;
/// A question for news is answered after this in any case: should its asker have gone unnoticed, its place is free again.
const NEWS: Duration = Duration::from_secs(20);

/// Frame types of the pipe; numbers are never reused.
mod kind {
    pub(super) const ASK: u8 = 64;
    pub(super) const ANSWER: u8 = 65;
    pub(super) const STATUS: u8 = 66;
    pub(super) const SEALING: u8 = 67;
    pub(super) const FORGET: u8 = 68;
    pub(super) const CARVED: u8 = 69;
}

/// What the child tells the journal's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PipeEvent {
    /// How the link stands now.
    Status(Box<LinkStatus>),
    /// An identity was installed or renewed: seal to this.
    Sealing(Sealing),
}

/// Whom to seal to, and the pivot key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealing {
    /// The node's name.
    pub node: String,
    /// The node's net.
    pub net: String,
    /// `age1…`.
    pub recipient: String,
    /// Key of the pivot HMAC.
    pub pivot: [u8; 32],
}

impl std::fmt::Debug for Sealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealing").field("node", &self.node).field("recipient", &self.recipient).finish_non_exhaustive()
    }
}

/// Both ends are one binary, but old and new may meet during an upgrade: variants are only added at the end.
#[derive(Serialize, Deserialize)]
enum Question {
    State,
    Changed(u64),
    Read {
        from: u64,
        max: u32,
    },
    Acknowledged(u64),
    Blob {
        name: String,
        offset: u64,
        len: u32,
    },
    /// The query, JSON. It is known by the number of this question from then on.
    Carve(Vec<u8>),
    /// The next part of the carve with that number.
    Part(u32),
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Closed,
    Done,
    State {
        log: LogId,
        first: u64,
        next: u64,
        chain: [u8; 32],
    },
    /// First, last, chain before and length of each block; the bytes follow.
    Blocks(Vec<(u64, u64, [u8; 32], u32)>),
    /// Total size; the bytes follow.
    Blob(u64),
    NoBlob,
    Unchanged,
    Carving,
    Refused(RefusedWhy),
    /// The bytes follow.
    Part,
    /// The statement follows, JSON.
    CarveEnd,
}

/// Answers a child from `source` until either closes. `events` gets what the child reports; when nobody
/// takes it the latest is dropped, never waited for.
pub async fn serve<S, T>(source: S, stream: T, events: mpsc::Sender<PipeEvent>) -> Result<(), LinkError>
where
    S: BlockSource,
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut wire = Wire::new(stream, MAX_FRAME);
    let carves = Carves::default();
    let mut working = FuturesUnordered::new();
    let mut handles: HashMap<u32, AbortHandle> = HashMap::new();
    loop {
        tokio::select! {
            frame = wire.frame() => match frame {
                Ok(frame) => match frame.kind {
                    kind::ASK if working.len() >= QUESTIONS => return Err(LinkError::Violation("too many questions at once".into())),
                    kind::ASK => {
                        let (number, question) = ask(&frame)?;
                        let (work, handle) = abortable(answer(&source, &carves, number, question));
                        handles.insert(number, handle);
                        working.push(async move { (number, work.await) });
                    }
                    kind::STATUS => {
                        if let Ok(status) = serde_json::from_slice(&frame.body()?) {
                            let _ = events.try_send(PipeEvent::Status(Box::new(status)));
                        }
                    }
                    kind::SEALING => {
                        let sealing = postcard::from_bytes(&frame.body()?).map_err(|_| FrameError::Malformed(frame.kind))?;
                        // Not to be lost: secrets would go on being sealed to the old key.
                        events.send(PipeEvent::Sealing(sealing)).await.map_err(|_| LinkError::Stopping)?;
                    }
                    kind::FORGET => {
                        let number: u32 = postcard::from_bytes(&frame.body()?).map_err(|_| FrameError::Malformed(frame.kind))?;
                        if let Some(handle) = handles.remove(&number) {
                            handle.abort();
                        }
                        carves.remove(number);
                    }
                    kind::CARVED => {
                        let number: u32 = postcard::from_bytes(&frame.body()?).map_err(|_| FrameError::Malformed(frame.kind))?;
                        carves.remove(number);
                    }
                    other => return Err(FrameError::Unexpected(other).into()),
                },
                Err(LinkError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            },
            Some((number, done)) = working.next() => {
                handles.remove(&number);
                if let Ok(answer) = done {
                    wire.send_frame(answer?).await?;
                }
            }
        }
    }
}

fn ask(frame: &Frame) -> Result<(u32, Question), FrameError> {
    postcard::from_bytes(&frame.body()?).map_err(|_| FrameError::Malformed(frame.kind))
}

/// Carves under way, by the number of the question that began them.
#[derive(Default)]
struct Carves(Mutex<HashMap<u32, Arc<AsyncMutex<CarveParts>>>>);

impl Carves {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<AsyncMutex<CarveParts>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, number: u32) {
        self.lock().remove(&number);
    }

    async fn begin<S: BlockSource>(&self, source: &S, number: u32, query: &[u8]) -> Result<Answer, SourceClosed> {
        let Some(query) = CarveQuery::from_json(query) else { return Ok(Answer::Refused(RefusedWhy::Question)) };
        // The source bounds them; this bounds a child that never takes its answers.
        if self.lock().len() >= CARVES {
            return Ok(Answer::Refused(RefusedWhy::Busy));
        }
        Ok(match source.carve(query).await? {
            Ok(parts) => {
                self.lock().insert(number, Arc::new(AsyncMutex::new(parts)));
                Answer::Carving
            }
            Err(why) => Answer::Refused(why),
        })
    }

    async fn part(&self, number: u32, raw: &mut Vec<u8>) -> Answer {
        let Some(parts) = self.lock().get(&number).cloned() else { return Answer::Refused(RefusedWhy::Failed) };
        let answer = match parts.lock().await.next().await {
            CarvePart::Bytes(bytes) => {
                raw.extend_from_slice(&bytes);
                return Answer::Part;
            }
            CarvePart::End(statement) => {
                raw.extend(statement.to_json());
                Answer::CarveEnd
            }
            CarvePart::Refused(why) => Answer::Refused(why),
        };
        self.remove(number);
        answer
    }
}

async fn answer<S: BlockSource>(source: &S, carves: &Carves, number: u32, question: Question) -> Result<Frame, FrameError> {
    let mut raw = Vec::new();
    let answer = match question {
        Question::State => source.state().await.map(|s| Answer::State { log: s.log, first: s.first, next: s.next, chain: s.chain }),
        Question::Changed(after) => match timeout(NEWS, source.changed(after)).await {
            Ok(changed) => changed.map(|()| Answer::Done),
            Err(_) => Ok(Answer::Unchanged),
        },
        Question::Acknowledged(seq) => source.acknowledged(seq).await.map(|()| Answer::Done),
        Question::Read { from, max } => source.read(from, (max as usize).min(ANSWER)).await.map(|blocks| {
            let mut heads = Vec::new();
            for block in blocks {
                let fits = raw.len().saturating_add(block.bytes.len()) <= ANSWER;
                if !fits && !heads.is_empty() {
                    break;
                }
                heads.push((block.first, block.last, block.chain_before, block.bytes.len() as u32));
                raw.extend_from_slice(&block.bytes);
            }
            Answer::Blocks(heads)
        }),
        Question::Blob { name, offset, len } => source.blob(&name, offset, len.min(ANSWER as u32)).await.map(|part| match part {
            Some(part) => {
                raw.extend_from_slice(&part.bytes);
                Answer::Blob(part.total)
            }
            None => Answer::NoBlob,
        }),
        Question::Carve(query) => carves.begin(source, number, &query).await,
        Question::Part(carve) => Ok(carves.part(carve, &mut raw).await),
    };
    let head = (number, answer.unwrap_or(Answer::Closed));
    let mut body = postcard::to_stdvec(&head).map_err(|_| FrameError::Malformed(kind::ANSWER))?;
    body.extend_from_slice(&raw);
    Ok(Frame::plain(kind::ANSWER, body))
}

enum ToParent {
    Ask(Question, oneshot::Sender<(u32, Answer, Bytes)>),
    Tell(Frame),
}

/// The journal as the child sees it. Clones share the socket; it closes when the last is dropped.
#[derive(Clone, Debug)]
pub struct RemoteSource(mpsc::Sender<ToParent>);

impl RemoteSource {
    /// Over `stream`. Needs a tokio runtime: a task carries questions and answers.
    pub fn new<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: T) -> Self {
        let (asks, asked) = mpsc::channel(QUESTIONS);
        tokio::spawn(async move {
            if let Err(error) = carry(stream, asked).await {
                tracing::debug!(%error, "pipe to the journal ended");
            }
        });
        Self(asks)
    }

    /// Returns when the journal's side has gone: the child should end.
    pub async fn closed(&self) {
        self.0.closed().await;
    }

    /// Reports every change of `status`, and with a new certificate whom to seal to, until the pipe or the status ends.
    pub async fn report(&self, mut status: watch::Receiver<LinkStatus>, identity: IdentityDir) {
        let mut serial = None;
        loop {
            let now = status.borrow_and_update().clone();
            if now.serial.is_some() && now.serial != serial {
                serial = now.serial.clone();
                let dir = identity.clone();
                if let Ok(Ok(identity)) = tokio::task::spawn_blocking(move || dir.load()).await {
                    let sealing = Sealing {
                        node: identity.node.to_string(),
                        net: identity.net.clone(),
                        recipient: identity.recipient.clone(),
                        pivot: identity.pivot,
                    };
                    if !self.tell(kind::SEALING, postcard::to_stdvec(&sealing).unwrap_or_default()).await {
                        return;
                    }
                }
            }
            if !self.tell(kind::STATUS, serde_json::to_vec(&now).unwrap_or_default()).await || status.changed().await.is_err() {
                return;
            }
        }
    }

    async fn tell(&self, kind: u8, body: Vec<u8>) -> bool {
        self.0.send(ToParent::Tell(Frame::plain(kind, body))).await.is_ok()
    }

    async fn ask(&self, question: Question) -> Result<(Answer, Bytes), SourceClosed> {
        self.numbered(question).await.map(|(_, answer, bytes)| (answer, bytes))
    }

    /// The answer with the number of the question.
    async fn numbered(&self, question: Question) -> Result<(u32, Answer, Bytes), SourceClosed> {
        let (send, answer) = oneshot::channel();
        self.0.send(ToParent::Ask(question, send)).await.map_err(|_| SourceClosed)?;
        match answer.await {
            Ok((_, Answer::Closed, _)) | Err(_) => Err(SourceClosed),
            Ok(answer) => Ok(answer),
        }
    }

    /// Fetches the parts of a carve until it ends or nobody takes them any more.
    async fn fetch(self, carve: u32, parts: mpsc::Sender<CarvePart>) {
        loop {
            let part = tokio::select! {
                () = parts.closed() => break,
                part = self.ask(Question::Part(carve)) => part,
            };
            let part = match part {
                Ok((Answer::Part, bytes)) => CarvePart::Bytes(bytes),
                Ok((Answer::CarveEnd, json)) => match CarveStatement::from_json(&json) {
                    Some(statement) => CarvePart::End(Box::new(statement)),
                    None => CarvePart::Refused(RefusedWhy::Failed),
                },
                Ok((Answer::Refused(why), _)) => CarvePart::Refused(why),
                _ => CarvePart::Refused(RefusedWhy::Failed),
            };
            let last = !matches!(part, CarvePart::Bytes(_));
            if parts.send(part).await.is_err() || last {
                break;
            }
        }
        self.tell(kind::CARVED, postcard::to_stdvec(&carve).unwrap_or_default()).await;
    }
}

/// Carries questions out and answers in.
async fn carry<T: Stream>(stream: T, mut asked: mpsc::Receiver<ToParent>) -> Result<(), LinkError> {
    let mut wire = Wire::new(stream, MAX_FRAME);
    let mut waiting: HashMap<u32, oneshot::Sender<(u32, Answer, Bytes)>> = HashMap::new();
    let mut last = 0u32;
    loop {
        // Who was cancelled (a connection that ended) does not occupy a place on either side.
        let gone: Vec<u32> = waiting.iter().filter(|(_, asker)| asker.is_closed()).map(|(number, _)| *number).collect();
        for number in gone {
            waiting.remove(&number);
            let body = postcard::to_stdvec(&number).map_err(|_| FrameError::Malformed(kind::FORGET))?;
            wire.send_frame(Frame::plain(kind::FORGET, body)).await?;
        }
        tokio::select! {
            frame = wire.frame() => {
                let frame = frame?;
                if frame.kind != kind::ANSWER {
                    return Err(FrameError::Unexpected(frame.kind).into());
                }
                let mut body = frame.body()?;
                let malformed = |_| FrameError::Malformed(kind::ANSWER);
                let ((number, answer), rest) = postcard::take_from_bytes::<(u32, Answer)>(&body).map_err(malformed)?;
                let head = body.len().saturating_sub(rest.len());
                body.advance(head);
                // The asker may have been cancelled; a carve it began must not stay.
                if let Some(waiting) = waiting.remove(&number)
                    && let Err((carve, Answer::Carving, _)) = waiting.send((number, answer, body))
                {
                    let body = postcard::to_stdvec(&carve).map_err(|_| FrameError::Malformed(kind::CARVED))?;
                    wire.send_frame(Frame::plain(kind::CARVED, body)).await?;
                }
            }
            ask = asked.recv(), if waiting.len() < QUESTIONS / 2 => match ask {
                Some(ToParent::Ask(_, asker)) if asker.is_closed() => {}
                Some(ToParent::Ask(question, answer)) => {
                    last = last.wrapping_add(1);
                    let body = postcard::to_stdvec(&(last, question)).map_err(|_| FrameError::Malformed(kind::ASK))?;
                    waiting.insert(last, answer);
                    wire.send_frame(Frame::plain(kind::ASK, body)).await?;
                }
                Some(ToParent::Tell(frame)) => wire.send_frame(frame).await?,
                None => {
                    let _ = wire.into_stream().shutdown().await;
                    return Ok(());
                }
            },
        }
    }
}

impl BlockSource for RemoteSource {
    async fn state(&self) -> Result<SourceState, SourceClosed> {
        match self.ask(Question::State).await? {
            (Answer::State { log, first, next, chain }, _) => Ok(SourceState { log, first, next, chain }),
            _ => Err(SourceClosed),
        }
    }

    async fn changed(&self, after: u64) -> Result<(), SourceClosed> {
        while let (Answer::Unchanged, _) = self.ask(Question::Changed(after)).await? {}
        Ok(())
    }

    async fn read(&self, from: u64, max_bytes: usize) -> Result<Vec<Block>, SourceClosed> {
        let max = u32::try_from(max_bytes).unwrap_or(u32::MAX);
        let (Answer::Blocks(heads), mut bytes) = self.ask(Question::Read { from, max }).await? else { return Err(SourceClosed) };
        let mut blocks = Vec::new();
        for (first, last, chain_before, length) in heads {
            let length = length as usize;
            if length > bytes.len() {
                return Err(SourceClosed);
            }
            blocks.push(Block { first, last, chain_before, bytes: bytes.split_to(length).into() });
        }
        Ok(blocks)
    }

    async fn acknowledged(&self, seq: u64) -> Result<(), SourceClosed> {
        self.ask(Question::Acknowledged(seq)).await.map(|_| ())
    }

    async fn blob(&self, name: &str, offset: u64, len: u32) -> Result<Option<BlobPart>, SourceClosed> {
        match self.ask(Question::Blob { name: name.to_owned(), offset, len }).await? {
            (Answer::Blob(total), bytes) => Ok(Some(BlobPart { total, bytes })),
            (Answer::NoBlob, _) => Ok(None),
            _ => Err(SourceClosed),
        }
    }

    async fn carve(&self, query: CarveQuery) -> Result<Result<CarveParts, RefusedWhy>, SourceClosed> {
        let Some(json) = query.to_json() else { return Ok(Err(RefusedWhy::Question)) };
        Ok(match self.numbered(Question::Carve(json)).await? {
            (carve, Answer::Carving, _) => {
                let (parts, taken) = mpsc::channel(1);
                tokio::spawn(self.clone().fetch(carve, parts));
                Ok(CarveParts(taken))
            }
            (_, Answer::Refused(why), _) => Err(why),
            _ => Err(RefusedWhy::Failed),
        })
    }
}
