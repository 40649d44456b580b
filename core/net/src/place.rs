//! Destinations of requests, and the reasons why a request got no response.

use hyper::Uri;
use mailqos_model::Micros;

/// Reasons why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL is invalid.
    #[error("the address is not a valid http:// or https:// URL: {0}")]
    Url(String),
    /// The address of a proxy is invalid.
    #[error("the address of the proxy is not valid: {0}")]
    ProxyAddress(String),
    /// The proxy could not be used.
    #[error("the proxy {proxy} can't connect to the server: {reason}")]
    Proxy {
        /// Host and port of the proxy.
        proxy: String,
        /// The reason.
        reason: String,
    },
    /// A header field can't be sent.
    #[error("the header field {0:?} can't be sent: it contains characters that are not allowed")]
    Header(String),
    /// The server could not be reached.
    #[error("no connection to {server}: {reason}")]
    Connect {
        /// Host and port.
        server: String,
        /// The system's error.
        reason: String,
    },
    /// The TLS handshake failed.
    #[error("TLS with {server}: {reason}")]
    Tls {
        /// Host and port.
        server: String,
        /// The reason.
        reason: String,
    },
    /// The connection broke.
    #[error("{server} did not return a valid HTTP response: {reason}")]
    Broken {
        /// Host and port.
        server: String,
        /// The reason.
        reason: String,
    },
    /// The complete response did not arrive in time.
    #[error("{server} did not answer within {after}")]
    TimedOut {
        /// Host and port.
        server: String,
        /// The deadline that has passed.
        after: Micros,
    },
}

impl HttpError {
    /// Returns whether the server may have received and processed the request although no response
    /// came.
    pub fn may_have_arrived(&self) -> bool {
        matches!(self, Self::Broken { .. } | Self::TimedOut { .. })
    }
}

/// The destination of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port of the server.
    pub port: u16,
    /// Path and query.
    pub(crate) path: String,
}

impl Place {
    /// Returns the root of a server.
    pub(crate) fn new(tls: bool, host: &str, port: u16) -> Self {
        Self { tls, host: host.to_owned(), port, path: "/".to_owned() }
    }

    /// Returns host and port as used in a request, with an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            self.server()
        }
    }

    /// Parses a URL.
    ///
    /// # Errors
    /// Describes the problem without the URL, which may be a secret.
    pub fn parse(url: &str) -> Result<Self, HttpError> {
        let uri: Uri = url.parse().map_err(|error| HttpError::Url(format!("{error}")))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(other) => {
                return Err(HttpError::Url(format!("the protocol {other} is not supported")));
            }
            None => return Err(HttpError::Url("it does not begin with https://".to_owned())),
        };
        let authority =
            uri.authority().ok_or_else(|| HttpError::Url("it contains no host name".to_owned()))?;
        if authority.as_str().contains('@') {
            return Err(HttpError::Url(
                "it contains user and password, which must be set in a header field instead"
                    .to_owned(),
            ));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(HttpError::Url("it contains no host name".to_owned()));
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            path: uri
                .path_and_query()
                .map_or("/", hyper::http::uri::PathAndQuery::as_str)
                .to_owned(),
        })
    }

    /// Returns host and port as shown in messages.
    pub fn server(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}
