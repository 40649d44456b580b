//! States of monitors in the words of the control interface.

use serde::{Deserialize, Serialize};

/// Half an hour of a monitor, as shown by `status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HalfHour {
    /// Number of tests.
    pub tests: u16,
    /// Number of failed tests.
    pub failed: u16,
    /// Mean round trip.
    pub round_trip_ms: Option<f32>,
}

/// State of a monitor, including maintenance and missing tests, ordered by urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum StateWord {
    /// An alarm is open.
    Alarm,
    /// The last tests failed, but not enough of them for an alarm.
    Failed,
    /// Not tested at all, not tested for a while, or the last test could not be performed.
    Unknown,
    /// A maintenance window is open.
    Maintenance,
    /// The last test succeeded.
    Ok,
    /// The monitor is disabled.
    Disabled,
}

impl StateWord {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Alarm, Self::Failed, Self::Unknown, Self::Maintenance, Self::Ok, Self::Disabled];

    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Maintenance => "maintenance",
            Self::Ok => "ok",
            Self::Disabled => "disabled",
        }
    }
}
