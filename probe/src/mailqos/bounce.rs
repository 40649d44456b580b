//! Delivery status notifications (RFC 3464): a mail that says what became of ours.

/// The field that holds the token of our mails.
const TOKEN_FIELD: &str = "X-MailQoS-Token";
/// How qmail begins.
const QMAIL: &str = "Hi. This is the qmail-send program";

/// What a notification says of our mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// It will not be delivered; the status code (RFC 3463) and the other server's words, where they are told.
    Failed {
        status: Option<String>,
        reason: Option<String>,
    },
    /// Not yet, or it was: the mail itself is still the one to wait for.
    Other,
}

/// Reads a notification; `None` for any other mail.
pub(super) fn read(mail: &[u8]) -> Option<Notice> {
    let text = String::from_utf8_lossy(mail);
    let text = text.replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n")?;
    let kind = field(head, "Content-Type").unwrap_or_default().to_ascii_lowercase();
    if !kind.starts_with("multipart/report") || !kind.contains("delivery-status") {
        return informal(head, body);
    }
    // Behind the part's own head stand the fields of the message, then those of each recipient.
    let lower = body.to_ascii_lowercase();
    let part = &body[lower.find("content-type: message/delivery-status")?..];
    let (_, groups) = part.split_once("\n\n")?;
    let action = field(groups, "Action")?.to_ascii_lowercase();
    if action.split(|c: char| !c.is_ascii_alphabetic()).next() != Some("failed") {
        return Some(Notice::Other);
    }
    let status = field(groups, "Status")
        .and_then(|status| status.split_whitespace().next().map(str::to_owned))
        .filter(|status| status.len() <= 11 && status.chars().all(|c| c.is_ascii_digit() || c == '.'));
    let reason = field(groups, "Diagnostic-Code")
        .map(|code| match code.split_once(';') {
            Some((_, words)) => words.trim().to_owned(),
            None => code,
        })
        .filter(|reason| !reason.is_empty());
    Some(Notice::Failed { status, reason })
}

/// What mail systems write that do without RFC 3464: qmail, and Exim of old.
fn informal(head: &str, body: &str) -> Option<Notice> {
    let from = field(head, "From")?.to_ascii_lowercase();
    // A mail of ours carries its token in a field of its own, whoever hands it on.
    if !from.contains("mailer-daemon@") || field(head, TOKEN_FIELD).is_some() {
        return None;
    }
    let failed = field(head, "X-Failed-Recipients").is_some() || body.trim_start().starts_with(QMAIL);
    if !failed {
        return Some(Notice::Other);
    }
    let told = body.split("\n--- ").next().unwrap_or(body);
    let is_status = |word: &str| {
        let parts: Vec<&str> = word.split('.').collect();
        let short = |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        parts.len() == 3 && matches!(parts[0], "4" | "5") && parts.iter().all(short)
    };
    let words = |line: &str| {
        line.split(|c: char| !c.is_ascii_digit() && c != '.')
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let line = told.lines().find(|line| words(line).iter().any(|word| is_status(word)));
    Some(Notice::Failed {
        status: line.and_then(|line| words(line).into_iter().find(|word| is_status(word))),
        reason: line.map(|line| line.trim().to_owned()),
    })
}

/// The first field of this name, unfolded.
fn field(text: &str, name: &str) -> Option<String> {
    let mut lines = text.split('\n').skip_while(|line| {
        line.split_once(':')
            .is_none_or(|(key, _)| !key.trim_end().eq_ignore_ascii_case(name))
    });
    let mut value = lines.next()?.split_once(':')?.1.trim().to_owned();
    for line in lines.take_while(|line| line.starts_with([' ', '\t'])) {
        value.push(' ');
        value.push_str(line.trim());
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report(action: &str) -> String {
        format!(
            "Subject: Undelivered\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"b\"\r\n\r\n--b\r\n\
             Content-Type: text/plain\r\n\r\nsorry\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\n\
             Final-Recipient: rfc822; a@b\r\nAction: {action}\r\nStatus: 5.2.2 (full)\r\nDiagnostic-Code: smtp; 552 5.2.2\r\n Mailbox is full\r\n--b--\r\n"
        )
    }

    #[test]
    fn only_a_failure_is_one() {
        let failed = Notice::Failed {
            status: Some("5.2.2".to_owned()),
            reason: Some("552 5.2.2 Mailbox is full".to_owned()),
        };
        assert_eq!(read(report("failed").as_bytes()), Some(failed));
        assert_eq!(read(report("delayed").as_bytes()), Some(Notice::Other));
        assert_eq!(read(b"Content-Type: text/plain\r\n\r\nAction: failed\r\n"), None);
    }

    #[test]
    fn notifications_of_another_form_are_read_too() {
        let qmail = "Return-Path: <>\r\nFrom: MAILER-DAEMON@mx.example.com\r\nSubject: failure notice\r\n\r\n\
             Hi. This is the qmail-send program at mx.example.com.\r\nI'm afraid I wasn't able to deliver your message to the following addresses.\r\n\r\n\
             <a@b.example>:\r\n192.0.2.1 does not like recipient.\r\nRemote host said: 550 5.1.1 <a@b.example>: unknown user\r\nGiving up on 192.0.2.1.\r\n\r\n\
             --- Below this line is a copy of the message.\r\n\r\nX-MailQoS-Token: mq1\r\nwith 5.7.1 inside\r\n";
        let failed = Notice::Failed {
            status: Some("5.1.1".to_owned()),
            reason: Some("Remote host said: 550 5.1.1 <a@b.example>: unknown user".to_owned()),
        };
        assert_eq!(read(qmail.as_bytes()), Some(failed));
        let exim = "X-Failed-Recipients: a@b.example\nAuto-Submitted: auto-replied\nFrom: Mail Delivery System <Mailer-Daemon@mx.example.com>\n\n\
             A message that you sent could not be delivered.\n  a@b.example\n    Unrouteable address\n";
        let failed = Notice::Failed {
            status: None,
            reason: None,
        };
        assert_eq!(read(exim.as_bytes()), Some(failed));
        let warning = "From: Mail Delivery System <Mailer-Daemon@mx.example.com>\nSubject: Warning: message delayed 24 hours\n\nNo action is required.\n";
        assert_eq!(read(warning.as_bytes()), Some(Notice::Other));
        let ours = "From: mailer-daemon@example.com\nX-MailQoS-Token: mq1:a\n\nHi.\n";
        assert_eq!(read(ours.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn nothing_in_a_mail_brings_the_reader_down(text in "\\PC{0,200}") {
            let _ = read(text.as_bytes());
            let _ = read(format!("Content-Type: multipart/report; delivery-status\n\nContent-Type: message/delivery-status\n\n{text}").as_bytes());
        }
    }
}
