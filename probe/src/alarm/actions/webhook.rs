//! An HTTP request about alarms: JSON from a template, the user's own or that of a service.

use std::time::Duration;

use mailqos_core::{
    config::{Action, Config, Problems, Service, Webhook, sounds_secret},
    http::{self, Request, Response},
    mail::{Secret, SecretSource, one_line},
};
use serde_json::Value;
use tera::{Context, Kwargs, State, Tera};

use super::Refused;
use crate::alarm::message::Telling;

/// So much of an answer is read: enough for what the server has to say.
const MOST_ANSWER: usize = 16 * 1024;

/// The form of a service.
fn built_in(service: Service) -> Option<&'static str> {
    match service {
        Service::Own => None,
        Service::Slack => Some(include_str!("../../../../templates/webhooks/slack.json")),
        Service::Teams => Some(include_str!("../../../../templates/webhooks/teams.json")),
        Service::PagerDuty => Some(include_str!("../../../../templates/webhooks/pagerduty.json")),
        Service::Opsgenie => Some(include_str!("../../../../templates/webhooks/opsgenie.json")),
        Service::Ntfy => Some(include_str!("../../../../templates/webhooks/ntfy.json")),
    }
}

/// Sends the message; returns the answer that accepted it.
pub(super) async fn send(hook: &Webhook, telling: &Telling, deadline: Duration) -> Result<String, Refused> {
    let secret = |error: mailqos_core::mail::SecretError| error.to_string();
    let url = hook.url.fetch().await.map_err(secret)?;
    let mut secrets = vec![url.clone()];
    let key = match &hook.key {
        Some(key) => Some(key.fetch().await.map_err(secret)?),
        None => None,
    };
    secrets.extend(key.clone());
    let mut headers = vec![("content-type".to_owned(), Secret::new("application/json"))];
    for (name, value) in &hook.headers {
        let fetched = value.fetch().await.map_err(secret)?;
        if sounds_secret(name) || !matches!(value, SecretSource::Literal(_)) {
            secrets.push(fetched.clone());
        }
        headers.push((name.clone(), fetched));
    }
    let content = render(hook, &telling.context)?;
    let (url, body) = address(hook.service, &url, key.as_ref(), content, telling, &mut headers)?;
    secrets.push(url.clone());
    let request = Request {
        method: hook.method.clone(),
        url,
        headers,
        body: body.into_bytes(),
    };
    let answer = http::send(&request, &hook.trust, deadline, MOST_ANSWER)
        .await
        .map_err(|error| Refused {
            maybe: error.may_have_arrived(),
            ..Refused::from(one_line(&error.to_string(), &secrets))
        })?;
    Ok(judge(&answer, &secrets)?)
}

/// Only a success is an acceptance: a redirect has delivered nothing.
fn judge(answer: &Response, secrets: &[Secret]) -> Result<String, String> {
    if answer.is_success() {
        return Ok(format!("HTTP {}", answer.status));
    }
    let hint = match answer.status {
        300..=399 => " (a redirect is not followed: write the final address)",
        401 | 403 => " (is the key or token right?)",
        404 | 410 => " (does the webhook still exist?)",
        _ => "",
    };
    Err(format!("{}{hint}", answer.summary(secrets)))
}

/// Puts the service's key and place into the request.
fn address(
    service: Service,
    url: &Secret,
    key: Option<&Secret>,
    content: Value,
    telling: &Telling,
    headers: &mut Vec<(String, Secret)>,
) -> Result<(Secret, String), String> {
    let mut content = content;
    let mut url = url.clone();
    match (service, key) {
        (Service::PagerDuty, Some(key)) => content["routing_key"] = Value::String(key.expose().to_owned()),
        (Service::Opsgenie, Some(key)) => {
            headers.push((
                "authorization".to_owned(),
                Secret::new(format!("GenieKey {}", key.expose())),
            ));
        }
        (_, Some(key)) => {
            headers.push((
                "authorization".to_owned(),
                Secret::new(format!("Bearer {}", key.expose())),
            ));
        }
        (_, None) => {}
    }
    match service {
        Service::Opsgenie if telling.is_recovery() => {
            let alias = percent_encoded(&telling.incident);
            let base = url.expose().trim_end_matches('/').to_owned();
            url = Secret::new(format!("{base}/{alias}/close?identifierType=alias"));
        }
        Service::Ntfy => {
            let (base, topic) = url
                .expose()
                .trim_end_matches('/')
                .rsplit_once('/')
                .filter(|(base, topic)| !base.ends_with('/') && !topic.is_empty())
                .ok_or("the address names no topic: write https://HOST/TOPIC")?;
            content["topic"] = Value::String(topic.to_owned());
            url = Secret::new(format!("{base}/"));
        }
        _ => {}
    }
    Ok((url, content.to_string()))
}

fn percent_encoded(text: &str) -> String {
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

/// The content: what the template makes of the message, which must be JSON.
fn render(hook: &Webhook, context: &Value) -> Result<Value, String> {
    let (name, text) = match &hook.template {
        Some(template) => (template.name.as_str(), template.text.as_str()),
        None => (
            hook.service.as_str(),
            built_in(hook.service).ok_or("there is no template")?,
        ),
    };
    let content = fill(name, text, context)?;
    // The service's key or topic is put into it.
    if matches!(hook.service, Service::PagerDuty | Service::Ntfy) && !content.is_object() {
        let service = hook.service.as_str();
        return Err(format!(
            "the template {name} makes no JSON object, and {service} takes nothing else"
        ));
    }
    Ok(content)
}

/// What a template makes of a message.
pub(crate) fn fill(name: &str, text: &str, context: &Value) -> Result<Value, String> {
    let mut tera = Tera::new();
    tera.autoescape_on(Vec::<&str>::new());
    tera.register_filter("json", |value: &tera::Value, _: Kwargs, _: &State<'_>| {
        if value.is_undefined() {
            return Err(tera::Error::message("there is no such value"));
        }
        serde_json::to_string(value).map_err(|error| tera::Error::message(error.to_string()))
    });
    // Slack's own escapes: https://docs.slack.dev/messaging/formatting-message-text
    tera.register_filter("slack", |text: &str, _: Kwargs, _: &State<'_>| {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
    });
    tera.register_filter("fenced", |text: &str, _: Kwargs, _: &State<'_>| {
        format!("```\n{}\n```", text.replace("```", "'''"))
    });
    tera.register_filter("shorten", |text: &str, options: Kwargs, _: &State<'_>| {
        let most: usize = options.must_get("length")?;
        Ok::<_, tera::Error>(if text.chars().count() <= most {
            text.to_owned()
        } else {
            text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
        })
    });
    let wrong = |error: tera::Error| {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        format!("the template {name}: {text}")
    };
    tera.add_raw_template(name, text).map_err(wrong)?;
    let context = Context::from_serialize(context).map_err(wrong)?;
    let content = tera.render(name, &context).map_err(wrong)?;
    serde_json::from_str(&content).map_err(|error| {
        let line = content.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
        format!("the template {name} makes no JSON: {error}: {}", one_line(line, &[]))
    })
}

/// What is wrong with the templates of all webhooks, found with messages such as will be sent.
pub(crate) fn check(config: &Config) -> Problems {
    let mut problems = Problems::default();
    let examples = Telling::examples(config);
    let hooks = config
        .action_lists
        .values()
        .flat_map(|list| &list.steps)
        .filter_map(|step| match &step.action {
            Action::Webhook(hook) => Some(hook),
            _ => None,
        });
    for hook in hooks {
        let Some(template) = &hook.template else { continue };
        for (what, telling) in &examples {
            if let Err(error) = render(hook, &telling.context) {
                let Some(node) = &template.node else { break };
                problems.push(node.problem(error, format!("found with {what}")).help(
                    "a value in JSON is written {{ subject | json }}; docs/alarms.md lists what a template is given",
                ));
                break;
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarm::{Why, message::tests::pending};
    use mailqos_core::config::Trust;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn hook(service: Service) -> Webhook {
        Webhook {
            service,
            url: SecretSource::Literal(Secret::new("https://example.net/topic")),
            method: "POST".into(),
            key: None,
            headers: Vec::new(),
            trust: Trust::default(),
            template: None,
        }
    }

    #[test]
    fn every_service_gets_json_whatever_is_told() {
        let config = crate::alarm::message::tests::config();
        let mut shown = String::new();
        for service in [
            Service::Slack,
            Service::Teams,
            Service::PagerDuty,
            Service::Opsgenie,
            Service::Ntfy,
        ] {
            for (what, telling) in Telling::examples(&config) {
                render(&hook(service), &telling.context)
                    .unwrap_or_else(|error| panic!("{}: {what}: {error}", service.as_str()));
            }
            let telling = Telling::write(&config, &[pending(Why::Raised)]);
            let content = render(&hook(service), &telling.context).expect("JSON");
            let pretty = serde_json::to_string_pretty(&content).expect("JSON");
            shown.push_str(&format!("{}\n{pretty}\n\n", service.as_str()));
        }
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn content_that_has_no_room_for_the_key_is_found_beforehand() {
        for (content, fine) in [("{}", true), ("[]", false), ("7", false), ("null", false)] {
            let folder = tempfile::tempdir().expect("folder");
            let path = folder.path().join("mailqos.toml");
            let text = format!(
                "site = \"here\"\n[action_list.default]\n\
                 actions = [{{ webhook = {{ kind = \"pagerduty\", key = {{ env = \"X\" }}, body = \"{content}\" }} }}]\n"
            );
            std::fs::write(&path, text).expect("write");
            let config = mailqos_core::config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
            assert_eq!(!check(&config).has_errors(), fine, "{content}");
        }
    }

    #[test]
    fn a_secret_that_the_server_repeats_is_not_told() {
        let secret = Secret::new("hunter2hunter2");
        // What is told of the content ends in the middle of the secret.
        let answer = Response {
            status: 401,
            body: format!("{}{}", "x".repeat(195), secret.expose()).into_bytes(),
            truncated: false,
        };
        let error = judge(&answer, &[secret]).expect_err("refused");
        assert!(!error.contains("hunt"), "{error}");
        assert!(error.ends_with("(is the key or token right?)"), "{error}");
    }

    #[tokio::test]
    async fn a_literal_behind_a_name_that_sounds_like_a_secret_is_not_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut heard = Vec::new();
            while !heard.windows(4).any(|end| end == b"\r\n\r\n") {
                stream.read_buf(&mut heard).await.expect("a request");
            }
            let heard = String::from_utf8_lossy(&heard).to_lowercase();
            let own: Vec<&str> = heard.lines().filter(|line| line.starts_with("x-")).collect();
            let own = own.join("; ");
            let answer = format!("HTTP/1.1 400 No\r\ncontent-length: {}\r\n\r\n{own}", own.len());
            stream.write_all(answer.as_bytes()).await.expect("an answer");
            stream
        };
        let literal = |text: &str| SecretSource::Literal(Secret::new(text));
        let hook = Webhook {
            url: literal(&format!("http://{address}/")),
            headers: vec![
                ("X-Auth".into(), literal("hunter2")),
                ("X-From".into(), literal("lyon")),
            ],
            ..hook(Service::Slack)
        };
        let telling = Telling::write(&crate::alarm::message::tests::config(), &[pending(Why::Raised)]);
        let (sent, _stream) = tokio::join!(send(&hook, &telling, Duration::from_secs(60)), server);
        let error = sent.expect_err("refused");
        assert!(
            error.text.contains("x-from: lyon") && !error.text.contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn what_belongs_into_the_request_is_put_there() {
        let config = crate::alarm::message::tests::config();
        let examples = Telling::examples(&config);
        let (_, recovery) = examples.iter().find(|(what, _)| *what == "a recovery").expect("one");
        let url = Secret::new("https://api.example.net/v2/alerts");
        let key = Secret::new("k");
        let mut headers = Vec::new();
        let (place, _) =
            address(Service::Opsgenie, &url, Some(&key), Value::Null, recovery, &mut headers).expect("fine");
        assert!(
            place.expose().ends_with("/close?identifierType=alias"),
            "{}",
            place.expose()
        );
        assert!(place.expose().contains("%2F"), "{}", place.expose());
        assert_eq!(headers[0].1.expose(), "GenieKey k");
        let topic = Secret::new("https://ntfy.example.net/mail-alarms");
        let (place, body) = address(
            Service::Ntfy,
            &topic,
            None,
            serde_json::json!({}),
            recovery,
            &mut Vec::new(),
        )
        .expect("fine");
        assert_eq!(place.expose(), "https://ntfy.example.net/");
        assert_eq!(body, r#"{"topic":"mail-alarms"}"#);
        let (_, body) = address(
            Service::PagerDuty,
            &url,
            Some(&key),
            serde_json::json!({}),
            recovery,
            &mut Vec::new(),
        )
        .expect("fine");
        assert_eq!(body, r#"{"routing_key":"k"}"#);
    }
}
