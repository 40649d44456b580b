//! `mailqos-probe status`: the running probe's monitors in a table, once or again and again.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use jiff::tz::TimeZone;
use serde_json::Value;

use super::{Failure, Global};
use crate::control::{Request, ask};

/// How often `--watch` asks.
const AGAIN: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The monitors: ids, object:NAME, tag:NAME, patterns such as "mail-*"; all if none are named.
    monitors: Vec<String>,
    /// Show it again every two seconds.
    #[arg(long, short)]
    watch: bool,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

pub(super) async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let config = global.config()?;
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let live = args.watch && std::io::stdout().is_terminal() && args.format == Format::Table;
    let _screen = live.then(Screen::enter);
    loop {
        let request = Request::Status {
            monitors: args.monitors.clone(),
        };
        let answer = ask(&config, &request).await?;
        let text = match args.format {
            Format::Json => format!("{answer}\n"),
            Format::Table => {
                let table = table(&answer, &config.timezone, colour);
                match crossterm::terminal::size() {
                    Ok((_, height)) if live => table.fitting(usize::from(height)),
                    _ => table.whole(),
                }
            }
        };
        let mut out = std::io::stdout();
        if live {
            // Home, the new text over the old one, and nothing below it: no flicker.
            let text = text.trim_end().replace('\n', "\x1b[K\n");
            let _ = write!(out, "\x1b[H{text}\x1b[K\x1b[J");
        } else {
            let _ = out.write_all(text.as_bytes());
        }
        let _ = out.flush();
        if !args.watch {
            break;
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A screen of its own, as long as this lives; lines that are too long are cut, not wrapped.
struct Screen;

impl Screen {
    fn enter() -> Self {
        use crossterm::{
            cursor::Hide,
            terminal::{DisableLineWrap, EnterAlternateScreen},
        };
        let _ = crossterm::execute!(std::io::stdout(), EnterAlternateScreen, DisableLineWrap, Hide);
        Self
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        use crossterm::{
            cursor::Show,
            terminal::{EnableLineWrap, LeaveAlternateScreen},
        };
        let _ = crossterm::execute!(std::io::stdout(), Show, EnableLineWrap, LeaveAlternateScreen);
    }
}

/// The states, those first that somebody should look at.
const URGENCY: [&str; 6] = ["alarm", "failed", "unknown", "maintenance", "ok", "disabled"];

/// What is shown.
struct Table {
    head: String,
    /// Each with its state's place in [`URGENCY`].
    rows: Vec<(usize, String)>,
    foot: Vec<String>,
}

impl Table {
    /// Everything, in the order of the monitors.
    fn whole(self) -> String {
        let rows = self.rows.into_iter().map(|(_, row)| row);
        let lines: Vec<String> = std::iter::once(self.head).chain(rows).chain(self.foot).collect();
        lines.join("\n") + "\n"
    }

    /// What fits into so many lines: where not all monitors do, those first that somebody should look at.
    fn fitting(mut self, height: usize) -> String {
        let room = height.saturating_sub(1 + self.foot.len());
        if self.rows.len() > room {
            self.rows.sort_by_key(|(urgency, _)| *urgency);
            let shown = room.saturating_sub(1);
            let more = self.rows.len() - shown;
            self.rows.truncate(shown);
            self.rows.push((URGENCY.len(), format!("… and {more} more")));
        }
        self.whole()
    }
}

/// A bar for each hour of the last day: its height is the round trip, against the tallest; failures stand out, and so does nothing.
fn sparkline(day: &Value, colour: bool) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let halves: Vec<&Value> = day.as_array().into_iter().flatten().collect();
    let number = |half: &Value, key: &str| half[key].as_f64().unwrap_or(0.0);
    let hours: Vec<(f64, f64, Option<f64>)> = halves
        .chunks(2)
        .map(|pair| {
            let tests = pair.iter().map(|half| number(half, "tests")).sum();
            let failed = pair.iter().map(|half| number(half, "failed")).sum();
            let took = pair.iter().filter_map(|half| half["round_trip_ms"].as_f64());
            (tests, failed, took.reduce(f64::max))
        })
        .collect();
    let tallest = hours.iter().filter_map(|(_, _, took)| *took).fold(0.0, f64::max);
    let mut line = String::new();
    for (tests, failed, took) in hours {
        let bar = match took {
            _ if tests == 0.0 => '·',
            Some(took) if tallest > 0.0 => BARS[((took / tallest * 7.0).round() as usize).min(7)],
            _ => '×',
        };
        if failed > 0.0 && colour {
            line.push_str(&format!("\x1b[31m{bar}\x1b[0m"));
        } else if failed > 0.0 {
            line.push(if took.is_some() { '!' } else { '×' });
        } else {
            line.push(bar);
        }
    }
    line
}

fn clock(value: &Value, zone: &TimeZone) -> String {
    match value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
        Some(timestamp) => zone.to_datetime(timestamp).strftime("%H:%M:%S").to_string(),
        None => "–".to_owned(),
    }
}

fn table(answer: &Value, zone: &TimeZone, colour: bool) -> Table {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let monitors: Vec<&Value> = answer["monitors"].as_array().into_iter().flatten().collect();
    let width = monitors
        .iter()
        .map(|monitor| text(&monitor["id"]).chars().count())
        .max()
        .unwrap_or(0)
        .clamp(7, 40);
    let head = format!(
        "{:<11} {:<width$} {:>10} {:<8} {:<24} {:<8} {}",
        "state", "monitor", "round trip", "at", "last day, by hours", "next", "alarm"
    );
    let mut rows = Vec::with_capacity(monitors.len());
    for monitor in &monitors {
        let state = text(&monitor["state"]);
        let code = match state.as_str() {
            "ok" => "32",
            "failed" => "33",
            "alarm" => "31;1",
            "maintenance" => "36",
            _ => "2",
        };
        let shown = if colour {
            format!("\x1b[{code}m{state:<11}\x1b[0m")
        } else {
            format!("{state:<11}")
        };
        let took = match monitor["last"]["round_trip_ms"].as_f64() {
            Some(took) if took < 10_000.0 => format!("{took:.0} ms"),
            Some(took) => format!("{:.1} s", took / 1000.0),
            None => "–".to_owned(),
        };
        let urgency = URGENCY.iter().position(|known| *known == state);
        let row = format!(
            "{shown} {:<width$} {took:>10} {:<8} {} {:<8} {}",
            text(&monitor["id"]),
            clock(&monitor["last"]["started_at"], zone),
            sparkline(&monitor["day"], colour),
            clock(&monitor["next"], zone),
            remark(monitor, zone),
        );
        rows.push((urgency.unwrap_or(URGENCY.len()), row));
    }
    let totals = &answer["totals"];
    let counts: Vec<String> = ["ok", "failed", "alarm", "maintenance", "disabled", "unknown"]
        .iter()
        .filter(|state| totals[**state].as_u64().unwrap_or(0) > 0)
        .map(|state| format!("{} {state}", totals[*state]))
        .collect();
    let probe = &answer["probe"];
    let mut lines = vec![String::new()];
    lines.push(format!(
        "{}: {}; {} tests running, {} waiting, {} started late, {} left out",
        text(&probe["site"]),
        counts.join(", "),
        probe["running"],
        probe["waiting"],
        probe["late"],
        probe["left_out"],
    ));
    if let Some(problem) = probe["recorder_problem"].as_str() {
        lines.push(format!("RECORDING: {problem}"));
    }
    for channel in answer["channels"].as_array().into_iter().flatten() {
        if channel["failures"].as_u64().unwrap_or(0) > 0 {
            lines.push(format!(
                "DEAD CHANNEL: {}: {} failures, last accepted {}: {}",
                text(&channel["channel"]),
                channel["failures"],
                channel["accepted_at"].as_str().unwrap_or("never"),
                text(&channel["error"]),
            ));
        } else if was_dead_lately(channel, &answer["at"]) {
            lines.push(format!(
                "was dead, accepts again: {}: failed last {}: {}",
                text(&channel["channel"]),
                text(&channel["failed_at"]),
                text(&channel["error"]),
            ));
        }
    }
    Table {
        head,
        rows,
        foot: lines,
    }
}

/// Whether a channel that works now did not within the last day.
fn was_dead_lately(channel: &Value, now: &Value) -> bool {
    let moment = |value: &Value| value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match (moment(&channel["failed_at"]), moment(now)) {
        (Some(failed), Some(now)) => now.duration_since(failed) < jiff::SignedDuration::from_hours(24),
        _ => false,
    }
}

/// What there is to say about a monitor's state.
fn remark(monitor: &Value, zone: &TimeZone) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut parts = Vec::new();
    let alarm = &monitor["alarm"];
    if alarm.is_object() {
        parts.push(format!("since {}", clock(&alarm["since"], zone)));
        if let Some(by) = alarm["acknowledged"]["by"].as_str() {
            parts.push(format!("{by} looks after it"));
        } else if alarm["notified_at"].is_null() {
            parts.push("nobody told yet".to_owned());
        }
    }
    if let Some(holder) = monitor["held_by"].as_str() {
        parts.push(format!("follows from {holder}"));
    }
    if let Some(until) = monitor["simulated_until"].as_str() {
        parts.push(format!(
            "simulated until {}",
            clock(&Value::String(until.to_owned()), zone)
        ));
    }
    let maintenance = &monitor["maintenance"];
    if maintenance.is_object() {
        parts.push(format!(
            "{} until {}",
            text(&maintenance["name"]),
            clock(&maintenance["until"], zone)
        ));
    }
    if monitor["flapping"] == true {
        parts.push("flapping".to_owned());
    }
    if monitor["failures"].as_u64().unwrap_or(0) > 0 && monitor["state"] != "ok" {
        parts.push(format!("{} failed: {}", monitor["failures"], text(&monitor["reason"])));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_shows_states_the_last_day_and_dead_channels() {
        let mut day = vec![Value::Null; 48];
        day[40] = json!({ "tests": 6, "failed": 0, "round_trip_ms": 200.0 });
        day[44] = json!({ "tests": 6, "failed": 2, "round_trip_ms": 800.0 });
        day[46] = json!({ "tests": 6, "failed": 6, "round_trip_ms": null });
        let answer = json!({
            "probe": { "site": "lyon", "running": 1, "waiting": 0, "late": 2, "left_out": 0, "recorder_problem": null },
            "totals": { "ok": 1, "alarm": 1 },
            "monitors": [
                { "id": "mail-1", "state": "ok", "last": { "started_at": "2026-11-24T10:00:00Z", "round_trip_ms": 340.4 }, "next": "2026-11-24T10:05:00Z", "day": day, "failures": 0 },
                { "id": "mail-2", "state": "alarm", "last": { "started_at": "2026-11-24T10:01:00Z", "round_trip_ms": null }, "next": "2026-11-24T10:06:00Z", "day": [],
                  "alarm": { "since": "2026-11-24T09:00:00Z", "notified_at": null, "acknowledged": null }, "failures": 4, "reason": "the mail could not be sent" },
            ],
            "at": "2026-11-24T10:02:00Z",
            "channels": [
                { "channel": "slack at SLACK", "failures": 3, "accepted_at": null, "error": "HTTP 404" },
                { "channel": "command siren", "failures": 0, "accepted_at": "2026-11-24T09:50:00Z", "failed_at": "2026-11-24T09:40:00Z", "error": "exit code 7" },
                { "channel": "old", "failures": 0, "accepted_at": "2026-11-22T09:50:00Z", "failed_at": "2026-11-22T09:40:00Z", "error": "exit code 7" },
            ],
        });
        insta::assert_snapshot!(table(&answer, &TimeZone::UTC, false).whole());
    }

    #[test]
    fn where_not_all_fit_those_are_shown_that_somebody_should_look_at() {
        let states = ["ok", "ok", "alarm", "ok", "failed", "disabled"];
        let table = || Table {
            head: "head".to_owned(),
            rows: states
                .iter()
                .map(|state| {
                    (
                        URGENCY.iter().position(|known| known == state).expect("known"),
                        (*state).to_owned(),
                    )
                })
                .collect(),
            foot: vec![String::new(), "foot".to_owned()],
        };
        assert_eq!(table().fitting(6), "head\nalarm\nfailed\n… and 4 more\n\nfoot\n");
        assert_eq!(
            table().fitting(9),
            "head\nok\nok\nalarm\nok\nfailed\ndisabled\n\nfoot\n"
        );
        assert_eq!(table().fitting(2), "head\n… and 6 more\n\nfoot\n", "however small");
    }
}
