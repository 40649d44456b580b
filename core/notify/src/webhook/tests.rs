//! Tests of webhooks: what is sent, what counts as accepted, and what must stay secret.

use mailqos_net::Trust;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{check as check_lists, testing};

fn hook(service: Service) -> Webhook {
    Webhook {
        service,
        url: SecretSource::Literal(Secret::new("https://example.net/topic")),
        method: "POST".into(),
        key: None,
        headers: Vec::new(),
        trust: Trust::default(),
        template: None,
        content_type: ContentType::Json,
        proxy: None,
    }
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
        let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let problems = check_lists(&config, &[("an alarm", testing::alarm("refused"))]);
        assert_eq!(!problems.has_errors(), fine, "{content}");
    }
}

#[test]
fn a_secret_repeated_by_the_server_is_not_shown() {
    let secret = Secret::new("hunter2hunter2");
    // The quoted part of the content ends in the middle of the secret.
    let answer = Response {
        status: 401,
        body: format!("{}{}", "x".repeat(195), secret.expose()).into_bytes(),
        truncated: true,
        retry_after: None,
        location: None,
    };
    let error = judge(Service::Own, &answer, &[secret]).expect_err("refused");
    assert!(!error.contains("hunt"), "{error}");
    assert!(error.ends_with("(check the key or token)"), "{error}");
}

fn texts(value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(values) => {
            let kind = values.get("type").and_then(Value::as_str).unwrap_or("Fact").to_owned();
            for (key, value) in values {
                match value {
                    Value::String(text) => found.push((format!("{kind}.{key}"), text.clone())),
                    value => texts(value, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn words_of_a_tested_server_are_links_nowhere() {
    let words = "550 [Reset your password](https://evil.example/) <https://evil.example/|here> *b* ``` <!channel>";
    let notification = testing::alarm(words);
    let content = render(&hook(Service::Teams), &notification.context).expect("JSON");
    let mut found = Vec::new();
    texts(&content, &mut found);
    let (markdown, plain): (Vec<_>, Vec<_>) = found
        .into_iter()
        .filter(|(_, text)| text.contains("Reset your password"))
        .partition(|(place, _)| !place.starts_with("TextRun."));
    // TextRun is the only element of a card that is never rendered as Markdown.
    assert!(markdown.is_empty() && !plain.is_empty(), "{markdown:?}");
    assert!(plain.iter().all(|(_, text)| !text.contains("](")), "{plain:?}");
    let content = render(&hook(Service::Slack), &notification.context).expect("JSON").to_string();
    assert!(!content.contains("<https:") && !content.contains("<!channel"), "{content}");
    assert_eq!(content.matches("```").count(), 2, "{content}");
    assert!(content.contains("\"verbatim\":true"), "{content}");
}

#[test]
fn limits_of_services_are_kept_in_bytes() {
    for text in ["Ошибка сервера ", "😀", "<&>\"\\", "x"] {
        let mut notification = testing::alarm(&text.repeat(40_000 / text.len()));
        for key in ["subject", "body", "incident", "source", "component"] {
            notification.context[key] = Value::String(text.repeat(80_000 / text.len()));
        }
        notification.context["alarms"] =
            Value::Array(vec![notification.context["alarms"][0].clone(); 12]);
        notification.context["count"] = 12.into();
        let content = |service| render(&hook(service), &notification.context).expect("JSON");
        let size = |value: &Value| value.as_str().map_or(0, str::len);
        let ntfy = content(Service::Ntfy);
        assert!((3000..=4096).contains(&size(&ntfy["message"])), "{}", size(&ntfy["message"]));
        assert!(size(&ntfy["title"]) <= 250);
        let pagerduty = content(Service::PagerDuty);
        assert!((900..=1024).contains(&size(&pagerduty["payload"]["summary"])));
        assert!(
            size(&pagerduty["dedup_key"]) <= 255 && size(&pagerduty["payload"]["source"]) <= 1024
        );
        assert!(pagerduty.to_string().len() <= 512 * 1024);
        for service in [Service::Opsgenie, Service::Jira] {
            let alert = content(service);
            assert!(size(&alert["message"]) <= 130 && size(&alert["description"]) <= 15_000);
            assert!(
                size(&alert["alias"]) <= 512
                    && size(&alert["entity"]) <= 512
                    && size(&alert["source"]) <= 100
            );
        }
        let slack = content(Service::Slack);
        let characters = |value: &Value| value.as_str().map_or(0, |text| text.chars().count());
        assert!(characters(&slack["blocks"][0]["text"]["text"]) <= 150);
        assert!(characters(&slack["blocks"][1]["text"]["text"]) <= 3000);
        assert!(characters(&slack["text"]) <= 4000);
        // The workflow passes on the card as a JSON string: 24,453 bytes here became 28,897 there
        // (https://github.com/MicrosoftDocs/msteams-docs/issues/11274).
        let card = content(Service::Teams).to_string();
        let teams = serde_json::to_string(&card).expect("JSON").len();
        assert!(teams <= 28 * 1024, "{teams}");
    }
}

#[test]
fn an_error_in_a_success_is_a_failure() {
    let judged = |service, status, body: &str| {
        let answer = Response {
            status,
            body: body.as_bytes().to_vec(),
            truncated: false,
            retry_after: None,
            location: None,
        };
        judge(service, &answer, &[])
    };
    let teams = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429";
    for (service, body) in [
        (Service::Teams, teams),
        (Service::Own, teams),
        (Service::Own, r#"{"ok":false,"error":"channel_not_found"}"#),
        (Service::Own, r#"{"success":false}"#),
        (Service::Own, r#"{"errcode":310000,"errmsg":"keywords not in content"}"#),
        (Service::Own, r#"{"code":19001,"msg":"param invalid"}"#),
    ] {
        let error = judged(service, 200, body).expect_err(body);
        assert!(error.starts_with("HTTP 200: "), "{error}");
    }
    for (service, status, body) in [
        (Service::Teams, 200, "1"),
        (Service::Teams, 202, ""),
        (Service::Slack, 200, "ok"),
        (Service::Own, 200, r#"{"ok":true,"error":null}"#),
        (Service::Own, 200, r#"{"errcode":0,"errmsg":"ok"}"#),
        (Service::Own, 200, r#"{"code":0,"msg":"success"}"#),
        (Service::Own, 200, r#"{"code":200,"msg":"success"}"#),
        (Service::Own, 200, "no errors, 0 failed"),
    ] {
        judged(service, status, body).expect(body);
    }
}

/// Answers one request and returns its head and body.
async fn answer_once(listener: &tokio::net::TcpListener, answer: &str) -> String {
    let (mut stream, _) = listener.accept().await.expect("a client");
    let mut heard = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&heard).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .and_then(|length| length.parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                stream.write_all(answer.as_bytes()).await.expect("an answer");
                return text;
            }
        }
        stream.read_buf(&mut heard).await.expect("a request");
    }
}

#[tokio::test]
async fn a_form_goes_to_a_gateway_and_a_request_for_patience_is_heard() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let literal = |text: &str| SecretSource::Literal(Secret::new(text));
    let mut gateway = Webhook {
        url: literal(&format!("http://{address}/send?user=1")),
        template: Some(mailqos_config::Template {
            text:
                r#"{ "to": "+46 70&1", "n": {{ count }}, "none": null, "text": {{ site | json }} }"#
                    .into(),
            name: "body".into(),
            node: None,
        }),
        content_type: ContentType::Form,
        ..hook(Service::Own)
    };
    let notification = testing::alarm("x");
    let busy = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 77\r\nContent-Length: 0\r\n\r\n";
    let (patience, proxy) = (Duration::from_secs(60), Proxy::default());
    let (sent, heard) =
        tokio::join!(send(&gateway, &proxy, &notification, patience), answer_once(&listener, busy));
    assert_eq!(sent.expect_err("busy").retry_after, Some(Micros::from_secs(77)));
    let (head, body) = heard.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("POST /send?user=1 "), "{head}");
    assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
    let mut fields: Vec<&str> = body.split('&').collect();
    fields.sort_unstable();
    assert_eq!(fields, ["n=1", "text=stockholm", "to=%2B46%2070%261"]);
    gateway.method = "GET".into();
    let fine = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let (sent, heard) =
        tokio::join!(send(&gateway, &proxy, &notification, patience), answer_once(&listener, fine));
    sent.expect("accepted");
    assert!(
        heard.starts_with("GET /send?user=1&") && heard.contains("to=%2B46%2070%261"),
        "{heard}"
    );
}

/// Users' templates may exceed the limits: <https://github.com/megaease/easeprobe/issues/364>,
/// <https://github.com/grafana/grafana/issues/74724>,
/// <https://github.com/elastic/kibana/issues/124716>.
#[tokio::test]
async fn what_is_too_large_for_a_service_is_sent_in_short() {
    let telegram =
        "{\"ok\":false,\"error_code\":400,\"description\":\"Bad Request: message is too long\"}";
    let discord = "{\"code\":50035,\"errors\":{\"content\":{\"_errors\":[{\"message\":\"Must be 2000 or fewer in length.\"}]}}}";
    let teams = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 413";
    for (status, said, fits) in [
        ("400 Bad Request", telegram, true),
        ("400 Bad Request", discord, true),
        ("200 OK", teams, true),
        ("413 Payload Too Large", "", true),
        ("400 Bad Request", "unknown chat", false),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let template = "{ \"text\": {{ body | json }}, \"all\": {{ alarms | length }}, \"count\": {{ count }} }";
        let own = Webhook {
            url: SecretSource::Literal(Secret::new(format!("http://{at}/"))),
            template: Some(mailqos_config::Template {
                text: template.to_owned(),
                name: "body".to_owned(),
                node: None,
            }),
            ..hook(Service::Own)
        };
        let notification = testing::alarms(30, "refused");
        let refusal = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{said}", said.len());
        let server = async {
            let first = answer_once(&listener, &refusal).await;
            if !fits {
                return (first, String::new());
            }
            let fine = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            (first, answer_once(&listener, fine).await)
        };
        let proxy = Proxy::default();
        let (sent, (first, second)) =
            tokio::join!(send(&own, &proxy, &notification, Duration::from_secs(60)), server);
        let content = |request: &str| -> Value {
            let (_, body) = request.split_once("\r\n\r\n").expect("a head");
            serde_json::from_str(body).expect("JSON")
        };
        assert_eq!(content(&first)["all"], 30);
        if !fits {
            assert!(sent.expect_err("refused").text.contains(said));
            continue;
        }
        let words = sent.expect("accepted");
        assert!(
            words.starts_with(
                "HTTP 200 (short version, because the full message was rejected: HTTP "
            ),
            "{words}"
        );
        let short = content(&second);
        assert_eq!((&short["all"], &short["count"]), (&1.into(), &30.into()));
        assert_eq!(short["text"], notification.subject.as_str());
    }
}

#[test]
fn the_server_of_an_address_is_shown_and_what_follows_is_not() {
    let part = |url: &str, source: Option<SecretSource>| {
        let mut hook = hook(Service::Own);
        hook.url = source.unwrap_or_else(|| SecretSource::Literal(Secret::new(url)));
        secret_part(&hook, &Secret::new(url)).map(|part| part.expose().to_owned())
    };
    let env = || Some(SecretSource::Env("URL".to_owned()));
    assert_eq!(part("https://hooks.example.net/x", None), None);
    assert_eq!(part("https://ntfy.example/topic1", env()).as_deref(), Some("topic1"));
    assert_eq!(
        part("https://hooks.slack.com/services/T0/B0/abc", None).as_deref(),
        Some("services/T0/B0/abc")
    );
    assert_eq!(part("https://a.example?token=hunter2", None).as_deref(), Some("token=hunter2"));
    assert_eq!(part("https://a.example", env()), None);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = closed.local_addr().expect("an address");
    drop(closed);
    let hook = Webhook {
        url: SecretSource::Literal(Secret::new(format!("http://{at}/services/T0/hunter2hunter2"))),
        ..hook(Service::Slack)
    };
    let sent = send(&hook, &Proxy::default(), &testing::alarm("x"), Duration::from_secs(20)).await;
    let error = sent.expect_err("nobody listens").text;
    assert!(error.contains(&at.to_string()) && !error.contains("hunter2"), "{error}");
}

#[test]
fn patience_is_asked_for_in_the_content_too() {
    let asked = |body: &str, header: Option<u64>| {
        let answer = Response {
            status: 429,
            body: body.as_bytes().to_vec(),
            truncated: false,
            retry_after: header.map(Duration::from_secs),
            location: None,
        };
        patience(&answer).map(|asked| asked.as_millis())
    };
    let discord = r#"{"message":"You are being rate limited.","retry_after":64.57,"global":false}"#;
    assert_eq!(asked(discord, None), Some(64_570));
    assert_eq!(asked(discord, Some(65)), Some(65_000));
    let telegram = r#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 35","parameters":{"retry_after":35}}"#;
    assert_eq!(asked(telegram, None), Some(35_000));
    let matrix =
        r#"{"errcode":"M_LIMIT_EXCEEDED","error":"Too many requests","retry_after_ms":2000}"#;
    assert_eq!(asked(matrix, None), Some(2000));
    assert_eq!(asked("{\"retry_after\":1e300}", None), Some(3_600_000));
    for nothing in ["", "no", "{\"retry_after\":-1}", "{\"retry_after\":\"soon\"}", "[]"] {
        assert_eq!(asked(nothing, None), None, "{nothing}");
    }
}

#[tokio::test]
async fn a_literal_after_a_name_like_a_secret_is_masked() {
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
        headers: vec![("X-Auth".into(), literal("hunter2")), ("X-From".into(), literal("lyon"))],
        ..hook(Service::Slack)
    };
    let notification = testing::alarm("refused");
    let proxy = Proxy::default();
    let (sent, _stream) =
        tokio::join!(send(&hook, &proxy, &notification, Duration::from_secs(60)), server);
    let error = sent.expect_err("refused");
    assert!(error.text.contains("x-from: lyon") && !error.text.contains("hunter2"), "{error}");
}

#[test]
fn what_belongs_into_the_request_is_put_there() {
    let recovery = &testing::recovery();
    let url = Secret::new("https://api.example.net/v2/alerts");
    let key = Secret::new("k");
    let mut headers = Vec::new();
    authorize(Service::Opsgenie, &key, &mut Value::Null, &mut headers);
    let place = address(Service::Opsgenie, &url, &mut Value::Null, recovery).expect("fine");
    assert!(place.expose().ends_with("/close?identifierType=alias"), "{}", place.expose());
    assert!(place.expose().contains("%2F"), "{}", place.expose());
    assert_eq!(headers[0].1.expose(), "GenieKey k");
    let topic = Secret::new("https://ntfy.example.net/mail-alarms");
    let mut content = serde_json::json!({});
    let place = address(Service::Ntfy, &topic, &mut content, recovery).expect("fine");
    assert_eq!(place.expose(), "https://ntfy.example.net/");
    assert_eq!(content, serde_json::json!({ "topic": "mail-alarms" }));
    let mut content = serde_json::json!({});
    authorize(Service::PagerDuty, &key, &mut content, &mut headers);
    assert_eq!(content, serde_json::json!({ "routing_key": "k" }));
    assert_eq!(headers.len(), 1);
}
