//! When a test starts: each monitor on a slot of its own or at the moments of its calendar, the same after every restart, never two tests
//! of one monitor at once, never more at once than the limits allow.
//!
//! A timer queue of its own carries all of them: tokio-cron-scheduler drops jobs when ten thousand are due in one tick, looks twice a second,
//! and takes a zone's offset once, when a job is made, so that a change of daylight-saving time would go unnoticed.

mod certificates;
mod slot;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mailqos_core::{
    config::{Config, Monitor},
    model::{Micros, MonitorId, RoundTrip, Stage, UtcMicros},
};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    alarm::Alarms,
    mailqos::Tester,
    status::{Histogram, Observed},
};

pub use certificates::Certificates;

/// The clock is looked at least this often, so that a step of it is noticed.
const LONGEST_NAP: Duration = Duration::from_millis(500);
/// A start later than this is counted as late.
const LATE: Micros = Micros::from_millis(1000);
/// Those that wait for a place are looked through no more often than this.
const LOOK_THROUGH: Duration = Duration::from_millis(10);
/// How long tests that run may take to end when the probe is stopped: a look at the network, a disk that is slow.
const ENDING: Duration = Duration::from_secs(10);

/// What the scheduler counts.
#[derive(Debug, Default)]
pub struct Board {
    /// Tests that were started.
    pub started: AtomicU64,
    /// Those that were started late.
    pub late: AtomicU64,
    /// Those that were left out, since the one before was still running or waiting.
    pub left_out: AtomicU64,
    /// Tests that run now.
    pub running: AtomicU64,
    /// Tests that wait for a place now.
    pub waiting: AtomicU64,
    /// How late tests were started.
    pub lateness: Mutex<Histogram>,
}

impl Board {
    /// A test has begun, so late: what it waited for a worker thread counts as well.
    fn begun(&self, monitor: &MonitorId, lateness: Micros) {
        self.lateness
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count(lateness);
        if lateness > LATE {
            let late = self.late.fetch_add(1, Ordering::Relaxed) + 1;
            if late.is_power_of_two() {
                tracing::warn!(late, %monitor, by = %lateness, "a test starts late: the probe is overloaded, a limit is reached, or it was suspended");
            }
        }
    }
}

/// What runs tests for the scheduler.
pub struct Parts {
    /// Runs them.
    pub tester: Arc<Tester>,
    /// Is told of their samples.
    pub alarms: Alarms,
    /// Counts.
    pub board: Arc<Board>,
    /// Counts each sample, for those who watch.
    pub observed: Arc<Observed>,
    /// Looks at their certificates.
    pub certificates: Arc<Certificates>,
}

/// The next start of a monitor after `now`.
pub fn next(config: &Config, monitor: &Monitor, now: UtcMicros) -> UtcMicros {
    match &monitor.calendar {
        // A calendar that never comes has been refused; one that comes no more is looked at again in a year.
        Some(calendar) => calendar
            .next(now)
            .unwrap_or_else(|| now + Micros::from_secs(365 * 86_400)),
        None => slot::next(&config.site, monitor, now),
    }
}

/// How many tests hold a place, of all and by server and mailbox.
struct Places {
    limits: mailqos_core::config::Limits,
    of: HashMap<MonitorId, [String; 3]>,
    taken: HashMap<String, u32>,
    running: u32,
}

impl Places {
    fn new(config: &Config) -> Self {
        let of = config.monitors.values().map(|monitor| {
            let (smtp, pickup) = (
                monitor.kind.endpoint(Stage::SmtpConnect),
                monitor.kind.endpoint(Stage::PickupConnect),
            );
            let account = pickup.account.as_ref().map_or("", |account| account.as_str());
            let keys = [
                format!("smtp {}:{}", smtp.server, smtp.port),
                format!("pickup {}:{}", pickup.server, pickup.port),
                format!("mailbox {}:{} {account}", pickup.server, pickup.port),
            ];
            (monitor.id.clone(), keys)
        });
        Self {
            limits: config.limits,
            of: of.collect(),
            taken: HashMap::new(),
            running: 0,
        }
    }

    /// Takes a place, if there is one.
    fn take(&mut self, monitor: &MonitorId) -> bool {
        let is_free = self.running < self.limits.tests && self.of.contains_key(monitor) && !self.is_full(monitor);
        if is_free {
            self.hold(monitor);
        }
        is_free
    }

    /// Whether a server or the mailbox of a monitor has as many tests as it may.
    fn is_full(&self, monitor: &MonitorId) -> bool {
        let limits = [self.limits.per_server, self.limits.per_server, self.limits.per_mailbox];
        let mut limited = self.of.get(monitor).into_iter().flatten().zip(limits);
        limited.any(|(key, limit)| limit.is_some_and(|limit| self.taken.get(key).copied().unwrap_or(0) >= limit))
    }

    /// A test of this monitor runs, whether there is a place or not.
    fn hold(&mut self, monitor: &MonitorId) {
        for key in self.of.get(monitor).into_iter().flatten() {
            *self.taken.entry(key.clone()).or_default() += 1;
        }
        self.running += 1;
    }

    fn give_back(&mut self, monitor: &MonitorId) {
        self.running = self.running.saturating_sub(1);
        for key in self.of.get(monitor).into_iter().flatten() {
            if let Some(taken) = self.taken.get_mut(key) {
                *taken = taken.saturating_sub(1);
            }
        }
    }
}

/// The queue of starts. Of several entries of a monitor the one that `planned` names holds.
#[derive(Default)]
struct Queue {
    heap: BinaryHeap<Reverse<(UtcMicros, MonitorId)>>,
    planned: HashMap<MonitorId, UtcMicros>,
}

impl Queue {
    fn plan(&mut self, monitor: &MonitorId, at: UtcMicros) {
        self.planned.insert(monitor.clone(), at);
        self.heap.push(Reverse((at, monitor.clone())));
    }

    /// Brings a start forward, or leaves it.
    fn plan_earlier(&mut self, monitor: &MonitorId, at: UtcMicros) {
        if self.planned.get(monitor).is_some_and(|planned| at < *planned) {
            self.plan(monitor, at);
        }
    }

    /// The next start that is due.
    fn pop(&mut self, now: UtcMicros) -> Option<(UtcMicros, MonitorId)> {
        while let Some(Reverse((at, monitor))) = self.heap.peek() {
            if self.planned.get(monitor) != Some(at) {
                self.heap.pop();
                continue;
            }
            if *at > now {
                return None;
            }
            return self.heap.pop().map(|Reverse(entry)| entry);
        }
        None
    }

    fn next(&self) -> Option<UtcMicros> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}

/// Starts tests until `stop` becomes `true`, and waits for those that run then: each records its sample before it ends.
pub async fn run(parts: Parts, mut configs: watch::Receiver<Arc<Config>>, mut stop: watch::Receiver<bool>) {
    let mut config = configs.borrow_and_update().clone();
    let mut queue = Queue::default();
    plan_all(&mut queue, &config, &parts.alarms);
    let mut places = Places::new(&config);
    let mut running: JoinSet<MonitorId> = JoinSet::new();
    let mut busy: HashMap<MonitorId, UtcMicros> = HashMap::new();
    let mut waiting: VecDeque<(UtcMicros, MonitorId)> = VecDeque::new();
    let mut looked = tokio::time::Instant::now();
    while !*stop.borrow() {
        let now = UtcMicros::now();
        while let Some((start, id)) = queue.pop(now) {
            let Some(monitor) = config.monitors.get(&id).filter(|monitor| monitor.enabled) else {
                queue.planned.remove(&id);
                continue;
            };
            // From now, not from the slot: what a suspended machine missed is not made up for.
            queue.plan(&id, next_after(&config, monitor, &parts.alarms, now));
            let may_overlap = monitor.overlap && !waiting.iter().any(|(_, waits)| *waits == id);
            if busy.contains_key(&id) && !may_overlap {
                parts.board.left_out.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(monitor = %id, "the test before is still running or waiting; this one is left out");
                continue;
            }
            busy.insert(id.clone(), start);
            if places.take(&id) {
                begin(&parts, &config, monitor, start, &mut running);
            } else {
                waiting.push_back((start, id));
            }
        }
        if !waiting.is_empty() && looked.elapsed() >= LOOK_THROUGH && places.running < config.limits.tests {
            looked = tokio::time::Instant::now();
            waiting.retain(|(start, id)| {
                let Some(monitor) = config.monitors.get(id).filter(|monitor| monitor.enabled) else {
                    busy.remove(id);
                    return false;
                };
                if !places.take(id) {
                    return true;
                }
                begin(&parts, &config, monitor, *start, &mut running);
                false
            });
        }
        parts.board.running.store(running.len() as u64, Ordering::Relaxed);
        parts.board.waiting.store(waiting.len() as u64, Ordering::Relaxed);
        let mut nap = queue
            .next()
            .map_or(LONGEST_NAP, |start| (start - UtcMicros::now()).to_std())
            .min(LONGEST_NAP);
        if !waiting.is_empty() {
            nap = nap.min(LOOK_THROUGH);
        }
        tokio::select! {
            // Of who is gone nothing more is heard, which would be heard at once and forever.
            Ok(()) = stop.changed() => {}
            Ok(()) = configs.changed() => {
                config = configs.borrow_and_update().clone();
                plan_all(&mut queue, &config, &parts.alarms);
                places = Places::new(&config);
                // What runs holds its place in the new order, too, even where there are fewer places.
                for id in busy.keys().filter(|id| !waiting.iter().any(|(_, waits)| waits == *id)) {
                    places.hold(id);
                }
                places.running = u32::try_from(running.len()).unwrap_or(u32::MAX);
            },
            Some(ended) = running.join_next(), if !running.is_empty() => match ended {
                Ok(id) => {
                    places.give_back(&id);
                    let started = busy.remove(&id);
                    plan_after(&mut queue, &config, &parts.alarms, &id, started);
                }
                Err(error) => {
                    // A test that fell over must not keep its monitor from being tested: start all who are not running anew.
                    tracing::error!("a test ended unexpectedly: {error}");
                    busy.clear();
                    waiting.clear();
                    places = Places::new(&config);
                    places.running = u32::try_from(running.len()).unwrap_or(u32::MAX);
                }
            },
            () = tokio::time::sleep(nap) => {}
        }
    }
    parts.tester.stop().await;
    let ended = tokio::time::timeout(ENDING, async { while running.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(tests = running.len(), "tests that run do not end, and are broken off");
    }
}

/// Plans every monitor that has no start yet, or another interval than before.
fn plan_all(queue: &mut Queue, config: &Config, alarms: &Alarms) {
    let now = UtcMicros::now();
    let mut fresh = 0;
    queue
        .planned
        .retain(|id, _| config.monitors.get(id).is_some_and(|monitor| monitor.enabled));
    for monitor in config.monitors.values().filter(|monitor| monitor.enabled) {
        let slot = next(config, monitor, now);
        // Who sets up a monitor wants to see it at once, not at its slot in an hour; ten thousand are spread over a minute.
        let start = if alarms.knows(&monitor.id) || monitor.calendar.is_some() {
            slot
        } else {
            fresh += 1;
            slot.min(now + Micros::from_millis(6 * (fresh - 1)))
        };
        match queue.planned.get(&monitor.id) {
            // Its slot is where it was, or it is tested sooner since it fails.
            Some(planned) if *planned <= start => {}
            // An open alarm has its tests further apart.
            Some(_) if retests_later(monitor) && alarms.is_in_alarm(&monitor.id) => {}
            _ => queue.plan(&monitor.id, start),
        }
    }
}

/// Plans the next test of a monitor whose test has ended, by its retest interval: a shorter one applies as soon as
/// a test fails, so that an alarm is raised sooner; a longer one while an alarm is open, so that a server that hangs
/// ties up less. After a good test the slots apply again.
fn plan_after(queue: &mut Queue, config: &Config, alarms: &Alarms, id: &MonitorId, started: Option<UtcMicros>) {
    let Some(monitor) = config.monitors.get(id).filter(|monitor| monitor.enabled) else {
        return;
    };
    let Some(interval) = monitor.retest_interval else {
        return;
    };
    let now = UtcMicros::now();
    let again = (started.unwrap_or(now) + interval).max(now);
    if retests_later(monitor) {
        if alarms.is_in_alarm(id) {
            queue.plan(id, again);
        } else {
            queue.plan_earlier(id, next(config, monitor, now));
        }
    } else if alarms.is_failing(id) {
        queue.plan_earlier(id, again);
    }
}

/// Whether the retest interval is longer than the time between two tests.
fn retests_later(monitor: &Monitor) -> bool {
    let slower = |interval: Micros| monitor.calendar.is_none() && interval > monitor.test_interval;
    monitor.retest_interval.is_some_and(slower)
}

/// The start after the one at `now`.
fn next_after(config: &Config, monitor: &Monitor, alarms: &Alarms, now: UtcMicros) -> UtcMicros {
    match monitor.retest_interval {
        Some(interval) if retests_later(monitor) && alarms.is_in_alarm(&monitor.id) => now + interval,
        _ => next(config, monitor, now),
    }
}

fn begin(parts: &Parts, config: &Config, monitor: &Monitor, start: UtcMicros, running: &mut JoinSet<MonitorId>) {
    parts.board.started.fetch_add(1, Ordering::Relaxed);
    let mut monitor = monitor.clone();
    if monitor.calendar.is_some() {
        // What "three test intervals" refers to: the gap that follows.
        monitor.test_interval = next(config, &monitor, UtcMicros::now()) - start;
    }
    running.spawn(one(
        monitor,
        start,
        Arc::clone(&parts.board),
        Arc::clone(&parts.tester),
        parts.alarms.clone(),
        Arc::clone(&parts.observed),
        Arc::clone(&parts.certificates),
    ));
}

async fn one(
    monitor: Monitor,
    start: UtcMicros,
    board: Arc<Board>,
    tester: Arc<Tester>,
    alarms: Alarms,
    observed: Arc<Observed>,
    certificates: Arc<Certificates>,
) -> MonitorId {
    let now = UtcMicros::now();
    board.begun(&monitor.id, now - start);
    if alarms.is_paused(&monitor.id, now) {
        return monitor.id;
    }
    let excluded = alarms.excluded(&monitor.id, now);
    let result = tester.test_as(&monitor, excluded).await;
    let sample = &result.sample;
    tracing::info!(
        monitor = %sample.monitor,
        outcome = %sample.outcome,
        round_trip = RoundTrip::of(sample).map(|round_trip| format!("{round_trip:#}")),
        error = sample.error.as_deref(),
        "tested"
    );
    observed.count(sample);
    certificates.look(&monitor, sample);
    alarms.tested(&monitor, sample).await;
    monitor.id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(limits: &str) -> Config {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        let mut text = format!(
            "site = \"here\"\nlimits = {{ {limits} }}\n[defaults]\nfrom = \"a@b.example\"\nto = \"a@b.example\"\nsmtp = {{}}\n\
             [account.a]\nuser = \"a\"\npassword = {{ env = \"X\" }}\n[account.b]\nuser = \"b\"\npassword = {{ env = \"X\" }}\n\
             [object.o]\naddress = \"one.example\"\n[object.p]\naddress = \"two.example\"\n"
        );
        for number in 0..6 {
            let object = if number < 4 { "o" } else { "p" };
            let account = if number < 2 { "a" } else { "b" };
            text.push_str(&format!(
                "[monitor.m{number}]\nobject = \"{object}\"\npickup = {{ account = \"{account}\" }}\n"
            ));
        }
        std::fs::write(&path, text).expect("write");
        mailqos_core::config::load(&path).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn id(number: usize) -> MonitorId {
        format!("m{number}").parse().expect("a name")
    }

    fn taken(limits: &str) -> Vec<usize> {
        let mut places = Places::new(&config(limits));
        (0..6).filter(|number| places.take(&id(*number))).collect()
    }

    #[test]
    fn limits_hold_in_all_by_server_and_by_mailbox() {
        assert_eq!(taken("tests = 4"), [0, 1, 2, 3]);
        assert_eq!(taken("per_server = 3"), [0, 1, 2, 4, 5]);
        assert_eq!(taken("per_mailbox = 1"), [0, 2, 4]);
        let mut places = Places::new(&config("per_mailbox = 1"));
        assert!(places.take(&id(0)) && !places.take(&id(1)));
        places.give_back(&id(0));
        assert!(places.take(&id(1)));
        // Two run already when the limit comes down to one: both have to end.
        let mut places = Places::new(&config("per_mailbox = 1"));
        places.hold(&id(0));
        places.hold(&id(1));
        places.give_back(&id(0));
        assert!(!places.take(&id(0)));
        places.give_back(&id(1));
        assert!(places.take(&id(0)));
    }

    #[test]
    fn a_start_that_is_brought_forward_comes_once() {
        let mut queue = Queue::default();
        queue.plan(&id(0), UtcMicros(100));
        queue.plan_earlier(&id(0), UtcMicros(50));
        queue.plan_earlier(&id(0), UtcMicros(70));
        assert_eq!(queue.pop(UtcMicros(49)), None);
        assert_eq!(queue.pop(UtcMicros(200)), Some((UtcMicros(50), id(0))));
        queue.plan(&id(0), UtcMicros(300));
        assert_eq!(queue.pop(UtcMicros(299)), None);
        assert_eq!(queue.pop(UtcMicros(300)), Some((UtcMicros(300), id(0))));
    }
}
