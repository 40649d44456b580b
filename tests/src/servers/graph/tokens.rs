//! The token server: client credentials by secret, by certificate
//! (<https://learn.microsoft.com/entra/identity-platform/certificate-credentials>) and by a token
//! of another identity provider. Errors are those of
//! <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mailqos_model::UtcMicros;
use ring::signature::{KeyPair as _, RSA_PSS_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Answer, Asked, Shared, decoded};
use crate::lock;

/// The certificate of the application and its key, in PEM. Only the embedded servers know it.
pub const APPLICATION: &str = include_str!("application.pem");

/// The scope of application permissions.
const SCOPE: &str = "https://graph.microsoft.com/.default";
/// The type of assertions (RFC 7523).
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

fn refused(error: &str, description: &str) -> Answer {
    let text = format!(
        "{description} Trace ID: 0a1b Correlation ID: 2c3d Timestamp: 2026-12-01 09:00:00Z"
    );
    let status = if error == "invalid_client" { 401 } else { 400 };
    Answer::json(status, &json!({ "error": error, "error_description": text }))
}

pub(super) async fn answer(shared: &Arc<Shared>, tenant: &str, asked: &Asked<'_>) -> Answer {
    tokio::time::sleep(shared.options.token_delay).await;
    let form = String::from_utf8_lossy(&asked.request.body).into_owned();
    lock(&shared.state).token_requests.push(form.clone());
    let field = |name: &str| {
        let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| decoded(value));
        values.next().unwrap_or_default()
    };
    let options = &shared.options;
    if asked.method != "POST" {
        return refused(
            "invalid_request",
            "AADSTS900561: The endpoint only accepts POST requests.",
        );
    }
    if tenant != options.tenant {
        return refused("invalid_request", "AADSTS90002: Tenant not found.");
    }
    if field("client_id") != options.client_id {
        let text = "AADSTS700016: Application with identifier was not found in the directory.";
        return refused("unauthorized_client", text);
    }
    let result = match (&*field("client_secret"), &*field("client_assertion")) {
        (secret, "") if secret == options.client_secret => Ok(()),
        (_, "") => Err("AADSTS7000215: Invalid client secret provided.".to_owned()),
        _ if field("client_assertion_type") != ASSERTION => {
            Err("AADSTS50027: JWT token is invalid or malformed.".to_owned())
        }
        (_, assertion) if assertion == options.federated_token => Ok(()),
        (_, assertion) => verify(shared, assertion),
    };
    if let Err(text) = result {
        return refused("invalid_client", &text);
    }
    if field("grant_type") != "client_credentials" {
        return refused("unsupported_grant_type", "AADSTS70003: Unsupported grant type.");
    }
    if field("scope") != SCOPE {
        return refused("invalid_scope", "AADSTS70011: The provided value for scope is not valid.");
    }
    let number = lock(&shared.state).token_requests.len();
    let token = format!("eyJ0eXAiOiJKV1Qi.Graph-Token-{number}-8Wq");
    let expires = Instant::now() + Duration::from_secs(options.token_life);
    lock(&shared.state).tokens.insert(token.clone(), expires);
    let token = json!({
        "token_type": "Bearer",
        "expires_in": options.token_life,
        "ext_expires_in": options.token_life,
        "access_token": token,
    });
    Answer::json(200, &token)
}

/// Verifies an assertion signed with the application's certificate.
fn verify(shared: &Shared, assertion: &str) -> Result<(), String> {
    let malformed = || "AADSTS50027: JWT token is invalid or malformed.".to_owned();
    let mut parts = assertion.split('.');
    let mut part = || parts.next().ok_or_else(malformed);
    let (head, claims, signature) = (part()?, part()?, part()?);
    let read = |text: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok()
    };
    let (Some(header), Some(body)) = (read(head), read(claims)) else { return Err(malformed()) };
    let pem = APPLICATION.as_bytes();
    let certificate = CertificateDer::from_pem_slice(pem).map_err(|_| malformed())?;
    let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate));
    if header["alg"] != "PS256" || header["typ"] != "JWT" {
        return Err(malformed());
    }
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| malformed())?;
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(|_| malformed())?;
    let public = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key.public_key().as_ref());
    let bytes = URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed())?;
    let signed = format!("{head}.{claims}");
    if header["x5t#S256"] != thumbprint.as_str()
        || public.verify(signed.as_bytes(), &bytes).is_err()
    {
        return Err("AADSTS700027: The certificate with identifier used to sign the client \
                    assertion is not registered on application."
            .to_owned());
    }
    let options = &shared.options;
    let url =
        format!("https://{}:{}/{}/oauth2/v2.0/token", options.host, shared.port, options.tenant);
    if body["aud"] != url.as_str() {
        return Err("AADSTS50012: Client assertion contains an invalid audience.".to_owned());
    }
    if body["iss"] != options.client_id.as_str() || body["sub"] != options.client_id.as_str() {
        return Err(malformed());
    }
    let now = UtcMicros::now().0 / 1_000_000;
    let second = |name: &str| body[name].as_i64().unwrap_or_default();
    if !(second("nbf") - 300..=second("exp")).contains(&now) || second("exp") - now > 86_400 {
        let text = "AADSTS700024: Client assertion is not within its valid time range.";
        return Err(text.to_owned());
    }
    let unique = body["jti"].as_str().unwrap_or_default();
    if unique.len() != 36 || !lock(&shared.state).assertions.insert(unique.to_owned()) {
        return Err(malformed());
    }
    Ok(())
}
