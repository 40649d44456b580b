//! The event log of a period: alarms and their notifications, dead channels, planned maintenance.

use std::{collections::BTreeMap, sync::Arc};

use mailqos_model::{Event, EventKind, Micros, UtcMicros};
use serde_json::Value;

use mailqos_lake_tables::{Lake, LakeError};

use super::Period;

/// How far back to look for what was open when a period began.
const LOOK_BACK: Micros = Micros::from_secs(LOOK_BACK_DAYS * 86_400);
/// The same in days.
pub const LOOK_BACK_DAYS: i64 = 31;

/// The alarm log of a period.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlarmLog {
    /// Alarms that were open in the period, oldest first.
    pub alarms: Vec<Alarm>,
    /// Channels that were dead in the period.
    pub dead_channels: Vec<DeadChannel>,
    /// Maintenance windows that were open in the period.
    pub windows: Vec<Window>,
    /// Whether there are older events that were not read: an alarm raised that long ago may be open
    /// and missing here.
    pub is_cut: bool,
}

/// An alarm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alarm {
    /// The site.
    pub site: Arc<str>,
    /// The monitor's id.
    pub monitor: String,
    /// When it was raised; `None` if that is further back than the log was read.
    pub raised_at: Option<UtcMicros>,
    /// When it cleared; `None` if it has not.
    pub cleared_at: Option<UtcMicros>,
    /// Description of the problem.
    pub text: String,
    /// When a channel first confirmed a notification of it.
    pub told_at: Option<UtcMicros>,
    /// Messages that no channel accepted.
    pub refused: u64,
    /// Who acknowledged it, and when.
    pub acknowledged: Option<(String, UtcMicros)>,
    /// The note of the acknowledgement.
    pub note: Option<String>,
    /// Whether it was simulated to test an action list.
    pub simulated: bool,
}

/// A channel that accepted nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadChannel {
    /// The site of the probe that uses it.
    pub site: Arc<str>,
    /// Its name.
    pub channel: String,
    /// Its first failure.
    pub from: UtcMicros,
    /// When it accepted a message again; `None` if it has not.
    pub to: Option<UtcMicros>,
    /// Its last error.
    pub error: String,
}

/// A maintenance window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The site.
    pub site: Arc<str>,
    /// Its name, with its reason.
    pub text: String,
    /// The monitors; all if empty.
    pub monitors: Vec<String>,
    /// When it began.
    pub from: UtcMicros,
    /// When it ended, or was due to end.
    pub to: Option<UtcMicros>,
    /// Who added it.
    pub by: Option<String>,
    /// Whether it was declared afterwards; its tests count.
    pub is_declared: bool,
    name: String,
}

impl AlarmLog {
    /// Reads the events of a period for the selected monitors.
    ///
    /// # Errors
    /// The lake can't be read.
    pub fn load(
        lake: &Lake,
        period: &Period,
        chosen: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Self, LakeError> {
        let first = period.from - LOOK_BACK;
        let mut log = Self { is_cut: lake.has_events_before(first)?, ..Self::default() };
        for (site, events) in lake.events(first, period.to)? {
            log.tell(&site, &events, chosen);
        }
        let declarations = lake.declarations(&(period.from..period.to))?;
        for known in declarations.all() {
            let mut monitors = known.monitors.clone();
            monitors.retain(|monitor| chosen(&known.site, monitor));
            if monitors.is_empty() && !known.monitors.is_empty() {
                continue;
            }
            let reason = known.reason.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            log.windows.push(Window {
                site: Arc::clone(&known.site),
                text: format!("{}{reason}", known.name),
                monitors,
                from: known.from,
                to: Some(known.to),
                by: known.by.clone(),
                is_declared: true,
                name: known.name.clone(),
            });
        }
        log.keep(period);
        Ok(log)
    }

    /// Returns whether the log is empty.
    pub fn is_empty(&self) -> bool {
        self.alarms.is_empty() && self.dead_channels.is_empty() && self.windows.is_empty()
    }

    /// Processes the events of a site, in order.
    fn tell(&mut self, site: &Arc<str>, events: &[Event], chosen: &dyn Fn(&str, &str) -> bool) {
        // By monitor: the last open alarm, and the end of its simulated failures.
        let mut last: BTreeMap<&str, usize> = BTreeMap::new();
        let mut simulated: BTreeMap<&str, UtcMicros> = BTreeMap::new();
        for event in events {
            let monitor = event.monitor.as_ref().map(|monitor| monitor.as_str());
            match (event.kind, monitor) {
                (EventKind::ChannelFailed | EventKind::ChannelRecovered, _) => {
                    self.channel(site, event)
                }
                (EventKind::MaintenanceStarted | EventKind::MaintenanceEnded, _)
                    if monitor.is_none_or(|monitor| chosen(site, monitor)) =>
                {
                    self.window(site, event);
                }
                (kind, Some(monitor)) if chosen(site, monitor) => {
                    let open = last.get(monitor).copied();
                    match kind {
                        EventKind::SimulationStarted => {
                            simulated.insert(monitor, event.until.unwrap_or(event.at));
                        }
                        EventKind::SimulationEnded => {
                            simulated.remove(monitor);
                        }
                        EventKind::AlarmRaised => {
                            last.insert(monitor, self.alarms.len());
                            self.alarms.push(Alarm {
                                site: Arc::clone(site),
                                monitor: monitor.to_owned(),
                                raised_at: Some(event.at),
                                text: event.text.clone().unwrap_or_default(),
                                simulated: simulated
                                    .get(monitor)
                                    .is_some_and(|until| event.at <= *until),
                                ..Alarm::default()
                            });
                        }
                        EventKind::AlarmCleared => {
                            match open.and_then(|index| self.alarms.get_mut(index)) {
                                Some(alarm) if alarm.cleared_at.is_none() => {
                                    alarm.cleared_at = Some(event.at)
                                }
                                _ => self.alarms.push(Alarm {
                                    site: Arc::clone(site),
                                    monitor: monitor.to_owned(),
                                    cleared_at: Some(event.at),
                                    ..Alarm::default()
                                }),
                            }
                        }
                        _ => {
                            if let Some(alarm) = open.and_then(|index| self.alarms.get_mut(index)) {
                                alarm.follow(event);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn channel(&mut self, site: &Arc<str>, event: &Event) {
        let Some(name) = &event.actor else { return };
        let open = self
            .dead_channels
            .iter_mut()
            .rev()
            .find(|dead| dead.site == *site && dead.channel == *name && dead.to.is_none());
        let error = event.text.clone().unwrap_or_default();
        match (event.kind, open) {
            (EventKind::ChannelRecovered, Some(dead)) => dead.to = Some(event.at),
            (EventKind::ChannelFailed, Some(dead)) => dead.error = error,
            (EventKind::ChannelFailed, None) => self.dead_channels.push(DeadChannel {
                site: Arc::clone(site),
                channel: name.clone(),
                from: event.at,
                to: None,
                error,
            }),
            _ => {}
        }
    }

    fn window(&mut self, site: &Arc<str>, event: &Event) {
        let text = event.text.clone().unwrap_or_default();
        let named = detail(event)["maintenance"].as_str().map(str::to_owned);
        let name = named.unwrap_or_else(|| text.clone());
        let open = self
            .windows
            .iter_mut()
            .rev()
            .find(|window| window.site == *site && window.name == name);
        let monitor = event.monitor.as_ref().map(ToString::to_string);
        if event.kind == EventKind::MaintenanceEnded {
            if let Some(window) = open {
                window.to = Some(event.at);
            }
            return;
        }
        // The events of its monitors follow each other within moments; the same window on another
        // day is a different one.
        match open.filter(|window| event.at - window.from < Micros::from_secs(1)) {
            Some(window) => window.monitors.extend(monitor),
            None => self.windows.push(Window {
                site: Arc::clone(site),
                text,
                monitors: monitor.into_iter().collect(),
                from: event.at,
                to: event.until,
                by: event.actor.clone(),
                is_declared: false,
                name,
            }),
        }
    }

    /// Keeps what was open in a period.
    fn keep(&mut self, period: &Period) {
        let inside = |from: Option<UtcMicros>, to: Option<UtcMicros>| {
            from.is_none_or(|from| from < period.to) && to.is_none_or(|to| to > period.from)
        };
        self.alarms.retain(|alarm| inside(alarm.raised_at, alarm.cleared_at));
        self.dead_channels.retain(|dead| inside(Some(dead.from), dead.to));
        self.windows.retain(|window| inside(Some(window.from), window.to));
        self.alarms.sort_by(|a, b| (a.raised_at, &a.monitor).cmp(&(b.raised_at, &b.monitor)));
        self.dead_channels.sort_by_key(|dead| dead.from);
        self.windows.sort_by_key(|window| window.from);
        for window in &mut self.windows {
            window.monitors.sort();
        }
    }
}

impl Alarm {
    /// Determines whether recipients had been notified when a channel accepted a message:
    /// notifications of the end, and late ones about an earlier alarm, don't count.
    fn follow(&mut self, event: &Event) {
        let detail = detail(event);
        if let (Some(created), Some(raised_at)) = (detail["created"].as_i64(), self.raised_at)
            && created < raised_at.0
        {
            return;
        }
        match event.kind {
            EventKind::NotificationSent
                if detail["confirmed"] == true && detail["why"] != "recovery" =>
            {
                self.told_at.get_or_insert(event.at);
            }
            EventKind::NotificationFailed => self.refused += 1,
            EventKind::Acknowledged => {
                if let Some(who) = &event.actor {
                    self.acknowledged = Some((who.clone(), event.at));
                    self.note.clone_from(&event.text);
                }
            }
            EventKind::AcknowledgementWithdrawn => (self.acknowledged, self.note) = (None, None),
            _ => {}
        }
    }
}

fn detail(event: &Event) -> Value {
    event.detail.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::Calendar;

    const NOON: UtcMicros = UtcMicros(1_773_144_000_000_000);

    fn at(minute: i64) -> UtcMicros {
        NOON + Micros::from_secs(60 * minute)
    }

    fn event(minute: i64, kind: EventKind, monitor: &str) -> Event {
        Event::new(monitor.parse().ok(), at(minute), kind)
            .text(format!("{} of {monitor}", kind.as_str()))
    }

    fn by(event: Event, actor: &str) -> Event {
        Event { actor: Some(actor.to_owned()), ..event }
    }

    /// Changes an event to be about a message created in this minute.
    fn about(minute: i64, event: Event) -> Event {
        let mut detail = detail(&event);
        detail["created"] = at(minute).0.into();
        Event { detail: Some(detail.to_string()), ..event }
    }

    fn sent(minute: i64, why: &str, confirmed: bool) -> Event {
        Event {
            detail: Some(serde_json::json!({ "why": why, "confirmed": confirmed }).to_string()),
            ..event(minute, EventKind::NotificationSent, "m")
        }
    }

    fn log(events: &[Event]) -> AlarmLog {
        let mut log = AlarmLog::default();
        log.tell(&"here".into(), events, &|_, monitor| monitor != "other");
        let calendar = Calendar::new(TimeZone::UTC);
        log.keep(&Period::new(at(0), at(60), calendar).expect("a period"));
        log
    }

    #[test]
    fn an_alarm_counts_as_notified_when_a_channel_confirms() {
        let log = log(&[
            event(5, EventKind::AlarmRaised, "m"),
            event(5, EventKind::AlarmRaised, "other"),
            event(6, EventKind::NotificationFailed, "m"),
            sent(7, "alarm", false),
            sent(9, "alarm", true),
            by(event(12, EventKind::Acknowledged, "m"), "anna"),
            event(20, EventKind::AlarmCleared, "m"),
            event(30, EventKind::AlarmRaised, "m"),
            event(31, EventKind::AlarmCleared, "m"),
            sent(32, "recovery", true),
        ]);
        assert_eq!(log.alarms.len(), 2, "{log:?}");
        let first = &log.alarms[0];
        assert_eq!((first.raised_at, first.cleared_at), (Some(at(5)), Some(at(20))));
        assert_eq!((first.told_at, first.refused), (Some(at(9)), 1));
        assert_eq!(first.acknowledged, Some(("anna".to_owned(), at(12))));
        assert_eq!((log.alarms[1].told_at, log.alarms[1].simulated), (None, false));
    }

    #[test]
    fn a_late_message_about_an_earlier_alarm_does_not_affect_the_next_one() {
        let log = log(&[
            event(5, EventKind::AlarmRaised, "m"),
            event(20, EventKind::AlarmCleared, "m"),
            event(30, EventKind::AlarmRaised, "m"),
            about(5, sent(31, "alarm", true)),
            about(5, event(32, EventKind::NotificationFailed, "m")),
            about(30, event(33, EventKind::NotificationFailed, "m")),
            about(30, sent(34, "alarm", true)),
        ]);
        let told: Vec<_> = log.alarms.iter().map(|alarm| (alarm.told_at, alarm.refused)).collect();
        assert_eq!(told, [(None, 0), (Some(at(34)), 1)]);
    }

    #[test]
    fn what_was_open_before_the_period_belongs_to_it_and_what_ended_before_does_not() {
        let simulation =
            Event { until: Some(at(30)), ..event(20, EventKind::SimulationStarted, "c") };
        let log = log(&[
            event(-90, EventKind::AlarmRaised, "a"),
            event(-80, EventKind::AlarmRaised, "b"),
            event(-70, EventKind::AlarmCleared, "a"),
            event(10, EventKind::AlarmCleared, "unseen"),
            simulation,
            event(20, EventKind::AlarmRaised, "c"),
            event(70, EventKind::AlarmRaised, "d"),
        ]);
        let seen: Vec<_> =
            log.alarms.iter().map(|alarm| (alarm.monitor.as_str(), alarm.simulated)).collect();
        assert_eq!(seen, [("unseen", false), ("b", false), ("c", true)]);
        assert_eq!(log.alarms[0].raised_at, None);
    }

    #[test]
    fn a_dead_channel_is_dead_until_it_accepts_a_message() {
        let log = log(&[
            by(event(-30, EventKind::ChannelFailed, ""), "gone before"),
            by(event(-20, EventKind::ChannelRecovered, ""), "gone before"),
            by(event(10, EventKind::ChannelFailed, ""), "slack"),
            by(event(15, EventKind::ChannelFailed, "").text("HTTP 500"), "slack"),
            by(event(20, EventKind::ChannelRecovered, ""), "slack"),
            by(event(40, EventKind::ChannelFailed, ""), "command siren"),
        ]);
        let seen: Vec<_> = log
            .dead_channels
            .iter()
            .map(|dead| (dead.channel.as_str(), dead.from, dead.to))
            .collect();
        assert_eq!(seen, [("slack", at(10), Some(at(20))), ("command siren", at(40), None)]);
        assert_eq!(log.dead_channels[0].error, "HTTP 500");
    }

    #[test]
    fn the_monitors_of_a_window_are_notified_together() {
        let window = |minute, monitor: &str, kind| Event {
            detail: Some("{\"maintenance\":\"patches\"}".to_owned()),
            ..event(minute, kind, monitor).text("patches: new disks")
        };
        let log = log(&[
            window(1, "a", EventKind::MaintenanceStarted),
            window(1, "b", EventKind::MaintenanceStarted),
            window(1, "other", EventKind::MaintenanceStarted),
            window(9, "a", EventKind::MaintenanceEnded),
            window(9, "b", EventKind::MaintenanceEnded),
            window(30, "a", EventKind::MaintenanceStarted),
        ]);
        assert_eq!(log.windows.len(), 2, "{log:?}");
        assert_eq!(log.windows[0].monitors, ["a", "b"]);
        assert_eq!((log.windows[0].from, log.windows[0].to), (at(1), Some(at(9))));
        assert_eq!(log.windows[1].to, None);
    }
}
