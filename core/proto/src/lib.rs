//! Placeholder.
pub mod probe { /// Probe.
 pub struct Probe { /// p
 pub protocol: Option<&'static str> } /// probe
 pub fn probe(_: &[u8]) -> Probe { Probe { protocol: None } } }
pub mod magic { /// m
 pub fn magic(_: &[u8]) -> &'static str { "data" } }
