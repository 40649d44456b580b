//! Google service accounts (developers.google.com/identity/protocols/oauth2/service-account): a
//! JSON Web Token, signed with the account's key, asks for a token of a mailbox's user (RFC 7523).
//! An administrator must have delegated this scope to the account for the whole domain.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mailqos_base::{Secret, SecretError, SecretSource};
use mailqos_model::UtcMicros;
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};

/// The grant type of an assertion (RFC 7523, section 2.1).
pub(super) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Validity of an assertion; Google accepts at most an hour.
const VALIDITY_SECONDS: i64 = 3600;
/// How far in the past an assertion begins, since Google refuses one of the future.
const BACKDATED_SECONDS: i64 = 10;

/// Reasons why there is no assertion. They never contain any part of the key.
#[derive(Debug, thiserror::Error)]
pub enum ServiceAccountError {
    /// The key file is not available.
    #[error("{0}")]
    Secret(#[from] SecretError),
    /// The content is not a key of a service account.
    #[error("{0}")]
    Unusable(&'static str),
}

/// Whom an assertion is for.
pub(super) struct Request<'options> {
    /// Address of the token server.
    pub(super) token_url: &'options str,
    /// The scope of the token.
    pub(super) scope: &'options str,
    /// The mailbox's user.
    pub(super) user: &'options str,
}

/// Makes an assertion with the key of a service account.
///
/// # Errors
/// The key is not available or can't be used.
pub(super) async fn assertion(
    source: &SecretSource,
    request: &Request<'_>,
) -> Result<Secret, ServiceAccountError> {
    let key = source.fetch().await?;
    write(&key, request, UtcMicros::now())
}

fn write(
    file: &Secret,
    request: &Request<'_>,
    now: UtcMicros,
) -> Result<Secret, ServiceAccountError> {
    use ServiceAccountError::Unusable;
    let json: Value = serde_json::from_str(file.expose())
        .map_err(|_| Unusable("it is not the JSON file with a key that Google Cloud creates"))?;
    let word = |name: &str| json[name].as_str().filter(|word| !word.is_empty());
    if word("type") != Some("service_account") {
        return Err(Unusable(
            "it is not the key of a service account (\"type\" is not \"service_account\"); create a JSON key \
             in Google Cloud, IAM & Admin, Service Accounts, Keys",
        ));
    }
    let (Some(email), Some(pem)) = (word("client_email"), word("private_key")) else {
        return Err(Unusable("client_email or private_key is missing"));
    };
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| Unusable("private_key is not a private key in PEM format (PKCS #8)"))?;
    let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
        .map_err(|_| Unusable("private_key is not an RSA key of at least 2048 bits"))?;
    let mut header = json!({ "alg": "RS256", "typ": "JWT" });
    if let Some(id) = word("private_key_id") {
        header["kid"] = id.into();
    }
    let issued = now.0.div_euclid(1_000_000) - BACKDATED_SECONDS;
    let claims = json!({
        "iss": email,
        "sub": request.user,
        "scope": request.scope,
        "aud": request.token_url,
        "iat": issued,
        "exp": issued + VALIDITY_SECONDS,
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| Unusable("private_key can't sign"))?;
    Ok(Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
}

/// Explains errors of Google's token server about assertions.
pub(super) fn meaning(said: &str) -> Option<&'static str> {
    const TEXTS: [(&str, &str); 5] = [
        (
            "unauthorized to retrieve access tokens",
            "domain-wide delegation is missing: in Google's Admin console, Security, API controls, \
             Domain-wide delegation, add the client id of the service account with the scope \
             https://mail.google.com/ (it may take a day to take effect)",
        ),
        ("Invalid JWT Signature", "the key of the service account was deleted or replaced"),
        ("short-lived token", "the clock of this machine is wrong"),
        ("account not found", "the service account does not exist any more"),
        ("Invalid email or User ID", "the domain has no user with this address"),
    ];
    TEXTS.iter().find(|(text, _)| said.contains(text)).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Request<'_> = Request {
        token_url: "https://oauth2.googleapis.com/token",
        scope: "https://mail.google.com/",
        user: "anna@example.com",
    };

    #[test]
    fn what_is_not_a_key_is_refused_without_showing_it() {
        for (file, expected) in [
            ("hunter2", "not the JSON file"),
            ("[\"hunter2\"]", "not the key of a service account"),
            ("{\"type\":\"authorized_user\",\"refresh_token\":\"hunter2\"}", "not the key of a"),
            ("{\"type\":\"service_account\",\"private_key\":\"hunter2\"}", "client_email"),
            (
                "{\"type\":\"service_account\",\"client_email\":\"a@b\",\"private_key\":\"hunter2\"}",
                "not a private key",
            ),
            (
                "{\"type\":\"service_account\",\"client_email\":\"a@b\",\"private_key\":\
                 \"-----BEGIN PRIVATE KEY-----\\nAAAA\\n-----END PRIVATE KEY-----\\n\"}",
                "not an RSA key",
            ),
        ] {
            let error = write(&Secret::new(file), &REQUEST, UtcMicros(0)).expect_err(file);
            let text = error.to_string();
            assert!(text.contains(expected) && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn errors_of_google_are_explained() {
        // googleapis/google-api-php-client#1379, n8n-io/n8n#17465
        let said = "Client is unauthorized to retrieve access tokens using this method, or client not authorized \
            for any of the scopes requested.";
        assert!(meaning(said).is_some_and(|text| text.contains("Domain-wide delegation")));
        assert_eq!(meaning("Bad Request"), None);
    }
}
