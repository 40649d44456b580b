//! Alarms: when one rises and clears, and what is done then.
//!
//! A test's sample moves its monitor's [`State`]; a change is put on record, then handed to a worker that sends messages, so that a dead
//! mail server holds up no test. States and messages that are still to be sent survive a restart.

mod message;
mod notify;
mod state;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mailqos_core::{
    config::{Config, Monitor},
    model::{Event, EventKind, Micros, MonitorId, Name, Sample, UtcMicros},
};
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, task::JoinHandle};

pub use state::{Change, State, Status};

use crate::record::Recorder;

/// How long messages may still take when the probe is told to stop.
const LAST_MESSAGES: Duration = Duration::from_secs(10);

/// A message that is to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// Unique; part of the Message-ID, so that a mail sent twice is one mail.
    pub(crate) id: String,
    /// Whose alarm.
    pub(crate) monitor: MonitorId,
    /// Whether it rose or cleared.
    pub(crate) change: Change,
    /// What led to it.
    pub(crate) sample: Box<Sample>,
    /// The monitor's state then.
    pub(crate) state: State,
    /// Which action list.
    pub(crate) list: Name,
    /// How often it was tried.
    pub(crate) tries: u32,
    /// When it is tried next.
    pub(crate) next_try: UtcMicros,
}

/// What survives a restart.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    states: BTreeMap<MonitorId, State>,
    pending: Vec<Pending>,
    #[serde(skip)]
    changed: bool,
}

/// The alarms of all monitors; clones are the same alarms.
#[derive(Clone)]
pub struct Alarms {
    config: Arc<Config>,
    recorder: Recorder,
    kept: Arc<Mutex<Kept>>,
    file: Arc<PathBuf>,
    wake: Arc<Notify>,
    worker: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Alarms {
    /// Reads the states of an earlier life, and begins to send what it left.
    pub async fn open(config: Arc<Config>, recorder: Recorder) -> Self {
        let file = config.state.join(format!("site={}", config.site)).join("alarms.json");
        let kept = read(&file);
        let alarms = Self {
            config,
            recorder,
            kept: Arc::new(Mutex::new(kept)),
            file: Arc::new(file),
            wake: Arc::default(),
            worker: Arc::default(),
        };
        let worker = tokio::spawn(notify::work(alarms.clone()));
        *alarms.worker.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker);
        alarms
    }

    /// Whether the monitor has been tested in this or an earlier life.
    pub fn knows(&self, monitor: &MonitorId) -> bool {
        self.lock().states.contains_key(monitor)
    }

    /// Takes a test's sample into account.
    pub async fn tested(&self, monitor: &Monitor, sample: &Sample) {
        let (change, state) = {
            let mut kept = self.lock();
            kept.changed = true;
            let state = kept.states.entry(monitor.id.clone()).or_default();
            let change = state.step(sample, monitor.alarm_after);
            (change, state.clone())
        };
        let Some(change) = change else { return };
        let kind = match change {
            Change::Raised => EventKind::AlarmRaised,
            Change::Cleared => EventKind::AlarmCleared,
        };
        tracing::warn!(monitor = %monitor.id, failures = state.failures, "{}", kind.as_str());
        let text = message::summary(monitor, change, sample, &state);
        let event = Event::new(Some(monitor.id.clone()), UtcMicros::now(), kind).text(text);
        if let Err(error) = self.recorder.record_event(event).await {
            tracing::error!("an event can't be recorded: {error}");
        }
        if let Some(list) = &monitor.action_list {
            let pending = Pending {
                id: format!("{}.{}.{}", monitor.id, sample.started_at.0, kind.as_str()),
                monitor: monitor.id.clone(),
                change,
                sample: Box::new(sample.clone()),
                state,
                list: list.clone(),
                tries: 0,
                next_try: UtcMicros::now(),
            };
            self.lock().pending.push(pending);
        } else {
            tracing::warn!(monitor = %monitor.id, "no action list: nobody is told");
        }
        // On disk before anything is sent: a crash may send a message again, with the same Message-ID, but never forgets one.
        self.keep();
        self.wake.notify_one();
    }

    /// Gives messages a last chance, and keeps the states.
    pub async fn close(self) {
        let due = Micros::from(LAST_MESSAGES);
        let until = UtcMicros::now() + due;
        while UtcMicros::now() < until && self.lock().pending.iter().any(|message| message.tries == 0) {
            self.wake.notify_one();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(worker) = worker {
            worker.abort();
            let _ = worker.await;
        }
        self.keep();
    }

    /// Writes the states down if they have changed: whole, under a temporary name first.
    fn keep(&self) {
        let mut kept = self.lock();
        kept.changed = false;
        let written = serde_json::to_vec(&*kept)
            .map_err(std::io::Error::other)
            .and_then(|bytes| crate::record::write_whole(&self.file, &bytes));
        if let Err(error) = written {
            kept.changed = true;
            tracing::error!("the alarm states can't be kept: {}: {error}", self.file.display());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(file: &std::path::Path) -> Kept {
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::error!(
                "{} can't be understood, all states are unknown: {error}",
                file.display()
            );
            Kept::default()
        }),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::error!("{} can't be read, all states are unknown: {error}", file.display());
            }
            Kept::default()
        }
    }
}
