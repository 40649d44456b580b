//! Monitors of several kinds, from the configuration to the report: each kind has its own figures.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use mailqos_model::{Micros, UtcMicros};
use mailqos_tests::{
    lake,
    servers::{Fault, INBOX, MailServer, Options, PROBE, Protocol, When},
    setting::{Setting, until},
};
use serde_json::Value;

/// A monitor of kind `mailbox` named `box`.
fn add_mailbox(setting: &mut Setting, id: &str, server: &MailServer, more: &str) {
    let ca_file = setting.path("box.pem");
    std::fs::write(&ca_file, server.authority().pem()).expect("the authority's file");
    setting.add(&format!(
        "[object.{id}]\naddress = \"127.0.0.1\"\n[monitor.{id}]\nkind = \"mailbox\"\nobject = \"{id}\"\n\
         pickup = {{ protocol = \"imap\", port = {}, tls = \"implicit\", account = \"probe\", ca_file = \"box.pem\" }}\n{more}",
        server.imaps_port()
    ));
}

/// Returns the output of a command of analytics for yesterday, today and tomorrow.
fn analytics(setting: &Setting, arguments: &[&str]) -> String {
    let day = |days: i64| {
        (UtcMicros::now() + Micros::from_secs(days * 86_400)).to_string()[..10].to_owned()
    };
    let (from, to) = (day(-1), day(2));
    let period = ["--from", &from, "--to", &to];
    setting.succeed("mailqos-analytics", &[arguments, &period].concat())
}

fn stats(setting: &Setting, more: &[&str]) -> Vec<Value> {
    let text = analytics(setting, &[&["stats", "--format", "json"], more].concat());
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_are_tested_side_by_side_and_never_mixed() {
    let mut setting = Setting::new("kinds");
    setting.add(
        "[service_level.all]\navailability = \"99%\"\ndelivered_within = { \"10s\" = \"95%\" }\nperiod = \"month\"",
    );
    let server = MailServer::start(Options::default()).await.expect("a server");
    server.fill(PROBE, 3);
    let mail = setting.monitor("mail", &server);
    setting.add_monitor(&mail);
    add_mailbox(
        &mut setting,
        "box",
        &server,
        "alarm_after = 1\nalarm = { pickup_login = \"1ms\" }",
    );
    add_mailbox(
        &mut setting,
        "down",
        &server,
        "folders = [\"INBOX\", \"Nowhere\"]\nalarm_after = 1",
    );
    server.inject(
        Protocol::Imap,
        "LOGIN",
        Fault::Delay(std::time::Duration::from_millis(20)),
        When::Always,
    );

    let shown = setting.succeed("mailqos-probe", &["show", "box"]);
    assert!(
        shown.contains("kind") && shown.contains("mailbox") && !shown.contains("max_round_trip"),
        "{shown}"
    );
    let test = setting.succeed("mailqos-probe", &["test", "box", "--no-record"]);
    assert!(
        test.contains("login") && test.contains("✓ ok") && !test.contains("round trip"),
        "{test}"
    );
    let tried = setting.run("mailqos-probe", &["check", "--connect"]);
    assert!(
        String::from_utf8_lossy(&tried.stdout)
            .contains("monitor down: the folder \"Nowhere\" can't be opened")
    );

    let mut probe = setting.start_probe();
    until("two samples of each monitor", || {
        assert!(probe.is_running(), "{}", probe.log());
        ["mail", "box", "down"].iter().all(|id| setting.settled(id).len() >= 2)
    })
    .await;
    let status = setting.succeed("mailqos-probe", &["status", "--format", "json"]);
    let log = probe.log();
    assert!(probe.stop().success(), "{log}");
    lake::check(&setting.data());

    // The lake: the kind, the times of the pick-up, and nothing about mails.
    let row = setting.settled("box").remove(0);
    assert_eq!((row.outcome(), row.text("kind")), ("ok", Some("mailbox")));
    assert!(row.number("pickup_login_us").is_some() && row.number("round_trip_us").is_none());
    let row = setting.settled("down").remove(0);
    assert_eq!((row.outcome(), row.text("stage")), ("pickup_failed", Some("pickup_list")));
    let row = setting.settled("mail").remove(0);
    assert_eq!((row.outcome(), row.text("kind")), ("ok", None));
    assert_eq!(server.mails(PROBE, INBOX).iter().filter(|mail| mail.foreign).count(), 3);

    // Alarms: a slow login and a missing folder, each with its text.
    let status: Value = serde_json::from_str(&status).expect("JSON");
    let state = |id: &str| {
        let monitors = status["monitors"].as_array().expect("monitors");
        let found = monitors.iter().find(|monitor| monitor["id"] == id).expect("a monitor");
        found["state"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(
        (state("box"), state("down"), state("mail")),
        ("alarm".into(), "alarm".into(), "ok".into())
    );

    // Figures: availability of each, no round trip of a mailbox, and no number across both kinds.
    let rows = stats(&setting, &["--full"]);
    let of = |rows: &[Value], id: &str| {
        rows.iter().find(|row| row["monitor"] == id).expect("a row").clone()
    };
    let boxed = of(&rows, "box");
    assert_eq!((&boxed["kind"], &boxed["availability"]), (&"mailbox".into(), &1.0.into()));
    assert_eq!(boxed["metrics"]["round_trip"]["count"], 0);
    assert!(
        boxed["delivery_rate"].is_null() && boxed["delivered_within"]["10s"].is_null(),
        "{boxed}"
    );
    assert!(boxed["delivered"]["p99"].is_null(), "{boxed}");
    assert!(boxed["metrics"]["pickup_login"]["p50"].is_number());
    assert_eq!(of(&rows, "down")["availability"], 0.0);
    assert!(of(&rows, "mail").get("kind").is_none());
    let all = stats(&setting, &["--group", "all"]);
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(
        all.iter()
            .any(|row| row["kind"] == "mailbox" && row["metrics"]["round_trip"]["count"] == 0)
    );
    let table = analytics(&setting, &["stats"]);
    assert!(table.contains("kind") && table.contains("mail-qos"), "{table}");
    let top = analytics(&setting, &["top", "--figure", "availability"]);
    assert!(top.contains("mailbox") && top.contains("mail-qos"), "{top}");
    let levels = setting.succeed("mailqos-analytics", &["sla"]);
    assert!(levels.contains("box (kinds), mailbox"), "{levels}");

    // Reports: one kind after the other, and nothing about mails in the part about mailboxes.
    let definition = "title = \"Kinds\"\nformats = [\"html\"]\n[[section]]\nkind = \"key-figures\"\n\
                      [[section]]\nkind = \"availability-table\"\n[[section]]\nkind = \"percentile-table\"\n";
    std::fs::write(setting.path("kinds.toml"), definition).expect("a definition");
    let path = analytics(&setting, &["report", "kinds.toml", "--output", "out"]);
    let page = std::fs::read_to_string(setting.path(path.trim())).expect("the report");
    let (mails, boxes) = page.split_once("Tests of kind mailbox").expect("a part about mailboxes");
    assert!(
        mails.contains("Mail was delivered within")
            && mails.contains("The mailbox could be opened in"),
        "{page}"
    );
    assert!(
        !boxes.contains("Percentile") && boxes.contains("opened and listed the mailbox"),
        "{page}"
    );
}
