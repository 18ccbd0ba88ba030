//! How the use of a service is told: techniques by service and vantage, words, severity.

use super::{RemoteService, base};
use crate::matter::Told;
use crate::{Evidence, Finding, Severity, Vantage};
use std::net::IpAddr;

/// Services that give a person or a program a hand on the host, and their technique.
static REMOTE: &[(&str, &str)] = &[
    ("ssh", "T1021.004"),
    ("telnet", "T1021"),
    ("rdp", "T1021.001"),
    ("smb", "T1021.002"),
    ("smb1", "T1021.002"),
    ("smb2", "T1021.002"),
    ("dcerpc", "T1021.003"),
    ("vnc", "T1021.005"),
    ("winrm", "T1021.006"),
];

/// Ports these are at home on, for flows nobody could name.
static PORTS: &[(u16, &str)] = &[
    (22, "ssh"),
    (23, "telnet"),
    (135, "dcerpc"),
    (139, "smb"),
    (445, "smb"),
    (3389, "rdp"),
    (5900, "vnc"),
    (5985, "winrm"),
    (5986, "winrm"),
];

/// The technique of a remote service.
pub(super) fn remote(service: &str) -> Option<&'static str> {
    REMOTE.iter().find(|(name, _)| *name == service).map(|(_, technique)| *technique)
}

/// The remote service a flow goes to, by content, or by port when the content is not known.
pub(super) fn service(spoken: Option<&str>, port: u16) -> Option<&'static str> {
    match spoken {
        Some(name) => REMOTE.iter().find(|(known, _)| *known == name).map(|(known, _)| *known),
        None => PORTS.iter().find(|(known, _)| *known == port).map(|(_, name)| *name),
    }
}

/// What is known of a source's refused logins at one service.
pub(super) struct Guessing {
    pub(super) users: u64,
    pub(super) secrets: u64,
    pub(super) pairs: u64,
    pub(super) decoys: u64,
    pub(super) names: Vec<String>,
}

impl Guessing {
    /// Technique and word.
    fn kind(&self) -> (&'static str, &'static str) {
        let many = self.users >= 3;
        if many && self.secrets >= 1 && self.secrets.saturating_mul(2) <= self.users {
            return ("T1110.003", "spraying few secrets over many accounts");
        }
        // Each account with hardly more than one secret, and hardly two with the same.
        if many
            && self.pairs.saturating_mul(4) <= self.users.saturating_mul(5)
            && self.secrets.saturating_mul(4) >= self.users.saturating_mul(3)
        {
            return ("T1110.004", "trying each account with a secret of its own, as from a stolen list");
        }
        ("T1110.001", "guessing")
    }
}

impl RemoteService {
    fn is_edge(&self) -> bool {
        self.works.segment.vantage == Vantage::Edge
    }

    pub(super) fn used(&self, service: &str, source: IpAddr, decoy: IpAddr, told: &Told) -> Finding {
        let technique = remote(service).unwrap_or("T1021");
        Finding {
            techniques: if self.is_edge() { vec!["T1133", technique] } else { vec![technique] },
            summary: format!("{source} tried to log in to {service} of the decoy at {decoy}, which nobody has a reason to use."),
            ..base(format!("used {service} {source} {decoy}"), source, decoy, told, "sessions")
        }
    }

    pub(super) fn guessed(&self, service: &str, source: IpAddr, decoy: IpAddr, guessing: &Guessing, told: &Told) -> Finding {
        let (technique, words) = guessing.kind();
        let high = told.count >= self.settings.many || guessing.decoys >= self.settings.targets;
        let mut finding = base(format!("guessing {service} {source}"), source, decoy, told, "refused_logins");
        let measure = |metric, value: u64, samples| Evidence { metric, value: value as f64, threshold: 0.0, window_s: 3_600, samples };
        finding.evidence.push(measure("accounts", guessing.users, guessing.names.clone()));
        finding.evidence.push(measure("secrets", guessing.secrets, Vec::new()));
        finding.evidence.push(measure("decoys", guessing.decoys, Vec::new()));
        Finding {
            severity: if high { Severity::High } else { Severity::Medium },
            techniques: vec![technique, "T1110"],
            summary: format!(
                "{source} had {} logins refused by {service} of {} decoy(s) with {} account(s): {words}.",
                told.number(),
                guessing.decoys,
                guessing.users
            ),
            ..finding
        }
    }

    pub(super) fn accepted(&self, service: &str, source: IpAddr, decoy: IpAddr, refused: u64, told: &Told) -> Finding {
        let mut techniques = vec!["T1078"];
        if let Some(technique) = remote(service) {
            techniques.insert(if self.is_edge() { 1 } else { 0 }, technique);
        }
        let after = match refused {
            0 => "at once, so it knew the account".to_owned(),
            count => format!("after {count} refused"),
        };
        let mut finding = base(format!("accepted {service} {source} {decoy}"), source, decoy, told, "accepted_logins");
        let samples = Vec::new();
        finding.evidence.push(Evidence { metric: "refused_before", value: refused as f64, threshold: 3.0, window_s: 3_600, samples });
        Finding {
            severity: Severity::Critical,
            confidence: 99,
            techniques,
            summary: format!("{source} logged in to {service} of the decoy at {decoy}, {after}."),
            ..finding
        }
    }

    pub(super) fn commands(&self, service: &str, source: IpAddr, decoy: IpAddr, told: &Told) -> Finding {
        let technique = remote(service).unwrap_or("T1021");
        Finding {
            severity: Severity::Critical,
            confidence: 99,
            techniques: if self.is_edge() { vec!["T1059", technique] } else { vec![technique, "T1059"] },
            summary: format!("{source} gave {} command(s) over {service} to the decoy at {decoy}.", told.number()),
            ..base(format!("commands {service} {source} {decoy}"), source, decoy, told, "commands")
        }
    }

    pub(super) fn reached_out(&self, service: &str, decoy: IpAddr, target: IpAddr, told: &Told) -> Finding {
        Finding {
            severity: Severity::Critical,
            techniques: vec![remote(service).unwrap_or("T1021")],
            summary: format!(
                "the decoy at {decoy} connected to {service} of {target}, and decoys connect to nothing: somebody is in its place."
            ),
            ..base(format!("outbound {service} {decoy} {target}"), decoy, target, told, "flows")
        }
    }
}
