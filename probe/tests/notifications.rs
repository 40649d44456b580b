//! The messages of `tests/notifications` arrive in place of the test mail, over POP3 and IMAP: none
//! counts as the mail, messages of mail systems are explained, and others stay where they are.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{IN_FILE, load, monitor, text};
use mailqos_model::{Outcome, Sample, Stage};
use mailqos_probe::tester::Tester;
use mailqos_tests::{
    notifications::{Story, stories},
    servers::{INBOX, MailServer, Mishap, Options, PROBE, When},
};
use tokio::task::JoinSet;

/// Number of tests that run at the same time.
const AT_ONCE: usize = 12;

/// Returns the sample of a test whose mail was replaced by this message, and whether the message
/// was left in the mailbox.
async fn told(story: &Story, protocol: &str) -> (Sample, bool) {
    let server = MailServer::start(Options::default()).await.unwrap();
    server.befall(None, Mishap::Story(Box::new(story.clone())), When::Always);
    let port = match protocol {
        "imap" => server.imaps_port(),
        _ => server.pop3s_port(),
    };
    let options = format!(
        r#"max_round_trip = "4s"
check_interval = "200ms"
timeout = "3s"
test_interval = "1m"
horizon = "20s"
smtp = {{ port = {}, tls = "implicit", account = "probe", ca_file = "ca.pem" }}
pickup = {{ protocol = "{protocol}", port = {port}, tls = "implicit", account = "probe", ca_file = "ca.pem" }}"#,
        server.smtps_port(),
    );
    let folder = tempfile::tempdir().unwrap();
    let config = load(folder.path(), &server, &text(IN_FILE, &options));
    let tester = Tester::new(config.clone(), None).await.unwrap();
    let sample = tester.test(monitor(&config)).await.sample;
    tester.shutdown().await;
    let stays = !server.mails(PROBE, INBOX).is_empty();
    (sample, stays)
}

/// Returns the error in that result, if any.
fn fault(story: &Story, sample: &Sample, stays: bool) -> Option<String> {
    let error = sample.error.clone().unwrap_or_default();
    let (kind, status) = story.answer.split_once(' ').unwrap_or((&story.answer, ""));
    let stage = (kind == "failed").then_some(Stage::Bounced);
    let is_right = sample.outcome == Outcome::Lost
        && sample.stage == stage
        && sample.round_trip.is_none()
        && error.contains(status)
        // Messages from persons and their responders are never touched.
        && (stays || matches!(kind, "failed" | "delayed" | "delivered"));
    (!is_right).then(|| format!("{} ({}): {stays} {sample:?}", story.name, story.answer))
}

async fn tell_all(protocol: &'static str) {
    let mut running = JoinSet::new();
    let mut faults = Vec::new();
    for story in stories() {
        if running.len() >= AT_ONCE
            && let Some(done) = running.join_next().await
        {
            faults.extend(done.unwrap());
        }
        running.spawn(async move {
            let (sample, stays) = told(&story, protocol).await;
            fault(&story, &sample, stays)
        });
    }
    while let Some(done) = running.join_next().await {
        faults.extend(done.unwrap());
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_pop3_no_message_about_a_mail_is_taken_for_it() {
    tell_all("pop3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_imap_no_message_about_a_mail_is_taken_for_it() {
    tell_all("imap").await;
}
