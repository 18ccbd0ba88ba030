//! Visitor bytes as text: kept without loss in records, made inert wherever a person looks.

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Bytes a visitor sent, in JSON as a plain string when they are UTF-8 and as `{"hex":"…"}` when not.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WireText {
    /// Valid UTF-8, unchanged (control characters included: escape before showing).
    Text(String),
    /// Anything else, in hexadecimal.
    Hex {
        /// Lower-case hexadecimal digits.
        hex: String,
    },
}

impl WireText {
    /// Keeps `bytes` without loss.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex { hex: hex(bytes) },
        }
    }

    /// The bytes as they were.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Hex { hex } => unhex(hex).unwrap_or_default(),
        }
    }

    /// Inert text for a terminal, table or log: see [`escape`].
    pub fn shown(&self) -> String {
        escape_bytes(&self.to_bytes())
    }
}

impl std::fmt::Debug for WireText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.shown())
    }
}
impl Default for WireText {
    fn default() -> Self {
        Self::Text(String::new())
    }
}
impl From<&[u8]> for WireText {
    fn from(bytes: &[u8]) -> Self {
        Self::from_bytes(bytes)
    }
}
impl From<&str> for WireText {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
impl From<String> for WireText {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Makes text inert on one line: every control character, bidirectional mark, invisible or
/// unassigned-looking character and line separator becomes a visible `\x..` or `\u{..}` escape.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push_escaped(&mut out, c);
    }
    out
}

/// [`escape`] for bytes that need not be UTF-8; invalid bytes become `\xNN`.
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut out, c);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\\' => out.push_str("\\\\"),
        c if u32::from(c) < 0x20 || u32::from(c) == 0x7f => {
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        }
        c if is_deceptive(c) => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
        c => out.push(c),
    }
}

/// Characters that move, hide or reorder what a person reads: C1 controls, bidi marks, zero-width
/// and other format characters, line separators, tags, variation selectors, private use.
fn is_deceptive(c: char) -> bool {
    matches!(u32::from(c),
        0x80..=0x9f | 0xad | 0x034f | 0x061c | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f
        | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0x3164 | 0xd800..=0xf8ff
        | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0x1_bca0..=0x1_bca3 | 0x1_d173..=0x1_d17a
        | 0xe_0000..=0xe_0fff | 0xf_0000..=0x10_ffff)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// Reads hexadecimal of even length; `None` when it is not.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| match pair {
            [hi, lo] => {
                let hi = char::from(*hi).to_digit(16)?;
                let lo = char::from(*lo).to_digit(16)?;
                u8::try_from(hi * 16 + lo).ok()
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hostile_text_is_inert() {
        let cases: &[(&str, &str)] = &[
            ("\x1b[2J", "\\x1b[2J"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{202e}txt", "\\u{202e}txt"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{200b}\u{feff}\u{e0041}", "\\u{200b}\\u{feff}\\u{e0041}"),
            ("\\", "\\\\"),
            ("grün 日本", "grün 日本"),
        ];
        for (input, expected) in cases {
            assert_eq!(&escape(input), expected);
        }
        assert_eq!(escape_bytes(b"ok\xff\x00"), "ok\\xff\\x00");
    }

    proptest! {
        #[test]
        fn wire_text_keeps_every_byte(bytes: Vec<u8>) {
            let kept = WireText::from_bytes(&bytes);
            let json = serde_json::to_string(&kept).unwrap();
            let back: WireText = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(back.to_bytes(), bytes);
        }

        #[test]
        fn escaped_has_no_control(bytes: Vec<u8>) {
            let shown = escape_bytes(&bytes);
            prop_assert!(shown.chars().all(|c| !c.is_control() && !is_deceptive(c)));
        }

        #[test]
        fn hex_round_trip(bytes: Vec<u8>) {
            prop_assert_eq!(unhex(&hex(&bytes)).unwrap(), bytes);
        }
    }
}
