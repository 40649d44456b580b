//! An embedded OAuth 2.0 server with sign-in by people: device codes (RFC 8628), authorisation codes
//! with PKCE over loopback redirects (RFC 7636, RFC 8252), refresh tokens, and assertions of service
//! accounts (RFC 7523). Paths and errors are those of Microsoft Entra
//! (learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code) and of Google
//! (developers.google.com/identity/protocols/oauth2/service-account). It is as strict as those
//! documents, and runs in plaintext on the loopback interface.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mailqos_model::UtcMicros;
use ring::signature::RsaKeyPair;
use rustls::{
    ServerConfig,
    pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{Authority, TokenBook};
use crate::{
    http::{Request, serve_each},
    lock,
};

/// The key of all service accounts; nothing else uses it.
const KEY: &str = include_str!("service_account.pem");

/// What a person does with a sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Signs in with this name and grants everything.
    Approve(String),
    /// Signs in with the first name, and has access to the shared mailbox of the second.
    ApproveShared(String, String),
    /// Signs in with this name, in another tenant.
    ApproveElsewhere(String),
    /// Signs in with this name, and leaves the mail permissions unselected.
    ApproveWithoutMail(String),
    /// Declines.
    Decline,
}

/// What the server is like.
#[derive(Debug, Clone)]
pub struct OAuthOptions {
    /// The only client.
    pub client_id: String,
    /// Its secret; `None` for a public client.
    pub client_secret: Option<String>,
    /// How long device codes are valid.
    pub code_validity: Duration,
    /// Time between two requests for a device code's token, in seconds.
    pub interval: u64,
    /// How long sign-ins are valid, if stated in answers (`refresh_token_expires_in`).
    pub lifetime: Option<u64>,
    /// Whether expired device codes stay `authorization_pending`, as in
    /// spring-projects/spring-authorization-server#1556.
    pub forgets_expiry: bool,
    /// Whether the first request for a device code's token is taken for an endless loop, as in
    /// AzureAD/microsoft-authentication-library-for-dotnet#1495.
    pub sees_loop: bool,
    /// Whether a refresh token is issued; Google omits it if the person had consented before.
    pub gives_refresh_token: bool,
}

impl Default for OAuthOptions {
    fn default() -> Self {
        Self {
            client_id: "mailqos-client".to_owned(),
            client_secret: None,
            code_validity: Duration::from_secs(900),
            interval: 1,
            lifetime: None,
            forgets_expiry: false,
            sees_loop: false,
            gives_refresh_token: true,
        }
    }
}

/// A device code.
#[derive(Debug)]
struct Device {
    user_code: String,
    scope: String,
    expires_at: Instant,
    interval: u64,
    polled_at: Option<Instant>,
    decision: Option<Decision>,
}

/// An authorisation code.
#[derive(Debug)]
struct Code {
    challenge: String,
    redirect: String,
    scope: String,
    decision: Decision,
    used: bool,
}

/// The public key of a service account, and whom it may act for.
struct ServiceAccount {
    email: String,
    key: Vec<u8>,
    users: Vec<String>,
}

#[derive(Default)]
struct State {
    devices: BTreeMap<String, Device>,
    codes: BTreeMap<String, Code>,
    /// Valid refresh tokens with the sign-ins that they come from, and their scopes.
    refresh_tokens: BTreeMap<String, (Decision, String)>,
    service_accounts: Vec<ServiceAccount>,
    browser: Option<Decision>,
    requests: Vec<String>,
    issued: u64,
}

struct Shared {
    options: OAuthOptions,
    book: TokenBook,
    state: Mutex<State>,
    /// Scheme and host of its address.
    origin: String,
    tls: Option<Arc<ServerConfig>>,
    port: u16,
}

/// The running server; dropping it ends it.
pub struct OAuthServer {
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

/// Name of the tenant in addresses.
const TENANT: &str = "contoso.test";
/// Its id, as in tokens.
const TENANT_ID: &str = "8d3cf4c8-0c43-4bfe-a77d-9f3d8b0f5c01";
/// Id of another tenant.
const OTHER_TENANT_ID: &str = "00000000-aaaa-bbbb-cccc-dddddddddddd";

impl OAuthServer {
    /// Starts a server whose tokens open mailboxes at all servers that share the book.
    ///
    /// # Errors
    /// When no port is available.
    pub async fn start(book: &TokenBook, options: OAuthOptions) -> io::Result<Self> {
        Self::start_at(book, options, "http://127.0.0.1".to_owned(), None).await
    }

    /// Starts a server over TLS, with a certificate for a host whose name only a proxy knows.
    ///
    /// # Errors
    /// When no port is available.
    pub async fn start_tls(
        book: &TokenBook,
        options: OAuthOptions,
        (authority, host): (&Authority, &str),
    ) -> io::Result<Self> {
        let tls = Some(authority.server_for(host));
        Self::start_at(book, options, format!("https://{host}"), tls).await
    }

    async fn start_at(
        book: &TokenBook,
        options: OAuthOptions,
        origin: String,
        tls: Option<Arc<ServerConfig>>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (book, state) = (book.clone(), Mutex::default());
        let shared = Arc::new(Shared { options, book, state, origin, tls, port });
        let served = shared.clone();
        let task = serve_each(listener, move |stream| accept(stream, served.clone()));
        Ok(Self { shared, _task: task })
    }

    /// Returns the address of the token server; its end is that of Microsoft Entra.
    pub fn token_url(&self) -> String {
        self.shared.token_url()
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// Enters the code of a device and decides about it.
    ///
    /// # Panics
    /// There is no such code.
    pub fn enter_code(&self, user_code: &str, decision: Decision) {
        let mut state = lock(&self.shared.state);
        let mut devices = state.devices.values_mut();
        let device = devices.find(|device| device.user_code == user_code);
        device.expect("a code that was issued").decision = Some(decision);
    }

    /// Sets what the person does in the browser.
    pub fn browse(&self, decision: Decision) {
        lock(&self.shared.state).browser = Some(decision);
    }

    /// Registers a service account with delegation for these users; returns its key file.
    ///
    /// # Panics
    /// The key that comes with the source can't be read.
    pub fn service_account(&self, email: &str, users: &[&str]) -> String {
        let der = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).expect("a key");
        let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("an RSA key");
        lock(&self.shared.state).service_accounts.push(ServiceAccount {
            email: email.to_owned(),
            key: key.public().as_ref().to_owned(),
            users: users.iter().map(|user| (*user).to_owned()).collect(),
        });
        json!({
            "type": "service_account",
            "project_id": "mailqos-test",
            "private_key_id": "0123456789abcdef",
            "private_key": KEY,
            "client_email": email,
            "token_uri": self.token_url(),
        })
        .to_string()
    }

    /// Replaces the keys of all service accounts, as an administrator does.
    pub fn forget_keys(&self) {
        for account in &mut lock(&self.shared.state).service_accounts {
            account.key.clear();
        }
    }

    /// Revokes all refresh tokens.
    pub fn revoke_all(&self) {
        lock(&self.shared.state).refresh_tokens.clear();
    }

    /// Returns the valid refresh tokens.
    pub fn refresh_tokens(&self) -> Vec<String> {
        lock(&self.shared.state).refresh_tokens.keys().cloned().collect()
    }

    /// Returns the requests: path and form.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.state).requests.clone()
    }
}

type Form = BTreeMap<String, String>;

fn form(text: &str) -> Form {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
            let digits = std::str::from_utf8(&digits).unwrap_or("3F");
            bytes.push(u8::from_str_radix(digits, 16).unwrap_or(b'?'));
        } else {
            bytes.push(if byte == b'+' { b' ' } else { byte });
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Status, header fields and content of a reply.
struct Reply(u16, String, Value);

fn refused(error: &str, text: &str) -> Reply {
    Reply(400, String::new(), json!({ "error": error, "error_description": text }))
}

async fn accept(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    match shared.tls.clone() {
        None => serve(stream, shared).await,
        Some(tls) => serve(TlsAcceptor::from(tls).accept(stream).await?, shared).await,
    }
}

async fn serve<S>(mut stream: S, shared: Arc<Shared>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(request) = Request::read(&mut stream, &mut Vec::new()).await? else { return Ok(()) };
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let mut words = request.line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    lock(&shared.state).requests.push(format!("{path} {body}"));
    let is_form = request
        .field("content-type")
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    let end = path.strip_prefix(&format!("/{TENANT}")).unwrap_or_default();
    let Reply(status, fields, json) = match (method, end) {
        ("POST", _) if !is_form => refused("invalid_request", "AADSTS900144: not a form"),
        ("POST", "/oauth2/v2.0/devicecode") => shared.device_code(&form(&body)),
        ("POST", "/oauth2/v2.0/token") => shared.token(&form(&body)),
        ("GET", "/oauth2/v2.0/authorize") => shared.authorize(&form(query)),
        ("GET", "/v2.0/.well-known/openid-configuration") => {
            Reply(200, String::new(), json!({ "issuer": issuer(TENANT_ID) }))
        }
        _ => Reply(404, String::new(), json!({ "error": "not_found" })),
    };
    let text = json.to_string();
    let reply = format!(
        "HTTP/1.1 {status} -\r\n{fields}Content-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}

fn issuer(tenant: &str) -> String {
    format!("https://login.microsoftonline.com/{tenant}/v2.0")
}

impl Shared {
    fn token_url(&self) -> String {
        format!("{}:{}/{TENANT}/oauth2/v2.0/token", self.origin, self.port)
    }

    /// RFC 8628, section 3.1 and 3.2.
    fn device_code(&self, form: &Form) -> Reply {
        if form.get("client_id") != Some(&self.options.client_id) {
            return refused("unauthorized_client", "AADSTS700016: application not found");
        }
        let scope = form.get("scope").cloned().unwrap_or_default();
        if scope.is_empty() {
            return refused("invalid_request", "AADSTS900144: the scope is missing");
        }
        let mut state = lock(&self.state);
        state.issued += 1;
        let (number, validity) = (state.issued, self.options.code_validity);
        let code = format!("Device-Code-{number}-4Gh");
        let user_code = format!("WDJB-MJH{number}");
        state.devices.insert(
            code.clone(),
            Device {
                user_code: user_code.clone(),
                scope,
                expires_at: Instant::now() + validity,
                interval: self.options.interval,
                polled_at: None,
                decision: None,
            },
        );
        let answer = json!({
            "device_code": code,
            "user_code": user_code,
            "verification_uri": "https://login.example.com/device",
            "expires_in": validity.as_secs(),
            "interval": self.options.interval,
            "message": "To sign in, use a web browser.",
        });
        Reply(200, String::new(), answer)
    }

    /// RFC 6749, section 4.1.1, with the rules of RFC 7636 and RFC 8252.
    fn authorize(&self, form: &Form) -> Reply {
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let redirect = field("redirect_uri");
        let loopback = ["http://127.0.0.1:", "http://localhost:"];
        let is_loopback = loopback.iter().any(|start| redirect.starts_with(start));
        // Without a valid client and address there is no redirect (section 4.1.2.1).
        if field("client_id") != self.options.client_id || !is_loopback {
            return refused("invalid_request", "redirect_uri_mismatch");
        }
        let back =
            |query: String| Reply(302, format!("Location: {redirect}?{query}\r\n"), Value::Null);
        let state = field("state");
        if field("response_type") != "code"
            || field("code_challenge_method") != "S256"
            || field("code_challenge").len() != 43
            || state.is_empty()
        {
            return back(format!("error=invalid_request&state={state}"));
        }
        let mut memory = lock(&self.state);
        match memory.browser.clone() {
            None | Some(Decision::Decline) => back(format!("error=access_denied&state={state}")),
            Some(decision) => {
                memory.issued += 1;
                let code = format!("4/Code-{}-9Kp", memory.issued);
                memory.codes.insert(
                    code.clone(),
                    Code {
                        challenge: field("code_challenge").to_owned(),
                        redirect: redirect.to_owned(),
                        scope: field("scope").to_owned(),
                        decision,
                        used: false,
                    },
                );
                back(format!("code={}&state={state}", code.replace('/', "%2F")))
            }
        }
    }

    fn token(&self, form: &Form) -> Reply {
        let grant = form.get("grant_type").map(String::as_str).unwrap_or_default();
        if grant == "urn:ietf:params:oauth:grant-type:jwt-bearer" {
            return self.assertion(form);
        }
        if form.get("client_id") != Some(&self.options.client_id) {
            return refused("invalid_client", "The OAuth client was not found.");
        }
        if form.get("client_secret") != self.options.client_secret.as_ref() {
            return refused(
                "invalid_client",
                "AADSTS7000218: The request body must contain client_secret",
            );
        }
        match grant {
            "urn:ietf:params:oauth:grant-type:device_code" => self.poll(form),
            "authorization_code" => self.redeem(form),
            "refresh_token" => self.refresh(form),
            _ => refused("unsupported_grant_type", "AADSTS70003"),
        }
    }

    /// RFC 8628, section 3.4 and 3.5.
    fn poll(&self, form: &Form) -> Reply {
        let mut state = lock(&self.state);
        let code = form.get("device_code").cloned().unwrap_or_default();
        let Some(device) = state.devices.get_mut(&code) else {
            return refused("bad_verification_code", "AADSTS70019");
        };
        let now = Instant::now();
        if now >= device.expires_at && !self.options.forgets_expiry {
            return refused("expired_token", "AADSTS70020");
        }
        // Half a second of tolerance: requests take their time.
        let soonest =
            Duration::from_secs(device.interval).saturating_sub(Duration::from_millis(500));
        if device.polled_at.is_some_and(|at| now - at < soonest) {
            device.interval += 5;
            device.polled_at = Some(now);
            return refused("slow_down", "");
        }
        let is_first = device.polled_at.replace(now).is_none();
        if is_first && self.options.sees_loop {
            return refused("invalid_request", "AADSTS50196");
        }
        let (decision, scope) = (device.decision.clone(), device.scope.clone());
        match decision {
            None => refused("authorization_pending", "AADSTS70016"),
            Some(Decision::Decline) => refused("authorization_declined", "AADSTS65004"),
            Some(decision) => {
                state.devices.remove(&code);
                self.grant(&mut state, &decision, &scope)
            }
        }
    }

    /// RFC 6749, section 4.1.3, and RFC 7636, section 4.6.
    fn redeem(&self, form: &Form) -> Reply {
        let mut state = lock(&self.state);
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let Some(code) = state.codes.get_mut(field("code")) else {
            return refused("invalid_grant", "Malformed auth code.");
        };
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier")));
        if code.used || code.redirect != field("redirect_uri") || code.challenge != challenge {
            return refused("invalid_grant", "Bad Request");
        }
        code.used = true;
        let (decision, scope) = (code.decision.clone(), code.scope.clone());
        self.grant(&mut state, &decision, &scope)
    }

    fn refresh(&self, form: &Form) -> Reply {
        let mut state = lock(&self.state);
        let token = form.get("refresh_token").cloned().unwrap_or_default();
        let Some((decision, scope)) = state.refresh_tokens.remove(&token) else {
            return refused("invalid_grant", "Token has been expired or revoked.");
        };
        self.grant(&mut state, &decision, &scope)
    }

    /// Issues tokens; refresh tokens are replaced at each use.
    fn grant(&self, state: &mut State, decision: &Decision, scope: &str) -> Reply {
        let mailbox = match decision {
            Decision::ApproveShared(_, mailbox) => Some(mailbox),
            _ => None,
        };
        let (user, tenant) = match decision {
            Decision::ApproveShared(user, _) => (user, TENANT_ID),
            Decision::Approve(user) | Decision::ApproveWithoutMail(user) => (user, TENANT_ID),
            Decision::ApproveElsewhere(user) => (user, OTHER_TENANT_ID),
            Decision::Decline => return refused("access_denied", ""),
        };
        state.issued += 1;
        let access = format!("Access-Token-{}-8Wq", state.issued);
        let mailbox = mailbox.unwrap_or(user);
        self.book.admit_person(&access, user, mailbox, scope);
        let granted: Vec<&str> = scope
            .split(' ')
            .filter(|scope| {
                !matches!(decision, Decision::ApproveWithoutMail(_)) || !scope.contains("://")
            })
            .collect();
        let mut answer = json!({
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": 3600,
            "scope": granted.join(" "),
        });
        if self.options.gives_refresh_token {
            let refresh = format!("Refresh-Token-{}-5Tz", state.issued);
            state.refresh_tokens.insert(refresh.clone(), (decision.clone(), scope.to_owned()));
            answer["refresh_token"] = refresh.into();
        }
        if let Some(lifetime) = self.options.lifetime {
            answer["refresh_token_expires_in"] = lifetime.into();
        }
        if granted.contains(&"openid") {
            let claims = json!({
                "aud": self.options.client_id,
                "iss": issuer(tenant),
                "tid": tenant,
                "exp": UtcMicros::now().0 / 1_000_000 + 3600,
                "preferred_username": user,
            });
            let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
            answer["id_token"] = format!("eyJhbGciOiJub25lIn0.{claims}.").into();
        }
        Reply(200, String::new(), answer)
    }

    /// RFC 7523, section 3, with the errors of Google
    /// (developers.google.com/identity/protocols/oauth2/service-account#error-codes).
    fn assertion(&self, form: &Form) -> Reply {
        let invalid = |text: &str| refused("invalid_grant", text);
        let assertion = form.get("assertion").map(String::as_str).unwrap_or_default();
        let Some((signed, signature)) = assertion.rsplit_once('.') else {
            return invalid("Invalid JWT");
        };
        let part = |index: usize| -> Option<Value> {
            let bytes = URL_SAFE_NO_PAD.decode(signed.split('.').nth(index)?).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        let (Some(header), Some(claims)) = (part(0), part(1)) else {
            return invalid("Invalid JWT");
        };
        let word = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
        let state = lock(&self.state);
        let issuer = word("iss");
        let Some(account) = state.service_accounts.iter().find(|known| known.email == issuer)
        else {
            return invalid("Invalid grant: account not found");
        };
        let key = ring::signature::UnparsedPublicKey::new(
            &ring::signature::RSA_PKCS1_2048_8192_SHA256,
            &account.key,
        );
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        if header["alg"] != "RS256" || key.verify(signed.as_bytes(), &signature).is_err() {
            return invalid("Invalid JWT Signature.");
        }
        let now = UtcMicros::now().0 / 1_000_000;
        let time = |name: &str| claims[name].as_i64().unwrap_or_default();
        let (issued, expires) = (time("iat"), time("exp"));
        if issued > now + 60 || expires <= now || expires - issued > 3600 {
            return invalid(
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.",
            );
        }
        if word("aud") != self.token_url() {
            return invalid("Invalid JWT: Failed audience check.");
        }
        if word("scope") != "https://mail.google.com/" {
            return refused("invalid_scope", "Invalid OAuth scope or ID token audience provided.");
        }
        let user = word("sub");
        if !account.users.contains(&user) {
            return refused(
                "unauthorized_client",
                "Client is unauthorized to retrieve access tokens using this method, or client not authorized \
                 for any of the scopes requested.",
            );
        }
        drop(state);
        let mut state = lock(&self.state);
        state.issued += 1;
        let access = format!("Access-Token-{}-8Wq", state.issued);
        self.book.admit(&access, &user);
        let answer = json!({ "access_token": access, "token_type": "Bearer", "expires_in": 3599 });
        Reply(200, String::new(), answer)
    }
}
