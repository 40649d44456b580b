//! A mailbox and those who wait for mails in it: one pick-up serves them all, at the moments that each of them asks for.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use mailqos_config::{Account, LONGEST_HORIZON, MailQos, PickupProtocol};
use mailqos_mail::{Credentials, LoginRefusal, Transcript, transcripts::Conversation};
use mailqos_model::{Micros, MonitorId, Sample, SiteName, Stage, UtcMicros};
use mailqos_net::TlsSession;
use tokio::{
    sync::{Notify, mpsc::UnboundedSender, watch},
    task::JoinHandle,
};

use super::{
    classify::{Known, Report},
    connections::{Connections, MailboxId, VisitPlace, WatchPlace},
    evidence::Moment,
    expectation::Limits,
    learnt::Learnt,
    pickup::{
        self, Attention, Door, Finding, Found, Judge, Look, Memory, MissingFolder, PickupError, PickupPhases, Verdict,
        Visit, Whereabouts,
    },
    token::{SigningKey, Token},
};
use crate::lock::lock;

/// A mail of ours that nobody waits for here is cleared when it is so much older than its horizon: until then the process that
/// sent it may wait for it (`mailqos-probe run`, whose late mails `mailqos-probe test` comes upon).
const CLEAR_AFTER: Micros = Micros::from_secs(600);
/// The age at which a mail of another site, or of a monitor that is gone, is cleared: its horizon is not known here.
const CLEAR_FOREIGN_SITE_AFTER: Micros = Micros(LONGEST_HORIZON.0 + CLEAR_AFTER.0);
/// The longest pause between pick-ups for a late mail.
const SPARSEST: Micros = Micros::from_secs(15 * 60);
/// Settled tests that are remembered, so that duplicates of their mails are recognised.
const REMEMBERED: usize = 1024;
/// Visits whose conversations are kept for a mail that is waited for.
const MOST_TRANSCRIPTS: usize = 4;
/// A watch goes on so long after the last mail was waited for: the next test may be near.
const LINGER: Micros = Micros::from_secs(90);
/// A watch that has failed is tried again after this.
const WATCH_AGAIN: Micros = Micros::from_secs(60);
/// With a longer check interval no extra pick-ups are made: somebody wants few (servers that announce
/// LOGIN-DELAY, RFC 2449, section 6.5, refuse more).
const RARE: Micros = Micros::from_secs(120);
/// After a visit that failed, extra ones are made again after this.
const SPARED: Micros = Micros::from_secs(15 * 60);
/// Mailboxes of which it is remembered what visits were like.
const MOST_VISITED: usize = 4096;
/// Round trips that a precise monitor's expectation rests on.
const HISTORY: usize = 64;

/// How a precise monitor's mail is looked for: with gaps in proportion to the time that it has taken already, from shortly
/// before the fastest of its predecessors on.
#[derive(Debug, Clone, Copy)]
struct Pace {
    shortest: Micros,
    longest: Micros,
}

/// A poll over a connection that is kept costs the server next to nothing.
const POLLS: Pace = Pace {
    shortest: Micros::from_millis(20),
    longest: Micros::from_millis(200),
};
/// A visit costs it a login.
const VISITS: Pace = Pace {
    shortest: Micros::from_millis(60),
    longest: Micros::from_millis(500),
};

impl Pace {
    fn gap(self, elapsed: Micros) -> Micros {
        Micros((elapsed.0 / 20).clamp(self.shortest.0, self.longest.0))
    }
}

/// When a mail is looked for.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) sent: Moment,
    pub(super) check_interval: Micros,
    pub(super) deadline: Moment,
    next: Moment,
    /// When it is looked for by the check interval.
    check: Moment,
    /// Extra looks where the mail is expected, earliest first.
    looks: Vec<Moment>,
    /// How often the mailbox may be visited at once because a watch has seen new mail.
    on_landing: u8,
    /// For precise monitors: from when on the mail is looked for at short gaps.
    precise_from: Option<Moment>,
    /// Visits are the only means to look: nothing watches the mailbox meanwhile.
    by_visits: bool,
}

impl Plan {
    pub(super) fn new(sent: Moment, options: &MailQos) -> Self {
        let deadline = sent + options.max_round_trip;
        let check = (sent + options.check_interval).min(deadline);
        Self {
            sent,
            check_interval: options.check_interval,
            deadline,
            next: check,
            check,
            looks: Vec::new(),
            on_landing: 0,
            precise_from: None,
            by_visits: true,
        }
    }

    /// A watch looks into the mailbox meanwhile.
    fn watched(mut self) -> Self {
        self.by_visits = false;
        self
    }

    /// Looks for the mail at these times after its sending, too.
    fn looking(mut self, looks: &[Micros], extra: u8) -> Self {
        self.on_landing = if looks.is_empty() { 0 } else { extra };
        self.looks = looks.iter().map(|look| self.sent + *look).collect();
        self.next = self.next_visit();
        self
    }

    fn next_visit(&self) -> Moment {
        let look = self.looks.first().filter(|_| self.by_visits);
        look.map_or(self.check, |look| self.check.min(*look))
    }

    /// Looks for the mail at short gaps from so long after its sending.
    fn precise(mut self, from: Micros) -> Self {
        let from = self.sent + from;
        self.precise_from = Some(from);
        if self.by_visits {
            self.next = self.next.min(from);
        }
        self
    }

    /// When a watch is to look next.
    fn next_poll(&self) -> Option<Moment> {
        let now = Moment::now();
        if now >= self.deadline {
            return None;
        }
        if let Some(from) = self.precise_from {
            return Some(from.max(now + POLLS.gap(now - self.sent)));
        }
        // One that has just been made, a little early, is not made again.
        let soon = now + POLLS.shortest + POLLS.shortest;
        self.looks.iter().find(|look| **look > soon).copied()
    }

    /// After a pick-up that began at `began`: when the next one is due.
    fn advance(&mut self, began: Moment, error: Option<&PickupError>) {
        let now = Moment::now();
        // Those that have passed while a slow server was visited are not made up for.
        self.looks.retain(|look| *look > now);
        if error.is_some() {
            self.looks.clear();
            self.on_landing = 0;
        }
        if began >= self.check || error.is_some() {
            self.check = (began + self.check_interval).min(self.deadline);
        }
        if began < self.deadline {
            self.next = match error {
                // Each refused login may cost the account and this address a penalty, or lock it: one more try suffices.
                Some(error) if error.refused => self.deadline,
                None if self.by_visits && self.precise_from.is_some() => {
                    (now + VISITS.gap(now - self.sent)).min(self.deadline)
                }
                _ => self.next_visit(),
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
    /// Configured folders that could not be opened.
    pub(super) missing: Vec<MissingFolder>,
    transcript: Option<Arc<Transcript>>,
}

/// What is known of a mail that is waited for.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Pick-ups since it was sent.
    pub(super) pickups: i32,
    pub(super) last: Option<LastVisit>,
    /// When the last of them began that ended without an error.
    pub(super) looked_at: Option<Moment>,
    /// The mail itself.
    pub(super) found: Option<Found>,
    /// What a notification says of it: of several, one of a failure.
    pub(super) notified: Option<Report>,
    /// The visit that found what settles the test.
    pub(super) found_by: Option<LastVisit>,
    pub(super) duplicates: i32,
    /// What was said in the last visits.
    visits: VecDeque<Arc<Transcript>>,
}

impl Progress {
    /// Notes a visit, and what it found of the mail.
    fn note_visit(&mut self, visit: &LastVisit, finds: Vec<Found>) {
        self.pickups += 1;
        if visit.error.is_none() {
            self.looked_at = Some(visit.began);
        }
        if let Some(transcript) = &visit.transcript {
            if self.visits.len() >= MOST_TRANSCRIPTS {
                self.visits.pop_front();
            }
            self.visits.push_back(transcript.clone());
        }
        self.last = Some(visit.clone());
        for found in finds {
            if let Finding::Notification(report) = found.finding {
                self.note_notification(report, visit);
                continue;
            }
            match &mut self.found {
                Some(known) if known.receive.is_some() => self.duplicates += 1,
                known => {
                    *known = Some(found);
                    self.found_by = Some(visit.clone());
                }
            }
        }
    }

    /// Notes what is said of the mail. It is no copy of the mail: it does not count beside it, and gives way to it.
    fn note_notification(&mut self, report: Report, visit: &LastVisit) {
        if self.failure().is_some() {
            return;
        }
        if report.is_failure() && self.found.is_none() {
            self.found_by = Some(visit.clone());
        }
        if report.is_failure() || self.notified.is_none() {
            self.notified = Some(report);
        }
    }

    /// What says that the mail will not be delivered, while there is no mail.
    pub(super) fn failure(&self) -> Option<&Report> {
        self.notified
            .as_ref()
            .filter(|report| report.is_failure() && self.found.is_none())
    }

    /// What was said in the last visits.
    pub(super) fn conversations(&self, protocol: PickupProtocol) -> impl Iterator<Item = Conversation> + '_ {
        self.visits
            .iter()
            .map(move |transcript| Conversation::of(&protocol.to_string(), transcript))
    }

    /// What deserves attention although it may decide nothing: folders that were not searched.
    pub(super) fn notes(&self) -> Vec<String> {
        let visit = self.found_by.as_ref().or(self.last.as_ref());
        visit
            .iter()
            .flat_map(|visit| &visit.missing)
            .map(|folder| format!("the folder {:?} was not searched: {}", folder.name, folder.reason))
            .collect()
    }

    /// A visit that began at this moment or later has ended.
    pub(super) fn has_looked_at(&self, moment: Moment) -> bool {
        self.last.as_ref().is_some_and(|visit| visit.began >= moment)
    }

    /// Found and read to its end, or known to have failed.
    pub(super) fn is_complete(&self) -> bool {
        match &self.found {
            Some(found) => found.receive.is_some(),
            None => self.failure().is_some(),
        }
    }
}

struct Waiting {
    /// What the mail's token is.
    token: Token,
    mailbox: MailboxId,
    /// The mailbox is to be watched meanwhile.
    watched: bool,
    plan: Option<Plan>,
    /// How long credentials are not tried again that the server has rejected.
    hold: Micros,
    progress: watch::Sender<Progress>,
}

/// By what monitors find the mailbox that they share.
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

/// What is known of a monitor's mails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Habit {
    /// How long one is waited for.
    pub(super) horizon: Micros,
    /// From which address they are sent.
    pub(super) from: String,
}

/// All tests of this process whose mails are on their way.
pub(super) struct Registry {
    key: SigningKey,
    site: SiteName,
    /// What is known of each monitor's mails.
    habits: Mutex<HashMap<MonitorId, Habit>>,
    waiting: Mutex<HashMap<[u8; 8], Waiting>>,
    /// The largest size that a mail has been asked to have.
    largest: AtomicU64,
    settled: Mutex<VecDeque<([u8; 8], Sample)>>,
    /// The last round trips of precise monitors: the least that each can have been.
    history: Mutex<HashMap<MonitorId, VecDeque<Micros>>>,
    pub(super) connections: Arc<Connections>,
    /// What visits to each mailbox were like lately.
    visited: Mutex<HashMap<MailboxId, Visited>>,
    /// What was learnt from earlier mails.
    pub(super) learnt: Mutex<Learnt>,
}

/// What visits to a mailbox were like lately.
#[derive(Debug, Clone, Copy, Default)]
struct Visited {
    /// How long they took, a moving average.
    took: Micros,
    /// After one that failed, no extra ones are made until then.
    spared_until: Option<Moment>,
}

impl Visited {
    fn is_spared(self) -> bool {
        self.spared_until.is_some_and(|until| Moment::now() < until)
    }
}

/// Whether a mailbox is watched while mails of this monitor are on their way.
fn is_watched(options: &MailQos) -> bool {
    options.protocol == PickupProtocol::Imap && (options.idle || options.precise)
}

impl Registry {
    pub(super) fn new(key: SigningKey, site: SiteName, habits: HashMap<MonitorId, Habit>) -> Self {
        Self {
            key,
            site,
            habits: Mutex::new(habits),
            waiting: Mutex::default(),
            largest: AtomicU64::new(0),
            settled: Mutex::default(),
            history: Mutex::default(),
            visited: Mutex::default(),
            learnt: Mutex::default(),
            connections: Arc::default(),
        }
    }

    /// Goes over to other monitors.
    pub(super) fn reload(&self, habits: HashMap<MonitorId, Habit>) {
        *lock(&self.habits) = habits;
    }

    /// Expects a mail; nobody looks for it before [`Registry::sent`].
    /// Credentials that the server rejects are held back for `hold`.
    pub(super) fn expect(
        self: &Arc<Self>,
        token: Token,
        mailbox: &Arc<Mailbox>,
        options: &MailQos,
        hold: Micros,
    ) -> Expected {
        let nonce = token.nonce;
        let (progress, watch) = watch::channel(Progress::default());
        self.largest
            .fetch_max(options.message.size.unwrap_or_default(), Ordering::Relaxed);
        lock(&self.waiting).insert(
            nonce,
            Waiting {
                token,
                mailbox: mailbox.id,
                watched: is_watched(options),
                plan: None,
                hold,
                progress,
            },
        );
        mailbox.changed();
        Expected {
            nonce,
            registry: self.clone(),
            mailbox: mailbox.clone(),
            progress: watch,
        }
    }

    /// When a mail is to be looked for beside the check interval.
    fn looks(&self, monitor: &MonitorId, expected: &Expected, plan: &Plan, options: &MailQos) -> Vec<Micros> {
        let mailbox = expected.mailbox.id;
        let visited = lock(&self.visited).get(&mailbox).copied().unwrap_or_default();
        if options.check_interval > RARE || visited.is_spared() {
            return Vec::new();
        }
        // Looks over the connection of a watch cost next to nothing.
        let (times, cost) = if plan.by_visits {
            (1, visited.took)
        } else {
            (2, Micros::ZERO)
        };
        let limits = Limits {
            count: times * usize::from(options.extra_pickups),
            cost,
            check_interval: options.check_interval,
            max_round_trip: options.max_round_trip,
        };
        let learnt = lock(&self.learnt);
        learnt
            .expectations
            .looks(monitor, limits, u64::from_le_bytes(expected.nonce))
    }

    /// Notes what a visit was like: a server that refuses one is spared extra ones for a while.
    fn note_visited(&self, mailbox: MailboxId, visit: &Visit) {
        let now = Moment::now();
        let mut all = lock(&self.visited);
        if all.len() >= MOST_VISITED {
            all.clear();
        }
        let visited = all.entry(mailbox).or_default();
        if visit.error.is_some() {
            visited.spared_until = Some(now + SPARED);
        } else {
            let took = now - visit.began;
            visited.took = Micros((3 * visited.took.0 + took.0) / 4);
        }
    }

    /// When a precise monitor's mail is to be looked for: shortly before the fastest of its predecessors landed.
    fn precise_from(&self, monitor: &MonitorId) -> Micros {
        let history = lock(&self.history);
        let fastest = history.get(monitor).and_then(|known| known.iter().min());
        Micros(fastest.map_or(0, |fastest| fastest.0 / 5 * 4))
    }

    /// A precise monitor's mail took at least so long.
    pub(super) fn landed_after(&self, monitor: &MonitorId, least: Micros) {
        let mut history = lock(&self.history);
        let known = history.entry(monitor.clone()).or_default();
        if known.len() >= HISTORY {
            known.pop_front();
        }
        known.push_back(least);
    }

    /// Whether a mailbox is to be watched.
    fn is_watched(&self, mailbox: MailboxId) -> bool {
        lock(&self.waiting)
            .values()
            .any(|waiting| waiting.watched && waiting.mailbox == mailbox)
    }

    /// How long credentials are held back that the server of this mailbox has rejected: no test has more than one failed
    /// login, and monitors that share the mailbox have one together.
    fn hold(&self, mailbox: MailboxId) -> Micros {
        lock(&self.waiting)
            .values()
            .filter(|waiting| waiting.mailbox == mailbox)
            .map(|waiting| waiting.hold)
            .min()
            .unwrap_or(Micros::ZERO)
    }

    /// Whether all mails that are waited for in this mailbox were sent before this moment.
    fn began_before(&self, mailbox: MailboxId, moment: Moment) -> bool {
        lock(&self.waiting)
            .values()
            .filter(|waiting| waiting.mailbox == mailbox)
            .filter_map(|waiting| waiting.plan.as_ref())
            .all(|plan| plan.sent < moment)
    }

    /// Remembers a settled test, to recognise duplicates of its mail.
    pub(super) fn settled(&self, nonce: [u8; 8], sample: Sample) {
        let mut settled = lock(&self.settled);
        if settled.len() >= REMEMBERED {
            settled.pop_front();
        }
        settled.push_back((nonce, sample));
    }

    fn next_due(&self, mailbox: MailboxId) -> Option<Moment> {
        lock(&self.waiting)
            .values()
            .filter(|waiting| waiting.mailbox == mailbox)
            .filter_map(|waiting| waiting.plan.as_ref().map(|plan| plan.next))
            .min()
    }

    /// Hands out what a visit found; gives back the samples that have one duplicate more.
    fn hand_out(&self, mailbox: MailboxId, visit: Visit) -> Vec<Sample> {
        self.note_visited(mailbox, &visit);
        let last = LastVisit {
            began: visit.began,
            phases: visit.phases,
            tls: visit.tls,
            error: visit.error,
            missing: visit.missing,
            transcript: visit.transcript,
        };
        let mut changed = Vec::new();
        let mut waiting = lock(&self.waiting);
        let mut finds: HashMap<[u8; 8], Vec<Found>> = HashMap::new();
        for found in visit.found {
            tracing::debug!(monitor = %found.token.monitor, folder = ?found.folder, landed = ?found.landed, "found");
            let nonce = found.token.nonce;
            if waiting.contains_key(&nonce) {
                finds.entry(nonce).or_default().push(found);
                continue;
            }
            // Once its test is settled, a notification says nothing new: there are no two mails.
            if !found.finding.is_mail() {
                continue;
            }
            let mut settled = lock(&self.settled);
            if let Some((_, sample)) = settled.iter_mut().find(|(known, _)| *known == nonce) {
                match &mut sample.duplicates {
                    Some(count) => {
                        *count += 1;
                        changed.push(sample.clone());
                    }
                    // Its test had given up before it saw the mail: this is the mail itself.
                    unseen => *unseen = Some(0),
                }
            }
        }
        for (nonce, waiting) in waiting.iter_mut() {
            let finds = finds.remove(nonce).unwrap_or_default();
            let mut was_for_it = !finds.is_empty();
            if let Some(plan) = waiting.plan.as_mut().filter(|_| waiting.mailbox == mailbox)
                && plan.sent <= last.began
            {
                plan.advance(last.began, last.error.as_ref());
                was_for_it = true;
            }
            if was_for_it {
                // At once: who waits for the mail is not to see it without the visit that found it.
                waiting
                    .progress
                    .send_modify(|progress| progress.note_visit(&last, finds));
            }
        }
        changed
    }
}

impl Known for Registry {
    fn key(&self) -> &SigningKey {
        &self.key
    }

    fn awaited(&self, nonce: [u8; 8]) -> Option<Token> {
        lock(&self.waiting).get(&nonce).map(|waiting| waiting.token.clone())
    }

    fn sender(&self, token: &Token) -> Option<String> {
        if token.site != self.site {
            return None;
        }
        lock(&self.habits).get(&token.monitor).map(|habit| habit.from.clone())
    }
}

impl Judge for Registry {
    fn verdict(&self, token: &Token) -> Verdict {
        if lock(&self.waiting).contains_key(&token.nonce) {
            return Verdict::Take;
        }
        if lock(&self.settled).iter().any(|(nonce, _)| *nonce == token.nonce) {
            return Verdict::Clear;
        }
        let age = UtcMicros::now() - token.sent_at;
        let patience = match lock(&self.habits).get(&token.monitor).map(|habit| habit.horizon) {
            Some(horizon) if token.site == self.site => horizon + CLEAR_AFTER,
            _ => CLEAR_FOREIGN_SITE_AFTER,
        };
        // A mail from so far in the future was sent by a clock that has been set back since.
        let is_over = age.0.saturating_abs() > patience.0;
        if is_over { Verdict::Clear } else { Verdict::Leave }
    }

    fn largest(&self) -> u64 {
        self.largest.load(Ordering::Relaxed)
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
    /// The mail is on its way since this moment, stamped with this time: from now on it is looked for.
    pub(super) fn sent(&self, monitor: &MonitorId, (sent, at): (Moment, UtcMicros), options: &MailQos) {
        let mut plan = Plan::new(sent, options);
        if is_watched(options) && self.mailbox.is_watching.load(Ordering::Relaxed) {
            plan = plan.watched();
        }
        if options.precise {
            plan = plan.precise(self.registry.precise_from(monitor));
        } else {
            let looks = self.registry.looks(monitor, self, &plan, options);
            plan = plan.looking(&looks, options.extra_pickups);
        }
        if let Some(waiting) = lock(&self.registry.waiting).get_mut(&self.nonce) {
            waiting.plan = Some(plan);
            waiting.token.sent_at = at;
        }
        self.mailbox.changed();
    }

    /// How far the visit to its mailbox has come that is being made.
    pub(super) fn visit_is_at(&self) -> Option<Stage> {
        self.mailbox.door.whereabouts.stage()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        lock(&self.registry.waiting).remove(&self.nonce);
        self.mailbox.attention.notify_one();
    }
}

/// One mailbox; its visits are made one after the other.
pub(super) struct Mailbox {
    id: MailboxId,
    key: Key,
    door: Door,
    account: Mutex<Option<Account>>,
    /// For the visits: there may be another plan.
    wake: Notify,
    /// For the watch: there may be something else to do.
    attention: Notify,
    /// A watch is running.
    is_watching: AtomicBool,
}

/// Marks a mailbox as watched, as long as this lives.
struct Mark<'a>(&'a AtomicBool);

impl<'a> Mark<'a> {
    fn set(is_watching: &'a AtomicBool) -> Self {
        is_watching.store(true, Ordering::Relaxed);
        Self(is_watching)
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A watch that runs; it ends with this.
struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A visit that is being made. Where it is broken off, the mails that it has read are handed out all the same: they may be
/// deleted already.
struct Visiting<'a> {
    registry: &'a Registry,
    duplicates: &'a UnboundedSender<Sample>,
    visit: Visit,
}

impl Visiting<'_> {
    fn end(mut self) -> Visit {
        std::mem::replace(&mut self.visit, Visit::begin())
    }
}

impl Drop for Visiting<'_> {
    fn drop(&mut self) {
        let mut visit = std::mem::replace(&mut self.visit, Visit::begin());
        visit.found.retain(|found| found.receive.is_some());
        if !visit.found.is_empty() {
            // As if of a mailbox that nobody waits in: whose mail was not found learns nothing from half a visit.
            for sample in self.registry.hand_out(MailboxId::new(), visit) {
                let _ = self.duplicates.send(sample);
            }
        }
    }
}

/// Directs the watch over a mailbox by what is waited for in it.
struct Director {
    mailbox: Arc<Mailbox>,
    registry: Arc<Registry>,
    last_awaited: Mutex<Moment>,
}

impl Attention for Director {
    fn look(&self) -> Look {
        let waiting = lock(&self.registry.waiting);
        let mut mine = waiting
            .values()
            .filter(|waiting| waiting.watched && waiting.mailbox == self.mailbox.id)
            .peekable();
        let now = Moment::now();
        if mine.peek().is_some() {
            *lock(&self.last_awaited) = now;
        } else if now - *lock(&self.last_awaited) > LINGER {
            return Look::Stop;
        }
        let next = mine.filter_map(|waiting| waiting.plan.as_ref()?.next_poll()).min();
        next.map_or(Look::Wait, Look::Poll)
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            // Now and then, to see that nobody waits any more.
            let _ = tokio::time::timeout(LINGER.to_std() / 3, self.mailbox.attention.notified()).await;
        })
    }

    /// The next check is not waited for. Foreign mails land as well: there is a limit unless a monitor is
    /// precise.
    fn landed(&self) {
        let now = Moment::now();
        for waiting in lock(&self.registry.waiting).values_mut() {
            let Some(plan) = waiting.plan.as_mut().filter(|_| waiting.mailbox == self.mailbox.id) else {
                continue;
            };
            if plan.precise_from.is_some() {
                plan.next = plan.next.min(now);
            } else if plan.on_landing > 0 && now < plan.deadline {
                plan.on_landing -= 1;
                plan.next = plan.next.min(now);
            }
        }
        self.mailbox.wake.notify_one();
    }
}

impl Mailbox {
    pub(super) fn new(key: Key, options: &MailQos, account: Option<&Account>) -> Self {
        Self {
            id: MailboxId::new(),
            key,
            door: Door {
                endpoint: options.pickup.clone(),
                protocol: options.protocol,
                folders: options.folders.clone(),
                step: options.timeout.to_std(),
                whereabouts: Whereabouts::default(),
            },
            account: Mutex::new(account.cloned()),
            wake: Notify::new(),
            attention: Notify::new(),
            is_watching: AtomicBool::new(false),
        }
    }

    /// Whether these options lead to it through the same door.
    pub(super) fn is_reached_as(&self, options: &MailQos) -> bool {
        self.door.endpoint == options.pickup && self.door.step == options.timeout.to_std()
    }

    /// Visits log in by this account from now on: the same user's, whose password may be another.
    pub(super) fn log_in_by(&self, account: Option<&Account>) {
        *lock(&self.account) = account.cloned();
    }

    fn changed(&self) {
        self.wake.notify_one();
        self.attention.notify_one();
    }

    /// Begins to watch.
    fn watch(self: &Arc<Self>, registry: &Arc<Registry>, memory: &Memory, place: WatchPlace) -> Watching {
        let director = Director {
            mailbox: self.clone(),
            registry: registry.clone(),
            last_awaited: Mutex::new(Moment::now()),
        };
        let learnt = memory.imap.for_watch();
        let attach = place.task();
        let task = tokio::spawn(async move {
            let _place = place;
            let mailbox = &director.mailbox;
            let _mark = Mark::set(&mailbox.is_watching);
            let watched = match mailbox.credentials().await {
                Ok(credentials) => pickup::imap::watch(&mailbox.door, credentials.as_ref(), learnt, &director).await,
                Err(error) => Err(error),
            };
            if let Err(error) = watched {
                tracing::debug!(server = %mailbox.key.server, user = %mailbox.key.user, "watch: {error}");
                if error.refusal == Some(LoginRefusal::Connections) {
                    director.registry.connections.refused(&mailbox.place(), true);
                }
            }
        });
        attach(task.abort_handle());
        Watching(task)
    }

    /// The server and its port.
    fn place(&self) -> String {
        format!("{}:{}", self.key.server, self.key.port)
    }

    async fn credentials(&self) -> Result<Option<Credentials>, PickupError> {
        let account = lock(&self.account).clone();
        let Some(account) = account else { return Ok(None) };
        match mailqos_mail::credentials(&account).await {
            Ok(credentials) => Ok(Some(credentials)),
            Err(error) => Err(PickupError::no_credentials(&error.to_string())),
        }
    }

    /// Visits the mailbox whenever somebody's plan says so, until nobody can have one any more; `duplicates` takes the samples of
    /// settled tests whose mail came again.
    pub(super) async fn serve(self: Arc<Self>, registry: Arc<Registry>, duplicates: UnboundedSender<Sample>) {
        let mut memory = Memory::default();
        let mut watching: Option<(Moment, Watching)> = None;
        // Only where a visit has just succeeded: a watch must not double the tries of a wrong password.
        let mut welcome = false;
        loop {
            let due_again = match &watching {
                Some((began, watch)) => watch.0.is_finished() && Moment::now() - *began > WATCH_AGAIN,
                None => true,
            };
            if welcome && due_again && registry.is_watched(self.id) {
                // The old watch's place is free before the new one takes its own.
                watching = None;
                if let Some(place) = registry.connections.watch(&self.place(), self.id) {
                    watching = Some((Moment::now(), self.watch(&registry, &memory, place)));
                }
            }
            if Arc::strong_count(&self) == 1 {
                // The configuration leads elsewhere now, and the last mail that was waited for here is settled.
                return;
            }
            let due = registry.next_due(self.id);
            // Without a plan, now and then, to see that nobody waits any more.
            let until = due.map_or_else(|| tokio::time::Instant::now() + LINGER.to_std(), Moment::instant);
            tokio::select! {
                () = tokio::time::sleep_until(until) => if due.is_none() {
                    continue;
                },
                () = self.wake.notified() => continue,
            }
            let mut visiting = Visiting {
                registry: &registry,
                duplicates: &duplicates,
                visit: Visit::begin(),
            };
            let ending = self.visit(&mut memory, &registry, &mut visiting.visit).await;
            let visit = visiting.end();
            welcome = visit.error.is_none();
            if let Some(error) = &visit.error {
                tracing::debug!(server = %self.key.server, user = %self.key.user, stage = %error.stage, "pick-up: {error}");
            }
            for sample in registry.hand_out(self.id, visit) {
                let _ = duplicates.send(sample);
            }
            if let Some((ending, _place)) = ending
                && let Err(error) = ending.end().await
            {
                tracing::debug!(server = %self.key.server, user = %self.key.user, "pick-up's end: {error}");
            }
            self.door.whereabouts.note(None);
        }
    }

    /// One visit; a mailbox that somebody else holds is tried again within a step's deadline.
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
            Some(credentials) => match credentials.turn(&place, registry.hold(self.id).to_std(), step).await {
                Ok(turn) => Some(turn),
                Err(held_back) => {
                    // Within the same test there is nothing to add to the refusal.
                    let text = match registry.began_before(self.id, Moment::now() - Micros::from(held_back.age)) {
                        true => held_back.text,
                        false => held_back.to_string(),
                    };
                    *visit = Visit::failed(Moment::now(), PickupError::held_back(&text));
                    return None;
                }
            },
            None => None,
        };
        loop {
            self.door.whereabouts.note(Some(Stage::PickupConnect));
            let left = step.saturating_sub((Moment::now() - began).to_std());
            let open = registry
                .connections
                .visit(&place, left, |id| registry.is_watched(id))
                .await;
            let ending = pickup::visit(&self.door, credentials.as_ref(), memory, registry, visit).await;
            let error = visit.error.as_ref();
            let pause = error.and_then(|error| error.pause_before_retry(&registry.connections, &place));
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

#[cfg(test)]
mod tests {
    use mailqos_base::Secret;
    use mailqos_model::Outcome;

    use super::*;

    fn found(nonce: [u8; 8]) -> Found {
        Found {
            token: Token {
                site: "here".parse().expect("a site"),
                monitor: "mail-hq".parse().expect("an id"),
                sent_at: UtcMicros(0),
                nonce,
            },
            finding: Finding::Mail,
            not_shown: None,
            shown: Moment::of_micros(5),
            receive: Some(Micros(1)),
            folder: None,
            landed: None,
            notified: None,
            mail: Vec::new(),
        }
    }

    fn visit(found: Vec<Found>) -> Visit {
        let mut visit = Visit::failed(
            Moment::of_micros(3),
            PickupError::new(Stage::PickupReceive, "cut off after the mail"),
        );
        visit.found = found;
        visit.transcript = Some(Arc::new(Transcript::begin("localhost", 110)));
        visit
    }

    fn registry() -> Registry {
        let key = SigningKey::new(&Secret::new("a key of more than thirty-two characters")).expect("a key");
        Registry::new(key, "here".parse().expect("a site"), HashMap::new())
    }

    #[test]
    fn a_mailbox_that_is_reached_in_another_way_has_its_own_plans() {
        let registry = registry();
        let (before, since) = (MailboxId::new(), MailboxId::new());
        let (progress, watch) = watch::channel(Progress::default());
        let plan = Plan {
            sent: Moment::of_micros(0),
            check_interval: Micros::from_secs(1),
            deadline: Moment::of_micros(60_000_000),
            next: Moment::of_micros(1_000_000),
            check: Moment::of_micros(1_000_000),
            looks: Vec::new(),
            on_landing: 0,
            precise_from: None,
            by_visits: true,
        };
        let waiting = Waiting {
            token: found([1; 8]).token,
            mailbox: since,
            watched: true,
            plan: Some(plan.clone()),
            hold: Micros::ZERO,
            progress,
        };
        lock(&registry.waiting).insert([1; 8], waiting);
        assert_eq!(
            (registry.next_due(before), registry.next_due(since)),
            (None, Some(plan.next))
        );
        assert!(!registry.is_watched(before) && registry.is_watched(since));
        // What fails on the old way says nothing of the new one.
        registry.hand_out(before, visit(Vec::new()));
        assert!(watch.borrow().last.is_none());
        registry.hand_out(since, visit(Vec::new()));
        assert!(watch.borrow().last.is_some());
    }

    /// As Outlook.com did: "-ERR Exceeded the login limit for a 15 minute period. Reduce the frequency of
    /// requests to the POP3 server" (frappe issue 242).
    #[test]
    fn a_server_that_refuses_a_visit_is_spared_extra_ones() {
        let registry = registry();
        let (mine, other) = (MailboxId::new(), MailboxId::new());
        let is_spared = |mailbox: MailboxId| {
            lock(&registry.visited)
                .get(&mailbox)
                .is_some_and(|visited| visited.is_spared())
        };
        let mut good = visit(Vec::new());
        good.error = None;
        registry.hand_out(mine, good);
        assert!(!is_spared(mine));
        registry.hand_out(mine, visit(Vec::new()));
        assert!(is_spared(mine) && !is_spared(other));
        // Nor are those made that were planned already; those of the check interval are.
        let now = Moment::now();
        let in_seconds = |seconds: i64| now + Micros::from_secs(seconds);
        let mut plan = Plan {
            sent: now,
            check_interval: Micros::from_secs(15),
            deadline: in_seconds(90),
            next: in_seconds(5),
            check: in_seconds(15),
            looks: vec![in_seconds(10), in_seconds(20), in_seconds(30)],
            on_landing: 5,
            precise_from: None,
            by_visits: true,
        };
        plan.advance(in_seconds(5), None);
        assert_eq!(plan.next, in_seconds(10));
        plan.advance(
            in_seconds(10),
            Some(&PickupError::new(Stage::PickupLogin, "-ERR Exceeded the login limit")),
        );
        assert_eq!((plan.next, plan.looks.len(), plan.on_landing), (in_seconds(25), 0, 0));
        plan.advance(in_seconds(25), None);
        assert_eq!(plan.next, in_seconds(40));
    }

    #[test]
    fn what_another_process_may_wait_for_is_left_alone() {
        let registry = registry();
        let habit = Habit {
            horizon: Micros::from_secs(24 * 3600),
            from: "probe@example.com".to_owned(),
        };
        registry.reload(HashMap::from([("mail-hq".parse().expect("an id"), habit)]));
        let verdict = |site: &str, hours: i64| {
            let sent_at = UtcMicros::now() - Micros::from_secs(hours * 3600);
            let token = Token {
                site: site.parse().expect("a site"),
                sent_at,
                ..found([3; 8]).token
            };
            registry.verdict(&token)
        };
        let (leave, clear) = (Verdict::Leave, Verdict::Clear);
        assert_eq!((verdict("here", 23), verdict("here", 25)), (leave, clear));
        // How long the other site waits is not known here: a month at the most.
        assert_eq!((verdict("there", 30 * 24), verdict("there", 31 * 24)), (leave, clear));
    }

    #[test]
    fn a_mail_that_its_test_never_saw_is_no_duplicate() {
        let registry = registry();
        let mailbox = MailboxId::new();
        let monitor = "mail-hq".parse().expect("an id");
        let sample = Sample::new(monitor, UtcMicros(0), Outcome::PickupFailed);
        registry.settled([2; 8], sample);
        let counted = || {
            let changed = registry.hand_out(mailbox, visit(vec![found([2; 8])]));
            changed.iter().map(|sample| sample.duplicates).collect::<Vec<_>>()
        };
        assert_eq!((counted(), counted()), (vec![], vec![Some(1)]));
    }

    #[test]
    fn a_notification_beside_the_mail_is_no_duplicate() {
        let bounce = |nonce| Found {
            finding: Finding::Notification(Report::failed("5.1.1", "no such user")),
            ..found(nonce)
        };
        let visited = LastVisit {
            began: Moment::of_micros(3),
            phases: PickupPhases::default(),
            tls: None,
            error: None,
            missing: Vec::new(),
            transcript: None,
        };
        let after = |finds: Vec<Found>| {
            let mut progress = Progress::default();
            progress.note_visit(&visited, finds);
            (progress.duplicates, progress.failure().is_some())
        };
        let nonce = [4; 8];
        assert_eq!(after(vec![found(nonce), bounce(nonce)]), (0, false));
        assert_eq!(after(vec![bounce(nonce), found(nonce)]), (0, false));
        assert_eq!(after(vec![bounce(nonce), bounce(nonce)]), (0, true));
        assert_eq!(after(vec![found(nonce), found(nonce)]), (1, false));
        // After the test was settled, too.
        let registry = registry();
        let mut sample = Sample::new("mail-hq".parse().expect("an id"), UtcMicros(0), Outcome::Ok);
        sample.duplicates = Some(0);
        registry.settled(nonce, sample);
        let mailbox = MailboxId::new();
        assert!(registry.hand_out(mailbox, visit(vec![bounce(nonce)])).is_empty());
        assert_eq!(registry.hand_out(mailbox, visit(vec![found(nonce)])).len(), 1);
    }

    #[test]
    fn who_waits_for_a_mail_sees_with_it_the_visit_that_found_it() {
        let registry = registry();
        let (mine, same_by_another_name) = (MailboxId::new(), MailboxId::new());
        let (progress, watch) = watch::channel(Progress::default());
        // Another monitor's visit may find it before the server has said that it took it, or through another door.
        let waiting = Waiting {
            token: found([1; 8]).token,
            mailbox: mine,
            watched: false,
            plan: None,
            hold: Micros::ZERO,
            progress,
        };
        lock(&registry.waiting).insert([1; 8], waiting);
        registry.hand_out(mine, visit(Vec::new()));
        assert_eq!(watch.borrow().pickups, 0);
        registry.hand_out(same_by_another_name, visit(vec![found([1; 8]), found([1; 8])]));
        let progress = watch.borrow();
        assert!(progress.is_complete());
        assert_eq!((progress.pickups, progress.duplicates), (1, 1));
        assert!(progress.found_by.is_some() && progress.last.is_some());
        assert_eq!(progress.conversations(PickupProtocol::Pop3).count(), 1);
    }
}
