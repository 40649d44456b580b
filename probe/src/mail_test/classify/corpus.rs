//! Tests that the messages of `tests/notifications` are classified correctly: complete, truncated
//! and modified.

use std::sync::LazyLock;

use mailqos_base::Secret;
use mailqos_model::UtcMicros;
use mailqos_tests::notifications::{Story, stories};
use proptest::prelude::*;

use super::*;

static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    SigningKey::new(&Secret::new("a key of at least sixteen bytes")).expect("key")
});
static STORIES: LazyLock<Vec<Story>> = LazyLock::new(stories);

const NONCE: [u8; 8] = [0xab, 1, 2, 3, 4, 5, 6, 7];

fn token(nonce: [u8; 8]) -> Token {
    Token {
        site: "here".parse().expect("a site"),
        monitor: "mail-hq".parse().expect("an id"),
        sent_at: UtcMicros(1_795_456_800_000_000),
        nonce,
    }
}

/// The probe's knowledge: one mail is expected.
struct Probe;

impl Known for Probe {
    fn key(&self) -> &SigningKey {
        &KEY
    }

    fn awaited(&self, nonce: [u8; 8]) -> Option<Token> {
        (nonce == NONCE).then(|| token(nonce))
    }

    fn sender(&self, token: &Token) -> Option<String> {
        (token.site.as_str() == "here").then(|| "Probe@Example.com".to_owned())
    }
}

fn mail_of(nonce: [u8; 8]) -> String {
    let text = KEY.write(&token(nonce));
    format!(
        "From: mailqos <probe@example.com>\r\nTo: <probe@example.com>\r\nSubject: mailqos test\r\n {text}\r\n\
         Date: Mon, 23 Nov 2026 18:00:00 +0000\r\nMessage-ID: <mq1.{:016x}@example.com>\r\nX-MailQoS-Token: {text}\r\n\
         Auto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: All\r\nPrecedence: bulk\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\
         This is a test mail. It is normally removed within seconds.\r\n\r\n{text}\r\n",
        u64::from_be_bytes(nonce)
    )
}

fn mail() -> String {
    format!(
        "Return-Path: <probe@example.com>\r\nReceived: from a by b with ESMTP id c; Mon, 23 Nov 2026 18:00:01 +0000\r\n{}",
        mail_of(NONCE)
    )
}

fn about(story: &Story) -> Vec<u8> {
    story.about(mail_of(NONCE).as_bytes(), &KEY.write(&token([9; 8])))
}

fn answer(classification: &Classification) -> String {
    match classification {
        Classification::TestMail(_) => "the mail".to_owned(),
        Classification::About(_) => "left".to_owned(),
        Classification::Foreign => "foreign".to_owned(),
        Classification::Notification(_, report) => {
            let kind = format!("{:?}", report.kind).to_lowercase();
            let status = report
                .status
                .as_deref()
                .filter(|_| matches!(report.kind, Kind::Failed | Kind::Delayed));
            status.map_or(kind.clone(), |status| format!("{kind} {status}"))
        }
    }
}

#[test]
fn every_message_is_classified_correctly() {
    let mut wrong = Vec::new();
    for story in &*STORIES {
        let classification = classify(&Probe, &about(story));
        let is_about = classification.token().is_some_and(|token| token.nonce == NONCE);
        if answer(&classification) != story.answer || !is_about {
            wrong.push(format!(
                "{}: {} instead of {}: {classification:?}",
                story.name,
                answer(&classification),
                story.answer
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), STORIES.len(), wrong.join("\n"));
}

#[test]
fn failures_have_reasons_and_only_system_notifications_are_deleted() {
    for story in &*STORIES {
        let classification = classify(&Probe, &about(story));
        let Classification::Notification(_, report) = &classification else {
            continue;
        };
        if report.is_failure() && !story.name.contains("cut short") {
            assert!(
                report.reason.is_some() || report.status.is_some(),
                "{}: {report:?}",
                story.name
            );
        }
        let is_of_person = ["complaint", "disposition", "autoreply"].contains(&&*story.answer);
        assert!(!(is_of_person && report.is_deletable()), "{}", story.name);
    }
    let of = |name: &str| {
        let story = STORIES.iter().find(|story| story.name == name).expect("a story");
        match classify(&Probe, &about(story)) {
            Classification::Notification(_, report) => {
                (report.reason.unwrap_or_default(), report.is_certain)
            }
            other => panic!("{name}: {other:?}"),
        }
    };
    for (name, reason, is_certain) in [
        ("qmail", "Remote host said: 550 5.1.1 <user@example.org>: unknown user", true),
        ("imail", "User mailbox exceeds allowed size: user@example.org", false),
        ("notes", "Not in the directory", true),
        (
            "domino, only the subject comes back",
            "User some.name (user@example.jp) not listed in Domino Directory",
            true,
        ),
        ("gmx and 1&1", "Mail size limit exceeded. For explanation visit", true),
        ("postfix", "550 5.1.1 no such mailbox here", true),
        ("amazon sns", "smtp; 550 5.1.1 user unknown", false),
        ("m-filter", "550 unknown user <user@example.com>", false),
        ("sendmail", "552-5.7.0 This message was blocked because of its content", true),
    ] {
        assert_eq!(of(name), (reason.to_owned(), is_certain), "{name}");
    }
}

#[test]
fn the_mail_is_recognised_after_changes_by_gateways() {
    let text = KEY.write(&token(NONCE));
    let whole = mail();
    let without = |name: &str| {
        let mut lines: Vec<&str> = Vec::new();
        let mut is_dropped = false;
        for line in whole.split_inclusive('\n') {
            let is_folded = line.starts_with([' ', '\t']);
            is_dropped = if is_folded { is_dropped } else { line.starts_with(name) };
            if !is_dropped {
                lines.push(line);
            }
        }
        lines.concat()
    };
    let encoded = |how: &str, content: &str| format!("=?utf-8?{how}?{content}?=");
    let word = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!("mailqos test {text}"),
    );
    let subjects = [
        format!("[SPAM?] mailqos test\r\n\t{text}"),
        encoded("B", &word),
        encoded("Q", &format!("mailqos_test_{}", text.replace(':', "=3A").replace('_', "=5F"))),
    ];
    let mut mails = vec![
        ("as it is", whole.clone()),
        ("without its body", whole[..whole.find("This is").expect("a body")].to_owned()),
        ("with a footer of a list", format!("{whole}\r\n-- \r\nTo leave the list write to x\r\n")),
        (
            "resent",
            format!("Resent-From: anna@example.com\r\nResent-To: probe@example.com\r\n{whole}"),
        ),
        (
            "from another sender, as by a list",
            whole.replace("mailqos <probe@", "\"mailqos via list\" <list@"),
        ),
        (
            "another identifier",
            without("Message-ID").replace("Date:", "Message-ID: <x@gateway>\r\nDate:"),
        ),
        ("another subject", without("Subject")),
        ("without the field", without("X-MailQoS-Token")),
        (
            "the identifier alone",
            without("X-MailQoS-Token").replace(&format!("mailqos test\r\n {text}"), "changed"),
        ),
        ("the field twice", whole.replace("Date:", &format!("X-MailQoS-Token: {text}\r\nDate:"))),
        (
            "of a mailbox file",
            format!("From probe@example.com Mon Nov 23 18:00:00 2026\r\n{whole}"),
        ),
        ("with bare line feeds", whole.replace("\r\n", "\n")),
        (
            "wrapped by SpamAssassin",
            format!(
                "{}Content-Type: multipart/mixed; boundary=\"sa\"\r\n\r\n--sa\r\nContent-Type: text/plain\r\n\r\nSpam detection\r\n\
                 --sa\r\nContent-Type: message/rfc822; x-spam-type=original\r\n\r\n{whole}\r\n--sa--\r\n",
                &whole[..whole.find("X-MailQoS-Token").expect("the field")]
            ),
        ),
    ];
    for subject in subjects {
        let mail =
            without("X-MailQoS-Token").replace(&format!("mailqos test\r\n {text}"), &subject);
        mails.push(("another spelling of the subject", mail));
    }
    for (name, mail) in mails {
        let classification = classify(&Probe, mail.as_bytes());
        assert_eq!(classification, Classification::TestMail(token(NONCE)), "{name}: {mail}");
    }
}

#[test]
fn a_contradiction_in_the_header_makes_it_another_message() {
    let whole = mail();
    for fields in [
        "Return-Path: <>\r\n",
        "Return-Path: <MAILER-DAEMON>\r\n",
        "Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n",
        "Content-Type: message/rfc822\r\n",
        "Auto-Submitted: auto-replied\r\n",
        "Auto-Submitted: auto-generated (failure)\r\n",
        "X-Failed-Recipients: user@example.org\r\n",
        "X-MS-Embedded-Report:\r\n",
        "In-Reply-To: <mq1.ab01020304050607@example.com>\r\n",
        "References: <x@y> <mq1.ab01020304050607@example.com>\r\n",
    ] {
        let classification = classify(&Probe, format!("{fields}{whole}").as_bytes());
        assert!(!matches!(classification, Classification::TestMail(_)), "{fields}");
    }
    let text = KEY.write(&token(NONCE));
    let bare = format!("From: probe@example.com\r\nSubject: mailqos test {text}\r\n\r\n");
    assert!(matches!(classify(&Probe, bare.as_bytes()), Classification::TestMail(_)));
    for (before, after) in [
        ("Subject: ", "Subject: Re: "),
        ("Subject: ", "Subject: Fwd: "),
        ("Subject: ", "Subject: Automatic reply: "),
        ("Subject", "In-Reply-To: <x@y>\r\nSubject"),
        ("Subject", "Auto-Submitted: auto-notified\r\nSubject"),
        ("From: probe@", "From: anna@"),
        ("From: probe@example.com", "From: probe@example.com, anna@example.com"),
        ("From: probe@example.com", "From: \"probe@example.com\" <anna@example.com>"),
        ("From: probe@example.com\r\n", ""),
        // Truncated: the missing part might contradict it.
        ("\r\n\r\n", "\r\n"),
        // One of our fields within another signature is not decisive, and neither is a modified
        // one.
        (&text[..text.len() - 1], "mq1:here:mail-hq:0:"),
    ] {
        let changed = bare.replacen(before, after, 1);
        let classification = classify(&Probe, changed.as_bytes());
        assert!(!matches!(classification, Classification::TestMail(_)), "{changed}");
    }
}

#[test]
fn a_mail_edited_as_new_counts_as_a_persons() {
    // Programs that keep unknown fields (mutt's resend-message, "Edit as new"), from any address.
    let new = mail().replace("Message-ID: <mq1.ab01020304050607@", "Message-ID: <new@");
    let from_anna = new.replace("mailqos <probe@", "Anna <anna@");
    let text = KEY.write(&token(NONCE));
    let other = KEY.write(&token([9; 8]));
    for (name, mail) in [
        ("resent as new", from_anna.clone()),
        ("resent as new over a list", format!("List-Id: <list.example.com>\r\n{from_anna}")),
        ("without an identifier", from_anna.replace("Message-ID: <new@example.com>\r\n", "")),
        ("forwarded by the monitor's user", new.replace("Subject: ", "Subject: Fwd: ")),
        ("answered by the monitor's user", new.replace("Subject: ", "Subject: AW: ")),
        ("edited by the monitor's user", format!("User-Agent: Mozilla Thunderbird\r\n{new}")),
        ("edited in Outlook", format!("X-Mailer: Microsoft Outlook 16.0\r\n{new}")),
        (
            "with the fields of two mails",
            mail().replace("Date:", &format!("X-MailQoS-Token: {other}\r\nDate:")),
        ),
        (
            "with an additional damaged field",
            mail().replace("Date:", "X-MailQoS-Token: mq1:x\r\nDate:"),
        ),
        (
            "a journal",
            format!(
                "From: Microsoft Exchange <microsoftexchange329e@example.com>\r\nX-MS-Journal-Report:\r\n\
                 Message-ID: <journal@example.com>\r\nSubject: mailqos test {text}\r\nMIME-Version: 1.0\r\n\
                 Content-Type: multipart/mixed; boundary=j\r\n\r\n--j\r\nContent-Type: text/plain\r\n\r\n\
                 Sender: probe@example.com\r\nSubject: mailqos test\r\nMessage-Id: <mq1.ab01020304050607@example.com>\r\n\
                 To: probe@example.com\r\n\r\n--j\r\nContent-Type: message/rfc822\r\n\r\n{}\r\n--j--\r\n",
                mail()
            ),
        ),
        (
            "sent as an attachment",
            format!(
                "From: Anna <anna@example.com>\r\nSubject: Look\r\nMIME-Version: 1.0\r\n\
                 Content-Type: multipart/mixed; boundary=g\r\n\r\n--g\r\nContent-Type: text/plain\r\n\r\nWhat is this?\r\n\
                 --g\r\nContent-Type: message/rfc822; name=\"mailqos test.eml\"\r\n\r\n{}\r\n--g--\r\n",
                mail()
            ),
        ),
    ] {
        let classification = classify(&Probe, mail.as_bytes());
        assert!(matches!(classification, Classification::About(_)), "{name}: {classification:?}");
    }
}

#[test]
fn odd_bytes_neither_hide_nor_forge_the_mail() {
    let whole = mail();
    let text = KEY.write(&token(NONCE));
    let padding = format!("X-Padding: {}\r\n", "x".repeat(900)).repeat(1200);
    for (name, mail) in [
        ("folded behind its name", whole.replace("X-MailQoS-Token: ", "X-MailQoS-Token:\r\n\t")),
        ("a body with NUL", format!("{whole}\0\0\r\n")),
        ("a field with NUL", format!("X-Odd: a\0b\r\n{whole}")),
        ("a header over 1 MB", format!("{padding}{whole}")),
        (
            "no empty line before the body",
            whole.replace("7bit\r\n\r\n", "7bit\r\n") + "\r\nmore\r\n",
        ),
        ("in part with bare line feeds", whole.replace("\r\nX-MailQoS-Token", "\nX-MailQoS-Token")),
        (
            "through Exchange, which replaces its identifier",
            format!(
                "X-MS-Has-Attach:\r\nX-MS-TNEF-Correlator:\r\n{}",
                whole.replace("Message-ID: <mq1.ab01020304050607@", "Message-ID: <AM6PR01@")
            ),
        ),
        (
            "redirected by a filter",
            format!(
                "Resent-From: anna@example.com\r\nX-Sieve-Redirected-From: anna@example.com\r\n{whole}"
            ),
        ),
    ] {
        let classification = classify(&Probe, mail.as_bytes());
        assert_eq!(classification, Classification::TestMail(token(NONCE)), "{name}");
    }
    for (name, message) in [
        ("nothing", String::new()),
        ("one empty line", "\r\n".to_owned()),
        ("no header", format!("\r\n{whole}")),
        ("words, then our header", format!("Hello,\r\n{whole}")),
        ("NUL bytes alone", "\0".repeat(1000)),
        ("our field behind NUL", format!("\0X-MailQoS-Token: {text}\r\n\r\n")),
    ] {
        let classification = classify(&Probe, message.as_bytes());
        assert!(!matches!(classification, Classification::TestMail(_)), "{name}");
    }
}

/// Returns the position at which a message's header ends.
fn header_end(message: &[u8]) -> usize {
    message.windows(4).position(|window| window == b"\r\n\r\n").map_or(message.len(), |at| at + 4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// No mutation of a bounce, an answer or a forwarded copy of our mail is the mail.
    #[test]
    fn no_mutation_of_a_message_about_the_mail_becomes_the_mail(
        story in 0..STORIES.len(),
        cut in 0.0..1.0_f64,
        changes in proptest::collection::vec((0.0..1.0_f64, any::<u8>(), 0..4_u8), 0..6),
    ) {
        let mut message = about(&STORIES[story]);
        // The evidence that a message is foreign is in its header, so a change there may remove it.
        // Anything else may be removed.
        let body = header_end(&message);
        for (place, byte, how) in changes {
            let length = message.len() - body;
            if length == 0 {
                break;
            }
            let at = body + ((length as f64 * place) as usize).min(length - 1);
            match how {
                0 => message[at] = byte,
                1 => message.insert(at, byte),
                2 => drop(message.remove(at)),
                _ => {
                    // Two lines are swapped, or a part is duplicated.
                    let piece = message[at..message.len().min(at + 80)].to_vec();
                    message.splice(body..body, piece);
                }
            }
        }
        let end = body + ((message.len() - body) as f64 * cut) as usize;
        for message in [&message[..], &message[..end], &message[..body], &message[..(body as f64 * cut) as usize]] {
            let classification = classify(&Probe, message);
            prop_assert!(!matches!(classification, Classification::TestMail(_)), "{classification:?}");
        }
    }

    /// A person may write anything before and around a copy of the mail.
    #[test]
    fn a_copy_in_a_persons_message_is_left_alone(
        subject in "\\PC{0,40}",
        words in "\\PC{0,200}",
        prefix in "[> |\t]{0,4}",
    ) {
        let quoted: String = mail().lines().map(|line| format!("{prefix}{line}\r\n")).collect();
        let subject = subject.replace(['\r', '\n'], " ");
        let message = format!("From: Anna <anna@example.com>\r\nSubject: {subject}\r\n\r\n{words}\r\n{quoted}");
        let classification = classify(&Probe, message.as_bytes());
        prop_assert!(!matches!(classification, Classification::TestMail(_)), "{classification:?}");
        if let Classification::Notification(_, report) = &classification {
            prop_assert!(!report.is_deletable(), "{report:?}");
        }
    }

    /// A modified mail is classified as the mail or as nothing of the kind, but never as the mail
    /// of another test.
    #[test]
    fn a_changed_mail_is_never_that_of_another_test(places in proptest::collection::vec((0.0..1.0_f64, any::<u8>()), 0..8)) {
        let mut message = mail().into_bytes();
        for (place, byte) in places {
            let at = ((message.len() as f64 * place) as usize).min(message.len() - 1);
            message[at] = byte;
        }
        if let Some(known) = classify(&Probe, &message).token() {
            prop_assert_eq!(known.nonce, NONCE);
        }
    }

    #[test]
    fn arbitrary_bytes_are_foreign(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        prop_assert_eq!(classify(&Probe, &bytes), Classification::Foreign);
    }
}
