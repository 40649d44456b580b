//! OAuth 2.0 access tokens (RFC 6749): obtained by client credentials or a refresh token, and kept
//! in memory until shortly before they expire.

use std::{
    io::Write as _,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex as PlainMutex, PoisonError},
    time::{Duration, Instant},
};

use mailqos_base::files::{Access, replace};
use mailqos_base::{Secret, SecretError, SecretSource, hex, one_line};
use mailqos_config::OAuthOptions;
use mailqos_net::{
    Trust,
    http::{self, HttpError, Place, Route},
};
use oauth2::{
    AsyncHttpClient, AuthType, ClientId, ClientSecret, HttpRequest, HttpResponse, RefreshToken,
    RequestTokenError, Scope, TokenResponse as _, TokenUrl,
    basic::{BasicClient, BasicErrorResponse, BasicTokenResponse},
};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use super::{
    assertion::{self, ASSERTION_TYPE, AssertionError},
    service_account::{self, ServiceAccountError},
    token_response,
};

/// Deadline of a request to a token server.
const DEADLINE: Duration = Duration::from_secs(30);
/// Maximum response of a token server in bytes; tokens of a few KiB are common.
const MAX: usize = 256 * 1024;
/// Remaining lifetime at which a token is replaced. Tokens with a short lifetime are replaced after
/// 90 % of it.
const MARGIN: Duration = Duration::from_secs(300);
/// Lifetime of a token if the server does not state it.
const USUAL_LIFE: Duration = Duration::from_secs(600);
/// Maximum lifetime of a token, whatever its server states, so that adding it to the current time
/// can't overflow.
const MAX_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// Time until the next attempt after a failed renewal of a token that is still valid.
const RENEWED_AGAIN: Duration = Duration::from_secs(30);
/// Time until rejected tokens are replaced again, after even a new token was rejected.
const FUTILE_FOR: Duration = Duration::from_secs(600);

/// The access tokens of an account.
#[derive(Debug)]
pub struct OAuth {
    /// Options for obtaining tokens.
    options: OAuthOptions,
    /// The token in use.
    state: Mutex<State>,
}

/// Current state of the account's tokens.
#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    /// Time that obtaining the token took, until it has been reported to a caller.
    took: Option<Duration>,
    /// Time at which even a new token was rejected.
    futile: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Token {
    secret: Secret,
    replace_at: Instant,
    expires_at: Instant,
}

/// Reasons why no token is available. They never contain a secret.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The client secret is not available.
    #[error("the client secret: {0}")]
    ClientSecret(SecretError),
    /// The certificate, or the token of another identity provider, can't be used.
    #[error("{what}: {error}")]
    Assertion {
        /// Source of the assertion.
        what: &'static str,
        /// The reason.
        error: AssertionError,
    },
    /// The key of the service account can't be used.
    #[error("the service account: {0}")]
    ServiceAccount(#[from] ServiceAccountError),
    /// The refresh token is not available.
    #[error("the refresh token: {0}")]
    RefreshToken(SecretError),
    /// The address of the proxy is not available.
    #[error("the address of the proxy: {0}")]
    Proxy(SecretError),
    /// The URL of the token server is invalid.
    #[error("the address of the token server: {0}")]
    Url(String),
    /// The token server could not be reached or did not respond.
    #[error("the token server: {0}")]
    Http(#[from] HttpError),
    /// The token server refused the request.
    #[error("the token server {server} rejected the request ({code}): {text}")]
    Refused {
        /// Status and length of the response.
        server: String,
        /// Name of the error, such as `invalid_client`.
        code: String,
        /// The meaning of the error, or the server's text.
        text: String,
    },
    /// The response is not a valid OAuth 2.0 response.
    #[error(
        "the token server {server} did not return a valid OAuth 2.0 response ({what}); check token_url"
    )]
    Unreadable {
        /// Status and length of the response.
        server: String,
        /// Status and length.
        what: String,
    },
}

/// A token, and whether it was fetched just now.
#[derive(Debug)]
pub struct Fetched {
    /// The access token.
    pub token: Secret,
    /// Whether it has never been used.
    pub fresh: bool,
    /// Time that obtaining it took; `None` if it already existed.
    pub took: Option<Duration>,
}

/// The client's authentication.
#[derive(Default)]
struct ClientProof {
    secret: Option<Secret>,
    /// A JSON Web Token (RFC 7523).
    assertion: Option<Secret>,
}

impl OAuth {
    /// Creates the state of an account without any token.
    pub fn new(options: OAuthOptions) -> Self {
        Self { options, state: Mutex::default() }
    }

    /// Returns the current token, or a new one if it expires soon.
    ///
    /// # Errors
    /// No valid token is available.
    pub async fn token(&self) -> Result<Fetched, TokenError> {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if let Some(token) = state.token.as_ref().filter(|token| now < token.replace_at) {
            let token = token.secret.clone();
            return Ok(Fetched { token, fresh: false, took: state.took.take() });
        }
        match self.fetch().await {
            Ok(token) => {
                let secret = token.secret.clone();
                state.token = Some(token);
                Ok(Fetched { token: secret, fresh: true, took: Some(now.elapsed()) })
            }
            // The token server has a temporary problem, but the current token is still valid.
            Err(error) => match state.token.as_mut().filter(|token| now < token.expires_at) {
                Some(token) => {
                    // An unresponsive server must not delay each login of the account by its full
                    // timeout.
                    token.replace_at = token.expires_at.min(Instant::now() + RENEWED_AGAIN);
                    tracing::warn!(client = %self.options.client_id, %error, "access token not renewed; using the current one");
                    Ok(Fetched { token: token.secret.clone(), fresh: false, took: None })
                }
                None => Err(error),
            },
        }
    }

    /// Stores the time that obtaining the current token took, for the next caller.
    pub(super) async fn note_took(&self, took: Duration) {
        self.state.lock().await.took = Some(took);
    }

    /// Returns another token to replace one that a server rejected, or `None` if another one would
    /// not help. Of several concurrent calls for the same token, only one requests a new token.
    ///
    /// # Errors
    /// No token is available.
    pub async fn replace(&self, rejected: &Fetched) -> Option<Result<Fetched, TokenError>> {
        let mut state = self.state.lock().await;
        if rejected.fresh {
            state.futile = Some(Instant::now());
            return None;
        }
        if state.futile.is_some_and(|since| since.elapsed() < FUTILE_FOR) {
            return None;
        }
        if state.token.as_ref().is_some_and(|token| token.secret == rejected.token) {
            state.token = None;
        }
        drop(state);
        Some(self.token().await.map(|fetched| Fetched { fresh: true, ..fetched }))
    }

    /// Fetches a token. The future is boxed, so that callers don't have to name its type.
    fn fetch(&self) -> Pin<Box<dyn Future<Output = Result<Token, TokenError>> + Send + '_>> {
        Box::pin(self.fetch_now())
    }

    async fn fetch_now(&self) -> Result<Token, TokenError> {
        let proof = self.proof().await?;
        let via = self.options.proxy.via().await.map_err(TokenError::Proxy)?;
        let lifetime = Lifetime::default();
        let transport = Transport::Net(self.options.trust.clone(), via, lifetime.clone());
        if let Some(source) = &self.options.service_account {
            return self.ask_by_assertion(&transport, source).await;
        }
        let Some(source) = &self.options.refresh_token else {
            let asked = self.ask(&transport, &proof, None).await;
            return asked.map(|(token, _)| token);
        };
        let first = source.fetch().await.map_err(TokenError::RefreshToken)?;
        // The stored token takes precedence as long as the configured one is the one that it was
        // obtained from.
        let kept = read_stored_token(&self.options.kept, &first);
        let mut result = self.ask(&transport, &proof, Some(kept.as_ref().unwrap_or(&first))).await;
        if kept.is_some()
            && matches!(&result, Err(TokenError::Refused { code, .. }) if code == "invalid_grant")
        {
            result = self.ask(&transport, &self.proof().await?, Some(&first)).await;
        }
        let (token, rotated) = result?;
        if let Some(lifetime) = lifetime.take()
            && let Err(error) = write_end(&self.options.end_file(), lifetime)
        {
            tracing::warn!(%error, "the end of the sign-in is not stored");
        }
        if let Some(rotated) =
            rotated.filter(|rotated| *rotated != first && Some(rotated) != kept.as_ref())
            && let Err(error) = write_stored_token(&self.options.kept, &first, &rotated)
        {
            tracing::error!(file = %self.options.kept.display(), %error, "new refresh token not stored; the old one may be invalid after a restart");
        }
        Ok(token)
    }

    /// Obtains the client's authentication.
    async fn proof(&self) -> Result<ClientProof, TokenError> {
        let options = &self.options;
        let secret = match &options.client_secret {
            Some(source) => Some(source.fetch().await.map_err(TokenError::ClientSecret)?),
            None => None,
        };
        let assertion = match (&options.certificate, &options.federated_token_file) {
            (Some(source), _) => {
                let made =
                    assertion::of_certificate(source, &options.client_id, &options.token_url);
                let failed =
                    |error| TokenError::Assertion { what: "the client certificate", error };
                Some(made.await.map_err(failed)?)
            }
            (None, Some(path)) => {
                let failed = |error| TokenError::Assertion { what: "the federated token", error };
                Some(assertion::of_file(path).await.map_err(failed)?)
            }
            (None, None) => None,
        };
        Ok(ClientProof { secret, assertion })
    }

    /// Requests an access token. Returns it with the new refresh token, if the response contains
    /// one.
    async fn ask(
        &self,
        transport: &Transport,
        proof: &ClientProof,
        refresh_token: Option<&Secret>,
    ) -> Result<(Token, Option<Secret>), TokenError> {
        let asked = Instant::now();
        let place = Place::parse(&self.options.token_url)?;
        let url = TokenUrl::new(self.options.token_url.clone())
            .map_err(|error| TokenError::Url(error.to_string()))?;
        let mut client = BasicClient::new(ClientId::new(self.options.client_id.clone()))
            .set_token_uri(url)
            .set_auth_type(AuthType::RequestBody);
        if let Some(secret) = &proof.secret {
            client = client.set_client_secret(ClientSecret::new(secret.expose().to_owned()));
        }
        let scopes = self
            .options
            .scope
            .iter()
            .flat_map(|scope| scope.split_whitespace())
            .map(|scope| Scope::new(scope.to_owned()));
        let result = match refresh_token {
            Some(token) => {
                let token = RefreshToken::new(token.expose().to_owned());
                let mut request = client.exchange_refresh_token(&token).add_scopes(scopes);
                if let Some(assertion) = &proof.assertion {
                    request = request
                        .add_extra_param("client_assertion_type", ASSERTION_TYPE)
                        .add_extra_param("client_assertion", assertion.expose());
                }
                request.request_async(transport).await
            }
            None => {
                let mut request = client.exchange_client_credentials().add_scopes(scopes);
                if let Some(assertion) = &proof.assertion {
                    request = request
                        .add_extra_param("client_assertion_type", ASSERTION_TYPE)
                        .add_extra_param("client_assertion", assertion.expose());
                }
                request.request_async(transport).await
            }
        };
        let secrets: Vec<Secret> = [&proof.secret, &proof.assertion]
            .into_iter()
            .flatten()
            .chain(refresh_token)
            .cloned()
            .collect();
        let answer = result.map_err(|error| explain(error, &place, &secrets))?;
        Ok(self.accept(&answer, asked))
    }

    /// Returns the access token and the refresh token from a server that sends this response
    /// whatever it receives.
    #[cfg(feature = "test-hooks")]
    pub async fn replay(
        &self,
        said: Vec<u8>,
        client_secret: &Secret,
        refresh_token: Option<&Secret>,
    ) -> Result<(Secret, Option<Secret>), TokenError> {
        let proof = ClientProof { secret: Some(client_secret.clone()), ..ClientProof::default() };
        let (token, rotated) = self.ask(&Transport::Said(said), &proof, refresh_token).await?;
        Ok((token.secret, rotated))
    }

    /// Requests an access token with the key of a service account (RFC 7523, section 2.1).
    async fn ask_by_assertion(
        &self,
        transport: &Transport,
        source: &SecretSource,
    ) -> Result<Token, TokenError> {
        let asked = Instant::now();
        let options = &self.options;
        let place = Place::parse(&options.token_url)?;
        let request = service_account::Request {
            token_url: &options.token_url,
            scope: options.scope.as_deref().unwrap_or_default(),
            user: &options.user,
        };
        let assertion = service_account::assertion(source, &request).await?;
        // Neither of the two has a character that a form would encode, but for the colons.
        let grant_type = service_account::GRANT_TYPE.replace(':', "%3A");
        let form = format!("grant_type={grant_type}&assertion={}", assertion.expose());
        let request = oauth2::http::Request::builder()
            .method("POST")
            .uri(&options.token_url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.into_bytes())
            .map_err(|error| TokenError::Url(error.to_string()))?;
        let response = transport.call(request).await?;
        let body = response.body();
        let secrets = [assertion];
        if response.status().is_success()
            && let Ok(answer) = serde_json::from_slice::<BasicTokenResponse>(body)
        {
            return Ok(self.accept(&answer, asked).0);
        }
        match serde_json::from_slice::<BasicErrorResponse>(body) {
            Ok(answer) => Err(explain(Failure::ServerResponse(answer), &place, &secrets)),
            Err(_) => Err(TokenError::Unreadable {
                server: place.server(),
                what: format!("{} bytes", body.len()),
            }),
        }
    }

    fn accept(&self, answer: &BasicTokenResponse, asked: Instant) -> (Token, Option<Secret>) {
        let life = answer.expires_in().unwrap_or(USUAL_LIFE).min(MAX_LIFE);
        let token = Token {
            secret: Secret::new(answer.access_token().secret().clone()),
            replace_at: asked + life.saturating_sub(MARGIN.min(life / 10)),
            expires_at: asked + life,
        };
        tracing::debug!(client = %self.options.client_id, seconds = life.as_secs(), "access token obtained");
        let rotated = answer.refresh_token().map(|token| Secret::new(token.secret().clone()));
        (token, rotated)
    }
}

/// Transports for token requests.
#[derive(Clone)]
enum Transport {
    /// Our own client, which limits time and size.
    Net(Trust, Route, Lifetime),
    /// A server that always sends this reply, for the fuzz targets.
    #[cfg(feature = "test-hooks")]
    Said(Vec<u8>),
}

/// How long the sign-in stays valid, as the last response stated it.
#[derive(Debug, Clone, Default)]
struct Lifetime(Arc<PlainMutex<Option<Duration>>>);

impl Lifetime {
    /// Notes what a response states, if anything.
    fn note(&self, body: &[u8]) {
        let Ok(serde_json::Value::Object(fields)) = serde_json::from_slice(body) else { return };
        if let Some(lifetime) = crate::sign_in::lifetime(&fields) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(lifetime);
        }
    }

    fn take(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Transport {
    async fn send(self, mut request: http::Request) -> Result<http::Response, HttpError> {
        match self {
            Self::Net(trust, via, lifetime) => {
                request.via = via;
                let response = http::send(&request, &trust, DEADLINE, MAX).await?;
                if response.is_success() {
                    lifetime.note(&response.body);
                }
                Ok(response)
            }
            #[cfg(feature = "test-hooks")]
            Self::Said(said) => http::replay(said, &request, MAX).await,
        }
    }
}

impl<'c> AsyncHttpClient<'c> for Transport {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'static>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        let transport = self.clone();
        Box::pin(async move {
            let headers = request
                .headers()
                .iter()
                .filter_map(|(name, value)| {
                    Some((name.to_string(), Secret::new(value.to_str().ok()?)))
                })
                .collect();
            let request = http::Request {
                method: request.method().to_string(),
                url: Secret::new(request.uri().to_string()),
                headers,
                body: request.into_body(),
                via: Route::default(),
            };
            let response = transport.send(request).await?;
            let body = if response.truncated { Vec::new() } else { response.body };
            let (status, body) = token_response::regular(response.status, body);
            oauth2::http::Response::builder()
                .status(status)
                .body(body)
                .map_err(|error| HttpError::Url(error.to_string()))
        })
    }
}

type Failure = RequestTokenError<HttpError, BasicErrorResponse>;

fn explain(error: Failure, place: &Place, secrets: &[Secret]) -> TokenError {
    let server = place.server();
    match error {
        RequestTokenError::Request(error) => TokenError::Http(error),
        RequestTokenError::ServerResponse(answer) => {
            let code = one_line(answer.error().as_ref(), secrets);
            let said = answer.error_description().map(String::as_str).unwrap_or_default();
            let said = one_line(said, secrets);
            let text = match (meaning(&code, &said), said.as_str()) {
                (Some(meaning), "") => meaning.to_owned(),
                (Some(meaning), said) => format!("{meaning}; the server reports: {said}"),
                (None, "") => "no reason given".to_owned(),
                (None, said) => said.to_owned(),
            };
            TokenError::Refused { server, code, text }
        }
        // Neither the content nor the parser's error is shown, because it may contain an access
        // token.
        RequestTokenError::Parse(_, body) => {
            TokenError::Unreadable { server, what: format!("{} bytes", body.len()) }
        }
        RequestTokenError::Other(text) => {
            TokenError::Unreadable { server, what: one_line(&text, secrets) }
        }
    }
}

/// Error numbers of Microsoft Entra, and what they mean.
const NUMBERS: [(&str, &str); 24] = [
    (
        "AADSTS7000222",
        "the client secret has expired: create a new one in Microsoft Entra (App registrations, \
         Certificates & secrets)",
    ),
    (
        "AADSTS700027",
        "the certificate is not registered with the application, or has expired: upload it in Microsoft Entra \
         (App registrations, Certificates & secrets)",
    ),
    ("AADSTS700024", "the clock of this machine is wrong, or the federated token has expired"),
    (
        "AADSTS700213",
        "the application has no federated credential with this subject: compare issuer, subject and audience",
    ),
    (
        "AADSTS70021",
        "the application has no federated credential for this token: compare issuer, subject and audience",
    ),
    (
        "AADSTS500011",
        "the tenant does not know the service that scope names: check scope and cloud",
    ),
    ("AADSTS7000215", "the client secret is wrong: use its value, not its id"),
    ("AADSTS700016", "the tenant does not know the application: check client_id and tenant"),
    ("AADSTS90002", "there is no such tenant"),
    ("AADSTS900023", "there is no such tenant"),
    ("AADSTS65001", "the application's permissions lack consent: an administrator must grant it"),
    ("AADSTS70011", "the scope is wrong"),
    ("AADSTS1002012", "with client credentials, scope must end in /.default"),
    (
        "AADSTS700082",
        "the refresh token has expired because it was not used for too long: sign in again and store the \
         new one",
    ),
    (
        "AADSTS50173",
        "the refresh token was revoked, for example by a password change: sign in again and store the new \
         one",
    ),
    (
        "AADSTS50076",
        "the tenant requires a second factor: sign in again and store the new refresh token",
    ),
    // simonrob/email-oauth2-proxy#181
    (
        "AADSTS70043",
        "a Conditional Access policy of the tenant limits how long a sign-in lasts: sign in again, exclude \
         this user from the policy, or use an application with its own credentials",
    ),
    // mguessan/davmail#184
    (
        "AADSTS7000218",
        "the application is not a public client, so it needs a secret: allow public client flows in Microsoft \
         Entra (App registrations, Authentication), or set client_secret",
    ),
    ("AADSTS53003", "a Conditional Access policy of the tenant blocks the sign-in"),
    ("AADSTS50057", "the account is disabled"),
    // simonrob/email-oauth2-proxy#363
    (
        "AADSTS700025",
        "the application is a public client, which has no secret: remove client_secret and certificate, or \
         disable public client flows in Microsoft Entra (App registrations, Authentication)",
    ),
    // s1t5/mail-archiver#478
    (
        "AADSTS9002331",
        "the application is for personal Microsoft accounts only: set tenant = \"consumers\"",
    ),
    // Reported as invalid_grant (simonrob/email-oauth2-proxy#123), although the token is valid.
    ("AADSTS90033", "a temporary failure of Microsoft Entra; nothing needs to be changed"),
    ("AADSTS90055", "Microsoft Entra is asked too often; nothing needs to be changed"),
];

/// Explains errors of token servers, with the remedy: those of Microsoft Entra by their numbers,
/// others by name.
pub(super) fn meaning(code: &str, said: &str) -> Option<&'static str> {
    let number = |number: &str| {
        said.match_indices(number).any(|(at, _)| {
            let after = said.as_bytes().get(at + number.len());
            !after.is_some_and(u8::is_ascii_digit)
        })
    };
    if let Some((_, meaning)) = NUMBERS.iter().find(|(known, _)| number(known)) {
        return Some(meaning);
    }
    if let Some(meaning) = service_account::meaning(said) {
        return Some(meaning);
    }
    Some(match code {
        "invalid_client" => "client_id or client_secret is wrong, or the secret has expired",
        "invalid_grant" => {
            "the refresh token is no longer valid: sign in again and store the new one"
        }
        "unauthorized_client" => "the client may not request tokens with this grant type",
        "unsupported_grant_type" => "the server does not support this grant type",
        "invalid_scope" => "the scope is wrong, or the client is not allowed to use it",
        "access_denied" => "an administrator must grant consent",
        "temporarily_unavailable" | "server_error" => "the token server is temporarily unavailable",
        _ => return None,
    })
}

/// Returns a fingerprint of the refresh token from which a stored one came, without storing it.
fn mark(first: &Secret) -> String {
    hex(&Sha256::digest(first.expose())[..8])
}

/// Reads the refresh token that the server issued in place of `first`.
fn read_stored_token(path: &Path, first: &Secret) -> Option<Secret> {
    let text = mailqos_base::files::read_text(path, MAX as u64).ok()?;
    let (of, token) = text.trim_end().split_once('\n')?;
    (of == mark(first) && !token.is_empty()).then(|| Secret::new(token))
}

/// Stores a refresh token so that only its owner can read it. After a crash, the file contains
/// either the old or the new one.
fn write_stored_token(path: &Path, first: &Secret, token: &Secret) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    replace(path, &draft, Access::Owner, |file| {
        writeln!(file, "{}\n{}", mark(first), token.expose())
    })
}

/// Stores the day on which a sign-in ends. A sign-in that is valid for less than a day is extended by
/// each use, so its end is not that of the access.
fn write_end(path: &Path, lifetime: Duration) -> std::io::Result<()> {
    let Some(day) = crate::sign_in::last_day(lifetime) else { return Ok(()) };
    let text = format!("{day}\n");
    if std::fs::read_to_string(path).is_ok_and(|known| known == text) {
        return Ok(());
    }
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".new-{}", std::process::id()));
    replace(path, Path::new(&draft), Access::Umask, |file| file.write_all(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oauth2::basic::BasicErrorResponseType;
    use proptest::prelude::*;

    fn refusal(code: &str, description: &str) -> String {
        let answer = BasicErrorResponse::new(
            BasicErrorResponseType::Extension(code.to_owned()),
            Some(description.to_owned()),
            None,
        );
        let place = Place::parse("https://login.example.com/token").expect("an address");
        explain(Failure::ServerResponse(answer), &place, &[Secret::new("hunter2hunter2")])
            .to_string()
    }

    #[test]
    fn refusals_of_token_servers_are_explained_without_secrets() {
        for (code, said, expected) in [
            (
                "invalid_client",
                "AADSTS700025: Client is public so neither 'client_assertion' nor 'client_secret' should be presented.",
                "remove client_secret",
            ),
            ("invalid_request", "AADSTS9002331: use the /consumers endpoint.", "\"consumers\""),
            ("invalid_grant", "AADSTS90033: A transient error has occurred.", "temporary failure"),
            (
                "invalid_client",
                "AADSTS7000222: The provided client secret keys for app '1' are expired. hunter2hunter2",
                "the client secret has expired",
            ),
            ("invalid_client", "AADSTS7000215: Invalid client secret provided.", "use its value"),
            ("invalid_client", "Unauthorized", "client_id or client_secret is wrong"),
            ("invalid_grant", "Token has been expired or revoked.", "no longer valid"),
            (
                "invalid_grant",
                "AADSTS700082: The refresh token has expired due to inactivity.",
                "was not used for too long",
            ),
            (
                "invalid_grant",
                "AADSTS70043: The refresh token has expired or is invalid due to sign-in frequency checks by \
                 conditional access.",
                "exclude this user from the policy",
            ),
            (
                "invalid_client",
                "AADSTS7000218: The request body must contain the following parameter: 'client_assertion' or \
                 'client_secret'.",
                "allow public client flows",
            ),
            ("unheard_of", "why not", "(unheard_of): why not"),
        ] {
            let text = refusal(code, said);
            assert!(text.contains(expected) && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_stored_refresh_token_belongs_to_the_configured_one() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("state/oauth/probe");
        let (first, second) = (Secret::new("first"), Secret::new("second"));
        assert_eq!(read_stored_token(&path, &first), None);
        for _ in 0..2 {
            write_stored_token(&path, &first, &second).expect("kept");
        }
        assert_eq!(read_stored_token(&path, &first), Some(second));
        assert_eq!(read_stored_token(&path, &Secret::new("another one was configured")), None);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(
            std::fs::read_dir(path.parent().expect("a folder")).expect("a folder").count(),
            1
        );
    }

    #[tokio::test]
    async fn an_unresponsive_token_server_is_not_asked_at_each_login_while_a_token_is_valid() {
        let oauth = OAuth::new(OAuthOptions {
            token_url: "http://127.0.0.1:1/token".to_owned(),
            client_id: "client".to_owned(),
            client_secret: None,
            certificate: None,
            federated_token_file: None,
            graph: None,
            scope: None,
            refresh_token: None,
            authorize_url: None,
            device_url: None,
            service_account: None,
            user: String::new(),
            sign_in_expires: None,
            secret_expires: None,
            trust: Trust::default(),
            kept: "/nowhere/kept".into(),
            proxy: mailqos_config::Proxy::default(),
        });
        let now = Instant::now();
        oauth.state.lock().await.token =
            Some(Token { secret: Secret::new("t"), replace_at: now, expires_at: now + MARGIN });
        assert!(!oauth.token().await.expect("it still serves").fresh);
        let replace_at = oauth.state.lock().await.token.as_ref().map(|token| token.replace_at);
        assert!(replace_at >= Some(now + RENEWED_AGAIN));
    }

    proptest! {
        #[test]
        fn any_refusal_is_one_line_without_the_secret(code in ".{0,20}", said in "(.|\n|hunter2hunter2|AADSTS7000222){0,20}") {
            let text = refusal(&code, &said);
            prop_assert!(!text.contains('\n') && !text.contains("hunter2hunter2"), "{}", text);
        }
    }
}
