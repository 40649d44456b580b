//! `mailqos-probe run`: tests until it is told to stop, then records what is in flight, seals and ends.

use std::{
    process::ExitCode,
    sync::{Arc, RwLock},
};

use mailqos_core::model::{Event, EventKind, UtcMicros};
use tokio::{sync::watch, task::JoinSet};

use super::{Failure, Global};
use crate::{
    alarm::Alarms,
    control::{Live, serve},
    mailqos::Tester,
    maintenance::Maintenance,
    record::{RecordError, Recorder},
    schedule,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(_args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let config = Arc::new(global.config()?);
    let stop = stop_signal().map_err(Failure::work)?;
    let recorder = Recorder::open(&config).await.map_err(|error| match error {
        RecordError::ObjectStore(_) => Failure::Usage(error.to_string()),
        other => Failure::work(other),
    })?;
    note(&recorder, EventKind::ProbeStarted).await;
    let tester = Tester::new(Arc::clone(&config), recorder.clone())
        .await
        .map_err(Failure::work)?;
    let maintenance = Maintenance::open(Arc::clone(&config));
    let alarms = Alarms::open(Arc::clone(&config), recorder.clone(), maintenance.clone()).await;
    let live = Arc::new(Live {
        config: RwLock::new(Arc::clone(&config)),
        alarms: alarms.clone(),
        maintenance: maintenance.clone(),
    });
    let mut helpers = JoinSet::new();
    helpers.spawn(serve(live));
    helpers.spawn(maintenance.watch(recorder.clone()));
    tester.resume().await;
    tracing::info!(
        site = %config.site,
        monitors = config.monitors.values().filter(|monitor| monitor.enabled).count(),
        "testing"
    );
    schedule::run(&config, &tester, &alarms, stop).await;
    tracing::info!("stopping: what is in flight stays on record");
    tester.shutdown().await;
    helpers.shutdown().await;
    alarms.close().await;
    note(&recorder, EventKind::ProbeStopped).await;
    let sealed = recorder.close().await.map_err(Failure::work)?;
    tracing::info!(rows = sealed.merged, files = sealed.files, "sealed");
    Ok(ExitCode::SUCCESS)
}

async fn note(recorder: &Recorder, kind: EventKind) {
    let version = concat!("mailqos ", env!("CARGO_PKG_VERSION"));
    let event = Event::new(None, UtcMicros::now(), kind).text(version);
    if let Err(error) = recorder.record_event(event).await {
        tracing::error!("an event can't be recorded: {error}");
    }
}

/// Becomes `true` at the first SIGTERM or SIGINT; the second ends the process at once.
pub(super) fn stop_signal() -> std::io::Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (told, stop) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if told.send_replace(true) {
                // All that was acknowledged is in the journal; the next start seals it.
                tracing::warn!("told to stop twice: ending without sealing");
                std::process::exit(1);
            }
        }
    });
    Ok(stop)
}
