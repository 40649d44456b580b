//! Sends mailqos's own mails, for alarms and reports, through a configured mail server.

use std::time::Duration;

use lettre::{Address, address::Envelope};
use mailqos_config::{Account, MailServer, SubmissionProtocol};
use mailqos_model::{Stage, UtcMicros};
use mailqos_net::tls_failure::is_of_certificate;

use super::{
    CredentialError, Credentials, DkimError, HeldBack, LoginAttempt, LoginRefusal, Reply, Smtp,
    SmtpError, dkim, graph,
};

/// Deadline for the server to accept a completely sent mail (RFC 5321, section 4.5.3.2.6). Giving
/// up earlier would send an accepted mail twice.
const ACCEPTING: Duration = Duration::from_secs(600);

/// Maximum number of recipients of a mail over Microsoft Graph
/// (<https://learn.microsoft.com/office365/servicedescriptions/exchange-online-service-description/exchange-online-limits>:
/// 1,000 by default, which an administrator may lower).
const MAX_GRAPH_RECIPIENTS: usize = 500;
/// Deadline of a whole session. A large report over a slow line takes time, but a server that reads
/// byte by byte must not delay all other mails forever.
const WHOLE: Duration = Duration::from_secs(3 * 3600);

/// Time for which rejected credentials are not tried again. Mails are retried repeatedly, and each
/// failed login brings the account closer to a lockout. (Active Directory typically counts those of
/// the last 30 minutes.)
pub const HOLD: Duration = Duration::from_secs(30 * 60);

/// Sends mails through a mail server, with an account for it.
#[derive(Debug, Clone)]
pub struct Mailer {
    server: MailServer,
    account: Option<Account>,
    /// Deadline for the server to accept the content.
    accepting: Option<Duration>,
}

/// Result of sending a mail. Each recipient of the envelope is in exactly one of the four lists.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Recipients for whom a server accepted the mail, with the reply.
    pub accepted: Vec<(Address, Reply)>,
    /// Recipients that the server rejected, permanently (5xx) or temporarily (4xx), each with the
    /// reply.
    pub refused: Vec<(Address, Reply)>,
    /// Recipients for whom the mail is too large, although others accept it.
    pub too_large: Vec<(Address, Reply)>,
    /// Recipients without a result because of the error; they must still be served.
    pub left: Vec<Address>,
    /// Reason why the session ended early.
    pub error: Option<MailError>,
}

/// Reasons why a mail could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The account's password or token is not available.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The session with the server failed.
    #[error("{stage}: {0}", stage = .0.stage)]
    Smtp(SmtpError),
    /// The server recently rejected these credentials.
    #[error("{stage}: {0}", stage = Stage::SmtpAuth)]
    HeldBack(HeldBack),
    /// The mail can't be signed.
    #[error(transparent)]
    Dkim(#[from] DkimError),
    /// The server does not accept a mail of this size.
    #[error("the mail has {size} bytes, which is more than the server accepts: {reason}")]
    TooLarge {
        /// Size of the mail in bytes.
        size: u64,
        /// Size limit in bytes, if the server announces one.
        limit: Option<u64>,
        /// The server's reply.
        reason: String,
    },
    /// The results for recipients can't be recorded, so no further ones are served.
    #[error("can't record which recipients received the mail: {0}")]
    Unwritten(std::io::Error),
}

impl MailError {
    /// Returns whether a later attempt may succeed: always, except after a permanent refusal (5xx)
    /// or an untrusted certificate.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Credentials(_) | Self::Dkim(_) | Self::Unwritten(_) => true,
            Self::TooLarge { .. } | Self::HeldBack(_) => false,
            Self::Smtp(error)
                if error.stage == Stage::SmtpTls && is_of_certificate(&error.text) =>
            {
                false
            }
            Self::Smtp(error) => error.reply.as_ref().is_none_or(Reply::is_transient),
        }
    }

    /// Returns whether an operator can fix the problem, such as a refused login. The server's
    /// verdict on the mail itself is final.
    pub fn is_mendable(&self) -> bool {
        match self {
            Self::Credentials(_) | Self::Dkim(_) | Self::Unwritten(_) | Self::HeldBack(_) => true,
            Self::TooLarge { .. } => false,
            Self::Smtp(error) => !matches!(error.stage, Stage::SmtpRcpt | Stage::SmtpData),
        }
    }

    /// Returns whether the mail may have been accepted although no reply came.
    pub fn is_uncertain(&self) -> bool {
        matches!(self, Self::Smtp(error) if error.uncertain)
    }
}

impl Mailer {
    /// Creates a mailer for a server. `account` is the account of its endpoint.
    pub fn new(server: &MailServer, account: Option<&Account>) -> Self {
        Self { server: server.clone(), account: account.cloned(), accepting: None }
    }

    /// Gives the server as long as the standard allows to accept the content, for mails that must
    /// not arrive twice.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { accepting: Some(ACCEPTING), ..self }
    }

    /// Sends a composed mail. Neither a rejected recipient nor a limit on their number delays the
    /// others: recipients that don't fit into a transaction go into a further one (RFC 5321,
    /// section 4.5.3.1.10).
    ///
    /// `record` is called for each accepted transaction before the next one starts; if it fails, no
    /// further one is started.
    pub async fn send(
        &self,
        envelope: &Envelope,
        content: Vec<u8>,
        record: &mut Record<'_>,
    ) -> Outcome {
        let mut run = Run {
            outcome: Outcome { left: envelope.to().to_vec(), ..Outcome::default() },
            most: usize::MAX,
            is_reduced: false,
            served: 0,
        };
        let error = self.send_all(envelope, content, &mut run, record).await.err();
        run.outcome.error = error;
        run.outcome
    }

    async fn send_all(
        &self,
        envelope: &Envelope,
        content: Vec<u8>,
        run: &mut Run,
        record: &mut Record<'_>,
    ) -> Result<(), MailError> {
        if self.server.protocol == SubmissionProtocol::Graph {
            return self.send_over_graph(&content, run, record).await;
        }
        let content = match &self.server.dkim {
            Some(options) => dkim::sign(content, options, UtcMicros::now()).await?,
            None => content,
        };
        let bounces = match &self.server.return_path {
            Some(address) => address.parse().ok(),
            None => envelope.from().cloned(),
        };
        // Each session serves at least one recipient, or halves the number of recipients that the
        // next one tries, so this terminates.
        while !run.outcome.left.is_empty() {
            let (served, most) = (run.served, run.most);
            let mut smtp = self.open(content.len() as u64, run).await?;
            let ended = run.session(&mut smtp, bounces.as_ref(), &content, record).await;
            smtp.quit();
            match ended {
                Ok(()) => {}
                // The server may allow one mail per session, or have another limit per session, so
                // a new session starts afresh.
                Err(error) if run.served > served && !is_of_the_mail(&error) => {
                    tracing::debug!(%error, "continuing in a new session");
                }
                Err(error) if run.most < most && !is_of_the_mail(&error) => {
                    tracing::debug!(%error, "continuing with fewer recipients per mail");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends the mail over Microsoft Graph, which accepts it for all recipients or for none. It has
    /// no envelope: the header names the recipients.
    async fn send_over_graph(
        &self,
        content: &[u8],
        run: &mut Run,
        record: &mut Record<'_>,
    ) -> Result<(), MailError> {
        let size = content.len() as u64;
        let too_large =
            |reason: String| MailError::TooLarge { size, limit: Some(graph::MAX_MIME), reason };
        if size > graph::MAX_MIME {
            return Err(too_large("Microsoft Graph accepts 4 MB in Base64".to_owned()));
        }
        let Some(account) = self.account.as_ref().map(Account::for_graph) else {
            let error = SmtpError::new(Stage::SmtpAuth, "no account is configured for sending");
            return Err(MailError::Smtp(error));
        };
        let credentials = super::credentials(&account).await?;
        let step = self.server.timeout.to_std();
        while !run.outcome.left.is_empty() {
            let batch: Vec<Address> =
                run.outcome.left.iter().take(MAX_GRAPH_RECIPIENTS).cloned().collect();
            let mail = graph::for_recipients(content.to_vec(), &batch);
            let mut sender = graph::Sender::new(&self.server.endpoint, &credentials, step);
            let result = match sender.open(WHOLE, std::time::Instant::now() + step).await {
                Ok(()) => sender.send_mail(&mail).await,
                Err(error) => Err(error),
            };
            sender.close().await;
            match result {
                Ok(reply) => {
                    let sorted = Sorted { accepted: batch, ..Sorted::default() };
                    run.settle(sorted, Some(&reply), record)?;
                }
                Err(error) if error.reply.as_ref().is_some_and(is_size_refused) => {
                    return Err(too_large(error.text));
                }
                Err(error) => return Err(MailError::Smtp(error)),
            }
        }
        Ok(())
    }

    /// Waits for the turn to log in, which monitors with the same account and server share.
    async fn turn(&self, credentials: &Credentials) -> Result<LoginAttempt, HeldBack> {
        let endpoint = &self.server.endpoint;
        let place = format!("{}:{}", endpoint.server.to_ascii_lowercase(), endpoint.port);
        credentials.turn(&place, HOLD, self.server.timeout.to_std()).await
    }

    /// Opens a session and reads the limits that the server announces.
    async fn open(&self, size: u64, run: &mut Run) -> Result<Smtp, MailError> {
        let credentials = match &self.account {
            Some(account) => Some(super::credentials(account).await?),
            None => None,
        };
        let turn = match &credentials {
            Some(credentials) => Some(self.turn(credentials).await.map_err(MailError::HeldBack)?),
            None => None,
        };
        let mut smtp = Smtp::new(&self.server.endpoint, self.server.timeout.to_std());
        smtp.report_failures_only();
        smtp.limit(WHOLE);
        if let Some(limit) = self.accepting {
            smtp.wait_for_acceptance(limit);
        }
        smtp.open().await.map_err(MailError::Smtp)?;
        if let (Some(credentials), Some(turn)) = (&credentials, turn) {
            let result = smtp.authenticate(credentials).await;
            // Temporary problems, such as a limit on logins, are left to the caller, which submits
            // the mail again.
            let is_lasting =
                |refusal| matches!(refusal, LoginRefusal::Credentials | LoginRefusal::Blocked);
            turn.settle(&result, is_lasting);
            result.map_err(MailError::Smtp)?;
        }
        if let Some(limit) = smtp.size_limit()
            && size > limit
        {
            smtp.quit();
            return Err(MailError::TooLarge {
                size,
                limit: Some(limit),
                reason: format!("SIZE {limit}"),
            });
        }
        if let Some(most) = smtp.recipients_limit() {
            run.most = run.most.min(most);
        }
        Ok(smtp)
    }
}

/// Records the results for recipients: those accepted and those refused.
pub type Record<'a> =
    dyn FnMut(&[(Address, Reply)], &[(Address, Reply)]) -> std::io::Result<()> + Send + 'a;

/// A mail being sent to its recipients.
struct Run {
    outcome: Outcome,
    /// Maximum number of recipients in a transaction.
    most: usize,
    /// Whether a server has already ended a transaction early because of the number of recipients.
    is_reduced: bool,
    /// Number of recipients with a result.
    served: usize,
}

impl Run {
    /// Serves recipients in transactions of one session until none remain.
    async fn session(
        &mut self,
        smtp: &mut Smtp,
        bounces: Option<&Address>,
        content: &[u8],
        record: &mut Record<'_>,
    ) -> Result<(), MailError> {
        while !self.outcome.left.is_empty() {
            let batch: Vec<Address> = self.outcome.left.iter().take(self.most).cloned().collect();
            let envelope = smtp.envelope(bounces, &batch, content.len(), !content.is_ascii()).await;
            let results = match envelope {
                Ok(results) => results,
                // No recipient was accepted, each for a separate reason.
                Err(error) if !error.refused.is_empty() => {
                    self.settle(Sorted::of(error.refused), None, record)?;
                    // The transaction is open, but there is nothing to send in it.
                    if !self.outcome.left.is_empty() {
                        smtp.reset().await.map_err(MailError::Smtp)?;
                    }
                    continue;
                }
                Err(error) => return Err(self.ended_early(error, batch.len(), content.len())),
            };
            let sorted = Sorted::of(results);
            let copy = content.to_vec();
            match smtp.data(move || copy).await {
                Ok(reply) => self.settle(sorted, Some(&reply), record)?,
                Err(error) => {
                    let taken = sorted.accepted.len();
                    return Err(self.ended_early(error, taken, content.len()));
                }
            }
        }
        Ok(())
    }

    /// Records the results for some recipients. `reply` accepted the mail.
    fn settle(
        &mut self,
        sorted: Sorted,
        reply: Option<&Reply>,
        record: &mut Record<'_>,
    ) -> Result<(), MailError> {
        let accepted: Vec<(Address, Reply)> = match reply {
            Some(reply) => {
                sorted.accepted.into_iter().map(|address| (address, reply.clone())).collect()
            }
            None => Vec::new(),
        };
        if !sorted.postponed.is_empty() {
            // With a known limit, the next transaction stays within it.
            self.most = self.most.min(accepted.len().max(1));
        }
        let result = record(&accepted, &sorted.refused);
        let known = |address: &Address| {
            let lists = [&accepted, &sorted.refused, &sorted.too_large];
            lists.iter().any(|list| list.iter().any(|(known, _)| known == address))
        };
        self.outcome.left.retain(|address| !known(address));
        self.served += accepted.len() + sorted.refused.len() + sorted.too_large.len();
        self.outcome.accepted.extend(accepted);
        self.outcome.refused.extend(sorted.refused);
        self.outcome.too_large.extend(sorted.too_large);
        result.map_err(MailError::Unwritten)
    }

    /// Handles a failed transaction; if it had too many recipients, the next one has fewer.
    fn ended_early(&mut self, error: SmtpError, recipients: usize, size: usize) -> MailError {
        if let Some(reply) = &error.reply
            && is_size_refused(reply)
        {
            return MailError::TooLarge { size: size as u64, limit: None, reason: error.text };
        }
        let crowded = error.reply.as_ref().is_some_and(is_crowded);
        let broken_off = error.stage == Stage::SmtpRcpt && error.taken > 0 && !error.uncertain;
        if broken_off {
            // If that was not the limit, repeated halving finds it.
            let fewer = if self.is_reduced { recipients / 2 } else { recipients.saturating_sub(1) };
            self.most = self.most.min(fewer).min(error.taken).max(1);
            self.is_reduced = true;
        } else if crowded && recipients > 1 {
            self.most = self.most.min(recipients / 2).max(1);
        }
        MailError::Smtp(error)
    }
}

/// Returns whether another session would change nothing, or do harm.
fn is_of_the_mail(error: &MailError) -> bool {
    match error {
        MailError::Smtp(error) => error.uncertain,
        _ => true,
    }
}

/// The recipients of a transaction, grouped by the replies to RCPT.
#[derive(Default)]
struct Sorted {
    accepted: Vec<Address>,
    refused: Vec<(Address, Reply)>,
    too_large: Vec<(Address, Reply)>,
    /// Recipients that did not fit into the transaction.
    postponed: Vec<Address>,
}

impl Sorted {
    fn of(results: Vec<(Address, Reply)>) -> Self {
        let mut sorted = Self::default();
        for (address, reply) in results {
            let is_first = sorted.accepted.is_empty();
            if reply.is_success() {
                sorted.accepted.push(address);
            } else if is_too_large(&reply) {
                sorted.too_large.push((address, reply));
            } else if !is_first
                && (is_crowded(&reply) || matches!(reply.code, 452 | 552) && !is_full(&reply))
            {
                // RFC 5321, section 4.5.3.1.10: 452 means too many recipients, and 552 may mean it,
                // too, as in RFC 821. After an accepted recipient, this can't be distinguished from
                // a rejection of this recipient; for the first one of a transaction, it can.
                sorted.postponed.push(address);
            } else if is_crowded(&reply) {
                // The server reports too many recipients although there is only one, perhaps too
                // many within some time. The reply does not concern the recipient.
                let reply = Reply { code: 452, ..reply };
                sorted.refused.push((address, reply));
            } else {
                sorted.refused.push((address, reply));
            }
        }
        sorted
    }
}

/// Returns whether a reply reports that the mail is too large: RFC 1870, section 6; `X.2.3` and
/// `X.3.4` of RFC 3463; 523 of Courier. Some servers report it only in the text.
pub fn is_too_large(reply: &Reply) -> bool {
    if reply.code / 100 < 4 || is_crowded(reply) {
        return false;
    }
    match reply.enhanced_status() {
        Some(status) if status.ends_with(".2.3") || status.ends_with(".3.4") => return true,
        Some(status) if status.ends_with(".2.2") => return false,
        _ => {}
    }
    let text = reply.lines.join(" ").to_ascii_lowercase();
    // qmail and similar servers write the status after the text.
    let by_status = ["#5.3.4", "#5.2.3"].iter().any(|status| text.contains(status));
    let in_words = [
        "message too large",
        "message too big",
        "message is too large",
        "message is too big",
        "mail too large",
        "mail is too large",
        "message file too big",
        "message size exceed",
        "message exceeds",
        "message exceeded",
        "exceeds size limit",
        "exceeds maximum size",
        "exceeds maximum message size",
        "exceeds the maximum message size",
        "exceeds fixed maximum",
        "exceeds my databytes",
        "message length exceed",
        "message length is more than",
        "message size limit",
        "maximum message size",
        "larger than the maximum",
    ];
    reply.code / 100 == 5
        && (by_status || reply.code == 523 || in_words.iter().any(|words| text.contains(words)))
}

/// Returns whether a reply to MAIL, DATA or the content reports that the mail is too large. There,
/// 552 has no other common meaning. Gmail rejects some types of attachments with `552-5.7.0`, which
/// does not concern the size.
fn is_size_refused(reply: &Reply) -> bool {
    let is_other = |status: &str| {
        status.starts_with("5.7.") || status.starts_with("5.1.") || status.starts_with("5.6.")
    };
    is_too_large(reply)
        || reply.code == 552
            && !is_crowded(reply)
            && !is_full(reply)
            && !reply.enhanced_status().is_some_and(is_other)
}

/// Returns whether a reply reports too many recipients in the transaction (RFC 3463, section 3.6:
/// `X.5.3`).
fn is_crowded(reply: &Reply) -> bool {
    if reply.code / 100 < 4 {
        return false;
    }
    let text = reply.lines.join(" ").to_ascii_lowercase();
    reply.enhanced_status().is_some_and(|status| status.ends_with(".5.3"))
        || [
            "too many recipient",
            "too many rcpt",
            "too many addressees",
            "too much recipient",
            "number of recipients",
            "max recipients",
            "maximum recipients",
            "max rcpt",
            "recipients limit",
            "recipient limit",
            "limit of recipients",
            "recipients per message",
            "recipients per mail",
            "recipients exceeded",
            "recipients reached",
            "reciplimit",
            "recipientlimit",
        ]
        .iter()
        .any(|words| text.contains(words))
}

/// Returns whether a reply reports a full mailbox.
fn is_full(reply: &Reply) -> bool {
    let text = reply.lines.join(" ").to_ascii_lowercase();
    reply.enhanced_status().is_some_and(|status| status.ends_with(".2.2"))
        || ["quota", "mailbox full", "mailbox is full", "user is over"]
            .iter()
            .any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn reply(text: &str) -> Reply {
        Reply {
            code: text[..3].parse().expect("a code"),
            lines: vec![text.get(4..).unwrap_or_default().to_owned()],
            at: Instant::now(),
        }
    }

    #[test]
    fn replies_about_oversized_mails_are_recognised() {
        for text in [
            // Postfix.
            "552 5.3.4 Message size exceeds fixed limit",
            "552 5.3.4 Error: message file too big",
            // Exchange and Exchange Online.
            "552 5.3.4 Message size exceeds fixed maximum message size",
            "550 5.3.4 ROUTING.SizeLimit; message size exceeds fixed maximum size for route",
            "550 5.2.3 RESOLVER.RST.RecipSizeLimit; message too large for this recipient",
            "554 5.2.3 STOREDRV.Submission; message too large",
            // Gmail, Exim, Sendmail, qmail, Courier, hMailServer, Amazon SES.
            "552 5.2.3 Your message exceeded Google's message size limits",
            "552 Message size exceeds maximum permitted",
            "552 5.2.3 Message exceeds maximum fixed size (10485760)",
            "552 sorry, that message size exceeds my databytes limit (#5.3.4)",
            "523 Message length (13700000 bytes) exceeds administrative limit(10000000)",
            "554 Rejected - Message size exceeds fixed maximum message size. Size: 13700 KB, Max size: 10000 KB",
            "554 Message rejected: Message length is more than 10485760 bytes long: '13700000'.",
            "552 Error: message too large",
            "554 5.3.4 Error: message file too big",
            // Public reports: nodemailer #1047, wildduck #762 (Haraka), nodemailer #400 (Gmail, in
            // several lines).
            "550 Error reading data, max message size exceeded",
            "550 Message too big!",
            "552 5.2.3 Your message exceeded Google's message size limits. Please visit 5.2.3 http://support.google.com/mail",
        ] {
            assert!(is_too_large(&reply(text)) && is_size_refused(&reply(text)), "{text}");
        }
        // Only in reply to MAIL and to the content.
        for text in ["552", "552 Requested mail action aborted: exceeded storage allocation"] {
            assert!(!is_too_large(&reply(text)) && is_size_refused(&reply(text)), "{text}");
        }
        for text in [
            "250 2.0.0 message size exceeds nothing",
            "552 5.2.2 The email account that you tried to reach is over quota",
            "552 Mailbox is full",
            "552-5.7.0 This message was blocked because its content presents a potential security issue",
            "552 5.5.3 Too many recipients",
            "552 Too many recipients",
            "452 4.3.1 Insufficient system storage",
            "550 5.1.1 User unknown",
            "554 5.7.1 Relay access denied",
        ] {
            assert!(!is_size_refused(&reply(text)), "{text}");
        }
    }

    #[test]
    fn recipients_without_room_wait_for_a_further_transaction() {
        for text in [
            // Postfix, Exchange, Sendmail, Exim, RFC 821, MDaemon, Exchange Online, qmail.
            "452 4.5.3 Error: too many recipients",
            "452 4.5.3 Too many recipients",
            "452 Too many recipients",
            "452 too many recipients",
            "552 Too many recipients",
            "552 5.5.3 Too many recipients",
            "552",
            "552 Requested mail action aborted: exceeded storage allocation",
            "550 5.5.3 Too many recipients",
            "550 5.5.3 RESOLVER.ADR.RecipLimit; too many recipients",
            "451 4.5.3 Error: too many recipients",
            "554 5.5.3 Maximum number of recipients reached",
            "550 Too many recipients, max 50",
            // Public reports: go-smtp #195, jakarta mail #20, listmonk #1300, mailpit #205.
            "552 5.5.3 Maximum limit of 50 recipients reached",
            "552 Maximum limit of 50 recipients reached",
            "452 #4.5.3 Too many recipients.",
            "450 Too many recipient attempts",
        ] {
            let results = vec![("a@example.com", "250 Ok"), ("b@example.com", text)];
            let results = results
                .into_iter()
                .map(|(address, text)| (address.parse().expect("an address"), reply(text)))
                .collect();
            let sorted = Sorted::of(results);
            assert_eq!((sorted.accepted.len(), sorted.postponed.len()), (1, 1), "{text}");
        }
    }

    #[test]
    fn a_specific_rejection_is_not_a_lack_of_space() {
        let sort = |texts: &[&str]| {
            let of = |(number, text): (usize, &&str)| {
                (format!("a{number}@example.com").parse().expect("an address"), reply(text))
            };
            Sorted::of(texts.iter().enumerate().map(of).collect())
        };
        let sorted = sort(&[
            "250 Ok",
            "550 5.1.1 User unknown",
            "552 5.2.2 Mailbox full",
            "552 5.3.4 Message too large for this recipient",
            "450 4.2.0 Greylisted",
            "452 4.2.2 Over quota",
        ]);
        assert_eq!(
            (sorted.refused.len(), sorted.too_large.len(), sorted.postponed.len()),
            (4, 1, 0)
        );
        // For the first recipient of a transaction, the reply concerns the recipient, unless it
        // explicitly mentions a number.
        let sorted = sort(&["552 no", "550 5.5.3 Too many recipients"]);
        let transient: Vec<bool> =
            sorted.refused.iter().map(|(_, reply)| reply.is_transient()).collect();
        assert_eq!(transient, [false, true]);
    }
}
