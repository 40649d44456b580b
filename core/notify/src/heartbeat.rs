//! Sends one heartbeat to a service that raises an alarm when they stop.
//!
//! What the services expect:
//! - Healthchecks: HEAD, GET or POST; `/fail` after the address reports a failure; a POST's content
//!   is shown. An unknown check is answered with `200 OK (not found)`
//!   (<https://healthchecks.io/docs/http_api/>).
//! - Uptime Kuma: GET with `status` (`up` or `down`), `msg` and `ping`; 404 with `"ok": false` for an
//!   unknown monitor (<https://github.com/louislam/uptime-kuma/wiki/Internal-API>).
//! - Gatus: POST with `success` and `error` in the query and a bearer token
//!   (<https://github.com/TwiN/gatus#external-endpoints>).
//! - Others: GET.

use mailqos_base::{Secret, one_line};
use mailqos_config::{self as config, Heartbeat, HeartbeatService, Proxy};
use mailqos_net::http::{self, Request, Response, Route};

/// Maximum number of bytes of a response that are read.
const MAX_RESPONSE: usize = 4 * 1024;
/// Maximum length of a reason in a query.
const MAX_REASON: usize = 200;

/// What a heartbeat reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat<'a> {
    /// Everything works.
    Alive,
    /// Something does not work, for this reason.
    Failing(&'a str),
}

/// Result of a heartbeat that the service did not reject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beaten {
    /// The service accepted it.
    Accepted,
    /// The service has no way to report a failure: nothing was sent.
    Withheld,
}

/// Sends a heartbeat once, within its deadline.
///
/// # Errors
/// The service could not be reached or rejected it: one line without secrets.
pub async fn send_heartbeat(
    heartbeat: &Heartbeat,
    proxy: &Proxy,
    beat: Beat<'_>,
) -> Result<Beaten, String> {
    let unavailable = |error: mailqos_base::SecretError| error.to_string();
    let url = heartbeat.url.fetch().await.map_err(unavailable)?;
    let url = Secret::new(url.expose().trim());
    let mut secrets: Vec<Secret> = secret_parts(&url);
    let key = match &heartbeat.key {
        Some(key) => Some(key.fetch().await.map_err(unavailable)?),
        None => None,
    };
    secrets.extend(key.clone());
    let service = heartbeat.service.unwrap_or_else(|| HeartbeatService::of_url(&url));
    let Some((method, url, body)) = request(service, &url, beat) else {
        return Ok(Beaten::Withheld);
    };
    secrets.extend(secret_parts(&url));
    let via = match &heartbeat.proxy {
        Some(address) => config::via(address).await.map_err(unavailable)?,
        None => proxy.via().await.map_err(unavailable)?,
    };
    if let Route::Proxy(address) | Route::ProxyExcept(address, _) = &via {
        secrets.push(address.clone());
    }
    let mut headers = Vec::new();
    if let Some(key) = key {
        let value = Secret::new(format!("Bearer {}", key.expose()));
        headers.push(("authorization".to_owned(), value));
    }
    if !body.is_empty() {
        headers.push(("content-type".to_owned(), Secret::new("text/plain; charset=utf-8")));
    }
    let request = Request { method: method.to_owned(), url, headers, body: body.into_bytes(), via };
    let deadline = heartbeat.timeout.to_std();
    let response = http::send(&request, &heartbeat.trust, deadline, MAX_RESPONSE)
        .await
        .map_err(|error| one_line(&error.to_string(), &secrets))?;
    judge(service, &response, &secrets).map(|()| Beaten::Accepted)
}

/// Returns method, address and content of a request; `None` if the service does not accept
/// failures.
fn request(
    service: HeartbeatService,
    url: &Secret,
    beat: Beat<'_>,
) -> Option<(&'static str, Secret, String)> {
    let whole = url.expose();
    let (path, query) = whole.split_once('?').unwrap_or((whole, ""));
    let reason = |text: &str| -> String { text.chars().take(MAX_REASON).collect() };
    Some(match (service, beat) {
        (HeartbeatService::Other, Beat::Alive) => ("GET", url.clone(), String::new()),
        (HeartbeatService::Other, Beat::Failing(_)) => return None,
        (HeartbeatService::Healthchecks, Beat::Alive) => ("POST", url.clone(), String::new()),
        (HeartbeatService::Healthchecks, Beat::Failing(text)) => {
            let separator = if query.is_empty() { "" } else { "?" };
            let url = format!("{}/fail{separator}{query}", path.trim_end_matches('/'));
            ("POST", Secret::new(url), reason(text))
        }
        (HeartbeatService::UptimeKuma, beat) => {
            let (status, text) = match beat {
                Beat::Alive => ("up", "OK".to_owned()),
                Beat::Failing(text) => ("down", reason(text)),
            };
            // The address as Uptime Kuma shows it has these parameters already.
            let own = [("status", status), ("msg", &text), ("ping", "")];
            ("GET", Secret::new(with_query(path, query, &own)), String::new())
        }
        (HeartbeatService::Gatus, beat) => {
            let url = match beat {
                Beat::Alive => with_query(path, query, &[("success", "true")]),
                Beat::Failing(text) => {
                    let text = reason(text);
                    with_query(path, query, &[("success", "false"), ("error", &text)])
                }
            };
            ("POST", Secret::new(url), String::new())
        }
    })
}

/// Returns an address with these parameters; others in its query are kept.
fn with_query(path: &str, query: &str, own: &[(&str, &str)]) -> String {
    let names = ["status", "msg", "ping", "success", "error"];
    let kept = query.split('&').filter(|part| {
        let name = part.split_once('=').map_or(*part, |(name, _)| name);
        !part.is_empty() && !names.contains(&name)
    });
    let own = own.iter().map(|(name, value)| format!("{name}={}", percent_encoded(value)));
    let parts: Vec<String> = kept.map(str::to_owned).chain(own).collect();
    format!("{path}?{}", parts.join("&"))
}

/// Encodes everything but unreserved characters (RFC 3986, section 2.3).
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Parts of an address that must not be shown: everything after the server, and each longer part
/// of it, because servers repeat the token alone.
fn secret_parts(url: &Secret) -> Vec<Secret> {
    let Some((_, rest)) = url.expose().split_once("://") else {
        return vec![url.clone()];
    };
    let Some((_, path)) = rest.split_once(['/', '?']) else {
        return Vec::new();
    };
    let parts = path.split(['/', '?', '&', '=']).filter(|part| part.len() >= 8);
    std::iter::once(path.trim_matches('/'))
        .filter(|path| path.len() >= 4)
        .chain(parts)
        .map(Secret::new)
        .collect()
}

/// Only a success that is not contradicted by its content is an acceptance. Uptime Kuma must confirm
/// it, because it answers any other path with its web page and status 200.
fn judge(service: HeartbeatService, response: &Response, secrets: &[Secret]) -> Result<(), String> {
    if response.is_success() {
        let text = String::from_utf8_lossy(&response.body).to_ascii_lowercase();
        let text = text.trim();
        let compact = text.replace(char::is_whitespace, "");
        let is_unconfirmed =
            service == HeartbeatService::UptimeKuma && !compact.contains("\"ok\":true");
        let is_denied = text.starts_with("ok (not found)")
            || text.starts_with("ok (rate limited)")
            || compact.contains("\"ok\":false");
        if is_denied {
            let summary = response.summary(secrets);
            return Err(format!("{summary} (rejected despite this status; check the URL)"));
        }
        if is_unconfirmed {
            let text = "the response does not confirm the heartbeat; the URL must be the push URL of a monitor, \
                        such as https://HOST/api/push/TOKEN";
            return Err(text.to_owned());
        }
        return Ok(());
    }
    let hint = match response.status {
        300..=399 => " (redirects are not followed; use the final URL)",
        401 | 403 => " (check the token)",
        404 | 410 => " (check that the heartbeat still exists, and its URL)",
        429 => " (too many heartbeats; raise every)",
        _ => "",
    };
    Err(format!("{}{hint}", response.summary(secrets)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(service: HeartbeatService, url: &str, beat: Beat<'_>) -> Option<(String, String)> {
        let (method, url, body) = request(service, &Secret::new(url), beat)?;
        Some((format!("{method} {}", url.expose()), body))
    }

    #[test]
    fn each_service_gets_what_it_expects() {
        let failing = Beat::Failing("disk full: no space & more");
        let cases = [
            (
                HeartbeatService::Other,
                "https://x.example/a",
                Beat::Alive,
                "GET https://x.example/a",
            ),
            (
                HeartbeatService::Healthchecks,
                "https://hc-ping.com/uuid",
                Beat::Alive,
                "POST https://hc-ping.com/uuid",
            ),
            (
                HeartbeatService::Healthchecks,
                "https://hc-ping.com/key/slug?create=1",
                failing,
                "POST https://hc-ping.com/key/slug/fail?create=1",
            ),
            (
                HeartbeatService::UptimeKuma,
                "https://k.example/api/push/t?status=true&msg=OK&ping=",
                Beat::Alive,
                "GET https://k.example/api/push/t?status=up&msg=OK&ping=",
            ),
            (
                HeartbeatService::UptimeKuma,
                "https://k.example/api/push/t",
                failing,
                "GET https://k.example/api/push/t?status=down&msg=disk%20full%3A%20no%20space%20%26%20more&ping=",
            ),
            (
                HeartbeatService::Gatus,
                "https://g.example/api/v1/endpoints/a_b/external",
                Beat::Alive,
                "POST https://g.example/api/v1/endpoints/a_b/external?success=true",
            ),
            (
                HeartbeatService::Gatus,
                "https://g.example/api/v1/endpoints/a_b/external?success=true",
                failing,
                "POST https://g.example/api/v1/endpoints/a_b/external?success=false&error=disk%20full%3A%20no%20space%20%26%20more",
            ),
        ];
        for (service, url, beat, expected) in cases {
            let (line, _) = sent(service, url, beat).expect(expected);
            assert_eq!(line, expected);
        }
        // A service that accepts only heartbeats recognises a failure by their absence.
        assert_eq!(sent(HeartbeatService::Other, "https://x.example/a", failing), None);
    }

    /// Healthchecks answers 200 for a check that does not exist, and servers repeat tokens.
    #[test]
    fn a_success_that_is_none_is_a_failure_without_the_token() {
        // Not only the network, but also the status was ignored elsewhere
        // (p2pool-starter-stack/pithead#560).
        let url = Secret::new("https://hc.example/ping/6b2b3a1e-0000-4000?create=1");
        let of = |service, status, body: &str| {
            let response = Response {
                status,
                body: body.into(),
                truncated: false,
                retry_after: None,
                location: None,
            };
            judge(service, &response, &secret_parts(&url))
        };
        let judged = |status, body: &str| of(HeartbeatService::Healthchecks, status, body);
        assert_eq!(judged(200, "OK"), Ok(()));
        assert_eq!(judged(200, "{\"ok\":true}"), Ok(()));
        for (status, body) in [
            (200, "OK (not found)"),
            (200, "OK (rate limited)"),
            (200, "{ \"ok\": false, \"msg\": \"Monitor not found or not active.\" }"),
            (301, ""),
            (404, "no check 6b2b3a1e-0000-4000"),
            (500, "/ping/6b2b3a1e-0000-4000?create=1 failed"),
        ] {
            let error = judged(status, body).expect_err(body);
            assert!(!error.contains("6b2b3a1e"), "{error}");
        }
        // The page of Uptime Kuma for a path that it does not know, such as /push/ without /api
        // (louislam/uptime-kuma#679).
        let page = "<!DOCTYPE html><html><head><title>Uptime Kuma</title></head>";
        let error = of(HeartbeatService::UptimeKuma, 200, page).expect_err("no confirmation");
        assert!(error.contains("/api/push/TOKEN"), "{error}");
        assert_eq!(of(HeartbeatService::UptimeKuma, 200, "{ \"ok\": true }"), Ok(()));
    }
}
