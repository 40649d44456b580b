//! Delivery status notifications (RFC 3464): a mail that says what became of ours.

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
    let kind = field(head, "Content-Type")?.to_ascii_lowercase();
    if !kind.starts_with("multipart/report") || !kind.contains("delivery-status") {
        return None;
    }
    // Behind the part's own head stand the fields of the message, then those of each recipient.
    let lower = body.to_ascii_lowercase();
    let part = &body[lower.find("content-type: message/delivery-status")?..];
    let (_, groups) = part.split_once("\n\n")?;
    let action = field(groups, "Action")?.to_ascii_lowercase();
    if action != "failed" {
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

    proptest! {
        #[test]
        fn nothing_in_a_mail_brings_the_reader_down(text in "\\PC{0,200}") {
            let _ = read(text.as_bytes());
            let _ = read(format!("Content-Type: multipart/report; delivery-status\n\nContent-Type: message/delivery-status\n\n{text}").as_bytes());
        }
    }
}
