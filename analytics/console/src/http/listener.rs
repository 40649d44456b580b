//! The listener: connections with limits on their number, their time, and the size of requests.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use mailqos_base::lock::IgnorePoison as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};

use super::{patient::Patient, tls::Certificates};

/// Connections at the same time.
const MAX_CONNECTIONS: usize = 2_000;
/// Connections of one address at the same time; a reverse proxy has its own share.
const MAX_PER_ADDRESS: usize = 200;
/// Longest time until the header of a request is complete, from the start of the connection or the
/// end of the previous request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest header of a request, in bytes.
const MAX_HEADER: usize = 32 << 10;
/// Header fields of a request.
const MAX_FIELDS: usize = 100;
/// Wait after an error of accept, for example if the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest time in which requests in progress are finished when the console stops.
const FINISHING: Duration = Duration::from_secs(5);

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: IpAddr,
    /// Reverse proxies that may name the client.
    pub(crate) proxies: Arc<[IpAddr]>,
}

/// Counts the connections of each address.
#[derive(Debug, Default)]
struct Counts(Mutex<HashMap<IpAddr, usize>>);

/// A counted connection; no longer counted when dropped.
struct Counted {
    counts: Arc<Counts>,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().ignore_poison();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

impl Counts {
    /// Counts a connection, unless its address has too many.
    fn add(
        self: &Arc<Self>,
        address: IpAddr,
        most: usize,
        permit: OwnedSemaphorePermit,
    ) -> Option<Counted> {
        let mut counts = self.0.lock().ignore_poison();
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted { counts: Arc::clone(self), address, _permit: permit })
    }
}

/// What connections are served with.
#[derive(Clone)]
pub(crate) struct Service {
    /// The pages.
    pub(crate) router: Router,
    /// The certificate; `None`: plaintext.
    pub(crate) certificates: Option<Arc<Certificates>>,
    /// Reverse proxies, which may have all connections.
    pub(crate) proxies: Arc<[IpAddr]>,
}

/// Serves connections until `stop` changes; then finishes requests in progress.
pub(crate) async fn serve(
    listener: TcpListener,
    service: Service,
    mut stop: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let counts = Arc::new(Counts::default());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &permits) => accepted,
            _ = stop.changed() => break,
        };
        while connections.try_join_next().is_some() {}
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "console: no connection accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let address = peer.ip().to_canonical();
        let is_proxy = service.proxies.contains(&address);
        let most = if is_proxy { MAX_CONNECTIONS } else { MAX_PER_ADDRESS };
        let Some(counted) = counts.add(address, most, permit) else {
            tracing::debug!(%address, "console: too many connections of one address");
            continue;
        };
        let (service, stop) = (service.clone(), stop.clone());
        connections.spawn(async move {
            let _counted = counted;
            connection(stream, address, service, stop).await;
        });
    }
    drop(listener);
    let _ = timeout(FINISHING, async { while connections.join_next().await.is_some() {} }).await;
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    // Connections beyond the limit wait in the queue of the system.
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

async fn connection(
    stream: TcpStream,
    address: IpAddr,
    service: Service,
    stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let peer = Peer { address, proxies: service.proxies };
    match &service.certificates {
        None => requests(stream, peer, service.router, stop).await,
        Some(certificates) => {
            let acceptor = tokio_rustls::TlsAcceptor::from(certificates.current());
            match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => requests(stream, peer, service.router, stop).await,
                Ok(Err(error)) => {
                    tracing::debug!(%address, %error, "console: TLS handshake failed")
                }
                Err(_) => tracing::debug!(%address, "console: TLS handshake timed out"),
            }
        }
    }
}

async fn requests<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: IO,
    peer: Peer,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let address = peer.address;
    let router = router.layer(axum::Extension(peer));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER)
        .max_headers(MAX_FIELDS)
        .serve_connection(TokioIo::new(Patient::new(stream)), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(%address, %error, "console: connection ended");
            }
            return;
        }
        _ = stop.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
