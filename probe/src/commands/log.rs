//! `mailqos-probe log`: prints the events of the lake, in order.

use std::{io::Write as _, process::ExitCode};

use mailqos_config::Config;
use mailqos_control::{Request, ask, response::Sealed};
use mailqos_model::{Event, EventKind, Micros, UtcMicros};

use super::{Failure, Format, Global, select, terminal};
use crate::record::Days;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Monitors: ids, object:NAME, tag:NAME, patterns such as "mail-*" [default: all events].
    monitors: Vec<String>,
    /// How far back to show events, such as 2h.
    #[arg(long, value_name = "DURATION", default_value = "1d")]
    since: Micros,
    /// Show only events of this kind, such as alarm_raised (repeatable).
    #[arg(long = "kind")]
    kinds: Vec<EventKind>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.config()?;
    let chosen = select(&config, &args.monitors)?;
    // The latest events are in the journal of the running probe, if there is one.
    let _: Result<Sealed, _> = ask(&config, &Request::Seal).await;
    let from = UtcMicros::now() - args.since;
    let events = events(&config, from).await?;
    let mut out = std::io::stdout().lock();
    for event in events {
        let of_monitor = args.monitors.is_empty()
            || event
                .monitor
                .as_ref()
                .is_some_and(|id| chosen.iter().any(|monitor| monitor.id == *id));
        if !of_monitor || !(args.kinds.is_empty() || args.kinds.contains(&event.kind)) {
            continue;
        }
        let line = match args.format {
            Format::Json => json(&event),
            Format::Table => line(&event, &config),
        };
        // A closed standard output is not a failure.
        if writeln!(out, "{line}").is_err() {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the events from a time on, oldest first.
async fn events(config: &Config, from: UtcMicros) -> Result<Vec<Event>, Failure> {
    let days = Days::open(config).await.map_err(Failure::work)?;
    let last = UtcMicros::now().utc_date();
    let mut date = from.utc_date();
    let mut found = Vec::new();
    while date <= last {
        let events = days.read::<Event>(date).await.map_err(Failure::work)?;
        found.extend(events.into_iter().filter(|event| event.at >= from));
        date = date.tomorrow().map_err(Failure::work)?;
    }
    found.sort_by_key(|event| event.at);
    Ok(found)
}

fn json(event: &Event) -> String {
    let detail = event
        .detail
        .as_deref()
        .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    serde_json::json!({
        "at": event.at.to_string(),
        "kind": event.kind.as_str(),
        "monitor": event.monitor.as_ref().map(ToString::to_string),
        "text": event.text,
        "actor": event.actor,
        "until": event.until.map(|at| at.to_string()),
        "detail": detail,
    })
    .to_string()
}

fn line(event: &Event, config: &Config) -> String {
    let local = |at: UtcMicros| {
        let local = config.timezone.to_datetime(at.timestamp());
        local.strftime("%Y-%m-%d %H:%M:%S").to_string()
    };
    let mut line = format!(
        "{}  {:<20} {:<16} {}",
        local(event.at),
        event.kind.as_str(),
        event.monitor.as_ref().map_or("–", |monitor| monitor.as_str()),
        event.text.as_deref().unwrap_or_default(),
    );
    if let Some(actor) = &event.actor {
        line.push_str(&format!(" [{actor}]"));
    }
    if let Some(until) = event.until {
        line.push_str(&format!(" until {}", local(until)));
    }
    terminal::plain(line.trim_end())
}
