//! The embedded token server (RFC 6749): client credentials and refresh tokens, in plaintext on the
//! loopback interface.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::TokenBook;
use crate::{
    http::{Request, serve_each},
    lock,
};

/// State of the server.
#[derive(Debug, Default)]
struct Shared {
    book: TokenBook,
    user: String,
    client_secret: String,
    /// The valid refresh token; each use replaces it.
    refresh_token: Mutex<String>,
    requests: Mutex<Vec<String>>,
    refusal: Mutex<Option<String>>,
}

/// The running server; dropping it stops it.
pub struct TokenServer {
    shared: Arc<Shared>,
    port: u16,
    _task: JoinSet<()>,
}

impl TokenServer {
    /// Starts a server whose tokens are valid for this user's mailbox on all servers that share the
    /// book.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start(
        book: &TokenBook,
        user: &str,
        client_secret: &str,
        refresh_token: &str,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            book: book.clone(),
            user: user.to_owned(),
            client_secret: client_secret.to_owned(),
            refresh_token: Mutex::new(refresh_token.to_owned()),
            ..Shared::default()
        });
        let served = shared.clone();
        Ok(Self {
            shared,
            port,
            _task: serve_each(listener, move |stream| serve(stream, served.clone())),
        })
    }

    /// Returns its address, for `token_url`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/tenant/oauth2/v2.0/token", self.port)
    }

    /// Makes it answer every request with this JSON and status 400, or stop doing so.
    pub fn refuse(&self, json: Option<&str>) {
        *lock(&self.shared.refusal) = json.map(str::to_owned);
    }

    /// Returns the received forms.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.requests).clone()
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let Some(request) = Request::read(&mut stream, &mut Vec::new()).await? else {
        return Ok(());
    };
    let form = String::from_utf8_lossy(&request.body).into_owned();
    lock(&shared.requests).push(form.clone());
    let (status, json) = answer(&shared, &form);
    let reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{json}",
        json.len()
    );
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}

fn answer(shared: &Shared, form: &str) -> (&'static str, String) {
    if let Some(json) = &*lock(&shared.refusal) {
        return ("400 Bad Request", json.clone());
    }
    let refused = |error: &str| ("400 Bad Request", format!("{{\"error\":\"{error}\"}}"));
    let field = |name: &str| {
        let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
        values.next().unwrap_or_default()
    };
    if field("client_secret") != shared.client_secret {
        return refused("invalid_client");
    }
    let number = lock(&shared.requests).len();
    let mut more = String::new();
    match field("grant_type").as_str() {
        "client_credentials" => {}
        "refresh_token" => {
            let mut valid = lock(&shared.refresh_token);
            if field("refresh_token") != *valid {
                return refused("invalid_grant");
            }
            *valid = format!("Rotated-Refresh-{number}-5Tz");
            more = format!(",\"refresh_token\":\"{valid}\"");
        }
        _ => return refused("unsupported_grant_type"),
    }
    let token = format!("Access-Token-{number}-8Wq");
    shared.book.admit(&token, &shared.user);
    (
        "200 OK",
        format!(
            "{{\"access_token\":\"{token}\",\"token_type\":\"Bearer\",\"expires_in\":3600{more}}}"
        ),
    )
}
