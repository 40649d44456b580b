//! A private certificate authority and the certificates of the embedded servers: the right one, and
//! wrong ones.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use sha2::{Digest as _, Sha256};

/// Certificate that a server presents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// For `localhost`, `127.0.0.1` and `::1`, signed by the authority.
    Good,
    /// The same, signed by an unknown authority.
    Untrusted,
    /// Signed by the authority, for another host.
    WrongName,
    /// Signed by the authority, expired in 2020.
    Expired,
    /// Like the good one, but it expires the day after tomorrow.
    Expiring,
    /// Signed by the authority, for all names below `mailqos.test`.
    Domain,
    /// Signed by the authority, for `mail.mailqos.test` only.
    MailHost,
    /// Self-signed, as most tools create certificates (basic constraints CA:TRUE).
    SelfSigned,
}

const ALL: [Certificate; 8] = [
    Certificate::Good,
    Certificate::Untrusted,
    Certificate::WrongName,
    Certificate::Expired,
    Certificate::Expiring,
    Certificate::Domain,
    Certificate::MailHost,
    Certificate::SelfSigned,
];

/// A private authority and the TLS configurations made from it.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pem: String,
    shown: Vec<(Certificate, String, Arc<ServerConfig>)>,
}

impl Authority {
    /// Creates an authority and its certificates.
    pub fn new() -> Self {
        let authority = issuer("mailqos test authority");
        let stranger = issuer("some other authority");
        let shown = ALL
            .into_iter()
            .map(|kind| {
                let issuer = if kind == Certificate::Untrusted { &stranger } else { &authority };
                let (fingerprint, config) = issue(kind, issuer);
                (kind, fingerprint, config)
            })
            .collect();
        Self { pem: authority.pem(), issuer: authority, shown }
    }

    /// Returns the authority's certificate, for a `ca_file`.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns the SHA-256 fingerprint of a server certificate in hexadecimal digits, for a
    /// `fingerprint`.
    pub fn fingerprint(&self, kind: Certificate) -> &str {
        &self.find(kind).1
    }

    /// Returns the TLS configuration of a server that presents this certificate.
    pub(super) fn config(&self, kind: Certificate) -> Arc<ServerConfig> {
        self.find(kind).2.clone()
    }

    /// The TLS set-up of a server with another name.
    pub(super) fn server_for(&self, name: &str) -> Arc<ServerConfig> {
        issue_for(Certificate::Good, &[name], &self.issuer).1
    }

    fn find(&self, kind: Certificate) -> &(Certificate, String, Arc<ServerConfig>) {
        self.shown.iter().find(|shown| shown.0 == kind).expect("each kind was issued")
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn issuer(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("a key of the authority");
    CertifiedIssuer::self_signed(params, key).expect("the authority's certificate")
}

fn issue(
    kind: Certificate,
    issuer: &CertifiedIssuer<'static, KeyPair>,
) -> (String, Arc<ServerConfig>) {
    let names: &[&str] = match kind {
        Certificate::WrongName => &["other.example.net"],
        Certificate::Domain => &["*.mailqos.test"],
        Certificate::MailHost => &["mail.mailqos.test"],
        _ => &["localhost", "127.0.0.1", "::1"],
    };
    issue_for(kind, names, issuer)
}

/// Issues a certificate for these names.
fn issue_for(
    kind: Certificate,
    names: &[&str],
    issuer: &CertifiedIssuer<'static, KeyPair>,
) -> (String, Arc<ServerConfig>) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).expect("names of a certificate");
    params.distinguished_name = distinguished_name(&names[0]);
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = match kind {
        Certificate::Expired => date_time_ymd(2020, 1, 1),
        Certificate::Expiring => {
            let today = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
            let day = today + jiff::Span::new().days(2);
            date_time_ymd(day.year().into(), day.month().unsigned_abs(), day.day().unsigned_abs())
        }
        _ => date_time_ymd(2099, 12, 31),
    };
    let key = KeyPair::generate().expect("a key of the server");
    let certificate = if kind == Certificate::SelfSigned {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&key)
    } else {
        params.signed_by(&key, issuer)
    };
    let certificate = certificate.expect("the server's certificate");
    let fingerprint =
        Sha256::digest(certificate.der()).iter().map(|byte| format!("{byte:02x}")).collect();
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a PKCS #8 key"),
            )
            .expect("the key fits the certificate");
    (fingerprint, Arc::new(config))
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
