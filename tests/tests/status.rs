//! The published status of a probe, as other programs read it.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use mailqos_lake::{MonitorState, MonitorStatus, Status, status_path};
use mailqos_model::SiteName;
use mailqos_tests::{
    servers::{MailServer, Options, PASSWORD, Protocol},
    setting::{Setting, find_bytes, until},
};

fn site() -> SiteName {
    "lyon".parse().unwrap()
}

/// Returns the published status; an unreadable one fails the test.
fn published(setting: &Setting) -> Option<Status> {
    Status::read(&setting.data(), &site()).unwrap()
}

/// Returns the only monitor of the published status.
fn monitor(setting: &Setting) -> Option<MonitorStatus> {
    published(setting)?.monitors.pop()
}

async fn setting() -> (Setting, MailServer) {
    let mut setting = Setting::new("lyon");
    let server = MailServer::start(Options::default()).await.unwrap();
    setting.replace("test_interval = \"5s\"", "test_interval = \"1s\"\nalarm_after = 2");
    setting.add_monitor(&setting.monitor("mail1", &server));
    (setting, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_shows_results_alarms_acknowledgements_and_the_stop() {
    let (setting, server) = setting().await;
    assert_eq!(published(&setting), None);
    let probe = setting.start_probe();
    until("a good test", || {
        monitor(&setting).is_some_and(|monitor| monitor.state == MonitorState::Ok)
    })
    .await;
    let status = published(&setting).unwrap();
    assert!(status.probe.running && status.probe.started > 0, "{status:?}");
    let last = status.monitors[0].last.clone().unwrap();
    assert_eq!(last.outcome, "ok");
    assert!(last.round_trip_us.is_some() && status.monitors[0].next.is_some());
    server.refuse(Protocol::Smtp);
    until("the alarm", || monitor(&setting).is_some_and(|monitor| monitor.alarm.is_some())).await;
    let failing = monitor(&setting).unwrap();
    assert_eq!(failing.state, MonitorState::Alarm);
    assert!(failing.failures >= 2 && failing.failing_since.is_some() && failing.reason.is_some());
    setting.succeed("mailqos-probe", &["ack", "mail1", "--by", "anna", "--note", "disk is full"]);
    let acknowledged = || monitor(&setting)?.alarm?.acknowledged;
    until("the acknowledgement", || acknowledged().is_some()).await;
    let acknowledged = acknowledged().unwrap();
    assert_eq!(
        (acknowledged.by.as_str(), acknowledged.note.as_deref()),
        ("anna", Some("disk is full"))
    );
    assert!(probe.stop().success());
    assert!(!published(&setting).unwrap().probe.running);
    let folder = setting.data().join("status");
    assert_eq!(find_bytes(&folder, PASSWORD.as_bytes()), None, "a secret was published");
    let info = || -> serde_json::Value {
        let text = setting.succeed("mailqos-analytics", &["lake", "info", "--format", "json"]);
        serde_json::from_str::<serde_json::Value>(&text).unwrap()[0]["probe"].take()
    };
    assert!(info().as_str().unwrap().starts_with("stopped 20"), "{}", info());
    // A newer probe that was killed; then one that publishes nothing.
    let path = status_path(&setting.data(), &site());
    let mut status: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    status["probe"]["running"] = true.into();
    status["probe"]["newer"] = 1.into();
    for (written_at, shown) in [
        (jiff::Timestamp::now().to_string(), "running"),
        ("2026-01-01T00:00:00Z".to_owned(), "stale, last status 2026-01-01T00:00:00Z"),
    ] {
        status["written_at"] = written_at.into();
        std::fs::write(&path, status.to_string()).unwrap();
        assert_eq!(info(), shown);
    }
    std::fs::remove_file(&path).unwrap();
    assert!(info().is_null(), "{}", info());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_probe_leaves_a_whole_status_and_the_next_one_replaces_it() {
    let (setting, _server) = setting().await;
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (done, data) = (Arc::clone(&done), setting.data());
        std::thread::spawn(move || {
            let mut versions = std::collections::BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                // Fails if it sees a partial file.
                versions
                    .extend(Status::read(&data, &site()).unwrap().map(|status| status.written_at));
            }
            versions.len()
        })
    };
    for _ in 0..3 {
        let before = published(&setting).map(|status| status.written_at);
        let probe = setting.start_probe();
        until("a newer status", || published(&setting).map(|status| status.written_at) > before)
            .await;
        probe.kill();
        assert!(published(&setting).unwrap().probe.running, "no planned stop");
    }
    // A file that another program damaged is replaced as well.
    done.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() >= 3);
    std::fs::write(status_path(&setting.data(), &site()), "{\"version\":1,\"si").unwrap();
    let probe = setting.start_probe();
    until("a whole status", || matches!(Status::read(&setting.data(), &site()), Ok(Some(_)))).await;
    assert!(probe.stop().success());
}
