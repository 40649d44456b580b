//! Client assertions (RFC 7523): JSON Web Tokens by which an application authenticates to the token
//! server. They are signed with the key of a certificate, or issued by another identity provider.
//!
//! Microsoft Entra requires PS256 and the SHA-256 thumbprint of the certificate
//! (<https://learn.microsoft.com/entra/identity-platform/certificate-credentials>), and accepts the
//! token of a federated identity unchanged
//! (<https://learn.microsoft.com/entra/workload-id/workload-identity-federation>).

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mailqos_base::{Secret, SecretError, SecretSource};
use mailqos_model::UtcMicros;
use ring::{
    rand::SystemRandom,
    signature::{RSA_PSS_SHA256, RsaKeyPair},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};

/// Type of the assertion in a token request (RFC 7523, section 2.2).
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Lifetime of an assertion in seconds; Microsoft recommends five to ten minutes.
const LIFE_SECONDS: i64 = 600;
/// Maximum size of another identity provider's token in bytes.
const MAX_TOKEN: u64 = 64 * 1024;

/// Reasons why no assertion is available. They never contain any part of a key or token.
#[derive(Debug, thiserror::Error)]
pub enum AssertionError {
    /// The certificate with its key is not available.
    #[error("{0}")]
    Secret(#[from] SecretError),
    /// The certificate or the key can't be used.
    #[error("{0}")]
    Unusable(&'static str),
    /// The file with the token of another identity provider can't be read.
    #[error("can't read {file}: {reason}")]
    File {
        /// Path of the file.
        file: String,
        /// The system's error.
        reason: String,
    },
    /// The system provides no random numbers.
    #[error("the system provides no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Creates an assertion signed with the key of a certificate. `source` contains both in PEM.
///
/// # Errors
/// The certificate or its key is not available, or is not of a kind that Microsoft Entra accepts.
pub(super) async fn of_certificate(
    source: &SecretSource,
    client_id: &str,
    token_url: &str,
) -> Result<Secret, AssertionError> {
    let pem = source.fetch().await?;
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(AssertionError::Random)?;
    write(&pem, (client_id, token_url), UtcMicros::now(), nonce)
}

/// Reads the token of another identity provider, which is replaced periodically.
///
/// # Errors
/// The file can't be read, or is empty.
pub(super) async fn of_file(path: &Path) -> Result<Secret, AssertionError> {
    let named = path.to_owned();
    let failed = |reason: String| AssertionError::File { file: path.display().to_string(), reason };
    let read =
        tokio::task::spawn_blocking(move || mailqos_base::files::read_text(&named, MAX_TOKEN))
            .await;
    let text = read
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))?;
    match text.trim() {
        "" => Err(failed("the file is empty".to_owned())),
        token => Ok(Secret::new(token)),
    }
}

fn write(
    pem: &Secret,
    (client_id, token_url): (&str, &str),
    now: UtcMicros,
    nonce: [u8; 16],
) -> Result<Secret, AssertionError> {
    let bytes = pem.expose().as_bytes();
    let certificate = CertificateDer::from_pem_slice(bytes)
        .map_err(|_| AssertionError::Unusable("it contains no certificate in PEM format"))?;
    let key = key(bytes)?;
    let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate));
    let seconds = now.0.div_euclid(1_000_000);
    let header = serde_json::json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint });
    let claims = serde_json::json!({
        "aud": token_url,
        "iss": client_id,
        "sub": client_id,
        "jti": uuid(nonce),
        "iat": seconds,
        "nbf": seconds,
        "exp": seconds + LIFE_SECONDS,
    });
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(&header), encode(&claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
        .map_err(|_| AssertionError::Unusable("its key can't sign"))?;
    Ok(Secret::new(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))))
}

fn key(pem: &[u8]) -> Result<RsaKeyPair, AssertionError> {
    let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        AssertionError::Unusable(
            "it contains no private key in PEM format; put the certificate and its unencrypted key into one file",
        )
    })?;
    let key = match &der {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return Err(AssertionError::Unusable("its key is not an RSA key")),
    };
    key.map_err(|_| AssertionError::Unusable("its key is not an RSA key of at least 2048 bits"))
}

/// Formats a random UUID (RFC 9562, version 4).
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let digits = mailqos_base::hex(&bytes);
    let part = |range: std::ops::Range<usize>| digits.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}
