//! Why a connection ended, in words an operator can act on.

use crate::frame::{FrameError, GoAway, GoAwayWhy};
use crate::identity::IdentityError;
use crate::source::SourceClosed;
use crate::status::Problem;
use rustls::{AlertDescription, CertificateError};
use std::time::Duration;

/// Why a connection ended or was not made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Bytes that are not frames, or a broken connection.
    #[error("{}", frame_text(.0))]
    Frame(#[from] FrameError),
    /// Nothing came, or nothing could be sent, for that long.
    #[error("the other side was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// The other side closed.
    #[error("the other side closed the connection")]
    Closed,
    /// The other side said goodbye.
    #[error("{text}")]
    Away {
        /// Why, for programs.
        why: GoAwayWhy,
        /// Why, for people.
        text: String,
        /// When to come back.
        retry: Duration,
    },
    /// No connection to the address.
    #[error("{address} is not reachable: {source}")]
    Unreachable {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// TLS or the certificates failed.
    #[error("{}", tls_text(.0))]
    Tls(std::io::Error),
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Our certificate has expired, by our own clock.
    #[error("this node's certificate expired {0} days ago: enrol it again (glasshive enroll)")]
    Expired(i64),
    /// Our certificate is not valid yet, by our own clock.
    #[error("this node's certificate is not valid before {0}: this clock is behind, set it")]
    NotYet(glasshive_event::Timestamp),
    /// The journal is closed.
    #[error(transparent)]
    Source(#[from] SourceClosed),
    /// The other side broke the protocol.
    #[error("protocol violation: {0}")]
    Violation(String),
    /// The controller holds other records of this log.
    #[error("the controller's copy of this log differs: {0}")]
    Diverged(String),
    /// A newer connection took over.
    #[error("a newer connection took over")]
    Replaced,
    /// The node was revoked.
    #[error("the node was revoked")]
    Revoked,
    /// We are stopping.
    #[error("stopping")]
    Stopping,
}

impl LinkError {
    pub(crate) fn away(away: GoAway) -> Self {
        let text: String = glasshive_event::text::escape(&away.text).chars().take(400).collect();
        Self::Away { why: away.why, text, retry: Duration::from_millis(away.retry_after_ms.min(3_600_000)) }
    }

    /// The kind of problem, for programs.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Unreachable { .. } => Problem::Unreachable,
            Self::Identity(IdentityError::Token(_)) => Problem::TokenRefused,
            Self::Identity(_) => Problem::Identity,
            Self::Expired(_) => Problem::Expired,
            Self::NotYet(_) => Problem::Clock,
            Self::Diverged(_) => Problem::Diverged,
            Self::Revoked => Problem::Revoked,
            Self::Tls(error) | Self::Frame(FrameError::Io(error)) => tls_problem(error),
            Self::Away { why, .. } => match why {
                GoAwayWhy::Busy | GoAwayWhy::Full | GoAwayWhy::Stopping => Problem::Busy,
                GoAwayWhy::Revoked => Problem::Revoked,
                GoAwayWhy::Token => Problem::TokenRefused,
                GoAwayWhy::Diverged => Problem::Diverged,
                _ => Problem::Refused,
            },
            _ => Problem::Broken,
        }
    }

    /// How long the other side asked us to stay away.
    pub(crate) fn retry(&self) -> Duration {
        if let Self::Away { retry, .. } = self { *retry } else { Duration::ZERO }
    }
}

fn rustls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>()
}

fn tls_problem(error: &std::io::Error) -> Problem {
    use AlertDescription as Alert;
    use CertificateError as Bad;
    match rustls_error(error) {
        Some(rustls::Error::InvalidCertificate(bad)) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. } => Problem::Clock,
            Bad::Revoked => Problem::Revoked,
            _ => Problem::WrongAuthority,
        },
        Some(rustls::Error::AlertReceived(alert)) => match *alert {
            Alert::CertificateRevoked => Problem::Revoked,
            Alert::CertificateExpired => Problem::Clock,
            Alert::UnknownCA | Alert::DecryptError => Problem::WrongAuthority,
            _ => Problem::Refused,
        },
        _ => Problem::Broken,
    }
}

/// One line for people.
fn tls_text(error: &std::io::Error) -> String {
    use AlertDescription as Alert;
    use CertificateError as Bad;
    let Some(tls) = rustls_error(error) else { return format!("TLS failed: {error}") };
    match tls {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::ExpiredContext { time, not_after } => {
                let off = time.as_secs().saturating_sub(not_after.as_secs());
                format!("the other side's certificate expired {} ago by this clock: it was not renewed, or this clock is ahead", span(off))
            }
            Bad::NotValidYetContext { time, not_before } => {
                let off = not_before.as_secs().saturating_sub(time.as_secs());
                format!("the other side's certificate is not valid for another {} by this clock: this clock is behind, set it", span(off))
            }
            Bad::UnknownIssuer | Bad::BadSignature => {
                "the other side's certificate is not of the expected CA: wrong controller, or enrolled with another one".into()
            }
            Bad::ApplicationVerificationFailure => "the other side's certificate is valid, but of another node or service".into(),
            Bad::Revoked => "the other side's certificate was revoked".into(),
            other => format!("the other side's certificate was not accepted: {other}"),
        },
        rustls::Error::AlertReceived(alert) => match *alert {
            Alert::CertificateRevoked => "the controller revoked this node: enrol it again to let it back in".into(),
            Alert::CertificateExpired => {
                "the other side says our certificate is outside its validity, which it is not by this clock: the two clocks differ by days"
                    .into()
            }
            Alert::UnknownCA | Alert::DecryptError => "the other side does not know our CA: this identity is another controller's".into(),
            Alert::AccessDenied => "the controller does not know this node: enrol it (again)".into(),
            Alert::CertificateRequired => "the other side wants a certificate".into(),
            Alert::NoApplicationProtocol => "the other side does not speak this version of the link".into(),
            other => format!("the other side ended TLS: {other:?}"),
        },
        rustls::Error::InvalidMessage(_) => "the other side does not speak TLS".into(),
        other => format!("TLS failed: {other}"),
    }
}

fn frame_text(error: &FrameError) -> String {
    match error {
        FrameError::Io(io) if rustls_error(io).is_some() => tls_text(io),
        FrameError::Io(io) => format!("the connection broke: {io}"),
        other => other.to_string(),
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
