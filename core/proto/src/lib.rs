//! Wire bytes to plain facts: a bounded reader, pure parsers and small encoders, fingerprints and
//! the first-bytes probe.
//!
//! Everything here is a function of its input. Malformed input is data: parsers say at which byte
//! it went wrong and never panic, never allocate more than the input justifies, never judge.
//! This crate must never open a socket, a file or a clock, and never knows who sent the bytes.

#![forbid(unsafe_code)]

pub mod community_id;
pub mod dns;
pub mod http;
pub mod ja;
pub mod layers;
pub mod magic;
pub mod probe;
pub mod proxy;
pub mod reader;
pub mod ssh;
pub mod ssl2;
pub mod tls;
pub mod tls_messages;

pub use probe::probe;
pub use reader::{ParseError, Parsed, Reader};

use md5::{Digest as _, Md5};

/// MD5 in lower-case hexadecimal: what JA3 and HASSH are defined with, not a security measure.
pub(crate) fn md5_hex(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |n: u8| DIGITS.get(usize::from(n)).copied().unwrap_or('?');
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

#[cfg(test)]
mod tests {
    /// Cases of a property test.
    pub(crate) fn cases() -> u32 {
        std::env::var("GLASSHIVE_FUZZ").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000)
    }
}
