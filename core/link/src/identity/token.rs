//! One-time tokens and CA pins.

use super::{IdentityError, random};
use crate::name::NodeName;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "gh1";

/// SHA-256 of the CA's SubjectPublicKeyInfo: what a node knows of the controller before it has a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&glasshive_event::text::hex(&self.0))
    }
}
impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What `glasshive enroll` prints: `gh1.<node>.<pin>.<secret>`, pin and secret in base64url.
/// The controller keeps only the SHA-256 of the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The node it is for.
    pub node: NodeName,
    /// The controller's CA.
    pub pin: Pin,
    pub(crate) secret: [u8; 32],
}

impl Token {
    pub(crate) fn new(node: NodeName, pin: Pin) -> Result<Self, IdentityError> {
        Ok(Self { node, pin, secret: random()? })
    }

    /// Whether somebody means `text` to be a token.
    #[must_use]
    pub fn looks_like(text: &str) -> bool {
        text.trim_start().split_once('.').is_some_and(|(first, _)| first == PREFIX)
    }
}

/// What the registry keeps of a secret.
pub(crate) fn digest(secret: &[u8; 32]) -> String {
    let hash: [u8; 32] = Sha256::digest(secret).into();
    glasshive_event::text::hex(&hash)
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{}.{}.{}", self.node, URL_SAFE_NO_PAD.encode(self.pin.0), URL_SAFE_NO_PAD.encode(self.secret))
    }
}
/// The secret stays out of logs.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, {})", self.node, self.pin)
    }
}
impl FromStr for Token {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let bad = || IdentityError::Token("not a token: copy the whole gh1.… line that glasshive enroll printed".into());
        let mut parts = text.trim().split('.');
        let (Some(PREFIX), Some(node), Some(pin), Some(secret), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let bytes = |part: &str| -> Option<[u8; 32]> {
            if part.len() > 64 {
                return None;
            }
            URL_SAFE_NO_PAD.decode(part).ok()?.try_into().ok()
        };
        Ok(Self { node: node.parse().map_err(|_| bad())?, pin: Pin(bytes(pin).ok_or_else(bad)?), secret: bytes(secret).ok_or_else(bad)? })
    }
}
