//! Events: everything that happens in addition to samples, such as a raised alarm or the start of a
//! maintenance window.

use super::{Micros, MonitorId, UtcMicros, words};

/// Longest time from the start of a period to its declaration as maintenance. Readers look for
/// declarations this long after the period that they are interested in.
pub const MAX_DECLARATION_DELAY: Micros = Micros::from_secs(400 * 86_400);

words!(
    /// The kind of an event.
    EventKind, "event" {
        /// The probe started to test.
        ProbeStarted = "probe_started",
        /// The probe was stopped by a signal.
        ProbeStopped = "probe_stopped",
        /// A monitor's alarm was raised.
        AlarmRaised = "alarm_raised",
        /// A monitor's alarm escalated: further recipients were notified.
        AlarmEscalated = "alarm_escalated",
        /// A monitor's alarm cleared.
        AlarmCleared = "alarm_cleared",
        /// A monitor's alarm is suppressed, because another monitor's failure explains it.
        AlarmHeld = "alarm_held",
        /// Someone acknowledged an alarm.
        Acknowledged = "acknowledged",
        /// Someone withdrew an acknowledgement.
        AcknowledgementWithdrawn = "acknowledgement_withdrawn",
        /// A channel accepted a notification of an alarm.
        NotificationSent = "notification_sent",
        /// No channel accepted a notification of an alarm.
        NotificationFailed = "notification_failed",
        /// A channel did not accept a notification: recorded at the first of consecutive failures,
        /// and once on each further day.
        ChannelFailed = "channel_failed",
        /// A channel accepts notifications again.
        ChannelRecovered = "channel_recovered",
        /// A maintenance window started.
        MaintenanceStarted = "maintenance_started",
        /// A maintenance window ended.
        MaintenanceEnded = "maintenance_ended",
        /// A past period was declared as maintenance. `detail` has its name, `from`, `to` (microseconds
        /// since 1970 UTC) and `monitors`.
        MaintenanceDeclared = "maintenance_declared",
        /// Such a declaration was withdrawn. `detail` has its name.
        MaintenanceWithdrawn = "maintenance_withdrawn",
        /// A simulated failure of a monitor started, to test its action list.
        SimulationStarted = "simulation_started",
        /// The simulation ended.
        SimulationEnded = "simulation_ended",
        /// Someone made a change in the web console. `detail` has the number of the entry in its audit
        /// log, the action, what it was done to, and the address of the person.
        ConsoleChange = "console_change",
        /// The configuration was reloaded.
        Reloaded = "reloaded",
        /// Samples could not be written, and are held in memory.
        RecordingFailed = "recording_failed",
        /// Samples are written again.
        RecordingRecovered = "recording_recovered",
    }
);

/// An event; (`monitor`, `at`) is unique within a site.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Event {
    /// The monitor that the event concerns; the whole site if absent.
    pub monitor: Option<MonitorId>,
    /// Time of the event.
    pub at: UtcMicros,
    /// Kind of the event.
    pub kind: EventKind,
    /// A single line for display, without secrets.
    pub text: Option<String>,
    /// The person who acknowledged, or the channel that accepted.
    pub actor: Option<String>,
    /// End of the event, if known, such as that of a maintenance window.
    pub until: Option<UtcMicros>,
    /// Further details as JSON.
    pub detail: Option<String>,
}

impl Event {
    /// Creates an event without optional fields.
    pub fn new(monitor: Option<MonitorId>, at: UtcMicros, kind: EventKind) -> Self {
        Self { monitor, at, kind, text: None, actor: None, until: None, detail: None }
    }

    /// Adds the line for display.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }
}
