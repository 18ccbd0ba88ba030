//! The daemon's own log, on standard error: text for people, JSON for collectors.
//!
//! Visitor bytes never go in as they are: wrap them in [`Shown`]. Faults a visitor can provoke go
//! through a [`Throttle`], so that they cannot fill the disk.

use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Longest [`Shown`] value, in characters of the escaped text.
const MAX_SHOWN: usize = 512;

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One readable line an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error(
        "GLASSHIVE_LOG: {0}: write a level (error, warn, info, debug, trace) or target=level pairs, such as \"info,glasshive_link=debug\""
    )]
    Filter(String),
    /// `GLASSHIVE_LOG_FORMAT` is something else.
    #[error("GLASSHIVE_LOG_FORMAT: {0:?} is not one of text, json")]
    Format(String),
    /// Set up twice.
    #[error("the log is already set up")]
    Twice,
}

/// Sets the process's log up. `GLASSHIVE_LOG` is the filter (else `default_filter`, such as `info`)
/// and `GLASSHIVE_LOG_FORMAT` overrides `format`. Colour only on a terminal and without `NO_COLOR`.
///
/// # Errors
/// A filter or format that cannot be read, or a second call.
pub fn init(format: Format, default_filter: &str) -> Result<(), TelemetryError> {
    let filter = std::env::var("GLASSHIVE_LOG").ok().filter(|text| !text.trim().is_empty());
    let filter = filter.unwrap_or_else(|| default_filter.to_owned());
    let format = match std::env::var("GLASSHIVE_LOG_FORMAT").as_deref() {
        Err(_) | Ok("") => format,
        Ok("text") => Format::Text,
        Ok("json") => Format::Json,
        Ok(other) => return Err(TelemetryError::Format(other.to_owned())),
    };
    let filter = EnvFilter::try_new(&filter).map_err(|error| TelemetryError::Filter(format!("{filter:?} is not a filter ({error})")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match format {
        Format::Text => builder.with_ansi(colour).with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    }
    .map_err(|_| TelemetryError::Twice)
}

/// Text from outside, inert on one line: control, invisible and bidirectional characters become
/// `\u{..}`, and what is longer than 512 characters is cut with a mark.
///
/// `tracing::info!(user = %Shown(name), "login")`
pub struct Shown<T>(pub T);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut escaping = Escaping { out: f, left: MAX_SHOWN, cut: false };
        write!(escaping, "{}", self.0)?;
        if escaping.cut { f.write_char('…') } else { Ok(()) }
    }
}

impl<T: fmt::Display> fmt::Debug for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

struct Escaping<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    left: usize,
    cut: bool,
}

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let width = if inert(c) { 1 } else { c.escape_default().count() };
            if self.left < width {
                self.cut = true;
                self.left = 0;
                return Ok(());
            }
            self.left -= width;
            if inert(c) { self.out.write_char(c)? } else { write!(self.out, "{}", c.escape_default())? }
        }
        Ok(())
    }
}

/// Characters that show as one visible mark and move nothing.
fn inert(c: char) -> bool {
    let hidden = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}');
    !c.is_control() && !hidden && c != '\\' && c != '"' && (c == ' ' || !c.is_whitespace())
}

/// Lets a burst of log lines through in each period and counts the rest.
///
/// `static FULL: Throttle = Throttle::new(5, Duration::from_secs(10));`
/// `if let Some(suppressed) = FULL.pass() { tracing::warn!(suppressed, "queue full"); }`
#[derive(Debug)]
pub struct Throttle {
    burst: u64,
    period_ns: u64,
    started: AtomicU64,
    passed: AtomicU64,
    suppressed: AtomicU64,
}

impl Throttle {
    /// At most `burst` lines in each `period`.
    pub const fn new(burst: u64, period: Duration) -> Self {
        let period_ns = period.as_nanos() as u64;
        Self { burst, period_ns, started: AtomicU64::new(0), passed: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// `Some(number held back since the last line let through)` when this line may be written.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(crate::clock::mono_ns())
    }

    /// [`Self::pass`] at a given monotonic time.
    pub fn pass_at(&self, now_ns: u64) -> Option<u64> {
        let started = self.started.load(Relaxed);
        let fresh = self.passed.load(Relaxed) == 0 || now_ns.saturating_sub(started) >= self.period_ns;
        if fresh && self.started.compare_exchange(started, now_ns, Relaxed, Relaxed).is_ok() {
            self.passed.store(0, Relaxed);
        }
        if self.passed.fetch_add(1, Relaxed) < self.burst {
            return Some(self.suppressed.swap(0, Relaxed));
        }
        self.suppressed.fetch_add(1, Relaxed);
        None
    }

    /// Lines held back since the last one let through.
    pub fn suppressed(&self) -> u64 {
        self.suppressed.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_text_is_inert() {
        for (text, expected) in [
            ("root", "root"),
            ("a b é 漢", "a b é 漢"),
            ("a\nb\t\x1b[31m", "a\\nb\\t\\u{1b}[31m"),
            ("\u{202e}x\u{200b}\u{2028}", "\\u{202e}x\\u{200b}\\u{2028}"),
            ("\"q\" \\", "\\\"q\\\" \\\\"),
            ("\u{85}\u{a0}\u{9b}", "\\u{85}\\u{a0}\\u{9b}"),
        ] {
            assert_eq!(Shown(text).to_string(), expected);
        }
        assert_eq!(format!("{:?}", Shown("a")), "\"a\"");
        let long = Shown("\u{7}".repeat(10_000)).to_string();
        assert!(long.chars().count() <= MAX_SHOWN + 1 && long.ends_with('…'));
        assert_eq!(Shown("x".repeat(MAX_SHOWN)).to_string().len(), MAX_SHOWN);
    }

    #[test]
    fn every_character_comes_out_on_one_line() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            let shown = Shown(c).to_string();
            assert!(!shown.chars().any(|out| out.is_control() || (out.is_whitespace() && out != ' ')), "{shown:?}");
        }
    }

    #[test]
    fn throttle_counts_what_it_holds_back() {
        let throttle = Throttle::new(2, Duration::from_nanos(100));
        let seen: Vec<_> = [5, 6, 7, 8, 104, 105, 106, 107, 400].map(|now| throttle.pass_at(now)).to_vec();
        assert_eq!(seen, [Some(0), Some(0), None, None, None, Some(3), Some(0), None, Some(1)]);
        assert_eq!(throttle.suppressed(), 0);
    }
}
