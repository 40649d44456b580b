//! An HTTP server that takes webhooks: it keeps what it is sent, and answers as it is told: well, with a failure, never, or without end.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
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
    /// The header fields, as they came.
    pub head: String,
    /// The content.
    pub body: String,
}

impl Hook {
    /// The content as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

#[derive(Debug)]
struct Shared {
    manner: Mutex<Manner>,
    taken: Mutex<Vec<Hook>>,
}

/// The running server; dropping it ends it.
#[derive(Debug)]
pub struct Hooks {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Hooks {
    /// Starts it on a free port of the loopback interface.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(manner: Manner) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            manner: Mutex::new(manner),
            taken: Mutex::default(),
        });
        let for_task = shared.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, for_task.clone()));
            }
        });
        Ok(Self { address, shared, task })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its address, with a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it has been sent.
    pub fn taken(&self) -> Vec<Hook> {
        lock(&self.shared.taken).clone()
    }

    /// Answers in another manner from now on.
    pub fn set(&self, manner: Manner) {
        *lock(&self.shared.manner) = manner;
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut heard = Vec::new();
    let mut space = vec![0; 64 * 1024];
    let end = loop {
        if let Some(at) = heard.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        let count = stream.read(&mut space).await.ok().filter(|count| *count > 0)?;
        heard.extend_from_slice(&space[..count]);
    };
    let head = String::from_utf8_lossy(&heard[..end]).into_owned();
    let length: usize = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length:")?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let mut body = heard.split_off(end + 4);
    while body.len() < length {
        let count = stream.read(&mut space).await.ok().filter(|count| *count > 0)?;
        body.extend_from_slice(&space[..count]);
    }
    let (line, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
    lock(&shared.taken).push(Hook {
        line: line.to_owned(),
        head: fields.to_owned(),
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    let manner = *lock(&shared.manner);
    match manner {
        Manner::Status(status) => {
            let answer = format!("HTTP/1.1 {status} As Told\r\nContent-Length: 7\r\nConnection: close\r\n\r\nas told");
            stream.write_all(answer.as_bytes()).await.ok()
        }
        Manner::Silent => std::future::pending().await,
        Manner::Endless => {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n";
            stream.write_all(head.as_bytes()).await.ok()?;
            for _ in 0..160 * 1024 {
                stream.write_all(&space).await.ok()?;
            }
            Some(())
        }
    }
}
