//! What every daemon shares: configuration, telemetry, shutdown and the operating system's edges.
//!
//! Order in a daemon's `main`: parse flags, [`config::Source::load`], [`telemetry::init`],
//! [`activation::Passed::take`], [`state::DirLock::acquire`], start helper processes ([`reexec`], or [`keeper`] for one
//! that comes back), bind every socket ([`net`]),
//! load the firewall set ([`nft`]), [`lockdown::Lockdown::apply`], and only then the async runtime:
//! capabilities and Landlock belong to a thread and are inherited, so there must be one thread.
//!
//! This crate must never interpret visitor bytes and depends on no other crate of ours.
//! `unsafe` is allowed in `sys.rs` alone.
#![deny(unsafe_code)]

pub mod activation;
pub mod clock;
pub mod config;
pub mod keeper;
pub mod lockdown;
pub mod memory;
pub mod net;
pub mod nft;
pub mod reexec;
pub mod shutdown;
pub mod state;
mod sys;
pub mod telemetry;

/// Cases a property test of a parser runs: 10 000, or `GLASSHIVE_FUZZ`.
#[cfg(test)]
pub(crate) fn fuzz_cases() -> u32 {
    std::env::var("GLASSHIVE_FUZZ").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000)
}
