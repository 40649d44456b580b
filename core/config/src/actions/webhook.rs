//! Webhooks: an HTTP request as an alarm action.

use mailqos_base::{Secret, SecretSource};
use mailqos_model::words;
use mailqos_net::{Trust, http::Place};
use serde::{Deserialize, Serialize};

use super::{WEBHOOK_ACTION, pairs};
use crate::{
    Problem, Problems, Severity, Table,
    key::{Defaulted, OptionalWord, Word, key},
    proxy,
    reference::{Key, ValueKind},
    server::trust,
    value::secret,
    wording::{CONTENT, Template, webhook_template},
};

/// An HTTP request.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// The service, which determines the format of the request.
    pub service: Service,
    /// URL of the request.
    pub url: SecretSource,
    /// HTTP method (default: that of the service).
    pub method: String,
    /// Key or token of the service.
    pub key: Option<SecretSource>,
    /// Additional header fields.
    pub headers: Vec<(String, SecretSource)>,
    /// Trusted certificates.
    pub trust: Trust,
    /// Custom template of the content.
    pub template: Option<Template>,
    /// Format of the content.
    pub content_type: ContentType,
    /// The proxy's address, or `none` (default: that of the configuration).
    pub proxy: Option<SecretSource>,
}

/// Format of a webhook's content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentType {
    /// JSON, as rendered by the template.
    #[default]
    Json,
    /// The rendered JSON object as fields of a form.
    Form,
}

words!(
    /// Service whose format a webhook's request has.
    Service, "service" {
        /// A custom template.
        Own = "webhook",
        /// Slack: an incoming webhook.
        Slack = "slack",
        /// Microsoft Teams: a workflow's webhook.
        Teams = "teams",
        /// PagerDuty: Events API v2.
        PagerDuty = "pagerduty",
        /// Opsgenie: Alert API, which is discontinued on 5 April 2027.
        Opsgenie = "opsgenie",
        /// Jira Service Management Operations: Integration Events API, the successor of Opsgenie.
        Jira = "jira-service-management",
        /// ntfy: a topic.
        Ntfy = "ntfy",
    }
);

impl Service {
    /// Returns the service's address, if it has a single one.
    fn usual_url(self) -> Option<&'static str> {
        match self {
            Self::PagerDuty => Some("https://events.pagerduty.com/v2/enqueue"),
            Self::Opsgenie => Some("https://api.opsgenie.com/v2/alerts"),
            Self::Jira => Some("https://api.atlassian.com/jsm/ops/integration/v2/alerts"),
            _ => None,
        }
    }

    /// Returns whether anyone who knows the URL can post, so that the URL is a secret.
    fn url_is_secret(self) -> bool {
        matches!(self, Self::Slack | Self::Teams)
    }

    /// Returns whether the service tracks incidents individually, so that each must be closed.
    pub fn counts_incidents(self) -> bool {
        matches!(self, Self::PagerDuty | Self::Opsgenie | Self::Jira)
    }
}

const SERVICES: [(&str, Service); 6] = [
    (Service::Slack.as_str(), Service::Slack),
    (Service::Teams.as_str(), Service::Teams),
    (Service::PagerDuty.as_str(), Service::PagerDuty),
    (Service::Opsgenie.as_str(), Service::Opsgenie),
    (Service::Jira.as_str(), Service::Jira),
    (Service::Ntfy.as_str(), Service::Ntfy),
];
const CONTENT_TYPES: [(&str, ContentType); 2] =
    [("json", ContentType::Json), ("form", ContentType::Form)];

keys! {
    WEBHOOK: WebhookKeys {
        /// The service that receives the request.
        kind: OptionalWord<Service> = word!(SERVICES).otherwise("defined by `template` or `body`");
        /// The address; a secret for Slack and Teams.
        url: Key = Key::text_or_secret().otherwise("the address of PagerDuty, Opsgenie or Jira Service Management");
        /// The service's key or token.
        key: Key = Key::secret();
        /// Additional header fields.
        headers: Key = Key::pairs(&ValueKind::TextOrSecret);
    }
}

keys! {
    REQUEST: RequestKeys {
        /// POST, PUT, PATCH or GET.
        method: Defaulted<String> = key().default("\"POST\"");
        /// How the content is sent: as the template produces it, or the fields of its JSON object
        /// as a form, as SMS gateways expect (with GET, in the address).
        content_type: Word<ContentType> = word!(CONTENT_TYPES).default("\"json\"");
        /// The HTTP proxy: http://USER:PASSWORD@HOST:PORT (a secret if it contains a password), or
        /// `none`.
        proxy: Key = Key::text_or_secret().otherwise("`proxy` at the top of the file, or from the environment");
    }
}

pub(super) fn webhook(
    table: &mut Table,
    plaintext: bool,
    problems: &mut Problems,
) -> Option<Webhook> {
    let mut inner = table.table(&WEBHOOK_ACTION.webhook, problems)?;
    let service = inner.read(&WEBHOOK.kind, problems).unwrap_or(Service::Own);
    let url = match (inner.node(&WEBHOOK.url), service.usual_url()) {
        (Some(node), _) => secret(&node, plaintext || !service.url_is_secret(), problems),
        (None, Some(usual)) => Some(SecretSource::Literal(Secret::new(usual))),
        (None, None) => {
            problems.push(
                inner.missing(&WEBHOOK.url, "the address, as a string or { env = \"NAME\" }"),
            );
            None
        }
    };
    if let Some(SecretSource::Literal(text)) = &url
        && let Err(error) = Place::parse(text.expose())
    {
        problems.push(
            inner
                .problem(&WEBHOOK.url, error.to_string(), "this address")
                .help("use https://HOST/PATH"),
        );
    }
    if service == Service::Opsgenie && url.as_ref().is_some_and(is_at_opsgenie) {
        // https://www.atlassian.com/software/opsgenie/migration
        problems.push(Problem {
            severity: Severity::Warning,
            ..inner.problem(&WEBHOOK.kind, "Opsgenie ends on 5 April 2027", "this service").help(
                "move the alerts to Jira Service Management, and use \
                     kind = \"jira-service-management\" with the key of its API integration",
            )
        });
    }
    let key = inner.node(&WEBHOOK.key).and_then(|node| secret(&node, plaintext, problems));
    if key.is_none() && service.counts_incidents() && inner.node(&WEBHOOK.key).is_none() {
        problems.push(inner.missing(&WEBHOOK.key, "the integration key: { env = \"NAME\" }"));
    }
    let headers = pairs(&mut inner, &WEBHOOK.headers, plaintext, problems);
    let template = webhook_template(&mut inner, problems);
    if service == Service::Own
        && template.is_none()
        && inner.node(&CONTENT.template).is_none()
        && inner.node(&CONTENT.body).is_none()
    {
        problems.push(inner.missing(
            &CONTENT.template,
            "the file with the JSON to send; or use body = \"…\", or kind = slack, teams, pagerduty, opsgenie, \
             jira-service-management or ntfy",
        ));
    }
    let method = inner.read(&REQUEST.method, problems);
    if !["POST", "PUT", "PATCH", "GET"].contains(&method.as_str()) {
        problems.push(
            inner
                .problem(
                    &REQUEST.method,
                    format!("{method:?} is not a supported HTTP method"),
                    "here",
                )
                .help("use POST, PUT, PATCH or GET"),
        );
    }
    let content_type = content_type(&mut inner, service, problems);
    let proxy = proxy::address(&mut inner, &REQUEST.proxy, plaintext, problems);
    let trust = trust(&mut inner, problems);
    inner.finish(problems);
    Some(Webhook { service, url: url?, method, key, headers, trust, template, content_type, proxy })
}

/// Returns whether an address belongs to Opsgenie, in any region.
fn is_at_opsgenie(url: &SecretSource) -> bool {
    let SecretSource::Literal(text) = url else { return false };
    Place::parse(text.expose())
        .is_ok_and(|place| place.host == "opsgenie.com" || place.host.ends_with(".opsgenie.com"))
}

fn content_type(table: &mut Table, service: Service, problems: &mut Problems) -> ContentType {
    let chosen = table.read(&REQUEST.content_type, problems);
    if chosen == ContentType::Form && service != Service::Own {
        problems.push(
            table
                .problem(
                    &REQUEST.content_type,
                    format!("{} accepts only JSON", service.as_str()),
                    "here",
                )
                .help("remove content_type, or replace kind with body"),
        );
    }
    chosen
}

#[cfg(test)]
mod tests {
    use crate::{Config, of_text};

    fn config(kind: &str) -> Config {
        let text = format!(
            "site = \"here\"\n[action_list.default]\n\
             actions = [{{ webhook = {{ kind = {kind}, key = {{ env = \"KEY\" }} }} }}]\n"
        );
        let path = std::path::Path::new("mailqos.toml");
        of_text(path, text).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn the_end_of_opsgenie_is_announced_if_it_is_used() {
        for (kind, is_announced) in [
            ("\"opsgenie\"", true),
            ("\"opsgenie\", url = \"https://api.eu.opsgenie.com/v2/alerts\"", true),
            // Any other service may use the same protocol.
            ("\"opsgenie\", url = \"https://alerts.example.net/v2/alerts\"", false),
            ("\"opsgenie\", url = \"https://notopsgenie.com/v2/alerts\"", false),
            ("\"jira-service-management\"", false),
        ] {
            let warnings = config(kind).warnings.to_string();
            assert_eq!(warnings.contains("5 April 2027"), is_announced, "{kind}: {warnings}");
        }
    }
}
