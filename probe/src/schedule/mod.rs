//! Starts tests: each monitor has a fixed slot in its interval, or the times of its calendar, which
//! are the same after every restart. Tests of one monitor don't overlap by default, and limits cap
//! the number of simultaneous tests.
//!
//! A custom timer queue contains all of them: tokio-cron-scheduler drops jobs when ten thousand are
//! due in one tick, checks twice per second, and reads a zone's UTC offset only when a job is
//! created, so that it would miss daylight-saving changes.

mod certificates;
mod queue;
mod slot;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mailqos_base::clock::{Clock, MonotonicTime, Now};
use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{Config, Endpoint, Monitor};
use mailqos_model::{Micros, MonitorId, RoundTrip, UtcMicros};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    alarm::Alarms,
    status::{Histogram, Observed},
    tester::Tester,
};

pub use certificates::Certificates;
use queue::Queue;

/// Maximum time between clock checks, so that clock steps are noticed.
const MAX_NAP: Duration = Duration::from_millis(500);
/// Delay above which a start counts as late.
const LATE: Micros = Micros::from_millis(1000);
/// Minimum interval between scans of the tests that wait for a free slot.
const LOOK_THROUGH: Duration = Duration::from_millis(10);
/// Time that running tests have to finish when the probe is stopped: checking the network, or a
/// slow disk.
const ENDING: Duration = Duration::from_secs(10);

/// Status of the scheduler.
#[derive(Debug, Default)]
pub struct Board {
    /// Number of tests that were started.
    pub started: AtomicU64,
    /// Number of tests that were started late.
    pub late: AtomicU64,
    /// Number of tests that were skipped because the previous one was still running or waiting.
    pub left_out: AtomicU64,
    /// Number of running tests.
    pub running: AtomicU64,
    /// Number of tests waiting for a slot.
    pub waiting: AtomicU64,
    /// Delays of the starts of tests.
    pub lateness: Mutex<Histogram>,
    /// Time of the last check for tests to start.
    beat: Mutex<Option<std::time::Instant>>,
}

impl Board {
    /// Records a check for tests to start.
    fn beat(&self) {
        let mut beat = self.beat.lock().ignore_poison();
        *beat = Some(std::time::Instant::now());
    }

    /// Returns whether due tests were started within this time, by a clock that stops while the
    /// machine is suspended, like the service manager's watchdog.
    pub fn is_alive(&self, within: Duration) -> bool {
        let beat = self.beat.lock().ignore_poison();
        beat.is_some_and(|beat| beat.elapsed() < within)
    }

    /// Records the start of a test with its delay, including the time waiting for a worker thread.
    fn begun(&self, monitor: &MonitorId, lateness: Micros) {
        self.lateness.lock().ignore_poison().count(lateness);
        if lateness > LATE {
            let late = self.late.fetch_add(1, Ordering::Relaxed) + 1;
            if late.is_power_of_two() {
                tracing::warn!(late, %monitor, by = %lateness, "test started late: the probe is overloaded, has reached a limit, or was suspended");
            }
        }
    }
}

/// Components that run tests for the scheduler.
pub struct Parts {
    /// Runs the tests.
    pub tester: Arc<Tester>,
    /// Receives the samples.
    pub alarms: Alarms,
    /// Status of the scheduler.
    pub board: Arc<Board>,
    /// Counts each sample, for the status and metrics.
    pub observed: Arc<Observed>,
    /// Checks the certificates.
    pub certificates: Arc<Certificates>,
}

/// Returns the next start of a monitor after `now`.
pub fn next(config: &Config, monitor: &Monitor, now: UtcMicros) -> UtcMicros {
    match &monitor.calendar {
        // A calendar without any time is rejected earlier; one without further times is checked
        // again in a year.
        Some(calendar) => {
            calendar.next(now).unwrap_or_else(|| now + Micros::from_secs(365 * 86_400))
        }
        None => slot::next(&config.site, monitor, now),
    }
}

/// A resource that limits simultaneous tests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    /// An SMTP or mailbox server.
    Server(String),
    /// A mailbox.
    Mailbox(String),
}

/// Number of running tests, in total and per server and mailbox.
struct Places {
    limits: mailqos_config::Limits,
    of: HashMap<MonitorId, Vec<Place>>,
    taken: HashMap<Place, u32>,
    running: u32,
}

impl Places {
    fn new(config: &Config) -> Self {
        let of = config.monitors.values().map(|monitor| {
            let smtp = monitor.kind.smtp();
            let smtp =
                smtp.map(|smtp| Place::Server(format!("smtp {}:{}", smtp.server, smtp.port)));
            let pickup = monitor.kind.pickup().map(|pickup| {
                let Endpoint { server, port, account, .. } = pickup.endpoint;
                let account = account.as_ref().map_or("", |account| account.as_str());
                [
                    Place::Server(format!("pickup {server}:{port}")),
                    Place::Mailbox(format!("{server}:{port} {account}")),
                ]
            });
            let keys = smtp.into_iter().chain(pickup.into_iter().flatten());
            (monitor.id.clone(), keys.collect())
        });
        Self { limits: config.limits, of: of.collect(), taken: HashMap::new(), running: 0 }
    }

    /// Takes the slots of a test, if they are free.
    fn take(&mut self, monitor: &MonitorId) -> bool {
        let is_free = self.running < self.limits.tests
            && self.of.contains_key(monitor)
            && !self.is_full(monitor);
        if is_free {
            self.hold(monitor);
        }
        is_free
    }

    /// Returns whether the monitor's server or mailbox has the maximum number of tests.
    fn is_full(&self, monitor: &MonitorId) -> bool {
        let mut places = self.of.get(monitor).into_iter().flatten();
        places.any(|place| {
            let limit = match place {
                Place::Server(_) => self.limits.per_server,
                Place::Mailbox(_) => self.limits.per_mailbox,
            };
            limit.is_some_and(|limit| self.taken.get(place).copied().unwrap_or(0) >= limit)
        })
    }

    /// Counts a running test of this monitor, even if no slot is free.
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

/// State of the scheduler between starts of tests.
struct Scheduler {
    parts: Parts,
    clock: Clock,
    config: Arc<Config>,
    queue: Queue,
    places: Places,
    running: JoinSet<MonitorId>,
    /// Monitors that are being tested or are waiting for a slot, with the time since when.
    busy: HashMap<MonitorId, MonotonicTime>,
    waiting: VecDeque<(MonotonicTime, MonitorId)>,
    looked: tokio::time::Instant,
}

/// Starts tests until `stop` becomes `true`, and then waits for the running ones. Each records its
/// sample before it ends.
pub async fn run(
    parts: Parts,
    mut configs: watch::Receiver<Arc<Config>>,
    mut stop: watch::Receiver<bool>,
) {
    let config = configs.borrow_and_update().clone();
    let mut scheduler = Scheduler {
        clock: parts.alarms.clock().clone(),
        places: Places::new(&config),
        queue: Queue::default(),
        running: JoinSet::new(),
        busy: HashMap::new(),
        waiting: VecDeque::new(),
        looked: tokio::time::Instant::now(),
        parts,
        config,
    };
    scheduler.plan_all();
    while !*stop.borrow() {
        scheduler.start_what_is_due();
        let nap = scheduler.nap();
        tokio::select! {
            // Branches of dropped senders are disabled: they would return immediately, forever.
            Ok(()) = stop.changed() => {}
            Ok(()) = configs.changed() => {
                let config = configs.borrow_and_update().clone();
                scheduler.reload(config);
            }
            Some(ended) = scheduler.running.join_next(), if !scheduler.running.is_empty() => scheduler.ended(ended),
            () = tokio::time::sleep(nap) => {}
        }
    }
    scheduler.parts.tester.stop().await;
    let mut running = scheduler.running;
    let ended =
        tokio::time::timeout(ENDING, async { while running.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(tests = running.len(), "running tests did not finish; aborted");
    }
}

impl Scheduler {
    fn start_what_is_due(&mut self) {
        self.parts.board.beat();
        let now = self.clock.now();
        let config = Arc::clone(&self.config);
        self.queue.follow(&config, now);
        while let Some((id, start)) = self.queue.pop(now) {
            let Some(monitor) = config.monitors.get(&id).filter(|monitor| monitor.enabled) else {
                self.queue.forget(&id);
                continue;
            };
            if self.queue.put_off(&config, monitor, start, now) {
                continue;
            }
            if monitor.calendar.is_some() {
                self.queue.take(&id, start.moment);
            }
            // From now, not from the slot: starts missed during a suspension are not made up for.
            self.queue.plan(&id, self.following(monitor, start, now));
            let may_overlap =
                monitor.overlap && !self.waiting.iter().any(|(_, waits)| *waits == id);
            if self.busy.contains_key(&id) && !may_overlap {
                self.parts.board.left_out.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(monitor = %id, "test skipped: the previous one is still running or waiting");
                continue;
            }
            self.busy.insert(id.clone(), start.at);
            if self.places.take(&id) {
                self.begin(monitor, start.at);
            } else {
                self.waiting.push_back((start.at, id));
            }
        }
        self.start_those_that_wait();
        let (running, waiting) = (self.running.len() as u64, self.waiting.len() as u64);
        self.parts.board.running.store(running, Ordering::Relaxed);
        self.parts.board.waiting.store(waiting, Ordering::Relaxed);
    }

    fn start_those_that_wait(&mut self) {
        if self.waiting.is_empty()
            || self.looked.elapsed() < LOOK_THROUGH
            || self.places.running >= self.config.limits.tests
        {
            return;
        }
        self.looked = tokio::time::Instant::now();
        let config = Arc::clone(&self.config);
        for (start, id) in std::mem::take(&mut self.waiting) {
            let Some(monitor) = config.monitors.get(&id).filter(|monitor| monitor.enabled) else {
                self.busy.remove(&id);
                continue;
            };
            if self.places.take(&id) {
                self.begin(monitor, start);
            } else {
                self.waiting.push_back((start, id));
            }
        }
    }

    /// Returns the time until the next event.
    fn nap(&self) -> Duration {
        let now = self.clock.now();
        let next = self.queue.next();
        let nap = next.map_or(MAX_NAP, |start| (start - now.steady).to_std());
        let most = if self.waiting.is_empty() { MAX_NAP } else { LOOK_THROUGH };
        nap.min(most)
    }

    fn reload(&mut self, config: Arc<Config>) {
        self.config = config;
        self.plan_all();
        self.places = Places::new(&self.config);
        // Running tests keep their slots under the new limits, even if those are lower.
        let waits = |id: &MonitorId| self.waiting.iter().any(|(_, waits)| waits == id);
        for id in self.busy.keys().filter(|id| !waits(id)) {
            self.places.hold(id);
        }
        self.places.running = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
    }

    fn ended(&mut self, ended: Result<MonitorId, tokio::task::JoinError>) {
        match ended {
            Ok(id) => {
                self.places.give_back(&id);
                let started = self.busy.remove(&id);
                self.plan_after(&id, started);
            }
            Err(error) => {
                // A crashed test must not keep its monitor from being tested, so all monitors that
                // are not running may start again.
                tracing::error!(%error, "a test aborted");
                self.busy.clear();
                self.waiting.clear();
                self.places = Places::new(&self.config);
                self.places.running = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
            }
        }
    }

    /// Plans every monitor without a start or with a changed interval.
    fn plan_all(&mut self) {
        let now = self.clock.now();
        let (config, alarms) = (Arc::clone(&self.config), &self.parts.alarms);
        let mut fresh = 0;
        self.queue.retain(|id| config.monitors.get(id).is_some_and(|monitor| monitor.enabled));
        for monitor in config.monitors.values().filter(|monitor| monitor.enabled) {
            let taken = self.queue.taken(&monitor.id);
            let taken = taken
                .or_else(|| alarms.last_start(&monitor.id).filter(|_| monitor.calendar.is_some()));
            let mut start = queue::first(&config, monitor, taken, now);
            // A newly added monitor is tested immediately, not at its slot in an hour; ten thousand
            // are spread over a minute.
            if !alarms.knows(&monitor.id) && monitor.calendar.is_none() {
                fresh += 1;
                let soon = now.wall + Micros::from_millis(6 * (fresh - 1));
                if soon < start.moment {
                    start = queue::Start::new(soon, now);
                }
            }
            match self.queue.planned(&monitor.id) {
                // Its slot is unchanged, or it is tested sooner because it fails.
                Some(planned) if planned.at <= start.at => {}
                // An open alarm increases the time between its tests.
                Some(_) if retests_later(monitor) && alarms.is_in_alarm(&monitor.id) => {}
                _ => self.queue.plan(&monitor.id, start),
            }
        }
    }

    /// Plans the next test of a monitor after a test has ended, by its retest interval. A shorter
    /// one applies as soon as a test fails, so that an alarm is raised sooner. A longer one applies
    /// while an alarm is open, so that a server that hangs ties up less. After a successful test,
    /// the slots apply again.
    fn plan_after(&mut self, id: &MonitorId, started: Option<MonotonicTime>) {
        let config = Arc::clone(&self.config);
        let Some(monitor) = config.monitors.get(id).filter(|monitor| monitor.enabled) else {
            return;
        };
        let Some(interval) = monitor.retest_interval else {
            return;
        };
        let (now, alarms) = (self.clock.now(), &self.parts.alarms);
        let again = (started.unwrap_or(now.steady) + interval).max(now.steady);
        if retests_later(monitor) {
            if alarms.is_in_alarm(id) {
                self.queue.plan(id, queue::Start::at(again, now));
            } else {
                let slot = queue::first(&config, monitor, None, now);
                self.queue.plan_earlier(id, slot.at, now);
            }
        } else if alarms.is_failing(id) {
            self.queue.plan_earlier(id, again, now);
        }
    }

    /// Returns the start after the one that is due now.
    fn following(&self, monitor: &Monitor, due: queue::Start, now: Now) -> queue::Start {
        match monitor.retest_interval {
            Some(interval)
                if retests_later(monitor) && self.parts.alarms.is_in_alarm(&monitor.id) =>
            {
                queue::Start::at(now.steady + interval, now)
            }
            _ => queue::following(&self.config, monitor, due, now),
        }
    }

    fn begin(&mut self, monitor: &Monitor, start: MonotonicTime) {
        self.parts.board.started.fetch_add(1, Ordering::Relaxed);
        let mut monitor = monitor.clone();
        if monitor.calendar.is_some() {
            // The gap that follows, to which "three test intervals" refers.
            let now = self.clock.now();
            let gap = next(&self.config, &monitor, now.wall) - now.wall_at(start);
            monitor.test_interval = gap.max(Micros::from_secs(1));
        }
        let test = Test {
            monitor,
            start,
            clock: self.clock.clone(),
            board: Arc::clone(&self.parts.board),
            tester: Arc::clone(&self.parts.tester),
            alarms: self.parts.alarms.clone(),
            observed: Arc::clone(&self.parts.observed),
            certificates: Arc::clone(&self.parts.certificates),
        };
        self.running.spawn(test.run());
    }
}

/// Returns whether the retest interval is longer than the time between two tests.
fn retests_later(monitor: &Monitor) -> bool {
    let slower = |interval: Micros| monitor.calendar.is_none() && interval > monitor.test_interval;
    monitor.retest_interval.is_some_and(slower)
}

/// A started test.
struct Test {
    monitor: Monitor,
    start: MonotonicTime,
    clock: Clock,
    board: Arc<Board>,
    tester: Arc<Tester>,
    alarms: Alarms,
    observed: Arc<Observed>,
    certificates: Arc<Certificates>,
}

impl Test {
    async fn run(self) -> MonitorId {
        let Self { monitor, alarms, .. } = self;
        let now = self.clock.now();
        self.board.begun(&monitor.id, now.steady - self.start);
        if alarms.is_paused(&monitor.id, now.wall) {
            return monitor.id;
        }
        let excluded = alarms.excluded(&monitor.id, now);
        let result = self.tester.test_as(&monitor, excluded).await;
        let sample = &result.sample;
        tracing::info!(
            monitor = %sample.monitor,
            outcome = %sample.outcome,
            round_trip = RoundTrip::of(sample).map(|round_trip| format!("{round_trip:#}")),
            error = sample.error.as_deref(),
            "tested"
        );
        self.observed.count(sample);
        self.certificates.look(&monitor, sample);
        alarms.tested(&monitor, sample, now.steady).await;
        monitor.id
    }
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
        mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn id(number: usize) -> MonitorId {
        format!("m{number}").parse().expect("a name")
    }

    fn taken(limits: &str) -> Vec<usize> {
        let mut places = Places::new(&config(limits));
        (0..6).filter(|number| places.take(&id(*number))).collect()
    }

    #[test]
    fn limits_apply_in_total_per_server_and_per_mailbox() {
        assert_eq!(taken("tests = 4"), [0, 1, 2, 3]);
        assert_eq!(taken("per_server = 3"), [0, 1, 2, 4, 5]);
        assert_eq!(taken("per_mailbox = 1"), [0, 2, 4]);
        let mut places = Places::new(&config("per_mailbox = 1"));
        assert!(places.take(&id(0)) && !places.take(&id(1)));
        places.give_back(&id(0));
        assert!(places.take(&id(1)));
        // Two tests are already running when the limit is reduced to one; both have to end.
        let mut places = Places::new(&config("per_mailbox = 1"));
        places.hold(&id(0));
        places.hold(&id(1));
        places.give_back(&id(0));
        assert!(!places.take(&id(0)));
        places.give_back(&id(1));
        assert!(places.take(&id(0)));
    }

    #[test]
    fn a_probe_is_alive_as_long_as_it_checks_for_due_tests() {
        let board = Board::default();
        let long = Duration::from_secs(3600);
        assert!(!board.is_alive(long), "it has not begun yet");
        board.beat();
        assert!(board.is_alive(long));
        std::thread::sleep(Duration::from_millis(5));
        assert!(!board.is_alive(Duration::from_millis(2)));
    }
}
