//! Sealing: what a node records of secrets, only the controller can read.
//!
//! A seal is an age file (X25519) in base64. For pivots ("the same password elsewhere") there is a
//! keyed HMAC whose key the nodes of one controller share. A node without identity seals to a key
//! of its own, kept in its state directory, and can be joined to a controller later.

use crate::identity::{IdentityError, NodeIdentity, ensure_dir, random, read_private, write_private};
use age::secrecy::ExposeSecret;
use age::x25519::{Identity, Recipient};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

mod header;

/// Why something did not seal or open.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Not an `age1…` recipient.
    #[error("not an age recipient")]
    Recipient,
    /// Not an age secret key.
    #[error("not an age secret key")]
    Key,
    /// Not a seal, or sealed to another key.
    #[error("not a seal of this key: {0}")]
    Open(String),
}

/// What [`Sealer::seal_file`] read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedFile {
    /// Bytes of plaintext.
    pub size: u64,
    /// SHA-256 of the plaintext: the blob's name.
    pub sha256: [u8; 32],
}

/// Seals secrets and files. Cheap to share.
pub trait Sealer: Send + Sync + std::fmt::Debug {
    /// The secret as base64 of an age file.
    fn seal(&self, plain: &[u8]) -> String;

    /// Streams an age file to `to`.
    fn seal_file(&self, from: &mut dyn Read, to: &mut dyn Write) -> Result<SealedFile, SealError>;

    /// 32 hexadecimal digits that are equal for equal secrets under one controller and tell nothing else.
    fn pivot(&self, plain: &[u8]) -> String;

    /// Whom it seals to (`age1…`).
    fn recipient(&self) -> String;
}

/// Seals to one recipient.
#[derive(Clone)]
pub struct RecipientSealer {
    recipient: Recipient,
    pivot: [u8; 32],
    headers: Arc<header::Headers>,
}

impl RecipientSealer {
    /// To `recipient` (`age1…`), pivots under `pivot`.
    pub fn new(recipient: &str, pivot: [u8; 32]) -> Result<Self, SealError> {
        let recipient = recipient.parse().map_err(|_| SealError::Recipient)?;
        Ok(Self { recipient, pivot, headers: Arc::default() })
    }

    /// To the controller of an identity.
    pub fn from_identity(identity: &NodeIdentity) -> Result<Self, SealError> {
        Self::new(&identity.recipient, identity.pivot)
    }

    /// To a key of the node's own in `dir`, made on first use: for a node without identity.
    pub fn standalone(dir: &Path) -> Result<Self, IdentityError> {
        let (seal, pivot) = (dir.join("seal.key"), dir.join("pivot.key"));
        ensure_dir(dir)?;
        if !pivot.exists() {
            write_private(&pivot, glasshive_event::text::hex(&random::<32>()?).as_bytes())?;
        }
        if !seal.exists() {
            write_private(&seal, Unsealer::generate().secret().as_bytes())?;
        }
        let damaged = |path: &Path| IdentityError::Damaged { path: path.into(), what: "not a key".into() };
        let text = |path: &Path| -> Result<String, IdentityError> {
            String::from_utf8(read_private(path, "start the daemon, it makes one")?).map_err(|_| damaged(path))
        };
        let unsealer = Unsealer::from_secret(text(&seal)?.trim()).map_err(|_| damaged(&seal))?;
        let bytes = glasshive_event::text::unhex(text(&pivot)?.trim());
        let key = bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| damaged(&pivot))?;
        Ok(Self { recipient: unsealer.0.to_public(), pivot: key, headers: Arc::default() })
    }

    fn encrypt<W: Write>(&self, to: W) -> Result<age::stream::StreamWriter<W>, SealError> {
        let one: &dyn age::Recipient = &self.recipient;
        let encryptor = age::Encryptor::with_recipients(std::iter::once(one)).map_err(|_| SealError::Recipient)?;
        Ok(encryptor.wrap_output(to)?)
    }
}

impl std::fmt::Debug for RecipientSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecipientSealer({})", self.recipient)
    }
}

impl Sealer for RecipientSealer {
    fn seal(&self, plain: &[u8]) -> String {
        let sealed = || -> Result<Vec<u8>, SealError> {
            if plain.len() <= header::MOST {
                return self.headers.seal(&self.recipient, plain);
            }
            let mut writer = self.encrypt(Vec::with_capacity(plain.len().saturating_add(256)))?;
            writer.write_all(plain)?;
            Ok(writer.finish()?)
        };
        match sealed() {
            Ok(bytes) => STANDARD.encode(bytes),
            // Cannot happen: the recipient was parsed and the writer is memory. Never fall back to plaintext.
            Err(error) => {
                tracing::error!(%error, "a secret could not be sealed and is lost");
                String::new()
            }
        }
    }

    fn seal_file(&self, from: &mut dyn Read, to: &mut dyn Write) -> Result<SealedFile, SealError> {
        let mut writer = self.encrypt(to)?;
        let mut hash = Sha256::new();
        let mut size = 0u64;
        let mut chunk = vec![0u8; 64 * 1024];
        loop {
            let length = match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let part = chunk.get(..length).unwrap_or_default();
            hash.update(part);
            writer.write_all(part)?;
            size = size.saturating_add(length as u64);
        }
        writer.finish()?;
        Ok(SealedFile { size, sha256: hash.finalize().into() })
    }

    fn pivot(&self, plain: &[u8]) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.pivot) else { return String::new() };
        mac.update(plain);
        let code: [u8; 32] = mac.finalize().into_bytes().into();
        glasshive_event::text::hex(code.first_chunk::<16>().unwrap_or(&[0; 16]))
    }

    fn recipient(&self) -> String {
        self.recipient.to_string()
    }
}

/// Opens seals: the controller's `seal.key`.
pub struct Unsealer(Identity);

impl std::fmt::Debug for Unsealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unsealer({})", self.recipient())
    }
}

impl Unsealer {
    /// A new key.
    pub(crate) fn generate() -> Self {
        Self(Identity::generate())
    }

    pub(crate) fn secret(&self) -> zeroize::Zeroizing<String> {
        zeroize::Zeroizing::new(self.0.to_string().expose_secret().to_owned())
    }

    /// From an `AGE-SECRET-KEY-1…`.
    pub fn from_secret(text: &str) -> Result<Self, SealError> {
        text.parse().map(Self).map_err(|_| SealError::Key)
    }

    /// From a key file (0600), the controller's or a standalone node's.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let bytes = zeroize::Zeroizing::new(read_private(path, "restore it from a backup: without it nothing sealed can be read")?);
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        Self::from_secret(text.trim()).map_err(|error| IdentityError::Damaged { path: path.into(), what: error.to_string() })
    }

    /// Whom seals of this key are made to.
    pub fn recipient(&self) -> String {
        self.0.to_public().to_string()
    }

    /// Opens what [`Sealer::seal`] made.
    pub fn open(&self, sealed: &str) -> Result<Vec<u8>, SealError> {
        let bytes = STANDARD.decode(sealed).map_err(|_| SealError::Open("not base64".into()))?;
        let mut plain = Vec::new();
        self.open_file(&mut bytes.as_slice(), &mut plain)?;
        Ok(plain)
    }

    /// Opens what [`Sealer::seal_file`] made; returns size and hash of the plaintext. On an error `to` may hold a part.
    pub fn open_file(&self, from: &mut dyn Read, to: &mut dyn Write) -> Result<SealedFile, SealError> {
        let decryptor = age::Decryptor::new(from).map_err(|error| SealError::Open(error.to_string()))?;
        let one: &dyn age::Identity = &self.0;
        let mut reader = decryptor.decrypt(std::iter::once(one)).map_err(|error| SealError::Open(error.to_string()))?;
        let mut hash = Sha256::new();
        let mut size = 0u64;
        let mut chunk = vec![0u8; 64 * 1024];
        loop {
            let length = reader.read(&mut chunk)?;
            if length == 0 {
                return Ok(SealedFile { size, sha256: hash.finalize().into() });
            }
            let part = chunk.get(..length).unwrap_or_default();
            hash.update(part);
            to.write_all(part)?;
            size = size.saturating_add(length as u64);
        }
    }
}

/// Checks and normalises a recipient.
pub(crate) fn check_recipient(text: &str) -> Result<String, SealError> {
    text.parse::<Recipient>().map(|recipient| recipient.to_string()).map_err(|_| SealError::Recipient)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (RecipientSealer, Unsealer) {
        let unsealer = Unsealer::generate();
        (RecipientSealer::new(&unsealer.recipient(), [7; 32]).unwrap(), unsealer)
    }

    #[test]
    fn seals_open_only_with_their_key() {
        let (sealer, unsealer) = pair();
        for plain in [&b""[..], b"hunter2", &[0xff; 5000]] {
            let sealed = sealer.seal(plain);
            assert_eq!(unsealer.open(&sealed).unwrap(), plain);
            assert_ne!(sealed, sealer.seal(plain), "a seal must not show that two secrets are equal");
            assert!(pair().1.open(&sealed).is_err());
        }
        let mut bytes = STANDARD.decode(sealer.seal(b"hunter2")).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(unsealer.open(&STANDARD.encode(bytes)).is_err());
        assert!(unsealer.open("%").is_err());
    }

    #[test]
    fn files_stream() {
        let (sealer, unsealer) = pair();
        let plain: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        let mut sealed = Vec::new();
        let info = sealer.seal_file(&mut plain.as_slice(), &mut sealed).unwrap();
        assert_eq!(info.size, plain.len() as u64);
        assert_eq!(info.sha256, <[u8; 32]>::from(Sha256::digest(&plain)));
        let mut back = Vec::new();
        assert_eq!(unsealer.open_file(&mut sealed.as_slice(), &mut back).unwrap(), info);
        assert_eq!(back, plain);
        sealed.truncate(sealed.len() - 1);
        assert!(unsealer.open_file(&mut sealed.as_slice(), &mut Vec::new()).is_err());
    }

    /// Stored in records: must never change for a given key.
    #[test]
    fn pivot_golden() {
        let (sealer, _) = pair();
        assert_eq!(sealer.pivot(b"hunter2"), "326eb4f6783e519f198c32929bd28e66");
        assert_ne!(sealer.pivot(b"hunter2"), sealer.pivot(b"hunter3"));
    }

    #[test]
    fn standalone_keeps_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("seal");
        let first = RecipientSealer::standalone(&dir).unwrap();
        let again = RecipientSealer::standalone(&dir).unwrap();
        assert_eq!(first.recipient(), again.recipient());
        assert_eq!(first.pivot(b"x"), again.pivot(b"x"));
        assert_eq!(Unsealer::load(&dir.join("seal.key")).unwrap().open(&first.seal(b"x")).unwrap(), b"x");
    }
}
