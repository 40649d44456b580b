//! Whose certificates are believed: rustls configurations from [`Trust`], and what a handshake showed.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};

use super::one_line;
use crate::{config::Trust, model::UtcMicros};

/// What a TLS handshake showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSession {
    /// Such as `TLSv1.3`.
    pub version: String,
    /// Such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// When the server's certificate expires.
    pub expires_at: Option<UtcMicros>,
    /// SHA-256 of the server's certificate.
    pub fingerprint: Option<[u8; 32]>,
    /// The server's certificate (DER).
    pub certificate: Option<Vec<u8>>,
}

impl TlsSession {
    /// The names that the certificate is for.
    pub fn names(&self) -> Vec<String> {
        let certificate = self.certificate.as_deref().map(CertificateDer::from);
        let parsed = certificate
            .as_ref()
            .and_then(|der| webpki::EndEntityCert::try_from(der).ok());
        parsed.map_or_else(Vec::new, |certificate| {
            certificate.valid_dns_names().map(str::to_owned).collect()
        })
    }

    /// Who has issued the certificate: the common name, or else the organisation. In one line without control characters, since
    /// it is shown before anybody trusts it.
    pub fn issuer(&self) -> Option<String> {
        let certificate = CertificateDer::from(self.certificate.as_deref()?);
        let parsed = webpki::EndEntityCert::try_from(&certificate).ok()?;
        // X.520: id-at-commonName 2.5.4.3, id-at-organizationName 2.5.4.10.
        [[0x55, 0x04, 0x03], [0x55, 0x04, 0x0a]]
            .iter()
            .find_map(|attribute| attribute_of(parsed.issuer(), attribute))
    }
}

/// The value of an attribute of a distinguished name (RFC 5280, section 4.1.2.4): sets of pairs, one after the other.
fn attribute_of(name: &[u8], attribute: &[u8]) -> Option<String> {
    let mut rest = name;
    while let Some((_, set, after)) = der(rest) {
        rest = after;
        let (_, pair, _) = der(set)?;
        let (_, identifier, value) = der(pair)?;
        if identifier == attribute {
            let (_, text, _) = der(value)?;
            return Some(one_line(&String::from_utf8_lossy(text), &[]));
        }
    }
    None
}

/// Why no certificate can be trusted at all.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TrustError {
    /// The CA file could not be read.
    #[error("the CA file {path}: {reason}", path = path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The machine has no store of certificates.
    #[error(
        "this machine's store of certificates is empty or unreadable ({0}); install ca-certificates, or name a ca_file"
    )]
    NoPlatformStore(String),
    /// The TLS library refused.
    #[error("TLS: {0}")]
    Tls(String),
}

/// Makes the TLS configuration for a connection.
///
/// # Errors
/// When the certificates to trust can't be read.
pub fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>, TrustError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| TrustError::Tls(error.to_string()))?;
    let config = if let Some(fingerprint) = trust.fingerprint {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned {
                fingerprint: Some(fingerprint),
                provider,
            }))
            .with_no_client_auth()
    } else if trust.insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned {
                fingerprint: None,
                provider,
            }))
            .with_no_client_auth()
    } else if let Some(path) = &trust.ca_file {
        builder.with_root_certificates(read_roots(path)?).with_no_client_auth()
    } else {
        builder.with_root_certificates(platform_roots()?).with_no_client_auth()
    };
    Ok(Arc::new(config))
}

fn read_roots(path: &std::path::Path) -> Result<RootCertStore, TrustError> {
    let error = |reason: String| TrustError::CaFile {
        path: path.to_owned(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| error(e.to_string()))? {
        roots
            .add(certificate.map_err(|e| error(e.to_string()))?)
            .map_err(|e| error(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(error("has no certificate in PEM form".to_owned()));
    }
    Ok(roots)
}

/// The platform's store, read once: it is megabytes of PEM on some systems.
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

/// Accepts the one certificate with this fingerprint, or any.
#[derive(Debug)]
struct Pinned {
    fingerprint: Option<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        match self.fingerprint {
            Some(wanted) => {
                let found: [u8; 32] = Sha256::digest(end_entity).into();
                if found == wanted {
                    Ok(ServerCertVerified::assertion())
                } else {
                    Err(TlsError::General(format!(
                        "the certificate's fingerprint is {}, not the pinned one",
                        hex(&found)
                    )))
                }
            }
            None => Ok(ServerCertVerified::assertion()),
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
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Two hexadecimal digits a byte, as fingerprints are written.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What the handshake showed.
pub(super) fn describe(connection: &rustls::ClientConnection) -> TlsSession {
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
        expires_at: certificate.and_then(|certificate| not_after(certificate)),
        fingerprint: certificate.map(|certificate| Sha256::digest(certificate).into()),
        certificate: certificate.map(|certificate| certificate.to_vec()),
    }
}

/// What a TLS error means to a person, with the remedy where there is one.
pub(super) fn explain(error: &std::io::Error, server: &str) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
        return match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "the server closed the connection during the handshake".to_owned(),
            _ => error.to_string(),
        };
    };
    match tls {
        TlsError::InvalidCertificate(reason) => {
            use rustls::CertificateError as C;
            match reason {
                C::UnknownIssuer => format!(
                    "the certificate of {server} comes from an authority that is not trusted; name the authority with ca_file, or pin the certificate with fingerprint"
                ),
                C::Expired | C::ExpiredContext { .. } => format!("the certificate of {server} has expired"),
                C::NotValidYet | C::NotValidYetContext { .. } => {
                    format!("the certificate of {server} is not valid yet; is this machine's clock right?")
                }
                C::NotValidForName | C::NotValidForNameContext { .. } => {
                    format!("the certificate is not for the name {server}")
                }
                C::Other(other) if is_self_signed(other) => format!(
                    "the certificate of {server} vouches for itself (self-signed, with the rights of an authority); pin it with fingerprint"
                ),
                other => format!("the certificate of {server} is not valid: {other}"),
            }
        }
        TlsError::InvalidMessage(_) => "the server does not speak TLS on this port".to_owned(),
        TlsError::General(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether what was explained is a certificate that is not accepted: a person mends that, and no later try.
pub(super) fn is_of_certificate(explained: &str) -> bool {
    explained.contains("the certificate")
}

/// Whether a server shows an authority's certificate as its own.
fn is_self_signed(error: &rustls::OtherError) -> bool {
    error.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}

/// The `notAfter` of an X.509 certificate (RFC 5280, section 4.1): a walk over seven DER headers needs no parser crate.
fn not_after(certificate: &[u8]) -> Option<UtcMicros> {
    let (_, certificate, _) = der(certificate)?;
    let (_, mut rest, _) = der(certificate)?;
    // version (optional, tag [0]), serial number, signature algorithm, issuer.
    let (tag, _, after) = der(rest)?;
    if tag == 0xa0 {
        rest = after;
    }
    for _ in 0..3 {
        rest = der(rest)?.2;
    }
    let (_, validity, _) = der(rest)?;
    let (_, _, rest) = der(validity)?;
    let (tag, text, _) = der(rest)?;
    let text = std::str::from_utf8(text).ok()?;
    let (year, rest) = match tag {
        // UTCTime: two digits, 1950 to 2049.
        0x17 => {
            let year: i16 = text.get(..2)?.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        0x18 => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let number = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let moment =
        jiff::civil::DateTime::new(year, number(0)?, number(2)?, number(4)?, number(6)?, number(8)?, 0).ok()?;
    Some(jiff::tz::TimeZone::UTC.to_timestamp(moment).ok()?.into())
}

/// Tag, content and what follows of a DER element.
fn der(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&length, mut rest) = rest.split_first()?;
    let mut size = usize::from(length);
    if length & 0x80 != 0 {
        let count = usize::from(length & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, after) = rest.split_at_checked(count)?;
        size = digits.iter().fold(0, |size, digit| size << 8 | usize::from(*digit));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(size)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_missing_or_empty_ca_file_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("ca.pem");
        let trust = Trust {
            ca_file: Some(path.clone()),
            ..Trust::default()
        };
        for _ in 0..2 {
            let error = client_config(&trust).expect_err("nothing to trust").to_string();
            assert!(error.contains("ca.pem"), "{error}");
            std::fs::write(&path, "no certificate\n").expect("write");
        }
    }

    #[test]
    fn a_certificate_that_is_not_accepted_is_told_from_other_trouble() {
        let pinned = Pinned {
            fingerprint: Some([0; 32]),
            provider: Arc::new(ring::default_provider()),
        };
        let name = ServerName::try_from("mail.example.com").expect("a name");
        let now = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        let error = pinned
            .verify_server_cert(&CertificateDer::from(vec![1]), &[], &name, &[], now)
            .expect_err("another certificate");
        let expired = TlsError::InvalidCertificate(rustls::CertificateError::Expired);
        for (error, is_of) in [(error, true), (expired, true), (TlsError::HandshakeNotComplete, false)] {
            let text = explain(&std::io::Error::other(error), "mail.example.com");
            assert_eq!(is_of_certificate(&text), is_of, "{text}");
        }
    }

    #[test]
    fn an_issuer_can_not_steer_a_terminal() {
        let text = b"x\x1b[2Jy\r\nz";
        let pair = [
            &[
                0x30,
                7 + text.len() as u8,
                0x06,
                3,
                0x55,
                0x04,
                0x03,
                0x0c,
                text.len() as u8,
            ][..],
            text,
        ]
        .concat();
        let name = [&[0x31, pair.len() as u8][..], &pair].concat();
        assert_eq!(attribute_of(&name, &[0x55, 0x04, 0x03]).as_deref(), Some("x [2Jy z"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = not_after(&bytes);
            let _ = attribute_of(&bytes, &[0x55, 0x04, 0x03]);
        }
    }
}
