//! Tests over Microsoft Graph against the embedded service: what is measured, what is touched, and
//! what is reported when something is wrong.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{sync::Arc, time::Duration};

use common::{load, monitor, text, write};
use mailqos_config::Config;
use mailqos_model::{Micros, Outcome, Sample, Stage};
use mailqos_probe::tester::{TestResult, Tester};
use mailqos_tests::servers::{
    APPLICATION, Delays, DeltaTrouble, GraphOptions, GraphServer, INBOX, JUNK, MailServer, Mishap,
    Options, PASSWORD, PROBE, ServerClock, When,
};

/// A probe with one monitor that sends over SMTP and picks up over Graph.
struct Probe {
    folder: tempfile::TempDir,
    server: MailServer,
    graph: GraphServer,
    /// How the application proves who it is.
    proof: &'static str,
}

impl Probe {
    async fn new(options: Options, graph: GraphOptions) -> Self {
        let server = MailServer::start(options).await.expect("server");
        let graph = GraphServer::start(&server, graph).await.expect("Graph");
        let folder = tempfile::tempdir().expect("folder");
        Self { folder, server, graph, proof: "client_secret = { file = \"secret\" }" }
    }

    fn config(&self, change: &[(&str, &str)]) -> Arc<Config> {
        let Self { server, graph, proof, .. } = self;
        let defaults = GraphOptions::default();
        write(&self.folder.path().join("secret"), &defaults.client_secret);
        write(&self.folder.path().join("application.pem"), APPLICATION);
        write(&self.folder.path().join("federated"), &defaults.federated_token);
        write(&self.folder.path().join("probe-password"), PASSWORD);
        let account = format!(
            r#"password = {{ file = "probe-password" }}
[account.m365]
user = "{PROBE}"
[account.m365.oauth]
preset = "microsoft-365"
tenant = "{}"
client_id = "{}"
token_url = "{}"
ca_file = "ca.pem"
{proof}"#,
            defaults.tenant,
            defaults.client_id,
            graph.token_url()
        );
        let options = format!(
            r#"max_round_trip = "3s"
check_interval = "100ms"
timeout = "2s"
test_interval = "1m"
horizon = "10s"
smtp = {{ port = {}, tls = "implicit", account = "probe", ca_file = "ca.pem" }}
pickup = {{ protocol = "graph", server = "localhost", port = {}, account = "m365", ca_file = "ca.pem" }}"#,
            server.smtps_port(),
            graph.port()
        );
        let mut text = text(&account, &options);
        for (from, to) in change {
            assert!(text.contains(from), "{from} is in the configuration");
            text = text.replace(from, to);
        }
        load(self.folder.path(), server, &text)
    }

    async fn run_with(&self, change: &[(&str, &str)]) -> TestResult {
        let config = self.config(change);
        let tester = Tester::new(config.clone(), None).await.expect("tester");
        let result = tester.test(monitor(&config)).await;
        tester.shutdown().await;
        let violations = self.graph.violations();
        assert!(violations.is_empty(), "{violations:?}");
        result
    }

    /// Several tests in a row by one tester.
    async fn run_several(&self, change: &[(&str, &str)], count: usize) -> Vec<Sample> {
        let config = self.config(change);
        let tester = Tester::new(config.clone(), None).await.expect("tester");
        let mut samples = Vec::new();
        for _ in 0..count {
            samples.push(tester.test(monitor(&config)).await.sample);
        }
        tester.shutdown().await;
        samples
    }

    async fn run(&self) -> Sample {
        self.run_with(&[]).await.sample
    }

    fn ours(&self) -> usize {
        self.server.mails(PROBE, INBOX).iter().filter(|mail| !mail.foreign).count()
    }
}

fn transcript(result: &TestResult) -> String {
    let chunks = result.conversations.iter().flat_map(|conversation| &conversation.said);
    chunks.map(|chunk| chunk.text.clone().unwrap_or_default()).collect()
}

fn truth(sample: &Sample, server: &MailServer) {
    assert_eq!(sample.outcome, Outcome::Ok, "{sample:?}");
    let landing = &server.landings()[0];
    let text = String::from_utf8_lossy(&landing.content).into_owned();
    let token = text.split("X-MailQoS-Token: ").nth(1).expect("the field");
    let sent_at = i64::from_str_radix(token.split(':').nth(3).unwrap(), 36).unwrap();
    let truth = landing.at.0 - sent_at;
    let (stated, error) = (sample.round_trip.unwrap().0, sample.round_trip_error.unwrap().0);
    assert!((stated - truth).abs() <= error, "{stated} ± {error}, in truth {truth}");
}

#[tokio::test]
async fn the_true_round_trip_lies_within_the_stated_one_and_nothing_else_is_touched() {
    let options = Options {
        delays: Delays::Fixed(Duration::from_millis(250)),
        clock: ServerClock::off_by(Micros::from_secs(37), 20.0),
        ..Options::default()
    };
    let probe = Probe::new(options, GraphOptions::default()).await;
    probe.server.fill(PROBE, 300);
    let result = probe.run_with(&[]).await;
    let sample = &result.sample;
    truth(sample, &probe.server);
    assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, 300));
    assert_eq!(probe.graph.purged().len(), 1);
    for (name, value) in [
        ("pickup_connect", sample.pickup_connect),
        ("pickup_tcp", sample.pickup_tcp),
        ("pickup_tls", sample.pickup_tls),
        ("pickup_login", sample.pickup_login),
        ("pickup_list", sample.pickup_list),
        ("pickup_receive", sample.pickup_receive),
    ] {
        assert!(value.is_some(), "{name}");
    }
    assert_eq!(sample.folder.as_deref(), Some("INBOX"));
    assert_eq!(sample.pickup_greeting, None);
    let told = transcript(&result);
    assert!(told.contains("Authorization: Bearer (secret)"), "{told}");
    assert!(told.contains("the server's clock is"), "{told}");
    assert!(!told.contains("Graph-Token") && !told.contains("foreign mail"), "{told}");
}

#[tokio::test]
async fn the_first_visit_shows_how_long_the_token_took_and_later_ones_that_it_was_there() {
    let graph = GraphOptions { token_delay: Duration::from_millis(150), ..GraphOptions::default() };
    let probe = Probe::new(Options::default(), graph).await;
    let samples =
        probe.run_several(&[("check_interval = \"100ms\"", "check_interval = \"1s\"")], 2);
    let samples = samples.await;
    let logins: Vec<_> = samples.iter().map(|sample| sample.pickup_login.unwrap()).collect();
    assert!(logins[0] >= Micros::from_millis(150), "{logins:?}");
    assert_eq!(logins[1], Micros::ZERO);
    let cached: Vec<_> = samples.iter().map(|sample| sample.pickup_token_cached).collect();
    assert_eq!(cached, [None, Some(true)]);
    assert_eq!(probe.graph.token_requests().len(), 1);
}

#[tokio::test]
async fn an_application_proves_who_it_is_in_three_ways() {
    for proof in [
        "client_secret = { file = \"secret\" }",
        "certificate = { file = \"application.pem\" }",
        "federated_token_file = \"federated\"",
    ] {
        let mut probe = Probe::new(Options::default(), GraphOptions::default()).await;
        probe.proof = proof;
        let sample = probe.run().await;
        assert_eq!(sample.outcome, Outcome::Ok, "{proof}: {sample:?}");
        let form = probe.graph.token_requests().join("\n");
        assert_eq!(form.contains("client_secret="), proof.starts_with("client_secret"), "{proof}");
    }
    let mut probe = Probe::new(Options::default(), GraphOptions::default()).await;
    probe.proof = "client_secret = { file = \"ca.pem\" }";
    let sample = probe.run().await;
    assert_eq!(sample.outcome, Outcome::NotTested, "{sample:?}");
    let error = sample.error.unwrap();
    assert!(error.contains("AADSTS7000215") && error.contains("use its value"), "{error}");
}

#[tokio::test]
async fn mail_is_found_in_other_folders_and_missing_ones_are_named() {
    let probe = Probe::new(Options::default(), GraphOptions::default()).await;
    probe.server.befall(None, Mishap::Junk, When::Always);
    let folders =
        "horizon = \"10s\"\nfolders = [\"INBOX\", \"Junk Email\", \"Offers\", \"Nowhere\"]";
    let result = probe.run_with(&[("horizon = \"10s\"", folders)]).await;
    let sample = &result.sample;
    assert_eq!((sample.outcome, sample.folder.as_deref()), (Outcome::Ok, Some("Junk Email")));
    assert_eq!(sample.folders_missing.as_deref(), Some("Nowhere"));
    let notes = result.notes.join("\n");
    assert!(notes.contains("\"Nowhere\"") && notes.contains("\"Offers\""), "{notes}");
    assert_eq!(probe.server.mails(PROBE, JUNK).len(), 0);
}

#[tokio::test]
async fn throttling_is_waited_for_and_written_down() {
    for (status, seconds) in [(429, Some(1)), (503, Some(1)), (429, None)] {
        let probe = Probe::new(Options::default(), GraphOptions::default()).await;
        probe.graph.throttle("delta", 1, status, seconds);
        let result = probe.run_with(&[]).await;
        assert_eq!(result.sample.outcome, Outcome::Ok, "{:?}", result.sample);
        let told = transcript(&result);
        assert!(told.contains(&format!("throttled ({status}); waiting 1")), "{told}");
    }
    // Longer than there is time for: no request is made meanwhile.
    let probe = Probe::new(Options::default(), GraphOptions::default()).await;
    probe.graph.throttle("delta", usize::MAX, 429, Some(300));
    let sample = probe.run().await;
    assert_eq!((sample.outcome, sample.stage), (Outcome::PickupFailed, Some(Stage::PickupList)));
    let error = sample.error.unwrap();
    assert!(error.contains("ApplicationThrottled") && error.contains("allowed in"), "{error}");
    assert_eq!(probe.graph.requests().len(), 1, "{:?}", probe.graph.requests());
}

#[tokio::test]
async fn an_expired_delta_query_begins_again() {
    let probe = Probe::new(Options::default(), GraphOptions::default()).await;
    probe.server.fill(PROBE, 3);
    let config = probe.config(&[]);
    let tester = Tester::new(config.clone(), None).await.expect("tester");
    for round in 0..3 {
        probe.graph.expire_deltas();
        probe.graph.touch_all();
        let sample = tester.test(monitor(&config)).await.sample;
        assert_eq!(sample.outcome, Outcome::Ok, "{round}: {sample:?}");
        assert_eq!(sample.duplicates, Some(0));
    }
    tester.shutdown().await;
    let first = |line: &&String| line.contains("delta?$select");
    assert!(probe.graph.requests().iter().filter(first).count() >= 3);
    assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, 3));
}

#[tokio::test]
async fn a_delta_query_that_misses_a_message_does_not_lose_it() {
    let options =
        Options { delays: Delays::Fixed(Duration::from_millis(600)), ..Options::default() };
    let probe = Probe::new(options, GraphOptions::default()).await;
    probe.graph.miss(1);
    let change = [("max_round_trip = \"3s\"", "max_round_trip = \"40s\""), ("10s", "60s")];
    let sample = probe.run_with(&change).await.sample;
    truth(&sample, &probe.server);
    assert_eq!(probe.ours(), 0);
}

#[tokio::test]
async fn refusals_are_explained() {
    let denied = |grants| GraphOptions { grants, ..GraphOptions::default() };
    for (options, gone, expected) in [
        (denied(vec![]), false, "lacks a permission"),
        (denied(vec![("other@example.com".to_owned(), vec!["Mail.ReadWrite"])]), false, "403"),
        (GraphOptions::default(), true, "was deleted"),
    ] {
        let probe = Probe::new(Options::default(), options).await;
        probe.graph.set_gone(PROBE, gone);
        let sample = probe.run().await;
        let state = (sample.outcome, sample.stage);
        assert_eq!(state, (Outcome::PickupFailed, Some(Stage::PickupLogin)), "{sample:?}");
        let error = sample.error.unwrap();
        assert!(error.contains(expected), "{error}");
    }
    // May read and not delete: the mail is found, and stays.
    let probe =
        Probe::new(Options::default(), denied(vec![(PROBE.to_owned(), vec!["Mail.Read"])])).await;
    let sample = probe.run().await;
    assert_eq!((sample.outcome, probe.ours()), (Outcome::Ok, 1), "{sample:?}");
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once() {
    let probe = Probe::new(Options::default(), GraphOptions::default()).await;
    let config = probe.config(&[]);
    let tester = Tester::new(config.clone(), None).await.expect("tester");
    for _ in 0..2 {
        let sample = tester.test(monitor(&config)).await.sample;
        assert_eq!(sample.outcome, Outcome::Ok, "{sample:?}");
        probe.graph.revoke_tokens();
    }
    tester.shutdown().await;
    assert_eq!(probe.graph.token_requests().len(), 2);
}

#[tokio::test]
async fn without_permanent_delete_mails_go_to_deleted_items() {
    let graph = GraphOptions { permanent_delete: false, ..GraphOptions::default() };
    let probe = Probe::new(Options::default(), graph).await;
    let samples = probe.run_several(&[], 2).await;
    assert!(samples.iter().all(|sample| sample.outcome == Outcome::Ok), "{samples:?}");
    assert_eq!((probe.ours(), probe.server.mails(PROBE, "Deleted Items").len()), (0, 2));
}

#[tokio::test]
async fn pages_broken_answers_and_vanished_messages_are_survived() {
    let graph = GraphOptions { page: 7, ..GraphOptions::default() };
    let probe = Probe::new(Options::default(), graph).await;
    probe.server.fill(PROBE, 100);
    probe.graph.refuse("$value", 2, 500, "ErrorInternalServerError", "An internal error occurred.");
    let sample = probe.run().await;
    assert_eq!(sample.outcome, Outcome::Ok, "{sample:?}");
    assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, 100));
    probe.graph.refuse("$value", usize::MAX, 404, "ErrorItemNotFound", "Not found.");
    let sample = probe.run().await;
    assert_eq!(sample.outcome, Outcome::Lost, "{sample:?}");
}

#[tokio::test]
async fn a_mailbox_test_opens_the_folders_and_reads_nothing() {
    let probe = Probe::new(Options::default(), GraphOptions::default()).await;
    probe.server.fill(PROBE, 3);
    let folders = "folders = [\"INBOX\", \"Offers\"]";
    let config = probe.config(&[]);
    let path = config.file.clone();
    let text = std::fs::read_to_string(&path).unwrap();
    let own = ["from =", "to =", "smtp =", "max_round_trip", "check_interval", "horizon"];
    let mut lines: Vec<_> =
        text.lines().filter(|line| !own.iter().any(|key| line.starts_with(key))).collect();
    lines.extend(["kind = \"mailbox\"", folders]);
    let config = load(probe.folder.path(), &probe.server, &lines.join("\n"));
    let tester = Tester::new(config.clone(), None).await.expect("tester");
    let result = tester.test(monitor(&config)).await;
    tester.shutdown().await;
    assert_eq!(result.sample.outcome, Outcome::Ok, "{:?}", result.sample);
    assert!(result.sample.pickup_list.is_some() && result.sample.pickup_login.is_some());
    let requests = probe.graph.requests();
    assert!(requests.iter().all(|line| !line.contains("messages")), "{requests:?}");
}

/// The monitor sends over Graph, too.
fn over_graph(probe: &Probe) -> (String, String) {
    let smtp = format!(
        "smtp = {{ port = {}, tls = \"implicit\", account = \"probe\", ca_file = \"ca.pem\" }}",
        probe.server.smtps_port()
    );
    let graph = format!(
        "smtp = {{ protocol = \"graph\", server = \"localhost\", port = {}, account = \"m365\", ca_file = \"ca.pem\" }}",
        probe.graph.port()
    );
    (smtp, graph)
}

#[tokio::test]
async fn mails_are_sent_over_graph_and_leave_no_copy() {
    let options =
        Options { delays: Delays::Fixed(Duration::from_millis(250)), ..Options::default() };
    let probe = Probe::new(options, GraphOptions::default()).await;
    let (smtp, graph) = over_graph(&probe);
    let sent = "An own mail.\r\n".as_bytes();
    let own =
        [b"From: probe@example.com\r\nSubject: an own mail\r\n\r\n".as_slice(), sent].concat();
    probe.server.put(PROBE, "Sent Items", [own]);
    let change = [(smtp.as_str(), graph.as_str())];
    let samples = probe.run_several(&change, 2).await;
    for sample in &samples {
        assert_eq!(sample.outcome, Outcome::Ok, "{sample:?}");
        assert_eq!(sample.smtp_reply_code, Some(202));
        assert!(sample.smtp_data.is_some() && sample.smtp_send.is_some(), "{sample:?}");
        assert_eq!((sample.smtp_greeting, sample.smtp_envelope), (None, None));
    }
    truth(&samples[0], &probe.server);
    // The field with the token survives, since the mailbox was taught it.
    assert!(probe.server.landings().iter().all(|mail| mail.field("X-MailQoS-Token").is_some()));
    assert!(probe.server.landings().iter().all(|mail| mail.field("Auto-Submitted").is_none()));
    let patches = probe.graph.requests().iter().filter(|line| line.starts_with("PATCH")).count();
    assert_eq!(patches, 1);
    // The copies are gone; what the mailbox's owner sent is still there.
    let subjects: Vec<_> = ["Sent Items", "Drafts"]
        .iter()
        .flat_map(|folder| probe.server.mails(PROBE, folder))
        .map(|mail| String::from_utf8_lossy(&mail.bytes).contains("an own mail"))
        .collect();
    assert_eq!(subjects, [true]);
    let violations = probe.graph.violations();
    assert!(violations.is_empty(), "{violations:?}");
}

#[tokio::test]
async fn copies_that_a_killed_probe_left_are_deleted_at_the_next_start() {
    let probe = Probe::new(Options::default(), GraphOptions::default()).await;
    let (smtp, graph) = over_graph(&probe);
    let change = [(smtp.as_str(), graph.as_str())];
    // A mail of an earlier process, as its copy would be.
    let sample = probe.run().await;
    assert_eq!(sample.outcome, Outcome::Ok, "{sample:?}");
    let mine = probe.server.landings()[0].content.to_vec();
    let text = String::from_utf8_lossy(&mine).into_owned();
    let forwarded = format!("From: anna@example.com\r\nSubject: Fwd: mq1:\r\n\r\n{text}");
    let forged = text.replace("mq1:here:", "mq1:here:x");
    assert_ne!(forged, text);
    let others = [forwarded.into_bytes(), forged.into_bytes()];
    probe.server.put(PROBE, "Sent Items", others.iter().chain([&mine]).cloned());
    let samples = probe.run_several(&change, 1).await;
    assert_eq!(samples[0].outcome, Outcome::Ok, "{samples:?}");
    let left: Vec<Vec<u8>> = probe
        .server
        .mails(PROBE, "Sent Items")
        .into_iter()
        .map(|mail| mail.bytes.to_vec())
        .collect();
    for other in &others {
        assert!(left.contains(other), "{}", String::from_utf8_lossy(other));
    }
    assert!(!left.contains(&mine), "the copy is still there");
}

/// As reported in microsoft-graph-docs-contrib#3079: too large messages are answered with 200.
#[tokio::test]
async fn an_answer_that_accepts_nothing_is_a_failure() {
    let probe = Probe::new(Options::default(), GraphOptions::default()).await;
    let (smtp, graph) = over_graph(&probe);
    probe.graph.refuse("/send", 1, 200, "", "");
    let sample = probe.run_with(&[(smtp.as_str(), graph.as_str())]).await.sample;
    assert_eq!((sample.outcome, sample.stage), (Outcome::SmtpFailed, Some(Stage::SmtpData)));
    assert!(sample.error.unwrap().contains("HTTP 200 instead of 202"));
}

#[tokio::test]
async fn failures_of_sending_over_graph_are_explained() {
    let denied = vec![(PROBE.to_owned(), vec!["Mail.ReadWrite"])];
    let probe =
        Probe::new(Options::default(), GraphOptions { grants: denied, ..GraphOptions::default() })
            .await;
    let (smtp, graph) = over_graph(&probe);
    let change = [(smtp.as_str(), graph.as_str())];
    let sample = probe.run_with(&change).await.sample;
    let state = (sample.outcome, sample.stage, sample.smtp_reply_code);
    assert_eq!(state, (Outcome::SmtpFailed, Some(Stage::SmtpAuth), Some(403)), "{sample:?}");
    // The draft that could not be sent is gone.
    assert_eq!(probe.server.mails(PROBE, "Drafts").len(), 0);

    let probe = Probe::new(Options::default(), GraphOptions::default()).await;
    let (smtp, graph) = over_graph(&probe);
    let change = [(smtp.as_str(), graph.as_str())];
    probe.graph.throttle("POST /v1.0/users", 1, 429, Some(1));
    let sample = probe.run_with(&change).await.sample;
    assert_eq!(sample.outcome, Outcome::Ok, "{sample:?}");
    probe.graph.refuse("/send", 1, 503, "serviceNotAvailable", "Try again later.");
    let sample = probe.run_with(&change).await.sample;
    assert_eq!(sample.outcome, Outcome::Ok, "{sample:?}");
    probe.graph.refuse("/messages", usize::MAX, 403, "ErrorSendAsDenied", "No right to send.");
    let sample = probe.run_with(&change).await.sample;
    assert_eq!((sample.outcome, sample.stage), (Outcome::SmtpFailed, Some(Stage::SmtpData)));
    assert!(sample.error.unwrap().contains("may not send as this address"));
}

/// As reported: microsoft-graph-docs#6785, msgraph-sdk-dotnet#3082, microsoft-graph-docs#2153 and
/// #5288, microsoft-graph-docs-contrib#106.
#[tokio::test]
async fn broken_delta_queries_lose_no_mail() {
    for trouble in [
        DeltaTrouble::Twice,
        DeltaTrouble::Loop,
        DeltaTrouble::NoLink,
        DeltaTrouble::Slow,
        DeltaTrouble::Cut,
    ] {
        let probe = Probe::new(Options::default(), GraphOptions::default()).await;
        probe.server.fill(PROBE, 80);
        probe.graph.set_trouble(trouble);
        let change = [("max_round_trip = \"3s\"", "max_round_trip = \"8s\""), ("10s", "20s")];
        let sample = probe.run_with(&change).await.sample;
        truth(&sample, &probe.server);
        assert_eq!(sample.duplicates, Some(0), "{trouble:?}");
        assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, 80), "{trouble:?}");
        let count = probe.graph.requests().len();
        assert!(count < 400, "{trouble:?}: {count} requests");
    }
}

/// Several monitors test one mailbox, together as often as a monitor with one test per hour does in a
/// month, while the service throttles, forgets the state of delta queries, revokes tokens and fails.
/// Tests follow each other without waiting for the next hour; everything else is as in operation.
/// `MAILQOS_GRAPH_TESTS` sets another number of tests, for long runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_month_of_tests_through_throttling_loses_no_sample_and_touches_no_foreign_mail() {
    const MONITORS: usize = 8;
    const TESTS: usize = 30 * 24;
    let times = std::env::var("MAILQOS_GRAPH_TESTS").ok().and_then(|text| text.parse().ok());
    let times = times.unwrap_or(TESTS).div_ceil(MONITORS);
    let options = GraphOptions {
        burst: Some((60, Duration::from_secs(1), 1)),
        token_life: 5,
        ..GraphOptions::default()
    };
    let probe = Probe::new(Options::default(), options).await;
    probe.server.fill(PROBE, 50);
    let config = probe
        .config(&[("max_round_trip = \"3s\"", "max_round_trip = \"10s\""), ("10s\"", "60s\"")]);
    let text = std::fs::read_to_string(&config.file).unwrap();
    let (head, one) = text.split_at(text.find("[monitor.mail]").unwrap());
    let all: String = (0..MONITORS)
        .map(|number| one.replace("monitor.mail", &format!("monitor.mail-{number}")))
        .collect();
    let config = load(probe.folder.path(), &probe.server, &format!("{head}{all}"));
    let tester = Arc::new(Tester::new(config.clone(), None).await.expect("tester"));
    let mut tasks = tokio::task::JoinSet::new();
    for monitor in config.monitors.values() {
        let (tester, monitor) = (tester.clone(), monitor.clone());
        tasks.spawn(async move {
            let mut samples = Vec::new();
            for _ in 0..times {
                samples.push(tester.test(&monitor).await.sample);
            }
            samples
        });
    }
    let mut samples = Vec::new();
    let mut round = 0;
    while !tasks.is_empty() {
        tokio::select! {
            Some(done) = tasks.join_next() => samples.extend(done.unwrap()),
            () = tokio::time::sleep(Duration::from_secs(2)) => {
                round += 1;
                match round % 5 {
                    0 => probe.graph.expire_deltas(),
                    4 => probe.graph.throttle("delta", 2, 429, Some(1)),
                    1 => probe.graph.touch_all(),
                    2 => probe.graph.throttle("$value", 1, 503, None),
                    _ => probe.graph.refuse("delta", 1, 500, "ErrorInternalServerError", "No."),
                }
            }
        }
    }
    tester.shutdown().await;
    assert_eq!(samples.len(), MONITORS * times);
    assert!(probe.graph.throttled() > 2, "{} throttled", probe.graph.throttled());
    let lost = samples.iter().filter(|sample| sample.outcome == Outcome::Lost).count();
    assert_eq!(lost, 0, "{samples:?}");
    let found = |sample: &&Sample| matches!(sample.outcome, Outcome::Ok | Outcome::Late);
    let found = samples.iter().filter(found).count();
    assert!(found * 10 >= samples.len() * 9, "{found} of {}", samples.len());
    assert_eq!(probe.server.foreign(PROBE), 50);
    let (violations, purged) = (probe.graph.violations(), probe.graph.purged());
    assert!(violations.is_empty(), "{violations:?}");
    assert!(purged.iter().all(|subject| subject.contains("mq1:")), "{purged:?}");
    assert!(samples.iter().all(|sample| sample.duplicates.unwrap_or(0) == 0));
}
