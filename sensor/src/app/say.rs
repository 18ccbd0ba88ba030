//! How parsers speak: facts, what the flow remembers, and what is cut to a bound.

use super::Speaker;
use super::pair::Pair;
use glasshive_event::WireText;
use glasshive_event::flow::Application;
use glasshive_event::observation::{Fact, Malformed};
use glasshive_event::text::hex;

/// Most bytes of malformed input shown.
const SHOWN: usize = 256;
/// Most bytes of one text of a fact; what is longer is cut and says so.
pub(super) const TEXT: usize = 1_024;

/// Where a parser puts what it learnt.
#[derive(Debug)]
pub(super) struct Say<'a> {
    pub(super) out: &'a mut Vec<Fact>,
    pub(super) application: &'a mut Application,
    /// Whether the conversation's one malformed fact is spent.
    pub(super) complained: &'a mut bool,
}

impl Say<'_> {
    /// A fact.
    pub(super) fn fact(&mut self, fact: Fact) {
        self.out.push(fact);
    }

    /// Bytes that break `protocol`, `offset` bytes into their side's stream or in their datagram; only
    /// the first of a conversation is told.
    pub(super) fn malformed(&mut self, protocol: &'static str, what: &str, offset: u64, bytes: &[u8]) {
        if std::mem::replace(self.complained, true) {
            return;
        }
        let bytes = hex(bytes.get(..SHOWN).unwrap_or(bytes));
        self.out.push(Fact::Malformed(Malformed { protocol, what: what.to_owned(), offset, bytes }));
    }
}

/// Wire bytes as text of at most `most` bytes; a longer one ends in `…(+N)`, N the bytes left out.
pub(super) fn text(bytes: &[u8], most: usize) -> WireText {
    match bytes.get(..most) {
        Some(kept) if bytes.len() > most => {
            let kept = String::from_utf8_lossy(kept);
            WireText::from(format!("{}…(+{})", kept.trim_end_matches('\u{fffd}'), bytes.len() - most))
        }
        _ => WireText::from_bytes(bytes),
    }
}

/// The same for names that are text by definition; invalid bytes are replaced.
pub(super) fn name(bytes: &[u8], most: usize) -> String {
    let kept = String::from_utf8_lossy(bytes.get(..most).unwrap_or(bytes));
    if bytes.len() > most { format!("{kept}…(+{})", bytes.len() - most) } else { kept.into_owned() }
}

/// The first bytes of both sides in hexadecimal.
pub(super) fn samples(of: &Pair<Vec<u8>>) -> [String; 2] {
    [hex(of.of(Speaker::Source)), hex(of.of(Speaker::Destination))]
}
