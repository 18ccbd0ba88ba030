//! Sessions, credentials, files and sums: pages of the summary.

use super::{Context, Sink, allow_reveal};
use crate::desk::Operator;
use crate::fail::Failure;
use crate::view;
use glasshive_journal::store::{CredentialQuery, FileQuery, SessionQuery, StatsQuery};

pub(super) async fn sessions(cx: &Context, query: SessionQuery, sink: &mut Sink) -> Result<Option<String>, Failure> {
    let page = cx.store.sessions(query).await?;
    let joins = cx.store.joins(page.rows.clone()).await?;
    for (row, join) in page.rows.iter().zip(joins) {
        let mut session = view::session(row);
        super::sessions::with_join(&mut session, join);
        sink.item(session).await?;
    }
    Ok(page.next.map(|cursor| cursor.0))
}

pub(super) async fn credentials(
    cx: &Context,
    by: &Operator,
    query: CredentialQuery,
    reveal: Option<String>,
    sink: &mut Sink,
) -> Result<Option<String>, Failure> {
    let live = match &reveal {
        Some(reason) => Some(allow_reveal(cx, by, &format!("credentials {}", describe(&query)), reason).await?),
        None => None,
    };
    let page = cx.store.credentials(query).await?;
    for row in &page.rows {
        let mut item = view::credential(row);
        if let (Some(live), Some(sample)) = (live, &row.sample) {
            match live.unseal(&sample.sealed) {
                Ok(secret) => view::reveal(&mut item, &secret),
                Err(failure) => note(&mut item, &failure),
            }
        }
        sink.item(item).await?;
    }
    Ok(page.next.map(|cursor| cursor.0))
}

/// A seal that does not open is said beside the secret, not instead of the list.
pub(super) fn note(item: &mut serde_json::Value, failure: &Failure) {
    if let serde_json::Value::Object(map) = item {
        map.insert("secret_error".to_owned(), serde_json::Value::String(failure.message.clone()));
    }
}

/// The parts of a question worth keeping in an audit event.
fn describe(query: &CredentialQuery) -> String {
    let Ok(serde_json::Value::Object(map)) = serde_json::to_value(query) else { return String::new() };
    let said =
        map.into_iter().filter(|(_, value)| !value.is_null() && value != &serde_json::json!(false) && value != &serde_json::json!(0));
    serde_json::Value::Object(said.collect()).to_string()
}

pub(super) async fn files(cx: &Context, query: FileQuery, sink: &mut Sink) -> Result<Option<String>, Failure> {
    let page = cx.store.files(query).await?;
    for row in &page.rows {
        sink.item(view::file(row)).await?;
    }
    Ok(page.next.map(|cursor| cursor.0))
}

pub(super) async fn stats(cx: &Context, query: StatsQuery, sink: &mut Sink) -> Result<Option<String>, Failure> {
    let stats = cx.store.stats(query).await?;
    sink.item(view::sums("total", "", &stats.total)).await?;
    for (name, counts) in &stats.nets {
        sink.item(view::sums("net", name, counts)).await?;
    }
    for (name, counts) in &stats.services {
        sink.item(view::sums("service", name, counts)).await?;
    }
    for row in &stats.hours {
        sink.item(view::hour(row)).await?;
    }
    for row in &stats.sources {
        sink.item(view::source(row)).await?;
    }
    for row in &stats.users {
        sink.item(view::user(row)).await?;
    }
    Ok(None)
}
