//! From mail to report: the real binaries with embedded servers, from the configuration to the
//! delivered files.

#![cfg(unix)]
#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use mailqos_model::{Micros, MonitorId, UtcMicros};
use mailqos_tests::{
    lake::{self, Row},
    servers::{
        Delays, Fault, INBOX, MailServer, Mishap, Options, PASSWORD, PROBE, Protocol, ServerClock,
        When,
    },
    setting::{Setting, until},
    simulation::{self, Habits},
    token,
};
use serde_json::Value;

fn options(seed: u64) -> Options {
    let delays = Delays::Uniform(Duration::from_millis(30), Duration::from_millis(900));
    Options { seed, delays, ..Options::default() }
}

/// Returns whether a monitor has this many settled samples.
fn has(setting: &Setting, monitor: &str, count: usize) -> bool {
    setting.settled(monitor).len() >= count
}

/// Returns the expected output of `stats` for some samples, computed independently.
fn figures(rows: &[&Row]) -> Value {
    let counted: Vec<&&Row> = rows.iter().filter(|row| row.outcome() != "not_tested").collect();
    let count = |outcome: &str| rows.iter().filter(|row| row.outcome() == outcome).count();
    let metric = |column: &str| {
        let mut values: Vec<f64> = counted
            .iter()
            .filter_map(|row| row.number(column))
            .map(|micros| micros as f64 / 1e3)
            .collect();
        values.sort_by(f64::total_cmp);
        let quantile = |q: f64| {
            let rank = (values.len().checked_sub(1)? as f64) * q;
            let (low, high) = (values[rank.floor() as usize], values[rank.ceil() as usize]);
            Some(low + (high - low) * rank.fract())
        };
        let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        serde_json::json!({
            "count": values.len(), "min": values.first(), "mean": mean, "max": values.last(),
            "p50": quantile(0.5), "p90": quantile(0.9), "p95": quantile(0.95), "p99": quantile(0.99),
        })
    };
    let availability = (!counted.is_empty()).then(|| count("ok") as f64 / counted.len() as f64);
    serde_json::json!({
        "site": rows[0].site, "monitor": rows[0].monitor(), "bucket": null, "tests": counted.len(),
        "ok": count("ok"), "late": count("late"), "lost": count("lost"), "smtp_failed": count("smtp_failed"),
        "pickup_failed": count("pickup_failed"), "not_tested": count("not_tested"), "availability": availability,
        "metrics": {
            "round_trip": metric("round_trip_us"), "smtp_connect": metric("smtp_connect_us"), "smtp_send": metric("smtp_send_us"),
            "pickup_connect": metric("pickup_connect_us"), "pickup_login": metric("pickup_login_us"),
            "pickup_receive": metric("pickup_receive_us"),
        },
    })
}

/// Compares results: the basic keys come first and in order, texts and integers are equal,
/// fractions agree to the ninth digit.
fn assert_alike(path: &str, expected: &Value, found: &Value) {
    match (expected, found) {
        (Value::Object(a), Value::Object(b)) => {
            let first: Vec<_> = b.keys().take(a.len()).collect();
            assert_eq!(a.keys().collect::<Vec<_>>(), first, "{path}");
            for (key, value) in a {
                assert_alike(&format!("{path}.{key}"), value, &b[key]);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{path}");
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                assert_alike(&format!("{path}[{index}]"), a, b);
            }
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "{path}: {a} expected, {b} found");
        }
        _ => assert_eq!(expected, found, "{path}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_become_samples_figures_a_report_and_files_in_a_folder() {
    let mut setting = Setting::new("stockholm");
    let (good, weak) = (
        MailServer::start(options(1)).await.unwrap(),
        MailServer::start(options(2)).await.unwrap(),
    );
    good.fill(PROBE, 5);
    weak.inject(Protocol::Smtp, "RCPT", Fault::Reply("550 5.1.1 no".into()), When::Times(1));
    setting.replace("test_interval = \"5s\"", "test_interval = \"1s\"");
    for (id, server) in [("good", &good), ("weak", &weak)] {
        setting.add_monitor(&setting.monitor(id, server));
    }
    setting.add("[target.share]\nkind = \"folder\"\npath = \"delivered\"");
    let probe = setting.start_probe();
    until("six samples of each", || has(&setting, "good", 6) && has(&setting, "weak", 6)).await;
    let log = probe.log();
    assert!(probe.stop().success(), "{log}");

    // The lake matches its specification; the mailboxes are unchanged.
    lake::check(&setting.data());
    let rows = setting.rows();
    assert!(rows.iter().any(|row| row.text("stage") == Some("smtp_rcpt")), "{rows:?}");
    assert_eq!(good.foreign(PROBE), 5);

    // Each stated interval contains the true round trip.
    let sent: Vec<UtcMicros> = good
        .landings()
        .iter()
        .filter_map(|landing| token::find(&landing.content))
        .map(|token| token.sent_at)
        .collect();
    assert!(sent.len() >= 6);
    for row in rows.iter().filter(|row| row.monitor() == "good" && row.outcome() == "ok") {
        let started = UtcMicros(row.number("started_at").unwrap());
        // A monitor has one mail in transit at a time: the next mail that was sent belongs to the
        // test.
        let mails = good.landings().into_iter().filter_map(|landing| {
            let sent_at = token::find(&landing.content)?.sent_at;
            (sent_at > started).then_some((sent_at, landing.at))
        });
        let (sent_at, landed_at) = mails.min().expect("each sample has its mail");
        let truth = (landed_at - sent_at).0;
        let (found, error) =
            (row.number("round_trip_us").unwrap(), row.number("round_trip_error_us").unwrap());
        assert!((found - truth).abs() <= error + 2_000, "true {truth}, stated {found} ± {error}");
    }

    // The output of stats matches an independent computation.
    let mut expected = Vec::new();
    for monitor in ["good", "weak"] {
        expected
            .push(figures(&rows.iter().filter(|row| row.monitor() == monitor).collect::<Vec<_>>()));
    }
    let period = ["--from", "2020-01-01", "--to", "2100-01-01"];
    let printed = setting
        .succeed("mailqos-analytics", &[&["stats", "--format", "json"], &period[..]].concat());
    assert_alike("stats", &Value::Array(expected), &serde_json::from_str(&printed).expect("JSON"));

    // The report: two complete files in the given folder.
    let today = jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
    let (from, to) = (today.to_string(), today.tomorrow().unwrap().tomorrow().unwrap().to_string());
    let printed = setting.succeed(
        "mailqos-analytics",
        &[
            "report",
            "--template",
            "monthly-operations",
            "--from",
            &from,
            "--to",
            &to,
            "--output",
            "out",
        ],
    );
    let (mut html, mut pdf) = (false, false);
    for file in printed.lines().map(|line| setting.path(line.trim())) {
        let bytes =
            std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("html") => {
                let text = String::from_utf8(bytes).expect("HTML is UTF-8");
                assert!(
                    text.contains("<svg")
                        && text.contains("good")
                        && text.trim_end().ends_with("</html>")
                );
                // Embedded fonts are Base64, which may contain any three letters.
                let words = text
                    .split("base64,")
                    .map(|part| part.split_once(')').map_or(part, |(_, rest)| rest));
                let words = words.collect::<String>().replace("isNaN(", "");
                assert!(
                    !text.contains("src=\"http") && !words.contains("NaN"),
                    "{}",
                    file.display()
                );
                html = true;
            }
            Some("pdf") => {
                assert!(bytes.starts_with(b"%PDF-") && bytes.len() > 10_000);
                pdf = true;
            }
            _ => {}
        }
    }
    assert!(html && pdf, "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn alarm_and_recovery_are_mailed_by_another_server() {
    let mut setting = Setting::new("lyon");
    let tested = MailServer::start(options(3)).await.unwrap();
    let users = vec![
        ("alerts@example.net".to_owned(), PASSWORD.to_owned()),
        ("anna@example.net".to_owned(), "x".to_owned()),
    ];
    let alerts = MailServer::start(Options { users, ..Options::default() }).await.unwrap();
    setting.add_mail_server("alerts", "alerts@example.net", &alerts);
    setting.replace(
        "test_interval = \"5s\"",
        "test_interval = \"1s\"\nalarm_after = 2\naction_list = \"default\"",
    );
    setting.add("[operator.anna]\nemail = [\"anna@example.net\"]");
    setting
        .add("[action_list.default]\nactions = [{ email = [\"anna\"], mail_server = \"alerts\" }]");
    setting.add_monitor(&setting.monitor("mail1", &tested));

    tested.refuse(Protocol::Smtp);
    let probe = setting.start_probe();
    until("the alarm's mail", || !alerts.landings().is_empty()).await;
    let alarm = alerts.landings()[0].clone();
    until("the failures in the lake", || {
        let rows = setting.rows();
        rows.iter().filter(|row| row.outcome() == "smtp_failed").count() >= 2
    })
    .await;
    let subject = alarm.field("Subject").unwrap();
    assert!(subject.contains("mail1"), "{subject}");
    let text = String::from_utf8_lossy(&alarm.content).into_owned();
    assert!(text.contains("refused") && !text.contains(PASSWORD), "{text}");
    assert_eq!(alarm.to, "anna@example.net");

    tested.admit(Protocol::Smtp);
    until("the recovery's mail", || alerts.landings().len() >= 2).await;
    let log = probe.log();
    assert!(probe.stop().success(), "{log}");
    let mails = alerts.landings();
    assert_eq!(mails.len(), 2, "one alarm and one recovery");
    assert_ne!(mails[1].field("Subject"), Some(subject));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_in_flight_is_settled_after_a_crash() {
    let mut setting = Setting::new("crash");
    let server = MailServer::start(Options {
        delays: Delays::Fixed(Duration::from_millis(2_500)),
        ..Options::default()
    })
    .await
    .unwrap();
    server.fill(PROBE, 2);
    setting.replace("horizon = \"6s\"", "horizon = \"60s\"");
    setting.replace("max_round_trip = \"3s\"", "max_round_trip = \"20s\"");
    setting.replace("test_interval = \"5s\"", "test_interval = \"30s\"");
    setting.add_monitor(&setting.monitor("mail1", &server));
    let probe = setting.start_probe();
    until("the mail is accepted", || !server.accepted().is_empty()).await;
    probe.kill();
    until("the mail arrives while no one looks", || !server.landings().is_empty()).await;
    let probe = setting.start_probe();
    until("its sample", || has(&setting, "mail1", 1)).await;
    let log = probe.log();
    assert!(probe.stop().success(), "{log}");
    lake::check(&setting.data());
    let sent = token::find(&server.landings()[0].content).expect("a token").sent_at;
    let row = setting.settled("mail1").remove(0);
    let started = UtcMicros(row.number("started_at").unwrap());
    assert!(started < sent, "the sample is that of the first mail: {row:?}");
    assert_eq!(row.outcome(), "ok", "{row:?}");
    assert_eq!(
        server.mails(PROBE, INBOX).len(),
        2,
        "the mail was removed, the foreign ones were not"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_in_order_records_what_is_in_flight() {
    let mut setting = Setting::new("ending");
    let server = MailServer::start(options(5)).await.unwrap();
    server.befall(None, Mishap::Lose, When::Always);
    setting.replace("horizon = \"6s\"", "horizon = \"60s\"");
    setting.replace("max_round_trip = \"3s\"", "max_round_trip = \"30s\"");
    setting.add_monitor(&setting.monitor("mail1", &server));
    let probe = setting.start_probe();
    until("a mail is accepted", || !server.accepted().is_empty()).await;
    let log = probe.log();
    assert!(probe.stop().success(), "{log}");
    lake::check(&setting.data());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_test_shows_its_timeline() {
    let mut setting = Setting::new("once");
    let server = MailServer::start(Options {
        clock: ServerClock::off_by(Micros::from_secs(37), 20.0),
        ..options(6)
    })
    .await
    .unwrap();
    setting.add_monitor(&setting.monitor("mail1", &server));
    let shown = setting.succeed("mailqos-probe", &["test", "mail1"]);
    for part in ["round trip", "–", "ms"] {
        assert!(shown.to_lowercase().contains(part), "{part:?} is not shown:\n{shown}");
    }
    server.refuse(Protocol::Smtp);
    let output = setting.run("mailqos-probe", &["test", "mail1"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(server.mails(PROBE, INBOX).len(), 0, "the test's mail was removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_and_replayed_mails_yield_no_samples_and_are_not_touched() {
    let mut setting = Setting::new("forged");
    let server = MailServer::start(options(7)).await.unwrap();
    setting.replace("test_interval = \"5s\"", "test_interval = \"1s\"");
    setting.add_monitor(&setting.monitor("mail1", &server));
    let probe = setting.start_probe();
    until("a mail of ours", || !server.landings().is_empty()).await;
    let genuine = String::from_utf8(server.landings()[0].content.to_vec()).unwrap();
    let forge = |from: &str, to: &str| genuine.replace(from, to).into_bytes();
    let forged = vec![
        forge(":mail1:", ":mail2:"),
        forge("mq1:forged", "mq1:elsewhere"),
        genuine.replace("mq1:", "mq1:x").into_bytes(),
    ];
    let count = forged.len();
    server.put(PROBE, INBOX, forged);
    let seen = setting.rows().len();
    until("more samples", || setting.rows().len() > seen + 2).await;
    assert_eq!(server.foreign(PROBE), count, "a forged mail was touched");
    // A copy of a settled mail is counted with it and deleted.
    server.put(PROBE, INBOX, [genuine.into_bytes()]);
    until("the copy to be cleared", || server.foreign(PROBE) == count).await;
    let duplicates = || -> i64 {
        let rows = setting.rows();
        rows.iter().filter_map(|row| row.number("duplicates")).sum()
    };
    until("the duplicate to be counted", || duplicates() == 1).await;
    let log = probe.log();
    assert!(probe.stop().success(), "{log}");
    assert_eq!(server.foreign(PROBE), count, "a forged mail was touched");
    lake::check(&setting.data());
    let rows = setting.rows();
    assert!(rows.iter().all(|row| row.monitor() == "mail1"));
    let (sent, tested) =
        (server.accepted().len(), rows.iter().filter(|row| row.outcome() != "not_tested").count());
    assert!(tested <= sent, "{tested} samples of {sent} mails");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulated_month_is_reported_with_a_note_and_only_known_time_counts() {
    let mut setting = Setting::new("stockholm");
    setting.add("[object.lyon]\naddress = \"127.0.0.1\"");
    let monitor: MonitorId = "lyon".parse().unwrap();
    let zone = jiff::tz::TimeZone::get("Europe/Stockholm").unwrap();
    let to = UtcMicros::now();
    let month = simulation::samples(
        &Habits::calm(monitor, 1.5),
        4,
        &zone,
        to - Micros::from_secs(10 * 86_400),
        to,
    );
    simulation::write(&setting.data(), &"there-simulated".parse().unwrap(), month).unwrap();
    lake::check(&setting.data());
    let today = zone.to_datetime(to.timestamp()).date();
    let from = today.checked_sub(jiff::Span::new().days(8)).unwrap();
    let printed = setting.succeed(
        "mailqos-analytics",
        &[
            "report",
            "--template",
            "monthly-operations",
            "--from",
            &from.to_string(),
            "--to",
            &today.to_string(),
            "--output",
            "out",
        ],
    );
    let page = printed.lines().find(|line| line.ends_with(".html")).expect("a page");
    let page = std::fs::read_to_string(setting.path(page)).unwrap();
    assert!(page.to_lowercase().contains("simulated"), "the note is missing");
}
