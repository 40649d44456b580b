//! Alarms: when they are raised and clear, and which actions follow.
//!
//! The sample of a test updates its monitor's [`State`]. A change is recorded and then passed to a
//! worker that carries out the steps of the action list, so that an unreachable mail server delays
//! no test. States, alarms and pending notifications survive a restart.

mod deliverability;
mod earlier;
mod episode;
#[cfg(feature = "test-hooks")]
pub mod fuzzing;
pub(crate) mod message;
mod notify;
mod outbox;
#[cfg(test)]
mod outbox_tests;
mod own;
mod own_names;
mod plan;
mod replay;
mod settling;
mod state;
mod trial;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use mailqos_base::clock::{Anchor, Clock, MonotonicTime, Now};
use mailqos_base::files;
use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{Config, Monitor, Problems};
use mailqos_model::{
    Event, EventKind, Exclusion, Micros, MonitorId, Name, Outcome, Sample, UtcMicros,
};
use mailqos_notify::{Channel, ChannelId, StoredChannel};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::Notify,
    task::{JoinHandle, JoinSet},
};

pub use episode::Acknowledgement;
use episode::Episode;
use outbox::{End, EndReason};
pub(crate) use own_names::is_own;
use plan::Plan;
pub use replay::{Found, Replay};
pub use state::{Change, State, Status};
pub use trial::{try_list, try_step};

use crate::{maintenance::Maintenance, record::Recorder};

/// How long notifications may still be sent when the probe is stopped.
const LAST_MESSAGES: Duration = Duration::from_secs(10);

/// Kind of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NotificationKind {
    /// The alarm was raised.
    Raised,
    /// The alarm continues, and further recipients are notified.
    Escalated,
    /// The alarm continues.
    Reminder,
    /// The alarm has cleared.
    Cleared,
    /// A test of an action list.
    Test,
}

/// Subject of a notification: an alarm, and the channel that reports it.
type About = (MonitorId, UtcMicros, ChannelId);

/// A message waiting to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// Unique; part of the Message-ID, so that a mail sent twice is one mail.
    id: String,
    /// Monitor of the alarm.
    monitor: MonitorId,
    /// Kind of the notification.
    why: NotificationKind,
    /// The sample that led to it.
    sample: Box<Sample>,
    /// The monitor's state at that time.
    state: State,
    /// The alarm, identified by the time at which it was raised.
    alarm: UtcMicros,
    /// The action list.
    list: Option<Name>,
    /// The channel.
    channel: ChannelId,
    /// Display name of the channel.
    step: String,
    /// Key of the alarm in services that count incidents.
    incident: String,
    /// Time at which the notification was created.
    created: UtcMicros,
    /// The same on the steady clock.
    queued: MonotonicTime,
    /// How long it is retried.
    retry_for: Micros,
    /// Number of attempts.
    tries: u32,
    /// Time of the next attempt.
    next_try: MonotonicTime,
    /// Recipients of a mail who have not received it, if others have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left: Vec<String>,
    /// Whether it is being sent.
    #[serde(default, skip_serializing_if = "is_false")]
    attempting: bool,
    /// Whether an attempt ended without an answer, so that the message may have been received.
    #[serde(default, skip_serializing_if = "is_false")]
    maybe: bool,
    /// Whether a notification of the alarm is being sent at the moment, so that its end is reported
    /// only if that is accepted.
    #[serde(default, skip_serializing_if = "is_false")]
    doubtful: bool,
    /// Whether the time for retries has passed.
    #[serde(default, skip_serializing_if = "is_false")]
    overdue: bool,
    /// Reason why the alarm ends without a successful test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<EndReason>,
    /// The mail thread to which it belongs, if the alarm was first reported together with others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    thread: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Health of a notification channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelHealth {
    /// Time at which it last accepted a notification.
    pub accepted_at: Option<UtcMicros>,
    /// Time of its last failure.
    pub failed_at: Option<UtcMicros>,
    /// Failures since it last accepted one.
    pub failures: u32,
    /// Error of the last failure.
    pub error: Option<String>,
}

/// State that survives a restart.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct StoredState {
    /// The clocks when it was written.
    anchor: Option<Anchor>,
    states: BTreeMap<MonitorId, State>,
    episodes: BTreeMap<MonitorId, Episode>,
    outbox: Vec<Pending>,
    /// The channels that opened alarms.
    origins: BTreeMap<ChannelId, StoredChannel>,
    channels: BTreeMap<String, ChannelHealth>,
    /// The channels that asked for a pause, and its end.
    patience: BTreeMap<ChannelId, MonotonicTime>,
    simulations: BTreeMap<MonitorId, Simulation>,
    /// The same channels, ready for use.
    #[serde(skip)]
    usable: BTreeMap<ChannelId, Arc<Channel>>,
    /// Whether the state must be written soon.
    #[serde(skip)]
    urgent: bool,
    #[serde(skip)]
    changed: bool,
}

impl StoredState {
    /// Applies a new configuration. An alarm of a monitor that is no longer tested ends over the
    /// channels that opened it; one whose action list has changed is handed over. Returns the
    /// resulting events.
    fn adapt(&mut self, config: &Config, plan: &Plan, now: Now) -> Vec<Event> {
        let mut events = Vec::new();
        for (monitor, mut episode) in std::mem::take(&mut self.episodes) {
            let ended = match config.monitors.get(&monitor) {
                _ if own_names::is_own(&monitor) => None,
                None => Some(EndReason::Removed),
                Some(options) if !options.enabled => Some(EndReason::Disabled),
                Some(_) => None,
            };
            let Some(ended) = ended else {
                let list = list_of(config, &monitor);
                self.hand_over(&monitor, &mut episode, list, (plan, now));
                self.episodes.insert(monitor, episode);
                continue;
            };
            let at = now.wall.max(episode.raised_at + Micros(1));
            events.push(
                Event::new(Some(monitor.clone()), at, EventKind::AlarmCleared).text(ended.words()),
            );
            let state = self.states.get(&monitor).map(State::brief).unwrap_or_default();
            let sample = episode.sample.clone();
            let end = End { monitor: &monitor, sample: &sample, state: &state, ended: Some(ended) };
            self.end(episode, &end, plan, now);
        }
        let is_there = |id: &MonitorId| own_names::is_own(id) || config.monitors.contains_key(id);
        self.states.retain(|id, _| is_there(id));
        self.simulations.retain(|id, _| is_there(id));
        for (id, state) in &mut self.states {
            if config.monitors.get(id).is_some_and(|monitor| !monitor.enabled) {
                state.retire();
            }
        }
        self.drop_what_is_over();
        self.forget_channels();
        self.forget_names(config, plan);
        (self.changed, self.urgent) = (true, true);
        events
    }

    /// Forgets the health of channels that are no longer used.
    fn forget_names(&mut self, config: &Config, plan: &Plan) {
        let is_used = |name: &str| {
            let server = name.strip_prefix("e-mail through ");
            server.is_some_and(|server| config.mail_servers.contains_key(server))
                || plan.names().any(|known| known == name)
        };
        let waits = |name: &str| self.outbox.iter().any(|pending| pending.step == name);
        self.channels.retain(|name, _| is_used(name) || waits(name));
    }

    /// Recomputes what waits for a time of day after the wall clock was set.
    fn stepped(&mut self) {
        for episode in self.episodes.values_mut() {
            episode.next = None;
        }
    }
}

/// Returns the action list of a monitor; that of the probe's own alarms is `default`.
fn list_of(config: &Config, monitor: &MonitorId) -> Option<Name> {
    if own_names::is_own(monitor) {
        let default = config.action_lists.get_key_value("default");
        return default.map(|(name, _)| name.clone());
    }
    config.monitors.get(monitor)?.action_list.clone()
}

/// An open alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAlarm {
    /// Time at which the alarm was raised.
    pub since: UtcMicros,
    /// Time at which a channel first accepted a notification.
    pub notified_at: Option<UtcMicros>,
    /// The acknowledgement, if there is one.
    pub acknowledged: Option<Acknowledgement>,
}

/// A simulated failure of a monitor, which an operator requested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Simulation {
    /// End of the simulation.
    pub until: UtcMicros,
    /// The same on the steady clock.
    #[serde(default)]
    pub ends: MonotonicTime,
    /// The person who requested it.
    pub by: String,
}

/// Shared handle to the alarms of all monitors; cloning is cheap.
#[derive(Clone)]
pub struct Alarms {
    config: Arc<RwLock<(Arc<Config>, Arc<Plan>)>>,
    clock: Clock,
    /// Start of this process.
    opened: MonotonicTime,
    recorder: Recorder,
    maintenance: Maintenance,
    kept: Arc<Mutex<StoredState>>,
    file: Arc<PathBuf>,
    /// Held while the file is written: an aborted worker may still be writing when the probe writes
    /// it for the last time.
    writing: Arc<Mutex<()>>,
    wake: Arc<Notify>,
    worker: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// Returns the problems of the templates of action lists, found by rendering them.
pub fn check(config: &Config) -> Problems {
    mailqos_notify::check(config, &message::examples(config))
}

impl Alarms {
    /// Restores the states of an earlier process and starts sending its pending messages.
    pub async fn open(config: Arc<Config>, recorder: Recorder, maintenance: Maintenance) -> Self {
        let file = config.state.join(format!("site={}", config.site)).join("alarms.json");
        let plan = Arc::new(Plan::new(&config));
        let mut kept = read(&file, |bytes| earlier::read(bytes, &config, &plan));
        let clock = Clock::resume(kept.anchor.as_ref());
        let now = clock.now();
        for (id, origin) in &kept.origins {
            // Restores parts that could not be stored, if the configuration still has the channel.
            let channel =
                plan.channel(id).cloned().map_or_else(|| origin.channel(&config).map(Arc::new), Ok);
            match channel {
                Ok(channel) => drop(kept.usable.insert(id.clone(), channel)),
                Err(error) => {
                    tracing::error!(%error, "a channel of open alarms can no longer be used")
                }
            }
        }
        kept.revive(|_| true);
        let events = kept.adapt(&config, &plan, now);
        let alarms = Self {
            config: Arc::new(RwLock::new((config, plan))),
            opened: now.steady,
            clock,
            recorder,
            maintenance,
            kept: Arc::new(Mutex::new(kept)),
            file: Arc::new(file),
            writing: Arc::default(),
            wake: Arc::default(),
            worker: Arc::default(),
        };
        alarms.note_all(events).await;
        let worker = tokio::spawn(notify::work(alarms.clone()));
        *alarms.worker.lock().ignore_poison() = Some(worker);
        alarms
    }

    /// Returns the clocks.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns the start of a monitor's last test.
    pub fn last_start(&self, monitor: &MonitorId) -> Option<UtcMicros> {
        let kept = self.lock();
        let last = kept.states.get(monitor)?.last.as_ref()?;
        Some(last.started_at)
    }

    /// Returns whether the monitor has been tested by this process or an earlier one.
    pub fn knows(&self, monitor: &MonitorId) -> bool {
        self.lock().states.contains_key(monitor)
    }

    /// Returns whether the last test of the monitor counts as failed.
    pub fn is_failing(&self, monitor: &MonitorId) -> bool {
        let kept = self.lock();
        let state = kept.states.get(monitor);
        state.is_some_and(|state| {
            matches!(state.status, Status::Failed | Status::Alarm) && state.good == 0
        })
    }

    /// Returns whether the monitor has an open alarm and its last test failed.
    pub fn is_in_alarm(&self, monitor: &MonitorId) -> bool {
        let kept = self.lock();
        let state = kept.states.get(monitor);
        state.is_some_and(|state| state.status == Status::Alarm && state.good == 0)
    }

    /// Returns whether tests of the monitor are paused at the moment.
    pub fn is_paused(&self, monitor: &MonitorId, at: UtcMicros) -> bool {
        self.maintenance.open_for(monitor, at).is_some_and(|open| open.pause)
    }

    /// Returns the states of all tested monitors.
    pub fn states(&self) -> BTreeMap<MonitorId, State> {
        let kept = self.lock();
        kept.states.iter().map(|(id, state)| (id.clone(), state.brief())).collect()
    }

    /// Returns the health of the channels.
    pub fn channels(&self) -> BTreeMap<String, ChannelHealth> {
        self.lock().channels.clone()
    }

    /// Returns the open alarms: when they were raised, when a channel first accepted a
    /// notification, and who acknowledged them.
    pub fn open_alarms(&self) -> BTreeMap<MonitorId, OpenAlarm> {
        let kept = self.lock();
        let open = kept.episodes.iter().map(|(id, episode)| {
            let alarm = OpenAlarm {
                since: episode.raised_at,
                notified_at: episode.notified_at,
                acknowledged: episode.acknowledged.clone(),
            };
            (id.clone(), alarm)
        });
        open.collect()
    }

    /// Returns the number of notifications about each monitor that no channel has accepted yet.
    pub fn unsent(&self) -> BTreeMap<MonitorId, u32> {
        let mut unsent = BTreeMap::new();
        for pending in &self.lock().outbox {
            *unsent.entry(pending.monitor.clone()).or_default() += 1;
        }
        unsent
    }

    /// Returns the simulated failures by monitor.
    pub fn simulations(&self) -> BTreeMap<MonitorId, Simulation> {
        self.lock().simulations.clone()
    }

    /// Applies a new configuration: alarms of monitors that are no longer tested end, the others
    /// keep their states.
    pub async fn reload(&self, config: Arc<Config>) {
        let plan = Arc::new(Plan::new(&config));
        let events = {
            let mut kept = self.lock();
            let events = kept.adapt(&config, &plan, self.clock.now());
            *self.config.write().ignore_poison() = (config, plan);
            events
        };
        self.wake.notify_one();
        self.note_all(events).await;
    }

    /// Returns why a sample of a test that starts now would not count.
    pub fn excluded(&self, monitor: &MonitorId, now: Now) -> Option<Exclusion> {
        if self.maintenance.open_for(monitor, now.wall).is_some() {
            return Some(Exclusion::Maintenance);
        }
        let simulated = self
            .lock()
            .simulations
            .get(monitor)
            .is_some_and(|simulation| simulation.ends > now.steady);
        simulated.then_some(Exclusion::SimulatedFailure)
    }

    /// Processes the sample of a test that started at the given time.
    pub async fn tested(&self, monitor: &Monitor, sample: &Sample, began: MonotonicTime) {
        if let Some(event) = self.take(monitor, sample, began) {
            self.note(event).await;
        }
    }

    /// Updates the monitor's state and returns the resulting events.
    fn take(&self, monitor: &Monitor, sample: &Sample, began: MonotonicTime) -> Option<Event> {
        let now = self.clock.now();
        let mut guard = self.lock();
        let kept = &mut *guard;
        // A test that started before its monitor was removed or disabled must not raise an alarm
        // that would never end.
        if !self.config().monitors.get(&monitor.id).is_some_and(|monitor| monitor.enabled) {
            return None;
        }
        kept.changed = true;
        let simulation = kept.simulations.get(&monitor.id);
        // A good test that started before the simulation must not end the simulated alarm.
        if simulation.is_some() && sample.excluded.is_none() {
            return None;
        }
        let ordered = simulation
            .filter(|_| sample.excluded == Some(Exclusion::SimulatedFailure))
            .map(|simulation| format!("simulated failure, requested by {}", simulation.by));
        let mut state = kept.states.remove(&monitor.id).unwrap_or_default();
        let held_before = state.held_by.clone();
        let change = state.step((sample, began), &monitor.alarm, ordered.as_deref(), |state| {
            self.holder(kept, monitor, state, now)
        });
        let brief = state.brief();
        kept.states.insert(monitor.id.clone(), state);
        let state = brief;
        let mut at = now.wall;
        match change {
            Some(Change::Raised) => {
                let list = list_of(&self.config(), &monitor.id);
                let episode = Episode::new(now, list, sample.clone());
                kept.episodes.insert(monitor.id.clone(), episode);
            }
            Some(Change::Cleared) => {
                let end = End { monitor: &monitor.id, sample, state: &state, ended: None };
                at = self.cleared(kept, &end, now);
            }
            None => {
                if state.status == Status::Alarm
                    && let Some(episode) = kept.episodes.get_mut(&monitor.id)
                {
                    *episode.sample = sample.clone();
                    // A step may wait for this failure.
                    episode.next = None;
                    self.wake.notify_one();
                }
                let holder = state.held_by.as_ref().filter(|_| state.held_by != held_before)?;
                tracing::info!(monitor = %monitor.id, explained_by = %holder, "alarm suppressed");
                let held = Event::new(Some(monitor.id.clone()), at, EventKind::AlarmHeld);
                return Some(held.text(format!("explained by {holder}")));
            }
        }
        kept.urgent = true;
        self.wake.notify_one();
        let (kind, why) = match change {
            Some(Change::Cleared) => (EventKind::AlarmCleared, NotificationKind::Cleared),
            _ => (EventKind::AlarmRaised, NotificationKind::Raised),
        };
        tracing::warn!(monitor = %monitor.id, failures = state.failures, "{}", kind.as_str());
        if monitor.action_list.is_none() && why == NotificationKind::Raised {
            tracing::warn!(monitor = %monitor.id, "no action list: no one is notified");
        }
        let event = Event::new(Some(monitor.id.clone()), at, kind);
        Some(event.text(message::summary(&monitor.name, why, sample, &state)))
    }

    /// Returns the monitor whose failure explains this one's: one that it depends on and that
    /// fails, is in maintenance, or has not been tested since this one began to fail.
    fn holder(
        &self,
        kept: &StoredState,
        monitor: &Monitor,
        state: &State,
        now: Now,
    ) -> Option<MonitorId> {
        if monitor.alarm.depends_on.is_empty() {
            return None;
        }
        let config = self.config();
        let explains = |other: &&MonitorId| {
            let Some(options) = config.monitors.get(*other).filter(|options| options.enabled)
            else {
                return false;
            };
            if self.maintenance.open_for(other, now.wall).is_some() {
                return true;
            }
            // None: never tested, as after the first start.
            let theirs = kept.states.get(*other);
            if theirs.is_some_and(|theirs| matches!(theirs.status, Status::Failed | Status::Alarm))
            {
                return true;
            }
            // It is flapping and currently succeeds.
            let Some(since) = state.failing_from else {
                return false;
            };
            let last = theirs.and_then(|theirs| theirs.last.as_ref()?.began);
            let tested = last.is_some_and(|last| last >= since);
            !tested && now.steady - since < Micros(options.test_interval.0.saturating_mul(2))
        };
        monitor.alarm.depends_on.iter().find(explains).cloned()
    }

    /// Acknowledges the alarms of these monitors; returns those that were in alarm. With `keep`,
    /// alarms that are already acknowledged stay as they are, and are returned with the names of
    /// those who acknowledged them.
    pub async fn acknowledge(
        &self,
        monitors: &[MonitorId],
        (by, note): (&str, Option<&str>),
        keep: bool,
    ) -> (Vec<MonitorId>, Vec<(MonitorId, String)>) {
        let now = UtcMicros::now();
        let (mut found, mut already) = (Vec::new(), Vec::new());
        {
            let mut kept = self.lock();
            for monitor in monitors {
                let Some(episode) = kept.episodes.get_mut(monitor) else {
                    continue;
                };
                if let Some(earlier) = episode.acknowledged.as_ref().filter(|_| keep) {
                    already.push((monitor.clone(), earlier.by.clone()));
                    continue;
                }
                episode.acknowledged = Some(Acknowledgement {
                    by: by.to_owned(),
                    at: now,
                    note: note.map(str::to_owned),
                });
                episode.next = None;
                found.push(monitor.clone());
            }
            kept.changed = true;
            kept.urgent = true;
        }
        self.wake.notify_one();
        let events = found.iter().map(|monitor| {
            let mut event = Event::new(Some(monitor.clone()), now, EventKind::Acknowledged);
            event.text = note.map(str::to_owned);
            event.actor = Some(by.to_owned());
            event
        });
        self.note_all(events).await;
        (found, already)
    }

    /// Withdraws the acknowledgements of these monitors' alarms: reminders and escalations
    /// continue. Returns the monitors whose alarms were acknowledged.
    pub async fn withdraw_acknowledgement(
        &self,
        monitors: &[MonitorId],
        by: &str,
        note: Option<&str>,
    ) -> Vec<MonitorId> {
        let now = UtcMicros::now();
        let mut found = Vec::new();
        {
            let mut kept = self.lock();
            for monitor in monitors {
                let Some(episode) = kept.episodes.get_mut(monitor) else {
                    continue;
                };
                if episode.acknowledged.take().is_some() {
                    episode.next = None;
                    found.push(monitor.clone());
                }
            }
            kept.changed = true;
            kept.urgent = true;
        }
        self.wake.notify_one();
        let kind = EventKind::AcknowledgementWithdrawn;
        let events = found.iter().map(|monitor| Event {
            text: note.map(str::to_owned),
            actor: Some(by.to_owned()),
            ..Event::new(Some(monitor.clone()), now, kind)
        });
        self.note_all(events).await;
        found
    }

    /// Marks monitors as failed for a time, often enough to raise their alarms immediately.
    pub async fn simulate(&self, monitors: &[MonitorId], lasts: Micros, by: &str) {
        let now = self.clock.now();
        let until = now.wall + lasts;
        let config = self.config();
        let mut events = Vec::new();
        for monitor in monitors.iter().filter_map(|id| config.monitors.get(id)) {
            let simulation = Simulation { until, ends: now.steady + lasts, by: by.to_owned() };
            self.lock().simulations.insert(monitor.id.clone(), simulation);
            let mut event =
                Event::new(Some(monitor.id.clone()), now.wall, EventKind::SimulationStarted);
            event.actor = Some(by.to_owned());
            event.until = Some(until);
            events.push(event);
            for number in 0..monitor.alarm.after {
                let after = Micros(i64::from(number));
                let mut sample =
                    Sample::new(monitor.id.clone(), now.wall + after, Outcome::NotTested);
                sample.excluded = Some(Exclusion::SimulatedFailure);
                events.extend(self.take(monitor, &sample, now.steady + after));
            }
        }
        self.note_all(events).await;
    }

    /// Ends the simulations of monitors; returns those that had one.
    pub async fn end_simulation(&self, monitors: &[MonitorId]) -> Vec<MonitorId> {
        let mut ended = Vec::new();
        {
            let mut kept = self.lock();
            for monitor in monitors {
                if kept.simulations.remove(monitor).is_some() {
                    ended.push(monitor.clone());
                }
            }
            kept.changed = true;
            kept.urgent = true;
        }
        let now = UtcMicros::now();
        let events = ended
            .iter()
            .map(|monitor| Event::new(Some(monitor.clone()), now, EventKind::SimulationEnded));
        self.note_all(events).await;
        ended
    }

    /// Ends expired simulations.
    async fn end_old_simulations(&self) {
        let now = self.clock.now();
        let over: Vec<MonitorId> = {
            let kept = self.lock();
            let old =
                kept.simulations.iter().filter(|(_, simulation)| simulation.ends <= now.steady);
            old.map(|(monitor, _)| monitor.clone()).collect()
        };
        if !over.is_empty() {
            self.end_simulation(&over).await;
        }
    }

    /// Ends an alarm and notifies those who were notified of it. Returns the end: never before the
    /// alarm was raised.
    fn cleared(&self, kept: &mut StoredState, end: &End<'_>, now: Now) -> UtcMicros {
        let Some(episode) = kept.episodes.remove(end.monitor) else {
            return now.wall;
        };
        let at = now.wall.max(episode.raised_at + Micros(1));
        kept.end(episode, end, &self.plan(), now);
        at
    }

    /// Gives pending messages a last chance and stores the states.
    pub async fn close(self) {
        let until = tokio::time::Instant::now() + LAST_MESSAGES;
        let untried = |kept: &StoredState| {
            let is_new = |message: &Pending| {
                message.tries == 0 && !kept.patience.contains_key(&message.channel)
            };
            kept.outbox.iter().any(is_new)
                || kept
                    .episodes
                    .values()
                    .any(|episode| episode.next.is_none() && episode.list.is_some())
        };
        while tokio::time::Instant::now() < until && untried(&self.lock()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let worker = self.worker.lock().ignore_poison().take();
        if let Some(worker) = worker {
            worker.abort();
            let _ = worker.await;
        }
        self.keep().await;
    }

    /// Writes changed states to disk, on a separate thread.
    async fn keep(&self) {
        let alarms = self.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || alarms.write_down()).await {
            tracing::error!(%error, "writing the alarm states aborted");
        }
    }

    /// Writes the states if they have changed: completely, first under a temporary name.
    fn write_down(&self) {
        let _one_at_a_time = self.writing.lock().ignore_poison();
        // Serialise under the lock, which takes some milliseconds for ten thousand states. Copies
        // of all states would stay in the memory of each thread that made one.
        let text = {
            let mut kept = self.lock();
            if !kept.changed {
                return;
            }
            (kept.changed, kept.urgent) = (false, false);
            kept.forget_channels();
            kept.anchor = Some(self.clock.anchor());
            serde_json::to_vec(&*kept)
        };
        let written = text
            .map_err(std::io::Error::other)
            .and_then(|bytes| crate::record::write_whole(&self.file, &bytes));
        if let Err(error) = written {
            let mut kept = self.lock();
            (kept.changed, kept.urgent) = (true, true);
            tracing::error!(file = %self.file.display(), %error, "can't write the alarm states");
        }
    }

    /// Records events concurrently: one by one, those of ten thousand monitors would wait for the
    /// disk ten thousand times.
    async fn note_all(&self, events: impl IntoIterator<Item = Event>) {
        let mut notes = JoinSet::new();
        for event in events {
            let alarms = self.clone();
            notes.spawn(async move { alarms.note(event).await });
        }
        while notes.join_next().await.is_some() {}
    }

    async fn note(&self, event: Event) {
        if let Err(error) = self.recorder.record_event(event).await {
            tracing::error!(%error, "can't record an event");
        }
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().ignore_poison().0)
    }

    fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.config.read().ignore_poison().1)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, StoredState> {
        self.kept.lock().ignore_poison()
    }
}

/// Reads the state of an earlier process. A damaged file is renamed, so that an operator can
/// find out which alarms were open.
fn read(file: &std::path::Path, earlier: impl FnOnce(&[u8]) -> Option<StoredState>) -> StoredState {
    let bytes = match files::read_state(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::error!(file = %file.display(), %error, "can't read the alarm states; all states are unknown");
            }
            return StoredState::default();
        }
    };
    if let Some(kept) = earlier(&bytes) {
        return kept;
    }
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        let aside = file.with_extension("damaged");
        let set_aside = std::fs::rename(file, &aside).is_ok();
        tracing::error!(file = %file.display(), aside = %aside.display(), set_aside, %error, "the alarm states are damaged; all states are unknown; close open alarms manually");
        StoredState::default()
    })
}
