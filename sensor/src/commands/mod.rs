//! The commands that do not run the daemon, one file each.

pub mod carve;
pub mod ring;

/// An end with another exit code than 1.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Exit {
    /// The exit code.
    pub code: u8,
    /// One line for the operator.
    pub why: String,
}
