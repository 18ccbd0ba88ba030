//! The webhook: a POST of the note as JSON, signed.
//!
//! `X-Glasshive-Timestamp` is the time of sending in seconds since 1970, `X-Glasshive-Signature` is
//! `sha256=` and the HMAC-SHA-256 in hexadecimal of timestamp, `.` and body; `X-Glasshive-Id` stays
//! the same when a note is sent again. A receiver checks the signature, refuses old timestamps, and
//! takes an id once.

use super::http::{Url, post};
use super::{Channel, Note, config, tls};
use futures_util::future::BoxFuture;
use glasshive_event::text::hex;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio_rustls::TlsConnector;

/// Shortest key.
const MIN_KEY: usize = 16;

pub(super) struct Webhook {
    url: Url,
    shown: String,
    key: Vec<u8>,
    tls: Option<TlsConnector>,
}

/// Reads the key and the certificates.
///
/// # Errors
/// The key of the configuration and what is wrong.
pub(super) fn open(settings: &config::Webhook) -> Result<Webhook, (&'static str, String)> {
    let url = Url::parse(&settings.url).map_err(|why| ("url", why))?;
    let file = &settings.secret_file;
    let read = std::fs::read(file).map_err(|error| ("secret_file", format!("{}: {error}", file.display())))?;
    let key = read.trim_ascii().to_vec();
    if key.len() < MIN_KEY {
        return Err(("secret_file", format!("{}: a key of {MIN_KEY} bytes at least, such as from: openssl rand -hex 32", file.display())));
    }
    let tls = if url.secure { Some(tls::connector(settings.ca.as_deref()).map_err(|why| ("ca", why))?) } else { None };
    Ok(Webhook { shown: format!("{}:{}", url.host, url.port), url, key, tls })
}

impl Webhook {
    fn signature(&self, timestamp: &str, body: &[u8]) -> String {
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return String::new() };
        for part in [timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        format!("sha256={}", hex(&mac.finalize().into_bytes()))
    }
}

impl Channel for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn target(&self) -> String {
        // Not the path: it often is a secret.
        self.shown.clone()
    }

    fn send<'a>(&'a self, note: &'a Note) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let body = serde_json::to_vec(note).map_err(|error| error.to_string())?;
            let timestamp = crate::desk::now_ns().div_euclid(1_000_000_000).to_string();
            let signature = self.signature(&timestamp, &body);
            let agent = format!("glasshive/{}", glasshive_journal::build::version());
            let headers = [
                ("Content-Type", "application/json"),
                ("User-Agent", agent.as_str()),
                ("X-Glasshive-Id", note.id.as_str()),
                ("X-Glasshive-Timestamp", timestamp.as_str()),
                ("X-Glasshive-Signature", signature.as_str()),
            ];
            match post(&self.url, self.tls.as_ref(), &headers, &body).await? {
                200..=299 => Ok(()),
                status => Err(format!("the server answered {status}")),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef`
    #[test]
    fn signature_golden() {
        let url = Url::parse("http://127.0.0.1:1/").unwrap();
        let hook = Webhook { url, shown: String::new(), key: b"0123456789abcdef".to_vec(), tls: None };
        assert_eq!(hook.signature("1700000000", b"{}"), GOLDEN);
    }

    const GOLDEN: &str = "sha256=e4f8e2ecae2295b2ddb2f0b5584c8275e226c0ebe9b3b819e70156bb67122e3e";
}
