//! What can be asked of the controller, in words that travel as one JSON line over the admin
//! socket. The command line and the socket use the same types, so an answer cannot depend on the way.

use crate::fail::Failure;
use glasshive_journal::store::{CredentialQuery, EventQuery, FileQuery, FindingQuery, FlowQuery, IpPrefix, SessionQuery, StatsQuery};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest request line, bytes.
pub const MAX_REQUEST: usize = 64 * 1024;
/// Longest answer line, bytes.
pub const MAX_ANSWER: usize = 1024 * 1024;

/// One question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// The one-screen status.
    Status,
    /// All nodes.
    Nodes,
    /// A page of sessions.
    Sessions {
        /// Which.
        query: SessionQuery,
    },
    /// One session, its children and its events.
    Session {
        /// Id, or an unambiguous start or end of it.
        id: String,
        /// Show secrets, for this reason.
        reveal: Option<String>,
    },
    /// Stream events of one session, in order of time.
    Streams {
        /// Id, or an unambiguous start or end of it.
        id: String,
        /// Go on with what comes, until the session closes.
        follow: bool,
    },
    /// A page of credentials.
    Credentials {
        /// Which.
        query: CredentialQuery,
        /// Show secrets, for this reason.
        reveal: Option<String>,
    },
    /// A page of files.
    Files {
        /// Which.
        query: FileQuery,
    },
    /// A page of findings.
    Findings {
        /// Which.
        query: FindingQuery,
    },
    /// One finding, its sessions and its flows.
    Finding {
        /// Id, or an unambiguous start or end of it.
        id: String,
    },
    /// A page of flows that were refused or left half open.
    Probes {
        /// Which.
        query: FlowQuery,
    },
    /// What is alive, what is lost, and what would help.
    Doctor,
    /// Send a test note over every channel.
    NotifyTest,
    /// Sums.
    Stats {
        /// Over what.
        query: StatsQuery,
    },
    /// Events in order of time.
    Tail {
        /// Time, node, net, kinds, and how many of the newest.
        query: EventQuery,
        /// Parts the store does not filter by.
        filter: Filter,
        /// Go on with what comes.
        follow: bool,
    },
    /// Events with their records, for an export.
    Export {
        /// What.
        what: What,
        /// Format, for the audit.
        format: String,
        /// Where to, for the audit.
        to: String,
        /// Reason given, for the audit.
        reason: String,
        /// Send the captured files too, opened.
        files: bool,
        /// Ask the net's sensors for the packets.
        #[serde(default)]
        packets: bool,
        /// Send the keys that decrypt packets too, opened.
        #[serde(default)]
        secrets: bool,
    },
    /// A one-time token for a node.
    Enroll {
        /// Node.
        node: String,
        /// Net.
        net: String,
        /// `decoys` or `sensor`.
        role: String,
        /// How long the token is good for, seconds.
        ttl_s: u64,
    },
    /// Sign a node's certificate request.
    Sign {
        /// The request, PEM.
        csr: String,
        /// Net.
        net: String,
        /// `decoys` or `sensor`.
        role: String,
    },
    /// Change the certificate authority, a step at a time.
    Rotate {
        /// `distribute`, `reissue` or `drop`; `None` = where it stands.
        step: Option<String>,
        /// Why.
        reason: String,
        /// Leave nodes behind that have not come back since the last step.
        force: bool,
    },
    /// Take a node off the list, at once.
    Revoke {
        /// Node.
        node: String,
        /// Why.
        reason: String,
    },
}

/// What an export takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// One session.
    Session(String),
    /// One finding with its sessions.
    Finding(String),
    /// Everything that passes.
    Filter {
        /// Time, node, net, kinds.
        query: Box<EventQuery>,
        /// The rest.
        filter: Filter,
    },
}

/// Parts of a filter the store's event scan does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// Decoy.
    pub decoy: Option<String>,
    /// Service.
    pub service: Option<String>,
    /// Source address or prefix.
    pub source: Option<IpPrefix>,
    /// Account name of a login, exactly.
    pub user: Option<String>,
    /// SHA-256 of a file, or a secret's pivot.
    pub hash: Option<String>,
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// One object of the result.
    Item(Value),
    /// All was said.
    End(End),
    /// It could not be done; nothing follows.
    Error(Failure),
}

/// What closes an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// Objects sent.
    pub count: u64,
    /// Ask again with this cursor for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_keep_their_form_on_the_wire() {
        let request =
            Request::Sessions { query: SessionQuery { source: "192.0.2.0/24".parse().ok(), limit: 5, ..SessionQuery::default() } };
        let line = serde_json::to_string(&request).unwrap();
        assert!(line.starts_with(r#"{"ask":"sessions","query":{"#), "{line}");
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
        let answers = [
            (Answer::Item(serde_json::json!({"a": 1})), r#"{"item":{"a":1}}"#),
            (Answer::End(End { count: 2, next: None }), r#"{"end":{"count":2}}"#),
            (Answer::Error(Failure::not_found("no session ab")), r#"{"error":{"code":"not_found","message":"no session ab"}}"#),
        ];
        for (answer, expected) in answers {
            assert_eq!(serde_json::to_string(&answer).unwrap(), expected);
            assert_eq!(serde_json::from_str::<Answer>(expected).unwrap(), answer);
        }
        let events: Request = serde_json::from_str(r#"{"ask":"tail","query":{"after":{}},"filter":{},"follow":true}"#).unwrap();
        assert!(matches!(events, Request::Tail { follow: true, .. }));
    }
}
