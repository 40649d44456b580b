//! Heartbeats: requests to a service that raises an alarm when they stop.

use mailqos_base::{Secret, SecretSource};
use mailqos_model::{Micros, words};
use mailqos_net::{Trust, http::Place};

use super::{
    Problems, Table,
    key::{Defaulted, OptionalWord, key},
    proxy,
    reference::Key,
    server::trust,
    value::secret,
};

/// A heartbeat.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// The service; recognised by the URL if absent.
    pub service: Option<HeartbeatService>,
    /// The address, which contains the token of most services.
    pub url: SecretSource,
    /// The bearer token of the service.
    pub key: Option<SecretSource>,
    /// Time between two heartbeats.
    pub every: Micros,
    /// Deadline of a request.
    pub timeout: Micros,
    /// Trusted certificates.
    pub trust: Trust,
    /// The proxy's address, or `none`; that of the configuration if absent.
    pub proxy: Option<SecretSource>,
}

words!(
    /// A service that watches heartbeats.
    HeartbeatService, "service" {
        /// Any service that expects GET requests, such as Better Stack or Cronitor.
        Other = "other",
        /// Healthchecks, hosted or self-hosted.
        Healthchecks = "healthchecks",
        /// Uptime Kuma: a monitor of type push.
        UptimeKuma = "uptime-kuma",
        /// Gatus: an external endpoint.
        Gatus = "gatus",
    }
);

const SERVICES: [(&str, HeartbeatService); 4] = [
    (HeartbeatService::Other.as_str(), HeartbeatService::Other),
    (HeartbeatService::Healthchecks.as_str(), HeartbeatService::Healthchecks),
    (HeartbeatService::UptimeKuma.as_str(), HeartbeatService::UptimeKuma),
    (HeartbeatService::Gatus.as_str(), HeartbeatService::Gatus),
];

keys! {
    HEARTBEAT: HeartbeatKeys {
        /// The address of the heartbeat, with its token.
        url: Key = Key::secret().required();
        /// Time between two heartbeats; shorter than the time after which the service raises an alarm.
        every: Defaulted<Micros> = key().default("\"1m\"").within("10s", "1d");
        /// The service.
        kind: OptionalWord<HeartbeatService> = word!(SERVICES).otherwise("recognised by the address");
        /// The bearer token of the service (Gatus).
        key: Key = Key::secret();
        /// The deadline of one request.
        timeout: Defaulted<Micros> = key().default("\"10s\"").within("100ms", "1m");
        /// The HTTP proxy: http://USER:PASSWORD@HOST:PORT (a secret if it contains a password), or `none`.
        proxy: Key = Key::text_or_secret().otherwise("`proxy` at the top of the file, or from the environment");
    }
}

/// Reads a table `heartbeat`.
pub(super) fn read(
    table: &mut Table,
    key: &Key,
    plaintext: bool,
    problems: &mut Problems,
) -> Option<Heartbeat> {
    let mut inner = table.table(key, problems)?;
    let url = match inner.node(&HEARTBEAT.url) {
        Some(node) => secret(&node, plaintext, problems),
        None => {
            problems.push(inner.missing(&HEARTBEAT.url, "the address: { env = \"NAME\" }"));
            None
        }
    };
    if let Some(SecretSource::Literal(text)) = &url
        && let Err(error) = Place::parse(text.expose())
    {
        problems.push(
            inner
                .problem(&HEARTBEAT.url, error.to_string(), "this address")
                .help("use https://HOST/PATH"),
        );
    }
    let token = inner.node(&HEARTBEAT.key).and_then(|node| secret(&node, plaintext, problems));
    let every = inner.read(&HEARTBEAT.every, problems);
    let timeout = inner.read(&HEARTBEAT.timeout, problems);
    if timeout >= every {
        problems.push(
            inner
                .problem(
                    &HEARTBEAT.timeout,
                    format!("the timeout ({timeout}) is not shorter than the interval ({every})"),
                    "too long",
                )
                .help("shorten timeout, or raise every"),
        );
    }
    let service = inner.read(&HEARTBEAT.kind, problems);
    if service == Some(HeartbeatService::Gatus)
        && token.is_none()
        && inner.node(&HEARTBEAT.key).is_none()
    {
        problems.push(
            inner.missing(&HEARTBEAT.key, "the token of the external endpoint: { env = \"NAME\" }"),
        );
    }
    let proxy = proxy::address(&mut inner, &HEARTBEAT.proxy, plaintext, problems);
    let trust = trust(&mut inner, problems);
    inner.finish(problems);
    Some(Heartbeat { service, url: url?, key: token, every, timeout, trust, proxy })
}

impl HeartbeatService {
    /// Returns the service that an address belongs to.
    pub fn of_url(url: &Secret) -> Self {
        let path = url.expose().split_once("://").map_or("", |(_, rest)| rest);
        let (host, path) = path.split_once('/').unwrap_or((path, ""));
        if host.eq_ignore_ascii_case("hc-ping.com") {
            Self::Healthchecks
        } else if path.starts_with("api/push/") || path.contains("/api/push/") {
            Self::UptimeKuma
        } else if path.contains("api/v1/endpoints/") && path.contains("/external") {
            Self::Gatus
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_recognised_by_its_address() {
        for (url, service) in [
            (
                "https://hc-ping.com/6b2b3a1e-0000-4000-8000-0123456789ab",
                HeartbeatService::Healthchecks,
            ),
            (
                "https://kuma.example/api/push/abc?status=up&msg=OK&ping=",
                HeartbeatService::UptimeKuma,
            ),
            ("https://x.example/kuma/api/push/abc", HeartbeatService::UptimeKuma),
            ("https://g.example/api/v1/endpoints/core_mail/external", HeartbeatService::Gatus),
            ("https://uptime.betterstack.com/api/v1/heartbeat/abc", HeartbeatService::Other),
            ("https://hc-ping.com.example/x", HeartbeatService::Other),
        ] {
            assert_eq!(HeartbeatService::of_url(&Secret::new(url)), service, "{url}");
        }
    }
}
