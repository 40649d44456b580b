//! Targets from the user's perspective: each recipient is served once, whatever happens for the
//! others; files are complete, verified, and removed by rule; failures are reported.

#![cfg(unix)]
#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailqos_model::{Micros, UtcMicros};
use mailqos_tests::{
    hooks::{Hooks, Manner},
    mail_couriers,
    secrets::secret_file,
    servers::{
        Authority, Fault, FtpServer, KEY_ID, Landing, MailServer, ObjectStore, Options, PASSWORD,
        Protocol, When,
    },
    setting::{Setting, complaint_of, until},
};

const SECRET: &str = "Object-Store-Hemlighet-5Rt";

async fn mail_server(setting: &mut Setting, name: &str, options: Options) -> MailServer {
    let server = MailServer::start(Options {
        users: ["reports", "anna", "ben", "cem", "dora", "eva"]
            .map(|user| (format!("{user}@example.com"), PASSWORD.to_owned()))
            .to_vec(),
        ..options
    })
    .await
    .unwrap();
    setting.add_mail_server(name, "reports@example.com", &server);
    server
}

/// Does the same with additional mailboxes for `post`.
async fn mail_server_for(
    setting: &mut Setting,
    mut users: Vec<(String, String)>,
    options: Options,
) -> MailServer {
    users.push(("reports@example.com".to_owned(), PASSWORD.to_owned()));
    let server = MailServer::start(Options { users, ..options }).await.unwrap();
    setting.add_mail_server("post", "reports@example.com", &server);
    server
}

fn file(setting: &Setting, name: &str, size: usize) -> Vec<u8> {
    let bytes: Vec<u8> =
        (0..size as u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(setting.path(name), &bytes).unwrap();
    bytes
}

fn try_again(setting: &Setting) -> std::process::Output {
    setting.run("mailqos-analytics", &["outbox", "retry"])
}

/// Returns the attached files of a mail: names and contents.
fn attached(mail: &Landing) -> Vec<(String, Vec<u8>)> {
    let text = String::from_utf8_lossy(&mail.content).replace('\r', "");
    text.split("Content-Disposition: attachment;\n filename=\"")
        .skip(1)
        .map(|part| {
            let (name, rest) = part.split_once('"').unwrap();
            let (_, body) = rest.split_once("\n\n").unwrap();
            let body: String = body.lines().take_while(|line| !line.starts_with("--")).collect();
            (name.to_owned(), STANDARD.decode(body).unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_recipient_delays_no_one_and_no_one_gets_it_twice() {
    let mut setting = Setting::new("here");
    let server = mail_server(&mut setting, "post", Options::default()).await;
    setting.add(
        "[operator.anna]\nemail = \"anna@example.com\"\n[operator.ben]\nemail = \"ben@example.com\"\n\
         [operator.all]\nmembers = [\"anna\", \"ben\"]\nemail = \"cem@example.com\"\n\
         [target.people]\nkind = \"email\"\nto = [\"all\", \"nobody@example.com\"]\ncc = \"dora@example.com\"\nbcc = \"eva@example.com\"\nreply_to = \"desk@example.com\"",
    );
    let pdf = file(&setting, "r.pdf", 20_000);
    // The first recipient has to wait.
    let later = Fault::Reply("450 4.2.0 greylisted".into());
    server.inject(Protocol::Smtp, "RCPT", later, When::Times(1));
    let output = setting.run("mailqos-analytics", &["deliver", "r.pdf", "--to", "people"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("greylisted") && said.contains("next retry"), "{said}");
    until("four mails", || server.landings().len() == 4).await;
    let output = try_again(&setting);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nobody@example.com was rejected"), "{said}");
    until("the fifth mail", || server.landings().len() == 5).await;
    assert!(try_again(&setting).status.success());
    let mut got: Vec<String> = server.landings().iter().map(|mail| mail.to.clone()).collect();
    got.sort();
    assert_eq!(
        got,
        ["anna", "ben", "cem", "dora", "eva"].map(|user| format!("{user}@example.com"))
    );
    let mails = server.landings();
    assert!(mails.iter().all(|mail| attached(mail) == [("r.pdf".to_owned(), pdf.clone())]));
    assert!(mails.iter().all(|mail| mail.field("Message-ID") == mails[0].field("Message-ID")));
    // Only her mail contains her address, added by the servers on its path.
    let others = || mails.iter().filter(|mail| !mail.to.starts_with("eva"));
    assert!(others().all(|mail| !String::from_utf8_lossy(&mail.content).contains("eva@")));
    assert_eq!(mails[0].field("Reply-To").unwrap(), "desk@example.com");
    let entry = &setting.ledger()[0];
    assert_eq!(entry["accepted"].as_array().unwrap().len(), 5);
    assert_eq!(entry["refused"][0][0], "nobody@example.com");
    let csv = setting.succeed("mailqos-analytics", &["outbox", "ledger", "--format", "csv"]);
    assert_eq!(csv.lines().count(), 7, "{csv}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_certificate_is_reported_immediately() {
    let mut setting = Setting::new("here");
    let server = mail_server(&mut setting, "post", Options::default()).await;
    setting.add("[target.people]\nkind = \"email\"\nto = [\"anna@example.com\"]");
    file(&setting, "r.pdf", 1_000);
    std::fs::write(setting.path("post.pem"), Authority::new().pem()).unwrap();
    let output = setting.run("mailqos-analytics", &["deliver", "r.pdf", "--to", "people"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the certificate of") && said.contains("fix the cause"), "{said}");
    std::fs::write(setting.path("post.pem"), server.authority().pem()).unwrap();
    assert!(try_again(&setting).status.success());
    until("the mail", || server.landings().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_stands_in_and_a_path_in_alarm_is_avoided() {
    let mut setting = Setting::new("here");
    let first = mail_server(&mut setting, "first", Options::default()).await;
    let second = mail_server(&mut setting, "second", Options::default()).await;
    setting.add(
        "[target.people]\nkind = \"email\"\nmail_server = \"first\"\nfallback = \"second\"\nto = [\"anna@example.com\"]",
    );
    setting.add(&format!(
        "[object.m]\naddress = \"127.0.0.1\"\n[monitor.path]\nobject = \"m\"\nfrom = \"a@example.com\"\nto = \"b@example.com\"\n\
         smtp = {{ port = {}, tls = \"none\" }}\npickup = {{ protocol = \"pop3\", port = 1, tls = \"none\", account = \"first\" }}",
        first.smtp_port()
    ));
    file(&setting, "r.pdf", 1_000);
    let deliver = || setting.succeed("mailqos-analytics", &["deliver", "r.pdf", "--to", "people"]);
    first.refuse(Protocol::Smtp);
    deliver();
    until("the mail through the second", || second.landings().len() == 1).await;
    first.admit(Protocol::Smtp);
    deliver();
    until("the mail through the first", || first.landings().len() == 1).await;
    let folder = setting.path("data/status/site=here");
    std::fs::create_dir_all(&folder).unwrap();
    let publish = |written_at: jiff::Timestamp| {
        let status = serde_json::json!({
            "version": 1, "site": "here", "written_at": written_at, "interval_s": 3600, "newer": {},
            "monitors": [{ "id": "path", "object": "m", "state": "alarm", "alarm": { "since": written_at } }],
        });
        std::fs::write(folder.join("status.json"), status.to_string()).unwrap();
    };
    let now = jiff::Timestamp::now();
    publish(now - jiff::SignedDuration::from_hours(4));
    let stale = setting.run("mailqos-analytics", &["deliver", "r.pdf", "--to", "people"]);
    let said = complaint_of(&stale);
    assert!(said.contains("the probe's status is stale"), "{said}");
    until("a mail by the configured order", || first.landings().len() == 2).await;
    publish(now);
    deliver();
    until("the mail around the alarm", || second.landings().len() == 2).await;
    let last = setting.ledger().pop().unwrap();
    let reply = last["reply"].as_str().unwrap();
    assert!(
        reply.contains("mail server first is tried last: the monitor path is in alarm"),
        "{reply}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_with_a_low_limit_get_a_note_or_a_link() {
    let mut setting = Setting::new("here");
    let small = Options { max_size: 1_500_000, ..Options::default() };
    let server = mail_server(&mut setting, "post", small).await;
    setting.add(
        "[operator.ben]\nemail = \"Ben Roe <ben@example.com>\"\nattachments = \"100kB\"\n\
         [target.people]\nkind = \"email\"\nto = \"\\\"Berg, Anna\\\" <anna@example.com>\"\n\
         [target.linked]\nkind = \"email\"\nto = [\"ben\", \"cem@example.com\"]\nlink_to = \"shelf\"\n\
         [target.shelf]\nkind = \"folder\"\npath = \"shelf/{{ report.slug }}\"\nurl = \"https://files.example.com/reports/\"",
    );
    file(&setting, "large.pdf", 2_000_000);
    setting.succeed("mailqos-analytics", &["deliver", "large.pdf", "--to", "people"]);
    until("a mail", || !server.landings().is_empty()).await;
    let mails = server.landings();
    let text = String::from_utf8_lossy(&mails[0].content);
    assert!(text.contains("are not attached") && text.contains("large.pdf (2.0 MB)"), "{text}");
    assert!(text.contains("To: \"Berg, Anna\" <anna@example.com>"), "{text}");
    assert!(attached(&mails[0]).is_empty());

    let medium = file(&setting, "medium.pdf", 300_000);
    let folder = ["--folder", "2026/10 x"];
    setting.succeed(
        "mailqos-analytics",
        &[&["deliver", "medium.pdf", "--to", "linked"], &folder[..]].concat(),
    );
    until("both", || server.landings().len() == 3).await;
    for mail in &server.landings()[1..] {
        let text = String::from_utf8_lossy(&mail.content).replace("=\r\n", "").replace("=3D", "=");
        if mail.to.starts_with("ben") {
            assert!(
                text.contains("https://files.example.com/reports/medium/2026/10%20x/medium.pdf"),
                "{text}"
            );
            assert!(attached(mail).is_empty());
        } else {
            assert!(attached(mail)[0].1 == medium);
        }
    }
    assert!(std::fs::read(setting.path("shelf/medium/2026/10 x/medium.pdf")).unwrap() == medium);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_rejected_for_all_is_never_recorded_as_delivered() {
    let mut setting = Setting::new("here");
    let tiny = Options { max_size: 200, ..Options::default() };
    let server = mail_server(&mut setting, "post", tiny).await;
    setting
        .add("[target.people]\nkind = \"email\"\nto = [\"anna@example.com\", \"ben@example.com\"]");
    file(&setting, "large.pdf", 2_000_000);
    let output = setting.run("mailqos-analytics", &["deliver", "large.pdf", "--to", "people"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("even a short notice") && said.contains("raise its limit"), "{said}");
    assert!(setting.ledger().is_empty() && server.accepted().is_empty());
    let waiting = setting.succeed("mailqos-analytics", &["outbox", "list"]);
    assert_eq!(waiting.lines().count(), 1, "{waiting}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_mail_gets_no_other_from_a_server_that_takes_more() {
    let mut setting = Setting::new("here");
    let small = Options { max_size: 1_500_000, ..Options::default() };
    let first = mail_server(&mut setting, "first", small).await;
    let second = mail_server(&mut setting, "second", Options::default()).await;
    setting.add(
        "[target.people]\nkind = \"email\"\nmail_server = \"first\"\nfallback = \"second\"\n\
         to = [\"anna@example.com\", \"ben@example.com\"]",
    );
    file(&setting, "large.pdf", 2_000_000);
    let later = Fault::Reply("450 4.2.0 greylisted".into());
    first.inject(Protocol::Smtp, "RCPT", later, When::Times(1));
    let output = setting.run("mailqos-analytics", &["deliver", "large.pdf", "--to", "people"]);
    assert_eq!(output.status.code(), Some(1));
    until("Ben's mail", || first.landings().len() == 1).await;
    first.refuse(Protocol::Smtp);
    assert!(try_again(&setting).status.success());
    until("Anna's mail", || second.landings().len() == 1).await;
    assert_eq!(first.landings()[0].to, "ben@example.com");
    assert_eq!(second.landings()[0].to, "anna@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_and_twenty_recipients_all_get_it_in_folded_lines() {
    let mut setting = Setting::new("here");
    let user = |number: usize| format!("person.number.{number}@example.com");
    let server = mail_server_for(
        &mut setting,
        (0..120).map(|number| (user(number), PASSWORD.to_owned())).collect(),
        // RFC 821 used 552 for too many recipients.
        Options {
            max_recipients: Some((50, "552 Too many recipients".into())),
            ..Options::default()
        },
    )
    .await;
    let to: Vec<String> =
        (0..120).map(|number| format!("\"Person Number {number} <{}>\"", user(number))).collect();
    setting.add(&format!("[target.people]\nkind = \"email\"\nto = [{}]", to.join(", ")));
    file(&setting, "r.pdf", 1_000);
    setting.succeed("mailqos-analytics", &["deliver", "r.pdf", "--to", "people"]);
    let mails = server.accepted();
    let mut all: Vec<String> = mails.iter().flat_map(|mail| mail.to.clone()).collect();
    assert_eq!(all.len(), 120);
    all.sort();
    all.dedup();
    assert_eq!((all.len(), mails.len()), (120, 3));
    for mail in &mails {
        let text = String::from_utf8_lossy(&mail.content);
        let head = text.split("\r\n\r\n").next().unwrap();
        assert!(head.lines().all(|line| line.len() <= 78), "{head}");
        assert_eq!(head.matches("@example.com>").count(), 121, "{head}");
    }
    assert_eq!(setting.ledger()[0]["accepted"].as_array().unwrap().len(), 120);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_habit_of_a_mail_server_loses_or_duplicates_a_mail() {
    for habit in mail_couriers::HABITS {
        let count = mail_couriers::run(habit, 1).await;
        let all = mail_couriers::Count { once: 7, ..Default::default() };
        assert_eq!(count, all, "{}", habit.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_gets_files_once_it_is_there() {
    let store = ObjectStore::start().await.unwrap();
    let mut setting = Setting::new("here");
    secret_file(&setting.path("s3.secret"), SECRET);
    setting.add(&format!(
        "[account.store]\nuser = \"{KEY_ID}\"\npassword = {{ file = \"s3.secret\" }}\n\
         [target.bucket]\nkind = \"object-store\"\nurl = \"s3://bucket/reports\"\nendpoint = \"{}\"\nallow_http = true\nregion = \"eu-north-1\"\naccount = \"store\"",
        store.endpoint()
    ));
    let said = setting.succeed("mailqos-analytics", &["targets", "test"]);
    assert!(said.starts_with("bucket  ok  s3://bucket/reports/mailqos-test-"), "{said}");
    assert!(store.names().is_empty(), "{:?}", store.names());
    let pdf = file(&setting, "r.pdf", 100_000);
    store.set_away(true);
    let output = setting
        .run("mailqos-analytics", &["deliver", "r.pdf", "--to", "bucket", "--folder", "2026"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("s3://bucket/reports/2026/r.pdf") && said.contains("next retry"),
        "{said}"
    );
    assert!(!said.contains(SECRET));
    store.set_away(false);
    assert!(try_again(&setting).status.success());
    assert_eq!(store.names(), ["bucket/reports/2026/r.pdf"]);
    assert!(store.get("bucket/reports/2026/r.pdf").unwrap() == pdf);
    assert_eq!(setting.ledger()[0]["reply"], "size and SHA-256 checked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_locked_for_a_dead_connection_is_written_again() {
    let server = FtpServer::start().await.unwrap();
    let mut setting = Setting::new("here");
    setting.add(&format!(
        "[target.site]\nkind = \"ftp\"\nserver = \"127.0.0.1\"\nport = {}\ntls = \"none\"\ntimeout = \"2s\"",
        server.port()
    ));
    let pdf = file(&setting, "r.pdf", 200_000);
    server.fall_silent();
    let output = setting.run("mailqos-analytics", &["deliver", "r.pdf", "--to", "site"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no answer within 2 s") && said.contains("next retry"), "{said}");
    let names = server.names();
    assert!(names.len() == 1 && names[0].ends_with(".part"), "{names:?}");

    let output = try_again(&setting);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.names(), ["r.pdf"]);
    assert!(server.get("r.pdf").unwrap() == pdf);
    assert_eq!(setting.ledger()[0]["reply"], "size and SHA-256 checked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_server_rejects_is_reported() {
    let server = FtpServer::start().await.unwrap();
    let mut setting = Setting::new("here");
    setting.add(&format!(
        "[target.site]\nkind = \"ftp\"\nserver = \"127.0.0.1\"\nport = {}\ntls = \"none\"",
        server.port()
    ));
    file(&setting, "r.pdf", 1_000);
    server.refuse_new_names();
    let output = setting.run("mailqos-analytics", &["deliver", "r.pdf", "--to", "site"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // There is no old file: the failure to remove it is not the cause.
    assert!(said.contains("RNTO r.pdf: 550 names stay") && !said.contains("DELE"), "{said}");
}

#[test]
fn only_our_own_old_files_are_removed_by_rule() {
    let mut setting = Setting::new("here");
    setting.add("[target.shelf]\nkind = \"folder\"\npath = \"shelf\"\nkeep = \"30d\"");
    for name in ["a.pdf", "b.pdf"] {
        file(&setting, name, 10_000);
        setting.succeed("mailqos-analytics", &["deliver", name, "--to", "shelf"]);
    }
    std::fs::write(setting.path("shelf/theirs.pdf"), "theirs").unwrap();
    std::fs::write(setting.path("shelf/b.pdf"), "changed by someone").unwrap();
    let later = |days: i64| {
        let now = (UtcMicros::now() + Micros::from_secs(days * 86_400)).to_string();
        setting.succeed("mailqos-analytics", &["schedule", "run-due", "--now", &now]);
        let mut names: Vec<String> = std::fs::read_dir(setting.path("shelf"))
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(later(29), ["a.pdf", "b.pdf", "theirs.pdf"]);
    assert_eq!(later(31), ["b.pdf", "theirs.pdf"]);
    for (name, reason) in [("a.pdf", "removed"), ("b.pdf", "changed")] {
        let lines = setting.ledger().into_iter();
        let line = lines.filter(|line| line["removed_at"].is_string() && line["name"] == name);
        assert_eq!(line.map(|line| line["reason"].clone()).collect::<Vec<_>>(), [reason]);
    }
    let csv = setting.succeed("mailqos-analytics", &["outbox", "ledger", "--format", "csv"]);
    assert!(csv.contains(",removed,shelf,,,,a.pdf,"), "{csv}");
}

/// Receives the notices that an action list sends about failed deliveries.
async fn bosses(setting: &mut Setting) -> Hooks {
    let hooks = Hooks::start(Manner::Status(200)).await.unwrap();
    setting.add(&format!(
        "[delivery]\npatience = \"0s\"\naction_list = \"bosses\"\n\
         [action_list.bosses]\nactions = [{{ webhook = {{ url = \"{}\", body = '{{ \"subject\": {{{{ subject | json }}}}, \"text\": {{{{ body | json }}}} }}' }} }}]",
        hooks.url("/told")
    ));
    hooks
}

#[tokio::test(flavor = "multi_thread")]
async fn someone_is_notified_of_recipients_not_reached() {
    let mut setting = Setting::new("here");
    let hooks = bosses(&mut setting).await;
    let _server = mail_server(&mut setting, "post", Options::default()).await;
    setting.add(
        "[target.people]\nkind = \"email\"\nto = [\"anna@example.com\", \"nobody@example.com\"]",
    );
    file(&setting, "r.pdf", 1_000);
    let output = setting.run("mailqos-analytics", &["deliver", "r.pdf", "--to", "people"]);
    assert_eq!(output.status.code(), Some(1));
    until("a notification was sent", || !hooks.taken().is_empty()).await;
    let told = hooks.taken()[0].json();
    assert_eq!(told["subject"], "[mailqos here] not delivered to all recipients of people: r.pdf");
    assert!(told["text"].as_str().unwrap().contains("Refused: nobody@example.com"), "{told}");
    setting.succeed("mailqos-analytics", &["schedule", "run-due"]);
    assert_eq!(hooks.taken().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn someone_is_notified_of_abandoned_deliveries() {
    let mut setting = Setting::new("here");
    let hooks = bosses(&mut setting).await;
    setting
        .add("[target.nowhere]\nkind = \"ftp\"\nserver = \"127.0.0.1\"\nport = 1\ntls = \"none\"");
    file(&setting, "r.pdf", 1_000);
    let output = setting.run("mailqos-analytics", &["deliver", "r.pdf", "--to", "nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    until("a notification was sent", || !hooks.taken().is_empty()).await;
    let told = hooks.taken()[0].json();
    assert_eq!(told["subject"], "[mailqos here] not delivered to nowhere: r.pdf");
    assert!(told["text"].as_str().unwrap().contains("outbox retry"), "{told}");
    let list = setting.succeed("mailqos-analytics", &["outbox", "list"]);
    assert!(list.contains("given up") && list.contains("nowhere"), "{list}");
    let id = list.split_whitespace().next().unwrap();
    // No one is notified twice, and dropped deliveries are gone.
    setting.succeed("mailqos-analytics", &["schedule", "run-due"]);
    assert_eq!(hooks.taken().len(), 1);
    // Retried by an operator, it fails again; no schedule is running.
    let output = setting.run("mailqos-analytics", &["outbox", "retry", id]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(hooks.taken().len(), 2);
    setting.succeed("mailqos-analytics", &["outbox", "drop", id]);
    assert!(setting.succeed("mailqos-analytics", &["outbox", "list"]).is_empty());
}
