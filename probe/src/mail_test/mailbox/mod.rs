//! Polls a mailbox on behalf of all tests waiting for mail in it: one pick-up serves all of them,
//! at the times that each requires.

mod plan;
mod progress;
mod registry;
mod watching;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{Account, MailQos, PickupProtocol};
use mailqos_mail::Credentials;
use mailqos_model::{Micros, MonitorId, Sample, Stage, UtcMicros};
use plan::Plan;
use registry::Waiting;
use tokio::sync::{Notify, mpsc::UnboundedSender, watch};
use watching::RunningWatch;

use super::{
    connections::{MailboxId, VisitPlace},
    evidence::Moment,
    pickup::{self, MailboxEndpoint, Memory, PickupError, Visit, VisitStage, VisitTarget},
    token::Token,
};

pub(super) use progress::{LastVisit, Progress};
pub(super) use registry::{ClockBehaviour, Registry};

/// Time that a watch continues after the last expected mail, because the next test may start soon.
const LINGER: Micros = Micros::from_secs(90);
/// Time after which a failed watch is tried again.
const WATCH_AGAIN: Micros = Micros::from_secs(60);

/// Returns whether a mailbox is watched while mails of this monitor are in transit.
fn is_watched(options: &MailQos) -> bool {
    options.protocol == PickupProtocol::Imap && (options.idle || options.precise)
}

/// Properties by which monitors share a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::mail_test) struct Key {
    server: String,
    port: u16,
    protocol: PickupProtocol,
    folders: Vec<String>,
    user: String,
}

impl Key {
    pub(in crate::mail_test) fn of(options: &MailQos, account: Option<&Account>) -> Self {
        Self {
            server: options.pickup.server.to_ascii_lowercase(),
            port: options.pickup.port,
            protocol: options.protocol,
            folders: options.folders.clone(),
            user: account.map(|account| account.user.clone()).unwrap_or_default(),
        }
    }
}

/// An expected mail; dropping it ends the waiting.
pub(in crate::mail_test) struct Expected {
    nonce: [u8; 8],
    registry: Arc<Registry>,
    mailbox: Arc<Mailbox>,
    pub(in crate::mail_test) progress: watch::Receiver<Progress>,
}

impl Expected {
    /// Starts to look for the mail, which was sent at this time and is stamped with this time.
    pub(in crate::mail_test) fn sent(
        &self,
        monitor: &MonitorId,
        (sent, at): (Moment, UtcMicros),
        options: &MailQos,
    ) {
        let mut plan = Plan::new(sent, options);
        if is_watched(options) && self.mailbox.is_watching.load(Ordering::Relaxed) {
            plan = plan.watched();
        }
        if options.precise {
            plan = plan.precise(self.registry.precise_from(monitor));
        } else {
            let looks = self.registry.looks(monitor, (self.mailbox.id, self.nonce), &plan, options);
            plan = plan.looking(&looks, options.extra_pickups);
        }
        if self.registry.is_attended.load(Ordering::Relaxed) {
            plan = plan.attended();
        }
        self.registry.plan(self.nonce, plan, at);
        self.mailbox.changed();
    }

    /// Returns the stage of the current visit to its mailbox.
    pub(in crate::mail_test) fn visit_is_at(&self) -> Option<Stage> {
        self.mailbox.door.whereabouts.stage()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.registry.forget(self.nonce);
        self.mailbox.attention.notify_one();
    }
}

/// A mailbox, which is visited by one pick-up at a time.
pub(in crate::mail_test) struct Mailbox {
    id: MailboxId,
    key: Key,
    door: MailboxEndpoint,
    account: Mutex<Option<Account>>,
    /// Wakes the visits, because the plan may have changed.
    wake: Notify,
    /// Wakes the watch, because its next action may have changed.
    attention: Notify,
    /// Whether a watch is running.
    is_watching: AtomicBool,
}

/// A visit in progress. If it is aborted, the mails read so far are still handed out, because they
/// may already be deleted.
struct OngoingVisit<'a> {
    registry: &'a Registry,
    duplicates: &'a UnboundedSender<Sample>,
    visit: Visit,
}

impl OngoingVisit<'_> {
    fn end(mut self) -> Visit {
        std::mem::replace(&mut self.visit, Visit::begin())
    }
}

impl Drop for OngoingVisit<'_> {
    fn drop(&mut self) {
        let mut visit = std::mem::replace(&mut self.visit, Visit::begin());
        visit.found.retain(|found| found.receive.is_some());
        if !visit.found.is_empty() {
            // As in a mailbox without waiting tests: a test whose mail was not found learns nothing
            // from an incomplete visit.
            for sample in self.registry.hand_out(MailboxId::new(), visit) {
                let _ = self.duplicates.send(sample);
            }
        }
    }
}

impl Mailbox {
    pub(in crate::mail_test) fn new(
        key: Key,
        options: &MailQos,
        account: Option<&Account>,
    ) -> Self {
        Self {
            id: MailboxId::new(),
            key,
            door: MailboxEndpoint {
                endpoint: options.pickup.clone(),
                protocol: options.protocol,
                folders: options.folders.clone(),
                step: options.timeout.to_std(),
                whereabouts: VisitStage::default(),
            },
            account: Mutex::new(account.map(|account| options.protocol.account(account))),
            wake: Notify::new(),
            attention: Notify::new(),
            is_watching: AtomicBool::new(false),
        }
    }

    /// Registers an expected mail in the mailbox, which is not looked for before
    /// [`Expected::sent`]. Credentials that the server rejects are not tried again for `hold`.
    pub(in crate::mail_test) fn expect(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        token: Token,
        options: &MailQos,
        hold: Micros,
    ) -> Expected {
        let nonce = token.nonce;
        let (sender, progress) = watch::channel(Progress::default());
        let waiting = Waiting {
            token,
            mailbox: self.id,
            watched: is_watched(options),
            plan: None,
            hold,
            progress: sender,
        };
        registry.wait_for(nonce, waiting, options.message.size.unwrap_or_default());
        self.changed();
        Expected { nonce, registry: registry.clone(), mailbox: self.clone(), progress }
    }

    /// Returns whether these options lead to it through the same endpoint.
    pub(in crate::mail_test) fn is_reached_as(&self, options: &MailQos) -> bool {
        self.door.endpoint == options.pickup && self.door.step == options.timeout.to_std()
    }

    /// Sets the account for future visits: the same user, possibly with another password.
    pub(in crate::mail_test) fn log_in_by(&self, account: Option<&Account>) {
        let account = account.map(|account| self.door.protocol.account(account));
        *self.account.lock().ignore_poison() = account;
    }

    fn changed(&self) {
        self.wake.notify_one();
        self.attention.notify_one();
    }

    /// Returns the server and its port.
    fn place(&self) -> String {
        format!("{}:{}", self.key.server, self.key.port)
    }

    async fn credentials(&self) -> Result<Option<Credentials>, PickupError> {
        let account = self.account.lock().ignore_poison().clone();
        let Some(account) = account else {
            return Ok(None);
        };
        match mailqos_mail::credentials(&account).await {
            Ok(credentials) => Ok(Some(credentials)),
            Err(error) => Err(PickupError::no_credentials(&error.to_string())),
        }
    }

    /// Visits the mailbox whenever a plan requires it, until no plan is left. `duplicates` receives
    /// the samples of settled tests whose mail arrived again.
    pub(in crate::mail_test) async fn serve(
        self: Arc<Self>,
        registry: Arc<Registry>,
        duplicates: UnboundedSender<Sample>,
    ) {
        let mut memory = Memory::default();
        let mut watching: Option<(Moment, RunningWatch)> = None;
        // Start a watch only right after a successful visit: it must not double the attempts with a
        // wrong password.
        let mut welcome = false;
        loop {
            let due_again = match &watching {
                Some((began, watch)) => watch.is_finished() && Moment::now() - *began > WATCH_AGAIN,
                None => true,
            };
            if welcome && due_again && registry.is_watched(self.id) {
                // The old watch must release its slot before the new one takes one.
                watching = None;
                if let Some(place) = registry.connections.watch(&self.place(), self.id) {
                    watching = Some((
                        Moment::now(),
                        RunningWatch::begin(&self, &registry, &memory, place),
                    ));
                }
            }
            if Arc::strong_count(&self) == 1 {
                // The configuration now uses another endpoint, and the last mail expected here is
                // settled.
                return;
            }
            let due = registry.next_due(self.id);
            // Without a plan, check periodically whether any test still waits.
            let until =
                due.map_or_else(|| tokio::time::Instant::now() + LINGER.to_std(), Moment::instant);
            tokio::select! {
                () = tokio::time::sleep_until(until) => if due.is_none() {
                    continue;
                },
                () = self.wake.notified() => continue,
            }
            let mut visiting = OngoingVisit {
                registry: &registry,
                duplicates: &duplicates,
                visit: Visit::begin(),
            };
            let ending = self.visit(&mut memory, &registry, &mut visiting.visit).await;
            let visit = visiting.end();
            welcome = visit.error.is_none();
            if let Some(error) = &visit.error {
                tracing::debug!(server = %self.key.server, user = %self.key.user, stage = %error.stage, %error, "pick-up failed");
            }
            for sample in registry.hand_out(self.id, visit) {
                let _ = duplicates.send(sample);
            }
            if let Some((ending, _place)) = ending
                && let Err(error) = ending.end().await
            {
                tracing::debug!(server = %self.key.server, user = %self.key.user, %error, "logout after a pick-up failed");
            }
            self.door.whereabouts.note(None);
        }
    }

    /// Visits the mailbox once. If another program has locked it, the visit is retried within a
    /// step's deadline.
    async fn visit(
        &self,
        memory: &mut Memory,
        registry: &Registry,
        visit: &mut Visit,
    ) -> Option<(pickup::Ending, VisitPlace)> {
        let began = Moment::now();
        let credentials = match self.credentials().await {
            Ok(credentials) => credentials,
            Err(error) => {
                *visit = Visit::failed(began, error);
                return None;
            }
        };
        let (place, step) = (self.place(), self.door.step);
        let turn = match &credentials {
            Some(credentials) => {
                match credentials.turn(&place, registry.hold(self.id).to_std(), step).await {
                    Ok(turn) => Some(turn),
                    Err(held_back) => {
                        // Within the same test, nothing needs to be added to the refusal.
                        let text = match registry
                            .began_before(self.id, Moment::now() - Micros::from(held_back.age))
                        {
                            true => held_back.text,
                            false => held_back.to_string(),
                        };
                        *visit = Visit::failed(Moment::now(), PickupError::held_back(&text));
                        return None;
                    }
                }
            }
            None => None,
        };
        let errand = VisitTarget { door: &self.door, credentials: credentials.as_ref() };
        loop {
            self.door.whereabouts.note(Some(Stage::PickupConnect));
            let left = step.saturating_sub((Moment::now() - began).to_std());
            let open = registry.connections.visit(&place, left, |id| registry.is_watched(id)).await;
            let ending = pickup::visit(errand, memory, registry, visit).await;
            let error = visit.error.as_ref();
            let pause =
                error.and_then(|error| error.pause_before_retry(&registry.connections, &place));
            match pause {
                Some(pause) if (Moment::now() - began).to_std() + pause <= step => {
                    drop((open, ending));
                    tokio::time::sleep(pause).await;
                }
                _ => {
                    visit.note_login(turn);
                    return Some((ending?, open));
                }
            }
        }
    }
}
