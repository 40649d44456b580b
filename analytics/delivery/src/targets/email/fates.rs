//! Results for each recipient. A delivery is complete only when no recipient is due any more.

use mailqos_config::Person;
use mailqos_model::UtcMicros;

use super::form::Form;
use crate::{DeliveryError, Progress, Receipt, Served};

/// Result for a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// No server has accepted the mail for the recipient or permanently refused it.
    Due,
    /// A server has accepted it.
    Accepted(Served),
    /// A server has permanently refused it.
    Refused(Served),
}

impl Fate {
    /// Reads a recipient's result from the record. Partial mails, which earlier versions sent,
    /// don't count.
    pub(super) fn of(address: &str, progress: &Progress<'_>) -> Self {
        let known = || {
            let of_theirs = progress.done.iter().filter(|(_, served)| served.recipient == address);
            of_theirs.filter(|(key, _)| !key.contains(" split ")).map(|(_, served)| served)
        };
        let accepted = known().filter(|served| !served.refused).max_by(|a, b| a.at.cmp(&b.at));
        match (accepted, known().next()) {
            (Some(served), _) => Self::Accepted(served.clone()),
            (None, Some(served)) => Self::Refused(served.clone()),
            (None, None) => Self::Due,
        }
    }
}

/// Results of all recipients of a delivery, including earlier attempts.
pub(super) struct Fates<'a>(Vec<(&'a Person, Fate)>);

impl<'a> Fates<'a> {
    pub(super) fn of(all: &[&'a Person], progress: &Progress<'_>) -> Self {
        let fate = |person: &&'a Person| (*person, Fate::of(&person.address, progress));
        Self(all.iter().map(fate).collect())
    }

    /// Returns whether the mail was permanently refused for every recipient.
    pub(super) fn is_nobody_served(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(_, fate)| matches!(fate, Fate::Refused(_)))
    }

    pub(super) fn all_refused(&self) -> DeliveryError {
        let reasons: Vec<String> = self
            .0
            .iter()
            .filter_map(|(person, fate)| match fate {
                Fate::Refused(served) => Some(format!("{}: {}", person.address, served.reply)),
                Fate::Due | Fate::Accepted(_) => None,
            })
            .collect();
        DeliveryError::Refused {
            server: "all recipients were rejected".into(),
            reason: reasons.join("; "),
        }
    }

    /// Returns the receipt if no recipient is due. No other code creates a receipt for a mail.
    ///
    /// # Errors
    /// Returns the recipients that are still due.
    pub(super) fn complete(self) -> Result<Receipt, DeliveryError> {
        let mut receipt = Receipt::default();
        let mut due = Vec::new();
        for (person, fate) in self.0 {
            match fate {
                Fate::Due => due.push(person.address.clone()),
                Fate::Accepted(served) => {
                    receipt.places.push(person.address.clone());
                    receipt.accepted.push(served);
                }
                Fate::Refused(served) => {
                    receipt.refused.push((person.address.clone(), served.reply))
                }
            }
        }
        if due.is_empty() { Ok(receipt) } else { Err(DeliveryError::Due(due)) }
    }
}

/// Returns the key of a recipient's result in the record.
pub(super) fn key(address: &str, form: Form) -> String {
    format!("{address} {}", form.word())
}

/// Records that a mail was permanently refused for some recipients.
pub(super) fn refuse(
    to: &[&Person],
    form: Form,
    reply: &str,
    progress: &mut Progress<'_>,
) -> Result<(), DeliveryError> {
    for person in to {
        let served = Served {
            recipient: person.address.clone(),
            at: UtcMicros::now().to_string(),
            reply: reply.to_owned(),
            refused: true,
        };
        progress.done.insert(key(&person.address, form), served);
    }
    (progress.save)(&progress.done)
        .map_err(|source| DeliveryError::Io { what: "the outbox".into(), source })
}
