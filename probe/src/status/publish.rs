//! Publishes the probe's status for other programs: in a folder at most every few seconds, in an
//! object store at most every minute.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use mailqos_base::clock::Now;
use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{Config, DataLocation, Monitor};
use mailqos_control::StateWord;
use mailqos_lake::{
    AcknowledgementStatus, AlarmStatus, ChannelStatus, LastTest, MaintenanceStatus, MonitorState,
    MonitorStatus, ProbeStatus, Remote, STATUS_VERSION, Status, local_folder,
};
use mailqos_model::{Micros, UtcMicros};

use super::state_of;
use crate::{
    alarm::{OpenAlarm, State, is_own},
    control::RunningProbe,
    maintenance::Open,
    record::open_store,
    schedule,
};

/// Shortest time between two writes.
const MIN_PAUSE: Duration = Duration::from_secs(3);
/// Longest time between two writes in seconds; an unchanged status is written again to update its
/// time.
const INTERVAL_S: u32 = 15;
/// The pause is at least this many times the duration of the last write.
const PAUSE_PER_WRITE: u32 = 50;
/// Average rate of writes, in bytes per second: the status of 10,000 monitors has up to 3.9 MB.
const MAX_RATE: u32 = 256 << 10;
/// Shortest time between two uploads to an object store, which charges for each.
const MIN_UPLOAD_PAUSE: Duration = Duration::from_secs(60);
/// Longest time between two uploads, in seconds.
const UPLOAD_INTERVAL_S: u32 = 300;
/// Deadline of an upload.
const UPLOAD_DEADLINE: Duration = Duration::from_secs(30);
/// Deadline of the last upload before a planned stop.
const LAST_UPLOAD_DEADLINE: Duration = Duration::from_secs(5);

/// Publishes the status of a running probe until it is aborted.
pub async fn publish(live: Arc<RunningProbe>) {
    tokio::join!(write(Arc::clone(&live)), upload(live));
}

/// A published status, with its time and its size in bytes.
struct Published {
    status: Status,
    at: Instant,
    size: usize,
}

impl Published {
    /// Returns whether a newer status should replace it: it has changed, or would be older than its
    /// interval at the next opportunity, which is `pause` away.
    fn is_due(&self, new: &Status, pause: Duration) -> bool {
        let interval = Duration::from_secs(self.status.interval_s.into());
        self.at.elapsed() + pause >= interval || !is_same(&self.status, new)
    }
}

/// Publishes the status in the folder of this machine.
async fn write(live: Arc<RunningProbe>) {
    let mut published: Option<Published> = None;
    let mut problem = Problem::default();
    loop {
        let began = Instant::now();
        let at = Arc::clone(&live);
        let written = tokio::task::spawn_blocking(move || write_once(&at, published));
        let failure;
        (published, failure) =
            written.await.unwrap_or_else(|error| (None, Some(error.to_string())));
        problem.note(failure);
        let size = published.as_ref().map_or(0, |published| published.size);
        let pause =
            (began.elapsed() * PAUSE_PER_WRITE).max(Duration::from_secs(size as u64) / MAX_RATE);
        tokio::time::sleep(pause.clamp(MIN_PAUSE, Duration::from_secs(INTERVAL_S.into()))).await;
    }
}

/// Writes the status if it is due. Returns the published status, and the reason if it can't be
/// written.
fn write_once(
    live: &RunningProbe,
    published: Option<Published>,
) -> (Option<Published>, Option<String>) {
    // A write may still be in progress when the probe stops and publishes its last status.
    let stopped = live.observed.stopped.lock().ignore_poison();
    let at = Instant::now();
    let status = status(live, true);
    if *stopped || published.as_ref().is_some_and(|old| !old.is_due(&status, MIN_PAUSE)) {
        return (published, None);
    }
    match status.publish(&local_folder(&live.config())) {
        Ok(size) => (Some(Published { status, at, size }), None),
        Err(error) => (published, Some(error.to_string())),
    }
}

/// Publishes the status in the object store if the lake is in one.
async fn upload(live: Arc<RunningProbe>) {
    // A reload can't move the lake.
    if !matches!(live.config().data, DataLocation::ObjectStore(_)) {
        return;
    }
    let mut store = Store::default();
    let mut published: Option<Published> = None;
    let mut problem = Problem::default();
    loop {
        let at = Arc::clone(&live);
        let status = tokio::task::spawn_blocking(move || uploaded_status(&at, true)).await;
        if let Ok(status) = status
            && published.as_ref().is_none_or(|old| old.is_due(&status, MIN_UPLOAD_PAUSE))
        {
            let at = Instant::now();
            let uploaded = store.upload(&live.config(), &status, UPLOAD_DEADLINE).await;
            if uploaded.is_ok() {
                published = Some(Published { status, at, size: 0 });
            }
            problem.note(uploaded.err());
        }
        tokio::time::sleep(MIN_UPLOAD_PAUSE).await;
    }
}

/// The object store of the lake, opened once for each configuration.
#[derive(Default)]
struct Store(Option<(Arc<Config>, Remote)>);

impl Store {
    /// Uploads a status. None is uploaded for a lake in a folder, or to a store that never replaces
    /// objects.
    async fn upload(
        &mut self,
        config: &Arc<Config>,
        status: &Status,
        deadline: Duration,
    ) -> Result<(), String> {
        let DataLocation::ObjectStore(address) = &config.data else {
            return Ok(());
        };
        let work = async {
            let remote = match self.0.take() {
                Some((known, remote)) if Arc::ptr_eq(&known, config) => remote,
                _ => open_store(config, address).await.map_err(|error| error.to_string())?,
            };
            if !remote.habits().write_once {
                // After a failure the store is opened again, because its key may have changed.
                status.upload(&remote).await.map_err(|error| error.to_string())?;
            }
            self.0 = Some((Arc::clone(config), remote));
            Ok(())
        };
        let late =
            |_| Err(format!("the object store did not answer within {} s", deadline.as_secs()));
        tokio::time::timeout(deadline, work).await.unwrap_or_else(late)
    }
}

fn uploaded_status(live: &RunningProbe, running: bool) -> Status {
    Status { interval_s: UPLOAD_INTERVAL_S, ..status(live, running) }
}

/// The reason why the status can't be published, which is logged once.
#[derive(Default)]
struct Problem(Option<String>);

impl Problem {
    fn note(&mut self, problem: Option<String>) {
        if let Some(error) = problem.as_ref().filter(|error| Some(*error) != self.0.as_ref()) {
            tracing::warn!(%error, "can't publish the status; other programs show it as stale");
        }
        self.0 = problem;
    }
}

/// Publishes the last status before a planned stop.
pub async fn publish_stop(live: Arc<RunningProbe>) {
    let at = Arc::clone(&live);
    let written = tokio::task::spawn_blocking(move || {
        let mut stopped = at.observed.stopped.lock().ignore_poison();
        *stopped = true;
        status(&at, false).publish(&local_folder(&at.config()))
    });
    let written = written.await.map_err(std::io::Error::other).and_then(|written| written);
    let last = uploaded_status(&live, false);
    let uploaded = Store::default().upload(&live.config(), &last, LAST_UPLOAD_DEADLINE).await;
    for error in
        [written.err().map(|error| error.to_string()), uploaded.err()].into_iter().flatten()
    {
        tracing::warn!(%error, "can't publish the final status");
    }
}

/// Returns whether only the time of writing differs.
fn is_same(old: &Status, new: &Status) -> bool {
    old.site == new.site
        && old.probe == new.probe
        && old.monitors == new.monitors
        && old.channels == new.channels
}

/// Returns the current status.
fn status(live: &RunningProbe, running: bool) -> Status {
    let now = live.alarms.clock().now();
    let config = live.config();
    let (states, alarms, unsent) =
        (live.alarms.states(), live.alarms.open_alarms(), live.alarms.unsent());
    let monitors = config.monitors.values().map(|monitor| {
        let maintenance = live.maintenance.open_for(&monitor.id, now.wall);
        let found = (states.get(&monitor.id), alarms.get(&monitor.id), maintenance);
        MonitorStatus {
            unsent: unsent.get(&monitor.id).copied().unwrap_or_default(),
            ..monitor_status(&config, monitor, found, now)
        }
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
            heartbeat_problem: live.heartbeats.state().problem,
            alarms: alarms
                .iter()
                .filter(|(id, _)| is_own(id))
                .map(|(id, alarm)| (id.clone(), alarm_status(alarm)))
                .collect(),
            unsent: unsent.iter().filter(|(id, _)| is_own(id)).map(|(_, count)| count).sum(),
        },
        monitors: monitors.collect(),
        channels: channels.collect(),
    }
}

/// Returns the status of a monitor.
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
        state: published(state_of(monitor, state, maintenance.is_some(), now)),
        failing_since: time(state.and_then(|state| state.failing_since)),
        failures: state.map_or(0, |state| state.failures),
        reason: state.filter(|state| state.failures > 0).and_then(|state| state.reason.clone()),
        last,
        last_ok: time(state.and_then(|state| state.last_ok)),
        next: monitor.enabled.then(|| schedule::next(config, monitor, now.wall).timestamp()),
        alarm: alarm.map(alarm_status),
        maintenance: maintenance.map(|open| MaintenanceStatus {
            name: open.name,
            until: open.until.timestamp(),
            reason: open.reason,
        }),
        unsent: 0,
    }
}

fn alarm_status(alarm: &OpenAlarm) -> AlarmStatus {
    AlarmStatus {
        since: alarm.since.timestamp(),
        notified_at: alarm.notified_at.map(UtcMicros::timestamp),
        acknowledged: alarm.acknowledged.as_ref().map(|ack| AcknowledgementStatus {
            by: ack.by.clone(),
            at: ack.at.timestamp(),
            note: ack.note.clone(),
        }),
    }
}

fn published(word: StateWord) -> MonitorState {
    match word {
        StateWord::Alarm => MonitorState::Alarm,
        StateWord::Failed => MonitorState::Failed,
        StateWord::Unknown => MonitorState::Unknown,
        StateWord::Maintenance => MonitorState::Maintenance,
        StateWord::Ok => MonitorState::Ok,
        StateWord::Disabled => MonitorState::Disabled,
    }
}
