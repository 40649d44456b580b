//! The connections of an FTP session, below the client: TLS if it is configured, and replies in the
//! only form that the client can parse.
//!
//! The client accepts any stream in place of a TLS stream. This one reads the control
//! connection itself (see [`super::reply`]) and passes each reply on in one line, with the code
//! that RFC 959 has for it. Real servers answer without text, in Latin-1, in several lines of odd
//! shapes, with `227` without parentheses, or to `STOR` without a `150`.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use rustls::pki_types::ServerName;
use suppaftp::{
    FtpError, FtpResult, Status,
    tokio::{AsyncTlsConnector, TokioTlsStream},
    types::Response,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    time::Sleep,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::reply::{self, Parsed, Reply};
use mailqos_base::lock::IgnorePoison as _;

/// Longest wait for the rest of a reply whose end is in doubt.
const DOUBT: Duration = Duration::from_secs(1);
/// Longest wait for a second reply after a `226` that came before the data.
const SECOND: Duration = Duration::from_secs(3);

/// Details of a session that the client's own errors don't include.
#[derive(Debug, Default)]
pub(super) struct ConversationLog {
    verb: Mutex<String>,
    text: Mutex<String>,
    presumed: AtomicBool,
    early: AtomicBool,
}

impl ConversationLog {
    /// Returns the command that was sent last.
    pub(super) fn verb(&self) -> String {
        self.verb.lock().ignore_poison().clone()
    }

    /// Returns the text of the last reply, its lines joined by [`reply::BETWEEN`].
    pub(super) fn text(&self) -> String {
        self.text.lock().ignore_poison().clone()
    }

    /// Returns whether the last transfer was started although the server did not reply to its
    /// command.
    pub(super) fn presumed(&self) -> bool {
        self.presumed.load(Ordering::Relaxed)
    }

    /// Returns whether the server confirmed the last transfer before it had the data, and not
    /// again.
    pub(super) fn confirmed_early(&self) -> bool {
        self.early.load(Ordering::Relaxed)
    }
}

/// Opens the connections of one session.
pub(super) struct Connector {
    /// TLS settings, if TLS is configured.
    pub(super) tls: Option<TlsConnector>,
    /// Whether TLS begins with the first byte.
    pub(super) implicit: bool,
    /// How long a server may be silent after `STOR` before the transfer is presumed to have
    /// started.
    pub(super) patience: Duration,
    pub(super) shown: Arc<ConversationLog>,
    /// Whether the control connection is open; all later connections carry data.
    pub(super) is_open: AtomicBool,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    async fn protected(
        &self,
        tls: &TlsConnector,
        domain: &str,
        stream: TcpStream,
    ) -> FtpResult<Inner> {
        let name = ServerName::try_from(domain.to_owned())
            .map_err(|error| FtpError::SecureError(error.to_string()))?;
        let stream = tls.connect(name, stream).await;
        let stream = stream.map_err(|error| {
            FtpError::SecureError(mailqos_net::tls_failure::explain(&error, domain))
        })?;
        Ok(Inner::Tls(Box::new(stream)))
    }

    async fn connected(&self, domain: &str, stream: TcpStream) -> FtpResult<Wire> {
        let _ = stream.set_nodelay(true);
        let control = !self.is_open.swap(true, Ordering::Relaxed);
        let (inner, greeting) = match &self.tls {
            None => (Inner::Plain(stream), None),
            Some(tls) if !control || self.implicit => {
                (self.protected(tls, domain, stream).await?, None)
            }
            Some(tls) => {
                let (stream, greeting) = self.asked(stream).await?;
                (self.protected(tls, domain, stream).await?, Some(greeting))
            }
        };
        let control = control.then(|| {
            let mut control = Control::new(self.patience, self.shown.clone());
            if let Some(greeting) = greeting {
                control.hand_on(&greeting);
            }
            Box::new(control)
        });
        Ok(Wire { inner, control })
    }

    /// Reads the greeting and requests TLS (RFC 4217).
    async fn asked(&self, mut stream: TcpStream) -> FtpResult<(TcpStream, Reply)> {
        let mut received = Vec::new();
        let greeting = loop {
            let greeting = next(&mut stream, &mut received).await?;
            if greeting.code >= 200 {
                break greeting;
            }
        };
        if greeting.code >= 300 {
            return Err(refused(&greeting));
        }
        // The second command is for servers older than RFC 4217.
        let mut last = greeting.clone();
        for word in ["TLS", "SSL"] {
            "AUTH".clone_into(&mut self.shown.verb.lock().ignore_poison());
            let line = format!("AUTH {word}\r\n");
            stream.write_all(line.as_bytes()).await.map_err(FtpError::ConnectionError)?;
            last = next(&mut stream, &mut received).await?;
            if last.code < 400 {
                // Plaintext received before TLS must not be taken for an answer under TLS.
                if !received.is_empty() {
                    return Err(FtpError::SecureError(
                        "the server sent more data than requested".into(),
                    ));
                }
                return Ok((stream, greeting));
            }
        }
        Err(refused(&last))
    }
}

fn refused(reply: &Reply) -> FtpError {
    let body = format!("{} {}", reply.code, reply.text).into_bytes();
    FtpError::UnexpectedResponse(Response::new(Status::from(u32::from(reply.code)), body))
}

/// Reads the next reply of a connection that has no other reader.
async fn next(stream: &mut TcpStream, received: &mut Vec<u8>) -> FtpResult<Reply> {
    loop {
        match reply::parse(received) {
            Parsed::Whole(reply, length) | Parsed::Doubtful(reply, length) => {
                received.drain(..length);
                return Ok(reply);
            }
            Parsed::Foreign => return Err(FtpError::BadResponse),
            Parsed::Partial => {}
        }
        if stream.read_buf(received).await.map_err(FtpError::ConnectionError)? == 0 {
            return Err(FtpError::ConnectionError(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

impl AsyncTlsConnector for Connector {
    type Stream = Wire;

    fn connect<'life0, 'life1, 'own>(
        &'life0 self,
        domain: &'life1 str,
        stream: TcpStream,
    ) -> Pin<Box<dyn Future<Output = FtpResult<Wire>> + Send + 'own>>
    where
        'life0: 'own,
        'life1: 'own,
        Self: 'own,
    {
        Box::pin(self.connected(domain, stream))
    }
}

/// A connection, encrypted or not.
#[derive(Debug)]
enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Inner {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

/// A connection of the session, for commands or data.
#[derive(Debug)]
pub(super) struct Wire {
    inner: Inner,
    control: Option<Box<Control>>,
}

/// State of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No transfer is in progress.
    None,
    /// The transfer was requested; the server has not replied.
    Asked,
    /// The client was notified that it has started.
    Begun,
}

/// Reader of the control connection.
#[derive(Debug)]
struct Control {
    received: Vec<u8>,
    ready: Vec<u8>,
    handed: usize,
    /// The command line being written, up to the verb.
    line: Vec<u8>,
    verb: String,
    stage: Stage,
    /// A completion that came in place of the preliminary reply.
    early: Option<Reply>,
    timer: Option<(Waiting, Pin<Box<Sleep>>)>,
    patience: Duration,
    shown: Arc<ConversationLog>,
}

/// What the reader is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    End,
    Beginning,
    Second,
}

impl Control {
    fn new(patience: Duration, shown: Arc<ConversationLog>) -> Self {
        Self {
            received: Vec::new(),
            ready: Vec::new(),
            handed: 0,
            line: Vec::new(),
            verb: String::new(),
            stage: Stage::None,
            early: None,
            timer: None,
            patience,
            shown,
        }
    }

    /// Passes a reply to the client in one line.
    fn hand_on(&mut self, reply: &Reply) {
        reply.text.clone_into(&mut self.shown.text.lock().ignore_poison());
        self.ready.extend(format!("{} {}\r\n", reply.code, reply.text).bytes());
        self.timer = None;
    }

    /// Records the command that the client writes.
    fn written(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte != b'\n' {
                if self.line.len() < 8 {
                    self.line.push(*byte);
                }
                continue;
            }
            let verb =
                self.line.split(|byte| matches!(byte, b' ' | b'\r')).next().unwrap_or_default();
            self.verb = String::from_utf8_lossy(verb).to_ascii_uppercase();
            self.line.clear();
            self.verb.clone_into(&mut self.shown.verb.lock().ignore_poison());
            match self.verb.as_str() {
                "STOR" | "RETR" | "APPE" => {
                    self.stage = Stage::Asked;
                    self.shown.presumed.store(false, Ordering::Relaxed);
                    self.shown.early.store(false, Ordering::Relaxed);
                }
                _ => self.stage = Stage::None,
            }
            self.early = None;
            self.timer = None;
        }
    }

    /// Processes a reply of the server and passes on what the client needs.
    fn take(&mut self, reply: Reply) {
        let success = (200..300).contains(&reply.code);
        match self.stage {
            Stage::Asked if reply.code < 200 => {
                self.stage = Stage::Begun;
                self.hand_on(&Reply { code: 150, ..reply });
            }
            Stage::Asked if success => {
                self.stage = Stage::Begun;
                self.hand_on(&Reply { code: 150, text: String::new() });
                self.early = Some(reply);
            }
            // A second preliminary reply, or a restart marker (RFC 959, section 3.5).
            Stage::Begun if reply.code < 200 => {}
            Stage::Begun => {
                self.stage = Stage::None;
                self.early = None;
                let code = if success { 226 } else { reply.code };
                self.hand_on(&Reply { code, ..reply });
            }
            // "Ready in some minutes", or any other preliminary reply.
            Stage::None if reply.code < 200 => {}
            // A second reply to the previous command, which some servers send after CWD.
            Stage::None if self.is_stale(&reply) => {}
            _ => {
                self.stage = Stage::None;
                let reply = self.usual(reply);
                self.hand_on(&reply);
            }
        }
    }

    /// Returns whether a positive reply can't belong to the last command because it lacks the
    /// requested value.
    fn is_stale(&self, reply: &Reply) -> bool {
        let is_silent = match self.verb.as_str() {
            "PASV" | "EPSV" => {
                reply::passive_port(&reply.text).is_none()
                    && reply::extended_port(&reply.text).is_none()
            }
            "SIZE" => reply::size(&reply.text).is_none(),
            "PWD" => reply.code == 230,
            _ => false,
        };
        is_silent && matches!(reply.code, 200 | 226 | 230 | 250)
    }

    /// Returns the reply with the code that the client expects for this command, if the server's
    /// code means the same.
    fn usual(&self, mut reply: Reply) -> Reply {
        match reply.code {
            200..300 => {
                let own = reply.code;
                reply.code = match self.verb.as_str() {
                    "" => 220,
                    "CWD" | "CDUP" | "DELE" | "RMD" | "RNTO" => 250,
                    "MKD" | "PWD" => 257,
                    "TYPE" | "PBSZ" | "PROT" | "OPTS" | "PORT" | "EPRT" => 200,
                    "SIZE" => 213,
                    "FEAT" => 211,
                    "USER" | "PASS" => 230,
                    "RNFR" => 350,
                    "PASV" => 227,
                    "EPSV" => 229,
                    "ABOR" => 226,
                    "QUIT" => 221,
                    _ => own,
                };
            }
            300..400 => {
                let own = reply.code;
                reply.code = match self.verb.as_str() {
                    "USER" => 331,
                    "REST" | "RNFR" => 350,
                    _ => own,
                };
            }
            _ => return reply,
        }
        match self.verb.as_str() {
            "PASV" => {
                // Some servers answer in the format of the other command.
                let other = || reply::extended_port(&reply.text).map(|port| ([0; 4], port));
                if let Some(([a, b, c, d], port)) = reply::passive_port(&reply.text).or_else(other)
                {
                    reply.text = format!("({a},{b},{c},{d},{},{})", port >> 8, port & 255);
                }
            }
            "EPSV" => {
                let other = || reply::passive_port(&reply.text).map(|(_, port)| port);
                if let Some(port) = reply::extended_port(&reply.text).or_else(other) {
                    reply.text = format!("(|||{port}|)");
                }
            }
            "SIZE" => {
                if let Some(size) = reply::size(&reply.text) {
                    reply.text = size.to_string();
                }
            }
            _ => {}
        }
        reply
    }

    /// Gives the client the pending bytes of a reply; returns whether there were any.
    fn serve(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.ready[self.handed..];
        if rest.is_empty() {
            return false;
        }
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        self.handed += count;
        if self.handed == self.ready.len() {
            self.ready.clear();
            self.handed = 0;
        }
        true
    }

    /// Stops waiting for a reply that may never come.
    fn give_up(&mut self, waiting: Waiting) {
        self.timer = None;
        match waiting {
            Waiting::End => {
                if let Parsed::Doubtful(reply, length) = reply::parse(&self.received) {
                    self.received.drain(..length);
                    self.take(reply);
                }
            }
            Waiting::Beginning => {
                self.shown.presumed.store(true, Ordering::Relaxed);
                self.stage = Stage::Begun;
                self.hand_on(&Reply { code: 150, text: String::new() });
            }
            Waiting::Second => {
                if let Some(reply) = self.early.take() {
                    self.shown.early.store(true, Ordering::Relaxed);
                    self.stage = Stage::None;
                    self.hand_on(&Reply { code: 226, ..reply });
                }
            }
        }
    }

    /// Returns what to wait for if the server sends nothing more, and how long.
    fn waiting(&self, doubtful: bool) -> Option<(Waiting, Duration)> {
        if doubtful {
            return Some((Waiting::End, DOUBT));
        }
        match self.stage {
            Stage::Asked if self.received.is_empty() => Some((Waiting::Beginning, self.patience)),
            Stage::Begun if self.early.is_some() => Some((Waiting::Second, SECOND)),
            _ => None,
        }
    }
}

impl Wire {
    fn poll_reply(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(control) = &mut self.control else {
            return self.inner.poll_read(cx, buf);
        };
        loop {
            if control.serve(buf) {
                return Poll::Ready(Ok(()));
            }
            let doubtful = match reply::parse(&control.received) {
                Parsed::Whole(reply, length) => {
                    control.received.drain(..length);
                    control.take(reply);
                    continue;
                }
                Parsed::Foreign => {
                    let line: Vec<u8> = control.received.iter().copied().take(60).collect();
                    let what =
                        format!("not an FTP reply: {}", String::from_utf8_lossy(&line).trim());
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
                }
                Parsed::Partial => false,
                Parsed::Doubtful(..) => true,
            };
            let mut chunk = [0; 4096];
            let mut read = ReadBuf::new(&mut chunk);
            match self.inner.poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if read.filled().is_empty() => {
                    // An incomplete reply won't be continued.
                    match control.waiting(doubtful) {
                        Some((waiting @ (Waiting::End | Waiting::Second), _)) => {
                            control.give_up(waiting)
                        }
                        _ => return Poll::Ready(Ok(())),
                    }
                }
                Poll::Ready(Ok(())) => {
                    control.received.extend_from_slice(read.filled());
                    control.timer = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let Some((waiting, pause)) = control.waiting(doubtful) else {
                        control.timer = None;
                        return Poll::Pending;
                    };
                    if control.timer.as_ref().is_none_or(|(what, _)| *what != waiting) {
                        control.timer = Some((waiting, Box::pin(tokio::time::sleep(pause))));
                    }
                    if let Some((_, timer)) = &mut control.timer {
                        ready!(timer.as_mut().poll(cx));
                    }
                    control.give_up(waiting);
                }
            }
        }
    }

    /// Drops unsolicited replies before they are mistaken for the answer to the next command. A
    /// reply sent on closing the connection is kept.
    fn drop_stale(&mut self, cx: &mut Context<'_>, next: &[u8]) {
        let Some(control) = &mut self.control else {
            return;
        };
        if !control.line.is_empty() || next.starts_with(b"ABOR") {
            return;
        }
        let mut chunk = [0; 4096];
        let mut read = ReadBuf::new(&mut chunk);
        if let Poll::Ready(Ok(())) = self.inner.poll_read(cx, &mut read) {
            control.received.extend_from_slice(read.filled());
        }
        while let Parsed::Whole(reply, length) | Parsed::Doubtful(reply, length) =
            reply::parse(&control.received)
        {
            if reply.code == 421 {
                return;
            }
            tracing::debug!(code = reply.code, text = %reply.text, "unsolicited FTP reply");
            control.received.drain(..length);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_reply(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.drop_stale(cx, buf);
        let count = ready!(match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Inner::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        })?;
        if let Some(control) = &mut self.control {
            control.written(&buf[..count]);
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Inner::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Inner::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

impl TokioTlsStream for Wire {
    type InnerStream = Self;

    fn tcp_stream(self) -> FtpResult<TcpStream> {
        match self.inner {
            Inner::Plain(stream) => Ok(stream),
            Inner::Tls(stream) => Ok(stream.into_inner().0),
        }
    }

    fn get_ref(&self) -> &TcpStream {
        match &self.inner {
            Inner::Plain(stream) => stream,
            Inner::Tls(stream) => stream.get_ref().0,
        }
    }

    fn mut_ref(&mut self) -> &mut Self {
        self
    }
}
