//! The parts tests are made of.

use crate::carve::{CarveParts, CarveQuery, Carver};
use crate::client::{self, ClientConfig};
use crate::clock::{Clock, OffsetClock};
use crate::frame::RefusedWhy;
use crate::identity::{ControllerIdentity, IdentityDir};
use crate::ingest::{Batch, Gap, HighWater, Ingest, Notice, Peer, Refusal};
use crate::name::{NodeName, Role};
use crate::server::{Server, ServerConfig};
use crate::source::{BlobPart, Block, BlockSource, SourceClosed, SourceState};
use crate::status::LinkStatus;
use bytes::Bytes;
use glasshive_event::LogId;
use glasshive_event::record::{chain_hash, leaf_hash};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Nothing in these tests takes this long; it turns a hang into a failure.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen"),
    }
}

pub(super) fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// Deterministic bytes (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub(super) fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

// ---- journal ----

struct Journal {
    log: LogId,
    blocks: Vec<Block>,
    first: u64,
    chain: [u8; 32],
    blobs: HashMap<String, Bytes>,
    random: Random,
}

/// A journal in memory.
#[derive(Clone)]
pub(super) struct MemSource {
    journal: Arc<Mutex<Journal>>,
    next: Arc<watch::Sender<u64>>,
    pub(super) acked: Arc<watch::Sender<u64>>,
    carver: Option<Carver>,
}

impl MemSource {
    pub(super) fn new(log: u8) -> Self {
        let random = Random(u64::from(log));
        let journal = Journal { log: LogId([log; 16]), blocks: vec![], first: 1, chain: [0; 32], blobs: HashMap::new(), random };
        let (next, acked) = (Arc::new(watch::Sender::new(1)), Arc::new(watch::Sender::new(0)));
        Self { journal: Arc::new(Mutex::new(journal)), next, acked, carver: None }
    }

    pub(super) fn with_carver(self, carver: Carver) -> Self {
        Self { carver: Some(carver), ..self }
    }

    pub(super) fn log(&self) -> LogId {
        self.journal.lock().unwrap().log
    }

    /// Appends `count` records of about 300 bytes in blocks of 20.
    pub(super) fn push(&self, count: u64) -> &Self {
        let mut journal = self.journal.lock().unwrap();
        let mut next = *self.next.borrow();
        let end = next + count;
        while next < end {
            let last = (next + 19).min(end - 1);
            let mut block = Block { first: next, last, chain_before: journal.chain, bytes: vec![] };
            for seq in next..=last {
                let length = 200 + journal.random.below(200) as usize;
                let mut record = seq.to_be_bytes().to_vec();
                record.extend(journal.random.bytes(length));
                block.bytes.extend((record.len() as u32).to_be_bytes());
                block.bytes.extend(&record);
                journal.chain = chain_hash(&journal.chain, &leaf_hash(&record));
            }
            journal.blocks.push(block);
            next = last + 1;
        }
        drop(journal);
        self.next.send_replace(end);
        self
    }

    /// Forgets every block that begins before `seq`, as retention under pressure does.
    pub(super) fn drop_before(&self, seq: u64) {
        let mut journal = self.journal.lock().unwrap();
        journal.blocks.retain(|block| block.first >= seq);
        journal.first = journal.blocks.first().map_or(*self.next.borrow(), |block| block.first);
    }

    pub(super) fn put_blob(&self, name: &str, bytes: Vec<u8>) {
        self.journal.lock().unwrap().blobs.insert(name.into(), bytes.into());
    }

    /// All records, for comparison.
    pub(super) fn records(&self) -> Vec<Vec<u8>> {
        self.journal.lock().unwrap().blocks.iter().flat_map(|block| split(&block.bytes).unwrap()).collect()
    }

    /// Replaces the bytes of a record, as someone who owns the node might.
    pub(super) fn falsify(&self, seq: u64) {
        let mut journal = self.journal.lock().unwrap();
        let block = journal.blocks.iter_mut().find(|block| block.first <= seq && seq <= block.last).unwrap();
        *block.bytes.last_mut().unwrap() ^= 1;
    }

    pub(super) async fn until_acked(&self, seq: u64) {
        let mut acked = self.acked.subscribe();
        soon("acknowledgement", acked.wait_for(|acked| *acked >= seq)).await.unwrap();
    }
}

impl BlockSource for MemSource {
    async fn state(&self) -> Result<SourceState, SourceClosed> {
        let journal = self.journal.lock().unwrap();
        Ok(SourceState { log: journal.log, first: journal.first, next: *self.next.borrow(), chain: journal.chain })
    }
    async fn changed(&self, after: u64) -> Result<(), SourceClosed> {
        self.next.subscribe().wait_for(|next| *next > after + 1).await.map(|_| ()).map_err(|_| SourceClosed)
    }
    async fn read(&self, from: u64, max_bytes: usize) -> Result<Vec<Block>, SourceClosed> {
        let journal = self.journal.lock().unwrap();
        let (mut out, mut bytes) = (vec![], 0);
        for block in journal.blocks.iter().filter(|block| block.last >= from) {
            if !out.is_empty() && bytes + block.bytes.len() > max_bytes {
                break;
            }
            bytes += block.bytes.len();
            out.push(block.clone());
        }
        Ok(out)
    }
    async fn acknowledged(&self, seq: u64) -> Result<(), SourceClosed> {
        self.acked.send_if_modified(|acked| {
            let newer = seq > *acked;
            *acked = seq.max(*acked);
            newer
        });
        Ok(())
    }
    async fn blob(&self, name: &str, offset: u64, len: u32) -> Result<Option<BlobPart>, SourceClosed> {
        let journal = self.journal.lock().unwrap();
        let Some(blob) = journal.blobs.get(name) else { return Ok(None) };
        let from = (offset as usize).min(blob.len());
        let to = from.saturating_add(len as usize).min(blob.len());
        Ok(Some(BlobPart { total: blob.len() as u64, bytes: blob.slice(from..to) }))
    }
    async fn carve(&self, query: CarveQuery) -> Result<Result<CarveParts, RefusedWhy>, SourceClosed> {
        Ok(self.carver.as_ref().map_or(Err(RefusedWhy::NotSupported), |carver| carver.start(query)))
    }
}

// ---- store ----

#[derive(Clone, Default)]
pub(super) struct Held {
    pub(super) records: BTreeMap<u64, Vec<u8>>,
    pub(super) gaps: Vec<(u64, u64)>,
    seq: u64,
    chain: Option<[u8; 32]>,
    pub(super) batches: u64,
    pub(super) repeated: u64,
}

/// A store in memory that checks what a store must check.
#[derive(Clone)]
pub(super) struct MemIngest {
    logs: Arc<Mutex<BTreeMap<(NodeName, LogId), Held>>>,
    pub(super) notices: Arc<watch::Sender<Vec<Notice>>>,
    /// One permit = one batch; closed = any number.
    pub(super) gate: Arc<Semaphore>,
    stored: Arc<watch::Sender<u64>>,
    /// The next batch is refused with this.
    pub(super) refuse: Arc<Mutex<Option<Refusal>>>,
}

impl MemIngest {
    fn new() -> Self {
        let gate = Semaphore::new(0);
        gate.close();
        Self {
            logs: Arc::default(),
            notices: Arc::new(watch::Sender::new(vec![])),
            gate: Arc::new(gate),
            stored: Arc::new(watch::Sender::new(0)),
            refuse: Arc::default(),
        }
    }

    pub(super) fn held(&self, node: &str, log: LogId) -> Held {
        self.logs.lock().unwrap().get(&(name(node), log)).cloned().unwrap_or_default()
    }

    /// Forgets what came behind `seq`, as a controller that was put back from a copy.
    pub(super) fn roll_back(&self, node: &str, log: LogId, seq: u64) {
        let mut logs = self.logs.lock().unwrap();
        let held = logs.get_mut(&(name(node), log)).unwrap();
        held.records.split_off(&(seq + 1));
        (held.seq, held.chain) = (seq, None);
    }

    pub(super) fn logs(&self) -> Vec<(NodeName, LogId)> {
        self.logs.lock().unwrap().keys().cloned().collect()
    }

    pub(super) async fn until(&self, node: &str, source: &MemSource, seq: u64) {
        let mut stored = self.stored.subscribe();
        soon("storing", stored.wait_for(|_| self.held(node, source.log()).seq >= seq)).await.unwrap();
    }

    pub(super) async fn until_notice(&self, what: &str, test: impl Fn(&Notice) -> bool) {
        let mut notices = self.notices.subscribe();
        soon(what, notices.wait_for(|notices| notices.iter().any(&test))).await.unwrap();
    }

    /// Everything of the source arrived once and in order.
    pub(super) fn assert_whole(&self, node: &str, source: &MemSource) {
        let held = self.held(node, source.log());
        let sent = source.records();
        assert_eq!(held.records.len(), sent.len());
        assert!(held.records.values().eq(sent.iter()), "records differ");
        assert!(held.records.keys().copied().eq(1..=sent.len() as u64));
    }
}

impl Ingest for MemIngest {
    async fn high_water(&self, peer: &Peer, log: LogId) -> HighWater {
        let logs = self.logs.lock().unwrap();
        let held = logs.get(&(peer.node.clone(), log));
        HighWater { seq: held.map_or(0, |held| held.seq), chain: held.and_then(|held| held.chain).unwrap_or_default() }
    }

    async fn batch(&self, peer: &Peer, batch: Batch) -> Result<u64, Refusal> {
        if let Ok(permit) = self.gate.acquire().await {
            permit.forget();
        }
        if let Some(refusal) = self.refuse.lock().unwrap().take() {
            return Err(refusal);
        }
        let records = split(&batch.bytes).ok_or_else(|| Refusal::Damaged("block bytes".into()))?;
        if records.len() as u64 != batch.count {
            return Err(Refusal::Damaged("count".into()));
        }
        let mut logs = self.logs.lock().unwrap();
        let held = logs.entry((peer.node.clone(), batch.log)).or_default();
        if batch.first > held.seq + 1 {
            return Err(Refusal::Expected(held.seq + 1));
        }
        held.batches += 1;
        let mut chain = batch.chain_before;
        for (seq, record) in (batch.first..).zip(records) {
            match held.records.get(&seq) {
                Some(old) if *old != record => return Err(Refusal::Tamper { seq }),
                Some(_) => held.repeated += 1,
                None => {
                    if held.chain.is_some_and(|head| head != chain) {
                        return Err(Refusal::Chain { seq });
                    }
                    held.chain = Some(chain_hash(&chain, &leaf_hash(&record)));
                    held.seq = seq;
                    held.records.insert(seq, record.clone());
                }
            }
            chain = chain_hash(&chain, &leaf_hash(&record));
        }
        let seq = held.seq;
        drop(logs);
        self.stored.send_modify(|stored| *stored += 1);
        Ok(seq)
    }

    async fn gap(&self, peer: &Peer, gap: Gap) -> Result<u64, Refusal> {
        let mut logs = self.logs.lock().unwrap();
        let held = logs.entry((peer.node.clone(), gap.log)).or_default();
        if gap.from > held.seq + 1 {
            return Err(Refusal::Expected(held.seq + 1));
        }
        held.gaps.push((gap.from, gap.to));
        held.seq = held.seq.max(gap.to);
        held.chain = None;
        Ok(held.seq)
    }

    async fn checkpoint(&self, _: &Peer, _: LogId, _: Vec<u8>) {}

    fn notice(&self, notice: Notice) {
        self.notices.send_modify(|notices| notices.push(notice));
    }
}

fn split(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut records = vec![];
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (record, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        records.push(record.to_vec());
        bytes = rest;
    }
    Some(records)
}

// ---- the whole ----

/// A controller on loopback and what nodes need to reach it.
pub(super) struct Lab {
    pub(super) dir: tempfile::TempDir,
    pub(super) clock: Arc<OffsetClock>,
    pub(super) identity: Arc<ControllerIdentity>,
    pub(super) server: Server<MemIngest>,
    pub(super) ingest: MemIngest,
    pub(super) addr: SocketAddr,
}

impl Lab {
    pub(super) async fn start() -> Self {
        Self::with(quick()).await
    }

    pub(super) async fn with(config: ServerConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(OffsetClock::default());
        let identity = Arc::new(ControllerIdentity::init(&dir.path().join("controller"), clock.clone()).unwrap());
        let ingest = MemIngest::new();
        let server = Server::new(config, identity.clone(), ingest.clone(), clock.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let listening = server.clone();
        tokio::spawn(async move { listening.listen(listener).await });
        Self { dir, clock, identity, server, ingest, addr }
    }

    pub(super) fn node_dir(&self, node: &str) -> IdentityDir {
        IdentityDir::new(self.dir.path().join(node))
    }

    /// Enrols a node the offline way.
    pub(super) fn enrol(&self, node: &str) -> IdentityDir {
        let dir = self.node_dir(node);
        let csr = dir.request(&name(node)).unwrap();
        let bundle = self.identity.sign_csr(&csr, "net-1", Role::Decoys).unwrap();
        dir.install(bundle.to_json().as_bytes()).unwrap();
        dir
    }

    pub(super) fn node(&self, dir: &IdentityDir, source: impl BlockSource) -> RunningNode {
        self.node_at(dir, source, self.addr, self.clock.clone())
    }

    pub(super) fn node_at(&self, dir: &IdentityDir, source: impl BlockSource, addr: SocketAddr, clock: Arc<dyn Clock>) -> RunningNode {
        let config = node_config(dir, vec![addr.to_string()]);
        RunningNode::start(|status, stop| client::run(config, source, clock, status, stop))
    }

    /// A node that listens, and its address.
    pub(super) async fn dialled(&self, dir: &IdentityDir, source: impl BlockSource) -> (RunningNode, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (config, clock) = (node_config(dir, vec![]), self.clock.clone());
        (RunningNode::start(|status, stop| client::serve_dialled(config, listener, source, clock, status, stop)), addr)
    }
}

/// Like the product, but pauses are short.
pub(super) fn quick() -> ServerConfig {
    ServerConfig { pause: (Duration::from_millis(2), Duration::from_millis(20)), ..ServerConfig::default() }
}

pub(super) fn node_config(dir: &IdentityDir, controllers: Vec<String>) -> ClientConfig {
    ClientConfig { pause: (Duration::from_millis(2), Duration::from_millis(20)), ..ClientConfig::new(dir.clone(), controllers) }
}

pub(super) struct RunningNode {
    pub(super) status: watch::Receiver<LinkStatus>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl RunningNode {
    pub(super) fn start<F: Future<Output = ()> + Send + 'static>(
        run: impl FnOnce(watch::Sender<LinkStatus>, CancellationToken) -> F,
    ) -> Self {
        let (sender, status) = watch::channel(LinkStatus::default());
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(sender, stop.clone()));
        Self { status, stop, task }
    }

    pub(super) async fn until(&self, what: &str, test: impl Fn(&LinkStatus) -> bool) -> LinkStatus {
        let mut status = self.status.clone();
        match tokio::time::timeout(Duration::from_secs(60), status.wait_for(test)).await {
            Ok(status) => status.unwrap().clone(),
            Err(_) => panic!("{what} did not happen: {:?}", self.status.borrow()),
        }
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        soon("stopping", self.task).await.unwrap();
    }
}
