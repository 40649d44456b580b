//! Alarms about the probe itself: it can't store samples, or it can't test.

use std::collections::BTreeMap;

use mailqos_base::clock::{MonotonicTime, Now};
use mailqos_config::Monitor;
use mailqos_model::{Event, EventKind, Micros, MonitorId, Outcome, Sample};

use super::{
    Alarms, Episode, NotificationKind, State, list_of, message,
    outbox::End,
    own_names::{BLIND, EXPIRY, RECORDER},
};

/// Number of consecutive tests that could not be performed before it counts as a problem.
const UNTESTED: u32 = 3;
/// A monitor that could not be tested for less than this is not worth an alarm.
const BLIND_FOR: Micros = Micros::from_secs(20);
/// Maximum number of untestable monitors that are named.
const MAX_NAMED: usize = 5;
/// Number of days before credentials expire at which an alarm is raised.
const EXPIRY_DAYS: i32 = 7;

impl Alarms {
    /// Reports the state of the probe's recording: an alarm is raised over the default action list
    /// if samples can't be stored, and clears when they can.
    pub async fn recording(&self, problem: Option<&str>) {
        let problem = problem.map(|problem| format!("the probe can't store samples: {problem}"));
        self.own_trouble(RECORDER, problem).await;
    }

    /// Looks for monitors that can't be tested. An alarm is raised if there are some for a while,
    /// and clears when all are tested again.
    pub async fn look_for_blindness(&self) {
        let blind = self.untested();
        let named: Vec<String> = blind
            .iter()
            .take(MAX_NAMED)
            .map(|(monitor, why)| format!("{monitor} ({why})"))
            .collect();
        let more = match blind.len().saturating_sub(named.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let all = self.config().monitors.values().filter(|monitor| monitor.enabled).count();
        let problem = (!blind.is_empty()).then(|| {
            format!(
                "{} of {all} monitors can't be tested, so the state of their mail is unknown: {}{more}",
                blind.len(),
                named.join(", ")
            )
        });
        self.own_trouble(BLIND, problem).await;
    }

    /// Looks for accounts whose sign-in or client secret expires within a week. An alarm is raised if
    /// there are some, and clears when they were renewed.
    pub async fn look_for_expiry(&self) {
        let config = self.config();
        let expiring: Vec<String> = config
            .accounts
            .iter()
            .flat_map(|(name, account)| {
                let expiring = account.expiring(EXPIRY_DAYS).into_iter();
                expiring.map(move |text| format!("account {name}: {text}"))
            })
            .take(MAX_NAMED)
            .collect();
        self.own_trouble(EXPIRY, (!expiring.is_empty()).then(|| expiring.join("; "))).await;
    }

    /// Returns the monitors without results for a while, and why.
    pub fn untested(&self) -> BTreeMap<MonitorId, String> {
        let (now, config) = (self.clock.now(), self.config());
        let kept = self.lock();
        let blind =
            config.monitors.values().filter(|monitor| monitor.enabled).filter_map(|monitor| {
                let why = untested(monitor, kept.states.get(&monitor.id)?, self.opened, now)?;
                Some((monitor, why))
            });
        blind
            .filter(|(monitor, _)| self.maintenance.open_for(&monitor.id, now.wall).is_none())
            .map(|(monitor, why)| (monitor.id.clone(), why))
            .collect()
    }

    async fn own_trouble(&self, name: &str, problem: Option<String>) {
        let Ok(id) = name.parse::<MonitorId>() else {
            return;
        };
        let now = self.clock.now();
        let event = {
            let mut guard = self.lock();
            let kept = &mut *guard;
            let mut sample = Sample::new(id.clone(), now.wall, Outcome::NotTested);
            let (at, kind, why) = match (problem, kept.episodes.contains_key(&id)) {
                (Some(problem), false) => {
                    sample.error = Some(problem.clone());
                    let mut state = State::default();
                    state.begin_alarm(now, problem);
                    kept.states.insert(id.clone(), state);
                    let episode = Episode::new(now, list_of(&self.config(), &id), sample.clone());
                    kept.episodes.insert(id.clone(), episode);
                    (now.wall, EventKind::AlarmRaised, NotificationKind::Raised)
                }
                (None, true) => {
                    let state = kept.states.remove(&id).unwrap_or_default();
                    let end = End { monitor: &id, sample: &sample, state: &state, ended: None };
                    let at = self.cleared(kept, &end, now);
                    (at, EventKind::AlarmCleared, NotificationKind::Cleared)
                }
                _ => return,
            };
            kept.changed = true;
            kept.urgent = true;
            let state = kept.states.get(&id).map(State::brief).unwrap_or_default();
            Event::new(Some(id), at, kind).text(message::summary(name, why, &sample, &state))
        };
        tracing::warn!(text = event.text.as_deref(), "{}", event.kind.as_str());
        self.wake.notify_one();
        self.note(event).await;
    }
}

/// Returns why a monitor has had no results for a while, if so.
fn untested(monitor: &Monitor, state: &State, opened: MonotonicTime, now: Now) -> Option<String> {
    let since = state.judged.map_or(opened, |judged| judged.max(opened));
    let interval = monitor.test_interval.max(monitor.retest_interval.unwrap_or_default()).0;
    let silent = now.steady - since;
    if state.untested >= UNTESTED && silent >= BLIND_FOR {
        return Some(state.hindrance.clone().unwrap_or_else(|| "not tested".to_owned()));
    }
    // Calendars have gaps by design.
    if monitor.calendar.is_some() {
        return None;
    }
    // A test has its result when it ends, some time after the end of the previous one.
    let longest = monitor.kind.longest_test().0.saturating_mul(3);
    let patience = interval.saturating_mul(4).saturating_add(longest).max(BLIND_FOR.0 * 3);
    (silent > Micros(patience))
        .then(|| format!("no test has finished for {}", message::rough(silent)))
}
