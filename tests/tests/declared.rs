//! Maintenance declared afterwards: figures, service levels and reports show both values.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use mailqos_tests::{
    servers::{MailServer, Options, Protocol},
    setting::{Setting, until},
};
use serde_json::Value;

/// Runs a command of analytics and returns its first JSON object.
fn json(setting: &Setting, arguments: &[&str]) -> Value {
    let output = setting.run("mailqos-analytics", &[arguments, &["--format", "json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|_| {
        serde_json::from_str(text.lines().next().unwrap_or_default()).expect(&text)
    });
    match value {
        Value::Array(mut all) => all.remove(0),
        one => one,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_window_is_declared_and_both_values_are_shown() {
    let server = MailServer::start(Options::default()).await.unwrap();
    let mut setting = Setting::new("declared");
    let monitor = setting.monitor("mail", &server);
    setting.add_monitor(&monitor);
    setting.add("[service_level.promise]\navailability = \"99.9%\"\nmin_coverage = \"0.0001%\"");
    server.refuse(Protocol::Smtp);
    let begin = jiff::Timestamp::now();
    let probe = setting.start_probe();
    let state = || -> Value {
        let output = setting.run("mailqos-probe", &["status", "--format", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    until("two failed tests", || state()["monitors"][0]["failures"].as_u64() >= Some(2)).await;
    server.admit(Protocol::Smtp);
    until("a good test", || state()["monitors"][0]["last"]["outcome"] == "ok").await;
    // Up to the last failed test, and no further.
    let good = state()["monitors"][0]["last"]["started_at"].as_str().unwrap().to_owned();
    let (from, to) = (begin.to_string(), good);
    let declare = |more: &[&str]| {
        let period = ["maintenance", "add", "mail", "--from", &from, "--to", &to, "--by", "anna"];
        setting.run("mailqos-probe", &[&period[..], more].concat())
    };
    let output = declare(&[]);
    assert_eq!(output.status.code(), Some(2), "a reason is required");
    let output = declare(&["--reason", "new disks", "--name", "disks"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("declared disks of 1 monitor"), "{said}");
    assert!(!declare(&["--reason", "again", "--name", "disks"]).status.success());
    let listed = setting.succeed("mailqos-probe", &["maintenance", "list"]);
    assert!(listed.contains("declared") && listed.contains("new disks"), "{listed}");
    assert!(probe.stop().success());

    let period = ["--period", "current-month"];
    let stats = || json(&setting, &[&["stats", "--full"][..], &period].concat());
    let row = stats();
    let share = |row: &Value, key: &str| row[key].as_f64().unwrap();
    assert!(share(&row, "availability") < 1.0, "{row}");
    assert_eq!(share(&row, "availability_excluding_declared"), 1.0, "{row}");
    assert_eq!(share(&row, "availability_by_time_excluding_declared"), 1.0, "{row}");
    assert_eq!(share(&row, "downtime_excluding_declared_s"), 0.0, "{row}");
    assert!(share(&row, "downtime_s") > 0.0 && share(&row, "declared") >= 2.0, "{row}");
    assert_eq!((share(&row, "excluded"), share(&row, "maintenance_s")), (0.0, 0.0), "{row}");
    // The service level rests on what was measured.
    let level = json(&setting, &[&["sla"][..], &period].concat());
    assert!(share(&level, "measured_share") < 1.0, "{level}");
    assert_eq!(share(&level, "measured_share_excluding_declared"), 1.0, "{level}");
    assert!(
        level["verdict"].is_string() && level["verdict_excluding_declared"].is_string(),
        "{level}"
    );
    for figure in ["availability", "availability_excluding_declared", "declared", "declared_s"] {
        let arguments = [&["stats"][..], &period, &["--explain", "mail", figure]].concat();
        let text = setting.succeed("mailqos-analytics", &arguments);
        assert!(
            text.contains("declared by anna") && text.contains("new disks"),
            "{figure}: {text}"
        );
    }
    for (language, words) in [
        ("en", "Excluding maintenance that was declared afterwards"),
        ("de", "Ohne nachträglich erklärte Wartung"),
        ("sv", "Utan underhåll som anmälts i efterhand"),
    ] {
        let folder = setting.path(language).display().to_string();
        let template = ["report", "--template", "monthly-operations", "--format", "html"];
        let arguments = [&template[..], &period, &["--language", language, "--output", &folder]];
        let written = setting.succeed("mailqos-analytics", &arguments.concat());
        let page = written.lines().find(|line| line.ends_with(".html")).expect("a page");
        let page = std::fs::read_to_string(page).unwrap();
        assert!(page.contains(words) && page.contains("new disks"), "{language}");
    }

    // It was wrong: withdrawn, both values are the same again.
    let probe = setting.start_probe();
    until("the probe", || !state()["monitors"].is_null()).await;
    setting.succeed("mailqos-probe", &["maintenance", "withdraw", "disks", "--by", "bert"]);
    assert!(probe.stop().success());
    let row = stats();
    assert_eq!(row["availability"], row["availability_excluding_declared"], "{row}");
    assert_eq!(share(&row, "declared"), 0.0, "{row}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_period_that_began_earlier_and_lasts_is_declared_and_continued() {
    let server = MailServer::start(Options::default()).await.unwrap();
    let mut setting = Setting::new("lasting");
    let monitor = setting.monitor("mail", &server);
    setting.add_monitor(&monitor);
    setting.add("timezone = \"Europe/Stockholm\"");
    let probe = setting.start_probe();
    let status = || setting.run("mailqos-probe", &["status"]).status.success();
    until("the probe", status).await;
    let now = jiff::Timestamp::now();
    let (from, to) =
        (now - jiff::SignedDuration::from_mins(20), now + jiff::SignedDuration::from_hours(2));
    let (from, to) = (from.to_string(), to.to_string());
    let add = |more: &[&str]| {
        let period = ["maintenance", "add", "mail", "--from", &from, "--by", "anna"];
        let output = setting.run("mailqos-probe", &[&period[..], more].concat());
        (output.status.code(), mailqos_tests::setting::words_of(&output))
    };
    let (code, said) = add(&["--to", &to]);
    assert!(code == Some(2) && said.contains("--reason"), "{said}");
    let (code, said) = add(&["--to", &to, "--reason", "new disks", "--name", "disks"]);
    assert!(code == Some(0) && said.contains("declared disks of 1 monitor"), "{said}");
    assert!(said.contains("maintenance disks of 1 monitor"), "{said}");
    let listed = setting.succeed("mailqos-probe", &["maintenance", "list"]);
    assert!(listed.contains("declared") && listed.contains("open"), "{listed}");
    // The other half fails: neither remains.
    setting.succeed("mailqos-probe", &["maintenance", "withdraw", "disks"]);
    let (code, said) = add(&["--to", &to, "--reason", "again", "--name", "disks"]);
    assert!(code == Some(1) && said.contains("already exists"), "{said}");
    let listed = setting.succeed("mailqos-probe", &["maintenance", "list"]);
    assert!(!listed.contains("declared"), "{listed}");

    // Times that come twice, or not at all, are refused with both meanings.
    for (time, expected) in [
        ("2026-10-25T02:30", "2026-10-25T02:30+02:00 for the first"),
        ("2026-10-25T02:30", "2026-10-25T02:30+01:00 for the second"),
        ("2026-03-29T02:30", "does not exist"),
    ] {
        let (code, said) = add(&["--to", time, "--reason", "x"]);
        assert!(code == Some(2) && said.contains(expected), "{time}: {said}");
    }
    assert!(probe.stop().success());
}
