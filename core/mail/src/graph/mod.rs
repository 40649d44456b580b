//! Microsoft Graph (<https://learn.microsoft.com/graph/api/resources/mail-api-overview>): requests
//! for one mailbox on a recorded connection, with throttling. The token is never sent to another
//! server.

mod failure;
mod http;
mod sending;

use std::time::{Duration, Instant};

use mailqos_base::Secret;
use mailqos_config::Endpoint;
use mailqos_model::{Micros, UtcMicros};

pub(crate) use failure::remedy;
pub use failure::{GraphError, Refusal};
pub use sending::{MAX_MIME, SendPhases, Sender, for_recipients};

use super::{Credentials, Wire, WireError};
use http::{HEAD_ROOM, HttpFailure, Reply};

/// Version of the API, the only one intended for production.
const VERSION: &str = "/v1.0";
/// Maximum number of bytes read of an error's content.
const MAX_ERROR: usize = 64 * 1024;
/// First wait if the service asks clients to wait without stating how long. It doubles from then on
/// (<https://learn.microsoft.com/graph/throttling#best-practices-to-handle-throttling>).
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest of these waits.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Destination of a request.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// A path below the mailbox, with its query: `/mailFolders/inbox?$select=id`.
    Mailbox(&'a str),
    /// A link that an earlier response contained.
    Link(&'a str),
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Method, such as `GET` or `POST`.
    pub method: &'static str,
    /// Destination of the request.
    pub target: Target<'a>,
    /// Media type and content of the body.
    pub body: Option<(&'static str, &'a [u8])>,
    /// Maximum number of bytes read of the response's content.
    pub most: usize,
    /// Maximum number of entries per page, for listings.
    pub page: Option<u32>,
}

impl<'a> Request<'a> {
    /// Creates a GET request for a path below the mailbox.
    pub fn get(path: &'a str, most: usize) -> Self {
        Self { method: "GET", target: Target::Mailbox(path), body: None, most, page: None }
    }

    /// Creates a POST request for a path below the mailbox.
    pub fn post(path: &'a str, body: Option<(&'static str, &'a [u8])>, most: usize) -> Self {
        Self { method: "POST", body, ..Self::get(path, most) }
    }
}

/// A successful response.
#[derive(Debug, Clone)]
pub struct Response {
    /// HTTP status, 2xx.
    pub status: u16,
    /// The content, or its beginning.
    pub body: Vec<u8>,
    /// Whether the content exceeded the limit.
    pub is_cut: bool,
    /// Time at which the answered request started.
    pub asked: Instant,
    /// Time at which the last byte of the response was received.
    pub ended: Instant,
}

impl Response {
    /// Parses the content as JSON.
    ///
    /// # Errors
    /// The content is not valid JSON, or is truncated.
    pub fn json(&self) -> Result<serde_json::Value, GraphError> {
        let unreadable = |reason: &str| {
            GraphError::Unreadable(format!(
                "Microsoft Graph did not return valid JSON ({} bytes: {reason})",
                self.body.len()
            ))
        };
        if self.is_cut {
            return Err(unreadable("too long"));
        }
        // The parser's error is not shown, because it may quote other people's mail.
        serde_json::from_slice(&self.body).map_err(|_| unreadable("malformed"))
    }

    /// Returns the duration of the request.
    pub fn took(&self) -> Micros {
        Micros::from(self.ended.saturating_duration_since(self.asked))
    }
}

/// A session with Microsoft Graph about one mailbox.
pub struct Graph {
    /// The connection.
    pub wire: Wire,
    endpoint: Endpoint,
    step: Duration,
    /// `users/ADDRESS`, percent-encoded.
    mailbox: String,
    token: Secret,
    /// Whether the server has closed the connection, or it is no longer usable.
    is_over: bool,
    /// Whether a response was received over the connection, so that the server may close it when
    /// idle.
    was_used: bool,
    /// Deadline for waits that the service requests.
    patience: Instant,
    /// Minimum and maximum by which the server's clock is ahead of this machine's.
    clock: Option<(Micros, Micros)>,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Graph {
    /// Creates a session on a newly opened connection. Each request may take `step`, and waits
    /// requested by the service end at `patience`.
    pub fn new(
        wire: Wire,
        endpoint: &Endpoint,
        credentials: &Credentials,
        step: Duration,
        patience: Instant,
    ) -> Self {
        let mut graph = Self {
            wire,
            endpoint: endpoint.clone(),
            step,
            mailbox: format!("{VERSION}/users/{}", encoded(&credentials.user)),
            token: credentials.secret.clone(),
            is_over: false,
            was_used: false,
            patience,
            clock: None,
        };
        graph.use_token(credentials);
        graph
    }

    /// Uses another token for further requests.
    pub fn use_token(&mut self, credentials: &Credentials) {
        self.token = credentials.secret.clone();
        self.wire.hide(&self.token);
    }

    /// Sets the deadline for waits.
    pub fn wait_until(&mut self, patience: Instant) {
        self.patience = patience;
    }

    /// Returns the minimum and maximum by which the server's clock is ahead of this machine's,
    /// based on the `Date` of its responses.
    pub fn clock(&self) -> Option<(Micros, Micros)> {
        self.clock
    }

    /// Sends a request, repeats it after waits that the service requests, and returns the
    /// successful response.
    ///
    /// # Errors
    /// The connection failed, the service refused, or there is no time for the wait.
    pub async fn send(&mut self, request: &Request<'_>) -> Result<Response, GraphError> {
        let target = self.target(request.target)?;
        let mut own_wait = FIRST_WAIT;
        loop {
            let asked = Instant::now();
            let reply = self.exchange(request, &target).await?;
            let ended = self.wire.received_at();
            if (200..300).contains(&reply.status) {
                return Ok(Response {
                    status: reply.status,
                    body: reply.body,
                    is_cut: reply.is_cut,
                    asked,
                    ended,
                });
            }
            let retry_after = reply
                .field("retry-after")
                .and_then(|text| mailqos_net::http::parse_retry_after(text, UtcMicros::now()));
            let secrets = [self.token.clone()];
            let refusal = Refusal::read(reply.status, &reply.body, retry_after, &secrets);
            if !refusal.is_throttling() {
                return Err(GraphError::Refused(refusal));
            }
            // A service that asks for no wait at all must not be asked in a loop.
            let asked_for = refusal.retry_after.filter(|wait| !wait.is_zero());
            let wait = asked_for.unwrap_or(own_wait);
            own_wait = (own_wait * 2).min(LONGEST_WAIT);
            if Instant::now() + wait > self.patience {
                let text = format!(
                    "throttled ({}); asked to wait {}, for which there is no time",
                    reply.status,
                    Micros::from(wait)
                );
                self.wire.note(&text);
                let wait = Micros::from(wait);
                return Err(GraphError::Throttled { refusal, wait });
            }
            let text = format!("throttled ({}); waiting {}", reply.status, Micros::from(wait));
            self.wire.note(&text);
            tokio::time::sleep(wait).await;
        }
    }

    /// Returns the target of a request for its first line.
    fn target(&self, target: Target<'_>) -> Result<String, GraphError> {
        let link = match target {
            Target::Mailbox(path) => return Ok(format!("{}{path}", self.mailbox)),
            Target::Link(link) => link,
        };
        // The token must not be sent to another server, whatever a response contains.
        let foreign = || {
            GraphError::Unreadable("Microsoft Graph returned a link to another server".to_owned())
        };
        let rest = link.strip_prefix("https://").ok_or_else(foreign)?;
        let slash = rest.find('/').ok_or_else(foreign)?;
        let (authority, path) = rest.split_at(slash);
        let bare = self.endpoint.server.trim_end_matches('.');
        let is_ours = authority.eq_ignore_ascii_case(&self.host())
            || (self.endpoint.port == 443 && authority.eq_ignore_ascii_case(bare))
            || authority.eq_ignore_ascii_case(&format!("{bare}:{}", self.endpoint.port));
        let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
        match is_ours && is_plain {
            true => Ok(path.to_owned()),
            false => Err(foreign()),
        }
    }

    /// Returns the value of the field `Host`.
    fn host(&self) -> String {
        let Endpoint { server, port, .. } = &self.endpoint;
        let server = match server.contains(':') {
            true => format!("[{server}]"),
            false => server.clone(),
        };
        match port {
            443 => server,
            port => format!("{server}:{port}"),
        }
    }

    /// Sends a request once. If the server has closed the connection in the meantime, it is opened
    /// again.
    async fn exchange(&mut self, request: &Request<'_>, target: &str) -> Result<Reply, GraphError> {
        if self.is_over {
            self.reopen().await?;
        }
        let may_be_stale = self.was_used;
        match self.exchange_once(request, target).await {
            // An idle connection was closed before the request arrived; a request that only reads
            // may be repeated.
            Err(HttpFailure::Wire(WireError::Closed | WireError::Broken(_)))
                if may_be_stale && request.method == "GET" =>
            {
                self.reopen().await?;
                Ok(self.exchange_once(request, target).await?)
            }
            result => Ok(result?),
        }
    }

    async fn reopen(&mut self) -> Result<(), GraphError> {
        self.was_used = false;
        self.wire.reopen(&self.endpoint, self.step).await?;
        self.is_over = false;
        Ok(())
    }

    async fn exchange_once(
        &mut self,
        request: &Request<'_>,
        target: &str,
    ) -> Result<Reply, HttpFailure> {
        let mut fields = vec![
            ("Authorization", Secret::new(format!("Bearer {}", self.token.expose()))),
            ("Accept", Secret::new("*/*")),
        ];
        // Requests identifiers that stay the same when a message is moved
        // (https://learn.microsoft.com/graph/outlook-immutable-id).
        let prefer = match request.page {
            Some(page) => format!("IdType=\"ImmutableId\", odata.maxpagesize={page}"),
            None => "IdType=\"ImmutableId\"".to_owned(),
        };
        fields.push(("Prefer", Secret::new(prefer)));
        let body = request.body.map(|(kind, body)| {
            fields.push(("Content-Type", Secret::new(kind)));
            body
        });
        let length = match request.method {
            "GET" => None,
            _ => Some(body.map_or(0, <[u8]>::len)),
        };
        let head = http::head(request.method, target, &self.host(), &fields, length);
        // Until the response has been read, the connection can't be used for another request.
        self.is_over = true;
        self.wire.begin(self.step, request.most.max(MAX_ERROR) + HEAD_ROOM);
        let asked_at = UtcMicros::now();
        self.wire.send(&head).await?;
        if let Some(body) = body {
            self.wire.send(body).await?;
        }
        let reply = http::read(&mut self.wire, request.most.max(MAX_ERROR)).await?;
        self.is_over = !reply.keeps_open;
        self.was_used = true;
        self.note_clock(&reply, asked_at);
        Ok(reply)
    }

    /// Updates the clock bounds from the field `Date`, which has whole seconds (RFC 9110, section
    /// 6.6.1).
    fn note_clock(&mut self, reply: &Reply, asked_at: UtcMicros) {
        let Some(date) = reply.field("date").and_then(mailqos_net::http::parse_date) else {
            return;
        };
        let (least, most) = (date - UtcMicros::now(), date + Micros::from_secs(1) - asked_at);
        let is_first = self.clock.is_none();
        let (least, most) = match self.clock {
            // Several machines respond under one name; if they disagree, the last one counts.
            Some((known_least, known_most)) if known_least.max(least) <= known_most.min(most) => {
                (known_least.max(least), known_most.min(most))
            }
            _ => (least, most),
        };
        self.clock = Some((least, most));
        if is_first {
            let text = format!("the server's clock is {least} to {most} ahead of this machine's");
            self.wire.note(&text);
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.wire.close().await;
    }
}

impl From<HttpFailure> for GraphError {
    fn from(failure: HttpFailure) -> Self {
        match failure {
            HttpFailure::Wire(error) => Self::Wire(error),
            HttpFailure::Invalid(_) => Self::Unreadable(failure.to_string()),
        }
    }
}

/// Percent-encodes a segment of a path (RFC 3986, section 3.3).
pub fn encoded(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@=".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use mailqos_config::TlsMode;
    use mailqos_net::Trust;

    use super::*;

    const STEP: Duration = Duration::from_secs(5);

    fn graph(said: &str, server: &str, port: u16) -> Graph {
        let endpoint = Endpoint {
            server: server.to_owned(),
            port,
            tls: TlsMode::Implicit,
            trust: Trust::default(),
            account: None,
            helo: None,
            proxy: None,
        };
        let credentials = Credentials::token("a b@contoso.com", Secret::new("Token-8Wq-Token"));
        let wire = Wire::scripted(said.as_bytes().to_vec(), STEP);
        Graph::new(wire, &endpoint, &credentials, STEP, Instant::now() + STEP)
    }

    #[tokio::test]
    async fn a_token_is_never_sent_to_another_server() {
        let graph = graph("", "graph.microsoft.com", 443);
        for (link, path) in [
            (
                "https://graph.microsoft.com/v1.0/x?$deltatoken=a%20b",
                Some("/v1.0/x?$deltatoken=a%20b"),
            ),
            ("https://GRAPH.microsoft.com:443/x", Some("/x")),
            ("https://graph.microsoft.com:8443/x", None),
            ("https://graph.microsoft.com.evil.example/x", None),
            ("https://graph.microsoft.com@evil.example/x", None),
            ("http://graph.microsoft.com/x", None),
            ("https://graph.microsoft.com/x HTTP/1.1\r\nX: y", None),
            ("https://graph.microsoft.com", None),
            ("/x", None),
        ] {
            assert_eq!(graph.target(Target::Link(link)).ok().as_deref(), path, "{link}");
        }
        let own = graph.target(Target::Mailbox("/messages")).expect("a path");
        assert_eq!(own, "/v1.0/users/a%20b@contoso.com/messages");
        let other = self::graph("", "localhost", 4433);
        assert!(other.target(Target::Link("https://localhost:4433/x")).is_ok());
        assert!(other.target(Target::Link("https://localhost/x")).is_err());
    }

    #[tokio::test]
    async fn the_wait_that_the_service_asks_for_is_kept_and_written_down() {
        let throttled =
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let mut one = graph(&format!("{throttled}{ok}"), "localhost", 443);
        let began = Instant::now();
        let response = one.send(&Request::get("/x", 100)).await.expect("an answer");
        assert_eq!(response.status, 200);
        assert!(began.elapsed() >= Duration::from_secs(1));
        let chunks = one.wire.transcript().chunks();
        let notes: Vec<_> =
            chunks.map(|chunk| String::from_utf8_lossy(&chunk.bytes).into_owned()).collect();
        assert!(notes.iter().any(|note| note.contains("throttled (429); waiting 1")), "{notes:?}");
        assert!(!notes.iter().any(|note| note.contains("Token-8Wq")), "{notes:?}");
        let long = throttled.replace(": 1", ": 600");
        let mut two = graph(&long, "localhost", 443);
        let error = two.send(&Request::get("/x", 100)).await.expect_err("no time");
        let is_long =
            matches!(error, GraphError::Throttled { wait, .. } if wait == Micros::from_secs(600));
        assert!(is_long, "{error:?}");
    }

    #[tokio::test]
    async fn the_date_of_responses_bounds_the_servers_clock() {
        let date =
            "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: 2\r\n\r\n{}";
        let mut graph = graph(date, "localhost", 443);
        graph.send(&Request::get("/x", 100)).await.expect("an answer");
        let (least, most) = graph.clock().expect("a clock");
        let width = most - least;
        assert!(
            most < Micros::ZERO && width >= Micros::from_secs(1) && width < Micros::from_secs(30),
            "{least} {most}"
        );
    }
}
