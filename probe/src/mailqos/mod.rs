//! The mail test, kind `mail-qos`: from its start to its sample.
//!
//! `token` (what makes a mail ours) · `message` (the mail) · `mailbox` (who waits, when it is looked for) · `pickup` (one
//! visit) · `evidence` (where the landing must lie) · `clock` (what servers' stamps mean). The SMTP conversation is `mailqos_core::mail::Smtp`.

mod bounce;
mod clock;
mod evidence;
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod mailbox;
mod message;
mod network;
mod pickup;
mod received;
mod timeline;
pub mod token;
mod verdicts;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use lettre::Address;
use mailqos_core::{
    config::{Account, Config, Endpoint, Kind, MailQos, Monitor, Transcripts},
    mail::{self, Credentials, Reply, Smtp, SmtpError, one_line},
    model::{Exclusion, Micros, MonitorId, Outcome, Sample, Stage, UtcMicros},
    transcripts::{Conversation, Store, Transcript},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep_until, timeout_at},
};

use crate::record::{InFlight, RecordError, Recorder};
use bounce::Notice;
use clock::Clocks;
use evidence::{Bounds, Evidence, Moment, RoundTrip};
use mailbox::{Expected, Key, Mailbox, Progress, Registry, lock};
use network::Network;
use token::{KeyError, SigningKey, Token};

pub use timeline::{Part, Phase, Timeline};

/// The longest pause between two attempts to hand a mail over.
const LONGEST_PAUSE: Micros = Micros::from_secs(60);
/// Attempts to hand a mail over whose conversations are kept.
const MOST_TRANSCRIPTS: usize = 8;

/// The test could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum TesterError {
    /// There is no key to sign with.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What a test yields.
#[derive(Debug, Clone)]
pub struct TestResult {
    /// The row in the lake; provisional while the mail may still be found late.
    pub sample: Sample,
    /// What happened when.
    pub timeline: Timeline,
    /// What was said.
    pub conversations: Vec<Conversation>,
}

/// Runs mail tests. One for all monitors: those that share a mailbox share its pick-ups.
pub struct Tester {
    config: RwLock<Arc<Config>>,
    recorder: Option<Recorder>,
    key: SigningKey,
    registry: Arc<Registry>,
    mailboxes: Mutex<HashMap<Key, Arc<Mailbox>>>,
    last_start: Mutex<HashMap<MonitorId, UtcMicros>>,
    clocks: Mutex<Clocks>,
    transcripts: Arc<Store>,
    duplicates: tokio::sync::mpsc::UnboundedSender<Sample>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    network: Network,
    stopping: watch::Sender<bool>,
}

/// What is offered to the server.
struct Offer {
    draft: message::Draft,
    credentials: Option<Credentials>,
    from: Address,
    to: Address,
    /// When the offering must have ended.
    until: Moment,
}

/// The attempts to hand a mail over.
#[derive(Default)]
struct Attempts {
    /// When the last one began: it is the one that the sample tells of.
    began: Option<Moment>,
    /// What was said in the first ones.
    said: Vec<mail::Transcript>,
}

impl Attempts {
    fn note(&mut self, began: Moment, smtp: &Smtp) {
        self.began = Some(began);
        if self.said.len() < MOST_TRANSCRIPTS {
            self.said.extend(smtp.transcript());
        }
    }

    fn conversations(&self) -> impl Iterator<Item = Conversation> + '_ {
        self.said.iter().map(|transcript| Conversation::of("SMTP", transcript))
    }
}

/// A mail that was handed over.
struct Sent {
    nonce: [u8; 8],
    at: UtcMicros,
    moment: Moment,
    /// How the server took it, where that is known.
    handed_over: Option<HandOver>,
}

/// A mail's acceptance.
struct HandOver {
    /// The server stamped it then.
    within: Bounds,
    /// Its reply to the content.
    reply: String,
    /// The name under which this end said EHLO.
    client: String,
}

impl Tester {
    /// Prepares tests: reads the signing key, or makes one. Without a recorder nothing is kept.
    ///
    /// # Errors
    /// When there is no signing key to be had.
    pub async fn new(config: Arc<Config>, recorder: impl Into<Option<Recorder>>) -> Result<Arc<Self>, TesterError> {
        let key = match &config.signing_key {
            Some(source) => SigningKey::new(&source.fetch().await.map_err(KeyError::Secret)?)?,
            None => SigningKey::of_folder(&config.state)?,
        };
        let max_round_trips = max_round_trips(&config);
        let (duplicates, mut found) = tokio::sync::mpsc::unbounded_channel();
        let tester = Arc::new(Self {
            registry: Arc::new(Registry::new(key.clone(), config.site.clone(), max_round_trips)),
            recorder: recorder.into(),
            network: Network::new(&config.references),
            key,
            transcripts: Arc::new(Store::new(&config)),
            config: RwLock::new(config),
            mailboxes: Mutex::default(),
            last_start: Mutex::default(),
            clocks: Mutex::default(),
            duplicates,
            tasks: Mutex::default(),
            stopping: watch::Sender::new(false),
        });
        if let Some(recorder) = tester.recorder.clone() {
            tester.spawn(async move {
                while let Some(sample) = found.recv().await {
                    keep(&recorder, &sample).await;
                }
            });
        }
        Ok(tester)
    }

    /// Goes over to another configuration; mails in flight are waited for as before.
    pub fn reload(&self, config: Arc<Config>) {
        {
            // A mailbox that is reached as before goes on with what it remembers. Of the others tests from now on go the new
            // way; the mails in flight hold their old one.
            let mut mailboxes = lock(&self.mailboxes);
            let before = std::mem::take(&mut *mailboxes);
            for monitor in config.monitors.values() {
                let Kind::MailQos(options) = &monitor.kind;
                let account = config.account(options.pickup.account.as_ref());
                let key = Key::of(options, account);
                if let Some(mailbox) = before.get(&key).filter(|mailbox| mailbox.is_reached_as(options)) {
                    mailbox.log_in_by(account);
                    mailboxes.insert(key, mailbox.clone());
                }
            }
        }
        self.registry.reload(max_round_trips(&config));
        self.network.reload(&config.references);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs one test. Its sample is on record when this returns.
    pub async fn test(self: &Arc<Self>, monitor: &Monitor) -> TestResult {
        self.test_as(monitor, None).await
    }

    /// Runs one test whose sample does not count, if there is a reason for that.
    pub async fn test_as(self: &Arc<Self>, monitor: &Monitor, excluded: Option<Exclusion>) -> TestResult {
        let Kind::MailQos(options) = &monitor.kind;
        let started_at = self.start_of(&monitor.id);
        let started = Moment::now();
        let mut sample = Sample::new(monitor.id.clone(), started_at, Outcome::NotTested);
        sample.excluded = excluded;
        sample.test_interval = Some(monitor.test_interval);
        sample.max_round_trip = Some(options.max_round_trip);
        sample.tls_unverified = (options.smtp.trust.insecure || options.pickup.trust.insecure).then_some(true);
        let mut stopping = self.stopping.subscribe();
        let mut attempts = Attempts::default();
        let result = tokio::select! {
            result = self.send(options, &mut sample, &mut attempts) => result,
            _ = stopping.wait_for(|stop| *stop) => {
                Err(("the probe was stopped before the mail was sent".to_owned(), None))
            }
        };
        let smtp = attempts.began.map(|began| began - started);
        let (sent, expected) = match result {
            Ok(sent) => sent,
            Err((error, stage)) => {
                sample.error = Some(error);
                sample.stage = stage;
                sample.outcome = if stage.is_some() {
                    Outcome::SmtpFailed
                } else {
                    Outcome::NotTested
                };
                self.network.doubt(&mut sample).await;
                self.record(&sample).await;
                let conversations: Vec<_> = attempts.conversations().collect();
                self.keep_transcript(&sample, options, &conversations).await;
                let timeline = Timeline::of(&sample, smtp, None, None);
                return TestResult {
                    sample,
                    timeline,
                    conversations,
                };
            }
        };
        let deadline = sent.moment + options.max_round_trip;
        let progress = wait(expected.progress.clone(), deadline, options.timeout, &mut stopping).await;
        let settled = self.judge(&mut sample, &sent, &expected, &progress, options, *stopping.borrow());
        let pickup = progress
            .found_by
            .as_ref()
            .or(progress.last.as_ref())
            .map(|visit| visit.began - started);
        let timeline = Timeline::of(&sample, smtp, Some(sent.moment - started), pickup);
        self.network.doubt(&mut sample).await;
        self.record(&sample).await;
        let conversations: Vec<_> = attempts
            .conversations()
            .chain(progress.conversations(options.protocol))
            .collect();
        self.keep_transcript(&sample, options, &conversations).await;
        if settled {
            self.registry.settled(sent.nonce, sample.clone());
        } else {
            self.note_in_flight(&sample, sent.nonce, sent.at, options).await;
        }
        if !settled && !*stopping.borrow() {
            let tester = self.clone();
            let (sample, options) = (sample.clone(), options.clone());
            self.spawn(async move { tester.settle(sample, sent, expected, &options).await });
        }
        TestResult {
            sample,
            timeline,
            conversations,
        }
    }

    /// Keeps what was said in a failed test, or in any where the monitor asks for it.
    async fn keep_transcript(&self, sample: &Sample, options: &MailQos, conversations: &[Conversation]) {
        if self.recorder.is_none() || !is_kept(sample, options) {
            return;
        }
        let transcript = Transcript::new(&self.config().site, sample, conversations.to_vec());
        let store = self.transcripts.clone();
        let saved = tokio::task::spawn_blocking(move || store.save(&transcript)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(monitor = %sample.monitor, "the transcript of a test was not kept: {error}");
        }
    }

    /// Sends the mail; on success it is being looked for.
    async fn send(
        self: &Arc<Self>,
        options: &MailQos,
        sample: &mut Sample,
        attempts: &mut Attempts,
    ) -> Result<(Sent, Expected), (String, Option<Stage>)> {
        let own = |error: String| (error, None);
        let smtp_credentials = self.credentials(&options.smtp).await.map_err(own)?;
        // A missing password of the mailbox would only be found out with a mail on its way.
        let _ = self.credentials(&options.pickup).await.map_err(own)?;
        let address = |text: &str| {
            text.parse::<Address>()
                .map_err(|error| own(format!("{text:?} is no mail address: {error}")))
        };
        let (from, to) = (address(&options.from)?, address(&options.to)?);
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).map_err(|error| own(format!("no random numbers: {error}")))?;
        let mut token = Token {
            site: self.config().site.clone(),
            monitor: sample.monitor.clone(),
            sent_at: UtcMicros::now(),
            nonce,
        };
        let expected = self.registry.expect(nonce, &self.mailbox(options), options);
        let draft = message::Draft::new(options).map_err(|error| own(format!("no random numbers: {error}")))?;
        sample.message_bytes = i32::try_from(draft.write(&self.key, &token).len()).ok();
        let began = Moment::now();
        let patience = began + options.max_round_trip;
        let offer = Offer {
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
            let handed_over = self.hand_over(options, sample, &offer, &mut token, attempts).await;
            let error = match handed_over {
                Ok(sent) => {
                    if sample.stage.is_none() {
                        sample.smtp_elapsed = Some(if attempt == 1 {
                            sample.smtp_send.unwrap_or_default()
                        } else {
                            Moment::now() - began
                        });
                    }
                    expected.sent(&sample.monitor, sent.moment, options);
                    return Ok((sent, expected));
                }
                Err(error) => error,
            };
            let stage = (!error.own_network).then_some(error.stage);
            // Greylisting, a full queue, a server that is busy: what it calls temporary is tried again while there is time.
            let again = Moment::now() + pause;
            if !error.is_transient() || again >= patience {
                let text = match attempt {
                    1 => error.text,
                    _ => format!("{} (after {attempt} attempts)", error.text),
                };
                return Err((text, stage));
            }
            tracing::debug!(monitor = %sample.monitor, attempt, "refused for now, tried again in {pause}: {}", error.text);
            sleep_until(again.instant()).await;
            pause = Micros((pause.0 * 2).min(LONGEST_PAUSE.0));
        }
    }

    /// Offers the mail to the server once. A mail that may have been taken counts as sent, with a stage in the sample.
    async fn hand_over(
        &self,
        options: &MailQos,
        sample: &mut Sample,
        offer: &Offer,
        token: &mut Token,
        attempts: &mut Attempts,
    ) -> Result<Sent, SmtpError> {
        let Offer { draft, from, to, .. } = offer;
        let mut smtp = Smtp::new(&options.smtp, options.timeout.to_std());
        // In whole seconds: it is told to people.
        let left = (offer.until - Moment::now()).to_std();
        smtp.limit(Duration::from_secs(left.as_secs() + 1));
        let began = Moment::now();
        let (mut asked, mut stamp) = (None, None);
        let result = async {
            smtp.open().await?;
            if let Some(credentials) = &offer.credentials {
                smtp.authenticate(credentials).await?;
            }
            asked = Some(Moment::now());
            let size = draft.write(&self.key, token).len();
            smtp.envelope(Some(from), std::slice::from_ref(to), size, false).await?;
            self.note_in_flight(sample, token.nonce, UtcMicros::now(), options)
                .await;
            smtp.data(|| {
                token.sent_at = UtcMicros::now();
                stamp = Some(Instant::now());
                draft.write(&self.key, token)
            })
            .await
        }
        .await;
        note_smtp(sample, &smtp, result.as_ref());
        attempts.note(began, &smtp);
        let mut sent = Sent {
            nonce: token.nonce,
            at: token.sent_at,
            moment: stamp.map_or_else(Moment::now, Moment::of),
            handed_over: None,
        };
        match result {
            Ok(reply) => {
                sent.handed_over = asked.map(|after| HandOver {
                    within: Bounds {
                        after,
                        before: Moment::of(reply.at),
                    },
                    reply: reply.lines.join(" "),
                    client: smtp.client_name(),
                });
                smtp.quit();
                Ok(sent)
            }
            // The mail may have been taken: the evidence decides.
            Err(error) if error.uncertain && stamp.is_some() => {
                sample.stage = Some(error.stage);
                sample.error = Some(format!("{}; whether the server took the mail is not known", error.text));
                sample.send_uncertain = Some(true);
                Ok(sent)
            }
            Err(error) => {
                smtp.quit();
                Err(error)
            }
        }
    }

    /// What is known at max round trip; tells whether it is settled.
    fn judge(
        &self,
        sample: &mut Sample,
        sent: &Sent,
        expected: &Expected,
        progress: &Progress,
        options: &MailQos,
        stopped: bool,
    ) -> bool {
        if progress.is_complete() {
            sample.stage = None;
            sample.error = None;
            self.note_found(sample, sent, progress, options);
            return true;
        }
        if let Some(visit) = &progress.last {
            note_visit(sample, visit);
        }
        sample.pickups = Some(progress.pickups);
        if stopped {
            sample.outcome = Outcome::NotTested;
            sample.error = Some("the probe was stopped while the mail was on its way".to_owned());
            sample.settled = Some(false);
            return false;
        }
        let error = progress.last.as_ref().and_then(|visit| visit.error.as_ref());
        if sample.stage.is_some() {
            // Send uncertain, and nothing landed so far.
            sample.outcome = Outcome::SmtpFailed;
            sample.settled = Some(false);
            return false;
        }
        match error {
            Some(error) if error.own_network => {
                sample.outcome = Outcome::NotTested;
                sample.error = Some(error.text.clone());
                true
            }
            Some(error) => {
                sample.outcome = Outcome::PickupFailed;
                sample.stage = Some(error.stage);
                sample.error = Some(error.text.clone());
                true
            }
            None if !progress.has_looked_at(sent.moment + options.max_round_trip) => {
                let stage = expected.visit_is_at().unwrap_or(Stage::PickupConnect);
                sample.outcome = Outcome::PickupFailed;
                sample.stage = Some(stage);
                let what = match progress.last {
                    None => "no pick-up ended within",
                    // Those before it looked too early: whether the mail has landed since, nobody knows.
                    Some(_) => "the last pick-up did not end within",
                };
                sample.error = Some(format!(
                    "{what} {}: {}",
                    options.max_round_trip + options.timeout,
                    waits_for(stage)
                ));
                true
            }
            None => {
                sample.outcome = Outcome::Lost;
                sample.error = Some(format!(
                    "not in the mailbox {} after it was sent",
                    options.max_round_trip
                ));
                sample.settled = Some(false);
                false
            }
        }
    }

    /// Fills in what is known of a mail that landed.
    fn note_found(&self, sample: &mut Sample, sent: &Sent, progress: &Progress, options: &MailQos) {
        let Some(found) = &progress.found else { return };
        if let Some(Notice::Failed { status, reason }) = bounce::read(&found.mail) {
            note_bounce(sample, progress, status.as_deref(), reason.as_deref());
            return;
        }
        // After a restart the moment is known only as it was before DATA; the token tells the true one.
        let moment = sent.moment + (found.token.sent_at - sent.at);
        let hops = received::hops(&found.mail);
        let is_of = |hand_over: &&HandOver| received::is_of_hand_over(&found.mail, &hand_over.reply, &hand_over.client);
        let evidence = Evidence {
            sent: moment,
            handed_over: sent
                .handed_over
                .as_ref()
                .filter(is_of)
                .map(|hand_over| hand_over.within),
            not_shown: found.not_shown,
            shown: found.shown,
            hops: &hops,
            filed: received::is_filed(&found.mail),
            internal_date: found.landed,
            notified: found.notified,
            route: &route(options),
        };
        let landing = evidence.landing(&mut lock(&self.clocks));
        let RoundTrip {
            estimate: round_trip,
            error,
            likely_error,
        } = landing.round_trip(moment);
        if options.precise {
            self.registry
                .landed_after(&sample.monitor, landing.likely.after - moment);
        }
        sample.round_trip = Some(round_trip);
        sample.round_trip_error = Some(error);
        sample.round_trip_likely_error = Some(likely_error);
        sample.outcome = if round_trip <= options.max_round_trip {
            Outcome::Ok
        } else {
            Outcome::Late
        };
        if let Some(visit) = progress.found_by.as_ref() {
            note_visit(sample, visit);
        }
        sample.pickup_receive = found.receive;
        sample.pickups = Some(progress.pickups.max(1));
        sample.folder = found.folder.clone();
        sample.duplicates = Some(progress.duplicates);
        note_verdicts(sample, &found.mail);
        sample.hops = (!hops.is_empty()).then_some(hops);
    }

    /// Puts on record that a mail is on its way, with what is known of its test.
    async fn note_in_flight(&self, sample: &Sample, nonce: [u8; 8], sent_at: UtcMicros, options: &MailQos) {
        let Some(recorder) = &self.recorder else { return };
        let mut sample = sample.clone();
        sample.settled = Some(false);
        let mail = InFlight {
            nonce,
            sent_at,
            horizon_at: sent_at + options.horizon,
            sample,
        };
        if let Err(error) = recorder.note_in_flight(mail).await {
            tracing::warn!("a restart would forget a mail that is on its way: {error}");
        }
    }

    /// Waits for a mail beyond max round trip, until it is found or the horizon ends, and settles its sample.
    async fn settle(self: Arc<Self>, mut sample: Sample, sent: Sent, expected: Expected, options: &MailQos) {
        let horizon = sent.moment + options.horizon;
        let mut watch = expected.progress.clone();
        // Either way the last state tells.
        let _ = timeout_at(horizon.instant(), watch.wait_for(Progress::is_complete)).await;
        let progress = expected.progress.borrow().clone();
        if progress.is_complete() {
            // It landed: what is told about the time before was true then.
            sample.stage = None;
            sample.error = None;
            self.note_found(&mut sample, &sent, &progress, options);
        }
        sample.settled = Some(true);
        self.record(&sample).await;
        if self.recorder.is_some() && is_kept(&sample, options) {
            let more = progress.conversations(options.protocol).collect();
            let (store, site, sample) = (self.transcripts.clone(), self.config().site.clone(), sample.clone());
            let amended = tokio::task::spawn_blocking(move || store.amend(&site, &sample, more)).await;
            if let Ok(Err(error)) = amended {
                tracing::warn!("the transcript of a test was not kept: {error}");
            }
        }
        self.registry.settled(sent.nonce, sample);
    }

    /// Goes on waiting for the mails that an earlier life of the probe sent.
    pub async fn resume(self: &Arc<Self>) {
        let Some(recorder) = &self.recorder else { return };
        for mail in recorder.in_flight() {
            let mut sample = mail.sample;
            let config = self.config();
            let Some(monitor) = config.monitors.get(&sample.monitor) else {
                // Nobody knows any more where to look for it.
                sample.outcome = Outcome::NotTested;
                sample.error =
                    Some("the probe was stopped while the mail was on its way, and the monitor is gone".to_owned());
                sample.settled = Some(true);
                self.record(&sample).await;
                continue;
            };
            let Kind::MailQos(options) = &monitor.kind;
            if sample.outcome == Outcome::NotTested {
                sample.outcome = Outcome::Lost;
                sample.error = Some("the probe was stopped while the mail was on its way".to_owned());
            }
            let sent = Sent {
                nonce: mail.nonce,
                at: mail.sent_at,
                moment: Moment::of_wall(mail.sent_at),
                handed_over: None,
            };
            let mut options = options.clone();
            options.horizon = mail.horizon_at - mail.sent_at;
            let expected = self.registry.expect(sent.nonce, &self.mailbox(&options), &options);
            expected.sent(&sample.monitor, sent.moment, &options);
            let tester = self.clone();
            self.spawn(async move { tester.settle(sample, sent, expected, &options).await });
        }
    }

    /// Ends all waiting; what is in flight stays on record for the next life.
    pub async fn shutdown(&self) {
        self.stopping.send_replace(true);
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        tasks.retain(|task| !task.is_finished());
        tasks.push(tokio::spawn(task));
    }

    fn mailbox(self: &Arc<Self>, options: &MailQos) -> Arc<Mailbox> {
        let account = self.account(&options.pickup);
        let key = Key::of(options, account.as_ref());
        let mut mailboxes = lock(&self.mailboxes);
        if let Some(mailbox) = mailboxes.get(&key) {
            return mailbox.clone();
        }
        let mailbox = Arc::new(Mailbox::new(key.clone(), options, account.as_ref()));
        mailboxes.insert(key, mailbox.clone());
        self.spawn(mailbox.clone().serve(self.registry.clone(), self.duplicates.clone()));
        mailbox
    }

    fn account(&self, endpoint: &Endpoint) -> Option<Account> {
        self.config().account(endpoint.account.as_ref()).cloned()
    }

    async fn credentials(&self, endpoint: &Endpoint) -> Result<Option<Credentials>, String> {
        match self.account(endpoint) {
            Some(account) => {
                let credentials = account.credentials().await;
                credentials.map(Some).map_err(|error| error.to_string())
            }
            None => Ok(None),
        }
    }

    /// The start of a test: unique for a monitor, whatever the clock does.
    fn start_of(&self, monitor: &MonitorId) -> UtcMicros {
        let mut last = lock(&self.last_start);
        let mut now = UtcMicros::now();
        if let Some(last) = last.get(monitor)
            && now <= *last
        {
            now = *last + Micros(1);
        }
        last.insert(monitor.clone(), now);
        now
    }

    async fn record(&self, sample: &Sample) {
        if let Some(recorder) = &self.recorder {
            keep(recorder, sample).await;
        }
    }
}

/// The pause before a mail is offered again: a server that sends all away at first wants some seconds, mostly minutes.
fn first_pause(max_round_trip: Micros) -> Micros {
    Micros((max_round_trip.0 / 24).clamp(200_000, 5_000_000))
}

/// Whether the transcript of a test is kept.
fn is_kept(sample: &Sample, options: &MailQos) -> bool {
    match options.transcripts {
        Transcripts::All => true,
        Transcripts::Failed => sample.outcome != Outcome::Ok,
        Transcripts::None => false,
    }
}

/// What a visit waits for that does not end.
fn waits_for(stage: Stage) -> &'static str {
    match stage {
        Stage::PickupTls => "encryption is not agreed on yet",
        Stage::PickupGreeting => "the server has not greeted yet",
        Stage::PickupLogin => "the login is not answered yet",
        Stage::PickupList => "the mailbox is not listed yet",
        Stage::PickupReceive => "the mails are not read yet",
        _ => "there is no connection yet",
    }
}

/// Through which servers the mails of a test go.
fn route(options: &MailQos) -> String {
    let (smtp, pickup) = (&options.smtp, &options.pickup);
    format!("{}:{} to {}:{}", smtp.server, smtp.port, pickup.server, pickup.port)
}

fn max_round_trips(config: &Config) -> HashMap<MonitorId, Micros> {
    let monitors = config.monitors.values();
    monitors
        .map(|monitor| (monitor.id.clone(), monitor.kind.max_round_trip()))
        .collect()
}

async fn keep(recorder: &Recorder, sample: &Sample) {
    match recorder.record(sample.clone()).await {
        Ok(()) => {}
        Err(error @ (RecordError::Full(_) | RecordError::Closed | RecordError::Encode(_))) => {
            tracing::error!(monitor = %sample.monitor, "a sample is lost: {error}");
        }
        Err(error) => {
            tracing::error!(monitor = %sample.monitor, "a sample waits in memory until the disk takes it: {error}");
        }
    }
}

/// Waits until the mail was found and read, or max round trip has passed and a pick-up after it has looked once more.
async fn wait(
    mut progress: watch::Receiver<Progress>,
    deadline: Moment,
    grace: Micros,
    stopping: &mut watch::Receiver<bool>,
) -> Progress {
    let decided = |progress: &Progress| progress.is_complete() || progress.has_looked_at(deadline);
    tokio::select! {
        _ = progress.wait_for(decided) => {}
        () = sleep_until((deadline + grace).instant()) => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    progress.borrow().clone()
}

/// Fills in what a notification says of a mail that will not land.
fn note_bounce(sample: &mut Sample, progress: &Progress, status: Option<&str>, reason: Option<&str>) {
    sample.outcome = Outcome::Lost;
    sample.stage = Some(Stage::Bounced);
    let mut text = "the mail came back".to_owned();
    for part in [status, reason].into_iter().flatten() {
        text = format!("{text}: {part}");
    }
    sample.error = Some(one_line(&text, &[]));
    if let Some(visit) = progress.found_by.as_ref() {
        note_visit(sample, visit);
    }
    sample.pickups = Some(progress.pickups.max(1));
}

/// Fills in what the receiving system thought of the mail.
fn note_verdicts(sample: &mut Sample, mail: &[u8]) {
    let verdicts = verdicts::read(mail);
    sample.spf = verdicts.spf;
    sample.dkim = verdicts.dkim;
    sample.dmarc = verdicts.dmarc;
    sample.spam_verdict = verdicts.spam.map(str::to_owned);
    sample.spam_score = verdicts.score;
}

fn note_visit(sample: &mut Sample, visit: &mailbox::LastVisit) {
    let phases = &visit.phases;
    sample.pickup_tcp = phases.tcp;
    sample.pickup_tls = phases.tls;
    sample.pickup_connect = phases.connect;
    sample.pickup_greeting = phases.greeting;
    sample.pickup_login = phases.login;
    sample.pickup_list = phases.list;
    if let Some(tls) = &visit.tls {
        sample.pickup_tls_version = Some(tls.version.clone());
        sample.pickup_tls_cipher = Some(tls.cipher.clone());
        sample.pickup_certificate_expires_at = tls.expires_at;
    }
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
    sample.smtp_enhanced_status = reply.and_then(|reply| reply.enhanced_status().map(str::to_owned));
}
