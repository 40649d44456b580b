//! Shared parts of the smaller servers: connections are served separately, HTTP requests are read
//! completely.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Serves each connection in a separate task until the result is dropped.
pub(crate) fn serve_each<F>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> JoinSet<()>
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut conversations = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            conversations.spawn(serve(stream));
            while conversations.try_join_next().is_some() {}
        }
    });
    task
}

/// An HTTP request.
pub(crate) struct Request {
    /// Method, path and version.
    pub(crate) line: String,
    /// The header fields, as received.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Reads the next request of a connection; `None` at its end. Bytes of the following request
    /// stay in `heard`.
    pub(crate) async fn read(
        stream: &mut (impl AsyncRead + Unpin),
        heard: &mut Vec<u8>,
    ) -> io::Result<Option<Self>> {
        let mut space = vec![0; 64 * 1024];
        let end = loop {
            if let Some(at) = heard.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            match stream.read(&mut space).await? {
                0 => return Ok(None),
                count => heard.extend_from_slice(&space[..count]),
            }
        };
        let text = String::from_utf8_lossy(&heard[..end]).into_owned();
        heard.drain(..end + 4);
        let (line, head) = text.split_once("\r\n").unwrap_or((&text, ""));
        let mut request = Self { line: line.to_owned(), head: head.to_owned(), body: Vec::new() };
        let length = request.field("content-length").and_then(|length| length.parse().ok());
        let length = length.unwrap_or(0);
        while heard.len() < length {
            match stream.read(&mut space).await? {
                0 => return Ok(None),
                count => heard.extend_from_slice(&space[..count]),
            }
        }
        request.body = heard.drain(..length).collect();
        Ok(Some(request))
    }

    /// Returns the value of a header field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.trim())
    }
}
