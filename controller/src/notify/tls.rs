//! TLS to a channel's receiver: its certificate must come from the named file or the system's list.

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Debian's list of certificate authorities.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Makes a connector.
///
/// # Errors
/// One line: the file, and what is wrong with it.
pub(super) fn connector(ca: Option<&Path>) -> Result<TlsConnector, String> {
    let path = ca.map_or_else(|| PathBuf::from(SYSTEM), Path::to_owned);
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| format!("{}: {error}", path.display()))?;
        // The system's list may hold some this build cannot use.
        let _ = roots.add(certificate);
    }
    if roots.is_empty() {
        return Err(format!("{}: no certificate in it can be used", path.display()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Speaks TLS with `host` over a connection.
pub(super) async fn connect(connector: &TlsConnector, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
    connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))
}
