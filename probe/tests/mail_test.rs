//! The mail test with embedded servers: its measurements, and its errors when something is wrong.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{sync::Arc, time::Duration};

use common::{IN_FILE, load, monitor, text, write};
use mailqos_config::Config;
use mailqos_lake::{day_path, read_day};
use mailqos_model::{Micros, Outcome, Sample, Stage, UtcMicros};
use mailqos_probe::{
    mail_test::token::{SigningKey, Token},
    record::{InFlight, Recorder},
    tester::{TestResult, Tester},
};
use mailqos_tests::servers::{
    Certificate as Shown, Delays, Fault, INBOX, MailServer, Mishap, Options, PASSWORD, PROBE,
    Protocol, ServerClock, When,
};

/// A probe with one monitor named `mail`; `change` is added after the monitor's lines.
struct Probe {
    folder: tempfile::TempDir,
    server: MailServer,
    smtp: (u16, &'static str),
    pickup: (u16, &'static str),
    protocol: &'static str,
}

impl Probe {
    async fn new(options: Options) -> Self {
        let server = MailServer::start(options).await.expect("server");
        Self {
            folder: tempfile::tempdir().expect("folder"),
            smtp: (server.smtps_port(), "implicit"),
            pickup: (server.pop3s_port(), "implicit"),
            protocol: "pop3",
            server,
        }
    }

    async fn over_imap(options: Options) -> Self {
        let mut probe = Self::new(options).await;
        probe.pickup.0 = probe.server.imaps_port();
        probe.protocol = "imap";
        probe
    }

    async fn over(imap: bool, options: Options) -> Self {
        if imap { Self::over_imap(options).await } else { Self::new(options).await }
    }

    fn config(&self, change: &[(&str, &str)]) -> Arc<Config> {
        let (smtp, pickup) = (self.smtp, self.pickup);
        let options = format!(
            r#"max_round_trip = "3s"
check_interval = "100ms"
timeout = "1s"
test_interval = "1m"
horizon = "10s"
smtp = {{ port = {}, tls = "{}", account = "probe", ca_file = "ca.pem" }}
pickup = {{ protocol = "{}", port = {}, tls = "{}", account = "probe", ca_file = "ca.pem" }}"#,
            smtp.0, smtp.1, self.protocol, pickup.0, pickup.1
        );
        let mut text = text(IN_FILE, &options);
        for (from, to) in change {
            assert!(text.contains(from), "{from} is in the configuration");
            text = text.replace(from, to);
        }
        load(self.folder.path(), &self.server, &text)
    }

    async fn run_with(&self, change: &[(&str, &str)]) -> TestResult {
        let config = self.config(change);
        let tester = Tester::new(config.clone(), None).await.expect("tester");
        let result = tester.test(monitor(&config)).await;
        // The deletion counts when the session has ended.
        tokio::time::timeout(Duration::from_secs(1), async {
            while result.sample.outcome == Outcome::Ok
                && self.server.mails(PROBE, INBOX).iter().any(|mail| !mail.foreign)
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .ok();
        tester.shutdown().await;
        result
    }

    /// Runs several consecutive tests with one tester, which learns.
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

fn assert_true(sample: &Sample, server: &MailServer) {
    assert_eq!(sample.outcome, Outcome::Ok, "{sample:?}");
    let landing = &server.landings()[0];
    let text = String::from_utf8_lossy(&landing.content).into_owned();
    let token = text.split("X-MailQoS-Token: ").nth(1).expect("the field");
    let sent_at =
        i64::from_str_radix(token.split(':').nth(3).expect("sent_at"), 36).expect("base 36");
    let truth = landing.at.0 - sent_at;
    let (stated, error) =
        (sample.round_trip.expect("round trip").0, sample.round_trip_error.expect("error").0);
    assert!((stated - truth).abs() <= error, "{stated} ± {error}, in truth {truth}");
}

#[tokio::test]
async fn the_true_round_trip_lies_within_what_is_stated() {
    for (smtp, pickup) in [("implicit", "implicit"), ("starttls", "starttls"), ("none", "none")] {
        let mut probe = Probe::new(Options {
            delays: Delays::Fixed(Duration::from_millis(250)),
            plaintext_login: true,
            ..Options::default()
        })
        .await;
        if smtp != "implicit" {
            probe.smtp = (probe.server.smtp_port(), smtp);
            probe.pickup = (probe.server.pop3_port(), pickup);
        }
        probe.server.fill(PROBE, 10);
        let sample = probe.run().await;
        assert_true(&sample, &probe.server);
        assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, 10));
        for (name, value) in [
            ("smtp_connect", sample.smtp_connect),
            ("smtp_send", sample.smtp_send),
            ("smtp_auth", sample.smtp_auth),
            ("smtp_greeting", sample.smtp_greeting),
            ("smtp_ehlo", sample.smtp_ehlo),
            ("smtp_envelope", sample.smtp_envelope),
            ("smtp_data", sample.smtp_data),
            ("pickup_connect", sample.pickup_connect),
            ("pickup_login", sample.pickup_login),
            ("pickup_list", sample.pickup_list),
            ("pickup_receive", sample.pickup_receive),
        ] {
            assert!(value.is_some_and(|value| value > Micros::ZERO), "{smtp}: {name} {value:?}");
        }
        assert_eq!(sample.smtp_tls.is_some(), smtp != "none");
        assert_eq!(sample.smtp_reply_code, Some(250));
        let hops = sample.hops.as_deref().expect("hops");
        assert_eq!(hops.len(), 2, "{hops:?}");
        assert!(
            hops.iter()
                .all(|hop| hop.by.as_deref() == Some("mail.example.com") && hop.at.is_some()),
            "{hops:?}"
        );
        let version = (smtp != "none").then(|| "TLSv1.3".to_owned());
        assert_eq!((&sample.smtp_tls_version, &sample.pickup_tls_version), (&version, &version));
        assert_eq!(sample.pickup_certificate_expires_at.is_some(), smtp != "none");
    }
}

#[tokio::test]
async fn servers_that_lack_commands_will_do() {
    for lacks in
        [&["CAPA"][..], &["UIDL"], &["TOP"], &["CAPA", "UIDL", "TOP", "SASL", "APOP", "PIPELINING"]]
    {
        let probe = Probe::new(Options {
            pop3_without: lacks.iter().map(|lack| (*lack).to_owned()).collect(),
            ..Options::default()
        })
        .await;
        probe.server.fill(PROBE, 5);
        let sample = probe.run().await;
        assert_true(&sample, &probe.server);
        assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, 5), "without {lacks:?}");
    }
}

#[tokio::test]
async fn smtp_failures_are_named_by_their_stage() {
    use Fault::*;
    let cases: Vec<(&str, Fault, Stage, &str)> = vec![
        ("TLS", Certificate(Shown::Expired), Stage::SmtpTls, "expired"),
        (
            "TLS",
            Certificate(Shown::SelfSigned),
            Stage::SmtpTls,
            "is a self-signed CA certificate; pin it with fingerprint",
        ),
        ("TLS", Certificate(Shown::Untrusted), Stage::SmtpTls, "or name your CA with ca_file"),
        ("TLS", Certificate(Shown::WrongName), Stage::SmtpTls, "not for the name localhost"),
        ("TLS", Stall, Stage::SmtpTls, "1s"),
        ("TLS", Close, Stage::SmtpTls, "closed"),
        ("GREETING", Stall, Stage::SmtpGreeting, "no answer within 1s"),
        ("GREETING", Close, Stage::SmtpGreeting, "closed"),
        (
            "GREETING",
            Reply("554 5.3.2 no mail today".into()),
            Stage::SmtpGreeting,
            "554 5.3.2 no mail today",
        ),
        ("GREETING", Garbage, Stage::SmtpGreeting, ""),
        ("GREETING", Endless(10_000_000), Stage::SmtpGreeting, "4096 bytes"),
        ("EHLO", Reply("421 4.3.2 too busy".into()), Stage::SmtpGreeting, "421 4.3.2 too busy"),
        ("AUTH", Reply("535 5.7.8 wrong".into()), Stage::SmtpAuth, "535 5.7.8 wrong"),
        ("AUTH", Stall, Stage::SmtpAuth, "no answer"),
        ("MAIL", Reply("550 5.7.1 not you".into()), Stage::SmtpRcpt, "550 5.7.1 not you"),
        ("RCPT", Reply("550 5.1.1 nobody".into()), Stage::SmtpRcpt, "550 5.1.1 nobody"),
        ("RCPT", CutReply, Stage::SmtpRcpt, "closed"),
        ("DATA", Reply("554 5.3.0 no".into()), Stage::SmtpData, "554 5.3.0 no"),
        ("CONTENT", Reply("552 5.3.4 too big".into()), Stage::SmtpData, "552 5.3.4 too big"),
        ("CONTENT", Endless(10_000_000), Stage::SmtpData, "4096 bytes"),
    ];
    for (phase, fault, stage, says) in cases {
        let probe = Probe::new(Options::default()).await;
        probe.server.inject(Protocol::Smtp, phase, fault.clone(), When::Always);
        let sample = probe.run().await;
        let error = sample.error.clone().unwrap_or_default();
        assert_eq!(
            (sample.outcome, sample.stage),
            (Outcome::SmtpFailed, Some(stage)),
            "{phase} {fault:?}: {error}"
        );
        assert!(error.contains(says), "{phase} {fault:?}: {error}");
        assert!(!error.contains('\n') && !error.contains(PASSWORD), "{error}");
    }
    let probe = Probe::new(Options::default()).await;
    probe.server.refuse(Protocol::Smtp);
    let sample = probe.run().await;
    assert_eq!((sample.outcome, sample.stage), (Outcome::SmtpFailed, Some(Stage::SmtpConnect)));
}

#[tokio::test]
async fn pickup_failures_are_named_by_their_stage() {
    use Fault::*;
    let cases: Vec<(&str, Fault, Stage, &str)> = vec![
        ("TLS", Certificate(Shown::Expired), Stage::PickupTls, "expired"),
        ("TLS", Stall, Stage::PickupTls, "1s"),
        ("GREETING", Stall, Stage::PickupGreeting, "no answer within 1s"),
        (
            "GREETING",
            Reply("-ERR [SYS/TEMP] later".into()),
            Stage::PickupGreeting,
            "connection refused: [SYS/TEMP] later",
        ),
        ("GREETING", Garbage, Stage::PickupGreeting, ""),
        ("LOGIN", Reply("-ERR [AUTH] wrong".into()), Stage::PickupLogin, "wrong"),
        ("LOGIN", Endless(10_000_000), Stage::PickupLogin, "bytes"),
        ("UIDL", Stall, Stage::PickupList, "no answer"),
        ("UIDL", Endless(10_000_000), Stage::PickupList, ""),
        ("RETR", Close, Stage::PickupReceive, "closed"),
        ("RETR", Stall, Stage::PickupReceive, "no answer"),
    ];
    for (phase, fault, stage, says) in cases {
        let probe = Probe::new(Options::default()).await;
        probe.server.fill(PROBE, 3);
        probe.server.inject(Protocol::Pop3, phase, fault.clone(), When::Always);
        let sample = probe.run_with(&[("\"3s\"", "\"400ms\"")]).await.sample;
        let error = sample.error.clone().unwrap_or_default();
        assert_eq!(
            (sample.outcome, sample.stage),
            (Outcome::PickupFailed, Some(stage)),
            "{phase} {fault:?}: {error}"
        );
        assert!(error.contains(says), "{phase} {fault:?}: {error}");
        assert_eq!(probe.server.foreign(PROBE), 3);
    }
}

#[tokio::test]
async fn a_wrong_password_is_tried_twice_at_most() {
    let probe = Probe::new(Options::default()).await;
    probe.server.inject(
        Protocol::Pop3,
        "LOGIN",
        Fault::Reply("-ERR [AUTH] wrong".into()),
        When::Always,
    );
    probe.run_with(&[("\"3s\"", "\"1s\"")]).await;
    assert!(probe.server.connections("pop3s") <= 2, "{}", probe.server.connections("pop3s"));
}

#[tokio::test]
async fn a_mailbox_of_20_000_foreign_mails_is_neither_read_through_nor_touched() {
    let probe = Probe::new(Options::default()).await;
    probe.server.fill(PROBE, 20_000);
    let sample = probe.run().await;
    assert_true(&sample, &probe.server);
    let tops =
        probe.server.commands(Protocol::Pop3).iter().filter(|line| line.starts_with("TOP")).count();
    assert!(tops <= 100, "{tops}");
    assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, 20_000));
}

#[tokio::test]
async fn a_mail_is_recognised_by_what_survives_in_its_header() {
    for mishaps in [
        vec![Mishap::TagSubject("[SPAM?] ".into()), Mishap::ReplaceMessageId],
        vec![
            Mishap::StripField("X-MailQoS-Token".into()),
            Mishap::ReplaceSubject("changed".into()),
        ],
        vec![Mishap::StripField("X-MailQoS-Token".into()), Mishap::ReplaceBody("gone".into())],
        vec![Mishap::ReplaceSubject("changed".into()), Mishap::ReplaceBody("gone".into())],
    ] {
        let probe = Probe::new(Options::default()).await;
        for mishap in &mishaps {
            probe.server.befall(None, mishap.clone(), When::Always);
        }
        let sample = probe.run().await;
        assert_eq!(sample.outcome, Outcome::Ok, "{mishaps:?}: {sample:?}");
        assert_eq!(probe.ours(), 0, "{mishaps:?}");
    }
}

#[tokio::test]
async fn a_token_only_in_the_content_does_not_identify_a_test_mail() {
    for (imap, mishaps) in [
        (false, vec![Mishap::Attach]),
        (true, vec![Mishap::Attach]),
        (
            true,
            vec![
                Mishap::StripField("X-MailQoS-Token".into()),
                Mishap::ReplaceSubject("changed".into()),
                Mishap::ReplaceMessageId,
            ],
        ),
    ] {
        let probe = Probe::over(imap, Options::default()).await;
        for mishap in &mishaps {
            probe.server.befall(None, mishap.clone(), When::Always);
        }
        let sample = probe.run_with(&[("\"3s\"", "\"400ms\"")]).await.sample;
        assert_eq!(
            (sample.outcome, sample.stage),
            (Outcome::Lost, None),
            "{mishaps:?}: {sample:?}"
        );
        assert_eq!(probe.ours(), 1, "stays in the mailbox: {mishaps:?}");
    }
}

#[tokio::test]
async fn a_mail_that_does_not_come_is_lost_provisionally() {
    let probe = Probe::new(Options::default()).await;
    probe.server.befall(None, Mishap::Lose, When::Always);
    let sample = probe.run_with(&[("\"3s\"", "\"400ms\"")]).await.sample;
    assert_eq!((sample.outcome, sample.stage, sample.settled), (Outcome::Lost, None, Some(false)));
    assert!(sample.round_trip.is_none() && sample.smtp_send.is_some());
}

/// Waits until no mail is in flight any more.
async fn until_settled(recorder: &Recorder) {
    tokio::time::timeout(Duration::from_secs(20), async {
        while !recorder.in_flight().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("settled");
}

/// Returns the lake's samples on the day of a test.
fn recorded(probe: &Probe, config: &Config, started_at: UtcMicros) -> Vec<Sample> {
    let path =
        day_path::<Sample>(&probe.folder.path().join("data"), &config.site, started_at.utc_date());
    read_day::<Sample>(&path).expect("samples")
}

fn outcomes(samples: &[Sample]) -> Vec<(Outcome, bool)> {
    let told = samples.iter().map(|sample| (sample.outcome, sample.is_provisional()));
    told.collect()
}

/// Returns the sample of a test whose horizon ended while the probe was stopped; its mail has
/// arrived meanwhile.
async fn resumed(probe: &Probe, config: &Arc<Config>) -> Sample {
    let sent_at = UtcMicros::now() - Micros::from_secs(3600);
    let token = Token {
        site: config.site.clone(),
        monitor: monitor(config).id.clone(),
        sent_at,
        nonce: [7; 8],
    };
    let key = SigningKey::of_folder(&config.state).expect("a key");
    let mail = format!("X-MailQoS-Token: {}\r\n\r\nhello\r\n", key.write(&token));
    probe.server.put(PROBE, INBOX, [mail.into_bytes()]);
    let mut sample = Sample::new(token.monitor, sent_at, Outcome::Lost);
    sample.settled = Some(false);
    let recorder = Recorder::open(config).await.expect("recorder");
    let mail = InFlight {
        boot: None,
        nonce: token.nonce,
        sent_at,
        horizon_at: sent_at + Micros::from_secs(10),
        sample,
    };
    recorder.note_in_flight(mail).await.expect("on record");
    let tester = Tester::new(config.clone(), recorder.clone()).await.expect("tester");
    tester.resume().await;
    until_settled(&recorder).await;
    tester.shutdown().await;
    recorder.close().await.expect("closed");
    let mut samples = recorded(probe, config, sent_at);
    assert_eq!(samples.len(), 1, "{samples:?}");
    samples.remove(0)
}

#[tokio::test]
async fn a_mail_whose_horizon_ended_while_the_probe_was_gone_is_looked_for_once_more() {
    let probe = Probe::new(Options::default()).await;
    let config = probe.config(&[("\"3s\"", "\"400ms\""), ("\"1s\"", "\"5s\"")]);
    let sample = resumed(&probe, &config).await;
    assert_eq!((sample.outcome, sample.settled), (Outcome::Late, Some(true)), "{sample:?}");
}

#[tokio::test]
async fn a_mail_is_not_lost_if_no_pick_up_was_possible_since_the_start() {
    let slow = Fault::Delay(Duration::from_secs(6));
    for (faults, words) in [
        (vec![("GREETING", Fault::Reply("-ERR [SYS/TEMP] later".into()))], "[SYS/TEMP] later"),
        // Each step is in time, but no visit has ended before the horizon does.
        (
            vec![("GREETING", slow.clone()), ("CAPA", slow)],
            "no pick-up finished since the probe was started",
        ),
    ] {
        let probe = Probe::new(Options::default()).await;
        let config = probe.config(&[("\"3s\"", "\"400ms\""), ("\"1s\"", "\"10s\"")]);
        for (phase, fault) in faults {
            probe.server.inject(Protocol::Pop3, phase, fault, When::Always);
        }
        let sample = resumed(&probe, &config).await;
        assert_eq!(
            (sample.outcome, sample.stage, sample.settled),
            (Outcome::PickupFailed, Some(Stage::PickupGreeting), Some(true)),
            "{sample:?}"
        );
        assert!(sample.error.as_deref().unwrap().contains(words), "{sample:?}");
    }
}

#[tokio::test]
async fn a_stop_while_a_mail_is_being_taken_does_not_make_it_lost() {
    for (imap, phase, command) in [
        (false, "RETR", "RETR"),
        (false, "DELE", "DELE"),
        (true, "FETCH", "BODY.PEEK[])"),
        (true, "STORE", "STORE"),
        (true, "EXPUNGE", "EXPUNGE"),
    ] {
        let probe = Probe::over(imap, Options::default()).await;
        let protocol = if imap { Protocol::Imap } else { Protocol::Pop3 };
        let slow = Fault::Delay(Duration::from_millis(500));
        probe.server.inject(protocol, phase, slow, When::Always);
        let config = probe.config(&[]);
        let tester = Tester::new(config.clone(), None).await.expect("tester");
        let stopped = async {
            let has_come =
                |commands: Vec<String>| commands.iter().any(|line| line.contains(command));
            while !has_come(probe.server.commands(protocol)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tester.stop().await;
        };
        let (result, ()) = tokio::join!(tester.test(monitor(&config)), stopped);
        // Time for anything that a continuing visit would do.
        tokio::time::sleep(Duration::from_secs(2)).await;
        tester.shutdown().await;
        let sample = result.sample;
        assert!(
            sample.outcome == Outcome::Ok || (sample.settled == Some(false) && probe.ours() == 1),
            "{command}: {sample:?}"
        );
    }
}

#[tokio::test]
async fn when_the_reply_to_the_content_is_missing_the_mailbox_decides() {
    let probe = Probe::new(Options::default()).await;
    probe.server.inject(Protocol::Smtp, "CONTENT", Fault::CloseAfter, When::Always);
    let sample = probe.run().await;
    assert_eq!((sample.outcome, sample.stage), (Outcome::Ok, None), "{sample:?}");
    let probe = Probe::new(Options::default()).await;
    probe.server.inject(Protocol::Smtp, "CONTENT", Fault::Close, When::Always);
    let sample = probe.run_with(&[("\"3s\"", "\"400ms\"")]).await.sample;
    assert_eq!((sample.outcome, sample.stage), (Outcome::SmtpFailed, Some(Stage::SmtpData)));
    assert!(sample.error.as_deref().unwrap().contains("unknown"), "{sample:?}");
}

#[tokio::test]
async fn monitors_that_share_a_mailbox_share_its_pickups() {
    let probe = Probe::new(Options {
        delays: Delays::Fixed(Duration::from_millis(300)),
        ..Options::default()
    })
    .await;
    let config = probe.config(&[]);
    let tester = Tester::new(config.clone(), None).await.expect("tester");
    let mut tests = tokio::task::JoinSet::new();
    for number in 0..10 {
        let mut monitor = monitor(&config).clone();
        monitor.id = format!("mail-{number}").parse().expect("name");
        let tester = tester.clone();
        tests.spawn(async move { tester.test(&monitor).await.sample });
    }
    while let Some(sample) = tests.join_next().await {
        let sample = sample.expect("test");
        assert_eq!(sample.outcome, Outcome::Ok, "{sample:?}");
    }
    assert!(probe.server.connections("pop3s") < 20, "{}", probe.server.connections("pop3s"));
    tester.shutdown().await;
}

#[tokio::test]
async fn a_password_that_is_missing_is_the_probes_own_trouble() {
    let probe = Probe::new(Options::default()).await;
    let config = probe.config(&[]);
    std::fs::remove_file(probe.folder.path().join("password")).expect("removed");
    let tester = Tester::new(config.clone(), None).await.expect("tester");
    let sample = tester.test(monitor(&config)).await.sample;
    assert_eq!((sample.outcome, sample.stage), (Outcome::NotTested, None));
    assert!(sample.error.expect("error").contains("password"));
}

#[tokio::test]
async fn a_password_that_is_mended_in_the_configuration_serves_from_then_on() {
    let probe = Probe::new(Options { smtp_auth_required: false, ..Options::default() }).await;
    let taken = Fault::Reply("235 2.7.0 fine".into());
    probe.server.inject(Protocol::Smtp, "AUTH", taken, When::Always);
    let config = |password: &str| {
        let change = [
            ("site = \"here\"", "site = \"here\"\nallow_plaintext_secrets = true"),
            ("{ file = \"password\" }", &format!("{password:?}")),
            ("\"3s\"", "\"1s\""),
        ];
        probe.config(&change)
    };
    let (wrong, right) = (config("wrong"), config(PASSWORD));
    let tester = Tester::new(wrong.clone(), None).await.expect("tester");
    let mut stages = Vec::new();
    for config in [wrong, right] {
        tester.reload(config.clone());
        stages.push(tester.test(monitor(&config)).await.sample.stage);
    }
    tester.shutdown().await;
    assert_eq!(stages, [Some(Stage::PickupLogin), None]);
}

#[tokio::test]
async fn the_servers_clock_does_not_matter() {
    let probe = Probe::new(Options {
        clock: ServerClock::off_by(Micros::from_secs(-37), 20.0),
        ..Options::default()
    })
    .await;
    assert_true(&probe.run().await, &probe.server);
}

#[tokio::test]
async fn over_imap_the_true_round_trip_lies_within_what_is_stated() {
    for tls in ["implicit", "starttls", "none"] {
        let mut probe = Probe::over_imap(Options {
            delays: Delays::Fixed(Duration::from_millis(250)),
            plaintext_login: true,
            ..Options::default()
        })
        .await;
        if tls != "implicit" {
            probe.pickup = (probe.server.imap_port(), tls);
        }
        probe.server.fill(PROBE, 10);
        let sample = probe.run().await;
        assert_true(&sample, &probe.server);
        assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, 10));
        assert!(
            probe.server.mails(PROBE, INBOX).iter().all(|mail| mail.flags.is_empty()),
            "no foreign mail is marked"
        );
        for (name, value) in [
            ("pickup_connect", sample.pickup_connect),
            ("pickup_greeting", sample.pickup_greeting),
            ("pickup_login", sample.pickup_login),
            ("pickup_list", sample.pickup_list),
            ("pickup_receive", sample.pickup_receive),
        ] {
            assert!(value.is_some_and(|value| value > Micros::ZERO), "{tls}: {name} {value:?}");
        }
        assert_eq!(sample.folder.as_deref(), Some("INBOX"));
    }
}

/// Compares each sample with the arrival of its mail.
fn assert_all_true(samples: &[Sample], server: &MailServer) {
    let landings = server.landings();
    assert_eq!(landings.len(), samples.len());
    for (sample, landing) in samples.iter().zip(landings) {
        let token = mailqos_tests::token::find(&landing.content).expect("token");
        let truth = landing.at - token.sent_at;
        let (stated, error) = (sample.round_trip.unwrap(), sample.round_trip_error.unwrap());
        assert!((stated - truth).0.abs() <= error.0, "{stated} ± {error}, in truth {truth}");
    }
}

#[tokio::test]
async fn announcements_of_new_mail_narrow_the_landing() {
    for (lag, idle, known) in [(0, true, true), (150, true, true), (0, false, false)] {
        let probe = Probe::over_imap(Options {
            delays: Delays::Fixed(Duration::from_millis(250)),
            idle_lag: Duration::from_millis(lag),
            clock: ServerClock::off_by(Micros::from_secs(-37), 20.0),
            ..Options::default()
        })
        .await;
        let idle = format!("check_interval = \"1500ms\"\nextra_pickups = 0\nidle = {idle}");
        let samples = probe.run_several(&[("check_interval = \"100ms\"", &idle)], 2).await;
        assert_all_true(&samples, &probe.server);
        // The first visit determines whether the mailbox is watched at all; without a watch the
        // error is half the check interval, until enough timestamps are known.
        let close = |sample: &Sample| sample.round_trip_error.unwrap() < Micros::from_millis(700);
        assert!(!close(&samples[0]));
        assert_eq!(close(&samples[1]), known, "lag {lag}, {idle}");
        assert!(samples.iter().all(|sample| sample.pickups == Some(1)));
        assert_eq!(probe.ours(), 0);
    }
}

#[tokio::test]
async fn what_a_server_refuses_for_now_is_tried_again() {
    for (phase, code) in
        [("GREETING", 421), ("MAIL", 451), ("RCPT", 450), ("DATA", 451), ("CONTENT", 452)]
    {
        let probe = Probe::new(Options::default()).await;
        let refusal = Fault::Reply(format!("{code} 4.7.1 Greylisted, try again later"));
        probe.server.inject(Protocol::Smtp, phase, refusal, When::Times(2));
        let sample = probe.run().await;
        assert_true(&sample, &probe.server);
        assert_eq!((sample.smtp_attempts, sample.smtp_reply_code), (Some(3), Some(250)), "{phase}");
        // The pauses are not part of the send time, but of the whole time.
        assert!(
            sample.smtp_elapsed.unwrap() > sample.smtp_send.unwrap() + Micros::from_millis(500),
            "{phase}"
        );
    }
    // A permanently refused mail is not offered again, and a temporarily refused one not forever.
    for (code, attempts) in [(550, 1), (450, 4)] {
        let probe = Probe::new(Options::default()).await;
        let refusal = Fault::Reply(format!("{code} no"));
        probe.server.inject(Protocol::Smtp, "RCPT", refusal, When::Always);
        let sample = probe.run().await;
        assert_eq!((sample.outcome, sample.stage), (Outcome::SmtpFailed, Some(Stage::SmtpRcpt)));
        assert_eq!((sample.smtp_attempts, sample.smtp_reply_code), (Some(attempts), Some(code)));
        assert_eq!(sample.smtp_elapsed, None);
        assert_eq!(probe.server.accepted().len(), 0);
    }
}

#[tokio::test]
async fn the_timeline_shows_the_attempt_that_succeeded_where_it_was_made() {
    let probe = Probe::new(Options::default()).await;
    let refusal = Fault::Reply("450 4.7.1 Greylisted, try again later".into());
    probe.server.inject(Protocol::Smtp, "RCPT", refusal, When::Times(2));
    let phases = probe.run_with(&[]).await.timeline.phases;
    let phase = |name: &str| phases.iter().find(|phase| phase.name == name).expect("a phase");
    // The two pauses come before it.
    assert!(phases[0].begin > Micros::from_millis(500), "{phases:?}");
    // The timestamp is added to the mail after DATA.
    let (data, transit) = (phase("data"), phase("round trip"));
    assert!(data.begin <= transit.begin, "{phases:?}");
}

#[tokio::test]
async fn a_mail_has_the_shape_that_is_asked_for() {
    let shape = r#"message = { size = "5MB", subject = "Prüfung der Laufzeit — ein Betreff, der länger ist als eine Zeile sein darf", headers = { X-Department = "IT" }, body = "Grüße = gut. " }
max_round_trip = "9s"
timeout = "8s""#;
    for over_imap in [false, true] {
        let probe = Probe::over(over_imap, Options::default()).await;
        let change = [("max_round_trip = \"3s\"\n", ""), ("timeout = \"1s\"", shape)];
        let sample = probe.run_with(&change).await.sample;
        assert_true(&sample, &probe.server);
        assert!(
            sample.message_bytes.is_some_and(|size| (4_990_000..=5_000_000).contains(&size)),
            "{sample:?}"
        );
        let mail = probe.server.accepted().remove(0);
        assert_eq!(
            mail.content.len() as u64,
            u64::try_from(sample.message_bytes.unwrap()).unwrap()
        );
        assert_eq!(mail.field("X-Department").as_deref(), Some("IT"));
        let text = String::from_utf8_lossy(&mail.content);
        assert!(text.split("\r\n").all(|line| line.len() <= 998 && line.is_ascii()));
        assert!(text.contains("Subject: =?utf-8?B?UHLDvGZ1bmc"));
        assert!(text.contains("Gr=C3=BC=C3=9Fe =3D gut.=20\r\n"));
        assert_eq!(probe.ours(), 0);
    }
}

#[tokio::test]
async fn extra_pickups_bracket_the_landing_long_before_the_check_interval_ends() {
    for (over_imap, idle) in [(false, true), (true, true), (true, false)] {
        let options = Options {
            delays: Delays::Fixed(Duration::from_millis(1_200)),
            clock: ServerClock::off_by(Micros::from_secs(-37), 20.0),
            ..Options::default()
        };
        let probe = Probe::over(over_imap, options).await;
        let slow = format!("check_interval = \"50s\"\nidle = {idle}");
        let changes = [
            ("max_round_trip = \"3s\"", "max_round_trip = \"60s\""),
            ("horizon = \"10s\"", "horizon = \"120s\""),
            ("check_interval = \"100ms\"", &slow),
        ];
        let samples = probe.run_several(&changes, 2).await;
        assert_all_true(&samples, &probe.server);
        // Including the first mail: the mailbox is not watched yet.
        for sample in samples {
            let error = sample.round_trip_error.expect("an error");
            assert!(error < Micros::from_secs(10), "{over_imap} {idle} {error}");
        }
        assert_eq!(probe.ours(), 0);
    }
}

#[tokio::test]
async fn a_precise_monitor_polls_often_whatever_the_check_interval() {
    // If IDLE announcements are late, they arrive in the reply to another command.
    for (over_imap, without) in [(false, vec![]), (true, vec!["IDLE".to_owned()]), (true, vec![])] {
        let options = Options {
            delays: Delays::Fixed(Duration::from_millis(250)),
            imap_without: without,
            idle_lag: Duration::from_secs(60),
            ..Options::default()
        };
        let probe = Probe::over(over_imap, options).await;
        let precise = "check_interval = \"1500ms\"\nprecise = true";
        let samples = probe.run_several(&[("check_interval = \"100ms\"", precise)], 3).await;
        assert_all_true(&samples, &probe.server);
        for sample in &samples[1..] {
            assert!(sample.round_trip_error.unwrap() < Micros::from_millis(700), "{sample:?}");
        }
    }
}

#[tokio::test]
async fn imap_servers_that_lack_capabilities_will_do() {
    for lacks in [
        &["UIDPLUS"][..],
        &["AUTH=PLAIN", "SASL-IR"],
        &["SASL-IR"],
        &["LITERAL+", "AUTH=PLAIN"],
        &["IDLE", "LITERAL+", "UIDPLUS", "AUTH=PLAIN", "SASL-IR", "ENABLE", "ID", "MOVE"],
    ] {
        let probe = Probe::over_imap(Options {
            imap_without: lacks.iter().map(|lack| (*lack).to_owned()).collect(),
            ..Options::default()
        })
        .await;
        probe.server.fill(PROBE, 5);
        let sample = probe.run().await;
        assert_true(&sample, &probe.server);
        assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, 5), "without {lacks:?}");
    }
}

#[tokio::test]
async fn a_server_of_imap4rev2_alone_will_do() {
    let probe = Probe::over_imap(Options {
        imap_rev2: true,
        delays: Delays::Fixed(Duration::from_millis(250)),
        ..Options::default()
    })
    .await;
    probe.server.fill(PROBE, 5);
    let samples = probe.run_several(&[], 3).await;
    assert_all_true(&samples, &probe.server);
    assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, 5));
    let commands = probe.server.commands(Protocol::Imap);
    for command in ["UID EXPUNGE", "IDLE"] {
        assert!(commands.iter().any(|line| line.contains(command)), "{command}");
    }
}

#[tokio::test]
async fn over_several_visits_each_mail_is_looked_into_once() {
    for over_imap in [false, true] {
        let probe = Probe::over(over_imap, Options::default()).await;
        probe.server.fill(PROBE, 20);
        let samples = probe.run_several(&[("horizon =", "idle = false\nhorizon =")], 4).await;
        assert_all_true(&samples, &probe.server);
        let commands =
            probe.server.commands(if over_imap { Protocol::Imap } else { Protocol::Pop3 });
        let count = |what: &str| commands.iter().filter(|line| line.contains(what)).count();
        let visits = samples.iter().filter_map(|sample| sample.pickups).sum::<i32>();
        let visits = usize::try_from(visits).expect("a count");
        if over_imap {
            assert!(count("BODY.PEEK[HEADER]") <= 2 + 4, "{commands:?}");
            assert!(count("SELECT") <= visits + 1, "{commands:?}");
        } else {
            assert!(count("TOP ") <= 20 + 4, "{commands:?}");
            assert!(count("UIDL") <= visits + 1 && count("LIST") <= 1 + visits, "{commands:?}");
        }
        assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, 20));
    }
}

#[tokio::test]
async fn imap_failures_are_named_by_their_stage() {
    use Fault::*;
    for (phase, fault, stage, words) in [
        ("TLS", Certificate(Shown::Expired), Stage::PickupTls, "expired"),
        ("GREETING", Stall, Stage::PickupGreeting, "no answer within 1s"),
        ("GREETING", Reply("* BYE busy".into()), Stage::PickupGreeting, "busy"),
        ("LOGIN", Reply("* nonsense".into()), Stage::PickupLogin, "no answer within 1s"),
        ("LOGIN", Close, Stage::PickupLogin, "closed"),
        ("SELECT", Stall, Stage::PickupList, "no answer within 1s"),
        ("FETCH", Close, Stage::PickupReceive, "closed"),
        ("FETCH", Garbage, Stage::PickupReceive, "not an IMAP response"),
    ] {
        let probe = Probe::over_imap(Options::default()).await;
        probe.server.inject(Protocol::Imap, phase, fault.clone(), When::Always);
        let sample = probe.run_with(&[("\"3s\"", "\"1500ms\"")]).await.sample;
        assert_eq!(
            (sample.outcome, sample.stage),
            (Outcome::PickupFailed, Some(stage)),
            "{phase} {fault:?}: {sample:?}"
        );
        let error = sample.error.expect("error");
        assert!(error.contains(words), "{phase} {fault:?}: {error}");
        assert!(!error.contains(PASSWORD), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_imap_password_is_tried_twice_only() {
    let probe = Probe::over_imap(Options::default()).await;
    let config = probe.config(&[("\"3s\"", "\"1s\"")]);
    write(&probe.folder.path().join("password"), "wrong");
    probe.server.inject(
        Protocol::Smtp,
        "AUTH",
        Fault::Reply("235 2.7.0 fine".into()),
        When::Always,
    );
    let tester = Tester::new(config.clone(), None).await.expect("tester");
    let sample = tester.test(monitor(&config)).await.sample;
    tester.shutdown().await;
    let logins = |line: &String| line.contains("AUTHENTICATE") || line.contains("LOGIN ");
    let tried = probe.server.commands(Protocol::Imap).iter().filter(|line| logins(line)).count();
    assert!(tried <= 2, "{tried}");
    assert_ne!(sample.outcome, Outcome::Ok);
}

#[tokio::test]
async fn a_mail_that_went_to_junk_is_found_there() {
    let probe = Probe::over_imap(Options::default()).await;
    probe.server.befall(None, Mishap::Junk, When::Always);
    let sample = probe
        .run_with(&[("horizon =", "folders = [\"INBOX\", \"Nowhere\", \"Junk\"]\nhorizon =")])
        .await
        .sample;
    assert_true(&sample, &probe.server);
    assert_eq!(sample.folder.as_deref(), Some("Junk"));
    assert!(probe.server.mails(PROBE, "Junk").is_empty());
}

#[tokio::test]
async fn what_the_receiving_system_thought_of_the_mail_is_kept() {
    for over_imap in [false, true] {
        let probe = Probe::over(over_imap, Options::default()).await;
        let verdicts = "Authentication-Results: mx.example.com;\r\n\tspf=pass smtp.mailfrom=a@b;\r\n\tdkim=none; dmarc=fail\r\n\
                        X-Spam-Status: Yes, score=7.3 required=5.0 tests=A,B\r\n";
        probe.server.befall(None, Mishap::AddFields(verdicts.to_owned()), When::Always);
        let sample = probe.run().await;
        assert_true(&sample, &probe.server);
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        assert_eq!(
            [
                text(&sample.spf),
                text(&sample.dkim),
                text(&sample.dmarc),
                text(&sample.spam_verdict)
            ],
            ["pass", "none", "fail", "spam"].map(str::to_owned)
        );
        assert_eq!(sample.spam_score, Some(7.3));
    }
}

#[tokio::test]
async fn over_imap_a_mail_is_known_by_what_survives_in_its_header() {
    for mishaps in [
        vec![
            Mishap::StripField("X-MailQoS-Token".into()),
            Mishap::ReplaceSubject("changed".into()),
        ],
        vec![Mishap::ReplaceSubject("changed".into()), Mishap::ReplaceBody("gone".into())],
        vec![Mishap::Duplicate],
    ] {
        let probe = Probe::over_imap(Options::default()).await;
        for mishap in &mishaps {
            probe.server.befall(None, mishap.clone(), When::Always);
        }
        let sample = probe.run().await;
        assert_eq!(sample.outcome, Outcome::Ok, "{mishaps:?}: {sample:?}");
        assert_eq!(probe.ours(), 0, "{mishaps:?}");
    }
}

#[tokio::test]
async fn over_imap_a_mailbox_of_20_000_foreign_mails_is_neither_read_through_nor_touched() {
    let probe = Probe::over_imap(Options::default()).await;
    probe.server.fill(PROBE, 20_000);
    let sample = probe
        .run_with(&[
            ("\"1s\"", "\"10s\""),
            ("\"3s\"", "\"30s\""),
            ("\"10s\"\nsmtp", "\"60s\"\nsmtp"),
        ])
        .await
        .sample;
    assert_true(&sample, &probe.server);
    let fetches =
        probe.server.commands(Protocol::Imap).iter().filter(|line| line.contains("FETCH")).count();
    assert!(fetches <= 20, "{fetches}");
    assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, 20_000));
}

#[tokio::test]
async fn a_foreign_mail_that_is_marked_as_deleted_stays() {
    let probe = Probe::over_imap(Options {
        imap_without: vec!["UIDPLUS".to_owned()],
        plaintext_login: true,
        ..Options::default()
    })
    .await;
    probe.server.fill(PROBE, 3);
    mark_deleted(&probe, 2).await;
    let sample = probe.run().await;
    assert_eq!(sample.outcome, Outcome::Ok, "{sample:?}");
    assert_eq!(probe.server.foreign(PROBE), 3);
}

/// Marks a foreign mail, like another client.
async fn mark_deleted(probe: &Probe, number: u32) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", probe.server.imap_port())).await;
    let mut stream = stream.expect("connected");
    let text = PASSWORD.replace('"', "\\\"");
    let login = format!("a LOGIN {PROBE} \"{}\"\r\n", text.replace("word\\ß", "word\\\\ß"));
    for line in [
        login,
        "b SELECT INBOX\r\n".into(),
        format!("c STORE {number} +FLAGS (\\Deleted)\r\n"),
        "d LOGOUT\r\n".into(),
    ] {
        stream.write_all(line.as_bytes()).await.expect("sent");
    }
    let mut all = String::new();
    stream.read_to_string(&mut all).await.expect("answers");
    assert!(all.contains("c OK"), "{all}");
}

#[tokio::test]
async fn a_bounced_mail_is_lost_with_the_reason() {
    for imap in [false, true] {
        let probe = Probe::over(imap, Options::default()).await;
        probe.server.befall(None, Mishap::Bounce("5.2.2".into()), When::Always);
        let sample = probe.run().await;
        assert_eq!(
            (sample.outcome, sample.stage, sample.round_trip),
            (Outcome::Lost, Some(Stage::Bounced), None),
            "{sample:?}"
        );
        assert!(sample.error.as_deref().expect("error").contains("5.2.2"), "{sample:?}");
    }
}

#[tokio::test]
async fn a_notice_of_a_delay_is_not_a_failure() {
    for imap in [false, true] {
        let options =
            Options { delays: Delays::Fixed(Duration::from_millis(300)), ..Options::default() };
        let probe = Probe::over(imap, options).await;
        probe.server.befall(None, Mishap::Warn, When::Always);
        let sample = probe.run().await;
        assert_eq!(
            (sample.outcome, sample.stage, sample.duplicates),
            (Outcome::Ok, None, Some(0)),
            "{sample:?}"
        );
        assert!(sample.round_trip.unwrap() > Micros::from_millis(250), "{sample:?}");
        assert_eq!(probe.ours(), 0, "the notification is cleared as well");
    }
}

#[tokio::test]
async fn when_the_server_is_silent_after_the_content_the_mailbox_decides() {
    for (imap, fault, arrives) in [
        (false, Fault::CloseAfter, true),
        (true, Fault::CloseAfter, true),
        // The reply arrives after the deadline.
        (false, Fault::Delay(Duration::from_secs(4)), true),
        (true, Fault::Reset, false),
        (false, Fault::Stall, false),
    ] {
        let probe = Probe::over(imap, Options::default()).await;
        probe.server.inject(Protocol::Smtp, "CONTENT", fault.clone(), When::Always);
        let sample = probe.run().await;
        assert_eq!(sample.send_uncertain, Some(true), "{fault:?}: {sample:?}");
        assert_eq!(sample.smtp_attempts, Some(1), "it is not offered again: it may come twice");
        if arrives {
            assert_eq!((sample.outcome, sample.stage, &sample.error), (Outcome::Ok, None, &None));
            assert!(sample.round_trip.is_some());
        } else {
            assert_eq!(
                (sample.outcome, sample.stage, sample.settled),
                (Outcome::SmtpFailed, Some(Stage::SmtpData), Some(false)),
                "{fault:?}: {sample:?}"
            );
            assert!(sample.error.unwrap().contains("is unknown"));
        }
    }
}

#[tokio::test]
async fn a_conversation_of_slow_steps_ends_as_a_whole() {
    let probe = Probe::new(Options::default()).await;
    for phase in ["GREETING", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "CONTENT"] {
        let slow = Fault::Delay(Duration::from_millis(600));
        probe.server.inject(Protocol::Smtp, phase, slow, When::Always);
    }
    let sample = probe.run_with(&[("\"3s\"", "\"500ms\"")]).await.sample;
    assert_eq!(sample.outcome, Outcome::SmtpFailed, "{sample:?}");
    let error = sample.error.unwrap();
    assert!(error.contains("the conversation did not end within 2s"), "{error}");
}

#[tokio::test]
async fn a_test_does_not_wait_for_an_endless_pick_up() {
    let probe =
        Probe::new(Options { pop3_without: vec!["PIPELINING".to_owned()], ..Options::default() })
            .await;
    probe.server.fill(PROBE, 50);
    let slow = Fault::Delay(Duration::from_millis(700));
    probe.server.inject(Protocol::Pop3, "TOP", slow, When::Always);
    let sample = probe.run_with(&[("\"3s\"", "\"500ms\"")]).await.sample;
    assert_eq!(
        (sample.outcome, sample.stage, sample.settled),
        (Outcome::PickupFailed, Some(Stage::PickupReceive), Some(false)),
        "{sample:?}"
    );
    let error = sample.error.unwrap();
    assert!(error.contains("no pick-up finished within 1s500ms: waiting for the mails"), "{error}");
}

#[tokio::test]
async fn where_the_mailbox_hangs_in_the_end_the_horizon_decides() {
    for (lands, horizon, outcome) in [(true, "60s", Outcome::Late), (false, "10s", Outcome::Lost)] {
        where_the_mailbox_hangs(lands, horizon, outcome).await;
    }
}

async fn where_the_mailbox_hangs(lands: bool, horizon: &str, outcome: Outcome) {
    let probe = Probe::new(Options {
        pop3_without: vec!["PIPELINING".to_owned()],
        delays: Delays::Fixed(Duration::from_secs(30)),
        ..Options::default()
    })
    .await;
    let config = probe.config(&[
        ("\"3s\"", "\"800ms\""),
        ("\"100ms\"", "\"300ms\""),
        ("\"10s\"\nsmtp", &format!("\"{horizon}\"\nsmtp")),
    ]);
    let recorder = Recorder::open(&config).await.expect("recorder");
    let tester = Tester::new(config.clone(), recorder.clone()).await.expect("tester");
    let hangs = async {
        // The first visit finds nothing; after that each step is in time, but there are too many of
        // them.
        let ended = |commands: Vec<String>| commands.iter().any(|line| line.starts_with("QUIT"));
        while !ended(probe.server.commands(Protocol::Pop3)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        probe.server.fill(PROBE, 50);
        let slow = Fault::Delay(Duration::from_millis(700));
        probe.server.inject(Protocol::Pop3, "TOP", slow, When::Always);
    };
    let (result, ()) = tokio::join!(tester.test(monitor(&config)), hangs);
    let sample = result.sample;
    assert_eq!(
        (sample.outcome, sample.stage, sample.settled),
        (Outcome::PickupFailed, Some(Stage::PickupReceive), Some(false)),
        "{sample:?}"
    );
    let error = sample.error.unwrap();
    assert!(
        error.contains("the last pick-up did not finish within 1s800ms: waiting for the mails"),
        "{error}"
    );
    probe.server.heal();
    if lands {
        let mail = probe.server.accepted().remove(0);
        probe.server.put(PROBE, INBOX, [mail.content.to_vec()]);
    }
    until_settled(&recorder).await;
    tester.shutdown().await;
    recorder.close().await.expect("closed");
    let samples = recorded(&probe, &config, sample.started_at);
    assert_eq!(outcomes(&samples), [(outcome, false)], "{samples:?}");
}

#[tokio::test]
async fn a_pickup_that_hangs_fails_at_the_step_that_hangs() {
    for (protocol, slow, hangs, stage) in [
        (Protocol::Pop3, "GREETING", "LOGIN", Stage::PickupLogin),
        (Protocol::Imap, "GREETING", "LOGIN", Stage::PickupLogin),
        (Protocol::Imap, "LOGIN", "SELECT", Stage::PickupList),
    ] {
        let probe = match protocol {
            Protocol::Imap => Probe::over_imap(Options::default()).await,
            _ => Probe::new(Options::default()).await,
        };
        let late = Fault::Delay(Duration::from_millis(400));
        probe.server.inject(protocol, slow, late, When::Always);
        probe.server.inject(protocol, hangs, Fault::Stall, When::Always);
        let sample =
            probe.run_with(&[("\"3s\"", "\"500ms\""), ("\"100ms\"", "\"450ms\"")]).await.sample;
        assert_eq!(
            (sample.outcome, sample.stage),
            (Outcome::PickupFailed, Some(stage)),
            "{sample:?}"
        );
    }
}
