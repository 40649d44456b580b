//! The sample that each kind of failure leaves in the lake: one probe, one embedded server and one
//! monitor per failure.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use std::time::Duration;

use Protocol::{Pop3, Smtp};
use mailqos_tests::{
    lake, process,
    servers::{
        Certificate, Delays, Fault, MailServer, Mishap, Options, PASSWORD, PROBE, Protocol, When,
    },
    setting::{MonitorText, Setting, until},
};

type Edit = Box<dyn Fn(&mut MonitorText, &MailServer)>;

/// A failure and the expected sample.
struct Trouble {
    id: String,
    options: Options,
    make: Box<dyn Fn(&MailServer)>,
    edit: Edit,
    outcome: &'static str,
    stages: &'static [&'static str],
    /// Possible texts in the error; empty for samples without one.
    error: &'static [&'static str],
}

impl Trouble {
    fn new(id: &str, outcome: &'static str, stages: &'static [&'static str]) -> Self {
        Self {
            id: id.to_owned(),
            options: Options::default(),
            make: Box::new(|_| {}),
            edit: Box::new(|_, _| {}),
            outcome,
            stages,
            error: &[],
        }
    }

    fn make(mut self, make: impl Fn(&MailServer) + 'static) -> Self {
        self.make = Box::new(make);
        self
    }

    fn edit(mut self, edit: impl Fn(&mut MonitorText, &MailServer) + 'static) -> Self {
        self.edit = Box::new(edit);
        self
    }

    fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    fn saying(mut self, error: &'static [&'static str]) -> Self {
        self.error = error;
        self
    }
}

/// One probe tests all failures at the same time; the first settled sample of each must state what
/// happened.
async fn suffer(site: &str, troubles: Vec<Trouble>) {
    let mut setting = Setting::new(site);
    let mut servers = Vec::new();
    for trouble in &troubles {
        let server = MailServer::start(trouble.options.clone()).await.expect("an embedded server");
        server.fill(PROBE, 3);
        (trouble.make)(&server);
        let mut monitor = setting.monitor(&trouble.id, &server);
        (trouble.edit)(&mut monitor, &server);
        if trouble.outcome == "ok" {
            monitor.more += PATIENT;
        }
        setting.add_monitor(&monitor);
        servers.push((server.foreign(PROBE), server));
    }
    let mut probe = setting.start_probe();
    until("a settled sample of each monitor", || {
        assert!(probe.is_running(), "the probe has ended:\n{}", probe.log());
        troubles.iter().all(|trouble| !setting.settled(&trouble.id).is_empty())
    })
    .await;
    let memory = process::peak_memory(probe.id());
    let log = probe.log();
    assert!(probe.stop().success(), "{log}");
    lake::check(&setting.data());

    let mut wrong = Vec::new();
    for (trouble, (foreign, server)) in troubles.iter().zip(&servers) {
        let row = setting.settled(&trouble.id).remove(0);
        let (outcome, stage, error) = (row.outcome(), row.text("stage"), row.text("error"));
        let stage_right = match stage {
            // A reset may be so early that the probe never sees the connection as open.
            Some("smtp_connect" | "pickup_connect") if trouble.id.starts_with("reset-") => true,
            Some(stage) => trouble.stages.contains(&stage),
            None => trouble.stages.is_empty(),
        };
        let error_right = match error {
            None => {
                trouble.error.is_empty() && trouble.outcome == "ok"
                    || trouble.outcome == "late"
                    || trouble.outcome == "lost"
            }
            Some(text) => {
                let lower = text.to_lowercase();
                !text.trim().is_empty()
                    && text.chars().count() <= MAX_ERROR
                    && !text.contains(char::is_control)
                    && !text.contains(PASSWORD)
                    && (trouble.error.is_empty()
                        || trouble.error.iter().any(|word| lower.contains(&word.to_lowercase())))
            }
        };
        if outcome != trouble.outcome || !stage_right || !error_right {
            wrong.push(format!(
                "{}: expected {} {:?} {:?}, found {outcome} {stage:?} {error:?}",
                trouble.id, trouble.outcome, trouble.stages, trouble.error
            ));
        }
        if server.foreign(PROBE) != *foreign {
            wrong.push(format!("{}: a foreign mail was deleted", trouble.id));
        }
    }
    assert!(wrong.is_empty(), "{}\n\n{log}", wrong.join("\n"));
    println!("{site}: {} monitors, at most {} MB of memory", troubles.len(), memory / 1_000_000);
    assert!(memory < MEMORY, "the probe took {memory} bytes");
}

/// Deadlines for a monitor whose test succeeds: a busy machine must not turn a slow answer into a
/// failure.
const PATIENT: &str = "timeout = \"20s\"\nmax_round_trip = \"40s\"\nhorizon = \"50s\"\n";
/// Maximum memory of the probe, whatever the servers send. Each monitor of a test may receive
/// megabytes at the same time.
const MEMORY: u64 = 100_000_000;
/// Maximum length of an error, which is a line for people.
const MAX_ERROR: usize = 500;

const MEGABYTES: usize = 10_000_000;

fn implicit_smtp(monitor: &mut MonitorText, server: &MailServer) {
    monitor.smtp = monitor
        .smtp
        .replace("starttls", "implicit")
        .replace(&server.smtp_port().to_string(), &server.smtps_port().to_string());
}

fn upgraded_pop3(monitor: &mut MonitorText, server: &MailServer) {
    monitor.pickup = monitor
        .pickup
        .replace("implicit", "starttls")
        .replace(&server.pop3s_port().to_string(), &server.pop3_port().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn good_late_and_lost_mails() {
    let slow =
        Options { delays: Delays::Fixed(Duration::from_millis(4_500)), ..Options::default() };
    suffer(
        "fates",
        vec![
            Trouble::new("ok", "ok", &[]),
            Trouble::new("ok-other-tls", "ok", &[]).edit(|monitor, server| {
                implicit_smtp(monitor, server);
                upgraded_pop3(monitor, server);
            }),
            Trouble::new("ok-plain", "ok", &[])
                .options(Options {
                    plaintext_login: true,
                    ..Options::default()
                })
                .edit(|monitor, server| {
                    upgraded_pop3(monitor, server);
                    monitor.smtp = monitor.smtp.replace("starttls", "none");
                    monitor.pickup = monitor.pickup.replace("starttls", "none");
                }),
            Trouble::new("ok-without-auth", "ok", &[])
                .options(Options {
                    smtp_auth_required: false,
                    ..Options::default()
                })
                .edit(|monitor, _| monitor.smtp = monitor.smtp.replace("account = \"probe\", ", "")),
            Trouble::new("ok-pinned", "ok", &[]).edit(|monitor, server| {
                let pin = format!(
                    "fingerprint = \"{}\"",
                    server.authority().fingerprint(Certificate::Good)
                );
                monitor.smtp = format!(
                    "port = {}, tls = \"starttls\", account = \"probe\", {pin}",
                    server.smtp_port()
                );
                monitor.pickup = format!(
                    "protocol = \"pop3\", port = {}, tls = \"implicit\", account = \"probe\", {pin}",
                    server.pop3s_port()
                );
            }),
            Trouble::new("ok-insecure", "ok", &[])
                .make(|server| {
                    for protocol in [Smtp, Pop3] {
                        server.inject(
                            protocol,
                            "TLS",
                            Fault::Certificate(Certificate::Untrusted),
                            When::Always,
                        );
                    }
                })
                .edit(|monitor, _| {
                    monitor.smtp += ", insecure = true";
                    monitor.pickup += ", insecure = true";
                }),
            Trouble::new("ok-full-mailbox", "ok", &[]).make(|server| server.fill(PROBE, 20_000)),
            Trouble::new("ok-full-mailbox-without-uidl", "ok", &[])
                .options(Options {
                    pop3_without: vec!["UIDL".to_owned()],
                    ..Options::default()
                })
                .make(|server| server.fill(PROBE, 20_000)),
            Trouble::new("ok-huge-foreign-line", "ok", &[]).make(|server| {
                let mut mail = b"Subject: ".to_vec();
                mail.resize(MEGABYTES, b'x');
                server.put(PROBE, mailqos_tests::servers::INBOX, [mail]);
            }),
            Trouble::new("ok-bare-pop3", "ok", &[]).options(Options {
                pop3_without: ["CAPA", "TOP", "UIDL", "SASL", "APOP"].map(str::to_owned).to_vec(),
                ..Options::default()
            }),
            Trouble::new("ok-tagged-subject", "ok", &[])
                .make(|server| server.befall(None, Mishap::TagSubject("[EXTERNAL] ".into()), When::Always)),
            Trouble::new("ok-new-body", "ok", &[]).make(|server| {
                server.befall(
                    None,
                    Mishap::ReplaceBody("removed by the gateway\r\n".into()),
                    When::Always,
                )
            }),
            Trouble::new("ok-other-message-id", "ok", &[])
                .make(|server| server.befall(None, Mishap::ReplaceMessageId, When::Always)),
            Trouble::new("ok-duplicate", "ok", &[]).make(|server| server.befall(None, Mishap::Duplicate, When::Always)),
            Trouble::new("ok-drip", "ok", &[])
                .make(|server| server.inject(Pop3, "UIDL", Fault::Drip(Duration::from_millis(2)), When::Always)),
            Trouble::new("ok-dele-fails", "ok", &[])
                .make(|server| server.inject(Pop3, "DELE", Fault::Reply("-ERR read-only".into()), When::Always)),
            Trouble::new("ok-dele-closes", "ok", &[])
                .make(|server| server.inject(Pop3, "DELE", Fault::Close, When::Always)),
            Trouble::new("ok-pop3-quit-stalls", "ok", &[])
                .make(|server| server.inject(Pop3, "QUIT", Fault::Stall, When::Always)),
            Trouble::new("ok-smtp-quit-stalls", "ok", &[])
                .make(|server| server.inject(Smtp, "QUIT", Fault::Stall, When::Always)),
            Trouble::new("ok-taken-without-reply", "ok", &[])
                .make(|server| server.inject(Smtp, "CONTENT", Fault::CloseAfter, When::Always)),
            Trouble::new("late", "late", &[]).options(slow),
            Trouble::new("lost", "lost", &[]).make(|server| server.befall(None, Mishap::Lose, When::Always)),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn smtp_troubles() {
    let mut troubles = vec![
        Trouble::new("refused", "smtp_failed", &["smtp_connect"])
            .make(|server| server.refuse(Smtp))
            .saying(&["refused"]),
        Trouble::new("no-such-host", "smtp_failed", &["smtp_connect"])
            .edit(|monitor, _| monitor.address = "no-such-host.invalid".into())
            .saying(&["no-such-host.invalid"]),
        Trouble::new("wrong-port", "smtp_failed", &["smtp_greeting", "smtp_tls"]).edit(
            |monitor, server| {
                monitor.smtp = monitor
                    .smtp
                    .replace(&server.smtp_port().to_string(), &server.pop3_port().to_string());
            },
        ),
        Trouble::new("plain-port-for-implicit", "smtp_failed", &["smtp_tls"])
            .edit(|monitor, _| monitor.smtp = monitor.smtp.replace("starttls", "implicit")),
        Trouble::new("implicit-port-for-starttls", "smtp_failed", &["smtp_greeting"]).edit(
            |monitor, server| {
                monitor.smtp = monitor
                    .smtp
                    .replace(&server.smtp_port().to_string(), &server.smtps_port().to_string());
            },
        ),
        Trouble::new("wrong-password", "smtp_failed", &["smtp_auth"])
            .edit(|monitor, _| monitor.smtp = monitor.smtp.replace("\"probe\"", "\"wrong\""))
            .saying(&["535"]),
        Trouble::new("no-account", "smtp_failed", &["smtp_rcpt"])
            .edit(|monitor, _| monitor.smtp = monitor.smtp.replace("account = \"probe\", ", ""))
            .saying(&["530"]),
        Trouble::new("no-such-mailbox", "smtp_failed", &["smtp_rcpt"])
            .edit(|monitor, _| monitor.to = "nobody@example.com".into())
            .saying(&["550"]),
        Trouble::new("wrong-pin", "smtp_failed", &["smtp_tls"])
            .edit(|monitor, server| {
                let pin = format!("fingerprint = \"{}\"", "00".repeat(32));
                monitor.smtp = format!(
                    "port = {}, tls = \"starttls\", account = \"probe\", {pin}",
                    server.smtp_port()
                );
            })
            .saying(&["fingerprint", "certificate"]),
        // Something arrives repeatedly, but never completely: the deadline is that of the step.
        Trouble::new("drip", "smtp_failed", &["smtp_greeting"])
            .make(|server| {
                server.inject(Smtp, "EHLO", Fault::Drip(Duration::from_millis(300)), When::Always)
            })
            .saying(&["no answer within"]),
        Trouble::new("no-starttls", "smtp_failed", &["smtp_tls"]).make(|server| {
            server.inject(
                Smtp,
                "STARTTLS",
                Fault::Reply("454 4.7.0 TLS not available".into()),
                When::Always,
            )
        }),
        Trouble::new("too-large", "smtp_failed", &["smtp_rcpt", "smtp_data"])
            .options(Options { max_size: 10, ..Options::default() })
            .saying(&["552"]),
    ];
    for (certificate, name) in [
        (Certificate::Untrusted, "untrusted"),
        (Certificate::WrongName, "wrong-name"),
        (Certificate::Expired, "expired"),
    ] {
        let trouble = Trouble::new(&format!("certificate-{name}"), "smtp_failed", &["smtp_tls"])
            .make(move |server| {
                server.inject(Smtp, "TLS", Fault::Certificate(certificate), When::Always)
            });
        troubles.push(trouble.saying(&["certificate"]));
    }
    const PHASES: [(&str, &[&str]); 8] = [
        ("TLS", &["smtp_tls"]),
        ("GREETING", &["smtp_greeting"]),
        ("EHLO", &["smtp_greeting"]),
        ("STARTTLS", &["smtp_tls"]),
        ("AUTH", &["smtp_auth"]),
        ("MAIL", &["smtp_rcpt"]),
        ("RCPT", &["smtp_rcpt"]),
        ("DATA", &["smtp_data", "smtp_rcpt"]),
    ];
    for (phase, stages) in PHASES {
        for (name, fault) in faults() {
            // A handshake has no reply that could be truncated.
            if name == "cut" && phase == "TLS" {
                continue;
            }
            let id = format!("{name}-{}", phase.to_lowercase());
            troubles.push(
                Trouble::new(&id, "smtp_failed", stages)
                    .make(move |server| server.inject(Smtp, phase, fault.clone(), When::Always)),
            );
        }
    }
    // Whether the mail was accepted is unknown then; it was not, unless the reply was truncated.
    for (name, fault) in faults() {
        let trouble = match name {
            "cut" => Trouble::new("ok-cut-content", "ok", &[]),
            _ => Trouble::new(&format!("{name}-content"), "smtp_failed", &["smtp_data"]),
        };
        let trouble =
            trouble.make(move |server| server.inject(Smtp, "CONTENT", fault.clone(), When::Always));
        troubles.push(trouble);
    }
    for (phase, stages, reply) in [
        ("GREETING", &["smtp_greeting"], "554 5.3.2 no service"),
        ("EHLO", &["smtp_greeting"], "550 5.7.1 not you"),
        ("AUTH", &["smtp_auth"], "535 5.7.8 no"),
        ("MAIL", &["smtp_rcpt"], "550 5.1.8 bad sender"),
        ("RCPT", &["smtp_rcpt"], "550 5.1.1 no such user"),
        ("DATA", &["smtp_data"], "554 5.5.1 no"),
        ("CONTENT", &["smtp_data"], "554 5.7.1 spam"),
        // A second digit that RFC 5321 does not define changes nothing (section 4.2.1): Courier and
        // many filters reply 571.
        ("MAIL", &["smtp_rcpt"], "571 Sender not allowed"),
        ("RCPT", &["smtp_rcpt"], "571 5.7.1 Delivery not authorized, message refused"),
        ("CONTENT", &["smtp_data"], "571 Delivery not authorized here"),
        ("CONTENT", &["smtp_data"], "599 no"),
    ] {
        let code = reply.split(' ').next().unwrap_or_default();
        let id = format!("refused-{}-{code}", phase.to_lowercase());
        let trouble = Trouble::new(&id, "smtp_failed", stages).make(move |server| {
            server.inject(Smtp, phase, Fault::Reply(reply.into()), When::Always)
        });
        troubles.push(trouble.saying(&["55", "535", "57", "59"]));
    }
    suffer("smtp-troubles", troubles).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pop3_troubles() {
    let mut troubles = vec![
        Trouble::new("refused", "pickup_failed", &["pickup_connect"])
            .make(|server| server.refuse(Pop3))
            .saying(&["refused"]),
        Trouble::new("no-such-host", "pickup_failed", &["pickup_connect"])
            .edit(|monitor, _| monitor.pickup += ", server = \"no-such-host.invalid\"")
            .saying(&["no-such-host.invalid"]),
        Trouble::new("wrong-password", "pickup_failed", &["pickup_login"])
            .edit(|monitor, _| monitor.pickup = monitor.pickup.replace("\"probe\"", "\"wrong\""))
            .saying(&["authentication failed"]),
        Trouble::new("plain-port-for-implicit", "pickup_failed", &["pickup_tls"]).edit(
            |monitor, server| {
                monitor.pickup = monitor
                    .pickup
                    .replace(&server.pop3s_port().to_string(), &server.pop3_port().to_string());
            },
        ),
        Trouble::new("wrong-port", "pickup_failed", &["pickup_greeting"]).edit(
            |monitor, server| {
                upgraded_pop3(monitor, server);
                monitor.pickup = monitor
                    .pickup
                    .replace(&server.pop3_port().to_string(), &server.smtp_port().to_string());
            },
        ),
        Trouble::new("drip", "pickup_failed", &["pickup_list"])
            .make(|server| {
                server.inject(Pop3, "UIDL", Fault::Drip(Duration::from_millis(300)), When::Always)
            })
            .saying(&["no answer within"]),
        Trouble::new("in-use", "pickup_failed", &["pickup_login"])
            .make(|server| {
                server.inject(
                    Pop3,
                    "LOGIN",
                    Fault::Reply("-ERR [IN-USE] Mailbox is locked".into()),
                    When::Always,
                )
            })
            .saying(&["in-use"]),
        Trouble::new("ok-in-use-for-a-while", "ok", &[]).make(|server| {
            server.inject(
                Pop3,
                "LOGIN",
                Fault::Reply("-ERR [IN-USE] Mailbox is locked".into()),
                When::Times(2),
            )
        }),
        Trouble::new("ok-one-bad-pickup", "ok", &[])
            .make(|server| server.inject(Pop3, "GREETING", Fault::Close, When::Times(1))),
    ];
    for (certificate, name) in [
        (Certificate::Untrusted, "untrusted"),
        (Certificate::WrongName, "wrong-name"),
        (Certificate::Expired, "expired"),
    ] {
        let trouble =
            Trouble::new(&format!("certificate-{name}"), "pickup_failed", &["pickup_tls"]).make(
                move |server| {
                    server.inject(Pop3, "TLS", Fault::Certificate(certificate), When::Always)
                },
            );
        troubles.push(trouble.saying(&["certificate"]));
    }
    for (name, fault) in faults() {
        let trouble = Trouble::new(&format!("{name}-stls"), "pickup_failed", &["pickup_tls"])
            .make(move |server| server.inject(Pop3, "STLS", fault.clone(), When::Always))
            .edit(upgraded_pop3);
        troubles.push(trouble);
    }
    const PHASES: [(&str, &[&str]); 7] = [
        ("TLS", &["pickup_tls"]),
        ("GREETING", &["pickup_greeting"]),
        ("CAPA", &["pickup_greeting"]),
        ("LOGIN", &["pickup_login"]),
        ("UIDL", &["pickup_list"]),
        ("TOP", &["pickup_list", "pickup_receive"]),
        ("RETR", &["pickup_receive"]),
    ];
    for (phase, stages) in PHASES {
        for (name, fault) in faults() {
            // A server may refuse UIDL and TOP, or not support them; then the pick-up uses another
            // method. A handshake has no reply that could be truncated.
            if name == "garbage" && matches!(phase, "UIDL" | "TOP")
                || name == "cut" && phase == "TLS"
            {
                continue;
            }
            let id = format!("{name}-{}", phase.to_lowercase());
            troubles.push(
                Trouble::new(&id, "pickup_failed", stages)
                    .make(move |server| server.inject(Pop3, phase, fault.clone(), When::Always)),
            );
        }
    }
    suffer("pop3-troubles", troubles).await;
}

fn faults() -> [(&'static str, Fault); 6] {
    [
        ("close", Fault::Close),
        ("reset", Fault::Reset),
        ("stall", Fault::Stall),
        ("garbage", Fault::Garbage),
        ("endless", Fault::Endless(MEGABYTES)),
        ("cut", Fault::CutReply),
    ]
}
