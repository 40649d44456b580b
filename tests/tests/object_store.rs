//! A lake in an object store: nothing is lost while the store is away, when the state folder is lost, or when two probes write for
//! one site; and it is read where it lies.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;

use mailqos_core::model::{Micros, UtcMicros};
use mailqos_tests::{
    lake::{self, Row},
    secrets::secret_file,
    servers::{KEY_ID, MailServer, ObjectStore, Options, PROBE},
    setting::{Setting, until},
};

const SECRET: &str = "Object-Store-Hemlighet-5Rt";

fn setting(store: &ObjectStore, server: &MailServer) -> Setting {
    let mut setting = Setting::new("cloud");
    setting.replace("data = \"data\"", "data = \"s3://bucket/some/lake\"");
    setting.replace("test_interval = \"5s\"", "test_interval = \"1s\"");
    secret_file(&setting.path("s3.secret"), SECRET);
    setting.add(&format!(
        "[account.store]\nuser = \"{KEY_ID}\"\npassword = {{ file = \"s3.secret\" }}\n\
         [object_store]\nendpoint = \"{}\"\nallow_http = true\nregion = \"eu-north-1\"\naccount = \"store\"",
        store.endpoint()
    ));
    setting.add_monitor(&setting.monitor("mail", server));
    setting.write();
    setting
}

/// The rows in the store.
fn rows(store: &ObjectStore) -> Vec<Row> {
    let folder = tempfile::tempdir().expect("a folder");
    store.copy_to("bucket/some/lake/", folder.path());
    lake::rows(folder.path())
}

fn starts(rows: &[Row]) -> BTreeSet<i64> {
    rows.iter().filter_map(|row| row.number("started_at")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_in_an_object_store_loses_nothing() {
    let store = ObjectStore::start().await.expect("a store");
    let server = MailServer::start(Options::default()).await.expect("an embedded server");
    let people = MailServer::start(Options {
        smtp_auth_required: false,
        ..Options::default()
    })
    .await
    .expect("an embedded server");
    let mut first = setting(&store, &server);
    std::fs::write(first.path("people.pem"), people.authority().pem()).expect("a file");
    first.add(&format!(
        "[mail_server.people]\nserver = \"localhost\"\nport = {}\ntls = \"implicit\"\nca_file = \"people.pem\"\nfrom = \"a@example.com\"\n\
         [action_list.default]\nactions = [{{ email = \"{PROBE}\", mail_server = \"people\" }}]",
        people.smtps_port()
    ));
    first.write();
    let probe = first.start_probe();
    until("samples are in the store", || rows(&store).len() >= 2).await;

    // A second probe on the same site is refused, and told by whom.
    let second = setting(&store, &server);
    let refused = second.run("mailqos-probe", &["run"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(
        words.contains("another probe writes for the site cloud: process "),
        "{words}"
    );

    // While the store is away, testing goes on; afterwards all is there.
    store.set_away(true);
    let before = store.writes();
    let known = rows(&store).len();
    until("somebody was told", || !people.landings().is_empty()).await;
    let told = String::from_utf8_lossy(&people.landings()[0].content).into_owned();
    assert!(told.contains("mailqos.recorder"), "{told}");
    assert_eq!(store.writes(), before);
    store.set_away(false);
    until("they were told that it is good again", || people.landings().len() > 1).await;
    until("what was held came", || rows(&store).len() >= known + 4).await;
    assert!(probe.log().contains("day files can't be sent"), "{}", probe.log());
    assert!(probe.stop().success());
    let kept = starts(&rows(&store));
    assert_eq!(kept.len(), rows(&store).len(), "none is there twice");
    assert!(
        !store.names().iter().any(|name| name.contains("/writers/")),
        "the claim was given back"
    );

    // A probe that lost its state, or another machine: what is in the store stays.
    let probe = second.start_probe();
    until("more samples came", || starts(&rows(&store)).len() >= kept.len() + 2).await;
    assert!(probe.stop().success());
    let all = starts(&rows(&store));
    assert!(kept.is_subset(&all));

    // It is read where it lies.
    let day = Micros::from_secs(86_400);
    let (from, to) = (UtcMicros::now() - day, UtcMicros::now() + day + day);
    let (from, to) = (from.utc_date().to_string(), to.utc_date().to_string());
    let arguments = ["stats", "--from", &from, "--to", &to, "--format", "json"];
    let counted = |setting: &Setting| {
        let stats: serde_json::Value =
            serde_json::from_str(&setting.succeed("mailqos-analytics", &arguments)).expect("JSON");
        let sum = |key: &str| stats[0][key].as_u64().expect("a number");
        sum("tests") + sum("not_tested")
    };
    assert_eq!(counted(&second), all.len() as u64);
    // Nothing is fetched twice; and when the store is away, it is said.
    assert_eq!(counted(&second), all.len() as u64);
    store.set_away(true);
    let away = second.run("mailqos-analytics", &arguments);
    assert_eq!(away.status.code(), Some(1));
    let words = String::from_utf8_lossy(&away.stderr).into_owned();
    assert!(words.contains("s3://bucket/some/lake"), "{words}");
    for text in [words, String::from_utf8_lossy(&refused.stderr).into_owned()] {
        assert!(!text.contains(SECRET));
    }
}
