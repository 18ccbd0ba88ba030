//! Syslog: RFC 5424 over UDP (RFC 5426), TCP (RFC 6587 §3.4.1, octet counting) or TLS (RFC 5425).
//! A connection a note: notes are few, and one that lies open for days breaks unseen.

use super::config::{self, SyslogTransport};
use super::{Channel, Note, tls};
use futures_util::future::BoxFuture;
use glasshive_daemon::config::HostPort;
use glasshive_event::Severity;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;

/// The whole exchange.
const LIMIT: Duration = Duration::from_secs(10);
/// Largest message; RFC 5425 §4.3.1 asks receivers to take 8192, datagrams should stay below (RFC 5426 §3.2).
const MAX_MESSAGE: usize = 8_000;
const MAX_DATAGRAM: usize = 2_000;

pub(super) struct Syslog {
    address: HostPort,
    transport: SyslogTransport,
    facility: u8,
    host: String,
    tls: Option<TlsConnector>,
}

/// Reads the certificates.
///
/// # Errors
/// The key of the configuration and what is wrong.
pub(super) fn open(settings: &config::Syslog) -> Result<Syslog, (&'static str, String)> {
    let tls = match settings.transport {
        SyslogTransport::Tls => Some(tls::connector(settings.ca.as_deref()).map_err(|why| ("ca", why))?),
        SyslogTransport::Udp | SyslogTransport::Tcp => None,
    };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(char::is_ascii_graphic).take(255).collect();
    let host = if host.is_empty() { "-".to_owned() } else { host };
    Ok(Syslog { address: settings.address.clone(), transport: settings.transport, facility: settings.facility, host, tls })
}

/// RFC 5424 §6.2.1: what an operator would sort by.
fn level(severity: Severity) -> u8 {
    match severity {
        Severity::Critical => 2,
        Severity::High => 3,
        Severity::Medium => 4,
        Severity::Low => 5,
        Severity::Info => 6,
    }
}

impl Syslog {
    /// The message; 32473 is the number for documentation (RFC 5612), as Glasshive has none.
    fn message(&self, note: &Note) -> Vec<u8> {
        let pri = u16::from(self.facility).saturating_mul(8).saturating_add(level(note.severity).into());
        let count = note.count.to_string();
        let data = [
            ("id", Some(note.id.as_str())),
            ("kind", Some(note.kind.name())),
            ("severity", Some(note.severity.name())),
            ("net", note.net.as_deref()),
            ("about", Some(note.about.as_str())),
            ("count", Some(count.as_str())),
            ("actor", note.actor.as_deref()),
            ("finding", note.findings.first().map(String::as_str)),
            ("technique", note.techniques.first().map(String::as_str)),
        ];
        let data: String = data.iter().filter_map(|(name, value)| value.map(|value| format!(" {name}=\"{}\"", escaped(value)))).collect();
        let text: String = note.line().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // Fractions of a second have six digits at most (RFC 5424 §6.2.3).
        let time = note.time.get(..26).unwrap_or(&note.time);
        // Version 1, and a text in UTF-8 begins with the mark (§6.4).
        let mut message = format!(
            "<{pri}>1 {time}Z {} glasshive {} {} [glasshive@32473{data}] \u{feff}{text}",
            self.host,
            std::process::id(),
            note.kind.name()
        );
        let most = if self.transport == SyslogTransport::Udp { MAX_DATAGRAM } else { MAX_MESSAGE };
        let mut end = message.len().min(most);
        while !message.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        message.truncate(end);
        message.into_bytes()
    }

    async fn deliver(&self, note: &Note) -> Result<(), String> {
        let message = self.message(note);
        let (host, port) = (self.address.host.as_str(), self.address.port);
        let connect = || async { TcpStream::connect((host, port)).await.map_err(|error| format!("cannot connect: {error}")) };
        let frame = || [format!("{} ", message.len()).as_bytes(), &message].concat();
        let broke = |error: std::io::Error| format!("connection broke: {error}");
        match (self.transport, &self.tls) {
            (SyslogTransport::Udp, _) => {
                let addresses = tokio::net::lookup_host((host, port)).await.map_err(|error| format!("{host}: {error}"))?;
                let to = addresses.into_iter().next().ok_or_else(|| format!("{host} has no address"))?;
                let from: std::net::SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
                let socket = UdpSocket::bind(from).await.map_err(broke)?;
                socket.connect(to).await.map_err(broke)?;
                socket.send(&message).await.map(|_| ()).map_err(broke)
            }
            (SyslogTransport::Tls, Some(connector)) => {
                let mut stream = tls::connect(connector, host, connect().await?).await?;
                stream.write_all(&frame()).await.map_err(broke)?;
                stream.shutdown().await.map_err(broke)
            }
            (SyslogTransport::Tls, None) => Err("no certificates to trust".to_owned()),
            (SyslogTransport::Tcp, _) => {
                let mut stream = connect().await?;
                stream.write_all(&frame()).await.map_err(broke)?;
                stream.shutdown().await.map_err(broke)
            }
        }
    }
}

/// A parameter's value (RFC 5424 §6.3.3).
fn escaped(value: &str) -> String {
    let mut out = String::new();
    for c in value.chars().take(512) {
        if matches!(c, '"' | '\\' | ']') {
            out.push('\\');
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}

impl Channel for Syslog {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn target(&self) -> String {
        let transport = match self.transport {
            SyslogTransport::Udp => "udp",
            SyslogTransport::Tcp => "tcp",
            SyslogTransport::Tls => "tls",
        };
        format!("{} over {transport}", self.address)
    }

    fn send<'a>(&'a self, note: &'a Note) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            tokio::time::timeout(LIMIT, self.deliver(note)).await.unwrap_or_else(|_| Err(format!("not sent within {} s", LIMIT.as_secs())))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::NoteKind;

    #[test]
    fn a_message_of_rfc_5424() {
        let syslog = Syslog {
            address: "10.0.0.1:514".parse().unwrap(),
            transport: SyslogTransport::Tcp,
            facility: 16,
            host: "ctl".into(),
            tls: None,
        };
        let mut note = Note::new(NoteKind::Finding, Severity::Critical, "egress", "a \"thing\" [left]\n", 1_700_000_000_000_000_000);
        note.id = "1".into();
        note.net = Some("d]mz".into());
        let text = String::from_utf8(syslog.message(&note)).unwrap();
        let golden = format!(
            "<130>1 2023-11-14T22:13:20.000000Z ctl glasshive {} finding [glasshive@32473 id=\"1\" kind=\"finding\" severity=\"critical\" net=\"d\\]mz\" about=\"egress\" count=\"1\"] \u{feff}critical finding: net d]mz: egress: a \"thing\" [left] ",
            std::process::id()
        );
        assert_eq!(text, golden);
        note.summary = "ä".repeat(9_000);
        let long = syslog.message(&note);
        assert!(long.len() <= MAX_MESSAGE && std::str::from_utf8(&long).is_ok());
    }
}
