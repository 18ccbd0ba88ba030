//! Values of `awk`: numbers, texts, and texts that look like numbers.

use crate::system::commands::{number, words::general};

#[derive(Clone, Debug)]
pub(super) enum Value {
    Nothing,
    Number(f64),
    Text(Vec<u8>),
    /// Text from input that looks like a number.
    Input(Vec<u8>, f64),
}

fn numeric(text: &[u8]) -> Option<f64> {
    let text = text.trim_ascii();
    let first = *text.first()?;
    if !(first.is_ascii_digit() || matches!(first, b'.' | b'-' | b'+')) {
        return None;
    }
    number::<f64>(text).filter(|v| v.is_finite())
}

/// The number a text begins with.
fn leading(text: &[u8]) -> f64 {
    let text = text.trim_ascii_start();
    let mut len = 0;
    let (mut dot, mut digits) = (false, false);
    while let Some(b) = text.get(len) {
        match b {
            b'0'..=b'9' => digits = true,
            b'.' if !dot => dot = true,
            b'+' | b'-' if len == 0 => {}
            b'e' | b'E' if digits => {
                let rest = text.get(len + 1..).unwrap_or_default();
                let sign = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
                let n = rest.get(sign..).unwrap_or_default().iter().take_while(|b| b.is_ascii_digit()).count();
                if n > 0 {
                    len += 1 + sign + n;
                }
                break;
            }
            _ => break,
        }
        len += 1;
    }
    number(text.get(..len).unwrap_or_default()).unwrap_or(0.0)
}

pub(super) fn show_number(value: f64) -> Vec<u8> {
    if value == value.trunc() && value.abs() < 1e16 {
        return format!("{value:.0}").replace("-0", if value == 0.0 { "0" } else { "-0" }).into_bytes();
    }
    general_signed(value, 6).into_bytes()
}

fn general_signed(value: f64, precision: usize) -> String {
    let text = general(value.abs(), precision, false);
    if value < 0.0 { format!("-{text}") } else { text }
}

impl Value {
    pub(super) fn number(&self) -> f64 {
        match self {
            Self::Nothing => 0.0,
            Self::Number(n) | Self::Input(_, n) => *n,
            Self::Text(t) => leading(t),
        }
    }
    pub(super) fn text(&self) -> Vec<u8> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Number(n) => show_number(*n),
            Self::Text(t) | Self::Input(t, _) => t.clone(),
        }
    }
    pub(super) fn truth(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Number(n) | Self::Input(_, n) => *n != 0.0,
            Self::Text(t) => !t.is_empty(),
        }
    }
    pub(super) fn from_input(text: Vec<u8>) -> Self {
        match numeric(&text) {
            Some(n) => Self::Input(text, n),
            None => Self::Text(text),
        }
    }
}
