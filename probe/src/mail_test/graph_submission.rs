//! Hands a mail over to Microsoft Graph: as a draft that is sent, so that the copy in Sent Items can
//! be deleted afterwards.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mailqos_config::{Account, Endpoint};
use mailqos_mail::{
    Reply, SmtpError,
    graph::{GraphError, Sender},
};
use mailqos_model::{Sample, Stage, UtcMicros};

use super::{
    MailTests,
    classify::{Classification, classify},
    evidence::Moment,
    mailbox::Registry,
    spawn,
    submission::{Attempts, Offer, Sent},
    token::Token,
};

/// The field that Exchange has to know before it keeps it.
const TOKEN_FIELD: &str = "X-MailQoS-Token";
/// Times after sending at which the copy in Sent Items is looked for.
const LOOKED_FOR: [Duration; 7] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(300),
];
/// The most that is read of the copy, in bytes.
const MAX_COPY: usize = 256 * 1024;
/// Maximum number of mailboxes whose knowledge of the field is remembered.
const MAX_PRIMED: usize = 4096;

/// Number of newest messages in Sent Items among which copies of an earlier process are looked for.
const MAX_LEFT: u32 = 200;
/// The beginning of the signature in a subject.
const SIGNATURE: &str = "mq1:";

/// Where the copies of sent mails are.
#[derive(Clone)]
struct SentItems {
    endpoint: Endpoint,
    account: Account,
    step: Duration,
}

/// A copy of a sent mail, which is to be deleted.
struct Copy {
    id: String,
    token: Token,
    place: SentItems,
}

impl SentItems {
    /// Opens a conversation.
    async fn open(&self) -> Result<Sender, String> {
        let credentials = mailqos_mail::credentials(&self.account).await;
        let credentials = credentials.map_err(|error| error.to_string())?;
        let mut sender = Sender::new(&self.endpoint, &credentials, self.step);
        let opened = sender.open(self.step * 4, Instant::now() + self.step).await;
        opened.map_err(|error| error.to_string())?;
        Ok(sender)
    }
}

impl MailTests {
    /// Offers the mail to Microsoft Graph once. A mail that may have been accepted counts as sent,
    /// with a stage in the sample.
    pub(super) async fn submit_over_graph(
        &self,
        sample: &mut Sample,
        offer: &Offer<'_>,
        token: &mut Token,
        attempts: &mut Attempts,
    ) -> Result<Sent, SmtpError> {
        let options = offer.options;
        let account = self.base.account(&options.smtp);
        let (Some(credentials), Some(account)) = (&offer.credentials, account) else {
            return Err(SmtpError::new(Stage::SmtpAuth, "no account is configured for sending"));
        };
        let step = options.timeout.to_std();
        let place =
            SentItems { endpoint: options.smtp.clone(), account: account.for_graph(), step };
        self.sweep(&place);
        let mut sender = Sender::new(&options.smtp, credentials, step);
        let began = Moment::now();
        let mut draft = None;
        let result = self.hand_over(sample, offer, (&mut sender, token, &mut draft)).await;
        note_sender(sample, &sender, result.as_ref());
        attempts.note(began, sender.transcript());
        let (stamp, id) = draft.unzip();
        let sent = Sent {
            nonce: token.nonce,
            at: token.sent_at,
            moment: stamp.map_or_else(Moment::now, Moment::of),
            accepted: None,
        };
        let copy = id.map(|id| Copy { id, token: token.clone(), place: place.clone() });
        match result {
            Ok(_) => {
                sender.close().await;
                self.discard(copy);
                Ok(sent)
            }
            // The mail may have been accepted: the evidence decides.
            Err(error) if error.uncertain => {
                sample.stage = Some(error.stage);
                sample.error = Some(format!(
                    "{}; it is unknown whether the server accepted the mail",
                    error.text
                ));
                sample.send_uncertain = Some(true);
                self.discard(copy);
                Ok(sent)
            }
            Err(error) => {
                if let Some(copy) = copy
                    && let Err(error) = sender.delete(&copy.id).await
                {
                    tracing::debug!(%error, "a draft that was not sent could not be deleted");
                }
                sender.close().await;
                Err(error)
            }
        }
    }

    /// Creates the draft and sends it; notes when the draft's content was handed over, and its
    /// identifier.
    async fn hand_over(
        &self,
        sample: &mut Sample,
        offer: &Offer<'_>,
        (sender, token, draft): (&mut Sender, &mut Token, &mut Option<(Instant, String)>),
    ) -> Result<Reply, SmtpError> {
        let options = offer.options;
        // In whole seconds, because it is shown to people.
        let left = (offer.until - Moment::now()).to_std();
        let whole = Duration::from_secs(left.as_secs() + 1);
        sender.open(whole, Instant::now() + options.timeout.to_std()).await?;
        token.sent_at = UtcMicros::now();
        let stamp = Instant::now();
        let id = sender.draft(&offer.draft.write(&self.key, token)).await?;
        *draft = Some((stamp, id.clone()));
        self.introduce_field(options.smtp.account.as_ref().map(|name| name.as_str()), async {
            sender.set_field(&id, TOKEN_FIELD, &self.key.write(token)).await
        })
        .await;
        self.note_in_flight(sample, token.nonce, token.sent_at, options).await;
        sender.send_draft(&id, stamp).await
    }

    /// Introduces the field with the token to the mailbox of an account, once in the life of the
    /// probe. Without it, the token in the subject identifies the mail.
    async fn introduce_field(
        &self,
        account: Option<&str>,
        introduce: impl Future<Output = Result<(), SmtpError>>,
    ) {
        let Some(account) = account else { return };
        if self.registry.is_primed(account) {
            return;
        }
        match introduce.await {
            Ok(()) => self.registry.note_primed(account, MAX_PRIMED),
            Err(error) => tracing::debug!(%error, "the field with the token may not survive"),
        }
    }

    /// Deletes, once in the life of the probe and in the background, the copies that an earlier
    /// process left in Sent Items because it was killed.
    fn sweep(&self, place: &SentItems) {
        if self.registry.note_swept(&place.account.user, MAX_PRIMED) {
            spawn(&self.settling, sweep(place.clone(), self.registry.clone(), UtcMicros::now()));
        }
    }

    /// Deletes the copy of a sent mail in the background.
    fn discard(&self, copy: Option<Copy>) {
        if let Some(copy) = copy {
            spawn(&self.settling, discard_copy(copy, self.registry.clone()));
        }
    }
}

/// Deletes the copy of a sent mail, once it is in Sent Items.
async fn discard_copy(copy: Copy, registry: Arc<Registry>) {
    let sent = tokio::time::Instant::now();
    for after in LOOKED_FOR {
        tokio::time::sleep_until(sent + after).await;
        match try_discard(&copy, &registry).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, "the copy of a test mail in Sent Items not deleted yet");
            }
        }
    }
    tracing::warn!(
        user = %copy.place.account.user,
        "the copy of a test mail stays in Sent Items or Drafts"
    );
}

/// Tries to delete the copy; returns whether there is nothing left to do.
async fn try_discard(copy: &Copy, registry: &Registry) -> Result<bool, String> {
    let mut sender = copy.place.open().await?;
    let result = look_and_delete(&mut sender, copy, registry).await;
    sender.close().await;
    result.map_err(|error| error.to_string())
}

/// Deletes the copies of mails that were sent before a time.
async fn sweep(place: SentItems, registry: Arc<Registry>, before: UtcMicros) {
    let swept = async {
        let mut sender = place.open().await?;
        let result = sweep_with(&mut sender, &registry, before).await;
        sender.close().await;
        result.map_err(|error| error.to_string())
    };
    match swept.await {
        Ok(0) => {}
        Ok(count) => {
            tracing::info!(user = %place.account.user, count, "copies of test mails deleted from Sent Items");
        }
        Err(error) => {
            tracing::debug!(%error, "copies of earlier test mails in Sent Items not looked for");
        }
    }
}

async fn sweep_with(
    sender: &mut Sender,
    registry: &Registry,
    before: UtcMicros,
) -> Result<u32, GraphError> {
    let mut count = 0;
    for id in sender.newest("sentitems", MAX_LEFT, SIGNATURE).await? {
        // Only what carries the signature in its own header is ours, whatever its subject says.
        let content = sender.content(&id, MAX_COPY).await?;
        if let Classification::TestMail(token) = classify(registry, &content)
            && token.sent_at < before
        {
            sender.delete(&id).await?;
            count += 1;
        }
    }
    Ok(count)
}

async fn look_and_delete(
    sender: &mut Sender,
    copy: &Copy,
    registry: &Registry,
) -> Result<bool, GraphError> {
    let sent_items = sender.folder_id("sentitems").await?;
    let properties = match sender.properties(&copy.id, "parentFolderId,isDraft").await {
        // On its way from Drafts to Sent Items.
        Err(GraphError::Refused(refusal)) if refusal.is_missing_item() => return Ok(false),
        result => result?,
    };
    let folder = properties.get("parentFolderId").and_then(|id| id.as_str());
    let is_draft = properties.get("isDraft").and_then(serde_json::Value::as_bool);
    if folder.is_none() || folder != sent_items.as_deref() || is_draft == Some(true) {
        return Ok(false);
    }
    let content = sender.content(&copy.id, MAX_COPY).await?;
    match classify(registry, &content) {
        Classification::TestMail(token) if token.nonce == copy.token.nonce => {
            sender.delete(&copy.id).await?;
            Ok(true)
        }
        // Whatever it is, it is not what was sent: it stays.
        _ => Ok(true),
    }
}

fn note_sender(sample: &mut Sample, sender: &Sender, result: Result<&Reply, &SmtpError>) {
    let phases = &sender.phases;
    sample.smtp_tcp = phases.tcp;
    sample.smtp_tls = phases.tls;
    sample.smtp_connect = phases.connect;
    (sample.smtp_greeting, sample.smtp_ehlo, sample.smtp_envelope) = (None, None, None);
    sample.smtp_auth = phases.auth;
    sample.smtp_data = phases.data;
    sample.smtp_send = phases.send;
    if let Some(tls) = sender.tls() {
        sample.smtp_tls_version = Some(tls.version);
        sample.smtp_tls_cipher = Some(tls.cipher);
        sample.smtp_certificate_expires_at = tls.expires_at;
    }
    sample.smtp_reply_code = sender.status.map(i32::from);
    let reply = result.ok().or_else(|| result.err()?.reply.as_ref());
    sample.smtp_enhanced_status =
        reply.and_then(|reply| reply.enhanced_status().map(str::to_owned));
}
