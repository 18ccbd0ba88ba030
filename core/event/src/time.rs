//! Times: nanoseconds since 1970 UTC, shown as RFC 3339.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A wall time in nanoseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// RFC 3339 in UTC with nanoseconds: the one form used in JSON and exports.
    pub fn rfc3339(&self) -> String {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(t) => format!("{t:.9}"),
            Err(_) => String::from("1970-01-01T00:00:00.000000000Z"),
        }
    }

    /// Accepts RFC 3339, or an age such as `2h`, `30m`, `7d` counted back from `now`.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, String> {
        if let Ok(t) = text.parse::<jiff::Timestamp>() {
            return i64::try_from(t.as_nanosecond()).map(Self).map_err(|_| format!("time {text:?} is out of range"));
        }
        parse_duration_ns(text)
            .map(|age| Self(now.0.saturating_sub(age)))
            .ok_or_else(|| format!("{text:?} is neither an RFC 3339 time (2026-01-31T12:00:00Z) nor an age (90s, 30m, 2h, 7d)"))
    }

    /// The UTC day, `2026-01-31`.
    pub fn day(&self) -> String {
        self.rfc3339().chars().take(10).collect()
    }
}

/// Reads `90s`, `30m`, `2h`, `7d`, `4w`; `None` when it is something else.
pub fn parse_duration_ns(text: &str) -> Option<i64> {
    let unit = text.chars().last()?;
    let number: i64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    if number < 0 {
        return None;
    }
    number.checked_mul(seconds)?.checked_mul(1_000_000_000)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}
impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shows_and_reads() {
        let t = Timestamp(1_700_000_000_123_456_789);
        assert_eq!(t.rfc3339(), "2023-11-14T22:13:20.123456789Z");
        assert_eq!(t.day(), "2023-11-14");
        assert_eq!(Timestamp::parse("2023-11-14T22:13:20.123456789Z", Timestamp(0)).unwrap(), t);
        assert_eq!(Timestamp::parse("2h", t).unwrap().0, t.0 - 7_200_000_000_000);
        for bad in ["", "2", "h", "-2h", "2y", "99999999999999w"] {
            assert!(Timestamp::parse(bad, t).is_err(), "{bad}");
        }
    }
}
