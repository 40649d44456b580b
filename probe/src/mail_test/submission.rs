//! Submits a mail to the SMTP server, with retries after temporary refusals.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lettre::Address;
use mailqos_config::{MailQos, Monitor, Person, SubmissionProtocol};
use mailqos_lake::transcripts::Conversation;
use mailqos_mail as mail;
use mailqos_mail::{Credentials, LoginRefusal, Reply, Smtp, SmtpError};
use mailqos_model::{Micros, Sample, Stage, UtcMicros};
use tokio::time::sleep_until;

use super::{
    MailTests,
    evidence::{Bounds, Moment},
    mailbox::Expected,
    message,
    token::Token,
};
use crate::testing;

/// Maximum time between two attempts to submit a mail.
const MAX_PAUSE: Micros = Micros::from_secs(60);
/// Maximum number of attempts whose transcripts are kept.
const MAX_TRANSCRIPTS: usize = 8;

/// A submission.
pub(super) struct Offer<'a> {
    pub(super) options: &'a MailQos,
    pub(super) draft: message::Draft,
    pub(super) credentials: Option<Credentials>,
    from: Address,
    to: Address,
    /// Deadline of the submission.
    pub(super) until: Moment,
}

/// The attempts to submit a mail.
pub(super) struct Attempts {
    /// Time for which rejected credentials are not tried again.
    hold: Micros,
    protocol: SubmissionProtocol,
    /// Start of the last attempt, which is the one in the sample.
    pub(super) began: Option<Moment>,
    /// Transcripts of the earlier attempts.
    said: Vec<mail::Transcript>,
}

/// Returns the time for which a monitor does not retry rejected credentials.
pub(super) fn hold(monitor: &Monitor, options: &MailQos) -> Micros {
    testing::hold(monitor, options.max_round_trip + options.check_interval)
}

impl Attempts {
    pub(super) fn of(monitor: &Monitor, options: &MailQos) -> Self {
        Self {
            hold: hold(monitor, options),
            protocol: options.submission,
            began: None,
            said: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, began: Moment, transcript: Option<mail::Transcript>) {
        self.began = Some(began);
        if self.said.len() < MAX_TRANSCRIPTS {
            self.said.extend(transcript);
        }
    }

    pub(super) fn conversations(&self) -> impl Iterator<Item = Conversation> + '_ {
        let protocol = self.protocol.to_string();
        self.said.iter().map(move |transcript| testing::conversation(&protocol, transcript))
    }
}

/// A submitted mail.
pub(super) struct Sent {
    pub(super) nonce: [u8; 8],
    /// Time in its token.
    pub(super) at: UtcMicros,
    /// The same time by the clock that measures round trips.
    pub(super) moment: Moment,
    /// The server's acceptance, if known.
    pub(super) accepted: Option<Submission>,
}

/// A server's acceptance of a mail.
pub(super) struct Submission {
    /// Bounds of the time at which the server stamped it.
    pub(super) within: Bounds,
    /// Its reply to the content.
    pub(super) reply: String,
    /// The client name sent in EHLO.
    pub(super) client: String,
}

impl MailTests {
    /// Sends the mail. After success, pick-ups look for it.
    pub(super) async fn send(
        self: &Arc<Self>,
        options: &MailQos,
        sample: &mut Sample,
        attempts: &mut Attempts,
    ) -> Result<(Sent, Expected), (String, Option<Stage>)> {
        let own = |error: String| (error, None);
        let smtp_credentials = {
            let credentials = self.base.credentials(&options.smtp, options.submission).await;
            credentials.map_err(own)?
        };
        // Otherwise, a missing mailbox password would only be noticed with a mail in transit.
        let pickup = (&options.pickup, options.protocol);
        let credentials = self.base.mailbox_credentials(pickup.0, pickup.1).await.map_err(own)?;
        if let Some(credentials) = credentials {
            credentials.hand_back().await;
        }
        let address = |person: &Person| person.mailbox().map_err(|error| own(error.to_string()));
        let (from, to) = (address(&options.from)?, address(&options.to)?);
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce)
            .map_err(|error| own(format!("the system provides no random numbers: {error}")))?;
        let mut token = Token {
            site: self.base.config().site.clone(),
            monitor: sample.monitor.clone(),
            sent_at: UtcMicros::now(),
            nonce,
        };
        let expected =
            self.mailbox(options).expect(&self.registry, token.clone(), options, attempts.hold);
        let draft = message::Draft::new(options)
            .map_err(|error| own(format!("the system provides no random numbers: {error}")))?;
        sample.message_bytes = i32::try_from(draft.write(&self.key, &token).len()).ok();
        let began = Moment::now();
        let patience = began + options.max_round_trip;
        let offer = Offer {
            options,
            draft,
            credentials: smtp_credentials,
            from,
            to,
            until: patience + options.timeout,
        };
        let mut pause = first_pause(options.max_round_trip);
        let mut attempt = 0;
        loop {
            attempt += 1;
            sample.smtp_attempts = Some(attempt);
            let accepted = match options.submission {
                SubmissionProtocol::Smtp => self.submit(sample, &offer, &mut token, attempts).await,
                SubmissionProtocol::Graph => {
                    self.submit_over_graph(sample, &offer, &mut token, attempts).await
                }
            };
            let error = match accepted {
                Ok(sent) => {
                    if sample.stage.is_none() {
                        sample.smtp_elapsed = Some(if attempt == 1 {
                            sample.smtp_send.unwrap_or_default()
                        } else {
                            Moment::now() - began
                        });
                    }
                    expected.sent(&sample.monitor, (sent.moment, sent.at), options);
                    return Ok((sent, expected));
                }
                Err(error) => error,
            };
            let stage = (!error.own_network).then_some(error.stage);
            // Greylisting, a full queue, a busy server: temporary refusals are retried while there
            // is time.
            let again = Moment::now() + pause;
            if !is_worth_another_try(&error) || again >= patience {
                let text = match attempt {
                    1 => error.text,
                    _ => format!("{} (after {attempt} attempts)", error.text),
                };
                return Err((text, stage));
            }
            tracing::debug!(monitor = %sample.monitor, attempt, %pause, error = %error.text, "temporarily rejected; retrying");
            sleep_until(again.instant()).await;
            pause = Micros((pause.0 * 2).min(MAX_PAUSE.0));
        }
    }

    /// Submits the mail to the server once. A mail that may have been accepted counts as sent, with
    /// a stage in the sample.
    async fn submit(
        &self,
        sample: &mut Sample,
        offer: &Offer<'_>,
        token: &mut Token,
        attempts: &mut Attempts,
    ) -> Result<Sent, SmtpError> {
        let Offer { options, draft, from, to, .. } = offer;
        let mut smtp = Smtp::new(&options.smtp, options.timeout.to_std());
        // In whole seconds for display.
        let left = (offer.until - Moment::now()).to_std();
        smtp.limit(Duration::from_secs(left.as_secs() + 1));
        let began = Moment::now();
        let (mut asked, mut stamp) = (None, None);
        let result = async {
            smtp.open().await?;
            if let Some(credentials) = &offer.credentials {
                log_in(&mut smtp, options, credentials, attempts.hold).await?;
            }
            asked = Some(Moment::now());
            let size = draft.write(&self.key, token).len();
            smtp.envelope(Some(from), std::slice::from_ref(to), size, false).await?;
            self.note_in_flight(sample, token.nonce, UtcMicros::now(), options).await;
            smtp.data(|| {
                token.sent_at = UtcMicros::now();
                stamp = Some(Instant::now());
                draft.write(&self.key, token)
            })
            .await
        }
        .await;
        note_smtp(sample, &smtp, result.as_ref());
        attempts.note(began, smtp.transcript());
        let mut sent = Sent {
            nonce: token.nonce,
            at: token.sent_at,
            moment: stamp.map_or_else(Moment::now, Moment::of),
            accepted: None,
        };
        match result {
            Ok(reply) => {
                sent.accepted = asked.map(|after| Submission {
                    within: Bounds { after, before: Moment::of(reply.at) },
                    reply: reply.lines.join(" "),
                    client: smtp.client_name(),
                });
                smtp.quit();
                Ok(sent)
            }
            // The mail may have been accepted, so the evidence decides.
            Err(error) if error.uncertain && stamp.is_some() => {
                sample.stage = Some(error.stage);
                sample.error = Some(format!(
                    "{}; it is unknown whether the server accepted the mail",
                    error.text
                ));
                sample.send_uncertain = Some(true);
                Ok(sent)
            }
            Err(error) => {
                smtp.quit();
                Err(error)
            }
        }
    }
}

/// Returns whether a refused mail is submitted again in the same test. Not if the server limits
/// logins.
fn is_worth_another_try(error: &SmtpError) -> bool {
    let is_login = error.stage == Stage::SmtpAuth;
    error.is_transient() && !(is_login && LoginRefusal::read(&error.text).waits_for_next_test())
}

/// Logs in, unless the server has recently rejected these credentials in a test of any monitor.
async fn log_in(
    smtp: &mut Smtp,
    options: &MailQos,
    credentials: &Credentials,
    hold: Micros,
) -> Result<(), SmtpError> {
    let place = format!("{}:{}", options.smtp.server.to_ascii_lowercase(), options.smtp.port);
    let turn = credentials
        .turn(&place, hold.to_std(), options.timeout.to_std())
        .await
        .map_err(|held_back| SmtpError::of_login(&held_back))?;
    let result = smtp.authenticate(credentials).await;
    turn.settle(&result, LoginRefusal::waits_for_next_test);
    result
}

/// Returns the pause before a mail is submitted again: a server that refuses all first attempts
/// requires some seconds, usually minutes.
fn first_pause(max_round_trip: Micros) -> Micros {
    Micros((max_round_trip.0 / 24).clamp(200_000, 5_000_000))
}

fn note_smtp(sample: &mut Sample, smtp: &Smtp, result: Result<&Reply, &SmtpError>) {
    let phases = &smtp.phases;
    sample.smtp_tcp = phases.tcp;
    sample.smtp_tls = phases.tls;
    sample.smtp_connect = phases.connect;
    sample.smtp_greeting = phases.greeting;
    sample.smtp_ehlo = phases.ehlo;
    sample.smtp_auth = phases.auth;
    sample.smtp_envelope = phases.envelope;
    sample.smtp_data = phases.data;
    sample.smtp_send = phases.send;
    if let Some(tls) = smtp.tls() {
        sample.smtp_tls_version = Some(tls.version);
        sample.smtp_tls_cipher = Some(tls.cipher);
        sample.smtp_certificate_expires_at = tls.expires_at;
    }
    let last = smtp.last_reply();
    let reply = match result {
        Ok(reply) => Some(reply),
        Err(error) => error.reply.as_ref().or(last.as_ref()),
    };
    sample.smtp_reply_code = reply.map(|reply| i32::from(reply.code));
    sample.smtp_enhanced_status =
        reply.and_then(|reply| reply.enhanced_status().map(str::to_owned));
}
