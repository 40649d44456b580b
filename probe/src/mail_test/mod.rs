//! The mail test, kind `mail-qos`: from its start to its sample.
//!
//! `token` (the signature of our mails) · `message` (the mail) · `submission` (sending it) ·
//! `mailbox` (waiting tests and the times of pick-ups) · `classify` (which message is the mail, and
//! what others report about it) · `pickup` (one visit) · `evidence` (bounds of the arrival) ·
//! `clock` (meaning of servers' stamps) · `calibration` (accuracy of predictions) · `expectation`
//! (when to look) · `learned` (knowledge kept across restarts) · `outcome` (the resulting sample).
//! The SMTP session is `mailqos_mail::Smtp`.

mod calibration;
mod classify;
mod clock;
pub(crate) mod connections;
mod evidence;
mod expectation;
#[cfg(feature = "test-hooks")]
pub mod fuzzing;
mod graph_submission;
mod head;
mod learned;
mod mailbox;
mod message;
mod moment;
mod outcome;
pub(crate) mod pickup;
mod received;
mod receiver;
mod results;
mod submission;
pub mod token;
mod verdicts;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use connections::Connections;
use learned::LearnedState;
use mailbox::{ClockBehaviour, Expected, Key, Mailbox, Progress, Registry};
use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{Config, Kind, MailQos, Monitor};
use mailqos_model::{Micros, MonitorId, Outcome, Sample, Stage, UtcMicros};
pub(crate) use moment::Moment;
use outcome::Transit;
use submission::{Attempts, Sent};
use token::{KeyError, SigningKey, Token};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep_until, timeout_at},
};

use crate::{
    boot::Boot,
    record::InFlight,
    testing::{Arrival, TestBase, TestResult, Timeline},
};

/// Maximum time to record mails that are found at the very end.
const SETTLING: Duration = Duration::from_secs(5);

/// Reasons why tests can't be prepared.
#[derive(Debug, thiserror::Error)]
pub enum TesterError {
    /// No signing key is available.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Runs mail tests. There is one instance for all monitors, so that monitors with the same mailbox
/// share its pick-ups.
pub struct MailTests {
    base: Arc<TestBase>,
    key: SigningKey,
    registry: Arc<Registry>,
    mailboxes: Mutex<HashMap<Key, Arc<Mailbox>>>,
    duplicates: tokio::sync::mpsc::UnboundedSender<Sample>,
    /// Tasks that pick up mail from the mailboxes.
    visits: Mutex<Vec<JoinHandle<()>>>,
    /// Tasks that wait for mails beyond the maximum round trip, and tasks that record duplicates.
    settling: Mutex<Vec<JoinHandle<()>>>,
}

impl MailTests {
    /// Prepares tests: reads the signing key, or creates one.
    pub(crate) async fn new(base: Arc<TestBase>) -> Result<Arc<Self>, TesterError> {
        let config = base.config();
        let key = match &config.signing_key {
            Some(source) => SigningKey::new(&source.fetch().await.map_err(KeyError::Secret)?)?,
            None => SigningKey::of_folder(&config.state)?,
        };
        let (duplicates, mut found) = tokio::sync::mpsc::unbounded_channel();
        let registry = Registry::new(key.clone(), config.site.clone(), habits(&config));
        *registry.learned.lock().ignore_poison() = LearnedState::load(&learned::file_of(&config));
        registry.connections.configure(config.limits.per_server);
        let tests = Arc::new(Self {
            registry: Arc::new(registry),
            key,
            mailboxes: Mutex::default(),
            duplicates,
            visits: Mutex::default(),
            settling: Mutex::default(),
            base,
        });
        if tests.base.recorder().is_some() {
            let base = tests.base.clone();
            let mut stopping = base.stopping();
            spawn(&tests.settling, async move {
                loop {
                    let sample = tokio::select! {
                        biased;
                        Some(sample) = found.recv() => sample,
                        // No further visits are made.
                        _ = stopping.wait_for(|stop| *stop) => break,
                    };
                    base.record(&sample).await;
                }
            });
        }
        Ok(tests)
    }

    /// Looks for the mails at short gaps from now on, because a person waits for the results.
    pub(crate) fn attend(&self) {
        self.registry.is_attended.store(true, Ordering::Relaxed);
    }

    /// Returns the connections to mailbox servers.
    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.registry.connections
    }

    /// Applies a new configuration. Mails in transit are waited for as before.
    pub(crate) fn reload(&self, config: &Config) {
        {
            // A mailbox with an unchanged endpoint keeps its state. For the others, new tests use
            // the new endpoint, and mails in transit keep the old one.
            let mut mailboxes = self.mailboxes.lock().ignore_poison();
            let before = std::mem::take(&mut *mailboxes);
            for (_, options) in mail_tests(config) {
                let account = config.account(options.pickup.account.as_ref());
                let key = Key::of(options, account);
                if let Some(mailbox) =
                    before.get(&key).filter(|mailbox| mailbox.is_reached_as(options))
                {
                    mailbox.log_in_by(account);
                    mailboxes.insert(key, mailbox.clone());
                }
            }
        }
        self.registry.reload(habits(config));
        self.registry.connections.configure(config.limits.per_server);
    }

    /// Runs a test. When this returns, its sample is recorded.
    pub(crate) async fn test(
        self: &Arc<Self>,
        monitor: &Monitor,
        options: &MailQos,
        mut sample: Sample,
    ) -> TestResult {
        let started = Moment::now();
        sample.max_round_trip = Some(options.max_round_trip);
        sample.tls_unverified =
            (options.smtp.trust.insecure || options.pickup.trust.insecure).then_some(true);
        let mut stopping = self.base.stopping();
        let mut attempts = Attempts::of(monitor, options);
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
                sample.outcome =
                    if stage.is_some() { Outcome::SmtpFailed } else { Outcome::NotTested };
                self.base.excuse_if_offline(&mut sample).await;
                self.base.record(&sample).await;
                let conversations: Vec<_> = attempts.conversations().collect();
                self.base.keep_transcript(&sample, options, &conversations).await;
                let timeline = Timeline::of(&sample, smtp, None, None);
                return TestResult { sample, timeline, conversations, notes: Vec::new() };
            }
        };
        self.base.announce_sent(Timeline::of(&sample, smtp, None, None));
        let deadline = sent.moment + options.max_round_trip;
        // In the meantime, record that the server accepted the mail. The sample follows and ends
        // that record.
        let (progress, ()) = tokio::join!(
            wait(expected.progress.clone(), deadline, options.timeout, &mut stopping),
            self.note_in_flight(&sample, sent.nonce, sent.at, options)
        );
        let transit = Transit { sent: &sent, expected: &expected, progress: &progress, options };
        let mut settled = self.judge(&mut sample, transit, *stopping.borrow());
        let pickup = progress
            .found_by
            .as_ref()
            .or(progress.last.as_ref())
            .map(|visit| visit.began - started);
        let timeline = Timeline {
            arrival: arrival_of(&sent, &progress),
            ..Timeline::of(&sample, smtp, Some(sent.moment - started), pickup)
        };
        if self.base.excuse_if_offline(&mut sample).await {
            // Whatever happens to the mail, it no longer affects the sample.
            sample.settled = None;
            settled = true;
        }
        self.base.record(&sample).await;
        self.keep_learnt(false).await;
        let conversations: Vec<_> =
            attempts.conversations().chain(progress.conversations(options.protocol)).collect();
        self.base.keep_transcript(&sample, options, &conversations).await;
        let notes = progress.notes();
        if settled {
            self.registry.settled(sent.nonce, sample.clone());
        } else {
            self.note_in_flight(&sample, sent.nonce, sent.at, options).await;
            // Also for a stopped test: the server may have accepted its mail after it was judged.
            let tester = self.clone();
            let (sample, options) = (sample.clone(), options.clone());
            spawn(&self.settling, async move {
                tester.settle(sample, sent, expected, &options).await;
            });
        }
        TestResult { sample, timeline, conversations, notes }
    }

    /// Records that a mail is in transit, with the known properties of its test.
    async fn note_in_flight(
        &self,
        sample: &Sample,
        nonce: [u8; 8],
        sent_at: UtcMicros,
        options: &MailQos,
    ) {
        let Some(recorder) = self.base.recorder() else {
            return;
        };
        let mut sample = sample.clone();
        sample.settled = Some(false);
        let mail = InFlight {
            nonce,
            sent_at,
            horizon_at: sent_at + options.horizon,
            boot: Boot::now(),
            sample,
        };
        if let Err(error) = recorder.note_in_flight(mail).await {
            tracing::warn!(%error, "can't record a mail in flight; a restart would lose track of it");
        }
    }

    /// Waits for a mail beyond the maximum round trip, until it is found or the horizon ends, and
    /// settles its sample.
    async fn settle(
        self: Arc<Self>,
        mut sample: Sample,
        sent: Sent,
        expected: Expected,
        options: &MailQos,
    ) {
        let horizon = sent.moment + options.horizon;
        let mut watch = expected.progress.clone();
        let mut stopping = self.base.stopping();
        // However the wait ends, the last state counts.
        tokio::select! {
            _ = timeout_at(horizon.instant(), watch.wait_for(Progress::is_complete)) => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
        let is_stopped = *stopping.borrow();
        let progress = expected.progress.borrow().clone();
        let transit = Transit { sent: &sent, expected: &expected, progress: &progress, options };
        if progress.is_complete() {
            // The mail arrived; statements about earlier times were correct then.
            sample.stage = None;
            sample.error = None;
            self.note_found(&mut sample, transit);
        } else if is_stopped {
            // The mail stays recorded for the next process.
            return;
        } else {
            self.give_up(&mut sample, transit).await;
        }
        sample.settled = Some(true);
        self.base.record(&sample).await;
        let more = progress.conversations(options.protocol).collect();
        self.base.amend_transcript(&sample, options, more).await;
        self.registry.settled(sent.nonce, sample);
    }

    /// Continues to wait for mails that an earlier process of the probe sent.
    pub(crate) async fn resume(self: &Arc<Self>) {
        let Some(recorder) = self.base.recorder() else {
            return;
        };
        for mail in recorder.in_flight() {
            let mut sample = mail.sample;
            let config = self.base.config();
            let monitor = config.monitors.get(&sample.monitor);
            let Some((monitor, options)) =
                monitor.and_then(|monitor| Some((monitor, options_of(monitor)?)))
            else {
                // The mailbox is no longer configured.
                sample.outcome = Outcome::NotTested;
                sample.stage = None;
                sample.error = Some(
                    "the probe was stopped while the mail was in flight, and the monitor has been removed".to_owned(),
                );
                sample.settled = Some(true);
                self.base.record(&sample).await;
                continue;
            };
            unless_found(&mut sample);
            let sent = Sent {
                nonce: mail.nonce,
                at: mail.sent_at,
                moment: match mail.boot.and_then(|boot| boot.ago(mail.sent_at)) {
                    Some(ago) => Moment::now() - ago,
                    None => Moment::of_wall(mail.sent_at),
                },
                accepted: None,
            };
            let mut options = options.clone();
            // However long the probe was stopped, there must be time for one visit to the mailbox.
            let once = (Moment::now() - sent.moment) + options.max_round_trip + options.timeout;
            options.horizon = (mail.horizon_at - mail.sent_at).max(once);
            let token = Token {
                site: config.site.clone(),
                monitor: sample.monitor.clone(),
                sent_at: mail.sent_at,
                nonce: mail.nonce,
            };
            let hold = submission::hold(monitor, &options);
            let expected = self.mailbox(&options).expect(&self.registry, token, &options, hold);
            expected.sent(&sample.monitor, (sent.moment, sent.at), &options);
            let tester = self.clone();
            spawn(&self.settling, async move {
                tester.settle(sample, sent, expected, &options).await;
            });
        }
    }

    /// Ends the visits to mailboxes before the tests are stopped.
    pub(crate) async fn stop_visits(&self) {
        // The visits end first: otherwise they would continue to retrieve and delete mails for
        // tests that have given up. The mails read so far are handed out.
        let visits = std::mem::take(&mut *self.visits.lock().ignore_poison());
        visits.iter().for_each(JoinHandle::abort);
        for visit in visits {
            let _ = visit.await;
        }
    }

    /// Ends all waiting after the tests have been stopped. Mails in transit stay recorded for the
    /// next process.
    pub(crate) async fn shutdown(&self) {
        let settling = std::mem::take(&mut *self.settling.lock().ignore_poison());
        let deadline = tokio::time::Instant::now() + SETTLING;
        for mut test in settling {
            // It ends on its own; its mail may have been found at the last moment.
            if timeout_at(deadline, &mut test).await.is_err() {
                test.abort();
                let _ = test.await;
            }
        }
        self.keep_learnt(true).await;
    }

    /// Writes the knowledge learned from mails, periodically or immediately.
    async fn keep_learnt(&self, at_once: bool) {
        if self.base.recorder().is_none() {
            return;
        }
        let Some(bytes) = self.registry.learned.lock().ignore_poison().due(at_once) else {
            return;
        };
        let file = learned::file_of(&self.base.config());
        let written =
            tokio::task::spawn_blocking(move || crate::record::write_whole(&file, &bytes)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "can't write the calibration of the servers' clocks");
        }
    }

    fn mailbox(self: &Arc<Self>, options: &MailQos) -> Arc<Mailbox> {
        let account = self.base.account(&options.pickup);
        let key = Key::of(options, account.as_ref());
        let mut mailboxes = self.mailboxes.lock().ignore_poison();
        if let Some(mailbox) = mailboxes.get(&key) {
            return mailbox.clone();
        }
        let mailbox = Arc::new(Mailbox::new(key.clone(), options, account.as_ref()));
        mailboxes.insert(key, mailbox.clone());
        let serving = mailbox.clone().serve(self.registry.clone(), self.duplicates.clone());
        spawn(&self.visits, serving);
        mailbox
    }
}

fn spawn(tasks: &Mutex<Vec<JoinHandle<()>>>, task: impl Future<Output = ()> + Send + 'static) {
    let mut tasks = tasks.lock().ignore_poison();
    tasks.retain(|task| !task.is_finished());
    tasks.push(tokio::spawn(task));
}

/// Fills in the result of a test that an earlier process of the probe could not finish, for the
/// case that its mail is not found.
fn unless_found(sample: &mut Sample) {
    if sample.outcome != Outcome::NotTested {
        // The test was already judged at the maximum round trip.
        return;
    }
    let error;
    (sample.outcome, sample.stage, error) = if sample.send_uncertain == Some(true) {
        // If it does not arrive, it was presumably never accepted.
        let error = "the probe was stopped while the mail was in flight";
        (Outcome::SmtpFailed, Some(Stage::SmtpData), error)
    } else if sample.smtp_send.is_some() {
        (Outcome::Lost, None, "the probe was stopped while the mail was in flight")
    } else {
        // The server may never have received it, so the server is not to blame if it is missing.
        let error = "the probe was stopped before it recorded the server's acceptance of the mail, and the \
            mail was not found";
        (Outcome::NotTested, None, error)
    };
    sample.error = Some(error.to_owned());
}

/// Returns the options of a monitor that sends mails.
fn options_of(monitor: &Monitor) -> Option<&MailQos> {
    match &monitor.kind {
        Kind::MailQos(options) => Some(options),
        _ => None,
    }
}

/// Returns the monitors that send mails.
fn mail_tests(config: &Config) -> impl Iterator<Item = (&Monitor, &MailQos)> {
    let monitors = config.monitors.values();
    monitors.filter_map(|monitor| Some((monitor, options_of(monitor)?)))
}

fn habits(config: &Config) -> HashMap<MonitorId, ClockBehaviour> {
    let of = |(monitor, options): (&Monitor, &MailQos)| {
        let habit = ClockBehaviour { horizon: options.horizon, from: options.from.address.clone() };
        (monitor.id.clone(), habit)
    };
    mail_tests(config).map(of).collect()
}

/// Returns the observations of the pick-ups about the arrival of a mail.
fn arrival_of(sent: &Sent, progress: &Progress) -> Option<Arrival> {
    let found = progress.found.as_ref()?;
    let after = |moment: Moment| Micros((moment - sent.moment).0.max(0));
    Some(Arrival {
        not_shown: found.not_shown.filter(|moment| *moment > sent.moment).map(after),
        announced: found.notified.map(after),
        shown: after(found.shown),
        pickups: u32::try_from(progress.pickups).unwrap_or_default().max(1),
    })
}

/// Waits until the mail was found and read, or until the maximum round trip has passed and one more
/// pick-up was made.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_that_may_never_have_been_sent_is_not_lost() {
        let ended = |send: Option<Micros>, uncertain: Option<bool>, outcome: Outcome| {
            let mut sample = Sample::new("m".parse().expect("an id"), UtcMicros(0), outcome);
            sample.smtp_send = send;
            sample.send_uncertain = uncertain;
            unless_found(&mut sample);
            (sample.outcome, sample.stage)
        };
        let not_tested = Outcome::NotTested;
        assert_eq!(ended(None, None, not_tested), (not_tested, None));
        assert_eq!(ended(Some(Micros(1)), None, not_tested), (Outcome::Lost, None));
        assert_eq!(
            ended(None, Some(true), not_tested),
            (Outcome::SmtpFailed, Some(Stage::SmtpData))
        );
        let judged = Outcome::PickupFailed;
        assert_eq!(ended(None, None, judged), (judged, None));
    }
}
