//! Runs tests of every kind. A kind of test is a folder such as `mail_test`, and one line in
//! [`Tester::test_as`]; scheduling, recording, alarms and commands use only this file.

use std::sync::Arc;

use mailqos_config::{Config, Kind, Monitor};
use mailqos_model::Exclusion;

pub use crate::testing::{Arrival, Part, Phase, TestResult, Timeline};
use crate::{
    mail_test::{MailTests, TesterError},
    mailbox_test::MailboxTests,
    record::Recorder,
    testing::TestBase,
};

/// Runs tests. There is one instance for all monitors.
pub struct Tester {
    base: Arc<TestBase>,
    mail: Arc<MailTests>,
    mailbox: MailboxTests,
}

impl Tester {
    /// Prepares tests: reads the signing key, or creates one. Without a recorder, nothing is
    /// stored.
    ///
    /// # Errors
    /// The signing key is not available.
    pub async fn new(
        config: Arc<Config>,
        recorder: impl Into<Option<Recorder>>,
    ) -> Result<Arc<Self>, TesterError> {
        let base = Arc::new(TestBase::new(config, recorder.into()));
        let mail = MailTests::new(base.clone()).await?;
        let mailbox = MailboxTests::new(base.clone(), mail.connections().clone());
        Ok(Arc::new(Self { base, mail, mailbox }))
    }

    /// Looks for mails at short gaps from now on, whatever the check interval, because a person
    /// waits for the results.
    pub fn attend(&self) {
        self.mail.attend();
    }

    /// Returns a receiver of the phases up to the moment at which a server accepts a mail.
    pub(crate) fn sent(&self) -> tokio::sync::watch::Receiver<Timeline> {
        self.base.sent()
    }

    /// Runs a test. When this returns, its sample is recorded.
    pub async fn test(&self, monitor: &Monitor) -> TestResult {
        self.test_as(monitor, None).await
    }

    /// Runs a test, whose sample does not count if there is a reason for exclusion.
    pub async fn test_as(&self, monitor: &Monitor, excluded: Option<Exclusion>) -> TestResult {
        let sample = self.base.begin(monitor, excluded);
        match &monitor.kind {
            Kind::MailQos(options) => self.mail.test(monitor, options, sample).await,
            Kind::Mailbox(options) => self.mailbox.test(monitor, options, sample).await,
        }
    }

    /// Applies a new configuration. Mails in transit are waited for as before.
    pub fn reload(&self, config: Arc<Config>) {
        self.mail.reload(&config);
        self.mailbox.reload();
        self.base.reload(config);
    }

    /// Continues to wait for mails that an earlier process of the probe sent.
    pub async fn resume(&self) {
        self.mail.resume().await;
    }

    /// Stops the running tests. Each records its current state and returns.
    pub async fn stop(&self) {
        self.mail.stop_visits().await;
        self.base.stop();
    }

    /// Ends all waiting. Mails in transit stay recorded for the next process.
    pub async fn shutdown(&self) {
        self.stop().await;
        self.mail.shutdown().await;
    }
}
