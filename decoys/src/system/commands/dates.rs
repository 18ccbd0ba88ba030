//! `date` and `timedatectl`.

use super::{Cx, has, show, value};
use crate::system::time;

pub(super) fn date(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("date=", b'd'),
        ("utc", b'u'),
        ("universal", b'u'),
        ("rfc-email", b'R'),
        ("iso-8601[=", b'I'),
        ("reference=", b'r'),
        ("set=", b's'),
        ("rfc-3339=", b'3'),
    ];
    let Ok((options, rest)) = cx.options(args, "d:uRr:s:If:", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    let (mut at, mut nanos) = (cx.now(), cx.x.now_ns.rem_euclid(1_000_000_000) as u32);
    if let Some(text) = value(&options, b'd') {
        match time::parse(&show(text), at) {
            Some(t) => {
                let relative = !text.starts_with(b"@") && text.is_ascii() && show(text).chars().any(|c| c.is_alphabetic());
                (at, nanos) = (t, if relative { nanos } else { 0 });
            }
            None => return cx.fail(&format!("invalid date ‘{}’", show(text))),
        }
    }
    if let Some(path) = value(&options, b'r') {
        let path = path.to_vec();
        match cx.stat(&path, true) {
            Ok((_, node)) => (at, nanos) = (node.mtime, node.nanos),
            Err(e) => return cx.fail(&format!("{}: {}", show(&path), e.text())),
        }
    }
    if value(&options, b's').is_some() {
        cx.fail("cannot set date: Operation not permitted");
    }
    let format: Vec<u8> = match rest.iter().find_map(|r| r.strip_prefix(b"+")) {
        Some(f) => f.to_vec(),
        None if has(&options, b'R') => b"%a, %d %b %Y %H:%M:%S %z".to_vec(),
        None if has(&options, b'I') => match value(&options, b'I') {
            Some(b"seconds" | b"s") => b"%Y-%m-%dT%H:%M:%S+00:00".to_vec(),
            Some(b"minutes") => b"%Y-%m-%dT%H:%M+00:00".to_vec(),
            Some(b"ns") => b"%Y-%m-%dT%H:%M:%S,%N+00:00".to_vec(),
            _ => b"%Y-%m-%d".to_vec(),
        },
        None if has(&options, b'3') => b"%Y-%m-%d %H:%M:%S+00:00".to_vec(),
        None => {
            if let Some(word) = rest.first() {
                return cx.fail(&format!("invalid date ‘{}’", show(word)));
            }
            // The C.UTF-8 locale's date_fmt.
            b"%a %b %e %H:%M:%S %Z %Y".to_vec()
        }
    };
    let mut line = time::format(&format, at, nanos);
    line.push(b'\n');
    cx.out(&line);
    0
}

pub(super) fn timedatectl(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    let at = |f: &str| String::from_utf8_lossy(&time::format(f.as_bytes(), cx.now(), 0)).into_owned();
    let (local, rtc) = (at("%a %F %T UTC"), at("%a %F %T"));
    cx.say(&format!("               Local time: {local}\n           Universal time: {local}\n                 RTC time: {rtc}\n                Time zone: Etc/UTC (UTC, +0000)\nSystem clock synchronized: yes\n              NTP service: active\n          RTC in local TZ: no\n"));
    0
}
