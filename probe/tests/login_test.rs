//! Every login method over every protocol, with embedded servers.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::sync::Arc;

use common::{IN_FILE, load, monitor, text, write};
use mailqos_config::Config;
use mailqos_model::{Outcome, Sample, Stage};
use mailqos_probe::tester::Tester;
use mailqos_tests::servers::{MailServer, Options, PROBE, Protocol, TokenBook, TokenServer};

/// A setting with one mail server.
struct Probe {
    folder: tempfile::TempDir,
    server: MailServer,
    /// Further keys of the account.
    account: String,
}

impl Probe {
    async fn new(mechanisms: &[&str], options: Options) -> Self {
        let options = Options {
            mechanisms: mechanisms.iter().map(|name| (*name).to_owned()).collect(),
            ..options
        };
        Self {
            folder: tempfile::tempdir().expect("folder"),
            server: MailServer::start(options).await.expect("server"),
            account: IN_FILE.to_owned(),
        }
    }

    fn config(&self, protocol: &str) -> Arc<Config> {
        let port = match protocol {
            "imap" => self.server.imaps_port(),
            _ => self.server.pop3s_port(),
        };
        let options = format!(
            r#"max_round_trip = "3s"
check_interval = "100ms"
timeout = "2s"
horizon = "10s"
idle = false
smtp = {{ port = {}, tls = "implicit", account = "probe", ca_file = "ca.pem" }}
pickup = {{ protocol = "{protocol}", port = {port}, tls = "implicit", account = "probe", ca_file = "ca.pem" }}"#,
            self.server.smtps_port(),
        );
        load(self.folder.path(), &self.server, &text(&self.account, &options))
    }

    /// Runs consecutive tests with one tester.
    async fn run(&self, protocol: &str, count: usize) -> Vec<Sample> {
        let config = self.config(protocol);
        let tester = Tester::new(config.clone(), None).await.expect("tester");
        let mut samples = Vec::new();
        for _ in 0..count {
            samples.push(tester.test(monitor(&config)).await.sample);
        }
        tester.shutdown().await;
        // Each run represents a separate process.
        config.accounts.values().for_each(mailqos_mail::forget);
        samples
    }

    /// Returns the commands of logins, without what follows the mechanism's name.
    fn logins(&self, protocol: Protocol) -> Vec<String> {
        let commands = self.server.commands(protocol);
        let verb = |word: &str| matches!(word, "AUTH" | "AUTHENTICATE" | "USER" | "APOP" | "LOGIN");
        commands
            .iter()
            .filter_map(|line| {
                let mut words = line.split(' ').skip_while(|word| !verb(word));
                let word = words.next()?;
                let mechanism = words.next().filter(|_| word.starts_with("AUTH"));
                Some(mechanism.unwrap_or(word).to_owned())
            })
            .collect()
    }
}

fn protocol(name: &str) -> Protocol {
    if name == "imap" { Protocol::Imap } else { Protocol::Pop3 }
}

#[tokio::test]
async fn each_mechanism_with_a_password_opens_each_server() {
    for (mechanisms, expected) in [
        (&["LOGIN", "PLAIN", "SCRAM-SHA-256", "GSSAPI"][..], "SCRAM-SHA-256"),
        (&["LOGIN", "PLAIN"], "PLAIN"),
        (&["LOGIN"], "LOGIN"),
    ] {
        for pickup in ["pop3", "imap"] {
            let probe = Probe::new(mechanisms, Options::default()).await;
            let samples = probe.run(pickup, 1).await;
            assert_eq!(samples[0].outcome, Outcome::Ok, "{expected} {pickup}: {samples:?}");
            assert_eq!(probe.logins(Protocol::Smtp), [expected], "SMTP");
            let logins = probe.logins(protocol(pickup));
            // The protocols' own commands precede the obsolete LOGIN.
            let own = if pickup == "imap" { "LOGIN" } else { "USER" };
            let expected = if expected == "LOGIN" { own } else { expected };
            assert!(logins.iter().all(|login| login == expected), "{pickup}: {logins:?}");
        }
    }
}

#[tokio::test]
async fn a_mechanism_can_be_asked_for() {
    for mechanism in ["LOGIN", "PLAIN", "SCRAM-SHA-256"] {
        for pickup in ["pop3", "imap"] {
            let mut probe =
                Probe::new(&["LOGIN", "PLAIN", "SCRAM-SHA-256"], Options::default()).await;
            probe.account += &format!("\nmechanisms = [\"{mechanism}\"]");
            let samples = probe.run(pickup, 1).await;
            assert_eq!(samples[0].outcome, Outcome::Ok, "{mechanism} {pickup}: {samples:?}");
            for server in [Protocol::Smtp, protocol(pickup)] {
                let logins = probe.logins(server);
                assert!(
                    !logins.is_empty() && logins.iter().all(|login| login == mechanism),
                    "{logins:?}"
                );
            }
            let dialogue = probe.server.commands(protocol(pickup)).join("\n");
            if pickup == "imap" {
                assert!(dialogue.contains(&format!("AUTHENTICATE {mechanism}")), "{dialogue}");
            }
        }
    }
}

#[tokio::test]
async fn apop_is_used_if_nothing_else_is_offered() {
    let options = Options {
        pop3_without: vec!["SASL".to_owned(), "USER".to_owned(), "PASS".to_owned()],
        ..Options::default()
    };
    let probe = Probe::new(&["PLAIN"], options).await;
    let samples = probe.run("pop3", 1).await;
    assert_eq!(samples[0].outcome, Outcome::Ok, "{samples:?}");
    assert_eq!(probe.logins(Protocol::Pop3).last().map(String::as_str), Some("APOP"));
}

#[tokio::test]
async fn a_mechanism_that_only_seems_to_be_there_is_passed_over_from_then_on() {
    for pickup in ["pop3", "imap"] {
        let options =
            Options { broken_mechanisms: vec!["SCRAM-SHA-256".to_owned()], ..Options::default() };
        let probe = Probe::new(&["PLAIN", "SCRAM-SHA-256"], options).await;
        let samples = probe.run(pickup, 2).await;
        assert!(
            samples.iter().all(|sample| sample.outcome == Outcome::Ok),
            "{pickup}: {samples:?}"
        );
        assert_eq!(probe.logins(Protocol::Smtp), ["SCRAM-SHA-256", "PLAIN", "PLAIN"]);
        let logins = probe.logins(protocol(pickup));
        assert_eq!(logins[..2], ["SCRAM-SHA-256", "PLAIN"], "{pickup}");
        assert!(logins[2..].iter().all(|login| login == "PLAIN"), "{pickup}: {logins:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    for mechanism in ["SCRAM-SHA-256", "PLAIN"] {
        let mut probe = Probe::new(&["LOGIN", "PLAIN", "SCRAM-SHA-256"], Options::default()).await;
        if mechanism == "PLAIN" {
            probe = Probe::new(&["LOGIN", "PLAIN"], Options::default()).await;
        }
        probe.account = "password = { command = [\"echo\", \"wrong\"] }".to_owned();
        let samples = probe.run("pop3", 1).await;
        assert_eq!(
            (samples[0].outcome, samples[0].stage),
            (Outcome::SmtpFailed, Some(Stage::SmtpAuth)),
            "{samples:?}"
        );
        assert_eq!(probe.logins(Protocol::Smtp), [mechanism]);
        let error = samples[0].error.clone().unwrap();
        assert!(error.contains("535 5.7.8"), "{error}");
        assert_eq!(error.contains("invalid-proof"), mechanism == "SCRAM-SHA-256", "{error}");
    }
}

/// Returns a probe whose account gets its tokens from an embedded token server.
async fn with_tokens(mechanisms: &[&str], refresh_token: &str) -> (Probe, TokenServer, TokenBook) {
    let tokens = TokenBook::default();
    let options = Options { tokens: tokens.clone(), ..Options::default() };
    let mut probe = Probe::new(mechanisms, options).await;
    let server = TokenServer::start(&tokens, PROBE, "client-secret-1", refresh_token).await;
    let server = server.expect("a token server");
    write(&probe.folder.path().join("client"), "client-secret-1\n");
    write(&probe.folder.path().join("refresh"), refresh_token);
    let refresh =
        if refresh_token.is_empty() { "" } else { ", refresh_token = { file = \"refresh\" }" };
    probe.account = format!(
        "oauth = {{ token_url = \"{}\", client_id = \"app\", client_secret = {{ file = \"client\" }}, scope = \"mail\"{refresh} }}",
        server.url()
    );
    (probe, server, tokens)
}

#[tokio::test]
async fn a_token_opens_each_server_by_each_mechanism() {
    for mechanism in ["XOAUTH2", "OAUTHBEARER"] {
        for pickup in ["pop3", "imap"] {
            let (probe, tokens, _) = with_tokens(&["PLAIN", mechanism], "").await;
            let samples = probe.run(pickup, 2).await;
            assert!(
                samples.iter().all(|sample| sample.outcome == Outcome::Ok),
                "{mechanism} {pickup}: {samples:?}"
            );
            for server in [Protocol::Smtp, protocol(pickup)] {
                let logins = probe.logins(server);
                assert!(
                    !logins.is_empty() && logins.iter().all(|login| login == mechanism),
                    "{logins:?}"
                );
            }
            let requests = tokens.requests();
            assert_eq!(requests.len(), 1, "one token for all: {requests:?}");
            assert!(
                requests[0].contains("grant_type=client_credentials")
                    && requests[0].contains("scope=mail"),
                "{requests:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_rejected_token_is_replaced_once() {
    for mechanism in ["XOAUTH2", "OAUTHBEARER"] {
        for pickup in ["pop3", "imap"] {
            let (probe, tokens, book) = with_tokens(&[mechanism], "").await;
            let config = probe.config(pickup);
            let tester = Tester::new(config.clone(), None).await.expect("tester");
            assert_eq!(tester.test(monitor(&config)).await.sample.outcome, Outcome::Ok);
            book.revoke_all();
            let sample = tester.test(monitor(&config)).await.sample;
            assert_eq!(sample.outcome, Outcome::Ok, "{mechanism} {pickup}: {sample:?}");
            assert_eq!(tokens.requests().len(), 2, "{mechanism} {pickup}");
            tester.shutdown().await;
        }
    }
    // A token server whose tokens are not accepted: two of them are tried, and then no more for a
    // while.
    let (probe, tokens, _) = with_tokens(&["XOAUTH2"], "").await;
    let account = probe.account.clone();
    let nobody =
        TokenServer::start(&TokenBook::default(), PROBE, "client-secret-1", "").await.unwrap();
    let probe = Probe { account: account.replace(&tokens.url(), &nobody.url()), ..probe };
    let samples = probe.run("pop3", 3).await;
    let error = samples[2].error.clone().unwrap();
    assert!(
        error.contains("535 5.7.8") && error.contains("the token was rejected (status 401)"),
        "{error}"
    );
    assert!(nobody.requests().len() <= 2, "{:?}", nobody.requests());
}

#[tokio::test]
async fn a_rotated_refresh_token_outlives_a_restart() {
    let (probe, tokens, _) = with_tokens(&["XOAUTH2"], "first-refresh-token").await;
    for life in 1..=3 {
        let samples = probe.run("imap", 1).await;
        assert_eq!(samples[0].outcome, Outcome::Ok, "life {life}: {samples:?}");
    }
    let requests = tokens.requests();
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert!(requests[0].contains("refresh_token=first-refresh-token"), "{requests:?}");
    assert!(requests[2].contains("refresh_token=Rotated-Refresh-2-5Tz"), "{requests:?}");
}

#[tokio::test]
async fn a_token_server_that_refuses_is_explained() {
    let (probe, tokens, _) = with_tokens(&["XOAUTH2"], "").await;
    tokens.refuse(Some(
        r#"{"error":"invalid_client","error_description":"AADSTS7000222: The provided client secret keys are expired. client-secret-1"}"#,
    ));
    let samples = probe.run("pop3", 1).await;
    let error = samples[0].error.clone().unwrap();
    assert_eq!(samples[0].outcome, Outcome::NotTested, "{error}");
    assert!(error.contains("the client secret has expired"), "{error}");
    assert!(!error.contains("client-secret-1"), "{error}");
    tokens.refuse(Some("<html>no JSON</html>"));
    let samples = probe.run("pop3", 1).await;
    let error = samples[0].error.clone().unwrap();
    assert!(error.contains("check token_url"), "{error}");
}
