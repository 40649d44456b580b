//! The connection below SMTP, POP3 and IMAP: recorded and timed, with deadlines and limits that the
//! protocols above can't bypass. Supports TLS from the first byte or in place. Independent of any
//! protocol.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use mailqos_base::Secret;
use mailqos_config::{Endpoint, TlsMode};
use mailqos_model::{Direction, Micros};
use mailqos_net::{
    TlsSession, Trust, TrustError, client_config,
    connect::{ConnectError, connect_any},
    describe,
    http::{self, Connection, HttpError},
    tls_failure,
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::{Sleep, sleep, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::transcript::{self, Transcript};

/// Size of a single read.
const CHUNK: usize = 16 * 1024;
/// Deadline for closing a connection properly.
const CLOSING: Duration = Duration::from_secs(2);

/// Connection failures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The name can't be resolved.
    #[error("the name {server} could not be resolved: {reason}")]
    Resolve {
        /// Name of the server.
        server: String,
        /// The resolver's error.
        reason: String,
        /// Whether this machine has no network connection.
        own_network: bool,
    },
    /// No address accepted the connection.
    #[error("no connection to {server} port {port}: {reason}")]
    Connect {
        /// Name of the server.
        server: String,
        /// Port of the server.
        port: u16,
        /// The system's error.
        reason: String,
        /// Whether this machine caused the failure.
        own_network: bool,
    },
    /// The proxy could not be reached, or could not connect to the server.
    #[error("{reason}")]
    Proxy {
        /// The reason, which names the proxy.
        reason: String,
        /// Whether the proxy, not the server, is the cause.
        own_network: bool,
    },
    /// The trusted certificates could not be read.
    #[error("{0}")]
    Trust(String),
    /// The TLS handshake failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// Data arrived between the agreement to upgrade and the handshake, so they may have been
    /// injected.
    #[error(
        "the server sent plaintext after accepting STARTTLS; someone may be tampering with the connection"
    )]
    EarlyData,
    /// The data did not arrive completely within the deadline.
    #[error("no answer within {0}")]
    TimedOut(Micros),
    /// Each step was in time, but there were too many of them.
    #[error("the conversation did not end within {0}")]
    TookTooLong(Micros),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// A line exceeded the maximum length.
    #[error("the server sent a line of more than {0} bytes")]
    LineTooLong(usize),
    /// A reply exceeded the maximum size.
    #[error("the server sent a reply of more than {0} bytes")]
    TooMuch(usize),
    /// A system error.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl WireError {
    fn of(error: ConnectError, server: &str, port: u16) -> Self {
        let server = server.to_owned();
        match error {
            ConnectError::Resolve { reason, own_network } => {
                Self::Resolve { server, reason, own_network }
            }
            ConnectError::Connect { reason, own_network } => {
                Self::Connect { server, port, reason, own_network }
            }
        }
    }

    /// A proxy that answers 502, 503 or 504 has not reached the server (RFC 9110, section 15.6);
    /// everything else is a failure of the proxy or of its configuration.
    fn of_proxy(error: &HttpError) -> Self {
        let is_gateway = matches!(error, HttpError::Proxy { reason, .. }
            if ["HTTP 502", "HTTP 503", "HTTP 504"].iter().any(|status| reason.starts_with(status)));
        Self::Proxy { reason: error.to_string(), own_network: !is_gateway }
    }

    /// Returns whether this machine, not the server, caused the failure.
    pub fn is_own_network(&self) -> bool {
        matches!(
            self,
            Self::Resolve { own_network: true, .. }
                | Self::Connect { own_network: true, .. }
                | Self::Proxy { own_network: true, .. }
                | Self::Trust(_)
        )
    }

    /// Returns whether the failure concerns the TLS handshake or its prerequisites.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Trust(_) | Self::Tls(_) | Self::EarlyData)
    }
}

impl From<TrustError> for WireError {
    fn from(error: TrustError) -> Self {
        Self::Trust(error.to_string())
    }
}

enum Stream {
    Plain(Box<dyn Connection>),
    Tls(Box<TlsStream<Box<dyn Connection>>>),
    /// A server that sends fixed data whatever it receives.
    #[cfg(feature = "test-hooks")]
    Script(io::Cursor<Vec<u8>>, tokio::io::Sink),
    /// Between plain and encrypted, or after a failed handshake.
    Gone,
}

impl Stream {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            #[cfg(feature = "test-hooks")]
            Self::Script(said, _) => Pin::new(said).poll_read(cx, buffer),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn writer(&mut self) -> Option<Pin<&mut (dyn AsyncWrite + Send + Unpin)>> {
        match self {
            Self::Plain(stream) => Some(Pin::new(stream)),
            Self::Tls(stream) => Some(Pin::new(&mut **stream)),
            #[cfg(feature = "test-hooks")]
            Self::Script(_, heard) => Some(Pin::new(heard)),
            Self::Gone => None,
        }
    }
}

/// Connects to a server, through its proxy if it has one. Returns the stream, the addresses of both
/// ends and a note for the transcript.
async fn open(
    endpoint: &Endpoint,
    step: Duration,
) -> Result<(Stream, (SocketAddr, Option<SocketAddr>), String), WireError> {
    let server = (endpoint.server.as_str(), endpoint.port);
    if let Some(proxy) = &endpoint.proxy {
        let route = proxy.via().await.map_err(|error| WireError::Proxy {
            reason: format!("the address of the proxy: {error}"),
            own_network: true,
        })?;
        let tunnel = http::tunnel(&route, server, &endpoint.trust, step).await;
        if let Some(tunnel) = tunnel.map_err(|error| WireError::of_proxy(&error))? {
            let note = format!("connected through the proxy {} at {}", tunnel.proxy, tunnel.peer);
            return Ok((Stream::Plain(tunnel.stream), (tunnel.peer, tunnel.local), note));
        }
    }
    let tcp = connect_any(server.0, server.1, step)
        .await
        .map_err(|error| WireError::of(error, server.0, server.1))?;
    // Small writes must be sent immediately: delays of Nagle's algorithm and delayed ACK (40 ms)
    // would distort the measurements.
    let _ = tcp.set_nodelay(true);
    let peer = tcp.peer_addr().map_err(|error| WireError::Broken(error.to_string()))?;
    let ends = (peer, tcp.local_addr().ok());
    Ok((Stream::Plain(Box::new(tcp)), ends, format!("connected to {peer}")))
}

/// A connection to a server.
pub struct Wire {
    stream: Stream,
    server: String,
    port: u16,
    peer: SocketAddr,
    local: Option<SocketAddr>,
    started: Instant,
    tcp: Micros,
    tls_took: Option<Micros>,
    tls: Option<TlsSession>,
    transcript: Transcript,
    secret: bool,
    buffer: Vec<u8>,
    consumed: usize,
    received_at: Instant,
    sent_at: Instant,
    step: Duration,
    /// Deadline of the whole session, and its maximum duration.
    curfew: Option<(Instant, Duration)>,
    deadline: Pin<Box<Sleep>>,
    received_in_step: usize,
    most_in_step: usize,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Wire {
    /// Opens a connection, including its TLS handshake if TLS is implicit. Name resolution with
    /// TCP and a proxy's tunnel, and the handshake, may take `step` each.
    ///
    /// # Errors
    /// [`WireError`] distinguishes the steps.
    pub async fn connect(endpoint: &Endpoint, step: Duration) -> Result<Self, WireError> {
        let started = Instant::now();
        let transcript = Transcript::begin(&endpoint.server, endpoint.port);
        let (stream, (peer, local), note) = open(endpoint, step).await?;
        let server = (endpoint.server.as_str(), endpoint.port);
        let mut wire = Self::over(stream, (server, peer), transcript, started, step);
        wire.local = local;
        wire.transcript.note(&note);
        if endpoint.tls == TlsMode::Implicit {
            wire.upgrade(&endpoint.trust).await?;
        }
        Ok(wire)
    }

    fn over(
        stream: Stream,
        ((server, port), peer): ((&str, u16), SocketAddr),
        transcript: Transcript,
        started: Instant,
        step: Duration,
    ) -> Self {
        let now = Instant::now();
        Self {
            stream,
            server: server.to_owned(),
            port,
            peer,
            local: None,
            started,
            tcp: Micros::from(now - started),
            tls_took: None,
            tls: None,
            transcript,
            secret: false,
            buffer: Vec::new(),
            consumed: 0,
            received_at: now,
            sent_at: now,
            step,
            curfew: None,
            deadline: Box::pin(sleep(step)),
            received_in_step: 0,
            most_in_step: usize::MAX,
        }
    }

    /// Creates a session with a server that sends these bytes whatever it receives, and then closes
    /// the connection, for tests.
    #[cfg(feature = "test-hooks")]
    pub fn scripted(said: Vec<u8>, step: Duration) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let stream = Stream::Script(io::Cursor::new(said), tokio::io::sink());
        Self::over(
            stream,
            (("script", 0), nowhere),
            Transcript::begin("script", 0),
            Instant::now(),
            step,
        )
    }

    /// Opens the connection again after the server has ended it. Transcript, limits and the times of
    /// the first connection stay.
    ///
    /// # Errors
    /// [`WireError`] distinguishes the steps.
    pub async fn reopen(&mut self, endpoint: &Endpoint, step: Duration) -> Result<(), WireError> {
        self.transcript.note("connecting again");
        let new = match Self::connect(endpoint, step).await {
            Ok(new) => new,
            Err(error) => {
                self.transcript.note(&error.to_string());
                return Err(error);
            }
        };
        (self.stream, self.peer, self.local) = (new.stream, new.peer, new.local);
        (self.buffer, self.consumed) = (Vec::new(), 0);
        Ok(())
    }

    /// Records an event.
    pub fn note(&mut self, text: &str) {
        self.transcript.note(text);
    }

    /// Limits the duration of the whole session, however many steps it has. A server that stays
    /// just below the limit of each step must not block the caller forever.
    pub fn limit(&mut self, whole: Duration) {
        self.curfew = Some((Instant::now() + whole, whole));
    }

    /// Starts a step of the session, which may take `step` of time and receive `most` bytes.
    pub fn begin(&mut self, step: Duration, most: usize) {
        let step = match self.curfew {
            Some((curfew, _)) => step.min(curfew.saturating_duration_since(Instant::now())),
            None => step,
        };
        self.step = step;
        self.deadline.as_mut().reset(tokio::time::Instant::now() + step);
        self.received_in_step = 0;
        self.most_in_step = most;
    }

    /// Returns the error for an exceeded deadline.
    fn timed_out(&self) -> WireError {
        match self.curfew {
            Some((curfew, whole)) if Instant::now() >= curfew => {
                WireError::TookTooLong(Micros::from(whole))
            }
            _ => WireError::TimedOut(Micros::from(self.step)),
        }
    }

    /// Upgrades the connection to TLS in place.
    ///
    /// # Errors
    /// Includes data received before the handshake.
    pub async fn upgrade(&mut self, trust: &Trust) -> Result<(), WireError> {
        if self.consumed < self.buffer.len() {
            return Err(WireError::EarlyData);
        }
        let config = client_config(trust)?;
        let name = ServerName::try_from(self.server.clone()).map_err(|_| {
            WireError::Tls(format!("{:?} is neither a host name nor an IP address", self.server))
        })?;
        let stream = match std::mem::replace(&mut self.stream, Stream::Gone) {
            Stream::Plain(stream) => stream,
            other => {
                self.stream = other;
                return Err(WireError::Tls("the connection is already encrypted".to_owned()));
            }
        };
        let begun = Instant::now();
        let handshake = TlsConnector::from(config).connect(name, stream);
        let ended = timeout_at(tokio::time::Instant::now() + self.step, handshake)
            .await
            .map_err(|_| format!("the handshake did not end within {}", Micros::from(self.step)))
            .and_then(|ended| ended.map_err(|error| tls_failure::explain(&error, &self.server)));
        let stream = match ended {
            Ok(stream) => stream,
            Err(reason) => {
                self.transcript.note(&format!("TLS failed: {reason}"));
                return Err(WireError::Tls(reason));
            }
        };
        self.tls_took = Some(Micros::from(begun.elapsed()));
        let session = describe(stream.get_ref().1);
        self.transcript.note(&format!("{} {}", session.version, session.cipher));
        self.tls = Some(session);
        self.stream = Stream::Tls(Box::new(stream));
        Ok(())
    }

    /// Marks the bytes sent from now on as secret, or no longer secret. Transcripts contain a
    /// placeholder instead.
    pub fn secret(&mut self, secret: bool) {
        self.secret = secret;
    }

    /// Adds a text that must never appear in the transcript, even if the server repeats it.
    pub fn hide(&mut self, secret: &Secret) {
        self.transcript.hide(secret);
    }

    /// Sends all bytes.
    ///
    /// # Errors
    /// The step's deadline passes or the connection breaks.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let mut sent = 0;
        std::future::poll_fn(|cx| {
            while sent < bytes.len() {
                sent += ready!(self.poll_write(cx, &bytes[sent..]))?;
            }
            self.poll_flush(cx)
        })
        .await
    }

    /// Reads a line of at most `most` bytes, without its line end.
    ///
    /// # Errors
    /// The deadline passes, the connection ends, or the line or the reply is too long.
    pub async fn line(&mut self, most: usize) -> Result<Vec<u8>, WireError> {
        std::future::poll_fn(|cx| self.poll_line(cx, most)).await
    }

    /// Reads a line, or the first `most` bytes of a longer one. Returns whether the line ended.
    ///
    /// # Errors
    /// The deadline passes, the connection ends, or the reply is too long.
    pub async fn part(&mut self, most: usize) -> Result<(Vec<u8>, bool), WireError> {
        match self.line(most).await {
            Ok(line) => Ok((line, true)),
            Err(WireError::LineTooLong(_)) => {
                // The line end may be split here: its first half stays for the next part.
                let mut count = most.min(self.buffer.len() - self.consumed);
                if count > 1 && self.buffer[self.consumed + count - 1] == b'\r' {
                    count -= 1;
                }
                Ok((self.bytes(count).await?, false))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads `count` bytes.
    ///
    /// # Errors
    /// The deadline passes, the connection ends, or the reply is too long.
    pub async fn bytes(&mut self, count: usize) -> Result<Vec<u8>, WireError> {
        if count > self.most_in_step {
            return Err(WireError::TooMuch(self.most_in_step));
        }
        std::future::poll_fn(|cx| {
            while self.buffer.len() - self.consumed < count {
                ready!(self.poll_fill(cx))?;
            }
            let bytes = self.buffer[self.consumed..self.consumed + count].to_vec();
            self.consume(count);
            Poll::Ready(Ok(bytes))
        })
        .await
    }

    /// Returns whether there are received but unread data.
    pub fn has_more(&self) -> bool {
        self.consumed < self.buffer.len()
    }

    pub(super) fn poll_line(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<Result<Vec<u8>, WireError>> {
        let mut searched = self.consumed;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let end = searched + at;
                let mut line = &self.buffer[self.consumed..end];
                while let [rest @ .., b'\r'] = line {
                    line = rest;
                }
                if line.len() > most {
                    return Poll::Ready(Err(WireError::LineTooLong(most)));
                }
                let line = line.to_vec();
                self.consume(end + 1 - self.consumed);
                return Poll::Ready(Ok(line));
            }
            if self.buffer.len() - self.consumed > most {
                return Poll::Ready(Err(WireError::LineTooLong(most)));
            }
            let unread = self.buffer.len() - self.consumed;
            ready!(self.poll_fill(cx))?;
            searched = self.consumed + unread;
        }
    }

    fn consume(&mut self, count: usize) {
        self.consumed += count;
        if self.consumed == self.buffer.len() {
            self.buffer.clear();
            self.consumed = 0;
        }
    }

    /// Receives at least one byte into the buffer.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(self.timed_out()));
        }
        if self.received_in_step >= self.most_in_step {
            return Poll::Ready(Err(WireError::TooMuch(self.most_in_step)));
        }
        if self.consumed > 0 {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
        }
        let mut space = [0; CHUNK];
        let mut space = ReadBuf::new(&mut space);
        match ready!(self.stream.poll_read(cx, &mut space)) {
            Ok(()) if space.filled().is_empty() => Poll::Ready(Err(WireError::Closed)),
            Ok(()) => {
                let received = space.filled();
                self.received_at = Instant::now();
                self.received_in_step += received.len();
                self.transcript.record(self.received_at, Direction::Received, received);
                self.buffer.extend_from_slice(received);
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(broken(&error))),
        }
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, WireError>> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(self.timed_out()));
        }
        let Some(writer) = self.stream.writer() else {
            return Poll::Ready(Err(WireError::Closed));
        };
        match ready!(writer.poll_write(cx, bytes)) {
            Ok(0) => Poll::Ready(Err(WireError::Closed)),
            Ok(count) => {
                self.sent_at = Instant::now();
                if self.secret {
                    self.transcript.hide_line(bytes);
                    let shown = transcript::without_secret(bytes);
                    self.transcript.record(self.sent_at, Direction::Sent, &shown);
                } else {
                    self.transcript.record(self.sent_at, Direction::Sent, &bytes[..count]);
                }
                Poll::Ready(Ok(count))
            }
            Err(error) => Poll::Ready(Err(broken(&error))),
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(self.timed_out()));
        }
        let Some(writer) = self.stream.writer() else {
            return Poll::Ready(Err(WireError::Closed));
        };
        ready!(writer.poll_flush(cx)).map_err(|error| broken(&error))?;
        Poll::Ready(Ok(()))
    }

    /// Closes the connection properly, within a short deadline.
    pub async fn close(mut self) {
        if let Some(mut writer) = self.stream.writer() {
            let _ = tokio::time::timeout(CLOSING, writer.shutdown()).await;
        }
    }

    /// Returns the server's name as configured, and its port.
    pub fn place(&self) -> String {
        format!("{}:{}", self.server, self.port)
    }

    /// Returns the address of the server.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Returns the local address.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Returns the time at which the connection started to open.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Returns the duration of name resolution and TCP.
    pub fn tcp_took(&self) -> Micros {
        self.tcp
    }

    /// Returns the duration of the handshake, once there was one.
    pub fn tls_took(&self) -> Option<Micros> {
        self.tls_took
    }

    /// Returns the properties of the TLS session.
    pub fn tls(&self) -> Option<&TlsSession> {
        self.tls.as_ref()
    }

    /// Returns the time at which the last bytes were received.
    pub fn received_at(&self) -> Instant {
        self.received_at
    }

    /// Returns the time at which the last bytes were sent.
    pub fn sent_at(&self) -> Instant {
        self.sent_at
    }

    /// Returns a position in the transcript, for [`Wire::withhold`].
    pub fn mark(&self) -> usize {
        self.transcript.mark()
    }

    /// Removes data received since a mark, such as other people's mail, from the transcript.
    pub fn withhold(&mut self, since: usize) {
        self.transcript.withhold(since);
    }

    /// Returns the transcript so far.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }
}

fn broken(error: &io::Error) -> WireError {
    match error.kind() {
        // Many servers close a TLS connection without close_notify.
        io::ErrorKind::UnexpectedEof => WireError::Closed,
        _ => WireError::Broken(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    async fn server<F, R>(talk: F) -> Endpoint
    where
        F: FnOnce(tokio::net::TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let port = listener.local_addr().expect("address").port();
        tokio::spawn(async move {
            if let Ok((stream, _)) = listener.accept().await {
                talk(stream).await;
            }
        });
        Endpoint {
            server: "127.0.0.1".to_owned(),
            port,
            tls: TlsMode::None,
            trust: Trust::default(),
            account: None,
            helo: None,
            proxy: None,
        }
    }

    #[tokio::test]
    async fn an_endless_line_is_cut_off() {
        let endpoint =
            server(
                |mut stream| async move { while stream.write_all(&[b'x'; 65536]).await.is_ok() {} },
            )
            .await;
        let mut wire = Wire::connect(&endpoint, Duration::from_secs(10)).await.expect("connected");
        wire.begin(Duration::from_secs(10), 1 << 30);
        assert_eq!(wire.line(1000).await, Err(WireError::LineTooLong(1000)));
        assert!(wire.buffer.len() <= 1000 + CHUNK);
    }

    #[tokio::test]
    async fn an_endless_reply_is_cut_off() {
        let endpoint = server(|mut stream| async move {
            while stream.write_all(b"250-more\r\n").await.is_ok() {}
        })
        .await;
        let mut wire = Wire::connect(&endpoint, Duration::from_secs(10)).await.expect("connected");
        wire.begin(Duration::from_secs(10), 100_000);
        let error = loop {
            match wire.line(1000).await {
                Ok(line) => assert_eq!(line, b"250-more"),
                Err(error) => break error,
            }
        };
        assert_eq!(error, WireError::TooMuch(100_000));
    }

    #[tokio::test]
    async fn silence_ends_at_the_deadline() {
        let endpoint = server(|mut stream| async move {
            let _ = stream.read(&mut [0]).await;
        })
        .await;
        let mut wire = Wire::connect(&endpoint, Duration::from_secs(10)).await.expect("connected");
        wire.begin(Duration::from_millis(20), 1000);
        assert_eq!(wire.line(1000).await, Err(WireError::TimedOut(Micros::from_millis(20))));
    }

    #[tokio::test]
    async fn a_conversation_has_a_deadline_even_if_each_step_is_in_time() {
        let endpoint = server(|mut stream| async move {
            while stream.write_all(b"250 more\r\n").await.is_ok() {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let mut wire = Wire::connect(&endpoint, Duration::from_secs(10)).await.expect("connected");
        wire.limit(Duration::from_millis(50));
        let error = loop {
            wire.begin(Duration::from_secs(10), 1000);
            if let Err(error) = wire.line(1000).await {
                break error;
            }
        };
        assert_eq!(error, WireError::TookTooLong(Micros::from_millis(50)));
    }

    #[tokio::test]
    async fn bytes_injected_before_tls_end_the_connection() {
        let endpoint = server(|mut stream| async move {
            let _ = stream.write_all(b"220 go ahead\r\n250 slipped in\r\n").await;
            let _ = stream.read(&mut [0]).await;
        })
        .await;
        let mut wire = Wire::connect(&endpoint, Duration::from_secs(10)).await.expect("connected");
        wire.begin(Duration::from_secs(10), 1000);
        assert_eq!(wire.line(1000).await, Ok(b"220 go ahead".to_vec()));
        assert_eq!(
            wire.upgrade(&Trust { insecure: true, ..Trust::default() }).await,
            Err(WireError::EarlyData)
        );
    }

    #[tokio::test]
    async fn a_refused_connection_is_reported_with_name_and_port() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let port = listener.local_addr().expect("address").port();
        drop(listener);
        let mut endpoint = server(|_| async {}).await;
        endpoint.port = port;
        let error = Wire::connect(&endpoint, Duration::from_secs(10)).await.expect_err("refused");
        assert!(!error.is_own_network());
        assert!(error.to_string().contains(&format!("127.0.0.1 port {port}")), "{error}");
    }
}
