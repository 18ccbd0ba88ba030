//! One age header for several small secrets.
//!
//! A header costs two multiplications on the curve, most of what a login costs the node. Its file key may
//! serve any number of payloads, since each has a payload key of its own from 16 random bytes
//! (age specification, "Payload"). So a header is kept for a few secrets and a few seconds, and no
//! longer: who reads the daemon's memory finds at most the key of these. Every seal stays a whole age
//! file. What this must never do: use a payload nonce twice, or write a key anywhere.

use super::SealError;
use age::x25519::Recipient;
use age_core::format::{FileKey, Stanza};
use age_core::secrecy::ExposeSecret as _;
use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;
use std::collections::HashSet;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Secrets under one header.
const SECRETS: u32 = 64;
/// How long a header is used.
const AGE: Duration = Duration::from_secs(10);
/// What follows an age header in an empty file: payload nonce and tag of the empty last chunk.
const EMPTY_PAYLOAD: usize = 16 + 16;
/// Largest secret: one chunk of age's STREAM.
pub(super) const MOST: usize = 64 << 10;
/// STREAM's nonce of a first chunk that is the last one too.
const ONLY_CHUNK: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

type Key = Zeroizing<[u8; 16]>;

#[derive(Clone)]
struct Header {
    bytes: Vec<u8>,
    key: Key,
    left: u32,
    since: Instant,
}

/// The header in use.
#[derive(Default)]
pub(super) struct Headers(Mutex<Option<Header>>);

impl Headers {
    /// An age file of `plain`, which is not larger than [`MOST`].
    pub(super) fn seal(&self, recipient: &Recipient, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let (mut file, key) = self.take(recipient)?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|e| std::io::Error::other(e.to_string()))?;
        let mut payload_key = Zeroizing::new([0; 32]);
        let cannot = |what: &str| std::io::Error::other(format!("a payload was not {what}"));
        Hkdf::<Sha256>::new(Some(&nonce), &*key).expand(b"payload", &mut *payload_key).map_err(|_| cannot("keyed"))?;
        let cipher = ChaCha20Poly1305::new_from_slice(&*payload_key).map_err(|_| cannot("keyed"))?;
        let chunk = cipher.encrypt(&Nonce::from(ONLY_CHUNK), plain).map_err(|_| cannot("encrypted"))?;
        file.extend_from_slice(&nonce);
        file.extend_from_slice(&chunk);
        Ok(file)
    }

    /// The header in use, or a new one.
    fn take(&self, recipient: &Recipient) -> Result<(Vec<u8>, Key), SealError> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let usable = held.as_ref().is_some_and(|header| header.left > 0 && header.since.elapsed() < AGE);
        if !usable {
            *held = Some(Header::new(recipient)?);
        }
        let header = held.as_mut().ok_or(SealError::Recipient)?;
        header.left = header.left.saturating_sub(1);
        Ok((header.bytes.clone(), header.key.clone()))
    }
}

impl Header {
    fn new(recipient: &Recipient) -> Result<Self, SealError> {
        let seen = Seen { recipient, key: Mutex::new(None) };
        let one: &dyn age::Recipient = &seen;
        let encryptor = age::Encryptor::with_recipients(std::iter::once(one)).map_err(|_| SealError::Recipient)?;
        let mut bytes = Vec::with_capacity(256);
        let mut writer = encryptor.wrap_output(&mut bytes)?;
        writer.write_all(&[])?;
        writer.finish()?;
        bytes.truncate(bytes.len().saturating_sub(EMPTY_PAYLOAD));
        let key = seen.key.into_inner().unwrap_or_else(PoisonError::into_inner).ok_or(SealError::Recipient)?;
        Ok(Self { bytes, key, left: SECRETS, since: Instant::now() })
    }
}

/// The recipient, and a look at the file key age made.
struct Seen<'a> {
    recipient: &'a Recipient,
    key: Mutex<Option<Key>>,
}

impl age::Recipient for Seen<'_> {
    fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = Some(Zeroizing::new(*file_key.expose_secret()));
        self.recipient.wrap_file_key(file_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::{Sealer as _, Unsealer};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn a_header_serves_so_many_and_no_nonce_twice() {
        let unsealer = Unsealer::generate();
        let recipient: Recipient = unsealer.recipient().parse().unwrap();
        let headers = Headers::default();
        let (mut heads, mut nonces) = (HashSet::new(), HashSet::new());
        for n in 0..SECRETS * 3 {
            let plain = n.to_string().repeat(n as usize);
            let file = headers.seal(&recipient, plain.as_bytes()).unwrap();
            assert_eq!(unsealer.open(&STANDARD.encode(&file)).unwrap(), plain.as_bytes());
            let payload = file.len() - 16 - plain.len() - 16;
            heads.insert(file[..payload].to_vec());
            assert!(nonces.insert(file[payload..payload + 16].to_vec()));
        }
        assert_eq!(heads.len(), 3);
    }

    #[test]
    fn an_old_header_is_not_used() {
        let recipient: Recipient = Unsealer::generate().recipient().parse().unwrap();
        let headers = Headers::default();
        let first = headers.take(&recipient).unwrap().0;
        assert_eq!(headers.take(&recipient).unwrap().0, first);
        headers.0.lock().unwrap().as_mut().unwrap().since = Instant::now().checked_sub(AGE).unwrap();
        assert_ne!(headers.take(&recipient).unwrap().0, first);
    }

    /// The other side of the format is age's own reader: the largest secret, and one that is too large.
    #[test]
    fn the_largest_secret_and_a_larger_one_open() {
        let unsealer = Unsealer::generate();
        let sealer = crate::seal::RecipientSealer::new(&unsealer.recipient(), [1; 32]).unwrap();
        for length in [MOST - 1, MOST, MOST + 1, 3 * MOST] {
            let plain = vec![0x5a; length];
            assert_eq!(unsealer.open(&sealer.seal(&plain)).unwrap(), plain);
        }
    }
}
