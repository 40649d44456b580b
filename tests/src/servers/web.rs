//! Web sites behind a proxy: programs reach them at `https://HOST/` with `HTTPS_PROXY` set to the
//! proxy's address. Each host has a certificate of the test authority for its name.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::Authority;
use crate::{
    http::{Request, serve_each},
    lock,
};

/// How a page is answered.
#[derive(Debug, Clone)]
pub enum Page {
    /// With this content.
    Content(Vec<u8>),
    /// With a redirect to this address.
    Redirect(String),
    /// With this status and no content.
    Status(u16),
    /// With a content of one gigabyte.
    Endless,
    /// Not at all; the connection stays open.
    Silent,
}

/// What the sites share.
#[derive(Default)]
struct Shared {
    certificates: BTreeMap<String, Arc<ServerConfig>>,
    pages: BTreeMap<String, Page>,
    /// Hosts with their ports, and the ports of this machine that they lead to.
    tunnels: BTreeMap<String, u16>,
    tunnelled: Vec<String>,
    requests: Vec<String>,
}

/// The running proxy with its sites; dropping it ends it.
pub struct Web {
    port: u16,
    shared: Arc<Mutex<Shared>>,
    _task: JoinSet<()>,
}

impl Web {
    /// Starts the proxy, without any site.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let served = shared.clone();
        Ok(Self {
            port,
            shared,
            _task: serve_each(listener, move |stream| serve(stream, served.clone())),
        })
    }

    /// Returns the proxy's address, for `HTTPS_PROXY`.
    pub fn proxy(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Adds a host whose certificate is for `name`, usually the host's own.
    pub fn host(&self, host: &str, authority: &Authority, name: &str) {
        lock(&self.shared).certificates.insert(host.to_owned(), authority.server_for(name));
    }

    /// Leads a host with this port to the same port of this machine.
    pub fn tunnel(&self, host: &str, port: u16) {
        lock(&self.shared).tunnels.insert(format!("{host}:{port}"), port);
    }

    /// Returns the hosts and ports to which tunnels were opened.
    pub fn tunnelled(&self) -> Vec<String> {
        lock(&self.shared).tunnelled.clone()
    }

    /// Sets what is at an address, such as `autoconfig.example.com/mail/config-v1.1.xml`, whatever
    /// its query.
    pub fn page(&self, address: &str, page: Page) {
        lock(&self.shared).pages.insert(address.to_owned(), page);
    }

    /// Returns the requested addresses, queries included.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared).requests.clone()
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Mutex<Shared>>) -> io::Result<()> {
    let Some(request) = Request::read(&mut stream, &mut Vec::new()).await? else { return Ok(()) };
    let mut words = request.line.split(' ');
    let (Some("CONNECT"), Some(target)) = (words.next(), words.next()) else {
        return stream.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n").await;
    };
    let tunnel = lock(&shared).tunnels.get(target).copied();
    if let Some(port) = tunnel {
        lock(&shared).tunnelled.push(target.to_owned());
        let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        return tokio::io::copy_bidirectional(&mut stream, &mut server).await.map(|_| ());
    }
    let host = target.strip_suffix(":443").unwrap_or(target).to_owned();
    let certificate = lock(&shared).certificates.get(&host).cloned();
    let Some(certificate) = certificate else {
        return stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await;
    };
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    let mut stream = TlsAcceptor::from(certificate).accept(stream).await?;
    let Some(request) = Request::read(&mut stream, &mut Vec::new()).await? else { return Ok(()) };
    let path = request.line.split(' ').nth(1).unwrap_or("/");
    let page = {
        let mut shared = lock(&shared);
        shared.requests.push(format!("{host}{path}"));
        let address = format!("{host}{}", path.split('?').next().unwrap_or(path));
        shared.pages.get(&address).cloned()
    };
    reply(&mut stream, page.unwrap_or(Page::Status(404))).await?;
    stream.shutdown().await
}

async fn reply(stream: &mut (impl AsyncWrite + Unpin), page: Page) -> io::Result<()> {
    const GIGABYTE: usize = 1024 * 1024 * 1024;
    let head = |status: &str, fields: &str, length: usize| {
        format!(
            "HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        )
    };
    match page {
        Page::Content(content) => {
            stream.write_all(head("200 OK", "", content.len()).as_bytes()).await?;
            stream.write_all(&content).await
        }
        Page::Redirect(to) => {
            let fields = format!("Location: {to}\r\n");
            stream.write_all(head("302 Found", &fields, 0).as_bytes()).await
        }
        Page::Status(status) => {
            stream.write_all(head(&format!("{status} -"), "", 0).as_bytes()).await
        }
        Page::Endless => {
            stream.write_all(head("200 OK", "", GIGABYTE).as_bytes()).await?;
            let space = vec![b' '; 64 * 1024];
            for _ in 0..GIGABYTE / space.len() {
                stream.write_all(&space).await?;
            }
            Ok(())
        }
        Page::Silent => std::future::pending().await,
    }
}
