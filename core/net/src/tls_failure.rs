//! Explains TLS failures: the problem with the server's certificate or protocol, and the remedy.
//!
//! rustls reports a rejected certificate without the certificate itself, so [`rejected`] examines
//! it at the moment of rejection.

use std::sync::Arc;

use rustls::{
    AlertDescription, CertificateError, Error as TlsError, InvalidMessage, OtherError,
    PeerIncompatible,
    pki_types::{CertificateDer, ServerName},
};

use super::certificate::Certificate;

/// Maximum number of names shown of a certificate for other names.
const MAX_NAMES: usize = 3;
/// Shortest RSA key in bits that rustls accepts.
const SHORTEST_RSA: usize = 2048;

/// The explanation of a rejected certificate, made at the moment of rejection.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Rejected(String);

/// Explains why rustls rejects a certificate; other errors stay as they are.
pub(super) fn rejected(
    error: TlsError,
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    server_name: &ServerName<'_>,
) -> TlsError {
    match error {
        TlsError::InvalidCertificate(reason) => {
            let text = rejection(&reason, certificate, intermediates, &server_name.to_str());
            TlsError::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Rejected(
                text,
            )))))
        }
        other => other,
    }
}

/// Returns the error, or a better explanation if the certificate's key is too short for any
/// verification.
pub(super) fn unless_short_key(error: TlsError, certificate: &CertificateDer<'_>) -> TlsError {
    match short_key(certificate) {
        Some(text) => TlsError::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(
            Rejected(text),
        )))),
        None => error,
    }
}

fn short_key(certificate: &[u8]) -> Option<String> {
    let bits = Certificate::parse(certificate)?.rsa_bits()?;
    (bits < SHORTEST_RSA).then(|| {
        format!(
            "the certificate has an RSA key of {bits} bits, which is too short to be secure (minimum: \
             {SHORTEST_RSA}); reissue it with a longer key"
        )
    })
}

/// Explains why a certificate was rejected.
fn rejection(
    reason: &CertificateError,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    server: &str,
) -> String {
    use CertificateError as C;
    let certificate = Certificate::parse(end_entity);
    if let Some(version @ 1..=2) = certificate.map(|certificate| certificate.version) {
        return format!(
            "the certificate of {server} is an X.509 version {version} certificate, which current programs \
             reject; reissue it as version 3"
        );
    }
    if let Some(text) = short_key(end_entity) {
        return text;
    }
    match reason {
        C::UnknownIssuer => unknown_issuer(certificate, intermediates, server),
        C::Expired | C::ExpiredContext { .. } => {
            match certificate.and_then(|certificate| certificate.not_after()) {
                Some(at) if at.0 < mailqos_model::UtcMicros::now().0 => {
                    format!("the certificate of {server} has expired (on {})", day(at))
                }
                // Another position: an intermediate certificate.
                _ => format!(
                    "the certificate of {server} is valid, but a CA certificate in its chain has expired; install \
                 the current chain on the server"
                ),
            }
        }
        C::NotValidYet | C::NotValidYetContext { .. } => {
            format!("the certificate of {server} is not valid yet; check this machine's clock")
        }
        C::NotValidForName => wrong_name(&[], certificate, server),
        C::NotValidForNameContext { presented, .. } => wrong_name(presented, certificate, server),
        C::Other(other) if other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity) => {
            format!(
                "the certificate of {server} is a self-signed CA certificate; pin it with fingerprint"
            )
        }
        C::BadSignature
        | C::UnsupportedSignatureAlgorithmContext { .. }
        | C::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => format!(
            "the certificate of {server} has a signature that can't be verified, usually because of an \
             outdated algorithm (SHA-1, MD5) or a CA key that is too short; reissue it"
        ),
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => format!(
            "the certificate of {server} is not valid for servers (its extended key usage lacks serverAuth); \
             reissue it"
        ),
        C::BadEncoding => format!("the certificate of {server} is damaged"),
        other => format!("the certificate of {server} is not valid: {other}"),
    }
}

fn day(at: mailqos_model::UtcMicros) -> String {
    let text = at.to_string();
    text.get(..10).unwrap_or(&text).to_owned()
}

/// Explains a name mismatch. Names are only in subjectAltName (RFC 9525, section 6.3).
fn wrong_name(presented: &[String], certificate: Option<Certificate<'_>>, server: &str) -> String {
    let shown = |name: &String| {
        let name = name
            .strip_prefix("DnsName(\"")
            .and_then(|name| name.strip_suffix("\")"))
            .unwrap_or(name);
        mailqos_base::one_line(name, &[])
    };
    if presented.is_empty() {
        return match certificate.and_then(|certificate| certificate.common_name()) {
            Some(name) if name.eq_ignore_ascii_case(server) => format!(
                "the certificate is not for the name {server}: it contains the name only in the Common Name, \
                 which programs no longer check (RFC 9525); reissue it with a subjectAltName"
            ),
            Some(name) => format!(
                "the certificate is not for the name {server}: it has no subjectAltName, and its Common Name \
                 is {name:?}"
            ),
            None => format!("the certificate is not for the name {server}: it contains no names"),
        };
    }
    let names: Vec<String> = presented.iter().take(MAX_NAMES).map(shown).collect();
    let more = match presented.len().saturating_sub(MAX_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("the certificate is not for the name {server}, but for {}{more}", names.join(", "))
}

/// Distinguishes a missing intermediate certificate from an untrusted CA.
fn unknown_issuer(
    certificate: Option<Certificate<'_>>,
    intermediates: &[CertificateDer<'_>],
    server: &str,
) -> String {
    let Some(certificate) = certificate else {
        return format!("the certificate of {server} was issued by an untrusted CA");
    };
    if certificate.issuer == certificate.subject {
        return format!(
            "the certificate of {server} is self-signed and not trusted; pin it with fingerprint, or name it \
             with ca_file"
        );
    }
    let sent: Vec<Certificate<'_>> =
        intermediates.iter().filter_map(|der| Certificate::parse(der)).collect();
    let issuer_of =
        |of: &Certificate<'_>| sent.iter().find(|other| other.subject == of.issuer).copied();
    let authority = |certificate: &Certificate<'_>| {
        certificate
            .issuer_name()
            .map_or_else(|| "an unnamed CA".to_owned(), |name| format!("{name:?}"))
    };
    let Some(mut last) = issuer_of(&certificate) else {
        return format!(
            "the certificate of {server} was issued by {}, which is neither trusted nor sent: \
             install the intermediate certificate on the server, or name your CA with ca_file",
            authority(&certificate)
        );
    };
    // The chain is at most as long as the list of sent certificates, so a cycle ends, too.
    for _ in 0..sent.len() {
        match issuer_of(&last) {
            Some(next) if next != last => last = next,
            _ => break,
        }
    }
    format!(
        "the certificate of {server} was issued by an untrusted CA ({}); name the CA with ca_file, or pin the \
         certificate with fingerprint",
        authority(&last)
    )
}

/// Explains a failed handshake, with the remedy if there is one.
pub fn explain(error: &std::io::Error, server: &str) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
        return match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                "the server closed the connection during the handshake".to_owned()
            }
            std::io::ErrorKind::ConnectionReset => {
                "the server reset the connection during the handshake".to_owned()
            }
            _ => error.to_string(),
        };
    };
    match tls {
        TlsError::InvalidCertificate(CertificateError::Other(other)) => other.0.to_string(),
        TlsError::InvalidCertificate(other) => {
            format!("the certificate of {server} is not valid: {other}")
        }
        TlsError::AlertReceived(alert) => refused(*alert, server),
        TlsError::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        )
        | TlsError::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => old_protocol(),
        TlsError::PeerIncompatible(PeerIncompatible::ExtendedMasterSecretExtensionRequired) => {
            "the server speaks TLS 1.2 without the extended master secret (RFC 7627); update it"
                .to_owned()
        }
        TlsError::PeerIncompatible(reason) => format!("{} ({reason:?})", no_cipher()),
        TlsError::InvalidMessage(InvalidMessage::UnsupportedKeyExchangeAlgorithm(_)) => no_cipher(),
        TlsError::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::MessageTooLarge,
        ) => "the server does not speak TLS on this port".to_owned(),
        TlsError::InvalidMessage(_) => {
            format!("the server does not speak TLS on this port, or violates the protocol: {tls}")
        }
        TlsError::PeerMisbehaved(_) => {
            format!("the server violates the TLS protocol and may need an update ({tls})")
        }
        TlsError::General(text) => text.clone(),
        other => other.to_string(),
    }
}

fn old_protocol() -> String {
    "the server supports only TLS 1.1 or older, which is no longer secure (RFC 8996); update it, or enable TLS \
     1.2"
    .to_owned()
}

fn no_cipher() -> String {
    "no cipher in common: the server offers only outdated ones (RC4, 3DES, CBC, or without ECDHE); enable \
     ECDHE with AES-GCM or ChaCha20 on the server"
        .to_owned()
}

/// Explains an alert with which a server ends a handshake (RFC 8446, section 6.2).
fn refused(alert: AlertDescription, server: &str) -> String {
    use AlertDescription as A;
    match alert {
        A::ProtocolVersion => old_protocol(),
        A::HandshakeFailure | A::InsufficientSecurity => no_cipher(),
        A::UnrecognisedName => format!("the server does not serve the name {server}; check server = …"),
        A::CertificateRequired | A::NoCertificate => {
            "the server requires a client certificate, which mailqos does not support; use another port".to_owned()
        }
        A::AccessDenied => "the server denied access to this client (TLS alert access_denied)".to_owned(),
        A::InternalError => "the server reports an internal error (TLS alert internal_error)".to_owned(),
        other => format!("the server ended the handshake (TLS alert {other:?})"),
    }
}

/// Returns whether an explanation concerns an untrusted certificate: an operator must act, and
/// retries don't help.
pub fn is_of_certificate(explained: &str) -> bool {
    explained.contains("the certificate")
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    };
    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
        pki_types::UnixTime,
    };

    use crate::tls::Verifier;

    fn explained(error: TlsError) -> String {
        explain(&std::io::Error::other(error), "mail.example.com")
    }

    #[test]
    fn alerts_and_incompatible_servers_are_explained() {
        for (error, expected) in [
            (TlsError::AlertReceived(AlertDescription::ProtocolVersion), "TLS 1.1 or older"),
            (
                TlsError::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig),
                "TLS 1.1 or older",
            ),
            (TlsError::AlertReceived(AlertDescription::HandshakeFailure), "no cipher in common"),
            (
                TlsError::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
                "no cipher in common",
            ),
            (TlsError::InvalidMessage(InvalidMessage::InvalidContentType), "does not speak TLS"),
            (
                TlsError::AlertReceived(AlertDescription::UnrecognisedName),
                "does not serve the name mail.example.com",
            ),
        ] {
            let text = explained(error);
            assert!(text.contains(expected) && !is_of_certificate(&text), "{text}");
        }
        let expired = explained(TlsError::InvalidCertificate(CertificateError::Expired));
        assert!(is_of_certificate(&expired), "{expired}");
    }

    /// Issues an authority, or a certificate below one.
    fn issued(
        name: &str,
        by: Option<&Issued>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let mut parameters =
            CertificateParams::new(vec!["mail.example.com".to_owned()]).expect("a name");
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        change(&mut parameters);
        let key = KeyPair::generate().expect("a key");
        let certificate = match by {
            Some(by) => {
                let issuer = Issuer::from_params(&by.parameters, &by.key);
                parameters.signed_by(&key, &issuer).expect("a certificate")
            }
            None => parameters.self_signed(&key).expect("a certificate"),
        };
        Issued { der: certificate.der().clone(), parameters, key }
    }

    struct Issued {
        der: CertificateDer<'static>,
        parameters: CertificateParams,
        key: KeyPair,
    }

    fn authority(parameters: &mut CertificateParams) {
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.subject_alt_names.clear();
    }

    /// Returns the explanation of a certificate's rejection for someone who trusts `root`.
    fn reason_of(root: &Issued, certificate: &CertificateDer<'_>, sent: &[&Issued]) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(root.der.clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let verifier = Verifier::of_chains(verifier.build().expect("a verifier"), provider);
        let sent: Vec<CertificateDer<'_>> = sent.iter().map(|issued| issued.der.clone()).collect();
        let name = ServerName::try_from("mail.example.com").expect("a name");
        let now = UnixTime::now();
        verifier
            .verify_server_cert(certificate, &sent, &name, &[], now)
            .map_or_else(explained, |_| "fine".to_owned())
    }

    #[test]
    fn rejected_certificates_are_explained() {
        let root = issued("Root", None, authority);
        let other = issued("Elsewhere", None, authority);
        let intermediate = issued("R11", Some(&root), authority);
        let good = issued("mail", Some(&intermediate), |_| {});
        let only_common_name =
            issued("mail.example.com", Some(&root), |it| it.subject_alt_names.clear());
        let elsewhere = issued("x", Some(&root), |it| {
            let names = ["a", "b", "c", "d"].map(|name| format!("{name}.example.org"));
            it.subject_alt_names = CertificateParams::new(names).expect("names").subject_alt_names;
        });
        let expired =
            issued("mail", Some(&root), |it| it.not_after = rcgen::date_time_ymd(2020, 1, 2));
        let old_link = issued("R3", Some(&root), |it| {
            authority(it);
            it.not_after = rcgen::date_time_ymd(2020, 1, 2);
        });
        let below_old = issued("mail", Some(&old_link), |_| {});
        let for_clients = issued("mail", Some(&root), |it| {
            it.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        });
        let self_signed = issued("mail", None, |_| {});
        let self_made_authority =
            issued("mail", None, |it| it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        for (certificate, sent, expected) in [
            (&good, vec![&intermediate], "fine"),
            (&good, vec![], "install the intermediate certificate"),
            (&good, vec![&other], "was issued by \"R11\", which is neither trusted nor sent"),
            (&only_common_name, vec![], "only in the Common Name"),
            (&elsewhere, vec![], "but for a.example.org, b.example.org, c.example.org and 1 more"),
            (&expired, vec![], "has expired (on 2020-01-02)"),
            (&below_old, vec![&old_link], "a CA certificate in its chain has expired"),
            (&for_clients, vec![], "not valid for servers"),
            (&self_signed, vec![], "is self-signed"),
            (
                &issued("mail", Some(&other), |_| {}),
                vec![&other],
                "an untrusted CA (\"Elsewhere\")",
            ),
        ] {
            let text = reason_of(&root, &certificate.der, &sent);
            assert!(text.contains(expected), "{expected}: {text}");
            // Errors are cut at 200 characters, including the prefix "TLS: ".
            assert!(text.chars().count() < 195, "{text}");
            assert!(is_of_certificate(&text) || expected == "fine", "{text}");
        }
        let text = reason_of(&self_made_authority, &self_made_authority.der, &[]);
        assert!(text.contains("is a self-signed CA certificate"), "{text}");
        for (certificate, expected) in
            [(VERSION_1, "X.509 version 1"), (SHORT_RSA, "RSA key of 1024 bits")]
        {
            let der = CertificateDer::from(STANDARD.decode(certificate).expect("Base64"));
            let text = reason_of(&root, &der, &[]);
            assert!(text.contains(expected), "{text}");
        }
    }

    /// `openssl x509 -req` without extensions: version 1, CN=mail.example.com.
    const VERSION_1: &str = "\
        MIIBMjCB2QIUaI4Tevokg96aggJxJtjGLK+CAeIwCgYIKoZIzj0EAwIwGzEZMBcGA1UEAwwQbWFpbC5leGFtcGxlLm\
        NvbTAgFw0yNjExMzAxNjQ2NDdaGA8yMTI2MTEwNjE2NDY0N1owGzEZMBcGA1UEAwwQbWFpbC5leGFtcGxlLmNvbTBZ\
        MBMGByqGSM49AgEGCCqGSM49AwEHA0IABNYs6og9v1N3VeQaIM3SuE/VivrkYoE8GsVMBhTwa+qcKLAgtohI1tKPDF\
        x0SJoYprJv8qug6UviXyknC7gYhuwwCgYIKoZIzj0EAwIDSAAwRQIhALEePXKAqII08yKfMhSuQzccCcDZJiCEq3og\
        tcy+R7IsAiAtoxHVPwuS9Q5E6FtBZsWMugowq4gBDOn5lC07Xo1doA==\
        ";
    /// `openssl req -x509 -newkey rsa:1024`.
    const SHORT_RSA: &str = "\
        MIICFzCCAYCgAwIBAgIURp3naMRLYUQcQqw4xJrTUyrD4uAwDQYJKoZIhvcNAQELBQAwDjEMMAoGA1UEAwwDb2xkMC\
        AXDTI2MTEzMDE2NDY0OFoYDzIxMjYxMTA2MTY0NjQ4WjAOMQwwCgYDVQQDDANvbGQwgZ8wDQYJKoZIhvcNAQEBBQAD\
        gY0AMIGJAoGBAMcs2lyuedUOxBftU8jTsFfuy/72KEEWHTz0R57FJFvB4kvfXuyuAzL2evIW3oAK1PsSDZt2DKUQSv\
        sXM2nLxjtoqwQChe/dC+LZ8xpele07dhXLC3rNYJ3KFyA1CBLj0V7hJmLBZjpKoXfHlMi8UN1Y/IIybMopE9tKIEva\
        xrEtAgMBAAGjcDBuMB0GA1UdDgQWBBQzdZoxi2E2DkIAAXJ9FLVTffTd8TAfBgNVHSMEGDAWgBQzdZoxi2E2DkIAAX\
        J9FLVTffTd8TAPBgNVHRMBAf8EBTADAQH/MBsGA1UdEQQUMBKCEG1haWwuZXhhbXBsZS5jb20wDQYJKoZIhvcNAQEL\
        BQADgYEAdhItzjr1H8YzZuQ/Q3DbvYIRpm01/1Ibr06g/HEA1plHC91+UuztVLa9oro4IsjSJLIa8NSsoXOIpJObKX\
        ByzLHDsQShcC1NqKu/gigsNu3RFZJ3oTV4De9kqp/z1LftRWOY/YhqSQxkr6+VTrhfqsSYZDD/IeIW5Jw2oFb2V7s=\
        ";
}
