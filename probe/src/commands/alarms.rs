//! `mailqos-probe alarms replay`: shows the alarms that other settings would have raised over the
//! recorded samples.

use std::{path::PathBuf, process::ExitCode};

use jiff::civil::Date;
use mailqos_config::{AlarmRule, Config, Monitor, Threshold, Timing};
use mailqos_model::{Micros, Sample, UtcMicros};

use super::{Failure, Format, Global, select, write_out};
use crate::{
    alarm::{Found, Replay},
    record::Days,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Compare the configured rules with changed ones over a period of recorded samples.
    Replay(Box<ReplayArgs>),
}

#[derive(Debug, clap::Args)]
struct ReplayArgs {
    /// First day of the period, in the configuration's time zone.
    #[arg(long)]
    from: Date,
    /// First day after the period.
    #[arg(long)]
    to: Date,
    /// Monitors: ids, object:NAME, tag:NAME, patterns such as "mail-*" [default: all].
    monitors: Vec<String>,
    /// Configuration file with the changed rules.
    #[arg(long, alias = "with", value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Raise an alarm after N failed tests in a row.
    #[arg(long)]
    alarm_after: Option<u32>,
    /// Raise an alarm only after failing for this long.
    #[arg(long)]
    after_time: Option<Micros>,
    /// Clear an alarm after N successful tests in a row.
    #[arg(long)]
    clear_after: Option<u32>,
    /// Maximum round trip, such as 5m.
    #[arg(long)]
    round_trip: Option<Micros>,
    /// Maximum SMTP send time, such as 10s.
    #[arg(long)]
    smtp_send: Option<Micros>,
    /// Maximum login time, such as 5s.
    #[arg(long)]
    pickup_login: Option<Micros>,
    /// Maximum receive time, such as 5s.
    #[arg(long)]
    pickup_receive: Option<Micros>,
    /// Turn flap detection on or off.
    #[arg(long)]
    flapping: Option<bool>,
    /// Simulate a test interval at least as long as the recorded one.
    #[arg(long)]
    test_interval: Option<Micros>,
    /// Count alarms about outages shorter than this as noise.
    #[arg(long, alias = "worth", default_value = "10m")]
    min_outage: Micros,
    /// Output format (JSON: one entry per monitor).
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

impl ReplayArgs {
    fn changes_something(&self) -> bool {
        self.rules.is_some()
            || self.alarm_after.is_some()
            || self.after_time.is_some()
            || self.clear_after.is_some()
            || self.flapping.is_some()
            || self.test_interval.is_some()
            || self.thresholds().iter().any(|(_, most)| most.is_some())
    }

    fn thresholds(&self) -> [(Timing, Option<Micros>); 4] {
        [
            (Timing::RoundTrip, self.round_trip),
            (Timing::SmtpSend, self.smtp_send),
            (Timing::PickupLogin, self.pickup_login),
            (Timing::PickupReceive, self.pickup_receive),
        ]
    }

    fn changed(&self, rule: &AlarmRule) -> AlarmRule {
        let mut rule = rule.clone();
        rule.after = self.alarm_after.unwrap_or(rule.after);
        rule.after_time = self.after_time.or(rule.after_time);
        rule.clear_after = self.clear_after.unwrap_or(rule.clear_after);
        rule.flapping = self.flapping.unwrap_or(rule.flapping);
        for (timing, most) in self.thresholds() {
            if let Some(most) = most {
                rule.thresholds.retain(|threshold| threshold.timing != timing);
                rule.thresholds.push(Threshold { timing, most });
            }
        }
        rule
    }
}

pub(super) async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let Command::Replay(args) = args.command;
    if [args.alarm_after, args.clear_after].contains(&Some(0)) {
        return Err(Failure::Usage(
            "--alarm-after and --clear-after must be at least 1".to_owned(),
        ));
    }
    let config = global.config()?;
    let other = match &args.rules {
        Some(path) => Some(
            mailqos_config::load(path).map_err(|problems| Failure::Usage(problems.to_string()))?,
        ),
        None => None,
    };
    let chosen = select(&config, &args.monitors)?;
    let moment = |date: Date| -> Result<UtcMicros, Failure> {
        let midnight = date.to_datetime(jiff::civil::Time::midnight());
        Ok(config.timezone.to_timestamp(midnight).map_err(Failure::work)?.into())
    };
    let (from, to) = (moment(args.from)?, moment(args.to)?);
    if to <= from {
        return Err(Failure::Usage(
            "the period ends before it starts; set --to to the first day after the period"
                .to_owned(),
        ));
    }
    let mut plays = vec![("configured", Replay::new(args.min_outage))];
    if args.changes_something() {
        plays.push(("changed", Replay::new(args.min_outage)));
    }
    for monitor in &chosen {
        for (name, replay) in &mut plays {
            if *name == "configured" {
                replay.add(&monitor.id, monitor.alarm.clone(), None);
            } else {
                let rule = other
                    .as_ref()
                    .and_then(|other| other.monitors.get(&monitor.id))
                    .map_or(&monitor.alarm, |other| &other.alarm);
                let interval = args.test_interval.or(thinner(other.as_ref(), monitor));
                replay.add(&monitor.id, args.changed(rule), interval);
            }
        }
    }
    // A current outage has lasted until now, not until a future day, and future days have no
    // samples.
    let end = to.min(UtcMicros::now());
    play(&config, from, end, &mut plays).await?;
    let found: Vec<_> = plays.into_iter().map(|(name, replay)| (name, replay.end(end))).collect();
    let mut text = String::new();
    if args.format == Format::Json {
        let seconds = |found: &Found| found.median_delay().map(Micros::as_secs_f64);
        let rows: Vec<serde_json::Value> = found
            .iter()
            .flat_map(|(name, monitors)| monitors.iter().map(move |(id, found)| (name, id, found)))
            .map(|(name, id, found)| {
                serde_json::json!({
                    "rules": name, "monitor": id.as_str(), "tests": found.tests, "alarms": found.alarms, "for_nothing": found.for_nothing,
                    "outages": found.outages, "missed": found.missed, "median_delay_seconds": seconds(found),
                })
            })
            .collect();
        text = serde_json::Value::Array(rows).to_string() + "\n";
    } else {
        text.push_str(&format!(
            "{:<12} {:>8} {:>8} {:>12} {:>14} {:>8} {:>8}\n",
            "rules", "tests", "alarms", "short-lived", "raised after", "outages", "missed"
        ));
        for (name, monitors) in &found {
            let mut all = Found::default();
            monitors.values().for_each(|found| all.add(found));
            let delay = all.median_delay().map_or_else(
                || "–".to_owned(),
                |delay| Micros(delay.0 / 1_000_000 * 1_000_000).to_string(),
            );
            text.push_str(&format!(
                "{name:<12} {:>8} {:>8} {:>12} {delay:>14} {:>8} {:>8}\n",
                all.tests, all.alarms, all.for_nothing, all.outages, all.missed
            ));
        }
        text.push_str(&format!(
            "\nraised after: median time from the first failed test to the alarm; short-lived: alarms that cleared within {worth};\n\
             outages: outages of at least {worth}; missed: those that raised no alarm\n",
            worth = args.min_outage
        ));
    }
    write_out(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the test interval of another configuration, if it is longer.
fn thinner(other: Option<&Config>, monitor: &Monitor) -> Option<Micros> {
    let other = other?.monitors.get(&monitor.id)?;
    (other.test_interval > monitor.test_interval).then_some(other.test_interval)
}

async fn play(
    config: &Config,
    from: UtcMicros,
    to: UtcMicros,
    plays: &mut [(&str, Replay)],
) -> Result<(), Failure> {
    let days = Days::open(config).await.map_err(Failure::work)?;
    let mut date = from.utc_date();
    while date <= to.utc_date() {
        let samples = days.read::<Sample>(date).await.map_err(Failure::work)?;
        for sample in samples.iter().filter(|sample| (from..to).contains(&sample.started_at)) {
            for (_, replay) in plays.iter_mut() {
                replay.play(sample);
            }
        }
        date = date.tomorrow().map_err(Failure::work)?;
    }
    Ok(())
}
