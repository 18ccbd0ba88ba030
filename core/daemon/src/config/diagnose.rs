//! Turns a parser's or serde's complaint into place, key and remedy.

use super::{ConfigError, Override, Place, attempt, merge};
use serde::de::DeserializeOwned;
use std::ops::Range;
use std::path::Path;
use toml::Table;
use toml::de::{DeTable, DeValue};

/// The error for text that is not TOML.
pub(super) fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let line = error.span().map(|span| line_at(text, span.start));
    ConfigError::Syntax { place: Place::File { path: path.to_owned(), line: line.or(Some(1)) }, why: error.message().replace('\n', ", ") }
}

/// Explains why the merged layers do not make a `T`.
pub(super) fn explain<T: DeserializeOwned>(
    path: &Path,
    text: &str,
    base: &Table,
    overrides: &[Override],
    error: &toml::de::Error,
) -> ConfigError {
    // The layer is guilty without which the complaint is another one or gone.
    let guilty = overrides.iter().enumerate().find(|(index, _)| {
        let without: Vec<_> = overrides.iter().enumerate().filter(|(i, _)| i != index).map(|(_, item)| item.clone()).collect();
        attempt::<T>(base, &without).err().is_none_or(|other| other.to_string() != error.to_string())
    });
    if let Some((_, item)) = guilty {
        let parent = item.key.split_last().map(|(_, rest)| rest.to_vec()).unwrap_or_default();
        return build(item.place.clone(), &item.key, &parent, error.message());
    }
    let in_file = |line| Place::File { path: path.to_owned(), line };
    // Parsing the file's own text gives positions, as long as it makes the same complaint.
    if let Some(located) = toml::from_str::<T>(text).err().filter(|located| located.message() == error.message()) {
        let (line, keys) = match located.span() {
            // The root table's span is empty: nothing to point at.
            Some(span) if !span.is_empty() => (Some(line_at(text, span.start)), keys_at(text, &span)),
            _ => (None, Vec::new()),
        };
        let parent =
            if is_unknown(error.message()) { keys.split_last().map(|(_, rest)| rest.to_vec()).unwrap_or_default() } else { keys.clone() };
        return build(in_file(line), &keys, &parent, error.message());
    }
    let keys = keys_in_words(&error.to_string());
    let line = if merge(base, overrides).is_empty() { None } else { line_of(text, &keys) };
    build(in_file(line), &keys, &keys, error.message())
}

/// Line (from 1) of a dotted key in the file's text.
pub(super) fn line_of(text: &str, keys: &[String]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut found = None;
    for key in keys {
        let (name, value) = table.iter().find(|(name, _)| name.get_ref() == key.as_str())?;
        found = Some(line_at(text, name.span().start));
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    found
}

fn build(place: Place, keys: &[String], parent: &[String], message: &str) -> ConfigError {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let mut names = quoted(rest).into_iter();
        let name = names.next().unwrap_or_default();
        let known: Vec<String> = names.collect();
        let key = dotted(parent, Some(&name));
        return ConfigError::UnknownKey { place, key, nearest: nearest(&name, &known), known };
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        let name = quoted(rest).into_iter().next().unwrap_or_default();
        return ConfigError::Missing { place, key: dotted(keys, Some(&name)) };
    }
    let key = dotted(keys, None);
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let mut names = quoted(rest).into_iter();
        let given = names.next().unwrap_or_default();
        let known: Vec<String> = names.collect();
        let hint = nearest(&given, &known).map(|name| format!(": did you mean `{name}`?")).unwrap_or_default();
        return ConfigError::Value { place, key, why: format!("`{given}` is not one of `{}`{hint}", known.join("`, `")) };
    }
    ConfigError::Value { place, key, why: message.replace('\n', ", ") }
}

fn is_unknown(message: &str) -> bool {
    message.starts_with("unknown field ")
}

fn dotted(keys: &[String], last: Option<&str>) -> String {
    let mut out = String::new();
    for key in keys.iter().map(String::as_str).chain(last) {
        if !out.is_empty() && !key.starts_with('[') {
            out.push('.');
        }
        out.push_str(key);
    }
    out
}

/// Names between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Keys from the `in \`a.b\`` that serde errors without a position end with.
fn keys_in_words(text: &str) -> Vec<String> {
    text.rsplit_once("in `")
        .and_then(|(_, rest)| rest.split_once('`'))
        .map(|(keys, _)| keys.split('.').map(str::to_owned).collect())
        .unwrap_or_default()
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The keys around a span, outermost first; elements of arrays as `[n]`.
fn keys_at(text: &str, span: &Range<usize>) -> Vec<String> {
    let Ok(document) = DeTable::parse(text) else { return Vec::new() };
    in_table(document.get_ref(), span).unwrap_or_default()
}

fn in_table(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    for (name, value) in table {
        let deeper = in_value(value.get_ref(), span);
        if deeper.is_some() || holds(&name.span(), span) || holds(&value.span(), span) {
            let mut keys = vec![name.get_ref().to_string()];
            keys.extend(deeper.unwrap_or_default());
            return Some(keys);
        }
    }
    None
}

fn in_value(value: &DeValue<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    match value {
        DeValue::Table(table) => in_table(table, span),
        DeValue::Array(array) => array.iter().enumerate().find_map(|(index, element)| {
            let deeper = in_value(element.get_ref(), span);
            (deeper.is_some() || holds(&element.span(), span)).then(|| {
                let mut keys = vec![format!("[{index}]")];
                keys.extend(deeper.unwrap_or_default());
                keys
            })
        }),
        _ => None,
    }
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end && outer.start < outer.end
}

/// The known name with the fewest edits, when few enough to be a slip.
fn nearest(name: &str, known: &[String]) -> Option<String> {
    let limit = (name.chars().count() / 3).clamp(1, 3);
    known
        .iter()
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.clone())
}

/// Edit distance where swapping two neighbours counts once.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |cells: &[usize], index: usize| cells.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut cost = (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}
