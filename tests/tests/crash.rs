//! The real probe is killed at random times: no acknowledged sample is lost or duplicated. The
//! measurement with 300 kills, also with a disk that is sometimes full, is
//! `cargo run --package mailqos-bench --bin crash`.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use std::time::Duration;

use mailqos_tests::{
    crash::{self, Plan},
    servers::{MailServer, Options},
    setting::{Setting, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_probe_acknowledged_is_there_once() {
    let toll = crash::run(&Plan {
        kills: 8,
        seed: 3,
        monitors: 15,
        longest: Duration::from_millis(2500),
        data: None,
        fill: false,
        failing: 0,
    })
    .await;
    println!("{toll:?}");
    assert!(toll.acknowledged > 0 && toll.opened > 0, "nothing was tested: {toll:?}");
    assert_eq!((toll.lost, toll.doubled, toll.unreadable), (0, 0, 0), "{toll:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_at_random_costs_no_sample_that_was_acknowledged() {
    let toll = crash::run(&Plan {
        kills: 6,
        seed: 4,
        monitors: 15,
        longest: Duration::from_millis(2500),
        data: None,
        fill: false,
        failing: 20,
    })
    .await;
    println!("{toll:?}");
    assert!(
        toll.acknowledged > 0 && toll.failed > 0 && toll.opened > 0,
        "nothing was tested: {toll:?}"
    );
    assert_eq!((toll.lost, toll.doubled, toll.unreadable), (0, 0, 0), "{toll:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_probe_of_a_site_is_refused_and_a_killed_one_is_replaced() {
    let server = MailServer::start(Options::default()).await.expect("an embedded server");
    let mut setting = Setting::new("lock");
    setting.add_monitor(&setting.monitor("mail", &server));
    let mut first = setting.start_probe();
    until("the first probe has sealed", || !setting.rows().is_empty()).await;
    let second = setting.run("mailqos-probe", &["run"]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("process {} on ", first.id())), "{said}");
    assert!(said.contains("stop it, or give this probe a different site name"), "{said}");
    assert!(first.is_running());
    let before = setting.settled("mail").len();
    first.kill();
    let third = setting.start_probe();
    until("the third probe has sealed", || setting.settled("mail").len() > before).await;
    assert!(third.stop().success());
}
