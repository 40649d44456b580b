//! `mailqos-probe run`: runs tests until it is stopped, then records the mails in transit, seals
//! and exits.

use std::{
    process::ExitCode,
    sync::{Arc, OnceLock, RwLock},
    time::{Duration, Instant},
};

use mailqos_base::clock::Steps;
use mailqos_model::{Event, EventKind, UtcMicros};
use tokio::{sync::watch, task::JoinSet};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use super::{Failure, Global, manager};
use crate::{
    alarm::Alarms,
    control::{RunningProbe, serve},
    maintenance::Maintenance,
    record::{RecordError, Recorder},
    schedule::{self, Board},
    status::Observed,
    tester::Tester,
};

/// Interval of checks for the start or end of maintenance windows and for steps of the wall clock.
const TURNS: Duration = Duration::from_secs(1);
/// Schedule at which the last day is written, in the format of tokio-cron-scheduler (UTC).
const DAY_KEPT: &str = "30 */5 * * * *";
/// Schedule at which days older than the retention are removed.
const OLD_DAYS: &str = "0 17 3 * * *";
/// Interval of checks of the recorder.
const LOOKED_AT: Duration = Duration::from_secs(2);
/// Duration after which a problem with the disk or the object store raises an alarm.
const LASTING: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(_args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let config = Arc::new(global.config_with_warnings()?);
    let stop = stop_signal().map_err(Failure::work)?;
    let recorder = Recorder::open(&config).await.map_err(|error| match error {
        RecordError::Remote(_) | RecordError::Secret(_) => Failure::Usage(error.to_string()),
        other => Failure::work(other),
    })?;
    note(&recorder, EventKind::ProbeStarted).await;
    let tester = Tester::new(Arc::clone(&config), recorder.clone()).await.map_err(Failure::work)?;
    let maintenance = Maintenance::open(Arc::clone(&config));
    let alarms = Alarms::open(Arc::clone(&config), recorder.clone(), maintenance.clone()).await;
    let (configs, changes) = watch::channel(Arc::clone(&config));
    let board = Arc::new(Board::default());
    let observed = Arc::new(Observed::open(&config));
    let live = Arc::new(RunningProbe {
        config: RwLock::new(Arc::clone(&config)),
        alarms: alarms.clone(),
        maintenance: maintenance.clone(),
        recorder: recorder.clone(),
        tester: Arc::clone(&tester),
        board: Arc::clone(&board),
        observed: Arc::clone(&observed),
        heartbeats: Arc::default(),
        configs,
    });
    let mut helpers = JoinSet::new();
    helpers.spawn(serve(Arc::clone(&live)));
    helpers.spawn(hang_up(Arc::clone(&live)));
    helpers.spawn(crate::status::serve(Arc::clone(&live)));
    let housekeeping = calendar(&live).await.map_err(Failure::work)?;
    let housekeeping = tokio::spawn(follow_clock(Arc::clone(&live), housekeeping, stop.clone()));
    helpers.spawn(keep_as_long_as_wanted(Arc::clone(&live)));
    helpers.spawn(watch_recorder(recorder.clone(), alarms.clone()));
    helpers.spawn(watch_tests(alarms.clone()));
    tester.resume().await;
    helpers.spawn(crate::status::publish(Arc::clone(&live)));
    tracing::info!(site = %config.site, monitors = config.monitors.values().filter(|monitor| monitor.enabled).count(), "testing");
    helpers.spawn(crate::heartbeat::beat(Arc::clone(&live)));
    manager::ready(&mut helpers, Arc::clone(&board));
    let parts = schedule::Parts {
        tester: Arc::clone(&tester),
        alarms: alarms.clone(),
        board,
        observed: Arc::clone(&observed),
        certificates: Arc::default(),
    };
    schedule::run(parts, changes, stop).await;
    manager::stopping();
    if let Err(error) = housekeeping.await {
        tracing::warn!(%error, "the housekeeping schedule aborted");
    }
    tracing::info!("stopping; mails in flight remain recorded");
    tester.shutdown().await;
    helpers.shutdown().await;
    alarms.close().await;
    observed.keep();
    crate::status::publish_stop(Arc::clone(&live)).await;
    note(&recorder, EventKind::ProbeStopped).await;
    let sealed = recorder.close().await.map_err(Failure::work)?;
    tracing::info!(rows = sealed.merged, files = sealed.files, "sealed");
    Ok(ExitCode::SUCCESS)
}

/// Schedules housekeeping in UTC: writing the last day and removing old days.
async fn calendar(live: &Arc<RunningProbe>) -> Result<JobScheduler, JobSchedulerError> {
    let scheduler = JobScheduler::new().await?;
    let at = Arc::clone(live);
    let day = Job::new_async(DAY_KEPT, move |_, _| {
        let observed = Arc::clone(&at.observed);
        Box::pin(async move {
            let _ = tokio::task::spawn_blocking(move || observed.keep()).await;
        })
    })?;
    let at = Arc::clone(live);
    let old = Job::new_async(OLD_DAYS, move |_, _| Box::pin(remove_old_days(Arc::clone(&at))))?;
    for job in [day, old] {
        scheduler.add(job).await?;
    }
    scheduler.start().await?;
    Ok(scheduler)
}

/// Checks every second whether a maintenance window starts or ends. When the wall clock has been
/// set, housekeeping is rescheduled, because its jobs wait for times of the old clock.
async fn follow_clock(
    live: Arc<RunningProbe>,
    mut scheduler: JobScheduler,
    mut stop: watch::Receiver<bool>,
) {
    let clock = live.alarms.clock().clone();
    let mut steps = Steps::new(clock.now());
    while !*stop.borrow() {
        let now = clock.now();
        if let Some(step) = steps.since_last(now) {
            tracing::warn!(by = %step, now = %now.wall, "system clock was set; tests and alarms continue on the monotonic clock");
            live.maintenance.stepped(now.wall, step);
            match calendar(&live).await {
                Ok(new) => {
                    let mut old = std::mem::replace(&mut scheduler, new);
                    if let Err(error) = old.shutdown().await {
                        tracing::warn!(%error, "can't stop the housekeeping schedule of the old time");
                    }
                }
                Err(error) => tracing::warn!(%error, "can't start housekeeping for the new time"),
            }
        }
        live.maintenance.turn(&live.recorder).await;
        tokio::select! {
            _ = stop.changed() => {}
            () = tokio::time::sleep(TURNS) => {}
        }
    }
    if let Err(error) = scheduler.shutdown().await {
        tracing::warn!(%error, "can't stop the housekeeping schedule");
    }
}

/// Removes old days at the start and after each reload.
async fn keep_as_long_as_wanted(live: Arc<RunningProbe>) {
    let mut changes = live.configs.subscribe();
    loop {
        remove_old_days(Arc::clone(&live)).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Removes the days that are older than the retention of the current configuration.
async fn remove_old_days(live: Arc<RunningProbe>) {
    let config = live.config();
    if let Err(error) = Recorder::remove_old_days(&config).await {
        tracing::warn!(%error, "can't remove old days");
    }
}

/// Reloads the configuration at each SIGHUP.
async fn hang_up(live: Arc<RunningProbe>) {
    use tokio::signal::unix::{SignalKind, signal};
    let mut signals = match signal(SignalKind::hangup()) {
        Ok(signals) => signals,
        Err(error) => return tracing::error!(%error, "can't install the SIGHUP handler"),
    };
    while signals.recv().await.is_some() {
        manager::reloading();
        if let Err(error) = live.reload().await {
            tracing::error!(%error, "configuration not reloaded");
        }
        manager::reloaded();
    }
}

/// Raises an alarm if samples can't be stored for a while, because no one reads logs at night.
async fn watch_recorder(recorder: Recorder, alarms: Alarms) {
    let mut since = None;
    loop {
        tokio::time::sleep(LOOKED_AT).await;
        let problem = recorder.health().problem;
        match &problem {
            None => {
                since = None;
                alarms.recording(None).await;
            }
            Some(problem) => {
                if since.get_or_insert_with(Instant::now).elapsed() >= LASTING {
                    alarms.recording(Some(problem)).await;
                }
            }
        }
    }
}

/// Raises an alarm if monitors can't be tested for a while: a probe that can't test must not appear
/// healthy.
async fn watch_tests(alarms: Alarms) {
    loop {
        tokio::time::sleep(LOOKED_AT).await;
        alarms.look_for_blindness().await;
        alarms.look_for_expiry().await;
    }
}

async fn note(recorder: &Recorder, kind: EventKind) {
    let version = concat!("mailqos ", env!("CARGO_PKG_VERSION"));
    let event = Event::new(None, UtcMicros::now(), kind).text(version);
    if let Err(error) = recorder.record_event(event).await {
        tracing::error!(%error, "can't record an event");
    }
}

/// Becomes `true` at the first SIGTERM or SIGINT from now on; the second one ends the process
/// immediately.
pub(super) fn stop_signal() -> std::io::Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    static TOLD: OnceLock<watch::Sender<bool>> = OnceLock::new();
    if let Some(told) = TOLD.get() {
        // This run has not been stopped yet, whatever happened before.
        told.send_replace(false);
        return Ok(told.subscribe());
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let told = TOLD.get_or_init(|| watch::Sender::new(false));
    let stop = told.subscribe();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            let nothing_to_end = told.is_closed();
            if told.send_replace(true) {
                // Everything acknowledged is in the journal, and the next start seals it.
                tracing::warn!("second stop signal; exiting without sealing");
            } else if !nothing_to_end {
                continue;
            }
            std::process::exit(1);
        }
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_signal_stops_a_run_after_an_earlier_stop() {
        for _ in 0..2 {
            let mut stop = stop_signal().expect("signals");
            assert!(!*stop.borrow());
            let kill = format!("kill -INT {}", std::process::id());
            let killed = std::process::Command::new("sh").args(["-c", &kill]).status();
            assert!(killed.expect("a shell").success());
            let told =
                tokio::time::timeout(Duration::from_secs(10), stop.wait_for(|told| *told)).await;
            assert!(told.expect("in time").is_ok());
        }
    }
}
