//! A mail about alarms.

use lettre::{
    Address,
    address::Envelope,
    message::{MultiPart, SinglePart},
};
use mailqos_config::Person;
use mailqos_mail::{Disposition, Head, MailError, Mailer, NamedType, Outcome};
use mailqos_model::{Name, UtcMicros};

use super::letter::AlarmMail;
use crate::Channel;

/// Why a mail was not accepted for any recipient.
pub(crate) enum Failed {
    /// The server refused every recipient: the reason, and the recipients.
    Recipients(String, Refusals),
    /// Any other reason; `true` means that the server may have accepted the mail nevertheless.
    Otherwise(String, bool),
}

/// Recipients that a server refused.
#[derive(Default)]
pub(crate) struct Refusals {
    pub(crate) for_now: Vec<String>,
    pub(crate) for_good: Vec<String>,
}

impl From<String> for Failed {
    fn from(error: String) -> Self {
        Self::Otherwise(error, false)
    }
}

/// Sends the message through one mail server to the recipients in `only`, or to all if `only` is
/// empty. Returns the reply that accepted it, and the refused recipients.
pub(crate) async fn send(
    channel: &Channel,
    server: &Name,
    to: &[Person],
    only: &[String],
    letter: &AlarmMail<'_>,
) -> Result<(String, Refusals), Failed> {
    let Some((options, account)) = channel.server(server) else {
        return Err(format!("the configuration no longer contains the mail server {server}").into());
    };
    let mailer = Mailer::new(options, account);
    // Recipients who are notified again get the same mail, so it still lists the others.
    let recipients: Vec<Address> = to
        .iter()
        .filter(|person| only.is_empty() || only.contains(&person.address))
        .map(|person| person.mailbox().map_err(|error| error.to_string()))
        .collect::<Result<_, String>>()?;
    let sender = options.from.mailbox().map_err(|error| error.to_string())?;
    let envelope = Envelope::new(Some(sender), recipients).map_err(|error| error.to_string())?;
    let site = channel.site.as_str();
    let mail = compose(&options.from, to, letter, Enclosed::Transcripts, (server, site));
    let mut outcome = mailer.send(&envelope, mail, &mut |_, _| Ok(())).await;
    if matches!(outcome.error, Some(MailError::TooLarge { .. }))
        && !letter.notification.transcripts.is_empty()
    {
        // An alarm matters more than its attachments.
        let mail = compose(&options.from, to, letter, Enclosed::Nothing, (server, site));
        outcome = mailer.send(&envelope, mail, &mut |_, _| Ok(())).await;
    }
    let refusals = refusals(&outcome, server);
    match (outcome.accepted.first(), outcome.error) {
        (Some((_, reply)), error) => {
            let (mut words, mut refused) = refusals;
            words.insert(0, reply.to_string());
            if let Some(error) = error {
                words.push(error.to_string());
            }
            refused.for_now.extend(outcome.left.iter().map(ToString::to_string));
            Ok((words.join("; but "), refused))
        }
        (None, Some(error)) => Err(Failed::Otherwise(error.to_string(), error.is_uncertain())),
        (None, None) => {
            let (words, refused) = refusals;
            Err(Failed::Recipients(words.join("; "), refused))
        }
    }
}

/// Returns the recipients that a server refused, with its replies.
fn refusals(outcome: &Outcome, server: &Name) -> (Vec<String>, Refusals) {
    let (mut words, mut all) = (Vec::new(), Refusals::default());
    for (address, refusal) in outcome.refused.iter().chain(&outcome.too_large) {
        tracing::warn!(%server, recipient = %address, reply = %refusal, "recipient rejected");
        words.push(format!("{address} was rejected: {refusal}"));
        let list = if refusal.is_transient() { &mut all.for_now } else { &mut all.for_good };
        list.push(address.to_string());
    }
    (words, all)
}

/// Attachments of a mail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Enclosed {
    Transcripts,
    Nothing,
}

fn compose(
    from: &Person,
    to: &[Person],
    letter: &AlarmMail<'_>,
    enclosed: Enclosed,
    (server, site): (&Name, &str),
) -> Vec<u8> {
    let notification = letter.notification;
    // All mails about an alarm refer to the first one. Its Message-ID follows from the alarm, so
    // the server that delivered it makes no difference.
    let mut references: Vec<String> =
        notification.threads.iter().map(|thread| format!("{thread}@{site}.mailqos")).collect();
    let message_id = if notification.opens_thread && !references.is_empty() {
        references.remove(0)
    } else {
        format!("{}.{server}@{site}.mailqos", notification.id)
    };
    let head = Head::new()
        .people("From", [from])
        .people("To", to)
        .text("Subject", &letter.subject)
        .date(UtcMicros::now())
        .message_id(&message_id)
        .references(&references)
        .auto_generated();
    let text = SinglePart::plain(letter.text.clone());
    let page = letter.html.clone().map(SinglePart::html);
    if enclosed == Enclosed::Nothing || notification.transcripts.is_empty() {
        let body = match page {
            Some(page) => MultiPart::alternative().singlepart(text).singlepart(page).formatted(),
            None => text.formatted(),
        };
        return head.with(&body);
    }
    let mut parts = match page {
        Some(page) => {
            MultiPart::mixed().multipart(MultiPart::alternative().singlepart(text).singlepart(page))
        }
        None => MultiPart::mixed().singlepart(text),
    };
    for (name, text) in &notification.transcripts {
        let part = SinglePart::builder()
            .header(NamedType::new("text/plain; charset=utf-8", name))
            .header(Disposition::new("attachment", name))
            .body(text.clone());
        parts = parts.singlepart(part);
    }
    head.with(&parts.formatted())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Notification, testing};
    use mailqos_config::Wording;

    /// Returns the fields of a mail, one per line.
    fn fields(notification: &Notification) -> Vec<String> {
        let from = Person { name: None, address: "q@example.net".to_owned() };
        let server = "alerts".parse().expect("a name");
        let letter = AlarmMail::write(&Wording::default(), notification);
        let to = std::slice::from_ref(&from);
        let mail = compose(&from, to, &letter, Enclosed::Nothing, (&server, "stockholm"));
        let mail = String::from_utf8_lossy(&mail).replace("\r\n ", " ");
        mail.lines().map(str::to_owned).collect()
    }

    #[test]
    fn mails_about_one_alarm_are_one_thread() {
        let field = |fields: &[String], name: &str| {
            let prefix = format!("{name}: ");
            fields.iter().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
        };
        let alarm = testing::alarm("refused");
        let first = fields(&alarm);
        let id = field(&first, "Message-ID").expect("an id");
        assert_eq!(id, "<m1.1780000000000000.c1@stockholm.mailqos>");
        assert_eq!(field(&first, "References"), None);
        let later = Notification { opens_thread: false, ..alarm };
        let later = fields(&later);
        assert_eq!(field(&later, "References").as_ref(), Some(&id));
        assert_eq!(field(&later, "In-Reply-To").as_ref(), Some(&id));
        assert_ne!(field(&later, "Message-ID"), Some(id));
        assert_eq!(field(&fields(&testing::test()), "References"), None);
    }
}
