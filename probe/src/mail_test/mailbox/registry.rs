//! The tests of this process whose mails are in transit, and the findings of visits about them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{MAX_HORIZON, MailQos};
use mailqos_model::{Micros, MonitorId, Sample, SiteName, UtcMicros};
use tokio::sync::watch;

use super::{
    super::{
        classify::Known,
        connections::{Connections, MailboxId},
        evidence::Moment,
        expectation::Limits,
        learned::LearnedState,
        pickup::{Action, Found, MailClassifier, Visit},
        token::{SigningKey, Token},
    },
    plan::Plan,
    progress::{LastVisit, Progress},
};

/// Time after its horizon at which one of our mails is deleted if no test here waits for it. Until
/// then, the process that sent it may be waiting for it (`mailqos-probe run`, whose late mails
/// `mailqos-probe test` may see).
const CLEAR_AFTER: Micros = Micros::from_secs(600);
/// Age at which a mail of another site or of a removed monitor is deleted, because its horizon is
/// unknown here.
const CLEAR_FOREIGN_SITE_AFTER: Micros = Micros(MAX_HORIZON.0 + CLEAR_AFTER.0);
/// Number of settled tests to remember, so that duplicates of their mails are recognised.
const REMEMBERED: usize = 1024;
/// Check interval above which no extra pick-ups are made, because few logins are wanted then
/// (servers that announce LOGIN-DELAY, RFC 2449, section 6.5, reject more).
const RARE: Micros = Micros::from_secs(120);
/// Time after a failed visit during which no extra pick-ups are made.
const SPARED: Micros = Micros::from_secs(15 * 60);
/// Maximum number of mailboxes whose visits are remembered.
const MAX_VISITED: usize = 4096;
/// Number of round trips on which a precise monitor's expectation is based.
const HISTORY: usize = 64;

/// An expected mail.
pub(super) struct Waiting {
    /// Token of the mail.
    pub(super) token: Token,
    pub(super) mailbox: MailboxId,
    /// Whether the mailbox should be watched in the meantime.
    pub(super) watched: bool,
    pub(super) plan: Option<Plan>,
    /// Time for which rejected credentials are not tried again.
    pub(super) hold: Micros,
    pub(super) progress: watch::Sender<Progress>,
}

/// Settings of a monitor's mails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mail_test) struct ClockBehaviour {
    /// Time to wait for a mail.
    pub(in crate::mail_test) horizon: Micros,
    /// Sender address.
    pub(in crate::mail_test) from: String,
}

/// All tests of this process whose mails are in transit.
pub(in crate::mail_test) struct Registry {
    key: SigningKey,
    site: SiteName,
    /// Settings of each monitor's mails.
    habits: Mutex<HashMap<MonitorId, ClockBehaviour>>,
    waiting: Mutex<HashMap<[u8; 8], Waiting>>,
    /// Largest configured size of a mail so far.
    largest: AtomicU64,
    settled: Mutex<VecDeque<([u8; 8], Sample)>>,
    /// Whether a person waits for the results of the tests.
    pub(in crate::mail_test) is_attended: AtomicBool,
    /// Last round trips of precise monitors: the lower bound of each.
    history: Mutex<HashMap<MonitorId, VecDeque<Micros>>>,
    pub(in crate::mail_test) connections: Arc<Connections>,
    /// Accounts whose mailboxes know the field with the token, for sending over Microsoft Graph.
    primed: Mutex<HashSet<String>>,
    /// Mailboxes whose Sent Items were searched for copies of an earlier process.
    swept: Mutex<HashSet<String>>,
    /// Recent visits to each mailbox.
    visited: Mutex<HashMap<MailboxId, Visited>>,
    /// Knowledge from earlier mails.
    pub(in crate::mail_test) learned: Mutex<LearnedState>,
}

/// Recent visits to a mailbox.
#[derive(Debug, Clone, Copy, Default)]
struct Visited {
    /// Moving average of their durations.
    took: Micros,
    /// End of the time without extra visits, after a failed one.
    spared_until: Option<Moment>,
}

impl Visited {
    fn is_spared(self) -> bool {
        self.spared_until.is_some_and(|until| Moment::now() < until)
    }
}

impl Registry {
    pub(in crate::mail_test) fn new(
        key: SigningKey,
        site: SiteName,
        habits: HashMap<MonitorId, ClockBehaviour>,
    ) -> Self {
        Self {
            key,
            site,
            habits: Mutex::new(habits),
            waiting: Mutex::default(),
            largest: AtomicU64::new(0),
            settled: Mutex::default(),
            is_attended: AtomicBool::new(false),
            history: Mutex::default(),
            visited: Mutex::default(),
            learned: Mutex::default(),
            connections: Arc::default(),
            primed: Mutex::default(),
            swept: Mutex::default(),
        }
    }

    /// Applies the settings of changed monitors.
    pub(in crate::mail_test) fn reload(&self, habits: HashMap<MonitorId, ClockBehaviour>) {
        *self.habits.lock().ignore_poison() = habits;
    }

    /// Registers an expected mail, which is not looked for before it has a plan.
    pub(super) fn wait_for(&self, nonce: [u8; 8], waiting: Waiting, size: u64) {
        self.largest.fetch_max(size, Ordering::Relaxed);
        self.waiting.lock().ignore_poison().insert(nonce, waiting);
    }

    /// Changes the plans of all mails expected in a mailbox.
    pub(super) fn each_plan(&self, mailbox: MailboxId, mut change: impl FnMut(&mut Plan)) {
        for waiting in self.waiting.lock().ignore_poison().values_mut() {
            if let Some(plan) = waiting.plan.as_mut().filter(|_| waiting.mailbox == mailbox) {
                change(plan);
            }
        }
    }

    /// Sets the plan of a mail.
    pub(super) fn plan(&self, nonce: [u8; 8], plan: Plan, sent_at: UtcMicros) {
        if let Some(waiting) = self.waiting.lock().ignore_poison().get_mut(&nonce) {
            waiting.plan = Some(plan);
            waiting.token.sent_at = sent_at;
        }
    }

    /// Stops waiting for a mail.
    pub(super) fn forget(&self, nonce: [u8; 8]) {
        self.waiting.lock().ignore_poison().remove(&nonce);
    }

    /// Whether the mailbox of this account knows the field with the token.
    pub(in crate::mail_test) fn is_primed(&self, account: &str) -> bool {
        self.primed.lock().ignore_poison().contains(account)
    }

    /// Notes that the mailbox of this account knows the field with the token.
    pub(in crate::mail_test) fn note_primed(&self, account: &str, most: usize) {
        let mut primed = self.primed.lock().ignore_poison();
        if primed.len() >= most {
            primed.clear();
        }
        primed.insert(account.to_owned());
    }

    /// Notes that the Sent Items of this user are searched; returns whether it is the first time.
    pub(in crate::mail_test) fn note_swept(&self, user: &str, most: usize) -> bool {
        let mut swept = self.swept.lock().ignore_poison();
        if swept.len() >= most {
            swept.clear();
        }
        swept.insert(user.to_owned())
    }

    /// Returns when the watch over a mailbox must poll next; `None` if it is not needed.
    pub(super) fn next_poll(&self, mailbox: MailboxId) -> Option<Option<Moment>> {
        let waiting = self.waiting.lock().ignore_poison();
        let mine = waiting.values().filter(|waiting| waiting.watched && waiting.mailbox == mailbox);
        let plans: Vec<_> = mine.map(|waiting| waiting.plan.as_ref()).collect();
        (!plans.is_empty()).then(|| plans.into_iter().filter_map(|plan| plan?.next_poll()).min())
    }

    /// Returns the times of extra pick-ups for a mail.
    pub(in crate::mail_test) fn looks(
        &self,
        monitor: &MonitorId,
        (mailbox, nonce): (MailboxId, [u8; 8]),
        plan: &Plan,
        options: &MailQos,
    ) -> Vec<Micros> {
        let visited =
            self.visited.lock().ignore_poison().get(&mailbox).copied().unwrap_or_default();
        if options.check_interval > RARE || visited.is_spared() {
            return Vec::new();
        }
        // Polls over the connection of a watch cost almost nothing.
        let (times, cost) = if plan.by_visits { (1, visited.took) } else { (2, Micros::ZERO) };
        let limits = Limits {
            count: times * usize::from(options.extra_pickups),
            cost,
            check_interval: options.check_interval,
            max_round_trip: options.max_round_trip,
        };
        let learned = self.learned.lock().ignore_poison();
        learned.expectations.looks(monitor, limits, u64::from_le_bytes(nonce))
    }

    /// Records a visit. A server that refuses one gets no extra visits for a while.
    fn note_visited(&self, mailbox: MailboxId, visit: &Visit) {
        let now = Moment::now();
        let mut all = self.visited.lock().ignore_poison();
        if all.len() >= MAX_VISITED {
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

    /// Returns the time from which a precise monitor's mail must be looked for: shortly before the
    /// fastest earlier arrival.
    pub(super) fn precise_from(&self, monitor: &MonitorId) -> Micros {
        let history = self.history.lock().ignore_poison();
        let fastest = history.get(monitor).and_then(|known| known.iter().min());
        Micros(fastest.map_or(0, |fastest| fastest.0 / 5 * 4))
    }

    /// Records a lower bound of the round trip of a precise monitor's mail.
    pub(in crate::mail_test) fn landed_after(&self, monitor: &MonitorId, least: Micros) {
        let mut history = self.history.lock().ignore_poison();
        let known = history.entry(monitor.clone()).or_default();
        if known.len() >= HISTORY {
            known.pop_front();
        }
        known.push_back(least);
    }

    /// Returns whether a mailbox should be watched.
    pub(super) fn is_watched(&self, mailbox: MailboxId) -> bool {
        self.waiting
            .lock()
            .ignore_poison()
            .values()
            .any(|waiting| waiting.watched && waiting.mailbox == mailbox)
    }

    /// Returns how long credentials that the server of this mailbox has rejected are not tried
    /// again. No test has more than one failed login, and monitors that share the mailbox share
    /// one.
    pub(super) fn hold(&self, mailbox: MailboxId) -> Micros {
        self.waiting
            .lock()
            .ignore_poison()
            .values()
            .filter(|waiting| waiting.mailbox == mailbox)
            .map(|waiting| waiting.hold)
            .min()
            .unwrap_or(Micros::ZERO)
    }

    /// Returns whether all mails expected in this mailbox were sent before this time.
    pub(super) fn began_before(&self, mailbox: MailboxId, moment: Moment) -> bool {
        self.waiting
            .lock()
            .ignore_poison()
            .values()
            .filter(|waiting| waiting.mailbox == mailbox)
            .filter_map(|waiting| waiting.plan.as_ref())
            .all(|plan| plan.sent < moment)
    }

    /// Stores a settled test, to recognise duplicates of its mail.
    pub(in crate::mail_test) fn settled(&self, nonce: [u8; 8], sample: Sample) {
        let mut settled = self.settled.lock().ignore_poison();
        if settled.len() >= REMEMBERED {
            settled.pop_front();
        }
        settled.push_back((nonce, sample));
    }

    pub(super) fn next_due(&self, mailbox: MailboxId) -> Option<Moment> {
        self.waiting
            .lock()
            .ignore_poison()
            .values()
            .filter(|waiting| waiting.mailbox == mailbox)
            .filter_map(|waiting| waiting.plan.as_ref().map(|plan| plan.next))
            .min()
    }

    /// Hands out the findings of a visit, and returns the samples that have a further duplicate.
    pub(super) fn hand_out(&self, mailbox: MailboxId, visit: Visit) -> Vec<Sample> {
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
        let mut waiting = self.waiting.lock().ignore_poison();
        let mut finds: HashMap<[u8; 8], Vec<Found>> = HashMap::new();
        for found in visit.found {
            tracing::debug!(monitor = %found.token.monitor, folder = ?found.folder, landed = ?found.landed, "found");
            let nonce = found.token.nonce;
            if waiting.contains_key(&nonce) {
                finds.entry(nonce).or_default().push(found);
                continue;
            }
            // After its test is settled, a notification adds nothing, and is not a second mail.
            if !found.finding.is_mail() {
                continue;
            }
            let mut settled = self.settled.lock().ignore_poison();
            if let Some((_, sample)) = settled.iter_mut().find(|(known, _)| *known == nonce) {
                match &mut sample.duplicates {
                    Some(count) => {
                        *count += 1;
                        changed.push(sample.clone());
                    }
                    // Its test gave up before seeing the mail, so this is the mail itself.
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
                // Update both together: the waiting test must not see the mail without the visit
                // that found it.
                waiting.progress.send_modify(|progress| progress.note_visit(&last, finds));
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
        self.waiting.lock().ignore_poison().get(&nonce).map(|waiting| waiting.token.clone())
    }

    fn sender(&self, token: &Token) -> Option<String> {
        if token.site != self.site {
            return None;
        }
        self.habits.lock().ignore_poison().get(&token.monitor).map(|habit| habit.from.clone())
    }
}

impl MailClassifier for Registry {
    fn action(&self, token: &Token) -> Action {
        if self.waiting.lock().ignore_poison().contains_key(&token.nonce) {
            return Action::Collect;
        }
        if self.settled.lock().ignore_poison().iter().any(|(nonce, _)| *nonce == token.nonce) {
            return Action::Delete;
        }
        let age = UtcMicros::now() - token.sent_at;
        let patience =
            match self.habits.lock().ignore_poison().get(&token.monitor).map(|habit| habit.horizon)
            {
                Some(horizon) if token.site == self.site => horizon + CLEAR_AFTER,
                _ => CLEAR_FOREIGN_SITE_AFTER,
            };
        // A mail from far in the future was sent while the clock was wrong.
        let is_over = age.0.saturating_abs() > patience.0;
        if is_over { Action::Delete } else { Action::Keep }
    }

    fn largest(&self) -> u64 {
        self.largest.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use mailqos_base::Secret;
    use mailqos_config::PickupProtocol;
    use mailqos_mail::Transcript;
    use mailqos_model::{Outcome, Stage};

    use super::{
        super::super::{
            classify::Report,
            pickup::{Finding, PickupError, PickupPhases},
        },
        *,
    };

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
            placement: None,
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
        let key = SigningKey::new(&Secret::new("a key of more than thirty-two characters"))
            .expect("a key");
        Registry::new(key, "here".parse().expect("a site"), HashMap::new())
    }

    #[test]
    fn a_mailbox_reached_differently_has_its_own_plans() {
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
            is_attended: false,
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
        registry.waiting.lock().ignore_poison().insert([1; 8], waiting);
        assert_eq!((registry.next_due(before), registry.next_due(since)), (None, Some(plan.next)));
        assert!(!registry.is_watched(before) && registry.is_watched(since));
        // A failure over the old endpoint is irrelevant for the new one.
        registry.hand_out(before, visit(Vec::new()));
        assert!(watch.borrow().last.is_none());
        registry.hand_out(since, visit(Vec::new()));
        assert!(watch.borrow().last.is_some());
    }

    /// As with Outlook.com: "-ERR Exceeded the login limit for a 15 minute period. Reduce the
    /// frequency of requests to the POP3 server" (frappe issue 242).
    #[test]
    fn a_server_that_refuses_a_visit_gets_no_extra_ones() {
        let registry = registry();
        let (mine, other) = (MailboxId::new(), MailboxId::new());
        let is_spared = |mailbox: MailboxId| {
            registry
                .visited
                .lock()
                .ignore_poison()
                .get(&mailbox)
                .is_some_and(|visited| visited.is_spared())
        };
        let mut good = visit(Vec::new());
        good.error = None;
        registry.hand_out(mine, good);
        assert!(!is_spared(mine));
        registry.hand_out(mine, visit(Vec::new()));
        assert!(is_spared(mine) && !is_spared(other));
        // Extra pick-ups that were already planned are skipped, too; those of the check interval
        // are made.
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
            is_attended: false,
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
    fn mails_of_other_processes_are_left_alone() {
        let registry = registry();
        let habit = ClockBehaviour {
            horizon: Micros::from_secs(24 * 3600),
            from: "probe@example.com".to_owned(),
        };
        registry.reload(HashMap::from([("mail-hq".parse().expect("an id"), habit)]));
        let action = |site: &str, hours: i64| {
            let sent_at = UtcMicros::now() - Micros::from_secs(hours * 3600);
            let token =
                Token { site: site.parse().expect("a site"), sent_at, ..found([3; 8]).token };
            registry.action(&token)
        };
        let (leave, clear) = (Action::Keep, Action::Delete);
        assert_eq!((action("here", 23), action("here", 25)), (leave, clear));
        // The other site's horizon is unknown here, but is a month at most.
        assert_eq!((action("there", 30 * 24), action("there", 31 * 24)), (leave, clear));
    }

    #[test]
    fn a_mail_that_its_test_never_saw_is_not_a_duplicate() {
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
    fn a_notification_next_to_the_mail_is_not_a_duplicate() {
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
        // The same after the test was settled.
        let registry = registry();
        let mut sample = Sample::new("mail-hq".parse().expect("an id"), UtcMicros(0), Outcome::Ok);
        sample.duplicates = Some(0);
        registry.settled(nonce, sample);
        let mailbox = MailboxId::new();
        assert!(registry.hand_out(mailbox, visit(vec![bounce(nonce)])).is_empty());
        assert_eq!(registry.hand_out(mailbox, visit(vec![found(nonce)])).len(), 1);
    }

    #[test]
    fn a_found_mail_is_reported_with_its_visit() {
        let registry = registry();
        let (mine, same_by_another_name) = (MailboxId::new(), MailboxId::new());
        let (progress, watch) = watch::channel(Progress::default());
        // Another monitor's visit may find the mail before the server has confirmed accepting it,
        // or through another endpoint.
        let waiting = Waiting {
            token: found([1; 8]).token,
            mailbox: mine,
            watched: false,
            plan: None,
            hold: Micros::ZERO,
            progress,
        };
        registry.waiting.lock().ignore_poison().insert([1; 8], waiting);
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
