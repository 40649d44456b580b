//! Shared parts of all kinds of tests: the configuration, the recorder, transcripts, and the
//! probe's own network. Independent of any kind of test.

mod network;
mod timeline;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, RwLock},
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{
    Account, Config, Endpoint, Monitor, PickupProtocol, SubmissionProtocol, TestKind, Transcripts,
};
use mailqos_lake::transcripts::{Conversation, Store, Transcript};
use mailqos_mail::Credentials;
use mailqos_model::{Exclusion, Micros, MonitorId, Outcome, Sample, UtcMicros};
use network::Network;
use tokio::sync::watch;

use crate::record::{RecordError, Recorder};

pub use timeline::{Arrival, Part, Phase, Timeline};

/// Number of remembered starts of a monitor, so that each is unique.
const MAX_STARTS: usize = 64;

/// Result of a test.
#[derive(Debug, Clone)]
pub struct TestResult {
    /// The row in the lake; provisional while the mail may still arrive late.
    pub sample: Sample,
    /// Start and duration of each phase.
    pub timeline: Timeline,
    /// Transcripts of the connections to the servers.
    pub conversations: Vec<Conversation>,
    /// Remarks that did not affect the outcome, one sentence each.
    pub notes: Vec<String>,
}

/// Converts the recording of a connection to the form of the lake.
pub(crate) fn conversation(protocol: &str, recorded: &mailqos_mail::Transcript) -> Conversation {
    let mut conversation = Conversation::new(protocol, recorded.began_at());
    for chunk in recorded.chunks() {
        conversation.add(chunk.at, chunk.direction, chunk.bytes, chunk.omitted);
    }
    conversation
}

/// Resources shared by tests of every kind. There is one instance for all monitors.
pub(crate) struct TestBase {
    config: RwLock<Arc<Config>>,
    recorder: Option<Recorder>,
    transcripts: Arc<Store>,
    starts: Mutex<HashMap<MonitorId, VecDeque<UtcMicros>>>,
    network: Network,
    stopping: watch::Sender<bool>,
    sent: watch::Sender<Timeline>,
}

impl TestBase {
    /// Creates the resources. Without a recorder, nothing is stored.
    pub(crate) fn new(config: Arc<Config>, recorder: Option<Recorder>) -> Self {
        Self {
            recorder,
            network: Network::new(&config.references),
            transcripts: Arc::new(Store::new(&config)),
            starts: Mutex::default(),
            stopping: watch::Sender::new(false),
            sent: watch::Sender::new(Timeline::default()),
            config: RwLock::new(config),
        }
    }

    /// Applies a new configuration to tests that start from now on.
    pub(crate) fn reload(&self, config: Arc<Config>) {
        self.network.reload(&config.references);
        *self.config.write().ignore_poison() = config;
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.read().ignore_poison().clone()
    }

    /// Returns the recorder, if samples are stored.
    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }

    /// Returns a receiver that becomes `true` when running tests must end.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Returns a receiver of the phases up to the moment at which a server accepts a mail.
    pub(crate) fn sent(&self) -> watch::Receiver<Timeline> {
        self.sent.subscribe()
    }

    /// Announces that a server has accepted a mail.
    pub(crate) fn announce_sent(&self, timeline: Timeline) {
        if self.sent.receiver_count() > 0 {
            self.sent.send_replace(timeline);
        }
    }

    /// Stops the running tests. Each records its current state and returns.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Returns the sample of a test that starts now, initially `not_tested`. Its start is unique
    /// for the monitor, even if the clock was set back and shows the same time again.
    pub(crate) fn begin(&self, monitor: &Monitor, excluded: Option<Exclusion>) -> Sample {
        let started_at = {
            let mut starts = self.starts.lock().ignore_poison();
            let taken = starts.entry(monitor.id.clone()).or_default();
            let mut now = UtcMicros::now();
            while taken.contains(&now) {
                now = now + Micros(1);
            }
            if taken.len() >= MAX_STARTS {
                taken.pop_front();
            }
            taken.push_back(now);
            now
        };
        let mut sample = Sample::new(monitor.id.clone(), started_at, Outcome::NotTested);
        sample.excluded = excluded;
        sample.test_interval = Some(monitor.test_interval);
        sample
    }

    /// Turns a failure caused by the probe's own network into `not_tested`; returns whether it did.
    pub(crate) async fn excuse_if_offline(&self, sample: &mut Sample) -> bool {
        self.network.excuse_if_offline(sample).await
    }

    pub(crate) async fn record(&self, sample: &Sample) {
        let Some(recorder) = &self.recorder else {
            return;
        };
        match recorder.record(sample.clone()).await {
            Ok(()) => {}
            Err(error @ (RecordError::Full(_) | RecordError::Closed | RecordError::Encode(_))) => {
                tracing::error!(monitor = %sample.monitor, %error, "sample lost");
            }
            Err(error) => {
                tracing::error!(monitor = %sample.monitor, %error, "sample held in memory until the disk accepts it");
            }
        }
    }

    /// Returns whether the transcript of a test is kept.
    fn is_kept(&self, sample: &Sample, kind: &dyn TestKind) -> bool {
        let is_wanted = match kind.transcripts() {
            Transcripts::All => true,
            Transcripts::Failed => sample.outcome != Outcome::Ok,
            Transcripts::None => false,
        };
        is_wanted && self.recorder.is_some()
    }

    /// Stores the transcript of a failed test, or of any test if the monitor is configured to.
    pub(crate) async fn keep_transcript(
        &self,
        sample: &Sample,
        kind: &dyn TestKind,
        conversations: &[Conversation],
    ) {
        if !self.is_kept(sample, kind) {
            return;
        }
        let transcript = Transcript::new(&self.config().site, sample, conversations.to_vec());
        let store = self.transcripts.clone();
        let saved = tokio::task::spawn_blocking(move || store.save(&transcript)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(monitor = %sample.monitor, %error, "can't write a transcript");
        }
    }

    /// Extends the transcript of a test that was settled later.
    pub(crate) async fn amend_transcript(
        &self,
        sample: &Sample,
        kind: &dyn TestKind,
        more: Vec<Conversation>,
    ) {
        if !self.is_kept(sample, kind) {
            return;
        }
        let (store, site, sample) =
            (self.transcripts.clone(), self.config().site.clone(), sample.clone());
        let amended = tokio::task::spawn_blocking(move || store.amend(&site, &sample, more)).await;
        if let Ok(Err(error)) = amended {
            tracing::warn!(%error, "can't write a transcript");
        }
    }

    /// Returns the account for the login to a server.
    pub(crate) fn account(&self, endpoint: &Endpoint) -> Option<Account> {
        self.config().account(endpoint.account.as_ref()).cloned()
    }

    /// Returns the credentials for a mailbox. An error is one line without secrets.
    pub(crate) async fn mailbox_credentials(
        &self,
        endpoint: &Endpoint,
        protocol: PickupProtocol,
    ) -> Result<Option<Credentials>, String> {
        match self.account(endpoint) {
            Some(account) => {
                let credentials = mailqos_mail::credentials(&protocol.account(&account)).await;
                credentials.map(Some).map_err(|error| error.to_string())
            }
            None => Ok(None),
        }
    }

    /// Returns the credentials for a server. An error is one line without secrets.
    pub(crate) async fn credentials(
        &self,
        endpoint: &Endpoint,
        protocol: SubmissionProtocol,
    ) -> Result<Option<Credentials>, String> {
        match self.account(endpoint) {
            Some(account) => {
                let credentials = mailqos_mail::credentials(&protocol.account(&account)).await;
                credentials.map(Some).map_err(|error| error.to_string())
            }
            None => Ok(None),
        }
    }
}

/// Returns how long a monitor does not try rejected credentials again: until its next test, so that
/// each test costs the account at most one failed login, and those of other monitors none. `least`
/// is the minimum duration of a test.
pub(crate) fn hold(monitor: &Monitor, least: Micros) -> Micros {
    let interval =
        monitor.retest_interval.unwrap_or(monitor.test_interval).min(monitor.test_interval);
    Micros(interval.0 / 10 * 9).max(least)
}
