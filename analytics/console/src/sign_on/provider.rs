//! An identity provider: where it is, its keys, and who it says the user is (OpenID Connect
//! Discovery 1.0; RFC 6749, 7636, 9207). The user arrives with a code, which the console exchanges
//! for a token itself.

use std::time::{Duration, Instant};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use mailqos_base::{Secret, SecretError};
use mailqos_config::{OidcOptions, Proxy};
use mailqos_net::http::{self, HttpError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, Semaphore};

use super::{
    Identity, MAX_GROUPS,
    token::{self, Expected, Keys, TokenError},
};
use crate::{
    access::{NoRandomness, random_text},
    clock,
};

/// Deadline of a request to the provider.
const DEADLINE: Duration = Duration::from_secs(10);
/// Largest answer of the provider, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// Longest time for which addresses and keys of the provider are kept.
const MAX_METADATA_AGE: Duration = Duration::from_secs(3_600);
/// Sign-ins that wait for the provider at the same time: a provider that hangs must not block
/// other pages.
const MAX_RUNNING: usize = 8;
/// Longest time at the provider's pages, in seconds.
pub(crate) const MAX_ATTEMPT: i64 = 900;

/// Reasons why a provider does not confirm a sign-in. They contain no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProviderError {
    /// Too many sign-ins wait for the provider.
    #[error("too many sign-ins wait for the identity provider")]
    Busy,
    /// The provider does not answer.
    #[error("the identity provider: {0}")]
    Http(#[from] HttpError),
    /// A secret is not available.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The provider refuses.
    #[error("the identity provider refuses: HTTP {0} {1}")]
    Refused(u16, String),
    /// An answer is not as the standard requires.
    #[error("the identity provider's {0}")]
    Answer(&'static str),
    /// The discovery document is that of another issuer.
    #[error(
        "the identity provider calls itself {found:?}; set issuer to exactly this if it is right"
    )]
    Issuer {
        /// Issuer in the document.
        found: String,
    },
    /// The token proves nothing.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// A sign-in in progress, kept in a cookie of the browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    /// Text that the provider returns with the code.
    pub(crate) state: String,
    /// Text that the token must contain.
    nonce: String,
    /// Text whose hash the provider knows (RFC 7636).
    verifier: String,
    /// Page of the console to lead to.
    pub(crate) next: String,
    /// End of its validity, in seconds since 1970.
    pub(crate) until: i64,
}

impl Attempt {
    /// Returns a new attempt.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn new(next: &str) -> Result<Self, NoRandomness> {
        Ok(Self {
            state: random_text()?,
            nonce: random_text()?,
            verifier: random_text()?,
            next: next.to_owned(),
            until: clock::seconds() + MAX_ATTEMPT,
        })
    }
}

/// Addresses and keys of the provider.
#[derive(Debug, Clone)]
struct Metadata {
    authorization: String,
    token: String,
    keys_at: String,
    user_info: Option<String>,
    logout: Option<String>,
    /// Whether the client secret is sent in the form, not in the header.
    is_secret_in_form: bool,
    /// Whether the provider names itself in every answer (RFC 9207).
    names_itself: bool,
    keys: Keys,
    at: Instant,
}

/// An identity provider.
#[derive(Debug)]
pub(crate) struct Provider {
    /// Options.
    pub(crate) options: OidcOptions,
    proxy: Proxy,
    metadata: Mutex<Option<Metadata>>,
    running: Semaphore,
}

impl Provider {
    /// Returns a provider, which is not asked before the first sign-in.
    pub(crate) fn new(options: OidcOptions, proxy: Proxy) -> Self {
        let running = Semaphore::new(MAX_RUNNING);
        Self { options, proxy, metadata: Mutex::default(), running }
    }

    /// Returns the address at the provider to which a sign-in leads.
    ///
    /// # Errors
    /// The provider does not answer.
    pub(crate) async fn begin(
        &self,
        attempt: &Attempt,
        redirect: &str,
    ) -> Result<String, ProviderError> {
        let _permit = self.running.try_acquire().map_err(|_| ProviderError::Busy)?;
        let metadata = self.metadata().await?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&attempt.verifier));
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.options.client_id)
            .append_pair("redirect_uri", redirect)
            .append_pair("scope", &self.options.scopes.join(" "))
            .append_pair("state", &attempt.state)
            .append_pair("nonce", &attempt.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .finish();
        Ok(joined(&metadata.authorization, &query))
    }

    /// Exchanges a code for the identity of the user. `issuer` is what the answer names.
    ///
    /// # Errors
    /// The provider does not confirm the sign-in.
    pub(crate) async fn finish(
        &self,
        attempt: &Attempt,
        (code, issuer): (&str, Option<&str>),
        redirect: &str,
    ) -> Result<Identity, ProviderError> {
        let _permit = self.running.try_acquire().map_err(|_| ProviderError::Busy)?;
        let metadata = self.metadata().await?;
        // The answer of another provider, as in a mix-up attack.
        if issuer.map_or(metadata.names_itself, |issuer| issuer != self.options.issuer) {
            return Err(ProviderError::Answer("answer names another issuer (iss)"));
        }
        let answer = self.exchange(&metadata, attempt, code, redirect).await?;
        let token = answer["id_token"].as_str();
        let token = token.ok_or(ProviderError::Answer("answer has no id_token"))?;
        let expected = Expected {
            issuer: &self.options.issuer,
            client_id: &self.options.client_id,
            nonce: &attempt.nonce,
            now: clock::seconds(),
        };
        let claims = match token::verify(token, &metadata.keys, &expected) {
            // The keys were changed since they were read.
            Err(TokenError::UnknownKey | TokenError::Signature) => {
                let keys = self.read_keys(&metadata.keys_at).await?;
                let claims = token::verify(token, &keys, &expected)?;
                if let Some(kept) = self.metadata.lock().await.as_mut() {
                    kept.keys = keys;
                }
                claims
            }
            other => other?,
        };
        let claims = self.complete(claims, &metadata, answer["access_token"].as_str()).await?;
        self.identity(&claims)
    }

    /// Returns the address at the provider that ends the session there, if it is known.
    pub(crate) fn logout_url(&self, back: &str) -> Option<String> {
        let metadata = self.metadata.try_lock().ok()?;
        let logout = metadata.as_ref()?.logout.clone()?;
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("client_id", &self.options.client_id)
            .append_pair("post_logout_redirect_uri", back)
            .finish();
        Some(joined(&logout, &query))
    }

    async fn metadata(&self) -> Result<Metadata, ProviderError> {
        // Held meanwhile, so that only one request asks the provider.
        let mut kept = self.metadata.lock().await;
        if let Some(metadata) = kept.as_ref().filter(|it| it.at.elapsed() < MAX_METADATA_AGE) {
            return Ok(metadata.clone());
        }
        let base = self.options.issuer.trim_end_matches('/');
        let document = self.get(&format!("{base}/.well-known/openid-configuration"), None).await?;
        let found = document["issuer"].as_str().unwrap_or_default();
        if found != self.options.issuer {
            return Err(ProviderError::Issuer { found: found.chars().take(200).collect() });
        }
        let address = |name: &str| {
            let text = document[name].as_str()?;
            is_safe(text).then(|| text.to_owned())
        };
        let required = |name: &str, problem| address(name).ok_or(ProviderError::Answer(problem));
        let methods = document["token_endpoint_auth_methods_supported"].as_array();
        let has = |method: &str| methods.is_some_and(|all| all.iter().any(|it| it == method));
        let keys_at = required("jwks_uri", "discovery document has no safe jwks_uri")?;
        let keys = self.read_keys(&keys_at).await?;
        let metadata = Metadata {
            authorization: required(
                "authorization_endpoint",
                "discovery document has no safe authorization_endpoint",
            )?,
            token: required("token_endpoint", "discovery document has no safe token_endpoint")?,
            user_info: address("userinfo_endpoint"),
            logout: address("end_session_endpoint"),
            is_secret_in_form: has("client_secret_post") && !has("client_secret_basic"),
            names_itself: document["authorization_response_iss_parameter_supported"] == true,
            keys_at,
            keys,
            at: Instant::now(),
        };
        *kept = Some(metadata.clone());
        Ok(metadata)
    }

    async fn read_keys(&self, address: &str) -> Result<Keys, ProviderError> {
        let keys = Keys::parse(&self.get(address, None).await?);
        if keys.is_empty() {
            return Err(ProviderError::Answer("list of keys has none for signatures"));
        }
        Ok(keys)
    }

    async fn exchange(
        &self,
        metadata: &Metadata,
        attempt: &Attempt,
        code: &str,
        redirect: &str,
    ) -> Result<Value, ProviderError> {
        let id = &self.options.client_id;
        let secret = match &self.options.client_secret {
            Some(source) => Some(source.fetch().await?),
            None => None,
        };
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", redirect)
            .append_pair("code_verifier", &attempt.verifier);
        let kind = Secret::new("application/x-www-form-urlencoded");
        let mut headers = vec![("Content-Type".to_owned(), kind)];
        match secret {
            Some(secret) if !metadata.is_secret_in_form => {
                // Both parts are form-encoded first (RFC 6749, section 2.3.1).
                let encode = |text: &str| -> String {
                    form_urlencoded::byte_serialize(text.as_bytes()).collect()
                };
                let pair = Secret::new(format!("{}:{}", encode(id), encode(secret.expose())));
                let value = format!("Basic {}", STANDARD.encode(pair.expose()));
                headers.push(("Authorization".to_owned(), Secret::new(value)));
            }
            Some(secret) => {
                form.append_pair("client_id", id).append_pair("client_secret", secret.expose());
            }
            None => {
                form.append_pair("client_id", id);
            }
        }
        self.call(&metadata.token, "POST", headers, form.finish().into_bytes()).await
    }

    /// Adds claims that the provider only reveals at its endpoint, as Authelia 4.39 does with
    /// groups. Claims of the token count first.
    async fn complete(
        &self,
        mut claims: Map<String, Value>,
        metadata: &Metadata,
        access_token: Option<&str>,
    ) -> Result<Map<String, Value>, ProviderError> {
        let names = [&self.options.name_claim, &self.options.groups_claim];
        let is_complete = names.iter().all(|name| find(&claims, name).is_some());
        let Some((address, access)) = metadata.user_info.as_ref().zip(access_token) else {
            return Ok(claims);
        };
        if is_complete {
            return Ok(claims);
        }
        let Value::Object(found) = self.get(address, Some(access)).await? else {
            return Err(ProviderError::Answer("user information is not an object"));
        };
        // That of another user must not be mixed in (section 5.3.2).
        if found.get("sub") != claims.get("sub") {
            return Err(ProviderError::Answer("user information is about another subject"));
        }
        for (name, value) in found {
            claims.entry(name).or_insert(value);
        }
        Ok(claims)
    }

    fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, ProviderError> {
        let name = find(claims, &self.options.name_claim).and_then(Value::as_str);
        let name = name.ok_or(ProviderError::Answer("claims have no name; set name_claim"))?;
        // Anyone can enter someone else's address at many providers.
        if self.options.name_claim == "email" {
            let verified = claims.get("email_verified");
            if !verified.is_some_and(|it| it == true || it == "true") {
                return Err(ProviderError::Answer("claims have no verified e-mail address"));
            }
        }
        let groups = match find(claims, &self.options.groups_claim) {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(all)) => {
                let all = all.iter().filter_map(Value::as_str);
                all.take(MAX_GROUPS).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        if groups.is_empty() && claims.contains_key("_claim_names") {
            tracing::warn!(
                "console: the user has too many groups for a token; assign groups to the application"
            );
        }
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        let origin = format!("oidc {} {subject}", self.options.issuer);
        Ok(Identity { origin, name: name.to_owned(), groups })
    }

    async fn get(&self, url: &str, access: Option<&str>) -> Result<Value, ProviderError> {
        let bearer =
            |token: &str| ("Authorization".to_owned(), Secret::new(format!("Bearer {token}")));
        self.call(url, "GET", access.map(bearer).into_iter().collect(), Vec::new()).await
    }

    async fn call(
        &self,
        url: &str,
        method: &str,
        mut headers: Vec<(String, Secret)>,
        body: Vec<u8>,
    ) -> Result<Value, ProviderError> {
        headers.push(("Accept".to_owned(), Secret::new("application/json")));
        let via = self.proxy.via().await?;
        let (method, url) = (method.to_owned(), Secret::new(url));
        let request = http::Request { method, url, headers, body, via };
        let answer = http::send(&request, &self.options.trust, DEADLINE, MAX_ANSWER).await?;
        let document = serde_json::from_slice::<Value>(&answer.body).ok();
        if !answer.is_success() {
            // Only the code, which is of a few characters (RFC 6749, section 5.2).
            let code = document.as_ref().and_then(|it| it["error"].as_str()).unwrap_or_default();
            let is_code = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
            let code = code.chars().filter(is_code).take(60).collect();
            return Err(ProviderError::Refused(answer.status, code));
        }
        document
            .filter(|_| !answer.truncated)
            .ok_or(ProviderError::Answer("answer is not JSON, or too large"))
    }
}

/// Whether codes, secrets and users may be sent to an address: with TLS, or on this machine.
fn is_safe(url: &str) -> bool {
    http::Place::parse(url).is_ok_and(|place| {
        place.tls || matches!(place.host.as_str(), "localhost" | "127.0.0.1" | "::1")
    })
}

/// Adds a query to an address that may have one.
fn joined(address: &str, query: &str) -> String {
    let separator = if address.contains('?') { '&' } else { '?' };
    format!("{address}{separator}{query}")
}

/// Finds a claim by its name, or by a path such as `realm_access.roles`. Names may contain dots,
/// such as those of Auth0: `https://example.com/groups`.
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    rest.split('.').try_fold(claims.get(first)?, |value, part| value.get(part))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_found_by_name_and_path() {
        let Value::Object(claims) = json!({"realm_access": {"roles": ["a"]},
            "https://x.example/groups": "b", "groups": null})
        else {
            panic!("an object")
        };
        assert_eq!(find(&claims, "realm_access.roles"), Some(&json!(["a"])));
        assert_eq!(find(&claims, "https://x.example/groups"), Some(&json!("b")));
        assert_eq!(find(&claims, "realm_access.roles.x"), None);
        assert_eq!(find(&claims, "none.roles"), None);
    }

    #[test]
    fn addresses_of_other_machines_need_tls() {
        assert!(is_safe("https://a.example/x") && is_safe("http://127.0.0.1:9/x"));
        assert!(!is_safe("http://a.example/x") && !is_safe("javascript:alert(1)"));
        assert_eq!(joined("https://a.example/x?p=1", "q=2"), "https://a.example/x?p=1&q=2");
    }
}
