//! Sends a form of the mail through the first server that accepts it.

use lettre::Address;
use mailqos_base::one_line;
use mailqos_config::{MailServer, Person};
use mailqos_mail::{MailError, Mailer, Outcome, Reply};
use mailqos_model::{Name, UtcMicros};

use super::{fates::key, form::Form, letter::Content, servers::Servers};
use crate::{DeliveryError, Progress, Served};

/// Result of sending a form of the mail.
#[derive(Default)]
pub(super) struct Sent<'a> {
    /// Replies of the servers that accepted it.
    pub(super) replies: Vec<String>,
    /// Recipients for whom it is too large.
    pub(super) too_large: Vec<&'a Person>,
    /// Size limit in bytes that the server announced.
    pub(super) limit: Option<u64>,
    /// The server's reply that it is too large.
    pub(super) size_reason: String,
    /// Recipients for whom no server has given a final answer.
    pub(super) left: Vec<&'a Person>,
    /// Reasons why recipients were not served.
    pub(super) errors: Vec<DeliveryError>,
}

/// Failures of the servers tried so far.
#[derive(Default)]
struct Failures {
    reasons: Vec<(String, String)>,
    is_transient: bool,
    is_mendable: bool,
}

impl Failures {
    fn note(&mut self, place: &str, error: &MailError) {
        self.is_transient |= error.is_transient();
        self.is_mendable |= error.is_mendable();
        self.reasons.push((place.to_owned(), one_line(&error.to_string(), &[])));
    }

    fn error(self) -> DeliveryError {
        let places: Vec<&str> = self.reasons.iter().map(|(place, _)| place.as_str()).collect();
        let server = places.join(", ");
        let reason = match self.reasons.as_slice() {
            [(_, only)] => only.clone(),
            several => several
                .iter()
                .map(|(place, error)| format!("{place}: {error}"))
                .collect::<Vec<_>>()
                .join("; "),
        };
        if self.is_transient || self.is_mendable {
            DeliveryError::Server {
                server,
                step: "mail".into(),
                reason,
                transient: self.is_transient,
            }
        } else {
            DeliveryError::Refused { server, reason }
        }
    }
}

impl Content<'_> {
    /// Sends a form of the mail through the first server that accepts it, and records the result
    /// for each recipient.
    ///
    /// # Errors
    /// The mail can't be composed, or a result can't be recorded. Nothing more may be sent then.
    pub(super) async fn send<'p>(
        &self,
        servers: &Servers<'_>,
        form: Form,
        people: &[&'p Person],
        progress: &mut Progress<'_>,
    ) -> Result<Sent<'p>, DeliveryError> {
        let mut sent = Sent { left: people.to_vec(), ..Sent::default() };
        let mut failures = Failures::default();
        for (name, server) in servers {
            let place = format!("{}:{}", server.endpoint.server, server.endpoint.port);
            let outcome = self.offer(server, form, &sent.left, progress).await?;
            let find = |address: &Address| {
                let text = address.to_string();
                people.iter().copied().find(|person| person.address == text)
            };
            sent.replies.extend(outcome.accepted.iter().map(|(_, reply)| words(server, reply)));
            let waiting: Vec<String> = outcome
                .refused
                .iter()
                .filter(|(_, reply)| reply.is_transient())
                .map(|(address, reply)| format!("{address}: {reply}"))
                .collect();
            if !waiting.is_empty() {
                sent.errors.push(DeliveryError::Server {
                    server: place.clone(),
                    step: "recipients".into(),
                    reason: waiting.join("; "),
                    transient: true,
                });
            }
            for (address, reply) in &outcome.too_large {
                sent.size_reason = reply.to_string();
                sent.too_large.extend(find(address));
            }
            sent.left = outcome.left.iter().filter_map(find).collect();
            match outcome.error {
                None => return Ok(sent),
                Some(MailError::Unwritten(source)) => {
                    return Err(DeliveryError::Io { what: "the outbox".into(), source });
                }
                Some(MailError::TooLarge { limit, reason, .. }) => {
                    sent.limit = limit;
                    sent.size_reason = reason;
                    sent.too_large.append(&mut sent.left);
                    return Ok(sent);
                }
                Some(error) => {
                    tracing::debug!(server = %name as &Name, %error, "mail not sent");
                    failures.note(&place, &error);
                    // The server may have accepted it; sending it through another would deliver it
                    // twice.
                    if error.is_uncertain() {
                        break;
                    }
                }
            }
        }
        sent.errors.push(failures.error());
        Ok(sent)
    }

    async fn offer(
        &self,
        server: &MailServer,
        form: Form,
        people: &[&Person],
        progress: &mut Progress<'_>,
    ) -> Result<Outcome, DeliveryError> {
        let envelope = self.envelope(server, people)?;
        let bytes = self.write(server, form, people)?;
        let account = self.config.account(server.endpoint.account.as_ref());
        let mut record = |accepted: &[(Address, Reply)], refused: &[(Address, Reply)]| {
            let refused = refused.iter().filter(|(_, reply)| !reply.is_transient());
            let all = accepted.iter().map(|it| (it, false)).chain(refused.map(|it| (it, true)));
            for ((address, reply), is_refused) in all {
                let recipient = address.to_string();
                let served = Served {
                    at: UtcMicros::now().to_string(),
                    reply: words(server, reply),
                    refused: is_refused,
                    recipient: recipient.clone(),
                };
                progress.done.insert(key(&recipient, form), served);
            }
            // Stored first: a recipient that is not recorded gets the mail twice.
            (progress.save)(&progress.done)
        };
        let mailer = Mailer::new(server, account).patient();
        Ok(mailer.send(&envelope, bytes, &mut record).await)
    }
}

fn words(server: &MailServer, reply: &Reply) -> String {
    format!("{}:{}: {reply}", server.endpoint.server, server.endpoint.port)
}
