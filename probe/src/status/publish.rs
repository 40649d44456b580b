//! Publishes the probe's status for other programs, at most every few seconds.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use mailqos_base::clock::Now;
use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{Config, DataLocation, Monitor};
use mailqos_lake::{
    AcknowledgementStatus, AlarmStatus, ChannelStatus, LastTest, MaintenanceStatus, MonitorState, MonitorStatus,
    ProbeStatus, STATUS_VERSION, Status,
};
use mailqos_model::{Micros, UtcMicros};

use super::StateWord;
use crate::{
    alarm::{OpenAlarm, State},
    control::Live,
    maintenance::Open,
    schedule,
};

/// Shortest time between two writes.
const MIN_PAUSE: Duration = Duration::from_secs(3);
/// Longest time between two writes, in seconds: an unchanged status is written again for its time.
const INTERVAL_S: u32 = 15;
/// The pause is at least this many times the duration of the last write.
const PAUSE_PER_WRITE: u32 = 50;

/// The folder in which the status is published: that of the day files on this machine.
fn folder(config: &Config) -> PathBuf {
    match &config.data {
        DataLocation::Folder(folder) => folder.clone(),
        DataLocation::ObjectStore(_) => config.state.join("lake"),
    }
}

/// Publishes the status of a running probe until it is aborted.
pub async fn publish(live: Arc<Live>) {
    let interval = Duration::from_secs(INTERVAL_S.into());
    let mut published: Option<(Status, Instant)> = None;
    let mut problem: Option<String> = None;
    loop {
        let began = Instant::now();
        let at = Arc::clone(&live);
        let written = tokio::task::spawn_blocking(move || {
            // A write may still be under way when the probe stops and publishes its last status.
            let stopped = at.observed.stopped.lock().ignore_poison();
            if *stopped {
                return (published, None);
            }
            let status = status(&at, true);
            let is_due = published.as_ref().is_none_or(|(old, written)| {
                // The next wake-up may be `MIN_PAUSE` away.
                written.elapsed() + MIN_PAUSE >= interval || !is_same(old, &status)
            });
            if !is_due {
                return (published, None);
            }
            match status.publish(&folder(&at.config())) {
                Ok(()) => (Some((status, began)), None),
                Err(error) => (published, Some(error.to_string())),
            }
        });
        let failure;
        (published, failure) = written.await.unwrap_or_else(|error| (None, Some(error.to_string())));
        if let Some(error) = failure.as_ref().filter(|error| Some(*error) != problem.as_ref()) {
            tracing::warn!(%error, "can't publish the status; other programs show it as stale");
        }
        problem = failure;
        let pause = (began.elapsed() * PAUSE_PER_WRITE).clamp(MIN_PAUSE, interval);
        tokio::time::sleep(pause).await;
    }
}

/// Publishes the last status before a planned stop.
pub async fn publish_stop(live: Arc<Live>) {
    let written = tokio::task::spawn_blocking(move || {
        let mut stopped = live.observed.stopped.lock().ignore_poison();
        *stopped = true;
        status(&live, false).publish(&folder(&live.config()))
    });
    if let Err(error) = written.await.map_err(std::io::Error::other).and_then(|written| written) {
        tracing::warn!(%error, "can't publish the status at the stop");
    }
}

/// Whether nothing but the time of writing differs.
fn is_same(old: &Status, new: &Status) -> bool {
    old.site == new.site && old.probe == new.probe && old.monitors == new.monitors && old.channels == new.channels
}

/// The status now.
fn status(live: &Live, running: bool) -> Status {
    let now = live.alarms.clock().now();
    let config = live.config();
    let (states, alarms) = (live.alarms.states(), live.alarms.open_alarms());
    let monitors = config.monitors.values().map(|monitor| {
        let maintenance = live.maintenance.open_for(&monitor.id, now.wall);
        let found = (states.get(&monitor.id), alarms.get(&monitor.id), maintenance);
        monitor_status(&config, monitor, found, now)
    });
    let channels = live.alarms.channels().into_iter().map(|(name, channel)| {
        let channel = ChannelStatus {
            failures: channel.failures,
            accepted_at: channel.accepted_at.map(UtcMicros::timestamp),
            failed_at: channel.failed_at.map(UtcMicros::timestamp),
            error: channel.error,
        };
        (name, channel)
    });
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    Status {
        version: STATUS_VERSION,
        site: config.site.clone(),
        written_at: now.wall.timestamp(),
        interval_s: INTERVAL_S,
        probe: ProbeStatus {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            running,
            started: count(&live.board.started),
            late: count(&live.board.late),
            skipped: count(&live.board.left_out),
            recorder_problem: live.recorder.health().problem,
            metrics_problem: live.observed.metrics_problem(),
        },
        monitors: monitors.collect(),
        channels: channels.collect(),
    }
}

/// The status of one monitor.
fn monitor_status(
    config: &Config,
    monitor: &Monitor,
    (state, alarm, maintenance): (Option<&State>, Option<&OpenAlarm>, Option<Open>),
    now: Now,
) -> MonitorStatus {
    let time = |at: Option<UtcMicros>| at.map(UtcMicros::timestamp);
    let last = state.and_then(|state| state.last.as_ref()).map(|last| LastTest {
        started_at: last.started_at.timestamp(),
        outcome: last.outcome.as_str().to_owned(),
        round_trip_us: last.round_trip.map(|Micros(micros)| micros),
        round_trip_error_us: last.round_trip_error.map(|Micros(micros)| micros),
    });
    MonitorStatus {
        id: monitor.id.clone(),
        name: monitor.name.clone(),
        object: monitor.object.clone(),
        state: StateWord::of(monitor, state, maintenance.is_some(), now).into(),
        failing_since: time(state.and_then(|state| state.failing_since)),
        failures: state.map_or(0, |state| state.failures),
        reason: state
            .filter(|state| state.failures > 0)
            .and_then(|state| state.reason.clone()),
        last,
        last_ok: time(state.and_then(|state| state.last_ok)),
        next: monitor
            .enabled
            .then(|| schedule::next(config, monitor, now.wall).timestamp()),
        alarm: alarm.map(|alarm| AlarmStatus {
            since: alarm.since.timestamp(),
            notified_at: time(alarm.notified_at),
            acknowledged: alarm.acknowledged.as_ref().map(|ack| AcknowledgementStatus {
                by: ack.by.clone(),
                at: ack.at.timestamp(),
                note: ack.note.clone(),
            }),
        }),
        maintenance: maintenance.map(|open| MaintenanceStatus {
            name: open.name,
            until: open.until.timestamp(),
            reason: open.reason,
        }),
    }
}

impl From<StateWord> for MonitorState {
    fn from(word: StateWord) -> Self {
        match word {
            StateWord::Alarm => Self::Alarm,
            StateWord::Failed => Self::Failed,
            StateWord::Unknown => Self::Unknown,
            StateWord::Maintenance => Self::Maintenance,
            StateWord::Ok => Self::Ok,
            StateWord::Disabled => Self::Disabled,
        }
    }
}
