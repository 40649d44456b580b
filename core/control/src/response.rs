//! Responses of the running probe, shared by the probe and its commands.
//!
//! The two may have different versions while the program is being updated: missing keys have
//! defaults, unknown keys are ignored, and words that a newer probe may add are texts.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mailqos_model::MonitorId;
use serde::{Deserialize, Serialize};

use crate::{HalfHour, Repetition};

/// A response in the form in which it is sent.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Response {
    /// To `status`.
    Status(Box<StatusResponse>),
    /// To `ack`.
    Acknowledged(Acknowledged),
    /// To `ack --withdraw`.
    AckWithdrawn(AckWithdrawn),
    /// To `maintenance add`.
    MaintenanceAdded(MaintenanceAdded),
    /// To `maintenance end` and `withdraw`.
    MaintenanceEnded(MaintenanceEnded),
    /// To `maintenance list`.
    MaintenanceWindows(Vec<MaintenanceWindow>),
    /// To `simulate`.
    Simulated(Simulated),
    /// To `simulate --end`.
    SimulationEnded(SimulationEnded),
    /// To a test of an action list.
    ActionsTested(ActionsTested),
    /// To changes made in the web console.
    ConsoleChangesRecorded(ConsoleChangesRecorded),
    /// To `log`, which seals first.
    Sealed(Sealed),
    /// To `reload`.
    Reloaded(Reloaded),
    /// The request failed.
    Error(ErrorResponse),
}

/// The request failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorResponse {
    /// What happened, and what to do.
    pub error: String,
}

/// Response to [`Request::Ack`](super::Request::Ack).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Acknowledged {
    /// The monitors whose alarms were acknowledged.
    pub acknowledged: Vec<MonitorId>,
    /// Those that were acknowledged before, and were to stay so.
    pub already: Vec<AlreadyAcknowledged>,
}

/// An alarm that someone has acknowledged before.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AlreadyAcknowledged {
    /// Id of the monitor.
    pub monitor: String,
    /// Who acknowledged the alarm.
    pub by: String,
}

/// Response to [`Request::AckWithdraw`](super::Request::AckWithdraw).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AckWithdrawn {
    /// The monitors whose acknowledgements were withdrawn.
    pub withdrawn: Vec<MonitorId>,
}

/// Response to [`Request::ActionsTest`](super::Request::ActionsTest).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ActionsTested {
    /// Name of the action list.
    pub list: String,
    /// The result of each action, in order.
    pub actions: Vec<ActionResult>,
}

/// The result of a test message through one action.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ActionResult {
    /// The channel with its recipient, without secrets.
    pub route: String,
    /// Whether the channel accepted the message, or may have accepted it.
    pub accepted: bool,
    /// Whether the other end confirmed it.
    pub confirmed: bool,
    /// The other end's answer, or the error.
    pub text: String,
    /// How long it took, in microseconds.
    pub took: i64,
}

/// Response to [`Request::MaintenanceAdd`](super::Request::MaintenanceAdd).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MaintenanceAdded {
    /// Name of the window.
    pub name: String,
    /// Its start.
    pub from: Option<Timestamp>,
    /// Its end.
    pub until: Option<Timestamp>,
    /// Number of monitors.
    pub monitors: usize,
}

/// Response to [`Request::MaintenanceEnd`](super::Request::MaintenanceEnd).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MaintenanceEnded {
    /// Name of the window.
    pub ended: String,
}

/// A maintenance window that is open or in the future.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MaintenanceWindow {
    /// Its name.
    pub name: String,
    /// Its start.
    pub from: Option<Timestamp>,
    /// Its end.
    pub until: Option<Timestamp>,
    /// How often it recurs, if it was added as a recurring window.
    pub repeats: Option<Repetition>,
    /// Whether it has started.
    pub open: bool,
    /// Whether it is a past period that was declared afterwards.
    pub declared: bool,
    /// Selections of monitors; all if empty.
    pub monitors: Vec<String>,
    /// Its reason.
    pub reason: Option<String>,
    /// Who added it; absent if it is in the configuration.
    pub by: Option<String>,
}

/// Response to [`Request::Simulate`](super::Request::Simulate).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Simulated {
    /// The monitors.
    pub simulated: Vec<MonitorId>,
    /// The end of the simulation.
    pub until: Option<Timestamp>,
}

/// Response to [`Request::SimulateEnd`](super::Request::SimulateEnd).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SimulationEnded {
    /// The monitors whose simulation was ended.
    pub ended: Vec<MonitorId>,
}

/// Response to [`Request::ConsoleChanges`](super::Request::ConsoleChanges).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsoleChangesRecorded {
    /// Number of the last change that is recorded.
    pub recorded: u64,
}

/// Response to [`Request::Seal`](super::Request::Seal).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sealed {
    /// Number of rows that were written.
    pub sealed: u64,
}

/// Response to [`Request::Reload`](super::Request::Reload).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reloaded {
    /// What has changed, in words.
    pub reloaded: String,
}

/// Response to [`Request::Status`](super::Request::Status).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusResponse {
    /// When the probe responded.
    pub at: Option<Timestamp>,
    /// The probe itself.
    pub probe: ProbeReport,
    /// Number of selected monitors in each state.
    pub totals: BTreeMap<String, u64>,
    /// Number of monitors that match the request; there may be fewer in `monitors`.
    pub selected: Option<usize>,
    /// The monitors.
    pub monitors: Vec<MonitorReport>,
    /// The notification channels.
    pub channels: Vec<ChannelReport>,
}

/// State and counters of the probe. Counters start at 0 with the program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeReport {
    /// Site of the probe.
    pub site: String,
    /// Version of the program.
    pub version: String,
    /// The configuration file.
    pub configuration: String,
    /// Started tests.
    pub started: u64,
    /// Running tests.
    pub running: u64,
    /// Tests that wait for a free slot.
    pub waiting: u64,
    /// Tests that started more than a second late.
    pub late: u64,
    /// Tests skipped because the previous one was still running.
    pub left_out: u64,
    /// Monitors that could not be tested for a while, and why.
    pub untested: BTreeMap<MonitorId, String>,
    /// Samples in memory that can't be written at the moment.
    pub recorder_held: usize,
    /// Why samples can't be recorded.
    pub recorder_problem: Option<String>,
    /// Why metrics can't be served.
    pub metrics_problem: Option<String>,
    /// Accounts whose credentials expire within 30 days, and when.
    pub expiring: Vec<String>,
    /// The heartbeats, if they are configured.
    pub heartbeat: Option<HeartbeatReport>,
}

/// The heartbeats of the probe.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeartbeatReport {
    /// Time at which the service last accepted one.
    pub accepted_at: Option<Timestamp>,
    /// Why none is accepted at the moment.
    pub problem: Option<String>,
}

/// One monitor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorReport {
    /// Id, such as `mail-1`.
    pub id: String,
    /// Display name.
    pub name: String,
    /// Id of its object.
    pub object: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// A word of [`StateWord`](crate::StateWord), or one that a newer probe has added.
    pub state: String,
    /// The last test.
    pub last: Option<LastReport>,
    /// Start of the last successful test.
    pub last_good: Option<Timestamp>,
    /// Failed tests in a row.
    pub failures: u32,
    /// Start of the first of them.
    pub failing_since: Option<Timestamp>,
    /// Why the last failed test failed.
    pub reason: Option<String>,
    /// Whether the state changes too often.
    pub flapping: bool,
    /// Tests in a row that could not be made.
    pub untested: u32,
    /// The monitor whose failure explains this one's.
    pub held_by: Option<MonitorId>,
    /// The open alarm.
    pub alarm: Option<AlarmReport>,
    /// The open maintenance window.
    pub maintenance: Option<MaintenanceReport>,
    /// End of a simulated failure.
    pub simulated_until: Option<Timestamp>,
    /// Start of the next test.
    pub next: Option<Timestamp>,
    /// The last day, oldest half-hour first; absent for half-hours without tests.
    pub day: Vec<Option<HalfHour>>,
}

/// The last test of a monitor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastReport {
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// Its outcome, in the words of the lake.
    pub outcome: String,
    /// Estimated round trip, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// Guaranteed error of the round trip, in milliseconds.
    pub round_trip_error_ms: Option<f64>,
    /// Half of the calibrated 99 % interval, in milliseconds.
    pub round_trip_likely_error_ms: Option<f64>,
    /// Kind of the folder in which the mail was found, in the words of the lake.
    pub placement: Option<String>,
    /// Result of SPF in the receiving system.
    pub spf: Option<String>,
    /// Result of DKIM in the receiving system.
    pub dkim: Option<String>,
    /// Result of DMARC in the receiving system.
    pub dmarc: Option<String>,
}

/// An open alarm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlarmReport {
    /// When it was raised.
    pub since: Option<Timestamp>,
    /// When a channel first accepted a notification.
    pub notified_at: Option<Timestamp>,
    /// The operator who acknowledged the alarm.
    pub acknowledged: Option<AcknowledgementReport>,
}

/// The acknowledgement of an alarm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AcknowledgementReport {
    /// Who acknowledged the alarm.
    pub by: String,
    /// When they did.
    pub at: Option<Timestamp>,
    /// Their note.
    pub note: Option<String>,
}

/// An open maintenance window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MaintenanceReport {
    /// Its name.
    pub name: String,
    /// Its end.
    pub until: Option<Timestamp>,
    /// Its reason.
    pub reason: Option<String>,
    /// Whether tests continue: `run` or `pause`.
    pub tests: String,
}

/// Health of a notification channel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelReport {
    /// Its name.
    pub channel: String,
    /// Failures since it last accepted a notification.
    pub failures: u32,
    /// When it last accepted one.
    pub accepted_at: Option<Timestamp>,
    /// When it last failed.
    pub failed_at: Option<Timestamp>,
    /// The last failure.
    pub error: Option<String>,
}
