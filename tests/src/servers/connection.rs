//! A server's side of a connection: lines in, replies out, TLS, and faults in between.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader, ReadBuf,
    },
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Shared,
    certificates::Certificate,
    faults::{Fault, Protocol},
};

/// Longest line that is accepted from a client.
const MAX_LINE: u64 = 64 * 1024;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Result of [`Connection::meet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// The command is to be executed.
    Go,
    /// A fault has answered instead.
    Answered,
}

pub(super) struct Connection {
    stream: Option<BufReader<Box<dyn Stream>>>,
    /// Requests a reset instead of an orderly end.
    reset: Arc<AtomicBool>,
    pub(super) shared: Arc<Shared>,
    protocol: Protocol,
    /// Fault of the next reply.
    next: Option<Fault>,
    /// TLS version and cipher, once TLS is active.
    pub(super) tls: Option<String>,
}

/// A socket that can end with a reset.
struct Socket {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connection {
    pub(super) fn new(stream: TcpStream, shared: Arc<Shared>, protocol: Protocol) -> Self {
        let _ = stream.set_nodelay(true);
        let reset = Arc::new(AtomicBool::new(false));
        let socket = Socket { stream, reset: reset.clone() };
        Self {
            stream: Some(BufReader::new(Box::new(socket))),
            reset,
            shared,
            protocol,
            next: None,
            tls: None,
        }
    }

    fn stream(&mut self) -> io::Result<&mut BufReader<Box<dyn Stream>>> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Reads the next line without its line end; `None` at the end of the connection.
    pub(super) async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.stream()?.take(MAX_LINE).read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            return if line.is_empty() { Ok(None) } else { Err(io::ErrorKind::InvalidData.into()) };
        }
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }

    /// Reads the next command and logs it.
    pub(super) async fn command(&mut self) -> io::Result<Option<String>> {
        let line = self.line().await?.map(|line| String::from_utf8_lossy(&line).into_owned());
        if let Some(line) = &line {
            self.shared.log_command(self.protocol, line);
        }
        Ok(line)
    }

    /// Reads exactly this many bytes: an IMAP literal.
    pub(super) async fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream()?.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    /// Applies a fault of this phase, if there is one.
    pub(super) async fn meet(&mut self, phase: &str) -> io::Result<Met> {
        let Some(fault) = self.shared.fault(self.protocol, phase) else {
            return Ok(Met::Go);
        };
        match fault {
            Fault::Close => {
                let _ = self.stream()?.get_mut().shutdown().await;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            Fault::Reset => {
                self.reset.store(true, Ordering::Relaxed);
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Fault::Stall => self.stall().await,
            Fault::Garbage => {
                let garbage: &[u8] =
                    b"\x00\xff\xfe\x80garbage \x1b[31m\xc3\x28 not a reply\r\n\r\n\x07\r\n";
                self.write(garbage).await?;
                Ok(Met::Answered)
            }
            Fault::Endless(length) => {
                let chunk = [b'x'; 16 * 1024];
                let mut left = length;
                while left > 0 {
                    let part = left.min(chunk.len());
                    self.write(&chunk[..part]).await?;
                    left -= part;
                }
                self.stall().await
            }
            Fault::Reply(reply) => {
                self.write(reply.as_bytes()).await?;
                self.write(b"\r\n").await?;
                Ok(Met::Answered)
            }
            fault @ (Fault::Delay(_)
            | Fault::Drip(_)
            | Fault::CutReply
            | Fault::CloseAfter
            | Fault::Certificate(_)) => {
                self.next = Some(fault);
                Ok(Met::Go)
            }
        }
    }

    /// Sends nothing more until the client disconnects.
    async fn stall(&mut self) -> io::Result<Met> {
        let mut sink = [0; 4096];
        while self.stream()?.read(&mut sink).await? > 0 {}
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Sends a reply, as altered by the current fault.
    pub(super) async fn reply(&mut self, reply: &[u8]) -> io::Result<()> {
        let rewrite = self.shared.options.rewrite;
        let rewritten =
            rewrite.and_then(|rewrite| rewrite(self.protocol, std::str::from_utf8(reply).ok()?));
        let reply = rewritten.as_ref().map_or(reply, String::as_bytes);
        match self.next.take() {
            None | Some(Fault::Certificate(_)) => self.write(reply).await,
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                self.write(reply).await
            }
            Some(Fault::Drip(pause)) => {
                for byte in reply {
                    self.write(std::slice::from_ref(byte)).await?;
                    tokio::time::sleep(pause).await;
                }
                Ok(())
            }
            Some(Fault::CutReply) => {
                self.write(&reply[..reply.len() / 2]).await?;
                let _ = self.stream()?.get_mut().shutdown().await;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            Some(_) => {
                let _ = self.stream()?.get_mut().shutdown().await;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }

    /// Sends a reply of one line.
    pub(super) async fn say(&mut self, line: &str) -> io::Result<()> {
        self.reply(format!("{line}\r\n").as_bytes()).await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream()?.get_mut();
        stream.write_all(bytes).await?;
        stream.flush().await
    }

    /// Closes the connection in an orderly way.
    pub(super) async fn close(mut self) -> io::Result<()> {
        self.stream()?.get_mut().shutdown().await
    }

    /// Switches to TLS. Plaintext that the client has already sent is dropped (CVE-2011-0411).
    pub(super) async fn start_tls(&mut self) -> io::Result<()> {
        if self.meet("TLS").await? == Met::Answered {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let certificate = match &self.next {
            Some(Fault::Certificate(certificate)) => *certificate,
            _ => Certificate::Good,
        };
        if let Some(Fault::Delay(delay)) = self.next.take() {
            tokio::time::sleep(delay).await;
        }
        let stream = self.stream.take().ok_or(io::ErrorKind::NotConnected)?.into_inner();
        let acceptor = TlsAcceptor::from(self.shared.authority.config(certificate));
        let stream: TlsStream<Box<dyn Stream>> =
            tokio::time::timeout(Duration::from_secs(60), acceptor.accept(stream)).await??;
        let session = stream.get_ref().1;
        self.tls = Some(format!(
            "using {} with cipher {} (256/256 bits)",
            match session.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            session
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or("unknown")
                .replace("TLS13_", "TLS_")
        ));
        self.stream = Some(BufReader::new(Box::new(stream)));
        Ok(())
    }
}
