//! Alarms: when one rises and clears, and what is done then.
//!
//! A test's sample moves its monitor's [`State`]; a change is put on record, then handed to a worker that takes the steps of the action
//! list, so that a dead mail server holds up no test. States, alarms and messages that are still to be sent survive a restart.

mod actions;
mod episode;
mod message;
mod notify;
mod state;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use mailqos_core::{
    config::{Config, Monitor, Problems},
    model::{Event, EventKind, Micros, MonitorId, Name, Sample, UtcMicros},
};
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, task::JoinHandle};

pub(crate) use actions::{Accepted, carry_out};
pub use episode::Acknowledgement;
use episode::Episode;
pub(crate) use message::Telling;
pub use state::{Change, State, Status};

use crate::record::Recorder;

/// How long messages may still take when the probe is told to stop.
const LAST_MESSAGES: Duration = Duration::from_secs(10);

/// Why something is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    /// The alarm rose.
    Raised,
    /// It lasts, and more people are told.
    Escalated,
    /// It lasts.
    Reminder,
    /// It cleared.
    Cleared,
    /// An action list is tried out.
    Test,
}

/// A message that is to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// Unique; part of the Message-ID, so that a mail sent twice is one mail.
    id: String,
    /// Whose alarm.
    monitor: MonitorId,
    /// What is told of it.
    why: Why,
    /// What led to it.
    sample: Box<Sample>,
    /// The monitor's state then.
    state: State,
    /// Which action list.
    list: Option<Name>,
    /// Which step of it.
    step: String,
    /// What services that count alarms one by one know it by.
    incident: String,
    /// When it came about.
    created: UtcMicros,
    /// How often it was tried.
    tries: u32,
    /// When it is tried next.
    next_try: UtcMicros,
}

/// How a way of telling does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// When it last accepted a message.
    pub accepted_at: Option<UtcMicros>,
    /// When it last did not.
    pub failed_at: Option<UtcMicros>,
    /// Failures since it last accepted one.
    pub failures: u32,
    /// What the last failure said.
    pub error: Option<String>,
}

/// What survives a restart.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    states: BTreeMap<MonitorId, State>,
    episodes: BTreeMap<MonitorId, Episode>,
    outbox: Vec<Pending>,
    channels: BTreeMap<String, Channel>,
    #[serde(skip)]
    changed: bool,
}

/// The alarms of all monitors; clones are the same alarms.
#[derive(Clone)]
pub struct Alarms {
    config: Arc<RwLock<Arc<Config>>>,
    recorder: Recorder,
    kept: Arc<Mutex<Kept>>,
    file: Arc<PathBuf>,
    wake: Arc<Notify>,
    worker: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What is wrong with the templates of action lists, found by filling them in.
pub fn check(config: &Config) -> Problems {
    actions::webhook::check(config)
}

impl Alarms {
    /// Reads the states of an earlier life, and begins to send what it left.
    pub async fn open(config: Arc<Config>, recorder: Recorder) -> Self {
        let file = config.state.join(format!("site={}", config.site)).join("alarms.json");
        let kept = read(&file);
        let alarms = Self {
            config: Arc::new(RwLock::new(config)),
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
        let now = UtcMicros::now();
        let (change, state) = {
            let mut kept = self.lock();
            kept.changed = true;
            let state = kept.states.entry(monitor.id.clone()).or_default();
            let change = state.step(sample, monitor.alarm_after);
            let state = state.clone();
            match change {
                Some(Change::Raised) => {
                    let episode = Episode::new(now, monitor.action_list.clone(), sample.clone());
                    kept.episodes.insert(monitor.id.clone(), episode);
                }
                Some(Change::Cleared) => self.cleared(&mut kept, &monitor.id, sample, &state, now),
                None => {
                    if state.status == Status::Alarm
                        && let Some(episode) = kept.episodes.get_mut(&monitor.id)
                    {
                        *episode.sample = sample.clone();
                        // A step may wait for this failure.
                        episode.next = None;
                        self.wake.notify_one();
                    }
                }
            }
            (change, state)
        };
        let Some(change) = change else { return };
        self.wake.notify_one();
        let (kind, why) = match change {
            Change::Raised => (EventKind::AlarmRaised, Why::Raised),
            Change::Cleared => (EventKind::AlarmCleared, Why::Cleared),
        };
        tracing::warn!(monitor = %monitor.id, failures = state.failures, "{}", kind.as_str());
        if monitor.action_list.is_none() && change == Change::Raised {
            tracing::warn!(monitor = %monitor.id, "no action list: nobody is told");
        }
        let text = message::summary(&monitor.name, why, sample, &state);
        self.note(Event::new(Some(monitor.id.clone()), now, kind).text(text))
            .await;
    }

    /// Ends an alarm; those who were told of it are told of its end.
    fn cleared(&self, kept: &mut Kept, monitor: &MonitorId, sample: &Sample, state: &State, now: UtcMicros) {
        let Some(episode) = kept.episodes.remove(monitor) else {
            return;
        };
        let config = self.config();
        let list = episode.list.as_ref().and_then(|name| config.action_lists.get(name));
        let Some(list) = list else { return };
        for step in episode.end(list, &episode::keys(list)) {
            let incident = episode.taken.get(&step).map(|taken| taken.incident.clone());
            let pending = Pending {
                id: self.id_of(monitor, sample, Why::Cleared, &step),
                monitor: monitor.clone(),
                why: Why::Cleared,
                sample: Box::new(sample.clone()),
                state: state.clone(),
                list: episode.list.clone(),
                step,
                incident: incident.unwrap_or_else(|| self.incident_of(monitor, episode.raised_at)),
                created: now,
                tries: 0,
                next_try: now,
            };
            kept.outbox.push(pending);
        }
    }

    /// Unique, and fit for a Message-ID.
    fn id_of(&self, monitor: &MonitorId, sample: &Sample, why: Why, step: &str) -> String {
        format!(
            "{monitor}.{}.{}.{:08x}",
            sample.started_at.0,
            why.as_str(),
            crc32fast::hash(step.as_bytes())
        )
    }

    /// Whether an alarm that is open is part of an incident.
    fn has_incident(&self, step: &str, incident: &str) -> bool {
        let part = |episode: &Episode| episode.taken.get(step).is_some_and(|taken| taken.incident == incident);
        self.lock().episodes.values().any(part)
    }

    fn incident_of(&self, monitor: &MonitorId, raised_at: UtcMicros) -> String {
        format!("mailqos/{}/{monitor}/{}", self.config().site, raised_at.0)
    }

    /// Gives messages a last chance, and keeps the states.
    pub async fn close(self) {
        let until = UtcMicros::now() + Micros::from(LAST_MESSAGES);
        let untried = |kept: &Kept| {
            kept.outbox.iter().any(|message| message.tries == 0)
                || kept
                    .episodes
                    .values()
                    .any(|episode| episode.next.is_none() && episode.list.is_some())
        };
        while UtcMicros::now() < until && untried(&self.lock()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(worker) = worker {
            worker.abort();
            let _ = worker.await;
        }
        self.keep().await;
    }

    /// Writes the states down if they have changed: whole, under a temporary name first.
    async fn keep(&self) {
        let alarms = self.clone();
        let written = tokio::task::spawn_blocking(move || {
            let bytes = {
                let mut kept = alarms.lock();
                if !kept.changed {
                    return Ok(());
                }
                kept.changed = false;
                serde_json::to_vec(&*kept).map_err(std::io::Error::other)
            };
            bytes.and_then(|bytes| crate::record::write_whole(&alarms.file, &bytes))
        })
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
        if let Err(error) = written {
            self.lock().changed = true;
            tracing::error!("the alarm states can't be kept: {}: {error}", self.file.display());
        }
    }

    async fn note(&self, event: Event) {
        if let Err(error) = self.recorder.record_event(event).await {
            tracing::error!("an event can't be recorded: {error}");
        }
    }

    fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
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
