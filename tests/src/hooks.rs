//! An HTTP server that receives webhooks. It records requests and answers as configured: with
//! success, with a failure, never, or without end.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    http::{Request, serve_each},
    lock,
};

/// How requests are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// With this status.
    Status(u16),
    /// Not at all; the connection stays open.
    Silent,
    /// With 200 and ten gigabytes.
    Endless,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Hook {
    /// Method and path.
    pub line: String,
    /// The header fields, as received.
    pub head: String,
    /// The body.
    pub body: String,
    /// Whether it was answered with a success.
    pub accepted: bool,
}

impl Hook {
    /// Returns the body as JSON.
    ///
    /// # Panics
    /// The body is not valid JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

#[derive(Debug)]
struct Shared {
    manner: Mutex<Manner>,
    taken: Mutex<Vec<Hook>>,
}

/// The running server; dropping it stops it.
#[derive(Debug)]
pub struct Hooks {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

impl Hooks {
    /// Starts the server on a free port of the loopback interface.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start(manner: Manner) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { manner: Mutex::new(manner), taken: Mutex::default() });
        let for_task = shared.clone();
        Ok(Self {
            address,
            shared,
            _task: serve_each(listener, move |stream| serve(stream, for_task.clone())),
        })
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns its address with a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the received requests.
    pub fn taken(&self) -> Vec<Hook> {
        lock(&self.shared.taken).clone()
    }

    /// Returns the received requests that were accepted.
    pub fn accepted(&self) -> Vec<Hook> {
        self.taken().into_iter().filter(|hook| hook.accepted).collect()
    }

    /// Changes how requests are answered from now on.
    pub fn set(&self, manner: Manner) {
        *lock(&self.shared.manner) = manner;
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let request = Request::read(&mut stream, &mut Vec::new()).await.ok()??;
    let manner = *lock(&shared.manner);
    let target = request.line.clone();
    lock(&shared.taken).push(Hook {
        accepted: matches!(manner, Manner::Status(200..300)),
        line: request.line,
        head: request.head,
        body: String::from_utf8_lossy(&request.body).into_owned(),
    });
    match manner {
        Manner::Status(status) => {
            // Uptime Kuma confirms each heartbeat; other services accept any text.
            let is_push = target.contains("/api/push/") && (200..300).contains(&status);
            let body = if is_push { "{\"ok\":true}" } else { "as told" };
            let answer = format!(
                "HTTP/1.1 {status} As Told\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.ok()
        }
        Manner::Silent => std::future::pending().await,
        Manner::Endless => {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n";
            stream.write_all(head.as_bytes()).await.ok()?;
            let space = vec![0; 64 * 1024];
            for _ in 0..160 * 1024 {
                stream.write_all(&space).await.ok()?;
            }
            Some(())
        }
    }
}
