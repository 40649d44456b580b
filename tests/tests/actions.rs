//! Action lists from the user's perspective: who is notified over which channel, how a dead channel
//! affects the others, and what is sent for ten thousand alarms.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use mailqos_tests::{
    hooks::{Hooks, Manner},
    servers::{Authority, Fault, LogServer, MailServer, Options, PASSWORD, Protocol, When},
    setting::{Setting, until, words_of},
};

async fn alert_server(setting: &mut Setting, name: &str) -> MailServer {
    let users = vec![
        (format!("{name}@example.net"), PASSWORD.to_owned()),
        ("anna@example.net".to_owned(), "x".to_owned()),
    ];
    let server = MailServer::start(Options { users, ..Options::default() }).await.unwrap();
    setting.add_mail_server(name, &format!("{name}@example.net"), &server);
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_list_is_tried_for_real() {
    let mut setting = Setting::new("lyon");
    let first = alert_server(&mut setting, "first").await;
    let second = alert_server(&mut setting, "second").await;
    first.refuse(Protocol::Smtp);
    let hooks = Hooks::start(Manner::Status(200)).await.unwrap();
    let endless = Hooks::start(Manner::Endless).await.unwrap();
    let silent = Hooks::start(Manner::Silent).await.unwrap();
    let log = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    setting.add(&format!(
        r#"[action_list.default]
actions = [
  {{ email = "anna@example.net", mail_server = "first", fallback = "second" }},
  {{ webhook = {{ kind = "pagerduty", url = "{}", key = {{ env = "PROBE_PASSWORD" }} }} }},
  {{ webhook = {{ url = "{}", body = '{{ "text": {{{{ subject | json }}}} }}' }} }},
  {{ command = ["sh", "-c", "echo $MAILQOS_KIND $LEVEL"], environment = {{ LEVEL = "2" }} }},
  {{ syslog = {{ server = "127.0.0.1", port = {} }} }},
]
[action_list.dead]
actions = [
  {{ webhook = {{ kind = "slack", url = {{ env = "SLACK" }} }}, timeout = "300ms" }},
  {{ command = ["sh", "-c", "sleep 1000"], timeout = "300ms" }},
  {{ command = ["sh", "-c", "echo all is lost >&2; exit 7"] }},
]"#,
        hooks.url("/v2/enqueue"),
        endless.url("/x"),
        log.local_addr().unwrap().port(),
    ));
    let said = setting.succeed("mailqos-probe", &["actions", "test"]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 5, "{said}");
    assert!(lines[0].starts_with("✓") && lines[0].contains("e-mail through second"), "{said}");
    assert!(lines[1].starts_with("✓ pagerduty at 127.0.0.1: accepted"), "{said}");
    assert!(lines[2].starts_with("✓") && lines[2].contains("HTTP 200"), "{said}");
    assert!(lines[3].contains("test 2"), "{said}");
    assert!(lines[4].starts_with("~") && lines[4].contains("not confirmed"), "{said}");
    until("the fallback's mail", || !second.landings().is_empty()).await;
    assert!(second.landings()[0].field("Subject").unwrap().starts_with("TEST"));
    // The incident that the test opened is closed again.
    let incidents: Vec<_> = hooks.taken().iter().map(|hook| hook.json()).collect();
    assert_eq!(incidents.len(), 2);
    assert_eq!(incidents[0]["event_action"], "trigger");
    assert_eq!(incidents[1]["event_action"], "resolve");
    assert_eq!(incidents[0]["dedup_key"], incidents[1]["dedup_key"]);
    assert_eq!(incidents[0]["routing_key"], PASSWORD);
    assert!(!said.contains(PASSWORD));
    let mut space = [0; 4096];
    let count = log.recv(&mut space).await.unwrap();
    assert!(String::from_utf8_lossy(&space[..count]).starts_with("<29>1 "));

    let output = setting
        .command("mailqos-probe")
        .args(["actions", "test", "dead"])
        .env("SLACK", silent.url("/services/T0/secret-path"))
        .output()
        .unwrap();
    let said = words_of(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.matches('✗').count(), 3, "{said}");
    assert!(
        said.contains("within 300ms")
            && said.contains("all is lost")
            && !said.contains("secret-path"),
        "{said}"
    );

    let output = setting.run("mailqos-probe", &["actions", "test", "defalt"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean default?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporarily_rejected_recipient_is_notified_later() {
    let mut setting = Setting::new("lyon");
    let first = alert_server(&mut setting, "first").await;
    let second = alert_server(&mut setting, "second").await;
    let tested = MailServer::start(Options::default()).await.unwrap();
    tested.refuse(Protocol::Smtp);
    setting.replace("test_interval = \"5s\"", "test_interval = \"1s\"\nalarm_after = 2");
    setting.add(
        r#"[action_list.default]
actions = [{ email = ["anna@example.net", "first@example.net"], mail_server = "first" }]
[action_list.secure]
actions = [{ email = ["anna@example.net", "first@example.net"], mail_server = "first", fallback = "second" }]"#,
    );
    let not_now = || {
        first.inject(Protocol::Smtp, "RCPT", Fault::Reply("450 4.2.0 later".into()), When::Times(1))
    };
    not_now();
    let said = setting.succeed("mailqos-probe", &["actions", "test", "secure"]);
    assert!(said.starts_with('✓') && said.contains("through second"), "{said}");
    let told = |server: &MailServer| {
        server.landings().iter().map(|mail| mail.to.clone()).collect::<Vec<_>>()
    };
    until("both mails", || !told(&first).is_empty() && !told(&second).is_empty()).await;
    assert_eq!(
        (told(&first), told(&second)),
        (vec!["first@example.net".to_owned()], vec!["anna@example.net".to_owned()])
    );
    // It is the same mail.
    let names_both = second.landings()[0].field("To").unwrap().contains("first@example.net");
    assert!(names_both);

    not_now();
    setting.add_monitor(&setting.monitor("mail1", &tested));
    let probe = setting.start_probe();
    until("the mail to the other", || told(&first).len() == 2).await;
    until("the mail to her", || told(&first).len() >= 3).await;
    let log = probe.log();
    assert!(probe.stop().success(), "{log}");
    assert_eq!(told(&first)[1..], ["first@example.net", "anna@example.net"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_receives_its_own_format() {
    let hooks = Hooks::start(Manner::Status(202)).await.unwrap();
    let mut setting = Setting::new("lyon");
    let key = "key = { env = \"PROBE_PASSWORD\" }";
    setting.add(&format!(
        r#"[action_list.default]
actions = [
  {{ webhook = {{ kind = "slack", url = {{ env = "SLACK" }} }} }},
  {{ webhook = {{ kind = "teams", url = {{ env = "TEAMS" }} }} }},
  {{ webhook = {{ kind = "pagerduty", url = "{}", {key} }} }},
  {{ webhook = {{ kind = "opsgenie", url = "{}", {key} }} }},
  {{ webhook = {{ kind = "jira-service-management", url = "{}", {key} }} }},
  {{ webhook = {{ kind = "ntfy", url = "{}", {key} }} }},
]"#,
        hooks.url("/pagerduty"),
        hooks.url("/opsgenie"),
        hooks.url("/jsm/ops/integration/v2/alerts"),
        hooks.url("/ntfy/alarms"),
    ));
    let output = setting
        .command("mailqos-probe")
        .args(["actions", "test"])
        .env("SLACK", hooks.url("/slack"))
        .env("TEAMS", hooks.url("/teams"))
        .output()
        .unwrap();
    let said = words_of(&output);
    assert_eq!(said.matches('✓').count(), 6, "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
    let taken = hooks.taken();
    let of = |path: &str| {
        let line = format!("POST {path} ");
        let found = taken.iter().find(|hook| hook.line.starts_with(&line));
        found.unwrap_or_else(|| panic!("nothing for {path}: {taken:?}"))
    };
    let subject = of("/slack").json()["text"].as_str().unwrap().to_owned();
    assert!(subject.starts_with("TEST"), "{subject}");
    assert_eq!(of("/slack").json()["blocks"][0]["type"], "header");
    let card = of("/teams").json()["attachments"][0]["content"].clone();
    assert_eq!(
        (&card["type"], &card["body"][0]["inlines"][0]["text"]),
        (&"AdaptiveCard".into(), &subject.clone().into())
    );
    let pagerduty = of("/pagerduty").json();
    assert_eq!(
        (&pagerduty["routing_key"], &pagerduty["event_action"]),
        (&PASSWORD.into(), &"trigger".into())
    );
    for path in ["/opsgenie", "/jsm/ops/integration/v2/alerts"] {
        let alert = of(path);
        assert_eq!(alert.json()["message"], subject);
        assert!(alert.head.contains(&format!("GenieKey {PASSWORD}")), "{}", alert.head);
        // A test closes what it opened.
        let alias = alert.json()["alias"].as_str().unwrap().replace('/', "%2F");
        let line = format!("POST {path}/{alias}/close?identifierType=alias ");
        let close = taken.iter().find(|hook| hook.line.starts_with(&line));
        assert!(close.is_some() && !alias.is_empty(), "{taken:?}");
    }
    let ntfy = of("/ntfy/");
    assert_eq!((&ntfy.json()["topic"], &ntfy.json()["title"]), (&"alarms".into(), &subject.into()));
    assert!(ntfy.head.contains(&format!("Bearer {PASSWORD}")), "{}", ntfy.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_are_lines_in_a_log_over_tcp_and_tls() {
    let mut setting = Setting::new("lyon");
    let plain = LogServer::start(None).await.unwrap();
    let authority = Authority::new();
    let sealed = LogServer::start(Some(&authority)).await.unwrap();
    std::fs::write(setting.path("log.pem"), authority.pem()).unwrap();
    setting.add(&format!(
        r#"[action_list.default]
actions = [
  {{ syslog = {{ server = "127.0.0.1", port = {}, transport = "tcp", facility = "local3" }} }},
  {{ syslog = {{ server = "127.0.0.1", port = {}, transport = "tls", ca_file = "log.pem" }} }},
]
[action_list.stranger]
actions = [{{ syslog = {{ server = "127.0.0.1", port = {}, transport = "tls" }} }}]"#,
        plain.port(),
        sealed.port(),
        sealed.port(),
    ));
    let said = setting.succeed("mailqos-probe", &["actions", "test"]);
    // A log server never confirms a line.
    assert_eq!(said.matches('~').count(), 2, "{said}");
    for (log, priority) in [(&plain, "<157>1 "), (&sealed, "<29>1 ")] {
        until("a line", || !log.heard().is_empty()).await;
        let heard = log.heard();
        // RFC 6587: the length, then the line.
        let (length, line) = heard.split_once(' ').unwrap();
        assert_eq!(length.parse(), Ok(line.len()), "{heard}");
        assert!(line.starts_with(priority) && line.contains(" mailqos-probe "), "{line}");
    }
    // Servers without octet counting
    // (https://github.com/IonxSolutions/serilog-sinks-syslog/issues/43) treat the lengths as text.
    let lines = LogServer::start(None).await.unwrap();
    setting.add(&format!(
        "[action_list.lines]\nactions = [{{ syslog = {{ server = \"127.0.0.1\", port = {}, transport = \"tcp\", framing = \"newline\" }} }}]",
        lines.port()
    ));
    setting.succeed("mailqos-probe", &["actions", "test", "lines"]);
    until("a line", || lines.heard().ends_with('\n')).await;
    let heard = lines.heard();
    assert!(heard.starts_with("<29>1 ") && heard.matches('\n').count() == 1, "{heard}");
    let output = setting.run("mailqos-probe", &["actions", "test", "stranger"]);
    let said = words_of(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("certificate"), "{said}");
}

#[test]
fn lists_that_refer_to_each_other_in_a_circle_are_found_by_check() {
    let mut setting = Setting::new("lyon");
    setting.add(
        "[action_list.default]\nactions = [{ list = \"second\" }]\n[action_list.second]\nactions = [{ list = \"third\" }]\n\
         [action_list.third]\nactions = [{ list = \"second\" }]",
    );
    for arguments in [&["check"][..], &["run"]] {
        let output = setting.run("mailqos-probe", arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("second") && said.contains("third") && said.contains("cycle"),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_channel_delays_no_other_and_is_retried() {
    let mut setting = Setting::new("lyon");
    let tested = MailServer::start(Options::default()).await.unwrap();
    let hooks = Hooks::start(Manner::Status(200)).await.unwrap();
    let dying = Hooks::start(Manner::Silent).await.unwrap();
    setting.replace("test_interval = \"5s\"", "test_interval = \"1s\"\nalarm_after = 2");
    setting.add(&format!(
        r#"[action_list.default]
actions = [
  {{ webhook = {{ url = "{}", body = '{{ "way": "dying", "kind": {{{{ kind | json }}}} }}' }}, timeout = "500ms" }},
  {{ webhook = {{ url = "{}", body = '{{ "kind": {{{{ alarms[0].kind | json }}}}, "failures": {{{{ alarms[0].failures }}}} }}' }} }},
  {{ list = "later", at_failure = 5 }},
]
[action_list.later]
actions = [{{ webhook = {{ url = "{}", body = '{{ "kind": {{{{ alarms[0].kind | json }}}} }}' }}, on = "alarm" }}]"#,
        dying.url("/"),
        hooks.url("/at-once"),
        hooks.url("/later"),
    ));
    setting.add_monitor(&setting.monitor("mail1", &tested));
    tested.refuse(Protocol::Smtp);
    let probe = setting.start_probe();
    let kinds = |path: &str| -> Vec<String> {
        let of_path = |line: &str| line.split(' ').nth(1) == Some(path);
        let taken = hooks.taken();
        let found = taken.iter().filter(|hook| of_path(&hook.line));
        found.map(|hook| hook.json()["kind"].as_str().unwrap().to_owned()).collect()
    };
    until("the escalation", || !kinds("/later").is_empty()).await;
    assert_eq!(kinds("/at-once"), ["alarm"]);
    assert_eq!(kinds("/later"), ["escalation"]);
    dying.set(Manner::Status(202));
    until("a second try", || dying.taken().len() >= 2).await;
    tested.admit(Protocol::Smtp);
    until("the recovery", || kinds("/at-once").len() >= 2).await;
    until("the recovery by the other way", || {
        dying.taken().iter().any(|hook| hook.json()["kind"] == "recovery")
    })
    .await;
    let log = probe.log();
    assert!(probe.stop().success(), "{log}");
    assert_eq!(kinds("/at-once"), ["alarm", "recovery"]);
    assert_eq!(kinds("/later"), ["escalation"], "notified of the alarm only");

    // The log and the next report mention the dead channel and the recipients of the alarm.
    let log = setting.succeed("mailqos-probe", &["log"]);
    assert!(log.contains("channel_failed") && log.contains("channel_recovered"), "{log}");
    std::fs::write(
        setting.path("alarms.toml"),
        "title = \"Alarms\"\nformats = [\"html\"]\n[[section]]\nkind = \"alarms\"\n",
    )
    .unwrap();
    let today = jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
    let (from, to) = (
        today.yesterday().unwrap().to_string(),
        today.tomorrow().unwrap().tomorrow().unwrap().to_string(),
    );
    let printed = setting.succeed(
        "mailqos-analytics",
        &["report", "alarms.toml", "--from", &from, "--to", &to, "--output", "out"],
    );
    let file = printed.lines().map(str::trim).find(|path| path.ends_with(".html")).unwrap();
    let html = std::fs::read_to_string(setting.path(file)).unwrap();
    assert!(
        html.contains("webhook at 127.0.0.1") && html.contains("accepted no notifications from"),
        "{html}"
    );
    assert!(html.contains("One alarm") && !html.contains("nobody"), "{html}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_a_template_that_fails() {
    for (template, part) in [
        ("{ \"text\": {{ subjekt | json }} }", "subjekt"),
        ("{ \"text\": {% if }", "body"),
        ("{ \"text\": {{ subject }} }", "does not produce valid JSON"),
        ("{ \"text\": {{ subject | jsn }} }", "jsn"),
    ] {
        let mut setting = Setting::new("lyon");
        setting.add(&format!(
            "[action_list.default]\nactions = [{{ webhook = {{ url = \"https://hooks.example.net/\", body = '{template}' }} }}]"
        ));
        for arguments in [&["check"][..], &["run"], &["actions", "test"]] {
            let output = setting.run("mailqos-probe", arguments);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{template}: {said}");
            assert!(said.contains(part) && said.contains("mailqos.toml"), "{template}: {said}");
        }
    }
}

/// <https://github.com/grafana/grafana/issues/35207>,
/// <https://github.com/prometheus/alertmanager/issues/5322>,
/// <https://github.com/ptarmiganlabs/butler/issues/384>: a wrong template must not suppress the
/// alarm, and, as in <https://github.com/triggerdotdev/trigger.dev/issues/1745>,
/// <https://github.com/distribution/distribution/pull/4900>: neither may a line break in a subject,
/// which must not become a header field.
#[tokio::test(flavor = "multi_thread")]
async fn mails_have_their_own_words_and_are_sent_when_these_fail() {
    let mut setting = Setting::new("lyon");
    let server = alert_server(&mut setting, "first").await;
    std::fs::write(
        setting.path("alarm.txt"),
        "{% for alarm in alarms %}Monitor {{ alarm.monitor }} ({{ alarm.kind }})\n{% endfor %}Runbook: https://wiki.example.net/\n",
    )
    .unwrap();
    std::fs::write(setting.path("alarm.html"), "<p>{{ site }}: {{ subject }}</p>").unwrap();
    setting.add(
        r#"[[action_list.default.actions]]
email = ["anna@example.net"]
mail_server = "first"
subject = """[{{ site | upper }}]
Bcc: eve@example.net {{ alarms[0].monitor }}"""
text = { file = "alarm.txt" }
html = { file = "alarm.html" }"#,
    );
    let said = setting.succeed("mailqos-probe", &["check"]);
    assert!(!said.contains("warning"), "{said}");
    setting.add("[delivery]\naction_list = \"default\"");
    let said = setting.succeed("mailqos-probe", &["check"]);
    assert!(said.contains("with 1 warning"), "notices have no alarms: {said}");
    let said = setting.succeed("mailqos-probe", &["actions", "preview", "--kind", "recovery"]);
    assert!(
        said.contains("Subject: [LYON] Bcc: eve@example.net lyon\n")
            && said.contains("Monitor lyon (recovery)"),
        "{said}"
    );
    assert!(said.contains("<p>lyon: RECOVERED"), "{said}");
    assert!(server.landings().is_empty());

    setting.succeed("mailqos-probe", &["actions", "test"]);
    until("a mail", || !server.landings().is_empty()).await;
    let mail = server.landings()[0].clone();
    assert_eq!(mail.field("Subject").as_deref(), Some("[LYON] Bcc: eve@example.net lyon"));
    let content = String::from_utf8_lossy(&mail.content).into_owned();
    assert!(!content.contains("\r\nBcc"), "{content}");
    assert!(
        content.contains("multipart/alternative")
            && content.contains("Runbook: https://wiki.example.net/")
    );
    assert!(content.contains("<p>lyon: TEST"), "{content}");

    // A notice about reports has no alarms: the subject can't be rendered, and the mail is sent
    // nevertheless.
    let mut tell = setting.command("mailqos-probe");
    tell.args(["actions", "tell"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = tell.spawn().unwrap();
    let notice =
        br#"{ "id": "x", "subject": "no report", "text": "The report monthly is not there." }"#;
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), notice).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = words_of(&output);
    assert!(output.status.success() && said.contains("the configured template failed"), "{said}");
    until("the notice", || server.landings().len() == 2).await;
    let mail = server.landings()[1].clone();
    assert_eq!(mail.field("Subject").as_deref(), Some("[mailqos lyon] no report"));
    let content = String::from_utf8_lossy(&mail.content).into_owned();
    assert!(
        content.contains("The report monthly is not there.")
            && content.contains("This mail uses the built-in text"),
        "{content}"
    );
}

#[test]
fn a_wrong_template_of_a_mail_is_found_by_check_with_its_file_and_line() {
    for (keys, parts) in [
        ("subject = \"{{ subjekt }}\"", ["subjekt", "mailqos.toml"]),
        ("text = { file = \"words.txt\" }", ["words.txt:2", "nothing"]),
        ("html = { file = \"absent.html\" }", ["absent.html", "can't read"]),
        ("html = { fil = \"absent.html\" }", ["the key \"file\"", "mailqos.toml"]),
        ("text = \"{% include \\\"text\\\" %}\"", ["include is not allowed", "mailqos.toml"]),
        (
            "text = \"{% set x = 'aaaaaaaa' %}{% for i in range(end=60) %}{% set_global x = x ~ x %}{% endfor %}\"",
            ["needs more than 256 MB of memory", "mailqos.toml"],
        ),
        (
            "text = \"{% for a in range(end=99999) %}{% for b in range(end=99999) %}{% endfor %}{% endfor %}\"",
            ["did not finish", "mailqos.toml"],
        ),
    ] {
        let mut setting = Setting::new("lyon");
        std::fs::write(setting.path("words.txt"), "fine\n{{ nothing.there }}\n").unwrap();
        setting.add(&format!(
            "[mail_server.a]\nserver = \"a.example\"\nfrom = \"a@example.net\"\n\
             [[action_list.default.actions]]\nemail = \"a@example.net\"\nmail_server = \"a\"\n{keys}"
        ));
        let output = setting.run("mailqos-probe", &["check"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{keys}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{keys}: {said}");
    }
}

/// A redirect has delivered nothing: followed as a GET, it would lose the content and look like a
/// success (<https://github.com/Cyrax321/SNAGLINE/issues/389>,
/// <https://github.com/MrZoller/vantage-point/issues/49>,
/// <https://github.com/grafana/grafana/issues/33591>). 202 and 204 are successes.
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_a_delivery_but_an_empty_success_is() {
    for (status, fine) in [
        (301, false),
        (302, false),
        (303, false),
        (307, false),
        (308, false),
        (202, true),
        (204, true),
    ] {
        let hooks = Hooks::start(Manner::Status(status)).await.unwrap();
        let mut setting = Setting::new("lyon");
        setting.add(&format!(
            "[action_list.default]\nactions = [{{ webhook = {{ url = \"{}\", body = '{{}}' }} }}]",
            hooks.url("/hook")
        ));
        let output = setting.run("mailqos-probe", &["actions", "test"]);
        let said = words_of(&output);
        assert_eq!(output.status.success(), fine, "{status}: {said}");
        assert_eq!(said.contains("use the final address"), !fine, "{status}: {said}");
        assert_eq!(hooks.taken().len(), 1, "{status}: redirects are not followed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_proxy_serves_the_whole_configuration() {
    // A proxy over HTTP gets complete addresses; here it answers itself.
    let proxy = Hooks::start(Manner::Status(200)).await.unwrap();
    let direct = Hooks::start(Manner::Status(200)).await.unwrap();
    let mut setting = Setting::new("lyon");
    let at = proxy.url("/");
    let at = at.trim_start_matches("http://").trim_end_matches('/');
    setting.replace(
        "site = ",
        "proxy = { env = \"MY_PROXY\" }\nno_proxy = [\"internal.invalid\"]\nsite = ",
    );
    setting.add(&format!(
        r#"[action_list.default]
actions = [
  {{ webhook = {{ url = "http://hooks.invalid/one", body = '{{}}' }} }},
  {{ webhook = {{ url = "{}", body = '{{}}', proxy = "none" }} }},
  {{ webhook = {{ url = "http://a.internal.invalid/three", body = '{{}}' }}, timeout = "5s" }},
]"#,
        direct.url("/two"),
    ));
    let run = |arguments: &[&str]| {
        let output = setting
            .command("mailqos-probe")
            .args(arguments)
            .env("MY_PROXY", format!("http://me:hunter2@{at}"))
            .env("HTTP_PROXY", "http://nowhere.invalid:1")
            .output()
            .unwrap();
        words_of(&output)
    };
    let said = run(&["check"]);
    assert!(said.contains(&format!("webhook at hooks.invalid: through the proxy {at}")), "{said}");
    assert!(said.contains("webhook at a.internal.invalid: without a proxy"), "{said}");
    let said = run(&["actions", "test"]);
    assert_eq!(said.matches('✓').count(), 2, "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    assert!(said.contains("✗ webhook at a.internal.invalid"), "{said}");
    let lines: Vec<String> = proxy.taken().iter().map(|hook| hook.line.clone()).collect();
    assert_eq!(lines, ["POST http://hooks.invalid/one HTTP/1.1"]);
    assert!(proxy.taken()[0].head.contains("Basic bWU6aHVudGVyMg=="), "me:hunter2");
    assert_eq!(direct.taken().len(), 1);
}
