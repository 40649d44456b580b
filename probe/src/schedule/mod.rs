//! When a test starts: each monitor on a slot of its own, the same after every restart, never two tests of one monitor at once.

mod slot;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
    time::Duration,
};

use mailqos_core::{
    config::{Config, Monitor},
    model::{Micros, MonitorId, UtcMicros},
};
use tokio::{sync::watch, task::JoinSet};

use crate::{alarm::Alarms, mailqos::Tester};

/// How many tests run at once at the most; a start that finds no place waits for one.
const MAX_RUNNING: usize = 4096;
/// The clock is looked at least this often, so that a step of it is noticed.
const LONGEST_NAP: Duration = Duration::from_millis(500);
/// A start later than this is counted as late.
const LATE: Micros = Micros::from_millis(1000);

/// Starts tests until `stop` becomes `true`; tests that run then are told by the tester.
pub async fn run(config: &Arc<Config>, tester: &Arc<Tester>, alarms: &Alarms, mut stop: watch::Receiver<bool>) {
    let mut due: BinaryHeap<Reverse<(UtcMicros, MonitorId)>> = BinaryHeap::new();
    let now = UtcMicros::now();
    let mut fresh = 0;
    for monitor in config.monitors.values().filter(|monitor| monitor.enabled) {
        let slot = slot::next(&config.site, monitor, now);
        // Who sets up a monitor wants to see it at once, not at its slot in an hour; ten thousand are spread over a minute.
        let start = if alarms.knows(&monitor.id) {
            slot
        } else {
            fresh += 1;
            slot.min(now + Micros::from_millis(6 * (fresh - 1)))
        };
        due.push(Reverse((start, monitor.id.clone())));
    }
    let mut running: JoinSet<MonitorId> = JoinSet::new();
    let mut busy: HashMap<MonitorId, UtcMicros> = HashMap::new();
    let mut late: u64 = 0;
    while !*stop.borrow() {
        let now = UtcMicros::now();
        while running.len() < MAX_RUNNING
            && due.peek().is_some_and(|Reverse((start, _))| *start <= now)
            && let Some(Reverse((start, id))) = due.pop()
        {
            let Some(monitor) = config.monitors.get(&id) else {
                continue;
            };
            // From now, not from the slot: what a suspended machine missed is not made up for.
            due.push(Reverse((slot::next(&config.site, monitor, now), id.clone())));
            if let Some(since) = busy.get(&id) {
                tracing::debug!(monitor = %id, %since, "the test before is still running; this one is left out");
                continue;
            }
            if now - start > LATE {
                late += 1;
                if late.is_power_of_two() {
                    tracing::warn!(late, monitor = %id, by = %(now - start), "a test starts late: the probe is overloaded, or was suspended");
                }
            }
            busy.insert(id, now);
            running.spawn(one(monitor.clone(), Arc::clone(tester), alarms.clone()));
        }
        let nap = due
            .peek()
            .filter(|_| running.len() < MAX_RUNNING)
            .map_or(LONGEST_NAP, |Reverse((start, _))| (*start - UtcMicros::now()).to_std());
        tokio::select! {
            _ = stop.changed() => {}
            Some(ended) = running.join_next(), if !running.is_empty() => match ended {
                Ok(id) => {
                    busy.remove(&id);
                }
                Err(error) => {
                    // A test that fell over must not keep its monitor from being tested: start all who are not running anew.
                    tracing::error!("a test ended unexpectedly: {error}");
                    busy.clear();
                }
            },
            () = tokio::time::sleep(nap.min(LONGEST_NAP)) => {}
        }
    }
    // The tester ends them; their samples are recorded as they end.
    tokio::spawn(async move { while running.join_next().await.is_some() {} });
}

async fn one(monitor: Monitor, tester: Arc<Tester>, alarms: Alarms) -> MonitorId {
    let excluded = alarms.excluded(&monitor.id, UtcMicros::now());
    let result = tester.test_as(&monitor, excluded).await;
    let sample = &result.sample;
    tracing::info!(
        monitor = %sample.monitor,
        outcome = %sample.outcome,
        round_trip_ms = sample.round_trip.map(|time| (time.as_millis_f64() * 10.0).round() / 10.0),
        error = sample.error.as_deref(),
        "tested"
    );
    alarms.tested(&monitor, sample).await;
    monitor.id
}
