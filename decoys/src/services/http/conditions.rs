//! What a request's headers make of a page: preconditions, ranges and compression, as nginx decides them.

use super::nginx::date;
use super::site::Page;
use glasshive_proto::http::{Headers, RequestHead, Version};

/// Whether nginx compresses for this client (`ngx_http_gzip_ok` with the defaults).
pub(super) fn accepts_gzip(head: &RequestHead) -> bool {
    let modern = matches!(head.request.version, Version::Http(_, minor) if minor >= 1);
    modern && head.headers.get("Via").is_none() && head.headers.get("Accept-Encoding").is_some_and(names_gzip)
}

fn names_gzip(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    let mut from = 0;
    while let Some(at) = value.get(from..).and_then(|rest| rest.windows(4).position(|part| part == b"gzip")).map(|at| at + from) {
        from = at + 4;
        let starts = at == 0 || matches!(value.get(at - 1), Some(b',' | b' '));
        if !starts {
            continue;
        }
        let after = value.get(from..).unwrap_or_default().trim_ascii_start();
        match after.split_first() {
            None | Some((b',', _)) => return true,
            Some((b';', quality)) => {
                let quality = quality.trim_ascii_start();
                let Some(number) = quality.strip_prefix(b"q=") else { return false };
                return number.iter().take_while(|b| b.is_ascii_digit() || **b == b'.').any(|b| matches!(b, b'1'..=b'9'));
            }
            Some(_) => return false,
        }
    }
    false
}

/// Seconds of an HTTP date.
fn seconds(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let time = jiff::civil::DateTime::strptime("%a, %d %b %Y %H:%M:%S GMT", text).ok()?;
    Some(jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?.as_second())
}

/// Whether a list of entity tags names the page's.
fn names_tag(list: &[u8], page: &Page, weak: bool) -> bool {
    if list == b"*" {
        return true;
    }
    let own = format!("\"{}\"", page.etag());
    list.split(|b| *b == b',').map(<[u8]>::trim_ascii).any(|tag| {
        let tag = if weak { tag.strip_prefix(b"W/").unwrap_or(tag) } else { tag };
        tag == own.as_bytes()
    })
}

/// Whether the answer is 412.
pub(super) fn failed_precondition(headers: &Headers, page: &Page) -> bool {
    let modified = page.modified_ns / 1_000_000_000;
    headers.get("If-Unmodified-Since").is_some_and(|value| seconds(value).is_none_or(|time| time < modified))
        || headers.get("If-Match").is_some_and(|list| !names_tag(list, page, false))
}

/// Whether the answer is 304: every condition given says so.
pub(super) fn not_modified(headers: &Headers, page: &Page) -> bool {
    let since = headers.get("If-Modified-Since").map(|value| value == date(page.modified_ns).as_bytes());
    let tag = headers.get("If-None-Match").map(|list| names_tag(list, page, true));
    (since.is_some() || tag.is_some()) && since.unwrap_or(true) && tag.unwrap_or(true)
}

/// Whether `If-Range` lets the range count.
pub(super) fn range_holds(headers: &Headers, page: &Page) -> bool {
    headers.get("If-Range").is_none_or(|value| {
        if value.len() >= 2 && value.ends_with(b"\"") {
            value == format!("\"{}\"", page.etag()).as_bytes()
        } else {
            seconds(value) == Some(page.modified_ns / 1_000_000_000)
        }
    })
}

/// What a `Range` asks for.
pub(super) enum Ranges {
    Ignore,
    Unsatisfiable,
    Parts(Vec<(usize, usize)>),
}

/// Byte ranges (RFC 9110 §14.1.2) as nginx takes them: together no larger than the page, or ignored.
pub(super) fn ranges(value: &[u8], size: usize) -> Ranges {
    let (unit, list) = value.split_at(value.len().min(6));
    if !unit.eq_ignore_ascii_case(b"bytes=") || list.is_empty() {
        return Ranges::Ignore;
    }
    let Ok(list) = std::str::from_utf8(list) else { return Ranges::Unsatisfiable };
    let mut parts = Vec::new();
    let mut total = 0usize;
    for item in list.split(',') {
        let Some((first, last)) = item.trim().split_once('-') else { return Ranges::Unsatisfiable };
        let (first, last) = (first.trim(), last.trim());
        let number = |text: &str| text.parse::<usize>().ok();
        let range = if first.is_empty() {
            let Some(count) = number(last) else { return Ranges::Unsatisfiable };
            (size.saturating_sub(count), size.saturating_sub(1))
        } else {
            let Some(start) = number(first) else { return Ranges::Unsatisfiable };
            let end = if last.is_empty() { Some(size.saturating_sub(1)) } else { number(last) };
            let Some(end) = end else { return Ranges::Unsatisfiable };
            if end < start {
                return Ranges::Unsatisfiable;
            }
            (start, end.min(size.saturating_sub(1)))
        };
        if range.0 < size && range.0 <= range.1 {
            total = total.saturating_add(range.1 - range.0 + 1);
            parts.push(range);
        }
        if parts.len() > 64 {
            return Ranges::Ignore;
        }
    }
    if parts.is_empty() {
        Ranges::Unsatisfiable
    } else if total > size {
        Ranges::Ignore
    } else {
        Ranges::Parts(parts)
    }
}
