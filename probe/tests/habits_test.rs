//! The mail test with servers whose habits no standard allows: each was reported of a real server
//! (see `mailqos_tests::servers::Habits`), and each made a delivered mail count as lost, a mailbox
//! fill up, or an account get locked.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{sync::Arc, time::Duration};

use common::{IN_FILE, load, monitor, text, write};
use mailqos_config::Config;
use mailqos_model::{Outcome, Sample, Stage};
use mailqos_probe::tester::{TestResult, Tester};
use mailqos_tests::servers::{
    ARCHIVE, Fault, Gives, Habits, INBOX, MailServer, Options, PROBE, Protocol, Rewrite,
    SmtpHabits, StoredMail, TRASH, TooMany, UidNext, When,
};

struct Probe {
    folder: tempfile::TempDir,
    server: MailServer,
    options: String,
}

impl Probe {
    async fn new(protocol: &str, options: Options) -> Self {
        let server = MailServer::start(options).await.expect("server");
        let port = if protocol == "imap" { server.imaps_port() } else { server.pop3s_port() };
        let options = format!(
            r#"max_round_trip = "5s"
check_interval = "200ms"
timeout = "3s"
test_interval = "1m"
horizon = "10s"
smtp = {{ port = {}, tls = "implicit", account = "probe", ca_file = "ca.pem" }}
pickup = {{ protocol = "{protocol}", port = {port}, tls = "implicit", account = "probe", ca_file = "ca.pem" }}"#,
            server.smtps_port(),
        );
        Self { folder: tempfile::tempdir().expect("folder"), server, options }
    }

    async fn over_imap(habits: Habits) -> Self {
        let options = Options { imap_habits: habits, ..Options::default() };
        Self::new("imap", options).await
    }

    async fn over_smtp(habits: SmtpHabits) -> Self {
        let options = Options { smtp_habits: habits, ..Options::default() };
        Self::new("imap", options).await
    }

    fn config(&self, more: &str) -> Arc<Config> {
        let key = |line: &str| line.split_once('=').map_or("", |(key, _)| key.trim()).to_owned();
        let changed: Vec<String> = more.lines().map(key).collect();
        let kept = self.options.lines().filter(|line| !changed.contains(&key(line)));
        let options = format!("{}\n{more}", kept.collect::<Vec<_>>().join("\n"));
        load(self.folder.path(), &self.server, &text(IN_FILE, &options))
    }

    /// Runs consecutive tests with one tester.
    async fn run(&self, more: &str, count: usize) -> Vec<TestResult> {
        let config = self.config(more);
        let tester = Tester::new(config.clone(), None).await.expect("tester");
        let mut results = Vec::new();
        for _ in 0..count {
            results.push(tester.test(monitor(&config)).await);
        }
        self.until(|mails| mails.iter().all(|mail| mail.foreign)).await;
        tester.shutdown().await;
        results
    }

    /// Waits, within a limit, for a state of the inbox: deletions count when the session has ended.
    async fn until(&self, is_so: impl Fn(&[StoredMail]) -> bool) {
        for _ in 0..300 {
            if is_so(&self.server.mails(PROBE, INBOX)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns the number of test mails that are still in the inbox.
    fn ours(&self) -> usize {
        let mails = self.server.mails(PROBE, INBOX);
        mails.iter().filter(|mail| !mail.foreign).count()
    }

    fn count(&self, protocol: Protocol, counts: impl Fn(&str) -> bool) -> usize {
        self.server.commands(protocol).iter().filter(|line| counts(line)).count()
    }
}

fn outcomes(results: &[TestResult]) -> Vec<(Outcome, Option<&str>)> {
    let of = |result: &TestResult| {
        let Sample { outcome, .. } = result.sample;
        outcome
    };
    results.iter().map(|result| (of(result), result.sample.error.as_deref())).collect()
}

fn assert_all_ok(results: &[TestResult], what: &str) {
    assert!(
        results.iter().all(|result| result.sample.outcome == Outcome::Ok),
        "{what}: {:?}",
        outcomes(results)
    );
}

#[tokio::test]
async fn what_a_server_lists_but_does_not_give_is_asked_for_again() {
    for gives in [Gives::Nothing, Gives::Nil, Gives::Empty, Gives::WithoutUid, Gives::Refusal] {
        let probe =
            Probe::over_imap(Habits { gives_at_first: Some((gives, 3)), ..Habits::default() })
                .await;
        probe.server.fill(PROBE, 3);
        let results = probe.run("idle = false", 1).await;
        assert_all_ok(&results, &format!("{gives:?}"));
        assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, 3), "{gives:?}");
    }
}

#[tokio::test]
async fn a_mail_that_is_never_given_is_not_lost_and_asked_for_once_a_pickup() {
    let probe = Probe::over_imap(Habits {
        gives_at_first: Some((Gives::Nothing, u32::MAX)),
        ..Habits::default()
    })
    .await;
    let results = probe.run("idle = false\nmax_round_trip = \"1s\"", 1).await;
    let sample = &results[0].sample;
    assert_eq!(
        (sample.outcome, sample.stage),
        (Outcome::PickupFailed, Some(Stage::PickupReceive)),
        "{sample:?}"
    );
    let error = sample.error.clone().unwrap();
    assert!(error.contains("does not return its content"), "{error}");
    let fetches = probe.count(Protocol::Imap, |line| line.contains("BODY.PEEK"));
    let pickups = usize::try_from(sample.pickups.unwrap()).unwrap();
    assert!(fetches <= pickups, "{fetches} in {pickups} pick-ups");
}

#[tokio::test]
async fn flags_sent_first_are_not_the_mail() {
    let probe = Probe::over_imap(Habits { tells_flags_first: true, ..Habits::default() }).await;
    let results = probe.run("", 2).await;
    assert_all_ok(&results, "flags first");
    assert_eq!(probe.ours(), 0);
}

#[tokio::test]
async fn a_mail_is_found_despite_a_wrong_uidnext() {
    for uid_next in [UidNext::Stuck, UidNext::Ahead, UidNext::GoesBack] {
        for foreign in [0, 3] {
            for idle in [true, false] {
                let probe = Probe::over_imap(Habits { uid_next, ..Habits::default() }).await;
                probe.server.fill(PROBE, foreign);
                let results = probe.run(&format!("idle = {idle}"), 3).await;
                let what = format!("{uid_next:?}, {foreign} foreign, idle {idle}");
                assert_all_ok(&results, &what);
                assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, foreign), "{what}");
                for landing in probe.server.landings() {
                    assert_within(&results, &landing, &what);
                }
            }
        }
    }
}

/// Checks that the true arrival is in the interval of one of the samples.
fn assert_within(results: &[TestResult], landing: &mailqos_tests::servers::Landing, what: &str) {
    let text = String::from_utf8_lossy(&landing.content).into_owned();
    let token = text.split("X-MailQoS-Token: ").nth(1).expect("the field");
    let sent_at =
        i64::from_str_radix(token.split(':').nth(3).expect("sent_at"), 36).expect("base 36");
    let truth = landing.at.0 - sent_at;
    let states = |sample: &Sample| {
        let (stated, error) = (sample.round_trip.unwrap().0, sample.round_trip_error.unwrap().0);
        (stated - truth).abs() <= error
    };
    assert!(results.iter().any(|result| states(&result.sample)), "{what}: in truth {truth}");
}

#[tokio::test]
async fn a_mail_is_found_despite_a_wrong_search_result() {
    for (habits, what) in [
        (Habits { searches_an_old_index: true, ..Habits::default() }, "an old index"),
        (Habits { refuses_search: true, ..Habits::default() }, "no search"),
        (Habits { no_validity: true, ..Habits::default() }, "no validity"),
    ] {
        for idle in [true, false] {
            let probe = Probe::over_imap(habits.clone()).await;
            probe.server.fill(PROBE, 70);
            let results = probe.run(&format!("idle = {idle}"), 2).await;
            assert_all_ok(&results, what);
            assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, 70), "{what}");
        }
    }
}

#[tokio::test]
async fn a_server_that_requires_the_client_id_receives_it() {
    let probe = Probe::over_imap(Habits { wants_id: true, ..Habits::default() }).await;
    let results = probe.run("", 2).await;
    assert_all_ok(&results, "ID");
    // The refusal is only provoked once.
    let selects = probe.count(Protocol::Imap, |line| line.contains(" SELECT "));
    let visits: i32 = results.iter().map(|result| result.sample.pickups.unwrap()).sum();
    assert!(
        selects <= usize::try_from(visits).unwrap() + 2,
        "{selects} SELECTs in {visits} pick-ups"
    );
}

#[tokio::test]
async fn where_a_login_can_be_one_round_trip_it_is() {
    for (mechanisms, habits, expected) in [
        // Capabilities from the greeting, or from the end of the login, are not requested again.
        (vec!["PLAIN"], Habits::default(), vec!["AUTHENTICATE PLAIN …"]),
        (
            vec!["PLAIN"],
            Habits { keeps_capabilities: true, ..Habits::default() },
            vec!["CAPABILITY", "AUTHENTICATE PLAIN …", "CAPABILITY"],
        ),
        (vec!["LOGIN"], Habits::default(), vec!["LOGIN …"]),
    ] {
        let options = Options {
            mechanisms: mechanisms.iter().map(|name| (*name).to_owned()).collect(),
            imap_habits: habits,
            ..Options::default()
        };
        let probe = Probe::new("imap", options).await;
        let results = probe.run("idle = false", 1).await;
        assert_all_ok(&results, "login");
        let commands = probe.server.commands(Protocol::Imap);
        let first: Vec<String> = commands
            .iter()
            .map(|line| line.split_once(' ').map_or("", |(_, command)| command))
            .take_while(|command| !command.starts_with("SELECT"))
            .filter(|command| !command.is_empty())
            .map(|command| {
                let words: Vec<&str> = command.split(' ').collect();
                match &*words {
                    ["AUTHENTICATE", mechanism, _] => format!("AUTHENTICATE {mechanism} …"),
                    ["LOGIN", ..] => "LOGIN …".to_owned(),
                    _ => command.to_owned(),
                }
            })
            .collect();
        assert_eq!(first, expected, "{commands:?}");
    }
}

#[tokio::test]
async fn a_server_that_only_seems_to_take_initial_responses_is_asked_without() {
    let probe =
        Probe::over_imap(Habits { rejects_initial_response: true, ..Habits::default() }).await;
    let results = probe.run("idle = false", 2).await;
    assert_all_ok(&results, "SASL-IR");
    let at_once = |line: &str| line.contains("AUTHENTICATE PLAIN ");
    assert_eq!(probe.count(Protocol::Imap, at_once), 1, "the limit is learned once");
}

#[tokio::test]
async fn watches_yield_where_connections_are_few() {
    for how in [
        TooMany::HangsUp,
        TooMany::Bye,
        TooMany::Login("[ALERT] Too many simultaneous connections. (Failure)"),
        TooMany::Login(
            "[UNAVAILABLE] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=1)",
        ),
    ] {
        let probe =
            Probe::over_imap(Habits { connections: Some((1, how)), ..Habits::default() }).await;
        // A watch starts after the first pick-up, and affects all later ones.
        let results = probe.run("idle = true", 3).await;
        assert_all_ok(&results, &format!("{how:?}"));
        assert_eq!(probe.ours(), 0, "{how:?}");
    }
}

#[tokio::test]
async fn without_uidplus_test_mails_do_not_pile_up_for_ever() {
    let options = Options {
        imap_without: vec!["UIDPLUS".to_owned(), "MOVE".to_owned()],
        ..Options::default()
    };
    let probe = Probe::new("imap", options).await;
    probe.server.fill(PROBE, 3);
    probe.server.mark_deleted(PROBE, |mail| mail.uid == 2);
    // One process of the probe leaves its mail marked, and another program has marked one, too.
    let config = probe.config("idle = false");
    let tester = Tester::new(config.clone(), None).await.expect("tester");
    assert_eq!(tester.test(monitor(&config)).await.sample.outcome, Outcome::Ok);
    probe
        .until(|mails| mails.iter().any(|mail| !mail.foreign && mail.flags.contains("\\Deleted")))
        .await;
    tester.shutdown().await;
    assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (1, 3));
}

#[tokio::test]
async fn many_mails_are_deleted_in_lines_that_every_server_takes() {
    let probe = Probe::over_imap(Habits { longest_line: Some(1000), ..Habits::default() }).await;
    probe.server.fill(PROBE, 100);
    let results = probe.run("idle = false", 1).await;
    assert_all_ok(&results, "short lines");
    assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, 100));
}

#[tokio::test]
async fn where_expunged_mails_are_archived_test_mails_go_to_the_trash() {
    let probe = Probe::over_imap(Habits { archives: true, ..Habits::default() }).await;
    probe.server.fill(PROBE, 2);
    let results = probe.run("", 2).await;
    assert_all_ok(&results, "Gmail");
    assert_eq!((probe.ours(), probe.server.foreign(PROBE)), (0, 2));
    let (trash, archive) = (probe.server.mails(PROBE, TRASH), probe.server.mails(PROBE, ARCHIVE));
    assert_eq!((trash.len(), archive.len()), (2, 0));
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_reported() {
    let probe = Probe::over_imap(Habits::default()).await;
    let results = probe.run("folders = [\"INBOX\", \"Spam\"]", 1).await;
    assert_all_ok(&results, "the mail is in the inbox");
    assert_eq!(results[0].sample.folders_missing.as_deref(), Some("Spam"));
    let note = results[0].notes.join("\n");
    assert!(
        note.contains("\"Spam\" was not searched")
            && note.contains("the server's junk folder is \"Junk\""),
        "{note}"
    );
    // If the mail is missing, the reason names the folder, too.
    let probe = Probe::over_imap(Habits::default()).await;
    probe.server.befall(None, mailqos_tests::servers::Mishap::Lose, When::Always);
    let results = probe.run("folders = [\"INBOX\", \"Spam\"]\nmax_round_trip = \"1s\"", 1).await;
    let error = results[0].sample.error.clone().unwrap();
    assert!(error.contains("\"Spam\" was not searched"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_costs_one_failed_login_a_test() {
    for (protocol, refusal) in [
        (Protocol::Imap, ""),
        (Protocol::Pop3, "-ERR Unable to log on"),
        (Protocol::Pop3, "-ERR [AUTH] Authentication failed."),
        (Protocol::Pop3, "+ERR Invalid user name or password."),
    ] {
        let name = if protocol == Protocol::Imap { "imap" } else { "pop3" };
        let options = Options { smtp_auth_required: false, ..Options::default() };
        let probe = Probe::new(name, options).await;
        let config = probe.config("max_round_trip = \"1s\"");
        let accepts = Fault::Reply("235 2.7.0 fine".into());
        probe.server.inject(Protocol::Smtp, "AUTH", accepts, When::Always);
        write(&probe.folder.path().join("password"), "wrong");
        if !refusal.is_empty() {
            let refuses = Fault::Reply(refusal.into());
            probe.server.inject(protocol, "LOGIN", refuses, When::Always);
        }
        let tester = Tester::new(config.clone(), None).await.expect("tester");
        let sample = tester.test(monitor(&config)).await.sample;
        assert_eq!(
            (sample.outcome, sample.stage),
            (Outcome::PickupFailed, Some(Stage::PickupLogin))
        );
        let logins = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            words
                .iter()
                .take(2)
                .any(|word| matches!(*word, "AUTHENTICATE" | "LOGIN" | "AUTH" | "PASS" | "APOP"))
        };
        assert_eq!(
            probe.count(protocol, logins),
            1,
            "{refusal}: {:?}",
            probe.server.commands(protocol)
        );
        // A second monitor with the same account causes no further failed login meanwhile.
        let again = tester.test(monitor(&config)).await.sample;
        assert_eq!(probe.count(protocol, logins), 1, "{refusal}");
        let error = again.error.unwrap();
        assert!(error.contains("not tried again yet"), "{error}");
        tester.shutdown().await;
    }
}

#[tokio::test]
async fn the_name_in_ehlo_is_the_configured_one() {
    let habits =
        SmtpHabits { only_helo: Some("probe.example.net".to_owned()), ..SmtpHabits::default() };
    let probe = Probe::over_smtp(habits.clone()).await;
    let results = probe.run("", 1).await;
    assert_eq!(results[0].sample.outcome, Outcome::SmtpFailed);
    let error = results[0].sample.error.clone().unwrap_or_default();
    assert!(error.contains("550 5.7.1 Helo command rejected"), "{error}");
    // In plaintext, and again after STARTTLS.
    for (tls, greetings) in [("implicit", 1), ("starttls", 2)] {
        let probe = Probe::over_smtp(habits.clone()).await;
        let port = match tls {
            "implicit" => probe.server.smtps_port(),
            _ => probe.server.smtp_port(),
        };
        let smtp = format!(
            r#"smtp = {{ port = {port}, tls = "{tls}", account = "probe", ca_file = "ca.pem", helo = "probe.example.net" }}"#
        );
        assert_all_ok(&probe.run(&smtp, 1).await, tls);
        let named = probe.count(Protocol::Smtp, |line| line == "EHLO probe.example.net");
        let all =
            probe.count(Protocol::Smtp, |line| line.contains("HLO ") || line.contains("HELO "));
        assert_eq!((named, all), (greetings, greetings), "{tls}");
        let landing = probe.server.landings().pop().unwrap();
        let content = String::from_utf8_lossy(&landing.content);
        assert!(content.contains("from probe.example.net"), "{content}");
    }
}

#[tokio::test]
async fn mechanisms_are_read_from_all_lines_that_list_some() {
    for (lines, mechanism) in [
        (vec!["AUTH GSSAPI NTLM", "AUTH PLAIN LOGIN"], "PLAIN"),
        (vec!["AUTH LOGIN", "AUTH=LOGIN"], "LOGIN"),
        (vec!["AUTH=LOGIN PLAIN", "AUTH LOGIN PLAIN"], "PLAIN"),
        (vec!["AUTH=PLAIN"], "PLAIN"),
        (vec!["AUTH=LOGIN PLAIN"], "PLAIN"),
        (vec!["AUTH LOGIN AUTH=PLAIN"], "PLAIN"),
        (vec!["AUTH PLAIN", "AUTH LOGIN", "AUTH XOAUTH2"], "PLAIN"),
        (vec!["auth Plain", "AUTH"], "PLAIN"),
        (vec!["AUTH ", "AUTH  LOGIN"], "LOGIN"),
    ] {
        let probe = Probe::over_smtp(SmtpHabits {
            auth_lines: Some(lines.iter().map(ToString::to_string).collect()),
            ..SmtpHabits::default()
        })
        .await;
        assert_all_ok(&probe.run("", 1).await, &format!("{lines:?}"));
        let begins = format!("AUTH {mechanism}");
        let logins = probe.count(Protocol::Smtp, |line| line.starts_with("AUTH"));
        let expected = probe.count(Protocol::Smtp, |line| line.starts_with(&begins));
        assert_eq!((logins, expected), (1, 1), "{lines:?}");
    }
}

#[tokio::test]
async fn a_first_response_that_is_too_long_for_the_line_is_sent_behind_it() {
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let options = Options {
            mechanisms: vec![mechanism.to_owned()],
            smtp_habits: SmtpHabits { rejects_initial_response: true, ..SmtpHabits::default() },
            ..Options::default()
        };
        let probe = Probe::new("imap", options).await;
        assert_all_ok(&probe.run("", 1).await, mechanism);
        let bare = format!("AUTH {mechanism}");
        assert_eq!(probe.count(Protocol::Smtp, |line| line == bare), 1, "{mechanism}");
    }
}

#[tokio::test]
async fn prompts_of_login_are_only_words() {
    let rewrites: [Rewrite; 3] = [
        |_, reply| {
            with(reply, "334 VXNlcm5hbWU6", "334 User Name:")
                .or_else(|| with(reply, "334 UGFzc3dvcmQ6", "334 Password:"))
        },
        // mjl-/mox/issues/223.
        |_, reply| {
            with(reply, "334 VXNlcm5hbWU6", "334 ")
                .or_else(|| with(reply, "334 UGFzc3dvcmQ6", "334 "))
        },
        // aio-libs/aiosmtpd/issues/219.
        |_, reply| {
            with(reply, "334 VXNlcm5hbWU6", "334 VXNlciBOYW1lAA==")
                .or_else(|| with(reply, "334 UGFzc3dvcmQ6", "334 UGFzc3dvcmQA"))
        },
    ];
    for rewrite in rewrites {
        let options = Options {
            mechanisms: vec!["LOGIN".to_owned()],
            rewrite: Some(rewrite),
            ..Options::default()
        };
        let probe = Probe::new("imap", options).await;
        assert_all_ok(&probe.run("", 1).await, "LOGIN");
    }
}

#[tokio::test]
async fn lines_that_are_not_responses_are_skipped() {
    for odd in [
        // Xeams closes a response too early and sends the rest after it
        // (paperless-ngx/paperless-ngx/issues/13412).
        " FLAGS (\\Recent) RFC822.SIZE 1019)",
        // QQ repeats a response without its asterisk (MailCore/mailcore2/issues/1025).
        "39 FETCH (UID 39 FLAGS (\\Seen))",
        // Proxies send the answer to an earlier command late (chatmail/async-imap/pull/141).
        "A0 NO the mailbox is busy",
        "garbage",
    ] {
        let probe =
            Probe::over_imap(Habits { odd_lines: vec![odd.to_owned()], ..Habits::default() }).await;
        assert_all_ok(&probe.run("idle = false", 1).await, odd);
    }
    // But not endlessly.
    let probe = Probe::over_imap(Habits {
        odd_lines: vec!["garbage".to_owned(); 100],
        ..Habits::default()
    })
    .await;
    let results = probe.run("idle = false", 1).await;
    let error = results[0].sample.error.clone().unwrap_or_default();
    assert!(error.contains("\"garbage\", which is not an IMAP response"), "{error}");
}

/// Replaces a part of a reply.
fn with(reply: &str, part: &str, other: &str) -> Option<String> {
    reply.contains(part).then(|| reply.replacen(part, other, 1))
}

#[tokio::test]
async fn replies_in_other_forms_are_understood() {
    let cases: [(&str, &str, Rewrite); 9] = [
        ("jakartaee/mail-api/issues/209", "imap", |protocol, reply| {
            let is_fetch = protocol == Protocol::Imap && reply.contains(" FETCH (");
            is_fetch.then(|| reply.replace("\r\n)\r\n", "\r\n )\r\n"))
        }),
        ("karastojko/mailio/issues/135", "imap", |protocol, reply| {
            let is_content =
                protocol == Protocol::Imap && reply.contains(" FETCH (") && reply.contains("BODY[");
            let (_, rest) = reply.split_once("(UID ").filter(|_| is_content)?;
            let uid = rest.split(' ').next()?;
            let without = reply.replacen(&format!("(UID {uid} "), "(", 1);
            with(&without, "\r\n)\r\n", &format!("\r\n UID {uid})\r\n"))
        }),
        ("emersion/go-imap/issues/600", "imap", |_, reply| {
            with(reply, "* OK [CAPABILITY ", "* OK [CAPABILITIES ")
        }),
        ("modern-email/defects/issues/18", "imap", |protocol, reply| {
            let (before, rest) = reply.split_once(" OK [CAPABILITY ")?;
            let (capabilities, _) = rest.split_once("] Logged in")?;
            (protocol == Protocol::Imap && !before.starts_with('*'))
                .then(|| format!("* CAPABILITY {capabilities}\r\n{before} OK LOGIN Completed.\r\n"))
        }),
        ("modern-email/defects/issues/43", "imap", |protocol, reply| {
            let (before, rest) = reply.split_once("* OK [UIDNEXT ")?;
            let (_, after) = rest.split_once("\r\n")?;
            (protocol == Protocol::Imap).then(|| format!("{before}{after}"))
        }),
        ("neomutt/neomutt/issues/1427", "pop3", |protocol, reply| {
            (protocol == Protocol::Pop3).then(|| with(reply, "UIDL\r\n", ""))?
        }),
        ("Notifuse/notifuse/issues/183", "imap", |protocol, reply| {
            let is_greeting =
                protocol == Protocol::Smtp && reply.starts_with("220 ") && reply.contains("ESMTP");
            is_greeting.then(|| format!("220-no unsolicited mail\r\n220-\r\n{reply}"))
        }),
        ("webdigi/SMTP-Based-Email-Validation/issues/2", "imap", |protocol, reply| {
            let is_short = protocol == Protocol::Smtp
                && ["220 ", "354 ", "235 "].iter().any(|code| reply.starts_with(code));
            is_short.then(|| format!("{}\r\n", &reply[..3]))
        }),
        ("opencart/opencart/pull/4035", "imap", |protocol, reply| {
            let is_hello = protocol == Protocol::Smtp
                && reply.starts_with("250-")
                && reply.contains("8BITMIME");
            is_hello.then(|| {
                reply.replacen("250 8BITMIME", "250-8BITMIME\r\n250-AUTH=PLAIN\r\n250 ", 1)
            })
        }),
    ];
    for (report, protocol, rewrite) in cases {
        let options = Options { rewrite: Some(rewrite), ..Options::default() };
        let probe = Probe::new(protocol, options).await;
        let more = if protocol == "imap" { "idle = false" } else { "" };
        assert_all_ok(&probe.run(more, 2).await, report);
        assert_eq!(probe.ours(), 0, "{report}");
    }
}
