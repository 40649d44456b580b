//! An alarm from start to end: which steps of its action list are due, and which have been taken.

use std::collections::{BTreeMap, HashMap};

use mailqos_base::clock::{MonotonicTime, Now};
use mailqos_config::{ActionList, Hours, On, Step};
use mailqos_model::{Micros, Name, Sample, UtcMicros};
use mailqos_notify::ChannelId;
use serde::{Deserialize, Serialize};

use super::NotificationKind;

/// The acknowledgement of an alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The person who acknowledged.
    pub by: String,
    /// Time of the acknowledgement.
    pub at: UtcMicros,
    /// The note.
    pub note: Option<String>,
}

/// An alarm that was raised and has not cleared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Episode {
    /// Time at which the alarm was raised; unique for the monitor.
    pub(super) raised_at: UtcMicros,
    /// The same on the steady clock.
    #[serde(default)]
    pub(super) since: MonotonicTime,
    /// The action list that reports it.
    pub(super) list: Option<Name>,
    /// The last failure.
    pub(super) sample: Box<Sample>,
    /// The steps that have been taken, by their keys.
    pub(super) taken: HashMap<String, StepState>,
    /// State of each channel.
    #[serde(default)]
    pub(super) contacts: BTreeMap<ChannelId, Contact>,
    /// How often a channel was notified that another one has taken over.
    #[serde(default)]
    pub(super) handed_over: u32,
    /// Time at which a channel first accepted a notification.
    pub(super) notified_at: Option<UtcMicros>,
    /// The acknowledgement, if there is one.
    pub(super) acknowledged: Option<Acknowledgement>,
    /// Time of the next step; `None` if it must be computed.
    #[serde(skip)]
    pub(super) next: Option<Next>,
}

/// Time of the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// At this time.
    At(MonotonicTime),
    /// Not before another event.
    Never,
}

/// A step that has been taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StepState {
    /// Number of times.
    pub(super) times: u32,
    /// Time of the last one.
    pub(super) last: MonotonicTime,
}

/// Whether a channel was notified of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Notified {
    /// It has accepted nothing.
    No,
    /// An attempt ended without an answer.
    Maybe,
    /// It has accepted a notification.
    Yes,
}

/// State of a channel with respect to an alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Contact {
    /// Key of the alarm in services that count incidents.
    pub(super) incident: String,
    /// Whether it was notified.
    pub(super) heard: Notified,
    /// Recipients of a mail who have not received it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) missed: Vec<String>,
    /// Display name of the channel.
    pub(super) step: String,
    /// How long a notification is retried.
    pub(super) retry_for: Micros,
    /// Whether it also reports the end.
    pub(super) wants_end: bool,
    /// The mail thread to which it belongs, if it was first reported together with other alarms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) thread: Option<String>,
}

impl Episode {
    /// Creates an alarm that was just raised.
    pub(super) fn new(now: Now, list: Option<Name>, sample: Sample) -> Self {
        Self {
            raised_at: now.wall,
            since: now.steady,
            list,
            sample: Box::new(sample),
            taken: HashMap::new(),
            contacts: BTreeMap::new(),
            handed_over: 0,
            notified_at: None,
            acknowledged: None,
            next: None,
        }
    }

    /// Returns the steps that are due now, with their keys and kinds of notification; records when
    /// the next one is due.
    pub(super) fn due(
        &mut self,
        list: &ActionList,
        keys: &[String],
        failures: u32,
        now: Now,
    ) -> Vec<(String, NotificationKind)> {
        let mut due = Vec::new();
        let mut next = Next::Never;
        for (step, key) in list.steps.iter().zip(keys) {
            let taken = self.taken.get(key);
            let Some(at) = self.moment(step, taken, failures, now) else {
                continue;
            };
            if at > now.steady {
                next = match next {
                    Next::At(earlier) => Next::At(earlier.min(at)),
                    Next::Never => Next::At(at),
                };
                continue;
            }
            let why = match taken {
                Some(_) => NotificationKind::Reminder,
                None if is_escalation(step) => NotificationKind::Escalated,
                None => NotificationKind::Raised,
            };
            due.push((key.clone(), why));
        }
        // A step taken now may be due again.
        self.next = due.is_empty().then_some(next);
        due
    }

    /// Returns the time at which a step is due; `None` if it waits for another event.
    fn moment(
        &self,
        step: &Step,
        taken: Option<&StepState>,
        failures: u32,
        now: Now,
    ) -> Option<MonotonicTime> {
        let begin = match taken {
            Some(taken) => taken.last + step.repeat?,
            None => self.since + step.after,
        };
        let waits = step.on == On::Recovery || failures < step.at_failure;
        // An acknowledged alarm needs no reminder or escalation.
        let silenced = self.acknowledged.is_some() && (taken.is_some() || is_escalation(step));
        if waits || silenced {
            return None;
        }
        // Hours refer to the current wall clock.
        let begin = begin.max(now.steady);
        if step.hours.is_empty() {
            return Some(begin);
        }
        Hours::first_in_all(&step.hours, now.wall_at(begin)).map(|at| now.steady_at(at))
    }

    /// Returns the suffix of incident names: a channel that has closed one and is notified of the
    /// alarm again opens another.
    pub(super) fn suffix(&self) -> String {
        match self.handed_over {
            0 => String::new(),
            times => format!("/{times}"),
        }
    }
}

fn is_escalation(step: &Step) -> bool {
    step.at_failure > 0 || step.after.0 > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailqos_base::clock::Clock;
    use mailqos_config::Config;
    use mailqos_model::Outcome;

    fn config(actions: &str) -> Config {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        let text = format!(
            "site = \"here\"\ntimezone = \"UTC\"\n[action_list.default]\nactions = [{actions}]\n"
        );
        std::fs::write(&path, text).expect("write");
        mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// Raises an alarm at 0 with three failures, and one more each minute; returns the
    /// notifications by minute.
    fn told(actions: &str, minutes: i64, acknowledged_at: Option<i64>) -> Vec<(i64, String)> {
        elapsed_despite_clock_change(actions, minutes, acknowledged_at, None)
    }

    /// Does the same with the wall clock set by this much at one of the minutes.
    fn elapsed_despite_clock_change(
        actions: &str,
        minutes: i64,
        acknowledged_at: Option<i64>,
        set: Option<(i64, Micros)>,
    ) -> Vec<(i64, String)> {
        let config = config(actions);
        let list = &config.action_lists["default"];
        let keys: Vec<String> = list.steps.iter().map(|step| step.action.route()).collect();
        let sample = Sample::new("m".parse().expect("a name"), UtcMicros(0), Outcome::Lost);
        // The wall clock is set during the alarm.
        let clock = Clock::manual(UtcMicros(0));
        let mut episode = Episode::new(clock.now(), None, sample);
        let mut told = Vec::new();
        for minute in 0..=minutes {
            if let Some((at, by)) = set
                && at == minute
            {
                clock.step(by);
                episode.next = None;
            }
            let now = clock.now();
            if Some(minute) == acknowledged_at {
                episode.acknowledged =
                    Some(Acknowledgement { by: "anna".into(), at: now.wall, note: None });
            }
            let failures = 3 + u32::try_from(minute).expect("small");
            for (key, why) in episode.due(list, &keys, failures, now) {
                told.push((
                    minute,
                    format!("{} {}", why.as_str(), key.trim_start_matches("command ")),
                ));
                let taken =
                    episode.taken.entry(key).or_insert(StepState { times: 0, last: now.steady });
                taken.times += 1;
                taken.last = now.steady;
            }
            clock.advance(Micros::from_secs(60));
        }
        told
    }

    fn lines(told: &[(i64, String)]) -> Vec<String> {
        told.iter().map(|(minute, what)| format!("{minute}: {what}")).collect()
    }

    #[test]
    fn steps_come_at_their_failure_after_their_time_and_again() {
        let actions = r#"{ command = ["a"] }, { command = ["b"], at_failure = 5 }, { command = ["c"], after = "10m", repeat = "4m" }, { command = ["d"], on = "recovery" }"#;
        assert_eq!(
            lines(&told(actions, 20, None)),
            [
                "0: alarm a",
                "2: escalation b",
                "10: escalation c",
                "14: reminder c",
                "18: reminder c"
            ]
        );
    }

    #[test]
    fn setting_the_clock_changes_nothing_about_escalations_and_reminders() {
        let actions = r#"{ command = ["a"], repeat = "4m" }, { command = ["c"], after = "10m" }"#;
        let usual = lines(&told(actions, 20, None));
        for hours in [-48, -1, 1, 48] {
            let step = Micros::from_secs(3600 * hours);
            assert_eq!(
                lines(&elapsed_despite_clock_change(actions, 20, None, Some((6, step)))),
                usual
            );
        }
        // Hours follow the wall clock however it is set: at 00:05 it is set to 01:05, and at 00:30
        // back to 00:00.
        let actions = r#"{ command = ["a"], hours = "01:00-02:00" }"#;
        let hour = Micros::from_secs(3600);
        assert_eq!(
            lines(&elapsed_despite_clock_change(actions, 120, None, Some((5, hour)))),
            ["5: alarm a"]
        );
        let back = Micros::from_secs(-1800);
        assert_eq!(
            lines(&elapsed_despite_clock_change(actions, 120, None, Some((30, back)))),
            ["90: alarm a"]
        );
    }

    #[test]
    fn who_looks_after_it_is_left_in_peace() {
        let actions = r#"{ command = ["a"], repeat = "4m" }, { command = ["b"], after = "10m" }"#;
        assert_eq!(lines(&told(actions, 20, Some(6))), ["0: alarm a", "4: reminder a"]);
    }

    #[test]
    fn an_action_waits_for_its_hours() {
        // 1970-01-01 was a Thursday; the alarm is raised at midnight.
        let actions = r#"{ command = ["a"], hours = "00:10-00:20", repeat = "4m" }, { command = ["b"], weekdays = "fri" }"#;
        assert_eq!(
            lines(&told(actions, 24 * 60, None)),
            ["10: alarm a", "14: reminder a", "18: reminder a", "1440: alarm b"]
        );
    }
}
