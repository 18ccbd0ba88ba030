//! Reading a ring's finished segments again and comparing them with what was noted.

use super::RingDir;
use super::indexer::{Reading, rest};
use super::walk::{Ended, FileWalk};
use glasshive_event::text::hex;
use serde::Serialize;
use sha2::Digest as _;
use std::io;

/// What was found of one segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Its number.
    pub segment: u64,
    /// Name of its file.
    pub file: String,
    /// SHA-256 of its file now, hexadecimal.
    pub sha256: String,
    /// Packets in it.
    pub packets: u64,
    /// What is wrong, in words; nothing when all is well.
    pub faults: Vec<String>,
}

/// Verifies one finished segment; `None` when the quota took it meanwhile.
///
/// # Errors
/// The system's.
pub fn verify(dir: &RingDir, serial: u64) -> io::Result<Option<Verdict>> {
    let path = dir.segment(serial);
    let mut file = match std::fs::File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let length = file.metadata()?.len();
    let mut reading = Reading::new();
    let (mut index, mut faults) = (Vec::new(), Vec::new());
    let mut walk = FileWalk::new(&file, 0, length);
    while let Some((offset, kind, block)) = walk.next_block()? {
        if let Some(part) = reading.block(offset, kind, block) {
            index.extend(part);
        }
    }
    let (ended, end) = (walk.ended(), walk.offset());
    if ended != Ended::Clean {
        faults.push(format!("no whole block at byte {end}: {} bytes behind it cannot be read", length - end));
    }
    index.extend(reading.finish());
    rest(&mut file, end, &mut reading.hash)?;
    let sha256 = hex(&reading.hash.finalize());
    match dir.meta(serial) {
        None => faults.push("it was not read through yet, or its note is damaged: there is no hash to compare with".to_owned()),
        Some(meta) => {
            if meta.sha256 != sha256 {
                faults.push(format!("its hash was {}: the file was changed", meta.sha256));
            }
            if meta.bytes != length || meta.packets != reading.packets {
                faults.push(format!("it had {} packets in {} bytes, now {} in {length}", meta.packets, meta.bytes, reading.packets));
            }
        }
    }
    match std::fs::read(dir.index(serial)) {
        Ok(bytes) if bytes == index => {}
        Ok(_) => faults.push("its index differs from the one made of it now; delete it, the next start makes it again".to_owned()),
        Err(error) => faults.push(format!("its index cannot be read ({error}); the next start makes it again")),
    }
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Some(Verdict { segment: serial, file, sha256, packets: reading.packets, faults }))
}
