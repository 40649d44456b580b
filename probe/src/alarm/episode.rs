//! An alarm from its rise to its end: which steps of its action list are due, and which have been taken.

use std::collections::HashMap;

use mailqos_core::{
    config::{ActionList, Hours, On, Step},
    model::{Name, Sample, UtcMicros},
};
use serde::{Deserialize, Serialize};

use super::{Pending, Why};

/// Somebody looks after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who.
    pub by: String,
    /// When.
    pub at: UtcMicros,
    /// What they said.
    pub note: Option<String>,
}

/// An alarm that has risen and not cleared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Episode {
    /// When it rose.
    pub(super) raised_at: UtcMicros,
    /// Which action list tells of it.
    pub(super) list: Option<Name>,
    /// The last failure.
    pub(super) sample: Box<Sample>,
    /// The steps that have been taken, by their keys.
    pub(super) taken: HashMap<String, Taken>,
    /// When a channel first accepted a message about it.
    pub(super) notified_at: Option<UtcMicros>,
    /// Who looks after it.
    pub(super) acknowledged: Option<Acknowledgement>,
    /// When a step is due next; `None`: to be found out.
    #[serde(skip)]
    pub(super) next: Option<Next>,
}

/// When a step is due next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// At this moment.
    At(UtcMicros),
    /// Not before something else happens.
    Never,
}

/// A step that has been taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taken {
    /// How often.
    pub(super) times: u32,
    /// When last.
    pub(super) last: UtcMicros,
    /// What services that count alarms one by one know it by.
    pub(super) incident: String,
}

/// The keys of a list's steps: the way, and which of the same way. They stay the same when the configuration is read anew.
pub(super) fn keys(list: &ActionList) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    list.steps
        .iter()
        .map(|step| {
            let route = step.action.route();
            let number = seen.entry(route.clone()).or_default();
            *number += 1;
            if *number == 1 {
                route
            } else {
                format!("{route} #{number}")
            }
        })
        .collect()
}

impl Episode {
    /// An alarm that has just risen.
    pub(super) fn new(raised_at: UtcMicros, list: Option<Name>, sample: Sample) -> Self {
        Self {
            raised_at,
            list,
            sample: Box::new(sample),
            taken: HashMap::new(),
            notified_at: None,
            acknowledged: None,
            next: None,
        }
    }

    /// The steps that are due now, with their keys and what they tell; notes when the next one is.
    pub(super) fn due(
        &mut self,
        list: &ActionList,
        keys: &[String],
        failures: u32,
        now: UtcMicros,
    ) -> Vec<(String, Why)> {
        let mut due = Vec::new();
        let mut next = Next::Never;
        for (step, key) in list.steps.iter().zip(keys) {
            let taken = self.taken.get(key);
            let Some(at) = self.moment(step, taken, failures, now) else {
                continue;
            };
            if at > now {
                next = match next {
                    Next::At(earlier) => Next::At(earlier.min(at)),
                    Next::Never => Next::At(at),
                };
                continue;
            }
            let why = match taken {
                Some(_) => Why::Reminder,
                None if is_escalation(step) => Why::Escalated,
                None => Why::Raised,
            };
            due.push((key.clone(), why));
        }
        // What is taken now may come again.
        self.next = due.is_empty().then_some(next);
        due
    }

    /// When a step is to be taken; `None` if not before something else happens.
    fn moment(&self, step: &Step, taken: Option<&Taken>, failures: u32, now: UtcMicros) -> Option<UtcMicros> {
        let begin = match taken {
            Some(taken) => taken.last + step.repeat?,
            None => self.raised_at + step.after,
        };
        let waits = step.on == On::Recovery || failures < step.at_failure;
        // Who looks after it needs no reminder, and nobody else needs to be woken.
        let silenced = self.acknowledged.is_some() && (taken.is_some() || is_escalation(step));
        if waits || silenced {
            return None;
        }
        Hours::first_in_all(&step.hours, begin.max(now))
    }

    /// Whether a message tells of this alarm, and not of an earlier one of the monitor, or of that one's end.
    pub(super) fn is_told_by(&self, message: &Pending) -> bool {
        message.why != Why::Cleared && message.created >= self.raised_at
    }

    /// The steps that are told of the end.
    pub(super) fn end(&self, list: &ActionList, keys: &[String]) -> Vec<String> {
        let told = |step: &Step, key: &String| match step.on {
            On::Alarm => false,
            On::Both => self.taken.contains_key(key),
            On::Recovery => true,
        };
        list.steps
            .iter()
            .zip(keys)
            .filter(|(step, key)| told(step, key))
            .map(|(_, key)| key.clone())
            .collect()
    }
}

fn is_escalation(step: &Step) -> bool {
    step.at_failure > 0 || step.after.0 > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailqos_core::{
        config::Config,
        model::{Micros, Outcome},
    };

    fn config(actions: &str) -> Config {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        let text = format!("site = \"here\"\ntimezone = \"UTC\"\n[action_list.default]\nactions = [{actions}]\n");
        std::fs::write(&path, text).expect("write");
        mailqos_core::config::load(&path).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// Lets an alarm rise at 0 with three failures, one more each minute; returns what was told at which minute.
    fn told(actions: &str, minutes: i64, acknowledged_at: Option<i64>) -> Vec<(i64, String)> {
        let config = config(actions);
        let list = &config.action_lists["default"];
        let keys = keys(list);
        let sample = Sample::new("m".parse().expect("a name"), UtcMicros(0), Outcome::Lost);
        let mut episode = Episode::new(UtcMicros(0), None, sample);
        let mut told = Vec::new();
        for minute in 0..=minutes {
            let now = UtcMicros(0) + Micros::from_secs(60 * minute);
            if Some(minute) == acknowledged_at {
                episode.acknowledged = Some(Acknowledgement {
                    by: "anna".into(),
                    at: now,
                    note: None,
                });
            }
            let failures = 3 + u32::try_from(minute).expect("small");
            for (key, why) in episode.due(list, &keys, failures, now) {
                told.push((
                    minute,
                    format!("{} {}", why.as_str(), key.trim_start_matches("command ")),
                ));
                let taken = episode.taken.entry(key).or_insert(Taken {
                    times: 0,
                    last: now,
                    incident: String::new(),
                });
                taken.times += 1;
                taken.last = now;
            }
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
    fn who_looks_after_it_is_left_in_peace() {
        let actions = r#"{ command = ["a"], repeat = "4m" }, { command = ["b"], after = "10m" }"#;
        assert_eq!(lines(&told(actions, 20, Some(6))), ["0: alarm a", "4: reminder a"]);
    }

    #[test]
    fn an_action_waits_for_its_hours() {
        // 1970-01-01 was a Thursday; the alarm rises at midnight.
        let actions =
            r#"{ command = ["a"], hours = "00:10-00:20", repeat = "4m" }, { command = ["b"], weekdays = "fri" }"#;
        assert_eq!(
            lines(&told(actions, 24 * 60, None)),
            ["10: alarm a", "14: reminder a", "18: reminder a", "1440: alarm b"]
        );
    }

    #[test]
    fn the_end_is_told_to_those_who_were_told_of_the_alarm() {
        let config = config(
            r#"{ command = ["a"] }, { command = ["b"], at_failure = 5 }, { command = ["c"], on = "alarm" }, { command = ["d"], on = "recovery" }"#,
        );
        let list = &config.action_lists["default"];
        let keys = keys(list);
        let sample = Sample::new("m".parse().expect("a name"), UtcMicros(0), Outcome::Lost);
        let mut episode = Episode::new(UtcMicros(0), None, sample);
        for (key, _) in episode.due(list, &keys, 3, UtcMicros(0)) {
            let taken = Taken {
                times: 1,
                last: UtcMicros(0),
                incident: String::new(),
            };
            episode.taken.insert(key, taken);
        }
        assert_eq!(episode.end(list, &keys), ["command a", "command d"]);
    }
}
