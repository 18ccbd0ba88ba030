//! What the fault scenarios share: numbers and a seed from the environment, copies of a state directory as it
//! lies on the disk, records read back from a node and from the controller ([`records`]), a load that knows what
//! it did ([`load`]), controller and nodes within the process ([`hive`]), a hostile wire between them ([`relay`]).

pub mod hive;
pub mod load;
pub mod records;
pub mod relay;

use anyhow::{Context as _, ensure};
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::Path;

/// A number from the environment.
pub fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Numbers that come again with the same seed (SplitMix64).
pub struct Random(u64);

impl Random {
    /// From `GLASSHIVE_SEED`, else a new seed; prints what makes `what` run again the same way.
    pub fn new(what: &str) -> Self {
        let seed = std::env::var("GLASSHIVE_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| std::collections::hash_map::RandomState::new().build_hasher().finish());
        println!("{what}: GLASSHIVE_SEED={seed}");
        Self(seed)
    }

    /// With a seed of the caller's.
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end.max(1)
    }
}

/// Copies a directory as it is: a state of which the process that wrote it does not know any more.
pub fn copy(from: &Path, to: &Path) -> crate::Result<()> {
    ensure!(from.is_dir(), "{} is not there", from.display());
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &target).with_context(|| format!("copying {}", entry.path().display()))?;
        }
    }
    Ok(())
}
