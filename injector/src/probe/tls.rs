//! TLS of probes. Each connection makes a whole handshake: a session is never resumed, so that every one of them checks
//! the server's certificate again.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::failure::Failure;
use super::io::Io;
use injector_core::config::{Tls, Trust};

/// The protocol inside TLS; it is sent to servers (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
    /// Any other protocol.
    Other,
}

/// A fault of a config's TLS.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The key below `tls`, or empty.
    pub key: &'static str,
    pub what: String,
    pub remedy: String,
}

/// Makes the TLS of one endpoint's connections.
pub(super) struct Client {
    connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

/// Settings that were made: endpoints of one config entry share theirs, with the certificates in them.
static MADE: Mutex<Vec<(Tls, Protocol, Arc<ClientConfig>)>> = Mutex::new(Vec::new());

impl Client {
    pub(super) fn new(tls: &Tls, protocol: Protocol) -> Result<Self, Fault> {
        let server_name = match &tls.server_name {
            None => None,
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|error| Fault {
                key: "server_name",
                what: format!("\"{name}\" is not the name of a server ({error})"),
                remedy: "write a host name or an address".to_owned(),
            })?),
        };
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let known = made.iter().find(|(of, to, _)| of == tls && *to == protocol);
        if let Some((_, _, config)) = known {
            return Ok(Self { connector: TlsConnector::from(Arc::clone(config)), server_name });
        }
        // Entries of earlier configs have no other holder any more.
        made.retain(|(_, _, config)| Arc::strong_count(config) > 1);
        let config = Arc::new(settings(tls, protocol)?);
        made.push((tls.clone(), protocol, Arc::clone(&config)));
        Ok(Self { connector: TlsConnector::from(config), server_name })
    }

    /// Sets TLS up on a connection to this host.
    pub(super) async fn handshake<S: Io>(&self, stream: S, host: &str) -> Result<TlsStream<S>, Failure> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned())
                .map_err(|error| Failure::Request { what: "server name", reason: error.to_string() })?,
        };
        self.connector.connect(name, stream).await.map_err(|error| Failure::connect(&error))
    }
}

fn settings(tls: &Tls, protocol: Protocol) -> Result<ClientConfig, Fault> {
    let fault = |key, what: String, remedy: &str| Fault { key, what, remedy: remedy.to_owned() };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| fault("", error.to_string(), "this is a bug of the injector: report it"))?;
    let builder = match &tls.trust {
        Trust::Anyone => {
            let any = Anyone(provider.signature_verification_algorithms);
            builder.dangerous().with_custom_certificate_verifier(Arc::new(any))
        }
        Trust::Ca(file) => {
            let path = file.path().display();
            let roots = roots(certificates(file.content()), "ca", &path.to_string())?;
            builder.with_webpki_verifier(verifier(roots, &provider, "ca")?)
        }
        Trust::Host => {
            let found = rustls_native_certs::load_native_certs();
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let mut what = "this host has no certificates of authorities".to_owned();
                if let Some(error) = found.errors.first() {
                    let _ = write!(what, " ({error})");
                }
                return Err(fault(
                    "",
                    what,
                    "install ca-certificates, or name a file, as in: tls: { ca: /etc/lab/ca.pem }",
                ));
            }
            builder.with_webpki_verifier(verifier(roots, &provider, "")?)
        }
    };
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (cert, key) = (&identity.cert, &identity.key);
            let path = cert.path().display();
            let chain: Vec<_> = certificates(cert.content())
                .collect::<Result<_, _>>()
                .map_err(|error| broken("cert", &path.to_string(), &error))?;
            let of_key = key.path().display().to_string();
            let secret = PrivateKeyDer::from_pem_slice(key.content().as_bytes())
                .map_err(|error| broken("key", &of_key, &error.to_string()))?;
            builder.with_client_auth_cert(chain, secret).map_err(|error| match error {
                Error::InconsistentKeys(_) => fault(
                    "key",
                    format!("the key in {of_key} is not of the certificate in {path}"),
                    "name the key of that certificate, with the client's certificate first in its file",
                ),
                error => fault(
                    "key",
                    format!("{of_key} and {path} can't be used ({error})"),
                    "name a certificate with an ECDSA, Ed25519 or RSA key",
                ),
            })?
        }
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::Http2 => vec![b"h2".to_vec()],
        Protocol::Other => Vec::new(),
    };
    Ok(config)
}

fn certificates(pem: &str) -> impl Iterator<Item = Result<CertificateDer<'static>, String>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(|found| found.map_err(|error| error.to_string()))
}

fn roots(
    certificates: impl Iterator<Item = Result<CertificateDer<'static>, String>>,
    key: &'static str,
    path: &str,
) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for found in certificates {
        let added = found.and_then(|found| roots.add(found).map_err(|error| error.to_string()));
        added.map_err(|error| broken(key, path, &error))?;
    }
    if roots.is_empty() {
        return Err(broken(key, path, "no certificate is whole"));
    }
    Ok(roots)
}

fn broken(key: &'static str, path: &str, error: &str) -> Fault {
    let what = format!("{path} can't be read as PEM ({error})");
    Fault { key, what, remedy: "write the file again, in PEM".to_owned() }
}

fn verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
    key: &'static str,
) -> Result<Arc<WebPkiServerVerifier>, Fault> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build().map_err(
        |error| Fault {
            key,
            what: error.to_string(),
            remedy: "name a file with certificates of authorities".to_owned(),
        },
    )
}

/// `insecure: true`: any certificate will do, but the server must have its key.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
