//! The probe's end of the control interface: answers commands and the web console.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Timestamp;
use mailqos_base::clock::Now;
use mailqos_base::lock::IgnorePoison as _;
use mailqos_config as config;
use mailqos_config::{Config, Monitor};
use mailqos_control::{
    ConsoleChange, MAX_REQUEST, PATIENCE, Request, StateWord, listen,
    response::{
        AckWithdrawn, Acknowledged, AcknowledgementReport, ActionsTested, AlarmReport,
        AlreadyAcknowledged, ChannelReport, ConsoleChangesRecorded, ErrorResponse, HeartbeatReport,
        LastReport, MaintenanceAdded, MaintenanceEnded, MaintenanceReport, MaintenanceWindow,
        MonitorReport, ProbeReport, Reloaded, Response, Sealed, Simulated, SimulationEnded,
        StatusResponse,
    },
};
use mailqos_model::{Event, EventKind, Micros, MonitorId, UtcMicros};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::watch,
};

use crate::{
    alarm::{Alarms, OpenAlarm, State, try_list},
    heartbeat::Heartbeats,
    maintenance::{AddedWindow, DeclaredPeriod, Maintenance, Open},
    record::Recorder,
    schedule::{self, Board},
    status::{self, Observed},
    tester::Tester,
    trial,
};

/// The parts of a running probe.
pub struct RunningProbe {
    /// The configuration in force.
    pub config: RwLock<Arc<Config>>,
    /// States and alarms.
    pub alarms: Alarms,
    /// Maintenance windows.
    pub maintenance: Maintenance,
    /// Records samples and events.
    pub recorder: Recorder,
    /// Runs tests.
    pub tester: Arc<Tester>,
    /// The scheduler's counters.
    pub board: Arc<Board>,
    /// Observations about the monitors, shown by `status`.
    pub observed: Arc<Observed>,
    /// State of the heartbeats.
    pub heartbeats: Arc<Heartbeats>,
    /// Notifies the scheduler of a new configuration.
    pub configs: watch::Sender<Arc<Config>>,
}

/// Answers commands until it is aborted. If no socket can be created, that is logged, and tests
/// continue.
pub async fn serve(live: Arc<RunningProbe>) {
    let listener = match listen(&live.config()) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "control socket unavailable: status, ack and other commands can't reach this probe");
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let live = live.clone();
                tokio::spawn(async move {
                    let _ = converse(stream, &live).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept a command");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, live: &Arc<RunningProbe>) -> std::io::Result<()> {
    let (read, write) = stream.into_split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(MAX_REQUEST));
    tokio::time::timeout(PATIENCE, read.read_line(&mut line)).await??;
    match serde_json::from_str::<Request>(&line) {
        // It lasts as long as the test.
        Ok(Request::Try(request)) => trial::run(&live.config(), *request, read, write).await,
        request => tokio::time::timeout(PATIENCE, respond(request, live, write)).await?,
    }
}

async fn respond(
    request: serde_json::Result<Request>,
    live: &Arc<RunningProbe>,
    mut write: OwnedWriteHalf,
) -> std::io::Result<()> {
    let response = match request {
        Ok(request) => live.answer(request).await,
        Err(error) => Err(format!(
            "the running probe does not understand this command; check that both have \
                the same version: {error}"
        )),
    };
    let response = response.unwrap_or_else(|error| Response::Error(ErrorResponse { error }));
    write.write_all(&serde_json::to_vec(&response)?).await?;
    write.shutdown().await
}

impl RunningProbe {
    /// Returns the configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.read().ignore_poison().clone()
    }

    fn select(&self, patterns: &[String]) -> Result<Vec<MonitorId>, String> {
        let config = self.config();
        let monitors =
            config.select(patterns).map_err(|pattern| format!("{pattern:?} matches no monitor"))?;
        Ok(monitors.into_iter().map(|monitor| monitor.id.clone()).collect())
    }

    async fn answer(&self, request: Request) -> Result<Response, String> {
        let both = self.alarms.clock().now();
        let now = both.wall;
        Ok(match request {
            Request::Status { monitors, states, most } => {
                Response::Status(Box::new(self.status(&monitors, &states, most, both)?))
            }
            Request::Try(_) => return Err("a trial has its own conversation".to_owned()),
            Request::Seal => {
                let report = self.recorder.seal().await.map_err(|error| error.to_string())?;
                let sealed = report.merged as u64;
                Response::Sealed(Sealed { sealed })
            }
            Request::Reload => {
                let reloaded = self.reload().await?;
                Response::Reloaded(Reloaded { reloaded })
            }
            Request::Ack { monitors, by, note, keep } => {
                let chosen = self.select(&monitors)?;
                let who = (by.as_str(), note.as_deref());
                let (acknowledged, already) = self.alarms.acknowledge(&chosen, who, keep).await;
                let already = already
                    .into_iter()
                    .map(|(monitor, by)| AlreadyAcknowledged { monitor: monitor.to_string(), by });
                Response::Acknowledged(Acknowledged { acknowledged, already: already.collect() })
            }
            Request::AckWithdraw { monitors, by, note } => {
                let chosen = self.select(&monitors)?;
                let note = note.as_deref();
                let withdrawn = self.alarms.withdraw_acknowledgement(&chosen, &by, note).await;
                Response::AckWithdrawn(AckWithdrawn { withdrawn })
            }
            Request::ActionsTest { list, by } => {
                let config = self.config();
                let Some(steps) = config.action_lists.get(list.as_str()) else {
                    return Err(format!("no action list is named {list:?}"));
                };
                tracing::info!(list = %list, by = %by, "testing an action list");
                let actions = try_list(&config, steps).await;
                Response::ActionsTested(ActionsTested { list, actions })
            }
            Request::ConsoleChanges { changes } => self.record_changes(changes, now).await?,
            maintenance @ (Request::MaintenanceAdd { .. }
            | Request::MaintenanceEnd { .. }
            | Request::MaintenanceDeclare { .. }
            | Request::MaintenanceWithdraw { .. }
            | Request::MaintenanceList) => self.maintain(maintenance, now).await?,
            Request::Simulate { monitors, lasts, by } => {
                if monitors.is_empty() {
                    return Err("name the monitors to mark as failed".to_owned());
                }
                let simulated = self.select(&monitors)?;
                self.alarms.simulate(&simulated, Micros(lasts), &by).await;
                Response::Simulated(Simulated {
                    simulated,
                    until: Some((now + Micros(lasts)).timestamp()),
                })
            }
            Request::SimulateEnd { monitors, by } => {
                let chosen = self.select(&monitors)?;
                let by = by.unwrap_or_default();
                tracing::info!(monitors = chosen.len(), %by, "simulation ended on request");
                let ended = self.alarms.end_simulation(&chosen).await;
                Response::SimulationEnded(SimulationEnded { ended })
            }
        })
    }

    /// Records changes made in the web console. If one can't be recorded, the response names the
    /// last that is: the console sends the others again.
    async fn record_changes(
        &self,
        changes: Vec<ConsoleChange>,
        now: UtcMicros,
    ) -> Result<Response, String> {
        let mut recorded = 0;
        for change in changes {
            let number = change.number;
            match self.recorder.record_event(change_event(change, now)).await {
                Ok(()) => recorded = number,
                Err(error) if recorded == 0 => return Err(format!("can't record it: {error}")),
                Err(_) => break,
            }
        }
        Ok(Response::ConsoleChangesRecorded(ConsoleChangesRecorded { recorded }))
    }

    /// Answers a request about maintenance.
    async fn maintain(&self, request: Request, now: UtcMicros) -> Result<Response, String> {
        Ok(match request {
            Request::MaintenanceAdd { name, monitors, from, to, repeats, reason, by, pause } => {
                let from = from.unwrap_or(now);
                let name = name.unwrap_or_else(|| self.maintenance.free_name("added", from));
                self.maintenance.add(AddedWindow {
                    name: name.clone(),
                    monitors: monitors.clone(),
                    from,
                    to,
                    repeats,
                    reason,
                    by: Some(by),
                    pause,
                })?;
                Response::MaintenanceAdded(MaintenanceAdded {
                    name,
                    from: Some(from.timestamp()),
                    until: Some(to.timestamp()),
                    monitors: self.select(&monitors)?.len(),
                })
            }
            Request::MaintenanceEnd { name, by } => {
                self.maintenance.end(&name)?;
                // Its end is on record, and its name free, before the response.
                self.maintenance.turn(&self.recorder).await;
                let by = by.unwrap_or_default();
                tracing::info!(maintenance = %name, %by, "maintenance ended on request");
                Response::MaintenanceEnded(MaintenanceEnded { ended: name })
            }
            Request::MaintenanceDeclare { name, monitors, from, to, reason, by } => {
                let name = name.unwrap_or_else(|| self.maintenance.free_name("declared", from));
                let selected = self.select(&monitors)?.len();
                let period = DeclaredPeriod { name: name.clone(), monitors, from, to, reason, by };
                let event = self.maintenance.declare(period, now)?;
                if let Err(error) = self.recorder.record_event(event).await {
                    self.maintenance.forget_declared(&name);
                    return Err(format!("can't record the declaration: {error}"));
                }
                Response::MaintenanceAdded(MaintenanceAdded {
                    name,
                    from: Some(from.timestamp()),
                    until: Some(to.timestamp()),
                    monitors: selected,
                })
            }
            Request::MaintenanceWithdraw { name, by } => {
                let event = self.maintenance.withdraw(&name, &by, now)?;
                let recorded = self.recorder.record_event(event).await;
                recorded.map_err(|error| format!("can't record the withdrawal: {error}"))?;
                Response::MaintenanceEnded(MaintenanceEnded { ended: name })
            }
            Request::MaintenanceList => Response::MaintenanceWindows(self.windows(now)),
            _ => return Err("this request is not about maintenance".to_owned()),
        })
    }

    /// Returns open and future maintenance windows, and declared periods.
    fn windows(&self, now: UtcMicros) -> Vec<MaintenanceWindow> {
        let windows = self.maintenance.list(now).into_iter().map(|window| MaintenanceWindow {
            name: window.name,
            from: Some(window.from.timestamp()),
            until: Some(window.to.timestamp()),
            repeats: window.repeats,
            open: window.from <= now,
            declared: false,
            monitors: window.monitors,
            reason: window.reason,
            by: window.by,
        });
        let declared = self.maintenance.declared().into_iter().map(|period| MaintenanceWindow {
            name: period.name,
            from: Some(period.from.timestamp()),
            until: Some(period.to.timestamp()),
            repeats: None,
            open: false,
            declared: true,
            monitors: period.monitors,
            reason: Some(period.reason),
            by: Some(period.by),
        });
        declared.chain(windows).collect()
    }

    fn status(
        &self,
        patterns: &[String],
        wanted: &[StateWord],
        most: Option<usize>,
        both: Now,
    ) -> Result<StatusResponse, String> {
        let now = both.wall;
        let config = self.config();
        let chosen =
            config.select(patterns).map_err(|pattern| format!("{pattern:?} matches no monitor"))?;
        let (states, alarms, simulations) =
            (self.alarms.states(), self.alarms.open_alarms(), self.alarms.simulations());
        let mut totals: BTreeMap<String, u64> = BTreeMap::new();
        let mut shown = Vec::new();
        for monitor in chosen {
            let state = states.get(&monitor.id);
            let maintenance = self.maintenance.open_for(&monitor.id, now);
            let word = status::state_of(monitor, state, maintenance.is_some(), both);
            *totals.entry(word.as_str().to_owned()).or_default() += 1;
            if wanted.is_empty() || wanted.contains(&word) {
                shown.push((word, monitor, state, maintenance));
            }
        }
        let selected = shown.len();
        if let Some(most) = most
            && selected > most
        {
            shown.sort_by_key(|(word, ..)| *word);
            shown.truncate(most);
        }
        let monitors = shown.into_iter().map(|(word, monitor, state, maintenance)| MonitorReport {
            state: word.as_str().to_owned(),
            alarm: alarms.get(&monitor.id).map(alarm_report),
            maintenance: maintenance.map(maintenance_report),
            simulated_until: time(simulations.get(&monitor.id).map(|simulation| simulation.until)),
            next: monitor.enabled.then(|| schedule::next(&config, monitor, now).timestamp()),
            day: self.observed.day(&monitor.id, now),
            ..monitor_report(monitor, state)
        });
        let monitors = monitors.collect();
        let channels = self.alarms.channels().into_iter().map(|(name, channel)| ChannelReport {
            channel: name,
            failures: channel.failures,
            accepted_at: time(channel.accepted_at),
            failed_at: time(channel.failed_at),
            error: channel.error,
        });
        Ok(StatusResponse {
            at: Some(now.timestamp()),
            probe: self.probe_report(&config),
            totals,
            selected: Some(selected),
            monitors,
            channels: channels.collect(),
        })
    }

    fn heartbeat_report(&self) -> Option<HeartbeatReport> {
        let state = self.heartbeats.state();
        state.is_configured.then(|| HeartbeatReport {
            accepted_at: time(state.accepted_at),
            problem: state.problem,
        })
    }

    fn probe_report(&self, config: &Config) -> ProbeReport {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let health = self.recorder.health();
        ProbeReport {
            site: config.site.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            configuration: config.file.display().to_string(),
            started: count(&self.board.started),
            running: count(&self.board.running),
            waiting: count(&self.board.waiting),
            late: count(&self.board.late),
            left_out: count(&self.board.left_out),
            untested: self.alarms.untested(),
            recorder_held: health.held,
            recorder_problem: health.problem,
            metrics_problem: self.observed.metrics_problem(),
            heartbeat: self.heartbeat_report(),
            expiring: expiring(config),
        }
    }

    /// Reloads the configuration; rejected as a whole if it has errors.
    ///
    /// # Errors
    /// Description of the errors.
    pub async fn reload(&self) -> Result<String, String> {
        let old = self.config();
        let file = old.file.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            let config = config::load(&file).map_err(|problems| problems.errors().to_string())?;
            let problems = crate::alarm::check(&config);
            if problems.has_errors() {
                return Err(problems.errors().to_string());
            }
            Ok(config)
        });
        let new = loaded.await.map_err(|error| error.to_string())?;
        let new = new.map_err(|problems| {
            format!("not reloaded; the old configuration stays in use:\n{problems}")
        })?;
        for (what, same) in [
            ("site", old.site == new.site),
            ("data", old.data == new.data),
            ("state", old.state == new.state),
            ("signing_key", old.signing_key == new.signing_key),
            ("seal_interval", old.seal_interval == new.seal_interval),
        ] {
            if !same {
                return Err(format!(
                    "not reloaded; {what} can't change while the probe runs; restart the probe"
                ));
            }
        }
        let new = Arc::new(new);
        let gone = old.monitors.keys().filter(|id| !new.monitors.contains_key(*id)).count();
        let added = new.monitors.keys().filter(|id| !old.monitors.contains_key(*id)).count();
        *self.config.write().ignore_poison() = new.clone();
        self.tester.reload(new.clone());
        self.maintenance.reload(new.clone());
        self.alarms.reload(new.clone()).await;
        self.recorder.reload(new.clone());
        self.observed.forget(&new);
        self.configs.send_replace(new.clone());
        let text = format!("{} monitors: {added} added, {gone} removed", new.monitors.len());
        tracing::info!(changes = %text, "configuration reloaded");
        let event = Event::new(None, UtcMicros::now(), EventKind::Reloaded).text(text.clone());
        if let Err(error) = self.recorder.record_event(event).await {
            tracing::error!(%error, "can't record an event");
        }
        Ok(text)
    }
}

/// Returns the event of a change made in the web console. It is not in the future, whatever the
/// console's clock says.
fn change_event(change: ConsoleChange, now: UtcMicros) -> Event {
    let ConsoleChange { number, at, by, from, action, subject, detail } = change;
    let words = [action.as_str(), subject.as_str(), detail.as_str()];
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let text = words.join(": ");
    let detail = serde_json::json!({
        "number": number, "action": action, "subject": subject, "detail": detail, "from": from,
    });
    Event {
        actor: Some(by),
        detail: Some(detail.to_string()),
        ..Event::new(None, at.min(now), EventKind::ConsoleChange)
    }
    .text(text)
}

fn time(at: Option<UtcMicros>) -> Option<Timestamp> {
    at.map(UtcMicros::timestamp)
}

/// Returns what the configuration and the alarm state contain about a monitor; the rest is left
/// empty.
fn monitor_report(monitor: &Monitor, state: Option<&State>) -> MonitorReport {
    let last = state.and_then(|state| state.last.as_ref());
    MonitorReport {
        id: monitor.id.to_string(),
        name: monitor.name.clone(),
        object: monitor.object.to_string(),
        tags: monitor.tags.iter().cloned().collect(),
        last: last.map(|last| LastReport {
            started_at: Some(last.started_at.timestamp()),
            outcome: last.outcome.as_str().to_owned(),
            round_trip_ms: last.round_trip.map(Micros::as_millis_f64),
            round_trip_error_ms: last.round_trip_error.map(Micros::as_millis_f64),
            round_trip_likely_error_ms: last.round_trip_likely_error.map(Micros::as_millis_f64),
            placement: last.placement.map(|place| place.as_str().to_owned()),
            spf: last.spf.clone(),
            dkim: last.dkim.clone(),
            dmarc: last.dmarc.clone(),
        }),
        last_good: time(state.and_then(|state| state.last_ok)),
        failures: state.map_or(0, |state| state.failures),
        failing_since: time(state.and_then(|state| state.failing_since)),
        reason: state.and_then(|state| state.reason.clone()),
        flapping: state.is_some_and(|state| state.flapping),
        untested: state.map_or(0, |state| state.untested),
        held_by: state.and_then(|state| state.held_by.clone()),
        ..MonitorReport::default()
    }
}

fn alarm_report(alarm: &OpenAlarm) -> AlarmReport {
    AlarmReport {
        since: Some(alarm.since.timestamp()),
        notified_at: time(alarm.notified_at),
        acknowledged: alarm.acknowledged.as_ref().map(|ack| AcknowledgementReport {
            by: ack.by.clone(),
            at: Some(ack.at.timestamp()),
            note: ack.note.clone(),
        }),
    }
}

fn maintenance_report(open: Open) -> MaintenanceReport {
    MaintenanceReport {
        name: open.name,
        until: Some(open.until.timestamp()),
        reason: open.reason,
        tests: if open.pause { "pause" } else { "run" }.to_owned(),
    }
}

/// Returns the accounts whose credentials expire within 30 days, and when.
fn expiring(config: &Config) -> Vec<String> {
    let accounts = config.accounts.iter();
    let expiring = accounts.flat_map(|(name, account)| {
        account.expiring(30).into_iter().map(move |text| format!("account {name}: {text}"))
    });
    expiring.collect()
}
