//! The controller: lets nodes in, keeps what they send, and shows it.
//!
//! Nodes → `link::server` → [`ingest`] → store (log and summary; [`fusion`] adds findings) → [`query`] → [`admin`] socket →
//! [`cli`]. The command line asks the running daemon, or opens the store itself when there is none;
//! both go through [`query::start`], so that an answer cannot depend on the way.
//!
//! Visitor bytes never reach a terminal unescaped: they pass [`screen`] or [`terminal`].

pub mod admin;
pub mod ask;
pub mod backup;
pub mod cli;
pub mod client;
pub mod config;
pub mod desk;
pub mod export;
pub mod fail;
pub mod fusion;
pub mod ingest;
pub mod live;
pub mod notify;
pub mod query;
pub mod screen;
pub mod serve;
pub mod sight;
pub mod streams;
pub mod terminal;
pub mod view;

/// Cases a property test runs: 10 000, or what `GLASSHIVE_FUZZ` says.
#[cfg(test)]
pub(crate) fn fuzz_cases() -> u32 {
    std::env::var("GLASSHIVE_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}
