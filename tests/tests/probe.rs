//! The running probe from the administrator's perspective: status, log, metrics, reload, calendars,
//! limits, the service manager.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

use mailqos_tests::{
    hooks::{Hooks, Manner},
    servers::{Delays, MailServer, Options, Protocol},
    setting::{Setting, signal, until, words_of},
};

fn status(setting: &Setting) -> serde_json::Value {
    let output = setting.run("mailqos-probe", &["status", "--format", "json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn monitor<'a>(status: &'a serde_json::Value, id: &str) -> &'a serde_json::Value {
    let monitors = status["monitors"].as_array().into_iter().flatten();
    monitors.clone().find(|monitor| monitor["id"] == id).unwrap_or(&serde_json::Value::Null)
}

/// Returns the response of the metrics endpoint; `None` if it is not available.
fn scrape(port: u16, accept: &str) -> Option<String> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    let asked = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(asked.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Runs Prometheus' linter, if it is installed, which must not complain.
fn lint(metrics: &str) {
    let mut promtool = std::process::Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(std::process::Stdio::piped());
    promtool.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let Ok(mut child) = promtool.spawn() else {
        return;
    };
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = words_of(&output);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

fn free_port() -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_move_to_another_address_when_it_is_available() {
    let mut setting = Setting::new("lyon");
    let (first, second) = (free_port(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let taken = second.local_addr().unwrap().port();
    let key = |port: u16| format!("metrics = \"127.0.0.1:{port}\"\n");
    setting.replace("timezone =", &format!("{}timezone =", key(first)));
    let probe = setting.start_probe();
    let answers =
        |port: u16| scrape(port, "*/*").is_some_and(|text| text.contains("mailqos_probe_info"));
    until("metrics", || answers(first)).await;

    // Another program uses the new address: the old one remains in service, and the status shows
    // why.
    setting.replace(&key(first), &key(taken));
    setting.succeed("mailqos-probe", &["reload"]);
    until("the problem", || {
        let problem =
            status(&setting)["probe"]["metrics_problem"].as_str().unwrap_or_default().to_owned();
        problem.starts_with(&format!("can't serve metrics at 127.0.0.1:{taken}"))
    })
    .await;
    assert!(answers(first));
    drop(second);
    until("the new address", || answers(taken)).await;
    until("the old one's end", || !answers(first)).await;
    assert!(status(&setting)["probe"]["metrics_problem"].is_null());

    // All networks, with the same port; then none.
    let all = format!("metrics = \"0.0.0.0:{taken}\"\n");
    setting.replace(&key(taken), &all);
    setting.succeed("mailqos-probe", &["reload"]);
    until("the wider address", || probe.log().contains("0.0.0.0") && answers(taken)).await;
    setting.replace(&all, "");
    setting.succeed("mailqos-probe", &["reload"]);
    until("the end of the metrics", || !answers(taken)).await;
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn states_events_and_metrics_are_shown() {
    let mut setting = Setting::new("lyon");
    let good = MailServer::start(Options::default()).await.unwrap();
    let bad = MailServer::start(Options::default()).await.unwrap();
    let dead = Hooks::start(Manner::Status(404)).await.unwrap();
    bad.refuse(Protocol::Smtp);
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    setting.replace("test_interval = \"5s\"", "test_interval = \"1s\"\nalarm_after = 2");
    setting.replace("timezone =", &format!("metrics = \"127.0.0.1:{port}\"\ntimezone ="));
    setting.add(&format!(
        "[action_list.default]\nactions = [{{ webhook = {{ url = \"{}\", body = '{{}}' }} }}]",
        dead.url("/")
    ));
    setting.add_monitor(&setting.monitor("good", &good));
    setting.add_monitor(&setting.monitor("bad", &bad));
    let mut off = setting.monitor("off", &good);
    off.more = "enabled = false".to_owned();
    setting.add_monitor(&off);
    let probe = setting.start_probe();
    until("a dead channel", || {
        status(&setting)["channels"][0]["failures"].as_u64().unwrap_or(0) > 0
    })
    .await;
    until("good tests", || {
        monitor(&status(&setting), "good")["last"]["round_trip_ms"].as_f64().is_some()
    })
    .await;
    let seen = status(&setting);
    assert_eq!(monitor(&seen, "good")["state"], "ok");
    assert_eq!(monitor(&seen, "bad")["state"], "alarm");
    assert_eq!(monitor(&seen, "off")["state"], "disabled");
    assert!(monitor(&seen, "bad")["alarm"]["notified_at"].is_null(), "no one accepted it: {seen}");
    assert_eq!(monitor(&seen, "good")["day"].as_array().map(Vec::len), Some(48));
    let table = setting.succeed("mailqos-probe", &["status"]);
    assert!(
        table.contains("FAILING CHANNEL: webhook at 127.0.0.1")
            && table.contains("no one notified yet"),
        "{table}"
    );
    let one = setting.succeed("mailqos-probe", &["status", "g*"]);
    assert!(one.contains("good") && !one.contains("bad"), "{one}");
    assert_eq!(setting.run("mailqos-probe", &["status", "nobody"]).status.code(), Some(1));

    let log = setting.succeed("mailqos-probe", &["log"]);
    for kind in ["probe_started", "alarm_raised", "notification_failed"] {
        assert!(log.contains(kind), "no {kind}:\n{log}");
    }
    let raised = setting
        .succeed("mailqos-probe", &["log", "bad", "--kind", "alarm_raised", "--format", "json"]);
    let event: serde_json::Value = serde_json::from_str(raised.lines().next().unwrap()).unwrap();
    assert_eq!((&event["monitor"], &event["kind"]), (&"bad".into(), &"alarm_raised".into()));

    let scrape = |accept: &str| scrape(port, accept).unwrap();
    let text = scrape("text/plain");
    let (head, metrics) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(metrics.contains("# TYPE mailqos_tests_total counter\n") && !metrics.contains("# EOF"));
    lint(metrics);
    let text = scrape("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5");
    let (head, metrics) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(metrics.ends_with("# EOF\n"));
    assert!(metrics.contains(
        "mailqos_monitor_state{monitor=\"bad\",object=\"bad\",mailqos_monitor_state=\"alarm\"} 1"
    ));
    assert!(metrics.contains(
        "mailqos_round_trip_seconds_bucket{monitor=\"good\",object=\"good\",le=\"+Inf\"}"
    ));
    assert!(metrics.contains("mailqos_start_lateness_seconds_count "));
    if let Ok(path) = std::env::var("MAILQOS_KEEP_METRICS") {
        std::fs::write(path, metrics).unwrap();
    }
    assert!(probe.stop().success());
    assert_eq!(setting.run("mailqos-probe", &["status"]).status.code(), Some(1));
    // The last day is shown again after a restart.
    let probe = setting.start_probe();
    until("the probe", || !status(&setting).is_null()).await;
    let seen = status(&setting);
    assert_eq!(monitor(&seen, "bad")["state"], "alarm");
    assert!(
        monitor(&seen, "good")["day"][47]["tests"]
            .as_u64()
            .or(monitor(&seen, "good")["day"][46]["tests"].as_u64())
            .unwrap()
            > 0
    );
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_reloaded_completely_or_not_at_all() {
    let mut setting = Setting::new("lyon");
    let server = MailServer::start(Options {
        delays: Delays::Fixed(Duration::from_millis(4_000)),
        ..Options::default()
    })
    .await
    .unwrap();
    setting.replace("max_round_trip = \"3s\"", "max_round_trip = \"20s\"");
    setting.replace("horizon = \"6s\"", "horizon = \"60s\"");
    setting.replace("test_interval = \"5s\"", "test_interval = \"60s\"");
    setting.add_monitor(&setting.monitor("mail1", &server));
    let socket = setting.path("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let hear = || {
        let mut space = [0; 256];
        let count = manager.recv(&mut space).expect("the probe tells its manager");
        String::from_utf8_lossy(&space[..count]).into_owned()
    };
    let mut command = setting.command("mailqos-probe");
    command.arg("run").env("NOTIFY_SOCKET", &socket);
    let mut probe = setting.start(&mut command);
    assert!(hear().contains("READY=1"));
    until("a mail in flight", || !server.accepted().is_empty()).await;

    setting.add_monitor(&setting.monitor("mail2", &server));
    setting.write();
    signal(probe.id(), "HUP");
    assert!(hear().contains("RELOADING=1"));
    assert!(hear().contains("READY=1"));
    until("the new monitor's sample", || !setting.settled("mail2").is_empty()).await;
    until("the mail that was in flight", || !setting.settled("mail1").is_empty()).await;
    assert_eq!(setting.settled("mail1")[0].outcome(), "ok");
    assert_eq!(setting.settled("mail1").len(), 1, "its slot is where it was");

    setting.add("[monitor.broken]\nobject = \"nowhere\"");
    setting.write();
    let output = setting.run("mailqos-probe", &["reload"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    signal(probe.id(), "HUP");
    until("the refusal", || probe.log().contains("the old configuration stays in use")).await;
    assert!(probe.is_running());
    setting.replace("[monitor.broken]\nobject = \"nowhere\"", "");
    setting.replace("site = \"lyon\"", "site = \"paris\"");
    setting.write();
    signal(probe.id(), "HUP");
    until("another refusal", || probe.log().contains("site can't change")).await;
    setting.replace("site = \"paris\"", "site = \"lyon\"");
    let said = setting.succeed("mailqos-probe", &["reload"]);
    assert_eq!(said.trim(), "reloaded: 2 monitors: 0 added, 0 removed");
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn calendars_retests_and_limits_decide_when_tests_start() {
    let mut setting = Setting::new("lyon");
    let server = MailServer::start(Options {
        delays: Delays::Fixed(Duration::from_millis(700)),
        ..Options::default()
    })
    .await
    .unwrap();
    let broken = MailServer::start(Options::default()).await.unwrap();
    broken.refuse(Protocol::Smtp);
    setting.replace("timezone =", "limits = { per_mailbox = 1 }\ntimezone =");
    setting.replace("test_interval = \"5s\"", "test_interval = \"1h\"");
    let mut calendar = setting.monitor("calendar", &broken);
    calendar.more = "schedule = \"*/2 * * * * *\"\ntimezone = \"UTC\"".to_owned();
    setting.add_monitor(&calendar);
    let mut again = setting.monitor("again", &broken);
    again.more = "retest_interval = \"1s\"".to_owned();
    setting.add_monitor(&again);
    // Three tests per second that use one mailbox at the same time and take a second each.
    for number in 0..3 {
        let mut crowd = setting.monitor(&format!("crowd{number}"), &server);
        crowd.more = "test_interval = \"1s\"".to_owned();
        setting.add_monitor(&crowd);
    }
    let probe = setting.start_probe();
    // Without calendar and retests, two tests would be an hour apart.
    until("tests", || {
        setting.settled("calendar").len() >= 4
            && setting.settled("again").len() >= 4
            && setting.settled("crowd2").len() >= 3
    })
    .await;
    let seen = status(&setting);
    assert!(
        seen["probe"]["left_out"].as_u64().unwrap() + seen["probe"]["late"].as_u64().unwrap() > 0,
        "{seen}"
    );
    assert!(seen["probe"]["waiting"].as_u64().unwrap() <= 3, "no pile-up");
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_folders_that_are_not_there() {
    let mut setting = Setting::new("lyon");
    let server = MailServer::start(Options::default()).await.unwrap();
    let mut monitor = setting.monitor("mail1", &server);
    monitor.pickup = format!(
        "protocol = \"imap\", port = {}, tls = \"implicit\", account = \"probe\", ca_file = \"mail1.ca.pem\"",
        server.imaps_port()
    );
    monitor.more = "folders = [\"INBOX\", \"Spam\"]".to_owned();
    setting.add_monitor(&monitor);
    let output = setting.run("mailqos-probe", &["check", "--connect"]);
    let said = words_of(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("monitor mail1: the folder \"Spam\" can't be opened"), "{said}");
    assert!(said.contains("use that name in folders"), "{said}");
    server.refuse(Protocol::Imap);
    let said = words_of(&setting.run("mailqos-probe", &["check", "--connect"]));
    assert!(said.contains("can't open the mailbox"), "{said}");
}

/// Returns the width of the first reading of each clock in a file of learned data, by the clock's
/// name.
fn widths(file: &std::path::Path) -> std::collections::BTreeMap<String, i64> {
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let clocks = kept["clocks"].as_array().unwrap().iter();
    let first = |clock: &serde_json::Value| {
        let reading = &clock["readings"][0];
        let width = reading[2].as_i64().unwrap() - reading[1].as_i64().unwrap();
        (clock["name"].as_str().unwrap().to_owned(), width)
    };
    clocks.map(first).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn calibration_of_clocks_survives_restarts_and_widens_with_age() {
    let mut setting = Setting::new("lyon");
    let server = MailServer::start(Options::default()).await.unwrap();
    let mut monitor = setting.monitor("mail1", &server);
    monitor.more = "test_interval = \"1s\"\ncheck_interval = \"2900ms\"".to_owned();
    setting.add_monitor(&monitor);
    let file = setting.data().join("state/site=lyon/learnt.json");
    let run = async |more: usize| {
        let before = setting.settled("mail1").len();
        let probe = setting.start_probe();
        until("tests", || setting.settled("mail1").len() >= before + more).await;
        assert!(probe.stop().success());
        let error = |row: &mailqos_tests::lake::Row| row.number("round_trip_likely_error_us");
        setting.settled("mail1")[before..].iter().find_map(error).unwrap()
    };
    let untaught = run(12).await;
    let taught = run(2).await;
    assert!(taught < untaught, "{taught} µs behind a restart, {untaught} µs at first");
    // Six hours later a clock may have drifted 432 ms either way, and a restart costs 10 ms.
    let before = widths(&file);
    assert!(!before.is_empty());
    let mut kept: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    kept["at"] = (kept["at"].as_i64().unwrap() - 6 * 3_600_000_000).into();
    std::fs::write(&file, kept.to_string()).unwrap();
    run(2).await;
    let after = widths(&file);
    for (name, width) in before {
        let wider = after[&name] - width;
        assert!((884_000..950_000).contains(&wider), "{name}: {wider} µs wider");
    }
    // An unreadable file is renamed, and the probe continues.
    for text in ["{\"version\": 99, \"clocks\": {}}", "{\"version\": 1,"] {
        std::fs::write(&file, text).unwrap();
        run(1).await;
        assert_eq!(std::fs::read_to_string(file.with_extension("json.unread")).unwrap(), text);
        assert!(!widths(&file).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tries_a_wrong_password_once() {
    let mut setting = Setting::new("lyon");
    let server = MailServer::start(Options::default()).await.unwrap();
    for (id, folders) in [("mail1", "[\"INBOX\"]"), ("mail2", "[\"INBOX\", \"Junk\"]")] {
        let mut monitor = setting.monitor(id, &server);
        monitor.pickup = format!(
            "protocol = \"imap\", port = {}, tls = \"implicit\", account = \"wrong\", ca_file = \"{id}.ca.pem\"",
            server.imaps_port()
        );
        monitor.more = format!("folders = {folders}");
        setting.add_monitor(&monitor);
    }
    let said = words_of(&setting.run("mailqos-probe", &["check", "--connect"]));
    assert!(said.contains("monitor mail2: can't open the mailbox"), "{said}");
    assert!(said.contains("not tried again yet, to avoid locking the account"), "{said}");
    let is_login = |line: &&String| {
        let mut words = line.split(' ');
        words.any(|word| matches!(word, "AUTHENTICATE" | "LOGIN"))
    };
    let commands = server.commands(Protocol::Imap);
    assert_eq!(commands.iter().filter(is_login).count(), 1, "{commands:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_alarm_is_tested_at_the_longer_retest_interval() {
    let mut setting = Setting::new("lyon");
    let broken = MailServer::start(Options::default()).await.unwrap();
    broken.refuse(Protocol::Smtp);
    for (id, more) in [
        ("usual", "test_interval = \"1s\""),
        ("hourly", "test_interval = \"1s\"\nretest_interval = \"1h\""),
        ("slower", "test_interval = \"1s\"\nretest_interval = \"4s\""),
    ] {
        let mut monitor = setting.monitor(id, &broken);
        monitor.more = format!("{more}\nalarm_after = 2");
        setting.add_monitor(&monitor);
    }
    let probe = setting.start_probe();
    until("tests", || setting.settled("usual").len() >= 12).await;
    // The alarm is raised at the usual pace; then the next test is an hour away.
    assert_eq!(setting.settled("hourly").len(), 2);
    let slower = setting.settled("slower").len();
    assert!((3..=6).contains(&slower), "{slower} of 12 tests");
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_a_credential_of_the_service_manager() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut setting = Setting::new("lyon");
    let server = MailServer::start(Options::default()).await.unwrap();
    setting.replace(
        "[account.probe]\nuser = \"probe@example.com\"\npassword = { env = \"PROBE_PASSWORD\" }",
        "[account.probe]\nuser = \"probe@example.com\"\npassword = { credential = \"probe\" }",
    );
    setting.add_monitor(&setting.monitor("mail1", &server));
    let folder = setting.path("credentials");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("probe"), mailqos_tests::servers::PASSWORD).unwrap();
    std::fs::set_permissions(folder.join("probe"), std::fs::Permissions::from_mode(0o440)).unwrap();
    let test = |with: bool| {
        let mut command = setting.command("mailqos-probe");
        command.args(["test", "mail1", "--no-record"]).env_remove("CREDENTIALS_DIRECTORY");
        if with {
            command.env("CREDENTIALS_DIRECTORY", &folder);
        }
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(test(true).0, Some(0));
    let (code, said) = test(false);
    assert!(code == Some(1) && said.contains("CREDENTIALS_DIRECTORY"), "{said}");
}

/// Returns what a service manager receives on its socket.
fn heard(socket: &std::os::unix::net::UnixDatagram, wanted: &str) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    let mut space = [0; 4096];
    while !said.iter().any(|line| line == wanted) {
        let count = socket
            .recv(&mut space)
            .unwrap_or_else(|error| panic!("no {wanted}: {error}; {said:?}"));
        said.extend(String::from_utf8_lossy(&space[..count]).lines().map(str::to_owned));
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_notified_of_readiness_life_reload_and_end() {
    let mut setting = Setting::new("lyon");
    let server = MailServer::start(Options::default()).await.unwrap();
    setting.add_monitor(&setting.monitor("mail1", &server));
    let socket = std::os::unix::net::UnixDatagram::bind(setting.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let probe = setting.command("mailqos-probe");
    let mut command = std::process::Command::new("sh");
    // As with systemd: the watchdog applies to one process.
    command
        .args(["-c", "export WATCHDOG_PID=$$; exec \"$0\" \"$@\""])
        .arg(probe.get_program())
        .args(probe.get_args())
        .arg("run")
        .current_dir(setting.path(""))
        .envs(probe.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("NOTIFY_SOCKET", setting.path("notify"))
        .env("WATCHDOG_USEC", "200000");
    let probe = setting.start(&mut command);
    heard(&socket, "READY=1");
    for _ in 0..3 {
        heard(&socket, "WATCHDOG=1");
    }
    signal(probe.id(), "HUP");
    let said = heard(&socket, "RELOADING=1");
    // Also required by systemd's notify-reload.
    assert!(said.iter().any(|line| line.starts_with("MONOTONIC_USEC=")), "{said:?}");
    assert!(!said.iter().any(|line| line == "READY=1"), "{said:?}");
    heard(&socket, "READY=1");
    let manager = std::thread::spawn(move || heard(&socket, "STOPPING=1"));
    assert!(probe.stop().success());
    manager.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_without_a_network_tests_nothing_and_raises_no_alarm() {
    let mut setting = Setting::new("lyon");
    let server = MailServer::start(Options::default()).await.unwrap();
    server.refuse(Protocol::Smtp);
    // This name never resolves (RFC 6761).
    setting.replace("timezone =", "reference_addresses = [\"reference.invalid:53\"]\ntimezone =");
    setting.replace("test_interval = \"5s\"", "test_interval = \"1s\"\nalarm_after = 2");
    setting.add_monitor(&setting.monitor("mail1", &server));
    let probe = setting.start_probe();
    until("tests that are none", || setting.settled("mail1").len() >= 4).await;
    for row in setting.settled("mail1") {
        assert_eq!((row.outcome(), row.text("stage")), ("not_tested", None), "{row:?}");
        assert!(row.text("error").unwrap().contains("the probe's own network"), "{row:?}");
    }
    assert_ne!(monitor(&status(&setting), "mail1")["state"], "alarm");
    // With one that answers, the failure is attributed to the mail.
    let reference = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reference.local_addr().unwrap().to_string();
    setting.replace("reference.invalid:53", &address);
    setting.succeed("mailqos-probe", &["reload"]);
    until("an alarm", || monitor(&status(&setting), "mail1")["state"] == "alarm").await;
    until("its sample", || {
        setting.settled("mail1").iter().any(|row| row.outcome() == "smtp_failed")
    })
    .await;
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn days_that_are_too_old_are_removed_also_by_a_retention_that_comes_with_a_reload() {
    let mut setting = Setting::new("lyon");
    let old = setting.data().join("samples/site=lyon/date=2020-01-31");
    let others = setting.data().join("samples/site=nice/date=2020-01-31");
    for folder in [&old, &others] {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("samples.parquet"), "old").unwrap();
    }
    let probe = setting.start_probe();
    until("the probe", || setting.run("mailqos-probe", &["status"]).status.success()).await;
    assert!(old.join("samples.parquet").exists());
    setting.replace("timezone =", "retention = \"90d\"\ntimezone =");
    setting.succeed("mailqos-probe", &["reload"]);
    until("the removal", || !old.join("samples.parquet").exists()).await;
    assert!(others.join("samples.parquet").exists(), "another site's days are not this probe's");
    assert!(probe.stop().success());
}
