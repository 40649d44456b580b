//! Calls of a gRPC server over HTTP/2
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use mailqos_base::Secret;
use mailqos_net::{connect, tls_failure};
use prost::Message;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{address::Address, pace::Pace, percent::percent_decoded};

/// Largest request in bytes: what a server accepts by default
/// (`spark.connect.grpc.maxInboundMessageSize`).
pub(crate) const MAX_REQUEST: usize = 128 * 1024 * 1024;
/// Largest message in bytes that is accepted. A server sends at most 128 MiB at a time, except for
/// a single row that is larger (apache/spark#52271).
const MAX_MESSAGE: usize = 256 * 1024 * 1024;
/// Largest header in bytes that is accepted. Errors are in the header, at most 8 KiB by default.
const MAX_HEADER: u32 = 256 * 1024;
/// Bytes that the server may send before they are read.
const WINDOW: u32 = 4 * 1024 * 1024;

/// gRPC status codes
/// (<https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>).
pub(crate) mod code {
    /// The service has no such method.
    pub(crate) const UNIMPLEMENTED: u32 = 12;
    /// An invariant of the server is broken.
    pub(crate) const INTERNAL: u32 = 13;
    /// The server can't answer now.
    pub(crate) const UNAVAILABLE: u32 = 14;
    /// The token is missing or wrong.
    pub(crate) const UNAUTHENTICATED: u32 = 16;
    /// The user may not do this.
    pub(crate) const PERMISSION_DENIED: u32 = 7;
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallError {
    /// There is no connection.
    NoConnection(String),
    /// The connection ended before the answer.
    Broken(String),
    /// The server sent nothing for too long.
    Silent,
    /// The server answered with a status other than OK.
    Status(u32, String),
    /// The server violates the protocol, or a limit is exceeded; another attempt has the same
    /// result.
    Protocol(String),
}

/// A connection to a server.
pub(crate) struct Channel<'a> {
    requests: SendRequest<Bytes>,
    address: &'a Address,
    token: Option<&'a Secret>,
    silence: Duration,
}

fn broken(error: impl std::fmt::Display) -> CallError {
    CallError::Broken(error.to_string())
}

impl<'a> Channel<'a> {
    /// Connects. `tls` is required if the address asks for encryption.
    pub(crate) async fn connect(
        address: &'a Address,
        token: Option<&'a Secret>,
        tls: Option<&Arc<ClientConfig>>,
        pace: &Pace,
    ) -> Result<Self, CallError> {
        let refused = CallError::NoConnection;
        let opening = async {
            let tcp = connect::connect_any(&address.host, address.port, pace.connect)
                .await
                .map_err(|error| refused(error.to_string()))?;
            // Small requests are sent immediately.
            let _ = tcp.set_nodelay(true);
            let Some(tls) = tls else { return start(tcp).await };
            let name = ServerName::try_from(address.host.clone())
                .map_err(|error| CallError::Protocol(error.to_string()))?;
            let explained = |error: io::Error| tls_failure::explain(&error, &address.host);
            let tls = TlsConnector::from(Arc::clone(tls))
                .connect(name, tcp)
                .await
                .map_err(|error| refused(explained(error)))?;
            start(tls).await
        };
        let late = |_| refused(format!("no connection within {} s", pace.connect.as_secs()));
        let requests = timeout(pace.connect, opening).await.map_err(late)??;
        Ok(Self { requests, address, token, silence: pace.silence })
    }

    fn request(&self, method: &str) -> Result<Request<()>, CallError> {
        let scheme = if self.address.tls { "https" } else { "http" };
        let server = self.address.server();
        let mut request = Request::builder()
            .method("POST")
            .version(Version::HTTP_2)
            .uri(format!("{scheme}://{server}/spark.connect.SparkConnectService/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", concat!("mailqos/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = self.token {
            let text = format!("Bearer {}", token.expose());
            let unfit = |_| CallError::Protocol("the token has invalid characters".to_owned());
            let mut value = HeaderValue::from_str(&text).map_err(unfit)?;
            // Neither in HPACK's table nor in a debug message.
            value.set_sensitive(true);
            request = request.header("authorization", value);
        }
        request.body(()).map_err(|error| CallError::Protocol(error.to_string()))
    }

    /// Calls a method of the service; `take` gets each message of the answer.
    pub(crate) async fn call<R: Message + Default>(
        &self,
        method: &str,
        message: &impl Message,
        mut take: impl FnMut(R) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        let framed = framed(message)?;
        let silent = |_| CallError::Silent;
        let requests = self.requests.clone().ready();
        let mut requests =
            timeout(self.silence, requests).await.map_err(silent)?.map_err(broken)?;
        let (response, mut body) =
            requests.send_request(self.request(method)?, false).map_err(broken)?;
        body.send_data(framed, true).map_err(broken)?;
        let response = timeout(self.silence, response).await.map_err(silent)?.map_err(broken)?;
        if response.status() != StatusCode::OK {
            return Err(of_http(response.status()));
        }
        // An answer without messages has its status in the first header.
        if response.headers().contains_key("grpc-status") {
            return status(response.headers());
        }
        self.messages(response.into_body(), |bytes| {
            let message = R::decode(bytes)
                .map_err(|error| CallError::Protocol(format!("a message is damaged: {error}")))?;
            take(message)
        })
        .await
    }

    async fn messages(
        &self,
        mut body: RecvStream,
        mut take: impl FnMut(Bytes) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        let silent = |_| CallError::Silent;
        let mut held = BytesMut::new();
        while let Some(data) = timeout(self.silence, body.data()).await.map_err(silent)? {
            let data = data.map_err(broken)?;
            held.extend_from_slice(&data);
            body.flow_control().release_capacity(data.len()).map_err(broken)?;
            while let Some(message) = split_message(&mut held)? {
                take(message)?;
            }
        }
        let trailers = timeout(self.silence, body.trailers()).await.map_err(silent)?;
        let trailers = trailers.map_err(broken)?.ok_or_else(|| broken("an answer has no end"))?;
        if !held.is_empty() {
            return Err(broken("an answer ends within a message"));
        }
        status(&trailers)
    }
}

async fn start<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: T,
) -> Result<SendRequest<Bytes>, CallError> {
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 2)
        .max_header_list_size(MAX_HEADER)
        .enable_push(false)
        .handshake(stream)
        .await
        .map_err(|error| {
            CallError::NoConnection(format!("the server does not speak gRPC: {error}"))
        })?;
    // Ends with the last request. No pings: a gRPC server ends connections with frequent ones.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to Spark ended");
        }
    });
    Ok(requests)
}

/// Puts a message into a frame: a flag for compression, the length, the message.
fn framed(message: &impl Message) -> Result<Bytes, CallError> {
    let length = message.encoded_len();
    if length > MAX_REQUEST {
        return Err(CallError::Protocol(format!(
            "the statement has {} MiB, and servers accept {} MiB; select monitors by patterns instead of names, or \
             use fewer shards",
            length.div_ceil(1024 * 1024),
            MAX_REQUEST / 1024 / 1024
        )));
    }
    let prefix = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let mut framed = Vec::with_capacity(length + 5);
    framed.push(0);
    framed.extend_from_slice(&prefix);
    framed.extend_from_slice(&message.encode_to_vec());
    Ok(framed.into())
}

/// Splits a message off the front, if it has arrived completely.
pub(crate) fn split_message(held: &mut BytesMut) -> Result<Option<Bytes>, CallError> {
    let Some([compressed, a, b, c, d]) = held.first_chunk::<5>().copied() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if compressed != 0 {
        return Err(CallError::Protocol("a message is compressed without being asked to".into()));
    }
    if length > MAX_MESSAGE {
        return Err(CallError::Protocol(format!(
            "a message has {} MiB, at most {} MiB are accepted; reduce spark.connect.grpc.arrow.maxBatchSize",
            length / 1024 / 1024,
            MAX_MESSAGE / 1024 / 1024
        )));
    }
    if held.len() < length + 5 {
        return Ok(None);
    }
    held.advance(5);
    Ok(Some(held.split_to(length).freeze()))
}

/// Returns the status of a call.
fn status(fields: &HeaderMap) -> Result<(), CallError> {
    let text = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status").and_then(|code| code.parse().ok()) {
        Some(0) => Ok(()),
        Some(code) => {
            let message = percent_decoded(text("grpc-message").unwrap_or_default());
            Err(CallError::Status(code, String::from_utf8_lossy(&message).into_owned()))
        }
        None => Err(broken("an answer has no status")),
    }
}

/// Translates the status of a proxy that does not speak gRPC
/// (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
fn of_http(status: StatusCode) -> CallError {
    let code = match status.as_u16() {
        400 => code::INTERNAL,
        401 => code::UNAUTHENTICATED,
        403 => code::PERMISSION_DENIED,
        404 => code::UNIMPLEMENTED,
        429 | 502..=504 => code::UNAVAILABLE,
        _ => 2,
    };
    CallError::Status(code, format!("HTTP status {status}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_split() {
        let mut held = BytesMut::from(&b"\0\0\0\0\x02ab\0\0\0\0\x01"[..]);
        assert_eq!(split_message(&mut held), Ok(Some(Bytes::from_static(b"ab"))));
        assert_eq!(split_message(&mut held), Ok(None));
        held.extend_from_slice(b"c");
        assert_eq!(split_message(&mut held), Ok(Some(Bytes::from_static(b"c"))));
        assert!(split_message(&mut BytesMut::from(&b"\x01\0\0\0\0"[..])).is_err());
        assert!(split_message(&mut BytesMut::from(&b"\0\xff\xff\xff\xff"[..])).is_err());
    }

    /// apache/spark#40447 and #52271: what is too large for a server is refused before it is sent.
    #[test]
    fn a_statement_that_no_server_accepts_is_not_sent() {
        let sql = |length| crate::proto::Sql { query: "x".repeat(length) };
        assert!(framed(&sql(MAX_REQUEST - 8)).is_ok());
        let error = framed(&sql(MAX_REQUEST)).expect_err("too large");
        assert!(
            matches!(&error, CallError::Protocol(text) if text.contains("129 MiB")),
            "{error:?}"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_without_loss(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..6), at in 0usize..100) {
            let mut whole = Vec::new();
            for part in &parts {
                whole.push(0);
                whole.extend_from_slice(&(part.len() as u32).to_be_bytes());
                whole.extend_from_slice(part);
            }
            let (first, second) = whole.split_at(at.min(whole.len()));
            let (mut held, mut found) = (BytesMut::from(first), Vec::new());
            while let Some(part) = split_message(&mut held).expect("valid") {
                found.push(part.to_vec());
            }
            held.extend_from_slice(second);
            while let Some(part) = split_message(&mut held).expect("valid") {
                found.push(part.to_vec());
            }
            prop_assert_eq!(found, parts);
            prop_assert!(held.is_empty());
        }
    }
}
