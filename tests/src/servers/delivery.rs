//! Path of an accepted mail into a mailbox: header fields as Postfix and Dovecot add them, the
//! delay, the mishaps.

use std::{sync::Arc, time::Duration};

use mailqos_model::UtcMicros;

use super::{INBOX, JUNK, Mishap, Shared, lock, next_queue_id};

/// A mail that the SMTP server accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// When its last byte was received, by this machine's clock.
    pub at: UtcMicros,
    /// Envelope sender.
    pub from: String,
    /// Envelope recipients.
    pub to: Vec<String>,
    /// Its content, as received.
    pub content: Arc<[u8]>,
}

/// A mail that arrived in a mailbox.
#[derive(Debug, Clone)]
pub struct Landing {
    /// True time of arrival, by this machine's clock.
    pub at: UtcMicros,
    /// Owner of the mailbox.
    pub to: String,
    /// Folder.
    pub folder: String,
    /// Its content in the mailbox.
    pub content: Arc<[u8]>,
}

impl Landing {
    /// Returns the value of its first header field of this name, unfolded.
    pub fn field(&self, name: &str) -> Option<String> {
        field(&self.content, name)
    }
}

impl Accepted {
    /// Returns the value of its first header field of this name, unfolded.
    pub fn field(&self, name: &str) -> Option<String> {
        field(&self.content, name)
    }
}

/// The client of the SMTP server.
pub(super) struct Client {
    pub(super) helo: String,
    pub(super) tls: Option<String>,
    pub(super) authenticated: bool,
}

/// Accepts a mail for delivery and returns its queue id.
pub(super) fn accept(
    shared: &Arc<Shared>,
    client: &Client,
    from: &str,
    to: &[String],
    content: &[u8],
) -> String {
    let at = UtcMicros::now();
    let queue_id = next_queue_id(shared);
    accept_from(shared, smtp_received(shared, client, &queue_id, to, at), from, to, content);
    queue_id
}

/// Takes a mail for delivery, with the field that the server puts on top of it.
pub(super) fn accept_from(
    shared: &Arc<Shared>,
    received: String,
    from: &str,
    to: &[String],
    content: &[u8],
) {
    lock(&shared.accepted).push(Accepted {
        at: UtcMicros::now(),
        from: from.to_owned(),
        to: to.to_vec(),
        content: content.into(),
    });
    for recipient in to {
        let (delay, mishaps) = {
            let mut random = lock(&shared.random);
            (shared.options.delays.draw(&mut random), shared.rules.mishaps(recipient, &mut random))
        };
        let mail = Mail {
            shared: shared.clone(),
            from: from.to_owned(),
            recipient: recipient.clone(),
            received: received.clone(),
            content: content.to_vec(),
        };
        tokio::spawn(mail.deliver(delay, mishaps));
    }
}

/// Returns the field that Postfix adds.
fn smtp_received(
    shared: &Shared,
    client: &Client,
    queue_id: &str,
    to: &[String],
    at: UtcMicros,
) -> String {
    let tls = client.tls.as_ref().map_or(String::new(), |tls| {
        format!("\r\n\t({tls})\r\n\t(No client certificate requested)")
    });
    let with = match (&client.tls, client.authenticated) {
        (None, false) => "ESMTP",
        (None, true) => "ESMTPA",
        (Some(_), false) => "ESMTPS",
        (Some(_), true) => "ESMTPSA",
    };
    let recipient = if let [one] = to { format!("\r\n\tfor <{one}>") } else { String::new() };
    format!(
        "Received: from {} (localhost [127.0.0.1]){tls}\r\n\tby {} (Postfix) with {with} id {queue_id}{recipient}; {} (UTC)\r\n",
        client.helo,
        shared.options.host_name,
        shared.server_date(at)
    )
}

/// A mail in transit to one recipient.
struct Mail {
    shared: Arc<Shared>,
    from: String,
    recipient: String,
    received: String,
    content: Vec<u8>,
}

impl Mail {
    async fn deliver(mut self, mut delay: Duration, mishaps: Vec<Mishap>) {
        let mut copies = 1;
        let mut folder = INBOX;
        let mut attach = false;
        for mishap in mishaps {
            match mishap {
                Mishap::Lose => return,
                Mishap::Duplicate => copies += 1,
                Mishap::Late(more) => delay += more,
                Mishap::Bounce(status) => {
                    tokio::time::sleep(delay).await;
                    self.notify("failed", &status);
                    return;
                }
                Mishap::Story(story) => {
                    tokio::time::sleep(delay).await;
                    self.tell(&story);
                    return;
                }
                Mishap::Warn => self.notify("delayed", "4.4.1"),
                Mishap::Junk => folder = JUNK,
                Mishap::TagSubject(tag) => {
                    let subject = field(&self.content, "Subject").unwrap_or_default();
                    replace_field(&mut self.content, "Subject", Some(&format!("{tag}{subject}")));
                }
                Mishap::ReplaceSubject(subject) => {
                    replace_field(&mut self.content, "Subject", Some(&subject))
                }
                Mishap::StripField(name) => replace_field(&mut self.content, &name, None),
                Mishap::AddFields(fields) => {
                    self.content.splice(..0, fields.into_bytes());
                }
                Mishap::ReplaceBody(body) => {
                    self.content.truncate(header_end(&self.content));
                    self.content.extend_from_slice(body.as_bytes());
                }
                Mishap::ReplaceMessageId => {
                    let id = format!(
                        "<{}.gateway@{}>",
                        next_queue_id(&self.shared),
                        self.shared.options.host_name
                    );
                    replace_field(&mut self.content, "Message-ID", Some(&id));
                }
                Mishap::Attach => attach = true,
            }
        }
        if attach {
            self.content = as_attachment(&self.content, &self.recipient);
        }
        tokio::time::sleep(delay).await;
        for _ in 0..copies {
            self.land(folder);
        }
    }

    /// Stores the mail in the mailbox as Dovecot's LMTP server does, and logs the time.
    fn land(&self, folder: &str) {
        let now = UtcMicros::now();
        let host = &self.shared.options.host_name;
        let ahead = self.shared.machine();
        let lmtp = format!(
            "Return-Path: <{}>\r\nDelivered-To: {}\r\nReceived: from {host}\r\n\tby {host} with LMTP\r\n\tid {}\r\n\t(envelope-from <{}>)\r\n\tfor <{}>; {}\r\n",
            self.from,
            self.recipient,
            next_queue_id(&self.shared),
            self.from,
            self.recipient,
            self.shared.server_date(now + ahead),
        );
        let mail = [lmtp.as_bytes(), self.received.as_bytes(), &self.content].concat();
        let content: Arc<[u8]> = mail.clone().into();
        let clock = |moment| self.shared.server_time(moment + ahead);
        let landed = self.shared.mailboxes.put((&self.recipient, folder), [mail], false, clock);
        if let Some(at) = landed {
            let landing =
                Landing { at, to: self.recipient.clone(), folder: folder.to_owned(), content };
            lock(&self.shared.landings).push(landing);
        }
    }

    /// Sends a message about the mail to its sender, without the fields that storing a mail adds.
    fn tell(&self, story: &crate::notifications::Story) {
        let mail = [self.received.as_bytes(), &self.content].concat();
        let clock = |moment| self.shared.server_time(moment);
        let message = story.about(&mail, "mq1:there:other:0:0000000000000000:no-signature");
        self.shared.mailboxes.put((&self.from, INBOX), [message], false, clock);
    }

    /// Sends the mail's sender a delivery status notification (RFC 3464).
    fn notify(&self, action: &str, status: &str) {
        let host = &self.shared.options.host_name;
        let date = self.shared.server_date(UtcMicros::now());
        let text = format!(
            "From: MAILER-DAEMON@{host} (Mail Delivery System)\r\nSubject: Undelivered Mail Returned to Sender\r\nTo: {from}\r\n\
             Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\nDate: {date}\r\nMessage-Id: <{id}@{host}>\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"B0UNCE.1/{host}\"\r\n\r\n\
             This is a MIME-encapsulated message.\r\n\r\n--B0UNCE.1/{host}\r\nContent-Description: Notification\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\r\nThis is the mail system at host {host}.\r\n\r\n\
             <{to}>: host said: 552 {status} Mailbox is full\r\n\r\n--B0UNCE.1/{host}\r\nContent-Description: Delivery report\r\n\
             Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; {host}\r\nX-Postfix-Sender: rfc822; {from}\r\n\r\n\
             Final-Recipient: rfc822; {to}\r\nOriginal-Recipient: rfc822;{to}\r\nAction: {action}\r\nStatus: {status}\r\n\
             Diagnostic-Code: smtp; 552 {status} Mailbox is full\r\n\r\n--B0UNCE.1/{host}\r\n\
             Content-Description: Undelivered Message\r\nContent-Type: message/rfc822\r\n\r\n{original}\r\n--B0UNCE.1/{host}--\r\n",
            from = self.from,
            to = self.recipient,
            id = next_queue_id(&self.shared),
            original = String::from_utf8_lossy(&self.content),
        );
        if self.from.is_empty() {
            return;
        }
        let notification = Self {
            shared: self.shared.clone(),
            from: String::new(),
            recipient: self.from.clone(),
            received: String::new(),
            content: text.into_bytes(),
        };
        notification.land(INBOX);
    }
}

/// Returns the start of the body.
pub(super) fn header_end(mail: &[u8]) -> usize {
    mail.windows(4).position(|four| four == b"\r\n\r\n").map_or(mail.len(), |at| at + 4)
}

/// Returns the header fields: name and the range of the whole field with its line end.
pub(super) fn fields(mail: &[u8]) -> Vec<(String, std::ops::Range<usize>)> {
    let end = header_end(mail);
    let mut found: Vec<(String, std::ops::Range<usize>)> = Vec::new();
    let mut start = 0;
    for line in mail[..end].split_inclusive(|byte| *byte == b'\n') {
        let range = start..start + line.len();
        start = range.end;
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            if let Some((_, last)) = found.last_mut() {
                last.end = range.end;
            }
        } else if let Some(colon) = line.iter().position(|byte| *byte == b':') {
            found.push((String::from_utf8_lossy(&line[..colon]).into_owned(), range));
        }
    }
    found
}

pub(super) fn field(mail: &[u8], name: &str) -> Option<String> {
    let (name, range) =
        fields(mail).into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name))?;
    let value =
        String::from_utf8_lossy(&mail[range.start + name.len() + 1..range.end]).into_owned();
    Some(value.replace("\r\n", "").replace('\t', " ").trim().to_owned())
}

/// Replaces all fields of this name by one, or drops them.
pub(super) fn replace_field(mail: &mut Vec<u8>, name: &str, value: Option<&str>) {
    let mut place = None;
    for (field, range) in fields(mail).into_iter().rev() {
        if field.eq_ignore_ascii_case(name) {
            place = Some(range.start);
            mail.drain(range);
        }
    }
    if let Some(value) = value {
        let at = place.unwrap_or(0);
        mail.splice(at..at, format!("{name}: {value}\r\n").into_bytes());
    }
}

/// Returns the mail as a filter forwards it: as an attachment of another one.
fn as_attachment(mail: &[u8], recipient: &str) -> Vec<u8> {
    let mut outer = format!(
        "From: Filter <filter@example.com>\r\nTo: {recipient}\r\nSubject: [held for review]\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=outer\r\n\r\n--outer\r\nContent-Type: text/plain\r\n\r\nSee the attachment.\r\n\
         --outer\r\nContent-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\n"
    )
    .into_bytes();
    outer.extend_from_slice(mail);
    outer.extend_from_slice(b"\r\n--outer--\r\n");
    outer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_replaced_and_dropped() {
        let mut mail =
            b"Subject: one\r\n two\r\nX-A: 1\r\nx-a: 2\r\n\r\nSubject: body\r\n".to_vec();
        assert_eq!(field(&mail, "subject").as_deref(), Some("one two"));
        replace_field(&mut mail, "Subject", Some("three"));
        replace_field(&mut mail, "X-A", None);
        assert_eq!(mail, b"Subject: three\r\n\r\nSubject: body\r\n");
    }
}
