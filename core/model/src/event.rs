//! The event: what happened beside the samples, such as an alarm that rose or a maintenance that began.

use super::{MonitorId, UtcMicros, words};

words!(
    /// What happened.
    EventKind, "event" {
        /// The probe began to test.
        ProbeStarted = "probe_started",
        /// The probe was told to stop, and did.
        ProbeStopped = "probe_stopped",
        /// A monitor's alarm rose.
        AlarmRaised = "alarm_raised",
        /// A monitor's alarm lasts, and more people are told.
        AlarmEscalated = "alarm_escalated",
        /// A monitor's alarm cleared.
        AlarmCleared = "alarm_cleared",
        /// A monitor's alarm waits, since another's failure explains it.
        AlarmHeld = "alarm_held",
        /// Somebody said that he looks after it.
        Acknowledged = "acknowledged",
        /// A channel accepted a message about an alarm.
        NotificationSent = "notification_sent",
        /// No channel accepted a message about an alarm.
        NotificationFailed = "notification_failed",
        /// A way of telling did not accept a message: at the first of a row of failures, and once on each further day.
        ChannelFailed = "channel_failed",
        /// A way of telling accepts messages again.
        ChannelRecovered = "channel_recovered",
        /// A maintenance window began.
        MaintenanceStarted = "maintenance_started",
        /// A maintenance window ended.
        MaintenanceEnded = "maintenance_ended",
        /// A monitor was told to count as failed, to try out its action list.
        SimulationStarted = "simulation_started",
        /// It counts as it is again.
        SimulationEnded = "simulation_ended",
        /// The configuration was read anew.
        Reloaded = "reloaded",
        /// Samples could not be written, and are held in memory.
        RecordingFailed = "recording_failed",
        /// Samples are written again.
        RecordingRecovered = "recording_recovered",
    }
);

/// One event; (`monitor`, `at`) is unique within a site.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Event {
    /// The monitor that it is about; the whole site if absent.
    pub monitor: Option<MonitorId>,
    /// When it happened.
    pub at: UtcMicros,
    /// What happened.
    pub kind: EventKind,
    /// One line for people, without secrets.
    pub text: Option<String>,
    /// Who: the person who acknowledged, the channel that accepted.
    pub actor: Option<String>,
    /// Until when, where it is known: the end of a maintenance window.
    pub until: Option<UtcMicros>,
    /// More, as JSON.
    pub detail: Option<String>,
}

impl Event {
    /// An event with nothing more to say.
    pub fn new(monitor: Option<MonitorId>, at: UtcMicros, kind: EventKind) -> Self {
        Self {
            monitor,
            at,
            kind,
            text: None,
            actor: None,
            until: None,
            detail: None,
        }
    }

    /// Adds the line for people.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }
}
