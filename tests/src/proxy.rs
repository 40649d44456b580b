//! A proxy that mistreats the bytes of a connection: slow, late, in tiny pieces, stalled, cut off.
//! It never reorders them, as TCP never does; a lost packet appears as a pause that also delays
//! everything after it.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::sleep,
};

use crate::lock;

/// Time until TCP retransmits a lost packet; it doubles if the packet is lost again (RFC 6298,
/// Linux).
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// How long to wait for an address that is in use.
const LETTING_GO: Duration = Duration::from_secs(10);

/// How long a stalled connection stays open: longer than any client waits.
const STALLED: Duration = Duration::from_secs(300);

/// How the bytes of each connection are treated, in both directions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Treatment {
    /// Delay of each piece.
    pub latency: Duration,
    /// Percentage of pieces that are lost and sent again after a pause.
    pub loss: u8,
    /// Maximum bytes per piece, and the pause between pieces.
    pub drip: Option<(usize, Duration)>,
    /// Number of bytes from the client after which the connection is reset.
    pub cut_after_sent: Option<u64>,
    /// Number of bytes from the server after which the connection is reset.
    pub cut_after_received: Option<u64>,
    /// Number of bytes in both directions after which nothing passes any more; the connection stays
    /// open.
    pub stall_after: Option<u64>,
    /// Whether connections are closed immediately.
    pub refuse: bool,
}

/// A running proxy; dropping it stops it and cuts its connections.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

/// What a proxy shares with its task.
#[derive(Default)]
struct Shared {
    treatment: Mutex<Treatment>,
    connections: AtomicU64,
    struck: Arc<AtomicU64>,
    cutting: Notify,
}

impl Proxy {
    /// Listens on a free port of the loopback interface and forwards everything to `server`.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        Self::start_at(([127, 0, 0, 1], 0).into(), server).await
    }

    /// Listens on this address; waits a while if it is in use, for example by a proxy that is just
    /// stopping.
    ///
    /// # Errors
    /// The port remains in use.
    pub async fn start_at(address: SocketAddr, server: SocketAddr) -> io::Result<Self> {
        let begun = Instant::now();
        let listener = loop {
            match TcpListener::bind(address).await {
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < LETTING_GO =>
                {
                    sleep(Duration::from_millis(50)).await;
                }
                bound => break bound?,
            }
        };
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let mut task = JoinSet::new();
        task.spawn(take(listener, server, shared.clone()));
        Ok(Self { address, shared, _task: task })
    }

    /// Returns the proxy's port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Sets the treatment of new connections.
    pub fn treat(&self, treatment: Treatment) {
        *lock(&self.shared.treatment) = treatment;
    }

    /// Cuts the existing connections, so that clients that kept one need another.
    pub fn cut(&self) {
        self.shared.cutting.notify_one();
    }

    /// Returns how many connections there have been.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Returns how many connections were affected: slowed, stalled, cut or refused.
    pub fn struck(&self) -> u64 {
        self.shared.struck.load(Ordering::Relaxed)
    }
}

async fn take(listener: TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    let Shared { treatment, connections, struck, cutting } = &*shared;
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            taken = listener.accept() => {
                let Ok((client, _)) = taken else { continue };
                let number = connections.fetch_add(1, Ordering::Relaxed);
                let treatment = lock(treatment).clone();
                if treatment.refuse {
                    struck.fetch_add(1, Ordering::Relaxed);
                } else {
                    running.spawn(pass(client, server, treatment, number, struck.clone()));
                }
            }
            () = cutting.notified() => running.abort_all(),
            Some(_) = running.join_next() => {}
        }
    }
}

/// Why a direction ended.
enum End {
    /// One side has sent everything.
    Whole,
    /// The connection is to be reset.
    Cut,
}

/// State shared by the two directions of a connection.
struct Course {
    treatment: Treatment,
    /// Bytes in both directions.
    passed: AtomicU64,
    random: Mutex<Pcg64Mcg>,
    felt: AtomicBool,
    struck: Arc<AtomicU64>,
}

impl Course {
    /// Returns the additional delay of the next piece because of losses.
    fn lost(&self) -> Duration {
        let mut random = lock(&self.random);
        let (mut pause, mut next) = (Duration::ZERO, RETRANSMISSION);
        while random.random_range(0..100) < self.treatment.loss {
            pause += next;
            next *= 2;
        }
        pause
    }

    fn feel(&self) {
        if !self.felt.swap(true, Ordering::Relaxed) {
            self.struck.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn pass(
    mut client: TcpStream,
    server: SocketAddr,
    treatment: Treatment,
    number: u64,
    struck: Arc<AtomicU64>,
) {
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let course = Course {
        passed: AtomicU64::new(0),
        random: Mutex::new(Pcg64Mcg::seed_from_u64(number)),
        felt: AtomicBool::new(false),
        struck,
        treatment,
    };
    let cut = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = direction(from_client, to_server, &course, course.treatment.cut_after_sent);
        let down = direction(from_server, to_client, &course, course.treatment.cut_after_received);
        tokio::pin!(up, down);
        let is_cut = |end: io::Result<End>| !matches!(end, Ok(End::Whole));
        tokio::select! {
            end = &mut up => is_cut(end) || is_cut(down.await),
            end = &mut down => is_cut(end) || is_cut(up.await),
        }
    };
    if cut {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Forwards the bytes of one direction.
async fn direction(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    course: &Course,
    cut_after: Option<u64>,
) -> io::Result<End> {
    let treatment = &course.treatment;
    let (piece, pause) = treatment.drip.unwrap_or((64 * 1024, Duration::ZERO));
    let mut buffer = vec![0; piece.max(1)];
    let mut left = cut_after;
    loop {
        let most = left.map_or(buffer.len(), |left| {
            buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX))
        });
        if most == 0 {
            course.feel();
            return Ok(End::Cut);
        }
        let count = from.read(&mut buffer[..most]).await?;
        if count == 0 {
            to.shutdown().await?;
            return Ok(End::Whole);
        }
        let wait = treatment.latency + pause + course.lost();
        if !wait.is_zero() || treatment.drip.is_some() {
            course.feel();
        }
        if !wait.is_zero() {
            sleep(wait).await;
        }
        let before = course.passed.fetch_add(count as u64, Ordering::Relaxed);
        if treatment.stall_after.is_some_and(|limit| before + count as u64 > limit) {
            course.feel();
            sleep(STALLED).await;
            return Ok(End::Cut);
        }
        to.write_all(&buffer[..count]).await?;
        left = left.map(|left| left - count as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts an echo server.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn bytes_are_passed_slowed_and_cut() {
        let proxy = Proxy::start(echo().await).await.expect("a proxy");
        let connect = || async {
            TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("a connection")
        };

        let mut stream = connect().await;
        stream.write_all(b"hello").await.expect("sent");
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await.expect("heard");
        assert_eq!(&heard, b"hello");

        proxy
            .treat(Treatment { drip: Some((1, Duration::from_millis(5))), ..Treatment::default() });
        let begun = std::time::Instant::now();
        let mut stream = connect().await;
        stream.write_all(b"hello").await.expect("sent");
        stream.read_exact(&mut heard).await.expect("heard");
        assert!(&heard == b"hello" && begun.elapsed() >= Duration::from_millis(30));

        proxy.treat(Treatment { cut_after_received: Some(3), ..Treatment::default() });
        let mut stream = connect().await;
        stream.write_all(b"hello").await.expect("sent");
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest).await;
        assert!(rest.len() <= 3 && (end.is_err() || rest == b"hel"), "{end:?} {rest:?}");

        proxy.treat(Treatment { refuse: true, ..Treatment::default() });
        let mut stream = connect().await;
        assert!(!matches!(stream.read(&mut heard).await, Ok(1..)));
        assert_eq!(proxy.connections(), 4);

        proxy.treat(Treatment {
            loss: 30,
            drip: Some((2, Duration::ZERO)),
            ..Treatment::default()
        });
        let begun = std::time::Instant::now();
        let mut stream = connect().await;
        stream.write_all(b"hello, world").await.expect("sent");
        let mut heard = [0; 12];
        stream.read_exact(&mut heard).await.expect("heard");
        assert!(&heard == b"hello, world" && begun.elapsed() >= RETRANSMISSION);
        // The first connection was unaffected.
        assert_eq!(proxy.struck(), 4);
    }
}
