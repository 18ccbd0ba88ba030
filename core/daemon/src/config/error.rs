//! The one line an operator reads when a configuration cannot be used.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file, with the line (from 1) when it is known.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: Option<usize>,
    },
    /// An environment variable, by its full name.
    Variable(String),
    /// A command-line flag, without its dashes.
    Flag(String),
}

/// A configuration that cannot be used. `Display` is one line: place, key, remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// The file does not exist.
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// The file exists and cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The file is not TOML.
    Syntax {
        /// Where.
        place: Place,
        /// The parser's words.
        why: String,
    },
    /// A key nothing reads.
    UnknownKey {
        /// Where.
        place: Place,
        /// Dotted key.
        key: String,
        /// The nearest key that exists there.
        nearest: Option<String>,
        /// All keys that exist there.
        known: Vec<String>,
    },
    /// A key that must be given.
    Missing {
        /// Where it belongs.
        place: Place,
        /// Dotted key.
        key: String,
    },
    /// A value of the wrong type or out of its range.
    Value {
        /// Where.
        place: Place,
        /// Dotted key.
        key: String,
        /// What is wrong and what would be right.
        why: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

impl ConfigError {
    fn line(&self) -> String {
        match self {
            Self::NotFound { path } => format!("{}: no such file: create it, or name another with --config FILE", path.display()),
            Self::Unreadable { path, why } => format!("{}: cannot be read: {why}: check its owner and mode", path.display()),
            Self::Syntax { place, why } => format!("{place}: not valid TOML: {why}"),
            Self::UnknownKey { place, key, nearest: Some(nearest), .. } => {
                format!("{place}: unknown key `{key}`: did you mean `{nearest}`?")
            }
            Self::UnknownKey { place, key, known, .. } if known.is_empty() => format!("{place}: unknown key `{key}`: remove it"),
            Self::UnknownKey { place, key, known, .. } => {
                format!("{place}: unknown key `{key}`: remove it; keys here are `{}`", known.join("`, `"))
            }
            Self::Missing { place, key } => {
                let last = key.rsplit('.').next().unwrap_or(key);
                let under = if last == key { "" } else { " under it" };
                format!("{place}: missing key `{key}`: add a line `{last} = …`{under}")
            }
            Self::Value { place, key, why } if key.is_empty() => format!("{place}: {why}"),
            Self::Value { place, key, why } => format!("{place}: key `{key}`: {why}"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A path or a quoted value may hold a line break or worse: the promise is one inert line.
        for c in self.line().chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
