//! A log server that records what it receives over TCP, in plaintext or with TLS.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{Authority, Certificate};
use crate::{http::serve_each, lock};

/// The running server; dropping it stops it.
#[derive(Debug)]
pub struct LogServer {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
    _task: JoinSet<()>,
}

impl LogServer {
    /// Starts the server on a free port of the loopback interface; with an authority, it presents
    /// its certificate.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start(authority: Option<&Authority>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let heard = Arc::new(Mutex::default());
        let kept = Arc::clone(&heard);
        let tls = authority.map(|authority| TlsAcceptor::from(authority.config(Certificate::Good)));
        let task = serve_each(listener, move |stream| {
            let (tls, kept) = (tls.clone(), Arc::clone(&kept));
            async move {
                match tls {
                    None => hear(stream, &kept).await,
                    Some(tls) => hear(tls.accept(stream).await?, &kept).await,
                }
            }
        });
        Ok(Self { address, heard, _task: task })
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns everything received.
    pub fn heard(&self) -> String {
        String::from_utf8_lossy(&lock(&self.heard)).into_owned()
    }
}

async fn hear(mut stream: impl AsyncRead + Unpin, kept: &Mutex<Vec<u8>>) -> io::Result<()> {
    let mut space = [0; 4096];
    loop {
        match stream.read(&mut space).await? {
            0 => return Ok(()),
            count => lock(kept).extend_from_slice(&space[..count]),
        }
    }
}
