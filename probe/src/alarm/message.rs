//! What people read: the words of an alarm, in the site's time zone. Never a secret: samples hold none.

use jiff::tz::TimeZone;
use mailqos_core::{
    config::{Config, Kind, Monitor},
    model::{Micros, Sample, Stage, UtcMicros},
};

use super::{Change, Pending, State};

/// One line about a change.
pub(super) fn summary(monitor: &Monitor, change: Change, sample: &Sample, state: &State) -> String {
    match change {
        Change::Raised => {
            let tests = if state.failures == 1 {
                "the last test".to_owned()
            } else {
                format!("{} tests in a row", state.failures)
            };
            format!("{}: {tests} failed: {}", monitor.name, reason(sample))
        }
        Change::Cleared => format!(
            "{}: good again after {} failed test{}",
            monitor.name,
            state.failures,
            if state.failures == 1 { "" } else { "s" }
        ),
    }
}

/// What went wrong, in one line.
fn reason(sample: &Sample) -> String {
    let outcome = match sample.outcome.as_str() {
        "late" => "the mail was late",
        "lost" => "the mail has not arrived",
        "smtp_failed" => "the mail could not be sent",
        "pickup_failed" => "the mailbox could not be read",
        other => other,
    };
    match &sample.error {
        Some(error) => format!("{outcome} ({error})"),
        None => outcome.to_owned(),
    }
}

/// What to look at, by the stage that failed.
fn remedy(stage: Option<Stage>) -> Option<&'static str> {
    Some(match stage? {
        Stage::SmtpConnect => "Is the SMTP server running, and reachable from the probe (firewall, name, port)?",
        Stage::SmtpTls => "Look at the SMTP server's certificate and TLS settings.",
        Stage::SmtpGreeting => "The SMTP server takes the connection and then says nothing useful: is it overloaded?",
        Stage::SmtpAuth => "Is the account locked, or its password changed?",
        Stage::SmtpRcpt => "The SMTP server refuses sender or recipient: look at its relay and mailbox rules.",
        Stage::SmtpData => "The SMTP server takes the envelope and not the mail: look at its queue, disk and filters.",
        Stage::PickupConnect => "Is the mailbox server running, and reachable from the probe (firewall, name, port)?",
        Stage::PickupTls => "Look at the mailbox server's certificate and TLS settings.",
        Stage::PickupGreeting => {
            "The mailbox server takes the connection and then says nothing useful: is it overloaded?"
        }
        Stage::PickupLogin => "Is the mailbox's account locked, or its password changed?",
        Stage::PickupList | Stage::PickupReceive => {
            "The mailbox server does not hand out the mails: look at its storage."
        }
        Stage::Bounced => "The mail came back: the bounce in the sender's mailbox says why.",
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

/// Seconds and larger, two units.
fn rough(duration: Micros) -> String {
    let seconds = Micros(duration.0 / 1_000_000 * 1_000_000);
    if seconds == Micros::ZERO {
        return "less than a second".into();
    }
    let text = seconds.to_string();
    let units = text.match_indices(|c: char| c.is_ascii_alphabetic()).map(|(at, _)| at);
    let end = units.take(2).last().map_or(text.len(), |at| at + 1);
    text[..end].to_owned()
}

/// Subject and body of one message about one or more changes.
pub(super) fn write(config: &Config, changes: &[Pending]) -> (String, String) {
    let zone = &config.timezone;
    let name = |pending: &Pending| {
        config
            .monitors
            .get(&pending.monitor)
            .map_or_else(|| pending.monitor.to_string(), |monitor| monitor.name.clone())
    };
    let word = |change| match change {
        Change::Raised => "ALARM",
        Change::Cleared => "RECOVERED",
    };
    let subject = match changes {
        [only] => {
            let what = match only.change {
                Change::Raised => format!(
                    "{} failed test{} in a row",
                    only.state.failures,
                    if only.state.failures == 1 { "" } else { "s" }
                ),
                Change::Cleared => "mail is good again".to_owned(),
            };
            format!("{}: {}: {what}", word(only.change), name(only))
        }
        several => {
            let raised = several
                .iter()
                .filter(|pending| pending.change == Change::Raised)
                .count();
            match (raised, several.len() - raised) {
                (raised, 0) => format!("ALARM: {raised} monitors"),
                (0, cleared) => format!("RECOVERED: {cleared} monitors"),
                (raised, cleared) => format!("ALARM: {raised} monitors; RECOVERED: {cleared}"),
            }
        }
    };
    let mut body = String::new();
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            body.push_str(&format!("{label:<14} {value}\n"));
        }
    };
    // Ten thousand alarms in a minute are one mail that can still be read.
    const MOST: usize = 50;
    for (index, pending) in changes.iter().take(MOST).enumerate() {
        if index > 0 {
            line("\n----", " ");
        }
        let (sample, state) = (&pending.sample, &pending.state);
        line(word(pending.change), &name(pending));
        line("", "");
        if let Some(monitor) = config.monitors.get(&pending.monitor) {
            if let Some(object) = config.objects.get(&monitor.object) {
                line("Object", &format!("{} ({})", object.name, object.address));
            }
            let Kind::MailQos(options) = &monitor.kind;
            line(
                "Path",
                &format!(
                    "{} → {}:{} → {} → {}:{}",
                    options.from,
                    options.smtp.server,
                    options.smtp.port,
                    options.to,
                    options.pickup.server,
                    options.pickup.port
                ),
            );
        }
        line("Site", config.site.as_str());
        match pending.change {
            Change::Raised => {
                line("What", &reason(sample));
                if let Some(since) = state.failing_since {
                    line("Failing since", &moment(since, zone));
                }
                line("Failed tests", &format!("{} in a row", state.failures));
                line(
                    "Last good",
                    &state.last_ok.map_or_else(|| "not known".into(), |at| moment(at, zone)),
                );
                line("Look at", remedy(sample.stage).unwrap_or_default());
            }
            Change::Cleared => {
                line("Good since", &moment(sample.started_at, zone));
                if let Some(since) = state.failing_since {
                    line("Failing from", &moment(since, zone));
                    line("Duration", &rough(sample.started_at - since));
                }
                line("Failed tests", &state.failures.to_string());
                if let Some(time) = sample.round_trip {
                    let error = sample.round_trip_error.unwrap_or_default();
                    line(
                        "Round trip",
                        &format!("{:.2} s ± {:.2} s", time.as_secs_f64(), error.as_secs_f64()),
                    );
                }
            }
        }
        line("Monitor", pending.monitor.as_str());
        line("Test", &moment(sample.started_at, zone));
    }
    if changes.len() > MOST {
        body.push_str(&format!(
            "\n… and {} more; mailqos-probe knows them all.\n",
            changes.len() - MOST
        ));
    }
    body.push_str("\n-- \nmailqos\n");
    (subject, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailqos_core::model::Outcome;

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
        mailqos_core::config::load(&path).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn pending(change: Change) -> Pending {
        let mut sample = Sample::new(
            "m1".parse().expect("a name"),
            UtcMicros(1_780_000_000_000_000),
            Outcome::SmtpFailed,
        );
        sample.stage = Some(Stage::SmtpConnect);
        sample.error = Some("can't connect to 192.0.2.1:587: connection refused".into());
        if change == Change::Cleared {
            sample.outcome = Outcome::Ok;
            sample.started_at = UtcMicros(1_780_003_723_000_000);
            sample.round_trip = Some(Micros::from_millis(1340));
            sample.round_trip_error = Some(Micros::from_millis(20));
        }
        Pending {
            id: "x".into(),
            monitor: "m1".parse().expect("a name"),
            change,
            sample: Box::new(sample),
            state: State {
                status: super::super::Status::Alarm,
                failures: 3,
                failing_since: Some(UtcMicros(1_780_000_000_000_000)),
                last_ok: None,
            },
            list: "default".parse().expect("a name"),
            tries: 0,
            next_try: UtcMicros(0),
        }
    }

    #[test]
    fn an_alarm_and_its_recovery_in_words() {
        for change in [Change::Raised, Change::Cleared] {
            let (subject, body) = write(&config(), &[pending(change)]);
            insta::assert_snapshot!(format!("alarm_{change:?}"), format!("{subject}\n\n{body}"));
        }
    }

    #[test]
    fn many_alarms_are_one_readable_message() {
        let (subject, body) = write(&config(), &vec![pending(Change::Raised); 10_000]);
        assert_eq!(subject, "ALARM: 10000 monitors");
        assert!(body.len() < 64 * 1024 && body.contains("9950 more"), "{}", body.len());
    }
}
