//! `mailqos-probe status`: shows the running probe's monitors in a table, once or refreshed, as
//! JSON, or in the format of a monitoring plugin.

use std::{io::Write as _, process::ExitCode, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use mailqos_config::Config;
use mailqos_control::{
    ControlError, HalfHour, Request, StateWord, ask_within,
    response::{ChannelReport, MonitorReport, ProbeReport, StatusResponse},
};
use mailqos_model::{Micros, RoundTrip};
use serde_json::Value;

use super::{
    Failure, Global, last_mail,
    terminal::{self, column, cut, width},
};

/// Timeout of a plugin's request: monitoring systems allow about ten seconds in total.
const PLUGIN_TIMEOUT: Micros = Micros::from_secs(8);
/// Timeout of all other requests.
const TIMEOUT: Micros = Micros::from_secs(60);
/// Refresh interval of `--watch`.
const AGAIN: Duration = Duration::from_secs(2);
/// Maximum number of monitors whose round trips a plugin prints.
const MAX_MEASURED: usize = 20;
/// Maximum number of failing monitors that a plugin names.
const MAX_NAMED: usize = 5;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Monitors: ids, object:NAME, tag:NAME, patterns such as "mail-*" [default: all].
    monitors: Vec<String>,
    /// Show only monitors in this state (repeatable; ignored with --format nagios).
    #[arg(long = "state", value_enum, value_name = "STATE")]
    states: Vec<StateWord>,
    /// Refresh the display every 2 s.
    #[arg(long, short)]
    watch: bool,
    /// How long to wait for the probe's response [default: 1m; 8s with --format nagios].
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Micros>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Text for reading.
    Table,
    /// JSON for scripts.
    Json,
    /// Line and exit code of a Nagios or Icinga plugin.
    Nagios,
}

pub(super) async fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    if args.format == Format::Nagios {
        return Ok(plugin(&args, global).await);
    }
    let config = global.config()?;
    let live = args.watch && args.format == Format::Table && terminal::size().is_some();
    let _screen = live.then(Screen::enter);
    tokio::select! {
        shown = show_states(&args, &config, live) => shown?,
        // Ctrl-C also works while the probe is being asked, and the terminal is restored.
        _ = tokio::signal::ctrl_c(), if args.watch => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the states once, or repeatedly until that fails.
async fn show_states(args: &Args, config: &Config, live: bool) -> Result<(), Failure> {
    let colour = terminal::is_coloured();
    loop {
        let size = terminal::size();
        let request = Request::Status {
            monitors: args.monitors.clone(),
            states: args.states.clone(),
            // Of ten thousand monitors, a screen shows fifty; the probe should not have to describe
            // all of them.
            most: size.filter(|_| live).map(|(_, lines)| lines),
        };
        let patience = args.timeout.unwrap_or(TIMEOUT).to_std();
        let text = if args.format == Format::Table {
            let columns = size.map(|(columns, _)| columns);
            ask_within(config, &request, patience).await.map(|status| {
                let table = table(&status, &config.timezone, columns, colour);
                match size {
                    Some((_, lines)) if live => table.fitting(lines),
                    _ => table.whole(),
                }
            })
        } else {
            // Printed as received, because a newer probe may send more.
            let status: Result<Value, _> = ask_within(config, &request, patience).await;
            status.map(|status| format!("{status}\n"))
        };
        let text = match text {
            Ok(text) => text,
            // The probe may be restarting.
            Err(error @ ControlError::NotRunning { .. }) if live => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        show(&text, live);
        if !args.watch {
            return Ok(());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn show(text: &str, live: bool) {
    let mut out = std::io::stdout();
    // A closed standard output is not a failure.
    let _ = if live {
        // Move the cursor home and overwrite the old text, then clear the rest, which avoids
        // flicker.
        let text = text.trim_end().replace('\n', "\x1b[K\n");
        write!(out, "\x1b[H{text}\x1b[K\x1b[J")
    } else {
        out.write_all(text.as_bytes())
    };
    let _ = out.flush();
}

/// The alternate screen of the terminal, until dropped. Long lines are cut, not wrapped.
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

/// Table of monitors.
struct Table {
    head: String,
    /// Rows, each with its urgency and its lines.
    rows: Vec<(usize, Vec<String>)>,
    /// Number of rows that the probe has not sent.
    unsent: usize,
    foot: Vec<String>,
}

impl Table {
    /// Returns all rows in the order of the monitors.
    fn whole(self) -> String {
        let rows = self.rows.into_iter().flat_map(|(_, lines)| lines);
        let more = (self.unsent > 0).then(|| format!("… and {} more", self.unsent));
        let lines: Vec<String> =
            std::iter::once(self.head).chain(rows).chain(more).chain(self.foot).collect();
        lines.join("\n") + "\n"
    }

    /// Returns the table cut to a height; if not all monitors fit, the most urgent ones come first.
    fn fitting(mut self, height: usize) -> String {
        let room = height.saturating_sub(1 + self.foot.len());
        let lines: usize = self.rows.iter().map(|(_, lines)| lines.len()).sum();
        if lines > room || self.unsent > 0 {
            self.rows.sort_by_key(|(urgency, _)| *urgency);
            let mut left = room.saturating_sub(1);
            let fit = |(_, lines): &&(usize, Vec<String>)| {
                let fits = lines.len() <= left;
                left = left.saturating_sub(lines.len());
                fits
            };
            let shown = self.rows.iter().take_while(fit).count();
            self.unsent += self.rows.len() - shown;
            self.rows.truncate(shown);
        }
        self.whole()
    }
}

/// Draws the last day in at most `bars` bars. Their height is the round trip, relative to the
/// longest. Failures and times without tests are marked.
fn sparkline(day: &[Option<HalfHour>], bars: usize, colour: bool) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    if day.is_empty() {
        return " ".repeat(bars);
    }
    let parts: Vec<(f64, f64, Option<f64>)> = day
        .chunks(day.len().div_ceil(bars))
        .map(|part| {
            let halves = || part.iter().flatten();
            let tests = halves().map(|half| f64::from(half.tests)).sum();
            let failed = halves().map(|half| f64::from(half.failed)).sum();
            let took = halves().filter_map(|half| half.round_trip_ms.map(f64::from));
            (tests, failed, took.reduce(f64::max))
        })
        .collect();
    let tallest = parts.iter().filter_map(|(_, _, took)| *took).fold(0.0, f64::max);
    let mut line = String::new();
    for (tests, failed, took) in parts {
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

/// The current time and its time zone.
struct Clock<'a> {
    now: Option<Timestamp>,
    zone: &'a TimeZone,
}

impl Clock<'_> {
    fn is_today(&self, timestamp: Timestamp) -> bool {
        let date = |timestamp: Timestamp| self.zone.to_datetime(timestamp).date();
        self.now.is_none_or(|now| date(now) == date(timestamp))
    }

    /// Formats the time if it is today, otherwise the day, in eight columns.
    fn short(&self, moment: Option<Timestamp>) -> String {
        let Some(timestamp) = moment else {
            return "–".to_owned();
        };
        let form = if self.is_today(timestamp) { "%H:%M:%S" } else { "%b %e" };
        self.zone.to_datetime(timestamp).strftime(form).to_string()
    }

    /// Formats a time, with its day if that is not today.
    fn long(&self, moment: Option<Timestamp>) -> String {
        let Some(timestamp) = moment else {
            return "–".to_owned();
        };
        let form = if self.is_today(timestamp) { "%H:%M:%S" } else { "%Y-%m-%d %H:%M" };
        self.zone.to_datetime(timestamp).strftime(form).to_string()
    }
}

/// The cells of a row.
struct Cells<'a> {
    /// The state, padded to its column.
    state: &'a str,
    id: &'a str,
    name: &'a str,
    took: &'a str,
    at: &'a str,
    /// The results of the last day, padded to their column.
    bars: &'a str,
    next: &'a str,
}

/// Widths of the columns; 0 for omitted ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Columns {
    id: usize,
    name: usize,
    took: usize,
    bars: usize,
    at: bool,
    next: bool,
}

impl Columns {
    const STATE: usize = 11;
    const ROUND_TRIP: usize = 24;
    const BRIEF: usize = 10;
    const MOMENT: usize = 8;

    /// Drops the least important columns until there is room for ids and names.
    fn fitting(ids: usize, names: usize, screen: Option<usize>) -> Self {
        let (ids, names) = (ids.max("monitor".len()), names.min(40));
        let mut columns =
            Self { id: ids, name: names, took: Self::ROUND_TRIP, bars: 24, at: true, next: true };
        let Some(screen) = screen else { return columns };
        // A single long name must not displace everything else.
        columns.id = columns.id.min(40);
        for give_up in [
            |columns: &mut Self| columns.took = Self::BRIEF,
            |columns: &mut Self| columns.name = columns.name.min(20),
            |columns: &mut Self| columns.bars = 12,
            |columns: &mut Self| columns.name = 0,
            |columns: &mut Self| columns.next = false,
            |columns: &mut Self| columns.at = false,
        ] {
            if columns.width() <= screen {
                return columns;
            }
            give_up(&mut columns);
        }
        let over = columns.width().saturating_sub(screen);
        columns.id = columns.id.saturating_sub(over).max("monitor".len());
        columns
    }

    /// Returns the width of all columns except the remarks.
    fn width(self) -> usize {
        let optional = |is: bool| if is { Self::MOMENT + 1 } else { 0 };
        let name = if self.name > 0 { self.name + 1 } else { 0 };
        Self::STATE
            + 1
            + self.id
            + 1
            + name
            + self.took
            + 1
            + self.bars
            + optional(self.at)
            + optional(self.next)
    }

    /// Formats a row; columns without space are omitted.
    fn row(self, cells: &Cells<'_>) -> String {
        let Cells { state, id, name, took, at, bars, next } = cells;
        let mut row = format!("{state} {}", column(id, self.id));
        if self.name > 0 {
            row = format!("{row} {}", column(name, self.name));
        }
        row = format!("{row} {took:>width$}", took = cut(took, self.took), width = self.took);
        if self.at {
            row = format!("{row} {}", column(at, Self::MOMENT));
        }
        row = format!("{row} {bars}");
        if self.next {
            row = format!("{row} {}", column(next, Self::MOMENT));
        }
        row
    }
}

/// Returns a text without control characters, or an empty one if there is none.
fn text<'a>(text: impl Into<Option<&'a String>>) -> String {
    terminal::plain(text.into().map_or("", String::as_str))
}

/// Formats the round trip of a monitor's last test, with its interval if there is room.
fn round_trip(monitor: &MonitorReport, is_brief: bool) -> String {
    let micros = |ms: f64| Micros((ms * 1e3) as i64);
    let Some((last, estimate)) =
        monitor.last.as_ref().and_then(|last| Some((last, last.round_trip_ms?)))
    else {
        return "–".to_owned();
    };
    let round_trip = RoundTrip {
        estimate: micros(estimate),
        error: last.round_trip_error_ms.map(micros),
        likely_error: last.round_trip_likely_error_ms.map(micros),
    };
    if is_brief { round_trip.brief() } else { round_trip.to_string() }
}

/// Formats the table for a screen of this many columns, or in its full width.
fn table(status: &StatusResponse, zone: &TimeZone, screen: Option<usize>, colour: bool) -> Table {
    let clock = Clock { now: status.at, zone };
    let monitors = &status.monitors;
    let widest = |value: fn(&MonitorReport) -> &String| {
        let widths = monitors.iter().map(|monitor| width(&text(value(monitor))));
        widths.max().unwrap_or(0)
    };
    let is_named = |monitor: &MonitorReport| !monitor.name.is_empty() && monitor.name != monitor.id;
    let names = if monitors.iter().any(is_named) {
        widest(|monitor| &monitor.name).max("name".len())
    } else {
        0
    };
    let columns = Columns::fitting(widest(|monitor| &monitor.id), names, screen);
    let paint = |code, text| paint(code, text, colour);
    let day = if columns.bars == 24 { "last day by hour" } else { "last day" };
    let head = columns.row(&Cells {
        state: &column("state", Columns::STATE),
        id: "monitor",
        name: "name",
        took: "round trip",
        at: "at",
        bars: &column(day, columns.bars),
        next: "next",
    });
    let mut table = Table {
        head: paint("1", head.trim_end().to_owned()),
        rows: Vec::new(),
        unsent: 0,
        foot: vec![String::new()],
    };
    for monitor in monitors {
        let lines = row(monitor, columns, &clock, (screen, colour));
        let urgency = StateWord::ALL.iter().position(|known| known.as_str() == monitor.state);
        table.rows.push((urgency.unwrap_or(StateWord::ALL.len()), lines));
    }
    let selected = status.selected.unwrap_or(0);
    table.unsent = selected.saturating_sub(table.rows.len());
    let probe = &status.probe;
    table.foot.push(format!(
        "{}: {}; {} running, {} waiting, {} started late, {} skipped",
        text(&probe.site),
        counts(status),
        plural(probe.running, "test"),
        probe.waiting,
        probe.late,
        probe.left_out,
    ));
    let problems = problems(probe).into_iter();
    table.foot.extend(problems.map(|problem| paint("31;1", problem)));
    for channel in &status.channels {
        if channel.failures > 0 {
            table.foot.push(paint("31;1", dead(channel, &clock)));
        } else if was_dead_lately(channel, status.at) {
            table.foot.push(format!(
                "recovered channel: {}: last failed {}: {}",
                text(&channel.channel),
                clock.long(channel.failed_at),
                text(&channel.error),
            ));
        }
    }
    table
}

/// Returns a text in a terminal colour, if colours are enabled.
fn paint(code: &str, text: String, colour: bool) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text }
}

/// Returns the lines of a monitor: its cells, and a remark after or below them.
fn row(
    monitor: &MonitorReport,
    columns: Columns,
    clock: &Clock<'_>,
    (screen, colour): (Option<usize>, bool),
) -> Vec<String> {
    let state = text(&monitor.state);
    let code = match state.as_str() {
        "ok" => "32",
        "failed" => "33",
        "alarm" => "31;1",
        "maintenance" => "36",
        _ => "2",
    };
    let row = columns.row(&Cells {
        state: &paint(code, column(&state, Columns::STATE), colour),
        id: &text(&monitor.id),
        name: &text(&monitor.name),
        took: &round_trip(monitor, columns.took < Columns::ROUND_TRIP),
        at: &clock.short(monitor.last.as_ref().and_then(|last| last.started_at)),
        bars: &sparkline(&monitor.day, columns.bars, colour),
        next: &clock.short(monitor.next),
    });
    let remark = remark(monitor, clock);
    let room = screen.map(|screen| screen.saturating_sub(columns.width() + 1));
    let mut lines = vec![row.trim_end().to_owned()];
    match room {
        _ if remark.is_empty() => {}
        Some(room) if width(&remark) > room => {
            // There is more room below the row.
            let indent = Columns::STATE + 1;
            let room = screen.unwrap_or(0).saturating_sub(indent).max(20);
            for line in terminal::lines(&remark, room, 2) {
                lines.push(format!("{}{line}", " ".repeat(indent)));
            }
        }
        _ => lines = vec![format!("{row} {remark}")],
    }
    lines
}

/// Returns the problems of the probe itself, one per line.
fn problems(probe: &ProbeReport) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(problem) = &probe.recorder_problem {
        problems.push(format!("RECORDING: {}", terminal::plain(problem)));
    }
    if let Some(problem) = &probe.metrics_problem {
        problems.push(format!("METRICS: {}", terminal::plain(problem)));
    }
    if let Some(problem) = probe.heartbeat.as_ref().and_then(|heartbeat| heartbeat.problem.as_ref())
    {
        problems.push(format!("HEARTBEAT: {}", terminal::plain(problem)));
    }
    if let Some((count, first)) = untested(probe) {
        problems.push(format!("NOT TESTED: {count}: {}", terminal::plain(&first)));
    }
    let expiring = probe.expiring.iter();
    problems.extend(expiring.map(|text| format!("EXPIRES: {}", terminal::plain(text))));
    problems
}

/// Returns a line about a channel that accepts nothing.
fn dead(channel: &ChannelReport, clock: &Clock<'_>) -> String {
    let accepted = match channel.accepted_at {
        None => "has never accepted a message".to_owned(),
        at => format!("last accepted {}", clock.long(at)),
    };
    format!(
        "FAILING CHANNEL: {}: {} in a row, {accepted}: {}",
        text(&channel.channel),
        plural(channel.failures.into(), "failure"),
        text(&channel.error),
    )
}

/// Returns the number of monitors that the probe could not test for a while, with the reason for
/// the first of them.
fn untested(probe: &ProbeReport) -> Option<(String, String)> {
    let (monitor, why) = probe.untested.iter().next()?;
    let count = plural(probe.untested.len() as u64, "monitor");
    Some((count, format!("{monitor} ({why})")))
}

fn plural(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Returns the number of monitors in a state.
fn total(status: &StatusResponse, word: StateWord) -> u64 {
    status.totals.get(word.as_str()).copied().unwrap_or(0)
}

/// Describes how many monitors are in which state.
fn counts(status: &StatusResponse) -> String {
    let counts: Vec<String> = StateWord::ALL
        .iter()
        .filter(|word| total(status, **word) > 0)
        .map(|word| format!("{} {}", total(status, *word), word.as_str()))
        .collect();
    if counts.is_empty() { "no monitors".to_owned() } else { counts.join(", ") }
}

/// Returns whether a working channel failed within the last day.
fn was_dead_lately(channel: &ChannelReport, now: Option<Timestamp>) -> bool {
    match (channel.failed_at, now) {
        (Some(failed), Some(now)) => {
            now.duration_since(failed) < jiff::SignedDuration::from_hours(24)
        }
        _ => false,
    }
}

/// Returns the remarks on a monitor's state.
fn remark(monitor: &MonitorReport, clock: &Clock<'_>) -> String {
    let mut parts = Vec::new();
    if let Some(alarm) = &monitor.alarm {
        parts.push(format!("since {}", clock.long(alarm.since)));
        if let Some(acknowledged) = &alarm.acknowledged {
            let by = &acknowledged.by;
            parts.push(match &acknowledged.note {
                Some(note) => format!("acknowledged by {by}: {note}"),
                None => format!("acknowledged by {by}"),
            });
        } else if alarm.notified_at.is_none() {
            parts.push("no one notified yet".to_owned());
        }
    }
    if let Some(holder) = &monitor.held_by {
        parts.push(format!("explained by {holder}"));
    }
    if monitor.simulated_until.is_some() {
        parts.push(format!("simulated until {}", clock.long(monitor.simulated_until)));
    }
    if let Some(maintenance) = &monitor.maintenance {
        parts.push(format!("{} until {}", text(&maintenance.name), clock.long(maintenance.until)));
    }
    if monitor.flapping {
        parts.push("flapping".to_owned());
    }
    if monitor.failures > 0 && monitor.state != StateWord::Ok.as_str() {
        parts.push(format!("{} failed: {}", monitor.failures, text(&monitor.reason)));
    }
    parts.extend(monitor.last.as_ref().map(last_mail::describe).filter(|text| !text.is_empty()));
    terminal::plain(&parts.join("; "))
}

/// Prints the result of a monitoring plugin: one line with the performance data after a bar, and
/// exit code 0, 1, 2 or 3 (<https://nagios-plugins.org/doc/guidelines.html>).
async fn plugin(args: &Args, global: &Global) -> ExitCode {
    let said = async {
        let config = global.config().map_err(|failure| match failure {
            Failure::Usage(text) | Failure::Work(text) => (3, text),
        })?;
        let request = Request::Status {
            monitors: args.monitors.clone(),
            states: Vec::new(),
            most: Some(MAX_MEASURED),
        };
        let patience = args.timeout.unwrap_or(PLUGIN_TIMEOUT).to_std();
        match ask_within(&config, &request, patience).await {
            Ok(status) => Ok(verdict(&status)),
            // The monitoring system must report exactly this: nothing is tested.
            Err(error @ (ControlError::NotRunning { .. } | ControlError::Silent(_))) => {
                Err((2, error.to_string()))
            }
            Err(error) => Err((3, error.to_string())),
        }
    };
    let (code, line) = said.await.unwrap_or_else(|(code, text): (u8, String)| {
        let line = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        (code, line.replace('|', "/"))
    });
    let word = ["OK", "WARNING", "CRITICAL", "UNKNOWN"];
    let word = word.get(usize::from(code)).copied().unwrap_or("UNKNOWN");
    show(&format!("MAILQOS {word}: {line}\n"), false);
    ExitCode::from(code)
}

/// Returns the exit code of a plugin and its line.
fn verdict(status: &StatusResponse) -> (u8, String) {
    let count = |word: StateWord| total(status, word);
    let mut troubles: Vec<String> = Vec::new();
    if let Some(problem) = &status.probe.recorder_problem {
        troubles.push(format!("samples can't be stored: {problem}"));
    }
    troubles.extend(status.probe.metrics_problem.iter().map(text));
    let heartbeat =
        status.probe.heartbeat.iter().filter_map(|heartbeat| heartbeat.problem.as_ref());
    troubles.extend(heartbeat.map(|problem| format!("heartbeat {}", text(problem))));
    let dead = status.channels.iter().filter(|channel| channel.failures > 0);
    troubles.extend(dead.map(|channel| format!("{} is failing", text(&channel.channel))));
    let blind = untested(&status.probe);
    let code = if count(StateWord::Alarm) > 0 {
        2
    } else if blind.is_some() && count(StateWord::Failed) == 0 {
        // No problem is known, but problems would not be detected either.
        3
    } else if count(StateWord::Failed) > 0 || !troubles.is_empty() {
        1
    } else if count(StateWord::Unknown) > 0 {
        3
    } else {
        0
    };
    let bad = [StateWord::Alarm, StateWord::Failed];
    let named: Vec<String> = bad
        .iter()
        .flat_map(|word| {
            let monitors = status.monitors.iter();
            monitors.filter(|monitor| monitor.state == word.as_str())
        })
        .take(MAX_NAMED)
        .map(|monitor| format!("{} ({})", text(&monitor.id), text(&monitor.reason)))
        .collect();
    let mut line = counts(status);
    if !named.is_empty() {
        line = format!("{line}: {}", named.join(", "));
    }
    let more = bad.into_iter().map(count).sum::<u64>().saturating_sub(named.len() as u64);
    if more > 0 {
        line = format!("{line} and {more} more");
    }
    for trouble in troubles {
        line = format!("{line}; {trouble}");
    }
    if let Some((number, first)) = blind {
        line = format!("{line}; the probe can't test {number}: {first}");
    }
    let mut measured: Vec<String> =
        StateWord::ALL.iter().map(|word| format!("{}={}", word.as_str(), count(*word))).collect();
    if status.selected == Some(status.monitors.len()) {
        measured.extend(status.monitors.iter().filter_map(|monitor| {
            let took = monitor.last.as_ref()?.round_trip_ms?;
            Some(format!("'{} round trip'={took:.0}ms", text(&monitor.id)))
        }));
    }
    let line = terminal::plain(&line).replace('|', "/");
    (code, format!("{line} | {}", measured.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> StatusResponse {
        let mut day = vec![Value::Null; 48];
        day[40] = json!({ "tests": 6, "failed": 0, "round_trip_ms": 200.0 });
        day[44] = json!({ "tests": 6, "failed": 2, "round_trip_ms": 800.0 });
        day[46] = json!({ "tests": 6, "failed": 6, "round_trip_ms": null });
        let last = |at: &str, took: Value| json!({ "started_at": at, "round_trip_ms": took, "round_trip_error_ms": 900.0, "round_trip_likely_error_ms": 21.0 });
        let status = json!({
            "probe": { "site": "lyon", "running": 1, "waiting": 0, "late": 2, "left_out": 0, "recorder_problem": null },
            "totals": { "ok": 1, "alarm": 2, "maintenance": 1 },
            "selected": 4,
            "monitors": [
                { "id": "mail-1", "name": "東京本社のメール", "state": "ok", "last": last("2026-11-24T10:00:00Z", json!(340.4)), "next": "2026-11-24T10:05:00Z", "day": day, "failures": 0 },
                { "id": "mail-2", "name": "Göteborg, POP3", "state": "alarm", "last": last("2026-11-24T10:01:00Z", Value::Null), "next": "2026-11-24T10:06:00Z", "day": [],
                  "alarm": { "since": "2026-11-24T09:00:00Z", "notified_at": null, "acknowledged": null }, "failures": 4, "reason": "the mail could not be sent (no connection to \"mail.example.com\" port 587: connection refused)" },
                { "id": "a-very-long-id-that-somebody-thought-was-a-good-idea.example.com", "name": "x".repeat(200), "state": "alarm", "last": last("2026-11-23T10:01:00Z", json!(12_345.0)), "next": "2026-11-25T06:00:00Z", "day": day,
                  "alarm": { "since": "2026-11-22T09:00:00Z", "notified_at": "2026-11-22T09:00:01Z", "acknowledged": { "by": "anna", "note": "disk is full" } }, "failures": 40, "reason": "the mail was late" },
                { "id": "new", "name": "new", "state": "maintenance", "last": null, "next": "2026-11-24T10:06:00Z", "day": vec![Value::Null; 48], "failures": 0,
                  "maintenance": { "name": "disks", "until": "2026-11-24T12:00:00Z" } },
            ],
            "at": "2026-11-24T10:02:00Z",
            "channels": [
                { "channel": "slack at SLACK", "failures": 3, "accepted_at": null, "error": "HTTP 404" },
                { "channel": "command siren", "failures": 0, "accepted_at": "2026-11-24T09:50:00Z", "failed_at": "2026-11-24T09:40:00Z", "error": "exit code 7" },
                { "channel": "old", "failures": 0, "accepted_at": "2026-11-22T09:50:00Z", "failed_at": "2026-11-22T09:40:00Z", "error": "exit code 7" },
            ],
        });
        serde_json::from_value(status).expect("a status")
    }

    #[test]
    fn the_table_fits_the_screen_and_shows_states_the_last_day_and_dead_channels() {
        for (name, screen) in [("piped", None), ("wide", Some(180)), ("narrow", Some(80))] {
            let shown = table(&status(), &TimeZone::UTC, screen, false).whole();
            // Failing channels are described completely and wrap.
            let monitors = shown.lines().take_while(|line| !line.is_empty());
            let widest = monitors.map(width).max();
            assert!(screen.is_none_or(|screen| widest <= Some(screen)), "{shown}");
            insta::assert_snapshot!(name, shown);
        }
    }

    #[test]
    fn a_plugin_line_states_the_severity() {
        let (code, line) = verdict(&status());
        assert_eq!(code, 2);
        insta::assert_snapshot!("plugin", line);
        let mut good = status();
        for (count, state, code) in
            [(3, "failed", 1), (3, "unknown", 3), (0, "failed", 0), (2, "maintenance", 0)]
        {
            good.totals = [("ok".to_owned(), 3), (state.to_owned(), count)].into();
            good.channels.clear();
            assert_eq!(verdict(&good).0, code, "{count} {state}");
        }
        good.channels = status().channels;
        assert_eq!(verdict(&good).0, 1, "a dead channel is a warning");
    }

    #[test]
    fn if_not_all_fit_those_that_need_attention_are_shown() {
        let states = ["ok", "ok", "alarm", "ok", "failed", "disabled"];
        let table = || Table {
            head: "head".to_owned(),
            rows: states
                .iter()
                .map(|state| {
                    let urgency = StateWord::ALL.iter().position(|known| known.as_str() == *state);
                    (urgency.expect("known"), vec![(*state).to_owned()])
                })
                .collect(),
            unsent: 0,
            foot: vec![String::new(), "foot".to_owned()],
        };
        assert_eq!(table().fitting(6), "head\nalarm\nfailed\n… and 4 more\n\nfoot\n");
        assert_eq!(table().fitting(9), "head\nok\nok\nalarm\nok\nfailed\ndisabled\n\nfoot\n");
        assert_eq!(table().fitting(2), "head\n… and 6 more\n\nfoot\n", "however small");
    }
}
