//! Example messages for tests, in the form in which the probe writes them.

use mailqos_model::UtcMicros;
use serde_json::json;

use crate::{LogLine, Notification, Program};

/// Returns an alarm of the monitor `m1`, with the reply of the tested server.
pub(crate) fn alarm(error: &str) -> Notification {
    alarms(1, error)
}

/// Returns one message with this many alarms.
pub(crate) fn alarms(count: usize, error: &str) -> Notification {
    let alarm = json!({
        "kind": "alarm",
        "monitor": "m1",
        "name": "Göteborg, POP3",
        "object": "Mail server Göteborg",
        "address": "mail.example.com",
        "path": [],
        "tags": [],
        "what": format!("the mail could not be sent ({error})"),
        "outcome": "smtp_failed",
        "stage": "smtp_connect",
        "error": error,
        "look_at": "Is the SMTP server running?",
        "since": "2026-05-28T20:26:40Z",
        "since_local": "2026-05-28 22:26:40",
        "test": "2026-05-28T20:26:40Z",
        "last_good": null,
        "duration_seconds": 0,
        "failures": 3,
        "round_trip_ms": null,
        "round_trip_error_ms": null,
        "round_trip_likely_error_ms": null,
    });
    let text = format!("Göteborg, POP3: 3 tests in a row failed: {error}");
    let line = LogLine {
        program: Program::Probe,
        at: UtcMicros(1_780_000_000_000_000),
        severity: 3,
        kind: "alarm",
        monitor: "m1".to_owned(),
        text: text.clone(),
    };
    let subject = "ALARM: Göteborg, POP3: 3 failed tests in a row".to_owned();
    let incident = "mailqos/stockholm/m1/1780000001000000";
    let body = format!("ALARM          Göteborg, POP3\nWhat           {text}\n\n-- \nmailqos\n");
    Notification {
        kind: "alarm",
        id: "m1.1780000000000000.alarm".to_owned(),
        threads: vec!["m1.1780000000000000.c1".to_owned()],
        opens_thread: true,
        incident: incident.to_owned(),
        context: json!({
            "kind": "alarm",
            "site": "stockholm",
            "subject": subject,
            "body": body,
            "incident": incident,
            "source": "mail.example.com",
            "component": "m1",
            "count": count,
            "raised": count,
            "recovered": 0,
            "monitors": vec!["m1"; count],
            "alarms": vec![alarm; count],
        }),
        subject,
        body,
        lines: vec![line; count],
        transcripts: Vec::new(),
    }
}

/// Returns a recovery of the monitor `m1`.
pub(crate) fn recovery() -> Notification {
    let mut recovery = alarm("none");
    recovery.kind = "recovery";
    recovery.context["kind"] = "recovery".into();
    recovery.opens_thread = false;
    recovery
}

/// Returns a message that tests an action list.
pub(crate) fn test() -> Notification {
    let mut test = alarm("none");
    test.kind = "test";
    test.context["kind"] = "test".into();
    (test.threads, test.opens_thread) = (Vec::new(), false);
    test
}
