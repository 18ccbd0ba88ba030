//! Decoys: listeners, personas, services and the pretended operating system.
//!
//! Attackers' bytes enter here and leave as records. Nothing in this crate opens a connection on a
//! visitor's behalf; services see only [`conn::Conn`] and [`session::Session`].

pub mod app;
pub mod cli;
pub mod config;
pub mod conn;
pub mod listener;
pub mod persona;
pub mod recorder;
pub mod segment;
pub mod services;
pub mod session;
pub mod system;
pub mod targets;
pub mod testkit;
pub mod tls;
pub mod wall;

/// Cases a property test of a parser runs: 10 000, or `GLASSHIVE_FUZZ`.
#[cfg(test)]
pub(crate) fn fuzz_cases() -> u32 {
    std::env::var("GLASSHIVE_FUZZ").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000)
}
