//! Placeholder.
pub mod system;
