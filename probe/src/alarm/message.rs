//! Texts of notifications about alarms, in the site's time zone. They contain no secrets, because
//! samples don't.

use jiff::tz::TimeZone;
use mailqos_base::clock::MonotonicTime;
use mailqos_config::Config;
use mailqos_lake::transcripts::Store;
use mailqos_model::{Micros, Outcome, RoundTrip, Sample, Stage, UtcMicros};
use mailqos_notify::{ChannelId, LogLine, Notification, Program};
use serde_json::{Value, json};

use super::{EndReason, NotificationKind, Pending, State, own_names as own};

/// Alarms that a message describes in full. Ten thousand alarms in a minute still make one readable
/// message.
const MAX_ALARMS_IN_FULL: usize = 50;
/// Transcripts that are attached to a message.
const MAX_TRANSCRIPTS: usize = 3;
/// Alarms that a mail refers to as threads.
const MAX_THREADS: usize = 20;
/// Monitors that are listed for a program.
const MAX_NAMED: usize = 500;

/// Returns the thread that a mail about this alarm alone opens. Each channel has a separate one,
/// because recipients differ.
pub(super) fn thread_of(change: &Pending) -> String {
    format!("{}.{}.{}", change.monitor, change.alarm.0, change.channel)
}

/// Returns the threads to which a mail about these changes belongs.
fn threads(changes: &[Pending]) -> Vec<String> {
    let mut threads = Vec::new();
    for change in changes.iter().filter(|change| change.why != NotificationKind::Test) {
        let thread = change.thread.clone().unwrap_or_else(|| thread_of(change));
        if !threads.contains(&thread) {
            threads.push(thread);
        }
        if threads.len() == MAX_THREADS {
            break;
        }
    }
    threads
}

/// Returns the stored transcripts of the tests that led to these changes.
fn transcripts(config: &Config, changes: &[Pending]) -> Vec<(String, String)> {
    let store = Store::new(config);
    let failed = changes.iter().filter(|change| {
        matches!(change.why, NotificationKind::Raised | NotificationKind::Escalated)
    });
    failed
        .filter_map(|change| store.get(&change.monitor, change.sample.started_at).ok())
        .take(MAX_TRANSCRIPTS)
        .map(|transcript| {
            let name = format!(
                "{}-{}.txt",
                transcript.monitor,
                transcript.started_at.timestamp().strftime("%Y%m%dT%H%M%SZ")
            );
            (name, transcript.render(&config.timezone))
        })
        .collect()
}

impl NotificationKind {
    /// Returns the word used in templates and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "alarm",
            Self::Escalated => "escalation",
            Self::Reminder => "reminder",
            Self::Cleared => "recovery",
            Self::Test => "test",
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::Raised => "ALARM",
            Self::Escalated => "ESCALATED",
            Self::Reminder => "STILL IN ALARM",
            Self::Cleared => "RECOVERED",
            Self::Test => "TEST",
        }
    }

    fn severity(self) -> u8 {
        match self {
            Self::Escalated => 2,
            Self::Raised => 3,
            Self::Reminder => 4,
            Self::Cleared | Self::Test => 5,
        }
    }
}

/// Composes the notification about these changes of alarms.
pub(super) fn write(config: &Config, changes: &[Pending]) -> Notification {
    let (subject, body) = (subject(config, changes), body(config, changes));
    let first = changes.first();
    let kind = match first {
        Some(first) if changes.iter().all(|change| change.why == first.why) => match first.why {
            NotificationKind::Cleared => "recovery",
            NotificationKind::Test => "test",
            _ => "alarm",
        },
        _ => "alarm",
    };
    let incident = first.map_or_else(String::new, |first| first.incident.clone());
    let source = first
        .and_then(|first| config.monitors.get(&first.monitor))
        .and_then(|monitor| config.objects.get(&monitor.object))
        .map_or_else(|| config.site.to_string(), |object| object.address.clone());
    let alarms: Vec<Value> =
        changes.iter().take(MAX_ALARMS_IN_FULL).map(|change| describe(config, change)).collect();
    let monitors: Vec<&str> =
        changes.iter().take(MAX_NAMED).map(|change| change.monitor.as_str()).collect();
    let component = match changes {
        [only] => only.monitor.to_string(),
        several => format!("{} monitors", several.len()),
    };
    let count = |why: NotificationKind| changes.iter().filter(|change| change.why == why).count();
    let context = json!({
        "kind": kind,
        "site": config.site.as_str(),
        "subject": subject,
        "body": body,
        "incident": incident,
        "source": source,
        "component": component,
        "count": changes.len(),
        "raised": count(NotificationKind::Raised),
        "recovered": count(NotificationKind::Cleared),
        "monitors": monitors,
        "alarms": alarms,
    });
    Notification {
        id: first.map_or_else(String::new, |first| first.id.clone()),
        threads: threads(changes),
        opens_thread: first
            .is_some_and(|first| first.why == NotificationKind::Raised && first.thread.is_none()),
        subject,
        body,
        incident,
        context,
        lines: changes.iter().map(|change| line(config, change)).collect(),
        transcripts: transcripts(config, changes),
        kind,
    }
}

/// Composes a message that tests an action list.
pub(crate) fn test(config: &Config, why: NotificationKind) -> Notification {
    write(config, &[example(config, why)])
}

/// Returns examples of messages about alarms, each with a description.
pub(crate) fn examples(config: &Config) -> Vec<(&'static str, Notification)> {
    vec![
        ("an alarm", test(config, NotificationKind::Raised)),
        ("an escalation", test(config, NotificationKind::Escalated)),
        ("a reminder", test(config, NotificationKind::Reminder)),
        ("a recovery", test(config, NotificationKind::Cleared)),
        ("many alarms", many(config)),
        ("a test", test(config, NotificationKind::Test)),
    ]
}

/// Composes a message about more alarms than are described in full, and a recovery.
pub(crate) fn many(config: &Config) -> Notification {
    let mut many: Vec<Pending> =
        vec![example(config, NotificationKind::Raised); MAX_ALARMS_IN_FULL + 7];
    many.push(example(config, NotificationKind::Cleared));
    write(config, &many)
}

/// Returns an example change of a monitor, one from the configuration if possible.
fn example(config: &Config, why: NotificationKind) -> Pending {
    let monitor = config.monitors.keys().next().cloned().unwrap_or_else(|| {
        let site = config.site.as_str();
        site.parse().unwrap_or_else(|_| unreachable!("a site's name is a monitor's id: {site}"))
    });
    let now = UtcMicros::now();
    let mut sample = Sample::new(monitor.clone(), now, Outcome::SmtpFailed);
    match why {
        NotificationKind::Cleared => {
            sample.outcome = Outcome::Ok;
            sample.round_trip = Some(Micros::from_millis(1340));
            sample.round_trip_error = Some(Micros::from_millis(20));
        }
        NotificationKind::Test => sample.outcome = Outcome::Ok,
        NotificationKind::Raised | NotificationKind::Escalated | NotificationKind::Reminder => {
            sample.stage = Some(Stage::SmtpConnect);
            sample.error = Some(
                "no connection to \"mail.example.com\" port 587: connection refused".to_owned(),
            );
        }
    }
    Pending {
        id: format!("{monitor}.{}.{}", now.0, why.as_str()),
        why,
        sample: Box::new(sample),
        state: State {
            failures: 3,
            failing_since: Some(now - Micros::from_secs(900)),
            ..State::default()
        },
        alarm: now,
        list: None,
        channel: ChannelId::default(),
        step: String::new(),
        incident: format!("mailqos/{}/{monitor}/{}", config.site, now.0),
        created: now,
        queued: MonotonicTime::default(),
        retry_for: Micros::ZERO,
        tries: 0,
        next_try: MonotonicTime::default(),
        left: Vec::new(),
        attempting: false,
        maybe: false,
        doubtful: false,
        overdue: false,
        ended: None,
        thread: None,
        monitor,
    }
}

fn describe(config: &Config, change: &Pending) -> Value {
    let monitor = config.monitors.get(&change.monitor);
    let object = monitor.and_then(|monitor| config.objects.get(&monitor.object));
    let (sample, state) = (&change.sample, &change.state);
    let time = |at: Option<UtcMicros>| at.map(|at| at.to_string());
    let since = state.failing_since;
    json!({
        "kind": change.why.as_str(),
        "monitor": change.monitor.as_str(),
        "name": name_of(config, change),
        "object": object.map_or("", |object| &object.name),
        "address": object.map_or("", |object| &object.address),
        "path": monitor.map(|monitor| monitor.kind.path()).unwrap_or_default(),
        "tags": monitor.map(|monitor| monitor.tags.iter().cloned().collect::<Vec<_>>()).unwrap_or_default(),
        "what": match (change.why, &change.ended) {
            (_, Some(ended)) => ended.words(),
            (NotificationKind::Cleared, None) => match own::words(&change.monitor) {
                Some((_, over)) => over.to_owned(),
                None => "mail works again".to_owned(),
            },
            (NotificationKind::Test, None) => "a test of the action list".to_owned(),
            _ => why_failed(sample, state),
        },
        "outcome": sample.outcome.as_str(),
        "stage": sample.stage.map(Stage::as_str),
        "error": sample.error,
        "look_at": remedy(sample.stage),
        "since": time(since),
        "since_local": since.map_or_else(|| "not known".to_owned(), |at| moment(at, &config.timezone)),
        "test": time(Some(sample.started_at)),
        "last_good": time(state.last_ok),
        "duration_seconds": since.map(|_| state.failing_for(sample).0 / 1_000_000),
        "failures": state.failures,
        "round_trip_ms": sample.round_trip.map(Micros::as_millis_f64),
        "round_trip_error_ms": sample.round_trip_error.map(Micros::as_millis_f64),
        "round_trip_likely_error_ms": sample.round_trip_likely_error.map(Micros::as_millis_f64),
    })
}

fn line(config: &Config, change: &Pending) -> LogLine {
    LogLine {
        program: Program::Probe,
        at: change.created,
        severity: change.why.severity(),
        kind: change.why.as_str(),
        monitor: change.monitor.to_string(),
        text: match &change.ended {
            Some(ended) => format!("{}: {}", name_of(config, change), ended.words()),
            None => summary(name_of(config, change), change.why, &change.sample, &change.state),
        },
    }
}

/// Returns one line about a change.
pub(super) fn summary(name: &str, why: NotificationKind, sample: &Sample, state: &State) -> String {
    if let Some((_, over)) = own::words(&sample.monitor) {
        return match why {
            NotificationKind::Cleared => format!("{name}: {over}"),
            _ => format!("{name}: {}", why_failed(sample, state)),
        };
    }
    match why {
        NotificationKind::Cleared => format!(
            "{name}: works again after {} failed test{}",
            state.failures,
            if state.failures == 1 { "" } else { "s" }
        ),
        NotificationKind::Test => format!("{name}: test of the action list; nothing has failed"),
        NotificationKind::Raised | NotificationKind::Escalated | NotificationKind::Reminder => {
            let tests = if state.failures == 1 {
                "the last test".to_owned()
            } else {
                format!("{} tests in a row", state.failures)
            };
            // A mail that arrived more slowly than allowed has not failed.
            let what = if is_out_of_bounds(sample) { "outside limits" } else { "failed" };
            format!("{name}: {tests} {what}: {}", why_failed(sample, state))
        }
    }
}

/// Returns whether the mail arrived in time and something else is wrong: a threshold, a percentile,
/// a certificate or the folder.
fn is_out_of_bounds(sample: &Sample) -> bool {
    sample.outcome == Outcome::Ok
}

/// Returns why the last test counts as failed.
fn why_failed(sample: &Sample, state: &State) -> String {
    state.reason.clone().unwrap_or_else(|| reason(sample))
}

/// Returns the cause of the failure in one line.
pub(super) fn reason(sample: &Sample) -> String {
    let outcome = match sample.outcome.as_str() {
        "late" => "the mail was late",
        "lost" => "the mail did not arrive",
        "smtp_failed" => "the mail could not be sent",
        "pickup_failed" => "the mailbox could not be read",
        other => other,
    };
    match &sample.error {
        Some(error) => format!("{outcome} ({error})"),
        None => outcome.to_owned(),
    }
}

/// Returns what to check, by the stage that failed.
fn remedy(stage: Option<Stage>) -> Option<&'static str> {
    Some(match stage? {
        Stage::SmtpConnect => {
            "Check that the SMTP server is running and reachable from the probe (name, port, \
            firewall)."
        }
        Stage::SmtpTls => "Check the SMTP server's certificate and TLS settings.",
        Stage::SmtpGreeting => {
            "The SMTP server accepts connections but sends no valid greeting. Check its \
            load and its log."
        }
        Stage::SmtpAuth => "Check whether the account is locked or its password has changed.",
        Stage::SmtpRcpt => {
            "The SMTP server rejects the sender or recipient. Check its relay and mailbox rules."
        }
        Stage::SmtpData => {
            "The SMTP server accepts the envelope but not the content. Check its queue, disk \
            space and filters."
        }
        Stage::PickupConnect => {
            "Check that the mailbox server is running and reachable from the probe (name, \
            port, firewall)."
        }
        Stage::PickupTls => "Check the mailbox server's certificate and TLS settings.",
        Stage::PickupGreeting => {
            "The mailbox server accepts connections but sends no valid greeting. Check its load and its log."
        }
        Stage::PickupLogin => {
            "Check whether the mailbox's account is locked or its password has changed."
        }
        Stage::PickupList | Stage::PickupReceive => {
            "The mailbox server does not return the mails. Check its storage."
        }
        Stage::Bounced => "The mail bounced. Read the bounce message in the sender's mailbox.",
    })
}

fn moment(at: UtcMicros, zone: &TimeZone) -> String {
    let local = zone.to_datetime(at.timestamp());
    let offset = zone.to_offset(at.timestamp());
    format!(
        "{} {:02}:{:02}:{:02} (UTC{offset})",
        local.date(),
        local.hour(),
        local.minute(),
        local.second()
    )
}

/// Formats a duration in two units, down to seconds.
pub(super) fn rough(duration: Micros) -> String {
    let seconds = Micros(duration.0 / 1_000_000 * 1_000_000);
    if seconds == Micros::ZERO {
        return "less than a second".into();
    }
    let text = seconds.to_string();
    let units = text.match_indices(|c: char| c.is_ascii_alphabetic()).map(|(at, _)| at);
    let end = units.take(2).last().map_or(text.len(), |at| at + 1);
    text[..end].to_owned()
}

/// Returns the monitor's display name, or its id if it is not in the configuration.
fn name_of<'all>(config: &'all Config, change: &'all Pending) -> &'all str {
    config.monitors.get(&change.monitor).map_or(change.monitor.as_str(), |monitor| &monitor.name)
}

/// Returns the subject of a message about one or more changes.
fn subject(config: &Config, changes: &[Pending]) -> String {
    match changes {
        [only] => {
            let own = own::words(&only.monitor);
            if let Some(ended) = &only.ended {
                return format!("ENDED: {}: {}", name_of(config, only), ended.words());
            }
            let what = match only.why {
                NotificationKind::Cleared if own.is_some() => {
                    own.map_or("", |(_, over)| over).to_owned()
                }
                NotificationKind::Raised
                | NotificationKind::Escalated
                | NotificationKind::Reminder
                    if own.is_some() =>
                {
                    own.map_or("", |(what, _)| what).to_owned()
                }
                NotificationKind::Cleared => "mail works again".to_owned(),
                NotificationKind::Test => "test of the action list; nothing has failed".to_owned(),
                NotificationKind::Raised
                | NotificationKind::Escalated
                | NotificationKind::Reminder => {
                    let (failures, s) =
                        (only.state.failures, if only.state.failures == 1 { "" } else { "s" });
                    if is_out_of_bounds(&only.sample) {
                        format!("{failures} test{s} in a row outside limits")
                    } else {
                        format!("{failures} failed test{s} in a row")
                    }
                }
            };
            format!("{}: {}: {what}", only.why.heading(), name_of(config, only))
        }
        several => {
            let mut words = Vec::new();
            for why in [
                NotificationKind::Escalated,
                NotificationKind::Raised,
                NotificationKind::Reminder,
                NotificationKind::Cleared,
                NotificationKind::Test,
            ] {
                let count = several.iter().filter(|pending| pending.why == why).count();
                let plural = if count == 1 { "" } else { "s" };
                if count > 0 {
                    words.push(format!("{}: {count} monitor{plural}", why.heading()));
                }
            }
            words.join("; ")
        }
    }
}

/// Returns the body of a message about one or more changes.
fn body(config: &Config, changes: &[Pending]) -> String {
    let zone = &config.timezone;
    let mut body = String::new();
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            body.push_str(&format!("{label:<14} {value}\n"));
        }
    };
    for (index, pending) in changes.iter().take(MAX_ALARMS_IN_FULL).enumerate() {
        if index > 0 {
            line("\n----", " ");
        }
        let (sample, state) = (&pending.sample, &pending.state);
        let heading = if pending.ended.is_some() { "ENDED" } else { pending.why.heading() };
        line(heading, name_of(config, pending));
        line("", "");
        if let Some(monitor) = config.monitors.get(&pending.monitor) {
            if let Some(object) = config.objects.get(&monitor.object) {
                line("Object", &format!("{} ({})", object.name, object.address));
            }
            line("Path", &monitor.kind.path());
        }
        line("Site", config.site.as_str());
        match pending.why {
            NotificationKind::Test => {
                line("What", "This is a test of the action list. Nothing has failed.")
            }
            NotificationKind::Raised | NotificationKind::Escalated | NotificationKind::Reminder => {
                line("What", &why_failed(sample, state));
                if let Some(since) = state.failing_since {
                    line("Failing since", &moment(since, zone));
                }
                if let Some(remedy) = own::remedy(&pending.monitor) {
                    line("What to do", remedy);
                    continue;
                }
                let what = if is_out_of_bounds(sample) { "Outside limits" } else { "Failed tests" };
                line(what, &format!("{} in a row", state.failures));
                line(
                    "Last success",
                    &state.last_ok.map_or_else(|| "not known".into(), |at| moment(at, zone)),
                );
                line("What to do", remedy(sample.stage).unwrap_or_default());
            }
            NotificationKind::Cleared if pending.ended.is_some() => {
                line("What", &pending.ended.as_ref().map(EndReason::words).unwrap_or_default());
                if let Some(since) = state.failing_since {
                    line("Failing from", &moment(since, zone));
                }
                continue;
            }
            NotificationKind::Cleared if own::is_own(&pending.monitor) => {
                line("Recovered at", &moment(sample.started_at, zone));
                if let Some(since) = state.failing_since {
                    line("Failing from", &moment(since, zone));
                }
            }
            NotificationKind::Cleared => {
                line("Recovered at", &moment(sample.started_at, zone));
                if let Some(since) = state.failing_since {
                    line("Failing from", &moment(since, zone));
                    line("Duration", &rough(state.failing_for(sample)));
                }
                line("Failed tests", &state.failures.to_string());
                if let Some(round_trip) = RoundTrip::of(sample) {
                    line("Round trip", &round_trip.to_string());
                }
            }
        }
        line("Monitor", pending.monitor.as_str());
        line("Test", &moment(sample.started_at, zone));
    }
    if changes.len() > MAX_ALARMS_IN_FULL {
        body.push_str(&format!(
            "\n… and {} more; `mailqos-probe status` lists all of them.\n",
            changes.len() - MAX_ALARMS_IN_FULL
        ));
    }
    body.push_str("\n-- \nmailqos\n");
    body
}

#[cfg(test)]
pub(super) mod tests {
    use mailqos_notify::preview;

    use super::*;

    fn config() -> Config {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        let text = r#"
            site = "stockholm"
            timezone = "Europe/Stockholm"
            [account.probe]
            user = "probe"
            password = { env = "X" }
            [object.mail1]
            name = "Mail server Göteborg"
            address = "mail.example.com"
            [monitor.m1]
            name = "Göteborg, POP3"
            object = "mail1"
            from = "probe@example.com"
            to = "box@example.com"
            smtp = { tls = "starttls" }
            pickup = { account = "probe" }
        "#;
        std::fs::write(&path, text).expect("write");
        mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"))
    }

    pub(in crate::alarm) fn pending(why: NotificationKind) -> Pending {
        let mut sample = Sample::new(
            "m1".parse().expect("a name"),
            UtcMicros(1_780_000_000_000_000),
            Outcome::SmtpFailed,
        );
        sample.stage = Some(Stage::SmtpConnect);
        sample.error = Some("can't connect to 192.0.2.1:587: connection refused".into());
        if why == NotificationKind::Cleared {
            sample.outcome = Outcome::Ok;
            sample.started_at = UtcMicros(1_780_003_723_000_000);
            sample.round_trip = Some(Micros::from_millis(1340));
            sample.round_trip_error = Some(Micros::from_millis(20));
        }
        Pending {
            sample: Box::new(sample),
            state: State {
                failures: 3,
                failing_since: Some(UtcMicros(1_780_000_000_000_000)),
                ..State::default()
            },
            incident: "mailqos/stockholm/m1/1780000001000000".into(),
            ..example(&config(), why)
        }
    }

    #[test]
    fn every_service_gets_json_for_every_notification() {
        let config = config();
        let action = |kind: &str| {
            let folder = tempfile::tempdir().expect("folder");
            let path = folder.path().join("mailqos.toml");
            let place = match kind {
                "pagerduty" | "opsgenie" | "jira-service-management" => "key = { env = \"X\" }",
                _ => "url = { env = \"X\" }",
            };
            let text = format!(
                "site = \"here\"\n[action_list.default]\nactions = [{{ webhook = {{ kind = \"{kind}\", {place} }} }}]\n"
            );
            std::fs::write(&path, text).expect("write");
            let config =
                mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
            config.action_lists["default"].steps[0].action.clone()
        };
        let mut shown = String::new();
        for service in
            ["slack", "teams", "pagerduty", "opsgenie", "jira-service-management", "ntfy"]
        {
            let action = action(service);
            for (what, notification) in examples(&config) {
                let text = preview(&action, &notification);
                serde_json::from_str::<Value>(&text)
                    .unwrap_or_else(|_| panic!("{service}: {what}: {text}"));
            }
            let pretty = preview(&action, &write(&config, &[pending(NotificationKind::Raised)]));
            shown.push_str(&format!("{service}\n{pretty}\n\n"));
        }
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn messages_about_one_alarm_belong_to_one_thread() {
        let message = |why: NotificationKind| {
            let mut change = pending(why);
            // About one alarm, as stored in the outbox.
            change.alarm = UtcMicros(1_780_000_000_000_000);
            write(&config(), &[change])
        };
        let first = message(NotificationKind::Raised);
        assert!(first.opens_thread && first.threads.len() == 1);
        assert!(first.threads[0].starts_with("m1.1780000000000000."), "{:?}", first.threads);
        for why in
            [NotificationKind::Reminder, NotificationKind::Escalated, NotificationKind::Cleared]
        {
            let later = message(why);
            assert_eq!((&later.threads, later.opens_thread), (&first.threads, false));
            assert_ne!(later.id, first.id);
        }
        assert!(message(NotificationKind::Test).threads.is_empty());
    }

    #[test]
    fn a_mail_about_alarms_that_one_mail_reported_first_refers_to_that_one() {
        let mut changes =
            vec![pending(NotificationKind::Raised), pending(NotificationKind::Raised)];
        changes[1].monitor = "m2".parse().expect("a name");
        let first = write(&config(), &changes);
        assert!(first.opens_thread);
        let thread = first.threads[0].clone();
        // As stored in the outbox after the first mail.
        for why in [NotificationKind::Reminder, NotificationKind::Cleared] {
            let mut later = changes[1].clone();
            (later.why, later.thread) = (why, Some(thread.clone()));
            let later = write(&config(), &[later]);
            assert_eq!(
                (later.threads.as_slice(), later.opens_thread),
                (&[thread.clone()][..], false)
            );
        }
    }

    #[test]
    fn an_alarm_and_its_recovery_in_words() {
        for why in
            [NotificationKind::Raised, NotificationKind::Cleared, NotificationKind::Escalated]
        {
            let told = write(&config(), &[pending(why)]);
            insta::assert_snapshot!(
                format!("alarm_{why:?}"),
                format!("{}\n\n{}", told.subject, told.body)
            );
        }
    }

    #[test]
    fn the_recorder_alarm_is_about_samples_not_tests() {
        for why in [NotificationKind::Raised, NotificationKind::Cleared] {
            let mut change = pending(why);
            change.monitor = own::RECORDER.parse().expect("a name");
            change.sample.monitor = change.monitor.clone();
            change.state.reason =
                Some("the probe can't store samples: no space left on device".into());
            let told = write(&config(), std::slice::from_ref(&change));
            let line = &told.lines[0].text;
            insta::assert_snapshot!(
                format!("recorder_{why:?}"),
                format!("{}\n\n{}\n{line}", told.subject, told.body)
            );
        }
    }

    #[test]
    fn many_alarms_are_one_readable_message() {
        let notification = write(&config(), &vec![pending(NotificationKind::Raised); 10_000]);
        assert_eq!(notification.subject, "ALARM: 10000 monitors");
        let body = &notification.body;
        assert!(body.len() < 64 * 1024 && body.contains("9950 more"), "{}", body.len());
        assert!(notification.context.to_string().len() < 256 * 1024);
        let environment: usize =
            notification.environment().iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(environment < 128 * 1024, "more than a process can be given: {environment}");
    }
}
