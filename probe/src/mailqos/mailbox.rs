//! A mailbox and those who wait for mails in it: one pick-up serves them all, at the moments that each of them asks for.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mailqos_core::{
    config::{Account, MailQos, PickupProtocol},
    mail::{Credentials, TlsSession},
    model::{Micros, MonitorId, Sample, SiteName, Stage, UtcMicros},
};
use tokio::sync::{Notify, watch};

use super::{
    bounce,
    evidence::Moment,
    pickup::{self, Door, Found, Judge, Memory, PickupError, PickupPhases, Verdict, Visit},
    token::{SigningKey, Token},
};

/// A mail of ours that nobody waits for is cleared when it is so much older than its max round trip: until then the
/// process that sent it may still be running (`mailqos-probe test` beside `mailqos-probe run`).
const CLEAR_AFTER: Micros = Micros::from_secs(600);
/// The same, for mails of other sites and of monitors that are gone.
const CLEAR_FOREIGN_SITE_AFTER: Micros = Micros::from_secs(3 * 86_400);
/// The longest pause between pick-ups for a late mail.
const SPARSEST: Micros = Micros::from_secs(15 * 60);
/// How long a mailbox in use by somebody else is left alone before the next try.
const IN_USE_PAUSE: Duration = Duration::from_secs(1);
/// Settled tests that are remembered, so that duplicates of their mails are recognised.
const REMEMBERED: usize = 1024;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When a mail is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) sent: Moment,
    pub(super) check_interval: Micros,
    pub(super) deadline: Moment,
    next: Moment,
}

impl Plan {
    pub(super) fn new(sent: Moment, options: &MailQos) -> Self {
        let deadline = sent + options.max_round_trip;
        Self {
            sent,
            check_interval: options.check_interval,
            deadline,
            next: (sent + options.check_interval).min(deadline),
        }
    }

    /// After a pick-up that began at `began`: when the next one is due.
    fn advance(&mut self, began: Moment, refused: bool) {
        if began < self.deadline {
            self.next = if refused {
                // Each refused login may cost the account and this address a penalty, or lock it: one more try suffices.
                self.deadline
            } else {
                (began + self.check_interval).min(self.deadline)
            };
        } else {
            let pause = Micros(((began - self.sent).0 / 10).clamp(self.check_interval.0.min(SPARSEST.0), SPARSEST.0));
            self.next = began + pause;
        }
    }
}

/// What the last visit was like.
#[derive(Debug, Clone)]
pub(super) struct LastVisit {
    pub(super) began: Moment,
    pub(super) phases: PickupPhases,
    pub(super) tls: Option<TlsSession>,
    pub(super) error: Option<PickupError>,
}

/// What is known of a mail that is waited for.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Pick-ups since it was sent.
    pub(super) pickups: i32,
    pub(super) last: Option<LastVisit>,
    pub(super) found: Option<Found>,
    /// The visit that found it.
    pub(super) found_by: Option<LastVisit>,
    pub(super) duplicates: i32,
}

impl Progress {
    /// Found, and read to its end.
    pub(super) fn is_complete(&self) -> bool {
        self.found.as_ref().is_some_and(|found| found.receive.is_some())
    }
}

struct Waiting {
    mailbox: Key,
    plan: Option<Plan>,
    progress: watch::Sender<Progress>,
}

/// What tells mailboxes apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    server: String,
    port: u16,
    imap: bool,
    folders: Vec<String>,
    user: String,
}

impl Key {
    pub(super) fn of(options: &MailQos, account: Option<&Account>) -> Self {
        Self {
            server: options.pickup.server.to_ascii_lowercase(),
            port: options.pickup.port,
            imap: options.protocol == PickupProtocol::Imap,
            folders: options.folders.clone(),
            user: account.map(|account| account.user.clone()).unwrap_or_default(),
        }
    }
}

/// All tests of this process whose mails are on their way.
pub(super) struct Registry {
    key: SigningKey,
    site: SiteName,
    max_round_trips: HashMap<MonitorId, Micros>,
    waiting: Mutex<HashMap<[u8; 8], Waiting>>,
    settled: Mutex<VecDeque<([u8; 8], Sample)>>,
}

impl Registry {
    pub(super) fn new(key: SigningKey, site: SiteName, max_round_trips: HashMap<MonitorId, Micros>) -> Self {
        Self {
            key,
            site,
            max_round_trips,
            waiting: Mutex::default(),
            settled: Mutex::default(),
        }
    }

    /// Expects a mail; nobody looks for it before [`Registry::sent`].
    pub(super) fn expect(self: &Arc<Self>, nonce: [u8; 8], mailbox: &Arc<Mailbox>) -> Expected {
        let (progress, watch) = watch::channel(Progress::default());
        lock(&self.waiting).insert(
            nonce,
            Waiting {
                mailbox: mailbox.key.clone(),
                plan: None,
                progress,
            },
        );
        Expected {
            nonce,
            registry: self.clone(),
            mailbox: mailbox.clone(),
            progress: watch,
        }
    }

    /// Remembers a settled test, to recognise duplicates of its mail.
    pub(super) fn settled(&self, nonce: [u8; 8], sample: Sample) {
        let mut settled = lock(&self.settled);
        if settled.len() >= REMEMBERED {
            settled.pop_front();
        }
        settled.push_back((nonce, sample));
    }

    fn next_due(&self, mailbox: &Key) -> Option<Moment> {
        lock(&self.waiting)
            .values()
            .filter(|waiting| waiting.mailbox == *mailbox)
            .filter_map(|waiting| waiting.plan.map(|plan| plan.next))
            .min()
    }

    /// Hands out what a visit found; gives back the samples that have one duplicate more.
    fn hand_out(&self, mailbox: &Key, visit: Visit) -> Vec<Sample> {
        let last = LastVisit {
            began: visit.began,
            phases: visit.phases,
            tls: visit.tls,
            error: visit.error,
        };
        let refused = last.error.as_ref().is_some_and(|error| error.refused);
        let mut changed = Vec::new();
        let mut waiting = lock(&self.waiting);
        for found in visit.found {
            // A notification of a delay names our mail, but is not it.
            if bounce::read(&found.mail) == Some(bounce::Notice::Other) {
                continue;
            }
            tracing::debug!(monitor = %found.token.monitor, folder = ?found.folder, landed = ?found.landed, "found");
            let Some(waiting) = waiting.get(&found.token.nonce) else {
                let mut settled = lock(&self.settled);
                if let Some((_, sample)) = settled.iter_mut().find(|(nonce, _)| *nonce == found.token.nonce) {
                    sample.duplicates = Some(sample.duplicates.unwrap_or(0) + 1);
                    changed.push(sample.clone());
                }
                continue;
            };
            waiting.progress.send_modify(|progress| match &mut progress.found {
                Some(known) if known.receive.is_some() => progress.duplicates += 1,
                known => {
                    *known = Some(found);
                    progress.found_by = Some(last.clone());
                }
            });
        }
        for waiting in waiting.values_mut().filter(|waiting| waiting.mailbox == *mailbox) {
            let Some(plan) = &mut waiting.plan else { continue };
            if plan.sent <= last.began {
                plan.advance(last.began, refused);
                waiting.progress.send_modify(|progress| {
                    progress.pickups += 1;
                    progress.last = Some(last.clone());
                });
            }
        }
        changed
    }
}

impl Judge for Registry {
    fn key(&self) -> &SigningKey {
        &self.key
    }

    fn verdict(&self, token: &Token) -> Verdict {
        if lock(&self.waiting).contains_key(&token.nonce) {
            return Verdict::Take;
        }
        if lock(&self.settled).iter().any(|(nonce, _)| *nonce == token.nonce) {
            return Verdict::Clear;
        }
        let age = UtcMicros::now() - token.sent_at;
        let patience = match self.max_round_trips.get(&token.monitor) {
            Some(max) if token.site == self.site => *max + CLEAR_AFTER,
            _ => CLEAR_FOREIGN_SITE_AFTER,
        };
        if age > patience { Verdict::Clear } else { Verdict::Leave }
    }
}

/// A mail that is waited for; dropping it ends the waiting.
pub(super) struct Expected {
    nonce: [u8; 8],
    registry: Arc<Registry>,
    mailbox: Arc<Mailbox>,
    pub(super) progress: watch::Receiver<Progress>,
}

impl Expected {
    /// The mail is on its way: from now on it is looked for.
    pub(super) fn sent(&self, plan: Plan) {
        if let Some(waiting) = lock(&self.registry.waiting).get_mut(&self.nonce) {
            waiting.plan = Some(plan);
        }
        self.mailbox.wake.notify_one();
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        lock(&self.registry.waiting).remove(&self.nonce);
    }
}

/// One mailbox; its visits are made one after the other.
pub(super) struct Mailbox {
    key: Key,
    door: Door,
    account: Option<Account>,
    wake: Notify,
}

impl Mailbox {
    pub(super) fn new(key: Key, options: &MailQos, account: Option<&Account>) -> Self {
        Self {
            key,
            door: Door {
                endpoint: options.pickup.clone(),
                protocol: options.protocol,
                folders: options.folders.clone(),
                step: options.timeout.to_std(),
            },
            account: account.cloned(),
            wake: Notify::new(),
        }
    }

    /// Visits the mailbox whenever somebody's plan says so; `duplicates` takes the samples of settled tests whose mail came again.
    pub(super) async fn serve(
        self: Arc<Self>,
        registry: Arc<Registry>,
        duplicates: tokio::sync::mpsc::UnboundedSender<Sample>,
    ) {
        let mut memory = Memory::default();
        loop {
            let due = registry.next_due(&self.key);
            let patience = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.instant()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = patience => {}
                () = self.wake.notified() => continue,
            }
            let (visit, ending) = self.visit(&mut memory, &registry).await;
            if let Some(error) = &visit.error {
                tracing::debug!(server = %self.key.server, user = %self.key.user, stage = %error.stage, "pick-up: {error}");
            }
            for sample in registry.hand_out(&self.key, visit) {
                let _ = duplicates.send(sample);
            }
            if let Some(ending) = ending
                && let Err(error) = ending.end().await
            {
                tracing::debug!(server = %self.key.server, user = %self.key.user, "pick-up's end: {error}");
            }
        }
    }

    /// One visit; a mailbox that somebody else holds is tried again within a step's deadline.
    async fn visit(&self, memory: &mut Memory, registry: &Registry) -> (Visit, Option<pickup::Ending>) {
        let began = Moment::now();
        let credentials = match &self.account {
            Some(account) => match account.password.fetch().await {
                Ok(secret) => Some(Credentials {
                    user: account.user.clone(),
                    secret,
                }),
                Err(error) => {
                    let error = PickupError {
                        own_network: true,
                        ..PickupError::new(Stage::PickupLogin, &format!("the password: {error}"))
                    };
                    return (Visit::failed(began, error), None);
                }
            },
            None => None,
        };
        loop {
            let (mut visit, ending) = pickup::visit(&self.door, credentials.as_ref(), memory, registry).await;
            let in_use = visit.error.as_ref().is_some_and(|error| error.in_use);
            if !in_use || (Moment::now() - began).to_std() + IN_USE_PAUSE > self.door.step {
                visit.began = began;
                return (visit, ending);
            }
            tokio::time::sleep(IN_USE_PAUSE).await;
        }
    }
}
