//! TLS 1.3 with both sides certified by the controller's CA, on an injected clock.
//!
//! The channel (main, bulk, join) is the ALPN name, so that only a JOIN may come without a
//! certificate. There is no resumption: a resumed session would skip the deny list.

use crate::clock::{Clock, TlsTime, unix_time};
use crate::identity::{CertificateFacts, ControllerIdentity, IdentityError, NodeIdentity, Pin, facts, pin_of};
use crate::name::{CONTROLLER_URI, NodeName};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use std::sync::{Arc, OnceLock};

pub(crate) use rustls::sign::CertifiedKey;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Records.
    Main,
    /// Bulk answers.
    Bulk,
    /// One JOIN, without a client certificate.
    Join,
}

impl Channel {
    /// Its ALPN name.
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Main => b"gh-main/1",
            Self::Bulk => b"gh-bulk/1",
            Self::Join => b"gh-join/1",
        }
    }

    /// The channel of an ALPN name.
    pub fn from_alpn(name: &[u8]) -> Option<Self> {
        [Self::Main, Self::Bulk, Self::Join].into_iter().find(|channel| channel.alpn() == name)
    }
}

/// Controller, listening: nodes with their certificates on main and bulk.
pub(crate) fn controller_accepts(identity: &Arc<ControllerIdentity>, clock: &Arc<dyn Clock>) -> Result<Arc<ServerConfig>, IdentityError> {
    let want = Want::Node { identity: identity.clone(), only: None };
    server(identity.certified()?, Some(Verifier::new(&identity.roots(), want)?), &[Channel::Main, Channel::Bulk], clock)
}

/// Controller, listening: anyone, for one JOIN.
pub(crate) fn controller_accepts_join(
    identity: &Arc<ControllerIdentity>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, IdentityError> {
    server(identity.certified()?, None, &[Channel::Join], clock)
}

/// Controller, dialling `node`.
pub(crate) fn controller_dials(
    identity: &Arc<ControllerIdentity>,
    node: &NodeName,
    channel: Channel,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, IdentityError> {
    let want = Want::Node { identity: identity.clone(), only: Some(node.clone()) };
    client(Some(identity.certified()?), Verifier::new(&identity.roots(), want)?, channel, clock)
}

/// Node, dialling its controller.
pub(crate) fn node_dials(identity: &NodeIdentity, channel: Channel, clock: &Arc<dyn Clock>) -> Result<Arc<ClientConfig>, IdentityError> {
    client(Some(identity.certified.clone()), Verifier::new(&identity.roots, Want::Controller)?, channel, clock)
}

/// Node, being dialled by its controller.
pub(crate) fn node_accepts(identity: &NodeIdentity, clock: &Arc<dyn Clock>) -> Result<Arc<ServerConfig>, IdentityError> {
    server(identity.certified.clone(), Some(Verifier::new(&identity.roots, Want::Controller)?), &[Channel::Main, Channel::Bulk], clock)
}

/// A node that knows only the pin.
pub(crate) fn join_dials(pin: Pin, clock: &Arc<dyn Clock>) -> Result<Arc<ClientConfig>, IdentityError> {
    let verifier = Verifier { roots: Arc::new(RootCertStore::empty()), client: None, want: Want::Pinned(pin), algorithms: algorithms() };
    client(None, verifier, Channel::Join, clock)
}

/// The name given to rustls; the URI in the certificate is what counts, and no SNI is sent.
pub(crate) fn server_name() -> Result<ServerName<'static>, IdentityError> {
    ServerName::try_from("glasshive").map_err(|_| IdentityError::Certificate("server name".into()))
}

/// A certificate chain with its key.
pub(crate) fn certified(chain: Vec<CertificateDer<'static>>, key: Vec<u8>) -> Result<Arc<CertifiedKey>, IdentityError> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    CertifiedKey::from_der(chain, key, &provider()).map(Arc::new).map_err(tls_error)
}

/// Checks that one of `cas` issued `der`, whatever the time.
pub(crate) fn issued_by(der: &CertificateDer<'_>, cas: &[CertificateDer<'_>]) -> Result<(), IdentityError> {
    let at = unix_time(facts(der)?.not_before_ns.saturating_add(1_000_000_000));
    verify_chain(der, &roots(cas)?, &[], at, &algorithms()).map_err(tls_error)
}

/// Facts of the certificate the other side proved.
pub(crate) fn proven(certificates: Option<&[CertificateDer<'_>]>) -> Option<CertificateFacts> {
    facts(certificates?.first()?).ok()
}

#[derive(Debug)]
enum Want {
    Controller,
    Node { identity: Arc<ControllerIdentity>, only: Option<NodeName> },
    Pinned(Pin),
}

#[derive(Debug)]
struct Verifier {
    roots: Arc<RootCertStore>,
    client: Option<Arc<dyn ClientCertVerifier>>,
    want: Want,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(cas: &[CertificateDer<'_>], want: Want) -> Result<Self, IdentityError> {
        let roots = Arc::new(roots(cas)?);
        let client = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .map_err(|error| IdentityError::Certificate(error.to_string()))?;
        Ok(Self { roots, client: Some(client), want, algorithms: algorithms() })
    }

    /// Judges a certificate whose chain was verified.
    fn judge(&self, der: &CertificateDer<'_>) -> Result<(), Error> {
        let facts = facts(der).map_err(|_| CertificateError::BadEncoding)?;
        match &self.want {
            Want::Controller | Want::Pinned(_) if facts.uri == CONTROLLER_URI => Ok(()),
            Want::Controller | Want::Pinned(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
            Want::Node { identity, only } => {
                let node = facts.node().ok_or(CertificateError::ApplicationVerificationFailure)?;
                if only.as_ref().is_some_and(|only| *only != node) {
                    return Err(CertificateError::ApplicationVerificationFailure.into());
                }
                match identity.admit(&node, &facts.serial) {
                    Ok(_) => Ok(()),
                    Err(IdentityError::Revoked(_)) => Err(CertificateError::Revoked.into()),
                    Err(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
                }
            }
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Want::Pinned(pin) = &self.want {
            // The chain's CA must be the pinned one; then it is a root like any other.
            let ca =
                intermediates.iter().find(|der| pin_of(der).is_ok_and(|found| found == *pin)).ok_or(CertificateError::UnknownIssuer)?;
            let roots = roots(std::slice::from_ref(ca)).map_err(|_| CertificateError::BadEncoding)?;
            verify_chain(end_entity, &roots, &[], now, &self.algorithms)?;
        } else {
            verify_chain(end_entity, &self.roots, &[], now, &self.algorithms)?;
        }
        self.judge(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken on the link".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let inner = self.client.as_ref().ok_or(CertificateError::UnknownIssuer)?;
        // One CA level: whatever else the other side sent is not looked at.
        let verified = inner.verify_client_cert(end_entity, &[], now)?;
        self.judge(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken on the link".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn server(
    own: Arc<CertifiedKey>,
    verifier: Option<Verifier>,
    channels: &[Channel],
    clock: &Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, IdentityError> {
    let builder = ServerConfig::builder_with_details(provider(), Arc::new(TlsTime(clock.clone())))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls_error)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::new(verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.alpn_protocols = channels.iter().map(|channel| channel.alpn().to_vec()).collect();
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

fn client(
    own: Option<Arc<CertifiedKey>>,
    verifier: Verifier,
    channel: Channel,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, IdentityError> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(TlsTime(clock.clone())))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls_error)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![channel.alpn().to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// `ring`, chosen explicitly: other crates may pull in other providers.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

fn roots(cas: &[CertificateDer<'_>]) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(ca.clone().into_owned()).map_err(tls_error)?;
    }
    Ok(roots)
}

fn verify_chain(
    der: &CertificateDer<'_>,
    roots: &RootCertStore,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Error> {
    verify_server_cert_signed_by_trust_anchor(&ParsedCertificate::try_from(der)?, roots, intermediates, now, algorithms.all)
}

fn tls_error(error: Error) -> IdentityError {
    IdentityError::Certificate(error.to_string())
}
