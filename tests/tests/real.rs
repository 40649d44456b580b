//! The real binaries with real servers: Postfix and Dovecot, ProFTPD, Samba. Needs
//! `MAILQOS_REAL_SERVERS`, the folder of the scripts in `tests/real/`; if the variable is not set,
//! prints a note and passes.

#![cfg(unix)]
#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailqos_model::{Micros, UtcMicros};
use mailqos_tests::{
    couriers, lake,
    real::RealServer,
    servers::PASSWORD,
    setting::{MonitorText, Setting, until, words_of},
    simulation::{self, Habits},
};

/// Returns the text of a monitor on Postfix and Dovecot.
fn monitor(
    mail: &RealServer,
    id: &str,
    smtp: (&str, &str),
    pickup: (&str, &str, &str),
    to: &str,
) -> MonitorText {
    let ca_file = mail.get("CA_FILE");
    MonitorText {
        id: id.to_owned(),
        address: "localhost".to_owned(),
        smtp: format!(
            "port = {}, tls = \"{}\", account = \"probe\", ca_file = \"{ca_file}\"",
            mail.port(smtp.0),
            smtp.1
        ),
        pickup: format!(
            "protocol = \"{}\", port = {}, tls = \"{}\", account = \"{}\", ca_file = \"{ca_file}\"",
            pickup.0,
            mail.port(pickup.1),
            pickup.2,
            to.split('@').next().unwrap_or(to)
        ),
        from: mail.get("USER").to_owned(),
        to: to.to_owned(),
        more: String::new(),
    }
}

fn setting(mail: &RealServer) -> Setting {
    let mut setting = Setting::new("real");
    setting.replace("max_round_trip = \"3s\"", "max_round_trip = \"20s\"");
    setting.replace("timeout = \"1s\"", "timeout = \"10s\"");
    setting.replace("horizon = \"6s\"", "horizon = \"60s\"");
    for user in ["probe2", "probe3", "alerts", "grey"] {
        setting.add(&format!(
            "[account.{user}]\nuser = \"{user}@example.com\"\npassword = {{ env = \"PROBE_PASSWORD\" }}"
        ));
    }
    assert_eq!(mail.get("PASSWORD"), PASSWORD, "one password for all");
    setting
}

/// Returns the mails of a real mailbox that contain a text.
fn mailbox(mail: &RealServer, user: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["new", "cur"] {
        let folder = Path::new(mail.get("MAIL_FOLDER")).join(user).join("Maildir").join(folder);
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let content = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap_or_default())
                .into_owned();
            if content.contains(text) {
                found.push(content);
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_and_dovecot_fill_the_lake() {
    let Some(mail) = RealServer::find("mail") else {
        return;
    };
    let kinds = [
        monitor(
            &mail,
            "starttls-pop3s",
            ("SMTP_PORT", "starttls"),
            ("pop3", "POP3S_PORT", "implicit"),
            "probe@example.com",
        ),
        monitor(
            &mail,
            "smtps-stls",
            ("SMTPS_PORT", "implicit"),
            ("pop3", "POP3_PORT", "starttls"),
            "probe2@example.com",
        ),
    ];
    let setting = fill(&mail, &kinds).await;
    // For the other engines.
    if let Some(keep) = std::env::var_os("MAILQOS_KEEP_LAKE") {
        copy(&setting.data().join("samples"), &PathBuf::from(keep).join("samples"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_and_dovecot_over_imap() {
    let Some(mail) = RealServer::find("mail") else {
        return;
    };
    fill(
        &mail,
        &[monitor(
            &mail,
            "imaps",
            ("SMTP_PORT", "starttls"),
            ("imap", "IMAPS_PORT", "implicit"),
            "probe3@example.com",
        )],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_and_dovecot_take_each_mechanism() {
    let Some(mail) = RealServer::find("mail") else {
        return;
    };
    let mut setting = setting(&mail);
    for mechanism in ["SCRAM-SHA-256", "PLAIN", "LOGIN"] {
        let account = mechanism.to_lowercase();
        setting.add(&format!(
            "[account.{account}]\nuser = \"probe@example.com\"\npassword = {{ env = \"PROBE_PASSWORD\" }}\nmechanisms = [\"{mechanism}\"]"
        ));
        for (protocol, port, command) in
            [("pop3", "POP3S_PORT", "AUTH"), ("imap", "IMAPS_PORT", "AUTHENTICATE")]
        {
            let id = format!("{account}-{protocol}");
            let mut monitor = monitor(
                &mail,
                &id,
                ("SMTP_PORT", "starttls"),
                (protocol, port, "implicit"),
                "probe@example.com",
            );
            monitor.smtp = monitor.smtp.replace("\"probe\"", &format!("\"{account}\""));
            monitor.pickup = monitor.pickup.replace("\"probe\"", &format!("\"{account}\""));
            setting.add_monitor(&monitor);
            let said = setting.succeed("mailqos-probe", &["test", &id, "--transcript"]);
            let login = format!("{command} {mechanism}");
            // In SMTP and at the mailbox; LOGIN of a mailbox has separate commands.
            assert!(said.contains(&format!("> AUTH {mechanism}")), "{said}");
            assert!(said.contains(&login), "{said}");
            assert!(!said.contains(PASSWORD), "{said}");
        }
    }
}

/// Runs a probe until each monitor has three good samples, and checks everything that it left.
async fn fill(mail: &RealServer, kinds: &[MonitorText]) -> Setting {
    let mut setting = setting(mail);
    for monitor in kinds {
        setting.add_monitor(monitor);
        let shown = setting.succeed("mailqos-probe", &["test", &monitor.id]);
        assert!(shown.to_lowercase().contains("round trip"), "{shown}");
    }
    let probe = setting.start_probe();
    until("three good samples of each", || {
        kinds.iter().all(|monitor| {
            setting.settled(&monitor.id).iter().filter(|row| row.outcome() == "ok").count() >= 3
        })
    })
    .await;
    let log = probe.log();
    assert!(probe.stop().success(), "{log}");
    lake::check(&setting.data());
    for row in setting.rows() {
        assert!(matches!(row.outcome(), "ok" | "not_tested"), "{row:?}\n{log}");
        if row.outcome() == "ok" {
            assert!(
                row.number("round_trip_us").unwrap() > 0 && row.number("smtp_send_us").unwrap() > 0,
                "{row:?}"
            );
        }
    }
    for MonitorText { to, .. } in kinds {
        assert_eq!(mailbox(mail, to, "mq1:real:").len(), 0, "{to}: mails of ours are left");
    }
    setting
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_and_a_scheduled_report_reach_anna_through_postfix() {
    let Some(mail) = RealServer::find("mail") else {
        return;
    };
    let mut setting = setting(&mail);
    let ca_file = mail.get("CA_FILE").to_owned();
    setting.replace(
        "test_interval = \"5s\"",
        "test_interval = \"1s\"\nalarm_after = 2\naction_list = \"default\"",
    );
    setting.add("[operator.anna]\nemail = [\"anna@example.com\"]");
    setting.add(&format!(
        "[mail_server.postfix]\nserver = \"localhost\"\nport = {}\ntls = \"starttls\"\naccount = \"alerts\"\nfrom = \"alerts@example.com\"\nca_file = \"{ca_file}\"",
        mail.port("SMTP_PORT")
    ));
    setting.add(
        "[action_list.default]\nactions = [{ email = [\"anna\"], mail_server = \"postfix\" }]",
    );
    setting.add(
        "[target.people]\nkind = \"email\"\nmail_server = \"postfix\"\nto = [\"anna@example.com\"]",
    );
    let mut dead = monitor(
        &mail,
        "dead-end",
        ("SMTP_PORT", "starttls"),
        ("pop3", "POP3S_PORT", "implicit"),
        "probe@example.com",
    );
    // Nothing listens on port 1.
    dead.smtp = "port = 1, tls = \"none\"".to_owned();
    setting.add_monitor(&dead);
    let probe = setting.start_probe();
    until("the alarm's mail", || !mailbox(&mail, "anna@example.com", "dead-end").is_empty()).await;
    let log = probe.log();
    assert!(probe.stop().success(), "{log}");

    std::fs::create_dir_all(setting.path("reports")).unwrap();
    std::fs::write(
        setting.path("reports/daily.toml"),
        "template = \"executive-summary\"\ntitle = \"Fünf vor zwölf\"\nperiod = \"today\"\n[schedule]\nevery = \"day\"\nat = \"00:00\"\n[[deliver]]\ntarget = \"people\"\n",
    )
    .unwrap();
    setting.succeed("mailqos-analytics", &["schedule", "run-due"]);
    let tomorrow = (UtcMicros::now() + Micros::from_secs(86_400)).to_string();
    setting.succeed("mailqos-analytics", &["schedule", "run-due", "--now", &tomorrow]);
    until("the report's mail", || {
        mailbox(&mail, "anna@example.com", "daily-")
            .iter()
            .any(|mail| mail.contains("application/pdf"))
    })
    .await;
}

/// Postfix accepts 100 recipients per mail here and replies 452 to the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_reaches_three_hundred_people_once_through_postfix() {
    let Some(mail) = RealServer::find("mail") else {
        return;
    };
    let mut setting = setting(&mail);
    setting.add(&format!(
        "[mail_server.postfix]\nserver = \"localhost\"\nport = {}\ntls = \"starttls\"\naccount = \"alerts\"\nfrom = \"alerts@example.com\"\nca_file = \"{}\"",
        mail.port("SMTP_PORT"),
        mail.get("CA_FILE")
    ));
    let people: Vec<String> = (1..=300)
        .map(|number| format!("\"Person Nr. {number} (Zürich) <r{number}@example.com>\""))
        .collect();
    setting.add(&format!(
        "[target.people]\nkind = \"email\"\nmail_server = \"postfix\"\nto = [{}]",
        people.join(", ")
    ));
    setting.add_monitor(&monitor(
        &mail,
        "quiet",
        ("SMTP_PORT", "starttls"),
        ("pop3", "POP3S_PORT", "implicit"),
        "probe@example.com",
    ));
    let now = UtcMicros::now();
    let day = now - Micros::from_secs(86_400);
    let habits = Habits::calm("quiet".parse().unwrap(), 1.0);
    let samples = simulation::samples(&habits, 3, &jiff::tz::TimeZone::UTC, day, now);
    simulation::write(&setting.data(), &"here".parse().unwrap(), samples).unwrap();
    // A unique title distinguishes the mails of this run from others.
    let title = format!("To {}", UtcMicros::now().0);
    std::fs::create_dir_all(setting.path("reports")).unwrap();
    std::fs::write(
        setting.path("reports/all.toml"),
        format!("template = \"executive-summary\"\ntitle = \"{title}\"\nformats = [\"html\"]\nperiod = \"today\"\n[[deliver]]\ntarget = \"people\"\n"),
    )
    .unwrap();
    setting.succeed("mailqos-analytics", &["report", "all", "--deliver"]);
    let found = |number: u32| mailbox(&mail, &format!("r{number}@example.com"), &title);
    until("a mail in each mailbox", || (1..=300).all(|number| !found(number).is_empty())).await;
    for number in 1..=300 {
        let mails = found(number);
        assert_eq!(mails.len(), 1, "r{number}");
        let head = mails[0].split("\r\n\r\n").next().unwrap_or_default();
        let head = head.split("\n\n").next().unwrap_or_default();
        assert!(head.lines().all(|line| line.len() <= 78 || !line.contains('@')), "{head}");
        for other in 1..=300 {
            assert!(head.contains(&format!("<r{other}@example.com>")), "r{other} in {head}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bounces_and_greylisting_of_postfix_are_reported() {
    let Some(mail) = RealServer::find("mail") else {
        return;
    };
    let mut setting = setting(&mail);
    let (smtp, pickup) = (("SMTP_PORT", "starttls"), ("imap", "IMAPS_PORT", "implicit"));
    let mut full = monitor(&mail, "full", smtp, pickup, "probe@example.com");
    full.to = "full@example.com".to_owned();
    setting.add_monitor(&full);
    setting.add_monitor(&monitor(&mail, "grey", smtp, pickup, "grey@example.com"));

    let output = setting.run("mailqos-probe", &["test", "full"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for told in ["lost at bounced", "5.2.2", "the mailbox is full"] {
        assert!(said.contains(told), "{told}: {said}");
    }
    let output = setting.run("mailqos-probe", &["test", "grey"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    let rows = setting.rows();
    let grey = rows.iter().find(|row| row.monitor() == "grey").expect("a sample");
    let attempts = grey.number("smtp_attempts");
    assert!(attempts >= Some(2), "{attempts:?}");
    assert!(grey.number("smtp_elapsed_us") > grey.number("smtp_send_us"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_on_dovecot_is_a_failed_login() {
    let Some(mail) = RealServer::find("mail") else {
        return;
    };
    let mut setting = setting(&mail);
    let mut wrong = monitor(
        &mail,
        "wrong",
        ("SMTP_PORT", "starttls"),
        ("pop3", "POP3S_PORT", "implicit"),
        "probe@example.com",
    );
    wrong.smtp = wrong.smtp.replace("\"probe\"", "\"wrong\"");
    setting.add_monitor(&wrong);
    let output = setting.run("mailqos-probe", &["test", "wrong"]);
    let said = words_of(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("535"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mailboxes_of_dovecot_are_opened_and_left_as_they_are() {
    let Some(mail) = RealServer::find("mail") else {
        return;
    };
    let mut setting = setting(&mail);
    let ca_file = mail.get("CA_FILE");
    let doors = [
        ("pop3s", "pop3", "POP3S_PORT", "implicit"),
        ("imaps", "imap", "IMAPS_PORT", "implicit"),
        ("pop3", "pop3", "POP3_PORT", "starttls"),
        ("imap", "imap", "IMAP_PORT", "starttls"),
    ];
    setting.add("[object.dovecot]\naddress = \"localhost\"");
    for (id, protocol, port, tls) in doors {
        setting.add(&format!(
            "[monitor.{id}]\nkind = \"mailbox\"\nobject = \"dovecot\"\npickup = {{ protocol = \"{protocol}\", port = {}, \
             tls = \"{tls}\", account = \"probe3\", ca_file = \"{ca_file}\" }}",
            mail.port(port)
        ));
    }
    let before = mailbox(&mail, "probe3", "");
    for (id, ..) in doors {
        let shown = setting.succeed("mailqos-probe", &["test", id]);
        assert!(shown.contains("login") && shown.contains("list"), "{shown}");
        let row = setting.settled(id).remove(0);
        assert_eq!((row.outcome(), row.text("kind")), ("ok", Some("mailbox")));
        assert!(row.number("pickup_login_us") > Some(0) && row.number("round_trip_us").is_none());
    }
    assert_eq!(mailbox(&mail, "probe3", ""), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_goes_out_by_mail_ftp_share_and_folder() {
    let (Some(mail), Some(ftp), Some(share)) =
        (RealServer::find("mail"), RealServer::find("ftp"), RealServer::find("share"))
    else {
        return;
    };
    let mut setting = setting(&mail);
    let zone = jiff::tz::TimeZone::get("Europe/Stockholm").unwrap();
    let to = UtcMicros::now();
    let week = simulation::samples(
        &Habits::calm("mail1".parse().unwrap(), 1.0),
        6,
        &zone,
        to - Micros::from_secs(8 * 86_400),
        to,
    );
    simulation::write(&setting.data(), &"real".parse().unwrap(), week).unwrap();
    setting.add_monitor(&monitor(
        &mail,
        "mail1",
        ("SMTP_PORT", "starttls"),
        ("pop3", "POP3S_PORT", "implicit"),
        "probe@example.com",
    ));
    let ca_file = mail.get("CA_FILE");
    setting.add("[account.reports]\nuser = \"reports\"\ndomain = \"MAILQOS\"\npassword = { env = \"PROBE_PASSWORD\" }");
    setting.add(&format!(
        "[mail_server.postfix]\nserver = \"localhost\"\nport = {}\ntls = \"starttls\"\naccount = \"alerts\"\nfrom = \"alerts@example.com\"\nca_file = \"{ca_file}\"",
        mail.port("SMTP_PORT")
    ));
    for (name, port, tls) in [
        ("ftp-explicit", "FTP_PORT", "explicit"),
        ("ftp-tls12", "FTP_TLS12_PORT", "explicit"),
        ("ftp-implicit", "FTPS_PORT", "implicit"),
        ("ftp-clear", "FTP_PORT", "none"),
    ] {
        setting.add(&format!(
            "[target.{name}]\nkind = \"ftp\"\nserver = \"localhost\"\nport = {}\ntls = \"{tls}\"\naccount = \"reports\"\npath = \"{name}/reports\"{}",
            ftp.port(port),
            if tls == "none" { String::new() } else { format!("\nca_file = \"{ca_file}\"") }
        ));
    }
    for (name, share_name) in
        [("share", share.get("SHARE")), ("share-encrypted", share.get("ENCRYPTED_SHARE"))]
    {
        setting.add(&format!(
            "[target.{name}]\nkind = \"smb\"\nserver = \"127.0.0.1\"\nport = {}\nshare = \"{share_name}\"\naccount = \"reports\"\npath = \"mailqos/reports\"",
            share.port("SMB_PORT")
        ));
    }
    setting.add("[target.folder]\nkind = \"folder\"\npath = \"delivered\"");
    setting.add(
        "[target.people]\nkind = \"email\"\nmail_server = \"postfix\"\nto = [\"anna@example.com\"]",
    );

    let content: Vec<u8> =
        (0..2_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(setting.path("report.pdf"), [b"%PDF-1.7\n", &content[..]].concat()).unwrap();
    std::fs::write(
        setting.path("report.html"),
        "<!DOCTYPE html><html><body>seven days</body></html>",
    )
    .unwrap();
    let pdf = std::fs::read(setting.path("report.pdf")).unwrap();
    let anna = mailbox(&mail, "anna@example.com", "").len();
    for target in [
        "ftp-explicit",
        "ftp-tls12",
        "ftp-implicit",
        "ftp-clear",
        "share",
        "share-encrypted",
        "folder",
        "people",
    ] {
        let mut deliver = setting.command("mailqos-analytics");
        let deliver = deliver.env("RUST_LOG", "trace");
        let output =
            deliver.args(["deliver", "report.pdf", "report.html", "--to", target]).output();
        let output = output.expect("the binary starts");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{target}: {}\n{said}", output.status);
        let plain = STANDARD.encode(format!("\0alerts@example.com\0{PASSWORD}"));
        for secret in [PASSWORD, &plain] {
            let line = said.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{target}: a secret is printed");
        }
        let folder = match target {
            "share" => Path::new(share.get("FOLDER")).join("mailqos/reports"),
            "share-encrypted" => Path::new(share.get("ENCRYPTED_FOLDER")).join("mailqos/reports"),
            "folder" => setting.path("delivered"),
            "people" => continue,
            ftp_target => Path::new(ftp.get("FOLDER")).join(ftp_target).join("reports"),
        };
        let mut names: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["report.html", "report.pdf"], "{target}: {}", folder.display());
        assert!(
            std::fs::read(folder.join("report.pdf")).unwrap() == pdf,
            "{target}: not byte for byte"
        );
    }
    until("the mail to Anna", || mailbox(&mail, "anna@example.com", "").len() > anna).await;
    let mails = mailbox(&mail, "anna@example.com", "report.pdf");
    assert!(
        mails.iter().any(|mail| mail.contains("application/pdf") && mail.contains("seven days")),
        "{}",
        mails.len()
    );
}

/// The measurement of deliveries in short: each kind of fault once, for each target.
#[tokio::test(flavor = "multi_thread")]
async fn files_arrive_once_and_whole_through_faults() {
    for target in ["ftp", "sftp", "share", "mail"] {
        let script = if target == "mail" { "mail" } else { target };
        if RealServer::find(script).is_none() {
            return;
        }
        // The servers are shared with the other tests, so they are not stopped here.
        let only = [
            couriers::Fault::Cut,
            couriers::Fault::ProcessKilled,
            couriers::Fault::WrongPassword,
            couriers::Fault::Certificate,
        ];
        let toll = couriers::run(&couriers::Plan {
            target: target.to_owned(),
            faults: 8,
            size: 2_000_000,
            seed: 7,
            only: only.to_vec(),
        })
        .await;
        assert!(toll.struck >= 4, "{target}: {toll:?}");
        // If the acceptance of a mail was not received, it is unknown whether it was accepted; it
        // is sent again with the same Message-ID (RFC 1047).
        let unheard = |words: &String| words.contains("ProcessKilled") || words.contains("Cut");
        let may_come_twice = target == "mail" && toll.words.iter().all(unheard);
        assert!(toll.twice == 0 || may_come_twice, "{target}: {:?}", toll.words);
        let arrived = (toll.once + toll.twice, toll.lost, toll.half_visible.unwrap_or(0));
        assert_eq!(arrived, (8, 0, 0), "{target}: {:?}", toll.words);
    }
}
