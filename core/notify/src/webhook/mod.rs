//! Webhooks: HTTP requests with JSON from a template, either the user's or a built-in one.

use std::time::Duration;

use mailqos_base::{Secret, SecretSource, one_line};
use mailqos_config as config;
use mailqos_config::{ContentType, Problems, Proxy, Service, Template, Webhook, sounds_secret};
use mailqos_model::Micros;
use mailqos_net::http::{self, Request, Response, Route};
use serde_json::Value;

use super::{
    Refused,
    template::{self, Escape},
};
use crate::{Notification, heartbeat::percent_encoded};

/// How much of an answer is read, in bytes: enough for the server's error message.
const MAX_ANSWER: usize = 16 * 1024;

/// Returns the built-in template of a service.
fn built_in(service: Service) -> Option<&'static str> {
    match service {
        Service::Own => None,
        Service::Slack => Some(include_str!("../../../../templates/webhooks/slack.json")),
        Service::Teams => Some(include_str!("../../../../templates/webhooks/teams.json")),
        Service::PagerDuty => Some(include_str!("../../../../templates/webhooks/pagerduty.json")),
        Service::Opsgenie => Some(include_str!("../../../../templates/webhooks/opsgenie.json")),
        Service::Jira => {
            Some(include_str!("../../../../templates/webhooks/jira-service-management.json"))
        }
        Service::Ntfy => Some(include_str!("../../../../templates/webhooks/ntfy.json")),
    }
}

/// Sends the message and returns the answer that accepted it. If it is too large for the service, a
/// short version is sent.
pub(crate) async fn send(
    hook: &Webhook,
    proxy: &Proxy,
    notification: &Notification,
    deadline: Duration,
) -> Result<String, Refused> {
    let mut sender = Sender::of(hook, proxy).await?;
    let (whole, problem) = content(hook, &notification.context)?;
    let answer = sender.post(whole, notification, deadline).await?;
    let mut judged = sender.judge(&answer);
    if let Err(refused) = &judged
        && is_too_large(&answer)
    {
        tracing::warn!(service = hook.service.as_str(), reply = %refused, "message too large; sending a short version");
        let why = format!("(short version, because the full message was rejected: {refused})");
        let (brief, _) = content(hook, &brief(&notification.context))?;
        let answer = sender.post(brief, notification, deadline).await?;
        judged = sender.judge(&answer).map(|words| format!("{words} {why}"));
    }
    let words = judged?;
    Ok([Some(words), problem].into_iter().flatten().collect::<Vec<_>>().join("; "))
}

/// Returns the secret part of an address: everything after the server's name, which users need to
/// see. A short path that is in the configuration is not a key.
fn secret_part(hook: &Webhook, url: &Secret) -> Option<Secret> {
    let (_, rest) = url.expose().split_once("://")?;
    let (_, path) = rest.split_once(['/', '?'])?;
    let least = match hook.url {
        SecretSource::Literal(_) => 8,
        _ => 4,
    };
    let path = path.trim_matches('/');
    (path.len() >= least).then(|| Secret::new(path))
}

/// A webhook with its secrets, ready to be used.
struct Sender<'hook> {
    hook: &'hook Webhook,
    url: Secret,
    key: Option<Secret>,
    headers: Vec<(String, Secret)>,
    via: Route,
    secrets: Vec<Secret>,
}

impl<'hook> Sender<'hook> {
    async fn of(hook: &'hook Webhook, proxy: &Proxy) -> Result<Self, String> {
        let secret = |error: mailqos_base::SecretError| error.to_string();
        let url = hook.url.fetch().await.map_err(secret)?;
        let mut secrets: Vec<Secret> = secret_part(hook, &url).into_iter().collect();
        let key = match &hook.key {
            Some(key) => Some(key.fetch().await.map_err(secret)?),
            None => None,
        };
        secrets.extend(key.clone());
        let media_type = match hook.content_type {
            ContentType::Json => "application/json",
            ContentType::Form => "application/x-www-form-urlencoded",
        };
        let mut headers = vec![("content-type".to_owned(), Secret::new(media_type))];
        for (name, value) in &hook.headers {
            let fetched = value.fetch().await.map_err(secret)?;
            if sounds_secret(name) || !matches!(value, SecretSource::Literal(_)) {
                secrets.push(fetched.clone());
            }
            headers.push((name.clone(), fetched));
        }
        let via = match &hook.proxy {
            Some(address) => config::via(address).await.map_err(secret)?,
            None => proxy.via().await.map_err(secret)?,
        };
        if let Route::Proxy(address) | Route::ProxyExcept(address, _) = &via {
            secrets.push(address.clone());
        }
        Ok(Self { hook, url, key, headers, via, secrets })
    }

    /// Sends one request.
    async fn post(
        &mut self,
        mut content: Value,
        notification: &Notification,
        deadline: Duration,
    ) -> Result<Response, Refused> {
        let hook = self.hook;
        let mut headers = self.headers.clone();
        let fields = match hook.content_type {
            ContentType::Json => None,
            ContentType::Form => Some(form(&content)?),
        };
        if let Some(key) = &self.key {
            authorize(hook.service, key, &mut content, &mut headers);
        }
        let mut url = address(hook.service, &self.url, &mut content, notification)?;
        let mut body = fields.unwrap_or_else(|| content.to_string());
        if hook.content_type == ContentType::Form && hook.method == "GET" {
            let separator = if url.expose().contains('?') { '&' } else { '?' };
            url = Secret::new(format!("{}{separator}{body}", url.expose()));
            body.clear();
        }
        self.secrets.extend(secret_part(hook, &url));
        let request = Request {
            method: hook.method.clone(),
            url,
            headers,
            body: body.into_bytes(),
            via: self.via.clone(),
        };
        http::send(&request, &hook.trust, deadline, MAX_ANSWER).await.map_err(|error| Refused {
            maybe: error.may_have_arrived(),
            ..Refused::from(one_line(&error.to_string(), &self.secrets))
        })
    }

    fn judge(&self, answer: &Response) -> Result<String, Refused> {
        judge(self.hook.service, answer, &self.secrets).map_err(|text| Refused {
            retry_after: patience(answer).map(Micros::from),
            ..Refused::from(text)
        })
    }
}

/// Returns whether a service refuses the message because of its size, which users' templates may
/// exceed.
fn is_too_large(answer: &Response) -> bool {
    const WORDS: [&str; 9] = [
        "too long",
        "too large",
        "too_long",
        "toolarge",
        "exceed",
        "or fewer in length",
        "maximum length",
        "max_length",
        "error 413",
    ];
    let text = String::from_utf8_lossy(&answer.body).to_ascii_lowercase();
    answer.status == 413
        || matches!(answer.status, 200 | 400 | 422)
            && WORDS.iter().any(|words| text.contains(words))
}

/// Returns a short version of the message: the subject and the first alarm.
fn brief(context: &Value) -> Value {
    const MAX_TEXT: usize = 150;
    fn shorten(value: &mut Value) {
        match value {
            Value::String(text) if text.chars().count() > MAX_TEXT => {
                *text = text.chars().take(MAX_TEXT - 1).chain(['…']).collect();
            }
            Value::Array(values) => {
                values.truncate(1);
                values.iter_mut().for_each(shorten);
            }
            Value::Object(values) => values.values_mut().for_each(shorten),
            _ => {}
        }
    }
    let mut brief = context.clone();
    brief["body"] = brief["subject"].clone();
    let incident = brief["incident"].take();
    shorten(&mut brief);
    brief["incident"] = incident;
    brief
}

/// Returns what would be sent, without the key.
pub(crate) fn preview(hook: &Webhook, notification: &Notification) -> String {
    match content(hook, &notification.context) {
        Ok((content, _)) => match hook.content_type {
            ContentType::Json => serde_json::to_string_pretty(&content).unwrap_or_default(),
            ContentType::Form => form(&content).unwrap_or_else(|error| error),
        },
        Err(error) => error,
    }
}

/// Returns the content of a request. If the user's template fails, returns the built-in one and the
/// problem, because the alarm matters more.
fn content(hook: &Webhook, context: &Value) -> Result<(Value, Option<String>), String> {
    let error = match render(hook, context) {
        Ok(content) => return Ok((content, None)),
        Err(error) => error,
    };
    let Some(text) = built_in(hook.service).filter(|_| hook.template.is_some()) else {
        return Err(error);
    };
    let problem = format!("the configured template failed: {}", one_line(&error, &[]));
    tracing::error!(service = hook.service.as_str(), %problem, "webhook sent with the built-in template");
    Ok((fill(hook.service.as_str(), text, context)?, Some(problem)))
}

/// Returns how long the service asks senders to wait, in the header or in the content: Discord's
/// `retry_after` in seconds, Telegram's in `parameters`, Matrix' `retry_after_ms`.
fn patience(answer: &Response) -> Option<Duration> {
    let said = || {
        let content: Value = serde_json::from_slice(&answer.body).ok()?;
        let seconds = content
            .get("retry_after")
            .or_else(|| content.get("parameters")?.get("retry_after"))
            .and_then(Value::as_f64);
        let seconds = seconds.or_else(|| Some(content.get("retry_after_ms")?.as_f64()? / 1000.0));
        http::patience_of(seconds?)
    };
    answer.retry_after.into_iter().chain(said()).max()
}

/// Encodes a flat JSON object as form fields.
fn form(content: &Value) -> Result<String, String> {
    let object = content
        .as_object()
        .ok_or("the template does not produce a JSON object, which a form requires")?;
    let fields = object.iter().filter_map(|(name, value)| {
        let text = match value {
            Value::Null => return None,
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => {
                return Some(Err(format!("the form field {name:?} must be a string or a number")));
            }
        };
        Some(Ok(format!("{}={}", percent_encoded(name), percent_encoded(&text))))
    });
    Ok(fields.collect::<Result<Vec<_>, String>>()?.join("&"))
}

/// Returns the error that a server reports in the content of a successful response.
///
/// Microsoft's connectors for Teams answer 200 with "Webhook message delivery failed with error:
/// …"; the Web API of Slack and Telegram `"ok": false`, Rocket.Chat `"success": false`, DingTalk
/// and WeCom an `errcode`, Feishu and Lark a `code`.
fn is_refused_in_content(service: Service, answer: &Response) -> bool {
    let text = String::from_utf8_lossy(&answer.body);
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("webhook message delivery failed")
        || lower.starts_with("webhook bad request")
    {
        return true;
    }
    if service == Service::Teams && (lower.contains("error") || lower.contains("failed")) {
        return true;
    }
    let Ok(Value::Object(said)) = serde_json::from_str::<Value>(text) else {
        return false;
    };
    let is_no = |key: &str| said.get(key) == Some(&Value::Bool(false));
    let number = |key: &str| said.get(key).and_then(Value::as_i64);
    is_no("ok")
        || is_no("success")
        || number("errcode").is_some_and(|code| code != 0)
        // Other services may use `code` for success, such as 200.
        || (said.contains_key("msg") && number("code").is_some_and(|code| code >= 9000))
}

/// Evaluates an answer. Only a success counts as accepted: a redirect has delivered nothing.
fn judge(service: Service, answer: &Response, secrets: &[Secret]) -> Result<String, String> {
    if answer.is_success() {
        if is_refused_in_content(service, answer) {
            return Err(format!("{} (an error despite this status)", answer.summary(secrets)));
        }
        return Ok(format!("HTTP {}", answer.status));
    }
    let hint = match answer.status {
        300..=399 => " (redirects are not followed; use the final address)",
        401 | 403 => " (check the key or token)",
        404 | 410 => " (check that the webhook still exists)",
        _ => "",
    };
    Err(format!("{}{hint}", answer.summary(secrets)))
}

/// Adds the service's key to the request.
fn authorize(
    service: Service,
    key: &Secret,
    content: &mut Value,
    headers: &mut Vec<(String, Secret)>,
) {
    let scheme = match service {
        Service::PagerDuty => {
            content["routing_key"] = Value::String(key.expose().to_owned());
            return;
        }
        // Jira Service Management has kept Opsgenie's scheme
        // (https://developer.atlassian.com/cloud/jira/service-desk-ops/rest/v1/api-group-integration-events).
        Service::Opsgenie | Service::Jira => "GenieKey",
        _ => "Bearer",
    };
    let value = Secret::new(format!("{scheme} {}", key.expose()));
    headers.push(("authorization".to_owned(), value));
}

/// Returns the address of the request, and adds ntfy's topic to its content.
fn address(
    service: Service,
    whole: &Secret,
    content: &mut Value,
    notification: &Notification,
) -> Result<Secret, String> {
    let url = whole.expose().trim_end_matches('/');
    Ok(match service {
        Service::Opsgenie | Service::Jira if notification.is_recovery() => {
            let alias = percent_encoded(&notification.incident);
            Secret::new(format!("{url}/{alias}/close?identifierType=alias"))
        }
        Service::Ntfy => {
            let (base, topic) = url
                .rsplit_once('/')
                .filter(|(base, topic)| !base.ends_with('/') && !topic.is_empty())
                .ok_or("the address contains no topic; use https://HOST/TOPIC")?;
            content["topic"] = Value::String(topic.to_owned());
            Secret::new(format!("{base}/"))
        }
        _ => return Ok(whole.clone()),
    })
}

/// Renders the content, which must be JSON.
fn render(hook: &Webhook, context: &Value) -> Result<Value, String> {
    let (name, text) = match &hook.template {
        Some(template) => (template.name.as_str(), template.text.as_str()),
        None => (hook.service.as_str(), built_in(hook.service).ok_or("there is no template")?),
    };
    let content = fill(name, text, context)?;
    // The service's key or topic is added to it.
    if matches!(hook.service, Service::PagerDuty | Service::Ntfy) && !content.is_object() {
        let service = hook.service.as_str();
        return Err(format!(
            "the template {name} does not produce a JSON object, which {service} requires"
        ));
    }
    Ok(content)
}

/// Fills in a template with a message.
pub(crate) fn fill(name: &str, text: &str, context: &Value) -> Result<Value, String> {
    let content = template::fill(name, text, Escape::Nothing, context)?;
    serde_json::from_str(&content).map_err(|error| {
        let line = content.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
        format!("the template {name} does not produce valid JSON: {error}: {}", one_line(line, &[]))
    })
}

/// Reports problems with the template of a webhook.
pub(crate) fn check(
    hook: &Webhook,
    examples: &[(&'static str, Notification)],
    problems: &mut Problems,
) {
    let Some(Template { node: Some(node), .. }) = &hook.template else {
        return;
    };
    for (what, notification) in examples {
        if let Err(error) = render(hook, &notification.context) {
            let problem = node
                .problem(error, format!("fails for {what}"))
                .help("a value in JSON is written {{ subject | json }}; docs/alarms.md lists the variables");
            problems.push(notification.weigh(problem));
            return;
        }
    }
}

#[cfg(test)]
mod tests;
