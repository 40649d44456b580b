//! States and alarms from the user's perspective: acknowledging, maintenance, simulated failures,
//! dependencies, thresholds.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use mailqos_lake::{day_path, read_day};
use mailqos_model::{Event, UtcMicros};
use mailqos_tests::{
    hooks::{Hooks, Manner},
    servers::{Certificate, Fault, MailServer, Mishap, Options, PASSWORD, PROBE, Protocol, When},
    setting::{Setting, until, write_private},
};

/// Creates a probe with a test every second, two failures to an alarm, and a webhook with kind,
/// monitors and reason.
async fn setting(name: &str) -> (Setting, MailServer, Hooks) {
    let mut setting = Setting::new(name);
    let server = MailServer::start(Options::default()).await.unwrap();
    let hooks = Hooks::start(Manner::Status(200)).await.unwrap();
    setting.replace("test_interval = \"5s\"", "test_interval = \"1s\"\nalarm_after = 2");
    setting.add(&format!(
        "[action_list.default]\nactions = [{{ webhook = {{ url = \"{}\", body = '{{ \"kind\": {{{{ alarms[0].kind | json }}}}, \"monitors\": {{{{ monitors | json }}}}, \"what\": {{{{ alarms[0].what | json }}}} }}' }}, repeat = \"10s\" }}]",
        hooks.url("/")
    ));
    (setting, server, hooks)
}

fn told(hooks: &Hooks, kind: &str) -> Vec<serde_json::Value> {
    hooks.taken().iter().map(|hook| hook.json()).filter(|json| json["kind"] == kind).collect()
}

/// Returns the kinds of the events in the lake, with their actors.
fn events(setting: &Setting, site: &str) -> Vec<Event> {
    let site = site.parse().unwrap();
    let path = day_path::<Event>(&setting.data(), &site, UtcMicros::now().utc_date());
    read_day(&path).unwrap_or_default()
}

fn has_event(setting: &Setting, site: &str, kind: &str) -> bool {
    events(setting, site).iter().any(|event| event.kind.as_str() == kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_is_acknowledged_by_name_and_note() {
    let (mut setting, server, hooks) = setting("lyon").await;
    setting.add_monitor(&setting.monitor("mail1", &server));
    setting.write();
    let output = setting.run("mailqos-probe", &["ack", "mail1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no probe is running"), "{output:?}");
    server.refuse(Protocol::Smtp);
    let probe = setting.start_probe();
    until("the alarm", || !told(&hooks, "alarm").is_empty()).await;
    let said = setting
        .succeed("mailqos-probe", &["ack", "mail*", "--by", "anna", "--note", "disk is full"]);
    assert_eq!(said.trim(), "acknowledged: mail1");
    until("the event", || has_event(&setting, "lyon", "acknowledged")).await;
    let ack = events(&setting, "lyon")
        .into_iter()
        .find(|event| event.kind.as_str() == "acknowledged")
        .unwrap();
    assert_eq!((ack.actor.as_deref(), ack.text.as_deref()), (Some("anna"), Some("disk is full")));
    // A reminder would follow ten seconds after the alarm, and there is at most one test per
    // second.
    let tests = setting.settled("mail1").len();
    until("twelve more tests", || setting.settled("mail1").len() >= tests + 12).await;
    assert_eq!(told(&hooks, "reminder").len(), 0);
    assert_eq!(setting.run("mailqos-probe", &["ack", "nobody"]).status.code(), Some(1));
    assert!(probe.stop().success());
    use std::os::unix::fs::PermissionsExt as _;
    let folder = setting.data().join("state/site=lyon/control");
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_password_of_the_alarm_mailer_is_not_tried_again_until_it_is_another() {
    let mut setting = Setting::new("lyon");
    let alerts = MailServer::start(Options::default()).await.unwrap();
    let broken = MailServer::start(Options::default()).await.unwrap();
    broken.refuse(Protocol::Smtp);
    setting.replace("test_interval = \"5s\"", "test_interval = \"1s\"\nalarm_after = 2");
    setting.add_mail_server("alerts", PROBE, &alerts);
    setting.replace(
        "[account.alerts]\nuser = \"probe@example.com\"\npassword = { env = \"PROBE_PASSWORD\" }",
        "[account.alerts]\nuser = \"probe@example.com\"\npassword = { file = \"alerts.password\" }",
    );
    let file = setting.path("alerts.password");
    let password = |text: &str| write_private(&file, text);
    password("the one of last year");
    setting.add(&format!(
        "[action_list.default]\nactions = [{{ email = \"{PROBE}\", mail_server = \"alerts\" }}]"
    ));
    setting.add_monitor(&setting.monitor("mail1", &broken));
    let logins = || {
        let commands = alerts.commands(Protocol::Smtp);
        commands.iter().filter(|line| line.starts_with("AUTH")).count()
    };
    let probe = setting.start_probe();
    let log = || std::fs::read_to_string(setting.path("probe.log")).unwrap();
    until("a further try", || log().contains("not tried again yet")).await;
    assert_eq!(logins(), 1, "{:?}", alerts.commands(Protocol::Smtp));
    assert!(
        log().contains("next attempt in 29 min, or as soon as the password changes"),
        "{}",
        log()
    );
    assert!(alerts.landings().is_empty());
    password(PASSWORD);
    until("the alarm's mail", || !alerts.landings().is_empty()).await;
    assert_eq!(logins(), 2);
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_maintenance_no_alarm_rises_and_no_sample_counts() {
    let (mut setting, server, hooks) = setting("lyon").await;
    setting.add_monitor(&setting.monitor("mail1", &server));
    let probe = setting.start_probe();
    until("a test", || !setting.settled("mail1").is_empty()).await;
    let said = setting.succeed(
        "mailqos-probe",
        &["maintenance", "add", "mail1", "--for", "2h", "--reason", "new disks", "--name", "disks"],
    );
    assert!(said.starts_with("maintenance disks of 1 monitor, "), "{said}");
    // A test that was running when the maintenance began is not in maintenance.
    let begun = UtcMicros::now().0;
    let failed = |row: &mailqos_tests::lake::Row| {
        row.outcome() == "smtp_failed" && row.number("started_at").is_some_and(|at| at >= begun)
    };
    server.refuse(Protocol::Smtp);
    until("failures in maintenance", || {
        setting.settled("mail1").iter().filter(|row| failed(row)).count() >= 4
    })
    .await;
    for row in setting.settled("mail1").iter().filter(|row| failed(row)) {
        assert_eq!(row.text("excluded"), Some("maintenance"), "{row:?}");
    }
    assert!(hooks.taken().is_empty());
    let listed = setting.succeed("mailqos-probe", &["maintenance", "list"]);
    assert!(
        listed.contains("disks") && listed.contains("open") && listed.contains("new disks"),
        "{listed}"
    );
    setting.succeed("mailqos-probe", &["maintenance", "end", "disks"]);
    until("the alarm afterwards", || !told(&hooks, "alarm").is_empty()).await;
    until("the events", || {
        has_event(&setting, "lyon", "maintenance_started")
            && has_event(&setting, "lyon", "maintenance_ended")
    })
    .await;
    assert_eq!(
        setting.run("mailqos-probe", &["maintenance", "add", "--for", "soon"]).status.code(),
        Some(2)
    );
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulated_failure_tries_the_action_list_and_counts_nowhere() {
    let (mut setting, server, hooks) = setting("lyon").await;
    setting.add_monitor(&setting.monitor("mail1", &server));
    let probe = setting.start_probe();
    until("a test", || !setting.settled("mail1").is_empty()).await;
    setting.succeed("mailqos-probe", &["simulate", "mail1", "--by", "anna"]);
    until("the alarm", || !told(&hooks, "alarm").is_empty()).await;
    assert_eq!(told(&hooks, "alarm")[0]["what"], "simulated failure, requested by anna");
    until("a test in between", || {
        setting.settled("mail1").iter().any(|row| row.text("excluded") == Some("simulated_failure"))
    })
    .await;
    assert!(
        setting.settled("mail1").iter().all(|row| row.outcome() == "ok"),
        "mail works all the while"
    );
    setting.succeed("mailqos-probe", &["simulate", "mail1", "--end"]);
    until("the recovery", || !told(&hooks, "recovery").is_empty()).await;
    until("the events", || has_event(&setting, "lyon", "simulation_ended")).await;
    assert!(has_event(&setting, "lyon", "simulation_started"));
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_from_another_failure_is_silent() {
    let (mut setting, server, hooks) = setting("lyon").await;
    setting.add_monitor(&setting.monitor("gate", &server));
    for number in 0..4 {
        let mut monitor = setting.monitor(&format!("box{number}"), &server);
        monitor.more = "depends_on = [\"gate\"]".to_owned();
        setting.add_monitor(&monitor);
    }
    server.refuse(Protocol::Smtp);
    let probe = setting.start_probe();
    until("the alarm", || !told(&hooks, "alarm").is_empty()).await;
    until("failures of all", || {
        (0..4).all(|number| setting.settled(&format!("box{number}")).len() >= 5)
    })
    .await;
    until("the event", || has_event(&setting, "lyon", "alarm_held")).await;
    for alarm in told(&hooks, "alarm") {
        assert_eq!(alarm["monitors"], serde_json::json!(["gate"]));
    }
    server.admit(Protocol::Smtp);
    until("the recovery", || !told(&hooks, "recovery").is_empty()).await;
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_step_raises_an_alarm_of_good_tests() {
    let (mut setting, server, hooks) = setting("lyon").await;
    let mut monitor = setting.monitor("mail1", &server);
    monitor.more = "alarm = { smtp_send = \"1ms\", certificate = \"14d\" }".to_owned();
    setting.add_monitor(&monitor);
    let probe = setting.start_probe();
    until("the alarm", || !told(&hooks, "alarm").is_empty()).await;
    let what = told(&hooks, "alarm")[0]["what"].as_str().unwrap().to_owned();
    assert!(what.contains("sending took") && what.contains("more than 1ms"), "{what}");
    assert!(setting.settled("mail1").iter().all(|row| row.outcome() == "ok"));
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn good_tests_raise_alarms_if_a_rule_requires_it() {
    let (mut setting, server, _hooks) = setting("lyon").await;
    let filtered = MailServer::start(Options::default()).await.unwrap();
    filtered.befall(None, Mishap::Junk, When::Always);
    let expiring = Fault::Certificate(Certificate::Expiring);
    server.inject(Protocol::Smtp, "TLS", expiring, When::Always);
    for (id, rule) in [
        ("certificate", "certificate = \"14d\""),
        (
            "percentile",
            "percentiles = [{ of = \"smtp_send\", percentile = 95, over = \"1h\", most = \"1ms\", at_least = 3 }]",
        ),
    ] {
        let mut monitor = setting.monitor(id, &server);
        monitor.more = format!("alarm = {{ {rule} }}");
        setting.add_monitor(&monitor);
    }
    let mut spam = setting.monitor("spam", &filtered);
    spam.pickup = format!(
        "protocol = \"imap\", port = {}, tls = \"implicit\", account = \"probe\", ca_file = \"spam.ca.pem\"",
        filtered.imaps_port()
    );
    spam.more = "folders = [\"INBOX\", \"Junk\"]\nalarm = { spam_folders = [\"Junk\"] }".to_owned();
    setting.add_monitor(&spam);
    let probe = setting.start_probe();
    for (id, what) in [
        ("certificate", "the certificate of the SMTP server expires in"),
        ("percentile", "the 95th percentile of sending over 1h took"),
        ("spam", "the mail was found in the folder \"Junk\""),
    ] {
        // Simultaneous alarms share a notification: the event names one monitor.
        let raised = || {
            let events = events(&setting, "lyon").into_iter();
            let of_it = |event: &Event| {
                event.kind.as_str() == "alarm_raised"
                    && event.monitor.as_ref().is_some_and(|monitor| monitor.as_str() == id)
            };
            events.filter(of_it).find_map(|event| event.text)
        };
        until(what, || raised().is_some()).await;
        let said = raised().unwrap();
        assert!(said.contains(what), "{said}");
        assert!(setting.settled(id).iter().all(|row| row.outcome() == "ok"));
    }
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_that_changes_to_and_fro_is_one_alarm() {
    let (mut setting, server, hooks) = setting("lyon").await;
    setting.add_monitor(&setting.monitor("mail1", &server));
    let probe = setting.start_probe();
    for round in 1..=5 {
        until("a good test", || {
            setting.settled("mail1").last().is_some_and(|row| row.outcome() == "ok")
        })
        .await;
        assert!(hooks.taken().is_empty(), "two failures in a row are none here");
        let refused = Fault::Reply("550 5.3.0 not now".into());
        server.inject(Protocol::Smtp, "RCPT", refused, When::Times(1));
        until("a failed test", || {
            let rows = setting.settled("mail1");
            rows.iter().filter(|row| row.outcome() == "smtp_failed").count() == round
        })
        .await;
    }
    until("the alarm", || !told(&hooks, "alarm").is_empty()).await;
    let what = told(&hooks, "alarm")[0]["what"].as_str().unwrap().to_owned();
    assert!(what.starts_with("flapping between success and failure"), "{what}");
    until("the recovery", || !told(&hooks, "recovery").is_empty()).await;
    assert_eq!(told(&hooks, "alarm").len(), 1);
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_settings_are_played_over_the_samples_that_exist() {
    let (mut setting, server, _hooks) = setting("lyon").await;
    setting.add_monitor(&setting.monitor("mail1", &server));
    server.refuse(Protocol::Smtp);
    let probe = setting.start_probe();
    until("failures", || setting.settled("mail1").len() >= 5).await;
    server.admit(Protocol::Smtp);
    until("good tests", || {
        setting.settled("mail1").iter().filter(|row| row.outcome() == "ok").count() >= 2
    })
    .await;
    assert!(probe.stop().success());
    let zone = jiff::tz::TimeZone::get("Europe/Stockholm").unwrap();
    let today = zone.to_datetime(UtcMicros::now().timestamp()).date();
    let (from, to) =
        (today.yesterday().unwrap().to_string(), today.tomorrow().unwrap().to_string());
    let replay = |more: &[&str]| -> Vec<serde_json::Value> {
        let arguments =
            [&["alarms", "replay", "--from", &from, "--to", &to, "--format", "json"][..], more]
                .concat();
        serde_json::from_str(&setting.succeed("mailqos-probe", &arguments)).unwrap()
    };
    assert_eq!(replay(&[])[0]["alarms"], 1);
    let both = replay(&["--alarm-after", "50", "--worth", "1s"]);
    assert_eq!(
        (&both[0]["rules"], &both[0]["alarms"], &both[0]["missed"]),
        (&"configured".into(), &1.into(), &0.into())
    );
    assert_eq!(
        (&both[1]["rules"], &both[1]["alarms"], &both[1]["missed"]),
        (&"changed".into(), &0.into(), &1.into())
    );
    let table = setting.succeed(
        "mailqos-probe",
        &["alarms", "replay", "--from", &from, "--to", &to, "--round-trip", "1ms"],
    );
    assert!(
        table.contains("configured") && table.contains("changed") && table.contains("short-lived"),
        "{table}"
    );
    let wrong = setting.run("mailqos-probe", &["alarms", "replay", "--from", &to, "--to", &from]);
    assert_eq!(wrong.status.code(), Some(2));
}
