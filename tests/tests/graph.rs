//! Monitors over Microsoft Graph with the real programs: throttling, expired state, missing consent,
//! other people's mail.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use std::{collections::BTreeSet, time::Duration};

use mailqos_tests::{
    servers::{GraphOptions, GraphServer, INBOX, MailServer, Options, PASSWORD, PROBE},
    setting::{Setting, find_bytes, until, words_of},
};

/// Another mailbox of the tenant.
const OTHER: &str = "ceo@example.com";

/// A setting with the monitor `m365`, which picks up over Graph.
async fn setting(graph: GraphOptions) -> (Setting, MailServer, GraphServer) {
    let mut setting = Setting::new("cloud");
    let users = [PROBE, OTHER].map(|user| (user.to_owned(), PASSWORD.to_owned())).to_vec();
    let options = Options { users, ..Options::default() };
    let server = MailServer::start(options).await.expect("a server");
    let graph = GraphServer::start(&server, graph).await.expect("a Graph");
    let mut monitor = setting.monitor("m365", &server);
    monitor.pickup = setting.add_graph_account("m365", "m365", &graph);
    monitor.more =
        "test_interval = \"1s\"\nmax_round_trip = \"900ms\"\nfolders = [\"INBOX\", \"Junk Email\"]"
            .to_owned();
    setting.add_monitor(&monitor);
    (setting, server, graph)
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_run_through_throttling_and_expired_state_and_touch_nothing_else() {
    // The service takes twenty requests in two seconds; a test has about six.
    let graph =
        GraphOptions { burst: Some((20, Duration::from_secs(2), 1)), ..GraphOptions::default() };
    let (setting, server, graph) = setting(graph).await;
    server.fill(PROBE, 20);
    let probe = setting.start_probe();
    until("ten tests", || setting.settled("m365").len() >= 10).await;
    graph.expire_deltas();
    graph.revoke_tokens();
    graph.throttle("$value", 3, 503, Some(1));
    until("fifteen tests", || setting.settled("m365").len() >= 15).await;
    assert!(probe.stop().success());
    let rows = setting.settled("m365");
    let starts: BTreeSet<_> = rows.iter().map(|row| row.number("started_at")).collect();
    assert_eq!(starts.len(), rows.len(), "each test has one sample");
    let tests = server.accepted().len();
    assert!(rows.len() + 1 >= tests, "{} samples of {tests} tests", rows.len());
    let found = rows.iter().filter(|row| row.outcome() == "ok" || row.outcome() == "late").count();
    assert!(found * 2 > rows.len(), "{found} of {}", rows.len());
    // What is not found is a failure of the service's, never a lost mail.
    for row in &rows {
        assert!(row.outcome() != "lost", "{row:?}");
    }
    assert_eq!(server.foreign(PROBE), 20);
    let (violations, purged) = (graph.violations(), graph.purged());
    assert!(violations.is_empty(), "{violations:?}");
    assert!(purged.iter().all(|subject| subject.contains("mq1:")), "{purged:?}");
    for secret in [&*GraphOptions::default().client_secret, "Graph-Token"] {
        let folder = setting.data();
        assert_eq!(find_bytes(&folder, secret.as_bytes()), None, "{secret}");
        assert!(
            !std::fs::read_to_string(setting.path("probe.log")).expect("a log").contains(secret)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_consent_is_explained_where_people_look() {
    let graph = GraphOptions { grants: Vec::new(), ..GraphOptions::default() };
    let (setting, server, graph) = setting(graph).await;
    let test = setting.run("mailqos-probe", &["test", "m365", "--no-record"]);
    assert!(!test.status.success());
    let words = words_of(&test).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("ErrorAccessDenied") && words.contains("admin consent"), "{words}");
    let check = setting.run("mailqos-probe", &["check", "--connect"]);
    let words = words_of(&check);
    assert!(!check.status.success() && words.contains("ErrorAccessDenied"), "{words}");
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!words.contains("check user and password"), "{words}");
    graph.grant(vec![(PROBE.to_owned(), vec!["Mail.ReadWrite"])]);
    let test = setting.run("mailqos-probe", &["test", "m365", "--no-record"]);
    // The mail of the failed test may still be there; this test finds its own.
    assert!(words_of(&test).contains("login"), "{}", words_of(&test));
    assert!(server.mails(PROBE, INBOX).iter().all(|mail| !mail.foreign));
    let shown = setting.succeed("mailqos-probe", &["show", "m365"]);
    assert!(shown.contains("over Graph") && shown.contains("localhost"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_are_sent_over_graph() {
    let (mut setting, server, graph) = setting(GraphOptions::default()).await;
    let account = setting.add_graph_account("cloud", "m365", &graph);
    let server_keys = account.replace("protocol = \"graph\", ", "").replace(", ", "\n");
    setting.add(&format!(
        "[mail_server.cloud]\nprotocol = \"graph\"\nfrom = \"{PROBE}\"\n{server_keys}\n\
         [action_list.default]\nactions = [{{ email = \"anna@example.net\", mail_server = \"cloud\" }}]"
    ));
    let said = setting.succeed("mailqos-probe", &["actions", "test"]);
    assert!(said.contains('✓') && said.contains("e-mail through cloud"), "{said}");
    let accepted = server.accepted();
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0].to, ["anna@example.net"]);
    assert!(accepted[0].field("Subject").expect("a subject").starts_with("TEST"));
    // Unlike a test mail, it stays among the sent ones.
    until("the copy", || server.mails(PROBE, "Sent Items").len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_is_verified_to_reach_one_mailbox_only() {
    let (setting, _server, graph) = setting(GraphOptions::default()).await;
    let verify = |other: &str| {
        let output = setting.run("mailqos-probe", &["account", "verify", "m365", "--other", other]);
        (output.status.code(), words_of(&output))
    };
    let (code, words) = verify(OTHER);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains(&format!("✓ the application can't read {OTHER}")), "{words}");
    let all = |roles: &[&'static str]| {
        graph.grant(vec![
            (PROBE.to_owned(), vec!["Mail.ReadWrite", "Mail.Send"]),
            (String::new(), roles.to_vec()),
        ]);
    };
    for (role, expected) in [("Mail.Read", "can read"), ("Mail.Send", "can send from")] {
        all(&[role]);
        let (code, words) = verify(OTHER);
        assert_eq!(code, Some(1), "{words}");
        assert!(words.contains(&format!("✗ the application {expected} {OTHER}")), "{words}");
        assert!(words.contains("account scope m365"), "{words}");
    }
    // A mailbox that is not there proves nothing.
    all(&["Mail.Read"]);
    let (code, words) = verify("nobody@example.com");
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("unknown (HTTP 404)"), "{words}");
    assert_eq!(verify(PROBE).0, Some(2));
    let commands = setting.succeed("mailqos-probe", &["account", "scope", "m365"]);
    assert!(commands.contains("-Role 'Application Mail.ReadWrite'"), "{commands}");
    assert!(commands.contains(&GraphOptions::default().client_id), "{commands}");
}
