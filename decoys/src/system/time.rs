//! Calendar arithmetic in UTC (the pretended machine's time zone) and `strftime`.

/// A broken-down UTC time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub year: i64,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    /// 0 is Sunday.
    pub weekday: u32,
    /// 0 is 1 January.
    pub yearday: u32,
}

pub(super) const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
pub(super) const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

/// Days since 1970 of a date (proleptic Gregorian).
pub(super) fn days(year: i64, month: u32, day: u32) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = (i64::from(month) + 9) % 12;
    let doy = (153 * mp + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// Breaks down seconds since 1970.
pub(super) fn civil(seconds: i64) -> Civil {
    // Beyond these years nothing on the machine needs to be right, only not to overflow.
    let seconds = seconds.clamp(-60_000_000_000_000, 60_000_000_000_000);
    let day_number = seconds.div_euclid(86_400);
    let rest = seconds.rem_euclid(86_400) as u32;
    let z = day_number + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = (doy - (153 * mp + 2) / 5 + 1) as u32;
    let month = if mp < 10 { mp + 3 } else { mp - 9 } as u32;
    let year = yoe + era * 400 + i64::from(month <= 2);
    Civil {
        year,
        month,
        day,
        hour: rest / 3600,
        minute: rest / 60 % 60,
        second: rest % 60,
        weekday: (day_number + 4).rem_euclid(7) as u32,
        yearday: (day_number - days(year, 1, 1)) as u32,
    }
}

pub(super) fn day_name(c: &Civil) -> &'static str {
    DAYS.get(c.weekday as usize).copied().unwrap_or("")
}

pub(super) fn month_name(c: &Civil) -> &'static str {
    MONTHS.get((c.month.saturating_sub(1)) as usize).copied().unwrap_or("")
}

fn short(name: &str) -> &str {
    name.get(..3).unwrap_or(name)
}

/// `Nov 25 03:16`, or with the year when half a year away, as `ls -l` prints it.
pub(super) fn ls(mtime: i64, now: i64) -> String {
    let c = civil(mtime);
    if mtime > now || now - mtime > 31_556_952 / 2 {
        format!("{} {:>2}  {}", short(month_name(&c)), c.day, c.year)
    } else {
        format!("{} {:>2} {:02}:{:02}", short(month_name(&c)), c.day, c.hour, c.minute)
    }
}

/// `strftime` with GNU flags (`-`, `_`, `0`, `^`) and `%N`.
pub(super) fn format(pattern: &[u8], seconds: i64, nanos: u32) -> Vec<u8> {
    let c = civil(seconds);
    let mut out = Vec::new();
    let mut bytes = pattern.iter().copied().peekable();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let (mut pad, mut upper, mut width) = (None, false, 0usize);
        while let Some(f) = bytes.peek().copied() {
            match f {
                b'-' | b'_' => pad = Some(f),
                b'0' if width == 0 => pad = Some(f),
                b'^' => upper = true,
                b'0'..=b'9' => width = (width * 10 + usize::from(f - b'0')).min(64),
                b':' | b'E' | b'O' => {}
                _ => break,
            }
            bytes.next();
        }
        let Some(code) = bytes.next() else {
            out.push(b'%');
            break;
        };
        let number = |value: i64, digits: usize, fill: u8| {
            let digits = if width > 0 { width } else { digits };
            match pad.unwrap_or(fill) {
                b'-' => value.to_string(),
                b'_' => format!("{value:>digits$}"),
                _ => format!("{value:0digits$}"),
            }
        };
        let hour12 = i64::from(if c.hour % 12 == 0 { 12 } else { c.hour % 12 });
        let sub = |p: &str| String::from_utf8_lossy(&format(p.as_bytes(), seconds, nanos)).into_owned();
        // ISO 8601 week: the week of the year's Thursday.
        let thursday = seconds.div_euclid(86_400) - i64::from((c.weekday + 6) % 7) + 3;
        let iso = civil(thursday * 86_400);
        let text = match code {
            b'a' => short(day_name(&c)).to_owned(),
            b'A' => day_name(&c).to_owned(),
            b'b' | b'h' => short(month_name(&c)).to_owned(),
            b'B' => month_name(&c).to_owned(),
            b'c' => sub("%a %b %e %H:%M:%S %Y"),
            b'C' => number(c.year.div_euclid(100), 2, b'0'),
            b'd' => number(i64::from(c.day), 2, b'0'),
            b'D' | b'x' => sub("%m/%d/%y"),
            b'e' => number(i64::from(c.day), 2, b'_'),
            b'F' => sub("%Y-%m-%d"),
            b'g' => number(iso.year.rem_euclid(100), 2, b'0'),
            b'G' => number(iso.year, 4, b'0'),
            b'H' => number(i64::from(c.hour), 2, b'0'),
            b'I' => number(hour12, 2, b'0'),
            b'j' => number(i64::from(c.yearday) + 1, 3, b'0'),
            b'k' => number(i64::from(c.hour), 2, b'_'),
            b'l' => number(hour12, 2, b'_'),
            b'm' => number(i64::from(c.month), 2, b'0'),
            b'M' => number(i64::from(c.minute), 2, b'0'),
            b'n' => "\n".to_owned(),
            b'N' => {
                let full = format!("{nanos:09}");
                full.get(..if width > 0 { width.min(9) } else { 9 }).unwrap_or(&full).to_owned()
            }
            b'p' => if c.hour < 12 { "AM" } else { "PM" }.to_owned(),
            b'P' => if c.hour < 12 { "am" } else { "pm" }.to_owned(),
            b'r' => sub("%I:%M:%S %p"),
            b'R' => sub("%H:%M"),
            b's' => number(seconds, 1, b'0'),
            b'S' => number(i64::from(c.second), 2, b'0'),
            b't' => "\t".to_owned(),
            b'T' | b'X' => sub("%H:%M:%S"),
            b'u' => number(i64::from(if c.weekday == 0 { 7 } else { c.weekday }), 1, b'0'),
            b'U' => number(i64::from((c.yearday + 7 - c.weekday) / 7), 2, b'0'),
            b'V' => number(i64::from(iso.yearday / 7 + 1), 2, b'0'),
            b'w' => number(i64::from(c.weekday), 1, b'0'),
            b'W' => number(i64::from((c.yearday + 7 - (c.weekday + 6) % 7) / 7), 2, b'0'),
            b'y' => number(c.year.rem_euclid(100), 2, b'0'),
            b'Y' => number(c.year, 1, b'0'),
            b'z' => "+0000".to_owned(),
            b'Z' => "UTC".to_owned(),
            b'%' => "%".to_owned(),
            other => format!("%{}", char::from(other)),
        };
        out.extend(if upper { text.to_uppercase() } else { text }.into_bytes());
    }
    out
}

/// Reads the dates people give to `date -d` and `touch -d`: `@seconds`, ISO dates, `now`, `N days ago`, `+N hour`.
pub(super) fn parse(text: &str, now: i64) -> Option<i64> {
    let text = text.trim();
    if let Some(seconds) = text.strip_prefix('@') {
        return seconds.split('.').next()?.parse().ok();
    }
    let mut at = now;
    let mut midnight = false;
    let mut words = text.split_whitespace().peekable();
    let mut sign_of_last = None::<(i64, i64)>;
    while let Some(word) = words.next() {
        let lower = word.to_ascii_lowercase();
        let lower = lower.trim_end_matches('z');
        match lower {
            "now" | "utc" | "gmt" => {}
            "today" => {}
            "yesterday" => at -= 86_400,
            "tomorrow" => at += 86_400,
            "ago" => {
                let (count, unit) = sign_of_last.take()?;
                at = at.checked_sub(count.checked_mul(unit)?.checked_mul(2)?)?;
            }
            "midnight" => {
                at -= at.rem_euclid(86_400);
            }
            _ if lower.contains('-') && lower.starts_with(|c: char| c.is_ascii_digit()) => {
                let (date, clock) = lower.split_once('t').unwrap_or((lower, ""));
                let mut parts = date.split('-').map(|p| p.parse::<i64>().ok());
                let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
                if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(0..=9_999).contains(&year) {
                    return None;
                }
                at = days(year, month as u32, day as u32) * 86_400;
                midnight = true;
                if !clock.is_empty() {
                    at += clock_seconds(clock)?;
                }
            }
            _ if lower.contains(':') => {
                if !midnight {
                    at -= at.rem_euclid(86_400);
                }
                at = at.checked_add(clock_seconds(lower)?)?;
            }
            _ if lower.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') => {
                let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
                let count: i64 = digits.parse().ok()?;
                let rest = lower.get(digits.len()..).unwrap_or("");
                let unit = if rest.is_empty() { words.next()?.to_ascii_lowercase() } else { rest.to_owned() };
                let unit = unit_seconds(&unit)?;
                at = at.checked_add(count.checked_mul(unit)?)?;
                sign_of_last = Some((count, unit));
            }
            "next" | "last" => {
                let unit = unit_seconds(&words.next()?.to_ascii_lowercase())?;
                at += if lower == "next" { unit } else { -unit };
            }
            _ => return None,
        }
    }
    Some(at)
}

fn clock_seconds(text: &str) -> Option<i64> {
    let mut total = 0i64;
    let mut scale = 3600;
    for part in text.split('.').next()?.split(':') {
        let value: i64 = part.parse().ok().filter(|v| (0..=60).contains(v))?;
        total += value * scale;
        scale /= 60;
    }
    Some(total)
}

fn unit_seconds(unit: &str) -> Option<i64> {
    Some(match unit.trim_end_matches('s') {
        "sec" | "second" => 1,
        "min" | "minute" => 60,
        "hour" => 3600,
        "day" => 86_400,
        "week" => 604_800,
        "fortnight" => 1_209_600,
        "month" => 30 * 86_400,
        "year" => 365 * 86_400,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_date_does() {
        let at = |p: &str| String::from_utf8(format(p.as_bytes(), 1_764_041_767, 5)).unwrap();
        assert_eq!(at("%a %b %e %T %Z %Y"), "Tue Nov 25 03:36:07 UTC 2025");
        assert_eq!(at("%F %R %j %U %V %u %s %N %-d %3N"), "2025-11-25 03:36 329 47 48 2 1764041767 000000005 25 000");
        assert_eq!(civil(951_782_400).day, 29);
        assert_eq!(parse("2024-02-29 12:00", 0), Some(1_709_208_000));
        assert_eq!(parse("2 days ago", 200_000), Some(27_200));
        assert_eq!(ls(100, 100 + 20_000_000), "Jan  1  1970");
    }
}
