//! A small HTTP/1.1 client on hyper and rustls: one request and one response, with a deadline and a
//! size limit. It does not follow redirects or reuse connections, which webhooks and token servers
//! don't need.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method,
    body::Bytes,
    header::{
        CONTENT_LENGTH, HOST, HeaderName, HeaderValue, LOCATION, PROXY_AUTHORIZATION, RETRY_AFTER,
        USER_AGENT,
    },
};
use hyper_util::rt::TokioIo;
use mailqos_base::{Secret, one_line};
use mailqos_model::{Micros, UtcMicros};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

pub use crate::place::{HttpError, Place};
use crate::{Trust, client_config, connect::connect_any, proxy::Proxy};

/// Maximum size of a response's head in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Maximum wait accepted from a server (Retry-After).
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A request to a server. It has no `Debug`, because the content may contain secrets.
#[derive(Clone)]
pub struct Request {
    /// Method, such as `GET` or `POST`.
    pub method: String,
    /// URL, `http://…` or `https://…`. It is secret, because the URLs of webhooks are.
    pub url: Secret,
    /// Header fields; their values may be secrets.
    pub headers: Vec<(String, Secret)>,
    /// The content of the request.
    pub body: Vec<u8>,
    /// Route to the server.
    pub via: Route,
}

/// Route to a server.
#[derive(Clone, Default)]
pub enum Route {
    /// The proxy from the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`), unless `NO_PROXY`
    /// exempts the server.
    #[default]
    Environment,
    /// No proxy.
    Direct,
    /// This proxy: `http://[USER:PASSWORD@]HOST[:PORT]`.
    Proxy(Secret),
    /// This proxy, except for servers in a list like `NO_PROXY`.
    ProxyExcept(Secret, String),
}

impl Route {
    /// Returns the proxy for a server, if any.
    fn proxy(&self, place: &Place) -> Result<Option<Proxy>, HttpError> {
        match self {
            Self::Environment => Proxy::of_environment(place),
            Self::Direct => Ok(None),
            Self::Proxy(address) => Proxy::parse(address.expose()).map(Some),
            Self::ProxyExcept(address, exempt) => {
                Proxy::unless_exempt(address.expose(), place, exempt)
            }
        }
    }

    /// Returns host and port of the proxy that this route uses for a server, if any, without its
    /// password.
    ///
    /// # Errors
    /// The address of the proxy is invalid.
    pub fn proxy_for(&self, place: &Place) -> Result<Option<String>, HttpError> {
        Ok(self.proxy(place)?.map(|proxy| proxy.place.server()))
    }
}

/// Validates the address of a proxy.
///
/// # Errors
/// Describes the problem without the address, which may contain a password.
pub fn check_proxy(address: &str) -> Result<(), HttpError> {
    Proxy::parse(address).map(|_| ())
}

/// A server's response.
#[derive(Debug, Clone)]
pub struct Response {
    /// HTTP status code.
    pub status: u16,
    /// The content, or its beginning if it is too long.
    pub body: Vec<u8>,
    /// Whether the content exceeded the limit.
    pub truncated: bool,
    /// How long the server asks clients to wait (RFC 9110, section 10.2.3), at most an hour.
    pub retry_after: Option<Duration>,
    /// Destination of a redirect (RFC 9110, section 10.2.2), which is not followed.
    pub location: Option<String>,
}

impl Response {
    /// Returns whether the status indicates success (2xx).
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the status and the beginning of the content in one line, for messages, with the
    /// given secrets removed.
    pub fn summary(&self, secrets: &[Secret]) -> String {
        let text = one_line(&String::from_utf8_lossy(&self.body), secrets);
        let separator = if text.is_empty() { "" } else { ": " };
        format!("HTTP {}{separator}{text}", self.status)
    }
}

/// Sends a request and returns the response with at most `most` bytes of content, all within
/// `deadline`.
///
/// # Errors
/// There is no response. A response with an error status (4xx, 5xx) is not an error.
pub async fn send(
    request: &Request,
    trust: &Trust,
    deadline: Duration,
    most: usize,
) -> Result<Response, HttpError> {
    let place = Place::parse(request.url.expose())?;
    let proxy = request.via.proxy(&place)?;
    let asked = AtomicBool::new(false);
    let conversation = async {
        let stream = open(&place, proxy.as_ref(), trust, deadline).await?;
        // From now on the server may have received the request.
        asked.store(true, Ordering::Relaxed);
        let forwarding = proxy.as_ref().filter(|_| !place.tls);
        let answer = exchange(stream, request, &place, forwarding, most).await?;
        match forwarding {
            // This is the proxy's own response: the server has not received the request.
            Some(proxy) if answer.status == 407 => Err(proxy.refusal(answer.status, "")),
            _ => Ok(answer),
        }
    };
    match tokio::time::timeout(deadline, conversation).await {
        Ok(result) => result,
        Err(_) if asked.load(Ordering::Relaxed) => {
            Err(HttpError::TimedOut { server: place.server(), after: Micros::from(deadline) })
        }
        Err(_) => Err(HttpError::Connect {
            server: proxy.as_ref().map_or_else(|| place.server(), |proxy| proxy.place.server()),
            reason: format!("not connected within {}", Micros::from(deadline)),
        }),
    }
}

/// A connection, plain or encrypted, possibly through a tunnel.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> Connection for S {}

/// A connection to a server through a proxy.
pub struct Tunnel {
    /// The connection; the server's TLS handshake comes next.
    pub stream: Box<dyn Connection>,
    /// Host and port of the proxy.
    pub proxy: String,
    /// The address of the proxy.
    pub peer: SocketAddr,
    /// The local address.
    pub local: Option<SocketAddr>,
}

/// Opens a tunnel to a server for TLS, within `deadline`; `None` if the route has no proxy for it.
/// `trust` applies to a proxy that is reached over TLS.
///
/// # Errors
/// The proxy's address is invalid, or the proxy can't be reached, or refuses.
pub async fn tunnel(
    route: &Route,
    (server, port): (&str, u16),
    trust: &Trust,
    deadline: Duration,
) -> Result<Option<Tunnel>, HttpError> {
    let place = Place::new(true, server, port);
    let Some(proxy) = route.proxy(&place)? else { return Ok(None) };
    let failed = |reason: String| HttpError::Connect { server: proxy.place.server(), reason };
    let opening = async {
        let stream = connect_any(&proxy.place.host, proxy.place.port, deadline)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let _ = stream.set_nodelay(true);
        let peer = stream.peer_addr().map_err(|error| failed(error.to_string()))?;
        let local = stream.local_addr().ok();
        let stream = through(&proxy, Box::new(stream), &place, trust).await?;
        Ok(Tunnel { stream, proxy: proxy.place.server(), peer, local })
    };
    match tokio::time::timeout(deadline, opening).await {
        Ok(result) => result.map(Some),
        Err(_) => Err(failed(format!("no tunnel within {}", Micros::from(deadline)))),
    }
}

/// Requests a tunnel over a connection to the proxy, which is encrypted first if the proxy wants it.
async fn through(
    proxy: &Proxy,
    mut stream: Box<dyn Connection>,
    place: &Place,
    trust: &Trust,
) -> Result<Box<dyn Connection>, HttpError> {
    if proxy.place.tls {
        stream = encrypt(stream, &proxy.place, trust).await?;
    }
    if place.tls {
        proxy.tunnel(&mut stream, place).await?;
    }
    Ok(stream)
}

/// Opens the connection for a request.
async fn open(
    place: &Place,
    proxy: Option<&Proxy>,
    trust: &Trust,
    deadline: Duration,
) -> Result<Box<dyn Connection>, HttpError> {
    let first = proxy.map_or(place, |proxy| &proxy.place);
    let stream = connect_any(&first.host, first.port, deadline).await.map_err(|error| {
        HttpError::Connect { server: first.server(), reason: error.to_string() }
    })?;
    let _ = stream.set_nodelay(true);
    let mut stream: Box<dyn Connection> = Box::new(stream);
    if let Some(proxy) = proxy {
        stream = through(proxy, stream, place, trust).await?;
    }
    if place.tls {
        stream = encrypt(stream, place, trust).await?;
    }
    Ok(stream)
}

async fn encrypt(
    stream: Box<dyn Connection>,
    place: &Place,
    trust: &Trust,
) -> Result<Box<dyn Connection>, HttpError> {
    let failed = |reason: String| HttpError::Tls { server: place.server(), reason };
    let config = client_config(trust).map_err(|error| failed(error.to_string()))?;
    let name = ServerName::try_from(place.host.clone())
        .map_err(|_| failed("neither a host name nor an IP address".to_owned()))?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| failed(error.to_string()))?;
    Ok(Box::new(stream))
}

/// Parses how long the server asks clients to wait: seconds, or a date.
fn retry_after(value: &HeaderValue, now: UtcMicros) -> Option<Duration> {
    parse_retry_after(value.to_str().ok()?, now)
}

/// Parses a field `Retry-After` (RFC 9110, section 10.2.3): the wait, at most an hour.
pub fn parse_retry_after(text: &str, now: UtcMicros) -> Option<Duration> {
    let text = text.trim();
    let asked = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number of seconds that overflows is replaced by the maximum.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let micros = http_date(text)?.as_microsecond() - now.0;
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    };
    Some(asked.min(MAX_RETRY_AFTER))
}

/// Parses a field `Date`, such as `Tue, 01 Dec 2026 09:00:00 GMT`.
pub fn parse_date(text: &str) -> Option<UtcMicros> {
    http_date(text.trim()).map(|at| UtcMicros(at.as_microsecond()))
}

/// Parses a date in one of the three forms that RFC 9110, section 5.6.7, requires; all are in UTC.
fn http_date(text: &str) -> Option<jiff::Timestamp> {
    if let Ok(date) = jiff::fmt::rfc2822::parse(text) {
        return Some(date.timestamp());
    }
    ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .iter()
        .find_map(|form| jiff::civil::DateTime::strptime(form, text).ok())
        .and_then(|moment| jiff::tz::TimeZone::UTC.to_timestamp(moment).ok())
}

/// Parses seconds with a fraction, as Discord and others write them.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    patience_of(value.to_str().ok()?.trim().parse().ok()?)
}

/// Converts seconds to a wait of at most an hour.
pub fn patience_of(seconds: f64) -> Option<Duration> {
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(MAX_RETRY_AFTER.as_secs_f64())))
}

/// Returns how long the server asks clients to wait, from any of the header fields in use.
fn patience(answer: &hyper::Response<hyper::body::Incoming>) -> Option<Duration> {
    let field = |name: &str| answer.headers().get(name);
    let is_refusal = matches!(answer.status().as_u16(), 429 | 503);
    let own = field(RETRY_AFTER.as_str())
        .and_then(|value| retry_after(value, UtcMicros::now()).or_else(|| seconds(value)));
    own.or_else(|| {
        // In other responses these fields describe the next window, for which there is no need to
        // wait.
        let names = ["x-ratelimit-reset-after", "ratelimit-reset"];
        names.iter().filter(|_| is_refusal).find_map(|name| seconds(field(name)?))
    })
}

/// Returns the destination of a redirect.
fn location(answer: &hyper::Response<hyper::body::Incoming>) -> Option<String> {
    let value = answer.headers().get(LOCATION).filter(|_| answer.status().is_redirection())?;
    value.to_str().ok().map(str::to_owned)
}

/// Sends the request on an open connection. `forwarding` is the proxy that forwards the request.
async fn exchange<S>(
    stream: S,
    request: &Request,
    place: &Place,
    forwarding: Option<&Proxy>,
    most: usize,
) -> Result<Response, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| HttpError::Broken {
        server: place.server(),
        reason: error.to_string(),
    };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        // A response with an invalid field is still a response: treating it as a failure would
        // repeat the request and notify people twice.
        .ignore_invalid_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let request = compose(request, place, forwarding)?;
    let asking = async {
        let mut answer = sender.send_request(request).await.map_err(broken)?;
        let mut response = Response {
            status: answer.status().as_u16(),
            body: Vec::new(),
            truncated: false,
            retry_after: patience(&answer),
            location: location(&answer),
        };
        while let Some(frame) = answer.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                // The request succeeded; only the content of the response is cut off.
                Err(_) if response.is_success() => {
                    response.truncated = true;
                    break;
                }
                Err(error) => return Err(broken(error)),
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let room = most - response.body.len();
            response.body.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                response.truncated = true;
                break;
            }
        }
        Ok(response)
    };
    // The exchange ends when either the response or the connection does, so an endless response is
    // cut off. A connection that breaks after a complete response does not invalidate it: repeating
    // the request would notify people twice.
    let mut connection = Box::pin(connection);
    tokio::pin!(asking);
    tokio::select! {
        response = &mut asking => response,
        ended = &mut connection => {
            drop(connection);
            match asking.await {
                Ok(response) => Ok(response),
                Err(error) => {
                    ended.map_err(broken)?;
                    Err(error)
                }
            }
        }
    }
}

/// Returns the response from a server that sends these bytes whatever it receives, for the fuzz
/// targets.
#[cfg(feature = "test-hooks")]
pub async fn replay(said: Vec<u8>, request: &Request, most: usize) -> Result<Response, HttpError> {
    let place = Place::parse(request.url.expose())?;
    let (ours, mut theirs) = tokio::io::duplex(MAX_HEAD);
    let server = async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut heard = [0; 4096];
        if theirs.read(&mut heard).await.is_ok() {
            // If the receiver is gone, it has read enough.
            let _ = theirs.write_all(&said).await;
        }
    };
    let (answer, ()) = tokio::join!(exchange(ours, request, &place, None, most), server);
    answer
}

fn compose(
    request: &Request,
    place: &Place,
    forwarding: Option<&Proxy>,
) -> Result<hyper::Request<Full<Bytes>>, HttpError> {
    let method = Method::from_bytes(request.method.as_bytes())
        .map_err(|_| HttpError::Header("method".to_owned()))?;
    let host =
        if place.host.contains(':') { format!("[{}]", place.host) } else { place.host.clone() };
    let usual = if place.tls { 443 } else { 80 };
    let host = if place.port == usual { host } else { format!("{host}:{}", place.port) };
    // A proxy gets the full address (RFC 9112, section 3.2.2).
    let target = match forwarding {
        Some(_) => format!("http://{host}{}", place.path),
        None => place.path.clone(),
    };
    let mut composed = hyper::Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, host)
        .header(USER_AGENT, concat!("mailqos/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_LENGTH, request.body.len());
    if let Some(login) = forwarding.and_then(|proxy| proxy.authorization.as_ref()) {
        let wrong = |_| HttpError::Header("proxy-authorization".to_owned());
        let mut value = HeaderValue::from_str(login.expose()).map_err(wrong)?;
        value.set_sensitive(true);
        composed = composed.header(PROXY_AUTHORIZATION, value);
    }
    for (name, value) in &request.headers {
        let wrong = || HttpError::Header(name.clone());
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value.expose())
            .or_else(|_| HeaderValue::from_bytes(value.expose().as_bytes()))
            .map_err(|_| wrong())?;
        value.set_sensitive(true);
        composed = composed.header(header, value);
    }
    composed
        .body(Full::new(Bytes::from(request.body.clone())))
        .map_err(|error| HttpError::Url(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        pin::Pin,
        task::{Context, Poll, Waker},
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, ReadBuf},
        net::TcpListener,
    };

    /// Starts a server that reads a request's head and then writes `chunk`, `times` times.
    async fn server(
        head: &'static str,
        chunk: Vec<u8>,
        times: usize,
    ) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook?x=1", listener.local_addr().expect("an address"));
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut heard = Vec::new();
            while !heard.windows(4).any(|window| window == b"\r\n\r\n") {
                let mut space = [0; 4096];
                let count = stream.read(&mut space).await.expect("bytes");
                heard.extend_from_slice(&space[..count]);
            }
            stream.write_all(head.as_bytes()).await.expect("the head");
            for _ in 0..times {
                if stream.write_all(&chunk).await.is_err() {
                    break;
                }
            }
            String::from_utf8_lossy(&heard).into_owned()
        });
        (url, task)
    }

    fn request(url: &str) -> Request {
        Request {
            method: "POST".into(),
            url: Secret::new(url),
            headers: vec![("authorization".into(), Secret::new("Bearer x"))],
            body: b"{}".to_vec(),
            via: Route::Direct,
        }
    }

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_request_is_answered() {
        let (url, task) =
            server("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n", b"ok".to_vec(), 1).await;
        let answer = send(&request(&url), &Trust::default(), SOON, 1024).await.expect("an answer");
        assert_eq!(
            (answer.status, answer.body.as_slice(), answer.truncated),
            (202, &b"ok"[..], false)
        );
        let heard = task.await.expect("the server");
        assert!(heard.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{heard}");
        assert!(heard.to_ascii_lowercase().contains("authorization: bearer x"), "{heard}");
    }

    #[tokio::test]
    async fn an_endless_reply_is_cut_off() {
        // Ten gigabytes, if all of them are read.
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n";
        let (url, task) = server(head, vec![b'x'; 1 << 20], 10 * 1024).await;
        let answer = send(&request(&url), &Trust::default(), SOON, 1000).await.expect("an answer");
        assert_eq!((answer.status, answer.body.len(), answer.truncated), (200, 1000, true));
        task.await.expect("the server finds the connection closed");
    }

    #[tokio::test]
    async fn silence_and_an_endless_head_are_errors() {
        let (url, _task) = server("", Vec::new(), 0).await;
        // The server closes the connection; an address that accepts connections but does not
        // respond is the listener's own backlog.
        assert!(matches!(
            send(&request(&url), &Trust::default(), SOON, 10).await,
            Err(HttpError::Broken { .. })
        ));
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", silent.local_addr().expect("an address"));
        assert!(matches!(
            send(&request(&url), &Trust::default(), Duration::from_millis(50), 10).await,
            Err(HttpError::TimedOut { .. })
        ));
        let (url, _task) = server(
            "HTTP/1.1 200 OK\r\n",
            b"X-Header: aaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".to_vec(),
            1 << 22,
        )
        .await;
        assert!(matches!(
            send(&request(&url), &Trust::default(), SOON, 10).await,
            Err(HttpError::Broken { .. })
        ));
    }

    /// A server that sends its whole response after the first bytes it receives, and then resets
    /// the connection.
    struct Reset {
        said: std::io::Cursor<&'static [u8]>,
        heard: bool,
        waiting: Option<Waker>,
    }

    impl Reset {
        fn saying(text: &'static str) -> Self {
            Self { said: std::io::Cursor::new(text.as_bytes()), heard: false, waiting: None }
        }
    }

    impl AsyncRead for Reset {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            if !self.heard {
                self.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if self.said.position() == self.said.get_ref().len() as u64 {
                return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
            }
            Pin::new(&mut self.said).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Reset {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            self.heard = true;
            if let Some(waiting) = self.waiting.take() {
                waiting.wake();
            }
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_complete_response_counts_even_if_the_connection_then_breaks() {
        let place = Place::parse("http://script/").expect("an address");
        for _ in 0..20 {
            let stream = Reset::saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            let answer = exchange(stream, &request("http://script/"), &place, None, 100)
                .await
                .expect("an answer");
            assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]));
        }
        // A success counts even if its content is cut off; the content of a failure is then
        // unknown.
        let stream = Reset::saying("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok");
        let cut = exchange(stream, &request("http://script/"), &place, None, 100).await;
        let cut = cut.expect("an answer");
        assert_eq!((cut.status, cut.truncated), (200, true));
        let stream = Reset::saying("HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nok");
        let broken = exchange(stream, &request("http://script/"), &place, None, 100).await;
        assert!(matches!(broken, Err(HttpError::Broken { .. })));
        let odd = "HTTP/1.1 202 Accepted\r\nX-Odd Field: 1\r\nX-Folded: a\r\n b\r\nContent-Length: 0\r\n\r\n";
        let answer =
            exchange(Reset::saying(odd), &request("http://script/"), &place, None, 100).await;
        assert_eq!(answer.expect("an answer").status, 202);
    }

    #[tokio::test]
    async fn a_proxy_gets_the_destination_and_the_credentials() {
        // For HTTP, the proxy forwards the request.
        let (url, task) =
            server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Vec::new(), 0).await;
        let proxy = Place::parse(&url).expect("an address").server();
        let through = |url: &str| Request {
            via: Route::Proxy(Secret::new(format!("http://me:hunter%32@{proxy}"))),
            ..request(url)
        };
        let answer =
            send(&through("http://hooks.invalid:8080/x?y=1"), &Trust::default(), SOON, 10).await;
        assert_eq!(answer.expect("an answer").status, 200);
        let heard = task.await.expect("the proxy");
        assert!(heard.starts_with("POST http://hooks.invalid:8080/x?y=1 HTTP/1.1\r\n"), "{heard}");
        // me:hunter2
        let login = "proxy-authorization: Basic bWU6aHVudGVyMg==";
        assert!(heard.contains(login) && heard.contains("host: hooks.invalid:8080"), "{heard}");

        // For HTTPS, the proxy is asked for a tunnel. Its refusal is reported as its own, without
        // its password.
        for (head, said) in [
            (
                "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
                "check the proxy's user and password",
            ),
            ("HTTP/1.0 502 Bad Gateway bWU6aHVudGVyMg==\r\n\r\n", "HTTP 502"),
            ("SSH-2.0-x\r\n\r\n", "did not send a valid HTTP proxy reply"),
            ("", "closed the connection"),
        ] {
            let (url, task) = server(head, Vec::new(), 0).await;
            let proxy = Place::parse(&url).expect("an address").server();
            let request = Request {
                via: Route::Proxy(Secret::new(format!("me:hunter2@{proxy}"))),
                ..request("https://[2001:db8::1]/")
            };
            let error = send(&request, &Trust::default(), SOON, 10).await.expect_err("refused");
            assert!(!error.may_have_arrived());
            let error = error.to_string();
            assert!(error.contains(said) && error.contains(&proxy), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("bWU6"), "{error}");
            let heard = task.await.expect("the proxy");
            assert!(
                heard.starts_with(
                    "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n"
                ),
                "{heard}"
            );
            assert!(heard.contains("Proxy-Authorization: Basic bWU6aHVudGVyMg==\r\n"), "{heard}");
            assert!(
                !heard.contains("Bearer"),
                "the server's secret is none of the proxy's business: {heard}"
            );
        }
    }

    #[tokio::test]
    async fn a_tunnel_carries_tls_to_the_server() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let proxy = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut heard = Vec::new();
            while !heard.ends_with(b"\r\n\r\n") {
                heard.push(stream.read_u8().await.expect("a byte"));
            }
            stream
                .write_all(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")
                .await
                .expect("sent");
            // TLS begins with a handshake record.
            stream.read_u8().await.expect("a byte")
        });
        let request = Request {
            via: Route::Proxy(Secret::new(proxy.to_string())),
            ..request("https://hooks.invalid/")
        };
        let answer = send(&request, &Trust::default(), SOON, 10).await;
        assert!(
            matches!(&answer, Err(HttpError::Tls { server, .. }) if server == "hooks.invalid:443"),
            "{answer:?}"
        );
        assert_eq!(task.await.expect("the proxy"), 0x16);
    }

    #[test]
    fn retry_after_is_parsed_as_seconds_or_a_date() {
        let now = UtcMicros(1_445_412_440_000_000); // 2015-10-21 07:27:20 UTC
        let seconds = |text: &str| {
            let value = HeaderValue::from_str(text).expect("a value");
            retry_after(&value, now).map(|patience| patience.as_secs())
        };
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("0"), Some(0));
        assert_eq!(seconds("99999999999999999999999"), Some(3600));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:28:00 GMT"), Some(40));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:00:00 GMT"), Some(0));
        assert_eq!(seconds("Fri, 21 Oct 2095 07:00:00 GMT"), Some(3600));
        assert_eq!(seconds("Wednesday, 21-Oct-15 07:28:00 GMT"), Some(40));
        assert_eq!(seconds("Wed Oct 21 07:28:00 2015"), Some(40));
        assert_eq!(seconds("-5"), None);
        assert_eq!(seconds("soon"), None);
        assert_eq!(seconds(""), None);
    }

    #[test]
    fn addresses_are_validated_and_never_shown() {
        for wrong in [
            "",
            "hooks.example.com/x",
            "ftp://a/b",
            "https://user:hunter2@host/",
            "https://",
            "http://[::1",
        ] {
            let error = Place::parse(wrong).expect_err(wrong).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let place = Place::parse("https://[::1]:8443/a?b").expect("an address");
        assert_eq!((place.host.as_str(), place.port, place.path.as_str()), ("::1", 8443, "/a?b"));
    }
}
