//! Responses, and the header fields that all of them carry.

use axum::{body::Body, response::Response};
use hyper::{StatusCode, header};

/// The policy of all pages: nothing from elsewhere, no script or style in the page, no frames.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; \
    manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Builds a response. Header values come from the program or have been checked.
pub(crate) fn response(status: u16, media_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

/// A page.
pub(crate) fn html(status: u16, text: String) -> Response {
    response(status, "text/html; charset=utf-8", text)
}

/// A line of text.
pub(crate) fn plain(status: u16, text: &'static str) -> Response {
    let mut response = response(status, "text/plain; charset=utf-8", format!("{text}\n"));
    if matches!(status, 408 | 413) {
        // What is left of the request is not read.
        let close = header::HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// JSON.
pub(crate) fn json<T: serde::Serialize>(status: u16, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => response(status, "application/json", bytes),
        Err(error) => {
            tracing::error!(%error, "console: a value has no JSON");
            plain(500, "Internal error.")
        }
    }
}

/// Leads the browser to another page of the console, by GET (RFC 9110, section 15.4.4).
pub(crate) fn redirect(to: &str) -> Response {
    let mut response = response(303, "text/plain; charset=utf-8", Body::empty());
    let to = header::HeaderValue::from_str(to);
    let home = header::HeaderValue::from_static("/");
    response.headers_mut().insert(header::LOCATION, to.unwrap_or(home));
    response
}

/// Adds a cookie.
pub(crate) fn set_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(value) = header::HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

/// Adds the header fields of all responses.
pub(crate) fn secure(mut response: Response, is_tls: bool) -> Response {
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: &'static str| {
        headers
            .entry(header::HeaderName::from_static(name))
            .or_insert(header::HeaderValue::from_static(value));
    };
    set("content-security-policy", CONTENT_SECURITY_POLICY);
    set("x-content-type-options", "nosniff");
    // Not `no-referrer`: browsers then send `Origin: null` with forms.
    set("referrer-policy", "same-origin");
    set("x-frame-options", "DENY");
    set("cross-origin-opener-policy", "same-origin");
    set("cross-origin-resource-policy", "same-origin");
    set("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=()");
    set("cache-control", "no-store");
    if is_tls {
        set("strict-transport-security", "max-age=31536000");
    }
    response
}
