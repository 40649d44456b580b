use std::path::Path;

use mailqos_config::{Target, load};
use mailqos_tests::servers::{Fault, MailServer, Options, Protocol, SmtpHabits, When};

use super::{fates::key, *};
use crate::{Inline, Item, MailContent, Notes, Served};

/// Returns a configuration with recipients, a mail server and optional further lines for their
/// target.
fn config(folder: &Path, port: u16, lines: &str) -> Config {
    let file = folder.join("mailqos.toml");
    let text = format!(
        "site = \"here\"\n[mail_server.a]\nserver = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nfrom = \"Mail Reports <reports@example.com>\"\n\
         [target.share]\nkind = \"folder\"\npath = \"share\"\nurl = \"https://files.example.com\"\n\
         [target.people]\nkind = \"email\"\n{lines}"
    );
    std::fs::write(&file, text).expect("written");
    load(&file).unwrap_or_else(|problems| panic!("{problems}"))
}

fn people(config: &Config) -> &EmailTarget {
    match config.targets.get("people") {
        Some(Target::Email(target)) => target,
        _ => panic!("no mails"),
    }
}

/// Returns a report with a file, a page and two pictures of the given sizes.
fn parcel(folder: &Path, file: usize, picture: usize) -> Parcel {
    let path = folder.join("r.pdf");
    std::fs::write(&path, vec![b'x'; file]).expect("written");
    Parcel {
        items: vec![Item {
            name: "Bericht ö.pdf".into(),
            path,
        }],
        letter: MailContent {
            subject: "Mail quality, Oktober ö".into(),
            text: format!("Grüße.\n{}", "All is well. ".repeat(200)),
            html: Some(
                "<html><body class=\"x\"><p>Grüße</p><img src=\"cid:chart-1\" alt=\"Delays\"><img src=\"cid:chart-2\" alt=\"Losses\"></body></html>"
                    .into(),
            ),
            pictures: ["chart-1", "chart-2", "not-shown"]
                .map(|id| Inline {
                    id: id.into(),
                    media_type: "image/png".into(),
                    bytes: vec![0x89; picture],
                })
                .to_vec(),
            id: "monthly 2026-10".into(),
            notes: Notes::default(),
        },
        ..Parcel::default()
    }
}

fn users(count: usize) -> Vec<(String, String)> {
    (0..count).map(|number| (format!("p{number}@example.com"), "x".to_owned())).collect()
}

fn to(count: usize) -> String {
    let all: Vec<String> = (0..count).map(|number| format!("\"p{number}@example.com\"")).collect();
    format!("to = [{}]\n", all.join(", "))
}

async fn server(options: Options) -> MailServer {
    MailServer::start(Options { smtp_auth_required: false, ..options }).await.expect("a server")
}

#[tokio::test]
async fn the_mail_has_text_html_and_attachment_and_hides_bcc() {
    let folder = tempfile::tempdir().expect("folder");
    let lines = "to = [\"Anna Berg <a@example.com>\"]\nbcc = [\"hidden@example.com\"]\nreply_to = \"\\\"Desk, Mail\\\" <desk@example.com>\"\n";
    let config = config(folder.path(), 25, lines);
    let target = people(&config);
    let parcel = parcel(folder.path(), 8, 2);
    let mut content = Content::read(&config, target, &parcel).await.expect("read");
    content.links = Some("r.pdf: https://files.example.com/r.pdf".into());
    let server = config.mail_servers.values().next().expect("a server");
    let all = target.recipients();
    let write = |form: Form| {
        let bytes = content.write(server, form, &all).expect("a mail");
        String::from_utf8(bytes).expect("ASCII")
    };
    let text = write(Form::Whole);
    for part in [
        "From: Mail Reports <reports@example.com>\r\n",
        "To: Anna Berg <a@example.com>\r\n",
        "Reply-To: \"Desk, Mail\" <desk@example.com>\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "multipart/alternative",
        "multipart/related",
        "Content-ID: <chart-1>",
        "Content-Type: application/pdf;\r\n name=\"=?utf-8?B?QmVyaWNodCDDti5wZGY=?=\"",
        "filename*=utf-8''Bericht%20%C3%B6.pdf;\r\n filename=\"Bericht oe.pdf\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("hidden@example.com") && !text.contains("not-shown"), "{text}");
    assert_eq!(content.envelope(server, &all).expect("an envelope").to().len(), 2);
    let id = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("Message-ID"));
        line.map(str::to_owned).expect("an id")
    };
    assert_eq!(id(&text), id(&write(Form::Whole)));
    let mut size = text.len();
    for form in Form::Whole.smaller() {
        let text = write(form);
        assert_ne!(id(&text), id(&write(Form::Whole)));
        assert!(!text.contains("application/pdf"), "{text}");
        assert!(text.contains("https://files.example.com/r.pdf"), "{text}");
        assert!(text.len() <= size, "{form:?} is larger than the form before");
        size = text.len();
    }
    assert!(!write(Form::NoPictures).contains("image/png"));
    assert!(write(Form::NoPictures).contains("Losses"));
    assert!(!write(Form::Text).contains("text/html"));
}

#[test]
fn a_recipient_served_in_any_form_is_served() {
    let after = |mails: &[(&str, bool)]| {
        let mut progress = Progress::forgotten();
        for (mail, refused) in mails {
            let served = Served {
                recipient: "anna@example.com".into(),
                at: String::new(),
                reply: "250 OK".into(),
                refused: *refused,
            };
            progress.done.insert(format!("anna@example.com {mail}"), served);
        }
        Fate::of("anna@example.com", &progress)
    };
    assert_eq!(after(&[]), Fate::Due);
    // Keys written by this version and by earlier ones.
    for word in ["whole", "link", "leave", "page", "notice"] {
        assert!(matches!(after(&[(word, false)]), Fate::Accepted(_)), "{word}");
        assert!(matches!(after(&[(word, true)]), Fate::Refused(_)), "{word}");
    }
    assert!(matches!(after(&[("whole", true), ("page", false)]), Fate::Accepted(_)));
    // A part of a report does not count as the report.
    assert_eq!(after(&[("split 20000 1/2", false)]), Fate::Due);
    assert_eq!(key("anna@example.com", Form::Whole), "anna@example.com whole");
}

#[test]
fn there_is_no_receipt_while_a_recipient_is_due() {
    let all: Vec<Person> =
        (0..3).map(|number| format!("p{number}@example.com").parse().expect("a person")).collect();
    let all: Vec<&Person> = all.iter().collect();
    // Every combination of results: a receipt exists exactly if no recipient is due.
    for combination in 0..27_usize {
        let mut progress = Progress::forgotten();
        let fates = [combination % 3, combination / 3 % 3, combination / 9];
        for (person, fate) in all.iter().zip(fates) {
            if fate > 0 {
                let served = Served {
                    recipient: person.address.clone(),
                    at: String::new(),
                    reply: "x".into(),
                    refused: fate == 2,
                };
                progress.done.insert(key(&person.address, Form::Whole), served);
            }
        }
        let due = fates.iter().filter(|fate| **fate == 0).count();
        match Fates::of(&all, &progress).complete() {
            Ok(receipt) => assert_eq!((due, receipt.places.len() + receipt.refused.len()), (0, 3)),
            Err(DeliveryError::Due(people)) => assert_eq!(people.len(), due),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Returns the mails that a server accepted for an address.
fn accepted(server: &MailServer, address: &str) -> Vec<Vec<u8>> {
    let all = server.accepted().into_iter();
    all.filter(|mail| mail.to.iter().any(|to| to == address))
        .map(|mail| mail.content.to_vec())
        .collect()
}

/// Delivers to some people through a server. Returns the delivered mails and the number of
/// attempts.
async fn delivered(
    config: &Config,
    parcel: &Parcel,
    server: &MailServer,
    people_count: usize,
) -> (Vec<usize>, usize) {
    let target = people(config);
    let mut progress = Progress::forgotten();
    let mut attempts = 0;
    let mut result = Err(DeliveryError::Due(Vec::new()));
    while result.is_err() && attempts < 6 {
        attempts += 1;
        result = deliver(config, target, parcel, &mut progress).await;
    }
    let receipt = result.unwrap_or_else(|error| panic!("after {attempts} attempts: {error}"));
    assert_eq!(receipt.places.len() + receipt.refused.len(), people_count);
    let mails =
        (0..people_count).map(|number| accepted(server, &format!("p{number}@example.com")).len());
    (mails.collect(), attempts)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_report_is_too_large_to_arrive() {
    // The file alone, with the pictures, the page, the text, in every way in which servers reject a
    // size.
    for (limit, says_so) in [
        (600_000, true),
        (600_000, false),
        (90_000, true),
        (90_000, false),
        (3_000, true),
        (3_000, false),
    ] {
        let folder = tempfile::tempdir().expect("folder");
        let server = server(Options {
            users: users(2),
            max_size: limit,
            states_size: says_so,
            ..Options::default()
        })
        .await;
        let config =
            config(folder.path(), server.smtp_port(), &format!("{}link_to = \"share\"\n", to(2)));
        let parcel = parcel(folder.path(), 1_000_000, 100_000);
        let (mails, attempts) = delivered(&config, &parcel, &server, 2).await;
        assert_eq!((mails, attempts), (vec![1, 1], 1), "{limit} {says_so}");
        let mail =
            String::from_utf8(accepted(&server, "p0@example.com")[0].clone()).expect("ASCII");
        assert!(mail.len() <= limit, "{limit} {says_so}");
        assert!(mail.contains("https://files.example.com/Bericht"), "{mail}");
        assert!(folder.path().join("share/Bericht ö.pdf").is_file());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_accepts_nothing_leaves_all_recipients_due() {
    let folder = tempfile::tempdir().expect("folder");
    let server = server(Options { users: users(2), max_size: 100, ..Options::default() }).await;
    let config = config(folder.path(), server.smtp_port(), &to(2));
    let parcel = parcel(folder.path(), 10_000, 10_000);
    let mut progress = Progress::forgotten();
    let error =
        deliver(&config, people(&config), &parcel, &mut progress).await.expect_err("nobody got it");
    assert!(error.to_string().contains("even a short notice"), "{error}");
    assert_eq!(error.again(), crate::Retry::WhenMended);
    assert!(progress.done.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_size_refusal_leads_to_a_smaller_mail() {
    for (phase, words) in [
        ("MAIL", "552 5.3.4 Message size exceeds fixed limit"),
        ("MAIL", "523 Message length exceeds administrative limit"),
        ("CONTENT", "552 5.2.3 Message exceeds maximum fixed size"),
        ("CONTENT", "554 5.3.4 Error: message file too big"),
        (
            "CONTENT",
            "550 5.2.3 RESOLVER.RST.SendSizeLimit.Org; message too large for this organization",
        ),
        ("CONTENT", "552 Requested mail action aborted: exceeded storage allocation"),
        ("CONTENT", "523 Message length (1 bytes) exceeds administrative limit(0)"),
        ("RCPT", "552 5.3.4 message too large for this recipient"),
    ] {
        let folder = tempfile::tempdir().expect("folder");
        let server = server(Options { users: users(2), ..Options::default() }).await;
        server.inject(Protocol::Smtp, phase, Fault::Reply(words.into()), When::Times(2));
        let config = config(folder.path(), server.smtp_port(), &to(2));
        let parcel = parcel(folder.path(), 200_000, 50_000);
        let (mails, attempts) = delivered(&config, &parcel, &server, 2).await;
        assert_eq!((mails, attempts), (vec![1, 1], 1), "{phase} {words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_beyond_a_limit_get_further_transactions() {
    for refusal in [
        "452 4.5.3 Error: too many recipients",
        "452 Too many recipients",
        "552 5.5.3 Too many recipients",
        "552 Too many recipients",
        "552",
        "550 5.5.3 Too many recipients",
        "451 4.5.3 Too many recipients in this transaction",
        "421 4.5.3 Too many recipients",
        "421 Too many recipients, closing connection",
    ] {
        let folder = tempfile::tempdir().expect("folder");
        let server = server(Options {
            users: users(11),
            max_recipients: Some((3, refusal.to_owned())),
            ..Options::default()
        })
        .await;
        let config = config(folder.path(), server.smtp_port(), &to(11));
        let parcel = parcel(folder.path(), 1_000, 1_000);
        let (mails, attempts) = delivered(&config, &parcel, &server, 11).await;
        assert_eq!((mails, attempts), (vec![1; 11], 1), "{refusal}");
    }
    // Announced beforehand (RFC 9422), or rejected only after the data (Exchange Online).
    for (states, phase) in [(true, None), (false, Some("CONTENT")), (false, Some("DATA"))] {
        let folder = tempfile::tempdir().expect("folder");
        let server = server(Options {
            users: users(8),
            max_recipients: states.then(|| (3, "550 5.7.1 never said".to_owned())),
            states_max_recipients: states,
            ..Options::default()
        })
        .await;
        if let Some(phase) = phase {
            let words = "550 5.5.3 RESOLVER.ADR.RecipLimit; too many recipients";
            server.inject(Protocol::Smtp, phase, Fault::Reply(words.into()), When::Times(2));
        }
        let config = config(folder.path(), server.smtp_port(), &to(8));
        let parcel = parcel(folder.path(), 1_000, 1_000);
        let (mails, attempts) = delivered(&config, &parcel, &server, 8).await;
        assert_eq!((mails, attempts), (vec![1; 8], 1), "{states} {phase:?}");
    }
}

/// RFC 5321, section 3.2: a server without extensions gets HELO.
#[tokio::test(flavor = "multi_thread")]
async fn servers_with_helo_only_get_reports() {
    for refusal in [
        "502 5.5.2 Error: command not recognized",
        "500 Syntax error, command unrecognized",
        "500-What?\r\n500 HELO is what we say",
        "504",
    ] {
        let folder = tempfile::tempdir().expect("folder");
        let server = server(Options {
            users: users(2),
            smtp_habits: SmtpHabits { no_ehlo: Some(refusal), ..SmtpHabits::default() },
            ..Options::default()
        })
        .await;
        let config = config(folder.path(), server.smtp_port(), &to(2));
        let parcel = parcel(folder.path(), 1_000, 1_000);
        let (mails, attempts) = delivered(&config, &parcel, &server, 2).await;
        assert_eq!((mails, attempts), (vec![1; 2], 1), "{refusal}");
        let mail = &server.accepted()[0];
        assert!(mail.content.is_ascii(), "8BITMIME was not offered");
    }
}

/// PHPMailer/PHPMailer#2189: the text of the refusal was lost, because HELO followed it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_name_in_ehlo_does_not_lead_to_helo() {
    for refusal in [
        "421 EHLO MXIN201 does not match your DNS configuration",
        "550 5.7.1 Helo command rejected: Host not found",
    ] {
        let folder = tempfile::tempdir().expect("folder");
        let server = server(Options {
            users: users(1),
            smtp_habits: SmtpHabits { no_ehlo: Some(refusal), ..SmtpHabits::default() },
            ..Options::default()
        })
        .await;
        let config = config(folder.path(), server.smtp_port(), &to(1));
        let parcel = parcel(folder.path(), 1_000, 1_000);
        let error = deliver(&config, people(&config), &parcel, &mut Progress::forgotten())
            .await
            .expect_err("nobody got it");
        assert!(error.to_string().contains(&refusal[4..]), "{error}");
        let commands = server.commands(Protocol::Smtp);
        assert!(!commands.iter().any(|line| line.starts_with("HELO")), "{commands:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporarily_rejected_recipient_is_retried_separately() {
    let folder = tempfile::tempdir().expect("folder");
    let server = server(Options { users: users(3), ..Options::default() }).await;
    server.inject(
        Protocol::Smtp,
        "RCPT",
        Fault::Reply("450 4.2.0 Greylisted".into()),
        When::Times(1),
    );
    let lines = format!("{}cc = \"nobody@example.com\"\n", to(3));
    let config = config(folder.path(), server.smtp_port(), &lines);
    let parcel = parcel(folder.path(), 1_000, 1_000);
    let mut progress = Progress::forgotten();
    let error =
        deliver(&config, people(&config), &parcel, &mut progress).await.expect_err("one is due");
    assert!(error.to_string().contains("p0@example.com: 450"), "{error}");
    assert_eq!(error.again(), crate::Retry::Soon);
    let receipt =
        deliver(&config, people(&config), &parcel, &mut progress).await.expect("all are known");
    assert_eq!((receipt.accepted.len(), receipt.refused.len()), (3, 1));
    for number in 0..3 {
        assert_eq!(accepted(&server, &format!("p{number}@example.com")).len(), 1);
    }
}

#[test]
fn a_note_is_at_the_top_of_the_page() {
    assert_eq!(
        letter::with_note("<html><BODY style=\"a\"><p>x</p></BODY></html>", "a < b\nc"),
        "<html><BODY style=\"a\"><p style=\"font-family:sans-serif;\">a &lt; b<br>\nc</p><p>x</p></BODY></html>"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_password_is_not_tried_again_until_it_changes() {
    let folder = tempfile::tempdir().expect("folder");
    let users = [users(2), vec![("desk@example.com".to_owned(), "right".to_owned())]].concat();
    let server =
        MailServer::start(Options { users, ..Options::default() }).await.expect("a server");
    let password =
        |text: &str| mailqos_tests::setting::write_private(&folder.path().join("password"), text);
    std::fs::write(folder.path().join("ca.pem"), server.authority().pem()).expect("written");
    password("wrong");
    let text = format!(
        "site = \"here\"\n[account.desk]\nuser = \"desk@example.com\"\npassword = {{ file = \"password\" }}\n\
         [mail_server.a]\nserver = \"127.0.0.1\"\nport = {}\ntls = \"starttls\"\naccount = \"desk\"\nca_file = \"ca.pem\"\n\
         from = \"desk@example.com\"\n[target.people]\nkind = \"email\"\n{}",
        server.smtp_port(),
        to(2)
    );
    let file = folder.path().join("mailqos.toml");
    std::fs::write(&file, text).expect("written");
    let config = load(&file).unwrap_or_else(|problems| panic!("{problems}"));
    let parcel = parcel(folder.path(), 10, 10);
    let mut progress = Progress::forgotten();
    let logins = || {
        let commands = server.commands(Protocol::Smtp);
        commands.iter().filter(|line| line.starts_with("AUTH")).count()
    };
    for is_first in [true, false, false] {
        let error =
            deliver(&config, people(&config), &parcel, &mut progress).await.expect_err("rejected");
        assert_eq!(error.again(), crate::Retry::WhenMended);
        assert_eq!(error.to_string().contains("not tried again yet"), !is_first, "{error}");
        assert_eq!(logins(), 1);
    }
    password("right");
    deliver(&config, people(&config), &parcel, &mut progress).await.expect("delivered");
    assert_eq!((logins(), server.accepted().len()), (2, 1));
}

#[tokio::test]
async fn lines_end_with_crlf_and_files_arrive_unchanged() {
    // gen_smtp #253, packetfence #5380 (550 5.6.11), msmtp #145 (552 5.2.0): bare LF, bare CR.
    let folder = tempfile::tempdir().expect("folder");
    let config = config(folder.path(), 25, &to(1));
    let mut parcel = parcel(folder.path(), 10, 10);
    let rows = b"a,b\n1,2\r\n.\n3,\r4\n";
    let path = folder.path().join("rows.csv");
    std::fs::write(&path, rows).expect("written");
    parcel.items.push(Item { name: "rows.csv".into(), path });
    for (text, html) in
        [("one\ntwo\r\nthree\rfour\n\n.\n", Some("<p>one\r</p>\n.\n")), ("plain\r", None)]
    {
        parcel.letter.text = text.to_owned();
        parcel.letter.html = html.map(str::to_owned);
        let content = letter::Content::read(&config, people(&config), &parcel).await.expect("read");
        let server = config.mail_servers.values().next().expect("a server");
        for form in std::iter::once(Form::Whole).chain(Form::Whole.smaller()) {
            let mail = content.write(server, form, &[]).expect("written");
            let mail = String::from_utf8(mail).expect("text");
            let halves = mail.replace("\r\n", "");
            assert!(!halves.contains(['\r', '\n']), "{form:?}: {mail:?}");
            let whole = mail.contains(&base64(rows));
            assert_eq!(whole, !form.is_without_files(), "{form:?}: {mail}");
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
