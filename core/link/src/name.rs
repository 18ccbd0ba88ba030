//! Names that become part of certificates and paths: checked once, when they are made.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest node or net name.
pub const MAX_NAME: usize = 63;

/// Why text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a node name.
    #[error("{0:?} is not a name: use 1 to 63 of a-z, 0-9, '-' and '_', starting with a letter or digit")]
    Name(String),
    /// Not a role.
    #[error("{0:?} is not a role: use decoys or sensor")]
    Role(String),
    /// Not a blob name.
    #[error("{0:?} is not a blob name: 64 lower-case hexadecimal digits")]
    Blob(String),
}

/// The name of a node: what its certificate proves.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URI that stands in its certificate, `glasshive://node/<name>`.
    pub fn uri(&self) -> String {
        format!("{NODE_URI}{}", self.0)
    }

    /// Reads the URI of a certificate.
    pub fn from_uri(uri: &str) -> Option<Self> {
        uri.strip_prefix(NODE_URI)?.parse().ok()
    }
}

/// Start of every node's URI.
pub const NODE_URI: &str = "glasshive://node/";
/// The controller's URI.
pub const CONTROLLER_URI: &str = "glasshive://controller";

impl FromStr for NodeName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        check_name(text).map(|()| Self(text.to_owned()))
    }
}
impl TryFrom<String> for NodeName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}
impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}
impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The rule for node and net names.
pub fn check_name(text: &str) -> Result<(), NameError> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = (1..=MAX_NAME).contains(&text.len())
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|c| plain(c) || c == b'-' || c == b'_');
    if good { Ok(()) } else { Err(NameError::Name(text.chars().take(MAX_NAME + 1).collect())) }
}

/// Which daemon a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// `glasshive-decoys`.
    Decoys,
    /// `glasshive-sensor`.
    Sensor,
}

impl Role {
    /// `decoys` or `sensor`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decoys => "decoys",
            Self::Sensor => "sensor",
        }
    }
}
impl FromStr for Role {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "decoys" => Ok(Self::Decoys),
            "sensor" => Ok(Self::Sensor),
            _ => Err(NameError::Role(text.chars().take(MAX_NAME).collect())),
        }
    }
}
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a blob: the SHA-256 of its plaintext in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobName(String);

impl BlobName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl FromStr for BlobName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let good = text.len() == 64 && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
        if good { Ok(Self(text.to_owned())) } else { Err(NameError::Blob(text.chars().take(65).collect())) }
    }
}
impl TryFrom<String> for BlobName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}
impl From<BlobName> for String {
    fn from(name: BlobName) -> Self {
        name.0
    }
}
impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "edge-1", "0x_y", &"n".repeat(63)] {
            assert!(good.parse::<NodeName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a.b", "a/b", "../x", "a b", "é", &"n".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
        let name: NodeName = "edge-1".parse().unwrap();
        assert_eq!(NodeName::from_uri(&name.uri()), Some(name));
        assert_eq!(NodeName::from_uri("glasshive://node/A"), None);
        assert_eq!(NodeName::from_uri(CONTROLLER_URI), None);
        assert!("ab".repeat(32).parse::<BlobName>().is_ok());
        assert!("../".repeat(32).parse::<BlobName>().is_err());
        assert!("AB".repeat(32).parse::<BlobName>().is_err());
        assert_eq!("sensor".parse::<Role>(), Ok(Role::Sensor));
    }
}
