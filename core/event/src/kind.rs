//! The kinds table: one line a kind. Numbers are stored and never reused or reordered; the
//! catalogue (`glasshive events --catalog`) and the exports are generated from here.

use crate::detail;

/// One row of the table.
pub struct KindDef {
    /// The kind.
    pub kind: Kind,
    /// Name in exports and lists.
    pub name: &'static str,
    /// What it means.
    pub summary: &'static str,
    /// Field name, type and meaning of the detail.
    pub fields: &'static [(&'static str, &'static str, &'static str)],
    /// ECS `event.category`.
    pub ecs_category: &'static str,
}

macro_rules! kinds {
    ($($number:literal $kind:ident $name:literal $detail:ident $ecs:literal $summary:literal;)*) => {
        /// A kind of event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Kind { $(#[doc = $summary] $kind),* }

        impl Kind {
            /// The stored number.
            pub fn number(self) -> u16 { match self { $(Self::$kind => $number),* } }
            /// The kind with that number, if this build knows it.
            pub fn from_number(number: u16) -> Option<Self> { match number { $($number => Some(Self::$kind),)* _ => None } }
        }

        /// All kinds, in order of number.
        pub static KINDS: &[KindDef] = &[$(KindDef {
            kind: Kind::$kind, name: $name, summary: $summary, fields: detail::$detail::FIELDS, ecs_category: $ecs,
        }),*];
    };
}

kinds! {
    1  SessionOpen  "session.open"  SessionOpen  "network"        "A connection was accepted, or the first datagram of a tuple arrived.";
    2  SessionClose "session.close" SessionClose "network"        "A session ended, with its counts and reason.";
    3  Login        "login"         Login        "authentication" "One attempt to authenticate.";
    4  Command      "command"       Command      "process"        "A command given to the pretended operating system.";
    5  Request      "request"       Request      "web"            "One request of a request/response protocol.";
    6  Stream       "stream"        Stream       "network"        "Bytes of one channel in one direction.";
    7  File         "file"          File         "file"           "A file the visitor sent or was sent.";
    8  Hello        "hello"         Hello        "network"        "A client's greeting with its fingerprints.";
    9  Forward      "forward"       Forward      "network"        "The visitor asked to be forwarded.";
    10 Secret       "secret"        Secret       "network"        "Sealed secrets that decrypt the session's packets.";
    11 Malformed    "malformed"     Malformed    "network"        "Input the protocol does not allow.";
    12 Flow         "flow"          Flow         "network"        "What the sensor saw between two ends.";
    13 Finding      "finding"       Finding      "threat"         "A detector's judgement with evidence.";
    14 Device       "device"        Device       "network"        "A line from a router, switch, firewall or proxy.";
    15 Audit        "audit"         Audit        "configuration"  "An operator did something.";
    16 Loss         "loss"          Loss         "host"           "Something was not kept, and exactly what.";
    17 Health       "health"        Health       "host"           "A daemon's state.";
    18 Gap          "gap"           Gap          "host"           "A hole in a log.";
    19 Checkpoint   "checkpoint"    Checkpoint   "host"           "Signed head of a log.";
    20 Blocked      "blocked"       Blocked      "network"        "Packets the wall dropped: one attempt, and how often it was made.";
}

impl Kind {
    /// Name in exports and lists.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|def| def.kind == self).map_or("", |def| def.name)
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        KINDS.iter().find(|def| def.name == name).map(|def| def.kind)
    }
}

/// The catalogue as Markdown.
pub fn catalog_markdown() -> String {
    use std::fmt::Write as _;
    let mut out = String::from(
        "# Event catalogue\n\nEvery event also carries log, seq, wall time, monotonic time, boot id, and where they apply session, parent, conn, decoy, service, transport, wire, claimed.\n",
    );
    for def in KINDS {
        let _ = write!(out, "\n## {} ({})\n\n{}\n\n| field | type | meaning |\n|---|---|---|\n", def.name, def.kind.number(), def.summary);
        for (field, ty, meaning) in def.fields {
            let _ = writeln!(out, "| {field} | {} | {} |", json_type(ty), meaning.trim());
        }
    }
    out
}

/// The catalogue as JSON values, one a kind.
pub fn catalog_json() -> Vec<serde_json::Value> {
    KINDS
        .iter()
        .map(|def| {
            let fields: Vec<_> = def
                .fields
                .iter()
                .map(|(field, ty, meaning)| serde_json::json!({"field": field, "type": json_type(ty), "meaning": meaning.trim()}))
                .collect();
            serde_json::json!({"kind": def.name, "number": def.kind.number(), "summary": def.summary, "ecs_category": def.ecs_category, "fields": fields})
        })
        .collect()
}

/// What a reader of the JSON meets for a Rust type of the detail.
fn json_type(ty: &str) -> String {
    let bare: String = ty.chars().filter(|c| !c.is_whitespace()).collect();
    let (inner, optional) = match bare.strip_prefix("Option<").and_then(|rest| rest.strip_suffix('>')) {
        Some(inner) => (inner.to_owned(), true),
        None => (bare, false),
    };
    let name = match inner.as_str() {
        "String" | "FlowId" | "FindingId" | "ConnId" | "FlowEnd" | "DirectionBasis" | "Severity" | "IpAddr" => "string",
        "Timestamp" => "integer, nanoseconds since 1970",
        "PacketScope" => "array",
        "WireText" => "string, or {\"hex\"} when not UTF-8",
        "u8" | "u16" | "u32" | "u64" | "i32" | "i64" => "integer",
        "bool" => "boolean",
        "f64" => "number",
        "(u32,u32)" | "(u8,u8)" => "[integer, integer]",
        other if other.starts_with("Vec<") => "array",
        _ => "object",
    };
    if optional { format!("{name}, optional") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_round_trip() {
        for (index, def) in KINDS.iter().enumerate() {
            assert_eq!(usize::from(def.kind.number()), index + 1);
            assert_eq!(Kind::from_number(def.kind.number()), Some(def.kind));
            assert_eq!(Kind::from_name(def.name), Some(def.kind));
            assert!(!def.fields.is_empty());
        }
        assert_eq!(Kind::from_number(0), None);
    }

    #[test]
    fn catalogue_names_every_field_with_a_meaning() {
        let text = catalog_markdown();
        for def in KINDS {
            for (field, _, meaning) in def.fields {
                assert!(!meaning.is_empty(), "{} {field}", def.name);
                assert!(text.contains(&format!("| {field} |")));
            }
        }
    }
}
