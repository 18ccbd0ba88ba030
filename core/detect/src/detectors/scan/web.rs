//! Signs of a scan in web requests and answers: version probes, scanners that say who they are, and
//! lists of words tried as paths. A scanner that lies about its name is only seen by its misses.

use glasshive_event::WireText;
use glasshive_event::observation::HttpRequest;

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Sign {
    /// A request only a version or script probe makes.
    Version,
    /// A user agent that names a scanner.
    Agent,
    /// An answer "not found".
    NotFound,
}

/// How a sign is told.
pub(super) struct Row {
    /// Word in keys.
    pub(super) name: &'static str,
    /// What is counted.
    pub(super) metric: &'static str,
    /// The mission's technique.
    pub(super) technique: &'static str,
    /// How sure.
    pub(super) confidence: u8,
}

impl Sign {
    pub(super) fn row(self) -> Row {
        match self {
            Self::Version => Row { name: "version", metric: "flows", technique: "T1595.002", confidence: 95 },
            Self::Agent => Row { name: "scanner", metric: "flows", technique: "T1595.002", confidence: 85 },
            Self::NotFound => Row { name: "wordlist", metric: "not_found", technique: "T1595.003", confidence: 70 },
        }
    }
}

/// Paths of nmap's version and script probes.
const PROBES: [&str; 4] = ["nice%20ports", "nice ports", "/nmaplowercheck", "/nmapuppercheck"];
/// Words in user agents of scanners, in lower case.
const AGENTS: [&str; 18] = [
    "nikto",
    "sqlmap",
    "nuclei",
    "gobuster",
    "dirbuster",
    "wfuzz",
    "ffuf",
    "feroxbuster",
    "zgrab",
    "masscan",
    "nessus",
    "openvas",
    "acunetix",
    "whatweb",
    "wpscan",
    "arachni",
    "w3af",
    "skipfish",
];

/// What a request is a sign of.
pub(super) fn request(request: &HttpRequest) -> Option<Sign> {
    let lower = |text: &WireText| match text {
        WireText::Text(text) => text.chars().take(256).collect::<String>().to_ascii_lowercase(),
        WireText::Hex { .. } => String::new(),
    };
    let target = lower(&request.target);
    let agent = request.user_agent.as_ref().map(lower).unwrap_or_default();
    if PROBES.iter().any(|probe| target.contains(probe)) || agent.contains("nmap scripting engine") {
        return Some(Sign::Version);
    }
    AGENTS.iter().any(|name| agent.contains(name)).then_some(Sign::Agent)
}
