//! The mailbox test with embedded servers: its measurements, what it leaves alone, and its errors
//! when something is wrong.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{sync::Arc, time::Duration};

use common::{load, monitor};
use mailqos_config::Config;
use mailqos_model::{Outcome, Sample, Stage};
use mailqos_probe::tester::{TestResult, Tester};
use mailqos_tests::servers::{Fault, Habits, INBOX, MailServer, Options, PROBE, Protocol, When};

/// A server with three foreign mails, and a probe that opens its mailbox.
struct Probe {
    folder: tempfile::TempDir,
    server: MailServer,
    imap: bool,
}

impl Probe {
    async fn new(imap: bool, options: Options) -> Self {
        let server = MailServer::start(options).await.unwrap();
        server.fill(PROBE, 3);
        Self { folder: tempfile::tempdir().unwrap(), server, imap }
    }

    fn protocol(&self) -> Protocol {
        if self.imap { Protocol::Imap } else { Protocol::Pop3 }
    }

    fn config(&self, more: &str) -> Arc<Config> {
        self.config_with("tls = \"implicit\"", more)
    }

    fn config_with(&self, tls: &str, more: &str) -> Arc<Config> {
        let (word, port) = match (self.imap, tls.contains("implicit")) {
            (true, true) => ("imap", self.server.imaps_port()),
            (true, false) => ("imap", self.server.imap_port()),
            (false, true) => ("pop3", self.server.pop3s_port()),
            (false, false) => ("pop3", self.server.pop3_port()),
        };
        let text = format!(
            r#"
site = "here"
[account.probe]
user = "{PROBE}"
password = {{ file = "password" }}
[object.server]
address = "localhost"
[monitor.box]
kind = "mailbox"
object = "server"
test_interval = "1m"
timeout = "1s"
pickup = {{ protocol = "{word}", port = {port}, {tls}, account = "probe", ca_file = "ca.pem" }}
{more}
"#
        );
        load(self.folder.path(), &self.server, &text)
    }

    async fn run(&self, more: &str) -> TestResult {
        run(&self.config(more)).await
    }

    /// Returns the first words of the commands that the server received.
    fn verbs(&self) -> Vec<String> {
        let commands = self.server.commands(self.protocol());
        let verb = |line: &String| {
            let mut words = line.split_whitespace().skip(usize::from(self.imap));
            words.next().unwrap_or_default().to_ascii_uppercase()
        };
        commands.iter().map(verb).collect()
    }
}

async fn run(config: &Arc<Config>) -> TestResult {
    let tester = Tester::new(config.clone(), None).await.unwrap();
    let result = tester.test(monitor(config)).await;
    tester.shutdown().await;
    result
}

fn failed(sample: &Sample) -> (Outcome, Option<Stage>) {
    assert!(sample.round_trip.is_none() && sample.smtp_connect.is_none());
    (sample.outcome, sample.stage)
}

#[tokio::test]
async fn a_mailbox_is_opened_and_listed_and_nothing_in_it_changes() {
    for imap in [false, true] {
        let probe = Probe::new(imap, Options::default()).await;
        let state = || {
            let mails = probe.server.mails(PROBE, INBOX);
            mails.into_iter().map(|mail| (mail.uid, mail.flags)).collect::<Vec<_>>()
        };
        let before = state();
        let TestResult { sample, timeline, .. } = probe.run("").await;
        assert_eq!(failed(&sample), (Outcome::Ok, None), "{:?}", sample.error);
        assert_eq!(sample.kind.as_deref(), Some("mailbox"));
        assert!(
            sample.max_round_trip.is_none()
                && sample.pickups.is_none()
                && sample.pickup_receive.is_none()
        );
        for took in [
            sample.pickup_connect,
            sample.pickup_greeting,
            sample.pickup_login,
            sample.pickup_list,
            sample.pickup_tls,
        ] {
            assert!(took.is_some(), "{sample:?}");
        }
        assert!(sample.pickup_certificate_expires_at.is_some());
        let names: Vec<_> = timeline.phases.iter().map(|phase| phase.name).collect();
        assert_eq!(names, ["connect", "TLS", "greeting", "login", "list"]);
        // Node-RED's e-mail node and PRTG-like checks marked mails as read (node-red-nodes issue
        // 260, nu7hatch/gmail issue 55); some servers do so for any content that is read
        // (isotope-mail issue 205).
        assert_eq!(state(), before);
        let verbs = probe.verbs();
        for verb in ["SELECT", "STORE", "EXPUNGE", "CLOSE", "RETR", "TOP", "DELE", "RSET"] {
            assert!(!verbs.iter().any(|known| known == verb), "{verb} in {verbs:?}");
        }
        assert!(probe.server.accepted().is_empty());
        // Sessions that are not closed count towards the limit of connections (check-mail issue
        // 183).
        assert_eq!(verbs.last().map(String::as_str), Some(if imap { "LOGOUT" } else { "QUIT" }));
    }
}

#[tokio::test]
async fn each_stage_of_a_failure_is_named() {
    for imap in [false, true] {
        let faults = [
            ("GREETING", Fault::Stall, Stage::PickupGreeting),
            ("GREETING", Fault::Close, Stage::PickupGreeting),
            ("LOGIN", Fault::Stall, Stage::PickupLogin),
            ("LOGIN", Fault::CutReply, Stage::PickupLogin),
            (if imap { "SELECT" } else { "UIDL" }, Fault::Stall, Stage::PickupList),
        ];
        for (phase, fault, stage) in faults {
            let probe = Probe::new(imap, Options::default()).await;
            probe.server.inject(probe.protocol(), phase, fault.clone(), When::Always);
            let sample = probe.run("").await.sample;
            assert_eq!(
                failed(&sample),
                (Outcome::PickupFailed, Some(stage)),
                "{imap} {phase} {fault:?}: {:?}",
                sample.error
            );
        }
        let probe = Probe::new(imap, Options::default()).await;
        let config = probe.config("");
        probe.server.refuse(probe.protocol());
        let sample = run(&config).await.sample;
        assert_eq!(failed(&sample), (Outcome::PickupFailed, Some(Stage::PickupConnect)));
    }
}

/// A check that only tests whether the port is open misses this (Uptime Kuma issue 550), and one
/// that continues after a refused login shows a misleading error and locks the account
/// (mcp-email-server pull request 163).
#[tokio::test]
async fn a_wrong_password_is_one_failed_login_until_the_next_test() {
    for imap in [false, true] {
        let probe = Probe::new(imap, Options::default()).await;
        let config = probe.config("");
        common::write(&probe.folder.path().join("password"), "wrong");
        let tester = Tester::new(config.clone(), None).await.unwrap();
        let first = tester.test(monitor(&config)).await.sample;
        assert_eq!(failed(&first), (Outcome::PickupFailed, Some(Stage::PickupLogin)));
        let tries = |verbs: Vec<String>| {
            let is_login = |verb: &&String| {
                matches!(verb.as_str(), "LOGIN" | "AUTHENTICATE" | "AUTH" | "PASS" | "APOP")
            };
            verbs.iter().filter(is_login).count()
        };
        let so_far = tries(probe.verbs());
        let verbs = probe.verbs();
        assert!(
            !verbs.iter().any(|verb| matches!(verb.as_str(), "EXAMINE" | "UIDL" | "LIST")),
            "{verbs:?}"
        );
        // A second test within the interval, for example a manual one, does not try it again.
        let second = tester.test(monitor(&config)).await.sample;
        assert_eq!(failed(&second), (Outcome::PickupFailed, Some(Stage::PickupLogin)));
        assert_eq!(tries(probe.verbs()), so_far, "{:?}", second.error);
        tester.shutdown().await;
    }
}

/// Microsoft 365 accepts the login and then opens no folder: "User is authenticated but not
/// connected" (check-mail issue 183).
#[tokio::test]
async fn a_login_that_opens_nothing_is_not_a_success() {
    let probe = Probe::new(true, Options::default()).await;
    let reply = "A3 BAD User is authenticated but not connected.".to_owned();
    probe.server.inject(Protocol::Imap, "SELECT", Fault::Reply(reply), When::Always);
    let sample = probe.run("").await.sample;
    assert_eq!(failed(&sample), (Outcome::PickupFailed, Some(Stage::PickupList)));
    assert!(sample.pickup_login.is_some());
    let error = sample.error.unwrap();
    assert!(error.contains("authenticated but not connected"), "{error}");
    assert_eq!(probe.verbs().last().map(String::as_str), Some("LOGOUT"));
}

/// The password must not be sent to a server that forbids plaintext logins (check-mail issue 321).
#[tokio::test]
async fn no_password_is_sent_where_logins_are_disabled() {
    let probe = Probe::new(true, Options { plaintext_login: false, ..Options::default() }).await;
    let sample = run(&probe.config_with("tls = \"none\"", "")).await.sample;
    assert_eq!(failed(&sample), (Outcome::PickupFailed, Some(Stage::PickupLogin)));
    let verbs = probe.verbs();
    assert!(
        !verbs.iter().any(|verb| matches!(verb.as_str(), "LOGIN" | "AUTHENTICATE")),
        "{verbs:?}"
    );
    assert!(sample.error.unwrap().contains("starttls"));
    let sample = run(&probe.config_with("tls = \"starttls\"", "")).await.sample;
    assert_eq!(failed(&sample), (Outcome::Ok, None), "{:?}", sample.error);
}

#[tokio::test]
async fn a_missing_folder_fails_the_test_and_is_named_with_a_suggestion() {
    let probe = Probe::new(true, Options::default()).await;
    let sample = probe.run("folders = [\"INBOX\", \"Jnuk\"]").await.sample;
    assert_eq!(failed(&sample), (Outcome::PickupFailed, Some(Stage::PickupList)));
    assert_eq!(sample.folders_missing.as_deref(), Some("Jnuk"));
    let error = sample.error.unwrap();
    assert!(error.contains("\"Jnuk\"") && error.contains("Junk"), "{error}");
}

/// NetEase refuses each folder to clients that have not identified themselves.
#[tokio::test]
async fn a_server_that_requires_the_client_id_receives_it() {
    let imap_habits = Habits { wants_id: true, ..Habits::default() };
    let probe = Probe::new(true, Options { imap_habits, ..Options::default() }).await;
    let sample = probe.run("").await.sample;
    assert_eq!(failed(&sample), (Outcome::Ok, None), "{:?}", sample.error);
}

/// POP3 allows one session at a time per mailbox (RFC 1939, section 3): someone who briefly reads
/// mail is not an outage.
#[tokio::test]
async fn a_mailbox_in_use_is_tried_again_within_the_timeout() {
    let probe = Probe::new(false, Options::default()).await;
    let reply = "-ERR [IN-USE] Do you have another POP session running?".to_owned();
    probe.server.inject(Protocol::Pop3, "LOGIN", Fault::Reply(reply), When::Times(1));
    let config = probe.config("");
    let mut patient = (*config).clone();
    for monitor in patient.monitors.values_mut() {
        if let mailqos_config::Kind::Mailbox(options) = &mut monitor.kind {
            options.pickup.timeout = mailqos_model::Micros::from_secs(4);
        }
    }
    let sample = run(&Arc::new(patient)).await.sample;
    assert_eq!(failed(&sample), (Outcome::Ok, None), "{:?}", sample.error);
}

#[tokio::test]
async fn a_stopped_test_says_nothing_about_the_server() {
    let probe = Probe::new(true, Options::default()).await;
    probe.server.inject(Protocol::Imap, "LOGIN", Fault::Stall, When::Always);
    let config = probe.config("");
    let tester = Tester::new(config.clone(), None).await.unwrap();
    let (result, ()) = tokio::join!(tester.test(monitor(&config)), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        tester.stop().await;
    });
    assert_eq!(failed(&result.sample), (Outcome::NotTested, None));
    tester.shutdown().await;
}
