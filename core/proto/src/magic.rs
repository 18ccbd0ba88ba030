//! What the first bytes of a file look like, in one word for the `file` event.
//!
//! A guess from content alone; it must never be taken for the file's nature. Container formats are
//! named by the container (a `.docx` or `.jar` is `zip`). Known misses: text in UTF-16 without a
//! byte order mark is `data`; HTML after more than 1 KiB of comment is `text`.

/// How many first bytes [`magic`] looks at.
pub const LOOKED_AT: usize = 1024;

/// Fixed byte strings at fixed offsets, most telling first.
const TABLE: &[(&str, usize, &[u8])] = &[
    ("elf", 0, b"\x7fELF"),
    ("zip", 0, b"PK\x03\x04"),
    ("zip", 0, b"PK\x05\x06"),
    ("zip", 0, b"PK\x07\x08"),
    ("gzip", 0, b"\x1f\x8b\x08"),
    ("xz", 0, b"\xfd7zXZ\x00"),
    ("zstd", 0, b"\x28\xb5\x2f\xfd"),
    ("7z", 0, b"7z\xbc\xaf\x27\x1c"),
    ("rar", 0, b"Rar!\x1a\x07"),
    ("pdf", 0, b"%PDF-"),
    ("png", 0, b"\x89PNG\r\n\x1a\n"),
    ("jpeg", 0, b"\xff\xd8\xff"),
    ("gif", 0, b"GIF87a"),
    ("gif", 0, b"GIF89a"),
    ("ole", 0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    ("rpm", 0, b"\xed\xab\xee\xdb"),
    ("deb", 0, b"!<arch>\ndebian-binary"),
    ("ar", 0, b"!<arch>\n"),
    ("macho", 0, b"\xfe\xed\xfa\xce"),
    ("macho", 0, b"\xfe\xed\xfa\xcf"),
    ("macho", 0, b"\xce\xfa\xed\xfe"),
    ("macho", 0, b"\xcf\xfa\xed\xfe"),
    ("script", 0, b"#!"),
    ("tar", 257, b"ustar"),
];

/// Names what `content` begins with: `empty`, one of the formats known, `text`, or `data`.
pub fn magic(content: &[u8]) -> &'static str {
    let first = content.get(..LOOKED_AT).unwrap_or(content);
    if first.is_empty() {
        return "empty";
    }
    for &(name, offset, bytes) in TABLE {
        if first.get(offset..).is_some_and(|at| at.starts_with(bytes)) {
            return name;
        }
    }
    if is_bzip2(first) {
        return "bzip2";
    }
    if first.starts_with(b"MZ") {
        return mz(content);
    }
    if first.starts_with(&[0xca, 0xfe, 0xba, 0xbe]) {
        return class_or_fat(first);
    }
    match text_of(first, content.len() > first.len()) {
        Some(text) => text_kind(text),
        None if first.starts_with(&[0xff, 0xfe]) || first.starts_with(&[0xfe, 0xff]) => "text",
        None => "data",
    }
}

/// `BZh`, a block size and the block or end mark (π or √π in decimal).
fn is_bzip2(first: &[u8]) -> bool {
    let Some([level, mark @ ..]) = first.strip_prefix(b"BZh") else { return false };
    (b'1'..=b'9').contains(level) && (mark.starts_with(b"1AY&SY") || mark.starts_with(b"\x17\x72\x45\x38\x50\x90"))
}

/// A DOS stub alone is `mz`; with a PE header where it points to, `pe`. A short piece counts as `pe`
/// when the pointer leads beyond what is there.
fn mz(content: &[u8]) -> &'static str {
    let pointer = content.get(0x3c..0x40).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(u32::from_le_bytes);
    let Some(at) = pointer.and_then(|p| usize::try_from(p).ok()) else { return "mz" };
    match content.get(at..) {
        Some(header) if header.starts_with(b"PE\0\0") => "pe",
        Some(header) if header.len() >= 4 => "mz",
        _ if at < 4096 => "pe",
        _ => "mz",
    }
}

/// Java classes and fat Mach-O share their magic: the next number is a class version (≥ 45) or a
/// count of architectures (few).
fn class_or_fat(first: &[u8]) -> &'static str {
    match first.get(4..8).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(u32::from_be_bytes) {
        Some(count) if count < 40 => "macho",
        Some(_) => "class",
        None => "data",
    }
}

/// The bytes as text when they are UTF-8 without control characters; a character cut at the end is
/// forgiven only when the content was longer.
fn text_of(first: &[u8], cut: bool) -> Option<&str> {
    let text = match std::str::from_utf8(first) {
        Ok(text) => text,
        Err(e) if cut && e.error_len().is_none() => std::str::from_utf8(first.get(..e.valid_up_to())?).ok()?,
        Err(_) => return None,
    };
    let plain = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\u{c}' | '\u{1b}' | '\u{8}');
    text.chars().all(plain).then_some(text)
}

fn text_kind(text: &str) -> &'static str {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("<?php") || lower.starts_with("<?=") || lower.contains("<?php") {
        return "php";
    }
    if lower.starts_with("<?xml") {
        return if lower.contains("<!doctype html") || lower.contains("<html") { "html" } else { "xml" };
    }
    const HTML: &[&str] = &["<!doctype html", "<html", "<head", "<body", "<script", "<title", "<iframe"];
    if HTML.iter().any(|tag| lower.starts_with(tag)) || (lower.starts_with("<!--") && lower.contains("<html")) {
        return "html";
    }
    if is_json(text) { "json" } else { "text" }
}

/// An object or array whose first token is a JSON token.
fn is_json(text: &str) -> bool {
    let mut chars = text.chars().filter(|c| !c.is_whitespace());
    match chars.next() {
        Some('{') => matches!(chars.next(), Some('"' | '}')),
        Some('[') => match chars.next() {
            Some('"' | '{' | '[' | ']' | '-' | '0'..='9') => !text.contains('=') || text.contains('"'),
            Some('t' | 'f' | 'n') => ["true", "false", "null"].iter().any(|w| text.trim_start_matches('[').trim_start().starts_with(w)),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &[u8], expected: &str) {
        assert_eq!(magic(content), expected, "{:?}", String::from_utf8_lossy(content));
    }

    #[test]
    fn formats() {
        check(b"", "empty");
        check(b"\x7fELF\x02\x01\x01", "elf");
        check(b"#!/bin/sh\necho", "script");
        check(b"PK\x03\x04\x14", "zip");
        check(b"\x1f\x8b\x08\x00", "gzip");
        check(b"BZh91AY&SY", "bzip2");
        check(b"\xfd7zXZ\x00\x00", "xz");
        check(b"7z\xbc\xaf\x27\x1c", "7z");
        check(b"Rar!\x1a\x07\x01\x00", "rar");
        check(b"%PDF-1.7", "pdf");
        check(b"\x89PNG\r\n\x1a\n", "png");
        check(b"\xff\xd8\xff\xe0", "jpeg");
        check(b"\xca\xfe\xba\xbe\x00\x00\x00\x34", "class");
        check(b"\xca\xfe\xba\xbe\x00\x00\x00\x02", "macho");
        check(b"\xcf\xfa\xed\xfe\x07", "macho");
        let mut tar = vec![b'a'; 257];
        tar.extend(b"ustar\0");
        check(&tar, "tar");
    }

    #[test]
    fn executables_for_windows() {
        let mut pe = b"MZ".to_vec();
        pe.resize(0x80, 0);
        pe[0x3c] = 0x80;
        check(&pe, "pe");
        pe.extend(b"PE\0\0");
        check(&pe, "pe");
        pe.truncate(0x80);
        pe.extend(b"NE\0\0");
        check(&pe, "mz");
        check(b"MZ", "mz");
    }

    #[test]
    fn texts() {
        check(b"<?php system($_GET['c']);", "php");
        check(b"GIF89a<?php", "gif");
        check(b"\n<!DOCTYPE html><html>", "html");
        check(b"<?xml version=\"1.0\"?><a/>", "xml");
        check(b"{\"a\":1}", "json");
        check(b"[1,2]", "json");
        check(b"[ true ]", "json");
        check(b"{}", "json");
        check(b"hello\n", "text");
        check("grün".as_bytes(), "text");
        check(b"\xff\xfeh\0i\0", "text");
    }

    #[test]
    fn benign_twins() {
        check(b"BZh9 is how bzip2 begins", "text");
        check(b"MZ", "mz");
        check(b"{ echo hi; }", "text");
        check(b"[section]\nkey=1", "text");
        check(b"[1section]\nkey=1", "text");
        check(b"\x00\x01\x02", "data");
        check(b"caf\xe9", "data");
        check(b"Rar! said the lion", "text");
        check(b"cut \xc3", "data");
        let mut long = vec![b'a'; LOOKED_AT - 1];
        long.extend("é".as_bytes());
        check(&long, "text");
    }
}
