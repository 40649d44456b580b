//! An embedded Microsoft Graph with its token server, over TLS, on the mailboxes of a
//! [`MailServer`]. It is as strict as the real service where that is documented:
//!
//! - paths, properties and limits of mail: <https://learn.microsoft.com/graph/api/resources/message>
//!   and the pages of each action, named next to them;
//! - error objects: <https://learn.microsoft.com/graph/errors>; the codes of Exchange's own are those
//!   of public reports, named next to them;
//! - throttling: <https://learn.microsoft.com/graph/throttling-limits#outlook-service-limits>: at most
//!   four requests at the same time and 10,000 in ten minutes, for each application and mailbox;
//! - tokens: <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.
//!
//! What a client does that it should not is noted, see [`GraphServer::violations`].

mod mail;
mod sending;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use mailqos_model::UtcMicros;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{Certificate, MailServer, PROBE};
use crate::{
    http::{Request, serve_each},
    lock,
};

pub use tokens::APPLICATION;

/// Requests that are answered at the same time for one mailbox.
const MAX_CONCURRENT: usize = 4;
/// The largest content of a message in MIME, encoded
/// (<https://learn.microsoft.com/graph/api/user-post-messages>: 4 MB, beyond it 413).
const MAX_MIME: usize = 4 * 1024 * 1024;

/// What the embedded service is like.
#[derive(Debug, Clone)]
pub struct GraphOptions {
    /// The tenant.
    pub tenant: String,
    /// The host in its certificate and links.
    pub host: String,
    /// The application's id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// The token of another identity provider that the application may use.
    pub federated_token: String,
    /// Mailboxes that the application may reach, and the roles that it has there; an empty address
    /// means all mailboxes.
    pub grants: Vec<(String, Vec<&'static str>)>,
    /// Requests for one mailbox that are answered within the time; of what comes beyond, each is
    /// refused with this `Retry-After`, in seconds.
    pub burst: Option<(usize, Duration, u64)>,
    /// Whether `permanentDelete` is there; national clouds lack it
    /// (<https://learn.microsoft.com/graph/api/message-permanentdelete>).
    pub permanent_delete: bool,
    /// The most entries of a page, whatever is asked for.
    pub page: usize,
    /// How long a sent message stays in Drafts
    /// (<https://learn.microsoft.com/graph/outlook-immutable-id>: "which may take time").
    pub sending: Duration,
    /// Lifetime of tokens, in seconds.
    pub token_life: u64,
    /// How long the token server takes.
    pub token_delay: Duration,
}

impl Default for GraphOptions {
    fn default() -> Self {
        Self {
            tenant: "contoso.onmicrosoft.com".to_owned(),
            host: "localhost".to_owned(),
            client_id: "b4c80c57-5c59-4a3d-912a-a83985988b82".to_owned(),
            client_secret: "Client-Secret-7Hq~x".to_owned(),
            federated_token: "Federated-Token-5Kd".to_owned(),
            grants: vec![(PROBE.to_owned(), vec!["Mail.ReadWrite", "Mail.Send"])],
            burst: None,
            permanent_delete: true,
            page: 100,
            sending: Duration::from_millis(100),
            token_life: 3599,
            token_delay: Duration::from_millis(20),
        }
    }
}

/// What is wrong with delta queries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeltaTrouble {
    /// Nothing.
    #[default]
    None,
    /// Each entry comes twice
    /// (<https://github.com/microsoftgraph/microsoft-graph-docs/issues/6785>,
    /// <https://github.com/microsoftgraph/msgraph-sdk-go/issues/969>).
    Twice,
    /// The same page comes again and again, each time with another link
    /// (<https://github.com/microsoftgraph/msgraph-sdk-dotnet/issues/3082>).
    Loop,
    /// The content ends in an error, with status 200
    /// (<https://github.com/microsoftgraph/microsoft-graph-docs-contrib/issues/106>).
    Cut,
    /// Links are missing (<https://github.com/microsoftgraph/microsoft-graph-docs/issues/2153>).
    NoLink,
    /// Pages of more than 50 entries take too long
    /// (<https://github.com/microsoftgraph/microsoft-graph-docs/issues/5288>).
    Slow,
}

/// A refusal that strikes instead of an answer.
#[derive(Debug, Clone)]
struct Strike {
    /// Only requests whose line contains this.
    matching: String,
    status: u16,
    code: String,
    message: String,
    retry_after: Option<u64>,
    left: usize,
}

/// State of a delta query.
#[derive(Debug, Clone)]
struct DeltaState {
    folder: String,
    known: BTreeSet<u32>,
    /// What the round has still to return.
    pending: VecDeque<u32>,
    removed: Vec<u32>,
    select: Vec<String>,
    touched: u64,
    /// The state after the round.
    is_page: bool,
}

#[derive(Debug, Default)]
struct State {
    tokens: BTreeMap<String, Instant>,
    /// Identifiers of messages: the mailbox, and the folder and number that it has now.
    ids: BTreeMap<String, (String, String, u32)>,
    deltas: BTreeMap<String, DeltaState>,
    strikes: Vec<Strike>,
    violations: Vec<String>,
    requests: Vec<String>,
    token_requests: Vec<String>,
    assertions: BTreeSet<String>,
    recent: BTreeMap<String, VecDeque<Instant>>,
    running: BTreeMap<String, usize>,
    /// Mailboxes that are soft-deleted.
    gone: BTreeSet<String>,
    /// Header fields that a mailbox knows as named properties, in lower case.
    named: BTreeSet<(String, String)>,
    /// How delta queries are broken.
    trouble: DeltaTrouble,
    /// Messages that delta queries are going to leave out.
    to_miss: usize,
    /// Subjects of messages that were deleted permanently.
    purged: Vec<String>,
    touched: u64,
    grants: Vec<(String, Vec<&'static str>)>,
    /// Requests that were answered with 429 or 503.
    throttled: usize,
}

struct Shared {
    options: GraphOptions,
    mail: Arc<super::Shared>,
    state: Mutex<State>,
    port: u16,
    count: AtomicU64,
    connections: AtomicUsize,
}

/// The running service; dropping it ends it.
pub struct GraphServer {
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

impl GraphServer {
    /// Starts the service on the mailboxes of a mail server, with a certificate of its authority.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start(mail: &MailServer, options: GraphOptions) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        for (user, _) in &mail.shared.options.users {
            for folder in ["Drafts", "Sent Items", "Deleted Items", "Offers"] {
                mail.shared.mailboxes.add_folder(user, folder);
            }
        }
        let grants = options.grants.clone();
        let shared = Arc::new(Shared {
            options,
            mail: mail.shared.clone(),
            state: Mutex::new(State { grants, ..State::default() }),
            port,
            count: AtomicU64::new(1),
            connections: AtomicUsize::new(0),
        });
        let served = shared.clone();
        Ok(Self {
            shared,
            _task: serve_each(listener, move |stream| serve(stream, served.clone())),
        })
    }

    /// The port, on the loopback interface.
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// The address of the token server, for `token_url`.
    pub fn token_url(&self) -> String {
        let Shared { options, port, .. } = &*self.shared;
        format!("https://{}:{port}/{}/oauth2/v2.0/token", options.host, options.tenant)
    }

    /// What clients did that they should not.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.shared.state).violations.clone()
    }

    /// Method and path of each request, in order.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.state).requests.clone()
    }

    /// The forms that were sent to the token server.
    pub fn token_requests(&self) -> Vec<String> {
        lock(&self.shared.state).token_requests.clone()
    }

    /// How many connections were opened.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Forgets the state of all delta queries
    /// (<https://github.com/microsoftgraph/microsoft-graph-docs/issues/2350>).
    pub fn expire_deltas(&self) {
        lock(&self.shared.state).deltas.clear();
    }

    /// Forgets all access tokens.
    pub fn revoke_tokens(&self) {
        lock(&self.shared.state).tokens.clear();
    }

    /// Refuses the next requests whose method and path contain a text.
    pub fn refuse(&self, matching: &str, times: usize, status: u16, code: &str, message: &str) {
        lock(&self.shared.state).strikes.push(Strike {
            matching: matching.to_owned(),
            status,
            code: code.to_owned(),
            message: message.to_owned(),
            retry_after: None,
            left: times,
        });
    }

    /// Asks for patience at the next requests whose method and path contain a text.
    pub fn throttle(&self, matching: &str, times: usize, status: u16, seconds: Option<u64>) {
        // https://github.com/magodo/terraform-provider-outlook/issues/21
        lock(&self.shared.state).strikes.push(Strike {
            matching: matching.to_owned(),
            status,
            code: "ApplicationThrottled".to_owned(),
            message: "Application is over its MailboxConcurrency limit.".to_owned(),
            retry_after: seconds,
            left: times,
        });
    }

    /// Ends all refusals that were ordered.
    pub fn heal(&self) {
        lock(&self.shared.state).strikes.clear();
    }

    /// Deletes a mailbox softly, or restores it.
    pub fn set_gone(&self, user: &str, is_gone: bool) {
        let mut state = lock(&self.shared.state);
        if is_gone {
            state.gone.insert(user.to_ascii_lowercase());
        } else {
            state.gone.remove(&user.to_ascii_lowercase());
        }
    }

    /// Changes what the application may do.
    pub fn grant(&self, grants: Vec<(String, Vec<&'static str>)>) {
        lock(&self.shared.state).grants = grants;
    }

    /// Lets delta queries leave out the next messages
    /// (<https://github.com/microsoftgraph/microsoft-graph-docs/issues/2153>).
    pub fn miss(&self, count: usize) {
        lock(&self.shared.state).to_miss = count;
    }

    /// Breaks delta queries, or fixes them.
    pub fn set_trouble(&self, trouble: DeltaTrouble) {
        lock(&self.shared.state).trouble = trouble;
    }

    /// Changes all messages as a client does that marks them as read: delta queries return them
    /// again.
    pub fn touch_all(&self) {
        lock(&self.shared.state).touched += 1;
    }

    /// How many requests were answered with 429 or 503.
    pub fn throttled(&self) -> usize {
        lock(&self.shared.state).throttled
    }

    /// The subjects of messages that were deleted permanently.
    pub fn purged(&self) -> Vec<String> {
        lock(&self.shared.state).purged.clone()
    }
}

/// An answer.
struct Answer {
    status: u16,
    kind: &'static str,
    body: Vec<u8>,
    retry_after: Option<u64>,
}

impl Answer {
    fn json(status: u16, value: &Value) -> Self {
        let kind = "application/json; odata.metadata=minimal; charset=utf-8";
        Self { status, kind, body: value.to_string().into_bytes(), retry_after: None }
    }

    fn empty(status: u16) -> Self {
        Self { status, kind: "", body: Vec::new(), retry_after: None }
    }

    /// An error object (<https://learn.microsoft.com/graph/errors>).
    fn error(status: u16, code: &str, message: &str) -> Self {
        let inner = json!({
            "date": "2026-12-01T09:00:00",
            "request-id": "5c1a61c5-9d63-4a2e-8f6b-0d1f5a0e3a11",
            "client-request-id": "5c1a61c5-9d63-4a2e-8f6b-0d1f5a0e3a11",
        });
        let error = json!({ "code": code, "message": message, "innerError": inner });
        Self::json(status, &json!({ "error": error }))
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    shared.connections.fetch_add(1, Ordering::Relaxed);
    stream.set_nodelay(true)?;
    let authority = &shared.mail.authority;
    let acceptor = TlsAcceptor::from(match shared.options.host.as_str() {
        "localhost" => authority.config(Certificate::Good),
        host => authority.server_for(host),
    });
    let mut stream = acceptor.accept(stream).await?;
    let mut heard = Vec::new();
    while let Some(request) = Request::read(&mut stream, &mut heard).await? {
        let answer = answer(&shared, &request).await;
        let date = shared.mail.server_date(UtcMicros::now()).replace("+0000", "GMT");
        let mut head = format!(
            "HTTP/1.1 {} X\r\nDate: {date}\r\nrequest-id: 5c1a61c5-9d63-4a2e-8f6b-0d1f5a0e3a11\r\n",
            answer.status
        );
        if let Some(seconds) = answer.retry_after {
            head.push_str(&format!("Retry-After: {seconds}\r\n"));
        }
        if answer.status == 204 {
            head.push_str("\r\n");
            stream.write_all(head.as_bytes()).await?;
            continue;
        }
        if !answer.kind.is_empty() {
            head.push_str(&format!("Content-Type: {}\r\n", answer.kind));
        }
        head.push_str("Transfer-Encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        for chunk in answer.body.chunks(8000) {
            stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
            stream.write_all(chunk).await?;
            stream.write_all(b"\r\n").await?;
        }
        stream.write_all(b"0\r\n\r\n").await?;
        stream.flush().await?;
    }
    stream.shutdown().await
}

/// Method, path and query of a request.
struct Asked<'a> {
    method: &'a str,
    path: Vec<String>,
    query: Vec<(String, String)>,
    request: &'a Request,
}

impl<'a> Asked<'a> {
    fn read(request: &'a Request) -> Option<Self> {
        let mut words = request.line.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = path.split('/').skip(1).map(decoded).collect();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decoded(name), decoded(value)))
            .collect();
        Some(Self { method, path, query, request })
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| u8::from_str_radix(text.get(at + 1..at + 3)?, 16).ok())
            .flatten();
        plain.push(hex.unwrap_or(if bytes[at] == b'+' { b' ' } else { bytes[at] }));
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

async fn answer(shared: &Arc<Shared>, request: &Request) -> Answer {
    let Some(asked) = Asked::read(request) else {
        return Answer::error(400, "BadRequest", "The request is malformed or incorrect.");
    };
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    if let [tenant, "oauth2", "v2.0", "token"] = path[..] {
        return tokens::answer(shared, tenant, &asked).await;
    }
    lock(&shared.state).requests.push(request.line.trim_end_matches(" HTTP/1.1").to_owned());
    let ["v1.0", "users", user, rest @ ..] = &path[..] else {
        return Answer::error(400, "BadRequest", "Invalid version or resource.");
    };
    let user = user.to_ascii_lowercase();
    if let Some(refusal) = check(shared, &asked, &user) {
        return refusal;
    }
    let running = {
        let mut state = lock(&shared.state);
        let count = state.running.entry(user.clone()).or_default();
        *count += 1;
        *count
    };
    let answer = if running > MAX_CONCURRENT {
        lock(&shared.state).throttled += 1;
        let message = "Application is over its MailboxConcurrency limit.";
        let mut answer = Answer::error(429, "ApplicationThrottled", message);
        answer.retry_after = Some(1);
        answer
    } else {
        dispatch(shared, &asked, &user, rest).await
    };
    if let Some(count) = lock(&shared.state).running.get_mut(&user) {
        *count -= 1;
    }
    answer
}

/// Refuses what has no valid token, no such mailbox, no permission, or too much haste.
fn check(shared: &Shared, asked: &Asked<'_>, user: &str) -> Option<Answer> {
    let mut state = lock(&shared.state);
    let request = asked.request;
    if !request.field("prefer").is_some_and(|prefer| prefer.contains("IdType=\"ImmutableId\"")) {
        state.violations.push(format!("no immutable ids: {}", request.line));
    }
    let line = request.line.clone();
    let strike =
        state.strikes.iter_mut().find(|strike| strike.left > 0 && line.contains(&strike.matching));
    if let Some(strike) = strike {
        strike.left -= 1;
        let mut answer = Answer::error(strike.status, &strike.code, &strike.message);
        answer.retry_after = strike.retry_after;
        state.throttled += usize::from(matches!(answer.status, 429 | 503));
        return Some(answer);
    }
    let token = request.field("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let Some(token) = token else {
        return Some(Answer::error(401, "InvalidAuthenticationToken", "Access token is empty."));
    };
    // A person's token, of another token server, or one of the application.
    let delegated = shared.mail.options.tokens.graph_roles(token, user);
    let is_valid = state.tokens.get(token).is_some_and(|expires| Instant::now() < *expires);
    if delegated.is_none() && !is_valid {
        let message = "Lifetime validation failed, the token is expired.";
        return Some(Answer::error(401, "InvalidAuthenticationToken", message));
    }
    let of_application = || -> Vec<&str> {
        let grants = state.grants.iter();
        grants
            .filter(|(address, _)| address.is_empty() || address.eq_ignore_ascii_case(user))
            .flat_map(|(_, roles)| roles.iter().copied())
            .collect()
    };
    let roles = delegated.unwrap_or_else(of_application);
    let is_sending = asked.path.last().is_some_and(|last| last == "sendMail" || last == "send");
    let wanted: &[&str] = match asked.method {
        "GET" => &["Mail.Read", "Mail.ReadWrite"],
        _ if is_sending => &["Mail.Send"],
        _ => &["Mail.ReadWrite"],
    };
    if !wanted.iter().any(|role| roles.contains(role)) {
        // https://github.com/O365/python-o365/issues/855
        let message = "Access is denied. Check credentials and try again.";
        return Some(Answer::error(403, "ErrorAccessDenied", message));
    }
    if !shared.mail.mailboxes.exists(user) {
        let message = format!("The requested user '{user}' is invalid.");
        return Some(Answer::error(404, "ErrorInvalidUser", &message));
    }
    if state.gone.contains(user) {
        // https://github.com/microsoft/MicrosoftCloud/issues/41
        let message = "The mailbox is either inactive, soft-deleted, or is hosted on-premise.";
        return Some(Answer::error(404, "MailboxNotEnabledForRESTAPI", message));
    }
    if let Some((most, within, seconds)) = shared.options.burst {
        let recent = state.recent.entry(user.to_owned()).or_default();
        let now = Instant::now();
        recent.retain(|at| now - *at < within);
        if recent.len() >= most {
            state.throttled += 1;
            let message = "Application is over its request limit.";
            let mut answer = Answer::error(429, "ApplicationThrottled", message);
            answer.retry_after = Some(seconds);
            return Some(answer);
        }
        recent.push_back(now);
    }
    None
}

async fn dispatch(shared: &Arc<Shared>, asked: &Asked<'_>, user: &str, rest: &[&str]) -> Answer {
    match (asked.method, rest) {
        ("GET", ["mailFolders"]) => mail::folders(shared, asked, user),
        ("GET", ["mailFolders", _, "childFolders"]) => Answer::json(200, &json!({ "value": [] })),
        ("GET", ["mailFolders", folder]) => mail::folder(shared, user, folder),
        ("GET", ["mailFolders", folder, "messages"]) => mail::list(shared, asked, user, folder),
        ("GET", ["mailFolders", folder, "messages", "delta"]) => {
            mail::delta(shared, asked, user, folder)
        }
        ("GET", ["messages", id, "$value"]) => mail::content(shared, user, id),
        ("GET", ["messages", id]) => mail::properties(shared, asked, user, id),
        ("POST", ["messages", id, "permanentDelete"]) if shared.options.permanent_delete => {
            mail::purge(shared, user, id)
        }
        ("DELETE", ["messages", id]) => mail::delete(shared, user, id),
        ("POST", ["messages"]) => sending::draft(shared, asked, user),
        ("PATCH", ["messages", id]) => sending::change(shared, asked, user, id),
        ("POST", ["messages", id, "send"]) => sending::send(shared, user, id),
        ("POST", ["sendMail"]) => sending::send_mail(shared, asked, user),
        (_, [.., last]) => {
            let message = format!("Resource not found for the segment '{last}'.");
            Answer::error(400, "BadRequest", &message)
        }
        (_, []) => Answer::error(400, "BadRequest", "Resource not found."),
    }
}

impl Shared {
    /// The identifier of a message, which stays the same wherever it is moved.
    fn id(&self, state: &mut State, user: &str, folder: &str, uid: u32) -> String {
        let place = (user.to_owned(), folder.to_owned(), uid);
        if let Some((id, _)) = state.ids.iter().find(|(_, known)| **known == place) {
            return id.clone();
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let id = format!("AAkALgAAAAAAHYQDEapmEc2byACqAC-EWg0A{number:08x}_AAA=");
        state.ids.insert(id.clone(), place);
        id
    }

    /// Where the message of an identifier lies.
    fn find(&self, user: &str, id: &str) -> Option<(String, u32)> {
        let state = lock(&self.state);
        let (owner, folder, uid) = state.ids.get(id)?;
        (owner == user).then(|| (folder.clone(), *uid))
    }
}
