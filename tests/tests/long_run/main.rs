//! Long runs: what a session leaves in the memory of each daemon after it is over ([`visits`] of all three, with
//! [`records`] of the controller), and what [`days`] of records leave behind where records are deleted by age.
//! Slopes are printed; memory is judged at the full numbers only, behind which caches have filled. The first needs
//! root and the programs of `tests/install.sh test`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod days;
mod growth;
mod records;
mod visits;

use glasshive_tests::world::World;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Each measures memory, one its own process's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many connections are asked for.
fn connections() -> usize {
    std::env::var("GLASSHIVE_CONNECTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

/// Whether these are the full numbers of `make soak`.
fn soak() -> bool {
    connections() >= 100_000
}

/// Ends of sessions at the controller.
fn closes(world: &World) -> u64 {
    let nodes = world.cli(&["nodes", "--json"]).unwrap();
    let node = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["events"]["session.close"].as_u64().unwrap_or(0);
    nodes.lines().map(node).sum()
}
