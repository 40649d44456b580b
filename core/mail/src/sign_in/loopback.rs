//! The end of a sign-in: the browser is redirected to a port of the loopback interface (RFC 8252,
//! section 7.3), where this small server reads the code.

use std::time::Duration;

use mailqos_base::Secret;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{Authorization, SignInError};

/// The longest head of a request.
const MAX_HEAD: usize = 32 * 1024;
/// Deadline of a request.
const DEADLINE: Duration = Duration::from_secs(5);

/// A port of the loopback interface that waits for the browser.
#[derive(Debug)]
pub struct Loopback {
    /// `127.0.0.1`, and `::1` if there is one: browsers may prefer it for `localhost`.
    listeners: Vec<TcpListener>,
    port: u16,
}

impl Loopback {
    /// Opens a free port.
    ///
    /// # Errors
    /// There is none.
    pub async fn open() -> Result<Self, SignInError> {
        let failed = |error: std::io::Error| {
            SignInError::System(format!("can't open a port for the browser: {error}"))
        };
        let first = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let port = first.local_addr().map_err(failed)?.port();
        let mut listeners = vec![first];
        listeners.extend(TcpListener::bind(("::1", port)).await.ok());
        Ok(Self { listeners, port })
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the redirect of this sign-in. Requests that don't belong to it are refused and
    /// otherwise ignored.
    ///
    /// # Errors
    /// The provider refused, or the port is lost.
    pub async fn code(&self, authorization: &Authorization) -> Result<Secret, SignInError> {
        loop {
            let accepted = match &self.listeners[..] {
                [first, second] => tokio::select! {
                    accepted = first.accept() => accepted,
                    accepted = second.accept() => accepted,
                },
                [first, ..] => first.accept().await,
                [] => {
                    return Err(SignInError::System("the port for the browser is lost".to_owned()));
                }
            };
            let Ok((stream, _)) = accepted else {
                // No descriptor is left, for example.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            if let Ok(Some(result)) = timeout(DEADLINE, serve(stream, authorization)).await {
                return result;
            }
        }
    }
}

/// Answers a request; `None` if it does not belong to the sign-in.
async fn serve(
    mut stream: TcpStream,
    authorization: &Authorization,
) -> Option<Result<Secret, SignInError>> {
    let query = query(&mut stream).await;
    let result = query.as_deref().map(|query| authorization.code(query));
    let (status, text) = match &result {
        Some(Ok(_)) => ("200 OK", "You are signed in. Close this window and return to mailqos."),
        Some(Err(SignInError::OtherState | SignInError::NotACode)) | None => {
            ("404 Not Found", "This address belongs to another sign-in.")
        }
        Some(Err(_)) => ("200 OK", "The sign-in was refused. Return to mailqos for the reason."),
    };
    let reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    // The code counts even if the browser has gone.
    let _ = stream.write_all(reply.as_bytes()).await;
    let _ = stream.shutdown().await;
    result.filter(|result| !matches!(result, Err(SignInError::OtherState | SignInError::NotACode)))
}

/// Reads the query of a GET request for `/`.
async fn query(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut space = [0; 4096];
        match stream.read(&mut space).await {
            Ok(count @ 1..) if head.len() + count <= MAX_HEAD => {
                head.extend_from_slice(&space[..count]);
            }
            _ => return None,
        }
    }
    let text = String::from_utf8_lossy(&head);
    let target = text.lines().next()?.strip_prefix("GET ")?.split(' ').next()?;
    target.strip_prefix("/?").map(str::to_owned)
}
