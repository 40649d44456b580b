//! Starts and ends of tests: a monitor's tests only overlap if configured, and a test ends whatever
//! the servers do.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use mailqos_tests::{
    secrets::secret_file,
    servers::{Fault, MailServer, Mishap, Options, Protocol, When},
    setting::{Setting, signal, until},
    shims,
};

#[tokio::test]
async fn a_monitor_overlaps_itself_only_where_it_may() {
    let server = MailServer::start(Options::default()).await.expect("an embedded server");
    server.befall(None, Mishap::Lose, When::Always);
    let mut setting = Setting::new("overlaps");
    for (id, overlap) in [("alone", false), ("overlapping", true)] {
        let mut monitor = setting.monitor(id, &server);
        monitor.more = format!("test_interval = \"1s\"\noverlap = {overlap}");
        setting.add_monitor(&monitor);
    }
    let mut probe = setting.start_probe();
    let starts = |monitor: &str| -> Vec<i64> {
        let mine = |row: &mailqos_tests::lake::Row| row.monitor() == monitor;
        let mut starts: Vec<i64> = setting
            .rows()
            .into_iter()
            .filter(mine)
            .map(|row| row.number("started_at").expect("a start"))
            .collect();
        starts.sort_unstable();
        starts
    };
    until("several samples of each monitor", || {
        assert!(probe.is_running(), "the probe has ended:\n{}", probe.log());
        starts("alone").len() >= 3 && starts("overlapping").len() >= 3
    })
    .await;
    let log = probe.log();
    assert!(probe.stop().success(), "{log}");
    // A test of a mail that does not arrive takes at least the max round trip of 3 s.
    let apart = |monitor: &str| {
        starts(monitor).windows(2).map(|two| two[1] - two[0]).min().expect("several")
    };
    assert!(apart("alone") >= 3_000_000, "{}", apart("alone"));
    assert!(apart("overlapping") < 3_000_000, "{}", apart("overlapping"));
}

/// Whatever hangs, the monitor's next test starts.
#[tokio::test]
async fn tests_continue_whatever_hangs() {
    let mut setting = Setting::new("hangs");
    let mut servers = Vec::new();
    for (id, protocol, phase, fault) in [
        ("smtp-stalls", Protocol::Smtp, "CONTENT", Fault::Stall),
        ("smtp-greylists", Protocol::Smtp, "RCPT", Fault::Reply("450 4.7.1 later".into())),
        ("pickup-stalls", Protocol::Pop3, "RETR", Fault::Stall),
        ("pickup-is-endless", Protocol::Pop3, "UIDL", Fault::Endless(100_000_000)),
    ] {
        let server = MailServer::start(Options::default()).await.expect("an embedded server");
        server.inject(protocol, phase, fault, When::Always);
        setting.add_monitor(&setting.monitor(id, &server));
        servers.push((id, server));
    }
    let mut probe = setting.start_probe();
    until("three samples of each monitor", || {
        assert!(probe.is_running(), "the probe has ended:\n{}", probe.log());
        let rows = setting.rows();
        servers.iter().all(|(id, _)| rows.iter().filter(|row| row.monitor() == *id).count() >= 3)
    })
    .await;
    let log = probe.log();
    assert!(probe.stop().success(), "{log}");
    let rows = setting.rows();
    assert!(rows.iter().all(|row| row.outcome() != "ok"));
}

/// A network file system whose server is gone: reads never return, but stopping works.
#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_stops_on_request_although_a_file_hangs() {
    let server = MailServer::start(Options::default()).await.expect("an embedded server");
    for (program, subcommand, begun) in [
        ("mailqos-probe", "run", " INFO testing"),
        ("mailqos-analytics", "schedule", "schedules started"),
    ] {
        // Files of the lake are named after the site.
        let mut setting = Setting::new("lyon");
        setting.add_monitor(&setting.monitor("m1", &server));
        setting.add("[account.far]\nuser = \"a\"\npassword = { file = \"secret.hangs\" }");
        setting.replace("account = \"probe\"", "account = \"far\"");
        setting.replace("site = ", "include = [\"parts.hangs\"]\nsite = ");
        std::fs::create_dir(setting.path("parts.hangs")).expect("a folder");
        std::fs::write(setting.path("parts.hangs/more.toml"), "").expect("a file");
        secret_file(&setting.path("secret.hangs"), "x");
        let library = shims::build("hang", &setting.path("")).expect("a library to preload");
        let told = setting.path("HANG");
        let mut command = setting.command(program);
        command.arg(subcommand).env("LD_PRELOAD", library).env("MAILQOS_HANG", &told);
        let probe = setting.start(&mut command);
        until("it has begun", || probe.log().contains(begun)).await;
        std::fs::write(&told, "").expect("a file");
        // The configuration must be reloaded, and the secret read with each test.
        signal(probe.id(), "HUP");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let log = probe.log();
        // `stop` waits no longer than any other step, and certainly not forever.
        probe.stop();
        assert!(!log.contains("panicked"), "{program} {subcommand}: {log}");
    }
}
