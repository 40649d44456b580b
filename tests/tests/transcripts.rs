//! Transcripts of failed tests can be shown afterwards and are attached to alarms: completely,
//! without secrets and other people's mails.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use mailqos_tests::{
    servers::{Fault, INBOX, MailServer, Mishap, Options, PASSWORD, PROBE, Protocol, When},
    setting::{Setting, find_bytes, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_test_can_be_shown_as_it_was() {
    let server = MailServer::start(Options::default()).await.expect("an embedded server");
    let lossy = MailServer::start(Options::default()).await.expect("an embedded server");
    let refusal = Fault::Reply(format!("550 5.7.1 \u{1b}[31mno {PASSWORD} today"));
    server.inject(Protocol::Smtp, "RCPT", refusal, When::Always);
    lossy.befall(None, Mishap::Lose, When::Always);
    let private = "Subject: salary of Anna\r\n\r\nvery private\r\n";
    lossy.put(PROBE, INBOX, (0..20).map(|_| private.as_bytes().to_vec()));
    let mut setting = Setting::new("transcript");
    let mut refused = setting.monitor("refused", &server);
    refused.more = "alarm_after = 1\naction_list = \"tell\"".to_owned();
    setting.add_monitor(&refused);
    // Few enough visits that all are kept, including the first one, which inspects everyone's
    // mails.
    let mut lost = setting.monitor("lost", &lossy);
    lost.more = "check_interval = \"1500ms\"\nextra_pickups = 0".to_owned();
    setting.add_monitor(&lost);
    let healthy = MailServer::start(Options::default()).await.expect("an embedded server");
    let mut all = setting.monitor("all", &healthy);
    all.more = "transcripts = \"all\"".to_owned();
    all.smtp += ", insecure = true";
    setting.add_monitor(&all);
    setting.add_monitor(&setting.monitor("good", &healthy));
    let people = MailServer::start(Options { smtp_auth_required: false, ..Options::default() })
        .await
        .expect("an embedded server");
    std::fs::write(setting.path("people.pem"), people.authority().pem()).expect("a file");
    setting.add(&format!(
        "[mail_server.people]\nserver = \"localhost\"\nport = {}\ntls = \"implicit\"\nca_file = \"people.pem\"\nfrom = \"a@example.com\"\n\
         [action_list.tell]\nactions = [{{ email = \"{PROBE}\", mail_server = \"people\" }}]",
        people.smtps_port()
    ));
    setting.write();
    let probe = setting.start_probe();
    // A sample is recorded before its mail is sent: only a settled one was awaited.
    until("each monitor's test is settled", || {
        ["refused", "lost", "all", "good"].iter().all(|id| !setting.settled(id).is_empty())
    })
    .await;
    until("an alarm was mailed", || !people.landings().is_empty()).await;
    assert!(probe.stop().success());

    let refused = setting.succeed("mailqos-probe", &["transcript", "refused"]);
    for part in [
        "smtp_failed, smtp_rcpt: 550 5.7.1",
        "* connecting to ",
        "< 220 ",
        "> EHLO ",
        &format!("> MAIL FROM:<{PROBE}>"),
        &format!("> RCPT TO:<{PROBE}>"),
        "< 550 5.7.1 \\u{1b}[31mno (secret) today",
    ] {
        assert!(refused.contains(part), "{part:?} is in:\n{refused}");
    }
    // The newest may belong to a test that was stopped early: request the first settled one by its
    // time.
    let first = setting.settled("lost").remove(0);
    let begun = jiff::Timestamp::from_microsecond(first.number("started_at").expect("a time"))
        .expect("a time");
    let lost = setting.succeed("mailqos-probe", &["transcript", "lost", &begun.to_string()]);
    for part in ["SMTP, started", "POP3, started", "< 250 ", "> UIDL", "bytes not stored"] {
        assert!(lost.contains(part), "{part:?} is in:\n{lost}");
    }
    assert!(!lost.contains("salary") && !lost.contains("very private"), "{lost}");
    assert!(setting.succeed("mailqos-probe", &["transcript", "all"]).contains("all at "));
    let good = setting.run("mailqos-probe", &["transcript", "good"]);
    assert_eq!(good.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&good.stderr).contains("no transcript of good is stored"));

    let list = setting.succeed("mailqos-probe", &["transcript", "refused", "--list"]);
    let first =
        list.lines().next().and_then(|line| line.split_whitespace().next()).expect("a time");
    let json =
        setting.succeed("mailqos-probe", &["transcript", "refused", first, "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["outcome"], "smtp_failed");
    assert_eq!(json["conversations"][0]["protocol"], "SMTP");
    let far = setting.run("mailqos-probe", &["transcript", "refused", "2020-01-01T00:00:00Z"]);
    assert_eq!(far.status.code(), Some(1));
    let nonsense = setting.run("mailqos-probe", &["transcript", "refused", "yesterday"]);
    assert_eq!(nonsense.status.code(), Some(2));

    // The report contains the transcript, and the warning that the connection was not verified.
    let yesterday = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24);
    let (from, to) = (
        yesterday.to_string()[..10].to_owned(),
        (yesterday + jiff::SignedDuration::from_hours(72)).to_string()[..10].to_owned(),
    );
    let period = ["--from", &from, "--to", &to, "--output", "out"];
    let printed = setting.succeed(
        "mailqos-analytics",
        &[&["report", "--template", "incident-review"], &period[..]].concat(),
    );
    let page = printed.lines().find(|line| line.ends_with(".html")).expect("a page");
    let page = std::fs::read_to_string(setting.path(page)).expect("a page");
    for part in [
        "Transcripts",
        "<code>550 5.7.1 \\u{1b}[31mno (secret) today</code>",
        "Certificates not verified.",
        "accepts any certificate at all,",
    ] {
        assert!(page.contains(part), "{part:?} is in:\n{page}");
    }
    if let Some(keep) = std::env::var_os("MAILQOS_KEEP_REPORT") {
        for file in printed.lines().map(|line| setting.path(line)) {
            let to = std::path::Path::new(&keep).join(file.file_name().expect("a name"));
            std::fs::copy(&file, to).expect("a copy");
        }
    }

    let mail = people.landings().remove(0);
    let text = String::from_utf8_lossy(&mail.content).into_owned();
    assert!(text.contains("filename=\"refused-2"), "{text}");
    assert_eq!(find_bytes(&setting.data(), PASSWORD.as_bytes()), None);
}
