//! Notifications: one message in all the forms that channels need.

use mailqos_config::{Config, Problem, Severity};
use mailqos_model::{UtcMicros, words};
use serde_json::{Value, json};

/// One message, about alarms or about something else, in all the forms that channels need. It never
/// contains a secret.
#[derive(Debug, Clone)]
pub struct Notification {
    /// Kind of the message as templates and programs see it: `alarm`, `recovery`, `test` or
    /// `notice`.
    pub kind: &'static str,
    /// Part of the Message-ID.
    pub id: String,
    /// The mail threads of the alarms, as parts of Message-IDs: each is that of the mail that first
    /// reported the alarm.
    pub threads: Vec<String>,
    /// Whether it is the first message about the first of the alarms.
    pub opens_thread: bool,
    /// The subject, in one line.
    pub subject: String,
    /// The complete text.
    pub body: String,
    /// Id of the incident at services that count alarms individually.
    pub incident: String,
    /// The values for templates and programs.
    pub context: Value,
    /// A line for each alarm, for logs.
    pub lines: Vec<LogLine>,
    /// Transcripts of the failed tests: file names and contents.
    pub transcripts: Vec<(String, String)>,
}

words!(
    /// The program that a message is from, as system logs name it.
    Program, "program" {
        /// The probe.
        Probe = "mailqos-probe",
        /// Analytics.
        Analytics = "mailqos-analytics",
    }
);

/// One alarm in one line.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// The program that reports it.
    pub program: Program,
    /// When it happened.
    pub at: UtcMicros,
    /// RFC 5424, section 6.2.1: 2 critical, 3 error, 4 warning, 5 notice.
    pub severity: u8,
    /// What happened: `alarm`, `escalation`, `reminder`, `recovery`, `test` or `notice`.
    pub kind: &'static str,
    /// Id of the monitor; empty for a notice.
    pub monitor: String,
    /// The text.
    pub text: String,
}

impl Notification {
    /// Returns a message that is not about a monitor, such as that a report could not be delivered.
    /// `id` stays the same if a message is sent again.
    pub fn notice(config: &Config, program: Program, id: &str, subject: &str, text: &str) -> Self {
        let subject = format!("[mailqos {}] {subject}", config.site);
        let incident = format!("mailqos/{}/notice/{id}", config.site);
        let context = json!({
            "kind": "notice",
            "site": config.site.as_str(),
            "subject": subject,
            "body": text,
            "incident": incident,
            "source": config.site.as_str(),
            "component": "mailqos",
            "count": 0,
            "raised": 0,
            "recovered": 0,
            "monitors": [],
            "alarms": [],
        });
        Self {
            kind: "notice",
            id: format!("notice.{id}"),
            threads: Vec::new(),
            opens_thread: false,
            lines: vec![LogLine {
                program,
                at: UtcMicros::now(),
                severity: 4,
                kind: "notice",
                monitor: String::new(),
                text: subject.clone(),
            }],
            subject,
            body: text.to_owned(),
            incident,
            context,
            transcripts: Vec::new(),
        }
    }

    /// Returns an example of the notices that `mailqos-analytics` sends.
    pub fn example_notice(config: &Config) -> Self {
        Self::notice(
            config,
            Program::Analytics,
            "example",
            "a report could not be delivered",
            "The report monthly has not been delivered to the target people.\n",
        )
    }

    /// Returns the same message as part of another incident.
    #[must_use]
    pub fn of_incident(mut self, incident: &str) -> Self {
        incident.clone_into(&mut self.incident);
        self.context["incident"] = Value::String(self.incident.clone());
        self
    }

    /// Returns whether it reports only recoveries.
    pub fn is_recovery(&self) -> bool {
        self.kind == "recovery"
    }

    /// Returns the variables for a program's environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |key: &str| self.context[key].as_str().unwrap_or_default().to_owned();
        let monitors = self.context["monitors"].as_array().map(Vec::as_slice).unwrap_or_default();
        vec![
            ("MAILQOS_KIND", self.kind.to_owned()),
            ("MAILQOS_SITE", text("site")),
            ("MAILQOS_SUBJECT", self.subject.clone()),
            ("MAILQOS_TEXT", self.body.clone()),
            ("MAILQOS_COUNT", self.lines.len().to_string()),
            ("MAILQOS_INCIDENT", self.incident.clone()),
            (
                "MAILQOS_MONITORS",
                monitors.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
            ),
        ]
    }

    /// Returns the problem of a template with this message, with its severity: only a warning for a
    /// notice, since not every action list is used for notices.
    pub fn weigh(&self, problem: Problem) -> Problem {
        let severity = if self.kind == "notice" { Severity::Warning } else { problem.severity };
        Problem { severity, ..problem }
    }
}
