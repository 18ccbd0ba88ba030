//! Failures an operator sees: one line, and the exit code scripts rely on.

use serde::{Deserialize, Serialize};

/// Exit codes of the command line, also carried by the admin protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Something of ours failed.
    Failed,
    /// The question was not understood.
    Usage,
    /// Nothing by that name.
    NotFound,
    /// Not allowed, or not without a reason.
    Refused,
    /// A hash or signature does not match.
    Verification,
    /// The daemon or a node does not answer.
    Unreachable,
    /// A newer program wrote what is there.
    Newer,
}

impl Code {
    /// The process's exit code.
    pub fn exit(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Verification => 5,
            Self::Unreachable => 6,
            Self::Newer => glasshive_journal::schema::EXIT,
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure.
    pub code: Code,
    /// One line: what, and what to do about it.
    pub message: String,
}

macro_rules! makers {
    ($($(#[$doc:meta])* $name:ident $code:ident;)*) => {
        impl Failure {$(
            $(#[$doc])*
            pub fn $name(message: impl std::fmt::Display) -> Self {
                Self { code: Code::$code, message: message.to_string() }
            }
        )*}
    };
}
makers! {
    /// Something of ours failed.
    failed Failed;
    /// The question was not understood.
    usage Usage;
    /// Nothing by that name.
    not_found NotFound;
    /// Not allowed, or not without a reason.
    refused Refused;
    /// A hash or signature does not match.
    verification Verification;
    /// The daemon or a node does not answer.
    unreachable Unreachable;
    /// A newer program wrote what is there.
    newer Newer;
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}
