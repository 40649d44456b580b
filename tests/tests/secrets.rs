//! Recognisable secrets are given to the programs in every possible way; no file, log or mail that
//! they write contains one.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailqos_tests::{
    secrets::{search, secret_file, shapes},
    servers::{Fault, MailServer, Options, PROBE, Protocol, When},
    setting::{Setting, find_bytes, until},
};

/// Of the mailbox, in a file; the server echoes it in its refusal.
const MAILBOX: &str = "Mailbox-Geheimnis-7Qz\"4";
/// Of the mailbox for alarms and reports, from a command.
const ALERTS: &str = "Alerts-Hemlighet-9Wx'5";
/// Of a failing delivery, from an environment variable.
const DELIVERY: &str = "Delivery-Secret-3Kv\\6";
/// The signing key for mails, in a file.
const SIGNING: &str = "Signing-Salaisuus-8Jy-and-some-more-of-it";

async fn server(user: &str, password: &str) -> MailServer {
    let users = vec![
        (user.to_owned(), password.to_owned()),
        ("anna@example.net".to_owned(), "anna".to_owned()),
    ];
    MailServer::start(Options { users, ..Options::default() }).await.expect("an embedded server")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_found_in_anything_that_was_written() {
    let mut setting = Setting::new("secret");
    let secrets = tempfile::tempdir().expect("a folder");
    let file = |name: &str, secret: &str| {
        let path = secrets.path().join(name);
        secret_file(&path, secret);
        path.display().to_string()
    };
    let (mailbox, alerts_file, signing) =
        (file("mailbox", MAILBOX), file("alerts", ALERTS), file("signing", SIGNING));
    let good = server(PROBE, MAILBOX).await;
    let (weak_smtp, weak_pop3) = (server(PROBE, MAILBOX).await, server(PROBE, MAILBOX).await);
    // Servers that echo what they refuse.
    let plain = STANDARD.encode(format!("\0{PROBE}\0{MAILBOX}"));
    weak_smtp.inject(
        Protocol::Smtp,
        "AUTH",
        Fault::Reply(format!("535 5.7.8 {MAILBOX} is wrong, and so is {plain}")),
        When::Always,
    );
    weak_pop3.inject(
        Protocol::Pop3,
        "LOGIN",
        Fault::Reply(format!("-ERR [AUTH] {MAILBOX} is wrong, and so is {plain}")),
        When::Always,
    );
    let alerts = server("alerts@example.net", ALERTS).await;
    std::fs::write(setting.path("alerts.ca.pem"), alerts.authority().pem()).expect("a file");

    setting.replace(
        "test_interval = \"5s\"",
        "test_interval = \"1s\"\nalarm_after = 1\naction_list = \"default\"",
    );
    setting.replace(
        "seal_interval",
        &format!("signing_key = {{ file = \"{signing}\" }}\nseal_interval"),
    );
    setting.replace("{ env = \"PROBE_PASSWORD\" }", &format!("{{ file = \"{mailbox}\" }}"));
    setting.add(&format!(
        "[account.alerts]\nuser = \"alerts@example.net\"\npassword = {{ command = [\"cat\", \"{alerts_file}\"] }}"
    ));
    setting.add("[account.files]\nuser = \"files\"\npassword = { env = \"DELIVERY_PASSWORD\" }");
    setting.add("[operator.anna]\nemail = [\"anna@example.net\"]");
    setting.add(&format!(
        "[mail_server.alerts]\nserver = \"127.0.0.1\"\nport = {}\ntls = \"starttls\"\naccount = \"alerts\"\nfrom = \"alerts@example.net\"\nca_file = \"alerts.ca.pem\"",
        alerts.smtp_port()
    ));
    setting
        .add("[action_list.default]\nactions = [{ email = [\"anna\"], mail_server = \"alerts\" }]");
    setting.add(
        "[target.people]\nkind = \"email\"\nmail_server = \"alerts\"\nto = [\"anna@example.net\"]",
    );
    // There is no FTP server: the error must not contain the credentials.
    setting.add(&format!(
        "[target.files]\nkind = \"ftp\"\nserver = \"127.0.0.1\"\nport = {}\ntls = \"none\"\naccount = \"files\"\npath = \"reports\"",
        alerts.pop3_port()
    ));
    for (id, server) in [("good", &good), ("weak-smtp", &weak_smtp), ("weak-pop3", &weak_pop3)] {
        setting.add_monitor(&setting.monitor(id, server));
    }

    // Collect all possible output, in addition to the files that the programs write.
    let mut said = Vec::new();
    let mut run = |code: i32, name: &str, arguments: &[&str]| {
        let mut command = setting.command(name);
        let command =
            command.env("RUST_LOG", "trace").env("DELIVERY_PASSWORD", DELIVERY).args(arguments);
        let output = command.output().expect("the binary starts");
        said.extend_from_slice(&output.stdout);
        said.extend_from_slice(&output.stderr);
        let text = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(code), "{name} {arguments:?}:\n{text}");
    };
    run(0, "mailqos-probe", &["check"]);
    run(0, "mailqos-probe", &["test", "good"]);
    run(1, "mailqos-probe", &["test", "weak-smtp"]);
    run(1, "mailqos-probe", &["test", "weak-pop3"]);
    let mut command = setting.command("mailqos-probe");
    command.env("RUST_LOG", "trace");
    let probe = setting.start(command.arg("run"));
    until("samples of each", || {
        ["good", "weak-smtp", "weak-pop3"].iter().all(|id| setting.settled(id).len() >= 2)
    })
    .await;
    until("two alarms by mail", || alerts.landings().len() >= 2).await;
    let log = probe.log();
    assert!(probe.stop().success(), "{log}");

    let today = jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
    let day = |days| today.checked_add(jiff::Span::new().days(days)).expect("a day").to_string();
    let report = ["report", "--template", "monthly-operations", "--output", "out"];
    let period = ["--from", &day(-1), "--to", &day(2)];
    run(0, "mailqos-analytics", &[&report[..], &period].concat());
    std::fs::write(setting.path("report.txt"), "a report").expect("a file");
    let mails = alerts.landings().len();
    run(0, "mailqos-analytics", &["deliver", "report.txt", "--to", "people"]);
    until("the report by mail", || alerts.landings().len() > mails).await;
    run(1, "mailqos-analytics", &["deliver", "report.txt", "--to", "files"]);
    std::fs::write(setting.path("said.txt"), &said).expect("a file");

    let landings: Vec<_> = [&good, &weak_smtp, &weak_pop3, &alerts]
        .iter()
        .flat_map(|server| server.landings())
        .collect();
    assert!(landings.len() >= 4, "{} mails", landings.len());
    for (number, landing) in landings.iter().enumerate() {
        std::fs::write(setting.path(&format!("{number}.eml")), &landing.content).expect("a file");
    }
    // The day files are compressed.
    std::fs::write(setting.path("rows.txt"), format!("{:?}", setting.rows())).expect("a file");
    let folder = setting.path("");
    assert!(
        find_bytes(&folder, b"is wrong, and so is").is_some(),
        "the server's refusal is shown, without the secret"
    );
    let mut found = Vec::new();
    let texts: Vec<String> = [MAILBOX, ALERTS, DELIVERY, SIGNING]
        .iter()
        .flat_map(|secret| shapes(secret, &[PROBE, "alerts@example.net", "files"]))
        .collect();
    for (text, path) in search(&folder, &texts).found {
        found.push(format!("{text:?} in {}", path.display()));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
