//! The mailbox test, kind `mailbox`: connects, logs in and lists. Nothing is sent, and no mail is
//! read, deleted or marked as read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{Config, Mailbox, Monitor, Pickup, PickupProtocol, TestKind as _};
use mailqos_mail::{Credentials, HOLD};
use mailqos_model::{Micros, Outcome, Sample};

use crate::{
    mail_test::{
        Moment,
        connections::Connections,
        pickup::{self, MailboxEndpoint, Memory, PickupError, Visit, VisitTarget},
    },
    testing::{self, TestBase, TestResult, Timeline},
};

/// Runs mailbox tests. There is one instance for all monitors.
pub(crate) struct MailboxTests {
    base: Arc<TestBase>,
    /// Connections to mailbox servers, shared with the mail tests.
    connections: Arc<Connections>,
    /// Knowledge about each mailbox that is kept between tests.
    memories: Mutex<HashMap<String, Memory>>,
}

impl MailboxTests {
    pub(crate) fn new(base: Arc<TestBase>, connections: Arc<Connections>) -> Self {
        Self { base, connections, memories: Mutex::default() }
    }

    /// Drops the knowledge about mailboxes, because some may have been removed.
    pub(crate) fn reload(&self) {
        self.memories.lock().ignore_poison().clear();
    }

    /// Runs a test. When this returns, its sample is recorded.
    pub(crate) async fn test(
        &self,
        monitor: &Monitor,
        options: &Mailbox,
        mut sample: Sample,
    ) -> TestResult {
        let started = Moment::now();
        sample.kind = Some(options.name().to_owned());
        sample.tls_unverified = options.pickup.endpoint.trust.insecure.then_some(true);
        let hold = testing::hold(monitor, options.longest_test());
        let mut stopping = self.base.stopping();
        let visit = tokio::select! {
            visit = self.visit(&options.pickup, hold) => Some(visit),
            _ = stopping.wait_for(|stop| *stop) => None,
        };
        let Some(visit) = visit else {
            sample.error = Some("the probe was stopped during the test".to_owned());
            self.base.record(&sample).await;
            return TestResult {
                timeline: Timeline::of(&sample, None, None, None),
                sample,
                conversations: Vec::new(),
                notes: Vec::new(),
            };
        };
        visit.fill_in(&mut sample);
        match &visit.error {
            Some(error) => error.fill_in(&mut sample),
            None => sample.outcome = Outcome::Ok,
        }
        self.base.excuse_if_offline(&mut sample).await;
        self.base.record(&sample).await;
        let protocol = options.pickup.protocol.to_string();
        let transcript = visit.transcript.as_ref();
        let conversations: Vec<_> = transcript
            .map(|transcript| testing::conversation(&protocol, transcript))
            .into_iter()
            .collect();
        self.base.keep_transcript(&sample, options, &conversations).await;
        TestResult {
            timeline: Timeline::of(&sample, None, None, Some(visit.began - started)),
            notes: visit.missing_folders().skip(1).collect(),
            sample,
            conversations,
        }
    }

    async fn visit(&self, pickup: &Pickup, hold: Micros) -> Visit {
        let credentials =
            match self.base.mailbox_credentials(&pickup.endpoint, pickup.protocol).await {
                Ok(credentials) => credentials,
                Err(reason) => {
                    return Visit::failed(Moment::now(), PickupError::no_credentials(&reason));
                }
            };
        let account = pickup.endpoint.account.as_ref().map_or("", |account| account.as_str());
        let key = format!("{} {account}", place(pickup));
        let mut memory = self.memories.lock().ignore_poison().remove(&key).unwrap_or_default();
        let visit =
            survey(pickup, credentials.as_ref(), hold, &mut memory, &self.connections).await;
        self.memories.lock().ignore_poison().insert(key, memory);
        visit
    }
}

/// Returns the server and its port.
fn place(pickup: &Pickup) -> String {
    let endpoint = &pickup.endpoint;
    format!("{}:{}", endpoint.server.to_ascii_lowercase(), endpoint.port)
}

/// Opens and lists a mailbox. If another program has locked it, the attempt is repeated within a
/// step's deadline.
async fn survey(
    pickup: &Pickup,
    credentials: Option<&Credentials>,
    hold: Micros,
    memory: &mut Memory,
    connections: &Arc<Connections>,
) -> Visit {
    let (door, step) = (MailboxEndpoint::of(pickup), pickup.timeout.to_std());
    let began = Moment::now();
    let place = place(pickup);
    // If tests share an account with a wrong password, only the first one logs in.
    let turn = match credentials {
        Some(credentials) => match credentials.turn(&place, hold.to_std(), step).await {
            Ok(turn) => Some(turn),
            Err(held_back) => {
                return Visit::failed(began, PickupError::held_back(&held_back.to_string()));
            }
        },
        None => None,
    };
    loop {
        let left = step.saturating_sub((Moment::now() - began).to_std());
        let open = connections.visit(&place, left, |_| true).await;
        let visit = pickup::survey(VisitTarget { door: &door, credentials }, memory).await;
        drop(open);
        let error = visit.error.as_ref();
        match error.and_then(|error| error.pause_before_retry(connections, &place)) {
            Some(pause) if (Moment::now() - began).to_std() + pause <= step => {
                tokio::time::sleep(pause).await;
            }
            _ => {
                visit.note_login(turn);
                return visit;
            }
        }
    }
}

/// Tests a mailbox for `check --connect`. Returns a line for each configured folder that can't be
/// opened. POP3 has no folders, so nothing is tested.
///
/// # Errors
/// The reason why the mailbox can't be reached, in one line without secrets.
pub(crate) async fn missing_folders(
    config: &Config,
    pickup: &Pickup,
) -> Result<Vec<String>, String> {
    if pickup.protocol == PickupProtocol::Pop3 {
        return Ok(Vec::new());
    }
    let credentials = match config.account(pickup.endpoint.account.as_ref()) {
        Some(account) => {
            let account = pickup.protocol.account(account);
            Some(mailqos_mail::credentials(&account).await.map_err(|error| error.to_string())?)
        }
        None => None,
    };
    let (mut memory, connections) = (Memory::default(), Arc::default());
    let visit =
        survey(pickup, credentials.as_ref(), Micros::from(HOLD), &mut memory, &connections).await;
    match visit.error {
        Some(error) if visit.missing.is_empty() => Err(error.text),
        _ => Ok(visit.missing_folders().collect()),
    }
}
