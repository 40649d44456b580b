//! Requests: read with limits, with the client's address, cookies, and the checks that apply to all
//! of them.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts as _, RawPathParams, Request},
    response::Response,
};
use http_body_util::{BodyExt as _, Limited};
use hyper::{HeaderMap, Method, body::Body as _, header};

use super::{fields::Fields, listener::Peer, respond};

/// Largest body of a request, in bytes.
pub(crate) const MAX_BODY: usize = 64 << 10;
/// Longest time until the body of a request is complete.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest path and query of a request, in bytes.
const MAX_TARGET: usize = 4 << 10;

/// A request.
#[derive(Debug)]
pub(crate) struct Ask {
    /// Method.
    pub(crate) method: Method,
    /// Path, as sent.
    pub(crate) path: String,
    /// Path and query, as sent.
    pub(crate) target: String,
    /// Fields of the query.
    pub(crate) query: Fields,
    /// Fields of the form that was sent.
    pub(crate) form: Fields,
    /// JSON that was sent; empty if something else was.
    pub(crate) json: Vec<u8>,
    /// Parts of the path, decoded, by the names in the route.
    pub(crate) parts: HashMap<String, String>,
    /// Header fields.
    pub(crate) headers: HeaderMap,
    /// Address of the client.
    pub(crate) client: IpAddr,
    /// Whether a trusted proxy sent the request.
    pub(crate) is_by_proxy: bool,
}

impl Ask {
    /// Returns a part of the path; empty if the route has none of this name.
    pub(crate) fn part(&self, name: &str) -> &str {
        self.parts.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Returns a header field, if it is a text.
    pub(crate) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns a cookie (RFC 6265, section 5.4).
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        let lines = self.headers.get_all(header::COOKIE).into_iter();
        let pairs = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
        pairs
            .filter_map(|pair| pair.trim().split_once('='))
            .find_map(|(key, value)| (key == name && !value.is_empty()).then_some(value))
    }

    /// Returns the path without the tokens of links.
    pub(crate) fn path_for_log(&self) -> &str {
        let secret = ["/shared/", "/welcome/"];
        secret.into_iter().find(|start| self.path.starts_with(start)).unwrap_or(&self.path)
    }

    /// Whether the request is a click on another site (W3C Fetch Metadata).
    pub(crate) fn is_from_elsewhere(&self) -> bool {
        let is = |name: &str, value: &str| {
            self.headers.get(name).is_some_and(|found| found.as_bytes() == value.as_bytes())
        };
        self.method == Method::GET
            && !self.is_api()
            && is("sec-fetch-site", "cross-site")
            && is("sec-fetch-mode", "navigate")
    }

    /// Whether the request is for the API, which answers in JSON.
    pub(crate) fn is_api(&self) -> bool {
        is_api(&self.path)
    }
}

/// Whether the body of a request is JSON. Pages of other sites can't send that without being asked
/// first (Fetch Standard, CORS-safelisted request-header).
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// Whether a path belongs to the API.
pub(crate) fn is_api(path: &str) -> bool {
    path.starts_with("/api/")
}

impl<S: Send + Sync> FromRequest<S> for Ask {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let target = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
        let is_long = parts.uri.path_and_query().is_some_and(|it| it.as_str().len() > MAX_TARGET);
        if is_long {
            return Err(respond::plain(414, "The address is too long."));
        }
        let is_by_proxy =
            parts.extensions.get::<Peer>().is_some_and(|peer| peer.proxies.contains(&peer.address));
        let client = match parts.extensions.get::<Peer>() {
            Some(peer) => client(peer.address, &parts.headers, &peer.proxies),
            None => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        };
        let names = RawPathParams::from_request_parts(&mut parts, state).await;
        let names = names.map_err(|_| respond::plain(400, "The address is not valid UTF-8."))?;
        let named = names.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let (mut form, mut json) = (Fields::default(), Vec::new());
        if matches!(parts.method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE) {
            let body = read_body(body).await?;
            if is_json(&parts.headers) {
                json = body;
            } else {
                form = Fields::parse(&body);
            }
        }
        Ok(Self {
            method: parts.method,
            path,
            target,
            query: Fields::parse(parts.uri.query().unwrap_or_default().as_bytes()),
            form,
            json,
            parts: named,
            headers: parts.headers,
            client,
            is_by_proxy,
        })
    }
}

async fn read_body(body: Body) -> Result<Vec<u8>, Response> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(respond::plain(413, "The request is too large."));
    }
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect());
    match collected.await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(respond::plain(413, "The request is too large."))
        }
        Ok(Err(_)) => Err(respond::plain(400, "The request is incomplete.")),
        Err(_) => Err(respond::plain(408, "The request took too long.")),
    }
}

/// Returns the address of the client: that of the connection or, if a trusted proxy is connected,
/// the last address in `X-Forwarded-For` that is not one of a trusted proxy. Whatever a client
/// writes into the field itself is before that.
fn client(peer: IpAddr, headers: &HeaderMap, proxies: &[IpAddr]) -> IpAddr {
    let mut client = peer;
    let lines = headers.get_all("x-forwarded-for");
    let lines: Vec<&str> = lines.into_iter().filter_map(|line| line.to_str().ok()).collect();
    for text in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        if !proxies.contains(&client) {
            break;
        }
        match text.trim().parse::<IpAddr>() {
            Ok(address) => client = address.to_canonical(),
            Err(_) => break,
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_proxy_names_the_client() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let mut headers = HeaderMap::new();
        let spoofed = "10.9.9.9, 192.0.2.7, 127.0.0.1".parse().expect("a header");
        headers.insert("x-forwarded-for", spoofed);
        let proxy = [address("127.0.0.1")];
        assert_eq!(client(address("127.0.0.1"), &headers, &proxy), address("192.0.2.7"));
        assert_eq!(client(address("192.0.2.1"), &headers, &proxy), address("192.0.2.1"));
        assert_eq!(client(address("127.0.0.1"), &headers, &[]), address("127.0.0.1"));
        headers.insert("x-forwarded-for", "nonsense".parse().expect("a header"));
        assert_eq!(client(address("127.0.0.1"), &headers, &proxy), address("127.0.0.1"));
    }
}
