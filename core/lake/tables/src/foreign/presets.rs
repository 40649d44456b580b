//! The exports of other tools, converted to our columns: `started_at` (microseconds since 1970
//! UTC), `monitor`, `outcome`, `error`, `round_trip_us`.

mod checkmk;
mod grafana;
mod markup;
mod nagios;
mod prometheus;
mod prtg;
mod smokeping;
mod uptime_kuma;

use std::path::Path;

use super::{Row, Table, table};
use crate::LakeAdminError;

/// A tool whose exports can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// PRTG: historic data as CSV or XML.
    Prtg,
    /// SmokePing: the output of `rrdtool fetch FILE AVERAGE`, of `rrdtool xport` or of
    /// `rrdtool dump`.
    Smokeping,
    /// Uptime Kuma: the table heartbeat as CSV or JSON.
    UptimeKuma,
    /// Nagios and compatible systems: service performance data.
    Nagios,
    /// Checkmk: metrics from the REST API as JSON, or a graph as CSV.
    Checkmk,
    /// Prometheus: the result of query_range as JSON, or promtool's output.
    Prometheus,
    /// Grafana: the data of a panel as CSV.
    Grafana,
}

/// What to import from an export that contains several measurements.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExportSelection<'a> {
    /// The channel, metric or label of the round trip (default: a likely name).
    pub round_trip: Option<&'a str>,
    /// The delimiter of a CSV file.
    pub delimiter: Option<u8>,
}

/// A measurement in our columns.
#[derive(Debug, Clone, Default, PartialEq)]
struct Measurement {
    line: u64,
    /// Microseconds since 1970 UTC.
    at: i64,
    /// The time as written, if it has no offset; it is resolved by the order of rows.
    local: Option<String>,
    monitor: Option<String>,
    /// `None` if nothing is known about the test, which is then skipped.
    outcome: Option<&'static str>,
    error: Option<String>,
    round_trip_us: Option<i64>,
}

impl Preset {
    /// Reads an export.
    ///
    /// # Errors
    /// The file can't be read, or is not an export of this tool.
    pub fn read(self, file: &Path, wish: ExportSelection<'_>) -> Result<Table, LakeAdminError> {
        let wrong =
            |reason: String| LakeAdminError::Import(format!("{}: {reason}", file.display()));
        let (measurements, notes) = match self {
            Self::Prtg if table::begins_with(file, b"<")? => {
                prtg::read(&markup::historic_data(&table::text(file)?).map_err(wrong)?, wish)
                    .map_err(wrong)?
            }
            Self::Prtg => {
                prtg::read(&table::read_csv(file, wish.delimiter)?, wish).map_err(wrong)?
            }
            Self::UptimeKuma if table::begins_with(file, b"SQLite format 3")? => {
                return Err(wrong(uptime_kuma::DATABASE.to_owned()));
            }
            Self::UptimeKuma
                if table::begins_with(file, b"[")? || table::begins_with(file, b"{")? =>
            {
                uptime_kuma::read(&uptime_kuma::from_json(&table::text(file)?).map_err(wrong)?)
                    .map_err(wrong)?
            }
            Self::UptimeKuma => {
                uptime_kuma::read(&table::read_csv(file, wish.delimiter)?).map_err(wrong)?
            }
            Self::Smokeping => smokeping::read(&table::text(file)?).map_err(wrong)?,
            Self::Nagios => nagios::read(&table::text(file)?, wish).map_err(wrong)?,
            Self::Checkmk if table::begins_with(file, b"{")? => {
                checkmk::read(&table::text(file)?, wish).map_err(wrong)?
            }
            Self::Checkmk => {
                grafana::read(&table::read_csv(file, wish.delimiter)?, wish, "Checkmk")
                    .map_err(wrong)?
            }
            Self::Prometheus => prometheus::read(&table::text(file)?, wish).map_err(wrong)?,
            Self::Grafana => {
                grafana::read(&table::read_csv(file, wish.delimiter)?, wish, "Grafana")
                    .map_err(wrong)?
            }
        };
        if measurements.is_empty() {
            return Err(wrong("it contains no measurements".to_owned()));
        }
        Ok(as_table(measurements, notes))
    }
}

fn as_table(measurements: Vec<Measurement>, mut notes: Vec<String>) -> Table {
    let with_monitor = measurements.iter().all(|measurement| measurement.monitor.is_some());
    let mut head = vec!["started_at", "outcome", "error", "round_trip_us"];
    if with_monitor {
        head.push("monitor");
    }
    let mut unknown = 0_u64;
    let mut rows = Vec::with_capacity(measurements.len());
    for measurement in measurements {
        let Some(outcome) = measurement.outcome else {
            unknown += 1;
            continue;
        };
        let mut fields = vec![
            measurement.local.unwrap_or_else(|| measurement.at.to_string()),
            outcome.to_owned(),
            measurement.error.unwrap_or_default(),
            measurement.round_trip_us.map(|time| time.to_string()).unwrap_or_default(),
        ];
        if with_monitor {
            fields.extend(measurement.monitor);
        }
        rows.push(Row { line: measurement.line, fields });
    }
    if unknown > 0 {
        notes.push(format!(
            "{unknown} rows skipped: no value, so the outcome of these tests is unknown"
        ));
    }
    Table { head: head.into_iter().map(str::to_owned).collect(), rows, delimiter: None, notes }
}

/// Converts seconds to microseconds, if a test can take that long.
fn micros(seconds: f64) -> Option<i64> {
    let micros = (seconds * 1e6).round();
    (seconds.is_finite() && (0.0..9e15).contains(&micros)).then_some(micros as i64)
}

/// Converts a name to a monitor id: lower case, at most 64 characters, with hyphens for all other
/// characters.
fn id(name: &str) -> String {
    let mut id = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        match c {
            'a'..='z' | '0'..='9' | '.' | '_' => id.push(c),
            _ if id.ends_with('-') => {}
            _ => id.push('-'),
        }
    }
    let id: String = id.trim_matches('-').chars().take(64).collect();
    id.trim_matches('-').to_owned()
}

/// Returns one line of at most 200 characters.
fn one_line(text: &str) -> Option<String> {
    let line = mailqos_base::one_line(text, &[]);
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_become_ids() {
        for (name, expected) in [
            ("mail.example.com:9115", "mail.example.com-9115"),
            ("Büro Süd / SMTP & IMAP", "b-ro-s-d-smtp-imap"),
            ("--x--", "x"),
        ] {
            assert_eq!(id(name), expected);
            assert!(id(name).parse::<mailqos_model::MonitorId>().is_ok());
        }
        assert_eq!(id(&"x".repeat(100)).len(), 64);
    }
}
