//! Heartbeats to a service that watches the probe: sent while it works, and only then.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use mailqos_tests::{
    hooks::{Hooks, Manner},
    servers::{MailServer, Options},
    setting::{Setting, until, write_private},
};

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_are_sent_while_the_probe_works_and_an_alarm_reaches_someone() {
    const TOKEN: &str = "t0k3n-of-the-heartbeat";
    let server = MailServer::start(Options::default()).await.unwrap();
    let (watcher, pager) = (
        Hooks::start(Manner::Status(200)).await.unwrap(),
        Hooks::start(Manner::Status(200)).await.unwrap(),
    );
    let mut setting = Setting::new("watched");
    // At the top of the file: it comes before all tables.
    let push = watcher.url(&format!("/api/push/{TOKEN}"));
    write_private(&setting.path("heartbeat.url"), &format!("{push}?status=up&msg=OK&ping="));
    let heartbeat =
        "heartbeat = { url = { file = \"heartbeat.url\" }, every = \"10s\", timeout = \"2s\" }";
    setting.replace("site = \"watched\"", &format!("site = \"watched\"\n{heartbeat}"));
    let monitor = setting.monitor("mail", &server);
    setting.add_monitor(&monitor);
    setting.add(&format!(
        "[action_list.default]\nactions = [{{ webhook = {{ body = '{{}}', url = \"{}\" }} }}]",
        pager.url("/pager")
    ));
    setting.succeed("mailqos-probe", &["check"]);
    let probe = setting.start_probe();
    until("a heartbeat", || !watcher.accepted().is_empty()).await;
    let first = watcher.accepted().remove(0);
    assert_eq!(first.line, format!("GET /api/push/{TOKEN}?status=up&msg=OK&ping= HTTP/1.1"));
    let status = || setting.succeed("mailqos-probe", &["status", "--format", "json"]);
    let heartbeat = || {
        let status: serde_json::Value = serde_json::from_str(&status()).unwrap();
        status["probe"]["heartbeat"].clone()
    };
    until("its acceptance", || !heartbeat()["accepted_at"].is_null()).await;
    assert!(heartbeat()["problem"].is_null());
    // The only channel fails: the alarm reaches no one, and the service learns why.
    pager.set(Manner::Status(500));
    setting.succeed("mailqos-probe", &["simulate", "mail", "--for", "10m"]);
    until("a failure to be reported", || {
        watcher
            .accepted()
            .iter()
            .any(|hook| hook.line.contains("status=down&msg=no%20alarm%20channel%20works"))
    })
    .await;
    let problem = heartbeat()["problem"].as_str().unwrap_or_default().to_owned();
    assert!(problem.contains("no alarm channel works"), "{problem}");
    assert!(setting.succeed("mailqos-probe", &["status"]).contains("HEARTBEAT: "));
    // It recovers, and the service does not know the heartbeat any more.
    pager.set(Manner::Status(200));
    let beats = || watcher.accepted().iter().filter(|hook| hook.line.contains("status=up")).count();
    let before = beats();
    until("heartbeats again", || beats() > before).await;
    watcher.set(Manner::Status(404));
    until("the refusal", || {
        heartbeat()["problem"].as_str().is_some_and(|problem| problem.contains("HTTP 404"))
    })
    .await;
    let told = status() + &setting.succeed("mailqos-probe", &["status"]);
    assert!(!told.contains(TOKEN), "{told}");
    let log = probe.log();
    assert!(log.contains("heartbeat stopped") && !log.contains(TOKEN), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn report_schedules_send_their_own_heartbeats_while_all_definitions_are_valid() {
    const TOKEN: &str = "t0k3n-of-the-schedules";
    let watcher = Hooks::start(Manner::Status(200)).await.unwrap();
    let mut setting = Setting::new("watched");
    let url = watcher.url(&format!("/api/push/{TOKEN}"));
    write_private(&setting.path("heartbeat.url"), &url);
    setting.add(
        "[delivery]\nheartbeat = { url = { file = \"heartbeat.url\" }, every = \"10s\", timeout = \"2s\" }",
    );
    let definitions = setting.path("reports");
    std::fs::create_dir_all(&definitions).unwrap();
    let definition = definitions.join("weekly.toml");
    let valid =
        "template = \"executive-summary\"\nperiod = \"last-week\"\n[schedule]\nevery = \"week\"\n";
    std::fs::write(&definition, valid).unwrap();
    let schedules = setting.start(setting.command("mailqos-analytics").arg("schedule"));
    let beats = |status: &str| {
        let is = |line: &str| line.contains(TOKEN) && line.contains(status);
        watcher.accepted().iter().filter(|hook| is(&hook.line)).count()
    };
    until("a heartbeat", || beats("status=up") > 0).await;
    std::fs::write(&definition, valid.replace("executive-summary", "no-such-template")).unwrap();
    until("a failure to be reported", || beats("status=down") > 0).await;
    std::fs::write(&definition, valid).unwrap();
    let before = beats("status=up");
    until("heartbeats again", || beats("status=up") > before).await;
    let log = schedules.log();
    assert!(log.contains("heartbeat stopped") && !log.contains(TOKEN), "{log}");
}
