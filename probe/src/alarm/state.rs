//! The state of one monitor: moved by samples, and by nothing else.

use mailqos_core::model::{Outcome, Sample, UtcMicros};
use serde::{Deserialize, Serialize};

/// What a monitor is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not tested yet.
    #[default]
    Unknown,
    /// The last test was good.
    Ok,
    /// The last tests failed, too few for an alarm.
    Failed,
    /// The alarm has risen and not cleared.
    Alarm,
}

/// What a sample changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The alarm rose.
    Raised,
    /// The alarm cleared.
    Cleared,
}

/// The state of one monitor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// What it is at.
    pub status: Status,
    /// How many tests failed in a row; of the alarm that cleared, when it just did.
    pub failures: u32,
    /// When the first of them began.
    pub failing_since: Option<UtcMicros>,
    /// When the last good test began.
    pub last_ok: Option<UtcMicros>,
}

impl State {
    /// Takes a sample into account; alarms and recoveries alternate.
    pub fn step(&mut self, sample: &Sample, alarm_after: u32) -> Option<Change> {
        if sample.outcome == Outcome::NotTested || sample.excluded.is_some() {
            return None;
        }
        if sample.outcome == Outcome::Ok {
            self.last_ok = Some(sample.started_at);
            let before = std::mem::replace(&mut self.status, Status::Ok);
            if before == Status::Alarm {
                return Some(Change::Cleared);
            }
            self.failures = 0;
            self.failing_since = None;
            return None;
        }
        if matches!(self.status, Status::Ok | Status::Unknown) {
            self.failures = 0;
            self.failing_since = Some(sample.started_at);
            self.status = Status::Failed;
        }
        self.failures = self.failures.saturating_add(1);
        if self.status == Status::Failed && self.failures >= alarm_after {
            self.status = Status::Alarm;
            return Some(Change::Raised);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(outcome: Outcome, at: i64) -> Sample {
        Sample::new("m".parse().expect("a name"), UtcMicros(at), outcome)
    }

    proptest! {
        #[test]
        fn alarms_and_recoveries_alternate(
            outcomes in proptest::collection::vec(proptest::sample::select(Outcome::ALL), 0..60),
            alarm_after in 1u32..5,
        ) {
            let mut state = State::default();
            let mut last = Change::Cleared;
            let mut run = 0;
            for (at, outcome) in outcomes.into_iter().enumerate() {
                let change = state.step(&sample(outcome, at as i64), alarm_after);
                match outcome {
                    Outcome::NotTested => {}
                    Outcome::Ok => run = 0,
                    _ => run += 1,
                }
                if let Some(change) = change {
                    prop_assert_ne!(change, last);
                    prop_assert_eq!(change == Change::Raised, run == alarm_after);
                    last = change;
                } else if outcome != Outcome::NotTested {
                    prop_assert!(run != alarm_after || last == Change::Raised);
                }
            }
        }
    }

    #[test]
    fn the_outage_is_remembered_for_the_recovery() {
        let mut state = State::default();
        for at in 1..=4 {
            state.step(&sample(Outcome::Lost, at), 3);
        }
        assert_eq!(state.step(&sample(Outcome::Ok, 5), 3), Some(Change::Cleared));
        assert_eq!((state.failures, state.failing_since), (4, Some(UtcMicros(1))));
        state.step(&sample(Outcome::SmtpFailed, 6), 3);
        assert_eq!((state.failures, state.failing_since), (1, Some(UtcMicros(6))));
    }
}
