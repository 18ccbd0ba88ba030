//! Shell patterns: `*`, `?`, `[…]`, classes and the extended forms `?( *( +( @( !(`. A backslash quotes.

/// Whether a pattern matches the whole text. Work is bounded; a pattern that needs more does not match.
pub(in crate::system) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut budget = 200_000u32;
    match_from(pattern, text, &mut budget, 0)
}

fn match_from(mut p: &[u8], mut t: &[u8], budget: &mut u32, depth: u32) -> bool {
    if depth > 24 {
        return false;
    }
    // A star is retried from here: only the last one matters.
    let mut back: Option<(&[u8], &[u8])> = None;
    loop {
        let Some(left) = budget.checked_sub(1) else { return false };
        *budget = left;
        if let [mark @ (b'?' | b'*' | b'+' | b'@' | b'!'), b'(', ..] = p
            && let Some((options, rest)) = alternatives(p.get(1..).unwrap_or_default())
        {
            if extended(*mark, &options, rest, t, budget, depth) {
                return true;
            }
        } else {
            match p.first() {
                None if t.is_empty() => return true,
                None => {}
                Some(b'*') => {
                    p = p.get(1..).unwrap_or_default();
                    back = Some((p, t));
                    continue;
                }
                Some(_) => {
                    if let Some(&b) = t.first()
                        && let Some(used) = one(p, b)
                    {
                        p = p.get(used..).unwrap_or_default();
                        t = t.get(1..).unwrap_or_default();
                        continue;
                    }
                }
            }
        }
        match back {
            Some((bp, bt)) if !bt.is_empty() => {
                let bt = bt.get(1..).unwrap_or_default();
                back = Some((bp, bt));
                (p, t) = (bp, bt);
            }
            _ => return false,
        }
    }
}

fn extended(mark: u8, options: &[&[u8]], rest: &[u8], t: &[u8], budget: &mut u32, depth: u32) -> bool {
    if matches!(mark, b'?' | b'*') && match_from(rest, t, budget, depth + 1) {
        return true;
    }
    for len in 0..=t.len() {
        let (head, tail) = t.split_at_checked(len).unwrap_or((t, b""));
        let hit = options.iter().any(|o| match_from(o, head, budget, depth + 1));
        if mark == b'!' {
            if !hit && match_from(rest, tail, budget, depth + 1) {
                return true;
            }
        } else if hit {
            if match_from(rest, tail, budget, depth + 1) {
                return true;
            }
            if matches!(mark, b'*' | b'+') && len > 0 && extended(b'*', options, rest, tail, budget, depth + 1) {
                return true;
            }
        }
        if *budget == 0 {
            return false;
        }
    }
    false
}

/// The options of `(a|b)` and what follows it.
fn alternatives(p: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let mut options = Vec::new();
    let (mut open, mut start, mut at) = (0usize, 1usize, 0usize);
    while let Some(b) = p.get(at) {
        match b {
            b'\\' => at += 1,
            b'(' => open += 1,
            b'|' if open == 1 => {
                options.push(p.get(start..at)?);
                start = at + 1;
            }
            b')' => {
                open = open.checked_sub(1)?;
                if open == 0 {
                    options.push(p.get(start..at)?);
                    return Some((options, p.get(at + 1..)?));
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Bytes of the pattern that match this byte.
fn one(p: &[u8], b: u8) -> Option<usize> {
    match p.first()? {
        b'?' => Some(1),
        b'\\' => match p.get(1) {
            Some(q) => (*q == b).then_some(2),
            None => (b == b'\\').then_some(1),
        },
        b'[' => match set(p, b) {
            Some((hit, used)) => hit.then_some(used),
            None => (b == b'[').then_some(1),
        },
        q => (*q == b).then_some(1),
    }
}

/// A bracket expression at the start: whether it holds the byte, and its length. `None` when it does not end.
pub(in crate::system) fn set(p: &[u8], b: u8) -> Option<(bool, usize)> {
    let mut at = 1;
    let negate = matches!(p.get(at)?, b'!' | b'^');
    at += usize::from(negate);
    let mut hit = false;
    let mut first = true;
    loop {
        let mut low = *p.get(at)?;
        if low == b']' && !first {
            return Some((hit != negate, at + 1));
        }
        first = false;
        if low == b'[' && matches!(p.get(at + 1), Some(b':' | b'=' | b'.')) {
            let mark = *p.get(at + 1)?;
            let rest = p.get(at + 2..)?;
            if let Some(len) = rest.windows(2).position(|w| w == [mark, b']']) {
                let name = rest.get(..len)?;
                hit |= if mark == b':' { class(name, b) } else { name == [b] };
                at += len + 4;
                continue;
            }
        }
        if low == b'\\' {
            at += 1;
            low = *p.get(at)?;
        }
        at += 1;
        if p.get(at) == Some(&b'-') && p.get(at + 1).is_some_and(|h| *h != b']') {
            let mut high = *p.get(at + 1)?;
            at += 2;
            if high == b'\\' {
                high = *p.get(at)?;
                at += 1;
            }
            hit |= (low..=high).contains(&b);
        } else {
            hit |= low == b;
        }
    }
}

/// POSIX character classes in the C locale.
pub(in crate::system) fn class(name: &[u8], b: u8) -> bool {
    match name {
        b"alpha" => b.is_ascii_alphabetic(),
        b"digit" => b.is_ascii_digit(),
        b"alnum" => b.is_ascii_alphanumeric(),
        b"upper" => b.is_ascii_uppercase(),
        b"lower" => b.is_ascii_lowercase(),
        b"space" => matches!(b, b' ' | 9..=13),
        b"blank" => matches!(b, b' ' | b'\t'),
        b"punct" => b.is_ascii_punctuation(),
        b"print" => (32..127).contains(&b),
        b"graph" => (33..127).contains(&b),
        b"cntrl" => b.is_ascii_control(),
        b"xdigit" => b.is_ascii_hexdigit(),
        b"word" => b == b'_' || b.is_ascii_alphanumeric(),
        _ => false,
    }
}

/// Quotes a text so that it matches only itself.
pub(in crate::system) fn quote(text: &[u8], out: &mut Vec<u8>) {
    for &b in text {
        if matches!(b, b'*' | b'?' | b'[' | b']' | b'\\' | b'(' | b')' | b'|' | b'!' | b'@' | b'+' | b'-' | b'^') {
            out.push(b'\\');
        }
        out.push(b);
    }
}

/// Whether a pattern has anything special.
pub(in crate::system) fn special(pattern: &[u8]) -> bool {
    let mut quoted = false;
    for (at, b) in pattern.iter().enumerate() {
        if std::mem::take(&mut quoted) {
            continue;
        }
        match b {
            b'\\' => quoted = true,
            b'*' | b'?' | b'[' => return true,
            b'(' if at > 0 && pattern.get(at - 1).is_some_and(|b| matches!(b, b'@' | b'+' | b'!')) => return true,
            _ => {}
        }
    }
    false
}

/// Removes the quoting backslashes.
pub(in crate::system) fn unquote(pattern: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(pattern.len());
    let mut bytes = pattern.iter();
    while let Some(b) = bytes.next() {
        if *b == b'\\' {
            out.extend(bytes.next());
        } else {
            out.push(*b);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (p, t, want) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("[a-c]?", "bz", true),
            ("[!a]", "a", false),
            ("[]a]", "]", true),
            ("[[:digit:]]*", "1x", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("@(foo|bar)x", "barx", true),
            ("+(ab)", "ababab", true),
            ("!(a)", "b", true),
            ("!(a)", "a", false),
            ("*.@(sh|c)", "x.sh", true),
            ("[", "[", true),
            ("*(a)b", "aaab", true),
        ] {
            assert_eq!(matches(p.as_bytes(), t.as_bytes()), want, "{p} {t}");
        }
        assert!(!matches(&b"*a".repeat(40), &b"a".repeat(39)));
    }
}
