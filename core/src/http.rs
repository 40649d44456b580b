//! A small HTTP/1.1 client on hyper and rustls: one request, one answer, within a deadline and a size limit. It follows no redirects
//! and keeps no connections: webhooks and token servers need neither.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Uri,
    body::Bytes,
    header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    config::Trust,
    mail::{Secret, client_config, one_line},
    model::Micros,
};

/// An answer's head larger than this is refused.
const MOST_HEAD: usize = 64 * 1024;

/// What is asked of a server. It has no `Debug`: there are secrets in the content, too.
#[derive(Clone)]
pub struct Request {
    /// `GET`, `POST` …
    pub method: String,
    /// `http://…` or `https://…`; a secret, since addresses of webhooks are.
    pub url: Secret,
    /// Header fields; their values may be secrets.
    pub headers: Vec<(String, Secret)>,
    /// The content.
    pub body: Vec<u8>,
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The content, or its beginning.
    pub body: Vec<u8>,
    /// The content went on beyond the limit.
    pub truncated: bool,
}

impl Response {
    /// Whether the status is one of success (2xx).
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Status and the beginning of the content in one line, for messages, without these secrets.
    pub fn summary(&self, secrets: &[Secret]) -> String {
        let text = one_line(&String::from_utf8_lossy(&self.body), secrets);
        let separator = if text.is_empty() { "" } else { ": " };
        format!("HTTP {}{separator}{text}", self.status)
    }
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address can't be used.
    #[error("the address is no http:// or https:// URL: {0}")]
    Url(String),
    /// A header field can't be sent.
    #[error("the header field {0:?} can't be sent: it contains what no header field may")]
    Header(String),
    /// The server could not be reached.
    #[error("no connection to {server}: {reason}")]
    Connect {
        /// Host and port.
        server: String,
        /// What the system said.
        reason: String,
    },
    /// TLS failed.
    #[error("TLS with {server}: {reason}")]
    Tls {
        /// Host and port.
        server: String,
        /// Why.
        reason: String,
    },
    /// The conversation broke.
    #[error("{server} did not answer as HTTP asks: {reason}")]
    Broken {
        /// Host and port.
        server: String,
        /// Why.
        reason: String,
    },
    /// Nothing, or not all, in time.
    #[error("{server} did not answer within {after}")]
    TimedOut {
        /// Host and port.
        server: String,
        /// The deadline.
        after: Micros,
    },
}

impl HttpError {
    /// Whether the server may have got the request, and done what it asks for, although no answer came.
    pub fn may_have_arrived(&self) -> bool {
        matches!(self, Self::Broken { .. } | Self::TimedOut { .. })
    }
}

/// Where a URL leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path and query.
    path: String,
}

impl Place {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, without showing it: it may be a secret.
    pub fn parse(url: &str) -> Result<Self, HttpError> {
        let uri: Uri = url.parse().map_err(|error| HttpError::Url(format!("{error}")))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(other) => return Err(HttpError::Url(format!("the protocol {other} is not known here"))),
            None => return Err(HttpError::Url("it does not begin with https://".to_owned())),
        };
        let authority = uri
            .authority()
            .ok_or_else(|| HttpError::Url("it names no host".to_owned()))?;
        if authority.as_str().contains('@') {
            return Err(HttpError::Url(
                "user and password belong into a header field, not into the address".to_owned(),
            ));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(HttpError::Url("it names no host".to_owned()));
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            path: uri
                .path_and_query()
                .map_or("/", hyper::http::uri::PathAndQuery::as_str)
                .to_owned(),
        })
    }

    /// Host and port, as messages show them.
    pub fn server(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Asks a server, and takes at most `most` bytes of the content of its answer, all within `deadline`.
///
/// # Errors
/// When there is no answer. An answer of failure (4xx, 5xx) is an answer.
pub async fn send(request: &Request, trust: &Trust, deadline: Duration, most: usize) -> Result<Response, HttpError> {
    let place = Place::parse(request.url.expose())?;
    let asked = AtomicBool::new(false);
    match tokio::time::timeout(deadline, converse(request, &place, trust, most, &asked)).await {
        Ok(result) => result,
        Err(_) if asked.load(Ordering::Relaxed) => Err(HttpError::TimedOut {
            server: place.server(),
            after: Micros::from(deadline),
        }),
        Err(_) => Err(HttpError::Connect {
            server: place.server(),
            reason: format!("there is none within {}", Micros::from(deadline)),
        }),
    }
}

/// `asked` becomes true as soon as the server may have got something of the request.
async fn converse(
    request: &Request,
    place: &Place,
    trust: &Trust,
    most: usize,
    asked: &AtomicBool,
) -> Result<Response, HttpError> {
    let stream = TcpStream::connect((place.host.as_str(), place.port))
        .await
        .map_err(|error| HttpError::Connect {
            server: place.server(),
            reason: error.to_string(),
        })?;
    let _ = stream.set_nodelay(true);
    if !place.tls {
        asked.store(true, Ordering::Relaxed);
        return exchange(stream, request, place, most).await;
    }
    let failed = |reason: String| HttpError::Tls {
        server: place.server(),
        reason,
    };
    let config = client_config(trust).map_err(|error| failed(error.to_string()))?;
    let name = ServerName::try_from(place.host.clone())
        .map_err(|_| failed("neither a host name nor an IP address".to_owned()))?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| failed(error.to_string()))?;
    asked.store(true, Ordering::Relaxed);
    exchange(stream, request, place, most).await
}

async fn exchange<S>(stream: S, request: &Request, place: &Place, most: usize) -> Result<Response, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| HttpError::Broken {
        server: place.server(),
        reason: error.to_string(),
    };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MOST_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let request = compose(request, place)?;
    let asking = async {
        let mut answer = sender.send_request(request).await.map_err(broken)?;
        let mut response = Response {
            status: answer.status().as_u16(),
            body: Vec::new(),
            truncated: false,
        };
        while let Some(frame) = answer.frame().await {
            let Ok(data) = frame.map_err(broken)?.into_data() else {
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
    // Whichever ends first ends the connection: an answer without end is left in the middle. A connection that breaks behind a
    // complete answer takes nothing from it: whoever asked would ask again, and tell people twice.
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

/// The answer of a server that says this once it has been asked, whatever it hears: for the fuzz targets.
pub(crate) async fn replay(said: Vec<u8>, request: &Request, most: usize) -> Result<Response, HttpError> {
    let place = Place::parse(request.url.expose())?;
    let (ours, mut theirs) = tokio::io::duplex(MOST_HEAD);
    let server = async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut heard = [0; 4096];
        if theirs.read(&mut heard).await.is_ok() {
            // Where nobody listens any more, enough was said.
            let _ = theirs.write_all(&said).await;
        }
    };
    let (answer, ()) = tokio::join!(exchange(ours, request, &place, most), server);
    answer
}

fn compose(request: &Request, place: &Place) -> Result<hyper::Request<Full<Bytes>>, HttpError> {
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| HttpError::Header("method".to_owned()))?;
    let host = if place.host.contains(':') {
        format!("[{}]", place.host)
    } else {
        place.host.clone()
    };
    let usual = if place.tls { 443 } else { 80 };
    let host = if place.port == usual {
        host
    } else {
        format!("{host}:{}", place.port)
    };
    let mut composed = hyper::Request::builder()
        .method(method)
        .uri(place.path.as_str())
        .header(HOST, host)
        .header(USER_AGENT, concat!("mailqos/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_LENGTH, request.body.len());
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

    /// A server that reads a request's head and then writes `chunk`, `times` times.
    async fn server(head: &'static str, chunk: Vec<u8>, times: usize) -> (String, tokio::task::JoinHandle<String>) {
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
        }
    }

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_request_is_answered() {
        let (url, task) = server("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n", b"ok".to_vec(), 1).await;
        let answer = send(&request(&url), &Trust::default(), SOON, 1024)
            .await
            .expect("an answer");
        assert_eq!(
            (answer.status, answer.body.as_slice(), answer.truncated),
            (202, &b"ok"[..], false)
        );
        let heard = task.await.expect("the server");
        assert!(heard.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{heard}");
        assert!(
            heard.to_ascii_lowercase().contains("authorization: bearer x"),
            "{heard}"
        );
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut() {
        // Ten gigabytes, if anybody reads them.
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n";
        let (url, task) = server(head, vec![b'x'; 1 << 20], 10 * 1024).await;
        let answer = send(&request(&url), &Trust::default(), SOON, 1000)
            .await
            .expect("an answer");
        assert_eq!((answer.status, answer.body.len(), answer.truncated), (200, 1000, true));
        task.await.expect("the server finds the connection closed");
    }

    #[tokio::test]
    async fn silence_and_an_endless_head_end_in_an_error() {
        let (url, _task) = server("", Vec::new(), 0).await;
        // The server closes; an address that takes connections and is silent is the listener's own backlog.
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

    /// A server that says all at once when it has heard something, and then resets the connection.
    struct Reset {
        said: std::io::Cursor<&'static [u8]>,
        heard: bool,
        waiting: Option<Waker>,
    }

    impl Reset {
        fn saying(text: &'static str) -> Self {
            Self {
                said: std::io::Cursor::new(text.as_bytes()),
                heard: false,
                waiting: None,
            }
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
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
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
    async fn a_complete_answer_counts_though_the_connection_breaks_behind_it() {
        let place = Place::parse("http://script/").expect("an address");
        for _ in 0..20 {
            let stream = Reset::saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            let answer = exchange(stream, &request("http://script/"), &place, 100)
                .await
                .expect("an answer");
            assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]));
        }
        let stream = Reset::saying("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok");
        let broken = exchange(stream, &request("http://script/"), &place, 100).await;
        assert!(matches!(broken, Err(HttpError::Broken { .. })));
    }

    #[test]
    fn addresses_are_checked_and_never_shown() {
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
        assert_eq!(
            (place.host.as_str(), place.port, place.path.as_str()),
            ("::1", 8443, "/a?b")
        );
    }
}
