//! The prompt's backslash escapes.

use super::shell::{escape, lexer, state::State};

/// Renders `PS1`. Parameters are expanded plainly; commands in it are not run.
pub(super) fn render(st: &State, hostname: &str, ps1: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&b) = ps1.get(at) {
        at += 1;
        if b == b'$' {
            let rest = ps1.get(at..).unwrap_or_default();
            if rest.first() == Some(&b'{') {
                // `${name:+…}` and the like: only an unset one occurs in the usual prompts.
                let len = rest.iter().position(|c| *c == b'}').unwrap_or(rest.len());
                let inner = rest.get(1..len).unwrap_or_default();
                if lexer::valid_name(inner) {
                    out.extend(st.get(inner).unwrap_or_default());
                }
                at += len + 1;
            } else {
                let len = rest.iter().take_while(|c| lexer::is_name(**c)).count();
                if len == 0 {
                    out.push(b'$');
                } else {
                    out.extend(st.get(rest.get(..len).unwrap_or_default()).unwrap_or_default());
                    at += len;
                }
            }
            continue;
        }
        if b != b'\\' {
            out.push(b);
            continue;
        }
        let Some(&code) = ps1.get(at) else {
            out.push(b'\\');
            break;
        };
        at += 1;
        let home = st.text("HOME");
        match code {
            b'u' => out.extend_from_slice(&st.user),
            b'h' | b'H' => out.extend_from_slice(hostname.as_bytes()),
            b'w' | b'W' => {
                let short = match st.cwd.strip_prefix(home.as_slice()) {
                    Some(rest) if home.len() > 1 && (rest.is_empty() || rest.first() == Some(&b'/')) => [b"~", rest].concat(),
                    _ => st.cwd.clone(),
                };
                if code == b'W' && short.len() > 1 && short != b"~" {
                    out.extend_from_slice(super::fs::split(&short).1);
                } else {
                    out.extend(short);
                }
            }
            b'$' => out.push(if st.who.uid == 0 { b'#' } else { b'$' }),
            b'[' | b']' => {}
            b's' => out.extend_from_slice(b"bash"),
            b'v' => out.extend_from_slice(b"5.2"),
            b'V' => out.extend_from_slice(b"5.2.15"),
            b'!' | b'#' => out.extend(st.history.len().to_string().into_bytes()),
            b'j' => out.extend(st.jobs.len().to_string().into_bytes()),
            _ => match escape::one(ps1.get(at - 1..).unwrap_or_default(), escape::Style::AnsiC) {
                Some((bytes, used, _)) => {
                    out.extend(bytes);
                    at += used - 1;
                }
                None => out.extend([b'\\', code]),
            },
        }
        if out.len() > 4_096 {
            break;
        }
    }
    out
}
