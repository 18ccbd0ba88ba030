//! One file a visitor sends: hashed as it comes, kept sealed, recorded once.

use super::{Session, clip};
use crate::recorder::FileSink;
use glasshive_event::Kind;
use glasshive_event::detail::File;
use glasshive_event::text::hex;
use sha2::{Digest, Sha256};

/// Content up to this size goes into the record itself.
const INLINE: usize = 8 * 1024;
/// Content gathered before it is handed to the store.
const GATHER: usize = 64 * 1024;

/// A file being received. Bytes over the persona's cap are hashed and counted, not kept.
pub struct Upload {
    session: Session,
    name: Vec<u8>,
    cap: u64,
    hash: Sha256,
    size: u64,
    kept: u64,
    head: Vec<u8>,
    gathered: Vec<u8>,
    sink: Option<Box<dyn FileSink>>,
    failed: Option<String>,
}

impl Upload {
    pub(super) fn new(session: Session, name: &[u8], cap: u64) -> Self {
        Self {
            session,
            name: name.to_vec(),
            cap,
            hash: Sha256::new(),
            size: 0,
            kept: 0,
            head: Vec::new(),
            gathered: Vec::new(),
            sink: None,
            failed: None,
        }
    }

    /// Bytes received so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds content.
    pub async fn write(&mut self, data: &[u8]) {
        self.hash.update(data);
        self.size += data.len() as u64;
        let room = usize::try_from(self.cap.saturating_sub(self.kept)).unwrap_or(usize::MAX);
        let kept = data.get(..data.len().min(room)).unwrap_or_default();
        self.kept += kept.len() as u64;
        let head_room = INLINE.saturating_sub(self.head.len());
        self.head.extend_from_slice(kept.get(..kept.len().min(head_room)).unwrap_or_default());
        self.gathered.extend_from_slice(kept);
        if self.gathered.len() >= GATHER {
            self.spill().await;
        }
    }

    /// Hands what was gathered to the store, off the async threads.
    async fn spill(&mut self) {
        let data = std::mem::take(&mut self.gathered);
        if self.failed.is_some() {
            return;
        }
        let sink = self.sink.take();
        let files = std::sync::Arc::clone(&self.session.recorder().files);
        let done = tokio::task::spawn_blocking(move || {
            let mut sink = match sink {
                Some(sink) => sink,
                None => files.create()?,
            };
            sink.write(&data).map(|()| sink)
        })
        .await;
        match done {
            Ok(Ok(sink)) => self.sink = Some(sink),
            Ok(Err(error)) => self.failed = Some(error.to_string()),
            Err(error) => self.failed = Some(error.to_string()),
        }
    }

    /// Ends the file, makes it durable, records it and returns its SHA-256.
    pub async fn finish(mut self) -> String {
        let sha256 = hex(&self.hash.clone().finalize());
        let mut detail = File {
            name: clip(&self.name),
            size: self.size,
            sha256: sha256.clone(),
            direction: "upload".into(),
            magic: glasshive_proto::magic::magic(&self.head).to_owned(),
            cut_bytes: self.size.saturating_sub(self.kept),
            ..File::default()
        };
        if self.kept <= INLINE as u64 && self.sink.is_none() {
            detail.content_sealed = Some(self.session.recorder().seal.seal(&self.head));
        } else {
            self.spill().await;
            if let Some(sink) = self.sink.take() {
                let name = sha256.clone();
                match tokio::task::spawn_blocking(move || sink.finish(&name)).await {
                    Ok(Ok(blob)) => detail.blob = Some(blob),
                    Ok(Err(error)) => self.failed = Some(error.to_string()),
                    Err(error) => self.failed = Some(error.to_string()),
                }
            }
            if let Some(why) = self.failed.take() {
                detail.cut_bytes = self.size;
                let loss =
                    glasshive_event::detail::Loss { place: "blob_quota".into(), count: 1, bytes: self.size, why, ..Default::default() };
                self.session.emit(Kind::Loss, &loss).await;
            }
        }
        if detail.cut_bytes > 0 {
            self.session.count_cut(detail.cut_bytes);
        }
        self.session.emit(Kind::File, &detail).await;
        sha256
    }
}
