//! A mail about alarms.

use lettre::{
    Address,
    address::Envelope,
    message::{MultiPart, SinglePart},
};
use mailqos_core::{
    mail::{Disposition, Head, MailError, Mailer, NamedType, Outcome, Person},
    model::{Name, UtcMicros},
};

use crate::alarm::{channel::Way, message::Telling};

/// Why nobody got a mail.
pub(super) enum Failed {
    /// The server refused the recipients, each by itself: why, and whom.
    Recipients(String, Refusals),
    /// Anything else; the mail may have been taken all the same where the last is true.
    Otherwise(String, bool),
}

/// Whom a server refused.
#[derive(Default)]
pub(super) struct Refusals {
    pub(super) for_now: Vec<String>,
    pub(super) for_good: Vec<String>,
}

impl From<String> for Failed {
    fn from(error: String) -> Self {
        Self::Otherwise(error, false)
    }
}

/// Sends the message through one mail server, to those of its recipients in `only` unless nobody is; returns the reply that accepted
/// it, and who was refused.
pub(super) async fn send(
    way: &Way,
    server: &Name,
    to: &[Person],
    only: &[String],
    telling: &Telling,
) -> Result<(String, Refusals), Failed> {
    let Some((options, account)) = way.server(server) else {
        return Err(format!("there is no mail server {server} any more").into());
    };
    let mailer = Mailer::new(options, account);
    // The same mail for those who are told again: it names the others, too.
    let recipients: Vec<Address> = to
        .iter()
        .filter(|person| only.is_empty() || only.contains(&person.address))
        .map(|person| person.mailbox().map_err(|error| error.to_string()))
        .collect::<Result<_, String>>()?;
    let sender = options.from.mailbox().map_err(|error| error.to_string())?;
    let envelope = Envelope::new(Some(sender), recipients).map_err(|error| error.to_string())?;
    let site = way.site.as_str();
    let mail = compose(&options.from, to, telling, &telling.transcripts, server, site);
    let mut outcome = mailer.send(&envelope, mail, &mut |_, _| Ok(())).await;
    if matches!(outcome.error, Some(MailError::TooLarge { .. })) && !telling.transcripts.is_empty() {
        // The alarm is worth more than what goes with it.
        let mail = compose(&options.from, to, telling, &[], server, site);
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

/// What a server said of those whom it refused, and who they are.
fn refusals(outcome: &Outcome, server: &Name) -> (Vec<String>, Refusals) {
    let (mut words, mut all) = (Vec::new(), Refusals::default());
    for (address, refusal) in outcome.refused.iter().chain(&outcome.too_large) {
        tracing::warn!("{address} is refused by {server}: {refusal}");
        words.push(format!("{address} was refused: {refusal}"));
        let list = if refusal.is_transient() {
            &mut all.for_now
        } else {
            &mut all.for_good
        };
        list.push(address.to_string());
    }
    (words, all)
}

fn compose(
    from: &Person,
    to: &[Person],
    telling: &Telling,
    transcripts: &[(String, String)],
    server: &Name,
    site: &str,
) -> Vec<u8> {
    // All mails about an alarm refer to the first one, whose Message-ID follows from the alarm; through which server it went
    // makes no difference.
    let mut references: Vec<String> = telling
        .threads
        .iter()
        .map(|thread| format!("{thread}@{site}.mailqos"))
        .collect();
    let message_id = if telling.opens_thread && !references.is_empty() {
        references.remove(0)
    } else {
        format!("{}.{server}@{site}.mailqos", telling.id)
    };
    let head = Head::new()
        .people("From", [from])
        .people("To", to)
        .text("Subject", &telling.subject)
        .date(UtcMicros::now())
        .message_id(&message_id)
        .references(&references)
        .auto_generated();
    let body = SinglePart::plain(telling.body.clone());
    if transcripts.is_empty() {
        return head.with(&body.formatted());
    }
    let mut parts = MultiPart::mixed().singlepart(body);
    for (name, text) in transcripts {
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
    use crate::alarm::{
        Why,
        message::tests::{config, pending},
    };

    /// The fields of a mail about these changes, in one line each.
    fn fields(changes: &[Why]) -> Vec<String> {
        let changes: Vec<_> = changes.iter().map(|why| pending(*why)).collect();
        let mut changes = changes;
        // Of one alarm, as the outbox has them.
        for change in &mut changes {
            change.alarm = UtcMicros(1_780_000_000_000_000);
        }
        let telling = Telling::write(&config(), &changes);
        let from = Person {
            name: None,
            address: "q@example.net".to_owned(),
        };
        let server = "alerts".parse().expect("a name");
        let mail = compose(&from, std::slice::from_ref(&from), &telling, &[], &server, "stockholm");
        let mail = String::from_utf8_lossy(&mail).replace("\r\n ", " ");
        mail.lines().map(str::to_owned).collect()
    }

    #[test]
    fn mails_about_one_alarm_are_one_thread() {
        let field = |fields: &[String], name: &str| {
            let prefix = format!("{name}: ");
            fields
                .iter()
                .find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
        };
        let alarm = fields(&[Why::Raised]);
        let id = field(&alarm, "Message-ID").expect("an id");
        assert!(
            id.starts_with("<m1.1780000000000000.") && id.ends_with("@stockholm.mailqos>"),
            "{id}"
        );
        assert_eq!(field(&alarm, "References"), None);
        let mut ids = vec![id.clone()];
        for why in [Why::Reminder, Why::Escalated, Why::Cleared] {
            let later = fields(&[why]);
            assert_eq!(field(&later, "References").as_ref(), Some(&id));
            assert_eq!(field(&later, "In-Reply-To").as_ref(), Some(&id));
            ids.push(field(&later, "Message-ID").expect("an id"));
        }
        ids.dedup();
        assert!(ids.len() > 1, "{ids:?}");
        assert_eq!(field(&fields(&[Why::Test]), "References"), None);
    }
}
