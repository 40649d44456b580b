//! Changes made in the web console become events in the lake, as soon as a probe runs.

#![cfg(unix)]
#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use mailqos_tests::{
    console::Server,
    servers::{MailServer, Options},
    setting::{Setting, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_the_console_become_events_once_a_probe_runs() {
    let server = MailServer::start(Options::default()).await.unwrap();
    let mut setting = Setting::new("watched");
    let monitor = setting.monitor("mail", &server);
    setting.add_monitor(&monitor);
    let serve = || {
        let mut command = setting.command("mailqos-analytics");
        let listen = ["serve", "--listen", "127.0.0.1:0", "--no-schedule"];
        Server::start(command.args(listen), &setting.path("console.log"))
    };
    // No probe runs yet: the changes wait, even for the next start of the console.
    let console = serve();
    let mut admin = console.administrator();
    console.user(&mut admin, "anna", "operator", "");
    assert!(console.stop().success());
    let _probe = setting.start_probe();
    let console = serve();
    let changes = || {
        let arguments = ["log", "--kind", "console_change", "--format", "json"];
        let log = setting.succeed("mailqos-probe", &arguments);
        let parse = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
        log.lines().map(parse).collect::<Vec<_>>()
    };
    until("three changes", || changes().len() >= 3).await;
    // A console that starts again sends nothing twice.
    assert!(console.stop().success());
    let console = serve();
    let mut client = console.client();
    client.sign_in("anna", mailqos_tests::console::PASSWORD);
    let fields = [("action", "add-token"), ("name", "bots"), ("role", "viewer")];
    client.send_form("/account", "/account", &fields);
    until("a new token", || changes().iter().any(|change| is(change, "token_added"))).await;
    let changes = changes();
    for (action, by) in [("user_added", "admin"), ("password_set", "anna"), ("token_added", "anna")]
    {
        let found: Vec<_> = changes.iter().filter(|change| is(change, action)).collect();
        let expected = if action == "password_set" { 2 } else { 1 };
        assert_eq!(found.len(), expected, "{action}: {changes:?}");
        assert!(found.iter().any(|change| change["actor"] == by), "{action}: {found:?}");
    }
    assert!(!changes.iter().any(|change| is(change, "signed_in")), "{changes:?}");
}

fn is(change: &serde_json::Value, action: &str) -> bool {
    change["text"].as_str().is_some_and(|text| text.starts_with(action))
}
