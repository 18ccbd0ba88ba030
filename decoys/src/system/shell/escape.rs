//! Backslash escapes of `$'…'`, `echo -e` and `printf`.

/// Which escapes are known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::system) enum Style {
    /// `$'…'`.
    AnsiC,
    /// `echo -e` and `printf %b`: `\0nnn`, and `\c` stops.
    Echo,
    /// A `printf` format: `\nnn`.
    Printf,
}

/// Decodes one escape after its backslash: the bytes, how many were read, and whether output stops. `None` when it is
/// no escape and the backslash stays.
pub(in crate::system) fn one(rest: &[u8], style: Style) -> Option<(Vec<u8>, usize, bool)> {
    let first = *rest.first()?;
    let byte = |b: u8| Some((vec![b], 1, false));
    match first {
        b'a' => byte(7),
        b'b' => byte(8),
        b'e' | b'E' => byte(27),
        b'f' => byte(12),
        b'n' => byte(10),
        b'r' => byte(13),
        b't' => byte(9),
        b'v' => byte(11),
        b'\\' => byte(b'\\'),
        b'\'' | b'"' if style != Style::Echo => byte(first),
        b'?' if style == Style::AnsiC => byte(b'?'),
        b'c' if style == Style::Echo => Some((Vec::new(), 1, true)),
        b'c' if style == Style::AnsiC => Some((vec![rest.get(1)? & 0x1f], 2, false)),
        b'x' => number(rest.get(1..)?, 16, 2).map(|(v, n)| (vec![v as u8], n + 1, false)),
        b'u' => number(rest.get(1..)?, 16, 4).map(|(v, n)| (utf8(v), n + 1, false)),
        b'U' => number(rest.get(1..)?, 16, 8).map(|(v, n)| (utf8(v), n + 1, false)),
        b'0' if style == Style::Echo => {
            let (v, n) = number(rest.get(1..)?, 8, 3).unwrap_or((0, 0));
            Some((vec![v as u8], n + 1, false))
        }
        b'0'..=b'7' if style != Style::Echo => number(rest, 8, 3).map(|(v, n)| (vec![v as u8], n, false)),
        _ => None,
    }
}

/// All escapes of a text; the flag tells that `\c` ended it.
pub(in crate::system) fn all(text: &[u8], style: Style) -> (Vec<u8>, bool) {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(b) = text.get(at) {
        at += 1;
        if *b == b'\\'
            && let Some((bytes, used, stop)) = one(text.get(at..).unwrap_or_default(), style)
        {
            out.extend(bytes);
            at += used;
            if stop {
                return (out, true);
            }
            continue;
        }
        out.push(*b);
    }
    (out, false)
}

/// The inside of `$'…'`.
pub(in crate::system) fn ansi_c(text: &[u8]) -> Vec<u8> {
    all(text, Style::AnsiC).0
}

fn number(text: &[u8], base: u32, most: usize) -> Option<(u32, usize)> {
    let mut value = 0u32;
    let mut used = 0;
    while used < most {
        let Some(digit) = text.get(used).and_then(|b| char::from(*b).to_digit(base)) else { break };
        value = value.wrapping_mul(base).wrapping_add(digit);
        used += 1;
    }
    (used > 0).then_some((value, used))
}

fn utf8(value: u32) -> Vec<u8> {
    char::from_u32(value).unwrap_or('\u{fffd}').to_string().into_bytes()
}
