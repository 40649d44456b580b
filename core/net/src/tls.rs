//! rustls configurations from [`Trust`], and the properties of a handshake.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use mailqos_base::hex;
use mailqos_model::UtcMicros;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};

use super::{
    certificate::Certificate,
    tls_failure::{rejected, unless_short_key},
};
use crate::Trust;

/// The properties of a TLS session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSession {
    /// TLS version, such as `TLSv1.3`.
    pub version: String,
    /// Cipher suite, such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// End of validity of the server's certificate.
    pub expires_at: Option<UtcMicros>,
    /// SHA-256 of the server's certificate.
    pub fingerprint: Option<[u8; 32]>,
    /// The server's certificate (DER).
    pub certificate: Option<Vec<u8>>,
}

impl TlsSession {
    /// Returns the names for which the certificate is valid.
    pub fn names(&self) -> Vec<String> {
        let certificate = self.certificate.as_deref().map(CertificateDer::from);
        let parsed = certificate.as_ref().and_then(|der| webpki::EndEntityCert::try_from(der).ok());
        parsed.map_or_else(Vec::new, |certificate| {
            certificate.valid_dns_names().map(str::to_owned).collect()
        })
    }

    /// Returns the issuer of the certificate: its common name, or its organisation if there is
    /// none, in a single line without control characters, because it is displayed before it is
    /// trusted.
    pub fn issuer(&self) -> Option<String> {
        Certificate::parse(self.certificate.as_deref()?)?.issuer_name()
    }
}

/// Reasons why no certificate can be trusted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TrustError {
    /// The CA file could not be read.
    #[error("the CA file {path}: {reason}", path = path.display())]
    CaFile {
        /// Path of the CA file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The machine has no certificate store.
    #[error(
        "this machine's certificate store is empty or unreadable ({0}); install the package ca-certificates, \
         or set ca_file"
    )]
    NoPlatformStore(String),
    /// The TLS library reported an error.
    #[error("TLS: {0}")]
    Tls(String),
}

/// Creates the TLS configuration of a connection.
///
/// # Errors
/// The trusted certificates can't be read.
pub fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>, TrustError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| TrustError::Tls(error.to_string()))?;
    let accepts = if let Some(fingerprint) = trust.fingerprint {
        Accepts::Pinned(fingerprint)
    } else if trust.insecure {
        Accepts::Any
    } else {
        let roots = match &trust.ca_file {
            Some(path) => read_roots(path)?,
            None => platform_roots()?,
        };
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        Accepts::Chains(chains.build().map_err(|error| TrustError::Tls(error.to_string()))?)
    };
    let config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { accepts, provider }))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn read_roots(path: &std::path::Path) -> Result<RootCertStore, TrustError> {
    let error = |reason: String| TrustError::CaFile { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    let pem =
        mailqos_base::files::read(path, crate::MAX_CA_FILE).map_err(|e| error(e.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots
            .add(certificate.map_err(|e| error(e.to_string()))?)
            .map_err(|e| error(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(error("contains no certificate in PEM format".to_owned()));
    }
    Ok(roots)
}

/// Returns the platform's certificate store. It is read once, because it has megabytes of PEM on
/// some systems.
fn platform_roots() -> Result<RootCertStore, TrustError> {
    static ROOTS: OnceLock<Result<RootCertStore, TrustError>> = OnceLock::new();
    ROOTS
        .get_or_init(|| {
            let loaded = rustls_native_certs::load_native_certs();
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(loaded.certs);
            if roots.is_empty() {
                let why = loaded
                    .errors
                    .first()
                    .map_or_else(|| "no certificate found".to_owned(), ToString::to_string);
                return Err(TrustError::NoPlatformStore(why));
            }
            Ok(roots)
        })
        .clone()
}

/// Certificates that are accepted.
#[derive(Debug)]
enum Accepts {
    /// Certificates issued by trusted authorities.
    Chains(Arc<WebPkiServerVerifier>),
    /// The certificate with this fingerprint.
    Pinned([u8; 32]),
    /// All certificates.
    Any,
}

/// Verifies certificates and signatures as rustls does, and explains what it rejects.
#[derive(Debug)]
pub(crate) struct Verifier {
    accepts: Accepts,
    provider: Arc<CryptoProvider>,
}

#[cfg(test)]
impl Verifier {
    /// Creates a verifier that accepts what another verifier accepts, and explains rejections.
    pub(crate) fn of_chains(
        chains: Arc<WebPkiServerVerifier>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        let accepts = Accepts::Chains(chains);
        Self { accepts, provider }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        match &self.accepts {
            Accepts::Chains(chains) => chains
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| rejected(error, end_entity, intermediates, server_name)),
            Accepts::Pinned(wanted) => {
                let found: [u8; 32] = Sha256::digest(end_entity).into();
                if found == *wanted {
                    return Ok(ServerCertVerified::assertion());
                }
                Err(TlsError::General(format!(
                    "the certificate's fingerprint is {}, not the pinned one",
                    hex(&found)
                )))
            }
            Accepts::Any => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
        .map_err(|error| unless_short_key(error, certificate))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
        .map_err(|error| unless_short_key(error, certificate))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Returns the properties of a session after the handshake.
pub fn describe(connection: &rustls::ClientConnection) -> TlsSession {
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    TlsSession {
        version: match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
            other => format!("{other:?}"),
        },
        cipher: connection
            .negotiated_cipher_suite()
            .map_or_else(String::new, |suite| format!("{:?}", suite.suite())),
        expires_at: certificate
            .and_then(|certificate| Certificate::parse(certificate)?.not_after()),
        fingerprint: certificate.map(|certificate| Sha256::digest(certificate).into()),
        certificate: certificate.map(|certificate| certificate.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls_failure::{explain, is_of_certificate};

    #[test]
    fn a_missing_or_empty_ca_file_is_reported() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("ca.pem");
        let trust = Trust { ca_file: Some(path.clone()), ..Trust::default() };
        for _ in 0..2 {
            let error = client_config(&trust).expect_err("nothing to trust").to_string();
            assert!(error.contains("ca.pem"), "{error}");
            std::fs::write(&path, "no certificate\n").expect("write");
        }
    }

    #[test]
    fn a_rejected_certificate_is_distinguished_from_other_failures() {
        let pinned = Verifier {
            accepts: Accepts::Pinned([0; 32]),
            provider: Arc::new(ring::default_provider()),
        };
        let name = ServerName::try_from("mail.example.com").expect("a name");
        let now = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        let error = pinned
            .verify_server_cert(&CertificateDer::from(vec![1]), &[], &name, &[], now)
            .expect_err("another certificate");
        let expired = TlsError::InvalidCertificate(rustls::CertificateError::Expired);
        for (error, is_of) in
            [(error, true), (expired, true), (TlsError::HandshakeNotComplete, false)]
        {
            let text = explain(&std::io::Error::other(error), "mail.example.com");
            assert_eq!(is_of_certificate(&text), is_of, "{text}");
        }
    }
}
